//! A shipper between two directories.

use std::fs;
use std::path::Path;

use prometheus::{Registry, TextEncoder};
use serde_json::Value;

use super::*;
use crate::bucket::Depth;
use crate::bucket::config::parse;
use crate::bucket::metrics::BucketMetrics;

const FIRST: &str = "01HXYZ00000000000000000001";
const SECOND: &str = "01HXYZ00000000000000000002";

/// Time between looks.
const EVERY: Duration = Duration::from_secs(30);

struct Node {
    home: tempfile::TempDir,
    bucket: Bucket,
    registry: Registry,
    shipper: Shipper,
}

impl Node {
    fn new() -> Node {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("blocks")).unwrap();
        Node::at(home)
    }

    fn at(home: tempfile::TempDir) -> Node {
        let yaml = format!("type: FILESYSTEM\nconfig: {{directory: '{}/bucket'}}", home.path().display());
        let registry = Registry::new();
        let bucket = Bucket::open(&parse(&yaml).unwrap(), BucketMetrics::register(&registry)).unwrap();
        let config = ShipperConfig {
            blocks_dir: home.path().join("blocks"),
            external_labels: BTreeMap::from([("replica".to_owned(), "0".to_owned())]),
            tenant_label: "tenant_id".to_owned(),
        };
        let shipper = Shipper::new(bucket.clone(), config, ShipperMetrics::register(&registry));
        Node { home, bucket, registry, shipper }
    }

    fn restart(self) -> Node {
        Node::at(self.home)
    }

    fn folder(&self, tenant: &str, ulid: &str) -> PathBuf {
        self.home.path().join("blocks").join(tenant).join(ulid)
    }

    fn block(&self, tenant: &str, ulid: &str) -> PathBuf {
        let folder = self.folder(tenant, ulid);
        write_block(&folder, ulid);
        folder
    }

    fn state(&self, tenant: &str) -> PathBuf {
        self.home.path().join("blocks").join(tenant).join(state::FILE_NAME)
    }

    async fn objects(&self) -> Vec<String> {
        let entries = self.bucket.list("", Depth::Everything).await.unwrap();
        entries.into_iter().map(|entry| entry.name).collect()
    }

    fn metric(&self, line: &str) -> f64 {
        let text = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let found = text.lines().find_map(|candidate| candidate.strip_prefix(line)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("no {line} in {text}")).parse().unwrap()
    }
}

fn write_block(folder: &Path, ulid: &str) {
    fs::create_dir_all(folder.join("chunks")).unwrap();
    fs::write(folder.join("chunks/000001"), "chunks one").unwrap();
    fs::write(folder.join("chunks/000002"), "chunks two").unwrap();
    fs::write(folder.join("index"), "index").unwrap();
    let meta = format!(
        r#"{{"version":1,"ulid":"{ulid}","minTime":7200000,"maxTime":14400000,"stats":{{"numSamples":3}}}}"#
    );
    fs::write(folder.join("meta.json"), meta).unwrap();
}

fn files_of_block(ulid: &str) -> Vec<String> {
    ["chunks/000001", "chunks/000002", "index", "meta.json"].map(|file| format!("{ulid}/{file}")).to_vec()
}

#[tokio::test]
async fn blocks_go_up_once_and_are_remembered() {
    let node = Node::new();
    node.block("a", FIRST);
    assert!(!node.shipper.may_delete("a", FIRST));
    assert_eq!(node.shipper.sync().await.unwrap(), 1);
    assert_eq!(node.objects().await, files_of_block(FIRST));
    assert!(node.shipper.may_delete("a", FIRST) && !node.shipper.may_delete("b", FIRST));
    assert_eq!(node.shipper.sync().await.unwrap(), 0);
    let text = fs::read_to_string(node.state("a")).unwrap();
    assert_eq!(text, format!("{{\n\t\"uploaded\": [\n\t\t\"{FIRST}\"\n\t],\n\t\"version\": 1\n}}"));
    for (line, value) in [
        ("thanos_shipper_uploads_total{tenant=\"a\"}", 1.0),
        ("thanos_shipper_dir_syncs_total{tenant=\"a\"}", 2.0),
        ("thanos_shipper_dir_sync_failures_total{tenant=\"a\"}", 0.0),
        ("thanos_shipper_upload_compacted_done{tenant=\"a\"}", 1.0),
        ("annulus_shipper_backlog_blocks", 0.0),
        ("annulus_shipper_oldest_backlog_block_timestamp_seconds", 0.0),
    ] {
        assert_eq!(node.metric(line), value, "{line}");
    }
}

