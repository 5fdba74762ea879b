//! Native histograms as text, as Prometheus writes them into labels.

use std::fmt::Write as _;

use super::number_format::format_general;
use crate::promql::histogram::{FloatHistogram, all_buckets};

/// Count, sum and all buckets that are in use.
pub(super) fn format_histogram(histogram: &FloatHistogram) -> String {
    let number = |value| format_general(value, None);
    let mut text = format!("{{count:{}, sum:{}", number(histogram.count), number(histogram.sum));
    for bucket in all_buckets(histogram).filter(|bucket| bucket.count != 0.0) {
        let open = if bucket.lower_inclusive { '[' } else { '(' };
        let close = if bucket.upper_inclusive { ']' } else { ')' };
        let [lower, upper, count] = [bucket.lower, bucket.upper, bucket.count].map(number);
        write!(text, ", {open}{lower},{upper}{close}:{count}").expect("a String takes everything");
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use annulus_shards::chunk::{Buckets, Span};

    use super::*;

    #[test]
    fn buckets_show_which_bounds_belong_to_them() {
        let buckets = |values: &[f64]| Buckets {
            spans: vec![Span { offset: 0, length: values.len() as u32 }],
            values: values.to_vec(),
        };
        let histogram = FloatHistogram {
            count: 6.0,
            sum: 1.5,
            zero_threshold: 0.001,
            zero_count: 1.0,
            positive: buckets(&[1.0, 0.0, 2.5]),
            negative: buckets(&[1.5]),
            ..FloatHistogram::default()
        };
        assert_eq!(
            format_histogram(&histogram),
            "{count:6, sum:1.5, [-1,-0.5):1.5, [-0.001,0.001]:1, (0.5,1]:1, (2,4]:2.5}"
        );
    }
}
