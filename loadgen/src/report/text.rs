//! The report in a terminal: warnings first, then the headline, then every figure.

use crate::quantity::{NONE, bytes, count, exact, number, ratio, seconds, utc};
use crate::report::comparison::{Better, Compared, FIGURES, Figure};
use crate::report::document::{Kind, Report};
use crate::report::figures::{Severity, headline, latency_of, printable, sections, warnings};
use crate::report::table::{Table, name_value_lines};
use crate::result::RunResult;

/// The whole report.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    match report.kind {
        Kind::Run => {
            for run in &report.runs {
                text.push_str(&run_text(report, run));
            }
        }
        Kind::Ramp => text.push_str(&ramp_text(report)),
        Kind::Compare => text.push_str(&compare_text(report)),
    }
    text
}

fn run_text(report: &Report, run: &RunResult) -> String {
    let mut text = format!("{}, {}\n", printable(&run.receiver), printable(&run.url));
    text.push_str(&format!("{}, on {}\n", utc(report.begin_ms), printable(&run.machine)));
    text.push_str(&warning_lines(run));
    text.push('\n');
    if report.shows_headline(run) {
        let tiles = headline(run);
        let rows: Vec<(&str, String)> = tiles
            .iter()
            .map(|tile| {
                (tile.label, format!("{} {} ({})", tile.value, tile.unit, tile.note).replace("  ", " "))
            })
            .collect();
        text.push_str(&name_value_lines(rows.iter().map(|(name, value)| (*name, value.as_str())), 2));
    } else {
        text.push_str("  No headline figures: the generator was the bottleneck.\n");
    }
    for section in sections(run) {
        text.push_str(&format!("\n{}\n", section.title));
        text.push_str(&name_value_lines(
            section.rows.iter().map(|(name, value)| (name.as_str(), value.as_str())),
            2,
        ));
    }
    text
}

fn ramp_text(report: &Report) -> String {
    let mut text = String::new();
    let steps = steps_table(report);
    text.push_str(&steps.to_text(2));
    if let Some(reason) = &report.ended_by {
        text.push_str(&format!("\nEnded: {}\n", printable(reason)));
    }
    match report.main_run() {
        Some(run) => {
            text.push_str(&format!(
                "\nHighest sustained rate: {} samples/s. In this step:\n\n",
                count(run.achieved_rate)
            ));
            text.push_str(&run_text(report, run));
        }
        None => text.push_str("\nNo step stayed within the limits.\n"),
    }
    text
}

/// The steps of a ramp, one a line.
pub fn steps_table(report: &Report) -> Table {
    let mut table = Table::new([
        "step",
        "offered/s",
        "acknowledged/s",
        "p50",
        "p95",
        "p99",
        "CPU s/M",
        "CPU cores",
        "RSS",
        "retries",
        "failed",
        "verdict",
    ]);
    for (index, run) in report.runs.iter().enumerate() {
        let cost = run.cost.as_ref();
        let of_cost =
            |show: &dyn Fn(&crate::result::ReceiverCost) -> String| cost.map_or(NONE.to_owned(), show);
        table.push([
            (index + 1).to_string(),
            count(run.offered_rate),
            count(run.achieved_rate),
            latency_of(run, run.p50_ms),
            latency_of(run, run.p95_ms),
            latency_of(run, run.p99_ms),
            of_cost(&|cost| number(cost.cpu_s_per_million_samples)),
            of_cost(&|cost| {
                if run.duration_s > 0.0 { number(cost.cpu_s / run.duration_s) } else { NONE.to_owned() }
            }),
            of_cost(&|cost| bytes(cost.rss_bytes as f64)),
            count(run.retries as f64),
            count((run.refused_samples + run.unknown_samples) as f64),
            verdict(report, index, run).to_owned(),
        ]);
    }
    table
}

fn verdict(report: &Report, index: usize, run: &RunResult) -> &'static str {
    match report.highest_sustained {
        _ if !report.shows_headline(run) => "generator too slow",
        _ if run.interrupted => "interrupted",
        Some(best) if best == index => "highest sustained",
        Some(best) if report.runs.get(best).is_some_and(|best| run.offered_rate < best.offered_rate) => {
            "sustained"
        }
        _ => "over a limit",
    }
}

