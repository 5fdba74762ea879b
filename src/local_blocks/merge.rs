//! Makes one sorted list of series of two.

use std::cmp::Ordering;

use super::scope::Scope;
use crate::source::{ChunkRef, SeriesChunks, frame_bytes};

/// Of chunks that begin at the same time, so many are looked at for an equal one: hidden replica labels can make one
/// series of any number.
const EQUAL_LOOKS_MAX: usize = 8;

/// Merges lists that are sorted by labels. Of the same series the chunks are joined in order of time, those of `first`
/// before those of `second` where they begin together; a chunk that is in both is taken once.
pub(super) fn merge(first: Vec<SeriesChunks>, second: Vec<SeriesChunks>, scope: &Scope) -> Vec<SeriesChunks> {
    if first.is_empty() {
        return second;
    }
    if second.is_empty() {
        return first;
    }
    let mut merged = Vec::with_capacity(first.len().max(second.len()));
    let mut second = second.into_iter().peekable();
    for mut one in first {
        while let Some(other) = second.peek() {
            match other.labels.cmp(&one.labels) {
                Ordering::Less => merged.extend(second.next()),
                Ordering::Equal => {
                    let other = second.next().map(|other| other.chunks).unwrap_or_default();
                    let dropped_bytes = join_chunks(&mut one.chunks, other);
                    scope.release(frame_bytes(&one.labels, 0) + dropped_bytes);
                    break;
                }
                Ordering::Greater => break,
            }
        }
        merged.push(one);
    }
    merged.extend(second);
    merged
}

/// Joins chunks in order of time; returns the bytes of those that were there already.
fn join_chunks(first: &mut Vec<ChunkRef>, second: Vec<ChunkRef>) -> u64 {
    let begins_after = |(last, next): (&ChunkRef, &ChunkRef)| last.min_ms < next.min_ms;
    if first.last().zip(second.first()).is_none_or(begins_after) {
        first.extend(second);
        return 0;
    }
    let mut dropped_bytes = 0;
    let mut joined: Vec<ChunkRef> = Vec::with_capacity(first.len() + second.len());
    let mut rest = std::mem::take(first).into_iter().peekable();
    for chunk in second {
        while let Some(earlier) = rest.next_if(|earlier| earlier.min_ms <= chunk.min_ms) {
            joined.push(earlier);
        }
        let together = joined.iter().rev().take_while(|other| other.min_ms == chunk.min_ms);
        if together.take(EQUAL_LOOKS_MAX).any(|other| is_same(other, &chunk)) {
            dropped_bytes += (size_of::<ChunkRef>() + chunk.bytes.len()) as u64;
        } else {
            joined.push(chunk);
        }
    }
    joined.extend(rest);
    *first = joined;
    dropped_bytes
}

fn is_same(a: &ChunkRef, b: &ChunkRef) -> bool {
    let key = |chunk: &ChunkRef| (chunk.min_ms, chunk.max_ms, chunk.encoding, chunk.replica);
    key(a) == key(b) && a.bytes == b.bytes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use annulus_shards::Labels;
    use annulus_shards::chunk::Encoding;
    use proptest::prelude::*;

    use super::*;
    use crate::source::{View, held_bytes};

    type Content = BTreeMap<u8, Vec<(i64, u8)>>;

    fn list(content: &Content) -> Vec<SeriesChunks> {
        let chunk = |(min_ms, byte): &(i64, u8)| ChunkRef {
            min_ms: *min_ms,
            max_ms: min_ms + 10,
            encoding: Encoding::Xor,
            bytes: vec![*byte].into(),
            replica: 0,
        };
        let series = |(number, chunks): (&u8, &Vec<(i64, u8)>)| SeriesChunks {
            labels: Labels::from_pairs([("n", number.to_string().as_str())]),
            chunks: chunks.iter().map(chunk).collect(),
        };
        let mut list: Vec<SeriesChunks> = content.iter().map(series).collect();
        list.sort_by(|a, b| a.labels.cmp(&b.labels));
        list
    }

    fn texts(list: &[SeriesChunks]) -> Vec<(String, Vec<(i64, u8)>)> {
        let chunks =
            |one: &SeriesChunks| one.chunks.iter().map(|chunk| (chunk.min_ms, chunk.bytes[0])).collect();
        list.iter().map(|one| (format!("{:?}", one.labels), chunks(one))).collect()
    }

    fn any_content() -> impl Strategy<Value = Content> {
        let chunks = proptest::collection::btree_set((0i64..8, 0u8..2), 0..6);
        proptest::collection::btree_map(0u8..20, chunks.prop_map(|set| set.into_iter().collect()), 0..12)
    }

    proptest! {
        #[test]
        fn a_merge_is_what_a_sort_would_give(first in any_content(), second in any_content()) {
            let (one, other) = (list(&first), list(&second));
            let scope = Scope::new(u64::MAX, View::default());
            scope.charge(held_bytes(&one) + held_bytes(&other)).unwrap();
            let mut expected = first.clone();
            for (number, chunks) in &second {
                let known = expected.entry(*number).or_default();
                known.extend(chunks.iter().filter(|chunk| !known.contains(chunk)).copied().collect::<Vec<_>>());
                known.sort_by_key(|(min_ms, _)| *min_ms);
            }
            let merged = merge(one, other, &scope);
            prop_assert_eq!(texts(&merged), texts(&list(&expected)));
            scope.release(held_bytes(&merged));
            prop_assert!(scope.charge(u64::MAX).is_ok(), "all that was dropped was given back");
        }
    }
}
