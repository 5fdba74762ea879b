//! The log on a real file: glommio, O_DIRECT, O_DSYNC.

use std::cell::Cell;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Checkpoints, Covered, PageVisitor, Recovery, Wal};
use crate::rt::{self, RingFile, ShardDirectory};

const RING_BYTES: u64 = 4 << 20;

#[derive(Default)]
struct Pages(Vec<(u64, Vec<u8>)>);

impl PageVisitor for Pages {
    fn reset(&mut self) {
        self.0.clear();
    }

    fn page(&mut self, seq: u64, bytes: &[u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.0.push((seq, bytes.to_vec()));
        Ok(())
    }
}

/// Runs a test on an executor with a directory of its own.
fn on_an_executor<F: Future<Output = ()> + 'static>(
    test: impl FnOnce(Rc<Path>) -> F + Send + Clone + 'static,
) {
    if let Err(error) = rt::preflight(1) {
        eprintln!("LEFT OUT, nothing was tested: {error}");
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().to_owned();
    let done = Arc::new(AtomicBool::new(false));
    let finished = Arc::clone(&done);
    let executor = rt::spawn_shard("wal-test", rt::allowed_cpus()[0], move || async move {
        rt::prepare_directory(&path, 0).await.unwrap();
        test(Rc::from(path)).await;
        finished.store(true, Ordering::Release);
    });
    executor.unwrap().join().unwrap();
    assert!(done.load(Ordering::Acquire), "the test ran to its end");
}

async fn open(path: &Path, covered: Option<Covered>) -> (Wal<RingFile>, Recovery, Vec<(u64, Vec<u8>)>) {
    let ring = path.join("wal");
    let file =
        if ring.exists() { RingFile::open(&ring).await } else { RingFile::create(&ring, RING_BYTES).await };
    let directory = ShardDirectory::new(path.to_owned());
    let mut frames = Vec::new();
    let opened = Wal::open(file.unwrap(), &directory, 0, covered, |seq, payload| {
        frames.push((seq, payload.to_vec()));
        Ok::<_, std::io::Error>(())
    });
    let (wal, recovery) = opened.await.unwrap();
    (wal, recovery, frames)
}

#[test]
fn commits_and_checkpoints_go_on_at_once_and_come_back() {
    on_an_executor(|path| async move {
        let (wal, recovery, _) = open(&path, None).await;
        assert_eq!(recovery.epoch, 1);
        let directory = ShardDirectory::new(path.to_path_buf());
        let (mut checkpoints, loaded) = Checkpoints::load(directory, 0, &mut Pages::default()).await.unwrap();
        assert_eq!(loaded.covered, None);

        let committing = Cell::new(true);
        let commits = async {
            for number in 0..600u64 {
                while !wal.fits(20_000) {
                    rt::yield_to_reactor().await;
                }
                let payload = vec![number as u8; (number * 37 % 20_000) as usize];
                assert_eq!(wal.commit(&payload).await.unwrap(), number + 1);
            }
            committing.set(false);
        };
        let images = async {
            let mut written = 0;
            while committing.get() || written < 3 {
                let begin_seq = wal.next_seq();
                let mut writer = checkpoints.create(begin_seq).await.unwrap();
                writer.page(begin_seq - 1, &vec![1; 300_000]).await.unwrap();
                while wal.durable_seq() < writer.end_seq() {
                    rt::yield_to_reactor().await;
                }
                let finished = writer.finish(wal.durable_seq()).await.unwrap();
                if let Some(below_seq) = checkpoints.keep(&finished).await.unwrap() {
                    wal.release(below_seq).await.unwrap();
                }
                written += 1;
            }
        };
        futures::future::join(commits, images).await;
        wal.close().await.unwrap();

        let mut pages = Pages::default();
        let directory = ShardDirectory::new(path.to_path_buf());
        let (_, loaded) = Checkpoints::load(directory, 0, &mut pages).await.unwrap();
        let covered = loaded.covered.unwrap();
        assert_eq!((pages.0.len(), pages.0[0].1.len()), (1, 300_000));
        let (wal, recovery, frames) = open(&path, Some(covered)).await;
        assert_eq!((wal.next_seq(), recovery.missing.len(), recovery.damage.len()), (601, 0, 0));
        let expected: Vec<u64> = (covered.begin_seq..=600).collect();
        assert_eq!(frames.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), expected);
        for (seq, payload) in frames {
            assert_eq!(payload, vec![(seq - 1) as u8; ((seq - 1) * 37 % 20_000) as usize]);
        }
        wal.close().await.unwrap();
    });
}

#[test]
fn a_log_that_was_never_closed_comes_back_and_damage_is_set_aside() {
    on_an_executor(|path| async move {
        let (wal, ..) = open(&path, None).await;
        for number in 1..=20u8 {
            wal.commit(&[number; 10_000]).await.unwrap();
        }
        drop(wal);
        let (wal, recovery, frames) = open(&path, None).await;
        assert_eq!((recovery.epoch, recovery.frames, recovery.torn, frames.len()), (2, 20, None, 20));
        assert_eq!(wal.commit(b"more").await.unwrap(), 21);
        drop(wal);

        // Three blocks a frame: the byte is in the payload of the sixth one.
        let offset = 2 * 4096 + 5 * 3 * 4096 + 5000;
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path.join("wal")).unwrap();
        file.write_all_at(&[0xff], offset).unwrap();
        file.sync_all().unwrap();
        let (wal, recovery, frames) = open(&path, None).await;
        assert_eq!(frames.len(), 5);
        assert_eq!((recovery.damage[0].lost.clone(), recovery.damage[0].whole_frames), (Some(6..=21), 15));
        assert_eq!(recovery.set_aside, ["wal-damaged-3"]);
        let copy = std::fs::read(path.join("wal-damaged-3")).unwrap();
        assert_eq!(copy.len() as u64, 4096 + recovery.damage[0].bytes);
        assert_eq!(wal.commit(b"after").await.unwrap(), 22);
        wal.close().await.unwrap();
    });
}
