//! The part of the turn in which a socket is served whose datagrams the kernel merges.
//!
//! What one call brings may be more than the budget, so it is served from where it lies and
//! the rest of it stays with its socket: until the next turn, or until the socket is resumed.

use super::Reactor;
use super::datagrams::call_socket;
use crate::core::Core;
use crate::datagram::Datagram;
use crate::handler::Handler;
use crate::merged::Merged;
use crate::token::Token;

impl<H: Handler> Reactor<H> {
    /// What is left of the last call, then what further calls bring.
    pub(super) fn serve_merged(&mut self, token: Token, mut budget: usize) {
        let Core {
            sockets, engine, ..
        } = &mut self.core;
        let Some(socket) = sockets.get_mut(token) else {
            return;
        };
        let mut merged = socket.lend_merged(engine);
        loop {
            self.offer_merged(token, &mut merged, &mut budget);
            self.settle(token);
            if !merged.is_empty() || !self.receive_merged(token, &mut merged, &mut budget) {
                break;
            }
        }
        let Core {
            sockets, engine, ..
        } = &mut self.core;
        match sockets.get_mut(token) {
            Some(socket) => socket.return_merged(merged, engine),
            None => engine.merged.give(merged),
        }
    }

    fn receive_merged(&mut self, token: Token, merged: &mut Merged, budget: &mut usize) -> bool {
        let Core {
            sockets, engine, ..
        } = &mut self.core;
        let socket = sockets.get_mut(token);
        socket.is_some_and(|socket| socket.receive_merged(merged, budget, engine))
    }

    /// One datagram after the other, as far as the budget and the handler want them.
    fn offer_merged(&mut self, token: Token, merged: &mut Merged, budget: &mut usize) {
        let Self { handler, core, .. } = self;
        let longest = core.engine.config.max_datagram;
        while *budget > 0
            && let Some(socket) = core.sockets.get_mut(token).filter(|it| it.takes_merged())
            && let Some(piece) = merged.next(longest)
        {
            *budget -= 1;
            socket.took(piece.truncated, &mut core.engine);
            let datagram = Datagram {
                bytes: piece.bytes,
                from: &piece.arrival.from,
                to: piece.arrival.to,
                truncated: piece.truncated,
            };
            let owner = socket.owner;
            call_socket(core, token, owner, "on_datagram", |socket| {
                handler.on_datagram(socket, &datagram);
            });
        }
    }
}
