//! The verbs of Unix sockets, and what stands at the paths of this host before anybody
//! serves them.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::SimKernel;
use super::fault::Call;
use super::names::{Owner, unix_name};
use super::net::{Remote, Stage};
use super::peer::Peer;
use super::table::Entry;
use super::words::Said;
use crate::address::{Addr, UnixAddr};
use crate::kernel::{DialSpec, Errno, Fd, PathIdentity, PeerCred, Transport};

/// The parts of verbs.
impl SimKernel {
    /// bind(2) for the listener that comes next.
    pub(super) fn name_listener(
        &mut self,
        name: &UnixAddr,
        mode: Option<u32>,
    ) -> Result<Addr, Errno> {
        let owner = Owner::Listener(self.net.listeners.len());
        self.names.bind(name, owner, mode)?;
        Ok(name.clone().into())
    }

    /// bind(2) for the link that comes next, if it is to have a name.
    pub(super) fn name_stream(&mut self, spec: &DialSpec) -> Result<Addr, Errno> {
        match &spec.local {
            None => Ok(UnixAddr::UNNAMED.into()),
            Some(Addr::Ip(_)) => Err(Errno(libc::EINVAL)),
            Some(Addr::Unix(name)) => {
                let owner = Owner::Stream(self.net.links.len());
                self.names.bind(name, owner, None)?;
                Ok(name.clone().into())
            }
        }
    }

    /// connect(2), as unix_stream_connect: at once, whatever it comes to.
    pub(super) fn dial_unix(&mut self, link: usize, name: &UnixAddr) -> Result<(), Errno> {
        let addr = Addr::from(name.clone());
        let result = if !self.net.links[link].is_unix() {
            Err(Errno(libc::EAFNOSUPPORT))
        } else if let Some(remote) = self.net.remote_at(&addr) {
            self.net.dial_remote(link, addr, remote)
        } else {
            self.serving(name)
                .and_then(|listener| self.net.dial_listener(link, listener))
        };
        if result.is_err() {
            self.net.spoil(link);
        }
        result
    }

    /// The listener that serves a name, for whoever wants a connection.
    fn serving(&self, name: &UnixAddr) -> Result<usize, Errno> {
        match self.names.serving(name)? {
            Owner::Listener(listener) => Ok(listener),
            Owner::Stream(_) => Err(Errno(libc::ECONNREFUSED)),
            Owner::Packets(_) => Err(Errno(libc::EPROTOTYPE)),
        }
    }

    pub(super) fn try_path_identity(&mut self, path: &Path) -> Result<PathIdentity, Errno> {
        self.scripted(Call::Stat)?;
        self.names.identity(path)
    }

    pub(super) fn try_unlink(&mut self, path: &Path) -> Result<(), Errno> {
        self.scripted(Call::Unlink)?;
        self.names.unlink(path)
    }

    /// Whoever is served finds a visitor in its queue who has left already.
    pub(super) fn try_knock(&mut self, addr: &UnixAddr, transport: Transport) -> Result<(), Errno> {
        self.scripted(Call::Knock)?;
        match self.net.remote_at(&addr.clone().into()) {
            None => {}
            Some(Remote::Refuses) => return Err(Errno(libc::ECONNREFUSED)),
            Some(Remote::Silent) => return Err(Errno(libc::EAGAIN)),
            Some(Remote::Fails { errno, .. }) => return Err(Errno(errno)),
            Some(_) => return Ok(()),
        }
        let owner = self.names.serving(addr)?;
        match (owner, transport) {
            (Owner::Packets(_), Transport::Datagrams) => Ok(()),
            (Owner::Listener(listener), Transport::Stream | Transport::Records) => {
                if self.net.listeners[listener].transport != transport {
                    return Err(Errno(libc::EPROTOTYPE));
                }
                let visitor = self.net.new_unix_client(listener)?;
                self.net.client_closes(visitor);
                Ok(())
            }
            (Owner::Stream(_), _) => Err(Errno(libc::ECONNREFUSED)),
            _ => Err(Errno(libc::EPROTOTYPE)),
        }
    }

    pub(super) fn try_peer_cred(&mut self, fd: Fd) -> Result<PeerCred, Errno> {
        let link = self.stream(fd, "getsockopt")?;
        self.scripted(Call::PeerCred)?;
        let it = &self.net.links[link];
        match it.stage {
            _ if !it.is_unix() => Err(Errno(libc::ENOTSUP)),
            Stage::Open(_) => Ok(self.cred),
            _ => Err(Errno(libc::ENOTCONN)),
        }
    }
}

