//! Headers that the configuration adds to requests: encryption, storage class, metadata.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::config::{Encryption, S3Config};
use crate::bucket::error::BucketError;

/// The length of a key that is sent with every request (AES-256).
const CUSTOMER_KEY_BYTES: usize = 32;

/// Headers by the kind of request that takes them.
#[derive(Debug, Default)]
pub(super) struct ConfiguredHeaders {
    /// Requests that make an object, whole or as the start of a multipart upload.
    pub create: HeaderMap,
    /// Requests that send or read content: parts, reads, questions about an object.
    pub access: HeaderMap,
}

impl ConfiguredHeaders {
    /// Reads the key file where there is one.
    pub(super) fn new(config: &S3Config) -> Result<ConfiguredHeaders, BucketError> {
        let mut headers = ConfiguredHeaders::default();
        match &config.encryption {
            None => {}
            Some(Encryption::SseS3) => {
                add(&mut headers.create, "x-amz-server-side-encryption", "AES256")?;
            }
            Some(Encryption::SseKms { key_id, context }) => {
                add(&mut headers.create, "x-amz-server-side-encryption", "aws:kms")?;
                add(&mut headers.create, "x-amz-server-side-encryption-aws-kms-key-id", key_id)?;
                if !context.is_empty() {
                    let json = serde_json::to_string(context)
                        .map_err(|error| BucketError::Config(format!("kms_encryption_context: {error}")))?;
                    let name = "x-amz-server-side-encryption-context";
                    add(&mut headers.create, name, &STANDARD.encode(json))?;
                }
            }
            Some(Encryption::SseC { key_file }) => {
                let key = std::fs::read(key_file).map_err(|error| BucketError::io(key_file, error))?;
                if key.len() != CUSTOMER_KEY_BYTES {
                    return Err(BucketError::Config(format!(
                        "sse_config.encryption_key: {} holds {} bytes instead of {CUSTOMER_KEY_BYTES}",
                        key_file.display(),
                        key.len()
                    )));
                }
                let prefix = "x-amz-server-side-encryption-customer";
                add(&mut headers.access, &format!("{prefix}-algorithm"), "AES256")?;
                add(&mut headers.access, &format!("{prefix}-key"), &STANDARD.encode(&key))?;
                add(
                    &mut headers.access,
                    &format!("{prefix}-key-md5"),
                    &STANDARD.encode(md5::compute(&key).0),
                )?;
                headers.create.extend(headers.access.clone());
            }
        }
        if let Some(class) = &config.storage_class {
            add(&mut headers.create, "x-amz-storage-class", class)?;
        }
        for (key, value) in &config.user_metadata {
            add(&mut headers.create, &format!("x-amz-meta-{}", key.to_ascii_lowercase()), value)?;
        }
        Ok(headers)
    }
}

fn add(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), BucketError> {
    let wrong = || BucketError::Config(format!("{name} or its value cannot be sent as an HTTP header"));
    let name_parsed = HeaderName::try_from(name).map_err(|_| wrong())?;
    let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
    value.set_sensitive(name.ends_with("customer-key"));
    headers.insert(name_parsed, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::config::{Storage, parse};
    use super::*;

    fn headers(lines: &str) -> Result<ConfiguredHeaders, BucketError> {
        let yaml = format!("type: S3\nconfig:\n  bucket: b\n  endpoint: e\n{lines}");
        match parse(&yaml).unwrap().storage {
            Storage::S3(config) => ConfiguredHeaders::new(&config),
            Storage::Filesystem { .. } => panic!("not an S3 bucket"),
        }
    }

    #[test]
    fn metadata_and_storage_class_go_with_new_objects_only() {
        let headers = headers("  put_user_metadata: {X-Amz-Storage-Class: GLACIER_IR, Team: a}\n").unwrap();
        assert_eq!(headers.create["x-amz-storage-class"], "GLACIER_IR");
        assert_eq!(headers.create["x-amz-meta-team"], "a");
        assert!(headers.access.is_empty());
    }

    #[test]
    fn encryption_by_the_key_service_names_key_and_context() {
        let headers =
            headers("  sse_config: {type: SSE-KMS, kms_key_id: k, kms_encryption_context: {a: b}}\n")
                .unwrap();
        assert_eq!(headers.create["x-amz-server-side-encryption"], "aws:kms");
        assert_eq!(headers.create["x-amz-server-side-encryption-context"], STANDARD.encode(r#"{"a":"b"}"#));
        assert!(headers.access.is_empty());
    }

    #[test]
    fn a_customers_key_goes_with_every_access() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        let line = format!("  sse_config: {{type: SSE-C, encryption_key: '{}'}}\n", file.display());
        assert!(headers(&line).is_err());
        std::fs::write(&file, [7; 31]).unwrap();
        assert!(headers(&line).unwrap_err().to_string().contains("31 bytes"));
        std::fs::write(&file, [7; 32]).unwrap();
        let headers = headers(&line).unwrap();
        assert_eq!(headers.access.len(), 3);
        assert_eq!(headers.create, headers.access);
        assert!(!format!("{headers:?}").contains(&STANDARD.encode([7; 32])));
    }

    #[test]
    fn what_is_no_header_is_refused() {
        assert!(headers("  put_user_metadata: {\"a b\": x}\n").is_err());
        assert!(headers("  put_user_metadata: {a: \"x\\ny\"}\n").is_err());
    }
}
