//! Exponential histograms as native histograms, in the protobuf message of remote write.
//!
//! Schema (prometheus.Histogram): {1: uint64 count, 3: sum, 4: sint32 schema, 5: zero threshold, 6: uint64 zero count,
//! 8: negative spans, 9: sint64 negative deltas, 11: positive spans, 12: sint64 positive deltas, 15: int64 timestamp};
//! BucketSpan {1: sint32 offset, 2: uint32 length}.

use super::fault::PointError;
use super::points::{Buckets, Exponential};
use crate::STALE_NAN_BITS;
use crate::wire::put_varint;

/// The widest and the narrowest buckets that native histograms have.
const SCHEMA_MIN: i32 = -4;
const SCHEMA_MAX: i32 = 8;

/// What Prometheus takes for the width of the zero bucket; it does not look at the sender's.
const ZERO_THRESHOLD: f64 = 1e-128;

/// More empty buckets than this between two others begin a new span, as in Prometheus' client library.
const GAP_MAX: i64 = 2;

/// Appends the message of one point.
pub fn put_native_histogram(exponential: &Exponential<'_>, out: &mut Vec<u8>) -> Result<(), PointError> {
    let scale = exponential.scale;
    if scale < SCHEMA_MIN {
        return Err(PointError::Scale { scale });
    }
    let scale_down = scale.saturating_sub(SCHEMA_MAX).max(0).unsigned_abs();
    let positive = Layout::of(&exponential.positive, scale_down)?;
    let negative = Layout::of(&exponential.negative, scale_down)?;
    let point = &exponential.point;
    let count = if point.is_stale { STALE_NAN_BITS } else { exponential.count };
    put_tagged(out, 1, count);
    put_double(out, 3, point.value(exponential.sum));
    put_tagged(out, 4, zigzag(i64::from(scale.min(SCHEMA_MAX))));
    put_double(out, 5, ZERO_THRESHOLD);
    put_tagged(out, 6, exponential.zero_count);
    negative.put(8, out);
    positive.put(11, out);
    put_tagged(out, 15, point.time_ms() as u64);
    Ok(())
}

/// Buckets as native histograms have them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Layout {
    /// The distance from the end of the span before, and how many buckets.
    spans: Vec<(i32, u32)>,
    /// Each count as the difference to the one before.
    deltas: Vec<i64>,
}

impl Layout {
    /// 2^`scale_down` buckets become one. The bucket that ends at 1 has the number 0 here and -1 in OpenTelemetry.
    fn of(buckets: &Buckets, scale_down: u32) -> Result<Layout, PointError> {
        let mut layout = Layout::default();
        let index = |bucket: usize| ((i64::from(buckets.offset) + bucket as i64) >> scale_down.min(63)) + 1;
        let Some(last) = buckets.counts.len().checked_sub(1).map(index) else { return Ok(layout) };
        let (Ok(first), Ok(_)) = (i32::try_from(index(0)), i32::try_from(last)) else {
            return Err(PointError::BucketOffset { offset: buckets.offset });
        };
        layout.spans.push((first, 0));
        let (mut next_index, mut count_before, mut bucket) = (i64::from(first), 0, 0);
        while bucket < buckets.counts.len() {
            let here = index(bucket);
            let mut count = 0i64;
            while bucket < buckets.counts.len() && index(bucket) == here {
                // A sum past the range is the sender's mistake, which the check of the histogram finds.
                count = count.wrapping_add(buckets.counts[bucket] as i64);
                bucket += 1;
            }
            if count == 0 && here != last {
                continue;
            }
            let gap = here - next_index;
            if gap > GAP_MAX {
                layout.spans.push((gap as i32, 0));
            } else {
                (0..gap).for_each(|_| layout.push(0, &mut count_before));
            }
            layout.push(count, &mut count_before);
            next_index = here + 1;
        }
        Ok(layout)
    }

    fn push(&mut self, count: i64, count_before: &mut i64) {
        self.spans.last_mut().expect("the first span was made with the layout").1 += 1;
        self.deltas.push(count.wrapping_sub(*count_before));
        *count_before = count;
    }

