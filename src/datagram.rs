//! Datagram sockets as the application sees them: how one is asked for, what it is lent to
//! callbacks as, and what has come.
//!
//! Nothing here receives or sends; that is `packet_socket.rs`.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Instant;

use crate::address::{Addr, AddressError, Network};
use crate::context::Context;
use crate::core::Core;
use crate::endpoint::Endpoint;
use crate::engine::Engine;
use crate::error::{Error, Op};
use crate::handler::Deadline;
use crate::kernel::{PacketOption, Prepare};
use crate::options::{owned_text, prepare_option};
use crate::packet_socket::PacketSocket;
use crate::token::{Owner, SocketId, Token};

/// A datagram socket to be opened: bound to an address of ours, connected to somebody's, or
/// both. Made from an address, then adjusted:
///
/// ```no_run
/// # fn main() -> Result<(), windlass::Error> {
/// # struct App;
/// # impl windlass::Handler for App { type Session = (); }
/// # let mut reactor = windlass::Reactor::new(App)?;
/// use windlass::Bind;
/// let server = reactor.bind("udp://:5353")?;
/// let client = reactor.bind(Bind::connect("udp://127.0.0.1:5353")?.local_addr(([127, 0, 0, 1], 0)))?;
/// let local = reactor.bind("unixgram:///run/app.log")?;
/// # Ok(())
/// # }
/// ```
///
/// A text without a network is one of `udp`. The networks are `udp`, `udp4`, `udp6`,
/// `unixgram`, and `ip:PROTOCOL`, `ip4:PROTOCOL`, `ip6:PROTOCOL` (raw IP, for whoever is
/// permitted).
#[derive(Debug)]
pub struct Bind {
    pub(crate) place: Place,
    pub(crate) local: Option<Addr>,
    pub(crate) options: BindOptions,
}

#[derive(Debug)]
pub(crate) enum Place {
    /// Our own end.
    Local(Endpoint),
    /// The other end.
    Remote(Endpoint),
    Adopted(OwnedFd),
}

#[derive(Clone, Debug)]
pub(crate) struct BindOptions {
    pub(crate) reuse_port: bool,
    pub(crate) reuse_addr: bool,
    pub(crate) broadcast: bool,
    pub(crate) destinations: bool,
    pub(crate) gro: bool,
    pub(crate) receive_buffer: Option<usize>,
    pub(crate) send_buffer: Option<usize>,
    pub(crate) mode: Option<u32>,
    pub(crate) repair_path: bool,
    pub(crate) unlink_on_close: bool,
    pub(crate) groups: Vec<(IpAddr, u32)>,
    pub(crate) queue_limit: Option<usize>,
    pub(crate) drop_policy: DropPolicy,
    pub(crate) prepare: Option<Prepare>,
}

/// Which datagram is lost when a socket's send queue is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum DropPolicy {
    /// The one that was to be queued: the send answers [`Delivery::Dropped`]. The default.
    #[default]
    Newest,
    /// Those that have waited longest, as many as must make room. Suits telemetry and media,
    /// where only the latest counts.
    Oldest,
}

impl Bind {
    /// Hears what is sent to an address of ours: text such as `":5353"`, `"udp6://[::1]:0"`
    /// or `"unixgram:///run/x.sock"`, a `SocketAddr` (of network `udp`), or an [`Endpoint`].
    /// Port 0 lets the kernel choose.
    ///
    /// A host name of our own is looked up when the socket is opened, which may block.
    ///
    /// # Errors
    ///
    /// The text does not parse, or its network is not one of datagrams; the error says why.
    pub fn new<B>(local: B) -> Result<Self, Error>
    where
        B: TryInto<Self>,
        B::Error: Into<Error>,
    {
        local.try_into().map_err(Into::into)
    }

