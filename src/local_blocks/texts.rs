//! Label names and values of the series in blocks.

use std::collections::BTreeSet;
use std::sync::Arc;

use annulus_shards::Matcher;
use rayon::prelude::*;

use super::block::LocalBlock;
use super::error::ReadFailure;
use super::readers::Reader;
use super::scope::Scope;
use super::set::LocalBlocks;
use crate::block::SeriesRef;
use crate::head_source::sorted_once;
use crate::source::SourceError;

/// Of so few series the values of a label are read one by one; of more, the index is asked which values they have.
const FEW_SERIES: usize = 1_024;

/// The names of labels of series that match any of the sets, sorted. No set stands for all series. Hidden labels are
/// among them.
pub(super) fn label_names(
    blocks: &LocalBlocks,
    list: &[Arc<LocalBlock>],
    sets: &[Vec<Matcher>],
    scope: &Scope,
) -> Result<Vec<String>, SourceError> {
    of_all(list, scope, |block| {
        blocks.read(block, scope, |reader| {
            let mut names = BTreeSet::new();
            for wanted in wanted(block, sets) {
                let of_series = names_of_set(reader, &wanted, scope)?;
                if !of_series.is_empty() {
                    names.extend(block.external_names().map(str::to_owned));
                    names.extend(of_series);
                }
            }
            Ok(names.into_iter().collect())
        })
    })
}

/// The values of a label, under the same conditions.
pub(super) fn label_values(
    blocks: &LocalBlocks,
    list: &[Arc<LocalBlock>],
    name: &str,
    sets: &[Vec<Matcher>],
    scope: &Scope,
) -> Result<Vec<String>, SourceError> {
    of_all(list, scope, |block| {
        blocks.read(block, scope, |reader| {
            let mut values = Vec::new();
            for wanted in wanted(block, sets) {
                match block.external_value(name) {
                    Some(value) if has_series(reader, &wanted, scope)? => values.push(value.to_owned()),
                    Some(_) => {}
                    None => values.extend(values_of_set(reader, name, &wanted, scope)?),
                }
            }
            Ok(sorted_once(values))
        })
    })
}

fn of_all(
    list: &[Arc<LocalBlock>],
    scope: &Scope,
    read: impl Fn(&LocalBlock) -> Result<Option<Vec<String>>, SourceError> + Sync,
) -> Result<Vec<String>, SourceError> {
    let of_block = |block: &Arc<LocalBlock>| {
        scope.check()?;
        read(block).map(Option::unwrap_or_default)
    };
    let join = |mut texts: Vec<String>, more: Vec<String>| {
        texts.extend(more);
        Ok(sorted_once(texts))
    };
    list.par_iter().map(of_block).try_reduce(Vec::new, join)
}

/// For each set that the block's external labels do not rule out, the conditions on its own labels.
fn wanted(block: &LocalBlock, sets: &[Vec<Matcher>]) -> Vec<Vec<Matcher>> {
    if sets.is_empty() {
        return vec![Vec::new()];
    }
    sets.iter().filter_map(|matchers| block.own_matchers(matchers)).collect()
}

fn postings(reader: &Reader, matchers: &[Matcher], scope: &Scope) -> Result<Vec<SeriesRef>, ReadFailure> {
    let found = reader.index().postings(matchers, &|| scope.is_waited_for())?;
    scope.check()?;
    Ok(found)
}

fn has_series(reader: &Reader, matchers: &[Matcher], scope: &Scope) -> Result<bool, ReadFailure> {
    Ok(match matchers {
        // Every series has a label.
        [] => reader.index().label_names().next().is_some(),
        matchers => !postings(reader, matchers, scope)?.is_empty(),
    })
}

fn names_of_set(reader: &Reader, matchers: &[Matcher], scope: &Scope) -> Result<Vec<String>, ReadFailure> {
    if matchers.is_empty() {
        return Ok(reader.index().label_names().map(str::to_owned).collect());
    }
    let postings = postings(reader, matchers, scope)?;
    let mut names: BTreeSet<String> = BTreeSet::new();
    each_label(reader, &postings, scope, |name, _| {
        if !names.contains(name) {
            names.insert(name.to_owned());
        }
    })?;
    Ok(names.into_iter().collect())
}

fn values_of_set(
    reader: &Reader,
    wanted: &str,
    matchers: &[Matcher],
    scope: &Scope,
) -> Result<Vec<String>, ReadFailure> {
    if matchers.is_empty() {
        return Ok(reader.index().label_values(wanted)?);
    }
    let postings = postings(reader, matchers, scope)?;
    if postings.len() > FEW_SERIES {
        return Ok(reader.index().label_values_of(wanted, &postings)?);
    }
    let mut values = Vec::new();
    each_label(reader, &postings, scope, |name, value| {
        if name == wanted {
            values.push(value.to_owned());
        }
    })?;
    Ok(values)
}

fn each_label(
    reader: &Reader,
    postings: &[SeriesRef],
    scope: &Scope,
    mut each: impl FnMut(&str, &str),
) -> Result<(), ReadFailure> {
    let mut entries = reader.index().series_reader();
    for unit in postings.chunks(FEW_SERIES) {
        scope.check()?;
        for reference in unit {
            entries.read(*reference)?.labels.iter().for_each(|(name, value)| each(name, value));
        }
    }
    Ok(())
}
