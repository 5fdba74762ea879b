//! Profiles: what kind of cluster the stream looks like. TOML, built in or from a file.

use serde::Deserialize;
use toml::{Table, Value};

use super::StreamError;

/// A profile that comes with the program.
#[derive(Debug, Clone, Copy)]
pub struct BuiltIn {
    /// What `--profile` calls it.
    pub name: &'static str,
    /// Its content, also the best example to start one's own from.
    pub text: &'static str,
}

/// The profiles that come with the program.
pub const BUILT_IN: [BuiltIn; 4] = [
    BuiltIn { name: "kube-small", text: include_str!("../../profiles/kube-small.toml") },
    BuiltIn { name: "kube-large", text: include_str!("../../profiles/kube-large.toml") },
    BuiltIn { name: "single-metric-flood", text: include_str!("../../profiles/single-metric-flood.toml") },
    BuiltIn { name: "churn", text: include_str!("../../profiles/churn.toml") },
];

/// What a profile file may say, for `--help`. Every key has a default, so a profile holds only what differs.
pub const KEYS_HELP: &str = "\
description              one line for people
series                   active series at any time, exact [100000]
cluster, environment     external labels of every series
churn_per_hour           share of the pods replaced in an hour; 2.0 is twice an hour each [0]
counter_resets_per_hour  share of the containers that restart in an hour: counters at zero [0]
native_histogram_share   share of the application pods with native latency histograms [0]
exemplar_share           share of counters and buckets with an exemplar in each request [0]
late_share               share of the samples sent late_rounds scrapes late, out of order [0]
late_rounds              how late those are, in scrapes [4]
duplicate_share          share of the samples that the next request repeats, bit for bit [0]
[mix]                    proportions of the series by kind of target: node_exporter, cadvisor,
                         kube_state_metrics, apiserver, app, flood (one metric, many sessions)";

/// More would not fit into one generator; several generators with different seeds do.
pub const SERIES_MAX: u64 = 100_000_000;

const LATE_ROUNDS: std::ops::RangeInclusive<u64> = 2..=1000;

/// How often, at most, each pod is replaced or restarts within an hour.
const EVENTS_PER_HOUR_MAX: f64 = 1200.0;

/// The keys of a profile.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// One line for people.
    pub description: String,
    /// Active series at any time.
    pub series: u64,
    /// The external label `cluster` of every series.
    pub cluster: String,
    /// The external label `environment` of every series.
    pub environment: String,
    /// Share of the pods that are replaced within an hour; 2 replaces each pod twice an hour.
    pub churn_per_hour: f64,
    /// Share of the containers that restart within an hour: their counters begin again at zero.
    pub counter_resets_per_hour: f64,
    /// Share of the application pods whose latency histograms are native instead of classic.
    pub native_histogram_share: f64,
    /// Share of the counters, histogram buckets and native histograms that carry an exemplar in each request.
    /// Prometheus sends exemplars only where `send_exemplars` asks for it.
    pub exemplar_share: f64,
    /// Share of the samples that are withheld in their round and sent `late_rounds` rounds later, out of order.
    /// Native histograms too: a receiver that takes only floats out of order refuses those.
    pub late_share: f64,
    /// How many rounds late a late sample is.
    pub late_rounds: u64,
    /// Share of the samples that the next round repeats, bit for bit, before its own.
    pub duplicate_share: f64,
    /// Which share of the series each kind of target has. Only the proportions count.
    pub mix: Mix,
}

/// Series by kind of target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mix {
    /// Machines.
    pub node_exporter: f64,
    /// Containers, as the kubelet shows them.
    pub cadvisor: f64,
    /// Pods, as the API describes them.
    pub kube_state_metrics: f64,
    /// API servers: few targets, wide classic histograms.
    pub apiserver: f64,
    /// Applications with HTTP, runtime and queue metrics.
    pub app: f64,
    /// Applications with one counter over an identifier of high cardinality.
    pub flood: f64,
}

impl Default for Profile {
    fn default() -> Profile {
        Profile {
            description: String::new(),
            series: 100_000,
            cluster: "prod-eu-west-1".to_owned(),
            environment: "prod".to_owned(),
            churn_per_hour: 0.0,
            counter_resets_per_hour: 0.0,
            native_histogram_share: 0.0,
            exemplar_share: 0.0,
            late_share: 0.0,
            late_rounds: 4,
            duplicate_share: 0.0,
            mix: Mix {
                node_exporter: 0.17,
                cadvisor: 0.22,
                kube_state_metrics: 0.24,
                apiserver: 0.12,
                app: 0.25,
                flood: 0.0,
            },
        }
    }
}

