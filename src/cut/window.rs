//! Cutting one window: the series of all shards, sorted and merged, into a block.

use std::time::{Duration, Instant};

use annulus_shards::chunklog::{LogReadError, load};
use annulus_shards::core::{HeadSeries, ReadError, load_chunks};

use super::chunk_list::RawChunk;
use super::error::CutFailure;
use super::head::{HeadCuts, Pages, ask};
use super::losses::Losses;
use super::merge::{Unusable, merge};
use super::policy::DueWindow;
use super::sorter::{SeriesSorter, SortedRecord, SortedSeries};
use super::stop::StopSignal;
use crate::block::{BlockWriter, ChunkIn, WriteError};

/// A cut that takes longer tells how far it is, so often.
const PROGRESS_PERIOD: Duration = Duration::from_secs(30);

/// Series that are written between two looks at the stop signal.
const UNIT_SERIES: u64 = 256;

/// One window on its way.
pub struct WindowCut<'a> {
    /// Where the series come from.
    pub head: &'a dyn HeadCuts,
    /// What is cut.
    pub due: &'a DueWindow,
    /// Ends the cut.
    pub stop: &'a StopSignal,
    /// Chunks on a disk that fails are left out, instead of trying again later.
    pub is_last_try: bool,
}

impl WindowCut<'_> {
    /// Takes the series of all shards, page by page in turn, and sorts them.
    pub fn collect(
        &self,
        mut sorter: SeriesSorter,
        losses: &mut Losses<'_>,
    ) -> Result<SortedSeries, CutFailure> {
        let mut streams = ask(self.stop, self.head.stream(&self.due.tenant, self.due.below_ms - 1))?;
        let mut progress = Progress::new(self.due, "reading");
        while let Some(mut page) = self.next_page(&mut streams, &mut progress)? {
            let range = self.due.range();
            for one in &mut page {
                one.chunks.retain(|chunk| chunk.max_ms >= range.start && chunk.min_ms < range.end);
            }
            self.load(&mut page, losses)?;
            for one in page.into_iter().filter(|one| !one.chunks.is_empty()) {
                let chunks = one.chunks.iter().filter_map(|chunk| {
                    let (min_ms, max_ms, encoding) = (chunk.min_ms, chunk.max_ms, chunk.encoding);
                    Some(RawChunk { min_ms, max_ms, encoding, bytes: chunk.bytes.loaded()? })
                });
                sorter.push(one.labels, chunks).map_err(CutFailure::Sort)?;
            }
        }
        sorter.finish(self.stop)
    }

    /// Writes sorted series into a block.
    pub fn write(
        &self,
        sorted: &mut SortedSeries,
        writer: &mut BlockWriter,
        losses: &mut Losses<'_>,
    ) -> Result<(), CutFailure> {
        let range = self.due.range();
        let mut record = SortedRecord::new();
        let mut progress = Progress::new(self.due, "writing");
        while sorted.next(&mut record)? {
            if progress.series.is_multiple_of(UNIT_SERIES) && self.stop.is_set() {
                return Err(CutFailure::Stopped);
            }
            progress.add(1);
            let mut lose = |chunk: &RawChunk<'_>, error: &Unusable| {
                losses.add(&record.labels, chunk.min_ms, 1, error);
            };
            let merged = merge(record.chunks().collect(), &range, &mut lose);
            let chunks: Vec<_> = merged
                .iter()
                .map(|chunk| ChunkIn {
                    min_ms: chunk.min_ms,
                    max_ms: chunk.max_ms,
                    encoding: chunk.encoding as u8,
                    bytes: &chunk.bytes,
                })
                .collect();
            match writer.append(&record.labels, &chunks) {
                Ok(()) => {}
                Err(error @ (WriteError::Io(_) | WriteError::TooLarge { .. } | WriteError::Meta(_))) => {
                    return Err(error.into());
                }
                // The block can do without the series, and goes on.
                Err(
                    error @ (WriteError::SeriesOrder { .. }
                    | WriteError::Labels { .. }
                    | WriteError::ChunkOrder { .. }
                    | WriteError::ChunkTimes { .. }
                    | WriteError::Chunk { .. }),
                ) => losses.add(&record.labels, range.start, chunks.len(), &error),
            }
        }
        Ok(())
    }

    /// The oldest time after the window that a chunk has samples of.
    pub fn oldest_after(&self) -> Result<Option<i64>, CutFailure> {
        let below_ms = self.due.below_ms;
        let mut streams = ask(self.stop, self.head.stream(&self.due.tenant, i64::MAX))?;
        let mut progress = Progress::new(self.due, "looking for the next");
        let mut oldest_ms = None;
        while let Some(page) = self.next_page(&mut streams, &mut progress)? {
            let chunks = page.iter().flat_map(|one| &one.chunks).filter(|chunk| chunk.max_ms >= below_ms);
            let on_page_ms = chunks.map(|chunk| chunk.min_ms.max(below_ms)).min();
            oldest_ms = [oldest_ms, on_page_ms].into_iter().flatten().min();
        }
        Ok(oldest_ms)
    }

    /// The next page of the streams, which take turns: the one in front gives a page and goes to the end.
    fn next_page(
        &self,
        streams: &mut Vec<Box<dyn Pages>>,
        progress: &mut Progress<'_>,
    ) -> Result<Option<Vec<HeadSeries>>, CutFailure> {
        while let Some(stream) = streams.first_mut() {
            if self.stop.is_set() {
                return Err(CutFailure::Stopped);
            }
            if let Some(page) = stream.next()? {
                streams.rotate_left(1);
                progress.add(page.len() as u64);
                return Ok(Some(page));
            }
            streams.remove(0);
        }
        Ok(None)
    }

    /// Brings the chunks of a page into memory. Those that cannot be read are taken out.
    fn load(&self, page: &mut [HeadSeries], losses: &mut Losses<'_>) -> Result<(), CutFailure> {
        if load_chunks(page).is_ok() {
            return Ok(());
        }
        for one in page {
            let mut disk_error = None;
            one.chunks.retain_mut(|chunk| match load(std::iter::once(&mut chunk.bytes)) {
                Ok(()) => true,
                // What is damaged stays so; a disk may work again.
                Err(error @ LogReadError::Io { .. }) if !self.is_last_try => {
                    disk_error.get_or_insert(error);
                    true
                }
                Err(error) => {
                    losses.add(&one.labels, chunk.min_ms, 1, &error);
                    false
                }
            });
            if let Some(error) = disk_error {
                return Err(ReadError::Chunk(error).into());
            }
        }
        Ok(())
    }
}

/// Tells now and then how far a long cut is.
struct Progress<'a> {
    due: &'a DueWindow,
    step: &'static str,
    series: u64,
    told: Instant,
}

impl<'a> Progress<'a> {
    fn new(due: &'a DueWindow, step: &'static str) -> Progress<'a> {
        Progress { due, step, series: 0, told: Instant::now() }
    }

    fn add(&mut self, series: u64) {
        self.series += series;
        if self.told.elapsed() >= PROGRESS_PERIOD {
            self.told = Instant::now();
            tracing::info!(
                tenant = &*self.due.tenant,
                from_ms = self.due.from_ms,
                below_ms = self.due.below_ms,
                step = self.step,
                series = self.series,
                "a window is being cut"
            );
        }
    }
}
