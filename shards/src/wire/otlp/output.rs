//! What a request becomes: canonical label bytes, rows that point at them, and everything else in the form of remote write.

use super::exemplars::Exemplar;
use super::fault::{OtlpError, PointError};
use super::label_set::{LabelSet, fixed_bytes_max};
use crate::head::SeriesKey;
use crate::wire::proto::WireError;
use crate::wire::skim::SAMPLES_MAX;
use crate::wire::{BodyRange, ExemplarRow, Extras, HistogramRow, MetadataRow, Row, Skimmed, TenantHasher};

/// A request in the form that shards take.
#[derive(Debug, Default)]
pub struct Translated {
    /// What rows and extras point into.
    pub body: Vec<u8>,
    /// One per float sample, under the keys of canonical labels.
    pub rows: Vec<Row>,
    /// Native histograms, exemplars, metadata, under such keys too.
    pub extras: Extras,
    /// Counts of all of it.
    pub skimmed: Skimmed,
    /// How many points the request had.
    pub point_count: u64,
    /// How many of them were refused.
    pub refused_count: u64,
    /// Why the first one was.
    pub first_refusal: Option<PointError>,
}

impl Translated {
    /// The memory that it takes. Rows exist twice while they are sorted by their owners.
    pub fn memory_bytes(&self) -> usize {
        let Extras { histograms, exemplars, metadata } = &self.extras;
        self.body.capacity()
            + 2 * (self.rows.capacity() * size_of::<Row>()
                + histograms.capacity() * size_of::<HistogramRow>()
                + exemplars.capacity() * size_of::<ExemplarRow>()
                + metadata.capacity() * size_of::<MetadataRow>())
    }

    /// Counts points that are not taken.
    pub fn refuse(&mut self, count: u64, error: PointError) {
        self.refused_count += count;
        self.first_refusal.get_or_insert(error);
    }
}

/// A series whose labels are in the body.
#[derive(Debug, Clone, Copy)]
pub struct Series {
    key: SeriesKey,
    labels: BodyRange,
}

/// Appends to a [`Translated`], within its bounds.
pub struct Output<'a> {
    /// What there is so far.
    pub translated: Translated,
    hasher: &'a TenantHasher,
    bytes_max: usize,
}

impl<'a> Output<'a> {
    /// Appends to an empty body.
    pub fn new(body: Vec<u8>, hasher: &'a TenantHasher, bytes_max: usize) -> Output<'a> {
        let bytes_max = bytes_max.min(u32::MAX as usize);
        Output { translated: Translated { body, ..Translated::default() }, hasher, bytes_max }
    }

    /// Counts the points of a metric.
    pub fn points(&mut self, count: u64) -> Result<(), OtlpError> {
        self.translated.point_count += count;
        if self.translated.point_count > SAMPLES_MAX as u64 {
            return Err(WireError::TooManySamples.into());
        }
        Ok(())
    }

    /// Writes the labels of a series; `fixed` as in [`LabelSet::put`].
    pub fn series(&mut self, labels: &LabelSet<'_>, fixed: &[(&str, &str)]) -> Result<Series, OtlpError> {
        self.check_room(labels.encoded_bytes_max() + fixed_bytes_max(fixed))?;
        let body = &mut self.translated.body;
        let start = body.len();
        labels.put(fixed, body);
        let key = self.hasher.key(&body[start..]);
        let labels = BodyRange { offset: start as u32, len: (body.len() - start) as u32 };
        self.translated.skimmed.series_count += 1;
        Ok(Series { key, labels })
    }

    /// One float sample.
    pub fn sample(&mut self, series: Series, timestamp_ms: i64, value: f64) {
        let Series { key, labels } = series;
        self.translated.skimmed.sample_count += 1;
        self.translated.rows.push(Row {
            key,
            label_offset: labels.offset,
            label_len: labels.len,
            timestamp_ms,
            value,
        });
    }

    /// One native histogram.
    pub fn histogram(&mut self, series: Series, timestamp_ms: i64, message: &[u8]) -> Result<(), OtlpError> {
        let message = self.put(message)?;
        let Series { key, labels } = series;
        self.translated.skimmed.histogram_count += 1;
        self.translated.extras.histograms.push(HistogramRow { key, labels, timestamp_ms, message });
        Ok(())
    }

    /// One exemplar of a series.
    pub fn exemplar(&mut self, series: Series, exemplar: &Exemplar) -> Result<(), OtlpError> {
        let labels = self.put(&exemplar.label_bytes)?;
        self.translated.skimmed.exemplar_count += 1;
        self.translated.extras.exemplars.push(ExemplarRow {
            key: series.key,
            series_labels: series.labels,
            labels,
            timestamp_ms: exemplar.time_ms,
            value: exemplar.value,
        });
        Ok(())
    }

    /// What a family is.
    pub fn metadata(&mut self, kind: u8, family: &str, help: &str, unit: &str) -> Result<(), OtlpError> {
        let family = self.put(family.as_bytes())?;
        let help = self.put(help.as_bytes())?;
        let unit = self.put(unit.as_bytes())?;
        self.translated.extras.metadata.push(MetadataRow { kind, family, help, unit });
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<BodyRange, OtlpError> {
        self.check_room(bytes.len())?;
        let body = &mut self.translated.body;
        let range = BodyRange { offset: body.len() as u32, len: bytes.len() as u32 };
        body.extend_from_slice(bytes);
        Ok(range)
    }

    /// Whether one more item of that many bytes fits; checked before memory is taken.
    fn check_room(&self, bytes: usize) -> Result<(), OtlpError> {
        let Translated { body, rows, extras, .. } = &self.translated;
        if bytes > self.bytes_max.saturating_sub(body.len()) {
            return Err(OtlpError::TooLarge { bytes_max: self.bytes_max });
        }
        let Extras { histograms, exemplars, metadata } = extras;
        if rows.len() + histograms.len() + exemplars.len() + metadata.len() >= SAMPLES_MAX {
            return Err(WireError::TooManySamples.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::SeriesHasher;

    #[test]
    fn a_request_that_becomes_too_large_is_refused_before_it_takes_the_memory() {
        let hasher = SeriesHasher::new([1; 16]).tenant("t");
        let mut output = Output::new(Vec::new(), &hasher, 100);
        let mut labels = LabelSet::default();
        labels.set("a", "x".repeat(60).into());
        output.series(&labels, &[]).unwrap();
        let refused = OtlpError::TooLarge { bytes_max: 100 };
        assert_eq!(output.series(&labels, &[]).unwrap_err(), refused);
        assert_eq!(output.metadata(1, &"f".repeat(90), "", "").unwrap_err(), refused);
        assert!(output.translated.memory_bytes() < 200);
    }
}
