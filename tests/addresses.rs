//! What becomes of a text that cannot be opened: the error of the call that it was meant
//! for, word for word as Go's `net` package puts it, and nothing opened.
//!
//! What every other text means is tested where texts are read.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::path::Path;
use std::time::Duration;

use windlass::sim::{Call, World};
use windlass::{
    Addr, Bind, Context, Dial, DialId, Endpoint, Error, Handler, Listen, Op, Reactor, resolve,
};

/// Remembers how dials have ended.
#[derive(Default)]
struct Diary(Vec<String>);

impl Handler for Diary {
    type Session = ();

    fn on_dial_error(
        &mut self,
        _: &mut Context<'_>,
        _: DialId,
        error: &Error,
        _: Option<Duration>,
    ) {
        self.0.push(error.to_string());
    }
}

/// What a dial in a simulated world ends with, and that it never got as far as a socket.
#[track_caller]
fn dial_ends_with(dial: Dial, wanted: &str) {
    let mut world = World::new(1, Diary::default());
    world.dial(dial).unwrap();
    world.run();
    assert_eq!(world.handler().0, [wanted]);
    assert_eq!(world.calls(Call::Connect), 0);
    assert_eq!(world.open_descriptors(), 0);
}

// Go 98, TestListenPacketError; section 7.2: "wrong kind".
#[test]
fn a_network_is_refused_by_what_has_no_use_for_it() {
    let rows = [
        ("udp", "127.0.0.1:0"),
        ("udp6", "[::1]:0"),
        ("unixgram", "/x"),
        ("ip4:1", "127.0.0.1"),
    ];
    for (network, address) in rows {
        let text = format!("{network}://{address}");
        let error = Listen::new(text.as_str()).unwrap_err();
        let why = format!("address {address}: unexpected address type");
        assert_eq!(
            error.to_string(),
            format!("listen {network} {address}: {why}")
        );
        assert_eq!(error.op(), Op::Listen);

        let error = Dial::new(text).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("dial {network} {address}: ")),
            "{error}"
        );
        assert!(error.contains("`bind`"), "{error}");
    }
    let rows = [("tcp", "127.0.0.1:0"), ("unix", "/x"), ("unixpacket", "/x")];
    for (network, address) in rows {
        let text = format!("{network}://{address}");
        let error = Bind::new(text.as_str()).unwrap_err();
        let why = format!("address {address}: unexpected address type");
        assert_eq!(
            error.to_string(),
            format!("listen {network} {address}: {why}")
        );
    }
}

#[test]
fn the_same_holds_for_whatever_converts() {
    let udp = Endpoint::new("udp", "127.0.0.1:0").unwrap();
    let mut reactor = Reactor::new(Diary::default()).unwrap();
    assert!(reactor.listen(udp.clone()).is_err());
    assert!(reactor.dial(udp).is_err());
    let tcp = Endpoint::new("tcp", "127.0.0.1:0").unwrap();
    assert!(reactor.bind(tcp).is_err());
    assert!(Bind::new(Endpoint::try_from(Path::new("/x")).unwrap()).is_err());
    assert!(Dial::new(Path::new("")).is_err());
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    let says = "address fe80::1%nosuchif: no such interface";
    let mut reactor = Reactor::new(Diary::default()).unwrap();
    let error = reactor.listen("[fe80::1%nosuchif]:0").unwrap_err();
    assert_eq!(error.to_string(), format!("listen tcp: {says}"));
    let error = reactor.bind("udp6://[fe80::1%nosuchif]:0").unwrap_err();
    assert_eq!(error.to_string(), format!("listen udp6: {says}"));
    let peer = Bind::connect("[fe80::1%nosuchif]:53").unwrap();
    let error = reactor.bind(peer).unwrap_err();
    assert_eq!(error.to_string(), format!("dial udp: {says}"));
    let error = resolve("tcp", "[fe80::1%nosuchif]:0").unwrap_err();
    assert_eq!(error.to_string(), says);

    let dial = Dial::new("[fe80::1%nosuchif]:80").unwrap();
    dial_ends_with(dial, &format!("dial tcp: {says}"));
}

// Go 82, 83, 96, TestDialerLocalAddr and TestDialAddrError.
#[test]
fn a_dial_that_cannot_be_meant_ends_before_a_socket_is_made() {
    let unix: Addr = "/x".parse().unwrap();
    let six: Addr = "[::1]:0".parse().unwrap();
    let tcp = || Dial::new("127.0.0.1:80").unwrap();
    let rows = [
        (
            tcp().local_addr(unix),
            "dial tcp: address /x: mismatched local address type",
        ),
        (
            tcp().local_addr(six),
            "dial tcp: address [::1]:0: no suitable address found",
        ),
        (
            Dial::new("tcp4://[::1]:80").unwrap(),
            "dial tcp4: address ::1: no suitable address found",
        ),
        (Dial::new("tcp://").unwrap(), "dial tcp: missing address"),
        (Dial::new("unix://").unwrap(), "dial unix: missing address"),
        (
            Dial::new("unix:///y")
                .unwrap()
                .local_addr(([127, 0, 0, 1], 0)),
            "dial unix: address 127.0.0.1:0: mismatched local address type",
        ),
    ];
    for (dial, wanted) in rows {
        dial_ends_with(dial, wanted);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_interface_is_found_by_its_name() {
    // Nobody has this address, but whose interface it is on was understood.
    let place = resolve("tcp", "[fe80::1%lo]:80").unwrap();
    assert_eq!(place.ip(), windlass::parse_ip("fe80::1"));
    let mut reactor = Reactor::new(Diary::default()).unwrap();
    let error = reactor.listen("tcp6://[fe80::1%lo]:80").unwrap_err();
    says(&error.to_string(), &format!("listen tcp6 {place}: "));
    let error = reactor.bind("udp6://[fe80::1%lo]:80").unwrap_err();
    says(&error.to_string(), &format!("listen udp6 {place}: "));
    let peer = Bind::connect("[fe80::1%lo]:80").unwrap();
    if let Err(error) = reactor.bind(peer) {
        says(&error.to_string(), &format!("dial udp {place}: "));
    }

    let dial = Dial::new("[fe80::1%lo]:80").unwrap();
    reactor
        .dial(dial.timeout(Duration::from_millis(100)))
        .unwrap();
    while reactor.handler().0.is_empty() {
        let _ = reactor.turn(None).unwrap();
    }
    says(&reactor.handler().0[0], &format!("dial tcp {place}: "));
}

#[cfg(target_os = "linux")]
#[track_caller]
fn says(text: &str, begins: &str) {
    assert!(
        text.starts_with(begins),
        "{text:?} does not begin with {begins:?}"
    );
}
