//! Many datagrams by one call, and the arrays that the system wants for it.
//!
//! Owns those arrays: made at the first call and used by all that follow. Clearing them each
//! time would cost more than everything else that is done for a datagram here, so a call
//! writes only what it uses, and afterwards what the system has changed.
//! Never knows which socket it is: whoever calls says what is to be known of it.

use std::fmt;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;

use super::control::{Control, ControlMessage, space};
use super::names::Name;
use super::packets::{Family, Known, name_for};
use super::{SEND_FLAGS, last_errno};
use crate::address::{Addr, UnixAddr};
use crate::kernel::{Arrival, Batch, Came, Errno, Fd, MAX_PACKETS, Packet};

/// Control messages of one datagram: where it was sent to, of which two may come on a
/// dual-stack socket, and where to cut what the system has merged.
const CONTROL_BYTES: usize =
    2 * space(size_of::<libc::in6_pktinfo>()) + space(size_of::<libc::c_int>());

/// Whether a call goes on until nothing is left.
const FILLS_BATCHES: bool = cfg!(not(target_os = "macos"));

#[cfg(not(target_os = "macos"))]
use libc::mmsghdr as Header;

/// macOS takes one message a call; this is what it would want for several.
#[cfg(target_os = "macos")]
#[repr(C)]
struct Header {
    msg_hdr: libc::msghdr,
    msg_len: usize,
}

// Receiving.

/// What receive calls are made with.
pub(super) struct Inbox {
    arrays: Box<Places>,
    /// What the headers point to; `None` if that has to be written anew.
    aim: Option<Aim>,
}

struct Places {
    headers: [Header; MAX_PACKETS],
    slots: [Slot; MAX_PACKETS],
}

/// What the header of one message points to, beside the bytes.
struct Slot {
    part: libc::iovec,
    name: Name,
    control: Control<CONTROL_BYTES>,
}

/// Where datagrams shall go, and what is wanted of them.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Aim {
    /// The address of the first place.
    bytes: usize,
    size: usize,
    count: usize,
    /// Room for control messages. Without it the system closes descriptors that a Unix
    /// sender attached; nobody here has asked for any.
    control: bool,
}

