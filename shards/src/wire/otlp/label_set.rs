//! The labels of one point: its attributes under names that Prometheus takes, and what its resource adds.

use std::borrow::Cow;

use super::fault::{Fault, PointError, quoted};
use super::names::label_name;
use super::value::Attribute;
use crate::labels::METRIC_NAME;
use crate::wire::labels::{LABEL_BYTES_MAX, LABELS_MAX, SERIES_BYTES_MAX, put_label};

/// Bytes that the encoding of a label takes beside its texts, at most.
const LABEL_OVERHEAD_BYTES: usize = 16;

/// Labels in the order of their names, without the metric's name. None is empty.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LabelSet<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> LabelSet<'a> {
    /// Labels from attributes but those in `left_out`. Of attributes whose names become the same, the values are joined
    /// in the order of their names as sent.
    pub fn from_attributes(attributes: &[Attribute<'a>], left_out: &[&str]) -> Result<LabelSet<'a>, Fault> {
        if attributes.len() > LABELS_MAX {
            return Err(PointError::TooLarge.into());
        }
        let mut sent: Vec<&Attribute<'a>> = attributes
            .iter()
            .filter(|attribute| attribute.key != METRIC_NAME && !left_out.contains(&attribute.key))
            .collect();
        sent.sort_by_key(|attribute| attribute.key);
        let mut pairs = Vec::with_capacity(sent.len() + 4);
        for attribute in sent {
            let name = label_name(attribute.key)
                .ok_or_else(|| PointError::LabelName { name: quoted(attribute.key) })?;
            let value = attribute.text()?;
            if name.len().max(value.len()) > LABEL_BYTES_MAX {
                return Err(PointError::TooLarge.into());
            }
            if !value.is_empty() {
                pairs.push((name, value));
            }
        }
        pairs.sort_by(|(left, _): &(Cow<'_, str>, _), (right, _)| left.cmp(right));
        pairs.dedup_by(|(name, value), (kept_name, kept)| {
            let is_same = name == kept_name;
            if is_same {
                let joined = kept.to_mut();
                joined.push(';');
                joined.push_str(value);
            }
            is_same
        });
        let set = LabelSet { pairs };
        if set.encoded_bytes_max() > SERIES_BYTES_MAX {
            return Err(PointError::TooLarge.into());
        }
        Ok(set)
    }

    /// Sets one label, whatever it was.
    pub fn set(&mut self, name: &str, value: Cow<'a, str>) {
        match self.find(name) {
            Ok(index) if value.is_empty() => {
                self.pairs.remove(index);
            }
            Ok(index) => self.pairs[index].1 = value,
            Err(_) if value.is_empty() => {}
            Err(index) => self.pairs.insert(index, (Cow::Owned(name.to_owned()), value)),
        }
    }

    /// Adds what `other` has under names that are not here.
    pub fn fill_in(&mut self, other: &LabelSet<'a>) {
        for (name, value) in &other.pairs {
            if let Err(index) = self.find(name) {
                self.pairs.insert(index, (name.clone(), value.clone()));
            }
        }
    }

    /// Whether there is a label of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }

    /// No encoding of these labels is longer.
    pub fn encoded_bytes_max(&self) -> usize {
        self.pairs.iter().map(|(name, value)| name.len() + value.len() + LABEL_OVERHEAD_BYTES).sum()
    }

    /// Appends the canonical encoding of these labels and of those in `fixed`, which come in the order of their names and
    /// take the place of labels with the same name.
    pub fn put(&self, fixed: &[(&str, &str)], out: &mut Vec<u8>) {
        let mut fixed = fixed.iter().peekable();
        for (name, value) in &self.pairs {
            let mut is_replaced = false;
            while let Some((fixed_name, fixed_value)) = fixed.next_if(|(fixed, _)| *fixed <= &**name) {
                is_replaced |= *fixed_name == &**name;
                put_label(out, fixed_name, fixed_value);
            }
            if !is_replaced {
                put_label(out, name.as_bytes(), value.as_bytes());
            }
        }
        for (name, value) in fixed {
            put_label(out, name, value);
        }
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.pairs.binary_search_by(|(found, _)| (**found).cmp(name))
    }
}

#[cfg(test)]
impl std::fmt::Display for LabelSet<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.pairs.iter().try_for_each(|(name, value)| write!(f, "{name}={value} "))
    }
}

/// What the metric's name and one more label take in an encoding, at most.
pub fn fixed_bytes_max(fixed: &[(&str, &str)]) -> usize {
    fixed.iter().map(|(name, value)| name.len() + value.len() + LABEL_OVERHEAD_BYTES).sum()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{any, attribute_bytes};
    use super::super::value::Message;
    use super::*;
    use crate::wire::parse_labels;

    fn labels(attributes: &[(&str, &str)], fixed: &[(&str, &str)]) -> Vec<(String, String)> {
        let messages: Vec<_> =
            attributes.iter().map(|(key, value)| attribute_bytes(key, any::text(value))).collect();
        let read: Vec<_> =
            messages.iter().map(|bytes| Attribute::read(Message { bytes, base: 0 }).unwrap()).collect();
        let set = LabelSet::from_attributes(&read, &["left.out"]).unwrap();
        let mut out = Vec::new();
        set.put(fixed, &mut out);
        assert!(out.len() <= set.encoded_bytes_max() + fixed_bytes_max(fixed));
        let pairs = parse_labels(&out).unwrap();
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn values_of_names_that_become_the_same_are_joined() {
        let found = labels(&[("a_b", "3"), ("a.b", "1"), ("a-b", ""), ("a/b", "2")], &[("__name__", "m")]);
        assert_eq!(found, owned(&[("__name__", "m"), ("a_b", "1;2;3")]));
    }

    #[test]
    fn fixed_labels_stand_in_order_and_replace_attributes() {
        let attributes =
            [("zone", "z"), ("Upper", "u"), ("le", "x"), ("__name__", "y"), ("left.out", "l"), ("empty", "")];
        let found = labels(&attributes, &[("__name__", "m"), ("le", "0.5")]);
        assert_eq!(found, owned(&[("Upper", "u"), ("__name__", "m"), ("le", "0.5"), ("zone", "z")]));
        assert_eq!(labels(&[], &[("__name__", "m"), ("le", "1")]), owned(&[("__name__", "m"), ("le", "1")]));
    }

    #[test]
    fn labels_of_the_resource_override_or_fill_in() {
        let mut set = LabelSet::default();
        set.set("job", "a".into());
        set.set("job", "b".into());
        let mut other = LabelSet::default();
        for (name, value) in [("job", "c"), ("instance", "i"), ("empty", "")] {
            other.set(name, value.into());
        }
        set.fill_in(&other);
        assert_eq!(set.to_string(), "instance=i job=b ");
        set.set("job", "".into());
        assert!(!set.contains("job") && set.contains("instance"));
    }

    #[test]
    fn too_many_and_too_long_attributes_are_refused() {
        let bytes = attribute_bytes("a", any::text(&"x".repeat(LABEL_BYTES_MAX + 1)));
        let long = Attribute::read(Message { bytes: &bytes, base: 0 }).unwrap();
        let refused = Err(Fault::Point(PointError::TooLarge));
        assert_eq!(LabelSet::from_attributes(&[long], &[]), refused);
        let bytes = attribute_bytes("a", any::text("x"));
        let short = Attribute::read(Message { bytes: &bytes, base: 0 }).unwrap();
        assert_eq!(LabelSet::from_attributes(&vec![short; LABELS_MAX + 1], &[]), refused);
        let bytes = attribute_bytes("字", any::text("x"));
        let odd = Attribute::read(Message { bytes: &bytes, base: 0 }).unwrap();
        let fault = LabelSet::from_attributes(&[odd], &[]).unwrap_err();
        assert_eq!(fault, Fault::Point(PointError::LabelName { name: "字".into() }));
    }
}
