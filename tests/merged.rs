//! Datagrams that a real kernel has merged come apart again: with their bytes, their bounds,
//! their sender and in their order; and nobody else gets them merged.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]
#![allow(unsafe_code, reason = "no crate here can ask for segments to be cut")]

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use windlass::{Addr, Bind, Config, Datagram, Handler, PanicPolicy, Reactor, Socket, SocketId};

/// Longer than anything takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(15);

/// The kernel cuts no send into more, of those versions that have the fewest.
const MOST_SEGMENTS: usize = 64;

#[derive(Default)]
struct Diary {
    came: Vec<(Vec<u8>, Addr)>,
    truncated: usize,
    told: usize,
    /// Stops hearing after each that many.
    pause_every: Option<usize>,
}

impl Handler for Diary {
    type Session = ();

    fn on_datagram(&mut self, socket: &mut Socket<'_>, datagram: &Datagram<'_>) {
        self.came.push((datagram.to_vec(), datagram.from().clone()));
        self.truncated += usize::from(datagram.is_truncated());
        self.told += usize::from(datagram.to().is_some());
        if self
            .pause_every
            .is_some_and(|every| self.came.len().is_multiple_of(every))
        {
            socket.pause();
        }
    }
}

fn reactor(change: impl FnOnce(&mut Config)) -> Reactor<Diary> {
    let mut config = Config::default();
    config.panic_policy = PanicPolicy::Propagate;
    change(&mut config);
    Reactor::with_config(Diary::default(), config).unwrap()
}

fn merging(at: &str) -> Bind {
    Bind::new(at).unwrap().gro(true).receive_buffer(4 << 20)
}

fn bound(reactor: &mut Reactor<Diary>, bind: Bind) -> (SocketId, SocketAddr) {
    let socket = reactor.bind(bind).unwrap();
    let addr = reactor.socket(socket).unwrap().local_addr().unwrap();
    (socket, addr.as_socket_addr().unwrap())
}

#[track_caller]
fn drive(reactor: &mut Reactor<Diary>, many: usize) {
    let began = Instant::now();
    while reactor.handler().came.len() < many {
        assert!(began.elapsed() < PATIENCE, "it never came to that");
        let _ = reactor.turn(Some(Duration::from_millis(5))).unwrap();
    }
}