    /// Spans under `number`, deltas under the next one.
    fn put(&self, number: u64, out: &mut Vec<u8>) {
        let mut part = Vec::new();
        for (offset, length) in &self.spans {
            part.clear();
            put_tagged(&mut part, 1, zigzag(i64::from(*offset)));
            put_tagged(&mut part, 2, u64::from(*length));
            put_bytes(out, number, &part);
        }
        if !self.deltas.is_empty() {
            part.clear();
            self.deltas.iter().for_each(|delta| put_varint(&mut part, zigzag(*delta)));
            put_bytes(out, number + 1, &part);
        }
    }
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

fn put_tagged(out: &mut Vec<u8>, number: u64, value: u64) {
    put_varint(out, number << 3);
    put_varint(out, value);
}

fn put_double(out: &mut Vec<u8>, number: u64, value: f64) {
    put_varint(out, number << 3 | 1);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(out, number << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::super::points::Point;
    use super::super::testing::NativeHistogram;
    use super::*;
    use proptest::prelude::*;
    use prost::Message;

    fn layout(offset: i32, counts: &[u64], scale_down: u32) -> (Vec<(i32, u32)>, Vec<i64>) {
        let layout = Layout::of(&Buckets { offset, counts: counts.to_vec() }, scale_down).unwrap();
        (layout.spans, layout.deltas)
    }

    #[test]
    fn buckets_are_laid_out_as_prometheus_does() {
        let far = [4, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let merging = [4, 2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        type Case<'a> = (i32, &'a [u64], u32, &'a [(i32, u32)], &'a [i64]);
        let cases: [Case<'_>; 17] = [
            (0, &[4, 3, 2, 1], 0, &[(1, 4)], &[4, -1, -1, -1]),
            (0, &[4, 3, 2, 1], 1, &[(1, 2)], &[7, -4]),
            (0, &[4, 3, 2, 1], 2, &[(1, 1)], &[10]),
            (1, &[4, 3, 2, 1], 0, &[(2, 4)], &[4, -1, -1, -1]),
            (1, &[4, 3, 2, 1], 1, &[(1, 3)], &[4, 1, -4]),
            (1, &[4, 3, 2, 1], 2, &[(1, 2)], &[9, -8]),
            (4, &far, 0, &[(5, 4), (12, 1)], &[4, -2, -2, 2, -1]),
            (4, &far, 1, &[(3, 2), (6, 1)], &[6, -4, -1]),
            (4, &far, 2, &[(2, 1), (3, 1)], &[8, -7]),
            (4, &merging, 1, &[(3, 2), (4, 1)], &[6, -4, -1]),
            (4, &merging, 2, &[(2, 4)], &[8, -8, 0, 1]),
            (-2, &[3, 1, 0, 0, 0, 1], 0, &[(-1, 2), (3, 1)], &[3, -2, 0]),
            (-2, &[3, 1, 0, 0, 0, 1], 1, &[(0, 3)], &[4, -4, 1]),
            (-2, &[3, 1, 0, 0, 0, 1], 2, &[(0, 2)], &[4, -3]),
            (-2, &[3, 1, 0, 1, 0, 1], 0, &[(-1, 6)], &[3, -2, -1, 1, -1, 1]),
            // Empty buckets at the end keep their place, those at the start are skipped.
            (0, &[4, 0, 0, 0, 0], 0, &[(1, 1), (3, 1)], &[4, -4]),
            (0, &[0, 0, 3, 4], 1, &[(1, 2)], &[0, 7]),
        ];
        for (offset, counts, scale_down, spans, deltas) in cases {
            let expected = (spans.to_vec(), deltas.to_vec());
            assert_eq!(layout(offset, counts, scale_down), expected, "{offset} {counts:?} {scale_down}");
        }
        assert_eq!(layout(7, &[], 0), (vec![], vec![]));
    }

    fn exponential(scale: i32) -> Exponential<'static> {
        Exponential {
            point: Point { time_ns: 5_000_000, ..Point::default() },
            count: 10,
            sum: 2.5,
            scale,
            zero_count: 3,
            positive: Buckets { offset: 0, counts: vec![4, 2] },
            negative: Buckets { offset: -1, counts: vec![1] },
        }
    }

    #[test]
    fn the_message_is_that_of_remote_write() {
        let mut bytes = Vec::new();
        put_native_histogram(&exponential(9), &mut bytes).unwrap();
        let read = NativeHistogram::decode(&*bytes).unwrap();
        assert_eq!((read.count, read.sum, read.schema), (10, 2.5, 8));
        assert_eq!((read.zero_threshold, read.zero_count, read.timestamp_ms), (1e-128, 3, 5));
        assert_eq!((read.positive_spans.len(), read.positive_deltas), (1, vec![6]));
        assert_eq!((read.negative_spans[0].offset, read.negative_deltas), (0, vec![1]));
    }

    #[test]
    fn a_stale_histogram_has_the_marker_as_sum_and_count() {
        let mut stale = exponential(0);
        stale.point.is_stale = true;
        let mut bytes = Vec::new();
        put_native_histogram(&stale, &mut bytes).unwrap();
        let read = NativeHistogram::decode(&*bytes).unwrap();
        assert_eq!((read.count, read.sum.to_bits()), (STALE_NAN_BITS, STALE_NAN_BITS));
    }

    #[test]
    fn scales_and_offsets_that_native_histograms_lack_are_refused() {
        let mut out = Vec::new();
        assert_eq!(put_native_histogram(&exponential(-5), &mut out), Err(PointError::Scale { scale: -5 }));
        let mut far = exponential(0);
        far.positive.offset = i32::MAX;
        let refused = Err(PointError::BucketOffset { offset: i32::MAX });
        assert_eq!(put_native_histogram(&far, &mut out), refused);
        assert!(out.is_empty());
        assert_eq!(put_native_histogram(&exponential(i32::MAX), &mut out), Ok(()));
    }

    proptest! {
        #[test]
        fn no_observation_is_lost_whatever_the_layout(
            offset in -1000..1000i32,
            counts in proptest::collection::vec(prop_oneof![3 => Just(0u64), 1 => 0..100u64], 0..60),
            scale_down in 0..40u32,
        ) {
            let (spans, deltas) = layout(offset, &counts, scale_down);
            let buckets: usize = spans.iter().map(|(_, length)| *length as usize).sum();
            prop_assert_eq!(buckets, deltas.len());
            let absolute = deltas.iter().scan(0, |count, delta| {
                *count += delta;
                Some(*count)
            });
            let indexes = spans.iter().scan(0i64, |next, (gap, length)| {
                let first = *next + i64::from(*gap);
                *next = first + i64::from(*length);
                Some(first..*next)
            });
            let mut found: std::collections::BTreeMap<i64, i64> = indexes.flatten().zip(absolute).collect();
            found.retain(|_, count| *count > 0);
            let mut expected = std::collections::BTreeMap::new();
            for (bucket, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                let index = ((i64::from(offset) + bucket as i64) >> scale_down) + 1;
                *expected.entry(index).or_insert(0) += *count as i64;
            }
            prop_assert_eq!(found, expected);
        }
    }
}
