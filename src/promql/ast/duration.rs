//! Durations of ranges, offsets and steps. Most are fixed by the text; `step()` and `range()` are those of the query.

use super::Span;
use crate::duration::DURATION_MS_MAX;

/// A duration as it is written.
#[derive(Debug, Clone, PartialEq)]
pub enum DurationExpr {
    /// `5m`, `300`, `-1.5`
    Seconds {
        /// The seconds, with their sign.
        value: f64,
        /// Written `5m` and not `300`.
        with_unit: bool,
        /// Where it stands.
        span: Span,
    },
    /// `step()`
    Step(Span),
    /// `range()`
    Range(Span),
    /// `-step()`
    Negate {
        /// What the sign stands before.
        expr: Box<DurationExpr>,
        /// Where it stands.
        span: Span,
    },
    /// `5m + step()`, `min_of(5m, step())`
    Binary {
        /// What is done.
        op: DurationOp,
        /// The first operand.
        left: Box<DurationExpr>,
        /// The second operand.
        right: Box<DurationExpr>,
        /// Where it stands.
        span: Span,
    },
    /// `(5m)`
    Paren {
        /// What the parentheses hold.
        expr: Box<DurationExpr>,
        /// Where it stands.
        span: Span,
    },
}

/// The operations on durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are PromQL's own")]
pub enum DurationOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    MinOf,
    MaxOf,
}

/// What a duration may ask of the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueryTimes {
    /// The step of a range query; 0 in an instant query.
    pub step_ms: i64,
    /// From the first time of the query to the last.
    pub range_ms: i64,
}

/// A duration that has no value, with the bytes of the query that it is about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{}: {reason}", span.start, span.end)]
pub struct NoDuration {
    reason: &'static str,
    span: Span,
}

impl DurationExpr {
    /// A duration that the text fixes.
    pub fn of_ms(duration_ms: i64) -> DurationExpr {
        DurationExpr::Seconds { value: duration_ms as f64 / 1000.0, with_unit: true, span: Span::default() }
    }

    /// Where it stands in the query.
    pub fn span(&self) -> Span {
        match self {
            DurationExpr::Step(span)
            | DurationExpr::Range(span)
            | DurationExpr::Seconds { span, .. }
            | DurationExpr::Negate { span, .. }
            | DurationExpr::Binary { span, .. }
            | DurationExpr::Paren { span, .. } => *span,
        }
    }

    /// The milliseconds of a number that is written as such; nothing if they have to be computed.
    pub fn literal_ms(&self) -> Option<i64> {
        match self {
            // Rounded to nanoseconds, then cut: a duration is what Go's type holds of it.
            DurationExpr::Seconds { value, .. } => Some((value * 1e9).round() as i64 / 1_000_000),
            _ => None,
        }
    }

    /// Whether it has another value in another query.
    pub fn depends_on_query(&self) -> bool {
        match self {
            DurationExpr::Seconds { .. } => false,
            DurationExpr::Step(_) | DurationExpr::Range(_) => true,
            DurationExpr::Negate { expr, .. } | DurationExpr::Paren { expr, .. } => expr.depends_on_query(),
            DurationExpr::Binary { left, right, .. } => left.depends_on_query() || right.depends_on_query(),
        }
    }

    /// The milliseconds in a query of these times; may be negative.
    ///
    /// # Errors
    /// When it is divided by zero or the result is no duration.
    pub fn resolve_ms(&self, times: QueryTimes) -> Result<i64, NoDuration> {
        if let Some(literal_ms) = self.literal_ms() {
            return Ok(literal_ms);
        }
        let seconds = self.seconds(times)?;
        let refuse = |reason| Err(NoDuration { reason, span: self.span() });
        if !seconds.is_finite() {
            return refuse("duration is NaN or infinite");
        }
        let duration_ms = seconds * 1000.0;
        if duration_ms.abs() > DURATION_MS_MAX as f64 {
            return refuse("duration is out of range");
        }
        Ok(duration_ms as i64)
    }

