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
use super::proto::{Field, Reader, Value, WireError, varint_len};
use super::skim::{Row, Skimmed};
use crate::labels::METRIC_NAME;

/// The most symbols of one request. A symbol can be two bytes on the wire and takes twelve in memory.
pub const SYMBOLS_MAX: usize = 1 << 20;

/// The most references that the labels of one series are made of.
const REFERENCES_MAX: usize = 2 * LABELS_MAX;

/// What a field of the request costs at least, in bytes of a larger one.
const FIELD_COST_BYTES: usize = 64;

/// What a field of a series costs at least.
const CONTENT_COST_BYTES: usize = 16;

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
    /// The series that the last run stopped in.
    open: Option<OpenSeries>,
    /// What the run has cost so far: bytes read, and bytes of labels that references name, written out or not.
    cost_bytes: usize,
    found: Found,
    decoded_bytes_max: usize,
}

/// A series that is read piece by piece. Its labels may stand anywhere in it, so that it is read twice.
struct OpenSeries {
    start: usize,
    end: usize,
    position: usize,
    metadata: Metadata,
    /// Known once the first reading is done; an error refuses all that the series holds.
    place: Option<Result<SeriesPlace, LabelError>>,
}

impl OpenSeries {
    fn fields<'a>(&self, body: &'a [u8]) -> Reader<'a> {
        Reader::new(&body[self.position..self.end], self.position)
    }
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
            open: None,
            cost_bytes: 0,
            found: Found::default(),
            decoded_bytes_max,
        }
    }

    /// Goes on for about `bytes` bytes of the body and of labels that are referred to, and stops inside a series if need be.
    /// Answers whether the end was reached.
    pub fn run(
        &mut self,
        body: &[u8],
        hasher: &TenantHasher,
        rows: &mut Vec<Row>,
        bytes: usize,
    ) -> Result<bool, WireError> {
        self.cost_bytes = 0;
        if let Some(series) = self.open.take() {
            self.series(body, series, hasher, rows, bytes)?;
        }
        let mut request = Reader::new(&body[self.position..], self.position);
        while self.open.is_none() && self.cost_bytes < bytes {
            let Some(field) = request.field()? else { break };
            self.position = field.end;
            self.cost_bytes += FIELD_COST_BYTES;
            match (field.number, self.has_all_symbols) {
                // 1.0 has its series and metadata there; 2.0 reserves the numbers so that the two can be told apart.
                (1..=3, _) => return Err(WireError::OtherVersion { field: field.number }),
                (4, false) => self.symbols.push(field.range()?)?,
                (5, true) => {
                    self.found.skimmed.series_count += 1;
                    let (start, metadata) = (field.end - field.bytes()?.len(), Metadata::default());
                    let series = OpenSeries { start, end: field.end, position: start, metadata, place: None };
                    self.references.clear();
                    self.series(body, series, hasher, rows, bytes)?;
                }
                _ => {}
            }
        }
        if self.open.is_some() || self.position < body.len() {
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

    /// Goes on with a series; it stays open if the run has cost enough before its end.
    fn series(
        &mut self,
        body: &[u8],
        mut series: OpenSeries,
        hasher: &TenantHasher,
        rows: &mut Vec<Row>,
        bytes: usize,
    ) -> Result<(), WireError> {
        if series.place.is_none() {
            if !self.read_labels(body, &mut series, bytes)? {
                self.open = Some(series);
                return Ok(());
            }
            series.place = Some(self.place(body, series.metadata, hasher)?);
            series.position = series.start;
        }
        if !self.content(body, &mut series, rows, bytes)? {
            self.open = Some(series);
        }
        Ok(())
    }

    /// What has to be known before the samples are looked at: the labels, of which the references are kept, and the
    /// metadata. Answers whether the end of the series was reached.
    fn read_labels(&mut self, body: &[u8], series: &mut OpenSeries, bytes: usize) -> Result<bool, WireError> {
        let mut fields = series.fields(body);
        while let Some(field) = fields.field()? {
            match field.number {
                1 => self.references.read(&field)?,
                5 => series.metadata = Metadata::parse(&field)?,
                _ => {}
            }
            // What is only passed over costs the same whatever its length.
            let read_bytes = if matches!(field.number, 1 | 5) { field.end - field.start } else { 0 };
            self.cost_bytes += read_bytes.max(CONTENT_COST_BYTES);
            series.position = field.end;
            if self.cost_bytes >= bytes {
                return Ok(series.position == series.end);
            }
        }
        Ok(true)
    }

    /// Writes the labels of the series at hand, and keeps its metadata.
    fn place(
        &mut self,
        body: &[u8],
        metadata: Metadata,
        hasher: &TenantHasher,
    ) -> Result<Result<SeriesPlace, LabelError>, WireError> {
        let start = self.found.gathered.len();
        let labels = match self.write_labels(body)? {
            Ok(labels) => labels,
            Err(error) => return Ok(Err(error)),
        };
        if let Some((row, named_by)) = self.describe(body, metadata) {
            self.metadata(row, named_by)?;
        }
        Ok(Ok(SeriesPlace { key: hasher.key(&self.found.gathered[start..]), labels }))
    }

    /// Writes the labels out that the references name, or nothing if they make none. Either is paid for.
    fn write_labels(&mut self, body: &[u8]) -> Result<Result<BodyRange, LabelError>, WireError> {
        let labels_len = match self.references.labels_len(&self.symbols) {
            Ok(labels_len) => labels_len,
            Err(error) => return Ok(Err(error)),
        };
        self.cost_bytes += labels_len;
        let Found { gathered, .. } = &mut self.found;
        if body.len() + gathered.len() + labels_len > self.decoded_bytes_max {
            return Err(WireError::TooLarge { bytes_max: self.decoded_bytes_max });
        }
        let start = gathered.len();
        let written = self.references.write(&self.symbols, body, gathered);
        Ok(written.map(|()| self.found.gathered_from(start, body.len())))
    }

    /// The metadata row of the series at hand, and the symbol that names its metric; `None` if it says nothing, or refers
    /// to what is not there: the samples are good without it.
    fn describe(&self, body: &[u8], metadata: Metadata) -> Option<(MetadataRow, u32)> {
        let Metadata { kind, help, unit } = metadata;
        let (help, unit) = (self.symbols.optional(help).ok()?, self.symbols.optional(unit).ok()?);
        if kind == 0 && help.len == 0 && unit.len == 0 {
            return None;
        }
        let named_by = self.references.value_of(METRIC_NAME.as_bytes(), &self.symbols, body)?;
        let mut family = self.symbols.get(named_by).ok()?;
        family.len = family_len(family.of(body), kind) as u32;
        (family.len > 0).then_some((MetadataRow { kind, family, help, unit }, named_by))
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

    /// Reads what the series holds besides its labels. Answers whether its end was reached.
    fn content(
        &mut self,
        body: &[u8],
        series: &mut OpenSeries,
        rows: &mut Vec<Row>,
        bytes: usize,
    ) -> Result<bool, WireError> {
        let mut fields = series.fields(body);
        while let Some(field) = fields.field()? {
            match &series.place {
                Some(Ok(place)) => self.item(body, &field, *place, rows)?,
                Some(Err(error)) => self.refuse(&field, error)?,
                None => {}
            }
            self.cost_bytes += (field.end - field.start).max(CONTENT_COST_BYTES);
            series.position = field.end;
            if self.cost_bytes >= bytes {
                return Ok(series.position == series.end);
            }
        }
        Ok(true)
    }

    #[inline]
    fn item(
        &mut self,
        body: &[u8],
        field: &Field<'_>,
        place: SeriesPlace,
        rows: &mut Vec<Row>,
    ) -> Result<(), WireError> {
        match field.number {
            2 => self.found.sample(place, parse_sample(field)?, rows),
            3 => self.found.histogram(place, field),
            4 => self.exemplar(body, field, place),
            6 => field.varint().map(drop),
            _ => Ok(()),
        }
    }

    /// A field of a series whose labels are wrong. It must be well-formed all the same.
    fn refuse(&mut self, field: &Field<'_>, error: &LabelError) -> Result<(), WireError> {
        match field.number {
            2 => drop(parse_sample(field)?),
            3 => drop(histogram_timestamp(field)?),
            4 => drop(parse_exemplar(field, &mut self.references)?),
            6 => return field.varint().map(drop),
            _ => return Ok(()),
        }
        self.found.refuse(|| error.clone())
    }

    fn exemplar(&mut self, body: &[u8], field: &Field<'_>, series: SeriesPlace) -> Result<(), WireError> {
        let time_and_value = parse_exemplar(field, &mut self.references)?;
        match self.write_labels(body)? {
            Ok(labels) => self.found.exemplar(series, labels, time_and_value),
            Err(error) => self.found.refuse(|| error),
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

    /// Reads a field of them: packed, as every encoder of proto3 writes it, or a single one, which all decoders take. Of
    /// references beyond the limit, which make no labels, the rest is not looked at.
    fn read(&mut self, field: &Field<'_>) -> Result<(), WireError> {
        if let Value::Varint(reference) = field.value {
            self.push(reference);
            return Ok(());
        }
        let bytes = field.bytes()?;
        let mut references = Reader::new(bytes, field.end - bytes.len());
        while self.count <= REFERENCES_MAX
            && let Some(reference) = references.packed()?
        {
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

    /// How many bytes the labels take; an error if the references make none. Nothing is copied to learn that.
    #[inline]
    fn labels_len(&self, symbols: &Symbols) -> Result<usize, LabelError> {
        if self.count > REFERENCES_MAX {
            return Err(LabelError::TooLarge);
        }
        if !self.count.is_multiple_of(2) {
            return Err(LabelError::OddReferences { count: self.count });
        }
        let mut labels_len = 0;
        for pair in self.list.chunks_exact(2) {
            let (name, value) = (symbols.get(pair[0])?.len as usize, symbols.get(pair[1])?.len as usize);
            if labels_len + name + value > SERIES_BYTES_MAX {
                return Err(LabelError::TooLarge);
            }
            labels_len += label_len(name, value);
        }
        Ok(labels_len)
    }

    /// Appends the labels to `out`. Where `labels_len` finds no error, there is none.
    #[inline]
    fn write(&self, symbols: &Symbols, body: &[u8], out: &mut Vec<u8>) -> Result<(), LabelError> {
        for pair in self.list.chunks_exact(2) {
            let (name, value) = (symbols.get(pair[0])?, symbols.get(pair[1])?);
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

/// Bytes that `put_label` appends for a name and a value of these lengths.
#[inline]
fn label_len(name_len: usize, value_len: usize) -> usize {
    let field_len = |len: usize| 1 + varint_len(len as u64) + len;
    field_len(field_len(name_len) + field_len(value_len))
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
