//! Label sets as they leave the head: sorted, immutable, one allocation, cheap to clone.
//!
//! The text holds, for each label in order of its name, `len(name) name len(value) value`. Lengths are written
//! in seven-bit characters, so that the whole stays valid UTF-8 and slicing needs neither `unsafe` nor a scan.

use std::cell::Cell;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// The label that holds the metric name.
pub const METRIC_NAME: &str = "__name__";

/// The longest name or value that [`Labels`] can hold, in bytes (three seven-bit digits).
pub const LABEL_BYTES_MAX: usize = (1 << 21) - 1;

const LONG_MARK: u8 = 0x7f;

/// A thread keeps no more than this for putting label sets together.
const SCRATCH_BYTES_MAX: usize = 64 << 10;

thread_local! {
    static SCRATCH: Cell<String> = const { Cell::new(String::new()) };
}

/// A sorted set of labels. Equality and hash follow the content; order is Prometheus' (`labels.Compare`).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<str>);

impl Labels {
    /// The empty set.
    pub fn empty() -> Labels {
        Labels(Arc::from(""))
    }

    /// A set from pairs that are already sorted by name and free of repeated names, as the head stores them.
    ///
    /// # Panics
    /// If a name or value is longer than [`LABEL_BYTES_MAX`]; limits at the edge keep such labels out.
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
        // Whose length is known only at the end is put together in memory that the thread keeps.
        let mut text = SCRATCH.take();
        text.clear();
        for (name, value) in pairs {
            push_part(&mut text, name);
            push_part(&mut text, value);
        }
        let labels = Labels(Arc::from(text.as_str()));
        if text.capacity() <= SCRATCH_BYTES_MAX {
            SCRATCH.set(text);
        }
        labels
    }

    /// A set from pairs in any order; of a repeated name the last pair stays, empty values are left out.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name, value);
        }
        builder.finish()
    }

    /// The labels in order of their names.
    pub fn iter(&self) -> LabelsIter<'_> {
        LabelsIter(&self.0)
    }

    /// The value of one label, if the set has it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// The metric name, or nothing.
    pub fn metric_name(&self) -> Option<&str> {
        self.get(METRIC_NAME)
    }

    /// Whether the set has no labels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many labels the set has.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Bytes on the heap, for the byte budget of a query.
    pub fn size_bytes(&self) -> usize {
        self.0.len() + 2 * size_of::<usize>()
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Labels) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Labels {
    /// The order of the lists of labels. Those of one query begin alike for the most part, so what is equal is passed
    /// over first, and only the text in which they differ is compared.
    fn cmp(&self, other: &Labels) -> Ordering {
        match self.difference(other) {
            Some(difference) => self.part_at(difference.begin).cmp(&other.part_at(difference.begin)),
            None => Ordering::Equal,
        }
    }
}

/// The first place where two label sets differ. Of sets that differ nowhere before, those with the smaller
/// [`Labels::key_at`] come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// Where the name or value that differs stands.
    begin: usize,
    /// How many bytes of it are equal.
    equal: usize,
}

impl Labels {
    /// Where this set and another one differ; nothing if they are equal.
    pub fn difference(&self, other: &Labels) -> Option<Difference> {
        let (mine, theirs) = (self.0.as_bytes(), other.0.as_bytes());
        let Some(differs_at) = first_difference(mine, theirs) else {
            // One is the beginning of the other, and ends where a label does.
            let begin = mine.len().min(theirs.len());
            return (mine.len() != theirs.len()).then_some(Difference { begin, equal: 0 });
        };
        let mut begin = 0;
        loop {
            let (len, text_begin) = part_len(mine, begin);
            if differs_at < text_begin {
                let (mine, theirs) = (self.part_at(begin)?, other.part_at(begin)?);
                let shorter = mine.len().min(theirs.len());
                return Some(Difference { begin, equal: first_difference(mine, theirs).unwrap_or(shorter) });
            }
            if differs_at < text_begin + len {
                return Some(Difference { begin, equal: differs_at - text_begin });
            }
            begin = text_begin + len;
        }
    }

    /// A number that orders sets which differ nowhere before a place; it may be the same for sets that differ there.
    pub fn key_at(&self, difference: Difference) -> u64 {
        let rest = self.part_at(difference.begin).and_then(|part| part.get(difference.equal..));
        let mut key = [0; 8];
        for (to, from) in key.iter_mut().zip(rest.unwrap_or_default()) {
            *to = *from;
        }
        u64::from_be_bytes(key)
    }

    /// The name or value that begins at a place; nothing at the end.
    fn part_at(&self, begin: usize) -> Option<&[u8]> {
        let bytes = self.0.as_bytes();
        if begin >= bytes.len() {
            return None;
        }
        let (len, text_begin) = part_len(bytes, begin);
        bytes.get(text_begin..text_begin + len)
    }
}