#[tokio::test]
async fn the_uploaded_meta_json_says_whose_the_block_is_and_when_it_came() {
    let node = Node::new();
    node.block("a", FIRST);
    node.shipper.sync().await.unwrap();
    let meta = node.bucket.get(&format!("{FIRST}/meta.json")).await.unwrap();
    let meta: Value = serde_json::from_slice(&meta).unwrap();
    assert_eq!(meta["thanos"]["labels"], serde_json::json!({"replica": "0", "tenant_id": "a"}));
    let uploaded_ms = crate::rfc3339::parse_ms(meta["thanos"]["upload_time"].as_str().unwrap()).unwrap();
    assert!((crate::rfc3339::now_ms() - uploaded_ms).abs() < 60_000);
    assert_eq!(meta["maxTime"], 14_400_000);
}

#[tokio::test]
async fn a_lost_state_file_is_rebuilt_from_the_bucket() {
    for broken in [None, Some("{\"version\":1,\"uploaded\":[")] {
        let node = Node::new();
        node.block("a", FIRST);
        node.shipper.sync().await.unwrap();
        let written = fs::read(node.state("a")).unwrap();
        match broken {
            None => fs::remove_file(node.state("a")).unwrap(),
            Some(text) => fs::write(node.state("a"), text).unwrap(),
        }
        let node = node.restart();
        node.block("a", SECOND);
        assert_eq!(node.shipper.sync().await.unwrap(), 1);
        assert!(node.shipper.may_delete("a", FIRST) && node.shipper.may_delete("a", SECOND));
        let rebuilt = state::read(&node.state("a")).unwrap();
        assert_eq!(rebuilt.len(), 2);
        assert_ne!(fs::read(node.state("a")).unwrap(), written);
    }
}

#[tokio::test]
async fn blocks_that_are_gone_leave_the_state_file() {
    let node = Node::new();
    let folder = node.block("a", FIRST);
    node.block("a", SECOND);
    node.shipper.sync().await.unwrap();
    fs::remove_dir_all(folder).unwrap();
    assert_eq!(node.shipper.sync().await.unwrap(), 0);
    assert!(!node.shipper.may_delete("a", FIRST));
    assert_eq!(state::read(&node.state("a")), Some(BTreeSet::from([SECOND.to_owned()])));
}

#[tokio::test]
async fn a_corrupted_block_is_reported_once_and_does_not_stop_others() {
    type Damage = fn(&Path) -> io::Result<()>;
    let damages: [(&str, Damage); 6] = [
        ("no index", |folder| fs::remove_file(folder.join("index"))),
        ("no chunks", |folder| fs::remove_dir_all(folder.join("chunks"))),
        ("an empty chunk file", |folder| fs::write(folder.join("chunks/000002"), "")),
        ("a meta.json that is cut off", |folder| fs::write(folder.join("meta.json"), "{\"version\":1,")),
        ("another block's meta.json", |folder| {
            let other = folder.with_file_name("other");
            write_block(&other, SECOND);
            fs::rename(other.join("meta.json"), folder.join("meta.json"))
        }),
        ("sizes that are not those of meta.json", |folder| {
            let meta = r#"{"version":1,"ulid":"01HXYZ00000000000000000001","minTime":0,"maxTime":1,
                "thanos":{"files":[{"rel_path":"index","size_bytes":6}]}}"#;
            fs::write(folder.join("meta.json"), meta)
        }),
    ];
    for (what, damage) in damages {
        let node = Node::new();
        damage(&node.block("a", FIRST)).unwrap();
        node.block("a", SECOND);
        for _ in 0..3 {
            node.shipper.sync().await.unwrap();
        }
        assert_eq!(node.objects().await, files_of_block(SECOND), "{what}");
        assert_eq!(node.metric("thanos_shipper_corrupted_blocks_total{tenant=\"a\"}"), 1.0, "{what}");
        assert!(!node.shipper.may_delete("a", FIRST), "{what}");
    }
}

