//! `annulus-tools wal inspect DIR`.

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use annulus_shards::core::{ShardSurvey, survey_ring, survey_shard, survey_superblocks};
use annulus_shards::wal::{SuperblockCopy, decode};
use annulus_shards::wire::SeriesHasher;
use serde::Serialize;

use super::WINDOW_MS;
use super::records::{Counts, Frame, Print, TenantSamples, Visit};
use crate::data_dir::{Found, ShardDir};
use crate::output::{Failure, Outcome, Progress, Table, bytes, printable, time, write_json};

/// What to show.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A data directory, or the directory of one shard (`shard-0`).
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Lists every frame.
    #[arg(long)]
    frames: bool,
    /// Prints every record of every frame, after the numbers of its shard and frame. With --json: one object per line,
    /// and nothing else.
    #[arg(long)]
    records: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// The log of one shard.
#[derive(Debug, Serialize)]
struct Report {
    shard: u32,
    directory: String,
    superblocks: Vec<Superblock>,
    /// Why the ring cannot be read, if it cannot; the rest is then empty.
    error: Option<String>,
    ring_bytes: u64,
    used_bytes: u64,
    epoch: u64,
    tail_seq: u64,
    durable_seq: u64,
    is_closed_in_order: bool,
    /// The checkpoint that a start would use, and the frame that it would replay first.
    checkpoint: Option<String>,
    replay_from_seq: u64,
    frame_count: u64,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
    records: Counts,
    samples_by_tenant: TenantSamples,
    /// What ends the history, if it is not simply its end.
    end: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frames: Option<Vec<Frame>>,
}

/// One copy of a superblock.
#[derive(Debug, Serialize)]
struct Superblock {
    state: &'static str,
    generation: Option<u64>,
    tail_seq: Option<u64>,
    durable_seq: Option<u64>,
    epoch: Option<u64>,
}

/// Runs it.
pub fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    let found = Found::open(&arguments.directory)?;
    if found.is_in_use() {
        let _ = writeln!(
            io::stderr(),
            "annulus-tools: warning: annulus is using this directory; what it writes meanwhile may look damaged"
        );
    }
    let progress = Progress::new();
    let mut out = BufWriter::new(io::stdout().lock());
    let mut reports = Vec::new();
    for shard in &found.shards {
        progress.step(format_args!("shard {}: reading its checkpoint and its log", shard.shard));
        reports.push(inspect(shard, &found.hasher, arguments, &mut out)?);
    }
    drop(progress);
    if arguments.json && !arguments.records {
        write_json(&mut out, &reports)?;
    } else if !arguments.json {
        for report in &reports {
            write_text(&mut out, report)?;
        }
    }
    out.flush()?;
    Ok(Outcome::Whole)
}

fn inspect(
    shard: &ShardDir,
    hasher: &SeriesHasher,
    arguments: &Arguments,
    out: &mut impl Write,
) -> Result<Report, Failure> {
    let mut report = empty(shard);
    match survey_superblocks(&shard.path) {
        Ok(copies) => report.superblocks = copies.iter().map(superblock).collect(),
        Err(error) => {
            report.error = Some(error.to_string());
            return Ok(report);
        }
    }
    let survey = survey_shard(&shard.path, shard.shard, hasher, WINDOW_MS, false);
    let survey = survey.map_err(|error| Failure::about(shard.path.display(), error))?;
    report.replay_from_seq = survey.used_checkpoint().map_or(1, |content| content.covered.begin_seq);
    report.checkpoint = survey.checkpoints.iter().find(|one| one.is_used).map(|one| one.name.clone());
    read_frames(shard, &survey, arguments, &mut report, out)?;
    Ok(report)
}

/// Reads the frames from the tail on, those that the checkpoint covers too.
fn read_frames(
    shard: &ShardDir,
    survey: &ShardSurvey,
    arguments: &Arguments,
    report: &mut Report,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let mut frames = Vec::new();
    let mut written = Ok(());
    let ring = survey_ring(&shard.path, shard.shard, |seq, payload| {
        let mut frame = Frame::new(seq, payload.len());
        let print = arguments.records.then_some(Print {
            out: &mut *out,
            place: (shard.shard, seq),
            is_json: arguments.json,
            result: Ok(()),
        });
        let tenants = &mut report.samples_by_tenant;
        let mut visit = Visit { head: &survey.head, counts: Counts::default(), tenants, print };
        frame.error = decode(payload, &mut visit).err().map(|error| error.to_string());
        let Visit { counts, print, .. } = visit;
        frame.records = counts;
        report.records.add(&frame.records);
        frames.push(frame);
        match print.map(|print| print.result) {
            Some(Err(error)) => {
                written = Err(io::Error::from(error.kind()));
                Err(error)
            }
            Some(Ok(())) | None => Ok(()),
        }
    });
    written?;
    let ring = match ring {
        Ok(ring) => ring,
        Err(error) => {
            report.error = Some(error.to_string());
            return Ok(());
        }
    };
    let offsets: HashMap<u64, u64> = ring.frames.iter().copied().collect();
    for frame in &mut frames {
        frame.offset = offsets.get(&frame.seq).copied().unwrap_or(0);
    }
    report.ring_bytes = ring.size_bytes;
    report.used_bytes = ring.used_bytes;
    report.epoch = ring.superblock.epoch;
    report.tail_seq = ring.superblock.tail_seq;
    report.durable_seq = ring.superblock.durable_seq;
    report.is_closed_in_order = ring.superblock.is_clean;
    report.frame_count = frames.len() as u64;
    report.first_seq = frames.first().map(|frame| frame.seq);
    report.last_seq = frames.last().map(|frame| frame.seq);
    let torn = ring.recovery.torn.map(|torn| {
        format!(
            "frame {} at {} was never finished, and so never acknowledged: {}",
            torn.seq, torn.offset, torn.reason
        )
    });
    let damage = ring.recovery.damage.first().map(|damage| {
        format!("frame {} at {} is damaged: {}; see wal verify", damage.seq, damage.offset, damage.reason)
    });
    report.end = damage.or(torn);
    report.frames = arguments.frames.then_some(frames);
    Ok(())
}

