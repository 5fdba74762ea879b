//! Metrics of OpenTelemetry (OTLP) as series of Prometheus.
//!
//! Owns:     one request while it is translated: an ExportMetricsServiceRequest goes in, rows and extras come out.
//! Touches:  nothing: no I/O, no clock.
//! Runs on:  the shard that accepted the request, in steps of a given size.
//! Promises: names, labels and values are those that Prometheus and Thanos Receive make, with suffixes, escaped names and
//!           without the scope's labels; what one point becomes does not depend on the others; memory stays within the
//!           given bounds.

mod exemplars;
mod fault;
mod label_set;
mod metric;
mod names;
mod native;
mod output;
mod points;
mod resource;
mod response;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod translate;
mod value;

pub use fault::{OtlpError, PointError};
pub use output::Translated;
pub use response::export_response;
pub use translate::Translator;

/// What an operator may choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether each resource becomes a series `target_info`.
    pub target_info: bool,
    /// Attributes of resources that become labels of all their points, under the names that senders give them.
    pub promoted: Vec<String>,
}

impl Default for Settings {
    /// As Thanos Receive starts without flags.
    fn default() -> Settings {
        Settings { target_info: true, promoted: Vec::new() }
    }
}
