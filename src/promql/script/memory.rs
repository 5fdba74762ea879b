//! A source that holds the samples of a script, in the chunks that any other source gives.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;

use annulus_shards::chunk::{Appended, Encoding, FloatHistogramAppender, XorAppender};
use annulus_shards::{Labels, Matcher};

use crate::promql::histogram::FloatHistogram;
use crate::promql::value::SampleValue;
use crate::source::{ChunkRef, SelectRequest, SeriesChunks, Source, SourceFuture};

/// Samples per chunk, as the head seals them.
const CHUNK_SAMPLES_MAX: usize = 120;

/// Series in memory, for tests and scripts.
#[derive(Debug, Clone, Default)]
pub struct MemorySource {
    series: BTreeMap<Labels, StoredSeries>,
}

#[derive(Debug, Clone, Default)]
struct StoredSeries {
    samples: BTreeMap<i64, SampleValue>,
    chunks: Vec<ChunkRef>,
}

impl MemorySource {
    /// Adds samples of one series, in any order; a sample replaces one at the same time.
    pub fn add(&mut self, labels: &Labels, samples: &[(i64, SampleValue)]) {
        if samples.is_empty() {
            return;
        }
        let series = self.series.entry(labels.clone()).or_default();
        series.samples.extend(samples.iter().cloned());
        series.chunks = chunks_of(&series.samples);
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.series.clear();
    }

    /// The series that match any of the sets and have a chunk in the time range.
    fn find<'a>(
        &'a self,
        sets: &'a [Vec<Matcher>],
        min_ms: i64,
        max_ms: i64,
    ) -> impl Iterator<Item = (&'a Labels, &'a StoredSeries)> {
        self.series.iter().filter(move |(labels, series)| {
            let holds = |matcher: &Matcher| matcher.matches(labels.get(&matcher.name).unwrap_or_default());
            (sets.is_empty() || sets.iter().any(|set| set.iter().all(holds)))
                && series.chunks.iter().any(|chunk| overlaps(chunk, min_ms, max_ms))
        })
    }
}

impl Source for MemorySource {
    fn select<'a>(&'a self, request: SelectRequest) -> SourceFuture<'a, Vec<SeriesChunks>> {
        let SelectRequest { matchers, min_ms, max_ms, skip_chunks, .. } = request;
        let sets = [matchers];
        let found = self.find(&sets, min_ms, max_ms).map(|(labels, series)| {
            let wanted = |chunk: &&ChunkRef| !skip_chunks && overlaps(chunk, min_ms, max_ms);
            let chunks = series.chunks.iter().filter(wanted).cloned().collect();
            SeriesChunks { labels: labels.clone(), chunks }
        });
        Box::pin(ready(Ok(found.collect())))
    }

    fn label_names<'a>(
        &'a self,
        sets: Vec<Vec<Matcher>>,
        min_ms: i64,
        max_ms: i64,
    ) -> SourceFuture<'a, Vec<String>> {
        let names: BTreeSet<&str> =
            self.find(&sets, min_ms, max_ms).flat_map(|(labels, _)| labels.iter().map(|(n, _)| n)).collect();
        Box::pin(ready(Ok(names.into_iter().map(str::to_owned).collect())))
    }

    fn label_values<'a>(
        &'a self,
        name: String,
        sets: Vec<Vec<Matcher>>,
        min_ms: i64,
        max_ms: i64,
    ) -> SourceFuture<'a, Vec<String>> {
        let values: BTreeSet<&str> =
            self.find(&sets, min_ms, max_ms).filter_map(|(labels, _)| labels.get(&name)).collect();
        Box::pin(ready(Ok(values.into_iter().map(str::to_owned).collect())))
    }
}

fn overlaps(chunk: &ChunkRef, min_ms: i64, max_ms: i64) -> bool {
    chunk.min_ms <= max_ms && chunk.max_ms >= min_ms
}

/// Samples in chunks, which hold floats or histograms.
fn chunks_of(samples: &BTreeMap<i64, SampleValue>) -> Vec<ChunkRef> {
    let mut chunks = Vec::new();
    let mut floats: Vec<(i64, f64)> = Vec::new();
    let mut histograms = OpenChunk::default();
    for (time_ms, value) in samples {
        match value {
            SampleValue::Float(value) => {
                histograms.seal(&mut chunks);
                floats.push((*time_ms, *value));
                if floats.len() == CHUNK_SAMPLES_MAX {
                    chunks.extend(seal(&mut floats));
                }
            }
            SampleValue::Histogram(histogram) => {
                chunks.extend(seal(&mut floats));
                histograms.append(*time_ms, histogram, &mut chunks);
            }
        }
    }
    chunks.extend(seal(&mut floats));
    histograms.seal(&mut chunks);
    chunks
}

