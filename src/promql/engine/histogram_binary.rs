//! Binary operators on values of which one may be a native histogram.

use annulus_shards::chunk::ResetHint;

use super::histogram_notes::{Combination, HistogramNote, Kind};
use super::matching::combine;
use super::math_functions::from_bool;
use super::node::BinaryCall;
use crate::promql::ast::BinaryOp;
use crate::promql::histogram::{Accumulator, FloatHistogram, Trim, compact, divide, multiply, same, trim};
use crate::promql::value::{SampleValue, SharedHistogram};

/// The result of an operator on two values.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Combined {
    /// The value; nothing where a comparison filters, or where there is no result.
    pub(super) value: Option<SampleValue>,
    /// What is to be said.
    pub(super) note: Option<HistogramNote>,
    /// The operator does not apply to these values: they are as if they were not there.
    pub(super) is_impossible: bool,
}

impl Combined {
    /// The result of an operator on two floats.
    #[inline]
    pub(super) fn plain(value: Option<f64>) -> Combined {
        Combined { value: value.map(SampleValue::Float), ..Combined::default() }
    }

    fn of(value: impl Into<SampleValue>) -> Combined {
        Combined { value: Some(value.into()), ..Combined::default() }
    }

    fn impossible(note: HistogramNote) -> Combined {
        Combined { value: None, note: Some(note), is_impossible: true }
    }
}

/// The result of an operator on two values of any kind. `kept_left`: what passes a comparison is the left one.
pub(super) fn combine_values(
    call: &BinaryCall,
    left: &SampleValue,
    right: &SampleValue,
    kept_left: bool,
) -> Combined {
    use SampleValue::{Float, Histogram};
    match (left, right) {
        (Float(_), Float(_)) if call.op.is_trim() => incompatible(call.op, Kind::Float, Kind::Float),
        (Float(left), Float(right)) => {
            let kept = if kept_left { *left } else { *right };
            Combined::plain(combine(call, *left, *right, kept))
        }
        (Float(left), Histogram(right)) => match call.op {
            BinaryOp::Mul => changed(right, |histogram| multiply(histogram, *left)),
            op => incompatible(op, Kind::Float, Kind::Histogram),
        },
        (Histogram(left), Float(right)) => match call.op {
            BinaryOp::Mul => changed(left, |histogram| multiply(histogram, *right)),
            BinaryOp::Div => changed(left, |histogram| divide(histogram, *right)),
            BinaryOp::TrimUpper => trimmed(left, Trim::Below, *right),
            BinaryOp::TrimLower => trimmed(left, Trim::Above, *right),
            op => incompatible(op, Kind::Histogram, Kind::Float),
        },
        (Histogram(left), Histogram(right)) => match call.op {
            BinaryOp::Add | BinaryOp::Sub => sum(call.op, left, right),
            BinaryOp::Equal | BinaryOp::NotEqual => {
                let holds = same(left, right) == (call.op == BinaryOp::Equal);
                let kept = if call.return_bool {
                    Some(from_bool(holds).into())
                } else {
                    holds.then(|| Histogram(left.clone()))
                };
                Combined { value: kept, ..Combined::default() }
            }
            op => incompatible(op, Kind::Histogram, Kind::Histogram),
        },
    }
}

fn incompatible(op: BinaryOp, left: Kind, right: Kind) -> Combined {
    Combined::impossible(HistogramNote::IncompatibleTypes(op, left, right))
}

fn changed(histogram: &SharedHistogram, change: impl Fn(&mut FloatHistogram)) -> Combined {
    let mut changed = FloatHistogram::clone(histogram);
    change(&mut changed);
    compact(&mut changed);
    Combined::of(changed)
}

/// A trim that leaves out nothing leaves the layout as it is too.
fn trimmed(histogram: &SharedHistogram, keep: Trim, value: f64) -> Combined {
    let mut trimmed = FloatHistogram::clone(histogram);
    trim(&mut trimmed, keep, value);
    Combined::of(trimmed)
}

