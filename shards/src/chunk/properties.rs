//! What holds for every sequence of histograms, and for every sequence of bytes.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::histogram_appender::Appender;
use super::histogram_check::check_shape;
use super::histogram_spans::same_counts;
use super::histogram_track::{Float, Integer, Kind, Sample};
use super::*;

/// What happens to a series between two samples.
#[derive(Debug, Clone)]
enum Event {
    /// Buckets get observations: whether above zero, where, how many (none adds an empty bucket).
    Observe(Vec<(bool, i32, u32)>),
    /// Some buckets go back or go away.
    Fall(u8),
    /// Another exponential schema and zero threshold.
    Schema(i32, f64),
    /// Other custom bounds.
    Bounds(Vec<f64>),
    /// From gauge to counter, or back.
    TurnGauge,
    /// The next sample has a hint of its own.
    Hint(ResetHint),
    /// The next sample is a stale marker.
    Stale,
}

fn any_event() -> impl Strategy<Value = Event> {
    let observations = proptest::collection::vec((any::<bool>(), -12..12i32, 0..2000u32), 0..6);
    prop_oneof![
        8 => observations.prop_map(Event::Observe),
        1 => any::<u8>().prop_map(Event::Fall),
        1 => (SCHEMA_MIN..=SCHEMA_MAX, any::<f64>()).prop_map(|(schema, at)| Event::Schema(schema, at)),
        1 => proptest::collection::btree_set(0u32..50_000_000, 0..6)
            .prop_map(|bounds| Event::Bounds(bounds.into_iter().map(|at| f64::from(at) / 1000.0).collect())),
        1 => Just(Event::TurnGauge),
        1 => prop_oneof![Just(ResetHint::Yes), Just(ResetHint::No)].prop_map(Event::Hint),
        1 => Just(Event::Stale),
    ]
}

/// Samples of a series with integer counts. Their sums may be any float.
fn any_histograms() -> impl Strategy<Value = Vec<(i64, Histogram)>> {
    let delta_ms = prop_oneof![Just(15_000i64), 0..100_000i64, 0..i64::MAX >> 8];
    let steps = proptest::collection::vec((any_event(), delta_ms, any::<f64>()), 1..40);
    (any::<i64>().prop_map(|at| at >> 3), steps).prop_map(|(start_ms, steps)| {
        let (mut time_ms, mut state) = (start_ms, Histogram::default());
        let mut counts = [BTreeMap::<i32, i64>::new(), BTreeMap::new()];
        let mut samples = Vec::new();
        for (event, delta_ms, sum) in steps {
            let mut hint = state.reset_hint;
            let mut is_stale = false;
            match event {
                Event::Observe(observations) => {
                    for (is_positive, index, count) in observations {
                        if state.has_custom_buckets() {
                            let index = index.rem_euclid(state.custom_values.len() as i32 + 1);
                            *counts[0].entry(index).or_default() += i64::from(count);
                        } else {
                            *counts[usize::from(is_positive)].entry(index).or_default() += i64::from(count);
                            state.zero_count += u64::from(count % 3);
                        }
                    }
                }
                Event::Fall(which) => {
                    for side in &mut counts {
                        side.retain(|index, count| {
                            *count >>= u32::from(index.rem_euclid(5) == i32::from(which % 5));
                            index.rem_euclid(7) != i32::from(which % 7)
                        });
                    }
                }
                Event::Schema(schema, zero_threshold) => {
                    let reset_hint = state.reset_hint;
                    state = Histogram { schema, zero_threshold, reset_hint, ..Histogram::default() };
                    counts = Default::default();
                }
                Event::Bounds(custom_values) => {
                    let reset_hint = state.reset_hint;
                    state = Histogram {
                        schema: SCHEMA_CUSTOM,
                        custom_values,
                        reset_hint,
                        ..Histogram::default()
                    };
                    counts = Default::default();
                }
                Event::TurnGauge => {
                    let is_gauge = state.reset_hint == ResetHint::Gauge;
                    state.reset_hint = if is_gauge { ResetHint::Unknown } else { ResetHint::Gauge };
                    hint = state.reset_hint;
                }
                Event::Hint(other) => hint = other,
                Event::Stale => is_stale = true,
            }
            let mut sample = Histogram { reset_hint: hint, sum, ..state.clone() };
            (sample.positive, sample.negative) = (buckets(&counts[0]), buckets(&counts[1]));
            let all: i64 = counts.iter().flat_map(BTreeMap::values).sum();
            sample.count = all as u64 + sample.zero_count;
            samples.push((time_ms, if is_stale { Histogram::stale() } else { sample }));
            time_ms = time_ms.saturating_add(delta_ms);
        }
        samples
    })
}

