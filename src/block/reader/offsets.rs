//! The postings offset table of an index: for every label pair, where the list of its series is.
//!
//! Its entries are in order of name and value, so that a few of them in memory lead to all others.

use std::ops::Range;

use crate::block::codec::Cursor;
use crate::block::error::{DecodeError, Fault};

/// Of this many values of a name, one has its place in memory.
const GROUP: u32 = 32;

/// What is in memory of the table.
#[derive(Debug)]
pub struct PostingsOffsets {
    /// Where the first entry is in the file.
    offset: u64,
    names: Vec<Name>,
}

/// The entries of one label name.
#[derive(Debug)]
struct Name {
    name: Box<str>,
    value_count: u32,
    /// Each first value of a group and where its entry is, from the first entry of the table.
    groups: Vec<(Box<str>, u32)>,
    end: u32,
}

/// One entry of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetEntry<'a> {
    /// The label's name.
    pub name: &'a str,
    /// Its value.
    pub value: &'a str,
    /// Where the list is in the file.
    pub offset: u64,
}

impl PostingsOffsets {
    /// Reads the whole section, which stands at `offset`. All lists have to be within `lists`.
    pub fn parse(section: &[u8], offset: u64, lists: Range<u64>) -> Result<PostingsOffsets, DecodeError> {
        let mut cursor = Cursor::section(section, offset)?;
        let count = cursor.be32()?;
        cursor.count("the count of label pairs", count.into(), 4)?;
        let offset = cursor.offset();
        let mut names: Vec<Name> = Vec::new();
        let mut last: Option<OffsetEntry<'_>> = None;
        for _ in 0..count {
            let start = cursor.clone();
            let entry = decode_entry(&mut cursor)?;
            if last.is_some_and(|last| (entry.name, entry.value) <= (last.name, last.value)) {
                return Err(start.fault(Fault::Order { what: "label pairs" }));
            }
            if !lists.contains(&entry.offset) {
                let (what, found) = ("the offset of a list of postings", entry.offset);
                return Err(start.fault(Fault::Limit { what, found, limit: lists.end }));
            }
            let at = (start.offset() - offset) as u32;
            if last.is_none_or(|last| last.name != entry.name) {
                names.push(Name { name: entry.name.into(), value_count: 0, groups: Vec::new(), end: 0 });
            }
            let name = names.last_mut().expect("one was pushed for the first entry");
            if name.value_count.is_multiple_of(GROUP) {
                name.groups.push((entry.value.into(), at));
            }
            name.value_count += 1;
            name.end = (cursor.offset() - offset) as u32;
            last = Some(entry);
        }
        names.iter_mut().for_each(|name| name.groups.shrink_to_fit());
        Ok(PostingsOffsets { offset, names })
    }

    /// The names of all labels, in order. The first is empty: its list is that of all series.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &*name.name)
    }

    /// How many values a label has.
    pub fn value_count(&self, name: &str) -> u32 {
        self.find(name).map_or(0, |name| name.value_count)
    }

    /// The bytes of the file with all entries of a name, for [`OffsetEntries`].
    pub fn range_of_name(&self, name: &str) -> Option<Range<u64>> {
        let name = self.find(name)?;
        Some(self.range(name.groups[0].1, name.end))
    }

    /// The bytes of the file with the entries from a value on, up to those that are certainly greater.
    pub fn range_of_value(&self, name: &str, value: &str) -> Option<Range<u64>> {
        let name = self.find(name)?;
        let after = name.groups.partition_point(|(first, _)| &**first <= value);
        let (_, start) = name.groups[after.checked_sub(1)?];
        Some(self.range(start, name.groups.get(after).map_or(name.end, |(_, at)| *at)))
    }

    /// The bytes of the file in which all values with a prefix are, among others.
    pub fn range_of_prefix(&self, name: &str, prefix: &str) -> Option<Range<u64>> {
        let name = self.find(name)?;
        let from = name.groups.partition_point(|(first, _)| &**first <= prefix).saturating_sub(1);
        let beyond = |first: &str| first > prefix && !first.starts_with(prefix);
        let after = name.groups.partition_point(|(first, _)| !beyond(first));
        Some(self.range(name.groups[from].1, name.groups.get(after).map_or(name.end, |(_, at)| *at)))
    }

    fn range(&self, start: u32, end: u32) -> Range<u64> {
        self.offset + u64::from(start)..self.offset + u64::from(end)
    }

    fn find(&self, name: &str) -> Option<&Name> {
        let index = self.names.binary_search_by(|found| (*found.name).cmp(name)).ok()?;
        Some(&self.names[index])
    }
}

