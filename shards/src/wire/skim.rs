//! The skim of a remote write 1.0 request (prometheus.WriteRequest): one row per sample, no label is parsed.
//!
//! Schema (prompb): WriteRequest {1: repeated TimeSeries, 3: repeated MetricMetadata}; TimeSeries {1: repeated Label,
//! 2: repeated Sample, 3: repeated Exemplar, 4: repeated Histogram}; Sample {1: double value, 2: int64 timestamp};
//! Exemplar {1: repeated Label, 2: double value, 3: int64 timestamp}; Histogram {15: int64 timestamp};
//! MetricMetadata {1: type, 2: metric_family_name, 4: help, 5: unit}.

use super::extras::{BodyRange, Extras, MetadataRow};
use super::found::{Found, SeriesPlace, kind};
use super::key::TenantHasher;
use super::labels::LabelError;
use super::proto::{Field, Reader, WireError};
use crate::head::SeriesKey;

/// The most samples of one request, and the most histograms, exemplars and metadata entries. A sample can be two bytes on
/// the wire and is a row of 48 in memory.
pub const SAMPLES_MAX: usize = 1 << 20;

/// One sample of a request, with the key of its series and where the series' labels are in the body.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Hash of tenant and label bytes.
    pub key: SeriesKey,
    /// Start of the label fields in the decoded body.
    pub label_offset: u32,
    /// Their length in bytes.
    pub label_len: u32,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// Kept bit for bit.
    pub value: f64,
}

impl Row {
    /// The label fields of its series in the body that it was found in.
    #[inline]
    pub fn label_bytes<'a>(&self, body: &'a [u8]) -> &'a [u8] {
        &body[self.label_offset as usize..][..self.label_len as usize]
    }
}

/// What a request holds besides its rows.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Skimmed {
    /// Time series in the request, with or without samples.
    pub series_count: u64,
    /// Float samples; as many rows were given out.
    pub sample_count: u64,
    /// Native histograms; as many rows were given out.
    pub histogram_count: u64,
    /// Exemplars; as many rows were given out.
    pub exemplar_count: u64,
    /// Samples, histograms and exemplars without a row, because their labels could not even be written down.
    pub refused_count: u64,
    /// Why the first of them.
    pub first_refusal: Option<LabelError>,
}

/// A walk through a request that appends a row per sample. On an error the rows hold what came before it; the caller
/// uses them only when the whole walk succeeds, so that a damaged request changes nothing.
///
/// Labels are one slice of the body when they stand side by side, as every known sender writes them; labels that
/// are scattered between other fields are gathered at the body's end, so that the key sees all of them.
#[derive(Default)]
pub struct Skimmer {
    position: usize,
    found: Found,
    /// The row that has no key yet: keys are made two at a time.
    keyless: Option<usize>,
}

impl Skimmer {
    /// Goes on for about `bytes` bytes of the body. Answers whether the end was reached.
    pub fn run(
        &mut self,
        body: &[u8],
        hasher: &TenantHasher,
        rows: &mut Vec<Row>,
        bytes: usize,
    ) -> Result<bool, WireError> {
        let end = self.position.saturating_add(bytes.max(1));
        while self.position < end {
            if let Some(series) = Series::usual(body, self.position) {
                self.position = series.base + series.bytes.len();
                self.series(body, series, hasher, rows)?;
            } else if !self.field(body, hasher, rows)? {
                break;
            }
            if rows.len() > SAMPLES_MAX {
                return Err(WireError::TooManySamples);
            }
        }
        self.key_last(body, hasher, rows);
        Ok(self.position == body.len())
    }

    /// Takes a field of any kind; answers whether there was one.
    fn field(&mut self, body: &[u8], hasher: &TenantHasher, rows: &mut Vec<Row>) -> Result<bool, WireError> {
        let mut request = Reader::new(&body[self.position..], self.position);
        let Some(field) = request.field()? else { return Ok(false) };
        match field.number {
            1 => {
                let bytes = field.bytes()?;
                self.series(body, Series { bytes, base: field.end - bytes.len() }, hasher, rows)?;
            }
            3 => self.metadata(&field)?,
            // The symbols and series of remote write 2.0.
            4 | 5 => return Err(WireError::OtherVersion { field: field.number }),
            _ => {}
        }
        self.position = field.end;
        Ok(true)
    }

