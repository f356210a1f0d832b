//! Addresses, between the form that the system has them in and ours.
//!
//! An IPv4 address stays one wherever it comes from: what a dual-stack socket reports as
//! `::ffff:a.b.c.d` is the same peer as without it. The name of a Unix socket stays as
//! `sockaddr_un` has it, without what the system fills it up with.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;

use socket2::{Domain, SockAddr, SockAddrStorage};

use crate::address::{Addr, UnixAddr};
use crate::kernel::Errno;

/// Where the name begins in a Unix address.
const NAME_AT: usize = std::mem::offset_of!(libc::sockaddr_un, sun_path);

/// An address that the system answered; `None` if it is of a family unknown here, or empty.
pub(super) fn to_addr(addr: &SockAddr) -> Option<Addr> {
    match addr.as_socket() {
        Some(addr) => Some(Addr::from(canonical(addr))),
        None => unix_name(addr).map(|name| Addr::Unix(UnixAddr::from_bytes(name))),
    }
}

/// The name in a Unix address, as [`UnixAddr`] keeps it; empty if it has none.
pub(super) fn unix_name(addr: &SockAddr) -> Option<&[u8]> {
    if addr.domain() != Domain::UNIX {
        return None;
    }
    let length = (addr.len() as usize).min(size_of::<SockAddrStorage>());
    let length = length.saturating_sub(NAME_AT);
    // SAFETY: the storage behind the pointer is initialised, as `SockAddr` demands of
    // whoever makes one, it lives as long as `addr`, and `NAME_AT + length` is within it.
    let name = unsafe {
        let storage = addr.as_ptr().cast::<u8>();
        std::slice::from_raw_parts(storage.add(NAME_AT), length)
    };
    if cfg!(target_os = "linux") && name.first() == Some(&0) {
        // An abstract name ends where the address does, and may have any bytes.
        return Some(name);
    }
    name.split(|byte| *byte == 0).next()
}

/// An address of ours for the system. EINVAL for a name that no Unix socket can have.
pub(super) fn sock_addr(addr: &Addr) -> Result<SockAddr, Errno> {
    match addr {
        Addr::Ip(addr) => Ok(SockAddr::from(canonical(*addr))),
        Addr::Unix(name) => unix_sock_addr(name),
    }
}

fn unix_sock_addr(name: &UnixAddr) -> Result<SockAddr, Errno> {
    // The system would take a path with a NUL inside for a shorter one.
    let expressible = match name.abstract_name() {
        Some(_) => cfg!(target_os = "linux"),
        None => !name.bytes().contains(&0),
    };
    if !expressible {
        return Err(Errno(libc::EINVAL));
    }
    // It fails for long names only, and without an errno of the system's.
    SockAddr::unix(OsStr::from_bytes(name.bytes())).map_err(|_| Errno(libc::EINVAL))
}

/// The form in which an IPv4 peer of an IPv6 socket is known to the system.
pub(super) fn mapped(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port()),
        IpAddr::V6(_) => addr,
    }
}

pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, addr.port()),
        // Rebuilding it would lose the scope of a link-local address.
        IpAddr::V6(_) => addr,
    }
}

/// Our own end of a socket that will connect to `remote`: [`own_end`] for IP addresses.
pub(super) fn own_addr(local: &Addr, remote: &Addr) -> Result<SockAddr, Errno> {
    match (local, remote) {
        (Addr::Ip(local), Addr::Ip(remote)) => {
            let own = own_end(canonical(*local), canonical(*remote));
            Ok(SockAddr::from(own))
        }
        _ => sock_addr(local),
    }
}

/// Any address of ours is one of the family that the socket has; a particular one of the
/// other family stays as it is, for `bind` to refuse.
///
/// With this, and with IPv4 sockets for mapped addresses, nothing depends on IPV6_V6ONLY:
/// a socket of IPv6 speaks to IPv6 peers only. Hence it is left alone.
pub(super) fn own_end(local: SocketAddr, remote: SocketAddr) -> SocketAddr {
    if !local.ip().is_unspecified() || local.is_ipv4() == remote.is_ipv4() {
        return local;
    }
    let any: IpAddr = match remote {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(any, local.port())
}
