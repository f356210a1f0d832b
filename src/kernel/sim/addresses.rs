//! What addresses mean to one another on a host whose every interface is the loopback.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// First port handed out for port 0, and first port of a client: the IANA dynamic range.
pub(super) const FIRST_DYNAMIC_PORT: u16 = 49_152;

pub(super) fn following(port: u16) -> u16 {
    port.checked_add(1).unwrap_or(FIRST_DYNAMIC_PORT)
}

/// Whether two addresses (with their IPV6_V6ONLY) can mean the same destination.
pub(super) fn overlap(one: (SocketAddr, bool), other: (SocketAddr, bool)) -> bool {
    let covers = |(wide, only_v6): (SocketAddr, bool), narrow: SocketAddr| match wide.ip() {
        IpAddr::V4(ip) => ip.is_unspecified() && narrow.is_ipv4(),
        IpAddr::V6(ip) => ip.is_unspecified() && (narrow.is_ipv6() || !only_v6),
    };
    let same_place = one.0.ip() == other.0.ip() || covers(one, other.0) || covers(other, one.0);
    one.0.port() == other.0.port() && same_place
}

/// "No address" of the same family.
pub(super) fn unspecified(like: SocketAddr) -> IpAddr {
    match like {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// An IPv4 address is one in any spelling.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// "No address" means this host.
pub(super) fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        ip if ip.is_unspecified() => loopback(addr),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

/// This host, in the family of `like`.
pub(super) fn loopback(like: SocketAddr) -> IpAddr {
    match like {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}
