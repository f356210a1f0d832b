//! A kernel in memory: a TCP/IP host with a virtual clock and scripted faults.
//!
//! Everything in it follows from the seed and from what is done to it: it opens no
//! socket, starts no thread, never sleeps, and reads the real clock once, to have an
//! `Instant` to count from. It knows nothing of the reactor or of handlers, but what it
//! is told for its trace.
//!
//! The rooms: [`net`] is the network with its clock, [`pipe`] one direction of a
//! connection, [`packets`]
//! the datagrams, [`names`] the file system of Unix sockets, [`poller`] the edge-triggered reports, [`kept`] the descriptors that are real, [`table`] the descriptors,
//! [`fault`] the script, [`peer`] the clients and the hosts that are dialed,
//! [`resolver`] the names, [`trace`] what the verbs have done, [`words`] how that reads, [`settings`] what whoever runs the world says and asks. This
//! file is the verbs.
//!
//! What is simpler than a real host: the accept queue holds exactly its limit (Linux: one
//! more); a client that found it full joins at once when there is room (Linux: when it
//! retransmits); buffers count payload bytes only; an IPv4 client of a dual-stack
//! listener keeps its IPv4 address. A host that is dialed needs no process to accept, the
//! kernel never gives an attempt up by itself, and every interface is the loopback.

use std::io::IoSlice;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use self::fault::{Dice, Script, Tally};
use self::kept::Kept;
use self::names::{Names, Owner};
use self::net::{Nanos, Net, Stage};
use self::packets::{LOOPBACK_INDEX, Packets};
use self::poller::Poller;
use self::resolver::Resolver;
use self::table::{Entry, Table};
pub(crate) use self::trace::Trace;
use self::words::{Bytes, Came as CameIn, Done, Polled, Said};
use super::{Adopted, Batch, BindSpec, Came, DialSpec, Errno, Event, Fault, Fd, Interest, Kernel};
use super::{ListenSpec, LookedUp, MAX_PARTS, Message, Moved, Packet, PacketOption, PathIdentity};
use super::{PeerCred, Readiness, StreamOptions, Ticket, Transport, Wake};
use crate::address::{Addr, UnixAddr};
use crate::error::CloseReason;
use crate::token::Token;

mod addresses;
mod fault;
mod kept;
mod names;
mod net;
mod packets;
mod peer;
mod pipe;
mod poller;
mod resolver;
mod run;
mod settings;
mod table;
mod trace;
mod unix;
mod words;

pub use self::fault::Call;
pub(crate) use self::names::unix_name;
pub use self::net::Remote;
pub(crate) use self::packets::PacketPeer;
pub(crate) use self::peer::Peer;
#[cfg(test)]
pub(crate) use self::peer::PeerState;

/// What a verb answers that would have to give or take a real socket.
const NO_DESCRIPTORS: Fault = Fault {
    call: "socket",
    errno: Errno(libc::ENOTSUP),
};
/// Wall-clock time at virtual time zero, at first: 2026-01-01 00:00:00 UTC.
const EPOCH: Duration = Duration::from_secs(1_767_225_600);
/// As `/proc/sys/net/core/somaxconn` has had it since Linux 5.4.
const DEFAULT_BACKLOG_LIMIT: u32 = 4096;
/// epoll waits for whole milliseconds.
const POLL_GRAIN: u128 = 1_000_000;
/// A process of an ordinary user.
const DEFAULT_CRED: PeerCred = PeerCred {
    uid: 1000,
    gid: 1000,
    pid: Some(4242),
};

/// The simulated host.
#[derive(Debug)]
pub(crate) struct SimKernel {
    base: Instant,
    /// Wall-clock time at virtual time zero.
    wall_epoch: SystemTime,
    dice: Dice,
    net: Net,
    packets: Packets,
    names: Names,
    /// Whom every Unix socket has at its other end.
    cred: PeerCred,
    poller: Poller,
    kept: Kept,
    table: Table,
    /// Who was accepted last.
    client: Addr,
    script: Script,
    tally: Tally,
    bell: Arc<Bell>,
    resolver: Resolver,
    backlog_limit: u32,
    horizon: Option<Nanos>,
    #[cfg_attr(
        not(test),
        allow(dead_code, reason = "this room's own tests look at it")
    )]
    stalled: bool,
    trace: Arc<Trace>,
}

