//! The flags of each role, for clap.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use super::values::{bytes, duration, listen_address};

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "annulus",
    version,
    about = "The central side of a \"Prometheus in every cluster, Thanos Receive in the middle\" architecture",
    after_help = "`annulus all` with no flags takes remote write on port 10901 and answers PromQL on port 9090.",
    arg_required_else_help = true
)]
pub struct Cli {
    /// What the process does.
    #[command(subcommand)]
    pub role: Role,
}

/// What the process does.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// Take remote write and answer PromQL, in one process
    #[command(after_help = AFTER_HELP)]
    All(Box<AllFlags>),
    /// Take remote write only, with the flags and ports of Thanos Receive
    #[command(after_help = AFTER_HELP)]
    Receive(Box<ReceiveFlags>),
}

const AFTER_HELP: &str = "\
Flags are given as --flag=value or --flag value, switches as --flag or --no-flag. Of a flag given twice the last \
value holds. Durations are written 500ms, 30s, 5m, 2h30m, 15d; sizes 64KiB, 512MiB, 1GiB (MB means MiB, as in Thanos).
Other flags of Thanos Receive are accepted; a warning at start names each that has no effect in this version.";

/// `annulus all`
#[derive(Debug, Args)]
pub struct AllFlags {
    /// Where remote write, health checks and metrics are served
    #[arg(long = "http-address", value_name = "ADDRESS", default_value = "0.0.0.0:10901",
        value_parser = listen_address, help_heading = LISTEN)]
    pub http_address: SocketAddr,
    /// Where the query API is served
    #[arg(long = "query.http-address", value_name = "ADDRESS", default_value = "0.0.0.0:9090",
        value_parser = listen_address, help_heading = LISTEN)]
    pub query_address: SocketAddr,
    /// A second address with everything that --http-address serves
    #[arg(long = "grpc-address", value_name = "ADDRESS", default_value = "0.0.0.0:10902",
        value_parser = listen_address, help_heading = LISTEN)]
    pub grpc_address: SocketAddr,
    /// Storage and receiving.
    #[command(flatten)]
    pub ingest: IngestFlags,
    /// The query plane.
    #[command(flatten)]
    pub query: QueryFlags,
    /// Write the metrics of this process into itself, with job="annulus"
    #[arg(long = "self-scrape", value_name = "true|false", num_args = 0..=1, require_equals = true,
        default_value_t = true, default_missing_value = "true", action = ArgAction::Set, help_heading = PROCESS)]
    pub self_scrape: bool,
    /// Logging and stopping.
    #[command(flatten)]
    pub process: ProcessFlags,
}

/// `annulus receive`
#[derive(Debug, Args)]
pub struct ReceiveFlags {
    /// Where remote write is served
    #[arg(long = "remote-write.address", value_name = "ADDRESS", default_value = "0.0.0.0:19291",
        value_parser = listen_address, help_heading = LISTEN)]
    pub write_address: SocketAddr,
    /// Where health checks and metrics are served (and remote write too)
    #[arg(long = "http-address", value_name = "ADDRESS", default_value = "0.0.0.0:10902",
        value_parser = listen_address, help_heading = LISTEN)]
    pub http_address: SocketAddr,
    /// Another address with everything that --http-address serves
    #[arg(long = "grpc-address", value_name = "ADDRESS", default_value = "0.0.0.0:10901",
        value_parser = listen_address, help_heading = LISTEN)]
    pub grpc_address: SocketAddr,
    /// Storage and receiving.
    #[command(flatten)]
    pub ingest: IngestFlags,
    /// Write the metrics of this process into itself, with job="annulus"
    #[arg(long = "self-scrape", value_name = "true|false", num_args = 0..=1, require_equals = true,
        default_value_t = false, default_missing_value = "true", action = ArgAction::Set, help_heading = PROCESS)]
    pub self_scrape: bool,
    /// Logging and stopping.
    #[command(flatten)]
    pub process: ProcessFlags,
}

const LISTEN: &str = "Addresses";
const STORAGE: &str = "Storage";
const RECEIVE: &str = "Receiving";
const QUERY: &str = "Queries";
const PROCESS: &str = "Process";

