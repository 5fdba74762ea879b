//! PromQL text to a checked tree.
//!
//! Owns:     the language: tokens (`lexer`), grammar (`grammar`), functions (`functions`), what has to be enabled
//!           (`features`), types (`check`), and the canonical text of a tree (`print`).
//! Touches:  nothing else.
//! Runs on:  any thread.
//! Promises: linear time in the length of the text; never a panic, whatever the text; a tree is at most
//!           [`TREE_DEPTH_MAX`] levels deep, so that code which walks it may recurse.

mod call;
mod check;
mod duration;
mod features;
mod functions;
mod grammar;
mod lexer;
pub(crate) mod literal;
mod pretty;
mod print;
#[cfg(test)]
mod properties;
mod selector;
#[cfg(test)]
mod syntax_tests;
mod token;

use annulus_shards::matcher::MatcherError;

pub use self::features::Features;
use super::ast::{Expr, Span};
use super::value::ParseError;
pub use functions::{Function, Last, functions};
pub use pretty::pretty;

/// The longest query text. Longer ones are not written by people; they cost memory before they cost time.
pub const QUERY_BYTES_MAX: usize = 1 << 20;

/// How many levels a tree may have: the longest chain of operators, for one.
pub const TREE_DEPTH_MAX: u16 = 512;

/// How many parentheses, calls and signs may be open at once. Each costs about 6 KiB of stack in a debug build, and
/// threads may have no more than 2 MiB.
const NESTING_MAX: u16 = 256;

/// The longest error message.
const MESSAGE_CHARS_MAX: usize = 500;

/// Parses and type-checks a query in the whole language.
///
/// # Errors
/// The first thing that is wrong, in the order of the text for syntax, then in the order of the tree for types.
pub fn parse(query: &str) -> Result<Expr, ParseError> {
    parse_with(query, Features::ALL)
}

/// The same, with only those experimental parts of the language that are enabled.
///
/// # Errors
/// The same, and what is not enabled.
pub fn parse_with(query: &str, features: Features) -> Result<Expr, ParseError> {
    parse_while(query, features, &|| true)
}

/// The same, as long as somebody waits for it: patterns take their time to compile, and a query may have many.
///
/// # Errors
/// The same, and that nobody waits any more.
pub fn parse_while(
    query: &str,
    features: Features,
    is_awaited: &dyn Fn() -> bool,
) -> Result<Expr, ParseError> {
    parse_located(query, features, is_awaited).map_err(|failure| failure.locate(query))
}

fn parse_located(query: &str, features: Features, is_awaited: &dyn Fn() -> bool) -> Result<Expr, Failure> {
    if query.len() > QUERY_BYTES_MAX {
        let message = format!("query of {} bytes is longer than {QUERY_BYTES_MAX} bytes", query.len());
        return Err(Failure::new(Span::default(), message));
    }
    let mut expr = grammar::Parser::new(query, is_awaited).parse_query()?;
    features.check(&expr)?;
    check::check(&mut expr)?;
    Ok(expr)
}

/// A parse error before its line and column are known.
#[derive(Debug)]
struct Failure {
    message: String,
    span: Span,
}

impl Failure {
    fn new(span: Span, message: impl Into<String>) -> Failure {
        Failure { message: message.into(), span }
    }

    fn locate(mut self, query: &str) -> ParseError {
        // Messages quote the query, which may be one long word.
        if let Some((end, _)) = self.message.char_indices().nth(MESSAGE_CHARS_MAX) {
            self.message.truncate(end);
            self.message.push('…');
        }
        // The span of an operator is all between its sides; people look for its first letter.
        let rest = query.as_bytes().get(self.span.start as usize..).unwrap_or_default();
        let spaces = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if spaces < rest.len() {
            self.span.start += u32::try_from(spaces).unwrap_or(0);
            self.span.end = self.span.end.max(self.span.start);
        }
        let before = query.get(..self.span.start as usize).unwrap_or(query);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        ParseError {
            message: self.message,
            line: count(before.matches('\n').count() + 1),
            column: count(before[line_start..].chars().count() + 1),
            span: self.span,
        }
    }
}

/// The smallest span that covers both.
fn join(first: Span, last: Span) -> Span {
    Span { start: first.start.min(last.start), end: first.end.max(last.end) }
}

/// Whether an error says that a selector would select everything.
pub(crate) fn is_empty_selector(error: &ParseError) -> bool {
    error.message == check::EMPTY_SELECTOR
}

/// Whether an error says that patterns of other queries leave no room: nothing is wrong with the text.
pub(crate) fn lacks_room(error: &ParseError) -> bool {
    error.message == MatcherError::NO_ROOM.to_string()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn one_query_cannot_take_the_room_of_all_patterns() {
        let query = r#"a{b=~"x[0-9]+y"}"#;
        let mut parser = grammar::Parser::new(query, &|| true);
        parser.regex_bytes = annulus_shards::matcher::QUERY_COMPILED_BYTES_MAX - 1;
        let error = parser.parse_query().unwrap_err().locate(query);
        assert!(error.message.starts_with("the regular expressions of the query take more"), "{error}");
        assert!(!lacks_room(&error));
    }

    #[test]
    fn nothing_is_compiled_for_nobody() {
        let asked = Cell::new(0);
        let is_awaited = || asked.replace(asked.get() + 1) < 2;
        let query = r#"a{b=~"x.*", c="y", d=~"(.", e=~"(."}"#;
        let error = parse_while(query, Features::ALL, &is_awaited).unwrap_err();
        assert!(error.message.contains("missing closing )"), "{error}");
        assert_eq!(asked.get(), 2);
        let error = parse_while(query, Features::ALL, &is_awaited).unwrap_err();
        assert_eq!((error.message.as_str(), asked.get()), ("nobody waits for the query any more", 3));
    }

    #[test]
    fn the_patterns_of_functions_count_like_those_of_matchers() {
        let query = |count: usize| {
            let replace = |number| format!(r#"label_replace(g, "x", "$1", "y", "a{number}(.*)")"#);
            let parts: Vec<String> = (0..count).map(replace).collect();
            let half = |parts: &[String]| format!("({})", parts.join(" or "));
            // The tree has a bound, too.
            parts.chunks(40).map(half).collect::<Vec<_>>().join(" or ")
        };
        assert!(parse(&query(selector::REGEX_COUNT_MAX)).is_ok());
        let error = parse(&query(selector::REGEX_COUNT_MAX + 1)).unwrap_err();
        assert_eq!(error.message, "query has more than 1000 regular expressions");
    }

    #[test]
    fn errors_of_an_operator_are_found_where_it_stands() {
        for (query, line, column) in [
            ("1 == 1", 1, 3),
            ("1\n  == 1", 2, 3),
            ("a + on (b) group_left (b) c", 1, 3),
            ("1 + bool 1", 1, 3),
        ] {
            let error = parse(query).unwrap_err();
            assert_eq!((error.line, error.column), (line, column), "{error}");
        }
        let error = parse("a + ").unwrap_err();
        assert_eq!((error.line, error.column), (1, 5), "{error}");
    }
}
