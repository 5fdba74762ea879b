//! The snappy block around a remote write request, decompressed in small steps.
//!
//! Here is the way through a block that checks everything, one element at a time; `elements` is the fast one.

mod elements;
#[cfg(test)]
mod tests;

use elements::{SLACK_BYTES, Stops};

/// A byte of a block yields at most 64/3 bytes of text.
const TEXT_PER_BYTE_MAX: usize = 22;

/// Text for each byte of the body that a step may take: short elements are more work than their text.
const TEXT_PER_BYTE_OF_STEP: usize = 4;

/// The longest literal that its tag gives the length of.
const TAG_LITERAL_BYTES_MAX: usize = 60;

/// Why a body could not be decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnappyError {
    /// Not a snappy block, or a damaged one.
    #[error("the body is not a valid snappy block: {0}")]
    Invalid(BlockError),
    /// The block says that it is larger than allowed; nothing was allocated for it.
    #[error("the body says it decompresses to {declared_bytes} bytes; at most {bytes_max} are allowed")]
    TooLarge {
        /// The declared size.
        declared_bytes: u64,
        /// The limit.
        bytes_max: usize,
    },
}

/// What is wrong with a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Not even a length.
    #[error("it is empty")]
    Empty,
    /// The length is not a varint of at most five bytes and below 2^32, or more than so few bytes can hold.
    #[error("it does not begin with a length that can be")]
    Length,
    /// The body ends inside a tag, its length or its offset.
    #[error("it ends inside an element")]
    Cut,
    /// A literal goes past the end of the body or of the declared length.
    #[error(
        "a literal has {bytes} bytes where {body_bytes} of the body and {text_bytes} of the text are left"
    )]
    Literal {
        /// Its length.
        bytes: u64,
        /// What is left of the body.
        body_bytes: usize,
        /// What is left of the declared length.
        text_bytes: usize,
    },
    /// A copy begins before the text, or where it ends.
    #[error("a copy reaches {offset} bytes back where the text has {text_bytes}")]
    Offset {
        /// How far back.
        offset: usize,
        /// The length of the text.
        text_bytes: usize,
    },
    /// A copy goes past the declared length.
    #[error("a copy has {bytes} bytes where {text_bytes} of the text are left")]
    Copy {
        /// Its length.
        bytes: usize,
        /// What is left of the declared length.
        text_bytes: usize,
    },
    /// Less text than was declared.
    #[error("it ends after {text_bytes} of {declared_bytes} bytes")]
    Short {
        /// The length of the text.
        text_bytes: usize,
        /// The declared one.
        declared_bytes: usize,
    },
}

impl From<BlockError> for SnappyError {
    fn from(error: BlockError) -> SnappyError {
        SnappyError::Invalid(error)
    }
}

/// Decompresses one body.
#[derive(Debug)]
pub struct Unsnappy {
    consumed: usize,
    /// What is left of a literal that has begun.
    literal_bytes: usize,
    declared_bytes: usize,
}

impl Unsnappy {
    /// Reads the declared length. Nothing is decompressed, and no memory is taken.
    ///
    /// # Errors
    /// When the body declares too much, or what it cannot hold.
    pub fn new(body: &[u8], bytes_max: usize) -> Result<Unsnappy, SnappyError> {
        let (declared, consumed) = declared_length(body)?;
        let too_large = SnappyError::TooLarge { declared_bytes: declared, bytes_max };
        let declared_bytes = usize::try_from(declared).map_err(|_| too_large)?;
        if declared_bytes > bytes_max {
            return Err(too_large);
        }
        // A small body cannot ask for much memory.
        if declared_bytes > body.len().saturating_mul(TEXT_PER_BYTE_MAX) {
            return Err(BlockError::Length.into());
        }
        Ok(Unsnappy { consumed, literal_bytes: 0, declared_bytes })
    }

    /// The length that the body declares.
    pub fn declared_bytes(&self) -> usize {
        self.declared_bytes
    }

