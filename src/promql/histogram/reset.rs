//! Whether a counter began anew between two histograms.

use annulus_shards::chunk::{Buckets, ResetHint};

use super::FloatHistogram;
use super::accumulator::wider_zero_bucket;
use super::bounds::exponential_bound;
use super::places::{coarser_place, places};

/// Whether the counters of a histogram began anew since the one before it: it says so, or a count fell, or a bucket in
/// use is gone, or the buckets became finer.
pub fn detect_reset(current: &FloatHistogram, previous: &FloatHistogram) -> bool {
    match current.reset_hint {
        ResetHint::Yes => return true,
        ResetHint::No => return false,
        // A gauge has no resets; who asks all the same gets the answer for a counter.
        ResetHint::Unknown | ResetHint::Gauge => {}
    }
    if current.count < previous.count {
        return true;
    }
    if current.has_custom_buckets() {
        return !previous.has_custom_buckets() || custom_bucket_fell(current, previous);
    }
    // The schema of custom buckets is below all others.
    if current.schema > previous.schema || current.zero_threshold < previous.zero_threshold {
        return true;
    }
    let mut previous_zero_count = previous.zero_count;
    if current.zero_threshold > previous.zero_threshold {
        let sides = [&previous.positive, &previous.negative].map(places);
        let (zero_count, threshold) =
            wider_zero_bucket(previous_zero_count, sides, previous.schema, current.zero_threshold);
        if threshold != current.zero_threshold {
            return true;
        }
        previous_zero_count = zero_count;
    }
    if current.zero_count < previous_zero_count {
        return true;
    }
    side_fell(&current.positive, &previous.positive, current, previous.schema)
        || side_fell(&current.negative, &previous.negative, current, previous.schema)
}

/// Whether a bucket above the zero bucket holds less than before, at the resolution of the current histogram.
fn side_fell(
    now: &Buckets<f64>,
    before: &Buckets<f64>,
    current: &FloatHistogram,
    previous_schema: i32,
) -> bool {
    let steps = current.schema.abs_diff(previous_schema);
    let is_within =
        |(index, _): &(i32, f64)| exponential_bound(*index, current.schema) <= current.zero_threshold;
    any_fell(places(now), coarser(places(before), steps).skip_while(is_within))
}

/// Whether any bucket holds less than before. A bucket that is not there holds nothing.
fn any_fell(
    current: impl Iterator<Item = (i32, f64)>,
    mut previous: impl Iterator<Item = (i32, f64)>,
) -> bool {
    let mut current = current.peekable();
    previous.any(|(index, before)| {
        while current.next_if(|(at, _)| *at < index).is_some() {}
        match current.peek() {
            Some((at, count)) if *at == index => *count < before,
            _ => before != 0.0,
        }
    })
}

/// Buckets at a resolution that is `steps` schemas coarser.
fn coarser(places: impl Iterator<Item = (i32, f64)>, steps: u32) -> impl Iterator<Item = (i32, f64)> {
    let mut places = places.map(move |(index, count)| (coarser_place(index, steps), count)).peekable();
    std::iter::from_fn(move || {
        let (index, mut sum) = places.next()?;
        while let Some((_, count)) = places.next_if(|(next, _)| *next == index && steps > 0) {
            sum += count;
        }
        Some((index, sum))
    })
}

/// The same for custom buckets, between the bounds that both histograms have.
fn custom_bucket_fell(current: &FloatHistogram, previous: &FloatHistogram) -> bool {
    if current.custom_values == previous.custom_values {
        return any_fell(places(&current.positive), places(&previous.positive));
    }
    let mut shared = previous.custom_values.clone();
    shared.retain(|bound| {
        let place = current.custom_values.partition_point(|other| other < bound);
        current.custom_values.get(place) == Some(bound)
    });
    let sums = |histogram: &FloatHistogram| {
        let mut sums = vec![0.0; shared.len() + 1];
        for (index, count) in places(&histogram.positive) {
            let bound = usize::try_from(index).ok().and_then(|index| histogram.custom_values.get(index));
            let place = bound.map_or(shared.len(), |bound| shared.partition_point(|shared| shared < bound));
            sums[place] += count;
        }
        sums
    };
    sums(current).iter().zip(sums(previous)).any(|(now, before)| *now < before)
}

#[cfg(test)]
mod tests {
    use super::super::properties::histogram;
    use super::*;

    #[test]
    fn a_bucket_that_fell_or_is_gone_is_a_reset() {
        let before = histogram(0, &[(0, 1.0), (2, 2.0), (4, 0.0)]);
        assert!(!detect_reset(&before, &before));
        assert!(!detect_reset(&histogram(0, &[(0, 1.0), (1, 5.0), (2, 2.0)]), &before));
        assert!(detect_reset(&histogram(0, &[(0, 9.0), (2, 1.0)]), &before));
        assert!(detect_reset(&histogram(0, &[(0, 9.0)]), &before));
        assert!(detect_reset(&histogram(0, &[(0, 1.0)]), &before));
    }

    #[test]
    fn hints_are_believed() {
        let (small, large) = (histogram(0, &[(0, 1.0)]), histogram(0, &[(0, 2.0)]));
        let hinted =
            |histogram: &FloatHistogram, reset_hint| FloatHistogram { reset_hint, ..histogram.clone() };
        assert!(!detect_reset(&hinted(&small, ResetHint::No), &large));
        assert!(detect_reset(&hinted(&large, ResetHint::Yes), &small));
        assert!(detect_reset(&hinted(&small, ResetHint::Gauge), &large));
    }

    #[test]
    fn coarser_buckets_are_compared_with_those_they_took_in() {
        let fine = histogram(1, &[(1, 1.0), (2, 1.0)]);
        assert!(!detect_reset(&histogram(0, &[(1, 2.0)]), &fine));
        assert!(detect_reset(&histogram(0, &[(1, 1.0), (2, 9.0)]), &fine));
        assert!(detect_reset(&fine, &histogram(0, &[(1, 2.0)])), "no counter becomes finer");
    }

    #[test]
    fn a_wider_zero_bucket_holds_what_it_took_in() {
        let before = histogram(0, &[(0, 1.0), (1, 1.0)]);
        let wider = |threshold, zero_count| FloatHistogram {
            zero_threshold: threshold,
            zero_count,
            count: 9.0,
            ..histogram(0, &[(1, 1.0)])
        };
        assert!(!detect_reset(&wider(1.0, 1.0), &before));
        assert!(detect_reset(&wider(1.0, 0.0), &before));
        assert!(detect_reset(&wider(1.5, 9.0), &before), "it ends within a bucket that was in use");
    }

    #[test]
    fn other_custom_bounds_are_compared_at_those_they_share() {
        let custom = |bounds: &[f64], counts: &[(i32, f64)]| FloatHistogram {
            custom_values: bounds.to_vec(),
            ..histogram(-53, counts)
        };
        let before = custom(&[1.0, 2.0, 5.0], &[(0, 1.0), (1, 1.0), (2, 1.0)]);
        assert!(!detect_reset(&custom(&[2.0, 7.0], &[(0, 2.0), (1, 1.0)]), &before));
        assert!(detect_reset(&custom(&[2.0, 7.0], &[(0, 1.0), (1, 9.0)]), &before));
        assert!(detect_reset(&before, &histogram(0, &[(0, 1.0)])));
    }
}
