//! Who cuts blocks: freezes a window, reads it, keeps it, and has the shard drop it.

use std::future::{Future, poll_fn};
use std::ops::Range;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use super::super::disk::delay;
use super::life::{Bug, Life};
use super::readers::read;
use super::series::TENANTS;
use crate::core::{CutError, Failure};
use crate::head::{Sweep, TenantState, window_of};

/// Looks for due windows of all tenants, so often.
pub async fn cut_on(life: Rc<Life>, rounds: u64) {
    let mut has_cut = false;
    for _ in 0..rounds {
        // While there is more to cut, it goes on.
        let delays = if has_cut { 1 } else { life.choices.below(40) };
        for _ in 0..delays {
            delay(&life.choices).await;
        }
        has_cut = false;
        let states = life.sweeper.tenants();
        for (tenant, name) in TENANTS.iter().enumerate() {
            let Some(state) = states.iter().find(|state| *state.name == **name) else { continue };
            let Some(range) = due(&life, state) else { continue };
            match cut(&life, tenant, range, state).await {
                Ok(()) => has_cut = true,
                Err(CutError::Shard { failure: Failure::RingFull, .. }) => life.model.met("cuts put off", 1),
                Err(CutError::Shard { failure: Failure::Poisoned | Failure::Stopping, .. }) => return,
                Err(error) => life.model.violate(format!("cutting: {error}")),
            }
        }
    }
}

/// The oldest window of a tenant, if it is to be cut.
fn due(life: &Life, state: &TenantState) -> Option<Range<i64>> {
    let windows = &life.shard.windows;
    let oldest_ms = state.oldest_ms?.max(state.truncated_ms);
    let window = window_of(oldest_ms, windows.block_ms);
    let settled_ms = state.newest_ms?.saturating_sub(windows.lag_ms());
    // An idle tenant is cut by the clock.
    let is_idle = life.choices.one_in(12);
    let is_due = window.end <= state.frozen_ms || window.end <= settled_ms || is_idle;
    is_due.then(|| window.start.max(state.truncated_ms)..window.end)
}

async fn cut(life: &Rc<Life>, tenant: usize, range: Range<i64>, state: &TenantState) -> Result<(), CutError> {
    let model = &life.model;
    let below_ms = range.end;
    {
        let tenant = &mut model.tenants.borrow_mut()[tenant];
        tenant.freezing_ms = tenant.freezing_ms.max(below_ms);
    }
    let mut freeze = pin!(life.sweeper.freeze(TENANTS[tenant], below_ms));
    if life.bug == Some(Bug::FreezeNotDurable) {
        // It begins, and nobody waits for it.
        let begun = poll_fn(|context| Poll::Ready(freeze.as_mut().poll(context))).await;
        if let Poll::Ready(result) = begun {
            return result;
        }
        keep_block(life, tenant, &range).await;
        freeze.await?;
    } else {
        freeze.await?;
        {
            let tenant = &mut model.tenants.borrow_mut()[tenant];
            tenant.frozen_ms = tenant.frozen_ms.max(below_ms);
        }
        // Until the freeze a late sample may have come that is older than all before it; its window is frozen too, and
        // comes first.
        let states = life.sweeper.tenants();
        let now = states.iter().find(|now| now.name == state.name);
        if now.and_then(|now| now.oldest_ms).is_some_and(|oldest_ms| oldest_ms < range.start) {
            model.met("older samples while freezing", 1);
            return Ok(());
        }
        let is_frozen = below_ms <= state.frozen_ms;
        let is_finished = model.tenants.borrow()[tenant].blocks.contains(&range);
        if is_frozen && is_finished {
            model.met("finished blocks found again", 1);
        } else {
            keep_block(life, tenant, &range).await;
        }
    }
    model.begin_truncation(tenant, below_ms);
    if life.bug == Some(Bug::FilesBeforeBounds) {
        truncate_files_first(life, TENANTS[tenant], below_ms).await?;
    } else {
        life.sweeper.truncate(TENANTS[tenant], below_ms).await?;
    }
    if life.bug == Some(Bug::NumbersAtOnce) {
        life.shard.head.borrow_mut().end_rest();
    }
    model.end_truncation(tenant, below_ms);
    model.met("windows cut", 1);
    life.measure();
    Ok(())
}

/// Reads a window as the block writer does, and makes its block durable, unless the crash comes before.
async fn keep_block(life: &Rc<Life>, tenant: usize, range: &Range<i64>) {
    let model = &life.model;
    let reading = model.begin_read(tenant);
    let mut shown = read(life, tenant, Vec::new(), i64::MIN..range.end).await.shown;
    model.end_read(&reading, &shown, i64::MIN..range.end, |_| true);
    for samples in shown.values_mut() {
        samples.retain(|timestamp_ms, _| range.contains(timestamp_ms));
    }
    shown.retain(|_, samples| !samples.is_empty());
    for _ in 0..life.choices.below(10) {
        delay(&life.choices).await;
    }
    if shown.is_empty() {
        model.met("empty windows", 1);
        return;
    }
    model.block_is_durable(tenant, range.clone(), &shown);
    model.met("blocks", 1);
}

/// Truncates as no shard may: chunk files go before it is durable that nobody misses them.
async fn truncate_files_first(life: &Rc<Life>, tenant: &str, below_ms: i64) -> Result<(), CutError> {
    let shard = &life.shard;
    let turn = shard.maintenance.turn().await;
    let sweep = Sweep::new(&shard.head.borrow(), tenant, below_ms);
    if let Some(mut sweep) = sweep {
        while !sweep.step(&mut shard.head.borrow_mut()).unwrap() {
            delay(&life.choices).await;
        }
    }
    drop(turn);
    let is_over = |window_ms: i64| window_ms.saturating_add(shard.windows.block_ms) <= below_ms;
    let unneeded = shard.head.borrow().log().borrow_mut().take_unneeded(is_over);
    life.chunks.remove(unneeded).await.unwrap();
    life.sweeper.truncate(tenant, below_ms).await
}
