//! Starts that cannot succeed: one clear line, exit code 1, and nothing left behind.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use super::support::process::Process;
use super::support::server::{Addresses, BINARY, Server, arguments};
use super::support::{is_root, leave_out};

/// The user and group that own nothing.
const NOBODY: u32 = 65534;

/// Runs a command that must give up by itself; returns what it wrote.
fn refused(command: Command, home: &Path) -> String {
    let mut process = Process::spawn("annulus", command, home);
    let status = process.wait(Duration::from_secs(20));
    let log = process.log();
    assert_eq!(status.code(), Some(1), "{status}: {log}");
    assert!(!log.contains("panicked"), "{log}");
    log
}

fn annulus(data_dir: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments(data_dir, &Addresses::free(), &[]));
    command
}

#[test]
fn a_data_directory_that_cannot_be_made_is_named() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    let data_dir = file.join("data");
    let log = refused(annulus(&data_dir), home.path());
    assert!(log.contains(&data_dir.display().to_string()), "{log}");
}

#[test]
fn a_data_directory_that_is_not_writable_is_named() {
    if is_root() {
        return leave_out("a_data_directory_that_is_not_writable_is_named", "root may write everywhere");
    }
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let data_dir = home.path().join("data");
    fs::create_dir(&data_dir).unwrap();
    fs::set_permissions(&data_dir, fs::Permissions::from_mode(0o500)).unwrap();
    let log = refused(annulus(&data_dir), home.path());
    assert!(log.contains("ermission denied"), "{log}");
}

#[test]
fn a_data_directory_in_use_is_refused_and_its_owner_goes_on() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let log = refused(annulus(&server.data_dir()), home.path());
    assert!(log.contains("in use"), "{log}");
    assert_eq!(super::support::http::get(server.addresses.write, "/-/ready").unwrap().status, 200);
}

#[test]
fn a_newer_format_is_refused_and_left_as_it_is() {
    let home = tempfile::tempdir().unwrap();
    let data_dir = home.path().join("data");
    fs::create_dir(&data_dir).unwrap();
    let format = data_dir.join("annulus.format");
    let newer = "version=99\nshards=2\nsecret=00000000000000000000000000000001\n";
    fs::write(&format, newer).unwrap();
    let log = refused(annulus(&data_dir), home.path());
    assert!(log.contains("99") && log.contains("newer"), "{log}");
    assert_eq!(fs::read_to_string(&format).unwrap(), newer);
}

#[test]
fn a_port_in_use_is_named() {
    let home = tempfile::tempdir().unwrap();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap();
    for which in 0..3 {
        let mut addresses = Addresses::free();
        *[&mut addresses.write, &mut addresses.query, &mut addresses.grpc][which] = address;
        let mut command = Command::new(BINARY);
        command.args(arguments(&home.path().join(which.to_string()), &addresses, &[]));
        let log = refused(command, home.path());
        assert!(log.contains(&address.to_string()), "{log}");
    }
}

#[test]
fn usage_errors_end_with_2_and_name_the_flag() {
    for arguments in [&["all", "--no-such-flag"][..], &["all", "--shards=many"], &["nosuchrole"]] {
        let output = Command::new(BINARY).args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        let named = arguments[arguments.len() - 1].split('=').next().unwrap();
        assert!(text.contains(named), "{arguments:?}: {text}");
    }
}

#[test]
fn a_memlock_limit_that_is_too_small_is_explained() {
    let home = tempfile::tempdir().unwrap();
    let Some(binary) = open_to_all(home.path()) else {
        return leave_out(
            "a_memlock_limit_that_is_too_small_is_explained",
            "the binary cannot be linked or copied",
        );
    };
    let mut command = Command::new("prlimit");
    command.args(["--memlock=65536:65536", "--"]);
    if is_root() {
        command.args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    }
    command.arg(binary).args(arguments(&home.path().join("data"), &Addresses::free(), &[]));
    let log = refused(command, home.path());
    assert!(log.contains("RLIMIT_MEMLOCK"), "{log}");
    assert!(log.contains("ulimit -l"), "the cure is not named: {log}");
}

/// Gives the directory to nobody, with the binary in it: where it was built may be closed to other users.
fn open_to_all(home: &Path) -> Option<PathBuf> {
    let binary = home.join("annulus");
    fs::hard_link(BINARY, &binary).or_else(|_| fs::copy(BINARY, &binary).map(drop)).ok()?;
    if is_root() {
        chown(home, Some(NOBODY), Some(NOBODY)).ok()?;
    }
    Some(binary)
}

#[test]
fn io_uring_that_is_forbidden_is_explained() {
    let home = tempfile::tempdir().unwrap();
    let command = annulus(&home.path().join("data"));
    let directory = home.path().to_owned();
    // A filter holds for the thread that sets it and for the children of that thread.
    let spawned = std::thread::spawn(move || -> Result<String, String> {
        let filter = io_uring_filter().map_err(|error| error.to_string())?;
        seccompiler::apply_filter(&filter).map_err(|error| error.to_string())?;
        Ok(refused(command, &directory))
    });
    match spawned.join().unwrap() {
        Ok(log) => {
            assert!(log.contains("io_uring"), "{log}");
            assert!(log.contains("seccomp"), "the cure is not named: {log}");
        }
        Err(error) => leave_out("io_uring_that_is_forbidden_is_explained", &error),
    }
}

/// What the default profile of container runtimes does: the three system calls fail with EPERM.
fn io_uring_filter() -> Result<BpfProgram, Box<dyn std::error::Error>> {
    // The numbers of io_uring_setup, io_uring_enter and io_uring_register, the same on all architectures.
    let rules = [425, 426, 427].map(|number| (number, Vec::new()));
    let errno = rustix::io::Errno::PERM.raw_os_error() as u32;
    let filter = SeccompFilter::new(
        rules.into_iter().collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno),
        std::env::consts::ARCH.try_into()?,
    )?;
    Ok(filter.try_into()?)
}

#[test]
fn a_filesystem_without_direct_io_is_explained() {
    let test = "a_filesystem_without_direct_io_is_explained";
    if !is_root() {
        return leave_out(test, "only root can mount one");
    }
    let home = tempfile::tempdir().unwrap();
    let mount = home.path().join("ramfs");
    fs::create_dir(&mount).unwrap();
    // The mount lives in a namespace of its own and goes with the process.
    let script = "mount -t ramfs none \"$1\" || exit 77; shift; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(&mount).arg(BINARY);
    command.args(arguments(&mount.join("data"), &Addresses::free(), &[]));
    let mut process = Process::spawn("annulus", command, home.path());
    let status = process.wait(Duration::from_secs(20));
    if status.code() == Some(77) || process.log().contains("unshare") {
        return leave_out(test, "no mount namespace or no ramfs");
    }
    assert_eq!(status.code(), Some(1), "{status}: {}", process.log());
    assert!(process.log().contains("O_DIRECT"), "{}", process.log());
}