/// Storage and receiving, in every role that takes remote write.
#[derive(Debug, Args)]
pub struct IngestFlags {
    /// The range of one block of samples
    #[arg(long = "tsdb.min-block-duration", value_name = "DURATION", default_value = "2h", value_parser = duration,
        help_heading = STORAGE)]
    pub block_range: Duration,
    /// How much older than its tenant's newest sample one may be that comes after newer ones of its series; 0s for
    /// not at all
    #[arg(long = "tsdb.out-of-order.time-window", value_name = "DURATION", default_value = "2h",
        value_parser = duration, help_heading = STORAGE)]
    pub out_of_order_window: Duration,
    /// How far ahead of the clock a sample may be; 0s for any distance
    #[arg(long = "tsdb.too-far-in-future.time-window", value_name = "DURATION", default_value = "0s",
        value_parser = duration, help_heading = STORAGE)]
    pub future_window: Duration,
    /// How long blocks stay in the local directory, once the bucket has them; 0d for ever
    #[arg(long = "tsdb.retention", value_name = "DURATION", default_value = "15d", value_parser = duration,
        help_heading = STORAGE)]
    pub retention: Duration,
    /// The most bytes of local blocks: the oldest that the bucket has go first; 0 for no bound
    #[arg(long = "tsdb.max-retention-bytes", value_name = "SIZE", default_value = "0", value_parser = bytes,
        help_heading = STORAGE)]
    pub retention_bytes: u64,
    /// Where blocks are uploaded to, as the content of Thanos' objstore.yml
    #[arg(long = "objstore.config", value_name = "YAML", help_heading = STORAGE)]
    pub bucket: Option<String>,
    /// The same, in a file [default for `all`: a FILESYSTEM bucket in <data-dir>/bucket]
    #[arg(long = "objstore.config-file", value_name = "FILE", help_heading = STORAGE)]
    pub bucket_file: Option<PathBuf>,
    /// How often to look for blocks to upload
    #[arg(long = "shipper.interval", value_name = "DURATION", default_value = "30s", value_parser = duration,
        help_heading = STORAGE)]
    pub ship_interval: Duration,
    /// How many exemplars are kept in memory, all tenants together (in Thanos: of each tenant); 0 for none
    #[arg(long = "tsdb.max-exemplars", value_name = "N", default_value_t = 100_000, allow_negative_numbers = true,
        help_heading = STORAGE)]
    pub exemplars_max: i64,
    /// Space that is kept free on the disk: with less, writes are answered with 503 until there is more
    #[arg(long = "tsdb.min-free-bytes", value_name = "SIZE", default_value = "1GiB", value_parser = bytes,
        help_heading = STORAGE)]
    pub free_bytes_min: u64,
    /// The directory of all data; made when absent
    #[arg(long = "data-dir", visible_alias = "tsdb.path", value_name = "DIR", default_value = "./data",
        help_heading = STORAGE)]
    pub data_dir: PathBuf,
    /// How many cores ingest [default: all that the process may use; an existing directory keeps its number]
    #[arg(long, value_name = "N", help_heading = STORAGE)]
    pub shards: Option<usize>,
    /// Size of the write-ahead log of each shard, pre-allocated; a full ring refuses writes until
    /// the next checkpoint
    #[arg(long = "wal.ring-size", value_name = "SIZE", default_value = "512MiB", value_parser = bytes,
        help_heading = STORAGE)]
    pub ring_bytes: u64,
    /// About how much memory samples and series may take before writes are refused [default: half of the memory]
    #[arg(long = "head.max-bytes", value_name = "SIZE", value_parser = bytes, help_heading = STORAGE)]
    pub head_bytes_max: Option<u64>,
    /// A label that every series gets, as name="value"; repeatable [default: receive_replica with $POD_NAME or the
    /// host's name]
    #[arg(long = "label", value_name = "NAME=\"VALUE\"", action = ArgAction::Append, help_heading = RECEIVE)]
    pub labels: Vec<String>,
    /// The header that names the tenant
    #[arg(long = "receive.tenant-header", value_name = "HEADER", default_value = "THANOS-TENANT",
        help_heading = RECEIVE)]
    pub tenant_header: String,
    /// The tenant of requests without that header
    #[arg(long = "receive.default-tenant-id", value_name = "TENANT", default_value = "default-tenant",
        help_heading = RECEIVE)]
    pub default_tenant: String,
    /// The label that holds the tenant
    #[arg(long = "receive.tenant-label-name", value_name = "LABEL", default_value = "tenant_id",
        help_heading = RECEIVE)]
    pub tenant_label: String,
    /// Of how many metric families of a tenant the metadata is kept; 0 for none
    #[arg(long = "receive.metadata-max-families", value_name = "N", default_value_t = 10_000,
        help_heading = RECEIVE)]
    pub metadata_families_max: u32,
    /// Largest write request as sent
    #[arg(long = "receive.max-body-bytes", value_name = "SIZE", default_value = "32MiB", value_parser = bytes,
        help_heading = RECEIVE)]
    pub body_bytes_max: u64,
    /// Largest write request after decompression
    #[arg(long = "receive.max-decoded-bytes", value_name = "SIZE", default_value = "64MiB", value_parser = bytes,
        help_heading = RECEIVE)]
    pub decoded_bytes_max: u64,
    /// The most bytes of write requests in memory at once; more are answered with 503
    #[arg(long = "receive.max-inflight-bytes", value_name = "SIZE", default_value = "512MiB",
        value_parser = bytes, help_heading = RECEIVE)]
    pub inflight_bytes_max: u64,
    /// Open connections from which on new ones are closed [default: 10000 per core]
    #[arg(long = "receive.max-connections", value_name = "N", help_heading = RECEIVE)]
    pub connections_max: Option<usize>,
    /// How long a write request may take to arrive
    #[arg(long = "receive.request-timeout", value_name = "DURATION", default_value = "30s",
        value_parser = duration, help_heading = RECEIVE)]
    pub receive_timeout: Duration,
    /// Limits of tenants, as the content of Thanos' limits file
    #[arg(long = "receive.limits-config", value_name = "YAML", help_heading = RECEIVE)]
    pub limits: Option<String>,
    /// The same, in a file, which is read again when it changes
    #[arg(long = "receive.limits-config-file", value_name = "FILE", help_heading = RECEIVE)]
    pub limits_file: Option<PathBuf>,
    /// How often to look whether that file, or the one of relabelling rules, has changed
    #[arg(long = "receive.limits-config-reload-timer", value_name = "DURATION", default_value = "1s",
        value_parser = duration, help_heading = RECEIVE)]
    pub limits_look_interval: Duration,
    /// Tenants of which something is stored, from which on new ones are answered with 429; 0 for no limit
    #[arg(long = "receive.max-tenants", value_name = "N", default_value_t = 100_000, help_heading = RECEIVE)]
    pub tenants_max: usize,
    /// Memory of the process above which writes are answered with 503, and new series from 90% of it on; 0 for no
    /// limit [default: 75% of the memory]
    #[arg(long = "receive.memory-limit", value_name = "SIZE", value_parser = bytes, help_heading = RECEIVE)]
    pub memory_bytes_max: Option<u64>,
    /// Relabelling rules for what is written, as Prometheus has them
    #[arg(long = "receive.relabel-config", value_name = "YAML", help_heading = RECEIVE)]
    pub relabel: Option<String>,
    /// The same, in a file, which is read again when it changes
    #[arg(long = "receive.relabel-config-file", value_name = "FILE", help_heading = RECEIVE)]
    pub relabel_file: Option<PathBuf>,
    /// A label whose value is the tenant of its series, before any header; it is not stored
    #[arg(long = "receive.split-tenant-label-name", value_name = "LABEL", default_value = "", help_heading = RECEIVE)]
    pub split_tenant_label: String,
    /// Whether each resource of an OTLP request becomes a series target_info
    #[arg(long = "receive.otlp-enable-target-info", value_name = "true|false", num_args = 0..=1,
        require_equals = true, default_value_t = true, default_missing_value = "true", action = ArgAction::Set,
        help_heading = RECEIVE)]
    pub otlp_target_info: bool,
    /// A resource attribute of OTLP that becomes a label of all series of its resource; repeatable, or several with
    /// commas between
    #[arg(long = "receive.otlp-promote-resource-attributes", value_name = "ATTRIBUTE", value_delimiter = ',',
        action = ArgAction::Append, help_heading = RECEIVE)]
    pub otlp_promoted: Vec<String>,
    /// Thanos' hashrings, as JSON; this version stores all that it is sent and forwards nothing
    #[arg(long = "receive.hashrings", value_name = "JSON", conflicts_with = "hashrings_file",
        help_heading = RECEIVE)]
    pub hashrings: Option<String>,
    /// The same, in a file
    #[arg(long = "receive.hashrings-file", value_name = "FILE", help_heading = RECEIVE)]
    pub hashrings_file: Option<PathBuf>,
    /// The endpoint of the hashrings that is this node
    #[arg(long = "receive.local-endpoint", value_name = "ENDPOINT", default_value = "", help_heading = RECEIVE)]
    pub local_endpoint: String,
    /// Thanos' replication factor; this version keeps one copy
    #[arg(long = "receive.replication-factor", value_name = "N", default_value_t = 1, help_heading = RECEIVE)]
    pub replication_factor: u64,
}

