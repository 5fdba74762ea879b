//! Writes chunks of native histograms: decides where a sample goes, and lays a chunk out anew when buckets appear.
//!
//! A chunk has one schema, one zero threshold and one set of buckets, and in a chunk of counters none goes back. The
//! decisions are Prometheus' own, so that the same samples become the same bytes.

use std::borrow::Cow;

use super::ChunkError;
use super::bits::BitWriter;
use super::histogram::{NativeHistogram, ResetHint, Span, same};
use super::histogram_check::{HistogramError, check_shape};
use super::histogram_decoder::Decoder;
use super::histogram_layout::{HEADER_BYTES, header};
use super::histogram_spans::{Union, any_bucket_falls, spread, union};
use super::histogram_track::{Float, Integer, Kind, Sample, Track};

/// A chunk of integer histograms that grows by one sample at a time.
pub type HistogramAppender = Appender<Integer>;

/// A chunk of float histograms that grows by one sample at a time.
pub type FloatHistogramAppender = Appender<Float>;

/// How a sample goes with the open chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It can be appended.
    AsIs,
    /// It has buckets that the chunk has not: the chunk must be recoded.
    Recode {
        /// How many buckets each of its samples has then, on both sides.
        bucket_count: usize,
    },
    /// It must begin a new chunk.
    Cut,
}

/// What became of the open chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// It grew.
    AsIs,
    /// All its bytes changed, since it has more buckets. It has the samples from before, and the new one.
    Recoded,
    /// It was finished without the sample, which begins a new chunk. These are its bytes.
    Cut(Box<[u8]>),
}

/// A chunk that grows by one sample at a time; its bytes are a valid chunk after each.
#[derive(Debug, Clone, Default)]
pub struct Appender<K: Kind> {
    bytes: Vec<u8>,
    /// The last sample; after [`Appender::seal`] that of the chunk before.
    track: Track<K>,
    count: u16,
    /// The reset hint in the header; after [`Appender::seal`] that of the chunk before.
    hint: ResetHint,
    free: u8,
    /// Whether a chunk was sealed, and its last sample is known.
    has_predecessor: bool,
}

/// What has to be done to append a sample.
enum Plan {
    AsIs,
    Cut(ResetHint),
    Merge { positive: Union, negative: Union },
}

impl<K: Kind> Appender<K> {
    /// Continues a chunk that was written before, by decoding it.
    ///
    /// # Errors
    /// When the bytes are not a whole chunk, have something after it, or have a sample after a stale marker.
    pub fn resume(bytes: Vec<u8>) -> Result<Appender<K>, ChunkError> {
        let mut decoder = Decoder::<K>::new(&bytes, false)?;
        let (count, hint) = (decoder.count, decoder.header_hint);
        let malformed = ChunkError::Malformed { sample: count, count };
        let mut has_ended = false;
        while decoder.advance()? {
            if has_ended && !decoder.track.last.is_stale() {
                return Err(malformed);
            }
            has_ended = decoder.track.last.is_stale();
        }
        let free = u8::try_from(decoder.bits_left()).ok().filter(|free| *free < 8).ok_or(malformed)?;
        let track = decoder.track;
        Ok(Appender { bytes, track, count, hint, free, has_predecessor: false })
    }

    /// Says what [`Appender::append`] would do with a sample.
    pub fn fit(&self, sample: &Sample<K>) -> Fit {
        match self.count {
            0 => Fit::AsIs,
            u16::MAX => Fit::Cut,
            _ => match self.plan(sample) {
                Plan::AsIs => Fit::AsIs,
                Plan::Cut(_) => Fit::Cut,
                Plan::Merge { positive, negative } if positive.grows_chunk() || negative.grows_chunk() => {
                    Fit::Recode { bucket_count: positive.number + negative.number }
                }
                Plan::Merge { .. } => Fit::AsIs,
            },
        }
    }

