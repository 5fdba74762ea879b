//! The charts of one run: its seconds, and its percentiles.

use crate::quantity::{bytes, count, milliseconds, number};
use crate::report::html::axis::Scale;
use crate::report::html::chart::{Chart, Line, Show};
use crate::result::{RunResult, Second};

/// Points per line at most: more cannot be told apart, and make the file large.
const POINTS_MAX: usize = 600;

/// The charts that this run has figures for.
pub fn charts(run: &RunResult) -> Vec<Chart> {
    let seconds = thinned(&run.seconds);
    let mut charts = Vec::new();
    if !seconds.is_empty() {
        charts.push(rate(&seconds));
        charts.push(latency_over_time(&seconds));
    }
    charts.extend(percentiles(&[(run.receiver.as_str(), run)]));
    if seconds.is_empty() {
        return charts;
    }
    if seconds.iter().any(|second| second.retries + second.refused_requests > 0) {
        charts.push(failures(&seconds));
    }
    charts.push(cpu(&seconds));
    if seconds.iter().any(|second| second.shards.is_some()) {
        charts.push(shards(&seconds));
    }
    if seconds.iter().any(|second| second.receiver_rss_bytes.is_some()) {
        charts.push(memory(&seconds));
    }
    charts
}

/// Latency by percentile of several runs.
pub fn percentiles(runs: &[(&str, &RunResult)]) -> Option<Chart> {
    let lines: Vec<Line> = runs
        .iter()
        .enumerate()
        .filter(|(_, (_, run))| run.latency.len() > 1)
        .map(|(index, (name, run))| {
            // The maximum has no place on an axis that never reaches 100.
            let below_all = run.latency.iter().filter(|point| point.percentile < 100.0);
            let points = below_all.map(|point| (point.percentile, point.latency_ms)).collect();
            Line::new(*name, receiver_colour(index), points)
        })
        .collect();
    let all = || lines.iter().flat_map(|line| &line.points);
    let highest = all()
        .map(|(percentile, _)| *percentile)
        .filter(|percentile| *percentile < 100.0)
        .fold(90.0, f64::max);
    let nines = (-(1.0 - highest / 100.0).log10()).ceil().clamp(2.0, 6.0);
    let y = Scale::log(all().map(|(_, latency_ms)| *latency_ms));
    let chart = Chart {
        title: "Latency by percentile".to_owned(),
        unit: "from the due time, log scale",
        x_title: "percentile",
        x: Scale::Percentile { nines },
        y,
        show_x: percentile_label,
        show_y: milliseconds,
        dots: false,
        lines,
    };
    (!chart.lines.is_empty()).then_some(chart)
}

/// The colour of a receiver among others: red, which means trouble elsewhere, comes last.
pub fn receiver_colour(index: usize) -> usize {
    [1, 2, 4, 5, 6, 3][index % 6]
}

fn rate(seconds: &[Second]) -> Chart {
    let offered =
        Line { dashed: true, ..line("offered", 2, seconds, |second| Some(second.offered_samples as f64)) };
    let acknowledged = Line {
        filled: true,
        ..line("acknowledged", 1, seconds, |second| Some(second.acknowledged_samples as f64))
    };
    over_time("Rate", "samples/s", seconds, count, vec![offered, acknowledged])
}

fn latency_over_time(seconds: &[Second]) -> Chart {
    let lines = vec![
        line("p50", 1, seconds, |second| second.p50_ms),
        line("p99", 2, seconds, |second| second.p99_ms),
        line("max", 3, seconds, |second| second.max_ms),
    ];
    let y = Scale::log(lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y));
    Chart { y, ..over_time("Latency", "from the due time, log scale", seconds, milliseconds, lines) }
}

fn failures(seconds: &[Second]) -> Chart {
    let lines = vec![
        line("attempts repeated", 2, seconds, |second| Some(second.retries as f64)),
        line("requests refused", 3, seconds, |second| Some(second.refused_requests as f64)),
    ];
    over_time("Retries and refusals", "per second", seconds, count, lines)
}

fn cpu(seconds: &[Second]) -> Chart {
    let mut lines = Vec::new();
    if seconds.iter().any(|second| second.receiver_cpu_s.is_some()) {
        lines.push(Line { filled: true, ..line("receiver", 1, seconds, |second| second.receiver_cpu_s) });
    }
    lines.push(line("generator", 4, seconds, |second| Some(second.generator_cpu_s)));
    over_time("CPU", "cores", seconds, number, lines)
}

fn shards(seconds: &[Second]) -> Chart {
    let counts = line("shards", 5, seconds, |second| second.shards.map(|count| count as f64));
    over_time("Prometheus' shards", "", seconds, count, vec![counts])
}

fn memory(seconds: &[Second]) -> Chart {
    let resident = line("receiver", 1, seconds, |second| second.receiver_rss_bytes.map(|bytes| bytes as f64));
    let mut chart = over_time("Resident memory", "", seconds, bytes, vec![Line { filled: true, ..resident }]);
    chart.y = Scale::bytes(chart.lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y));
    chart
}

