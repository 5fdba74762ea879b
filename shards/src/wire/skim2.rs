//! The skim of a remote write 2.0 request (io.prometheus.write.v2.Request): the same rows as for 1.0.
//!
//! Schema: Request {4: repeated string symbols, 5: repeated TimeSeries}; TimeSeries {1: repeated uint32 labels_refs,
//! 2: repeated Sample, 3: repeated Histogram, 4: repeated Exemplar, 5: Metadata, 6: int64 created_timestamp};
//! Sample {1: double value, 2: int64 timestamp, 3: int64 start_timestamp}; Exemplar {1: repeated uint32 labels_refs,
//! 2: double value, 3: int64 timestamp}; Metadata {1: type, 3: uint32 help_ref, 4: uint32 unit_ref}.
//!
//! Labels are references into the table of symbols. Those of each series are written out behind the body in the encoding
//! from which keys are made, so that a series is the same one whichever version its sender speaks. One symbol may be
//! referred to any number of times; what is written out is therefore bounded together with the body.
//!
//! Start timestamps are read, so that a request which has them is checked as a whole, and go no further.

use super::extras::{BodyRange, Extras, MetadataRow};
use super::found::{Found, SeriesPlace, histogram_timestamp, kind};
use super::key::TenantHasher;
use super::labels::{LABELS_MAX, LabelError, SERIES_BYTES_MAX, put_label};
use super::proto::{Field, Reader, Value, WireError};
use super::skim::{Row, Skimmed};
use crate::labels::METRIC_NAME;

/// The most symbols of one request. A symbol can be two bytes on the wire and takes twelve in memory.
pub const SYMBOLS_MAX: usize = 1 << 20;

/// The most references that the labels of one series are made of.
const REFERENCES_MAX: usize = 2 * LABELS_MAX;

/// What a field costs at least, in bytes of a larger one.
const FIELD_COST_BYTES: usize = 64;

/// Numbers of metric types whose series have names of their own, with a suffix each (`Metadata.MetricType`).
const HISTOGRAM: u8 = 3;
const GAUGE_HISTOGRAM: u8 = 4;
const SUMMARY: u8 = 5;

/// A walk through a request that appends a row per sample, as [`super::Skimmer`] does. Protobuf allows symbols behind the
/// series that need them, so all symbols are found first: a second walk, over the outermost fields only.
pub struct Skimmer2 {
    position: usize,
    has_all_symbols: bool,
    symbols: Symbols,
    /// References of the labels at hand.
    references: References,
    /// For each symbol that names a metric: one more than the index of the last metadata row of that name. Senders repeat
    /// the metadata with each series.
    described: Vec<u32>,
    found: Found,
    decoded_bytes_max: usize,
}

impl Skimmer2 {
    /// Nothing is read. The body and the labels written out take at most so many bytes together.
    pub fn new(decoded_bytes_max: usize) -> Skimmer2 {
        Skimmer2 {
            position: 0,
            has_all_symbols: false,
            symbols: Symbols::default(),
            references: References::default(),
            described: Vec::new(),
            found: Found::default(),
            decoded_bytes_max,
        }
    }

    /// Goes on for about `bytes` bytes of the body and of labels written out. Answers whether the end was reached.
    pub fn run(
        &mut self,
        body: &[u8],
        hasher: &TenantHasher,
        rows: &mut Vec<Row>,
        bytes: usize,
    ) -> Result<bool, WireError> {
        let mut request = Reader::new(&body[self.position..], self.position);
        let mut cost_bytes = 0;
        while let Some(field) = request.field()? {
            let gathered_before = self.found.gathered.len();
            match (field.number, self.has_all_symbols) {
                // 1.0 has its series and metadata there; 2.0 reserves the numbers so that the two can be told apart.
                (1..=3, _) => return Err(WireError::OtherVersion { field: field.number }),
                (4, false) => self.symbols.push(field.range()?)?,
                (5, true) => {
                    let bytes = field.bytes()?;
                    self.series(body, bytes, field.end - bytes.len(), hasher, rows)?;
                }
                _ => {}
            }
            self.position = field.end;
            cost_bytes += (field.end - field.start).max(FIELD_COST_BYTES);
            cost_bytes += self.found.gathered.len() - gathered_before;
            if cost_bytes >= bytes {
                break;
            }
        }
        if self.position < body.len() {
            return Ok(false);
        }
        if !self.has_all_symbols {
            self.symbols.check()?;
            self.has_all_symbols = true;
            self.position = 0;
            return Ok(body.is_empty());
        }
        Ok(true)
    }