/// Where two texts differ; nothing, if one is the beginning of the other.
fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    const STRIDE: usize = 16;
    let (strides_of_a, strides_of_b) = (a.as_chunks::<STRIDE>().0, b.as_chunks::<STRIDE>().0);
    let begin = STRIDE * strides_of_a.iter().zip(strides_of_b).take_while(|(a, b)| a == b).count();
    let differs = a[begin..].iter().zip(&b[begin..]).position(|(a, b)| a != b);
    differs.map(|at| begin + at)
}

/// Walks a [`Labels`].
#[derive(Clone)]
pub struct LabelsIter<'a>(&'a str);

impl<'a> Iterator for LabelsIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        if self.0.is_empty() {
            return None;
        }
        let (name, rest) = split_part(self.0);
        let (value, rest) = split_part(rest);
        self.0 = rest;
        Some((name, value))
    }
}

/// Collects labels in any order.
#[derive(Debug, Default, Clone)]
pub struct LabelsBuilder {
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    /// Starts from an existing set.
    pub fn from_labels(labels: &Labels) -> LabelsBuilder {
        LabelsBuilder { pairs: labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect() }
    }

    /// Sets one label; an empty value removes it, as in Prometheus.
    pub fn set(&mut self, name: &str, value: &str) -> &mut LabelsBuilder {
        match self.pairs.iter_mut().find(|(n, _)| n == name) {
            Some(pair) => pair.1 = value.to_owned(),
            None => self.pairs.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// Removes one label.
    pub fn remove(&mut self, name: &str) -> &mut LabelsBuilder {
        self.pairs.retain(|(n, _)| n != name);
        self
    }

    /// The sorted set.
    pub fn finish(mut self) -> Labels {
        self.pairs.retain(|(_, value)| !value.is_empty());
        self.pairs.sort_unstable();
        Labels::from_sorted(self.pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())))
    }
}

fn push_part(text: &mut String, part: &str) {
    let len = part.len();
    assert!(len <= LABEL_BYTES_MAX, "a label of {len} bytes passed the limits at the edge");
    if len < usize::from(LONG_MARK) {
        text.push(len as u8 as char);
    } else {
        text.push(LONG_MARK as char);
        for shift in [14, 7, 0] {
            text.push(((len >> shift) & 0x7f) as u8 as char);
        }
    }
    text.push_str(part);
}

fn split_part(text: &str) -> (&str, &str) {
    let (len, start) = part_len(text.as_bytes(), 0);
    text[start..].split_at(len)
}

/// The length of the text whose length stands at `begin`, and where the text begins.
fn part_len(bytes: &[u8], begin: usize) -> (usize, usize) {
    if bytes[begin] < LONG_MARK {
        return (usize::from(bytes[begin]), begin + 1);
    }
    let digits = &bytes[begin + 1..begin + 4];
    (digits.iter().fold(0, |len, digit| len << 7 | usize::from(*digit)), begin + 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn order_compares_names_and_values_pairwise() {
        let a = Labels::from_pairs([("a", "1")]);
        let ab = Labels::from_pairs([("a", "1"), ("b", "1")]);
        let b = Labels::from_pairs([("b", "0")]);
        assert!(Labels::empty() < a && a < ab && ab < b);
    }

    #[test]
    fn long_values_keep_their_length() {
        for len in [0, 126, 127, 128, 16_383, 16_384, LABEL_BYTES_MAX] {
            let value = "x".repeat(len);
            let labels = Labels::from_sorted([("name", value.as_str()), ("z", "end")]);
            assert_eq!(labels.get("name"), Some(value.as_str()));
            assert_eq!(labels.get("z"), Some("end"));
        }
    }

    proptest! {
        #[test]
        fn order_is_that_of_the_lists_of_labels(
            sets in proptest::collection::vec(proptest::collection::btree_map("[ab]{1,2}", "[xyé]{0,3}|x{120,135}", 0..5), 2),
        ) {
            let list = |set: &std::collections::BTreeMap<String, String>| {
                set.iter().map(|(name, value)| (name.clone(), value.clone())).collect::<Vec<_>>()
            };
            let made = |set: &std::collections::BTreeMap<String, String>| {
                Labels::from_sorted(set.iter().map(|(name, value)| (name.as_str(), value.as_str())))
            };
            let (a, b) = (made(&sets[0]), made(&sets[1]));
            let order = list(&sets[0]).cmp(&list(&sets[1]));
            prop_assert_eq!(a.cmp(&b), order);
            prop_assert_eq!(a.difference(&b), b.difference(&a));
            if let Some(difference) = a.difference(&b) {
                let by_key = a.key_at(difference).cmp(&b.key_at(difference));
                prop_assert!(by_key == order || by_key == Ordering::Equal);
            }
        }

        #[test]
        fn iteration_returns_what_was_set(pairs in proptest::collection::btree_map(".{0,200}", ".{1,200}", 0..20)) {
            let labels = Labels::from_pairs(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())));
            let back: Vec<_> = labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            prop_assert_eq!(back, pairs.into_iter().collect::<Vec<_>>());
        }
    }
}
