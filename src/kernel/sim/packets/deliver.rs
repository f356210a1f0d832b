//! From one end to another: who is meant, what the weather makes of it, and what comes back.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{Datagram, End, MAX_IPV4_PAYLOAD, MAX_IPV6_PAYLOAD, Packets, Parcel, UNIX_QUEUE};
use crate::address::Addr;
use crate::kernel::Errno;
use crate::kernel::sim::addresses::{canonical, loopback, overlap, reachable};
use crate::kernel::sim::fault::Dice;
use crate::kernel::sim::names::{Names, Owner};
use crate::kernel::sim::net::Nanos;

impl Packets {
    /// As udp_sendmsg, in its order: where to, how long, what is pending, whether there
    /// is room.
    pub(super) fn send_ip(
        &mut self,
        end: usize,
        bytes: &[u8],
        to: Option<&Addr>,
        dice: &mut Dice,
    ) -> Result<(), Errno> {
        let to = self.destination(end, to)?;
        let longest = match to {
            SocketAddr::V4(_) => MAX_IPV4_PAYLOAD,
            SocketAddr::V6(_) => MAX_IPV6_PAYLOAD,
        };
        if bytes.len() > longest {
            return Err(Errno(libc::EMSGSIZE));
        }
        if let Some(error) = self.ends[end].error.take() {
            return Err(error);
        }
        if !self.has_room(end) {
            self.ends[end].blocked = true;
            return Err(Errno(libc::EAGAIN));
        }
        let from = self.departure(end, to)?;
        let datagram = Datagram {
            from: from.into(),
            to: to.into(),
            bytes: bytes.to_vec(),
        };
        self.post(end, &datagram, dice);
        Ok(())
    }

    /// Where a datagram goes, if it may go there.
    fn destination(&self, end: usize, to: Option<&Addr>) -> Result<SocketAddr, Errno> {
        let it = &self.ends[end];
        let to = to.or(it.peer.as_ref()).ok_or(Errno(libc::EDESTADDRREQ))?;
        let to = to.as_socket_addr().ok_or(Errno(libc::EAFNOSUPPORT))?;
        let to = reachable(canonical(to));
        if to.port() == 0 {
            return Err(Errno(libc::EINVAL));
        }
        it.may_reach(to)?;
        let to_all = to.ip() == IpAddr::V4(Ipv4Addr::BROADCAST);
        if to_all && !it.broadcast {
            return Err(Errno(libc::EACCES));
        }
        Ok(to)
    }

    /// Where a datagram comes from; an end without a port gets one now.
    fn departure(&mut self, end: usize, to: SocketAddr) -> Result<SocketAddr, Errno> {
        let unknown = Errno(libc::EAFNOSUPPORT);
        let mut name = self.ends[end].name.as_socket_addr().ok_or(unknown)?;
        if name.port() == 0 {
            name = self.bind_ip(name, &self.ends[end].sharing())?;
            self.ends[end].name = name.into();
        }
        if name.ip().is_unspecified() {
            name.set_ip(loopback(to));
        }
        Ok(name)
    }

    /// Gives a datagram to the network.
    fn post(&mut self, sender: usize, datagram: &Datagram, dice: &mut Dice) {
        let mut one_in = |odds: u64| odds > 0 && dice.roll().is_multiple_of(odds);
        if one_in(self.weather.loss) {
            return;
        }
        let copies = 1 + usize::from(one_in(self.weather.duplicates));
        for _ in 0..copies {
            let mut wait = self.weather.latency;
            if self.weather.disorder > 0 {
                let delay = dice.roll() % self.weather.disorder.saturating_add(1);
                wait = wait.saturating_add(delay);
            }
            let datagram = datagram.clone();
            self.schedule(wait, Parcel::Datagram { sender, datagram });
        }
    }

