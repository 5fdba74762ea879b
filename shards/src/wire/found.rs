//! What a walk through a request has found so far, whatever form the request has.

use super::extras::{BodyRange, ExemplarRow, Extras, HistogramRow, MetadataRow};
use super::labels::LabelError;
use super::proto::{Field, Reader, WireError};
use super::skim::{Row, SAMPLES_MAX, Skimmed};
use crate::head::SeriesKey;

/// The largest number of a metric type.
const KIND_MAX: u64 = 7;

/// The labels of a series and their key.
#[derive(Debug, Clone, Copy)]
pub struct SeriesPlace {
    pub key: SeriesKey,
    pub labels: BodyRange,
}

/// Everything but the rows of float samples, which the caller keeps.
#[derive(Default)]
pub struct Found {
    pub skimmed: Skimmed,
    pub extras: Extras,
    /// Label fields that are no slice of the body. They are to follow its end.
    pub gathered: Vec<u8>,
}

/// How much there was at one time.
pub struct Mark {
    skimmed: Skimmed,
    histograms: usize,
    exemplars: usize,
    gathered: usize,
}

impl Found {
    /// To go back to if what follows was read in vain.
    pub fn mark(&self) -> Mark {
        Mark {
            skimmed: self.skimmed.clone(),
            histograms: self.extras.histograms.len(),
            exemplars: self.extras.exemplars.len(),
            gathered: self.gathered.len(),
        }
    }

    /// Forgets what was found since. Metadata is of the request, not of a series, and stays.
    pub fn go_back(&mut self, mark: Mark) {
        self.skimmed = mark.skimmed;
        self.extras.histograms.truncate(mark.histograms);
        self.extras.exemplars.truncate(mark.exemplars);
        self.gathered.truncate(mark.gathered);
    }

    /// Where the bytes gathered from `start` on will be in the body, which has `body_len` bytes as yet.
    #[inline]
    pub fn gathered_from(&self, start: usize, body_len: usize) -> BodyRange {
        BodyRange { offset: (body_len + start) as u32, len: (self.gathered.len() - start) as u32 }
    }

    /// Brings the label fields of a message together, wherever in it they are.
    pub fn gather_labels(
        &mut self,
        message: &[u8],
        base: usize,
        body_len: usize,
    ) -> Result<BodyRange, WireError> {
        let start = self.gathered.len();
        let mut fields = Reader::new(message, base);
        while let Some(field) = fields.field()? {
            if field.number == 1 {
                self.gathered.extend_from_slice(&message[field.start - base..field.end - base]);
            }
        }
        Ok(self.gathered_from(start, body_len))
    }

    /// Adds a float sample.
    #[inline]
    pub fn sample(
        &mut self,
        series: SeriesPlace,
        (timestamp_ms, value): (i64, f64),
        rows: &mut Vec<Row>,
    ) -> Result<(), WireError> {
        bound(rows.len())?;
        self.skimmed.sample_count += 1;
        let BodyRange { offset: label_offset, len: label_len } = series.labels;
        rows.push(Row { key: series.key, label_offset, label_len, timestamp_ms, value });
        Ok(())
    }

    /// Adds a native histogram, given its field in a time series.
    pub fn histogram(&mut self, series: SeriesPlace, field: &Field<'_>) -> Result<(), WireError> {
        bound(self.extras.histograms.len())?;
        self.skimmed.histogram_count += 1;
        let timestamp_ms = histogram_timestamp(field)?;
        let SeriesPlace { key, labels } = series;
        self.extras.histograms.push(HistogramRow { key, labels, timestamp_ms, message: field.range()? });
        Ok(())
    }

    /// Adds an exemplar.
    pub fn exemplar(
        &mut self,
        series: SeriesPlace,
        labels: BodyRange,
        (timestamp_ms, value): (i64, f64),
    ) -> Result<(), WireError> {
        bound(self.extras.exemplars.len())?;
        self.skimmed.exemplar_count += 1;
        let SeriesPlace { key, labels: series_labels } = series;
        self.extras.exemplars.push(ExemplarRow { key, series_labels, labels, timestamp_ms, value });
        Ok(())
    }

    /// Adds what the request says of a metric family.
    pub fn metadata(&mut self, row: MetadataRow) -> Result<(), WireError> {
        bound(self.extras.metadata.len())?;
        self.extras.metadata.push(row);
        Ok(())
    }

    /// Counts a sample, histogram or exemplar that is refused because of its labels.
    pub fn refuse(&mut self, error: impl FnOnce() -> LabelError) -> Result<(), WireError> {
        bound(self.skimmed.refused_count as usize)?;
        self.skimmed.refused_count += 1;
        self.skimmed.first_refusal.get_or_insert_with(error);
        Ok(())
    }

    /// Memory that this takes, and will take when the gathered bytes join the body and the rows go to their owners.
    pub fn memory_bytes(&self) -> usize {
        let Extras { histograms, exemplars, metadata } = &self.extras;
        let extras = histograms.capacity() * size_of::<HistogramRow>()
            + exemplars.capacity() * size_of::<ExemplarRow>()
            + metadata.capacity() * size_of::<MetadataRow>();
        2 * (extras + self.gathered.capacity())
    }

    /// Appends the gathered labels to the body, which makes all places right, and tells what there was.
    pub fn finish(self, body: &mut Vec<u8>) -> (Skimmed, Extras) {
        body.extend_from_slice(&self.gathered);
        (self.skimmed, self.extras)
    }
}

#[inline]
fn bound(count: usize) -> Result<(), WireError> {
    if count < SAMPLES_MAX { Ok(()) } else { Err(WireError::TooManySamples) }
}

/// The number of a metric type; a number that the format has not means an unknown type, as protobuf's enums have it.
pub fn kind(number: u64) -> u8 {
    if number <= KIND_MAX { number as u8 } else { 0 }
}

/// Both versions of remote write have the time of a histogram in field 15.
pub fn histogram_timestamp(field: &Field<'_>) -> Result<i64, WireError> {
    let bytes = field.bytes()?;
    let mut timestamp_ms = 0;
    let mut fields = Reader::new(bytes, field.end - bytes.len());
    while let Some(field) = fields.field()? {
        if field.number == 15 {
            timestamp_ms = field.varint()? as i64;
        }
    }
    Ok(timestamp_ms)
}
