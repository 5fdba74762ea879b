//! A bucket on a server with S3's interface.
//!
//! Owns:     the connections to one server, keys and region of one bucket.
//! Touches:  the network; local files that are uploaded.
//! Promises: every request ends: a try when nothing moves for `response_header_timeout`, all of them after `max_retries`.

mod answer;
mod body;
pub mod config;
mod endpoint;
mod headers;
mod send;
mod session;
mod sign;
mod tls;
mod upload;

use std::time::UNIX_EPOCH;

use bytes::Bytes;
use s3::command::Command;
use s3::serde_types::ListBucketResult;
use tokio::sync::{OnceCell, Semaphore};

use self::answer::XML_BYTES_MAX;
use self::config::S3Config;
use self::headers::ConfiguredHeaders;
use self::session::Session;
use super::error::BucketError;
use super::{Attributes, Depth, Entry};
use crate::rfc3339;

/// The largest object that is read into memory as a whole.
const GET_BYTES_MAX: u64 = 1 << 30;

/// What `HEAD` and `DELETE` answers may hold.
const SMALL_ANSWER_BYTES_MAX: u64 = 1 << 20;

/// The bucket.
pub(super) struct S3 {
    config: S3Config,
    http: reqwest::Client,
    headers: ConfiguredHeaders,
    /// Bounds requests at once, where the configuration does.
    slots: Option<Semaphore>,
    session: OnceCell<Session>,
}

impl S3 {
    /// Reads certificates and keys, asks nobody.
    pub(super) fn open(config: S3Config) -> Result<S3, BucketError> {
        let slots = Some(config.http.conns_max).filter(|max| *max > 0);
        Ok(S3 {
            http: send::http_client(&config)?,
            headers: ConfiguredHeaders::new(&config)?,
            slots: slots.map(|max| Semaphore::new(max.min(Semaphore::MAX_PERMITS))),
            session: OnceCell::new(),
            config,
        })
    }

    pub(super) async fn list(&self, folder: &str, depth: Depth) -> Result<Vec<Entry>, BucketError> {
        let bucket = &self.session().await?.plain;
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let mut entries = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let command = self.list_command(&prefix, depth, next.clone());
            let answer = self.request(bucket, "", command, XML_BYTES_MAX).await?;
            let page: ListBucketResult = answer.xml(&self.config.bucket)?;
            let last = self.next_page(&page);
            for object in page.contents {
                // Consoles mark folders with empty objects of such names.
                if !object.key.ends_with('/') {
                    let modified_ms = rfc3339::parse_ms(&object.last_modified).unwrap_or(0);
                    let attributes = Some(Attributes { size_bytes: object.size, modified_ms });
                    entries.push(Entry { name: object.key, attributes });
                }
            }
            for folder in page.common_prefixes.unwrap_or_default() {
                entries.push(Entry { name: folder.prefix, attributes: None });
            }
            if !page.is_truncated {
                return Ok(entries);
            }
            if last.is_none() || last == next {
                let reason = "a listing does not say where its next page begins".to_owned();
                return Err(BucketError::Answer { name: self.config.bucket.clone(), reason });
            }
            next = last;
        }
    }

    pub(super) async fn get(&self, name: &str) -> Result<Bytes, BucketError> {
        let bucket = &self.session().await?.access;
        Ok(self.request(bucket, name, Command::GetObject, GET_BYTES_MAX).await?.body)
    }

    /// At most `length` bytes, at least one; fewer where the object ends.
    pub(super) async fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, BucketError> {
        let bucket = &self.session().await?.access;
        let end = Some(offset.saturating_add(length - 1));
        let command = Command::GetObjectRange { start: offset, end };
        match self.request(bucket, name, command, length).await {
            Ok(answer) if answer.status == http::StatusCode::PARTIAL_CONTENT => Ok(answer.body),
            Ok(answer) => {
                let reason = format!("it answered {} when asked for a range", answer.status);
                Err(BucketError::Answer { name: name.to_owned(), reason })
            }
            Err(BucketError::Status { status: 416, name, .. }) => Err(BucketError::Range { name, offset }),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn attributes(&self, name: &str) -> Result<Attributes, BucketError> {
        let bucket = &self.session().await?.access;
        let answer = self.request(bucket, name, Command::HeadObject, SMALL_ANSWER_BYTES_MAX).await?;
        let size_bytes = answer.header("content-length").and_then(|length| length.parse().ok());
        let Some(size_bytes) = size_bytes else {
            let reason = "it does not say how long the object is".to_owned();
            return Err(BucketError::Answer { name: name.to_owned(), reason });
        };
        let modified = answer.header("last-modified").and_then(|time| httpdate::parse_http_date(time).ok());
        let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        Ok(Attributes { size_bytes, modified_ms: i64::try_from(since.as_millis()).unwrap_or(i64::MAX) })
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), BucketError> {
        let bucket = &self.session().await?.plain;
        match self.request(bucket, name, Command::DeleteObject, SMALL_ANSWER_BYTES_MAX).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    fn list_command(&self, prefix: &str, depth: Depth, next: Option<String>) -> Command<'static> {
        let prefix = prefix.to_owned();
        let delimiter = (depth == Depth::Folder).then(|| "/".to_owned());
        if self.config.list_v1 {
            Command::ListObjects { prefix, delimiter, marker: next, max_keys: None }
        } else {
            let (start_after, max_keys) = (None, None);
            Command::ListObjectsV2 { prefix, delimiter, continuation_token: next, start_after, max_keys }
        }
    }

    /// Where the next page begins. The first version of the interface says so only when folders are folded, and some
    /// servers not even then: it is after the last name.
    fn next_page(&self, page: &ListBucketResult) -> Option<String> {
        let last_key = page.contents.last().map(|object| &object.key);
        let last_folder = page.common_prefixes.iter().flatten().last().map(|folder| &folder.prefix);
        let last = last_key.max(last_folder).filter(|_| self.config.list_v1);
        page.next_continuation_token.as_ref().or(last).cloned()
    }
}
