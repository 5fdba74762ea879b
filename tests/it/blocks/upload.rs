//! Blocks on their way to a real S3 server: through outages and kills, each of them once and whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::folder::{Block, blocks_of};
use super::workload::{PART_STEPS, Workload};
use super::{
    SHORT_WINDOWS, assert_all_is_there, assert_no_losses, local_blocks, start_server, wait_for_blocks,
};
use crate::bucket::fault_proxy::{Fault, FaultProxy};
use crate::bucket::s3_server::S3Server;
use crate::bucket::{SECRET_KEY, objstore_yml};
use crate::support::http::get;
use crate::support::metrics::metric;
use crate::support::process::Process;
use crate::support::server::{Addresses, BINARY, Server};
use crate::support::{wait_for, wait_until};

/// While uploads fail the shipper waits for up to ten times its interval of a second.
const UPLOAD_LIMIT: Duration = Duration::from_secs(60);

/// A key that the server does not know.
const WRONG_KEY: &str = "not-the-key-of-this-bucket";

/// How many blocks wait.
const BACKLOG: &str = "annulus_shipper_backlog_blocks";

/// A server that uploads to S3 at `address`, and looks for blocks each second.
pub fn start_with_s3(address: SocketAddr, secret_key: &str, extra: &[&str]) -> Server {
    let lines = "  insecure: true\n  max_retries: 1\n  http_config: {response_header_timeout: 1s}\n";
    let bucket = format!("--objstore.config={}", objstore_yml(address, secret_key, lines));
    start_server(&[&["--shipper.interval=1s", bucket.as_str()], extra].concat())
}

/// Waits until the bucket has all blocks of a tenant, which is idle, and gives them.
pub fn wait_for_uploads(server: &Server, workload: &Workload) -> Vec<Block> {
    let blocks = wait_for_blocks(server, workload.tenant, workload.end_ms());
    let series = format!("thanos_shipper_upload_compacted_done{{tenant=\"{}\"}}", workload.tenant);
    wait_until(&format!("all blocks of {} are in the bucket:", workload.tenant), UPLOAD_LIMIT, || {
        let (backlog, done) =
            (metric(server.addresses.write, BACKLOG), metric(server.addresses.write, &series));
        let state = uploaded_blocks(server, workload.tenant);
        let is_done = blocks.iter().all(|block| state.contains(&block.ulid)) && backlog == Some(0.0);
        if is_done && done == Some(1.0) {
            Ok(())
        } else {
            Err(format!("backlog {backlog:?}, uploaded {state:?}"))
        }
    });
    blocks
}

/// The blocks that the shipper says it has uploaded.
fn uploaded_blocks(server: &Server, tenant: &str) -> Vec<String> {
    let path = server.data_dir().join("blocks").join(tenant).join("thanos.shipper.json");
    let state = fs::read(path).unwrap_or_else(|_| b"{}".to_vec());
    let state: Value = serde_json::from_slice(&state).unwrap();
    state["uploaded"].as_array().into_iter().flatten().map(|ulid| ulid.as_str().unwrap().to_owned()).collect()
}

/// The object is the local block, and says what Thanos needs to know of it.
fn assert_is_uploaded(block: &Block, tenant: &str, object: &dyn Fn(&str) -> PathBuf) {
    let mut sizes = BTreeMap::from([("meta.json".to_owned(), None)]);
    for name in block.files() {
        let local = fs::read(block.folder.join(&name)).unwrap();
        assert!(
            fs::read(object(&format!("{}/{name}", block.ulid))).unwrap() == local,
            "{name} of {}",
            block.ulid
        );
        sizes.insert(name, Some(local.len()));
    }
    let meta: Value =
        serde_json::from_slice(&fs::read(object(&format!("{}/meta.json", block.ulid))).unwrap()).unwrap();
    let thanos = &meta["thanos"];
    assert_eq!(thanos["labels"], json!({"replica": "a", "tenant_id": tenant}), "{meta}");
    assert_eq!(
        (&thanos["source"], &thanos["downsample"]["resolution"]),
        (&json!("receive"), &json!(0)),
        "{meta}"
    );
    let files = thanos["files"].as_array().unwrap();
    let listed = files.iter().map(|file| {
        let size = file["size_bytes"].as_u64().map(|size| usize::try_from(size).unwrap());
        (file["rel_path"].as_str().unwrap().to_owned(), size)
    });
    assert_eq!(listed.collect::<BTreeMap<_, _>>(), sizes, "{meta}");
    for field in ["ulid", "minTime", "maxTime", "stats", "compaction", "version"] {
        assert_eq!(meta[field], block.meta[field], "{field}");
    }
}

