//! The `config` part of an S3 bucket's `objstore.yml`: as written, and with defaults and checks applied.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::bucket::config::ConfigError;
use crate::duration::parse_duration_ms;

/// Parts of multipart uploads, and the size above which an object is uploaded in parts.
const PART_SIZE_BYTES_DEFAULT: u64 = 64 << 20;

/// S3's own limits of a part.
const PART_SIZE_BYTES_MIN: u64 = 5 << 20;
const PART_SIZE_BYTES_MAX: u64 = 5 << 30;

/// Tries of one request when the file does not say: those of the client that Thanos uses.
const TRIES_DEFAULT: u32 = 10;

/// The metadata key that sets the storage class instead.
const STORAGE_CLASS_KEY: &str = "x-amz-storage-class";

/// How to reach and use a bucket with S3's interface.
#[derive(Debug, Clone)]
pub struct S3Config {
    /// The bucket's name.
    pub bucket: String,
    /// `host` or `host:port`.
    pub endpoint: String,
    /// The region; `None` asks the server.
    pub region: Option<String>,
    /// The keys; `None` looks where AWS' tools look.
    pub keys: Option<Keys>,
    /// Plain HTTP instead of TLS.
    pub insecure: bool,
    /// Whether Amazon's hosts that also have IPv6 addresses are left alone.
    pub disable_dualstack: bool,
    /// Where the bucket's name stands in URLs.
    pub lookup: Lookup,
    /// Lists with the first version of the interface.
    pub list_v1: bool,
    /// Metadata of every object written.
    pub user_metadata: BTreeMap<String, String>,
    /// The storage class of every object written.
    pub storage_class: Option<String>,
    /// The size of parts.
    pub part_size_bytes: u64,
    /// Sends each object whole, whatever its size.
    pub disable_multipart: bool,
    /// Sends the MD5 of bodies, which the server checks.
    pub send_content_md5: bool,
    /// Tries of one request.
    pub tries_max: u32,
    /// Encryption on the server.
    pub encryption: Option<Encryption>,
    /// The HTTP client.
    pub http: HttpConfig,
}

/// Fixed keys.
#[derive(Clone)]
pub struct Keys {
    /// Public half.
    pub access: String,
    /// Secret half.
    pub secret: String,
    /// Goes with temporary keys.
    pub session_token: Option<String>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("access", &self.access).finish_non_exhaustive()
    }
}

/// Where the bucket's name stands in URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// In the host for services known to want it, otherwise in the path.
    Auto,
    /// `bucket.host/object`.
    VirtualHosted,
    /// `host/bucket/object`.
    Path,
}

/// Encryption on the server.
#[derive(Debug, Clone)]
pub enum Encryption {
    /// With the server's own key.
    SseS3,
    /// With a key of its key service.
    SseKms {
        /// Which one.
        key_id: String,
        /// Pairs that are bound to the encryption.
        context: BTreeMap<String, String>,
    },
    /// With a key that is sent along with every request.
    SseC {
        /// The file that holds its 32 bytes.
        key_file: PathBuf,
    },
}

/// The HTTP client.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// How long an unused connection is kept.
    pub idle_conn_timeout: Duration,
    /// How long to wait when nothing moves: for an answer, or for the next bytes of a body.
    pub response_header_timeout: Duration,
    /// How long setting up TLS may take.
    pub tls_handshake_timeout: Duration,
    /// Unused connections kept.
    pub idle_conns_max: usize,
    /// Requests at once; 0 is no limit.
    pub conns_max: usize,
    /// Accepts any certificate.
    pub insecure_skip_verify: bool,
    /// Certificates of authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate and key.
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// The name that the server's certificate has to hold, if it is not the endpoint's.
    pub server_name: Option<String>,
}

