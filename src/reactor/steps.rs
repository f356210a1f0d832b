//! Steps 5 to 8 of a turn: posted closures, what is due, what was written elsewhere, and the ends.

use std::io;

use super::{Reactor, guarded};
use crate::connection::Connection;
use crate::context::Context;
use crate::core::{Core, Retired};
use crate::endings::Ending;
use crate::error::CloseReason;
use crate::faults::fault;
use crate::flags::Flags;
use crate::handle::Post;
use crate::handler::{Deadline, Handler};
use crate::token::{Kind, TimerId, Token};

impl<H: Handler> Reactor<H> {
    pub(super) fn run_posts(&mut self) {
        if !self.inbox.is_rung() {
            return;
        }
        let most = if fault!(PostBudgetIgnored) {
            usize::MAX
        } else {
            self.core.engine.config.post_budget
        };
        let grace = self.inbox.collect(&mut self.tasks, most);
        if let Some(grace) = grace {
            self.core.engine.stop(grace);
        }
        while let Some(post) = self.tasks.pop_front() {
            match post {
                Post::Loop { owner, task } => {
                    self.core.engine.stats.posted += 1;
                    let Self { handler, core, .. } = self;
                    guarded(core, "post", |core| {
                        task(handler, &mut Context::new(core, owner));
                    });
                }
                Post::Conn { id, owner, task } => {
                    let token = id.token();
                    let may = |conn: &Connection| {
                        (conn.is_open() || fault!(PostToClosing))
                            && owner.is_none_or(|owner| owner == conn.owner)
                    };
                    if !self.core.conns.get(token).is_some_and(may) {
                        self.core.engine.stats.posted_to_gone += 1;
                        // What the closure holds is the application's, and so is its end.
                        guarded(&mut self.core, "post_to", |_| drop(task));
                        continue;
                    }
                    self.core.engine.stats.posted += 1;
                    self.callback(token, "post_to", |handler, conn, session, _| {
                        task(handler, conn, session)
                    });
                    self.settle(token);
                }
            }
        }
    }

    /// Readiness that came in the same turn has been served, so a deadline that a callback
    /// has moved is not due any more. What was due is known since the clock was read: a
    /// timer set for the past since then waits for the next turn.
    pub(super) fn fire_timers(&mut self) {
        self.core.file_young();
        while let Some((_, token)) = self.core.engine.wheel.pop_due() {
            match token.kind() {
                Some(Kind::Conn) => {
                    if let Some(conn) = self.core.conns.get_mut(token) {
                        conn.unfiled();
                        self.fire_deadlines(token);
                    }
                }
                Some(Kind::Timer) => self.fire_timer(TimerId::new(token)),
                Some(Kind::Dial) => self.core.dial_due(token),
                Some(Kind::Listener) => {
                    let Core {
                        listeners, engine, ..
                    } = &mut self.core;
                    if let Some(listener) = listeners.get_mut(token) {
                        listener.due(engine);
                    }
                    self.tell_accept_timeout(token);
                }
                Some(Kind::Socket) => {
                    if let Some(socket) = self.core.sockets.get_mut(token) {
                        socket.unfiled();
                        self.fire_socket(token);
                    }
                }
                Some(Kind::Watch) | None => {}
            }
        }
    }

    pub(super) fn fire_deadlines(&mut self, token: Token) {
        loop {
            let Core { conns, engine, .. } = &mut self.core;
            let Some(conn) = conns.get_mut(token) else {
                return;
            };
            // A deadline set in the past by one of these callbacks waits for its turn.
            if conn.is_dead() || conn.has(Flags::DUE) {
                return;
            }
            match conn.take_due(engine) {
                None if fault!(DeadlineNotRefiled) => return,
                None => return conn.arm(engine),
                Some(Deadline::Linger) => return conn.linger_ended(engine),
                Some(late @ Deadline::Handshake) => {
                    return conn.abort(CloseReason::Timeout(late), engine);
                }
                Some(which) => self.time_out(token, which),
            }
        }
    }

    fn time_out(&mut self, token: Token, which: Deadline) {
        self.core.engine.stats.timers += 1;
        let mut late = None;
        self.callback(
            token,
            "on_timeout",
            |handler, conn, session, _| match handler.on_timeout(conn, session, which) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    late = Some(CloseReason::Timeout(which));
                    Ok(())
                }
                Err(error) => {
                    late = Some(CloseReason::Handler(error));
                    Ok(())
                }
                Ok(()) => Ok(()),
            },
        );
        let Core { conns, engine, .. } = &mut self.core;
        let Some(conn) = conns.get_mut(token) else {
            return;
        };
        match late {
            // There is nobody to flush to.
            Some(reason) if which == Deadline::WriteStall => conn.abort(reason, engine),
            Some(reason) => conn.close(reason, engine),
            None => {}
        }
        conn.settle(engine);
    }

    fn fire_timer(&mut self, id: TimerId) {
        let Some(timer) = self.core.take_timer(id) else {
            return;
        };
        match timer.conn {
            Some(conn) => {
                if self
                    .core
                    .conns
                    .get(conn.token())
                    .is_some_and(Connection::is_open)
                {
                    self.time_out(conn.token(), Deadline::Timer(id));
                }
            }
            None => {
                self.core.engine.stats.timers += 1;
                let Self { handler, core, .. } = self;
                guarded(core, "on_timer", |core| {
                    handler.on_timer(&mut Context::new(core, timer.owner), id);
                });
            }
        }
    }

    pub(super) fn flush_touched(&mut self) {
        if self.core.engine.unflushed.is_empty() {
            return;
        }
        let mut touched = std::mem::take(&mut self.core.engine.unflushed);
        for token in touched.drain(..).filter(|_| !fault!(TouchedForgotten)) {
            self.settle(token);
        }
        self.core.engine.unflushed = touched;
    }

    /// Closes what is over. A slot is free from here on; whatever this turn fetched from
    /// the kernel has been served, and a later tenant has another generation anyway.
    #[inline]
    pub(super) fn deliver_closes(&mut self) {
        if self.core.engine.has_ends() {
            self.deliver_ends();
        }
    }

    fn deliver_ends(&mut self) {
        // An `on_close` may end further connections; they join the list as it is emptied.
        while let Some(ending) = self.core.engine.closing.next() {
            self.deliver_close(ending);
        }
        // Whoever freed something this turn: a close, a refusal, an attempt that came to
        // nothing, a listener that went.
        if std::mem::take(&mut self.core.engine.freed) {
            self.core.feed();
        }
        self.core.unpark();
    }

    #[inline]
    fn deliver_close(&mut self, ending: Ending) {
        let Ending { token, why } = ending;
        let Self {
            handler,
            sessions,
            core,
            ..
        } = self;
        let Some(reason) = core.engine.closing.reason(why) else {
            return core.drop_socket(token);
        };
        let Some(Retired {
            owner,
            origin,
            closed,
        }) = core.retire_conn(token, reason)
        else {
            return;
        };
        core.engine.stats.closed += 1;
        core.engine.note_end(token, &closed.reason);
        let Some(session) = sessions.get_mut(token.index()).and_then(Option::take) else {
            return;
        };
        if fault!(CloseUntold) {
            return;
        }
        if fault!(PanicUntold) && matches!(closed.reason, CloseReason::Panic) {
            return;
        }
        guarded(core, "on_close", |core| {
            handler.on_close(&mut Context::new(core, owner), session, &closed);
        });
        if origin.kind() == Some(Kind::Dial) {
            core.dialed_ended(origin, closed.id);
        }
        closed.reason.let_go();
    }
}
