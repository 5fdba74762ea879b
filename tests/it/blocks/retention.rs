//! Local blocks go after their time, but not before the bucket has them, and nobody who queries meanwhile is disturbed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::upload::start_with_s3;
use super::workload::Workload;
use super::{SetAtEnd, assert_all_is_there, assert_no_losses, local_blocks, wait_for_blocks};
use crate::bucket::SECRET_KEY;
use crate::bucket::fault_proxy::{Fault, FaultProxy};
use crate::bucket::s3_server::S3Server;
use crate::support::metrics::metric;
use crate::support::{now_ms, wait_for, wait_until, write};

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_blocks_go_after_their_time_once_the_bucket_has_them() {
    let s3 = S3Server::start().await;
    let proxy = FaultProxy::start(s3.address).await;
    proxy.plan([], Some(Fault::Unavailable));
    // All samples are an hour old; with so short a retention the process looks each second.
    let server = start_with_s3(proxy.address, SECRET_KEY, &["--tsdb.retention=4s"]);
    let address = server.addresses.write;
    let workload = Workload::new("team-a", 6, 80);
    workload.send(address, 0..workload.step_count());
    let ulids: Vec<String> = wait_for_blocks(&server, workload.tenant, workload.end_ms())
        .into_iter()
        .map(|block| block.ulid)
        .collect();
    let failures = "thanos_shipper_dir_sync_failures_total{tenant=\"team-a\"}";
    let before = metric(address, failures).unwrap_or(0.0);
    wait_until("two rounds of uploads fail", LIMIT, || {
        let now = metric(address, failures);
        if now >= Some(before + 2.0) { Ok(()) } else { Err(format!("{now:?}, {before} before")) }
    });
    assert_eq!(local_blocks(&server, workload.tenant).len(), ulids.len(), "nobody else has these blocks");
    assert_all_is_there(&server, &workload);

    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                workload.check(&workload.ask(server.query()), 0, workload.step_count()).unwrap();
            }
        });
        let _over = SetAtEnd(&is_over);
        proxy.plan([], None);
        wait_for("the local blocks are gone", LIMIT, || {
            local_blocks(&server, workload.tenant).is_empty().then_some(())
        });
    });
    for ulid in &ulids {
        assert!(s3.file(&format!("{ulid}/meta.json")).exists(), "{ulid} is nowhere");
    }
    wait_for("the query plane has forgotten the blocks", LIMIT, || {
        workload.ask(server.query()).is_empty().then_some(())
    });
    // The tenant goes on as if nothing had happened.
    let now = now_ms();
    let mut sender = server.sender().of_tenant(workload.tenant);
    sender.store(&[write::series("after", "1", &[(now, 1.0)])]);
    assert_eq!(server.query().value("after{tenant_id=\"team-a\"}", now), Some(1.0));
    assert!(!server.process.log().contains("level=error"), "{}", server.process.log());
    assert_no_losses(&server);
}
