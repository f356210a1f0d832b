//! How a connection ends: the reasons, the flush, the FIN and the drain, and what is given back.

use std::io;
use std::os::fd::OwnedFd;

use super::{Connection, GIVEN_AWAY};
use crate::engine::{Engine, nanos};
use crate::error::{Cause, CloseReason, Error, Op};
use crate::faults::fault;
use crate::fd;
use crate::flags::Flags;
use crate::handler::Closed;
use crate::kernel::{Errno, Fd};
use crate::timer::NEVER;
use crate::unix_path;

/// What a connection that is over still holds: its descriptor, and what decides how it goes.
#[derive(Clone, Copy)]
pub(crate) struct Remains {
    fd: Fd,
    flags: Flags,
}

impl Remains {
    #[inline]
    pub(crate) fn close(self, engine: &mut Engine) {
        if fault!(DescriptorLeaked) {
            return;
        }
        if fault!(DescriptorClosedTwice) && self.fd != GIVEN_AWAY {
            engine.kernel.close(self.fd);
        }
        if self.flags.has(Flags::ENDS_WITH_CARE) {
            self.close_with_care(engine);
        } else {
            engine.kernel.close_stream(self.fd);
        }
    }

    #[inline(never)]
    fn close_with_care(self, engine: &mut Engine) {
        if self.fd == GIVEN_AWAY {
            return;
        }
        if self.flags.has(Flags::ELSEWHERE) {
            engine.kernel.deregister(self.fd);
        }
        if self.flags.has(Flags::RESET) {
            engine.kernel.reset(self.fd);
        } else {
            engine.kernel.close(self.fd);
        }
    }
}

impl Connection {
    /// What a callback answered; `None` if it panicked.
    #[inline]
    pub(crate) fn called_back(&mut self, answer: Option<io::Result<()>>, engine: &mut Engine) {
        match answer {
            Some(Ok(())) => {}
            Some(Err(_)) if fault!(ErrIgnored) => {}
            None if fault!(PanicForgiven) => {}
            Some(Err(error)) => self.close(CloseReason::Handler(error), engine),
            None => self.abort(CloseReason::Panic, engine),
        }
    }

    /// As the application closes: for the reason that a plain `close()` has at this moment.
    #[inline]
    pub(crate) fn close_here(&mut self, engine: &mut Engine) {
        if self.has(Flags::EOF) && self.is_open() {
            self.set(Flags::CLOSING);
            self.set(Flags::AFTER_EOF);
            return self.begin_to_close(engine);
        }
        self.close_locally(engine);
    }

    #[inline(never)]
    fn close_locally(&mut self, engine: &mut Engine) {
        let reason = self.local_reason(engine);
        self.close(reason, engine);
    }

    /// Flush, FIN, bounded drain. The first reason counts.
    pub(crate) fn close(&mut self, reason: CloseReason, engine: &mut Engine) {
        if !self.is_open() {
            return;
        }
        self.set(Flags::CLOSING);
        match reason {
            CloseReason::Local => {}
            CloseReason::Eof => self.set(Flags::AFTER_EOF),
            other => self.cold_mut(engine).reason = Some(other),
        }
        self.begin_to_close(engine);
    }

    #[inline]
    fn begin_to_close(&mut self, engine: &mut Engine) {
        engine.stop_gathering(self.token);
        self.touch(engine);
        // What the peer has already sent must be drained, and nobody will announce it again.
        if self.has(Flags::READABLE) && !fault!(CloseForgetsInput) {
            self.make_ready(engine);
        }
    }

    /// The reason that a plain `close()` has at this moment.
    pub(crate) fn local_reason(&self, engine: &Engine) -> CloseReason {
        if self.has(Flags::EOF) {
            CloseReason::Eof
        } else if engine.stopping() {
            CloseReason::Shutdown
        } else {
            CloseReason::Local
        }
    }

    /// RST, and nothing more is delivered.
    pub(crate) fn abort(&mut self, reason: CloseReason, engine: &mut Engine) {
        if !self.is_dead() {
            if !fault!(AbortIsClose) {
                self.set(Flags::RESET);
            }
            // An abort overrides an earlier close: that is what happens now.
            self.end(reason, engine);
        }
    }