    /// Goes on for about `bytes` of text, or less if the elements are short, and appends to `out`, which is empty at first
    /// and has the text so far from then on. Answers whether the end was reached.
    ///
    /// # Errors
    /// When the body is damaged; `out` has the text before the damage.
    pub fn run(&mut self, body: &[u8], out: &mut Vec<u8>, bytes: usize) -> Result<bool, SnappyError> {
        let missing_bytes = self.declared_bytes.saturating_sub(out.len());
        out.reserve_exact(missing_bytes + SLACK_BYTES);
        let stops = Stops {
            declared_bytes: self.declared_bytes,
            text_bytes: out.len() + missing_bytes.min(bytes.max(1)),
            body_bytes: body.len().min(self.consumed.saturating_add((bytes / TEXT_PER_BYTE_OF_STEP).max(1))),
        };
        loop {
            if self.literal_bytes > 0 {
                self.take_literal(body, out, stops.text_bytes);
                if self.literal_bytes > 0 {
                    return Ok(false);
                }
            }
            self.consumed = elements::run(body, self.consumed, out, stops);
            if self.consumed >= body.len() {
                break;
            }
            let is_text_full = out.len() >= self.declared_bytes;
            if self.consumed >= stops.body_bytes || (out.len() >= stops.text_bytes && !is_text_full) {
                return Ok(false);
            }
            self.element(body, out)?;
        }
        if out.len() != self.declared_bytes {
            let declared_bytes = self.declared_bytes;
            return Err(BlockError::Short { text_bytes: out.len(), declared_bytes }.into());
        }
        Ok(true)
    }

    /// Takes one element of any kind. Of a literal, only the head.
    fn element(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), BlockError> {
        let rest = body.get(self.consumed..).unwrap_or_default();
        let (&tag, rest) = rest.split_first().ok_or(BlockError::Cut)?;
        let text_bytes = self.declared_bytes.saturating_sub(out.len());
        let upper_bits = usize::from(tag >> 2);
        if tag & 3 == 0 {
            let (extra, bytes) = match (upper_bits + 1).checked_sub(TAG_LITERAL_BYTES_MAX) {
                None | Some(0) => (0, upper_bits as u64 + 1),
                Some(extra) => (extra, number(rest, extra)? + 1),
            };
            let body_bytes = rest.len() - extra;
            if bytes > body_bytes.min(text_bytes) as u64 {
                return Err(BlockError::Literal { bytes, body_bytes, text_bytes });
            }
            self.consumed += 1 + extra;
            self.literal_bytes = bytes as usize;
            return Ok(());
        }
        let (bytes, extra, upper_offset) = match tag & 3 {
            1 => ((upper_bits & 7) + 4, 1, u64::from(tag >> 5) << 8),
            2 => (upper_bits + 1, 2, 0),
            _ => (upper_bits + 1, 4, 0),
        };
        let offset = (upper_offset | number(rest, extra)?) as usize;
        if offset == 0 || offset > out.len() {
            return Err(BlockError::Offset { offset, text_bytes: out.len() });
        }
        if bytes > text_bytes {
            return Err(BlockError::Copy { bytes, text_bytes });
        }
        self.consumed += 1 + extra;
        let begin = out.len() - offset;
        let whole = bytes.min(offset);
        out.extend_from_within(begin..begin + whole);
        for at in begin + whole..begin + bytes {
            out.push(out[at]);
        }
        Ok(())
    }

    /// Goes on with a literal, whose bytes were found to be there.
    fn take_literal(&mut self, body: &[u8], out: &mut Vec<u8>, text_stop: usize) {
        let rest = body.get(self.consumed..).unwrap_or_default();
        let bytes = self.literal_bytes.min(text_stop.saturating_sub(out.len())).min(rest.len());
        out.extend_from_slice(&rest[..bytes]);
        self.consumed += bytes;
        self.literal_bytes -= bytes;
    }
}

/// The length at the head of a block, and its own length.
fn declared_length(body: &[u8]) -> Result<(u64, usize), BlockError> {
    if body.is_empty() {
        return Err(BlockError::Empty);
    }
    let mut length = 0;
    for (index, &byte) in body.iter().take(5).enumerate() {
        length |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return if length <= u64::from(u32::MAX) {
                Ok((length, index + 1))
            } else {
                Err(BlockError::Length)
            };
        }
    }
    Err(BlockError::Length)
}

/// A little-endian number of so many bytes.
fn number(rest: &[u8], bytes: usize) -> Result<u64, BlockError> {
    let bytes = rest.get(..bytes).ok_or(BlockError::Cut)?;
    Ok(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}
