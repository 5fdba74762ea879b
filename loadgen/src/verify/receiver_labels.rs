//! Labels that a receiver adds to every series (`tenant_id`, `replica`, external labels), told from differences.

use std::collections::{BTreeMap, BTreeSet};

use super::answer::FoundSeries;
use crate::stream::ExpectedSeries;

/// Labels that are taken off before series are compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReceiverLabels {
    ignored: BTreeSet<String>,
    /// `None` until there was an answer to learn from.
    added: Option<BTreeMap<String, String>>,
}

impl ReceiverLabels {
    /// Takes off `ignored` always, and what [`detect`](Self::detect) finds.
    pub fn new(ignored: impl IntoIterator<Item = String>) -> ReceiverLabels {
        ReceiverLabels { ignored: ignored.into_iter().collect(), added: None }
    }

    /// Whether the receiver's labels are known.
    pub fn is_settled(&self) -> bool {
        self.added.is_some()
    }

    /// Learns, from the first answer with series, the labels that all of them have with one and the same value and
    /// that no expected series has. What later answers add is a difference.
    pub fn detect(&mut self, answer: &[FoundSeries], expected: &[ExpectedSeries]) {
        if self.is_settled() {
            return;
        }
        let Some(first) = answer.first() else { return };
        let known: BTreeSet<&str> =
            expected.iter().flat_map(|series| &series.labels).map(|(name, _)| name.as_str()).collect();
        let is_added = |label: &&(String, String)| {
            !known.contains(label.0.as_str())
                && !self.ignored.contains(&label.0)
                && answer.iter().all(|series| series.labels.contains(label))
        };
        self.added = Some(first.labels.iter().filter(is_added).cloned().collect());
    }

    /// Takes the receiver's labels off.
    pub fn strip(&self, series: &mut FoundSeries) {
        let is_ours = |name: &String, value: &String| {
            let added = self.added.as_ref().and_then(|added| added.get(name));
            !self.ignored.contains(name) && added != Some(value)
        };
        series.labels.retain(|(name, value)| is_ours(name, value));
    }

    /// The labels that were detected, as `name="value"`.
    pub fn added(&self) -> Vec<String> {
        self.added.iter().flatten().map(|(name, value)| format!("{name}={value:?}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn found(pairs: &[(&str, &str)]) -> FoundSeries {
        FoundSeries { labels: labels(pairs), samples: vec![] }
    }

    #[test]
    fn a_label_that_all_series_share_and_the_stream_does_not_know_is_taken_off() {
        let expected = [ExpectedSeries { labels: labels(&[("job", "a")]), samples: vec![] }];
        let mut answer = [
            found(&[("job", "a"), ("tenant_id", "t"), ("x", "1")]),
            found(&[("job", "a"), ("tenant_id", "t")]),
        ];
        let mut receiver = ReceiverLabels::new([]);
        receiver.detect(&answer, &expected);
        assert_eq!(receiver.added(), [r#"tenant_id="t""#]);
        answer.iter_mut().for_each(|series| receiver.strip(series));
        assert_eq!(answer, [found(&[("job", "a"), ("x", "1")]), found(&[("job", "a")])]);
        let mut other = found(&[("tenant_id", "other")]);
        receiver.strip(&mut other);
        assert_eq!(other, found(&[("tenant_id", "other")]), "another value is a difference");
    }

    #[test]
    fn a_label_of_the_stream_is_never_taken_for_the_receivers() {
        let expected = [ExpectedSeries { labels: labels(&[("job", "a")]), samples: vec![] }];
        let answer = [found(&[("job", "changed")])];
        let mut receiver = ReceiverLabels::new([]);
        receiver.detect(&answer, &expected);
        assert!(receiver.is_settled() && receiver.added().is_empty());
    }

    #[test]
    fn ignored_labels_are_taken_off_whatever_their_value() {
        let receiver = ReceiverLabels::new(["replica".to_string()]);
        let mut series = found(&[("job", "a"), ("replica", "b")]);
        receiver.strip(&mut series);
        assert_eq!(series, found(&[("job", "a")]));
    }
}
