//! Reads one target back, window by window, and compares it.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use super::client::{QueryClient, QueryError};
use super::compare::Comparison;
use super::expectation::{Expectation, Fate};
use super::markers;
use super::receiver_labels::ReceiverLabels;
use super::score::Score;
use super::windows;

/// What checking a target gave.
pub struct Checked {
    /// Its counts.
    pub score: Score,
    /// The receiver's labels, by now perhaps known.
    pub labels: ReceiverLabels,
}

/// Checks one target.
pub async fn check<E: Expectation>(
    expectation: &E,
    client: &QueryClient,
    target: u64,
    tolerance: f64,
    mut labels: ReceiverLabels,
) -> Result<Checked, QueryError> {
    let selector = expectation.selector(target);
    let is_acknowledged = |request| expectation.fate(request) == Fate::Acknowledged;
    let rounds = expectation.rounds();
    let last = expectation.series(target, rounds.saturating_sub(1)..rounds);
    let mut score = Score::default();
    // A series goes on from window to window and counts once.
    let (mut checked_series, hashing) = (HashSet::new(), RandomState::new());
    for rounds in windows::split(rounds, &last) {
        let window = expectation.window(rounds.clone());
        // With the round before, whose samples show the effect of stale markers in the first one.
        let series = expectation.series(target, rounds.start.saturating_sub(1)..rounds.end);
        let acknowledged = series.iter().filter(|series| {
            let mut samples = series.samples.iter();
            samples.any(|sample| window.contains(sample.timestamp_ms) && is_acknowledged(sample.request))
        });
        checked_series.extend(acknowledged.map(|series| hashing.hash_one(&series.labels)));

        let mut comparison = Comparison::new(&series, |request| expectation.fate(request), tolerance);
        let query = format!("{selector}[{}ms]", window.range_ms());
        let mut answer = client.matrix(&query, window.end_ms).await?;
        labels.detect(&answer, &series);
        answer.iter_mut().for_each(|found| labels.strip(found));
        comparison.window(window, answer);

        let (queries, unchecked) = markers::plan(&series, window, is_acknowledged);
        comparison.markers_unchecked(unchecked);
        for query in queries {
            let mut answer = client.vector(&selector, query.time_ms).await?;
            answer.iter_mut().for_each(|found| labels.strip(found));
            comparison.markers(&query.markers, &answer);
        }
        score.add(comparison.finish());
    }
    score.series_checked = checked_series.len() as u64;
    Ok(Checked { score, labels })
}
