//! Queries that are wrong on purpose: while they are parsed, while their types are checked, and while they run.

use super::metrics::METRICS;
use super::pick::Pick;

/// `$` is a metric.
const WRONG: [&str; 63] = [
    "nosuch($)",
    "sum($",
    "sum(1)",
    "sum($[5m])",
    "rate($)",
    "rate($[5m]",
    "rate($[])",
    "rate($[5x])",
    "rate($[-5m])",
    "rate($[5m][5m])",
    "rate($[5m] + 1)",
    "$[5m] + 1",
    "$ offset",
    "($) offset 5m",
    "$ offset 5m offset 5m",
    "$ @ 10 @ 20",
    "$ @ foo",
    "sum($) @ 10",
    "$[5m:1m][5m]",
    "$[5m:0s]",
    "1[5m]",
    "$[5m] offset 1m[5m:1m]",
    "$ + \"text\"",
    "$ and 1",
    "1 or $",
    "1 == 1",
    "$ + bool $",
    "$ and bool $",
    "$ and on (job) group_left $",
    "$ + group_left $",
    "$ + on (job) group_left (job) $",
    "$ + on (job $",
    "$ +",
    "* $",
    "$ $",
    "{}",
    "{job=~\".*\"}",
    "{job!=\"a\", job=\"\"}",
    "$$",
    "$ == == $",
    "$ =~ 1",
    "${job=~\"(\"}",
    "${job!~\"a**\"}",
    "${job=~\"[z-a]\"}",
    "${job=\"a\"",
    "${job=a}",
    "${=\"a\"}",
    "${__name__=\"other\"}",
    "topk($)",
    "topk(\"1\", $)",
    "topk(NaN, $)",
    "count_values(1, $)",
    "quantile(\"0.5\", $)",
    "sum by job ($)",
    "sum by (job) without (job) ($)",
    "histogram_quantile($)",
    "label_replace($, \"x\", \"$1\", \"job\")",
    "label_replace($, \"x\", \"1\", \"job\", \"(\")",
    "label_replace($, 1, \"1\", \"job\", \"x\")",
    "holt_winters($[5m], 2, 0.5)",
    "holt_winters($[5m], 0.5, 0)",
    "clamp($, 1)",
    "scalar(1)",
];

/// What is wrong only because of the series that there are.
const WRONG_SERIES: [&str; 12] = [
    "temperature + on (floor) balance",
    "temperature + ignoring (room) balance",
    "requests_total / on (job) errors_total",
    "requests_total / on (job, instance) errors_total",
    "errors_total / on (job) group_left requests_total",
    "rate({__name__=~\"temperature|balance\"}[5m])",
    "-{__name__=~\"temperature|balance\"}",
    "{__name__=~\"temperature|balance|temperature_limit\"} * 2",
    "abs({__name__=~\"temperature|balance\"})",
    "max_over_time({__name__=~\"latency_seconds_.+\"}[1m])",
    "label_replace(temperature, \"floor\", \"3\", \"room\", \".*\")",
    "requests_total * on (job) group_left (code) job_info",
];

/// One of them.
pub fn wrong(pick: &mut Pick) -> String {
    if pick.chance(25) {
        return pick.one(&WRONG_SERIES).to_owned();
    }
    let metric = pick.one(METRICS).name;
    // A replacement of a regular expression has a `$` of its own.
    pick.one(&WRONG).replace("\"$1\"", "\"\u{0}\"").replace('$', metric).replace('\u{0}', "$1")
}
