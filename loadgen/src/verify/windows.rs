//! Cuts the time of a run into windows of whole rounds that are read with one query each.
//!
//! The window of a range selector is left-open in Prometheus 3 and left-closed before, so a window is asked for
//! with one millisecond more than it has, and what lies before its begin is left to its predecessor. Each
//! millisecond then belongs to exactly one window, for both.

use std::ops::Range;

use crate::stream::{ExpectedSeries, SampleValue};

/// Samples in one answer take about so many bytes; labels come on top.
const ANSWER_BYTES: u64 = 16 << 20;
/// Text of one float sample in an answer, about: `[1700000000.123,"12345.678"],`.
const FLOAT_BYTES: u64 = 40;
/// Samples of one series that any receiver gives in one answer.
const ROUNDS_MAX: u64 = 10_000;

/// A span of time, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First millisecond.
    pub begin_ms: i64,
    /// Last millisecond.
    pub end_ms: i64,
}

impl Window {
    /// The length of the range selector that covers it: at evaluation time `end_ms`, however the left end is meant.
    pub fn range_ms(self) -> i64 {
        self.end_ms - self.begin_ms + 1
    }

    /// Whether a time lies in it.
    pub fn contains(self, timestamp_ms: i64) -> bool {
        (self.begin_ms..=self.end_ms).contains(&timestamp_ms)
    }
}

/// Cuts rounds into runs of consecutive ones, as many as an answer may hold.
///
/// `sample` is what is expected of the last round: counters and histograms only get longer.
pub fn split(rounds: u64, sample: &[ExpectedSeries]) -> impl Iterator<Item = Range<u64>> {
    let round_bytes: u64 = sample.iter().map(sample_bytes).sum();
    let length = (ANSWER_BYTES / round_bytes.max(1)).clamp(1, ROUNDS_MAX);
    (0..rounds.div_ceil(length)).map(move |at| at * length..rounds.min((at + 1) * length))
}

fn sample_bytes(series: &ExpectedSeries) -> u64 {
    let bytes = series.samples.iter().map(|sample| match &sample.value {
        SampleValue::Float(_) => FLOAT_BYTES,
        SampleValue::Histogram(text) => FLOAT_BYTES + text.len() as u64,
    });
    bytes.sum()
}

/// A time as the query API takes it.
pub fn seconds(timestamp_ms: i64) -> String {
    let sign = if timestamp_ms < 0 { "-" } else { "" };
    let magnitude = timestamp_ms.unsigned_abs();
    format!("{sign}{}.{:03}", magnitude / 1000, magnitude % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::ExpectedSample;
    use proptest::prelude::*;

    fn round(series_count: usize) -> Vec<ExpectedSeries> {
        let sample = ExpectedSample { timestamp_ms: 0, value: SampleValue::Float(1.0), request: 0 };
        vec![ExpectedSeries { labels: vec![], samples: vec![sample] }; series_count]
    }

    proptest! {
        #[test]
        fn each_round_is_in_exactly_one_window(rounds in 0u64..50_000, series_count in 0usize..5_000) {
            let mut next = 0;
            for window in split(rounds, &round(series_count)) {
                prop_assert!(window.start == next && window.end > next);
                next = window.end;
            }
            prop_assert_eq!(next, rounds);
        }
    }

    #[test]
    fn larger_targets_are_read_in_more_windows() {
        assert_eq!(split(400, &round(1_000)).count(), 1);
        assert_eq!(split(500, &round(1_000)).count(), 2);
        assert_eq!(split(3, &round(1_000_000)).count(), 3, "a window has at least a round");
        assert_eq!(split(25_000, &round(1)).count(), 3, "no series may exceed what an answer may hold");
    }

    #[test]
    fn times_have_three_decimals() {
        assert_eq!(seconds(1_700_000_000_007), "1700000000.007");
        assert_eq!(seconds(-1_500), "-1.500");
    }
}