/// The query plane.
#[derive(Debug, Args)]
pub struct QueryFlags {
    /// A label that queries do not see; repeatable, or several with commas between
    #[arg(long = "query.replica-label", value_name = "LABEL", default_value = "receive_replica",
        value_delimiter = ',', action = ArgAction::Append, help_heading = QUERY)]
    pub replica_labels: Vec<String>,
    /// How long a query may take
    #[arg(long = "query.timeout", value_name = "DURATION", default_value = "2m", value_parser = duration,
        help_heading = QUERY)]
    pub timeout: Duration,
    /// How far a selector looks back for a sample
    #[arg(long = "query.lookback-delta", value_name = "DURATION", default_value = "5m", value_parser = duration,
        help_heading = QUERY)]
    pub lookback_delta: Duration,
    /// The step of subqueries that name none
    #[arg(long = "query.default-evaluation-interval", value_name = "DURATION", default_value = "1m",
        value_parser = duration, help_heading = QUERY)]
    pub default_evaluation_interval: Duration,
    /// The smallest step of range queries that name none
    #[arg(long = "query.default-step", value_name = "DURATION", default_value = "1s", value_parser = duration,
        help_heading = QUERY)]
    pub default_step: Duration,
    /// The most samples that a query may hold in memory
    #[arg(long = "query.max-samples", value_name = "N", default_value_t = 50_000_000, help_heading = QUERY)]
    pub samples_max: u64,
    /// The most bytes of labels and chunks that the selectors of a query may read together
    #[arg(long = "query.max-select-bytes", value_name = "SIZE", default_value = "1GiB", value_parser = bytes,
        help_heading = QUERY)]
    pub select_bytes_max: u64,
    /// Queries that run at once; others wait for their turn
    #[arg(long = "query.max-concurrent", value_name = "N", default_value_t = 20, help_heading = QUERY)]
    pub concurrent_max: usize,
    /// Whether a query that does not say so is answered without what cannot be read, with a warning
    #[arg(long = "query.partial-response", value_name = "true|false", num_args = 0..=1, require_equals = true,
        default_value_t = true, default_missing_value = "true", action = ArgAction::Set, help_heading = QUERY)]
    pub partial_response: bool,
    /// Queries that take at least as long are logged; 0s for none
    #[arg(long = "query.log-queries-longer-than", value_name = "DURATION", default_value = "0s",
        value_parser = duration, help_heading = QUERY)]
    pub log_longer_than: Duration,
    /// The directory of the file queries.active, which says which queries run [default: the data directory]
    #[arg(long = "query.active-query-path", value_name = "DIR", help_heading = QUERY)]
    pub active_query_dir: Option<PathBuf>,
    /// The most samples that a remote read may return in one message; streamed ones have no such limit
    #[arg(long = "storage.remote.read-sample-limit", value_name = "N", default_value_t = 50_000_000,
        help_heading = QUERY)]
    pub read_samples_max: u64,
    /// Bytes from which on a frame of a streamed remote read is sent
    #[arg(long = "storage.remote.read-max-bytes-in-frame", value_name = "SIZE", default_value = "1MiB",
        value_parser = bytes, help_heading = QUERY)]
    pub read_frame_bytes: u64,
    /// Experimental parts of PromQL, as Prometheus names them: promql-experimental-functions,
    /// promql-extended-range-selectors, promql-binop-fill-modifiers, promql-delayed-name-removal; repeatable, or
    /// several with commas between
    #[arg(long = "enable-feature", value_name = "FEATURE", value_delimiter = ',', action = ArgAction::Append,
        help_heading = QUERY)]
    pub features: Vec<String>,
    /// Threads that evaluate queries [default: the cores that the process may use]
    #[arg(long = "query.threads", value_name = "N", help_heading = QUERY)]
    pub threads: Option<usize>,
}

