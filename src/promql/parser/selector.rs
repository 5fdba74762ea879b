//! Selectors and what is attached to expressions: ranges, subqueries, `offset`, `@`, `anchored`, `smoothed`.

use annulus_shards::labels::METRIC_NAME;
use annulus_shards::matcher::QUERY_COMPILED_BYTES_MAX;
use annulus_shards::{MatchOp, Matcher};

use super::super::ast::{AtModifier, Borders, DurationExpr, Expr, Span, Subquery, VectorSelector};
use super::duration::{RANGE, SUBQUERY_STEP};
use super::grammar::{Node, Parsed, Parser};
use super::token::{Keyword, Kind};
use super::{Failure, join};

/// How many patterns a query may have: each may take megabytes once it is compiled.
pub(super) const REGEX_COUNT_MAX: usize = 1000;

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
        let selector = VectorSelector { matchers, offset: None, at: None, borders: Borders::Inside, span };
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
            self.count_regex(span)?;
            if !(self.is_awaited)() {
                return Err(Failure::new(span, "nobody waits for the query any more"));
            }
        }
        let matcher = Matcher::new(op, name, value).map_err(|error| Failure::new(span, error.to_string()))?;
        self.regex_bytes += matcher.compiled_bytes();
        if self.regex_bytes > QUERY_COMPILED_BYTES_MAX {
            let limit = format!("{QUERY_COMPILED_BYTES_MAX} bytes");
            let message = format!("the regular expressions of the query take more than {limit} together");
            return Err(Failure::new(span, message));
        }
        Ok(matcher)
    }

    /// Counts a pattern, of a matcher or of a function.
    pub(super) fn count_regex(&mut self, span: Span) -> Parsed<()> {
        self.regex_count += 1;
        if self.regex_count > REGEX_COUNT_MAX {
            let message = format!("query has more than {REGEX_COUNT_MAX} regular expressions");
            return Err(Failure::new(span, message));
        }
        Ok(())
    }

    /// All that may follow a primary expression, as often as it does.
    pub(super) fn parse_suffixes(&mut self, mut node: Node) -> Parsed<Node> {
        loop {
            match self.peek().kind {
                Kind::LeftBracket => node = self.parse_range(node)?,
                Kind::Keyword(Keyword::Offset) => self.parse_offset(&mut node.expr)?,
                Kind::At => self.parse_at(&mut node.expr)?,
                Kind::Keyword(Keyword::Anchored) => self.parse_borders(&mut node.expr, Borders::Anchored)?,
                Kind::Keyword(Keyword::Smoothed) => self.parse_borders(&mut node.expr, Borders::Smoothed)?,
                _ => return Ok(node),
            }
        }
    }

    /// `[5m]` or `[1h:5m]`.
    fn parse_range(&mut self, node: Node) -> Parsed<Node> {
        let open = self.advance();
        let range = self.parse_positive_duration(RANGE)?;
        if self.peek().kind == Kind::Colon {
            self.advance();
            let step = match self.peek().kind {
                Kind::RightBracket => None,
                _ => Some(self.parse_positive_duration(SUBQUERY_STEP)?),
            };
            let close = self.expect(Kind::RightBracket, SUBQUERY_STEP, "\"]\"")?;
            let span = join(node.expr.span(), close.span);
            let subquery = Subquery { expr: node.expr, range, step, offset: None, at: None, span };
            return Node::above(node.height, Expr::Subquery(Box::new(subquery)));
        }
        let close = self.expect(Kind::RightBracket, "subquery or range", "\":\" or \"]\"")?;
        let brackets = join(open.span, close.span);
        let Expr::Vector(selector) = node.expr else {
            return Err(Failure::new(brackets, "ranges only allowed for vector selectors"));
        };
        if selector.offset.as_deref().is_some_and(is_offset) {
            return Err(Failure::new(brackets, "no offset modifiers allowed before range"));
        }
        if selector.at.is_some() {
            return Err(Failure::new(brackets, "no @ modifiers allowed before range"));
        }
        let span = join(selector.span, close.span);
        Node::above(node.height, Expr::Matrix { selector, range: Box::new(range), span })
    }

    fn parse_offset(&mut self, expr: &mut Expr) -> Parsed<()> {
        self.advance();
        let offset = self.parse_offset_duration()?;
        let end = self.previous().span;
        let Some(target) = Pinnable::of(expr, end) else {
            let message = "offset modifier must be preceded by an instant vector selector or range vector selector \
                           or a subquery";
            return Err(Failure::new(expr.span(), message));
        };
        if target.offset.as_deref().is_some_and(is_offset) {
            return Err(Failure::new(target.span, "offset may not be set multiple times"));
        }
        *target.offset = Some(Box::new(offset));
        Ok(())
    }

    fn parse_borders(&mut self, expr: &mut Expr, borders: Borders) -> Parsed<()> {
        self.advance();
        let name = if borders == Borders::Anchored { "anchored" } else { "smoothed" };
        let span = expr.span();
        let selector = match expr {
            Expr::Vector(selector) | Expr::Matrix { selector, .. } => selector,
            Expr::Subquery(_) => {
                return Err(Failure::new(span, format!("{name} modifier is not supported for subqueries")));
            }
            _ => return Err(Failure::new(span, format!("{name} modifier not implemented"))),
        };
        if selector.borders != Borders::Inside && selector.borders != borders {
            return Err(Failure::new(span, "anchored and smoothed modifiers cannot be used together"));
        }
        selector.borders = borders;
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
}

/// The parts of an expression that `offset` and `@` set.
struct Pinnable<'a> {
    offset: &'a mut Option<Box<DurationExpr>>,
    at: &'a mut Option<AtModifier>,
    span: Span,
}

impl Pinnable<'_> {
    /// The parts, if the expression has them; its span is grown to take in the modifier that ends at `end`.
    fn of(expr: &mut Expr, end: Span) -> Option<Pinnable<'_>> {
        let (offset, at, span) = match expr {
            Expr::Vector(selector) => (&mut selector.offset, &mut selector.at, &mut selector.span),
            Expr::Matrix { selector, span, .. } => (&mut selector.offset, &mut selector.at, span),
            Expr::Subquery(subquery) => (&mut subquery.offset, &mut subquery.at, &mut subquery.span),
            _ => return None,
        };
        *span = join(*span, end);
        Some(Pinnable { offset, at, span: *span })
    }
}

/// Whether an offset counts as given: `offset 0` may be followed by another one.
fn is_offset(offset: &DurationExpr) -> bool {
    offset.literal_ms() != Some(0)
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