    /// Makes the key of the row that waits for a second one.
    fn key_last(&mut self, body: &[u8], hasher: &TenantHasher, rows: &mut [Row]) {
        if let Some(row) = self.keyless.take() {
            rows[row].key = hasher.key(rows[row].label_bytes(body));
        }
    }

    /// Memory that is taken beside the rows.
    pub fn memory_bytes(&self) -> usize {
        self.found.memory_bytes()
    }

    /// Appends the gathered labels to the body, which makes the rows' places right, and tells what there was.
    pub fn finish(self, body: &mut Vec<u8>) -> (Skimmed, Extras) {
        self.found.finish(body)
    }

    #[inline]
    fn series(
        &mut self,
        body: &[u8],
        series: Series<'_>,
        hasher: &TenantHasher,
        rows: &mut Vec<Row>,
    ) -> Result<(), WireError> {
        self.found.skimmed.series_count += 1;
        if let Some(simple) = SimpleSeries::parse(series.bytes) {
            self.found.skimmed.sample_count += 1;
            let mut row = Row {
                key: SeriesKey(0),
                label_offset: series.base as u32,
                label_len: simple.labels_len as u32,
                timestamp_ms: simple.timestamp_ms,
                value: simple.value,
            };
            match self.keyless.take() {
                Some(before) => {
                    let labels = [rows[before].label_bytes(body), &series.bytes[..simple.labels_len]];
                    [rows[before].key, row.key] = hasher.keys_of_two(labels);
                }
                None => self.keyless = Some(rows.len()),
            }
            rows.push(row);
            return Ok(());
        }
        let (rows_before, mark) = (rows.len(), self.found.mark());
        if !series.skim(body, hasher, rows, &mut self.found)? {
            rows.truncate(rows_before);
            self.found.go_back(mark);
            series.skim_scattered(body.len(), hasher, rows, &mut self.found)?;
        }
        Ok(())
    }

    fn metadata(&mut self, field: &Field<'_>) -> Result<(), WireError> {
        let nothing = BodyRange::default();
        let mut row = MetadataRow { kind: 0, family: nothing, help: nothing, unit: nothing };
        let bytes = field.bytes()?;
        let mut fields = Reader::new(bytes, field.end - bytes.len());
        while let Some(field) = fields.field()? {
            match field.number {
                1 => row.kind = kind(field.varint()?),
                2 => row.family = field.range()?,
                4 => row.help = field.range()?,
                5 => row.unit = field.range()?,
                _ => {}
            }
        }
        // Without a name it is about nothing.
        if row.family.len > 0 { self.found.metadata(row) } else { Ok(()) }
    }
}

/// A series as nearly every sender writes it: labels, then one sample whose value comes before its time.
struct SimpleSeries {
    labels_len: usize,
    timestamp_ms: i64,
    value: f64,
}

impl SimpleSeries {
    /// Recognises the form byte by byte, with no regard for any other; `None` says nothing about validity.
    #[inline]
    fn parse(bytes: &[u8]) -> Option<SimpleSeries> {
        let mut at = 0;
        while *bytes.get(at)? == 0x0a {
            let len = usize::from(*bytes.get(at + 1)?);
            at += if len < 0x80 {
                2 + len
            } else {
                let high = usize::from(*bytes.get(at + 2)?);
                if high >= 0x80 {
                    return None;
                }
                3 + (len & 0x7f | high << 7)
            };
        }
        let (labels_len, sample) = (at, bytes.get(at..)?);
        let ([0x12, len, 0x09, value @ ..], time) = sample.split_first_chunk::<11>()? else { return None };
        if usize::from(*len) != sample.len() - 2 {
            return None;
        }
        let (0x10, time) = time.split_first()? else { return None };
        let mut timestamp = 0;
        for (index, byte) in time.iter().enumerate() {
            // A tenth byte would need a check for overflow: leave it to the general reader.
            if index == 9 {
                return None;
            }
            timestamp |= u64::from(byte & 0x7f) << (7 * index);
            if *byte < 0x80 {
                let is_whole = index + 1 == time.len();
                let value = f64::from_le_bytes(*value);
                return is_whole.then_some(SimpleSeries {
                    labels_len,
                    timestamp_ms: timestamp as i64,
                    value,
                });
            }
        }
        None
    }
}

