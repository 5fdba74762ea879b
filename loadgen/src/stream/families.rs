//! The metric families of each kind of target, as tables.

/// What a family's values look like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Shape {
    /// Counts events.
    Counter,
    /// Counts bytes.
    ByteCounter,
    /// Seconds of CPU, in hundredths as the kernel gives them.
    TickCounter,
    /// Seconds of CPU, in nanoseconds as cgroups give them.
    NanoCounter,
    /// A small whole number, some of which never change.
    Whole,
    /// Bytes of memory: a walk in whole pages.
    Bytes,
    /// A fraction between 0 and 1.
    Ratio,
    /// Always this value.
    Constant(f64),
    /// 1 for the first value of the last label, 0 for the others.
    OneHot,
    /// A moment in the past, seconds since the Unix epoch.
    Time,
    /// A histogram with these upper bounds, classic or native.
    Histogram(&'static [&'static str]),
}

/// Label names, each with its values; a family has a series for each combination.
pub(super) type Dimensions = &'static [(&'static str, &'static [&'static str])];

/// A metric family of a target.
#[derive(Debug, Clone, Copy)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) shape: Shape,
    pub(super) dimensions: Dimensions,
}

const fn family(name: &'static str, shape: Shape, dimensions: Dimensions, help: &'static str) -> Family {
    Family { name, help, shape, dimensions }
}

use Shape::{
    ByteCounter, Bytes, Constant, Counter, Histogram, NanoCounter, OneHot, Ratio, TickCounter, Time, Whole,
};

const CPU: (&str, &[&str]) = ("cpu", &["0", "1", "2", "3", "4", "5", "6", "7"]);
const CPU_MODE: (&str, &[&str]) =
    ("mode", &["idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"]);
const DISK: (&str, &[&str]) = ("device", &["nvme0n1", "nvme1n1"]);
const FILESYSTEM: (&str, &[&str]) = ("mountpoint", &["/", "/boot/efi", "/var/lib/containerd"]);
const LINK: (&str, &[&str]) = ("device", &["cni0", "eth0", "eth1", "lo"]);
const READY: (&str, &[&str]) = ("condition", &["true", "false", "unknown"]);
const ROUTE: (&str, &[&str]) =
    ("route", &["/api/v2/orders", "/api/v2/orders/{id}", "/api/v2/invoices", "/internal/health"]);
const METHOD: (&str, &[&str]) = ("method", &["GET", "POST"]);
const CODE: (&str, &[&str]) = ("code", &["200", "404", "500"]);
const POOL: (&str, &[&str]) = ("pool", &["primary", "replica"]);
const VERB: (&str, &[&str]) = ("verb", &["GET", "LIST", "PATCH", "PUT", "WATCH"]);
const RESOURCE: (&str, &[&str]) =
    ("resource", &["configmaps", "endpointslices", "events", "leases", "nodes", "pods", "secrets"]);
const REASON: (&str, &[&str]) =
    ("reason", &["ContainerCreating", "CrashLoopBackOff", "CreateContainerConfigError", "ErrImagePull"]);

const HTTP_BOUNDS: &[&str] =
    &["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"];
const API_BOUNDS: &[&str] = &[
    "0.005", "0.025", "0.05", "0.1", "0.2", "0.4", "0.6", "0.8", "1", "1.25", "1.5", "2", "3", "4", "5", "6",
    "8", "10", "15", "20", "30", "45", "60", "+Inf",
];

