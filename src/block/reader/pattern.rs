//! What a regular expression says about the values that it can match, without a look at them.

use annulus_shards::Matcher;
use annulus_shards::matcher::MatchOp;

/// The values of a label that can fulfil a matcher, or, for a negative one, that can fail it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Values<'a> {
    /// These alone.
    Some(Vec<&'a str>),
    /// Those that begin so, if they match.
    Prefix(&'a str),
    /// All, if they match.
    All,
}

impl<'a> Values<'a> {
    /// The values that matter to a matcher. Where the pattern accepts the empty value, those that it does not accept
    /// matter, and they can be any.
    pub fn of(matcher: &'a Matcher) -> Values<'a> {
        let negative = matches!(matcher.op, MatchOp::NotEqual | MatchOp::NotRegex);
        if matcher.matches_empty() != negative {
            return Values::All;
        }
        match matcher.op {
            MatchOp::Equal | MatchOp::NotEqual => Values::Some(vec![&matcher.value]),
            MatchOp::Regex | MatchOp::NotRegex => of_pattern(&matcher.value),
        }
    }
}

fn of_pattern(pattern: &str) -> Values<'_> {
    let special = |c: char| "\\.+*?()[]{}^$".contains(c);
    if !pattern.contains(special) {
        let mut values: Vec<_> = pattern.split('|').collect();
        values.sort_unstable();
        values.dedup();
        return Values::Some(values);
    }
    // With an alternative anywhere, what begins the pattern need not begin the value.
    if pattern.contains('|') {
        return Values::All;
    }
    let literal = &pattern[..pattern.find(special).unwrap_or(pattern.len())];
    let repeated = pattern[literal.len()..].starts_with(['*', '?', '+', '{']);
    let prefix = match literal.char_indices().next_back() {
        Some((last, _)) if repeated => &literal[..last],
        _ => literal,
    };
    if prefix.is_empty() { Values::All } else { Values::Prefix(prefix) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matcher(op: MatchOp, value: &str) -> Matcher {
        Matcher::new(op, "l", value).unwrap()
    }

    #[test]
    fn literals_and_prefixes_are_found() {
        for op in [MatchOp::Regex, MatchOp::NotRegex] {
            for (pattern, values) in [
                ("b|a|b", Values::Some(vec!["a", "b"])),
                ("node.*", Values::Prefix("node")),
                ("node+", Values::Prefix("nod")),
                ("n\u{e9}?x", Values::Prefix("n")),
                ("a|b.*", Values::All),
                ("a|", Values::All),
                (".*", Values::All),
                ("(?i)ab", Values::All),
            ] {
                assert_eq!(Values::of(&matcher(op, pattern)), values, "{pattern}");
            }
        }
        assert_eq!(Values::of(&matcher(MatchOp::NotEqual, "a.b")), Values::Some(vec!["a.b"]));
        assert_eq!(Values::of(&matcher(MatchOp::Equal, "")), Values::All);
        assert_eq!(Values::of(&matcher(MatchOp::NotEqual, "")), Values::All);
    }

    proptest! {
        #[test]
        fn no_value_that_matters_is_left_out(pattern in "[ab.*+?|()]{0,6}", value in "[ab]{1,4}", negative: bool) {
            let op = if negative { MatchOp::NotRegex } else { MatchOp::Regex };
            let Ok(matcher) = Matcher::new(op, "l", pattern) else { return Ok(()) };
            if matcher.matches(&value) != matcher.matches_empty() {
                let kept = match Values::of(&matcher) {
                    Values::Some(values) => values.contains(&value.as_str()),
                    Values::Prefix(prefix) => value.starts_with(prefix),
                    Values::All => true,
                };
                prop_assert!(kept, "{:?}", matcher);
            }
        }
    }
}
