//! The numbers and texts that the files of a block are made of. Fixed numbers are big-endian.

use super::error::{DecodeError, Fault};
use super::format::CRC_BYTES;

/// Appends a number in groups of seven bits, the lowest first.
pub fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number; zigzag, so that small negative ones stay short.
pub fn put_varint(out: &mut Vec<u8>, value: i64) {
    put_uvarint(out, (value << 1 ^ value >> 63) as u64);
}

/// Appends a text with its length before it.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_uvarint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// How many bytes [`put_uvarint`] appends.
pub fn uvarint_bytes(value: u64) -> u64 {
    u64::from((64 - (value | 1).leading_zeros()).div_ceil(7))
}

/// Takes bytes apart, and knows where in the file it is.
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    offset: u64,
}

impl<'a> Cursor<'a> {
    /// Begins at bytes that stand at `offset` in their file.
    pub fn new(bytes: &'a [u8], offset: u64) -> Cursor<'a> {
        Cursor { bytes, offset }
    }

    /// The content of a section: its length in four bytes, the content, its checksum. Returns it once it is checked.
    pub fn section(bytes: &'a [u8], offset: u64) -> Result<Cursor<'a>, DecodeError> {
        let mut cursor = Cursor::new(bytes, offset);
        let length = u64::from(cursor.be32()?);
        cursor.checked(length)
    }

    /// The next `length` bytes, once the checksum that follows them is checked.
    pub fn checked(&mut self, length: u64) -> Result<Cursor<'a>, DecodeError> {
        let content = Cursor { offset: self.offset, bytes: self.take(length)? };
        let stored = self.be32()?;
        let computed = crc32c::crc32c(content.bytes);
        if stored != computed {
            return Err(content.fault(Fault::Checksum { stored, computed }));
        }
        Ok(content)
    }

    /// Where the next byte stands in the file.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// How many bytes are left.
    pub fn left(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The bytes that are left.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// A fault at the next byte.
    pub fn fault(&self, fault: Fault) -> DecodeError {
        DecodeError { offset: self.offset, fault }
    }

    /// The next bytes as they are.
    pub fn take(&mut self, length: u64) -> Result<&'a [u8], DecodeError> {
        if length > self.left() {
            return Err(self.fault(Fault::Truncated { needed: length, left: self.left() }));
        }
        let (taken, rest) = self.bytes.split_at(length as usize);
        self.bytes = rest;
        self.offset = self.offset.saturating_add(length);
        Ok(taken)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    /// Four bytes as a number.
    pub fn be32(&mut self) -> Result<u32, DecodeError> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes(bytes.try_into().expect("four bytes were taken")))
    }

    /// Eight bytes as a number.
    pub fn be64(&mut self) -> Result<u64, DecodeError> {
        let bytes = self.take(8)?;
        Ok(u64::from_be_bytes(bytes.try_into().expect("eight bytes were taken")))
    }

    /// A number in groups of seven bits.
    pub fn uvarint(&mut self) -> Result<u64, DecodeError> {
        let start = self.clone();
        let mut value = 0;
        for index in 0..10 {
            let byte = self.u8().map_err(|cut| DecodeError { offset: start.offset, ..cut })?;
            if index == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(start.fault(Fault::Varint))
    }

    /// The same, when it has to fit into four bytes.
    pub fn uvarint32(&mut self) -> Result<u32, DecodeError> {
        let start = self.offset;
        let value = self.uvarint()?;
        u32::try_from(value).map_err(|_| DecodeError { offset: start, fault: Fault::Varint })
    }

    /// A signed number.
    pub fn varint(&mut self) -> Result<i64, DecodeError> {
        let zigzag = self.uvarint()?;
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    /// A text with its length before it.
    pub fn text(&mut self) -> Result<&'a str, DecodeError> {
        let length = self.uvarint()?;
        let start = self.offset;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| DecodeError { offset: start, fault: Fault::Utf8 })
    }

    /// A count of entries that take at least `entry_bytes` each, so that no count can cost more memory than the file.
    pub fn count(&self, what: &'static str, count: u64, entry_bytes: u64) -> Result<usize, DecodeError> {
        let limit = self.left() / entry_bytes;
        if count > limit {
            return Err(self.fault(Fault::Limit { what, found: count, limit }));
        }
        Ok(count as usize)
    }
}

/// The length of a whole section, from its first four bytes.
pub fn section_bytes(length: [u8; 4]) -> u64 {
    4 + u64::from(u32::from_be_bytes(length)) + CRC_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_and_texts_read_back(number in any::<u64>(), shift in 0u32..64, signed in any::<i64>(), text in ".{0,200}") {
            let mut bytes = Vec::new();
            put_uvarint(&mut bytes, number >> shift);
            prop_assert_eq!(bytes.len() as u64, uvarint_bytes(number >> shift));
            put_varint(&mut bytes, signed >> shift);
            put_text(&mut bytes, &text);
            let mut cursor = Cursor::new(&bytes, 0);
            prop_assert_eq!(cursor.uvarint(), Ok(number >> shift));
            prop_assert_eq!(cursor.varint(), Ok(signed >> shift));
            prop_assert_eq!(cursor.text(), Ok(text.as_str()));
            prop_assert_eq!(cursor.left(), 0);
        }
    }

    #[test]
    fn faults_name_the_byte_where_the_entry_begins() {
        let endless = [0xff; 11];
        let error = Cursor::new(&endless, 7).uvarint().unwrap_err();
        assert_eq!(error, DecodeError { offset: 7, fault: Fault::Varint });
        let error = Cursor::new(&[0x80], 7).uvarint().unwrap_err();
        assert_eq!(error, DecodeError { offset: 7, fault: Fault::Truncated { needed: 1, left: 0 } });
        let error = Cursor::new(&[200, 1, b'a'], 7).text().unwrap_err();
        assert_eq!(error, DecodeError { offset: 9, fault: Fault::Truncated { needed: 200, left: 1 } });
    }
}
