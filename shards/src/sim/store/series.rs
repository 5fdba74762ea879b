//! The series of a history: small numbers that labels are made from, and that can be read from labels again.

use crate::Labels;
use crate::wire::canonical_label_bytes;

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
    /// Of the value.
    pub bits: u64,
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
