//! The figures from a running process: `/api/v1/status/tsdb`, as annulus, Prometheus and Thanos Receive have it.

use std::time::Duration;

use reqwest::{Certificate, Client, StatusCode};
use serde::Deserialize;

use super::stats::{Report, Stats};
use crate::output::{Failure, Progress};

/// How long an answer may take: a node with millions of series counts for seconds.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The most bytes of an answer.
const BYTES_MAX: usize = 256 << 20;

/// The answer of the API.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    data: Option<Data>,
    error: Option<String>,
}

/// One object, or one per tenant.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Data {
    Each(Vec<Stats>),
    Together(Box<Stats>),
}

/// Asks the process at `url`.
pub fn report(url: &str, tenant: Option<&str>, limit: usize, progress: &Progress) -> Result<Report, Failure> {
    progress.step(format_args!("asking {url}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::about("cannot start", error))?;
    runtime.block_on(async {
        let client = client()?;
        let mut report = Report::default();
        if let Some(tenant) = tenant {
            report.add(ask(&client, url, limit, Some(tenant), false).await?);
            return Ok(report);
        }
        report.add(ask(&client, url, limit, None, true).await?);
        // Prometheus knows no tenants and answers the same again; the write address of a receiver answers for its
        // default tenant.
        if report.total.is_none()
            && let Data::Together(total) = ask(&client, url, limit, None, false).await?
        {
            report.total = Some(*total);
        }
        Ok(report)
    })
}

impl Report {
    fn add(&mut self, data: Data) {
        match data {
            Data::Each(mut tenants) => self.tenants.append(&mut tenants),
            Data::Together(total) => self.total = Some(*total),
        }
    }
}

fn client() -> Result<Client, Failure> {
    let mut builder = Client::builder().timeout(TIMEOUT);
    for certificate in rustls_native_certs::load_native_certs().certs {
        if let Ok(certificate) = Certificate::from_der(&certificate) {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().map_err(|error| Failure::about("cannot make an HTTP client", error))
}

async fn ask(
    client: &Client,
    url: &str,
    limit: usize,
    tenant: Option<&str>,
    each: bool,
) -> Result<Data, Failure> {
    let all = if each { "&all_tenants=true" } else { "" };
    let page = format!("{}/api/v1/status/tsdb?limit={limit}{all}", url.trim_end_matches('/'));
    let mut request = client.get(&page);
    if let Some(tenant) = tenant {
        request = request.header("THANOS-TENANT", tenant);
    }
    let failed = |error: reqwest::Error| {
        // The error itself says only that it failed; what it comes from says why.
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            text.push_str(&format!(": {error}"));
            source = error.source();
        }
        Failure::Text(text)
    };
    let mut response = request.send().await.map_err(failed)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(failed)? {
        if body.len() + piece.len() > BYTES_MAX {
            return Err(Failure::about(&page, "the answer is too large"));
        }
        body.extend_from_slice(&piece);
    }
    parse(status, &body).map_err(|reason| Failure::about(&page, reason))
}

fn parse(status: StatusCode, body: &[u8]) -> Result<Data, String> {
    match serde_json::from_slice::<Answer>(body) {
        Ok(Answer { data: Some(data), .. }) if status.is_success() => Ok(data),
        Ok(Answer { error: Some(error), .. }) => Err(format!("{status}: {error}")),
        Ok(_) => Err(format!("{status}: an answer without data")),
        Err(_) if status == StatusCode::NOT_FOUND => {
            Err("this page is not there; is it the address of a query API or a receiver?".to_owned())
        }
        Err(error) => Err(format!("{status}: not the answer of such an API: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms_and_errors_are_understood() {
        let stats = r#"{"headStats":{"numSeries":508,"chunkCount":937,"minTime":1,"maxTime":2,"numLabelPairs":7},
            "seriesCountByMetricName":[{"name":"up","value":5}],"new":1}"#;
        let together = parse(StatusCode::OK, format!(r#"{{"status":"success","data":{stats}}}"#).as_bytes());
        let Ok(Data::Together(one)) = together else { panic!("{together:?}") };
        assert_eq!((one.head_stats.num_series, one.series_count_by_metric_name[0].value), (508, 5));
        let each = parse(StatusCode::OK, format!(r#"{{"status":"success","data":[{stats}]}}"#).as_bytes());
        assert!(matches!(each, Ok(Data::Each(all)) if all.len() == 1));
        let error = br#"{"status":"error","errorType":"bad_data","error":"no"}"#;
        assert_eq!(parse(StatusCode::BAD_REQUEST, error).unwrap_err(), "400 Bad Request: no");
        assert!(parse(StatusCode::NOT_FOUND, b"404 page not found").unwrap_err().contains("not there"));
    }

    proptest! {
        #[test]
        fn no_answer_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(parse(StatusCode::OK, &body).is_err());
        }
    }
}
