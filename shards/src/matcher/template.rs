//! Replacements with `$1`, `${1}` and `${name}`, as Go's `regexp.Expand` reads them.

use regex::Captures;

use super::CapturePattern;

/// A replacement, read once for the pattern that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// The number of a group.
    Group(usize),
}

impl Template {
    /// Reads a replacement. A `$` that begins no name stands for itself, `$$` for one `$`; a group that the pattern does
    /// not have is empty.
    pub fn new(text: &str, pattern: &CapturePattern) -> Template {
        let mut parts = Vec::new();
        let push_text = |parts: &mut Vec<Part>, text: &str| match parts.last_mut() {
            Some(Part::Text(last)) => last.push_str(text),
            _ if text.is_empty() => {}
            _ => parts.push(Part::Text(text.to_owned())),
        };
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            push_text(&mut parts, before);
            if let Some(after) = after.strip_prefix('$') {
                push_text(&mut parts, "$");
                rest = after;
            } else if let Some((name, after)) = group_name(after) {
                parts.extend(group(name, pattern).map(Part::Group));
                rest = after;
            } else {
                push_text(&mut parts, "$");
                rest = after;
            }
        }
        push_text(&mut parts, rest);
        Template(parts)
    }

    /// The text for a match; `None` when it would have more than `bytes_max` bytes.
    pub fn expand(&self, captures: &Captures<'_>, bytes_max: usize) -> Option<String> {
        let mut expanded = String::new();
        for part in &self.0 {
            let text = match part {
                Part::Text(text) => text,
                Part::Group(number) => captures.get(*number).map_or("", |group| group.as_str()),
            };
            if expanded.len() + text.len() > bytes_max {
                return None;
            }
            expanded.push_str(text);
        }
        Some(expanded)
    }
}

/// The name after a `$`, and what follows it.
fn group_name(text: &str) -> Option<(&str, &str)> {
    let is_braced = text.starts_with('{');
    let text = text.strip_prefix('{').unwrap_or(text);
    let end = text.find(|char: char| !char.is_alphanumeric() && char != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return None;
    }
    if is_braced { rest.strip_prefix('}').map(|rest| (name, rest)) } else { Some((name, rest)) }
}

/// The group that a name or a number stands for.
fn group(name: &str, pattern: &CapturePattern) -> Option<usize> {
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    if is_number && let Ok(number) = name.parse::<usize>() {
        return Some(number);
    }
    pattern.group_named(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacements_are_read_as_go_reads_them() {
        let pattern = CapturePattern::new("(a+)(?P<tail>b+)?(c)?").unwrap();
        let captures = pattern.captures("aab").unwrap();
        for (text, expected) in [
            ("$1", "aa"),
            ("${1}x", "aax"),
            ("$1x", ""), // The name is `1x`.
            ("$1-$2", "aa-b"),
            ("$tail", "b"),
            ("${tail}s", "bs"),
            ("$tails", ""),
            ("$0", "aab"),
            ("$3|$9|", "||"),
            ("$01", ""),
            ("$$1", "$1"),
            ("$", "$"),
            ("a$", "a$"),
            ("$-", "$-"),
            ("${1", "${1"),
            ("${}", "${}"),
            ("${1 }", "${1 }"),
            ("$é", ""),
            ("plain", "plain"),
            ("", ""),
        ] {
            let expanded = Template::new(text, &pattern).expand(&captures, 100);
            assert_eq!(expanded.as_deref(), Some(expected), "{text}");
        }
        assert_eq!(Template::new("$1$1", &pattern).expand(&captures, 3), None);
    }
}
