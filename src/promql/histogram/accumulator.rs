//! The sum of histograms of different layouts: schemas, zero buckets and custom bounds are reconciled.

use annulus_shards::chunk::ResetHint;

use super::FloatHistogram;
use super::bounds::exponential_bound;
use super::places::{coarser_place, from_places, places};
use crate::promql::kahan::KahanSum;

/// A number that grows by additions: plain, or compensated.
pub trait Number: Copy + Default {
    /// A number that nothing was added to.
    fn new(value: f64) -> Self;
    /// Adds another one.
    fn absorb(&mut self, other: Self);
    /// The rounded sum.
    fn rounded(self) -> f64;
    /// The best estimate of the sum.
    fn total(self) -> f64;
    /// Multiplies it.
    fn scale(&mut self, factor: f64);
    /// Divides it.
    fn divide(&mut self, divisor: f64);
}

impl Number for f64 {
    fn new(value: f64) -> f64 {
        value
    }

    fn absorb(&mut self, other: f64) {
        *self += other;
    }

    fn rounded(self) -> f64 {
        self
    }

    fn total(self) -> f64 {
        self
    }

    fn scale(&mut self, factor: f64) {
        *self *= factor;
    }

    fn divide(&mut self, divisor: f64) {
        *self /= divisor;
    }
}

impl Number for KahanSum {
    fn new(value: f64) -> KahanSum {
        KahanSum::new(value)
    }

    fn absorb(&mut self, other: KahanSum) {
        self.add(other.sum);
        if other.compensation != 0.0 {
            self.add(other.compensation);
        }
    }

    fn rounded(self) -> f64 {
        self.sum
    }

    fn total(self) -> f64 {
        KahanSum::total(self)
    }

    fn scale(&mut self, factor: f64) {
        self.sum *= factor;
        self.compensation *= factor;
    }

    fn divide(&mut self, divisor: f64) {
        self.sum /= divisor;
        self.compensation /= divisor;
    }
}

/// Two histograms of which one has exponential buckets and the other custom ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("one histogram has exponential buckets and the other custom ones")]
pub struct Incompatible;

/// What happened when histograms were added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Added {
    /// One says that its counters began anew, the other that they did not.
    pub hints_collide: bool,
    /// Their custom bounds differ; only those that both have are left.
    pub bounds_reconciled: bool,
}

/// The buckets of one side in rising order.
type Side<N> = Vec<(i32, N)>;

/// A histogram that others are added to. [`f64`] adds as Prometheus' operators do, [`KahanSum`] as its aggregations.
#[derive(Debug, Clone)]
pub struct Accumulator<N> {
    reset_hint: ResetHint,
    schema: i32,
    zero_threshold: f64,
    zero_count: N,
    count: N,
    sum: N,
    positive: Side<N>,
    negative: Side<N>,
    custom_values: Vec<f64>,
}

impl<N: Number> Accumulator<N> {
    /// The sum of one histogram.
    pub fn new(first: &FloatHistogram) -> Accumulator<N> {
        Accumulator {
            reset_hint: first.reset_hint,
            schema: first.schema,
            zero_threshold: first.zero_threshold,
            zero_count: N::new(first.zero_count),
            count: N::new(first.count),
            sum: N::new(first.sum),
            positive: side(places(&first.positive)),
            negative: side(places(&first.negative)),
            custom_values: first.custom_values.clone(),
        }
    }

