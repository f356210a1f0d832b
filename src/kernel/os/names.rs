//! Addresses, between the form that the system has them in and ours.
//!
//! An IPv4 address stays one wherever it comes from: what a dual-stack socket reports as
//! `::ffff:a.b.c.d` is the same peer as without it. The name of a Unix socket stays as
//! `sockaddr_un` has it, without what the system fills it up with.

use std::ffi::OsStr;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use socket2::{Domain, SockAddr, SockAddrStorage};

use crate::address::{Addr, UnixAddr};
use crate::kernel::Errno;
#[cfg(not(target_os = "macos"))]
use crate::peer::{Peer, Remote};

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
fn unix_name(addr: &SockAddr) -> Option<&[u8]> {
    if addr.domain() != Domain::UNIX {
        return None;
    }
    let length = (addr.len() as usize).min(size_of::<SockAddrStorage>());
    // SAFETY: the storage behind the pointer is initialised, as `SockAddr` demands of
    // whoever makes one, it lives as long as `addr`, and `length` is within it.
    let bytes = unsafe { std::slice::from_raw_parts(addr.as_ptr().cast::<u8>(), length) };
    Some(name_in(bytes))
}

/// The name in the bytes of a Unix address.
fn name_in(addr: &[u8]) -> &[u8] {
    let name = addr.get(NAME_AT..).unwrap_or_default();
    if cfg!(target_os = "linux") && name.first() == Some(&0) {
        // An abstract name ends where the address does, and may have any bytes.
        return name;
    }
    name.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Room for an address, where the system reads or writes one: of 128 bytes, only those are
/// touched that the address has.
#[repr(transparent)]
pub(super) struct Name(libc::sockaddr_storage);

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Name")
    }
}

#[cfg(not(target_os = "macos"))]
impl Default for Name {
    fn default() -> Self {
        // SAFETY: it consists of integers, for which all zeroes are a value.
        Self(unsafe { std::mem::zeroed() })
    }
}

impl Name {
    /// How long an address may be.
    pub(super) const ROOM: libc::socklen_t = size_of::<Self>() as libc::socklen_t;

    pub(super) fn as_ptr(&self) -> *const libc::sockaddr_storage {
        &raw const self.0
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::sockaddr_storage {
        &raw mut self.0
    }

    /// What is there is no address any more.
    pub(super) fn clear(&mut self) {
        self.0.ss_family = libc::AF_UNSPEC as libc::sa_family_t;
    }

    /// The IP address that the system wrote, being of that length.
    #[inline]
    pub(super) fn ip(&self, length: libc::socklen_t) -> Option<Addr> {
        let has = |bytes: usize| length as usize >= bytes;
        match libc::c_int::from(self.0.ss_family) {
            libc::AF_INET if has(size_of::<libc::sockaddr_in>()) => {
                // SAFETY: the storage is large enough and aligned for any address, and
                // consists of initialised integers.
                let addr = unsafe { &*self.as_ptr().cast::<libc::sockaddr_in>() };
                let ip = Ipv4Addr::from_bits(u32::from_be(addr.sin_addr.s_addr));
                let addr = SocketAddrV4::new(ip, u16::from_be(addr.sin_port));
                Some(Addr::Ip(addr.into()))
            }
            libc::AF_INET6 if has(size_of::<libc::sockaddr_in6>()) => {
                // SAFETY: as above.
                let addr = unsafe { &*self.as_ptr().cast::<libc::sockaddr_in6>() };
                let ip = Ipv6Addr::from(addr.sin6_addr.s6_addr);
                let port = u16::from_be(addr.sin6_port);
                let addr = SocketAddrV6::new(ip, port, addr.sin6_flowinfo, addr.sin6_scope_id);
                Some(Addr::from(SocketAddr::from(addr)))
            }
            _ => None,
        }
    }

    /// The name of the Unix socket that the system wrote, the address being of that length.
    pub(super) fn unix(&self, length: libc::socklen_t) -> Option<&[u8]> {
        if libc::c_int::from(self.0.ss_family) != libc::AF_UNIX {
            return None;
        }
        let length = length.min(Self::ROOM) as usize;
        // SAFETY: all of the storage is initialised, and `length` is within it.
        let bytes = unsafe { std::slice::from_raw_parts(self.as_ptr().cast::<u8>(), length) };
        Some(name_in(bytes))
    }

    /// Puts an IPv4 address there, in its own form; answers its length.
    #[inline]
    pub(super) fn put_v4(&mut self, addr: SocketAddrV4) -> libc::socklen_t {
        const LENGTH: usize = size_of::<libc::sockaddr_in>();
        let addr = libc::sockaddr_in {
            #[cfg(not(target_os = "linux"))]
            sin_len: LENGTH as u8,
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: addr.port().to_be(),
            sin_addr: libc::in_addr {
                s_addr: addr.ip().to_bits().to_be(),
            },
            sin_zero: [0; 8],
        };
        // SAFETY: the storage is large enough and aligned for any address.
        unsafe { self.as_mut_ptr().cast::<libc::sockaddr_in>().write(addr) };
        LENGTH as libc::socklen_t
    }

    /// Puts any address there; answers its length.
    pub(super) fn put(&mut self, addr: &SockAddr) -> libc::socklen_t {
        let length = addr.len().min(Self::ROOM);
        // SAFETY: `length` bytes of the address are initialised and there is room for them;
        // the two are different memory, since one is borrowed exclusively.
        unsafe {
            ptr::copy_nonoverlapping(
                addr.as_ptr().cast::<u8>(),
                self.as_mut_ptr().cast::<u8>(),
                length as usize,
            );
        }
        length
    }
}

/// Who has been accepted, as the system wrote it.
#[cfg(not(target_os = "macos"))]
#[derive(Debug, Default)]
pub(super) struct Client {
    name: Name,
    length: libc::socklen_t,
}

#[cfg(not(target_os = "macos"))]
impl Client {
    /// For the next one: where the name is written, and its length. What is there is no address
    /// any more.
    #[inline]
    pub(super) fn anew(&mut self) -> (&mut Name, &mut libc::socklen_t) {
        self.name.clear();
        self.length = Name::ROOM;
        (&mut self.name, &mut self.length)
    }