    /// FIN once everything queued has left; reading goes on.
    pub(crate) fn shutdown_write(&mut self, engine: &mut Engine) {
        if self.is_open() {
            self.set(Flags::FIN_ASKED);
            engine.stop_gathering(self.token);
            self.touch(engine);
        }
    }

    /// The socket reported an error: nothing more can be sent or received.
    pub(super) fn fail(&mut self, op: Op, call: &'static str, errno: Errno, engine: &mut Engine) {
        // A peer that resets after it has had all our output ends a close that is done.
        if self.has(Flags::CLOSING) && !self.has_output() {
            return self.die(CloseReason::Local, engine);
        }
        if fd::is_reset(errno) {
            return self.end(CloseReason::Reset, engine);
        }
        let cause = Cause::Syscall { call, errno };
        let error = Error::new(op, Some(self.network()), Some(self.peer().into()), cause);
        let error = match engine.kernel.local_addr(self.fd) {
            Ok(local) => error.with_source(local),
            Err(_) => error,
        };
        self.end(CloseReason::Io(error), engine);
    }

    /// The connection is over, for the reason of its `close` if there was one.
    pub(crate) fn die(&mut self, reason: CloseReason, engine: &mut Engine) {
        let reason = self.first_reason().unwrap_or(reason);
        self.end(reason, engine);
    }

    fn first_reason(&mut self) -> Option<CloseReason> {
        if !self.has(Flags::CLOSING) {
            return None;
        }
        if self.has(Flags::AFTER_EOF) {
            return Some(CloseReason::Eof);
        }
        let unusual = self.cold.as_mut().and_then(|cold| cold.reason.take());
        Some(unusual.unwrap_or(CloseReason::Local))
    }

    /// The connection is over, for this reason; `on_close` follows at the end of this turn.
    fn end(&mut self, reason: CloseReason, engine: &mut Engine) {
        if !self.is_dead() {
            self.set(Flags::DEAD);
            engine.stop_gathering(self.token);
            engine.closing.push(self.token, reason);
        }
    }

    /// What follows every callback, and every piece of work: flush, then FIN or the end,
    /// if they are due.
    #[inline]
    pub(crate) fn settle(&mut self, engine: &mut Engine) {
        if self.out.is_some() || self.has(Flags::UNSETTLED) {
            self.settle_output(engine);
        }
    }

    fn settle_output(&mut self, engine: &mut Engine) {
        self.flags.clear(Flags::IN_UNFLUSHED);
        if self.is_dead() || !self.has(Flags::REGISTERED) {
            return;
        }
        if self.has_output() {
            self.flush(engine);
        }
        if self.has(Flags::CLOSING) {
            return self.settle_close(engine);
        }
        if (self.has_output() && !fault!(FinBeforeOutput)) || self.is_dead() {
            return;
        }
        let fin_is_due = self.has(Flags::FIN_ASKED) && !self.has(Flags::FIN_SENT);
        if fin_is_due && self.say_goodbye(engine) {
            self.send_fin(engine);
        }
        if self.has(Flags::FIN_SENT) && self.has(Flags::EOF_TOLD) {
            self.die(CloseReason::Eof, engine);
        }
    }

    /// What is left of a connection that closes: the rest of its output, the FIN, the wait for
    /// the peer's. From the first time that any of it has to wait, the linger time runs.
    fn settle_close(&mut self, engine: &mut Engine) {
        let flushed = !self.has_output() || fault!(CloseWithoutFlush);
        if flushed && !self.is_dead() && self.say_goodbye(engine) {
            self.finish(engine);
        }
        if !self.is_dead() && self.lingers_until() == NEVER && !fault!(LingerForgotten) {
            let linger = nanos(engine.config.linger);
            let until = engine.clock.nanos.saturating_add(linger).min(NEVER - 1);
            self.cold_mut(engine).lingers_until = until;
            self.arm(engine);
        }
    }

    /// Everything is flushed. The end, unless closing now could destroy what the peer has
    /// not read yet: then FIN, and drain until it has.
    fn finish(&mut self, engine: &mut Engine) {
        let has_spoken = self.bytes_written > 0 || self.layered().is_some();
        if self.has(Flags::EOF) || !has_spoken || fault!(CloseWithoutDrain) {
            self.die(CloseReason::Local, engine);
        } else if !self.has(Flags::FIN_SENT) {
            self.send_fin(engine);
        }
    }