pub(super) const NODE_EXPORTER: &[Family] = &[
    family("node_boot_time_seconds", Time, &[], "When the machine started, in unixtime."),
    family("node_context_switches_total", Counter, &[], "Context switches of all CPUs."),
    family("node_cpu_seconds_total", TickCounter, &[CPU, CPU_MODE], "Seconds the CPUs spent in each mode."),
    family("node_disk_io_time_seconds_total", TickCounter, &[DISK], "Seconds spent doing input and output."),
    family("node_disk_read_bytes_total", ByteCounter, &[DISK], "Bytes read from the device."),
    family("node_disk_reads_completed_total", Counter, &[DISK], "Reads the device completed."),
    family("node_disk_writes_completed_total", Counter, &[DISK], "Writes the device completed."),
    family("node_disk_written_bytes_total", ByteCounter, &[DISK], "Bytes written to the device."),
    family("node_filesystem_avail_bytes", Bytes, &[FILESYSTEM], "Bytes that users may still take."),
    family("node_filesystem_files", Constant(6_553_600.0), &[FILESYSTEM], "Inodes of the file system."),
    family("node_filesystem_files_free", Whole, &[FILESYSTEM], "Inodes that are free."),
    family("node_filesystem_free_bytes", Bytes, &[FILESYSTEM], "Bytes that are free."),
    family("node_filesystem_readonly", Constant(0.0), &[FILESYSTEM], "Whether it is mounted read-only."),
    family(
        "node_filesystem_size_bytes",
        Constant(107_374_182_400.0),
        &[FILESYSTEM],
        "Size of the file system.",
    ),
    family("node_intr_total", Counter, &[], "Interrupts serviced."),
    family("node_load1", Ratio, &[], "Load average of one minute."),
    family("node_load15", Ratio, &[], "Load average of fifteen minutes."),
    family("node_load5", Ratio, &[], "Load average of five minutes."),
    family("node_memory_Active_bytes", Bytes, &[], "Memory used recently."),
    family("node_memory_AnonPages_bytes", Bytes, &[], "Memory without a file behind it."),
    family("node_memory_Buffers_bytes", Bytes, &[], "Memory of block device buffers."),
    family("node_memory_Cached_bytes", Bytes, &[], "Memory of the page cache."),
    family("node_memory_Dirty_bytes", Bytes, &[], "Memory that waits to be written."),
    family("node_memory_Mapped_bytes", Bytes, &[], "Memory of mapped files."),
    family("node_memory_MemAvailable_bytes", Bytes, &[], "Memory that can be taken without swapping."),
    family("node_memory_MemFree_bytes", Bytes, &[], "Memory nobody uses."),
    family("node_memory_MemTotal_bytes", Constant(33_565_794_304.0), &[], "Memory of the machine."),
    family("node_memory_Slab_bytes", Bytes, &[], "Memory of the kernel's caches."),
    family("node_memory_SwapTotal_bytes", Constant(0.0), &[], "Swap space."),
    family("node_netstat_Tcp_CurrEstab", Whole, &[], "Open TCP connections."),
    family("node_netstat_Tcp_RetransSegs", Counter, &[], "TCP segments sent again."),
    family("node_network_receive_bytes_total", ByteCounter, &[LINK], "Bytes the device received."),
    family("node_network_receive_drop_total", Counter, &[LINK], "Received packets that were dropped."),
    family("node_network_receive_packets_total", Counter, &[LINK], "Packets the device received."),
    family("node_network_transmit_bytes_total", ByteCounter, &[LINK], "Bytes the device sent."),
    family("node_network_transmit_drop_total", Counter, &[LINK], "Packets to send that were dropped."),
    family("node_network_transmit_packets_total", Counter, &[LINK], "Packets the device sent."),
    family("node_network_up", Constant(1.0), &[LINK], "Whether the device is up."),
    family("node_procs_blocked", Whole, &[], "Processes that wait for input or output."),
    family("node_procs_running", Whole, &[], "Processes that can run."),
    family("node_pressure_cpu_waiting_seconds_total", NanoCounter, &[], "Seconds processes waited for CPU."),
    family("node_pressure_io_waiting_seconds_total", NanoCounter, &[], "Seconds processes waited for I/O."),
    family("node_time_seconds", Time, &[], "System time in unixtime."),
    family("process_resident_memory_bytes", Bytes, &[], "Resident memory size in bytes."),
    family("scrape_duration_seconds", Ratio, &[], ""),
    family("up", Constant(1.0), &[], ""),
];

