//! Go's regular expressions in the syntax of the regex crate.
//!
//! Both descend from RE2, but not every text means the same in both: here `\d`, `\s`, `\w` and `\b` know ASCII only, a
//! brace that is no repetition is a brace, `[` and `&&` inside a class are themselves, and `\Q…\E` quotes. The
//! translation reads a pattern as Go does, with Go's errors, and writes every part in a form that cannot be read in two
//! ways. Groups capture nothing where only a match is asked for.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::CharIndices;

/// How often a part may be repeated, repetitions inside it multiplied, as in Go.
const REPEAT_MAX: u32 = 1_000;

/// How deep groups may be nested. Go allows 1,000; the parser of the regex crate allows 250 levels of its own tree.
const NESTING_MAX: usize = 100;

/// What is wrong with a pattern, in Go's words: the fault, and the text that it is about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {fault}: `{text}`")]
pub struct GoSyntaxError {
    fault: &'static str,
    text: String,
}

type Translated<T> = Result<T, GoSyntaxError>;

/// Translates a pattern of Go's `regexp` with Perl's extensions, as Prometheus uses it.
///
/// # Errors
/// What Go refuses is refused, in the same words; so is what is nested deeper than any person writes.
pub fn translate(pattern: &str) -> Translated<String> {
    let mut translator = Translator::new(pattern, "(?:");
    translator.pattern()?;
    Ok(translator.out)
}

/// The same with groups that capture, and the name of each group that has one, in the order of the groups. The names
/// stand beside the translation, since not every name in Go is one in the regex crate.
///
/// # Errors
/// The same.
pub fn translate_capturing(pattern: &str) -> Translated<(String, Vec<Option<String>>)> {
    let mut translator = Translator::new(pattern, "(");
    translator.pattern()?;
    let names = translator.names.into_iter().map(|name| name.map(str::to_owned)).collect();
    Ok((translator.out, names))
}

/// What a repetition operator would repeat.
#[derive(Clone, Copy, PartialEq)]
enum Last {
    /// The begin of an alternative.
    Nothing,
    /// Something whose own parts repeat so often at most.
    Atom(u32),
    /// Something that is repeated already, by the operator at this place.
    Repeated(usize),
}

struct Translator<'a> {
    pattern: &'a str,
    rest: Peekable<CharIndices<'a>>,
    out: String,
    /// For each open group, where it begins and how often the parts before it in the same group repeat.
    groups: Vec<(usize, u32)>,
    /// How a group that may capture begins in the translation.
    group_open: &'static str,
    /// The names of these groups.
    names: Vec<Option<&'a str>>,
    last: Last,
    /// The most that a part of the innermost open group repeats.
    repeats: u32,
}

