//! Native histograms of the stream: integer counts at schema 3, two spans of positive buckets.
//!
//! The buckets of a series stay the same; its observations go round them in the fixed cycle of `value.rs`, so every
//! bucket grows and their sum is the count, until the container restarts.

use std::fmt::Write;

use super::proto::{put_double, put_key, put_len, put_varint, zigzag};
use super::value::{CYCLE, Moment, STALE_NAN_BITS, events, observed, sum};

const SCHEMA: i64 = 3;

/// Observations closer to zero than this count as zero; what client libraries take by default (2^-128).
const ZERO_THRESHOLD: f64 = 2.938735877055719e-39;

/// `2^(index/8)` halved, for indexes 0 to 7: the bounds of schema 3 within a power of two, to the last bit.
const BOUNDS: [f64; 8] = [
    0.5,
    0.5452538663326288,
    0.5946035575013605,
    0.6484197773255048,
    0.7071067811865475,
    0.7711054127039704,
    0.8408964152537144,
    0.9170040432046711,
];

/// A run of buckets: the index of the first one and their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    first: i64,
    length: u64,
}

/// The value of a native histogram.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Native {
    count: u64,
    sum: f64,
    zero_count: u64,
    spans: [Span; 2],
    /// The counts of the buckets of both spans.
    buckets: Vec<u64>,
}

impl Native {
    pub(super) fn at(moment: Moment) -> Native {
        let hash = moment.hash;
        let count = events(moment);
        let first = Span { first: (hash >> 20 & 0xf) as i64 - 64, length: 4 + (hash >> 24 & 7) };
        let second_first = first.first + first.length as i64 + 1 + (hash >> 27 & 3) as i64;
        let spans = [first, Span { first: second_first, length: 3 + (hash >> 29 & 7) }];
        let last = first.length + spans[1].length;
        // The first place of each cycle is a zero, the others follow an S-shaped curve.
        let share =
            |place: u64| 1 + (CYCLE - 1) * place * place * (3 * last - 2 * place) / (last * last * last);
        let below = |place| observed(count, share(place));
        let buckets = (1..=last).map(|place| below(place) - below(place - 1)).collect();
        Native { count, sum: sum(hash, count), zero_count: below(0), spans, buckets }
    }

    /// Writes it as a `Histogram` message, whose fields are the same in remote write 1.0 and 2.0.
    pub(super) fn put(&self, timestamp_ms: i64, out: &mut Vec<u8>) {
        put_key(1, 0, out);
        put_varint(self.count, out);
        put_double(3, self.sum, out);
        put_key(4, 0, out);
        put_varint(zigzag(SCHEMA), out);
        put_double(5, ZERO_THRESHOLD, out);
        put_key(6, 0, out);
        put_varint(self.zero_count, out);
        let mut end = 0;
        for span in self.spans {
            let mut content = Vec::with_capacity(8);
            put_key(1, 0, &mut content);
            put_varint(zigzag(span.first - end), &mut content);
            put_key(2, 0, &mut content);
            put_varint(span.length, &mut content);
            put_len(11, &content, out);
            end = span.first + span.length as i64;
        }
        let mut deltas = Vec::with_capacity(4 * self.buckets.len());
        let mut before = 0;
        for &count in &self.buckets {
            put_varint(zigzag(count.wrapping_sub(before) as i64), &mut deltas);
            before = count;
        }
        put_len(12, &deltas, out);
        put_key(15, 0, out);
        put_varint(timestamp_ms as u64, out);
    }

    /// As the query API of Prometheus shows it, to the byte: `{"count":"…","sum":"…","buckets":[…]}` with a
    /// `[boundary rule,"lower","upper","count"]` for each bucket that is not empty, the one around zero first.
    pub(super) fn text(&self) -> String {
        let mut text = format!(r#"{{"count":"{}","sum":"{}""#, self.count, number(self.sum));
        let mut separator = r#","buckets":["#;
        if self.zero_count > 0 {
            let (threshold, count) = (number(ZERO_THRESHOLD), self.zero_count);
            let _ = write!(text, r#"{separator}[3,"-{threshold}","{threshold}","{count}"]"#);
            separator = ",";
        }
        let indexes = self.spans.iter().flat_map(|span| span.first..span.first + span.length as i64);
        for (index, &count) in indexes.zip(&self.buckets).filter(|&(_, &count)| count > 0) {
            let (lower, upper) = (number(bound(index - 1)), number(bound(index)));
            let _ = write!(text, r#"{separator}[0,"{lower}","{upper}","{count}"]"#);
            separator = ",";
        }
        text.push_str(if separator == "," { "]}" } else { "}" });
        text
    }
}

/// Writes the stale marker of a native histogram: an empty one whose sum is the stale number.
pub(super) fn put_stale(timestamp_ms: i64, out: &mut Vec<u8>) {
    put_key(1, 0, out);
    put_varint(0, out);
    put_double(3, f64::from_bits(STALE_NAN_BITS), out);
    put_key(6, 0, out);
    put_varint(0, out);
    put_key(15, 0, out);
    put_varint(timestamp_ms as u64, out);
}

/// The upper bound of a bucket.
fn bound(index: i64) -> f64 {
    BOUNDS[index.rem_euclid(8) as usize] * ((index.div_euclid(8) + 1) as f64).exp2()
}

/// A float as Go's encoder for the query API writes it.
fn number(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) { format!("{value:e}") } else { format!("{value}") }
}

#[cfg(test)]
mod tests {
    use super::super::mix::mix;
    use super::*;

    fn at(series: u64, round: u64) -> Native {
        Native::at(Moment { hash: mix(series), age: round, round })
    }

    #[test]
    fn every_part_of_a_histogram_grows_and_the_buckets_add_up() {
        for series in 0..200 {
            for round in 0..50 {
                let (before, after) = (at(series, round), at(series, round + 1));
                assert_eq!(before.zero_count + before.buckets.iter().sum::<u64>(), before.count);
                assert_eq!(before.spans, after.spans);
                assert!(before.zero_count <= after.zero_count && before.sum <= after.sum);
                assert!(before.buckets.iter().zip(&after.buckets).all(|(before, after)| before <= after));
            }
        }
    }

    #[test]
    fn bounds_are_powers_of_the_eighth_root_of_two() {
        assert_eq!((bound(0), bound(8), bound(-8)), (1.0, 2.0, 0.5));
        for index in -80..80 {
            let exact = (index as f64 / 8.0).exp2();
            assert!((bound(index) / exact - 1.0).abs() < 1e-15, "{index}");
        }
    }

    #[test]
    fn the_text_is_what_the_query_api_shows() {
        let spans = [Span { first: -8, length: 2 }, Span { first: 0, length: 1 }];
        let native = Native { count: 6, sum: 1.5, zero_count: 1, spans, buckets: vec![2, 0, 3] };
        let text = r#"{"count":"6","sum":"1.5","buckets":[[3,"-2.938735877055719e-39","2.938735877055719e-39","1"],[0,"0.45850202160233555","0.5","2"],[0,"0.9170040432046711","1","3"]]}"#;
        assert_eq!(native.text(), text);
        let empty = Native { count: 0, sum: 0.0, zero_count: 0, spans, buckets: vec![0; 3] };
        assert_eq!(empty.text(), r#"{"count":"0","sum":"0"}"#);
    }
}
