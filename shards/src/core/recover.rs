//! From the files of a shard to its head: the newest valid checkpoint, then the frames after it.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::shard::Shard;
use crate::chunk::AnyHistogram;
use crate::chunklog::{ChunkLog, ChunkLogWriter, LogWriteError, file_name};
use crate::exemplars::{Exemplar, parse_exemplar_labels};
use crate::head::{AppendError, Appended, ExtraLimits, Head, HeadFull, ImageLoader, SeriesIndex, SeriesKey};
use crate::metadata::MetricKind;
use crate::rt::{DirectFile, Directory, RingFile, ShardDirectory, monotonic_now, prepare_directory};
use crate::wal::{
    CheckpointError, Checkpoints, ExemplarRecord, Invalid, MetadataRecord, PageVisitor, RecordError,
    RecordVisitor, Recovery, Wal, WalError, decode,
};
use crate::wire::{LabelError, SeriesHasher, parse_canonical, parse_labels};

/// Why a shard cannot start from its files.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The system refused something.
    #[error("{what} {path}: {source}", path = path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No checkpoint can be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The ring cannot be read, or a record in it cannot be replayed.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// Chunk files that nothing needs cannot be removed.
    #[error(transparent)]
    Chunks(#[from] LogWriteError),
    /// More labels than the head can number.
    #[error("the head has more labels than it can number")]
    HeadFull,
}

/// A shard as its files have it.
pub struct Recovered<D: Directory, F: DirectFile> {
    /// Series and samples.
    pub head: Head,
    /// The ring, ready for writing.
    pub wal: Wal<F>,
    /// Makes further checkpoints.
    pub checkpoints: Checkpoints<D>,
    /// Writes closed chunks.
    pub chunks: ChunkLogWriter<D>,
    /// What there is to tell.
    pub report: Report,
}

/// What a recovery found.
#[derive(Debug, Default)]
pub struct Report {
    /// Series and size of the checkpoint, if there was one.
    pub checkpoint: Option<(u32, u64)>,
    /// Checkpoints that cannot be used.
    pub invalid: Vec<Invalid>,
    /// How long the checkpoint took to load.
    pub checkpoint_duration: Duration,
    /// What the ring had.
    pub ring: Recovery,
    /// Samples that frames after the checkpoint brought.
    pub samples: u64,
    /// Samples that the checkpoint had already.
    pub known_samples: u64,
    /// Samples that the head refused, which it never should: what is in the WAL was accepted once.
    pub refused_samples: u64,
    /// The first of them.
    pub first_refusal: Option<AppendError>,
    /// Chunk files that are needed and not there, and how many chunks of them are lost.
    pub missing_files: (Vec<u32>, u64),
}

/// Fills a head from a shard's files: the newest valid checkpoint, then the frames after it.
pub async fn recover_files<D, F>(
    files: D,
    ring: F,
    shard: u32,
    hasher: &SeriesHasher,
    window_ms: i64,
    limits: ExtraLimits,
) -> Result<Recovered<D, F>, RecoverError>
where
    D: Directory + Clone,
    F: DirectFile,
{
    let log = Rc::new(RefCell::new(ChunkLog::default()));
    list_chunks(&files, &log).await?;
    let mut image = Image::new(Rc::clone(&log), limits);
    let began = monotonic_now();
    let (checkpoints, loaded) = Checkpoints::load(files.clone(), shard, &mut image).await?;
    let checkpoint_duration = monotonic_now() - began;
    let mut report = Report { invalid: loaded.invalid, checkpoint_duration, ..Report::default() };
    report.checkpoint = loaded.covered.map(|_| (image.head.series_count(), loaded.bytes));
    let Image { mut head, loader, .. } = image;
    let mut replay = Replay::new(&mut head, &loader, hasher, window_ms);
    let frame = |seq, payload: &[u8]| replay.frame(seq, payload);
    let (wal, ring) = Wal::open(ring, &files, shard, loaded.covered, frame).await?;
    report.ring = ring;
    (report.samples, report.known_samples) = (replay.samples, replay.known_samples);
    (report.refused_samples, report.first_refusal) = (replay.refused_samples, replay.first_refusal);
    head.finish_replay().map_err(|_| RecoverError::HeadFull)?;
    let missing = log.borrow().missing_files();
    if !missing.is_empty() {
        report.missing_files = (missing, head.drop_missing());
    }
    let mut chunks = ChunkLogWriter::new(files);
    let unneeded = log.borrow_mut().take_unneeded(|_| false);
    chunks.remove(&unneeded).await?;
    Ok(Recovered { head, wal, checkpoints, chunks, report })
}

