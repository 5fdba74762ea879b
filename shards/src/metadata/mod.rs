//! Metadata of one shard: what each family of metrics is, as senders describe it, in bounded memory.
//!
//! Owns:     the descriptions, by tenant and family.
//! Touches:  nothing: no clock, no I/O, so that recovery drives the same code.
//! Promises: no more than its limits allow is ever held. What does not fit is left out and counted: metadata is a
//!           courtesy to people who write queries, and no reason to fail a request.

mod store;

pub use store::{Described, MetadataLimits, MetadataStore, TEXT_BYTES_MAX, VARIANTS_MAX};

use std::sync::Arc;

/// The type of a family, with the numbers that remote write 1.0 and 2.0 have for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are OpenMetrics' own")]
pub enum MetricKind {
    Unknown,
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
}

impl MetricKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [MetricKind; 8] = [
        MetricKind::Unknown,
        MetricKind::Counter,
        MetricKind::Gauge,
        MetricKind::Histogram,
        MetricKind::GaugeHistogram,
        MetricKind::Summary,
        MetricKind::Info,
        MetricKind::StateSet,
    ];

    /// The type with a number; a number that no type has is that of a type not known here.
    pub fn of_number(number: u8) -> MetricKind {
        MetricKind::ALL.get(usize::from(number)).copied().unwrap_or(MetricKind::Unknown)
    }

    /// The name in Prometheus' API.
    pub fn name(self) -> &'static str {
        match self {
            MetricKind::Unknown => "unknown",
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
            MetricKind::GaugeHistogram => "gaugehistogram",
            MetricKind::Summary => "summary",
            MetricKind::Info => "info",
            MetricKind::StateSet => "stateset",
        }
    }
}

/// What one sender says of a family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Its type.
    pub kind: MetricKind,
    /// Its help text, perhaps empty.
    pub help: Arc<str>,
    /// Its unit, perhaps empty.
    pub unit: Arc<str>,
}

/// Why a description is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum MetadataReason {
    /// The family has no name, or a text is not UTF-8.
    Invalid,
    /// Its texts are too long.
    TooLong,
    /// The tenant, or all tenants together, have as many as they may.
    Full,
    /// The write-ahead log has no room to spare for it at the moment.
    RingFull,
    /// Its request has more that is new than one request may write to the write-ahead log.
    RequestLimit,
    /// Its tenant is new, while there are as many as there may be.
    TenantLimit,
}

impl MetadataReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [MetadataReason; 6] = [
        MetadataReason::Invalid,
        MetadataReason::TooLong,
        MetadataReason::Full,
        MetadataReason::RingFull,
        MetadataReason::RequestLimit,
        MetadataReason::TenantLimit,
    ];

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            MetadataReason::Invalid => "invalid",
            MetadataReason::TooLong => "too_long",
            MetadataReason::Full => "full",
            MetadataReason::RingFull => "ring_full",
            MetadataReason::RequestLimit => "request_limit",
            MetadataReason::TenantLimit => "tenant_limit",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_keep_their_numbers() {
        for (number, kind) in MetricKind::ALL.into_iter().enumerate() {
            assert_eq!((kind as usize, MetricKind::of_number(number as u8)), (number, kind));
        }
        assert_eq!(MetricKind::of_number(200), MetricKind::Unknown);
    }
}
