//! The type check, in Prometheus' words.

use std::collections::HashSet;

use super::super::ast::{
    Aggregate, AggregateOp, Binary, Call, Cardinality, Expr, Matching, Span, ValueType, VectorSelector,
};
use super::{Failure, functions};

type Check = Result<(), Failure>;

/// What is said of a selector that series without labels would fulfil.
pub(super) const EMPTY_SELECTOR: &str = "vector selector must contain at least one non-empty matcher";

/// Checks a tree and says its type; drops the matching of operations that do not join two vectors.
pub(super) fn check(expr: &mut Expr) -> Result<ValueType, Failure> {
    match expr {
        // The type of these does not depend on others; asking for it does not walk the tree.
        Expr::Number { .. } | Expr::String { .. } | Expr::Bytes { .. } => {}
        Expr::Vector(selector) | Expr::Matrix { selector, .. } => check_selector(selector)?,
        Expr::Call(call) => check_call(call)?,
        Expr::Aggregate(aggregate) => check_aggregate(aggregate)?,
        Expr::Subquery(subquery) => {
            let inner = check(&mut subquery.expr)?;
            if inner != ValueType::Vector {
                let name = type_name(inner);
                let message = format!("subquery is only allowed on instant vector, got {name} instead");
                return Err(Failure::new(subquery.span, message));
            }
        }
        Expr::Binary(binary) => return check_binary(binary),
        Expr::Unary { expr, span, .. } => {
            let operand = check(expr)?;
            if is_operand(operand) {
                return Ok(operand);
            }
            let name = documented_name(operand);
            let message = format!(
                "unary expression only allowed on expressions of type scalar or instant vector, got {name:?}"
            );
            return Err(Failure::new(*span, message));
        }
        Expr::Paren { expr, .. } => return check(expr),
    }
    Ok(expr.value_type())
}

fn is_operand(value_type: ValueType) -> bool {
    matches!(value_type, ValueType::Scalar | ValueType::Vector)
}

fn check_selector(selector: &VectorSelector) -> Check {
    if selector.matchers.iter().all(|matcher| matcher.matches_empty()) {
        return Err(Failure::new(selector.span, EMPTY_SELECTOR));
    }
    Ok(())
}

fn check_call(call: &mut Call) -> Check {
    let function = functions::find(call.name).expect("the grammar takes names from the table");
    let (least, most) = function.argument_counts();
    let count = call.args.len();
    let bound = match most {
        Some(most) if most == least && count != least => Some(("", least)),
        _ if count < least => Some(("at least ", least)),
        Some(most) if count > most => Some(("at most ", most)),
        _ => None,
    };
    if let Some((word, wanted)) = bound {
        let message = format!("expected {word}{wanted} argument(s) in call to {:?}, got {count}", call.name);
        return Err(Failure::new(call.span, message));
    }
    let context = Context::Call(call.name);
    for (index, argument) in call.args.iter_mut().enumerate() {
        let wanted = function.arguments[index.min(function.arguments.len() - 1)];
        if call.name == "info" && index == 1 {
            check_info_selector(argument)?;
        } else {
            check_type(argument, wanted, context)?;
        }
    }
    Ok(())
}

/// The second argument of `info` only holds matchers, which may all match the empty value.
fn check_info_selector(argument: &mut Expr) -> Check {
    if let Expr::Vector(_) = argument {
        return Ok(());
    }
    check_type(argument, ValueType::Vector, Context::Call("info"))?;
    Err(Failure::new(argument.span(), "expected label selectors only"))
}

fn check_aggregate(aggregate: &mut Aggregate) -> Check {
    check_type(&mut aggregate.expr, ValueType::Vector, Context::Aggregation)?;
    let wanted = if aggregate.op == AggregateOp::CountValues { ValueType::String } else { ValueType::Scalar };
    match &mut aggregate.param {
        Some(param) => check_type(param, wanted, Context::AggregationParameter),
        None => Ok(()),
    }
}

