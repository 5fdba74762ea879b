//! The head as pages of bytes, for checkpoints, and back. `docs/format/checkpoint.md` has the bytes.
//!
//! Pages are made one at a time while the head goes on changing; what comes after a page's making is in the WAL.
//! An entry refers only to entries before it: symbols come first, then pairs, then series, and what was added
//! since the last page comes before that page's series.

use std::sync::Arc;

use super::error::ImageError;
use super::index::Pair;
use super::key::SeriesKey;
use super::series::ClosedChunk;
use super::store::Head;
use crate::chunk::XorAppender;

/// A page ends with the entry that fills it to this size: some 100 µs of work.
const PAGE_BYTES: usize = 128 << 10;

/// First byte of an entry: a symbol (length, text).
const SYMBOL: u8 = 1;
/// A pair (symbols of tenant, name and value).
const PAIR: u8 = 2;
/// A series (key, pairs, open chunk).
const SERIES: u8 = 3;
/// Closed chunks of the series before it, the next in order of time.
const CLOSED: u8 = 4;

/// Closed chunks of one entry: a page must not grow with the age of a series.
const CLOSED_MAX: usize = 64;

/// Makes the pages of one checkpoint.
#[derive(Default)]
pub struct ImageWriter {
    symbols_done: u32,
    pairs_done: u32,
    series_done: u32,
    /// Of the series written last: closed chunks written, and how many there were when its open chunk was written.
    /// Later ones were that open chunk.
    closed_done: usize,
    closed_count: usize,
}

impl ImageWriter {
    /// Writes the next page into `out`, which is cleared first. Answers `false` when all series were written.
    pub fn page(&mut self, head: &Head, out: &mut Vec<u8>) -> bool {
        out.clear();
        while out.len() < PAGE_BYTES {
            if self.closed_done < self.closed_count {
                let closed = &head.series[self.series_done - 1].closed()[self.closed_done..self.closed_count];
                let closed = &closed[..closed.len().min(CLOSED_MAX)];
                put_closed(out, closed);
                self.closed_done += closed.len();
            } else if (self.symbols_done as usize) < head.symbols.len() {
                put_symbol(out, head.symbols.text(self.symbols_done));
                self.symbols_done += 1;
            } else if (self.pairs_done as usize) < head.index.pair_count() {
                put_pair(out, head.index.pair(self.pairs_done));
                self.pairs_done += 1;
            } else if self.series_done < head.series_count() {
                put_series(out, head, self.series_done);
                (self.closed_done, self.closed_count) = (0, head.series[self.series_done].closed().len());
                self.series_done += 1;
            } else {
                break;
            }
        }
        !out.is_empty()
    }

    /// Series written so far.
    pub fn series_done(&self) -> u32 {
        self.series_done
    }
}

fn put(out: &mut Vec<u8>, value: u64) {
    crate::wire::put_varint(out, value);
}

