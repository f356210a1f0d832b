//! The seam: every verb that the crate needs from an operating system, written down once.
//!
//! Two implementations exist. [`os`] speaks to the real kernel through mio, socket2 and
//! libc, and holds the only unsafe code of the crate. [`sim`] is a kernel in memory with
//! a virtual clock and scripted faults, behind `windlass::sim`.
//!
//! The rule: no system call, no clock read and no random number anywhere else in `src`,
//! and no type of mio's in any signature here. What an errno *means* is not decided here
//! either; that is the table in `fd.rs`.

use std::fmt;
use std::io::IoSlice;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::address::{Addr, Network, UnixAddr};
use crate::peer::{Peer, Remote};
use crate::timer::{NEVER, Nanos};
use crate::token::Token;

pub(crate) mod os;
pub(crate) mod sim;

/// A descriptor of the kernel in use. Plain data: whoever keeps it in a slot must `close` it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Fd(pub(crate) i32);

impl fmt::Debug for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fd {}", self.0)
    }
}

/// A raw error number, as `errno(3)` has it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Errno(pub(crate) i32);

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "errno {}", self.0)
    }
}

impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> Self {
        Self::from_raw_os_error(errno.0)
    }
}

/// How many bytes a call has moved, or its errno: a `Result` in one register, as the calls
/// that every request makes answer it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Moved(isize);

impl Moved {
    /// What a system call returned: a negative number stands for the errno that it left.
    #[inline]
    pub(crate) fn counted(answer: isize, errno: impl FnOnce() -> Errno) -> Self {
        if answer < 0 {
            Self::from(Err(errno()))
        } else {
            Self(answer)
        }
    }

    /// Of a read: the end of the stream.
    #[inline]
    pub(crate) fn is_nothing(self) -> bool {
        self.0 == 0
    }

    #[inline]
    pub(crate) fn result(self) -> Result<usize, Errno> {
        if self.0 < 0 {
            Err(Errno((-self.0) as i32))
        } else {
            Ok(self.0 as usize)
        }
    }
}

/// No buffer is longer than `isize::MAX`, and no errno is below one.
impl From<Result<usize, Errno>> for Moved {
    fn from(result: Result<usize, Errno>) -> Self {
        match result {
            Ok(n) => Self(n as isize),
            Err(Errno(errno)) => Self(-(errno.max(1) as isize)),
        }
    }
}

/// Which call failed, and how. Opening a socket is several calls; the text names the one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    /// `socket`, `setsockopt`, `bind`, `listen`, …: as Go's error texts name it.
    pub(crate) call: &'static str,
    pub(crate) errno: Errno,
}

/// What the kernel said of a source. Several may hold at once; spurious ones are legal.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Readiness(pub(crate) u8);

impl Readiness {
    // The bits of the first two are those that epoll has for them, so that most reports need no
    // translation.
    /// A read may make progress: bytes, the end of the stream, or an error.
    pub(crate) const READABLE: Self = Self(1);
    /// A write may make progress, or would report an error.
    pub(crate) const WRITABLE: Self = Self(1 << 2);
    /// The peer has sent FIN (EPOLLRDHUP, EV_EOF): read until 0, a short read is not the end.
    pub(crate) const READ_CLOSED: Self = Self(1 << 1);
    /// Both directions are down (EPOLLHUP), or the peer will take no more.
    pub(crate) const WRITE_CLOSED: Self = Self(1 << 3);
    /// An error is pending on the socket (EPOLLERR).
    pub(crate) const ERROR: Self = Self(1 << 4);
    /// Urgent data (EPOLLPRI): a read stops at its mark, with more bytes behind it.
    pub(crate) const URGENT: Self = Self(1 << 5);

    pub(crate) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Adds what `other` says.
    pub(crate) fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Bytes have come, perhaps room for others: nothing else.
    #[inline]
    pub(crate) fn is_plain_read(self) -> bool {
        self.0 & !Self::WRITABLE.0 == Self::READABLE.0
    }

