//! Series of floats and native histograms, against a simple model, over checkpoints and the WAL.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::STALE_NAN_BITS;
use crate::chunk::{
    AnyHistogram, Buckets, Encoding, FloatHistogram, Histogram, ResetHint, Span, Value, decode_values,
};
use crate::wal::{Encoder, ExemplarRecord, MetadataRecord, RecordVisitor, decode as decode_records};

const WINDOW_MS: i64 = 600_000;
const RULES: Rules = Rules::replay(WINDOW_MS);
const TENANT: &str = "team";
const SERIES_COUNT: u32 = 3;

/// What is sent, or stored.
#[derive(Debug, Clone, PartialEq)]
enum Sample {
    Float(f64),
    Histogram(AnyHistogram),
}

impl Sample {
    fn value(&self) -> Value<'_> {
        match self {
            Sample::Float(value) => Value::Float(*value),
            Sample::Histogram(histogram) => histogram.value(),
        }
    }

    fn of(value: Value<'_>) -> Sample {
        match value {
            Value::Float(value) => Sample::Float(value),
            Value::Histogram(histogram) => Sample::Histogram(AnyHistogram::Integer(histogram.clone())),
            Value::FloatHistogram(histogram) => Sample::Histogram(AnyHistogram::Float(histogram.clone())),
        }
    }
}

/// A histogram whose buckets and counts follow from a number: sets of buckets grow, shrink and change.
fn histogram(number: u32) -> Histogram {
    let (mut buckets, mut next, mut before, mut count) = (Buckets::default(), 0, 0, 0);
    for index in (0..12).filter(|index| number >> index & 1 == 1) {
        match buckets.spans.last_mut() {
            Some(Span { length, .. }) if index == next => *length += 1,
            _ => buckets.spans.push(Span { offset: index - next, length: 1 }),
        }
        let own = i64::from(number % 5);
        buckets.values.push(own - before);
        (next, before) = (index + 1, own);
        count += own as u64;
    }
    let reset_hint = if number.is_multiple_of(11) { ResetHint::Gauge } else { ResetHint::Unknown };
    Histogram { reset_hint, count, sum: f64::from(number), positive: buckets, ..Histogram::default() }
}

fn any_sample() -> impl Strategy<Value = Sample> {
    let histogram = prop_oneof![Just(0xfffu32), 0u32..4096].prop_map(histogram);
    let any = (histogram, any::<bool>()).prop_map(|(histogram, is_float)| match is_float {
        true => AnyHistogram::Float(FloatHistogram::from(&histogram)),
        false => AnyHistogram::Integer(histogram),
    });
    prop_oneof![
        3 => (0u32..4).prop_map(|value| Sample::Float(f64::from(value))),
        1 => Just(Sample::Float(f64::from_bits(STALE_NAN_BITS))),
        1 => Just(Sample::Histogram(AnyHistogram::Integer(Histogram::stale()))),
        8 => any.prop_map(Sample::Histogram),
    ]
}

/// Samples of one kind stand together, as they do in life: the series, their number, by how far time goes on, and one.
fn any_steps() -> impl Strategy<Value = Vec<(u32, i64, Sample)>> {
    let step = prop_oneof![8 => 1i64..30, 1 => -300i64..1, 1 => Just(0), 1 => 300i64..900];
    let run = (0..SERIES_COUNT, 1usize..40, step, any_sample());
    proptest::collection::vec(run, 1..40).prop_map(|runs| {
        let mut steps = Vec::new();
        for (series, count, step, sample) in runs {
            let count = if step > 0 { count } else { count % 6 };
            steps.extend((0..count).map(|_| (series, step * 1000, sample.clone())));
        }
        steps
    })
}

type Model = BTreeMap<(u32, i64), Sample>;

