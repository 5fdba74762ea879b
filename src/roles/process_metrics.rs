//! `process_*` as Go's client library has them, and which build this is.

use std::fs;
use std::sync::Mutex;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, IntGauge, IntGaugeVec, Opts, Registry};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Registers the metrics of this process; `started_ms` is when it started, since the Unix epoch.
///
/// # Panics
/// If the registry has them already.
pub fn register(registry: &Registry, started_ms: i64) {
    registry.register(Box::new(ProcessMetrics::new(started_ms))).expect("registered once per registry");
    for name in ["annulus_build_info", "thanos_build_info"] {
        let help = "Always 1; the labels say which build this is.";
        let labels = ["branch", "goversion", "revision", "version"];
        let build = IntGaugeVec::new(Opts::new(name, help), &labels).expect("the names are valid");
        let revision = option_env!("ANNULUS_REVISION").unwrap_or("");
        build.with_label_values(&["", "", revision, env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(build)).expect("registered once per registry");
    }
}

/// Read from the kernel whenever the registry is gathered.
struct ProcessMetrics {
    cpu_seconds: Counter,
    resident_bytes: IntGauge,
    virtual_bytes: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
    threads: IntGauge,
    start_seconds: Gauge,
    /// Two gatherings at once would both add the same CPU time.
    gathering: Mutex<()>,
}

impl ProcessMetrics {
    fn new(started_ms: i64) -> ProcessMetrics {
        let gauge = |name: &str, help: &str| IntGauge::new(name, help).expect("the names are valid");
        let start_seconds = Gauge::new("process_start_time_seconds", "When the process started.")
            .expect("the names are valid");
        start_seconds.set(started_ms as f64 / 1000.0);
        ProcessMetrics {
            cpu_seconds: Counter::new("process_cpu_seconds_total", "CPU time of all threads.")
                .expect("the names are valid"),
            resident_bytes: gauge("process_resident_memory_bytes", "Memory that is in RAM."),
            virtual_bytes: gauge("process_virtual_memory_bytes", "Memory that is mapped."),
            open_fds: gauge("process_open_fds", "Open file descriptors."),
            max_fds: gauge("process_max_fds", "File descriptors that may be open."),
            threads: gauge("process_threads", "Threads."),
            start_seconds,
            gathering: Mutex::new(()),
        }
    }

    fn read(&self) {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu_seconds = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
        self.cpu_seconds.inc_by((cpu_seconds - self.cpu_seconds.get()).max(0.0));
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        self.resident_bytes.set(status_number(&status, "VmRSS:") * 1024);
        self.virtual_bytes.set(status_number(&status, "VmSize:") * 1024);
        self.threads.set(status_number(&status, "Threads:"));
        // The directory that is read counts itself.
        self.open_fds.set(fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as i64 - 1));
        let max_fds = getrlimit(Resource::Nofile).current;
        self.max_fds.set(max_fds.map_or(i64::MAX, |max| i64::try_from(max).unwrap_or(i64::MAX)));
    }

    fn collectors(&self) -> [&dyn Collector; 7] {
        [
            &self.cpu_seconds,
            &self.resident_bytes,
            &self.virtual_bytes,
            &self.open_fds,
            &self.max_fds,
            &self.threads,
            &self.start_seconds,
        ]
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.collectors().into_iter().flat_map(|collector| collector.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // A gathering that panicked leaves nothing half done.
        let _one = self.gathering.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        self.read();
        self.collectors().into_iter().flat_map(|collector| collector.collect()).collect()
    }
}

/// The number in a line of `/proc/self/status`; 0 if the kernel does not have it.
fn status_number(status: &str, name: &str) -> i64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_seen_working() {
        let registry = Registry::new();
        register(&registry, 1_500);
        let value = |name: &str| {
            let families = registry.gather();
            let family = families.iter().find(|family| family.name() == name).unwrap();
            let metric = &family.get_metric()[0];
            metric.get_gauge().get_value() + metric.get_counter().get_value()
        };
        let before = value("process_cpu_seconds_total");
        let mut sum = 0u64;
        while value("process_cpu_seconds_total") <= before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") > 3.0);
        assert_eq!((value("process_start_time_seconds"), value("thanos_build_info")), (1.5, 1.0));
    }
}
