//! Lists of postings: the references to the series of a label pair, rising.

use super::series::SeriesRef;
use crate::block::codec::Cursor;
use crate::block::error::{DecodeError, Fault};

/// Above this ratio of lengths, places in the longer list are searched instead of walked to.
const SEARCH_RATIO: usize = 16;

/// Appends the references of one list, whose bytes stand at `offset`.
pub fn decode_postings(bytes: &[u8], offset: u64, into: &mut Vec<SeriesRef>) -> Result<(), DecodeError> {
    let mut cursor = Cursor::section(bytes, offset)?;
    let start = cursor.clone();
    let count = cursor.be32()?;
    let found = u64::from(count);
    if cursor.left() != 4 * found {
        let what = "the length of a list of postings";
        return Err(start.fault(Fault::Mismatch { what, found: cursor.left(), expected: 4 * found }));
    }
    let (references, _) = cursor.rest().as_chunks::<4>();
    let first = into.len();
    into.extend(references.iter().map(|bytes| SeriesRef(u32::from_be_bytes(*bytes))));
    if !into[first..].is_sorted_by(|a, b| a < b) {
        into.truncate(first);
        return Err(start.fault(Fault::Order { what: "the series of a list of postings" }));
    }
    Ok(())
}

/// Makes one rising list of several that stand one after the other.
pub fn unite(lists: &mut Vec<SeriesRef>) {
    // The stable sort finds the rising runs and merges them.
    lists.sort();
    lists.dedup();
}

/// Keeps what is in the other list too.
pub fn intersect(list: &mut Vec<SeriesRef>, other: &[SeriesRef]) {
    if other.len() < list.len() / SEARCH_RATIO {
        let mut common = other.to_vec();
        intersect(&mut common, list);
        *list = common;
        return;
    }
    let mut rest = Rest::new(list.len(), other);
    list.retain(|reference| rest.contains(*reference));
}

/// Keeps what is not in the other list.
pub fn subtract(list: &mut Vec<SeriesRef>, other: &[SeriesRef]) {
    let mut rest = Rest::new(list.len(), other);
    list.retain(|reference| !rest.contains(*reference));
}

/// The part of a list that is not behind a rising sequence of questions.
struct Rest<'a> {
    list: &'a [SeriesRef],
    search: bool,
}

impl<'a> Rest<'a> {
    fn new(questions: usize, list: &'a [SeriesRef]) -> Rest<'a> {
        Rest { list, search: list.len() / SEARCH_RATIO > questions }
    }

    fn contains(&mut self, reference: SeriesRef) -> bool {
        let behind = if self.search {
            self.list.partition_point(|other| *other < reference)
        } else {
            self.list.iter().take_while(|other| **other < reference).count()
        };
        self.list = &self.list[behind..];
        self.list.first() == Some(&reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn list(set: &BTreeSet<u32>) -> Vec<SeriesRef> {
        set.iter().copied().map(SeriesRef).collect()
    }

    proptest! {
        #[test]
        fn lists_combine_like_sets(
            a in proptest::collection::btree_set(0u32..500, 0..200),
            b in proptest::collection::btree_set(0u32..500, 0..200),
            few in proptest::collection::btree_set(0u32..500, 0..4),
        ) {
            for (a, b) in [(&a, &b), (&a, &few), (&few, &a)] {
                let (mut both, mut rest, mut all) = (list(a), list(a), list(a));
                intersect(&mut both, &list(b));
                subtract(&mut rest, &list(b));
                all.extend(list(b));
                unite(&mut all);
                prop_assert_eq!(both, list(&a.intersection(b).copied().collect()));
                prop_assert_eq!(rest, list(&a.difference(b).copied().collect()));
                prop_assert_eq!(all, list(&a.union(b).copied().collect()));
            }
        }

        #[test]
        fn any_bytes_end_in_a_result(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut into = vec![SeriesRef(7)];
            let _ = decode_postings(&bytes, 0, &mut into);
            prop_assert_eq!(into[0], SeriesRef(7));
        }
    }
}