fn empty(shard: &ShardDir) -> Report {
    Report {
        shard: shard.shard,
        directory: shard.path.display().to_string(),
        superblocks: Vec::new(),
        error: None,
        ring_bytes: 0,
        used_bytes: 0,
        epoch: 0,
        tail_seq: 0,
        durable_seq: 0,
        is_closed_in_order: false,
        checkpoint: None,
        replay_from_seq: 0,
        frame_count: 0,
        first_seq: None,
        last_seq: None,
        records: Counts::default(),
        samples_by_tenant: TenantSamples::new(),
        end: None,
        frames: None,
    }
}

fn superblock(copy: &SuperblockCopy) -> Superblock {
    let state =
        |state| Superblock { state, generation: None, tail_seq: None, durable_seq: None, epoch: None };
    match copy {
        SuperblockCopy::Unreadable => state("unreadable"),
        SuperblockCopy::Newer(_) => state("newer"),
        SuperblockCopy::Whole(fields) => Superblock {
            state: "whole",
            generation: Some(fields.generation),
            tail_seq: Some(fields.tail_seq),
            durable_seq: Some(fields.durable_seq),
            epoch: Some(fields.epoch),
        },
    }
}

fn write_text(out: &mut impl Write, report: &Report) -> io::Result<()> {
    writeln!(out, "shard {}  {}", report.shard, printable(&report.directory))?;
    for (index, copy) in report.superblocks.iter().enumerate() {
        let Superblock {
            state,
            generation: Some(generation),
            tail_seq: Some(tail),
            durable_seq: Some(durable),
            epoch: Some(epoch),
        } = copy
        else {
            writeln!(out, "  superblock {index}   {}", copy.state)?;
            continue;
        };
        writeln!(
            out,
            "  superblock {index}   {state}, generation {generation}, epoch {epoch}, tail {tail}, durable {durable}"
        )?;
    }
    if let Some(error) = &report.error {
        return writeln!(out, "  {}\n", printable(error));
    }
    let percent = report.used_bytes as f64 * 100.0 / report.ring_bytes.max(1) as f64;
    let closed = if report.is_closed_in_order {
        "closed in order"
    } else {
        "not closed in order: a crash, or it runs"
    };
    let Counts { series, samples, bounds, exemplars, metadata, min_ms, max_ms } = report.records;
    writeln!(
        out,
        "  ring           {} of {} used ({percent:.1}%), {closed}",
        bytes(report.used_bytes),
        bytes(report.ring_bytes)
    )?;
    let checkpoint = report.checkpoint.as_deref().unwrap_or("none");
    writeln!(out, "  checkpoint     {checkpoint}; a start replays from frame {}", report.replay_from_seq)?;
    let numbers = report
        .first_seq
        .zip(report.last_seq)
        .map_or(String::new(), |(first, last)| format!(", {first} to {last}"));
    writeln!(out, "  frames         {}{numbers}", report.frame_count)?;
    writeln!(
        out,
        "  records        {series} series, {samples} samples, {exemplars} exemplars, {metadata} metadata, {bounds} bounds"
    )?;
    writeln!(out, "  times          {} to {}", time(min_ms), time(max_ms))?;
    if let Some(end) = &report.end {
        writeln!(out, "  end            {}", printable(end))?;
    }
    let mut tenants = Table::new(&["  tenant", ">samples"]);
    for (tenant, samples) in &report.samples_by_tenant {
        let tenant = if tenant.is_empty() { "(of series that are gone)" } else { tenant };
        tenants.row([format!("  {tenant}"), samples.to_string()]);
    }
    if !tenants.is_empty() {
        writeln!(out)?;
        tenants.write(out)?;
    }
    if let Some(frames) = &report.frames {
        write_frames(out, frames)?;
    }
    writeln!(out)
}

fn write_frames(out: &mut impl Write, frames: &[Frame]) -> io::Result<()> {
    let mut table =
        Table::new(&["  frame", ">offset", ">bytes", ">series", ">samples", ">bounds", "from", "to", ""]);
    for frame in frames {
        let Counts { series, samples, bounds, min_ms, max_ms, .. } = frame.records;
        table.row([
            format!("  {}", frame.seq),
            frame.offset.to_string(),
            frame.bytes.to_string(),
            series.to_string(),
            samples.to_string(),
            bounds.to_string(),
            time(min_ms),
            time(max_ms),
            frame.error.clone().unwrap_or_default(),
        ]);
    }
    writeln!(out)?;
    table.write(out)
}
