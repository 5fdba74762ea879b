//! The book of a load: every request, every attempt, every latency.
//! Owns:     counts, histograms and the series of seconds.
//! Touches:  nothing else; lanes write into it under one lock, a few times for each request.
//! Promises: counts are of the whole load, so that they agree with the ledger; rates, latencies and seconds are of
//!           the measured part only. A latency counts from the moment the request was due, so that a receiver that
//!           stalls is charged for every request that it kept waiting, not for the few that were under way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;

use crate::ledger::Fate;
use crate::result::{Percentile, Second};
use crate::stream::Counts;

/// Longest latency that is told apart: ten minutes.
const LATENCY_US_MAX: u64 = 600_000_000;

/// Different error texts that are kept; the others are counted together.
const ERRORS_MAX: usize = 16;

/// The curve of a report, dense where latencies are interesting.
const CURVE: [f64; 19] = [
    0.0, 10.0, 25.0, 50.0, 60.0, 70.0, 75.0, 80.0, 85.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.9, 99.95, 99.99,
    99.999, 100.0,
];

/// Counts of a whole load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Samples of requests that were sent at least once.
    pub sent_samples: u64,
    /// Of these, samples that were acknowledged.
    pub acknowledged_samples: u64,
    /// Native histograms that were acknowledged.
    pub acknowledged_histograms: u64,
    /// Exemplars that were acknowledged; they are no samples.
    pub acknowledged_exemplars: u64,
    /// Samples that were refused for good.
    pub refused_samples: u64,
    /// Native histograms among them.
    pub refused_histograms: u64,
    /// Samples that were never sent, because they were too old by the time a lane was free.
    pub discarded_samples: u64,
    /// Metadata messages that were acknowledged.
    pub metadata_messages: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Bytes of all bodies, each counted once.
    pub body_bytes: u64,
    /// Requests that were due and never sent.
    pub unsent_requests: u64,
    /// Of the measured part: samples that were due in it.
    pub offered_samples_measured: u64,
    /// Of the measured part: samples that were acknowledged in it.
    pub acknowledged_samples_measured: u64,
}

impl Totals {
    /// Samples that were sent and of which nothing more is known.
    pub fn unknown_samples(&self) -> u64 {
        self.sent_samples - self.acknowledged_samples - self.refused_samples
    }
}

/// What happened since the last look.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Recent {
    /// Samples acknowledged.
    pub acknowledged_samples: u64,
    /// Latencies of these; `None` without any.
    pub p50_ms: Option<f64>,
    /// Likewise.
    pub p99_ms: Option<f64>,
}

/// What the receiver and the generator used in one second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SecondUsage {
    /// CPU of the receiver in seconds.
    pub receiver_cpu_s: Option<f64>,
    /// Its memory.
    pub receiver_rss_bytes: Option<u64>,
    /// CPU of the generator in seconds.
    pub generator_cpu_s: f64,
    /// Shards at its end.
    pub shards: Option<usize>,
}

/// Everything that was measured.
#[derive(Debug, Clone)]
pub struct Record {
    /// Counts.
    pub totals: Totals,
    /// Latencies in microseconds, from the due time, of acknowledged requests that were due in the measured part.
    pub latency_us: Histogram<u64>,
    /// Time lost by the generator between the moment a request could start and the moment it did.
    pub lag_us: Histogram<u64>,
    /// Time that requests waited for a connection, because all were busy or their series were.
    pub waited_us: Histogram<u64>,
    /// One entry for each second.
    pub seconds: Vec<Second>,
    /// Error texts, the most frequent first.
    pub errors: Vec<(String, u64)>,
}

impl Record {
    /// A latency in milliseconds; 0 if nothing was acknowledged.
    pub fn latency_ms(&self, percentile: f64) -> f64 {
        quantile_ms(&self.latency_us, percentile).unwrap_or(0.0)
    }