    /// The same, and the end behind them.
    #[inline]
    pub(crate) fn is_last_read(self) -> bool {
        self.0 & !Self::WRITABLE.0 == Self::READABLE.0 | Self::READ_CLOSED.0
    }

    /// There is room for bytes, and nothing else is said: the first report of a connection that
    /// nobody has written to yet.
    #[inline]
    pub(crate) fn is_plain_write(self) -> bool {
        self == Self::WRITABLE
    }

    /// This, or nothing; without a branch.
    pub(crate) fn if_so(self, holds: bool) -> Self {
        Self(self.0 * u8::from(holds))
    }
}

impl std::ops::BitOr for Readiness {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            "readable",
            "read-closed",
            "writable",
            "write-closed",
            "error",
            "urgent",
        ];
        let mut list = f.debug_list();
        for (bit, name) in names.iter().enumerate() {
            if self.0 & (1 << bit) != 0 {
                list.entry(&format_args!("{name}"));
            }
        }
        list.finish()
    }
}

/// One readiness report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Event {
    pub(crate) token: Token,
    pub(crate) ready: Readiness,
}

/// Which directions a source is registered for. Registered once, never modified.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Interest {
    /// Reading alone, as listeners are.
    Read,
    /// Writing alone.
    Write,
    /// Both, as connections and datagram sockets are.
    ReadWrite,
}

/// TCP keep-alive probing: first probe after `idle`, then every `interval`, given up
/// after `count` unanswered ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Keepalive {
    /// Silence before the first probe. Rounded up to whole seconds.
    pub idle: Duration,
    /// Time between probes. Rounded up to whole seconds.
    pub interval: Duration,
    /// Unanswered probes before the kernel reports ETIMEDOUT.
    pub count: u32,
}

/// Go's values since 1.23: 15 s, 15 s, 9 probes (`net.KeepAliveConfig`).
impl Default for Keepalive {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(15),
            interval: Duration::from_secs(15),
            count: 9,
        }
    }
}

impl Keepalive {
    /// Probing with these three values.
    pub fn new(idle: Duration, interval: Duration, count: u32) -> Self {
        Self {
            idle,
            interval,
            count,
        }
    }
}

/// Options of a stream; those of TCP alone are passed over on a Unix socket. On the platforms that inherit them they are set once on the
/// listener; `None` leaves the system's value alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct StreamOptions {
    pub(crate) nodelay: Option<bool>,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) receive_buffer: Option<usize>,
    pub(crate) send_buffer: Option<usize>,
}

/// What a socket carries: its type, as socket(2) has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Transport {
    /// SOCK_STREAM: TCP, or a Unix stream.
    Stream,
    /// SOCK_SEQPACKET, on Unix sockets: a connection whose records keep their bounds.
    Records,
    /// SOCK_DGRAM: UDP, or Unix datagrams.
    Datagrams,
    /// SOCK_RAW, with the number of its protocol.
    Raw(u8),
}

/// What the application does to a socket of its own before it is bound or connected.
#[derive(Clone)]
pub(crate) struct Prepare(Arc<dyn Fn(BorrowedFd<'_>) -> std::io::Result<()> + Send + Sync>);

impl Prepare {
    pub(crate) fn new(
        act: impl Fn(BorrowedFd<'_>) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(act))
    }

    pub(crate) fn run(&self, socket: BorrowedFd<'_>) -> std::io::Result<()> {
        (self.0)(socket)
    }
}

impl fmt::Debug for Prepare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prepare")
    }
}

/// Equal if it is the very same.
impl PartialEq for Prepare {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Prepare {}

/// Everything that opening one listening socket needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ListenSpec {
    pub(crate) addr: Addr,
    /// A stream or records.
    pub(crate) transport: Transport,
    /// Permission bits of a Unix path, set between bind and listen: nobody gets in before.
    /// `None`: what the umask leaves.
    pub(crate) mode: Option<u32>,
    /// IPV6_V6ONLY, always set explicitly on IPv6 sockets; `false` makes a dual-stack one.
    pub(crate) only_v6: bool,
    /// Passed to `listen(2)`, which clamps it to the system's maximum.
    pub(crate) backlog: i32,
    pub(crate) reuse_port: bool,
    pub(crate) stream: StreamOptions,
    /// The last thing before bind.
    pub(crate) prepare: Option<Prepare>,
}

/// Everything that a socket needs before it connects.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DialSpec {
    /// Where it will connect to; decides the family.
    pub(crate) remote: Addr,
    /// A stream or records.
    pub(crate) transport: Transport,
    /// Our own end, if somebody cares. Port 0 lets the kernel choose; a wildcard stands for
    /// that of the remote's family.
    pub(crate) local: Option<Addr>,
    pub(crate) stream: StreamOptions,
    /// The last thing before bind, or before connect.
    pub(crate) prepare: Option<Prepare>,
}

