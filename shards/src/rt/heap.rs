//! Gives memory that was freed, and that the allocator keeps, back to the kernel.

/// Gives back the pages that nothing is on, of all threads' memory. Allocations of a thread wait while its part is looked
/// through: up to a tenth of a second for each GB that is given back. Does nothing where the C library is not glibc.
#[cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "the C library's call has no safe wrapper")
)]
pub fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes no pointer, moves nothing that is in use, and may be called by any thread at any time
    // (malloc_trim(3): MT-Safe).
    unsafe {
        libc::malloc_trim(0);
    }
}
