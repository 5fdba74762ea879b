//! What a request holds beside float samples: native histograms, exemplars and metadata. Most requests have none of it.

use crate::head::SeriesKey;

/// A part of a decoded body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BodyRange {
    /// Where it begins.
    pub offset: u32,
    /// Its length in bytes.
    pub len: u32,
}

impl BodyRange {
    /// Its bytes.
    ///
    /// # Panics
    /// When the body is not the one that it was made for.
    pub fn of<'a>(&self, body: &'a [u8]) -> &'a [u8] {
        &body[self.offset as usize..][..self.len as usize]
    }
}

/// One native histogram of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistogramRow {
    /// Hash of tenant and label bytes.
    pub key: SeriesKey,
    /// The label fields of its series.
    pub labels: BodyRange,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The protobuf message, which remote write 1.0 and 2.0 have in common.
    pub message: BodyRange,
}

/// One exemplar of a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExemplarRow {
    /// Hash of tenant and label bytes of its series.
    pub key: SeriesKey,
    /// The label fields of its series.
    pub series_labels: BodyRange,
    /// Its own label fields, in the same encoding.
    pub labels: BodyRange,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The observed value.
    pub value: f64,
}

/// What a request says about a metric family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetadataRow {
    /// The number of its type in remote write (`MetricMetadata.MetricType`).
    pub kind: u8,
    /// Its name.
    pub family: BodyRange,
    /// Its help text.
    pub help: BodyRange,
    /// Its unit.
    pub unit: BodyRange,
}

/// All of it that one request, or one owner's part of a request, holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Extras {
    /// In the order of the request.
    pub histograms: Vec<HistogramRow>,
    /// In the order of the request.
    pub exemplars: Vec<ExemplarRow>,
    /// In the order of the request.
    pub metadata: Vec<MetadataRow>,
}

impl Extras {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.histograms.is_empty() && self.exemplars.is_empty() && self.metadata.is_empty()
    }
}