/// Walks over entries of the table.
pub struct OffsetEntries<'a>(Cursor<'a>);

impl<'a> OffsetEntries<'a> {
    /// Begins at bytes of a range that [`PostingsOffsets`] gave.
    pub fn new(bytes: &'a [u8], offset: u64) -> OffsetEntries<'a> {
        OffsetEntries(Cursor::new(bytes, offset))
    }
}

impl<'a> Iterator for OffsetEntries<'a> {
    type Item = Result<OffsetEntry<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.left() == 0 {
            return None;
        }
        let entry = decode_entry(&mut self.0);
        if entry.is_err() {
            self.0 = Cursor::new(&[], 0);
        }
        Some(entry)
    }
}

fn decode_entry<'a>(cursor: &mut Cursor<'a>) -> Result<OffsetEntry<'a>, DecodeError> {
    let start = cursor.clone();
    let keys = cursor.uvarint()?;
    if keys != 2 {
        let what = "the number of keys of a list of postings";
        return Err(start.fault(Fault::Mismatch { what, found: keys, expected: 2 }));
    }
    Ok(OffsetEntry { name: cursor.text()?, value: cursor.text()?, offset: cursor.uvarint()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::codec::{put_text, put_uvarint};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn table(pairs: &BTreeSet<(String, String)>) -> Vec<u8> {
        let mut content = (pairs.len() as u32).to_be_bytes().to_vec();
        for (index, (name, value)) in pairs.iter().enumerate() {
            put_uvarint(&mut content, 2);
            put_text(&mut content, name);
            put_text(&mut content, value);
            put_uvarint(&mut content, index as u64);
        }
        section(&content)
    }

    fn section(content: &[u8]) -> Vec<u8> {
        let mut section = (content.len() as u32).to_be_bytes().to_vec();
        section.extend_from_slice(content);
        section.extend_from_slice(&crc32c::crc32c(content).to_be_bytes());
        section
    }

    proptest! {
        #[test]
        fn ranges_hold_what_they_promise(
            pairs in proptest::collection::btree_set(("[ab]", "[x-z]{1,6}"), 0..300),
            wanted in "[w-z]{0,3}",
        ) {
            let bytes = table(&pairs);
            let table = PostingsOffsets::parse(&bytes, 100, 0..1000).unwrap();
            for name in ["a", "b", "c"] {
                let read = |range: Option<Range<u64>>| -> BTreeSet<String> {
                    let Some(range) = range else { return BTreeSet::new() };
                    let slice = &bytes[range.start as usize - 100..range.end as usize - 100];
                    OffsetEntries::new(slice, range.start).map(|entry| entry.unwrap())
                        .inspect(|entry| assert_eq!(entry.name, name))
                        .map(|entry| entry.value.to_owned()).collect()
                };
                let values: BTreeSet<String> =
                    pairs.iter().filter(|(of, _)| of == name).map(|(_, value)| value.clone()).collect();
                prop_assert_eq!(table.value_count(name) as usize, values.len());
                prop_assert_eq!(&read(table.range_of_name(name)), &values);
                let found = read(table.range_of_value(name, &wanted));
                prop_assert!(found.len() <= GROUP as usize && found.is_subset(&values));
                prop_assert_eq!(found.contains(&wanted), values.contains(&wanted));
                let found = read(table.range_of_prefix(name, &wanted));
                prop_assert!(values.iter().filter(|value| value.starts_with(&wanted)).all(|value| found.contains(value)));
            }
        }

        #[test]
        fn any_content_ends_in_a_result(content in proptest::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..60)) {
            let _ = PostingsOffsets::parse(&section(&content), 0, 0..1000);
            let _ = PostingsOffsets::parse(&content, u64::MAX, 0..1000);
            prop_assert!(OffsetEntries::new(&content, 0).count() <= content.len());
        }
    }

    #[test]
    fn lists_outside_their_section_are_refused() {
        let bytes = table(&BTreeSet::from([("a".to_owned(), "b".to_owned())]));
        assert!(PostingsOffsets::parse(&bytes, 0, 0..1).is_ok());
        let error = PostingsOffsets::parse(&bytes, 0, 1..9).unwrap_err();
        assert!(matches!(error.fault, Fault::Limit { found: 0, .. }), "{error}");
    }
}
