//! Durations in brackets and after `offset`.

use super::super::ast::{DurationExpr, DurationOp, Span};
use super::grammar::{Parsed, Parser, too_deep};
use super::token::{Keyword, Kind, Token};
use super::{Failure, TREE_DEPTH_MAX, join};
use crate::duration::DURATION_MS_MAX;

/// Where a duration is read, in the words of messages.
pub(super) const RANGE: &str = "subquery or range selector";
pub(super) const SUBQUERY_STEP: &str = "subquery selector";
const OFFSET: &str = "offset";

/// How strongly operators bind; a sign binds like [`PRODUCT`].
const SUM: u8 = 1;
const PRODUCT: u8 = 2;
const POWER: u8 = 3;

fn operator(kind: Kind) -> Option<(DurationOp, u8)> {
    Some(match kind {
        Kind::Add => (DurationOp::Add, SUM),
        Kind::Sub => (DurationOp::Sub, SUM),
        Kind::Mul => (DurationOp::Mul, PRODUCT),
        Kind::Div => (DurationOp::Div, PRODUCT),
        Kind::Mod => (DurationOp::Mod, PRODUCT),
        Kind::Pow => (DurationOp::Pow, POWER),
        _ => return None,
    })
}

impl Parser<'_> {
    /// A duration in brackets, where one of nothing or less makes no sense.
    pub(super) fn parse_positive_duration(&mut self, context: &str) -> Parsed<DurationExpr> {
        let duration = self.parse_duration(context)?;
        match duration {
            DurationExpr::Seconds { value, span, .. } if value <= 0.0 => {
                Err(Failure::new(span, "duration must be greater than 0"))
            }
            _ => Ok(duration),
        }
    }

    /// The duration after `offset`: without parentheses only one operand with its sign, so that `x offset 1m + y` is
    /// a sum.
    pub(super) fn parse_offset_duration(&mut self) -> Parsed<DurationExpr> {
        self.duration_operators = 0;
        self.parse_duration_operand(OFFSET, true)
    }

    fn parse_duration(&mut self, context: &str) -> Parsed<DurationExpr> {
        self.duration_operators = 0;
        self.parse_duration_operators(context, SUM)
    }

    /// An operand and all operators after it that bind at least as strongly as `precedence_min`.
    fn parse_duration_operators(&mut self, context: &str, precedence_min: u8) -> Parsed<DurationExpr> {
        self.descend()?;
        let mut left = self.parse_duration_operand(context, false)?;
        while let Some((op, precedence)) = operator(self.peek().kind)
            && precedence >= precedence_min
        {
            let token = self.advance();
            let right_min = if op == DurationOp::Pow { POWER } else { precedence + 1 };
            let right = self.parse_duration_operators(context, right_min)?;
            if let (DurationOp::Div | DurationOp::Mod, DurationExpr::Seconds { value: 0.0, .. }) =
                (op, &right)
            {
                let what = if op == DurationOp::Div { "division" } else { "modulo" };
                return Err(Failure::new(token.span, format!("{what} by zero")));
            }
            left = self.duration_of_two(op, left, right, token.span)?;
        }
        self.ascend();
        Ok(left)
    }

    /// Chains of operators make deep trees without deep recursion: all operators of a duration are counted.
    fn duration_of_two(
        &mut self,
        op: DurationOp,
        left: DurationExpr,
        right: DurationExpr,
        place: Span,
    ) -> Parsed<DurationExpr> {
        self.duration_operators += 1;
        if self.duration_operators > TREE_DEPTH_MAX {
            return Err(Failure::new(place, too_deep(TREE_DEPTH_MAX)));
        }
        let span = join(join(left.span(), right.span()), place);
        Ok(DurationExpr::Binary { op, left: Box::new(left), right: Box::new(right), span })
    }

    /// A number, a call or parentheses, with their sign. A sign reaches over powers, but not after `offset`.
    fn parse_duration_operand(&mut self, context: &str, is_offset: bool) -> Parsed<DurationExpr> {
        let token = self.peek();
        match token.kind {
            Kind::Number | Kind::Duration => {
                self.advance();
                let seconds = self.number_value(token)?;
                literal(seconds, token.kind == Kind::Duration, token.span, token.span)
            }
            Kind::Add | Kind::Sub => {
                self.advance();
                self.descend()?;
                let operand = match is_offset {
                    true => self.parse_duration_operand(context, true)?,
                    false => self.parse_duration_operators(context, POWER)?,
                };
                self.ascend();
                with_sign(token, operand)
            }
            Kind::LeftParen => {
                self.advance();
                let expr = Box::new(self.parse_duration_operators(context, SUM)?);
                let close = self.expect_in_duration(Kind::RightParen, context)?;
                Ok(DurationExpr::Paren { expr, span: join(token.span, close.span) })
            }
            Kind::Keyword(keyword @ (Keyword::Step | Keyword::Range)) => {
                self.advance();
                self.expect_in_duration(Kind::LeftParen, context)?;
                let close = self.expect_in_duration(Kind::RightParen, context)?;
                let span = join(token.span, close.span);
                Ok(match keyword {
                    Keyword::Step => DurationExpr::Step(span),
                    _ => DurationExpr::Range(span),
                })
            }
            Kind::Identifier if self.text(token.span).eq_ignore_ascii_case("min_of") => {
                self.parse_duration_choice(DurationOp::MinOf, context)
            }
            Kind::Identifier if self.text(token.span).eq_ignore_ascii_case("max_of") => {
                self.parse_duration_choice(DurationOp::MaxOf, context)
            }
            _ => Err(self.unexpected_in_duration(context)),
        }
    }

    fn expect_in_duration(&mut self, kind: Kind, context: &str) -> Parsed<Token> {
        if self.peek().kind == kind { Ok(self.advance()) } else { Err(self.unexpected_in_duration(context)) }
    }

    /// Wherever a duration breaks off, Prometheus says what could have begun it.
    fn unexpected_in_duration(&self, context: &str) -> Failure {
        let expected = match context {
            SUBQUERY_STEP => "number, duration, step(), range(), or \"]\"",
            _ => "number, duration, step(), or range()",
        };
        self.unexpected(context, expected)
    }

    fn parse_duration_choice(&mut self, op: DurationOp, context: &str) -> Parsed<DurationExpr> {
        let name = self.advance();
        self.expect_in_duration(Kind::LeftParen, context)?;
        let left = self.parse_duration_operators(context, SUM)?;
        self.expect_in_duration(Kind::Comma, context)?;
        let right = self.parse_duration_operators(context, SUM)?;
        let close = self.expect_in_duration(Kind::RightParen, context)?;
        self.duration_of_two(op, left, right, join(name.span, close.span))
    }
}

fn literal(value: f64, with_unit: bool, span: Span, place: Span) -> Parsed<DurationExpr> {
    if value.is_nan() || (value * 1000.0).abs() > DURATION_MS_MAX as f64 {
        return Err(Failure::new(place, "duration out of range"));
    }
    Ok(DurationExpr::Seconds { value, with_unit, span })
}

/// Signs of literals are folded into them.
fn with_sign(sign: Token, operand: DurationExpr) -> Parsed<DurationExpr> {
    let span = join(sign.span, operand.span());
    match (operand, sign.kind) {
        (DurationExpr::Seconds { value, with_unit, .. }, kind) => {
            let value = if kind == Kind::Sub { -value } else { value };
            literal(value, with_unit, span, sign.span)
        }
        (operand, Kind::Sub) => Ok(DurationExpr::Negate { expr: Box::new(operand), span }),
        (operand, _) => Ok(operand),
    }
}
