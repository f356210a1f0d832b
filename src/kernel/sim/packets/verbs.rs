//! The verbs of datagrams, and what clients do at the far end of them.

use std::fmt;
use std::net::IpAddr;

use crate::address::Addr;
use crate::kernel::Transport;
use crate::kernel::sim::SimKernel;
use crate::kernel::sim::fault::Call;
use crate::kernel::sim::names::Owner;
use crate::kernel::sim::table::Entry;
use crate::kernel::sim::words::{Done, Said};
use crate::kernel::{Batch, BindSpec, Came, Errno, Fault, Fd, MAX_PACKETS, Packet, PacketOption};

/// One client that exchanges datagrams with the process, named by the kernel that it
/// lives in and valid for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PacketPeer(usize);

impl fmt::Debug for PacketPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "packet client {}", self.0)
    }
}

/// The parts of verbs.
impl SimKernel {
    pub(in crate::kernel::sim) fn try_bind(&mut self, spec: &BindSpec) -> Result<Fd, Fault> {
        self.step(Call::Socket)?;
        let failed = |errno| Fault {
            call: "socket",
            errno,
        };
        // No process of this host has CAP_NET_RAW.
        if matches!(spec.transport, Transport::Raw(_)) {
            return Err(failed(Errno(libc::EPERM)));
        }
        let end = self.packets.ends.len();
        let fd = self.table.open(Entry::Packets(end)).map_err(failed)?;
        self.packets.open(fd, spec);
        let prepared = self.name_and_connect(end, spec);
        if prepared.is_err() {
            self.table.close(fd, "close");
            self.close_packets(end);
        }
        prepared.map(|()| fd)
    }

    fn name_and_connect(&mut self, end: usize, spec: &BindSpec) -> Result<(), Fault> {
        self.step(Call::SetOption)?;
        if let Some(local) = &spec.local {
            self.step(Call::Bind)?;
            let named = self.packets.name(end, local, spec.mode, &mut self.names);
            named.map_err(|errno| Fault {
                call: "bind",
                errno,
            })?;
        }
        if let Some(remote) = &spec.remote {
            self.step(Call::Connect)?;
            let connected = self.packets.connect(end, remote, &self.names);
            connected.map_err(|errno| Fault {
                call: "connect",
                errno,
            })?;
        }
        Ok(())
    }

    pub(in crate::kernel::sim) fn close_packets(&mut self, end: usize) {
        self.packets.close(end);
        self.names.release(Owner::Packets(end));
    }

    pub(in crate::kernel::sim) fn try_receive(
        &mut self,
        fd: Fd,
        batch: &mut Batch,
    ) -> Result<Came, Errno> {
        let end = self.end_of(fd, "receive")?;
        if batch.places() == 0 {
            let text = format!("receive on {fd:?} without a place");
            self.table.violate(text);
            return Err(Errno(libc::EINVAL));
        }
        self.scripted_on(Call::Receive, fd)?;
        self.packets.receive(end, batch)
    }

    pub(in crate::kernel::sim) fn try_send(
        &mut self,
        fd: Fd,
        packets: &[Packet<'_>],
    ) -> Result<usize, Errno> {
        let end = self.end_of(fd, "send")?;
        if packets.is_empty() || packets.len() > MAX_PACKETS {
            let text = format!("send on {fd:?} of {} datagrams", packets.len());
            self.table.violate(text);
            return Err(Errno(libc::EINVAL));
        }
        if let Err(errno) = self.scripted(Call::Send) {
            if errno == Errno(libc::EAGAIN) {
                self.packets.refuse(end);
            }
            return Err(errno);
        }
        let mut sent = 0;
        for packet in packets.iter().take(self.packets.most) {
            let (names, dice) = (&self.names, &mut self.dice);
            let result = self.packets.send(end, packet.bytes, packet.to, names, dice);
            match result {
                Ok(()) => sent += 1,
                // As sendmmsg: only an error of the first is told.
                Err(_) if sent > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(sent)
    }

    pub(in crate::kernel::sim) fn try_set_packet_option(
        &mut self,
        fd: Fd,
        option: PacketOption,
    ) -> Result<(), Errno> {
        let end = self.end_of(fd, "setsockopt")?;
        self.scripted(Call::SetOption)?;
        self.packets.set_option(end, option)
    }
}

/// The clients.
impl SimKernel {
    /// A client of that name; EADDRINUSE if somebody has it.
    pub(crate) fn new_packet_peer(&mut self, name: &Addr) -> Result<PacketPeer, Errno> {
        let result = self.packets.new_client(name, &mut self.names);
        self.note(|| format!("a client for datagrams at {name}: {}", Said(&result)));
        result.map(PacketPeer)
    }

    pub(crate) fn packet_peer_addr(&self, peer: PacketPeer) -> Addr {
        self.packets.ends[peer.0].name.clone()
    }

    /// What the network makes of it, no sender is told; a Unix socket says at once. "Any
    /// address" is the loopback of the client's own family.
    pub(crate) fn packet_peer_send(
        &mut self,
        peer: PacketPeer,
        to: &Addr,
        bytes: &[u8],
    ) -> Result<(), Errno> {
        let near = self.packets.ends[peer.0].reachable(to);
        let (names, dice) = (&self.names, &mut self.dice);
        let result = self.packets.send(peer.0, bytes, Some(&near), names, dice);
        let count = bytes.len();
        self.note(|| format!("{peer:?} sends {count} bytes to {to}: {}", Done(&result)));
        result
    }

    /// Takes what the client has received since the last call.
    pub(crate) fn packet_peer_received(&mut self, peer: PacketPeer) -> Vec<(Addr, Vec<u8>)> {
        self.packets.taken(peer.0)
    }

    /// Whether the client leaves in its queue what arrives.
    pub(crate) fn packet_peer_pause(&mut self, peer: PacketPeer, paused: bool) {
        self.packets.set_stuck(peer.0, paused);
        let what = if paused {
            "stops receiving"
        } else {
            "receives"
        };
        self.note(|| format!("{peer:?} {what}"));
    }

    /// The client hears a multicast group, on the only interface.
    pub(crate) fn packet_peer_join(
        &mut self,
        peer: PacketPeer,
        group: IpAddr,
    ) -> Result<(), Errno> {
        self.packets
            .set_option(peer.0, PacketOption::Join(group, 0))
    }

    pub(crate) fn packet_peer_close(&mut self, peer: PacketPeer) {
        self.close_packets(peer.0);
        self.note(|| format!("{peer:?} closes"));
    }
}

#[cfg(test)]
impl SimKernel {
    /// The options that were set on an open socket, the last of each kind.
    pub(crate) fn packet_options(&mut self, fd: Fd) -> Vec<PacketOption> {
        let end = self.end_of(fd, "getsockopt");
        end.map(|end| self.packets.ends[end].options.clone())
            .unwrap_or_default()
    }
}
