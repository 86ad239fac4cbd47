//! The integers of the binary format (specification, section 5.2.2), as they are written.

/// Appends an unsigned integer.
pub(crate) fn unsigned(bytes: &mut Vec<u8>, value: impl Into<u64>) {
    let mut value = value.into();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Appends a signed integer.
pub(crate) fn signed(bytes: &mut Vec<u8>, mut value: i64) {
    // Until what is left are copies of the sign bit.
    while !(-0x40..0x40).contains(&value) {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8 & 0x7F);
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmparser::BinaryReader;

    #[test]
    fn numbers_are_read_back() {
        for value in [0, 1, 63, 64, 127, 128, 8191, 8192, i32::MAX, -1, -64, -65, i32::MIN, i32::MIN + 4096] {
            let mut bytes = Vec::new();
            signed(&mut bytes, i64::from(value));
            unsigned(&mut bytes, value as u32);
            let mut reader = BinaryReader::new(&bytes, 0);
            assert_eq!(reader.read_var_i32().unwrap(), value);
            assert_eq!(reader.read_var_u32().unwrap(), value as u32);
            assert!(reader.eof());
        }
        let mut bytes = Vec::new();
        signed(&mut bytes, i64::MIN);
        assert_eq!(BinaryReader::new(&bytes, 0).read_var_i64().unwrap(), i64::MIN);
    }
}
