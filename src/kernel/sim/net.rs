//! The simulated network: its clock, its listeners, its connections.
//!
//! Owns what TCP owns: buffers, queues, FIN, RST, and the calendar of what is still under
//! way. It collects which descriptors changed and never knows who watches them, how a
//! verb may be made to fail, or what a token is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use self::dial::Outcome;
pub use self::dial::Remote;
use super::addresses::{FIRST_DYNAMIC_PORT, following, loopback, overlap};
use super::pipe::Pipe;
use super::run::{Moved, Run};
use crate::address::Addr;
use crate::kernel::{Errno, Fd, ListenSpec, Message, Readiness, StreamOptions, Transport};

mod dial;
mod local;

/// Virtual nanoseconds since the kernel was made.
pub(super) type Nanos = u64;

/// Half of what one direction holds; 64 KiB in all.
const DEFAULT_BUFFER: usize = 32 * 1024;

/// Everything outside the process.
#[derive(Debug)]
pub(super) struct Net {
    now: Nanos,
    calendar: BTreeMap<(Nanos, u64), Happening>,
    serial: u64,
    pub(super) links: Vec<Link>,
    pub(super) listeners: Vec<Listener>,
    /// Descriptors whose state changed, in order, not yet told to the poller.
    pub(super) changed: Vec<Fd>,
    /// Links whose next piece arrives at the next poll.
    pieces: BTreeSet<usize>,
    /// Most bytes that arrive between two polls.
    pub(super) piece: Option<usize>,
    /// One way, for bytes, FIN and RST of a client and for bytes and FIN to it.
    pub(super) latency: Nanos,
    pub(super) send_capacity: usize,
    pub(super) receive_capacity: usize,
    next_port: u16,
    next_client_port: u16,
    remotes: BTreeMap<Addr, Remote>,
    /// Links whose other end nobody has asked for, oldest first.
    dialed: VecDeque<usize>,
}

/// Something on its way.
#[derive(Clone, Copy, Debug)]
enum Happening {
    /// What was put in up to a position has crossed the wire.
    Crossed {
        link: usize,
        way: Way,
        position: u64,
    },
    /// The client's RST reaches us.
    Reset { link: usize },
    /// A connect of ours ends.
    Answered { link: usize, outcome: Outcome },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// Client to server.
    Up,
    /// Server to client.
    Down,
}

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) fd: Fd,
    pub(super) addr: Addr,
    pub(super) transport: Transport,
    only_v6: bool,
    reuse_port: bool,
    open: bool,
    options: StreamOptions,
    pub(super) limit: usize,
    pub(super) queue: VecDeque<usize>,
    /// Clients that found the queue full and try again when there is room.
    syn: VecDeque<usize>,
}

/// Where the server's end of a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// The accept queue of this listener was full.
    Syn(usize),
    Queued,
    /// A socket of the process, on which connect was not called yet.
    Fresh(Fd),
    /// A socket whose connect failed on the spot: of no further use.
    Spoilt(Fd),
    /// Connect was called, and nobody has answered.
    Dialing(Fd),
    /// The process has it: accepted, or dialed and answered, with success or not.
    Open(Fd),
    /// The process has it, and the loop does not: nobody is told of anything.
    Away,
    /// Closed by the process; the kernel still delivers what was written.
    Orphan,
    Gone,
}

/// One connection, both ends of it.
#[derive(Debug)]
pub(super) struct Link {
    /// Of the end that a test plays.
    pub(super) peer_addr: Addr,
    /// Of the end that is, or may become, a descriptor.
    pub(super) local_addr: Addr,
    /// The process opened it; otherwise a client did.
    dialed: bool,
    /// The process has the other end, too: as a link of its own, which carries what this
    /// one's client would have sent and received.
    twin: Option<usize>,
    pub(super) stage: Stage,
    pub(super) options: StreamOptions,
    pub(super) up: Pipe,
    pub(super) down: Pipe,
    pub(super) server: ServerEnd,
    pub(super) client: ClientEnd,
}

#[derive(Debug, Default)]
pub(super) struct ServerEnd {
    /// RST has come.
    pub(super) reset: bool,
    /// What SO_ERROR holds.
    pub(super) error: Option<Errno>,
    /// A write was refused or cut short for want of room: the next room is news.
    pub(super) blocked: bool,
    /// On a Unix socket: the other end is closed, and takes no more.
    pub(super) hung_up: bool,
}