    fn send_fin(&mut self, engine: &mut Engine) {
        self.set(Flags::FIN_SENT);
        if fault!(FinForgotten) {
            return;
        }
        if let Err(errno) = engine.kernel.shutdown_write(self.fd) {
            self.fail(Op::Close, "shutdown", errno, engine);
        }
    }

    /// Gives the descriptor away: what is queued leaves first, as far as the kernel takes it
    /// now. EAGAIN if that is not all; nothing else has changed then.
    pub(crate) fn detach(&mut self, engine: &mut Engine) -> Result<OwnedFd, Errno> {
        if !self.is_open() {
            return Err(Errno(libc::EBADF));
        }
        // Whoever had it would lack what its layer knows.
        if self.layered().is_some() {
            return Err(Errno(libc::EOPNOTSUPP));
        }
        self.unload(engine);
        while self.out.is_some() && self.has(Flags::WRITABLE) && !self.is_dead() {
            self.flush(engine);
        }
        if self.out.is_some() && !self.is_dead() {
            return Err(Errno(libc::EAGAIN));
        }
        if self.has(Flags::FIN_ASKED) && !self.has(Flags::FIN_SENT) && !self.is_dead() {
            self.send_fin(engine);
        }
        if self.is_dead() {
            return Err(Errno(libc::EPIPE));
        }
        let fd = engine.kernel.release(self.fd)?;
        self.fd = GIVEN_AWAY;
        self.set(Flags::ELSEWHERE);
        self.die(CloseReason::Detached, engine);
        Ok(fd)
    }

    /// How it ended. What is left is a husk, to be dropped, and a descriptor.
    #[inline]
    pub(crate) fn retire(&mut self, reason: CloseReason, engine: &mut Engine) -> Closed {
        let holds_more = self.out.is_some() || self.cold.is_some() || self.entry.is_some();
        let (unread, unsent) = if holds_more {
            self.give_back(engine)
        } else {
            (0, 0)
        };
        Closed {
            id: self.id(),
            reason,
            bytes_read: self.bytes_read,
            bytes_written: self.bytes_written,
            unread,
            unsent,
        }
    }

    /// Gives everything back but the descriptor, the timers to the engine; answers how many bytes nobody has read, and how
    /// many the kernel never took.
    #[inline(never)]
    fn give_back(&mut self, engine: &mut Engine) -> (u64, u64) {
        let mut unsent = self.retire_output(engine);
        let mut unread = 0;
        if let Some(cold) = &mut self.cold {
            engine.orphans = std::mem::take(&mut cold.timers);
            if let Some(layered) = cold.layered.take() {
                unsent = layered.retire(engine) as u64;
            }
            unread = self.retire_cold(engine);
        }
        if let Some(entry) = self.entry.take() {
            engine.wheel.cancel(entry);
        }
        (unread, unsent)
    }

    /// Answers how many bytes the kernel never took.
    fn retire_output(&mut self, engine: &mut Engine) -> u64 {
        let Some(mut out) = self.out.take() else {
            return 0;
        };
        let unsent = out.clear(&mut engine.pool);
        if !fault!(UnsentNotGivenBack) {
            engine.account(unsent, 0);
        }
        engine.pool.put_outbound(out);
        unsent as u64
    }

    /// Answers how many bytes nobody has read.
    fn retire_cold(&mut self, engine: &mut Engine) -> u64 {
        let unread = self.unread() as u64 + u64::from(self.discarded());
        if let Some(leftover) = self.take_leftover() {
            if !fault!(UnreadNotGivenBack) {
                engine.account(leftover.len(), 0);
            }
            leftover.release(&mut engine.pool);
        }
        if let Some(path) = self.path() {
            unix_path::remove_if_ours(engine.kernel.as_mut(), path);
        }
        if let Some(cold) = self.cold.take() {
            engine.spares.give(cold);
        }
        unread
    }

    /// What is to be closed when nothing else is left, and how.
    #[inline]
    pub(crate) fn remains(&self) -> Remains {
        Remains {
            fd: self.fd,
            flags: self.flags,
        }
    }
}
