//! Values of number and string tokens.

use super::lexer::is_float_word;

/// The value of a number without sign: decimal, hexadecimal (`0x1f`), octal (`0755`), `Inf`, `NaN`, each with
/// underscores between digits. Like in Prometheus, digits that are no octal number are decimal (`08`).
pub(crate) fn parse_number(text: &str) -> Option<f64> {
    if is_float_word(text) {
        return Some(if text.as_bytes()[0].eq_ignore_ascii_case(&b'i') { f64::INFINITY } else { f64::NAN });
    }
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    if let Some(digits) = hex {
        let digits = without_underscores(digits.strip_prefix('_').unwrap_or(digits))?;
        return parse_integer(&digits, 16);
    }
    let digits = without_underscores(text)?;
    let octal = digits.strip_prefix('0').filter(|rest| !rest.is_empty());
    if let Some(value) = octal.and_then(|rest| parse_integer(rest, 8)) {
        return Some(value);
    }
    // Rust's own names for the infinities are not PromQL's.
    if !digits.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte)) {
        return None;
    }
    digits.parse().ok().filter(|value: &f64| value.is_finite())
}

fn parse_integer(digits: &str, radix: u32) -> Option<f64> {
    if digits.starts_with(['+', '-']) {
        return None;
    }
    i64::from_str_radix(digits, radix).ok().map(|value| value as f64)
}

/// Underscores may stand only between two digits.
fn without_underscores(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let digit_at = |index: Option<usize>| {
        index.and_then(|index| bytes.get(index)).is_some_and(|byte| byte.is_ascii_hexdigit())
    };
    for (index, byte) in bytes.iter().enumerate() {
        if *byte == b'_' && !(digit_at(index.checked_sub(1)) && digit_at(Some(index + 1))) {
            return None;
        }
    }
    Some(text.replace('_', ""))
}

/// The text of a quoted string, its quotes included, with Go's escapes.
///
/// # Errors
/// What is wrong with it. Escapes may spell any bytes, but together they must be UTF-8, as labels must.
pub(crate) fn unquote(quoted: &str) -> Result<String, String> {
    String::from_utf8(unquote_bytes(quoted)?).map_err(|_| "string is not valid UTF-8".to_owned())
}

/// The bytes of such a string.
///
/// # Errors
/// What is wrong with it.
pub(super) fn unquote_bytes(quoted: &str) -> Result<Vec<u8>, String> {
    let quote = quoted.as_bytes().first().copied().unwrap_or_default();
    let inner = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    if quote == b'`' {
        // As Go does, so that a query reads the same whatever the line ends of its file.
        return Ok(inner.replace('\r', "").into_bytes());
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = chars.next().ok_or("escape sequence not terminated")?;
        match escape {
            'a' => bytes.push(0x07),
            'b' => bytes.push(0x08),
            'f' => bytes.push(0x0c),
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            'v' => bytes.push(0x0b),
            '\\' => bytes.push(b'\\'),
            '\'' | '"' if escape as u32 == u32::from(quote) => bytes.push(quote),
            '0'..='7' => {
                let rest = take_digits(&mut chars, 2, 8)?;
                let value = (escape as u32 - u32::from('0')) * 64 + rest;
                bytes.push(u8::try_from(value).map_err(|_| INVALID_CODE_POINT)?);
            }
            'x' => {
                let value = take_digits(&mut chars, 2, 16)?;
                bytes.push(u8::try_from(value).map_err(|_| INVALID_CODE_POINT)?);
            }
            'u' | 'U' => {
                let value = take_digits(&mut chars, if escape == 'u' { 4 } else { 8 }, 16)?;
                let c = char::from_u32(value).ok_or(INVALID_CODE_POINT)?;
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return Err(format!("unknown escape sequence {escape:?}")),
        }
    }
    Ok(bytes)
}

const INVALID_CODE_POINT: &str = "escape sequence is an invalid Unicode code point";

fn take_digits(chars: &mut std::str::Chars<'_>, count: usize, radix: u32) -> Result<u32, String> {
    let mut value: u32 = 0;
    for _ in 0..count {
        let c = chars.next().ok_or("escape sequence not terminated")?;
        let digit = c.to_digit(radix).ok_or_else(|| format!("illegal character {c:?} in escape sequence"))?;
        // Eight hexadecimal digits are the most that is asked for, and they fit.
        value = value.wrapping_mul(radix).wrapping_add(digit);
    }
    Ok(value)
}

/// Bytes in double quotes, those that are not UTF-8 as escapes.
pub(crate) fn quote_bytes(bytes: &[u8]) -> String {
    let mut quoted = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        let text = quote(chunk.valid());
        quoted.push_str(&text[1..text.len() - 1]);
        for byte in chunk.invalid() {
            quoted.push_str(&format!("\\x{byte:02x}"));
        }
    }
    quoted.push('"');
    quoted
}

/// A string in double quotes that [`unquote`] reads back.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            _ if c.is_control() => quoted.push_str(&format!("\\u{:04x}", c as u32)),
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_have_all_of_prometheus_forms() {
        for (text, value) in [
            ("1", 1.0),
            ("2.", 2.0),
            (".2", 0.2),
            ("1e3", 1000.0),
            ("1E-3", 0.001),
            ("1_000", 1000.0),
            ("0x1f", 31.0),
            ("0X_F", 15.0),
            ("0755", 493.0),
            ("08", 8.0),
            ("inF", f64::INFINITY),
            ("99999999999999999999", 1e20),
        ] {
            assert_eq!(parse_number(text), Some(value), "{text}");
        }
        assert!(parse_number("nAn").is_some_and(f64::is_nan));
        for text in
            ["", ".", "1__0", "1_", "_1", "1._0", "0x", "0x1.5", "1e", "1e400", "infinity", "1e5e5", "5m"]
        {
            assert_eq!(parse_number(text), None, "{text}");
        }
    }

    #[test]
    fn strings_have_the_escapes_of_go() {
        for (quoted, value) in [
            (r#""a\"b\\c\n""#, "a\"b\\c\n"),
            (r"'it\'s'", "it's"),
            (r"`a\nb`", r"a\nb"),
            (r#""\x41\101A\U0001F600""#, "AAA\u{1f600}"),
            (r#""\xe2\x82\xac""#, "€"),
        ] {
            assert_eq!(unquote(quoted).as_deref(), Ok(value), "{quoted}");
        }
        for quoted in [
            r#""\q""#,
            r#""\'""#,
            r#"'\"'"#,
            r#""\x4""#,
            r#""\xg0""#,
            r#""\400""#,
            r#""\ud800""#,
            r#""\xff""#,
        ] {
            assert!(unquote(quoted).is_err(), "{quoted}");
        }
    }

    proptest! {
        #[test]
        fn quoted_strings_read_back(text in any::<String>()) {
            let quoted = quote(&text);
            prop_assert_eq!(unquote(&quoted), Ok(text));
        }

        #[test]
        fn quoted_bytes_read_back(bytes in any::<Vec<u8>>()) {
            let quoted = quote_bytes(&bytes);
            prop_assert_eq!(unquote_bytes(&quoted), Ok(bytes));
        }
    }
}