    /// Memory that is taken beside the rows.
    pub fn memory_bytes(&self) -> usize {
        let symbols = self.symbols.0.capacity() * size_of::<BodyRange>();
        let described = self.described.capacity() * size_of::<u32>();
        symbols + described + self.found.memory_bytes()
    }

    /// Appends the labels to the body, which makes all places right, and tells what there was.
    pub fn finish(self, body: &mut Vec<u8>) -> (Skimmed, Extras) {
        self.found.finish(body)
    }

    fn series(
        &mut self,
        body: &[u8],
        series: &[u8],
        base: usize,
        hasher: &TenantHasher,
        rows: &mut Vec<Row>,
    ) -> Result<(), WireError> {
        self.found.skimmed.series_count += 1;
        let metadata = self.read_labels(series, base)?;
        let start = self.found.gathered.len();
        let labels = self.write_labels(body)?;
        match labels.and_then(|labels| Ok((labels, self.describe(body, metadata)?))) {
            Ok((labels, metadata)) => {
                let place = SeriesPlace { key: hasher.key(&self.found.gathered[start..]), labels };
                if let Some((row, named_by)) = metadata {
                    self.metadata(row, named_by)?;
                }
                self.content(body, series, base, place, rows)
            }
            Err(error) => {
                self.found.gathered.truncate(start);
                let count = count_content(series, base)?;
                self.found.refuse(count, || error);
                Ok(())
            }
        }
    }

    /// What has to be known before the samples are looked at: the labels, of which the references are kept, and the
    /// metadata.
    fn read_labels(&mut self, series: &[u8], base: usize) -> Result<Metadata, WireError> {
        self.references.clear();
        let mut metadata = Metadata::default();
        let mut fields = Reader::new(series, base);
        while let Some(field) = fields.field()? {
            match field.number {
                1 => self.references.read(&field)?,
                5 => metadata = Metadata::parse(&field)?,
                _ => {}
            }
        }
        Ok(metadata)
    }

    /// Writes the labels out that the references name. What is written before an error, the caller takes back.
    fn write_labels(&mut self, body: &[u8]) -> Result<Result<BodyRange, LabelError>, WireError> {
        let Found { gathered, .. } = &mut self.found;
        let start = gathered.len();
        if let Err(error) = self.references.write(&self.symbols, body, gathered) {
            return Ok(Err(error));
        }
        if body.len() + gathered.len() > self.decoded_bytes_max {
            return Err(WireError::TooLarge { bytes_max: self.decoded_bytes_max });
        }
        Ok(Ok(self.found.gathered_from(start, body.len())))
    }

    /// The metadata row of the series at hand, and the symbol that names its metric; `None` if it says nothing.
    fn describe(&self, body: &[u8], metadata: Metadata) -> Result<Option<(MetadataRow, u32)>, LabelError> {
        let Metadata { kind, help, unit } = metadata;
        let (help, unit) = (self.symbols.optional(help)?, self.symbols.optional(unit)?);
        if kind == 0 && help.len == 0 && unit.len == 0 {
            return Ok(None);
        }
        let Some(named_by) = self.references.value_of(METRIC_NAME.as_bytes(), &self.symbols, body) else {
            return Ok(None);
        };
        let mut family = self.symbols.get(named_by)?;
        family.len = family_len(family.of(body), kind) as u32;
        Ok((family.len > 0).then_some((MetadataRow { kind, family, help, unit }, named_by)))
    }

