//! Buckets that are directories, against what every bucket promises.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus::Registry;
use proptest::prelude::*;

use super::config::parse;
use super::*;

fn open(directory: &Path, prefix: &str) -> Bucket {
    let yaml =
        format!("type: FILESYSTEM\nconfig: {{directory: '{}'}}\nprefix: '{prefix}'\n", directory.display());
    Bucket::open(&parse(&yaml).unwrap(), BucketMetrics::register(&Registry::new())).unwrap()
}

async fn names(bucket: &Bucket, folder: &str, depth: Depth) -> Vec<String> {
    bucket.list(folder, depth).await.unwrap().into_iter().map(|entry| entry.name).collect()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[tokio::test]
async fn an_object_is_what_was_written() {
    let home = tempfile::tempdir().unwrap();
    let bucket = open(home.path(), "");
    bucket.put("a/b", Bytes::from_static(b"0123456789")).await.unwrap();
    assert_eq!(bucket.get("a/b").await.unwrap(), "0123456789");
    assert_eq!(bucket.get_range("a/b", 3, 4).await.unwrap(), "3456");
    assert_eq!(bucket.get_range("a/b", 8, 100).await.unwrap(), "89");
    assert_eq!(bucket.get_range("a/b", 8, 0).await.unwrap(), "");
    assert!(matches!(bucket.get_range("a/b", 10, 1).await, Err(BucketError::Range { offset: 10, .. })));
    let attributes = bucket.attributes("a/b").await.unwrap();
    assert_eq!(attributes.size_bytes, 10);
    assert!((now_ms() - attributes.modified_ms).abs() < 60_000);
    bucket.put("a/b", Bytes::new()).await.unwrap();
    assert_eq!(bucket.get("a/b").await.unwrap(), "");
}

#[tokio::test]
async fn what_is_missing_is_not_found() {
    let home = tempfile::tempdir().unwrap();
    let bucket = open(home.path(), "");
    bucket.put("a/b", Bytes::new()).await.unwrap();
    for name in ["x", "a", "a/b/c"] {
        assert!(bucket.get(name).await.unwrap_err().is_not_found(), "{name}");
        assert!(bucket.attributes(name).await.unwrap_err().is_not_found(), "{name}");
        assert!(!bucket.exists(name).await.unwrap(), "{name}");
    }
    bucket.delete("x").await.unwrap();
}

#[tokio::test]
async fn a_deleted_object_takes_its_empty_folders_along() {
    let home = tempfile::tempdir().unwrap();
    let bucket = open(home.path(), "p");
    for name in ["a/b/c", "a/d"] {
        bucket.put(name, Bytes::new()).await.unwrap();
    }
    bucket.delete("a/b/c").await.unwrap();
    assert_eq!(names(&bucket, "", Depth::Everything).await, ["a/d"]);
    assert!(!home.path().join("p/a/b").exists());
    bucket.delete("a/d").await.unwrap();
    assert!(!home.path().join("p").exists() && home.path().exists());
}

#[tokio::test]
async fn a_listing_shows_folders_or_what_is_in_them() {
    let home = tempfile::tempdir().unwrap();
    let bucket = open(home.path(), "some/prefix");
    for name in ["b/meta.json", "b/chunks/000001", "a", "c/x"] {
        bucket.put(name, Bytes::new()).await.unwrap();
    }
    assert_eq!(names(&bucket, "", Depth::Folder).await, ["a", "b/", "c/"]);
    assert_eq!(names(&bucket, "b/", Depth::Folder).await, ["b/chunks/", "b/meta.json"]);
    let all = ["a", "b/chunks/000001", "b/meta.json", "c/x"];
    assert_eq!(names(&bucket, "", Depth::Everything).await, all);
    assert!(names(&bucket, "nothing", Depth::Everything).await.is_empty());
    assert_eq!(open(home.path(), "").get("some/prefix/a").await.unwrap(), "");
}

#[tokio::test]
async fn files_go_up_and_come_back() {
    let home = tempfile::tempdir().unwrap();
    let bucket = open(&home.path().join("bucket"), "");
    let (local, copy) = (home.path().join("local"), home.path().join("copy"));
    std::fs::write(&local, vec![7; 100_000]).unwrap();
    bucket.upload("x/y", &local).await.unwrap();
    assert_eq!(bucket.download("x/y", &copy).await.unwrap(), 100_000);
    assert_eq!(std::fs::read(&copy).unwrap(), vec![7; 100_000]);
    assert!(bucket.download("nothing", &home.path().join("other")).await.unwrap_err().is_not_found());
    assert!(!home.path().join("other").exists());
    assert!(bucket.upload("x/z", &home.path().join("gone")).await.is_err());
    assert!(!bucket.exists("x/z").await.unwrap());
}

#[tokio::test]
async fn no_name_leads_out_of_the_bucket() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("secret"), "s").unwrap();
    let bucket = open(&home.path().join("bucket"), "");
    for name in ["../secret", "/etc/passwd", "a/../../secret", "", ".", "a//b"] {
        assert!(matches!(bucket.get(name).await, Err(BucketError::Name { .. })), "{name}");
        assert!(bucket.put(name, Bytes::new()).await.is_err(), "{name}");
        assert!(bucket.delete(name).await.is_err(), "{name}");
    }
    assert!(bucket.list("..", Depth::Everything).await.is_err());
    assert!(bucket.put(".annulus-tmp/x", Bytes::new()).await.is_err());
    assert_eq!(std::fs::read(home.path().join("secret")).unwrap(), b"s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_sees_one_version_or_the_other_whole() {
    let home = tempfile::tempdir().unwrap();
    let bucket = open(home.path(), "");
    let version = |byte: u8| Bytes::from(vec![byte; 300_000]);
    bucket.put("x", version(0)).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn({
        let (bucket, done) = (bucket.clone(), Arc::clone(&done));
        async move {
            let mut reads = 0;
            while !done.load(Ordering::Relaxed) || reads == 0 {
                let content = bucket.get("x").await.unwrap();
                assert_eq!(content, vec![content[0]; 300_000]);
                reads += 1;
            }
        }
    });
    for byte in 1..20 {
        bucket.put("x", version(byte)).await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    reader.await.unwrap();
    assert_eq!(std::fs::read_dir(home.path().join(".annulus-tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn operations_are_counted_under_the_names_of_thanos() {
    let home = tempfile::tempdir().unwrap();
    let registry = Registry::new();
    let yaml = format!("type: FILESYSTEM\nconfig: {{directory: '{}'}}", home.path().display());
    let bucket = Bucket::open(&parse(&yaml).unwrap(), BucketMetrics::register(&registry)).unwrap();
    bucket.put("a", Bytes::from_static(b"abc")).await.unwrap();
    bucket.get("a").await.unwrap();
    bucket.get("missing").await.unwrap_err();
    assert_eq!(bucket.label(), format!("fs: {}", home.path().display()));
    bucket.get_range("a", 9, 1).await.unwrap_err();
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    let labels = |operation: &str| format!("{{bucket=\"{}\",operation=\"{operation}\"}}", bucket.label());
    for (name, operation, value) in [
        ("operations_total", "upload", "1"),
        ("operations_total", "get", "2"),
        ("operations_total", "delete", "0"),
        ("operation_failures_total", "get", "0"),
        ("operation_failures_total", "get_range", "1"),
        ("operation_fetched_bytes_total", "get", "3"),
        ("operation_transferred_bytes_sum", "upload", "3"),
        ("operation_duration_seconds_count", "get", "2"),
    ] {
        let line = format!("thanos_objstore_bucket_{name}{} {value}\n", labels(operation));
        assert!(text.contains(&line), "{line}{text}");
    }
    assert!(text.contains("thanos_objstore_bucket_last_successful_upload_time{"));
    assert!(text.contains("le=\"32768\"") && text.contains("le=\"1073741824\""));
}

/// One step against a bucket and against its model.
#[derive(Debug, Clone)]
enum Step {
    Put(String, u8),
    Delete(String),
    Get(String),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few names, some of which are folders of others on no path.
    let name = "[ab]/[ab]|[cd]";
    let step = prop_oneof![
        (name, any::<u8>()).prop_map(|(name, byte)| Step::Put(name, byte)),
        name.prop_map(Step::Delete),
        name.prop_map(Step::Get),
    ];
    proptest::collection::vec(step, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_directory_behaves_like_a_map_of_names(steps in steps()) {
        run(async {
            let home = tempfile::tempdir().unwrap();
            let bucket = open(home.path(), "");
            let mut model = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Put(name, byte) => {
                        bucket.put(&name, Bytes::from(vec![byte])).await.unwrap();
                        model.insert(name, byte);
                    }
                    Step::Delete(name) => {
                        bucket.delete(&name).await.unwrap();
                        model.remove(&name);
                    }
                    Step::Get(name) => {
                        let content = bucket.get(&name).await.ok().map(|content| content[0]);
                        assert_eq!(content, model.get(&name).copied());
                    }
                }
                let listed = names(&bucket, "", Depth::Everything).await;
                assert!(listed.iter().eq(model.keys()), "{listed:?} {model:?}");
            }
        });
    }
}
