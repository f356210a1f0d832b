//! The real kernel: the verbs of [`Kernel`] on mio, socket2 and libc.
//!
//! Owns the poller, the buffer that mio fills, the wake-up channel, the thread that looks
//! names up, the state of a small random number generator, and every difference between
//! Linux, FreeBSD, NetBSD and macOS.
//! It never knows what an errno means for a listener or a connection, what a token stands
//! for, or which descriptors are open: each verb is one thing done and its answer passed on.

#![allow(
    unsafe_code,
    reason = "the only room that lends out raw descriptors and makes the system calls that \
              neither mio, socket2 nor the standard library wraps"
)]

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, IoSlice, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use mio::unix::SourceFd;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use super::{
    DialSpec, Errno, Event, Fault, Fd, Interest, Keepalive, Kernel, ListenSpec, LookedUp,
    MAX_PARTS, Readiness, StreamOptions, Ticket, Wake,
};
use crate::address::Addr;
use crate::token::Token;

const LOG_TARGET: &str = "windlass::kernel";

/// As debuggers and `top -H` show it, where Linux cuts it after 15 bytes.
const RESOLVER_THREAD: &str = "windlass-resolver";

/// Most bytes of one read or write call (Go's `maxRW`): macOS and FreeBSD refuse calls of
/// 2 GiB and more, so a long buffer goes in pieces instead of failing.
const MAX_CALL_BYTES: usize = 1 << 30;

/// Longest wait handed to the system in one piece: epoll counts 32-bit milliseconds (24 days),
/// and NetBSD refuses waits beyond 10⁸ seconds. Longer ones are waited for in pieces.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// `SOMAXCONN` of old, the backlog limit where the system doesn't name one.
const FALLBACK_BACKLOG: u32 = 128;

/// Descriptors assumed if the limit can't be asked: the least default of any supported system.
const FALLBACK_DESCRIPTORS: u64 = 128;

/// `OPEN_MAX`: the most that macOS lets a soft limit be while the hard one is infinite.
#[cfg(target_os = "macos")]
const OPEN_MAX: libc::rlim_t = 10_240;

/// macOS marks the socket instead (SO_NOSIGPIPE), because the flag is new there.
#[cfg(target_os = "macos")]
const SEND_FLAGS: libc::c_int = 0;
#[cfg(not(target_os = "macos"))]
const SEND_FLAGS: libc::c_int = libc::MSG_NOSIGNAL;

/// The operating system.
#[derive(Debug)]
pub(crate) struct OsKernel {
    poll: mio::Poll,
    buffer: mio::Events,
    /// Events the buffer may grow to.
    max_events: usize,
    waker: Arc<OsWaker>,
    resolver: Resolver,
    random: SplitMix,
}

impl OsKernel {
    /// A poller whose buffer has room for `initial_events` and, each time that it came back
    /// full, for twice as many, up to `max_events`.
    pub(crate) fn new(initial_events: usize, max_events: usize) -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let waker = mio::Waker::new(poll.registry(), to_mio(Token::WAKE))?;
        let waker = Arc::new(OsWaker(waker));
        let max_events = max_events.clamp(1, i32::MAX as usize);
        Ok(Self {
            poll,
            buffer: mio::Events::with_capacity(initial_events.clamp(1, max_events)),
            max_events,
            resolver: Resolver::new(Arc::clone(&waker)),
            waker,
            random: SplitMix::seeded(),
        })
    }

    /// Waits for an event, at most `longest` at a time.
    fn wait(&mut self, timeout: Option<Duration>, longest: Duration) -> io::Result<()> {
        let mut left = timeout;
        loop {
            let piece = left.map(|left| left.min(longest));
            self.poll.poll(&mut self.buffer, piece)?;
            if !self.buffer.is_empty() || piece == left {
                return Ok(());
            }
            left = left.map(|left| left.saturating_sub(longest));
        }
    }

    /// A full buffer may have left events behind; they come at the next poll, but the more
    /// fit in one, the fewer polls a busy turn needs.
    fn grow(&mut self, came: usize) {
        let capacity = self.buffer.capacity();
        if came >= capacity && capacity < self.max_events {
            let doubled = capacity.saturating_mul(2).min(self.max_events);
            self.buffer = mio::Events::with_capacity(doubled);
        }
    }
}

impl Kernel for OsKernel {
    fn now(&mut self) -> Instant {
        Instant::now()
    }

    fn wall(&mut self) -> SystemTime {
        SystemTime::now()
    }

    fn random(&mut self) -> u64 {
        self.random.next()
    }

    fn poll(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> Result<(), Errno> {
        events.clear();
        self.wait(timeout, LONGEST_WAIT).map_err(errno)?;
        events.extend(self.buffer.iter().map(from_mio));
        self.grow(events.len());
        Ok(())
    }

    fn register(&mut self, fd: Fd, token: Token, interest: Interest) -> Result<(), Errno> {
        let interest = match interest {
            Interest::Read => mio::Interest::READABLE,
            Interest::ReadWrite => STREAM,
        };
        self.poll
            .registry()
            .register(&mut SourceFd(&fd.0), to_mio(token), interest)
            .map_err(errno)
    }

    /// EPOLL_CTL_MOD looks at the descriptor anew and reports it if it is ready. It also
    /// replaces the interest; both directions are asked for, since a listener is never
    /// writable, while a connection must not lose its writability.
    #[cfg(target_os = "linux")]
    fn rearm(&mut self, fd: Fd, token: Token) -> Result<bool, Errno> {
        self.poll
            .registry()
            .reregister(&mut SourceFd(&fd.0), to_mio(token), BOTH_DIRECTIONS)
            .map(|()| true)
            .map_err(errno)
    }

    /// EV_ADD on a kevent that exists should look at the descriptor anew as well, but that
    /// is not proven on every kqueue. Draining until EAGAIN is right everywhere.
    #[cfg(not(target_os = "linux"))]
    fn rearm(&mut self, _fd: Fd, _token: Token) -> Result<bool, Errno> {
        Ok(false)
    }

    fn deregister(&mut self, fd: Fd) {
        if let Err(error) = self.poll.registry().deregister(&mut SourceFd(&fd.0)) {
            log::debug!(target: LOG_TARGET, "deregister {fd:?}: {error}");
        }
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::<OsWaker>::clone(&self.waker)
    }

    fn listen(&mut self, spec: &ListenSpec) -> Result<Fd, Fault> {
        // Dropping the socket closes it, so each step may simply fail.
        let socket = open_stream(spec.addr).map_err(fault("socket"))?;
        prepare_listener(&socket, spec).map_err(fault("setsockopt"))?;
        let addr = SockAddr::from(spec.addr);
        socket.bind(&addr).map_err(fault("bind"))?;
        socket.listen(spec.backlog).map_err(fault("listen"))?;
        Ok(Fd(socket.into_raw_fd()))
    }

    fn adopt_listener(&mut self, fd: OwnedFd) -> Result<Fd, Fault> {
        let socket = Socket::from(fd);
        must_listen(&socket).map_err(fault("getsockopt"))?;
        // The interface has no addresses but these to answer `accept` with.
        let addr = socket.local_addr().map_err(fault("getsockname"))?;
        to_addr(&addr).ok_or(Fault {
            call: "getsockname",
            errno: Errno(libc::EAFNOSUPPORT),
        })?;
        socket.set_nonblocking(true).map_err(fault("setnonblock"))?;
        socket.set_cloexec(true).map_err(fault("fcntl"))?;
        Ok(Fd(socket.into_raw_fd()))
    }

    fn backlog_limit(&mut self) -> u32 {
        system_backlog()
            .filter(|limit| *limit > 0)
            .unwrap_or(FALLBACK_BACKLOG)
    }

    fn queue(&mut self, listener: Fd) -> Result<(u32, u32), Errno> {
        accept_queue(listener)
    }

    fn accept(&mut self, listener: Fd) -> Result<(Fd, Addr), Errno> {
        let (socket, peer) = accept_stream(&SockRef::from(&listener)).map_err(errno)?;
        // macOS answers an empty address if the peer has gone already. Returning here
        // closes the socket.
        let peer = to_addr(&peer).ok_or(Errno(libc::ECONNABORTED))?;
        Ok((Fd(socket.into_raw_fd()), peer))
    }

    fn has_options(&mut self, fd: Fd, options: &StreamOptions) -> bool {
        let socket = SockRef::from(&fd);
        // The buffer sizes aren't compared: every system hands them down, since the window
        // that the handshake offers depends on them, and answers other numbers than asked.
        options
            .nodelay
            .is_none_or(|asked| socket.tcp_nodelay().is_ok_and(|has| has == asked))
            && options
                .keepalive
                .is_none_or(|asked| probes_like(&socket, asked).unwrap_or(false))
    }

    fn set_options(&mut self, fd: Fd, options: &StreamOptions) -> Result<(), Errno> {
        apply(&SockRef::from(&fd), options).map_err(errno)
    }

    fn socket(&mut self, spec: &DialSpec) -> Result<Fd, Fault> {
        // Dropping the socket closes it, so each step may simply fail.
        let remote = canonical(spec.remote);
        let socket = open_stream(remote).map_err(fault("socket"))?;
        // Before `connect`, because the window that the handshake offers depends on them.
        // A connection without its options is better than none.
        if let Err(error) = apply(&socket, &spec.stream) {
            log::debug!(target: LOG_TARGET, "an option of a socket to {remote}: {error}");
        }
        if let Some(local) = spec.local {
            let local = SockAddr::from(own_end(canonical(local), remote));
            socket.bind(&local).map_err(fault("bind"))?;
        }
        Ok(Fd(socket.into_raw_fd()))
    }

    fn connect(&mut self, fd: Fd, remote: SocketAddr) -> Result<(), Errno> {
        // In the form that `socket` chose the family by.
        let remote = SockAddr::from(canonical(remote));
        SockRef::from(&fd).connect(&remote).map_err(errno)
    }

    fn peer_addr(&mut self, fd: Fd) -> Result<Addr, Errno> {
        let addr = SockRef::from(&fd).peer_addr().map_err(errno)?;
        // macOS answers an empty address if the peer has gone already.
        to_addr(&addr).ok_or(Errno(libc::ENOTCONN))
    }

    fn read(&mut self, fd: Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
        let length = buffer.len().min(MAX_CALL_BYTES);
        let socket = SockRef::from(&fd);
        (&*socket).read(&mut buffer[..length]).map_err(errno)
    }

    fn write(&mut self, fd: Fd, bytes: &[u8]) -> Result<usize, Errno> {
        let length = bytes.len().min(MAX_CALL_BYTES);
        SockRef::from(&fd)
            .send_with_flags(&bytes[..length], SEND_FLAGS)
            .map_err(errno)
    }

    fn write_parts(&mut self, fd: Fd, parts: &[IoSlice<'_>]) -> Result<usize, Errno> {
        match one_call(parts, MAX_CALL_BYTES) {
            Call::Parts(parts) => SockRef::from(&fd)
                .send_vectored_with_flags(parts, SEND_FLAGS)
                .map_err(errno),
            Call::Long(part) => self.write(fd, part),
        }
    }

    fn take_error(&mut self, fd: Fd) -> Option<Errno> {
        match SockRef::from(&fd).take_error() {
            Ok(pending) => pending.map(errno),
            Err(error) => Some(errno(error)),
        }
    }

    fn shutdown_write(&mut self, fd: Fd) -> Result<(), Errno> {
        SockRef::from(&fd).shutdown(Shutdown::Write).map_err(errno)
    }

    fn local_addr(&mut self, fd: Fd) -> Result<Addr, Errno> {
        let addr = SockRef::from(&fd).local_addr().map_err(errno)?;
        to_addr(&addr).ok_or(Errno(libc::EAFNOSUPPORT))
    }

    fn close(&mut self, fd: Fd) {
        // SAFETY: `close` touches no memory of ours. The number is the caller's to close:
        // verbs hand out each open descriptor once, and its keeper closes it once.
        let _ = unsafe { libc::close(fd.0) };
    }

    fn reset(&mut self, fd: Fd) {
        // If this fails, the peer gets a FIN instead of the RST; the close must happen anyway.
        let _ = SockRef::from(&fd).set_linger(Some(Duration::ZERO));
        self.close(fd);
    }

    fn look_up(&mut self, ticket: Ticket, host: &str) {
        self.resolver.look_up(ticket, host);
    }

    fn looked_up(&mut self, answers: &mut Vec<LookedUp>) {
        self.resolver.answers.take(answers);
    }

    fn lookup(&mut self, host: &str) -> Result<Vec<IpAddr>, io::Error> {
        addresses_of(host)
    }

    fn descriptor_limit(&mut self) -> u64 {
        descriptor_limits().map_or(FALLBACK_DESCRIPTORS, |limits| count(limits.rlim_cur))
    }

    fn raise_descriptor_limit(&mut self) -> Result<u64, Errno> {
        let mut limits = descriptor_limits()?;
        let highest = highest_soft_limit(limits.rlim_max);
        if limits.rlim_cur < highest {
            limits.rlim_cur = highest;
            // SAFETY: the pointer is to a live, initialised `rlimit`, only read by the call.
            check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limits) })?;
        }
        Ok(count(limits.rlim_cur))
    }

    fn spare(&mut self) -> Result<Fd, Errno> {
        // The standard library opens with O_CLOEXEC.
        let file = File::open("/dev/null").map_err(errno)?;
        Ok(Fd(file.into_raw_fd()))
    }
}

