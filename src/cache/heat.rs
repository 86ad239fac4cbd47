//! How long functions ran without native code: a file of each module's folder, by which later runs know what is worth
//! compiling. It is about the usual work of all runs: what one of them did not do stays in it.
//!
//! A damaged file or one of other functions makes code come later or sooner, nothing else.

use std::collections::HashMap;
use std::io::{self, Read};

use super::directory::CacheDirectory;

/// The name of the file.
const FILE: &str = "heat";

/// Bytes of the checksum that the file begins with. Pairs follow, of a function's index among those defined and its
/// units, each of four bytes, the least significant first.
const CHECKSUM: usize = 16;
const PAIR: usize = 8;

/// The heat in the folder, of functions below `defined`. Nothing if there is none, or if the file is damaged.
pub(super) fn read(folder: &CacheDirectory, defined: usize) -> HashMap<u32, u32> {
    let most = CHECKSUM + PAIR * defined;
    let mut bytes = Vec::new();
    let read = folder.file(FILE).and_then(|file| file.take(most as u64 + 1).read_to_end(&mut bytes));
    match read {
        Ok(length) if length <= most => decode(&bytes, defined).unwrap_or_default(),
        _ => HashMap::new(),
    }
}

/// Writes the heat into the folder.
pub(super) fn write(folder: &CacheDirectory, heat: &HashMap<u32, u32>) -> io::Result<()> {
    folder.write(FILE, |file| io::Write::write_all(file, &encode(heat)))
}

fn checksum(pairs: &[u8]) -> [u8; CHECKSUM] {
    let hash = blake3::hash(pairs);
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

fn encode(heat: &HashMap<u32, u32>) -> Vec<u8> {
    let mut pairs: Vec<_> = heat.iter().collect();
    pairs.sort();
    let pairs: Vec<u8> =
        pairs.into_iter().flat_map(|(func, units)| [*func, *units]).flat_map(u32::to_le_bytes).collect();
    [&checksum(&pairs)[..], &pairs].concat()
}

fn decode(bytes: &[u8], defined: usize) -> Option<HashMap<u32, u32>> {
    let (sum, pairs) = bytes.split_at_checked(CHECKSUM)?;
    let (pairs, []) = pairs.as_chunks::<PAIR>() else { return None };
    if sum != checksum(pairs.as_flattened()) {
        return None;
    }
    let number = |bytes: &[u8]| bytes.try_into().map(u32::from_le_bytes).unwrap_or_default();
    let pairs = pairs.iter().map(|pair| (number(&pair[..4]), number(&pair[4..])));
    Some(pairs.filter(|(func, _)| (*func as usize) < defined).collect())
}

/// Whether heat that has changed is worth writing: if a function has got native code, or the rest ran for an eighth
/// more. What grows by less each run would need more runs than it is worth compiling for.
pub(super) fn is_worth_writing(before: &HashMap<u32, u32>, after: &HashMap<u32, u32>) -> bool {
    let sum = |heat: &HashMap<u32, u32>| heat.values().map(|units| u64::from(*units)).sum::<u64>();
    before.keys().any(|func| !after.contains_key(func)) || sum(after) > sum(before) + sum(before) / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, CacheDirectory) {
        let dir = tempfile::tempdir().unwrap();
        let folder = CacheDirectory::open(&dir.path().join("cache"), true).unwrap();
        (dir, folder)
    }

    #[test]
    fn heat_is_read_as_written() {
        let (_dir, folder) = folder();
        assert!(read(&folder, 10).is_empty());
        let heat = HashMap::from([(0, 5), (9, u32::MAX), (3, 0)]);
        write(&folder, &heat).unwrap();
        assert_eq!(read(&folder, 10), heat);
    }

    /// A file of another module with the same declarations has no more functions; a damaged one may.
    #[test]
    fn what_does_not_fit_is_left_out() {
        let (_dir, folder) = folder();
        write(&folder, &HashMap::from([(0, 5), (9, 7)])).unwrap();
        assert_eq!(read(&folder, 9), HashMap::from([(0, 5)]));
        assert!(read(&folder, 1).is_empty());
    }

    #[test]
    fn damage_is_noticed() {
        let bytes = encode(&HashMap::from([(1, 5), (2, 7)]));
        assert_eq!(decode(&bytes, 10).map(|heat| heat.len()), Some(2));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(decode(&damaged, 10), None, "byte {at}");
            assert_eq!(decode(&bytes[..at], 10), None, "{at} bytes");
        }
    }

    #[test]
    fn little_that_is_new_is_not_written() {
        let before = HashMap::from([(1, 600), (2, 200)]);
        assert!(!is_worth_writing(&before, &HashMap::from([(1, 650), (2, 250)])));
        assert!(is_worth_writing(&before, &HashMap::from([(1, 701), (2, 200)])));
        assert!(is_worth_writing(&before, &HashMap::from([(1, 650)])));
        assert!(!is_worth_writing(&HashMap::new(), &HashMap::new()));
    }
}
