//! The head as pages of bytes, for checkpoints, and back. `docs/format/checkpoint.md` has the bytes.
//!
//! Pages are made one at a time while the head goes on changing; what comes after a page's making is in the WAL.
//! An entry refers only to entries before it: symbols come first, then pairs, then tenants and series, and what was
//! added since the last page comes before that page's series. While an image is made ([`Head::set_imaged`]) nothing is
//! swept. A vacant number may be given out again after a page has said that it is vacant: of a symbol or a pair a later
//! page tells, of a series the WAL does.

mod extras;

use self::extras::{ExtrasLoader, ExtrasWriter};
use super::error::ImageError;
use super::index::Pair;
use super::key::SeriesKey;
use super::late_histograms::LateHistogram;
use super::open::OpenHistograms;
use super::series::{ClosedChunk, Series};
use super::store::Head;
use crate::chunk::{AnyHistogram, Encoding, XorState};
use crate::chunklog::ChunkPlace;

/// A page ends with the entry that fills it to this size: some 100 µs of work. In tests few series make many pages.
const PAGE_BYTES: usize = if cfg!(test) { 2 << 10 } else { 128 << 10 };

/// First byte of an entry: a symbol (length, text).
const SYMBOL: u8 = 1;
/// A pair (symbols of tenant, name and value).
const PAIR: u8 = 2;
/// A series (key, pairs, open chunk, late samples).
const SERIES: u8 = 3;
/// Closed chunks of the series before it, the next in order of time.
const CLOSED: u8 = 4;
/// Chunks of late samples of the series before it.
const LATE_CLOSED: u8 = 5;
/// A tenant (symbol, and the times that it is frozen and truncated at).
const TENANT: u8 = 6;
/// A number of a symbol that no symbol has.
const NO_SYMBOL: u8 = 7;
/// A number of a pair that no pair has.
const NO_PAIR: u8 = 8;
/// A number of a series that no series has.
const NO_SERIES: u8 = 9;
/// Number of the next chunk file.
const NEXT_FILE: u8 = 10;
/// A symbol whose number was vacant when its turn came (number, length, text).
const SYMBOL_AT: u8 = 11;
/// A pair whose number was vacant when its turn came (number, symbols).
const PAIR_AT: u8 = 12;

/// The open chunk of the series before it, if it is one of histograms (encoding, length, bytes).
const OPEN_HISTOGRAMS: u8 = 13;
/// Late histograms of the series before it that are in no chunk (of each encoding, length, bytes).
const LATE_HISTOGRAMS: u8 = 14;

/// Closed chunks of one entry: a page must not grow with the age of a series.
const CLOSED_MAX: usize = if cfg!(test) { 3 } else { 1024 };

/// Makes the pages of one checkpoint.
#[derive(Default)]
pub struct ImageWriter {
    symbols_done: u32,
    /// Of those that were given out again.
    symbols_again: usize,
    pairs_done: u32,
    pairs_again: usize,
    tenants: Option<Vec<u32>>,
    series_done: u32,
    closed: Rest,
    late: Rest,
    extras: ExtrasWriter,
    is_ended: bool,
}

/// Closed chunks of the series written last: how many are written, and how many there were when it was. Later ones
/// were its open chunk then.
#[derive(Default, Clone, Copy)]
struct Rest {
    done: usize,
    count: usize,
}

impl Rest {
    fn next<'a>(&mut self, chunks: &'a [ClosedChunk]) -> Option<&'a [ClosedChunk]> {
        let part = chunks.get(self.done..self.count.min(self.done + CLOSED_MAX))?;
        self.done += part.len();
        (!part.is_empty()).then_some(part)
    }
}

impl ImageWriter {
    /// Writes the next page into `out`, which is cleared first. Answers `false` when all was written.
    pub fn page(&mut self, head: &Head, out: &mut Vec<u8>) -> bool {
        out.clear();
        while out.len() < PAGE_BYTES && !self.is_ended {
            if let Some(last) = self.series_done.checked_sub(1)
                && self.put_rest(out, &head.series[last])
            {
                continue;
            }
            self.put_next(out, head);
        }
        !out.is_empty()
    }

