//! The part of the turn in which datagram sockets and watched descriptors are served.

use super::{Reactor, guarded};
use crate::context::Context;
use crate::core::Core;
use crate::datagram::{Datagram, Socket};
use crate::engine::SocketReport;
use crate::faults::fault;
use crate::handler::Handler;
use crate::kernel::Batch;
use crate::packet_socket::PacketSocket;
use crate::token::{Owner, Token, WatchId};

impl<H: Handler> Reactor<H> {
    /// Everything that one socket is due, within its budget.
    pub(super) fn serve_socket(&mut self, token: Token) {
        let Some(socket) = self.core.sockets.get_mut(token) else {
            return;
        };
        socket.left_ready();
        if socket.take_past() {
            self.fire_socket(token);
        }
        self.settle(token);
        if let Some(socket) = self.core.sockets.get_mut(token)
            && socket.take_drained()
        {
            self.socket_callback(token, "on_socket_writable", |handler, socket| {
                handler.on_socket_writable(socket);
            });
            self.settle(token);
        }
        let mut budget = self.core.engine.config.datagram_budget;
        let socket = self.core.sockets.get(token);
        if socket.is_some_and(PacketSocket::merges) {
            return self.serve_merged(token, budget);
        }
        while let Some(n) = self.receive(token, &mut budget) {
            for at in 0..n {
                self.offer_datagram(token, at);
            }
            self.settle(token);
        }
    }

    /// How many datagrams lie in the batch; `None` if this socket's turn is over.
    fn receive(&mut self, token: Token, budget: &mut usize) -> Option<usize> {
        let Core {
            sockets, engine, ..
        } = &mut self.core;
        let config = &engine.config;
        // One call alone never goes beyond the budget.
        let places = config.datagram_batch.min(config.datagram_budget);
        let batch = self
            .batch
            .get_or_insert_with(|| Batch::new(places, config.max_datagram));
        sockets.get_mut(token)?.receive(batch, budget, engine)
    }

    fn offer_datagram(&mut self, token: Token, at: usize) {
        let Self {
            handler,
            core,
            batch: Some(batch),
            ..
        } = self
        else {
            return;
        };
        let Some(socket) = core.sockets.get(token).filter(|it| it.may_offer()) else {
            return;
        };
        if fault!(DatagramSkipped) && at == 1 {
            return;
        }
        let (arrival, bytes) = batch.arrival(at);
        let datagram = Datagram {
            bytes: socket.payload(bytes, &arrival.from),
            from: &arrival.from,
            to: arrival.to,
            truncated: arrival.truncated && !fault!(TruncationUntold),
        };
        let owner = socket.owner;
        call_socket(core, token, owner, "on_datagram", |socket| {
            handler.on_datagram(socket, &datagram);
        });
    }

    fn socket_callback(
        &mut self,
        token: Token,
        name: &'static str,
        call: impl FnOnce(&mut H, &mut Socket<'_>),
    ) {
        let Self { handler, core, .. } = self;
        if let Some(owner) = core.sockets.get(token).map(|socket| socket.owner) {
            call_socket(core, token, owner, name, |socket| call(handler, socket));
        }
    }

    pub(super) fn fire_socket(&mut self, token: Token) {
        loop {
            let Core {
                sockets, engine, ..
            } = &mut self.core;
            let Some(socket) = sockets.get_mut(token) else {
                return;
            };
            // A deadline set in the past by one of these callbacks waits for its turn.
            if socket.is_dead() || socket.has_past() {
                return;
            }
            let Some(which) = socket.take_due(engine) else {
                return;
            };
            engine.stats.timers += 1;
            self.socket_callback(token, "on_socket_timeout", |handler, socket| {
                handler.on_socket_timeout(socket, which);
            });
            self.settle(token);
        }
    }

    /// What datagram sockets had to say while callbacks could not be run.
    pub(super) fn tell_sockets(&mut self) {
        if self.core.engine.socket_reports.is_empty() {
            return;
        }
        let mut reports = std::mem::take(&mut self.core.engine.socket_reports);
        for SocketReport {
            socket,
            owner,
            error,
        } in reports.drain(..)
        {
            let Self { handler, core, .. } = self;
            // Whoever has closed it meanwhile hears nothing more of it.
            let known = core.sockets.get(socket.token());
            if known.is_some_and(PacketSocket::is_closing) {
                continue;
            }
            guarded(core, "on_socket_error", |core| {
                handler.on_socket_error(&mut Context::new(core, owner), socket, &error);
            });
        }
        // What these callbacks brought about was told to the list that stands in meanwhile.
        std::mem::swap(&mut self.core.engine.socket_reports, &mut reports);
        self.core.engine.socket_reports.append(&mut reports);
    }

    pub(super) fn serve_watch(&mut self, token: Token) {
        let Core {
            watches, engine, ..
        } = &mut self.core;
        let Some(watch) = watches.get_mut(token) else {
            return;
        };
        watch.left_ready();
        let owner = watch.owner;
        let Some(ready) = watch.take_ready() else {
            return watch.ask_if_due(engine);
        };
        let Self { handler, core, .. } = self;
        guarded(core, "on_ready", |core| {
            handler.on_ready(&mut Context::new(core, owner), WatchId::new(token), ready);
        });
        let Core {
            watches, engine, ..
        } = core;
        if let Some(watch) = watches.get_mut(token) {
            watch.ask_again(engine);
        }
    }
}

/// One callback of a datagram socket.
#[inline]
pub(super) fn call_socket(
    core: &mut Core,
    token: Token,
    owner: Owner,
    name: &'static str,
    call: impl FnOnce(&mut Socket<'_>),
) {
    core.engine.begin_callback(token, None);
    guarded(core, name, |core| {
        call(&mut Socket::new(core, owner, token));
    });
    core.end_callback();
}