    /// Speaks with one address only: what others send is not heard, and
    /// [`Socket::send`] needs no address. The text is as for [`new`](Self::new).
    ///
    /// A host name is looked up beside the loop; what is sent meanwhile waits in the queue.
    /// If there is no such host, [`on_socket_error`](crate::Handler::on_socket_error) says so.
    /// Connecting a datagram socket asks nobody: that nobody listens there is seen at the
    /// earliest by the first send, as ECONNREFUSED.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn connect<B>(remote: B) -> Result<Self, Error>
    where
        B: TryInto<Self>,
        B::Error: Into<Error>,
    {
        let mut bind = remote.try_into().map_err(Into::into)?;
        if let Place::Local(endpoint) = bind.place {
            bind.place = Place::Remote(endpoint);
        }
        Ok(bind)
    }

    /// Takes over a datagram or raw socket made elsewhere (inherited, or handed over). It is
    /// made nonblocking and close-on-exec; its options stay as they are.
    ///
    /// Anything else is refused when it is opened: ENOTSOCK or EPROTOTYPE.
    pub fn adopt(fd: OwnedFd) -> Self {
        Self::at(Place::Adopted(fd))
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            local: None,
            options: BindOptions {
                reuse_port: false,
                reuse_addr: false,
                broadcast: true,
                destinations: false,
                gro: false,
                receive_buffer: None,
                send_buffer: None,
                mode: None,
                repair_path: true,
                unlink_on_close: true,
                groups: Vec::new(),
                queue_limit: None,
                drop_policy: DropPolicy::default(),
                prepare: None,
            },
        }
    }

    /// Our own end of a connected socket. Port 0 lets the kernel choose. On a socket made
    /// with [`new`](Self::new), which has its own end already, it has no effect.
    pub fn local_addr(mut self, addr: impl Into<Addr>) -> Self {
        self.local = Some(addr.into());
        self
    }

    /// Lets several sockets share the port (SO_REUSEPORT; on FreeBSD SO_REUSEPORT_LB), one
    /// per loop: the kernel spreads the senders over them.
    pub fn reuse_port(mut self, on: bool) -> Self {
        self.options.reuse_port = on;
        self
    }

    /// Whether datagrams may go to broadcast addresses (SO_BROADCAST). Default: yes, as in
    /// Go. No effect on Unix sockets.
    pub fn broadcast(mut self, on: bool) -> Self {
        self.options.broadcast = on;
        self
    }

    /// Joins a multicast group on the interface of that number (0 lets the kernel choose),
    /// and lets others on this host hear it as well (SO_REUSEADDR). May be said several
    /// times. See [`Socket::join`] for one that is open.
    pub fn join(mut self, group: impl Into<IpAddr>, interface: u32) -> Self {
        self.options.groups.push((group.into(), interface));
        self.options.reuse_addr = true;
        self
    }

    /// Has each datagram tell which address of ours it was sent to ([`Datagram::to`]); of
    /// use on sockets that hear several, or groups. Default: off.
    pub fn destinations(mut self, on: bool) -> Self {
        self.options.destinations = on;
        self
    }

    /// Lets the kernel hand over many datagrams of one sender in one piece (UDP_GRO, Linux
    /// since 5.0), which the loop cuts again: [`on_datagram`](crate::Handler::on_datagram)
    /// runs for each as ever. Default: off.
    ///
    /// It saves most of what a datagram costs if they come in bursts of equal size, from
    /// senders that have the kernel cut them (UDP_SEGMENT, as QUIC does) or through a network
    /// card that merges; for others it changes nothing. Unlike without it, what was fetched
    /// waits while the socket is [paused](Socket::pause), and for the next turn once
    /// [`Config::datagram_budget`](crate::Config::datagram_budget) is spent. That is at most
    /// 512 KiB for a socket, which count towards
    /// [`Config::memory_limit`](crate::Config::memory_limit); the loop has as much twice.
    ///
    /// It is off by default because it is an option of the socket, and not of this descriptor:
    /// whoever else receives on it gets them merged, too. It is switched off when the socket
    /// is closed here. On a socket that was [adopted](Self::adopt) with it on it stays on, and
    /// datagrams are cut whether this was called or not.
    ///
    /// Opening a socket that can't do it fails with ENOPROTOOPT: another one than of UDP, or
    /// on another system than Linux.
    pub fn gro(mut self, on: bool) -> Self {
        self.options.gro = on;
        self
    }

    /// SO_RCVBUF, in bytes; the kernel rounds, and drops what does not fit. Default: the
    /// system's.
    pub fn receive_buffer(mut self, bytes: usize) -> Self {
        self.options.receive_buffer = Some(bytes);
        self
    }

    /// SO_SNDBUF, in bytes; the kernel rounds. Default: the system's.
    pub fn send_buffer(mut self, bytes: usize) -> Self {
        self.options.send_buffer = Some(bytes);
        self
    }

    /// Permission bits of a Unix path, as chmod(2) takes them. Default: what the umask leaves.
    pub fn mode(mut self, bits: u32) -> Self {
        self.options.mode = Some(bits);
        self
    }

    /// Whether a path that a dead process left behind may be taken over. Default: yes; see
    /// [`Listen`](crate::Listen) for what is checked first.
    pub fn repair_path(mut self, on: bool) -> Self {
        self.options.repair_path = on;
        self
    }

    /// Whether closing the socket removes its path, if it is still ours. Default: yes.
    pub fn unlink_on_close(mut self, on: bool) -> Self {
        self.options.unlink_on_close = on;
        self
    }

    /// Bytes that may wait to be sent (each datagram counts 64 more). Default:
    /// [`Config::datagram_queue`](crate::Config::datagram_queue).
    pub fn queue_limit(mut self, bytes: usize) -> Self {
        self.options.queue_limit = Some(bytes);
        self
    }

    prepare_option!(options.prepare);

    /// Which datagram is lost when that many wait. Default: the newest.
    pub fn drop_policy(mut self, policy: DropPolicy) -> Self {
        self.options.drop_policy = policy;
        self
    }
}