    /// The same, of a range or a step.
    ///
    /// # Errors
    /// Also when it is not more than nothing.
    pub fn resolve_positive_ms(&self, times: QueryTimes) -> Result<i64, NoDuration> {
        let duration_ms = self.resolve_ms(times)?;
        // A literal has been checked where it was read; a part of a millisecond is positive.
        if duration_ms < 0 || (duration_ms == 0 && self.seconds(times)? <= 0.0) {
            return Err(NoDuration { reason: "duration must be greater than 0", span: self.span() });
        }
        Ok(duration_ms)
    }

    fn seconds(&self, times: QueryTimes) -> Result<f64, NoDuration> {
        Ok(match self {
            DurationExpr::Seconds { value, .. } => *value,
            DurationExpr::Step(_) => times.step_ms as f64 / 1000.0,
            DurationExpr::Range(_) => times.range_ms as f64 / 1000.0,
            DurationExpr::Negate { expr, .. } => -expr.seconds(times)?,
            DurationExpr::Paren { expr, .. } => expr.seconds(times)?,
            DurationExpr::Binary { op, left, right, span } => {
                let (left, right) = (left.seconds(times)?, right.seconds(times)?);
                op.apply(left, right).map_err(|reason| NoDuration { reason, span: *span })?
            }
        })
    }
}

impl DurationOp {
    fn apply(self, left: f64, right: f64) -> Result<f64, &'static str> {
        let either_nan = left.is_nan() || right.is_nan();
        Ok(match self {
            DurationOp::Add => left + right,
            DurationOp::Sub => left - right,
            DurationOp::Mul => left * right,
            DurationOp::Div if right == 0.0 => return Err("division by zero"),
            DurationOp::Div => left / right,
            DurationOp::Mod if right == 0.0 => return Err("modulo by zero"),
            DurationOp::Mod => left % right,
            DurationOp::Pow => left.powf(right),
            DurationOp::MinOf | DurationOp::MaxOf if either_nan => f64::NAN,
            DurationOp::MinOf => left.min(right),
            DurationOp::MaxOf => left.max(right),
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::promql::ast::{DurationExpr, Expr, QueryTimes};
    use crate::promql::parser::parse;

    fn range(text: &str) -> DurationExpr {
        match parse(&format!("x[{text}]")) {
            Ok(Expr::Matrix { range, .. }) => *range,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn durations_are_computed_from_the_times_of_the_query() {
        let times = QueryTimes { step_ms: 10_000, range_ms: 3_600_000 };
        for (text, expected_ms) in [
            ("0.009", 9),
            ("300", 300_000),
            ("step()", 10_000),
            ("RANGE() / 2", 1_800_000),
            ("2m*(10+5)", 1_800_000),
            ("1h30m % 1h", 1_800_000),
            ("24m+((1.5*2m)+2m)", 1_740_000),
            ("-(-2) ^ 2 + 8", 4000),
            ("max_of(3s, min_of(step(), 5s))", 5000),
            ("Max_Of(1s, 2s)", 2000),
            ("--5s", 5000),
            ("2 ^ 3 ^ 2", 512_000),
        ] {
            assert_eq!(range(text).resolve_positive_ms(times), Ok(expected_ms), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_told_with_its_place() {
        let times = QueryTimes::default();
        for (text, message) in [
            ("step()", "2:8: duration must be greater than 0"),
            ("1s - 2s", "2:9: duration must be greater than 0"),
            ("1 + 5m / step()", "6:17: division by zero"),
            ("5m % range()", "2:14: modulo by zero"),
            ("0 ^ -1", "2:8: duration is NaN or infinite"),
            ("9e9 * 9e9", "2:11: duration is out of range"),
        ] {
            assert_eq!(range(text).resolve_positive_ms(times).unwrap_err().to_string(), message, "{text}");
        }
    }
}
