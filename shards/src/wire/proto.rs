//! Reading protobuf fields in place (wire format: protobuf.dev/programming-guides/encoding).

use super::extras::BodyRange;

/// Why bytes are not the message they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A field goes on past the end of its message.
    #[error("truncated protobuf at byte {offset}")]
    Truncated {
        /// Where reading stopped, in bytes from the start of the decoded body.
        offset: usize,
    },
    /// A varint of more than ten bytes, or a field number of zero.
    #[error("malformed protobuf at byte {offset}")]
    Malformed {
        /// Where reading stopped.
        offset: usize,
    },
    /// A known field with another wire type than the schema says.
    #[error("field {field} has wire type {wire_type}, which the schema does not allow, at byte {offset}")]
    WireType {
        /// The field's number.
        field: u32,
        /// What was found.
        wire_type: u8,
        /// Where.
        offset: usize,
    },
    /// More samples than a request may have, or more of what else it counts.
    #[error(
        "the request has more than {} samples, or as many histograms, exemplars or metadata entries",
        super::skim::SAMPLES_MAX
    )]
    TooManySamples,
    /// More symbols than a request may have.
    #[error("the request has more than {} symbols", super::skim2::SYMBOLS_MAX)]
    TooManySymbols,
    /// The labels of all series, written out, take more memory than a decoded body may.
    #[error("the request with its labels written out is larger than the {bytes_max} bytes that are allowed")]
    TooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// The first symbol stands for what is not given.
    #[error("the first symbol is not the empty string")]
    FirstSymbol,
    /// Content of remote write 1.0 where 2.0 was announced, or the reverse: to read on would mean to store nothing.
    #[error("field {field} belongs to another version of remote write than the content type names")]
    OtherVersion {
        /// The field's number.
        field: u32,
    },
}

/// The content of one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2.
    Bytes(&'a [u8]),
    /// Wire type 5.
    Fixed32(u32),
}

impl Value<'_> {
    fn wire_type(&self) -> u8 {
        match self {
            Value::Varint(_) => 0,
            Value::Fixed64(_) => 1,
            Value::Bytes(_) => 2,
            Value::Fixed32(_) => 5,
        }
    }
}

/// A position in a message.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
    /// Offset of `bytes` in the whole body, for errors.
    base: usize,
}

/// One field: its number, its content, and where its tag began.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    pub number: u32,
    pub value: Value<'a>,
    pub start: usize,
    pub end: usize,
}

impl<'a> Field<'a> {
    /// The content of a length-delimited field.
    pub fn bytes(&self) -> Result<&'a [u8], WireError> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(self.wrong_type()),
        }
    }

    /// The content of a varint field.
    pub fn varint(&self) -> Result<u64, WireError> {
        match self.value {
            Value::Varint(value) => Ok(value),
            _ => Err(self.wrong_type()),
        }
    }

    /// Where the content of a length-delimited field is in the body, which has less than 4 GiB.
    pub fn range(&self) -> Result<BodyRange, WireError> {
        let len = self.bytes()?.len();
        Ok(BodyRange { offset: (self.end - len) as u32, len: len as u32 })
    }

    /// The content of a fixed 64-bit field.
    pub fn fixed64(&self) -> Result<u64, WireError> {
        match self.value {
            Value::Fixed64(value) => Ok(value),
            _ => Err(self.wrong_type()),
        }
    }

    fn wrong_type(&self) -> WireError {
        WireError::WireType { field: self.number, wire_type: self.value.wire_type(), offset: self.start }
    }
}

impl<'a> Reader<'a> {
    /// Reads `bytes`, which start `base` bytes into the body.
    pub fn new(bytes: &'a [u8], base: usize) -> Reader<'a> {
        Reader { bytes, position: 0, base }
    }

    fn truncated(&self) -> WireError {
        WireError::Truncated { offset: self.base + self.position }
    }

    fn malformed(&self) -> WireError {
        WireError::Malformed { offset: self.base + self.position }
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, WireError> {
        let rest = &self.bytes[self.position..];
        match rest.first() {
            None => return Err(self.truncated()),
            Some(byte) if *byte < 0x80 => {
                self.position += 1;
                return Ok(u64::from(*byte));
            }
            Some(_) => {}
        }
        let mut value = 0u64;
        for (index, byte) in rest.iter().enumerate().take(10) {
            if index == 9 && *byte > 1 {
                return Err(self.malformed());
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if *byte < 0x80 {
                self.position += index + 1;
                return Ok(value);
            }
        }
        Err(if rest.len() < 10 { self.truncated() } else { self.malformed() })
    }

    #[inline]
    fn take(&mut self, len: u64) -> Result<&'a [u8], WireError> {
        let rest = &self.bytes[self.position..];
        if len > rest.len() as u64 {
            return Err(self.truncated());
        }
        let taken = &rest[..len as usize];
        self.position += len as usize;
        Ok(taken)
    }

    /// The next field, or `None` at the end of the message.
    #[inline]
    pub fn field(&mut self) -> Result<Option<Field<'a>>, WireError> {
        if self.position == self.bytes.len() {
            return Ok(None);
        }
        let start = self.base + self.position;
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| WireError::Malformed { offset: start })?;
        if number == 0 {
            return Err(WireError::Malformed { offset: start });
        }
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(len)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            // Groups (3, 4) left the format before remote write was made; 6 and 7 were never in it.
            _ => return Err(WireError::Malformed { offset: start }),
        };
        Ok(Some(Field { number, value, start, end: self.base + self.position }))
    }

    /// The next number of a packed field, or `None` at its end.
    #[inline]
    pub fn packed(&mut self) -> Result<Option<u64>, WireError> {
        if self.position == self.bytes.len() {
            return Ok(None);
        }
        self.varint().map(Some)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let bytes = self.take(N as u64)?;
        bytes.try_into().map_err(|_| self.truncated())
    }
}

/// Bytes that a varint takes.
pub fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_length_past_the_end_is_truncation() {
        let error = Reader::new(&[0x0a, 0x05, 1, 2], 100).field().unwrap_err();
        assert_eq!(error, WireError::Truncated { offset: 102 });
    }

    #[test]
    fn groups_and_field_zero_are_malformed() {
        for bytes in [[0x0b, 0], [0x0c, 0], [0x02, 0], [0x0e, 0], [0x0f, 0]] {
            assert!(matches!(Reader::new(&bytes, 0).field(), Err(WireError::Malformed { .. })));
        }
    }

    proptest! {
        #[test]
        fn varints_round_trip(value: u64) {
            let mut bytes = vec![0x08];
            put_varint(&mut bytes, value);
            let field = Reader::new(&bytes, 0).field().unwrap().unwrap();
            prop_assert_eq!(field.varint(), Ok(value));
            prop_assert_eq!(field.end, bytes.len());
            prop_assert_eq!(varint_len(value), bytes.len() - 1);
        }

        #[test]
        fn random_bytes_end_in_a_result(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Reader::new(&bytes, 0);
            while let Ok(Some(field)) = reader.field() {
                prop_assert!(field.end <= bytes.len());
            }
        }
    }
}
