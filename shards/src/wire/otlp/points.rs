//! The points of metrics (opentelemetry.proto.metrics.v1), read from the body; texts and messages inside stay there.
//!
//! Schema. NumberDataPoint {3: time, 4: double, 5: exemplars, 6: sfixed64, 7: attributes, 8: flags}; HistogramDataPoint
//! {3: time, 4: count, 5: sum, 6: bucket counts, 7: bounds, 8: exemplars, 9: attributes, 10: flags};
//! ExponentialHistogramDataPoint {1: attributes, 3: time, 4: count, 5: sum, 6: sint32 scale, 7: zero count, 8: positive,
//! 9: negative, 10: flags, 11: exemplars}, its Buckets {1: sint32 offset, 2: counts}; SummaryDataPoint {3: time, 4: count,
//! 5: sum, 6: quantiles, 7: attributes, 8: flags}, its ValueAtQuantile {1: quantile, 2: value}. Times and counts are
//! fixed64, but for the counts of Buckets, which are varints.

use super::fault::{BUCKETS_MAX, Fault, PointError};
use super::value::{Attribute, Message};
use crate::STALE_NAN_BITS;
use crate::wire::labels::LABELS_MAX;
use crate::wire::proto::{Field, Value, WireError};

/// `DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK`
const NO_RECORDED_VALUE: u64 = 1;

/// What points of all kinds have.
#[derive(Debug, Default)]
pub struct Point<'a> {
    /// As sent, one more than allowed at most.
    pub attributes: Vec<Attribute<'a>>,
    /// Nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// The series has ended.
    pub is_stale: bool,
    /// Not read yet.
    pub exemplars: Vec<Message<'a>>,
}

impl Point<'_> {
    /// A value of the point, or the stale marker in its place.
    pub fn value(&self, value: f64) -> f64 {
        if self.is_stale { f64::from_bits(STALE_NAN_BITS) } else { value }
    }

    /// Milliseconds since the Unix epoch.
    pub fn time_ms(&self) -> i64 {
        time_ms(self.time_ns)
    }
}

/// Milliseconds from the nanoseconds of a point, as Prometheus converts them.
pub fn time_ms(time_ns: u64) -> i64 {
    time_ns as i64 / 1_000_000
}

/// Where the kinds differ in the numbers of what they share.
struct Numbers {
    attributes: u32,
    flags: u32,
    exemplars: Option<u32>,
}

/// A point of a gauge or sum.
#[derive(Debug)]
pub struct Number<'a> {
    /// Attributes, time, exemplars.
    pub point: Point<'a>,
    /// Zero if the sender gave none.
    pub value: f64,
}

/// A point of a histogram with bounds.
#[derive(Debug)]
pub struct Histogram<'a> {
    /// Attributes, time, exemplars.
    pub point: Point<'a>,
    /// Of all observations.
    pub count: u64,
    /// Of all observations, if the sender gave it.
    pub sum: Option<f64>,
    /// The upper bound of each bucket but the last, which has none.
    pub bounds: Vec<f64>,
    /// Observations of each bucket.
    pub counts: Vec<u64>,
}

/// A point of an exponential histogram.
#[derive(Debug)]
pub struct Exponential<'a> {
    /// Attributes, time, exemplars.
    pub point: Point<'a>,
    /// Of all observations.
    pub count: u64,
    /// Of all observations; zero if the sender gave none.
    pub sum: f64,
    /// Buckets grow by the factor 2^(2^-scale).
    pub scale: i32,
    /// Observations of about zero.
    pub zero_count: u64,
    /// Of positive values.
    pub positive: Buckets,
    /// Of negative values.
    pub negative: Buckets,
}

/// Observations per bucket, without gaps.
#[derive(Debug, Default)]
pub struct Buckets {
    /// The number of the first bucket.
    pub offset: i32,
    /// Observations of each.
    pub counts: Vec<u64>,
}

/// A point of a summary.
#[derive(Debug)]
pub struct Summary<'a> {
    /// Attributes and time.
    pub point: Point<'a>,
    /// Of all observations.
    pub count: u64,
    /// Of all observations.
    pub sum: f64,
    /// Quantiles and their values.
    pub quantiles: Vec<(f64, f64)>,
}