fn option(fd: &impl AsRawFd, name: libc::c_int, set: Option<libc::c_int>) -> io::Result<i32> {
    let (fd, level) = (fd.as_raw_fd(), libc::SOL_UDP);
    let mut value = set.unwrap_or(0);
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    let at = (&raw mut value).cast();
    // SAFETY: the value and its length live across the call.
    let answer = unsafe {
        match set {
            Some(_) => libc::setsockopt(fd, level, name, at, length),
            None => libc::getsockopt(fd, level, name, at, &raw mut length),
        }
    };
    match answer {
        0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Datagrams of one size (the last may be shorter), which the kernel is to cut.
fn send_cut(peer: &UdpSocket, to: SocketAddr, all: &[Vec<u8>]) {
    let size = all[0].len();
    option(peer, libc::UDP_SEGMENT, Some(size as i32)).unwrap();
    for burst in all.chunks(MOST_SEGMENTS.min(60_000 / size)) {
        let bytes = burst.concat();
        assert_eq!(peer.send_to(&bytes, to).unwrap(), bytes.len());
    }
    option(peer, libc::UDP_SEGMENT, Some(0)).unwrap();
}

fn peer_like(to: SocketAddr) -> UdpSocket {
    UdpSocket::bind(SocketAddr::new(to.ip(), 0)).unwrap()
}

fn numbered(many: usize, size: usize) -> Vec<Vec<u8>> {
    let bytes = |n: usize| {
        n.to_be_bytes()
            .into_iter()
            .rev()
            .cycle()
            .take(size)
            .collect()
    };
    (0..many).map(bytes).collect()
}

fn heard(reactor: &Reactor<Diary>) -> Vec<Vec<u8>> {
    let came = &reactor.handler().came;
    came.iter().map(|(bytes, _)| bytes.clone()).collect()
}

#[test]
fn what_the_kernel_hands_over_in_one_piece_comes_apart_again() {
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let mut reactor = reactor(|_| {});
        let Ok(socket) = reactor.bind(merging(at)) else {
            eprintln!("no {at} on this machine, nothing tested");
            continue;
        };
        let addr = reactor.socket(socket).unwrap().local_addr().unwrap();
        let addr = addr.as_socket_addr().unwrap();
        let peer = peer_like(addr);
        let mut sent = Vec::new();
        for size in [1, 9, 100, 1200] {
            let mut all = numbered(300, size);
            all.last_mut().unwrap().truncate(size.div_ceil(2));
            send_cut(&peer, addr, &all);
            sent.extend(all);
            peer.send_to(b"", addr).unwrap();
            peer.send_to(b"alone", addr).unwrap();
            sent.extend([vec![], b"alone".to_vec()]);
            drive(&mut reactor, sent.len());
        }
        assert_eq!(heard(&reactor), sent);
        let from = Addr::from(peer.local_addr().unwrap());
        assert!(reactor.handler().came.iter().all(|(_, it)| *it == from));
        let stats = reactor.stats();
        assert_eq!(stats.datagrams_received, sent.len() as u64);
        assert!(stats.reads < sent.len() as u64 / 8, "{} calls", stats.reads);
    }
}

#[test]
fn a_budget_and_pauses_between_them_lose_none() {
    let mut reactor = reactor(|config| config.datagram_budget = 11);
    reactor.handler_mut().pause_every = Some(17);
    let (socket, addr) = bound(&mut reactor, merging("127.0.0.1:0"));
    let sent = numbered(1_000, 50);
    let peer = peer_like(addr);
    send_cut(&peer, addr, &sent);
    for at in (17..1_000).step_by(17) {
        drive(&mut reactor, at);
        let _ = reactor.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!(reactor.handler().came.len(), at);
        reactor.socket(socket).unwrap().resume();
    }
    drive(&mut reactor, 1_000);
    assert_eq!(heard(&reactor), sent);
}

#[test]
fn each_of_them_says_whether_it_was_cut_off_and_where_it_was_sent() {
    let mut reactor = reactor(|config| config.max_datagram = 8);
    let (_, addr) = bound(&mut reactor, merging("127.0.0.1:0").destinations(true));
    send_cut(&peer_like(addr), addr, &numbered(100, 20));
    drive(&mut reactor, 100);
    let diary = reactor.handler();
    assert_eq!((diary.truncated, diary.told), (100, 100));
    assert!(diary.came.iter().all(|(bytes, _)| bytes.len() == 8));
}

#[test]
fn a_socket_made_elsewhere_can_be_asked_for_it_and_is_cut_if_it_has_it() {
    for (has, asks) in [(true, false), (false, true), (true, true)] {
        let made = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = made.local_addr().unwrap();
        option(&made, libc::UDP_GRO, Some(has.into())).unwrap();
        let sent = numbered(MOST_SEGMENTS, 30);
        // Before the loop has it.
        send_cut(&peer_like(addr), addr, &sent);
        let mut reactor = reactor(|_| {});
        reactor
            .bind(Bind::adopt(OwnedFd::from(made)).gro(asks))
            .unwrap();
        drive(&mut reactor, sent.len());
        assert_eq!(heard(&reactor), sent);
    }
}

#[test]
fn whoever_has_a_duplicate_gets_them_apart_once_the_socket_is_closed() {
    let made = UdpSocket::bind("127.0.0.1:0").unwrap();
    let kept = made.try_clone().unwrap();
    let mut reactor = reactor(|_| {});
    let (socket, addr) = bound(&mut reactor, Bind::adopt(OwnedFd::from(made)).gro(true));
    assert_eq!(option(&kept, libc::UDP_GRO, None).unwrap(), 1);
    reactor.socket(socket).unwrap().close();
    let _ = reactor.turn(Some(Duration::ZERO)).unwrap();
    assert!(reactor.socket(socket).is_none());
    assert_eq!(option(&kept, libc::UDP_GRO, None).unwrap(), 0);
    send_cut(&peer_like(addr), addr, &numbered(3, 10));
    kept.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(kept.recv(&mut [0; 100]).unwrap(), 10);
}

#[test]
fn who_does_not_ask_gets_them_apart_from_the_kernel() {
    let mut reactor = reactor(|_| {});
    let plain = Bind::new("127.0.0.1:0").unwrap().receive_buffer(4 << 20);
    let (_, addr) = bound(&mut reactor, plain);
    let sent = numbered(100, 40);
    send_cut(&peer_like(addr), addr, &sent);
    drive(&mut reactor, sent.len());
    assert_eq!(heard(&reactor), sent);
}

#[test]
fn other_sockets_than_those_of_udp_refuse_it() {
    let mut reactor = reactor(|_| {});
    let name = format!("unixgram://@windlass-merged-{}", std::process::id());
    let error = reactor.bind(merging(&name)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOPROTOOPT));
}
