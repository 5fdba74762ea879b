//! Label matchers of a selector, with Prometheus' rules: regular expressions are Go's, fully anchored, `.` matches a
//! newline, and a label that is absent has the empty value.

mod capture;
mod go_syntax;
mod shape;
mod template;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use regex::{Regex, RegexBuilder};

pub use capture::CapturePattern;
pub use go_syntax::{GoSyntaxError, translate};
use shape::Shape;
pub use template::Template;

/// The four operators of a label matcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

/// One condition on one label. Cheap to clone.
#[derive(Clone)]
pub struct Matcher {
    /// The label's name.
    pub name: String,
    /// How the value is compared.
    pub op: MatchOp,
    /// The value or pattern as the user wrote it.
    pub value: String,
    pattern: Option<Arc<Pattern>>,
}

/// Why a pattern cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MatcherError {
    /// Go refuses it, too.
    #[error(transparent)]
    Syntax(#[from] GoSyntaxError),
    /// Compiled, it takes more memory than one pattern may.
    #[error("error parsing regexp: expression too large: `{}`", shorten(.pattern))]
    TooLarge {
        /// The pattern as written.
        pattern: String,
    },
    /// All patterns of the process together take as much memory as they may.
    #[error("the regular expressions of all queries take more than {bytes_max} bytes together")]
    NoRoom {
        /// What they may take.
        bytes_max: usize,
    },
}

/// The longest pattern. A list of 100,000 names is shorter.
const PATTERN_BYTES_MAX: usize = 8 << 20;

/// A pattern is compiled into the smallest of these in which it has room, so that the sum over all patterns can be
/// bounded by what they may take. `(.{100}){10}` of wide classes must cost an error, not the memory.
const COMPILED_BYTES: [usize; 4] = [16 << 10, 256 << 10, 2 << 20, 10 << 20];

/// Matching with groups keeps the bounds of each group for each part of the pattern, so that what it takes is a product:
/// this is the most that it may be. Patterns of ten groups may still be larger than people write them.
const WITH_GROUPS_BYTES_MAX: usize = 64 << 20;

/// What a thread that matches may keep of the states that it met.
const STATES_BYTES_MAX: usize = 1 << 20;

/// What all compiled patterns may take at once.
const ALL_COMPILED_BYTES_MAX: usize = 512 << 20;

/// What the compiled patterns of one query may take, so that none leaves the others without.
pub const QUERY_COMPILED_BYTES_MAX: usize = ALL_COMPILED_BYTES_MAX / 4;

/// What all compiled patterns may take at this moment.
static ALL_COMPILED_BYTES: AtomicUsize = AtomicUsize::new(0);

/// How a pattern is compared.
enum Pattern {
    Shape(Shape),
    Compiled(Compiled),
}

/// A regular expression with the memory that is set aside for it.
struct Compiled {
    regex: Regex,
    /// What every match begins with; looked at first.
    prefix: Box<str>,
    _room: Room,
}

/// A part of [`ALL_COMPILED_BYTES_MAX`], given back when it is dropped.
struct Room(usize);

impl Matcher {
    /// A matcher; fails when a regular expression does not compile.
    pub fn new(
        op: MatchOp,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<Matcher, MatcherError> {
        let value = value.into();
        let pattern = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(Arc::new(Pattern::new(&value)?)),
        };
        Ok(Matcher { name: name.into(), op, value, pattern })
    }

    /// Whether a value fulfils the condition; an absent label is passed as `""`.
    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.pattern) {
            (MatchOp::Equal, _) => value == self.value,
            (MatchOp::NotEqual, _) => value != self.value,
            (MatchOp::Regex, Some(pattern)) => pattern.matches(value),
            (MatchOp::NotRegex, Some(pattern)) => !pattern.matches(value),
            (MatchOp::Regex | MatchOp::NotRegex, None) => unreachable!("new() compiles the pattern"),
        }
    }

    /// Whether series without the label fulfil the condition.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// All values that the pattern matches, if it is a list of texts; in no particular order.
    pub fn listed_values(&self) -> Option<impl ExactSizeIterator<Item = &str>> {
        match self.pattern.as_deref() {
            Some(Pattern::Shape(Shape::Set(texts))) => Some(texts.iter().map(|text| &**text)),
            _ => None,
        }
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Matcher) -> bool {
        (self.op, &self.name, &self.value) == (other.op, &other.name, &other.value)
    }
}

/// What the user wrote; how it is compared follows from that.
impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Matcher { name, op, value, pattern: _ } = self;
        f.debug_struct("Matcher").field("name", name).field("op", op).field("value", value).finish()
    }
}

impl Pattern {
    fn new(text: &str) -> Result<Pattern, MatcherError> {
        let too_large = || MatcherError::TooLarge { pattern: text.to_owned() };
        if text.len() > PATTERN_BYTES_MAX {
            return Err(too_large());
        }
        let translated = translate(text)?;
        let parsed = regex_syntax::ParserBuilder::new().dot_matches_new_line(true).build().parse(&translated);
        // The translation is valid; what the parser still refuses is nested too deeply or too large a number.
        let parsed = parsed.map_err(|_| too_large())?;
        if let Some(shape) = Shape::of(&parsed) {
            return Ok(Pattern::Shape(shape));
        }
        let prefix = shape::prefix(&parsed).unwrap_or_default().into();
        drop(parsed);
        let (regex, room) = compile(&translated, 0).map_err(|error| error.about(text))?;
        Ok(Pattern::Compiled(Compiled { regex, prefix, _room: room }))
    }

