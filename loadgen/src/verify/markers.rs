//! Stale markers, which range selectors leave out: they show only in that an instant query no longer finds the
//! series, although its last sample is still within the look-back.

use super::compare::is_stale_marker;
use super::windows::Window;
use crate::stream::ExpectedSeries;

/// How far instant queries surely look back; the default of all receivers is five minutes.
const LOOKBACK_MS: i64 = 240_000;

/// A stale marker, by the places of its series and of its sample there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// Index of the series.
    pub series: usize,
    /// Index of the sample.
    pub sample: usize,
}

/// Markers that one instant query decides about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkerQuery {
    /// When to evaluate it.
    pub time_ms: i64,
    /// All markers that show at that time.
    pub markers: Vec<Marker>,
}

/// The fewest instant queries that show all stale markers of a window, and the number of markers that none can show.
pub fn plan(
    series: &[ExpectedSeries],
    window: Window,
    is_acknowledged: impl Fn(u64) -> bool,
) -> (Vec<MarkerQuery>, u64) {
    let mut unchecked = 0;
    // (last time at which the marker shows, first such time, marker)
    let mut spans: Vec<(i64, i64, Marker)> = Vec::new();
    for (series_at, series) in series.iter().enumerate() {
        for (sample_at, sample) in series.samples.iter().enumerate() {
            if !is_stale_marker(sample) || !window.contains(sample.timestamp_ms) {
                continue;
            }
            let before = sample_at.checked_sub(1).map(|before| &series.samples[before]);
            let before = before.filter(|before| !is_stale_marker(before) && is_acknowledged(before.request));
            let last_ms = before.map_or(i64::MIN, |before| before.timestamp_ms + LOOKBACK_MS);
            let next_ms = series.samples.get(sample_at + 1).map_or(i64::MAX, |next| next.timestamp_ms);
            let last_ms = last_ms.min(next_ms - 1);
            if last_ms < sample.timestamp_ms {
                unchecked += 1;
                continue;
            }
            spans.push((last_ms, sample.timestamp_ms, Marker { series: series_at, sample: sample_at }));
        }
    }
    spans.sort_by_key(|(last_ms, first_ms, _)| (*last_ms, *first_ms));
    let mut queries = Vec::new();
    while let Some(&(bound_ms, ..)) = spans.first() {
        // All that show at the first end in line share a query, as early as shows all of them.
        let (shown, later) = spans.into_iter().partition(|(_, first_ms, _)| *first_ms <= bound_ms);
        let shown: Vec<(i64, i64, Marker)> = shown;
        let time_ms = shown.iter().map(|(_, first_ms, _)| *first_ms).max().unwrap_or(bound_ms);
        queries
            .push(MarkerQuery { time_ms, markers: shown.into_iter().map(|(.., marker)| marker).collect() });
        spans = later;
    }
    (queries, unchecked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{ExpectedSample, STALE_NAN_BITS, SampleValue};

    const WHOLE: Window = Window { begin_ms: 0, end_ms: 2_000_000 };
    const STALE: f64 = f64::from_bits(STALE_NAN_BITS);

    fn series(samples: &[(i64, f64)]) -> ExpectedSeries {
        let samples = samples.iter().enumerate().map(|(at, (timestamp_ms, value))| ExpectedSample {
            timestamp_ms: *timestamp_ms,
            value: SampleValue::Float(*value),
            request: at as u64,
        });
        ExpectedSeries { labels: vec![], samples: samples.collect() }
    }

    #[test]
    fn markers_near_each_other_share_a_query() {
        let all = [
            series(&[(0, 1.0), (15_000, STALE)]),
            series(&[(3, 1.0), (15_003, STALE)]),
            series(&[(900_000, 1.0), (915_000, STALE), (930_000, 2.0)]),
            series(&[(0, 1.0), (15_000, 2.0)]),
        ];
        let (queries, unchecked) = plan(&all, WHOLE, |_| true);
        assert_eq!(unchecked, 0);
        assert_eq!(queries.iter().map(|query| query.time_ms).collect::<Vec<_>>(), [15_003, 915_000]);
        assert_eq!(queries[0].markers.len(), 2);
        assert_eq!(queries[1].markers, [Marker { series: 2, sample: 1 }]);
        let (queries, _) = plan(&all, Window { begin_ms: 15_001, end_ms: 20_000 }, |_| true);
        assert_eq!(
            queries,
            [MarkerQuery { time_ms: 15_003, markers: vec![Marker { series: 1, sample: 1 }] }]
        );
    }

    #[test]
    fn a_marker_is_shown_only_by_a_sample_before_it_that_must_be_there() {
        let lone = [series(&[(15_000, STALE)])];
        assert_eq!(plan(&lone, WHOLE, |_| true), (vec![], 1));
        let late = [series(&[(0, 1.0), (300_000, STALE)])];
        assert_eq!(plan(&late, WHOLE, |_| true), (vec![], 1));
        let unknown = [series(&[(0, 1.0), (15_000, STALE)])];
        assert_eq!(plan(&unknown, WHOLE, |request| request != 0), (vec![], 1));
    }
}