    /// Keeps a metadata row unless the last one of the same name is its equal.
    fn metadata(&mut self, row: MetadataRow, named_by: u32) -> Result<(), WireError> {
        if self.described.is_empty() {
            self.described.resize(self.symbols.0.len(), 0);
        }
        let last = &mut self.described[named_by as usize];
        let rows = &self.found.extras.metadata;
        if *last > 0 && rows[*last as usize - 1] == row {
            return Ok(());
        }
        *last = rows.len() as u32 + 1;
        self.found.metadata(row)
    }

    fn content(
        &mut self,
        body: &[u8],
        series: &[u8],
        base: usize,
        place: SeriesPlace,
        rows: &mut Vec<Row>,
    ) -> Result<(), WireError> {
        let mut fields = Reader::new(series, base);
        while let Some(field) = fields.field()? {
            match field.number {
                2 => self.found.sample(place, parse_sample(&field)?, rows)?,
                3 => self.found.histogram(place, &field)?,
                4 => self.exemplar(body, &field, place)?,
                6 => drop(field.varint()?),
                _ => {}
            }
        }
        Ok(())
    }

    fn exemplar(&mut self, body: &[u8], field: &Field<'_>, series: SeriesPlace) -> Result<(), WireError> {
        let time_and_value = parse_exemplar(field, &mut self.references)?;
        let start = self.found.gathered.len();
        match self.write_labels(body)? {
            Ok(labels) => self.found.exemplar(series, labels, time_and_value),
            Err(error) => {
                self.found.gathered.truncate(start);
                self.found.refuse(1, || error);
                Ok(())
            }
        }
    }
}

/// The texts that a request's references mean, by number.
#[derive(Default)]
struct Symbols(Vec<BodyRange>);

impl Symbols {
    fn push(&mut self, symbol: BodyRange) -> Result<(), WireError> {
        if self.0.len() == SYMBOLS_MAX {
            return Err(WireError::TooManySymbols);
        }
        self.0.push(symbol);
        Ok(())
    }

    fn check(&self) -> Result<(), WireError> {
        if self.0.first().is_some_and(|first| first.len > 0) {
            return Err(WireError::FirstSymbol);
        }
        Ok(())
    }

    #[inline]
    fn get(&self, reference: u32) -> Result<BodyRange, LabelError> {
        let symbol = self.0.get(reference as usize).copied();
        symbol.ok_or(LabelError::NoSymbol { reference, symbol_count: self.0.len() })
    }

    /// A text that need not be given: 0 means none even if there is no symbol at all.
    fn optional(&self, reference: u32) -> Result<BodyRange, LabelError> {
        if reference == 0 { Ok(BodyRange::default()) } else { self.get(reference) }
    }
}

/// References to the names and values of one label set, in turn.
#[derive(Default)]
struct References {
    list: Vec<u32>,
    /// All that came, kept or not.
    count: usize,
}

impl References {
    fn clear(&mut self) {
        self.list.clear();
        self.count = 0;
    }

    /// Reads a field of them: packed, as every encoder of proto3 writes it, or a single one, which all decoders take.
    fn read(&mut self, field: &Field<'_>) -> Result<(), WireError> {
        if let Value::Varint(reference) = field.value {
            self.push(reference);
            return Ok(());
        }
        let bytes = field.bytes()?;
        let mut references = Reader::new(bytes, field.end - bytes.len());
        while let Some(reference) = references.packed()? {
            self.push(reference);
        }
        Ok(())
    }

    #[inline]
    fn push(&mut self, reference: u64) {
        self.count += 1;
        if self.list.len() < REFERENCES_MAX {
            // No table has so many symbols that the cast would make a false reference a true one.
            self.list.push(reference.min(u64::from(u32::MAX)) as u32);
        }
    }

    /// Appends the labels to `out`. After an error some of them are there.
    #[inline]
    fn write(&self, symbols: &Symbols, body: &[u8], out: &mut Vec<u8>) -> Result<(), LabelError> {
        if !self.count.is_multiple_of(2) {
            return Err(LabelError::OddReferences { count: self.count });
        }
        if self.count > REFERENCES_MAX {
            return Err(LabelError::TooLarge);
        }
        let start = out.len();
        for pair in self.list.chunks_exact(2) {
            let (name, value) = (symbols.get(pair[0])?, symbols.get(pair[1])?);
            if out.len() - start + name.len as usize + value.len as usize > SERIES_BYTES_MAX {
                return Err(LabelError::TooLarge);
            }
            put_label(out, name.of(body), value.of(body));
        }
        Ok(())
    }

