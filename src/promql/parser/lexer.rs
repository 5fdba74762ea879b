//! Query text to tokens.
//!
//! What a character means depends on where it stands: a colon belongs to a name outside brackets and parts a
//! subquery inside them; braces know no keywords. The lexer tracks that much of the grammar and nothing more.

use super::super::ast::Span;
use super::token::{Keyword, Kind, Token};

/// The tokens of a text; the last one is [`Kind::End`] or [`Kind::Bad`].
pub(super) struct Lexed {
    pub tokens: Vec<Token>,
    /// Says what is wrong with the [`Kind::Bad`] token.
    pub error: Option<String>,
}

/// Splits a text of less than 4 GiB into tokens, up to the first that is not one.
pub(super) fn lex(text: &str) -> Lexed {
    let mut lexer = Lexer {
        text,
        bytes: text.as_bytes(),
        position: 0,
        tokens: Vec::with_capacity(text.len() / 4 + 1),
        paren_depth: 0,
        in_braces: false,
        in_brackets: false,
    };
    let error = lexer.run().err();
    if error.is_some() {
        let at = lexer.position.min(text.len());
        let len = text.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        lexer.tokens.push(Token { kind: Kind::Bad, span: span(at, at + len) });
    }
    Lexed { tokens: lexer.tokens, error }
}

struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    position: usize,
    tokens: Vec<Token>,
    paren_depth: u32,
    in_braces: bool,
    in_brackets: bool,
}

/// The message of a failed step; the position stays at the character that it is about.
type Step = Result<(), String>;

