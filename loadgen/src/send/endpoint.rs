//! Where requests go and as whom: a receiver's URL, and the headers of every request to it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::tls::{self, TlsOptions};
use crate::quantity::parse_positive_duration;
use crate::stream::Protocol;

/// The flags about the receiver.
#[derive(Debug, Clone, clap::Args)]
pub struct EndpointOptions {
    /// Where the receiver takes remote write, e.g. http://127.0.0.1:19291/api/v1/receive. Given several times,
    /// connections are spread over all of them.
    #[arg(long, value_name = "URL", required = true, help_heading = "Receiver")]
    pub url: Vec<String>,
    /// Use HTTP/2: with prior knowledge for http://, by ALPN for https://.
    #[arg(long, help_heading = "Receiver")]
    pub http2: bool,
    /// As whom.
    #[command(flatten)]
    pub access: AccessOptions,
}

/// The flags about who we are to a receiver, for writing and for reading back.
#[derive(Debug, Clone, clap::Args)]
pub struct AccessOptions {
    /// TLS.
    #[command(flatten)]
    pub tls: TlsOptions,
    /// Credentials, as user:password.
    #[arg(long, value_name = "USER:PASSWORD", conflicts_with_all = ["basic_auth_file", "bearer_token_file"],
          help_heading = "Receiver")]
    pub basic_auth: Option<String>,
    /// File that holds user:password, so that it is not seen in the list of processes.
    #[arg(long, value_name = "FILE", conflicts_with = "bearer_token_file", help_heading = "Receiver")]
    pub basic_auth_file: Option<PathBuf>,
    /// File that holds a bearer token.
    #[arg(long, value_name = "FILE", help_heading = "Receiver")]
    pub bearer_token_file: Option<PathBuf>,
    /// Tenant to write as.
    #[arg(long, value_name = "NAME", help_heading = "Receiver")]
    pub tenant: Option<String>,
    /// Header that carries the tenant (X-Scope-OrgID for Mimir and Cortex).
    #[arg(long, value_name = "NAME", default_value = "THANOS-TENANT", help_heading = "Receiver")]
    pub tenant_header: String,
    /// A further header of every request; can be repeated.
    #[arg(long, value_name = "NAME: VALUE", help_heading = "Receiver")]
    pub header: Vec<String>,
    /// Time for one attempt, from connecting to the end of the answer.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_positive_duration,
          help_heading = "Receiver")]
    pub timeout: Duration,
}

/// A flag about the receiver that cannot be used; the text names it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct EndpointError(pub String);

/// One receiver, ready to be connected to.
#[derive(Clone)]
pub struct Endpoint {
    /// The URL as it was given.
    pub url: String,
    /// Host without the brackets of IPv6.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// TLS and the name to expect; `None` for http://.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// Whether HTTP/2 is spoken.
    pub is_http2: bool,
    /// The request's target: with the authority for HTTP/2, without for HTTP/1.1.
    pub target: Uri,
    /// Headers of every request.
    pub headers: HeaderMap,
    /// Time for one attempt.
    pub timeout: Duration,
}

impl EndpointOptions {
    /// Makes the endpoints of all URLs for remote write.
    pub fn endpoints(&self, protocol: Protocol) -> Result<Vec<Endpoint>, EndpointError> {
        let mut headers = self.access.common_headers()?;
        let (content_type, version) = match protocol {
            Protocol::RemoteWrite1 => ("application/x-protobuf", "0.1.0"),
            Protocol::RemoteWrite2 => {
                ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0")
            }
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
        headers.insert("x-prometheus-remote-write-version", HeaderValue::from_static(version));
        let make = |url: &String| self.access.with_headers("--url", url, self.http2, headers.clone());
        self.url.iter().map(make).collect()
    }
}

impl AccessOptions {
    /// Makes an endpoint for HTTP/1.1 at a URL that `flag` gave, such as that of a query API or of metrics.
    pub fn endpoint(&self, flag: &str, url: &str) -> Result<Endpoint, EndpointError> {
        self.with_headers(flag, url, false, self.common_headers()?)
    }

    fn with_headers(
        &self,
        flag: &str,
        url: &str,
        is_http2: bool,
        mut headers: HeaderMap,
    ) -> Result<Endpoint, EndpointError> {
        let wrong = |why: &str| EndpointError(format!("{flag} {url}: {why}"));
        let uri: Uri =
            url.parse().map_err(|_| wrong("is not a URL such as http://host:port/api/v1/receive"))?;
        let authority = uri.authority().ok_or_else(|| wrong("names no host"))?.clone();
        if authority.as_str().contains('@') {
            return Err(wrong("credentials belong into --basic-auth"));
        }
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("must begin with http:// or https://")),
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(wrong("names no host"));
        }
        let tls = if is_tls {
            let name = self.tls.server_name.clone().unwrap_or_else(|| host.clone());
            let name = ServerName::try_from(name)
                .map_err(|_| wrong("the server's name is not a DNS name or address"))?;
            Some((tls::client_config(&self.tls, is_http2)?, name))
        } else {
            None
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let target =
            if is_http2 { uri.clone() } else { path.parse().map_err(|_| wrong("has no usable path"))? };
        if !is_http2 {
            let value = HeaderValue::from_str(authority.as_str()).map_err(|_| wrong("names no host"))?;
            // A header given by the user stays: virtual hosts are chosen by it.
            headers.entry(HOST).or_insert(value);
        }
        Ok(Endpoint {
            url: url.to_owned(),
            host,
            port: authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            tls,
            is_http2,
            target,
            headers,
            timeout: self.timeout,
        })
    }

