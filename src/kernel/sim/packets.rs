//! Datagrams: the ends that exchange them, what is on its way, and the weather between.
//!
//! An end is a socket of the process or a client somewhere else; both follow the same
//! rules of UDP and of Unix datagrams. It collects which descriptors changed and never
//! knows who watches them or how a verb may be made to fail.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use super::fault::Dice;
use super::names::Names;
use super::net::Nanos;
use crate::address::Addr;
use crate::kernel::{Batch, Came, Errno, Fd, PacketOption, Readiness};

mod bind;
mod deliver;
mod verbs;

pub(super) use self::bind::LOOPBACK_INDEX;
pub(crate) use self::verbs::PacketPeer;

/// Bytes that wait in an end at most, if it asked for no other limit: Linux's
/// net.core.rmem_default.
const DEFAULT_RECEIVE_BUFFER: usize = 212_992;
/// The longest Unix datagram, if the socket asked for no other: Linux's
/// net.core.wmem_default.
const DEFAULT_SEND_BUFFER: usize = 212_992;
/// Unix datagrams that wait in a socket at most: Linux's net.unix.max_dgram_qlen.
const UNIX_QUEUE: usize = 10;
/// What 16 bits can say, less the headers of IPv4 and UDP.
const MAX_IPV4_PAYLOAD: usize = 65_507;
/// The same on IPv6, whose header does not count.
const MAX_IPV6_PAYLOAD: usize = 65_527;
/// Datagrams that are merged into one: Linux's UDP_GRO_CNT_MAX.
const MOST_MERGED: usize = 64;

/// Everything that datagrams need.
#[derive(Debug)]
pub(super) struct Packets {
    pub(super) ends: Vec<End>,
    calendar: BTreeMap<(Nanos, u64), Parcel>,
    serial: u64,
    now: Nanos,
    /// Descriptors whose state changed, in order, not yet told to the poller.
    pub(super) changed: Vec<Fd>,
    pub(super) weather: Weather,
    /// The send buffers of the process are full.
    full: bool,
    /// Most datagrams that one call sends or receives.
    pub(super) most: usize,
    next_port: u16,
}

/// What the network does to datagrams, but not to those between Unix sockets.
#[derive(Debug, Default)]
pub(super) struct Weather {
    /// One way.
    pub(super) latency: Nanos,
    /// One in so many is lost. 0: none.
    pub(super) loss: u64,
    /// One in so many arrives twice. 0: none.
    pub(super) duplicates: u64,
    /// Each is delayed by up to so much, whatever was sent before it.
    pub(super) disorder: Nanos,
}

/// Whoever can send and receive datagrams.
#[derive(Debug)]
pub(super) struct End {
    /// `None`: a client, somewhere outside of the process.
    fd: Option<Fd>,
    open: bool,
    /// Port 0, or no name, while it is not bound.
    pub(super) name: Addr,
    /// Whom it is connected to.
    pub(super) peer: Option<Addr>,
    /// On Unix: the very socket that it is connected to, whatever becomes of the name.
    partner: Option<usize>,
    queue: VecDeque<Datagram>,
    queued_bytes: usize,
    receive_limit: usize,
    send_limit: usize,
    /// What SO_ERROR holds.
    pub(super) error: Option<Errno>,
    /// The last send was refused for want of room: room is news.
    blocked: bool,
    only_v6: bool,
    reuse_addr: bool,
    reuse_port: bool,
    broadcast: bool,
    destinations: bool,
    pub(super) merges: bool,
    groups: Vec<(IpAddr, u32)>,
    multicast_loop: bool,
    /// As they were set, the last of each kind.
    #[cfg_attr(not(test), allow(dead_code, reason = "tests look at them"))]
    pub(super) options: Vec<PacketOption>,
    /// Of a client: it leaves in the queue what arrives.
    stuck: bool,
    /// Of a client: what it has received.
    taken: Vec<(Addr, Vec<u8>)>,
}

/// One datagram that waits to be received.
#[derive(Clone, Debug)]
struct Datagram {
    from: Addr,
    to: Addr,
    bytes: Vec<u8>,
}

/// Something on its way.
#[derive(Debug)]
enum Parcel {
    Datagram {
        sender: usize,
        datagram: Datagram,
    },
    /// ICMP's word that nobody is there, on its way back to the sender.
    Refusal {
        sender: usize,
    },
}

impl End {
    /// What waits first, and where to cut it if those behind it were merged with it: from the
    /// same sender and of the same size, except that the last one may be shorter.
    fn take(&mut self) -> Option<(Datagram, usize)> {
        let mut first = self.queue.pop_front()?;
        self.queued_bytes -= first.bytes.len();
        let (size, mut last) = (first.bytes.len(), first.bytes.len());
        let mut merged = 1;
        while self.merges
            && merged < MOST_MERGED
            && let Some(next) = self.queue.front()
            && (&next.from, &next.to) == (&first.from, &first.to)
            && last == size
            && (1..=size).contains(&next.bytes.len())
            && first.bytes.len() + next.bytes.len() <= MAX_IPV4_PAYLOAD
            && let Some(next) = self.queue.pop_front()
        {
            self.queued_bytes -= next.bytes.len();
            last = next.bytes.len();
            first.bytes.extend(next.bytes);
            merged += 1;
        }
        let segment = if merged > 1 { size } else { 0 };
        Some((first, segment))
    }
}

