//! Names of metrics, units and labels, as Prometheus and Thanos Receive make them from those of OpenTelemetry: with
//! suffixes for unit and type, and everything outside the classic character set replaced by an underscore.

use std::borrow::Cow;

/// What the suffix of a metric's name depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// A gauge.
    Gauge,
    /// A monotonic sum.
    Counter,
    /// Sums that may fall, histograms and summaries.
    Other,
}

/// Units of UCUM and what Prometheus calls them.
const UNITS: [(&str, &str); 26] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
];

/// Units after the slash.
const PER_UNITS: [(&str, &str); 7] = [
    ("s", "second"),
    ("m", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

/// The name of a metric family; `None` if nothing is left of the metric's name.
pub fn metric_name(name: &str, unit: &str, kind: MetricKind) -> Option<String> {
    let mut words: Vec<&str> = name.split(|c| !is_metric_char(c)).filter(|word| !word.is_empty()).collect();
    let (main, per) = unit_suffixes(unit);
    let mut main = if words.contains(&main.as_str()) { "" } else { &main };
    let mut per = if per == "per_" { "" } else { per.strip_suffix('_').unwrap_or(&per) };
    if words.contains(&per) {
        per = "";
    }
    if !per.is_empty() {
        main = main.strip_suffix('_').unwrap_or(main);
    }
    words.extend([main, per].into_iter().filter(|word| !word.is_empty()));
    let type_suffix = match kind {
        MetricKind::Counter => Some("total"),
        // Only for gauges: many senders give counters of things the unit 1.
        MetricKind::Gauge if unit == "1" => Some("ratio"),
        _ => None,
    };
    if let Some(suffix) = type_suffix {
        words.retain(|word| *word != suffix);
        words.push(suffix);
    }
    let joined = words.join("_");
    match joined.bytes().next()? {
        b'0'..=b'9' => Some(format!("_{joined}")),
        _ => Some(joined),
    }
}

/// The unit of a metric family, as metadata names it.
pub fn unit_name(unit: &str) -> String {
    let (main, per) = unit_suffixes(unit);
    let joined = if main.is_empty() || per.is_empty() { main + &per } else { format!("{main}_{per}") };
    let trimmed = joined.strip_prefix('_').unwrap_or(&joined);
    trimmed.strip_suffix('_').unwrap_or(trimmed).to_owned()
}

/// The name of a label; `None` if it would be empty or nothing but underscores.
pub fn label_name(name: &str) -> Option<Cow<'_, str>> {
    let inner = name.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"));
    let escaped = match inner {
        Some(inner) => Cow::Owned(format!("__{}__", escape_label(inner))),
        None => escape_label(name),
    };
    match escaped.bytes().next()? {
        b'0'..=b'9' => Some(Cow::Owned(format!("key_{escaped}"))),
        _ if escaped.bytes().all(|byte| byte == b'_') => None,
        _ => Some(escaped),
    }
}

/// What stands before the slash of a unit, and what stands after it with `per_` before it. A part in braces is an
/// annotation and says nothing.
fn unit_suffixes(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let known = |units: &[(&'static str, &'static str)], part: &str| {
        let part = part.trim();
        if part.contains(['{', '}']) {
            return String::new();
        }
        units.iter().find(|(short, _)| *short == part).map_or(part, |(_, long)| long).to_owned()
    };
    let per = match known(&PER_UNITS, per) {
        per if per.is_empty() => per,
        per => format!("per_{per}"),
    };
    (clean_unit(&known(&UNITS, main)), clean_unit(&per))
}

fn clean_unit(unit: &str) -> String {
    let escaped = escape(unit, is_metric_char);
    escaped.strip_prefix('_').unwrap_or(&escaped).to_owned()
}

fn escape_label(name: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.bytes().all(is_plain) && !name.contains("__") {
        return Cow::Borrowed(name);
    }
    Cow::Owned(escape(name, |c| c.is_ascii_alphanumeric()))
}

/// Each run of other characters becomes one underscore.
fn escape(text: &str, is_kept: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_kept(c) {
            escaped.push(c);
        } else if !escaped.ends_with('_') {
            escaped.push('_');
        }
    }
    escaped
}

