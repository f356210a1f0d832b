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
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::address::Addr;
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
    /// A read may make progress: bytes, the end of the stream, or an error.
    pub(crate) const READABLE: Self = Self(1);
    /// A write may make progress, or would report an error.
    pub(crate) const WRITABLE: Self = Self(1 << 1);
    /// The peer has sent FIN (EPOLLRDHUP, EV_EOF): read until 0, a short read is not the end.
    pub(crate) const READ_CLOSED: Self = Self(1 << 2);
    /// Both directions are down (EPOLLHUP), or the peer will take no more.
    pub(crate) const WRITE_CLOSED: Self = Self(1 << 3);
    /// An error is pending on the socket (EPOLLERR).
    pub(crate) const ERROR: Self = Self(1 << 4);
    /// Urgent data (EPOLLPRI): a read stops at its mark, with more bytes behind it.
    pub(crate) const URGENT: Self = Self(1 << 5);

    pub(crate) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            "readable",
            "writable",
            "read-closed",
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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interest {
    /// Listeners.
    Read,
    /// Connections.
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

/// Options of a TCP stream. On the platforms that inherit them they are set once on the
/// listener; `None` leaves the system's value alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct StreamOptions {
    pub(crate) nodelay: Option<bool>,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) receive_buffer: Option<usize>,
    pub(crate) send_buffer: Option<usize>,
}

/// Everything that opening one listening socket needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ListenSpec {
    pub(crate) addr: std::net::SocketAddr,
    /// IPV6_V6ONLY, always set explicitly on IPv6 sockets; `false` makes a dual-stack one.
    pub(crate) only_v6: bool,
    /// Passed to `listen(2)`, which clamps it to the system's maximum.
    pub(crate) backlog: i32,
    pub(crate) reuse_port: bool,
    pub(crate) stream: StreamOptions,
}

/// Everything that a socket needs before it connects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DialSpec {
    /// Where it will connect to; decides the family.
    pub(crate) remote: std::net::SocketAddr,
    /// Our own end, if somebody cares. Port 0 lets the kernel choose; a wildcard stands for
    /// that of the remote's family.
    pub(crate) local: Option<std::net::SocketAddr>,
    pub(crate) stream: StreamOptions,
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

    /// Monotonic time.
    fn now(&mut self) -> Instant;
    /// Wall-clock time.
    fn wall(&mut self) -> SystemTime;
    /// Sixty-four random bits; not for secrets.
    fn random(&mut self) -> u64;

    // Readiness: edge-triggered, one report per change, never repeated.

    /// Waits at most `timeout` (`None`: for ever) and replaces `events` by what came.
    /// Never returns before `timeout` without an event, except with EINTR.
    fn poll(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> Result<(), Errno>;
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
    /// Takes over a descriptor that must be a listening stream socket (else ENOTSOCK, EINVAL).
    fn adopt_listener(&mut self, fd: OwnedFd) -> Result<Fd, Fault>;
    /// The system's maximum backlog, read anew at each call.
    fn backlog_limit(&mut self) -> u32;
    /// Connections waiting in the accept queue, and the queue's limit. ENOTSUP where the system can't tell.
    fn queue(&mut self, listener: Fd) -> Result<(u32, u32), Errno>;
    /// One connection off the queue: nonblocking, close-on-exec.
    fn accept(&mut self, listener: Fd) -> Result<(Fd, Addr), Errno>;
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
    fn connect(&mut self, fd: Fd, remote: std::net::SocketAddr) -> Result<(), Errno>;
    /// Who is at the other end; ENOTCONN while nobody is.
    fn peer_addr(&mut self, fd: Fd) -> Result<Addr, Errno>;

    // Streams.

    /// One receive call. `Ok(0)` with a non-empty buffer is the end of the stream.
    fn read(&mut self, fd: Fd, buffer: &mut [u8]) -> Result<usize, Errno>;
    /// One send call; never raises SIGPIPE.
    fn write(&mut self, fd: Fd, bytes: &[u8]) -> Result<usize, Errno>;
    /// One vectored send call; never raises SIGPIPE. At most [`MAX_PARTS`] parts.
    fn write_parts(&mut self, fd: Fd, parts: &[IoSlice<'_>]) -> Result<usize, Errno>;
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

/// Parts that one vectored call may have (IOV_MAX is 1024 on every supported system; few
/// flushes have more than a handful, and the array lives on the stack).
pub(crate) const MAX_PARTS: usize = 64;