fn line(name: &str, colour: usize, seconds: &[Second], value: impl Fn(&Second) -> Option<f64>) -> Line {
    let points = seconds.iter().map(|second| (second.at_s, value(second).unwrap_or(f64::NAN))).collect();
    Line::new(name, colour, points)
}

fn over_time(title: &str, unit: &'static str, seconds: &[Second], show_y: Show, lines: Vec<Line>) -> Chart {
    let y = Scale::from_zero(lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y));
    let x = Scale::clock(seconds.iter().map(|second| second.at_s));
    Chart {
        title: title.to_owned(),
        unit,
        x_title: "time since the start",
        x,
        y,
        show_x: clock,
        show_y,
        dots: false,
        lines,
    }
}

/// "90 %", "99.9 %": as many digits as the percentile has.
fn percentile_label(percentile: f64) -> String {
    let text = format!("{percentile:.6}");
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// "45 s", "2:30", "1:02:30".
fn clock(at_s: f64) -> String {
    let whole = at_s.max(0.0).round() as u64;
    match whole {
        0..60 => format!("{} s", number(at_s)),
        60..3600 => format!("{}:{:02}", whole / 60, whole % 60),
        _ => format!("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60),
    }
}

/// Joins neighbours until there are few enough: rates are averaged, while of latencies and memory the worst is kept,
/// because an average would hide exactly what a reader looks for.
fn thinned(seconds: &[Second]) -> Vec<Second> {
    let size = seconds.len().div_ceil(POINTS_MAX).max(1);
    seconds.chunks(size).map(joined).collect()
}

fn joined(group: &[Second]) -> Second {
    let length = group.len().max(1) as u64;
    let sum = |of: fn(&Second) -> u64| group.iter().map(of).fold(0, u64::saturating_add);
    let worst = |of: fn(&Second) -> Option<f64>| group.iter().filter_map(of).reduce(f64::max);
    let cpu: Vec<f64> = group.iter().filter_map(|second| second.receiver_cpu_s).collect();
    Second {
        at_s: group.first().map_or(0.0, |second| second.at_s),
        offered_samples: sum(|second| second.offered_samples) / length,
        acknowledged_samples: sum(|second| second.acknowledged_samples) / length,
        // Rounded up: one retry in a minute must not vanish.
        retries: sum(|second| second.retries).div_ceil(length),
        refused_requests: sum(|second| second.refused_requests).div_ceil(length),
        p50_ms: worst(|second| second.p50_ms),
        p99_ms: worst(|second| second.p99_ms),
        max_ms: worst(|second| second.max_ms),
        receiver_cpu_s: (!cpu.is_empty()).then(|| cpu.iter().sum::<f64>() / cpu.len() as f64),
        receiver_rss_bytes: group.iter().filter_map(|second| second.receiver_rss_bytes).max(),
        generator_cpu_s: group.iter().map(|second| second.generator_cpu_s).sum::<f64>() / length as f64,
        shards: group.iter().filter_map(|second| second.shards).max(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Percentile;

    fn seconds(length: usize) -> Vec<Second> {
        (0..length).map(|at| Second { at_s: at as f64, offered_samples: 100, ..Second::default() }).collect()
    }

    #[test]
    fn a_day_becomes_few_points_and_keeps_its_worst_second() {
        let mut day = seconds(86_400);
        day[50_000].max_ms = Some(900.0);
        day[50_001].retries = 1;
        let thin = thinned(&day);
        assert!(thin.len() <= POINTS_MAX);
        assert_eq!(thin.iter().filter_map(|second| second.max_ms).reduce(f64::max), Some(900.0));
        assert_eq!(thin.iter().map(|second| second.retries).sum::<u64>(), 1);
        assert!(thin.iter().all(|second| second.offered_samples == 100));
    }

    #[test]
    fn a_short_run_is_not_thinned() {
        assert_eq!(thinned(&seconds(60)), seconds(60));
    }

    #[test]
    fn only_charts_with_figures_are_made() {
        assert!(charts(&RunResult::default()).is_empty());
        let run = RunResult { seconds: seconds(3), ..RunResult::default() };
        let titles: Vec<String> = charts(&run).into_iter().map(|chart| chart.title).collect();
        assert_eq!(titles, ["Rate", "Latency", "CPU"]);
        let second = Second { shards: Some(3), ..Second::default() };
        let run = RunResult { seconds: vec![second], ..RunResult::default() };
        assert!(charts(&run).iter().any(|chart| chart.title == "Prometheus' shards"));
    }

    #[test]
    fn the_percentile_axis_reaches_as_far_as_the_figures() {
        let point = |percentile| Percentile { percentile, latency_ms: 1.0 };
        let run =
            RunResult { latency: vec![point(50.0), point(99.95), point(100.0)], ..RunResult::default() };
        let chart = percentiles(&[("a", &run)]).unwrap();
        assert_eq!(chart.x, Scale::Percentile { nines: 4.0 });
    }

    #[test]
    fn times_read_like_a_clock() {
        assert_eq!(
            [clock(0.0), clock(45.0), clock(150.0), clock(3750.0)],
            ["0 s", "45 s", "2:30", "1:02:30"]
        );
        assert_eq!([percentile_label(0.0), percentile_label(99.99)], ["0 %", "99.99 %"]);
    }
}