impl Mix {
    /// Each kind's name and proportion, in a fixed order.
    pub(super) fn shares(&self) -> [(&'static str, f64); 6] {
        [
            ("node_exporter", self.node_exporter),
            ("cadvisor", self.cadvisor),
            ("kube_state_metrics", self.kube_state_metrics),
            ("apiserver", self.apiserver),
            ("app", self.app),
            ("flood", self.flood),
        ]
    }
}

impl Profile {
    /// Reads the name of a built-in profile, or the content of a profile file.
    pub fn read(name_or_text: &str) -> Result<Profile, StreamError> {
        let profile = parse(text(name_or_text)?)?;
        profile.check().map_err(|error| StreamError(format!("profile: {error}")))?;
        Ok(profile)
    }

    /// The same with some keys changed: `series=500`, `mix.app=1`. Texts need no quotes.
    pub fn read_with(name_or_text: &str, changes: &[String]) -> Result<Profile, StreamError> {
        if changes.is_empty() {
            return Profile::read(name_or_text);
        }
        let text = text(name_or_text)?;
        let mut profile = parse(text)?;
        let mut table: Table =
            toml::from_str(text).map_err(|error| StreamError(format!("profile: {}", one_line(&error))))?;
        for change in changes {
            let wrong = |why: &str| StreamError(format!("--set {change}: {why}"));
            let (key, value) = change.split_once('=').ok_or_else(|| wrong("write it as KEY=VALUE"))?;
            let lines = [format!("{key} = {value}"), format!("{key} = {value:?}")];
            let changed = lines.iter().find_map(|line| toml::from_str::<Table>(line).ok());
            merge(&mut table, changed.ok_or_else(|| wrong("write it as KEY=VALUE"))?);
            profile = table.clone().try_into().map_err(|error| wrong(&one_line(&error)))?;
        }
        profile
            .check()
            .map_err(|error| StreamError(format!("--set {}: {error}", changes.join(" --set "))))?;
        Ok(profile)
    }

    fn check(&self) -> Result<(), String> {
        if !(1..=SERIES_MAX).contains(&self.series) {
            return Err(format!("series = {} is not between 1 and {SERIES_MAX}", self.series));
        }
        for (key, text) in [("cluster", &self.cluster), ("environment", &self.environment)] {
            if text.is_empty()
                || text.len() > 100
                || text.contains(['"', '\\'])
                || text.contains(char::is_control)
            {
                return Err(format!("{key} = {text:?} is not 1 to 100 bytes without quotes and backslashes"));
            }
        }
        for (key, share, share_max) in [
            ("churn_per_hour", self.churn_per_hour, EVENTS_PER_HOUR_MAX),
            ("counter_resets_per_hour", self.counter_resets_per_hour, EVENTS_PER_HOUR_MAX),
            ("native_histogram_share", self.native_histogram_share, 1.0),
            ("exemplar_share", self.exemplar_share, 1.0),
            ("late_share", self.late_share, 0.5),
            ("duplicate_share", self.duplicate_share, 1.0),
        ] {
            // Written so that NaN fails too.
            if !(0.0..=share_max).contains(&share) {
                return Err(format!("{key} = {share} is not between 0 and {share_max}"));
            }
        }
        if !LATE_ROUNDS.contains(&self.late_rounds) {
            let (least, most) = (LATE_ROUNDS.start(), LATE_ROUNDS.end());
            return Err(format!("late_rounds = {} is not between {least} and {most}", self.late_rounds));
        }
        for (key, share) in self.mix.shares() {
            if !(0.0..=1e6).contains(&share) {
                return Err(format!("mix.{key} = {share} is not between 0 and 1000000"));
            }
        }
        if self.mix.shares().iter().map(|(_, share)| share).sum::<f64>() <= 0.0 {
            return Err("mix gives no kind of target a share above 0".to_owned());
        }
        Ok(())
    }
}

/// The content of a built-in profile, or what is content already.
fn text(name_or_text: &str) -> Result<&str, StreamError> {
    let name = name_or_text.trim();
    if let Some(built_in) = BUILT_IN.iter().find(|built_in| built_in.name == name) {
        return Ok(built_in.text);
    }
    if !name_or_text.contains(['=', '\n']) {
        let names = BUILT_IN.map(|built_in| built_in.name).join(", ");
        return Err(StreamError(format!("there is no profile {name:?}; built in are {names}")));
    }
    Ok(name_or_text)
}

fn parse(text: &str) -> Result<Profile, StreamError> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map(|span| span.start);
        let place = start.map(|start| place(text, start)).unwrap_or_default();
        StreamError(format!("profile: {place}{}", one_line(&error)))
    })
}

