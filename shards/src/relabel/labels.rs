//! A label set that rules change: what it began with, and what was set since.

use std::borrow::Cow;

/// A name and a value; borrowed from the request until a rule makes another.
type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Labels under change. They are walked as Prometheus' `labels.Builder` does it, which decides who is last when several
/// labels are mapped to one name: first those that are as they were, then those that were set, in order of setting.
#[derive(Debug, Clone, Default)]
pub struct LabelSet<'a> {
    base: Vec<Pair<'a>>,
    set: Vec<Pair<'a>>,
}

impl<'a> LabelSet<'a> {
    /// The labels of a series, sorted by name.
    pub fn new(labels: &[(&'a str, &'a str)]) -> LabelSet<'a> {
        let base = labels.iter().map(|(name, value)| (Cow::Borrowed(*name), Cow::Borrowed(*value)));
        LabelSet { base: base.collect(), set: Vec::new() }
    }

    /// The value of a label; empty without it.
    pub fn get(&self, name: &str) -> &str {
        self.iter().find(|(other, _)| *other == name).map_or("", |(_, value)| value)
    }

    /// Gives a label a value; an empty one removes it.
    pub fn set(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        let (name, value) = (name.into(), value.into());
        if value.is_empty() {
            return self.remove(&name);
        }
        self.base.retain(|(other, _)| *other != name);
        match self.set.iter_mut().find(|(other, _)| *other == name) {
            Some(pair) => pair.1 = value,
            None => self.set.push((name, value)),
        }
    }

    /// Removes a label.
    pub fn remove(&mut self, name: &str) {
        self.retain(|other| other != name);
    }

    /// Removes the labels whose names do not fulfil a condition.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.base.retain(|(name, _)| keep(name));
        self.set.retain(|(name, _)| keep(name));
    }

    /// All labels.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.base.iter().chain(&self.set).map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// All labels, sorted by name.
    pub fn sorted(&self) -> Vec<(&str, &str)> {
        let mut pairs: Vec<_> = self.iter().collect();
        pairs.sort_unstable();
        pairs
    }

    /// Bytes of all names and values.
    pub fn size_bytes(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_was_set_comes_after_those_that_were_not() {
        let mut labels = LabelSet::new(&[("a", "1"), ("b", "2"), ("c", "3")]);
        labels.set("a", "4");
        labels.set("d", "5");
        labels.set("b", "");
        labels.set("a", "6");
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("c", "3"), ("a", "6"), ("d", "5")]);
        assert_eq!(labels.sorted(), [("a", "6"), ("c", "3"), ("d", "5")]);
        assert_eq!((labels.get("a"), labels.get("b")), ("6", ""));
    }
}
