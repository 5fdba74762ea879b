//! Spans of buckets as a list of places, and back.

use annulus_shards::chunk::{Buckets, Span};

/// Index and count of each bucket, in the order in which they are stored. Spans may claim more buckets than there are.
pub(super) fn places(buckets: &Buckets<f64>) -> impl Iterator<Item = (i32, f64)> + Clone + '_ {
    let mut next = 0i32;
    let indexes = buckets.spans.iter().flat_map(move |span| {
        let first = next.wrapping_add(span.offset);
        next = first.wrapping_add_unsigned(span.length);
        (0..span.length).map(move |place| first.wrapping_add_unsigned(place))
    });
    indexes.zip(buckets.values.iter().copied())
}

/// The same at a resolution that is `steps` schemas coarser.
pub(super) fn coarser_place(index: i32, steps: u32) -> i32 {
    // Buckets end at their upper bound, so bucket 0 is the last one of those that become bucket 0.
    let index = ((i64::from(index) - 1) >> steps.min(63)) + 1;
    i32::try_from(index).expect("shifting an i32 to the right keeps it within i32")
}

/// Buckets from a list of places in rising order, in as few spans as possible.
pub(super) fn from_places(places: impl Iterator<Item = (i32, f64)>) -> Buckets<f64> {
    let mut buckets = Buckets::default();
    let mut next = 0i32;
    for (index, count) in places {
        match buckets.spans.last_mut() {
            Some(Span { length, .. }) if index == next => *length += 1,
            _ => buckets.spans.push(Span { offset: index.wrapping_sub(next), length: 1 }),
        }
        buckets.values.push(count);
        next = index.wrapping_add(1);
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_relative_to_the_end_of_the_one_before() {
        let buckets = Buckets {
            spans: vec![
                Span { offset: -2, length: 2 },
                Span { offset: 0, length: 0 },
                Span { offset: 3, length: 1 },
            ],
            values: vec![1.0, 2.0, 3.0],
        };
        let list: Vec<_> = places(&buckets).collect();
        assert_eq!(list, [(-2, 1.0), (-1, 2.0), (3, 3.0)]);
        let again = from_places(list.into_iter());
        assert_eq!(again.spans, [Span { offset: -2, length: 2 }, Span { offset: 3, length: 1 }]);
        assert_eq!(again.values, buckets.values);
    }

    #[test]
    fn spans_of_any_size_end_with_the_values() {
        let spans =
            vec![Span { offset: i32::MAX, length: u32::MAX }, Span { offset: i32::MIN, length: u32::MAX }];
        let buckets = Buckets { spans, values: vec![1.0, 2.0] };
        assert_eq!(places(&buckets).count(), 2);
        assert_eq!(places(&Buckets { values: Vec::new(), ..buckets }).count(), 0);
    }

    #[test]
    fn two_buckets_become_one_of_the_next_coarser_schema() {
        let coarser = |index| coarser_place(index, 1);
        assert_eq!([-2, -1, 0, 1, 2, 3].map(coarser), [-1, 0, 0, 1, 1, 2]);
        assert_eq!([i32::MIN, i32::MAX].map(|index| coarser_place(index, 100)), [0, 1]);
    }
}