fn check_binary(binary: &mut Binary) -> Result<ValueType, Failure> {
    let left = check(&mut binary.left)?;
    let right = check(&mut binary.right)?;
    let op = binary.op;
    let op_span = Span { start: binary.left.span().end, end: binary.right.span().start };
    if binary.return_bool && !op.is_comparison() {
        return Err(Failure::new(op_span, "bool modifier can only be used on comparison operators"));
    }
    let scalars = left == ValueType::Scalar && right == ValueType::Scalar;
    if op.is_comparison() && !binary.return_bool && scalars {
        return Err(Failure::new(op_span, "comparisons between scalars must use BOOL modifier"));
    }
    if let Some(label) = binary.matching.as_ref().and_then(label_of_both_lists) {
        let message = format!("label {label:?} must not occur in ON and GROUP clause at once");
        return Err(Failure::new(op_span, message));
    }
    for (value_type, side) in [(left, &binary.left), (right, &binary.right)] {
        if !is_operand(value_type) {
            let message = "binary expression must contain only scalar and instant vector types";
            return Err(Failure::new(side.span(), message));
        }
    }
    if left == ValueType::Vector && right == ValueType::Vector {
        let cardinality = binary.matching.as_ref().map(|matching| matching.cardinality);
        if op.is_set() && cardinality != Some(Cardinality::ManyToMany) {
            let message = format!("no grouping allowed for {:?} operation", op.as_str());
            return Err(Failure::new(binary.span, message));
        }
        if op.is_set() && binary.matching.as_ref().is_some_and(|matching| !matching.fill.is_none()) {
            let message = "filling in missing series not allowed for set operators";
            return Err(Failure::new(binary.span, message));
        }
        return Ok(ValueType::Vector);
    }
    if let Some(matching) = binary.matching.take() {
        if !matching.labels.is_empty() {
            let message = "vector matching only allowed between instant vectors";
            return Err(Failure::new(binary.span, message));
        }
        if !matching.fill.is_none() {
            let message = "filling in missing series only allowed between instant vectors";
            return Err(Failure::new(binary.span, message));
        }
    }
    if op.is_set() {
        let message = format!("set operator {:?} not allowed in binary scalar expression", op.as_str());
        return Err(Failure::new(binary.span, message));
    }
    Ok(if scalars { ValueType::Scalar } else { ValueType::Vector })
}

/// A label that `on (…)` and `group_left (…)` both name.
fn label_of_both_lists(matching: &Matching) -> Option<&str> {
    if !matching.on || matching.include.is_empty() {
        return None;
    }
    let included: HashSet<&str> = matching.include.iter().map(String::as_str).collect();
    matching.labels.iter().map(String::as_str).find(|label| included.contains(label))
}

/// What wants an expression of some type.
#[derive(Clone, Copy)]
enum Context {
    Aggregation,
    AggregationParameter,
    Call(&'static str),
}

fn check_type(expr: &mut Expr, wanted: ValueType, context: Context) -> Check {
    let got = check(expr)?;
    if got == wanted { Ok(()) } else { Err(wrong_type(expr.span(), wanted, context, got)) }
}

fn wrong_type(span: Span, wanted: ValueType, context: Context, got: ValueType) -> Failure {
    let place = match context {
        Context::Aggregation => "aggregation expression".to_owned(),
        Context::AggregationParameter => "aggregation parameter".to_owned(),
        Context::Call(name) => format!("call to function {name:?}"),
    };
    let (wanted, got) = (documented_name(wanted), documented_name(got));
    Failure::new(span, format!("expected type {wanted} in {place}, got {got}"))
}

/// A type as the documentation calls it.
fn documented_name(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::Vector => "instant vector",
        ValueType::Matrix => "range vector",
        ValueType::Scalar | ValueType::String => type_name(value_type),
    }
}

