//! What Go's `listen_test.go` checks of TCP listeners, on a real kernel.
//!
//! The line above each test names the rows of Go's behaviour that it stands for.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

#[path = "util/socket.rs"]
mod socket;
mod util;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};

use socket2::Domain;
use util::{PATIENCE, Recorder, connect, eventually, ip, round_trip, serve};
use windlass::sim::{Call, World};
use windlass::{Error, Handler, ListenerId, Reactor};

/// Every way to say "everywhere" on `tcp`.
const WILDCARDS: [&str; 4] = ["", "0.0.0.0", "[::ffff:0.0.0.0]", "[::]"];

// Go 46, 49, TestTCPListener: the wildcards.
#[test]
fn a_wildcard_is_one_socket_for_both_families_and_holds_its_port() {
    if !has_ipv6() {
        return;
    }
    for host in WILDCARDS {
        let (mut reactor, addr) = listening("tcp", host, 0);
        assert_eq!(socket::family(addr), Domain::IPV6, "{host:?}");
        assert!(!socket::only_v6(addr), "{host:?}");
        for loopback in BOTH_LOOPBACKS {
            TcpStream::connect((loopback, addr.port())).expect(host);
        }
        assert_is_taken(&mut reactor, "tcp", host, addr.port());
    }
}

// Go 47, 48, 49, TestTCPListener: one family.
#[test]
fn an_address_or_a_network_of_one_family_is_a_socket_of_that_family() {
    let rows = [
        ("tcp", "127.0.0.1", Domain::IPV4),
        ("tcp", "[::ffff:127.0.0.1]", Domain::IPV4),
        ("tcp", "[::1]", Domain::IPV6),
        ("tcp4", "", Domain::IPV4),
        ("tcp4", "0.0.0.0", Domain::IPV4),
        ("tcp4", "[::ffff:0.0.0.0]", Domain::IPV4),
        ("tcp4", "127.0.0.1", Domain::IPV4),
        ("tcp4", "[::ffff:127.0.0.1]", Domain::IPV4),
        ("tcp6", "", Domain::IPV6),
        ("tcp6", "[::]", Domain::IPV6),
        ("tcp6", "[::1]", Domain::IPV6),
    ];
    for (network, host, family) in rows {
        if family == Domain::IPV6 && !has_ipv6() {
            continue;
        }
        let (mut reactor, addr) = listening(network, host, 0);
        assert_eq!(socket::family(addr), family, "{network} {host:?}");
        if network == "tcp6" {
            assert!(socket::only_v6(addr), "{host:?}");
        }
        let loopback = BOTH_LOOPBACKS[usize::from(family == Domain::IPV6)];
        TcpStream::connect((loopback, addr.port())).expect(host);
        assert_is_taken(&mut reactor, network, host, addr.port());
    }
}

// Go 51, TestDualStackTCPListener: two wildcards.
#[test]
fn two_wildcards_of_both_families_exclude_each_other() {
    if !has_ipv6() {
        return;
    }
    let pairs = [
        ("", ""),
        ("", "0.0.0.0"),
        ("0.0.0.0", ""),
        ("", "[::]"),
        ("[::]", ""),
        ("0.0.0.0", "[::]"),
        ("[::]", "0.0.0.0"),
        ("[::ffff:0.0.0.0]", "[::]"),
        ("[::]", "[::ffff:0.0.0.0]"),
    ];
    for (first, second) in pairs {
        let (mut reactor, addr) = listening("tcp", first, 0);
        assert_is_taken(&mut reactor, "tcp", second, addr.port());
    }
}

// Go 52, 53, TestDualStackTCPListener: one family each.
#[test]
fn a_listener_for_each_family_may_have_the_same_port() {
    if !has_ipv6() {
        return;
    }
    let pairs = [
        (("tcp4", ""), ("tcp6", "")),
        (("tcp4", "0.0.0.0"), ("tcp6", "[::]")),
        (("tcp", "127.0.0.1"), ("tcp", "[::1]")),
        (("tcp4", "127.0.0.1"), ("tcp6", "[::1]")),
    ];
    let turned = pairs.map(|(first, second)| (second, first));
    for ((network, host), second) in pairs.into_iter().chain(turned) {
        let neighbours = || {
            let (mut reactor, addr) = listening(network, host, 0);
            let other = listen(&mut reactor, second.0, second.1, addr.port()).ok()?;
            let other = reactor.listener(other)?.local_addr();
            Some((reactor, addr, ip(other)))
        };
        // Somebody else may have that port in the other family.
        let found = (0..TRIES).find_map(|_| neighbours());
        let (_reactor, addr, other) = found.expect("both listen");
        assert_eq!(addr.port(), other.port());
        assert_ne!(socket::family(addr), socket::family(other));
        for loopback in BOTH_LOOPBACKS {
            TcpStream::connect((loopback, addr.port())).expect("each has its family");
        }
    }
}

