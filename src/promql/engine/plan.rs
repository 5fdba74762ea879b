//! From the syntax tree to a plan: which series to fetch for which times, and what to do with them.

use std::collections::HashMap;

use annulus_shards::Matcher;
use annulus_shards::matcher::{CapturePattern, QUERY_COMPILED_BYTES_MAX};

use super::borders::bordered_function;
use super::calendar::date_function;
use super::control::Control;
use super::histogram_borders::bordered_histogram_function;
use super::info::{InfoCall, info_matchers};
use super::label_functions::{LabelEdit, absent_labels, replace_pattern};
use super::math_functions::{larger, math_function, smaller};
use super::node::{
    AggregateCall, BinaryCall, HistogramCall, HistogramQuestion, Node, RangeCall, RangeCheck, Ranged,
    Selector, Sort,
};
use super::range_functions::range_function;
use super::samples::Detail;
use super::steps::Steps;
use super::sweep::Sweep;
use super::window::Reach;
use crate::promql::ast::{
    Aggregate, AggregateOp, AtModifier, Binary, Borders, Call, Cardinality, DurationExpr, Expr, Fill,
    Matching, NoDuration, QueryTimes, Subquery, VectorSelector,
};
use crate::promql::histogram::{FloatHistogram, histogram_variance};
use crate::promql::parser::literal::quote_bytes;
use crate::promql::value::{QueryError, QueryOptions};
use crate::source::SelectRequest;

/// How many different selectors a query may have: each is one more read of the store.
const REQUESTS_MAX: usize = 1_000;

/// What a query needs and does.
pub(super) struct Plan {
    /// The last operation.
    pub(super) root: Node,
    /// Series to fetch before the evaluation; each selector of the query has a place here, equal ones the same.
    pub(super) requests: Vec<SelectRequest>,
}

/// Plans a query at its steps.
///
/// # Errors
/// When the query has durations without a value, a constant argument that its function does not accept, subqueries of
/// more steps than the query may hold, or too many selectors; and once the query should stop.
pub(super) fn plan(
    expr: &Expr,
    steps: &Steps,
    end_ms: i64,
    options: &QueryOptions,
    control: &Control,
) -> Result<Plan, QueryError> {
    let mut planner = Planner {
        options,
        control,
        query: (*steps, end_ms),
        requests: Vec::new(),
        patterns: HashMap::new(),
        needs: Needs { buckets: false, stats: false },
    };
    let root = match without_parens(expr) {
        expr @ (Expr::Matrix { .. } | Expr::Subquery(_)) => Node::Samples(planner.ranged(expr, steps)?),
        expr => planner.node(expr, steps)?,
    };
    Ok(Plan { root, requests: planner.requests })
}

struct Planner<'q> {
    options: &'q QueryOptions,
    control: &'q Control,
    /// The query's own steps and its end, which `@ start()` and `@ end()` mean, also within subqueries.
    query: (Steps, i64),
    requests: Vec<SelectRequest>,
    /// The patterns of `label_replace`: equal ones are compiled once.
    patterns: HashMap<String, CapturePattern>,
    needs: Needs,
}

/// What is needed of the native histograms of the selectors in an expression.
#[derive(Clone, Copy)]
struct Needs {
    /// Something around it needs the buckets.
    buckets: bool,
    /// Something around it needs no more than count and sum.
    stats: bool,
}