/// The wake-up channel.
#[derive(Debug, Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// What the verbs have in common.
impl SimKernel {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            base: Instant::now(),
            wall_epoch: SystemTime::UNIX_EPOCH + EPOCH,
            dice: Dice::new(seed),
            net: Net::new(),
            packets: Packets::new(),
            names: Names::default(),
            cred: DEFAULT_CRED,
            poller: Poller::new(),
            kept: Kept::default(),
            table: Table::new(),
            client: Addr::Unix(UnixAddr::UNNAMED),
            script: Script::default(),
            tally: Tally::default(),
            bell: Arc::default(),
            resolver: Resolver::new(),
            backlog_limit: DEFAULT_BACKLOG_LIMIT,
            horizon: None,
            stalled: false,
            trace: Arc::default(),
        }
    }

    fn note(&self, line: impl FnOnce() -> String) {
        self.trace.at(self.net.now());
        self.trace.note(line);
    }

    /// A callback begins, of `source` unless that is nobody.
    pub(crate) fn callback_begins(&self, name: &str, source: Token) {
        self.note(|| match source.kind() {
            Some(_) => format!("  -> {name} {source:?}"),
            None => format!("  -> {name}"),
        });
    }

    /// A connection is over.
    pub(crate) fn connection_ends(&self, conn: Token, reason: &CloseReason) {
        self.note(|| format!("  {conn:?} is over: {reason}"));
    }

    /// The failure that was scripted for this call, if any.
    fn scripted(&mut self, call: Call) -> Result<(), Errno> {
        self.script.next(call).map_or(Ok(()), Err)
    }

    /// As [`scripted`](Self::scripted) for a call that readiness announces.
    fn scripted_on(&mut self, call: Call, fd: Fd) -> Result<(), Errno> {
        let result = self.scripted(call);
        if result == Err(Errno(libc::EAGAIN)) {
            self.net.changed.push(fd);
        }
        result
    }

    /// Tells the poller what changed, in order.
    fn settle(&mut self) {
        let changed = self.net.changed.drain(..);
        for fd in changed.chain(self.packets.changed.drain(..)) {
            self.poller.mark(fd);
        }
    }

    /// The link behind a connected descriptor.
    fn stream(&mut self, fd: Fd, verb: &str) -> Result<usize, Errno> {
        match self.table.get(fd, verb)? {
            Entry::Stream(link) => Ok(link),
            Entry::Listener(_) => Err(Errno(libc::ENOTCONN)),
            Entry::Packets(_) => Err(self.misused(fd, verb)),
            Entry::Spare | Entry::Kept => Err(Errno(libc::ENOTSOCK)),
        }
    }

    fn listener(&mut self, fd: Fd, verb: &str) -> Result<usize, Errno> {
        match self.table.get(fd, verb)? {
            Entry::Listener(listener) => Ok(listener),
            Entry::Stream(_) | Entry::Packets(_) => Err(Errno(libc::EINVAL)),
            Entry::Spare | Entry::Kept => Err(Errno(libc::ENOTSOCK)),
        }
    }

    /// The end behind a descriptor for datagrams.
    fn end_of(&mut self, fd: Fd, verb: &str) -> Result<usize, Errno> {
        match self.table.get(fd, verb)? {
            Entry::Packets(end) => Ok(end),
            Entry::Listener(_) | Entry::Stream(_) => Err(self.misused(fd, verb)),
            Entry::Spare | Entry::Kept => Err(Errno(libc::ENOTSOCK)),
        }
    }

    /// A verb of streams on datagrams, or the other way round: systems allow it, the loop
    /// never does it.
    fn misused(&mut self, fd: Fd, verb: &str) -> Errno {
        let text = format!("{verb} on {fd:?}, which is of another kind");
        self.table.violate(text);
        Errno(libc::EINVAL)
    }
}

/// The parts of verbs.
impl SimKernel {
    fn collect(&mut self, events: &mut Vec<Event>) {
        if self.bell.0.swap(false, Ordering::AcqRel) {
            events.push(Event {
                token: Token::WAKE,
                ready: Readiness::READABLE,
            });
        }
        self.look_outside();
        self.settle();
        let (net, packets, table, kept) = (&self.net, &self.packets, &self.table, &self.kept);
        self.poller.report(events, |fd| match table.peek(fd) {
            Some(Entry::Kept) => kept.state(fd),
            Some(Entry::Stream(link)) => net.links[link].state(),
            Some(Entry::Listener(listener)) => net.listeners[listener].state(),
            Some(Entry::Packets(end)) => packets.state(end),
            Some(Entry::Spare) | None => Readiness::default(),
        });
    }

