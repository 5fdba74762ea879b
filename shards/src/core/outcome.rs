//! What became of the rows of a write request.

use crate::exemplars::ExemplarReason;
use crate::head::AppendError;
use crate::limits::NewSeriesError;
use crate::wire::{HistogramMessageError, HistogramRow, LabelError};

/// Why a shard could take none of a batch's remaining rows; the sender is to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The queue to the owner is full.
    QueueFull,
    /// The WAL ring has no room left.
    RingFull,
    /// A write to the WAL failed earlier: the shard takes no more writes until the process is restarted.
    Poisoned,
    /// The shard reads its WAL after a start.
    Recovering,
    /// The shard stops.
    Stopping,
    /// The shard could not start.
    NotStarted,
    /// The head has as many series, symbols or tenants as it can number.
    HeadFull,
    /// The heads take as much memory as they may.
    HeadMemory,
    /// The disk has less space left than the node keeps free.
    DiskFull,
    /// Whether a sample was stored before is in a closed chunk, which the disk does not give.
    ChunkUnreadable,
}

/// The kinds of refusals of single samples, for counts. Most are for good; the edge knows which are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Reason {
    /// Older than the newest sample of its series.
    OutOfOrder,
    /// Another value at the time of a stored sample.
    Conflict,
    /// Before what the tenant's head still takes.
    TooOld,
    /// Further ahead of the clock than allowed.
    TooFarAhead,
    /// A label set that Prometheus would not send.
    InvalidLabels,
    /// A label names a tenant that cannot be one.
    Tenant,
    /// A new series with more or longer labels than its tenant may use.
    LabelLimit,
    /// A new series of a tenant that has as many as it may have.
    SeriesLimit,
    /// A new series while memory is short.
    MemoryLimit,
    /// A native histogram that breaks a rule of Prometheus, or is too large.
    InvalidHistogram,
    /// Of a tenant that is new, while there are as many as there may be.
    TenantLimit,
}

impl Reason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Reason; 11] = [
        Reason::OutOfOrder,
        Reason::Conflict,
        Reason::TooOld,
        Reason::TooFarAhead,
        Reason::InvalidLabels,
        Reason::Tenant,
        Reason::LabelLimit,
        Reason::SeriesLimit,
        Reason::MemoryLimit,
        Reason::InvalidHistogram,
        Reason::TenantLimit,
    ];

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Reason::OutOfOrder => "out_of_order",
            Reason::Conflict => "duplicate_timestamp",
            Reason::TooOld => "too_old",
            Reason::TooFarAhead => "too_far_in_future",
            Reason::InvalidLabels => "invalid_labels",
            Reason::Tenant => "invalid_tenant",
            Reason::LabelLimit => "label_limit",
            Reason::SeriesLimit => "series_limit",
            Reason::MemoryLimit => "memory_limit",
            Reason::InvalidHistogram => "invalid_histogram",
            Reason::TenantLimit => "tenant_limit",
        }
    }

    /// As Prometheus and Thanos name it in an error, so that scripts that look for the text find it.
    pub fn text(self) -> &'static str {
        match self {
            Reason::OutOfOrder => "out of order sample",
            Reason::Conflict => "duplicate sample for timestamp",
            Reason::TooOld => "too old sample",
            Reason::TooFarAhead => "out of bounds",
            Reason::InvalidLabels => "invalid label set",
            Reason::Tenant => "invalid tenant",
            Reason::LabelLimit => "labels over a limit",
            Reason::SeriesLimit => "new series over the limit of their tenant",
            Reason::MemoryLimit => "new series while memory is short",
            Reason::InvalidHistogram => "invalid native histogram",
            Reason::TenantLimit => "new tenant over the limit of this node",
        }
    }
}

/// The refusal of one sample.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The head refused it.
    #[error("series {series}: {error}")]
    Append {
        /// The series as `{name="value", …}`.
        series: String,
        /// Why.
        error: AppendError,
    },
    /// Its labels are not a label set.
    #[error("{0}")]
    Labels(#[from] LabelError),
    /// It is a native histogram that breaks a rule.
    #[error("series {series}: {error}")]
    Histogram {
        /// The series as `{name="value", …}`.
        series: String,
        /// Which rule.
        error: HistogramMessageError,
    },
    /// A label that names the tenant has a value that is no tenant's name.
    #[error("{tenant:?} is not a tenant name")]
    Tenant {
        /// The value, or how it begins.
        tenant: std::sync::Arc<str>,
    },
    /// A limit on new series.
    #[error("{error}; series {series}")]
    NewSeries {
        /// The series as `{name="value", …}`.
        series: String,
        /// The limit.
        error: NewSeriesError,
    },
}

