//! The samples of a series in order of time, whatever its chunks are, and chunks that clients can read one after the
//! other.

use annulus_shards::chunk::{
    Appended, Buckets, ChunkError, Encoding, FloatHistogram, FloatHistogramAppender, Histogram,
    HistogramAppender, HistogramError, ResetHint, Value, XorAppender, decode_values,
};
use bytes::Bytes;

use crate::replicas::merge_replicas;
use crate::source::{ChunkRef, SourceError, split_replicas};

/// Samples of a chunk that is made here, as in Prometheus.
const CHUNK_SAMPLES_MAX: usize = 120;

/// A sample of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Sample {
    /// A float.
    Float(f64),
    /// A native histogram with integer counts.
    Histogram(Box<Histogram>),
    /// A native histogram with float counts.
    FloatHistogram(Box<FloatHistogram>),
}

/// How much is decoded between two questions whether to go on.
const UNASKED_BYTES_MAX: usize = 1 << 20;

/// The samples of chunks within times, both inclusive, in order; of several at one time that of the first chunk. Of
/// several replicas one is followed at a time. As they become more, `go_on` is asked with the memory that they take.
pub fn samples<E: From<SourceError>>(
    chunks: &[ChunkRef],
    times: (i64, i64),
    mut go_on: impl FnMut(usize) -> Result<(), E>,
) -> Result<Vec<(i64, Sample)>, E> {
    let Some(replicas) = split_replicas(chunks) else { return samples_of_one(chunks, times, go_on) };
    let (mut each, mut bytes_before) = (Vec::with_capacity(replicas.len()), 0);
    for chunks in &replicas {
        let mut bytes = 0;
        let go_on = |more: usize| {
            bytes = more;
            go_on(bytes_before + more)
        };
        each.push(samples_of_one(chunks, times, go_on)?);
        bytes_before += bytes;
    }
    let mut samples = merge_replicas(each, None);
    samples.iter_mut().for_each(|(_, sample)| forget_reset(sample));
    Ok(samples)
}

fn samples_of_one<E: From<SourceError>>(
    chunks: &[ChunkRef],
    (min_ms, max_ms): (i64, i64),
    mut go_on: impl FnMut(usize) -> Result<(), E>,
) -> Result<Vec<(i64, Sample)>, E> {
    let mut samples: Vec<(i64, Sample)> = Vec::new();
    let (mut bytes, mut asked_bytes) = (0, 0);
    for chunk in chunks {
        let mut answer = Ok(());
        let each = |time_ms, value: Value<'_>| {
            // A chunk cannot be left half read, but what comes after a no is not kept.
            if answer.is_err() || !(min_ms..=max_ms).contains(&time_ms) {
                return;
            }
            bytes += size_of::<(i64, Sample)>() + held_bytes(&value);
            if bytes - asked_bytes > UNASKED_BYTES_MAX {
                asked_bytes = bytes;
                answer = go_on(bytes);
            }
            samples.push((time_ms, owned(value)));
        };
        decode_values(chunk.encoding, &chunk.bytes, each).map_err(corrupt)?;
        answer?;
    }
    go_on(bytes)?;
    if !samples.is_sorted_by(|a, b| a.0 < b.0) {
        samples.sort_by_key(|(time_ms, _)| *time_ms); // Stable: the first chunk's sample stays first.
        samples.dedup_by_key(|(time_ms, _)| *time_ms);
        samples.iter_mut().for_each(|(_, sample)| forget_reset(sample));
    }
    Ok(samples)
}

/// What a chunk says of a counter reset is about the sample before in the same chunk, which may not be the one before.
fn forget_reset(sample: &mut Sample) {
    let hint = match sample {
        Sample::Float(_) => return,
        Sample::Histogram(histogram) => &mut histogram.reset_hint,
        Sample::FloatHistogram(histogram) => &mut histogram.reset_hint,
    };
    if *hint != ResetHint::Gauge {
        *hint = ResetHint::Unknown;
    }
}

/// The chunks of a series such that none overlaps another and every client knows their encoding. Those that are so
/// already are passed on as they are.
pub fn readable_chunks(chunks: &[ChunkRef]) -> Result<Vec<ChunkRef>, SourceError> {
    if split_replicas(chunks).is_some() {
        return encode(&samples::<SourceError>(chunks, (i64::MIN, i64::MAX), |_| Ok(()))?);
    }
    let mut readable = Vec::with_capacity(chunks.len());
    let mut rest = chunks;
    while let Some(first) = rest.first() {
        let mut max_ms = first.max_ms;
        let overlap = rest[1..].iter().take_while(|next| {
            let overlaps = next.min_ms <= max_ms;
            max_ms = max_ms.max(next.max_ms);
            overlaps
        });
        let (run, after) = rest.split_at(1 + overlap.count());
        if run.len() == 1 && is_known(first.encoding) {
            readable.push(first.clone());
        } else {
            let samples = samples::<SourceError>(run, (i64::MIN, i64::MAX), |_| Ok(()))?;
            readable.extend(encode(&samples)?);
        }
        rest = after;
    }
    Ok(readable)
}

