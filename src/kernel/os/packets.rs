//! Datagrams: opening their sockets, and what has to be known of one.
//!
//! Owns what is remembered of a datagram socket between two calls, its family before all,
//! because asking for it would be one more system call for each. The calls themselves are in
//! `batches.rs`; nothing is allocated but the name of a Unix sender not seen just before, and
//! at the first call what all of them use.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

#[cfg(target_os = "linux")]
use socket2::Protocol;
use socket2::{SockAddr, Socket, socklen_t};

use super::batches::{Inbox, Outbox};
use super::names::{Name, canonical, mapped, own_addr, sock_addr};
use super::options::as_int;
use super::sockets::{bind_and_admit, open, refused, run, share_port};
use super::{fault, option, packet_options, set_flag};
use crate::address::Addr;
use crate::kernel::{Batch, BindSpec, Came, Errno, Fault, Fd, Packet, PacketOption, Transport};

/// Which addresses a socket can be given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Family {
    V4,
    /// IPv6 alone: IPV6_V6ONLY, or a raw socket.
    V6,
    /// IPv6, and IPv4 by mapped addresses.
    DualStack,
    Unix,
}

/// What is remembered of a datagram socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Known {
    pub(super) family: Family,
    /// The system shows the number of its protocol where others have their port.
    pub(super) is_raw: bool,
    /// Where a datagram was sent to comes with it, in a control message.
    pub(super) destinations: bool,
    /// A plain receive call can be asked how long a datagram was, truncated or not (udp(7)).
    pub(super) tells_length: bool,
    /// Several datagrams may come as one; a control message says where to cut.
    pub(super) merges: bool,
}

impl Known {
    /// Asks the system. `local` is the socket's own end.
    pub(super) fn ask(socket: &Socket, local: &SockAddr, transport: Transport) -> Self {
        let is_raw = matches!(transport, Transport::Raw(_));
        let family = if local.is_ipv4() {
            Family::V4
        } else if !local.is_ipv6() {
            Family::Unix
        } else if is_raw || socket.only_v6().unwrap_or(true) {
            Family::V6
        } else {
            Family::DualStack
        };
        Self::of(socket, family, is_raw)
    }

    /// Asks what no descriptor of the socket says: its options may have been set elsewhere.
    fn of(socket: &Socket, family: Family, is_raw: bool) -> Self {
        let destinations = tells_destinations(socket, family);
        let is_udp = is_udp(socket, family);
        let merges = is_udp && packet_options::merges(socket);
        Self {
            family,
            is_raw,
            destinations,
            tells_length: !destinations && !merges && is_udp,
            merges,
        }
    }
}

/// The datagram sockets that are open, and what calls on them are made with.
#[derive(Debug, Default)]
pub(super) struct Table {
    known: BTreeMap<Fd, Known>,
    inbox: Option<Inbox>,
    outbox: Option<Outbox>,
}

impl Table {
    pub(super) fn note(&mut self, fd: Fd, known: Known) {
        self.known.insert(fd, known);
    }

    /// For every descriptor that goes: its number may be a stream's the next time. Whoever has
    /// a duplicate of it does not know that datagrams come merged, and is to have them apart.
    pub(super) fn forget(&mut self, fd: Fd) {
        if let Some(Known { merges: true, .. }) = self.known.remove(&fd) {
            packet_options::merge_no_more(fd);
        }
    }

    pub(super) fn merges(&self, fd: Fd) -> bool {
        self.known.get(&fd).is_some_and(|known| known.merges)
    }

    pub(super) fn set_option(&mut self, fd: Fd, option: PacketOption) -> Result<(), Errno> {
        let known = self.known.get_mut(&fd).ok_or(Errno(libc::ENOTSOCK))?;
        packet_options::set(fd, known.family, option)?;
        if option == PacketOption::Merge {
            (known.merges, known.tells_length) = (true, false);
        }
        Ok(())
    }

    /// ENOTSOCK for a descriptor that is not a datagram socket of ours.
    pub(super) fn family(&self, fd: Fd) -> Result<Family, Errno> {
        self.of(fd).map(|known| known.family)
    }

    fn of(&self, fd: Fd) -> Result<Known, Errno> {
        self.known.get(&fd).copied().ok_or(Errno(libc::ENOTSOCK))
    }

    pub(super) fn receive(&mut self, fd: Fd, batch: &mut Batch) -> Result<Came, Errno> {
        let known = self.of(fd)?;
        let inbox = self.inbox.get_or_insert_with(Inbox::new);
        inbox.receive(fd, known, batch)
    }

