//! Plans against sums made by hand, and every line against its own text.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: PlanArgs,
}

fn planned(line: &str) -> Result<Plan, String> {
    let words = std::iter::once("plan").chain(line.split_whitespace());
    let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
    plan(&cli.args).map_err(|error| error.to_string())
}

fn figure(plan: &Plan, name: &str) -> f64 {
    value(&plan.lines, name)
}

#[test]
fn a_load_of_twelve_clusters_agrees_with_a_sum_made_by_hand() {
    let plan = planned("--clusters 12 --targets 400 --metrics 1500 --interval 30s --growth 0 --churn 0 --replication-factor 2").unwrap();
    assert_eq!(plan.lines[0].arithmetic, "12 clusters x 400 targets x 1,500 series");
    assert_eq!(figure(&plan, "active_series"), 7.2e6);
    assert_eq!(figure(&plan, "samples_per_second"), 240_000.0);
    assert_eq!(figure(&plan, "copies_per_second"), 480_000.0);
    // 0.48 M/s x (0.25 + 0.1 + 0.5) s + 2 cores for queries = 2.408 cores, of which 70 % may be used.
    assert!((figure(&plan, "cores") - 3.44).abs() < 1e-9);
    // 14.4 M x 600 B = 8.64 GB; a node of 32 GiB has 0.8 x 32 - 2 GiB = 25.34 GB for series.
    assert_eq!(figure(&plan, "head_bytes"), 8.64e9);
    assert_eq!(figure(&plan, "nodes_by_memory"), 1.0);
    assert_eq!(figure(&plan, "nodes"), 2.0);
    assert_eq!(figure(&plan, "cores_per_node"), 2.0);
    // (4.32 GB + 2 GiB) / 0.8.
    assert!((figure(&plan, "memory_bytes_per_node") - (4.32e9 + 2_147_483_648.0) / 0.8).abs() < 1.0);
}

#[test]
fn object_storage_and_network_agree_with_a_sum_made_by_hand() {
    let plan = planned("--series 1M --interval 10s --growth 0 --churn 0 --replication-factor 1 --retention-raw 14d --retention-5m 26d --retention-1h 84d").unwrap();
    // 100 k/s x (14 + 16) d x 86,400 s x 1.3 B.
    assert!((figure(&plan, "raw_bytes") - 336.96e9).abs() < 1.0);
    // 1 M x 42 d x 288 windows x 15 B; 1 M x 100 d x 24 windows x 25 B.
    assert!((figure(&plan, "downsampled_5m_bytes") - 181.44e9).abs() < 1.0);
    assert!((figure(&plan, "downsampled_1h_bytes") - 60e9).abs() < 1.0);
    // up(30 / 14) + up(42 / 14) + up(100 / 14) = 3 + 3 + 8 blocks of 1 M series x 250 B.
    assert_eq!(figure(&plan, "blocks_kept"), 14.0);
    assert_eq!(figure(&plan, "index_bytes"), 3.5e9);
    assert!((figure(&plan, "object_storage_bytes") - 581.9e9).abs() < 10.0);
    // 100 k/s x 40 B; one node has no peers.
    assert_eq!(figure(&plan, "network_in_bytes_per_second"), 4e6);
    assert_eq!(figure(&plan, "network_peer_bytes_per_second"), 0.0);
    // 2 x 100 k/s x 14 d x 86,400 s x 1.3 B.
    assert!((figure(&plan, "compactor_disk_bytes") - 314.496e9).abs() < 1.0);
}

#[test]
fn churn_fills_heads_and_the_log() {
    let plan = planned("--series 3.6M --growth 0 --churn 10% --replication-factor 1").unwrap();
    // 3.6 M x 10 % / 3600 s = 100 new series a second; 3.6 M x (1 + 10 % x 3 h).
    assert!((figure(&plan, "new_series_per_second") - 100.0).abs() < 1e-9);
    assert!((figure(&plan, "head_series") - 4.68e6).abs() < 1e-3);
    // 120 k/s x 7 B + 100/s x 350 B.
    assert!((figure(&plan, "wal_bytes_per_second") - 875_000.0).abs() < 1e-6);
}

#[test]
fn a_large_head_asks_for_a_ring_above_the_default() {
    let small = planned("--series 1M --replication-factor 1").unwrap();
    assert_eq!(figure(&small, "wal_ring_bytes_per_shard"), 512.0 * 1024.0 * 1024.0);
    let large = planned("--series 20M --growth 0 --churn 0 --replication-factor 1 --node-cores 4").unwrap();
    let (wal, seconds) = (figure(&large, "wal_bytes_per_second"), figure(&large, "checkpoint_seconds"));
    let expected = 3.0 * (wal * seconds + 20e6 * 350.0) / 4.0;
    assert!(expected > 512e6 && (figure(&large, "wal_ring_bytes_per_shard") - expected).abs() < 1.0);
}

#[test]
fn memory_or_cpu_decides_how_many_nodes_there_are() {
    let by_memory = planned(
        "--series 100M --interval 60s --growth 0 --churn 0 --replication-factor 1 --node-memory 16GiB",
    )
    .unwrap();
    // 60 GB / (12.8 - 2 GiB) = 5.17.
    assert_eq!(figure(&by_memory, "nodes"), 6.0);
    let by_cpu = planned("--series 10M --interval 1s --growth 0 --churn 0 --replication-factor 1 --query-cores 0 --node-cores 4").unwrap();
    // 10 M/s x 0.85 s / 0.7 = 12.14 cores.
    assert_eq!(figure(&by_cpu, "nodes"), 4.0);
}

