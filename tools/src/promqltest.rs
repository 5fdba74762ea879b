//! `annulus-tools promqltest PATH…`: runs scripts against the engine and prints every difference.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use annulus::promql::script::{EngineBackend, Report, run as run_script};

/// What to run.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Scripts, or directories with scripts (`*.test`).
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Prints each query that is skipped, not only their number.
    #[arg(long)]
    show_skipped: bool,
}

/// Runs the scripts. The exit code is 1 if anything failed, or nothing was there to run.
pub fn run(arguments: &Arguments) -> ExitCode {
    match run_all(arguments, &mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("annulus-tools: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_all(arguments: &Arguments, out: &mut impl Write) -> io::Result<bool> {
    let mut failed_count = 0;
    let files = find_scripts(&arguments.paths)?;
    for path in &files {
        let text = std::fs::read_to_string(path).map_err(|error| in_context(path, &error))?;
        let report = run_script(&text, &mut EngineBackend::new()?);
        failed_count += report.failed.len();
        print_report(path, &report, arguments.show_skipped, out)?;
    }
    if files.is_empty() {
        writeln!(out, "no scripts found")?;
    }
    Ok(failed_count == 0 && !files.is_empty())
}

fn find_scripts(paths: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).map_err(|error| in_context(path, &error))?;
        let mut found = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        found.retain(|path| path.extension().is_some_and(|extension| extension == "test"));
        found.sort();
        files.append(&mut found);
    }
    Ok(files)
}

fn in_context(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn print_report(path: &Path, report: &Report, show_skipped: bool, out: &mut impl Write) -> io::Result<()> {
    let path = path.display();
    for failed in &report.failed {
        writeln!(out, "{path}:{}: {}", failed.line, failed.query)?;
        for line in failed.difference.lines() {
            writeln!(out, "    {line}")?;
        }
    }
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for skipped in &report.skipped {
        *reasons.entry(&skipped.reason).or_default() += 1;
        if show_skipped {
            writeln!(out, "{path}:{}: {}\n    skipped: {}", skipped.line, skipped.query, skipped.reason)?;
        }
    }
    let (passed, failed, skipped) = (report.passed_count, report.failed.len(), report.skipped.len());
    write!(out, "{path}: {passed} passed, {failed} failed, {skipped} skipped")?;
    for (reason, count) in reasons {
        write!(out, "; {count}: {reason}")?;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_text(text: &str) -> (bool, String) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.test"), text).unwrap();
        std::fs::write(directory.path().join("notes.md"), "no script").unwrap();
        let paths = vec![directory.path().to_owned()];
        let mut out = Vec::new();
        let passed = run_all(&Arguments { paths, show_skipped: true }, &mut out).unwrap();
        (passed, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_failure_is_printed_with_its_line_and_fails_the_run() {
        let (passed, out) = run_text("\neval instant at 0 1\n  2\n\neval instant at 0 2\n  2\n");
        assert!(!passed);
        assert!(out.contains("a.test:2: 1\n    expected the scalar 2, got the scalar 1\n"), "{out}");
        assert!(out.contains("a.test: 1 passed, 1 failed, 0 skipped\n"), "{out}");
    }

    #[test]
    fn wrong_expectations_of_every_kind_fail_the_run() {
        let load = "load 1m\n  x{a=\"1\"} 0 1\n  x{a=\"2\"} 0 2\n\n";
        for (eval, difference) in [
            ("eval instant at 1m x\n  x{a=\"1\"} 1\n", "unexpected x{a=\"2\"} [2@60s]"),
            (
                "eval instant at 1m x{a=\"1\"}\n  x{a=\"1\"} 1.1\n",
                "x{a=\"1\"}: expected [1.1@60s], got [1@60s]",
            ),
            ("eval instant at 1m x{a=\"1\"}\n  y{a=\"1\"} 1\n", "missing y{a=\"1\"} [1@60s]"),
            (
                "eval instant at 1m sort(x)\n  expect ordered\n  x{a=\"2\"} 2\n  x{a=\"1\"} 1\n",
                "expected the order",
            ),
            (
                "eval range from 0 to 1m step 1m sum(x)\n  {} 0 4\n",
                "{}: expected [0@0s 4@60s], got [0@0s 3@60s]",
            ),
            ("eval instant at 1m sum(x)\n  expect fail\n", "expected an error (anything)"),
            ("eval instant at 1m x + on () x\n  {} 1\n", "the query failed: found duplicate series"),
            (
                "eval instant at 1m x + on () x\n  expect fail msg: other\n",
                "expected an error with \"other\"",
            ),
            ("eval instant at 1m sum(rate(x[2m]))\n  expect no_info\n  {} 0.025\n", "expected no infos"),
            ("eval instant at 1m sum(x)\n  expect warn\n  {} 3\n", "expected warnings, got none"),
            (
                "eval instant at 1m quantile(2, x)\n  expect warn msg: z\n  {} Inf\n",
                "expected warnings with \"z\"",
            ),
            ("eval instant at 1m \"a\"\n  expect string \"b\"\n", "expected the string \"b\""),
            ("evil instant at 1m x\n", "unknown command"),
        ] {
            let (passed, out) = run_text(&format!("{load}{eval}\neval instant at 0 1\n  1\n"));
            assert!(!passed, "{eval}");
            assert!(
                out.contains("a.test:5: ") && out.contains(&format!("\n    {difference}")),
                "{eval}{out}"
            );
            assert!(out.contains("a.test: 1 passed, 1 failed, 0 skipped\n"), "{eval}{out}");
        }
    }

    #[test]
    fn skipped_queries_do_not_fail_the_run_but_show() {
        let load = "load 1m\n  x@st -1m\n  x 1\n\n";
        let (passed, out) =
            run_text(&format!("{load}eval instant at 0 x\n  x 1\n\neval instant at 0 2\n  2\n"));
        assert!(passed);
        assert!(
            out.contains("1 passed, 0 failed, 1 skipped; 1: start timestamps are not supported"),
            "{out}"
        );
    }

    #[test]
    fn a_run_of_nothing_fails() {
        let directory = tempfile::tempdir().unwrap();
        let arguments = Arguments { paths: vec![directory.path().to_owned()], show_skipped: false };
        assert!(!run_all(&arguments, &mut Vec::new()).unwrap());
    }
}