/// Everything that opening one socket for datagrams needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct BindSpec {
    /// Datagrams or raw IP.
    pub(crate) transport: Transport,
    /// Our own end; `None` leaves it to the kernel. Decides the family, unless `remote` does.
    pub(crate) local: Option<Addr>,
    /// Whom to connect to, after binding: the only one that is heard and spoken to then.
    pub(crate) remote: Option<Addr>,
    /// IPV6_V6ONLY, set explicitly on bound IPv6 sockets; `false` makes a dual-stack one.
    pub(crate) only_v6: bool,
    /// Permission bits of a Unix path, set right after bind.
    pub(crate) mode: Option<u32>,
    /// SO_REUSEADDR (and SO_REUSEPORT on the BSDs): several sockets may hear one group.
    pub(crate) reuse_addr: bool,
    /// SO_REUSEPORT (FreeBSD: SO_REUSEPORT_LB): the kernel spreads senders over several sockets.
    pub(crate) reuse_port: bool,
    /// SO_BROADCAST.
    pub(crate) broadcast: bool,
    /// Has each datagram say which address of ours it was sent to (IP_PKTINFO and its kin).
    pub(crate) destinations: bool,
    pub(crate) receive_buffer: Option<usize>,
    pub(crate) send_buffer: Option<usize>,
    /// The last thing before bind, or before connect.
    pub(crate) prepare: Option<Prepare>,
}

/// One option of a datagram socket, changed while it is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PacketOption {
    /// Joins a multicast group on the interface of that number; 0 lets the kernel choose.
    Join(std::net::IpAddr, u32),
    /// Leaves it.
    Leave(std::net::IpAddr, u32),
    /// Whether this host hears what it sends to groups.
    MulticastLoop(bool),
    /// Routers that a datagram to a group may pass, plus one.
    MulticastTtl(u32),
    /// Where datagrams to groups leave: the number of an interface.
    MulticastInterface(u32),
    /// Routers that any other datagram may pass, plus one.
    Ttl(u32),
    /// Whether datagrams may go to broadcast addresses.
    Broadcast(bool),
    /// Datagrams of equal size from one sender may come as one (UDP_GRO). ENOPROTOOPT where
    /// nobody does that: on other systems than Linux, and on other sockets than those of UDP.
    Merge,
}

/// One datagram to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'a> {
    pub(crate) bytes: &'a [u8],
    /// `None` on connected sockets.
    pub(crate) to: Option<&'a Addr>,
}

/// What one receive call is made into: places of equal size, one for each datagram.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: Box<[u8]>,
    size: usize,
    arrivals: Vec<Arrival>,
}

/// One datagram that has come.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    /// Bytes of it that lie in the batch.
    pub(crate) len: usize,
    /// It was longer than its place; the rest is lost.
    pub(crate) truncated: bool,
    pub(crate) from: Addr,
    /// Which address of ours it was sent to, if the socket was asked to tell. The port is
    /// the socket's own and shows as 0.
    pub(crate) to: Option<std::net::IpAddr>,
    /// Bytes of each datagram, if the kernel has merged several of one sender; the last may
    /// have fewer. 0: it is one.
    pub(crate) segment: usize,
}

