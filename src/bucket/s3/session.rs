//! Keys and region, found at the first request: a server that is down must not keep the process from starting.

use std::collections::HashMap;

use s3::Region;
use s3::command::Command;
use s3::creds::Credentials;
use s3::error::S3Error;
use s3::serde_types::BucketLocationResult;
use tokio::task::spawn_blocking;

use super::S3;
use super::answer::XML_BYTES_MAX;
use super::endpoint::{REGION_DEFAULT, base_url, is_virtual_hosted, region_in_host};
use crate::bucket::error::BucketError;

/// What rust-s3 needs to build and sign requests, by the headers that they carry.
pub(super) struct Session {
    /// No headers of the configuration.
    pub plain: s3::Bucket,
    /// Those of reads.
    pub access: s3::Bucket,
    /// Those of new objects.
    pub create: s3::Bucket,
}

impl S3 {
    /// The session; a failure to begin one is met again by the next request, which tries again.
    pub(super) async fn session(&self) -> Result<&Session, BucketError> {
        self.session.get_or_try_init(|| self.begin()).await
    }

    async fn begin(&self) -> Result<Session, BucketError> {
        let credentials = self.credentials().await?;
        let region = match (&self.config.region, region_in_host(&self.config.endpoint)) {
            (Some(region), _) => region.clone(),
            (None, Some(region)) => region.to_owned(),
            (None, None) => self.ask_region(credentials.clone()).await?,
        };
        let mut plain = self.bucket(&region, credentials)?;
        if is_virtual_hosted(&self.config) {
            plain.set_subdomain_style();
        }
        let with =
            |headers: &http::HeaderMap| plain.with_extra_headers(headers.clone()).map_err(signing_failed);
        Ok(Session { access: with(&self.headers.access)?, create: with(&self.headers.create)?, plain })
    }

    fn bucket(&self, region: &str, credentials: Credentials) -> Result<s3::Bucket, BucketError> {
        let region = Region::Custom { region: region.to_owned(), endpoint: base_url(&self.config, region) };
        let mut bucket = s3::Bucket::new(&self.config.bucket, region, credentials).map_err(signing_failed)?;
        bucket.set_path_style();
        Ok(*bucket)
    }

    /// The configured keys, or those that AWS' own tools would use; these renew themselves when they expire.
    async fn credentials(&self) -> Result<Credentials, BucketError> {
        let credentials = match &self.config.keys {
            Some(keys) => {
                let token = keys.session_token.as_deref();
                Credentials::new(Some(&keys.access), Some(&keys.secret), None, token, None)
            }
            None => spawn_blocking(Credentials::default)
                .await
                .map_err(|_| BucketError::Credentials("the runtime is stopping".to_owned()))?,
        };
        // rust-s3 takes it for granted that what it signs with is complete.
        match credentials {
            Ok(found) if found.access_key.is_some() && found.secret_key.is_some() => Ok(found),
            Ok(_) => Err(BucketError::Credentials("they lack a half".to_owned())),
            Err(error) => Err(BucketError::Credentials(error.to_string())),
        }
    }

    /// Many servers have no regions, or do not let everybody ask: these get the default one.
    async fn ask_region(&self, credentials: Credentials) -> Result<String, BucketError> {
        let bucket = self
            .bucket(REGION_DEFAULT, credentials)?
            .with_extra_query(HashMap::from([("location".to_owned(), String::new())]))
            .map_err(signing_failed)?;
        let asked = self.request(&bucket, "", Command::GetBucketLocation, XML_BYTES_MAX).await;
        match asked {
            Ok(answer) => {
                let named = answer.xml::<BucketLocationResult>(&self.config.bucket);
                Ok(match named.map(|location| location.region).as_deref() {
                    Ok("EU") => "eu-west-1".to_owned(),
                    Ok(region) if !region.is_empty() => region.to_owned(),
                    _ => REGION_DEFAULT.to_owned(),
                })
            }
            Err(error) if error.is_retryable() => Err(error),
            Err(_) => Ok(REGION_DEFAULT.to_owned()),
        }
    }
}

/// Only expired keys that cannot be renewed, or odd values of the configuration, keep a request from being signed.
pub(super) fn signing_failed(error: S3Error) -> BucketError {
    match error {
        S3Error::Credentials(error) => BucketError::Credentials(error.to_string()),
        other => BucketError::Config(format!("a request cannot be signed: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::config::{Storage, parse};
    use super::super::sign;
    use super::*;

    /// The URL of an upload, without its query, and who has to be dialled for it.
    async fn url(endpoint: &str, lines: &str) -> String {
        let yaml = format!(
            "type: S3\nconfig:\n  bucket: b\n  endpoint: {endpoint}\n  access_key: a\n  secret_key: s\n{lines}"
        );
        let Storage::S3(config) = parse(&yaml).unwrap().storage else { panic!("not an S3 bucket") };
        let s3 = S3::open(*config).unwrap();
        let plain = &s3.session().await.unwrap().plain;
        let url = sign::in_url(plain, "x/y", &http::HeaderMap::new(), &HashMap::new()).await.unwrap();
        url.as_str().split_once('?').unwrap().0.to_owned()
    }

    #[tokio::test]
    async fn a_known_region_needs_no_question_to_the_server() {
        // The certificates of the machine that runs this test are of no interest.
        let any = "  http_config: {insecure_skip_verify: true}\n";
        assert_eq!(
            url("s3.amazonaws.com", &format!("  region: eu-west-1\n{any}")).await,
            "https://b.s3.dualstack.eu-west-1.amazonaws.com/x/y"
        );
        assert_eq!(url("s3.us-west-2.amazonaws.com", any).await, "https://b.s3.us-west-2.amazonaws.com/x/y");
        assert_eq!(
            url("minio.lan:9000", "  region: x\n  insecure: true\n").await,
            "http://minio.lan:9000/b/x/y"
        );
        assert_eq!(
            url("minio.lan:9000", "  region: x\n  insecure: true\n  bucket_lookup_type: virtual-hosted\n")
                .await,
            "http://b.minio.lan:9000/x/y"
        );
    }
}
