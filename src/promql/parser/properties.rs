//! Properties of the parser over generated texts.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::super::ast::{DurationExpr, Expr, Span};
use super::{parse, pretty};

/// Sets all spans to nothing, so that trees of different texts compare.
fn without_spans(expr: &mut Expr) {
    // Infinity is printed with its sign, which is read as one of its own before a power. It changes nothing.
    while let Expr::Unary { negate: false, expr: inner, .. } = expr {
        *expr = std::mem::replace(inner, Expr::Number { value: 0.0, span: Span::default() });
    }
    let span = match expr {
        Expr::Number { span, .. } | Expr::String { span, .. } | Expr::Bytes { span, .. } => span,
        Expr::Vector(selector) => {
            selector.offset.iter_mut().for_each(|offset| without_places(offset));
            &mut selector.span
        }
        Expr::Matrix { selector, range, span } => {
            selector.span = Span::default();
            selector.offset.iter_mut().chain([range]).for_each(|duration| without_places(duration));
            span
        }
        Expr::Subquery(subquery) => {
            without_spans(&mut subquery.expr);
            subquery.offset.iter_mut().for_each(|offset| without_places(offset));
            subquery.step.iter_mut().chain([&mut subquery.range]).for_each(without_places);
            &mut subquery.span
        }
        Expr::Call(call) => {
            call.args.iter_mut().for_each(without_spans);
            &mut call.span
        }
        Expr::Aggregate(aggregate) => {
            without_spans(&mut aggregate.expr);
            aggregate.param.iter_mut().for_each(without_spans);
            &mut aggregate.span
        }
        Expr::Binary(binary) => {
            without_spans(&mut binary.left);
            without_spans(&mut binary.right);
            &mut binary.span
        }
        Expr::Unary { expr, span, .. } | Expr::Paren { expr, span } => {
            without_spans(expr);
            span
        }
    };
    *span = Span::default();
}

/// Nor does it matter whether a duration has a unit.
fn without_places(duration: &mut DurationExpr) {
    let span = match duration {
        DurationExpr::Step(span) | DurationExpr::Range(span) => span,
        DurationExpr::Seconds { with_unit, span, .. } => {
            *with_unit = true;
            span
        }
        DurationExpr::Negate { expr, span } | DurationExpr::Paren { expr, span } => {
            without_places(expr);
            span
        }
        DurationExpr::Binary { left, right, span, .. } => {
            without_places(left);
            without_places(right);
            span
        }
    };
    *span = Span::default();
}

/// The tree in a form that compares NaN as equal to itself.
fn tree(query: &str) -> Option<String> {
    let mut expr = parse(query).ok()?;
    without_spans(&mut expr);
    Some(format!("{expr:?}"))
}

fn any_scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        (0u32..10_000).prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("a literal", |n| n.is_finite()).prop_map(|n| format!("{n}")),
        prop::sample::select(vec!["Inf", "NaN", "0x1f", "5m", "1_000", "0755", "time()", "1e3", "pi()"])
            .prop_map(str::to_owned),
    ]
}

fn any_selector() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["x", "a:b", "sum", "rate", "offset", ""]);
    let label = prop::sample::select(vec!["a", "by", "\"l.x\"", "nan"]);
    let matcher = (label, prop::sample::select(vec!["=", "!=", "=~", "!~"]), "[a-c.\\\\\"]{0,3}");
    let pins = prop::sample::select(vec![
        "",
        " offset 5m",
        " offset -1h",
        " @ 12.5",
        " @ end()",
        " @ -1 offset 2",
        " anchored",
        " offset -step()",
        " smoothed offset (1m * 2 - range())",
    ]);
    (name, prop::collection::vec(matcher, 0..3), pins).prop_map(|(name, matchers, pins)| {
        let mut text = format!("{name}{{");
        if name.is_empty() {
            text.push_str("\"metric.name\",");
        }
        for (label, op, value) in matchers {
            text.push_str(&format!("{label}{op}{},", super::literal::quote(&value)));
        }
        text.push('}');
        text.push_str(pins);
        text
    })
}

/// Durations that depend on the query or do not.
fn any_duration() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec!["5m", "90", "0.5", "1h30m", "step()", "RANGE()", "-(3)", "-2s"]);
    leaf.prop_map(str::to_owned).prop_recursive(4, 16, 2, |inner| {
        let op = prop::sample::select(vec!["+", "-", "*", "/", "%", "^"]);
        prop_oneof![
            (inner.clone(), op, inner.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("min_of({a},{b})")),
            inner.clone().prop_map(|a| format!("({a})")),
            inner.prop_map(|a| format!("-{a}")),
        ]
    })
}