fn compare_text(report: &Report) -> String {
    let mut text = String::new();
    if let Some(run) = report.runs.first() {
        text.push_str(&format!(
            "{}, {} series, {}, {} per round\n{}, on {}\n",
            printable(&run.profile),
            count(run.series as f64),
            if run.is_closed_loop {
                "each connection busy at all times".to_owned()
            } else {
                format!("{} samples/s offered", count(run.offered_rate))
            },
            seconds(run.duration_s),
            utc(report.begin_ms),
            printable(&run.machine),
        ));
    }
    for run in &report.runs {
        for line in warning_lines(run).lines() {
            text.push_str(&format!("{line} [{}]\n", printable(&run.receiver)));
        }
    }
    text.push_str("\nMedians\n");
    text.push_str(&medians_table(report).to_text(2));
    if report.comparison.len() > 1 {
        text.push_str(&format!("\nTimes as much as {}\n", printable(&report.comparison[0].receiver)));
        let ratios = ratios_table(report).to_text(2);
        text.push_str(&ratios);
        if ratios.contains('~') {
            text.push_str("  ~ the rounds of the two overlap: this difference may be noise\n");
        }
    }
    text.push_str(&read_back_lines(report));
    text
}

/// What reading back found after each round; nothing if nobody did.
fn read_back_lines(report: &Report) -> String {
    let mut text = String::new();
    for run in &report.runs {
        let Some(found) = &run.verification else { continue };
        if text.is_empty() {
            text.push_str("\nRead back\n");
        }
        let differences = found.lost + found.altered + found.duplicated + found.unexpected;
        text.push_str(&format!(
            "  {}: {} samples of {} series, {} differences\n",
            printable(&run.receiver),
            exact(found.samples_checked),
            exact(found.series_checked),
            exact(differences)
        ));
    }
    text
}

/// The median of every figure, a receiver a line.
pub fn medians_table(report: &Report) -> Table {
    let figures = measured_figures(report);
    let titles = figures.iter().map(|figure| figure.title);
    let mut table = Table::new(["receiver", "rounds"].into_iter().chain(titles));
    for compared in &report.comparison {
        let cells = figures.iter().map(|figure| {
            compared.figures.get(figure.key).map_or(NONE.to_owned(), |summary| (figure.show)(summary.median))
        });
        table.push([printable(&compared.receiver), compared.rounds.to_string()].into_iter().chain(cells));
    }
    table
}

/// The ratio of every figure to the first receiver's, a receiver a line.
pub fn ratios_table(report: &Report) -> Table {
    let figures = measured_figures(report);
    let titles = figures.iter().map(|figure| figure.title);
    let mut table = Table::new(["receiver"].into_iter().chain(titles));
    let Some((base, others)) = report.comparison.split_first() else { return table };
    for compared in others {
        let cells = figures.iter().map(|figure| ratio_cell(base, compared, figure));
        table.push([printable(&compared.receiver)].into_iter().chain(cells));
    }
    table
}

fn ratio_cell(base: &Compared, compared: &Compared, figure: &Figure) -> String {
    let Some(summary) = compared.figures.get(figure.key) else { return NONE.to_owned() };
    let Some(value) = summary.ratio else { return NONE.to_owned() };
    let overlaps = base.figures.get(figure.key).is_some_and(|base| base.overlaps(summary));
    // With a single round there is no spread to judge by.
    let doubt = if overlaps && compared.rounds > 1 { "~" } else { "" };
    format!("{doubt}{}", ratio(value))
}

/// The figures that at least one receiver has.
pub fn measured_figures(report: &Report) -> Vec<&'static Figure> {
    let is_measured =
        |figure: &&Figure| report.comparison.iter().any(|compared| compared.figures.contains_key(figure.key));
    FIGURES.iter().filter(is_measured).collect()
}

/// "less is better": what a reader has to know about a bar.
pub fn direction(figure: &Figure) -> &'static str {
    match figure.better {
        Better::Less => "less is better",
        Better::More => "more is better",
    }
}

