use super::*;
use crate::head::{Rules, SeriesKey};

const HOUR_MS: i64 = 3_600_000;
const RULES: Rules = Rules::replay(2 * HOUR_MS);

fn labels(number: u32) -> Vec<(String, String)> {
    vec![
        ("__name__".to_owned(), "up".to_owned()),
        ("job".to_owned(), format!("job-{}", number % 7)),
        ("pod".to_owned(), format!("pod-{number}")),
    ]
}

fn create(head: &mut Head, number: u32, tenant: &str) -> crate::head::SeriesIndex {
    let labels = labels(number);
    let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (&**name, &**value)).collect();
    let key = SeriesKey(u128::from(number) << 64 | u128::from(number) | 1 << 127);
    match head.find(key) {
        Some(series) => series,
        None => head.create(key, tenant, &labels).unwrap(),
    }
}

fn run(head: &mut Head, tenant: &str, below_ms: i64, mut between: impl FnMut(&mut Head)) -> usize {
    let mut sweep = Sweep::new(head, tenant, below_ms).unwrap();
    while !sweep.step(head).unwrap() {
        between(head);
    }
    sweep.vacated_count()
}

#[test]
fn series_without_samples_go_with_all_that_only_they_used() {
    let mut head = Head::default();
    for number in 0..5000 {
        let series = create(&mut head, number, "a");
        head.append(series, 10, 1.0, &RULES, &()).unwrap();
        if number % 10 == 0 {
            head.append(series, 3 * HOUR_MS, 1.0, &RULES, &()).unwrap();
        }
        create(&mut head, 100_000 + number, "b");
    }
    let (symbols, pairs) = (head.symbols.len(), head.index.pair_count());
    let mut new = 200_000;
    let vacated = run(&mut head, "a", 2 * HOUR_MS, |head| {
        new += 1;
        let series = create(head, new, "a");
        head.append(series, 3 * HOUR_MS, 2.0, &RULES, &()).unwrap();
    });
    assert_eq!(vacated, 4500);
    let created = new - 200_000;
    assert_eq!(head.live_series_count(), 500 + 5000 + created);
    assert_eq!(head.tenant_label_values("a", "pod", 0, 10_000).0.len() as u32, 500 + created);
    assert_eq!(head.tenant_label_values("b", "pod", 0, 10_000).0.len(), 5000);
    assert_eq!(head.vacant_count(), 4500);
    head.end_rest();
    // Numbers are used again: nothing grows.
    let (symbols_after, series_after) = (head.symbols.len(), head.series_count());
    for number in 0..4000 {
        let series = create(&mut head, 300_000 + number, "a");
        assert_eq!(head.labels(series.0).get("pod"), Some(&*format!("pod-{}", 300_000 + number)));
    }
    assert_eq!((head.symbols.len(), head.series_count()), (symbols_after, series_after));
    assert!(
        symbols_after <= symbols + created as usize && head.index.pair_count() <= pairs + created as usize
    );
}

#[test]
fn numbers_rest_until_they_are_released() {
    let mut head = Head::default();
    let first = create(&mut head, 1, "a");
    head.append(first, 10, 1.0, &RULES, &()).unwrap();
    assert_eq!(run(&mut head, "a", 2 * HOUR_MS, |_| {}), 1);
    let second = create(&mut head, 2, "a");
    assert_ne!(first, second, "a read in progress may still mean the first series");
    head.end_rest();
    assert_eq!(create(&mut head, 3, "a"), first);
    assert!(!head.is_occupied(crate::head::SeriesIndex(2)));
}

#[test]
fn a_head_that_is_filled_and_emptied_for_ever_stays_small() {
    let mut head = Head::default();
    let mut largest = 0;
    for round in 0..30i64 {
        for number in 0..2000u32 {
            let series = create(&mut head, number + round as u32 * 2000, "a");
            for step in 0..3 {
                head.append(series, round * 2 * HOUR_MS + step, 1.0, &RULES, &()).unwrap();
            }
        }
        run(&mut head, "a", round * 2 * HOUR_MS, |_| {});
        head.end_rest();
        if round == 4 {
            largest = head.size_bytes();
        }
    }
    assert!(head.size_bytes() <= largest + largest / 4, "{} after {largest}", head.size_bytes());
    assert_eq!(head.live_series_count(), 2000);
}
