//! The real kernel: the verbs of [`Kernel`] on mio, socket2 and libc.
//!
//! Owns the poller, the buffer that mio fills, the wake-up channel, and the list of verbs;
//! what a verb does beyond a call or two has a room of its own, and so have the addresses and
//! limits of the system. Together they know every difference between Linux, FreeBSD, NetBSD
//! and macOS.
//! They never know what an errno means for a listener or a connection, what a token stands
//! for, or which descriptors are open: each verb is one thing done and its answer passed on.
//! The one thing remembered of a descriptor is the family of a datagram socket.

#![allow(
    unsafe_code,
    reason = "the only room that lends out raw descriptors and makes the system calls that \
              neither mio, socket2 nor the standard library wraps"
)]

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, IoSlice};
use std::net::{IpAddr, Shutdown};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mio::unix::SourceFd;
use socket2::{SockRef, Socket};

#[cfg(target_os = "linux")]
mod alarm;
mod batches;
mod control;
#[cfg(target_os = "linux")]
mod epoll;
mod handover;
mod inherited;
#[cfg(not(target_os = "linux"))]
mod kqueue;
mod limits;
mod names;
mod options;
mod packet_options;
mod packets;
pub(crate) mod resolver;
mod sockets;
#[cfg(test)]
mod tests;
mod unix;

#[cfg(target_os = "linux")]
use self::alarm::Alarm;
#[cfg(target_os = "linux")]
use self::epoll::Arrivals;
pub(crate) use self::handover::{is_watchable, ready_now};
pub(crate) use self::inherited::inherited;
#[cfg(not(target_os = "linux"))]
use self::kqueue::Arrivals;
use self::limits::{FALLBACK_BACKLOG, FALLBACK_DESCRIPTORS};
use self::limits::{count, descriptor_limits, highest_soft_limit, system_backlog};
use self::names::to_addr;
use self::resolver::{Resolver, addresses_of};
use super::{
    Adopted, Batch, BindSpec, Came, DialSpec, Errno, Event, Fault, Fd, Interest, Kernel,
    ListenSpec, LookedUp, MAX_PARTS, Message, Moved, Packet, PacketOption, PathIdentity, PeerCred,
    Readiness, StreamOptions, Ticket, Transport, Wake,
};
use crate::address::{Addr, UnixAddr};
#[cfg(target_os = "linux")]
use crate::config;
use crate::engine::nanos;
use crate::peer::{Peer, Remote};
use crate::timer::{NEVER, Nanos};
use crate::token::Token;

const LOG_TARGET: &str = "windlass::kernel";

/// Most bytes of one read or write call (Go's `maxRW`): macOS and FreeBSD refuse calls of
/// 2 GiB and more, so a long buffer goes in pieces instead of failing.
const MAX_CALL_BYTES: usize = 1 << 30;

/// How much of so many bytes one call is asked to move. Linux cuts a long call short by itself.
#[inline]
fn of_one_call(bytes: usize) -> usize {
    if cfg!(target_os = "linux") {
        bytes
    } else {
        bytes.min(MAX_CALL_BYTES)
    }
}

/// Longest wait handed to the system in one piece: epoll counts 32-bit milliseconds (24 days),
/// and NetBSD refuses waits beyond 10⁸ seconds. Longer ones are waited for in pieces.
const LONGEST_WAIT: Nanos = 24 * 60 * 60 * NANOS_PER_SECOND;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// See [`config::ALARM_FROM`].
#[cfg(target_os = "linux")]
const ALARM_FROM: Nanos = config::ALARM_FROM.as_nanos() as Nanos;

/// macOS marks the socket instead (SO_NOSIGPIPE), because the flag is new there.
#[cfg(target_os = "macos")]
const SEND_FLAGS: libc::c_int = 0;
#[cfg(not(target_os = "macos"))]
const SEND_FLAGS: libc::c_int = libc::MSG_NOSIGNAL;