#[derive(Debug, Default)]
pub(super) struct ClientEnd {
    /// What the client wants to send and the network has not taken.
    pub(super) outbox: Run,
    pub(super) taken: Run,
    pub(super) paused: bool,
    /// FIN follows the outbox.
    pub(super) shut: bool,
    pub(super) closed: bool,
    pub(super) saw_eof: bool,
    pub(super) error: Option<Errno>,
}

impl Net {
    pub(super) fn new() -> Self {
        Self {
            now: 0,
            calendar: BTreeMap::new(),
            serial: 0,
            links: Vec::new(),
            listeners: Vec::new(),
            changed: Vec::new(),
            pieces: BTreeSet::new(),
            piece: None,
            latency: 0,
            send_capacity: DEFAULT_BUFFER,
            receive_capacity: DEFAULT_BUFFER,
            next_port: FIRST_DYNAMIC_PORT,
            next_client_port: FIRST_DYNAMIC_PORT,
            remotes: BTreeMap::new(),
            dialed: VecDeque::new(),
        }
    }

    // Time.

    pub(super) fn now(&self) -> Nanos {
        self.now
    }

    /// When the next thing that is under way arrives.
    pub(super) fn next_due(&self) -> Option<Nanos> {
        self.calendar.keys().next().map(|&(due, _)| due)
    }

    /// Moves the clock to `to`, never back, delivering in order what falls due before.
    pub(super) fn advance_to(&mut self, to: Nanos) {
        while let Some(entry) = self.calendar.first_entry()
            && entry.key().0 <= to
        {
            let ((due, _), happening) = entry.remove_entry();
            self.now = self.now.max(due);
            match happening {
                Happening::Crossed {
                    link,
                    way,
                    position,
                } => self.crossed(link, way, position),
                Happening::Reset { link } => self.reset_arrives(link),
                Happening::Answered { link, outcome } => self.answered(link, outcome),
            }
        }
        self.now = self.now.max(to);
    }

    /// A poll begins: the next piece of whatever is delivered in pieces arrives.
    pub(super) fn deliver_pieces(&mut self) {
        for link in std::mem::take(&mut self.pieces) {
            self.deliver_up(link, self.piece.unwrap_or(usize::MAX));
            if self.links[link].up.has_arrivals() {
                self.pieces.insert(link);
            }
        }
    }

    /// Whether a poll would deliver another piece.
    pub(super) fn has_pieces(&self) -> bool {
        !self.pieces.is_empty()
    }

    /// One way from now.
    fn schedule(&mut self, happening: Happening) {
        self.schedule_in(self.latency, happening);
    }

    fn schedule_in(&mut self, wait: Nanos, happening: Happening) {
        self.serial += 1;
        let due = self.now.saturating_add(wait);
        self.calendar.insert((due, self.serial), happening);
    }

    // Listeners.

    /// The address that binding to `addr` gives, or EADDRINUSE.
    pub(super) fn bind(&mut self, spec: &ListenSpec) -> Result<SocketAddr, Errno> {
        let unknown = Errno(libc::EAFNOSUPPORT);
        let mut addr = spec.addr.as_socket_addr().ok_or(unknown)?;
        if addr.port() != 0 {
            return self
                .may_bind(addr, spec)
                .then_some(addr)
                .ok_or(Errno(libc::EADDRINUSE));
        }
        for _ in FIRST_DYNAMIC_PORT..=u16::MAX {
            addr.set_port(self.next_port);
            self.next_port = following(self.next_port);
            if self.may_bind(addr, spec) {
                return Ok(addr);
            }
        }
        Err(Errno(libc::EADDRINUSE))
    }

    fn may_bind(&self, addr: SocketAddr, spec: &ListenSpec) -> bool {
        let asked = (addr, spec.only_v6);
        let in_the_way = |it: &Listener| {
            let shared = it.reuse_port && spec.reuse_port;
            it.open && !shared && it.is_at(asked)
        };
        !self.listeners.iter().any(in_the_way)
    }

