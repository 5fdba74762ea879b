//! What the next sample of a histogram chunk is coded against: the one before it, and how that differed from its own.

use std::fmt::Debug;

use super::bits::{BitReader, BitWriter};
use super::fault::Fault;
use super::histogram::{Buckets, NativeHistogram, ResetHint};
use super::histogram_check::check_shape;
use super::histogram_layout::{put_layout, take_layout};
use super::varbit::{put_varbit, take_varbit};

/// Histograms with integer counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Integer;

/// Histograms with float counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Float;

/// The histogram of a kind.
pub type Sample<K> = NativeHistogram<<K as Kind>::Count, <K as Kind>::Bucket>;

/// What differs between integer and float histograms.
pub trait Kind: Clone + Debug + Default {
    /// A number of observations.
    type Count: Copy + Debug + Default + PartialOrd;
    /// The value of a bucket.
    type Bucket: Copy + Debug + Default + PartialOrd;
    /// What samples after the first are coded against, beside the values before.
    type Context: Clone + Debug + Default;

    /// Bits that a bucket takes in the first sample of a chunk, at least.
    const FIRST_BUCKET_BITS_MIN: usize;

    /// The count of a bucket, from that of the bucket before it and its value.
    fn count(before: Self::Bucket, value: Self::Bucket) -> Self::Bucket;
    /// The value of a bucket, from the count of the bucket before it and its own.
    fn value(before: Self::Bucket, count: Self::Bucket) -> Self::Bucket;
    /// The count of two buckets together.
    fn sum(left: Self::Bucket, right: Self::Bucket) -> Self::Bucket;
    /// Whether two counts are the same bits.
    fn same_count(left: Self::Count, right: Self::Count) -> bool;
    /// Whether two counts of buckets are equal; a NaN equals itself.
    fn same_bucket(left: Self::Bucket, right: Self::Bucket) -> bool;

    /// What the header of a new chunk says, when a sample did not fit the chunk before for this reason.
    fn header_when_cut(found: ResetHint) -> ResetHint;
    /// What the header of a new chunk says, when its first sample was compared with the last of the chunk before.
    fn header_when_continued(found: ResetHint) -> ResetHint;

    /// Begins a context for this many buckets on the positive and on the negative side.
    fn context(positive: usize, negative: usize) -> Self::Context;
    /// Appends the values of a chunk's first sample.
    fn put_first(writer: &mut BitWriter<'_>, sample: &Sample<Self>);
    /// Appends the values of a later sample, and makes it the last one. A stale marker has no buckets.
    fn put_next(
        context: &mut Self::Context,
        last: &mut Sample<Self>,
        writer: &mut BitWriter<'_>,
        sample: &Sample<Self>,
    );
    /// Reads the values of a chunk's first sample, whose buckets are there and empty.
    fn take_first(reader: &mut BitReader<'_>, first: &mut Sample<Self>) -> Result<(), Fault>;
    /// Reads the values of a later sample.
    fn take_next(
        context: &mut Self::Context,
        last: &mut Sample<Self>,
        reader: &mut BitReader<'_>,
    ) -> Result<(), Fault>;
}

/// The state between two samples; the same while a chunk is written and while it is read.
#[derive(Debug, Clone, Default)]
pub struct Track<K: Kind> {
    /// Time of the last sample.
    pub time_ms: i64,
    time_delta_ms: i64,
    /// The last sample. If it is stale, its other fields say nothing, except for the layout of the chunk.
    pub last: Sample<K>,
    context: K::Context,
}

impl<K: Kind> Track<K> {
    /// Appends the first sample of a chunk, which decides on its layout.
    pub fn put_first(writer: &mut BitWriter<'_>, time_ms: i64, sample: &Sample<K>) -> Track<K> {
        let last = if sample.is_stale() { Sample::<K>::stale() } else { sample.clone() };
        put_layout(writer, &last);
        put_varbit(writer, time_ms);
        K::put_first(writer, &last);
        let context = K::context(last.positive.values.len(), last.negative.values.len());
        Track { time_ms, time_delta_ms: 0, last, context }
    }

    /// Appends a later sample. Unless it is stale, it has the buckets of the chunk.
    pub fn put_next(&mut self, writer: &mut BitWriter<'_>, time_ms: i64, sample: &Sample<K>) {
        let delta_ms = time_ms.wrapping_sub(self.time_ms);
        put_varbit(writer, delta_ms.wrapping_sub(self.time_delta_ms));
        (self.time_ms, self.time_delta_ms) = (time_ms, delta_ms);
        if sample.is_stale() {
            K::put_next(&mut self.context, &mut self.last, writer, &Sample::<K>::stale());
        } else {
            K::put_next(&mut self.context, &mut self.last, writer, sample);
        }
    }

    /// Reads the first sample of a chunk.
    pub fn take_first(reader: &mut BitReader<'_>) -> Result<Track<K>, Fault> {
        let mut first = Sample::<K>::default();
        take_layout(reader, &mut first)?;
        for buckets in [&mut first.positive, &mut first.negative] {
            provide_buckets::<K>(reader, buckets)?;
        }
        check_shape(&first).map_err(|_| Fault::Malformed)?;
        let time_ms = take_varbit(reader)?;
        K::take_first(reader, &mut first)?;
        let context = K::context(first.positive.values.len(), first.negative.values.len());
        Ok(Track { time_ms, time_delta_ms: 0, last: first, context })
    }

    /// Reads a later sample.
    pub fn take_next(&mut self, reader: &mut BitReader<'_>) -> Result<(), Fault> {
        self.time_delta_ms = self.time_delta_ms.wrapping_add(take_varbit(reader)?);
        self.time_ms = self.time_ms.wrapping_add(self.time_delta_ms);
        K::take_next(&mut self.context, &mut self.last, reader)
    }
}

/// Makes room for the buckets that the spans announce, if as many can follow.
fn provide_buckets<K: Kind>(reader: &BitReader<'_>, buckets: &mut Buckets<K::Bucket>) -> Result<(), Fault> {
    let number: u64 = buckets.spans.iter().map(|span| u64::from(span.length)).sum();
    if number > (reader.bits_left() / K::FIRST_BUCKET_BITS_MIN) as u64 {
        return Err(Fault::Truncated);
    }
    buckets.values.resize(number as usize, K::Bucket::default());
    Ok(())
}