/// What the head has to answer, and what is then stored.
fn expect(model: &mut Model, series: u32, time_ms: i64, sample: &Sample) -> Result<Appended, AppendError> {
    if let Some(stored) = model.get(&(series, time_ms)) {
        return if stored.value().is_repeated_by(sample.value()) {
            Ok(Appended::Repeat)
        } else {
            Err(AppendError::Conflict { timestamp_ms: time_ms })
        };
    }
    let newest = model.range((series, i64::MIN)..=(series, i64::MAX)).next_back();
    let is_late = newest.is_some_and(|((_, newest_ms), _)| time_ms < *newest_ms);
    let stale = match (newest, sample) {
        (Some((_, Sample::Histogram(newest))), Sample::Float(value))
            if crate::is_stale(*value) && !is_late =>
        {
            Some(match newest {
                AnyHistogram::Integer(_) => AnyHistogram::Integer(Histogram::stale()),
                AnyHistogram::Float(_) => AnyHistogram::Float(FloatHistogram::stale()),
            })
        }
        _ => None,
    };
    let stored = stale.map_or_else(|| sample.clone(), Sample::Histogram);
    model.insert((series, time_ms), stored);
    Ok(if is_late { Appended::Late } else { Appended::Stored })
}

fn empty_head() -> Head {
    let mut head = Head::default();
    for number in 0..SERIES_COUNT {
        let value = number.to_string();
        let labels = [("__name__", "x"), ("number", value.as_str())];
        head.create(SeriesKey(u128::from(number) + 1), TENANT, &labels).unwrap();
    }
    head
}

fn append(head: &mut Head, series: u32, time_ms: i64, sample: &Sample) -> Result<Appended, AppendError> {
    match sample {
        Sample::Float(value) => head.append(SeriesIndex(series), time_ms, *value, &RULES, &()),
        Sample::Histogram(histogram) => {
            head.append_histogram(SeriesIndex(series), time_ms, histogram, &RULES, &())
        }
    }
}

/// What a reader gets, at equal times the first.
fn content(head: &Head) -> Model {
    let tenant: Arc<str> = Arc::from(TENANT);
    let mut content = Model::new();
    for series in 0..SERIES_COUNT {
        let read = head.read(&tenant, series, i64::MIN, i64::MAX, false);
        for chunk in read.into_iter().flat_map(|read| read.chunks) {
            let bytes = chunk.bytes.loaded().unwrap();
            let (mut first_ms, mut last_ms) = (None, None);
            decode_values(chunk.encoding, bytes, |time_ms, value| {
                first_ms = first_ms.or(Some(time_ms));
                last_ms = Some(time_ms);
                content.entry((series, time_ms)).or_insert_with(|| Sample::of(value));
            })
            .unwrap();
            assert_eq!((first_ms, last_ms), (Some(chunk.min_ms), Some(chunk.max_ms)));
        }
    }
    content
}

fn assert_content(head: &Head, model: &Model) {
    let content = content(head);
    assert_eq!(content.keys().collect::<Vec<_>>(), model.keys().collect::<Vec<_>>());
    for ((place, got), expected) in content.iter().zip(model.values()) {
        assert!(got.value().is_repeated_by(expected.value()), "{place:?}: {got:?}, and {expected:?}");
        assert_eq!(matches!(got, Sample::Float(_)), matches!(expected, Sample::Float(_)), "{place:?}");
    }
}

struct Replayed<'a>(&'a mut Head);

