//! From a load to machines: the arithmetic of capacity, as pure functions.

use crate::commands::plan::coefficients::{Coefficients, Key};
use crate::commands::plan::worksheet::{Line, Term, Unit, Worksheet};

/// The field's rule: no more of a node's CPU in regular service.
pub const CPU_SHARE_MAX: f64 = 0.7;
/// No more of a node's memory: the page cache and a burst of new series need the rest.
pub const MEMORY_SHARE_MAX: f64 = 0.8;

const DAY_S: f64 = 86_400.0;
/// The head holds the two hours of the next block, and half as much again until that block is cut.
const HEAD_WINDOW_H: f64 = 3.0;
/// Samples in an open chunk, on average half of its 120.
const OPEN_CHUNK_SAMPLES: f64 = 60.0;
/// The largest block spans so much, and is deleted only when its newest sample is old enough.
const BLOCK_MAX_D: f64 = 14.0;
/// Objects stay so long after they were marked as deleted.
const DELETE_DELAY_D: f64 = 2.0;
/// The receiver's own default for each shard.
const RING_MIN_BYTES: f64 = 512.0 * 1024.0 * 1024.0;
/// A checkpoint starts whenever a third of the ring was written.
const RING_PARTS: f64 = 3.0;
/// 8 h, 48 h, 14 d: each sample is rewritten so often.
const COMPACTION_PASSES: f64 = 3.0;

/// Where the series come from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SeriesCount {
    /// Known as a whole.
    Total(f64),
    /// Every target of every cluster has so many.
    Product {
        /// Clusters that send.
        clusters: f64,
        /// Targets in each.
        targets: f64,
        /// Series of each.
        metrics: f64,
    },
}

/// What is to be served.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// Active series now.
    pub series: SeriesCount,
    /// Seconds between two samples of a series.
    pub interval_s: f64,
    /// Share by which the load will grow.
    pub growth: f64,
    /// Share of the active series that is replaced by new ones in an hour.
    pub churn_per_hour: f64,
    /// Copies of each sample.
    pub replication_factor: f64,
    /// Seconds for which raw samples are kept in the object storage.
    pub raw_s: f64,
    /// The same of five-minute aggregates.
    pub of_5m_s: f64,
    /// The same of one-hour aggregates.
    pub of_1h_s: f64,
    /// Seconds for which a node keeps its own blocks.
    pub local_s: f64,
    /// Whether the compactor merges the copies.
    pub deduplicated: bool,
    /// Cores for queries, of all nodes together.
    pub query_cores: f64,
    /// Cores of a node that can be bought.
    pub node_cores: f64,
    /// Memory of it.
    pub node_memory_bytes: f64,
}

/// Names of the lines that are the answer, in the order in which they are shown.
pub const ANSWER: [&str; 14] = [
    "nodes",
    "cores_per_node",
    "memory_bytes_per_node",
    "ssd_bytes_per_node",
    "ssd_written_bytes_per_day_per_node",
    "wal_ring_bytes_per_shard",
    "network_in_bytes_per_second_per_node",
    "network_out_bytes_per_second_per_node",
    "network_in_bytes_per_second",
    "network_peer_bytes_per_second",
    "object_storage_bytes",
    "object_storage_puts_per_month",
    "object_storage_gets_per_month",
    "compactor_disk_bytes",
];

/// Figures that several sections need.
struct Flow {
    series: Term,
    rate: Term,
    copies: Term,
    new_series: Term,
    head_series: Term,
}

/// Computes everything; the lines of [`ANSWER`] are among the result.
pub fn plan(load: &Load, coefficients: &Coefficients) -> Vec<Line> {
    let mut sheet = Worksheet::default();
    let flow = flow(&mut sheet, load);
    let cores = cpu(&mut sheet, load, coefficients, &flow);
    let memory = memory(&mut sheet, coefficients, &flow);
    let nodes = nodes(&mut sheet, load, coefficients, &flow, cores, memory);
    storage(&mut sheet, load, coefficients, &flow, &nodes);
    let uploaded = objects(&mut sheet, load, coefficients, &flow, &nodes);
    network(&mut sheet, coefficients, &flow, &nodes, uploaded);
    sheet.finish()
}

