//! The grammar of expressions: recursive descent, with precedence climbing for the operators.
//!
//! Selectors, ranges and modifiers are in `selector`, durations in `duration`, calls and aggregations in `call`; types
//! are checked afterwards by `check`.

use super::super::ast::{Binary, BinaryOp, Cardinality, Expr, Fill, Matching, Span};
use super::token::{Keyword, Kind, Token};
use super::{Failure, NESTING_MAX, TREE_DEPTH_MAX, join, lexer, literal};
use crate::duration::parse_duration_ms;

/// Reads one query.
pub(super) struct Parser<'a> {
    pub(super) query: &'a str,
    tokens: Vec<Token>,
    next: usize,
    lex_error: Option<String>,
    /// How many levels of the grammar are open; the stack grows with it.
    depth: u16,
    /// Patterns so far.
    pub(super) regex_count: usize,
    /// What they take.
    pub(super) regex_bytes: usize,
    /// Whether it is still worth to compile one.
    pub(super) is_awaited: &'a dyn Fn() -> bool,
    /// Operators of the duration that is read.
    pub(super) duration_operators: u16,
}

/// An expression with the height of its tree: long chains of operators are deep without deep recursion.
pub(super) struct Node {
    pub expr: Expr,
    pub height: u16,
}

pub(super) type Parsed<T> = Result<T, Failure>;

/// How strongly operators bind. A unary sign binds like [`PRODUCT`]: `-a ^ b` is `-(a ^ b)`, `-a * b` is `(-a) * b`.
const PRODUCT: u8 = 5;
const POWER: u8 = 6;

fn precedence(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 1,
        BinaryOp::And | BinaryOp::Unless => 2,
        BinaryOp::Equal
        | BinaryOp::NotEqual
        | BinaryOp::Greater
        | BinaryOp::Less
        | BinaryOp::GreaterEqual
        | BinaryOp::LessEqual
        | BinaryOp::TrimUpper
        | BinaryOp::TrimLower => 3,
        BinaryOp::Add | BinaryOp::Sub => 4,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Atan2 => PRODUCT,
        BinaryOp::Pow => POWER,
    }
}

fn binary_operator(kind: Kind) -> Option<BinaryOp> {
    Some(match kind {
        Kind::Add => BinaryOp::Add,
        Kind::Sub => BinaryOp::Sub,
        Kind::Mul => BinaryOp::Mul,
        Kind::Div => BinaryOp::Div,
        Kind::Mod => BinaryOp::Mod,
        Kind::Pow => BinaryOp::Pow,
        Kind::Equal => BinaryOp::Equal,
        Kind::NotEqual => BinaryOp::NotEqual,
        Kind::Greater => BinaryOp::Greater,
        Kind::Less => BinaryOp::Less,
        Kind::GreaterEqual => BinaryOp::GreaterEqual,
        Kind::LessEqual => BinaryOp::LessEqual,
        Kind::TrimUpper => BinaryOp::TrimUpper,
        Kind::TrimLower => BinaryOp::TrimLower,
        Kind::Keyword(Keyword::And) => BinaryOp::And,
        Kind::Keyword(Keyword::Or) => BinaryOp::Or,
        Kind::Keyword(Keyword::Unless) => BinaryOp::Unless,
        Kind::Keyword(Keyword::Atan2) => BinaryOp::Atan2,
        _ => return None,
    })
}

/// What stands between an operator and its right side.
struct Modifiers {
    matching: Matching,
    return_bool: bool,
}

