//! The samples of one series, decoded from its chunks.

use std::sync::Arc;

use annulus_shards::chunk::{self, ResetHint};
use annulus_shards::{Labels, is_stale};

use super::column::{ABSENT, histogram_points};
use super::label_functions::format_labels;
use crate::promql::histogram::{FloatHistogram, detect_reset};
use crate::promql::value::{QueryError, SampleValue, SharedHistogram};
use crate::replicas::{FloatOf, merge_replicas};
use crate::source::{ChunkRef, SourceError, split_replicas};

/// What of a native histogram is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Detail {
    /// All of it.
    #[default]
    Whole,
    /// Count and sum. Where a series has a counter reset has to be found while there are buckets to compare.
    CountAndSum,
}

/// What of a series is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// First and last time, both inclusive.
    pub(super) bounds_ms: (i64, i64),
    /// Stale markers, too.
    pub(super) keep_stale: bool,
    /// What of its histograms.
    pub(super) detail: Detail,
    /// Its floats must not fall where one replica is left for another.
    pub(super) is_counter: bool,
}

/// Samples in order of time, each time once among floats and histograms. A buffer: threads reuse it from series to
/// series.
#[derive(Debug, Default, Clone)]
pub(super) struct Samples {
    /// Times of the floats.
    pub(super) times: Vec<i64>,
    /// Their values; the only NaNs are the stale marker and the quiet NaN. A stale marker among histograms is one here.
    pub(super) values: Vec<f64>,
    /// The histograms and their times.
    pub(super) histograms: Vec<(i64, SharedHistogram)>,
}

impl Samples {
    /// Empties the buffer.
    pub(super) fn clear(&mut self) {
        self.times.clear();
        self.values.clear();
        self.histograms.clear();
    }

    /// What they cost, in floats.
    pub(super) fn points(&self) -> usize {
        let sizes = self.histograms.iter().map(|(_, histogram)| histogram_points(histogram));
        self.times.len() + sizes.sum::<usize>()
    }

    /// Appends a float.
    #[inline]
    pub(super) fn push(&mut self, time_ms: i64, value: f64) {
        self.times.push(time_ms);
        self.values.push(value);
    }

    /// Reads what is wanted from chunks.
    ///
    /// # Errors
    /// When a chunk is corrupt; the error names the series.
    pub(super) fn read(
        &mut self,
        labels: &Labels,
        chunks: &[ChunkRef],
        wanted: &Wanted,
    ) -> Result<(), QueryError> {
        match split_replicas(chunks) {
            None => self.read_one_replica(labels, chunks, wanted)?,
            Some(replicas) => self.read_replicas(labels, &replicas, wanted)?,
        }
        if !wanted.keep_stale {
            self.drop_stale();
        }
        Ok(())
    }

    fn read_one_replica(
        &mut self,
        labels: &Labels,
        chunks: &[ChunkRef],
        &Wanted { bounds_ms, detail, .. }: &Wanted,
    ) -> Result<(), QueryError> {
        let mut is_ordered = self.read_in_order_of_chunks(labels, chunks, bounds_ms, detail)?;
        if !is_ordered && detail == Detail::CountAndSum && !self.histograms.is_empty() {
            // What came before each of them is known only when they are sorted.
            is_ordered = self.read_in_order_of_chunks(labels, chunks, bounds_ms, Detail::Whole)?;
        }
        if !is_ordered {
            self.sort();
            self.find_resets_anew(detail);
        }
        Ok(())
    }

    fn read_replicas(
        &mut self,
        labels: &Labels,
        replicas: &[Vec<ChunkRef>],
        wanted: &Wanted,
    ) -> Result<(), QueryError> {
        let whole = Wanted { detail: Detail::Whole, ..*wanted };
        let mut of_each = Vec::with_capacity(replicas.len());
        for chunks in replicas {
            self.read_one_replica(labels, chunks, &whole)?;
            of_each.push(self.take_in_order());
        }
        let float: FloatOf<SampleValue> = |sample| match sample {
            SampleValue::Float(value) => Some(value),
            SampleValue::Histogram(_) => None,
        };
        self.clear();
        for (time_ms, sample) in merge_replicas(of_each, wanted.is_counter.then_some(float)) {
            match sample {
                SampleValue::Float(value) => self.push(time_ms, value),
                SampleValue::Histogram(histogram) => self.histograms.push((time_ms, histogram)),
            }
        }
        self.find_resets_anew(wanted.detail);
        Ok(())
    }