    /// The whole curve.
    pub fn curve(&self) -> Vec<Percentile> {
        if self.latency_us.is_empty() {
            return Vec::new();
        }
        let point = |percentile| Percentile { percentile, latency_ms: self.latency_ms(percentile) };
        CURVE.into_iter().map(point).collect()
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds and three digits are valid")
}

fn quantile_ms(histogram: &Histogram<u64>, percentile: f64) -> Option<f64> {
    // A value stands for all that share its three digits; the largest of them may exceed what was recorded.
    let value = || histogram.value_at_percentile(percentile).min(histogram.max());
    (!histogram.is_empty()).then(|| value() as f64 / 1000.0)
}

/// The book, while it is being written.
pub struct Recorder {
    /// Begin and end of the measured part, in microseconds of the load's clock.
    begin_us: AtomicU64,
    end_us: AtomicU64,
    book: Mutex<Book>,
}

struct Book {
    record: Record,
    errors: BTreeMap<String, u64>,
    /// The second that is being filled, and its latencies.
    second: usize,
    second_us: Histogram<u64>,
    recent_samples: u64,
    recent_us: Histogram<u64>,
}

impl Default for Recorder {
    fn default() -> Recorder {
        Recorder::new()
    }
}

impl Recorder {
    /// An empty book that measures nothing yet.
    pub fn new() -> Recorder {
        let record = Record {
            totals: Totals::default(),
            latency_us: histogram(),
            lag_us: histogram(),
            waited_us: histogram(),
            seconds: Vec::new(),
            errors: Vec::new(),
        };
        let book = Book {
            record,
            errors: BTreeMap::new(),
            second: 0,
            second_us: histogram(),
            recent_samples: 0,
            recent_us: histogram(),
        };
        let never = || AtomicU64::new(u64::MAX);
        Recorder { begin_us: never(), end_us: never(), book: Mutex::new(book) }
    }

