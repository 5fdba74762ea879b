//! What is said about one run: warnings, the headline, and every figure with its name. Text and HTML both show these.

use crate::quantity::{NONE, bytes, count, exact, milliseconds, number, percent, seconds};
use crate::report::comparison::{share, written_per_sample};
use crate::result::{RunResult, Verification};

/// How bad a warning is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Data is missing or wrong, or the figures mean nothing.
    Danger,
    /// The figures need a second look.
    Caution,
}

/// A sentence that has to be read before any figure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// How bad it is.
    pub severity: Severity,
    /// The sentence.
    pub text: String,
}

/// A figure of the headline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headline {
    /// What it is.
    pub label: &'static str,
    /// The figure.
    pub value: String,
    /// What follows it.
    pub unit: &'static str,
    /// What helps to judge it.
    pub note: String,
}

/// Figures of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its title.
    pub title: &'static str,
    /// Names and values.
    pub rows: Vec<(String, String)>,
}

/// The share of the offered rate below which a run did not keep up.
const KEPT_UP_SHARE: f64 = 0.98;

/// What a reader must know before any figure of this run.
pub fn warnings(run: &RunResult) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut add = |severity, text: String| warnings.push(Warning { severity, text });
    if let Some(reason) = &run.headroom.bottleneck {
        add(
            Severity::Danger,
            format!(
                "The generator was the bottleneck: {reason}. These figures describe the generator, not the receiver."
            ),
        );
    }
    if let Some(found) = &run.verification {
        for (number, what) in [
            (found.lost, "lost: acknowledged, but not there"),
            (found.altered, "altered: another value was read back than was sent"),
            (found.duplicated, "duplicated"),
            (found.unexpected, "unexpected: never sent"),
        ] {
            if number > 0 {
                add(Severity::Danger, format!("{} samples are {what}.", exact(number)));
            }
        }
    }
    if run.interrupted {
        add(
            Severity::Caution,
            format!(
                "The run was interrupted after {}; the figures cover that part.",
                seconds(run.duration_s)
            ),
        );
    }
    if run.refused_samples > 0 {
        add(
            Severity::Caution,
            format!(
                "The receiver refused requests with {} samples for good; it may have stored some of them.",
                exact(run.refused_samples)
            ),
        );
    }
    if refuses_histograms(run) {
        let histograms = exact(run.refused_histograms);
        add(
            Severity::Caution,
            format!(
                "The receiver refused requests with {histograms} native histograms, which it does not take: leave \
                 them out with --set native_histogram_share=0."
            ),
        );
    }
    if run.unknown_samples > 0 {
        let samples = exact(run.unknown_samples);
        add(
            Severity::Caution,
            format!(
                "{samples} samples were given up without an acknowledgement; they may or may not be stored."
            ),
        );
    }
    if run.discarded_samples > 0 {
        let samples = exact(run.discarded_samples);
        add(
            Severity::Caution,
            format!("{samples} samples were never sent: they were older than the sample age limit."),
        );
    }
    if run.unsent_requests > 0 {
        let requests = exact(run.unsent_requests);
        add(
            Severity::Caution,
            format!(
                "{requests} requests were due and never sent, because no connection became free in time."
            ),
        );
    }
    if let Some(cost) = run.cost.as_ref().filter(|cost| run.is_closed_loop && run.headroom.cpu_s > cost.cpu_s)
    {
        let (own, its) = (number(run.headroom.cpu_s), number(cost.cpu_s));
        add(
            Severity::Caution,
            format!(
                "The generator used more CPU ({own} s) than the receiver ({its} s): on one machine, the receiver \
                 could have taken a higher rate."
            ),
        );
    }
    if run.headroom.bottleneck.is_none()
        && !run.is_closed_loop
        && run.offered_rate > 0.0
        && run.achieved_rate < run.offered_rate * KEPT_UP_SHARE
    {
        let share = percent(run.achieved_rate / run.offered_rate);
        add(Severity::Caution, format!("The receiver acknowledged only {share} of the offered rate."));
    }
    warnings
}

