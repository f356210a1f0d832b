//! The trace of a world: the last lines that anybody has added, each with its time.
//!
//! Shared with whoever runs in the world, so it locks; only one thread ever has a say. It
//! knows nothing of what the lines are about.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::net::Nanos;

/// Lines that are kept.
const MOST_LINES: usize = 4096;
/// Characters of the time before a line, so that the lines stand below each other.
const TIME_WIDTH: usize = 12;

/// The last lines, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    on: AtomicBool,
    now: AtomicU64,
    lines: Mutex<VecDeque<String>>,
}

impl Trace {
    /// Begins with none, or ends.
    pub(super) fn keep(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
        self.with(VecDeque::clear);
    }

    /// The time of the lines that follow.
    pub(super) fn at(&self, now: Nanos) {
        self.now.store(now, Ordering::Relaxed);
    }

    /// Adds a line; it is not made while none are kept.
    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        if !self.on.load(Ordering::Relaxed) {
            return;
        }
        let now = Duration::from_nanos(self.now.load(Ordering::Relaxed));
        let time = format!("{now:?}");
        let line = format!("{time:>TIME_WIDTH$}  {}", line());
        self.with(|lines| {
            if lines.len() == MOST_LINES {
                lines.pop_front();
            }
            lines.push_back(line);
        });
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.with(|lines| lines.iter().cloned().collect())
    }

    fn with<R>(&self, act: impl FnOnce(&mut VecDeque<String>) -> R) -> R {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut lines)
    }
}