fn flow(sheet: &mut Worksheet, load: &Load) -> Flow {
    sheet.section("Load");
    let now = match load.series {
        SeriesCount::Total(series) => Term::count(series, "series"),
        SeriesCount::Product { clusters, targets, metrics } => {
            Term::count(clusters, "clusters")
                * Term::count(targets, "targets")
                * Term::count(metrics, "series")
        }
    };
    let now = sheet.line("active_series_now", Unit::Count, "series", now);
    let growth = Term::bare(1.0) + Term::of(load.growth, Unit::Share, "growth");
    let series = sheet.line("active_series", Unit::Count, "series", now * growth);
    let interval = Term::count(load.interval_s, "s");
    let rate = sheet.line("samples_per_second", Unit::Count, "samples/s", series.clone() / interval);
    let factor = Term::count(load.replication_factor, "copies");
    let copies = sheet.line("copies_per_second", Unit::Count, "samples/s", rate.clone() * factor.clone());
    let churn = || Term::of(load.churn_per_hour, Unit::Share, "churn per h");
    let new_series = series.clone() * churn() / Term::of(3600.0, Unit::Count, "s per h") * factor.clone();
    let new_series = sheet.line("new_series_per_second", Unit::Count, "series/s", new_series);
    let window = Term::bare(1.0) + churn() * Term::count(HEAD_WINDOW_H, "h in the head");
    let head_series = sheet.line("head_series", Unit::Count, "series", series.clone() * window * factor);
    Flow { series, rate, copies, new_series, head_series }
}

fn cpu(sheet: &mut Worksheet, load: &Load, coefficients: &Coefficients, flow: &Flow) -> Term {
    sheet.section("CPU, all nodes together");
    let million = || Term::of(1e6, Unit::Count, "");
    let per_second = |amount: &Term, key| amount.clone() * coefficients.term(key) / million();
    let ingest =
        sheet.line("ingest_cores", Unit::Count, "cores", per_second(&flow.copies, Key::CpuPerMillionSamples));
    let forward = per_second(&flow.copies, Key::CpuPerMillionForwarded);
    let forward = sheet.line("forward_cores", Unit::Count, "cores", forward);
    let new = sheet.line(
        "new_series_cores",
        Unit::Count,
        "cores",
        per_second(&flow.new_series, Key::CpuPerMillionNewSeries),
    );
    let blocks = per_second(&flow.copies, Key::CpuPerMillionCompacted);
    let blocks = sheet.line("block_cores", Unit::Count, "cores", blocks);
    let queries = Term::count(load.query_cores, "cores for queries");
    let busy = sheet.line("busy_cores", Unit::Count, "cores", ingest + forward + new + blocks + queries);
    sheet.line("cores", Unit::Count, "cores", busy / Term::of(CPU_SHARE_MAX, Unit::Share, "at most"))
}

fn memory(sheet: &mut Worksheet, coefficients: &Coefficients, flow: &Flow) -> Term {
    sheet.section("Memory, all nodes together");
    let head = flow.head_series.clone() * coefficients.term(Key::MemoryPerSeries);
    sheet.line("head_bytes", Unit::Bytes, "", head)
}

fn nodes(
    sheet: &mut Worksheet,
    load: &Load,
    coefficients: &Coefficients,
    flow: &Flow,
    cores: Term,
    head_bytes: Term,
) -> Term {
    sheet.section("Nodes");
    let cores_of_node = Term::count(load.node_cores, "cores of a node");
    let by_cpu = sheet.line("nodes_by_cpu", Unit::Count, "nodes", (cores.clone() / cores_of_node).up());
    let room = Term::of(load.node_memory_bytes, Unit::Bytes, "of a node")
        * Term::of(MEMORY_SHARE_MAX, Unit::Share, "at most");
    let room = sheet.line("usable_memory_bytes_per_node", Unit::Bytes, "usable", room);
    let fixed = coefficients.term(Key::MemoryPerNode);
    let for_series =
        sheet.line("series_memory_bytes_per_node", Unit::Bytes, "for series", room - fixed.clone());
    let by_memory =
        sheet.line("nodes_by_memory", Unit::Count, "nodes", (head_bytes.clone() / for_series).up());
    let mut most = by_cpu.max(by_memory).max(Term::count(load.replication_factor, "copies"));
    if let Some(rate) = coefficients.sustained_rate {
        let measured = Term::count(rate, "samples/s sustained by a node");
        let by_rate =
            sheet.line("nodes_by_rate", Unit::Count, "nodes", (flow.copies.clone() / measured).up());
        most = most.max(by_rate);
    }
    let nodes = sheet.line("nodes", Unit::Count, "nodes", most);
    sheet.line("cores_per_node", Unit::Count, "cores", (cores / nodes.clone()).up());
    let memory = (head_bytes / nodes.clone() + fixed) / Term::of(MEMORY_SHARE_MAX, Unit::Share, "at most");
    sheet.line("memory_bytes_per_node", Unit::Bytes, "", memory);
    nodes
}