/// Whether the receiver takes no native histograms, by its own words.
fn refuses_histograms(run: &RunResult) -> bool {
    let says = |text: &str| {
        let text = text.to_ascii_lowercase();
        // A histogram that breaks a rule is no reason to leave out the others.
        text.starts_with("answered 4")
            && text.contains("histogram")
            && !text.contains("invalid native histogram")
    };
    run.refused_histograms > 0 && run.errors.iter().any(|(text, _)| says(text))
}

/// The figures that people quote.
pub fn headline(run: &RunResult) -> Vec<Headline> {
    let mut tiles = vec![
        Headline {
            label: "Acknowledged",
            value: count(run.achieved_rate),
            unit: "samples/s",
            note: format!("of {} offered", count(run.offered_rate)),
        },
        Headline {
            label: "Latency p99",
            value: latency_of(run, run.p99_ms),
            unit: "",
            note: format!("p50 {}, max {}", latency_of(run, run.p50_ms), latency_of(run, run.max_ms)),
        },
    ];
    if let Some(cost) = &run.cost {
        tiles.push(Headline {
            label: "Receiver CPU",
            value: number(cost.cpu_s_per_million_samples),
            unit: "s per M samples",
            note: format!("{} cores on average", cores(cost.cpu_s, run.duration_s)),
        });
        tiles.push(Headline {
            label: "Receiver memory",
            value: share(cost.rss_bytes, run.series).map_or(NONE.to_owned(), bytes),
            unit: "per series",
            note: format!("{} resident", bytes(cost.rss_bytes as f64)),
        });
    }
    tiles.push(match &run.verification {
        Some(found) => Headline {
            label: "Verification",
            value: exact(found.lost),
            unit: "lost",
            note: format!("of {} read back", exact(found.samples_checked)),
        },
        None => Headline {
            label: "Verification",
            value: "not done".to_owned(),
            unit: "",
            note: "--verify reads all back".to_owned(),
        },
    });
    tiles
}

/// Every figure of a run.
pub fn sections(run: &RunResult) -> Vec<Section> {
    let mut sections = vec![load(run), latency(run)];
    let lost = run.refused_samples + run.unknown_samples + run.discarded_samples + run.unsent_requests;
    let failed = run.retries + lost > 0;
    if failed || !run.errors.is_empty() {
        sections.push(failures(run));
    }
    sections.extend(cost(run));
    sections.push(generator(run));
    sections.extend(run.verification.as_ref().map(verification));
    sections
}

fn load(run: &RunResult) -> Section {
    let mut rows = vec![
        row("profile", format!("{}, seed {}", run.profile, run.seed)),
        row("active series", exact(run.series)),
        row("measured for", seconds(run.duration_s)),
        row("offered", format!("{} samples/s", count(run.offered_rate))),
        row("acknowledged", format!("{} samples/s", count(run.achieved_rate))),
        row("samples sent, warm-up included", exact(run.sent_samples)),
        row("samples acknowledged, likewise", exact(run.acknowledged_samples)),
    ];
    if run.acknowledged_histograms > 0 {
        rows.push(row("histograms acknowledged", exact(run.acknowledged_histograms)));
    }
    if run.acknowledged_exemplars > 0 {
        rows.push(row("exemplars acknowledged", exact(run.acknowledged_exemplars)));
    }
    if run.metadata_messages > 0 {
        rows.push(row("metadata messages acknowledged", exact(run.metadata_messages)));
    }
    if let Some(shards) = run.shards {
        let range = format!("{} to {}, {} at the end", shards.least, shards.most, shards.last);
        rows.push(row("Prometheus' shards", range));
    }
    let per_sample = share(run.body_bytes, run.sent_samples).map_or(NONE.to_owned(), bytes);
    rows.push(row("request bodies", format!("{}, {per_sample} per sample", bytes(run.body_bytes as f64))));
    Section { title: "Load", rows }
}