/// Texts of expressions, most of them vectors; not all pass the type check.
fn any_query() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![3 => any_selector(), 1 => any_scalar()];
    leaf.prop_recursive(6, 64, 4, |inner| {
        let op = prop::sample::select(vec![
            "+",
            "-",
            "*",
            "/",
            "%",
            "^",
            "atan2",
            "==",
            "!= bool",
            "> bool",
            "and",
            "or",
            "unless on (a)",
            "+ on (a) group_left (b)",
            "* ignoring (a, \"b.c\") group_right",
            "<= bool on ()",
            "- fill (-1.5)",
            "* on (a) group_left () fill_right (Inf) fill_left (0)",
            "</",
            ">/",
        ]);
        let function =
            prop::sample::select(vec!["abs", "rate", "round", "histogram_quantile", "label_join", "sort"]);
        let aggregation = prop::sample::select(vec!["sum", "topk", "count", "quantile"]);
        let grouping = prop::sample::select(vec!["", "by (a, by)", "without (\"b.c\",)", "without ()"]);
        prop_oneof![
            (inner.clone(), op, inner.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            inner.clone().prop_map(|a| format!("({a})")),
            inner.clone().prop_map(|a| format!("-{a}")),
            inner.clone().prop_map(|a| format!("+ {a}")),
            inner.clone().prop_map(|a| format!("avg_over_time(({a})[1h:5m] offset 1m)")),
            (inner.clone(), any_duration())
                .prop_map(|(a, range)| format!("avg_over_time(({a})[{range}:step()])")),
            (any_selector(), any_duration()).prop_map(|(a, range)| {
                let (selector, pins) = a.rsplit_once('}').unwrap_or((&a, ""));
                format!("rate({selector}}}[{range}]{pins})")
            }),
            (any_selector(), function.clone()).prop_map(|(a, name)| format!("{name}({a})")),
            inner.clone().prop_map(|a| format!("round({a}, 5)")),
            (aggregation, grouping.clone(), inner.clone()).prop_map(|(name, grouping, a)| match name {
                "topk" | "quantile" => format!("{name} {grouping} (3, {a})"),
                _ => format!("{name} ({a}) {grouping}"),
            }),
            (function, prop::collection::vec(inner, 0..3))
                .prop_map(|(name, arguments)| format!("{name}({})", arguments.join(", "))),
        ]
    })
}

/// Pieces of queries in any order.
fn any_tokens() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "x",
        "sum",
        "by",
        "without",
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "5m",
        "1",
        "0x",
        "1e",
        "\"a\"",
        "'",
        "`",
        "=",
        "=~",
        "!",
        "~",
        "!=",
        "==",
        "<",
        ">",
        "bool",
        "on",
        "group_left",
        "offset",
        "@",
        "start",
        "step",
        "+",
        "-",
        "^",
        "and",
        "rate",
        "NaN",
        "#",
        "\n",
        "\\",
        "é",
        "_",
        ".",
        "fill",
        "min_of",
        "smoothed",
        "range",
        "</",
        "fill_left",
        "max_of",
    ]);
    prop::collection::vec(token, 0..30).prop_map(|tokens| tokens.join(" "))
}

#[test]
fn most_generated_queries_are_valid() {
    // Without this the property below could hold because nothing ever parses.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let valid_count = (0..200)
        .filter(|_| {
            let query = any_query().new_tree(&mut runner).unwrap().current();
            parse(&query).is_ok()
        })
        .count();
    assert!(valid_count > 60, "only {valid_count} of 200 parse");
}

proptest! {
    #[test]
    fn printed_queries_parse_to_the_same_tree(query in any_query()) {
        if let Some(expected) = tree(&query) {
            let printed = parse(&query).unwrap().to_string();
            prop_assert_eq!(tree(&printed), Some(expected), "{}", printed);
            prop_assert_eq!(parse(&printed).unwrap().to_string(), printed);
        }
    }

    #[test]
    fn formatted_queries_parse_to_the_same_tree(parts in proptest::collection::vec(any_query(), 1..4)) {
        let valid: Vec<&str> = parts.iter().map(String::as_str).filter(|part| parse(part).is_ok()).collect();
        for query in [valid.join(" + "), format!("-({})", valid.join(" or "))] {
            if let Some(expected) = tree(&query) {
                let formatted = pretty(&parse(&query).unwrap());
                prop_assert_eq!(tree(&formatted), Some(expected), "{}", formatted);
                prop_assert_eq!(pretty(&parse(&formatted).unwrap()), formatted);
            }
        }
    }

    #[test]
    fn spans_lie_inside_the_query(query in any_query()) {
        match parse(&query) {
            Ok(expr) => prop_assert!(query.get(expr.span().start as usize..expr.span().end as usize).is_some()),
            Err(error) => {
                prop_assert!(query.get(error.span.start as usize..error.span.end as usize).is_some());
            }
        }
    }

    #[test]
    fn any_text_ends_in_a_result(text in any::<String>(), tokens in any_tokens()) {
        let _ = parse(&text);
        if let Ok(expr) = parse(&tokens) {
            let printed = expr.to_string();
            prop_assert_eq!(tree(&printed), tree(&tokens), "{}", printed);
        }
    }

    #[test]
    fn mutated_queries_end_in_a_result(
        query in any_query(),
        at in any::<prop::sample::Index>(),
        cut in 0usize..4,
        insert in "[ -~]{0,3}|\\PC{0,2}",
    ) {
        let mut chars: Vec<char> = query.chars().collect();
        let start = at.index(chars.len());
        let end = (start + cut).min(chars.len());
        chars.splice(start..end, insert.chars());
        let _ = parse(&chars.into_iter().collect::<String>());
    }
}