    /// Appends a sample. Times must not fall; the caller has checked that.
    ///
    /// # Errors
    /// When spans, buckets and bounds do not fit each other. The chunk is then as it was.
    pub fn append(&mut self, timestamp_ms: i64, sample: &Sample<K>) -> Result<Appended, HistogramError> {
        if !sample.is_stale() {
            check_shape(sample)?;
        }
        if self.count == 0 {
            self.begin(timestamp_ms, sample, self.first_hint(sample));
            return Ok(Appended::AsIs);
        }
        if self.count == u16::MAX {
            let finished = self.seal();
            self.begin(timestamp_ms, sample, self.first_hint(sample));
            return Ok(Appended::Cut(finished));
        }
        Ok(match self.plan(sample) {
            Plan::AsIs => {
                self.push(timestamp_ms, sample);
                Appended::AsIs
            }
            Plan::Cut(found) => {
                let finished = self.seal();
                self.begin(timestamp_ms, sample, K::header_when_cut(found));
                Appended::Cut(finished)
            }
            Plan::Merge { positive, negative } => self.merge(timestamp_ms, sample, positive, negative),
        })
    }

    /// Whether a sample is the same as the newest one. Buckets without observations do not count: the newest one may
    /// have been given some.
    pub fn repeats(&self, sample: &Sample<K>) -> bool {
        self.count > 0 && same::<K>(&self.track.last, sample)
    }

    /// What it takes in memory beside the bytes of the chunk: the last sample, and how that differed from the one before.
    pub fn state_bytes(&self) -> usize {
        let Sample::<K> { positive, negative, custom_values, .. } = &self.track.last;
        let values = 2 * (positive.values.len() + negative.values.len()) + custom_values.len();
        size_of::<Self>() + 8 * (values + positive.spans.len() + negative.spans.len())
    }

    /// How many buckets each sample of the chunk has, on both sides.
    pub fn bucket_count(&self) -> usize {
        self.track.last.positive.values.len() + self.track.last.negative.values.len()
    }

    /// Samples so far.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// Time of the newest sample; meaningless while empty.
    pub fn last_ms(&self) -> i64 {
        self.track.time_ms
    }

    /// The chunk so far; empty before the first sample.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes the finished chunk and starts an empty one. The next sample is compared with the last one of the chunk, so
    /// that the new chunk's header can say whether there was a counter reset between the two.
    pub fn seal(&mut self) -> Box<[u8]> {
        self.has_predecessor |= self.count > 0;
        self.count = 0;
        std::mem::take(&mut self.bytes).into_boxed_slice()
    }

    /// Decides how a sample goes with the last one, which is of the open chunk or of the one before it.
    fn plan(&self, sample: &Sample<K>) -> Plan {
        let is_counter = sample.reset_hint != ResetHint::Gauge;
        if !is_counter && self.hint != ResetHint::Gauge {
            return Plan::Cut(ResetHint::Gauge);
        }
        if is_counter && self.hint == ResetHint::Gauge {
            return Plan::Cut(ResetHint::No);
        }
        if sample.reset_hint == ResetHint::Yes {
            return Plan::Cut(ResetHint::Yes);
        }
        if sample.is_stale() {
            return Plan::AsIs;
        }
        let last = &self.track.last;
        let reset = Plan::Cut(if is_counter { ResetHint::Yes } else { ResetHint::Gauge });
        let unknown = Plan::Cut(if is_counter { ResetHint::Unknown } else { ResetHint::Gauge });
        if last.is_stale() {
            return unknown;
        }
        if is_counter && sample.count < last.count {
            return reset;
        }
        if sample.schema != last.schema || sample.zero_threshold != last.zero_threshold {
            return unknown;
        }
        if sample.custom_values != last.custom_values || is_counter && sample.zero_count < last.zero_count {
            return reset;
        }
        if sample.positive.spans == last.positive.spans && sample.negative.spans == last.negative.spans {
            let falls = any_bucket_falls::<K>(&last.positive.values, &sample.positive.values)
                || any_bucket_falls::<K>(&last.negative.values, &sample.negative.values);
            return if is_counter && falls { reset } else { Plan::AsIs };
        }
        let positive = union::<K>(&last.positive, &sample.positive, is_counter);
        let negative = union::<K>(&last.negative, &sample.negative, is_counter);
        match (positive, negative) {
            (Some(positive), Some(negative)) => Plan::Merge { positive, negative },
            _ => reset,
        }
    }