fn latency(run: &RunResult) -> Section {
    let mut rows = vec![
        row("p50", latency_of(run, run.p50_ms)),
        row("p95", latency_of(run, run.p95_ms)),
        row("p99", latency_of(run, run.p99_ms)),
    ];
    for wanted in [99.9, 99.99] {
        if let Some(point) = run.latency.iter().find(|point| (point.percentile - wanted).abs() < 1e-6) {
            rows.push(row(&format!("p{wanted}"), milliseconds(point.latency_ms)));
        }
    }
    rows.push(row("max", latency_of(run, run.max_ms)));
    rows.push(row("of it, waiting for a connection, p99", milliseconds(run.waited_p99_ms)));
    let title = if run.is_closed_loop {
        "Latency, from the time a request was sent"
    } else {
        "Latency, from the time a request was due"
    };
    Section { title, rows }
}

fn failures(run: &RunResult) -> Section {
    let mut rows = vec![
        row("attempts repeated", exact(run.retries)),
        row("samples refused for good", exact(run.refused_samples)),
        row("samples of unknown fate", exact(run.unknown_samples)),
        row("requests never sent", exact(run.unsent_requests)),
    ];
    if run.discarded_samples > 0 {
        rows.push(row("samples too old to be sent", exact(run.discarded_samples)));
    }
    rows.extend(run.errors.iter().map(|(text, times)| (format!("{}×", exact(*times)), printable(text))));
    Section { title: "Failures", rows }
}

fn cost(run: &RunResult) -> Option<Section> {
    let cost = run.cost.as_ref()?;
    let per_series = |amount: u64| share(amount, run.series).map_or(NONE.to_owned(), bytes);
    let mut rows = vec![
        row(
            "CPU",
            format!("{} s, {} cores on average", number(cost.cpu_s), cores(cost.cpu_s, run.duration_s)),
        ),
        row("CPU per million samples", format!("{} s", number(cost.cpu_s_per_million_samples))),
        row(
            "resident at the end",
            format!("{}, {} per series", bytes(cost.rss_bytes as f64), per_series(cost.rss_bytes)),
        ),
        row(
            "resident at most",
            format!("{}, {} per series", bytes(cost.peak_rss_bytes as f64), per_series(cost.peak_rss_bytes)),
        ),
    ];
    if let Some(written) = cost.written_bytes {
        let each = written_per_sample(run).map_or(NONE.to_owned(), bytes);
        rows.push(row("written to storage", format!("{}, {each} per sample", bytes(written as f64))));
    }
    if let Some(switches) = cost.context_switches {
        rows.push(row("context switches", exact(switches)));
    }
    rows.push(row("measured from", printable(&cost.source)));
    Some(Section { title: "Cost of the receiver", rows })
}

fn generator(run: &RunResult) -> Section {
    let verdict = match &run.headroom.bottleneck {
        Some(reason) => printable(reason),
        None => "no".to_owned(),
    };
    let rows = vec![
        row("schedule lag p99", milliseconds(run.headroom.schedule_lag_p99_ms)),
        row("share of its CPUs used", percent(run.headroom.cpu_share)),
        row("was the bottleneck", verdict),
    ];
    Section { title: "Headroom of the generator", rows }
}

fn verification(found: &Verification) -> Section {
    let mut rows = vec![
        row("series read back", exact(found.series_checked)),
        row("samples read back", exact(found.samples_checked)),
        row("lost", exact(found.lost)),
        row("altered", exact(found.altered)),
        row("duplicated", exact(found.duplicated)),
        row("unexpected", exact(found.unexpected)),
    ];
    if found.unknown_present + found.unknown_absent > 0 {
        rows.push(row("unacknowledged, present", exact(found.unknown_present)));
        rows.push(row("unacknowledged, absent", exact(found.unknown_absent)));
    }
    rows.extend(found.notes.iter().map(|note| row("note", printable(note))));
    rows.extend(found.examples.iter().map(|example| row("for example", printable(example))));
    Section { title: "Verification", rows }
}

/// A text that came from elsewhere, without characters that would steer a terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn row(name: &str, value: String) -> (String, String) {
    (name.to_owned(), value)
}

/// Without a single answer there is no latency, rather than one of zero.
pub fn latency_of(run: &RunResult, latency_ms: f64) -> String {
    if run.achieved_rate > 0.0 { milliseconds(latency_ms) } else { NONE.to_owned() }
}