    /// Measures from `begin_us` to `end_us`. Called while nothing is under way.
    pub fn measure(&self, begin_us: u64, end_us: u64) {
        self.begin_us.store(begin_us, Ordering::Relaxed);
        self.end_us.store(end_us, Ordering::Relaxed);
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_measured(&self, us: u64) -> bool {
        (self.begin_us.load(Ordering::Relaxed)..self.end_us.load(Ordering::Relaxed)).contains(&us)
    }

    /// The second of the measured part, if it is one.
    fn second(&self, us: u64) -> Option<usize> {
        let begin_us = self.begin_us.load(Ordering::Relaxed);
        self.is_measured(us).then(|| (us.saturating_sub(begin_us) / 1_000_000) as usize)
    }

    /// A request leaves the waiting room: due, free to start, started.
    pub fn start(&self, due_us: u64, ready_us: u64, now_us: u64) {
        if self.is_measured(due_us) {
            let mut book = self.book();
            book.record.waited_us.saturating_record(ready_us.saturating_sub(due_us));
            book.record.lag_us.saturating_record(now_us.saturating_sub(ready_us));
        }
    }

    /// A request is about to be sent for the first time.
    pub fn send(&self, due_us: u64, counts: Counts, body_bytes: usize) {
        let mut book = self.book();
        book.record.totals.sent_samples += samples(counts);
        book.record.totals.body_bytes += body_bytes as u64;
        self.offer(&mut book, due_us, samples(counts));
    }

    /// A request was due and will never be sent; it would have had so many samples.
    pub fn drop_unsent(&self, due_us: u64, samples: u64) {
        let mut book = self.book();
        book.record.totals.unsent_requests += 1;
        self.offer(&mut book, due_us, samples);
    }

    /// A request was due and is not sent, because it is too old.
    pub fn discard(&self, due_us: u64, counts: Counts) {
        let mut book = self.book();
        book.record.totals.discarded_samples += samples(counts);
        self.offer(&mut book, due_us, samples(counts));
    }

    /// A metadata message has met its fate.
    pub fn metadata(&self, is_acknowledged: bool) {
        self.book().record.totals.metadata_messages += u64::from(is_acknowledged);
    }

    fn offer(&self, book: &mut Book, due_us: u64, samples: u64) {
        if let Some(second) = self.second(due_us) {
            book.record.totals.offered_samples_measured += samples;
            book.at(second).offered_samples += samples;
        }
    }

    /// A request has met its fate.
    pub fn finish(&self, due_us: u64, now_us: u64, counts: Counts, fate: Fate) {
        let mut book = self.book();
        match fate {
            Fate::Acknowledged => {
                let latency_us = now_us.saturating_sub(due_us);
                book.record.totals.acknowledged_samples += samples(counts);
                book.record.totals.acknowledged_histograms += counts.histograms;
                book.record.totals.acknowledged_exemplars += counts.exemplars;
                if self.is_measured(due_us) {
                    book.record.latency_us.saturating_record(latency_us);
                }
                book.recent_samples += samples(counts);
                book.recent_us.saturating_record(latency_us);
                if let Some(second) = self.second(now_us) {
                    book.turn_to(second);
                    book.second_us.saturating_record(latency_us);
                    book.at(second).acknowledged_samples += samples(counts);
                    book.record.totals.acknowledged_samples_measured += samples(counts);
                }
            }
            Fate::Refused => {
                book.record.totals.refused_samples += samples(counts);
                book.record.totals.refused_histograms += counts.histograms;
                if let Some(second) = self.second(now_us) {
                    book.at(second).refused_requests += 1;
                }
            }
            Fate::Unknown | Fate::NotSent => {}
        }
    }

    /// An attempt failed and will be repeated.
    pub fn retry(&self, now_us: u64) {
        let mut book = self.book();
        book.record.totals.retries += 1;
        if let Some(second) = self.second(now_us) {
            book.at(second).retries += 1;
        }
    }

    /// An attempt failed, for a reason.
    pub fn error(&self, text: String) {
        let errors = &mut self.book().errors;
        let key =
            if errors.len() < ERRORS_MAX || errors.contains_key(&text) { text } else { "others".to_owned() };
        *errors.entry(key).or_default() += 1;
    }

    /// What a second of the measured part cost.
    pub fn usage(&self, second: usize, usage: SecondUsage) {
        let mut book = self.book();
        let entry = book.at(second);
        entry.receiver_cpu_s = usage.receiver_cpu_s;
        entry.receiver_rss_bytes = usage.receiver_rss_bytes;
        entry.generator_cpu_s = usage.generator_cpu_s;
        entry.shards = usage.shards.map(|count| count as u64);
    }

    /// Counts so far, and what happened since the last call.
    pub fn look(&self) -> (Totals, u64, Recent) {
        let mut book = self.book();
        let recent = Recent {
            acknowledged_samples: std::mem::take(&mut book.recent_samples),
            p50_ms: quantile_ms(&book.recent_us, 50.0),
            p99_ms: quantile_ms(&book.recent_us, 99.0),
        };
        book.recent_us.reset();
        (book.record.totals, book.errors.values().sum(), recent)
    }

    /// The finished book.
    pub fn record(&self) -> Record {
        let mut book = self.book();
        let second = book.second;
        book.turn_to(second + 1);
        let mut record = book.record.clone();
        record.errors = book.errors.iter().map(|(text, count)| (text.clone(), *count)).collect();
        record.errors.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        record
    }
}

impl Book {
    fn at(&mut self, second: usize) -> &mut Second {
        while self.record.seconds.len() <= second {
            let at_s = self.record.seconds.len() as f64;
            self.record.seconds.push(Second { at_s, ..Second::default() });
        }
        &mut self.record.seconds[second]
    }