impl Packets {
    pub(super) fn new() -> Self {
        Self {
            ends: Vec::new(),
            calendar: BTreeMap::new(),
            serial: 0,
            now: 0,
            changed: Vec::new(),
            weather: Weather::default(),
            full: false,
            most: usize::MAX,
            next_port: super::addresses::FIRST_DYNAMIC_PORT,
        }
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
            let ((due, _), parcel) = entry.remove_entry();
            self.now = self.now.max(due);
            self.arrived(parcel);
        }
        self.now = self.now.max(to);
    }

    /// What is true of an end now, as datagram_poll and unix_dgram_poll answer it.
    pub(super) fn state(&self, end: usize) -> Readiness {
        let it = &self.ends[end];
        let mut ready = Readiness::default();
        if !it.queue.is_empty() {
            ready.insert(Readiness::READABLE);
        }
        if self.has_room(end) {
            ready.insert(Readiness::WRITABLE);
        }
        if it.error.is_some() {
            ready.insert(Readiness::ERROR);
        }
        ready
    }

    /// One receive call: the pending error, or what waits, as far as the batch has places.
    pub(super) fn receive(&mut self, end: usize, batch: &mut Batch) -> Result<Came, Errno> {
        let it = &mut self.ends[end];
        // As in __skb_try_recv_datagram: the error goes before what waits.
        if let Some(error) = it.error.take() {
            return Err(error);
        }
        if it.queue.is_empty() {
            return Err(Errno(libc::EAGAIN));
        }
        let most = batch.places().min(self.most);
        let size = batch.size();
        let mut count = 0;
        while count < most
            && let Some((datagram, segment)) = it.take()
        {
            let (places, arrivals) = batch.parts();
            let len = datagram.bytes.len().min(size);
            places[count * size..count * size + len].copy_from_slice(&datagram.bytes[..len]);
            let arrival = &mut arrivals[count];
            arrival.len = len;
            arrival.truncated = len < datagram.bytes.len();
            arrival.from = datagram.from;
            arrival.to = it.destinations.then(|| datagram.to.ip()).flatten();
            arrival.segment = segment;
            count += 1;
        }
        self.announce_partners(end);
        let drained = count < most;
        Ok(Came { count, drained })
    }

    /// One datagram of an end. `to` goes before whom the end is connected to, as on Linux.
    pub(super) fn send(
        &mut self,
        end: usize,
        bytes: &[u8],
        to: Option<&Addr>,
        names: &Names,
        dice: &mut Dice,
    ) -> Result<(), Errno> {
        let sent = match self.ends[end].name {
            Addr::Ip(_) => self.send_ip(end, bytes, to, dice),
            Addr::Unix(_) => self.send_unix(end, bytes, to, names),
        };
        if sent.is_ok() {
            self.ends[end].blocked = false;
        }
        sent
    }

    /// A send is told that there is no room: the next room, or the present one, is news.
    pub(super) fn refuse(&mut self, end: usize) {
        self.ends[end].blocked = true;
        self.announce_room(end);
    }

    /// Whether the send buffers of the process are full, from now on.
    pub(super) fn set_full(&mut self, full: bool) {
        self.full = full;
        for end in 0..self.ends.len() {
            self.announce_room(end);
        }
    }

    pub(super) fn close(&mut self, end: usize) {
        let it = &mut self.ends[end];
        it.open = false;
        it.queue.clear();
        it.queued_bytes = 0;
        it.groups.clear();
        self.announce_partners(end);
    }

    /// Whether a client leaves in its queue what arrives.
    pub(super) fn set_stuck(&mut self, client: usize, stuck: bool) {
        self.ends[client].stuck = stuck;
        self.client_receives(client);
    }

    /// Takes what a client has received since the last call.
    pub(super) fn taken(&mut self, client: usize) -> Vec<(Addr, Vec<u8>)> {
        std::mem::take(&mut self.ends[client].taken)
    }

    fn has_room(&self, end: usize) -> bool {
        let full = self.full && self.ends[end].fd.is_some();
        let partner = self.ends[end].partner;
        !full && partner.is_none_or(|partner| !self.is_crowded(partner, end))
    }

    /// Room is an event only for a sender that was refused, and each time until it has sent:
    /// what was announced may be gone before anybody polls.
    fn announce_room(&mut self, end: usize) {
        if self.ends[end].blocked && self.has_room(end) {
            self.mark(end);
        }
    }

    /// The queue of `end` has room, or is gone: who is connected to it is told. Who only
    /// sends to it hears nothing, as on Linux.
    fn announce_partners(&mut self, end: usize) {
        for other in 0..self.ends.len() {
            if self.ends[other].partner == Some(end) {
                self.announce_room(other);
            }
        }
    }

    /// A client takes what waits for it, unless it is stuck.
    fn client_receives(&mut self, client: usize) {
        let it = &mut self.ends[client];
        if it.stuck {
            return;
        }
        let come = it.queue.drain(..);
        it.taken.extend(come.map(|it| (it.from, it.bytes)));
        it.queued_bytes = 0;
        self.announce_partners(client);
    }

    fn mark(&mut self, end: usize) {
        if let (Some(fd), true) = (self.ends[end].fd, self.ends[end].open) {
            self.changed.push(fd);
        }
    }
}
