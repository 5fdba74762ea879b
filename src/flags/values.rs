//! The values of flags: durations, sizes, addresses and labels, as Thanos writes them.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use crate::duration::parse_duration_ms;

/// A duration such as `2h30m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let ms = parse_duration_ms(text).map_err(|error| format!("{error} (write 30s, 5m, 2h30m, 15d)"))?;
    Ok(Duration::from_millis(ms.unsigned_abs()))
}

/// A size such as `512MiB`; as in Thanos, `MB` means the same. Plain digits are bytes.
pub fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let power = match unit.trim_start() {
        "" | "B" => 0,
        "KiB" | "KB" => 10,
        "MiB" | "MB" => 20,
        "GiB" | "GB" => 30,
        "TiB" | "TB" => 40,
        _ => return Err("it is not a size (write 65536, 64KiB, 512MiB, 1GiB)".to_owned()),
    };
    let number: u64 =
        number.parse().map_err(|_| "it is not a size (write 64KiB, 512MiB, 1GiB)".to_owned())?;
    number.checked_mul(1 << power).ok_or_else(|| "it is larger than any memory".to_owned())
}

/// An address to listen on: `0.0.0.0:10901`, `[::]:10901`, `:10901` (all addresses) or `localhost:10901`.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    if let Ok(address) = full.parse() {
        return Ok(address);
    }
    let wrong = || "it is not an address to listen on (write 0.0.0.0:10901)".to_owned();
    let addresses: Vec<SocketAddr> = full.to_socket_addrs().map_err(|_| wrong())?.collect();
    addresses.iter().find(|address| address.is_ipv4()).or(addresses.first()).copied().ok_or_else(wrong)
}

/// The parts of `name="value"`, and whether the value had its quotes.
pub fn label(text: &str) -> Result<(String, String, bool), String> {
    let wrong = |reason: &str| format!("invalid value '{text}' for '--label <NAME=\"VALUE\">': {reason}");
    let (name, value) = text.split_once('=').ok_or_else(|| wrong("it has no ="))?;
    if !is_label_name(name) {
        return Err(wrong("the name may hold letters, digits and _, and must not start with a digit"));
    }
    let quoted = value.starts_with(['"', '`']);
    let value = if quoted {
        unquote(value).ok_or_else(|| wrong("the quotes do not match"))?
    } else {
        value.to_owned()
    };
    if value.is_empty() {
        return Err(wrong("the value is empty"));
    }
    Ok((name.to_owned(), value, quoted))
}

/// Whether a text is a label name of the classic character set.
pub fn is_label_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A Go string literal: between backquotes everything is itself, between quotes a backslash escapes.
fn unquote(text: &str) -> Option<String> {
    if let Some(raw) = text.strip_prefix('`') {
        return raw.strip_suffix('`').filter(|inner| !inner.contains('`')).map(str::to_owned);
    }
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut value = String::new();
    let mut chars = inner.chars();
    while let Some(next) = chars.next() {
        match next {
            '"' | '\n' => return None,
            '\\' => value.push(match chars.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                escaped @ ('"' | '\\') => escaped,
                'x' => hex_char(&mut chars, 2).filter(char::is_ascii)?,
                'u' => hex_char(&mut chars, 4)?,
                'U' => hex_char(&mut chars, 8)?,
                _ => return None,
            }),
            other => value.push(other),
        }
    }
    Some(value)
}

fn hex_char(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let mut code = 0;
    for _ in 0..digits {
        code = code << 4 | chars.next()?.to_digit(16)?;
    }
    char::from_u32(code)
}

/// Replaces `$(NAME)` by what `variable` gives; fails with the name of the first variable that is not set.
pub fn expand_variables(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("$(") {
        expanded.push_str(&rest[..start]);
        let inner = &rest[start + 2..];
        match inner.find(')').filter(|end| is_label_name(&inner[..*end])) {
            Some(end) => {
                let name = &inner[..end];
                expanded +=
                    &variable(name).ok_or_else(|| format!("the environment variable {name} is not set"))?;
                rest = &inner[end + 1..];
            }
            None => {
                expanded.push_str("$(");
                rest = inner;
            }
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_two() {
        for (text, expected) in [
            ("0", 0),
            ("65536", 65536),
            ("64KiB", 65536),
            ("64KB", 65536),
            ("512MiB", 512 << 20),
            ("1TB", 1 << 40),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "x", "1.5GiB", "-1", "1Gi", "99999999999999999999", "99999999999GiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_may_leave_out_the_host() {
        for (text, expected) in [
            ("0.0.0.0:10901", "0.0.0.0:10901"),
            (":10901", "0.0.0.0:10901"),
            ("[::1]:1", "[::1]:1"),
            ("localhost:7", "127.0.0.1:7"),
        ] {
            assert_eq!(listen_address(text), Ok(expected.parse().unwrap()), "{text}");
        }
        for text in ["", "10901", "0.0.0.0", "0.0.0.0:99999", ":"] {
            assert!(listen_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn labels_are_go_literals_or_what_a_shell_left_of_them() {
        let pair = |text| label(text).map(|(name, value, quoted)| format!("{name}|{value}|{quoted}"));
        for (text, expected) in [
            (r#"replica="0""#, "replica|0|true"),
            (r#"a="x=\"y\"\\\u00e9""#, r#"a|x="y"\é|true"#),
            ("a=`x\\n`", r"a|x\n|true"),
            ("replica=0", "replica|0|false"),
        ] {
            assert_eq!(pair(text).as_deref(), Ok(expected), "{text}");
        }
        for text in
            [r#"="x""#, r#"1a="x""#, r#"a-b="x""#, r#"a="x"#, r#"a="x"y""#, r#"a="\q""#, "a", r#"a="""#, "a="]
        {
            assert!(label(text).is_err(), "{text}");
        }
    }

    #[test]
    fn variables_are_expanded_where_they_are_set() {
        let variable = |name: &str| (name == "POD").then(|| "p-0".to_owned());
        assert_eq!(expand_variables("a-$(POD)-$(POD)", variable).unwrap(), "a-p-0-p-0");
        assert_eq!(expand_variables("$() $(a b) $(", variable).unwrap(), "$() $(a b) $(");
        assert!(expand_variables("$(NOPE)", variable).unwrap_err().contains("NOPE"));
    }
}
