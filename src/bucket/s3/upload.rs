//! Writing objects: whole, or in parts when they are large.
//!
//! An object appears when its last byte is there and accepted, never before. Parts of an upload that failed are
//! removed at once, those of one that was cut off by a crash when the same object is written again.

use std::collections::HashMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use s3::command::Command;
use s3::serde_types::{
    CompleteMultipartUploadData, InitiateMultipartUploadResponse, ListMultipartUploadsResult, Part,
};
use s3::signing::uri_encode;

use super::answer::{Answer, XML_BYTES_MAX};
use super::body::Content;
use super::session::signing_failed;
use super::sign;
use super::{S3, SMALL_ANSWER_BYTES_MAX};
use crate::bucket::error::BucketError;

/// S3's own limit of parts per object.
const PART_COUNT_MAX: u64 = 10_000;

const CONTENT: &str = "application/octet-stream";

impl S3 {
    /// Writes a local file; gives its size.
    pub(in crate::bucket) async fn upload(&self, name: &str, local: &Path) -> Result<u64, BucketError> {
        let metadata = tokio::fs::metadata(local).await.map_err(|error| BucketError::io(local, error))?;
        let size = metadata.len();
        if size > self.config.part_size_bytes && !self.config.disable_multipart {
            self.upload_in_parts(name, local, size).await?;
        } else {
            let content = Content::File { path: local.to_owned(), offset: 0, length: size };
            self.put_content(name, &content, self.headers.create.clone(), HashMap::new()).await?;
        }
        Ok(size)
    }

    /// Writes bytes; gives their number.
    pub(in crate::bucket) async fn put(&self, name: &str, content: Bytes) -> Result<u64, BucketError> {
        let size = content.len() as u64;
        let content = Content::Bytes(content);
        self.put_content(name, &content, self.headers.create.clone(), HashMap::new()).await?;
        Ok(size)
    }

    /// Sends an object, or with the queries of a part a part of one.
    async fn put_content(
        &self,
        name: &str,
        content: &Content,
        mut headers: HeaderMap,
        queries: HashMap<String, String>,
    ) -> Result<Answer, BucketError> {
        let bucket = &self.session().await?.plain;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT));
        if self.config.send_content_md5 {
            let digest = HeaderValue::try_from(STANDARD.encode(content.md5().await?))
                .expect("base64 is made of visible characters");
            headers.insert(HeaderName::from_static("content-md5"), digest);
        }
        self.retrying(|| async {
            let url = sign::in_url(bucket, name, &headers, &queries).await.map_err(signing_failed)?;
            self.send_once(name, url, headers.clone(), content, SMALL_ANSWER_BYTES_MAX).await
        })
        .await
    }

    async fn upload_in_parts(&self, name: &str, local: &Path, size: u64) -> Result<(), BucketError> {
        self.abort_leftovers(name).await;
        let create = &self.session().await?.create;
        let command = Command::InitiateMultipartUpload { content_type: CONTENT };
        let answer = self.request(create, name, command, SMALL_ANSWER_BYTES_MAX).await?;
        let upload_id = answer.xml::<InitiateMultipartUploadResponse>(name)?.upload_id;
        let sent = async {
            let parts = self.send_parts(name, local, size, &upload_id).await?;
            self.complete(name, size, &upload_id, parts).await
        };
        let sent = sent.await;
        if sent.is_err() {
            self.abort(name, &upload_id).await;
        }
        sent
    }

    /// One part after the other, read from the file as it is sent.
    async fn send_parts(
        &self,
        name: &str,
        local: &Path,
        size: u64,
        upload_id: &str,
    ) -> Result<Vec<Part>, BucketError> {
        let part_size = self.config.part_size_bytes.max(size.div_ceil(PART_COUNT_MAX));
        let mut parts = Vec::new();
        let (mut offset, mut part_number) = (0, 1);
        while offset < size {
            let length = part_size.min(size - offset);
            let content = Content::File { path: local.to_owned(), offset, length };
            let queries = HashMap::from([
                ("partNumber".to_owned(), part_number.to_string()),
                ("uploadId".to_owned(), upload_id.to_owned()),
            ]);
            let answer = self.put_content(name, &content, self.headers.access.clone(), queries).await?;
            let Some(etag) = answer.header("etag").map(str::to_owned) else {
                let reason = format!("part {part_number} was taken without an ETag");
                return Err(BucketError::Answer { name: name.to_owned(), reason });
            };
            parts.push(Part { part_number, etag });
            offset += length;
            part_number += 1;
        }
        Ok(parts)
    }

    async fn complete(
        &self,
        name: &str,
        size: u64,
        upload_id: &str,
        parts: Vec<Part>,
    ) -> Result<(), BucketError> {
        let session = self.session().await?;
        let encoded_id = uri_encode(upload_id, true);
        let data = CompleteMultipartUploadData { parts };
        let completed = self
            .retrying(|| async {
                let command = Command::CompleteMultipartUpload { upload_id: &encoded_id, data: data.clone() };
                let answer =
                    self.request_once(&session.access, name, command, SMALL_ANSWER_BYTES_MAX).await?;
                answer.success_in_body(name)
            })
            .await;
        match completed {
            Ok(_) => Ok(()),
            // When the answer to an earlier try was lost, the server does not know the upload any more.
            Err(error) if error.is_not_found() => match self.attributes(name).await {
                Ok(attributes) if attributes.size_bytes == size => Ok(()),
                _ => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// Removes the parts of an upload, once: what stays is found by the next upload of the same object.
    async fn abort(&self, name: &str, upload_id: &str) {
        let Ok(session) = self.session().await else { return };
        let upload_id = uri_encode(upload_id, true);
        let command = Command::AbortMultipartUpload { upload_id: &upload_id };
        if let Err(error) = self.request_once(&session.plain, name, command, SMALL_ANSWER_BYTES_MAX).await {
            tracing::debug!(%error, "parts of an upload could not be removed");
        }
    }

    /// Removes the parts of uploads of this object that were never completed. Servers that do not list them are left
    /// alone: leftovers cost space, nothing else.
    async fn abort_leftovers(&self, name: &str) {
        let Ok(session) = self.session().await else { return };
        let command = Command::ListMultipartUploads {
            prefix: Some(name),
            delimiter: None,
            key_marker: None,
            upload_id_marker: None,
            max_uploads: None,
        };
        let listed = self.request_once(&session.plain, "", command, XML_BYTES_MAX).await;
        match listed.and_then(|answer| answer.xml::<ListMultipartUploadsResult>(name)) {
            Ok(listed) => {
                for upload in listed.uploads.iter().filter(|upload| upload.key == name) {
                    self.abort(name, &upload.id).await;
                }
            }
            Err(error) => tracing::debug!(%error, "unfinished uploads cannot be listed"),
        }
    }
}
