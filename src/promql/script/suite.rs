//! The scripts of this repository, and those of Prometheus where they stand beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::command::{CommandKind, Expected, parse_script};
use super::{EngineBackend, Report, run};
use crate::promql::parser::parse;

/// Our own scripts.
const OWN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/promql/testdata");

/// Excerpts of Prometheus' scripts, which are read where they are and not copied.
const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/promqltest");

/// How many `eval`s of a shared script fail, and how many are skipped for what the product does not have; in scripts that
/// are not listed all pass. The numbers are exact, so that neither regressions nor improvements go unnoticed.
const KNOWN: &[(&str, usize, usize)] = &[("start_timestamps.test", 0, 16)];

fn scripts(directory: &str) -> Vec<(String, String)> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "test"));
    paths.sort();
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    paths.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

/// Parses every query, and what it prints as.
///
/// # Panics
/// When a command cannot be read, or a query that should parse does not.
fn check_syntax(name: &str, text: &str) {
    for command in parse_script(text) {
        let eval = match command.kind {
            CommandKind::Malformed(reason) => panic!("{name}:{}: {reason}", command.line),
            CommandKind::Eval(eval) => eval,
            CommandKind::Clear | CommandKind::Load(_) => continue,
        };
        match parse(&eval.query) {
            Ok(expr) => {
                let printed = expr.to_string();
                let again = parse(&printed).map(|expr| expr.to_string());
                assert_eq!(again.as_ref(), Ok(&printed), "{name}:{}: {}", command.line, eval.query);
            }
            Err(error) => {
                let may_fail = matches!(eval.expected, Expected::Failure(_));
                assert!(may_fail, "{name}:{}: {}: {error}", command.line, eval.query);
            }
        }
    }
}

/// The differences as one text; what was skipped is printed.
fn run_script(name: &str, text: &str) -> (Report, String) {
    let report = run(text, &mut EngineBackend::new().unwrap());
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for skipped in &report.skipped {
        *reasons.entry(&skipped.reason).or_default() += 1;
    }
    for (reason, count) in reasons {
        println!("{name}: {count} skipped: {reason}");
    }
    let failures: Vec<String> = report
        .failed
        .iter()
        .map(|failed| format!("{name}:{}: {}\n{}", failed.line, failed.query, failed.difference))
        .collect();
    let text = failures.join("\n\n");
    (report, text)
}

#[test]
fn all_queries_of_our_scripts_parse() {
    let scripts = scripts(OWN);
    assert!(scripts.len() >= 10, "the scripts are gone");
    for (name, text) in scripts {
        check_syntax(&name, &text);
    }
}

#[test]
fn all_queries_of_the_shared_scripts_parse() {
    let scripts = scripts(SHARED);
    if scripts.is_empty() {
        println!("left out: there are no scripts in {SHARED}");
    }
    for (name, text) in scripts {
        check_syntax(&name, &text);
    }
}

#[test]
fn our_scripts_pass() {
    for (name, text) in scripts(OWN) {
        let (report, differences) = run_script(&name, &text);
        assert!(report.failed.is_empty(), "{differences}");
        assert!(report.skipped.is_empty(), "{name}: {:?}", report.skipped);
        assert!(report.passed_count > 0, "{name} has no evals");
    }
}

#[test]
fn the_shared_scripts_fail_only_where_it_is_known() {
    let scripts = scripts(SHARED);
    if scripts.is_empty() {
        println!("left out: there are no scripts in {SHARED}");
    }
    let mut unexpected = Vec::new();
    for (name, text) in scripts {
        let (report, differences) = run_script(&name, &text);
        let known = KNOWN.iter().find(|(file, ..)| *file == name);
        let known = known.map_or((0, 0), |(_, failed, skipped)| (*failed, *skipped));
        let found = (report.failed.len(), report.skipped.len());
        if found != known {
            unexpected.push(format!("{name}: {found:?} failed and skipped, not {known:?}\n{differences}"));
        }
        assert!(report.passed_count + found.0 + found.1 > 0, "{name} has no evals");
    }
    assert!(unexpected.is_empty(), "{}", unexpected.join("\n\n"));
}
