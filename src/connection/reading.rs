//! How a connection reads: one call at a time, joined with what was left over.
//!
//! Bytes come in at one place, [`Connection::receive`].

use std::io;

use super::Connection;
use crate::config;
use crate::engine::Engine;
use crate::error::{CloseReason, Op};
use crate::faults::fault;
use crate::fd::{self, Received};
use crate::flags::Flags;
use crate::input::Leftover;

/// Where the bytes that a callback is to be offered lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Filled {
    /// In the loop's shared buffer, that many from its start.
    Shared(usize),
    /// In the connection's own leftover.
    Own,
    /// Nowhere: nothing came.
    Nothing,
    /// Nowhere, but the connection's layer has come to terms with the peer's.
    Agreed,
}

/// What is left of a turn's allowance for one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    bytes: usize,
    calls: u32,
}

impl Budget {
    pub(crate) fn of_a_turn(engine: &Engine) -> Self {
        Self {
            bytes: engine.config.read_budget,
            calls: engine.config.read_calls,
        }
    }

    pub(crate) fn spend(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.calls = self.calls.saturating_sub(1);
    }

    pub(crate) fn is_spent(self) -> bool {
        self.bytes == 0 || self.calls == 0
    }
}

impl Connection {
    /// Whether no reason to pause reading holds.
    pub(crate) fn may_read(&self, engine: &Engine) -> bool {
        self.may_offer() && !engine.pressed
    }

    /// Whether the handler may be shown what has been read. It may while memory is short:
    /// consuming what is left over is how memory is freed.
    pub(crate) fn may_offer(&self) -> bool {
        self.is_open() && !self.is_paused()
    }

    pub(super) fn is_paused(&self) -> bool {
        let full = self.has(Flags::FULL) && !fault!(FullOutputReadOn);
        (self.has(Flags::PAUSED) && !fault!(PauseIgnored)) || (full && self.has(Flags::AUTO_PAUSE))
    }

    /// Whether a service of the read side would find news.
    pub(crate) fn wants_reading(&self) -> bool {
        self.has(Flags::READABLE) || (self.has(Flags::EOF) && !self.has(Flags::EOF_TOLD))
    }

    /// One read call at most, joined with what was left over. Clears `READABLE` when the
    /// socket is drained; sets `EOF` or ends the connection when it says so.
    pub(crate) fn fill(
        &mut self,
        engine: &mut Engine,
        shared: &mut [u8],
        budget: &mut Budget,
    ) -> Filled {
        let left = self.unread();
        let filled = if left == 0 || (left <= config::LEFTOVER_JOIN && left * 2 <= shared.len()) {
            self.fill_shared(engine, shared, left, budget)
        } else {
            self.fill_own(engine, budget)
        };
        if filled == Filled::Nothing && self.take_handshake_news() {
            return Filled::Agreed;
        }
        filled
    }

    pub(super) fn gained(&mut self, n: usize, engine: &mut Engine) {
        self.bytes_read += n as u64;
        engine.stats.bytes_read += n as u64;
    }

    fn fill_shared(
        &mut self,
        engine: &mut Engine,
        shared: &mut [u8],
        left: usize,
        budget: &mut Budget,
    ) -> Filled {
        if let Some(leftover) = self.leftover() {
            shared[..left].copy_from_slice(leftover.bytes());
        }
        let Some(n) = self.receive(engine, &mut shared[left..]) else {
            return Filled::Nothing;
        };
        budget.spend(n);
        if fault!(LeftoverReordered) {
            shared[..left + n].rotate_left(left);
        }
        if let Some(leftover) = self.take_leftover() {
            engine.account(left, 0);
            leftover.release(&mut engine.pool);
            self.cool(engine);
        }
        self.gained(n, engine);
        Filled::Shared(left + n)
    }

    fn fill_own(&mut self, engine: &mut Engine, budget: &mut Budget) -> Filled {
        let Some(mut leftover) = self.take_leftover() else {
            return Filled::Nothing;
        };
        let before = leftover.len();
        // Twice what can be unread at once: then each byte is moved a bounded number of
        // times, however small the pieces that arrive and are consumed.
        let most = self
            .limits(engine)
            .input
            .saturating_add(config::LEFTOVER_READ);
        let cap = most.saturating_mul(2);
        let got = self.receive(engine, leftover.spare(config::LEFTOVER_READ, cap));
        if let Some(n) = got {
            budget.spend(n);
            leftover.filled(n);
            engine.account(before, before + n);
            self.gained(n, engine);
        }
        self.cold_mut(engine).leftover = Some(leftover);
        got.map_or(Filled::Nothing, |_| Filled::Own)
    }

    /// Plain bytes, whatever they were on the wire.
    fn receive(&mut self, engine: &mut Engine, buffer: &mut [u8]) -> Option<usize> {
        if self.layered().is_some() {
            self.receive_layered(engine, buffer)
        } else {
            self.receive_wire(engine, buffer)
        }
    }

    /// The one place where bytes come in from the wire.
    #[inline]
    pub(super) fn receive_wire(&mut self, engine: &mut Engine, buffer: &mut [u8]) -> Option<usize> {
        engine.stats.reads += 1;
        let received = if self.has(Flags::MESSAGES) {
            self.receive_message(engine, buffer)
        } else {
            fd::read(engine.kernel.as_mut(), self.fd, buffer)
        };
        self.received(received, engine, buffer.len())
    }

