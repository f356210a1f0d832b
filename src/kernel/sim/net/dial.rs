//! Connecting out: the sockets of the process that are no connections yet, and the hosts
//! that answer them.
//!
//! A socket is a link from the beginning; what it lacks until somebody answers is the
//! other end. An attempt that fails leaves the link as a reset would, so that readiness,
//! reads and writes need no rules of their own. A connection of the process to itself is
//! a pair of links, its twins, and a relay between them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Happening, Link, Nanos, Net, Stage, Way};
use crate::address::Addr;
use crate::kernel::sim::addresses::{FIRST_DYNAMIC_PORT, canonical, following};
use crate::kernel::sim::addresses::{overlap, reachable, unspecified};
use crate::kernel::sim::nanos;
use crate::kernel::sim::run::Moved;
use crate::kernel::{DialSpec, Errno, Fd, Readiness, StreamOptions};

/// What becomes of whoever dials an address ([`World::remote`](crate::sim::World::remote)).
///
/// Each answer comes after one way there and one way back
/// ([`Faults::latency`](crate::sim::Faults::latency)), and after the time that it names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Remote {
    /// It accepts.
    Accepts,
    /// It accepts, and connect(2) itself says so instead of EINPROGRESS, whatever the
    /// latency.
    AcceptsAtOnce,
    /// It accepts after that time.
    AcceptsAfter(Duration),
    /// Nobody listens there: ECONNREFUSED.
    #[default]
    Refuses,
    /// Nothing ever comes back, not even the kernel's own ETIMEDOUT.
    Silent,
    /// The attempt ends with an error after that time.
    Fails {
        /// As `errno(3)` has it: EHOSTUNREACH, ETIMEDOUT, ….
        errno: i32,
        /// Beyond the time on the wire.
        after: Duration,
    },
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    Accepted,
    Failed(Errno),
}

impl Net {
    /// From now on; attempts that are under way end as they would have.
    pub(crate) fn set_remote(&mut self, addr: Addr, remote: Remote) {
        self.remotes.insert(addr, remote);
    }

    /// The oldest connection that `addr` has accepted and nobody has asked for.
    pub(crate) fn dialed(&mut self, addr: &Addr) -> Option<usize> {
        let of_addr = |&link: &usize| self.links[link].peer_addr == *addr;
        let place = self.dialed.iter().position(of_addr)?;
        self.dialed.remove(place)
    }

    /// The address of a socket that asks for one of its own, or for none.
    pub(crate) fn bind_socket(&mut self, spec: &DialSpec) -> Result<SocketAddr, Errno> {
        let unknown = Errno(libc::EAFNOSUPPORT);
        let remote = canonical(spec.remote.as_socket_addr().ok_or(unknown)?);
        let anywhere = SocketAddr::new(unspecified(remote), 0);
        let own = spec.local.as_ref().and_then(Addr::as_socket_addr);
        let mut local = own.map_or(anywhere, canonical);
        if local.ip().is_unspecified() {
            local.set_ip(anywhere.ip());
        }
        if spec.local.is_none() {
            return Ok(local);
        }
        if local.is_ipv4() != remote.is_ipv4() {
            return Err(Errno(libc::EAFNOSUPPORT));
        }
        if local.port() == 0 {
            let port = self.ephemeral(local.ip());
            local.set_port(port.ok_or(Errno(libc::EADDRINUSE))?);
        } else if self.is_heard(local) || self.links.iter().any(|it| it.occupies(local)) {
            return Err(Errno(libc::EADDRINUSE));
        }
        Ok(local)
    }

    /// A link with one end: the descriptor `fd`.
    pub(crate) fn socket(&mut self, fd: Fd, local: SocketAddr, options: &StreamOptions) {
        let nobody = SocketAddr::new(unspecified(local), 0);
        let link = self.add_link(Stage::Fresh(fd), local.into(), nobody.into(), options);
        self.links[link].dialed = true;
    }