    /// Writes more chunks of the series written last; answers whether there were any.
    fn put_rest(&mut self, out: &mut Vec<u8>, series: &Series) -> bool {
        let late = series.late().map_or(&[][..], |late| late.closed());
        if let Some(closed) = self.closed.next(series.closed()) {
            put_closed(out, CLOSED, closed);
        } else if let Some(late) = self.late.next(late) {
            put_closed(out, LATE_CLOSED, late);
        } else {
            return false;
        }
        true
    }

    fn put_next(&mut self, out: &mut Vec<u8>, head: &Head) {
        if (self.symbols_done as usize) < head.symbols.len() {
            put_symbol(out, head, self.symbols_done);
            self.symbols_done += 1;
        } else if let Some(symbol) = head.symbols.reused().get(self.symbols_again) {
            out.push(SYMBOL_AT);
            put(out, u64::from(*symbol));
            put_text(out, head.symbols.text(*symbol));
            self.symbols_again += 1;
        } else if (self.pairs_done as usize) < head.index.pair_count() {
            put_pair(out, head, self.pairs_done);
            self.pairs_done += 1;
        } else if let Some(pair) = head.index.reused().get(self.pairs_again) {
            out.push(PAIR_AT);
            put(out, u64::from(*pair));
            put_symbols(out, head.index.pair(*pair));
            self.pairs_again += 1;
        } else if let Some(tenant) = self.next_tenant(head) {
            let state = &head.index.tenants[&tenant];
            out.push(TENANT);
            put(out, u64::from(tenant));
            out.extend_from_slice(&state.frozen_ms.to_le_bytes());
            out.extend_from_slice(&state.truncated_ms.to_le_bytes());
        } else if self.series_done < head.series_count() {
            let series = &head.series[self.series_done];
            if series.is_vacant() {
                out.push(NO_SERIES);
            } else {
                put_series(out, head, self.series_done);
                put_histograms(out, series);
            }
            self.closed = Rest { done: 0, count: series.closed().len() };
            self.late = Rest { done: 0, count: series.late().map_or(0, |late| late.closed().len()) };
            self.series_done += 1;
        } else if !self.extras.put_next(out, &head.extras()) {
            out.push(NEXT_FILE);
            put(out, u64::from(head.log().borrow().next_file()));
            self.is_ended = true;
        }
    }

    /// Tenants come once; those that are new later have nothing yet that has to be kept.
    fn next_tenant(&mut self, head: &Head) -> Option<u32> {
        let tenants = self.tenants.get_or_insert_with(|| {
            let mut symbols: Vec<u32> = head.index.tenants.keys().copied().collect();
            symbols.sort_unstable();
            symbols
        });
        tenants.pop()
    }

    /// Numbers of series written so far.
    pub fn series_done(&self) -> u32 {
        self.series_done
    }
}

fn put(out: &mut Vec<u8>, value: u64) {
    crate::wire::put_varint(out, value);
}