/// Lets socket2 borrow the socket behind a number, without owning or closing it.
impl AsFd for Fd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: an `Fd` that reaches this room came out of one of its verbs and is open
        // until its keeper calls `close` or `reset`, which take the same `&mut OsKernel` as
        // the verb that is borrowing; the borrow ends within that verb. It is never -1,
        // because a verb that fails answers an error instead.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

/// The wake-up channel: an eventfd, a user kevent or a pipe, whichever the system has.
#[derive(Debug)]
struct OsWaker(mio::Waker);

impl Wake for OsWaker {
    fn wake(&self) {
        if let Err(error) = self.0.wake() {
            log::error!(target: LOG_TARGET, "could not wake the loop: {error}");
        }
    }
}

// Between mio's terms and ours.

const BOTH_DIRECTIONS: mio::Interest = mio::Interest::READABLE.add(mio::Interest::WRITABLE);

/// Urgent data must be known of: a read that stops at its mark has not drained the socket.
#[cfg(target_os = "linux")]
const STREAM: mio::Interest = BOTH_DIRECTIONS.add(mio::Interest::PRIORITY);
#[cfg(not(target_os = "linux"))]
const STREAM: mio::Interest = BOTH_DIRECTIONS;

fn to_mio(token: Token) -> mio::Token {
    // The crate is 64-bit only: no bit is lost.
    mio::Token(token.bits() as usize)
}

fn from_mio(event: &mio::event::Event) -> Event {
    let mut ready = Readiness::default();
    let said = [
        (event.is_readable(), Readiness::READABLE),
        (event.is_writable(), Readiness::WRITABLE),
        (event.is_read_closed(), Readiness::READ_CLOSED),
        (event.is_write_closed(), Readiness::WRITE_CLOSED),
        (event.is_error(), Readiness::ERROR),
        (event.is_priority(), Readiness::URGENT),
    ];
    for (holds, bit) in said {
        if holds {
            ready.insert(bit);
        }
    }
    Event {
        token: Token::from_bits(event.token().0 as u64),
        ready,
    }
}

/// The raw number. The few errors that a library made up itself pass as EIO.
fn errno(error: io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(libc::EIO))
}

fn fault(call: &'static str) -> impl FnOnce(io::Error) -> Fault {
    move |error| Fault {
        call,
        errno: errno(error),
    }
}

/// What a libc call left in `errno`, if it answered -1.
fn check(answer: libc::c_int) -> Result<(), Errno> {
    if answer == -1 {
        Err(errno(io::Error::last_os_error()))
    } else {
        Ok(())
    }
}

// Opening and taking over listeners.

/// A nonblocking, close-on-exec TCP socket, made so by the one call.
#[cfg(not(target_os = "macos"))]
fn open_stream(addr: SocketAddr) -> io::Result<Socket> {
    Socket::new(
        Domain::for_address(addr),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )
}

/// macOS has no such flags. socket2 sets FD_CLOEXEC and SO_NOSIGPIPE right after; a process
/// that forks in between inherits the socket, which is the system's gap to close.
#[cfg(target_os = "macos")]
fn open_stream(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn prepare_listener(socket: &Socket, spec: &ListenSpec) -> io::Result<()> {
    if spec.addr.is_ipv6() {
        socket.set_only_v6(spec.only_v6)?;
    }
    socket.set_reuse_address(true)?;
    if spec.reuse_port {
        share_port(socket)?;
    }
    // Before `listen`, so that accepted sockets inherit them.
    apply(socket, &spec.stream)
}

/// On FreeBSD plain SO_REUSEPORT hands every connection to one of the listeners only.
#[cfg(target_os = "freebsd")]
fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port_lb(true)
}

#[cfg(not(target_os = "freebsd"))]
fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

fn must_listen(socket: &Socket) -> io::Result<()> {
    if socket.r#type()? == Type::STREAM && is_listening(socket)? {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EINVAL))
    }
}

#[cfg(any(target_os = "linux", target_os = "freebsd"))]
fn is_listening(socket: &Socket) -> io::Result<bool> {
    socket.is_listener()
}

/// Where the system doesn't know the option (older macOS), the caller is believed; the first
/// `accept` will tell.
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
fn is_listening(socket: &Socket) -> io::Result<bool> {
    use std::os::fd::AsRawFd;
    let fd = Fd(socket.as_raw_fd());
    // SAFETY: SO_ACCEPTCONN is an int, for which every pattern of bits is a value.
    match unsafe { option::<libc::c_int>(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN) } {
        Ok(listens) => Ok(listens != 0),
        Err(Errno(libc::ENOPROTOOPT)) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

// Accepting.

/// One system call: address, nonblocking and close-on-exec come with the connection.
#[cfg(not(target_os = "macos"))]
fn accept_stream(listener: &Socket) -> io::Result<(Socket, SockAddr)> {
    listener.accept4(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)
}

/// The calls after `accept` fail when the peer has reset the connection meanwhile, which is
/// what ECONNABORTED says. The socket is closed then, by being dropped.
#[cfg(target_os = "macos")]
fn accept_stream(listener: &Socket) -> io::Result<(Socket, SockAddr)> {
    let (socket, peer) = listener.accept_raw()?;
    socket
        .set_cloexec(true)
        .and_then(|()| socket.set_nonblocking(true))
        .and_then(|()| socket.set_nosigpipe(true))
        .map_err(|_| io::Error::from_raw_os_error(libc::ECONNABORTED))?;
    Ok((socket, peer))
}

/// The address of an IP socket. A dual-stack socket's IPv4 peers come as `::ffff:a.b.c.d`;
/// they are the same peers as without it, so they get the same address.
fn to_addr(addr: &SockAddr) -> Option<Addr> {
    addr.as_socket().map(|addr| Addr::from(canonical(addr)))
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, addr.port()),
        // Rebuilding it would lose the scope of a link-local address.
        IpAddr::V6(_) => addr,
    }
}

