//! The chunks of one series in one window. Pure.
//!
//! A chunk that overlaps no other and lies inside the window is copied as it is. The others are decoded, merged by
//! time and encoded again. Floats and the two kinds of histograms stay what they are: a chunk ends where the kind
//! changes.

use std::borrow::Cow;
use std::ops::Range;

use annulus_shards::chunk::{
    Appended, ChunkError, Encoding, FloatHistogram, FloatHistogramAppender, Histogram, HistogramAppender,
    HistogramError, ResetHint, Value, XorAppender, decode_values,
};

use super::chunk_list::RawChunk;

/// Samples of a chunk that is encoded here, as in Prometheus.
const CHUNK_SAMPLES_MAX: u16 = 120;

/// A chunk of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedChunk<'a> {
    /// Time of its first sample.
    pub min_ms: i64,
    /// Time of its last sample.
    pub max_ms: i64,
    /// How it is encoded.
    pub encoding: Encoding,
    /// Without encoding byte and checksum.
    pub bytes: Cow<'a, [u8]>,
}

/// Why a chunk is left out, or a sample of it.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It cannot be decoded.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// A histogram in it cannot be encoded again.
    #[error(transparent)]
    Histogram(#[from] HistogramError),
}

/// What a series has in `range`: chunks in order of time that do not overlap. Of samples with the same time the one
/// counts whose chunk begins first, and of such chunks the one that comes first in `chunks`. Calls `lose` for each
/// chunk that has to be left out.
pub fn merge<'a>(
    mut chunks: Vec<RawChunk<'a>>,
    range: &Range<i64>,
    lose: &mut dyn FnMut(&RawChunk<'a>, &Unusable),
) -> Vec<MergedChunk<'a>> {
    chunks.retain(|chunk| chunk.max_ms >= range.start && chunk.min_ms < range.end);
    // Stable: of chunks that begin together the first stays the first.
    chunks.sort_by_key(|chunk| chunk.min_ms);
    let mut merged = Vec::with_capacity(chunks.len());
    let mut rest = chunks.as_slice();
    while !rest.is_empty() {
        let (group, after) = rest.split_at(overlapping_len(rest));
        match group {
            [chunk] if range.start <= chunk.min_ms && chunk.max_ms < range.end => merged.push(copied(chunk)),
            _ => encode_again(group, range, lose, &mut merged),
        }
        rest = after;
    }
    merged
}

/// How many chunks from the first one on overlap the ones before them.
fn overlapping_len(sorted: &[RawChunk<'_>]) -> usize {
    let mut reach_ms = i64::MIN;
    let joins = |at: usize| {
        let joins = at == 0 || sorted[at].min_ms <= reach_ms;
        reach_ms = reach_ms.max(sorted[at].max_ms);
        joins
    };
    let mut joins = joins;
    (0..sorted.len()).take_while(|at| joins(*at)).count()
}

fn copied<'a>(chunk: &RawChunk<'a>) -> MergedChunk<'a> {
    let RawChunk { min_ms, max_ms, encoding, bytes } = *chunk;
    MergedChunk { min_ms, max_ms, encoding, bytes: Cow::Borrowed(bytes) }
}

/// A sample of any kind.
enum Sample {
    Float(f64),
    Histogram(Box<Histogram>),
    FloatHistogram(Box<FloatHistogram>),
}

impl Sample {
    /// Counter resets are looked for again among the merged samples, so what the chunk said about them is dropped.
    fn new(value: Value<'_>) -> Sample {
        let unknown = |hint| if hint == ResetHint::Gauge { hint } else { ResetHint::Unknown };
        match value {
            Value::Float(value) => Sample::Float(value),
            Value::Histogram(histogram) => {
                let reset_hint = unknown(histogram.reset_hint);
                Sample::Histogram(Box::new(Histogram { reset_hint, ..histogram.clone() }))
            }
            Value::FloatHistogram(histogram) => {
                let reset_hint = unknown(histogram.reset_hint);
                Sample::FloatHistogram(Box::new(FloatHistogram { reset_hint, ..histogram.clone() }))
            }
        }
    }
}

