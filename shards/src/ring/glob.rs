//! Patterns of tenants, as Go's `path.Match` takes them (pkg.go.dev/path#Match).
//!
//! `*` is any text without `/`, `?` one character but `/`, `[a-z]` and `[^a-z]` one character of a class or outside
//! of it, and `\` takes the next character as it is. The whole name has to match.

/// A pattern, taken apart.
#[derive(Debug, Clone)]
pub struct Glob {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Byte(u8),
    AnyCharacter,
    Class { is_negated: bool, ranges: Vec<(char, char)> },
    AnyText,
}

impl Glob {
    /// Reads a pattern, or tells what is wrong with it. Go finds a mistake only when a name comes that far.
    pub fn parse(pattern: &str) -> Result<Glob, &'static str> {
        let mut parts = Vec::with_capacity(pattern.len());
        let mut rest = pattern.chars();
        while let Some(character) = rest.next() {
            match character {
                '*' => parts.push(Part::AnyText),
                '?' => parts.push(Part::AnyCharacter),
                '[' => parts.push(parse_class(&mut rest)?),
                '\\' => push_literal(&mut parts, rest.next().ok_or("it ends in a backslash")?),
                other => push_literal(&mut parts, other),
            }
        }
        Ok(Glob { parts })
    }

    /// Whether a name matches. As in Go, a part between two `*` takes the first place that it can have, and no later
    /// one if the rest then does not match.
    pub fn matches(&self, name: &str) -> bool {
        let (mut part, mut at) = (0, 0);
        // The part behind the last `*`, and where in the name it was tried.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            match self.parts.get(part) {
                Some(Part::AnyText) => {
                    part += 1;
                    retry = Some((part, at));
                    continue;
                }
                Some(one) => {
                    if let Some(width) = one.width_at(name, at) {
                        part += 1;
                        at += width;
                        continue;
                    }
                }
                None if at == name.len() => return true,
                None => {}
            }
            let Some((behind_star, tried_at)) = retry else {
                return false;
            };
            if name.as_bytes().get(tried_at).is_none_or(|byte| *byte == b'/') {
                return false;
            }
            // Byte by byte, not character by character, as Go goes on.
            retry = Some((behind_star, tried_at + 1));
            (part, at) = (behind_star, tried_at + 1);
        }
    }
}

impl Part {
    /// How many bytes of the name this takes; `None` if it does not match there.
    fn width_at(&self, name: &str, at: usize) -> Option<usize> {
        let byte = *name.as_bytes().get(at)?;
        // Within a character there is none, which to Go is a replacement character of one byte.
        let (character, width) = match name.get(at..).and_then(|rest| rest.chars().next()) {
            Some(character) => (character, character.len_utf8()),
            None => (char::REPLACEMENT_CHARACTER, 1),
        };
        match self {
            Part::Byte(expected) => (byte == *expected).then_some(1),
            Part::AnyCharacter => (byte != b'/').then_some(width),
            Part::Class { is_negated, ranges } => {
                let is_in = ranges.iter().any(|(low, high)| (*low..=*high).contains(&character));
                (is_in != *is_negated).then_some(width)
            }
            Part::AnyText => None,
        }
    }
}

fn push_literal(parts: &mut Vec<Part>, character: char) {
    let mut bytes = [0; 4];
    parts.extend(character.encode_utf8(&mut bytes).bytes().map(Part::Byte));
}

/// The rest of a class, behind its opening bracket.
fn parse_class(rest: &mut std::str::Chars<'_>) -> Result<Part, &'static str> {
    let is_negated = rest.as_str().starts_with('^');
    if is_negated {
        rest.next();
    }
    let mut ranges = Vec::new();
    while ranges.is_empty() || !rest.as_str().starts_with(']') {
        let low = class_character(rest)?;
        let mut high = low;
        if rest.as_str().starts_with('-') {
            rest.next();
            high = class_character(rest)?;
        }
        ranges.push((low, high));
    }
    rest.next();
    Ok(Part::Class { is_negated, ranges })
}

fn class_character(rest: &mut std::str::Chars<'_>) -> Result<char, &'static str> {
    const UNCLOSED: &str = "a class has no closing bracket";
    match rest.next().ok_or(UNCLOSED)? {
        '-' | ']' => Err("a class needs a backslash before '-' and ']' where they stand for themselves"),
        '\\' => rest.next().ok_or(UNCLOSED),
        character => Ok(character),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Glob::parse(pattern).unwrap().matches(name)
    }

    #[test]
    fn patterns_match_as_in_go() {
        for (pattern, name, expected) in [
            ("abc", "abc", true),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("team-*", "team-a", true),
            ("team-*", "other-a", false),
            ("a*b*c*d*e*", "axbxcxdxexxx", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            (r"a\*b", "a*b", true),
            (r"a\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("a[^x]b", "a/b", true),
            (r"[\]a]", "]", true),
            (r"[\-]", "-", true),
            (r"[x\-]", "-", true),
            (r"[\-x]", "a", false),
            ("]", "]", true),
            ("a-b", "a-b", true),
            ("[[]*", "[x", true),
            ("*[/x]*b", "ax/b", false),
            ("*??", "☺", true),
            ("**a", "bba", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for pattern in [
            "[]a]", "[-]", "[x-]", "[-x]", r"\", "[a-b-c]", "[", "[^", "[^bc", "a[", "a[a", "[]", "[^]",
            r"[a\", "[a-",
        ] {
            assert!(Glob::parse(pattern).is_err(), "{pattern}");
        }
    }

    /// Whether a name matches, with every way to share it out tried.
    fn matches_slowly(pattern: &[char], name: &[char]) -> bool {
        match pattern {
            [] => name.is_empty(),
            ['*', rest @ ..] => (0..=name.len())
                .take_while(|taken| *taken == 0 || name[taken - 1] != '/')
                .any(|taken| matches_slowly(rest, &name[taken..])),
            ['?', rest @ ..] => {
                name.first().is_some_and(|one| *one != '/') && matches_slowly(rest, &name[1..])
            }
            [one, rest @ ..] => name.first() == Some(one) && matches_slowly(rest, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn patterns_without_classes_match_what_a_full_search_finds(pattern in "[ab/*?]{0,8}", name in "[ab/]{0,8}") {
            let characters = |text: &str| text.chars().collect::<Vec<_>>();
            let expected = matches_slowly(&characters(&pattern), &characters(&name));
            prop_assert_eq!(matches(&pattern, &name), expected);
        }

        #[test]
        fn any_pattern_is_refused_or_ends_in_an_answer(pattern in "[a☺*?^\\[\\]\\\\-]{0,12}", name in ".{0,12}") {
            if let Ok(glob) = Glob::parse(&pattern) {
                glob.matches(&name);
            }
        }
    }
}
