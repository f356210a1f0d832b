//! Datagram sockets.

use std::fmt;

use crate::address::Addr;
use crate::context::Context;
use crate::core::Core;
use crate::token::{Owner, SocketId, Token};

/// One datagram that has come, lent to [`on_datagram`](crate::Handler::on_datagram).
#[derive(Clone, Debug)]
pub struct Datagram<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) from: &'a Addr,
    pub(crate) to: Option<std::net::IpAddr>,
    pub(crate) truncated: bool,
}

/// One datagram socket, lent to a callback.
pub struct Socket<'a> {
    cx: Context<'a>,
    token: Token,
}

impl<'a> Socket<'a> {
    pub(crate) fn new(core: &'a mut Core, owner: Owner, token: Token) -> Self {
        Self {
            cx: Context::new(core, owner),
            token,
        }
    }

    pub(crate) fn owner(&self) -> Owner {
        self.cx.owner()
    }

    /// The loop behind this socket.
    pub fn cx(&mut self) -> &mut Context<'a> {
        &mut self.cx
    }

    /// This socket's name.
    pub fn id(&self) -> SocketId {
        SocketId::new(self.token)
    }
}

impl fmt::Debug for Socket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}
