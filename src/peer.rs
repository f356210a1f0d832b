//! The address of a connection's other end, in the eighteen bytes that most of them take.
//!
//! Pure. What does not fit (a Unix name, a zone, a flow label) is kept among the connection's
//! cold fields.

#[cfg(not(target_os = "macos"))]
use std::net::Ipv4Addr;
use std::net::{Ipv6Addr, SocketAddr};

use crate::address::Addr;

/// The other end of most connections: an address as IPv6 has it, and a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Peer {
    ip: [u8; 16],
    port: u16,
}

/// The other end of a new connection, packed if it can be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Remote {
    Packed(Peer),
    Unpacked(Addr),
}

impl Remote {
    pub(crate) fn is_unix(&self) -> bool {
        matches!(self, Self::Unpacked(Addr::Unix(_)))
    }
}

impl From<Addr> for Remote {
    fn from(addr: Addr) -> Self {
        match Peer::pack(&addr) {
            Some(packed) => Self::Packed(packed),
            None => Self::Unpacked(addr),
        }
    }
}

impl From<Remote> for Addr {
    fn from(remote: Remote) -> Self {
        match remote {
            Remote::Packed(peer) => peer.unpack(),
            Remote::Unpacked(addr) => addr,
        }
    }
}

impl Peer {
    /// From the four bytes as they are sent.
    #[cfg(not(target_os = "macos"))]
    pub(crate) fn of_v4(ip: [u8; 4], port: u16) -> Self {
        Self {
            ip: Ipv4Addr::from(ip).to_ipv6_mapped().octets(),
            port,
        }
    }

    /// From the sixteen bytes as they are sent. One that is IPv4 in the form of IPv6 comes back
    /// in its own form, as everywhere.
    #[cfg(not(target_os = "macos"))]
    pub(crate) fn of_v6(ip: [u8; 16], port: u16) -> Self {
        Self { ip, port }
    }

    /// Answers nothing for an address that has more to it, or would not come back the same.
    pub(crate) fn pack(addr: &Addr) -> Option<Self> {
        let Addr::Ip(addr) = addr else {
            return None;
        };
        let ip = match addr {
            SocketAddr::V4(addr) => addr.ip().to_ipv6_mapped(),
            SocketAddr::V6(addr) => *addr.ip(),
        };
        let packed = Self {
            ip: ip.octets(),
            port: addr.port(),
        };
        (addr.is_ipv4() || packed.unpack() == Addr::Ip(*addr)).then_some(packed)
    }

    pub(crate) fn unpack(self) -> Addr {
        let ip = Ipv6Addr::from(self.ip).to_canonical();
        Addr::Ip(SocketAddr::new(ip, self.port))
    }

    /// Stands where the address is kept elsewhere.
    pub(crate) const ELSEWHERE: Self = Self {
        ip: [0; 16],
        port: 0,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_packed_comes_back_the_same() {
        for text in ["127.0.0.1:80", "[::1]:443", "[2001:db8::7]:1", "0.0.0.0:0"] {
            let addr = Addr::Ip(text.parse().unwrap());
            assert_eq!(Peer::pack(&addr).unwrap().unpack(), addr, "{text}");
        }
    }

    #[test]
    fn what_would_not_come_back_is_not_packed() {
        for text in ["[fe80::1%3]:80", "[::ffff:10.0.0.1]:80"] {
            let addr = Addr::Ip(text.parse().unwrap());
            assert!(Peer::pack(&addr).is_none(), "{text}");
        }
        assert!(Peer::pack(&Addr::Unix("/run/x.sock".parse().unwrap())).is_none());
    }
}