fn cores(cpu_s: f64, duration_s: f64) -> String {
    if duration_s > 0.0 { number(cpu_s / duration_s) } else { NONE.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Headroom, Percentile};

    #[test]
    fn a_clean_run_has_no_warning() {
        let run = RunResult { offered_rate: 100.0, achieved_rate: 99.5, ..RunResult::default() };
        assert_eq!(warnings(&run), []);
    }

    #[test]
    fn every_reason_for_doubt_is_a_warning_of_its_own() {
        let run = RunResult {
            interrupted: true,
            refused_samples: 5,
            unknown_samples: 7,
            unsent_requests: 2,
            offered_rate: 100.0,
            achieved_rate: 50.0,
            verification: Some(Verification { lost: 3, altered: 1, ..Verification::default() }),
            ..RunResult::default()
        };
        let texts: Vec<String> = warnings(&run).into_iter().map(|warning| warning.text).collect();
        assert_eq!(texts.len(), 7);
        assert!(texts[0].starts_with("3 samples are lost"));
        assert!(texts[6].contains("50 %"));
    }

    #[test]
    fn a_receiver_without_native_histograms_is_told_from_one_that_refuses_something_else() {
        let error = |text: &str| vec![(text.to_owned(), 1)];
        let mut run = RunResult { refused_samples: 9, refused_histograms: 4, ..RunResult::default() };
        run.errors = error("answered 400: native histograms are not supported by this version");
        let text = &warnings(&run)[1].text;
        assert!(
            text.contains("4 native histograms") && text.contains("--set native_histogram_share=0"),
            "{text}"
        );
        for text in
            ["answered 409: out of order sample", "answered 400: 1 histograms: invalid native histogram"]
        {
            run.errors = error(text);
            assert_eq!(warnings(&run).len(), 1, "{text}");
        }
    }

    #[test]
    fn a_generator_that_takes_most_of_a_shared_machine_says_so() {
        let headroom = Headroom { cpu_s: 5.0, ..Headroom::default() };
        let cost = Some(crate::result::ReceiverCost { cpu_s: 4.0, ..Default::default() });
        let run = RunResult { is_closed_loop: true, headroom, cost, ..RunResult::default() };
        assert!(warnings(&run)[0].text.contains("more CPU (5 s) than the receiver (4 s)"));
        assert_eq!(warnings(&RunResult { is_closed_loop: false, ..run }), []);
    }

    #[test]
    fn a_generator_that_was_the_limit_is_blamed_rather_than_the_receiver() {
        let headroom =
            Headroom { bottleneck: Some("it used 97 % of its CPUs".to_owned()), ..Headroom::default() };
        let run = RunResult { headroom, offered_rate: 100.0, achieved_rate: 50.0, ..RunResult::default() };
        let warnings = warnings(&run);
        assert_eq!((warnings.len(), warnings[0].severity), (1, Severity::Danger));
    }

    #[test]
    fn a_run_without_answers_has_no_latency() {
        let tiles = headline(&RunResult::default());
        assert_eq!((tiles[1].label, tiles[1].value.as_str()), ("Latency p99", NONE));
    }

    #[test]
    fn high_percentiles_are_shown_only_where_they_were_measured() {
        let latency = vec![Percentile { percentile: 99.9, latency_ms: 12.0 }];
        let run = RunResult { latency, ..RunResult::default() };
        let rows = sections(&run).remove(1).rows;
        assert!(rows.contains(&("p99.9".to_owned(), "12 ms".to_owned())));
        assert!(!rows.iter().any(|(name, _)| name == "p99.99"));
    }

    #[test]
    fn texts_of_a_receiver_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a [2Jb c");
    }

    #[test]
    fn an_empty_run_divides_by_nothing() {
        let run = RunResult { cost: Some(crate::result::ReceiverCost::default()), ..RunResult::default() };
        assert!(headline(&run).iter().all(|tile| !tile.value.contains("NaN") && !tile.note.contains("NaN")));
    }
}