/// Adds the chunk files that are there.
pub(super) async fn list_chunks<D: Directory>(
    files: &D,
    log: &RefCell<ChunkLog>,
) -> Result<(), RecoverError> {
    let io = |name: &str| {
        let path = std::path::PathBuf::from(name);
        move |source| RecoverError::Io { what: "opening", path, source }
    };
    for (file, window_ms) in ChunkLogWriter::list(files).await.map_err(io("the shard's directory"))? {
        let name = file_name(file, window_ms);
        let reader = files.reader(&name).await.map_err(io(&name))?;
        let size_bytes = reader.size_bytes().map_err(io(&name))?;
        // A file that somebody has made longer is read as far as a place can say.
        let size_bytes = u32::try_from(size_bytes).unwrap_or(u32::MAX);
        log.borrow_mut().add_existing(file, window_ms, size_bytes, reader);
    }
    Ok(())
}

/// Fills the shard's head from its files, and opens its ring for writing.
pub async fn recover(
    shard: &Shard,
    directory: &Path,
    ring_bytes: u64,
    limits: ExtraLimits,
) -> Result<(Checkpoints<ShardDirectory>, ChunkLogWriter<ShardDirectory>), RecoverError> {
    let io = |what, path: &Path| {
        let path = path.to_owned();
        move |source| RecoverError::Io { what, path, source }
    };
    prepare_directory(directory, shard.index).await.map_err(io("preparing", directory))?;
    let began = monotonic_now();
    let path = ring_path(directory);
    let exists = path.try_exists().map_err(io("looking for", &path))?;
    let ring = if exists {
        RingFile::open(&path).await.map_err(io("opening", &path))?
    } else {
        RingFile::create(&path, ring_bytes).await.map_err(io("making", &path))?
    };
    let files = ShardDirectory::new(directory.to_owned());
    let window_ms = shard.windows.block_ms;
    let recovered = recover_files(files, ring, shard.index as u32, &shard.hasher, window_ms, limits).await?;
    let Recovered { head, wal, checkpoints, chunks, report } = recovered;
    tell(shard, &report);
    tracing::info!(
        shard = shard.index,
        checkpoint_series = report.checkpoint.map_or(0, |(series, _)| series),
        checkpoint_bytes = report.checkpoint.map_or(0, |(_, bytes)| bytes),
        checkpoint_seconds = format!("{:.3}", report.checkpoint_duration.as_secs_f64()),
        frames = report.ring.frames,
        samples = report.samples,
        known_samples = report.known_samples,
        seconds = format!("{:.3}", (monotonic_now() - began).as_secs_f64()),
        "recovered"
    );
    shard.metrics.ring_size_bytes.set(wal.size_bytes() as i64);
    shard.metrics.ring_used_bytes.set(wal.used_bytes() as i64);
    *shard.head.borrow_mut() = head;
    assert!(shard.wal.set(wal).is_ok(), "a shard recovers once");
    Ok((checkpoints, chunks))
}

/// Says exactly what is missing, if anything is.
fn tell(shard: &Shard, report: &Report) {
    let recovery = &report.ring;
    for invalid in &report.invalid {
        tracing::error!(
            shard = shard.index,
            checkpoint = invalid.name,
            reason = %invalid.reason,
            "a checkpoint cannot be used; an older one, or the WAL alone, takes its place"
        );
    }
    if report.missing_files.1 > 0 {
        shard.metrics.lost_chunks.inc_by(report.missing_files.1);
        tracing::error!(
            shard = shard.index,
            files = ?report.missing_files.0,
            chunks = report.missing_files.1,
            "chunk files are not there: their samples are lost"
        );
    }
    if let Some(torn) = &recovery.torn {
        tracing::info!(
            shard = shard.index,
            seq = torn.seq,
            offset = torn.offset,
            reason = %torn.reason,
            "the last frame of the WAL was never finished, and so never acknowledged; it is left out"
        );
    }
    for missing in &recovery.missing {
        shard.metrics.lost_frames.inc_by(missing.end() - missing.start() + 1);
        tracing::error!(
            shard = shard.index,
            first_seq = missing.start(),
            last_seq = missing.end(),
            "acknowledged frames are in neither the WAL nor a checkpoint that can be read: their samples are lost"
        );
    }
    for damage in &recovery.damage {
        let lost = damage.lost.as_ref();
        shard.metrics.lost_frames.inc_by(lost.map_or(0, |lost| lost.end() - lost.start() + 1));
        tracing::error!(
            shard = shard.index,
            offset = damage.offset,
            reason = %damage.reason,
            first_lost_seq = lost.map(|lost| *lost.start()),
            last_lost_seq = lost.map(|lost| *lost.end()),
            whole_frames_after = damage.whole_frames,
            set_aside = damage.set_aside,
            "the WAL is damaged; the shard starts with what comes before"
        );
    }
    if let Some(refusal) = report.first_refusal {
        tracing::error!(
            shard = shard.index,
            samples = report.refused_samples,
            first = %refusal,
            "samples of the WAL do not fit to the head; this is a bug, and they are left out"
        );
    }
}