    /// Takes out floats and histograms as one list.
    fn take_in_order(&mut self) -> Vec<(i64, SampleValue)> {
        let floats = self.times.drain(..).zip(self.values.drain(..));
        let mut all: Vec<_> = floats.map(|(time_ms, value)| (time_ms, SampleValue::Float(value))).collect();
        if !self.histograms.is_empty() {
            let histograms = self.histograms.drain(..);
            all.extend(histograms.map(|(time_ms, one)| (time_ms, SampleValue::Histogram(one))));
            all.sort_by_key(|(time_ms, _)| *time_ms);
        }
        all
    }

    /// Says whether that is their order of time as well.
    fn read_in_order_of_chunks(
        &mut self,
        labels: &Labels,
        chunks: &[ChunkRef],
        bounds_ms: (i64, i64),
        detail: Detail,
    ) -> Result<bool, QueryError> {
        self.clear();
        let (min_ms, max_ms) = bounds_ms;
        let mut order = Order { is_kept: true, last_ms: i64::MIN };
        let mut last = None;
        for chunk in chunks {
            if chunk.max_ms < min_ms || chunk.min_ms > max_ms {
                continue;
            }
            let result = if chunk.encoding.holds_floats() {
                let begin = self.times.len();
                let (times, values) = (&mut self.times, &mut self.values);
                let result = chunk::decode_columns(chunk.encoding, &chunk.bytes, max_ms, times, values);
                self.take_floats(begin, bounds_ms, &mut order);
                result
            } else {
                chunk::decode_values_until(chunk.encoding, &chunk.bytes, max_ms, |time_ms, value| {
                    if time_ms < min_ms || time_ms > max_ms {
                        return;
                    }
                    order.take(time_ms);
                    match float_histogram(value) {
                        Some(histogram) if detail == Detail::CountAndSum => {
                            self.histograms.push((time_ms, Arc::new(count_and_sum(histogram, &mut last))));
                        }
                        Some(histogram) => self.histograms.push((time_ms, Arc::new(histogram))),
                        None => self.push(time_ms, ABSENT),
                    }
                })
            };
            result.map_err(|error| {
                SourceError::Corrupt(format!("series {}: {error}", format_labels(labels.iter())))
            })?;
        }
        Ok(order.is_kept)
    }

    /// Takes in the floats from `begin` on, as a chunk had them: of those within the bounds, every NaN but the stale
    /// marker becomes the quiet one.
    fn take_floats(&mut self, begin: usize, (min_ms, max_ms): (i64, i64), order: &mut Order) {
        let times = &self.times[begin..];
        if times.windows(2).fold(true, |rises, pair| rises & (pair[0] < pair[1])) {
            let early = times.partition_point(|time_ms| *time_ms < min_ms);
            let end = begin + times.partition_point(|time_ms| *time_ms <= max_ms);
            self.times.truncate(end);
            self.values.truncate(end);
            self.times.drain(begin..begin + early);
            self.values.drain(begin..begin + early);
        } else {
            // No encoder of ours writes such a chunk.
            let mut kept = begin;
            for index in begin..self.times.len() {
                if (min_ms..=max_ms).contains(&self.times[index]) {
                    self.times[kept] = self.times[index];
                    self.values[kept] = self.values[index];
                    kept += 1;
                }
            }
            self.times.truncate(kept);
            self.values.truncate(kept);
            order.is_kept = false;
        }
        if let (Some(first_ms), Some(last_ms)) = (self.times.get(begin), self.times.last()) {
            order.take(*first_ms);
            order.last_ms = *last_ms;
        }
        let values = &mut self.values[begin..];
        // Few series have any: a look at all values at once is quicker than one at each.
        if values.iter().fold(false, |found, value| found | value.is_nan()) {
            for value in values.iter_mut().filter(|value| value.is_nan() && !is_stale(**value)) {
                *value = f64::NAN;
            }
        }
    }

    /// Orders samples of overlapping chunks; the sorts are stable, so the first chunk wins at equal times. A float wins
    /// against a histogram.
    fn sort(&mut self) {
        let mut pairs: Vec<(i64, f64)> = self.times.drain(..).zip(self.values.drain(..)).collect();
        pairs.sort_by_key(|(time_ms, _)| *time_ms);
        pairs.dedup_by_key(|(time_ms, _)| *time_ms);
        (self.times, self.values) = pairs.into_iter().unzip();
        self.histograms.sort_by_key(|(time_ms, _)| *time_ms);
        self.histograms.dedup_by_key(|(time_ms, _)| *time_ms);
        self.histograms.retain(|(time_ms, _)| self.times.binary_search(time_ms).is_err());
    }