    /// Lets time pass until something arrives (`true`) or the wait is over (`false`).
    fn sleep(&mut self, until: Option<Nanos>) -> bool {
        let bound = match (until, self.horizon) {
            (Some(until), Some(horizon)) => Some(until.min(horizon)),
            (until, horizon) => until.or(horizon),
        };
        match (self.next_due(), bound) {
            (Some(due), bound) if bound.is_none_or(|bound| due <= bound) => {
                self.pass_to(due);
                true
            }
            (due, bound) => {
                self.stalled = until.is_none() && due.is_none();
                self.pass_to(bound.unwrap_or(0));
                false
            }
        }
    }

    /// When the next thing that is under way arrives.
    fn next_due(&self) -> Option<Nanos> {
        let dues = [
            self.net.next_due(),
            self.packets.next_due(),
            self.resolver.next_due(),
        ];
        dues.into_iter().flatten().min()
    }

    /// Moves the clock, never back, and delivers what falls due.
    fn pass_to(&mut self, to: Nanos) {
        self.net.advance_to(to);
        self.packets.advance_to(self.net.now());
        if self.resolver.advance_to(self.net.now()) {
            self.bell.wake();
        }
    }

    fn try_poll(
        &mut self,
        events: &mut Vec<Event>,
        timeout: Option<Duration>,
    ) -> Result<(), Errno> {
        let stood = std::mem::take(&mut self.script.standstill);
        self.pass_to(self.net.now().saturating_add(stood));
        self.scripted(Call::Poll)?;
        let until = timeout.map(|it| self.net.now().saturating_add(whole_grains(it)));
        loop {
            self.net.deliver_pieces();
            self.collect(events);
            if !events.is_empty() || !self.sleep(until) {
                return Ok(());
            }
        }
    }

    fn try_register(&mut self, fd: Fd, token: Token, interest: Interest) -> Result<(), Errno> {
        if self.table.get(fd, "register")? == Entry::Spare {
            return Err(Errno(libc::EPERM));
        }
        self.scripted(Call::Register)?;
        self.settle();
        self.poller.add(fd, token, interest)
    }

    fn try_rearm(&mut self, fd: Fd, token: Token) -> Result<bool, Errno> {
        self.table.get(fd, "rearm")?;
        self.scripted(Call::Rearm)?;
        if self.script.cannot_rearm {
            return Ok(false);
        }
        self.settle();
        self.poller.rearm(fd, token).map(|()| true)
    }

    fn try_listen(&mut self, spec: &ListenSpec) -> Result<Fd, Fault> {
        self.step(Call::Socket)?;
        let socket = Entry::Listener(self.net.listeners.len());
        let fd = self.table.open(socket).map_err(|errno| Fault {
            call: "socket",
            errno,
        })?;
        let opened = self.bind_and_listen(fd, spec);
        if opened.is_err() {
            self.table.close(fd, "close");
            self.names
                .release(Owner::Listener(self.net.listeners.len()));
        }
        opened.map(|()| fd)
    }

    fn bind_and_listen(&mut self, fd: Fd, spec: &ListenSpec) -> Result<(), Fault> {
        self.step(Call::SetOption)?;
        self.step(Call::Bind)?;
        let bound = match &spec.addr {
            Addr::Ip(_) => self.net.bind(spec).map(Addr::from),
            Addr::Unix(name) => self.name_listener(name, spec.mode),
        };
        let addr = bound.map_err(|errno| Fault {
            call: "bind",
            errno,
        })?;
        self.step(Call::Listen)?;
        // A negative backlog is a huge unsigned one to the kernel.
        let asked = u32::try_from(spec.backlog).unwrap_or(u32::MAX);
        let limit = asked.clamp(1, self.backlog_limit.max(1));
        self.net.listen(fd, addr, spec, limit as usize);
        Ok(())
    }

    fn try_socket(&mut self, spec: &DialSpec) -> Result<Fd, Fault> {
        self.step(Call::Socket)?;
        let socket = Entry::Stream(self.net.links.len());
        let fd = self.table.open(socket).map_err(|errno| Fault {
            call: "socket",
            errno,
        })?;
        let prepared = self.prepare(fd, spec);
        if prepared.is_err() {
            self.table.close(fd, "close");
            self.names.release(Owner::Stream(self.net.links.len()));
        }
        prepared.map(|()| fd)
    }

