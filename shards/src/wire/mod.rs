//! Remote write as it comes in: snappy, the skim of the protobuf, the keys of series.

mod key;
mod labels;
mod proto;
mod skim;
mod snappy;

pub use key::SeriesHasher;
pub use labels::{LabelError, LabelPairs, canonical_label_bytes, parse_labels};
pub use proto::WireError;
pub use skim::{Row, Skimmed, skim};
pub use snappy::{SnappyError, decompress};
