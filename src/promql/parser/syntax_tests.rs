//! What the grammar accepts and how it reads it.

use super::super::ast::{AtModifier, Borders, DurationExpr, Expr, Fill, QueryTimes};
use super::{QUERY_BYTES_MAX, parse};

/// The tree as text in which every operation has its parentheses.
fn shape(expr: &Expr) -> String {
    match expr {
        Expr::Binary(binary) => {
            format!("({} {} {})", shape(&binary.left), binary.op.as_str(), shape(&binary.right))
        }
        Expr::Unary { negate: true, expr, .. } => format!("-({})", shape(expr)),
        Expr::Paren { expr, .. } => shape(expr),
        other => other.to_string(),
    }
}

#[test]
fn operators_bind_as_in_prometheus() {
    for (query, expected) in [
        ("a + b * c", "(a + (b * c))"),
        ("a - b - c", "((a - b) - c)"),
        ("a ^ b ^ c", "(a ^ (b ^ c))"),
        ("-a ^ b", "-((a ^ b))"),
        ("-1 ^ 2", "-((1 ^ 2))"),
        ("-a * b", "(-(a) * b)"),
        ("a ^ -b ^ c * d", "((a ^ -((b ^ c))) * d)"),
        ("a or b and c unless d", "(a or ((b and c) unless d))"),
        ("a == b + c atan2 d", "(a == (b + (c atan2 d)))"),
        ("a + b offset 5m", "(a + b offset 5m)"),
        ("a == bool b > c", "((a == b) > c)"),
        ("1 - -1", "(1 - -1)"),
        ("--1", "1"),
    ] {
        assert_eq!(shape(&parse(query).unwrap()), expected, "{query}");
    }
}

#[test]
fn keywords_are_names_where_prometheus_allows_them() {
    for query in [
        "sum",
        "sum{by=\"x\"}",
        "sum by (by, on, bool, offset) (group)",
        "and and and",
        "or or or",
        "offset offset 5m",
        "start @ start()",
        "by + without * fill",
        "SUM BY (Job) (x OFFSET 5m)",
        "count_values without (x) (\"value\", count)",
        "fill + fill",
        "{on=\"1\", ignoring=\"2\"}",
        "anchored[5m]",
    ] {
        assert!(parse(query).is_ok(), "{query}: {:?}", parse(query));
    }
    for query in ["on", "ignoring", "group_left", "group_right", "bool", "atan2"] {
        assert!(parse(query).is_err(), "{query}");
    }
}