impl Lexer<'_> {
    fn run(&mut self) -> Step {
        loop {
            self.skip_blanks();
            let Some(byte) = self.peek() else {
                return self.finish();
            };
            match byte {
                b'"' | b'\'' | b'`' => self.lex_string(byte)?,
                _ if self.in_braces => self.lex_in_braces(byte)?,
                _ => self.lex_statement(byte)?,
            }
        }
    }

    fn finish(&mut self) -> Step {
        if self.in_braces {
            return Err("unexpected end of input inside braces".to_owned());
        }
        if self.in_brackets {
            return Err("unclosed left bracket".to_owned());
        }
        if self.paren_depth > 0 {
            return Err("unclosed left parenthesis".to_owned());
        }
        self.push(Kind::End, 0);
        Ok(())
    }

    fn lex_in_braces(&mut self, byte: u8) -> Step {
        match byte {
            b',' => self.push(Kind::Comma, 1),
            b'=' if self.peek_at(1) == Some(b'~') => self.push(Kind::MatchRegex, 2),
            b'=' => self.push(Kind::Assign, 1),
            b'!' => self.lex_exclamation()?,
            b'}' => {
                self.in_braces = false;
                self.push(Kind::RightBrace, 1);
            }
            b'{' => return Err("unexpected left brace '{'".to_owned()),
            _ if is_alpha(byte) => {
                let len = self.run_of(is_alphanumeric);
                self.push(Kind::Identifier, len);
            }
            _ => return Err(format!("unexpected character inside braces: {}", self.quoted_char())),
        }
        Ok(())
    }

    fn lex_statement(&mut self, byte: u8) -> Step {
        match byte {
            b',' => self.push(Kind::Comma, 1),
            b'@' => self.push(Kind::At, 1),
            b'+' => self.push(Kind::Add, 1),
            b'-' => self.push(Kind::Sub, 1),
            b'*' => self.push(Kind::Mul, 1),
            b'/' => self.push(Kind::Div, 1),
            b'%' => self.push(Kind::Mod, 1),
            b'^' => self.push(Kind::Pow, 1),
            b'=' => match self.peek_at(1) {
                Some(b'=') => self.push(Kind::Equal, 2),
                Some(b'~') => {
                    self.position += 1;
                    return Err("unexpected character after '=': '~'".to_owned());
                }
                _ => self.push(Kind::Assign, 1),
            },
            b'!' => self.lex_exclamation()?,
            b'<' if self.peek_at(1) == Some(b'/') => self.push(Kind::TrimUpper, 2),
            b'>' if self.peek_at(1) == Some(b'/') => self.push(Kind::TrimLower, 2),
            b'<' if self.peek_at(1) == Some(b'=') => self.push(Kind::LessEqual, 2),
            b'<' => self.push(Kind::Less, 1),
            b'>' if self.peek_at(1) == Some(b'=') => self.push(Kind::GreaterEqual, 2),
            b'>' => self.push(Kind::Greater, 1),
            b'(' | b')' | b'{' | b'}' | b'[' | b']' => self.lex_bracket(byte)?,
            b':' if self.in_brackets => self.push(Kind::Colon, 1),
            b'0'..=b'9' => self.lex_number()?,
            b'.' if self.peek_at(1).is_some_and(|next| next.is_ascii_digit()) => self.lex_number()?,
            _ if is_alpha(byte) || byte == b':' => self.lex_word(),
            _ => return Err(format!("unexpected character: {}", self.quoted_char())),
        }
        Ok(())
    }

    fn lex_bracket(&mut self, byte: u8) -> Step {
        let kind = match byte {
            b'(' => {
                self.paren_depth += 1;
                Kind::LeftParen
            }
            b')' => {
                let Some(depth) = self.paren_depth.checked_sub(1) else {
                    return Err("unexpected right parenthesis ')'".to_owned());
                };
                self.paren_depth = depth;
                Kind::RightParen
            }
            b'{' => {
                self.in_braces = true;
                Kind::LeftBrace
            }
            b'[' if self.in_brackets => return Err("unexpected left bracket '['".to_owned()),
            b'[' => {
                self.in_brackets = true;
                Kind::LeftBracket
            }
            b']' if self.in_brackets => {
                self.in_brackets = false;
                Kind::RightBracket
            }
            b']' => return Err("unexpected right bracket ']'".to_owned()),
            _ => return Err("unexpected right brace '}'".to_owned()),
        };
        self.push(kind, 1);
        Ok(())
    }

    fn lex_exclamation(&mut self) -> Step {
        match self.peek_at(1) {
            Some(b'=') => self.push(Kind::NotEqual, 2),
            Some(b'~') if self.in_braces => self.push(Kind::MatchNotRegex, 2),
            Some(_) => {
                self.position += 1;
                let inside = if self.in_braces { " inside braces" } else { "" };
                return Err(format!("unexpected character after '!'{inside}: {}", self.quoted_char()));
            }
            None => return Err("unexpected end of input after '!'".to_owned()),
        }
        Ok(())
    }

    fn lex_word(&mut self) {
        // Inside brackets a colon ends the word: `[1h:step()]`.
        let brackets = self.in_brackets;
        let len = self.run_of(|byte| is_alphanumeric(byte) || (byte == b':' && !brackets));
        let word = &self.text[self.position..self.position + len];
        let kind = if word.contains(':') {
            Kind::MetricIdentifier
        } else if is_float_word(word) {
            Kind::Number
        } else {
            Keyword::find(word).map_or(Kind::Identifier, Kind::Keyword)
        };
        self.push(kind, len);
    }

    /// A number or a duration: whatever begins like one is taken whole, so that `5mm` is one bad token.
    fn lex_number(&mut self) -> Step {
        let mut len = self.run_of(|byte| is_alphanumeric(byte) || byte == b'.');
        let text = &self.text[self.position..self.position + len];
        let hex = text.starts_with("0x") || text.starts_with("0X");
        // The sign of an exponent is part of the number: `1e-3`.
        if !hex && text.ends_with(['e', 'E']) && matches!(self.peek_at(len), Some(b'+' | b'-')) {
            let rest = &self.bytes[self.position + len + 1..];
            let digits = rest.iter().take_while(|byte| is_alphanumeric(**byte)).count();
            len += 1 + digits;
        }
        let text = &self.text[self.position..self.position + len];
        if super::literal::parse_number(text).is_some() {
            self.push(Kind::Number, len);
        } else if text.as_bytes().iter().all(|byte| b"0123456789.smhdwy".contains(byte))
            && text.ends_with(is_unit_char)
        {
            // Whether its units are in order is said where the duration is read.
            self.push(Kind::Duration, len);
        } else {
            return Err(format!("bad number or duration syntax: {text:?}"));
        }
        Ok(())
    }

    fn lex_string(&mut self, quote: u8) -> Step {
        let mut end = self.position + 1;
        loop {
            match self.bytes.get(end) {
                Some(byte) if *byte == quote => break,
                Some(b'\\') if quote != b'`' => end += 2,
                Some(b'\n') | None if quote != b'`' => return Err("unterminated quoted string".to_owned()),
                None => return Err("unterminated raw string".to_owned()),
                Some(_) => end += 1,
            }
        }
        self.push(Kind::String, end + 1 - self.position);
        Ok(())
    }

    fn skip_blanks(&mut self) {
        loop {
            self.position += self.run_of(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
            if self.peek() != Some(b'#') {
                return;
            }
            self.position += self.run_of(|byte| byte != b'\n');
        }
    }

    fn push(&mut self, kind: Kind, len: usize) {
        self.tokens.push(Token { kind, span: span(self.position, self.position + len) });
        self.position += len;
    }

    fn peek(&self) -> Option<u8> {
        self.peek_at(0)
    }

    fn peek_at(&self, offset: usize) -> Option<u8> {
        self.bytes.get(self.position + offset).copied()
    }

    fn run_of(&self, accept: impl Fn(u8) -> bool) -> usize {
        self.bytes[self.position..].iter().take_while(|byte| accept(**byte)).count()
    }

    fn quoted_char(&self) -> String {
        // Tokens are ASCII but for strings and comments, which end on one: the position is on a boundary.
        let next = self.text.get(self.position..).and_then(|rest| rest.chars().next());
        format!("{:?}", next.unwrap_or(char::REPLACEMENT_CHARACTER))
    }
}