    fn matches(&self, value: &str) -> bool {
        match self {
            Pattern::Shape(shape) => shape.matches(value),
            Pattern::Compiled(compiled) => {
                value.starts_with(&*compiled.prefix) && compiled.regex.is_match(value)
            }
        }
    }
}

/// Why a translation does not become a regular expression.
enum CompileError {
    TooLarge,
    NoRoom,
}

impl CompileError {
    fn about(self, pattern: &str) -> MatcherError {
        match self {
            CompileError::TooLarge => MatcherError::TooLarge { pattern: pattern.to_owned() },
            CompileError::NoRoom => MatcherError::NoRoom { bytes_max: ALL_COMPILED_BYTES_MAX },
        }
    }
}

/// Compiles a translation, fully anchored, and sets memory aside for it: what it takes by itself, once for the match and
/// once for each group.
fn compile(translated: &str, group_count: usize) -> Result<(Regex, Room), CompileError> {
    let anchored = format!("^(?s:{translated})$");
    for bytes in COMPILED_BYTES {
        let with_groups = bytes.saturating_mul(1 + group_count);
        if with_groups > WITH_GROUPS_BYTES_MAX {
            break;
        }
        let room = Room::take(with_groups).ok_or(CompileError::NoRoom)?;
        let built = RegexBuilder::new(&anchored).size_limit(bytes).dfa_size_limit(STATES_BYTES_MAX).build();
        match built {
            Ok(regex) => return Ok((regex, room)),
            Err(regex::Error::CompiledTooBig(_)) => {}
            Err(_) => return Err(CompileError::TooLarge),
        }
    }
    Err(CompileError::TooLarge)
}

impl Room {
    fn take(bytes: usize) -> Option<Room> {
        let taken = ALL_COMPILED_BYTES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            held.checked_add(bytes).filter(|sum| *sum <= ALL_COMPILED_BYTES_MAX)
        });
        // The value before does not matter.
        taken.ok().map(|_| Room(bytes))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        ALL_COMPILED_BYTES.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// Messages quote the pattern, which may be megabytes.
fn shorten(pattern: &str) -> &str {
    const CHARS_MAX: usize = 100;
    pattern.char_indices().nth(CHARS_MAX).map_or(pattern, |(end, _)| &pattern[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn regex(pattern: &str) -> Result<Matcher, MatcherError> {
        Matcher::new(MatchOp::Regex, "a", pattern)
    }

    #[test]
    fn patterns_are_anchored_and_absent_labels_are_empty() {
        let matcher = Matcher::new(MatchOp::Regex, "job", "api|node.*").unwrap();
        assert!(matcher.matches("api") && matcher.matches("node\nexporter"));
        assert!(!matcher.matches("my-api") && !matcher.matches_empty());
        assert!(Matcher::new(MatchOp::NotEqual, "job", "api").unwrap().matches_empty());
        assert!(!regex("a$").unwrap().matches("a\n"));
        assert!(regex("(?i)(a|b)[0-9]+").unwrap().matches("B12"));
    }

    #[test]
    fn a_pattern_that_explodes_is_refused() {
        for pattern in [".{1000}{1000}", "(.{1000}){1000}", "(", &"(\\pL{100}|\\pN{100}){10}".repeat(100)] {
            let error = regex(pattern).unwrap_err().to_string();
            assert!(error.starts_with("error parsing regexp: ") && error.len() < 1_000, "{error}");
        }
        assert!(regex(&"x".repeat(PATTERN_BYTES_MAX + 1)).is_err());
        assert!(regex(&"(a|b.)*".repeat(10)).is_ok());
    }

    #[test]
    fn a_pattern_cannot_escape_the_anchors() {
        assert!(regex("a)|(b").is_err());
        assert!(!regex("a|b").unwrap().matches("ab"));
    }

    #[test]
    fn memory_is_set_aside_for_what_is_compiled_and_given_back() {
        let room = Room::take(1 << 20).unwrap();
        assert!(ALL_COMPILED_BYTES.load(Ordering::Relaxed) >= 1 << 20);
        assert!(Room::take(ALL_COMPILED_BYTES_MAX).is_none());
        drop(room);
        // A thousand patterns of an honest query need a small part of it.
        let many: Vec<Matcher> =
            (0..1_000).map(|number| regex(&format!("a[0-9]+b{number}c*")).unwrap()).collect();
        assert!(many.iter().all(|matcher| !matcher.matches("x")));
    }

    #[test]
    fn a_list_can_be_looked_up() {
        let matcher = regex("b|a|a").unwrap();
        let mut values: Vec<&str> = matcher.listed_values().unwrap().collect();
        values.sort_unstable();
        assert_eq!(values, ["a", "b"]);
        assert!(regex("a.*").unwrap().listed_values().is_none());
        assert!(Matcher::new(MatchOp::Equal, "a", "b").unwrap().listed_values().is_none());
    }

    proptest! {
        #[test]
        fn no_pattern_makes_matching_panic(pattern in "\\PC{0,40}", value in "\\PC{0,20}") {
            if let Ok(matcher) = regex(&pattern) {
                let negative = Matcher::new(MatchOp::NotRegex, "a", pattern).unwrap();
                prop_assert_eq!(matcher.matches(&value), !negative.matches(&value));
            }
        }

        #[test]
        fn shapes_and_expressions_agree(pattern in "[ab.*+?|()^$]{0,8}", value in "[ab\n]{0,5}") {
            if let Ok(matcher) = regex(&pattern) {
                let plain = Regex::new(&format!("^(?s:{})$", translate(&pattern).unwrap())).unwrap();
                prop_assert_eq!(matcher.matches(&value), plain.is_match(&value), "{}", pattern);
            }
        }
    }
}
