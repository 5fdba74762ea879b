//! Prometheus' own tool reads our blocks, and we read its blocks. Skipped with a note where it is not installed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use annulus_shards::Labels;

use super::samples::{Content, read, tight, ulid, write};
use super::{BlockList, BlockReader, WriterOptions, verify};

const PROMTOOL: &str = "/usr/bin/promtool";

fn promtool(arguments: &[&str], folder: &Path) -> Option<Output> {
    if !Path::new(PROMTOOL).exists() {
        println!("skipped: {PROMTOOL} is not installed");
        return None;
    }
    let output = Command::new(PROMTOOL).args(arguments).arg(folder).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(output)
}

fn content() -> Content {
    let mut content = Content::new();
    for number in 0..500i64 {
        let path = format!("/\u{e9}{}\"", number % 70);
        let pod = format!("pod-{number}");
        let pairs = [("__name__", "http_requests_total"), ("path", &path), ("pod", &pod)];
        let sample = |at: i64| (600_000 + number + at * 15_000, (number * at) as f64 / 4.0);
        content.insert(
            Labels::from_pairs(pairs),
            vec![(0..120).map(sample).collect(), (120..130).map(sample).collect()],
        );
    }
    content
}

/// The lines that `promtool tsdb dump` prints: labels, value, time.
fn lines(content: &Content) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for (labels, chunks) in content {
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        let labels = labels.join(", ");
        for (time_ms, value) in chunks.iter().flatten() {
            lines.insert(format!("{{{labels}}} {value} {time_ms}"));
        }
    }
    lines
}

#[test]
fn promtool_reads_what_we_wrote() {
    for options in [WriterOptions::default(), tight()] {
        let parent = tempfile::tempdir().unwrap();
        let content = content();
        write(parent.path(), ulid(1), &content, options).unwrap();
        // The tool opens the folder as a database, which has a WAL.
        fs::create_dir(parent.path().join("wal")).unwrap();
        let Some(dump) = promtool(&["tsdb", "dump"], parent.path()) else { return };
        let dumped: BTreeSet<_> =
            String::from_utf8(dump.stdout).unwrap().lines().map(str::to_owned).collect();
        let expected = lines(&content);
        assert_eq!(dumped.len(), expected.len());
        assert!(
            dumped == expected,
            "{:?}",
            dumped.symmetric_difference(&expected).take(4).collect::<Vec<_>>()
        );
        let Some(analysis) = promtool(&["tsdb", "analyze"], parent.path()) else { return };
        let analysis = String::from_utf8(analysis.stdout).unwrap();
        assert!(analysis.contains("Series: 500"), "{analysis}");
    }
}

#[test]
fn we_read_what_promtool_wrote() {
    let parent = tempfile::tempdir().unwrap();
    let text = parent.path().join("metrics.txt");
    let mut input = String::from("# TYPE m gauge\n");
    for number in 0..50 {
        input.push_str(&format!(
            "m{{pod=\"{number}\",zone=\"z{}\"}} {number}.5 1600000{number:03}\n",
            number % 3
        ));
    }
    input.push_str("# EOF\n");
    fs::write(&text, input).unwrap();
    let blocks: PathBuf = parent.path().join("blocks");
    fs::create_dir(&blocks).unwrap();
    if promtool(&["tsdb", "create-blocks-from", "openmetrics", text.to_str().unwrap()], &blocks).is_none() {
        return;
    }
    let list = BlockList::open_all(&blocks).unwrap();
    assert!(list.broken.is_empty() && list.blocks.len() == 1, "{list:?}");
    let report = verify(&list.blocks[0].folder);
    assert!(report.is_sound(), "{report}");
    let content = read(&BlockReader::open(&list.blocks[0].folder).unwrap());
    assert_eq!(content.len(), 50);
    let labels = Labels::from_pairs([("__name__", "m"), ("pod", "7"), ("zone", "z1")]);
    assert_eq!(content[&labels], [vec![(1_600_000_007_000, 7.5)]]);
}