impl Planner<'_> {
    /// Plans something of which the buckets of native histograms are needed.
    fn with_buckets<T>(&mut self, plan: impl FnOnce(&mut Self) -> T) -> T {
        self.with_needs(Needs { buckets: true, ..self.needs }, plan)
    }

    fn with_needs<T>(&mut self, needs: Needs, plan: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.needs, needs);
        let planned = plan(self);
        self.needs = before;
        planned
    }

    /// An expression at some steps; evaluated once, if it is the same at all of them.
    fn node(&mut self, expr: &Expr, steps: &Steps) -> Result<Node, QueryError> {
        let expr = without_parens(expr);
        if !steps.is_single() && is_constant(expr) {
            let node = self.varying_node(expr, &steps.first())?;
            return Ok(match node {
                Node::Number(_) | Node::Text(_) => node,
                node => Node::Constant(Box::new(node)),
            });
        }
        self.varying_node(expr, steps)
    }

    fn boxed(&mut self, expr: &Expr, steps: &Steps) -> Result<Box<Node>, QueryError> {
        self.node(expr, steps).map(Box::new)
    }

    fn varying_node(&mut self, expr: &Expr, steps: &Steps) -> Result<Node, QueryError> {
        match expr {
            Expr::Number { value, .. } => Ok(Node::Number(*value)),
            Expr::String { value, .. } => Ok(Node::Text(value.clone())),
            Expr::Bytes { value, .. } => Ok(Node::Text(String::from_utf8_lossy(value).into_owned())),
            Expr::Vector(selector) => Ok(Node::Latest(self.instant(selector, steps)?)),
            Expr::Matrix { .. } | Expr::Subquery(_) => {
                Err(QueryError::Execution("a range vector stands where none may".to_owned()))
            }
            Expr::Call(call) => self.call(call, steps),
            Expr::Aggregate(aggregate) => self.aggregate(aggregate, steps),
            Expr::Binary(binary) => self.binary(binary, steps),
            Expr::Unary { negate: true, expr, .. } => Ok(Node::Negate(self.boxed(expr, steps)?)),
            Expr::Unary { negate: false, expr, .. } | Expr::Paren { expr, .. } => self.node(expr, steps),
        }
    }

    fn resolve(&self, at: Option<AtModifier>) -> Option<i64> {
        at.map(|at| match at {
            AtModifier::Timestamp(time_ms) => time_ms,
            AtModifier::Start => self.query.0.first_ms(),
            AtModifier::End => self.query.1,
        })
    }

    /// What `step()` and `range()` mean in durations, everywhere in the query.
    fn times(&self) -> QueryTimes {
        let (steps, end_ms) = self.query;
        QueryTimes { step_ms: steps.step_ms(), range_ms: end_ms.saturating_sub(steps.first_ms()) }
    }

    fn positive_ms(&self, duration: &DurationExpr) -> Result<i64, QueryError> {
        duration.resolve_positive_ms(self.times()).map_err(no_duration)
    }

    fn offset_ms(&self, offset: Option<&DurationExpr>) -> Result<i64, QueryError> {
        offset.map_or(Ok(0), |offset| offset.resolve_ms(self.times()).map_err(no_duration))
    }

    /// A selector of one value per step.
    fn instant(&mut self, selector: &VectorSelector, steps: &Steps) -> Result<Selector, QueryError> {
        let lookback_ms = self.options.lookback_delta_ms;
        let after_ms = if selector.borders == Borders::Smoothed { lookback_ms } else { 0 };
        self.selector(selector, lookback_ms, (0, after_ms), steps)
    }

    fn selector(
        &mut self,
        selector: &VectorSelector,
        range_ms: i64,
        beyond_ms: (i64, i64),
        steps: &Steps,
    ) -> Result<Selector, QueryError> {
        let offset_ms = self.offset_ms(selector.offset.as_deref())?;
        let reach = Reach { offset_ms, at_ms: self.resolve(selector.at), range_ms, beyond_ms };
        let request = self.request(&selector.matchers, reach.bounds_ms(steps))?;
        let Needs { buckets, stats } = self.needs;
        let detail = if stats && !buckets { Detail::CountAndSum } else { Detail::Whole };
        let (borders, span) = (selector.borders, selector.span);
        Ok(Selector { request, reach, borders, detail, is_counter: false, span })
    }

    /// The place of a request: an earlier one of equal matchers and overlapping time serves both.
    fn request(&mut self, matchers: &[Matcher], (min_ms, max_ms): (i64, i64)) -> Result<usize, QueryError> {
        let equal = self.requests.iter().position(|request| {
            request.matchers == matchers && request.min_ms <= max_ms && min_ms <= request.max_ms
        });
        if let Some(index) = equal {
            let request = &mut self.requests[index];
            request.min_ms = request.min_ms.min(min_ms);
            request.max_ms = request.max_ms.max(max_ms);
            return Ok(index);
        }
        if self.requests.len() == REQUESTS_MAX {
            let text = format!("the query has more than {REQUESTS_MAX} different selectors");
            return Err(QueryError::Execution(text));
        }
        let matchers = matchers.to_vec();
        self.requests.push(SelectRequest { matchers, min_ms, max_ms, skip_chunks: false, budget: None });
        Ok(self.requests.len() - 1)
    }

    fn ranged(&mut self, expr: &Expr, steps: &Steps) -> Result<Ranged, QueryError> {
        match without_parens(expr) {
            Expr::Matrix { selector, range, .. } => {
                let (range_ms, lookback_ms) = (self.positive_ms(range)?, self.options.lookback_delta_ms);
                let beyond_ms = match selector.borders {
                    Borders::Inside => (0, 0),
                    Borders::Anchored => (lookback_ms, 0),
                    Borders::Smoothed => (lookback_ms, lookback_ms),
                };
                Ok(Ranged::Selector(self.selector(selector, range_ms, beyond_ms, steps)?))
            }
            Expr::Subquery(subquery) => self.subquery(subquery, steps),
            _ => Err(QueryError::Execution("a range vector is missing".to_owned())),
        }
    }

    fn subquery(&mut self, subquery: &Subquery, steps: &Steps) -> Result<Ranged, QueryError> {
        let range_ms = self.positive_ms(&subquery.range)?;
        let reach = Reach {
            offset_ms: self.offset_ms(subquery.offset.as_deref())?,
            at_ms: self.resolve(subquery.at),
            range_ms,
            beyond_ms: (0, 0),
        };
        let (first_ms, last_ms) = (reach.end_ms(steps.first_ms()), reach.end_ms(steps.last_ms()));
        let step_ms = match &subquery.step {
            Some(step) => self.positive_ms(step)?,
            None => self.options.default_step_ms,
        };
        let inner = Steps::inside_subquery(first_ms, last_ms, range_ms, step_ms);
        if inner.is_some_and(|inner| inner.count() as u64 > self.options.samples_max) {
            return Err(QueryError::TooManySamples);
        }
        let node = match &inner {
            // Resets are looked for between its steps, not its samples.
            Some(inner) => self.with_buckets(|planner| planner.boxed(&subquery.expr, inner))?,
            None => Box::new(Node::Number(0.0)),
        };
        Ok(Ranged::Subquery { node, steps: inner, reach })
    }

    fn call(&mut self, call: &Call, steps: &Steps) -> Result<Node, QueryError> {
        if let Some(node) = self.context_function(call.name) {
            return Ok(node);
        }
        if let Some(function) = math_function(call.name) {
            let vector = self.boxed(argument(call, 0)?, steps)?;
            return Ok(Node::Math(function, vector, self.nodes(&call.args[1..], steps)?));
        }
        if let Some(function) = date_function(call.name) {
            let vector = call.args.first().map(|arg| self.boxed(arg, steps)).transpose()?;
            return Ok(Node::Date(function, vector));
        }
        if range_function(call.name).is_some() {
            return self.range_call(call, steps);
        }
        match call.name {
            "scalar" => Ok(Node::ToScalar(self.boxed(argument(call, 0)?, steps)?)),
            "vector" => Ok(Node::ToVector(self.boxed(argument(call, 0)?, steps)?)),
            "max_of" | "min_of" => {
                let function = if call.name == "max_of" { larger } else { smaller };
                let (left, right) = (argument(call, 0)?, argument(call, 1)?);
                Ok(Node::ScalarPair(function, self.boxed(left, steps)?, self.boxed(right, steps)?))
            }
            "timestamp" => match without_parens(argument(call, 0)?) {
                // Of a smoothed selector too, the time is that of a sample.
                Expr::Vector(selector) => {
                    let selector = VectorSelector { borders: Borders::Inside, ..selector.clone() };
                    Ok(Node::LatestTime(self.instant(&selector, steps)?))
                }
                other => Ok(Node::StepTime(self.boxed(other, steps)?)),
            },
            "absent" => {
                let arg = without_parens(argument(call, 0)?);
                let matchers = match arg {
                    Expr::Vector(selector) => selector.matchers.as_slice(),
                    _ => &[],
                };
                Ok(Node::Absent(absent_labels(matchers), self.boxed(arg, steps)?))
            }
            "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => self.sort(call, steps),
            "label_replace" | "label_join" => self.relabel(call, steps),
            "histogram_count" | "histogram_sum" | "histogram_avg" => {
                let stat: fn(&FloatHistogram) -> f64 = match call.name {
                    "histogram_count" => |histogram| histogram.count,
                    "histogram_sum" => |histogram| histogram.sum,
                    _ => |histogram| histogram.sum / histogram.count,
                };
                let needs = Needs { stats: true, ..self.needs };
                let node = self.with_needs(needs, |planner| planner.boxed(argument(call, 0)?, steps))?;
                Ok(Node::HistogramStat(stat, node))
            }
            "histogram_stdvar" => {
                Ok(Node::HistogramStat(histogram_variance, self.boxed(argument(call, 0)?, steps)?))
            }
            "histogram_stddev" => {
                let stat = |histogram: &FloatHistogram| histogram_variance(histogram).sqrt();
                Ok(Node::HistogramStat(stat, self.boxed(argument(call, 0)?, steps)?))
            }
            "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => {
                self.with_buckets(|planner| planner.histogram(call, steps))
            }
            "info" => self.info(call, steps),
            // Samples are kept without the time at which their counter started.
            "start_timestamp" => Ok(Node::Nothing(self.boxed(argument(call, 0)?, steps)?)),
            name => Err(QueryError::Execution(format!("unknown function with name {name:?}"))),
        }
    }

    /// Functions of the query alone.
    fn context_function(&self, name: &str) -> Option<Node> {
        let (steps, end_ms) = self.query;
        let seconds = |time_ms: i64| time_ms as f64 / 1000.0;
        let length_ms = end_ms.saturating_sub(steps.first_ms());
        Some(match name {
            "time" => Node::Time,
            "pi" => Node::Number(std::f64::consts::PI),
            "start" => Node::Number(seconds(steps.first_ms())),
            "end" => Node::Number(seconds(end_ms)),
            "range" => Node::Number(seconds(length_ms)),
            "step" => Node::Number(if length_ms == 0 { 0.0 } else { seconds(steps.step_ms()) }),
            _ => return None,
        })
    }

    fn nodes(&mut self, exprs: &[Expr], steps: &Steps) -> Result<Vec<Node>, QueryError> {
        exprs.iter().map(|expr| self.node(expr, steps)).collect()
    }

    fn range_call(&mut self, call: &Call, steps: &Steps) -> Result<Node, QueryError> {
        let is_range = |expr: &&Expr| matches!(without_parens(expr), Expr::Matrix { .. } | Expr::Subquery(_));
        let range = call.args.iter().find(is_range).ok_or_else(|| missing_argument(call))?;
        let borders = match without_parens(range) {
            Expr::Matrix { selector, .. } => selector.borders,
            _ => Borders::Inside,
        };
        let function = bordered_function(call.name, borders)?.ok_or_else(|| missing_argument(call))?;
        let mut ranged = self.ranged(range, steps)?;
        if let Ranged::Selector(selector) = &mut ranged {
            selector.is_counter = matches!(call.name, "rate" | "increase" | "irate" | "resets");
        }
        let scalars = call.args.iter().filter(|arg| !is_range(arg));
        let node = RangeCall {
            function,
            sweep: if borders == Borders::Inside { Sweep::named(call.name) } else { None },
            of_histograms: bordered_histogram_function(call.name, borders),
            ranged,
            args: scalars.map(|arg| self.node(arg, steps)).collect::<Result<_, _>>()?,
            span: range.span(),
            keeps_name: matches!(call.name, "last_over_time" | "first_over_time" | "absent_over_time"),
            check: match call.name {
                "rate" | "increase" => RangeCheck::CounterName(argument(call, 0)?.span()),
                "quantile_over_time" => RangeCheck::Quantile(argument(call, 0)?.span()),
                "double_exponential_smoothing" => RangeCheck::SmoothingFactors,
                _ => RangeCheck::None,
            },
        };
        let node = Node::Range(Box::new(node));
        if call.name != "absent_over_time" {
            return Ok(node);
        }
        let matchers = match without_parens(range) {
            Expr::Matrix { selector, .. } => selector.matchers.as_slice(),
            _ => &[],
        };
        Ok(Node::Absent(absent_labels(matchers), Box::new(node)))
    }

    fn sort(&mut self, call: &Call, steps: &Steps) -> Result<Node, QueryError> {
        let by_label = call.name.starts_with("sort_by_label");
        let sort = Sort {
            labels: by_label.then(|| texts(&call.args[1..])).transpose()?,
            descending: call.name.ends_with("_desc"),
            span: call.span,
        };
        Ok(Node::Sort(sort, self.boxed(argument(call, 0)?, steps)?))
    }

    fn relabel(&mut self, call: &Call, steps: &Steps) -> Result<Node, QueryError> {
        let vector = self.boxed(argument(call, 0)?, steps)?;
        let mut texts = texts(&call.args[1..])?;
        let edit = match (call.name, texts.as_slice()) {
            ("label_replace", [target, replacement, source, pattern]) => {
                LabelEdit::replace(target, replacement, source, self.pattern(pattern)?)?
            }
            ("label_join", [_, _, ..]) => {
                let sources = texts.split_off(2);
                LabelEdit::join(&texts[0], &texts[1], sources)?
            }
            _ => return Err(missing_argument(call)),
        };
        Ok(Node::Relabel(edit, vector))
    }

    /// A pattern of `label_replace`. Some take a part of a second to compile, so that the time is looked at before each.
    fn pattern(&mut self, text: &str) -> Result<CapturePattern, QueryError> {
        if let Some(known) = self.patterns.get(text) {
            return Ok(known.clone());
        }
        self.control.check()?;
        let pattern = replace_pattern(text)?;
        let bytes: usize = self.patterns.values().map(CapturePattern::compiled_bytes).sum();
        if bytes + pattern.compiled_bytes() > QUERY_COMPILED_BYTES_MAX {
            let text = "the regular expressions of label_replace() take too much memory together";
            return Err(QueryError::Execution(text.to_owned()));
        }
        self.patterns.insert(text.to_owned(), pattern.clone());
        Ok(pattern)
    }

    fn histogram(&mut self, call: &Call, steps: &Steps) -> Result<Node, QueryError> {
        let (question, buckets) = match (call.name, call.args.as_slice()) {
            ("histogram_quantile", [quantile, buckets]) => {
                (HistogramQuestion::Quantile(self.node(quantile, steps)?, quantile.span()), buckets)
            }
            ("histogram_fraction", [lower, upper, buckets]) => {
                (HistogramQuestion::Fraction(self.node(lower, steps)?, self.node(upper, steps)?), buckets)
            }
            ("histogram_quantiles", [buckets, label, quantiles @ ..]) => {
                let quantiles: Result<_, QueryError> = quantiles
                    .iter()
                    .map(|quantile| Ok((self.node(quantile, steps)?, quantile.span())))
                    .collect();
                (HistogramQuestion::Quantiles(text(label)?, quantiles?), buckets)
            }
            _ => return Err(missing_argument(call)),
        };
        let (node, span) = (self.node(buckets, steps)?, buckets.span());
        Ok(Node::Histogram(Box::new(HistogramCall { question, node, span })))
    }

    fn info(&mut self, call: &Call, steps: &Steps) -> Result<Node, QueryError> {
        let base = argument(call, 0)?;
        let matchers = match call.args.get(1).map(without_parens) {
            Some(Expr::Vector(selector)) => selector.matchers.as_slice(),
            _ => &[],
        };
        let (names, data) = info_matchers(matchers)?;
        let (at_ms, offset_ms) = self.time_of(base)?.unwrap_or((None, 0));
        let range_ms = self.options.lookback_delta_ms;
        let reach = Reach { offset_ms, at_ms, range_ms, beyond_ms: (0, 0) };
        let wanted: Vec<Matcher> = names.iter().chain(&data).cloned().collect();
        let request = self.request(&wanted, reach.bounds_ms(steps))?;
        let (borders, detail, span) = (Borders::Inside, Detail::Whole, base.span());
        let selector = Selector { request, reach, borders, detail, is_counter: false, span };
        let node = self.node(base, steps)?;
        Ok(Node::Info(Box::new(InfoCall { node, selector, names, data })))
    }

    /// The pinned time, if any, and the offset that the first selector of an expression has, with those of the
    /// subqueries around it: a pinned time makes what is further out irrelevant.
    fn time_of(&self, expr: &Expr) -> Result<Option<(Option<i64>, i64)>, QueryError> {
        match expr {
            Expr::Number { .. } | Expr::String { .. } | Expr::Bytes { .. } => Ok(None),
            Expr::Vector(selector) | Expr::Matrix { selector, .. } => {
                Ok(Some((self.resolve(selector.at), self.offset_ms(selector.offset.as_deref())?)))
            }
            Expr::Subquery(subquery) => Ok(match self.time_of(&subquery.expr)? {
                Some((None, inner_ms)) => {
                    let offset_ms = self.offset_ms(subquery.offset.as_deref())?;
                    Some((self.resolve(subquery.at), inner_ms.saturating_add(offset_ms)))
                }
                found => found,
            }),
            Expr::Call(call) => self.first_time(call.args.iter()),
            Expr::Aggregate(aggregate) => {
                self.first_time([&aggregate.expr].into_iter().chain(&aggregate.param))
            }
            Expr::Binary(binary) => self.first_time([&binary.left, &binary.right].into_iter()),
            Expr::Unary { expr, .. } | Expr::Paren { expr, .. } => self.time_of(expr),
        }
    }

    fn first_time<'e>(
        &self,
        exprs: impl Iterator<Item = &'e Expr>,
    ) -> Result<Option<(Option<i64>, i64)>, QueryError> {
        for expr in exprs {
            if let Some(found) = self.time_of(expr)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn aggregate(&mut self, aggregate: &Aggregate, steps: &Steps) -> Result<Node, QueryError> {
        let param = aggregate.param.as_ref();
        if let (AggregateOp::CountValues, Some(Expr::Bytes { value, .. })) =
            (aggregate.op, param.map(without_parens))
        {
            return Err(QueryError::Execution(format!("invalid label name {}", quote_bytes(value))));
        }
        let call = AggregateCall {
            op: aggregate.op,
            param: param.map(|param| self.node(param, steps)).transpose()?,
            param_span: param.map_or(aggregate.span, Expr::span),
            node: self.node(&aggregate.expr, steps)?,
            node_span: aggregate.expr.span(),
            span: aggregate.span,
            without: aggregate.without,
            grouping: aggregate.grouping.clone(),
        };
        Ok(Node::Aggregate(Box::new(call)))
    }

    fn binary(&mut self, binary: &Binary, steps: &Steps) -> Result<Node, QueryError> {
        let matching = binary.matching.clone().unwrap_or_else(|| Matching {
            cardinality: if binary.op.is_set() { Cardinality::ManyToMany } else { Cardinality::OneToOne },
            on: false,
            labels: Vec::new(),
            include: Vec::new(),
            fill: Fill::default(),
        });
        let needs = Needs { buckets: self.needs.buckets || binary.op.is_trim(), ..self.needs };
        let (left, right) = self.with_needs(needs, |planner| {
            Ok::<_, QueryError>((planner.node(&binary.left, steps)?, planner.node(&binary.right, steps)?))
        })?;
        let (op, return_bool, span) = (binary.op, binary.return_bool, binary.span);
        let call = BinaryCall { op, left, right, matching, return_bool, span };
        Ok(Node::Binary(Box::new(call)))
    }
}

/// Whether an expression has the same value at every step: all its times are pinned.
///
/// The parameter of an aggregation does not count, which has to be so for the results to be those of Prometheus.
fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Number { .. } | Expr::String { .. } | Expr::Bytes { .. } => true,
        Expr::Vector(selector) | Expr::Matrix { selector, .. } => selector.at.is_some(),
        Expr::Subquery(subquery) => subquery.at.is_some(),
        Expr::Aggregate(aggregate) => is_constant(&aggregate.expr),
        Expr::Binary(binary) => is_constant(&binary.left) && is_constant(&binary.right),
        Expr::Unary { expr, .. } | Expr::Paren { expr, .. } => is_constant(expr),
        Expr::Call(call) => match call.name {
            "time" | "predict_linear" => false,
            "timestamp" => {
                call.args.iter().all(|arg| matches!(without_parens(arg), Expr::Vector(s) if s.at.is_some()))
            }
            name if date_function(name).is_some() => false,
            _ => call.args.iter().all(is_constant),
        },
    }
}

