//! The forms that requests bring, read before the request waits for its turn.
//! Owns:     how long a form may be and take, and the memory of all forms whose requests wait.
//! Promises: many requests with long forms are refused rather than held; a form of usual length is always read.

use std::time::Duration;

use axum::body::Body;
use futures::StreamExt;
use prometheus::IntGauge;
use tokio::time::timeout;

use super::error::{ApiError, ErrorKind};

/// The largest form that is read: a query of the greatest length, and some of its characters escaped.
const FORM_BYTES_MAX: usize = 2 << 20;

/// What all forms may take together.
const FORMS_BYTES_MAX: i64 = 64 << 20;

/// Forms up to this length are read also when others have taken all the room.
const USUAL_BYTES_MAX: usize = 16 << 10;

/// How long a form may take to arrive.
const FORM_TIMEOUT: Duration = Duration::from_secs(30);

/// The memory of one form, given back when it is dropped.
#[derive(Debug)]
pub struct HeldForm {
    all: IntGauge,
    bytes: usize,
}

impl HeldForm {
    /// Nothing yet; `all` counts what all forms take.
    pub fn new(all: IntGauge) -> HeldForm {
        HeldForm { all, bytes: 0 }
    }

    /// Takes so much in all, or says that the client should come back.
    fn grow(&mut self, bytes: usize) -> Result<(), ApiError> {
        self.set(bytes);
        if bytes > USUAL_BYTES_MAX && self.all.get() > FORMS_BYTES_MAX {
            let text = "there is no room for another long form: too many of them wait for their turn";
            return Err(ApiError::new(ErrorKind::Unavailable, text));
        }
        Ok(())
    }

    /// Says what the form takes from here on.
    pub fn set(&mut self, bytes: usize) {
        self.all.add(bytes as i64 - self.bytes as i64);
        self.bytes = bytes;
    }
}

impl Drop for HeldForm {
    fn drop(&mut self) {
        self.all.sub(self.bytes as i64);
    }
}

/// Reads a form to its end.
pub async fn read(body: Body, held: &mut HeldForm) -> Result<Vec<u8>, ApiError> {
    let too_late =
        |_| ApiError::new(ErrorKind::Timeout, format!("the form did not arrive within {FORM_TIMEOUT:?}"));
    timeout(FORM_TIMEOUT, read_all(body, held)).await.map_err(too_late)?
}

async fn read_all(body: Body, held: &mut HeldForm) -> Result<Vec<u8>, ApiError> {
    let mut form = Vec::new();
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| {
            ApiError::new(ErrorKind::BadData, format!("the form did not arrive whole: {error}"))
        })?;
        let bytes = form.len() + piece.len();
        if bytes > FORM_BYTES_MAX {
            let text = format!("the form is longer than {FORM_BYTES_MAX} bytes");
            return Err(ApiError::new(ErrorKind::TooLarge, text));
        }
        // The parameters are about as long again.
        held.grow(2 * bytes)?;
        form.extend_from_slice(&piece);
    }
    Ok(form)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_bytes(all: &IntGauge, bytes: usize) -> Result<(Vec<u8>, HeldForm), ApiError> {
        let mut held = HeldForm::new(all.clone());
        let form = read(Body::from(vec![b'a'; bytes]), &mut held).await?;
        Ok((form, held))
    }

    #[tokio::test]
    async fn long_forms_have_their_room_and_usual_ones_are_always_read() {
        let all = IntGauge::new("all", "all").unwrap();
        let mut read = Vec::new();
        let error = loop {
            match read_bytes(&all, FORM_BYTES_MAX).await {
                Ok(form) => read.push(form),
                Err(error) => break error,
            }
        };
        assert_eq!((error.kind, read.len()), (ErrorKind::Unavailable, 16));
        assert_eq!(read_bytes(&all, USUAL_BYTES_MAX / 2).await.unwrap().0.len(), USUAL_BYTES_MAX / 2);
        read.pop();
        assert!(read_bytes(&all, FORM_BYTES_MAX).await.is_ok());
        drop(read);
        assert_eq!(all.get(), 0);
        assert_eq!(read_bytes(&all, FORM_BYTES_MAX + 1).await.unwrap_err().kind, ErrorKind::TooLarge);
        assert_eq!(all.get(), 0);
    }
}
