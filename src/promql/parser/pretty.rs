//! The text of a tree as people like to read it: what is longer than a line is broken at its parentheses and operators,
//! as Prometheus does.

use std::fmt::{self, Write as _};

use super::super::ast::{Expr, Subquery};
use super::print::{write_aggregate_head, write_operator, write_pins};

/// The longest line that is not broken.
const LINE_BYTES_MAX: usize = 100;

/// The formatted text. Parsing it gives the same tree, but for spans.
pub fn pretty(expr: &Expr) -> String {
    let mut out = String::new();
    write_pretty(&mut out, expr, 0).expect("writing to memory does not fail");
    out
}

/// The expression with all its lines indented.
fn write_pretty(out: &mut String, expr: &Expr, level: usize) -> fmt::Result {
    indent(out, level);
    write_inner(out, expr, level)
}

/// The same without the spaces before its first line.
fn write_inner(out: &mut String, expr: &Expr, level: usize) -> fmt::Result {
    if fits(expr) {
        return write!(out, "{expr}");
    }
    match expr {
        Expr::Aggregate(aggregate) => {
            write_aggregate_head(out, aggregate)?;
            out.push_str("(\n");
            if let Some(param) = &aggregate.param {
                write_pretty(out, param, level + 1)?;
                out.push_str(",\n");
            }
            write_pretty(out, &aggregate.expr, level + 1)?;
            close(out, level);
        }
        Expr::Binary(binary) => {
            // Both sides are a level deeper than their operator; the begin of the first one takes the spaces before it.
            out.push_str("  ");
            write_inner(out, &binary.left, level + 1)?;
            out.push('\n');
            indent(out, level);
            write_operator(out, binary)?;
            out.push('\n');
            write_pretty(out, &binary.right, level + 1)?;
        }
        Expr::Call(call) => {
            out.push_str(call.name);
            out.push_str("(\n");
            for (index, argument) in call.args.iter().enumerate() {
                if index > 0 {
                    out.push_str(",\n");
                }
                write_pretty(out, argument, level + 1)?;
            }
            close(out, level);
        }
        Expr::Paren { expr, .. } => {
            out.push_str("(\n");
            write_pretty(out, expr, level + 1)?;
            close(out, level);
        }
        Expr::Unary { negate, expr, .. } => {
            out.push(if *negate { '-' } else { '+' });
            let start = out.len();
            write_inner(out, expr, level)?;
            // A sign stands right before what it belongs to.
            let spaces = out[start..].len() - out[start..].trim_start().len();
            out.replace_range(start..start + spaces, "");
        }
        Expr::Subquery(subquery) => {
            write_inner(out, &subquery.expr, level)?;
            write_subquery_range(out, subquery)?;
        }
        Expr::Number { .. }
        | Expr::String { .. }
        | Expr::Bytes { .. }
        | Expr::Vector(_)
        | Expr::Matrix { .. } => {
            write!(out, "{expr}")?;
        }
    }
    Ok(())
}

fn write_subquery_range(out: &mut String, subquery: &Subquery) -> fmt::Result {
    write!(out, "[{}:", subquery.range)?;
    if let Some(step) = &subquery.step {
        write!(out, "{step}")?;
    }
    out.push(']');
    write_pins(out, subquery.at, subquery.offset.as_deref())
}

fn indent(out: &mut String, level: usize) {
    for _ in 0..level {
        out.push_str("  ");
    }
}

fn close(out: &mut String, level: usize) {
    out.push('\n');
    indent(out, level);
    out.push(')');
}

/// Whether the text of an expression is no longer than a line; looks at no more of it than that.
fn fits(expr: &Expr) -> bool {
    struct Line(usize);
    impl fmt::Write for Line {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 = self.0.checked_sub(text.len()).ok_or(fmt::Error)?;
            Ok(())
        }
    }
    write!(Line(LINE_BYTES_MAX), "{expr}").is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn format(query: &str) -> String {
        pretty(&parse(query).unwrap())
    }

    #[test]
    fn short_queries_stay_on_one_line() {
        assert_eq!(format("sum(rate( x{ a='b' } [300] ))by(job)"), "sum by (job) (rate(x{a=\"b\"}[5m]))");
        assert_eq!(format("foo/bar"), "foo / bar");
    }

    #[test]
    fn long_queries_are_broken_at_their_parts() {
        let long = "a".repeat(60);
        let expected = format!(
            "sum by (job) (\n  rate(\n      {long}{{x=\"1\"}}\n    + on (job) group_left ()\n      {long}[5m:]\n  )\n)"
        );
        let expected = expected.replace("rate(", "abs(").replace("[5m:]", "");
        let query = format!("sum by(job)(abs({long}{{x='1'}} + on(job) group_left {long}))");
        assert_eq!(format(&query), expected);
        let query = format!("-({long} or {long})");
        assert_eq!(format(&query), format!("-(\n    {long}\n  or\n    {long}\n)"));
        let query = format!("topk(5, {long} or {long})");
        assert_eq!(format(&query), format!("topk(\n  5,\n    {long}\n  or\n    {long}\n)"));
        let query = format!("max_over_time(abs({long} or {long})[5m:1m] offset 1h)");
        assert_eq!(
            format(&query),
            format!("max_over_time(\n  abs(\n      {long}\n    or\n      {long}\n  )[5m:1m] offset 1h\n)")
        );
    }

    #[test]
    fn the_deepest_query_is_formatted() {
        let query = format!("{}x{}", "(".repeat(200), ")".repeat(200));
        let text = format(&query);
        assert_eq!(format(&text), text);
        let query = vec!["x"; 400].join(" + ");
        assert_eq!(format(&format(&query)), format(&query));
    }
}
