//! The series of the benches: 12 labels, about 370 bytes each on the wire, as a Kubernetes cluster has them.
//!
//! A series is a pure function of its number, so that senders and checks agree on it without keeping it.

use std::fmt::Write;

/// The value of label `cluster` of every series, by which checks find them.
pub const CLUSTER: &str = "bench-eu-west-1";

/// Series of one scraped pod; they stand side by side in a request, as Prometheus sends them.
const SERIES_PER_TARGET: usize = 100;

/// Label values of `route`, so many for each metric of a target.
const ROUTES: [&str; 5] =
    ["/api/v2/orders", "/api/v2/orders/{id}", "/api/v2/invoices", "/internal/health", "/api/v2/search"];

const METRICS: [&str; 20] = [
    "http_server_requests_total",
    "http_server_request_duration_seconds_sum",
    "http_server_request_duration_seconds_count",
    "http_server_response_size_bytes_sum",
    "http_server_requests_in_flight",
    "http_client_requests_total",
    "http_client_request_duration_seconds_sum",
    "http_client_request_duration_seconds_count",
    "grpc_server_handled_total",
    "grpc_server_started_total",
    "database_pool_connections_open",
    "database_pool_wait_duration_seconds_total",
    "database_queries_total",
    "cache_lookups_total",
    "cache_entries",
    "queue_messages_consumed_total",
    "queue_consumer_lag_messages",
    "container_cpu_usage_seconds_total",
    "container_memory_working_set_bytes",
    "container_network_receive_bytes_total",
];

const APPS: [&str; 8] = [
    "payments-api",
    "orders-worker",
    "search-indexer",
    "billing",
    "checkout",
    "catalogue",
    "sessions",
    "gateway",
];

/// One of the bench's series.
#[derive(Debug, Clone, Copy)]
pub struct Series(pub usize);

impl Series {
    /// Its labels, sorted by name.
    pub fn labels(self) -> Vec<(&'static str, String)> {
        let target = self.0 / SERIES_PER_TARGET;
        let within = self.0 % SERIES_PER_TARGET;
        let app = APPS[target % APPS.len()];
        let host = mix(target as u64 / 30);
        let address = format!("10-{}-{}-{}", host & 0x3f, host >> 8 & 0xff, host >> 16 & 0xff);
        let pod = mix(target as u64);
        vec![
            ("__name__", METRICS[within / ROUTES.len()].to_owned()),
            ("cluster", CLUSTER.to_owned()),
            ("container", app.to_owned()),
            ("endpoint", "http-metrics".to_owned()),
            ("instance", format!("10.{}.{}.{}:9102", pod & 0x3f, pod >> 8 & 0xff, pod >> 16 & 0xff)),
            ("job", app.to_owned()),
            ("namespace", format!("{app}-prod")),
            ("node", format!("ip-{address}.ec2.internal")),
            // The number itself keeps two pods apart whatever the hash says.
            ("pod", format!("{app}-{:08x}-{target:05}", pod >> 24 & 0xffff_ffff)),
            ("prometheus", "monitoring/k8s".to_owned()),
            ("route", ROUTES[within % ROUTES.len()].to_owned()),
            ("service", app.to_owned()),
        ]
    }

    /// A selector of this series alone.
    pub fn selector(self) -> String {
        let mut selector = String::from("{");
        for (name, value) in self.labels() {
            let _ = write!(selector, "{name}=\"{value}\",");
        }
        selector.push('}');
        selector
    }

    /// Its value in a round: counters that grow by whole numbers, gauges that stand still, gauges that move.
    pub fn value(self, round: u64) -> f64 {
        let hash = mix(self.0 as u64);
        match hash % 10 {
            0..6 => (hash >> 40) as f64 + (round * (hash >> 8 & 0x3f)) as f64,
            6..8 => (hash >> 48) as f64,
            _ => (mix(hash ^ round) >> 44) as f64 / 1000.0,
        }
    }
}

/// Spreads a number over all 64 bits (the finisher of SplitMix64).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_series_has_its_own_twelve_sorted_labels() {
        let mut seen = HashSet::new();
        for number in 0..20_000 {
            let labels = Series(number).labels();
            assert_eq!(labels.len(), 12);
            assert!(labels.is_sorted_by(|left, right| left.0 < right.0));
            assert!(seen.insert(labels), "series {number} occurs twice");
        }
    }

    #[test]
    fn counters_never_fall() {
        for number in 0..100 {
            let is_counter = mix(number as u64) % 10 < 6;
            let grows = (0..100).all(|round| Series(number).value(round) <= Series(number).value(round + 1));
            assert!(grows || !is_counter, "series {number}");
        }
    }
}