    fn schedule(&mut self, wait: Nanos, parcel: Parcel) {
        if wait == 0 {
            return self.arrived(parcel);
        }
        self.serial += 1;
        let due = self.now.saturating_add(wait);
        self.calendar.insert((due, self.serial), parcel);
    }

    pub(super) fn arrived(&mut self, parcel: Parcel) {
        match parcel {
            Parcel::Datagram { sender, datagram } => self.arrived_at(sender, datagram),
            Parcel::Refusal { sender } => {
                self.ends[sender].error = Some(Errno(libc::ECONNREFUSED));
                self.mark(sender);
            }
        }
    }

    fn arrived_at(&mut self, sender: usize, datagram: Datagram) {
        let to = datagram.to.as_socket_addr();
        match to {
            Some(to) if to.ip().is_multicast() || is_broadcast(to) => {
                for end in self.hearers(sender, to) {
                    self.land(end, datagram.clone());
                }
            }
            Some(to) => match self.receiver(&datagram.from, to) {
                Some(end) => self.land(end, datagram),
                // Only who is connected is told, as on Linux without IP_RECVERR.
                None if self.ends[sender].peer.as_ref() == Some(&datagram.to) => {
                    self.schedule(self.weather.latency, Parcel::Refusal { sender });
                }
                None => {}
            },
            None => {}
        }
    }

    /// Into the receive queue, or nowhere if that is full.
    fn land(&mut self, end: usize, datagram: Datagram) {
        let it = &self.ends[end];
        let would_be = it.queued_bytes + datagram.bytes.len();
        if would_be <= it.receive_limit || it.queue.is_empty() {
            self.enqueue(end, datagram);
        }
    }

    fn enqueue(&mut self, end: usize, datagram: Datagram) {
        let it = &mut self.ends[end];
        it.queued_bytes += datagram.bytes.len();
        it.queue.push_back(datagram);
        if it.fd.is_some() {
            self.mark(end);
        } else {
            self.client_receives(end);
        }
    }

    /// The one end that a datagram to a single host is for: a connected one before any
    /// other, an exact address before a wildcard. Among several that share the port the
    /// sender decides (SO_REUSEPORT), or the last one has it (SO_REUSEADDR).
    fn receiver(&self, from: &Addr, to: SocketAddr) -> Option<usize> {
        let score = |it: &End| {
            let exact = it.name == Addr::from(to);
            (it.peer.is_some(), exact)
        };
        let open = self.ends.iter().enumerate();
        let meant: Vec<(usize, &End)> = open.filter(|(_, it)| it.expects(from, to)).collect();
        let best = meant.iter().map(|(_, it)| score(it)).max()?;
        let best: Vec<(usize, &End)> = meant
            .into_iter()
            .filter(|(_, it)| score(it) == best)
            .collect();
        let mut place = best.len() - 1;
        if best.iter().all(|(_, it)| it.reuse_port) {
            let mut hasher = DefaultHasher::new();
            from.hash(&mut hasher);
            place = (hasher.finish() % best.len() as u64) as usize;
        }
        Some(best[place].0)
    }

    /// Everybody who hears a group, or a broadcast.
    fn hearers(&self, sender: usize, to: SocketAddr) -> Vec<usize> {
        let ours = |it: &End| it.fd.is_some();
        let muted = ours(&self.ends[sender]) && !self.ends[sender].multicast_loop;
        let hears = |it: &End| {
            let joined = it.groups.iter().any(|(group, _)| *group == to.ip());
            let deaf = muted && ours(it) && to.ip().is_multicast();
            // A client's host hears on every address that it has; we know only one.
            let there = if ours(it) {
                it.is_at(to)
            } else {
                it.name.port() == Some(to.port())
            };
            it.open && there && (joined || is_broadcast(to)) && !deaf
        };
        let ends = self.ends.iter().enumerate();
        ends.filter(|(_, it)| hears(it)).map(|(at, _)| at).collect()
    }