/// Descriptors that travel.
impl SimKernel {
    pub(super) fn try_send_with_fds(
        &mut self,
        fd: Fd,
        bytes: &[u8],
        fds: &[OwnedFd],
    ) -> Result<usize, Errno> {
        let link = self.stream(fd, "sendmsg")?;
        if !self.net.links[link].is_unix() {
            return Err(Errno(libc::EINVAL));
        }
        let copies: io::Result<Vec<OwnedFd>> = fds.iter().map(OwnedFd::try_clone).collect();
        let copies = copies.map_err(|_| Errno(libc::ETOOMANYREFS))?;
        let place = self.net.links[link].down.sent();
        // Before the bytes, which may be read by the time the call returns.
        self.net.links[link].down.pass(place, copies);
        let result = self.try_write(fd, std::iter::once(bytes));
        if result.is_err() {
            self.net.links[link].down.take_back(place);
        }
        result
    }

    /// Those that came with what was just read.
    pub(super) fn take_passed(&mut self, fd: Fd) -> Vec<OwnedFd> {
        match self.table.peek(fd) {
            Some(Entry::Stream(link)) => self.net.links[link].up.take_passed(),
            _ => Vec::new(),
        }
    }

    /// A client sends bytes with descriptors, which travel with the first of them.
    pub(crate) fn peer_send_fds(&mut self, peer: Peer, bytes: &[u8], fds: Vec<OwnedFd>) {
        let count = fds.len();
        let link = &mut self.net.links[peer.0];
        if link.client_may_send() && link.is_unix() && !bytes.is_empty() {
            let place = link.up.sent() + link.client.outbox.len() as u64;
            link.up.pass(place, fds);
        }
        self.note(|| format!("{peer:?} sends {count} descriptors"));
        self.peer_send_all(peer, bytes);
    }

    /// The descriptors that came with what the client has read.
    pub(crate) fn peer_received_fds(&mut self, peer: Peer) -> Vec<OwnedFd> {
        self.net.links[peer.0].down.take_passed()
    }
}

/// Whoever runs the world.
impl SimKernel {
    /// A new client of whoever listens at that path, or, with an `@` before it, under that
    /// abstract name. It speaks as the listener does, in a stream or in records.
    pub(crate) fn new_unix_client(&mut self, path: &Path) -> Result<Peer, Errno> {
        let listener = self.serving(&unix_name(path));
        let result = listener.and_then(|listener| self.net.new_unix_client(listener));
        self.note(|| format!("a client connects to {}: {}", path.display(), Said(&result)));
        result.map(Peer)
    }

    /// What becomes of whoever dials that path from now on. A socket stands there.
    pub(crate) fn set_unix_remote(&mut self, path: &Path, remote: Remote) {
        let name = unix_name(path);
        self.names.leave(&name, true);
        self.net.set_remote(name.into(), remote);
    }

    /// As [`dialed`](Self::dialed), for a path.
    pub(crate) fn unix_dialed(&mut self, path: &Path) -> Option<Peer> {
        self.net.dialed(&unix_name(path).into()).map(Peer)
    }

    /// Puts a socket that nobody serves, or a plain file, at a path.
    pub(crate) fn leave(&mut self, path: &Path, is_socket: bool) {
        self.names.leave(&unix_name(path), is_socket);
        self.note(|| format!("somebody leaves {}", path.display()));
    }

    /// Somebody else removes what stands at a path; whether there was anything.
    pub(crate) fn remove(&mut self, path: &Path) -> bool {
        let removed = self.names.unlink(path).is_ok();
        self.note(|| format!("somebody removes {}: {removed}", path.display()));
        removed
    }

    /// Whether anything stands at a path.
    pub(crate) fn exists(&self, path: &Path) -> bool {
        self.names.identity(path).is_ok()
    }

    /// Who is at the other end of every Unix socket, from now on.
    pub(crate) fn set_peer_cred(&mut self, cred: PeerCred) {
        self.cred = cred;
    }

    /// The permission bits of what stands at a path.
    #[cfg(test)]
    pub(crate) fn mode_at(&self, path: &Path) -> Option<u32> {
        self.names.mode(path)
    }
}