fn is_metric_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn metric_names_are_those_of_prometheus() {
        use MetricKind::{Counter, Gauge, Other};
        for (name, unit, kind, expected) in [
            ("requests", "", Counter, "requests_total"),
            ("cpu_usage", "1", Gauge, "cpu_usage_ratio"),
            ("items", "1", Counter, "items_total"),
            ("response_time", "ms", Gauge, "response_time_milliseconds"),
            ("memory_usage", "By", Gauge, "memory_usage_bytes"),
            ("requests", "1/s", Gauge, "requests_per_second"),
            ("throughput", "By/s", Gauge, "throughput_bytes_per_second"),
            ("custom_metric", "custom_unit", Gauge, "custom_metric_custom_unit"),
            ("custom_metric", "{custom}", Gauge, "custom_metric"),
            ("custom_metric", "By/{custom}", Gauge, "custom_metric_bytes"),
            ("requests_total", "", Counter, "requests_total"),
            ("cpu_usage_ratio", "1", Gauge, "cpu_usage_ratio"),
            ("response_time_seconds", "s", Gauge, "response_time_seconds"),
            (
                "metric__with__multiple__underscores",
                "unit__multiple__underscores",
                Gauge,
                "metric_with_multiple_underscores_unit_multiple_underscores",
            ),
            ("custom_metric", "unit@with#special/chars", Gauge, "custom_metric_unit_with_special_per_chars"),
            ("http.server.request.duration", "s", Other, "http_server_request_duration_seconds"),
            ("system.filesystem.usage", "By", Other, "system_filesystem_usage_bytes"),
            ("system.network.dropped", "{packets}", Counter, "system_network_dropped_total"),
            ("system.cpu.utilization", "1", Gauge, "system_cpu_utilization_ratio"),
            ("redis.connections.rejected", "", Counter, "redis_connections_rejected_total"),
            ("storage.filesystem.utilization", "%", Gauge, "storage_filesystem_utilization_percent"),
            ("astro.light.speed", "m/s", Gauge, "astro_light_speed_meters_per_second"),
            ("broken.metric.speed", "km/h", Gauge, "broken_metric_speed_km_per_hour"),
            ("total.calls.rate", "requests/@", Gauge, "total_calls_rate_requests"),
            ("requests.rate", "requests/@", Gauge, "requests_rate"),
            ("total_calls", "", Counter, "calls_total"),
            ("namespace:job.rate", "", Gauge, "namespace:job_rate"),
            ("123_requests", "", Counter, "_123_requests_total"),
            ("métric", "", Gauge, "m_tric"),
        ] {
            assert_eq!(metric_name(name, unit, kind).as_deref(), Some(expected), "{name} {unit}");
        }
        for nothing in ["", "@#$%", "___", "字符"] {
            assert_eq!(metric_name(nothing, "", Gauge), None, "{nothing}");
        }
    }

    #[test]
    fn units_are_those_of_prometheus() {
        for (unit, expected) in [
            ("", ""),
            ("1", ""),
            ("ms", "milliseconds"),
            ("1/s", "per_second"),
            ("By/s", "bytes_per_second"),
            ("By/{custom}", "bytes"),
            ("{custom}", ""),
            ("custom_unit", "custom_unit"),
            ("unit__multiple__underscores", "unit_multiple_underscores"),
            ("unit@with#special/chars", "unit_with_special_per_chars"),
            (" s ", "seconds"),
            ("@a@", "a"),
        ] {
            assert_eq!(unit_name(unit), expected, "{unit}");
        }
    }

    #[test]
    fn label_names_are_those_of_prometheus() {
        for (name, expected) in [
            ("label:with:colons", "label_with_colons"),
            ("LabelWithCapitalLetters", "LabelWithCapitalLetters"),
            ("label!with&special$chars)", "label_with_special_chars_"),
            ("label_with_foreign_characters_字符", "label_with_foreign_characters_"),
            ("label.with.dots", "label_with_dots"),
            (".foo", "_foo"),
            ("123label", "key_123label"),
            ("_label_starting_with_underscore", "_label_starting_with_underscore"),
            ("__label_starting_with_2underscores", "_label_starting_with_2underscores"),
            ("label__with__double__underscores", "label_with_double_underscores"),
            ("label.name__with&&special##chars", "label_name_with_special_chars"),
            ("__reserved__label__name__", "__reserved_label_name__"),
            ("trailing_underscores___", "trailing_underscores_"),
        ] {
            assert_eq!(label_name(name).as_deref(), Some(expected), "{name}");
        }
        for nothing in ["", "__", "____", "ようこそ"] {
            assert_eq!(label_name(nothing), None, "{nothing}");
        }
    }

    proptest! {
        #[test]
        fn names_are_always_of_the_classic_character_set(name in ".{0,20}", unit in ".{0,12}") {
            let is_classic = |text: &str, extra: char| {
                !text.starts_with(|c: char| c.is_ascii_digit())
                    && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == extra)
            };
            for kind in [MetricKind::Gauge, MetricKind::Counter, MetricKind::Other] {
                if let Some(name) = metric_name(&name, &unit, kind) {
                    prop_assert!(!name.is_empty() && is_classic(&name, ':'), "{}", name);
                }
            }
            if let Some(name) = label_name(&name) {
                prop_assert!(!name.is_empty() && is_classic(&name, '_'), "{}", name);
                let again = label_name(&name).map(Cow::into_owned);
                prop_assert_eq!(again.as_deref(), Some(&*name));
            }
        }
    }
}
