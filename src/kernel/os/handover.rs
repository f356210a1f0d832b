//! Descriptors made elsewhere, and given away: what they are is asked of the system.
//!
//! A descriptor that is refused is closed, like any other that its owner drops.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use socket2::{SockAddr, Socket, Type};

use super::names::to_addr;
use super::packets::{Known, without_port};
use super::sockets::{must_listen, refused};
use super::{check, errno, fault};
use crate::address::Addr;
use crate::kernel::{Adopted, Errno, Fault, Fd, Readiness, Transport};

pub(super) fn listener(fd: OwnedFd) -> Result<Adopted, Fault> {
    let socket = Socket::from(fd);
    must_listen(&socket).map_err(fault("getsockopt"))?;
    let transport = stream_or_records(&socket)?;
    let (_, local) = local_end(&socket)?;
    settle(&socket)?;
    Ok(adopted(socket, transport, local, None))
}

pub(super) fn stream(fd: OwnedFd) -> Result<Adopted, Fault> {
    let socket = Socket::from(fd);
    let transport = stream_or_records(&socket)?;
    let (_, local) = local_end(&socket)?;
    let peer = socket.peer_addr().map_err(fault("getpeername"))?;
    // macOS answers an empty address if the peer has gone already.
    let peer = to_addr(&peer)
        .ok_or(Errno(libc::ENOTCONN))
        .map_err(refused("getpeername"))?;
    settle(&socket)?;
    Ok(adopted(socket, transport, local, Some(peer)))
}

pub(super) fn packets(fd: OwnedFd) -> Result<(Adopted, Known), Fault> {
    let socket = Socket::from(fd);
    let transport = datagrams_or_raw(&socket)?;
    let (raw_local, local) = local_end(&socket)?;
    let known = Known::ask(&socket, &raw_local, transport);
    let peer = socket.peer_addr().ok().and_then(|peer| to_addr(&peer));
    settle(&socket)?;
    let (local, peer) = if known.is_raw {
        (portless(local), peer.map(portless))
    } else {
        (local, peer)
    };
    Ok((adopted(socket, transport, local, peer), known))
}

fn adopted(socket: Socket, transport: Transport, local: Addr, peer: Option<Addr>) -> Adopted {
    Adopted {
        fd: Fd(socket.into_raw_fd()),
        transport,
        local,
        peer,
    }
}

fn stream_or_records(socket: &Socket) -> Result<Transport, Fault> {
    match socket.r#type().map_err(fault("getsockopt"))? {
        Type::STREAM => Ok(Transport::Stream),
        Type::SEQPACKET => Ok(Transport::Records),
        _ => Err(wrong_type()),
    }
}

fn datagrams_or_raw(socket: &Socket) -> Result<Transport, Fault> {
    match socket.r#type().map_err(fault("getsockopt"))? {
        Type::DGRAM => Ok(Transport::Datagrams),
        Type::RAW => Ok(Transport::Raw(protocol_of(socket))),
        _ => Err(wrong_type()),
    }
}

fn wrong_type() -> Fault {
    Fault {
        call: "getsockopt",
        errno: Errno(libc::EPROTOTYPE),
    }
}

#[cfg(target_os = "linux")]
fn protocol_of(socket: &Socket) -> u8 {
    let protocol = socket.protocol().ok().flatten();
    protocol.map_or(0, |protocol| u8::try_from(i32::from(protocol)).unwrap_or(0))
}

/// The other systems don't tell, or not all of their releases do.
#[cfg(not(target_os = "linux"))]
fn protocol_of(_socket: &Socket) -> u8 {
    0
}

/// A socket of a family that has no [`Addr`] is none of ours.
fn local_end(socket: &Socket) -> Result<(SockAddr, Addr), Fault> {
    let raw = socket.local_addr().map_err(fault("getsockname"))?;
    let local = to_addr(&raw)
        .ok_or(Errno(libc::EAFNOSUPPORT))
        .map_err(refused("getsockname"))?;
    Ok((raw, local))
}

fn portless(addr: Addr) -> Addr {
    match addr {
        Addr::Ip(addr) => Addr::Ip(without_port(addr)),
        addr @ Addr::Unix(_) => addr,
    }
}

/// Makes it what our own sockets are from the start.
fn settle(socket: &Socket) -> Result<(), Fault> {
    socket.set_nonblocking(true).map_err(fault("setnonblock"))?;
    socket.set_cloexec(true).map_err(fault("fcntl"))?;
    quieten(socket).map_err(fault("setsockopt"))
}

/// The sends here carry no flag against SIGPIPE on macOS.
#[cfg(target_os = "macos")]
fn quieten(socket: &Socket) -> io::Result<()> {
    socket.set_nosigpipe(true)
}

#[cfg(not(target_os = "macos"))]
fn quieten(_socket: &Socket) -> io::Result<()> {
    Ok(())
}

// Watching.

/// EPERM for what is always ready. epoll says so itself; kqueue watches files for something
/// else.
pub(super) fn must_be_watchable(fd: Fd) -> Result<(), Errno> {
    let mut found = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the pointer is to memory for one `stat`, which the call fills.
    check(unsafe { libc::fstat(fd.0, found.as_mut_ptr()) })?;
    // SAFETY: the call has succeeded, hence filled it.
    let found = unsafe { found.assume_init() };
    match found.st_mode & libc::S_IFMT {
        libc::S_IFREG | libc::S_IFDIR | libc::S_IFBLK | libc::S_IFLNK => Err(Errno(libc::EPERM)),
        _ => Ok(()),
    }
}

/// Whether [`watch`](crate::kernel::Kernel::watch) would take it.
pub(crate) fn is_watchable(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    must_be_watchable(Fd(fd.as_raw_fd()))
}

/// What a descriptor is ready for at this moment, for who will not wait for it.
pub(crate) fn ready_now(fd: BorrowedFd<'_>) -> Readiness {
    let mut asked = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN | libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: the pointer is to one `pollfd`, which outlives the call.
    let found = unsafe { libc::poll(&raw mut asked, 1, 0) };
    let mut ready = Readiness::default();
    let meanings = [
        (libc::POLLIN, Readiness::READABLE),
        (libc::POLLOUT, Readiness::WRITABLE),
        (
            libc::POLLHUP,
            Readiness::READ_CLOSED | Readiness::WRITE_CLOSED,
        ),
        (libc::POLLERR, Readiness::ERROR),
    ];
    for (bit, meaning) in meanings {
        ready.insert(meaning.if_so(found > 0 && asked.revents & bit != 0));
    }
    ready
}

/// The descriptor as a thing of its own, which closes itself.
pub(super) fn owned(fd: Fd) -> OwnedFd {
    // SAFETY: verbs hand out each open descriptor once, to a keeper who closes it once; this
    // one gives it up here instead, and uses its number no more.
    unsafe { OwnedFd::from_raw_fd(fd.0) }
}

/// Another number for what `fd` is open on, close-on-exec from the start.
pub(super) fn duplicate(fd: Fd) -> Result<OwnedFd, Errno> {
    // The standard library asks for F_DUPFD_CLOEXEC.
    fd.as_fd().try_clone_to_owned().map_err(errno)
}
