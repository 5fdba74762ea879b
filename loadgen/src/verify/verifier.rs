//! Checks all targets, several at a time, and adds up what was found.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::client::{QueryClient, QueryError};
use super::expectation::{Expectation, Fate, Sent};
use super::receiver_labels::ReceiverLabels;
use super::score::{EXAMPLES_MAX, Score};
use super::target::{self, Checked};
use crate::ledger::Ledger;
use crate::quantity::count;
use crate::result::Verification;
use crate::stream::Stream;

/// Pause before a target with missing samples is read again.
const RECHECK_PAUSE: Duration = Duration::from_secs(1);

/// What to make of native histograms that are not there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum NativeHistograms {
    /// Lost, unless not a single one is there: then the receiver does not keep them.
    #[default]
    Auto,
    /// Lost.
    Require,
    /// Nothing.
    Skip,
}

/// How to verify.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Whom to ask.
    pub client: QueryClient,
    /// Labels that the receiver adds and that are not to be compared.
    pub ignored_labels: Vec<String>,
    /// Time that the receiver may take to show what it has acknowledged.
    pub settle: Duration,
    /// Targets that are checked at the same time.
    pub concurrency: usize,
    /// Relative difference of floats that counts as equal; 0 asks for the same bits.
    pub tolerance: f64,
    /// What to make of native histograms that are not there.
    pub native_histograms: NativeHistograms,
    /// Targets that are checked at most, spread over all; `None` for all.
    pub targets_max: Option<u64>,
}

/// How far verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Targets checked so far.
    pub targets_done: u64,
    /// Targets to check.
    pub targets: u64,
    /// Samples checked so far.
    pub samples_checked: u64,
    /// Differences so far.
    pub differences: u64,
    /// Time since it began.
    pub elapsed: Duration,
}

impl fmt::Display for Progress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.targets.saturating_sub(self.targets_done);
        let left_s = self.elapsed.as_secs_f64() / self.targets_done.max(1) as f64 * left as f64;
        write!(
            out,
            "verifying  {}/{} targets  {} samples  {} differences  {} s to go",
            self.targets_done,
            self.targets,
            count(self.samples_checked as f64),
            self.differences,
            left_s.ceil()
        )
    }
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A query that has no answer to compare.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A result would say "no difference" about nothing.
    #[error("not one of {requests} requests was acknowledged: there is nothing to verify")]
    NothingAcknowledged {
        /// Requests in the ledger.
        requests: u64,
    },
}

/// Reads everything back that a run sent and compares it with the stream and the ledger.
pub async fn verify(
    stream: Arc<Stream>,
    ledger: Arc<Ledger>,
    options: &VerifyOptions,
    progress: impl Fn(Progress),
) -> Result<Verification, VerifyError> {
    verify_expectation(Arc::new(Sent { stream, ledger }), options, progress).await
}

/// The same for any source of truth.
pub async fn verify_expectation<E: Expectation>(
    expectation: Arc<E>,
    options: &VerifyOptions,
    progress: impl Fn(Progress),
) -> Result<Verification, VerifyError> {
    let requests = expectation.requests();
    if !(0..requests).any(|request| expectation.fate(request) == Fate::Acknowledged) {
        return Err(VerifyError::NothingAcknowledged { requests });
    }
    let deadline = Instant::now() + options.settle;
    let targets_all = expectation.targets();
    let mut totals = Totals::new(targets_all, options.targets_max.unwrap_or(u64::MAX).min(targets_all));
    let mut labels = ReceiverLabels::new(options.ignored_labels.iter().cloned());
    let mut next = 0;
    // One after another until an answer has shown which labels the receiver adds: the result must not depend on
    // which target happens to be answered first.
    while next < totals.targets && !labels.is_settled() {
        let target = totals.target(next);
        let checked = check_patiently(&*expectation, options, target, labels, deadline).await?;
        labels = totals.add(target, checked);
        progress(totals.progress());
        next += 1;
    }
    let mut running = JoinSet::new();
    loop {
        while next < totals.targets && running.len() < options.concurrency.max(1) {
            let (expectation, options, labels) = (Arc::clone(&expectation), options.clone(), labels.clone());
            let target = totals.target(next);
            running.spawn(async move {
                (target, check_patiently(&*expectation, &options, target, labels, deadline).await)
            });
            next += 1;
        }
        // Dropping the set on an error ends the others.
        let Some(joined) = running.join_next().await else { break };
        let (target, checked) = joined.expect("a check neither panics nor is cancelled");
        totals.add(target, checked?);
        progress(totals.progress());
    }
    Ok(totals.finish(options, &labels))
}