fn sum(op: BinaryOp, left: &FloatHistogram, right: &FloatHistogram) -> Combined {
    let is_addition = op == BinaryOp::Add;
    let mut sum = Accumulator::<f64>::new(left);
    let added = if is_addition { sum.add(right) } else { sum.subtract(right) };
    let combination = if is_addition { Combination::Addition } else { Combination::Subtraction };
    let Ok(added) = added else {
        return Combined::impossible(HistogramNote::IncompatibleBuckets(op));
    };
    if added.hints_collide {
        return Combined::impossible(HistogramNote::HintsCollide(combination));
    }
    if !is_addition {
        // A difference goes up and down.
        sum.set_reset_hint(ResetHint::Gauge);
    }
    let mut sum = sum.finish();
    compact(&mut sum);
    let note = added.bounds_reconciled.then_some(HistogramNote::BoundsReconciled(combination));
    Combined { note, ..Combined::of(sum) }
}

#[cfg(test)]
mod tests {
    use super::super::histogram_range::tests::histogram;
    use super::super::node::Node;
    use super::*;
    use crate::promql::ast::{Cardinality, Fill, Matching, Span};

    fn call(op: BinaryOp, return_bool: bool) -> BinaryCall {
        let matching = Matching {
            cardinality: Cardinality::OneToOne,
            on: false,
            labels: Vec::new(),
            include: Vec::new(),
            fill: Fill::default(),
        };
        let (left, right) = (Node::Time, Node::Time);
        BinaryCall { op, left, right, matching, return_bool, span: Span::default() }
    }

    fn combined(left: &SampleValue, op: BinaryOp, right: &SampleValue) -> Combined {
        combine_values(&call(op, false), left, right, true)
    }

    #[test]
    fn histograms_are_scaled_added_and_compared() {
        let (four, two) = (histogram(0, 4.0).into(), histogram(0, 2.0).into());
        let count = |combined: Combined| match combined.value {
            Some(SampleValue::Histogram(histogram)) => Some(histogram.count),
            _ => None,
        };
        assert_eq!(count(combined(&four, BinaryOp::Add, &two)), Some(6.0));
        assert_eq!(count(combined(&four, BinaryOp::Sub, &two)), Some(2.0));
        assert_eq!(count(combined(&four, BinaryOp::Div, &2.0.into())), Some(2.0));
        assert_eq!(count(combined(&3.0.into(), BinaryOp::Mul, &two)), Some(6.0));
        assert_eq!(count(combined(&four, BinaryOp::TrimLower, &1.0.into())), Some(0.0));
        assert_eq!(count(combined(&four, BinaryOp::Equal, &four)), Some(4.0));
        assert_eq!(count(combined(&four, BinaryOp::NotEqual, &four)), None);
        let equal = combine_values(&call(BinaryOp::Equal, true), &four, &two, true);
        assert_eq!(equal.value, Some(0.0.into()));
    }

    #[test]
    fn what_does_not_apply_is_told_and_has_no_result() {
        let histogram_value = histogram(0, 4.0).into();
        for (left, op, right) in [
            (&histogram_value, BinaryOp::Add, &1.0.into()),
            (&1.0.into(), BinaryOp::Div, &histogram_value),
            (&histogram_value, BinaryOp::Mul, &histogram_value),
            (&histogram_value, BinaryOp::Greater, &histogram_value),
            (&1.0.into(), BinaryOp::TrimUpper, &1.0.into()),
        ] {
            let combined = combined(left, op, right);
            assert!(combined.is_impossible && combined.value.is_none());
            assert!(matches!(combined.note, Some(HistogramNote::IncompatibleTypes(..))));
        }
        let custom = histogram(-53, 4.0).into();
        let mixed = combined(&custom, BinaryOp::Add, &histogram_value);
        assert_eq!(mixed.note, Some(HistogramNote::IncompatibleBuckets(BinaryOp::Add)));
    }

    #[test]
    fn a_sum_of_hints_that_collide_has_no_result() {
        let hinted = |reset_hint| FloatHistogram { reset_hint, ..histogram(0, 1.0) }.into();
        let sum = combined(&hinted(ResetHint::Yes), BinaryOp::Add, &hinted(ResetHint::No));
        assert_eq!(sum.note, Some(HistogramNote::HintsCollide(Combination::Addition)));
        assert!(sum.value.is_none());
        let difference = combined(&hinted(ResetHint::No), BinaryOp::Sub, &hinted(ResetHint::No));
        let Some(SampleValue::Histogram(difference)) = difference.value else { panic!("a histogram") };
        assert_eq!(difference.reset_hint, ResetHint::Gauge);
    }
}
