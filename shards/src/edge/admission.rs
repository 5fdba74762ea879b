//! How many bytes of write requests are in memory, and how many may be; and whether the process has memory for any.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use prometheus::IntGauge;

use super::status::WriteError;
use crate::core::Held;
use crate::limits::{MemoryLevel, MemoryLimit};

/// Counts bytes of requests in progress on one shard.
pub struct Admission {
    bytes_max: usize,
    bytes: Cell<usize>,
    gauge: IntGauge,
    memory: Arc<MemoryLimit>,
}

/// Bytes that are counted until this is dropped.
pub struct Permit {
    admission: Rc<Admission>,
    bytes: usize,
}

impl Admission {
    /// Nothing is in progress.
    pub fn new(bytes_max: usize, gauge: IntGauge, memory: Arc<MemoryLimit>) -> Rc<Admission> {
        Rc::new(Admission { bytes_max, bytes: Cell::new(0), gauge, memory })
    }

    /// Bytes of the requests in progress.
    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Whether so much is in progress that nobody may hold memory without need.
    pub fn is_short(&self) -> bool {
        self.bytes.get() > self.bytes_max / 2
    }

    /// Begins to count a request, before anything of its body is read.
    ///
    /// # Errors
    /// When the process uses more memory than it may, whatever for.
    pub fn enter(self: &Rc<Admission>) -> Result<Permit, WriteError> {
        if self.memory.level() == MemoryLevel::Over {
            self.memory.refused.inc();
            return Err(WriteError::Memory {
                used_bytes: self.memory.used_bytes(),
                bytes_max: self.memory.bytes_max(),
            });
        }
        Ok(Permit { admission: Rc::clone(self), bytes: 0 })
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

    fn memory(bytes_max: u64) -> Arc<MemoryLimit> {
        let used = IntGauge::new("used", "bytes").unwrap();
        let refused = prometheus::IntCounter::new("refused", "requests").unwrap();
        Arc::new(MemoryLimit::new(bytes_max, used, refused))
    }

    #[test]
    fn nobody_enters_while_the_process_is_over_its_memory() {
        let memory = memory(1000);
        let admission =
            Admission::new(100, IntGauge::new("bytes", "in progress").unwrap(), Arc::clone(&memory));
        memory.set_used(1001);
        let error = admission.enter().err().unwrap();
        assert!(matches!(error, WriteError::Memory { used_bytes: 1001, bytes_max: 1000 }));
        assert_eq!(memory.refused.get(), 1);
        memory.set_used(1000);
        assert!(admission.enter().is_ok());
    }

    #[test]
    fn bytes_are_counted_while_the_request_lives() {
        let gauge = IntGauge::new("bytes", "in progress").unwrap();
        let admission = Admission::new(100, gauge.clone(), memory(0));
        let mut first = admission.enter().unwrap();
        first.grow(1000).unwrap();
        let mut second = admission.enter().unwrap();
        assert!(matches!(second.grow(1), Err(WriteError::Busy { inflight_bytes: 1000 })));
        drop(first);
        second.grow(60).unwrap();
        assert!(admission.enter().unwrap().grow(41).is_err());
        admission.enter().unwrap().grow(40).unwrap();
        assert_eq!((gauge.get(), admission.bytes(), admission.is_short()), (60, 60, true));
        drop(second);
        assert_eq!((gauge.get(), admission.is_short()), (0, false));
    }
}