/// A type as the API calls it.
fn type_name(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::Scalar => "scalar",
        ValueType::String => "string",
        ValueType::Vector => "vector",
        ValueType::Matrix => "matrix",
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    /// Queries with the message that they are refused with.
    const REFUSED: &[(&str, &str)] = &[
        ("1 == 1", "comparisons between scalars must use BOOL modifier"),
        ("1 and 1", "set operator \"and\" not allowed in binary scalar expression"),
        ("x or 1", "set operator \"or\" not allowed in binary scalar expression"),
        ("x == on(a) 1", "vector matching only allowed between instant vectors"),
        ("x + bool y", "bool modifier can only be used on comparison operators"),
        ("x and on(a) group_left(b) y", "no grouping allowed for \"and\" operation"),
        ("x + on(a) group_left(b, a) y", "label \"a\" must not occur in ON and GROUP clause at once"),
        ("x[5m] + 1", "binary expression must contain only scalar and instant vector types"),
        ("1 + \"a\"", "binary expression must contain only scalar and instant vector types"),
        (
            "-x[5m]",
            "unary expression only allowed on expressions of type scalar or instant vector, got \"range vector\"",
        ),
        (
            "-\"a\"",
            "unary expression only allowed on expressions of type scalar or instant vector, got \"string\"",
        ),
        ("1[5m:]", "subquery is only allowed on instant vector, got scalar instead"),
        ("x[5m][5m:]", "subquery is only allowed on instant vector, got matrix instead"),
        ("rate(x)", "expected type range vector in call to function \"rate\", got instant vector"),
        ("abs(1)", "expected type instant vector in call to function \"abs\", got scalar"),
        (
            "label_join(x, \"a\", \",\", 1)",
            "expected type string in call to function \"label_join\", got scalar",
        ),
        ("floor()", "expected 1 argument(s) in call to \"floor\", got 0"),
        ("time(x)", "expected 0 argument(s) in call to \"time\", got 1"),
        ("hour(x, x)", "expected at most 1 argument(s) in call to \"hour\", got 2"),
        ("label_join(x, \"a\")", "expected at least 3 argument(s) in call to \"label_join\", got 2"),
        ("sum(1)", "expected type instant vector in aggregation expression, got scalar"),
        ("topk(x, y)", "expected type scalar in aggregation parameter, got instant vector"),
        ("count_values(5, x)", "expected type string in aggregation parameter, got scalar"),
        ("{}", "vector selector must contain at least one non-empty matcher"),
        ("{a=\"\", b=~\".*\"}", "vector selector must contain at least one non-empty matcher"),
        ("rate({a!=\"x\"}[5m])", "vector selector must contain at least one non-empty matcher"),
        ("info(x, abs(y))", "expected label selectors only"),
        ("info(x, y)", "expected label selectors only, got vector selector instead"),
        ("info(x, y{a=\"b\"})", "expected label selectors only, got vector selector instead"),
        ("info(x, 1)", "expected type instant vector in call to function \"info\", got scalar"),
        ("x + fill(0) 1", "filling in missing series only allowed between instant vectors"),
        ("x and fill(0) y", "filling in missing series not allowed for set operators"),
    ];

    #[test]
    fn wrong_types_are_refused_in_the_words_of_prometheus() {
        for (query, message) in REFUSED {
            let error = parse(query).expect_err(query);
            assert_eq!(&error.message, message, "{query}");
        }
    }

    #[test]
    fn arguments_that_may_be_omitted_or_repeated_are_accepted() {
        for query in [
            "hour()",
            "hour(x)",
            "round(x)",
            "round(x, 5)",
            "label_join(x, \"a\", \",\")",
            "label_join(x, \"a\", \",\", \"b\", \"c\", \"d\")",
            "sort_by_label(x, \"a\", \"b\")",
            "info(x)",
            "info(x, {a=~\".*\"})",
            "info(x, {})",
            "info(x, {__name__=~\".+_info\"})",
            "1 == bool 1",
            "start() + end() - step() * range()",
            "vector(pi())",
        ] {
            assert!(parse(query).is_ok(), "{query}: {:?}", parse(query));
        }
    }

    #[test]
    fn errors_name_the_place_in_the_text() {
        let error = parse("a +\n  é + rate(x)").unwrap_err();
        assert_eq!((error.line, error.column), (2, 3));
        let error = parse("sum(x) +\n  rate(x)").unwrap_err();
        assert_eq!(
            error.to_string(),
            "2:8: parse error: expected type range vector in call to function \"rate\", got instant vector"
        );
        assert_eq!((error.span.start, error.span.end), (16, 17));
    }
}
