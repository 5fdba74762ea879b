//! Tests of head and blocks as one: nothing is missed and nothing comes twice, wherever a sample is at that moment.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use annulus_shards::MatchOp;
use futures::executor::block_on;

use super::samples::*;
use super::*;
use crate::promql::engine::Engine;
use crate::promql::value::{QueryOptions, QueryValue};
use crate::source::held_bytes;
use crate::source::{Source, SourceError};

const WINDOW_MS: i64 = 100_000;

struct Node {
    root: tempfile::TempDir,
    head: Arc<FakeHead>,
    blocks: Arc<LocalBlocks>,
}

impl Node {
    /// Two tenants with a series of a sample per second, for three windows, all in the head.
    fn new() -> Node {
        let root = tempfile::tempdir().unwrap();
        let (blocks, _) = open(root.path(), ReaderLimits::default());
        let node = Node { root, head: Arc::default(), blocks };
        for tenant in ["a", "b"] {
            for window in 0..3 {
                node.head.put(tenant, &up(), &chunks(window, 30));
            }
        }
        node
    }

    fn joined(&self) -> Joined {
        Joined::new(head_source(&self.head), Arc::clone(&self.blocks), BYTES_MAX)
    }

    fn counts(&self) -> Vec<f64> {
        let engine = Engine::new(2);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let options = QueryOptions { timeout: Duration::from_secs(60), ..QueryOptions::default() };
        let source: Arc<dyn Source> = Arc::new(self.joined());
        let query = "sort(count_over_time(up[300s])) + 0 * sum_over_time(up[300s])";
        let answer = runtime.block_on(engine.instant(source, query, 3 * WINDOW_MS - 1, &options)).unwrap();
        match answer.value {
            QueryValue::Vector(samples) => {
                samples.into_iter().filter_map(|sample| sample.value.as_float()).collect()
            }
            other => panic!("{other:?}"),
        }
    }
}

fn up() -> annulus_shards::Labels {
    labels(&[("__name__", "up"), ("job", "x"), ("region", "us"), ("replica", "1"), ("zone", "z")])
}

/// The samples of a window, in chunks of some size.
fn chunks(window: i64, chunk_samples: usize) -> Vec<Samples> {
    let samples: Samples =
        (window * 100..(window + 1) * 100).map(|second| (second * 1_000, second as f64)).collect();
    samples.chunks(chunk_samples).map(<[_]>::to_vec).collect()
}

/// Writes the block of a window, as a cut of the head does.
fn cut(root: &Path, tenant: &str, window: i64, chunk_samples: usize) -> std::path::PathBuf {
    let number = u128::from(tenant.as_bytes()[0]) << 8 | window as u128;
    let times = (window * WINDOW_MS, (window + 1) * WINDOW_MS);
    let content = Content::from([(up(), chunks(window, chunk_samples))]);
    write(root, tenant, meta(number, times, block_labels(tenant)), &content)
}

#[test]
fn every_sample_counts_once_at_each_step_of_a_cut() {
    // Chunks of the head's own size are equal in both places; of another size they overlap.
    for chunk_samples in [30, 17] {
        let node = Node::new();
        assert_eq!(node.counts(), [300.0, 300.0], "in the head only");
        for window in 0..2 {
            for tenant in ["a", "b"] {
                let path = cut(node.root.path(), tenant, window, chunk_samples);
                assert_eq!(node.counts(), [300.0, 300.0], "the block is not known");
                node.blocks.add(&path).unwrap();
                assert_eq!(node.counts(), [300.0, 300.0], "in both");
                node.head.truncate(tenant, (window + 1) * WINDOW_MS);
                assert_eq!(node.counts(), [300.0, 300.0], "in the block only");
            }
        }
        let restarted = open(node.root.path(), ReaderLimits::default()).0;
        assert_eq!(Node { blocks: restarted, ..node }.counts(), [300.0, 300.0], "after a restart");
    }
}

#[test]
fn a_cut_just_before_or_after_the_head_answers_hides_nothing() {
    for is_before in [true, false] {
        let node = Node::new();
        let times = (0, 3 * WINDOW_MS);
        let before = content(&select(&node.joined(), vec![], times), times);
        for window in 0..3 {
            let (head, blocks) = (Arc::clone(&node.head), Arc::clone(&node.blocks));
            let root = node.root.path().to_owned();
            let cut_window = move || {
                for tenant in ["a", "b"] {
                    blocks.add(&cut(&root, tenant, window, 30)).unwrap();
                    head.truncate(tenant, (window + 1) * WINDOW_MS);
                }
            };
            match is_before {
                true => node.head.before_next_answer(cut_window),
                false => node.head.after_next_answer(cut_window),
            }
            assert_eq!(content(&select(&node.joined(), vec![], times), times), before);
        }
        assert_eq!(content(&select(&node.joined(), vec![], times), times), before);
    }
}