fn encode_again<'a>(
    group: &[RawChunk<'a>],
    range: &Range<i64>,
    lose: &mut dyn FnMut(&RawChunk<'a>, &Unusable),
    merged: &mut Vec<MergedChunk<'a>>,
) {
    let mut samples: Vec<(i64, u32, Sample)> = Vec::new();
    for (number, chunk) in (0..).zip(group) {
        let before = samples.len();
        let decoded = decode_values(chunk.encoding, chunk.bytes, |time_ms, value| {
            if range.contains(&time_ms) {
                samples.push((time_ms, number, Sample::new(value)));
            }
        });
        if let Err(error) = decoded {
            samples.truncate(before);
            lose(chunk, &error.into());
        }
    }
    // Stable: at equal times the sample of the first chunk comes first, and stays.
    samples.sort_by_key(|(time_ms, ..)| *time_ms);
    samples.dedup_by_key(|(time_ms, ..)| *time_ms);
    let mut encoder = Encoder { open: Open::None, first_ms: 0, last_ms: 0, count: 0, merged };
    for (time_ms, number, sample) in samples {
        if let Err(error) = encoder.push(time_ms, sample) {
            lose(&group[number as usize], &error.into());
        }
    }
    encoder.seal();
}

/// Writes samples into chunks.
struct Encoder<'a, 'm> {
    open: Open,
    /// Time of the first sample of the open chunk.
    first_ms: i64,
    last_ms: i64,
    /// Samples of the open chunk.
    count: u16,
    merged: &'m mut Vec<MergedChunk<'a>>,
}

/// The chunk that is written to.
enum Open {
    None,
    Floats(XorAppender),
    Histograms(Box<HistogramAppender>),
    FloatHistograms(Box<FloatHistogramAppender>),
}

impl Encoder<'_, '_> {
    /// Appends a sample that is newer than those before it. An error leaves everything as it was.
    fn push(&mut self, time_ms: i64, sample: Sample) -> Result<(), HistogramError> {
        if self.count == CHUNK_SAMPLES_MAX {
            self.seal();
        }
        let appended = match (&mut self.open, &sample) {
            (Open::Floats(open), Sample::Float(value)) => {
                open.append(time_ms, *value);
                Appended::AsIs
            }
            (Open::Histograms(open), Sample::Histogram(value)) => open.append(time_ms, value)?,
            (Open::FloatHistograms(open), Sample::FloatHistogram(value)) => open.append(time_ms, value)?,
            _ => {
                self.seal();
                self.open = match &sample {
                    Sample::Float(_) => Open::Floats(XorAppender::default()),
                    Sample::Histogram(_) => Open::Histograms(Box::default()),
                    Sample::FloatHistogram(_) => Open::FloatHistograms(Box::default()),
                };
                return self.push(time_ms, sample);
            }
        };
        if let Appended::Cut(finished) = appended {
            self.finish(finished);
        }
        if self.count == 0 {
            self.first_ms = time_ms;
        }
        self.last_ms = time_ms;
        self.count += 1;
        Ok(())
    }

    /// Finishes the open chunk. What comes next is compared with it, if it is of the same kind: the header of a chunk
    /// of histograms says whether a counter was reset before it.
    fn seal(&mut self) {
        if self.count == 0 {
            return;
        }
        let bytes = match &mut self.open {
            Open::None => return,
            Open::Floats(open) => open.seal(),
            Open::Histograms(open) => open.seal(),
            Open::FloatHistograms(open) => open.seal(),
        };
        self.finish(bytes);
    }

    fn finish(&mut self, bytes: Box<[u8]>) {
        let encoding = match &self.open {
            Open::None | Open::Floats(_) => Encoding::Xor,
            Open::Histograms(_) => Encoding::Histogram,
            Open::FloatHistograms(_) => Encoding::FloatHistogram,
        };
        let bytes = Cow::Owned(bytes.into_vec());
        self.merged.push(MergedChunk { min_ms: self.first_ms, max_ms: self.last_ms, encoding, bytes });
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use annulus_shards::chunk::{Buckets, Span, decode};
    use proptest::prelude::*;

    use super::*;

    /// The samples of one chunk, sorted.
    type Samples = Vec<(i64, f64)>;

    fn xor(samples: &Samples) -> Box<[u8]> {
        let mut appender = XorAppender::default();
        for (time_ms, value) in samples {
            appender.append(*time_ms, *value);
        }
        appender.seal()
    }

    fn raw<'a>(samples: &Samples, bytes: &'a [u8]) -> RawChunk<'a> {
        RawChunk {
            min_ms: samples[0].0,
            max_ms: samples[samples.len() - 1].0,
            encoding: Encoding::Xor,
            bytes,
        }
    }

    fn never(chunk: &RawChunk<'_>, error: &Unusable) {
        panic!("{chunk:?}: {error}");
    }

    /// What a chunk holds, checked against what it says.
    fn samples_of(chunk: &MergedChunk<'_>) -> Samples {
        let mut samples = Samples::new();
        decode(chunk.encoding, &chunk.bytes, |time_ms, value| samples.push((time_ms, value))).unwrap();
        assert_eq!((samples[0].0, samples[samples.len() - 1].0), (chunk.min_ms, chunk.max_ms));
        samples
    }

    fn histogram(count: u64) -> Histogram {
        let buckets = Buckets { spans: vec![Span { offset: 0, length: 1 }], values: vec![count as i64] };
        Histogram { count, sum: count as f64, positive: buckets, ..Histogram::default() }
    }

    fn histograms(samples: &[(i64, u64)]) -> (i64, i64, Box<[u8]>) {
        let mut appender = HistogramAppender::default();
        for (time_ms, count) in samples {
            assert_eq!(appender.append(*time_ms, &histogram(*count)).unwrap(), Appended::AsIs);
        }
        (samples[0].0, samples[samples.len() - 1].0, appender.seal())
    }

    #[test]
    fn a_chunk_that_overlaps_nothing_is_copied() {
        let samples = vec![(0, 1.0), (99, 2.0)];
        let bytes = xor(&samples);
        // Bytes that nothing could decode show that nothing tries to.
        let odd = RawChunk { min_ms: 100, max_ms: 199, encoding: Encoding::Histogram, bytes: b"odd" };
        let merged = merge(vec![odd, raw(&samples, &bytes)], &(0..200), &mut never);
        assert_eq!(merged, [copied(&raw(&samples, &bytes)), copied(&odd)]);
        assert!(matches!(merged[0].bytes, Cow::Borrowed(_)));
    }

    #[test]
    fn of_equal_times_the_first_chunk_counts() {
        let (one, other) = (vec![(10, 1.0), (30, 1.0)], vec![(10, 2.0), (20, 2.0), (30, 2.0), (40, 2.0)]);
        let (one_bytes, other_bytes) = (xor(&one), xor(&other));
        let merged = merge(vec![raw(&one, &one_bytes), raw(&other, &other_bytes)], &(0..100), &mut never);
        assert_eq!(samples_of(&merged[0]), [(10, 1.0), (20, 2.0), (30, 1.0), (40, 2.0)]);
    }

    #[test]
    fn a_chunk_that_cannot_be_decoded_is_left_out_alone() {
        let samples = vec![(10, 1.0), (30, 1.0)];
        let bytes = xor(&samples);
        let broken = RawChunk { min_ms: 20, max_ms: 25, encoding: Encoding::Xor, bytes: b"\0\x07x" };
        let mut lost = Vec::new();
        let merged = merge(vec![raw(&samples, &bytes), broken], &(0..100), &mut |chunk, _| lost.push(*chunk));
        assert_eq!(lost, [broken]);
        assert_eq!(merged.iter().map(samples_of).collect::<Vec<_>>(), [samples]);
    }

    #[test]
    fn kinds_of_samples_stay_apart() {
        let (min_ms, max_ms, bytes) = histograms(&[(10, 1), (30, 4), (50, 5)]);
        let counts = RawChunk { min_ms, max_ms, encoding: Encoding::Histogram, bytes: &bytes };
        let floats = vec![(20, 1.0), (30, 1.0)];
        let float_bytes = xor(&floats);
        let merged = merge(vec![counts, raw(&floats, &float_bytes)], &(0..50), &mut never);
        let times: Vec<_> = merged.iter().map(|chunk| (chunk.encoding, chunk.min_ms, chunk.max_ms)).collect();
        let expected =
            [(Encoding::Histogram, 10, 10), (Encoding::Xor, 20, 20), (Encoding::Histogram, 30, 30)];
        assert_eq!(times, expected);
    }

    #[test]
    fn counter_resets_are_found_among_merged_histograms() {
        let (min_ms, max_ms, bytes) = histograms(&[(10, 5), (30, 6)]);
        let (late_min_ms, late_max_ms, late_bytes) = histograms(&[(20, 1), (40, 7)]);
        let encoding = Encoding::Histogram;
        let chunks = vec![
            RawChunk { min_ms, max_ms, encoding, bytes: &bytes },
            RawChunk { min_ms: late_min_ms, max_ms: late_max_ms, encoding, bytes: &late_bytes },
        ];
        let mut read = Vec::new();
        for chunk in merge(chunks, &(0..100), &mut never) {
            let mut counts = Vec::new();
            decode_values(chunk.encoding, &chunk.bytes, |time_ms, value| match value {
                Value::Histogram(histogram) => counts.push((time_ms, histogram.count)),
                _ => panic!("not a histogram"),
            })
            .unwrap();
            // After the number of samples, two bits of the header say what is known about a reset.
            read.push((chunk.bytes[2] >> 6, counts));
        }
        const UNKNOWN: u8 = 0b00;
        const RESET: u8 = 0b10;
        assert_eq!(read, [(UNKNOWN, vec![(10, 5)]), (RESET, vec![(20, 1), (30, 6), (40, 7)])]);
    }

    fn any_chunk() -> impl Strategy<Value = Samples> {
        let from_ms = -500i64..500;
        let steps = proptest::collection::vec((1i64..20, any::<f64>()), 1..300);
        (from_ms, steps).prop_map(|(from_ms, steps)| {
            let mut time_ms = from_ms;
            let sample = |(step_ms, value)| {
                time_ms += step_ms;
                (time_ms, value)
            };
            steps.into_iter().map(sample).collect()
        })
    }

    proptest! {
        #[test]
        fn every_sample_of_the_range_is_there_once(
            mut chunks in proptest::collection::vec(any_chunk(), 0..8),
            from_ms in -600i64..600,
            length_ms in 1i64..3_000,
        ) {
            let range = from_ms..from_ms + length_ms;
            let encoded: Vec<_> = chunks.iter().map(xor).collect();
            let raw_chunks = chunks.iter().zip(&encoded).map(|(samples, bytes)| raw(samples, bytes)).collect();
            let merged = merge(raw_chunks, &range, &mut never);
            prop_assert!(merged.windows(2).all(|pair| pair[0].max_ms < pair[1].min_ms));
            let is_copy = |chunk: &MergedChunk<'_>| matches!(chunk.bytes, Cow::Borrowed(_));
            let short = |chunk: &MergedChunk<'_>| samples_of(chunk).len() <= usize::from(CHUNK_SAMPLES_MAX);
            prop_assert!(merged.iter().all(|chunk| is_copy(chunk) || short(chunk)));
            let got: Vec<_> =
                merged.iter().flat_map(samples_of).map(|(time_ms, value)| (time_ms, value.to_bits())).collect();
            chunks.sort_by_key(|samples| samples[0].0);
            let mut expected = BTreeMap::new();
            for (time_ms, value) in chunks.iter().flatten().filter(|(time_ms, _)| range.contains(time_ms)) {
                expected.entry(*time_ms).or_insert(value.to_bits());
            }
            prop_assert_eq!(got, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
