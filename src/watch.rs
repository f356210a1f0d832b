//! Descriptors of the application's own: stdin, pipes, eventfd, inotify, a child's output.
//!
//! The loop says when one is ready, and the application does with it what it likes. A watch
//! is asked for anew after each `on_ready`, so nobody has to drain anything: what is still
//! ready is said again in the next turn. Nothing about the descriptor is changed, above all
//! not O_NONBLOCK, which standard input shares with the shell that started the program.
//!
//! It never reads and never writes.

use std::fmt;
use std::os::fd::OwnedFd;

use crate::core::Core;
use crate::engine::Engine;
use crate::error::{Cause, Error, Op};
use crate::faults::fault;
use crate::kernel::{Errno, Event, Fd, Interest, Readiness};
use crate::sources::Named;
use crate::token::{Owner, Token, WatchId};

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

/// One descriptor that is watched.
#[derive(Debug)]
pub(crate) struct Watching {
    token: Token,
    pub(crate) owner: Owner,
    fd: Fd,
    interest: Interest,
    /// What the kernel has said since the last `on_ready`.
    ready: Readiness,
    in_ready: bool,
    /// The kernel could not be asked to say it again.
    unasked: bool,
}

impl Named for Watching {
    fn token(&self) -> Token {
        self.token
    }
}

impl Watching {
    pub(crate) fn fd(&self) -> Fd {
        self.fd
    }

    /// What it would be called for, at least.
    pub(crate) fn asks_for(&self) -> Readiness {
        match self.interest {
            Interest::Read | Interest::ReadWrite => Readiness::READABLE,
            Interest::Write => Readiness::WRITABLE,
        }
    }

    pub(crate) fn note(&mut self, event: Event) {
        self.ready.insert(event.ready);
    }

    pub(crate) fn left_ready(&mut self) {
        self.in_ready = false;
    }

    /// What is to be said, if anything.
    pub(crate) fn take_ready(&mut self) -> Option<Ready> {
        let ready = std::mem::take(&mut self.ready);
        (ready != Readiness::default()).then_some(Ready::new(ready))
    }

    /// Asks the kernel to say again what is still so. If it can't, the next turn asks: to
    /// say what may be so no more would have the application wait in a read.
    pub(crate) fn ask_again(&mut self, engine: &mut Engine) {
        if fault!(WatchAskedOnce) {
            return;
        }
        let asked = engine.kernel.rewatch(self.fd, self.token, self.interest);
        self.unasked = asked.is_err();
        if let Err(errno) = asked {
            log::debug!(target: "windlass::watch", "{:?}: {errno:?}", self.token);
            if !std::mem::replace(&mut self.in_ready, true) {
                engine.ready.push(self.token);
            }
        }
    }

    /// As [`ask_again`](Self::ask_again), if that has failed before.
    pub(crate) fn ask_if_due(&mut self, engine: &mut Engine) {
        if self.unasked {
            self.ask_again(engine);
        }
    }
}

impl Core {
    pub(crate) fn watch(
        &mut self,
        fd: OwnedFd,
        interest: Interest,
        owner: Owner,
    ) -> Result<WatchId, Error> {
        let Self {
            watches, engine, ..
        } = self;
        let fail = |cause: Cause| Error::new(Op::Watch, None, None, cause);
        let fd = engine.kernel.keep(fd).map_err(|errno| fail(errno.into()))?;
        let made = watches.insert(|token| Watching {
            token,
            owner,
            fd,
            interest,
            ready: Readiness::default(),
            in_ready: false,
            unasked: false,
        });
        let Some(token) = made else {
            drop(engine.kernel.release(fd));
            return Err(fail(Cause::Invalid("too many watches".to_owned())));
        };
        let id = WatchId::new(token);
        if let Err(errno) = engine.kernel.watch(fd, token, interest) {
            self.unwatch(id);
            return Err(fail(why_not(errno)));
        }
        Ok(id)
    }

    pub(crate) fn unwatch(&mut self, id: WatchId) -> Option<OwnedFd> {
        let watch = self.watches.remove(id.token())?;
        self.engine.freed = true;
        self.engine.kernel.release(watch.fd).ok()
    }
}

fn why_not(errno: Errno) -> Cause {
    match errno.0 {
        libc::EPERM => Cause::Explained {
            why: "a file that is always ready cannot be watched",
            errno,
        },
        _ => errno.into(),
    }
}
