//! The architecture itself: two clusters with a Prometheus each, and annulus in the middle.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::support::http::get;
use super::support::process::Process;
use super::support::query::{Labels, Matrix, QueryApi};
use super::support::server::Server;
use super::support::{free_address, leave_out, now_ms, wait_for, wait_until};

/// Scrapes that annulus must have of each cluster before it is killed, and before the numbers are compared: the
/// second leaves the whole range of `[1m]` behind the first samples.
const SCRAPES_BEFORE_KILL: f64 = 25.0;
const SCRAPES_BEFORE_COMPARISON: f64 = 76.0;

/// Sums over many series may be added up in another order.
const TOLERANCE: f64 = 1e-9;

/// A Prometheus with its node exporter.
struct Cluster {
    name: &'static str,
    prometheus: QueryApi,
    _processes: [Process; 2],
}

impl Cluster {
    fn start(name: &'static str, annulus: SocketAddr, home: &Path) -> Cluster {
        let home = home.join(name);
        fs::create_dir(&home).unwrap();
        let (prometheus, node) = (free_address(), free_address());
        let config = home.join("prometheus.yml");
        fs::write(&config, configuration(name, prometheus, node, annulus)).unwrap();

        let mut command = Command::new("prometheus-node-exporter");
        command.arg(format!("--web.listen-address={node}"));
        let node_exporter = Process::spawn("node-exporter", command, &home);
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", home.join("data").display()))
            .arg(format!("--web.listen-address={prometheus}"));
        let server = Process::spawn("prometheus", command, &home);
        Cluster { name, prometheus: QueryApi(prometheus), _processes: [server, node_exporter] }
    }

