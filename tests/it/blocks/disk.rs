//! A disk that is full, or nearly: writes are told to come back before one fails, reads go on, and space brings the
//! writes back.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::SHORT_WINDOWS;
use super::workload::{PART_STEPS, Workload};
use crate::support::http::{Response, get};
use crate::support::metrics::metric;
use crate::support::process::Process;
use crate::support::query::QueryApi;
use crate::support::server::{Addresses, BINARY, Server, arguments};
use crate::support::write::{Sender, series};
use crate::support::{is_root, leave_out, now_ms, wait_for};

/// The process looks at the disk every few seconds.
const LOOK_LIMIT: Duration = Duration::from_secs(60);

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A disk with room for the rings, and what is to stay free on it.
const DISK_BYTES: u64 = 160 << 20;
const FREE_BYTES_MIN: u64 = 32 << 20;

fn assert_is_told_to_come_back(response: &Response) {
    assert_eq!(response.status, 503, "{}", response.text());
    assert!(response.header("retry-after").is_some_and(|value| value.parse::<u32>().is_ok()));
    assert!(response.text().contains("free space"), "{}", response.text());
}

#[test]
fn too_little_free_space_refuses_writes_and_leaves_reads() {
    let mut server = Server::start();
    let now = now_ms();
    server.sender().store(&[series("m", "1", &[(now, 1.0)])]);
    server.process.terminate(STOP_LIMIT);
    server.restart_with(&["--tsdb.min-free-bytes=1000000TiB"]);
    let sample = [series("m", "1", &[(now + 1000, 2.0)])];
    let refused = wait_for("the disk was looked at", LOOK_LIMIT, || {
        let response = server.sender().send(&sample).unwrap();
        (response.status != 200).then_some(response)
    });
    assert_is_told_to_come_back(&refused);
    assert_eq!(server.query().value("m", now), Some(1.0));
    assert!(metric(server.addresses.write, "annulus_disk_free_bytes") > Some(0.0));
    assert!(server.process.log().contains("the disk is nearly full"));
    server.process.terminate(STOP_LIMIT);
    server.restart_with(&["--tsdb.min-free-bytes=0"]);
    server.sender().store(&sample);
    assert_eq!(server.query().value("m", now + 1000), Some(2.0));
}

/// A server with a small disk of its own.
struct OwnDisk {
    process: Process,
    addresses: Addresses,
    /// The disk as the process sees it.
    folder: PathBuf,
    _home: TempDir,
}

impl OwnDisk {
    /// Starts one, or says why the test is left out.
    fn start(test: &str, flags: &[&str]) -> Option<OwnDisk> {
        let leave_out = |why: &str| {
            leave_out(test, why);
            None
        };
        if !is_root() {
            return leave_out("only root can mount a disk");
        }
        let home = tempfile::tempdir().unwrap();
        let (image, mount) = (home.path().join("image"), home.path().join("disk"));
        fs::create_dir(&mount).unwrap();
        File::create(&image).unwrap().set_len(DISK_BYTES).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image).status();
        if !made.is_ok_and(|status| status.success()) {
            return leave_out("mkfs.ext4 is missing");
        }
        // The mount lives in a namespace of its own and goes with the process.
        let script = "mount -o loop \"$1\" \"$2\" || exit 77; shift 2; exec \"$@\"";
        let addresses = Addresses::free();
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(&image).arg(&mount).arg(BINARY);
        command.args(arguments(&mount.join("data"), &addresses, flags));
        let mut process = Process::spawn("annulus", command, home.path());
        let is_ready = wait_for("annulus is ready, or cannot start", START_LIMIT, || {
            let is_ready = get(addresses.query, "/-/ready").is_ok_and(|response| response.status == 200);
            (is_ready || process.ended().is_some()).then_some(is_ready)
        });
        let has_no_mount = process.ended().is_some_and(|status| status.code() == Some(77));
        if has_no_mount || process.log().contains("unshare") {
            return leave_out("no mount namespace, or no loop device");
        }
        assert!(is_ready, "annulus ended: {}", process.log());
        let folder = PathBuf::from(format!("/proc/{}/root{}", process.id(), mount.display()));
        Some(OwnDisk { process, addresses, folder, _home: home })
    }

    /// Fills the disk until only about so much is free.
    fn fill(&self, left_bytes: u64) {
        let mut file = File::create(self.filler()).unwrap();
        let mut piece = vec![1; 1 << 20];
        while !piece.is_empty() {
            let free = rustix::fs::statvfs(&self.folder).unwrap();
            let is_left = free.f_bavail * free.f_frsize <= left_bytes;
            if is_left || file.write_all(&piece).is_err() {
                // The last bytes are taken in small pieces.
                piece.truncate(if is_left { 0 } else { piece.len() / 16 });
            }
        }
        file.sync_all().unwrap();
    }

    fn empty(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }
}

#[test]
fn space_that_comes_back_brings_writes_back() {
    let limit = format!("--tsdb.min-free-bytes={FREE_BYTES_MIN}");
    let Some(mut server) = OwnDisk::start("space_that_comes_back_brings_writes_back", &[&limit]) else {
        return;
    };
    let now = now_ms();
    let mut sender = Sender::new(server.addresses.write);
    let mut round = 0;
    let mut send = || {
        round += 1;
        sender.send(&[series("m", "1", &[(now + round, round as f64)])]).unwrap()
    };
    assert_eq!(send().status, 200);
    server.fill(FREE_BYTES_MIN / 2);
    let refused = wait_for("writes are refused", LOOK_LIMIT, || {
        let response = send();
        (response.status != 200).then_some(response)
    });
    assert_is_told_to_come_back(&refused);
    assert_eq!(QueryApi(server.addresses.query).value("m", now + 1), Some(1.0));
    server.empty();
    wait_for("writes are taken again", LOOK_LIMIT, || (send().status == 200).then_some(()));
    assert!(server.process.log().contains("the disk has space again"));
    server.process.terminate(STOP_LIMIT);
}

/// Blocks and checkpoints cannot be written; the log was made at its full size before.
#[test]
fn a_disk_without_a_free_byte_loses_nothing_acknowledged() {
    let test = "a_disk_without_a_free_byte_loses_nothing_acknowledged";
    let flags = [&SHORT_WINDOWS[..], &["--tsdb.min-free-bytes=0"]].concat();
    let Some(mut server) = OwnDisk::start(test, &flags) else { return };
    let workload = Workload::new("team-a", 10, 4 * PART_STEPS as i64);
    let (address, api) = (server.addresses.write, QueryApi(server.addresses.query));
    server.fill(0);
    workload.send(address, 0..2 * PART_STEPS);
    wait_for("a cut has failed", LOOK_LIMIT, || {
        (metric(address, "annulus_cut_failures_total") > Some(0.0)).then_some(())
    });
    let log = server.process.log();
    assert!(
        log.contains("windows are not cut; they stay in the head") && log.contains("No space left"),
        "{log}"
    );
    workload.send(address, 2 * PART_STEPS..3 * PART_STEPS);
    workload.check(&workload.ask(api), 3 * PART_STEPS, 3 * PART_STEPS).unwrap();
    server.empty();
    workload.send(address, 3 * PART_STEPS..4 * PART_STEPS);
    workload.check(&workload.ask(api), 4 * PART_STEPS, 4 * PART_STEPS).unwrap();
    let status = server.process.terminate(STOP_LIMIT);
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(!server.process.log().contains("panicked"));
}