/// Whether clients of remote read know the encoding.
fn is_known(encoding: Encoding) -> bool {
    match encoding {
        Encoding::Xor | Encoding::Histogram | Encoding::FloatHistogram => true,
        Encoding::Xor2 | Encoding::HistogramSt | Encoding::FloatHistogramSt => false,
    }
}

fn corrupt(error: ChunkError) -> SourceError {
    SourceError::Corrupt(error.to_string())
}

/// What a sample takes beside its place in the list.
fn held_bytes(value: &Value<'_>) -> usize {
    fn buckets<T>(all: [&Buckets<T>; 2]) -> usize {
        all.iter().map(|one| size_of_val(one.spans.as_slice()) + size_of_val(one.values.as_slice())).sum()
    }
    match value {
        Value::Float(_) => 0,
        Value::Histogram(one) => {
            size_of::<Histogram>()
                + buckets([&one.positive, &one.negative])
                + size_of_val(one.custom_values.as_slice())
        }
        Value::FloatHistogram(one) => {
            size_of::<FloatHistogram>()
                + buckets([&one.positive, &one.negative])
                + size_of_val(one.custom_values.as_slice())
        }
    }
}

fn owned(value: Value<'_>) -> Sample {
    match value {
        Value::Float(value) => Sample::Float(value),
        Value::Histogram(histogram) => Sample::Histogram(Box::new(histogram.clone())),
        Value::FloatHistogram(histogram) => Sample::FloatHistogram(Box::new(histogram.clone())),
    }
}

/// Chunks of one kind of sample each.
fn encode(samples: &[(i64, Sample)]) -> Result<Vec<ChunkRef>, SourceError> {
    let same_kind =
        |a: &(i64, Sample), b: &(i64, Sample)| std::mem::discriminant(&a.1) == std::mem::discriminant(&b.1);
    let mut chunks = Vec::new();
    for run in samples.chunk_by(same_kind) {
        for part in run.chunks(CHUNK_SAMPLES_MAX) {
            encode_part(part, &mut chunks)?;
        }
    }
    Ok(chunks)
}

/// Encodes a few samples of one kind. Histograms may need more than one chunk.
fn encode_part(part: &[(i64, Sample)], chunks: &mut Vec<ChunkRef>) -> Result<(), SourceError> {
    let Some((first_ms, first)) = part.first() else { return Ok(()) };
    let mut open = Open { first_ms: *first_ms, last_ms: *first_ms, chunks };
    match first {
        Sample::Float(_) => {
            let mut appender = XorAppender::default();
            for (time_ms, sample) in part {
                let Sample::Float(value) = sample else { continue };
                appender.append(*time_ms, *value);
                open.last_ms = *time_ms;
            }
            open.close(Encoding::Xor, appender.seal());
        }
        Sample::Histogram(_) => {
            let mut appender = HistogramAppender::default();
            for (time_ms, sample) in part {
                let Sample::Histogram(histogram) = sample else { continue };
                open.appended(Encoding::Histogram, *time_ms, appender.append(*time_ms, histogram))?;
            }
            open.close(Encoding::Histogram, appender.seal());
        }
        Sample::FloatHistogram(_) => {
            let mut appender = FloatHistogramAppender::default();
            for (time_ms, sample) in part {
                let Sample::FloatHistogram(histogram) = sample else { continue };
                open.appended(Encoding::FloatHistogram, *time_ms, appender.append(*time_ms, histogram))?;
            }
            open.close(Encoding::FloatHistogram, appender.seal());
        }
    }
    Ok(())
}

/// The chunk that is being made.
struct Open<'a> {
    first_ms: i64,
    last_ms: i64,
    chunks: &'a mut Vec<ChunkRef>,
}

impl Open<'_> {
    /// Takes what an appender made of a histogram, which may have begun a chunk of its own.
    fn appended(
        &mut self,
        encoding: Encoding,
        time_ms: i64,
        appended: Result<Appended, HistogramError>,
    ) -> Result<(), SourceError> {
        if let Appended::Cut(bytes) = appended.map_err(|error| SourceError::Corrupt(error.to_string()))? {
            self.close(encoding, bytes);
            self.first_ms = time_ms;
        }
        self.last_ms = time_ms;
        Ok(())
    }

    fn close(&mut self, encoding: Encoding, bytes: Box<[u8]>) {
        let (min_ms, max_ms, bytes) = (self.first_ms, self.last_ms, Bytes::from(bytes));
        self.chunks.push(ChunkRef { min_ms, max_ms, encoding, bytes, replica: 0 });
    }
}