impl Batch {
    /// Room for `places` datagrams of `size` bytes. Zeroed by the allocator: pages that no
    /// datagram reaches are never touched.
    pub(crate) fn new(places: usize, size: usize) -> Self {
        let nobody = Arrival {
            len: 0,
            truncated: false,
            from: Addr::Unix(UnixAddr::UNNAMED),
            to: None,
            segment: 0,
        };
        Self {
            bytes: vec![0; places.saturating_mul(size)].into_boxed_slice(),
            size,
            arrivals: vec![nobody; places],
        }
    }

    /// Bytes that one datagram may have before it is truncated.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn places(&self) -> usize {
        self.arrivals.len()
    }

    /// A datagram that has come, and its bytes.
    pub(crate) fn arrival(&self, at: usize) -> (&Arrival, &[u8]) {
        let arrival = &self.arrivals[at];
        let begin = at * self.size;
        (arrival, &self.bytes[begin..begin + arrival.len])
    }

    /// For the kernel to fill: all places, one after the other, and what is to be said of each.
    pub(crate) fn parts(&mut self) -> (&mut [u8], &mut [Arrival]) {
        (&mut self.bytes, &mut self.arrivals)
    }
}

/// What one receive call on a datagram socket brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Came {
    /// Datagrams in the batch, from its first place on.
    pub(crate) count: usize,
    /// There were no more: the next one will be announced.
    pub(crate) drained: bool,
}

/// What one receive call on records, or with descriptors, came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Message {
    pub(crate) len: usize,
    /// The record was longer than the buffer; the rest is lost.
    pub(crate) truncated: bool,
}

/// Who runs the process at the other end of a Unix socket, as the kernel noted it when the
/// connection was made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct PeerCred {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Process id, where the system tells (not on macOS and FreeBSD before 13). The process
    /// may be gone, and its number somebody else's.
    pub pid: Option<i32>,
}

/// What stands at a path, for whoever wants to know whether it is still the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PathIdentity {
    pub(crate) is_socket: bool,
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// A connected stream socket that was made elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Adopted {
    pub(crate) fd: Fd,
    pub(crate) transport: Transport,
    /// Our own end.
    pub(crate) local: Addr,
    /// The other end; `None` if it is not connected.
    pub(crate) peer: Option<Addr>,
}

impl Adopted {
    /// What is spoken on it.
    pub(crate) fn network(&self) -> Network {
        match (&self.local, self.transport) {
            (Addr::Ip(_), Transport::Stream | Transport::Records) => Network::Tcp,
            (Addr::Ip(_), Transport::Datagrams) => Network::Udp,
            (_, Transport::Raw(protocol)) => Network::Ip(protocol),
            (Addr::Unix(_), Transport::Stream) => Network::Unix,
            (Addr::Unix(_), Transport::Records) => Network::Unixpacket,
            (Addr::Unix(_), Transport::Datagrams) => Network::Unixgram,
        }
    }
}

/// Names one look-up, so that its answer finds whoever asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

/// What the resolver answered to one look-up.
#[derive(Debug)]
pub(crate) struct LookedUp {
    pub(crate) ticket: Ticket,
    pub(crate) addresses: Result<Vec<std::net::IpAddr>, std::io::Error>,
}

/// Ends a poll from another thread. Many wakes before the loop looks are one event.
pub(crate) trait Wake: Send + Sync {
    fn wake(&self);
}

/// The verbs.
///
/// A call that fails answers the raw errno, undecided. No verb blocks except `poll`
/// (at most for its timeout) and `lookup`. No verb retries, except where its line says so.
pub(crate) trait Kernel: fmt::Debug + Send {
    // Time and chance.

    /// Where [`nanos`](Self::nanos) counts from.
    fn epoch(&self) -> Instant;
    /// Monotonic time since the epoch. A loop reads it twice a turn, and an `Instant` costs
    /// several times as much to make and to subtract.
    fn nanos(&mut self) -> Nanos;
    /// Wall-clock time.
    fn wall(&mut self) -> SystemTime;
    /// Sixty-four random bits; not for secrets.
    fn random(&mut self) -> u64;

