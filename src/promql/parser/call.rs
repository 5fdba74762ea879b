//! Function calls and aggregations.

use super::super::ast::{Aggregate, AggregateOp, Call, Expr, Span};
use super::grammar::{Node, Parsed, Parser};
use super::token::{Keyword, Kind};
use super::{Failure, functions, join};

/// The arguments of a call or an aggregation.
struct Arguments {
    exprs: Vec<Expr>,
    height: u16,
    span: Span,
}

impl Parser<'_> {
    pub(super) fn parse_call(&mut self) -> Parsed<Node> {
        let token = self.advance();
        let name = self.text(token.span);
        let arguments = self.parse_arguments()?;
        let Some(function) = functions::find(name) else {
            return Err(Failure::new(token.span, format!("unknown function with name {name:?}")));
        };
        if let ("info", Some(Expr::Vector(selector))) = (function.name, arguments.exprs.get(1))
            && !self.text(selector.span).starts_with('{')
        {
            let message = "expected label selectors only, got vector selector instead";
            return Err(Failure::new(selector.span, message));
        }
        let span = join(token.span, arguments.span);
        if function.name == "label_replace" {
            self.count_regex(span)?;
        }
        let call = Call { name: function.name, args: arguments.exprs, span };
        Node::above(arguments.height, Expr::Call(Box::new(call)))
    }

    pub(super) fn parse_aggregate(&mut self, op: AggregateOp) -> Parsed<Node> {
        let token = self.advance();
        let before = self.parse_grouping()?;
        if self.peek().kind != Kind::LeftParen {
            return Err(self.unexpected("aggregation", ""));
        }
        let mut arguments = self.parse_arguments()?;
        let mut span = join(token.span, arguments.span);
        let (without, grouping) = match before {
            Some(before) => before,
            None => {
                let after = self.parse_grouping()?;
                if after.is_some() {
                    span = join(span, self.previous().span);
                }
                after.unwrap_or_default()
            }
        };
        let count = arguments.exprs.len();
        let wanted = if op.has_parameter() { 2 } else { 1 };
        let (Some(expr), true) = (arguments.exprs.pop(), count == wanted) else {
            let message = match count {
                0 => "no arguments for aggregate expression provided".to_owned(),
                _ => format!(
                    "wrong number of arguments for aggregate expression provided, expected {wanted}, got {count}"
                ),
            };
            return Err(Failure::new(span, message));
        };
        let param = arguments.exprs.pop();
        let aggregate = Aggregate { op, expr, param, without, grouping, span };
        Node::above(arguments.height, Expr::Aggregate(Box::new(aggregate)))
    }

    /// `by (…)` or `without (…)`: whether it is the latter, and the labels.
    fn parse_grouping(&mut self) -> Parsed<Option<(bool, Vec<String>)>> {
        let without = self.take_keyword(Keyword::Without);
        if !without && !self.take_keyword(Keyword::By) {
            return Ok(None);
        }
        Ok(Some((without, self.parse_label_list()?)))
    }

    /// `(a, "b.c", by)`: any word is a label here.
    pub(super) fn parse_label_list(&mut self) -> Parsed<Vec<String>> {
        self.expect(Kind::LeftParen, "grouping opts", "\"(\"")?;
        let mut labels = Vec::new();
        while self.peek().kind != Kind::RightParen {
            let token = self.peek();
            match token.kind {
                Kind::Identifier | Kind::MetricIdentifier | Kind::Keyword(_) => {
                    labels.push(self.text(token.span).to_owned());
                }
                Kind::String => {
                    let name = self.string_value(token)?;
                    if name.is_empty() {
                        return Err(self.unexpected("grouping opts", "label"));
                    }
                    labels.push(name);
                }
                _ => return Err(self.unexpected("grouping opts", "label")),
            }
            self.advance();
            match self.peek().kind {
                Kind::Comma => _ = self.advance(),
                Kind::RightParen => {}
                _ => return Err(self.unexpected("grouping opts", "\",\" or \")\"")),
            }
        }
        self.advance();
        Ok(labels)
    }

    /// `(a, b)`, the parentheses included.
    fn parse_arguments(&mut self) -> Parsed<Arguments> {
        let open = self.expect(Kind::LeftParen, "", "")?;
        let mut arguments = Arguments { exprs: Vec::new(), height: 0, span: open.span };
        while self.peek().kind != Kind::RightParen {
            let node = self.parse_expr()?;
            arguments.height = arguments.height.max(node.height);
            arguments.exprs.push(node.expr);
            if self.peek().kind != Kind::Comma {
                break;
            }
            let comma = self.advance();
            if self.peek().kind == Kind::RightParen {
                return Err(Failure::new(comma.span, "trailing commas not allowed in function call args"));
            }
        }
        let close = self.expect(Kind::RightParen, "", "")?;
        arguments.span = join(open.span, close.span);
        Ok(arguments)
    }
}
