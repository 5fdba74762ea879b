//! The samples of one series, decoded from its chunks.

use annulus_shards::{Labels, chunk, is_stale};

use super::label_functions::format_labels;
use crate::promql::value::QueryError;
use crate::source::{ChunkRef, SourceError};

/// Samples in order of time, each time once. A buffer: threads reuse it from series to series.
#[derive(Debug, Default, Clone)]
pub(super) struct Samples {
    /// Their times.
    pub(super) times: Vec<i64>,
    /// Their values; the only NaNs are the stale marker and the quiet NaN.
    pub(super) values: Vec<f64>,
}

impl Samples {
    /// Empties the buffer.
    pub(super) fn clear(&mut self) {
        self.times.clear();
        self.values.clear();
    }

    /// How many samples.
    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    /// Appends a sample.
    #[inline]
    pub(super) fn push(&mut self, time_ms: i64, value: f64) {
        self.times.push(time_ms);
        self.values.push(value);
    }

    /// Reads the float samples of `[min_ms, max_ms]` from chunks, without stale markers unless they are wanted. Native
    /// histograms, which this engine does not compute with, are left out.
    ///
    /// # Errors
    /// When a chunk is corrupt; the error names the series.
    pub(super) fn read(
        &mut self,
        labels: &Labels,
        chunks: &[ChunkRef],
        (min_ms, max_ms): (i64, i64),
        keep_stale: bool,
    ) -> Result<(), QueryError> {
        self.clear();
        let mut ordered = true;
        let mut last_ms = i64::MIN;
        for chunk in chunks {
            if chunk.max_ms < min_ms || chunk.min_ms > max_ms || !chunk.encoding.holds_floats() {
                continue;
            }
            chunk::decode(chunk.encoding, &chunk.bytes, |time_ms, value| {
                if time_ms < min_ms || time_ms > max_ms {
                    return;
                }
                ordered &= time_ms > last_ms || self.times.is_empty();
                last_ms = time_ms;
                self.push(time_ms, if value.is_nan() && !is_stale(value) { f64::NAN } else { value });
            })
            .map_err(|error| {
                SourceError::Corrupt(format!("series {}: {error}", format_labels(labels.iter())))
            })?;
        }
        if !ordered {
            self.sort();
        }
        if !keep_stale {
            self.drop_stale();
        }
        Ok(())
    }

    /// Orders samples of overlapping chunks; the sort is stable, so the first chunk wins at equal times.
    fn sort(&mut self) {
        let mut pairs: Vec<(i64, f64)> = self.times.drain(..).zip(self.values.drain(..)).collect();
        pairs.sort_by_key(|(time_ms, _)| *time_ms);
        pairs.dedup_by_key(|(time_ms, _)| *time_ms);
        (self.times, self.values) = pairs.into_iter().unzip();
    }

    fn drop_stale(&mut self) {
        if !self.values.iter().any(|value| is_stale(*value)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use annulus_shards::STALE_NAN_BITS;
    use annulus_shards::chunk::{Encoding, XorAppender};

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
        }
    }

    fn read(chunks: &[ChunkRef], range: (i64, i64), keep_stale: bool) -> Vec<(i64, f64)> {
        let mut samples = Samples::default();
        samples.read(&Labels::empty(), chunks, range, keep_stale).unwrap();
        samples.times.into_iter().zip(samples.values).collect()
    }

    #[test]
    fn only_samples_of_the_range_are_kept() {
        let chunks = [chunk(&[(0, 0.0), (10, 1.0)]), chunk(&[(20, 2.0), (30, 3.0)]), chunk(&[(40, 4.0)])];
        assert_eq!(read(&chunks, (10, 20), true), [(10, 1.0), (20, 2.0)]);
    }

    #[test]
    fn chunks_of_histograms_are_left_out() {
        let histograms = ChunkRef { encoding: Encoding::Histogram, ..chunk(&[(10, 1.0)]) };
        let chunks = [chunk(&[(0, 0.0)]), histograms, chunk(&[(20, 2.0)])];
        assert_eq!(read(&chunks, (0, 100), true), [(0, 0.0), (20, 2.0)]);
    }

    #[test]
    fn the_first_of_two_overlapping_chunks_wins() {
        let chunks = [chunk(&[(0, 0.0), (20, 2.0), (40, 4.0)]), chunk(&[(10, 1.0), (20, -2.0)])];
        assert_eq!(read(&chunks, (0, 100), true), [(0, 0.0), (10, 1.0), (20, 2.0), (40, 4.0)]);
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
        let error = Samples::default().read(&labels, &[bad], (0, 100), true).unwrap_err();
        assert!(error.to_string().contains("broken"), "{error}");
    }
}
