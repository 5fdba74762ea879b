//! One series: its open chunk, its closed chunks, and the decision on each sample.

use std::sync::Arc;

use super::error::AppendError;
use super::key::SeriesKey;
use crate::chunk::{Encoding, XorAppender, decode};

/// Samples after which a chunk is closed (Prometheus: 120).
pub const CHUNK_SAMPLES_MAX: u16 = 120;

/// What became of a sample that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is new.
    Stored,
    /// It was stored before, bit for bit: a sender's retry.
    Repeat,
}

/// A chunk that takes no more samples.
#[derive(Debug, Clone)]
pub struct ClosedChunk {
    /// Time of the first sample.
    pub min_ms: i64,
    /// Time of the last sample.
    pub max_ms: i64,
    /// Shared with the reads in progress.
    pub bytes: Arc<[u8]>,
}

/// A series of the head. Never empty of samples once it was appended to.
#[derive(Debug)]
pub struct Series {
    /// Its key, to tell it from others with the same table hash.
    pub key: SeriesKey,
    /// First of its label pairs in the index's list.
    pub pairs_start: u32,
    /// How many label pairs it has.
    pub pairs_count: u16,
    open: XorAppender,
    open_min_ms: i64,
    /// Most series of a young head have none: one pointer instead of a vector's three words.
    #[expect(
        clippy::box_collection,
        reason = "a vector inside the series would cost 16 bytes more per series"
    )]
    closed: Option<Box<Vec<ClosedChunk>>>,
}

impl Series {
    /// A series without samples.
    pub fn new(key: SeriesKey, pairs_start: u32, pairs_count: u16) -> Series {
        Series { key, pairs_start, pairs_count, open: XorAppender::default(), open_min_ms: 0, closed: None }
    }

    /// Sets the open chunk that a checkpoint holds.
    pub fn restore_open(&mut self, open: XorAppender, open_min_ms: i64) {
        self.open = open;
        self.open_min_ms = open_min_ms;
    }

    /// Adds a closed chunk that a checkpoint holds; they come in order of time.
    pub fn restore_closed(&mut self, chunk: ClosedChunk) {
        self.closed.get_or_insert_default().push(chunk);
    }

    /// Appends one sample, and returns by how many bytes the chunks grew. An error leaves the series as it was.
    #[inline]
    pub fn append(&mut self, timestamp_ms: i64, value: f64) -> Result<(Appended, u32), AppendError> {
        if self.open.count() == 0 {
            self.open_min_ms = timestamp_ms;
        } else {
            let (last_ms, last_bits) = self.open.last();
            if timestamp_ms <= last_ms {
                return self.check_old(timestamp_ms, value, last_ms, last_bits).map(|appended| (appended, 0));
            }
            if self.open.count() == CHUNK_SAMPLES_MAX {
                self.close(last_ms);
                self.open_min_ms = timestamp_ms;
            }
        }
        let before = self.open.bytes().len();
        self.open.append(timestamp_ms, value);
        Ok((Appended::Stored, (self.open.bytes().len() - before) as u32))
    }

    fn close(&mut self, max_ms: i64) {
        let bytes = Arc::from(self.open.seal());
        let chunk = ClosedChunk { min_ms: self.open_min_ms, max_ms, bytes };
        self.closed.get_or_insert_default().push(chunk);
    }

    /// A sample that is not newer than the newest. A sender that got no answer sends a whole request again, so
    /// what is stored already is not an error, however old.
    #[cold]
    fn check_old(
        &self,
        timestamp_ms: i64,
        value: f64,
        last_ms: i64,
        last_bits: u64,
    ) -> Result<Appended, AppendError> {
        let stored = if timestamp_ms == last_ms { Some(last_bits) } else { self.stored_bits(timestamp_ms) };
        match stored {
            Some(bits) if bits == value.to_bits() => Ok(Appended::Repeat),
            Some(_) => Err(AppendError::Conflict { timestamp_ms }),
            None => Err(AppendError::OutOfOrder { timestamp_ms, last_ms }),
        }
    }