/// The operating system.
#[derive(Debug)]
pub(crate) struct OsKernel {
    poll: mio::Poll,
    epoch: Instant,
    /// The epoch by the system's own count.
    began: Nanos,
    buffer: Arrivals,
    /// Events the buffer may grow to.
    max_events: usize,
    /// Ends waits that have no end of their own; without it each has one.
    #[cfg(target_os = "linux")]
    alarm: Option<Alarm>,
    /// How long a wait goes without sleep; zero: it sleeps at once.
    busy_poll: Nanos,
    /// What all waits together have spent so.
    spun: Duration,
    waker: Arc<OsWaker>,
    resolver: Resolver,
    packets: packets::Table,
    /// Who was accepted last, as the system wrote it.
    #[cfg(not(target_os = "macos"))]
    client: names::Client,
    #[cfg(target_os = "macos")]
    client: Addr,
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
        // In this order our count can only be behind the caller's, so that nothing is early.
        let epoch = Instant::now();
        let began = monotonic(epoch);
        Ok(Self {
            epoch,
            began,
            buffer: Arrivals::with_capacity(initial_events.clamp(1, max_events)),
            max_events,
            #[cfg(target_os = "linux")]
            alarm: alarm(&poll, began),
            poll,
            busy_poll: 0,
            spun: Duration::ZERO,
            resolver: Resolver::new(Arc::clone(&waker)),
            waker,
            packets: packets::Table::default(),
            #[cfg(not(target_os = "macos"))]
            client: names::Client::default(),
            #[cfg(target_os = "macos")]
            client: Addr::Unix(UnixAddr::UNNAMED),
            random: SplitMix::seeded(),
        })
    }

    /// Every wait begins with polls that do not sleep, for as long as `bound`.
    pub(crate) fn busy_poll(mut self, bound: Duration) -> Self {
        self.busy_poll = nanos(bound);
        self
    }

    /// As [`Kernel::poll`], at most `wait` long from `now` on, which is a time read a moment ago;
    /// [`NEVER`] is for ever.
    pub(super) fn poll_for(
        &mut self,
        events: &mut Vec<Event>,
        wait: Nanos,
        now: Nanos,
    ) -> Result<(), Errno> {
        events.clear();
        let waited = if self.busy_poll == 0 && wait <= LONGEST_WAIT {
            self.wait_once(wait, now)
        } else {
            self.wait_unusually(wait)
        };
        waited.map_err(errno)?;
        // No more than the buffer holds can come, so that nothing is checked event by event.
        events.reserve(self.buffer.capacity());
        self.buffer.tell(events);
        self.grow(events.len());
        Ok(())
    }

    /// As [`Kernel::take_client`].
    #[cfg(not(target_os = "macos"))]
    #[inline(always)]
    pub(super) fn next_client(&mut self, listener: Fd) -> Result<Fd, Errno> {
        sockets::accept4(listener, &mut self.client)
    }

    #[cfg(target_os = "macos")]
    pub(super) fn next_client(&mut self, listener: Fd) -> Result<Fd, Errno> {
        let (socket, peer) = sockets::accept_stream(&SockRef::from(&listener)).map_err(errno)?;
        // An empty address is answered if the peer has gone already. Returning here closes the
        // socket.
        self.client = to_addr(&peer).ok_or(Errno(libc::ECONNABORTED))?;
        Ok(Fd(socket.into_raw_fd()))
    }

    #[cfg(not(target_os = "macos"))]
    #[inline(always)]
    pub(super) fn ordinary_client(&self) -> Option<Peer> {
        self.client.v4()
    }

    #[cfg(target_os = "macos")]
    pub(super) fn ordinary_client(&self) -> Option<Peer> {
        None
    }

    /// As [`Kernel::register`], of a stream.
    #[cfg(target_os = "linux")]
    #[inline]
    pub(super) fn add_stream(&self, fd: Fd, token: Token) -> Result<(), Errno> {
        epoll::add_stream(&self.poll, fd, token)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn add_stream(&mut self, fd: Fd, token: Token) -> Result<(), Errno> {
        self.register(fd, token, Interest::ReadWrite)
    }

    #[inline]
    pub(super) fn since_epoch(&self) -> Nanos {
        monotonic(self.epoch).saturating_sub(self.began)
    }

    /// Waits for an event, without an end of its own if the alarm sees to that.
    #[cfg(target_os = "linux")]
    #[inline]
    fn wait_once(&mut self, wait: Nanos, now: Nanos) -> io::Result<()> {
        let alarmed = wait >= ALARM_FROM
            && self
                .alarm
                .as_mut()
                .is_some_and(|alarm| alarm.ends(now, wait));
        if !alarmed {
            return self.buffer.wait(&mut self.poll, wait);
        }
        self.buffer.wait(&mut self.poll, NEVER)?;
        if self.buffer.is_alarm() {
            self.wait_on(now.saturating_add(wait))?;
        }
        Ok(())
    }

    /// The alarm went off, perhaps too early: waits for what is left.
    #[cfg(target_os = "linux")]
    #[cold]
    fn wait_on(&mut self, until: Nanos) -> io::Result<()> {
        self.buffer.clear();
        match until.saturating_sub(self.since_epoch()) {
            0 => Ok(()),
            left => self.buffer.wait(&mut self.poll, left),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn wait_once(&mut self, wait: Nanos, _now: Nanos) -> io::Result<()> {
        self.buffer.wait(&mut self.poll, wait)
    }

    #[inline(never)]
    fn wait_unusually(&mut self, timeout: Nanos) -> io::Result<()> {
        if self.busy_poll == 0 {
            self.wait(timeout, LONGEST_WAIT)
        } else {
            self.spin_then_wait(timeout)
        }
    }

    /// Waits for an event, at most `longest` at a time.
    fn wait(&mut self, timeout: Nanos, longest: Nanos) -> io::Result<()> {
        let mut left = timeout;
        loop {
            let piece = if left == NEVER {
                NEVER
            } else {
                left.min(longest)
            };
            self.buffer.wait(&mut self.poll, piece)?;
            if !self.buffer.is_empty() || piece == left {
                return Ok(());
            }
            left -= piece;
        }
    }

    /// Waits for an event, without sleep while `busy_poll` lasts. Nothing is known of the
    /// bound before a first poll has come back empty, so what is there already costs no look
    /// at the clock, and neither does a poll that must not wait.
    fn spin_then_wait(&mut self, timeout: Nanos) -> io::Result<()> {
        self.buffer.wait(&mut self.poll, 0)?;
        if !self.buffer.is_empty() || timeout == 0 {
            return Ok(());
        }
        let spent = self.spin(timeout.min(self.busy_poll))?;
        self.spun += Duration::from_nanos(spent);
        let left = if timeout == NEVER {
            NEVER
        } else {
            timeout.saturating_sub(spent)
        };
        if !self.buffer.is_empty() || left == 0 {
            return Ok(());
        }
        self.wait(left, LONGEST_WAIT)
    }

    /// Polls again and again until an event comes or `bound` has passed; answers how long
    /// that was.
    fn spin(&mut self, bound: Nanos) -> io::Result<Nanos> {
        let began = self.since_epoch();
        loop {
            self.buffer.wait(&mut self.poll, 0)?;
            let spent = self.since_epoch().saturating_sub(began);
            if !self.buffer.is_empty() || spent >= bound {
                return Ok(spent);
            }
        }
    }

    /// A full buffer may have left events behind; they come at the next poll, but the more
    /// fit in one, the fewer polls a busy turn needs.
    fn grow(&mut self, came: usize) {
        let capacity = self.buffer.capacity();
        if came >= capacity && capacity < self.max_events {
            let doubled = capacity.saturating_mul(2).min(self.max_events);
            self.buffer = Arrivals::with_capacity(doubled);
        }
    }
}

/// A loop without one is as good, and a little slower.
#[cfg(target_os = "linux")]
fn alarm(poll: &mio::Poll, began: Nanos) -> Option<Alarm> {
    Alarm::new(poll, began)
        .inspect_err(|error| log::debug!(target: LOG_TARGET, "no timer for waits: {error}"))
        .ok()
}

impl Kernel for OsKernel {
    fn epoch(&self) -> Instant {
        self.epoch
    }

    fn nanos(&mut self) -> Nanos {
        self.since_epoch()
    }

    fn wall(&mut self) -> SystemTime {
        SystemTime::now()
    }

    fn random(&mut self) -> u64 {
        self.random.next()
    }

    fn poll(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> Result<(), Errno> {
        let now = self.since_epoch();
        self.poll_for(events, timeout.map_or(NEVER, nanos), now)
    }

    fn spun(&self) -> Duration {
        self.spun
    }

    fn register(&mut self, fd: Fd, token: Token, interest: Interest) -> Result<(), Errno> {
        let interest = match interest {
            Interest::ReadWrite => STREAM,
            other => directions(other),
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
        Ok(Fd(sockets::listening(spec)?.into_raw_fd()))
    }

    fn adopt_listener(&mut self, fd: OwnedFd) -> Result<Adopted, Fault> {
        handover::listener(fd)
    }

    fn backlog_limit(&mut self) -> u32 {
        system_backlog()
            .filter(|limit| *limit > 0)
            .unwrap_or(FALLBACK_BACKLOG)
    }

    fn queue(&mut self, listener: Fd) -> Result<(u32, u32), Errno> {
        sockets::accept_queue(listener)
    }

    fn take_client(&mut self, listener: Fd) -> Result<Fd, Errno> {
        self.next_client(listener)
    }

    #[cfg(not(target_os = "macos"))]
    fn client(&mut self) -> Remote {
        self.client.remote()
    }

    #[cfg(target_os = "macos")]
    fn client(&mut self) -> Remote {
        Remote::from(self.client.clone())
    }

    fn has_options(&mut self, fd: Fd, options: &StreamOptions) -> bool {
        options::has(&SockRef::from(&fd), options)
    }

    fn set_options(&mut self, fd: Fd, options: &StreamOptions) -> Result<(), Errno> {
        options::apply_to_any(&SockRef::from(&fd), options).map_err(errno)
    }

    fn socket(&mut self, spec: &DialSpec) -> Result<Fd, Fault> {
        Ok(Fd(sockets::dialing(spec)?.into_raw_fd()))
    }

    fn connect(&mut self, fd: Fd, remote: &Addr) -> Result<(), Errno> {
        // In the form that `socket` chose the family by.
        let remote = names::sock_addr(remote)?;
        SockRef::from(&fd).connect(&remote).map_err(errno)
    }

    fn peer_addr(&mut self, fd: Fd) -> Result<Addr, Errno> {
        let addr = SockRef::from(&fd).peer_addr().map_err(errno)?;
        // macOS answers an empty address if the peer has gone already.
        let addr = to_addr(&addr).ok_or(Errno(libc::ENOTCONN))?;
        Ok(self.packets.plain(fd, addr))
    }

    fn adopt_stream(&mut self, fd: OwnedFd) -> Result<Adopted, Fault> {
        handover::stream(fd)
    }

    fn adopt_packets(&mut self, fd: OwnedFd) -> Result<Adopted, Fault> {
        let (adopted, known) = handover::packets(fd)?;
        self.packets.note(adopted.fd, known);
        Ok(adopted)
    }

    fn keep(&mut self, fd: OwnedFd) -> Result<Fd, Errno> {
        Ok(Fd(fd.into_raw_fd()))
    }

    fn release(&mut self, fd: Fd) -> Result<OwnedFd, Errno> {
        self.deregister(fd);
        self.packets.forget(fd);
        Ok(handover::owned(fd))
    }

    fn duplicate(&mut self, fd: Fd) -> Result<OwnedFd, Errno> {
        handover::duplicate(fd)
    }

    fn watch(&mut self, fd: Fd, token: Token, interest: Interest) -> Result<(), Errno> {
        handover::must_be_watchable(fd)?;
        // Urgent data is nothing that a watcher asks for, so it must not wake one.
        self.poll
            .registry()
            .register(&mut SourceFd(&fd.0), to_mio(token), directions(interest))
            .map_err(errno)
    }

    /// EPOLL_CTL_MOD looks at the descriptor anew and reports it if it is ready.
    #[cfg(target_os = "linux")]
    fn rewatch(&mut self, fd: Fd, token: Token, interest: Interest) -> Result<(), Errno> {
        self.poll
            .registry()
            .reregister(&mut SourceFd(&fd.0), to_mio(token), directions(interest))
            .map_err(errno)
    }

    /// A new kevent begins with the present state. What is done to one that exists differs.
    #[cfg(not(target_os = "linux"))]
    fn rewatch(&mut self, fd: Fd, token: Token, interest: Interest) -> Result<(), Errno> {
        self.deregister(fd);
        self.poll
            .registry()
            .register(&mut SourceFd(&fd.0), to_mio(token), directions(interest))
            .map_err(errno)
    }

    fn bind(&mut self, spec: &BindSpec) -> Result<Fd, Fault> {
        let (socket, known) = packets::opened(spec)?;
        let fd = Fd(socket.into_raw_fd());
        self.packets.note(fd, known);
        Ok(fd)
    }

    fn receive(&mut self, fd: Fd, batch: &mut Batch) -> Result<Came, Errno> {
        self.packets.receive(fd, batch)
    }

    fn send_packets(&mut self, fd: Fd, packets: &[Packet<'_>]) -> Result<usize, Errno> {
        self.packets.send(fd, packets)
    }

    fn set_packet_option(&mut self, fd: Fd, option: PacketOption) -> Result<(), Errno> {
        self.packets.set_option(fd, option)
    }

    fn merges(&self, fd: Fd) -> bool {
        self.packets.merges(fd)
    }

    fn interface_index(&mut self, name: &str) -> Option<u32> {
        resolver::interface_index(name)
    }

    fn path_identity(&mut self, path: &Path) -> Result<PathIdentity, Errno> {
        unix::path_identity(path)
    }

    fn unlink(&mut self, path: &Path) -> Result<(), Errno> {
        unix::unlink(path)
    }

    fn knock(&mut self, addr: &UnixAddr, transport: Transport) -> Result<(), Errno> {
        unix::knock(addr, transport)
    }

    fn peer_cred(&mut self, fd: Fd) -> Result<PeerCred, Errno> {
        unix::peer_cred(fd)
    }

    fn receive_message(
        &mut self,
        fd: Fd,
        buffer: &mut [u8],
        fds: Option<&mut Vec<OwnedFd>>,
    ) -> Result<Message, Errno> {
        unix::receive_message(fd, buffer, fds)
    }

    fn send_with_fds(&mut self, fd: Fd, bytes: &[u8], fds: &[OwnedFd]) -> Result<usize, Errno> {
        unix::send_with_fds(fd, bytes, fds)
    }

    fn recv(&mut self, fd: Fd, buffer: &mut [u8]) -> Moved {
        recv(fd, buffer)
    }

    fn send(&mut self, fd: Fd, bytes: &[u8]) -> Moved {
        Moved::counted(call_send(fd, bytes), last_errno)
    }

    fn write_parts(&mut self, fd: Fd, parts: &[IoSlice<'_>]) -> Result<usize, Errno> {
        match one_call(parts, MAX_CALL_BYTES) {
            Call::Parts(parts) => SockRef::from(&fd)
                .send_vectored_with_flags(parts, SEND_FLAGS)
                .map_err(errno),
            Call::Long(part) => self.send(fd, part).result(),
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
        let addr = to_addr(&addr).ok_or(Errno(libc::EAFNOSUPPORT))?;
        Ok(self.packets.plain(fd, addr))
    }

    fn close(&mut self, fd: Fd) {
        self.packets.forget(fd);
        close(fd);
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

/// Closes what is no datagram socket, of which more would have to be forgotten.
#[inline]
pub(super) fn close(fd: Fd) {
    // SAFETY: `close` touches no memory of ours. The number is the caller's to close: verbs hand
    // out each open descriptor once, and its keeper closes it once.
    let _ = unsafe { libc::close(fd.0) };
}

// The two calls that each request makes; they need nothing that is the loop's. Each has a form
// for its usual answer, which is told from all others by a comparison, before the errno is
// looked at.

/// Some bytes, but not as many as there is room for.
#[inline]
pub(super) fn recv_some(fd: Fd, buffer: &mut [u8]) -> Result<usize, Moved> {
    let answer = call_recv(fd, buffer);
    let n = answer as usize;
    if n != 0 && n < buffer.len() {
        Ok(n)
    } else {
        Err(unusual(answer))
    }
}

#[inline]
pub(super) fn recv(fd: Fd, buffer: &mut [u8]) -> Moved {
    Moved::counted(call_recv(fd, buffer), last_errno)
}

/// All of them.
#[inline]
pub(super) fn send_all(fd: Fd, bytes: &[u8]) -> Result<(), Moved> {
    let answer = call_send(fd, bytes);
    if answer as usize == bytes.len() {
        Ok(())
    } else {
        Err(unusual(answer))
    }
}

#[cold]
fn unusual(answer: isize) -> Moved {
    Moved::counted(answer, last_errno)
}

#[inline]
fn call_recv(fd: Fd, buffer: &mut [u8]) -> isize {
    let length = of_one_call(buffer.len());
    // SAFETY: `length` bytes of `buffer` may be written, and it lives across the call.
    unsafe { libc::recv(fd.0, buffer.as_mut_ptr().cast(), length, 0) }
}

#[inline]
fn call_send(fd: Fd, bytes: &[u8]) -> isize {
    let length = of_one_call(bytes.len());
    // SAFETY: `length` bytes of `bytes` may be read, and they live across the call.
    unsafe { libc::send(fd.0, bytes.as_ptr().cast(), length, SEND_FLAGS) }
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

/// The clock behind [`Instant`], without the way through it.
#[cfg(not(target_os = "macos"))]
fn monotonic(_epoch: Instant) -> Nanos {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is live, and the call only writes it. It cannot fail for a clock that
    // every system has.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * NANOS_PER_SECOND + time.tv_nsec as u64
}

/// The way through it: which clock the standard library reads there has changed before.
#[cfg(target_os = "macos")]
fn monotonic(epoch: Instant) -> Nanos {
    Nanos::try_from(epoch.elapsed().as_nanos()).unwrap_or(Nanos::MAX)
}

// Between mio's terms and ours.

const BOTH_DIRECTIONS: mio::Interest = mio::Interest::READABLE.add(mio::Interest::WRITABLE);

/// Urgent data must be known of: a read that stops at its mark has not drained the socket.
#[cfg(target_os = "linux")]
const STREAM: mio::Interest = BOTH_DIRECTIONS.add(mio::Interest::PRIORITY);
#[cfg(not(target_os = "linux"))]
const STREAM: mio::Interest = BOTH_DIRECTIONS;

fn directions(interest: Interest) -> mio::Interest {
    match interest {
        Interest::Read => mio::Interest::READABLE,
        Interest::Write => mio::Interest::WRITABLE,
        Interest::ReadWrite => BOTH_DIRECTIONS,
    }
}

fn to_mio(token: Token) -> mio::Token {
    // The crate is 64-bit only: no bit is lost.
    mio::Token(token.bits() as usize)
}

#[cfg(any(test, not(target_os = "linux")))]
fn from_mio(event: &mio::event::Event) -> Event {
    Event {
        token: Token::from_bits(event.token().0 as u64),
        ready: Readiness::READABLE.if_so(event.is_readable())
            | Readiness::WRITABLE.if_so(event.is_writable())
            | Readiness::READ_CLOSED.if_so(event.is_read_closed())
            | Readiness::WRITE_CLOSED.if_so(event.is_write_closed())
            | Readiness::ERROR.if_so(event.is_error())
            | Readiness::URGENT.if_so(event.is_priority()),
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

/// What the last libc call left in `errno`.
#[cold]
fn last_errno() -> Errno {
    errno(io::Error::last_os_error())
}

/// What a libc call left in `errno`, if it answered -1.
fn check(answer: libc::c_int) -> Result<(), Errno> {
    if answer == -1 {
        Err(last_errno())
    } else {
        Ok(())
    }
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

/// Turns an option on that is an int to the system.
fn set_flag(socket: &Socket, level: libc::c_int, name: libc::c_int) -> io::Result<()> {
    const ON: libc::c_int = 1;
    // SAFETY: the callers name options that are ints.
    unsafe { set_option(socket, level, name, &ON) }
}

/// Sets a socket option.
///
/// # Safety
///
/// `T` must be what the system takes for this option, without padding.
unsafe fn set_option<T>(
    socket: &Socket,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is `length` bytes that live, and that the call only reads.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            ptr::from_ref(value).cast(),
            length,
        )
    };
    check(answer).map_err(io::Error::from)
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
