//! Flags for limits, relabelling and tenants by label: the files behind them, read and checked before anything starts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use annulus_shards::core::IngestRules;
use annulus_shards::limits::LimitsConfig;
use annulus_shards::relabel::parse_rules;

use super::command::IngestFlags;
use super::values::expand_variables;
use crate::host;

/// A file of limits or rules that is larger is another file.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Looks at the file may not follow each other faster.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// A file of limits, and what was in it at the last look.
#[derive(Debug, Clone)]
pub struct LimitsFile {
    path: PathBuf,
    content: String,
}

impl LimitsFile {
    /// The limits in the file, if its content is another than at the last look.
    ///
    /// # Errors
    /// When it cannot be read or is wrong; the next look is silent unless it changes again.
    pub fn look(&mut self) -> Option<Result<LimitsConfig, String>> {
        // Comparing the content, not its time: what is mounted into a pod changes by links that are moved.
        let content = match read(&self.path) {
            Ok(content) => content,
            Err(reason) => {
                let marker = format!("\0{reason}");
                let is_news = self.content != marker;
                self.content = marker;
                return is_news.then_some(Err(reason));
            }
        };
        if content == self.content {
            return None;
        }
        let config = parse_limits(&content).map_err(|reason| format!("{}: {reason}", self.path.display()));
        self.content = content;
        Some(config)
    }
}

/// What is done to requests before they are stored, and the file that may change it.
pub fn resolve(
    ingest: &IngestFlags,
    warnings: &mut Vec<String>,
) -> Result<(IngestRules, Option<(LimitsFile, Duration)>), String> {
    let limits_source = source("receive.limits-config", &ingest.limits, &ingest.limits_file, warnings)?;
    let mut limits = LimitsConfig::default();
    let mut limits_file = None;
    if let Some(Source { flag, content, path }) = limits_source {
        limits = parse_limits(&content).map_err(|reason| format!("--{flag}: {reason}"))?;
        warnings.append(&mut limits.warnings);
        limits_file = path
            .map(|path| (LimitsFile { path, content }, ingest.limits_look_interval.max(LOOK_INTERVAL_MIN)));
    }
    let relabel = match source("receive.relabel-config", &ingest.relabel, &ingest.relabel_file, warnings)? {
        Some(Source { flag, content, .. }) => {
            let content = expand(&content).map_err(|reason| format!("--{flag}: {reason}"))?;
            parse_rules(&content).map_err(|error| format!("--{flag}: {error}"))?
        }
        None => annulus_shards::relabel::Rules::default(),
    };
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
    Ok((rules, limits_file))
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
        let mut file = LimitsFile { path: path.clone(), content: yaml.to_owned() };
        assert!(file.look().is_none());
        std::fs::write(&path, yaml.replace('5', "6")).unwrap();
        assert_eq!(file.look().unwrap().unwrap().default.series_max, Some(6));
        assert!(file.look().is_none());
        std::fs::write(&path, "write: {defaults: {}}").unwrap();
        let error = file.look().unwrap().unwrap_err();
        assert!(error.contains("limits.yaml: ") && error.contains("defaults"), "{error}");
        assert!(file.look().is_none());
        std::fs::remove_file(&path).unwrap();
        assert!(file.look().unwrap().unwrap_err().contains("cannot read"));
        assert!(file.look().is_none());
        std::fs::write(&path, yaml).unwrap();
        assert_eq!(file.look().unwrap().unwrap().default.series_max, Some(5));
    }
}