    /// Closes the second that was being filled, if this is a later one.
    fn turn_to(&mut self, second: usize) {
        if second <= self.second {
            return;
        }
        let (p50_ms, p99_ms) = (quantile_ms(&self.second_us, 50.0), quantile_ms(&self.second_us, 99.0));
        let max_ms = quantile_ms(&self.second_us, 100.0);
        if max_ms.is_some() {
            let closed = self.second;
            let entry = self.at(closed);
            (entry.p50_ms, entry.p99_ms, entry.max_ms) = (p50_ms, p99_ms, max_ms);
        }
        self.second_us.reset();
        self.second = second;
    }
}

/// Native histograms are samples too: a receiver stores each of them at a time, as it does a float.
fn samples(counts: Counts) -> u64 {
    counts.samples + counts.histograms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measuring(begin_us: u64, end_us: u64) -> Recorder {
        let recorder = Recorder::new();
        recorder.measure(begin_us, end_us);
        recorder
    }

    const COUNTS: Counts = Counts { series: 10, samples: 9, histograms: 1, exemplars: 0 };

    #[test]
    fn only_requests_that_were_due_in_the_measured_part_have_a_latency() {
        let recorder = measuring(1_000_000, 3_000_000);
        for (due_us, now_us) in [(999_999, 1_500_000), (1_000_000, 1_001_000), (2_999_999, 3_100_000)] {
            recorder.start(due_us, due_us, due_us + 10);
            recorder.send(due_us, COUNTS, 100);
            recorder.finish(due_us, now_us, COUNTS, Fate::Acknowledged);
        }
        let record = recorder.record();
        assert_eq!(record.latency_us.len(), 2);
        assert_eq!(record.lag_us.max(), 10);
        assert_eq!(record.totals.acknowledged_samples, 30);
        assert_eq!(record.totals.acknowledged_histograms, 3);
        assert_eq!(record.totals.offered_samples_measured, 20);
        assert_eq!(record.totals.acknowledged_samples_measured, 20, "two answers came within it");
        assert_eq!(record.totals.body_bytes, 300);
        assert_eq!(record.seconds.len(), 2);
        assert_eq!(record.seconds[0].acknowledged_samples, 20);
        assert_eq!(record.seconds[0].max_ms.map(f64::round), Some(500.0));
        assert_eq!(record.seconds[1].p50_ms, None);
    }

    #[test]
    fn samples_are_acknowledged_refused_or_unknown() {
        let recorder = measuring(0, 10_000_000);
        for fate in [Fate::Acknowledged, Fate::Refused, Fate::Unknown] {
            recorder.send(5, COUNTS, 1);
            recorder.finish(5, 10, COUNTS, fate);
        }
        recorder.drop_unsent(6, 10);
        let totals = recorder.record().totals;
        assert_eq!(
            (totals.acknowledged_samples, totals.refused_samples, totals.unknown_samples()),
            (10, 10, 10)
        );
        assert_eq!((totals.sent_samples, totals.unsent_requests), (30, 1));
        assert_eq!(totals.offered_samples_measured, 40);
    }

    #[test]
    fn the_number_of_different_errors_is_bounded() {
        let recorder = measuring(0, 1);
        for number in 0..100 {
            recorder.error(format!("error {number}"));
            recorder.error("frequent".to_owned());
        }
        let errors = recorder.record().errors;
        assert_eq!(errors.len(), ERRORS_MAX + 1);
        assert_eq!(errors[0], ("frequent".to_owned(), 100));
        assert_eq!(errors.iter().map(|(_, count)| count).sum::<u64>(), 200);
    }

    #[test]
    fn a_look_shows_what_is_new() {
        let recorder = measuring(0, 1_000_000);
        recorder.send(0, COUNTS, 1);
        recorder.finish(0, 2_000, COUNTS, Fate::Acknowledged);
        let (totals, errors, recent) = recorder.look();
        assert_eq!((totals.acknowledged_samples, errors, recent.acknowledged_samples), (10, 0, 10));
        assert_eq!(recent.p99_ms, Some(2.0));
        assert_eq!(recorder.look().2, Recent::default());
    }
}
