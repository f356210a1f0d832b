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
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mio::unix::SourceFd;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};

pub(crate) mod resolver;
#[cfg(test)]
mod tests;

use self::resolver::{Resolver, addresses_of};
use super::{
    Adopted, DialSpec, Errno, Event, Fault, Fd, Interest, Keepalive, Kernel, ListenSpec, LookedUp,
    MAX_PARTS, Readiness, StreamOptions, Ticket, Transport, Wake,
};
use crate::address::Addr;
use crate::token::Token;

const LOG_TARGET: &str = "windlass::kernel";

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
            Interest::Write => mio::Interest::WRITABLE,
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
        let socket = open_stream(ip(&spec.addr)?).map_err(fault("socket"))?;
        prepare_listener(&socket, spec).map_err(fault("setsockopt"))?;
        let addr = SockAddr::from(ip(&spec.addr)?);
        socket.bind(&addr).map_err(fault("bind"))?;
        socket.listen(spec.backlog).map_err(fault("listen"))?;
        Ok(Fd(socket.into_raw_fd()))
    }

    fn adopt_listener(&mut self, fd: OwnedFd) -> Result<Adopted, Fault> {
        let socket = Socket::from(fd);
        must_listen(&socket).map_err(fault("getsockopt"))?;
        // The interface has no addresses but these to answer `accept` with.
        let addr = socket.local_addr().map_err(fault("getsockname"))?;
        let local = to_addr(&addr).ok_or(Fault {
            call: "getsockname",
            errno: Errno(libc::EAFNOSUPPORT),
        })?;
        socket.set_nonblocking(true).map_err(fault("setnonblock"))?;
        socket.set_cloexec(true).map_err(fault("fcntl"))?;
        Ok(Adopted {
            fd: Fd(socket.into_raw_fd()),
            transport: Transport::Stream,
            local,
            peer: None,
        })
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
        let remote = ip(&spec.remote)?;
        let socket = open_stream(remote).map_err(fault("socket"))?;
        // Before `connect`, because the window that the handshake offers depends on them.
        // A connection without its options is better than none.
        if let Err(error) = apply(&socket, &spec.stream) {
            log::debug!(target: LOG_TARGET, "an option of a socket to {remote}: {error}");
        }
        if let Some(local) = &spec.local {
            let local = SockAddr::from(own_end(ip(local)?, remote));
            socket.bind(&local).map_err(fault("bind"))?;
        }
        Ok(Fd(socket.into_raw_fd()))
    }

    fn connect(&mut self, fd: Fd, remote: &Addr) -> Result<(), Errno> {
        // In the form that `socket` chose the family by.
        let remote = SockAddr::from(ip(remote).map_err(|fault| fault.errno)?);
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
    if spec.addr.ip().is_some_and(|ip| ip.is_ipv6()) {
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

/// The IP address that a verb was given.
fn ip(addr: &Addr) -> Result<SocketAddr, Fault> {
    addr.as_socket_addr().map(canonical).ok_or(Fault {
        call: "socket",
        errno: Errno(libc::EAFNOSUPPORT),
    })
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
