//! How the tools speak: tables, sizes and times for people, JSON for programs, progress on stderr, and exit codes.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use annulus::rfc3339;
use serde::Serialize;

/// What a command found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is wrong. Exit code 0.
    Whole,
    /// Something is damaged. Exit code 1.
    Damaged,
}

/// Why a command has no result: wrong usage, or something cannot be read. Exit code 2.
#[derive(Debug)]
pub enum Failure {
    /// One line with the cure.
    Text(String),
    /// The output cannot be written.
    Output(io::Error),
}

impl Failure {
    /// A failure about something, a path most often.
    pub fn about(what: impl Display, reason: impl Display) -> Failure {
        Failure::Text(format!("{what}: {reason}"))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Output(error)
    }
}

/// Ends a command.
pub fn exit_code(result: Result<Outcome, Failure>) -> ExitCode {
    let text = match result {
        Ok(Outcome::Whole) => return ExitCode::SUCCESS,
        Ok(Outcome::Damaged) => return ExitCode::from(1),
        // Who reads only the first lines of a list has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Err(Failure::Output(error)) => format!("cannot write the output: {error}"),
        Err(Failure::Text(text)) => text,
    };
    // Nobody has to read it.
    let _ = writeln!(io::stderr(), "annulus-tools: {text}");
    ExitCode::from(2)
}

/// Writes a report as JSON.
pub fn write_json(out: &mut impl Write, report: &impl Serialize) -> Result<(), Failure> {
    serde_json::to_writer_pretty(&mut *out, report).map_err(io::Error::from)?;
    Ok(writeln!(out)?)
}

/// Tells a person at a terminal what is being done.
pub struct Progress {
    is_shown: bool,
}

impl Progress {
    /// Shown only where somebody watches.
    pub fn new() -> Progress {
        Progress { is_shown: io::stderr().is_terminal() }
    }

    /// Begins a step.
    pub fn step(&self, what: impl Display) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K{what} …");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// Rows under headings; columns are as wide as their widest cell.
pub struct Table {
    /// Whether a column is of numbers, which are aligned at their end.
    is_number: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Headings; a `>` before one makes it a column of numbers.
    pub fn new(headings: &[&str]) -> Table {
        let is_number = headings.iter().map(|heading| heading.starts_with('>')).collect();
        let row = headings.iter().map(|heading| heading.trim_start_matches('>').to_owned()).collect();
        Table { is_number, rows: vec![row] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// Whether there are only headings.
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// Prints it.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.is_number.len()).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let gap = widths.get(column).map_or(0, |width| width - cell.chars().count().min(*width));
                let (before, after) =
                    if self.is_number.get(column) == Some(&true) { (gap, 0) } else { (0, gap) };
                line.push_str(&" ".repeat(before));
                line.push_str(cell);
                line.push_str(&" ".repeat(after + 2));
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A text without characters that would move the cursor: what is printed may come from a hostile file.
pub fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

/// A size for people.
pub fn bytes(size: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = size as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{size} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A time for people; a dash for none.
pub fn time(ms: Option<i64>) -> String {
    // Years of five digits are not times that somebody has measured.
    const YEAR_10000_MS: i64 = 253_402_300_800_000;
    match ms {
        None => "-".to_owned(),
        Some(ms) if (0..YEAR_10000_MS).contains(&ms) => rfc3339::format_ms(ms),
        Some(ms) => format!("{ms} ms"),
    }
}

/// A length of time for people.
pub fn duration(ms: i64) -> String {
    let seconds = ms / 1000;
    let parts =
        [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let text: String =
        parts.iter().filter(|(count, _)| *count != 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    if text.is_empty() { format!("{ms}ms") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_control_characters_replaced() {
        let mut table = Table::new(&["name", ">count", "what"]);
        table.row(["a\x1b[2J".to_owned(), "5".to_owned(), "x".to_owned()]);
        table.row(["é".to_owned(), "1234567".to_owned(), String::new()]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        let expected = "name     count  what\na\u{fffd}[2J        5  x\né      1234567\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn sizes_times_and_durations_are_readable() {
        assert_eq!(
            [0, 1023, 1536, 5 << 30, u64::MAX].map(bytes),
            ["0 B", "1023 B", "1.5 KiB", "5.0 GiB", "16777216.0 TiB"]
        );
        assert_eq!([0, 999, 7_200_000, 90_061_000].map(duration), ["0ms", "999ms", "2h", "1d1h1m1s"]);
        assert_eq!(time(None), "-");
        assert_eq!(time(Some(i64::MIN)), "-9223372036854775808 ms");
        assert!(time(Some(1_700_000_000_000)).starts_with("2023-11-14T22:13:20"));
    }
}
