//! Log lines as Thanos writes them: `ts=… level=info msg="…" key=value`, or the same as one JSON object per line.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::flags::LogSetup;
use crate::rfc3339;

/// Sends all log lines of the process to standard error from now on.
pub fn start(setup: LogSetup) {
    let subscriber = tracing_subscriber::fmt()
        .event_format(LineFormat { json: setup.json })
        .with_max_level(LevelFilter::from_level(setup.level))
        .with_writer(std::io::stderr)
        .finish();
    // Fails only when a subscriber is set already, in tests; the lines then go there.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Writes an event as one line.
struct LineFormat {
    json: bool,
}

impl<S, N> FormatEvent<S, N> for LineFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let time = rfc3339::format_ms(rfc3339::now_ms());
        let level = level_name(*event.metadata().level());
        writeln!(writer, "{}", line(self.json, &time, level, &fields))
    }
}

/// The fields of an event in the order in which they were given; the message apart.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, FieldText)>,
}

/// The value of a field as text.
enum FieldText {
    /// May hold anything.
    Text(String),
    /// A number or boolean, which is the same in JSON.
    Literal(String),
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.others.push((field.name(), FieldText::Literal(value.to_string())));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.others.push((field.name(), FieldText::Literal(value.to_string())));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        let text = value.to_string();
        let text = if value.is_finite() { FieldText::Literal(text) } else { FieldText::Text(text) };
        self.others.push((field.name(), text));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.others.push((field.name(), FieldText::Literal(value.to_string())));
    }
}

impl Fields {
    fn add(&mut self, field: &Field, text: String) {
        match field.name() {
            "message" => self.message = text,
            name => self.others.push((name, FieldText::Text(text))),
        }
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

fn line(json: bool, time: &str, level: &str, fields: &Fields) -> String {
    if json { json_line(time, level, fields) } else { logfmt_line(time, level, fields) }
}

fn logfmt_line(time: &str, level: &str, fields: &Fields) -> String {
    let mut line = format!("ts={time} level={level} msg=");
    push_quoted(&mut line, &fields.message);
    for (name, value) in &fields.others {
        line.extend([" ", name, "="]);
        match value {
            FieldText::Text(text) if !is_plain(text) => push_quoted(&mut line, text),
            FieldText::Text(text) | FieldText::Literal(text) => line.push_str(text),
        }
    }
    line
}

fn json_line(time: &str, level: &str, fields: &Fields) -> String {
    let mut line = format!("{{\"ts\":\"{time}\",\"level\":\"{level}\",\"msg\":");
    push_quoted(&mut line, &fields.message);
    for (name, value) in &fields.others {
        line.push(',');
        push_quoted(&mut line, name);
        line.push(':');
        match value {
            FieldText::Text(text) => push_quoted(&mut line, text),
            FieldText::Literal(text) => line.push_str(text),
        }
    }
    line.push('}');
    line
}

fn is_plain(value: &str) -> bool {
    !value.is_empty()
        && value.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'=' | b'\\'))
}

/// A line must stay one line, whatever a request put into it.
fn push_quoted(line: &mut String, text: &str) {
    line.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => line.extend(['\\', char]),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            control if control.is_control() => {
                let _ = write!(line, "\\u{:04x}", control as u32);
            }
            other => line.push(other),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        Fields {
            message: "it \"works\"".to_owned(),
            others: vec![
                ("address", FieldText::Text("0.0.0.0:9090".to_owned())),
                ("error", FieldText::Text("a\nb=c\u{1b}".to_owned())),
                ("shard", FieldText::Literal("1".to_owned())),
            ],
        }
    }

    #[test]
    fn logfmt_quotes_what_needs_quotes() {
        assert_eq!(
            line(false, "2026-11-24T05:39:00.000Z", "info", &fields()),
            r#"ts=2026-11-24T05:39:00.000Z level=info msg="it \"works\"" address=0.0.0.0:9090 error="a\nb=c\u001b" shard=1"#
        );
    }

    #[test]
    fn json_lines_are_json() {
        let line = line(true, "t", "warn", &fields());
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&value["error"], &value["shard"]), (&"a\nb=c\u{1b}".into(), &1.into()));
        assert_eq!((&value["level"], &value["msg"]), (&"warn".into(), &"it \"works\"".into()));
    }
}
