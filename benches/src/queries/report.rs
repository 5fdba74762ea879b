//! The result: a table for people, JSON for programs.

use annulus_loadgen::commands::compare::target::Kind;
use annulus_loadgen::quantity::{self, NONE};
use annulus_loadgen::report::table::Table;
use serde::Serialize;

use super::catalogue::Query;
use super::ingest::Ingested;
use super::session::{Asked, Measured};
use super::statistics::{Times, ratio};

/// Characters of an expression that are shown.
const EXPRESSION_MAX: usize = 110;

/// Everything that was measured. The names of its fields are those of the JSON and never change.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Name and version of this format.
    pub format: &'static str,
    /// The command that made it.
    pub command: String,
    /// Which machine, and which file system held the data.
    pub machine: String,
    /// What was asked for, in words.
    pub title: String,
    /// The first one is the base of the ratios.
    pub receivers: Vec<ReceiverReport>,
    /// Where answers differ that should not.
    pub differences: Vec<String>,
}

/// One receiver.
#[derive(Debug, Serialize)]
pub struct ReceiverReport {
    /// Its name.
    pub receiver: String,
    /// From the first sample sent until all could be queried.
    pub load_s: f64,
    /// CPU that it spent on that.
    pub load_cpu_s: f64,
    /// Memory before the first query.
    pub rss_bytes: u64,
    /// Sum of the medians.
    pub total_median_ms: f64,
    /// The same, divided by that of the first receiver.
    pub total_ratio: Option<f64>,
    /// Over all runs of all queries.
    pub query_p50_ms: f64,
    /// Likewise.
    pub query_p99_ms: f64,
    /// What was written beside.
    pub ingest: Option<Ingested>,
    /// In the order of the table.
    pub queries: Vec<QueryReport>,
}

/// One query on one receiver.
#[derive(Debug, Serialize)]
pub struct QueryReport {
    /// Its name.
    pub name: &'static str,
    /// PromQL, or the name of a label.
    pub text: &'static str,
    /// Until the answer was there, the median of all runs.
    pub median_ms: f64,
    /// The slowest run.
    pub worst_ms: f64,
    /// The median, divided by that of the first receiver.
    pub ratio: Option<f64>,
    /// Bytes of the answer.
    pub answer_bytes: u64,
    /// Series of the answer, or values of a label.
    pub answer_series: usize,
    /// CPU of the receiver for one answer.
    pub cpu_s: f64,
    /// The most memory of the receiver meanwhile.
    pub rss_peak_bytes: u64,
}

impl Report {
    /// Puts the receivers side by side.
    pub fn new(
        command: String,
        machine: String,
        title: String,
        queries: &'static [Query],
        measured: &[Measured],
    ) -> Report {
        let receivers =
            measured.iter().map(|one| ReceiverReport::new(queries, one, measured.first())).collect();
        let differences = differences(queries, measured);
        Report { format: "annulus-queries/1", command, machine, title, receivers, differences }
    }

