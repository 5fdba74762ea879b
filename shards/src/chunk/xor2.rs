//! The XOR2 encoding of float samples with start times (Prometheus `tsdb/chunkenc/xor2.go`): read, never written.
//!
//! Two bytes: number of samples, big endian; a byte: which samples have a start time ([`StartTimes`]). Then bits:
//! - the first two samples as in XOR, except that the second value may be the stale marker;
//! - later, time and value together: `0` when neither the time's delta nor the value changes; `10` + a changed value;
//!   `110` + 13 bits, `1110` + 20 bits, `11110` + 64 bits of the time's delta of deltas in two's complement, then the
//!   value; `11111` for the stale marker after an unchanged delta;
//! - value: `0` when equal to the last; `10` + the bits inside the last window; `110` + a window and its bits; `111`
//!   for the stale marker. A changed value without a change of delta has `0` and `1` for the two in the middle.
//!
//! A stale marker leaves the last value as it was.

use super::ChunkError;
use super::bits::BitReader;
use super::fault::Fault;
use super::start_time::StartTimes;
use super::varbit::{take_uvarint, take_varint};
use super::window::Window;
use crate::{STALE_NAN_BITS, is_stale};

/// Bytes before the first sample.
const HEADER_BYTES: usize = 3;

/// Decodes a chunk; see [`super::decode`].
pub fn decode_xor2(bytes: &[u8], mut each: impl FnMut(i64, f64)) -> Result<(), ChunkError> {
    let Some(([high, low, start_times], rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(ChunkError::Truncated { sample: 0, count: 0 });
    };
    let count = u16::from_be_bytes([*high, *low]);
    let start_times = StartTimes::new(*start_times);
    let mut decoder = Decoder {
        reader: BitReader::new(rest),
        time_ms: 0,
        delta_ms: 0,
        last_bits: 0,
        window: Window::default(),
    };
    for index in 0..count {
        let bits = decoder.take_sample(index).map_err(|fault| fault.at(index, count))?;
        start_times.skip(&mut decoder.reader, index).map_err(|fault| fault.at(index, count))?;
        each(decoder.time_ms, f64::from_bits(bits));
    }
    Ok(())
}

struct Decoder<'a> {
    reader: BitReader<'a>,
    time_ms: i64,
    delta_ms: i64,
    /// The last value that was not the stale marker.
    last_bits: u64,
    window: Window,
}

impl Decoder<'_> {
    /// Moves on to the next sample, and returns the bits of its value.
    fn take_sample(&mut self, index: u16) -> Result<u64, Fault> {
        match index {
            0 => {
                self.time_ms = take_varint(&mut self.reader)?;
                let bits = self.reader.take(64).ok_or(Fault::Truncated)?;
                if !is_stale(f64::from_bits(bits)) {
                    self.last_bits = bits;
                }
                return Ok(bits);
            }
            1 => {
                let delta_ms = take_uvarint(&mut self.reader)?;
                self.advance(delta_ms as i64);
                return self.take_value();
            }
            _ => {}
        }
        match self.reader.take_ones(5).ok_or(Fault::Truncated)? {
            0 => self.advance(0),
            1 => {
                self.advance(0);
                let has_new_window = self.reader.take(1).ok_or(Fault::Truncated)? == 1;
                self.take_change(has_new_window)?;
            }
            2 => return self.take_time_and_value(13),
            3 => return self.take_time_and_value(20),
            4 => return self.take_time_and_value(64),
            _ => {
                self.advance(0);
                return Ok(STALE_NAN_BITS);
            }
        }
        Ok(self.last_bits)
    }

    fn advance(&mut self, delta_of_delta_ms: i64) {
        self.delta_ms = self.delta_ms.wrapping_add(delta_of_delta_ms);
        self.time_ms = self.time_ms.wrapping_add(self.delta_ms);
    }

    fn take_time_and_value(&mut self, width: u32) -> Result<u64, Fault> {
        let bits = self.reader.take(width).ok_or(Fault::Truncated)?;
        let unused = 64 - width;
        self.advance((bits << unused) as i64 >> unused);
        self.take_value()
    }

    fn take_value(&mut self) -> Result<u64, Fault> {
        match self.reader.take_ones(3).ok_or(Fault::Truncated)? {
            0 => {}
            1 => self.take_change(false)?,
            2 => self.take_change(true)?,
            _ => return Ok(STALE_NAN_BITS),
        }
        Ok(self.last_bits)
    }

    fn take_change(&mut self, has_new_window: bool) -> Result<(), Fault> {
        self.last_bits ^= if has_new_window {
            self.window.take_new(&mut self.reader)?
        } else {
            self.window.take_inside(&mut self.reader)?
        };
        Ok(())
    }
}
