//! The skim of a remote write 1.0 request (prometheus.WriteRequest): one row per sample, no label is parsed.
//!
//! Schema (prompb): WriteRequest {1: repeated TimeSeries, 3: repeated metadata}; TimeSeries {1: repeated Label,
//! 2: repeated Sample, 3: exemplars, 4: histograms}; Sample {1: double value, 2: int64 timestamp}.

use super::extras::Extras;
use super::key::TenantHasher;
use super::proto::{Field, Reader, WireError};
use crate::head::SeriesKey;

/// The most samples of one request. A sample can be two bytes on the wire and is a row of 48 in memory.
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

/// What a request holds besides its rows.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Skimmed {
    /// Time series in the request, with or without samples.
    pub series_count: u64,
    /// Float samples; as many rows were given out.
    pub sample_count: u64,
    /// Native histogram samples, which this version cannot store.
    pub histogram_count: u64,
    /// Exemplars, which this version leaves out.
    pub exemplar_count: u64,
}

/// A walk through a request that appends a row per sample. On an error the rows hold what came before it; the caller
/// uses them only when the whole walk succeeds, so that a damaged request changes nothing.
///
/// Labels are one slice of the body when they stand side by side, as every known sender writes them; labels that
/// are scattered between other fields are gathered at the body's end, so that the key sees all of them.
#[derive(Default)]
pub struct Skimmer {
    position: usize,
    skimmed: Skimmed,
    gathered: Vec<u8>,
    extras: Extras,
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
        let mut request = Reader::new(&body[self.position..], self.position);
        let end = self.position.saturating_add(bytes);
        while let Some(field) = request.field()? {
            if field.number == 1 {
                let bytes = field.bytes()?;
                self.series(body, Series { bytes, base: field.end - bytes.len() }, hasher, rows)?;
            }
            if rows.len() > SAMPLES_MAX {
                return Err(WireError::TooManySamples);
            }
            if field.end >= end {
                self.position = field.end;
                return Ok(self.position == body.len());
            }
        }
        self.position = body.len();
        Ok(true)
    }

    /// Appends the gathered labels to the body, which makes the rows' places right, and tells what there was.
    pub fn finish(self, body: &mut Vec<u8>) -> (Skimmed, Extras) {
        body.extend_from_slice(&self.gathered);
        (self.skimmed, self.extras)
    }

    #[inline]
    fn series(
        &mut self,
        body: &[u8],
        series: Series<'_>,
        hasher: &TenantHasher,
        rows: &mut Vec<Row>,
    ) -> Result<(), WireError> {
        self.skimmed.series_count += 1;
        if let Some(simple) = SimpleSeries::parse(series.bytes) {
            let key = hasher.key(&series.bytes[..simple.labels_len]);
            self.skimmed.sample_count += 1;
            rows.push(Row {
                key,
                label_offset: series.base as u32,
                label_len: simple.labels_len as u32,
                timestamp_ms: simple.timestamp_ms,
                value: simple.value,
            });
            return Ok(());
        }
        let (rows_before, skimmed_before) = (rows.len(), self.skimmed.clone());
        if !series.skim(body, hasher, rows, &mut self.skimmed)? {
            rows.truncate(rows_before);
            self.skimmed = skimmed_before;
            series.skim_scattered(body.len(), hasher, rows, &mut self.skimmed, &mut self.gathered)?;
        }
        Ok(())
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

impl Series<'_> {
    /// The usual case; answers `false` when the labels turn out to be scattered.
    #[inline]
    fn skim(
        &self,
        body: &[u8],
        hasher: &TenantHasher,
        rows: &mut Vec<Row>,
        skimmed: &mut Skimmed,
    ) -> Result<bool, WireError> {
        let mut labels = self.base..self.base;
        let mut key = None;
        let mut fields = Reader::new(self.bytes, self.base);
        while let Some(field) = fields.field()? {
            if field.number == 1 {
                field.bytes()?;
                if field.start != labels.end || key.is_some() {
                    return Ok(false);
                }
                labels.end = field.end;
                continue;
            }
            if let Some((timestamp_ms, value)) = parse_content(&field, skimmed)? {
                let key = *key.get_or_insert_with(|| hasher.key(&body[labels.clone()]));
                let (label_offset, label_len) = (labels.start as u32, labels.len() as u32);
                rows.push(Row { key, label_offset, label_len, timestamp_ms, value });
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
        skimmed: &mut Skimmed,
        gathered: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        let start = gathered.len();
        let mut fields = Reader::new(self.bytes, self.base);
        while let Some(field) = fields.field()? {
            if field.number == 1 {
                gathered.extend_from_slice(&self.bytes[field.start - self.base..field.end - self.base]);
            }
        }
        let key = hasher.key(&gathered[start..]);
        let (label_offset, label_len) = ((body_len + start) as u32, (gathered.len() - start) as u32);
        let mut fields = Reader::new(self.bytes, self.base);
        while let Some(field) = fields.field()? {
            if field.number == 1 {
                continue;
            }
            if let Some((timestamp_ms, value)) = parse_content(&field, skimmed)? {
                rows.push(Row { key, label_offset, label_len, timestamp_ms, value });
            }
        }
        Ok(())
    }
}

/// A field of a time series that is no label: the sample in it, if it is one; other content is counted.
#[inline]
fn parse_content(field: &Field<'_>, skimmed: &mut Skimmed) -> Result<Option<(i64, f64)>, WireError> {
    match field.number {
        2 => {
            skimmed.sample_count += 1;
            return parse_sample(field).map(Some);
        }
        3 => {
            field.bytes()?;
            skimmed.exemplar_count += 1;
        }
        4 => {
            field.bytes()?;
            skimmed.histogram_count += 1;
        }
        _ => {}
    }
    Ok(None)
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
    use crate::wire::{SeriesHasher, canonical_label_bytes};
    use proptest::prelude::*;
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    struct Label {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(string, tag = "2")]
        value: String,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Sample {
        #[prost(double, tag = "1")]
        value: f64,
        #[prost(int64, tag = "2")]
        timestamp: i64,
    }

    #[derive(Clone, PartialEq, Message)]
    struct TimeSeries {
        #[prost(message, repeated, tag = "1")]
        labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        samples: Vec<Sample>,
        #[prost(bytes = "vec", repeated, tag = "3")]
        exemplars: Vec<Vec<u8>>,
        #[prost(bytes = "vec", repeated, tag = "4")]
        histograms: Vec<Vec<u8>>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct WriteRequest {
        #[prost(message, repeated, tag = "1")]
        timeseries: Vec<TimeSeries>,
        #[prost(bytes = "vec", repeated, tag = "3")]
        metadata: Vec<Vec<u8>>,
    }

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

    fn any_request() -> impl Strategy<Value = WriteRequest> {
        let label = ("[a-z]{0,6}", ".{0,20}").prop_map(|(name, value)| Label { name, value });
        let sample = (any::<u64>(), any::<i64>())
            .prop_map(|(bits, timestamp)| Sample { value: f64::from_bits(bits), timestamp });
        let other = || proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..5), 0..3);
        let series = (
            proptest::collection::vec(label, 0..6),
            proptest::collection::vec(sample, 0..4),
            other(),
            other(),
        )
            .prop_map(|(labels, samples, exemplars, histograms)| TimeSeries {
                labels,
                samples,
                exemplars,
                histograms,
            });
        (proptest::collection::vec(series, 0..8), other())
            .prop_map(|(timeseries, metadata)| WriteRequest { timeseries, metadata })
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
                let (mut rows, mut skimmed) = (Vec::new(), Skimmed::default());
                let series = Series { bytes: &bytes, base: 0 };
                prop_assert_eq!(series.skim(&bytes, &hasher(), &mut rows, &mut skimmed), Ok(true));
                let [row] = rows[..] else { panic!("{} rows", rows.len()) };
                prop_assert_eq!((row.label_offset, row.label_len as usize), (0, simple.labels_len));
                prop_assert_eq!(row.timestamp_ms, simple.timestamp_ms);
                prop_assert_eq!(row.value.to_bits(), simple.value.to_bits());
                prop_assert_eq!(skimmed, Skimmed { sample_count: 1, ..Default::default() });
            } else {
                prop_assert!(edit.is_some() || timestamp <= 0, "the usual form was not recognised");
            }
        }

        #[test]
        fn mutated_requests_end_in_a_result(
            request in any_request(),
            edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
            cut in any::<proptest::sample::Index>(),
        ) {
            let mut body = request.encode_to_vec();
            if body.is_empty() {
                return Ok(());
            }
            for (index, byte) in edits {
                let at = index.index(body.len());
                body[at] = byte;
            }
            body.truncate(cut.index(body.len() + 1));
            let mut rows = Vec::new();
            if skim(&mut body, &hasher(), &mut rows).is_ok() {
                for row in rows {
                    prop_assert!((row.label_offset + row.label_len) as usize <= body.len());
                }
            }
        }
    }
}