/// Checks a target again while something is missing that may still show.
async fn check_patiently<E: Expectation>(
    expectation: &E,
    options: &VerifyOptions,
    target: u64,
    labels: ReceiverLabels,
    deadline: Instant,
) -> Result<Checked, QueryError> {
    loop {
        let checked =
            target::check(expectation, &options.client, target, options.tolerance, labels.clone()).await?;
        let missing = checked.score.lost + checked.score.histograms_absent;
        if missing == 0 || Instant::now() + RECHECK_PAUSE > deadline {
            return Ok(checked);
        }
        tokio::time::sleep(RECHECK_PAUSE).await;
    }
}

/// Counts of all targets, and the examples of the first ones.
struct Totals {
    targets_all: u64,
    /// Those that are checked.
    targets: u64,
    targets_done: u64,
    began: Instant,
    score: Score,
    examples: Examples,
    histogram_examples: Examples,
}

/// Texts by target, so that which ones are shown does not depend on which answer came first.
#[derive(Default)]
struct Examples(BTreeMap<u64, Vec<String>>);

impl Examples {
    fn add(&mut self, target: u64, texts: Vec<String>) {
        if !texts.is_empty() {
            self.0.insert(target, texts);
        }
        // Each target kept has one text at least, so that those of further ones would never be shown.
        if self.0.len() > EXAMPLES_MAX {
            self.0.pop_last();
        }
    }

    fn texts(self) -> impl Iterator<Item = String> {
        self.0.into_values().flatten()
    }
}

impl Totals {
    fn new(targets_all: u64, targets: u64) -> Totals {
        Totals {
            targets_all,
            targets,
            targets_done: 0,
            began: Instant::now(),
            score: Score::default(),
            examples: Examples::default(),
            histogram_examples: Examples::default(),
        }
    }

    /// One of the targets to check, by its place among them.
    fn target(&self, place: u64) -> u64 {
        (u128::from(place) * u128::from(self.targets_all) / u128::from(self.targets.max(1))) as u64
    }

    fn add(&mut self, target: u64, checked: Checked) -> ReceiverLabels {
        let Checked { mut score, labels } = checked;
        self.targets_done += 1;
        self.examples.add(target, std::mem::take(&mut score.examples));
        self.histogram_examples.add(target, std::mem::take(&mut score.histogram_examples));
        self.score.add(score);
        labels
    }

    fn progress(&self) -> Progress {
        Progress {
            targets_done: self.targets_done,
            targets: self.targets,
            samples_checked: self.score.samples_checked,
            differences: self.score.differences(),
            elapsed: self.began.elapsed(),
        }
    }

