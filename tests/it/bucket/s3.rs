//! One S3 bucket.

use std::time::{Duration, Instant};

use annulus::bucket::{Bucket, BucketError, Depth};
use bytes::Bytes;

use super::fault_proxy::{Fault, FaultProxy};
use super::s3_server::S3Server;
use super::{SECRET_KEY, bytes, objstore_yml, open, open_file};

/// The smallest parts that S3 allows.
const SMALL_PARTS: &str = "  part_size: 5242880\n";

/// More than two such parts.
const LARGE: usize = 11 << 20;

async fn names(bucket: &Bucket, folder: &str, depth: Depth) -> Vec<String> {
    bucket.list(folder, depth).await.unwrap().into_iter().map(|entry| entry.name).collect()
}

#[tokio::test]
async fn an_object_is_what_was_written() {
    let server = S3Server::start().await;
    let bucket = open(server.address, "");
    bucket.put("01/meta.json", Bytes::from_static(b"0123456789")).await.unwrap();
    assert_eq!(bucket.get("01/meta.json").await.unwrap(), "0123456789");
    assert_eq!(bucket.get_range("01/meta.json", 3, 4).await.unwrap(), "3456");
    assert_eq!(bucket.get_range("01/meta.json", 8, 100).await.unwrap(), "89");
    let past_the_end = bucket.get_range("01/meta.json", 10, 1).await;
    assert!(matches!(past_the_end, Err(BucketError::Range { offset: 10, .. })), "{past_the_end:?}");
    let attributes = bucket.attributes("01/meta.json").await.unwrap();
    assert_eq!(attributes.size_bytes, 10);
    assert!((annulus::rfc3339::now_ms() - attributes.modified_ms).abs() < 60_000);
    assert!(bucket.exists("01/meta.json").await.unwrap());
    bucket.delete("01/meta.json").await.unwrap();
    bucket.delete("01/meta.json").await.unwrap();
    assert!(!bucket.exists("01/meta.json").await.unwrap());
    assert!(bucket.get("01/meta.json").await.unwrap_err().is_not_found());
    bucket.put("empty", Bytes::new()).await.unwrap();
    assert_eq!(bucket.get("empty").await.unwrap(), "");
}

#[tokio::test]
async fn names_with_odd_characters_are_signed_rightly() {
    let server = S3Server::start().await;
    let bucket = open(server.address, "");
    for name in ["a b/c+d", "é/ü", "a&b=c;d,e", "a%20b", "~a-b_c.d(1)!"] {
        bucket.put(name, Bytes::from(name.to_owned())).await.unwrap();
        assert_eq!(bucket.get(name).await.unwrap(), name);
    }
    assert_eq!(names(&bucket, "a b", Depth::Everything).await, ["a b/c+d"]);
}

#[tokio::test]
async fn a_prefix_stands_for_the_whole_bucket() {
    let server = S3Server::start().await;
    let whole = open(server.address, "");
    let bucket = open_file(&format!("{}prefix: /tenants/one/\n", {
        objstore_yml(server.address, SECRET_KEY, "  insecure: true\n")
    }));
    bucket.put("x/y", Bytes::from_static(b"1")).await.unwrap();
    whole.put("z", Bytes::new()).await.unwrap();
    assert_eq!(whole.get("tenants/one/x/y").await.unwrap(), "1");
    assert_eq!(names(&bucket, "", Depth::Folder).await, ["x/"]);
    assert_eq!(names(&bucket, "x", Depth::Folder).await, ["x/y"]);
    assert_eq!(names(&whole, "", Depth::Everything).await, ["tenants/one/x/y", "z"]);
}