    /// As unix_dgram_sendmsg: at once, into the very queue of the receiver.
    pub(super) fn send_unix(
        &mut self,
        end: usize,
        bytes: &[u8],
        to: Option<&Addr>,
        names: &Names,
    ) -> Result<(), Errno> {
        if bytes.len() > self.ends[end].send_limit {
            return Err(Errno(libc::EMSGSIZE));
        }
        let receiver = match to {
            Some(to) => self.find_unix(to, names)?,
            None => self.ends[end].partner.ok_or(Errno(libc::ENOTCONN))?,
        };
        let partner = self.ends[end].partner == Some(receiver);
        if !self.ends[receiver].open {
            if partner {
                self.ends[end].partner = None;
                self.ends[end].peer = None;
            }
            return Err(Errno(libc::ECONNREFUSED));
        }
        if self.ends[receiver].partner.is_some_and(|it| it != end) {
            return Err(Errno(libc::EPERM));
        }
        let full = self.full && self.ends[end].fd.is_some();
        if full || self.is_crowded(receiver, end) {
            // Nothing ever says that a queue has room to somebody who is not connected to it.
            self.ends[end].blocked |= full || partner;
            return Err(Errno(libc::EAGAIN));
        }
        let datagram = Datagram {
            from: self.ends[end].name.clone(),
            to: self.ends[receiver].name.clone(),
            bytes: bytes.to_vec(),
        };
        self.enqueue(receiver, datagram);
        Ok(())
    }

    /// The end that serves a name, for `sendto` and `connect`.
    pub(super) fn find_unix(&self, to: &Addr, names: &Names) -> Result<usize, Errno> {
        let name = to.as_unix().ok_or(Errno(libc::EINVAL))?;
        match names.serving(name)? {
            Owner::Packets(end) => Ok(end),
            Owner::Listener(_) | Owner::Stream(_) => Err(Errno(libc::EPROTOTYPE)),
        }
    }

    /// Whether a Unix socket takes nothing more from `sender`. Whoever it is connected to
    /// is not turned away.
    pub(super) fn is_crowded(&self, end: usize, sender: usize) -> bool {
        let it = &self.ends[end];
        it.open && it.partner != Some(sender) && it.queue.len() >= UNIX_QUEUE
    }
}

impl End {
    /// Whether this end is for datagrams from there to there.
    fn expects(&self, from: &Addr, to: SocketAddr) -> bool {
        self.open && self.is_at(to) && self.peer.as_ref().is_none_or(|peer| peer == from)
    }

    fn is_at(&self, to: SocketAddr) -> bool {
        let name = self.name.as_socket_addr();
        name.is_some_and(|name| overlap((to, true), (name, self.only_v6)))
    }

    /// What a wildcard means to this end: the host of the process, in its own family.
    pub(super) fn reachable(&self, to: &Addr) -> Addr {
        match (self.name.as_socket_addr(), to.as_socket_addr()) {
            (Some(own), Some(any)) if any.ip().is_unspecified() => {
                SocketAddr::new(loopback(own), any.port()).into()
            }
            _ => to.clone(),
        }
    }

    /// Whether a socket of this kind can send there at all.
    pub(super) fn may_reach(&self, to: SocketAddr) -> Result<(), Errno> {
        let unknown = Errno(libc::EAFNOSUPPORT);
        let name = self.name.as_socket_addr().ok_or(unknown)?;
        match (name, to) {
            (SocketAddr::V4(_), SocketAddr::V6(_)) => Err(unknown),
            (SocketAddr::V6(own), SocketAddr::V4(_))
                if self.only_v6 || !own.ip().is_unspecified() =>
            {
                Err(Errno(libc::ENETUNREACH))
            }
            _ => Ok(()),
        }
    }
}

fn is_broadcast(to: SocketAddr) -> bool {
    to.ip() == IpAddr::V4(Ipv4Addr::BROADCAST)
}
