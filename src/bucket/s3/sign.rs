//! Signatures of requests (AWS signature version 4), in a header or in the URL.
//!
//! rust-s3 has the parts. It puts headers in the order of whole lines, though, where the interface asks for that of
//! names: the two differ when a name goes on where another ends, as with `x-amz-server-side-encryption` and
//! `x-amz-server-side-encryption-context`. Therefore the last step is done here.

use std::collections::HashMap;
use std::fmt::Write;

use hmac::Mac;
use http::header::{AUTHORIZATION, DATE, HOST};
use http::{HeaderMap, HeaderValue};
use reqwest::Url;
use s3::command::Command;
use s3::error::S3Error;
use s3::request::Request;
use s3::request::tokio_backend::ReqwestRequest;
use s3::signing::{
    HmacSha256, authorization_header, canonical_query_string, canonical_uri_string, signed_header_string,
    string_to_sign,
};

/// How long the signature in a URL is valid. The server looks at it when the request begins.
const URL_VALID_SECONDS: u32 = 3600;

/// The payload's hash where none is signed: S3 checks `Content-MD5` instead.
const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// The URL and the headers of a request without content, or with little.
pub(super) async fn in_header(request: &ReqwestRequest<'_>) -> Result<(Url, HeaderMap), S3Error> {
    let mut headers = request.headers().await?;
    let url = request.url()?;
    // A proxy may rewrite the date, so it is not signed.
    let date = headers.remove(DATE);
    headers.remove(AUTHORIZATION);
    let payload_hash = request.command.sha256()?;
    let signature = signature(request, &url, &headers, &payload_hash).await?;
    let access_key = request.bucket.access_key().await?.unwrap_or_default();
    let signed = signed_header_string(&headers);
    let authorization =
        authorization_header(&access_key, &request.datetime, &request.bucket.region, &signed, &signature)?;
    let mut authorization = HeaderValue::try_from(authorization)?;
    authorization.set_sensitive(true);
    headers.insert(AUTHORIZATION, authorization);
    headers.extend(date.map(|date| (DATE, date)));
    Ok((url, headers))
}

/// The URL for content of any length, to be sent with exactly these headers.
pub(super) async fn in_url(
    bucket: &s3::Bucket,
    name: &str,
    headers: &HeaderMap,
    queries: &HashMap<String, String>,
) -> Result<Url, S3Error> {
    let command = Command::PresignPut {
        expiry_secs: URL_VALID_SECONDS,
        custom_headers: Some(headers.clone()),
        custom_queries: Some(queries.clone()),
    };
    let request = ReqwestRequest::new(bucket, name, command).await?;
    let mut url = request.presigned_url_no_sig(URL_VALID_SECONDS, Some(headers), Some(queries)).await?;
    let mut headers = headers.clone();
    headers.insert(HOST, HeaderValue::try_from(request.host_header())?);
    let signature = signature(&request, &url, &headers, UNSIGNED_PAYLOAD).await?;
    url.query_pairs_mut().append_pair("X-Amz-Signature", &signature);
    Ok(url)
}

async fn signature(
    request: &ReqwestRequest<'_>,
    url: &Url,
    headers: &HeaderMap,
    payload_hash: &str,
) -> Result<String, S3Error> {
    let canonical = format!(
        "{method}\n{path}\n{query}\n{lines}\n{names}\n{payload_hash}",
        method = request.command.http_verb(),
        path = canonical_uri_string(url),
        query = canonical_query_string(url),
        lines = header_lines(headers)?,
        names = signed_header_string(headers),
    );
    let text = string_to_sign(&request.datetime, &request.bucket.region, &canonical)?;
    let mut mac = HmacSha256::new_from_slice(&request.signing_key().await?)?;
    mac.update(text.as_bytes());
    let mut hex = String::with_capacity(64);
    for byte in mac.finalize().into_bytes() {
        write!(hex, "{byte:02x}")?;
    }
    Ok(hex)
}

/// One line per header, in order of names.
fn header_lines(headers: &HeaderMap) -> Result<String, S3Error> {
    let mut sorted: Vec<_> = headers.iter().collect();
    sorted.sort_by_key(|(name, _)| name.as_str());
    let mut lines = String::new();
    for (name, value) in sorted {
        let value = value.to_str()?.split_whitespace().collect::<Vec<_>>().join(" ");
        writeln!(lines, "{name}:{value}")?;
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_signed_in_order_of_names() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-amz-server-side-encryption-context", "c"),
            ("x-amz-server-side-encryption", "aws:kms"),
            ("host", "  a   b "),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        assert_eq!(
            header_lines(&headers).unwrap(),
            "host:a b\nx-amz-server-side-encryption:aws:kms\nx-amz-server-side-encryption-context:c\n"
        );
    }
}