#[tokio::test]
async fn what_is_no_complete_block_is_left_alone() {
    let node = Node::new();
    let unfinished = node.block("a", FIRST);
    fs::remove_file(unfinished.join("meta.json")).unwrap();
    node.block("a", &format!("{SECOND}.tmp"));
    let empty = node.block("b", SECOND);
    let meta = fs::read_to_string(empty.join("meta.json")).unwrap();
    fs::write(empty.join("meta.json"), meta.replace(":3}", ":0}")).unwrap();
    assert_eq!(node.shipper.sync().await.unwrap(), 0);
    assert!(node.objects().await.is_empty());
    assert_eq!(node.metric("annulus_shipper_backlog_blocks"), 0.0);
}

#[tokio::test]
async fn a_half_upload_is_continued() {
    let node = Node::new();
    node.block("a", FIRST);
    let half = |file: &str| node.home.path().join("bucket").join(FIRST).join(file);
    fs::create_dir_all(half("chunks")).unwrap();
    // Same size, other content: it would be overwritten if it were sent again.
    fs::write(half("chunks/000001"), "CHUNKS ONE").unwrap();
    fs::write(half("chunks/000002"), "chun").unwrap();
    assert_eq!(node.shipper.sync().await.unwrap(), 1);
    assert_eq!(fs::read(half("chunks/000001")).unwrap(), b"CHUNKS ONE");
    assert_eq!(fs::read(half("chunks/000002")).unwrap(), b"chunks two");
    assert_eq!(node.objects().await, files_of_block(FIRST));
}

#[tokio::test]
async fn a_block_that_fails_is_backlog_and_does_not_stop_others() {
    let node = Node::new();
    node.block("a", FIRST);
    node.block("b", SECOND);
    // A file where the block's folder should be: this block cannot be written.
    fs::write(node.home.path().join("bucket").join(FIRST), "").unwrap();
    for round in 1..=2 {
        assert!(node.shipper.sync().await.is_err());
        assert!(node.objects().await.contains(&format!("{SECOND}/meta.json")));
        assert_eq!(node.metric("annulus_shipper_backlog_blocks"), 1.0);
        assert!(node.metric("annulus_shipper_backlog_bytes") > 25.0);
        assert_eq!(node.metric("annulus_shipper_oldest_backlog_block_timestamp_seconds"), 7200.0);
        assert_eq!(node.metric("thanos_shipper_upload_failures_total{tenant=\"a\"}"), f64::from(round));
        assert_eq!(node.metric("thanos_shipper_upload_compacted_done{tenant=\"a\"}"), 0.0);
        assert_eq!(node.metric("thanos_shipper_dir_sync_failures_total{tenant=\"b\"}"), 0.0);
    }
    fs::remove_file(node.home.path().join("bucket").join(FIRST)).unwrap();
    assert_eq!(node.shipper.sync().await.unwrap(), 1);
    assert_eq!(node.metric("annulus_shipper_backlog_blocks"), 0.0);
}

#[tokio::test]
async fn a_shipper_stops_when_it_is_told() {
    let node = Node::new();
    node.block("a", FIRST);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let watch = async {
        while !node.shipper.may_delete("a", FIRST) {
            tokio::task::yield_now().await;
        }
        drop(stop);
    };
    let run = node.shipper.run(EVERY, async {
        let _ = stopped.await;
    });
    tokio::join!(run, watch);
    assert_eq!(node.objects().await, files_of_block(FIRST));
}

#[test]
fn waits_while_uploads_fail_are_between_once_and_ten_times_the_usual_one() {
    for failures in 1..100 {
        let wait = backoff(EVERY).wait(failures);
        assert!(wait >= EVERY && wait <= 10 * EVERY, "{wait:?}");
    }
}

#[tokio::test]
async fn a_tenant_that_cannot_be_read_does_not_stop_the_others() {
    let node = Node::new();
    node.block("b", SECOND);
    let blocks_dir = node.home.path().join("blocks");
    fs::create_dir(blocks_dir.join("lost+found")).unwrap();
    fs::create_dir(blocks_dir.join("a")).unwrap();
    // A link to itself cannot be followed, by nobody.
    std::os::unix::fs::symlink("01HXYZ00000000000000000001", node.folder("a", FIRST)).unwrap();
    assert_eq!(node.shipper.sync().await.unwrap(), 1);
    assert_eq!(node.objects().await, files_of_block(SECOND));
}
