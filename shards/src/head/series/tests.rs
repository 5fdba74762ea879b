use super::*;
use crate::chunk::decode;
use crate::head::TimeWindows;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;

const _: () = assert!(size_of::<Series>() == 128, "a series outgrew its place in the memory budget");
const _: () =
    assert!(size_of::<ClosedChunk>() <= 24, "a closed chunk outgrew its place in the memory budget");

const HOUR_MS: i64 = 3_600_000;

/// A series with its log, of which nothing is written.
struct Fixture {
    series: Series,
    log: RefCell<ChunkLog>,
    rules: Rules,
}

impl Fixture {
    fn new(late: bool) -> Fixture {
        let mut rules = Rules::replay(2 * HOUR_MS);
        if !late {
            rules.late_floor_ms = None;
        }
        Fixture { series: Series::new(SeriesKey(1), 0, 1), log: RefCell::default(), rules }
    }

    fn append(&mut self, timestamp_ms: i64, value: f64) -> Result<Appended, AppendError> {
        let before = self.series.memory_bytes();
        let (appended, bytes) =
            self.series.append(timestamp_ms, value, &self.rules, &self.log, &(), &mut 0)?;
        assert_eq!(
            self.series.memory_bytes(),
            before + bytes,
            "the count of bytes is what it was changed by"
        );
        Ok(appended)
    }

    /// All samples as a reader sees them: at equal times the first one.
    fn samples(&self) -> Vec<(i64, u64)> {
        let log = self.log.borrow();
        let mut all = BTreeMap::new();
        let mut add = |bytes: &[u8]| {
            decode(Encoding::Xor, bytes, |at_ms, value| {
                all.entry(at_ms).or_insert(value.to_bits());
            })
            .unwrap();
        };
        for chunk in self.series.closed() {
            add(log.pending(chunk.place).unwrap());
        }
        if let Some(open) = self.series.open() {
            add(&open.to_bytes());
        }
        if let Some(late) = self.series.late() {
            late.closed().iter().for_each(|chunk| add(log.pending(chunk.place).unwrap()));
            late.chunks().iter().for_each(|(_, _, _, bytes)| add(bytes));
        }
        all.into_iter().collect()
    }
}

#[test]
fn a_retry_is_accepted_however_old() {
    let mut fixture = Fixture::new(false);
    for time in 0..500 {
        assert_eq!(fixture.append(time * 10, time as f64), Ok(Appended::Stored));
    }
    for time in 0..500 {
        assert_eq!(fixture.append(time * 10, time as f64), Ok(Appended::Repeat));
        let conflict = Err(AppendError::Conflict { timestamp_ms: time * 10 });
        assert_eq!(fixture.append(time * 10, -1.0), conflict);
    }
    let late = fixture.append(1205, 0.0);
    assert_eq!(late, Err(AppendError::OutOfOrder { timestamp_ms: 1205, last_ms: 4990 }));
    assert_eq!(fixture.samples().len(), 500);
    assert_eq!(fixture.series.closed().len(), 4);
}

#[test]
fn chunks_end_with_their_window() {
    let mut fixture = Fixture::new(true);
    for minute in 0..300 {
        fixture.append(minute * 60_000 - HOUR_MS, 1.0).unwrap();
    }
    fixture.append(-2 * HOUR_MS, 1.0).unwrap();
    let mut chunks: Vec<(i64, i64)> =
        fixture.series.closed().iter().map(|chunk| (chunk.min_ms, chunk.max_ms())).collect();
    chunks.extend(fixture.series.open().map(|open| (open.min_ms, open.max_ms)));
    for (min_ms, max_ms) in &chunks {
        assert_eq!(min_ms.div_euclid(2 * HOUR_MS), max_ms.div_euclid(2 * HOUR_MS), "{chunks:?}");
    }
    assert_eq!(chunks.len(), 3, "{chunks:?}");
}

