//! Label sets as they leave the head: sorted, immutable, one allocation, cheap to clone.
//!
//! The text holds, for each label in order of its name, `len(name) name len(value) value`. Lengths are written
//! in seven-bit characters, so that the whole stays valid UTF-8 and slicing needs neither `unsafe` nor a scan.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// The label that holds the metric name.
pub const METRIC_NAME: &str = "__name__";

/// The longest name or value that [`Labels`] can hold, in bytes (three seven-bit digits).
pub const LABEL_BYTES_MAX: usize = (1 << 21) - 1;

const LONG_MARK: u8 = 0x7f;

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
        let mut text = String::with_capacity(256);
        for (name, value) in pairs {
            push_part(&mut text, name);
            push_part(&mut text, value);
        }
        Labels(Arc::from(text))
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
    fn cmp(&self, other: &Labels) -> Ordering {
        self.iter().cmp(other.iter())
    }
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
    let bytes = text.as_bytes();
    let (len, start) = if bytes[0] < LONG_MARK {
        (usize::from(bytes[0]), 1)
    } else {
        (bytes[1..4].iter().fold(0, |len, digit| len << 7 | usize::from(*digit)), 4)
    };
    text[start..].split_at(len)
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
        fn iteration_returns_what_was_set(pairs in proptest::collection::btree_map(".{0,200}", ".{1,200}", 0..20)) {
            let labels = Labels::from_pairs(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())));
            let back: Vec<_> = labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            prop_assert_eq!(back, pairs.into_iter().collect::<Vec<_>>());
        }
    }
}