#[test]
fn broken_syntax_is_refused_in_the_words_of_prometheus() {
    for (query, message) in [
        ("", "no expression found in input"),
        (" # nothing\n", "no expression found in input"),
        ("1 +", "unexpected end of input"),
        ("*x", "unexpected <op:*>"),
        ("foo bar", "unexpected identifier \"bar\""),
        ("a - on(b) ignoring(c) d", "unexpected <ignoring>"),
        ("x = y", "unexpected \"=\""),
        ("(1))", "unexpected right parenthesis ')'"),
        ("((1)", "unclosed left parenthesis"),
        ("foo(x)", "unknown function with name \"foo\""),
        ("sum by (foo)", "unexpected end of input in aggregation"),
        ("sum x by (y)", "unexpected identifier \"x\" in aggregation"),
        ("sum() by (y)", "no arguments for aggregate expression provided"),
        ("sum(x, y)", "wrong number of arguments for aggregate expression provided, expected 1, got 2"),
        ("topk(x)", "wrong number of arguments for aggregate expression provided, expected 2, got 1"),
        ("topk(1, x,)", "trailing commas not allowed in function call args"),
        ("sum without(==)(x)", "unexpected <op:==> in grouping opts, expected label"),
        ("sum without(,)(x)", "unexpected \",\" in grouping opts, expected label"),
        ("sum by(a b)(x)", "unexpected identifier \"b\" in grouping opts, expected \",\" or \")\""),
        ("sum by(\"\")(x)", "unexpected string \"\\\"\\\"\" in grouping opts, expected label"),
        (
            "foo[]",
            "unexpected \"]\" in subquery or range selector, expected number, duration, step(), or range()",
        ),
        ("foo[5m", "unclosed left bracket"),
        ("foo[1m2m]", "not a valid duration string: \"1m2m\""),
        ("foo[0]", "duration must be greater than 0"),
        ("foo[-1m]", "duration must be greater than 0"),
        ("foo[5m:0s]", "duration must be greater than 0"),
        (
            "foo[step]",
            "unexpected \"]\" in subquery or range selector, expected number, duration, step(), or range()",
        ),
        (
            "foo[5m:max_of(1m)]",
            "unexpected \")\" in subquery selector, expected number, duration, step(), range(), or \"]\"",
        ),
        ("foo[5m:1m 2m]", "unexpected duration \"2m\" in subquery selector, expected \"]\""),
        ("foo offset -300y", "duration out of range"),
        ("foo offset NaN", "duration out of range"),
        ("foo[300y]", "duration out of range"),
        ("foo[1e30]", "duration out of range"),
        ("foo offset 1m[5m]", "no offset modifiers allowed before range"),
        ("foo @ 1 [5m]", "no @ modifiers allowed before range"),
        ("foo[5m][5m]", "ranges only allowed for vector selectors"),
        ("foo offset", "unexpected end of input in offset, expected number, duration, step(), or range()"),
        ("foo offset 1m offset 1m", "offset may not be set multiple times"),
        ("foo @ 1 @ 2", "@ <timestamp> may not be set multiple times"),
        ("foo @ x", "unexpected identifier \"x\" in @, expected timestamp"),
        ("foo @ Inf", "timestamp out of bounds for @ modifier: inf"),
        (
            "1 offset 1d",
            "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        ),
        ("foo{a}", "unexpected \"}\" in label matching, expected label matching operator"),
        ("foo{a=}", "unexpected \"}\" in label matching, expected string"),
        ("foo{a=\"b\" c=\"d\"}", "unexpected identifier \"c\" in label matching, expected \",\" or \"}\""),
        ("foo{,}", "unexpected \",\" in label matching, expected identifier or \"}\""),
        ("foo{__name__=\"bar\"}", "metric name must not be set twice: \"foo\" or \"bar\""),
        ("{\"foo\", \"bar\"}", "metric name must not be set twice: \"foo\" or \"bar\""),
        ("{__name__=\"foo\", \"bar\"}", "metric name must not be set twice: \"foo\" or \"bar\""),
        ("x + fill(y) z", "unexpected identifier \"y\""),
        ("x + fill_left(1) fill_left(2) y", "unexpected \"(\""),
        ("x smoothed anchored", "anchored and smoothed modifiers cannot be used together"),
        ("x[5m] anchored smoothed", "anchored and smoothed modifiers cannot be used together"),
        ("x[5m:1m] smoothed", "smoothed modifier is not supported for subqueries"),
        ("abs(x) anchored", "anchored modifier not implemented"),
        ("integral(x[5m])", "unknown function with name \"integral\""),
        ("x[5m / 0]", "division by zero"),
        ("x[5m % 0s]", "modulo by zero"),
    ] {
        let error = parse(query).expect_err(query);
        assert_eq!(error.message, message, "{query}");
    }
}

#[test]
fn selectors_take_any_name_in_quotes() {
    let Expr::Vector(selector) = parse("{\"metric.name\", 'label.x'=`y`, z!~\"a|b\",}").unwrap() else {
        panic!("a selector");
    };
    let names: Vec<_> = selector.matchers.iter().map(|m| (m.name.as_str(), m.value.as_str())).collect();
    assert_eq!(names, [("__name__", "metric.name"), ("label.x", "y"), ("z", "a|b")]);
    assert!(parse("sum by (\"label.x\", y,) (x)").is_ok());
    assert!(parse("{__name__=~\"a.*\", __name__!=\"ab\"}").is_ok());
}

#[test]
fn ranges_offsets_and_times_are_milliseconds() {
    let Expr::Matrix { selector, range, .. } = parse("x[1h30m] @ 123.4 offset -5m").unwrap() else {
        panic!("a range");
    };
    let offset_ms = selector.offset.and_then(|offset| offset.literal_ms());
    assert_eq!((range.literal_ms(), offset_ms), (Some(5_400_000), Some(-300_000)));
    assert_eq!(selector.at, Some(AtModifier::Timestamp(123_400)));
    // Without parentheses only one duration belongs to the offset.
    for (query, expected) in [
        ("x offset -2 ^ 2", "(x offset -2s ^ 2)"),
        ("x offset step() * 2", "(x offset step() * 2)"),
        ("x offset -min_of(range(), 1s) ^ 0", "(x offset -min_of(range(), 1s) ^ 0)"),
        ("x offset (2 * 2m)", "x offset (2 * 2m)"),
        ("x offset -(2)", "x offset -(2)"),
        ("x offset 0", "x"),
        ("x offset 0 offset +5m", "x offset 5m"),
    ] {
        assert_eq!(shape(&parse(query).unwrap()), expected, "{query}");
    }
}

#[test]
fn a_literal_duration_is_cut_to_milliseconds() {
    for (query, expected_ms) in [("x[0.009]", 9), ("x[300]", 300_000), ("x[1.0009]", 1000), ("x[0.0004]", 0)]
    {
        match parse(query) {
            Ok(Expr::Matrix { range, .. }) => assert_eq!(range.literal_ms(), Some(expected_ms), "{query}"),
            other => panic!("{query}: {other:?}"),
        }
    }
    // A part of a millisecond is not nothing.
    let part = DurationExpr::Seconds { value: 0.0004, with_unit: false, span: Default::default() };
    assert_eq!(part.resolve_positive_ms(QueryTimes::default()), Ok(0));
}

#[test]
fn missing_partners_may_be_filled() {
    let fill = |query: &str| match parse(query) {
        Ok(Expr::Binary(binary)) => binary.matching.unwrap().fill,
        other => panic!("{query}: {other:?}"),
    };
    assert_eq!(fill("x + fill(-2) y"), Fill { left: Some(-2.0), right: Some(-2.0) });
    assert_eq!(fill("x + fill_left (5m) y"), Fill { left: Some(300.0), right: None });
    let both = Fill { left: Some(1.0), right: Some(f64::INFINITY) };
    assert_eq!(fill("x + on (a) group_left (b) fill_right(+Inf) fill_left(1) y"), both);
    assert_eq!(fill("fill + fill(1) fill{a='b'}"), Fill { left: Some(1.0), right: Some(1.0) });
    assert!(fill("fill + fill_left").is_none());
}

#[test]
fn selectors_may_look_beyond_their_borders() {
    for (query, borders) in [
        ("x anchored", Borders::Anchored),
        ("x{a='b'}[5m] smoothed @ 5 offset 1m", Borders::Smoothed),
        ("x offset 1m smoothed", Borders::Smoothed),
        ("smoothed", Borders::Inside),
        ("smoothed smoothed", Borders::Smoothed),
    ] {
        match parse(query).unwrap() {
            Expr::Vector(selector) | Expr::Matrix { selector, .. } => assert_eq!(selector.borders, borders),
            other => panic!("{query}: {other:?}"),
        }
    }
}

#[test]
fn a_string_may_hold_bytes_that_are_no_text() {
    for (query, expected) in [("'\\xff'", "\"\\xff\""), ("'a\\xc5z€'", "\"a\\xc5z€\"")] {
        let expr = parse(query).unwrap();
        assert!(matches!(expr, Expr::Bytes { .. }), "{expr:?}");
        assert_eq!(expr.to_string(), expected);
    }
    assert!(parse("{a='\\xff'}").is_err());
}

#[test]
fn durations_are_numbers_in_seconds() {
    for (query, value) in [("5m", 300.0), ("1ms", 0.001), ("-1h", -3600.0), ("+Inf", f64::INFINITY)] {
        match parse(query) {
            Ok(Expr::Number { value: got, .. }) => assert_eq!(got, value, "{query}"),
            other => panic!("{query}: {other:?}"),
        }
    }
}

#[test]
fn deep_and_long_queries_end_in_an_error_on_a_small_stack() {
    let deep = |open: &str, inner: &str, close: &str, count: usize| {
        format!("{}{inner}{}", open.repeat(count), close.repeat(count))
    };
    let mut queries: Vec<String> = Vec::new();
    for count in [100, 250, 500, 511, 512, 10_000, 100_000] {
        queries.push(deep("(", "x", ")", count));
        queries.push(deep("-", "x", "", count));
        queries.push(deep("abs(", "x", ")", count));
        queries.push(deep("sum by (a) (", "x", ")", count));
        queries.push(deep("1 ^ ", "x", "", count));
        queries.push(deep("x + ", "x", "", count));
        queries.push(deep("x or ", "x", "", count));
        queries.push(deep("(", "", "", count));
        queries.push(format!("x[{}]", deep("(", "1", ")", count)));
        queries.push(format!("x[{}]", deep("-", "1", "", count)));
        queries.push(format!("x[{}]", deep("1 + ", "1", "", count)));
        queries.push(format!("x[{}]", deep("2 ^ ", "1", "", count)));
        queries.push(format!("x[1m:{}]", deep("min_of(step(), ", "1", ")", count)));
        queries.push(format!("x offset {}", deep("-(", "range()", ")", count)));
        queries.push(format!("x{}", " smoothed".repeat(count)));
        queries.push(deep("x + fill(0) ", "x", "", count));
        queries.push(deep("info(", "x", ", {})", count));
        queries.push(format!("x offset {}", deep("-", "1", "", count)));
        queries.push(deep("sum_over_time(", "x[5m]", "[5m:])", count));
    }
    queries.push(format!("x{}", "[5m:]".repeat(10_000)));
    queries.push("(".repeat(QUERY_BYTES_MAX + 1));
    let run = move || {
        let mut parsed_count = 0;
        for query in &queries {
            match parse(query) {
                Ok(expr) => {
                    parsed_count += 1;
                    let _ = expr.to_string();
                }
                Err(error) => assert!(!error.message.is_empty()),
            }
        }
        parsed_count
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap();
    assert!(thread.join().unwrap() > 15, "queries of moderate depth parse");
}

#[test]
fn a_query_may_have_only_so_many_patterns() {
    let query = format!("x{{{}}}", "a=~\"b\",".repeat(1001));
    assert_eq!(parse(&query).unwrap_err().message, "query has more than 1000 regular expressions");
}

#[test]
fn messages_do_not_repeat_a_long_query() {
    for query in
        ["1".repeat(QUERY_BYTES_MAX), format!("{}()", "é".repeat(1000)), format!("{}(x)", "f".repeat(9999))]
    {
        let message = parse(&query).unwrap_err().message;
        assert!(message.len() < 2100, "{message}");
    }
}
