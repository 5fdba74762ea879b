//! Flags for limits, relabelling and tenants by label: the files behind them, read and checked before anything starts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use annulus_shards::core::IngestRules;
use annulus_shards::limits::LimitsConfig;
use annulus_shards::relabel::{Rules, parse_rules};

use super::command::IngestFlags;
use super::values::expand_variables;
use crate::host;

/// A file of limits or rules that is larger is another file.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Looks at the file may not follow each other faster.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// The files that are read again when they change.
#[derive(Debug, Clone)]
pub struct RuleFiles {
    /// Limits of tenants.
    pub limits: Option<RuleFile>,
    /// Relabelling rules.
    pub relabel: Option<RuleFile>,
    /// How often to look.
    pub look_interval: Duration,
}

/// A file of limits or of relabelling rules, and what was in it at the last look.
#[derive(Debug, Clone)]
pub struct RuleFile {
    path: PathBuf,
    content: String,
    /// Other content that one look has found: it is taken when the next one finds the same. A file that is written in
    /// place is empty or torn for a while, and what is left of it may be valid.
    seen: Option<String>,
}

impl RuleFile {
    /// The limits in the file, if the last two looks found the same other content.
    ///
    /// # Errors
    /// When it cannot be read or is wrong; the next look is silent unless it changes again.
    pub fn look_for_limits(&mut self) -> Option<Result<LimitsConfig, String>> {
        self.look(parse_limits)
    }

    /// The same of relabelling rules.
    ///
    /// # Errors
    /// The same.
    pub fn look_for_relabel(&mut self) -> Option<Result<Rules, String>> {
        self.look(parse_relabel)
    }

    fn look<T>(&mut self, parse: fn(&str) -> Result<T, String>) -> Option<Result<T, String>> {
        // Comparing the content, not its time: what is mounted into a pod changes by links that are moved.
        let content = match read(&self.path) {
            Ok(content) => content,
            Err(reason) => {
                let marker = format!("\0{reason}");
                return self.is_news(&marker).then(|| {
                    self.content = marker;
                    Err(reason)
                });
            }
        };
        if !self.is_news(&content) {
            return None;
        }
        let parsed = parse(&content).map_err(|reason| format!("{}: {reason}", self.path.display()));
        self.content = content;
        Some(parsed)
    }

    /// Whether this was found twice in a row and is not in effect.
    fn is_news(&mut self, content: &str) -> bool {
        if content == self.content {
            self.seen = None;
            return false;
        }
        if self.seen.as_deref() == Some(content) {
            self.seen = None;
            return true;
        }
        self.seen = Some(content.to_owned());
        false
    }
}

/// What is done to requests before they are stored, and the files that may change it.
pub fn resolve(ingest: &IngestFlags, warnings: &mut Vec<String>) -> Result<(IngestRules, RuleFiles), String> {
    let limits_source = source("receive.limits-config", &ingest.limits, &ingest.limits_file, warnings)?;
    let (mut limits, limits_file) = parse_source(limits_source, parse_limits)?;
    warnings.append(&mut limits.warnings);
    let relabel_source = source("receive.relabel-config", &ingest.relabel, &ingest.relabel_file, warnings)?;
    let (relabel, relabel_file) = parse_source(relabel_source, parse_relabel)?;
    let memory_bytes_max =
        ingest.memory_bytes_max.unwrap_or_else(|| host::memory_bytes().map_or(0, |bytes| bytes / 4 * 3));
    let label = &ingest.split_tenant_label;
    let tenant_label = (!label.is_empty()).then(|| label.as_str().into());
    let rules = IngestRules {
        limits,
        memory_bytes_max,
        tenants_max: ingest.tenants_max,
        relabel: Arc::new(relabel),
        tenant_label,
    };
    let look_interval = ingest.limits_look_interval.max(LOOK_INTERVAL_MIN);
    Ok((rules, RuleFiles { limits: limits_file, relabel: relabel_file, look_interval }))
}

