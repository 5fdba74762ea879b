//! Exemplars of one shard: the newest ones, in bounded memory.
//!
//! Owns:     the exemplars, and the labels of the series that have any.
//! Touches:  nothing: no clock, no I/O, so that recovery drives the same code.
//! Promises: no more than its limits allow is ever held; a refusal leaves the store as it was. A series that goes from
//!           the head keeps its exemplars here, under its key and labels, until newer ones take their place.

mod labels;
mod ring;
mod store;

pub use labels::{LABEL_RUNES_MAX, parse_exemplar_labels};
pub use store::{BYTES_PER_EXEMPLAR, ExemplarLimits, ExemplarStore, Kept, StoredExemplar};

use std::cmp::Ordering;

use crate::Labels;

/// One observation that a sender chose to show in full, with a trace's number for example.
#[derive(Debug, Clone)]
pub struct Exemplar {
    /// Its own labels, those of its series not among them.
    pub labels: Labels,
    /// The observed value.
    pub value: f64,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
}

/// Equal means bit for bit, so that a NaN repeats itself too.
impl PartialEq for Exemplar {
    fn eq(&self, other: &Exemplar) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Exemplar {}

impl PartialOrd for Exemplar {
    fn partial_cmp(&self, other: &Exemplar) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The order in which a sender has to send the exemplars of a series: time, then value, then labels.
impl Ord for Exemplar {
    fn cmp(&self, other: &Exemplar) -> Ordering {
        let by_time = self.timestamp_ms.cmp(&other.timestamp_ms);
        by_time.then_with(|| self.value.total_cmp(&other.value)).then_with(|| self.labels.cmp(&other.labels))
    }
}

/// Why an exemplar is refused. Its request's samples are taken all the same; the edge decides of which refusals a sender
/// is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum ExemplarReason {
    /// Exemplars are switched off.
    Disabled,
    /// Its labels are longer than the OpenMetrics standard allows.
    TooLong,
    /// Its labels are not a label set.
    InvalidLabels,
    /// The head does not have its series.
    UnknownSeries,
    /// It comes before the newest one of its series, and is not stored already.
    OutOfOrder,
    /// It is further ahead of the clock than samples may be.
    TooFarAhead,
}

impl ExemplarReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [ExemplarReason; 6] = [
        ExemplarReason::Disabled,
        ExemplarReason::TooLong,
        ExemplarReason::InvalidLabels,
        ExemplarReason::UnknownSeries,
        ExemplarReason::OutOfOrder,
        ExemplarReason::TooFarAhead,
    ];

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            ExemplarReason::Disabled => "disabled",
            ExemplarReason::TooLong => "label_length",
            ExemplarReason::InvalidLabels => "invalid_labels",
            ExemplarReason::UnknownSeries => "unknown_series",
            ExemplarReason::OutOfOrder => "out_of_order",
            ExemplarReason::TooFarAhead => "too_far_in_future",
        }
    }

    /// As Prometheus and Thanos name it in an error, so that scripts that look for the text find it.
    pub fn text(self) -> &'static str {
        match self {
            ExemplarReason::Disabled => "exemplar storage is disabled",
            ExemplarReason::TooLong => "label length for exemplar exceeds maximum",
            ExemplarReason::InvalidLabels => "invalid label set of an exemplar",
            ExemplarReason::UnknownSeries => "exemplar of an unknown series",
            ExemplarReason::OutOfOrder => "out of order exemplar",
            ExemplarReason::TooFarAhead => "exemplar out of bounds",
        }
    }
}
