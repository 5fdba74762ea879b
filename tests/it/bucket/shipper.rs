//! A shipper over a network that fails, and one that is killed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use annulus::bucket::{Bucket, Depth};
use annulus::shipper::metrics::ShipperMetrics;
use annulus::shipper::{Shipper, ShipperConfig};
use prometheus::Registry;

use super::fault_proxy::{Fault, FaultProxy};
use super::s3_server::S3Server;
use super::{bytes, open};

const ULID: &str = "01HXYZ00000000000000000001";

/// Small parts, so that a chunk file takes several; one try, so that a fault ends a round.
const LINES: &str =
    "  part_size: 5242880\n  max_retries: 1\n  http_config: {response_header_timeout: 500ms}\n";

fn shipper(blocks_dir: &Path, bucket: Bucket) -> Shipper {
    let config = ShipperConfig {
        blocks_dir: blocks_dir.to_owned(),
        external_labels: BTreeMap::new(),
        tenant_label: "tenant_id".to_owned(),
    };
    Shipper::new(bucket, config, ShipperMetrics::register(&Registry::new()))
}

/// A block of three chunk files, the first of which is large.
fn write_block(blocks_dir: &Path) -> PathBuf {
    let folder = blocks_dir.join("a").join(ULID);
    std::fs::create_dir_all(folder.join("chunks")).unwrap();
    for (name, length) in [("chunks/000001", 6 << 20), ("chunks/000002", 70_000), ("index", 50_000)] {
        std::fs::write(folder.join(name), bytes(length)).unwrap();
    }
    let meta = format!(r#"{{"version":1,"ulid":"{ULID}","minTime":0,"maxTime":7200000}}"#);
    std::fs::write(folder.join("meta.json"), meta).unwrap();
    folder
}

/// A block that can be seen has all its files.
fn assert_no_half_block(server: &S3Server, folder: &Path) {
    let is_there = |name: &str| {
        let uploaded = std::fs::read(server.file(&format!("{ULID}/{name}")));
        uploaded.is_ok_and(|content| content == std::fs::read(folder.join(name)).unwrap())
    };
    if server.file(&format!("{ULID}/meta.json")).exists() {
        for name in ["chunks/000001", "chunks/000002", "index"] {
            assert!(is_there(name), "meta.json is visible without {name}");
        }
    }
}

#[tokio::test]
async fn no_fault_shows_half_a_block_and_all_end_in_a_whole_one() {
    let server = S3Server::start().await;
    let proxy = FaultProxy::start(server.address).await;
    let home = tempfile::tempdir().unwrap();
    let folder = write_block(home.path());
    let shipper = shipper(home.path(), open(proxy.address, LINES));
    // Connections that break at every stage of the upload, some of them several times.
    let mut faults = vec![Fault::Unavailable, Fault::Stall];
    faults.extend([0, 1_000, 3_000, 1 << 20, 4 << 20, 6 << 20, (6 << 20) + 80_000].map(Fault::CutUp));
    faults.extend([0, 300, 900, 1_800, 2_700].map(Fault::CutDown));
    let mut failed_count = 0;
    for fault in faults {
        proxy.plan([fault], None);
        if shipper.sync().await.is_err() {
            failed_count += 1;
        }
        assert_no_half_block(&server, &folder);
    }
    assert!(failed_count >= 3, "{failed_count}");
    proxy.plan([], None);
    shipper.sync().await.unwrap();
    assert!(server.file(&format!("{ULID}/meta.json")).exists() && shipper.may_delete("a", ULID));
    assert_no_half_block(&server, &folder);
}

#[tokio::test]
async fn a_killed_shipper_is_continued_without_sending_complete_objects_again() {
    let server = S3Server::start().await;
    let home = tempfile::tempdir().unwrap();
    let folder = write_block(home.path());
    let killed = shipper(home.path(), open(server.address, LINES));
    let first_chunks = server.file(&format!("{ULID}/chunks/000001"));
    {
        let mut sync = Box::pin(killed.sync());
        while !first_chunks.exists() {
            let is_done = tokio::time::timeout(Duration::from_millis(1), &mut sync).await.is_ok();
            assert!(!is_done, "the shipper was to be killed before it ends");
        }
    }
    drop(killed);
    assert!(!server.file(&format!("{ULID}/meta.json")).exists());
    server.take_requests();

    let next = shipper(home.path(), open(server.address, LINES));
    assert_eq!(next.sync().await.unwrap(), 1);
    let requests = server.take_requests();
    assert!(requests.iter().all(|request| !request.ends_with("chunks/000001")), "{requests:?}");
    let last = requests.last().unwrap();
    assert_eq!(last, &format!("PUT /{ULID}/meta.json"));
    assert_no_half_block(&server, &folder);

    // One that knows nothing finds the block in the bucket.
    std::fs::remove_file(home.path().join("a/thanos.shipper.json")).unwrap();
    let third = shipper(home.path(), open(server.address, LINES));
    assert_eq!(third.sync().await.unwrap(), 0);
    assert!(third.may_delete("a", ULID));
    assert!(server.take_requests().iter().all(|request| !request.starts_with("PUT")));
}

#[tokio::test]
async fn chunks_go_up_before_the_index_and_meta_json_goes_last() {
    let server = S3Server::start().await;
    let home = tempfile::tempdir().unwrap();
    write_block(home.path());
    let bucket = open(server.address, "");
    shipper(home.path(), bucket.clone()).sync().await.unwrap();
    let requests = server.take_requests();
    let puts: Vec<&str> = requests.iter().filter_map(|request| request.strip_prefix("PUT /")).collect();
    let expected =
        ["chunks/000001", "chunks/000002", "index", "meta.json"].map(|name| format!("{ULID}/{name}"));
    assert_eq!(puts, expected);
    assert_eq!(bucket.list(ULID, Depth::Everything).await.unwrap().len(), 4);
}
