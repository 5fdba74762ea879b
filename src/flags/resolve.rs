//! From flags to what the process is started with: defaults that depend on the machine, and checks across flags.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use annulus_shards::core::{IngestRules, NodeConfig, RING_BYTES_MIN, SHARDS_MAX};
use annulus_shards::head::{ExtraLimits, TimeWindows};
use annulus_shards::wire::otlp;

use super::command::{
    AllFlags, Cli, Format, IngestFlags, Level, ProcessFlags, QueryFlags, ReceiveFlags, Role,
};
use super::values::{expand_variables, is_label_name, label};
use super::{BlocksSetup, BucketSetup, LogSetup, QuerySetup, Setup, features, hashrings, ingest_rules};
use crate::api::ReadLimits;
use crate::host;
use crate::promql::value::QueryOptions;

/// Positions in a decoded body are 32-bit numbers, with room for labels gathered at its end.
const DECODED_BYTES_LIMIT: u64 = 1 << 30;

/// Rings are written in blocks of this size.
const RING_BLOCK_BYTES: u64 = 4096;

/// The head's limit where the memory of the machine is not known.
const HEAD_BYTES_FALLBACK: u64 = 4 << 30;

/// The largest frames of remote read.
const FRAME_BYTES_MAX: usize = 32 << 20;

/// The label by which replicas of a receiver differ, when no `--label` says otherwise.
const REPLICA_LABEL: &str = "receive_replica";

/// Checks and completes the flags; an error is one line for the operator.
pub fn resolve(cli: Cli, mut warnings: Vec<String>, flags: Vec<(String, String)>) -> Result<Setup, String> {
    let (write_address, listen, ingest, query, self_scrape, process) = match cli.role {
        Role::All(all) => {
            let AllFlags { http_address, query_address, grpc_address, ingest, query, self_scrape, process } =
                *all;
            let query = Some(query_setup(query, query_address, &ingest.data_dir, &mut warnings)?);
            (http_address, vec![http_address, grpc_address], ingest, query, self_scrape, process)
        }
        Role::Receive(receive) => {
            let ReceiveFlags { write_address, http_address, grpc_address, ingest, self_scrape, process } =
                *receive;
            let listen = vec![write_address, http_address, grpc_address];
            (write_address, listen, ingest, None, self_scrape, process)
        }
    };
    check_addresses(&listen, query.as_ref())?;
    let external_labels = external_labels(&ingest, &mut warnings)?;
    warn_of_hashrings(&ingest, &mut warnings)?;
    let tenant_label = ingest.tenant_label.clone();
    if !is_label_name(&tenant_label) {
        return Err(wrong("receive.tenant-label-name", &tenant_label, "it is not a label name"));
    }
    let interval = process.self_scrape_interval;
    if interval < Duration::from_secs(1) {
        return Err("--self-scrape.interval must be at least 1s".to_owned());
    }
    if ingest.ship_interval < Duration::from_secs(1) {
        return Err("--shipper.interval must be at least 1s".to_owned());
    }
    let blocks = blocks_setup(&ingest, query.is_some(), &mut warnings);
    let (rules, rule_files) = ingest_rules::resolve(&ingest, &mut warnings)?;
    Ok(Setup {
        rule_files,
        blocks,
        log: log_setup(&process, &mut warnings),
        node: node_config(ingest, rules, listen)?,
        write_address,
        external_labels,
        tenant_label,
        query,
        self_scrape: self_scrape.then_some(interval),
        grace_period: process.grace_period,
        warnings,
        flags,
    })
}

fn wrong(flag: &str, value: &str, reason: &str) -> String {
    format!("invalid value '{value}' for '--{flag}': {reason}")
}

/// Port 0 asks the system for any free port, so it may be named twice.
fn check_addresses(listen: &[SocketAddr], query: Option<&QuerySetup>) -> Result<(), String> {
    let all: Vec<SocketAddr> = listen.iter().copied().chain(query.map(|query| query.address)).collect();
    for (index, address) in all.iter().enumerate() {
        if address.port() != 0 && all[..index].contains(address) {
            return Err(format!("two flags name the address {address}: each listener needs its own"));
        }
    }
    Ok(())
}