    pub(super) fn listen(&mut self, fd: Fd, addr: Addr, spec: &ListenSpec, limit: usize) {
        self.listeners.push(Listener {
            fd,
            addr,
            transport: spec.transport,
            only_v6: spec.only_v6,
            reuse_port: spec.reuse_port,
            open: true,
            options: spec.stream,
            limit,
            queue: VecDeque::new(),
            syn: VecDeque::new(),
        });
    }

    /// One connection off the queue; the room it leaves goes to a client that found none.
    pub(super) fn accept(&mut self, listener: usize) -> Option<usize> {
        let link = self.listeners[listener].queue.pop_front()?;
        if let Some(waiting) = self.listeners[listener].syn.pop_front() {
            self.join(waiting, listener);
            self.push_outbox(waiting);
        }
        Some(link)
    }

    /// Whoever was waiting for this listener is reset or refused.
    pub(super) fn close_listener(&mut self, listener: usize) {
        self.listeners[listener].open = false;
        for link in std::mem::take(&mut self.listeners[listener].queue) {
            self.reset_client(link, Errno(libc::ECONNRESET));
        }
        for link in std::mem::take(&mut self.listeners[listener].syn) {
            self.reset_client(link, Errno(libc::ECONNREFUSED));
        }
    }

    /// A new link in the queue of the listener for `addr`. `chance` chooses among several
    /// listeners that share a port.
    pub(super) fn new_client(&mut self, addr: SocketAddr, chance: u64) -> Result<usize, Errno> {
        let listener = self.find(addr, chance).ok_or(Errno(libc::ECONNREFUSED))?;
        let from = self.client_addr(addr);
        let options = self.listeners[listener].options;
        let link = self.add_link(Stage::Syn(listener), addr.into(), from.into(), &options);
        self.join(link, listener);
        Ok(link)
    }

    fn add_link(
        &mut self,
        stage: Stage,
        local_addr: Addr,
        peer_addr: Addr,
        options: &StreamOptions,
    ) -> usize {
        let (mut send, mut receive) = (self.send_capacity, self.receive_capacity);
        if matches!(local_addr, Addr::Unix(_)) {
            // Nothing lies between two ends on one host.
            (send, receive) = (0, send.saturating_add(receive));
        }
        let mut link = Link {
            peer_addr,
            local_addr,
            dialed: false,
            twin: None,
            stage,
            options: StreamOptions::default(),
            up: Pipe::new(send, receive),
            down: Pipe::new(send, receive),
            server: ServerEnd::default(),
            client: ClientEnd::default(),
        };
        link.set_options(options);
        self.links.push(link);
        self.links.len() - 1
    }

    /// Exact addresses go before wildcards, as in the kernel's look-up.
    fn find(&self, addr: SocketAddr, chance: u64) -> Option<usize> {
        let serving = |wildcard: bool| -> Vec<usize> {
            let serves = |it: &Listener| {
                it.open
                    && it.addr.ip().is_some_and(|ip| ip.is_unspecified()) == wildcard
                    && it.is_at((addr, true))
            };
            let all = self.listeners.iter().enumerate();
            all.filter(|(_, it)| serves(it))
                .map(|(index, _)| index)
                .collect()
        };
        let exact = serving(false);
        let found = if exact.is_empty() {
            serving(true)
        } else {
            exact
        };
        let place = chance.checked_rem(found.len() as u64)?;
        found.get(place as usize).copied()
    }

    fn client_addr(&mut self, server: SocketAddr) -> SocketAddr {
        let port = self.next_client_port;
        self.next_client_port = following(port);
        SocketAddr::new(loopback(server), port)
    }

    fn join(&mut self, link: usize, listener: usize) {
        let to = &mut self.listeners[listener];
        if to.queue.len() < to.limit {
            to.queue.push_back(link);
            self.changed.push(to.fd);
            self.links[link].stage = Stage::Queued;
            self.answer_twin(link);
        } else {
            to.syn.push_back(link);
        }
    }

    // The server's end.

