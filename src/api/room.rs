//! The memory and the threads of answers that are being sent: slow clients must not make the process hold any number
//! of large ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::IntGauge;

use super::error::{ApiError, ErrorKind};

/// How many answers of the largest size there is room for.
const LARGEST_ANSWERS: u64 = 2;

/// Answers that are sent at once. Each has a thread, of which the runtime has twice as many.
const ANSWERS_MAX: usize = 256;

/// What all answers may take that wait for their clients.
pub struct AnswerRoom {
    bytes_max: i64,
    held: IntGauge,
    count: AtomicUsize,
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
        let bytes_max = i64::try_from(bytes_max).unwrap_or(i64::MAX);
        Arc::new(AnswerRoom { bytes_max, held, count: AtomicUsize::new(0) })
    }

    /// Takes a part, or says that the client should come back.
    pub fn take(self: &Arc<AnswerRoom>, bytes: usize) -> Result<Held, ApiError> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX / 2);
        self.held.add(bytes);
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let held = Held { room: Arc::clone(self), bytes };
        if self.held.get() > self.bytes_max || count > ANSWERS_MAX {
            return Err(self.full(bytes));
        }
        Ok(held)
    }

    fn full(&self, asked: i64) -> ApiError {
        let others = self.held.get() - asked;
        let text =
            format!("there is no room for another large answer: clients are slow to take {others} bytes");
        ApiError::new(ErrorKind::Unavailable, text)
    }
}

impl Held {
    /// Takes so much in all, or says that the client should come back. What it was, it is still allowed to be.
    pub fn resize(&mut self, bytes: usize) -> Result<(), ApiError> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX / 2);
        if bytes > self.room.bytes_max {
            let text = format!("the answer would take more than {} bytes", self.room.bytes_max);
            return Err(ApiError::new(ErrorKind::Execution, text));
        }
        let grows = bytes > self.bytes;
        self.room.held.add(bytes - self.bytes);
        self.bytes = bytes;
        if grows && self.room.held.get() > self.room.bytes_max {
            return Err(self.room.full(bytes));
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.held.sub(self.bytes);
        self.room.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_may_grow_while_there_is_room() {
        let held = IntGauge::new("held", "held").unwrap();
        let room = AnswerRoom::new(50, held.clone());
        let (mut growing, _other) = (room.take(10).unwrap(), room.take(20).unwrap());
        growing.resize(80).unwrap();
        assert_eq!(growing.resize(81).unwrap_err().kind, ErrorKind::Unavailable);
        assert_eq!(growing.resize(101).unwrap_err().kind, ErrorKind::Execution, "it would never fit");
        growing.resize(30).unwrap();
        assert_eq!(held.get(), 50);
        drop(growing);
        assert_eq!(held.get(), 20);
    }

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
        let all: Vec<Held> = (0..ANSWERS_MAX).map(|_| room.take(0).unwrap()).collect();
        assert!(room.take(0).is_err());
        drop(all);
        assert!(room.take(0).is_ok());
    }
}
