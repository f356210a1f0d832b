//! Datagrams in a world: the sockets of the loop, and the clients at the far end.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use super::World;
use crate::address::Addr;
use crate::datagram::{Bind, Socket};
use crate::error::Error;
use crate::handler::Handler;
use crate::kernel::sim::{PacketPeer, unix_name};
use crate::token::SocketId;

/// Somebody who exchanges datagrams with the loop, as [`World::packet_client`] names them.
/// Valid as long as its world, and there only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PacketClient(PacketPeer);

/// Datagrams. A client takes whatever reaches it, until told otherwise; a datagram that
/// nobody is there to take is refused (ICMP), which a connected sender is told.
///
/// ```
/// # use windlass::{Datagram, Handler, Socket};
/// # use windlass::sim::World;
/// # use std::net::SocketAddr;
/// struct Echo;
///
/// impl Handler for Echo {
///     type Session = ();
///     fn on_datagram(&mut self, socket: &mut Socket<'_>, datagram: &Datagram<'_>) {
///         socket.send_to(datagram.bytes(), datagram.from().clone());
///     }
/// }
///
/// let mut world = World::new(1, Echo);
/// let addr = world.bind("udp://:7");
/// let client = world.packet_client(SocketAddr::from(([10, 0, 0, 9], 5000)));
/// world.send_datagram(client, &addr, b"hello");
/// world.run();
/// let (_, reply) = world.received_datagrams(client).remove(0);
/// assert_eq!(reply, b"hello");
/// ```
impl<H: Handler> World<H> {
    /// Opens a datagram socket, as [`Reactor::bind`](crate::Reactor::bind) does, and answers
    /// its own address, for [`send_datagram`](Self::send_datagram).
    ///
    /// # Panics
    ///
    /// It can't be opened. [`try_bind`](Self::try_bind) answers why instead.
    #[track_caller]
    pub fn bind<B>(&mut self, bind: B) -> Addr
    where
        B: TryInto<Bind>,
        B::Error: Into<Error>,
    {
        let opened = self.try_bind(bind);
        let addr = opened.map(|id| self.socket(id).and_then(|it| it.local_addr()));
        match addr {
            Ok(Some(addr)) => addr,
            Ok(None) => self.fail("the socket has no address yet"),
            Err(error) => self.fail(&error.to_string()),
        }
    }

    /// Opens a datagram socket.
    ///
    /// # Errors
    ///
    /// As [`Reactor::bind`](crate::Reactor::bind).
    pub fn try_bind<B>(&mut self, bind: B) -> Result<SocketId, Error>
    where
        B: TryInto<Bind>,
        B::Error: Into<Error>,
    {
        self.reactor.bind(bind)
    }

    /// A datagram socket of the loop, by its id.
    pub fn socket(&mut self, id: SocketId) -> Option<Socket<'_>> {
        self.reactor.socket(id)
    }

    /// A new client at an address of its own, on some other host. Port 0 chooses one.
    ///
    /// # Panics
    ///
    /// Somebody has that very address.
    #[track_caller]
    pub fn packet_client(&mut self, addr: impl Into<Addr>) -> PacketClient {
        let addr = addr.into();
        match self.kernel().new_packet_peer(&addr) {
            Ok(peer) => PacketClient(peer),
            Err(errno) => self.fail(&format!("a client at {addr}: {}", io::Error::from(errno))),
        }
    }

    /// A new client on a Unix datagram socket: at a path, with an `@` before it under an
    /// abstract name, or with nothing at all under no name.
    ///
    /// # Panics
    ///
    /// Something stands at that path.
    #[track_caller]
    pub fn unix_packet_client(&mut self, path: impl AsRef<Path>) -> PacketClient {
        self.packet_client(unix_name(path.as_ref()))
    }

    /// The client's own address, as the loop sees it.
    pub fn packet_addr(&mut self, client: PacketClient) -> Addr {
        self.kernel().packet_peer_addr(client.0)
    }

    /// The client sends one datagram. "Any address" means the loop's host.
    ///
    /// # Panics
    ///
    /// It can't be sent. [`try_send_datagram`](Self::try_send_datagram) answers why instead.
    #[track_caller]
    pub fn send_datagram(&mut self, client: PacketClient, to: &Addr, bytes: &[u8]) {
        if let Err(error) = self.try_send_datagram(client, to, bytes) {
            self.fail(&format!("a datagram to {to}: {error}"));
        }
    }

    /// The client sends one datagram.
    ///
    /// # Errors
    ///
    /// On Unix sockets, whatever is in its way: nobody is there, or the queue of the
    /// receiver is full (`WouldBlock`). On IP nobody knows; only a datagram that is too
    /// long, or an address that makes no sense, is refused.
    pub fn try_send_datagram(
        &mut self,
        client: PacketClient,
        to: &Addr,
        bytes: &[u8],
    ) -> io::Result<()> {
        Ok(self.kernel().packet_peer_send(client.0, to, bytes)?)
    }

    /// The datagrams that the client has received since this was last asked, each with its
    /// sender.
    pub fn received_datagrams(&mut self, client: PacketClient) -> Vec<(Addr, Vec<u8>)> {
        self.kernel().packet_peer_received(client.0)
    }

    /// The client leaves in its queue what arrives: on IP what finds no room there is lost,
    /// on Unix sockets the sender has to wait.
    pub fn stop_receiving(&mut self, client: PacketClient) {
        self.kernel().packet_peer_pause(client.0, true);
    }

    /// The client receives again, everything that is there first.
    pub fn resume_receiving(&mut self, client: PacketClient) {
        self.kernel().packet_peer_pause(client.0, false);
    }

    /// The client hears what is sent to a multicast group and its own port.
    ///
    /// # Panics
    ///
    /// It is no group, or the client has joined it already.
    #[track_caller]
    pub fn join_group(&mut self, client: PacketClient, group: impl Into<IpAddr>) {
        let group = group.into();
        if let Err(errno) = self.kernel().packet_peer_join(client.0, group) {
            self.fail(&format!("join {group}: {}", io::Error::from(errno)));
        }
    }

    /// The client goes away. A Unix path stays behind.
    pub fn close_packet_client(&mut self, client: PacketClient) {
        self.kernel().packet_peer_close(client.0);
    }
}
