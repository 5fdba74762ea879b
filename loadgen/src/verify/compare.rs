//! Compares what should be there with what was found, sample by sample, and keeps the score.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use super::answer::{self, FoundSample, FoundSeries, FoundValue};
use super::expectation::Fate;
use super::markers::Marker;
use super::score::{EXAMPLES_MAX, Score};
use super::windows::{Window, seconds};
use crate::stream::{ExpectedSample, ExpectedSeries, STALE_NAN_BITS, SampleValue};

type Labels = Vec<(String, String)>;

/// The comparison of one target in one window.
pub struct Comparison<'a, F> {
    expected: &'a [ExpectedSeries],
    index: HashMap<&'a [(String, String)], usize>,
    fate: F,
    /// Relative difference that counts as equal; 0 asks for the same bits.
    tolerance: f64,
    /// Markers in whose place there is a NaN: some receivers show them so, others have lost their meaning.
    nan_markers: HashSet<(usize, i64)>,
    /// Markers in whose place there is something else: they have been counted.
    altered_markers: HashSet<(usize, i64)>,
    score: Score,
}

impl<'a, F: Fn(u64) -> Fate> Comparison<'a, F> {
    /// Begins with nothing found.
    pub fn new(expected: &'a [ExpectedSeries], fate: F, tolerance: f64) -> Comparison<'a, F> {
        let index = expected.iter().enumerate().map(|(at, series)| (series.labels.as_slice(), at)).collect();
        Comparison {
            expected,
            index,
            fate,
            tolerance,
            nan_markers: HashSet::new(),
            altered_markers: HashSet::new(),
            score: Score::default(),
        }
    }

    /// Compares one window with its answer, whose labels are already those of the stream.
    pub fn window(&mut self, window: Window, answer: Vec<FoundSeries>) {
        self.score.series_found += answer.len() as u64;
        let mut found: Vec<Option<Vec<FoundSample>>> = vec![None; self.expected.len()];
        for series in answer {
            let samples = self.in_window(window, &series.labels, series.samples);
            let Some(&at) = self.index.get(series.labels.as_slice()) else {
                self.unexpected_series(&series.labels, &samples);
                continue;
            };
            match &mut found[at] {
                None => found[at] = Some(samples),
                Some(first) => {
                    // Two series for one label set: what one of them lacks, the other may hold.
                    self.score.duplicated += samples.len() as u64;
                    self.score.example(format_args!(
                        "duplicated: {} is there twice, with {} and {} samples from {} to {}",
                        text_of(&series.labels),
                        first.len(),
                        samples.len(),
                        seconds(window.begin_ms),
                        seconds(window.end_ms),
                    ));
                    first.extend(samples);
                    first.sort_by_key(|sample| sample.timestamp_ms);
                    first.dedup_by_key(|sample| sample.timestamp_ms);
                }
            }
        }
        for (at, found) in found.into_iter().enumerate() {
            self.series(at, window, found.unwrap_or_default());
        }
    }

    /// Decides about stale markers: one is there if an instant query no longer finds its series.
    pub fn markers(&mut self, markers: &[Marker], answer: &[FoundSeries]) {
        let visible: HashSet<&[(String, String)]> =
            answer.iter().map(|series| series.labels.as_slice()).collect();
        let expected = self.expected;
        for Marker { series: at, sample } in markers {
            let (series, marker) = (&expected[*at], &expected[*at].samples[*sample]);
            if self.altered_markers.contains(&(*at, marker.timestamp_ms)) {
                continue;
            }
            if !visible.contains(series.labels.as_slice()) {
                self.present(*at, marker);
            } else if self.nan_markers.contains(&(*at, marker.timestamp_ms)) {
                self.altered(*at, marker, &FoundValue::Float(f64::NAN));
            } else {
                self.absent(*at, marker);
            }
        }
    }

    /// Counts stale markers that no query can show.
    pub fn markers_unchecked(&mut self, count: u64) {
        self.score.markers_unchecked += count;
    }

    /// The counts.
    pub fn finish(self) -> Score {
        self.score
    }

    /// Keeps the samples of the window, in order, each timestamp once; counts the copies.
    fn in_window(
        &mut self,
        window: Window,
        labels: &Labels,
        mut samples: Vec<FoundSample>,
    ) -> Vec<FoundSample> {
        samples.retain(|sample| window.contains(sample.timestamp_ms));
        samples.sort_by_key(|sample| sample.timestamp_ms);
        let score = &mut self.score;
        samples.dedup_by(|later, first| {
            let is_copy = later.timestamp_ms == first.timestamp_ms;
            if is_copy {
                score.duplicated += 1;
                score.example(format_args!(
                    "duplicated: {} at {}: {} and {}",
                    text_of(labels),
                    seconds(first.timestamp_ms),
                    text_of_found(&first.value),
                    text_of_found(&later.value),
                ));
            }
            is_copy
        });
        samples
    }

    fn unexpected_series(&mut self, labels: &Labels, samples: &[FoundSample]) {
        let Some(first) = samples.first() else { return };
        self.score.unexpected += samples.len() as u64;
        self.score.example(format_args!(
            "unexpected: series {} with {} samples, the first at {}: {}",
            text_of(labels),
            samples.len(),
            seconds(first.timestamp_ms),
            text_of_found(&first.value),
        ));
    }

    /// Walks the expected and the found samples of one series side by side.
    fn series(&mut self, at: usize, window: Window, found: Vec<FoundSample>) {
        let expected = self.expected;
        let series = &expected[at];
        let from = series.samples.partition_point(|sample| sample.timestamp_ms < window.begin_ms);
        let to = series.samples.partition_point(|sample| sample.timestamp_ms <= window.end_ms);
        let mut found = found.into_iter().peekable();
        for sample in &series.samples[from..to] {
            while let Some(extra) = found.next_if(|found| found.timestamp_ms < sample.timestamp_ms) {
                self.unexpected(series, &extra);
            }
            match found.next_if(|found| found.timestamp_ms == sample.timestamp_ms) {
                Some(found) if is_stale_marker(sample) && is_nan(&found.value) => {
                    self.nan_markers.insert((at, sample.timestamp_ms));
                }
                Some(found) if self.is_equal(sample, &found.value) => self.present(at, sample),
                Some(found) => self.altered(at, sample, &found.value),
                // Range selectors leave stale markers out; `marker` decides about them.
                None if is_stale_marker(sample) => {}
                None => self.absent(at, sample),
            }
        }
        for extra in found {
            self.unexpected(series, &extra);
        }
    }

    fn is_equal(&self, expected: &ExpectedSample, found: &FoundValue) -> bool {
        match (&expected.value, found) {
            (SampleValue::Float(expected), FoundValue::Float(found)) => {
                expected.to_bits() == found.to_bits()
                    || (expected.is_nan() && found.is_nan())
                    || (self.tolerance > 0.0
                        && (expected - found).abs() <= self.tolerance * expected.abs().max(found.abs()))
            }
            (SampleValue::Histogram(expected), FoundValue::Histogram(found)) => {
                answer::parse_histogram(expected).is_ok_and(|expected| expected == *found)
            }
            (SampleValue::Float(_), FoundValue::Histogram(_))
            | (SampleValue::Histogram(_), FoundValue::Float(_)) => false,
        }
    }

    fn present(&mut self, at: usize, sample: &ExpectedSample) {
        if matches!(sample.value, SampleValue::Histogram(_)) {
            self.score.histograms_found += 1;
        }
        match (self.fate)(sample.request) {
            Fate::Acknowledged => self.score.samples_checked += 1,
            Fate::Unknown | Fate::Refused => self.score.unknown_present += 1,
            Fate::NotSent => {
                self.score.unexpected += 1;
                self.score.example(format_args!(
                    "unexpected: {} at {}: {}, although request {} was never sent",
                    text_of(&self.expected[at].labels),
                    seconds(sample.timestamp_ms),
                    text_of_expected(&sample.value),
                    sample.request,
                ));
            }
        }
    }

    fn absent(&mut self, at: usize, sample: &ExpectedSample) {
        match (self.fate)(sample.request) {
            Fate::Acknowledged => {}
            Fate::Unknown | Fate::Refused => {
                self.score.unknown_absent += 1;
                return;
            }
            Fate::NotSent => return,
        }
        let is_histogram = matches!(sample.value, SampleValue::Histogram(_));
        let examples =
            if is_histogram { &mut self.score.histogram_examples } else { &mut self.score.examples };
        if examples.len() < EXAMPLES_MAX {
            examples.push(format!(
                "lost: {} at {}: {}, acknowledged in request {}",
                text_of(&self.expected[at].labels),
                seconds(sample.timestamp_ms),
                text_of_expected(&sample.value),
                sample.request,
            ));
        }
        if is_histogram {
            self.score.histograms_absent += 1;
        } else {
            self.score.samples_checked += 1;
            self.score.lost += 1;
        }
    }

    fn altered(&mut self, at: usize, sample: &ExpectedSample, found: &FoundValue) {
        if matches!(found, FoundValue::Histogram(_)) {
            self.score.histograms_found += 1;
        }
        if is_stale_marker(sample) {
            self.altered_markers.insert((at, sample.timestamp_ms));
        }
        if (self.fate)(sample.request) == Fate::Acknowledged {
            self.score.samples_checked += 1;
        }
        self.score.altered += 1;
        self.score.example(format_args!(
            "altered: {} at {}: {} was sent in request {}, {} is there",
            text_of(&self.expected[at].labels),
            seconds(sample.timestamp_ms),
            text_of_expected(&sample.value),
            sample.request,
            text_of_found(found),
        ));
    }

    fn unexpected(&mut self, series: &ExpectedSeries, extra: &FoundSample) {
        self.score.unexpected += 1;
        self.score.example(format_args!(
            "unexpected: {} at {}: {}",
            text_of(&series.labels),
            seconds(extra.timestamp_ms),
            text_of_found(&extra.value),
        ));
    }
}

/// Whether a sample ends its series.
pub fn is_stale_marker(sample: &ExpectedSample) -> bool {
    matches!(sample.value, SampleValue::Float(value) if value.to_bits() == STALE_NAN_BITS)
}

fn is_nan(found: &FoundValue) -> bool {
    matches!(found, FoundValue::Float(value) if value.is_nan())
}

fn text_of(labels: &Labels) -> String {
    let name = labels.iter().find(|(name, _)| name == "__name__").map_or("", |(_, value)| value);
    let mut text = format!("{name}{{");
    let others = labels.iter().filter(|(name, _)| name != "__name__");
    for (at, (name, value)) in others.enumerate() {
        let comma = if at > 0 { "," } else { "" };
        write!(text, "{comma}{name}={value:?}").expect("a String takes any text");
    }
    text.push('}');
    text
}

fn text_of_expected(value: &SampleValue) -> String {
    match value {
        SampleValue::Float(value) if value.to_bits() == STALE_NAN_BITS => "a stale marker".to_string(),
        SampleValue::Float(value) => value.to_string(),
        SampleValue::Histogram(text) => format!("the histogram {text}"),
    }
}

fn text_of_found(value: &FoundValue) -> String {
    match value {
        FoundValue::Float(value) => value.to_string(),
        FoundValue::Histogram(histogram) => format!(
            "a histogram with count {}, sum {} and {} buckets",
            histogram.count.0,
            histogram.sum.0,
            histogram.buckets.len()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::answer::{Histogram, Number};

    const WHOLE: Window = Window { begin_ms: 0, end_ms: 100_000 };

    fn labels(name: &str) -> Labels {
        vec![("__name__".to_string(), name.to_string()), ("job".to_string(), "a".to_string())]
    }

    fn expected(name: &str, values: &[f64]) -> ExpectedSeries {
        let samples = values.iter().enumerate().map(|(round, value)| ExpectedSample {
            timestamp_ms: 1000 * (round as i64 + 1),
            value: SampleValue::Float(*value),
            request: round as u64,
        });
        ExpectedSeries { labels: labels(name), samples: samples.collect() }
    }

    fn found(series: &ExpectedSeries) -> FoundSeries {
        let samples = series.samples.iter().filter(|sample| !is_stale_marker(sample));
        let samples = samples.map(|sample| FoundSample {
            timestamp_ms: sample.timestamp_ms,
            value: match &sample.value {
                SampleValue::Float(value) => FoundValue::Float(*value),
                SampleValue::Histogram(text) => FoundValue::Histogram(answer::parse_histogram(text).unwrap()),
            },
        });
        FoundSeries { labels: series.labels.clone(), samples: samples.collect() }
    }

    fn compare(expected: &[ExpectedSeries], answer: Vec<FoundSeries>) -> Score {
        let mut comparison = Comparison::new(expected, |_| Fate::Acknowledged, 0.0);
        comparison.window(WHOLE, answer);
        comparison.finish()
    }

    #[test]
    fn what_is_there_as_it_was_sent_is_no_difference() {
        let series = [expected("a", &[1.0, -0.0, f64::NAN, f64::INFINITY]), expected("b", &[2.0])];
        let score = compare(&series, series.iter().map(found).collect());
        assert_eq!(score.differences(), 0);
        assert_eq!(score.samples_checked, 5);
    }

    #[test]
    fn each_kind_of_difference_is_counted_as_what_it_is() {
        let series = [expected("a", &[1.0, 2.0, 3.0])];
        let plant = |change: fn(&mut Vec<FoundSeries>)| {
            let mut answer = vec![found(&series[0])];
            change(&mut answer);
            let score = compare(&series, answer);
            assert_eq!(score.examples.len() as u64, score.differences().min(1), "{:?}", score.examples);
            (score.lost, score.altered, score.duplicated, score.unexpected)
        };
        assert_eq!(plant(|answer| drop(answer[0].samples.remove(1))), (1, 0, 0, 0));
        assert_eq!(plant(|answer| answer[0].samples[1].value = FoundValue::Float(2.5)), (0, 1, 0, 0));
        let repeat = |answer: &mut Vec<FoundSeries>| {
            let copy = answer[0].samples[2].clone();
            answer[0].samples.push(copy);
        };
        assert_eq!(plant(repeat), (0, 0, 1, 0));
        let extra = |answer: &mut Vec<FoundSeries>| {
            answer[0].samples.insert(1, FoundSample { timestamp_ms: 1500, value: FoundValue::Float(2.0) });
        };
        assert_eq!(plant(extra), (0, 0, 0, 1));
        let foreign = |answer: &mut Vec<FoundSeries>| {
            let mut copy = answer[0].clone();
            copy.labels[1].1 = "b".to_string();
            answer.push(copy);
        };
        assert_eq!(plant(foreign), (0, 0, 0, 3));
        let twice = |answer: &mut Vec<FoundSeries>| {
            let copy = answer[0].clone();
            answer.push(copy);
        };
        assert_eq!(plant(twice), (0, 0, 3, 0));
    }

    #[test]
    fn a_sample_that_is_off_by_its_last_bit_is_altered_unless_tolerated() {
        let series = [expected("a", &[0.1])];
        let mut answer = found(&series[0]);
        answer.samples[0].value = FoundValue::Float(f64::from_bits(0.1f64.to_bits() + 1));
        assert_eq!(compare(&series, vec![answer.clone()]).altered, 1);
        let mut comparison = Comparison::new(&series, |_| Fate::Acknowledged, 1e-12);
        comparison.window(WHOLE, vec![answer]);
        assert_eq!(comparison.finish().differences(), 0);
    }

    #[test]
    fn the_fate_of_the_request_decides_what_absence_means() {
        let series = [expected("a", &[1.0, 2.0, 3.0, 4.0])];
        let fates = [Fate::Acknowledged, Fate::Unknown, Fate::Refused, Fate::NotSent];
        let compare = |answer| {
            let mut comparison = Comparison::new(&series, |request| fates[request as usize], 0.0);
            comparison.window(WHOLE, answer);
            comparison.finish()
        };
        let score = compare(vec![]);
        assert_eq!((score.lost, score.unknown_absent, score.unexpected), (1, 2, 0));
        let score = compare(vec![found(&series[0])]);
        assert_eq!((score.lost, score.unknown_present, score.unexpected), (0, 2, 1));
        assert_eq!(score.samples_checked, 1);
    }

    #[test]
    fn samples_outside_the_window_belong_to_another() {
        let series = [expected("a", &[1.0, 2.0, 3.0])];
        let mut comparison = Comparison::new(&series, |_| Fate::Acknowledged, 0.0);
        comparison.window(Window { begin_ms: 0, end_ms: 1999 }, vec![found(&series[0])]);
        comparison.window(Window { begin_ms: 2000, end_ms: 3000 }, vec![found(&series[0])]);
        let score = comparison.finish();
        assert_eq!((score.differences(), score.samples_checked), (0, 3));
    }

    #[test]
    fn a_stale_marker_is_judged_by_the_instant_query_alone() {
        let series = [expected("a", &[1.0, f64::from_bits(STALE_NAN_BITS)])];
        let run = |instant: &[FoundSeries]| {
            let mut comparison = Comparison::new(&series, |_| Fate::Acknowledged, 0.0);
            comparison.window(WHOLE, vec![found(&series[0])]);
            comparison.markers(&[Marker { series: 0, sample: 1 }], instant);
            comparison.finish()
        };
        assert_eq!((run(&[]).differences(), run(&[]).samples_checked), (0, 2));
        assert_eq!(run(&[found(&series[0])]).lost, 1);
    }

    #[test]
    fn a_stale_marker_that_became_an_ordinary_nan_is_altered_once() {
        let series = [expected("a", &[1.0, f64::from_bits(STALE_NAN_BITS)])];
        let mut answer = found(&series[0]);
        answer.samples.push(FoundSample { timestamp_ms: 2000, value: FoundValue::Float(f64::NAN) });
        let mut comparison = Comparison::new(&series, |_| Fate::Acknowledged, 0.0);
        comparison.window(WHOLE, vec![answer]);
        comparison.markers(&[Marker { series: 0, sample: 1 }], &[found(&series[0])]);
        let score = comparison.finish();
        assert_eq!((score.altered, score.lost, score.samples_checked), (1, 0, 2));
    }

    #[test]
    fn histograms_are_compared_by_count_sum_and_buckets() {
        let mut series = expected("a", &[0.0]);
        let text = r#"{"count":"3","sum":"1.5","buckets":[[0,"0.5","1","3"]]}"#;
        series.samples[0].value = SampleValue::Histogram(text.into());
        let series = [series];
        let score = compare(&series, vec![found(&series[0])]);
        assert_eq!((score.differences(), score.histograms_found, score.samples_checked), (0, 1, 1));
        let mut answer = found(&series[0]);
        answer.samples[0].value =
            FoundValue::Histogram(Histogram { count: Number(3.0), sum: Number(1.5), buckets: vec![] });
        assert_eq!(compare(&series, vec![answer]).altered, 1);
        let score = compare(&series, vec![]);
        assert_eq!((score.lost, score.histograms_absent, score.histogram_examples.len()), (0, 1, 1));
    }

    #[test]
    fn examples_name_series_time_and_values() {
        let series = [expected("a", &[1.0])];
        let score = compare(&series, vec![]);
        assert_eq!(score.examples, [r#"lost: a{job="a"} at 1.000: 1, acknowledged in request 0"#]);
    }
}
