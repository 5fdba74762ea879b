//! Remote write and OTLP as they come in: compression, the skim or the translation of the protobuf, the keys of series.

mod extras;
mod gzip;
mod key;
mod labels;
pub mod otlp;
mod proto;
mod skim;
mod snappy;

pub use extras::{BodyRange, ExemplarRow, Extras, HistogramRow, MetadataRow};
pub use gzip::{Gunzip, GzipError};
pub use key::{SeriesHasher, TenantHasher};
pub use labels::{
    LABEL_BYTES_MAX, LabelError, LabelPairs, SERIES_BYTES_MAX, canonical_label_bytes, parse_labels,
};
pub use proto::WireError;
pub(crate) use proto::put_varint;
pub use skim::{Row, Skimmed, Skimmer};
pub use snappy::{SnappyError, decompress};
