//! Everything that a Prometheus sends: what annulus answers, and what is in its blocks, is what the sender has.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::exporter::{Exporter, STEPS};
use super::folder::{Block, copy_of};
use super::outside::{prometheus_is_there, start_prometheus};
use super::workload::as_sent;
use super::{assert_no_losses, wait_for_blocks};
use crate::support::http::{get, post_form};
use crate::support::metrics::metric;
use crate::support::query::{Labels, QueryApi, difference, seconds};
use crate::support::server::Server;
use crate::support::{now_ms, wait_for, wait_until};

const CONFIG: &str = r#"
global:
  scrape_interval: 500ms
  scrape_timeout: 500ms
scrape_configs:
  - job_name: exporter
    static_configs: [{targets: ["$EXPORTER"]}]
remote_write:
  - url: http://$ANNULUS/api/v1/receive
    send_exemplars: true
    send_native_histograms: true
    metadata_config: {send: true, send_interval: 1s}
    queue_config: {batch_send_deadline: 500ms}
"#;

const FEATURES: &str = "native-histograms,exemplar-storage";

/// What the sender answers of native histograms, and a Prometheus over the blocks has to answer alike.
const HISTOGRAM_QUERIES: [&str; 12] = [
    "histogram_count(exporter_native_seconds)",
    "histogram_sum(exporter_native_seconds)",
    "histogram_quantile(0.02, exporter_native_seconds)",
    "histogram_quantile(0.3, exporter_native_seconds)",
    "histogram_quantile(0.95, exporter_native_seconds)",
    "histogram_fraction(-1, 0.001, exporter_native_seconds)",
    "histogram_count(rate(exporter_native_seconds[3s]))",
    "histogram_quantile(0.5, sum(rate(exporter_native_seconds[3s])))",
    "histogram_count(exporter_native_level)",
    "histogram_sum(exporter_native_level)",
    "histogram_quantile(0.4, exporter_native_level)",
    "histogram_quantile(0.99, exporter_native_level)",
];

/// An exemplar: its labels, its value's bits and its time.
type Exemplar = (Labels, u64, i64);

#[test]
fn exemplars_metadata_and_native_histograms_are_those_of_the_sender() {
    if !prometheus_is_there("exemplars_metadata_and_native_histograms_are_those_of_the_sender") {
        return;
    }
    // Its shards do not send in step, and the machine may be busy.
    let server = Server::start_with(&["--tsdb.min-block-duration=5s", "--tsdb.out-of-order.time-window=5s"]);
    let exporter = Exporter::start();
    let home = tempfile::tempdir().unwrap();
    let config = CONFIG
        .replace("$ANNULUS", &server.addresses.write.to_string())
        .replace("$EXPORTER", &exporter.address.to_string());
    let began_ms = now_ms();
    let (_process, sender) = start_prometheus(home.path(), &home.path().join("data"), &config, FEATURES);

    wait_for("all steps were scraped", Duration::from_secs(120), || exporter.is_done().then_some(()));
    // The last scrape may still be on its way into the sender's head.
    let end_ms = now_ms() + 1000;
    let blocks = wait_for_blocks(&server, "default-tenant", end_ms);

    compare_exemplars(server.query(), sender, (began_ms, end_ms));
    compare_metadata(server.query(), sender);
    compare_floats(server.query(), sender, end_ms);
    compare_answers(server.query(), sender, (began_ms, end_ms));
    compare_histograms(&blocks, sender, (began_ms, end_ms));
    for kind in ["out_of_order", "label_length", "invalid_labels", "unknown_series", "too_far_in_future"] {
        let series = format!("annulus_ingest_exemplars_refused_total{{reason=\"{kind}\"}}");
        assert_eq!(metric(server.addresses.write, &series), Some(0.0), "{series}");
    }
    assert_no_losses(&server);
}

fn compare_exemplars(annulus: QueryApi, sender: QueryApi, times_ms: (i64, i64)) {
    wait_until("the exemplars are the same:", Duration::from_secs(30), || {
        let (found, expected) = (exemplars(annulus, times_ms), exemplars(sender, times_ms));
        // Two counters, two classic histograms of four buckets, and two native ones.
        let count = expected.values().map(Vec::len).sum::<usize>();
        assert!(expected.len() == 12 && count as u64 > 3 * STEPS, "{count} of {} series", expected.len());
        if found == expected { Ok(()) } else { Err(format!("{found:?} instead of {expected:?}")) }
    });
}

