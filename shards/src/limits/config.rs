//! The file of limits: Thanos Receive's, with a section of our own under each tenant. Keys are checked strictly.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// A tenant without an entry of its own has the default; more entries than this are a mistake.
const TENANTS_MAX: usize = 10_000;

/// Why a text is not a description of limits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitsConfigError {
    /// Not YAML, an unknown key, or a value of the wrong type.
    #[error("{0}")]
    Syntax(String),
    /// Values that are wrong, or do not fit each other.
    #[error("{0}")]
    Value(String),
}

/// Limits as an operator describes them. The default is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Write requests that may be worked on at once; others wait.
    pub concurrency_max: Option<usize>,
    /// For tenants without an entry.
    pub default: TenantRules,
    /// By tenant, with what an entry leaves out taken from the default.
    pub tenants: HashMap<String, TenantRules>,
    /// Settings that have no effect here.
    pub warnings: Vec<String>,
}

/// Limits of one tenant; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TenantRules {
    /// Bytes of a request, as sent and after decompression.
    pub request_bytes_max: Option<u64>,
    /// Series of a request.
    pub request_series_max: Option<u64>,
    /// Float samples of a request.
    pub request_samples_max: Option<u64>,
    /// Series in the head of this node.
    pub series_max: Option<u64>,
    /// Samples of all kinds per second, and how many may come at once.
    pub rate: Option<SampleRate>,
    /// Labels of a series.
    pub labels_max: Option<u64>,
    /// Bytes of a label's name.
    pub label_name_bytes_max: Option<u64>,
    /// Bytes of a label's value.
    pub label_value_bytes_max: Option<u64>,
}