    /// One receive call: bytes, or one record. Nothing at all is the end.
    pub(super) fn read(&mut self, link: usize, buffer: &mut [u8]) -> Result<Message, Errno> {
        let it = &mut self.links[link];
        it.unconnected(libc::ENOTCONN, libc::EAGAIN)?;
        if !it.up.has_input() {
            // As in tcp_recvmsg: a FIN that came first hides the error of a later RST.
            if (it.is_unix() || !it.up.fin_received())
                && let Some(error) = it.server.error.take()
            {
                return Err(error);
            }
            let ended = it.up.fin_received() || it.server.reset || buffer.is_empty();
            return if ended {
                Ok(Message {
                    len: 0,
                    truncated: false,
                })
            } else {
                Err(Errno(libc::EAGAIN))
            };
        }
        let message = it.up.take(buffer);
        let twin = it.twin;
        self.push_outbox(link);
        if let Some(twin) = twin {
            self.flow_down(twin);
        }
        self.flow_up(link);
        Ok(message)
    }

    /// Takes what fits of `parts`, and at most `most` bytes.
    pub(super) fn write<'a>(
        &mut self,
        link: usize,
        parts: impl Iterator<Item = &'a [u8]> + Clone,
        most: usize,
    ) -> Result<usize, Errno> {
        let it = &mut self.links[link];
        it.unconnected(libc::EPIPE, libc::EAGAIN)?;
        // As in unix_stream_sendmsg: the error is left for the reader.
        if it.is_unix() && (it.server.reset || it.server.hung_up) {
            return Err(Errno(libc::EPIPE));
        }
        if let Some(error) = it.server.error.take() {
            return Err(error);
        }
        if it.server.reset || it.down.finished() {
            return Err(Errno(libc::EPIPE));
        }
        if it.down.keeps_bounds() {
            return self.write_record(link, &parts.collect::<Vec<_>>().concat());
        }
        let wanted: usize = parts.clone().map(<[u8]>::len).sum();
        let mut count = 0;
        for part in parts {
            let part = &part[..part.len().min(most - count)];
            let put = it.down.put(part);
            count += put;
            if put < part.len() {
                break;
            }
        }
        // Cut short with room left, nobody is told of room: whoever goes on finds it.
        it.server.blocked |= count < wanted && it.down.room() == 0;
        if wanted > 0 && count == 0 {
            return Err(Errno(libc::EAGAIN));
        }
        self.launch(link, Way::Down);
        self.announce_room(link);
        Ok(count)
    }

    /// A write is told that there is no room: the next room, or the present one, is news.
    pub(super) fn refuse(&mut self, link: usize) {
        self.links[link].server.blocked = true;
        self.announce_room(link);
    }

    pub(super) fn shutdown_write(&mut self, link: usize) -> Result<(), Errno> {
        self.links[link].unconnected(libc::ENOTCONN, libc::ENOTCONN)?;
        if self.links[link].server.reset && !self.links[link].is_unix() {
            return Err(Errno(libc::ENOTCONN));
        }
        self.links[link].down.finish();
        // Linux wakes whoever polls the socket: it is writable (EPIPE) from now on.
        self.mark(link);
        self.launch(link, Way::Down);
        Ok(())
    }

    /// close(2): unread input turns the FIN into an RST, which destroys what is on its way.
    pub(super) fn close(&mut self, link: usize) {
        if self.links[link].state_unconnected().is_some() {
            self.give_up(link);
        } else if self.links[link].is_unix() {
            self.close_unix(link);
        } else if self.links[link].server.reset {
            self.links[link].stage = Stage::Gone;
        } else if self.links[link].up.available() > 0 {
            self.reset_client(link, Errno(libc::ECONNRESET));
        } else {
            self.links[link].stage = Stage::Orphan;
            self.links[link].down.finish();
            self.launch(link, Way::Down);
        }
    }

    /// Our RST reaches the client: what it has not received is lost, what it has stays.
    pub(super) fn reset_client(&mut self, link: usize, error: Errno) {
        if self.links[link].state_unconnected().is_some() {
            return self.give_up(link);
        }
        let it = &mut self.links[link];
        it.stage = Stage::Gone;
        it.up.destroy();
        it.down.destroy();
        it.client.outbox.clear();
        if !it.client.closed && !it.client.saw_eof {
            it.client.error.get_or_insert(error);
        }
        if let Some(twin) = it.twin.take() {
            self.reset_twin(twin, error);
        }
    }

    // The client's end.

    /// Bytes taken from a client that has nothing waiting before them.
    #[cfg(test)]
    pub(super) fn client_send(&mut self, link: usize, bytes: &[u8]) -> usize {
        let it = &mut self.links[link];
        if !it.client_may_send()
            || !it.client.outbox.is_empty()
            || matches!(it.stage, Stage::Syn(_))
        {
            return 0;
        }
        let count = it.up.put(bytes);
        self.launch(link, Way::Up);
        count
    }

    /// Moves what there is room for out of the client's outbox, then its FIN.
    pub(super) fn push_outbox(&mut self, link: usize) {
        let it = &mut self.links[link];
        if matches!(it.stage, Stage::Syn(_) | Stage::Gone) || it.up.finished() {
            return;
        }
        let moved = it.up.put_from(&mut it.client.outbox);
        let finish = it.client.shut && it.client.outbox.is_empty();
        if finish {
            it.up.finish();
            it.server.hung_up |= it.is_unix() && it.client.closed;
        }
        if finish || moved != Moved::default() {
            self.launch(link, Way::Up);
        }
    }

    /// The client reads what has arrived, unless it is paused or gone.
    pub(super) fn client_reads(&mut self, link: usize) {
        self.flow_down(link);
    }

    /// The client closes: FIN behind what it has sent, or RST if it leaves input unread.
    pub(super) fn client_closes(&mut self, link: usize) {
        if self.withdraw(link) || std::mem::replace(&mut self.links[link].client.closed, true) {
            return;
        }
        if self.links[link].down.has_input() {
            if self.links[link].is_unix() {
                self.deliver_up(link, usize::MAX);
            }
            self.links[link].up.destroy();
            self.reset_server(link);
        } else {
            self.links[link].client.shut = true;
            self.push_outbox(link);
        }
    }

    /// The client sends RST; it overtakes nothing that is on the wire before it.
    pub(super) fn client_resets(&mut self, link: usize) {
        if self.withdraw(link) {
            return;
        }
        self.links[link].client.closed = true;
        self.links[link].client.outbox.clear();
        if self.latency == 0 || self.links[link].is_unix() {
            self.reset_arrives(link);
        } else {
            self.schedule(Happening::Reset { link });
        }
    }

    /// A client that is still waiting for room in the queue goes away unseen.
    fn withdraw(&mut self, link: usize) -> bool {
        let Stage::Syn(listener) = self.links[link].stage else {
            return false;
        };
        self.listeners[listener]
            .syn
            .retain(|&waiting| waiting != link);
        self.links[link].stage = Stage::Gone;
        self.links[link].client.closed = true;
        true
    }

    // The wire.

    fn launch(&mut self, link: usize, way: Way) {
        let position = self.links[link].pipe(way).sent();
        if self.latency == 0 || self.links[link].is_unix() {
            self.crossed(link, way, position);
        } else {
            self.schedule(Happening::Crossed {
                link,
                way,
                position,
            });
        }
    }

    fn crossed(&mut self, link: usize, way: Way, position: u64) {
        self.links[link].pipe(way).ripen(position);
        match way {
            Way::Up => self.flow_up(link),
            Way::Down => self.flow_down(link),
        }
    }

    fn flow_up(&mut self, link: usize) {
        if self.piece.is_some() || self.pieces.contains(&link) {
            if self.links[link].up.has_arrivals() {
                self.pieces.insert(link);
            }
        } else {
            self.deliver_up(link, usize::MAX);
        }
    }

    fn deliver_up(&mut self, link: usize, most: usize) {
        let arrival = self.links[link].up.arrive(most);
        if arrival.bytes > 0 && self.links[link].stage == Stage::Orphan {
            self.reset_client(link, Errno(libc::ECONNRESET));
        } else if !arrival.is_empty() {
            self.mark(link);
        }
    }

    fn flow_down(&mut self, link: usize) {
        loop {
            let it = &mut self.links[link];
            let arrival = it.down.arrive(usize::MAX);
            if it.client.closed {
                if arrival.bytes > 0 {
                    it.up.destroy();
                    self.reset_server(link);
                }
                break;
            }
            if let Some(twin) = it.twin {
                self.relay(link, twin);
            } else if !it.client.paused {
                it.down.take_into(&mut it.client.taken, usize::MAX);
                it.client.saw_eof |= it.down.fin_received() && it.client.error.is_none();
            }
            if arrival.is_empty() && !self.links[link].down.has_arrivals() {
                break;
            }
        }
        self.announce_room(link);
    }

    /// Room is an event only for a writer that was refused.
    fn announce_room(&mut self, link: usize) {
        let it = &mut self.links[link];
        if it.server.blocked && it.down.room() > 0 {
            it.server.blocked = false;
            self.mark(link);
        }
    }

    fn reset_arrives(&mut self, link: usize) {
        self.deliver_up(link, usize::MAX);
        self.links[link].up.destroy();
        self.reset_server(link);
    }

    fn reset_server(&mut self, link: usize) {
        let it = &mut self.links[link];
        if it.server.reset || it.stage == Stage::Gone {
            return;
        }
        it.server.reset = true;
        // As in tcp_reset: in CLOSE_WAIT the error is EPIPE.
        let errno = if it.up.fin_received() && !it.is_unix() {
            libc::EPIPE
        } else {
            libc::ECONNRESET
        };
        it.server.error = Some(Errno(errno));
        it.down.destroy();
        if it.stage == Stage::Orphan {
            it.stage = Stage::Gone;
        }
        self.mark(link);
    }

    fn mark(&mut self, link: usize) {
        if let Stage::Open(fd) = self.links[link].stage {
            self.changed.push(fd);
        }
    }
}

