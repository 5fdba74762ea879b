//! The report as one HTML page that needs no other file, no network, and no script to be read.

pub mod axis;
pub mod chart;
pub mod markup;
mod run_charts;

use crate::quantity::{count, milliseconds, number, seconds, utc};
use crate::report::document::{Kind, Report};
use crate::report::figures::{Severity, headline, sections, warnings};
use crate::report::html::axis::Scale;
use crate::report::html::chart::{Bar, Chart, Line, bars};
use crate::report::html::markup::Html;
use crate::report::table::Table;
use crate::report::text::{direction, measured_figures, medians_table, ratios_table, steps_table};
use crate::result::RunResult;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("hover.js");

/// Forbids every request, so that the file can be opened without trust in what a receiver answered.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// The whole page.
pub fn render(report: &Report) -> String {
    let mut html = Html::new();
    html.markup("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    html.markup("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    html.format(format_args!("<meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">"));
    html.markup("<meta name=\"color-scheme\" content=\"light dark\"><title>")
        .text(&title(report))
        .markup("</title>");
    html.markup("<style>").markup(STYLE).markup("</style></head><body><main>");
    header(&mut html, report);
    match report.kind {
        Kind::Run => report.runs.iter().for_each(|run| run_parts(&mut html, report, run)),
        Kind::Ramp => ramp_parts(&mut html, report),
        Kind::Compare => compare_parts(&mut html, report),
    }
    footer(&mut html, report);
    html.markup("</main><script>").markup(SCRIPT).markup("</script></body></html>\n");
    html.finish()
}

fn title(report: &Report) -> String {
    let mut names: Vec<&str> = Vec::new();
    for run in &report.runs {
        if !names.contains(&run.receiver.as_str()) {
            names.push(&run.receiver);
        }
    }
    match report.kind {
        Kind::Run => format!("Load test of {}", names.join(", ")),
        Kind::Ramp => format!("Highest sustained rate of {}", names.join(", ")),
        Kind::Compare => format!("Comparison of {}", names.join(", ")),
    }
}

fn header(html: &mut Html, report: &Report) {
    html.markup("<header>");
    html.element("h1", "title", &title(report)).markup("<dl class=\"facts\">");
    let mut fact = |name: &str, value: &str| {
        html.markup("<div><dt>").text(name).markup("</dt><dd>").text(value).markup("</dd></div>");
    };
    fact("when", &utc(report.begin_ms));
    if let Some(run) = report.runs.first() {
        if report.kind != Kind::Compare {
            fact("where", &run.url);
        }
        fact("machine", &run.machine);
        fact("stream", &format!("{}, {} series, seed {}", run.profile, count(run.series as f64), run.seed));
        let total: f64 = report.runs.iter().map(|run| run.duration_s).sum();
        match report.runs.len() {
            1 => fact("measured for", &seconds(total)),
            length => fact("measured for", &format!("{} in {length} runs", seconds(total))),
        }
    }
    html.markup("</dl>");
    if !report.command_line.is_empty() {
        html.element("pre", "command", &report.command_line);
    }
    html.markup("</header>");
}

fn footer(html: &mut Html, report: &Report) {
    html.markup("<footer>");
    html.text(&format!(
        "annulus-loadgen {}. Latency counts from the moment a request was due, not from the moment it was sent, so a receiver that stalls is charged for every request that had to wait.",
        report.generator
    ));
    html.markup("</footer>");
}

fn run_parts(html: &mut Html, report: &Report, run: &RunResult) {
    banners(html, run);
    headline_tiles(html, report, run);
    run_details(html, run);
}

fn run_details(html: &mut Html, run: &RunResult) {
    html.markup("<div class=\"charts\">");
    for chart in run_charts::charts(run) {
        chart.render(html);
    }
    html.markup("</div><div class=\"tables\">");
    for section in sections(run) {
        html.markup("<section>").element("h3", "", section.title).markup("<table class=\"pairs\">");
        for (name, value) in &section.rows {
            html.markup("<tr><th scope=\"row\">")
                .text(name)
                .markup("</th><td>")
                .text(value)
                .markup("</td></tr>");
        }
        html.markup("</table></section>");
    }
    html.markup("</div>");
}

fn banners(html: &mut Html, run: &RunResult) {
    for warning in warnings(run) {
        let class = match warning.severity {
            Severity::Danger => "banner danger",
            Severity::Caution => "banner caution",
        };
        html.element("p", class, &warning.text);
    }
}

fn headline_tiles(html: &mut Html, report: &Report, run: &RunResult) {
    if !report.shows_headline(run) {
        html.element("p", "withheld", "No headline figures: the generator was the bottleneck.");
        return;
    }
    html.markup("<div class=\"tiles\">");
    for tile in headline(run) {
        html.markup("<div class=\"tile\">").element("span", "label", tile.label);
        html.markup("<span class=\"figure\">").text(&tile.value).markup(" <small>").text(tile.unit);
        html.markup("</small></span>").element("span", "note", &tile.note).markup("</div>");
    }
    html.markup("</div>");
}

fn ramp_parts(html: &mut Html, report: &Report) {
    match report.main_run() {
        Some(run) => {
            banners(html, run);
            headline_tiles(html, report, run);
        }
        None => {
            html.element("p", "banner caution", "No step stayed within the limits.");
        }
    }
    if let Some(reason) = &report.ended_by {
        html.element("p", "banner info", &format!("The ramp ended: {reason}"));
    }
    html.markup("<div class=\"charts\">");
    ramp_latency(report).render(html);
    if let Some(chart) = ramp_cost(report) {
        chart.render(html);
    }
    html.markup("</div>").element("h2", "", "Steps");
    table(html, &steps_table(report));
    html.element("h2", "", "Details of each step");
    for (index, run) in report.runs.iter().enumerate() {
        let best = report.highest_sustained == Some(index);
        let mark = if best { ", the highest sustained" } else { "" };
        let title = format!("Step {}: {} samples/s offered{mark}", index + 1, count(run.offered_rate));
        folded(html, &title, best, |html| {
            banners(html, run);
            run_details(html, run);
        });
    }
}

fn ramp_latency(report: &Report) -> Chart {
    let line = |name: &str, colour, value: fn(&RunResult) -> f64| {
        Line::new(name, colour, ramp_points(report, |run| Some(value(run))))
    };
    let lines = vec![
        line("p99", 2, |run| run.p99_ms),
        line("p95", 4, |run| run.p95_ms),
        line("p50", 1, |run| run.p50_ms),
    ];
    Chart {
        title: "Latency by rate".to_owned(),
        unit: "from the due time, log scale",
        x_title: "acknowledged samples/s",
        x: Scale::from_zero(report.runs.iter().map(|run| run.achieved_rate)),
        y: Scale::log(lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y)),
        show_x: count,
        show_y: milliseconds,
        dots: true,
        lines,
    }
}

fn ramp_cost(report: &Report) -> Option<Chart> {
    let points = ramp_points(report, |run| Some(run.cost.as_ref()?.cpu_s_per_million_samples));
    let y = Scale::from_zero(points.iter().map(|(_, y)| *y));
    let has_cost = report.runs.iter().any(|run| run.cost.is_some());
    has_cost.then(|| Chart {
        title: "CPU per million samples by rate".to_owned(),
        unit: "seconds",
        x_title: "acknowledged samples/s",
        x: Scale::from_zero(report.runs.iter().map(|run| run.achieved_rate)),
        y,
        show_x: count,
        show_y: number,
        dots: true,
        lines: vec![Line::new("receiver", 1, points)],
    })
}

/// One point per step, in order of the rate offered: a search goes back and forth.
fn ramp_points(report: &Report, value: impl Fn(&RunResult) -> Option<f64>) -> Vec<(f64, f64)> {
    let mut steps: Vec<&RunResult> = report.runs.iter().filter(|run| report.shows_headline(run)).collect();
    steps.sort_by(|a, b| a.offered_rate.total_cmp(&b.offered_rate));
    steps.into_iter().map(|run| (run.achieved_rate, value(run).unwrap_or(f64::NAN))).collect()
}

fn compare_parts(html: &mut Html, report: &Report) {
    for compared in report.comparison.iter().filter(|compared| compared.rounds == 0) {
        let text = format!("{} has no round that can be trusted: see its warnings below.", compared.receiver);
        html.element("p", "banner danger", &text);
    }
    if report.comparison.len() > 1 {
        html.element("h2", "", &format!("Times as much as {}", report.comparison[0].receiver));
        table(html, &ratios_table(report));
        html.element("p", "aside", "~ The rounds of the two overlap: this difference may be noise.");
    }
    html.element("h2", "", "Medians");
    table(html, &medians_table(report));
    html.markup("<div class=\"charts narrow\">");
    for figure in measured_figures(report) {
        let of_figure: Vec<Bar> = report
            .comparison
            .iter()
            .enumerate()
            .map(|(index, compared)| {
                let median = compared.figures.get(figure.key).map_or(f64::NAN, |summary| summary.median);
                Bar {
                    name: compared.receiver.clone(),
                    value: median,
                    label: (figure.show)(median),
                    colour: run_charts::receiver_colour(index),
                }
            })
            .collect();
        bars(html, figure.title, direction(figure), &of_figure);
    }
    // The last round of each: every round has its own curve below.
    let last: Vec<(&str, &RunResult)> = report
        .comparison
        .iter()
        .filter_map(|compared| report.runs.iter().rfind(|run| run.receiver == compared.receiver))
        .map(|run| (run.receiver.as_str(), run))
        .collect();
    html.markup("</div><div class=\"charts\">");
    if let Some(mut chart) = run_charts::percentiles(&last) {
        chart.title = "Latency by percentile, last round".to_owned();
        chart.render(html);
    }
    html.markup("</div>").element("h2", "", "Details of each run");
    for (index, run) in report.runs.iter().enumerate() {
        let round = report.runs[..=index].iter().filter(|other| other.receiver == run.receiver).count();
        let doubt = if warnings(run).is_empty() { "" } else { ", with warnings" };
        folded(html, &format!("{}, round {round}{doubt}", run.receiver), false, |html| {
            banners(html, run);
            run_details(html, run);
        });
    }
}

fn table(html: &mut Html, table: &Table) {
    html.markup("<div class=\"scroll\"><table><thead><tr>");
    for title in table.heading() {
        html.markup("<th scope=\"col\">").text(title).markup("</th>");
    }
    html.markup("</tr></thead><tbody>");
    for line in table.lines() {
        let best = line.iter().any(|cell| cell == "highest sustained");
        html.markup(if best { "<tr class=\"best\">" } else { "<tr>" });
        for cell in line {
            html.markup("<td>").text(cell).markup("</td>");
        }
        html.markup("</tr>");
    }
    html.markup("</tbody></table></div>");
}

fn folded(html: &mut Html, title: &str, open: bool, content: impl FnOnce(&mut Html)) {
    html.markup(if open { "<details open><summary>" } else { "<details><summary>" })
        .text(title)
        .markup("</summary>");
    content(html);
    html.markup("</details>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Headroom, Percentile, ReceiverCost, Second, Verification};

    const ATTACK: &str = "</script><img src=x onerror=alert(1)>\"'&";

    /// A run in which every text is hostile and every part is present.
    fn hostile() -> RunResult {
        RunResult {
            receiver: ATTACK.to_owned(),
            url: ATTACK.to_owned(),
            machine: ATTACK.to_owned(),
            profile: ATTACK.to_owned(),
            errors: vec![(ATTACK.to_owned(), 3)],
            offered_rate: 100.0,
            achieved_rate: 100.0,
            latency: [50.0, 99.0].map(|percentile| Percentile { percentile, latency_ms: 2.0 }).to_vec(),
            headroom: Headroom { bottleneck: Some(ATTACK.to_owned()), ..Headroom::default() },
            cost: Some(ReceiverCost { source: ATTACK.to_owned(), ..ReceiverCost::default() }),
            seconds: vec![Second { retries: 1, receiver_rss_bytes: Some(5), ..Second::default() }],
            verification: Some(Verification {
                lost: 1,
                examples: vec![ATTACK.to_owned()],
                ..Verification::default()
            }),
            ..RunResult::default()
        }
    }

    fn reports() -> [Report; 3] {
        [
            Report::run(ATTACK.to_owned(), 0, hostile()),
            Report::ramp(ATTACK.to_owned(), 0, vec![hostile(), hostile()], Some(0), Some(ATTACK.to_owned())),
            Report::compare(ATTACK.to_owned(), 0, vec![hostile(), RunResult::default()]),
        ]
    }

    #[test]
    fn no_text_of_a_receiver_becomes_markup() {
        for report in reports() {
            let html = report.to_html();
            assert!(!html.contains("<img"), "{:?}", report.kind);
            assert_eq!(html.matches("</script>").count(), 1);
        }
    }

    #[test]
    fn the_page_names_no_other_file() {
        for html in reports().map(|report| report.to_html()) {
            // The attack is there as text, and names a file.
            let markup = html.replace("&lt;img src=x", "");
            for reference in ["src=", "href=", "url(", "@import", "http://", "https://"] {
                assert!(!markup.contains(reference), "{reference}");
            }
        }
    }

    #[test]
    fn a_generator_that_was_the_limit_gets_a_banner_instead_of_headlines() {
        let html = Report::run(String::new(), 0, hostile()).to_html();
        assert!(
            html.contains("banner danger")
                && html.contains("No headline figures")
                && !html.contains("class=\"tiles\"")
        );
    }

    #[test]
    fn every_element_that_is_opened_is_closed() {
        for html in reports().map(|report| report.to_html()) {
            for tag in [
                "div", "section", "table", "tr", "td", "th", "figure", "svg", "g", "details", "p", "span",
                "i", "button",
            ] {
                let opened =
                    html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
                assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag}");
            }
        }
    }

    #[test]
    fn reports_without_runs_are_pages_all_the_same() {
        for kind in [Kind::Run, Kind::Ramp, Kind::Compare] {
            let report = Report { kind, ..Report::compare(String::new(), 0, Vec::new()) };
            assert!(report.to_html().ends_with("</html>\n"));
        }
    }
}
