//! The order in which a source answers: series by their labels, each label set once; texts sorted, each once.

use rayon::prelude::*;

use super::INLINE_SERIES_MAX;
use crate::source::SeriesChunks;

/// Sorts series by their labels and joins those that have the same ones. Hiding a label can make label sets equal,
/// and adding one can change their order.
pub(crate) fn sorted_and_joined(mut found: Vec<SeriesChunks>) -> Vec<SeriesChunks> {
    // Stable: which of two equal label sets comes first stays as it was found.
    if found.len() <= INLINE_SERIES_MAX {
        found.sort_by(|a, b| a.labels.cmp(&b.labels));
    } else {
        found.par_sort_by(|a, b| a.labels.cmp(&b.labels));
    }
    join_equal(&mut found);
    found
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
