//! What a frame's payload says: series that were created, samples, native histograms, exemplars, metadata, and bounds of
//! a tenant's times.
//!
//! A payload is a sequence of items without any frame of their own. The first byte of an item says what it is; for
//! a sample it also carries the length of the value and the two most frequent deltas, so that the next sample of
//! a scrape takes this byte and the value. Deltas start afresh in each payload: a payload is read alone.

use crate::chunk::{AnyHistogram, Encoding};

/// Low half of an item's first byte: 0 to 8 is a sample whose value has so many bytes.
const KIND_MASK: u8 = 0x0f;

/// Low half of an item's first byte: a series. The other values are reserved for further kinds.
const KIND_SERIES: u8 = 0x0f;

/// Low half of an item's first byte: the bounds of a tenant's times.
const KIND_BOUNDS: u8 = 0x0e;

/// Low half of an item's first byte: a native histogram.
const KIND_HISTOGRAM: u8 = 0x0d;
/// First byte of an item: an exemplar.
const KIND_EXEMPLAR: u8 = 0x0c;

/// First byte of an item: what a family of metrics is.
const KIND_METADATA: u8 = 0x0b;

/// The sample's reference is the previous sample's plus one.
const NEXT_REFERENCE: u8 = 0x10;

/// The sample's time is the previous sample's.
const SAME_TIME: u8 = 0x20;

/// Flags that no version has given a meaning.
const FLAGS_UNKNOWN: u8 = 0xc0;

/// A 64-bit number takes at most ten bytes of seven bits.
const VARINT_BYTES_MAX: usize = 10;

/// First byte, reference delta, time delta, value; and what makes it a size that is copied in one piece.
const SAMPLE_BYTES_MAX: usize = (1 + VARINT_BYTES_MAX + VARINT_BYTES_MAX + 8_usize).next_power_of_two();

/// What the next sample's deltas refer to.
#[derive(Debug, Clone, Copy, Default)]
struct Previous {
    reference: u32,
    timestamp_ms: i64,
}

/// Builds a payload. It keeps its memory from one payload to the next.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
    previous: Previous,
    series_bytes: usize,
}

/// Receives what a payload says, in order.
pub trait RecordVisitor {
    /// A series was created. `label_bytes` are its labels in their canonical encoding.
    fn series(&mut self, reference: u32, tenant: &str, label_bytes: &[u8]);

    /// A sample was accepted for a series.
    fn sample(&mut self, reference: u32, timestamp_ms: i64, value: f64);

    /// A native histogram was accepted for a series.
    fn histogram(&mut self, reference: u32, timestamp_ms: i64, histogram: &AnyHistogram);

    /// A tenant takes no sample before `frozen_ms` any more, and what it had before `truncated_ms` is in a block.
    fn bounds(&mut self, tenant: &str, frozen_ms: i64, truncated_ms: i64);

    /// An exemplar was accepted for the series with a key.
    fn exemplar(&mut self, exemplar: ExemplarRecord<'_>);

    /// A tenant's family of metrics got a description.
    fn metadata(&mut self, metadata: MetadataRecord<'_>);
}

/// An exemplar. It names its series by the key, not by the number, which another series may get while the frame is
/// being filled: a series without samples goes, and its last exemplar may still be on its way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExemplarRecord<'a> {
    /// The key of its series.
    pub key: u128,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The observed value.
    pub value: f64,
    /// Its own labels in their canonical encoding.
    pub label_bytes: &'a [u8],
}

/// What a tenant's family of metrics is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetadataRecord<'a> {
    /// Whose.
    pub tenant: &'a str,
    /// The family's name.
    pub family: &'a str,
    /// The number of its type in remote write.
    pub kind: u8,
    /// Its help text.
    pub help: &'a str,
    /// Its unit.
    pub unit: &'a str,
}

/// An upper bound of what a histogram takes in a payload, in bytes.
pub fn histogram_record_bytes_max(histogram: &AnyHistogram) -> usize {
    2 + VARINT_BYTES_MAX + size_of::<u32>() + histogram.alone_bytes_max()
}

/// Why bytes are not a payload. What the visitor received before is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The payload ends inside an item.
    #[error("the item at byte {at} is cut off")]
    Truncated {
        /// Where the item begins.
        at: usize,
    },
    /// An item of a kind that this version does not know.
    #[error(
        "the item at byte {at} is of the unknown kind {kind:#04x}; was this WAL written by a newer version?"
    )]
    UnknownKind {
        /// Where the item begins.
        at: usize,
        /// Its first byte.
        kind: u8,
    },
    /// A number that does not fit, a tenant that is not UTF-8, or a histogram that is none.
    #[error("the item at byte {at} is malformed")]
    Malformed {
        /// Where the item begins.
        at: usize,
    },
}

