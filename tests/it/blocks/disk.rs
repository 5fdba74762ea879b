//! A disk that is nearly full: writes are told to come back, reads go on, and space brings the writes back.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::support::http::{Response, get};
use crate::support::metrics::metric;
use crate::support::process::Process;
use crate::support::query::QueryApi;
use crate::support::server::{Addresses, BINARY, Server, arguments};
use crate::support::write::{Sender, series};
use crate::support::{is_root, leave_out, now_ms, wait_for};

/// The process looks at the disk every few seconds.
const LOOK_LIMIT: Duration = Duration::from_secs(60);

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
    server.process.terminate(Duration::from_secs(60));
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
    server.process.terminate(Duration::from_secs(60));
    server.restart_with(&["--tsdb.min-free-bytes=0"]);
    server.sender().store(&sample);
    assert_eq!(server.query().value("m", now + 1000), Some(2.0));
}

#[test]
fn space_that_comes_back_brings_writes_back() {
    let test = "space_that_comes_back_brings_writes_back";
    if !is_root() {
        return leave_out(test, "only root can mount a disk");
    }
    let home = tempfile::tempdir().unwrap();
    let (image, mount) = (home.path().join("image"), home.path().join("disk"));
    fs::create_dir(&mount).unwrap();
    File::create(&image).unwrap().set_len(DISK_BYTES).unwrap();
    let made = Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image).status();
    if !made.is_ok_and(|status| status.success()) {
        return leave_out(test, "mkfs.ext4 is missing");
    }
    // The mount lives in a namespace of its own and goes with the process.
    let script = "mount -o loop \"$1\" \"$2\" || exit 77; shift 2; exec \"$@\"";
    let addresses = Addresses::free();
    let flags = [format!("--tsdb.min-free-bytes={FREE_BYTES_MIN}")];
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(&image).arg(&mount).arg(BINARY);
    command.args(arguments(&mount.join("data"), &addresses, &[&flags[0]]));
    let mut process = Process::spawn("annulus", command, home.path());
    let is_ready = wait_for("annulus is ready, or cannot start", Duration::from_secs(60), || {
        let is_ready = get(addresses.query, "/-/ready").is_ok_and(|response| response.status == 200);
        (is_ready || process.ended().is_some()).then_some(is_ready)
    });
    if process.ended().is_some_and(|status| status.code() == Some(77)) {
        return leave_out(test, "no loop device can be mounted");
    }
    assert!(is_ready, "annulus ended: {}", process.log());

    let now = now_ms();
    let mut sender = Sender::new(addresses.write);
    let mut round = 0;
    let mut send = || {
        round += 1;
        sender.send(&[series("m", "1", &[(now + round, round as f64)])]).unwrap()
    };
    assert_eq!(send().status, 200);
    // The mount as the process sees it.
    let disk = PathBuf::from(format!("/proc/{}/root{}", process.id(), mount.display()));
    let free = rustix::fs::statvfs(&disk).unwrap();
    let fill_bytes = free.f_bavail * free.f_frsize - FREE_BYTES_MIN / 2;
    let filler = disk.join("filler");
    let mut file = File::create(&filler).unwrap();
    for _ in 0..fill_bytes >> 20 {
        file.write_all(&[1; 1 << 20]).unwrap();
    }
    file.sync_all().unwrap();
    drop(file);
    let refused = wait_for("writes are refused", LOOK_LIMIT, || {
        let response = send();
        (response.status != 200).then_some(response)
    });
    assert_is_told_to_come_back(&refused);
    assert_eq!(QueryApi(addresses.query).value("m", now + 1), Some(1.0));
    fs::remove_file(&filler).unwrap();
    wait_for("writes are taken again", LOOK_LIMIT, || (send().status == 200).then_some(()));
    assert!(process.log().contains("the disk has space again"));
    process.terminate(Duration::from_secs(60));
}