    fn prepare(&mut self, fd: Fd, spec: &DialSpec) -> Result<(), Fault> {
        let mut options = spec.stream;
        // A connection without its options is better than none.
        if options != StreamOptions::default() && self.step(Call::SetOption).is_err() {
            options = StreamOptions::default();
        }
        if spec.local.is_some() {
            self.step(Call::Bind)?;
        }
        let failed = |errno| Fault {
            call: "bind",
            errno,
        };
        if spec.remote.as_unix().is_some() {
            let local = self.name_stream(spec).map_err(failed)?;
            self.net.socket_unix(fd, local, spec.transport, &options);
        } else {
            let local = self.net.bind_socket(spec).map_err(failed)?;
            self.net.socket(fd, local, &options);
        }
        Ok(())
    }

    fn try_connect(&mut self, fd: Fd, remote: &Addr) -> Result<(), Errno> {
        let link = self.stream(fd, "connect")?;
        if !matches!(self.net.links[link].stage, Stage::Fresh(_)) {
            self.table
                .violate(format!("connect on {fd:?} for a second time"));
        }
        let chance = self.dice.roll();
        let Err(errno) = self.scripted(Call::Connect) else {
            return self.dial(link, remote, chance);
        };
        match errno.0 {
            // The call was cut short, the attempt was not.
            libc::EINPROGRESS | libc::EALREADY | libc::EINTR => {
                let _ = self.dial(link, remote, chance);
            }
            // It is connected by now.
            libc::EISCONN => {
                let _ = self.dial(link, remote, chance);
                self.net.connect_now(link);
            }
            _ => self.net.spoil(link),
        }
        Err(errno)
    }

    fn dial(&mut self, link: usize, remote: &Addr, chance: u64) -> Result<(), Errno> {
        match remote {
            Addr::Ip(_) => {
                let unknown = Errno(libc::EAFNOSUPPORT);
                let ip = remote.as_socket_addr().ok_or(unknown)?;
                self.net.dial(link, ip, chance)
            }
            Addr::Unix(name) => self.dial_unix(link, name),
        }
    }

    fn try_peer_addr(&mut self, fd: Fd) -> Result<Addr, Errno> {
        let entry = self.table.get(fd, "getpeername")?;
        if let Err(errno) = self.scripted(Call::PeerAddr) {
            // Nobody is there yet, so whoever comes will be reported.
            self.net.changed.push(fd);
            return Err(errno);
        }
        let peer = match entry {
            Entry::Stream(link) => self.net.links[link].peer(),
            Entry::Packets(end) => self.packets.ends[end].peer.clone(),
            Entry::Listener(_) => None,
            Entry::Spare | Entry::Kept => return Err(Errno(libc::ENOTSOCK)),
        };
        peer.ok_or(Errno(libc::ENOTCONN))
    }

    /// One system call of several in a verb: counted, and failing under its own name.
    fn step(&mut self, call: Call) -> Result<(), Fault> {
        let name = match call {
            Call::Socket => "socket",
            Call::SetOption => "setsockopt",
            Call::Bind => "bind",
            Call::Connect => "connect",
            _ => "listen",
        };
        self.tally.count(call);
        self.scripted(call)
            .map_err(|errno| Fault { call: name, errno })
    }

    fn try_accept(&mut self, fd: Fd) -> Result<(Fd, Addr), Errno> {
        let listener = self.listener(fd, "accept");
        // Linux reserves the descriptor before it looks at the queue.
        if listener != Err(Errno(libc::EBADF)) && self.table.is_full() {
            return Err(Errno(libc::EMFILE));
        }
        let listener = listener?;
        self.scripted_on(Call::Accept, fd)?;
        let link = self.net.accept(listener).ok_or(Errno(libc::EAGAIN))?;
        let it = &self.net.links[link];
        if it.server.reset && self.script.abort_reset_accepts && !it.is_unix() {
            self.net.links[link].stage = Stage::Gone;
            return Err(Errno(libc::ECONNABORTED));
        }
        let accepted = self.table.open(Entry::Stream(link))?;
        let it = &mut self.net.links[link];
        it.stage = Stage::Open(accepted);
        if self.script.forget_options {
            it.options = StreamOptions::default();
        }
        Ok((accepted, it.peer_addr.clone()))
    }

    fn try_read(&mut self, fd: Fd, buffer: &mut [u8]) -> Result<Message, Errno> {
        let link = self.stream(fd, "read")?;
        self.scripted_on(Call::Read, fd)?;
        self.net.read(link, buffer)
    }