    /// The tables.
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n{}\n\n", self.machine, self.title);
        text.push_str(&self.query_table().to_text(0));
        text.push('\n');
        text.push_str(&self.receiver_table().to_text(0));
        for one in &self.receivers {
            if let Some(reason) = one.ingest.as_ref().and_then(|ingest| ingest.bottleneck.as_ref()) {
                text.push_str(&format!("\n{}: its acknowledgements say little: {reason}\n", one.receiver));
            }
        }
        text.push('\n');
        for query in self.receivers.iter().take(1).flat_map(|first| &first.queries) {
            let shown: String = query.text.chars().take(EXPRESSION_MAX).collect();
            text.push_str(&format!("{}: {shown}\n", query.name));
        }
        for difference in &self.differences {
            text.push_str(&format!("\nDIFFERENT: {difference}\n"));
        }
        text
    }

    /// One line for each query and receiver, those of one query below each other.
    fn query_table(&self) -> Table {
        let mut table = Table::new([
            "query", "receiver", "median", "worst", "ratio", "answer", "series", "CPU", "peak RSS",
        ]);
        let count = self.receivers.first().map_or(0, |first| first.queries.len());
        for index in 0..count {
            for (place, one) in self.receivers.iter().enumerate() {
                let query = &one.queries[index];
                table.push([
                    if place == 0 { query.name.to_owned() } else { String::new() },
                    one.receiver.clone(),
                    quantity::milliseconds(query.median_ms),
                    quantity::milliseconds(query.worst_ms),
                    shown_ratio(query.ratio),
                    quantity::bytes(query.answer_bytes as f64),
                    quantity::exact(query.answer_series as u64),
                    quantity::milliseconds(query.cpu_s * 1000.0),
                    quantity::bytes(query.rss_peak_bytes as f64),
                ]);
            }
        }
        for (place, one) in self.receivers.iter().enumerate() {
            table.push([
                if place == 0 { "all".to_owned() } else { String::new() },
                one.receiver.clone(),
                quantity::milliseconds(one.total_median_ms),
                String::new(),
                shown_ratio(one.total_ratio),
            ]);
        }
        table
    }

    fn receiver_table(&self) -> Table {
        let has_ingest = self.receivers.iter().any(|one| one.ingest.is_some());
        let mut heading = vec!["receiver", "load", "load CPU", "RSS", "query p50", "query p99"];
        if has_ingest {
            heading.extend(["ack p50", "ack p99", "samples/s", "failed samples"]);
        }
        let mut table = Table::new(heading);
        for one in &self.receivers {
            let mut cells = vec![
                one.receiver.clone(),
                quantity::milliseconds(one.load_s * 1000.0),
                quantity::milliseconds(one.load_cpu_s * 1000.0),
                quantity::bytes(one.rss_bytes as f64),
                quantity::milliseconds(one.query_p50_ms),
                quantity::milliseconds(one.query_p99_ms),
            ];
            if let Some(ingest) = &one.ingest {
                cells.extend([
                    quantity::milliseconds(ingest.ack_p50_ms),
                    quantity::milliseconds(ingest.ack_p99_ms),
                    quantity::count(ingest.samples_per_s),
                    quantity::exact(ingest.failed_samples),
                ]);
            }
            table.push(cells);
        }
        table
    }
}

impl ReceiverReport {
    fn new(queries: &'static [Query], one: &Measured, base: Option<&Measured>) -> ReceiverReport {
        let all = Times::joined(one.asked.iter().map(|asked| &asked.times));
        let total =
            |measured: &Measured| measured.asked.iter().map(|asked| asked.times.median()).sum::<f64>();
        ReceiverReport {
            receiver: one.name.clone(),
            load_s: one.load_s,
            load_cpu_s: one.load_cpu_s,
            rss_bytes: one.rss_bytes,
            total_median_ms: total(one),
            total_ratio: base.and_then(|base| ratio(total(one), total(base))),
            query_p50_ms: all.quantile(0.5),
            query_p99_ms: all.quantile(0.99),
            ingest: one.ingested.clone(),
            queries: (0..)
                .zip(queries.iter().zip(&one.asked))
                .map(|(index, (query, asked))| {
                    QueryReport::new(query, asked, base.and_then(|base| base.asked.get(index)))
                })
                .collect(),
        }
    }
}

impl QueryReport {
    fn new(query: &Query, asked: &Asked, base: Option<&Asked>) -> QueryReport {
        QueryReport {
            name: query.name,
            text: query.text,
            median_ms: asked.times.median(),
            worst_ms: asked.times.worst(),
            ratio: base.and_then(|base| ratio(asked.times.median(), base.times.median())),
            answer_bytes: asked.answer_bytes,
            answer_series: asked.content.len(),
            cpu_s: asked.cpu_s_per_answer(),
            rss_peak_bytes: asked.rss_peak_bytes,
        }
    }
}

