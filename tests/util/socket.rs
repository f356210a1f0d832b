//! A look at sockets that a loop of this process has open: what the kernel says about
//! them, as no interface of the crate would.

#![allow(dead_code, reason = "every test file uses its own part of this")]
#![allow(
    unreachable_pub,
    reason = "public towards the test file that includes it"
)]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::fs;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef};

/// The address family of the socket that listens on `local`.
#[track_caller]
pub fn family(local: SocketAddr) -> Domain {
    look(local, None, |socket| socket.local_addr().unwrap().domain())
}

/// Whether the IPv6 socket that listens on `local` takes no IPv4 clients.
#[track_caller]
pub fn only_v6(local: SocketAddr) -> bool {
    look(local, None, |socket| socket.only_v6().unwrap())
}

/// What TCP keep-alive does on a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probing {
    pub on: bool,
    pub idle: Duration,
    pub interval: Duration,
    pub count: u32,
}

/// Keep-alive of the socket with these two ends.
#[track_caller]
pub fn probing(local: SocketAddr, peer: SocketAddr) -> Probing {
    look(local, Some(peer), |socket| Probing {
        on: socket.keepalive().unwrap(),
        idle: socket.tcp_keepalive_time().unwrap(),
        interval: socket.tcp_keepalive_interval().unwrap(),
        count: socket.tcp_keepalive_retries().unwrap(),
    })
}

/// TCP_NODELAY of the socket with these two ends.
#[track_caller]
pub fn nodelay(local: SocketAddr, peer: SocketAddr) -> bool {
    look(local, Some(peer), |socket| socket.tcp_nodelay().unwrap())
}

/// Asks the socket with this end, and that other end if there is one.
#[track_caller]
fn look<R>(
    local: SocketAddr,
    peer: Option<SocketAddr>,
    question: impl FnOnce(&SockRef<'_>) -> R,
) -> R {
    let ends = |socket: &SockRef<'_>| {
        let own = socket.local_addr().ok().as_ref().and_then(canonical);
        let other = socket.peer_addr().ok().as_ref().and_then(canonical);
        own == Some(local) && other == peer
    };
    for fd in descriptors() {
        let borrowed = borrow(fd);
        let socket = SockRef::from(&borrowed);
        if ends(&socket) {
            return question(&socket);
        }
    }
    panic!("no socket of this process has the ends {local} and {peer:?}");
}

#[allow(
    unsafe_code,
    reason = "the loop's descriptors are known by number only"
)]
fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the number is only asked for addresses and options. Should somebody close it
    // meanwhile, the answer is EBADF or another socket's, and changes nothing.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

fn descriptors() -> Vec<RawFd> {
    let listing = fs::read_dir("/proc/self/fd").or_else(|_| fs::read_dir("/dev/fd"));
    let names = listing.expect("a list of descriptors");
    names
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// Mapped addresses as the IPv4 addresses that they are.
fn canonical(addr: &SockAddr) -> Option<SocketAddr> {
    let addr = addr.as_socket()?;
    match addr.ip().to_canonical() {
        ip if ip.is_ipv4() => Some(SocketAddr::new(ip, addr.port())),
        _ => Some(addr),
    }
}