/// Counts of one batch, or of a whole request.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Samples that are stored and durable.
    pub written: u64,
    /// Samples that were stored before, bit for bit: a sender's retry.
    pub repeated: u64,
    /// Native histograms that are stored and durable, or were before.
    pub histograms_written: u64,
    /// Exemplars that are stored and durable, or were before.
    pub exemplars_written: u64,
    /// Samples refused for good, by [`Reason`].
    pub refused: [u64; Reason::ALL.len()],
    /// The first refusal, for the answer's text.
    pub first_refusal: Option<Refusal>,
    /// Exemplars refused, by [`ExemplarReason`].
    pub exemplars_refused: [u64; ExemplarReason::ALL.len()],
    /// Samples, histograms and exemplars that were not looked at because of `failure`.
    pub failed: u64,
    /// Why.
    pub failure: Option<Failure>,
    /// Rows that wait for a closed chunk to be read; empty when the batch is applied.
    pub unread: Vec<(crate::wire::Row, crate::chunklog::ChunkPlace)>,
    /// Histograms that wait likewise.
    pub unread_histograms: Vec<(HistogramRow, crate::chunklog::ChunkPlace)>,
    /// Rows whose labels came in another encoding than the canonical one; their owner may be another shard.
    pub rekey: Vec<crate::wire::Row>,
}

impl Outcome {
    /// Nothing was done.
    pub fn failed(failure: Failure) -> Outcome {
        Outcome { failure: Some(failure), ..Outcome::default() }
    }

    /// Some samples were refused for one reason.
    pub fn refused(reason: Reason, count: u64, first_refusal: Refusal) -> Outcome {
        let mut outcome = Outcome { first_refusal: Some(first_refusal), ..Outcome::default() };
        outcome.refused[reason as usize] = count;
        outcome
    }

    /// Adds a refusal of one sample.
    pub fn refuse(&mut self, reason: Reason, refusal: impl FnOnce() -> Refusal) {
        self.refused[reason as usize] += 1;
        if self.first_refusal.is_none() {
            self.first_refusal = Some(refusal());
        }
    }

    /// Whether anything waits for a closed chunk to be read.
    pub fn has_unread(&self) -> bool {
        !self.unread.is_empty() || !self.unread_histograms.is_empty()
    }

    /// How many samples were refused for good.
    pub fn refused_count(&self) -> u64 {
        self.refused.iter().sum()
    }

    /// Adds the counts of another part of the same request.
    pub fn merge(&mut self, other: &Outcome) {
        self.written += other.written;
        self.repeated += other.repeated;
        self.histograms_written += other.histograms_written;
        self.exemplars_written += other.exemplars_written;
        self.failed += other.failed;
        for (sum, count) in self.exemplars_refused.iter_mut().zip(other.exemplars_refused) {
            *sum += count;
        }
        for (sum, count) in self.refused.iter_mut().zip(other.refused) {
            *sum += count;
        }
        self.first_refusal = self.first_refusal.take().or_else(|| other.first_refusal.clone());
        self.failure = self.failure.or(other.failure);
        self.rekey.extend_from_slice(&other.rekey);
    }
}

impl Reason {
    /// The kind of a refusal by a limit on new series.
    pub fn of_new_series(error: &NewSeriesError) -> Reason {
        match error {
            NewSeriesError::Tenants { .. } => Reason::TenantLimit,
            NewSeriesError::SeriesLimit { .. } => Reason::SeriesLimit,
            NewSeriesError::Memory => Reason::MemoryLimit,
            NewSeriesError::Labels { .. }
            | NewSeriesError::LabelName { .. }
            | NewSeriesError::LabelValue { .. } => Reason::LabelLimit,
        }
    }

    /// The kind of a refusal by the head.
    pub fn of_append(error: &AppendError) -> Reason {
        match error {
            AppendError::OutOfOrder { .. } => Reason::OutOfOrder,
            AppendError::Conflict { .. } => Reason::Conflict,
            AppendError::TooOld { .. } => Reason::TooOld,
            AppendError::TooFarAhead { .. } => Reason::TooFarAhead,
            AppendError::Shape { .. } => Reason::InvalidHistogram,
        }
    }
}
