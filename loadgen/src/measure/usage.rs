//! What processes have used so far, and which machine this is, as the kernel tells it.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Counters and sizes of one process at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// User and system time since its start.
    pub cpu_s: f64,
    /// Memory that it occupies.
    pub rss_bytes: u64,
    /// The most that it occupied since its start.
    pub rss_peak_bytes: u64,
    /// Bytes that it caused to be written to storage; `None` if we may not know.
    pub written_bytes: Option<u64>,
}

impl Usage {
    /// Reads `/proc` for a process.
    pub fn of(pid: u32) -> io::Result<Usage> {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
        let status = read("status")?;
        Ok(Usage {
            cpu_s: cpu_s(&read("stat")?)?,
            // A process that has ended and was not waited for has no memory any more.
            rss_bytes: field(&status, "VmRSS:")? * 1024,
            rss_peak_bytes: field(&status, "VmHWM:")? * 1024,
            written_bytes: read("io").ok().and_then(|text| field(&text, "write_bytes:").ok()),
        })
    }
}

/// Context switches of all threads that a process has at this moment.
pub fn context_switches(pid: u32) -> io::Result<u64> {
    let mut switches = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end while we look.
        let Ok(status) = fs::read_to_string(thread?.path().join("status")) else { continue };
        switches +=
            field(&status, "voluntary_ctxt_switches:")? + field(&status, "nonvoluntary_ctxt_switches:")?;
    }
    Ok(switches)
}

/// User and system time of this process, to the microsecond.
pub fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// Time that the threads of this process, as they are at this moment, waited for a CPU while they had work to do.
/// Zero where the kernel does not count it.
pub fn own_cpu_wait() -> Duration {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return Duration::ZERO };
    let wait_ns = |path: std::path::PathBuf| {
        let text = fs::read_to_string(path.join("schedstat")).ok()?;
        text.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    Duration::from_nanos(threads.flatten().filter_map(|thread| wait_ns(thread.path())).sum())
}

/// CPUs that this process may use.
pub fn allowed_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// One line about this machine: numbers without it mean nothing.
pub fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu_info = read("/proc/cpuinfo");
    let model = cpu_info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown CPU", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let memory_gib = field(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0) >> 20;
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("?");
    format!(
        "{model}, {} CPUs, {memory_gib} GiB, Linux {}, load average {load}",
        allowed_cpus(),
        kernel.trim()
    )
}

/// The type of the file system that holds a path, such as ext4 or tmpfs.
pub fn filesystem(path: &Path) -> String {
    let absolute = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    mount_type(&fs::read_to_string("/proc/mounts").unwrap_or_default(), &absolute)
}

/// That of the mount with the longest prefix of the path; of two on one point, the later one covers the other.
fn mount_type(mounts: &str, path: &Path) -> String {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (_device, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        path.starts_with(point).then_some((point.len(), kind))
    });
    mounts.max_by_key(|(length, _)| *length).map_or("an unknown file system", |(_, kind)| kind).to_owned()
}

/// Fields 14 and 15 of `/proc/<pid>/stat`, counted after the command's name, which may hold anything.
fn cpu_s(stat: &str) -> io::Result<f64> {
    let after_name = stat.rsplit_once(')').map(|(_, rest)| rest).ok_or_else(|| invalid("stat"))?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok());
    let sum = ticks(11).zip(ticks(12)).map(|(user, system)| user + system).ok_or_else(|| invalid("stat"))?;
    Ok(sum as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn field(text: &str, name: &str) -> io::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| invalid(name))?;
    line.split_whitespace().next().and_then(|number| number.parse().ok()).ok_or_else(|| invalid(name))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("/proc has no usable {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.rss_bytes > 0 && usage.rss_peak_bytes >= usage.rss_bytes);
        assert!(context_switches(std::process::id()).unwrap() > 0);
        assert!(own_cpu() > Duration::ZERO && own_cpu_wait() < Duration::from_secs(3600));
    }

    #[test]
    fn a_command_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 100 1000 10";
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(cpu_s(stat).unwrap(), 300.0 / ticks);
    }

    #[test]
    fn the_longest_mount_point_wins() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n";
        assert_eq!(mount_type(mounts, Path::new("/tmp/x")), "tmpfs");
        assert_eq!(mount_type(mounts, Path::new("/var")), "ext4");
        assert_eq!(mount_type("", Path::new("/")), "an unknown file system");
    }

    #[test]
    fn a_process_that_does_not_exist_is_an_error() {
        assert!(Usage::of(u32::MAX).is_err());
    }
}
