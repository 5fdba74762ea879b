//! What a process has used so far, and which machine this is, as the kernel tells it.

use std::fs;
use std::io;
use std::path::Path;

/// Counters and sizes of one process at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// User and system time since its start.
    pub cpu_seconds: f64,
    /// Memory that it occupies.
    pub resident_bytes: u64,
    /// The most that it occupied since its start.
    pub resident_peak_bytes: u64,
    /// Bytes that it caused to be written to storage.
    pub written_bytes: u64,
}

impl Usage {
    /// Reads `/proc` for a process.
    pub fn of(pid: u32) -> io::Result<Usage> {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
        let (status, io) = (read("status")?, read("io")?);
        Ok(Usage {
            cpu_seconds: cpu_seconds(&read("stat")?)?,
            resident_bytes: field(&status, "VmRSS:")? * 1024,
            resident_peak_bytes: field(&status, "VmHWM:")? * 1024,
            written_bytes: field(&io, "write_bytes:")?,
        })
    }

    /// This process.
    pub fn of_self() -> io::Result<Usage> {
        Usage::of(std::process::id())
    }
}

/// Fields 14 and 15 of `/proc/<pid>/stat`, counted after the command's name, which may hold anything.
fn cpu_seconds(stat: &str) -> io::Result<f64> {
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

/// One line about the machine and the filesystem of `directory`: numbers without it mean nothing.
pub fn machine(directory: &Path) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu_info = read("/proc/cpuinfo");
    let model = cpu_info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown CPU", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let memory_gib = field(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0) >> 20;
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("?");
    format!(
        "{model}, {cpus} CPUs, {memory_gib} GiB, Linux {}, data on {}, load average before {load}",
        kernel.trim(),
        filesystem(&read("/proc/mounts"), directory),
    )
}

/// The type of the mount with the longest prefix of the path.
fn filesystem(mounts: &str, directory: &Path) -> String {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (_device, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        directory.starts_with(point).then_some((point.len(), kind))
    });
    mounts.max().map_or("unknown", |(_, kind)| kind).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let usage = Usage::of_self().unwrap();
        assert!(usage.resident_bytes > 0 && usage.resident_peak_bytes >= usage.resident_bytes);
    }

    #[test]
    fn a_command_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 100 1000 10";
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(cpu_seconds(stat).unwrap(), 300.0 / ticks);
    }

    #[test]
    fn the_longest_mount_point_wins() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n";
        assert_eq!(filesystem(mounts, Path::new("/tmp/x")), "tmpfs");
        assert_eq!(filesystem(mounts, Path::new("/var")), "ext4");
    }
}