impl Encoder {
    /// Appends a series. To be called before its first sample.
    pub fn series(&mut self, reference: u32, tenant: &str, label_bytes: &[u8]) {
        let begin = self.bytes.len();
        self.bytes.reserve(1 + 3 * VARINT_BYTES_MAX + tenant.len() + label_bytes.len());
        self.bytes.push(KIND_SERIES);
        self.varint(u64::from(reference));
        self.varint(tenant.len() as u64);
        self.bytes.extend_from_slice(tenant.as_bytes());
        self.varint(label_bytes.len() as u64);
        self.bytes.extend_from_slice(label_bytes);
        self.series_bytes += self.bytes.len() - begin;
    }

    /// Appends the bounds of a tenant's times.
    pub fn bounds(&mut self, tenant: &str, frozen_ms: i64, truncated_ms: i64) {
        self.bytes.push(KIND_BOUNDS);
        self.varint(tenant.len() as u64);
        self.bytes.extend_from_slice(tenant.as_bytes());
        self.bytes.extend_from_slice(&frozen_ms.to_le_bytes());
        self.bytes.extend_from_slice(&truncated_ms.to_le_bytes());
    }

    /// Appends an exemplar.
    pub fn exemplar(&mut self, exemplar: ExemplarRecord<'_>) {
        self.bytes.push(KIND_EXEMPLAR);
        self.bytes.extend_from_slice(&exemplar.key.to_le_bytes());
        self.bytes.extend_from_slice(&exemplar.timestamp_ms.to_le_bytes());
        self.bytes.extend_from_slice(&exemplar.value.to_bits().to_le_bytes());
        self.sized(exemplar.label_bytes);
    }

    /// Appends the description of a family of metrics.
    pub fn metadata(&mut self, metadata: MetadataRecord<'_>) {
        self.bytes.push(KIND_METADATA);
        self.bytes.push(metadata.kind);
        for text in [metadata.tenant, metadata.family, metadata.help, metadata.unit] {
            self.sized(text.as_bytes());
        }
    }

    /// Appends a sample.
    #[inline]
    pub fn sample(&mut self, reference: u32, timestamp_ms: i64, value: f64) {
        let mut item = [0; SAMPLE_BYTES_MAX];
        let mut len = 1;
        let mut first = 0;
        if reference == self.previous.reference.wrapping_add(1) {
            first |= NEXT_REFERENCE;
        } else {
            let delta = i64::from(reference) - i64::from(self.previous.reference);
            len += put_varint(&mut item[len..], zigzag(delta));
        }
        if timestamp_ms == self.previous.timestamp_ms {
            first |= SAME_TIME;
        } else {
            let delta = timestamp_ms.wrapping_sub(self.previous.timestamp_ms);
            len += put_varint(&mut item[len..], zigzag(delta));
        }
        // The low bytes of a double are zero for small integers and round numbers: only the others are written.
        let value_len = 8 - (value.to_bits().trailing_zeros() / 8) as usize;
        item[len..len + 8].copy_from_slice(&value.to_bits().to_be_bytes());
        item[0] = first | value_len as u8;
        // A copy of a fixed size is two instructions, one of a variable size is a call.
        let end = self.bytes.len() + len + value_len;
        self.bytes.extend_from_slice(&item);
        self.bytes.truncate(end);
        self.previous = Previous { reference, timestamp_ms };
    }

    /// Appends a native histogram.
    pub fn histogram(&mut self, reference: u32, timestamp_ms: i64, histogram: &AnyHistogram) {
        self.bytes.push(KIND_HISTOGRAM);
        self.varint(u64::from(reference));
        self.bytes.push(histogram.encoding() as u8);
        let len_at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; size_of::<u32>()]);
        let begin = self.bytes.len();
        histogram.put_alone(&mut self.bytes, timestamp_ms);
        let len = u32::try_from(self.bytes.len() - begin).expect("a histogram's size is bounded on the wire");
        self.bytes[len_at..begin].copy_from_slice(&len.to_le_bytes());
    }

    /// The payload so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its length.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// How many of its bytes are series.
    pub fn series_bytes(&self) -> usize {
        self.series_bytes
    }

    /// Whether nothing was appended since the last [`Encoder::clear`].
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Starts the next payload.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.previous = Previous::default();
        self.series_bytes = 0;
    }

    fn sized(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    fn varint(&mut self, value: u64) {
        let mut item = [0; VARINT_BYTES_MAX];
        let len = put_varint(&mut item, value);
        self.bytes.extend_from_slice(&item[..len]);
    }
}