/// The part as written. Everything may be left out or empty.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(in crate::bucket) struct RawS3 {
    bucket: Option<String>,
    endpoint: Option<String>,
    region: Option<String>,
    disable_dualstack: Option<bool>,
    aws_sdk_auth: Option<bool>,
    access_key: Option<String>,
    insecure: Option<bool>,
    signature_version2: Option<bool>,
    secret_key: Option<String>,
    session_token: Option<String>,
    put_user_metadata: Option<BTreeMap<String, String>>,
    http_config: Option<RawHttp>,
    trace: Option<RawTrace>,
    list_objects_version: Option<String>,
    bucket_lookup_type: Option<String>,
    send_content_md5: Option<bool>,
    disable_multipart: Option<bool>,
    part_size: Option<u64>,
    sse_config: Option<RawSse>,
    sts_endpoint: Option<String>,
    max_retries: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawHttp {
    idle_conn_timeout: Option<String>,
    response_header_timeout: Option<String>,
    insecure_skip_verify: Option<bool>,
    tls_handshake_timeout: Option<String>,
    expect_continue_timeout: Option<String>,
    max_idle_conns: Option<usize>,
    max_idle_conns_per_host: Option<usize>,
    max_conns_per_host: Option<usize>,
    disable_compression: Option<bool>,
    tls_config: Option<RawTls>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawTls {
    ca_file: Option<String>,
    cert_file: Option<String>,
    key_file: Option<String>,
    server_name: Option<String>,
    insecure_skip_verify: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawTrace {
    enable: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RawSse {
    r#type: Option<String>,
    kms_key_id: Option<String>,
    kms_encryption_context: Option<BTreeMap<String, String>>,
    encryption_key: Option<String>,
}

impl S3Config {
    /// Applies defaults and checks; the second value says which settings have no effect.
    pub(in crate::bucket) fn from_raw(raw: RawS3) -> Result<(S3Config, Vec<String>), ConfigError> {
        let warnings = raw.warnings();
        let endpoint = check_endpoint(raw.endpoint, raw.insecure.unwrap_or(false))?;
        let keys = keys(raw.access_key, raw.secret_key, raw.session_token)?;
        if raw.aws_sdk_auth == Some(true) && keys.is_some() {
            return Err(ConfigError::value("aws_sdk_auth and access_key exclude each other"));
        }
        let lookup = match raw.bucket_lookup_type.as_deref().unwrap_or("") {
            "" | "auto" => Lookup::Auto,
            "virtual-hosted" => Lookup::VirtualHosted,
            "path" => Lookup::Path,
            _ => return Err(ConfigError::value("bucket_lookup_type is auto, virtual-hosted or path")),
        };
        let list_v1 = match raw.list_objects_version.as_deref().unwrap_or("") {
            "" | "v2" => false,
            "v1" => true,
            _ => return Err(ConfigError::value("list_objects_version is v1 or v2")),
        };
        let part_size_bytes = raw.part_size.filter(|size| *size > 0).unwrap_or(PART_SIZE_BYTES_DEFAULT);
        if !(PART_SIZE_BYTES_MIN..=PART_SIZE_BYTES_MAX).contains(&part_size_bytes) {
            return Err(ConfigError::value("part_size is from 5242880 (5 MiB) to 5368709120 (5 GiB)"));
        }
        let mut user_metadata = raw.put_user_metadata.unwrap_or_default();
        let class_key = user_metadata.keys().find(|key| key.eq_ignore_ascii_case(STORAGE_CLASS_KEY)).cloned();
        let storage_class = class_key.and_then(|key| user_metadata.remove(&key));
        let config = S3Config {
            bucket: text(raw.bucket).ok_or_else(|| ConfigError::value("S3 needs config.bucket"))?,
            endpoint,
            region: text(raw.region),
            keys,
            insecure: raw.insecure.unwrap_or(false),
            disable_dualstack: raw.disable_dualstack.unwrap_or(false),
            lookup,
            list_v1,
            user_metadata,
            storage_class,
            part_size_bytes,
            disable_multipart: raw.disable_multipart.unwrap_or(false),
            send_content_md5: raw.send_content_md5.unwrap_or(true),
            tries_max: raw.max_retries.filter(|tries| *tries > 0).unwrap_or(TRIES_DEFAULT),
            encryption: encryption(raw.sse_config.unwrap_or_default())?,
            http: http(raw.http_config.unwrap_or_default())?,
        };
        Ok((config, warnings))
    }
}

impl RawS3 {
    fn warnings(&self) -> Vec<String> {
        let http = self.http_config.as_ref();
        let trace = self.trace.as_ref().and_then(|trace| trace.enable);
        [
            (
                self.signature_version2 == Some(true),
                "signature_version2 has no effect: requests are signed with version 4, which every current server takes",
            ),
            (
                self.aws_sdk_auth == Some(true),
                "aws_sdk_auth: keys are taken from AWS' variables, the shared credentials file, a web identity, the \
                 container or the instance; sign-on sessions and profiles that assume a role are not supported",
            ),
            (
                text(self.sts_endpoint.clone()).is_some(),
                "sts_endpoint has no effect: web identities are exchanged at sts.amazonaws.com",
            ),
            (trace == Some(true), "trace has no effect: use --log.level=debug"),
            (
                http.is_some_and(|http| http.expect_continue_timeout.is_some()),
                "http_config.expect_continue_timeout has no effect: requests do not ask before they send a body",
            ),
            (
                http.is_some_and(|http| is_zero(http.response_header_timeout.as_ref())),
                "http_config.response_header_timeout: 0 has no effect: a server that is silent for 2m is given up",
            ),
        ]
        .into_iter()
        .filter(|(applies, _)| *applies)
        .map(|(_, warning)| format!("objstore.yml: {warning}"))
        .collect()
    }
}

/// The value, unless it is missing or empty: Thanos does not tell these apart.
fn text(value: Option<String>) -> Option<String> {
    value.filter(|text| !text.is_empty())
}

/// Leaves out the default port, which HTTP clients leave out of the header that is signed.
fn check_endpoint(endpoint: Option<String>, insecure: bool) -> Result<String, ConfigError> {
    let endpoint = text(endpoint).ok_or_else(|| ConfigError::value("S3 needs config.endpoint"))?;
    if endpoint.contains("://") {
        return Err(ConfigError::value(
            "endpoint is host:port without a scheme (insecure chooses http or https)",
        ));
    }
    if endpoint.contains(['/', '?', '#', '@', ' ']) {
        return Err(ConfigError::value("endpoint is host:port and nothing else"));
    }
    let default_port = if insecure { ":80" } else { ":443" };
    Ok(endpoint.strip_suffix(default_port).unwrap_or(&endpoint).to_owned())
}

fn keys(
    access: Option<String>,
    secret: Option<String>,
    session_token: Option<String>,
) -> Result<Option<Keys>, ConfigError> {
    match (text(access), text(secret)) {
        (Some(access), Some(secret)) => Ok(Some(Keys { access, secret, session_token: text(session_token) })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(ConfigError::value("access_key needs secret_key")),
        (None, Some(_)) => Err(ConfigError::value("secret_key needs access_key")),
    }
}

fn encryption(raw: RawSse) -> Result<Option<Encryption>, ConfigError> {
    match raw.r#type.as_deref().unwrap_or("") {
        "" => Ok(None),
        "SSE-S3" => Ok(Some(Encryption::SseS3)),
        "SSE-KMS" => {
            let key_id = text(raw.kms_key_id)
                .ok_or_else(|| ConfigError::value("sse_config of type SSE-KMS needs kms_key_id"))?;
            Ok(Some(Encryption::SseKms { key_id, context: raw.kms_encryption_context.unwrap_or_default() }))
        }
        "SSE-C" => {
            let key_file = text(raw.encryption_key)
                .ok_or_else(|| ConfigError::value("sse_config of type SSE-C needs encryption_key, a file"))?;
            Ok(Some(Encryption::SseC { key_file: key_file.into() }))
        }
        _ => Err(ConfigError::value("sse_config.type is SSE-S3, SSE-KMS or SSE-C")),
    }
}

fn http(raw: RawHttp) -> Result<HttpConfig, ConfigError> {
    let tls = raw.tls_config.unwrap_or_default();
    let client_cert = match (text(tls.cert_file), text(tls.key_file)) {
        (Some(cert), Some(key)) => Some((cert.into(), key.into())),
        (None, None) => None,
        _ => return Err(ConfigError::value("tls_config.cert_file and key_file need each other")),
    };
    duration("expect_continue_timeout", raw.expect_continue_timeout, 1)?;
    // Bodies are never compressed; reading the key keeps the file valid in either case.
    let _ = raw.disable_compression;
    let idle_max = |count: Option<usize>| match count.unwrap_or(100) {
        0 => usize::MAX,
        count => count,
    };
    Ok(HttpConfig {
        idle_conn_timeout: duration("idle_conn_timeout", raw.idle_conn_timeout, 90)?,
        response_header_timeout: duration("response_header_timeout", raw.response_header_timeout, 120)?,
        tls_handshake_timeout: duration("tls_handshake_timeout", raw.tls_handshake_timeout, 10)?,
        idle_conns_max: idle_max(raw.max_idle_conns).min(idle_max(raw.max_idle_conns_per_host)),
        conns_max: raw.max_conns_per_host.unwrap_or(0),
        insecure_skip_verify: raw.insecure_skip_verify == Some(true)
            || tls.insecure_skip_verify == Some(true),
        ca_file: text(tls.ca_file).map(PathBuf::from),
        client_cert,
        server_name: text(tls.server_name),
    })
}

fn duration(key: &str, value: Option<String>, default_seconds: u64) -> Result<Duration, ConfigError> {
    let Some(value) = text(value) else { return Ok(Duration::from_secs(default_seconds)) };
    let ms = parse_duration_ms(&value)
        .map_err(|_| ConfigError::value(format!("http_config.{key} is not a duration such as 90s or 2m")))?;
    // In Go zero waits for ever, which nothing here does.
    let default = Duration::from_secs(default_seconds);
    Ok(Some(Duration::from_millis(ms.unsigned_abs())).filter(|time| !time.is_zero()).unwrap_or(default))
}

/// Whether a duration is written, and is zero.
fn is_zero(value: Option<&String>) -> bool {
    value.is_some_and(|text| parse_duration_ms(text) == Ok(0))
}

#[cfg(test)]
mod tests {
    use super::super::super::config::{Storage, parse};
    use super::*;

    fn with(lines: &str) -> Result<(S3Config, Vec<String>), ConfigError> {
        let yaml = format!("type: S3\nconfig:\n  bucket: b\n  endpoint: e:9000\n{lines}");
        let config = parse(&yaml)?;
        match config.storage {
            Storage::S3(s3) => Ok((*s3, config.warnings)),
            Storage::Filesystem { .. } => panic!("not an S3 bucket"),
        }
    }

    #[test]
    fn every_field_has_its_place() {
        let (config, warnings) = with(
            r#"
  region: eu-central-1
  disable_dualstack: true
  aws_sdk_auth: false
  access_key: a
  secret_key: s
  session_token: t
  insecure: false
  put_user_metadata: {X-AMZ-Storage-Class: STANDARD_IA, team: metrics}
  http_config:
    idle_conn_timeout: 1m30s
    response_header_timeout: 1m
    insecure_skip_verify: true
    tls_handshake_timeout: 5s
    expect_continue_timeout: 1s
    max_idle_conns: 10
    max_idle_conns_per_host: 20
    max_conns_per_host: 7
    disable_compression: true
    tls_config: {ca_file: /ca, cert_file: /c, key_file: /k, server_name: s3.lan, insecure_skip_verify: false}
  trace: {enable: false}
  list_objects_version: v1
  bucket_lookup_type: path
  send_content_md5: false
  disable_multipart: true
  part_size: 8388608
  sse_config: {type: SSE-KMS, kms_key_id: k, kms_encryption_context: {a: b}, encryption_key: ""}
  sts_endpoint: ""
  max_retries: 3
"#,
        )
        .unwrap();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert_eq!(config.region.as_deref(), Some("eu-central-1"));
        assert_eq!(config.keys.unwrap().session_token.as_deref(), Some("t"));
        assert_eq!(config.storage_class.as_deref(), Some("STANDARD_IA"));
        assert_eq!(config.user_metadata.into_iter().collect::<Vec<_>>(), [("team".into(), "metrics".into())]);
        assert_eq!((config.lookup, config.list_v1), (Lookup::Path, true));
        assert_eq!((config.part_size_bytes, config.tries_max), (8 << 20, 3));
        assert!(config.disable_multipart && !config.send_content_md5 && config.disable_dualstack);
        assert!(matches!(config.encryption, Some(Encryption::SseKms { .. })));
        assert_eq!((config.http.idle_conns_max, config.http.conns_max), (10, 7));
        assert!(config.http.insecure_skip_verify);
        assert_eq!(config.http.server_name.as_deref(), Some("s3.lan"));
        assert_eq!(config.http.idle_conn_timeout, Duration::from_secs(90));
    }

    #[test]
    fn settings_without_effect_are_said_aloud() {
        for (lines, word) in [
            ("  signature_version2: true\n", "signature_version2"),
            ("  aws_sdk_auth: true\n", "aws_sdk_auth"),
            ("  trace: {enable: true}\n", "trace"),
            ("  sts_endpoint: https://sts.lan\n", "sts_endpoint"),
            ("  http_config: {expect_continue_timeout: 2s}\n", "expect_continue_timeout"),
            ("  http_config: {response_header_timeout: 0s}\n", "response_header_timeout"),
        ] {
            let (_, warnings) = with(lines).unwrap();
            assert!(matches!(warnings.as_slice(), [only] if only.contains(word)), "{lines}: {warnings:?}");
        }
    }

    #[test]
    fn values_that_do_not_fit_are_refused_by_name() {
        for (lines, word) in [
            ("  access_key: a\n", "secret_key"),
            ("  secret_key: a\n", "access_key"),
            ("  aws_sdk_auth: true\n  access_key: a\n  secret_key: b\n", "aws_sdk_auth"),
            ("  bucket_lookup_type: dns\n", "bucket_lookup_type"),
            ("  list_objects_version: v3\n", "list_objects_version"),
            ("  part_size: 1024\n", "part_size"),
            ("  sse_config: {type: SSE-KMS}\n", "kms_key_id"),
            ("  sse_config: {type: SSE-C}\n", "encryption_key"),
            ("  sse_config: {type: x}\n", "sse_config.type"),
            ("  http_config: {idle_conn_timeout: 90}\n", "idle_conn_timeout"),
            ("  http_config: {tls_config: {cert_file: /c}}\n", "key_file"),
        ] {
            let error = with(lines).unwrap_err().to_string();
            assert!(error.contains(word), "{lines}: {error}");
        }
        let wrong_endpoint = |endpoint: &str| {
            parse(&format!("type: S3\nconfig: {{bucket: b, endpoint: '{endpoint}'}}"))
                .unwrap_err()
                .to_string()
        };
        assert!(wrong_endpoint("").contains("endpoint"));
        assert!(wrong_endpoint("http://e").contains("scheme"));
        assert!(wrong_endpoint("e/path").contains("host:port"));
    }

    #[test]
    fn the_default_port_is_left_out() {
        let endpoint =
            |endpoint: &str, insecure| check_endpoint(Some(endpoint.to_owned()), insecure).unwrap();
        assert_eq!(endpoint("e:443", false), "e");
        assert_eq!(endpoint("e:80", true), "e");
        assert_eq!(endpoint("e:80", false), "e:80");
    }
}