/// The head that a checkpoint brings.
pub(super) struct Image {
    /// What its pages had.
    pub head: Head,
    /// Which frames the pages include.
    pub loader: ImageLoader,
    limits: ExtraLimits,
}

impl Image {
    /// An empty head; its chunks are in `log`.
    pub fn new(log: Rc<RefCell<ChunkLog>>, limits: ExtraLimits) -> Image {
        let head = Head::new(log).with_extra_limits(limits);
        Image { head, loader: ImageLoader::default(), limits }
    }
}

impl PageVisitor for Image {
    fn reset(&mut self) {
        let log = Rc::clone(self.head.log());
        log.borrow_mut().forget_live();
        *self = Image::new(log, self.limits);
    }

    fn page(&mut self, seq: u64, bytes: &[u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.loader.page(&mut self.head, seq, bytes)?)
    }
}

/// Why the records of a valid frame cannot be replayed; each is a fault of a program, not of a disk.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The payload is not what this version writes.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A series record whose labels are not a label set.
    #[error("series {reference}: {error}")]
    Labels {
        /// The series.
        reference: u32,
        /// What is wrong.
        error: LabelError,
    },
    /// A record of a series that neither the checkpoint nor a frame before it defines.
    #[error("a record refers to series {reference}, and {known} are known")]
    UnknownSeries {
        /// The series.
        reference: u32,
        /// How many there are.
        known: u32,
    },
    /// More series than the head can number.
    #[error(transparent)]
    HeadFull(HeadFull),
}

/// Replays frames into a head.
pub struct Replay<'a> {
    head: &'a mut Head,
    image: &'a ImageLoader,
    hasher: &'a SeriesHasher,
    window_ms: i64,
    /// Samples that the head took.
    pub samples: u64,
    /// Samples that the checkpoint's image had already.
    pub known_samples: u64,
    /// Samples that the head refused, which it never should: what is in the WAL was accepted once.
    pub refused_samples: u64,
    /// The first of them.
    pub first_refusal: Option<AppendError>,
}