    /// What chunks say of counter resets is about the sample before in the same chunk, which may not be the one before.
    fn find_resets_anew(&mut self, detail: Detail) {
        let mut last = None;
        for (_, histogram) in &mut self.histograms {
            if !matches!(histogram.reset_hint, ResetHint::Gauge | ResetHint::Unknown) {
                Arc::make_mut(histogram).reset_hint = ResetHint::Unknown;
            }
            if detail == Detail::CountAndSum {
                let whole = Arc::unwrap_or_clone(std::mem::take(histogram));
                *histogram = Arc::new(count_and_sum(whole, &mut last));
            }
        }
    }

    fn drop_stale(&mut self) {
        if !self.values.iter().fold(false, |found, value| found | is_stale(*value)) {
            return;
        }
        let values = &self.values;
        let mut index = 0;
        self.times.retain(|_| {
            index += 1;
            !is_stale(values[index - 1])
        });
        self.values.retain(|value| !is_stale(*value));
    }
}

/// Whether times rise from sample to sample.
struct Order {
    is_kept: bool,
    last_ms: i64,
}

impl Order {
    #[inline]
    fn take(&mut self, time_ms: i64) {
        self.is_kept &= time_ms > self.last_ms;
        self.last_ms = time_ms;
    }
}

/// A histogram with float counts; nothing for a stale marker.
fn float_histogram(value: chunk::Value<'_>) -> Option<FloatHistogram> {
    match value {
        chunk::Value::Histogram(histogram) => (!histogram.is_stale()).then(|| histogram.into()),
        chunk::Value::FloatHistogram(histogram) => (!histogram.is_stale()).then(|| histogram.clone()),
        chunk::Value::Float(_) => None,
    }
}

