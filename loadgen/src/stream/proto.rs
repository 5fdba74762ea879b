//! The few pieces of protobuf that requests are made of.

/// Bytes of a timestamp as a varint: fixed, so that a message keeps its length from round to round.
pub(super) const TIMESTAMP_BYTES: usize = 6;

/// The times whose varint has `TIMESTAMP_BYTES`: from 1971 to 2109.
pub(super) const TIMESTAMPS_MS: std::ops::Range<i64> = 1 << 35..1 << 42;

/// A float sample as a field of a series: its key, its length, value and timestamp with their keys.
pub(super) const SAMPLE_BYTES: usize = 2 + 1 + 8 + 1 + TIMESTAMP_BYTES;

/// Where the value lies in those bytes.
pub(super) const SAMPLE_VALUE_AT: usize = 3;

/// Where the timestamp lies in those bytes.
pub(super) const SAMPLE_TIMESTAMP_AT: usize = 12;

#[inline]
pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_key(field: u64, wire_type: u64, out: &mut Vec<u8>) {
    put_varint(field << 3 | wire_type, out);
}

/// A field of bytes, text or a message.
pub(super) fn put_len(field: u64, content: &[u8], out: &mut Vec<u8>) {
    put_key(field, 2, out);
    put_varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

pub(super) fn put_double(field: u64, value: f64, out: &mut Vec<u8>) {
    put_key(field, 1, out);
    out.extend(value.to_le_bytes());
}

/// How a signed number is written so that small ones stay short.
pub(super) fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

pub(super) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// The varint of a time in `TIMESTAMPS_MS`. Of other times it keeps the lowest 42 bits.
pub(super) fn timestamp(timestamp_ms: i64) -> [u8; TIMESTAMP_BYTES] {
    std::array::from_fn(|index| {
        let more = if index + 1 < TIMESTAMP_BYTES { 0x80 } else { 0 };
        (timestamp_ms >> (7 * index)) as u8 & 0x7f | more
    })
}

/// A float sample. A zero is written out, where senders in Go leave it away, so that every sample has one length.
pub(super) fn sample(value: f64, timestamp_ms: i64) -> [u8; SAMPLE_BYTES] {
    let mut bytes = [0; SAMPLE_BYTES];
    bytes[..SAMPLE_VALUE_AT].copy_from_slice(&[0x12, SAMPLE_BYTES as u8 - 2, 0x09]);
    bytes[SAMPLE_VALUE_AT..SAMPLE_VALUE_AT + 8].copy_from_slice(&value.to_le_bytes());
    bytes[SAMPLE_TIMESTAMP_AT - 1] = 0x10;
    bytes[SAMPLE_TIMESTAMP_AT..].copy_from_slice(&timestamp(timestamp_ms));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_the_varint_of_its_time() {
        for time_ms in [TIMESTAMPS_MS.start, 1_770_000_000_123, TIMESTAMPS_MS.end - 1] {
            let mut plain = Vec::new();
            put_varint(time_ms as u64, &mut plain);
            assert_eq!(plain, timestamp(time_ms));
        }
    }

    #[test]
    fn lengths_of_varints_are_counted_right() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::MAX] {
            let mut plain = Vec::new();
            put_varint(value, &mut plain);
            assert_eq!(plain.len(), varint_len(value), "{value}");
        }
    }
}
