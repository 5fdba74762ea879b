//! The series of a history: small numbers that labels are made from, and that can be read from labels again.

use crate::chunk::Value;
use crate::wire::{canonical_label_bytes, put_varint};
use crate::{Labels, STALE_NAN_BITS};

/// The tenants. They have series of the same labels.
pub const TENANTS: [&str; 3] = ["red", "green", "blue"];

/// One series of one tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesName {
    /// Index of the tenant.
    pub tenant: usize,
    /// What the labels are made from.
    pub number: u32,
}

/// A sample as a sender has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    pub series: SeriesName,
    pub timestamp_ms: i64,
    /// Of the value, or of the sum of a histogram.
    pub bits: u64,
}

impl Sent {
    /// Whether it is sent as a native histogram: some series change their kind as time goes on.
    pub fn is_histogram(&self) -> bool {
        let is_time = self.timestamp_ms.div_euclid(400) % 3 != 0;
        self.series.number.is_multiple_of(3) && is_time && self.bits != STALE_NAN_BITS
    }

    /// The histogram as it comes over the wire: a counter in one bucket, which is another one from time to time.
    pub fn histogram_message(&self) -> Vec<u8> {
        let count = self.timestamp_ms.rem_euclid(700) as u64;
        let mut message = vec![0x08];
        put_varint(&mut message, count);
        message.push(0x19);
        message.extend_from_slice(&self.bits.to_le_bytes());
        let bucket = self.timestamp_ms.div_euclid(90).rem_euclid(5) as u8;
        message.extend([0x5a, 4, 0x08, 2 * bucket, 0x10, 1, 0x60]);
        put_varint(&mut message, 2 * count);
        message
    }
}

/// What a sample is known by, whatever its kind.
pub fn bits_of(value: Value<'_>) -> u64 {
    match value {
        Value::Float(value) => value.to_bits(),
        Value::Histogram(histogram) => histogram.sum.to_bits(),
        Value::FloatHistogram(histogram) => histogram.sum.to_bits(),
    }
}

/// The job that a series belongs to.
pub fn job_of(number: u32) -> String {
    format!("job-{}", number % 4)
}

fn labels(number: u32) -> [(&'static str, String); 3] {
    let name = format!("metric_{}", number % 3);
    [("__name__", name), ("job", job_of(number)), ("pod", format!("pod-{number}"))]
}

/// A series' labels as they come over the wire.
pub fn label_bytes(number: u32) -> Vec<u8> {
    let labels = labels(number);
    let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, &**value)).collect();
    canonical_label_bytes(&labels)
}

/// The number that all of the labels are made from; `None` if they are of no series of a history.
pub fn number_of(found: &Labels) -> Option<u32> {
    let number = found.get("pod")?.strip_prefix("pod-")?.parse().ok()?;
    let expected = labels(number);
    let expected = expected.iter().map(|(name, value)| (*name, &**value));
    found.iter().eq(expected).then_some(number)
}