    // Readiness: edge-triggered, one report per change, never repeated.

    /// Waits at most `timeout` (`None`: for ever) and replaces `events` by what came.
    /// Never returns before `timeout` without an event, except with EINTR.
    fn poll(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> Result<(), Errno>;
    /// How long `poll` has waited without sleeping, all in all.
    fn spun(&self) -> Duration {
        Duration::ZERO
    }
    /// Reports `token` from now on, the present state first.
    fn register(&mut self, fd: Fd, token: Token, interest: Interest) -> Result<(), Errno>;
    /// Asks for a new report if `fd` is readable now. `false`: this system can't, drain instead.
    fn rearm(&mut self, fd: Fd, token: Token) -> Result<bool, Errno>;
    /// Ends the reports. Not needed before `close`, unless the descriptor has duplicates.
    fn deregister(&mut self, fd: Fd);
    /// The wake-up channel; its events carry `Token::WAKE`. The same one at each call.
    fn waker(&self) -> Arc<dyn Wake>;

    // Listeners.

    /// socket, options, bind, listen: nonblocking, close-on-exec. Closes what it opened if it fails.
    fn listen(&mut self, spec: &ListenSpec) -> Result<Fd, Fault>;
    /// Takes over a descriptor that must be a listening socket of a stream or records (else
    /// ENOTSOCK, EINVAL).
    fn adopt_listener(&mut self, fd: OwnedFd) -> Result<Adopted, Fault>;
    /// The system's maximum backlog, read anew at each call.
    fn backlog_limit(&mut self) -> u32;
    /// Connections waiting in the accept queue, and the queue's limit. ENOTSUP where the system can't tell.
    fn queue(&mut self, listener: Fd) -> Result<(u32, u32), Errno>;
    /// One connection off the queue: nonblocking, close-on-exec.
    fn take_client(&mut self, listener: Fd) -> Result<Fd, Errno>;
    /// Who the last one is that was taken, in the form that a connection keeps.
    fn client(&mut self) -> Remote;
    /// Whether an accepted socket has these options by inheritance. Asked once per listener.
    fn has_options(&mut self, fd: Fd, options: &StreamOptions) -> bool;
    /// Sets the options on one socket; the first failure is answered, the rest still tried.
    fn set_options(&mut self, fd: Fd, options: &StreamOptions) -> Result<(), Errno>;

    // Dialing.

    /// socket, options, bind if asked: nonblocking, close-on-exec, not connected. Closes
    /// what it opened if it fails.
    fn socket(&mut self, spec: &DialSpec) -> Result<Fd, Fault>;
    /// One connect call, never issued twice on one descriptor. EINPROGRESS, EALREADY and
    /// EINTR say that it is under way; its end is reported as writable.
    fn connect(&mut self, fd: Fd, remote: &Addr) -> Result<(), Errno>;
    /// Who is at the other end; ENOTCONN while nobody is.
    fn peer_addr(&mut self, fd: Fd) -> Result<Addr, Errno>;

    // Sockets and descriptors made elsewhere, and given away.

    /// Takes over a connected stream or record socket, made nonblocking and close-on-exec
    /// (else ENOTSOCK, EPROTOTYPE, ENOTCONN).
    fn adopt_stream(&mut self, fd: OwnedFd) -> Result<Adopted, Fault>;
    /// Takes over a datagram or raw socket, made nonblocking and close-on-exec (else
    /// ENOTSOCK, EPROTOTYPE).
    fn adopt_packets(&mut self, fd: OwnedFd) -> Result<Adopted, Fault>;
    /// Takes over any descriptor, as it is: nothing about it is changed.
    fn keep(&mut self, fd: OwnedFd) -> Result<Fd, Errno>;
    /// Gives a descriptor out of the loop, still open and deregistered. It stays nonblocking
    /// if it was made so.
    fn release(&mut self, fd: Fd) -> Result<OwnedFd, Errno>;
    /// Another descriptor for the same socket, close-on-exec.
    fn duplicate(&mut self, fd: Fd) -> Result<OwnedFd, Errno>;
    /// As `register`, for a descriptor of the application's own. EPERM for what is always
    /// ready and so cannot be watched: regular files and directories, whatever the system.
    fn watch(&mut self, fd: Fd, token: Token, interest: Interest) -> Result<(), Errno>;
    /// Asks for a new report if `fd` is ready now; works on every system, at the price of up
    /// to two calls.
    fn rewatch(&mut self, fd: Fd, token: Token, interest: Interest) -> Result<(), Errno>;

    // Datagrams.

    /// socket, options, bind if `local` is given, connect if `remote` is: nonblocking,
    /// close-on-exec. Closes what it opened if it fails.
    fn bind(&mut self, spec: &BindSpec) -> Result<Fd, Fault>;
    /// One receive call, for as many datagrams as the batch has places (one, on systems
    /// without recvmmsg). At least one has come, and an empty one counts.
    fn receive(&mut self, fd: Fd, batch: &mut Batch) -> Result<Came, Errno>;
    /// One send call, for at most [`MAX_PACKETS`] datagrams (one, on systems without
    /// sendmmsg). Answers how many were taken: at least one; the error is that of the first.
    fn send_packets(&mut self, fd: Fd, packets: &[Packet<'_>]) -> Result<usize, Errno>;
    fn set_packet_option(&mut self, fd: Fd, option: PacketOption) -> Result<(), Errno>;
    /// Whether what is received may be several datagrams in one: it was asked for, here or
    /// by whoever else has the socket.
    fn merges(&self, fd: Fd) -> bool;
    /// The number of the interface of that name.
    fn interface_index(&mut self, name: &str) -> Option<u32>;

    // Unix sockets.

    /// What stands at a path; a symbolic link is not followed (lstat).
    fn path_identity(&mut self, path: &Path) -> Result<PathIdentity, Errno>;
    fn unlink(&mut self, path: &Path) -> Result<(), Errno>;
    /// Connects to a Unix address and hangs up: ECONNREFUSED says that nobody serves it.
    fn knock(&mut self, addr: &UnixAddr, transport: Transport) -> Result<(), Errno>;
    fn peer_cred(&mut self, fd: Fd) -> Result<PeerCred, Errno>;
    /// One receive call that keeps the bounds of records and takes descriptors, made
    /// close-on-exec, off the socket. `fds: None` closes those that come.
    fn receive_message(
        &mut self,
        fd: Fd,
        buffer: &mut [u8],
        fds: Option<&mut Vec<OwnedFd>>,
    ) -> Result<Message, Errno>;
    /// One send call with descriptors, which travel with the first of the bytes (at least
    /// one) and stay open here. At most [`MAX_FDS`].
    fn send_with_fds(&mut self, fd: Fd, bytes: &[u8], fds: &[OwnedFd]) -> Result<usize, Errno>;

    // Streams.

    /// One receive call. `Ok(0)` with a non-empty buffer is the end of the stream.
    fn recv(&mut self, fd: Fd, buffer: &mut [u8]) -> Moved;
    /// One send call; never raises SIGPIPE.
    fn send(&mut self, fd: Fd, bytes: &[u8]) -> Moved;
    /// One vectored send call; never raises SIGPIPE. At most [`MAX_PARTS`] parts.
    fn write_parts(&mut self, fd: Fd, parts: &[IoSlice<'_>]) -> Result<usize, Errno>;

    #[cfg(test)]
    fn now(&mut self) -> Instant {
        self.epoch() + Duration::from_nanos(self.nanos())
    }

    #[cfg(test)]
    fn accept(&mut self, listener: Fd) -> Result<(Fd, Addr), Errno> {
        let fd = self.take_client(listener)?;
        Ok((fd, self.client().into()))
    }

    #[cfg(test)]
    fn read(&mut self, fd: Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.recv(fd, buffer).result()
    }

    #[cfg(test)]
    fn write(&mut self, fd: Fd, bytes: &[u8]) -> Result<usize, Errno> {
        self.send(fd, bytes).result()
    }
    /// Takes the pending error (SO_ERROR) off the socket.
    fn take_error(&mut self, fd: Fd) -> Option<Errno>;
    /// Sends FIN.
    fn shutdown_write(&mut self, fd: Fd) -> Result<(), Errno>;
    fn local_addr(&mut self, fd: Fd) -> Result<Addr, Errno>;
    /// Closes; never retried, whatever it answers (close(2): the descriptor is gone even on EINTR).
    fn close(&mut self, fd: Fd);
    /// Closes with RST: SO_LINGER 0, then close. What was sent and not delivered is lost.
    fn reset(&mut self, fd: Fd);

    // Names and limits.

    /// Begins to look a host name up, without blocking: on a helper thread, one name after
    /// the other. The answer is announced by a wake-up and fetched with `looked_up`.
    fn look_up(&mut self, ticket: Ticket, host: &str);
    /// Moves the answers that have come to `answers`. Costs nothing while none has.
    fn looked_up(&mut self, answers: &mut Vec<LookedUp>);
    /// Addresses of a host name, in the resolver's order. May block.
    fn lookup(&mut self, host: &str) -> Result<Vec<std::net::IpAddr>, std::io::Error>;
    /// How many descriptors this process may open (the soft limit).
    fn descriptor_limit(&mut self) -> u64;
    /// Raises the soft limit to the hard one; answers the new limit.
    fn raise_descriptor_limit(&mut self) -> Result<u64, Errno>;
    /// Opens a descriptor that only occupies its number, to be closed in time of need.
    fn spare(&mut self) -> Result<Fd, Errno>;

    /// The simulated kernel, if that is what this is.
    fn sim(&mut self) -> Option<&mut sim::SimKernel> {
        None
    }
}

/// The kernel of one loop.
///
/// That of the system is known by its type: the calls that each request makes are plain calls,
/// and not looked up in a table. All other verbs are those of the trait.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each loop, and what each client needs is found without a pointer"
)]
pub(crate) enum AnyKernel {
    System(os::OsKernel),
    Other(Box<dyn Kernel>),
}

impl AnyKernel {
    /// As [`Kernel::poll`], at most `wait` long from `now` on, which is a time read a moment ago;
    /// [`NEVER`] is for ever.
    #[inline]
    pub(crate) fn poll(
        &mut self,
        events: &mut Vec<Event>,
        wait: Nanos,
        now: Nanos,
    ) -> Result<(), Errno> {
        match self {
            Self::System(kernel) => kernel.poll_for(events, wait, now),
            Self::Other(kernel) => {
                let timeout = (wait != NEVER).then(|| Duration::from_nanos(wait));
                kernel.poll(events, timeout)
            }
        }
    }

    /// As [`Kernel::nanos`].
    #[inline]
    pub(crate) fn nanos(&mut self) -> Nanos {
        match self {
            Self::System(kernel) => kernel.since_epoch(),
            Self::Other(kernel) => kernel.nanos(),
        }
    }

    /// As [`Kernel::take_client`].
    #[inline(always)]
    pub(crate) fn take_client(&mut self, listener: Fd) -> Result<Fd, Errno> {
        match self {
            Self::System(kernel) => kernel.next_client(listener),
            Self::Other(kernel) => kernel.take_client(listener),
        }
    }

    /// As [`Kernel::client`], of one that most are: by TCP, from an IPv4 address. `None`: it has
    /// to be asked.
    #[inline(always)]
    pub(crate) fn ordinary_client(&self) -> Option<Peer> {
        match self {
            Self::System(kernel) => kernel.ordinary_client(),
            Self::Other(_) => None,
        }
    }

    /// As [`Kernel::register`], of a stream.
    #[inline(always)]
    pub(crate) fn register_stream(&mut self, fd: Fd, token: Token) -> Result<(), Errno> {
        match self {
            Self::System(kernel) => kernel.add_stream(fd, token),
            Self::Other(kernel) => kernel.register(fd, token, Interest::ReadWrite),
        }
    }

    /// As [`Kernel::recv`], for what it answers mostly: some bytes, fewer than there is room
    /// for. `Err` is any other answer.
    #[inline(always)]
    pub(crate) fn recv_some(&mut self, fd: Fd, buffer: &mut [u8]) -> Result<usize, Moved> {
        match self {
            Self::System(_) => os::recv_some(fd, buffer),
            Self::Other(kernel) => {
                let moved = kernel.recv(fd, buffer);
                let n = moved.0 as usize;
                if n != 0 && n < buffer.len() {
                    Ok(n)
                } else {
                    Err(moved)
                }
            }
        }
    }

    /// As [`Kernel::recv`].
    #[inline]
    pub(crate) fn recv(&mut self, fd: Fd, buffer: &mut [u8]) -> Moved {
        match self {
            Self::System(_) => os::recv(fd, buffer),
            Self::Other(kernel) => kernel.recv(fd, buffer),
        }
    }

    /// As [`Kernel::send`], for what it answers mostly: all of them. `Err` is any other answer.
    #[inline(always)]
    pub(crate) fn send_all(&mut self, fd: Fd, bytes: &[u8]) -> Result<(), Moved> {
        match self {
            Self::System(_) => os::send_all(fd, bytes),
            Self::Other(kernel) => {
                let moved = kernel.send(fd, bytes);
                if moved.0 as usize == bytes.len() {
                    Ok(())
                } else {
                    Err(moved)
                }
            }
        }
    }

    /// As [`Kernel::close`], of a stream: nothing but its descriptor is known of one.
    #[inline]
    pub(crate) fn close_stream(&mut self, fd: Fd) {
        match self {
            Self::System(_) => os::close(fd),
            Self::Other(kernel) => kernel.close(fd),
        }
    }

    pub(crate) fn as_mut(&mut self) -> &mut (dyn Kernel + 'static) {
        match self {
            Self::System(kernel) => kernel,
            Self::Other(kernel) => kernel.as_mut(),
        }
    }
}

impl std::ops::Deref for AnyKernel {
    type Target = dyn Kernel;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::System(kernel) => kernel,
            Self::Other(kernel) => kernel.as_ref(),
        }
    }
}

impl std::ops::DerefMut for AnyKernel {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.as_mut()
    }
}