impl<'a> Translator<'a> {
    fn new(pattern: &'a str, group_open: &'static str) -> Translator<'a> {
        Translator {
            pattern,
            rest: pattern.char_indices().peekable(),
            out: String::with_capacity(pattern.len() + 16),
            groups: Vec::new(),
            group_open,
            names: Vec::new(),
            last: Last::Nothing,
            repeats: 1,
        }
    }

    fn pattern(&mut self) -> Translated<()> {
        while let Some((at, next)) = self.rest.next() {
            match next {
                '(' => self.open(at)?,
                ')' => self.close(at)?,
                '|' => {
                    self.out.push('|');
                    self.last = Last::Nothing;
                }
                '*' => self.repeat(at, "*", None)?,
                '+' => self.repeat(at, "+", None)?,
                '?' => self.repeat(at, "?", None)?,
                '{' => match self.counts(at) {
                    Some((least, most)) => self.counted(at, least, most)?,
                    None => self.literal('{'),
                },
                '[' => self.class(at)?,
                '\\' => self.escape(at)?,
                '.' | '^' | '$' => {
                    self.out.push(next);
                    self.atom();
                }
                other => self.literal(other),
            }
        }
        match self.groups.last() {
            Some(_) => Err(error("missing closing )", self.pattern)),
            None => Ok(()),
        }
    }

    fn atom(&mut self) {
        self.last = Last::Atom(1);
    }

    fn literal(&mut self, char: char) {
        push_literal(&mut self.out, char);
        self.atom();
    }

    fn peek(&mut self) -> Option<char> {
        self.rest.peek().map(|(_, char)| *char)
    }

    /// The place of the next character.
    fn at(&mut self) -> usize {
        self.rest.peek().map_or(self.pattern.len(), |(at, _)| *at)
    }

    /// Continues at a place.
    fn jump(&mut self, to: usize) {
        while self.rest.next_if(|(at, _)| *at < to).is_some() {}
    }

    fn open(&mut self, at: usize) -> Translated<()> {
        if self.groups.len() == NESTING_MAX {
            return Err(error("expression nests too deeply", self.pattern));
        }
        if self.peek() != Some('?') {
            self.names.push(None);
            self.begin_group(self.group_open, at);
            return Ok(());
        }
        let rest = &self.pattern[at..];
        if let Some(name_at) = ["(?P<", "(?<"].iter().find_map(|start| {
            let named = rest.starts_with(start) && !rest.starts_with("(?<=") && !rest.starts_with("(?<!");
            named.then_some(at + start.len())
        }) {
            return self.named_group(at, name_at);
        }
        self.flags(at)
    }

    fn begin_group(&mut self, text: &str, at: usize) {
        self.out.push_str(text);
        self.groups.push((at, self.repeats));
        self.repeats = 1;
        self.last = Last::Nothing;
    }

    fn named_group(&mut self, at: usize, name_at: usize) -> Translated<()> {
        let Some(end) = self.pattern[name_at..].find('>') else {
            return Err(error("invalid named capture", &self.pattern[at..]));
        };
        let end = name_at + end;
        let name = &self.pattern[name_at..end];
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(is_word) {
            return Err(error("invalid named capture", &self.pattern[at..=end]));
        }
        if self.names.contains(&Some(name)) {
            return Err(error("duplicate capture group name", name));
        }
        self.names.push(Some(name));
        self.jump(end + 1);
        self.begin_group(self.group_open, at);
        Ok(())
    }

    /// `(?i)` or `(?i-s:`, and what is neither.
    fn flags(&mut self, at: usize) -> Translated<()> {
        self.rest.next();
        let (mut text, mut negative, mut named) = (String::from("(?"), false, false);
        while let Some((_, next)) = self.rest.next() {
            match next {
                'i' | 'm' | 's' | 'U' => {
                    // The regex crate refuses a flag that is set twice.
                    if !text.contains(next) {
                        text.push(next);
                    }
                    named = true;
                }
                '-' if !negative => {
                    (negative, named) = (true, false);
                    text.push('-');
                }
                ':' | ')' if !negative || named => {
                    if next == ':' {
                        text.push(':');
                        self.begin_group(&text, at);
                    } else if text != "(?" {
                        text.push(')');
                        self.out.push_str(&text);
                        // Go has nothing left to repeat behind flags.
                        self.last = Last::Nothing;
                    }
                    return Ok(());
                }
                _ => break,
            }
        }
        let end = self.at();
        if end == self.pattern.len() && !self.pattern.ends_with([')', ':']) {
            return Err(error("missing closing )", self.pattern));
        }
        Err(error("invalid or unsupported Perl syntax", &self.pattern[at..end]))
    }

    fn close(&mut self, _at: usize) -> Translated<()> {
        let Some((_, before)) = self.groups.pop() else {
            return Err(error("unexpected )", self.pattern));
        };
        self.out.push(')');
        self.last = Last::Atom(self.repeats);
        self.repeats = before.max(self.repeats);
        Ok(())
    }

    /// The numbers of `{n}`, `{n,}` or `{n,m}`; what is none of them is text.
    fn counts(&mut self, at: usize) -> Option<(u32, Option<u32>)> {
        let inside = self.pattern[at + 1..].split_once('}')?.0;
        let number = |text: &str| {
            let is_number = !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_digit())
                && (text.len() == 1 || !text.starts_with('0'));
            // More digits than this are over the bound anyway.
            is_number.then(|| text.parse().unwrap_or(u32::MAX))
        };
        let counts = match inside.split_once(',') {
            None => number(inside).map(|count| (count, Some(count))),
            Some((least, "")) => number(least).map(|least| (least, None)),
            Some((least, most)) => number(least).zip(number(most)).map(|(least, most)| (least, Some(most))),
        }?;
        self.jump(at + 1 + inside.len() + 1);
        Some(counts)
    }

    fn counted(&mut self, at: usize, least: u32, most: Option<u32>) -> Translated<()> {
        let end = self.at();
        let text = &self.pattern[at..end];
        let larger = most.unwrap_or(least).max(least);
        if larger > REPEAT_MAX || most.is_some_and(|most| most < least) {
            return Err(error("invalid repeat count", text));
        }
        self.repeat(at, text, Some(larger))
    }

    fn repeat(&mut self, at: usize, text: &'a str, count: Option<u32>) -> Translated<()> {
        let lazy = self.rest.next_if(|(_, next)| *next == '?').is_some();
        let end = self.at();
        let inner = match self.last {
            Last::Nothing => {
                return Err(error("missing argument to repetition operator", &self.pattern[at..end]));
            }
            Last::Repeated(first) => {
                return Err(error("invalid nested repetition operator", &self.pattern[first..end]));
            }
            Last::Atom(inner) => inner,
        };
        if let Some(count) = count.filter(|count| *count > 1) {
            let product = inner.saturating_mul(count);
            if product > REPEAT_MAX {
                return Err(error("invalid repeat count", text));
            }
            self.repeats = self.repeats.max(product);
        }
        self.repeats = self.repeats.max(inner);
        self.out.push_str(text);
        if lazy {
            self.out.push('?');
        }
        self.last = Last::Repeated(at);
        Ok(())
    }

    fn escape(&mut self, at: usize) -> Translated<()> {
        match self.peek() {
            Some('A' | 'z') => {
                let (_, next) = self.rest.next().expect("it was seen");
                let _ = write!(self.out, "\\{next}");
            }
            Some('b' | 'B') => {
                let (_, next) = self.rest.next().expect("it was seen");
                let _ = write!(self.out, "(?-u:\\{next})");
            }
            Some('Q') => {
                self.rest.next();
                self.quoted();
                return Ok(());
            }
            _ => match self.group_escape(at)? {
                Some(class) => {
                    let _ = write!(self.out, "[{class}]");
                }
                None => {
                    let char = self.escaped(at)?;
                    push_literal(&mut self.out, char);
                }
            },
        }
        self.atom();
        Ok(())
    }

    /// What stands between `\Q` and `\E`, or the end.
    fn quoted(&mut self) {
        while let Some((at, next)) = self.rest.next() {
            if self.pattern[at..].starts_with("\\E") {
                self.rest.next();
                return;
            }
            self.literal(next);
        }
    }

    /// `\d`, `\pN` and their kin as the inside of a class.
    fn group_escape(&mut self, at: usize) -> Translated<Option<String>> {
        let Some(letter) = self.peek() else { return Ok(None) };
        let class = match letter {
            'd' => "0-9",
            'D' => "[^0-9]",
            's' => r"\t\n\x0C\r\x20",
            'S' => r"[^\t\n\x0C\r\x20]",
            'w' => "0-9A-Za-z_",
            'W' => "[^0-9A-Za-z_]",
            'p' | 'P' => {
                self.rest.next();
                return self.unicode_group(at, letter == 'P').map(Some);
            }
            _ => return Ok(None),
        };
        self.rest.next();
        Ok(Some(class.to_owned()))
    }

    /// A category or a script, as `\pN`, `\p{Greek}` or `\p{^Greek}`.
    fn unicode_group(&mut self, at: usize, mut negative: bool) -> Translated<String> {
        let fault = |text: &str| error("invalid character class range", text);
        let Some((name_at, first)) = self.rest.next() else {
            return Err(fault(&self.pattern[at..]));
        };
        let name = if first == '{' {
            let Some(length) = self.pattern[name_at + 1..].find('}') else {
                return Err(fault(&self.pattern[at..]));
            };
            self.jump(name_at + 1 + length + 1);
            &self.pattern[name_at + 1..name_at + 1 + length]
        } else {
            &self.pattern[name_at..name_at + first.len_utf8()]
        };
        let end = self.at();
        let plain = name.strip_prefix('^').inspect(|_| negative = !negative).unwrap_or(name);
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b' ');
        // Names of categories and scripts, but not of other properties, which Go does not have.
        let class = ["gc", "sc"].iter().find_map(|kind| {
            let text = format!("\\{}{{{kind}={plain}}}", if negative { 'P' } else { 'p' });
            regex_syntax::parse(&text).is_ok().then_some(text)
        });
        match class {
            Some(class) if !plain.is_empty() && plain.bytes().all(is_name) => Ok(class),
            _ => Err(fault(&self.pattern[at..end])),
        }
    }

    /// The character of an escape that stands for one.
    fn escaped(&mut self, at: usize) -> Translated<char> {
        let Some((_, next)) = self.rest.next() else {
            return Err(error("trailing backslash at end of expression", ""));
        };
        let code = match next {
            'a' => 7,
            'f' => 12,
            't' => 9,
            'n' => 10,
            'r' => 13,
            'v' => 11,
            'x' => return self.hexadecimal(at),
            '0' => self.octal(0, 2),
            // A single digit would be a reference to a group, which no linear matcher has.
            '1'..='7' if self.peek().is_some_and(|next| next.is_digit(8)) => {
                self.octal(next.to_digit(8).unwrap_or(0), 2)
            }
            _ if next.is_ascii() && !next.is_ascii_alphanumeric() => return Ok(next),
            _ => {
                let end = self.at();
                return Err(error("invalid escape sequence", &self.pattern[at..end]));
            }
        };
        char::from_u32(code).ok_or_else(|| error("invalid escape sequence", &self.pattern[at..]))
    }

    fn octal(&mut self, mut code: u32, digits_max: usize) -> u32 {
        for _ in 0..digits_max {
            let Some((_, digit)) = self.rest.next_if(|(_, next)| next.is_digit(8)) else { break };
            code = code * 8 + digit.to_digit(8).unwrap_or(0);
        }
        code
    }

    /// `\x41` or `\x{1F600}`.
    fn hexadecimal(&mut self, at: usize) -> Translated<char> {
        let digits_at = self.at();
        let rest = &self.pattern[digits_at..];
        let (digits, end) = match rest.strip_prefix('{') {
            Some(inside) => match inside.find('}') {
                Some(length) => (&inside[..length], digits_at + length + 2),
                None => return Err(error("invalid escape sequence", &self.pattern[at..])),
            },
            None => (rest.get(..2).unwrap_or(""), digits_at + 2),
        };
        let is_number =
            (1..=6).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let code = is_number.then(|| u32::from_str_radix(digits, 16).ok()).flatten();
        self.jump(end);
        let end = self.at();
        code.and_then(char::from_u32).ok_or_else(|| error("invalid escape sequence", &self.pattern[at..end]))
    }

    /// A class in brackets. Its parts are written as escapes and nested classes, which mean the same in both syntaxes.
    fn class(&mut self, at: usize) -> Translated<()> {
        self.out.push('[');
        if self.rest.next_if(|(_, next)| *next == '^').is_some() {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let Some((item_at, next)) = self.rest.next() else {
                return Err(error("missing closing ]", &self.pattern[at..]));
            };
            match next {
                ']' if !first => break,
                '[' if self.pattern[item_at..].starts_with("[:") => {
                    if !self.named_class(item_at)? {
                        self.class_range(item_at, '[')?;
                    }
                }
                '\\' => match self.group_escape(item_at)? {
                    Some(class) => self.out.push_str(&class),
                    None => {
                        let low = self.escaped(item_at)?;
                        self.class_range(item_at, low)?;
                    }
                },
                other => self.class_range(item_at, other)?,
            }
            first = false;
        }
        self.out.push(']');
        self.atom();
        Ok(())
    }

    /// `[:alpha:]`; whether there is one. What is not closed is text.
    fn named_class(&mut self, at: usize) -> Translated<bool> {
        let inside = &self.pattern[at + 2..];
        let Some(length) = inside.find(":]") else { return Ok(false) };
        let end = at + 2 + length + 2;
        let name = &inside[..length];
        let plain = name.strip_prefix('^').unwrap_or(name);
        let known = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
            "space", "upper", "word", "xdigit",
        ];
        if !known.contains(&plain) {
            return Err(error("invalid character class range", &self.pattern[at..end]));
        }
        self.out.push_str(&self.pattern[at..end]);
        self.jump(end);
        Ok(true)
    }

    /// A character of a class, or the range that it begins.
    fn class_range(&mut self, at: usize, low: char) -> Translated<()> {
        push_literal(&mut self.out, low);
        let minus_at = self.at();
        let rest = &self.pattern[minus_at..];
        if !rest.starts_with('-') || rest[1..].starts_with(']') || rest.len() == 1 {
            return Ok(());
        }
        self.rest.next();
        let Some((high_at, high)) = self.rest.next() else { return Ok(()) };
        let high = if high == '\\' { self.escaped(high_at)? } else { high };
        if high < low {
            let end = self.at();
            return Err(error("invalid character class range", &self.pattern[at..end]));
        }
        self.out.push('-');
        push_literal(&mut self.out, high);
        Ok(())
    }
}

fn error(fault: &'static str, text: &str) -> GoSyntaxError {
    GoSyntaxError { fault, text: text.to_owned() }
}

/// Letters, digits and what is not ASCII are themselves everywhere; all else is written by its number.
fn push_literal(out: &mut String, char: char) {
    if char.is_ascii_alphanumeric() || !char.is_ascii() {
        out.push(char);
    } else {
        let _ = write!(out, "\\x{:02X}", u32::from(char));
    }
}

#[cfg(test)]
mod tests;
