//! Native histograms as values of PromQL: arithmetic, counter resets, quantiles, trims.
//!
//! Owns:     nothing; pure functions of [`FloatHistogram`]s.
//! Touches:  nothing.
//! Runs on:  whoever evaluates a query.
//! Promises: the numbers are those of Prometheus, in its order of additions; histograms from anywhere, also such as no
//!           sender may send, neither panic nor loop.

mod accumulator;
mod average;
mod bounds;
mod buckets;
mod places;
#[cfg(test)]
mod properties;
mod quantile;
mod reset;
mod scale;
mod trim;

pub use accumulator::{Accumulator, Added, Incompatible};
pub use annulus_shards::chunk::FloatHistogram;
pub use average::HistogramAverage;
pub use buckets::{Bucket, all_buckets};
pub use quantile::{Estimate, histogram_fraction, histogram_quantile, histogram_variance};
pub use reset::detect_reset;
pub use scale::{compact, divide, multiply, same};
pub use trim::{Trim, trim};
