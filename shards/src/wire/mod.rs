//! Remote write and OTLP as they come in: decompression, the skim or the translation of the protobuf, the keys of series.

mod aegis;
mod decoder;
mod extras;
mod found;
mod gzip;
mod histogram;
mod key;
mod labels;
pub mod otlp;
mod proto;
mod skim;
mod skim2;
mod snappy;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod zstd;

pub use decoder::{Decoder, Form};
pub use extras::{BodyRange, ExemplarRow, Extras, HistogramRow, MetadataRow};
pub use gzip::{Gunzip, GzipError};
pub use histogram::{BUCKETS_MAX, HISTOGRAM_BYTES_MAX, HistogramMessageError, parse_histogram};
pub use key::{SeriesHasher, TenantHasher};
pub use labels::{
    LABEL_BYTES_MAX, LabelError, LabelPairs, SERIES_BYTES_MAX, canonical_label_bytes, label_pairs,
    parse_canonical, parse_labels,
};
pub use proto::WireError;
pub(crate) use proto::{Field, Reader, put_varint};
pub use skim::{Row, Skimmed, Skimmer};
pub use skim2::Skimmer2;
pub use snappy::{BlockError, SnappyError, Unsnappy};
pub use zstd::{Unzstd, ZstdError};