#[test]
fn queries_beside_a_cutter_see_every_sample() {
    let node = Node::new();
    let times = (0, 3 * WINDOW_MS);
    let before = content(&select(&node.joined(), vec![], times), times);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(content(&select(&node.joined(), vec![], times), times), before);
                }
            });
        }
        for window in 0..3 {
            for tenant in ["a", "b"] {
                node.blocks.add(&cut(node.root.path(), tenant, window, 40)).unwrap();
                node.head.truncate(tenant, (window + 1) * WINDOW_MS);
                assert_eq!(node.blocks.scan().unwrap(), ScanReport::default());
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(content(&select(&node.joined(), vec![], times), times), before);
}

#[test]
fn equal_chunks_of_head_and_block_are_taken_once() {
    let node = Node::new();
    let before = held_bytes(&select(&node.joined(), vec![], (0, 300_000)));
    for tenant in ["a", "b"] {
        node.blocks.add(&cut(node.root.path(), tenant, 1, 30)).unwrap();
    }
    let found = select(&node.joined(), vec![], (0, 300_000));
    assert_eq!(held_bytes(&found), before);
    assert_eq!(found[0].chunks.len(), 12);
}

#[test]
fn labels_and_matchers_mean_the_same_on_both_sides() {
    let node = Node::new();
    let matchers = [
        (MatchOp::Equal, "tenant_id", "a"),
        (MatchOp::NotEqual, "tenant_id", "a"),
        (MatchOp::Regex, "tenant_id", "c|d"),
        (MatchOp::Equal, "region", "eu"),
        (MatchOp::Equal, "region", "us"),
        (MatchOp::Equal, "replica", "1"),
        (MatchOp::Equal, "receive_replica", "r0"),
        (MatchOp::NotEqual, "receive_replica", "r0"),
        (MatchOp::Equal, "zone", ""),
        (MatchOp::NotRegex, "job", ""),
    ];
    let answers = |node: &Node| {
        let source = node.joined();
        let (min_ms, max_ms) = (0, WINDOW_MS - 1);
        let mut answers = Vec::new();
        for (op, name, value) in matchers {
            let set = vec![matcher(op, name, value)];
            let found = content(&select(&source, set.clone(), (min_ms, max_ms)), (min_ms, max_ms));
            let names = block_on(source.label_names(vec![set.clone()], min_ms, max_ms)).unwrap();
            let values = ["tenant_id", "region", "job", "replica", "zone"].map(|label| {
                block_on(source.label_values(label.to_owned(), vec![set.clone()], min_ms, max_ms)).unwrap()
            });
            answers.push((found, names, values));
        }
        answers
    };
    let in_head = answers(&node);
    assert_eq!(in_head[0].1, ["__name__", "job", "region", "tenant_id", "zone"]);
    for tenant in ["a", "b"] {
        node.blocks.add(&cut(node.root.path(), tenant, 0, 30)).unwrap();
    }
    assert_eq!(answers(&node), in_head, "in both");
    for tenant in ["a", "b"] {
        node.head.truncate(tenant, WINDOW_MS);
    }
    assert_eq!(answers(&node), in_head, "in the block only");
}

#[test]
fn label_names_and_values_of_both_are_merged() {
    let node = Node::new();
    let old = labels(&[("__name__", "old"), ("job", "w"), ("shelf", "1")]);
    let old = Content::from([(old, vec![vec![(-5_000, 1.0)]])]);
    let meta = meta(1, (-WINDOW_MS, 0), block_labels("c"));
    node.blocks.add(&write(node.root.path(), "c", meta, &old)).unwrap();
    let source = node.joined();
    let names = |min_ms| block_on(source.label_names(vec![], min_ms, 9_000)).unwrap();
    let values = |name: &str| block_on(source.label_values(name.to_owned(), vec![], -9_000, 9_000)).unwrap();
    assert_eq!(names(-9_000), ["__name__", "job", "region", "shelf", "tenant_id", "zone"]);
    assert_eq!(names(0), ["__name__", "job", "region", "tenant_id", "zone"]);
    assert_eq!(values("__name__"), ["old", "up"]);
    assert_eq!(values("tenant_id"), ["a", "b", "c"]);
    assert_eq!(values("job"), ["w", "x"]);
}

#[test]
fn the_budget_is_for_head_and_blocks_together() {
    let node = Node::new();
    for tenant in ["a", "b"] {
        node.blocks.add(&cut(node.root.path(), tenant, 0, 30)).unwrap();
        node.head.truncate(tenant, WINDOW_MS);
    }
    let times = (0, 3 * WINDOW_MS);
    let of_head = held_bytes(&select(head_source(&node.head).as_ref(), vec![], times));
    let of_blocks =
        held_bytes(&select(&BlockSource::new(Arc::clone(&node.blocks), BYTES_MAX), vec![], times));
    let with = |bytes_max| {
        let joined = Joined::new(head_source(&node.head), Arc::clone(&node.blocks), bytes_max);
        block_on(joined.select(request(vec![], times)))
    };
    assert_eq!(with(of_head + of_blocks).unwrap().len(), 2);
    let least = of_head.max(of_blocks);
    assert!(matches!(with(least + 1), Err(SourceError::TooLarge { bytes_max }) if bytes_max == least + 1));
}

#[test]
fn a_block_that_goes_while_a_query_runs_takes_only_its_own_samples() {
    let node = Node::new();
    for tenant in ["a", "b"] {
        node.blocks.add(&cut(node.root.path(), tenant, 0, 30)).unwrap();
        node.head.truncate(tenant, WINDOW_MS);
    }
    let (root, blocks) = (node.root.path().to_owned(), Arc::clone(&node.blocks));
    node.head.after_next_answer(move || {
        let block = Arc::clone(&blocks.covering(0, 0)[0]);
        std::fs::rename(&block.folder, root.join("gone")).unwrap();
    });
    let found = content(&select(&node.joined(), vec![], (0, 300_000)), (0, 300_000));
    let mut counts: Vec<usize> = found.into_values().map(|samples| samples.len()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [200, 300]);
}