#[cfg(test)]
mod tests {
    use annulus_shards::chunk::Span;
    use proptest::prelude::*;

    use super::*;

    fn histogram(count: u64) -> Sample {
        let span = Span { offset: 0, length: 1 };
        Sample::Histogram(Box::new(Histogram {
            schema: 0,
            count,
            sum: count as f64,
            positive: Buckets { spans: vec![span], values: vec![i64::try_from(count).unwrap()] },
            ..Histogram::default()
        }))
    }

    fn float_histogram(count: u64) -> Sample {
        let Sample::Histogram(histogram) = histogram(count) else { unreachable!("it was made as one") };
        Sample::FloatHistogram(Box::new(FloatHistogram::from(&*histogram)))
    }

    /// Samples without what a chunk knows of their neighbours.
    fn plain(samples: Vec<(i64, Sample)>) -> Vec<(i64, Sample)> {
        let plain = |sample: Sample| match sample {
            Sample::Histogram(mut histogram) => {
                histogram.reset_hint = ResetHint::Unknown;
                Sample::Histogram(histogram)
            }
            Sample::FloatHistogram(mut histogram) => {
                histogram.reset_hint = ResetHint::Unknown;
                Sample::FloatHistogram(histogram)
            }
            float => float,
        };
        samples.into_iter().map(|(time_ms, sample)| (time_ms, plain(sample))).collect()
    }

    /// All that is asked for, whatever it takes.
    fn samples(chunks: &[ChunkRef], times_ms: (i64, i64)) -> Result<Vec<(i64, Sample)>, SourceError> {
        super::samples(chunks, times_ms, |_| Ok(()))
    }

    const ALL: (i64, i64) = (i64::MIN, i64::MAX);

    #[test]
    fn chunks_that_follow_each_other_are_passed_on() {
        let chunks =
            [encode(&[(1, Sample::Float(1.0))]).unwrap(), encode(&[(2, histogram(5))]).unwrap()].concat();
        let readable = readable_chunks(&chunks).unwrap();
        let pointers =
            |chunks: &[ChunkRef]| chunks.iter().map(|chunk| chunk.bytes.as_ptr()).collect::<Vec<_>>();
        assert_eq!(pointers(&readable), pointers(&chunks));
    }

    #[test]
    fn only_what_is_asked_for_is_read_and_the_first_of_equal_times_wins() {
        let chunk = |values: &[(i64, f64)]| {
            let samples: Vec<_> =
                values.iter().map(|(time_ms, value)| (*time_ms, Sample::Float(*value))).collect();
            encode(&samples).unwrap().remove(0)
        };
        let chunks = [chunk(&[(1, 1.0), (5, 5.0), (9, 9.0)]), chunk(&[(3, 3.0), (5, 50.0)])];
        let expected = vec![(3, Sample::Float(3.0)), (5, Sample::Float(5.0))];
        assert_eq!(samples(&chunks, (2, 8)).unwrap(), expected);
        let broken = ChunkRef { bytes: Bytes::from_static(&[0, 9, 1]), ..chunks[0].clone() };
        assert!(matches!(samples(&[broken], ALL), Err(SourceError::Corrupt(_))));
    }

    #[test]
    fn counter_resets_are_found_anew_where_chunks_overlap() {
        for histogram in [histogram, float_histogram] {
            let first = encode(&[(1, histogram(10)), (3, histogram(20))]).unwrap();
            let chunks = [first, encode(&[(2, histogram(100))]).unwrap()].concat();
            let found = samples(&chunks, ALL).unwrap();
            assert_eq!(found, plain(found.clone()), "no hint is left of another order");
            assert_eq!(readable_chunks(&chunks).unwrap().len(), 2, "a reset begins a chunk");
        }
    }

    proptest! {
        #[test]
        fn readable_chunks_hold_the_same_samples_and_do_not_overlap(
            runs in proptest::collection::vec((0i64..1_000, 1usize..200, 0u8..3), 0..6),
        ) {
            let mut chunks = Vec::new();
            for (start_ms, count, kind) in runs {
                let sample = |number: usize| match kind {
                    0 => Sample::Float(number as f64),
                    // Counters that go back begin chunks.
                    1 => histogram((number % 50) as u64),
                    _ => float_histogram((number % 50) as u64),
                };
                let samples: Vec<_> = (0..count).map(|number| (start_ms + number as i64, sample(number))).collect();
                chunks.extend(encode(&samples).unwrap());
            }
            chunks.sort_by_key(|chunk| chunk.min_ms);
            let readable = readable_chunks(&chunks).unwrap();
            prop_assert!(readable.is_sorted_by(|a, b| a.max_ms < b.min_ms));
            prop_assert_eq!(plain(samples(&readable, ALL).unwrap()), plain(samples(&chunks, ALL).unwrap()));
        }
    }
}
