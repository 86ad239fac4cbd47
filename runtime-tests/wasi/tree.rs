//! Makes, changes, walks and removes a tree of files, with Rust's standard library.
//!
//! usage: tree DIRECTORY WIDTH        environment: SUFFIX, of file names; exit status: 7

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

struct Tree {
    width: usize,
    suffix: String,
}

impl Tree {
    /// Directories in directories, and files in the innermost.
    fn make(&self, at: &Path, depth: usize) -> io::Result<()> {
        fs::create_dir(at)?;
        for index in 0..self.width {
            let name = format!("{}{}", "äbc".chars().nth(depth).unwrap(), index);
            if depth == 2 {
                fs::write(at.join(name.clone() + &self.suffix), format!("{} of {}\n", name, at.display()).split_at(13).0)?;
            } else {
                self.make(&at.join(name), depth + 1)?;
            }
        }
        Ok(())
    }
}

/// All files and the number of directories below `at`.
fn walk(at: &Path, files: &mut Vec<PathBuf>) -> io::Result<usize> {
    let mut directories = 1;
    for entry in fs::read_dir(at)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            directories += walk(&entry.path(), files)?;
        } else {
            assert!(entry.metadata()?.is_file());
            files.push(entry.path());
        }
    }
    Ok(directories)
}

/// One file, changed in every way there is.
fn change(root: &Path) -> io::Result<()> {
    let (first, second) = (root.join("first"), root.join("second"));
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&first)?;
    assert_eq!(OpenOptions::new().write(true).create_new(true).open(&first).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    writeln!(file, "one\ntwo\nthree")?;
    file.seek(SeekFrom::Start(4))?;
    file.write_all(b"TWO")?;
    file.seek(SeekFrom::End(-6))?;
    let mut rest = String::new();
    file.read_to_string(&mut rest)?;
    assert_eq!(rest, "three\n");
    file.set_len(8)?;
    file.sync_all()?;
    assert_eq!(file.metadata()?.len(), 8);
    drop(file);
    let lines: Vec<_> = BufReader::new(File::open(&first)?).lines().collect::<io::Result<_>>()?;
    assert_eq!(lines, ["one", "TWO"]);

    assert_eq!(fs::copy(&first, &second)?, 8);
    let mut file = OpenOptions::new().append(true).open(&second)?;
    file.write_all(b"more")?;
    assert_eq!(fs::read(&second)?, b"one\nTWO\nmore");
    fs::rename(&second, &first)?;
    fs::hard_link(&first, &second)?;
    fs::remove_file(&first)?;
    assert_eq!(fs::read_to_string(&second)?.len(), 12);
    assert_eq!(fs::metadata(&first).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(File::open(root.join("../outside")).is_err());
    assert!(fs::read_dir(&second).is_err() && fs::remove_dir(&second).is_err());
    let age = SystemTime::now().duration_since(fs::metadata(&second)?.modified()?).unwrap_or_default();
    assert!(age < Duration::from_secs(3600));
    fs::remove_file(&second)
}

fn main() -> io::Result<()> {
    let started = Instant::now();
    let args: Vec<_> = std::env::args().collect();
    let root = Path::new(&args[1]);
    let tree = Tree { width: args[2].parse().expect("a number"), suffix: std::env::var("SUFFIX").expect("a variable") };
    let top = root.join("top");
    tree.make(&top, 0)?;
    let mut files = vec![];
    let directories = walk(&top, &mut files)?;
    files.sort();
    assert_eq!(files[0], top.join("ä0/b0/c0.txt"));
    let bytes: u64 = files.iter().map(|file| fs::metadata(file).map(|data| data.len())).sum::<io::Result<u64>>()?;
    println!("{} files in {} directories, {} bytes", files.len(), directories, bytes);
    assert_eq!(fs::remove_dir(&top).unwrap_err().raw_os_error(), Some(55)); // notempty
    fs::remove_dir_all(&top)?;

    change(root)?;
    let mut kept = File::create(root.join("kept".to_string() + &tree.suffix))?;
    write!(kept, "kept, and more")?;
    std::thread::sleep(Duration::from_millis(5));
    assert!(started.elapsed() >= Duration::from_millis(5));
    println!("ok");
    std::process::exit(7)
}
