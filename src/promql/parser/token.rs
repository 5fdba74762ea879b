//! The tokens of PromQL, and how error messages call them.

use super::super::ast::{AggregateOp, Span};

/// A token; its text is found by its span.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    pub kind: Kind,
    pub span: Span,
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The end of the text.
    End,
    /// Text that is no token; the lexer keeps the message and stops.
    Bad,
    Identifier,
    /// A name with a colon, which only metrics have.
    MetricIdentifier,
    Keyword(Keyword),
    Number,
    Duration,
    String,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    At,
    /// `=`
    Assign,
    /// `=~`
    MatchRegex,
    /// `!~`
    MatchNotRegex,
    /// `==`
    Equal,
    /// `!=`, the matcher and the comparison.
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    /// `</`
    TrimUpper,
    /// `>/`
    TrimLower,
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
}

/// Words with a meaning of their own, in any case of letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    Aggregate(AggregateOp),
    And,
    Or,
    Unless,
    Atan2,
    Offset,
    By,
    Without,
    On,
    Ignoring,
    GroupLeft,
    GroupRight,
    Bool,
    Start,
    End,
    Step,
    Range,
    Fill,
    FillLeft,
    FillRight,
    Anchored,
    Smoothed,
}

/// No keyword is longer, so that a look-up needs no allocation.
const KEYWORD_BYTES_MAX: usize = 12;

impl Keyword {
    /// The keyword that a word is, if it is one.
    pub fn find(word: &str) -> Option<Keyword> {
        let mut lower = [0; KEYWORD_BYTES_MAX];
        let lower = lower.get_mut(..word.len())?;
        lower.copy_from_slice(word.as_bytes());
        lower.make_ascii_lowercase();
        Some(match &*lower {
            b"sum" => Keyword::Aggregate(AggregateOp::Sum),
            b"avg" => Keyword::Aggregate(AggregateOp::Avg),
            b"min" => Keyword::Aggregate(AggregateOp::Min),
            b"max" => Keyword::Aggregate(AggregateOp::Max),
            b"count" => Keyword::Aggregate(AggregateOp::Count),
            b"group" => Keyword::Aggregate(AggregateOp::Group),
            b"stddev" => Keyword::Aggregate(AggregateOp::Stddev),
            b"stdvar" => Keyword::Aggregate(AggregateOp::Stdvar),
            b"topk" => Keyword::Aggregate(AggregateOp::TopK),
            b"bottomk" => Keyword::Aggregate(AggregateOp::BottomK),
            b"quantile" => Keyword::Aggregate(AggregateOp::Quantile),
            b"count_values" => Keyword::Aggregate(AggregateOp::CountValues),
            b"limitk" => Keyword::Aggregate(AggregateOp::LimitK),
            b"limit_ratio" => Keyword::Aggregate(AggregateOp::LimitRatio),
            b"and" => Keyword::And,
            b"or" => Keyword::Or,
            b"unless" => Keyword::Unless,
            b"atan2" => Keyword::Atan2,
            b"offset" => Keyword::Offset,
            b"by" => Keyword::By,
            b"without" => Keyword::Without,
            b"on" => Keyword::On,
            b"ignoring" => Keyword::Ignoring,
            b"group_left" => Keyword::GroupLeft,
            b"group_right" => Keyword::GroupRight,
            b"bool" => Keyword::Bool,
            b"start" => Keyword::Start,
            b"end" => Keyword::End,
            b"step" => Keyword::Step,
            b"range" => Keyword::Range,
            b"fill" => Keyword::Fill,
            b"fill_left" => Keyword::FillLeft,
            b"fill_right" => Keyword::FillRight,
            b"anchored" => Keyword::Anchored,
            b"smoothed" => Keyword::Smoothed,
            _ => return None,
        })
    }

    /// Whether a metric may bear the word as its name outside braces.
    pub fn is_metric_name(self) -> bool {
        !matches!(
            self,
            Keyword::On
                | Keyword::Ignoring
                | Keyword::GroupLeft
                | Keyword::GroupRight
                | Keyword::Bool
                | Keyword::Atan2
        )
    }
}

impl Token {
    /// The token as messages call it: `identifier "foo"`, `<by>`, `<op:*>`, `"{"`.
    pub fn describe(&self, query: &str) -> String {
        let text = query.get(self.span.start as usize..self.span.end as usize).unwrap_or_default();
        match self.kind {
            Kind::End => "end of input".to_owned(),
            Kind::Identifier => format!("identifier {:?}", shorten(text)),
            Kind::MetricIdentifier => format!("metric identifier {:?}", shorten(text)),
            Kind::Number => format!("number {:?}", shorten(text)),
            Kind::Duration => format!("duration {:?}", shorten(text)),
            Kind::String => format!("string {:?}", shorten(text)),
            Kind::Keyword(Keyword::Aggregate(_)) => format!("<aggr:{text}>"),
            Kind::Keyword(Keyword::And | Keyword::Or | Keyword::Unless | Keyword::Atan2) => {
                format!("<op:{text}>")
            }
            Kind::Keyword(Keyword::Start | Keyword::End | Keyword::Step | Keyword::Range) => {
                format!("{text:?}")
            }
            Kind::Keyword(_) => format!("<{text}>"),
            Kind::At
            | Kind::MatchRegex
            | Kind::MatchNotRegex
            | Kind::Equal
            | Kind::NotEqual
            | Kind::Less
            | Kind::LessEqual
            | Kind::Greater
            | Kind::GreaterEqual
            | Kind::TrimUpper
            | Kind::TrimLower
            | Kind::Add
            | Kind::Sub
            | Kind::Mul
            | Kind::Div
            | Kind::Mod
            | Kind::Pow => format!("<op:{text}>"),
            Kind::Bad
            | Kind::LeftParen
            | Kind::RightParen
            | Kind::LeftBrace
            | Kind::RightBrace
            | Kind::LeftBracket
            | Kind::RightBracket
            | Kind::Comma
            | Kind::Colon
            | Kind::Assign => format!("{text:?}"),
        }
    }
}

/// Long names and strings would drown the message.
fn shorten(text: &str) -> &str {
    const CHARS_MAX: usize = 40;
    text.char_indices().nth(CHARS_MAX).map_or(text, |(end, _)| &text[..end])
}