/// One time series of the request and where it starts in the body.
struct Series<'a> {
    bytes: &'a [u8],
    base: usize,
}

impl<'a> Series<'a> {
    /// The series whose field begins at a place, with its tag and length as nearly all are written; `None` says nothing
    /// about what is there.
    #[inline]
    fn usual(body: &'a [u8], at: usize) -> Option<Series<'a>> {
        let (header, _) = body.get(at..)?.split_first_chunk::<4>()?;
        let (len, header_len) = match *header {
            [0x0a, len @ ..0x80, ..] => (usize::from(len), 2),
            [0x0a, low, high @ ..0x80, _] => (usize::from(low & 0x7f) | usize::from(high) << 7, 3),
            _ => return None,
        };
        let base = at + header_len;
        Some(Series { bytes: body.get(base..base + len)?, base })
    }

    /// The usual case; answers `false` when the labels turn out to be scattered.
    #[inline]
    fn skim(
        &self,
        body: &[u8],
        hasher: &TenantHasher,
        rows: &mut Vec<Row>,
        found: &mut Found,
    ) -> Result<bool, WireError> {
        let mut labels = self.base..self.base;
        let mut place = None;
        let mut fields = Reader::new(self.bytes, self.base);
        while let Some(field) = fields.field()? {
            match field.number {
                1 => {
                    field.bytes()?;
                    if field.start != labels.end || place.is_some() {
                        return Ok(false);
                    }
                    labels.end = field.end;
                }
                2..=4 => {
                    let place = *place.get_or_insert_with(|| SeriesPlace {
                        key: hasher.key(&body[labels.clone()]),
                        labels: BodyRange { offset: labels.start as u32, len: labels.len() as u32 },
                    });
                    skim_content(&field, place, body.len(), rows, found)?;
                }
                _ => {}
            }
        }
        Ok(true)
    }

    /// Labels with other fields before or between them: all are gathered first.
    fn skim_scattered(
        &self,
        body_len: usize,
        hasher: &TenantHasher,
        rows: &mut Vec<Row>,
        found: &mut Found,
    ) -> Result<(), WireError> {
        let start = found.gathered.len();
        let labels = found.gather_labels(self.bytes, self.base, body_len)?;
        let place = SeriesPlace { key: hasher.key(&found.gathered[start..]), labels };
        let mut fields = Reader::new(self.bytes, self.base);
        while let Some(field) = fields.field()? {
            skim_content(&field, place, body_len, rows, found)?;
        }
        Ok(())
    }
}

/// A field of a time series that is no label.
#[inline]
fn skim_content(
    field: &Field<'_>,
    series: SeriesPlace,
    body_len: usize,
    rows: &mut Vec<Row>,
    found: &mut Found,
) -> Result<(), WireError> {
    match field.number {
        2 => found.sample(series, parse_sample(field)?, rows),
        3 => skim_exemplar(field, series, body_len, found),
        4 => found.histogram(series, field),
        _ => Ok(()),
    }
}

fn skim_exemplar(
    field: &Field<'_>,
    series: SeriesPlace,
    body_len: usize,
    found: &mut Found,
) -> Result<(), WireError> {
    let bytes = field.bytes()?;
    let base = field.end - bytes.len();
    let (mut timestamp_ms, mut value) = (0i64, 0f64);
    let (mut labels, mut are_scattered) = (base..base, false);
    let mut fields = Reader::new(bytes, base);
    while let Some(field) = fields.field()? {
        match field.number {
            1 => {
                field.bytes()?;
                if labels.is_empty() {
                    labels.start = field.start;
                } else {
                    are_scattered |= field.start != labels.end;
                }
                labels.end = field.end;
            }
            2 => value = f64::from_bits(field.fixed64()?),
            3 => timestamp_ms = field.varint()? as i64,
            _ => {}
        }
    }
    let labels = if are_scattered {
        found.gather_labels(bytes, base, body_len)?
    } else {
        BodyRange { offset: labels.start as u32, len: labels.len() as u32 }
    };
    found.exemplar(series, labels, (timestamp_ms, value))
}

fn parse_sample(field: &Field<'_>) -> Result<(i64, f64), WireError> {
    let bytes = field.bytes()?;
    let (mut timestamp_ms, mut value) = (0i64, 0f64);
    let mut fields = Reader::new(bytes, field.end - bytes.len());
    while let Some(field) = fields.field()? {
        match field.number {
            1 => value = f64::from_bits(field.fixed64()?),
            2 => timestamp_ms = field.varint()? as i64,
            _ => {}
        }
    }
    Ok((timestamp_ms, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::v1::{Exemplar, Histogram, Label, Sample, TimeSeries, WriteRequest};
    use crate::wire::{SeriesHasher, canonical_label_bytes};
    use proptest::prelude::*;
    use prost::Message;

    fn hasher() -> TenantHasher {
        SeriesHasher::new([9; 16]).tenant("team")
    }

    fn skim(body: &mut Vec<u8>, hasher: &TenantHasher, rows: &mut Vec<Row>) -> Result<Skimmed, WireError> {
        let mut skimmer = Skimmer::default();
        while !skimmer.run(body, hasher, rows, 100)? {}
        Ok(skimmer.finish(body).0)
    }

    #[test]
    fn samples_without_end_are_refused() {
        let mut series = vec![0x0a, 4, 0x0a, 2, b'_', b'_'];
        series.extend([0x12, 0].repeat(SAMPLES_MAX + 1));
        let mut body = vec![0x0a];
        crate::wire::put_varint(&mut body, series.len() as u64);
        body.extend(series);
        assert_eq!(skim(&mut body, &hasher(), &mut Vec::new()), Err(WireError::TooManySamples));
    }

    fn any_labels() -> impl Strategy<Value = Vec<Label>> {
        let label = ("[a-z]{0,6}", ".{0,20}").prop_map(|(name, value)| Label { name, value });
        proptest::collection::vec(label, 0..6)
    }

    fn any_request() -> impl Strategy<Value = WriteRequest> {
        let sample = (any::<u64>(), any::<i64>())
            .prop_map(|(bits, timestamp)| Sample { value: f64::from_bits(bits), timestamp });
        let exemplar = (any_labels(), any::<f64>(), any::<i64>())
            .prop_map(|(labels, value, timestamp)| Exemplar { labels, value, timestamp });
        let histogram = (any::<f64>(), any::<i64>()).prop_map(|(sum, timestamp)| Histogram {
            sum,
            timestamp,
            ..Histogram::default()
        });
        let series = (
            any_labels(),
            proptest::collection::vec(sample, 0..4),
            proptest::collection::vec(exemplar, 0..3),
            proptest::collection::vec(histogram, 0..3),
        )
            .prop_map(|(labels, samples, exemplars, histograms)| TimeSeries {
                labels,
                samples,
                exemplars,
                histograms,
            });
        proptest::collection::vec(series, 0..8)
            .prop_map(|timeseries| WriteRequest { timeseries, metadata: vec![] })
    }

    #[test]
    fn exemplar_labels_that_are_scattered_stand_together_behind_the_body() {
        let labels = canonical_label_bytes(&[("span_id", "b"), ("trace_id", "a")]);
        let first_len = 2 + usize::from(labels[1]);
        let value = [&[0x11][..], &1.5f64.to_le_bytes()].concat();
        let exemplar = [&labels[..first_len], &value, &labels[first_len..], &[0x18, 7]].concat();
        let mut series = canonical_label_bytes(&[("__name__", "up")]);
        series.extend([0x1a, exemplar.len() as u8]);
        series.extend(exemplar);
        let mut body = vec![0x0a, series.len() as u8];
        body.extend(series);
        let (mut skimmer, mut rows) = (Skimmer::default(), Vec::new());
        assert_eq!(skimmer.run(&body, &hasher(), &mut rows, usize::MAX), Ok(true));
        let (skimmed, extras) = skimmer.finish(&mut body);
        let [row] = extras.exemplars[..] else { panic!("{extras:?}") };
        assert_eq!((row.labels.of(&body), row.timestamp_ms, row.value), (&labels[..], 7, 1.5));
        assert_eq!(row.key, hasher().key(row.series_labels.of(&body)));
        assert_eq!((skimmed.exemplar_count, rows.len()), (1, 0));
    }

    #[test]
    fn scattered_labels_have_the_key_of_those_that_stand_together() {
        let labels = canonical_label_bytes(&[("__name__", "up"), ("job", "x")]);
        let first_len = 2 + usize::from(labels[1]);
        let sample = [0x12, 0x02, 0x10, 0x05];
        let series = |parts: &[&[u8]]| {
            let content = parts.concat();
            let mut body = vec![0x0a, content.len() as u8];
            body.extend(content);
            body
        };
        let together = series(&[&labels, &sample]);
        let between = series(&[&labels[..first_len], &sample, &labels[first_len..]]);
        let after = series(&[&sample, &labels]);
        for body in [together, between, after] {
            let (mut body, mut rows) = (body, Vec::new());
            skim(&mut body, &hasher(), &mut rows).unwrap();
            let [row] = rows[..] else { panic!("{rows:?}") };
            assert_eq!((row.key, row.timestamp_ms, row.value), (hasher().key(&labels), 5, 0.0));
            assert_eq!(&body[row.label_offset as usize..][..row.label_len as usize], labels);
        }
    }

    #[test]
    fn a_known_field_of_another_type_is_an_error() {
        let wrong: [&[u8]; 5] = [
            &[0x08, 1],                   // time series as varint
            &[0x0a, 2, 0x08, 1],          // label as varint
            &[0x0a, 2, 0x10, 1],          // sample as varint
            &[0x0a, 4, 0x12, 2, 0x08, 1], // value as varint
            &[0x0a, 3, 0x12, 1, 0x11],    // timestamp cut off
        ];
        for bytes in wrong {
            assert!(skim(&mut bytes.to_vec(), &hasher(), &mut Vec::new()).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn rows_are_the_samples_of_the_request(request in any_request()) {
            let mut body = request.encode_to_vec();
            let mut rows = Vec::new();
            let skimmed = skim(&mut body, &hasher(), &mut rows).unwrap();
            let expected: Vec<_> = request.timeseries.iter().flat_map(|series| {
                let labels = TimeSeries { labels: series.labels.clone(), ..Default::default() }.encode_to_vec();
                let key = hasher().key(&labels);
                series.samples.iter().map(move |s| (key, labels.clone(), s.timestamp, s.value.to_bits()))
            }).collect();
            let got: Vec<_> = rows.iter().map(|row| {
                let labels = body[row.label_offset as usize..][..row.label_len as usize].to_vec();
                (row.key, labels, row.timestamp_ms, row.value.to_bits())
            }).collect();
            prop_assert_eq!(got, expected);
            prop_assert_eq!(skimmed.series_count, request.timeseries.len() as u64);
            let histograms: usize = request.timeseries.iter().map(|series| series.histograms.len()).sum();
            prop_assert_eq!(skimmed.histogram_count, histograms as u64);
        }

        #[test]
        fn the_simple_form_is_what_the_general_reader_sees(
            labels in proptest::collection::vec(("[a-z]{0,6}", ".{0,200}"), 0..4),
            timestamp: i64,
            value: u64,
            edit in proptest::option::of((any::<proptest::sample::Index>(), any::<u8>())),
        ) {
            let labels = labels.into_iter().map(|(name, value)| Label { name, value }).collect();
            let samples = vec![Sample { value: f64::from_bits(value | 1), timestamp }];
            let mut bytes = TimeSeries { labels, samples, ..Default::default() }.encode_to_vec();
            if let Some((at, byte)) = edit {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(simple) = SimpleSeries::parse(&bytes) {
                let (mut rows, mut found) = (Vec::new(), Found::default());
                let series = Series { bytes: &bytes, base: 0 };
                prop_assert_eq!(series.skim(&bytes, &hasher(), &mut rows, &mut found), Ok(true));
                let [row] = rows[..] else { panic!("{} rows", rows.len()) };
                prop_assert_eq!((row.label_offset, row.label_len as usize), (0, simple.labels_len));
                prop_assert_eq!(row.timestamp_ms, simple.timestamp_ms);
                prop_assert_eq!(row.value.to_bits(), simple.value.to_bits());
                prop_assert_eq!(found.skimmed, Skimmed { sample_count: 1, ..Default::default() });
                prop_assert!(found.extras.is_empty());
            } else {
                prop_assert!(edit.is_some() || timestamp <= 0, "the usual form was not recognised");
            }
        }
    }
}
