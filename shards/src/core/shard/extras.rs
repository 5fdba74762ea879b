//! Exemplars and metadata of a batch, applied to the shard that owns them.

use super::{PAYLOAD_BYTES_MAX, Shard};
use crate::core::apply_extras::{ExtrasTarget, MetadataAllowance, apply_exemplar, apply_metadata};
use crate::core::batch::WriteBatch;
use crate::core::outcome::{Failure, Outcome};
use crate::rt::{Pace, Platform};
use crate::wire::{ExemplarRow, Extras, MetadataRow};

/// Rows that are applied between two looks at the clock: some 100 µs. In tests a small batch takes many.
const UNIT_ROWS: usize = if cfg!(test) { 4 } else { 128 };

/// Percent of the ring that metadata leaves to samples.
pub(super) const METADATA_SPARE_PERCENT: u64 = 25;

impl<P: Platform> Shard<P> {
    /// Applies what a batch has beside samples; `samples` is what became of these. On a failure, the exemplars that
    /// were not looked at are counted as failed.
    pub(super) async fn write_extras(
        &self,
        batch: &WriteBatch,
        samples: Result<(), Failure>,
        outcome: &mut Outcome,
        pacer: &mut P::Pace,
    ) -> Result<(), Failure> {
        let Some(extras) = &batch.extras else { return samples };
        let Extras { exemplars, metadata, .. } = &**extras;
        let seen_before: u64 = seen(outcome);
        let applied = match samples {
            Ok(()) => self.write_extra_rows(batch, exemplars, metadata, outcome, pacer).await,
            Err(failure) => Err(failure),
        };
        if applied.is_err() {
            outcome.failed += exemplars.len() as u64 - (seen(outcome) - seen_before);
        }
        applied
    }

    async fn write_extra_rows(
        &self,
        batch: &WriteBatch,
        exemplars: &[ExemplarRow],
        metadata: &[MetadataRow],
        outcome: &mut Outcome,
        pacer: &mut P::Pace,
    ) -> Result<(), Failure> {
        for rows in exemplars.chunks(UNIT_ROWS) {
            self.begin_unit(pacer).await?;
            self.with_target(batch, |target| {
                rows.iter().try_for_each(|row| apply_exemplar(target, row, outcome))
            })?;
            pacer.pace().await;
        }
        let mut allowance = MetadataAllowance::of_body(batch.body().len());
        for rows in metadata.chunks(UNIT_ROWS) {
            self.begin_unit(pacer).await?;
            self.with_target(batch, |target| {
                let apply = |row| apply_metadata(target, row, &mut allowance).err();
                for reason in rows.iter().filter_map(apply) {
                    self.metrics.extras.metadata_dropped[reason as usize].inc();
                }
                Ok(())
            })?;
            pacer.pace().await;
        }
        Ok(())
    }

    /// Waits until the frame that is being filled takes more, if the shard takes writes at all.
    async fn begin_unit(&self, pacer: &mut P::Pace) -> Result<(), Failure> {
        if self.open.borrow().records.len() >= PAYLOAD_BYTES_MAX {
            self.work.notify();
            self.room.wait_until(|| self.open.borrow().records.len() < PAYLOAD_BYTES_MAX).await;
            pacer.restart();
        }
        self.refusal().map_or(Ok(()), Err)
    }

    fn with_target(
        &self,
        batch: &WriteBatch,
        apply: impl FnOnce(&mut ExtrasTarget<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let wal = self.wal.get().ok_or(Failure::Recovering)?;
        let head = &*self.head.borrow();
        let spare_percent = self.metadata_spare_percent.get();
        let mut target = ExtrasTarget {
            head,
            records: &mut self.open.borrow_mut().records,
            tenant: batch.tenant(),
            body: batch.body(),
            has_room: &|payload_bytes| wal.fits(payload_bytes),
            ceiling_ms: head.rules(&self.windows, batch.tenant(), self.platform.unix_now_ms()).ceiling_ms,
            may_store: &|| batch.may_store(),
            is_ring_scarce: wal.used_bytes() > wal.size_bytes() / 100 * (100 - spare_percent),
        };
        apply(&mut target)
    }
}

/// How many exemplars were looked at.
fn seen(outcome: &Outcome) -> u64 {
    outcome.exemplars_written + outcome.exemplars_refused.iter().sum::<u64>()
}
