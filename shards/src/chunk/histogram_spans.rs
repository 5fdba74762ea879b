//! Which buckets are there: walking spans, laying two sets of buckets over each other, merging neighbours.

use super::histogram::{Buckets, Span};
use super::histogram_track::Kind;

/// Index and count of every bucket, in order.
fn counted<K: Kind>(buckets: &Buckets<K::Bucket>) -> impl Iterator<Item = (i32, K::Bucket)> + '_ {
    let mut next = 0i32;
    let indexes = buckets.spans.iter().flat_map(move |span| {
        let begin = next.wrapping_add(span.offset);
        next = begin.wrapping_add_unsigned(span.length);
        begin..next
    });
    indexes.zip(counts::<K>(&buckets.values))
}

/// The count of every bucket.
fn counts<K: Kind>(values: &[K::Bucket]) -> impl Iterator<Item = K::Bucket> + '_ {
    let mut before = K::Bucket::default();
    values.iter().map(move |value| {
        before = K::count(before, *value);
        before
    })
}

/// The values of buckets with these counts.
fn values<K: Kind>(mut counts: Vec<K::Bucket>) -> Vec<K::Bucket> {
    let mut before = K::Bucket::default();
    for count in &mut counts {
        (*count, before) = (K::value(before, *count), *count);
    }
    counts
}

/// Spans that grow by one bucket at a time.
#[derive(Default)]
struct SpanBuilder {
    spans: Vec<Span>,
    next: i32,
}

impl SpanBuilder {
    fn push(&mut self, index: i32) {
        match self.spans.last_mut() {
            Some(span) if index == self.next => span.length += 1,
            _ => self.spans.push(Span { offset: index.wrapping_sub(self.next), length: 1 }),
        }
        self.next = index.wrapping_add(1);
    }
}

/// All buckets of a chunk's last sample and of a new one.
#[derive(Debug)]
pub struct Union {
    /// Where they are, in as few spans as possible.
    pub spans: Vec<Span>,
    /// How many.
    pub number: usize,
    /// The place among them of each bucket of the chunk.
    pub chunk_places: Vec<u32>,
    /// The place among them of each bucket of the new sample.
    pub sample_places: Vec<u32>,
}

impl Union {
    /// Whether the new sample has buckets that the chunk has not.
    pub fn grows_chunk(&self) -> bool {
        self.chunk_places.len() < self.number
    }

    /// Whether the chunk has buckets that the new sample has not.
    pub fn grows_sample(&self) -> bool {
        self.sample_places.len() < self.number
    }
}

/// Whether a bucket has fewer observations in `sample` than in `last`; both have the same spans.
pub fn any_bucket_falls<K: Kind>(last: &[K::Bucket], sample: &[K::Bucket]) -> bool {
    counts::<K>(last).zip(counts::<K>(sample)).any(|(last, sample)| last > sample)
}

/// Whether two sets of buckets hold the same observations; buckets without any do not count.
pub fn same_counts<K: Kind>(left: &Buckets<K::Bucket>, right: &Buckets<K::Bucket>) -> bool {
    let is_used = |(_, count): &(i32, K::Bucket)| *count != K::Bucket::default();
    let (mut left, mut right) = (counted::<K>(left).filter(is_used), counted::<K>(right).filter(is_used));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(left), Some(right)) if left.0 == right.0 && K::same_bucket(left.1, right.1) => {}
            _ => return false,
        }
    }
}

/// Lays the buckets of a new sample over those of the chunk's last one.
///
/// Returns `None` if they are counters and must have begun anew: a bucket fell, or one that was in use is gone.
pub fn union<K: Kind>(
    last: &Buckets<K::Bucket>,
    sample: &Buckets<K::Bucket>,
    are_counters: bool,
) -> Option<Union> {
    let (mut lasts, mut samples) = (counted::<K>(last).peekable(), counted::<K>(sample).peekable());
    let mut spans = SpanBuilder::default();
    let (mut chunk_places, mut sample_places) = (Vec::new(), Vec::new());
    for place in 0.. {
        let (old, new) = (lasts.peek().copied(), samples.peek().copied());
        let index = match (old, new) {
            (None, None) => break,
            (Some((index, _)), None) | (None, Some((index, _))) => index,
            (Some((old, _)), Some((new, _))) => old.min(new),
        };
        let old = old.filter(|(at, _)| *at == index).map(|(_, count)| count);
        let new = new.filter(|(at, _)| *at == index).map(|(_, count)| count);
        if let Some(old) = old {
            let has_begun_anew = match new {
                Some(new) => old > new,
                None => old != K::Bucket::default(),
            };
            if are_counters && has_begun_anew {
                return None;
            }
            chunk_places.push(place);
            lasts.next();
        }
        if new.is_some() {
            sample_places.push(place);
            samples.next();
        }
        spans.push(index);
    }
    let number = spans.spans.iter().map(|span| span.length as usize).sum();
    Some(Union { spans: spans.spans, number, chunk_places, sample_places })
}

/// Moves values to their places among `number` buckets; the other buckets are empty.
pub fn spread<K: Kind>(bucket_values: &[K::Bucket], places: &[u32], number: usize) -> Vec<K::Bucket> {
    let mut spread = vec![K::Bucket::default(); number];
    for (count, place) in counts::<K>(bucket_values).zip(places) {
        spread[*place as usize] = count;
    }
    values::<K>(spread)
}

/// Buckets at a resolution that is `steps` schemas coarser: each takes in 2^steps of the given ones.
pub fn reduced<K: Kind>(buckets: &Buckets<K::Bucket>, steps: u32) -> Buckets<K::Bucket> {
    let mut spans = SpanBuilder::default();
    let mut merged: Vec<K::Bucket> = Vec::new();
    let mut last = None;
    for (index, count) in counted::<K>(buckets) {
        // Buckets end at their upper bound, so bucket 0 is the last one of those that become bucket 0.
        let index = (((i64::from(index) - 1) >> steps.min(63)) + 1) as i32;
        match merged.last_mut() {
            Some(sum) if last == Some(index) => *sum = K::sum(*sum, count),
            _ => {
                spans.push(index);
                merged.push(count);
                last = Some(index);
            }
        }
    }
    Buckets { spans: spans.spans, values: values::<K>(merged) }
}
