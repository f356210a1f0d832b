//! Step 4 of a turn: what the last one left, then what the kernel has reported; and the short ways
//! that nearly every event goes.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::Reactor;
use crate::config::PanicPolicy;
use crate::connection::{Budget, Connection};
use crate::context::Conn;
use crate::core::Core;
use crate::engine::{NOBODY, words_of};
use crate::faults::fault;
use crate::flags::Flags;
use crate::handler::Handler;
use crate::input::Input;
use crate::kernel::{Event, Moved};
use crate::token::{Kind, Token};

impl<H: Handler> Reactor<H> {
    pub(super) fn serve_ready(&mut self) {
        if self.core.engine.ready.is_empty() {
            return;
        }
        std::mem::swap(&mut self.serving, &mut self.core.engine.ready);
        for at in 0..self.serving.len() {
            let token = self.serving[at];
            match token.kind() {
                Some(Kind::Conn) => {
                    self.serve(token);
                    self.set_served(token, !fault!(TwoBudgets));
                }
                Some(Kind::Listener) => {
                    if let Some(listener) = self.core.listeners.get_mut(token) {
                        listener.left_ready();
                        self.accepting.push(token);
                        self.tell_accept_timeout(token);
                    }
                }
                Some(Kind::Dial) => self.core.serve_dial(token),
                Some(Kind::Socket) => self.serve_socket(token),
                Some(Kind::Watch) => self.serve_watch(token),
                Some(Kind::Timer) | None => {}
            }
        }
    }

    /// Whoever came off the ready list has had its share of this turn, whatever is reported.
    fn set_served(&mut self, token: Token, served: bool) {
        if let Some(conn) = self.core.conns.get_mut(token) {
            if served {
                conn.set(Flags::SERVED);
            } else {
                conn.take(Flags::SERVED);
            }
        }
    }

    pub(super) fn serve_events(&mut self) {
        self.served = 0;
        while self.served < self.events.len() {
            match self.core.engine.config.panic_policy {
                PanicPolicy::Isolate if fault!(PanicEndsLoop) => self.serve_each(),
                PanicPolicy::Isolate => self.serve_isolated(),
                PanicPolicy::Propagate => self.serve_each(),
            }
        }
        if !self.serving.is_empty() {
            self.all_served();
        }
    }

    /// The events are through: whoever came off the ready list may be served again.
    fn all_served(&mut self) {
        for at in 0..self.serving.len() {
            self.set_served(self.serving[at], false);
        }
        self.serving.clear();
    }

    /// One guard for all callbacks of the short way: to set one up for each costs more than
    /// anything else about a callback. After a panic the next event is served under another.
    fn serve_isolated(&mut self) {
        let all = AssertUnwindSafe(|| self.serve_each());
        if let Err(payload) = catch_unwind(all) {
            self.read_panicked(payload);
            if fault!(PanicCostsOthers) {
                self.served = self.events.len();
            }
        }
    }

    /// Those events that have not been taken yet.
    fn serve_each(&mut self) {
        // Only the long way times callbacks.
        let short = !self.core.engine.times_callbacks;
        while let Some(event) = self.next_event() {
            let done = short && self.serve_shortly(event);
            if !done {
                self.serve_event(event);
            }
        }
    }

    #[inline(always)]
    fn next_event(&mut self) -> Option<Event> {
        let event = *self.events.get(self.served)?;
        self.served += 1;
        Some(event)
    }

    /// The short ways. `false`: this event has to go the long way, and nothing was done.
    #[inline(always)]
    fn serve_shortly(&mut self, event: Event) -> bool {
        if event.ready.is_plain_read() {
            return self.exchange(event);
        }
        if event.ready.is_last_read() {
            self.serve_leaves(event);
            return true;
        }
        // Whoever is plain has known of the room, and has nothing to put there.
        let conn = self.core.conns.get(event.token);
        event.ready.is_plain_write() && conn.is_some_and(Connection::is_plain)
    }

    /// This event, and those right behind it that say the same: that the peer has finished.
    #[inline(never)]
    fn serve_leaves(&mut self, first: Event) {
        let mut event = first;
        loop {
            if !self.take_leave(event) {
                self.serve_event(event);
            }
            match self.events.get(self.served) {
                Some(next) if next.ready.is_last_read() => event = *next,
                _ => return,
            }
            self.served += 1;
        }
    }

