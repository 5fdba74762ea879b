//! The symbol table of an index: every text of its labels, in order. Series name them by their place in it.

use std::ops::Range;

use crate::block::codec::Cursor;
use crate::block::error::{DecodeError, Fault};

/// Of this many symbols, one has its place in memory.
const GROUP: u32 = 32;

/// Where the symbols are; the texts themselves stay in the file.
#[derive(Debug)]
pub struct Symbols {
    count: u32,
    /// Where the table's first symbol is in the file.
    offset: u64,
    /// Where each group begins, from there; and where the last one ends.
    groups: Vec<u32>,
}

impl Symbols {
    /// Reads the whole section, which stands at `offset`, and calls `each` for every symbol.
    pub fn parse(
        section: &[u8],
        offset: u64,
        mut each: impl FnMut(u32, &str),
    ) -> Result<Symbols, DecodeError> {
        let mut cursor = Cursor::section(section, offset)?;
        let count = cursor.be32()?;
        cursor.count("the count of symbols", count.into(), 1)?;
        let offset = cursor.offset();
        let mut groups = Vec::with_capacity((count / GROUP) as usize + 2);
        let mut last = None;
        for number in 0..count {
            let start = cursor.clone();
            if number % GROUP == 0 {
                groups.push((start.offset() - offset) as u32);
            }
            let symbol = cursor.text()?;
            if last.is_some_and(|last| symbol <= last) {
                return Err(start.fault(Fault::Order { what: "symbols" }));
            }
            each(number, symbol);
            last = Some(symbol);
        }
        groups.push((cursor.offset() - offset) as u32);
        Ok(Symbols { count, offset, groups })
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The bytes of the file in which a symbol is, to be given to [`Symbols::find`].
    pub fn range(&self, number: u32) -> Option<Range<u64>> {
        if number >= self.count {
            return None;
        }
        let group = (number / GROUP) as usize;
        Some(self.offset + u64::from(self.groups[group])..self.offset + u64::from(self.groups[group + 1]))
    }

    /// The text of a symbol, from the bytes of its range.
    pub fn find(number: u32, bytes: &[u8], offset: u64) -> Result<&str, DecodeError> {
        let mut cursor = Cursor::new(bytes, offset);
        for _ in 0..number % GROUP {
            let length = cursor.uvarint()?;
            cursor.take(length)?;
        }
        cursor.text()
    }
}
