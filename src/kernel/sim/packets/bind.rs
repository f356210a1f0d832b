//! The beginning of an end: its name, its peer, its options.

use std::net::{IpAddr, SocketAddr};

use super::{DEFAULT_RECEIVE_BUFFER, DEFAULT_SEND_BUFFER, End, Packets};
use crate::address::{Addr, UnixAddr};
use crate::kernel::sim::addresses::{FIRST_DYNAMIC_PORT, canonical, following, loopback};
use crate::kernel::sim::addresses::{overlap, reachable, unspecified};
use crate::kernel::sim::names::{Names, Owner};
use crate::kernel::{BindSpec, Errno, Fd, PacketOption};

/// The only interface: `lo`.
pub(in crate::kernel::sim) const LOOPBACK_INDEX: u32 = 1;

/// With whom an end would share its port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sharing {
    ours: bool,
    only_v6: bool,
    reuse_addr: bool,
    reuse_port: bool,
}

impl Packets {
    /// A socket of the process that has neither name nor peer yet.
    pub(super) fn open(&mut self, fd: Fd, spec: &BindSpec) {
        let mut end = End::new(Some(fd), nameless(spec));
        end.only_v6 = spec.only_v6;
        end.reuse_addr = spec.reuse_addr;
        end.reuse_port = spec.reuse_port;
        end.broadcast = spec.broadcast;
        end.destinations = spec.destinations;
        end.receive_limit = spec.receive_buffer.unwrap_or(DEFAULT_RECEIVE_BUFFER);
        end.send_limit = spec.send_buffer.unwrap_or(DEFAULT_SEND_BUFFER);
        self.ends.push(end);
    }

    /// bind(2).
    pub(super) fn name(
        &mut self,
        end: usize,
        local: &Addr,
        mode: Option<u32>,
        names: &mut Names,
    ) -> Result<(), Errno> {
        let name = match local {
            Addr::Ip(_) => {
                let asked = local.as_socket_addr().ok_or(Errno(libc::EAFNOSUPPORT))?;
                self.bind_ip(canonical(asked), &self.ends[end].sharing())?
                    .into()
            }
            Addr::Unix(name) => {
                names.bind(name, Owner::Packets(end), mode)?;
                local.clone()
            }
        };
        self.ends[end].name = name;
        Ok(())
    }

    /// connect(2).
    pub(super) fn connect(
        &mut self,
        end: usize,
        remote: &Addr,
        names: &Names,
    ) -> Result<(), Errno> {
        let peer = match (remote, &self.ends[end].name) {
            (Addr::Unix(_), Addr::Unix(_)) => {
                let partner = self.find_unix(remote, names)?;
                if self.ends[partner].partner.is_some_and(|it| it != end) {
                    return Err(Errno(libc::EPERM));
                }
                self.ends[end].partner = Some(partner);
                remote.clone()
            }
            (Addr::Ip(_), Addr::Ip(_)) => self.connect_ip(end, remote)?.into(),
            _ => return Err(Errno(libc::EINVAL)),
        };
        self.ends[end].peer = Some(peer);
        Ok(())
    }

    /// A connected socket has an address of its own in full.
    fn connect_ip(&mut self, end: usize, remote: &Addr) -> Result<SocketAddr, Errno> {
        let unknown = Errno(libc::EAFNOSUPPORT);
        let remote = remote.as_socket_addr().ok_or(unknown)?;
        let remote = reachable(canonical(remote));
        self.ends[end].may_reach(remote)?;
        let mut name = self.ends[end].name.as_socket_addr().ok_or(unknown)?;
        if name.ip().is_unspecified() {
            name.set_ip(loopback(remote));
        }
        if name.port() == 0 {
            name = self.bind_ip(name, &self.ends[end].sharing())?;
        }
        self.ends[end].name = name.into();
        Ok(remote)
    }

    /// A client somewhere else; EADDRINUSE if somebody has that very name.
    pub(super) fn new_client(&mut self, name: &Addr, names: &mut Names) -> Result<usize, Errno> {
        let end = self.ends.len();
        let mut client = End::new(None, nobody(name));
        client.broadcast = true;
        self.ends.push(client);
        let named = match name {
            Addr::Unix(unnamed) if unnamed.is_unnamed() => Ok(()),
            _ => self.name(end, name, None, names),
        };
        if named.is_err() {
            self.ends.pop();
        }
        named.map(|()| end)
    }

    /// The address that binding to `addr` gives, or EADDRINUSE.
    pub(super) fn bind_ip(
        &mut self,
        mut addr: SocketAddr,
        sharing: &Sharing,
    ) -> Result<SocketAddr, Errno> {
        if addr.port() != 0 {
            let free = self.is_free(addr, sharing);
            return free.then_some(addr).ok_or(Errno(libc::EADDRINUSE));
        }
        for _ in FIRST_DYNAMIC_PORT..=u16::MAX {
            addr.set_port(self.next_port);
            self.next_port = following(self.next_port);
            if self.is_free(addr, sharing) {
                return Ok(addr);
            }
        }
        Err(Errno(libc::EADDRINUSE))
    }