/// The crate's message may continue with a list on lines of its own; an error is one line.
fn one_line(error: &toml::de::Error) -> String {
    error.message().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Puts values into a table, below the keys that it has already.
fn merge(table: &mut Table, changes: Table) {
    for (key, value) in changes {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(changes)) => merge(inner, changes),
            (_, value) => drop(table.insert(key, value)),
        }
    }
}

/// The line of an offset, with the key that the line sets.
fn place(text: &str, start: usize) -> String {
    let number = 1 + text.bytes().take(start).filter(|&byte| byte == b'\n').count();
    match text.lines().nth(number - 1).and_then(|line| line.split_once('=')) {
        Some((key, _)) => format!("line {number}, {}: ", key.trim()),
        None => format!("line {number}: "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        let error = Profile::read(text).unwrap_err().to_string();
        assert!(!error.contains('\n'), "more than one line: {error}");
        error
    }

    #[test]
    fn every_built_in_profile_is_valid_and_says_what_it_is() {
        for built_in in BUILT_IN {
            let profile = Profile::read(built_in.name).unwrap();
            assert!(!profile.description.is_empty(), "{}", built_in.name);
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = error("kube-huge");
        assert!(error.contains("\"kube-huge\"") && error.contains("kube-large"), "{error}");
    }

    #[test]
    fn the_help_names_every_key() {
        let known = error("unknown = 1\n") + &error("[mix]\nunknown = 1\n");
        let keys: Vec<_> = known.split('`').skip(1).step_by(2).filter(|key| *key != "unknown").collect();
        assert!(keys.len() > 15, "{keys:?}");
        assert!(keys.iter().all(|key| KEYS_HELP.contains(key)), "{keys:?}");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let top = error("series = 10\nserie = 5\n");
        assert!(top.contains("line 2") && top.contains("`serie`"), "{top}");
        let nested = error("[mix]\nkafka = 1.0\n");
        assert!(nested.contains("line 2") && nested.contains("`kafka`"), "{nested}");
    }

    #[test]
    fn keys_can_be_changed_on_top_of_a_profile() {
        let change = |changes: &[&str]| {
            let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
            Profile::read_with("kube-small", &changes)
        };
        let plain = Profile::read("kube-small").unwrap();
        assert_eq!(change(&[]).unwrap(), plain);
        let changed = change(&["native_histogram_share=0", "mix.app = 1", "cluster=here"]).unwrap();
        assert_eq!((changed.native_histogram_share, changed.cluster.as_str()), (0.0, "here"));
        assert_eq!((changed.mix.app, changed.mix.apiserver), (1.0, plain.mix.apiserver));
        for (wrong, part) in [
            ("native_histogram_shares=0", "unknown field"),
            ("series=many", "invalid type"),
            ("series", "KEY=VALUE"),
            ("late_share=2", "not between 0 and 0.5"),
        ] {
            let error = change(&[wrong]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--set {wrong}: ")) && error.contains(part), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn an_impossible_value_is_named_with_its_bounds() {
        for (text, key) in [
            ("series = 0", "series"),
            ("series = 1000000000000", "series"),
            ("churn_per_hour = -0.1", "churn_per_hour"),
            ("churn_per_hour = nan", "churn_per_hour"),
            ("late_share = 0.6", "late_share"),
            ("late_rounds = 1", "late_rounds"),
            ("duplicate_share = inf", "duplicate_share"),
            ("cluster = \"\"", "cluster"),
            ("environment = \"a\\\"b\"", "environment"),
            ("[mix]\napp = -1", "mix.app"),
            ("[mix]", "mix"),
            ("series = \"many\"", "line 1, series"),
            ("series = ", "line 1"),
        ] {
            let error = error(&format!("{text}\n"));
            assert!(error.contains(key), "{text}: {error}");
        }
    }
}
