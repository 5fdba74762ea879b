//! `annulus-tools wal verify DIR`.

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use annulus_shards::core::{ShardSurvey, survey_chunks, survey_content, survey_shard, survey_superblocks};
use annulus_shards::wal::{InvalidReason, Recovery, SuperblockCopy};
use annulus_shards::wire::SeriesHasher;
use serde::Serialize;

use super::WINDOW_MS;
use crate::data_dir::{Found, ShardDir};
use crate::output::{Failure, Outcome, Progress, bytes, printable, write_json};

/// What to check.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A data directory, or the directory of one shard (`shard-0`).
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// What was found in one shard.
#[derive(Debug, Default, Serialize)]
struct Report {
    shard: u32,
    directory: String,
    is_whole: bool,
    /// What is damaged, one sentence each.
    damage: Vec<String>,
    /// What is not damage and worth knowing.
    notes: Vec<String>,
    /// What a start would lose.
    loss: Loss,
    /// What is there.
    summary: Summary,
}

/// What a start would lose.
#[derive(Debug, Default, Serialize)]
struct Loss {
    /// Ranges of frames that were acknowledged and cannot be replayed.
    frames: Vec<(u64, u64)>,
    /// Chunks that a series refers to and that cannot be read.
    chunks: u64,
    /// Series that have such a chunk.
    series: u64,
    /// Everything, because no start can open the log.
    all: bool,
}

/// What is there.
#[derive(Debug, Default, Serialize)]
struct Summary {
    checkpoints: u64,
    frames: u64,
    chunk_files: u64,
    chunk_file_bytes: u64,
    chunks: u64,
    /// After a start.
    series: u64,
    /// After a start.
    samples: u64,
}

/// Runs it.
pub fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    let found = Found::open(&arguments.directory)?;
    found.refuse_in_use()?;
    let progress = Progress::new();
    let mut reports = Vec::new();
    for shard in &found.shards {
        reports.push(verify(shard, &found.hasher, &progress)?);
    }
    // What was read while another process wrote says nothing.
    found.refuse_in_use()?;
    drop(progress);
    let mut out = BufWriter::new(io::stdout().lock());
    if arguments.json {
        write_json(&mut out, &reports)?;
    } else {
        for report in &reports {
            write_text(&mut out, report)?;
        }
    }
    out.flush()?;
    let is_whole = reports.iter().all(|report| report.is_whole);
    Ok(if is_whole { Outcome::Whole } else { Outcome::Damaged })
}

fn verify(shard: &ShardDir, hasher: &SeriesHasher, progress: &Progress) -> Result<Report, Failure> {
    let mut report =
        Report { shard: shard.shard, directory: shard.path.display().to_string(), ..Report::default() };
    if !shard.path.is_dir() {
        report.damage.push("the directory is not there; a start makes an empty one".to_owned());
        report.loss.all = true;
        return Ok(report);
    }
    progress.step(format_args!("shard {}: checkpoints and log", shard.shard));
    let failed = |error: annulus_shards::core::SurveyError| Failure::about(shard.path.display(), error);
    let survey = survey_shard(&shard.path, shard.shard, hasher, WINDOW_MS, true).map_err(failed)?;
    add_checkpoints(&mut report, &survey);
    add_ring(&mut report, shard, &survey);
    add_chunks(&mut report, shard, &survey, progress).map_err(failed)?;
    report.is_whole = report.damage.is_empty();
    Ok(report)
}

fn add_checkpoints(report: &mut Report, survey: &ShardSurvey) {
    report.summary.checkpoints = survey.checkpoints.len() as u64;
    for checkpoint in &survey.checkpoints {
        let name = &checkpoint.name;
        match &checkpoint.content {
            Ok(content) => report.notes.push(format!(
                "{name} is whole{}: {} series, {} pages, {}; it covers every frame before {}",
                if checkpoint.is_used { ", and a start uses it" } else { "" },
                content.series,
                content.pages,
                bytes(content.bytes),
                content.covered.begin_seq,
            )),
            Err(reason @ InvalidReason::Io(_)) => report.damage.push(format!(
                "{name} cannot be used: {reason}; the fault may pass, and a start refuses if it needs this one"
            )),
            Err(reason) => report.damage.push(format!("{name} cannot be used: {reason}")),
        }
    }
}

fn add_ring(report: &mut Report, shard: &ShardDir, survey: &ShardSurvey) {
    if !shard.path.join("wal").exists() {
        if survey.checkpoints.is_empty() {
            report.notes.push("the shard was never started: a start makes its log".to_owned());
        } else {
            report.damage.push(
                "the log (wal) is not there: a start makes a new one, and what came after the checkpoint is lost"
                    .to_owned(),
            );
        }
        return;
    }
    let ring = match &survey.ring {
        Ok(ring) => ring,
        Err(error) => {
            report.damage.push(format!("no start can open the log: {error}"));
            report.loss.all = true;
            return;
        }
    };
    // A ring that was never opened has none.
    if ring.superblock.generation > 0 {
        add_superblocks(report, shard);
    }
    report.summary.frames = ring.frames.len() as u64;
    let state =
        if ring.superblock.is_clean { "it was closed in order" } else { "it was not closed in order" };
    report.notes.push(format!(
        "the log has {} frames in {} of {}; {state}; a start replays {} of them with {} samples",
        ring.frames.len(),
        bytes(ring.used_bytes),
        bytes(ring.size_bytes),
        ring.recovery.frames,
        survey.replayed_samples,
    ));
    add_recovery(report, &ring.recovery);
    if survey.refused_samples > 0 {
        report.damage.push(format!("{} samples of the log do not fit to the head", survey.refused_samples));
    }
}