fn put_symbol(out: &mut Vec<u8>, text: &str) {
    out.push(SYMBOL);
    put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn put_pair(out: &mut Vec<u8>, pair: Pair) {
    out.push(PAIR);
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
    let (min_ms, max_ms, bytes) = series.open().unwrap_or((0, 0, &[]));
    put_chunk(out, min_ms, max_ms, bytes);
}

fn put_closed(out: &mut Vec<u8>, closed: &[ClosedChunk]) {
    out.push(CLOSED);
    put(out, closed.len() as u64);
    for chunk in closed {
        put_chunk(out, chunk.min_ms, chunk.max_ms, &chunk.bytes);
    }
}

fn put_chunk(out: &mut Vec<u8>, min_ms: i64, max_ms: i64, bytes: &[u8]) {
    out.extend_from_slice(&min_ms.to_le_bytes());
    out.extend_from_slice(&max_ms.to_le_bytes());
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Fills an empty head from pages. After an error the head is to be thrown away.
#[derive(Default)]
pub struct ImageLoader {
    /// For each run of series: the first one after it, and the sequence number its page was made at.
    runs: Vec<(u32, u64)>,
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
                CLOSED => reader.closed(head)?,
                _ => return Err(reader.malformed()),
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

    fn symbol(&mut self, head: &mut Head) -> Result<(), ImageError> {
        let len = self.varint()?;
        if len > crate::wire::LABEL_BYTES_MAX as u64 {
            return Err(self.malformed());
        }
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| self.malformed())?;
        let expected = head.symbols.len();
        let symbol = head.symbols.intern(text).map_err(|_| self.malformed())?;
        // A text that is there twice would shift all numbers after it.
        if symbol as usize == expected { Ok(()) } else { Err(self.malformed()) }
    }

    fn pair(&mut self, head: &mut Head) -> Result<(), ImageError> {
        let pair = Pair { tenant: self.number()?, name: self.number()?, value: self.number()? };
        if [pair.tenant, pair.name, pair.value].iter().any(|symbol| *symbol as usize >= head.symbols.len()) {
            return Err(self.undefined());
        }
        let expected = head.index.pair_count();
        let id = head.index.intern(pair).map_err(|_| self.malformed())?;
        if id as usize == expected { Ok(()) } else { Err(self.malformed()) }
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
            if pair as usize >= head.index.pair_count() {
                return Err(self.undefined());
            }
            pairs.push(pair);
        }
        let (open_min_ms, _, bytes) = self.chunk()?;
        let open = if bytes.is_empty() {
            XorAppender::default()
        } else {
            XorAppender::resume(bytes.to_vec()).map_err(|_| self.malformed())?
        };
        let tenant = head.index.pair(pairs[0]).tenant;
        let number = head.add(key, tenant, &pairs).map_err(|_| self.malformed())?;
        head.series[number.0].restore_open(open, open_min_ms);
        head.chunk_bytes += bytes.len() as u64;
        Ok(())
    }

    fn closed(&mut self, head: &mut Head) -> Result<(), ImageError> {
        let last = head.series_count().checked_sub(1).ok_or(self.undefined())?;
        for _ in 0..self.varint()? {
            let (min_ms, max_ms, bytes) = self.chunk()?;
            head.series[last].restore_closed(ClosedChunk { min_ms, max_ms, bytes: Arc::from(bytes) });
            head.chunk_bytes += bytes.len() as u64;
        }
        Ok(())
    }

    fn chunk(&mut self) -> Result<(i64, i64, &'a [u8]), ImageError> {
        let (min_ms, max_ms) = (i64::from_le_bytes(self.array()?), i64::from_le_bytes(self.array()?));
        let len = self.varint()?;
        Ok((min_ms, max_ms, self.take(len)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::SeriesIndex;
    use proptest::prelude::*;

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
                let closed: Vec<_> =
                    series.closed().iter().map(|chunk| (chunk.min_ms, chunk.max_ms, &chunk.bytes)).collect();
                format!("{:?} {:?} {closed:?} {:?}", series.key, head.labels(number), series.open())
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
                original.append(SeriesIndex(number), step * 15_000, step as f64).unwrap();
            }
        }
        let pages = pages(&mut original, |_| {});
        assert!(pages.len() > 3);
        let (mut loaded, mut loader) = (Head::default(), ImageLoader::default());
        for (seq, page) in pages.iter().enumerate() {
            loader.page(&mut loaded, seq as u64, page).unwrap();
        }
        assert_eq!(content(&loaded), content(&original));
        assert_eq!(loaded.chunk_bytes(), original.chunk_bytes());
        assert_eq!(loader.covered_below(2999), pages.len() as u64 - 1);
        assert_eq!(loader.covered_below(3000), 0);
        for head in [&mut original, &mut loaded] {
            head.append(SeriesIndex(7), 1 << 40, 1.5).unwrap();
            head.create(SeriesKey(1), "new", &[("__name__", "down")]).unwrap();
        }
        assert_eq!(content(&loaded), content(&original));
        assert_eq!(loaded.tenant_label_values("tenant-1", "instance", 0, 2000).len(), 1000);
    }

    #[test]
    fn a_head_that_changes_between_pages_loads() {
        let mut original = head(5000);
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

    proptest! {
        #[test]
        fn mutated_pages_end_in_a_result(edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6), cut in any::<proptest::sample::Index>()) {
            let mut original = head(20);
            for step in 0..130 {
                original.append(SeriesIndex(3), step, 1.0).unwrap();
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