/// Where receivers that promise the same answers do not give them. VictoriaMetrics promises its own: its rates
/// reach back to the sample before the range.
fn differences(queries: &[Query], measured: &[Measured]) -> Vec<String> {
    let mut alike = measured.iter().filter(|one| one.kind != Kind::VictoriaMetrics);
    let Some(base) = alike.next() else { return Vec::new() };
    let mut differences = Vec::new();
    for other in alike {
        for (query, (this, that)) in queries.iter().zip(base.asked.iter().zip(&other.asked)) {
            if let Some(what) = this.content.difference(&that.content) {
                differences.push(format!("{}: {} and {}: {what}", query.name, base.name, other.name));
            }
        }
    }
    differences
}

fn shown_ratio(ratio: Option<f64>) -> String {
    ratio.map_or(NONE.to_owned(), quantity::ratio)
}

#[cfg(test)]
mod tests {
    use super::super::answer::Content;
    use super::super::catalogue::Group;
    use super::*;

    fn measured(name: &str, kind: Kind, factor: f64, value: &str) -> Measured {
        let asked = |_: &Query| Asked {
            times: Times::new(vec![factor, 3.0 * factor, 2.0 * factor]),
            answer_bytes: 2048,
            cpu_s: 0.012,
            rss_peak_bytes: 1 << 20,
            content: Content::Values(vec![value.to_owned()]),
        };
        let asked = Group::Nine.queries().iter().map(asked).collect();
        Measured {
            name: name.to_owned(),
            kind,
            load_s: 1.5,
            load_cpu_s: 0.5,
            rss_bytes: 1 << 20,
            asked,
            ingested: None,
        }
    }

    fn report(measured: &[Measured]) -> Report {
        Report::new("c".to_owned(), "m".to_owned(), "t".to_owned(), Group::Nine.queries(), measured)
    }

    #[test]
    fn ratios_are_to_the_first_receiver() {
        let report = report(&[
            measured("annulus", Kind::Annulus, 1.0, "x"),
            measured("prometheus", Kind::Prometheus, 10.0, "x"),
        ]);
        assert_eq!(report.receivers[1].queries[0].ratio, Some(10.0));
        assert_eq!(
            (report.receivers[0].total_median_ms, report.receivers[1].total_ratio),
            (18.0, Some(10.0))
        );
        let text = report.to_text();
        assert!(
            text.contains("rate, instant") && text.contains("20 ms") && !text.contains("DIFFERENT"),
            "{text}"
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["receivers"][0]["queries"][0]["cpu_s"], 0.004);
        assert_eq!(json["receivers"][1]["queries"][8]["median_ms"], 20.0);
    }

    #[test]
    fn only_receivers_that_promise_equal_answers_are_compared() {
        let all = [
            measured("victoria-metrics", Kind::VictoriaMetrics, 1.0, "z"),
            measured("annulus", Kind::Annulus, 1.0, "x"),
            measured("prometheus", Kind::Prometheus, 1.0, "y"),
        ];
        let report = report(&all);
        assert_eq!(report.differences.len(), 9);
        assert!(report.to_text().contains("DIFFERENT: rate, 60 s: annulus and prometheus"));
        assert_eq!(differences(Group::Nine.queries(), &all[..2]), [""; 0]);
    }

    #[test]
    fn acknowledgements_are_shown_where_something_was_written_beside() {
        let ingested = Ingested {
            samples_per_s: 200_000.0,
            ack_p50_ms: 2.0,
            ack_p99_ms: 7.0,
            failed_samples: 0,
            bottleneck: Some("its CPUs are busy".to_owned()),
        };
        let one = Measured { ingested: Some(ingested), ..measured("annulus", Kind::Annulus, 1.0, "x") };
        let text = report(&[one]).to_text();
        assert!(text.contains("ack p99") && text.contains("7 ms") && text.contains("200 k"), "{text}");
        assert!(text.contains("its CPUs are busy"), "{text}");
    }
}