fn buckets(counts: &BTreeMap<i32, i64>) -> Buckets<i64> {
    let (mut buckets, mut next, mut before) = (Buckets::default(), 0, 0);
    for (index, count) in counts {
        match buckets.spans.last_mut() {
            Some(Span { length, .. }) if *index == next => *length += 1,
            _ => buckets.spans.push(Span { offset: index - next, length: 1 }),
        }
        buckets.values.push(count - before);
        (next, before) = (index + 1, *count);
    }
    buckets
}

/// Appends all samples; returns the finished chunks, and the appender with the open one.
fn encode<K: Kind>(samples: &[(i64, Sample<K>)]) -> (Vec<Box<[u8]>>, Appender<K>) {
    let (mut appender, mut finished) = (Appender::<K>::default(), Vec::new());
    for (timestamp_ms, sample) in samples {
        let fit = appender.fit(sample);
        let appended = appender.append(*timestamp_ms, sample).unwrap();
        assert!(appender.repeats(sample) && appender.last_ms() == *timestamp_ms);
        match (appended, fit) {
            (Appended::Cut(chunk), Fit::Cut) => finished.push(chunk),
            (Appended::AsIs, Fit::AsIs) | (Appended::Recoded, Fit::Recode { .. }) => {}
            other => panic!("what was foretold is not what happened: {other:?}"),
        }
    }
    (finished, appender)
}

/// Samples with their times.
type Samples<K> = Vec<(i64, Sample<K>)>;

fn decoded<K: Kind>(bytes: &[u8]) -> (Samples<K>, Result<(), ChunkError>) {
    let mut samples = Vec::new();
    let result = histogram_decoder::decode::<K>(Encoding::Histogram, bytes, |timestamp_ms, sample| {
        samples.push((timestamp_ms, sample.clone()));
        true
    });
    (samples, result)
}

/// Whether a sample came back; it may have been given empty buckets.
fn is_same<K: Kind>((got_ms, got): &(i64, Sample<K>), (timestamp_ms, sample): &(i64, Sample<K>)) -> bool {
    got_ms == timestamp_ms
        && got.sum.to_bits() == sample.sum.to_bits()
        && got.schema == sample.schema
        && got.zero_threshold == sample.zero_threshold
        && K::same_count(got.count, sample.count)
        && K::same_count(got.zero_count, sample.zero_count)
        && got.custom_values == sample.custom_values
        && same_counts::<K>(&got.positive, &sample.positive)
        && same_counts::<K>(&got.negative, &sample.negative)
        && (sample.is_stale()
            || (got.reset_hint == ResetHint::Gauge) == (sample.reset_hint == ResetHint::Gauge))
}

fn assert_comes_back<K: Kind>(samples: &[(i64, Sample<K>)]) {
    let (finished, open) = encode::<K>(samples);
    let mut got = Vec::new();
    for chunk in finished.iter().map(|chunk| &chunk[..]).chain([open.bytes()]) {
        let (samples, result) = decoded::<K>(chunk);
        assert_eq!(result, Ok(()));
        got.extend(samples);
    }
    assert_eq!(got.len(), samples.len());
    for (got, sample) in got.iter().zip(samples) {
        assert!(is_same::<K>(got, sample), "{sample:?} became {got:?}");
    }
}

fn assert_resumes<K: Kind>(samples: &[(i64, Sample<K>)], at: usize) {
    let (_, whole) = encode::<K>(samples);
    let (_, mut resumed) = encode::<K>(&samples[..at]);
    resumed = Appender::resume(resumed.bytes().to_vec()).unwrap();
    for (timestamp_ms, sample) in &samples[at..] {
        resumed.append(*timestamp_ms, sample).unwrap();
    }
    assert_eq!(resumed.bytes(), whole.bytes());
}

