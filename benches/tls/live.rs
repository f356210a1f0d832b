//! The system's allocator, counting what each server's thread holds.

#![allow(unsafe_code, reason = "an allocator cannot be written without it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Threads that are told apart; the first stands for all others.
const THREADS: usize = 8;

static HELD: [AtomicI64; THREADS] = [const { AtomicI64::new(0) }; THREADS];

thread_local! {
    static WHO: Cell<usize> = const { Cell::new(0) };
}

/// What the calling thread allocates from here on counts as that one's.
pub(crate) fn be(who: usize) {
    WHO.set(who);
}

/// Bytes that this one has allocated and not freed.
pub(crate) fn of(who: usize) -> i64 {
    HELD[who].load(Ordering::SeqCst)
}

struct Counting;

fn count(bytes: i64) {
    let who = WHO.try_with(Cell::get).unwrap_or(0);
    HELD[who].fetch_add(bytes, Ordering::Relaxed);
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting allocates
// nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        // SAFETY: the caller keeps the promises of `realloc`.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller keeps the promises of `dealloc`.
        unsafe { System.dealloc(old, layout) }
    }
}