fn add_superblocks(report: &mut Report, shard: &ShardDir) {
    let Ok(copies) = survey_superblocks(&shard.path) else { return };
    for (index, copy) in copies.iter().enumerate() {
        if *copy == SuperblockCopy::Unreadable {
            report
                .damage
                .push(format!("copy {index} of the superblock cannot be read; the other one is enough"));
        }
    }
}

fn add_recovery(report: &mut Report, recovery: &Recovery) {
    if let Some(torn) = &recovery.torn {
        report.notes.push(format!(
            "frame {} at offset {} was begun and never finished ({}): nobody was told that it is stored",
            torn.seq, torn.offset, torn.reason
        ));
    }
    for missing in &recovery.missing {
        report.damage.push(format!(
            "frames {} to {} are in neither the log nor a checkpoint that can be read",
            missing.start(),
            missing.end()
        ));
        report.loss.frames.push((*missing.start(), *missing.end()));
    }
    for damage in &recovery.damage {
        let consequence = match &damage.lost {
            None => "the checkpoint has all that is damaged, so nothing is lost".to_owned(),
            Some(lost) => {
                report.loss.frames.push((*lost.start(), *lost.end()));
                format!(
                    "frames {} to {} are lost; {} whole frames behind the damage can be saved from the copy that a start makes",
                    lost.start(),
                    lost.end(),
                    damage.whole_frames
                )
            }
        };
        report.damage.push(format!(
            "frame {} at offset {} of the log: {}; {consequence}",
            damage.seq, damage.offset, damage.reason
        ));
    }
    for name in &recovery.set_aside {
        report.notes.push(format!("{name} has a damaged part of the log that an earlier start set aside"));
    }
}

fn add_chunks(
    report: &mut Report,
    shard: &ShardDir,
    survey: &ShardSurvey,
    progress: &Progress,
) -> Result<(), annulus_shards::core::SurveyError> {
    let (files, lost) = &survey.missing_files;
    if *lost > 0 {
        report
            .damage
            .push(format!("chunk files {files:?} are not there, and {lost} chunks in them are needed"));
        report.loss.chunks += lost;
    }
    let mut chunks = HashMap::new();
    let mut unread = Vec::new();
    progress.step(format_args!("shard {}: chunk files", shard.shard));
    survey_chunks(&shard.path, true, |file| {
        progress.step(format_args!("shard {}: {} and on", shard.shard, file.name));
        let summary = &mut report.summary;
        summary.chunk_files += 1;
        summary.chunk_file_bytes += file.size_bytes;
        summary.chunks += file.chunks.len() as u64;
        unread.extend(
            file.damaged.iter().map(|(offset, damage)| format!("{} at offset {offset}: {damage}", file.name)),
        );
        chunks.extend(file.chunks);
        for (place, error) in &file.malformed {
            unread.push(format!("{} at offset {}: {error}", file.name, place.offset));
            chunks.remove(place);
        }
    })?;
    for content in survey_content(&survey.head, &chunks).values() {
        report.summary.series += content.series;
        report.summary.samples += content.samples;
        report.loss.chunks += content.lost_chunks;
        report.loss.series += content.damaged_series;
    }
    // What a crash leaves half written is behind what the checkpoint knows, and comes again from the log.
    if report.loss.chunks > *lost {
        report.damage.append(&mut unread);
        let count = report.loss.chunks - lost;
        report
            .damage
            .push(format!("{count} chunks that series refer to cannot be read: queries that need them fail"));
    } else {
        report.notes.extend(unread.into_iter().map(|text| format!("{text}; nothing needs what was there")));
    }
    Ok(())
}

fn write_text(out: &mut impl Write, report: &Report) -> io::Result<()> {
    let verdict = if report.is_whole { "whole" } else { "DAMAGED" };
    writeln!(out, "shard {}  {}  {verdict}", report.shard, printable(&report.directory))?;
    for text in &report.damage {
        writeln!(out, "  damage: {}", printable(text))?;
    }
    for text in &report.notes {
        writeln!(out, "  {}", printable(text))?;
    }
    let Summary { chunk_files, chunk_file_bytes, chunks, series, samples, .. } = &report.summary;
    writeln!(out, "  {chunk_files} chunk files ({}) with {chunks} whole chunks", bytes(*chunk_file_bytes))?;
    writeln!(out, "  after a start: {series} series, {samples} samples")?;
    writeln!(out, "  a start would lose: {}\n", loss_text(&report.loss))
}

fn loss_text(loss: &Loss) -> String {
    if loss.all {
        return "everything: it does not come up with these files".to_owned();
    }
    let mut parts = Vec::new();
    for (first, last) in &loss.frames {
        let frames =
            if first == last { format!("frame {first}") } else { format!("frames {first} to {last}") };
        parts.push(format!("the samples of {frames}"));
    }
    if loss.chunks > 0 {
        parts.push(format!("{} chunks of up to 120 samples each", loss.chunks));
    }
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", and ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_told_in_one_sentence() {
        assert_eq!(loss_text(&Loss::default()), "nothing");
        let loss = Loss { frames: vec![(3, 3), (7, 9)], chunks: 2, ..Loss::default() };
        assert_eq!(
            loss_text(&loss),
            "the samples of frame 3, and the samples of frames 7 to 9, and 2 chunks of up to 120 samples each"
        );
        assert!(loss_text(&Loss { all: true, ..Loss::default() }).starts_with("everything"));
    }
}