// SAFETY: the pointers in it are addresses, which nothing here follows. The system does,
// during a call that is lent the memory behind them.
unsafe impl Send for Inbox {}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            // SAFETY: integers and pointers, for which zero is a value.
            arrays: Box::new(unsafe { mem::zeroed() }),
            aim: None,
        }
    }

    /// One call, for as many datagrams as it can take.
    pub(super) fn receive(
        &mut self,
        fd: Fd,
        known: Known,
        batch: &mut Batch,
    ) -> Result<Came, Errno> {
        let size = batch.size();
        let (bytes, arrivals) = batch.parts();
        let count = arrivals.len().min(MAX_PACKETS);
        if count == 0 || size == 0 || bytes.len() / size < count {
            return Err(Errno(libc::EINVAL));
        }
        #[cfg(target_os = "linux")]
        if count == 1 && known.tells_length {
            return self.receive_one(fd, &mut bytes[..size], &mut arrivals[0]);
        }
        let aim = Aim {
            bytes: bytes.as_mut_ptr().expose_provenance(),
            size,
            count,
            control: known.destinations || known.merges,
        };
        self.take_aim(aim);
        // SAFETY: each of the `count` headers has the address of a place of this batch, which
        // was compared or written just now, and of a slot of this box. Both are lent to us
        // exclusively, and their provenance is exposed, until the call has returned.
        let came = unsafe { receive_many(fd, &mut self.arrays.headers[..count]) };
        let came = came.inspect_err(|_| self.arrays.aim(0, aim))?;
        for at in 0..came.min(count) {
            self.arrays.note(at, arrivals, aim);
            self.arrays.aim(at, aim);
        }
        Ok(Came {
            count: came,
            drained: FILLS_BATCHES && came < count,
        })
    }

    /// The headers stay as they are from one call to the next, unless the batch is another
    /// one or something else is wanted.
    fn take_aim(&mut self, aim: Aim) {
        ptr::from_mut(self.arrays.as_mut()).expose_provenance();
        if self.aim != Some(aim) {
            for at in 0..aim.count {
                self.arrays.aim(at, aim);
            }
            self.aim = Some(aim);
        }
    }

    /// The plain call, which has no headers to be looked through.
    #[cfg(target_os = "linux")]
    fn receive_one(
        &mut self,
        fd: Fd,
        place: &mut [u8],
        arrival: &mut Arrival,
    ) -> Result<Came, Errno> {
        let name = &mut self.arrays.slots[0].name;
        let mut length = Name::ROOM;
        // SAFETY: the system may write all of `place` and of `name`, and `length`; they live
        // across the call. MSG_TRUNC has it answer the length that the datagram had.
        let answer = unsafe {
            libc::recvfrom(
                fd.0,
                place.as_mut_ptr().cast(),
                place.len(),
                libc::MSG_TRUNC,
                name.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let had = counted(answer)?;
        arrival.len = had.min(place.len());
        arrival.truncated = had > place.len();
        (arrival.to, arrival.segment) = (None, 0);
        note_sender(&mut arrival.from, name, length, None);
        Ok(Came {
            count: 1,
            drained: false,
        })
    }
}

impl Places {
    /// Points a header at where the datagram and what is said of it shall go.
    #[inline]
    fn aim(&mut self, at: usize, aim: Aim) {
        let slot = &mut self.slots[at];
        let header = &mut self.headers[at].msg_hdr;
        slot.part = libc::iovec {
            iov_base: ptr::with_exposed_provenance_mut(aim.bytes + at * aim.size),
            iov_len: aim.size,
        };
        slot.name.clear();
        header.msg_iov = &raw mut slot.part;
        header.msg_iovlen = 1;
        header.msg_name = slot.name.as_mut_ptr().cast();
        header.msg_namelen = Name::ROOM;
        if aim.control {
            slot.control.attach(header, CONTROL_BYTES);
        } else {
            header.msg_control = ptr::null_mut();
            header.msg_controllen = 0;
        }
    }

    /// What has come to that place.
    #[inline]
    fn note(&self, at: usize, arrivals: &mut [Arrival], aim: Aim) {
        let (header, slot) = (&self.headers[at], &self.slots[at]);
        let (before, rest) = arrivals.split_at_mut(at);
        let arrival = &mut rest[0];
        #[allow(clippy::unnecessary_cast, reason = "its type differs between systems")]
        let length = header.msg_len as usize;
        arrival.len = length.min(aim.size);
        arrival.truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        (arrival.to, arrival.segment) = (None, 0);
        if aim.control {
            for message in slot.control.messages(&header.msg_hdr) {
                arrival.to = arrival.to.or_else(|| destination(&message));
                arrival.segment = arrival.segment.max(segment(&message));
            }
        }
        let neighbour = before.last().map(|arrival| &arrival.from);
        let name_length = header.msg_hdr.msg_namelen;
        note_sender(&mut arrival.from, &slot.name, name_length, neighbour);
    }
}

/// Names of Unix sockets are kept on the heap. A sender that the place or its neighbour knows
/// already is not copied there anew.
#[inline]
fn note_sender(from: &mut Addr, name: &Name, length: libc::socklen_t, neighbour: Option<&Addr>) {
    if let Some(addr) = name.ip(length) {
        *from = addr;
        return;
    }
    // Linux writes no address at all for a Unix sender without a name.
    let bytes = name.unix(length).unwrap_or_default();
    let is_same = |addr: &Addr| addr.as_unix().is_some_and(|known| known.bytes() == bytes);
    if is_same(from) {
        return;
    }
    *from = match neighbour.filter(|addr| is_same(addr)) {
        Some(neighbour) => neighbour.clone(),
        None => Addr::Unix(UnixAddr::from_bytes(bytes)),
    };
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

/// Where to cut what has been merged, if that is what a control message tells.
#[cfg(target_os = "linux")]
fn segment(message: &ControlMessage<'_>) -> usize {
    if (message.level, message.kind) != (libc::SOL_UDP, libc::UDP_GRO) {
        return 0;
    }
    let size = bytes_at(message.data, 0).map_or(0, libc::c_int::from_ne_bytes);
    usize::try_from(size).unwrap_or(0)
}

#[cfg(not(target_os = "linux"))]
fn segment(_message: &ControlMessage<'_>) -> usize {
    0
}

fn bytes_at<const LENGTH: usize>(data: &[u8], at: usize) -> Option<[u8; LENGTH]> {
    data.get(at..)?.first_chunk().copied()
}

// Sending.

/// What send calls are made with.
pub(super) struct Outbox(Box<Letters>);

struct Letters {
    headers: [Header; MAX_PACKETS],
    parts: [libc::iovec; MAX_PACKETS],
    names: [Name; MAX_PACKETS],
}

// SAFETY: the pointers in it are addresses, which nothing here follows. The system does,
// during a call, and each call has written those that it is to follow.
unsafe impl Send for Outbox {}

impl Outbox {
    pub(super) fn new() -> Self {
        // SAFETY: integers and pointers, for which zero is a value.
        Self(Box::new(unsafe { mem::zeroed() }))
    }

    /// One call, for as many of the datagrams as it can take.
    pub(super) fn send(
        &mut self,
        fd: Fd,
        family: Family,
        packets: &[Packet<'_>],
    ) -> Result<usize, Errno> {
        if let [packet] = packets {
            return self.send_one(fd, family, packet);
        }
        let mut count = 0;
        for (at, packet) in packets.iter().take(MAX_PACKETS).enumerate() {
            match self.0.load(at, family, packet) {
                Ok(()) => count += 1,
                // Those in front of it go first; it will be the first of the next call.
                Err(_) if count > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        if count == 0 {
            return Ok(0);
        }
        // SAFETY: each of the `count` headers was just pointed to the bytes of a packet, and
        // to a part and a name of this box. All of it lives until the call has returned,
        // which only reads it.
        unsafe { send_many(fd, &mut self.0.headers[..count]) }
    }

    /// The plain call, which has no headers to be looked through.
    fn send_one(&mut self, fd: Fd, family: Family, packet: &Packet<'_>) -> Result<usize, Errno> {
        let (name, length) = match packet.to {
            Some(to) => {
                let name = &mut self.0.names[0];
                let length = name_for(family, to, name)?;
                (name.as_ptr(), length)
            }
            None => (ptr::null(), 0),
        };
        let bytes = packet.bytes;
        // SAFETY: the call only reads the bytes and the name, which are as long as it says
        // and live across it.
        let sent = unsafe {
            libc::sendto(
                fd.0,
                bytes.as_ptr().cast(),
                bytes.len(),
                SEND_FLAGS,
                name.cast(),
                length,
            )
        };
        // A datagram goes whole or not at all.
        counted(sent).map(|_| 1)
    }
}

impl Letters {
    #[inline]
    fn load(&mut self, at: usize, family: Family, packet: &Packet<'_>) -> Result<(), Errno> {
        let header = &mut self.headers[at].msg_hdr;
        (header.msg_name, header.msg_namelen) = match packet.to {
            Some(to) => {
                let name = &mut self.names[at];
                let length = name_for(family, to, name)?;
                (name.as_mut_ptr().cast(), length)
            }
            None => (ptr::null_mut(), 0),
        };
        let part = &mut self.parts[at];
        *part = libc::iovec {
            iov_base: packet.bytes.as_ptr().cast_mut().cast(),
            iov_len: packet.bytes.len(),
        };
        header.msg_iov = part;
        header.msg_iovlen = 1;
        Ok(())
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}

// The calls.

/// How many, or what the call left in `errno`.
#[inline]
fn counted<N: TryInto<usize>>(answer: N) -> Result<usize, Errno> {
    answer.try_into().map_err(|_| last_errno())
}

/// # Safety
///
/// The headers must point to memory that the system may fill.
#[cfg(not(target_os = "macos"))]
unsafe fn receive_many(fd: Fd, headers: &mut [Header]) -> Result<usize, Errno> {
    let (first, count) = (headers.as_mut_ptr(), headers.len());
    // SAFETY: `count` headers are there, the caller answers for what they point to, and no
    // time limit is given. The call does not wait, since the socket is nonblocking.
    counted(unsafe { libc::recvmmsg(fd.0, first, count as _, 0, ptr::null_mut()) })
}

/// # Safety
///
/// The headers must point to memory that the system may fill.
#[cfg(target_os = "macos")]
unsafe fn receive_many(fd: Fd, headers: &mut [Header]) -> Result<usize, Errno> {
    let first = &mut headers[0];
    // SAFETY: the caller answers for what the header points to.
    let length = unsafe { libc::recvmsg(fd.0, &raw mut first.msg_hdr, 0) };
    first.msg_len = counted(length)?;
    Ok(1)
}

/// # Safety
///
/// The headers must point to memory that the system may read.
#[cfg(not(target_os = "macos"))]
unsafe fn send_many(fd: Fd, headers: &mut [Header]) -> Result<usize, Errno> {
    let (first, count) = (headers.as_mut_ptr(), headers.len());
    // SAFETY: `count` headers are there, and the caller answers for what they point to.
    counted(unsafe { libc::sendmmsg(fd.0, first, count as _, SEND_FLAGS as _) })
}

/// # Safety
///
/// The headers must point to memory that the system may read.
#[cfg(target_os = "macos")]
unsafe fn send_many(fd: Fd, headers: &mut [Header]) -> Result<usize, Errno> {
    // SAFETY: the caller answers for what the header points to.
    let sent = unsafe { libc::sendmsg(fd.0, &raw const headers[0].msg_hdr, SEND_FLAGS) };
    // A datagram goes whole or not at all.
    counted(sent).map(|_| 1)
}
