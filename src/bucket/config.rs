//! `objstore.yml`, the file by which Thanos' components are told where their bucket is.
//!
//! Keys are checked strictly, as in Thanos: a misspelt one is an error that names it and its line. `$(VARIABLE)` is
//! expanded by the command line's layer before the text arrives here. No message shows a value of the file, because
//! it holds keys.

use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::name::check_folder;
use super::s3::config::{RawS3, S3Config};

/// Kinds of storage that Thanos knows and this program does not.
const OTHER_KINDS: [&str; 8] = ["GCS", "AZURE", "SWIFT", "COS", "ALIYUNOSS", "BOS", "OCI", "OBS"];

/// A bucket as an operator describes it.
#[derive(Debug, Clone)]
pub struct BucketConfig {
    /// Where objects are kept.
    pub storage: Storage,
    /// The folder inside the bucket that stands for the whole of it; without slashes at its ends, often empty.
    pub prefix: String,
    /// What the operator should know: settings that have no effect here.
    pub warnings: Vec<String>,
}

/// Where objects are kept.
#[derive(Debug, Clone)]
pub enum Storage {
    /// A server with S3's interface.
    S3(Box<S3Config>),
    /// A directory, for tests and for shared file systems.
    Filesystem {
        /// The directory that holds everything.
        directory: PathBuf,
    },
}

/// A file that is not a usable description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not YAML, an unknown key, or a value of the wrong type.
    #[error("objstore.yml: {reason}")]
    Syntax {
        /// What the parser says, with the line.
        reason: String,
    },
    /// A kind of storage that Thanos has and this program lacks.
    #[error(
        "objstore.yml: type {kind} is known to Thanos, but not supported by annulus (use S3 or FILESYSTEM)"
    )]
    Unsupported {
        /// The kind, as written.
        kind: String,
    },
    /// A kind of storage that nobody knows.
    #[error("objstore.yml: type {kind:?} is unknown (use S3 or FILESYSTEM)")]
    UnknownKind {
        /// The kind, as written.
        kind: String,
    },
    /// Values that are missing, or do not fit each other.
    #[error("objstore.yml: {reason}")]
    Value {
        /// The key and what is wrong with it.
        reason: String,
    },
}

impl ConfigError {
    /// A value that is missing or wrong.
    pub(super) fn value(reason: impl Into<String>) -> ConfigError {
        ConfigError::Value { reason: reason.into() }
    }
}

/// The file, with the part that depends on its kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File<C> {
    r#type: String,
    config: Option<C>,
    prefix: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawFilesystem {
    directory: Option<String>,
}

/// Reads the file's text.
pub fn parse(yaml: &str) -> Result<BucketConfig, ConfigError> {
    // The first pass only asks for the kind: it says what the rest has to look like.
    let kind = read::<IgnoredAny>(yaml)?.r#type;
    match kind.to_ascii_uppercase().as_str() {
        "S3" => {
            let file = read::<RawS3>(yaml)?;
            let (config, warnings) = S3Config::from_raw(file.config.unwrap_or_default())?;
            finish(Storage::S3(Box::new(config)), file.prefix, warnings)
        }
        "FILESYSTEM" => {
            let file = read::<RawFilesystem>(yaml)?;
            let directory = file.config.unwrap_or_default().directory.unwrap_or_default();
            if directory.is_empty() {
                return Err(ConfigError::value("FILESYSTEM needs config.directory"));
            }
            finish(Storage::Filesystem { directory: directory.into() }, file.prefix, Vec::new())
        }
        other if OTHER_KINDS.contains(&other) => Err(ConfigError::Unsupported { kind }),
        _ => Err(ConfigError::UnknownKind { kind }),
    }
}

fn finish(
    storage: Storage,
    prefix: Option<String>,
    warnings: Vec<String>,
) -> Result<BucketConfig, ConfigError> {
    let prefix = prefix.unwrap_or_default().trim_matches('/').to_owned();
    check_folder(&prefix).map_err(|error| ConfigError::value(format!("prefix: {error}")))?;
    Ok(BucketConfig { storage, prefix, warnings })
}