#[test]
fn a_calibrated_rate_may_ask_for_more_nodes_than_cpu_does() {
    let mut plan = planned("--series 7.2M --growth 0 --churn 0 --replication-factor 2").unwrap();
    plan.coefficients.sustained_rate = Some(100_000.0);
    let lines = model::plan(&plan.load, &plan.coefficients);
    assert_eq!(value(&lines, "nodes"), 5.0);
}

#[test]
fn inputs_that_cannot_be_are_one_clear_line() {
    for (input, reason) in [
        ("", "give --targets and --metrics"),
        ("--targets 5", "give --targets and --metrics"),
        ("--series 5 --targets 5", "--series is the total"),
        ("--series 5 --clusters 2", "--series is the total"),
        ("--series 0", "at least one"),
        ("--series 9999G", "at most a trillion"),
        ("--series 5 --interval 0", "--interval must be"),
        ("--series 5 --interval 2d", "--interval must be"),
        ("--series 5 --replication-factor 0", "between 1 and 16"),
        ("--series 5 --retention-raw 0", "keeps for ever"),
        ("--series 5 --retention-raw 1d", "at least 40h"),
        ("--series 5 --retention-5m 9d", "at least 10d"),
        ("--series 5 --node-cores 1.5", "whole number"),
        ("--series 5 --node-memory 2GiB", "--node-memory: too little"),
        ("--series 5 --growth 20000%", "at most 10000%"),
        ("--series 5 --coefficient nonsense=1", "is none of"),
        ("--series 5 --calibrate /nonexistent", "--calibrate: /nonexistent:"),
    ] {
        let error = planned(input).unwrap_err();
        assert!(error.contains(reason) && !error.contains('\n'), "{input}: {error}");
    }
    assert!(planned("--series five").unwrap_err().contains("is not a number such as"));
}

#[test]
fn every_answer_is_a_line_and_reaches_text_and_json() {
    let plan = planned("--series 1M").unwrap();
    let json: serde_json::Value = serde_json::from_str(&plan.to_json()).unwrap();
    for name in ANSWER {
        assert!(json["answer"][name].as_f64().is_some_and(|value| value > 0.0), "{name}");
    }
    let text = plan.to_text();
    assert!(text.contains("= 1 M series x (1 + 30 % growth)"), "{text}");
    assert!(text.contains("- Nothing was measured on your machine"));
}

#[test]
fn every_line_can_be_checked_by_hand() {
    for input in [
        "--clusters 12 --targets 400 --metrics 1500 --replication-factor 3",
        "--series 1",
        "--series 250M --interval 10s --churn 50% --retention-local 2d --deduplicated",
        "--series 33333 --interval 95s --growth 7% --churn 0.3% --replication-factor 1",
    ] {
        for line in planned(input).unwrap().lines {
            let by_hand = Calculator::of(&line.arithmetic).sum();
            // Shown figures have four digits; rounding up can turn a difference there into one node.
            let tolerance =
                0.005 * line.value.abs() + if line.arithmetic.contains("up(") { 1.0 } else { 1e-6 };
            assert!((by_hand - line.value).abs() <= tolerance, "{line:?}: {by_hand}");
        }
    }
}

/// Reads the arithmetic as a person would: numbers with their units, x, /, +, -, brackets, up() and max().
struct Calculator<'a> {
    rest: &'a str,
}

impl<'a> Calculator<'a> {
    fn of(rest: &'a str) -> Calculator<'a> {
        Calculator { rest }
    }

    fn takes(&mut self, token: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn sum(&mut self) -> f64 {
        let mut value = self.product();
        loop {
            if self.takes("+ ") {
                value += self.product();
            } else if self.takes("- ") {
                value -= self.product();
            } else {
                return value;
            }
        }
    }

    fn product(&mut self) -> f64 {
        let mut value = self.single();
        loop {
            if self.takes("x ") {
                value *= self.single();
            } else if self.takes("/ ") {
                value /= self.single();
            } else {
                return value;
            }
        }
    }

    fn single(&mut self) -> f64 {
        let is_max = self.takes("max(");
        let is_up = !is_max && self.takes("up(");
        if is_max || is_up || self.takes("(") {
            let mut value = self.sum();
            while is_max && self.takes(", ") {
                value = value.max(self.sum());
            }
            assert!(self.takes(")"), "{:?}", self.rest);
            return if is_up { (value - 1e-9).ceil() } else { value };
        }
        self.number()
    }

    fn number(&mut self) -> f64 {
        let text = self.rest.trim_start();
        // A label ends where the next operator or bracket begins; a comma within a number has no blank after it.
        let ends = [" x ", " / ", " + ", " - ", ")", ", "];
        let end = ends.iter().filter_map(|end| text.find(end)).min().unwrap_or(text.len());
        let (term, rest) = text.split_at(end);
        self.rest = rest;
        let mut words = term.split(' ');
        let value: f64 =
            words.next().unwrap().replace(',', "").parse().unwrap_or_else(|_| panic!("{term:?}"));
        let unit = words.next().unwrap_or("");
        value
            * match unit {
                "k" => 1e3,
                "M" => 1e6,
                "G" => 1e9,
                "T" => 1e12,
                "%" => 0.01,
                "KiB" => 2f64.powi(10),
                "MiB" => 2f64.powi(20),
                "GiB" => 2f64.powi(30),
                "TiB" => 2f64.powi(40),
                "PiB" => 2f64.powi(50),
                "kbit/s" => 125.0,
                "Mbit/s" => 125e3,
                "Gbit/s" => 125e6,
                "bit/s" => 0.125,
                _ => 1.0,
            }
    }
}
