//! Other queries that must give the same answer as an instant query, and what a query reads.

use crate::promql::ast::{AtModifier, DurationExpr, Expr, VectorSelector};

/// Calls `each` for every expression of a tree, parents first.
pub(super) fn visit<'a>(expr: &'a Expr, each: &mut impl FnMut(&'a Expr)) {
    each(expr);
    match expr {
        Expr::Number { .. }
        | Expr::String { .. }
        | Expr::Bytes { .. }
        | Expr::Vector(_)
        | Expr::Matrix { .. } => {}
        Expr::Subquery(subquery) => visit(&subquery.expr, each),
        Expr::Call(call) => call.args.iter().for_each(|argument| visit(argument, each)),
        Expr::Aggregate(aggregate) => {
            aggregate.param.iter().for_each(|param| visit(param, each));
            visit(&aggregate.expr, each);
        }
        Expr::Binary(binary) => {
            visit(&binary.left, each);
            visit(&binary.right, each);
        }
        Expr::Unary { expr, .. } | Expr::Paren { expr, .. } => visit(expr, each),
    }
}

/// The selectors of a query.
pub(super) fn selectors(expr: &Expr) -> Vec<&VectorSelector> {
    let mut found = Vec::new();
    visit(expr, &mut |expr| {
        if let Expr::Vector(selector) | Expr::Matrix { selector, .. } = expr {
            found.push(selector);
        }
    });
    found
}

/// Whether a query asks for the times of its first and last step or for the step itself, which are others in a range
/// query.
pub(super) fn depends_on_range(expr: &Expr) -> bool {
    let mut depends = false;
    visit(expr, &mut |expr| {
        depends |= match expr {
            Expr::Call(call) => matches!(call.name, "start" | "end" | "range" | "step"),
            Expr::Vector(selector) => is_bound(selector.at) || depends_on_query(selector.offset.as_deref()),
            Expr::Matrix { selector, range, .. } => {
                let offset = depends_on_query(selector.offset.as_deref());
                is_bound(selector.at) || offset || range.depends_on_query()
            }
            Expr::Subquery(subquery) => {
                let offset = depends_on_query(subquery.offset.as_deref());
                let step = depends_on_query(subquery.step.as_ref());
                is_bound(subquery.at) || offset || step || subquery.range.depends_on_query()
            }
            _ => false,
        };
    });
    depends
}

fn depends_on_query(duration: Option<&DurationExpr>) -> bool {
    duration.is_some_and(DurationExpr::depends_on_query)
}

fn is_bound(at: Option<AtModifier>) -> bool {
    matches!(at, Some(AtModifier::Start | AtModifier::End))
}

/// The query with `@ time` on each selector that has none, or nothing if its value depends on the time of evaluation
/// in other ways too.
pub(super) fn pinned(expr: &Expr, time_ms: i64) -> Option<Expr> {
    let mut depends = depends_on_range(expr);
    visit(expr, &mut |expr| {
        if let Expr::Call(call) = expr {
            depends |= matches!(
                call.name,
                "days_in_month"
                    | "day_of_month"
                    | "day_of_week"
                    | "day_of_year"
                    | "hour"
                    | "minute"
                    | "month"
                    | "year"
                    | "predict_linear"
                    | "time"
                    | "timestamp"
            );
        }
    });
    let mut expr = expr.clone();
    pin(&mut expr, time_ms);
    (!depends).then_some(expr)
}

fn pin(expr: &mut Expr, time_ms: i64) {
    let at = match expr {
        Expr::Vector(selector) | Expr::Matrix { selector, .. } => &mut selector.at,
        // The times of what is inside follow from the subquery's own.
        Expr::Subquery(subquery) => &mut subquery.at,
        Expr::Number { .. } | Expr::String { .. } | Expr::Bytes { .. } => return,
        Expr::Call(call) => {
            return call.args.iter_mut().for_each(|argument| pin(argument, time_ms));
        }
        Expr::Aggregate(aggregate) => {
            aggregate.param.iter_mut().for_each(|param| pin(param, time_ms));
            return pin(&mut aggregate.expr, time_ms);
        }
        Expr::Binary(binary) => {
            pin(&mut binary.left, time_ms);
            return pin(&mut binary.right, time_ms);
        }
        Expr::Unary { expr, .. } | Expr::Paren { expr, .. } => return pin(expr, time_ms),
    };
    at.get_or_insert(AtModifier::Timestamp(time_ms));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::parser::parse;

    #[test]
    fn selectors_without_a_time_get_one() {
        for (query, expected) in [
            ("x + y @ 5", Some("x @ 60.000 + y @ 5.000")),
            ("rate(x[5m])", Some("rate(x[5m] @ 60.000)")),
            ("sum_over_time(rate(x[5m])[1h:])", Some("sum_over_time(rate(x[5m])[1h:] @ 60.000)")),
            ("topk(scalar(x), y offset 1m)", Some("topk(scalar(x @ 60.000), y @ 60.000 offset 1m)")),
            ("x + time()", None),
            ("minute()", None),
            ("x @ end()", None),
        ] {
            let pinned = pinned(&parse(query).unwrap(), 60_000).map(|expr| expr.to_string());
            assert_eq!(pinned.as_deref(), expected, "{query}");
        }
    }
}
