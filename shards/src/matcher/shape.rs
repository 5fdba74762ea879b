//! Patterns that need no regular expression: sets of texts, and texts with gaps between.
//!
//! Most patterns that dashboards send are `a|b|c` or `prefix.*`. The first is one look-up however long the list is, the
//! second a comparison; both cost no memory beyond their texts.

use std::collections::HashSet;

use ahash::RandomState;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// The most texts of a set.
const SET_TEXTS_MAX: usize = 100_000;

/// The most texts that parts next to each other multiply to.
const PRODUCT_TEXTS_MAX: usize = 1_000;

/// The most bytes that the texts of a set may take while they are collected.
const SET_BYTES_MAX: usize = 16 << 20;

/// A pattern in a form that is quick to compare.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// One of these texts.
    Set(HashSet<Box<str>, RandomState>),
    /// These texts in this order, with anything between them that is long enough.
    Gaps(Vec<Piece>),
}

/// A part of [`Shape::Gaps`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// This text.
    Text(Box<str>),
    /// Any text of at least so many characters.
    Gap(u32),
}

impl Shape {
    /// The shape of a pattern that has to match whole texts, if it has one.
    pub(super) fn of(pattern: &Hir) -> Option<Shape> {
        let parts = without_anchors(pattern);
        let mut room = SET_BYTES_MAX;
        if let Some(texts) = texts_of_parts(parts, &mut room) {
            return Some(Shape::Set(texts.into_iter().map(String::into_boxed_str).collect()));
        }
        gaps(parts).map(Shape::Gaps)
    }

    /// Whether a text matches.
    pub(super) fn matches(&self, text: &str) -> bool {
        match self {
            Shape::Set(texts) => texts.contains(text),
            Shape::Gaps(pieces) => matches_gaps(pieces, text),
        }
    }

    /// Whether no text has to be searched for: it stands at one of the ends.
    pub(super) fn is_quick(&self) -> bool {
        match self {
            Shape::Set(_) => true,
            Shape::Gaps(pieces) => {
                let is_inside = |at: usize| at > 0 && at + 1 < pieces.len();
                let is_text = |piece: &Piece| matches!(piece, Piece::Text(_));
                pieces.len() <= 3 && !pieces.iter().enumerate().any(|(at, one)| is_text(one) && is_inside(at))
            }
        }
    }
}

/// The text that every match begins with.
pub(super) fn prefix(pattern: &Hir) -> Option<&str> {
    match without_anchors(pattern).first()?.kind() {
        HirKind::Literal(literal) => std::str::from_utf8(&literal.0).ok(),
        _ => None,
    }
}

/// The parts of a concatenation. Anchors at its ends say nothing: the whole text has to match anyway.
fn without_anchors(pattern: &Hir) -> &[Hir] {
    let mut parts = match pattern.kind() {
        HirKind::Concat(parts) => parts.as_slice(),
        _ => std::slice::from_ref(pattern),
    };
    while let Some((first, rest)) = parts.split_first()
        && *first.kind() == HirKind::Look(Look::Start)
    {
        parts = rest;
    }
    while let Some((last, rest)) = parts.split_last()
        && *last.kind() == HirKind::Look(Look::End)
    {
        parts = rest;
    }
    parts
}

/// All texts that the parts match together, if they are few. `room` is what they may take.
fn texts_of_parts(parts: &[Hir], room: &mut usize) -> Option<Vec<String>> {
    let mut all = vec![String::new()];
    for part in parts {
        let texts = texts(part, room)?;
        let count = all.len().checked_mul(texts.len())?;
        // One list alone may be long.
        if count > PRODUCT_TEXTS_MAX && all.len() > 1 && texts.len() > 1 {
            return None;
        }
        let bytes = |texts: &[String]| texts.iter().map(String::len).sum::<usize>();
        take(
            room,
            bytes(&all).checked_mul(texts.len())?.checked_add(bytes(&texts).checked_mul(all.len())?)?,
        )?;
        all = all.iter().flat_map(|start| texts.iter().map(move |end| format!("{start}{end}"))).collect();
    }
    Some(all)
}

fn texts(pattern: &Hir, room: &mut usize) -> Option<Vec<String>> {
    match pattern.kind() {
        HirKind::Empty => Some(vec![String::new()]),
        HirKind::Literal(literal) => {
            take(room, literal.0.len())?;
            Some(vec![std::str::from_utf8(&literal.0).ok()?.to_owned()])
        }
        HirKind::Class(Class::Unicode(class)) => {
            let count: usize = class
                .iter()
                .map(|range| (range.start()..=range.end()).count())
                .try_fold(0usize, |sum, count| {
                    sum.checked_add(count).filter(|sum| *sum <= PRODUCT_TEXTS_MAX)
                })?;
            take(room, count * size_of::<String>())?;
            let chars = class.iter().flat_map(|range| range.start()..=range.end());
            Some(chars.map(String::from).collect())
        }
        HirKind::Class(Class::Bytes(_)) | HirKind::Look(_) => None,
        HirKind::Repetition(repetition) if repetition.min == 0 && repetition.max == Some(1) => {
            let mut all = texts(&repetition.sub, room)?;
            all.push(String::new());
            Some(all)
        }
        HirKind::Repetition(_) => None,
        HirKind::Capture(capture) => texts(&capture.sub, room),
        HirKind::Concat(parts) => texts_of_parts(parts, room),
        HirKind::Alternation(parts) => {
            let mut all = Vec::new();
            for part in parts {
                all.extend(texts(part, room)?);
                if all.len() > SET_TEXTS_MAX {
                    return None;
                }
            }
            Some(all)
        }
    }
}