pub(super) const CADVISOR: &[Family] = &[
    family("container_cpu_cfs_periods_total", Counter, &[], "Enforcement periods that elapsed."),
    family("container_cpu_cfs_throttled_periods_total", Counter, &[], "Periods that were throttled."),
    family("container_cpu_cfs_throttled_seconds_total", NanoCounter, &[], "Seconds throttled."),
    family("container_cpu_usage_seconds_total", NanoCounter, &[], "CPU time consumed, in seconds."),
    family("container_file_descriptors", Whole, &[], "Open file descriptors."),
    family("container_fs_reads_bytes_total", ByteCounter, &[DISK], "Bytes read."),
    family("container_fs_reads_total", Counter, &[DISK], "Reads completed."),
    family("container_fs_writes_bytes_total", ByteCounter, &[DISK], "Bytes written."),
    family("container_fs_writes_total", Counter, &[DISK], "Writes completed."),
    family("container_memory_cache", Bytes, &[], "Bytes of the page cache."),
    family("container_memory_failcnt", Counter, &[], "Hits of the memory limit."),
    family("container_memory_mapped_file", Bytes, &[], "Bytes of mapped files."),
    family("container_memory_max_usage_bytes", Bytes, &[], "Most memory ever used, in bytes."),
    family("container_memory_rss", Bytes, &[], "Resident set size in bytes."),
    family("container_memory_swap", Constant(0.0), &[], "Bytes of swap in use."),
    family("container_memory_usage_bytes", Bytes, &[], "Memory in use, caches included, in bytes."),
    family(
        "container_memory_working_set_bytes",
        Bytes,
        &[],
        "Memory in use that cannot be dropped, in bytes.",
    ),
    family("container_network_receive_bytes_total", ByteCounter, &[], "Bytes received."),
    family("container_network_receive_errors_total", Counter, &[], "Errors while receiving."),
    family("container_network_receive_packets_total", Counter, &[], "Packets received."),
    family("container_network_transmit_bytes_total", ByteCounter, &[], "Bytes sent."),
    family("container_network_transmit_errors_total", Counter, &[], "Errors while sending."),
    family("container_network_transmit_packets_total", Counter, &[], "Packets sent."),
    family("container_processes", Whole, &[], "Processes in the container."),
    family("container_sockets", Whole, &[], "Open sockets."),
    family("container_spec_cpu_period", Constant(100_000.0), &[], "CPU period of the container."),
    family("container_spec_cpu_shares", Constant(256.0), &[], "CPU share of the container."),
    family(
        "container_spec_memory_limit_bytes",
        Constant(536_870_912.0),
        &[],
        "Memory limit of the container.",
    ),
    family("container_start_time_seconds", Time, &[], "When the container started, in unixtime."),
    family("container_threads", Whole, &[], "Threads in the container."),
];

pub(super) const KUBE_STATE: &[Family] = &[
    family("kube_pod_container_info", Constant(1.0), &[], "Information about a container in a pod."),
    family(
        "kube_pod_container_resource_limits",
        Constant(536_870_912.0),
        &[("resource", &["memory"]), ("unit", &["byte"])],
        "Limits a container asked for.",
    ),
    family(
        "kube_pod_container_resource_requests",
        Constant(0.25),
        &[("resource", &["cpu"]), ("unit", &["core"])],
        "Resources a container asked for.",
    ),
    family("kube_pod_container_state_started", Time, &[], "When the container started, in unixtime."),
    family("kube_pod_container_status_ready", Constant(1.0), &[], "Whether the readiness check succeeded."),
    family("kube_pod_container_status_restarts_total", Counter, &[], "Restarts of the container."),
    family("kube_pod_container_status_running", Constant(1.0), &[], "Whether the container is running."),
    family("kube_pod_container_status_terminated", Constant(0.0), &[], "Whether the container has ended."),
    family("kube_pod_container_status_waiting", Constant(0.0), &[], "Whether the container waits."),
    family("kube_pod_container_status_waiting_reason", Constant(0.0), &[REASON], "Why the container waits."),
    family("kube_pod_created", Time, &[], "When the pod was created, in unixtime."),
    family(
        "kube_pod_info",
        Constant(1.0),
        &[("created_by_kind", &["ReplicaSet"]), ("host_network", &["false"])],
        "Information about a pod.",
    ),
    family("kube_pod_owner", Constant(1.0), &[("owner_kind", &["ReplicaSet"])], "The pod's owner."),
    family(
        "kube_pod_restart_policy",
        Constant(1.0),
        &[("type", &["Always"])],
        "Which restart policy the pod uses.",
    ),
    family("kube_pod_start_time", Time, &[], "When the pod started, in unixtime."),
    family(
        "kube_pod_status_phase",
        OneHot,
        &[("phase", &["Running", "Failed", "Pending", "Succeeded", "Unknown"])],
        "The pod's phase.",
    ),
    family(
        "kube_pod_status_qos_class",
        OneHot,
        &[("qos_class", &["Burstable", "BestEffort", "Guaranteed"])],
        "The pod's quality of service.",
    ),
    family("kube_pod_status_ready", OneHot, &[READY], "Whether the pod can serve requests."),
    family("kube_pod_status_ready_time", Time, &[], "When the pod became ready, in unixtime."),
    family("kube_pod_status_scheduled", OneHot, &[READY], "Whether the pod has a node."),
    family("kube_pod_tolerations", Constant(1.0), &[("effect", &["NoExecute"])], "The pod's tolerations."),
];