fn node_config(
    ingest: IngestFlags,
    rules: IngestRules,
    listen: Vec<SocketAddr>,
) -> Result<NodeConfig, String> {
    if ingest.ring_bytes < RING_BYTES_MIN || !ingest.ring_bytes.is_multiple_of(RING_BLOCK_BYTES) {
        return Err(format!("--wal.ring-size must be a multiple of 4096, and at least {RING_BYTES_MIN}"));
    }
    if ingest.shards.is_some_and(|shards| !(1..=SHARDS_MAX).contains(&shards)) {
        return Err(format!("--shards must be between 1 and {SHARDS_MAX}"));
    }
    if ingest.default_tenant.is_empty() || ingest.default_tenant.contains('/') {
        let reason = "a tenant's name is not empty and holds no /";
        return Err(wrong("receive.default-tenant-id", &ingest.default_tenant, reason));
    }
    if http::HeaderName::from_bytes(ingest.tenant_header.as_bytes()).is_err() {
        return Err(wrong("receive.tenant-header", &ingest.tenant_header, "it is not a header's name"));
    }
    if ingest.body_bytes_max == 0 || ingest.decoded_bytes_max == 0 {
        return Err("--receive.max-body-bytes and --receive.max-decoded-bytes must be more than 0".to_owned());
    }
    if ingest.decoded_bytes_max > DECODED_BYTES_LIMIT {
        return Err("--receive.max-decoded-bytes must be at most 1GiB".to_owned());
    }
    if ingest.connections_max == Some(0) {
        return Err("--receive.max-connections must be more than 0".to_owned());
    }
    if ingest.inflight_bytes_max < ingest.decoded_bytes_max {
        return Err(
            "--receive.max-inflight-bytes must be at least --receive.max-decoded-bytes, or a request of the \
                    largest size could never be taken"
                .to_owned(),
        );
    }
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let windows = time_windows(&ingest)?;
    // To Prometheus a negative number is none.
    let exemplars_max = usize::try_from(ingest.exemplars_max.max(0)).unwrap_or(usize::MAX);
    let families_max = ingest.metadata_families_max as usize;
    let extras = ExtraLimits { exemplars_max, families_max, ..ExtraLimits::default() };
    let promoted = ingest.otlp_promoted.into_iter().filter(|name| !name.is_empty()).collect();
    Ok(NodeConfig {
        windows,
        extras,
        free_bytes_min: ingest.free_bytes_min,
        data_dir: ingest.data_dir,
        shards: ingest.shards,
        listen,
        ring_bytes: ingest.ring_bytes,
        body_bytes_max: size(ingest.body_bytes_max),
        decoded_bytes_max: size(ingest.decoded_bytes_max),
        inflight_bytes_max: size(ingest.inflight_bytes_max),
        connections_max: ingest.connections_max,
        receive_timeout: ingest.receive_timeout,
        head_bytes_max: ingest
            .head_bytes_max
            .unwrap_or_else(|| host::memory_bytes().map_or(HEAD_BYTES_FALLBACK, |bytes| bytes / 2)),
        tenant_header: ingest.tenant_header,
        default_tenant: ingest.default_tenant,
        rules,
        otlp: otlp::Settings { target_info: ingest.otlp_target_info, promoted },
    })
}

fn blocks_setup(ingest: &IngestFlags, is_all: bool, warnings: &mut Vec<String>) -> BlocksSetup {
    let content = ingest.bucket.as_ref().filter(|content| !content.trim().is_empty());
    let file = ingest.bucket_file.as_ref().filter(|file| !file.as_os_str().is_empty());
    let bucket = match (content, file) {
        (content, Some(file)) => {
            if content.is_some() {
                warnings.push(
                    "--objstore.config and --objstore.config-file are both given: the file is used"
                        .to_owned(),
                );
            }
            BucketSetup::File(file.clone())
        }
        (Some(content), None) => BucketSetup::Content(content.clone()),
        (None, None) if is_all => BucketSetup::Directory(ingest.data_dir.join("bucket")),
        (None, None) => BucketSetup::None,
    };
    BlocksSetup {
        bucket,
        ship_interval: ingest.ship_interval,
        retention_ms: i64::try_from(ingest.retention.as_millis()).unwrap_or(i64::MAX),
        retention_bytes: ingest.retention_bytes,
    }
}

fn time_windows(ingest: &IngestFlags) -> Result<TimeWindows, String> {
    let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let windows = TimeWindows {
        block_ms: ms(ingest.block_range),
        out_of_order_ms: ms(ingest.out_of_order_window),
        future_ms: ms(ingest.future_window),
    };
    if !(1_000..=TimeWindows::BLOCK_MS_MAX).contains(&windows.block_ms) {
        return Err("--tsdb.min-block-duration must be between 1s and 31d".to_owned());
    }
    Ok(windows)
}

