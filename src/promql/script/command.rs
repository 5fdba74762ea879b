//! The commands of a script and their blocks.

use regex::Regex;

use super::series::{SeriesLine, parse_scalar_line, parse_series, take_string};
use crate::duration::parse_duration_ms;

/// A command with the line that it starts on, counted from 1.
#[derive(Debug)]
pub(super) struct Command {
    pub line: usize,
    pub kind: CommandKind,
}

#[derive(Debug)]
pub(super) enum CommandKind {
    Clear,
    Load(Load),
    Eval(Box<Eval>),
    /// Lines that are no command; the text says why.
    Malformed(String),
}

#[derive(Debug)]
pub(super) struct Load {
    pub step_ms: i64,
    pub series: Vec<SeriesLine>,
    /// `load_with_nhcb`: the classic histograms are also to be there as native ones.
    pub with_nhcb: bool,
}

/// The times that a query is evaluated at, or that the points of a result have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Steps {
    pub start_ms: i64,
    pub end_ms: i64,
    pub step_ms: i64,
}

#[derive(Debug)]
pub(super) struct Eval {
    pub query: String,
    pub times: Times,
    pub expected: Expected,
    pub warnings: Annotations,
    pub infos: Annotations,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Times {
    Instant(i64),
    Range(Steps),
}

/// What an `eval` is to give.
#[derive(Debug)]
pub(super) enum Expected {
    /// An error with such a text.
    Failure(Pattern),
    Scalar(f64),
    String(String),
    Series {
        /// The series with the values of their points.
        series: Vec<SeriesLine>,
        /// In exactly this order.
        ordered: bool,
        /// An instant query that gives a range vector with points at these times.
        range_vector: Option<Steps>,
    },
}

/// A condition on a text.
#[derive(Debug)]
pub(super) enum Pattern {
    Any,
    Text(String),
    Regex(Regex),
}

impl Pattern {
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Pattern::Any => true,
            Pattern::Text(wanted) => wanted == text,
            Pattern::Regex(regex) => regex.is_match(text),
        }
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Pattern::Any => f.write_str("anything"),
            Pattern::Text(text) => write!(f, "{text:?}"),
            Pattern::Regex(regex) => write!(f, "a match of {:?}", regex.as_str()),
        }
    }
}

/// Which warnings or infos an `eval` is to give.
#[derive(Debug, Default)]
pub(super) enum Annotations {
    /// Not said.
    #[default]
    Unchecked,
    None,
    /// At least one; each pattern must match one, and each one must match a pattern.
    Some(Vec<Pattern>),
}

impl Annotations {
    fn add(&mut self, pattern: Pattern) {
        match self {
            Annotations::Some(patterns) => patterns.push(pattern),
            _ => *self = Annotations::Some(vec![pattern]),
        }
    }
}

/// Reads a script. What cannot be read becomes [`CommandKind::Malformed`], and reading goes on after its block.
pub(super) fn parse_script(text: &str) -> Vec<Command> {
    let mut commands = Vec::new();
    let mut lines = text.lines().map(str::trim).enumerate();
    while let Some((index, head)) = lines.next() {
        if is_block_end(head) {
            continue;
        }
        // `by_ref` takes the line that ends the block too, which is empty or a comment.
        let block: Vec<&str> = match head {
            "clear" => Vec::new(),
            _ => lines.by_ref().map(|(_, line)| line).take_while(|line| !is_block_end(line)).collect(),
        };
        let kind = parse_command(head, &block).unwrap_or_else(CommandKind::Malformed);
        commands.push(Command { line: index + 1, kind });
    }
    commands
}

fn is_block_end(line: &str) -> bool {
    line.is_empty() || line.starts_with('#')
}

fn parse_command(head: &str, block: &[&str]) -> Result<CommandKind, String> {
    let (word, rest) = split_word(head);
    match word {
        "clear" if rest.is_empty() => Ok(CommandKind::Clear),
        "load" | "load_with_nhcb" => {
            let series = block.iter().map(|line| parse_series(line)).collect::<Result<_, _>>()?;
            let with_nhcb = word == "load_with_nhcb";
            Ok(CommandKind::Load(Load { step_ms: parse_step_ms(rest)?, series, with_nhcb }))
        }
        "eval" | "eval_fail" | "eval_warn" | "eval_info" | "eval_ordered" => {
            let eval = parse_eval(word, rest, block)?;
            Ok(CommandKind::Eval(Box::new(eval)))
        }
        _ => Err(format!("unknown command {head:?}")),
    }
}