impl RecordVisitor for Replayed<'_> {
    fn series(&mut self, _: u32, _: &str, _: &[u8]) {}

    fn sample(&mut self, reference: u32, timestamp_ms: i64, value: f64) {
        self.0.replay(SeriesIndex(reference), timestamp_ms, value, WINDOW_MS).unwrap();
    }

    fn histogram(&mut self, reference: u32, timestamp_ms: i64, histogram: &AnyHistogram) {
        self.0.replay_histogram(SeriesIndex(reference), timestamp_ms, histogram, WINDOW_MS).unwrap();
    }

    fn bounds(&mut self, _: &str, _: i64, _: i64) {}

    fn exemplar(&mut self, _: ExemplarRecord<'_>) {}

    fn metadata(&mut self, _: MetadataRecord<'_>) {}
}

fn loaded(head: &Head) -> Head {
    let mut loaded = Head::new(Rc::clone(head.log()));
    let (mut writer, mut page, mut loader) = (ImageWriter::default(), Vec::new(), ImageLoader::default());
    while writer.page(head, &mut page) {
        loader.page(&mut loaded, 1, &page).unwrap();
    }
    assert_eq!(loaded.sample_bytes(), head.sample_bytes());
    loaded
}

proptest! {
    #[test]
    fn a_head_with_histograms_is_its_accepted_samples_after_any_recovery(
        steps in any_steps(),
        checkpoint_at in any::<proptest::sample::Index>(),
        replay_from in any::<proptest::sample::Index>(),
    ) {
        let (mut head, mut model, mut time_ms) = (empty_head(), Model::new(), [1_700_000_000_000i64; 3]);
        let checkpoint_at = checkpoint_at.index(steps.len() + 1);
        // What is in the checkpoint may come again, in the frame that was being filled.
        let replay_from = replay_from.index(checkpoint_at + 1);
        let (mut all, mut rest, mut image) = (Encoder::default(), Encoder::default(), None);
        for (at, (series, step_ms, sample)) in steps.iter().enumerate() {
            if at == checkpoint_at {
                image = Some(loaded(&head));
            }
            time_ms[*series as usize] += step_ms;
            let time_ms = time_ms[*series as usize];
            let expected = expect(&mut model, *series, time_ms, sample);
            let before = head.sample_bytes();
            let appended = append(&mut head, *series, time_ms, sample);
            prop_assert_eq!(&appended, &expected);
            if !matches!(appended, Ok(Appended::Stored | Appended::Late)) {
                prop_assert_eq!(head.sample_bytes(), before);
                continue;
            }
            for (from, records) in [(0, &mut all), (replay_from, &mut rest)] {
                match sample {
                    _ if at < from => {}
                    Sample::Float(value) => records.sample(*series, time_ms, *value),
                    Sample::Histogram(histogram) => records.histogram(*series, time_ms, histogram),
                }
            }
        }
        assert_content(&head, &model);
        assert_content(&loaded(&head), &model);
        let mut replayed = empty_head();
        decode_records(all.bytes(), &mut Replayed(&mut replayed)).unwrap();
        assert_content(&replayed, &model);
        prop_assert_eq!(replayed.sample_bytes(), head.sample_bytes());
        replayed.audit().unwrap();
        let mut recovered = image.unwrap_or_else(|| loaded(&head));
        decode_records(rest.bytes(), &mut Replayed(&mut recovered)).unwrap();
        assert_content(&recovered, &model);
        let mut sweep = Sweep::new(&replayed, TENANT, i64::MAX).unwrap();
        while !sweep.step(&mut replayed).unwrap() {}
        let log = replayed.log().borrow();
        prop_assert_eq!((replayed.sample_bytes(), log.live_count()), (log.pending_bytes(), 0));
    }
}

/// The chunks of one series: encoding, first and last time.
fn chunks(head: &Head) -> Vec<(Encoding, i64, i64)> {
    let read = head.read(&Arc::from(TENANT), 0, i64::MIN, i64::MAX, false).unwrap();
    read.chunks.iter().map(|chunk| (chunk.encoding, chunk.min_ms, chunk.max_ms)).collect()
}

/// A histogram of so many buckets whose counts alternate, which takes the most bits.
fn large_histogram(bucket_count: u32) -> Sample {
    let wide = 1 << 40;
    let values = (0..bucket_count).map(|at| if at % 2 == 0 { wide } else { -wide }).collect();
    Sample::Histogram(AnyHistogram::Integer(Histogram {
        reset_hint: ResetHint::Gauge,
        count: u64::MAX,
        positive: Buckets { spans: vec![Span { offset: 0, length: bucket_count }], values },
        ..Histogram::default()
    }))
}

#[test]
fn a_large_late_histogram_before_a_small_one_is_loaded() {
    let mut head = empty_head();
    let small = Sample::Histogram(AnyHistogram::Integer(histogram(7)));
    append(&mut head, 0, 1000, &small).unwrap();
    append(&mut head, 0, 500, &small).unwrap();
    append(&mut head, 0, 400, &large_histogram(15_000)).unwrap();
    let late = head.series[0].late().unwrap();
    assert!(late.histograms()[0].bytes.len() > 64 << 10 && late.histograms().len() == 2);
    assert_eq!(content(&loaded(&head)), content(&head));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn late_histograms_of_any_size_are_loaded(
        steps in proptest::collection::vec((0i64..100, prop_oneof![3 => 1u32..100, 1 => 2000u32..9000]), 1..50),
    ) {
        let mut head = empty_head();
        append(&mut head, 0, 1000, &large_histogram(1)).unwrap();
        for (at, (time_ms, bucket_count)) in steps.into_iter().enumerate() {
            let _ = append(&mut head, 0, time_ms, &large_histogram(bucket_count));
            if at % 8 == 7 {
                prop_assert_eq!(content(&loaded(&head)), content(&head));
            }
        }
        prop_assert_eq!(content(&loaded(&head)), content(&head));
    }
}

#[test]
fn a_chunk_ends_where_the_kind_changes() {
    let mut head = empty_head();
    let integer = Sample::Histogram(AnyHistogram::Integer(histogram(7)));
    let float = Sample::Histogram(AnyHistogram::Float(FloatHistogram::from(&histogram(7))));
    let stale = Sample::Float(f64::from_bits(STALE_NAN_BITS));
    let samples =
        [&Sample::Float(1.0), &integer, &integer, &stale, &float, &stale, &Sample::Float(1.0), &stale];
    for (time_ms, sample) in (0..).zip(samples) {
        assert_eq!(append(&mut head, 0, time_ms, sample), Ok(Appended::Stored));
        assert_eq!(append(&mut head, 0, time_ms, sample), Ok(Appended::Repeat));
    }
    let (xor, integer, float) = (Encoding::Xor, Encoding::Histogram, Encoding::FloatHistogram);
    // The stale markers after histograms are histograms.
    assert_eq!(chunks(&head), [(xor, 0, 0), (integer, 1, 3), (float, 4, 5), (xor, 6, 7)]);
}

#[test]
fn chunks_of_histograms_end_by_size_with_their_window_and_at_a_reset() {
    let mut head = empty_head();
    let sample = |count: u64| {
        let buckets = Buckets { spans: vec![Span { offset: 0, length: 40 }], values: vec![0; 40] };
        let mut histogram = Histogram { positive: buckets, ..Histogram::default() };
        (histogram.positive.values[0], histogram.count) = (count as i64, 40 * count);
        Sample::Histogram(AnyHistogram::Integer(histogram))
    };
    for step in 0..500 {
        let count = if step < 400 { 1 << (step % 40) << (step / 40) } else { step as u64 + 1000 };
        append(&mut head, 0, step * 5000, &sample(count)).unwrap();
    }
    let chunks = chunks(&head);
    assert!(chunks.len() > 10, "{chunks:?}");
    for (encoding, min_ms, max_ms) in &chunks {
        assert_eq!(*encoding, Encoding::Histogram);
        assert_eq!(window_of(*min_ms, WINDOW_MS), window_of(*max_ms, WINDOW_MS));
    }
    // Forty times the count rises, then it falls.
    assert!(chunks.iter().any(|(_, min_ms, _)| *min_ms == 40 * 5000), "{chunks:?}");
}

#[test]
fn a_chunk_stays_below_its_bound_however_its_buckets_grow() {
    let mut head = empty_head();
    let (count, wide) = (crate::wire::BUCKETS_MAX as i32, 1 << 40);
    for step in 0..30 {
        // Each has buckets that no other has; counts that alternate take the most bits.
        let spans =
            (0..count).map(|at| Span { offset: if at == 0 { step } else { 29 }, length: 1 }).collect();
        let values = (0..count).map(|at| if at % 2 == 0 { wide } else { -wide }).collect();
        let histogram = Histogram {
            reset_hint: ResetHint::Gauge,
            count: u64::MAX,
            positive: Buckets { spans, values },
            ..Histogram::default()
        };
        let sample = Sample::Histogram(AnyHistogram::Integer(histogram));
        assert_eq!(append(&mut head, 0, i64::from(step), &sample), Ok(Appended::Stored));
    }
    let read = head.read(&Arc::from(TENANT), 0, 0, 100, false).unwrap();
    let longest = read.chunks.iter().map(|chunk| chunk.bytes.len()).max().unwrap();
    assert!(longest < 4 << 20 && read.chunks.len() >= 3, "{longest} bytes, {} chunks", read.chunks.len());
}

#[test]
fn buckets_that_no_other_sample_has_do_not_pile_up_in_one_chunk() {
    let (mut head, count) = (empty_head(), 16_000);
    for step in 0..10 {
        let spans = vec![Span { offset: step * 20_000, length: count }];
        let positive = Buckets { spans, values: vec![0; count as usize] };
        let sample = Sample::Histogram(AnyHistogram::Integer(Histogram { positive, ..Histogram::default() }));
        assert_eq!(append(&mut head, 0, i64::from(step), &sample), Ok(Appended::Stored));
    }
    assert_eq!(chunks(&head).len(), 10);
    assert!(head.sample_bytes() < 400_000, "{} bytes", head.sample_bytes());
}

#[test]
fn the_work_for_an_old_sample_is_told_and_ends_at_its_time() {
    let mut head = empty_head();
    for step in 0..10 {
        append(&mut head, 0, step * 100, &large_histogram(1000)).unwrap();
    }
    head.take_work();
    assert_eq!(append(&mut head, 0, 100, &Sample::Float(1.0)).map_err(drop), Err(()));
    assert_eq!(head.take_work(), 2 * 1001);
    assert_eq!(append(&mut head, 0, 250, &large_histogram(1)), Ok(Appended::Late));
    assert_eq!(head.take_work(), 4 * 1001);
    // Two more buckets: both samples of the chunk are decoded and encoded with six.
    let mut head = empty_head();
    append(&mut head, 0, 0, &large_histogram(4)).unwrap();
    head.take_work();
    append(&mut head, 0, 1, &large_histogram(6)).unwrap();
    assert_eq!(head.take_work(), 2 * 2 * 6);
}

#[test]
fn an_old_sample_is_not_looked_for_in_more_than_a_bounded_part_of_the_late_chunks() {
    let mut head = empty_head();
    append(&mut head, 0, 10_000, &large_histogram(1)).unwrap();
    // Two of these fill the memory for late histograms: all chunks have both, and so the time between.
    for step in 0..33 {
        append(&mut head, 0, step, &large_histogram(5000)).unwrap();
        append(&mut head, 0, 1000 - step, &large_histogram(5000)).unwrap();
    }
    assert_eq!(head.series[0].late().unwrap().closed().len(), 32);
    head.take_work();
    assert_eq!(append(&mut head, 0, 500, &Sample::Float(1.0)), Ok(Appended::Late));
    let work = head.take_work();
    assert!((250_000..280_000).contains(&work), "{work} numbers");
}

#[test]
fn pages_with_histograms_and_changed_bytes_end_in_a_result() {
    let mut head = empty_head();
    for step in 0..40 {
        let sample = Sample::Histogram(AnyHistogram::Integer(histogram(step as u32 % 5 * 300 + 7)));
        append(&mut head, 0, step * 1000, &sample).unwrap();
        append(&mut head, 0, step * 1000 - 500, &sample).unwrap();
    }
    let mut page = Vec::new();
    assert!(ImageWriter::default().page(&head, &mut page));
    for at in 0..page.len() {
        for changed in [page[at] ^ 1, page[at] ^ 0x80, 0, 0xff, 13, 14] {
            let mut page = page.clone();
            page[at] = changed;
            let _ = ImageLoader::default().page(&mut Head::default(), 0, &page);
        }
        let _ = ImageLoader::default().page(&mut Head::default(), 0, &page[..at]);
    }
}
