//! `fill`: where a series of one side of a binary operator has no partner, a value stands in for it.
//!
//! The values become series of their own, with the labels that matching looks at and points at exactly those steps
//! at which a partner is missing. Matching then goes on as if they had been there.

use annulus_shards::Labels;

use super::column::{Column, Series};
use super::control::Budget;
use super::matching::{presence, signature_choice, signatures};
use super::steps::Steps;
use super::workers::Workers;
use crate::promql::ast::Matching;
use crate::promql::value::QueryError;

/// Adds what is missing on either side. As in Prometheus, `fill_left` fills the "many" side, also where
/// `group_right` makes it the right one.
pub(super) fn fill_missing(
    matching: &Matching,
    many: &mut Vec<Series>,
    one: &mut Vec<Series>,
    steps: &Steps,
    workers: &Workers,
    budget: &Budget,
) -> Result<(), QueryError> {
    let (many_numbers, one_numbers, count) = signatures(matching, many, one, workers);
    let many_present = presence(many, &many_numbers, count, steps);
    let one_present = presence(one, &one_numbers, count, steps);
    let choice = signature_choice(matching);
    let mut labels: Vec<Option<Labels>> = vec![None; count];
    for (series, number) in many.iter().zip(&many_numbers).chain(one.iter().zip(&one_numbers)) {
        labels[*number].get_or_insert_with(|| choice.of(&series.labels));
    }
    for (number, labels) in labels.into_iter().enumerate() {
        let Some(labels) = labels else { continue };
        let (here, there) = (&many_present[number], &one_present[number]);
        for (side, value, has, lacks) in
            [(&mut *many, matching.fill.left, there, here), (&mut *one, matching.fill.right, here, there)]
        {
            let column = value.and_then(|value| stand_in(value, has, lacks));
            if let Some(column) = column {
                budget.add(column.len() as u64)?;
                side.push(Series { labels: labels.clone(), drop_name: false, column });
            }
        }
    }
    Ok(())
}

/// The value at the steps that one side has and the other lacks; a side without any step has no entries.
fn stand_in(value: f64, has: &[bool], lacks: &[bool]) -> Option<Column> {
    let is_missing = |step: usize| has[step] && !lacks.get(step).copied().unwrap_or(false);
    let first = (0..has.len()).find(|step| is_missing(*step))?;
    let last = (0..has.len()).rfind(|step| is_missing(*step))?;
    let mut column = Column::absent_in(first..last + 1);
    (first..=last).filter(|step| is_missing(*step)).for_each(|step| column.set(step, value));
    Some(column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stands_in_where_one_side_is_alone() {
        let column = stand_in(7.0, &[true, true, false, true, false], &[true, false, true, false, true]);
        let column = column.unwrap();
        assert_eq!(column.present().collect::<Vec<_>>(), [(1, 7.0), (3, 7.0)]);
        assert_eq!(stand_in(7.0, &[true, false], &[true, true]), None);
        assert_eq!(stand_in(7.0, &[], &[true]), None);
        assert_eq!(stand_in(7.0, &[true], &[]).unwrap().get(0), Some(7.0));
    }
}
