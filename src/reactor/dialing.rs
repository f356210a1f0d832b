//! The part of the turn in which the handler hears what became of its dials.

use super::{Reactor, guarded, make_room};
use crate::context::{Conn, Context};
use crate::core::Core;
use crate::dialer::DialEnd;
use crate::flags::Flags;
use crate::handler::Handler;
use crate::layer::Layers;
use crate::token::{ConnId, DialId, Token};

impl<H: Handler> Reactor<H> {
    /// Winners and losers of this turn's races.
    pub(super) fn tell_dials(&mut self) {
        let engine = &self.core.engine;
        if engine.connected.is_empty() && engine.dial_ends.is_empty() {
            return;
        }
        let mut connected = std::mem::take(&mut self.core.engine.connected);
        for token in connected.drain(..) {
            self.tell_connected(token);
        }
        self.core.engine.connected = connected;
        let mut ends = std::mem::take(&mut self.core.engine.dial_ends);
        for DialEnd {
            dial,
            owner,
            error,
            retry_in,
        } in ends.drain(..)
        {
            let Self { handler, core, .. } = self;
            guarded(core, "on_dial_error", |core| {
                handler.on_dial_error(&mut Context::new(core, owner), dial, &error, retry_in);
            });
        }
        self.core.engine.dial_ends = ends;
    }

    fn tell_connected(&mut self, token: Token) {
        let Self {
            handler,
            sessions,
            core,
            ..
        } = self;
        // It is gone if the dial was canceled after all.
        let Core { conns, engine, .. } = &mut *core;
        let Some(conn) = conns.get_mut(token) else {
            return;
        };
        let (owner, dial) = (conn.owner, conn.origin);
        conn.take(Flags::CONNECTING);
        conn.begin_callback(engine);
        make_room(sessions, token);
        let layers = core.dial_layers(dial);
        let answer = guarded(core, "on_connect", |core| {
            handler.on_connect(&mut Conn::new(core, owner, token), DialId::new(dial))
        });
        core.end_callback();
        core.engine.stats.connected += 1;
        match answer {
            Some(Ok(session)) => {
                sessions[token.index()] = Some(session);
                self.core.dial_told(dial);
                self.admit_dialed(token, layers);
            }
            Some(Err(_)) | None => {
                self.refuse(token);
                self.core.dialed_ended(dial, ConnId::new(token));
            }
        }
    }

    fn admit_dialed(&mut self, token: Token, layers: Option<Layers>) {
        let Core { conns, engine, .. } = &mut self.core;
        let Some(conn) = conns.get_mut(token) else {
            return;
        };
        if let Some(layers) = layers {
            conn.begin_layer(&layers, engine);
        }
        conn.set(Flags::REGISTERED);
        if engine.stopping() {
            conn.set(Flags::SHUTDOWN);
        }
        // The report that decided the race may have announced bytes as well.
        conn.make_ready(engine);
        conn.arm(engine);
        conn.settle(engine);
    }
}
