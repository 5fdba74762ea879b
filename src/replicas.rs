//! Replicas of one series made one, by the rules of Thanos Query ("penalty").
//!
//! Replicas scrape the same target at times of their own, so their samples must not be mixed: a window would count twice
//! as many, and a counter of which one is behind would seem to be reset at every other sample. So one replica is followed,
//! and left for another only when it has a gap of about twice the time between its samples.

use std::iter::Peekable;
use std::vec::IntoIter;

/// How long the replica that was not taken has to wait while the time between samples is not known.
const FIRST_PENALTY_MS: i64 = 5_000;

/// More replicas than this are merged in pairs first: each turn of the fold goes over all that was kept before.
const FOLDED_MAX: usize = 64;

/// Gives the number in a sample, if it is one.
pub type FloatOf<S> = fn(&mut S) -> Option<&mut f64>;

/// The samples of one replica that are left.
struct Rest<S> {
    samples: Peekable<IntoIter<(i64, S)>>,
    penalty_ms: i64,
    /// What is added to its counter, so that it does not fall where the other one was left.
    raised_by: f64,
}

impl<S> Rest<S> {
    fn new(samples: Vec<(i64, S)>) -> Rest<S> {
        Rest { samples: samples.into_iter().peekable(), penalty_ms: 0, raised_by: 0.0 }
    }

    /// Goes to the first sample that is not before a time and the penalty; returns its time.
    fn seek(&mut self, from_ms: i64) -> Option<i64> {
        let from_ms = from_ms.saturating_add(self.penalty_ms);
        while self.samples.next_if(|(time_ms, _)| *time_ms < from_ms).is_some() {}
        self.samples.peek().map(|(time_ms, _)| *time_ms)
    }

    fn raise(&mut self, least: f64, float: FloatOf<S>) {
        if let Some(value) = self.samples.peek_mut().and_then(|(_, sample)| float(sample))
            && least > *value + self.raised_by
        {
            self.raised_by += least - (*value + self.raised_by);
        }
    }
}

/// Makes one list of samples of those of all replicas, each in order of time. For counters `float` is given: where the
/// replica changes, the other's values are raised to at least what was taken last.
pub fn merge_replicas<S>(mut replicas: Vec<Vec<(i64, S)>>, float: Option<FloatOf<S>>) -> Vec<(i64, S)> {
    while replicas.len() > FOLDED_MAX {
        let mut all = replicas.into_iter();
        let mut pairs = Vec::with_capacity(all.len().div_ceil(2));
        while let Some(first) = all.next() {
            pairs.push(merge_two(first, all.next().unwrap_or_default(), float));
        }
        replicas = pairs;
    }
    replicas.into_iter().reduce(|first, second| merge_two(first, second, float)).unwrap_or_default()
}