fn storage(sheet: &mut Worksheet, load: &Load, coefficients: &Coefficients, flow: &Flow, nodes: &Term) {
    sheet.section("SSD of each node");
    let share = |term: &Term| term.clone() / nodes.clone();
    let wal = share(&flow.copies) * coefficients.term(Key::WalPerSample)
        + share(&flow.new_series) * coefficients.term(Key::WalPerNewSeries);
    let wal = sheet.line("wal_bytes_per_second", Unit::Bytes, "per s", wal);
    let of_series = coefficients.term(Key::WalPerNewSeries)
        + Term::count(OPEN_CHUNK_SAMPLES, "open samples") * coefficients.term(Key::BlockPerSample);
    let checkpoint = sheet.line("checkpoint_bytes", Unit::Bytes, "", share(&flow.head_series) * of_series);
    let checkpoint_s = checkpoint.clone() / coefficients.term(Key::CheckpointSpeed);
    let checkpoint_s = sheet.line("checkpoint_seconds", Unit::Count, "s", checkpoint_s);
    // All series may be new at once: after the hour in which every pod was replaced, or after a lost data directory.
    let all_new = share(&flow.head_series) * coefficients.term(Key::WalPerNewSeries);
    let third =
        sheet.line("wal_bytes_during_checkpoint", Unit::Bytes, "", wal.clone() * checkpoint_s + all_new);
    let shards = Term::count(load.node_cores, "shards");
    let ring =
        (Term::bare(RING_PARTS) * third / shards.clone()).max(Term::of(RING_MIN_BYTES, Unit::Bytes, ""));
    let ring = sheet.line("wal_ring_bytes_per_shard", Unit::Bytes, "", ring);
    let window = Term::count(HEAD_WINDOW_H * 3600.0, "s in the head");
    let chunks = share(&flow.copies) * window * coefficients.term(Key::BlockPerSample);
    let chunks = sheet.line("closed_chunk_bytes", Unit::Bytes, "", chunks);
    let kept = Term::days(load.local_s, "kept locally");
    let blocks_of_2h = Term::count(load.local_s / 7200.0, "blocks");
    let blocks = share(&flow.copies) * kept * coefficients.term(Key::BlockPerSample)
        + share(&flow.head_series) * coefficients.term(Key::IndexPerSeries) * blocks_of_2h;
    let blocks = sheet.line("local_block_bytes", Unit::Bytes, "", blocks);
    let ssd = ring * shards + Term::bare(2.0) * checkpoint + chunks + blocks;
    sheet.line("ssd_bytes_per_node", Unit::Bytes, "", ssd);
    let day = Term::of(DAY_S, Unit::Count, "s per d");
    let written = match coefficients.written_bytes_per_sample {
        Some(bytes) => share(&flow.copies) * Term::of(bytes, Unit::Bytes, "written per sample"),
        // The log twice, because checkpoints repeat it at most; chunks once when closed and once in their block.
        None => {
            Term::bare(2.0) * wal
                + share(&flow.copies) * Term::bare(2.0) * coefficients.term(Key::BlockPerSample)
        }
    };
    sheet.line("ssd_written_bytes_per_day_per_node", Unit::Bytes, "per d", written * day);
}

