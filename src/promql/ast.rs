//! The syntax tree of PromQL. Times are milliseconds, durations as they are written (`duration`); spans are byte
//! offsets into the query.

use annulus_shards::Matcher;

pub use self::duration::{DurationExpr, DurationOp, NoDuration, QueryTimes};

mod duration;

/// Where an expression stands in the query text, for error messages and annotations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// What an expression evaluates to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// One number per step.
    Scalar,
    /// A constant text.
    String,
    /// One value per series and step.
    Vector,
    /// A run of samples per series and step.
    Matrix,
}

/// Any expression.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each variant shows the syntax that its fields hold")]
pub enum Expr {
    /// `1.5`, `Inf`, `0x1f`, and durations where a number may stand (`5m` is 300).
    Number { value: f64, span: Span },
    /// `"text"`
    String { value: String, span: Span },
    /// `"\xff"`: a text that is not UTF-8, which nothing here is; only error messages show it.
    Bytes { value: Vec<u8>, span: Span },
    /// `metric{…} offset 5m @ 10`
    Vector(VectorSelector),
    /// `metric{…}[5m] offset 5m @ 10`; the selector holds the offset and `@`.
    Matrix { selector: VectorSelector, range: Box<DurationExpr>, span: Span },
    /// `expr[1h:5m] offset 5m @ 10`
    Subquery(Box<Subquery>),
    /// `rate(x[5m])`
    Call(Box<Call>),
    /// `sum by (job) (x)`
    Aggregate(Box<Aggregate>),
    /// `a + on (job) b`
    Binary(Box<Binary>),
    /// `-x`; `+x` parses to `Paren`-free `x` wrapped here with `negate: false`.
    Unary { negate: bool, expr: Box<Expr>, span: Span },
    /// `(x)`
    Paren { expr: Box<Expr>, span: Span },
}

/// Where a selector's or subquery's evaluation time is pinned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AtModifier {
    /// `@ 1609746000`
    Timestamp(i64),
    /// `@ start()`
    Start,
    /// `@ end()`
    End,
}

/// A selector of series.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSelector {
    /// All conditions, the one on `__name__` included.
    pub matchers: Vec<Matcher>,
    /// Positive looks back.
    pub offset: Option<Box<DurationExpr>>,
    /// Pinned time, if any.
    pub at: Option<AtModifier>,
    /// `anchored` or `smoothed`
    pub borders: Borders,
    /// Where it stands.
    pub span: Span,
}

/// What a selector takes for the value at the border of its range, or at its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Borders {
    /// Only samples inside count.
    #[default]
    Inside,
    /// `anchored`: the value of the last sample before it.
    Anchored,
    /// `smoothed`: the value on the line between the samples before and after it.
    Smoothed,
}

/// An expression evaluated over a range of inner steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Subquery {
    /// The inner expression, a vector.
    pub expr: Expr,
    /// How far it looks back.
    pub range: DurationExpr,
    /// Inner step; the default evaluation interval when absent.
    pub step: Option<DurationExpr>,
    /// Positive looks back.
    pub offset: Option<Box<DurationExpr>>,
    /// Pinned time, if any.
    pub at: Option<AtModifier>,
    /// Where it stands.
    pub span: Span,
}

/// A function call; the parser has checked the name, the number and the types of the arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The function's name as in Prometheus' documentation.
    pub name: &'static str,
    /// Arguments in order.
    pub args: Vec<Expr>,
    /// Where it stands.
    pub span: Span,
}

/// The aggregation operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are PromQL's own")]
pub enum AggregateOp {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Group,
    Stddev,
    Stdvar,
    TopK,
    BottomK,
    Quantile,
    CountValues,
    LimitK,
    LimitRatio,
}

/// An aggregation.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// The operator.
    pub op: AggregateOp,
    /// The vector that is aggregated.
    pub expr: Expr,
    /// k, φ, the label of `count_values`, the ratio.
    pub param: Option<Expr>,
    /// `without (…)` instead of `by (…)`.
    pub without: bool,
    /// The labels named.
    pub grouping: Vec<String>,
    /// Where it stands.
    pub span: Span,
}

/// The binary operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are PromQL's own")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterEqual,
    LessEqual,
    TrimUpper,
    TrimLower,
    And,
    Or,
    Unless,
}

impl AggregateOp {
    /// The operator as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            AggregateOp::Sum => "sum",
            AggregateOp::Avg => "avg",
            AggregateOp::Min => "min",
            AggregateOp::Max => "max",
            AggregateOp::Count => "count",
            AggregateOp::Group => "group",
            AggregateOp::Stddev => "stddev",
            AggregateOp::Stdvar => "stdvar",
            AggregateOp::TopK => "topk",
            AggregateOp::BottomK => "bottomk",
            AggregateOp::Quantile => "quantile",
            AggregateOp::CountValues => "count_values",
            AggregateOp::LimitK => "limitk",
            AggregateOp::LimitRatio => "limit_ratio",
        }
    }

    /// Whether an argument stands before the vector.
    pub fn has_parameter(self) -> bool {
        use AggregateOp::{BottomK, CountValues, LimitK, LimitRatio, Quantile, TopK};
        matches!(self, TopK | BottomK | Quantile | CountValues | LimitK | LimitRatio)
    }
}

