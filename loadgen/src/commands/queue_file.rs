//! The file of `--queue-config`: a `queue_config` of Prometheus by itself, or anything around it that Prometheus
//! would read too, up to its whole configuration.
//!
//! A key that Prometheus does not know is an error here as it is there, so that a slip of the keyboard shows.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::de::{DeserializeOwned, Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};

use crate::quantity::parse_duration;

/// What a file says; `None` for what it does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueFile {
    /// Samples that wait for one shard.
    #[serde(deserialize_with = "positive")]
    pub capacity: Option<u64>,
    /// Shards at most.
    #[serde(deserialize_with = "positive")]
    pub max_shards: Option<u64>,
    /// Shards at first, and at least.
    #[serde(deserialize_with = "positive")]
    pub min_shards: Option<u64>,
    /// Samples of one request at most.
    #[serde(deserialize_with = "positive")]
    pub max_samples_per_send: Option<u64>,
    /// Time after which a shard sends what it has.
    #[serde(deserialize_with = "duration")]
    pub batch_send_deadline: Option<Duration>,
    /// Pause before the first retry.
    #[serde(deserialize_with = "duration")]
    pub min_backoff: Option<Duration>,
    /// The longest pause.
    #[serde(deserialize_with = "duration")]
    pub max_backoff: Option<Duration>,
    /// Whether 429 is retried.
    pub retry_on_http_429: Option<bool>,
    /// Age at which samples are given up; 0 for none.
    #[serde(deserialize_with = "duration")]
    pub sample_age_limit: Option<Duration>,
    /// Time between two metadata messages, `Some(None)` for none at all: the `metadata_config` beside it.
    #[serde(skip)]
    pub metadata_interval: Option<Option<Duration>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MetadataConfig {
    send: Option<bool>,
    #[serde(deserialize_with = "duration")]
    send_interval: Option<Duration>,
    #[serde(rename = "max_samples_per_send")]
    _max_samples_per_send: IgnoredAny,
}

/// One entry of `remote_write`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    queue_config: QueueFile,
    metadata_config: MetadataConfig,
    #[serde(flatten)]
    others: BTreeMap<String, IgnoredAny>,
}

/// A whole configuration.
#[derive(Debug, Deserialize)]
struct Whole {
    remote_write: Vec<Entry>,
}

/// The other keys of an entry.
const ENTRY_KEYS: [&str; 26] = [
    "url",
    "name",
    "remote_timeout",
    "headers",
    "write_relabel_configs",
    "send_exemplars",
    "send_native_histograms",
    "round_robin_dns",
    "protobuf_message",
    "failed_request_logging",
    "sigv4",
    "azuread",
    "google_iam",
    "basic_auth",
    "authorization",
    "oauth2",
    "bearer_token",
    "bearer_token_file",
    "tls_config",
    "follow_redirects",
    "enable_http2",
    "http_headers",
    "proxy_url",
    "no_proxy",
    "proxy_from_environment",
    "proxy_connect_header",
];

/// Reads a file; an error is one line.
pub fn read(path: &Path) -> Result<QueueFile, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    parse(&text)
}

fn parse(text: &str) -> Result<QueueFile, String> {
    // What it is shows by its outermost keys; read as that, it gives errors that make sense.
    let keys = match yaml::<BTreeMap<String, IgnoredAny>>(text) {
        Ok(keys) => keys,
        Err(_) if yaml::<Vec<IgnoredAny>>(text).is_ok() => return only(yaml(text)?),
        Err(error) => return Err(error),
    };
    if keys.is_empty() {
        return Err("says nothing".to_owned());
    }
    if keys.contains_key("remote_write") {
        return only(yaml::<Whole>(text)?.remote_write);
    }
    let is_entry =
        ["queue_config", "metadata_config"].into_iter().chain(ENTRY_KEYS).any(|key| keys.contains_key(key));
    if is_entry { entry(yaml(text)?) } else { yaml(text) }
}

fn only(mut entries: Vec<Entry>) -> Result<QueueFile, String> {
    match (entries.pop(), entries.len()) {
        (Some(only), 0) => entry(only),
        (None, _) => Err("remote_write has no entry".to_owned()),
        (Some(_), more) => {
            Err(format!("remote_write has {} entries: leave one of them in the file", more + 1))
        }
    }
}

fn entry(entry: Entry) -> Result<QueueFile, String> {
    if let Some(key) = entry.others.keys().find(|key| !ENTRY_KEYS.contains(&key.as_str())) {
        return Err(format!("{key}: remote_write has no such key"));
    }
    let MetadataConfig { send, send_interval, .. } = entry.metadata_config;
    let metadata_interval = match (send, send_interval) {
        (Some(false), _) => Some(None),
        (_, Some(interval)) => Some(Some(interval).filter(|interval| !interval.is_zero())),
        (_, None) => None,
    };
    Ok(QueueFile { metadata_interval, ..entry.queue_config })
}

