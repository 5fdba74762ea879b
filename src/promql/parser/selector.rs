//! Selectors and what is attached to expressions: ranges, subqueries, `offset`, `@`.

use annulus_shards::labels::METRIC_NAME;
use annulus_shards::{MatchOp, Matcher};

use super::super::ast::{AtModifier, Expr, Span, Subquery, VectorSelector};
use super::grammar::{Node, Parsed, Parser};
use super::token::{Keyword, Kind};
use super::{Failure, UNSUPPORTED, join};
use crate::duration::DURATION_MS_MAX;

/// How many patterns a query may have: each may take megabytes once it is compiled.
const REGEX_COUNT_MAX: usize = 1000;

const DURATION_EXPECTED: &str = "number, duration, step(), or range()";

impl Parser<'_> {
    /// `metric`, `metric{…}` or `{…}`.
    pub(super) fn parse_selector(&mut self) -> Parsed<Node> {
        let first = self.peek();
        let mut matchers = Vec::new();
        let name = (first.kind != Kind::LeftBrace).then(|| {
            let span = self.advance().span;
            self.text(span)
        });
        if self.peek().kind == Kind::LeftBrace {
            self.parse_matchers(&mut matchers, name)?;
        }
        if let Some(name) = name {
            matchers.push(self.matcher(MatchOp::Equal, METRIC_NAME, name.to_owned(), first.span)?);
        }
        let span = join(first.span, self.previous().span);
        let selector = VectorSelector { matchers, offset_ms: 0, at: None, span };
        Ok(Node { expr: Expr::Vector(selector), height: 1 })
    }

    fn parse_matchers(&mut self, matchers: &mut Vec<Matcher>, name: Option<&str>) -> Parsed<()> {
        self.advance();
        // The metric name, once it is given as such: before the braces, or quoted and alone inside them.
        let mut name = name.map(str::to_owned);
        while self.peek().kind != Kind::RightBrace {
            let label = self.peek();
            let label_name = match label.kind {
                Kind::Identifier => self.text(label.span).to_owned(),
                Kind::String => self.string_value(label)?,
                _ => return Err(self.unexpected("label matching", "identifier or \"}\"")),
            };
            self.advance();
            let op = match self.peek().kind {
                Kind::Assign => Some(MatchOp::Equal),
                Kind::NotEqual => Some(MatchOp::NotEqual),
                Kind::MatchRegex => Some(MatchOp::Regex),
                Kind::MatchNotRegex => Some(MatchOp::NotRegex),
                _ => None,
            };
            let matcher = match op {
                Some(op) => {
                    self.advance();
                    let value = self.peek();
                    if value.kind != Kind::String {
                        return Err(self.unexpected("label matching", "string"));
                    }
                    self.advance();
                    self.matcher(op, &label_name, self.string_value(value)?, join(label.span, value.span))?
                }
                None if label.kind == Kind::String => {
                    // `{"metric"}`: the name of the metric, which may be any UTF-8.
                    refuse_second_name(name.as_deref(), matchers, &label_name, label.span)?;
                    name = Some(label_name.clone());
                    matchers.push(self.matcher(MatchOp::Equal, METRIC_NAME, label_name, label.span)?);
                    self.end_of_matcher()?;
                    continue;
                }
                None => return Err(self.unexpected("label matching", "label matching operator")),
            };
            if let Some(name) = name.as_deref().filter(|_| matcher.name == METRIC_NAME) {
                return Err(name_twice(name, &matcher.value, label.span));
            }
            matchers.push(matcher);
            self.end_of_matcher()?;
        }
        self.advance();
        Ok(())
    }

    fn end_of_matcher(&mut self) -> Parsed<()> {
        match self.peek().kind {
            Kind::Comma => _ = self.advance(),
            Kind::RightBrace => {}
            _ => return Err(self.unexpected("label matching", "\",\" or \"}\"")),
        }
        Ok(())
    }

    fn matcher(&mut self, op: MatchOp, name: &str, value: String, span: Span) -> Parsed<Matcher> {
        if matches!(op, MatchOp::Regex | MatchOp::NotRegex) {
            self.regex_count += 1;
            if self.regex_count > REGEX_COUNT_MAX {
                let message = format!("query has more than {REGEX_COUNT_MAX} regular expressions");
                return Err(Failure::new(span, message));
            }
        }
        Matcher::new(op, name, value).map_err(|error| Failure::new(span, error.to_string()))
    }

    /// All that may follow a primary expression, as often as it does.
    pub(super) fn parse_suffixes(&mut self, mut node: Node) -> Parsed<Node> {
        loop {
            match self.peek().kind {
                Kind::LeftBracket => node = self.parse_range(node)?,
                Kind::Keyword(Keyword::Offset) => self.parse_offset(&mut node.expr)?,
                Kind::At => self.parse_at(&mut node.expr)?,
                Kind::Keyword(Keyword::Anchored | Keyword::Smoothed) => {
                    let span = self.peek().span;
                    let message = format!("the {} modifier {UNSUPPORTED}", self.text(span));
                    return Err(Failure::new(span, message));
                }
                _ => return Ok(node),
            }
        }
    }

    /// `[5m]` or `[1h:5m]`.
    fn parse_range(&mut self, node: Node) -> Parsed<Node> {
        let open = self.advance();
        let range_ms = self.parse_positive_duration("subquery or range selector")?;
        if self.peek().kind == Kind::Colon {
            self.advance();
            let step_ms = match self.peek().kind {
                Kind::RightBracket => None,
                _ => Some(self.parse_positive_duration("subquery selector")?),
            };
            let close = self.expect(Kind::RightBracket, "subquery selector", "\"]\"")?;
            let span = join(node.expr.span(), close.span);
            let subquery = Subquery { expr: node.expr, range_ms, step_ms, offset_ms: 0, at: None, span };
            return Node::above(node.height, Expr::Subquery(Box::new(subquery)));
        }
        let close = self.expect(Kind::RightBracket, "subquery or range", "\":\" or \"]\"")?;
        let brackets = join(open.span, close.span);
        let Expr::Vector(selector) = node.expr else {
            return Err(Failure::new(brackets, "ranges only allowed for vector selectors"));
        };
        if selector.offset_ms != 0 {
            return Err(Failure::new(brackets, "no offset modifiers allowed before range"));
        }
        if selector.at.is_some() {
            return Err(Failure::new(brackets, "no @ modifiers allowed before range"));
        }
        let span = join(selector.span, close.span);
        Node::above(node.height, Expr::Matrix { selector, range_ms, span })
    }

    fn parse_offset(&mut self, expr: &mut Expr) -> Parsed<()> {
        self.advance();
        let start = self.peek().span;
        let seconds = self.parse_duration_operand("offset")?;
        let end = self.previous().span;
        let offset_ms = duration_ms(seconds, join(start, end))?;
        let Some(target) = Pinnable::of(expr, end) else {
            let message = "offset modifier must be preceded by an instant vector selector or range vector selector \
                           or a subquery";
            return Err(Failure::new(expr.span(), message));
        };
        if *target.offset_ms != 0 {
            return Err(Failure::new(target.span, "offset may not be set multiple times"));
        }
        *target.offset_ms = offset_ms;
        Ok(())
    }

    fn parse_at(&mut self, expr: &mut Expr) -> Parsed<()> {
        self.advance();
        let at = match self.peek().kind {
            Kind::Keyword(keyword @ (Keyword::Start | Keyword::End)) => {
                self.advance();
                self.expect(Kind::LeftParen, "@", "timestamp")?;
                self.expect(Kind::RightParen, "@", "timestamp")?;
                if keyword == Keyword::Start { AtModifier::Start } else { AtModifier::End }
            }
            _ => self.parse_timestamp()?,
        };
        let end = self.previous().span;
        let Some(target) = Pinnable::of(expr, end) else {
            let message = "@ modifier must be preceded by an instant vector selector or range vector selector or a \
                           subquery";
            return Err(Failure::new(expr.span(), message));
        };
        if target.at.is_some() {
            return Err(Failure::new(target.span, "@ <timestamp> may not be set multiple times"));
        }
        *target.at = Some(at);
        Ok(())
    }

    fn parse_timestamp(&mut self) -> Parsed<AtModifier> {
        let start = self.peek();
        let negate = start.kind == Kind::Sub;
        if negate || start.kind == Kind::Add {
            self.advance();
        }
        let token = self.peek();
        if !matches!(token.kind, Kind::Number | Kind::Duration) {
            return Err(self.unexpected("@", "timestamp"));
        }
        self.advance();
        let seconds = self.number_value(token)? * if negate { -1.0 } else { 1.0 };
        let timestamp_ms = (seconds * 1000.0).round();
        // The range of i64 as floats; NaN is outside too.
        if !(-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&timestamp_ms) {
            let message = format!("timestamp out of bounds for @ modifier: {seconds}");
            return Err(Failure::new(join(start.span, token.span), message));
        }
        Ok(AtModifier::Timestamp(timestamp_ms as i64))
    }

    /// A constant expression of durations that is at least a millisecond.
    fn parse_positive_duration(&mut self, context: &str) -> Parsed<i64> {
        let start = self.peek().span;
        let seconds = self.parse_duration_sum(context)?;
        let span = join(start, self.previous().span);
        match duration_ms(seconds, span)? {
            duration_ms if duration_ms > 0 => Ok(duration_ms),
            _ => Err(Failure::new(span, "duration must be greater than 0")),
        }
    }

    fn parse_duration_sum(&mut self, context: &str) -> Parsed<f64> {
        let mut value = self.parse_duration_product(context)?;
        loop {
            match self.peek().kind {
                Kind::Add => {
                    self.advance();
                    value += self.parse_duration_product(context)?;
                }
                Kind::Sub => {
                    self.advance();
                    value -= self.parse_duration_product(context)?;
                }
                _ => return Ok(value),
            }
        }
    }

    fn parse_duration_product(&mut self, context: &str) -> Parsed<f64> {
        let mut value = self.parse_duration_power(context)?;
        loop {
            let op = self.peek();
            if !matches!(op.kind, Kind::Mul | Kind::Div | Kind::Mod) {
                return Ok(value);
            }
            self.advance();
            let right = self.parse_duration_power(context)?;
            value = match op.kind {
                Kind::Mul => value * right,
                Kind::Div if right == 0.0 => return Err(Failure::new(op.span, "division by zero")),
                Kind::Div => value / right,
                _ if right == 0.0 => return Err(Failure::new(op.span, "modulo by zero")),
                _ => value % right,
            };
        }
    }

    fn parse_duration_power(&mut self, context: &str) -> Parsed<f64> {
        self.descend()?;
        let sign = self.peek().kind;
        let value = if matches!(sign, Kind::Add | Kind::Sub) {
            self.advance();
            // A sign binds weaker than a power.
            let value = self.parse_duration_power(context)?;
            if sign == Kind::Sub { -value } else { value }
        } else {
            let base = self.parse_duration_operand(context)?;
            if self.peek().kind == Kind::Pow {
                self.advance();
                base.powf(self.parse_duration_power(context)?)
            } else {
                base
            }
        };
        self.ascend();
        Ok(value)
    }

    /// One duration in seconds, with its sign: all that `offset` takes without parentheses.
    fn parse_duration_operand(&mut self, context: &str) -> Parsed<f64> {
        let token = self.peek();
        match token.kind {
            Kind::Number | Kind::Duration => {
                self.advance();
                self.number_value(token)
            }
            Kind::Add | Kind::Sub => {
                self.advance();
                self.descend()?;
                let value = self.parse_duration_operand(context)?;
                self.ascend();
                Ok(if token.kind == Kind::Sub { -value } else { value })
            }
            Kind::LeftParen => {
                self.advance();
                self.descend()?;
                let value = self.parse_duration_sum(context)?;
                self.ascend();
                self.expect(Kind::RightParen, context, "\")\"")?;
                Ok(value)
            }
            Kind::Keyword(Keyword::Step | Keyword::Range) => {
                let message = format!("{}() {UNSUPPORTED} in durations", self.text(token.span));
                Err(Failure::new(token.span, message))
            }
            Kind::Identifier if matches!(self.text(token.span), "min_of" | "max_of") => {
                self.advance();
                self.descend()?;
                self.expect(Kind::LeftParen, context, "\"(\"")?;
                let left = self.parse_duration_sum(context)?;
                self.expect(Kind::Comma, context, "\",\"")?;
                let right = self.parse_duration_sum(context)?;
                self.expect(Kind::RightParen, context, "\")\"")?;
                self.ascend();
                Ok(if self.text(token.span) == "min_of" { left.min(right) } else { left.max(right) })
            }
            _ => Err(self.unexpected(context, DURATION_EXPECTED)),
        }
    }
}