#[test]
fn what_is_outside_the_bounds_is_refused_with_its_reason() {
    let windows = TimeWindows { block_ms: 2 * HOUR_MS, out_of_order_ms: HOUR_MS, future_ms: HOUR_MS };
    let mut fixture = Fixture::new(true);
    let now_ms = 100 * HOUR_MS;
    fixture.append(now_ms, 1.0).unwrap();
    fixture.rules = Rules::new(&windows, Some(now_ms), i64::MIN, now_ms);
    assert_eq!(fixture.append(now_ms - HOUR_MS, 1.0), Ok(Appended::Late));
    assert_eq!(fixture.append(now_ms - HOUR_MS, 1.0), Ok(Appended::Repeat));
    let too_old = AppendError::TooOld { timestamp_ms: now_ms - HOUR_MS - 1, oldest_ms: now_ms - HOUR_MS };
    assert_eq!(fixture.append(now_ms - HOUR_MS - 1, 1.0), Err(too_old));
    assert_eq!(fixture.append(now_ms + HOUR_MS, 1.0), Ok(Appended::Stored));
    let ahead = fixture.append(now_ms + HOUR_MS + 1, 1.0);
    assert!(matches!(ahead, Err(AppendError::TooFarAhead { .. })), "{ahead:?}");
    fixture.rules = Rules::new(&windows, Some(now_ms), now_ms - 10, now_ms);
    let frozen = fixture.append(now_ms - 11, 1.0);
    assert_eq!(frozen, Err(AppendError::TooOld { timestamp_ms: now_ms - 11, oldest_ms: now_ms - 10 }));
}

#[test]
fn truncation_leaves_what_is_newer() {
    let mut fixture = Fixture::new(true);
    for minute in 0..300 {
        fixture.append(minute * 60_000, minute as f64).unwrap();
        if minute > 2 {
            fixture.append(minute * 60_000 - 90_000, -1.0).unwrap();
        }
    }
    let all = fixture.samples();
    let kept = |from_ms: i64| all.iter().copied().filter(|sample| sample.0 >= from_ms).collect::<Vec<_>>();
    for below_ms in [2 * HOUR_MS, 4 * HOUR_MS, 6 * HOUR_MS] {
        let before = fixture.log.borrow().live_count();
        fixture.series.truncate(below_ms, &mut fixture.log.borrow_mut());
        assert_eq!(fixture.samples(), kept(below_ms));
        assert!(fixture.log.borrow().live_count() < before);
        let late = fixture.series.late().map_or(0, |late| late.closed().len());
        assert_eq!(fixture.log.borrow().live_count(), (fixture.series.closed().len() + late) as u64);
    }
    assert!(fixture.series.is_empty());
}

proptest! {
    #[test]
    fn the_series_is_its_accepted_samples(
        late in any::<bool>(),
        steps in proptest::collection::vec((-40i64..60, 0u32..3), 0..900),
    ) {
        let (mut fixture, mut model, mut time) = (Fixture::new(late), BTreeMap::new(), 7_000_000i64);
        for (step, value) in steps {
            time += step * 1000;
            let bits = f64::from(value).to_bits();
            let newest = model.last_key_value().map(|(at, _)| *at);
            let expected = match (model.get(&time), newest) {
                (Some(stored), _) if *stored == bits => Ok(Appended::Repeat),
                (Some(_), _) => Err(AppendError::Conflict { timestamp_ms: time }),
                (None, Some(last_ms)) if time < last_ms && late => Ok(Appended::Late),
                (None, Some(last_ms)) if time < last_ms => {
                    Err(AppendError::OutOfOrder { timestamp_ms: time, last_ms })
                }
                _ => Ok(Appended::Stored),
            };
            let appended = fixture.append(time, f64::from(value));
            prop_assert_eq!(&appended, &expected);
            if matches!(expected, Ok(Appended::Stored | Appended::Late)) {
                model.insert(time, bits);
            }
        }
        prop_assert_eq!(fixture.samples(), model.into_iter().collect::<Vec<_>>());
        let memory = fixture.series.memory_bytes();
        prop_assert!(memory >= 0);
    }
}
