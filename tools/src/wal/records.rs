//! What the records of frames say, summed up or one by one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use annulus_shards::chunk::AnyHistogram;
use annulus_shards::head::Head;
use annulus_shards::metadata::MetricKind;
use annulus_shards::wal::{ExemplarRecord, MetadataRecord, RecordVisitor, frame_bytes};
use annulus_shards::wire::{label_pairs, parse_labels};
use serde::Serialize;
use serde_json::json;

use crate::output::printable;

/// Records by kind, and their times.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Series that were created.
    pub series: u64,
    /// Samples.
    pub samples: u64,
    /// Bounds of a tenant's times.
    pub bounds: u64,
    /// Exemplars.
    pub exemplars: u64,
    /// Descriptions of metric families.
    pub metadata: u64,
    /// Time of the oldest sample.
    pub min_ms: Option<i64>,
    /// Time of the newest sample.
    pub max_ms: Option<i64>,
}

impl Counts {
    /// Adds others.
    pub fn add(&mut self, other: &Counts) {
        self.series += other.series;
        self.samples += other.samples;
        self.bounds += other.bounds;
        self.exemplars += other.exemplars;
        self.metadata += other.metadata;
        self.min_ms = [self.min_ms, other.min_ms].into_iter().flatten().min();
        self.max_ms = self.max_ms.max(other.max_ms);
    }
}

/// One frame.
#[derive(Debug, Clone, Serialize)]
pub struct Frame {
    /// Its number.
    pub seq: u64,
    /// Where it begins in the file.
    pub offset: u64,
    /// What it takes in the ring.
    pub bytes: u64,
    /// What it says.
    pub records: Counts,
    /// Why its records end early, if they do.
    pub error: Option<String>,
}

impl Frame {
    /// A frame whose place is not known yet.
    pub fn new(seq: u64, payload_len: usize) -> Frame {
        Frame { seq, offset: 0, bytes: frame_bytes(payload_len), records: Counts::default(), error: None }
    }
}

/// Samples of each tenant; those of series that nothing defines any more have an empty name.
pub type TenantSamples = BTreeMap<String, u64>;

/// Takes the records of one frame.
pub struct Visit<'a, W> {
    /// The series that the log and its checkpoint define.
    pub head: &'a Head,
    /// Counts of this frame.
    pub counts: Counts,
    /// Counts of all frames.
    pub tenants: &'a mut TenantSamples,
    /// Prints each record, if that was asked for.
    pub print: Option<Print<'a, W>>,
}

/// Prints records one by one.
pub struct Print<'a, W> {
    /// Where to.
    pub out: &'a mut W,
    /// Number of the shard and of the frame.
    pub place: (u32, u64),
    /// As lines of JSON.
    pub is_json: bool,
    /// The first error of writing; nothing is printed after it.
    pub result: io::Result<()>,
}

impl<W: Write> Print<'_, W> {
    fn line(&mut self, text: &str, json: serde_json::Value) {
        if self.result.is_ok() {
            let (shard, seq) = self.place;
            self.result = if self.is_json {
                let mut json = json;
                json["shard"] = shard.into();
                json["seq"] = seq.into();
                writeln!(self.out, "{json}")
            } else {
                writeln!(self.out, "{:>10}  {}", format!("{shard}/{seq}"), printable(text))
            };
        }
    }
}

impl<W: Write> Visit<'_, W> {
    /// Counts a sample of any kind.
    fn count_sample(&mut self, reference: u32, timestamp_ms: i64) {
        self.counts.samples += 1;
        let (min_ms, max_ms) = (self.counts.min_ms, self.counts.max_ms);
        self.counts.min_ms = Some(min_ms.map_or(timestamp_ms, |known_ms| known_ms.min(timestamp_ms)));
        self.counts.max_ms = max_ms.max(Some(timestamp_ms));
        self.count_tenant(reference);
    }

    fn count_tenant(&mut self, reference: u32) {
        let tenant = if reference < self.head.series_count() { self.head.tenant_of(reference) } else { None };
        let tenant = tenant.unwrap_or_default();
        match self.tenants.get_mut(tenant) {
            Some(samples) => *samples += 1,
            None => drop(self.tenants.insert(tenant.to_owned(), 1)),
        }
    }
}

