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
    /// Reads the whole section, which stands at `offset`.
    pub fn parse(section: &[u8], offset: u64) -> Result<Symbols, DecodeError> {
        let mut cursor = Cursor::section(section, offset)?;
        let count = cursor.be32()?;
        cursor.count("the count of symbols", count.into(), 1)?;
        let offset = cursor.offset();
        let mut groups = Vec::with_capacity((count / GROUP) as usize + 2);
        let mut last = None;
        for number in 0..count {
            let start = cursor.clone();
            if number.is_multiple_of(GROUP) {
                groups.push((start.offset() - offset) as u32);
            }
            let symbol = cursor.text()?;
            if last.is_some_and(|last| symbol <= last) {
                return Err(start.fault(Fault::Order { what: "symbols" }));
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::codec::put_text;
    use proptest::prelude::*;

    fn section(content: &[u8]) -> Vec<u8> {
        let mut section = (content.len() as u32).to_be_bytes().to_vec();
        section.extend_from_slice(content);
        section.extend_from_slice(&crc32c::crc32c(content).to_be_bytes());
        section
    }

    proptest! {
        #[test]
        fn every_symbol_is_found_in_its_range(texts in proptest::collection::btree_set("\\PC{0,10}", 0..200)) {
            let mut content = (texts.len() as u32).to_be_bytes().to_vec();
            texts.iter().for_each(|text| put_text(&mut content, text));
            let bytes = section(&content);
            let symbols = Symbols::parse(&bytes, 5).unwrap();
            prop_assert_eq!(symbols.count() as usize, texts.len());
            for (number, text) in (0..).zip(&texts) {
                let range = symbols.range(number).unwrap();
                let slice = &bytes[range.start as usize - 5..range.end as usize - 5];
                prop_assert_eq!(Symbols::find(number, slice, range.start), Ok(text.as_str()));
            }
            prop_assert_eq!(symbols.range(symbols.count()), None);
        }

        #[test]
        fn any_content_ends_in_a_result(content in proptest::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..60)) {
            let _ = Symbols::parse(&section(&content), 5);
            let _ = Symbols::parse(&content, u64::MAX);
            let _ = Symbols::find(31, &content, 5);
        }
    }

    #[test]
    fn symbols_out_of_order_are_refused() {
        let bytes = section(&[0, 0, 0, 2, 1, b'b', 1, b'a']);
        let error = Symbols::parse(&bytes, 5).unwrap_err();
        assert_eq!(error, DecodeError { offset: 15, fault: Fault::Order { what: "symbols" } });
    }
}