    /// Adds a histogram.
    ///
    /// # Errors
    /// When the kinds of buckets differ. The sum is then as it was.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Added, Incompatible> {
        self.take_in(other, false)
    }

    /// Subtracts a histogram.
    ///
    /// # Errors
    /// When the kinds of buckets differ. The sum is then as it was.
    pub fn subtract(&mut self, other: &FloatHistogram) -> Result<Added, Incompatible> {
        self.take_in(other, true)
    }

    /// Multiplies all counts and the sum.
    pub(super) fn scale(&mut self, factor: f64) {
        self.each_number(|number| number.scale(factor));
    }

    /// Divides all counts and the sum.
    pub(super) fn divide(&mut self, divisor: f64) {
        self.each_number(|number| number.divide(divisor));
    }

    /// Says how it goes with resets; the additions so far have left something else.
    pub fn set_reset_hint(&mut self, reset_hint: ResetHint) {
        self.reset_hint = reset_hint;
    }

    /// Makes the buckets as coarse as those of a schema, if they are finer.
    pub fn reduce_to(&mut self, schema: i32) {
        if schema < self.schema && !self.has_custom_buckets() {
            let steps = self.schema.abs_diff(schema);
            self.positive = reduced(self.positive.drain(..), steps);
            self.negative = reduced(self.negative.drain(..), steps);
            self.schema = schema;
        }
    }

    /// Whether any number, or bound, is infinite.
    pub(super) fn has_overflow(&self) -> bool {
        let buckets = self.positive.iter().chain(&self.negative).map(|(_, number)| *number);
        let mut numbers = buckets.chain([self.zero_count, self.count, self.sum]);
        numbers.any(|number| number.rounded().is_infinite())
            || self.custom_values.iter().any(|bound| bound.is_infinite())
    }

    /// What it costs, in floats with a time.
    pub fn points(&self) -> usize {
        let places = (self.positive.len() + self.negative.len()) * size_of::<(i32, N)>();
        (size_of::<Self>() + places + self.custom_values.len() * size_of::<f64>()) / (2 * size_of::<f64>())
    }

    /// The sum; buckets without observations are still there.
    pub fn finish(self) -> FloatHistogram {
        let total =
            |side: Side<N>| from_places(side.into_iter().map(|(index, number)| (index, number.total())));
        FloatHistogram {
            reset_hint: self.reset_hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count.total(),
            count: self.count.total(),
            sum: self.sum.total(),
            positive: total(self.positive),
            negative: total(self.negative),
            custom_values: self.custom_values,
        }
    }

    fn each_number(&mut self, change: impl Fn(&mut N)) {
        let buckets = self.positive.iter_mut().chain(&mut self.negative).map(|(_, number)| number);
        buckets.chain([&mut self.zero_count, &mut self.count, &mut self.sum]).for_each(change);
    }

    fn has_custom_buckets(&self) -> bool {
        self.schema == annulus_shards::chunk::SCHEMA_CUSTOM
    }

    fn take_in(&mut self, other: &FloatHistogram, subtract: bool) -> Result<Added, Incompatible> {
        if self.has_custom_buckets() != other.has_custom_buckets() {
            return Err(Incompatible);
        }
        let signed = |value: f64| if subtract { -value } else { value };
        let negated = |mut number: N| {
            if subtract {
                number.scale(-1.0);
            }
            number
        };
        let hints_collide = self.join_hints(other.reset_hint);
        self.count.absorb(N::new(signed(other.count)));
        self.sum.absorb(N::new(signed(other.sum)));
        if self.has_custom_buckets() {
            let bounds_reconciled = self.custom_values != other.custom_values;
            if bounds_reconciled {
                self.take_in_other_bounds(other, signed);
            } else {
                let theirs = places(&other.positive);
                merge(&mut self.positive, theirs.map(|(index, count)| (index, N::new(signed(count)))));
            }
            return Ok(Added { hints_collide, bounds_reconciled });
        }
        let zero_count = self.reconcile_zero_buckets(other);
        self.zero_count.absorb(negated(zero_count));
        self.reduce_to(other.schema);
        let (schema, threshold) = (self.schema, self.zero_threshold);
        let steps = other.schema.abs_diff(schema);
        for (mine, theirs) in [(&mut self.positive, &other.positive), (&mut self.negative, &other.negative)] {
            let theirs = places(theirs).map(|(index, count)| (index, N::new(count)));
            // What lies below the threshold is in the zero bucket already.
            let is_within = |place: &(i32, N)| exponential_bound(place.0, schema) <= threshold;
            if steps == 0 {
                let theirs = theirs.skip_while(is_within);
                merge(mine, theirs.map(|(index, number)| (index, negated(number))));
            } else {
                let theirs = reduced(theirs, steps).into_iter().skip_while(is_within);
                merge(mine, theirs.map(|(index, number)| (index, negated(number))));
            }
        }
        Ok(Added { hints_collide, bounds_reconciled: false })
    }

    /// What is known of resets of the sum. Whether one knows of a reset, and the other of none.
    fn join_hints(&mut self, other: ResetHint) -> bool {
        let (joined, collide) = match (self.reset_hint, other) {
            (mine, theirs) if mine == theirs => (mine, false),
            (ResetHint::Gauge, _) | (_, ResetHint::Gauge) => (ResetHint::Gauge, false),
            (ResetHint::Unknown, _) | (_, ResetHint::Unknown) => (ResetHint::Unknown, false),
            _ => (ResetHint::Unknown, true),
        };
        self.reset_hint = joined;
        collide
    }

    /// Widens the zero bucket until it holds those of both, and ends within no bucket that is in use. What the other one
    /// would then have in its zero bucket.
    fn reconcile_zero_buckets(&mut self, other: &FloatHistogram) -> N {
        let (mut theirs, mut their_threshold) = (N::new(other.zero_count), other.zero_threshold);
        loop {
            if self.zero_threshold > their_threshold {
                let sides = [&other.positive, &other.negative]
                    .map(|buckets| places(buckets).map(|(index, count)| (index, N::new(count))));
                (theirs, their_threshold) =
                    wider_zero_bucket(N::new(other.zero_count), sides, other.schema, self.zero_threshold);
            }
            if their_threshold > self.zero_threshold {
                let sides = [&self.positive, &self.negative].map(|side| side.iter().copied());
                (self.zero_count, self.zero_threshold) =
                    wider_zero_bucket(self.zero_count, sides, self.schema, their_threshold);
                self.drop_below_threshold();
            } else {
                // Equal, or not numbers.
                return theirs;
            }
        }
    }

    fn drop_below_threshold(&mut self) {
        let (schema, threshold) = (self.schema, self.zero_threshold);
        for side in [&mut self.positive, &mut self.negative] {
            side.retain(|(index, number)| {
                exponential_bound(index.saturating_sub(1), schema) >= threshold && number.rounded() != 0.0
            });
        }
    }

    /// Adds a histogram of other custom bounds: both go into buckets between the bounds that they share.
    fn take_in_other_bounds(&mut self, other: &FloatHistogram, signed: impl Fn(f64) -> f64) {
        let shared: Vec<f64> = {
            let mut theirs = other.custom_values.iter().copied().peekable();
            let is_shared = |bound: &f64| {
                while theirs.next_if(|their| their < bound).is_some() {}
                theirs.next_if(|their| their == bound).is_some()
            };
            self.custom_values.iter().copied().filter(is_shared).collect()
        };
        let mut buckets = vec![N::default(); shared.len() + 1];
        let target = |bounds: &[f64], index: i32| {
            let bound = usize::try_from(index).ok().and_then(|index| bounds.get(index));
            bound.map_or(shared.len(), |bound| shared.partition_point(|shared| shared < bound))
        };
        for (index, number) in &self.positive {
            buckets[target(&self.custom_values, *index)].absorb(*number);
        }
        for (index, count) in places(&other.positive) {
            buckets[target(&other.custom_values, index)].absorb(N::new(signed(count)));
        }
        self.positive = (0..).zip(buckets).filter(|(_, number)| number.total() != 0.0).collect();
        self.custom_values = shared;
    }
}

