//! From the files of a shard to its head: the newest valid checkpoint, then the frames after it.

use std::path::Path;

use super::shard::Shard;
use crate::head::{AppendError, Appended, Head, HeadFull, ImageLoader, SeriesIndex};
use crate::rt::{RingFile, ShardDirectory, monotonic_now, prepare_directory};
use crate::wal::{
    CheckpointError, Checkpoints, PageVisitor, RecordError, RecordVisitor, Recovery, Wal, WalError, decode,
};
use crate::wire::{LabelError, SeriesHasher, parse_labels};

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
}

/// Fills the shard's head from its files, and opens its ring for writing.
pub async fn recover(
    shard: &Shard,
    directory: &Path,
    ring_bytes: u64,
) -> Result<Checkpoints<ShardDirectory>, RecoverError> {
    let io = |what, path: &Path| {
        let path = path.to_owned();
        move |source| RecoverError::Io { what, path, source }
    };
    prepare_directory(directory, shard.index).await.map_err(io("preparing", directory))?;
    let files = ShardDirectory::new(directory.to_owned());
    let began = monotonic_now();

    let mut image = Image::default();
    let (checkpoints, loaded) = Checkpoints::load(files.clone(), shard.index as u32, &mut image).await?;
    for invalid in &loaded.invalid {
        tracing::error!(
            shard = shard.index,
            checkpoint = invalid.name,
            reason = %invalid.reason,
            "a checkpoint cannot be used; an older one, or the WAL alone, takes its place"
        );
    }
    if loaded.covered.is_some() {
        tracing::info!(
            shard = shard.index,
            series = image.head.series_count(),
            bytes = loaded.bytes,
            seconds = format!("{:.3}", (monotonic_now() - began).as_secs_f64()),
            "checkpoint loaded"
        );
    }

    let path = ring_path(directory);
    let exists = path.try_exists().map_err(io("looking for", &path))?;
    let ring = if exists {
        RingFile::open(&path).await.map_err(io("opening", &path))?
    } else {
        RingFile::create(&path, ring_bytes).await.map_err(io("making", &path))?
    };
    let Image { mut head, loader } = image;
    let mut replay = Replay::new(&mut head, &loader, &shard.hasher);
    let (wal, recovery) = Wal::open(ring, &files, shard.index as u32, loaded.covered, |seq, payload| {
        replay.frame(seq, payload)
    })
    .await?;
    report(shard, &recovery, &replay);
    tracing::info!(
        shard = shard.index,
        frames = recovery.frames,
        samples = replay.samples,
        known_samples = replay.known_samples,
        seconds = format!("{:.3}", (monotonic_now() - began).as_secs_f64()),
        "WAL replayed"
    );
    shard.metrics.ring_size_bytes.set(wal.size_bytes() as i64);
    shard.metrics.ring_used_bytes.set(wal.used_bytes() as i64);
    *shard.head.borrow_mut() = head;
    assert!(shard.wal.set(wal).is_ok(), "a shard recovers once");
    Ok(checkpoints)
}

/// Says exactly what is missing, if anything is.
fn report(shard: &Shard, recovery: &Recovery, replay: &Replay<'_>) {
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
    if let Some(refusal) = replay.first_refusal {
        tracing::error!(
            shard = shard.index,
            samples = replay.refused_samples,
            first = %refusal,
            "samples of the WAL do not fit to the head; this is a bug, and they are left out"
        );
    }
}

/// The head that a checkpoint brings.
#[derive(Default)]
struct Image {
    head: Head,
    loader: ImageLoader,
}

impl PageVisitor for Image {
    fn reset(&mut self) {
        *self = Image::default();
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
    pub fn new(head: &'a mut Head, image: &'a ImageLoader, hasher: &'a SeriesHasher) -> Replay<'a> {
        Replay { head, image, hasher, samples: 0, known_samples: 0, refused_samples: 0, first_refusal: None }
    }

    /// Applies the records of one frame.
    pub fn frame(&mut self, seq: u64, payload: &[u8]) -> Result<(), ReplayError> {
        let mut frame = FrameReplay { replay: self, seq, result: Ok(()) };
        decode(payload, &mut frame)?;
        frame.result
    }

    fn series(&mut self, reference: u32, tenant: &str, label_bytes: &[u8]) -> Result<(), ReplayError> {
        let known = self.head.series_count();
        if reference > known {
            return Err(ReplayError::UnknownSeries { reference, known });
        }
        // The checkpoint's image has it already.
        if reference < known {
            return Ok(());
        }
        let labels = parse_labels(label_bytes).map_err(|error| ReplayError::Labels { reference, error })?;
        let key = self.hasher.tenant(tenant).key(label_bytes);
        self.head.create(key, tenant, &labels).map(drop).map_err(ReplayError::HeadFull)
    }

    #[inline]
    fn sample(&mut self, seq: u64, reference: u32, timestamp_ms: i64, value: f64) -> Result<(), ReplayError> {
        let known = self.head.series_count();
        if reference >= known {
            return Err(ReplayError::UnknownSeries { reference, known });
        }
        if seq < self.image.covered_below(reference) {
            self.known_samples += 1;
            return Ok(());
        }
        match self.head.append(SeriesIndex(reference), timestamp_ms, value) {
            Ok(Appended::Stored) => self.samples += 1,
            Ok(Appended::Repeat) => self.known_samples += 1,
            Err(error) => {
                self.refused_samples += 1;
                self.first_refusal.get_or_insert(error);
            }
        }
        Ok(())
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
            self.result = self.replay.series(reference, tenant, label_bytes);
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
