//! The writable window of a shard, in memory: series, symbols, postings, chunks.
//!
//! Owns:     everything here; one `Head` belongs to one shard.
//! Touches:  nothing: no clock, no I/O, no lock, so that recovery and the simulation drive the same code.
//! Promises: an error leaves the head as it was; what was appended is readable at once.

mod bitset;
mod error;
mod finder;
mod image;
mod index;
mod key;
mod pages;
mod series;
mod store;
mod symbols;

pub use error::{AppendError, HeadFull, ImageError};
pub use finder::Finder;
pub use image::{ImageLoader, ImageWriter};
pub use key::SeriesKey;
pub use series::Appended;
pub use store::{Head, SeriesIndex};