/// Parts that one vectored call may have (IOV_MAX is 1024 on every supported system; few
/// flushes have more than a handful, and the array lives on the stack).
pub(crate) const MAX_PARTS: usize = 64;

/// Datagrams that one call sends at most. The arrays that the system wants exist once per loop.
pub(crate) const MAX_PACKETS: usize = 32;

/// Descriptors that one message may carry (SCM_MAX_FD of Linux; the BSDs allow more).
pub(crate) const MAX_FDS: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    fn adopted(local: Addr, transport: Transport) -> Network {
        let peer = None;
        let fd = Fd(3);
        Adopted {
            fd,
            transport,
            local,
            peer,
        }
        .network()
    }

    #[test]
    fn an_adopted_socket_is_of_the_network_that_its_transport_carries() {
        let ip = || Addr::Ip(([127, 0, 0, 1], 80).into());
        let unix = || Addr::Unix(UnixAddr::UNNAMED);
        assert_eq!(adopted(ip(), Transport::Stream), Network::Tcp);
        assert_eq!(adopted(ip(), Transport::Datagrams), Network::Udp);
        assert_eq!(adopted(ip(), Transport::Raw(1)), Network::Ip(1));
        assert_eq!(adopted(unix(), Transport::Stream), Network::Unix);
        assert_eq!(adopted(unix(), Transport::Records), Network::Unixpacket);
        assert_eq!(adopted(unix(), Transport::Datagrams), Network::Unixgram);
    }

    #[test]
    fn two_specifications_are_the_same_if_the_very_same_is_to_be_prepared() {
        let prepare = || Prepare(Arc::new(|_| Ok(())));
        let one = prepare();
        assert!(one == one.clone() && one != prepare());
        assert_eq!(format!("{one:?}"), "Prepare");
    }
}