impl BinaryOp {
    /// The operator as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "^",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::Equal => "==",
            BinaryOp::NotEqual => "!=",
            BinaryOp::Greater => ">",
            BinaryOp::Less => "<",
            BinaryOp::GreaterEqual => ">=",
            BinaryOp::LessEqual => "<=",
            BinaryOp::TrimUpper => "</",
            BinaryOp::TrimLower => ">/",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
            BinaryOp::Unless => "unless",
        }
    }

    /// `==` and its kin.
    pub fn is_comparison(self) -> bool {
        use BinaryOp::{Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual};
        matches!(self, Equal | NotEqual | Greater | Less | GreaterEqual | LessEqual)
    }

    /// `</` and `>/`, which trim native histograms.
    pub fn is_trim(self) -> bool {
        matches!(self, BinaryOp::TrimUpper | BinaryOp::TrimLower)
    }

    /// `and`, `or`, `unless`.
    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }
}

/// How many series of each side may share a match group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cardinality {
    /// One to one.
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
    /// Set operators.
    ManyToMany,
}

/// How the series of two vectors are paired.
#[derive(Debug, Clone, PartialEq)]
pub struct Matching {
    /// Which side may repeat.
    pub cardinality: Cardinality,
    /// `on (…)`; otherwise `ignoring (…)`, with no labels when neither is written.
    pub on: bool,
    /// The labels named.
    pub labels: Vec<String>,
    /// Labels that `group_left`/`group_right` copies from the "one" side.
    pub include: Vec<String>,
    /// Values for what has no partner.
    pub fill: Fill,
}

/// The values that stand for a missing partner: `fill (…)` is both.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Fill {
    /// `fill_left (…)`
    pub left: Option<f64>,
    /// `fill_right (…)`
    pub right: Option<f64>,
}

impl Fill {
    /// Whether no side has a value to stand in.
    pub fn is_none(self) -> bool {
        self.left.is_none() && self.right.is_none()
    }
}

/// A binary operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// Left operand.
    pub left: Expr,
    /// Right operand.
    pub right: Expr,
    /// Present when both sides are vectors.
    pub matching: Option<Matching>,
    /// `bool`
    pub return_bool: bool,
    /// Where it stands.
    pub span: Span,
}

impl Expr {
    /// The type of the value, fixed by the syntax alone.
    pub fn value_type(&self) -> ValueType {
        match self {
            Expr::Number { .. } => ValueType::Scalar,
            Expr::String { .. } | Expr::Bytes { .. } => ValueType::String,
            Expr::Vector(_) | Expr::Aggregate(_) => ValueType::Vector,
            Expr::Matrix { .. } | Expr::Subquery(_) => ValueType::Matrix,
            Expr::Call(call) => match call.name {
                "time" | "scalar" | "pi" | "start" | "end" | "step" | "range" | "min_of" | "max_of" => {
                    ValueType::Scalar
                }
                _ => ValueType::Vector,
            },
            Expr::Binary(binary) => {
                if binary.left.value_type() == ValueType::Scalar
                    && binary.right.value_type() == ValueType::Scalar
                {
                    ValueType::Scalar
                } else {
                    ValueType::Vector
                }
            }
            Expr::Unary { expr, .. } | Expr::Paren { expr, .. } => expr.value_type(),
        }
    }

    /// All selectors in it, in the order in which they stand. The parser bounds how deep an expression is.
    pub fn into_selectors(self) -> Vec<VectorSelector> {
        let mut selectors = Vec::new();
        self.collect_selectors(&mut selectors);
        selectors
    }

    fn collect_selectors(self, selectors: &mut Vec<VectorSelector>) {
        match self {
            Expr::Number { .. } | Expr::String { .. } | Expr::Bytes { .. } => {}
            Expr::Vector(selector) | Expr::Matrix { selector, .. } => selectors.push(selector),
            Expr::Subquery(subquery) => subquery.expr.collect_selectors(selectors),
            Expr::Call(call) => call.args.into_iter().for_each(|arg| arg.collect_selectors(selectors)),
            Expr::Aggregate(aggregate) => {
                if let Some(param) = aggregate.param {
                    param.collect_selectors(selectors);
                }
                aggregate.expr.collect_selectors(selectors);
            }
            Expr::Binary(binary) => {
                binary.left.collect_selectors(selectors);
                binary.right.collect_selectors(selectors);
            }
            Expr::Unary { expr, .. } | Expr::Paren { expr, .. } => expr.collect_selectors(selectors),
        }
    }

    /// Where the expression stands in the query.
    pub fn span(&self) -> Span {
        match self {
            Expr::Number { span, .. }
            | Expr::String { span, .. }
            | Expr::Bytes { span, .. }
            | Expr::Matrix { span, .. }
            | Expr::Unary { span, .. }
            | Expr::Paren { span, .. } => *span,
            Expr::Vector(selector) => selector.span,
            Expr::Subquery(subquery) => subquery.span,
            Expr::Call(call) => call.span,
            Expr::Aggregate(aggregate) => aggregate.span,
            Expr::Binary(binary) => binary.span,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::promql::parser::parse;

    #[test]
    fn all_selectors_are_found_in_the_order_in_which_they_stand() {
        let query = "topk(scalar(a), -(sum by (x) (rate(b{x=\"1\"}[5m] offset 1h)))) \
                     / on () max_over_time(c[1h:1m] @ 7) + 3";
        let selectors = parse(query).unwrap().into_selectors();
        let names: Vec<&str> = selectors
            .iter()
            .map(|selector| {
                let name = selector.matchers.iter().find(|matcher| matcher.name == "__name__");
                name.unwrap().value.as_str()
            })
            .collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert!(parse("1 + time()").unwrap().into_selectors().is_empty());
    }
}
