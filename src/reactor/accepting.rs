//! The part of the turn in which clients are accepted, and listeners have their say.

use super::{Reactor, guarded, make_room};
use crate::connection::Connection;
use crate::context::{Conn, Context};
use crate::core::Core;
use crate::engine::Report;
use crate::faults::fault;
use crate::flags::Flags;
use crate::handler::Handler;
use crate::kernel::{Fd, Transport};
use crate::listener::{Step, Terms};
use crate::token::{ListenerId, Token};

impl<H: Handler> Reactor<H> {
    pub(super) fn serve_listeners(&mut self) {
        for at in 0..self.accepting.len() {
            self.accept(self.accepting[at]);
        }
        self.accepting.clear();
        self.report();
    }

    fn accept(&mut self, token: Token) {
        let mut taken = 0;
        let mut admitted = 0;
        loop {
            let Core {
                conns,
                listeners,
                engine,
                ..
            } = &mut self.core;
            let Some(listener) = listeners.get_mut(token) else {
                return;
            };
            // Whom the last round has admitted: one look-up serves both.
            listener.open += std::mem::take(&mut admitted);
            match listener.step(&mut taken, conns.len(), engine) {
                Step::Client(fd) => {
                    let terms = listener.terms();
                    admitted = usize::from(self.admit(terms, fd));
                }
                Step::Done => break,
            }
        }
        if self
            .core
            .listeners
            .get(token)
            .is_some_and(|listener| listener.is_dead())
        {
            self.core.drop_listener(ListenerId::new(token));
        }
    }

    /// Asks the handler whether it wants this client; registers it if so. Whether it is admitted.
    #[inline]
    fn admit(&mut self, terms: Terms, fd: Fd) -> bool {
        let Self {
            handler,
            sessions,
            core,
            ..
        } = self;
        let Core { conns, engine, .. } = &mut *core;
        let made = conns.place(|token| Connection::accepted(token, fd, terms, engine));
        let Some(conn) = made else {
            engine.stats.refused += 1;
            engine.kernel.close(fd);
            return false;
        };
        let token = conn.token;
        let known = conn.recognize(terms.transport, engine);
        make_room(sessions, token);
        let gathers = terms.transport == Transport::Stream;
        engine.begin_callback(token, gathers.then_some(engine.gather_most));
        if !known {
            core.identify(token, terms.transport);
        }
        let id = ListenerId::new(terms.listener);
        let answer = guarded(core, "on_accept", |core| {
            handler.on_accept(&mut Conn::new(core, terms.owner, token), id)
        });
        core.end_callback();
        let Some(Ok(session)) = answer else {
            self.refuse(token);
            return false;
        };
        sessions[token.index()] = Some(session);
        self.register(token, terms);
        true
    }

    #[inline]
    fn register(&mut self, token: Token, terms: Terms) {
        if terms.is_layered {
            self.core.begin_layer(token, terms.listener);
        }
        let Core { conns, engine, .. } = &mut self.core;
        engine.stats.accepted += 1;
        if let Some(conn) = conns.get_mut(token) {
            conn.set(Flags::ADMITTED);
            conn.register(engine);
        }
    }

    /// No session, so no `on_close`.
    pub(super) fn refuse(&mut self, token: Token) {
        self.core.engine.stats.refused += 1;
        if fault!(RefusedNotClosed) {
            return self.core.conns.vacate(token);
        }
        self.core.drop_conn(token);
    }

    /// Before anybody is accepted, if that time had run out when this turn began.
    pub(super) fn tell_accept_timeout(&mut self, token: Token) {
        let Self { handler, core, .. } = self;
        let Core {
            listeners, engine, ..
        } = core;
        let Some(listener) = listeners.get_mut(token) else {
            return;
        };
        let Some(error) = listener.take_timeout(engine) else {
            return;
        };
        engine.stats.timers += 1;
        let (owner, id) = (listener.owner, ListenerId::new(token));
        guarded(core, "on_accept_error", |core| {
            handler.on_accept_error(&mut Context::new(core, owner), id, &error);
        });
    }

    /// What listeners had to say while callbacks could not be run.
    fn report(&mut self) {
        if self.core.engine.reports.is_empty() {
            return;
        }
        let mut reports = std::mem::take(&mut self.core.engine.reports);
        for Report {
            listener,
            owner,
            error,
        } in reports.drain(..)
        {
            let Self { handler, core, .. } = self;
            guarded(core, "on_accept_error", |core| {
                handler.on_accept_error(&mut Context::new(core, owner), listener, &error);
            });
        }
        self.core.engine.reports = reports;
    }
}