fn warning_lines(run: &RunResult) -> String {
    let mut text = String::new();
    for warning in warnings(run) {
        let mark = match warning.severity {
            Severity::Danger => "!!",
            Severity::Caution => "! ",
        };
        text.push_str(&format!("{mark} {}\n", printable(&warning.text)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Headroom, ReceiverCost, Verification};

    fn run(receiver: &str, rate: f64) -> RunResult {
        RunResult {
            receiver: receiver.to_owned(),
            url: "http://127.0.0.1:1/api/v1/receive".to_owned(),
            offered_rate: rate,
            achieved_rate: rate,
            duration_s: 10.0,
            series: 1000,
            p50_ms: 0.8,
            p99_ms: 4.0,
            cost: Some(ReceiverCost {
                cpu_s: 5.0,
                cpu_s_per_million_samples: 0.25,
                rss_bytes: 1 << 20,
                ..ReceiverCost::default()
            }),
            ..RunResult::default()
        }
    }

    #[test]
    fn a_run_begins_with_what_was_measured_and_shows_its_headline() {
        let text = Report::run(String::new(), 0, run("annulus", 50_000.0)).to_text();
        assert!(text.starts_with("annulus, http://127.0.0.1:1/api/v1/receive\n1970-01-01 00:00:00 UTC, on"));
        assert!(text.contains("Acknowledged     50 k samples/s (of 50 k offered)"), "{text}");
        assert!(text.contains("CPU per million samples  0.25 s"), "{text}");
    }

    #[test]
    fn a_run_whose_generator_was_the_limit_has_no_headline() {
        let mut slow = run("annulus", 50_000.0);
        slow.headroom = Headroom { bottleneck: Some("its CPUs are busy".to_owned()), ..Headroom::default() };
        let mut report = Report::run(String::new(), 0, slow);
        assert!(report.to_text().contains("No headline figures"));
        report.bottleneck_allowed = true;
        assert!(report.to_text().contains("Acknowledged"));
        assert!(report.to_text().contains("!! The generator was the bottleneck"));
    }

    #[test]
    fn a_ramp_marks_its_winner_and_what_ended_it() {
        let steps = vec![run("a", 1000.0), run("a", 2000.0), run("a", 4000.0)];
        let text = Report::ramp(String::new(), 0, steps, Some(1), Some("p95 2.3 s is over 2 s".to_owned()))
            .to_text();
        let verdicts: Vec<&str> =
            text.lines().skip(1).take(3).map(|line| line.rsplit("  ").next().unwrap()).collect();
        assert_eq!(
            verdicts.iter().map(|verdict| verdict.trim()).collect::<Vec<_>>(),
            ["sustained", "highest sustained", "over a limit"]
        );
        assert!(text.contains("Ended: p95 2.3 s is over 2 s"));
        assert!(text.contains("Highest sustained rate: 2,000 samples/s"));
    }

    #[test]
    fn a_comparison_shows_medians_and_ratios() {
        let mut other = run("prometheus", 50_000.0);
        other.cost = other.cost.map(|cost| ReceiverCost { cpu_s_per_million_samples: 5.0, ..cost });
        let found = Verification { samples_checked: 1500, series_checked: 30, ..Verification::default() };
        other.verification = Some(found);
        let text = Report::compare(String::new(), 0, vec![run("annulus", 50_000.0), other]).to_text();
        assert!(text.contains("  prometheus: 1,500 samples of 30 series, 0 differences\n"), "{text}");
        assert!(text.contains("Times as much as annulus"));
        assert!(text.contains("20.0×"), "{text}");
    }

    #[test]
    fn rounds_in_which_the_generator_was_the_limit_count_only_if_that_is_allowed() {
        let mut slow = run("annulus", 50_000.0);
        slow.headroom = Headroom { bottleneck: Some("its CPUs are busy".to_owned()), ..Headroom::default() };
        let mut report = Report::compare(String::new(), 0, vec![slow]);
        assert_eq!(report.comparison[0].rounds, 0);
        report.allow_bottleneck();
        assert_eq!(report.comparison[0].rounds, 1);
        assert!(report.to_text().contains("!! The generator was the bottleneck"));
    }

    #[test]
    fn reports_without_runs_are_texts_all_the_same() {
        for kind in [Kind::Run, Kind::Ramp, Kind::Compare] {
            let report = Report { kind, ..Report::compare(String::new(), 0, Vec::new()) };
            let _ = report.to_text();
        }
    }
}
