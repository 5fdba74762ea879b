//! The native histograms of a batch, after its float samples.

use super::{PAYLOAD_BYTES_MAX, Run, Shard};
use crate::core::apply::Target;
use crate::core::apply_histograms::apply_histograms;
use crate::core::batch::WriteBatch;
use crate::core::chunks::ChunksRead;
use crate::core::outcome::{Failure, Outcome};
use crate::rt::{Pace, Platform};
use crate::wire::HistogramRow;

impl<P: Platform> Shard<P> {
    /// Applies histograms of a batch. On a failure, those that were not looked at are counted as failed.
    pub(super) async fn write_histograms(
        &self,
        batch: &WriteBatch,
        rows: &[HistogramRow],
        run: &mut Run,
        read: &ChunksRead,
        outcome: &mut Outcome,
        pacer: &mut P::Pace,
    ) -> Result<(), Failure> {
        let mut rest = rows;
        while !rest.is_empty() {
            if self.open.borrow().records.len() >= PAYLOAD_BYTES_MAX {
                // Nobody who waits for this frame may have told the committer of it yet.
                self.work.notify();
                self.room.wait_until(|| self.open.borrow().records.len() < PAYLOAD_BYTES_MAX).await;
                pacer.restart();
            }
            let applied = match self.refusal() {
                None => self.apply_histograms(batch, rest, run, read, outcome),
                Some(failure) => {
                    outcome.failed += rest.len() as u64;
                    Err(failure)
                }
            };
            rest = &rest[applied?..];
            pacer.pace().await;
        }
        Ok(())
    }

    fn apply_histograms(
        &self,
        batch: &WriteBatch,
        rows: &[HistogramRow],
        run: &mut Run,
        read: &ChunksRead,
        outcome: &mut Outcome,
    ) -> Result<usize, Failure> {
        let Some(wal) = self.wal.get() else {
            outcome.failed += rows.len() as u64;
            return Err(Failure::Recovering);
        };
        let head = &mut *self.head.borrow_mut();
        let records = &mut self.open.borrow_mut().records;
        let rules = head.rules(&self.windows, batch.tenant(), self.platform.unix_now_ms());
        let written = outcome.histograms_written;
        let mut target = Target {
            head,
            records,
            hasher: &run.hasher,
            shard: self.index,
            shard_count: self.count,
            rules,
            read,
            taken_ms: (i64::MAX, i64::MIN),
            has_room: Some(&|payload_bytes| wal.fits(payload_bytes)),
        };
        let applied = apply_histograms(&mut target, batch, rows, &mut run.last, outcome);
        let (oldest_ms, newest_ms) = target.taken_ms;
        if oldest_ms <= newest_ms {
            head.note(batch.tenant(), outcome.histograms_written - written, oldest_ms, newest_ms);
        }
        self.notify_of_pending_chunks(head);
        applied
    }
}