fn read<C: DeserializeOwned>(yaml: &str) -> Result<File<C>, ConfigError> {
    serde_saphyr::from_str(yaml).map_err(|error| {
        // The parser likes to show the lines around an error; those may hold the secret key.
        ConfigError::Syntax { reason: error.without_snippet().to_string() }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::s3::config::Lookup;
    use super::*;

    const SEED: &str = r#"
type: S3
config:
  bucket: "thanos-metrics"
  endpoint: "minio.monitoring.svc.cluster.local:9000"
  access_key: "THANOS_ACCESS_KEY"
  secret_key: "THANOS_SECRET_KEY"
  insecure: true          # set false if using TLS to object store
  signature_version2: false
  http_config:
    idle_conn_timeout: 90s
    response_header_timeout: 2m
"#;

    fn s3(yaml: &str) -> S3Config {
        match parse(yaml).unwrap().storage {
            Storage::S3(config) => *config,
            Storage::Filesystem { .. } => panic!("not an S3 bucket"),
        }
    }

    fn message(yaml: &str) -> String {
        parse(yaml).unwrap_err().to_string()
    }

    #[test]
    fn the_usual_file_is_read_without_a_warning() {
        let config = parse(SEED).unwrap();
        assert_eq!((config.prefix.as_str(), config.warnings.len()), ("", 0));
        let config = s3(SEED);
        assert_eq!(config.bucket, "thanos-metrics");
        assert_eq!(config.endpoint, "minio.monitoring.svc.cluster.local:9000");
        assert!(config.insecure);
        assert_eq!(config.lookup, Lookup::Auto);
        assert_eq!(config.part_size_bytes, 64 << 20);
        assert_eq!(config.http.idle_conn_timeout, Duration::from_secs(90));
        assert_eq!(config.http.response_header_timeout, Duration::from_secs(120));
        assert_eq!(config.http.tls_handshake_timeout, Duration::from_secs(10));
        assert!(config.send_content_md5);
    }

    #[test]
    fn a_misspelt_key_is_named_with_its_line() {
        let text = message(&SEED.replace("  insecure:", "  insecur:"));
        assert!(text.contains("insecur") && text.contains("line 8"), "{text}");
        let text = message(&format!("{SEED}prefixes: x\n"));
        assert!(text.contains("prefixes"), "{text}");
        let text = message(&SEED.replace("idle_conn_timeout: 90s", "idle_timeout: 90s"));
        assert!(text.contains("idle_timeout"), "{text}");
        assert!(message("type: FILESYSTEM\nconfig: {directory: /x, bucket: y}").contains("bucket"));
    }

    #[test]
    fn no_message_shows_a_key() {
        for broken in [
            SEED.replace("  insecure:", "  insecur:"),
            SEED.replace("insecure: true", "insecure: maybe"),
            SEED.replace("access_key: \"THANOS_ACCESS_KEY\"", "access_key: [a]"),
            SEED.replace("90s", "soon"),
        ] {
            let text = message(&broken);
            assert!(!text.contains("SECRET_KEY\"") && !text.contains("THANOS_SECRET_KEY"), "{text}");
        }
        assert!(!format!("{:?}", parse(SEED).unwrap()).contains("THANOS_SECRET_KEY"));
    }

    #[test]
    fn kinds_are_named_in_any_case() {
        assert!(parse(&SEED.replace("type: S3", "type: s3")).is_ok());
        assert!(matches!(
            parse("type: filesystem\nconfig:\n  directory: /data\nprefix: /a/b/\n").unwrap(),
            BucketConfig { storage: Storage::Filesystem { directory }, prefix, .. }
                if directory.as_os_str() == "/data" && prefix == "a/b"
        ));
    }

    #[test]
    fn kinds_of_thanos_that_are_missing_here_are_told_from_mistakes() {
        let gcs = message("type: GCS\nconfig:\n  bucket: x\n  service_account: y\n");
        assert!(gcs.contains("known to Thanos, but not supported by annulus"), "{gcs}");
        assert!(message("type: S4\nconfig: {}").contains("unknown"));
        assert!(message("config: {}").contains("type"));
        assert!(message("").contains("objstore.yml"));
        assert!(message("type: FILESYSTEM").contains("config.directory"));
        assert!(message("type: FILESYSTEM\nconfig: {directory: x}\nprefix: a/../b").contains("prefix"));
    }

    #[test]
    fn the_file_may_be_json() {
        assert_eq!(s3(r#"{"type":"S3","config":{"bucket":"b","endpoint":"e:1"}}"#).endpoint, "e:1");
    }

    #[test]
    fn empty_values_mean_the_default() {
        let config = s3(
            "type: S3\nconfig:\n  bucket: b\n  endpoint: e\n  region:\n  http_config:\n  sse_config: {}\n",
        );
        assert_eq!(config.region, None);
        assert_eq!(config.http.idle_conn_timeout, Duration::from_secs(90));
    }

    #[test]
    fn keys_of_digits_are_text() {
        let config = s3("type: S3\nconfig: {bucket: 2024, endpoint: e, access_key: 0123, secret_key: 1e3}\n");
        let keys = config.keys.unwrap();
        assert_eq!(
            (config.bucket.as_str(), keys.access.as_str(), keys.secret.as_str()),
            ("2024", "0123", "1e3")
        );
    }
}