/// The parts of an expression that `offset` and `@` set.
struct Pinnable<'a> {
    offset_ms: &'a mut i64,
    at: &'a mut Option<AtModifier>,
    span: Span,
}

impl Pinnable<'_> {
    /// The parts, if the expression has them; its span is grown to take in the modifier that ends at `end`.
    fn of(expr: &mut Expr, end: Span) -> Option<Pinnable<'_>> {
        let (offset_ms, at, span) = match expr {
            Expr::Vector(selector) => (&mut selector.offset_ms, &mut selector.at, &mut selector.span),
            Expr::Matrix { selector, span, .. } => (&mut selector.offset_ms, &mut selector.at, span),
            Expr::Subquery(subquery) => (&mut subquery.offset_ms, &mut subquery.at, &mut subquery.span),
            _ => return None,
        };
        *span = join(*span, end);
        Some(Pinnable { offset_ms, at, span: *span })
    }
}

fn duration_ms(seconds: f64, span: Span) -> Parsed<i64> {
    let duration_ms = (seconds * 1000.0).round();
    if duration_ms.is_nan() || duration_ms.abs() > DURATION_MS_MAX as f64 {
        return Err(Failure::new(span, "duration out of range"));
    }
    Ok(duration_ms as i64)
}

fn refuse_second_name(first: Option<&str>, matchers: &[Matcher], second: &str, span: Span) -> Parsed<()> {
    let before = matchers.iter().find(|matcher| matcher.name == METRIC_NAME);
    match first.or(before.map(|matcher| matcher.value.as_str())) {
        Some(first) => Err(name_twice(first, second, span)),
        None => Ok(()),
    }
}

fn name_twice(first: &str, second: &str, span: Span) -> Failure {
    Failure::new(span, format!("metric name must not be set twice: {first:?} or {second:?}"))
}
