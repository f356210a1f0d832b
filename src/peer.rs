//! The address of a connection's other end, in the eighteen bytes that most of them take.
//!
//! Pure. What does not fit (a Unix name, a zone, a flow label) is kept among the connection's
//! cold fields.

use std::net::{Ipv6Addr, SocketAddr};

use crate::address::Addr;

/// The other end of most connections: an address as IPv6 has it, and a port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    ip: [u8; 16],
    port: u16,
}

impl Peer {
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