    /// Who we are: user agent, credentials, tenant, and what else was given.
    fn common_headers(&self) -> Result<HeaderMap, EndpointError> {
        let mut headers = HeaderMap::new();
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("annulus-loadgen/", env!("CARGO_PKG_VERSION"))),
        );
        if let Some(tenant) = &self.tenant {
            headers.insert(
                header_name("--tenant-header", &self.tenant_header)?,
                header_value("--tenant", tenant)?,
            );
        }
        if let Some(credentials) = self.authorization()? {
            let mut value = header_value("the credentials", &credentials)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        for header in &self.header {
            let (name, value) = header
                .split_once(':')
                .ok_or_else(|| EndpointError(format!("--header {header:?}: write it as NAME: VALUE")))?;
            headers.insert(header_name("--header", name.trim())?, header_value("--header", value.trim())?);
        }
        Ok(headers)
    }

    fn authorization(&self) -> Result<Option<String>, EndpointError> {
        let read = |flag: &str, path: &PathBuf| {
            std::fs::read_to_string(path)
                .map(|text| text.trim().to_owned())
                .map_err(|error| EndpointError(format!("{flag} {}: {error}", path.display())))
        };
        let basic = match (&self.basic_auth, &self.basic_auth_file) {
            (Some(credentials), _) => Some(credentials.clone()),
            (None, Some(path)) => Some(read("--basic-auth-file", path)?),
            (None, None) => None,
        };
        if let Some(basic) = basic {
            if !basic.contains(':') {
                return Err(EndpointError("--basic-auth: write it as USER:PASSWORD".to_owned()));
            }
            return Ok(Some(format!("Basic {}", base64(basic.as_bytes()))));
        }
        let token =
            self.bearer_token_file.as_ref().map(|path| read("--bearer-token-file", path)).transpose()?;
        Ok(token.map(|token| format!("Bearer {token}")))
    }
}

fn header_name(flag: &str, name: &str) -> Result<HeaderName, EndpointError> {
    name.parse().map_err(|_| EndpointError(format!("{flag} {name:?}: is not a header's name")))
}

fn header_value(flag: &str, value: &str) -> Result<HeaderValue, EndpointError> {
    // The value may be a secret: it is not repeated.
    value.parse().map_err(|_| EndpointError(format!("{flag}: has characters that a header cannot hold")))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for index in 0..4 {
            let is_padding = index > group.len();
            let digit = DIGITS[(bits >> (18 - 6 * index) & 63) as usize];
            text.push(if is_padding { '=' } else { digit.into() });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::send::testing::endpoint_options;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd, 0xfc]), "//79/A==");
    }

    #[test]
    fn requests_bear_the_protocols_headers_the_tenant_and_the_credentials() {
        let mut options = endpoint_options("http://[::1]:19291/api/v1/receive?x=1");
        options.access.tenant = Some("team-a".to_owned());
        options.access.basic_auth = Some("user:pass".to_owned());
        options.access.header = vec!["X-Extra: one: two".to_owned()];
        let endpoint = options.endpoints(Protocol::RemoteWrite1).unwrap().remove(0);
        assert_eq!((endpoint.host.as_str(), endpoint.port), ("::1", 19291));
        assert_eq!(endpoint.target, "/api/v1/receive?x=1");
        for (name, value) in [
            ("host", "[::1]:19291"),
            ("content-type", "application/x-protobuf"),
            ("content-encoding", "snappy"),
            ("x-prometheus-remote-write-version", "0.1.0"),
            ("thanos-tenant", "team-a"),
            ("authorization", "Basic dXNlcjpwYXNz"),
            ("x-extra", "one: two"),
        ] {
            assert_eq!(endpoint.headers[name], value);
        }
        let second = options.endpoints(Protocol::RemoteWrite2).unwrap().remove(0);
        assert_eq!(
            second.headers["content-type"],
            "application/x-protobuf;proto=io.prometheus.write.v2.Request"
        );
        assert_eq!(second.headers["x-prometheus-remote-write-version"], "2.0.0");
    }

    #[test]
    fn each_wrong_flag_is_one_line_that_names_it() {
        for (url, part) in [
            ("ftp://x/", "must begin with http://"),
            ("/api/v1/receive", "names no host"),
            ("http://a b/", "is not a URL"),
            ("http://user:pw@host/", "--basic-auth"),
        ] {
            let error = endpoint_options(url).endpoints(Protocol::RemoteWrite1).err().unwrap().to_string();
            assert!(error.contains(part) && error.starts_with("--url") && !error.contains('\n'), "{error}");
        }
        let mut options = endpoint_options("https://localhost/");
        options.access.tls.ca_file = Some("/nonexistent".into());
        let error = options.endpoints(Protocol::RemoteWrite1).err().unwrap().to_string();
        assert!(error.starts_with("--ca-file /nonexistent"), "{error}");
        let mut options = endpoint_options("http://localhost/");
        options.access.basic_auth = Some("nobody".to_owned());
        assert!(options.endpoints(Protocol::RemoteWrite1).is_err());
        let mut options = endpoint_options("http://localhost/");
        options.access.header = vec!["no colon".to_owned()];
        assert!(options.endpoints(Protocol::RemoteWrite1).is_err());
    }
}