#[tokio::test]
async fn listings_of_many_pages_are_complete_in_both_versions() {
    let server = S3Server::start().await;
    for index in 0..510 {
        let folder = server.file(&format!("f{index:04}"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("x"), "").unwrap();
        std::fs::write(server.file(&format!("o{index:04}")), "").unwrap();
    }
    let expected: Vec<String> =
        (0..510).map(|i| format!("f{i:04}/")).chain((0..510).map(|i| format!("o{i:04}"))).collect();
    let bucket = open(server.address, "");
    assert_eq!(names(&bucket, "", Depth::Folder).await, expected);
    assert_eq!(names(&bucket, "", Depth::Everything).await.len(), 1_020);
    assert_eq!(names(&bucket, "nothing", Depth::Everything).await.len(), 0);
    let first_version = open(server.address, "  list_objects_version: v1\n");
    assert_eq!(names(&first_version, "f0007", Depth::Folder).await, ["f0007/x"]);
}

#[tokio::test]
async fn large_files_go_up_in_parts_and_come_back() {
    let server = S3Server::start().await;
    let home = tempfile::tempdir().unwrap();
    let (local, copy) = (home.path().join("local"), home.path().join("copy"));
    let content = bytes(LARGE);
    std::fs::write(&local, &content).unwrap();
    let bucket = open(server.address, SMALL_PARTS);
    bucket.upload("chunks/000001", &local).await.unwrap();
    let puts = server.take_requests().iter().filter(|request| *request == "PUT /chunks/000001").count();
    assert_eq!((puts, server.part_count()), (3, 0));
    assert_eq!(bucket.download("chunks/000001", &copy).await.unwrap(), LARGE as u64);
    assert!(std::fs::read(&copy).unwrap() == content);
    let middle = bucket.get_range("chunks/000001", (5 << 20) - 7, 14).await.unwrap();
    assert_eq!(middle, content[(5 << 20) - 7..(5 << 20) + 7]);

    let whole = open(server.address, &format!("{SMALL_PARTS}  disable_multipart: true\n"));
    server.take_requests();
    whole.upload("other", &local).await.unwrap();
    let puts = server.take_requests().iter().filter(|request| *request == "PUT /other").count();
    assert_eq!(puts, 1);
    assert!(std::fs::read(server.file("other")).unwrap() == content);
}

#[tokio::test]
async fn a_wrong_key_is_denied_and_not_tried_again() {
    let server = S3Server::start().await;
    for yaml in [
        objstore_yml(server.address, "wrong", "  insecure: true\n  region: us-east-1\n"),
        objstore_yml(server.address, SECRET_KEY, "  insecure: true\n  region: us-east-1\n")
            .replace("AKIAIOSFODNN7EXAMPLE", "nobody"),
    ] {
        let bucket = open_file(&yaml);
        server.take_requests();
        let started = Instant::now();
        let error = bucket.put("x", Bytes::from_static(b"1")).await.unwrap_err();
        assert!(error.is_access_denied(), "{error}");
        assert!(!error.to_string().contains("Signature="), "{error}");
        assert!(bucket.get("x").await.unwrap_err().is_access_denied());
        assert!(bucket.list("", Depth::Folder).await.unwrap_err().is_access_denied());
        assert_eq!(server.take_requests().len(), 3);
        assert!(started.elapsed() < Duration::from_secs(5));
    }
    assert!(!server.file("x").exists());
}

#[tokio::test]
async fn a_missing_bucket_is_not_a_missing_object() {
    let server = S3Server::start().await;
    let yaml =
        objstore_yml(server.address, SECRET_KEY, "  insecure: true\n").replace("thanos-metrics", "other");
    let bucket = open_file(&yaml);
    let error = bucket.list("", Depth::Folder).await.unwrap_err();
    assert!(!error.is_not_found() && error.to_string().contains("NoSuchBucket"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_down_fails_within_a_bound_and_is_found_when_it_comes_back() {
    let server = S3Server::start().await;
    let proxy = FaultProxy::start(server.address).await;
    proxy.plan([], Some(Fault::Unavailable));
    let bucket = open(proxy.address, "  max_retries: 2\n");
    let error = bucket.put("x", Bytes::from_static(b"1")).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("503 SlowDown"), "{error}");
    proxy.plan([], None);
    bucket.put("x", Bytes::from_static(b"1")).await.unwrap();
}

#[tokio::test]
async fn an_upload_survives_what_a_network_can_do() {
    let server = S3Server::start().await;
    let proxy = FaultProxy::start(server.address).await;
    let home = tempfile::tempdir().unwrap();
    let local = home.path().join("local");
    let content = bytes(LARGE);
    std::fs::write(&local, &content).unwrap();
    let lines = format!("{SMALL_PARTS}  http_config: {{response_header_timeout: 500ms}}\n");
    let bucket = open(proxy.address, &lines);
    for (index, faults) in [
        vec![Fault::Unavailable, Fault::Unavailable, Fault::Unavailable],
        vec![Fault::CutUp(3 << 20), Fault::CutUp(100), Fault::CutUp(8 << 20)],
        vec![Fault::CutDown(0), Fault::CutDown(10), Fault::Stall],
    ]
    .into_iter()
    .enumerate()
    {
        proxy.plan(faults, None);
        let name = format!("object-{index}");
        bucket.upload(&name, &local).await.unwrap();
        assert_eq!(proxy.left_count(), 0);
        assert!(std::fs::read(server.file(&name)).unwrap() == content);
    }
}

#[tokio::test]
async fn a_slow_upload_that_moves_is_not_a_stalled_one() {
    let server = S3Server::start().await;
    let proxy = FaultProxy::start(server.address).await;
    let bucket = open(proxy.address, "  http_config: {response_header_timeout: 1500ms}\n");
    // More than trickles through in the slow time.
    let content = Bytes::from(bytes(32 << 20));
    bucket.exists("x").await.unwrap();
    proxy.plan([Fault::Slow(Duration::from_secs(3))], Some(Fault::Unavailable));
    bucket.put("x", content.clone()).await.unwrap();
    assert!(std::fs::read(server.file("x")).unwrap() == content);
}

#[tokio::test]
async fn a_download_that_breaks_is_read_again_whole() {
    let server = S3Server::start().await;
    let proxy = FaultProxy::start(server.address).await;
    let content = bytes(1 << 20);
    std::fs::write(server.file("x"), &content).unwrap();
    let bucket = open(proxy.address, "  http_config: {response_header_timeout: 500ms}\n");
    proxy.plan([Fault::CutDown(300_000), Fault::Stall, Fault::CutDown(900_000)], None);
    assert!(bucket.get("x").await.unwrap() == content);
    assert_eq!(proxy.left_count(), 0);
}

#[tokio::test]
async fn an_upload_that_fails_for_good_leaves_neither_object_nor_parts() {
    let server = S3Server::start().await;
    let proxy = FaultProxy::start(server.address).await;
    let home = tempfile::tempdir().unwrap();
    let local = home.path().join("local");
    std::fs::write(&local, bytes(LARGE)).unwrap();
    let bucket = open(proxy.address, &format!("{SMALL_PARTS}  max_retries: 1\n"));
    bucket.exists("x").await.unwrap();
    // The listing of leftovers, the start and one part pass on one connection, which then breaks in the next part.
    proxy.plan([Fault::CutUp(7 << 20)], None);
    let error = bucket.upload("x", &local).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(!server.file("x").exists());
    assert_eq!(server.part_count(), 0);
}

#[tokio::test]
async fn parts_of_an_upload_that_was_killed_go_with_the_next_one() {
    let server = S3Server::start().await;
    let home = tempfile::tempdir().unwrap();
    let local = home.path().join("local");
    let content = bytes(LARGE);
    std::fs::write(&local, &content).unwrap();
    let bucket = open(server.address, SMALL_PARTS);
    {
        let mut upload = Box::pin(bucket.upload("x", &local));
        while server.part_count() == 0 {
            let is_done = tokio::time::timeout(Duration::from_millis(1), &mut upload).await.is_ok();
            assert!(!is_done, "the upload was to be killed before it ends");
        }
    }
    server.list_unfinished_as("x");
    bucket.upload("x", &local).await.unwrap();
    assert_eq!(server.part_count(), 0);
    assert!(std::fs::read(server.file("x")).unwrap() == content);
}

#[tokio::test]
async fn headers_of_the_configuration_are_signed_with_the_rest() {
    let server = S3Server::start().await;
    let home = tempfile::tempdir().unwrap();
    let (local, key) = (home.path().join("local"), home.path().join("key"));
    std::fs::write(&local, bytes(LARGE)).unwrap();
    std::fs::write(&key, [7; 32]).unwrap();
    let metadata = "  put_user_metadata: {X-Amz-Storage-Class: STANDARD, Team: metrics}\n";
    for encryption in [
        String::new(),
        "  sse_config: {type: SSE-S3}\n".to_owned(),
        "  sse_config: {type: SSE-KMS, kms_key_id: k, kms_encryption_context: {a: b}}\n".to_owned(),
        format!("  sse_config: {{type: SSE-C, encryption_key: '{}'}}\n", key.display()),
    ] {
        for more in ["", "  send_content_md5: false\n"] {
            let bucket = open(server.address, &format!("{SMALL_PARTS}{metadata}{encryption}{more}"));
            bucket.put("small", Bytes::from_static(b"1")).await.unwrap();
            assert_eq!(bucket.get("small").await.unwrap(), "1");
            bucket.upload("large", &local).await.unwrap();
            assert_eq!(bucket.attributes("large").await.unwrap().size_bytes, LARGE as u64);
        }
    }
    for name in ["small", "large"] {
        assert!(server.metadata(name).contains(r#""team":"metrics""#), "{}", server.metadata(name));
    }
}