/// Logging, self-scrape, stopping.
#[derive(Debug, Args)]
pub struct ProcessFlags {
    /// How often --self-scrape writes
    #[arg(long = "self-scrape.interval", value_name = "DURATION", default_value = "15s", value_parser = duration,
        help_heading = PROCESS)]
    pub self_scrape_interval: Duration,
    /// The least important lines that are logged
    #[arg(long = "log.level", value_name = "LEVEL", value_enum, ignore_case = true, default_value_t = Level::Info,
        help_heading = PROCESS)]
    pub log_level: Level,
    /// How lines are logged
    #[arg(long = "log.format", value_name = "FORMAT", value_enum, default_value_t = Format::Logfmt,
        help_heading = PROCESS)]
    pub log_format: Format,
    /// How long requests in progress may take after SIGTERM
    #[arg(long = "http-grace-period", value_name = "DURATION", default_value = "2m", value_parser = duration,
        help_heading = PROCESS)]
    pub grace_period: Duration,
}

/// `--log.level`
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Level {
    /// What needs an operator
    Error,
    /// What an operator should know
    Warn,
    /// What happens seldom
    Info,
    /// Everything
    Debug,
}

/// `--log.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// key=value pairs
    Logfmt,
    /// One JSON object per line
    Json,
    #[value(hide = true)]
    Journald,
}