// Dialing.

/// Any address of ours is one of the family that the socket has; a particular one of the
/// other family stays as it is, for `bind` to refuse.
///
/// With this, and with IPv4 sockets for mapped addresses, nothing depends on IPV6_V6ONLY:
/// a socket of IPv6 speaks to IPv6 peers only. Hence it is left alone.
fn own_end(local: SocketAddr, remote: SocketAddr) -> SocketAddr {
    if !local.ip().is_unspecified() || local.is_ipv4() == remote.is_ipv4() {
        return local;
    }
    let any: IpAddr = match remote {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(any, local.port())
}

// Options of a stream.

/// Sets all of them even if one fails; answers the first failure.
fn apply(socket: &Socket, options: &StreamOptions) -> io::Result<()> {
    let outcomes = [
        options
            .nodelay
            .map_or(Ok(()), |on| socket.set_tcp_nodelay(on)),
        options
            .keepalive
            .map_or(Ok(()), |keepalive| probe(socket, keepalive)),
        options
            .receive_buffer
            .map_or(Ok(()), |size| socket.set_recv_buffer_size(as_int(size))),
        options
            .send_buffer
            .map_or(Ok(()), |size| socket.set_send_buffer_size(as_int(size))),
    ];
    outcomes.into_iter().collect()
}

fn probe(socket: &Socket, keepalive: Keepalive) -> io::Result<()> {
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(whole_seconds(keepalive.idle))
            .with_interval(whole_seconds(keepalive.interval))
            .with_retries(keepalive.count),
    )
}

fn probes_like(socket: &Socket, asked: Keepalive) -> io::Result<bool> {
    Ok(socket.keepalive()?
        && socket.tcp_keepalive_time()? == whole_seconds(asked.idle)
        && socket.tcp_keepalive_interval()? == whole_seconds(asked.interval)
        && socket.tcp_keepalive_retries()? == asked.count)
}

/// Rounded up, and at least one second: systems refuse zero.
fn whole_seconds(duration: Duration) -> Duration {
    let part = u64::from(duration.subsec_nanos() > 0);
    Duration::from_secs(duration.as_secs().saturating_add(part).max(1))
}

/// Buffer sizes are ints to the system, which lowers them to its own maximum.
fn as_int(size: usize) -> usize {
    size.min(libc::c_int::MAX as usize)
}

// Vectored writes.

/// What of a list of parts goes into one system call.
enum Call<'a, 'b> {
    Parts(&'a [IoSlice<'b>]),
    /// A single part that is longer than a call may be.
    Long(&'a [u8]),
}

/// The leading parts that together have at most `most` bytes.
fn one_call<'a, 'b>(parts: &'a [IoSlice<'b>], most: usize) -> Call<'a, 'b> {
    let mut total = 0;
    let fit = parts
        .iter()
        .take(MAX_PARTS)
        .take_while(|part| {
            total += part.len();
            total <= most
        })
        .count();
    match parts.get(fit) {
        // Nothing fits in front of it, so it must go now, or nothing ever would.
        Some(long) if total > most && total == long.len() => Call::Long(long),
        _ => Call::Parts(&parts[..fit]),
    }
}

// The accept queue.

/// For a listening socket these two fields of TCP_INFO have a second meaning: the length of
/// the accept queue and its limit (`tcp_get_info` in the kernel's net/ipv4/tcp.c).
#[cfg(target_os = "linux")]
fn accept_queue(listener: Fd) -> Result<(u32, u32), Errno> {
    // SAFETY: `tcp_info` consists of integers, for which every pattern of bits is a value.
    let info = unsafe { option::<libc::tcp_info>(listener, libc::IPPROTO_TCP, libc::TCP_INFO)? };
    Ok((info.tcpi_unacked, info.tcpi_sacked))
}

#[cfg(target_os = "freebsd")]
fn accept_queue(listener: Fd) -> Result<(u32, u32), Errno> {
    let ask = |name| {
        // SAFETY: both options are ints, for which every pattern of bits is a value.
        unsafe { option::<libc::c_uint>(listener, libc::SOL_SOCKET, name) }
    };
    Ok((ask(libc::SO_LISTENQLEN)?, ask(libc::SO_LISTENQLIMIT)?))
}

/// NetBSD and macOS have no public way to ask.
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
fn accept_queue(_listener: Fd) -> Result<(u32, u32), Errno> {
    Err(Errno(libc::ENOTSUP))
}

/// Reads a socket option. What the system leaves out, being older than the type, is zero.
///
/// # Safety
///
/// Every pattern of bits, all zeroes included, must be a value of `T`.
unsafe fn option<T>(fd: Fd, level: libc::c_int, name: libc::c_int) -> Result<T, Errno> {
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is `length` bytes that may be written, and `length` is live as well.
    let answer = unsafe {
        libc::getsockopt(
            fd.0,
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    check(answer)?;
    // SAFETY: all of it is initialised, with zeroes or by the system, and the caller
    // promises that any bits will do.
    Ok(unsafe { value.assume_init() })
}

// Limits of the system.

#[cfg(target_os = "linux")]
fn system_backlog() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?;
    parse_backlog(&text)
}

/// The first field. A number too large for the type is a large limit, not an unknown one.
#[cfg(target_os = "linux")]
fn parse_backlog(text: &str) -> Option<u32> {
    let limit: u64 = text.split_whitespace().next()?.parse().ok()?;
    Some(u32::try_from(limit).unwrap_or(u32::MAX))
}

#[cfg(target_os = "freebsd")]
fn system_backlog() -> Option<u32> {
    sysctl_int(c"kern.ipc.soacceptqueue")
}

#[cfg(target_os = "macos")]
fn system_backlog() -> Option<u32> {
    sysctl_int(c"kern.ipc.somaxconn")
}

/// NetBSD clamps to a constant that it doesn't publish.
#[cfg(not(any(target_os = "linux", target_os = "freebsd", target_os = "macos")))]
fn system_backlog() -> Option<u32> {
    None
}

#[cfg(any(target_os = "freebsd", target_os = "macos"))]
fn sysctl_int(name: &std::ffi::CStr) -> Option<u32> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>();
    // SAFETY: `name` ends with a nul, `value` is `length` bytes that may be written, and
    // a null new value changes nothing.
    let answer = unsafe {
        libc::sysctlbyname(
            name.as_ptr(),
            (&raw mut value).cast(),
            &raw mut length,
            std::ptr::null_mut(),
            0,
        )
    };
    check(answer).ok()?;
    u32::try_from(value).ok()
}

fn descriptor_limits() -> Result<libc::rlimit, Errno> {
    let mut limits = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a live `rlimit`, which the call fills.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limits) })?;
    Ok(limits)
}

/// macOS refuses a soft limit above OPEN_MAX although it says that the hard one is infinite.
#[cfg(target_os = "macos")]
fn highest_soft_limit(hard: libc::rlim_t) -> libc::rlim_t {
    if hard == libc::RLIM_INFINITY {
        OPEN_MAX
    } else {
        hard
    }
}

#[cfg(not(target_os = "macos"))]
fn highest_soft_limit(hard: libc::rlim_t) -> libc::rlim_t {
    hard
}

#[allow(clippy::unnecessary_cast, reason = "`rlim_t` is signed on FreeBSD")]
fn count(limit: libc::rlim_t) -> u64 {
    if limit == libc::RLIM_INFINITY {
        u64::MAX
    } else {
        limit as u64
    }
}

// Names.

/// Looks names up on a thread of its own, because the system's resolver blocks. The thread
/// is started by the first look-up, since most servers never need it.
#[derive(Debug)]
struct Resolver {
    /// To the thread, if there is one. It ends when this is dropped.
    questions: Option<Sender<Question>>,
    answers: Arc<Answers>,
}

#[derive(Debug)]
struct Question {
    ticket: Ticket,
    host: String,
}

impl Resolver {
    fn new(waker: Arc<OsWaker>) -> Self {
        Self {
            questions: None,
            answers: Arc::new(Answers {
                came: AtomicBool::new(false),
                list: Mutex::default(),
                waker,
            }),
        }
    }

    fn look_up(&mut self, ticket: Ticket, host: &str) {
        let host = host.to_owned();
        if let Err(error) = self.ask(Question { ticket, host }) {
            self.answers.announce(LookedUp {
                ticket,
                addresses: Err(error),
            });
        }
    }

    /// Passes a question on. If that fails there is no thread: the next one starts it anew.
    fn ask(&mut self, question: Question) -> io::Result<()> {
        let questions = match self.questions.take() {
            Some(questions) => questions,
            None => self.start()?,
        };
        questions.send(question).map_err(io::Error::other)?;
        self.questions = Some(questions);
        Ok(())
    }