pub(super) const APISERVER: &[Family] = &[
    family(
        "apiserver_current_inflight_requests",
        Whole,
        &[("request_kind", &["mutating", "readOnly"])],
        "Requests in flight.",
    ),
    family(
        "apiserver_request_duration_seconds",
        Histogram(API_BOUNDS),
        &[("scope", &["cluster", "namespace"]), RESOURCE, VERB],
        "Time to answer a request, in seconds.",
    ),
    family(
        "apiserver_request_total",
        Counter,
        &[CODE, ("scope", &["cluster", "namespace"]), RESOURCE, VERB],
        "Requests, by verb and code.",
    ),
    family("apiserver_storage_objects", Whole, &[RESOURCE], "Objects at the last check."),
    family(
        "etcd_request_duration_seconds",
        Histogram(API_BOUNDS),
        &[RESOURCE],
        "Time etcd takes, in seconds.",
    ),
    family("go_goroutines", Whole, &[], "Goroutines that exist."),
    family("process_cpu_seconds_total", TickCounter, &[], "User and system CPU time spent in seconds."),
    family("process_resident_memory_bytes", Bytes, &[], "Resident memory size in bytes."),
    family("scrape_duration_seconds", Ratio, &[], ""),
    family("up", Constant(1.0), &[], ""),
];

pub(super) const APP: &[Family] = &[
    family("cache_entries", Whole, &[], "Entries in the cache."),
    family("cache_hit_ratio", Ratio, &[], "Share of the look-ups that hit."),
    family("cache_lookups_total", Counter, &[("result", &["hit", "miss"])], "Look-ups in the cache."),
    family("database_pool_connections_open", Whole, &[POOL], "Open connections."),
    family("database_pool_wait_duration_seconds_total", NanoCounter, &[POOL], "Seconds waited."),
    family("database_queries_total", Counter, &[POOL], "Queries sent."),
    family("go_gc_duration_seconds_total", NanoCounter, &[], "Seconds of garbage collection."),
    family("go_goroutines", Whole, &[], "Goroutines that exist."),
    family("go_memstats_alloc_bytes", Bytes, &[], "Bytes allocated and in use."),
    family("go_memstats_alloc_bytes_total", ByteCounter, &[], "Bytes allocated, freed ones too."),
    family("go_memstats_heap_inuse_bytes", Bytes, &[], "Heap bytes in use."),
    family("go_memstats_heap_objects", Whole, &[], "Allocated objects."),
    family("go_memstats_mallocs_total", Counter, &[], "Allocations."),
    family("go_memstats_sys_bytes", Bytes, &[], "Bytes taken from the system."),
    family("go_threads", Whole, &[], "Threads created."),
    family(
        "http_server_request_duration_seconds",
        Histogram(HTTP_BOUNDS),
        &[METHOD, ROUTE],
        "Time to answer a request, in seconds.",
    ),
    family("http_server_requests_in_flight", Whole, &[], "Requests in flight."),
    family("http_server_requests_total", Counter, &[CODE, METHOD, ROUTE], "Requests, by code."),
    family("process_cpu_seconds_total", TickCounter, &[], "User and system CPU time spent in seconds."),
    family("process_max_fds", Constant(1_048_576.0), &[], "Open file descriptors allowed."),
    family("process_open_fds", Whole, &[], "Open file descriptors."),
    family("process_resident_memory_bytes", Bytes, &[], "Resident memory size in bytes."),
    family("process_start_time_seconds", Time, &[], "When the process started, in unixtime."),
    family("queue_consumer_lag_messages", Whole, &[], "Messages not yet consumed."),
    family("queue_messages_consumed_total", Counter, &[], "Messages consumed."),
    family("scrape_duration_seconds", Ratio, &[], ""),
    family("scrape_samples_scraped", Whole, &[], ""),
    family("up", Constant(1.0), &[], ""),
];

/// The one family of a flooding application; its label of high cardinality is made by the catalogue.
pub(super) const FLOOD: Family =
    family("http_requests_total", Counter, &[METHOD], "Requests, by method and, alas, session.");