impl<'a> Number<'a> {
    /// Reads one.
    pub fn read(message: Message<'a>) -> Result<Number<'a>, Fault> {
        let mut value = 0.0;
        let point = read(message, Numbers { attributes: 7, flags: 8, exemplars: Some(5) }, |field| {
            match field.number {
                4 => value = f64::from_bits(field.fixed64()?),
                6 => value = field.fixed64()? as i64 as f64,
                _ => {}
            }
            Ok(())
        })?;
        Ok(Number { point, value })
    }
}

impl<'a> Histogram<'a> {
    /// Reads one.
    pub fn read(message: Message<'a>) -> Result<Histogram<'a>, Fault> {
        let (mut count, mut sum, mut bounds, mut counts) = (0, None, Vec::new(), Vec::new());
        let point = read(message, Numbers { attributes: 9, flags: 10, exemplars: Some(8) }, |field| {
            match field.number {
                4 => count = field.fixed64()?,
                5 => sum = Some(f64::from_bits(field.fixed64()?)),
                6 => take_fixed64(field, &mut counts, |bits| bits)?,
                7 => take_fixed64(field, &mut bounds, f64::from_bits)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(Histogram { point, count, sum, bounds, counts })
    }
}

impl<'a> Exponential<'a> {
    /// Reads one.
    pub fn read(message: Message<'a>) -> Result<Exponential<'a>, Fault> {
        let (mut count, mut sum, mut scale, mut zero_count) = (0, 0.0, 0, 0);
        let (mut positive, mut negative) = (Buckets::default(), Buckets::default());
        let point = read(message, Numbers { attributes: 1, flags: 10, exemplars: Some(11) }, |field| {
            match field.number {
                4 => count = field.fixed64()?,
                5 => sum = f64::from_bits(field.fixed64()?),
                6 => scale = zigzag(field.varint()?),
                7 => zero_count = field.fixed64()?,
                8 => positive = Buckets::read(Message::of(field)?)?,
                9 => negative = Buckets::read(Message::of(field)?)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(Exponential { point, count, sum, scale, zero_count, positive, negative })
    }
}

impl Buckets {
    fn read(message: Message<'_>) -> Result<Buckets, Fault> {
        let mut buckets = Buckets::default();
        let mut fields = message.fields();
        while let Some(field) = fields.field()? {
            match field.number {
                1 => buckets.offset = zigzag(field.varint()?),
                2 => take_varints(&field, &mut buckets.counts)?,
                _ => {}
            }
        }
        Ok(buckets)
    }
}

impl<'a> Summary<'a> {
    /// Reads one.
    pub fn read(message: Message<'a>) -> Result<Summary<'a>, Fault> {
        let (mut count, mut sum, mut quantiles) = (0, 0.0, Vec::new());
        let point = read(message, Numbers { attributes: 7, flags: 8, exemplars: None }, |field| {
            match field.number {
                4 => count = field.fixed64()?,
                5 => sum = f64::from_bits(field.fixed64()?),
                6 => put(&mut quantiles, read_quantile(Message::of(field)?)?)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(Summary { point, count, sum, quantiles })
    }
}

fn read_quantile(message: Message<'_>) -> Result<(f64, f64), Fault> {
    let (mut quantile, mut value) = (0.0, 0.0);
    let mut fields = message.fields();
    while let Some(field) = fields.field()? {
        match field.number {
            1 => quantile = f64::from_bits(field.fixed64()?),
            2 => value = f64::from_bits(field.fixed64()?),
            _ => {}
        }
    }
    Ok((quantile, value))
}

/// Reads what all kinds have, and gives every other field to `own`.
fn read<'a>(
    message: Message<'a>,
    numbers: Numbers,
    mut own: impl FnMut(&Field<'a>) -> Result<(), Fault>,
) -> Result<Point<'a>, Fault> {
    let mut point = Point::default();
    let mut fields = message.fields();
    while let Some(field) = fields.field()? {
        if field.number == 3 {
            point.time_ns = field.fixed64()?;
        } else if field.number == numbers.attributes {
            let attribute = Attribute::read(Message::of(&field)?)?;
            if point.attributes.len() <= LABELS_MAX {
                point.attributes.push(attribute);
            }
        } else if field.number == numbers.flags {
            point.is_stale = field.varint()? & NO_RECORDED_VALUE != 0;
        } else if Some(field.number) == numbers.exemplars {
            point.exemplars.push(Message::of(&field)?);
        } else {
            own(&field)?;
        }
    }
    Ok(point)
}

/// Of a repeated fixed64 field, packed or not.
fn take_fixed64<T>(field: &Field<'_>, out: &mut Vec<T>, from_bits: impl Fn(u64) -> T) -> Result<(), Fault> {
    let Value::Bytes(bytes) = field.value else { return put(out, from_bits(field.fixed64()?)) };
    let (words, []) = bytes.as_chunks() else { return Err(malformed(field)) };
    if words.len() + out.len() > BUCKETS_MAX {
        return Err(PointError::TooManyBuckets.into());
    }
    out.extend(words.iter().map(|word| from_bits(u64::from_le_bytes(*word))));
    Ok(())
}

/// Of a repeated varint field, packed or not.
fn take_varints(field: &Field<'_>, out: &mut Vec<u64>) -> Result<(), Fault> {
    let Value::Bytes(bytes) = field.value else { return put(out, field.varint()?) };
    for digits in bytes.split_inclusive(|byte| *byte < 0x80) {
        if digits.len() > 10 || digits[digits.len() - 1] >= 0x80 {
            return Err(malformed(field));
        }
        put(out, digits.iter().rev().fold(0, |value, digit| value << 7 | u64::from(digit & 0x7f)))?;
    }
    Ok(())
}

fn put<T>(out: &mut Vec<T>, item: T) -> Result<(), Fault> {
    if out.len() == BUCKETS_MAX {
        return Err(PointError::TooManyBuckets.into());
    }
    out.push(item);
    Ok(())
}

fn malformed(field: &Field<'_>) -> Fault {
    WireError::Malformed { offset: field.start }.into()
}

fn zigzag(value: u64) -> i32 {
    let value = value as u32;
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::proto::put_varint;
    use proptest::prelude::*;

    fn buckets(bytes: &[u8]) -> Result<Vec<u64>, Fault> {
        Buckets::read(Message { bytes, base: 0 }).map(|buckets| buckets.counts)
    }

    #[test]
    fn counts_come_packed_or_one_by_one() {
        assert_eq!(buckets(&[0x12, 3, 1, 0xac, 0x02, 0x10, 7]), Ok(vec![1, 300, 7]));
        let mut counts = Vec::new();
        let mut message = vec![0x32, 16];
        message.extend([1u64, 2].iter().flat_map(|count| count.to_le_bytes()));
        message.push(0x31);
        message.extend(3u64.to_le_bytes());
        counts.extend(Histogram::read(Message { bytes: &message, base: 0 }).unwrap().counts);
        assert_eq!(counts, [1, 2, 3]);
    }

    #[test]
    fn a_packed_field_that_ends_in_the_middle_is_malformed() {
        for bytes in [
            &[0x12, 1, 0x80][..],
            &[0x12, 2, 1, 0xff],
            &[0x12, 11, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
        ] {
            assert!(matches!(buckets(bytes), Err(Fault::Request(_))), "{bytes:?}");
        }
        let message = Message { bytes: &[0x32, 7, 0, 0, 0, 0, 0, 0, 0], base: 0 };
        assert!(matches!(Histogram::read(message), Err(Fault::Request(_))));
    }

    #[test]
    fn buckets_without_end_are_refused() {
        let count = BUCKETS_MAX + 1;
        let mut bytes = vec![0x12];
        put_varint(&mut bytes, count as u64);
        bytes.extend(vec![0; count]);
        assert_eq!(buckets(&bytes), Err(Fault::Point(PointError::TooManyBuckets)));
        assert_eq!(buckets(&[0x10, 0].repeat(count)), Err(Fault::Point(PointError::TooManyBuckets)));
    }

    proptest! {
        #[test]
        fn packed_varints_round_trip(counts in proptest::collection::vec(any::<u64>(), 0..20), offset: i32) {
            let mut packed = Vec::new();
            for count in &counts {
                put_varint(&mut packed, *count);
            }
            let mut bytes = vec![0x08];
            put_varint(&mut bytes, u64::from((offset << 1 ^ offset >> 31) as u32));
            bytes.push(0x12);
            put_varint(&mut bytes, packed.len() as u64);
            bytes.extend(packed);
            let buckets = Buckets::read(Message { bytes: &bytes, base: 0 }).unwrap();
            prop_assert_eq!((buckets.offset, buckets.counts), (offset, counts));
        }
    }
}