/// Of each series with the labels that the sender knows it by.
fn exemplars(api: QueryApi, (start_ms, end_ms): (i64, i64)) -> BTreeMap<Labels, Vec<Exemplar>> {
    let (start, end) = (seconds(start_ms), seconds(end_ms));
    let fields = [("query", r#"{__name__=~"exporter_.+"}"#), ("start", &start), ("end", &end)];
    let response = post_form(api.0, "/api/v1/query_exemplars", &fields).unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    let answer: Value = serde_json::from_slice(&response.body).unwrap();
    let all = answer["data"].as_array().unwrap().iter();
    let of_series = |series: &Value| {
        let mut labels: Labels = serde_json::from_value(series["seriesLabels"].clone()).unwrap();
        labels.retain(|name, _| !["replica", "tenant_id"].contains(&name.as_str()));
        let exemplar = |one: &Value| -> Exemplar {
            let value: f64 = one["value"].as_str().unwrap().parse().unwrap();
            let time_ms = (one["timestamp"].as_f64().unwrap() * 1000.0).round() as i64;
            (serde_json::from_value(one["labels"].clone()).unwrap(), value.to_bits(), time_ms)
        };
        (labels, series["exemplars"].as_array().unwrap().iter().map(exemplar).collect())
    };
    all.map(of_series).collect()
}

fn compare_metadata(annulus: QueryApi, sender: QueryApi) {
    let metadata = |api: QueryApi| -> Value {
        let answer: Value = serde_json::from_slice(&get(api.0, "/api/v1/metadata").unwrap().body).unwrap();
        answer["data"].clone()
    };
    wait_until("the metadata is the same:", Duration::from_secs(30), || {
        let (found, expected) = (metadata(annulus), metadata(sender));
        assert_eq!(expected.as_object().map(|families| families.len()), Some(4), "{expected}");
        if found == expected { Ok(()) } else { Err(format!("{found} instead of {expected}")) }
    });
}

fn compare_floats(annulus: QueryApi, sender: QueryApi, end_ms: i64) {
    let selector = r#"{job="exporter", __name__!~"exporter_native_.+"}[5m]"#;
    wait_until("the floats are the same:", Duration::from_secs(30), || {
        let (found, expected) =
            (as_sent(annulus.instant(selector, end_ms)), sender.instant(selector, end_ms));
        assert!(expected.len() > 14, "{} series", expected.len());
        difference(&found, &expected, 0.0).map_or(Ok(()), Err)
    });
}

/// What annulus answers of native histograms, from its head and blocks. Only what every Prometheus computes alike: older
/// ones have other quantiles, and other rates of counters that have just begun.
fn compare_answers(annulus: QueryApi, sender: QueryApi, (began_ms, end_ms): (i64, i64)) {
    let differs = |query: &str| ["quantile", "fraction", "rate"].iter().any(|part| query.contains(part));
    for query in HISTOGRAM_QUERIES.into_iter().filter(|query| !differs(query)) {
        let ask = |api: QueryApi| api.range(query, began_ms, end_ms, "0.25");
        let expected = ask(sender);
        assert!(!expected.is_empty(), "{query} has no answer");
        assert_eq!(difference(&as_sent(ask(annulus)), &expected, 0.0), None, "{query}");
    }
}

/// A Prometheus that has nothing but the blocks answers as the one that scraped.
fn compare_histograms(blocks: &[Block], sender: QueryApi, (began_ms, end_ms): (i64, i64)) {
    let (home, copy) = (tempfile::tempdir().unwrap(), copy_of(blocks));
    let (process, reader) = start_prometheus(home.path(), copy.path(), "", FEATURES);
    for query in HISTOGRAM_QUERIES {
        let ask = |api: QueryApi| api.range(query, began_ms, end_ms, "0.25");
        let (found, expected) = (ask(reader), ask(sender));
        assert_eq!(difference(&found, &expected, 0.0), None, "{query}");
        for samples in expected.values() {
            let mut values: Vec<u64> = samples.iter().map(|(_, value)| value.to_bits()).collect();
            values.dedup();
            assert!(values.len() > 5, "{query} hardly changes: {samples:?}");
        }
        assert!(!expected.is_empty(), "{query} has no answer");
    }
    let counts = sender.range(HISTOGRAM_QUERIES[0], began_ms, end_ms, "0.25");
    let falls = |samples: &Vec<(i64, f64)>| samples.windows(2).any(|pair| pair[1].1 < pair[0].1);
    assert!(counts.len() == 2 && counts.values().all(falls), "no counter began again: {counts:?}");
    let log = process.log();
    assert!(!log.contains("level=error") && !log.contains("verlapping"), "{log}");
}