// Go 54, TestDualStackTCPListener: adapted, since a host of today that maps no addresses is
// one whose IPv6 sockets refuse to take IPv4 clients: a wildcard is then IPv4's alone.
#[test]
fn where_one_socket_cannot_take_both_families_wildcards_stand_side_by_side() {
    for (call, errno) in [
        (Call::Socket, libc::EAFNOSUPPORT),
        (Call::SetOption, libc::ENOPROTOOPT),
    ] {
        let mut world = World::new(1, Recorder::echo());
        world.faults().fail(call, errno, 1);
        assert_eq!(world.listen(":7"), SocketAddr::from(([0, 0, 0, 0], 7)));
        let beside = world.listen("tcp6://[::]:7");
        assert_eq!((beside.is_ipv6(), beside.port()), (true, 7));
    }
}

// Go 56, TestWildWildcardListener: adapted, typed addresses can't be nil in Rust.
#[test]
fn no_address_at_all_is_a_port_of_the_kernels_choice_everywhere() {
    let mut reactor = Reactor::new(Recorder::new()).unwrap();
    for text in ["tcp://", "tcp://:", ":", ":0"] {
        let id = reactor.listen(text).expect(text);
        let addr = ip(reactor.listener(id).unwrap().local_addr());
        assert!(addr.ip().is_unspecified() && addr.port() != 0, "{addr}");
    }
    let typed = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let id = reactor.listen(typed).unwrap();
    let addr = ip(reactor.listener(id).unwrap().local_addr());
    assert!(addr.ip().is_unspecified() && addr.port() != 0, "{addr}");
    // Only the empty text is no address: it is more likely a setting that was forgotten.
    let error = reactor.listen("").unwrap_err();
    assert_eq!(error.to_string(), "listen tcp: missing address");
}

// Go 59, TestClosingListener.
#[test]
fn the_address_of_a_listener_that_closed_can_be_listened_on_at_once() {
    let server = serve(Recorder::echo());
    let (addr, listener) = (server.addr, server.listener);
    // The loop waits for a client that never comes.
    let closed = server.ask(move |_, cx| cx.listener(listener).map(|mut it| it.close()));
    assert_eq!(closed, Some(()));
    let gone = || server.ask(move |_, cx| cx.listener(listener).is_none());
    assert!(eventually(PATIENCE, gone), "it stays");
    let again = server.ask(move |_, cx| cx.listen(addr));
    assert!(again.is_ok_and(|id| id != listener));
    assert_eq!(round_trip(&mut connect(addr), b"here again"), b"here again");
    server.stop();
}

/// How often a port is tried that somebody else may have taken.
const TRIES: usize = 20;

const BOTH_LOOPBACKS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

fn has_ipv6() -> bool {
    let has = TcpListener::bind("[::1]:0").is_ok();
    if !has {
        eprintln!("this host has no IPv6");
    }
    has
}

fn listen<H: Handler>(
    reactor: &mut Reactor<H>,
    network: &str,
    host: &str,
    port: u16,
) -> Result<ListenerId, Error> {
    reactor.listen(format!("{network}://{host}:{port}"))
}

/// A loop that listens there, and where that is.
#[track_caller]
fn listening(network: &str, host: &str, port: u16) -> (Reactor<Recorder>, SocketAddr) {
    let mut reactor = Reactor::new(Recorder::new()).unwrap();
    let id = listen(&mut reactor, network, host, port).expect(host);
    let addr = ip(reactor.listener(id).unwrap().local_addr());
    (reactor, addr)
}

/// A second listener fails, in Go's words, and leaves the first one alone.
#[track_caller]
fn assert_is_taken(reactor: &mut Reactor<Recorder>, network: &str, host: &str, port: u16) {
    let error = listen(reactor, network, host, port).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
    let text = error.to_string();
    assert!(text.starts_with(&format!("listen {network} ")), "{text}");
    assert!(
        text.ends_with(&format!(":{port}: bind: address already in use")),
        "{text}"
    );
}
