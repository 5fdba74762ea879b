//! Binary operators: which form applies shows when both sides are evaluated.

use super::column::{Series, Value, merge_same_labels};
use super::eval::Evaluator;
use super::matching::combine;
use super::math_functions::{arithmetic, compare, from_bool};
use super::node::BinaryCall;
use super::steps::Steps;
use crate::promql::ast::BinaryOp;
use crate::promql::value::QueryError;

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
                self.with_scalar(call, vector, |step, value| combine(call, value, scalar[step], value))
            }
            (Value::Scalar(scalar), Value::Vector(vector)) => {
                self.with_scalar(call, vector, |step, value| combine(call, scalar[step], value, value))
            }
            (Value::Vector(left), Value::Vector(right)) if call.op.is_set() => {
                self.combine_sets(call, left, right, steps).map(Value::Vector)
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
        function: impl Fn(usize, f64) -> Option<f64> + Sync,
    ) -> Result<Value, QueryError> {
        if !call.op.is_comparison() || call.return_bool {
            return self.map_series(vector, function);
        }
        // A filter: the values are still the metric's.
        for one in &mut vector {
            one.column.map(&function);
        }
        vector.retain(|one| !one.column.is_absent());
        merge_same_labels(vector).map(Value::Vector)
    }
}

fn not_of_scalars(op: BinaryOp) -> QueryError {
    QueryError::Execution(format!("operator {:?} not allowed for Scalar operations", op.as_str()))
}
