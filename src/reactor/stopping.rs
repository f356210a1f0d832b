//! How a loop begins and how it ends: `on_start`, the graceful stop, `on_stop`.

use std::io;

use super::{Phase, Reactor, Turn, guarded};
use crate::context::Context;
use crate::core::Core;
use crate::error::CloseReason;
use crate::faults::fault;
use crate::flags::Flags;
use crate::handler::Handler;
use crate::token::{ListenerId, Owner};

impl<H: Handler> Reactor<H> {
    pub(super) fn start(&mut self) -> io::Result<()> {
        let handle = self.inbox.handle();
        let Self { handler, core, .. } = self;
        core.engine.start();
        let started = guarded(core, "on_start", |core| {
            handler.on_start(&mut Context::new(core, Owner::default()), &handle)
        });
        // `on_start` may have taken long, and the first wait begins now.
        core.engine.measure();
        match started.unwrap_or_else(|| Err(io::Error::other("on_start panicked"))) {
            Ok(()) => {
                self.phase = Phase::Running;
                Ok(())
            }
            Err(error) => {
                self.phase = Phase::Stopped;
                self.inbox.stop();
                Err(error)
            }
        }
    }

    /// The graceful stop: tell everybody once, wait for them, cut off who is late.
    pub(super) fn see_to_stop(&mut self) -> Turn {
        let Some(at) = self.core.engine.stop_at else {
            return Turn::Running;
        };
        self.core.engine.stop_is_news = false;
        if self.phase == Phase::Running {
            if !fault!(ShutdownToldAgain) {
                self.phase = Phase::Stopping;
            }
            self.tell_everybody_to_stop();
        }
        if self.core.engine.clock.nanos >= at && !fault!(GraceIgnored) {
            self.cut_off_everybody();
        }
        if !self.core.is_empty() && !fault!(StopsTooEarly) {
            return Turn::Running;
        }
        self.phase = Phase::Stopped;
        let Self { handler, core, .. } = self;
        guarded(core, "on_stop", |core| {
            if fault!(StopToldTwice) {
                handler.on_stop(&mut Context::new(core, Owner::default()));
            }
            if !fault!(StopForgotten) {
                handler.on_stop(&mut Context::new(core, Owner::default()));
            }
        });
        self.inbox.stop();
        Turn::Stopped
    }

    fn tell_everybody_to_stop(&mut self) {
        if fault!(ShutdownUntold) {
            return;
        }
        let Core {
            conns,
            listeners,
            sockets,
            engine,
            ..
        } = &mut self.core;
        for index in 0..listeners.end() {
            if let Some(listener) = listeners.at_mut(index) {
                listener.stop(engine);
            }
        }
        for index in 0..conns.end() {
            if let Some(conn) = conns.at_mut(index)
                && !conn.has(Flags::CONNECTING)
            {
                conn.set(Flags::SHUTDOWN);
                conn.make_ready(engine);
            }
        }
        for index in 0..sockets.end() {
            if let Some(socket) = sockets.at_mut(index) {
                socket.close(engine);
            }
        }
        self.core.cancel_all_dials();
    }

    fn cut_off_everybody(&mut self) {
        for index in 0..self.core.listeners.end() {
            if let Some(token) = self.core.listeners.token_at(index) {
                self.core.drop_listener(ListenerId::new(token));
            }
        }
        for index in 0..self.core.sockets.end() {
            if let Some(token) = self.core.sockets.token_at(index) {
                self.core.drop_socket(token);
            }
        }
        let Core { conns, engine, .. } = &mut self.core;
        for index in 0..conns.end() {
            // Attempts end with their dials, which have been canceled.
            if let Some(conn) = conns
                .at_mut(index)
                .filter(|conn| !conn.has(Flags::CONNECTING))
            {
                engine.aborted += 1;
                conn.abort(CloseReason::Shutdown, engine);
            }
        }
        self.deliver_closes();
    }
}