    /// connect(2) on a fresh socket. `chance` as for a [`new_client`](Self::new_client).
    pub(crate) fn dial(
        &mut self,
        link: usize,
        remote: SocketAddr,
        chance: u64,
    ) -> Result<(), Errno> {
        let Stage::Fresh(fd) = self.links[link].stage else {
            return Err(Errno(libc::EISCONN));
        };
        self.links[link].stage = Stage::Spoilt(fd);
        let remote = reachable(canonical(remote));
        let local = self.links[link].local_addr.as_socket_addr();
        let local = local.ok_or(Errno(libc::EINVAL))?;
        let local = self.departure(local, remote)?;
        let it = &mut self.links[link];
        (it.local_addr, it.peer_addr) = (local.into(), remote.into());
        it.stage = Stage::Dialing(fd);
        // As on Linux: the answer of a host next door is there before connect returns,
        // but the call does not look.
        match self.remotes.get(&remote.into()).copied() {
            Some(Remote::AcceptsAtOnce) => {
                self.answered(link, Outcome::Accepted);
                return Ok(());
            }
            Some(answer) => self.expect(link, answer),
            None if local == remote => self.meet_itself(link),
            None => match self.find(remote, chance) {
                Some(listener) => self.visit(link, listener),
                None => self.expect(link, Remote::Refuses),
            },
        }
        Err(Errno(libc::EINPROGRESS))
    }

    /// TCP's simultaneous open, with one end: what is written comes back.
    fn meet_itself(&mut self, link: usize) {
        self.links[link].twin = Some(link);
        self.expect(link, Remote::Accepts);
    }

    /// Connects to a listener of the process itself.
    pub(super) fn visit(&mut self, link: usize, listener: usize) {
        let it = &self.links[link];
        let (from, to) = (it.local_addr.clone(), it.peer_addr.clone());
        let options = self.listeners[listener].options;
        let far = self.add_link(Stage::Syn(listener), to, from, &options);
        self.links[far].agree_with(self.listeners[listener].transport);
        self.links[far].twin = Some(link);
        self.links[link].twin = Some(far);
        self.join(far, listener);
    }

    /// A link has found room in an accept queue: whoever dialed it is connected.
    pub(super) fn answer_twin(&mut self, link: usize) {
        if let Some(twin) = self.links[link].twin {
            self.expect(twin, Remote::Accepts);
        }
    }

    /// What has arrived at the far end of `from` goes into `to`, as far as there is room,
    /// then the FIN; without latency, for it has crossed the wire already.
    pub(super) fn relay(&mut self, from: usize, to: usize) {
        let mut arrived = std::mem::take(self.links[from].down.received_mut());
        let up = &mut self.links[to].up;
        let before = up.sent();
        let mut moved = up.put_from(&mut arrived);
        *self.links[from].down.received_mut() = arrived;
        self.relay_descriptors(from, to);
        let down = &self.links[from].down;
        if down.fin_received() && !down.has_input() {
            self.links[to].up.finish();
        }
        let position = self.links[to].up.sent();
        moved.bytes = (position - before) as usize;
        if moved != Moved::default() {
            self.crossed(to, Way::Up, position);
        }
    }

    pub(super) fn relay_descriptors(&mut self, from: usize, to: usize) {
        let passed = self.links[from].down.take_on_their_way();
        self.links[to].up.pass_on(passed);
    }

    /// The other half of a connection of the process to itself was reset or refused.
    pub(super) fn reset_twin(&mut self, link: usize, error: Errno) {
        self.links[link].twin = None;
        if error == Errno(libc::ECONNREFUSED) {
            self.answered(link, Outcome::Failed(error));
        } else {
            self.client_resets(link);
        }
    }

    /// connect(2) failed for a reason of its own.
    pub(crate) fn spoil(&mut self, link: usize) {
        if let Stage::Fresh(fd) = self.links[link].stage {
            self.links[link].stage = Stage::Spoilt(fd);
        }
    }

    /// Lets the answer come in its time.
    fn expect(&mut self, link: usize, answer: Remote) {
        let (outcome, after) = match answer {
            Remote::Silent => return,
            Remote::Accepts | Remote::AcceptsAtOnce => (Outcome::Accepted, Duration::ZERO),
            Remote::AcceptsAfter(after) => (Outcome::Accepted, after),
            Remote::Refuses => (Outcome::Failed(Errno(libc::ECONNREFUSED)), Duration::ZERO),
            Remote::Fails { errno, after } => (Outcome::Failed(Errno(errno)), after),
        };
        let latency = if self.links[link].is_unix() {
            0
        } else {
            self.latency
        };
        let both_ways = latency.saturating_mul(2);
        let wait: Nanos = both_ways.saturating_add(nanos(after));
        if wait == 0 {
            self.answered(link, outcome);
        } else {
            self.schedule_in(wait, Happening::Answered { link, outcome });
        }
    }