    /// The reset hint in the header of a chunk that begins with a sample, after a chunk that was sealed, or none.
    fn first_hint(&self, sample: &Sample<K>) -> ResetHint {
        match sample.reset_hint {
            ResetHint::Gauge | ResetHint::Yes => sample.reset_hint,
            ResetHint::Unknown | ResetHint::No if self.has_predecessor => {
                K::header_when_continued(match self.plan(sample) {
                    Plan::Cut(found) => found,
                    Plan::AsIs | Plan::Merge { .. } => ResetHint::No,
                })
            }
            ResetHint::Unknown | ResetHint::No => ResetHint::Unknown,
        }
    }

    fn begin(&mut self, timestamp_ms: i64, sample: &Sample<K>, hint: ResetHint) {
        (self.count, self.hint, self.has_predecessor) = (1, hint, false);
        self.bytes.clear();
        self.bytes.extend_from_slice(&header(1, hint));
        let mut writer = BitWriter::new(&mut self.bytes, 0);
        self.track = Track::put_first(&mut writer, timestamp_ms, sample);
        self.free = writer.finish();
    }

    fn push(&mut self, timestamp_ms: i64, sample: &Sample<K>) {
        let mut writer = BitWriter::new(&mut self.bytes, self.free);
        self.track.put_next(&mut writer, timestamp_ms, sample);
        self.free = writer.finish();
        self.count += 1;
        self.bytes[..HEADER_BYTES].copy_from_slice(&header(self.count, self.hint));
    }

    /// Appends a sample whose buckets are not those of the chunk: each side is given what only the other has.
    fn merge(&mut self, timestamp_ms: i64, sample: &Sample<K>, positive: Union, negative: Union) -> Appended {
        let has_grown = positive.grows_chunk() || negative.grows_chunk();
        if has_grown {
            self.recode(&positive, &negative, recoded_spans(sample, &positive, &negative));
        }
        let mut sample = Cow::Borrowed(sample);
        if positive.grows_sample() {
            let values = &mut sample.to_mut().positive.values;
            *values = spread::<K>(values, &positive.sample_places, positive.number);
        }
        if negative.grows_sample() {
            let values = &mut sample.to_mut().negative.values;
            *values = spread::<K>(values, &negative.sample_places, negative.number);
        }
        self.push(timestamp_ms, &sample);
        if has_grown { Appended::Recoded } else { Appended::AsIs }
    }

    /// Writes the chunk anew, with more buckets.
    fn recode(
        &mut self,
        positive: &Union,
        negative: &Union,
        [positive_spans, negative_spans]: [Vec<Span>; 2],
    ) {
        let old = std::mem::take(&mut self.bytes);
        self.bytes.extend_from_slice(&old[..HEADER_BYTES]);
        let own = "the bytes of an appender were written or decoded by it";
        let mut decoder = Decoder::<K>::new(&old, false).expect(own);
        let mut writer = BitWriter::new(&mut self.bytes, 0);
        let mut is_first = true;
        while decoder.advance().expect(own) {
            let Track { time_ms, last, .. } = &decoder.track;
            let mut sample = last.clone();
            sample.positive.values =
                spread::<K>(&last.positive.values, &positive.chunk_places, positive.number);
            sample.negative.values =
                spread::<K>(&last.negative.values, &negative.chunk_places, negative.number);
            if is_first {
                sample.positive.spans.clone_from(&positive_spans);
                sample.negative.spans.clone_from(&negative_spans);
                self.track = Track::put_first(&mut writer, *time_ms, &sample);
                is_first = false;
            } else {
                self.track.put_next(&mut writer, *time_ms, &sample);
            }
        }
        self.free = writer.finish();
    }
}

/// The spans of a chunk that is recoded for a sample. The same buckets can be told in several ways; this is how
/// Prometheus tells them: as the sample does where it has all of them, and otherwise in as few spans as possible.
fn recoded_spans<C, B>(sample: &NativeHistogram<C, B>, positive: &Union, negative: &Union) -> [Vec<Span>; 2] {
    let is_gauge = sample.reset_hint == ResetHint::Gauge;
    let any_grows = positive.grows_sample() || negative.grows_sample();
    let spans = |own: &[Span], union: &Union| {
        let is_merged = if is_gauge { any_grows } else { union.grows_sample() };
        if is_merged { union.spans.clone() } else { own.to_vec() }
    };
    [spans(&sample.positive.spans, positive), spans(&sample.negative.spans, negative)]
}
