//! Datagrams: opening their sockets, and receiving and sending many by one call.
//!
//! Owns what has to be known of a datagram socket between two calls, its family, because
//! asking for it would be one more system call for each. The arrays that the system wants
//! live on the stack; nothing is allocated but the name of a Unix sender not seen just before.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{SockAddr, SockAddrStorage, Socket, socklen_t};

use super::control::{Control, ControlMessage, space};
use super::names::{canonical, mapped, own_addr, sock_addr, to_addr, unix_name};
use super::options::as_int;
use super::sockets::{bind_and_admit, open, refused, run, share_port};
use super::{SEND_FLAGS, fault, last_errno, set_flag};
use crate::address::{Addr, UnixAddr};
use crate::kernel::{
    Arrival, Batch, BindSpec, Came, Errno, Fault, Fd, MAX_PACKETS, Packet, Transport,
};

/// Control messages of one datagram: where it was sent to. Two may come on a dual-stack socket.
const CONTROL_BYTES: usize = 2 * space(size_of::<libc::in6_pktinfo>());

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
        Self { family, is_raw }
    }
}

/// The datagram sockets that are open.
#[derive(Debug, Default)]
pub(super) struct Table(BTreeMap<Fd, Known>);

impl Table {
    pub(super) fn note(&mut self, fd: Fd, known: Known) {
        self.0.insert(fd, known);
    }

    /// For every descriptor that goes: its number may be a stream's the next time.
    pub(super) fn forget(&mut self, fd: Fd) {
        self.0.remove(&fd);
    }

    /// ENOTSOCK for a descriptor that is not a datagram socket of ours.
    pub(super) fn family(&self, fd: Fd) -> Result<Family, Errno> {
        let known = self.0.get(&fd).ok_or(Errno(libc::ENOTSOCK))?;
        Ok(known.family)
    }