fn parse_eval(word: &str, rest: &str, block: &[&str]) -> Result<Eval, String> {
    let (times, query) = match split_word(rest) {
        ("instant", rest) => {
            let (time, query) = split_word(after_word("at", rest)?);
            (Times::Instant(parse_time_ms(time)?), query)
        }
        ("range", rest) => {
            let (steps, query) = parse_steps(rest)?;
            (Times::Range(steps), query)
        }
        _ => return Err(format!("expected instant or range, got {rest:?}")),
    };
    if query.is_empty() {
        return Err("eval without a query".to_owned());
    }
    let mut expectations = Expectations { ordered: word == "eval_ordered", ..Expectations::default() };
    match word {
        "eval_fail" => expectations.failure = Some(Pattern::Any),
        "eval_warn" => expectations.warnings.add(Pattern::Any),
        "eval_info" => expectations.infos.add(Pattern::Any),
        _ => {}
    }
    for line in block {
        expectations.add_line(line)?;
    }
    expectations.finish(query, times)
}

/// The lines of an `eval`, collected.
#[derive(Default)]
struct Expectations {
    failure: Option<Pattern>,
    scalar: Option<f64>,
    string: Option<String>,
    series: Vec<SeriesLine>,
    ordered: bool,
    range_vector: Option<Steps>,
    warnings: Annotations,
    infos: Annotations,
}

impl Expectations {
    fn add_line(&mut self, line: &str) -> Result<(), String> {
        match split_word(line) {
            ("expect", rest) => self.add_expect(rest),
            ("expected_fail_message", text) => {
                self.failure = Some(Pattern::Text(text.to_owned()));
                Ok(())
            }
            ("expected_fail_regexp", pattern) => {
                self.failure = Some(Pattern::Regex(parse_regex(pattern)?));
                Ok(())
            }
            _ => {
                match parse_scalar_line(line) {
                    Some(value) => self.scalar = Some(value),
                    None => self.series.push(parse_series(line)?),
                }
                Ok(())
            }
        }
    }

    fn add_expect(&mut self, text: &str) -> Result<(), String> {
        let (what, rest) = split_word(text);
        match what {
            "fail" => self.failure = Some(parse_pattern(rest)?),
            "warn" => self.warnings.add(parse_pattern(rest)?),
            "info" => self.infos.add(parse_pattern(rest)?),
            "no_warn" if rest.is_empty() => self.warnings = Annotations::None,
            "no_info" if rest.is_empty() => self.infos = Annotations::None,
            "ordered" if rest.is_empty() => self.ordered = true,
            "string" => match take_string(rest)? {
                (value, "") => self.string = Some(value),
                (_, after) => return Err(format!("unexpected {after:?} after the string")),
            },
            "range" => match parse_steps(after_word("vector", rest)?)? {
                (steps, "") => self.range_vector = Some(steps),
                (_, after) => return Err(format!("unexpected {after:?} after the step")),
            },
            _ => return Err(format!("unknown expectation {text:?}")),
        }
        Ok(())
    }

    fn finish(self, query: &str, times: Times) -> Result<Eval, String> {
        let expected = match (self.failure, self.scalar, self.string) {
            (Some(pattern), None, None) if self.series.is_empty() => Expected::Failure(pattern),
            (None, Some(value), None) if self.series.is_empty() => Expected::Scalar(value),
            (None, None, Some(text)) if self.series.is_empty() => Expected::String(text),
            (None, None, None) => Expected::Series {
                series: self.series,
                ordered: self.ordered,
                range_vector: self.range_vector,
            },
            _ => return Err("expectations that exclude each other".to_owned()),
        };
        Ok(Eval { query: query.to_owned(), times, expected, warnings: self.warnings, infos: self.infos })
    }
}

/// Nothing, `msg: TEXT` or `regex: RE`.
fn parse_pattern(text: &str) -> Result<Pattern, String> {
    if text.is_empty() {
        Ok(Pattern::Any)
    } else if let Some(text) = text.strip_prefix("msg:") {
        Ok(Pattern::Text(text.trim().to_owned()))
    } else if let Some(pattern) = text.strip_prefix("regex:") {
        parse_regex(pattern.trim()).map(Pattern::Regex)
    } else {
        Err(format!("expected msg: or regex:, got {text:?}"))
    }
}

fn parse_regex(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| error.to_string())
}