fn seal(samples: &mut Vec<(i64, f64)>) -> Option<ChunkRef> {
    let (min_ms, max_ms) = (samples.first()?.0, samples.last()?.0);
    let mut appender = XorAppender::default();
    for (timestamp_ms, value) in samples.drain(..) {
        appender.append(timestamp_ms, value);
    }
    Some(ChunkRef { min_ms, max_ms, encoding: Encoding::Xor, bytes: appender.to_bytes().into(), replica: 0 })
}

/// A chunk of histograms that grows.
#[derive(Default)]
struct OpenChunk {
    appender: FloatHistogramAppender,
    min_ms: i64,
}

impl OpenChunk {
    fn append(&mut self, time_ms: i64, histogram: &FloatHistogram, chunks: &mut Vec<ChunkRef>) {
        let (is_first, last_ms) = (self.appender.count() == 0, self.appender.last_ms());
        let Ok(appended) = self.appender.append(time_ms, histogram) else {
            // A store refuses what is no histogram.
            return;
        };
        if let Appended::Cut(bytes) = appended {
            chunks.push(histogram_chunk(self.min_ms, last_ms, bytes));
            self.min_ms = time_ms;
        } else if is_first {
            self.min_ms = time_ms;
        }
    }

    fn seal(&mut self, chunks: &mut Vec<ChunkRef>) {
        if self.appender.count() > 0 {
            let last_ms = self.appender.last_ms();
            chunks.push(histogram_chunk(self.min_ms, last_ms, self.appender.seal()));
        }
    }
}

fn histogram_chunk(min_ms: i64, max_ms: i64, bytes: Box<[u8]>) -> ChunkRef {
    ChunkRef { min_ms, max_ms, encoding: Encoding::FloatHistogram, bytes: bytes.into(), replica: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use annulus_shards::MatchOp;
    use annulus_shards::chunk::decode;
    use futures::FutureExt as _;

    /// The answer of a source that never waits.
    fn answer<T>(future: SourceFuture<'_, T>) -> T {
        future.now_or_never().expect("memory is ready").unwrap()
    }

    fn floats(samples: &[(i64, f64)]) -> Vec<(i64, SampleValue)> {
        samples.iter().map(|(time_ms, value)| (*time_ms, (*value).into())).collect()
    }

    #[test]
    fn floats_and_histograms_have_chunks_of_their_own() {
        let counts = [5.0, 6.0, 1.0];
        let histogram = |count| SampleValue::from(FloatHistogram { count, ..FloatHistogram::default() });
        let mut samples = floats(&[(0, 1.0), (4, 2.0)]);
        samples.extend((1..).zip(counts.map(histogram)));
        let mut source = MemorySource::default();
        source.add(&Labels::empty(), &samples);
        let found = answer(source.select(request(Vec::new(), 0, 10)));
        let bounds: Vec<_> = found[0].chunks.iter().map(|chunk| (chunk.min_ms, chunk.max_ms)).collect();
        assert_eq!(bounds, [(0, 0), (1, 2), (3, 3), (4, 4)], "a counter that falls begins a chunk");
    }

    fn request(matchers: Vec<Matcher>, min_ms: i64, max_ms: i64) -> SelectRequest {
        SelectRequest { matchers, min_ms, max_ms, skip_chunks: false, budget: None }
    }

    #[test]
    fn samples_come_back_in_order_in_chunks_of_120() {
        let labels = Labels::from_pairs([("__name__", "m"), ("a", "1")]);
        let mut source = MemorySource::default();
        let samples: Vec<(i64, f64)> = (0..250).map(|n| (n * 1000, n as f64)).collect();
        source.add(&labels, &floats(&samples[100..]));
        source.add(&labels, &floats(&samples[..100]));
        let absent = Matcher::new(MatchOp::NotEqual, "b", "x").unwrap();
        let found = answer(source.select(request(vec![absent], 0, i64::MAX)));
        let mut got = Vec::new();
        for chunk in &found[0].chunks {
            decode(chunk.encoding, &chunk.bytes, |time, value| got.push((time, value))).unwrap();
        }
        assert_eq!((found[0].chunks.len(), got), (3, samples));
    }

    #[test]
    fn series_outside_the_request_are_left_out() {
        let mut source = MemorySource::default();
        source.add(&Labels::from_pairs([("a", "1")]), &floats(&[(0, 1.0)]));
        source.add(&Labels::from_pairs([("a", "2")]), &floats(&[(60_000, 1.0)]));
        let found = |op, value: &str, min_ms| {
            let matcher = Matcher::new(op, "a", value).unwrap();
            answer(source.select(request(vec![matcher], min_ms, 60_000))).len()
        };
        assert_eq!(found(MatchOp::Regex, "1|2", 0), 2);
        assert_eq!(found(MatchOp::Regex, "1|2", 1), 1);
        assert_eq!(found(MatchOp::Equal, "1", 0), 1);
        assert_eq!(answer(source.label_values("a".to_owned(), Vec::new(), 1, 60_000)), ["2"]);
        assert_eq!(answer(source.label_names(Vec::new(), 0, 0)), ["a"]);
    }
}