/// The names of the objects that were written, in order.
fn puts(requests: &[String]) -> Vec<&str> {
    requests.iter().filter_map(|request| request.strip_prefix("PUT /")).collect()
}

/// Every object of the block was written once, its `meta.json` last.
fn assert_sent_once(puts: &[&str], block: &Block) {
    let of_block = puts.iter().filter_map(|name| name.strip_prefix(&block.ulid)?.strip_prefix('/'));
    let mut expected = block.files();
    expected.push("meta.json".to_owned());
    assert_eq!(of_block.collect::<Vec<_>>(), expected, "{}", block.ulid);
}

/// Blocks that wait, and rounds that failed.
fn state_of_uploads(server: &Server) -> (f64, f64) {
    let address = server.addresses.write;
    let failures = ["team-a", "team-b"].map(|tenant| {
        metric(address, &format!("thanos_shipper_dir_sync_failures_total{{tenant=\"{tenant}\"}}"))
            .unwrap_or(0.0)
    });
    (metric(address, BACKLOG).unwrap(), failures.iter().sum())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_bucket_delays_blocks_and_nothing_else() {
    let s3 = S3Server::start().await;
    let proxy = FaultProxy::start(s3.address).await;
    proxy.plan([], Some(Fault::Unavailable));
    let mut server = start_with_s3(proxy.address, SECRET_KEY, &[]);
    let workloads = ["team-a", "team-b"].map(|tenant| Workload::new(tenant, 4, 3 * PART_STEPS as i64));
    // It answers that it is busy; it hangs up; it says nothing.
    for (index, fault) in [Fault::Unavailable, Fault::CutUp(0), Fault::Stall].into_iter().enumerate() {
        proxy.plan([], Some(fault));
        for workload in &workloads {
            workload.send(server.addresses.write, index * PART_STEPS..(index + 1) * PART_STEPS);
        }
        let (backlog_before, failures_before) = state_of_uploads(&server);
        wait_until(&format!("blocks cannot go up past {fault:?}:"), UPLOAD_LIMIT, || {
            let (backlog, failures) = state_of_uploads(&server);
            let is_seen = backlog > backlog_before && failures > failures_before;
            if is_seen { Ok(()) } else { Err(format!("backlog {backlog}, {failures} failures")) }
        });
    }
    assert!(puts(&s3.take_requests()).is_empty());
    for workload in &workloads {
        assert_all_is_there(&server, workload);
    }

    proxy.plan([], None);
    let check = |server: &Server| -> Vec<Block> {
        let blocks_of = |workload: &Workload| {
            let blocks = wait_for_uploads(server, workload);
            for block in &blocks {
                assert_is_uploaded(block, workload.tenant, &|name| s3.file(name));
            }
            blocks
        };
        workloads.iter().flat_map(blocks_of).collect()
    };
    let blocks = check(&server);
    let requests = s3.take_requests();
    blocks.iter().for_each(|block| assert_sent_once(&puts(&requests), block));
    assert_eq!(puts(&requests).len(), blocks.len() * 3);
    assert!(server.process.log().contains("blocks are uploaded again"));

    server.terminate_and_restart();
    check(&server);
    assert!(puts(&s3.take_requests()).is_empty(), "a restart sends nothing again");
    assert_no_losses(&server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_a_kill_ends_is_completed_and_not_begun_anew() {
    let s3 = S3Server::start().await;
    let mut server = start_with_s3(s3.address, SECRET_KEY, &[]);
    s3.hold(Some("/index"));
    let workload = Workload::new("team-a", 4, 60);
    workload.send(server.addresses.write, 0..workload.step_count());
    let held = wait_for("an index is on its way", UPLOAD_LIMIT, || {
        let blocks = local_blocks(&server, workload.tenant);
        blocks.into_iter().find(|block| s3.file(&format!("{}/chunks/000001", block.ulid)).exists())
    });
    server.process.kill();
    assert!(!s3.file(&format!("{}/meta.json", held.ulid)).exists());
    let chunks = format!("{}/chunks/000001", held.ulid);
    assert_eq!(puts(&s3.take_requests()).iter().filter(|name| **name == chunks).count(), 1);

    s3.hold(None);
    server.restart();
    for block in wait_for_uploads(&server, &workload) {
        assert_is_uploaded(&block, workload.tenant, &|name| s3.file(name));
    }
    let after = s3.take_requests();
    let of_held: Vec<&str> = puts(&after).into_iter().filter(|name| name.starts_with(&held.ulid)).collect();
    assert_eq!(of_held, ["index", "meta.json"].map(|name| format!("{}/{name}", held.ulid)));
    assert_all_is_there(&server, &workload);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_keys_are_reported_and_cost_no_write() {
    let s3 = S3Server::start().await;
    let server = start_with_s3(s3.address, WRONG_KEY, &[]);
    let workload = Workload::new("team-a", 4, 60);
    workload.send(server.addresses.write, 0..40);
    let failures = "thanos_shipper_dir_sync_failures_total{tenant=\"team-a\"}";
    wait_for("the refusal is counted", UPLOAD_LIMIT, || {
        let address = server.addresses.write;
        (metric(address, failures) > Some(0.0) && metric(address, BACKLOG) > Some(0.0)).then_some(())
    });
    let log = server.process.log();
    let line = log.lines().find(|line| line.contains("blocks cannot be uploaded")).unwrap();
    assert!(line.contains("level=warn") && line.contains("is denied"), "{line}");
    assert!(!log.contains(WRONG_KEY), "the key is in the log");
    workload.send(server.addresses.write, 40..60);
    assert_all_is_there(&server, &workload);
    for block in local_blocks(&server, workload.tenant) {
        assert!(!s3.file(&block.ulid).exists(), "{} was taken", block.ulid);
    }
    assert_no_losses(&server);
}

#[test]
fn without_flags_blocks_go_into_a_folder_of_the_data_directory() {
    let server = start_server(&["--shipper.interval=1s"]);
    let workload = Workload::new("team-a", 4, 60);
    workload.send(server.addresses.write, 0..workload.step_count());
    let bucket = server.data_dir().join("bucket");
    let blocks = wait_for_uploads(&server, &workload);
    for block in &blocks {
        assert_is_uploaded(block, workload.tenant, &|name| bucket.join(name));
    }
    assert_eq!(names_in(&bucket), blocks.into_iter().map(|block| block.ulid).collect::<BTreeSet<_>>());
}

#[test]
fn a_receiver_without_a_query_plane_cuts_and_uploads_too() {
    let home = tempfile::tempdir().unwrap();
    let addresses = Addresses::free();
    let (data, bucket) = (home.path().join("data"), home.path().join("bucket"));
    let mut command = Command::new(BINARY);
    command.args([
        "receive",
        "--shards=1",
        "--wal.ring-size=16MiB",
        "--label=replica=\"a\"",
        "--shipper.interval=1s",
    ]);
    command.args(SHORT_WINDOWS).arg(format!("--tsdb.path={}", data.display()));
    command.arg(format!("--objstore.config=type: FILESYSTEM\nconfig: {{directory: '{}'}}", bucket.display()));
    command.arg(format!("--remote-write.address={}", addresses.write));
    command
        .arg(format!("--http-address={}", addresses.query))
        .arg(format!("--grpc-address={}", addresses.grpc));
    let mut process = Process::spawn("annulus", command, home.path());
    wait_for("annulus is ready", UPLOAD_LIMIT, || {
        assert!(process.ended().is_none(), "annulus ended: {}", process.log());
        get(addresses.query, "/-/ready").is_ok_and(|response| response.status == 200).then_some(())
    });
    let workload = Workload::new("team-a", 4, 60);
    workload.send(addresses.write, 0..workload.step_count());
    wait_for("all blocks are in the bucket", UPLOAD_LIMIT, || {
        (blocks_of(&bucket).len() == workload.window_count()).then_some(())
    });
    for block in blocks_of(&data.join("blocks").join(workload.tenant)) {
        assert_is_uploaded(&block, workload.tenant, &|name| bucket.join(name));
    }
    let status = process.terminate(UPLOAD_LIMIT);
    assert_eq!(status.code(), Some(0), "{status}");
}

/// What is in a folder, but for what is hidden.
fn names_in(folder: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(folder).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with('.')).collect()
}
