//! The tree of a query as JSON, as Prometheus' web pages draw it. Keys are in order of their names, as Go writes them.

use std::io::{self, Write};

use annulus_shards::labels::METRIC_NAME;
use annulus_shards::{MatchOp, Matcher};

use super::{json, number};
use crate::promql::ast::{
    Aggregate, AtModifier, Binary, Borders, Call, Cardinality, DurationExpr, Expr, Matching, Subquery,
    ValueType, VectorSelector,
};
use crate::promql::parser::{Function, Last, functions};

/// Writes one expression. The parser bounds how deep it is.
pub fn write_tree(out: &mut impl Write, expr: &Expr) -> io::Result<()> {
    match expr {
        Expr::Number { value, .. } => {
            out.write_all(br#"{"type":"numberLiteral","val":""#)?;
            number::write_plain(out, *value)?;
            out.write_all(br#""}"#)
        }
        Expr::String { value, .. } => {
            out.write_all(br#"{"type":"stringLiteral","val":"#)?;
            json::write_text(out, value)?;
            out.write_all(b"}")
        }
        Expr::Bytes { value, .. } => {
            out.write_all(br#"{"type":"stringLiteral","val":"#)?;
            json::write_text(out, &String::from_utf8_lossy(value))?;
            out.write_all(b"}")
        }
        Expr::Vector(selector) => write_selector(out, selector, None),
        Expr::Matrix { selector, range, .. } => write_selector(out, selector, Some(ms(Some(range)))),
        Expr::Subquery(subquery) => write_subquery(out, subquery),
        Expr::Call(call) => write_call(out, call),
        Expr::Aggregate(aggregate) => write_aggregate(out, aggregate),
        Expr::Binary(binary) => write_binary(out, binary),
        Expr::Unary { negate, expr, .. } => {
            out.write_all(br#"{"expr":"#)?;
            write_tree(out, expr)?;
            write!(out, r#","op":"{}","type":"unaryExpr"}}"#, if *negate { '-' } else { '+' })
        }
        Expr::Paren { expr, .. } => {
            out.write_all(br#"{"expr":"#)?;
            write_tree(out, expr)?;
            out.write_all(br#","type":"parenExpr"}"#)
        }
    }
}

fn write_selector(out: &mut impl Write, selector: &VectorSelector, range_ms: Option<i64>) -> io::Result<()> {
    let (anchored, smoothed) = (selector.borders == Borders::Anchored, selector.borders == Borders::Smoothed);
    write!(out, r#"{{"anchored":{anchored},"matchers":"#)?;
    json::write_list(out, &selector.matchers, |out, matcher| write_matcher(out, matcher))?;
    out.write_all(br#","name":"#)?;
    let is_name = |matcher: &&Matcher| matcher.name == METRIC_NAME && matcher.op == MatchOp::Equal;
    json::write_text(out, selector.matchers.last().filter(is_name).map_or("", |matcher| &matcher.value))?;
    write!(out, r#","offset":{}"#, ms(selector.offset.as_deref()))?;
    if let Some(range_ms) = range_ms {
        write!(out, r#","range":{range_ms}"#)?;
    }
    write!(out, r#","smoothed":{smoothed}"#)?;
    write_at(out, selector.at)?;
    let kind = if range_ms.is_some() { "matrixSelector" } else { "vectorSelector" };
    write!(out, r#","type":"{kind}"}}"#)
}

/// A duration; one that is an expression is known when the query runs, and 0 before, as in Prometheus.
fn ms(duration: Option<&DurationExpr>) -> i64 {
    duration.and_then(DurationExpr::literal_ms).unwrap_or(0)
}

fn write_matcher(out: &mut impl Write, matcher: &Matcher) -> io::Result<()> {
    let op = match matcher.op {
        MatchOp::Equal => "=",
        MatchOp::NotEqual => "!=",
        MatchOp::Regex => "=~",
        MatchOp::NotRegex => "!~",
    };
    json::write_object(out, [("name", matcher.name.as_str()), ("type", op), ("value", &matcher.value)])
}

/// `startOrEnd` and `timestamp`, with the comma before them.
fn write_at(out: &mut impl Write, at: Option<AtModifier>) -> io::Result<()> {
    match at {
        None => out.write_all(br#","startOrEnd":null,"timestamp":null"#),
        Some(AtModifier::Start) => out.write_all(br#","startOrEnd":"start","timestamp":null"#),
        Some(AtModifier::End) => out.write_all(br#","startOrEnd":"end","timestamp":null"#),
        Some(AtModifier::Timestamp(time_ms)) => write!(out, r#","startOrEnd":null,"timestamp":{time_ms}"#),
    }
}

fn write_subquery(out: &mut impl Write, subquery: &Subquery) -> io::Result<()> {
    out.write_all(br#"{"expr":"#)?;
    write_tree(out, &subquery.expr)?;
    write!(out, r#","offset":{},"range":{}"#, ms(subquery.offset.as_deref()), ms(Some(&subquery.range)))?;
    match subquery.at {
        Some(AtModifier::Start) => out.write_all(br#","startOrEnd":"start""#)?,
        Some(AtModifier::End) => out.write_all(br#","startOrEnd":"end""#)?,
        Some(AtModifier::Timestamp(_)) | None => out.write_all(br#","startOrEnd":null"#)?,
    }
    write!(out, r#","step":{}"#, ms(subquery.step.as_ref()))?;
    match subquery.at {
        Some(AtModifier::Timestamp(time_ms)) => write!(out, r#","timestamp":{time_ms}"#)?,
        _ => out.write_all(br#","timestamp":null"#)?,
    }
    out.write_all(br#","type":"subquery"}"#)
}

fn write_call(out: &mut impl Write, call: &Call) -> io::Result<()> {
    out.write_all(br#"{"args":"#)?;
    json::write_list(out, &call.args, |out, argument| write_tree(out, argument))?;
    out.write_all(br#","func":{"argTypes":"#)?;
    let function = functions().iter().find(|function| function.name == call.name);
    let arguments = function.map_or(&[][..], |function| function.arguments);
    json::write_list(out, arguments, |out, argument| write!(out, "{:?}", type_name(*argument)))?;
    let empty = Call { name: call.name, args: Vec::new(), span: call.span };
    let returns = type_name(Expr::Call(Box::new(empty)).value_type());
    write!(out, r#","name":"{}","returnType":"{returns}","variadic":{}}}"#, call.name, variadic(function))?;
    out.write_all(br#","type":"call"}"#)
}

fn variadic(function: Option<&Function>) -> i64 {
    match function.map(|function| function.last) {
        Some(Last::Optional(times)) => i64::try_from(times).unwrap_or(i64::MAX),
        Some(Last::Repeated) => -1,
        Some(Last::Once) | None => 0,
    }
}

fn type_name(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::Scalar => "scalar",
        ValueType::String => "string",
        ValueType::Vector => "vector",
        ValueType::Matrix => "matrix",
    }
}

fn write_aggregate(out: &mut impl Write, aggregate: &Aggregate) -> io::Result<()> {
    out.write_all(br#"{"expr":"#)?;
    write_tree(out, &aggregate.expr)?;
    out.write_all(br#","grouping":"#)?;
    json::write_texts(out, &aggregate.grouping)?;
    write!(out, r#","op":"{}","param":"#, aggregate.op.as_str())?;
    match &aggregate.param {
        Some(param) => write_tree(out, param)?,
        None => out.write_all(b"null")?,
    }
    write!(out, r#","type":"aggregation","without":{}}}"#, aggregate.without)
}

fn write_binary(out: &mut impl Write, binary: &Binary) -> io::Result<()> {
    write!(out, r#"{{"bool":{},"lhs":"#, binary.return_bool)?;
    write_tree(out, &binary.left)?;
    out.write_all(br#","matching":"#)?;
    match &binary.matching {
        Some(matching) => write_matching(out, matching)?,
        None => out.write_all(b"null")?,
    }
    out.write_all(br#","op":"#)?;
    json::write_text(out, binary.op.as_str())?;
    out.write_all(br#","rhs":"#)?;
    write_tree(out, &binary.right)?;
    out.write_all(br#","type":"binaryExpr"}"#)
}

fn write_matching(out: &mut impl Write, matching: &Matching) -> io::Result<()> {
    let cardinality = match matching.cardinality {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    write!(out, r#"{{"card":"{cardinality}","fillValues":{{"lhs":"#)?;
    write_fill(out, matching.fill.left)?;
    out.write_all(br#","rhs":"#)?;
    write_fill(out, matching.fill.right)?;
    out.write_all(br#"},"include":"#)?;
    json::write_texts(out, &matching.include)?;
    out.write_all(br#","labels":"#)?;
    json::write_texts(out, &matching.labels)?;
    write!(out, r#","on":{}}}"#, matching.on)
}

fn write_fill(out: &mut impl Write, value: Option<f64>) -> io::Result<()> {
    match value.filter(|value| value.is_finite()) {
        Some(value) => write!(out, "{value}"),
        // JSON has no other numbers.
        None => out.write_all(b"null"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::promql::parser::parse;

    fn tree(query: &str) -> Value {
        let mut out = Vec::new();
        write_tree(&mut out, &parse(query).unwrap()).unwrap();
        serde_json::from_slice(&out)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)))
    }

    #[test]
    fn every_kind_of_node_is_drawn() {
        assert_eq!(tree("1.5"), json!({"type": "numberLiteral", "val": "1.5"}));
        assert_eq!(tree("\"<a>\""), json!({"type": "stringLiteral", "val": "<a>"}));
        let x = json!({
            "anchored": false, "matchers": [{"name": "__name__", "type": "=", "value": "x"}], "name": "x", "offset": 0,
            "smoothed": false, "startOrEnd": null, "timestamp": null, "type": "vectorSelector",
        });
        assert_eq!(tree("x"), x);
        assert_eq!(
            tree("-(x)"),
            json!({"type": "unaryExpr", "op": "-", "expr": {"type": "parenExpr", "expr": x}})
        );
        let matrix = tree("rate(x{a!~\"b\"}[5m] offset 1m)");
        assert_eq!(
            matrix["func"],
            json!({"argTypes": ["matrix"], "name": "rate", "returnType": "vector", "variadic": 0})
        );
        assert_eq!(
            (&matrix["args"][0]["range"], &matrix["args"][0]["offset"]),
            (&json!(300_000), &json!(60_000))
        );
        assert_eq!(matrix["args"][0]["matchers"][0], json!({"name": "a", "type": "!~", "value": "b"}));
        let subquery = tree("x[1h:5m] @ end()");
        assert_eq!(
            (&subquery["step"], &subquery["startOrEnd"], &subquery["expr"]),
            (&json!(300_000), &json!("end"), &x)
        );
        assert_eq!(tree("x @ 1.5")["timestamp"], json!(1_500));
        let sum = tree("topk without (a) (5, x)");
        assert_eq!(sum["param"], json!({"type": "numberLiteral", "val": "5"}));
        assert_eq!(
            (&sum["op"], &sum["grouping"], &sum["without"]),
            (&json!("topk"), &json!(["a"]), &json!(true))
        );
        let binary = tree("x > bool on (a) group_left (b) x");
        assert_eq!(
            binary["matching"],
            json!({"card": "many-to-one", "fillValues": {"lhs": null, "rhs": null}, "include": ["b"], "labels": ["a"], "on": true})
        );
        assert_eq!((&binary["op"], &binary["bool"], &binary["rhs"]), (&json!(">"), &json!(true), &x));
        assert_eq!(tree("1 + 1")["matching"], Value::Null);
        assert_eq!(tree("time()")["func"]["returnType"], json!("scalar"));
        assert_eq!(tree("label_join(x, \"a\", \",\")")["func"]["variadic"], json!(-1));
        assert_eq!(tree("hour()")["func"]["variadic"], json!(1));
    }

    #[test]
    fn the_deepest_tree_is_drawn() {
        let mut out = Vec::new();
        write_tree(&mut out, &parse(&vec!["x"; 500].join(" + ")).unwrap()).unwrap();
        write_tree(&mut out, &parse(&format!("{}x{}", "(".repeat(250), ")".repeat(250))).unwrap()).unwrap();
        assert!(out.len() > 10_000);
    }
}
