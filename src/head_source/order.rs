//! The order in which a source answers: series by their labels, each label set once; texts sorted, each once.

use rayon::prelude::*;

use super::INLINE_SERIES_MAX;
use crate::source::SeriesChunks;

/// So few series are compared with each other, as they are.
const FEW_SERIES: usize = 32;

/// So many keys are tried. Labels may be made so that none of them tells much apart.
const KEYS_MAX: usize = 8;

/// Sorts series by their labels and joins those that have the same ones. Hiding a label can make label sets equal,
/// and adding one can change their order.
pub(crate) fn sorted_and_joined(found: Vec<SeriesChunks>) -> Vec<SeriesChunks> {
    let mut sorted = if found.is_sorted_by(|a, b| a.labels <= b.labels) { found } else { sorted(found) };
    join_equal(&mut sorted);
    sorted
}

/// A series, and the beginning of what tells its labels from those of the others.
struct Keyed {
    key: u64,
    series: SeriesChunks,
}

/// Stable: which of two equal label sets comes first stays as it was found.
fn sorted(found: Vec<SeriesChunks>) -> Vec<SeriesChunks> {
    let mut keyed: Vec<Keyed> = found.into_iter().map(|series| Keyed { key: 0, series }).collect();
    sort(&mut keyed, KEYS_MAX);
    keyed.into_iter().map(|one| one.series).collect()
}

/// Sorts by a key that is taken where the first two of the label sets differ, and those of equal keys by another one:
/// a comparison of label sets has to fetch both of them, and of many series there are twenty for each.
fn sort(keyed: &mut [Keyed], keys_left: usize) {
    if keyed.len() <= FEW_SERIES || keys_left == 0 {
        keyed.sort_by(|a, b| a.series.labels.cmp(&b.series.labels));
        return;
    }
    let Some((first, others)) = keyed.split_first() else { return };
    let difference = |one: &Keyed| first.series.labels.difference(&one.series.labels);
    let is_large = others.len() > INLINE_SERIES_MAX;
    let nearest = match is_large {
        true => others.par_iter().filter_map(difference).min(),
        false => others.iter().filter_map(difference).min(),
    };
    let Some(nearest) = nearest else { return };
    let find_key = |one: &mut Keyed| one.key = one.series.labels.key_at(nearest);
    if is_large {
        keyed.par_iter_mut().for_each(find_key);
        keyed.par_sort_by_key(|one| one.key);
        keyed.par_chunk_by_mut(|a, b| a.key == b.key).for_each(|equal| sort(equal, keys_left - 1));
    } else {
        keyed.iter_mut().for_each(find_key);
        keyed.sort_by_key(|one| one.key);
        keyed.chunk_by_mut(|a, b| a.key == b.key).for_each(|equal| sort(equal, keys_left - 1));
    }
}

/// Joins neighbours with equal labels; their chunks are put in order of time, once all are there: a label set may
/// have as many replicas as a sender likes.
fn join_equal(series: &mut Vec<SeriesChunks>) {
    series.dedup_by(|next, kept| {
        let same = next.labels == kept.labels;
        if same {
            kept.chunks.append(&mut next.chunks);
        }
        same
    });
    for one in series {
        if !one.chunks.is_sorted_by_key(|chunk| chunk.min_ms) {
            one.chunks.sort_by_key(|chunk| chunk.min_ms);
        }
    }
}

/// What is kept of many sets of matchers is never more than their distinct texts. The sort is the one that is quick
/// with what is sorted for the most part.
pub(crate) fn sorted_once(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts.dedup();
    texts
}

#[cfg(test)]
mod tests {
    use annulus_shards::Labels;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn series_are_sorted_whatever_tells_them_apart(
            values in proptest::collection::vec(("[ab]{0,3}", "x{0,3}|x{8,20}y?|\\x00{0,3}", "[cd]{0,2}"), 0..1500),
        ) {
            let series = |(a, b, c): &(String, String, String)| SeriesChunks {
                labels: Labels::from_pairs([("a", a.as_str()), ("b", b), ("c", c)]),
                chunks: Vec::new(),
            };
            let mut expected: Vec<Labels> = values.iter().map(|value| series(value).labels).collect();
            expected.sort();
            let sorted: Vec<Labels> =
                sorted(values.iter().map(series).collect()).into_iter().map(|one| one.labels).collect();
            prop_assert_eq!(sorted, expected);
        }
    }

    #[test]
    fn equal_label_sets_keep_the_order_in_which_they_were_found() {
        let chunk = |number: usize| crate::source::ChunkRef {
            min_ms: 0,
            max_ms: 0,
            encoding: annulus_shards::chunk::Encoding::Xor,
            bytes: number.to_be_bytes().to_vec().into(),
            replica: 0,
        };
        let series = |number: usize| SeriesChunks {
            labels: Labels::from_pairs([("n", (number % 7).to_string().as_str())]),
            chunks: vec![chunk(number)],
        };
        let joined = sorted_and_joined((0..2000).map(series).collect());
        assert_eq!(joined.len(), 7);
        for one in joined {
            assert!(one.chunks.is_sorted_by_key(|chunk| chunk.bytes.clone()));
        }
    }
}
