//! Numbers with units, as people type them and as they read them.

mod format;
mod parse;

pub use format::{
    NONE, bits_per_second, bytes, count, exact, milliseconds, number, percent, ratio, seconds, utc,
};
pub use parse::{
    parse_bytes, parse_count, parse_duration, parse_number, parse_positive_duration, parse_rate, parse_ratio,
    parse_seconds, parse_share,
};
