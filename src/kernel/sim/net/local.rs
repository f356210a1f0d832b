//! Unix sockets, where they differ from TCP: nothing is ever on the wire, connecting is done
//! when the call returns, a close is seen at once in both directions, and there is no RST.

use super::{Link, Net, Stage, Way};
use crate::address::{Addr, UnixAddr};
use crate::kernel::sim::net::{Outcome, Remote};
use crate::kernel::sim::run::Run;
use crate::kernel::{Errno, Fd, StreamOptions, Transport};

impl Net {
    /// A link with one end: the descriptor `fd`.
    pub(crate) fn socket_unix(
        &mut self,
        fd: Fd,
        local: Addr,
        transport: Transport,
        options: &StreamOptions,
    ) {
        let nobody = UnixAddr::UNNAMED.into();
        let link = self.add_link(Stage::Fresh(fd), local, nobody, options);
        self.links[link].dialed = true;
        self.links[link].agree_with(transport);
    }

    /// Who answers at that address, if it is somebody that a test has described.
    pub(crate) fn remote_at(&self, addr: &Addr) -> Option<Remote> {
        self.remotes.get(addr).copied()
    }

    /// connect(2) to somebody outside of the process: decided on the spot.
    pub(crate) fn dial_remote(
        &mut self,
        link: usize,
        to: Addr,
        remote: Remote,
    ) -> Result<(), Errno> {
        let fd = self.take_fresh(link)?;
        match remote {
            Remote::Accepts | Remote::AcceptsAtOnce | Remote::AcceptsAfter(_) => {}
            Remote::Refuses => return Err(Errno(libc::ECONNREFUSED)),
            // Its accept queue is full, and nobody looks after it.
            Remote::Silent => return Err(Errno(libc::EAGAIN)),
            Remote::Fails { errno, .. } => return Err(Errno(errno)),
        }
        self.links[link].peer_addr = to;
        self.links[link].stage = Stage::Dialing(fd);
        self.answered(link, Outcome::Accepted);
        Ok(())
    }

    /// connect(2) to a listener of the process itself.
    pub(crate) fn dial_listener(&mut self, link: usize, listener: usize) -> Result<(), Errno> {
        let fd = self.take_fresh(link)?;
        if self.links[link].up.keeps_bounds() != self.listeners[listener].keeps_bounds() {
            return Err(Errno(libc::EPROTOTYPE));
        }
        self.has_room(listener)?;
        self.links[link].peer_addr = self.listeners[listener].addr.clone();
        self.links[link].stage = Stage::Dialing(fd);
        self.visit(link, listener);
        Ok(())
    }

    /// A client of a Unix listener: in its queue at once, or turned away.
    pub(crate) fn new_unix_client(&mut self, listener: usize) -> Result<usize, Errno> {
        self.has_room(listener)?;
        let options = self.listeners[listener].options;
        let (to, nobody) = (
            self.listeners[listener].addr.clone(),
            UnixAddr::UNNAMED.into(),
        );
        let link = self.add_link(Stage::Syn(listener), to, nobody, &options);
        self.links[link].agree_with(self.listeners[listener].transport);
        self.join(link, listener);
        Ok(link)
    }

    /// An attempt is over, with success, before its answer.
    pub(crate) fn connect_now(&mut self, link: usize) {
        self.answered(link, Outcome::Accepted);
    }

    fn has_room(&self, listener: usize) -> Result<(), Errno> {
        let to = &self.listeners[listener];
        let room = to.queue.len() < to.limit;
        room.then_some(()).ok_or(Errno(libc::EAGAIN))
    }

    fn take_fresh(&mut self, link: usize) -> Result<Fd, Errno> {
        let Stage::Fresh(fd) = self.links[link].stage else {
            return Err(Errno(libc::EISCONN));
        };
        self.links[link].stage = Stage::Spoilt(fd);
        Ok(fd)
    }

    /// One record, whole or not at all.
    pub(super) fn write_record(&mut self, link: usize, record: &[u8]) -> Result<usize, Errno> {
        let result = self.links[link].down.put_record(record);
        if result == Err(Errno(libc::EAGAIN)) {
            self.links[link].server.blocked = true;
        }
        let count = result?;
        self.launch(link, Way::Down);
        self.announce_room(link);
        Ok(count)
    }

    /// close(2), as unix_release_sock: the other end can read what was written and write
    /// nothing more; if it wrote what was not read, it is told so by ECONNRESET.
    pub(super) fn close_unix(&mut self, link: usize) {
        let twin = self.links[link].twin;
        let on_its_way = twin.is_some_and(|twin| self.links[twin].down.has_input());
        if self.links[link].up.has_input() || on_its_way {
            if let Some(twin) = twin {
                self.relay_descriptors(link, twin);
                let mut rest = self.links[link].down.take_rest();
                self.links[twin].up.swallow(&mut rest);
            }
            self.reset_client(link, Errno(libc::ECONNRESET));
            return;
        }
        let it = &mut self.links[link];
        it.stage = Stage::Orphan;
        it.up.destroy();
        it.down.finish();
        if !it.client.outbox.is_empty() {
            it.client.outbox.clear();
            it.client.error.get_or_insert(Errno(libc::EPIPE));
        }
        self.launch(link, Way::Down);
        if let Some(twin) = twin {
            self.links[twin].server.hung_up = true;
            self.mark(twin);
        }
    }
}

impl super::Listener {
    fn keeps_bounds(&self) -> bool {
        self.transport == Transport::Records
    }
}

impl Link {
    pub(crate) fn is_unix(&self) -> bool {
        matches!(self.local_addr, Addr::Unix(_))
    }

    /// Keeps the bounds of records, if that is what it carries.
    pub(super) fn agree_with(&mut self, transport: Transport) {
        if transport == Transport::Records {
            self.up.keep_bounds();
            self.down.keep_bounds();
            self.client.outbox = Run::of_records();
            self.client.taken = Run::of_records();
        }
    }
}