    /// The value stored for one time, found by decoding the one chunk that may hold it.
    fn stored_bits(&self, timestamp_ms: i64) -> Option<u64> {
        let bytes = if timestamp_ms >= self.open_min_ms {
            self.open.bytes()
        } else {
            let closed = self.closed();
            let index = closed.partition_point(|chunk| chunk.max_ms < timestamp_ms);
            &closed.get(index).filter(|chunk| chunk.min_ms <= timestamp_ms)?.bytes
        };
        let mut found = None;
        let decoded = decode(Encoding::Xor, bytes, |at_ms, value| {
            if at_ms == timestamp_ms {
                found = Some(value.to_bits());
            }
        });
        // A chunk that a checkpoint brought may be unreadable; what it held is then not known to be stored.
        decoded.ok().and(found)
    }

    /// The chunks that take no more samples, in order of time.
    pub fn closed(&self) -> &[ClosedChunk] {
        self.closed.as_deref().map_or(&[], Vec::as_slice)
    }

    /// The open chunk: time of its first and last sample, and its bytes so far. `None` before the first sample.
    pub fn open(&self) -> Option<(i64, i64, &[u8])> {
        (self.open.count() > 0).then(|| (self.open_min_ms, self.open.last().0, self.open.bytes()))
    }

    /// The end of the open chunk; 0 before the first sample.
    #[inline]
    pub fn last_byte(&self) -> u8 {
        self.open.bytes().last().copied().unwrap_or(0)
    }

    /// Whether any chunk may hold a sample of the range (both ends inclusive).
    pub fn overlaps(&self, min_ms: i64, max_ms: i64) -> bool {
        let open = self.open().is_some_and(|(first_ms, last_ms, _)| first_ms <= max_ms && last_ms >= min_ms);
        open || self.closed().iter().any(|chunk| chunk.min_ms <= max_ms && chunk.max_ms >= min_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const _: () = assert!(size_of::<Series>() <= 112, "a series outgrew its place in the memory budget");

    fn samples(series: &Series) -> Vec<(i64, u64)> {
        let mut all = Vec::new();
        let open = series.open().map(|(_, _, bytes)| bytes);
        for bytes in series.closed().iter().map(|chunk| &*chunk.bytes).chain(open) {
            decode(Encoding::Xor, bytes, |at_ms, value| all.push((at_ms, value.to_bits()))).unwrap();
        }
        all
    }

    fn series() -> Series {
        Series::new(SeriesKey(1), 0, 0)
    }

    #[test]
    fn a_retry_is_accepted_however_old() {
        let mut series = series();
        for time in 0..500 {
            assert_eq!(series.append(time * 10, time as f64).unwrap().0, Appended::Stored);
        }
        for time in 0..500 {
            assert_eq!(series.append(time * 10, time as f64), Ok((Appended::Repeat, 0)));
            let conflict = Err(AppendError::Conflict { timestamp_ms: time * 10 });
            assert_eq!(series.append(time * 10, -1.0), conflict);
        }
        let late = series.append(1205, 0.0);
        assert_eq!(late, Err(AppendError::OutOfOrder { timestamp_ms: 1205, last_ms: 4990 }));
        assert_eq!(samples(&series).len(), 500);
        assert_eq!(series.closed().len(), 4);
    }

    proptest! {
        #[test]
        fn the_series_is_its_accepted_samples(
            steps in proptest::collection::vec((-3i64..6, 0u32..3), 0..600),
        ) {
            let (mut series, mut model, mut time) = (series(), BTreeMap::new(), 1000i64);
            for (step, value) in steps {
                time += step;
                let bits = f64::from(value).to_bits();
                let newest = model.last_key_value().map(|(at, _)| *at);
                let expected = match (model.get(&time), newest) {
                    (Some(stored), _) if *stored == bits => Ok(Appended::Repeat),
                    (Some(_), _) => Err(AppendError::Conflict { timestamp_ms: time }),
                    (None, Some(last_ms)) if time < last_ms => {
                        Err(AppendError::OutOfOrder { timestamp_ms: time, last_ms })
                    }
                    _ => Ok(Appended::Stored),
                };
                prop_assert_eq!(series.append(time, f64::from(value)).map(|(appended, _)| appended), expected);
                if expected == Ok(Appended::Stored) {
                    model.insert(time, bits);
                }
            }
            prop_assert_eq!(samples(&series), model.into_iter().collect::<Vec<_>>());
        }
    }
}