fn without_parens(mut expr: &Expr) -> &Expr {
    while let Expr::Paren { expr: inner, .. } = expr {
        expr = inner;
    }
    expr
}

fn argument(call: &Call, index: usize) -> Result<&Expr, QueryError> {
    call.args.get(index).ok_or_else(|| missing_argument(call))
}

fn missing_argument(call: &Call) -> QueryError {
    QueryError::Execution(format!("{} has too few arguments", call.name))
}

fn no_duration(error: NoDuration) -> QueryError {
    QueryError::Parameter { name: "query", reason: error.to_string() }
}

fn texts(exprs: &[Expr]) -> Result<Vec<String>, QueryError> {
    exprs.iter().map(text).collect()
}

fn text(expr: &Expr) -> Result<String, QueryError> {
    match without_parens(expr) {
        Expr::String { value, .. } => Ok(value.clone()),
        Expr::Bytes { value, .. } => {
            Err(QueryError::Execution(format!("{} is not valid UTF-8", quote_bytes(value))))
        }
        _ => Err(QueryError::Execution("a string is missing".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::ast::Span;
    use annulus_shards::MatchOp;

    const NOWHERE: Span = Span { start: 0, end: 0 };

    fn of_ms(duration_ms: i64) -> Box<DurationExpr> {
        Box::new(DurationExpr::of_ms(duration_ms))
    }

    fn selector(name: &str) -> VectorSelector {
        let matcher = Matcher::new(MatchOp::Equal, "__name__", name).unwrap();
        let matchers = vec![matcher];
        VectorSelector { matchers, offset: None, at: None, borders: Borders::Inside, span: NOWHERE }
    }

    fn rate(selector: VectorSelector, range_ms: i64) -> Expr {
        let args = vec![Expr::Matrix { selector, range: of_ms(range_ms), span: NOWHERE }];
        Expr::Call(Box::new(Call { name: "rate", args, span: NOWHERE }))
    }

    fn add(left: Expr, right: Expr) -> Expr {
        let op = crate::promql::ast::BinaryOp::Add;
        Expr::Binary(Box::new(Binary { op, left, right, matching: None, return_bool: false, span: NOWHERE }))
    }

    fn ranges(expr: &Expr, steps: Steps) -> Vec<(i64, i64)> {
        let plan = plan_at(expr, &steps).unwrap();
        plan.requests.iter().map(|request| (request.min_ms, request.max_ms)).collect()
    }

    #[test]
    fn a_selector_asks_for_its_lookback_and_no_more() {
        let steps = Steps::span(1_000_000, 2_000_000, 100_000).unwrap();
        assert_eq!(ranges(&Expr::Vector(selector("a")), steps), [(700_001, 2_000_000)]);
        let moved = VectorSelector { offset: Some(of_ms(60_000)), ..selector("a") };
        assert_eq!(ranges(&rate(moved, 50_000), steps), [(890_001, 1_940_000)]);
        let pinned = VectorSelector { at: Some(AtModifier::End), ..selector("a") };
        assert_eq!(ranges(&rate(pinned, 50_000), steps), [(1_950_001, 2_000_000)]);
    }

    #[test]
    fn equal_selectors_are_fetched_once_when_their_times_meet() {
        let steps = Steps::single(10_000_000);
        let far = VectorSelector { offset: Some(of_ms(5_000_000)), ..selector("a") };
        let expr = add(add(rate(selector("a"), 600_000), rate(selector("a"), 60_000)), rate(far, 60_000));
        assert_eq!(ranges(&expr, steps), [(9_400_001, 10_000_000), (4_940_001, 5_000_000)]);
        assert_eq!(ranges(&add(rate(selector("a"), 60_000), rate(selector("b"), 60_000)), steps).len(), 2);
    }

    #[test]
    fn a_subquery_asks_for_the_times_of_its_inner_steps() {
        let subquery = Subquery {
            expr: Expr::Vector(selector("a")),
            range: DurationExpr::of_ms(100_000),
            step: Some(DurationExpr::of_ms(30_000)),
            offset: None,
            at: None,
            span: NOWHERE,
        };
        let args = vec![Expr::Subquery(Box::new(subquery))];
        let expr = Expr::Call(Box::new(Call { name: "sum_over_time", args, span: NOWHERE }));
        // Inner steps 930 s, 960 s and 990 s; the lookback before the first of them.
        assert_eq!(ranges(&expr, Steps::single(1_000_000)), [(630_001, 990_000)]);
    }

    fn plan_at(expr: &Expr, steps: &Steps) -> Result<Plan, QueryError> {
        let options = QueryOptions::default();
        plan(expr, steps, steps.last_ms(), &options, &Control::new(options.timeout))
    }

    #[test]
    fn unknown_functions_are_refused() {
        let expr = Expr::Call(Box::new(Call { name: "integral", args: vec![], span: NOWHERE }));
        let error = plan_at(&expr, &Steps::single(0)).err().unwrap();
        assert!(matches!(error, QueryError::Execution(_)), "{error}");
    }

    #[test]
    fn a_subquery_of_endless_steps_is_refused() {
        let subquery = Subquery {
            expr: Expr::Vector(selector("a")),
            range: DurationExpr::of_ms(crate::duration::DURATION_MS_MAX),
            step: Some(DurationExpr::of_ms(1)),
            offset: None,
            at: None,
            span: NOWHERE,
        };
        let expr = Expr::Subquery(Box::new(subquery));
        let result = plan_at(&expr, &Steps::single(0));
        assert!(matches!(result, Err(QueryError::TooManySamples)));
    }
}
