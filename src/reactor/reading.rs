//! The part of the turn in which one connection is read, and its handler is offered what came.

use super::Reactor;
use crate::connection::{Budget, Filled};
use crate::core::Core;
use crate::faults::fault;
use crate::flags::Flags;
use crate::handler::Handler;
use crate::input::Input;
use crate::token::Token;

impl<H: Handler> Reactor<H> {
    /// Reads and offers until the socket is drained, the budget is spent, or reading
    /// pauses. Whoever stops with work left is on a list, or waits for a callback that
    /// resumes it.
    pub(super) fn read(&mut self, token: Token) {
        self.read_on(token, Budget::of_a_turn(&self.core.engine), true);
    }

    pub(super) fn read_on(&mut self, token: Token, mut budget: Budget, mut first: bool) {
        while let Some(filled) = self.fill(token, &mut budget, std::mem::take(&mut first)) {
            match filled {
                Filled::Shared(len) => {
                    if !self.offer_shared(token, len) {
                        return;
                    }
                }
                Filled::Own => self.offer_own(token, false),
                Filled::Agreed => self.tell_handshake(token),
                Filled::Nothing => {
                    self.tell_eof(token);
                    return;
                }
            }
        }
    }

    /// What is to be offered next; `None` if this connection's turn is over. Leftovers are
    /// offered again by the first call only: who asks for that while it runs asks for the
    /// next turn, or a handler could hold the loop for ever.
    fn fill(&mut self, token: Token, budget: &mut Budget, first: bool) -> Option<Filled> {
        let Core { conns, engine, .. } = &mut self.core;
        let conn = conns.get_mut(token)?;
        if !conn.is_open() {
            conn.drain(engine, &mut self.buffer);
            return None;
        }
        let offer = first && conn.has(Flags::OFFER);
        if !offer && !conn.wants_reading() {
            return None;
        }
        if !conn.may_read(engine) {
            conn.fail_if_broken(engine);
        }
        if !conn.may_offer() && !conn.shakes_hands() {
            return None;
        }
        let mut filled = Filled::Nothing;
        if engine.pressed && !conn.reads_to_free() {
            conn.park(engine);
        } else if conn.has(Flags::READABLE) {
            if budget.is_spent() && !fault!(BudgetIgnored) {
                if !fault!(BudgetForgotten) {
                    conn.make_ready(engine);
                }
                return None;
            }
            filled = conn.fill(engine, &mut self.buffer, budget);
        }
        if offer {
            conn.take(Flags::OFFER);
        }
        if filled == Filled::Nothing && offer && conn.unread() > 0 && conn.is_open() {
            filled = Filled::Own;
        }
        Some(filled)
    }

    fn tell_handshake(&mut self, token: Token) {
        self.core.engine.stats.handshakes += 1;
        self.callback(token, "on_handshake", |handler, conn, session, _| {
            handler.on_handshake(conn, session)
        });
        // What was written before this leaves now, whoever wrote it.
        if let Some(conn) = self.core.conns.get_mut(token) {
            conn.set(Flags::IN_UNFLUSHED);
            if fault!(HeldForgotten) {
                conn.forget_held(&mut self.core.engine);
            }
        }
        self.settle(token);
    }

    /// Whether there is more to do here: more to read, or a close to see to.
    pub(super) fn offer_shared(&mut self, token: Token, len: usize) -> bool {
        let mut consumed = 0;
        self.callback(token, "on_read", |handler, conn, session, buffer| {
            let mut input = Input::new(&buffer[..len]);
            let outcome = handler.on_read(conn, session, &mut input);
            // A handler may have put another `Input` in the place of the one it was lent.
            consumed = input.consumed().min(len);
            outcome
        });
        let Core { conns, engine, .. } = &mut self.core;
        let Some(conn) = conns.get_mut(token) else {
            return false;
        };
        conn.keep(&self.buffer[consumed..len], engine);
        conn.settle(engine);
        !conn.is_open() || conn.wants_reading()
    }

    fn offer_own(&mut self, token: Token, at_eof: bool) {
        let Some(conn) = self.core.conns.get_mut(token) else {
            return;
        };
        let leftover = conn.lend_leftover();
        let bytes = leftover.as_ref().map_or(&[][..], |left| left.bytes());
        let mut consumed = 0;
        let name = if at_eof { "on_eof" } else { "on_read" };
        self.callback(token, name, |handler, conn, session, _| {
            let mut input = Input::new(bytes);
            let outcome = if at_eof {
                handler.on_eof(conn, session, &mut input)
            } else {
                handler.on_read(conn, session, &mut input)
            };
            consumed = input.consumed();
            outcome
        });
        let Core { conns, engine, .. } = &mut self.core;
        if let Some(conn) = conns.get_mut(token) {
            if let Some(leftover) = leftover {
                conn.return_leftover(leftover, consumed, engine);
            }
            conn.settle(engine);
        }
    }

    /// Once, after every byte was offered, and only while reading is not paused. What waits
    /// to be offered again, because output was full when it was offered, goes before.
    pub(super) fn tell_eof(&mut self, token: Token) {
        let Core { conns, engine, .. } = &mut self.core;
        let Some(conn) = conns.get_mut(token) else {
            return;
        };
        if conn.has(Flags::OFFER) && conn.unread() > 0 && !fault!(EofBeforeLeftovers) {
            return conn.make_ready(engine);
        }
        if conn.has(Flags::EOF) && !conn.has(Flags::EOF_TOLD) && conn.may_offer() {
            if !fault!(EofToldTwice) {
                conn.set(Flags::EOF_TOLD);
            }
            if conn.unread() > 0 {
                return self.offer_own(token, true);
            }
            self.callback(token, "on_eof", |handler, conn, session, _| {
                handler.on_eof(conn, session, &mut Input::new(&[]))
            });
            self.settle(token);
        }
    }
}