fn side<N: Number>(places: impl Iterator<Item = (i32, f64)>) -> Side<N> {
    places.map(|(index, count)| (index, N::new(count))).collect()
}

/// Adds buckets to those of a side.
fn merge<N: Number>(mine: &mut Side<N>, theirs: impl Iterator<Item = (i32, N)>) {
    let mut at = 0;
    let mut missing = Vec::new();
    for (index, number) in theirs {
        while mine.get(at).is_some_and(|(mine, _)| *mine < index) {
            at += 1;
        }
        match mine.get_mut(at) {
            Some((mine, sum)) if *mine == index => sum.absorb(number),
            _ => missing.push((index, number)),
        }
    }
    if !missing.is_empty() {
        mine.extend(missing);
        // Two sorted runs, which this sort merges.
        mine.sort_by_key(|(index, _)| *index);
    }
}

/// Buckets at a resolution that is `steps` schemas coarser.
fn reduced<N: Number>(places: impl Iterator<Item = (i32, N)>, steps: u32) -> Side<N> {
    let mut coarser: Side<N> = Vec::new();
    for (index, number) in places {
        let index = coarser_place(index, steps);
        match coarser.last_mut() {
            Some((last, sum)) if *last == index => sum.absorb(number),
            _ => coarser.push((index, number)),
        }
    }
    coarser
}

/// What a zero bucket would hold up to a larger threshold, and that threshold. It grows if it would end within a bucket
/// that is in use.
pub(super) fn wider_zero_bucket<N: Number>(
    zero_count: N,
    [positive, negative]: [impl Iterator<Item = (i32, N)> + Clone; 2],
    schema: i32,
    mut threshold: f64,
) -> (N, f64) {
    loop {
        let (count, reached) = swallow(zero_count, positive.clone(), schema, threshold);
        let (all, widest) = swallow(count, negative.clone(), schema, reached);
        if widest == reached {
            return (all, widest);
        }
        // The negative side has moved the threshold: the positive one has to be looked at again.
        threshold = widest;
    }
}

fn swallow<N: Number>(
    mut zero_count: N,
    places: impl Iterator<Item = (i32, N)>,
    schema: i32,
    threshold: f64,
) -> (N, f64) {
    for (index, number) in places {
        if exponential_bound(index.saturating_sub(1), schema) >= threshold {
            break;
        }
        zero_count.absorb(number);
        let upper = exponential_bound(index, schema);
        if upper > threshold {
            return (zero_count, if number.rounded() == 0.0 { threshold } else { upper });
        }
    }
    (zero_count, threshold)
}
