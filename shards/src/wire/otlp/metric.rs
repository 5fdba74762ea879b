//! One metric: its name, its kind, and what each of its points becomes.
//!
//! Schema: Metric {1: name, 2: description, 3: unit, 5: Gauge, 7: Sum, 9: Histogram, 10: ExponentialHistogram, 11: Summary};
//! each of the five {1: repeated points}, sums and histograms also {2: temporality}, and sums {3: is monotonic}.

use super::exemplars::Exemplar;
use super::fault::{Fault, OtlpError, POINT_BYTES_MAX, PointError, quoted, text_of};
use super::label_set::LabelSet;
use super::names::{MetricKind, metric_name, unit_name};
use super::native::put_native_histogram;
use super::output::{Output, Series};
use super::points::{Exponential, Histogram, Number, Point, Summary};
use super::translate::OpenResource;
use super::value::{Message, go_float};
use crate::labels::METRIC_NAME;
use crate::wire::labels::LABEL_BYTES_MAX;
use crate::wire::proto::Reader;

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`
const CUMULATIVE: u64 = 2;

// Types of families in remote write (`MetricMetadata.MetricType`).
const COUNTER: u8 = 1;
/// A family of gauges.
pub const GAUGE: u8 = 2;
const HISTOGRAM: u8 = 3;
const SUMMARY: u8 = 5;

/// A metric that is being read.
pub struct Metric<'a> {
    stage: Stage<'a>,
    name: &'a [u8],
    description: &'a [u8],
    unit: &'a [u8],
    data: Option<(Kind, Message<'a>)>,
    temporality: u64,
    is_monotonic: bool,
    point_count: u64,
    /// As Prometheus names it.
    family: String,
}

/// What is read of a metric.
enum Stage<'a> {
    /// The metric's own fields.
    Head(Reader<'a>),
    /// What its points have in common, which comes after them.
    Data(Reader<'a>),
    /// The points.
    Points(Reader<'a>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gauge,
    Sum,
    Histogram,
    Exponential,
    Summary,
}

impl Kind {
    fn of_field(number: u32) -> Option<Kind> {
        match number {
            5 => Some(Kind::Gauge),
            7 => Some(Kind::Sum),
            9 => Some(Kind::Histogram),
            10 => Some(Kind::Exponential),
            11 => Some(Kind::Summary),
            _ => None,
        }
    }
}

impl<'a> Metric<'a> {
    /// Nothing is read yet.
    pub fn open(message: Message<'a>) -> Metric<'a> {
        Metric {
            stage: Stage::Head(message.fields()),
            name: b"",
            description: b"",
            unit: b"",
            data: None,
            temporality: 0,
            is_monotonic: false,
            point_count: 0,
            family: String::new(),
        }
    }

    /// Reads one field, and answers how many bytes that were; `None` when the metric is done.
    pub fn step(
        &mut self,
        resource: &mut OpenResource<'a>,
        spread: &mut Option<Spread<'a>>,
        out: &mut Output<'_>,
    ) -> Result<Option<usize>, OtlpError> {
        match &mut self.stage {
            Stage::Head(fields) => {
                let Some(field) = fields.field()? else { return Ok(self.open_data()) };
                match field.number {
                    1 => self.name = field.bytes()?,
                    2 => self.description = field.bytes()?,
                    3 => self.unit = field.bytes()?,
                    number => {
                        if let Some(kind) = Kind::of_field(number) {
                            self.data = Some((kind, Message::of(&field)?));
                        }
                    }
                }
            }
            Stage::Data(fields) => {
                let Some(field) = fields.field()? else { return self.open_points(out) };
                match field.number {
                    1 => self.point_count += 1,
                    2 => self.temporality = field.varint()?,
                    3 => self.is_monotonic = field.varint()? != 0,
                    _ => {}
                }
            }
            Stage::Points(fields) => {
                let Some(field) = fields.field()? else { return Ok(None) };
                if field.number == 1 {
                    let point = Message::of(&field)?;
                    match self.point(point, resource, spread, out) {
                        Ok(()) => {}
                        Err(Fault::Point(error)) => out.translated.refuse(1, error),
                        Err(Fault::Request(error)) => return Err(error),
                    }
                    return Ok(Some(point.bytes.len()));
                }
            }
        }
        Ok(Some(0))
    }

    fn open_data(&mut self) -> Option<usize> {
        let (_, data) = self.data?;
        self.stage = Stage::Data(data.fields());
        Some(0)
    }

    /// Decides whether the points are taken.
    fn open_points(&mut self, out: &mut Output<'_>) -> Result<Option<usize>, OtlpError> {
        let Some((kind, data)) = self.data.filter(|_| self.point_count > 0) else { return Ok(None) };
        out.points(self.point_count)?;
        match self.describe(kind, out) {
            Ok(()) => {
                self.stage = Stage::Points(data.fields());
                Ok(Some(0))
            }
            Err(Fault::Point(error)) => {
                out.translated.refuse(self.point_count, error);
                Ok(None)
            }
            Err(Fault::Request(error)) => Err(error),
        }
    }

    fn describe(&mut self, kind: Kind, out: &mut Output<'_>) -> Result<(), Fault> {
        if self.name.len().max(self.unit.len()) > LABEL_BYTES_MAX {
            return Err(PointError::TooLarge.into());
        }
        let (name, unit) = (text_of(self.name)?, text_of(self.unit)?);
        let has_temporality = matches!(kind, Kind::Sum | Kind::Histogram | Kind::Exponential);
        if has_temporality && self.temporality != CUMULATIVE {
            return Err(PointError::Temporality { metric: quoted(name) }.into());
        }
        let is_counter = kind == Kind::Sum && self.is_monotonic;
        let suffix = match kind {
            Kind::Gauge => MetricKind::Gauge,
            _ if is_counter => MetricKind::Counter,
            _ => MetricKind::Other,
        };
        self.family =
            metric_name(name, unit, suffix).ok_or_else(|| PointError::MetricName { metric: quoted(name) })?;
        let kind = match kind {
            _ if is_counter => COUNTER,
            Kind::Gauge | Kind::Sum => GAUGE,
            Kind::Histogram | Kind::Exponential => HISTOGRAM,
            Kind::Summary => SUMMARY,
        };
        // Points are not refused for a description that cannot be kept.
        let is_short = self.description.len() <= LABEL_BYTES_MAX;
        let help = if is_short { text_of(self.description).unwrap_or_default() } else { "" };
        out.metadata(kind, &self.family, help, &unit_name(unit))?;
        Ok(())
    }

    fn point(
        &self,
        message: Message<'a>,
        resource: &mut OpenResource<'a>,
        spread: &mut Option<Spread<'a>>,
        out: &mut Output<'_>,
    ) -> Result<(), Fault> {
        if message.bytes.len() > POINT_BYTES_MAX {
            return Err(PointError::TooLarge.into());
        }
        let Some((kind, _)) = self.data else { return Ok(()) };
        let newest_ns = match kind {
            Kind::Gauge | Kind::Sum => {
                let number = Number::read(message)?;
                let labels = resource.labels_of(&number.point.attributes)?;
                let series = out.series(&labels, &[(METRIC_NAME, &self.family)])?;
                out.sample(series, number.point.time_ms(), number.point.value(number.value));
                if kind == Kind::Sum {
                    put_exemplars(series, &number.point, out)?;
                }
                number.point.time_ns
            }
            Kind::Exponential => {
                let exponential = Exponential::read(message)?;
                let labels = resource.labels_of(&exponential.point.attributes)?;
                let mut native = Vec::new();
                put_native_histogram(&exponential, &mut native)?;
                let series = out.series(&labels, &[(METRIC_NAME, &self.family)])?;
                out.histogram(series, exponential.point.time_ms(), &native)?;
                put_exemplars(series, &exponential.point, out)?;
                exponential.point.time_ns
            }
            Kind::Histogram => {
                let histogram = Histogram::read(message)?;
                let labels = resource.labels_of(&histogram.point.attributes)?;
                self.put_totals(&labels, &histogram.point, histogram.sum, histogram.count, out)?;
                let time_ns = histogram.point.time_ns;
                *spread = Some(Spread::buckets(labels, format!("{}_bucket", self.family), &histogram)?);
                time_ns
            }
            Kind::Summary => {
                let summary = Summary::read(message)?;
                let labels = resource.labels_of(&summary.point.attributes)?;
                self.put_totals(&labels, &summary.point, Some(summary.sum), summary.count, out)?;
                *spread = Some(Spread::quantiles(labels, self.family.clone(), &summary));
                summary.point.time_ns
            }
        };
        resource.newest_ns = resource.newest_ns.max(newest_ns);
        Ok(())
    }

    fn put_totals(
        &self,
        labels: &LabelSet<'a>,
        point: &Point<'a>,
        sum: Option<f64>,
        count: u64,
        out: &mut Output<'_>,
    ) -> Result<(), OtlpError> {
        for (suffix, value) in [("_sum", sum), ("_count", Some(count as f64))] {
            if let Some(value) = value {
                let name = format!("{}{suffix}", self.family);
                let series = out.series(labels, &[(METRIC_NAME, &name)])?;
                out.sample(series, point.time_ms(), point.value(value));
            }
        }
        Ok(())
    }
}

/// The buckets of a histogram or the quantiles of a summary, of which each is a series.
pub struct Spread<'a> {
    labels: LabelSet<'a>,
    name: String,
    /// The label in which the series differ, its values, and those of the samples.
    label: &'static str,
    entries: std::vec::IntoIter<(f64, f64)>,
    timestamp_ms: i64,
    /// The one with the smallest value comes last.
    exemplars: Vec<Exemplar>,
}

impl<'a> Spread<'a> {
    /// Each bucket of Prometheus has the counts of all below it.
    fn buckets(
        labels: LabelSet<'a>,
        name: String,
        histogram: &Histogram<'a>,
    ) -> Result<Spread<'a>, OtlpError> {
        let Histogram { point, bounds, counts, count, .. } = histogram;
        let mut below = 0u64;
        let cumulative = counts.iter().map(|count| {
            below = below.wrapping_add(*count);
            below
        });
        let entries = bounds.iter().copied().zip(cumulative).chain([(f64::INFINITY, *count)]);
        let entries: Vec<_> = entries.map(|(bound, count)| (bound, point.value(count as f64))).collect();
        let mut exemplars = read_exemplars(point)?;
        exemplars.sort_by(|left, right| left.value.total_cmp(&right.value));
        exemplars.reverse();
        let entries = entries.into_iter();
        Ok(Spread { labels, name, label: "le", entries, timestamp_ms: point.time_ms(), exemplars })
    }

    fn quantiles(labels: LabelSet<'a>, name: String, summary: &Summary<'a>) -> Spread<'a> {
        let point = &summary.point;
        let entries: Vec<_> =
            summary.quantiles.iter().map(|(quantile, value)| (*quantile, point.value(*value))).collect();
        Spread {
            labels,
            name,
            label: "quantile",
            entries: entries.into_iter(),
            timestamp_ms: point.time_ms(),
            exemplars: Vec::new(),
        }
    }

    /// Writes one series. Answers whether it was the last one.
    pub fn step(&mut self, out: &mut Output<'_>) -> Result<bool, OtlpError> {
        let Some((bound, value)) = self.entries.next() else { return Ok(true) };
        let is_last = self.entries.len() == 0;
        let fixed = [(METRIC_NAME, self.name.as_str()), (self.label, &go_float(bound))];
        let series = out.series(&self.labels, &fixed)?;
        out.sample(series, self.timestamp_ms, value);
        while let Some(exemplar) = self.exemplars.pop_if(|exemplar| is_last || exemplar.value <= bound) {
            out.exemplar(series, &exemplar)?;
        }
        Ok(is_last)
    }
}

fn put_exemplars(series: Series, point: &Point<'_>, out: &mut Output<'_>) -> Result<(), OtlpError> {
    for exemplar in read_exemplars(point)? {
        out.exemplar(series, &exemplar)?;
    }
    Ok(())
}

/// What is wrong with an exemplar is no reason to refuse the point: it is left out.
fn read_exemplars(point: &Point<'_>) -> Result<Vec<Exemplar>, OtlpError> {
    let mut exemplars = Vec::new();
    for message in &point.exemplars {
        match Exemplar::read(*message) {
            Ok(exemplar) => exemplars.extend(exemplar),
            Err(Fault::Point(_)) => {}
            Err(Fault::Request(error)) => return Err(error),
        }
    }
    Ok(exemplars)
}