#[inline]
fn zigzag(delta: i64) -> u64 {
    ((delta << 1) ^ (delta >> 63)) as u64
}

#[inline]
fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[inline]
fn put_varint(space: &mut [u8], mut value: u64) -> usize {
    let mut len = 0;
    while value >= 0x80 {
        space[len] = value as u8 | 0x80;
        value >>= 7;
        len += 1;
    }
    space[len] = value as u8;
    len + 1
}

/// Hands everything that a payload says to the visitor.
///
/// # Errors
/// When the bytes are not a payload, which the checksum of the frame rules out for anything but a newer version.
pub fn decode(payload: &[u8], visitor: &mut impl RecordVisitor) -> Result<(), RecordError> {
    let mut previous = Previous::default();
    let mut reader = Reader { payload, position: 0, item: 0 };
    while let Some(first) = reader.start_item() {
        match first & KIND_MASK {
            value_len @ 0..=8 if first & FLAGS_UNKNOWN == 0 => {
                previous = reader.sample(first, usize::from(value_len), previous, visitor)?;
            }
            _ if first == KIND_SERIES => reader.series(visitor)?,
            _ if first == KIND_BOUNDS => reader.bounds(visitor)?,
            _ if first == KIND_HISTOGRAM => reader.histogram(visitor)?,
            _ if first == KIND_EXEMPLAR => visitor.exemplar(reader.exemplar()?),
            _ if first == KIND_METADATA => visitor.metadata(reader.metadata()?),
            _ => return Err(RecordError::UnknownKind { at: reader.item, kind: first }),
        }
    }
    Ok(())
}

struct Reader<'a> {
    payload: &'a [u8],
    position: usize,
    /// Where the present item begins, for messages.
    item: usize,
}

impl<'a> Reader<'a> {
    #[inline]
    fn start_item(&mut self) -> Option<u8> {
        self.item = self.position;
        let first = *self.payload.get(self.position)?;
        self.position += 1;
        Some(first)
    }

    #[inline]
    fn sample(
        &mut self,
        first: u8,
        value_len: usize,
        previous: Previous,
        visitor: &mut impl RecordVisitor,
    ) -> Result<Previous, RecordError> {
        let reference = if first & NEXT_REFERENCE != 0 {
            previous.reference.wrapping_add(1)
        } else {
            let delta = unzigzag(self.varint()?);
            let reference = i64::from(previous.reference).checked_add(delta);
            reference.and_then(|reference| u32::try_from(reference).ok()).ok_or_else(|| self.malformed())?
        };
        let timestamp_ms = if first & SAME_TIME != 0 {
            previous.timestamp_ms
        } else {
            previous.timestamp_ms.wrapping_add(unzigzag(self.varint()?))
        };
        visitor.sample(reference, timestamp_ms, self.value(value_len)?);
        Ok(Previous { reference, timestamp_ms })
    }

    #[inline]
    fn value(&mut self, len: usize) -> Result<f64, RecordError> {
        let bits = match self.payload[self.position..].first_chunk::<8>() {
            Some(eight) => {
                self.position += len;
                let unwanted = 64 - 8 * len as u32;
                u64::from_be_bytes(*eight) & u64::MAX.checked_shl(unwanted).unwrap_or(0)
            }
            None => {
                let mut eight = [0; 8];
                eight[..len].copy_from_slice(self.take(len)?);
                u64::from_be_bytes(eight)
            }
        };
        Ok(f64::from_bits(bits))
    }

    fn series(&mut self, visitor: &mut impl RecordVisitor) -> Result<(), RecordError> {
        let reference = u32::try_from(self.varint()?).map_err(|_| self.malformed())?;
        let tenant = self.sized()?;
        let tenant = std::str::from_utf8(tenant).map_err(|_| self.malformed())?;
        let label_bytes = self.sized()?;
        visitor.series(reference, tenant, label_bytes);
        Ok(())
    }

    fn bounds(&mut self, visitor: &mut impl RecordVisitor) -> Result<(), RecordError> {
        let tenant = self.sized()?;
        let tenant = std::str::from_utf8(tenant).map_err(|_| self.malformed())?;
        let (frozen_ms, truncated_ms) = (self.time()?, self.time()?);
        visitor.bounds(tenant, frozen_ms, truncated_ms);
        Ok(())
    }

