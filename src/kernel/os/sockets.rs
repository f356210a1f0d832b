//! Sockets being opened, named, listening and accepting, whatever their family.
//!
//! What `bind` makes in the file system is unmade here if the socket comes to nothing.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

#[cfg(not(target_os = "macos"))]
use super::last_errno;
#[cfg(not(target_os = "macos"))]
use super::names::Client;
use super::names::{canonical, own_addr, sock_addr};
use super::options::apply_to;
use super::{fault, option};
use crate::address::Addr;
use crate::kernel::{DialSpec, Errno, Fault, Fd, ListenSpec, Prepare, Transport};

const LOG_TARGET: &str = super::LOG_TARGET;

pub(super) fn listening(spec: &ListenSpec) -> Result<Socket, Fault> {
    // Dropping the socket closes it, so each step may simply fail.
    let socket = open(&spec.addr, spec.transport).map_err(fault("socket"))?;
    prepare_listener(&socket, spec).map_err(fault("setsockopt"))?;
    run(spec.prepare.as_ref(), &socket)?;
    let addr = sock_addr(&spec.addr).map_err(refused("bind"))?;
    let made = bind_and_admit(&socket, &addr, &spec.addr, spec.mode)?;
    socket.listen(spec.backlog).map_err(fault("listen"))?;
    made.keep();
    Ok(socket)
}

pub(super) fn dialing(spec: &DialSpec) -> Result<Socket, Fault> {
    let socket = open(&spec.remote, spec.transport).map_err(fault("socket"))?;
    // Before `connect`, because the window that the handshake offers depends on them.
    // A connection without its options is better than none.
    if let Err(error) = apply_to(&spec.remote, &socket, &spec.stream) {
        let remote = &spec.remote;
        log::debug!(target: LOG_TARGET, "an option of a socket to {remote}: {error}");
    }
    run(spec.prepare.as_ref(), &socket)?;
    if let Some(local) = &spec.local {
        let local = own_addr(local, &spec.remote).map_err(refused("bind"))?;
        socket.bind(&local).map_err(fault("bind"))?;
    }
    Ok(socket)
}

/// What the application wants to be done to the socket itself.
pub(super) fn run(prepare: Option<&Prepare>, socket: &Socket) -> Result<(), Fault> {
    prepare.map_or(Ok(()), |prepare| {
        prepare.run(socket.as_fd()).map_err(fault("prepare"))
    })
}

/// A nonblocking, close-on-exec socket of the family that `addr` is of.
pub(super) fn open(addr: &Addr, transport: Transport) -> io::Result<Socket> {
    let domain = match addr {
        Addr::Ip(addr) => Domain::for_address(canonical(*addr)),
        Addr::Unix(_) => Domain::UNIX,
    };
    let ip = |protocol| (domain != Domain::UNIX).then_some(protocol);
    match transport {
        Transport::Stream => open_as(domain, Type::STREAM, ip(Protocol::TCP)),
        Transport::Records => open_as(domain, Type::SEQPACKET, None),
        Transport::Datagrams => open_as(domain, Type::DGRAM, ip(Protocol::UDP)),
        Transport::Raw(number) => {
            let protocol = Protocol::from(i32::from(number));
            open_as(domain, Type::RAW, Some(protocol))
        }
    }
}

/// Made so by the one call.
#[cfg(not(target_os = "macos"))]
fn open_as(domain: Domain, kind: Type, protocol: Option<Protocol>) -> io::Result<Socket> {
    Socket::new(domain, kind.nonblocking(), protocol)
}

/// macOS has no such flags. socket2 sets FD_CLOEXEC and SO_NOSIGPIPE right after; a process
/// that forks in between inherits the socket, which is the system's gap to close.
#[cfg(target_os = "macos")]
fn open_as(domain: Domain, kind: Type, protocol: Option<Protocol>) -> io::Result<Socket> {
    let socket = Socket::new(domain, kind, protocol)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Binds, and gives a path its mode. `addr` is `named` in the form that the system wants.
pub(super) fn bind_and_admit<'a>(
    socket: &Socket,
    addr: &SockAddr,
    named: &'a Addr,
    mode: Option<u32>,
) -> Result<MadePath<'a>, Fault> {
    socket.bind(addr).map_err(fault("bind"))?;
    let made = MadePath(named.as_unix().and_then(|name| name.path()));
    if let (Some(path), Some(mode)) = (made.0, mode) {
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(fault("chmod"))?;
    }
    Ok(made)
}

/// The path that `bind` has made, if any: unlinked again unless it is kept.
#[must_use]
pub(super) struct MadePath<'a>(Option<&'a Path>);

impl MadePath<'_> {
    /// The socket is complete, and the path is its keeper's business from now on.
    pub(super) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for MadePath<'_> {
    fn drop(&mut self) {
        let Some(path) = self.0 else { return };
        if let Err(error) = fs::remove_file(path) {
            log::debug!(target: LOG_TARGET, "unlink {}: {error}", path.display());
        }
    }
}

