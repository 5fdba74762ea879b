//! From the registry's families to a `prometheus.WriteRequest`, with the names that a scrape would have given.

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};
use prost::Message;

/// What the samples say of where they come from.
#[derive(Debug, Clone)]
pub struct Target {
    /// `job`
    pub job: String,
    /// `instance`, a host and port.
    pub instance: String,
}

/// The fields of `prometheus.WriteRequest` (prompb/remote.proto) that are used here.
#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

/// All samples of the families at one time, and `up`.
pub fn write_request(families: &[MetricFamily], target: &Target, timestamp_ms: i64) -> Vec<u8> {
    let mut series = SeriesList { target, timestamp_ms, list: Vec::new() };
    series.push("up", &[], None, 1.0);
    for family in families {
        for metric in family.get_metric() {
            series.push_metric(family.name(), family.get_field_type(), metric);
        }
    }
    WriteRequest { timeseries: series.list }.encode_to_vec()
}

struct SeriesList<'a> {
    target: &'a Target,
    timestamp_ms: i64,
    list: Vec<TimeSeries>,
}

impl SeriesList<'_> {
    fn push_metric(&mut self, name: &str, kind: MetricType, metric: &Metric) {
        let labels = metric.get_label();
        match kind {
            MetricType::COUNTER => self.push(name, labels, None, metric.get_counter().get_value()),
            MetricType::GAUGE => self.push(name, labels, None, metric.get_gauge().get_value()),
            MetricType::UNTYPED => {} // This library makes none.
            MetricType::HISTOGRAM => {
                let histogram = metric.get_histogram();
                let count = histogram.get_sample_count();
                let finite = histogram.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite());
                let buckets =
                    finite.map(|bucket| (bucket.upper_bound().to_string(), bucket.cumulative_count()));
                let name_bucket = format!("{name}_bucket");
                for (bound, count) in buckets.chain([("+Inf".to_owned(), count)]) {
                    self.push(&name_bucket, labels, Some(("le", bound)), count as f64);
                }
                self.push(&format!("{name}_sum"), labels, None, histogram.get_sample_sum());
                self.push(&format!("{name}_count"), labels, None, count as f64);
            }
            MetricType::SUMMARY => {
                let summary = metric.get_summary();
                for quantile in summary.get_quantile() {
                    let label = ("quantile", quantile.quantile().to_string());
                    self.push(name, labels, Some(label), quantile.value());
                }
                self.push(&format!("{name}_sum"), labels, None, summary.sample_sum());
                self.push(&format!("{name}_count"), labels, None, summary.sample_count() as f64);
            }
        }
    }

    /// A label of the metric that is named like one of the target's gets the prefix that Prometheus gives it.
    fn push(&mut self, name: &str, labels: &[LabelPair], extra: Option<(&str, String)>, value: f64) {
        let own = labels.iter().map(|label| match label.name() {
            name @ ("job" | "instance") => (format!("exported_{name}"), label.value().to_owned()),
            name => (name.to_owned(), label.value().to_owned()),
        });
        let mut labels: Vec<Label> = own
            .chain(extra.map(|(name, value)| (name.to_owned(), value)))
            .chain([
                ("__name__".to_owned(), name.to_owned()),
                ("job".to_owned(), self.target.job.clone()),
                ("instance".to_owned(), self.target.instance.clone()),
            ])
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| Label { name, value })
            .collect();
        labels.sort_unstable();
        let samples = vec![Sample { value, timestamp: self.timestamp_ms }];
        self.list.push(TimeSeries { labels, samples });
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};

    use super::*;

    fn texts(body: &[u8]) -> Vec<String> {
        let request = WriteRequest::decode(body).unwrap();
        let text = |series: TimeSeries| {
            assert!(series.labels.is_sorted(), "{series:?}");
            assert_eq!(series.samples.len(), 1);
            let labels: Vec<String> =
                series.labels.iter().map(|label| format!("{}={}", label.name, label.value)).collect();
            format!("{} {}@{}", labels.join(","), series.samples[0].value, series.samples[0].timestamp)
        };
        request.timeseries.into_iter().map(text).collect()
    }

    #[test]
    fn families_become_the_series_of_a_scrape() {
        let registry = Registry::new();
        let requests =
            IntCounterVec::new(Opts::new("requests_total", "x"), &["Zone", "job", "tenant"]).unwrap();
        requests.with_label_values(&["a", "mine", ""]).inc_by(3);
        let series = IntGauge::new("head_series", "x").unwrap();
        series.set(-5);
        let options = HistogramOpts::new("seconds", "x").buckets(vec![0.5, 1.0]);
        let seconds = HistogramVec::new(options, &["code"]).unwrap();
        for value in [0.25, 0.75, 9.0] {
            seconds.with_label_values(&["200"]).observe(value);
        }
        registry.register(Box::new(requests)).unwrap();
        registry.register(Box::new(series)).unwrap();
        registry.register(Box::new(seconds)).unwrap();
        let target = Target { job: "annulus".to_owned(), instance: "h:1".to_owned() };
        assert_eq!(
            texts(&write_request(&registry.gather(), &target, 1_500)),
            [
                "__name__=up,instance=h:1,job=annulus 1@1500",
                "__name__=head_series,instance=h:1,job=annulus -5@1500",
                "Zone=a,__name__=requests_total,exported_job=mine,instance=h:1,job=annulus 3@1500",
                "__name__=seconds_bucket,code=200,instance=h:1,job=annulus,le=0.5 1@1500",
                "__name__=seconds_bucket,code=200,instance=h:1,job=annulus,le=1 2@1500",
                "__name__=seconds_bucket,code=200,instance=h:1,job=annulus,le=+Inf 3@1500",
                "__name__=seconds_sum,code=200,instance=h:1,job=annulus 10@1500",
                "__name__=seconds_count,code=200,instance=h:1,job=annulus 3@1500",
            ]
        );
    }
}