/// What a source says, and the file that it is, if it is one.
fn parse_source<T: Default>(
    source: Option<Source>,
    parse: fn(&str) -> Result<T, String>,
) -> Result<(T, Option<RuleFile>), String> {
    let Some(Source { flag, content, path }) = source else { return Ok((T::default(), None)) };
    let parsed = parse(&content).map_err(|reason| format!("--{flag}: {reason}"))?;
    Ok((parsed, path.map(|path| RuleFile { path, content, seen: None })))
}

/// Where YAML comes from.
struct Source {
    flag: String,
    content: String,
    path: Option<PathBuf>,
}

/// The content of one flag or of the file that another names. Charts pass empty values for what is not configured.
fn source(
    flag: &str,
    content: &Option<String>,
    file: &Option<PathBuf>,
    warnings: &mut Vec<String>,
) -> Result<Option<Source>, String> {
    let content = content.as_ref().filter(|content| !content.trim().is_empty());
    let Some(path) = file.as_ref().filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(content.map(|content| Source {
            flag: flag.to_owned(),
            content: content.clone(),
            path: None,
        }));
    };
    if content.is_some() {
        warnings.push(format!("--{flag} and --{flag}-file are both given: the file is used"));
    }
    let flag = format!("{flag}-file");
    let content = read(path).map_err(|reason| format!("--{flag}: {reason}"))?;
    Ok(Some(Source { flag, content, path: Some(path.clone()) }))
}

fn read(path: &Path) -> Result<String, String> {
    let wrong = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let bytes = std::fs::metadata(path).map_err(wrong)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(format!("{} has {bytes} bytes, more than {FILE_BYTES_MAX}", path.display()));
    }
    std::fs::read_to_string(path).map_err(wrong)
}

fn parse_limits(content: &str) -> Result<LimitsConfig, String> {
    LimitsConfig::parse(&expand(content)?).map_err(|error| error.to_string())
}

fn parse_relabel(content: &str) -> Result<Rules, String> {
    parse_rules(&expand(content)?).map_err(|error| error.to_string())
}

fn expand(content: &str) -> Result<String, String> {
    expand_variables(content, |name| std::env::var(name).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_news_only_when_it_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("limits.yaml");
        let yaml = "write: {default: {head_series_limit: 5}}";
        std::fs::write(&path, yaml).unwrap();
        let mut file = RuleFile { path: path.clone(), content: yaml.to_owned(), seen: None };
        assert!(file.look_for_limits().is_none());
        std::fs::write(&path, yaml.replace('5', "6")).unwrap();
        assert!(file.look_for_limits().is_none());
        assert_eq!(file.look_for_limits().unwrap().unwrap().default.series_max, Some(6));
        assert!(file.look_for_limits().is_none());
        std::fs::write(&path, "write: {defaults: {}}").unwrap();
        assert!(file.look_for_limits().is_none());
        let error = file.look_for_limits().unwrap().unwrap_err();
        assert!(error.contains("limits.yaml: ") && error.contains("defaults"), "{error}");
        assert!(file.look_for_limits().is_none());
        std::fs::remove_file(&path).unwrap();
        assert!(file.look_for_limits().is_none());
        assert!(file.look_for_limits().unwrap().unwrap_err().contains("cannot read"));
        assert!(file.look_for_limits().is_none());
        std::fs::write(&path, yaml).unwrap();
        assert!(file.look_for_limits().is_none());
        assert_eq!(file.look_for_limits().unwrap().unwrap().default.series_max, Some(5));
    }

    #[test]
    fn a_file_that_is_being_written_lifts_no_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("limits.yaml");
        let yaml = "write: {default: {head_series_limit: 5}}";
        let mut file = RuleFile { path: path.clone(), content: yaml.to_owned(), seen: None };
        for _ in 0..3 {
            std::fs::write(&path, "").unwrap();
            assert!(file.look_for_limits().is_none());
            std::fs::write(&path, yaml).unwrap();
            assert!(file.look_for_limits().is_none());
        }
        std::fs::write(&path, "").unwrap();
        assert!(file.look_for_limits().is_none());
        assert_eq!(file.look_for_limits().unwrap().unwrap().default.series_max, None);
    }
}