    fn finish(self, options: &VerifyOptions, labels: &ReceiverLabels) -> Verification {
        let score = self.score;
        let mut notes = Vec::new();
        if self.targets < self.targets_all {
            notes.push(format!("only {} of {} targets were read back", self.targets, self.targets_all));
        }
        let is_lost = match options.native_histograms {
            NativeHistograms::Auto => score.histograms_found > 0,
            NativeHistograms::Require => true,
            NativeHistograms::Skip => false,
        };
        let lost_histograms = if is_lost { score.histograms_absent } else { 0 };
        if score.histograms_absent > 0 && !is_lost {
            notes.push(format!(
                "{} native histograms were not compared: {}",
                score.histograms_absent,
                match options.native_histograms {
                    NativeHistograms::Skip => "they are skipped on request",
                    NativeHistograms::Auto | NativeHistograms::Require =>
                        "the receiver returns none at all, so it seems not to keep them \
                         (--native-histograms require counts them as lost)",
                }
            ));
        }
        if score.markers_unchecked > 0 {
            notes.push(format!(
                "{} stale markers were not checked: no acknowledged sample shortly before them shows their effect",
                score.markers_unchecked
            ));
        }
        let added = labels.added();
        if !added.is_empty() {
            notes.push(format!("labels that the receiver adds were not compared: {}", added.join(", ")));
        }
        if options.tolerance > 0.0 {
            notes
                .push(format!("values count as equal within a relative difference of {}", options.tolerance));
        }
        if score.series_found == 0 {
            notes.push(
                "the receiver returned no series at all: does --query-url lead to the data of this receiver \
                 and tenant?"
                    .to_string(),
            );
        }
        let histogram_examples = if is_lost { self.histogram_examples } else { Examples::default() };
        let examples = self.examples.texts().chain(histogram_examples.texts()).take(EXAMPLES_MAX);
        Verification {
            series_checked: score.series_checked,
            samples_checked: score.samples_checked + lost_histograms,
            lost: score.lost + lost_histograms,
            altered: score.altered,
            duplicated: score.duplicated,
            unexpected: score.unexpected,
            unknown_present: score.unknown_present,
            unknown_absent: score.unknown_absent,
            examples: examples.collect(),
            notes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer::{FoundSeries, FoundValue};
    use super::super::fake::{FakeReceiver, FakeRun, Fault, STALE, client};
    use super::*;
    use crate::stream::SampleValue;

    fn options(receiver: &FakeReceiver) -> VerifyOptions {
        VerifyOptions {
            client: client(receiver, 2),
            ignored_labels: vec![],
            settle: Duration::ZERO,
            concurrency: 3,
            tolerance: 0.0,
            native_histograms: NativeHistograms::Auto,
            targets_max: None,
        }
    }

    /// Verifies a run of 5 targets with 2 series each against a receiver whose content has been changed.
    async fn verify_changed(run: FakeRun, change: impl FnOnce(&mut Vec<FoundSeries>)) -> Verification {
        let mut series = run.received();
        change(&mut series);
        let receiver = FakeReceiver::start(series).await;
        verify_expectation(Arc::new(run), &options(&receiver), |_| {}).await.unwrap()
    }

    fn run() -> FakeRun {
        FakeRun::new(5, 10, 15_000)
    }

    fn differences(found: &Verification) -> [u64; 4] {
        [found.lost, found.altered, found.duplicated, found.unexpected]
    }

    #[tokio::test]
    async fn a_receiver_that_kept_everything_shows_no_difference() {
        let found = verify_changed(run(), |_| {}).await;
        assert_eq!(differences(&found), [0; 4]);
        assert_eq!((found.series_checked, found.samples_checked), (10, 100));
        assert!(found.examples.is_empty() && found.notes.is_empty(), "{found:?}");
    }

    #[tokio::test]
    async fn every_planted_difference_is_found_as_what_it_is() {
        let found = verify_changed(run(), |series| {
            series[0].samples.remove(3);
            series[9].samples.truncate(8);
            series[2].samples[4].value = FoundValue::Float(-1.0);
            let copy = series[3].samples[5].clone();
            series[3].samples.insert(6, copy);
            let mut between = series[4].samples[5].clone();
            between.timestamp_ms += 1;
            series[4].samples.insert(6, between);
            let mut foreign = series[5].clone();
            foreign.labels[0].1 = "foreign".to_owned();
            series.push(foreign);
        })
        .await;
        assert_eq!(differences(&found), [3, 1, 1, 11]);
        assert_eq!(found.examples.len(), 7);
        assert!(found.examples[0].starts_with("lost: m0{target=\"0\"} at 1700000045.000"), "{found:?}");
    }

    #[tokio::test]
    async fn a_series_without_any_sample_is_lost_as_a_whole() {
        let found = verify_changed(run(), |series| drop(series.remove(7))).await;
        assert_eq!(differences(&found), [10, 0, 0, 0]);
        let found = verify_changed(run(), Vec::clear).await;
        assert_eq!(differences(&found), [100, 0, 0, 0]);
        assert!(found.notes[0].contains("--query-url"), "{found:?}");
        assert_eq!(found.examples.len(), EXAMPLES_MAX);
    }

    #[tokio::test]
    async fn each_sample_is_seen_once_however_the_left_end_of_a_range_is_meant() {
        for is_left_closed in [false, true] {
            let run = FakeRun::new(1, 25_000, 1);
            let receiver = FakeReceiver::start(run.received()).await;
            receiver.state().is_left_closed = is_left_closed;
            receiver.state().series[1].samples.remove(8_333);
            let found = verify_expectation(Arc::new(run), &options(&receiver), |_| {}).await.unwrap();
            assert_eq!(differences(&found), [1, 0, 0, 0], "{found:?}");
            assert_eq!(found.samples_checked, 50_000);
            assert_eq!(receiver.state().queries, 3);
        }
    }

    #[tokio::test]
    async fn labels_that_the_receiver_adds_to_everything_are_no_difference() {
        let add = |series: &mut Vec<FoundSeries>, name: &str, value: &str| {
            series.iter_mut().for_each(|series| series.labels.push((name.to_owned(), value.to_owned())));
        };
        let found = verify_changed(run(), |series| add(series, "tenant_id", "default")).await;
        assert_eq!(differences(&found), [0; 4]);
        assert!(found.notes[0].contains(r#"tenant_id="default""#), "{found:?}");
        let found = verify_changed(run(), |series| {
            add(series, "tenant_id", "default");
            series[9].labels[2].1 = "other".to_owned();
        })
        .await;
        assert_eq!(differences(&found), [10, 0, 0, 10]);
    }

    #[tokio::test]
    async fn copies_that_only_an_ignored_label_tells_apart_are_duplicates() {
        let run = run();
        let replica = |number: &str| {
            let mut series = run.received();
            series
                .iter_mut()
                .for_each(|series| series.labels.push(("replica".to_owned(), number.to_owned())));
            series
        };
        let receiver = FakeReceiver::start([replica("a"), replica("b")].concat()).await;
        let options = VerifyOptions { ignored_labels: vec!["replica".to_owned()], ..options(&receiver) };
        let found = verify_expectation(Arc::new(run), &options, |_| {}).await.unwrap();
        assert_eq!(differences(&found), [0, 0, 100, 0]);
    }

    #[tokio::test]
    async fn what_was_not_acknowledged_may_be_there_or_not() {
        let mut run = run();
        run.fates[2] = Fate::Unknown;
        run.fates[3] = Fate::Refused;
        run.fates[9] = Fate::NotSent;
        let found = verify_changed(run, |series| {
            series.iter_mut().for_each(|series| drop(series.samples.remove(2)));
            series.iter_mut().skip(1).for_each(|series| drop(series.samples.pop()));
        })
        .await;
        assert_eq!(differences(&found), [0, 0, 0, 1]);
        assert_eq!((found.unknown_absent, found.unknown_present), (10, 10));
        assert!(found.examples[0].contains("request 9 was never sent"), "{found:?}");
    }

    #[tokio::test]
    async fn a_lost_stale_marker_leaves_its_series_visible() {
        let ended = || {
            let mut run = run();
            for series in &mut run.targets[2] {
                series.samples[9].value = SampleValue::Float(STALE);
            }
            run
        };
        let found = verify_changed(ended(), |_| {}).await;
        assert_eq!((differences(&found), found.samples_checked), ([0; 4], 100));
        let found = verify_changed(ended(), |series| drop(series[4].samples.pop())).await;
        assert_eq!(differences(&found), [1, 0, 0, 0]);
        assert!(found.examples[0].contains("a stale marker"), "{found:?}");
        let plain_nan = |series: &mut Vec<FoundSeries>| {
            series[4].samples[9].value = FoundValue::Float(f64::NAN);
        };
        let found = verify_changed(ended(), plain_nan).await;
        assert_eq!(differences(&found), [0, 1, 0, 0]);

        let run = ended();
        let receiver = FakeReceiver::start(run.received()).await;
        receiver.state().shows_stale = true;
        let found = verify_expectation(Arc::new(run), &options(&receiver), |_| {}).await.unwrap();
        assert_eq!((differences(&found), found.samples_checked), ([0; 4], 100));
    }

    #[tokio::test]
    async fn native_histograms_are_lost_only_if_the_receiver_keeps_any() {
        let with_histograms = || {
            let mut run = run();
            for sample in &mut run.targets[1][0].samples {
                sample.value = SampleValue::Histogram(r#"{"count":"2","sum":"1.5"}"#.into());
            }
            run
        };
        let found = verify_changed(with_histograms(), |_| {}).await;
        assert_eq!((differences(&found), found.samples_checked), ([0; 4], 100));
        let found = verify_changed(with_histograms(), |series| drop(series[2].samples.pop())).await;
        assert_eq!((differences(&found), found.samples_checked), ([1, 0, 0, 0], 100));
        let found = verify_changed(with_histograms(), |series| drop(series.remove(2))).await;
        assert_eq!((differences(&found), found.samples_checked), ([0; 4], 90));
        assert!(found.notes[0].contains("10 native histograms were not compared"), "{found:?}");
    }

    #[tokio::test]
    async fn failures_of_the_receiver_are_overcome_or_an_error_but_never_a_difference() {
        let run = run();
        let receiver = FakeReceiver::start(run.received()).await;
        let run = Arc::new(run);
        receiver.plant(Fault::Status(503), 2);
        let found = verify_expectation(Arc::clone(&run), &options(&receiver), |_| {}).await.unwrap();
        assert_eq!(differences(&found), [0; 4]);
        for fault in
            [Fault::Garbage, Fault::Truncated, Fault::Status(422), Fault::Status(500), Fault::Partial]
        {
            receiver.plant(fault, 100);
            let error = verify_expectation(Arc::clone(&run), &options(&receiver), |_| {}).await.unwrap_err();
            assert!(matches!(error, VerifyError::Query(_)), "{fault:?}: {error}");
        }
    }

    #[tokio::test]
    async fn what_shows_within_the_time_to_settle_is_not_lost() {
        let run = run();
        let mut late = run.received();
        late[3].samples.pop();
        let receiver = FakeReceiver::start(late).await;
        let complete = run.received();
        let options = VerifyOptions { settle: Duration::from_secs(30), ..options(&receiver) };
        let verifying =
            tokio::spawn(async move { verify_expectation(Arc::new(run), &options, |_| {}).await });
        // All five targets are asked for once; the one that lacks a sample is asked for again.
        while receiver.state().queries < 5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        receiver.state().series = complete;
        assert_eq!(differences(&verifying.await.unwrap().unwrap()), [0; 4]);
        assert!(receiver.state().queries > 5);
    }

    #[tokio::test]
    async fn a_run_without_an_acknowledgement_has_no_result() {
        let mut run = run();
        run.fates.fill(Fate::Unknown);
        let receiver = FakeReceiver::start(vec![]).await;
        let error = verify_expectation(Arc::new(run), &options(&receiver), |_| {}).await.unwrap_err();
        assert_eq!(error.to_string(), "not one of 10 requests was acknowledged: there is nothing to verify");
    }

    #[tokio::test]
    async fn some_targets_can_stand_for_all() {
        let run = run();
        let mut received = run.received();
        received.retain(|series| series.labels.contains(&("target".to_owned(), "0".to_owned())));
        let receiver = FakeReceiver::start(received).await;
        let run = Arc::new(run);
        let with = |targets_max| VerifyOptions { targets_max: Some(targets_max), ..options(&receiver) };
        let found = verify_expectation(Arc::clone(&run), &with(1), |_| {}).await.unwrap();
        assert_eq!((differences(&found), found.samples_checked), ([0; 4], 20));
        assert_eq!(found.notes, ["only 1 of 5 targets were read back"]);
        let found = verify_expectation(Arc::clone(&run), &with(2), |_| {}).await.unwrap();
        assert_eq!((found.lost, found.samples_checked), (20, 40));
        assert!(verify_expectation(run, &with(9), |_| {}).await.unwrap().notes.is_empty());
    }

    #[tokio::test]
    async fn progress_reaches_the_last_target() {
        let run = run();
        let receiver = FakeReceiver::start(run.received()).await;
        let last = std::sync::Mutex::new(None);
        let report = |progress: Progress| *last.lock().unwrap() = Some(progress);
        verify_expectation(Arc::new(run), &options(&receiver), report).await.unwrap();
        let last = last.into_inner().unwrap().unwrap();
        assert_eq!((last.targets_done, last.targets, last.samples_checked), (5, 5, 100));
    }

    #[test]
    fn the_time_to_go_follows_from_the_time_taken() {
        let elapsed = Duration::from_secs(10);
        let now = Progress { targets_done: 25, targets: 100, samples_checked: 5, differences: 0, elapsed };
        assert_eq!(now.to_string(), "verifying  25/100 targets  5 samples  0 differences  30 s to go");
    }
}
