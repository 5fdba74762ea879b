//! `/api/v1/status/…`, and the pages that Grafana and Thanos ask for but this version has nothing for.

use std::io::{self, Write};
use std::sync::Arc;

use axum::extract::State;
use axum::response::{Html, Response};

use super::{Api, json};
use crate::promql::ast::{AggregateOp, BinaryOp};
use crate::promql::parser::functions;
use crate::{host, rfc3339};

/// The page at `/`.
const INDEX: &str = include_str!("index.html");

/// Links to what there is to see.
pub async fn index() -> Html<&'static str> {
    Html(INDEX)
}

/// The Prometheus whose API this is.
const PROMETHEUS_VERSION: &str = "3.14.0";

/// The version. Grafana and others learn from it which requests a Prometheus takes, so that it is that of the API; our own
/// stands beside it.
pub async fn build_info() -> Response {
    let pairs = [
        ("version", PROMETHEUS_VERSION),
        ("application", env!("CARGO_PKG_NAME")),
        ("applicationVersion", env!("CARGO_PKG_VERSION")),
        ("revision", option_env!("ANNULUS_REVISION").unwrap_or("")),
        ("branch", ""),
        ("buildUser", ""),
        ("buildDate", ""),
        ("goVersion", ""),
    ];
    json::success(&[], &[], |out| json::write_object(out, pairs))
}

/// The process, with a value for each key that clients of Prometheus read.
pub async fn runtime_info(State(api): State<Arc<Api>>) -> Response {
    let directory = std::env::current_dir().map(|path| path.display().to_string()).unwrap_or_default();
    let started = rfc3339::format_ms(api.config.started_ms);
    let (host, now) = (host::name(), rfc3339::format_ms(rfc3339::now_ms()));
    json::success(&[], &[], |out| {
        for (start, name, text) in [
            ('{', "startTime", started.as_str()),
            (',', "CWD", &directory),
            (',', "hostname", &host),
            (',', "serverTime", &now),
            (',', "lastConfigTime", &started),
            (',', "GOGC", ""),
            (',', "GODEBUG", ""),
            (',', "storageRetention", &api.config.retention),
        ] {
            write!(out, "{start}\"{name}\":")?;
            json::write_text(out, text)?;
        }
        let (cpus, memory) = (host::cpus(), host::memory_bytes().unwrap_or(0));
        out.write_all(br#","reloadConfigSuccess":true,"corruptionCount":0,"goroutineCount":0"#)?;
        write!(out, r#","GOMAXPROCS":{cpus},"GOMEMLIMIT":{memory}}}"#)
    })
}

/// The flags in effect.
pub async fn flags(State(api): State<Arc<Api>>) -> Response {
    let flags = api.config.flags.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    json::success(&[], &[], |out| json::write_object(out, flags))
}

/// What of Prometheus' configuration there is: external labels, which Thanos' components read here.
pub async fn config(State(api): State<Arc<Api>>) -> Response {
    let mut yaml = String::from("global:\n  external_labels:");
    for (name, value) in &api.config.external_labels {
        // A JSON text is a YAML text.
        yaml.push_str(&format!("\n    {name}: {}", serde_json::Value::from(value.as_str())));
    }
    if api.config.external_labels.is_empty() {
        yaml.push_str(" {}");
    }
    yaml.push('\n');
    json::success(&[], &[], |out| json::write_object(out, [("yaml", yaml.as_str())]))
}

/// What this server can do, by area.
pub async fn features() -> Response {
    json::success(&[], &[], |out| {
        out.write_all(br#"{"api":"#)?;
        let api = [
            "admin",
            "exclude_alerts",
            "label_values_match",
            "labels_limit",
            "query_stats",
            "query_warnings",
            "remote_read",
            "remote_write_receiver",
        ];
        write_switches(
            out,
            api.into_iter().map(|name| (name, !["admin", "exclude_alerts"].contains(&name))),
        )?;
        out.write_all(br#","promql":"#)?;
        let language = [
            ("anchored", false),
            ("at_modifier", true),
            ("bool", true),
            ("by", true),
            ("group_left", true),
            ("group_right", true),
            ("ignoring", true),
            ("negative_offset", true),
            ("offset", true),
            ("on", true),
            ("smoothed", false),
            ("subqueries", true),
            ("utf8_names", true),
            ("without", true),
        ];
        write_switches(out, language)?;
        out.write_all(br#","promql_functions":"#)?;
        write_switches(out, functions().iter().map(|function| (function.name, true)))?;
        out.write_all(br#","promql_operators":"#)?;
        write_switches(out, operators().map(|name| (name, true)))?;
        out.write_all(b"}")
    })
}

fn operators() -> impl Iterator<Item = &'static str> {
    use AggregateOp::{
        Avg, BottomK, Count, CountValues, Group, LimitK, LimitRatio, Max, Min, Quantile, Stddev, Stdvar, Sum,
        TopK,
    };
    use BinaryOp::{
        Add, And, Atan2, Div, Equal, Greater, GreaterEqual, Less, LessEqual, Mod, Mul, NotEqual, Or, Pow,
        Sub, Unless,
    };
    let aggregations = [
        Avg,
        BottomK,
        Count,
        CountValues,
        Group,
        LimitK,
        LimitRatio,
        Max,
        Min,
        Quantile,
        Stddev,
        Stdvar,
        Sum,
        TopK,
    ];
    let binary = [
        Add,
        And,
        Atan2,
        Div,
        Equal,
        Greater,
        GreaterEqual,
        Less,
        LessEqual,
        Mod,
        Mul,
        NotEqual,
        Or,
        Pow,
        Sub,
        Unless,
    ];
    aggregations.map(AggregateOp::as_str).into_iter().chain(binary.map(BinaryOp::as_str))
}

fn write_switches(
    out: &mut impl Write,
    switches: impl IntoIterator<Item = (&'static str, bool)>,
) -> io::Result<()> {
    out.write_all(b"{")?;
    for (index, (name, is_on)) in switches.into_iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        json::write_text(out, name)?;
        write!(out, ":{is_on}")?;
    }
    out.write_all(b"}")
}

/// There is no ruler.
pub async fn no_rules() -> Response {
    fixed(r#"{"groups":[]}"#)
}

/// There is no ruler.
pub async fn no_alerts() -> Response {
    fixed(r#"{"alerts":[]}"#)
}

/// Nobody is told of alerts.
pub async fn no_alertmanagers() -> Response {
    fixed(r#"{"activeAlertmanagers":[],"droppedAlertmanagers":[]}"#)
}

/// Nothing is scraped.
pub async fn no_targets() -> Response {
    fixed(r#"{"activeTargets":[],"droppedTargets":[],"droppedTargetCounts":{}}"#)
}

/// Nothing is scraped, so that there are no pools of targets.
pub async fn no_scrape_pools() -> Response {
    fixed(r#"{"scrapePools":[]}"#)
}

/// No other store is asked.
pub async fn no_stores() -> Response {
    fixed("{}")
}

/// An empty list: of the metadata of targets, and of what the operator has to be told.
pub async fn nothing() -> Response {
    fixed("[]")
}

/// How far the replay of the log is. Who can ask here asks a process that has done it.
pub async fn wal_replay() -> Response {
    fixed(r#"{"min":0,"max":0,"current":0}"#)
}

fn fixed(data: &str) -> Response {
    json::success(&[], &[], |out| out.write_all(data.as_bytes()))
}