    fn start(&self) -> io::Result<Sender<Question>> {
        let (questions, asked) = mpsc::channel();
        let answers = Arc::downgrade(&self.answers);
        // Never joined: it may be in the middle of a look-up when the kernel is dropped, and
        // that can take the resolver a minute. A process that exits doesn't wait for it either.
        thread::Builder::new()
            .name(RESOLVER_THREAD.to_owned())
            .spawn(move || {
                refuse_signals();
                answer_all(&asked, &answers);
            })?;
        Ok(questions)
    }
}

/// What has been looked up and not been fetched yet.
#[derive(Debug)]
struct Answers {
    /// Whether there is anything in the list. Changed only under its lock.
    came: AtomicBool,
    list: Mutex<Vec<LookedUp>>,
    waker: Arc<OsWaker>,
}

impl Answers {
    fn announce(&self, answer: LookedUp) {
        // No one panics while holding the lock; but if so, the list would still be whole.
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(answer);
        self.came.store(true, Ordering::Release);
        drop(list);
        self.waker.wake();
    }

    /// An answer that is announced while this looks is left for the wake-up that follows it.
    fn take(&self, answers: &mut Vec<LookedUp>) {
        if self.came.load(Ordering::Acquire) {
            let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
            answers.append(&mut list);
            self.came.store(false, Ordering::Release);
        }
    }
}

/// The resolver's thread: one name after the other, until the kernel is gone. The end of the
/// channel alone would come only after all that was sent before; hence the weak reference.
fn answer_all(asked: &Receiver<Question>, answers: &Weak<Answers>) {
    while let Ok(Question { ticket, host }) = asked.recv() {
        let addresses = addresses_of(&host);
        let Some(answers) = answers.upgrade() else {
            return;
        };
        answers.announce(LookedUp { ticket, addresses });
    }
}