fn take(room: &mut usize, bytes: usize) -> Option<()> {
    *room = room.checked_sub(bytes)?;
    Some(())
}

fn gaps(parts: &[Hir]) -> Option<Vec<Piece>> {
    let pieces = parts.iter().map(|part| match part.kind() {
        HirKind::Literal(literal) => Some(Piece::Text(std::str::from_utf8(&literal.0).ok()?.into())),
        HirKind::Repetition(repetition) if repetition.max.is_none() && is_any_char(&repetition.sub) => {
            Some(Piece::Gap(repetition.min))
        }
        _ => None,
    });
    pieces.collect()
}

/// Whether it is `.` with newlines.
fn is_any_char(pattern: &Hir) -> bool {
    let HirKind::Class(Class::Unicode(class)) = pattern.kind() else { return false };
    matches!(class.ranges(), [range] if range.start() == '\0' && range.end() == char::MAX)
}

/// A gap may be as long as it likes, so the first place where the next text stands is as good as any; only the last
/// text has to stand at the end.
fn matches_gaps(pieces: &[Piece], text: &str) -> bool {
    let mut rest = text;
    let mut after_gap = false;
    for (index, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Gap(least) => {
                let Some(behind) = skip_chars(rest, *least) else { return false };
                rest = behind;
                after_gap = true;
            }
            Piece::Text(wanted) if index + 1 == pieces.len() => {
                return if after_gap { rest.ends_with(&**wanted) } else { rest == &**wanted };
            }
            Piece::Text(wanted) if after_gap => {
                let Some(at) = rest.find(&**wanted) else { return false };
                rest = &rest[at + wanted.len()..];
                after_gap = false;
            }
            Piece::Text(wanted) => {
                let Some(behind) = rest.strip_prefix(&**wanted) else { return false };
                rest = behind;
            }
        }
    }
    after_gap || rest.is_empty()
}

fn skip_chars(text: &str, count: u32) -> Option<&str> {
    let mut chars = text.chars();
    for _ in 0..count {
        chars.next()?;
    }
    Some(chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shape(pattern: &str) -> Option<Shape> {
        let parsed = regex_syntax::ParserBuilder::new().dot_matches_new_line(true).build().parse(pattern);
        Shape::of(&parsed.unwrap())
    }

    fn set(pattern: &str) -> Option<Vec<String>> {
        match shape(pattern)? {
            Shape::Set(texts) => {
                let mut texts: Vec<String> = texts.iter().map(|text| text.to_string()).collect();
                texts.sort();
                Some(texts)
            }
            Shape::Gaps(_) => None,
        }
    }

    #[test]
    fn lists_of_texts_are_sets() {
        for (pattern, texts) in [
            ("", vec![""]),
            ("api", vec!["api"]),
            ("^api$", vec!["api"]),
            ("a|b|c", vec!["a", "b", "c"]),
            ("api|node|", vec!["", "api", "node"]),
            ("foo-(a|bc)-(x|y)", vec!["foo-a-x", "foo-a-y", "foo-bc-x", "foo-bc-y"]),
            ("ab?", vec!["a", "ab"]),
            ("(?i)ab", vec!["AB", "Ab", "aB", "ab"]),
        ] {
            assert_eq!(
                set(pattern).as_deref(),
                Some(&texts.into_iter().map(str::to_owned).collect::<Vec<_>>()[..]),
                "{pattern}"
            );
        }
        for pattern in [
            "a+",
            "[^a]",
            "(a|b)+",
            "\\bx",
            "((a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b))",
            "(?m)^a$",
        ] {
            assert_eq!(set(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn a_list_of_ten_thousand_texts_is_a_set() {
        let texts: Vec<String> = (0..10_000).map(|number| format!("pod-{number}")).collect();
        let shape = shape(&texts.join("|")).unwrap();
        assert!(matches!(&shape, Shape::Set(set) if set.len() == 10_000));
        assert!(
            texts.iter().all(|text| shape.matches(text)) && !shape.matches("pod-10000") && !shape.matches("")
        );
    }

    #[test]
    fn texts_with_gaps_need_no_automaton() {
        for pattern in ["api.*", ".*api", ".*", ".+", "a.+b", ".*a.*b.*", "x.{3,}y"] {
            assert!(matches!(shape(pattern), Some(Shape::Gaps(_))), "{pattern}");
        }
        assert!(shape("a.?b").is_none() && shape("a[^b]*").is_none() && shape("(?-s)a.*").is_none());
    }

    #[test]
    fn a_shape_is_quick_when_its_texts_stand_at_the_ends() {
        for pattern in ["a|b", "api.*", ".*api", ".*", "a.+b"] {
            assert!(shape(pattern).unwrap().is_quick(), "{pattern}");
        }
        for pattern in [".*api.*", ".*a.*b", &".*.+".repeat(1_000)] {
            assert!(!shape(pattern).unwrap().is_quick(), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn a_shape_matches_what_the_expression_matches(
            pattern in "(?:[ab]|\\.\\*|\\.\\+|\\.\\{2,\\}|a\\?|\\(a\\|b\\)|\\||é|\\^|\\$){0,7}",
            text in "[abé\n]{0,7}",
        ) {
            if let Some(shape) = shape(&pattern) {
                let regex = regex::Regex::new(&format!("^(?s:{pattern})$")).unwrap();
                prop_assert_eq!(shape.matches(&text), regex.is_match(&text), "{} {:?} {:?}", pattern, text, shape);
            }
        }
    }
}
