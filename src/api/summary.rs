//! A summary: quantiles of the times of the last minutes, as Prometheus' own client library shows them.
//!
//! Dashboards of Prometheus draw them, and the metrics crate has none. Times are counted in buckets that are a thirty-second
//! part of their value wide, so that a quantile is at most three percent off.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType, Quantile, Summary};

/// The quantiles shown, as in Prometheus.
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

/// Times count for as many spans of this length, as in the client library of Go.
const SPAN: Duration = Duration::from_secs(120);
const SPAN_COUNT: usize = 5;

/// Buckets for each power of two, and the logarithm of that.
const STEPS: u64 = 1 << STEPS_LOG;
const STEPS_LOG: u32 = 5;

/// Enough for all numbers of 64 bits.
const BUCKET_COUNT: usize = ((u64::BITS - STEPS_LOG + 1) << STEPS_LOG) as usize;

/// Summaries of one family that differ in the value of one label. Cheap to clone.
#[derive(Clone)]
pub struct TimeSummaries(Arc<Family>);

struct Family {
    desc: Desc,
    label: &'static str,
    summaries: Vec<(&'static str, Mutex<Times>)>,
}

/// What was observed.
struct Times {
    count: u64,
    sum: f64,
    /// Counts by bucket, of the newest span first. Memory is taken for spans in which there was something.
    spans: [Vec<u32>; SPAN_COUNT],
    newest: Instant,
}

impl TimeSummaries {
    /// A summary for each value of the label.
    pub fn new(
        name: &str,
        help: &str,
        label: &'static str,
        values: &[&'static str],
    ) -> prometheus::Result<TimeSummaries> {
        let desc = Desc::new(name.to_owned(), help.to_owned(), vec![label.to_owned()], Default::default())?;
        let newest = Instant::now();
        let times = || Mutex::new(Times { count: 0, sum: 0.0, spans: Default::default(), newest });
        let summaries = values.iter().map(|value| (*value, times())).collect();
        Ok(TimeSummaries(Arc::new(Family { desc, label, summaries })))
    }

    /// Counts a time under one of the values.
    pub fn observe(&self, value: &str, seconds: f64) {
        if let Some((_, times)) = self.0.summaries.iter().find(|(known, _)| *known == value) {
            lock(times).observe(seconds, Instant::now());
        }
    }
}

impl Collector for TimeSummaries {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let now = Instant::now();
        let metric = |(value, times): &(&str, Mutex<Times>)| {
            let mut label = LabelPair::default();
            label.set_name(self.0.label.to_owned());
            label.set_value((*value).to_owned());
            let mut metric = Metric::from_label(vec![label]);
            metric.set_summary(lock(times).summary(now));
            metric
        };
        let mut family = MetricFamily::default();
        family.set_name(self.0.desc.fq_name.clone());
        family.set_help(self.0.desc.help.clone());
        family.set_field_type(MetricType::SUMMARY);
        family.set_metric(self.0.summaries.iter().map(metric).collect());
        vec![family]
    }
}

impl Times {
    fn observe(&mut self, seconds: f64, now: Instant) {
        self.forget_old(now);
        self.count += 1;
        self.sum += seconds;
        let newest = &mut self.spans[0];
        newest.resize(BUCKET_COUNT, 0);
        let count = &mut newest[bucket((seconds * 1e9) as u64)];
        *count = count.saturating_add(1);
    }

    /// Begins new spans until the newest one has not ended.
    fn forget_old(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.newest).as_secs() / SPAN.as_secs();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        for _ in 0..passed.min(SPAN_COUNT as u32) {
            self.spans.rotate_right(1);
            self.spans[0] = Vec::new();
        }
        self.newest += SPAN * passed;
    }

