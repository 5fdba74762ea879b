//! Start times in the encodings that carry them: since when a counter counts. They are read past: nothing uses them yet.

use super::bits::BitReader;
use super::fault::Fault;
use super::varbit::{take_varbit, take_varint};

/// Which samples of a chunk are followed by a start time; a byte of the chunk's header.
#[derive(Debug, Clone, Copy)]
pub struct StartTimes {
    first_has_one: bool,
    /// Index of the sample from which on each has one; 0 if none has.
    all_from: u16,
}

impl StartTimes {
    /// Reads the byte of the header.
    pub fn new(byte: u8) -> StartTimes {
        StartTimes { first_has_one: byte & 0x80 != 0, all_from: u16::from(byte & 0x7f) }
    }

    /// Reads past the start time, if any, of the sample with this index.
    pub fn skip(self, reader: &mut BitReader<'_>, index: u16) -> Result<(), Fault> {
        if index == 0 {
            if self.first_has_one {
                take_varint(reader)?;
            }
        } else if self.all_from > 0 && index >= self.all_from {
            take_varbit(reader)?;
        }
        Ok(())
    }
}