    pub(super) fn send(&mut self, fd: Fd, packets: &[Packet<'_>]) -> Result<usize, Errno> {
        let family = self.family(fd)?;
        let outbox = self.outbox.get_or_insert_with(Outbox::new);
        outbox.send(fd, family, packets)
    }

    /// An end of a socket, without the protocol's number in the place of a port.
    pub(super) fn plain(&self, fd: Fd, addr: Addr) -> Addr {
        let is_raw = self.known.get(&fd).is_some_and(|known| known.is_raw);
        match addr {
            Addr::Ip(addr) if is_raw => Addr::Ip(without_port(addr)),
            addr => addr,
        }
    }
}

pub(super) fn without_port(mut addr: SocketAddr) -> SocketAddr {
    addr.set_port(0);
    addr
}

// Opening.

pub(super) fn opened(spec: &BindSpec) -> Result<(Socket, Known), Fault> {
    let decides = spec.remote.as_ref().or(spec.local.as_ref());
    let decides = decides.ok_or(Fault {
        call: "socket",
        errno: Errno(libc::EAFNOSUPPORT),
    })?;
    // Dropping the socket closes it, so each step may simply fail.
    let socket = open(decides, spec.transport).map_err(fault("socket"))?;
    let family = family_of(decides, spec);
    let is_raw = matches!(spec.transport, Transport::Raw(_));
    prepare(&socket, spec, family, is_raw).map_err(fault("setsockopt"))?;
    run(spec.prepare.as_ref(), &socket)?;
    let known = Known::of(&socket, family, is_raw);
    let made = match &spec.local {
        Some(local) => {
            let addr = own_addr(local, decides).map_err(refused("bind"))?;
            Some(bind_and_admit(&socket, &addr, local, spec.mode)?)
        }
        None => None,
    };
    if let Some(remote) = &spec.remote {
        let remote = sock_addr(remote).map_err(refused("connect"))?;
        socket.connect(&remote).map_err(fault("connect"))?;
    }
    if let Some(made) = made {
        made.keep();
    }
    Ok((socket, known))
}

fn family_of(decides: &Addr, spec: &BindSpec) -> Family {
    let is_raw = matches!(spec.transport, Transport::Raw(_));
    match decides {
        Addr::Unix(_) => Family::Unix,
        Addr::Ip(addr) if canonical(*addr).is_ipv4() => Family::V4,
        Addr::Ip(_) if is_raw || spec.only_v6 => Family::V6,
        Addr::Ip(_) => Family::DualStack,
    }
}

/// In Go's order. The buffers and whatever Go doesn't know come last.
fn prepare(socket: &Socket, spec: &BindSpec, family: Family, is_raw: bool) -> io::Result<()> {
    if family == Family::Unix {
        return size_buffers(socket, spec);
    }
    let is_v6 = family != Family::V4;
    if is_v6 && !is_raw {
        socket.set_only_v6(spec.only_v6)?;
    }
    if spec.broadcast {
        socket.set_broadcast(true)?;
    }
    if spec.reuse_addr {
        share_address(socket)?;
    }
    if spec.reuse_port {
        share_port(socket)?;
    }
    size_buffers(socket, spec)?;
    if spec.destinations {
        tell_destinations(socket, is_v6)?;
    }
    Ok(())
}

fn size_buffers(socket: &Socket, spec: &BindSpec) -> io::Result<()> {
    if let Some(size) = spec.receive_buffer {
        socket.set_recv_buffer_size(as_int(size))?;
    }
    if let Some(size) = spec.send_buffer {
        socket.set_send_buffer_size(as_int(size))?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn share_address(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_address(true)
}

/// The BSDs want both for a group that several sockets hear.
#[cfg(not(target_os = "linux"))]
fn share_address(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)
}

#[cfg(any(target_os = "linux", target_os = "macos"))]
const TELL_V4: libc::c_int = libc::IP_PKTINFO;
#[cfg(any(target_os = "freebsd", target_os = "netbsd"))]
const TELL_V4: libc::c_int = libc::IP_RECVDSTADDR;

/// On a dual-stack socket the option of IPv6 tells of both families.
fn tell_destinations(socket: &Socket, is_v6: bool) -> io::Result<()> {
    if is_v6 {
        set_flag(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
    } else {
        set_flag(socket, libc::IPPROTO_IP, TELL_V4)
    }
}

/// Whether one of the options is on that tell of destinations. One that the system does not
/// know of this socket is off.
fn tells_destinations(socket: &Socket, family: Family) -> bool {
    let fd = Fd(socket.as_raw_fd());
    let is_on = |level, name| {
        // SAFETY: any bits are an int.
        let on = unsafe { option::<libc::c_int>(fd, level, name) };
        on.is_ok_and(|on| on != 0)
    };
    let v4 = || is_on(libc::IPPROTO_IP, TELL_V4);
    let v6 = || is_on(libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO);
    match family {
        Family::Unix => false,
        Family::V4 => v4(),
        Family::V6 | Family::DualStack => v6() || v4(),
    }
}

/// On Linux; elsewhere nothing depends on it.
#[cfg(target_os = "linux")]
fn is_udp(socket: &Socket, family: Family) -> bool {
    family != Family::Unix && matches!(socket.protocol(), Ok(Some(Protocol::UDP)))
}

#[cfg(not(target_os = "linux"))]
fn is_udp(_socket: &Socket, _family: Family) -> bool {
    false
}

// Addresses.

/// Writes an address down for a send call; answers how long it is.
#[inline]
pub(super) fn name_for(family: Family, to: &Addr, name: &mut Name) -> Result<socklen_t, Errno> {
    match (family, to) {
        (Family::V4, Addr::Ip(SocketAddr::V4(to))) => Ok(name.put_v4(*to)),
        _ => for_family(family, to).map(|addr| name.put(&addr)),
    }
}

/// EAFNOSUPPORT, whatever the system would say, for an address that the socket can't reach.
pub(super) fn for_family(family: Family, to: &Addr) -> Result<SockAddr, Errno> {
    match (family, to) {
        (Family::Unix, Addr::Unix(_)) => sock_addr(to),
        (Family::Unix, Addr::Ip(_)) | (_, Addr::Unix(_)) => Err(Errno(libc::EAFNOSUPPORT)),
        (_, Addr::Ip(to)) => match (family, canonical(*to)) {
            (Family::V4, to @ SocketAddr::V4(_))
            | (Family::V6 | Family::DualStack, to @ SocketAddr::V6(_)) => Ok(to.into()),
            (Family::DualStack, to @ SocketAddr::V4(_)) => Ok(mapped(to).into()),
            _ => Err(Errno(libc::EAFNOSUPPORT)),
        },
    }
}
