//! The clients: what tests do at the far end of a connection, between two polls. Whoever
//! the process has dialed is one of them.
//!
//! A client reads everything at once unless it is paused, and keeps what the network
//! does not take yet. It never sees the server's descriptors or tokens.

use std::fmt;
use std::net::SocketAddr;

use super::SimKernel;
#[cfg(test)]
use super::net::Stage;
use super::words::{Bytes, Said};
use crate::address::Addr;
use crate::kernel::Errno;

/// One simulated client, named by the kernel that it connected to and valid for ever.
/// Another kernel's methods would take it for a client of their own, or panic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Peer(pub(super) usize);

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {}", self.0)
    }
}

/// Where a client's connection is.
#[cfg(test)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PeerState {
    /// The accept queue was full; it joins when there is room.
    Connecting,
    /// In the accept queue. A real client can't tell this from `Open`.
    Queued,
    /// The server has accepted it.
    Open,
    /// Over for the client: it closed or reset, or has seen the server's FIN.
    Closed,
    /// Reset, or refused after waiting for room.
    Failed(Errno),
}

impl SimKernel {
    /// A new client of whoever listens on `addr`; ECONNREFUSED if nobody does.
    pub(crate) fn new_client(&mut self, addr: SocketAddr) -> Result<Peer, Errno> {
        let chance = self.dice.roll();
        let result = self.net.new_client(addr, chance).map(Peer);
        self.note(|| format!("a client connects to {addr}: {}", Said(&result)));
        result
    }

    #[cfg(test)]
    pub(crate) fn peer_state(&self, peer: Peer) -> PeerState {
        let link = &self.net.links[peer.0];
        if let Some(errno) = link.client.error {
            return PeerState::Failed(errno);
        }
        match link.stage {
            _ if link.client.closed || link.client.saw_eof => PeerState::Closed,
            Stage::Syn(_) => PeerState::Connecting,
            Stage::Queued => PeerState::Queued,
            Stage::Open(_) | Stage::Away | Stage::Orphan => PeerState::Open,
            Stage::Fresh(_) | Stage::Spoilt(_) | Stage::Dialing(_) => PeerState::Connecting,
            Stage::Gone => PeerState::Closed,
        }
    }

    /// The client's own address, as the process sees it.
    pub(crate) fn client_addr(&self, peer: Peer) -> Addr {
        self.net.links[peer.0].peer_addr.clone()
    }

    /// The process's end of the client's connection.
    pub(crate) fn client_server_addr(&self, peer: Peer) -> Addr {
        self.net.links[peer.0].local_addr.clone()
    }

    /// Sends what fits; answers how much. None while earlier bytes wait, while
    /// connecting, and after FIN or a reset.
    #[cfg(test)]
    pub(crate) fn peer_send(&mut self, peer: Peer, bytes: &[u8]) -> usize {
        let count = self.net.client_send(peer.0, bytes);
        self.note(|| format!("{peer:?} sends {count} of {} bytes", bytes.len()));
        count
    }

    /// Sends all of it, as room appears. Dropped if the client can send no more.
    pub(crate) fn peer_send_all(&mut self, peer: Peer, bytes: &[u8]) {
        let link = &mut self.net.links[peer.0];
        if link.client_may_send() {
            link.client.outbox.push(bytes);
            self.net.push_outbox(peer.0);
        }
        self.note(|| format!("{peer:?} sends {} bytes {}", bytes.len(), Bytes(bytes)));
    }

    /// Bytes sent by the client that have not reached the server's receive buffer.
    #[cfg(test)]
    pub(crate) fn peer_unsent(&self, peer: Peer) -> usize {
        let link = &self.net.links[peer.0];
        link.client.outbox.len() + link.up.in_flight()
    }

    /// Takes what the client has read since the last call.
    pub(crate) fn peer_received(&mut self, peer: Peer) -> Vec<u8> {
        self.net.links[peer.0].client.taken.take_all()
    }

    /// As [`peer_received`](Self::peer_received), record by record; a stream is one.
    pub(crate) fn peer_received_records(&mut self, peer: Peer) -> Vec<Vec<u8>> {
        self.net.links[peer.0].client.taken.take_records()
    }

    /// The client stops reading: its receive buffer fills, then our writes are refused.
    pub(crate) fn peer_pause(&mut self, peer: Peer) {
        self.net.links[peer.0].client.paused = true;
        self.note(|| format!("{peer:?} stops reading"));
    }

    pub(crate) fn peer_resume(&mut self, peer: Peer) {
        self.net.links[peer.0].client.paused = false;
        self.net.client_reads(peer.0);
        self.note(|| format!("{peer:?} reads again"));
    }

    /// A paused client reads at most `most` bytes and stays paused: a slow reader.
    pub(crate) fn peer_read_some(&mut self, peer: Peer, most: usize) -> usize {
        let link = &mut self.net.links[peer.0];
        let count = link.down.take_into(&mut link.client.taken, most);
        self.net.client_reads(peer.0);
        self.note(|| format!("{peer:?} reads {count} bytes"));
        count
    }

    /// FIN, behind everything sent so far. The client still reads.
    pub(crate) fn peer_shutdown(&mut self, peer: Peer) {
        self.net.links[peer.0].client.shut = true;
        self.net.push_outbox(peer.0);
        self.note(|| format!("{peer:?} sends FIN"));
    }

    /// Closes: FIN behind everything sent so far, or RST if received bytes are unread;
    /// whatever reaches it later is answered by RST.
    pub(crate) fn peer_close(&mut self, peer: Peer) {
        self.net.client_closes(peer.0);
        self.note(|| format!("{peer:?} closes"));
    }

    /// RST. Bytes on the wire arrive before it, those that found no room are lost.
    pub(crate) fn peer_reset(&mut self, peer: Peer) {
        self.net.client_resets(peer.0);
        self.note(|| format!("{peer:?} resets"));
    }

    /// Whether the client has read everything up to the server's FIN.
    pub(crate) fn peer_saw_eof(&self, peer: Peer) -> bool {
        self.net.links[peer.0].client.saw_eof
    }

    /// What ended the connection for the client, if it was not FIN.
    pub(crate) fn peer_error(&self, peer: Peer) -> Option<Errno> {
        self.net.links[peer.0].client.error
    }
}
