//! The native histogram of a remote write request (prometheus.Histogram; 1.0 and 2.0 have the same).
//!
//! Schema: oneof {1: uint64 count, 2: double count}, 3: double sum, 4: sint32 schema, 5: double zero_threshold,
//! oneof {6: uint64 zero_count, 7: double zero_count}, 8: negative spans, 9: negative deltas (sint64), 10: negative counts
//! (double), 11 to 13: the same of the positive side, 14: reset hint, 15: int64 timestamp, 16: custom values (double).
//! Span {1: sint32 offset, 2: uint32 length}. The type of the count says which kind it is.

use super::proto::{Field, Reader, Value, WireError};
use crate::chunk::{AnyHistogram, Buckets, FloatHistogram, Histogram, HistogramError, ResetHint, Span};

/// The longest message that is taken. Real ones have some hundred bytes.
pub const HISTOGRAM_BYTES_MAX: usize = 256 << 10;

/// The most buckets, spans or bounds of one histogram. A chunk holds several histograms with the buckets of all of them,
/// and has to stay far below the longest that the chunk log takes.
pub const BUCKETS_MAX: usize = 16 << 10;

/// Why bytes are not a native histogram that is taken.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum HistogramMessageError {
    /// They are longer than any histogram may be.
    #[error("a histogram of {bytes} bytes is larger than {HISTOGRAM_BYTES_MAX}")]
    TooLarge {
        /// Their length.
        bytes: usize,
    },
    /// More buckets, spans or bounds than a histogram may have.
    #[error("a histogram has more than {BUCKETS_MAX} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
    },
    /// They are not the message.
    #[error("a histogram cannot be decoded: {0}")]
    Wire(#[from] WireError),
    /// What it says cannot be.
    #[error(transparent)]
    Invalid(#[from] HistogramError),
}

/// Decodes a histogram and checks it. A schema that is finer than the accepted ones becomes the finest of them.
///
/// # Errors
/// When it is none, is too large, or breaks a rule of Prometheus.
pub fn parse_histogram(message: &[u8]) -> Result<AnyHistogram, HistogramMessageError> {
    if message.len() > HISTOGRAM_BYTES_MAX {
        return Err(HistogramMessageError::TooLarge { bytes: message.len() });
    }
    let mut parts = Parts::default();
    let mut fields = Reader::new(message, 0);
    while let Some(field) = fields.field()? {
        parts.add(&field)?;
    }
    let mut histogram = parts.finish();
    if histogram.bucket_count() > BUCKETS_MAX {
        return Err(HistogramMessageError::TooMany { what: "buckets" });
    }
    histogram.accept()?;
    Ok(histogram)
}

/// A number of observations, of the type that the sender chose.
#[derive(Clone, Copy)]
enum Count {
    Integer(u64),
    Float(f64),
}

/// One side of zero, as both kinds have it.
#[derive(Default)]
struct SideParts {
    spans: Vec<Span>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

/// What the fields say.
#[derive(Default)]
struct Parts {
    count: Option<Count>,
    zero_count: Option<Count>,
    sum: f64,
    schema: i32,
    zero_threshold: f64,
    positive: SideParts,
    negative: SideParts,
    reset_hint: ResetHint,
    custom_values: Vec<f64>,
}

impl Parts {
    fn add(&mut self, field: &Field<'_>) -> Result<(), HistogramMessageError> {
        match field.number {
            1 => self.count = Some(Count::Integer(field.varint()?)),
            2 => self.count = Some(Count::Float(double(field)?)),
            3 => self.sum = double(field)?,
            4 => self.schema = sint32(field)?,
            5 => self.zero_threshold = double(field)?,
            6 => self.zero_count = Some(Count::Integer(field.varint()?)),
            7 => self.zero_count = Some(Count::Float(double(field)?)),
            8 => self.negative.spans.push(span(field)?),
            9 => sint64s(field, &mut self.negative.deltas)?,
            10 => doubles(field, &mut self.negative.counts)?,
            11 => self.positive.spans.push(span(field)?),
            12 => sint64s(field, &mut self.positive.deltas)?,
            13 => doubles(field, &mut self.positive.counts)?,
            14 => {
                self.reset_hint = match field.varint()? {
                    1 => ResetHint::Yes,
                    2 => ResetHint::No,
                    3 => ResetHint::Gauge,
                    _ => ResetHint::Unknown,
                };
            }
            16 => doubles(field, &mut self.custom_values)?,
            _ => {}
        }
        let Parts { positive, negative, custom_values, .. } = self;
        if positive.spans.len().max(negative.spans.len()) > BUCKETS_MAX {
            return Err(HistogramMessageError::TooMany { what: "spans" });
        }
        if custom_values.len() > BUCKETS_MAX {
            return Err(HistogramMessageError::TooMany { what: "bounds" });
        }
        Ok(())
    }

    fn finish(self) -> AnyHistogram {
        let Parts { sum, schema, zero_threshold, reset_hint, custom_values, .. } = self;
        match self.count {
            Some(Count::Float(count)) => AnyHistogram::Float(FloatHistogram {
                reset_hint,
                schema,
                zero_threshold,
                zero_count: match self.zero_count {
                    Some(Count::Float(zero_count)) => zero_count,
                    _ => 0.0,
                },
                count,
                sum,
                positive: Buckets { spans: self.positive.spans, values: self.positive.counts },
                negative: Buckets { spans: self.negative.spans, values: self.negative.counts },
                custom_values,
            }),
            integer => AnyHistogram::Integer(Histogram {
                reset_hint,
                schema,
                zero_threshold,
                zero_count: match self.zero_count {
                    Some(Count::Integer(zero_count)) => zero_count,
                    _ => 0,
                },
                count: match integer {
                    Some(Count::Integer(count)) => count,
                    _ => 0,
                },
                sum,
                positive: Buckets { spans: self.positive.spans, values: self.positive.deltas },
                negative: Buckets { spans: self.negative.spans, values: self.negative.deltas },
                custom_values,
            }),
        }
    }
}

fn double(field: &Field<'_>) -> Result<f64, WireError> {
    field.fixed64().map(f64::from_bits)
}

fn sint32(field: &Field<'_>) -> Result<i32, WireError> {
    // As every decoder of protobuf does, of a longer number the low bits count.
    field.varint().map(|value| unzigzag(u64::from(value as u32)) as i32)
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn span(field: &Field<'_>) -> Result<Span, WireError> {
    let bytes = field.bytes()?;
    let mut span = Span::default();
    let mut fields = Reader::new(bytes, field.end - bytes.len());
    while let Some(field) = fields.field()? {
        match field.number {
            1 => span.offset = sint32(&field)?,
            2 => span.length = field.varint()? as u32,
            _ => {}
        }
    }
    Ok(span)
}

/// The numbers of a repeated field: packed, as every known sender writes them, or one in each field.
fn sint64s(field: &Field<'_>, out: &mut Vec<i64>) -> Result<(), WireError> {
    let Value::Bytes(bytes) = field.value else {
        out.push(unzigzag(field.varint()?));
        return Ok(());
    };
    let mut numbers = Reader::new(bytes, field.end - bytes.len());
    while let Some(number) = numbers.packed()? {
        out.push(unzigzag(number));
    }
    Ok(())
}

fn doubles(field: &Field<'_>, out: &mut Vec<f64>) -> Result<(), WireError> {
    let Value::Bytes(bytes) = field.value else {
        out.push(double(field)?);
        return Ok(());
    };
    let mut numbers = bytes.chunks_exact(8);
    out.extend(
        numbers
            .by_ref()
            .map(|bytes| f64::from_le_bytes(bytes.try_into().expect("each piece has the size of a double"))),
    );
    if numbers.remainder().is_empty() { Ok(()) } else { Err(WireError::Truncated { offset: field.end }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::STALE_NAN_BITS;
    use crate::chunk::{SCHEMA_CUSTOM, SCHEMA_MAX};
    use proptest::prelude::*;
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    struct SpanMessage {
        #[prost(sint32, tag = "1")]
        offset: i32,
        #[prost(uint32, tag = "2")]
        length: u32,
    }

    #[derive(Clone, PartialEq, Message)]
    struct HistogramMessage {
        #[prost(uint64, optional, tag = "1")]
        count_int: Option<u64>,
        #[prost(double, optional, tag = "2")]
        count_float: Option<f64>,
        #[prost(double, tag = "3")]
        sum: f64,
        #[prost(sint32, tag = "4")]
        schema: i32,
        #[prost(double, tag = "5")]
        zero_threshold: f64,
        #[prost(uint64, optional, tag = "6")]
        zero_count_int: Option<u64>,
        #[prost(double, optional, tag = "7")]
        zero_count_float: Option<f64>,
        #[prost(message, repeated, tag = "8")]
        negative_spans: Vec<SpanMessage>,
        #[prost(sint64, repeated, tag = "9")]
        negative_deltas: Vec<i64>,
        #[prost(double, repeated, tag = "10")]
        negative_counts: Vec<f64>,
        #[prost(message, repeated, tag = "11")]
        positive_spans: Vec<SpanMessage>,
        #[prost(sint64, repeated, tag = "12")]
        positive_deltas: Vec<i64>,
        #[prost(double, repeated, tag = "13")]
        positive_counts: Vec<f64>,
        #[prost(int32, tag = "14")]
        reset_hint: i32,
        #[prost(int64, tag = "15")]
        timestamp: i64,
        #[prost(double, repeated, tag = "16")]
        custom_values: Vec<f64>,
    }

    fn integer() -> HistogramMessage {
        HistogramMessage {
            count_int: Some(7),
            sum: -2.5,
            schema: 3,
            zero_threshold: 1e-128,
            zero_count_int: Some(1),
            negative_spans: vec![SpanMessage { offset: -4, length: 1 }],
            negative_deltas: vec![2],
            positive_spans: vec![
                SpanMessage { offset: 0, length: 2 },
                SpanMessage { offset: 300, length: 1 },
            ],
            positive_deltas: vec![1, 1, -1],
            reset_hint: 3,
            timestamp: 5,
            ..HistogramMessage::default()
        }
    }

    #[test]
    fn both_kinds_are_what_the_sender_wrote() {
        let AnyHistogram::Integer(histogram) = parse_histogram(&integer().encode_to_vec()).unwrap() else {
            panic!("the count is an integer")
        };
        assert_eq!((histogram.count, histogram.zero_count, histogram.sum), (7, 1, -2.5));
        assert_eq!((histogram.schema, histogram.reset_hint), (3, ResetHint::Gauge));
        assert_eq!(histogram.positive.values, [1, 1, -1]);
        assert_eq!(histogram.positive.spans[1], Span { offset: 300, length: 1 });
        assert_eq!(histogram.negative.spans, [Span { offset: -4, length: 1 }]);
        let float = HistogramMessage {
            count_int: None,
            count_float: Some(2.5),
            zero_count_int: None,
            negative_spans: Vec::new(),
            negative_deltas: Vec::new(),
            positive_deltas: Vec::new(),
            positive_counts: vec![0.5, 1.0, 1.0],
            ..integer()
        };
        let AnyHistogram::Float(histogram) = parse_histogram(&float.encode_to_vec()).unwrap() else {
            panic!("the count is a float")
        };
        assert_eq!((histogram.count, &*histogram.positive.values), (2.5, &[0.5, 1.0, 1.0][..]));
        let custom = HistogramMessage {
            schema: SCHEMA_CUSTOM,
            zero_threshold: 0.0,
            custom_values: vec![0.1, 1.0],
            positive_spans: vec![SpanMessage { offset: 0, length: 3 }],
            ..float
        };
        assert!(
            parse_histogram(&custom.encode_to_vec())
                .unwrap()
                .value()
                .is_repeated_by(parse_histogram(&custom.encode_to_vec()).unwrap().value())
        );
    }

    #[test]
    fn a_stale_marker_and_an_empty_message_are_histograms() {
        let stale = HistogramMessage { sum: f64::from_bits(STALE_NAN_BITS), ..HistogramMessage::default() };
        assert!(parse_histogram(&stale.encode_to_vec()).unwrap().is_stale());
        assert_eq!(parse_histogram(&[]), Ok(AnyHistogram::Integer(Histogram::default())));
    }

    #[test]
    fn numbers_one_by_one_are_the_same_as_packed() {
        let mut bytes = HistogramMessage { positive_deltas: Vec::new(), ..integer() }.encode_to_vec();
        // Field 12, as three varints: 1, 1, -1.
        bytes.extend([0x60, 2, 0x60, 2, 0x60, 1]);
        assert_eq!(parse_histogram(&bytes), parse_histogram(&integer().encode_to_vec()));
    }

    #[test]
    fn finer_schemas_are_reduced() {
        let fine = HistogramMessage { schema: 20, ..integer() };
        let AnyHistogram::Integer(histogram) = parse_histogram(&fine.encode_to_vec()).unwrap() else {
            panic!("the count is an integer")
        };
        assert_eq!((histogram.schema, histogram.count), (SCHEMA_MAX, 7));
    }

    #[test]
    fn what_is_too_large_or_wrong_is_refused_with_its_reason() {
        let many = |count: usize| HistogramMessage {
            count_int: Some(0),
            positive_spans: vec![SpanMessage { offset: 0, length: count as u32 }],
            positive_deltas: vec![0; count],
            ..HistogramMessage::default()
        };
        assert!(parse_histogram(&many(BUCKETS_MAX).encode_to_vec()).is_ok());
        let buckets = parse_histogram(&many(BUCKETS_MAX + 1).encode_to_vec());
        assert_eq!(buckets, Err(HistogramMessageError::TooMany { what: "buckets" }));
        let spans = HistogramMessage {
            positive_spans: vec![SpanMessage::default(); BUCKETS_MAX + 1],
            ..HistogramMessage::default()
        };
        let spans = parse_histogram(&spans.encode_to_vec());
        assert_eq!(spans, Err(HistogramMessageError::TooMany { what: "spans" }));
        let bounds = HistogramMessage { custom_values: vec![0.5; BUCKETS_MAX + 1], ..integer() };
        let bounds = parse_histogram(&bounds.encode_to_vec());
        assert_eq!(bounds, Err(HistogramMessageError::TooMany { what: "bounds" }));
        let long = parse_histogram(&vec![0; HISTOGRAM_BYTES_MAX + 1]);
        assert_eq!(long, Err(HistogramMessageError::TooLarge { bytes: HISTOGRAM_BYTES_MAX + 1 }));
        let schema = parse_histogram(&HistogramMessage { schema: 60, ..integer() }.encode_to_vec());
        assert_eq!(schema, Err(HistogramMessageError::Invalid(HistogramError::Schema { schema: 60 })));
        let count = parse_histogram(&HistogramMessage { count_int: Some(8), ..integer() }.encode_to_vec());
        assert!(matches!(count, Err(HistogramMessageError::Invalid(HistogramError::CountMismatch { .. }))));
        for bytes in [&[0x0d, 0, 0, 0, 0][..], &[0x62, 1, 0x80], &[0x6a, 7, 0, 0, 0, 0, 0, 0, 0]] {
            assert!(matches!(parse_histogram(bytes), Err(HistogramMessageError::Wire(_))), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_end_in_a_result(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_histogram(&bytes);
        }

        #[test]
        fn what_is_taken_from_mutated_messages_is_sound(
            edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
            schema in -60i32..70,
        ) {
            let mut bytes = HistogramMessage { schema, ..integer() }.encode_to_vec();
            for (at, byte) in edits {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(histogram) = parse_histogram(&bytes) {
                let mut alone = Vec::new();
                histogram.put_alone(&mut alone, 7);
                prop_assert!(alone.len() <= histogram.alone_bytes_max());
                let (at_ms, read) = AnyHistogram::take_alone(histogram.encoding(), &alone).unwrap();
                prop_assert_eq!(at_ms, 7);
                prop_assert!(read.value().is_repeated_by(histogram.value()));
            }
        }
    }
}
