//! `fill`: where a series of one side of a binary operator has no partner, a value stands in for it.
//!
//! The values become series of their own, with the labels that matching looks at and points at exactly those steps
//! at which a partner is missing. Matching then goes on as if they had been there.

use std::ops::Range;

use annulus_shards::Labels;

use super::column::{Column, Series};
use super::control::Budget;
use super::matching::{signature_choice, signatures};
use super::presence::Presence;
use super::workers::Workers;
use crate::promql::ast::Matching;
use crate::promql::value::QueryError;

/// Adds what is missing on either side. As in Prometheus, `fill_left` fills the "many" side, also where
/// `group_right` makes it the right one.
pub(super) fn fill_missing(
    matching: &Matching,
    many: &mut Vec<Series>,
    one: &mut Vec<Series>,
    workers: &Workers,
    budget: &Budget,
) -> Result<(), QueryError> {
    let (many_numbers, one_numbers, count) = signatures(matching, many, one, workers);
    let many_present = Presence::of(many, &many_numbers, count, budget)?;
    let one_present = Presence::of(one, &one_numbers, count, budget)?;
    let choice = signature_choice(matching);
    let mut labels: Vec<Option<Labels>> = vec![None; count];
    for (series, number) in many.iter().zip(&many_numbers).chain(one.iter().zip(&one_numbers)) {
        labels[*number].get_or_insert_with(|| choice.of(&series.labels));
    }
    for (number, labels) in labels.into_iter().enumerate() {
        let Some(labels) = labels else { continue };
        for (side, value, has, lacks) in [
            (&mut *many, matching.fill.left, &one_present, &many_present),
            (&mut *one, matching.fill.right, &many_present, &one_present),
        ] {
            let is_missing = |step: usize| has.at(number, step) && !lacks.at(number, step);
            let column = value.and_then(|value| stand_in(value, has.extent(number), is_missing));
            if let Some(column) = column {
                budget.add(column.len() as u64)?;
                side.push(Series { labels: labels.clone(), drop_name: false, column });
            }
        }
    }
    Ok(())
}

/// The value at those of the steps given at which it is missing.
fn stand_in(value: f64, mut steps: Range<usize>, is_missing: impl Fn(usize) -> bool) -> Option<Column> {
    let first = steps.clone().find(|step| is_missing(*step))?;
    let last = steps.rfind(|step| is_missing(*step))?;
    let mut column = Column::absent_in(first..last + 1);
    (first..=last).filter(|step| is_missing(*step)).for_each(|step| column.set(step, value));
    Some(column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stands_in_where_one_side_is_alone() {
        let column = stand_in(7.0, 0..5, |step| [1, 3].contains(&step)).unwrap();
        assert_eq!(column.present().collect::<Vec<_>>(), [(1, 7.0), (3, 7.0)]);
        assert_eq!(column.extent(), 1..4);
        assert_eq!(stand_in(7.0, 0..5, |_| false), None);
        assert_eq!(stand_in(7.0, 0..0, |_| true), None);
        assert_eq!(stand_in(7.0, 4..5, |_| true).unwrap().get(4), Some(7.0));
    }
}