    fn try_write<'a>(
        &mut self,
        fd: Fd,
        parts: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Result<usize, Errno> {
        let link = self.stream(fd, "write")?;
        if let Err(errno) = self.scripted(Call::Write) {
            if errno == Errno(libc::EAGAIN) {
                self.net.refuse(link);
            }
            return Err(errno);
        }
        let most = self.script.short_writes.unwrap_or(usize::MAX);
        self.net.write(link, parts, most)
    }

    fn try_shutdown(&mut self, fd: Fd) -> Result<(), Errno> {
        let link = self.stream(fd, "shutdown")?;
        self.scripted(Call::Shutdown)?;
        self.net.shutdown_write(link)
    }

    fn try_local_addr(&mut self, fd: Fd) -> Result<Addr, Errno> {
        let entry = self.table.get(fd, "getsockname")?;
        self.scripted(Call::LocalAddr)?;
        match entry {
            Entry::Stream(link) => Ok(self.net.links[link].local_addr.clone()),
            Entry::Listener(listener) => Ok(self.net.listeners[listener].addr.clone()),
            Entry::Packets(end) => Ok(self.packets.ends[end].name.clone()),
            Entry::Spare | Entry::Kept => Err(Errno(libc::ENOTSOCK)),
        }
    }

    fn try_take_error(&mut self, fd: Fd) -> Option<Errno> {
        let entry = self.table.get(fd, "getsockopt").ok()?;
        if let Err(errno) = self.scripted(Call::TakeError) {
            if matches!(errno.0, libc::EINPROGRESS | libc::EALREADY | libc::EINTR) {
                // It is not over, so its end will be reported.
                self.net.changed.push(fd);
            }
            return Some(errno);
        }
        match entry {
            Entry::Stream(link) => self.net.links[link].server.error.take(),
            Entry::Packets(end) => self.packets.ends[end].error.take(),
            Entry::Listener(_) | Entry::Spare | Entry::Kept => None,
        }
    }

    fn end(&mut self, fd: Fd, verb: &str, reset: bool) {
        self.poller.remove(fd);
        match self.table.close(fd, verb) {
            Some(Entry::Listener(listener)) => {
                self.net.close_listener(listener);
                self.names.release(Owner::Listener(listener));
            }
            // Unix sockets know no RST.
            Some(Entry::Stream(link)) if reset && !self.net.links[link].is_unix() => {
                self.net.reset_client(link, Errno(libc::ECONNRESET));
            }
            Some(Entry::Stream(link)) => {
                self.net.close(link);
                self.names.release(Owner::Stream(link));
            }
            Some(Entry::Packets(end)) => self.close_packets(end),
            Some(Entry::Kept) => self.forget_kept(fd),
            Some(Entry::Spare) | None => {}
        }
        self.note(|| format!("  {verb} {fd:?}"));
    }
}

/// The verbs: each counts, acts, and leaves its line in the trace.
impl Kernel for SimKernel {
    fn epoch(&self) -> Instant {
        self.base
    }

    fn nanos(&mut self) -> Nanos {
        nanos(self.elapsed())
    }

    fn wall(&mut self) -> SystemTime {
        self.wall_epoch + self.elapsed()
    }

    fn random(&mut self) -> u64 {
        self.dice.roll()
    }