impl Listener {
    /// Whether an address (with its IPV6_V6ONLY) can mean this listener.
    fn is_at(&self, asked: (SocketAddr, bool)) -> bool {
        let own = self.addr.as_socket_addr();
        own.is_some_and(|own| overlap(asked, (own, self.only_v6)))
    }

    pub(super) fn state(&self) -> Readiness {
        if self.queue.is_empty() {
            Readiness::default()
        } else {
            Readiness::READABLE
        }
    }
}

impl Link {
    /// As tcp_poll answers it.
    pub(super) fn state(&self) -> Readiness {
        if let Some(ready) = self.state_unconnected() {
            return ready;
        }
        let mut ready = Readiness::default();
        let reset = self.server.reset;
        let ended = self.up.fin_received() || reset;
        let shut = self.down.finished() || reset || self.server.hung_up;
        if self.up.has_input() || ended {
            ready.insert(Readiness::READABLE);
        }
        if self.down.room() > 0 || shut {
            ready.insert(Readiness::WRITABLE);
        }
        if ended {
            ready.insert(Readiness::READ_CLOSED);
        }
        if ended && shut {
            ready.insert(Readiness::WRITE_CLOSED);
        }
        if self.server.error.is_some() {
            ready.insert(Readiness::ERROR);
        }
        ready
    }

