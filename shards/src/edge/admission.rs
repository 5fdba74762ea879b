//! How many bytes of write requests are in memory, and how many may be.

use std::cell::Cell;
use std::rc::Rc;

use prometheus::IntGauge;

use super::status::WriteError;
use crate::core::Held;

/// Counts bytes of requests in progress on one shard.
pub struct Admission {
    bytes_max: usize,
    bytes: Cell<usize>,
    gauge: IntGauge,
}

/// Bytes that are counted until this is dropped.
pub struct Permit {
    admission: Rc<Admission>,
    bytes: usize,
}

impl Admission {
    /// Nothing is in progress.
    pub fn new(bytes_max: usize, gauge: IntGauge) -> Rc<Admission> {
        Rc::new(Admission { bytes_max, bytes: Cell::new(0), gauge })
    }

    /// Begins to count a request.
    pub fn enter(self: &Rc<Admission>) -> Permit {
        Permit { admission: Rc::clone(self), bytes: 0 }
    }
}

impl Held for Permit {
    /// A single request may always pass: a limit below the size of one body would refuse it for ever, and the sender
    /// would never stop trying.
    fn grow(&mut self, bytes: usize) -> Result<(), WriteError> {
        let admission = &self.admission;
        let others = admission.bytes.get() - self.bytes;
        if others > 0 && others + self.bytes + bytes > admission.bytes_max {
            return Err(WriteError::Busy { inflight_bytes: admission.bytes.get() });
        }
        admission.bytes.set(admission.bytes.get() + bytes);
        admission.gauge.add(bytes as i64);
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.bytes.set(self.admission.bytes.get() - self.bytes);
        self.admission.gauge.sub(self.bytes as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_while_the_request_lives() {
        let gauge = IntGauge::new("bytes", "in progress").unwrap();
        let admission = Admission::new(100, gauge.clone());
        let mut first = admission.enter();
        first.grow(1000).unwrap();
        let mut second = admission.enter();
        assert!(matches!(second.grow(1), Err(WriteError::Busy { inflight_bytes: 1000 })));
        drop(first);
        second.grow(60).unwrap();
        assert!(admission.enter().grow(41).is_err());
        admission.enter().grow(40).unwrap();
        assert_eq!(gauge.get(), 60);
        drop(second);
        assert_eq!(gauge.get(), 0);
    }
}