fn query_setup(
    query: QueryFlags,
    address: SocketAddr,
    data_dir: &Path,
    warnings: &mut Vec<String>,
) -> Result<QuerySetup, String> {
    for (flag, is_zero) in [
        ("query.timeout", query.timeout.is_zero()),
        ("query.lookback-delta", query.lookback_delta.is_zero()),
        ("query.default-evaluation-interval", query.default_evaluation_interval.is_zero()),
        ("query.default-step", query.default_step.is_zero()),
        ("query.max-concurrent", query.concurrent_max == 0),
        ("query.threads", query.threads == Some(0)),
        ("query.max-samples", query.samples_max == 0),
        ("storage.remote.read-max-bytes-in-frame", query.read_frame_bytes == 0),
    ] {
        if is_zero {
            return Err(format!("--{flag} must be more than 0"));
        }
    }
    let mut options = QueryOptions::default();
    let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    options.lookback_delta_ms = ms(query.lookback_delta);
    options.default_step_ms = ms(query.default_evaluation_interval);
    options.timeout = query.timeout;
    options.samples_max = query.samples_max;
    options.fetch_bytes_max = query.select_bytes_max;
    features::enable(&query.features, &mut options, warnings);
    Ok(QuerySetup {
        address,
        options,
        default_step_ms: ms(query.default_step),
        replica_labels: query.replica_labels.into_iter().filter(|name| !name.is_empty()).collect(),
        // More permits than this a semaphore cannot hold, and no machine can run.
        concurrent_max: query.concurrent_max.min(1 << 20),
        partial_response: query.partial_response,
        slow_query: Some(query.log_longer_than).filter(|longest| !longest.is_zero()),
        active_query_dir: query.active_query_dir.unwrap_or_else(|| data_dir.to_owned()),
        read: ReadLimits {
            samples_max: query.read_samples_max,
            // A frame is in memory as a whole, and clients refuse those over 50 MiB.
            frame_bytes: usize::try_from(query.read_frame_bytes)
                .map_or(FRAME_BYTES_MAX, |bytes| bytes.min(FRAME_BYTES_MAX)),
        },
        threads: query.threads.unwrap_or_else(host::cpus),
        select_bytes_max: query.select_bytes_max,
    })
}

fn external_labels(
    ingest: &IngestFlags,
    warnings: &mut Vec<String>,
) -> Result<Vec<(String, String)>, String> {
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    for text in &ingest.labels {
        let (name, value, quoted) = label(text)?;
        if !quoted {
            warnings.push(format!(
                "--label={text} has no quotes around its value (a shell takes them away: write \
                 --label='{name}=\"{value}\"'); taken as {name}=\"{value}\""
            ));
        }
        if let Some(before) = labels.insert(name.clone(), value.clone()) {
            warnings.push(format!(
                "--label {name} is given more than once: {value:?} takes the place of {before:?}"
            ));
        }
    }
    if labels.is_empty() {
        let value = std::env::var("POD_NAME").ok().filter(|name| !name.is_empty()).unwrap_or_else(host::name);
        warnings.push(format!("no --label is given: every series gets {REPLICA_LABEL}={value:?}"));
        labels.insert(REPLICA_LABEL.to_owned(), value);
    }
    Ok(labels.into_iter().collect())
}

fn warn_of_hashrings(ingest: &IngestFlags, warnings: &mut Vec<String>) -> Result<(), String> {
    let content = match (&ingest.hashrings, &ingest.hashrings_file) {
        (Some(content), _) if !content.is_empty() => content.clone(),
        (_, Some(path)) if !path.as_os_str().is_empty() => match std::fs::read_to_string(path) {
            Ok(content) => content,
            Err(error) => {
                warnings.push(format!(
                    "--receive.hashrings-file={} cannot be read and has no effect: {error}",
                    path.display()
                ));
                return Ok(());
            }
        },
        _ => "[]".to_owned(),
    };
    let content = expand_variables(&content, |name| std::env::var(name).ok())
        .map_err(|reason| format!("--receive.hashrings: {reason}"))?;
    warnings.extend(hashrings::warning(&content, &ingest.local_endpoint, ingest.replication_factor));
    Ok(())
}

fn log_setup(process: &ProcessFlags, warnings: &mut Vec<String>) -> LogSetup {
    if process.log_format == Format::Journald {
        warnings.push(
            "--log.format=journald is not supported: lines are written as logfmt to standard error, which \
             systemd takes into its journal"
                .to_owned(),
        );
    }
    LogSetup {
        level: match process.log_level {
            Level::Error => tracing::Level::ERROR,
            Level::Warn => tracing::Level::WARN,
            Level::Info => tracing::Level::INFO,
            Level::Debug => tracing::Level::DEBUG,
        },
        json: process.log_format == Format::Json,
    }
}
