//! Remote write as it comes in: snappy, the skim of the protobuf, the keys of series.

mod extras;
mod key;
mod labels;
mod proto;
mod skim;
mod snappy;

pub use extras::{BodyRange, ExemplarRow, Extras, HistogramRow, MetadataRow};
pub use key::{SeriesHasher, TenantHasher};
pub use labels::{
    LABEL_BYTES_MAX, LabelError, LabelPairs, SERIES_BYTES_MAX, canonical_label_bytes, label_pairs,
    parse_labels,
};
pub use proto::WireError;
pub(crate) use proto::put_varint;
pub use skim::{Row, Skimmed, Skimmer};
pub use snappy::{SnappyError, decompress};