fn objects(
    sheet: &mut Worksheet,
    load: &Load,
    coefficients: &Coefficients,
    flow: &Flow,
    nodes: &Term,
) -> Term {
    sheet.section("Object storage");
    let copies = || {
        if load.deduplicated {
            Term::count(1.0, "copy, deduplicated")
        } else {
            Term::count(load.replication_factor, "copies")
        }
    };
    // A block goes only when its newest sample is old enough, and its objects some days after that.
    let kept = |seconds: f64, name: &str| Term::days(seconds + (BLOCK_MAX_D + DELETE_DELAY_D) * DAY_S, name);
    let raw =
        flow.rate.clone() * kept(load.raw_s, "raw kept") * coefficients.term(Key::BlockPerSample) * copies();
    let raw = sheet.line("raw_bytes", Unit::Bytes, "", raw);
    let window = |length_s: f64| Term::count(length_s, "s a window");
    let of_5m = flow.series.clone() * kept(load.of_5m_s, "5m kept") / window(300.0)
        * coefficients.term(Key::WindowOf5m)
        * copies();
    let of_5m = sheet.line("downsampled_5m_bytes", Unit::Bytes, "", of_5m);
    let of_1h = flow.series.clone() * kept(load.of_1h_s, "1h kept") / window(3600.0)
        * coefficients.term(Key::WindowOf1h)
        * copies();
    let of_1h = sheet.line("downsampled_1h_bytes", Unit::Bytes, "", of_1h);
    let churn =
        Term::of(load.churn_per_hour, Unit::Share, "churn per h") * Term::count(BLOCK_MAX_D * 24.0, "h");
    let in_block = sheet.line(
        "series_per_block",
        Unit::Count,
        "series",
        flow.series.clone() * (Term::bare(1.0) + churn),
    );
    let blocks = |seconds: f64| {
        let days = Term::count(seconds / DAY_S + BLOCK_MAX_D + DELETE_DELAY_D, "d");
        (days / Term::count(BLOCK_MAX_D, "d a block")).up()
    };
    let blocks = blocks(load.raw_s) + blocks(load.of_5m_s) + blocks(load.of_1h_s);
    let blocks = sheet.line("blocks_kept", Unit::Count, "blocks", blocks);
    let index = in_block * blocks * coefficients.term(Key::IndexPerSeries) * copies();
    let index = sheet.line("index_bytes", Unit::Bytes, "", index);
    sheet.line("object_storage_bytes", Unit::Bytes, "", raw + of_5m + of_1h + index);

    let uploaded = flow.copies.clone() * coefficients.term(Key::BlockPerSample);
    let uploaded = sheet.line("uploaded_bytes_per_second", Unit::Bytes, "per s", uploaded);
    let passes = || Term::count(COMPACTION_PASSES, "compactions");
    let compacted =
        sheet.line("compacted_bytes_per_second", Unit::Bytes, "per s", uploaded.clone() * passes());
    let written = sheet.line(
        "object_written_bytes_per_second",
        Unit::Bytes,
        "per s",
        uploaded.clone() + compacted.clone(),
    );
    let month = || Term::count(30.0, "d") * Term::of(DAY_S, Unit::Count, "s per d");
    let part = || coefficients.term(Key::ObjectPart);
    // Of each block that a node uploads: one index and one meta.json.
    let small = || {
        nodes.clone()
            * Term::count(12.0, "blocks a d")
            * Term::count(30.0, "d")
            * Term::count(2.0, "small objects")
    };
    let puts = written * month() / part() + small();
    sheet.line("object_storage_puts_per_month", Unit::Count, "PUT", puts);
    let gets = compacted * month() / part() + small();
    sheet.line("object_storage_gets_per_month", Unit::Count, "GET, without those of queries", gets);
    // The largest compaction reads two weeks of everything, and writes them once more beside it.
    let largest = flow.rate.clone()
        * Term::days(BLOCK_MAX_D * DAY_S, "in the largest block")
        * coefficients.term(Key::BlockPerSample);
    sheet.line("compactor_disk_bytes", Unit::Bytes, "", Term::bare(2.0) * largest);
    uploaded
}

fn network(sheet: &mut Worksheet, coefficients: &Coefficients, flow: &Flow, nodes: &Term, uploaded: Term) {
    sheet.section("Network");
    let wire = || coefficients.term(Key::WirePerSample);
    let received =
        sheet.line("network_in_bytes_per_second", Unit::Traffic, "from senders", flow.rate.clone() * wire());
    // A sample arrives at any node, which forwards each copy that is not its own.
    let elsewhere = Term::bare(nodes.value - 1.0) / nodes.clone();
    let forwarded = flow.copies.clone() * elsewhere * wire();
    let forwarded = sheet.line("network_peer_bytes_per_second", Unit::Traffic, "between nodes", forwarded);
    let inbound = (received + forwarded.clone()) / nodes.clone();
    sheet.line("network_in_bytes_per_second_per_node", Unit::Traffic, "", inbound);
    let outbound = (forwarded + uploaded) / nodes.clone();
    sheet.line("network_out_bytes_per_second_per_node", Unit::Traffic, "", outbound);
}
