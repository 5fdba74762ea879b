//! Binary operators: which form applies shows when both sides are evaluated.

use std::sync::{Mutex, PoisonError};

use super::column::{Series, Value, merge_same_labels};
use super::eval::Evaluator;
use super::histogram_binary::{Combined, combine_values};
use super::histogram_notes::Notes;
use super::matching::combine;
use super::math_functions::{arithmetic, compare, from_bool};
use super::node::BinaryCall;
use super::steps::Steps;
use crate::promql::ast::BinaryOp;
use crate::promql::value::{QueryError, SampleValue, SharedHistogram};

impl Evaluator<'_> {
    /// The value of a binary operation.
    pub(super) fn binary(&self, call: &BinaryCall, steps: &Steps) -> Result<Value, QueryError> {
        let (left, right) = (self.value(&call.left, steps)?, self.value(&call.right, steps)?);
        match (left, right) {
            (Value::Scalar(left), Value::Scalar(right)) => {
                let pairs = left.into_iter().zip(right);
                let values: Option<Vec<f64>> = pairs
                    .map(|(left, right)| {
                        compare(call.op, left, right)
                            .map(from_bool)
                            .or_else(|| arithmetic(call.op, left, right))
                    })
                    .collect();
                values.map(Value::Scalar).ok_or_else(|| not_of_scalars(call.op))
            }
            (Value::Vector(vector), Value::Scalar(scalar)) => {
                let function = |step: usize, value| combine(call, value, scalar[step], value);
                self.with_scalar(call, vector, function, |step, value| {
                    combine_values(call, value, &scalar[step].into(), true)
                })
            }
            (Value::Scalar(scalar), Value::Vector(vector)) => {
                let function = |step: usize, value| combine(call, scalar[step], value, value);
                self.with_scalar(call, vector, function, |step, value| {
                    combine_values(call, &scalar[step].into(), value, false)
                })
            }
            (Value::Vector(left), Value::Vector(right)) if call.op.is_set() => {
                self.combine_sets(call, left, right).map(Value::Vector)
            }
            (Value::Vector(left), Value::Vector(right)) => {
                self.combine_vectors(call, left, right, steps).map(Value::Vector)
            }
            (Value::Text(_), _) | (_, Value::Text(_)) => Err(not_of_scalars(call.op)),
        }
    }

    fn with_scalar(
        &self,
        call: &BinaryCall,
        mut vector: Vec<Series>,
        floats: impl Fn(usize, f64) -> Option<f64> + Sync,
        values: impl Fn(usize, &SampleValue) -> Combined + Sync,
    ) -> Result<Value, QueryError> {
        let notes = Mutex::new(Notes::default());
        let combined = |step, value: &SampleValue| {
            let Combined { value, note, .. } = values(step, value);
            if let Some(note) = note {
                notes.lock().unwrap_or_else(PoisonError::into_inner).add(note);
            }
            value
        };
        let of_floats = |step: usize, value: f64| {
            if !call.op.is_trim() {
                return floats(step, value);
            }
            combined(step, &value.into());
            None
        };
        let of_histograms = |step: usize, histogram: &SharedHistogram| {
            combined(step, &SampleValue::Histogram(histogram.clone()))
        };
        let keeps_name = (call.op.is_comparison() && !call.return_bool) || call.op.is_trim();
        let result = if keeps_name {
            self.workers.update(&mut vector, |one| {
                if self.control.check().is_ok() {
                    one.column.map_both(of_floats, of_histograms);
                }
            });
            self.control.check()?;
            vector.retain(|one| !one.column.is_absent());
            merge_same_labels(vector).map(Value::Vector)
        } else {
            self.map_both(vector, of_floats, of_histograms)
        };
        self.tell(&notes.into_inner().unwrap_or_else(PoisonError::into_inner), "", call.span);
        result
    }
}

fn not_of_scalars(op: BinaryOp) -> QueryError {
    QueryError::Execution(format!("operator {:?} not allowed for Scalar operations", op.as_str()))
}