impl<'a> Replay<'a> {
    /// Into a head that an image filled (or that is empty).
    pub fn new(
        head: &'a mut Head,
        image: &'a ImageLoader,
        hasher: &'a SeriesHasher,
        window_ms: i64,
    ) -> Replay<'a> {
        Replay {
            head,
            image,
            hasher,
            window_ms,
            samples: 0,
            known_samples: 0,
            refused_samples: 0,
            first_refusal: None,
        }
    }

    /// Applies the records of one frame.
    pub fn frame(&mut self, seq: u64, payload: &[u8]) -> Result<(), ReplayError> {
        let mut frame = FrameReplay { replay: self, seq, result: Ok(()) };
        decode(payload, &mut frame)?;
        frame.result
    }

    fn series(
        &mut self,
        seq: u64,
        reference: u32,
        tenant: &str,
        label_bytes: &[u8],
    ) -> Result<(), ReplayError> {
        let known = self.head.series_count();
        if reference > known {
            return Err(ReplayError::UnknownSeries { reference, known });
        }
        // The checkpoint's image has it already, or the series that got its number later.
        if seq < self.image.covered_below(reference) {
            return Ok(());
        }
        let labels = parse_canonical(label_bytes).map_or_else(|| parse_labels(label_bytes), Ok);
        let labels = labels.map_err(|error| ReplayError::Labels { reference, error })?;
        let key = self.hasher.tenant(tenant).key(label_bytes);
        self.head.create_at(reference, key, tenant, &labels).map_err(ReplayError::HeadFull)
    }

    /// An exemplar whose series has gone, or that is refused, is one that newer ones or lower limits have taken the
    /// place of.
    fn exemplar(&mut self, seq: u64, record: ExemplarRecord<'_>) {
        let Some(series) = self.head.find(SeriesKey(record.key)) else { return };
        let covered = |tenant: &str| seq < self.image.exemplars_covered_below(tenant);
        if self.head.tenant_of(series.0).is_none_or(covered) {
            return;
        }
        if let Ok(labels) = parse_exemplar_labels(record.label_bytes) {
            let ExemplarRecord { timestamp_ms, value, .. } = record;
            let _ = self.head.append_exemplar(series, Exemplar { labels, value, timestamp_ms });
        }
    }

    /// What the image has too changes nothing.
    fn metadata(&mut self, record: MetadataRecord<'_>) {
        let MetadataRecord { tenant, family, kind, help, unit } = record;
        let store = &mut self.head.extras_mut().metadata;
        // The limits may be lower than they were.
        let _ = store.describe(tenant, family, MetricKind::of_number(kind), help, unit);
    }

    #[inline]
    fn sample(&mut self, seq: u64, reference: u32, timestamp_ms: i64, value: f64) -> Result<(), ReplayError> {
        if seq < self.image.covered_below(reference) {
            self.known_samples += 1;
            return Ok(());
        }
        let series = SeriesIndex(reference);
        if !self.head.is_occupied(series) {
            return Err(ReplayError::UnknownSeries { reference, known: self.head.series_count() });
        }
        let taken = self.head.replay(series, timestamp_ms, value, self.window_ms);
        self.count(taken);
        Ok(())
    }

    fn histogram(
        &mut self,
        seq: u64,
        reference: u32,
        timestamp_ms: i64,
        histogram: &AnyHistogram,
    ) -> Result<(), ReplayError> {
        if seq < self.image.covered_below(reference) {
            self.known_samples += 1;
            return Ok(());
        }
        let series = SeriesIndex(reference);
        if !self.head.is_occupied(series) {
            return Err(ReplayError::UnknownSeries { reference, known: self.head.series_count() });
        }
        let taken = self.head.replay_histogram(series, timestamp_ms, histogram, self.window_ms);
        self.count(taken);
        Ok(())
    }

    #[inline]
    fn count(&mut self, taken: Result<Appended, AppendError>) {
        match taken {
            Ok(Appended::Stored | Appended::Late | Appended::Unread(_)) => self.samples += 1,
            Ok(Appended::Repeat) => self.known_samples += 1,
            Err(error) => {
                self.refused_samples += 1;
                self.first_refusal.get_or_insert(error);
            }
        }
    }
}

/// Takes the records of one frame, up to the first that cannot be replayed.
struct FrameReplay<'a, 'b> {
    replay: &'a mut Replay<'b>,
    seq: u64,
    result: Result<(), ReplayError>,
}

impl RecordVisitor for FrameReplay<'_, '_> {
    fn series(&mut self, reference: u32, tenant: &str, label_bytes: &[u8]) {
        if self.result.is_ok() {
            self.result = self.replay.series(self.seq, reference, tenant, label_bytes);
        }
    }

    fn bounds(&mut self, tenant: &str, frozen_ms: i64, truncated_ms: i64) {
        if self.result.is_ok() {
            let set = self.replay.head.set_bounds(tenant, frozen_ms, truncated_ms);
            self.result = set.map_err(ReplayError::HeadFull);
        }
    }

    fn histogram(&mut self, reference: u32, timestamp_ms: i64, histogram: &AnyHistogram) {
        if self.result.is_ok() {
            self.result = self.replay.histogram(self.seq, reference, timestamp_ms, histogram);
        }
    }

    fn exemplar(&mut self, exemplar: ExemplarRecord<'_>) {
        if self.result.is_ok() {
            self.replay.exemplar(self.seq, exemplar);
        }
    }

    fn metadata(&mut self, metadata: MetadataRecord<'_>) {
        if self.result.is_ok() {
            self.replay.metadata(metadata);
        }
    }

    #[inline]
    fn sample(&mut self, reference: u32, timestamp_ms: i64, value: f64) {
        if self.result.is_ok() {
            self.result = self.replay.sample(self.seq, reference, timestamp_ms, value);
        }
    }
}

/// Where the WAL ring of a shard is.
fn ring_path(directory: &Path) -> std::path::PathBuf {
    directory.join("wal")
}
