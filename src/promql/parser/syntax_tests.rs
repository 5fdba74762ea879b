//! What the grammar accepts and how it reads it.

use super::super::ast::{AtModifier, Expr};
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
        ("x + fill(0) y", "the fill modifier is not supported"),
        ("rate(x[5m] smoothed)", "the smoothed modifier is not supported"),
        ("x[step()]", "step() is not supported in durations"),
        ("x[5m / 0]", "division by zero"),
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
    let Expr::Matrix { selector, range_ms, .. } = parse("x[1h30m] @ 123.4 offset -5m").unwrap() else {
        panic!("a range");
    };
    assert_eq!((range_ms, selector.offset_ms), (5_400_000, -300_000));
    assert_eq!(selector.at, Some(AtModifier::Timestamp(123_400)));
    for (query, expected_ms) in [
        ("x[0.009]", 9),
        ("x[300]", 300_000),
        ("x[2m*(10+5)]", 1_800_000),
        ("x[1h30m % 1h]", 1_800_000),
        ("x[24m+((1.5*2m)+2m)]", 1_740_000),
        ("x[-(-2) ^ 2 + 8]", 4000),
        ("x[max_of(3s, min_of(1m, 5s))]", 5000),
    ] {
        match parse(query) {
            Ok(Expr::Matrix { range_ms, .. }) => assert_eq!(range_ms, expected_ms, "{query}"),
            other => panic!("{query}: {other:?}"),
        }
    }
    // Without parentheses only one duration belongs to the offset.
    assert_eq!(shape(&parse("x offset -2 ^ 2").unwrap()), "(x offset -2s ^ 2)");
    assert_eq!(shape(&parse("x offset (2 * 2)").unwrap()), "x offset 4s");
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
