//! The writable window of a shard, in memory: series, symbols, postings, chunks; exemplars and metadata.
//!
//! Owns:     everything here; one `Head` belongs to one shard.
//! Touches:  the chunk log in memory, for chunks that are full. No clock, no I/O, no lock, so that recovery and the
//!           simulation drive the same code.
//! Promises: an error leaves the head as it was; what was appended is readable at once.

#[cfg(test)]
mod audit;
mod bitset;
mod error;
mod extras;
mod finder;
#[cfg(test)]
mod histogram_tests;
mod image;
mod index;
mod intern;
mod key;
mod key_table;
mod late;
mod late_histograms;
mod open;
mod pages;
mod prefetch;
mod rules;
mod series;
mod stats;
mod store;
mod sweep;
mod symbols;

pub use error::{AppendError, HeadFull, ImageError};
pub use extras::{ExtraLimits, HeadExtras};
pub use finder::{Finder, SearchOrder, Step};
pub use image::{ImageLoader, ImageWriter};
pub use key::SeriesKey;
pub use rules::{Rules, TimeWindows, window_of};
pub use series::{Appended, ClosedChunk, ReadChunks};
pub use stats::{TenantTotals, TotalsWalk, ValueCounts, ValuesRequest, ValuesWalk};
pub use store::{Head, SeriesIndex, TenantState, describe_labels};
pub use sweep::Sweep;
