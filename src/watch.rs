//! Descriptors of the application's own: stdin, pipes, eventfd, inotify, a child's output.
//!
//! The loop says when one is ready, and the application does with it what it likes. A watch
//! is asked for anew after each `on_ready`, so nobody has to drain anything: what is still
//! ready is said again in the next turn. Nothing about the descriptor is changed, above all
//! not O_NONBLOCK, which standard input shares with the shell that started the program.
//!
//! It never reads and never writes.

use std::fmt;

use crate::kernel::Readiness;

/// What a watched descriptor is ready for, as [`on_ready`](crate::Handler::on_ready) is told.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Ready(Readiness);

impl Ready {
    pub(crate) fn new(readiness: Readiness) -> Self {
        Self(readiness)
    }

    /// A read would not block: there are bytes, or the end, or an error.
    pub fn is_readable(self) -> bool {
        self.0.contains(Readiness::READABLE) || self.is_closed()
    }

    /// A write would not block: there is room, or nobody who reads.
    pub fn is_writable(self) -> bool {
        self.0.contains(Readiness::WRITABLE) || self.0.contains(Readiness::WRITE_CLOSED)
    }

    /// The other end has hung up. Bytes may be left to read.
    pub fn is_closed(self) -> bool {
        self.0.contains(Readiness::READ_CLOSED) || self.0.contains(Readiness::WRITE_CLOSED)
    }

    /// An error is pending; the next call on the descriptor tells which.
    pub fn is_error(self) -> bool {
        self.0.contains(Readiness::ERROR)
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
