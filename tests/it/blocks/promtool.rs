//! Prometheus' own tool reads from the blocks what was sent, bit for bit.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::folder::{Block, copy_of};
use super::workload::{Sent, Workload};
use super::{assert_in_order, local_blocks, start_server, wait_for_blocks};
use crate::support::leave_out;
use crate::support::query::Labels;

/// The tool, as Debian's package has it.
const PROMTOOL: &str = "promtool";

/// Samples by series, in order of time.
pub type Dump = BTreeMap<Labels, Vec<(i64, f64)>>;

/// Whether the tool is there; says so if it is not.
pub fn is_there(test: &str) -> bool {
    let is_there = Command::new(PROMTOOL).arg("--version").output().is_ok();
    if !is_there {
        leave_out(test, "promtool is not installed");
    }
    is_there
}

fn output(arguments: &[&str], database: &Path) -> String {
    let output = Command::new(PROMTOOL).args(arguments).arg(database).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// What `promtool tsdb dump` reads from a database. It writes every NaN alike, those that mark an end too.
pub fn dump(database: &Path) -> Dump {
    let mut dump = Dump::new();
    for line in output(&["tsdb", "dump"], database).lines() {
        let (labels, sample) = line.split_at(line.rfind('}').unwrap() + 1);
        let (value, time_ms) = sample.trim().split_once(' ').unwrap();
        let sample = (time_ms.parse().unwrap(), value.parse().unwrap());
        dump.entry(labels_of(labels)).or_default().push(sample);
    }
    dump
}

/// `{name="value", other="value"}`, for values that hold no quotes.
fn labels_of(text: &str) -> Labels {
    let pairs = text.trim_start_matches('{').trim_end_matches('}').split(", ");
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect()
}

/// Sent and dumped alike, so that all bits are compared, but for those of a NaN.
fn bits(time_ms: i64, value: f64) -> (i64, u64) {
    (time_ms, if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() })
}

fn assert_is_dumped(workload: &Workload, blocks: &[Block]) {
    let copy = copy_of(blocks);
    let dump = dump(copy.path());
    let below_ms = blocks.last().unwrap().max_ms;
    let is_below = |sample: &&Sent| sample.time_ms < below_ms;
    let with_samples =
        workload.content.iter().filter(|(_, samples)| samples.iter().any(|one| is_below(&one)));
    let mut series_count = 0;
    let mut stale_count = 0;
    for (labels, samples) in with_samples {
        let expected: Vec<_> =
            samples.iter().filter(is_below).map(|sample| bits(sample.time_ms, sample.value)).collect();
        let found = dump.get(labels).into_iter().flatten();
        let found: Vec<_> = found.map(|&(time_ms, value)| bits(time_ms, value)).collect();
        assert!(found == expected, "{labels:?}: {found:?} instead of {expected:?}");
        series_count += 1;
        stale_count += samples.iter().filter(is_below).filter(|sample| sample.is_stale()).count();
    }
    assert_eq!(dump.len(), series_count, "series that were never sent");
    assert!(stale_count > 10, "only {stale_count} markers of an end are in the blocks");
    let analysis = output(&["tsdb", "analyze"], copy.path());
    let newest = &blocks.last().unwrap();
    let series = format!("Series: {}", newest.meta["stats"]["numSeries"]);
    assert!(analysis.contains(&newest.ulid) && analysis.contains(&series), "{series}: {analysis}");
}

#[test]
fn promtool_reads_from_the_blocks_what_was_sent_bit_for_bit() {
    if !is_there("promtool_reads_from_the_blocks_what_was_sent_bit_for_bit") {
        return;
    }
    let server = start_server(&[]);
    let workloads = ["team-a", "team-b"].map(|tenant| Workload::new(tenant, 20, 200));
    for workload in &workloads {
        workload.send(server.addresses.write, 0..workload.step_count());
    }
    for workload in &workloads {
        wait_for_blocks(&server, workload.tenant, workload.settled_ms(workload.step_count()));
        let blocks = local_blocks(&server, workload.tenant);
        assert_in_order(&blocks);
        assert_is_dumped(workload, &blocks);
    }
    // The rest is cut once the tenants are idle.
    for workload in &workloads {
        let blocks = wait_for_blocks(&server, workload.tenant, workload.end_ms());
        assert_is_dumped(workload, &blocks);
    }
}