/// A histogram without buckets, which says whether there was a counter reset since the last one.
fn count_and_sum(histogram: FloatHistogram, last: &mut Option<FloatHistogram>) -> FloatHistogram {
    let reset_hint = match (histogram.reset_hint, &last) {
        (ResetHint::Unknown, Some(last)) if detect_reset(&histogram, last) => ResetHint::Yes,
        (ResetHint::Unknown, Some(_)) => ResetHint::No,
        (hint, _) => hint,
    };
    let FloatHistogram { schema, count, sum, .. } = histogram;
    *last = Some(histogram);
    FloatHistogram { reset_hint, schema, count, sum, ..FloatHistogram::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use annulus_shards::STALE_NAN_BITS;
    use annulus_shards::chunk::{Appended, Buckets, Encoding, FloatHistogramAppender, Span, XorAppender};

    fn chunk(samples: &[(i64, f64)]) -> ChunkRef {
        let mut appender = XorAppender::default();
        for (time_ms, value) in samples {
            appender.append(*time_ms, *value);
        }
        ChunkRef {
            min_ms: samples[0].0,
            max_ms: samples[samples.len() - 1].0,
            encoding: Encoding::Xor,
            bytes: appender.to_bytes().into(),
            replica: 0,
        }
    }

    fn histogram_chunk(samples: &[(i64, FloatHistogram)]) -> ChunkRef {
        let mut appender = FloatHistogramAppender::default();
        for (time_ms, histogram) in samples {
            assert!(!matches!(appender.append(*time_ms, histogram), Ok(Appended::Cut(_)) | Err(_)));
        }
        let (min_ms, max_ms) = (samples[0].0, samples[samples.len() - 1].0);
        let bytes = appender.seal().into();
        ChunkRef { min_ms, max_ms, encoding: Encoding::FloatHistogram, bytes, replica: 0 }
    }

    /// A histogram with one bucket in use.
    fn histogram(index: i32, count: f64) -> FloatHistogram {
        let positive = Buckets { spans: vec![Span { offset: index, length: 1 }], values: vec![count] };
        FloatHistogram { count, sum: count, positive, ..FloatHistogram::default() }
    }

    fn read_all(chunks: &[ChunkRef], range: (i64, i64), keep_stale: bool, detail: Detail) -> Samples {
        let mut samples = Samples::default();
        let wanted = Wanted { bounds_ms: range, keep_stale, detail, is_counter: false };
        samples.read(&Labels::empty(), chunks, &wanted).unwrap();
        samples
    }

    fn read(chunks: &[ChunkRef], range: (i64, i64), keep_stale: bool) -> Vec<(i64, f64)> {
        let samples = read_all(chunks, range, keep_stale, Detail::Whole);
        samples.times.into_iter().zip(samples.values).collect()
    }

    #[test]
    fn only_samples_of_the_range_are_kept() {
        let chunks = [chunk(&[(0, 0.0), (10, 1.0)]), chunk(&[(20, 2.0), (30, 3.0)]), chunk(&[(40, 4.0)])];
        assert_eq!(read(&chunks, (10, 20), true), [(10, 1.0), (20, 2.0)]);
    }

    #[test]
    fn floats_and_histograms_may_alternate() {
        let stale = FloatHistogram::stale();
        let histograms = histogram_chunk(&[(10, histogram(0, 1.0)), (20, histogram(0, 2.0)), (30, stale)]);
        let chunks = [chunk(&[(0, 0.0)]), histograms, chunk(&[(40, 4.0)])];
        let samples = read_all(&chunks, (0, 100), true, Detail::Whole);
        assert_eq!(samples.times, [0, 30, 40]);
        assert!(is_stale(samples.values[1]));
        let histograms: Vec<_> =
            samples.histograms.iter().map(|(time_ms, one)| (*time_ms, one.count)).collect();
        assert_eq!(histograms, [(10, 1.0), (20, 2.0)]);
        assert!(samples.points() > 3 + 2);
        let samples = read_all(&chunks, (11, 39), false, Detail::Whole);
        assert_eq!((samples.times.len(), samples.histograms.len()), (0, 1));
    }

    #[test]
    fn overlapping_chunks_of_both_kinds_yield_each_time_once() {
        let histograms =
            histogram_chunk(&[(0, histogram(0, 1.0)), (10, histogram(0, 2.0)), (20, histogram(0, 3.0))]);
        let chunks =
            [histograms, chunk(&[(10, 1.0), (30, 3.0)]), histogram_chunk(&[(20, histogram(0, 9.0))])];
        let samples = read_all(&chunks, (0, 100), true, Detail::Whole);
        assert_eq!(samples.times, [10, 30]);
        let histograms: Vec<_> =
            samples.histograms.iter().map(|(time_ms, one)| (*time_ms, one.count)).collect();
        assert_eq!(histograms, [(0, 1.0), (20, 3.0)]);
    }

    #[test]
    fn resets_are_found_before_buckets_are_left_out() {
        let chunks = [
            histogram_chunk(&[(0, histogram(0, 1.0)), (10, histogram(0, 2.0))]),
            // More observations, but the bucket in use before is gone.
            histogram_chunk(&[(20, histogram(3, 5.0))]),
            histogram_chunk(&[(30, histogram(3, 6.0))]),
        ];
        let samples = read_all(&chunks, (0, 100), true, Detail::CountAndSum);
        let hints: Vec<_> = samples.histograms.iter().map(|(_, one)| one.reset_hint).collect();
        assert_eq!(hints, [ResetHint::Unknown, ResetHint::No, ResetHint::Yes, ResetHint::No]);
        assert!(samples.histograms.iter().all(|(_, one)| one.positive.values.is_empty() && one.count > 0.0));
    }

    #[test]
    fn resets_are_found_where_chunks_overlap() {
        let chunks = [
            histogram_chunk(&[(10, histogram(0, 10.0)), (30, histogram(0, 20.0))]),
            histogram_chunk(&[(20, histogram(0, 100.0))]),
        ];
        let hints = |detail| {
            let samples = read_all(&chunks, (0, 100), true, detail);
            samples.histograms.iter().map(|(time_ms, one)| (*time_ms, one.reset_hint)).collect::<Vec<_>>()
        };
        let (unknown, no, yes) = (ResetHint::Unknown, ResetHint::No, ResetHint::Yes);
        assert_eq!(hints(Detail::Whole), [(10, unknown), (20, unknown), (30, unknown)]);
        assert_eq!(hints(Detail::CountAndSum), [(10, unknown), (20, no), (30, yes)]);
    }

    fn of_replica(replica: u64, chunk: ChunkRef) -> ChunkRef {
        ChunkRef { replica, ..chunk }
    }

    #[test]
    fn replicas_are_not_mixed() {
        let every = |from_ms: i64, value: f64| -> Vec<(i64, f64)> {
            (0..20).map(|at| (from_ms + at * 15_000, value)).collect()
        };
        let (a, b) = (every(0, 1.0), every(3_000, 2.0));
        let of = |replica, samples: &[(i64, f64)]| of_replica(replica, chunk(samples));
        let chunks = [of(1, &a[..10]), of(2, &b[..10]), of(1, &a[10..]), of(2, &b[10..])];
        assert_eq!(read(&chunks, (0, 300_000), true), a);
    }

    #[test]
    fn a_counter_does_not_fall_where_the_replica_changes() {
        let (a, b) = (chunk(&[(0, 100.0), (10_000, 101.0)]), chunk(&[(44_000, 7.0), (54_000, 8.0)]));
        let chunks = [of_replica(1, a), of_replica(2, b)];
        let read = |is_counter| {
            let wanted =
                Wanted { bounds_ms: (0, 99_000), keep_stale: false, detail: Detail::Whole, is_counter };
            let mut samples = Samples::default();
            samples.read(&Labels::empty(), &chunks, &wanted).unwrap();
            samples.values
        };
        assert_eq!(read(true), [100.0, 101.0, 101.0, 102.0]);
        assert_eq!(read(false), [100.0, 101.0, 7.0, 8.0]);
    }

    #[test]
    fn resets_of_histograms_are_found_across_replicas() {
        let a = histogram_chunk(&[(0, histogram(0, 100.0)), (10_000, histogram(0, 101.0))]);
        let b = histogram_chunk(&[(34_000, histogram(0, 7.0)), (44_000, histogram(0, 8.0))]);
        let chunks = [of_replica(1, a), of_replica(2, b)];
        let samples = read_all(&chunks, (0, 100_000), true, Detail::CountAndSum);
        let hints: Vec<_> = samples.histograms.iter().map(|(_, one)| one.reset_hint).collect();
        assert_eq!(hints, [ResetHint::Unknown, ResetHint::No, ResetHint::Yes, ResetHint::No]);
    }

    #[test]
    fn the_first_of_two_overlapping_chunks_wins() {
        let chunks = [chunk(&[(0, 0.0), (20, 2.0), (40, 4.0)]), chunk(&[(10, 1.0), (20, -2.0)])];
        assert_eq!(read(&chunks, (0, 100), true), [(0, 0.0), (10, 1.0), (20, 2.0), (40, 4.0)]);
    }

    #[test]
    fn samples_of_a_chunk_whose_times_fall_are_ordered() {
        let falling =
            ChunkRef { min_ms: 10, max_ms: 30, ..chunk(&[(30, 3.0), (10, 1.0), (20, 2.0), (60, 6.0)]) };
        assert_eq!(read(&[falling], (10, 40), true), [(10, 1.0), (20, 2.0), (30, 3.0)]);
    }

    #[test]
    fn every_nan_but_the_stale_marker_becomes_the_quiet_one() {
        let (stale, odd) = (f64::from_bits(STALE_NAN_BITS), f64::from_bits(f64::NAN.to_bits() ^ 5));
        let samples = read(&[chunk(&[(0, 1.0), (10, odd), (20, stale)])], (0, 100), true);
        let bits: Vec<u64> = samples.iter().map(|(_, value)| value.to_bits()).collect();
        assert_eq!(bits, [1f64.to_bits(), f64::NAN.to_bits(), STALE_NAN_BITS]);
    }

    #[test]
    fn stale_markers_go_unless_wanted() {
        let stale = f64::from_bits(STALE_NAN_BITS);
        let chunks = [chunk(&[(0, 0.0), (10, stale), (20, 2.0)])];
        assert_eq!(read(&chunks, (0, 100), false), [(0, 0.0), (20, 2.0)]);
        assert_eq!(read(&chunks, (0, 100), true).len(), 3);
    }

    #[test]
    fn a_corrupt_chunk_is_an_error_that_names_the_series() {
        let mut bad = chunk(&[(0, 0.0), (10, 1.0)]);
        bad.bytes.truncate(8);
        let labels = Labels::from_pairs([("__name__", "broken")]);
        let wanted =
            Wanted { bounds_ms: (0, 100), keep_stale: true, detail: Detail::Whole, is_counter: false };
        let error = Samples::default().read(&labels, &[bad], &wanted).unwrap_err();
        assert!(error.to_string().contains("broken"), "{error}");
    }
}