impl<W: Write> RecordVisitor for Visit<'_, W> {
    fn series(&mut self, reference: u32, tenant: &str, label_bytes: &[u8]) {
        self.counts.series += 1;
        if let Some(print) = &mut self.print {
            let labels = match parse_labels(label_bytes) {
                Ok(pairs) => label_text(pairs.iter().copied()),
                Err(error) => format!("(labels that cannot be read: {error})"),
            };
            print.line(
                &format!("series {reference} tenant {tenant} {labels}"),
                json!({"kind": "series", "reference": reference, "tenant": tenant, "labels": labels}),
            );
        }
    }

    fn sample(&mut self, reference: u32, timestamp_ms: i64, value: f64) {
        self.count_sample(reference, timestamp_ms);
        if let Some(print) = &mut self.print {
            print.line(
                &format!("sample {reference} {timestamp_ms} {value}"),
                // JSON has no NaN and no infinity.
                json!({"kind": "sample", "reference": reference, "timestampMs": timestamp_ms, "value": value.to_string()}),
            );
        }
    }

    fn histogram(&mut self, reference: u32, timestamp_ms: i64, histogram: &AnyHistogram) {
        self.count_sample(reference, timestamp_ms);
        if let Some(print) = &mut self.print {
            let (count, sum) = match histogram {
                AnyHistogram::Integer(histogram) => (histogram.count.to_string(), histogram.sum),
                AnyHistogram::Float(histogram) => (histogram.count.to_string(), histogram.sum),
            };
            print.line(
                &format!("histogram {reference} {timestamp_ms} count {count} sum {sum}"),
                json!({"kind": "histogram", "reference": reference, "timestampMs": timestamp_ms, "count": count, "sum": sum.to_string()}),
            );
        }
    }

    fn bounds(&mut self, tenant: &str, frozen_ms: i64, truncated_ms: i64) {
        self.counts.bounds += 1;
        if let Some(print) = &mut self.print {
            print.line(
                &format!("bounds tenant {tenant} frozen {frozen_ms} truncated {truncated_ms}"),
                json!({"kind": "bounds", "tenant": tenant, "frozenMs": frozen_ms, "truncatedMs": truncated_ms}),
            );
        }
    }

    fn exemplar(&mut self, exemplar: ExemplarRecord<'_>) {
        self.counts.exemplars += 1;
        if let Some(print) = &mut self.print {
            let ExemplarRecord { key, timestamp_ms, value, label_bytes } = exemplar;
            let series = format!("{key:032x}");
            let labels = match label_pairs(label_bytes).collect::<Result<Vec<_>, _>>() {
                Ok(pairs) => label_text(pairs.into_iter()),
                Err(error) => format!("(labels that cannot be read: {error})"),
            };
            print.line(
                &format!("exemplar of {series} {timestamp_ms} {value} {labels}"),
                json!({
                    "kind": "exemplar", "seriesKey": series, "timestampMs": timestamp_ms,
                    "value": value.to_string(), "labels": labels,
                }),
            );
        }
    }

    fn metadata(&mut self, metadata: MetadataRecord<'_>) {
        self.counts.metadata += 1;
        if let Some(print) = &mut self.print {
            let MetadataRecord { tenant, family, kind, help, unit } = metadata;
            let kind = MetricKind::of_number(kind).name();
            print.line(
                &format!("metadata tenant {tenant} {family} type {kind} help {help:?} unit {unit:?}"),
                json!({
                    "kind": "metadata", "tenant": tenant, "family": family, "type": kind, "help": help,
                    "unit": unit,
                }),
            );
        }
    }
}

fn label_text<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::from("{");
    for (index, (name, value)) in pairs.enumerate() {
        // Writing to a text cannot fail.
        let _ = write!(text, "{}{name}={value:?}", if index > 0 { ", " } else { "" });
    }
    text + "}"
}

#[cfg(test)]
mod tests {
    use annulus_shards::chunk::Histogram;
    use annulus_shards::wal::{Encoder, decode};
    use annulus_shards::wire::canonical_label_bytes;

    use super::*;

    #[test]
    fn records_are_counted_and_printed() {
        let mut encoder = Encoder::default();
        encoder.series(0, "a", &canonical_label_bytes(&[("__name__", "up"), ("x", "\"\n")]));
        encoder.series(1, "a", b"\xff");
        encoder.sample(0, 50, f64::NAN);
        encoder.sample(7, -3, 1.5);
        encoder.bounds("a", 10, i64::MIN);
        encoder.histogram(
            0,
            60,
            &AnyHistogram::Integer(Histogram { count: 5, sum: 2.5, ..Histogram::default() }),
        );
        let label_bytes = &canonical_label_bytes(&[("trace_id", "7")]);
        encoder.exemplar(ExemplarRecord { key: 255, timestamp_ms: 60, value: 0.5, label_bytes });
        encoder.metadata(MetadataRecord { tenant: "a", family: "up", kind: 2, help: "Is it?", unit: "" });
        let read = |is_json| {
            let (mut out, mut tenants, head) = (Vec::new(), TenantSamples::new(), Head::default());
            let print = Print { out: &mut out, place: (2, 9), is_json, result: Ok(()) };
            let mut visit =
                Visit { head: &head, counts: Counts::default(), tenants: &mut tenants, print: Some(print) };
            decode(encoder.bytes(), &mut visit).unwrap();
            let counts = visit.counts.clone();
            assert_eq!(tenants, TenantSamples::from([(String::new(), 3)]));
            (counts, String::from_utf8(out).unwrap())
        };
        let (counts, text) = read(false);
        let expected = Counts {
            series: 2,
            samples: 3,
            bounds: 1,
            exemplars: 1,
            metadata: 1,
            min_ms: Some(-3),
            max_ms: Some(60),
        };
        assert_eq!(counts, expected);
        assert!(text.contains(r#"       2/9  series 0 tenant a {__name__="up", x="\"\n"}"#), "{text}");
        assert!(text.contains("labels that cannot be read") && text.contains("sample 0 50 NaN"), "{text}");
        assert!(text.contains("histogram 0 60 count 5 sum 2.5"), "{text}");
        assert!(text.contains(r#"00ff 60 0.5 {trace_id="7"}"#), "{text}");
        assert!(text.contains(r#"metadata tenant a up type gauge help "Is it?" unit """#), "{text}");
        let (_, lines) = read(true);
        let lines: Vec<serde_json::Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            (lines.len(), &lines[2]["value"], &lines[4]["truncatedMs"]),
            (8, &json!("NaN"), &json!(i64::MIN))
        );
        assert_eq!((&lines[0]["shard"], &lines[0]["seq"]), (&json!(2), &json!(9)));
    }
}