fn merge_two<S>(first: Vec<(i64, S)>, second: Vec<(i64, S)>, float: Option<FloatOf<S>>) -> Vec<(i64, S)> {
    if first.is_empty() {
        return second;
    }
    if second.is_empty() {
        return first;
    }
    let mut merged: Vec<(i64, S)> = Vec::with_capacity(first.len().max(second.len()));
    let (mut first, mut second) = (Rest::new(first), Rest::new(second));
    let mut takes_first = true;
    loop {
        let last_ms = merged.last().map(|(time_ms, _)| *time_ms);
        let from_ms = last_ms.map_or(i64::MIN, |last_ms| last_ms.saturating_add(1));
        let took_first = takes_first;
        let penalty_ms = |time_ms: i64| match last_ms {
            Some(last_ms) => time_ms.saturating_sub(last_ms).saturating_mul(2),
            None => FIRST_PENALTY_MS,
        };
        match (first.seek(from_ms), second.seek(from_ms)) {
            (None, None) => return merged,
            (Some(_), None) => takes_first = true,
            (None, Some(_)) => takes_first = false,
            (Some(time_ms), Some(other_ms)) if time_ms <= other_ms => {
                takes_first = true;
                second.penalty_ms = penalty_ms(time_ms);
            }
            (Some(_), Some(time_ms)) => {
                takes_first = false;
                first.penalty_ms = penalty_ms(time_ms);
            }
        }
        if let Some(float) = float
            && takes_first != took_first
            && let Some(last) = merged.last_mut().and_then(|(_, sample)| float(sample).copied())
        {
            first.raise(last, float);
            second.raise(last, float);
        }
        let taken = if takes_first { &mut first } else { &mut second };
        taken.penalty_ms = 0;
        let Some((time_ms, mut sample)) = taken.samples.next() else { return merged };
        if taken.raised_by > 0.0
            && let Some(value) = float.and_then(|float| float(&mut sample))
        {
            *value += taken.raised_by;
        }
        merged.push((time_ms, sample));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn every(step_ms: i64, from_ms: i64, to_ms: i64, value: f64) -> Vec<(i64, f64)> {
        (from_ms..to_ms).step_by(step_ms as usize).map(|time_ms| (time_ms, value)).collect()
    }

    fn merge(replicas: &[Vec<(i64, f64)>]) -> Vec<(i64, f64)> {
        merge_replicas(replicas.to_vec(), None)
    }

    fn merge_counters(replicas: &[Vec<(i64, f64)>]) -> Vec<(i64, f64)> {
        merge_replicas(replicas.to_vec(), Some(|value| Some(value)))
    }

    #[test]
    fn the_same_samples_are_taken_once() {
        let samples = every(15_000, 0, 300_000, 1.0);
        assert_eq!(merge(&[samples.clone(), samples.clone(), samples.clone()]), samples);
    }

    #[test]
    fn replicas_that_scrape_in_turns_are_not_mixed() {
        let (a, b) = (every(15_000, 0, 300_000, 1.0), every(15_000, 3_000, 300_000, 2.0));
        assert_eq!(merge(&[a.clone(), b.clone()]), a);
        // Within the first penalty the one that begins first is followed, whichever it is.
        assert_eq!(merge(&[b, a.clone()]), a);
    }

    #[test]
    fn a_replica_is_left_in_a_gap_and_not_come_back_to_before_the_other_has_one() {
        let gap = [every(10_000, 0, 50_000, 1.0), every(10_000, 100_000, 200_000, 1.0)].concat();
        let whole = every(10_000, 4_000, 150_000, 2.0);
        let merged = merge(&[gap, whole]);
        let times = |value: f64| -> Vec<i64> {
            merged.iter().filter(|one| one.1 == value).map(|(time_ms, _)| *time_ms).collect()
        };
        // The last of the first replica is at 40 s; the second one waits for twice the interval of 10 s.
        assert_eq!(times(2.0), (64_000..150_000).step_by(10_000).collect::<Vec<_>>());
        assert_eq!(times(1.0)[..6], [0, 10_000, 20_000, 30_000, 40_000, 170_000]);
        assert!(merged.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn a_short_gap_stays_one() {
        let mut a = every(10_000, 0, 100_000, 1.0);
        a.remove(5);
        assert_eq!(merge(&[a.clone(), every(10_000, 4_000, 100_000, 2.0)])[..9], a[..]);
    }

    #[test]
    fn a_counter_never_falls_where_the_replica_changes() {
        let a: Vec<(i64, f64)> = (0..5).map(|at| (at * 10_000, 1_000.0 + at as f64)).collect();
        let b: Vec<(i64, f64)> = (0..20).map(|at| (at * 10_000 + 4_000, at as f64)).collect();
        let merged = merge_counters(&[a.clone(), b.clone()]);
        assert_eq!(merged[..5], a);
        assert_eq!(merged[5], (64_000, 1_004.0));
        let rises: Vec<f64> = merged[5..].windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
        assert!(rises.iter().all(|rise| *rise == 1.0), "{rises:?}");
        // What is no counter is left as it is.
        assert_eq!(merge(&[a, b])[5], (64_000, 6.0));
    }

    #[test]
    fn a_reset_within_a_replica_stays_one() {
        let a = vec![(0, 5.0), (10_000, 6.0), (20_000, 1.0), (30_000, 2.0)];
        let b = every(10_000, 4_000, 40_000, 0.0);
        assert_eq!(merge_counters(&[a.clone(), b])[..4], a);
    }

    #[test]
    fn very_many_replicas_of_few_samples_are_merged() {
        let replicas: Vec<_> = (0..20_000).map(|at| vec![(at * 1_000_000, 1.0)]).collect();
        let merged = merge(&replicas);
        assert!(merged.len() > 1 && merged.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(merged[0], (0, 1.0));
    }

    proptest! {
        #[test]
        fn samples_come_from_the_replicas_and_in_order(
            replicas in proptest::collection::vec(proptest::collection::btree_map(-50_000i64..50_000, 0u8..9, 0..40), 0..70),
        ) {
            let replicas: Vec<Vec<(i64, f64)>> = replicas.into_iter()
                .map(|one| one.into_iter().map(|(time_ms, value)| (time_ms, f64::from(value))).collect()).collect();
            let merged = merge(&replicas);
            prop_assert!(merged.is_sorted_by(|a, b| a.0 < b.0));
            prop_assert!(merged.iter().all(|one| replicas.iter().any(|replica| replica.contains(one))));
            prop_assert_eq!(merged.is_empty(), replicas.iter().all(Vec::is_empty));
            let raised = merge_counters(&replicas);
            let times = |samples: &[(i64, f64)]| samples.iter().map(|one| one.0).collect::<Vec<_>>();
            prop_assert_eq!(times(&raised), times(&merged));
        }
    }
}
