//! The functions of PromQL: one table of names and arguments.

use super::super::ast::ValueType::{self, Matrix, Scalar, String, Vector};

/// A function as the type check sees it. What it returns is said by `Expr::value_type`.
pub struct Function {
    /// Its name in the language.
    pub name: &'static str,
    /// The types of its arguments.
    pub arguments: &'static [ValueType],
    /// How often the last argument may be there.
    pub last: Last,
}

/// How often the last argument of a function may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// Once.
    Once,
    /// Not at all, or up to so many times.
    Optional(usize),
    /// Any number of times.
    Repeated,
}

/// All functions in order of their names, the experimental ones too.
pub fn functions() -> &'static [Function] {
    FUNCTIONS
}

const fn fixed(name: &'static str, arguments: &'static [ValueType]) -> Function {
    Function { name, arguments, last: Last::Once }
}

static FUNCTIONS: &[Function] = &[
    fixed("abs", &[Vector]),
    fixed("absent", &[Vector]),
    fixed("absent_over_time", &[Matrix]),
    fixed("acos", &[Vector]),
    fixed("acosh", &[Vector]),
    fixed("asin", &[Vector]),
    fixed("asinh", &[Vector]),
    fixed("atan", &[Vector]),
    fixed("atanh", &[Vector]),
    fixed("avg_over_time", &[Matrix]),
    fixed("ceil", &[Vector]),
    fixed("changes", &[Matrix]),
    fixed("clamp", &[Vector, Scalar, Scalar]),
    fixed("clamp_max", &[Vector, Scalar]),
    fixed("clamp_min", &[Vector, Scalar]),
    fixed("cos", &[Vector]),
    fixed("cosh", &[Vector]),
    fixed("count_over_time", &[Matrix]),
    Function { name: "day_of_month", arguments: &[Vector], last: Last::Optional(1) },
    Function { name: "day_of_week", arguments: &[Vector], last: Last::Optional(1) },
    Function { name: "day_of_year", arguments: &[Vector], last: Last::Optional(1) },
    Function { name: "days_in_month", arguments: &[Vector], last: Last::Optional(1) },
    fixed("deg", &[Vector]),
    fixed("delta", &[Matrix]),
    fixed("deriv", &[Matrix]),
    fixed("double_exponential_smoothing", &[Matrix, Scalar, Scalar]),
    fixed("end", &[]),
    fixed("exp", &[Vector]),
    fixed("first_over_time", &[Matrix]),
    fixed("floor", &[Vector]),
    fixed("histogram_avg", &[Vector]),
    fixed("histogram_count", &[Vector]),
    fixed("histogram_fraction", &[Scalar, Scalar, Vector]),
    fixed("histogram_quantile", &[Scalar, Vector]),
    Function {
        name: "histogram_quantiles",
        arguments: &[Vector, String, Scalar, Scalar],
        last: Last::Optional(9),
    },
    fixed("histogram_stddev", &[Vector]),
    fixed("histogram_stdvar", &[Vector]),
    fixed("histogram_sum", &[Vector]),
    Function { name: "hour", arguments: &[Vector], last: Last::Optional(1) },
    fixed("idelta", &[Matrix]),
    fixed("increase", &[Matrix]),
    Function { name: "info", arguments: &[Vector, Vector], last: Last::Optional(1) },
    fixed("irate", &[Matrix]),
    Function { name: "label_join", arguments: &[Vector, String, String, String], last: Last::Repeated },
    fixed("label_replace", &[Vector, String, String, String, String]),
    fixed("last_over_time", &[Matrix]),
    fixed("ln", &[Vector]),
    fixed("log10", &[Vector]),
    fixed("log2", &[Vector]),
    fixed("mad_over_time", &[Matrix]),
    fixed("max_of", &[Scalar, Scalar]),
    fixed("max_over_time", &[Matrix]),
    fixed("min_of", &[Scalar, Scalar]),
    fixed("min_over_time", &[Matrix]),
    Function { name: "minute", arguments: &[Vector], last: Last::Optional(1) },
    Function { name: "month", arguments: &[Vector], last: Last::Optional(1) },
    fixed("pi", &[]),
    fixed("predict_linear", &[Matrix, Scalar]),
    fixed("present_over_time", &[Matrix]),
    fixed("quantile_over_time", &[Scalar, Matrix]),
    fixed("rad", &[Vector]),
    fixed("range", &[]),
    fixed("rate", &[Matrix]),
    fixed("resets", &[Matrix]),
    Function { name: "round", arguments: &[Vector, Scalar], last: Last::Optional(1) },
    fixed("scalar", &[Vector]),
    fixed("sgn", &[Vector]),
    fixed("sin", &[Vector]),
    fixed("sinh", &[Vector]),
    fixed("sort", &[Vector]),
    Function { name: "sort_by_label", arguments: &[Vector, String], last: Last::Repeated },
    Function { name: "sort_by_label_desc", arguments: &[Vector, String], last: Last::Repeated },
    fixed("sort_desc", &[Vector]),
    fixed("sqrt", &[Vector]),
    fixed("start", &[]),
    fixed("start_timestamp", &[Vector]),
    fixed("stddev_over_time", &[Matrix]),
    fixed("stdvar_over_time", &[Matrix]),
    fixed("step", &[]),
    fixed("sum_over_time", &[Matrix]),
    fixed("tan", &[Vector]),
    fixed("tanh", &[Vector]),
    fixed("time", &[]),
    fixed("timestamp", &[Vector]),
    fixed("ts_of_first_over_time", &[Matrix]),
    fixed("ts_of_last_over_time", &[Matrix]),
    fixed("ts_of_max_over_time", &[Matrix]),
    fixed("ts_of_min_over_time", &[Matrix]),
    fixed("vector", &[Scalar]),
    Function { name: "year", arguments: &[Vector], last: Last::Optional(1) },
];

/// Functions that may change or go in a later version of Prometheus, in order of their names.
static EXPERIMENTAL: &[&str] = &[
    "double_exponential_smoothing",
    "end",
    "histogram_quantiles",
    "info",
    "mad_over_time",
    "max_of",
    "min_of",
    "range",
    "sort_by_label",
    "sort_by_label_desc",
    "start",
    "start_timestamp",
    "step",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
];

/// Whether a function has to be enabled.
pub(super) fn is_experimental(name: &str) -> bool {
    EXPERIMENTAL.binary_search(&name).is_ok()
}

/// Looks a function up; names are case-sensitive.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|function| function.name.cmp(name)).ok().map(|index| &FUNCTIONS[index])
}

impl Function {
    /// How many arguments a call needs at least and may have at most.
    pub fn argument_counts(&self) -> (usize, Option<usize>) {
        let count = self.arguments.len();
        match self.last {
            Last::Once => (count, Some(count)),
            Last::Optional(times) => (count - 1, Some(count - 1 + times)),
            Last::Repeated => (count - 1, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_for_the_search() {
        assert!(FUNCTIONS.is_sorted_by(|a, b| a.name < b.name));
        assert!(FUNCTIONS.iter().all(|function| find(function.name).is_some()));
        assert!(find("Rate").is_none());
        assert!(EXPERIMENTAL.is_sorted() && EXPERIMENTAL.iter().all(|name| find(name).is_some()));
    }

    #[test]
    fn functions_with_optional_arguments_have_one_to_omit() {
        assert!(
            FUNCTIONS.iter().all(|function| function.last == Last::Once || !function.arguments.is_empty())
        );
    }
}