    /// The short way, which nearly every event goes: one receive, one callback, one send.
    /// `false`: this event has to go the long way, and nothing was done.
    ///
    /// It does nothing that [`serve_event`](Self::serve_event) would not do; it knows that
    /// there is nothing else to do. What turns up in between goes on there.
    #[inline]
    fn exchange(&mut self, event: Event) -> bool {
        let token = event.token;
        let Self {
            handler,
            sessions,
            core,
            buffer,
            ..
        } = self;
        let buffer: &mut [u8] = buffer;
        let Core { conns, engine, .. } = &mut *core;
        let Some(conn) = conns.get_mut(token) else {
            return false;
        };
        if !conn.is_plain() || engine.pressed {
            return false;
        }
        let Some(Some(session)) = sessions.get_mut(token.index()) else {
            return false;
        };
        let len = match conn.receive_plain(engine, buffer) {
            Ok(len) => len,
            Err(moved) => return self.received_first(event, moved),
        };
        let owner = conn.owner;
        conn.begin_plain_callback(engine);
        engine.stats.callbacks += 1;
        self.offered = len;
        let mut input = Input::new(&buffer[..len]);
        let outcome = handler.on_read(&mut Conn::new(core, owner, token), session, &mut input);
        let consumed = input.consumed();
        let Core { conns, engine, .. } = core;
        if outcome.is_ok()
            && consumed == len
            && engine.gathers_still()
            && let Some(conn) = conns.get_mut(token)
            && conn.ship_plain(engine)
        {
            return true;
        }
        self.exchanged(token, Some(outcome), len, consumed);
        true
    }

    /// What follows a callback on the short way, if more came of it than an answer that the
    /// kernel has taken.
    #[inline(never)]
    fn exchanged(
        &mut self,
        token: Token,
        outcome: Option<io::Result<()>>,
        len: usize,
        consumed: usize,
    ) {
        let Core { conns, engine, .. } = &mut self.core;
        let Some(conn) = conns.get_mut(token) else {
            return;
        };
        if fault!(HalfAnswerLeaves) {
            conn.ship(engine);
        }
        conn.called_back(outcome, engine);
        conn.ship(engine);
        // A handler may have put another `Input` in the place of the one it was lent.
        conn.keep(&self.buffer[consumed.min(len)..len], engine);
        conn.settle(engine);
        if !conn.is_open() || conn.wants_reading() {
            self.read_after_first(token, len);
        }
    }

    /// The first read of the short way came to something else than some bytes.
    #[inline(never)]
    fn received_first(&mut self, event: Event, moved: Moved) -> bool {
        let Core { conns, engine, .. } = &mut self.core;
        let Some(conn) = conns.get_mut(event.token) else {
            return true;
        };
        let got = conn.received_first(moved, event.ready, engine, &mut self.buffer);
        self.go_on(event.token, got)
    }

    /// The short way of an event that says that the peer has finished, if this one does: one
    /// receive, one callback, and mostly the end.
    #[inline(always)]
    fn take_leave(&mut self, event: Event) -> bool {
        let token = event.token;
        let Self {
            handler,
            sessions,
            core,
            buffer,
            ..
        } = self;
        let Core { conns, engine, .. } = &mut *core;
        let Some(conn) = conns.get_mut(token) else {
            return false;
        };
        if !conn.is_plain() || engine.pressed {
            return false;
        }
        let Some(Some(session)) = sessions.get_mut(token.index()) else {
            return false;
        };
        if let Err(moved) = conn.receive_end(engine, buffer) {
            return self.received_first(event, moved);
        }
        if fault!(LeaveUntold) {
            return true;
        }
        let owner = conn.owner;
        conn.begin_plain_callback(engine);
        engine.stats.callbacks += 1;
        self.offered = 0;
        let mut input = Input::new(&[]);
        let outcome = handler.on_eof(&mut Conn::new(core, owner, token), session, &mut input);
        let Core { conns, engine, .. } = core;
        if let Some(conn) = conns.get_mut(token)
            && !(outcome.is_ok() && conn.end_plain(engine))
        {
            conn.called_back(Some(outcome), engine);
            conn.ship(engine);
            conn.settle(engine);
        }
        true
    }

    /// Goes on as the long way does after its first read.
    fn go_on(&mut self, token: Token, got: Option<usize>) -> bool {
        match got {
            Some(len) => {
                if self.offer_shared(token, len) {
                    self.read_after_first(token, len);
                }
            }
            None => self.tell_eof(token),
        }
        true
    }

    /// The rest of a turn's share, of which one read was for `len` bytes.
    fn read_after_first(&mut self, token: Token, len: usize) {
        let mut budget = Budget::of_a_turn(&self.core.engine);
        budget.spend(len);
        self.read_on(token, budget, false);
    }