    /// A metric that the sender shows about itself, summed up.
    fn metric(&self, name: &str) -> f64 {
        let text = get(self.prometheus.0, "/metrics").unwrap().text();
        let values =
            text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
        values.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// A sender does not show its external labels itself; what annulus answers has them.
    fn with_cluster_label(&self, matrix: Matrix) -> Matrix {
        let add = |mut labels: Labels| {
            labels.insert("cluster".to_owned(), self.name.to_owned());
            labels
        };
        matrix.into_iter().map(|(labels, samples)| (add(labels), samples)).collect()
    }
}

fn configuration(name: &str, prometheus: SocketAddr, node: SocketAddr, annulus: SocketAddr) -> String {
    format!(
        r#"
global:
  scrape_interval: 1s
  scrape_timeout: 1s
  external_labels:
    cluster: {name}
scrape_configs:
  - job_name: prometheus
    static_configs: [{{targets: ["{prometheus}"]}}]
  - job_name: node
    static_configs: [{{targets: ["{node}"]}}]
  - job_name: annulus
    static_configs: [{{targets: ["{annulus}"]}}]
remote_write:
  - url: http://{annulus}/api/v1/receive
    queue_config:
      capacity: 50000
      max_shards: 200
      max_samples_per_send: 10000
      batch_send_deadline: 5s
      min_backoff: 1s
      max_backoff: 60s
"#
    )
}

#[test]
fn two_clusters_are_answered_with_their_own_numbers_across_a_kill_9() {
    let test = "two_clusters_are_answered_with_their_own_numbers_across_a_kill_9";
    for binary in ["prometheus", "prometheus-node-exporter"] {
        if Command::new(binary).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err()
        {
            return leave_out(test, &format!("{binary} is not installed"));
        }
    }
    let mut server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let clusters =
        ["cluster-a", "cluster-b"].map(|name| Cluster::start(name, server.addresses.write, home.path()));

    wait_for_scrapes(&server, SCRAPES_BEFORE_KILL);
    server.kill_and_restart();
    wait_for_scrapes(&server, SCRAPES_BEFORE_COMPARISON);

    // The senders answer the first query only after this moment: a query makes new series of its own.
    let end_ms = moment_without_samples(&server);
    wait_until_all_is_sent(&server, &clusters, end_ms);
    compare_queries(&server, &clusters, end_ms);
    for cluster in &clusters {
        assert!(cluster.metric("prometheus_remote_storage_samples_total") > 10_000.0);
        for name in ["failed", "dropped"] {
            let count = cluster.metric(&format!("prometheus_remote_storage_samples_{name}_total"));
            assert_eq!(count, 0.0, "samples that {} counts as {name}", cluster.name);
        }
    }
}

fn wait_for_scrapes(server: &Server, count: f64) {
    let query = "min by (cluster) (count_over_time(up{job=\"prometheus\"}[10m]))";
    wait_for(&format!("{count} scrapes of both clusters"), Duration::from_secs(120), || {
        let scrapes = server.query().instant(query, now_ms());
        (scrapes.len() == 2 && scrapes.values().all(|samples| samples[0].1 >= count)).then_some(())
    });
}

/// A recent time whose milliseconds no scrape shares. Debian's Prometheus 2.42 includes the left end of a range,
/// newer ones do not; off the grid of the samples both select the same.
fn moment_without_samples(server: &Server) -> i64 {
    let now = now_ms();
    let scrapes = server.query().instant("up[10m]", now);
    let taken: BTreeSet<i64> =
        scrapes.values().flatten().map(|(timestamp_ms, _)| timestamp_ms.rem_euclid(1000)).collect();
    let phase = (0..1000).find(|phase| !taken.contains(phase)).unwrap();
    now - now.rem_euclid(1000) - 1000 + phase
}

/// Waits until annulus holds exactly what the senders hold up to `end_ms`: every series, every sample, every bit.
fn wait_until_all_is_sent(server: &Server, clusters: &[Cluster], end_ms: i64) {
    for cluster in clusters {
        let sent = cluster.prometheus.instant("{__name__=~\".+\"}[10m]", end_ms);
        assert!(sent.len() > 500, "{} has only {} series", cluster.name, sent.len());
        let selector = format!("{{cluster=\"{}\"}}[10m]", cluster.name);
        wait_until(&format!("all that {} sent is stored:", cluster.name), Duration::from_secs(30), || {
            let stored = without_external_labels(server.query().instant(&selector, end_ms));
            first_difference(&sent, &stored).map_or(Ok(()), Err)
        });
    }
}

fn without_external_labels(matrix: Matrix) -> Matrix {
    let strip = |mut labels: Labels| {
        assert_eq!(labels.remove("replica").as_deref(), Some("a"));
        assert!(labels.remove("cluster").is_some() && labels.remove("tenant_id").is_some());
        labels
    };
    matrix.into_iter().map(|(labels, samples)| (strip(labels), samples)).collect()
}

fn first_difference(sent: &Matrix, stored: &Matrix) -> Option<String> {
    if let Some((labels, _)) = stored.iter().find(|(labels, _)| !sent.contains_key(*labels)) {
        return Some(format!("{labels:?} was never sent"));
    }
    sent.iter().find_map(|(labels, sent)| {
        let Some(stored) = stored.get(labels) else {
            return Some(format!("{labels:?} is missing, {} samples were sent", sent.len()));
        };
        let bits = |samples: &[(i64, f64)]| -> Vec<_> {
            let canonical = |value: f64| if value.is_nan() { f64::NAN } else { value };
            samples.iter().map(|&(timestamp_ms, value)| (timestamp_ms, canonical(value).to_bits())).collect()
        };
        let (sent_bits, stored_bits) = (bits(sent), bits(stored));
        if sent_bits == stored_bits {
            return None;
        }
        let missing = sent.iter().zip(&sent_bits).find(|(_, bits)| !stored_bits.contains(bits));
        Some(format!(
            "{labels:?}: {} samples sent, {} stored; the first that is missing: {:?}",
            sent.len(),
            stored.len(),
            missing.map(|(sample, _)| sample)
        ))
    })
}

/// Each query as annulus is asked, and as each sender answers it for itself.
fn compare_queries(server: &Server, clusters: &[Cluster], end_ms: i64) {
    for (central, local) in [
        ("sum by (cluster) (up)", "sum(up)"),
        (
            "sum by (cluster, job) (rate(prometheus_http_requests_total[1m]))",
            "sum by (job) (rate(prometheus_http_requests_total[1m]))",
        ),
        ("avg by (cluster) (node_load1)", "avg(node_load1)"),
        (
            "sum by (cluster, mode) (rate(node_cpu_seconds_total[30s]))",
            "sum by (mode) (rate(node_cpu_seconds_total[30s]))",
        ),
        (
            "topk by (cluster) (1, max_over_time(node_memory_MemAvailable_bytes[20s]))",
            "topk(1, max_over_time(node_memory_MemAvailable_bytes[20s]))",
        ),
    ] {
        let collect = |ask: &dyn Fn(&Cluster) -> Matrix| -> Matrix {
            clusters.iter().flat_map(|cluster| cluster.with_cluster_label(ask(cluster))).collect()
        };
        let expected = collect(&|cluster| cluster.prometheus.instant(local, end_ms));
        assert_close(central, &without_replica(server.query().instant(central, end_ms)), &expected);

        let start_ms = end_ms - 12_000;
        let expected = collect(&|cluster| cluster.prometheus.range(local, start_ms, end_ms, "3"));
        let found = without_replica(server.query().range(central, start_ms, end_ms, "3"));
        assert_close(&format!("{central} as a range"), &found, &expected);
    }
}

/// Queries that keep all labels show the ones that annulus adds.
fn without_replica(matrix: Matrix) -> Matrix {
    let strip = |mut labels: Labels| {
        labels.remove("replica");
        labels.remove("tenant_id");
        labels
    };
    matrix.into_iter().map(|(labels, samples)| (strip(labels), samples)).collect()
}

fn assert_close(query: &str, found: &Matrix, expected: &Matrix) {
    assert!(!expected.is_empty(), "{query}: the senders have no answer");
    let series = |matrix: &Matrix| matrix.keys().cloned().collect::<Vec<_>>();
    assert_eq!(series(found), series(expected), "{query}");
    for (labels, expected) in expected {
        let found = &found[labels];
        let is_close = |(found, expected): (&(i64, f64), &(i64, f64))| {
            let scale = expected.1.abs().max(1.0);
            found.0 == expected.0 && (found.1 - expected.1).abs() <= TOLERANCE * scale
        };
        let is_equal = found.len() == expected.len() && found.iter().zip(expected).all(is_close);
        assert!(is_equal, "{query} {labels:?}: {found:?} instead of {expected:?}");
    }
}
