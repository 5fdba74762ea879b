//! Asks for memory before it is needed.
#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "the instruction takes an address"))]

/// Bytes that processors fetch at once.
const LINE_BYTES: usize = 64;

/// Begins to bring all lines of an element into the cache, and waits for nothing. Only x86-64 has it; elsewhere this does
/// nothing.
#[inline]
pub fn prefetch<T>(element: &T) {
    let begin = std::ptr::from_ref(element).cast::<i8>();
    for offset in (0..size_of::<T>()).step_by(LINE_BYTES) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch reads and writes nothing that the program sees, whatever the address.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(begin.wrapping_add(offset));
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = begin.wrapping_add(offset);
    }
}