    /// A client is on a host of its own and is in nobody's way, except at the same address.
    fn is_free(&self, addr: SocketAddr, asked: &Sharing) -> bool {
        let in_the_way = |it: &End| {
            let Some(name) = it.name.as_socket_addr().filter(|_| it.open) else {
                return false;
            };
            let has = it.sharing();
            let shared = has.ours && asked.ours;
            let together = has.reuse_port && asked.reuse_port || has.reuse_addr && asked.reuse_addr;
            let same = overlap((addr, asked.only_v6), (name, has.only_v6));
            name == addr && !shared || shared && same && !together
        };
        !self.ends.iter().any(in_the_way)
    }

    /// setsockopt(2) on an open socket.
    pub(super) fn set_option(&mut self, end: usize, option: PacketOption) -> Result<(), Errno> {
        let it = &mut self.ends[end];
        if it.name.as_unix().is_some() {
            let is_unknown = option == PacketOption::Merge;
            let refusal = if is_unknown {
                libc::ENOPROTOOPT
            } else {
                libc::EOPNOTSUPP
            };
            return Err(Errno(refusal));
        }
        match option {
            PacketOption::Join(group, interface) => it.join(group, interface)?,
            PacketOption::Leave(group, interface) => it.leave(group, interface)?,
            PacketOption::MulticastInterface(interface) => {
                interface_of(interface)?;
            }
            PacketOption::MulticastLoop(on) => it.multicast_loop = on,
            PacketOption::Broadcast(on) => it.broadcast = on,
            PacketOption::Merge => it.merges = true,
            PacketOption::MulticastTtl(_) | PacketOption::Ttl(_) => {}
        }
        let kind = std::mem::discriminant(&option);
        it.options.retain(|set| std::mem::discriminant(set) != kind);
        it.options.push(option);
        Ok(())
    }
}

impl End {
    fn new(fd: Option<Fd>, name: Addr) -> Self {
        Self {
            fd,
            open: true,
            name,
            peer: None,
            partner: None,
            queue: std::collections::VecDeque::new(),
            queued_bytes: 0,
            receive_limit: DEFAULT_RECEIVE_BUFFER,
            send_limit: DEFAULT_SEND_BUFFER,
            error: None,
            blocked: false,
            only_v6: false,
            reuse_addr: false,
            reuse_port: false,
            broadcast: false,
            destinations: false,
            merges: false,
            groups: Vec::new(),
            multicast_loop: true,
            options: Vec::new(),
            stuck: false,
            taken: Vec::new(),
        }
    }

    pub(super) fn sharing(&self) -> Sharing {
        Sharing {
            ours: self.fd.is_some(),
            only_v6: self.only_v6,
            reuse_addr: self.reuse_addr,
            reuse_port: self.reuse_port,
        }
    }

    pub(super) fn join(&mut self, group: IpAddr, interface: u32) -> Result<(), Errno> {
        let interface = interface_of(interface)?;
        if !group.is_multicast() {
            return Err(Errno(libc::EINVAL));
        }
        let family = self.name.ip();
        if family.is_some_and(|own| own.is_ipv4() && group.is_ipv6()) {
            return Err(Errno(libc::ENOPROTOOPT));
        }
        if self.groups.contains(&(group, interface)) {
            return Err(Errno(libc::EADDRINUSE));
        }
        self.groups.push((group, interface));
        Ok(())
    }

    fn leave(&mut self, group: IpAddr, interface: u32) -> Result<(), Errno> {
        let joined = (group, interface_of(interface)?);
        let place = self.groups.iter().position(|it| *it == joined);
        let place = place.ok_or(Errno(libc::EADDRNOTAVAIL))?;
        self.groups.remove(place);
        Ok(())
    }
}

/// The interface of that number; for 0 there is only one to choose.
fn interface_of(number: u32) -> Result<u32, Errno> {
    match number {
        0 | LOOPBACK_INDEX => Ok(LOOPBACK_INDEX),
        _ => Err(Errno(libc::ENODEV)),
    }
}

/// No name yet, of the family that a socket was asked for. Nothing asked: one that
/// reaches both kinds of host.
fn nameless(spec: &BindSpec) -> Addr {
    let asked = spec.local.as_ref().or(spec.remote.as_ref());
    let both = SocketAddr::from(([0_u16; 8], 0));
    asked.map_or_else(|| both.into(), nobody)
}

fn nobody(like: &Addr) -> Addr {
    match like.as_socket_addr() {
        Some(like) => SocketAddr::new(unspecified(canonical(like)), 0).into(),
        None => UnixAddr::UNNAMED.into(),
    }
}