    fn histogram(&mut self, visitor: &mut impl RecordVisitor) -> Result<(), RecordError> {
        let reference = u32::try_from(self.varint()?).map_err(|_| self.malformed())?;
        let encoding = Encoding::from_byte(self.take(1)?[0]).ok_or_else(|| self.malformed())?;
        let len = self.take(size_of::<u32>())?.try_into().map_err(|_| self.malformed())?;
        let bytes = self.take(u32::from_le_bytes(len) as usize)?;
        let (timestamp_ms, histogram) =
            AnyHistogram::take_alone(encoding, bytes).map_err(|_| self.malformed())?;
        visitor.histogram(reference, timestamp_ms, &histogram);
        Ok(())
    }

    fn exemplar(&mut self) -> Result<ExemplarRecord<'a>, RecordError> {
        Ok(ExemplarRecord {
            key: u128::from_le_bytes(self.array()?),
            timestamp_ms: self.time()?,
            value: f64::from_bits(u64::from_le_bytes(self.array()?)),
            label_bytes: self.sized()?,
        })
    }

    fn metadata(&mut self) -> Result<MetadataRecord<'a>, RecordError> {
        let [kind] = self.array()?;
        let (tenant, family) = (self.text()?, self.text()?);
        Ok(MetadataRecord { tenant, family, kind, help: self.text()?, unit: self.text()? })
    }

    fn time(&mut self) -> Result<i64, RecordError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        self.take(N)?.try_into().map_err(|_| self.malformed())
    }

    fn text(&mut self) -> Result<&'a str, RecordError> {
        std::str::from_utf8(self.sized()?).map_err(|_| self.malformed())
    }

    fn sized(&mut self) -> Result<&'a [u8], RecordError> {
        let len = usize::try_from(self.varint()?).map_err(|_| self.malformed())?;
        self.take(len)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], RecordError> {
        let rest = &self.payload[self.position..];
        let taken = rest.get(..len).ok_or(RecordError::Truncated { at: self.item })?;
        self.position += len;
        Ok(taken)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, RecordError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            if shift == 63 && byte > 1 {
                return Err(self.malformed());
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.malformed())
    }

    #[cold]
    fn malformed(&self) -> RecordError {
        RecordError::Malformed { at: self.item }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::{Buckets, FloatHistogram, Histogram, ResetHint, Span};
    use proptest::prelude::*;

    #[derive(Debug, Clone, PartialEq)]
    enum Item {
        Series(u32, String, Vec<u8>),
        Sample(u32, i64, u64),
        Bounds(String, i64, i64),
        Histogram(u32, i64, AnyHistogram),
        Exemplar(u128, i64, u64, Vec<u8>),
        Metadata([String; 4], u8),
    }

    #[derive(Default)]
    struct Collected(Vec<Item>);

    impl RecordVisitor for Collected {
        fn series(&mut self, reference: u32, tenant: &str, label_bytes: &[u8]) {
            self.0.push(Item::Series(reference, tenant.to_owned(), label_bytes.to_owned()));
        }

        fn sample(&mut self, reference: u32, timestamp_ms: i64, value: f64) {
            self.0.push(Item::Sample(reference, timestamp_ms, value.to_bits()));
        }

        fn bounds(&mut self, tenant: &str, frozen_ms: i64, truncated_ms: i64) {
            self.0.push(Item::Bounds(tenant.to_owned(), frozen_ms, truncated_ms));
        }

        fn histogram(&mut self, reference: u32, timestamp_ms: i64, histogram: &AnyHistogram) {
            self.0.push(Item::Histogram(reference, timestamp_ms, histogram.clone()));
        }

        fn exemplar(&mut self, exemplar: ExemplarRecord<'_>) {
            let ExemplarRecord { key, timestamp_ms, value, label_bytes } = exemplar;
            self.0.push(Item::Exemplar(key, timestamp_ms, value.to_bits(), label_bytes.to_owned()));
        }

        fn metadata(&mut self, metadata: MetadataRecord<'_>) {
            let MetadataRecord { tenant, family, kind, help, unit } = metadata;
            self.0.push(Item::Metadata([tenant, family, help, unit].map(str::to_owned), kind));
        }
    }

    fn encoded(items: &[Item]) -> Encoder {
        let mut encoder = Encoder::default();
        for item in items {
            match item {
                Item::Series(reference, tenant, labels) => encoder.series(*reference, tenant, labels),
                Item::Bounds(tenant, frozen_ms, truncated_ms) => {
                    encoder.bounds(tenant, *frozen_ms, *truncated_ms);
                }
                Item::Histogram(reference, timestamp_ms, histogram) => {
                    let before = encoder.len();
                    encoder.histogram(*reference, *timestamp_ms, histogram);
                    assert!(encoder.len() - before <= histogram_record_bytes_max(histogram));
                }
                Item::Sample(reference, timestamp_ms, bits) => {
                    encoder.sample(*reference, *timestamp_ms, f64::from_bits(*bits));
                }
                Item::Exemplar(key, timestamp_ms, bits, label_bytes) => encoder.exemplar(ExemplarRecord {
                    key: *key,
                    timestamp_ms: *timestamp_ms,
                    value: f64::from_bits(*bits),
                    label_bytes,
                }),
                Item::Metadata([tenant, family, help, unit], kind) => {
                    encoder.metadata(MetadataRecord { tenant, family, kind: *kind, help, unit });
                }
            }
        }
        encoder
    }

    fn decoded(payload: &[u8]) -> (Vec<Item>, Result<(), RecordError>) {
        let mut collected = Collected::default();
        let result = decode(payload, &mut collected);
        (collected.0, result)
    }

    fn any_histogram() -> impl Strategy<Value = AnyHistogram> {
        let hint = prop_oneof![Just(ResetHint::Unknown), Just(ResetHint::Yes), Just(ResetHint::Gauge)];
        let sum = any::<i32>().prop_map(f64::from);
        let values = proptest::collection::vec(any::<i64>(), 1..6);
        (hint, sum, values, -300i32..300, any::<bool>()).prop_map(
            |(reset_hint, sum, values, offset, is_float)| {
                let spans = vec![Span { offset, length: values.len() as u32 }];
                let whole = Histogram {
                    reset_hint,
                    count: values[0] as u64,
                    sum,
                    positive: Buckets { spans, values },
                    ..Histogram::default()
                };
                match is_float {
                    true => AnyHistogram::Float(FloatHistogram::from(&whole)),
                    false => AnyHistogram::Integer(whole),
                }
            },
        )
    }

    fn any_item() -> impl Strategy<Value = Item> {
        let reference = prop_oneof![0u32..40, any::<u32>()];
        let time = prop_oneof![Just(1_700_000_000_000i64), 0i64..100_000, any::<i64>()];
        let bits = prop_oneof![
            any::<u64>(),
            (0u32..100_000).prop_map(|v| f64::from(v).to_bits()),
            (0u32..1000).prop_map(|v| (f64::from(v) / 8.0).to_bits()),
            any::<u64>().prop_map(|payload| payload | f64::NAN.to_bits()),
            Just(crate::STALE_NAN_BITS),
            Just((-0.0f64).to_bits()),
        ];
        prop_oneof![
            1 => (reference.clone(), time.clone(), any_histogram())
                .prop_map(|(r, t, histogram)| Item::Histogram(r, t, histogram)),
            8 => (reference.clone(), time, bits).prop_map(|(r, t, v)| Item::Sample(r, t, v)),
            1 => (reference, ".{0,20}", proptest::collection::vec(any::<u8>(), 0..300))
                .prop_map(|(r, tenant, labels)| Item::Series(r, tenant, labels)),
            1 => (".{0,20}", any::<i64>(), any::<i64>())
                .prop_map(|(tenant, frozen_ms, truncated_ms)| Item::Bounds(tenant, frozen_ms, truncated_ms)),
            1 => (any::<u128>(), any::<i64>(), any::<u64>(), proptest::collection::vec(any::<u8>(), 0..60))
                .prop_map(|(key, ms, bits, labels)| Item::Exemplar(key, ms, bits, labels)),
            1 => (proptest::array::uniform4(".{0,20}"), any::<u8>())
                .prop_map(|(texts, kind)| Item::Metadata(texts, kind)),
        ]
    }

    #[test]
    fn bytes_are_those_of_the_format() {
        let items = [
            Item::Series(300, "t".to_owned(), vec![10, 0]),
            Item::Sample(300, 1000, 1f64.to_bits()),
            Item::Sample(301, 1000, 0f64.to_bits()),
            Item::Sample(299, 999, 0.1f64.to_bits()),
        ];
        let mut expected = vec![0x0f, 0xac, 0x02, 1, b't', 2, 10, 0];
        expected.extend([0x02, 0xd8, 0x04, 0xd0, 0x0f, 0x3f, 0xf0]);
        expected.extend([0x30]);
        expected.extend([0x08, 3, 1, 0x3f, 0xb9, 0x99, 0x99, 0x99, 0x99, 0x99, 0x9a]);
        assert_eq!(encoded(&items).bytes(), expected);
        let items = [
            Item::Exemplar(258, 3, 0.5f64.to_bits(), vec![10, 0]),
            Item::Metadata(["t", "up", "Help.", "s"].map(str::to_owned), 2),
        ];
        let mut expected = vec![0x0c, 2, 1];
        expected.extend([0; 14]);
        expected.extend([3, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([0, 0, 0, 0, 0, 0, 0xe0, 0x3f]);
        expected.extend([2, 10, 0]);
        expected.extend(b"\x0b\x02\x01t\x02up\x05Help.\x01s");
        assert_eq!(encoded(&items).bytes(), expected);
    }

    #[test]
    fn a_histogram_is_a_chunk_of_one_sample() {
        let histogram = AnyHistogram::Integer(Histogram { count: 1, zero_count: 1, ..Histogram::default() });
        let mut chunk = Vec::new();
        histogram.put_alone(&mut chunk, 1000);
        let payload = encoded(&[Item::Histogram(300, 1000, histogram.clone())]);
        let head = [0x0d, 0xac, 0x02, 2, chunk.len() as u8, 0, 0, 0];
        assert_eq!(payload.bytes(), [&head[..], &chunk].concat());
        let stale = AnyHistogram::Float(FloatHistogram::stale());
        let mut encoder = Encoder::default();
        encoder.histogram(7, -5, &stale);
        let (items, result) = decoded(encoder.bytes());
        assert!(
            matches!(&items[..], [Item::Histogram(7, -5, AnyHistogram::Float(read))] if read.is_stale()),
            "{items:?}"
        );
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn a_scrape_of_counters_takes_few_bytes() {
        let mut encoder = Encoder::default();
        for reference in 1..=1000u32 {
            encoder.sample(reference, 1_700_000_000_000, f64::from(reference * 7));
        }
        assert!(encoder.len() < 4200, "{} bytes for 1000 samples", encoder.len());
    }

    #[test]
    fn large_labels_and_empty_payloads_are_allowed() {
        let items = [Item::Series(u32::MAX, String::new(), vec![7; 256 << 10])];
        assert_eq!(decoded(encoded(&items).bytes()), (items.to_vec(), Ok(())));
        assert_eq!(decoded(&[]), (Vec::new(), Ok(())));
    }

    #[test]
    fn bytes_of_series_are_told_from_those_of_samples() {
        let mut encoder = Encoder::default();
        encoder.series(0, "t", &[7; 100]);
        let series_bytes = encoder.len();
        encoder.sample(0, 1, 1.0);
        assert!(encoder.len() > series_bytes);
        assert_eq!(encoder.series_bytes(), series_bytes);
        encoder.clear();
        assert_eq!(encoder.series_bytes(), 0);
    }

    proptest! {
        #[test]
        fn decoding_returns_what_was_appended(items in proptest::collection::vec(any_item(), 0..80)) {
            let mut encoder = encoded(&[Item::Sample(9, 9, 9)]);
            encoder.clear();
            prop_assert!(encoder.is_empty());
            let payload = encoded(&items);
            prop_assert_eq!(decoded(payload.bytes()), (items, Ok(())));
        }

        #[test]
        fn a_cut_payload_yields_the_items_before_the_cut(
            items in proptest::collection::vec(any_item(), 1..30),
            cut in any::<proptest::sample::Index>(),
        ) {
            let payload = encoded(&items);
            let (got, result) = decoded(&payload.bytes()[..cut.index(payload.len())]);
            prop_assert_eq!(&got[..], &items[..got.len()]);
            prop_assert!(got.len() < items.len());
            let whole_items = encoded(&items[..got.len()]).len();
            prop_assert_eq!(result.is_ok(), cut.index(payload.len()) == whole_items);
        }

        #[test]
        fn changed_bytes_end_in_a_result(
            items in proptest::collection::vec(any_item(), 1..30),
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..5),
        ) {
            let mut payload = encoded(&items).bytes().to_vec();
            for (at, byte) in changes {
                let at = at.index(payload.len());
                payload[at] = byte;
            }
            let _ = decoded(&payload);
        }

        #[test]
        fn random_bytes_end_in_a_result(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decoded(&bytes);
        }
    }
}
