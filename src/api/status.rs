//! `/api/v1/status/…`, and the pages that Grafana asks for but this version has nothing for.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::{Api, json};
use crate::{host, rfc3339};

/// The version; Grafana reads it to learn what the server can do.
pub async fn build_info() -> Response {
    object(&[
        ("version", env!("CARGO_PKG_VERSION")),
        ("revision", option_env!("ANNULUS_REVISION").unwrap_or("")),
        ("branch", ""),
        ("buildUser", ""),
        ("buildDate", ""),
        ("goVersion", ""),
    ])
}

/// The process.
pub async fn runtime_info(State(api): State<Arc<Api>>) -> Response {
    let directory = std::env::current_dir().map(|path| path.display().to_string()).unwrap_or_default();
    object(&[
        ("startTime", &rfc3339::format_ms(api.config.started_ms)),
        ("CWD", &directory),
        ("hostname", &host::name()),
        ("serverTime", &rfc3339::format_ms(rfc3339::now_ms())),
        ("GOMAXPROCS", &host::cpus().to_string()),
    ])
}

/// The flags in effect.
pub async fn flags(State(api): State<Arc<Api>>) -> Response {
    let flags = api.config.flags.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    json::success(&[], &[], |out| json::write_object(out, flags))
}

/// There is no ruler.
pub async fn no_rules() -> Response {
    empty_list_of("groups")
}

/// There is no ruler.
pub async fn no_alerts() -> Response {
    empty_list_of("alerts")
}

fn object(pairs: &[(&str, &str)]) -> Response {
    json::success(&[], &[], |out| json::write_object(out, pairs.iter().copied()))
}

fn empty_list_of(name: &str) -> Response {
    use std::io::Write;
    json::success(&[], &[], |out| write!(out, r#"{{"{name}":[]}}"#))
}