    pub(super) fn answered(&mut self, link: usize, outcome: Outcome) {
        let Stage::Dialing(fd) = self.links[link].stage else {
            return;
        };
        let it = &mut self.links[link];
        it.stage = Stage::Open(fd);
        match outcome {
            Outcome::Accepted if it.twin.is_none() && !it.server.reset => {
                self.dialed.push_back(link);
            }
            Outcome::Accepted => {}
            Outcome::Failed(errno) => {
                it.server.reset = true;
                it.server.error = Some(errno);
                it.up.destroy();
                it.down.destroy();
            }
        }
        self.changed.push(fd);
    }

    /// The process closes a socket that is no connection: nobody's answer matters now.
    pub(super) fn give_up(&mut self, link: usize) {
        self.links[link].stage = Stage::Gone;
        self.calendar.retain(|_, happening| {
            !matches!(happening, Happening::Answered { link: of, .. } if *of == link)
        });
        if let Some(twin) = self.links[link].twin.take() {
            self.links[twin].twin = None;
            self.client_closes(twin);
        }
    }

    /// Where an attempt comes from: every interface of this host is its loopback.
    fn departure(&mut self, local: SocketAddr, remote: SocketAddr) -> Result<SocketAddr, Errno> {
        if local.is_ipv4() != remote.is_ipv4() {
            return Err(Errno(libc::EAFNOSUPPORT));
        }
        let mut local = reachable(local);
        if local.port() == 0 {
            let port = self.ephemeral(local.ip());
            local.set_port(port.ok_or(Errno(libc::EADDRNOTAVAIL))?);
        }
        Ok(local)
    }

    /// The next dynamic port on which nobody listens. Two attempts to different places
    /// may share one, as on a real host.
    fn ephemeral(&mut self, ip: IpAddr) -> Option<u16> {
        for _ in FIRST_DYNAMIC_PORT..=u16::MAX {
            let port = self.next_port;
            self.next_port = following(port);
            if !self.is_heard(SocketAddr::new(ip, port)) {
                return Some(port);
            }
        }
        None
    }

    /// Whether a listener of this host has a part of that address.
    fn is_heard(&self, addr: SocketAddr) -> bool {
        let mut listeners = self.listeners.iter();
        listeners.any(|it| it.open && it.is_at((addr, true)))
    }
}

impl Link {
    /// Who is at the other end, while somebody is.
    pub(crate) fn peer(&self) -> Option<Addr> {
        let there = self.is_unix() || !self.server.reset;
        let connected = matches!(self.stage, Stage::Open(_) | Stage::Away) && there;
        connected.then(|| self.peer_addr.clone())
    }

    /// The state of a socket that is no connection, as tcp_poll answers it.
    pub(super) fn state_unconnected(&self) -> Option<Readiness> {
        match self.stage {
            Stage::Fresh(_) | Stage::Spoilt(_) => {
                let mut ready = Readiness::WRITABLE;
                ready.insert(Readiness::READ_CLOSED);
                ready.insert(Readiness::WRITE_CLOSED);
                Some(ready)
            }
            Stage::Dialing(_) => Some(Readiness::default()),
            _ => None,
        }
    }

    /// What a call that needs a connection fails with; `idle` if none was asked for.
    pub(super) fn unconnected(&self, idle: i32, dialing: i32) -> Result<(), Errno> {
        match self.stage {
            Stage::Fresh(_) | Stage::Spoilt(_) => Err(Errno(idle)),
            Stage::Dialing(_) => Err(Errno(dialing)),
            _ => Ok(()),
        }
    }

    /// Whether a socket of the process has this very address.
    fn occupies(&self, addr: SocketAddr) -> bool {
        let open = !matches!(self.stage, Stage::Orphan | Stage::Gone);
        let own = self.local_addr.as_socket_addr();
        let there = own.is_some_and(|own| overlap((addr, true), (own, true)));
        self.dialed && open && there
    }
}
