//! Looking at a ring without writing: what a start would find in it, and what it would lose.

use super::checkpoint::Covered;
use super::error::WalError;
use super::recovery::{self, Recovery};
use super::ring::read_superblock;
use super::superblock::{self, Copy, Superblock};
use super::window::file_offset;
use crate::rt::{BLOCK_BYTES, DirectFile};

/// What a copy of the superblock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuperblockCopy {
    /// It is whole.
    Whole(SuperblockFields),
    /// It is whole, and of a newer version.
    Newer(u32),
    /// It is blank, torn or damaged.
    Unreadable,
}

/// The numbers of a superblock; `docs/format/wal.md` explains them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SuperblockFields {
    /// Rises by one with each change.
    pub generation: u64,
    /// Length that the file was made with.
    pub file_bytes: u64,
    /// Whose ring this is.
    pub shard: u32,
    /// Whether the ring was closed in order.
    pub is_clean: bool,
    /// Number of the oldest frame that is needed.
    pub tail_seq: u64,
    /// The newest frame that was durable when this was written.
    pub durable_seq: u64,
    /// Number of the opening that wrote it.
    pub epoch: u64,
}

/// What is in a ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingSurvey {
    /// The superblock that counts.
    pub superblock: SuperblockFields,
    /// Bytes of the region that frames go to.
    pub size_bytes: u64,
    /// Bytes from the oldest frame that is needed to the end of the newest.
    pub used_bytes: u64,
    /// Number and offset in the file of each frame from the tail on, as far as the history is whole.
    pub frames: Vec<(u64, u64)>,
    /// What a start would report.
    pub recovery: Recovery,
}

/// Reads both copies of the superblock.
///
/// # Errors
/// When they cannot be read, as in a file that is too short.
pub async fn superblocks(disk: &impl DirectFile) -> Result<[SuperblockCopy; 2], WalError> {
    let copies = superblock::read(disk).await;
    let copies =
        copies.map_err(|source| WalError::Io { what: "reading the superblocks of the WAL", source })?;
    Ok(copies.map(|copy| match copy {
        Copy::Valid(superblock) => SuperblockCopy::Whole(fields(&superblock)),
        Copy::Newer(version) => SuperblockCopy::Newer(version),
        Copy::Invalid => SuperblockCopy::Unreadable,
    }))
}

/// Walks a ring as a start does, and calls `visit` for each frame that `covered` does not cover.
///
/// # Errors
/// As [`super::Wal::open`], which reads in the same way.
pub async fn survey<D, F, E>(
    disk: &D,
    shard: u32,
    covered: Option<Covered>,
    visit: F,
) -> Result<RingSurvey, WalError>
where
    D: DirectFile,
    F: FnMut(u64, &[u8]) -> Result<(), E>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (superblock, _) = read_superblock(disk, shard).await?;
    let recovered = recovery::recover(disk, &superblock, covered, visit).await?;
    let blocks = superblock.region_blocks();
    let frames = recovered.live.iter().map(|live| (live.seq, file_offset(live.begin, blocks))).collect();
    let used_blocks = recovered.live.first().map_or(0, |live| recovered.next - live.begin);
    let size_bytes = blocks * BLOCK_BYTES as u64;
    let used_bytes = used_blocks * BLOCK_BYTES as u64;
    let recovery = Recovery { epoch: recovered.last_epoch + 1, ..recovered.recovery };
    Ok(RingSurvey { superblock: fields(&superblock), size_bytes, used_bytes, frames, recovery })
}

fn fields(superblock: &Superblock) -> SuperblockFields {
    SuperblockFields {
        generation: superblock.generation,
        file_bytes: superblock.file_bytes,
        shard: superblock.shard,
        is_clean: superblock.clean,
        tail_seq: superblock.tail_seq,
        durable_seq: superblock.durable_seq,
        epoch: superblock.fence.epoch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Random, SimDirectory, SimDisk, run_to_end};
    use crate::wal::Wal;

    #[test]
    fn a_survey_finds_what_a_start_finds_and_writes_nothing() {
        let disk = SimDisk::new(Random::new(1), 18 * 4096);
        let directory = SimDirectory::new(Random::new(2));
        let open = |disk: &SimDisk| {
            run_to_end(Wal::open(disk.clone(), &directory, 3, None, |_, _| Ok::<_, std::io::Error>(())))
                .unwrap()
        };
        let (wal, _) = open(&disk);
        for number in 1..=5u8 {
            run_to_end(wal.commit(&[number; 5000])).unwrap();
        }
        run_to_end(wal.release(2)).unwrap();
        disk.flip(10 * 4096, 1);
        let before = disk.bytes();
        let mut seen = Vec::new();
        let covered = Some(Covered { begin_seq: 3, end_seq: 2 });
        let found = run_to_end(survey(&disk, 3, covered, |seq, payload| {
            seen.push((seq, payload.len()));
            Ok::<_, std::io::Error>(())
        }));
        let found = found.unwrap();
        assert_eq!(disk.bytes(), before);
        assert_eq!((found.size_bytes, found.used_bytes), (16 * 4096, wal.used_bytes() - 2 * 4096));
        assert_eq!(
            (found.frames.as_slice(), seen.as_slice()),
            (&[(2, 4 * 4096), (3, 6 * 4096), (4, 8 * 4096)][..], &[(3, 5000), (4, 5000)][..])
        );
        assert_eq!(
            (found.superblock.tail_seq, found.superblock.epoch, found.superblock.is_clean),
            (2, 1, false)
        );
        let copies = run_to_end(superblocks(&disk)).unwrap();
        assert_eq!(copies, [SuperblockCopy::Whole(found.superblock); 2]);
        assert!(matches!(
            run_to_end(survey(&disk, 4, None, |_, _| Ok::<_, std::io::Error>(()))),
            Err(WalError::WrongShard { found: 3, shard: 4 })
        ));
        let (_, recovery) = open(&disk);
        assert_eq!((found.recovery.epoch, &found.recovery.torn), (recovery.epoch, &recovery.torn));
    }
}