    fn family(&self) -> libc::c_int {
        libc::c_int::from(self.name.0.ss_family)
    }

    fn has(&self, bytes: usize) -> bool {
        self.length as usize >= bytes
    }

    /// Whether it is an address of which [`remote`](Self::remote) knows what it says.
    #[inline]
    pub(super) fn is_known(&self) -> bool {
        let is_v4 = self.family() == libc::AF_INET && self.has(size_of::<libc::sockaddr_in>());
        is_v4 || self.is_known_elsewhere()
    }

    #[inline(never)]
    fn is_known_elsewhere(&self) -> bool {
        match self.family() {
            libc::AF_INET6 => self.has(size_of::<libc::sockaddr_in6>()),
            family => family == libc::AF_UNIX,
        }
    }

    /// An IPv4 address, if it is one.
    #[inline(always)]
    pub(super) fn v4(&self) -> Option<Peer> {
        if self.family() != libc::AF_INET {
            return None;
        }
        // SAFETY: as in `ip`; that it is long enough, `is_known` has seen.
        let addr = unsafe { &*self.name.as_ptr().cast::<libc::sockaddr_in>() };
        let ip = addr.sin_addr.s_addr.to_ne_bytes();
        Some(Peer::of_v4(ip, u16::from_be(addr.sin_port)))
    }

    fn v6(&self) -> Option<Peer> {
        if self.family() != libc::AF_INET6 || !self.has(size_of::<libc::sockaddr_in6>()) {
            return None;
        }
        // SAFETY: as in `ip`.
        let addr = unsafe { &*self.name.as_ptr().cast::<libc::sockaddr_in6>() };
        let ip = addr.sin6_addr.s6_addr;
        // With a zone it takes more.
        (addr.sin6_scope_id == 0).then(|| Peer::of_v6(ip, u16::from_be(addr.sin6_port)))
    }

    /// Packed if it can be.
    pub(super) fn remote(&self) -> Remote {
        if let Some(peer) = self.v4().or_else(|| self.v6()) {
            return Remote::Packed(peer);
        }
        let addr = self.name.ip(self.length).unwrap_or_else(|| {
            let name = self.name.unix(self.length).unwrap_or_default();
            Addr::Unix(UnixAddr::from_bytes(name))
        });
        Remote::from(addr)
    }
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