    fn poll(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> Result<(), Errno> {
        self.tally.count(Call::Poll);
        self.stalled = false;
        events.clear();
        let result = self.try_poll(events, timeout);
        self.note(|| {
            let polled = Polled {
                most: timeout,
                result: &result,
                events,
            };
            format!("  {polled}")
        });
        result
    }

    fn register(&mut self, fd: Fd, token: Token, interest: Interest) -> Result<(), Errno> {
        self.tally.count(Call::Register);
        let result = self.try_register(fd, token, interest);
        self.note(|| format!("  register {fd:?} as {token:?}: {}", Done(&result)));
        result
    }

    fn rearm(&mut self, fd: Fd, token: Token) -> Result<bool, Errno> {
        self.tally.count(Call::Rearm);
        let result = self.try_rearm(fd, token);
        self.note(|| format!("  rearm {fd:?} as {token:?}: {}", Said(&result)));
        result
    }

    fn deregister(&mut self, fd: Fd) {
        self.tally.count(Call::Deregister);
        // The misuse is recorded; there is nothing to answer.
        let _ = self.table.get(fd, "deregister");
        self.poller.remove(fd);
        self.note(|| format!("  deregister {fd:?}"));
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.bell.clone()
    }

    fn listen(&mut self, spec: &ListenSpec) -> Result<Fd, Fault> {
        let result = self.try_listen(spec);
        self.note(|| format!("  listen on {}: {}", spec.addr, Said(&result)));
        result
    }

    /// A descriptor of the real process is nothing that this host knows.
    fn adopt_listener(&mut self, _: OwnedFd) -> Result<Adopted, Fault> {
        Err(Fault {
            call: "getsockopt",
            errno: Errno(libc::ENOTSOCK),
        })
    }

    fn backlog_limit(&mut self) -> u32 {
        self.backlog_limit
    }

    fn queue(&mut self, listener: Fd) -> Result<(u32, u32), Errno> {
        self.tally.count(Call::Queue);
        let index = self.listener(listener, "queue")?;
        self.scripted(Call::Queue)?;
        let it = &self.net.listeners[index];
        if it.addr.as_unix().is_some() {
            // TCP_INFO is of TCP.
            return Err(Errno(libc::ENOTSUP));
        }
        Ok((it.queue.len() as u32, it.limit as u32))
    }

    fn take_client(&mut self, listener: Fd) -> Result<Fd, Errno> {
        self.tally.count(Call::Accept);
        let result = self.try_accept(listener);
        self.note(|| match &result {
            Ok((fd, peer)) => format!("  accept on {listener:?}: {fd:?}, from {peer}"),
            Err(_) => format!("  accept on {listener:?}: {}", Said(&result)),
        });
        let (fd, peer) = result?;
        self.client = peer;
        Ok(fd)
    }

    fn client(&mut self) -> crate::peer::Remote {
        self.client.clone().into()
    }

    fn has_options(&mut self, fd: Fd, options: &StreamOptions) -> bool {
        let link = self.stream(fd, "getsockopt");
        link.is_ok_and(|link| self.net.links[link].has_options(options))
    }

    fn set_options(&mut self, fd: Fd, options: &StreamOptions) -> Result<(), Errno> {
        self.tally.count(Call::SetOption);
        let link = self.stream(fd, "setsockopt")?;
        let result = self.scripted(Call::SetOption);
        self.net.links[link].set_options(options);
        self.note(|| format!("  set options of {fd:?}: {}", Done(&result)));
        result
    }

    fn socket(&mut self, spec: &DialSpec) -> Result<Fd, Fault> {
        let result = self.try_socket(spec);
        self.note(|| format!("  socket for {}: {}", spec.remote, Said(&result)));
        result
    }

    fn connect(&mut self, fd: Fd, remote: &Addr) -> Result<(), Errno> {
        self.tally.count(Call::Connect);
        let result = self.try_connect(fd, remote);
        self.note(|| format!("  connect {fd:?} to {remote}: {}", Done(&result)));
        result
    }

    fn peer_addr(&mut self, fd: Fd) -> Result<Addr, Errno> {
        self.tally.count(Call::PeerAddr);
        let result = self.try_peer_addr(fd);
        self.note(|| format!("  peer of {fd:?}: {}", Said(&result)));
        result
    }

    fn recv(&mut self, fd: Fd, buffer: &mut [u8]) -> Moved {
        self.tally.count(Call::Read);
        let result = self.try_read(fd, buffer);
        // Whoever does not ask for them closes those that come.
        drop(self.take_passed(fd));
        let most = buffer.len();
        self.note(|| format!("  read {fd:?}, at most {most}: {}", CameIn(&result, buffer)));
        result.map(|message| message.len).into()
    }

    fn send(&mut self, fd: Fd, bytes: &[u8]) -> Moved {
        self.tally.count(Call::Write);
        let result = self.try_write(fd, std::iter::once(bytes));
        self.note(|| {
            let (len, said, shown) = (bytes.len(), Said(&result), Bytes(bytes));
            format!("  write {fd:?}, {len} bytes: {said} {shown}")
        });
        result.into()
    }

    fn write_parts(&mut self, fd: Fd, parts: &[IoSlice<'_>]) -> Result<usize, Errno> {
        self.tally.count(Call::Write);
        if parts.len() > MAX_PARTS {
            self.table
                .violate(format!("write on {fd:?} of {} parts", parts.len()));
            return Err(Errno(libc::EINVAL));
        }
        let result = self.try_write(fd, parts.iter().map(|part| &**part));
        self.note(|| {
            let (count, said) = (parts.len(), Said(&result));
            let bytes = parts
                .iter()
                .map(|part| &**part)
                .collect::<Vec<_>>()
                .concat();
            let (len, shown) = (bytes.len(), Bytes(&bytes));
            format!("  write {fd:?}, {len} bytes in {count} parts: {said} {shown}")
        });
        result
    }

    fn take_error(&mut self, fd: Fd) -> Option<Errno> {
        self.tally.count(Call::TakeError);
        let result = self.try_take_error(fd);
        self.note(|| match result {
            Some(errno) => format!("  error of {fd:?}: {}", Done(&Err(errno))),
            None => format!("  error of {fd:?}: none"),
        });
        result
    }

    fn shutdown_write(&mut self, fd: Fd) -> Result<(), Errno> {
        self.tally.count(Call::Shutdown);
        let result = self.try_shutdown(fd);
        self.note(|| format!("  shutdown {fd:?}: {}", Done(&result)));
        result
    }

    fn local_addr(&mut self, fd: Fd) -> Result<Addr, Errno> {
        self.tally.count(Call::LocalAddr);
        let result = self.try_local_addr(fd);
        self.note(|| format!("  address of {fd:?}: {}", Said(&result)));
        result
    }

    fn close(&mut self, fd: Fd) {
        self.tally.count(Call::Close);
        self.end(fd, "close", false);
    }

    fn reset(&mut self, fd: Fd) {
        self.tally.count(Call::Reset);
        self.end(fd, "reset", true);
    }

    fn bind(&mut self, spec: &BindSpec) -> Result<Fd, Fault> {
        let result = self.try_bind(spec);
        let (local, remote) = (&spec.local, &spec.remote);
        self.note(|| format!("  bind {local:?} for {remote:?}: {}", Said(&result)));
        result
    }

    fn receive(&mut self, fd: Fd, batch: &mut Batch) -> Result<Came, Errno> {
        self.tally.count(Call::Receive);
        let result = self.try_receive(fd, batch);
        let places = batch.places();
        self.note(|| format!("  receive from {fd:?}, at most {places}: {}", Said(&result)));
        result
    }

    fn send_packets(&mut self, fd: Fd, packets: &[Packet<'_>]) -> Result<usize, Errno> {
        self.tally.count(Call::Send);
        let result = self.try_send(fd, packets);
        let count = packets.len();
        self.note(|| format!("  send {count} datagrams through {fd:?}: {}", Said(&result)));
        result
    }

    fn set_packet_option(&mut self, fd: Fd, option: PacketOption) -> Result<(), Errno> {
        self.tally.count(Call::SetOption);
        let result = self.try_set_packet_option(fd, option);
        self.note(|| format!("  set {option:?} of {fd:?}: {}", Done(&result)));
        result
    }

    fn merges(&self, fd: Fd) -> bool {
        match self.table.peek(fd) {
            Some(Entry::Packets(end)) => self.packets.ends[end].merges,
            _ => false,
        }
    }

    fn path_identity(&mut self, path: &Path) -> Result<PathIdentity, Errno> {
        self.tally.count(Call::Stat);
        let result = self.try_path_identity(path);
        self.note(|| format!("  stat {}: {}", path.display(), Said(&result)));
        result
    }

    fn unlink(&mut self, path: &Path) -> Result<(), Errno> {
        self.tally.count(Call::Unlink);
        let result = self.try_unlink(path);
        self.note(|| format!("  unlink {}: {}", path.display(), Done(&result)));
        result
    }

    fn knock(&mut self, addr: &UnixAddr, transport: Transport) -> Result<(), Errno> {
        self.tally.count(Call::Knock);
        let result = self.try_knock(addr, transport);
        self.note(|| format!("  knock at {addr}: {}", Done(&result)));
        result
    }

    fn peer_cred(&mut self, fd: Fd) -> Result<PeerCred, Errno> {
        self.tally.count(Call::PeerCred);
        let result = self.try_peer_cred(fd);
        self.note(|| format!("  who is at the other end of {fd:?}: {}", Said(&result)));
        result
    }

    fn receive_message(
        &mut self,
        fd: Fd,
        buffer: &mut [u8],
        fds: Option<&mut Vec<OwnedFd>>,
    ) -> Result<Message, Errno> {
        self.tally.count(Call::Read);
        let result = self.try_read(fd, buffer);
        let came = self.take_passed(fd);
        if let Some(fds) = fds {
            fds.extend(came);
        }
        let most = buffer.len();
        self.note(|| {
            format!(
                "  receive from {fd:?}, at most {most}: {}",
                CameIn(&result, buffer)
            )
        });
        result
    }

    fn adopt_stream(&mut self, fd: OwnedFd) -> Result<Adopted, Fault> {
        let result = self.try_adopt(&fd);
        self.note(|| format!("  take a stream over: {}", Said(&result)));
        result
    }

    fn keep(&mut self, fd: OwnedFd) -> Result<Fd, Errno> {
        Ok(self.try_keep(fd))
    }

    fn release(&mut self, fd: Fd) -> Result<OwnedFd, Errno> {
        let result = self.try_release(fd);
        self.note(|| {
            format!(
                "  give {fd:?} away: {}",
                Done(&result.as_ref().map(drop).map_err(|it| *it))
            )
        });
        result
    }

    fn watch(&mut self, fd: Fd, token: Token, interest: Interest) -> Result<(), Errno> {
        self.tally.count(Call::Register);
        let result = self.try_watch(fd, token, interest);
        self.note(|| format!("  watch {fd:?} as {token:?}: {}", Done(&result)));
        result
    }

    fn rewatch(&mut self, fd: Fd, token: Token, _: Interest) -> Result<(), Errno> {
        self.tally.count(Call::Rearm);
        let result = self.try_rewatch(fd, token);
        self.note(|| format!("  watch {fd:?} on as {token:?}: {}", Done(&result)));
        result
    }

    // Sockets of the real process are nothing that this host knows.

    fn adopt_packets(&mut self, _: OwnedFd) -> Result<Adopted, Fault> {
        Err(NO_DESCRIPTORS)
    }

    fn duplicate(&mut self, _: Fd) -> Result<OwnedFd, Errno> {
        Err(NO_DESCRIPTORS.errno)
    }

    fn send_with_fds(&mut self, fd: Fd, bytes: &[u8], fds: &[OwnedFd]) -> Result<usize, Errno> {
        self.tally.count(Call::Write);
        let result = self.try_send_with_fds(fd, bytes, fds);
        self.note(|| {
            let (len, count) = (bytes.len(), fds.len());
            let (said, shown) = (Said(&result), Bytes(bytes));
            format!("  write {fd:?}, {len} bytes and {count} descriptors: {said} {shown}")
        });
        result
    }

    fn interface_index(&mut self, name: &str) -> Option<u32> {
        (name == "lo").then_some(LOOPBACK_INDEX)
    }

    fn look_up(&mut self, ticket: Ticket, host: &str) {
        self.tally.count(Call::LookUp);
        let failure = self.script.next(Call::LookUp);
        let now = self.net.now();
        self.resolver.ask(ticket, host, failure, now);
        self.note(|| format!("  look {host} up as {ticket:?}"));
        self.pass_to(now);
    }

    fn looked_up(&mut self, answers: &mut Vec<LookedUp>) {
        self.resolver.take(answers);
    }

    fn lookup(&mut self, host: &str) -> Result<Vec<IpAddr>, std::io::Error> {
        self.tally.count(Call::Lookup);
        self.scripted(Call::Lookup)?;
        // Waiting for ever would help nobody: what a resolver says that got no answer.
        let no_answer = || Err(std::io::ErrorKind::TimedOut.into());
        self.resolver.resolve(host).unwrap_or_else(no_answer)
    }

    fn descriptor_limit(&mut self) -> u64 {
        self.table.soft_limit
    }

    fn raise_descriptor_limit(&mut self) -> Result<u64, Errno> {
        self.table.soft_limit = self.table.hard_limit;
        Ok(self.table.soft_limit)
    }

    fn spare(&mut self) -> Result<Fd, Errno> {
        self.tally.count(Call::Spare);
        self.scripted(Call::Spare)?;
        let result = self.table.open(Entry::Spare);
        self.note(|| format!("  spare: {}", Said(&result)));
        result
    }

    fn sim(&mut self) -> Option<&mut Self> {
        Some(self)
    }
}

/// Centuries beyond what fits are as good as never.
fn nanos(duration: Duration) -> Nanos {
    Nanos::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}

/// Rounded up, so that a poll is never early.
fn whole_grains(timeout: Duration) -> Nanos {
    let rounded = timeout.as_nanos().div_ceil(POLL_GRAIN) * POLL_GRAIN;
    Nanos::try_from(rounded).unwrap_or(Nanos::MAX)
}

#[cfg(test)]
mod tests;
