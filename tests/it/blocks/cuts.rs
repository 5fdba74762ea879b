//! Windows become blocks under the eyes of those who query, and whatever ends the process meanwhile.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::workload::{PART_STEPS, Workload};
use super::{
    SetAtEnd, WINDOW_MS, assert_all_is_there, assert_in_order, assert_no_losses, local_blocks, start_server,
    wait_for_blocks,
};
use crate::support::server::Server;
use crate::support::wait_for;

/// Sends what `workload` has while queries ask for all of it, until the last sample is in a block.
fn send_and_ask(server: &Server, workload: &Workload) {
    let (acknowledged, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut queries = 0;
            while !is_over.load(Ordering::Relaxed) {
                let surely = acknowledged.load(Ordering::Acquire);
                let found = workload.ask(server.query());
                let maybe = acknowledged.load(Ordering::Acquire) + 1;
                if let Err(reason) = workload.check(&found, surely, maybe) {
                    let blocks = local_blocks(server, workload.tenant);
                    let ranges: Vec<_> = blocks.iter().map(|block| (block.min_ms, block.max_ms)).collect();
                    panic!(
                        "{} after {surely} requests, {queries} queries: {reason}; blocks {ranges:?}",
                        workload.tenant
                    );
                }
                queries += 1;
            }
            assert!(queries > 2 * workload.step_count() / PART_STEPS, "only {queries} queries saw it");
        });
        let _over = SetAtEnd(&is_over);
        for step in 0..workload.step_count() {
            workload.send(server.addresses.write, step..step + 1);
            acknowledged.store(step + 1, Ordering::Release);
            if (step + 1) % PART_STEPS == 0 {
                // Otherwise all windows would be cut at one look.
                wait_for_blocks(server, workload.tenant, workload.settled_ms(step + 1));
            }
        }
        wait_for_blocks(server, workload.tenant, workload.end_ms());
    });
}

#[test]
fn queries_give_each_sample_once_before_while_and_after_windows_are_cut() {
    let mut server = start_server(&[]);
    let workloads = ["team-a", "team-b"].map(|tenant| Workload::new(tenant, 20, 120));
    std::thread::scope(|scope| {
        for workload in &workloads {
            scope.spawn(|| send_and_ask(&server, workload));
        }
    });
    let check = |server: &Server| {
        for workload in &workloads {
            let blocks = local_blocks(server, workload.tenant);
            assert_eq!(blocks.len(), workload.window_count());
            assert!(blocks.iter().all(|block| block.max_ms - block.min_ms <= WINDOW_MS), "{blocks:?}");
            assert_in_order(&blocks);
            assert_all_is_there(server, workload);
        }
        assert_no_losses(server);
    };
    check(&server);
    let status = server.terminate_and_restart();
    assert_eq!(status.code(), Some(0), "{status}");
    check(&server);
    server.kill_and_restart();
    check(&server);
}

#[test]
fn kills_between_and_amid_cuts_neither_lose_nor_double_a_sample() {
    let mut server = start_server(&[]);
    let workload = Workload::new("team-a", 12, 160);
    for sent in (2 * PART_STEPS..=workload.step_count()).step_by(2 * PART_STEPS) {
        workload.send(server.addresses.write, sent - 2 * PART_STEPS..sent);
        let before = local_blocks(&server, workload.tenant).len();
        wait_for("the next window is cut", Duration::from_secs(60), || {
            (local_blocks(&server, workload.tenant).len() > before).then_some(())
        });
        // More windows are due and are being cut just now.
        server.kill_and_restart();
        workload.check(&workload.ask(server.query()), sent, sent).unwrap();
    }
    let blocks = wait_for_blocks(&server, workload.tenant, workload.end_ms());
    assert_eq!(blocks.len(), workload.window_count());
    assert_in_order(&blocks);
    assert_all_is_there(&server, &workload);
    assert_no_losses(&server);
}