fn put_symbol(out: &mut Vec<u8>, head: &Head, symbol: u32) {
    if head.symbols.is_vacant(symbol) {
        out.push(NO_SYMBOL);
        return;
    }
    out.push(SYMBOL);
    put_text(out, head.symbols.text(symbol));
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn put_pair(out: &mut Vec<u8>, head: &Head, id: u32) {
    if head.index.is_vacant(id) {
        out.push(NO_PAIR);
        return;
    }
    out.push(PAIR);
    put_symbols(out, head.index.pair(id));
}

fn put_symbols(out: &mut Vec<u8>, pair: Pair) {
    for symbol in [pair.tenant, pair.name, pair.value] {
        put(out, u64::from(symbol));
    }
}

fn put_series(out: &mut Vec<u8>, head: &Head, number: u32) {
    let series = &head.series[number];
    out.push(SERIES);
    out.extend_from_slice(&series.key.0.to_le_bytes());
    put(out, u64::from(series.pairs_count));
    for pair in head.pairs_of(number) {
        put(out, u64::from(pair));
    }
    let open = series.open();
    out.extend_from_slice(&open.map_or(0, |open| open.min_ms).to_le_bytes());
    out.extend_from_slice(&series.open_end_ms().to_le_bytes());
    match open.filter(|open| open.encoding == Encoding::Xor) {
        Some(open) => {
            put(out, open.len() as u64);
            open.write_to(out);
        }
        None => put(out, 0),
    }
    let late = series.late().map_or(&[][..], |late| late.samples());
    put(out, late.len() as u64);
    for (timestamp_ms, bits) in late {
        out.extend_from_slice(&timestamp_ms.to_le_bytes());
        out.extend_from_slice(&bits.to_le_bytes());
    }
}

/// What a series has of histograms in memory, after its own entry.
fn put_histograms(out: &mut Vec<u8>, series: &Series) {
    if let Some(open) = series.open().filter(|open| open.encoding != Encoding::Xor) {
        out.push(OPEN_HISTOGRAMS);
        put_encoded(out, open.encoding, &open.to_bytes());
    }
    let late = series.late().map_or(&[][..], |late| late.histograms());
    if !late.is_empty() {
        out.push(LATE_HISTOGRAMS);
        put(out, late.len() as u64);
        for histogram in late {
            put_encoded(out, histogram.encoding, &histogram.bytes);
        }
    }
}

fn put_encoded(out: &mut Vec<u8>, encoding: Encoding, bytes: &[u8]) {
    out.push(encoding as u8);
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_closed(out: &mut Vec<u8>, kind: u8, closed: &[ClosedChunk]) {
    out.push(kind);
    put(out, closed.len() as u64);
    for chunk in closed {
        out.extend_from_slice(&chunk.min_ms.to_le_bytes());
        put(out, u64::from(chunk.span_ms));
        put(out, u64::from(chunk.place.file));
        put(out, u64::from(chunk.place.offset));
        put(out, u64::from(chunk.place.raw_len_encoding()));
    }
}

/// Fills an empty head from pages. After an error the head is to be thrown away.
#[derive(Default)]
pub struct ImageLoader {
    /// For each run of series: the first one after it, and the sequence number its page was made at.
    runs: Vec<(u32, u64)>,
    extras: ExtrasLoader,
}

impl ImageLoader {
    /// Adds the entries of the next page, which was made while the frame `seq` was being filled.
    pub fn page(&mut self, head: &mut Head, seq: u64, bytes: &[u8]) -> Result<(), ImageError> {
        let mut reader = Reader { bytes, offset: 0 };
        while reader.offset < bytes.len() {
            match reader.take(1)?[0] {
                SYMBOL => reader.symbol(head)?,
                PAIR => reader.pair(head)?,
                SERIES => reader.series(head)?,
                CLOSED => reader.closed(head, |series, chunk| series.restore_closed(chunk))?,
                LATE_CLOSED => {
                    reader.closed(head, |series, chunk| series.late_mut().restore_closed(chunk))?
                }
                OPEN_HISTOGRAMS => reader.open_histograms(head)?,
                LATE_HISTOGRAMS => reader.late_histograms(head)?,
                TENANT => reader.tenant(head)?,
                SYMBOL_AT => reader.symbol_at(head)?,
                PAIR_AT => reader.pair_at(head)?,
                NO_SYMBOL => head.symbols.push_vacant().map_err(|_| reader.malformed())?,
                NO_PAIR => head.index.push_vacant().map_err(|_| reader.malformed())?,
                NO_SERIES => head.push_vacant().map_err(|_| reader.malformed())?,
                NEXT_FILE => {
                    let next_file = reader.number()?;
                    head.log().borrow_mut().raise_next_file(next_file);
                }
                kind => self.extras.entry(kind, &mut reader, &mut head.extras.borrow_mut(), seq)?,
            }
        }
        self.runs.push((head.series_count(), seq));
        Ok(())
    }

    /// Whether the image has all that frames below some number wrote to a series: the number that its page was
    /// made at. Later frames, that one included, are to be replayed; a series newer than the image has 0.
    pub fn covered_below(&self, series: u32) -> u64 {
        let run = self.runs.partition_point(|(end, _)| *end <= series);
        self.runs.get(run).map_or(0, |(_, seq)| *seq)
    }

    /// The same for the exemplars of a tenant.
    pub fn exemplars_covered_below(&self, tenant: &str) -> u64 {
        self.extras.covered_below(tenant)
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn malformed(&self) -> ImageError {
        ImageError::Malformed { offset: self.offset }
    }

    fn undefined(&self) -> ImageError {
        ImageError::Undefined { offset: self.offset }
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], ImageError> {
        let rest = &self.bytes[self.offset..];
        let taken = usize::try_from(len).ok().and_then(|len| rest.get(..len)).ok_or(self.malformed())?;
        self.offset += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ImageError> {
        self.take(N as u64)?.try_into().map_err(|_| self.malformed())
    }

    fn time(&mut self) -> Result<i64, ImageError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    fn varint(&mut self) -> Result<u64, ImageError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.malformed())
    }

    fn number(&mut self) -> Result<u32, ImageError> {
        u32::try_from(self.varint()?).map_err(|_| self.malformed())
    }

    fn known_symbol(&mut self, head: &Head) -> Result<u32, ImageError> {
        let symbol = self.number()?;
        if symbol as usize >= head.symbols.len() { Err(self.undefined()) } else { Ok(symbol) }
    }

    fn text(&mut self) -> Result<&'a str, ImageError> {
        let len = self.varint()?;
        if len > crate::wire::LABEL_BYTES_MAX as u64 {
            return Err(self.malformed());
        }
        std::str::from_utf8(self.take(len)?).map_err(|_| self.malformed())
    }

    fn symbol_at(&mut self, head: &mut Head) -> Result<(), ImageError> {
        let symbol = self.known_symbol(head)?;
        let text = self.text()?;
        let is_there = head.symbols.restore(symbol, text).map_err(|_| self.malformed())?;
        if is_there { Ok(()) } else { Err(self.malformed()) }
    }

    fn pair_at(&mut self, head: &mut Head) -> Result<(), ImageError> {
        let id = self.number()?;
        let pair = self.symbols_of_pair(head)?;
        let (is_there, is_new) = head.index.restore(id, pair);
        if is_new {
            head.use_symbols(pair);
        }
        if is_there { Ok(()) } else { Err(self.malformed()) }
    }

    fn symbol(&mut self, head: &mut Head) -> Result<(), ImageError> {
        let text = self.text()?;
        let expected = head.symbols.len();
        let symbol = head.symbols.intern(text, false).map_err(|_| self.malformed())?;
        // A text that is there twice would shift all numbers after it.
        if symbol as usize == expected { Ok(()) } else { Err(self.malformed()) }
    }

    fn symbols_of_pair(&mut self, head: &mut Head) -> Result<Pair, ImageError> {
        let (tenant, name, value) =
            (self.known_symbol(head)?, self.known_symbol(head)?, self.known_symbol(head)?);
        head.add_tenant(tenant);
        Ok(Pair { tenant, name, value })
    }

    fn pair(&mut self, head: &mut Head) -> Result<(), ImageError> {
        let pair = self.symbols_of_pair(head)?;
        let expected = head.index.pair_count();
        // A vacant number stays vacant: the image counts it.
        let id = head.intern_pair(pair, false).map_err(|_| self.malformed())?;
        if id as usize == expected { Ok(()) } else { Err(self.malformed()) }
    }

    fn tenant(&mut self, head: &mut Head) -> Result<(), ImageError> {
        let symbol = self.known_symbol(head)?;
        let (frozen_ms, truncated_ms) = (self.time()?, self.time()?);
        head.add_tenant(symbol);
        let tenant = head.index.tenants.get_mut(&symbol).ok_or(self.undefined())?;
        (tenant.frozen_ms, tenant.truncated_ms) = (frozen_ms, truncated_ms);
        Ok(())
    }

    fn series(&mut self, head: &mut Head) -> Result<(), ImageError> {
        let key = SeriesKey(u128::from_le_bytes(self.array()?));
        let count = self.varint()?;
        if count == 0 || count > u64::from(u16::MAX) || head.find(key).is_some() {
            return Err(self.malformed());
        }
        let mut pairs = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let pair = self.number()?;
            if pair as usize >= head.index.pair_count() || head.index.is_vacant(pair) {
                return Err(self.undefined());
            }
            pairs.push(pair);
        }
        let (open_min_ms, open_end_ms) = (self.time()?, self.time()?);
        let len = self.varint()?;
        let mut words = self.take(len)?.to_vec();
        let open = if words.is_empty() {
            XorState::default()
        } else {
            XorState::resume(&mut words).map_err(|_| self.malformed())?
        };
        let tenant = head.index.pair(pairs[0]).tenant;
        let number = head.add(key, tenant, &pairs, None).map_err(|_| self.malformed())?;
        let mut late = Vec::new();
        for _ in 0..self.varint()? {
            late.push((self.time()?, u64::from_le_bytes(self.array()?)));
        }
        let mut fits = true;
        head.change(number.0, |series, _| {
            series.restore_open(open, words, open_min_ms, open_end_ms);
            for (timestamp_ms, bits) in late {
                fits &= series.late_mut().restore_sample(timestamp_ms, bits);
            }
        });
        if fits { Ok(()) } else { Err(self.malformed()) }
    }

    /// The number of the series before this entry.
    fn last_series(&self, head: &Head) -> Result<u32, ImageError> {
        let last = head.series_count().checked_sub(1).ok_or(self.undefined())?;
        if head.series[last].is_vacant() { Err(self.undefined()) } else { Ok(last) }
    }

    fn encoded(&mut self) -> Result<(Encoding, &'a [u8]), ImageError> {
        let encoding = Encoding::from_byte(self.take(1)?[0]).ok_or(self.malformed())?;
        let len = self.varint()?;
        Ok((encoding, self.take(len)?))
    }

    fn open_histograms(&mut self, head: &mut Head) -> Result<(), ImageError> {
        let last = self.last_series(head)?;
        let (encoding, bytes) = self.encoded()?;
        let open = OpenHistograms::resume(encoding, bytes.to_vec()).map_err(|_| self.malformed())?;
        head.change(last, |series, _| series.restore_histograms(open));
        Ok(())
    }

    fn late_histograms(&mut self, head: &mut Head) -> Result<(), ImageError> {
        let last = self.last_series(head)?;
        for _ in 0..self.varint()? {
            let (encoding, bytes) = self.encoded()?;
            let (timestamp_ms, _) =
                AnyHistogram::take_alone(encoding, bytes).map_err(|_| self.malformed())?;
            let late = LateHistogram { timestamp_ms, encoding, bytes: bytes.into() };
            let mut fits = false;
            head.change(last, |series, _| fits = series.late_mut().restore_histogram(late));
            if !fits {
                return Err(self.malformed());
            }
        }
        Ok(())
    }

    fn closed(
        &mut self,
        head: &mut Head,
        restore: impl Fn(&mut Series, ClosedChunk),
    ) -> Result<(), ImageError> {
        let last = self.last_series(head)?;
        for _ in 0..self.varint()? {
            let (min_ms, span_ms) = (self.time()?, self.number()?);
            let (file, offset, len_encoding) = (self.number()?, self.number()?, self.number()?);
            let place = ChunkPlace::from_raw(file, offset, len_encoding).ok_or(self.malformed())?;
            head.change(last, |series, log| {
                log.retain(place);
                restore(series, ClosedChunk { min_ms, span_ms, place });
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{Rules, SeriesIndex, Sweep};
    use proptest::prelude::*;
    use std::rc::Rc;

    const RULES: Rules = Rules::replay(7_200_000);

    fn head(series_count: u32) -> Head {
        let mut head = Head::default();
        for number in 0..series_count {
            let (tenant, value) = (format!("tenant-{}", number % 3), number.to_string());
            let labels = [("__name__", "up"), ("instance", value.as_str())];
            head.create(SeriesKey(u128::from(number) << 60), &tenant, &labels).unwrap();
        }
        head
    }

    fn content(head: &Head) -> Vec<String> {
        (0..head.series_count())
            .map(|number| {
                let series = &head.series[number];
                let closed = |chunks: &[ClosedChunk]| {
                    let log = head.log().borrow();
                    let content = |chunk: &ClosedChunk| log.pending(chunk.place).map(<[u8]>::to_vec);
                    chunks
                        .iter()
                        .map(|chunk| (chunk.min_ms, chunk.span_ms, content(chunk)))
                        .collect::<Vec<_>>()
                };
                let late = series.late().map(|late| (late.samples().to_vec(), closed(late.closed())));
                let closed = closed(series.closed());
                format!("{:?} {:?} {closed:?} {:?} {late:?}", series.key, head.labels(number), series.open())
            })
            .collect()
    }

    fn pages(head: &mut Head, mut between: impl FnMut(&mut Head)) -> Vec<Vec<u8>> {
        let (mut writer, mut page, mut pages) = (ImageWriter::default(), Vec::new(), Vec::new());
        while writer.page(head, &mut page) {
            pages.push(page.clone());
            between(head);
        }
        pages
    }

    #[test]
    fn a_loaded_head_goes_on_as_the_original() {
        let mut original = head(3000);
        for number in 0..3000 {
            for step in 0..i64::from(number) % 260 {
                original.append(SeriesIndex(number), step * 15_000, step as f64, &RULES, &()).unwrap();
            }
        }
        let pages = pages(&mut original, |_| {});
        assert!(pages.len() > 3);
        // The closed chunks are not in the image but in the log.
        let (mut loaded, mut loader) = (Head::new(Rc::clone(original.log())), ImageLoader::default());
        for (seq, page) in pages.iter().enumerate() {
            loader.page(&mut loaded, seq as u64, page).unwrap();
        }
        assert_eq!(content(&loaded), content(&original));
        assert_eq!(loader.covered_below(2999), pages.len() as u64 - 1);
        assert_eq!(loader.covered_below(3000), 0);
        for head in [&mut original, &mut loaded] {
            head.append(SeriesIndex(7), 1 << 40, 1.5, &RULES, &()).unwrap();
            head.create(SeriesKey(1), "new", &[("__name__", "down")]).unwrap();
        }
        assert_eq!(content(&loaded), content(&original));
        assert_eq!(loaded.tenant_label_values("tenant-1", "instance", 0, 2000).0.len(), 1000);
    }

    #[test]
    fn a_head_that_changes_between_pages_loads() {
        let mut original = head(20_000);
        let mut added = 0;
        let pages = pages(&mut original, |head| {
            if added < 3 {
                added += 1;
                let value = format!("late-{added}");
                head.create(SeriesKey(added), "late", &[("__name__", "x"), ("late", &value)]).unwrap();
            }
        });
        let (mut loaded, mut loader) = (Head::default(), ImageLoader::default());
        for page in &pages {
            loader.page(&mut loaded, 5, page).unwrap();
        }
        assert_eq!(loaded.series_count(), original.series_count());
        assert_eq!(content(&loaded), content(&original));
    }

    #[test]
    fn a_series_with_closed_chunks_of_both_kinds_loads() {
        let mut original = head(2);
        for step in 0..1000 {
            original.append(SeriesIndex(0), step * 15_000, step as f64, &RULES, &()).unwrap();
            original.append(SeriesIndex(0), step * 15_000 - 7_000, 0.5, &RULES, &()).unwrap();
        }
        let late = original.series[0].late().unwrap();
        assert!(original.series[0].closed().len() > CLOSED_MAX && late.closed().len() > CLOSED_MAX);
        let pages = pages(&mut original, |_| {});
        let (mut loaded, mut loader) = (Head::new(Rc::clone(original.log())), ImageLoader::default());
        for page in &pages {
            loader.page(&mut loaded, 5, page).unwrap();
        }
        assert_eq!(content(&loaded), content(&original));
    }

    #[test]
    fn a_head_with_vacant_numbers_loads() {
        let mut original = head(300);
        for number in (0..300).filter(|number| number % 7 != 0) {
            original.append(SeriesIndex(number), 9_000_000, 1.0, &RULES, &()).unwrap();
        }
        let mut sweep = Sweep::new(&original, "tenant-1", 7_200_000).unwrap();
        while !sweep.step(&mut original).unwrap() {}
        assert_eq!(sweep.vacated_count(), 14);
        original.end_rest();
        // The numbers of one pair and one series are used again, the others stay vacant.
        original.create(SeriesKey(1), "tenant-1", &[("__name__", "down")]).unwrap();
        let pages = pages(&mut original, |_| {});
        let (mut loaded, mut loader) = (Head::default(), ImageLoader::default());
        for page in &pages {
            loader.page(&mut loaded, 5, page).unwrap();
        }
        assert_eq!(content(&loaded), content(&original));
        assert_eq!(loaded.vacant_count(), original.vacant_count());
        loaded.audit().unwrap();
    }

    #[test]
    fn numbers_that_are_given_out_again_while_an_image_is_made_load() {
        let mut original = head(300);
        let mut sweep = Sweep::new(&original, "tenant-1", 7_200_000).unwrap();
        while !sweep.step(&mut original).unwrap() {}
        original.end_rest();
        let (count, symbols) = (original.series_count(), original.symbols.len());
        let mut added = Vec::new();
        original.set_imaged(true);
        let pages = pages(&mut original, |head| {
            let value = format!("new-{}", added.len());
            let labels = [("__name__", "up"), ("instance", value.as_str())];
            let series = head.create(SeriesKey(added.len() as u128 + 1), "tenant-1", &labels).unwrap();
            added.push((series.0, value));
        });
        original.set_imaged(false);
        assert!(added.len() > 3 && original.series_count() == count && original.symbols.len() == symbols);
        let (mut loaded, mut loader) = (Head::default(), ImageLoader::default());
        for page in &pages {
            loader.page(&mut loaded, 5, page).unwrap();
        }
        // The rest is in the WAL.
        for (key, (number, value)) in (1..).zip(&added) {
            let labels = [("__name__", "up"), ("instance", value.as_str())];
            loaded.create_at(*number, SeriesKey(key), "tenant-1", &labels).unwrap();
        }
        loaded.finish_replay().unwrap();
        loaded.audit().unwrap();
        assert_eq!(content(&loaded), content(&original));
    }

    proptest! {
        #[test]
        fn mutated_pages_end_in_a_result(edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6), cut in any::<proptest::sample::Index>()) {
            let mut original = head(20);
            for step in 0..130 {
                original.append(SeriesIndex(3), step, 1.0, &RULES, &()).unwrap();
            }
            let mut page = pages(&mut original, |_| {}).remove(0);
            for (at, byte) in edits {
                let at = at.index(page.len());
                page[at] = byte;
            }
            page.truncate(cut.index(page.len() + 1));
            let _ = ImageLoader::default().page(&mut Head::default(), 0, &page);
        }
    }
}