/// Fails for a network whose sockets carry no datagrams.
impl TryFrom<Endpoint> for Bind {
    type Error = Error;

    fn try_from(endpoint: Endpoint) -> Result<Self, Error> {
        endpoint.for_bind()?;
        Ok(Self::at(Place::Local(endpoint)))
    }
}

/// On network `udp`.
impl From<SocketAddr> for Bind {
    fn from(addr: SocketAddr) -> Self {
        Self::at(Place::Local(Endpoint::on(Network::Udp, addr)))
    }
}

impl TryFrom<&str> for Bind {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self, Error> {
        let parsed = match text.split_once("://") {
            Some(_) => text.parse(),
            None => Endpoint::new("udp", text),
        };
        parsed
            .map_err(|error: AddressError| error.into_error(Op::Listen))?
            .try_into()
    }
}

owned_text!(Bind);

/// One datagram that has come, lent to [`on_datagram`](crate::Handler::on_datagram).
///
/// It reads like its bytes (`Deref<Target = [u8]>`). An empty one is a datagram, too.
#[derive(Clone, Debug)]
pub struct Datagram<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) from: &'a Addr,
    pub(crate) to: Option<IpAddr>,
    pub(crate) truncated: bool,
}

impl<'a> Datagram<'a> {
    /// A datagram for tests of a handler.
    pub fn new(bytes: &'a [u8], from: &'a Addr) -> Self {
        Self {
            bytes,
            from,
            to: None,
            truncated: false,
        }
    }

    /// What it carries, at most [`Config::max_datagram`](crate::Config::max_datagram) bytes.
    /// Of raw IPv4 without its IP header, as in Go.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Who sent it. Unnamed for a Unix socket without a name, which cannot be answered.
    pub fn from(&self) -> &'a Addr {
        self.from
    }

    /// Which address of ours it was sent to, a group included, if the socket was opened
    /// with [`Bind::destinations`].
    pub fn to(&self) -> Option<IpAddr> {
        self.to
    }

    /// It was longer than [`Config::max_datagram`](crate::Config::max_datagram); the rest
    /// is lost.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }
}