/// `from A to B step S`, and what comes after it.
fn parse_steps(text: &str) -> Result<(Steps, &str), String> {
    let (start, rest) = split_word(after_word("from", text)?);
    let (end, rest) = split_word(after_word("to", rest)?);
    let (step, rest) = split_word(after_word("step", rest)?);
    let steps =
        Steps { start_ms: parse_time_ms(start)?, end_ms: parse_time_ms(end)?, step_ms: parse_step_ms(step)? };
    if steps.end_ms < steps.start_ms {
        return Err(format!("the range ends at {end}, before it begins at {start}"));
    }
    Ok((steps, rest))
}

/// A time since the epoch; may be before it.
fn parse_time_ms(text: &str) -> Result<i64, String> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let time_ms = parse_duration_ms(unsigned).map_err(|error| error.to_string())?;
    Ok(if negative { -time_ms } else { time_ms })
}

fn parse_step_ms(text: &str) -> Result<i64, String> {
    match parse_duration_ms(text) {
        Ok(0) => Err("a step of zero".to_owned()),
        Ok(step_ms) => Ok(step_ms),
        Err(error) => Err(error.to_string()),
    }
}

fn after_word<'a>(wanted: &str, text: &'a str) -> Result<&'a str, String> {
    match split_word(text) {
        (word, rest) if word == wanted => Ok(rest),
        _ => Err(format!("expected {wanted:?}, got {text:?}")),
    }
}

fn split_word(text: &str) -> (&str, &str) {
    text.split_once([' ', '\t']).map_or((text, ""), |(word, rest)| (word, rest.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn eval(text: &str) -> Eval {
        match parse_script(text).remove(0).kind {
            CommandKind::Eval(eval) => *eval,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_block_ends_at_an_empty_line_or_a_comment() {
        let commands = parse_script("load 5m\n  a 1\n  # c\n\n clear\neval instant at 0 a\n  a 1\n\n");
        let lines: Vec<_> = commands.iter().map(|command| command.line).collect();
        assert_eq!(lines, [1, 5, 6]);
        let CommandKind::Load(load) = &commands[0].kind else { panic!("a load") };
        assert_eq!((load.step_ms, load.series.len()), (300_000, 1));
    }

    #[test]
    fn evals_have_times_queries_and_expectations() {
        let range = eval(
            "eval range from 1m to 1h step 30s sum(x) # c\n {} 1 2\n expect no_warn\n expect info msg: a b",
        );
        assert_eq!(range.query, "sum(x) # c");
        let Times::Range(steps) = range.times else { panic!("a range") };
        assert_eq!(steps, Steps { start_ms: 60_000, end_ms: 3_600_000, step_ms: 30_000 });
        assert!(matches!(range.warnings, Annotations::None));
        assert!(matches!(&range.infos, Annotations::Some(patterns) if patterns[0].matches("a b")));
        assert!(matches!(eval("eval instant at 0 1\n 1").expected, Expected::Scalar(1.0)));
        assert!(matches!(eval("eval_fail instant at 0 x").expected, Expected::Failure(Pattern::Any)));
        assert!(matches!(
            eval("eval instant at 0 x\n expect fail regex: a.c").expected,
            Expected::Failure(pattern) if pattern.matches("xabcx") && !pattern.matches("ac")
        ));
        assert!(matches!(
            eval("eval instant at 0 \"a\"\n expect string `a`").expected,
            Expected::String(text) if text == "a"
        ));
        assert!(matches!(
            eval("eval instant at 0 x[1m]\n expect range vector from 0 to 1m step 1m\n expect ordered")
                .expected,
            Expected::Series { ordered: true, range_vector: Some(Steps { end_ms: 60_000, .. }), .. }
        ));
    }

    #[test]
    fn what_is_no_command_is_reported_and_left_behind() {
        let commands = parse_script(
            "lod 5m\n a 1\n\neval sometimes x\n\nload 0\n\nload 1m\n a b\n\neval instant at 1 x\n\nclear",
        );
        let malformed = |command: &&Command| matches!(command.kind, CommandKind::Malformed(_));
        assert_eq!(commands.iter().filter(malformed).count(), 5);
        assert!(matches!(commands[5].kind, CommandKind::Clear));
        for text in [
            "eval instant at 0 x\n expect fial",
            "eval instant at 0 x\n expect fail\n x 1",
            "eval instant at 0 x\n expect fail msg",
            "eval instant at 0 x\n expect no_warn please",
            "eval instant at 0",
            "eval range from 1m to 0 step 1m x",
        ] {
            assert!(matches!(parse_script(text)[0].kind, CommandKind::Malformed(_)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_ends_in_a_script(text in "(load 1m|eval instant at 1m|expect|a|x|1| |\n|.){0,40}") {
            let _ = parse_script(&text);
        }
    }
}