fn assert_cut_is_noticed<K: Kind>(samples: &[(i64, Sample<K>)], cut: prop::sample::Index) {
    let (_, open) = encode::<K>(samples);
    let (all, _) = decoded::<K>(open.bytes());
    let (got, result) = decoded::<K>(&open.bytes()[..cut.index(open.bytes().len())]);
    assert!(result.is_err());
    for (got, sample) in got.iter().zip(&all) {
        assert!(is_same::<K>(got, sample), "{sample:?} became {got:?}");
    }
}

/// Reads bytes in every way, and appends to them if they are a chunk.
fn assert_survives<K: Kind>(bytes: &[u8], samples: &[(i64, Sample<K>)]) {
    for byte in 0..=u8::MAX {
        if let Some(encoding) = Encoding::from_byte(byte) {
            assert_eq!(encoding as u8, byte);
            let _ = decode(encoding, bytes, |_, _| {});
            let _ = decode_values(encoding, bytes, |_, value| match value {
                Value::Float(_) => {}
                Value::Histogram(sample) => assert_eq!(check_shape(sample), Ok(())),
                Value::FloatHistogram(sample) => assert_eq!(check_shape(sample), Ok(())),
            });
        }
    }
    if let Ok(mut appender) = Appender::<K>::resume(bytes.to_vec()) {
        for (timestamp_ms, sample) in samples {
            appender.append(*timestamp_ms, sample).unwrap();
            assert_eq!(decoded::<K>(appender.bytes()).1, Ok(()));
        }
    }
}

fn floats(samples: Vec<(i64, Histogram)>, scale: f64) -> Vec<(i64, FloatHistogram)> {
    let scaled = |(timestamp_ms, sample): (i64, Histogram)| {
        let mut sample = FloatHistogram::from(&sample);
        sample.count *= scale;
        for count in sample.positive.values.iter_mut().chain(&mut sample.negative.values) {
            *count *= scale;
        }
        (timestamp_ms, sample)
    };
    samples.into_iter().map(scaled).collect()
}

/// Spans, buckets and bounds that need not fit each other.
fn any_junk() -> impl Strategy<Value = Histogram> {
    let offset = prop_oneof![-3..3i32, any::<i32>()];
    let length = prop_oneof![0..3u32, any::<u32>()];
    let spans = proptest::collection::vec((offset, length), 0..4);
    let side = || {
        let values = proptest::collection::vec(any::<i64>(), 0..5);
        (spans.clone(), values).prop_map(|(spans, values)| {
            let spans = spans.into_iter().map(|(offset, length)| Span { offset, length }).collect();
            Buckets { spans, values }
        })
    };
    let schema = prop_oneof![Just(SCHEMA_CUSTOM), -10..60i32, any::<i32>()];
    let bounds = proptest::collection::vec(any::<f64>(), 0..4);
    (schema, any::<f64>(), any::<u64>(), side(), side(), bounds).prop_map(
        |(schema, zero_threshold, count, positive, negative, custom_values)| Histogram {
            schema,
            zero_threshold,
            count,
            positive,
            negative,
            custom_values,
            ..Histogram::default()
        },
    )
}