impl std::ops::Deref for Datagram<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

/// What became of a datagram that was to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Delivery {
    /// It waits in the queue, which the loop empties when the callback has returned. What
    /// becomes of it then nobody knows but its receiver.
    Queued,
    /// It is lost: the queue is full ([`Bind::queue_limit`]) and the policy is
    /// [`DropPolicy::Newest`], or it could not have been sent to anybody, or it is longer
    /// than the whole queue may be.
    /// If the queue was full, [`on_socket_writable`](crate::Handler::on_socket_writable)
    /// follows when it has room again; of the others
    /// [`on_socket_error`](crate::Handler::on_socket_error) tells.
    Dropped,
    /// It is lost: the socket is closing or closed.
    Closed,
}

/// Counters of one datagram socket since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct SocketStats {
    /// Datagrams received.
    pub received: u64,
    /// Those of them that were longer than they may be.
    pub truncated: u64,
    /// Datagrams that the kernel took.
    pub sent: u64,
    /// Datagrams dropped here: the queue was full, the kernel refused them, or nobody took
    /// them for [`Config::write_stall_timeout`](crate::Config::write_stall_timeout).
    pub dropped: u64,
    /// Errors of the socket, told or not.
    pub errors: u64,
}

/// One datagram socket, lent to a callback (or to the owner of the reactor).
///
/// Nothing here blocks. Sends are queued, and the queue leaves in as few calls as there can
/// be when the callback has returned.
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

    /// The time of this turn; the same as `cx().now()`.
    pub fn now(&self) -> Instant {
        self.cx.now()
    }

    /// This socket's name, to be kept for as long as anybody likes.
    pub fn id(&self) -> SocketId {
        SocketId::new(self.token)
    }

    /// Sends to one address, copying the bytes.
    ///
    /// A socket that is connected speaks with nobody else: the datagram is dropped, and
    /// [`on_socket_error`](crate::Handler::on_socket_error) says so.
    pub fn send_to(&mut self, bytes: &[u8], to: impl Into<Addr>) -> Delivery {
        let to = Some(to.into());
        self.with(Delivery::Closed, |socket, engine| {
            socket.send(bytes, to, engine)
        })
    }

    /// Sends to whom the socket is connected to, copying the bytes.
    ///
    /// On one that is not connected the datagram is dropped (EDESTADDRREQ), and
    /// [`on_socket_error`](crate::Handler::on_socket_error) says so.
    pub fn send(&mut self, bytes: &[u8]) -> Delivery {
        self.with(Delivery::Closed, |socket, engine| {
            socket.send(bytes, None, engine)
        })
    }

    /// Bytes that wait to be sent; each datagram counts 64 more.
    pub fn queued(&self) -> usize {
        self.look(0, PacketSocket::queued)
    }

    /// This socket's counters.
    pub fn stats(&self) -> SocketStats {
        self.look(SocketStats::default(), |socket| socket.stats)
    }

    /// Our own end, with the port that the kernel chose. `None` while the name of the other
    /// end is being looked up.
    pub fn local_addr(&self) -> Option<Addr> {
        self.look(None, PacketSocket::local_addr)
    }

    /// Whom it is connected to; `None` if to nobody (yet).
    pub fn peer_addr(&self) -> Option<Addr> {
        self.look(None, PacketSocket::peer_addr)
    }

    /// Hears nothing until [`resume`](Self::resume), except what the loop has fetched
    /// already. The kernel drops what does not fit its buffer.
    pub fn pause(&mut self) {
        self.with((), |socket, _| socket.pause());
    }

    /// Hears again.
    pub fn resume(&mut self) {
        self.with((), |socket, engine| socket.resume(engine));
    }

    /// Sends what is queued, then closes; what the kernel does not take within
    /// [`Config::linger`](crate::Config::linger) is dropped. No callback follows.
    pub fn close(&mut self) {
        self.with((), |socket, engine| socket.close(engine));
    }

    /// Has [`on_socket_timeout`](crate::Handler::on_socket_timeout) run with
    /// [`Deadline::Read`] at that time, once, whatever comes until then; `None` takes it
    /// back. A time that has passed means the next turn, before anything is received.
    pub fn set_read_deadline(&mut self, at: Option<Instant>) {
        self.set_one(Deadline::Read, at);
    }

    /// The same for what is queued: it runs with [`Deadline::Write`] at that time if
    /// datagrams wait then, else as soon as one has to.
    pub fn set_write_deadline(&mut self, at: Option<Instant>) {
        self.set_one(Deadline::Write, at);
    }

    /// Sets both.
    pub fn set_deadline(&mut self, at: Option<Instant>) {
        self.set_read_deadline(at);
        self.set_write_deadline(at);
    }

    fn set_one(&mut self, which: Deadline, at: Option<Instant>) {
        self.with((), |socket, engine| {
            let at = engine.clock.deadline(at);
            socket.set_deadline(which, at, engine);
        });
    }

    /// Joins a multicast group on the interface of that number; 0 lets the kernel choose.
    ///
    /// # Errors
    ///
    /// What setsockopt(2) answers: EADDRINUSE if it is a member already, ENODEV if there is
    /// no such interface. EBADF once the socket is closed, or is not open yet.
    pub fn join(&mut self, group: impl Into<IpAddr>, interface: u32) -> io::Result<()> {
        self.set_option(PacketOption::Join(group.into(), interface))
    }

    /// Leaves a multicast group.
    ///
    /// # Errors
    ///
    /// EADDRNOTAVAIL if it is no member; else as [`join`](Self::join).
    pub fn leave(&mut self, group: impl Into<IpAddr>, interface: u32) -> io::Result<()> {
        self.set_option(PacketOption::Leave(group.into(), interface))
    }

    /// Whether this host hears what it sends to groups itself. The kernel's default: yes.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn set_multicast_loop(&mut self, on: bool) -> io::Result<()> {
        self.set_option(PacketOption::MulticastLoop(on))
    }

    /// Routers that a datagram to a group may pass, plus one. The kernel's default: 1.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn set_multicast_ttl(&mut self, hops: u32) -> io::Result<()> {
        self.set_option(PacketOption::MulticastTtl(hops))
    }

    /// The number of the interface where datagrams to groups leave; 0 lets the kernel choose.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn set_multicast_interface(&mut self, interface: u32) -> io::Result<()> {
        self.set_option(PacketOption::MulticastInterface(interface))
    }

    /// Routers that any other datagram may pass, plus one.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn set_ttl(&mut self, hops: u32) -> io::Result<()> {
        self.set_option(PacketOption::Ttl(hops))
    }

    /// Whether datagrams may go to broadcast addresses.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn set_broadcast(&mut self, on: bool) -> io::Result<()> {
        self.set_option(PacketOption::Broadcast(on))
    }

    fn set_option(&mut self, option: PacketOption) -> io::Result<()> {
        let closed = io::Error::from_raw_os_error(libc::EBADF);
        self.with(Err(closed), |socket, engine| {
            socket.set_option(option, engine).map_err(Into::into)
        })
    }

    /// Slots are freed when no view exists, so the socket is there; `gone` is for the
    /// compiler, and harmless.
    fn with<R>(&mut self, gone: R, act: impl FnOnce(&mut PacketSocket, &mut Engine) -> R) -> R {
        let Core {
            sockets, engine, ..
        } = self.cx.core_mut();
        match sockets.get_mut(self.token) {
            Some(socket) => act(socket, engine),
            None => gone,
        }
    }

    fn look<R>(&self, gone: R, see: impl FnOnce(&PacketSocket) -> R) -> R {
        self.cx.core().sockets.get(self.token).map_or(gone, see)
    }
}

impl fmt::Debug for Socket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("id", &self.id())
            .field("addr", &self.local_addr())
            .finish_non_exhaustive()
    }
}
