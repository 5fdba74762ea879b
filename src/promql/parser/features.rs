//! Parts of the language that Prometheus has behind `--enable-feature`.

use super::super::ast::{Aggregate, AggregateOp, Binary, Borders, Call, Expr, VectorSelector};
use super::{Failure, functions};

/// Which of them queries may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// `promql-experimental-functions`
    pub experimental_functions: bool,
    /// `promql-extended-range-selectors`: `anchored` and `smoothed`
    pub extended_range_selectors: bool,
    /// `promql-binop-fill-modifiers`: `fill`, `fill_left` and `fill_right`
    pub fill_modifiers: bool,
}

impl Features {
    /// The whole language.
    pub const ALL: Features =
        Features { experimental_functions: true, extended_range_selectors: true, fill_modifiers: true };

    /// Refuses what is not enabled; of several things the one that ends first.
    pub(super) fn check(self, expr: &Expr) -> Result<(), Failure> {
        match expr {
            Expr::Number { .. } | Expr::String { .. } | Expr::Bytes { .. } => Ok(()),
            Expr::Vector(selector) | Expr::Matrix { selector, .. } => self.check_selector(selector, expr),
            Expr::Subquery(subquery) => self.check(&subquery.expr),
            Expr::Call(call) => self.check_call(call),
            Expr::Aggregate(aggregate) => self.check_aggregate(aggregate),
            Expr::Binary(binary) => self.check_binary(binary),
            Expr::Unary { expr, .. } | Expr::Paren { expr, .. } => self.check(expr),
        }
    }

    fn check_selector(self, selector: &VectorSelector, expr: &Expr) -> Result<(), Failure> {
        let name = match selector.borders {
            Borders::Anchored if !self.extended_range_selectors => "anchored",
            Borders::Smoothed if !self.extended_range_selectors => "smoothed",
            Borders::Inside | Borders::Anchored | Borders::Smoothed => return Ok(()),
        };
        Err(Failure::new(expr.span(), format!("{name} modifier is experimental and not enabled")))
    }

    fn check_call(self, call: &Call) -> Result<(), Failure> {
        call.args.iter().try_for_each(|arg| self.check(arg))?;
        if functions::is_experimental(call.name) && !self.experimental_functions {
            return Err(Failure::new(call.span, format!("function {:?} is not enabled", call.name)));
        }
        Ok(())
    }

    fn check_aggregate(self, aggregate: &Aggregate) -> Result<(), Failure> {
        aggregate.param.iter().try_for_each(|param| self.check(param))?;
        self.check(&aggregate.expr)?;
        let experimental = matches!(aggregate.op, AggregateOp::LimitK | AggregateOp::LimitRatio);
        if experimental && !self.experimental_functions {
            let message = format!(
                "{}() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
                aggregate.op.as_str()
            );
            return Err(Failure::new(aggregate.span, message));
        }
        Ok(())
    }

    fn check_binary(self, binary: &Binary) -> Result<(), Failure> {
        self.check(&binary.left)?;
        self.check(&binary.right)?;
        let fills = binary.matching.as_ref().is_some_and(|matching| !matching.fill.is_none());
        if fills && !self.fill_modifiers {
            let message = "binop fill modifiers are experimental and not enabled";
            return Err(Failure::new(binary.span, message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{parse, parse_with};
    use super::*;

    #[test]
    fn what_is_not_enabled_is_refused_in_the_words_of_prometheus() {
        for (query, column, message) in [
            ("1 + sum(info(x))", 9, "function \"info\" is not enabled"),
            ("start()", 1, "function \"start\" is not enabled"),
            (
                "limitk(1, x)",
                1,
                "limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
            ),
            ("rate(x[5m] smoothed)", 6, "smoothed modifier is experimental and not enabled"),
            ("x anchored", 1, "anchored modifier is experimental and not enabled"),
            ("1 + (x + fill(0) y)", 6, "binop fill modifiers are experimental and not enabled"),
        ] {
            let error = parse_with(query, Features::default()).expect_err(query);
            assert_eq!((error.column, error.message.as_str()), (column, message), "{query}");
            assert!(parse(query).is_ok(), "{query}: {:?}", parse(query));
        }
        assert!(parse_with("topk(1, x[5m:step() * 2] offset -(1m))", Features::default()).is_err());
        assert!(parse_with("rate(x[step() * 2] offset -(1m)) and fill", Features::default()).is_ok());
    }
}