proptest! {
    #[test]
    fn decoding_returns_what_was_appended(samples in any_histograms(), scale in 0.1f64..9.0) {
        assert_comes_back::<Integer>(&samples);
        assert_comes_back::<Float>(&floats(samples, scale));
    }

    #[test]
    fn a_resumed_chunk_goes_on_with_the_same_bits(samples in any_histograms(), at in any::<prop::sample::Index>()) {
        prop_assume!(samples.len() >= 2);
        let at = 1 + at.index(samples.len() - 1);
        assert_resumes::<Integer>(&samples, at);
        assert_resumes::<Float>(&floats(samples, 1.1), at);
    }

    #[test]
    fn a_cut_chunk_yields_the_samples_before_the_cut(samples in any_histograms(), cut in any::<prop::sample::Index>()) {
        assert_cut_is_noticed::<Integer>(&samples, cut);
        assert_cut_is_noticed::<Float>(&floats(samples, 1.1), cut);
    }

    #[test]
    fn random_bytes_end_in_a_result(bytes in proptest::collection::vec(any::<u8>(), 0..200), samples in any_histograms()) {
        assert_survives::<Integer>(&bytes, &samples);
        assert_survives::<Float>(&bytes, &floats(samples, 1.1));
    }

    #[test]
    fn a_damaged_chunk_ends_in_a_result(
        samples in any_histograms(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        later in any_histograms(),
    ) {
        let damaged = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            for (at, byte) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            bytes
        };
        assert_survives::<Integer>(&damaged(encode::<Integer>(&samples).1.bytes()), &later);
        let samples = floats(samples, 1.1);
        assert_survives::<Float>(&damaged(encode::<Float>(&samples).1.bytes()), &floats(later, 1.1));
    }

    #[test]
    fn a_sample_that_does_not_fit_itself_leaves_the_chunk_as_it_was(
        samples in any_histograms(),
        junk in proptest::collection::vec(any_junk(), 1..5),
    ) {
        let (_, mut appender) = encode::<Integer>(&samples);
        for sample in junk {
            let before = appender.bytes().to_vec();
            let _ = appender.fit(&sample);
            let is_sound = sample.validate().is_ok();
            let result = appender.append(appender.last_ms(), &sample);
            prop_assert!(result.is_ok() || !is_sound && appender.bytes() == before);
            prop_assert_eq!(decoded::<Integer>(appender.bytes()).1, Ok(()));
        }
    }

    #[test]
    fn a_coarser_schema_keeps_every_observation(samples in any_histograms(), schema in SCHEMA_MAX..=SCHEMA_MAX_RESERVED) {
        for (_, mut sample) in samples {
            if sample.is_stale() || sample.has_custom_buckets() {
                continue;
            }
            sample.schema = schema;
            let mut float = FloatHistogram::from(&sample);
            sample.reduce_to_accepted_schema();
            float.reduce_to_accepted_schema();
            prop_assert_eq!(sample.schema, SCHEMA_MAX);
            prop_assert_eq!(sample.validate(), Ok(()));
            prop_assert_eq!(FloatHistogram::from(&sample).positive, float.positive);
        }
    }
}

#[test]
fn buckets_that_are_only_announced_are_not_allocated() {
    // One sample; threshold 0, schema 0, one positive span of 2^32 - 1 buckets, then nothing.
    let mut bytes = vec![0, 1, 0];
    use super::bits::PutBits;
    let mut writer = bits::BitWriter::new(&mut bytes, 0);
    writer.put(0, 8);
    varbit::put_varbit(&mut writer, 0);
    varbit::put_uvarbit(&mut writer, 1);
    varbit::put_uvarbit(&mut writer, u64::from(u32::MAX));
    varbit::put_varbit(&mut writer, 0);
    varbit::put_uvarbit(&mut writer, 0);
    writer.finish();
    let truncated = Err(ChunkError::Truncated { sample: 0, count: 1 });
    assert_eq!(decoded::<Integer>(&bytes).1, truncated);
    assert_eq!(decoded::<Float>(&bytes).1, truncated);
}

#[test]
fn a_full_chunk_is_cut_and_the_counters_go_on() {
    let sample = Histogram { count: 1, zero_count: 1, ..Histogram::default() };
    let mut appender = HistogramAppender::default();
    for timestamp_ms in 0..i64::from(u16::MAX) {
        assert_eq!(appender.append(timestamp_ms, &sample), Ok(Appended::AsIs));
    }
    assert_eq!(appender.fit(&sample), Fit::Cut);
    let Ok(Appended::Cut(full)) = appender.append(i64::from(u16::MAX), &sample) else {
        panic!("the chunk has more samples than its header can say");
    };
    assert_eq!(decoded::<Integer>(&full).0.len(), usize::from(u16::MAX));
    assert_eq!(appender.bytes()[..3], [0, 1, 0b0100_0000], "there was no counter reset");
}
