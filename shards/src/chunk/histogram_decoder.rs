//! Reads chunks of native histograms, with or without start times. The bytes may be anything.

use super::bits::BitReader;
use super::fault::Fault;
use super::histogram::{FloatHistogram, Histogram, ResetHint, SCHEMA_MAX, reduce};
use super::histogram_layout::{HEADER_BYTES, hint};
use super::histogram_track::{Float, Integer, Kind, Sample, Track};
use super::start_time::StartTimes;
use super::{ChunkError, Encoding};

/// With start times, the two top bits of the sample count are the reset hint.
const COUNT_MASK_WITH_START_TIMES: u16 = 0x3fff;

/// Decodes a chunk of integer histograms; see [`super::decode_values`].
///
/// # Errors
/// When the bytes are not a whole chunk.
pub fn decode_histogram(
    encoding: Encoding,
    bytes: &[u8],
    mut each: impl FnMut(i64, &Histogram),
) -> Result<(), ChunkError> {
    decode::<Integer>(encoding, bytes, |timestamp_ms, sample| {
        each(timestamp_ms, sample);
        true
    })
}

/// Decodes a chunk of float histograms; see [`super::decode_values`].
///
/// # Errors
/// When the bytes are not a whole chunk.
pub fn decode_float_histogram(
    encoding: Encoding,
    bytes: &[u8],
    mut each: impl FnMut(i64, &FloatHistogram),
) -> Result<(), ChunkError> {
    decode::<Float>(encoding, bytes, |timestamp_ms, sample| {
        each(timestamp_ms, sample);
        true
    })
}

/// Decodes a chunk of either kind, until `each` answers that it needs no more.
pub fn decode<K: Kind>(
    encoding: Encoding,
    bytes: &[u8],
    mut each: impl FnMut(i64, &Sample<K>) -> bool,
) -> Result<(), ChunkError> {
    let has_start_times = matches!(encoding, Encoding::HistogramSt | Encoding::FloatHistogramSt);
    let mut decoder = Decoder::<K>::new(bytes, has_start_times)?;
    let stale = Sample::<K>::stale();
    while decoder.advance()? {
        let reset_hint = decoder.reset_hint();
        let sample = &mut decoder.track.last;
        sample.reset_hint = reset_hint;
        let goes_on = if sample.is_stale() {
            each(decoder.track.time_ms, &stale)
        } else if sample.schema > SCHEMA_MAX {
            let mut coarser = sample.clone();
            reduce::<K>(&mut coarser);
            each(decoder.track.time_ms, &coarser)
        } else {
            each(decoder.track.time_ms, sample)
        };
        if !goes_on {
            break;
        }
    }
    Ok(())
}

/// Walks the samples of a chunk as they were stored.
pub struct Decoder<'a, K: Kind> {
    /// The sample that was read last.
    pub track: Track<K>,
    /// How many samples the header announces.
    pub count: u16,
    /// What the header says of a counter reset before the first sample.
    pub header_hint: ResetHint,
    reader: BitReader<'a>,
    read: u16,
    start_times: Option<StartTimes>,
}

impl<'a, K: Kind> Decoder<'a, K> {
    /// Starts before the first sample.
    pub fn new(bytes: &'a [u8], has_start_times: bool) -> Result<Decoder<'a, K>, ChunkError> {
        let Some(([high, low, flags], rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(ChunkError::Truncated { sample: 0, count: 0 });
        };
        let count = u16::from_be_bytes([*high, *low]);
        let (count, header_hint, start_times) = if has_start_times {
            (count & COUNT_MASK_WITH_START_TIMES, hint(*high), Some(StartTimes::new(*flags)))
        } else {
            (count, hint(*flags), None)
        };
        let reader = BitReader::new(rest);
        Ok(Decoder { track: Track::default(), count, header_hint, reader, read: 0, start_times })
    }

    /// Reads the next sample; false if there is none.
    pub fn advance(&mut self) -> Result<bool, ChunkError> {
        if self.read == self.count {
            return Ok(false);
        }
        self.take_sample().map_err(|fault| fault.at(self.read, self.count))?;
        self.read += 1;
        Ok(true)
    }

    fn take_sample(&mut self) -> Result<(), Fault> {
        if self.read == 0 {
            self.track = Track::take_first(&mut self.reader)?;
        } else {
            self.track.take_next(&mut self.reader)?;
        }
        self.start_times.map_or(Ok(()), |start_times| start_times.skip(&mut self.reader, self.read))
    }

    /// What is known of a counter reset at the sample that was read last. Of a chunk's first sample nothing is known,
    /// whatever the header says: the chunk before may be missing, or have come later.
    fn reset_hint(&self) -> ResetHint {
        match self.header_hint {
            ResetHint::Gauge => ResetHint::Gauge,
            _ if self.read > 1 => ResetHint::No,
            _ => ResetHint::Unknown,
        }
    }

    /// Bits after the last sample that was read.
    pub fn bits_left(&self) -> usize {
        self.reader.bits_left()
    }
}
