//! The command line: Thanos' flags for what this version has, a warning for what it does not act on, and one clear
//! line for what is wrong.

mod command;
mod features;
mod hashrings;
mod ingest_rules;
mod kingpin;
mod resolve;
mod thanos;
pub mod values;

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use annulus_shards::core::NodeConfig;
use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};

use crate::api::ReadLimits;
use crate::promql::value::QueryOptions;
use command::Cli;
pub use ingest_rules::{RuleFile, RuleFiles};

/// The exit code of a command line that is wrong.
const EXIT_USAGE: u8 = 2;

/// What a process is started with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// How the process logs.
    pub log: LogSetup,
    /// The ingest plane.
    pub node: NodeConfig,
    /// Files of limits and rules that are read again when they change.
    pub rule_files: RuleFiles,
    /// The first of `node.listen` that takes remote write, as the banner and senders name it.
    pub write_address: SocketAddr,
    /// Labels that every series gets, by `--label`.
    pub external_labels: Vec<(String, String)>,
    /// The label that holds the tenant.
    pub tenant_label: String,
    /// What becomes of blocks.
    pub blocks: BlocksSetup,
    /// The query plane, in roles that have one.
    pub query: Option<QuerySetup>,
    /// How often the process writes its own metrics, if it does.
    pub self_scrape: Option<Duration>,
    /// How long requests in progress may take after a signal to stop.
    pub grace_period: Duration,
    /// What to tell the operator at start.
    pub warnings: Vec<String>,
    /// Every flag with the value in effect.
    pub flags: Vec<(String, String)>,
}

/// What becomes of blocks.
#[derive(Debug, Clone)]
pub struct BlocksSetup {
    /// Where they are uploaded to.
    pub bucket: BucketSetup,
    /// How often to look for blocks to upload.
    pub ship_interval: Duration,
    /// How long they stay local, in milliseconds; 0 for ever.
    pub retention_ms: i64,
    /// How many bytes of them stay local; 0 for no bound.
    pub retention_bytes: u64,
}

/// Where blocks are uploaded to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketSetup {
    /// Nowhere.
    None,
    /// To a directory.
    Directory(PathBuf),
    /// Where the content of an objstore.yml says.
    Content(String),
    /// Where an objstore.yml says.
    File(PathBuf),
}

/// How a process logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSetup {
    /// Less important lines are not written.
    pub level: tracing::Level,
    /// One JSON object per line instead of logfmt.
    pub json: bool,
}

/// The query plane.
#[derive(Debug, Clone)]
pub struct QuerySetup {
    /// Where the query API listens.
    pub address: SocketAddr,
    /// Settings of queries that say nothing else.
    pub options: QueryOptions,
    /// The step of range queries that name none.
    pub default_step_ms: i64,
    /// Labels that queries do not see.
    pub replica_labels: Vec<String>,
    /// Queries that run at once.
    pub concurrent_max: usize,
    /// Whether queries that do not say may be answered in part.
    pub partial_response: bool,
    /// Queries that take at least as long are logged.
    pub slow_query: Option<Duration>,
    /// Where the file of running queries is.
    pub active_query_dir: PathBuf,
    /// Limits of remote read.
    pub read: ReadLimits,
    /// Threads that evaluate.
    pub threads: usize,
    /// The most bytes that one read of the head may take.
    pub select_bytes_max: u64,
}

/// The process ends before it starts: help, version, or a command line that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// What to print.
    pub text: String,
    /// The exit code; with 0 the text goes to standard output.
    pub code: u8,
}

impl Exit {
    /// A command line that is wrong, in one line.
    pub fn usage(reason: impl Display) -> Exit {
        Exit { text: format!("annulus: {reason}"), code: EXIT_USAGE }
    }
}

/// Reads a command line without the program's name.
pub fn parse(args: &[String]) -> Result<Setup, Exit> {
    let mut command = Cli::command();
    command.build();
    let normal = kingpin::normalise(&command, args).map_err(Exit::usage)?;
    let program = [command.get_name().to_owned()];
    let matches =
        command.try_get_matches_from_mut(program.into_iter().chain(normal.args)).map_err(clap_exit)?;
    let cli = Cli::from_arg_matches(&matches).map_err(clap_exit)?;
    let flags = effective_flags(&command, &matches);
    resolve::resolve(cli, normal.warnings, flags).map_err(Exit::usage)
}

/// Help and version as clap prints them; of an error only its first paragraph, on one line.
fn clap_exit(error: clap::Error) -> Exit {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit { text, code: 0 },
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Exit { text, code: EXIT_USAGE },
        _ => {
            let paragraph = text.split("\n\n").next().unwrap_or(&text);
            let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
            Exit::usage(line.strip_prefix("error: ").unwrap_or(&line))
        }
    }
}

fn effective_flags(command: &clap::Command, matches: &clap::ArgMatches) -> Vec<(String, String)> {
    let Some((role, matches)) = matches.subcommand() else { return Vec::new() };
    let arguments = command.find_subcommand(role).into_iter().flat_map(|role| role.get_arguments());
    let mut flags: Vec<(String, String)> = arguments
        .filter_map(|argument| {
            let name = argument.get_long()?.to_owned();
            let values = matches.get_raw(argument.get_id().as_str())?;
            Some((name, values.map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(",")))
        })
        .collect();
    flags.sort_unstable();
    flags
}

#[cfg(test)]
mod tests;
