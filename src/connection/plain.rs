//! The short way of a connection of which nothing is to be known but that bytes come and go.
//!
//! Each function here does what others do the long way, and knows that there is nothing else to
//! do; whatever turns out to be otherwise is handed to them.

use super::Connection;
use crate::engine::{Engine, NOBODY};
use crate::faults::fault;
use crate::fd;
use crate::flags::Flags;
use crate::kernel::{Moved, Readiness};

impl Connection {
    /// Whether nothing is to be known of this connection but that bytes come and go: if that is
    /// what an event says, one receive, one callback and one send are all there is to it.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        if !self.flags.is(Flags::PLAIN) || self.out.is_some() {
            return false;
        }
        match &self.cold {
            None => true,
            Some(cold) => cold.lets_be_plain(),
        }
    }

    /// The one read of a plain connection, into the whole of the shared buffer. If it answers
    /// as most do, with some bytes that do not fill it, the socket is drained and the
    /// connection as plain as before; else the answer is for
    /// [`received_first`](Self::received_first).
    #[inline]
    pub(crate) fn receive_plain(
        &mut self,
        engine: &mut Engine,
        shared: &mut [u8],
    ) -> Result<usize, Moved> {
        engine.stats.reads += 1;
        let n = engine.kernel.recv_some(self.fd, shared)?;
        if !fault!(IdleNotRenewed) {
            self.active_at = engine.clock.nanos;
        }
        self.gained(n, engine);
        Ok(n)
    }

    /// The same, where the event says that the end is behind the bytes: `Ok` if it was all that
    /// was left, and the handler is to be told.
    #[inline]
    pub(crate) fn receive_end(
        &mut self,
        engine: &mut Engine,
        shared: &mut [u8],
    ) -> Result<(), Moved> {
        engine.stats.reads += 1;
        let moved = engine.kernel.recv(self.fd, shared);
        if !moved.is_nothing() {
            return Err(moved);
        }
        self.set(Flags::ENDED);
        Ok(())
    }

    /// Ends a plain connection whose handler has closed it when it was told of the end, if there
    /// is nothing to be sent any more. `false`: there is more to see to.
    #[inline(always)]
    pub(crate) fn end_plain(&mut self, engine: &mut Engine) -> bool {
        let over = self.flags.is(Flags::OVER) && self.out.is_none() && engine.gather.is_empty();
        if over {
            engine.current = NOBODY;
            self.set(Flags::DEAD);
            engine.closing.push_eof(self.token);
        }
        over
    }

    /// What else the first read may have come to.
    pub(crate) fn received_first(
        &mut self,
        moved: Moved,
        ready: Readiness,
        engine: &mut Engine,
        shared: &mut [u8],
    ) -> Option<usize> {
        self.mark(ready);
        let received = fd::after_read(moved, engine.kernel.as_mut(), self.fd, shared);
        let n = self.received(received, engine, shared.len())?;
        self.gained(n, engine);
        Some(n)
    }

    /// A callback of a plain connection begins.
    #[inline]
    pub(crate) fn begin_plain_callback(&self, engine: &mut Engine) {
        let most = self.gather_most(engine);
        engine.begin_callback(self.token, Some(most));
    }

    /// Sends what the callback of a plain connection has gathered, if that is all that came of
    /// it. `false`: there is more to see to.
    #[inline(always)]
    pub(crate) fn ship_plain(&mut self, engine: &mut Engine) -> bool {
        let len = engine.gather.len();
        if len > 0 {
            engine.stats.writes += 1;
            if let Err(moved) = engine.kernel.send_all(self.fd, &engine.gather) {
                self.sent_first(moved, engine);
                return false;
            }
            // Nothing else can be due: the turn's time was noted by the read.
            self.bytes_written += len as u64;
            engine.stats.bytes_written += len as u64;
            if !fault!(AnswerToStranger) {
                engine.gather.clear();
            }
        }
        engine.current = NOBODY;
        true
    }

    /// What else that send may have come to.
    #[cold]
    fn sent_first(&mut self, moved: Moved, engine: &mut Engine) {
        let kernel = engine.kernel.as_mut();
        let sent = fd::after_write(moved, kernel, self.fd, &engine.gather);
        self.gathered_sent(sent, engine);
    }
}