    #[inline]
    pub(super) fn received(
        &mut self,
        received: Received,
        engine: &mut Engine,
        room: usize,
    ) -> Option<usize> {
        let Received::Bytes(n) = received else {
            return self.received_no_bytes(received, engine);
        };
        let short = n < room || fault!(FullReadIsLast);
        if short && (!self.has(Flags::CUT_SHORT) || fault!(FinIgnored)) {
            self.flags.clear(Flags::READABLE);
        }
        if !fault!(IdleNotRenewed) {
            self.active_at = engine.clock.nanos;
        }
        Some(n)
    }

    #[cold]
    fn received_no_bytes(&mut self, received: Received, engine: &mut Engine) -> Option<usize> {
        match received {
            Received::Bytes(n) => return Some(n),
            Received::Cut(n) => {
                self.active_at = engine.clock.nanos;
                if !self.is_open() {
                    return Some(n);
                }
                self.discard(n, engine);
                self.close(CloseReason::InputTooLong, engine);
            }
            Received::Eof => {
                self.flags.clear(Flags::READABLE);
                self.set(Flags::EOF);
                // A FIN hides the reset that followed it from every later read.
                self.fail_if_broken(engine);
            }
            Received::WouldBlock => {
                engine.stats.would_blocks += 1;
                if fault!(IdleRenewedByNothing) {
                    self.active_at = engine.clock.nanos;
                }
                self.flags.clear(Flags::READABLE);
                self.flags.clear(Flags::URGENT_SEEN);
            }
            Received::Failed(errno) => {
                self.flags.clear(Flags::READABLE);
                self.fail(Op::Read, "read", errno, engine);
            }
        }
        None
    }

    /// One call that keeps the bounds of records and may bring descriptors.
    #[inline(never)]
    fn receive_message(&mut self, engine: &mut Engine, buffer: &mut [u8]) -> Received {
        let kernel = engine.kernel.as_mut();
        let (fd, records, open) = (self.fd, self.has(Flags::RECORDS), self.is_open());
        let messages = self.cold.as_mut().and_then(|cold| cold.messages.as_mut());
        let Some(messages) = messages.filter(|messages| open && messages.takes_fds()) else {
            return if records {
                fd::receive_message(kernel, fd, buffer, None)
            } else {
                fd::read(kernel, fd, buffer)
            };
        };
        let before = messages.waiting();
        let received = fd::receive_message(kernel, fd, buffer, Some(messages.arrivals()));
        engine.stats.descriptors_dropped += messages.trim(before) as u64;
        received
    }

    /// Lends out what the connection keeps, for one callback.
    pub(crate) fn lend_leftover(&mut self) -> Option<Leftover> {
        self.take_leftover()
    }

    /// Takes back what was lent, less what the callback consumed.
    pub(crate) fn return_leftover(
        &mut self,
        mut leftover: Leftover,
        consumed: usize,
        engine: &mut Engine,
    ) {
        let before = leftover.len();
        leftover.consume(consumed.saturating_sub(usize::from(fault!(ByteOfferedTwice))));
        engine.account(before, leftover.len());
        if self.leaves_to_layer(leftover.bytes(), engine) {
            engine.account(leftover.len(), 0);
            return leftover.release(&mut engine.pool);
        }
        if leftover.is_empty() {
            leftover.release(&mut engine.pool);
            self.cool(engine);
        } else {
            // Only what the handler consumed can have left a buffer mostly unused; growing
            // and shrinking it by turns would cost a copy per arriving byte.
            if consumed > 0 {
                leftover.settle(&mut engine.pool);
            }
            self.cold_mut(engine).leftover = Some(leftover);
        }
        self.check_input(engine);
    }

    /// Keeps what a callback left of the shared buffer.
    pub(crate) fn keep(&mut self, rest: &[u8], engine: &mut Engine) {
        if rest.is_empty() || self.leaves_to_layer(rest, engine) || fault!(LeftoverLost) {
            return;
        }
        engine.account(0, rest.len());
        let leftover = Leftover::keep(rest, &mut engine.pool);
        self.cold_mut(engine).leftover = Some(leftover);
        if self.has(Flags::RECORDS) {
            // Joined with the next it would be no record any more.
            let why = "a record was not consumed whole";
            let error = io::Error::new(io::ErrorKind::InvalidData, why);
            return self.close(CloseReason::Handler(error), engine);
        }
        self.check_input(engine);
    }

    fn check_input(&mut self, engine: &mut Engine) {
        if self.is_open() && self.unread() > self.limits(engine).input && !fault!(InputLimitIgnored)
        {
            self.close(CloseReason::InputTooLong, engine);
        }
    }

    /// Receives and throws away, so that our close does not turn into a reset that
    /// destroys the end of our output. Ends the connection when the peer is done, or has
    /// sent more than the drain limit.
    pub(crate) fn drain(&mut self, engine: &mut Engine, shared: &mut [u8]) {
        let mut budget = Budget::of_a_turn(engine);
        while self.has(Flags::READABLE) && !self.is_dead() {
            if budget.is_spent() {
                self.make_ready(engine);
                return;
            }
            let came = self.receive(engine, shared);
            budget.spend(came.unwrap_or(0));
            if let Some(n) = came {
                self.discard(n, engine);
                let over = self.discarded() as usize > engine.config.drain_limit;
                if over && !fault!(DrainLimitIgnored) {
                    self.set(Flags::RESET);
                    self.die(CloseReason::Local, engine);
                    return;
                }
            }
        }
        self.settle(engine);
    }

    fn discard(&mut self, n: usize, engine: &mut Engine) {
        let n32 = u32::try_from(n).unwrap_or(u32::MAX);
        let cold = self.cold_mut(engine);
        cold.discarded = cold.discarded.saturating_add(n32);
        engine.stats.bytes_discarded += n as u64;
    }
}