    /// An end of a socket, without the protocol's number in the place of a port.
    pub(super) fn plain(&self, fd: Fd, addr: Addr) -> Addr {
        let is_raw = self.0.get(&fd).is_some_and(|known| known.is_raw);
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
    let known = known_of(decides, spec);
    prepare(&socket, spec, known).map_err(fault("setsockopt"))?;
    run(spec.prepare.as_ref(), &socket)?;
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

fn known_of(decides: &Addr, spec: &BindSpec) -> Known {
    let is_raw = matches!(spec.transport, Transport::Raw(_));
    let family = match decides {
        Addr::Unix(_) => Family::Unix,
        Addr::Ip(addr) if canonical(*addr).is_ipv4() => Family::V4,
        Addr::Ip(_) if is_raw || spec.only_v6 => Family::V6,
        Addr::Ip(_) => Family::DualStack,
    };
    Known { family, is_raw }
}

/// In Go's order. The buffers and whatever Go doesn't know come last.
fn prepare(socket: &Socket, spec: &BindSpec, known: Known) -> io::Result<()> {
    if known.family == Family::Unix {
        return size_buffers(socket, spec);
    }
    let is_v6 = known.family != Family::V4;
    if is_v6 && !known.is_raw {
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

// Many by one call.

#[cfg(not(target_os = "macos"))]
use libc::mmsghdr as Header;

/// macOS takes one message a call; this is what it would want for several.
#[cfg(target_os = "macos")]
#[repr(C)]
struct Header {
    msg_hdr: libc::msghdr,
    msg_len: usize,
}

/// What the header of one message points to, beside the bytes.
struct Slot {
    part: libc::iovec,
    name: SockAddrStorage,
    control: Control<CONTROL_BYTES>,
}

fn no_headers() -> [Header; MAX_PACKETS] {
    // SAFETY: integers and pointers, for which zero is a value.
    unsafe { mem::zeroed() }
}

/// One call, for as many datagrams as it can take.
pub(super) fn receive(fd: Fd, family: Family, batch: &mut Batch) -> Result<Came, Errno> {
    let mut headers = no_headers();
    // SAFETY: integers and pointers, for which zero is a value.
    let mut slots: [Slot; MAX_PACKETS] = unsafe { mem::zeroed() };
    let size = batch.size();
    let (bytes, arrivals) = batch.parts();
    let places = bytes.chunks_exact_mut(size.max(1));
    let mut count = 0;
    for ((header, slot), place) in headers.iter_mut().zip(&mut slots).zip(places) {
        aim(&mut header.msg_hdr, slot, place, family);
        count += 1;
    }
    if count == 0 {
        return Err(Errno(libc::EINVAL));
    }
    // SAFETY: each of the `count` headers points to a place of the batch and a slot, all of
    // which live and are borrowed by nobody else until the call has returned.
    let came = unsafe { receive_many(fd, &mut headers[..count])? };
    for at in 0..came.min(count) {
        let (before, rest) = arrivals.split_at_mut(at);
        let neighbour = before.last().map(|arrival| &arrival.from);
        note(&mut rest[0], &headers[at], &mut slots[at], neighbour, size);
    }
    Ok(Came {
        count: came,
        drained: FILLS_BATCHES && came < count,
    })
}

/// Whether a call goes on until nothing is left.
const FILLS_BATCHES: bool = cfg!(not(target_os = "macos"));

/// Points a header at where the datagram and what is said of it shall go.
fn aim(header: &mut libc::msghdr, slot: &mut Slot, place: &mut [u8], family: Family) {
    slot.part = libc::iovec {
        iov_base: place.as_mut_ptr().cast(),
        iov_len: place.len(),
    };
    header.msg_iov = &raw mut slot.part;
    header.msg_iovlen = 1;
    header.msg_name = (&raw mut slot.name).cast();
    header.msg_namelen = size_of::<SockAddrStorage>() as socklen_t;
    // Without room for control messages the system closes descriptors that a Unix sender
    // attached; nobody here has asked for any.
    if family != Family::Unix {
        slot.control.attach(header, CONTROL_BYTES);
    }
}

fn note(
    arrival: &mut Arrival,
    header: &Header,
    slot: &mut Slot,
    neighbour: Option<&Addr>,
    size: usize,
) {
    #[allow(clippy::unnecessary_cast, reason = "its type differs between systems")]
    let length = header.msg_len as usize;
    arrival.len = length.min(size);
    arrival.truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
    let name = mem::replace(&mut slot.name, SockAddrStorage::zeroed());
    // SAFETY: the system wrote an address of that length, or nothing, which is zeroes.
    let name = unsafe { SockAddr::new(name, header.msg_hdr.msg_namelen) };
    note_sender(&mut arrival.from, &name, neighbour);
    arrival.to = if header.msg_hdr.msg_control.is_null() {
        None
    } else {
        let mut messages = slot.control.messages(&header.msg_hdr);
        messages.find_map(|message| destination(&message))
    };
}

/// Names of Unix sockets are kept on the heap. A sender that the place or its neighbour knows
/// already is not copied there anew.
fn note_sender(from: &mut Addr, name: &SockAddr, neighbour: Option<&Addr>) {
    if let Some(bytes) = unix_name(name) {
        let is_same = |addr: &Addr| addr.as_unix().is_some_and(|known| known.bytes() == bytes);
        if is_same(from) {
            return;
        }
        if let Some(neighbour) = neighbour.filter(|addr| is_same(addr)) {
            from.clone_from(neighbour);
            return;
        }
    }
    // Linux writes no address at all for a Unix sender without a name.
    *from = to_addr(name).unwrap_or(Addr::Unix(UnixAddr::UNNAMED));
}

/// The address of ours in a control message, if that is what it tells.
fn destination(message: &ControlMessage<'_>) -> Option<IpAddr> {
    match (message.level, message.kind) {
        #[cfg(any(target_os = "linux", target_os = "macos"))]
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            let at = mem::offset_of!(libc::in_pktinfo, ipi_addr);
            bytes_at(message.data, at).map(|ip: [u8; 4]| Ipv4Addr::from(ip).into())
        }
        #[cfg(any(target_os = "freebsd", target_os = "netbsd"))]
        (libc::IPPROTO_IP, libc::IP_RECVDSTADDR) => {
            bytes_at(message.data, 0).map(|ip: [u8; 4]| Ipv4Addr::from(ip).into())
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            let at = mem::offset_of!(libc::in6_pktinfo, ipi6_addr);
            bytes_at(message.data, at).map(|ip: [u8; 16]| Ipv6Addr::from(ip).to_canonical())
        }
        _ => None,
    }
}

fn bytes_at<const LENGTH: usize>(data: &[u8], at: usize) -> Option<[u8; LENGTH]> {
    data.get(at..)?.first_chunk().copied()
}

/// One call, for as many of the datagrams as it can take.
pub(super) fn send(fd: Fd, family: Family, packets: &[Packet<'_>]) -> Result<usize, Errno> {
    let mut headers = no_headers();
    let mut parts = [const { no_part() }; MAX_PACKETS];
    let mut names = [const { None::<SockAddr> }; MAX_PACKETS];
    let mut count = 0;
    let slots = headers.iter_mut().zip(&mut parts).zip(&mut names);
    for (((header, part), name), packet) in slots.zip(packets) {
        match packet.to.map(|to| for_family(family, to)).transpose() {
            Ok(to) => *name = to,
            // Those in front of it go first; it will be the first of the next call.
            Err(_) if count > 0 => break,
            Err(errno) => return Err(errno),
        }
        load(&mut header.msg_hdr, part, name.as_ref(), packet.bytes);
        count += 1;
    }
    if count == 0 {
        return Ok(0);
    }
    // SAFETY: each of the `count` headers points to the bytes of a packet, a part and a name,
    // all of which live until the call has returned, and which it only reads.
    unsafe { send_many(fd, &mut headers[..count]) }
}

const fn no_part() -> libc::iovec {
    libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    }
}

fn load(header: &mut libc::msghdr, part: &mut libc::iovec, name: Option<&SockAddr>, bytes: &[u8]) {
    *part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    header.msg_iov = part;
    header.msg_iovlen = 1;
    if let Some(name) = name {
        header.msg_name = name.as_ptr().cast_mut().cast();
        header.msg_namelen = name.len();
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

/// How many a call has done, or what it left in `errno`.
macro_rules! counted {
    ($answer:expr) => {
        match usize::try_from($answer) {
            Ok(count) => Ok(count),
            Err(_) => Err(last_errno()),
        }
    };
}

/// # Safety
///
/// The headers must point to memory that the system may fill.
#[cfg(not(target_os = "macos"))]
unsafe fn receive_many(fd: Fd, headers: &mut [Header]) -> Result<usize, Errno> {
    let (first, count) = (headers.as_mut_ptr(), headers.len());
    // SAFETY: `count` headers are there, the caller answers for what they point to, and no
    // time limit is given. The call does not wait, since the socket is nonblocking.
    counted!(unsafe { libc::recvmmsg(fd.0, first, count as _, 0, std::ptr::null_mut()) })
}

/// # Safety
///
/// The headers must point to memory that the system may fill.
#[cfg(target_os = "macos")]
unsafe fn receive_many(fd: Fd, headers: &mut [Header]) -> Result<usize, Errno> {
    let first = &mut headers[0];
    // SAFETY: the caller answers for what the header points to.
    let length = unsafe { libc::recvmsg(fd.0, &raw mut first.msg_hdr, 0) };
    first.msg_len = counted!(length)?;
    Ok(1)
}

/// # Safety
///
/// The headers must point to memory that the system may read.
#[cfg(not(target_os = "macos"))]
unsafe fn send_many(fd: Fd, headers: &mut [Header]) -> Result<usize, Errno> {
    let (first, count) = (headers.as_mut_ptr(), headers.len());
    // SAFETY: `count` headers are there, and the caller answers for what they point to.
    counted!(unsafe { libc::sendmmsg(fd.0, first, count as _, SEND_FLAGS as _) })
}

/// # Safety
///
/// The headers must point to memory that the system may read.
#[cfg(target_os = "macos")]
unsafe fn send_many(fd: Fd, headers: &mut [Header]) -> Result<usize, Errno> {
    // SAFETY: the caller answers for what the header points to.
    let sent = unsafe { libc::sendmsg(fd.0, &raw const headers[0].msg_hdr, SEND_FLAGS) };
    // A datagram goes whole or not at all.
    counted!(sent).map(|_| 1)
}
