//! The canonical text of a tree. Parsing it gives the same tree, but for spans.

use std::fmt::{self, Display, Formatter, Write as _};

use annulus_shards::labels::METRIC_NAME;
use annulus_shards::{MatchOp, Matcher};

use super::super::ast::{
    Aggregate, AtModifier, Binary, Borders, Cardinality, DurationExpr, DurationOp, Expr, Fill, Matching,
    VectorSelector,
};
use super::lexer::is_float_word;
use super::literal::{quote, quote_bytes};
use super::token::Keyword;
use crate::duration::format_duration;
use crate::shortest;

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Number { value, .. } => write_number(f, *value),
            Expr::String { value, .. } => f.write_str(&quote(value)),
            Expr::Bytes { value, .. } => f.write_str(&quote_bytes(value)),
            Expr::Vector(selector) => {
                write_selector(f, selector)?;
                write_borders(f, selector.borders)?;
                write_pins(f, selector.at, selector.offset.as_deref())
            }
            Expr::Matrix { selector, range, .. } => {
                write_selector(f, selector)?;
                write!(f, "[{range}]")?;
                write_borders(f, selector.borders)?;
                write_pins(f, selector.at, selector.offset.as_deref())
            }
            Expr::Subquery(subquery) => {
                write!(f, "{}[{}:", subquery.expr, subquery.range)?;
                if let Some(step) = &subquery.step {
                    write!(f, "{step}")?;
                }
                f.write_char(']')?;
                write_pins(f, subquery.at, subquery.offset.as_deref())
            }
            Expr::Call(call) => {
                f.write_str(call.name)?;
                let matchers_at = (call.name == "info").then_some(1);
                write_list(f, &call.args, |f, index, argument| match argument {
                    Expr::Vector(selector) if Some(index) == matchers_at => {
                        write_matchers(f, &selector.matchers)?;
                        write_pins(f, selector.at, selector.offset.as_deref())
                    }
                    argument => write!(f, "{argument}"),
                })
            }
            Expr::Aggregate(aggregate) => write_aggregate(f, aggregate),
            Expr::Binary(binary) => write_binary(f, binary),
            Expr::Unary { negate, expr, .. } => write!(f, "{}{expr}", if *negate { '-' } else { '+' }),
            Expr::Paren { expr, .. } => write!(f, "({expr})"),
        }
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // Alone, a number is written as a duration; beside others it is a factor as often as not.
        match self.literal_ms() {
            Some(duration_ms) if is_whole_ms(self) => f.write_str(&format_duration(duration_ms)),
            _ => write_duration(f, self),
        }
    }
}

fn is_whole_ms(duration: &DurationExpr) -> bool {
    matches!(duration, DurationExpr::Seconds { value, .. } if (value * 1000.0).fract() == 0.0)
}

fn write_duration(f: &mut Formatter<'_>, duration: &DurationExpr) -> fmt::Result {
    match duration {
        DurationExpr::Seconds { value, with_unit, .. } => match duration.literal_ms() {
            Some(duration_ms) if *with_unit && is_whole_ms(duration) => {
                f.write_str(&format_duration(duration_ms))
            }
            _ => write_number(f, *value),
        },
        DurationExpr::Step(_) => f.write_str("step()"),
        DurationExpr::Range(_) => f.write_str("range()"),
        DurationExpr::Negate { expr, .. } => {
            f.write_char('-')?;
            write_duration(f, expr)
        }
        DurationExpr::Paren { expr, .. } => {
            f.write_char('(')?;
            write_duration(f, expr)?;
            f.write_char(')')
        }
        DurationExpr::Binary { op, left, right, .. } => {
            let (open, between, close) = match op {
                DurationOp::Add => ("", " + ", ""),
                DurationOp::Sub => ("", " - ", ""),
                DurationOp::Mul => ("", " * ", ""),
                DurationOp::Div => ("", " / ", ""),
                DurationOp::Mod => ("", " % ", ""),
                DurationOp::Pow => ("", " ^ ", ""),
                DurationOp::MinOf => ("min_of(", ", ", ")"),
                DurationOp::MaxOf => ("max_of(", ", ", ")"),
            };
            f.write_str(open)?;
            write_duration(f, left)?;
            f.write_str(between)?;
            write_duration(f, right)?;
            f.write_str(close)
        }
    }
}