fn yaml<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_saphyr::from_str(text).map_err(|error| {
        let text = error.to_string();
        // The lines after the first show the place in the file; the first names it.
        let line = text.lines().next().unwrap_or_default();
        // Advice for who calls the library.
        let line = line.split(", set DuplicateKeyPolicy").next().unwrap_or(line);
        line.strip_prefix("error: ").unwrap_or(line).to_owned()
    })
}

fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    match Option::<u64>::deserialize(deserializer)? {
        Some(0) => Err(D::Error::custom("must be above 0")),
        count => Ok(count),
    }
}

/// A duration as Prometheus writes it: whole numbers, and units from the longest to the shortest.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let mut units = ["y", "w", "d", "h", "m", "s", "ms"].iter();
    let mut words = text.split(|c: char| c.is_ascii_digit()).filter(|word| !word.is_empty());
    if !words.all(|word| units.any(|unit| *unit == word)) {
        return Err(D::Error::custom(format!("{text:?} is not a duration such as 30s, 1m30s or 250ms")));
    }
    parse_duration(&text).map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: &str = "capacity: 2500\nmax_shards: 200\nmin_shards: 2\nmax_samples_per_send: 500\n\
                         batch_send_deadline: 1m30s\nmin_backoff: 50ms\nmax_backoff: 10s\n\
                         retry_on_http_429: true\nsample_age_limit: 0s\n";

    fn indented(text: &str, indent: &str) -> String {
        text.lines().map(|line| format!("{indent}{line}\n")).collect()
    }

    #[test]
    fn a_queue_config_is_found_at_every_depth() {
        let plain = parse(QUEUE).unwrap();
        assert_eq!((plain.capacity, plain.max_shards, plain.min_shards), (Some(2500), Some(200), Some(2)));
        assert_eq!(plain.batch_send_deadline, Some(Duration::from_secs(90)));
        assert_eq!(plain.min_backoff, Some(Duration::from_millis(50)));
        assert_eq!((plain.retry_on_http_429, plain.sample_age_limit), (Some(true), Some(Duration::ZERO)));
        let entry =
            format!("url: http://host/\nremote_timeout: 30s\nqueue_config:\n{}", indented(QUEUE, "  "));
        assert_eq!(parse(&entry).as_ref(), Ok(&plain));
        let list = format!("- name: a\n{}", indented(&entry, "  "));
        assert_eq!(parse(&list).as_ref(), Ok(&plain));
        let whole = format!("global:\n  scrape_interval: 15s\nremote_write:\n{}", indented(&list, "  "));
        assert_eq!(parse(&whole).as_ref(), Ok(&plain));
        assert_eq!(parse("url: http://host/\n"), Ok(QueueFile::default()));
    }

    #[test]
    fn metadata_goes_as_its_own_config_says() {
        let interval = |text: &str| parse(&format!("metadata_config: {text}\n")).unwrap().metadata_interval;
        assert_eq!(interval("{send: false, send_interval: 5m}"), Some(None));
        assert_eq!(interval("{send_interval: 5m}"), Some(Some(Duration::from_secs(300))));
        assert_eq!(interval("{send: true}"), None);
    }

    #[test]
    fn each_mistake_is_one_line_that_names_it() {
        for (text, part) in [
            ("", "says nothing"),
            ("nonsense", ""),
            ("max_shard: 1", "max_shard"),
            ("max_shards: 0", "above 0"),
            ("max_shards: -1", ""),
            ("max_shards: many", ""),
            ("max_shards: 1\nmax_shards: 2", "max_shards"),
            ("min_backoff: 30", "\"30\" is not a duration"),
            ("min_backoff: 1s1m", "is not a duration"),
            ("min_backoff: 1.5s", "is not a duration"),
            ("min_backoff: soon", "is not a duration"),
            ("retry_on_http_429: perhaps", ""),
            ("queue_config: {max_shard: 1}", "max_shard"),
            ("url: http://h/\nqueue_confg: {max_shards: 1}", "queue_confg"),
            ("metadata_config: {sent: true}", "sent"),
            ("remote_write: []", "no entry"),
            ("- url: http://a/\n- url: http://b/", "2 entries"),
            ("remote_write: 5", ""),
            ("a: [", ""),
        ] {
            let error = parse(text).err().unwrap_or_else(|| panic!("{text:?} is taken"));
            assert!(!error.is_empty() && !error.contains('\n') && error.contains(part), "{text:?}: {error}");
        }
    }
}