    /// What is asked replaces what was; buffer sizes become those of the directions.
    pub(super) fn set_options(&mut self, asked: &StreamOptions) {
        self.options.nodelay = asked.nodelay.or(self.options.nodelay);
        self.options.keepalive = asked.keepalive.or(self.options.keepalive);
        match asked.send_buffer {
            // What is sent lies in the receiver's queue, and counts as the sender's.
            Some(bytes) if self.is_unix() => self.down.receive_capacity = bytes,
            Some(bytes) => self.down.send_capacity = bytes,
            None => {}
        }
        if let Some(bytes) = asked.receive_buffer.filter(|_| !self.is_unix()) {
            self.up.receive_capacity = bytes;
        }
    }

    /// Buffer sizes aren't compared, since every system hands them down.
    pub(super) fn has_options(&self, asked: &StreamOptions) -> bool {
        let nodelay = self.options.nodelay.unwrap_or(false);
        self.is_unix()
            || asked.nodelay.is_none_or(|it| it == nodelay)
                && (asked.keepalive.is_none() || asked.keepalive == self.options.keepalive)
    }

    pub(super) fn client_may_send(&self) -> bool {
        let gone = match self.stage {
            Stage::Gone => true,
            Stage::Orphan => self.is_unix(),
            _ => false,
        };
        !self.client.shut && !self.client.closed && !gone
    }

    fn pipe(&mut self, way: Way) -> &mut Pipe {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }
}
