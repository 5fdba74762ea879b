//! What can go wrong between this process and its bucket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A failed operation on a bucket.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The object is not there.
    #[error("{name} is not in the bucket")]
    NotFound {
        /// The object, as the bucket knows it.
        name: String,
    },
    /// A name that no object may have: the fault is ours or of a file that was read.
    #[error("{name:?} cannot be the name of an object: {reason}")]
    Name {
        /// The refused name.
        name: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// A range that begins at or past the object's end.
    #[error("{name} has no byte {offset}")]
    Range {
        /// The object.
        name: String,
        /// Where the range would begin.
        offset: u64,
    },
    /// The server, or the file system, does not let us.
    #[error("access to {name} is denied: {reason}")]
    AccessDenied {
        /// The object, or the bucket.
        name: String,
        /// The server's words.
        reason: String,
    },
    /// No keys in the configuration, and none in the places where AWS' own tools look.
    #[error("no credentials: {0}")]
    Credentials(String),
    /// The server answered with an error.
    #[error("the object storage answered {status} {code} for {name}: {message}")]
    Status {
        /// The object, or the bucket.
        name: String,
        /// The HTTP status.
        status: u16,
        /// S3's code, such as `SlowDown`; empty if the body has none.
        code: String,
        /// S3's words.
        message: String,
    },
    /// No connection, or one that broke.
    #[error("no answer for {name}: {reason}")]
    Transport {
        /// The object, or the bucket.
        name: String,
        /// What the HTTP client says, without the URL, which can hold a signature.
        reason: String,
    },
    /// Neither a byte was taken nor an answer given.
    #[error("{name}: nothing moved for {} s", waited.as_secs_f64())]
    Stalled {
        /// The object, or the bucket.
        name: String,
        /// For how long.
        waited: Duration,
    },
    /// An answer that is not what S3's interface promises.
    #[error("the object storage's answer for {name} makes no sense: {reason}")]
    Answer {
        /// The object, or the bucket.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The local side of a transfer, or the directory of a FILESYSTEM bucket.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The configuration cannot be carried out, for example because a certificate does not parse.
    #[error("objstore.yml: {0}")]
    Config(String),
}

impl BucketError {
    /// Wraps an error of the system with the path it is about.
    pub fn io(path: &Path, source: io::Error) -> BucketError {
        BucketError::Io { path: path.to_owned(), source }
    }

    /// Whether the object is simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, BucketError::NotFound { .. })
    }

    /// Whether the keys or their rights are at fault, so that trying again soon is pointless.
    pub fn is_access_denied(&self) -> bool {
        matches!(self, BucketError::AccessDenied { .. } | BucketError::Credentials(_))
    }

    /// Whether the same operation may succeed a little later without anybody doing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            BucketError::Transport { .. } | BucketError::Stalled { .. } => true,
            BucketError::Status { status, code, .. } => {
                matches!(status, 408 | 425 | 429 | 500 | 502..=504)
                    || matches!(code.as_str(), "SlowDown" | "RequestTimeout" | "InternalError" | "BadDigest")
            }
            BucketError::NotFound { .. }
            | BucketError::Name { .. }
            | BucketError::Range { .. }
            | BucketError::AccessDenied { .. }
            | BucketError::Credentials(_)
            | BucketError::Answer { .. }
            | BucketError::Io { .. }
            | BucketError::Config(_) => false,
        }
    }

    /// Whether the next object would meet the same error, so that a series of operations should stop here.
    pub fn concerns_all_objects(&self) -> bool {
        self.is_retryable() || self.is_access_denied() || matches!(self, BucketError::Config(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, code: &str) -> BucketError {
        BucketError::Status { name: "x".to_owned(), status, code: code.to_owned(), message: String::new() }
    }

    #[test]
    fn what_passes_by_itself_is_tried_again() {
        for (error, expected) in [
            (status(503, "SlowDown"), true),
            (status(429, ""), true),
            (status(400, "RequestTimeout"), true),
            (status(501, "NotImplemented"), false),
            (status(400, "EntityTooLarge"), false),
            (BucketError::Stalled { name: "x".to_owned(), waited: Duration::from_secs(1) }, true),
            (BucketError::NotFound { name: "x".to_owned() }, false),
        ] {
            assert_eq!(error.is_retryable(), expected, "{error}");
        }
    }

    #[test]
    fn missing_rights_stop_a_series_of_operations_but_are_not_tried_again() {
        let error = BucketError::AccessDenied { name: "x".to_owned(), reason: String::new() };
        assert!(error.is_access_denied() && error.concerns_all_objects() && !error.is_retryable());
        assert!(!status(400, "EntityTooLarge").concerns_all_objects());
    }
}