    /// What went through the guard of the short way.
    #[cold]
    fn read_panicked(&mut self, payload: Box<dyn Any + Send>) {
        let Core { conns, engine, .. } = &mut self.core;
        let token = engine.current;
        if token == NOBODY {
            // Nobody's callback was running: the fault is the loop's own, and nothing to hide.
            resume_unwind(payload);
        }
        // The end is told once, and nothing is read after it.
        let at_end = conns
            .get(token)
            .is_some_and(|conn| conn.has(Flags::EOF_TOLD));
        let name = if at_end { "on_eof" } else { "on_read" };
        engine.panicked(name, words_of(payload.as_ref()));
        self.exchanged(token, None, self.offered, 0);
    }

    #[inline(never)]
    fn serve_event(&mut self, event: Event) {
        let Core {
            conns,
            listeners,
            engine,
            ..
        } = &mut self.core;
        if let Some(conn) = conns.get_mut(event.token) {
            if conn.has(Flags::CONNECTING) {
                return self.core.judge(event);
            }
            conn.note(event, engine);
            if conn.has(Flags::SERVED) {
                conn.make_ready(engine);
            } else if !conn.has(Flags::IN_READY) {
                self.serve(event.token);
            }
        } else if let Some(listener) = listeners.get_mut(event.token) {
            listener.note(engine);
            // Whoever came off the ready list accepts in this turn anyway, once.
            if listener.leads_to_accepting() && !self.accepting.contains(&event.token) {
                self.accepting.push(event.token);
            }
        } else {
            self.serve_other(event);
        }
    }

    /// Events of sources that few loops have.
    fn serve_other(&mut self, event: Event) {
        let Core {
            sockets,
            watches,
            engine,
            ..
        } = &mut self.core;
        if let Some(socket) = sockets.get_mut(event.token) {
            socket.note(event);
            // Whoever is on the ready list has had its share of this turn.
            if !socket.is_ready_listed() {
                self.serve_socket(event.token);
            }
        } else if let Some(watch) = watches.get_mut(event.token) {
            watch.note(event);
            self.serve_watch(event.token);
        } else if event.token != Token::WAKE {
            engine.stats.stale_events += 1;
        }
    }

    /// Everything that one connection is due, within its budget.
    fn serve(&mut self, token: Token) {
        let Core { conns, engine, .. } = &mut self.core;
        let Some(conn) = conns.get_mut(token) else {
            return;
        };
        conn.take(Flags::IN_READY);
        if conn.is_dead() {
            return;
        }
        if conn.has(Flags::NOTES) {
            self.serve_notes(token);
        } else if conn.has_output() && conn.has(Flags::WRITABLE) {
            conn.settle(engine);
            // The flush may have reached the low mark; that is news for the next turn.
        }
        self.read(token);
    }

    /// Callbacks that are due for another reason than bytes.
    fn serve_notes(&mut self, token: Token) {
        let Some(conn) = self.core.conns.get_mut(token) else {
            return;
        };
        // All of them at once: what these callbacks bring about is for the next turn.
        let notes = conn.take_notes();
        if notes.has(Flags::DUE) {
            // Even of a closing connection: its linger time may be over.
            self.fire_deadlines(token);
        }
        self.settle(token);
        if notes.has(Flags::DRAINED) && self.is_due(token, Flags::DRAINED) {
            self.callback(token, "on_write", |handler, conn, session, _| {
                handler.on_write(conn, session)
            });
            self.settle(token);
        }
        if notes.has(Flags::WAKE) && !fault!(WakeForgotten) && self.is_due(token, Flags::WAKE) {
            self.callback(token, "on_wake", |handler, conn, session, _| {
                handler.on_wake(conn, session)
            });
            self.settle(token);
        }
        if notes.has(Flags::SHUTDOWN) && self.is_due(token, Flags::SHUTDOWN) {
            self.callback(token, "on_shutdown", |handler, conn, session, _| {
                handler.on_shutdown(conn, session)
            });
            self.settle(token);
        }
    }

    /// Whether the callback for a note is still in order after those before it. A closing
    /// connection gets none. One whose output was filled again gets its `on_write` when that
    /// has drained. The same note, made once more meanwhile, is answered along with the first.
    fn is_due(&mut self, token: Token, note: Flags) -> bool {
        self.core.conns.get_mut(token).is_some_and(|conn| {
            conn.take(note);
            let full = conn.has(Flags::FULL) && !fault!(WriteToldWhileFull);
            conn.is_open() && !(note == Flags::DRAINED && full)
        })
    }
}
