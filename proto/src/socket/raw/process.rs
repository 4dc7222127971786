//! What a process has once: the allocator, libzmq's generator and clock, and its limits.

#[cfg(target_env = "gnu")]
use std::ffi::c_int;

/// Seeds the generator that libzmq takes routing ids and reconnect jitter from.
pub fn seed_rand(seed: u32) {
    // SAFETY: touches libc's generator alone.
    unsafe { libc::srand(seed) };
}

/// Lets glibc keep freed memory for the next frame, up to `bytes_max` at the end of each heap.
///
/// By itself it hands blocks of some hundred KiB and more to the system when they are freed and
/// fetches the next ones anew, page by page: for a frame of a MiB that costs as much as to copy it.
/// Other libraries do as they see fit.
pub fn keep_memory(bytes_max: usize) {
    #[cfg(target_env = "gnu")]
    {
        // glibc takes no more for the threshold of blocks that are mapped by themselves.
        let mapped_from = bytes_max.min(32 << 20);
        let limit = |bytes: usize| c_int::try_from(bytes).unwrap_or(c_int::MAX);
        // SAFETY: takes the allocator's own lock and sets two numbers.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, limit(mapped_from));
            libc::mallopt(libc::M_TRIM_THRESHOLD, limit(bytes_max));
        }
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = bytes_max;
}

/// Gives memory that was freed back to the system, ours and libzmq's. glibc keeps it in the middle
/// of the heap otherwise; other libraries do this by themselves or not at all.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes the allocator's own locks and touches nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Has the TCP listeners of the process hang up on connections whose descriptor is not below these
/// numbers: the first for listeners without keys, the second for those with. It is one of our
/// patches of libzmq.
pub fn limit_descriptors(keyless: i32, keyed: i32) {
    // SAFETY: sets two atomic numbers.
    unsafe { zmq_sys::muster_limit_descriptors(keyless, keyed) };
}

/// How many connections were hung up on for that.
pub fn newcomers_refused() -> u64 {
    // SAFETY: reads an atomic number.
    unsafe { zmq_sys::muster_newcomers_refused() }
}

/// libzmq's own clock in µs, if it can be read.
///
/// A stopwatch of libzmq 4.3.5 is an allocated `uint64_t` with the time it was started at.
pub fn libzmq_clock_us() -> Option<u64> {
    // SAFETY: the pointer is that of a live stopwatch, freed once.
    unsafe {
        let watch = zmq_sys::zmq_stopwatch_start();
        if watch.is_null() {
            return None;
        }
        let started_us = *watch.cast::<u64>();
        zmq_sys::zmq_stopwatch_stop(watch);
        Some(started_us)
    }
}