/// For what fails before the system is asked.
pub(super) fn refused(call: &'static str) -> impl FnOnce(Errno) -> Fault {
    move |errno| Fault { call, errno }
}

fn prepare_listener(socket: &Socket, spec: &ListenSpec) -> io::Result<()> {
    let is_ip = spec.addr.ip().is_some();
    if spec.addr.ip().is_some_and(|ip| ip.is_ipv6()) {
        socket.set_only_v6(spec.only_v6)?;
    }
    socket.set_reuse_address(true)?;
    // A path is shared by nobody, and some systems refuse the wish.
    if spec.reuse_port && is_ip {
        share_port(socket)?;
    }
    // Before `listen`, so that accepted sockets inherit them.
    apply_to(&spec.addr, socket, &spec.stream)
}

/// On FreeBSD plain SO_REUSEPORT hands every connection to one of the listeners only.
#[cfg(target_os = "freebsd")]
pub(super) fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port_lb(true)
}

#[cfg(not(target_os = "freebsd"))]
pub(super) fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

pub(super) fn must_listen(socket: &Socket) -> io::Result<()> {
    let kind = socket.r#type()?;
    if (kind == Type::STREAM || kind == Type::SEQPACKET) && is_listening(socket)? {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EINVAL))
    }
}

#[cfg(any(target_os = "linux", target_os = "freebsd"))]
fn is_listening(socket: &Socket) -> io::Result<bool> {
    socket.is_listener()
}

/// Where the system doesn't know the option (older macOS), the caller is believed; the first
/// `accept` will tell.
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
fn is_listening(socket: &Socket) -> io::Result<bool> {
    use std::os::fd::AsRawFd;
    let fd = Fd(socket.as_raw_fd());
    // SAFETY: SO_ACCEPTCONN is an int, for which every pattern of bits is a value.
    match unsafe { option::<libc::c_int>(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN) } {
        Ok(listens) => Ok(listens != 0),
        Err(Errno(libc::ENOPROTOOPT)) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

// Accepting.

/// One system call: address, nonblocking and close-on-exec come with the connection.
#[cfg(not(target_os = "macos"))]
#[inline(always)]
pub(super) fn accept4(listener: Fd, client: &mut Client) -> Result<Fd, Errno> {
    const FLAGS: libc::c_int = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let (name, length) = client.anew();
    // SAFETY: `length` bytes may be written behind the first pointer, and `length` is live.
    let fd = unsafe {
        let room = name.as_mut_ptr().cast::<libc::sockaddr>();
        libc::accept4(listener.0, room, length, FLAGS)
    };
    if fd >= 0 && client.is_known() {
        Ok(Fd(fd))
    } else {
        Err(not_accepted(fd))
    }
}

/// Nobody has come, or somebody of a family that no listener of ours has.
#[cfg(not(target_os = "macos"))]
#[cold]
fn not_accepted(fd: libc::c_int) -> Errno {
    if fd < 0 {
        return last_errno();
    }
    // SAFETY: `close` touches no memory of ours, and nobody else has this descriptor.
    let _ = unsafe { libc::close(fd) };
    Errno(libc::ECONNABORTED)
}

/// The calls after `accept` fail when the peer has reset the connection meanwhile, which is
/// what ECONNABORTED says. The socket is closed then, by being dropped.
#[cfg(target_os = "macos")]
pub(super) fn accept_stream(listener: &Socket) -> io::Result<(Socket, SockAddr)> {
    let (socket, peer) = listener.accept_raw()?;
    socket
        .set_cloexec(true)
        .and_then(|()| socket.set_nonblocking(true))
        .and_then(|()| socket.set_nosigpipe(true))
        .map_err(|_| io::Error::from_raw_os_error(libc::ECONNABORTED))?;
    Ok((socket, peer))
}

// The accept queue.

/// For a listening socket these two fields of TCP_INFO have a second meaning: the length of
/// the accept queue and its limit (`tcp_get_info` in the kernel's net/ipv4/tcp.c).
#[cfg(target_os = "linux")]
pub(super) fn accept_queue(listener: Fd) -> Result<(u32, u32), Errno> {
    // SAFETY: `tcp_info` consists of integers, for which every pattern of bits is a value.
    let info = unsafe { option::<libc::tcp_info>(listener, libc::IPPROTO_TCP, libc::TCP_INFO)? };
    Ok((info.tcpi_unacked, info.tcpi_sacked))
}

#[cfg(target_os = "freebsd")]
pub(super) fn accept_queue(listener: Fd) -> Result<(u32, u32), Errno> {
    let ask = |name| {
        // SAFETY: both options are ints, for which every pattern of bits is a value.
        unsafe { option::<libc::c_uint>(listener, libc::SOL_SOCKET, name) }
    };
    Ok((ask(libc::SO_LISTENQLEN)?, ask(libc::SO_LISTENQLIMIT)?))
}

/// NetBSD and macOS have no public way to ask.
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
pub(super) fn accept_queue(_listener: Fd) -> Result<(u32, u32), Errno> {
    Err(Errno(libc::ENOTSUP))
}
