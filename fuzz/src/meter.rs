//! How much memory and processor time a target takes: the allocator of these programs counts, thread by thread.
#![allow(unsafe_code)] // a global allocator cannot be had without; it only counts and passes on to the system's

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

thread_local! {
    // Constant and without a destructor: reading them never allocates.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(by: isize) {
    let live = LIVE.get().wrapping_add(by);
    LIVE.set(live);
    if live > PEAK.get() {
        PEAK.set(live);
    }
}

// SAFETY: every call goes to `System` with the arguments as they came, and its answer is given back as it is;
// counting touches two thread-local integers, allocates nothing and cannot unwind.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises about `layout` are those that `System` wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: `at` came from `System`, by one of the functions here, with this `layout`.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: as in `dealloc`.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// What a piece of work held.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Bytes at the most, above what there was before.
    pub peak: usize,
    /// Bytes that are still there.
    pub left: usize,
}

/// Measures the memory that `work` allocates on this thread.
pub fn memory<T>(work: impl FnOnce() -> T) -> (T, Memory) {
    let before = LIVE.get();
    PEAK.set(before);
    let result = work();
    let above = |n: isize| usize::try_from(n - before).unwrap_or(0);
    let memory = Memory { peak: above(PEAK.get()), left: above(LIVE.get()) };
    (result, memory)
}

/// The processor time that this thread has taken; zero where the system does not tell (it is Linux's to tell).
pub fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0))
}