fn write_borders(f: &mut Formatter<'_>, borders: Borders) -> fmt::Result {
    match borders {
        Borders::Inside => Ok(()),
        Borders::Anchored => f.write_str(" anchored"),
        Borders::Smoothed => f.write_str(" smoothed"),
    }
}

fn write_number(f: &mut impl fmt::Write, value: f64) -> fmt::Result {
    if value.is_nan() {
        f.write_str("NaN")
    } else if value.is_infinite() {
        f.write_str(if value > 0.0 { "+Inf" } else { "-Inf" })
    } else {
        f.write_str(&shortest::plain(value))
    }
}

/// The name goes before the braces if it may stand there and is the last matcher, where the parser puts it.
fn write_selector(f: &mut Formatter<'_>, selector: &VectorSelector) -> fmt::Result {
    let is_name = |matcher: &&Matcher| matcher.name == METRIC_NAME;
    let matchers = match selector.matchers.split_last() {
        Some((last, others))
            if is_name(&last)
                && last.op == MatchOp::Equal
                && is_bare_name(&last.value, true)
                && !others.iter().any(|matcher| is_name(&matcher)) =>
        {
            f.write_str(&last.value)?;
            if others.is_empty() {
                return Ok(());
            }
            others
        }
        _ => &selector.matchers,
    };
    write_matchers(f, matchers)
}

fn write_matchers(f: &mut Formatter<'_>, matchers: &[Matcher]) -> fmt::Result {
    f.write_char('{')?;
    for (index, matcher) in matchers.iter().enumerate() {
        if index > 0 {
            f.write_char(',')?;
        }
        let op = match matcher.op {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        };
        if is_label_name(&matcher.name) {
            f.write_str(&matcher.name)?;
        } else {
            f.write_str(&quote(&matcher.name))?;
        }
        write!(f, "{op}{}", quote(&matcher.value))?;
    }
    f.write_char('}')
}

/// Where a selector or subquery is pinned, and how far it is moved.
pub(super) fn write_pins(
    f: &mut impl fmt::Write,
    at: Option<AtModifier>,
    offset: Option<&DurationExpr>,
) -> fmt::Result {
    match at {
        None => {}
        Some(AtModifier::Start) => f.write_str(" @ start()")?,
        Some(AtModifier::End) => f.write_str(" @ end()")?,
        Some(AtModifier::Timestamp(timestamp_ms)) => {
            let sign = if timestamp_ms < 0 { "-" } else { "" };
            let (seconds, rest_ms) = (timestamp_ms.unsigned_abs() / 1000, timestamp_ms.unsigned_abs() % 1000);
            write!(f, " @ {sign}{seconds}.{rest_ms:03}")?;
        }
    }
    match offset {
        Some(offset) if offset.literal_ms() != Some(0) => write!(f, " offset {offset}"),
        _ => Ok(()),
    }
}

/// An aggregation up to its parenthesis.
pub(super) fn write_aggregate_head(f: &mut impl fmt::Write, aggregate: &Aggregate) -> fmt::Result {
    f.write_str(aggregate.op.as_str())?;
    if aggregate.without || !aggregate.grouping.is_empty() {
        f.write_str(if aggregate.without { " without " } else { " by " })?;
        write_labels(f, &aggregate.grouping)?;
        f.write_char(' ')?;
    }
    Ok(())
}

fn write_aggregate(f: &mut Formatter<'_>, aggregate: &Aggregate) -> fmt::Result {
    write_aggregate_head(f, aggregate)?;
    f.write_char('(')?;
    if let Some(param) = &aggregate.param {
        write!(f, "{param}, ")?;
    }
    write!(f, "{})", aggregate.expr)
}

fn write_binary(f: &mut Formatter<'_>, binary: &Binary) -> fmt::Result {
    write!(f, "{} ", binary.left)?;
    write_operator(f, binary)?;
    write!(f, " {}", binary.right)
}

/// What stands between the two sides of an operation.
pub(super) fn write_operator(f: &mut impl fmt::Write, binary: &Binary) -> fmt::Result {
    f.write_str(binary.op.as_str())?;
    if binary.return_bool {
        f.write_str(" bool")?;
    }
    match &binary.matching {
        Some(matching) => write_matching(f, matching),
        None => Ok(()),
    }
}

