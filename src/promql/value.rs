//! What a query is asked with and what it answers. Times are milliseconds since the Unix epoch.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use annulus_shards::Labels;

use super::ast::Span;
pub use super::costs::{CostCounter, QueryCosts};
use super::histogram::FloatHistogram;
use super::parser::Features;
use crate::source::SourceError;

/// Limits and settings of one query.
#[derive(Debug, Clone)]
pub struct QueryOptions {
    /// How far an instant selector looks back for a sample (Prometheus: 5 min).
    pub lookback_delta_ms: i64,
    /// The step of subqueries that name none (Prometheus: `evaluation_interval`, 1 min).
    pub default_step_ms: i64,
    /// The query fails when it has run this long.
    pub timeout: Duration,
    /// The most samples that may be in memory at once (Prometheus: 50 million).
    pub samples_max: u64,
    /// The most bytes of labels and chunks that all its selectors together may read.
    pub fetch_bytes_max: u64,
    /// Metric names that no longer fit are dropped at the end of the query instead of at once, so that functions of
    /// labels still see them (Prometheus: `promql-delayed-name-removal`).
    pub delayed_name_removal: bool,
    /// Where what the query costs is counted.
    pub costs: Option<CostCounter>,
    /// Experimental parts of the language that the query may use.
    pub features: Features,
    /// What the query holds until its work has ended.
    pub place: Option<Place>,
}

/// A place among the queries that run. It is given back when the threads of the query are done, which may be some time
/// after the last one who waited for the answer has gone.
#[derive(Clone)]
pub struct Place(Arc<dyn Any + Send + Sync>);

impl Place {
    /// Gives `held` back when the query is done.
    pub fn new(held: impl Any + Send + Sync) -> Place {
        Place(Arc::new(held))
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place(held) = self;
        f.debug_tuple("Place").field(&Arc::strong_count(held)).finish()
    }
}

impl Default for QueryOptions {
    fn default() -> QueryOptions {
        QueryOptions {
            lookback_delta_ms: 300_000,
            default_step_ms: 60_000,
            timeout: Duration::from_secs(120),
            samples_max: 50_000_000,
            fetch_bytes_max: 1 << 30,
            delayed_name_removal: false,
            costs: None,
            features: Features::default(),
            place: None,
        }
    }
}

/// A native histogram, which many steps and series may share.
pub type SharedHistogram = Arc<FloatHistogram>;

/// The value of a sample.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleValue {
    /// A number.
    Float(f64),
    /// A native histogram.
    Histogram(SharedHistogram),
}

impl SampleValue {
    /// The number, if it is one.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            SampleValue::Float(value) => Some(*value),
            SampleValue::Histogram(_) => None,
        }
    }
}

impl From<f64> for SampleValue {
    fn from(value: f64) -> SampleValue {
        SampleValue::Float(value)
    }
}

impl From<FloatHistogram> for SampleValue {
    fn from(histogram: FloatHistogram) -> SampleValue {
        SampleValue::Histogram(Arc::new(histogram))
    }
}

/// One series of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSample {
    /// Its labels.
    pub labels: Labels,
    /// The evaluation time.
    pub timestamp_ms: i64,
    /// Its value.
    pub value: SampleValue,
}

/// One series of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSeries {
    /// Its labels.
    pub labels: Labels,
    /// Time and value of each float, in order of time; steps without one are left out.
    pub points: Vec<(i64, f64)>,
    /// The same of native histograms. No time is in both.
    pub histograms: Vec<(i64, SharedHistogram)>,
}

/// The value of a query.
#[derive(Debug, Clone, PartialEq)]
pub enum QueryValue {
    /// A number at the evaluation time.
    Scalar {
        /// The evaluation time.
        timestamp_ms: i64,
        /// The number.
        value: f64,
    },
    /// A text at the evaluation time.
    String {
        /// The evaluation time.
        timestamp_ms: i64,
        /// The text.
        value: String,
    },
    /// An instant vector; sorted only where the query asks for an order (`sort`, `topk`).
    Vector(Vec<VectorSample>),
    /// A range vector, or the result of a range query (then sorted by labels).
    Matrix(Vec<MatrixSeries>),
}

/// The answer to a query.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryAnswer {
    /// The value.
    pub value: QueryValue,
    /// Texts as Prometheus has them (`PromQL warning: …`), each once, in a fixed order.
    pub warnings: Vec<String>,
    /// Texts as Prometheus has them (`PromQL info: …`), each once, in a fixed order.
    pub infos: Vec<String>,
}

/// A query text that is not PromQL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: parse error: {message}")]
pub struct ParseError {
    /// What is wrong, in Prometheus' words where it has them.
    pub message: String,
    /// Line, counted from 1.
    pub line: u32,
    /// Column in characters, counted from 1.
    pub column: u32,
    /// The bytes of the query that it is about.
    pub span: Span,
}

/// Why a query has no answer. The API turns each kind into Prometheus' `errorType` and HTTP status.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The text does not parse (`bad_data`).
    #[error("invalid parameter \"query\": {0}")]
    Parse(#[from] ParseError),
    /// A parameter beside the text is wrong (`bad_data`).
    #[error("invalid parameter {name:?}: {reason}")]
    Parameter {
        /// The parameter.
        name: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The query is valid, but cannot be evaluated on this data (`execution`): many-to-many matching and such.
    #[error("{0}")]
    Execution(String),
    /// It ran too long (`timeout`).
    #[error("query timed out in expression evaluation")]
    Timeout,
    /// Nobody waits for it any more (`canceled`).
    #[error("query was canceled in expression evaluation")]
    Canceled,
    /// It would hold too many samples (`execution`).
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples,
    /// The data could not be read.
    #[error("expanding series: {0}")]
    Source(#[from] SourceError),
}
