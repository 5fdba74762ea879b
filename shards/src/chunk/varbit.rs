//! Integers of variable length: varbits (Prometheus `tsdb/chunkenc/varbit.go`), and varints of whole bytes.
//!
//! A varbit has one of nine sizes. Size n is announced by n one-bits and a zero (no zero after the largest), then comes
//! the value in as many bits as the size has. A signed value is in two's complement with the range shifted by one:
//! -2^(n-1) is not used, +2^(n-1) is.

use super::bits::{BitReader, PutBits};
use super::fault::Fault;

/// Bits of the value in each size.
const WIDTHS: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];

/// Index of the largest size.
const LARGEST: u32 = WIDTHS.len() as u32 - 1;

/// Appends a signed varbit.
pub fn put_varbit(writer: &mut impl PutBits, value: i64) {
    let size = match value {
        0 => 0,
        -3..=4 => 1,
        -31..=32 => 2,
        -255..=256 => 3,
        -2047..=2048 => 4,
        -131_071..=131_072 => 5,
        -16_777_215..=16_777_216 => 6,
        -36_028_797_018_963_967..=36_028_797_018_963_968 => 7,
        _ => LARGEST,
    };
    put_sized(writer, size, value as u64);
}

/// Appends an unsigned varbit.
pub fn put_uvarbit(writer: &mut impl PutBits, value: u64) {
    let size = match value {
        0 => 0,
        1..=7 => 1,
        8..=63 => 2,
        64..=511 => 3,
        512..=4095 => 4,
        4096..=262_143 => 5,
        262_144..=33_554_431 => 6,
        33_554_432..=72_057_594_037_927_935 => 7,
        _ => LARGEST,
    };
    put_sized(writer, size, value);
}

fn put_sized(writer: &mut impl PutBits, size: u32, value: u64) {
    let ones = (1 << size) - 1;
    if size == LARGEST {
        writer.put(ones, size);
    } else {
        writer.put(ones << 1, size + 1);
    }
    writer.put(value, WIDTHS[size as usize]);
}

/// Reads what [`put_varbit`] wrote.
pub fn take_varbit(reader: &mut BitReader<'_>) -> Result<i64, Fault> {
    let (bits, width) = take_sized(reader)?;
    let negative = (1..64).contains(&width) && bits > 1 << (width - 1);
    Ok(if negative { bits as i64 - (1 << width) } else { bits as i64 })
}

/// Reads what [`put_uvarbit`] wrote.
pub fn take_uvarbit(reader: &mut BitReader<'_>) -> Result<u64, Fault> {
    take_sized(reader).map(|(bits, _)| bits)
}

fn take_sized(reader: &mut BitReader<'_>) -> Result<(u64, u32), Fault> {
    let size = reader.take_ones(LARGEST).ok_or(Fault::Truncated)?;
    match WIDTHS[size as usize] {
        0 => Ok((0, 0)),
        width => Ok((reader.take(width).ok_or(Fault::Truncated)?, width)),
    }
}

/// Appends a varint: seven bits in each byte, lowest first, the top bit set in all but the last.
pub fn put_uvarint(writer: &mut impl PutBits, mut value: u64) {
    while value >= 0x80 {
        writer.put(value & 0x7f | 0x80, 8);
        value >>= 7;
    }
    writer.put(value, 8);
}

/// Appends a signed varint: small magnitudes of either sign become small numbers.
pub fn put_varint(writer: &mut impl PutBits, value: i64) {
    put_uvarint(writer, (value << 1 ^ value >> 63) as u64);
}

/// Reads what [`put_uvarint`] wrote.
pub fn take_uvarint(reader: &mut BitReader<'_>) -> Result<u64, Fault> {
    let mut value = 0;
    for index in 0..10 {
        let byte = reader.take(8).ok_or(Fault::Truncated)?;
        if index == 9 && byte > 1 {
            break;
        }
        value |= (byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Fault::Malformed)
}

/// Reads what [`put_varint`] wrote.
pub fn take_varint(reader: &mut BitReader<'_>) -> Result<i64, Fault> {
    let zigzag = take_uvarint(reader)?;
    Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::bits::BitWriter;
    use proptest::prelude::*;

    fn written(put: impl FnOnce(&mut BitWriter<'_>)) -> (Vec<u8>, u32) {
        let mut bytes = Vec::new();
        let mut writer = BitWriter::new(&mut bytes, 0);
        put(&mut writer);
        let free = writer.finish();
        let count = bytes.len() as u32 * 8 - u32::from(free);
        (bytes, count)
    }

    #[test]
    fn each_size_holds_the_range_of_the_format() {
        for (width, bits) in [(3u32, 5), (6, 9), (9, 13), (12, 17), (18, 24), (25, 32), (56, 64)] {
            let (low, high) = (-(1i64 << (width - 1)) + 1, 1i64 << (width - 1));
            for value in [low, high] {
                assert_eq!(written(|writer| put_varbit(writer, value)).1, bits, "{value}");
            }
            for value in [low - 1, high + 1] {
                assert!(written(|writer| put_varbit(writer, value)).1 > bits, "{value}");
            }
            assert_eq!(written(|writer| put_uvarbit(writer, (1 << width) - 1)).1, bits);
            assert!(written(|writer| put_uvarbit(writer, 1 << width)).1 > bits);
        }
        assert_eq!(written(|writer| put_varbit(writer, 0)).1, 1);
        assert_eq!(written(|writer| put_varbit(writer, i64::MIN)).1, 72);
    }

    proptest! {
        #[test]
        fn integers_come_back(value in any::<i64>(), shift in 0u32..64) {
            let value = value >> shift;
            let mut bytes = Vec::new();
            let mut writer = BitWriter::new(&mut bytes, 0);
            put_varbit(&mut writer, value);
            put_uvarbit(&mut writer, value as u64);
            put_varint(&mut writer, value);
            put_uvarint(&mut writer, value as u64);
            writer.finish();
            let mut reader = BitReader::new(&bytes);
            prop_assert_eq!(take_varbit(&mut reader), Ok(value));
            prop_assert_eq!(take_uvarbit(&mut reader), Ok(value as u64));
            prop_assert_eq!(take_varint(&mut reader), Ok(value));
            prop_assert_eq!(take_uvarint(&mut reader), Ok(value as u64));
        }
    }
}