fn write_matching(f: &mut impl fmt::Write, matching: &Matching) -> fmt::Result {
    let group = match matching.cardinality {
        Cardinality::ManyToOne => " group_left ",
        Cardinality::OneToMany => " group_right ",
        Cardinality::OneToOne | Cardinality::ManyToMany => "",
    };
    if !matching.on && matching.labels.is_empty() && group.is_empty() {
        return write_fill(f, matching.fill);
    }
    f.write_str(if matching.on { " on " } else { " ignoring " })?;
    write_labels(f, &matching.labels)?;
    if !group.is_empty() {
        f.write_str(group)?;
        // Written even when empty: the right side may begin with a parenthesis.
        write_labels(f, &matching.include)?;
    }
    write_fill(f, matching.fill)
}

fn write_fill(f: &mut impl fmt::Write, fill: Fill) -> fmt::Result {
    let both = fill.left == fill.right;
    let named = [("fill", fill.left.filter(|_| both)), ("fill_left", fill.left), ("fill_right", fill.right)];
    let shown = if both { &named[..1] } else { &named[1..] };
    for (name, value) in shown.iter().filter_map(|(name, value)| Some((name, (*value)?))) {
        write!(f, " {name} (")?;
        write_number(f, value)?;
        f.write_char(')')?;
    }
    Ok(())
}

fn write_labels(f: &mut impl fmt::Write, labels: &[String]) -> fmt::Result {
    write_list(
        f,
        labels,
        |f, _, label| {
            if is_label_name(label) { f.write_str(label) } else { f.write_str(&quote(label)) }
        },
    )
}

fn write_list<W: fmt::Write, T>(
    f: &mut W,
    items: &[T],
    write: impl Fn(&mut W, usize, &T) -> fmt::Result,
) -> fmt::Result {
    f.write_char('(')?;
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write(f, index, item)?;
    }
    f.write_char(')')
}

/// Whether a label needs no quotes: also where numbers are read, as in `by (…)`.
fn is_label_name(name: &str) -> bool {
    is_classic_name(name, false) && !is_float_word(name)
}

/// Whether a metric name may stand before the braces. Keywords could at some places; nowhere is simpler to be sure of.
fn is_bare_name(name: &str, colons: bool) -> bool {
    is_classic_name(name, colons) && !is_float_word(name) && Keyword::find(name).is_none()
}

fn is_classic_name(name: &str, colons: bool) -> bool {
    let accept = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || (colons && byte == b':');
    name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit()) && name.bytes().all(accept)
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    #[test]
    fn texts_have_one_canonical_form() {
        for (query, canonical) in [
            ("sum(rate( x{ a='b' } [300] ))by(job)", "sum by (job) (rate(x{a=\"b\"}[5m]))"),
            ("{\"x\"}", "x"),
            ("{'metric.name',\"a.b\"='c'}", "{__name__=\"metric.name\",\"a.b\"=\"c\"}"),
            ("x offset 90s @ 1.5", "x @ 1.500 offset 1m30s"),
            ("x[1h:]offset -1s", "x[1h:] offset -1s"),
            ("a+ON(b)GROUP_LEFT(c)d", "a + on (b) group_left (c) d"),
            ("a==bool ignoring()d", "a == bool d"),
            ("a+on()group_right()(d)", "a + on () group_right () (d)"),
            ("-inf", "-Inf"),
            ("sum without()(x)", "sum without () (x)"),
            ("topk by(a)(5,x)", "topk by (a) (5, x)"),
            ("{__name__='sum'}", "{__name__=\"sum\"}"),
            ("info(x,{__name__='y',a='b'})", "info(x, {__name__=\"y\",a=\"b\"})"),
            ("x[300*2m+STEP()]offset -(1m)", "x[300 * 2m + step()] offset -(1m)"),
            ("x[5m:max_of(1,step())]", "x[5m:max_of(1, step())]"),
            ("x offset 1m @ 5 smoothed", "x smoothed @ 5.000 offset 1m"),
            ("x[5m] @ 5 anchored", "x[5m] anchored @ 5.000"),
            ("a+fill(0)b", "a + fill (0) b"),
            (
                "a<=bool on(b)fill_right(-inf)fill_left(1)c",
                "a <= bool on (b) fill_left (1) fill_right (-Inf) c",
            ),
            ("a</1>/b", "a </ 1 >/ b"),
        ] {
            assert_eq!(parse(query).unwrap().to_string(), canonical, "{query}");
        }
    }
}