/// Leaves the process's signals to the threads of the application: one that is handled
/// here would not end the poll of a loop that relies on it.
fn refuse_signals() {
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigfillset` initialises the set that it is given, which `pthread_sigmask` then
    // reads; a null old set is not written. Only this thread's mask changes. Neither call
    // can fail with these arguments.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), std::ptr::null_mut());
    }
}

/// May block for as long as the system's resolver likes.
fn addresses_of(host: &str) -> io::Result<Vec<IpAddr>> {
    let found = (host, 0).to_socket_addrs()?;
    Ok(without_duplicates(found.map(|addr| addr.ip())))
}

/// Resolvers answer an address once per socket type or hosts line. Lists are short.
fn without_duplicates(addrs: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut once = Vec::new();
    for addr in addrs {
        if !once.contains(&addr) {
            once.push(addr);
        }
    }
    once
}

// Chance.

/// splitmix64: small, fast and even; anyone who sees an output can tell the next.
#[derive(Debug)]
struct SplitMix(u64);

impl SplitMix {
    /// From the keys that the standard library draws from the system for its hash maps.
    fn seeded() -> Self {
        Self(RandomState::new().build_hasher().finish())
    }

    /// The constants are those of the published generator.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]
mod tests {
    use super::*;
    use crate::token::Kind;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixListener;

    /// No test waits this long unless it fails.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// A resolver that gets no answer asks each of its servers again and again.
    const RESOLVER_PATIENCE: Duration = Duration::from_secs(180);

    /// An address of nobody's (RFC 5737), and a name of nobody's (RFC 6761).
    const FOREIGN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const UNKNOWN_NAME: &str = "no-such-name.invalid";

    fn kernel() -> OsKernel {
        OsKernel::new(16, 64).unwrap()
    }

    fn token(index: usize) -> Token {
        Token::new(Kind::Listener, index, 7)
    }

    fn spec(addr: impl Into<SocketAddr>) -> ListenSpec {
        ListenSpec {
            addr: addr.into(),
            only_v6: false,
            backlog: 16,
            reuse_port: false,
            stream: StreamOptions::default(),
        }
    }

    fn loopback() -> ListenSpec {
        spec((Ipv4Addr::LOCALHOST, 0))
    }

    fn local(kernel: &mut OsKernel, fd: Fd) -> SocketAddr {
        match kernel.local_addr(fd).unwrap() {
            Addr::Ip(addr) => addr,
            #[allow(unreachable_patterns)]
            other => panic!("not an IP address: {other:?}"),
        }
    }

    fn listening(kernel: &mut OsKernel) -> (Fd, SocketAddr) {
        let fd = kernel.listen(&loopback()).unwrap();
        let addr = local(kernel, fd);
        (fd, addr)
    }

    /// Repeats `attempt` until it answers; the network's share of the work has no signal.
    fn eventually<T>(attempt: impl FnMut() -> Option<T>) -> T {
        eventually_within(PATIENCE, attempt)
    }

    fn eventually_within<T>(patience: Duration, mut attempt: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(answer) = attempt() {
                return answer;
            }
            assert!(start.elapsed() < patience, "nothing happened");
            thread::yield_now();
        }
    }

    fn accepted(kernel: &mut OsKernel, listener: Fd) -> (Fd, Addr) {
        eventually(|| match kernel.accept(listener) {
            Ok(pair) => Some(pair),
            Err(Errno(libc::EAGAIN)) => None,
            Err(other) => panic!("accept: {other:?}"),
        })
    }

    /// A connection: the accepted end, and the peer's.
    fn pair(kernel: &mut OsKernel) -> (Fd, TcpStream) {
        let (listener, addr) = listening(kernel);
        let peer = TcpStream::connect(addr).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        let (fd, from) = accepted(kernel, listener);
        assert_eq!(from, Addr::from(peer.local_addr().unwrap()));
        kernel.close(listener);
        (fd, peer)
    }

    fn read_some(kernel: &mut OsKernel, fd: Fd, buffer: &mut [u8]) -> usize {
        eventually(|| match kernel.read(fd, buffer) {
            Ok(count) => Some(count),
            Err(Errno(libc::EAGAIN)) => None,
            Err(other) => panic!("read: {other:?}"),
        })
    }

    fn polled(kernel: &mut OsKernel, timeout: Duration) -> Vec<Event> {
        let mut events = Vec::new();
        kernel.poll(&mut events, Some(timeout)).unwrap();
        events
    }

    fn flags(fd: Fd, command: libc::c_int) -> libc::c_int {
        // SAFETY: the two commands used only read flags.
        unsafe { libc::fcntl(fd.0, command) }
    }

    fn temporary_path(kernel: &mut OsKernel) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("windlass-{:x}", kernel.random()))
    }

    fn assert_nonblocking_and_cloexec(fd: Fd) {
        assert_ne!(flags(fd, libc::F_GETFL) & libc::O_NONBLOCK, 0, "blocking");
        assert_ne!(
            flags(fd, libc::F_GETFD) & libc::FD_CLOEXEC,
            0,
            "survives exec"
        );
    }

    // Readiness.

    #[test]
    fn a_poll_never_ends_early_without_an_event() {
        let mut kernel = kernel();
        let timeout = Duration::from_millis(5);
        let start = Instant::now();
        assert_eq!(polled(&mut kernel, timeout), []);
        assert!(start.elapsed() >= timeout);
    }

    #[test]
    fn a_wait_longer_than_the_system_allows_is_made_of_pieces() {
        let mut kernel = kernel();
        let timeout = Duration::from_millis(5);
        let start = Instant::now();
        kernel
            .wait(Some(timeout), Duration::from_millis(2))
            .unwrap();
        assert!(start.elapsed() >= timeout);
        assert!(kernel.buffer.is_empty());
    }

    #[test]
    fn an_endless_wait_is_accepted_by_the_system() {
        let mut kernel = kernel();
        let waker = kernel.waker();
        for timeout in [Some(Duration::MAX), None] {
            waker.wake();
            let mut events = Vec::new();
            kernel.poll(&mut events, timeout).unwrap();
            assert_eq!(events.len(), 1);
        }
    }

    #[test]
    fn a_poll_replaces_the_events_of_the_one_before() {
        let mut kernel = kernel();
        let mut events = Vec::new();
        for _ in 0..2 {
            kernel.waker().wake();
            kernel.poll(&mut events, Some(PATIENCE)).unwrap();
            assert_eq!(events.len(), 1);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_signal_ends_a_poll_with_eintr() {
        let mut kernel = kernel();
        let handled = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(libc::SIGUSR1, handled).unwrap();
        let done = AtomicBool::new(false);
        // SAFETY: asks for the calling thread's own id.
        let polling = unsafe { libc::pthread_self() };
        let outcome = thread::scope(|scope| {
            // Again and again, because the first may come before the wait has begun.
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // SAFETY: the thread lives for as long as this scope.
                    unsafe { libc::pthread_kill(polling, libc::SIGUSR1) };
                    thread::yield_now();
                }
            });
            let outcome = kernel.poll(&mut Vec::new(), Some(PATIENCE));
            done.store(true, Ordering::Relaxed);
            outcome
        });
        assert_eq!(outcome, Err(Errno(libc::EINTR)));
    }

    #[test]
    fn many_wakes_before_a_poll_are_one_event() {
        let mut kernel = kernel();
        let waker = kernel.waker();
        let waking = thread::spawn(move || (0..100).for_each(|_| waker.wake()));
        waking.join().unwrap();
        let events = polled(&mut kernel, PATIENCE);
        assert_eq!(
            events.iter().map(|event| event.token).collect::<Vec<_>>(),
            [Token::WAKE]
        );
        assert_eq!(polled(&mut kernel, Duration::ZERO), []);
        kernel.waker().wake();
        assert_eq!(polled(&mut kernel, PATIENCE).len(), 1);
    }

    #[test]
    fn a_wake_from_another_thread_ends_a_poll() {
        let mut kernel = kernel();
        let waker = kernel.waker();
        let waking = thread::spawn(move || waker.wake());
        assert_eq!(polled(&mut kernel, PATIENCE)[0].token, Token::WAKE);
        waking.join().unwrap();
    }

    #[test]
    fn an_edge_is_reported_once() {
        let mut kernel = kernel();
        let (listener, addr) = listening(&mut kernel);
        kernel.register(listener, token(3), Interest::Read).unwrap();
        let _peer = TcpStream::connect(addr).unwrap();
        let events = polled(&mut kernel, PATIENCE);
        assert_eq!(
            events,
            [Event {
                token: token(3),
                ready: Readiness::READABLE
            }]
        );
        assert_eq!(polled(&mut kernel, Duration::ZERO), []);
        kernel.close(listener);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn rearming_reports_a_listener_again_for_as_long_as_it_is_ready() {
        let mut kernel = kernel();
        let (listener, addr) = listening(&mut kernel);
        kernel.register(listener, token(3), Interest::Read).unwrap();
        let _peer = TcpStream::connect(addr).unwrap();
        let first = polled(&mut kernel, PATIENCE);
        for _ in 0..3 {
            assert_eq!(kernel.rearm(listener, token(3)), Ok(true));
            assert_eq!(polled(&mut kernel, Duration::ZERO), first);
        }
        let (fd, _) = accepted(&mut kernel, listener);
        assert_eq!(kernel.rearm(listener, token(3)), Ok(true));
        assert_eq!(polled(&mut kernel, Duration::ZERO), []);
        kernel.close(fd);
        kernel.close(listener);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn rearming_a_connection_keeps_it_registered_for_both_directions() {
        let mut kernel = kernel();
        let (fd, mut peer) = pair(&mut kernel);
        kernel.register(fd, token(1), Interest::ReadWrite).unwrap();
        assert_eq!(kernel.rearm(fd, token(1)), Ok(true));
        assert_eq!(polled(&mut kernel, PATIENCE)[0].ready, Readiness::WRITABLE);
        peer.write_all(b"x").unwrap();
        let ready = polled(&mut kernel, PATIENCE)[0].ready;
        assert!(ready.contains(Readiness::READABLE) && ready.contains(Readiness::WRITABLE));
        kernel.close(fd);
    }

    #[test]
    fn a_connection_reports_its_peers_end() {
        let mut kernel = kernel();
        let (fd, peer) = pair(&mut kernel);
        kernel.register(fd, token(1), Interest::ReadWrite).unwrap();
        drop(peer);
        let mut ready = Readiness::default();
        eventually(|| {
            polled(&mut kernel, PATIENCE)
                .iter()
                .for_each(|event| ready.insert(event.ready));
            ready.contains(Readiness::READ_CLOSED).then_some(())
        });
        assert!(ready.contains(Readiness::READABLE));
        kernel.close(fd);
    }

    #[test]
    fn a_deregistered_source_is_silent() {
        let mut kernel = kernel();
        let mut witness = OsKernel::new(1, 1).unwrap();
        let (listener, addr) = listening(&mut kernel);
        kernel.register(listener, token(3), Interest::Read).unwrap();
        kernel.deregister(listener);
        witness
            .register(listener, token(3), Interest::Read)
            .unwrap();
        let _peer = TcpStream::connect(addr).unwrap();
        assert_eq!(polled(&mut witness, PATIENCE).len(), 1);
        assert_eq!(polled(&mut kernel, Duration::ZERO), []);
        kernel.close(listener);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn registering_twice_or_rearming_a_stranger_answers_the_errno() {
        let mut kernel = kernel();
        let (listener, _) = listening(&mut kernel);
        assert_eq!(kernel.rearm(listener, token(3)), Err(Errno(libc::ENOENT)));
        kernel.register(listener, token(3), Interest::Read).unwrap();
        let again = kernel.register(listener, token(4), Interest::Read);
        assert_eq!(again, Err(Errno(libc::EEXIST)));
        kernel.close(listener);
    }

    #[test]
    fn a_full_event_buffer_grows_to_its_limit_and_loses_nothing() {
        let mut kernel = OsKernel::new(1, 3).unwrap();
        let mut peers = Vec::new();
        for index in 0..3 {
            let (listener, addr) = listening(&mut kernel);
            kernel
                .register(listener, token(index), Interest::Read)
                .unwrap();
            peers.push(TcpStream::connect(addr).unwrap());
        }
        let mut seen = Vec::new();
        let mut capacities = Vec::new();
        eventually(|| {
            let events = polled(&mut kernel, PATIENCE);
            seen.extend(events.iter().map(|event| event.token.index()));
            capacities.push(kernel.buffer.capacity());
            (seen.len() == 3).then_some(())
        });
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2]);
        assert_eq!(capacities[0], 2);
        assert!(capacities.iter().all(|capacity| *capacity <= 3));
    }

    // Listeners.

    #[test]
    fn sockets_are_nonblocking_and_close_on_exec() {
        let mut kernel = kernel();
        let (listener, addr) = listening(&mut kernel);
        assert_nonblocking_and_cloexec(listener);
        assert_eq!(kernel.accept(listener), Err(Errno(libc::EAGAIN)));
        let _peer = TcpStream::connect(addr).unwrap();
        let (fd, _) = accepted(&mut kernel, listener);
        assert_nonblocking_and_cloexec(fd);
        kernel.close(fd);
        kernel.close(listener);
    }

    #[test]
    fn a_fault_names_the_call_that_failed() {
        let mut kernel = kernel();
        let (listener, addr) = listening(&mut kernel);
        let taken = kernel.listen(&spec(addr));
        assert_eq!(
            taken,
            Err(Fault {
                call: "bind",
                errno: Errno(libc::EADDRINUSE)
            })
        );
        kernel.close(listener);

        let elsewhere = kernel.listen(&spec((Ipv4Addr::new(192, 0, 2, 1), 0)));
        assert_eq!(
            elsewhere,
            Err(Fault {
                call: "bind",
                errno: Errno(libc::EADDRNOTAVAIL)
            })
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_option_that_the_system_refuses_is_a_fault_of_setsockopt() {
        let mut refused = loopback();
        let keepalive = Keepalive {
            count: 100_000,
            ..Keepalive::default()
        };
        refused.stream.keepalive = Some(keepalive);
        let fault = kernel().listen(&refused);
        assert_eq!(
            fault,
            Err(Fault {
                call: "setsockopt",
                errno: Errno(libc::EINVAL)
            })
        );
    }

    #[test]
    fn several_listeners_share_a_port_if_all_of_them_ask() {
        let mut kernel = kernel();
        let shared = ListenSpec {
            reuse_port: true,
            ..loopback()
        };
        let first = kernel.listen(&shared).unwrap();
        let addr = local(&mut kernel, first);
        let second = kernel.listen(&ListenSpec { addr, ..shared }).unwrap();
        assert!(kernel.listen(&spec(addr)).is_err());
        kernel.close(first);
        kernel.close(second);
    }

    #[test]
    fn a_dual_stack_listener_sees_ipv4_peers_by_their_ipv4_addresses() {
        let mut kernel = kernel();
        let Ok(listener) = kernel.listen(&spec((Ipv6Addr::UNSPECIFIED, 0))) else {
            return; // This machine has no IPv6.
        };
        let port = local(&mut kernel, listener).port();
        let peer = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (fd, from) = accepted(&mut kernel, listener);
        assert_eq!(from, Addr::from(peer.local_addr().unwrap()));
        assert_eq!(local(&mut kernel, fd), peer.peer_addr().unwrap());
        kernel.close(fd);
        kernel.close(listener);
    }

    #[test]
    fn an_ipv6_only_listener_is_marked_as_one() {
        let mut kernel = kernel();
        let only_v6 = ListenSpec {
            only_v6: true,
            ..spec((Ipv6Addr::UNSPECIFIED, 0))
        };
        let Ok(listener) = kernel.listen(&only_v6) else {
            return; // This machine has no IPv6.
        };
        assert!(SockRef::from(&listener).only_v6().unwrap());
        kernel.close(listener);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn accepted_sockets_inherit_the_options_of_their_listener() {
        let mut kernel = kernel();
        let stream = StreamOptions {
            nodelay: Some(true),
            keepalive: Some(Keepalive::new(
                Duration::from_millis(1500),
                Duration::ZERO,
                4,
            )),
            receive_buffer: Some(32 * 1024),
            send_buffer: Some(usize::MAX),
        };
        let listener = kernel
            .listen(&ListenSpec {
                stream,
                ..loopback()
            })
            .unwrap();
        let _peer = TcpStream::connect(local(&mut kernel, listener)).unwrap();
        let (fd, _) = accepted(&mut kernel, listener);
        assert!(kernel.has_options(fd, &stream));
        let (of_listener, of_stream) = (SockRef::from(&listener), SockRef::from(&fd));
        assert_eq!(
            of_stream.recv_buffer_size().unwrap(),
            of_listener.recv_buffer_size().unwrap()
        );
        assert_eq!(
            of_stream.tcp_keepalive_time().unwrap(),
            Duration::from_secs(2)
        );
        assert_eq!(
            of_stream.tcp_keepalive_interval().unwrap(),
            Duration::from_secs(1)
        );
        kernel.close(fd);
        kernel.close(listener);
    }

    #[test]
    fn options_that_were_not_inherited_can_be_set_on_the_stream() {
        let mut kernel = kernel();
        let (fd, _peer) = pair(&mut kernel);
        let nodelay = StreamOptions {
            nodelay: Some(true),
            ..StreamOptions::default()
        };
        let keepalive = StreamOptions {
            keepalive: Some(Keepalive::default()),
            ..StreamOptions::default()
        };
        assert!(kernel.has_options(fd, &StreamOptions::default()));
        for options in [nodelay, keepalive] {
            assert!(!kernel.has_options(fd, &options));
            kernel.set_options(fd, &options).unwrap();
            assert!(kernel.has_options(fd, &options));
        }
        kernel.close(fd);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_first_refused_option_is_answered_and_the_rest_still_set() {
        let mut kernel = kernel();
        let (fd, _peer) = pair(&mut kernel);
        let before = SockRef::from(&fd).recv_buffer_size().unwrap();
        let options = StreamOptions {
            keepalive: Some(Keepalive {
                count: 100_000,
                ..Keepalive::default()
            }),
            receive_buffer: Some(8 * 1024),
            ..StreamOptions::default()
        };
        assert_eq!(kernel.set_options(fd, &options), Err(Errno(libc::EINVAL)));
        assert_ne!(SockRef::from(&fd).recv_buffer_size().unwrap(), before);
        kernel.close(fd);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_accept_queue_can_be_measured() {
        let mut kernel = kernel();
        let (listener, addr) = listening(&mut kernel);
        assert_eq!(kernel.queue(listener), Ok((0, 16)));
        let _peers: Vec<_> = (0..3).map(|_| TcpStream::connect(addr).unwrap()).collect();
        eventually(|| (kernel.queue(listener) == Ok((3, 16))).then_some(()));
        let (fd, _) = accepted(&mut kernel, listener);
        assert_eq!(kernel.queue(listener), Ok((2, 16)));
        kernel.close(fd);
        kernel.close(listener);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_queue_of_what_is_not_tcp_cannot_be_measured() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let fd = Fd(socket.into_raw_fd());
        let mut kernel = kernel();
        assert!(kernel.queue(fd).is_err());
        kernel.close(fd);
    }

    #[test]
    fn an_adopted_listener_accepts_without_blocking() {
        let mut kernel = kernel();
        let inherited = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = inherited.local_addr().unwrap();
        let listener = kernel.adopt_listener(inherited.into()).unwrap();
        assert_nonblocking_and_cloexec(listener);
        assert_eq!(kernel.accept(listener), Err(Errno(libc::EAGAIN)));
        let _peer = TcpStream::connect(addr).unwrap();
        let (fd, _) = accepted(&mut kernel, listener);
        kernel.close(fd);
        kernel.close(listener);
    }

    #[test]
    fn only_listening_ip_sockets_are_adopted() {
        let mut kernel = kernel();
        let refused = |call, errno| {
            Err(Fault {
                call,
                errno: Errno(errno),
            })
        };

        let file = File::open("/dev/null").unwrap();
        let answer = kernel.adopt_listener(file.into());
        assert_eq!(answer, refused("getsockopt", libc::ENOTSOCK));

        let (fd, peer) = pair(&mut kernel);
        assert_eq!(
            kernel.adopt_listener(peer.into()),
            refused("getsockopt", libc::EINVAL)
        );
        kernel.close(fd);

        let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert_eq!(
            kernel.adopt_listener(datagrams.into()),
            refused("getsockopt", libc::EINVAL)
        );

        let path = temporary_path(&mut kernel);
        let local = UnixListener::bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let answer = kernel.adopt_listener(local.into());
        assert_eq!(answer, refused("getsockname", libc::EAFNOSUPPORT));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_listener_for_packets_is_not_adopted() {
        let mut kernel = kernel();
        let path = temporary_path(&mut kernel);
        let packets = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        packets.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        packets.listen(1).unwrap();
        let fault = Fault {
            call: "getsockopt",
            errno: Errno(libc::EINVAL),
        };
        assert_eq!(kernel.adopt_listener(packets.into()), Err(fault));
    }

    #[test]
    fn the_backlog_limit_is_known() {
        let limit = kernel().backlog_limit();
        assert!(limit > 0);
        assert_eq!(limit, system_backlog().unwrap_or(FALLBACK_BACKLOG));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_backlog_limit_of_any_size_is_understood() {
        for (text, limit) in [
            ("4096\n", Some(4096)),
            ("16777214\n", Some(16_777_214)),
            ("16777215\n", Some(16_777_215)),
            ("2147483647 more\n", Some(2_147_483_647)),
            ("4294967295\n", Some(u32::MAX)),
            ("4294967296\n", Some(u32::MAX)),
            ("", None),
            ("many\n", None),
        ] {
            assert_eq!(parse_backlog(text), limit, "{text:?}");
        }
    }

    // Dialing.

    fn to(remote: impl Into<SocketAddr>) -> DialSpec {
        DialSpec {
            remote: remote.into(),
            local: None,
            stream: StreamOptions::default(),
        }
    }

    fn from(local: impl Into<SocketAddr>, remote: impl Into<SocketAddr>) -> DialSpec {
        DialSpec {
            local: Some(local.into()),
            ..to(remote)
        }
    }

    /// A socket that has been told to connect, and how that ended: at once, or by an event.
    fn dialed(kernel: &mut OsKernel, spec: &DialSpec) -> (Fd, Option<Errno>) {
        let fd = kernel.socket(spec).unwrap();
        match kernel.connect(fd, spec.remote) {
            Ok(()) | Err(Errno(libc::EINPROGRESS | libc::EINTR)) => {}
            Err(errno) => return (fd, Some(errno)),
        }
        kernel.register(fd, token(5), Interest::ReadWrite).unwrap();
        let event = polled(kernel, PATIENCE)[0];
        assert_eq!(event.token, token(5));
        assert!(event.ready.contains(Readiness::WRITABLE));
        (fd, kernel.take_error(fd))
    }

    #[test]
    fn a_dialed_socket_is_nonblocking_and_close_on_exec_and_has_no_peer_yet() {
        let mut kernel = kernel();
        let fd = kernel.socket(&to((Ipv4Addr::LOCALHOST, 1))).unwrap();
        assert_nonblocking_and_cloexec(fd);
        assert_eq!(kernel.peer_addr(fd), Err(Errno(libc::ENOTCONN)));
        kernel.close(fd);
    }

    #[test]
    fn a_dialed_connection_becomes_writable_and_carries_bytes() {
        let mut kernel = kernel();
        let (listener, addr) = listening(&mut kernel);
        let (fd, error) = dialed(&mut kernel, &to(addr));
        assert_eq!(error, None);
        assert_eq!(kernel.peer_addr(fd), Ok(Addr::from(addr)));
        let (other, peer) = accepted(&mut kernel, listener);
        assert_eq!(kernel.local_addr(fd), Ok(peer));

        assert_eq!(kernel.write(fd, b"ping"), Ok(4));
        let mut buffer = [0; 16];
        assert_eq!(read_some(&mut kernel, other, &mut buffer), 4);
        kernel.close(fd);
        assert_eq!(read_some(&mut kernel, other, &mut buffer), 0);
        kernel.close(other);
        kernel.close(listener);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_connection_under_way_is_neither_writable_nor_has_a_peer() {
        let mut kernel = kernel();
        let full = ListenSpec {
            backlog: 0,
            ..loopback()
        };
        let listener = kernel.listen(&full).unwrap();
        let addr = local(&mut kernel, listener);
        // The queue has one place more than its limit says; then handshakes are ignored.
        let _first = TcpStream::connect(addr).unwrap();
        eventually(|| (kernel.queue(listener) == Ok((1, 0))).then_some(()));

        let fd = kernel.socket(&to(addr)).unwrap();
        assert_eq!(kernel.connect(fd, addr), Err(Errno(libc::EINPROGRESS)));
        assert_eq!(kernel.connect(fd, addr), Err(Errno(libc::EALREADY)));
        kernel.register(fd, token(5), Interest::ReadWrite).unwrap();
        assert_eq!(polled(&mut kernel, Duration::ZERO), []);
        assert_eq!(kernel.peer_addr(fd), Err(Errno(libc::ENOTCONN)));
        kernel.close(fd);
        kernel.close(listener);
    }

    #[test]
    fn a_port_that_nobody_listens_on_is_refused() {
        let mut kernel = kernel();
        // Bound and not listening, so that no one else gets the port meanwhile.
        let holder = from((Ipv4Addr::LOCALHOST, 0), (Ipv4Addr::LOCALHOST, 1));
        let holder = kernel.socket(&holder).unwrap();
        let addr = local(&mut kernel, holder);
        let (fd, error) = dialed(&mut kernel, &to(addr));
        assert_eq!(error, Some(Errno(libc::ECONNREFUSED)));
        assert_eq!(kernel.peer_addr(fd), Err(Errno(libc::ENOTCONN)));
        kernel.close(fd);
        kernel.close(holder);
    }

    #[test]
    fn a_dialed_connection_comes_from_the_local_address_asked_for() {
        let mut kernel = kernel();
        let (listener, addr) = listening(&mut kernel);
        // A free port: the system has just chosen it for another socket.
        let holder = from((Ipv4Addr::LOCALHOST, 0), addr);
        let holder = kernel.socket(&holder).unwrap();
        let own = local(&mut kernel, holder);
        assert_ne!(own.port(), 0);
        let taken = Fault {
            call: "bind",
            errno: Errno(libc::EADDRINUSE),
        };
        assert_eq!(kernel.socket(&from(own, addr)), Err(taken));
        kernel.close(holder);

        let (fd, error) = dialed(&mut kernel, &from(own, addr));
        assert_eq!(error, None);
        let (other, peer) = accepted(&mut kernel, listener);
        assert_eq!(peer, Addr::from(own));
        // The side that ends first keeps the port for a while; a reset leaves none.
        kernel.reset(fd);
        kernel.close(other);
        kernel.close(listener);
    }

    #[test]
    fn a_local_address_that_is_not_ours_is_a_fault_of_bind() {
        let refused = kernel().socket(&from((FOREIGN, 0), (Ipv4Addr::LOCALHOST, 1)));
        let fault = Fault {
            call: "bind",
            errno: Errno(libc::EADDRNOTAVAIL),
        };
        assert_eq!(refused, Err(fault));
    }

    #[test]
    fn any_address_of_ours_is_one_of_the_peers_family() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (local, remote, bound) in [
            ("0.0.0.0:7", "192.0.2.1:80", "0.0.0.0:7"),
            ("0.0.0.0:7", "[2001:db8::1]:80", "[::]:7"),
            ("[::]:7", "192.0.2.1:80", "0.0.0.0:7"),
            ("[::]:7", "[2001:db8::1]:80", "[::]:7"),
            ("127.0.0.1:7", "[2001:db8::1]:80", "127.0.0.1:7"),
            ("[::1]:7", "192.0.2.1:80", "[::1]:7"),
        ] {
            assert_eq!(own_end(address(local), address(remote)), address(bound));
        }
    }

    #[test]
    fn a_mapped_address_is_dialed_as_the_ipv4_address_that_it_is() {
        let mut kernel = kernel();
        let (listener, addr) = listening(&mut kernel);
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
        let spec = from((mapped, 0), (mapped, addr.port()));
        let (fd, error) = dialed(&mut kernel, &spec);
        assert_eq!(error, None);
        assert_eq!(kernel.peer_addr(fd), Ok(Addr::from(addr)));
        kernel.close(fd);
        kernel.close(listener);
    }

    #[test]
    fn ipv6_is_dialed_like_ipv4() {
        let mut kernel = kernel();
        let Ok(listener) = kernel.listen(&spec((Ipv6Addr::LOCALHOST, 0))) else {
            return; // This machine has no IPv6.
        };
        let addr = local(&mut kernel, listener);
        let (fd, error) = dialed(&mut kernel, &from((Ipv4Addr::UNSPECIFIED, 0), addr));
        assert_eq!(error, None);
        assert_eq!(kernel.peer_addr(fd), Ok(Addr::from(addr)));
        kernel.close(fd);
        kernel.close(listener);
    }

    #[test]
    fn a_dialed_socket_has_its_options_before_it_connects() {
        let mut kernel = kernel();
        let asked = DialSpec {
            stream: StreamOptions {
                nodelay: Some(true),
                keepalive: Some(Keepalive::default()),
                receive_buffer: Some(24 * 1024),
                send_buffer: Some(24 * 1024),
            },
            ..to((Ipv4Addr::LOCALHOST, 1))
        };
        let plain = kernel.socket(&to(asked.remote)).unwrap();
        let fd = kernel.socket(&asked).unwrap();
        assert!(kernel.has_options(fd, &asked.stream));
        assert!(!kernel.has_options(plain, &asked.stream));
        let (with, without) = (SockRef::from(&fd), SockRef::from(&plain));
        assert_ne!(
            with.recv_buffer_size().unwrap(),
            without.recv_buffer_size().unwrap()
        );
        assert_ne!(
            with.send_buffer_size().unwrap(),
            without.send_buffer_size().unwrap()
        );
        kernel.close(fd);
        kernel.close(plain);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_option_that_the_system_refuses_does_not_prevent_dialing() {
        let mut kernel = kernel();
        let nodelay = StreamOptions {
            nodelay: Some(true),
            ..StreamOptions::default()
        };
        let refused = StreamOptions {
            keepalive: Some(Keepalive {
                count: 100_000,
                ..Keepalive::default()
            }),
            ..nodelay
        };
        let (listener, addr) = listening(&mut kernel);
        let spec = DialSpec {
            stream: refused,
            ..to(addr)
        };
        let (fd, error) = dialed(&mut kernel, &spec);
        assert_eq!(error, None);
        assert!(!kernel.has_options(fd, &refused));
        assert!(kernel.has_options(fd, &nodelay));
        kernel.close(fd);
        kernel.close(listener);
    }

    // Streams.

    #[test]
    fn bytes_pass_in_both_directions_until_the_end() {
        let mut kernel = kernel();
        let (fd, mut peer) = pair(&mut kernel);
        let mut buffer = [0; 16];
        assert_eq!(kernel.read(fd, &mut buffer), Err(Errno(libc::EAGAIN)));

        peer.write_all(b"ping").unwrap();
        let count = read_some(&mut kernel, fd, &mut buffer);
        assert_eq!(&buffer[..count], b"ping");

        assert_eq!(kernel.write(fd, b"po"), Ok(2));
        let parts = [IoSlice::new(b"n"), IoSlice::new(b""), IoSlice::new(b"g!")];
        assert_eq!(kernel.write_parts(fd, &parts), Ok(3));
        kernel.shutdown_write(fd).unwrap();
        let mut answer = String::new();
        peer.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "pong!");

        drop(peer);
        assert_eq!(read_some(&mut kernel, fd, &mut buffer), 0);
        kernel.close(fd);
    }

    #[test]
    fn writing_after_the_end_is_an_error_and_no_signal() {
        let mut kernel = kernel();
        let (fd, _peer) = pair(&mut kernel);
        kernel.shutdown_write(fd).unwrap();
        // Test programs ignore the signal from the start; without this nothing is proven.
        // SAFETY: the two actions are the system's own, no handler of ours is installed.
        let ignored = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        let outcomes = [
            kernel.write(fd, b"late"),
            kernel.write_parts(fd, &[IoSlice::new(b"late")]),
        ];
        // SAFETY: as above.
        unsafe { libc::signal(libc::SIGPIPE, ignored) };
        assert_eq!(outcomes, [Err(Errno(libc::EPIPE)); 2]);
        kernel.close(fd);
    }

    #[test]
    fn a_vectored_call_takes_what_the_system_allows_and_never_nothing() {
        let most = 8;
        let taken = |parts: &[IoSlice<'_>]| match one_call(parts, most) {
            Call::Parts(parts) => (parts.len(), None),
            Call::Long(part) => (1, Some(part.len())),
        };
        let [empty, two, eight, nine] = [0, 2, 8, 9].map(|length| &b"123456789"[..length]);
        let [empty, two, eight, nine] = [empty, two, eight, nine].map(IoSlice::new);
        assert_eq!(taken(&[]), (0, None));
        assert_eq!(taken(&[two, two, two, two]), (4, None));
        assert_eq!(taken(&[two, two, eight]), (2, None));
        assert_eq!(taken(&[eight, two]), (1, None));
        assert_eq!(taken(&[two, nine]), (1, None));
        assert_eq!(taken(&[nine, two]), (1, Some(9)));
        assert_eq!(taken(&[empty, nine]), (1, Some(9)));
        assert_eq!(taken(&[empty; MAX_PARTS + 1]), (MAX_PARTS, None));
    }

    #[test]
    fn a_reset_reaches_the_peer_as_econnreset() {
        let mut kernel = kernel();
        let (fd, mut peer) = pair(&mut kernel);
        kernel.reset(fd);
        let error = peer.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
    }

    #[test]
    fn a_close_reaches_the_peer_as_the_end() {
        let mut kernel = kernel();
        let (fd, mut peer) = pair(&mut kernel);
        kernel.close(fd);
        assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn a_pending_error_is_taken_once() {
        let mut kernel = kernel();
        let (fd, peer) = pair(&mut kernel);
        assert_eq!(kernel.take_error(fd), None);
        SockRef::from(&peer)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(peer);
        let error = eventually(|| kernel.take_error(fd));
        assert_eq!(error, Errno(libc::ECONNRESET));
        assert_eq!(kernel.take_error(fd), None);
        kernel.close(fd);
    }

    #[test]
    fn only_mapped_addresses_change_their_form() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(
            canonical(address("[::ffff:192.0.2.7]:80")),
            address("192.0.2.7:80")
        );
        for text in [
            "192.0.2.7:80",
            "[::1]:80",
            "[fe80::1%3]:80",
            "[::192.0.2.7]:80",
        ] {
            assert_eq!(canonical(address(text)), address(text));
        }
    }

    #[test]
    fn durations_become_whole_seconds_and_never_none() {
        for (asked, set) in [(0, 1), (1, 1), (999, 1), (1000, 1), (1001, 2), (15_000, 15)] {
            assert_eq!(
                whole_seconds(Duration::from_millis(asked)),
                Duration::from_secs(set)
            );
        }
    }

    #[test]
    fn a_buffer_size_never_becomes_a_negative_number() {
        assert_eq!(as_int(4096), 4096);
        assert_eq!(as_int(usize::MAX), libc::c_int::MAX as usize);
    }

    // Names, limits, chance.

    #[test]
    fn a_literal_address_is_looked_up_as_itself() {
        let mut kernel = kernel();
        assert_eq!(
            kernel.lookup("127.0.0.1").unwrap(),
            [IpAddr::from(Ipv4Addr::LOCALHOST)]
        );
        assert_eq!(
            kernel.lookup("::1").unwrap(),
            [IpAddr::from(Ipv6Addr::LOCALHOST)]
        );
        assert!(kernel.lookup("nul\0inside").is_err());
    }

    #[test]
    fn looked_up_addresses_keep_their_order_without_repeats() {
        let [a, b, c] = [1, 2, 3].map(|last| IpAddr::from([192, 0, 2, last]));
        assert_eq!(without_duplicates([b, a, b, c, a].into_iter()), [b, a, c]);
    }

    /// The next answers, each of which must have been announced.
    fn answers(kernel: &mut OsKernel, count: usize) -> Vec<LookedUp> {
        let mut answers = Vec::new();
        while answers.len() < count {
            let events = polled(kernel, RESOLVER_PATIENCE);
            assert_eq!(events.len(), 1, "no answer was announced");
            assert_eq!(events[0].token, Token::WAKE);
            kernel.looked_up(&mut answers);
        }
        answers
    }

    #[test]
    fn a_name_is_looked_up_in_the_background_and_its_answer_announced() {
        let mut kernel = kernel();
        kernel.look_up(Ticket(7), "localhost");
        let found = answers(&mut kernel, 1).remove(0);
        assert_eq!(found.ticket, Ticket(7));
        let addresses = found.addresses.unwrap();
        assert!(!addresses.is_empty());
        assert!(addresses.iter().all(IpAddr::is_loopback));
        assert_eq!(addresses, kernel.lookup("localhost").unwrap());

        let mut none = Vec::new();
        kernel.looked_up(&mut none);
        assert!(none.is_empty());
    }

    #[test]
    fn an_unknown_name_answers_an_error_and_blocks_nothing() {
        let mut kernel = kernel();
        let start = Instant::now();
        kernel.look_up(Ticket(1), UNKNOWN_NAME);
        polled(&mut kernel, Duration::ZERO);
        kernel.looked_up(&mut Vec::new());
        assert!(start.elapsed() < Duration::from_secs(2));

        // The first answer may have come within that time already.
        kernel.look_up(Ticket(2), UNKNOWN_NAME);
        let found = answers(&mut kernel, 1).pop().unwrap();
        assert!(found.addresses.is_err());
    }

    #[test]
    fn names_are_answered_in_the_order_of_asking() {
        const COUNT: u64 = 200;
        let mut kernel = kernel();
        (0..COUNT).for_each(|number| {
            let host = format!("127.0.0.{number}");
            kernel.look_up(Ticket(number), &host);
        });
        let found = answers(&mut kernel, COUNT as usize);
        assert_eq!(found.len(), COUNT as usize);
        for (answer, number) in found.into_iter().zip(0..) {
            assert_eq!(answer.ticket, Ticket(number.into()));
            assert_eq!(
                answer.addresses.unwrap(),
                [IpAddr::from([127, 0, 0, number])]
            );
        }
    }

    #[test]
    fn a_name_that_no_resolver_could_take_answers_an_error() {
        let mut kernel = kernel();
        for (number, host) in ["nul\0inside", ""].into_iter().enumerate() {
            kernel.look_up(Ticket(number as u64), host);
        }
        for answer in answers(&mut kernel, 2) {
            assert!(answer.addresses.is_err(), "{answer:?}");
        }
    }

    #[test]
    fn a_look_up_without_a_thread_answers_the_error_and_the_next_one_works() {
        let mut kernel = kernel();
        kernel.resolver.questions = Some(mpsc::channel().0);
        kernel.look_up(Ticket(1), "127.0.0.1");
        let failed = answers(&mut kernel, 1).remove(0);
        assert_eq!(failed.ticket, Ticket(1));
        assert!(failed.addresses.is_err());

        kernel.look_up(Ticket(2), "127.0.0.1");
        let found = answers(&mut kernel, 1).remove(0);
        assert_eq!(found.ticket, Ticket(2));
        assert!(found.addresses.is_ok());
    }

    #[test]
    fn asking_for_answers_takes_no_lock_while_there_are_none() {
        let mut kernel = kernel();
        kernel.look_up(Ticket(1), "127.0.0.1");
        answers(&mut kernel, 1);
        let shared = Arc::clone(&kernel.resolver.answers);
        thread::scope(|scope| {
            let held = shared.list.lock().unwrap();
            let asking = scope.spawn(|| kernel.looked_up(&mut Vec::new()));
            eventually(|| asking.is_finished().then_some(()));
            drop(held);
        });
    }

    #[test]
    fn the_resolver_starts_with_the_first_name_and_only_once() {
        let mut kernel = kernel();
        assert!(kernel.resolver.questions.is_none());
        assert_eq!(Arc::weak_count(&kernel.resolver.answers), 0);
        for number in 0..3 {
            kernel.look_up(Ticket(number), "127.0.0.1");
            assert_eq!(Arc::weak_count(&kernel.resolver.answers), 1);
        }
        drop(answers(&mut kernel, 3));
    }

    #[test]
    fn dropping_the_kernel_waits_for_no_name() {
        let mut kernel = kernel();
        (0..100).for_each(|number| kernel.look_up(Ticket(number), UNKNOWN_NAME));
        let answers = Arc::downgrade(&kernel.resolver.answers);
        let start = Instant::now();
        drop(kernel);
        assert!(start.elapsed() < Duration::from_secs(2));
        // The thread has them in its hands for no longer than it takes to announce one.
        eventually(|| answers.upgrade().is_none().then_some(()));
    }

    #[test]
    fn the_resolver_answers_nothing_more_once_the_kernel_is_dropped() {
        let kernel = kernel();
        let answers = Arc::downgrade(&kernel.resolver.answers);
        let (questions, asked) = mpsc::channel();
        for number in 0..100 {
            let ticket = Ticket(number);
            let host = UNKNOWN_NAME.to_owned();
            questions.send(Question { ticket, host }).unwrap();
        }
        let answering = thread::spawn(move || answer_all(&asked, &answers));
        drop(kernel);
        // At most the look-up under way comes to its end.
        eventually_within(RESOLVER_PATIENCE, || answering.is_finished().then_some(()));
        // Nobody reads them now, although they could still be asked.
        let (ticket, host) = (Ticket(100), String::new());
        assert!(questions.send(Question { ticket, host }).is_err());
    }

    #[test]
    fn the_resolver_ends_when_nobody_can_ask_any_more() {
        let kernel = kernel();
        let answers = Arc::downgrade(&kernel.resolver.answers);
        let (questions, asked) = mpsc::channel();
        let answering = thread::spawn(move || answer_all(&asked, &answers));
        drop(questions);
        eventually(|| answering.is_finished().then_some(()));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_resolver_takes_no_signals() {
        let blocked = thread::spawn(|| {
            refuse_signals();
            let mut mask = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
            // SAFETY: a null new set changes nothing, and the old one is written before it
            // is read.
            unsafe {
                libc::pthread_sigmask(0, std::ptr::null(), mask.as_mut_ptr());
                [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1]
                    .map(|signal| libc::sigismember(mask.as_ptr(), signal))
            }
        });
        assert_eq!(blocked.join().unwrap(), [1; 3]);
    }

    #[test]
    fn the_descriptor_limit_is_raised_to_the_highest_allowed() {
        let mut kernel = kernel();
        let mut limits = descriptor_limits().unwrap();
        let highest = count(highest_soft_limit(limits.rlim_max));
        // One less, so that there is something to raise and the other tests don't notice.
        limits.rlim_cur = limits.rlim_cur.min(highest_soft_limit(limits.rlim_max)) - 1;
        // SAFETY: the pointer is to a live, initialised `rlimit`, only read by the call.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limits) }).unwrap();
        assert_eq!(kernel.descriptor_limit(), count(limits.rlim_cur));
        assert_eq!(kernel.raise_descriptor_limit(), Ok(highest));
        assert_eq!(kernel.descriptor_limit(), highest);
        assert_eq!(kernel.raise_descriptor_limit(), Ok(highest));
    }

    #[test]
    fn an_infinite_limit_is_the_largest_number() {
        assert_eq!(count(libc::RLIM_INFINITY), u64::MAX);
        assert_eq!(count(1024), 1024);
    }

    #[test]
    fn a_spare_descriptor_is_open_and_stays_in_this_process() {
        let mut kernel = kernel();
        let spare = kernel.spare().unwrap();
        assert_eq!(flags(spare, libc::F_GETFD), libc::FD_CLOEXEC);
        kernel.close(spare);
    }

    #[test]
    fn random_numbers_follow_the_published_generator_from_a_seed_of_their_own() {
        let mut known = SplitMix(1_234_567);
        assert_eq!(known.next(), 6_457_827_717_110_365_317);
        assert_eq!(known.next(), 3_203_168_211_198_807_973);
        assert_ne!(kernel().random(), kernel().random());
    }
}
