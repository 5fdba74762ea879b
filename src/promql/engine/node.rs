//! The nodes of a plan: what the evaluation does, with functions looked up, times resolved and selectors numbered.

use annulus_shards::Labels;

use super::calendar::DateFunction;
use super::histogram_range::HistogramRangeFunction;
use super::info::InfoCall;
use super::label_functions::LabelEdit;
use super::math_functions::MathFunction;
use super::range_functions::RangeFunction;
use super::samples::Detail;
use super::steps::Steps;
use super::sweep::Sweep;
use super::window::Reach;
use crate::promql::ast::{AggregateOp, BinaryOp, Borders, Matching, Span};
use crate::promql::histogram::FloatHistogram;

/// One operation; its operands are evaluated at the same steps, where nothing else is said.
pub(super) enum Node {
    /// A number at every step.
    Number(f64),
    /// A text.
    Text(String),
    /// The time of each step, in seconds.
    Time,
    /// Evaluated at the first step only: it is the same at all of them.
    Constant(Box<Node>),
    /// The latest value of each series.
    Latest(Selector),
    /// The time of that value.
    LatestTime(Selector),
    /// The time of each step, for each value of another expression.
    StepTime(Box<Node>),
    /// A function over ranges of samples.
    Range(Box<RangeCall>),
    /// 1 where the operand has no value; the labels are given.
    Absent(Labels, Box<Node>),
    /// No series, whatever the operand is.
    Nothing(Box<Node>),
    /// The value of the only series.
    ToScalar(Box<Node>),
    /// One series without labels.
    ToVector(Box<Node>),
    /// A scalar function of two scalars.
    ScalarPair(fn(f64, f64) -> f64, Box<Node>, Box<Node>),
    /// A function of each value and of scalars.
    Math(MathFunction, Box<Node>, Vec<Node>),
    /// A calendar field of each value, or of the step's time.
    Date(DateFunction, Option<Box<Node>>),
    /// Orders the series of an instant query.
    Sort(Sort, Box<Node>),
    /// Edits the labels of each series.
    Relabel(LabelEdit, Box<Node>),
    /// A number that a native histogram has.
    HistogramStat(fn(&FloatHistogram) -> f64, Box<Node>),
    /// A function of classic and native histograms.
    Histogram(Box<HistogramCall>),
    /// Labels of info series are added.
    Info(Box<InfoCall>),
    /// `-x`
    Negate(Box<Node>),
    /// An aggregation.
    Aggregate(Box<AggregateCall>),
    /// A binary operator.
    Binary(Box<BinaryCall>),
    /// Samples as they are: the whole of an instant query such as `x[5m]`.
    Samples(Ranged),
}

/// The series of one request, seen from a step.
pub(super) struct Selector {
    /// Which request.
    pub(super) request: usize,
    /// Which of its samples.
    pub(super) reach: Reach,
    /// What counts as the value at the ends.
    pub(super) borders: Borders,
    /// What of its histograms.
    pub(super) detail: Detail,
    /// Where it stands.
    pub(super) span: Span,
}

/// Where a range function finds its samples.
pub(super) enum Ranged {
    /// In the store.
    Selector(Selector),
    /// In the values of an expression at its own steps; there may be none.
    Subquery {
        /// The inner expression.
        node: Box<Node>,
        /// Its steps.
        steps: Option<Steps>,
        /// Which of its values.
        reach: Reach,
    },
}

impl Ranged {
    /// Which samples belong to a step.
    pub(super) fn reach(&self) -> Reach {
        match self {
            Ranged::Selector(selector) => selector.reach,
            Ranged::Subquery { reach, .. } => *reach,
        }
    }

    /// What counts as the value at the ends of a range.
    pub(super) fn borders(&self) -> Borders {
        match self {
            Ranged::Selector(selector) => selector.borders,
            Ranged::Subquery { .. } => Borders::Inside,
        }
    }
}

/// A call of a range function.
pub(super) struct RangeCall {
    /// What it does with a window.
    pub(super) function: RangeFunction,
    /// The same for all steps of a series at once, where there is such a form of it.
    pub(super) sweep: Option<Sweep>,
    /// The same where there are histograms in the window; if absent, they are passed over.
    pub(super) of_histograms: Option<HistogramRangeFunction>,
    /// Where the windows come from.
    pub(super) ranged: Ranged,
    /// Its scalar arguments.
    pub(super) args: Vec<Node>,
    /// The result is still the metric itself.
    pub(super) keeps_name: bool,
    /// What is checked beside.
    pub(super) check: RangeCheck,
    /// Where the range vector stands.
    pub(super) span: Span,
}

/// What a range function has to say about its input.
pub(super) enum RangeCheck {
    /// Nothing.
    None,
    /// The series should be named like counters; else the range vector that stands there is named.
    CounterName(Span),
    /// The argument is a φ.
    Quantile(Span),
    /// Both arguments lie between 0 and 1.
    SmoothingFactors,
}

/// A call of `sort` and its kin.
pub(super) struct Sort {
    /// Labels to sort by; by value when absent.
    pub(super) labels: Option<Vec<String>>,
    /// From the largest down.
    pub(super) descending: bool,
    /// Where the call stands.
    pub(super) span: Span,
}

/// What is asked of histograms.
pub(super) enum HistogramQuestion {
    /// `histogram_quantile`
    Quantile(Node, Span),
    /// `histogram_quantiles`: the quantiles, and the label that tells them apart.
    Quantiles(String, Vec<(Node, Span)>),
    /// `histogram_fraction`: between two values.
    Fraction(Node, Node),
}

/// A function of classic and native histograms.
pub(super) struct HistogramCall {
    /// What is asked.
    pub(super) question: HistogramQuestion,
    /// The buckets, and the native histograms.
    pub(super) node: Node,
    /// Where they stand.
    pub(super) span: Span,
}

/// An aggregation.
pub(super) struct AggregateCall {
    /// The operator.
    pub(super) op: AggregateOp,
    /// What is aggregated.
    pub(super) node: Node,
    /// Where that stands.
    pub(super) node_span: Span,
    /// Where the whole stands.
    pub(super) span: Span,
    /// k, φ, the ratio, or the label of `count_values`.
    pub(super) param: Option<Node>,
    /// Where the parameter stands.
    pub(super) param_span: Span,
    /// `without`
    pub(super) without: bool,
    /// The labels named.
    pub(super) grouping: Vec<String>,
}

/// A binary operation; whether its sides are scalars or vectors shows when they are evaluated.
pub(super) struct BinaryCall {
    /// The operator.
    pub(super) op: BinaryOp,
    /// Left side.
    pub(super) left: Node,
    /// Right side.
    pub(super) right: Node,
    /// How vectors are matched.
    pub(super) matching: Matching,
    /// `bool`
    pub(super) return_bool: bool,
    /// Where it stands.
    pub(super) span: Span,
}
