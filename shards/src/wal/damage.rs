//! A copy of what cannot be read any more, in a file beside the ring, before the ring is written again.

use std::io;

use super::read_ahead::PIECE_BYTES;
use super::recovery::Damage;
use super::superblock::COPIES;
use crate::rt::{AppendFile, BLOCK_BYTES, DirectFile, Directory};

/// How the names of such files begin; the epoch follows.
const NAME_PREFIX: &str = "wal-damaged-";

/// The files with damaged parts that are in the directory.
pub(super) async fn list(directory: &impl Directory) -> io::Result<Vec<String>> {
    let mut names = directory.list().await?;
    names.retain(|name| name.starts_with(NAME_PREFIX) && !name.ends_with(".new"));
    names.sort_unstable();
    Ok(names)
}

/// Copies the bytes from the damage to the end of the last frame after it into `wal-damaged-<epoch>`.
///
/// The file's first block is text that describes the damage, padded with zeros; the blocks of the ring follow.
pub(super) async fn set_aside(
    disk: &impl DirectFile,
    directory: &impl Directory,
    epoch: u64,
    shard: u32,
    damage: &Damage,
) -> io::Result<String> {
    let name = format!("{NAME_PREFIX}{epoch}");
    let fresh = format!("{name}.new");
    let mut file = directory.create(&fresh).await?;

    let lost = damage.lost.clone().unwrap_or(damage.seq..=damage.seq);
    let text = format!(
        "annulus: a damaged part of a WAL ring\nshard={shard}\nepoch={epoch}\nring_offset={}\nbytes={}\n\
         lost_seqs={}-{}\nwhole_frames={}\nreason={}\n",
        damage.offset,
        damage.bytes,
        lost.start(),
        lost.end(),
        damage.whole_frames,
        damage.reason,
    );
    let mut buffer = file.allocate(BLOCK_BYTES);
    let block = buffer.as_mut();
    block.fill(0);
    block[..text.len()].copy_from_slice(text.as_bytes());
    file.append(buffer).await?;

    let region_begin = COPIES * BLOCK_BYTES as u64;
    let mut offset = damage.offset;
    let mut left = damage.bytes;
    while left > 0 {
        if offset == disk.size_bytes() {
            offset = region_begin;
        }
        let len = PIECE_BYTES.min(left).min(disk.size_bytes() - offset);
        disk.yield_now().await;
        let piece = disk.read_at(offset, len as usize).await?;
        let mut buffer = file.allocate(len as usize);
        buffer.as_mut().copy_from_slice(piece.as_ref());
        file.append(buffer).await?;
        offset += len;
        left -= len;
    }
    file.finish().await?;
    directory.publish(&fresh, &name).await?;
    Ok(name)
}
