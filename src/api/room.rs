//! The memory of answers that are being sent: a slow client must not make the process hold any number of large ones.

use std::sync::Arc;

use prometheus::IntGauge;

use super::error::{ApiError, ErrorKind};

/// How many answers of the largest size there is room for.
const LARGEST_ANSWERS: u64 = 2;

/// What all answers may take that wait for their clients.
#[derive(Clone)]
pub struct AnswerRoom {
    bytes_max: i64,
    held: IntGauge,
}

/// The part of one answer, given back when it is dropped.
pub struct Held {
    room: Arc<AnswerRoom>,
    bytes: i64,
}

impl AnswerRoom {
    /// Room for answers of which one takes up to `answer_bytes_max`; `held` shows what is taken.
    pub fn new(answer_bytes_max: u64, held: IntGauge) -> Arc<AnswerRoom> {
        let bytes_max = answer_bytes_max.saturating_mul(LARGEST_ANSWERS);
        Arc::new(AnswerRoom { bytes_max: i64::try_from(bytes_max).unwrap_or(i64::MAX), held })
    }

    /// Takes a part, or says that the client should come back.
    pub fn take(self: &Arc<AnswerRoom>, bytes: usize) -> Result<Held, ApiError> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX / 2);
        self.held.add(bytes);
        let held = Held { room: Arc::clone(self), bytes };
        if self.held.get() > self.bytes_max {
            let text = format!("the answers that clients are slow to take have {} bytes", self.bytes_max);
            return Err(ApiError::new(ErrorKind::Unavailable, text));
        }
        Ok(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.held.sub(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back() {
        let held = IntGauge::new("held", "held").unwrap();
        let room = AnswerRoom::new(50, held.clone());
        let first = room.take(60).unwrap();
        assert_eq!(room.take(41).err().unwrap().kind, ErrorKind::Unavailable);
        assert_eq!(held.get(), 60);
        drop(first);
        assert!(room.take(100).is_ok() && room.take(usize::MAX).is_err());
        assert_eq!(held.get(), 0);
    }
}
