//! What this process may know and use of the machine.

/// The name of this machine.
pub fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// How many CPUs this process may use.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get())
}

/// The memory that this process may use: the machine's, or less if its control group says so.
pub fn memory_bytes() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
    });
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|text| text.trim().parse::<u64>().ok());
    machine.into_iter().chain(group).min()
}

/// The memory that only this process uses: what it has in RAM, without pages of files, which the kernel takes back when
/// it needs them.
pub fn own_memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = text.split_ascii_whitespace().skip(1).map(|word| word.parse::<u64>().ok());
    let (resident, shared) = (pages.next()??, pages.next()??);
    resident.saturating_sub(shared).checked_mul(rustix::param::page_size() as u64)
}

/// Raises the number of files that the process may have open to what it is allowed at most: chunk files, blocks and
/// connections are one each. Returns the number.
pub fn raise_open_files() -> Option<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What is refused stays as it was.
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_known() {
        assert!(!name().is_empty() && cpus() >= 1);
        assert!(memory_bytes().is_some_and(|bytes| bytes > 1 << 20));
        let pages = vec![1u8; 64 << 20];
        assert!(own_memory_bytes().is_some_and(|bytes| bytes > pages.len() as u64));
    }
}