impl<'a> Parser<'a> {
    pub fn new(query: &'a str, is_awaited: &'a dyn Fn() -> bool) -> Parser<'a> {
        let lexer::Lexed { tokens, error } = lexer::lex(query);
        Parser {
            query,
            tokens,
            next: 0,
            lex_error: error,
            depth: 0,
            regex_count: 0,
            regex_bytes: 0,
            is_awaited,
            duration_operators: 0,
        }
    }

    /// The whole text as one expression.
    pub fn parse_query(&mut self) -> Parsed<Expr> {
        if self.peek().kind == Kind::End {
            return Err(Failure::new(self.peek().span, "no expression found in input"));
        }
        let node = self.parse_expr()?;
        if self.peek().kind != Kind::End {
            return Err(self.unexpected("", ""));
        }
        Ok(node.expr)
    }

    pub(super) fn parse_expr(&mut self) -> Parsed<Node> {
        self.parse_operators(0)
    }

    /// An operand and all operators after it that bind at least as strongly as `precedence_min`.
    fn parse_operators(&mut self, precedence_min: u8) -> Parsed<Node> {
        self.descend()?;
        let mut left = self.parse_operand()?;
        while let Some(op) = binary_operator(self.peek().kind).filter(|op| precedence(*op) >= precedence_min)
        {
            self.advance();
            let modifiers = self.parse_modifiers()?;
            // A power groups to the right; the others to the left.
            let right_min = if op == BinaryOp::Pow { POWER } else { precedence(op) + 1 };
            let right = self.parse_operators(right_min)?;
            left = self.binary(op, modifiers, left, right)?;
        }
        self.ascend();
        Ok(left)
    }

    fn binary(&self, op: BinaryOp, modifiers: Modifiers, left: Node, right: Node) -> Parsed<Node> {
        let span = join(left.expr.span(), right.expr.span());
        let height = left.height.max(right.height);
        let Modifiers { mut matching, return_bool } = modifiers;
        if op.is_set() && matching.cardinality == Cardinality::OneToOne {
            matching.cardinality = Cardinality::ManyToMany;
        }
        let (left, right) = (left.expr, right.expr);
        let binary = Binary { op, left, right, matching: Some(matching), return_bool, span };
        Node::above(height, Expr::Binary(Box::new(binary)))
    }

    fn parse_modifiers(&mut self) -> Parsed<Modifiers> {
        let return_bool = self.take_keyword(Keyword::Bool);
        let mut matching = Matching {
            cardinality: Cardinality::OneToOne,
            on: self.take_keyword(Keyword::On),
            labels: Vec::new(),
            include: Vec::new(),
            fill: Fill::default(),
        };
        if matching.on || self.take_keyword(Keyword::Ignoring) {
            matching.labels = self.parse_label_list()?;
            if self.take_keyword(Keyword::GroupLeft) {
                matching.cardinality = Cardinality::ManyToOne;
            } else if self.take_keyword(Keyword::GroupRight) {
                matching.cardinality = Cardinality::OneToMany;
            }
            if matching.cardinality != Cardinality::OneToOne && self.peek().kind == Kind::LeftParen {
                matching.include = self.parse_label_list()?;
            }
        }
        matching.fill = self.parse_fill()?;
        Ok(Modifiers { matching, return_bool })
    }

    /// `fill (0)`, or `fill_left (0)` and `fill_right (0)` in any order. Without a parenthesis they are names.
    fn parse_fill(&mut self) -> Parsed<Fill> {
        let mut fill = Fill::default();
        while self.peek_second() == Kind::LeftParen {
            match self.peek().kind {
                Kind::Keyword(Keyword::Fill) if fill.is_none() => {
                    let value = Some(self.parse_fill_value()?);
                    return Ok(Fill { left: value, right: value });
                }
                Kind::Keyword(Keyword::FillLeft) if fill.left.is_none() => {
                    fill.left = Some(self.parse_fill_value()?);
                }
                Kind::Keyword(Keyword::FillRight) if fill.right.is_none() => {
                    fill.right = Some(self.parse_fill_value()?);
                }
                _ => break,
            }
        }
        Ok(fill)
    }

    fn parse_fill_value(&mut self) -> Parsed<f64> {
        self.advance();
        self.expect(Kind::LeftParen, "", "")?;
        let negate = self.peek().kind == Kind::Sub;
        if negate || self.peek().kind == Kind::Add {
            self.advance();
        }
        let token = self.peek();
        if !matches!(token.kind, Kind::Number | Kind::Duration) {
            return Err(self.unexpected("", ""));
        }
        self.advance();
        let value = self.number_value(token)?;
        self.expect(Kind::RightParen, "", "")?;
        Ok(if negate { -value } else { value })
    }

    /// A sign with its operand, or a selector, call, literal or parenthesis with what is attached to it.
    fn parse_operand(&mut self) -> Parsed<Node> {
        let sign = self.peek();
        match sign.kind {
            Kind::Add | Kind::Sub => {
                self.advance();
                let operand = self.parse_operators(POWER)?;
                sign_of(sign, operand)
            }
            _ => {
                let primary = self.parse_primary()?;
                self.parse_suffixes(primary)
            }
        }
    }

    fn parse_primary(&mut self) -> Parsed<Node> {
        let token = self.peek();
        match token.kind {
            Kind::Number | Kind::Duration => self.parse_number(),
            Kind::String => self.parse_string(),
            Kind::LeftParen => self.parse_paren(),
            Kind::LeftBrace => self.parse_selector(),
            Kind::Identifier if self.peek_second() == Kind::LeftParen => self.parse_call(),
            Kind::Keyword(Keyword::Start | Keyword::End | Keyword::Step | Keyword::Range)
                if self.peek_second() == Kind::LeftParen =>
            {
                self.parse_call()
            }
            Kind::Keyword(Keyword::Aggregate(op)) if self.begins_aggregation() => self.parse_aggregate(op),
            Kind::Identifier | Kind::MetricIdentifier => self.parse_selector(),
            Kind::Keyword(keyword) if keyword.is_metric_name() => self.parse_selector(),
            _ => Err(self.unexpected("", "")),
        }
    }

    /// Whether the name of an aggregation here is meant as one, and not as the name of a metric: judged by the token
    /// after it. `sum x` is a broken aggregation rather than a metric called `sum` before a stray `x`.
    fn begins_aggregation(&self) -> bool {
        matches!(
            self.peek_second(),
            Kind::LeftParen
                | Kind::Keyword(Keyword::By | Keyword::Without)
                | Kind::Identifier
                | Kind::MetricIdentifier
                | Kind::Number
                | Kind::Duration
                | Kind::String
        )
    }

    fn parse_paren(&mut self) -> Parsed<Node> {
        let open = self.advance();
        let inner = self.parse_expr()?;
        let close = self.expect(Kind::RightParen, "", "")?;
        Node::above(
            inner.height,
            Expr::Paren { expr: Box::new(inner.expr), span: join(open.span, close.span) },
        )
    }

    fn parse_number(&mut self) -> Parsed<Node> {
        let token = self.advance();
        let value = self.number_value(token)?;
        Ok(Node { expr: Expr::Number { value, span: token.span }, height: 1 })
    }

    /// The value of a number, or the seconds of a duration.
    pub(super) fn number_value(&self, token: Token) -> Parsed<f64> {
        let text = self.text(token.span);
        if token.kind == Kind::Duration {
            let duration_ms =
                parse_duration_ms(text).map_err(|error| Failure::new(token.span, error.to_string()))?;
            // Whole and broken seconds apart, as Go's Duration.Seconds has them: the last bit of the value counts.
            return Ok((duration_ms / 1000) as f64 + (duration_ms % 1000 * 1_000_000) as f64 / 1e9);
        }
        literal::parse_number(text)
            .ok_or_else(|| Failure::new(token.span, format!("error parsing number: {text:?}")))
    }

    fn parse_string(&mut self) -> Parsed<Node> {
        let token = self.advance();
        let expr = match String::from_utf8(self.string_bytes(token)?) {
            Ok(value) => Expr::String { value, span: token.span },
            Err(error) => Expr::Bytes { value: error.into_bytes(), span: token.span },
        };
        Ok(Node { expr, height: 1 })
    }

    /// The content of a string token that names or describes something, which nothing but UTF-8 can.
    pub(super) fn string_value(&self, token: Token) -> Parsed<String> {
        let text = self.text(token.span);
        literal::unquote(text).map_err(|reason| self.bad_string(token, &reason))
    }

    fn string_bytes(&self, token: Token) -> Parsed<Vec<u8>> {
        literal::unquote_bytes(self.text(token.span)).map_err(|reason| self.bad_string(token, &reason))
    }

    fn bad_string(&self, token: Token, reason: &str) -> Failure {
        let text = self.text(token.span);
        Failure::new(token.span, format!("error unquoting string {text:?}: {reason}"))
    }

    pub(super) fn descend(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(Failure::new(self.peek().span, too_deep(NESTING_MAX)));
        }
        Ok(())
    }

    pub(super) fn ascend(&mut self) {
        self.depth -= 1;
    }

    pub(super) fn text(&self, span: Span) -> &'a str {
        &self.query[span.start as usize..span.end as usize]
    }

    pub(super) fn peek(&self) -> Token {
        self.tokens[self.next]
    }

    fn peek_second(&self) -> Kind {
        self.tokens.get(self.next + 1).map_or(Kind::End, |token| token.kind)
    }

    pub(super) fn previous(&self) -> Token {
        self.tokens[self.next.saturating_sub(1)]
    }

    /// Takes the token here; the last one stays.
    pub(super) fn advance(&mut self) -> Token {
        let token = self.peek();
        if self.next + 1 < self.tokens.len() {
            self.next += 1;
        }
        token
    }

    pub(super) fn expect(&mut self, kind: Kind, context: &str, expected: &str) -> Parsed<Token> {
        if self.peek().kind == kind { Ok(self.advance()) } else { Err(self.unexpected(context, expected)) }
    }

    pub(super) fn take_keyword(&mut self, keyword: Keyword) -> bool {
        let found = self.peek().kind == Kind::Keyword(keyword);
        if found {
            self.advance();
        }
        found
    }

    /// The error that the token here may not stand here. If it is no token at all, that is the error.
    pub(super) fn unexpected(&self, context: &str, expected: &str) -> Failure {
        let token = self.peek();
        if let (Kind::Bad, Some(message)) = (token.kind, &self.lex_error) {
            return Failure::new(token.span, message.clone());
        }
        let mut message = format!("unexpected {}", token.describe(self.query));
        if !context.is_empty() {
            message.push_str(" in ");
            message.push_str(context);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        Failure::new(token.span, message)
    }
}

impl Node {
    /// A node whose highest child has this height.
    pub fn above(child_height: u16, expr: Expr) -> Parsed<Node> {
        if child_height >= TREE_DEPTH_MAX {
            return Err(Failure::new(expr.span(), too_deep(TREE_DEPTH_MAX)));
        }
        Ok(Node { expr, height: child_height + 1 })
    }
}

pub(super) fn too_deep(levels_max: u16) -> String {
    format!("expression is nested more than {levels_max} levels deep")
}

/// A sign before an operand. Signs of literals are folded into them.
fn sign_of(sign: Token, operand: Node) -> Parsed<Node> {
    let negate = sign.kind == Kind::Sub;
    let span = join(sign.span, operand.expr.span());
    if let Expr::Number { value, .. } = operand.expr {
        let value = if negate { -value } else { value };
        return Ok(Node { expr: Expr::Number { value, span }, height: operand.height });
    }
    Node::above(operand.height, Expr::Unary { negate, expr: Box::new(operand.expr), span })
}