    /// The reference to the value of the first label of this name.
    fn value_of(&self, name: &[u8], symbols: &Symbols, body: &[u8]) -> Option<u32> {
        let mut pairs = self.list.chunks_exact(2);
        pairs.find(|pair| symbols.get(pair[0]).is_ok_and(|found| found.of(body) == name)).map(|pair| pair[1])
    }
}

/// What a series says of its metric, the texts as references.
#[derive(Default, Clone, Copy)]
struct Metadata {
    kind: u8,
    help: u32,
    unit: u32,
}

impl Metadata {
    fn parse(field: &Field<'_>) -> Result<Metadata, WireError> {
        let bytes = field.bytes()?;
        let mut metadata = Metadata::default();
        let mut fields = Reader::new(bytes, field.end - bytes.len());
        let reference = |field: &Field<'_>| Ok(field.varint()?.min(u64::from(u32::MAX)) as u32);
        while let Some(field) = fields.field()? {
            match field.number {
                1 => metadata.kind = kind(field.varint()?),
                3 => metadata.help = reference(&field)?,
                4 => metadata.unit = reference(&field)?,
                _ => {}
            }
        }
        Ok(metadata)
    }
}

/// The length of the name under which 1.0 and the query API know the metadata of a series: series of a histogram or a
/// summary have the name of their family and a suffix.
fn family_len(name: &[u8], kind: u8) -> usize {
    let suffixes: &[&[u8]] = match kind {
        HISTOGRAM => &[b"_bucket", b"_count", b"_sum"],
        GAUGE_HISTOGRAM => &[b"_bucket", b"_gcount", b"_gsum"],
        SUMMARY => &[b"_count", b"_sum"],
        _ => &[],
    };
    suffixes.iter().find_map(|suffix| name.strip_suffix(*suffix)).unwrap_or(name).len()
}

/// Time and value of a sample.
#[inline]
fn parse_sample(field: &Field<'_>) -> Result<(i64, f64), WireError> {
    let bytes = field.bytes()?;
    let (mut timestamp_ms, mut value) = (0i64, 0f64);
    let mut fields = Reader::new(bytes, field.end - bytes.len());
    while let Some(field) = fields.field()? {
        match field.number {
            1 => value = f64::from_bits(field.fixed64()?),
            2 => timestamp_ms = field.varint()? as i64,
            3 => drop(field.varint()?),
            _ => {}
        }
    }
    Ok((timestamp_ms, value))
}

/// Time and value of an exemplar, and the references of its labels.
fn parse_exemplar(field: &Field<'_>, references: &mut References) -> Result<(i64, f64), WireError> {
    let bytes = field.bytes()?;
    references.clear();
    let (mut timestamp_ms, mut value) = (0i64, 0f64);
    let mut fields = Reader::new(bytes, field.end - bytes.len());
    while let Some(field) = fields.field()? {
        match field.number {
            1 => references.read(&field)?,
            2 => value = f64::from_bits(field.fixed64()?),
            3 => timestamp_ms = field.varint()? as i64,
            _ => {}
        }
    }
    Ok((timestamp_ms, value))
}

/// How many samples, histograms and exemplars a series has whose labels are wrong. They must be well-formed all the same.
fn count_content(series: &[u8], base: usize) -> Result<u64, WireError> {
    let (mut count, mut references) = (0, References::default());
    let mut fields = Reader::new(series, base);
    while let Some(field) = fields.field()? {
        match field.number {
            2 => drop(parse_sample(&field)?),
            3 => drop(histogram_timestamp(&field)?),
            4 => drop(parse_exemplar(&field, &mut references)?),
            6 => drop(field.varint()?),
            _ => {}
        }
        count += u64::from(matches!(field.number, 2..=4));
    }
    Ok(count)
}
