//! Why a request, or a part of it, cannot be taken.

use crate::wire::labels::{LABEL_BYTES_MAX, LABELS_MAX};
use crate::wire::proto::WireError;

/// The longest point of a metric, or resource, in bytes on the wire. One is read in one go.
pub const POINT_BYTES_MAX: usize = 512 << 10;

/// The most buckets of a histogram, or quantiles of a summary.
pub const BUCKETS_MAX: usize = 1 << 16;

/// How much of a sender's text an error repeats, in characters.
const QUOTED_CHARS_MAX: usize = 200;

/// Why nothing of a request was taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OtlpError {
    /// Not the message that it should be.
    #[error("the body is not an ExportMetricsServiceRequest that this node takes: {0}")]
    Wire(#[from] WireError),
    /// Each bucket and each quantile is a series with all labels: a small body can say a lot.
    #[error("the request becomes more than {bytes_max} bytes of series")]
    TooLarge {
        /// The limit.
        bytes_max: usize,
    },
}

/// Why points of a request were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PointError {
    /// Sums and histograms since the last report, or of a kind that is not said.
    #[error(
        "metric {metric:?} has another aggregation temporality than cumulative, which is the only one that is taken"
    )]
    Temporality {
        /// As sent, or its beginning.
        metric: String,
    },
    /// No character of the name may stand in a metric's name.
    #[error("metric name {metric:?} has no character that a metric's name may have")]
    MetricName {
        /// As sent, or its beginning.
        metric: String,
    },
    /// The same for an attribute.
    #[error("attribute name {name:?} has no character that a label's name may have")]
    LabelName {
        /// As sent, or its beginning.
        name: String,
    },
    /// Buckets wider than any that native histograms have.
    #[error("an exponential histogram has scale {scale}; native histograms begin at -4")]
    Scale {
        /// As sent.
        scale: i32,
    },
    /// Buckets whose number does not fit.
    #[error(
        "an exponential histogram has buckets at offset {offset}, past what native histograms can number"
    )]
    BucketOffset {
        /// As sent.
        offset: i32,
    },
    /// More buckets or quantiles than allowed.
    #[error("a histogram or summary has more than {BUCKETS_MAX} buckets or quantiles")]
    TooManyBuckets,
    /// Attributes nest too deep.
    #[error("an attribute holds lists or maps that nest too deep")]
    TooDeep,
    /// One text, or all together, are over the bounds.
    #[error(
        "names or attributes are too many or too long (at most {LABELS_MAX} attributes, {LABEL_BYTES_MAX} bytes each, \
         {POINT_BYTES_MAX} bytes a point)"
    )]
    TooLarge,
    /// Not UTF-8.
    #[error("a name or an attribute is not valid UTF-8")]
    NotUtf8,
}

/// What reading a part of a request can end in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The whole request is refused.
    Request(OtlpError),
    /// Only this part is.
    Point(PointError),
}

impl From<WireError> for Fault {
    fn from(error: WireError) -> Fault {
        Fault::Request(error.into())
    }
}

impl From<OtlpError> for Fault {
    fn from(error: OtlpError) -> Fault {
        Fault::Request(error)
    }
}

impl From<PointError> for Fault {
    fn from(error: PointError) -> Fault {
        Fault::Point(error)
    }
}

/// A sender's text.
pub fn text_of(bytes: &[u8]) -> Result<&str, PointError> {
    std::str::from_utf8(bytes).map_err(|_| PointError::NotUtf8)
}

/// A text, or its beginning, to be repeated in an error.
pub fn quoted(text: &str) -> String {
    text.chars().take(QUOTED_CHARS_MAX).collect()
}