    fn summary(&mut self, now: Instant) -> Summary {
        self.forget_old(now);
        let count_in = |bucket: usize| {
            self.spans.iter().filter_map(|span| span.get(bucket)).map(|count| u64::from(*count)).sum::<u64>()
        };
        let counts: Vec<u64> = (0..BUCKET_COUNT).map(count_in).collect();
        let all: u64 = counts.iter().sum();
        let quantile = |quantile: f64| {
            let wanted = (quantile * all as f64).ceil().max(1.0) as u64;
            let mut below = 0;
            let found = counts.iter().position(|count| {
                below += count;
                below >= wanted
            });
            let mut shown = Quantile::default();
            shown.set_quantile(quantile);
            shown.set_value(found.map_or(f64::NAN, |bucket| middle(bucket) / 1e9));
            shown
        };
        let mut summary = Summary::default();
        summary.set_sample_count(self.count);
        summary.set_sample_sum(self.sum);
        summary.set_quantile(QUANTILES.map(quantile).to_vec());
        summary
    }
}

fn lock(times: &Mutex<Times>) -> MutexGuard<'_, Times> {
    times.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bucket of a number: small ones have one each, larger ones are told apart by their first bits.
fn bucket(number: u64) -> usize {
    let shift = (u64::BITS - number.leading_zeros()).saturating_sub(STEPS_LOG + 1);
    (u64::from(shift) * STEPS + (number >> shift)) as usize
}

/// The number in the middle of a bucket.
fn middle(bucket: usize) -> f64 {
    let bucket = bucket as u64;
    let shift = (bucket / STEPS).saturating_sub(1);
    let first = (bucket - shift * STEPS) as f64;
    let width = (shift as f64).exp2();
    first * width + (width - 1.0) / 2.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(summary: &Summary) -> Vec<f64> {
        summary.get_quantile().iter().map(|quantile| quantile.value()).collect()
    }

    #[test]
    fn quantiles_are_those_of_the_last_minutes() {
        let start = Instant::now();
        let mut times = Times { count: 0, sum: 0.0, spans: Default::default(), newest: start };
        assert!(values(&times.summary(start)).iter().all(|value| value.is_nan()));
        for number in 1..=100 {
            times.observe(f64::from(number) / 100.0, start);
        }
        let near = |summary: Summary, expected: [f64; 3]| {
            for (value, expected) in values(&summary).iter().zip(expected) {
                assert!((value / expected - 1.0).abs() < 0.03, "{value} and not {expected}");
            }
        };
        near(times.summary(start + SPAN * 4), [0.5, 0.9, 0.99]);
        times.observe(7.0, start + SPAN * 4);
        let later = times.summary(start + SPAN * 5);
        assert_eq!(later.sample_count(), 101);
        assert!((later.sample_sum() - 57.5).abs() < 1e-9);
        near(later, [7.0; 3]);
        assert!(values(&times.summary(start + SPAN * 1_000_000)).iter().all(|value| value.is_nan()));
    }

    #[test]
    fn a_family_is_shown_as_text() {
        let registry = prometheus::Registry::new();
        let summaries = TimeSummaries::new("t_seconds", "Times.", "slice", &["a", "b"]).unwrap();
        registry.register(Box::new(summaries.clone())).unwrap();
        summaries.observe("a", 0.0);
        summaries.observe("none", 1.0);
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            "# TYPE t_seconds summary",
            "t_seconds{slice=\"a\",quantile=\"0.99\"} 0",
            "t_seconds_count{slice=\"a\"} 1",
            "t_seconds{slice=\"b\",quantile=\"0.5\"} NaN",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    proptest! {
        #[test]
        fn a_number_is_near_the_middle_of_its_bucket(number in any::<u64>(), shift in 0u32..64) {
            let number = number >> shift;
            let bucket = bucket(number);
            prop_assert!(bucket < BUCKET_COUNT);
            let off = (middle(bucket) - number as f64).abs();
            prop_assert!(off <= number as f64 / 32.0, "{} is {} off", number, off);
        }
    }
}