/// How many samples a tenant may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleRate {
    /// In the long run.
    pub per_second: u64,
    /// At once, after a pause.
    pub burst: u64,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawFile {
    write: Option<RawWrite>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawWrite {
    global: Option<RawGlobal>,
    default: Option<RawTenant>,
    tenants: Option<HashMap<String, Option<RawTenant>>>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawGlobal {
    max_concurrency: Option<u64>,
    meta_monitoring_url: Option<String>,
    meta_monitoring_http_client: Option<IgnoredAny>,
    meta_monitoring_limit_query: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawTenant {
    request: Option<RawRequest>,
    head_series_limit: Option<u64>,
    annulus: Option<RawOurs>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawRequest {
    size_bytes_limit: Option<u64>,
    series_limit: Option<u64>,
    samples_limit: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawOurs {
    samples_per_second: Option<u64>,
    samples_burst: Option<u64>,
    labels_per_series: Option<u64>,
    label_name_bytes: Option<u64>,
    label_value_bytes: Option<u64>,
}

impl LimitsConfig {
    /// Reads a file's text; an empty one sets no limit.
    pub fn parse(yaml: &str) -> Result<LimitsConfig, LimitsConfigError> {
        let raw: Option<RawFile> = serde_saphyr::from_str(yaml)
            .map_err(|error| LimitsConfigError::Syntax(error.without_snippet().to_string()))?;
        let raw = raw.unwrap_or_default().write.unwrap_or_default();
        let global = raw.global.unwrap_or_default();
        let warnings = global.warnings();
        let none = TenantRules::default();
        let default = raw
            .default
            .unwrap_or_default()
            .over(&none)
            .map_err(|reason| LimitsConfigError::Value(format!("write.default: {reason}")))?;
        let raw_tenants = raw.tenants.unwrap_or_default();
        if raw_tenants.len() > TENANTS_MAX {
            let reason = format!("write.tenants: {} tenants are more than {TENANTS_MAX}", raw_tenants.len());
            return Err(LimitsConfigError::Value(reason));
        }
        let mut tenants = HashMap::with_capacity(raw_tenants.len());
        for (tenant, raw) in raw_tenants {
            let rules = raw
                .unwrap_or_default()
                .over(&default)
                .map_err(|reason| LimitsConfigError::Value(format!("write.tenants.{tenant}: {reason}")))?;
            tenants.insert(tenant, rules);
        }
        let concurrency_max = limit(global.max_concurrency).map(|count| count.min(1 << 20) as usize);
        Ok(LimitsConfig { concurrency_max, default, tenants, warnings })
    }

    /// The limits of a tenant.
    pub fn of(&self, tenant: &str) -> TenantRules {
        self.tenants.get(tenant).copied().unwrap_or(self.default)
    }
}

impl RawGlobal {
    fn warnings(&self) -> Vec<String> {
        let is_given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let keys = [
            ("meta_monitoring_url", is_given(&self.meta_monitoring_url)),
            ("meta_monitoring_limit_query", is_given(&self.meta_monitoring_limit_query)),
            ("meta_monitoring_http_client", self.meta_monitoring_http_client.is_some()),
        ];
        let given = keys.into_iter().filter(|(_, is_given)| *is_given);
        given
            .map(|(key, _)| {
                format!(
                    "write.global.{key} has no effect: head_series_limit counts the series of this node itself, at once"
                )
            })
            .collect()
    }
}

impl RawTenant {
    /// The limits, with what is left out taken from others. In the file, 0 is no limit.
    fn over(self, default: &TenantRules) -> Result<TenantRules, String> {
        let request = self.request.unwrap_or_default();
        let ours = self.annulus.unwrap_or_default();
        let rate = match (ours.samples_per_second, ours.samples_burst) {
            (None, None) => default.rate,
            (Some(0), None) => None,
            (None | Some(0), Some(_)) => {
                return Err("annulus.samples_burst needs annulus.samples_per_second".to_owned());
            }
            (Some(per_second), burst) => {
                // Without a word on it, what Prometheus sends after a short pause passes.
                let burst = burst.unwrap_or(per_second.saturating_mul(10)).max(1);
                Some(SampleRate { per_second, burst })
            }
        };
        let or = |value: Option<u64>, default| if value.is_some() { limit(value) } else { default };
        Ok(TenantRules {
            request_bytes_max: or(request.size_bytes_limit, default.request_bytes_max),
            request_series_max: or(request.series_limit, default.request_series_max),
            request_samples_max: or(request.samples_limit, default.request_samples_max),
            series_max: or(self.head_series_limit, default.series_max),
            rate,
            labels_max: or(ours.labels_per_series, default.labels_max),
            label_name_bytes_max: or(ours.label_name_bytes, default.label_name_bytes_max),
            label_value_bytes_max: or(ours.label_value_bytes, default.label_value_bytes_max),
        })
    }
}

fn limit(value: Option<u64>) -> Option<u64> {
    value.filter(|value| *value > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = r#"
write:
  global:
    max_concurrency: 30
    meta_monitoring_url: "http://localhost:9090"
    meta_monitoring_limit_query: "sum(prometheus_tsdb_head_series) by (tenant)"
  default:
    request:
      size_bytes_limit: 1024
      series_limit: 1000
      samples_limit: 10
    head_series_limit: 1000
    annulus:
      samples_per_second: 500
  tenants:
    acme:
      request:
        size_bytes_limit: 0
        series_limit: 7
      head_series_limit: 0
    ajax:
      annulus: {samples_per_second: 10, samples_burst: 5, labels_per_series: 30}
    empty:
"#;

    fn message(yaml: &str) -> String {
        LimitsConfig::parse(yaml).unwrap_err().to_string()
    }

    #[test]
    fn tenants_take_from_the_default_what_they_leave_out() {
        let config = LimitsConfig::parse(FILE).unwrap();
        assert_eq!(config.concurrency_max, Some(30));
        let default = TenantRules {
            request_bytes_max: Some(1024),
            request_series_max: Some(1000),
            request_samples_max: Some(10),
            series_max: Some(1000),
            rate: Some(SampleRate { per_second: 500, burst: 5000 }),
            ..TenantRules::default()
        };
        assert_eq!((config.of("other"), config.of("empty")), (default, default));
        let acme =
            TenantRules { request_bytes_max: None, request_series_max: Some(7), series_max: None, ..default };
        assert_eq!(config.of("acme"), acme);
        let rate = Some(SampleRate { per_second: 10, burst: 5 });
        assert_eq!(config.of("ajax"), TenantRules { rate, labels_max: Some(30), ..default });
        assert_eq!(config.warnings.len(), 2);
    }

    #[test]
    fn an_empty_file_sets_no_limit() {
        for yaml in ["", "write:", "{}", "write: {global: , default: , tenants: }"] {
            assert_eq!(LimitsConfig::parse(yaml), Ok(LimitsConfig::default()), "{yaml}");
        }
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        let text = message(&FILE.replace("series_limit: 7", "serie_limit: 7"));
        assert!(text.contains("serie_limit") && text.contains("line 19"), "{text}");
        assert!(!text.contains('\n'), "{text}");
        assert!(message(&FILE.replace("samples_limit: 10", "samples_limit: -1")).contains("line 11"));
        assert!(
            message("write: {default: {annulus: {samples_burst: 5}}}").contains("write.default: annulus")
        );
        let text = message("write: {tenants: {a: {annulus: {samples_per_second: 0, samples_burst: 5}}}}");
        assert!(text.contains("write.tenants.a:"), "{text}");
        assert!(LimitsConfig::parse("write: [1]").is_err());
    }

    proptest! {
        #[test]
        fn a_damaged_file_is_an_error_or_another_file(
            at in 0..FILE.len(), byte in any::<u8>(), cut in any::<bool>(),
        ) {
            let mut bytes = FILE.as_bytes().to_vec();
            bytes[at] = byte;
            if cut {
                bytes.truncate(at);
            }
            let _ = LimitsConfig::parse(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,200}") {
            let _ = LimitsConfig::parse(&text);
        }
    }
}
