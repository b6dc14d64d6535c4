//! Counts allocations while asked to; otherwise the system's allocator and one check of a flag.

#![expect(unsafe_code, reason = "an allocator can only be counted by being one")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, Ordering::Relaxed},
};

/// What a piece of work allocated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allocated {
    /// How often memory was asked for, growing included.
    pub(crate) count: u64,
    /// The most bytes held at a time, above what was held before.
    pub(crate) peak: u64,
}

static COUNTING: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);
static HELD: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn changed(size: usize, sign: isize, counts: bool) {
    if COUNTING.load(Relaxed) {
        let held = HELD.fetch_add(sign * size.cast_signed(), Relaxed) + sign * size.cast_signed();
        PEAK.fetch_max(held, Relaxed);
        COUNT.fetch_add(u64::from(counts), Relaxed);
    }
}

// SAFETY: every call is passed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        changed(layout.size(), 1, true);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        changed(layout.size(), -1, false);
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        changed(layout.size(), -1, false);
        changed(new_size, 1, true);
        // SAFETY: the caller keeps `realloc`'s contract.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

/// What `work` allocates. One thread at a time may ask.
pub(crate) fn count<T>(work: impl FnOnce() -> T) -> Allocated {
    COUNT.store(0, Relaxed);
    HELD.store(0, Relaxed);
    PEAK.store(0, Relaxed);
    COUNTING.store(true, Relaxed);
    let result = work();
    COUNTING.store(false, Relaxed);
    drop(result);
    Allocated { count: COUNT.load(Relaxed), peak: PEAK.load(Relaxed).unsigned_abs() as u64 }
}
