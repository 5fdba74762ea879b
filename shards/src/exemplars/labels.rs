//! The labels of an exemplar: any order, perhaps none, and few characters.

use super::ExemplarReason;
use crate::Labels;
use crate::wire::label_pairs;

/// The most characters that all names and values of an exemplar's labels may have together: OpenMetrics' limit, which
/// Prometheus and Thanos have too.
pub const LABEL_RUNES_MAX: usize = 128;

/// Parses and checks the label fields of an exemplar.
///
/// # Errors
/// When they are not a label set, or one that is too long.
pub fn parse_exemplar_labels(label_bytes: &[u8]) -> Result<Labels, ExemplarReason> {
    let (mut pairs, mut runes) = (Vec::new(), 0);
    for pair in label_pairs(label_bytes) {
        let (name, value) = pair.map_err(|_| ExemplarReason::InvalidLabels)?;
        if name.is_empty() {
            return Err(ExemplarReason::InvalidLabels);
        }
        runes += name.chars().count() + value.chars().count();
        if runes > LABEL_RUNES_MAX {
            return Err(ExemplarReason::TooLong);
        }
        pairs.push((name, value));
    }
    pairs.sort_unstable();
    if pairs.windows(2).any(|two| two[0].0 == two[1].0) {
        return Err(ExemplarReason::InvalidLabels);
    }
    // To Prometheus a label without a value is none.
    Ok(Labels::from_sorted(pairs.into_iter().filter(|(_, value)| !value.is_empty())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::canonical_label_bytes;

    fn parsed(pairs: &[(&str, &str)]) -> Result<Labels, ExemplarReason> {
        parse_exemplar_labels(&canonical_label_bytes(pairs))
    }

    #[test]
    fn labels_come_in_any_order_and_need_no_metric_name() {
        let labels = parsed(&[("trace_id", "7"), ("span", ""), ("a", "b")]).unwrap();
        assert_eq!(labels, Labels::from_pairs([("a", "b"), ("trace_id", "7")]));
        assert_eq!(parsed(&[]), Ok(Labels::empty()));
    }

    #[test]
    fn labels_that_are_none_or_too_long_are_told_apart() {
        assert_eq!(parsed(&[("", "x")]), Err(ExemplarReason::InvalidLabels));
        assert_eq!(parsed(&[("a", "x"), ("a", "x")]), Err(ExemplarReason::InvalidLabels));
        assert_eq!(parse_exemplar_labels(&[0x0a, 200]), Err(ExemplarReason::InvalidLabels));
        // Characters count, not bytes.
        assert!(parsed(&[("é", &"é".repeat(LABEL_RUNES_MAX - 1))]).is_ok());
        assert_eq!(parsed(&[("é", &"é".repeat(LABEL_RUNES_MAX))]), Err(ExemplarReason::TooLong));
    }

    proptest! {
        #[test]
        fn random_bytes_end_in_a_result(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_exemplar_labels(&bytes);
        }

        #[test]
        fn mutated_labels_end_in_a_result(at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = canonical_label_bytes(&[("trace_id", "0af7651916cd43dd"), ("span_id", "b7ad")]);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = parse_exemplar_labels(&bytes);
        }
    }
}