fn span(start: usize, end: usize) -> Span {
    let offset = |n: usize| u32::try_from(n).expect("the length of a query is checked before");
    Span { start: offset(start), end: offset(end) }
}

fn is_alpha(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_unit_char(c: char) -> bool {
    "smhdwy".contains(c)
}

/// `Inf` and `NaN` are numbers in any case of letters.
pub(super) fn is_float_word(word: &str) -> bool {
    word.eq_ignore_ascii_case("inf") || word.eq_ignore_ascii_case("nan")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        lex(text).tokens.iter().map(|token| token.kind).collect()
    }

    #[test]
    fn a_colon_is_part_of_a_name_only_outside_brackets() {
        assert_eq!(kinds("a:b"), [Kind::MetricIdentifier, Kind::End]);
        assert_eq!(
            kinds("x[5m:1m]"),
            [
                Kind::Identifier,
                Kind::LeftBracket,
                Kind::Duration,
                Kind::Colon,
                Kind::Duration,
                Kind::RightBracket,
                Kind::End
            ]
        );
    }

    #[test]
    fn braces_know_no_keywords() {
        assert_eq!(kinds("{by=\"x\"}")[1], Kind::Identifier);
        assert_eq!(kinds("by")[0], Kind::Keyword(Keyword::By));
    }

    #[test]
    fn a_sign_belongs_to_a_number_only_after_its_exponent() {
        assert_eq!(kinds("1e-3"), [Kind::Number, Kind::End]);
        assert_eq!(kinds("0xe-3"), [Kind::Number, Kind::Sub, Kind::Number, Kind::End]);
        assert_eq!(kinds("1-3"), [Kind::Number, Kind::Sub, Kind::Number, Kind::End]);
    }

    #[test]
    fn comments_and_strings_may_hold_any_character() {
        assert_eq!(kinds("a # é } )\n+ 'é\\'' "), [Kind::Identifier, Kind::Add, Kind::String, Kind::End]);
    }

    #[test]
    fn what_is_no_token_stops_the_lexer_with_a_message() {
        for (text, message) in [
            ("a ? b", "unexpected character: '?'"),
            ("é", "unexpected character: 'é'"),
            ("foo{a>1}", "unexpected character inside braces: '>'"),
            ("foo{", "unexpected end of input inside braces"),
            ("(1", "unclosed left parenthesis"),
            ("1)", "unexpected right parenthesis ')'"),
            ("x[5m", "unclosed left bracket"),
            ("5mm1x", "bad number or duration syntax: \"5mm1x\""),
            ("'abc", "unterminated quoted string"),
            ("'abc\\", "unterminated quoted string"),
            ("'a\nb'", "unterminated quoted string"),
            ("`a\nb", "unterminated raw string"),
            ("!", "unexpected end of input after '!'"),
            ("a !~ b", "unexpected character after '!': '~'"),
        ] {
            assert_eq!(lex(text).error.as_deref(), Some(message), "{text}");
        }
    }
}
