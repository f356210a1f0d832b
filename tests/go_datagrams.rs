//! What Go's tests check of UDP, Unix datagrams and raw IP, on a real kernel, as far as
//! `datagram.rs` does not do so already; and the texts that people search their logs for.
//!
//! The line above each test names the rows of Go's behaviour that it stands for.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use windlass::{
    Addr, Bind, Config, Context, Datagram, Deadline, Delivery, Error, Handler, Op, PanicPolicy,
    Reactor, Socket, SocketId, UnixAddr,
};

/// Longer than anything takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(15);

/// How often a port is tried that somebody else may have taken.
const TRIES: usize = 20;

/// What one socket was told.
type Came = (SocketId, Vec<u8>, Addr);

/// Writes everything down; one of its sockets answers, if it was told which.
#[derive(Default)]
struct Diary {
    echoing: Vec<SocketId>,
    came: Vec<Came>,
    errors: Vec<String>,
    errnos: Vec<Option<i32>>,
    timeouts: Vec<(Deadline, Instant)>,
}

impl Handler for Diary {
    type Session = ();

    fn on_datagram(&mut self, socket: &mut Socket<'_>, datagram: &Datagram<'_>) {
        let id = socket.id();
        self.came
            .push((id, datagram.to_vec(), datagram.from().clone()));
        if self.echoing.contains(&id) {
            socket.send_to(datagram.bytes(), datagram.from());
        }
    }

    fn on_socket_error(&mut self, _: &mut Context<'_>, _: SocketId, error: &Error) {
        self.errors.push(error.to_string());
        self.errnos.push(error.raw_os_error());
    }

    fn on_socket_timeout(&mut self, socket: &mut Socket<'_>, which: Deadline) {
        self.timeouts.push((which, socket.now()));
    }
}

fn reactor() -> Reactor<Diary> {
    let mut config = Config::default();
    config.panic_policy = PanicPolicy::Propagate;
    Reactor::with_config(Diary::default(), config).unwrap()
}

/// Turns until `done` says so.
#[track_caller]
fn drive(reactor: &mut Reactor<Diary>, done: impl Fn(&Diary) -> bool) {
    let began = Instant::now();
    while !done(reactor.handler()) {
        assert!(began.elapsed() < PATIENCE, "it never came to that");
        let _ = reactor.turn(Some(Duration::from_millis(5))).unwrap();
    }
}

/// A few turns in which nothing is awaited: whatever the loop has to do, it does.
fn settle(reactor: &mut Reactor<Diary>) {
    for _ in 0..4 {
        let _ = reactor.turn(Some(Duration::ZERO)).unwrap();
    }
}

/// Turns until `socket` was told of something, and answers what and by whom.
#[track_caller]
fn next_on(reactor: &mut Reactor<Diary>, socket: SocketId) -> (Vec<u8>, Addr) {
    drive(reactor, |diary| diary.came.iter().any(|it| it.0 == socket));
    let came = &mut reactor.handler_mut().came;
    let at = came.iter().position(|it| it.0 == socket).unwrap();
    let (_, bytes, from) = came.remove(at);
    (bytes, from)
}

fn name_of(reactor: &mut Reactor<Diary>, socket: SocketId) -> Addr {
    reactor.socket(socket).unwrap().local_addr().unwrap()
}

fn addr_of(reactor: &mut Reactor<Diary>, socket: SocketId) -> SocketAddr {
    name_of(reactor, socket).as_socket_addr().unwrap()
}

fn has_ipv6() -> bool {
    let has = UdpSocket::bind("[::1]:0").is_ok();
    if !has {
        eprintln!("SKIPPED: this host has no IPv6");
    }
    has
}

/// A directory of its own, removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("windlass-go-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn text(&self, name: &str) -> String {
        format!("unixgram://{}", self.0.join(name).display())
    }

    fn addr(&self, name: &str) -> Addr {
        Addr::from_unix_path(self.0.join(name)).unwrap()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

// Deadlines.

// Go 25, TestReadFromTimeoutFluctuation: never early; how late is exact only where the
// clock is ours, in `sim_datagrams.rs`. Here the best of some rounds has to be on time.
#[test]
fn a_read_deadline_of_a_socket_fires_on_time_again_and_again() {
    const ON_TIME: Duration = Duration::from_millis(5);
    let mut reactor = reactor();
    let socket = reactor.bind("127.0.0.1:0").unwrap();
    for after in [1, 3, 10, 30].map(Duration::from_millis) {
        let mut best = PATIENCE;
        for _ in 0..5 {
            let at = Instant::now() + after;
            let mut view = reactor.socket(socket).unwrap();
            view.set_read_deadline(Some(at));
            drive(&mut reactor, |diary| !diary.timeouts.is_empty());
            let (which, fired) = reactor.handler_mut().timeouts.remove(0);
            assert_eq!(which, Deadline::Read);
            let late = fired.checked_duration_since(at);
            best = best.min(late.unwrap_or_else(|| panic!("{after:?} fired early")));
        }
        assert!(best <= ON_TIME, "{after:?} was {best:?} late at best");
    }
}

// Opening.

/// Every way to say "everywhere" on `udp`.
const WILDCARDS: [&str; 4] = ["", "0.0.0.0", "[::ffff:0.0.0.0]", "[::]"];

fn bind(
    reactor: &mut Reactor<Diary>,
    network: &str,
    host: &str,
    port: u16,
) -> Result<SocketId, Error> {
    reactor.bind(format!("{network}://{host}:{port}"))
}

/// A second socket fails, in Go's words, and leaves the first one alone.
#[track_caller]
fn assert_is_taken(reactor: &mut Reactor<Diary>, network: &str, host: &str, port: u16) {
    let error = bind(reactor, network, host, port).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
    let text = error.to_string();
    assert!(text.starts_with(&format!("listen {network} ")), "{text}");
    assert!(
        text.ends_with(&format!(":{port}: bind: address already in use")),
        "{text}"
    );
}

/// Whether a socket hears what is sent to that address.
fn hears(reactor: &mut Reactor<Diary>, socket: SocketId, to: SocketAddr) -> bool {
    let own: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::LOCALHOST, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::LOCALHOST, 0).into(),
    };
    let sender = UdpSocket::bind(own).unwrap();
    sender.send_to(b"who hears this?", to).unwrap();
    settle(reactor);
    let came = std::mem::take(&mut reactor.handler_mut().came);
    came.iter().any(|it| it.0 == socket)
}

// Go 50, TestUDPListener.
#[test]
fn each_spelling_hears_its_families_and_holds_its_port() {
    if !has_ipv6() {
        return;
    }
    let (four, six) = ((true, false), (false, true));
    let mut rows: Vec<_> = WILDCARDS
        .map(|host| ("udp", host, (true, true)))
        .into_iter()
        .collect();
    rows.extend([
        ("udp", "127.0.0.1", four),
        ("udp", "[::ffff:127.0.0.1]", four),
        ("udp", "[::1]", six),
        ("udp4", "", four),
        ("udp4", "0.0.0.0", four),
        ("udp4", "[::ffff:0.0.0.0]", four),
        ("udp4", "127.0.0.1", four),
        ("udp4", "[::ffff:127.0.0.1]", four),
        ("udp6", "", six),
        ("udp6", "[::]", six),
        ("udp6", "[::1]", six),
    ]);
    for (network, host, families) in rows {
        let mut reactor = reactor();
        let socket = bind(&mut reactor, network, host, 0).expect(host);
        let port = addr_of(&mut reactor, socket).port();
        let heard = (
            hears(&mut reactor, socket, (Ipv4Addr::LOCALHOST, port).into()),
            hears(&mut reactor, socket, (Ipv6Addr::LOCALHOST, port).into()),
        );
        assert_eq!(heard, families, "{network} {host:?}");
        assert_is_taken(&mut reactor, network, host, port);
    }
}

// Go 55, TestDualStackUDPListener: two wildcards.
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
        let mut reactor = reactor();
        let socket = bind(&mut reactor, "udp", first, 0).unwrap();
        let port = addr_of(&mut reactor, socket).port();
        assert_is_taken(&mut reactor, "udp", second, port);
    }
}

// Go 55, TestDualStackUDPListener: one family each.
#[test]
fn a_socket_for_each_family_may_have_the_same_port() {
    if !has_ipv6() {
        return;
    }
    let pairs = [
        (("udp4", ""), ("udp6", "")),
        (("udp4", "0.0.0.0"), ("udp6", "[::]")),
        (("udp", "127.0.0.1"), ("udp", "[::1]")),
        (("udp4", "127.0.0.1"), ("udp6", "[::1]")),
    ];
    let turned = pairs.map(|(first, second)| (second, first));
    for ((network, host), second) in pairs.into_iter().chain(turned) {
        let neighbours = || {
            let mut reactor = reactor();
            let one = bind(&mut reactor, network, host, 0).ok()?;
            let port = addr_of(&mut reactor, one).port();
            let other = bind(&mut reactor, second.0, second.1, port).ok()?;
            Some((reactor, one, other, port))
        };
        // Somebody else may have that port in the other family.
        let found = (0..TRIES).find_map(|_| neighbours());
        let (mut reactor, one, other, port) = found.expect("both are open");
        let four = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let six = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        let (of_four, of_six) = match addr_of(&mut reactor, one) {
            SocketAddr::V4(_) => (one, other),
            SocketAddr::V6(_) => (other, one),
        };
        assert!(hears(&mut reactor, of_four, four), "{network} {host:?}");
        assert!(hears(&mut reactor, of_six, six), "{network} {host:?}");
    }
}

// Go 56, TestWildWildcardListener: adapted, typed addresses can't be nil in Rust.
#[test]
fn no_address_at_all_is_a_port_of_the_kernels_choice_everywhere() {
    let mut reactor = reactor();
    for text in ["udp://", "udp://:", ":", ":0"] {
        let socket = reactor.bind(text).expect(text);
        let addr = addr_of(&mut reactor, socket);
        assert!(addr.ip().is_unspecified() && addr.port() != 0, "{addr}");
    }
    let typed = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let socket = reactor.bind(typed).unwrap();
    let addr = addr_of(&mut reactor, socket);
    assert!(addr.ip().is_unspecified() && addr.port() != 0, "{addr}");
    // Nobody on raw IP is everybody.
    match reactor.bind("ip4:icmp://") {
        Ok(socket) => assert!(addr_of(&mut reactor, socket).ip().is_unspecified()),
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}"),
    }
}

// Go 58, TestIPv6MulticastListener.
#[test]
fn groups_of_every_scope_have_two_members_on_one_port() {
    let Some(interface) = multicast_interface() else {
        eprintln!("SKIPPED: no interface with multicast and IPv6");
        return;
    };
    for network in ["udp", "udp6"] {
        for scope in [0x1, 0x2, 0x4, 0x5, 0x8, 0xe] {
            let group = Ipv6Addr::new(0xff00 + scope, 0, 0, 0, 0, 0, 0x77, 0x77);
            let mut reactor = reactor();
            let bind = |port: u16| {
                Bind::new(format!("{network}://:{port}"))
                    .unwrap()
                    .join(group, interface)
            };
            let first = reactor.bind(bind(0)).unwrap();
            let port = addr_of(&mut reactor, first).port();
            assert_ne!(port, 0);
            reactor.bind(bind(port)).unwrap();
            // That it is a member the kernel says by refusing it a second time.
            let again = reactor.socket(first).unwrap().join(group, interface);
            assert_eq!(again.unwrap_err().raw_os_error(), Some(libc::EADDRINUSE));
        }
    }
}

/// The number of an interface that has IPv6 and is up, preferably not the loopback.
fn multicast_interface() -> Option<u32> {
    let listing = fs::read_to_string("/proc/net/if_inet6").ok()?;
    let numbers = listing.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        u32::from_str_radix(fields.get(1)?, 16).ok()
    });
    numbers.max()
}

// Go 61, TestListenConfigControl: adapted, there is no hook before bind; what it is used
// for are methods of `Bind`, and they take effect before the address is taken.
#[test]
fn what_has_to_be_set_before_binding_is_said_to_bind() {
    let mut reactor = reactor();
    for network in ["udp", "udp4", "udp6"] {
        if network == "udp6" && !has_ipv6() {
            continue;
        }
        let shared = |port: u16| {
            Bind::new(format!("{network}://:{port}"))
                .unwrap()
                .reuse_port(true)
        };
        let first = reactor.bind(shared(0)).unwrap();
        let port = addr_of(&mut reactor, first).port();
        reactor.bind(shared(port)).unwrap();
        reactor.socket(first).unwrap().set_ttl(3).unwrap();
    }
    let dir = Dir::new("control");
    let bind = Bind::new(dir.text("private")).unwrap().mode(0o600);
    reactor.bind(bind).unwrap();
    let mode = fs::metadata(dir.0.join("private")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&mode.permissions());
    assert_eq!(mode & 0o777, 0o600);
}

// Go 140, TestUDPConnLocalName.
#[test]
fn port_0_becomes_a_real_port_in_the_sockets_name() {
    let mut reactor = reactor();
    for text in ["udp4://127.0.0.1:0", "udp://127.0.0.1:0", "udp6://[::1]:0"] {
        if text.contains("[::1]") && !has_ipv6() {
            continue;
        }
        let socket = reactor.bind(text).expect(text);
        let addr = addr_of(&mut reactor, socket);
        assert!(addr.ip().is_loopback() && addr.port() != 0, "{text}");
        assert_eq!(reactor.socket(socket).unwrap().peer_addr(), None);
    }
}

// Errors.

#[track_caller]
fn assert_well_formed(error: &Error, says: &str) {
    assert_eq!(error.op(), Op::Listen);
    assert_eq!(error.to_string(), says);
}

// Go 98, 99, TestListenPacketError and TestProtocolListenError: a port beyond 65,535 in a
// typed address does not compile in Rust, in a text it is an invalid one.
#[test]
fn a_bad_address_to_bind_fails_in_gos_words_and_opens_nothing() {
    let mut reactor = reactor();
    let refused = [
        ("foo://", "listen foo: unknown network foo"),
        ("bar://baz", "listen bar: unknown network bar"),
        (
            "datakit://mh/astro/r70",
            "listen datakit: unknown network datakit",
        ),
        (
            "udp://127.0.0.1:\u{263a}",
            "listen udp: address udp/\u{263a}: unknown port",
        ),
        (
            "udp://127.0.0.1:65536",
            "listen udp: address 65536: invalid port",
        ),
        (
            "udp://127.0.0.1",
            "listen udp: address 127.0.0.1: missing port in address",
        ),
        (
            "udp://::1:53",
            "listen udp: address ::1:53: too many colons in address",
        ),
        (
            "udp://[::1",
            "listen udp: address [::1: missing ']' in address",
        ),
        (
            "tcp://127.0.0.1:0",
            "listen tcp 127.0.0.1:0: address 127.0.0.1:0: unexpected address type",
        ),
    ];
    for (text, says) in refused {
        let error = reactor.bind(text).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{text}");
        assert_eq!(error.op(), Op::Listen);
        assert_eq!(error.to_string(), says);
    }
    let error = reactor.bind("udp://no-such-name.invalid:80").unwrap_err();
    let words = error.to_string();
    assert!(
        words.starts_with("listen udp: lookup no-such-name.invalid: "),
        "{words}"
    );
}

// Go 99, TestProtocolListenError: the path "//"; section 7.2: Unix paths.
#[test]
fn a_unix_path_that_cannot_be_bound_says_why_and_stays_as_it_is() {
    let dir = Dir::new("paths");
    let mut reactor = reactor();
    let error = reactor.bind("unixgram:////").unwrap_err();
    assert_well_formed(&error, "listen unixgram //: bind: address already in use");
    assert!(fs::metadata("/").unwrap().is_dir());

    let nowhere = dir.0.join("no/such/dir/s").display().to_string();
    let error = reactor.bind(format!("unixgram://{nowhere}")).unwrap_err();
    let says = format!("listen unixgram {nowhere}: bind: no such file or directory");
    assert_well_formed(&error, &says);

    // One byte more than sun_path has room for.
    let long = format!("/tmp/{}", "x".repeat(200));
    let error = reactor.bind(format!("unixgram://{long}")).unwrap_err();
    let says = format!("listen unixgram {long}: bind: invalid argument");
    assert_well_formed(&error, &says);

    let _served = UnixDatagram::bind(dir.0.join("served")).unwrap();
    let error = reactor.bind(dir.text("served").as_str()).unwrap_err();
    let served = dir.0.join("served").display().to_string();
    let says = format!("listen unixgram {served}: bind: address already in use");
    assert_well_formed(&error, &says);
}

// Section 7.2: "not a local address", "bad local", "family filter", "missing address".
#[test]
fn what_cannot_be_dialed_or_bound_says_so_in_gos_words() {
    let mut reactor = reactor();
    let text = |result: Result<SocketId, Error>| result.unwrap_err().to_string();
    let bound = reactor.bind("udp://1.2.3.4:0");
    assert_eq!(
        text(bound),
        "listen udp 1.2.3.4:0: bind: cannot assign requested address"
    );
    let from_afar = Bind::connect("udp://127.0.0.1:9")
        .unwrap()
        .local_addr(([192, 168, 77, 1], 0));
    assert_eq!(
        text(reactor.bind(from_afar)),
        "dial udp 192.168.77.1:0->127.0.0.1:9: bind: cannot assign requested address"
    );
    let wrong_family = Bind::connect("udp4://[::1]:9").unwrap();
    assert_eq!(
        text(reactor.bind(wrong_family)),
        "dial udp4: address ::1: no suitable address found"
    );
    let wrong_end = Bind::connect("udp://127.0.0.1:9")
        .unwrap()
        .local_addr((Ipv6Addr::LOCALHOST, 0));
    assert_eq!(
        text(reactor.bind(wrong_end)),
        "dial udp: address [::1]:0: no suitable address found"
    );
    let nobody = Bind::connect("udp://").unwrap();
    assert_eq!(text(reactor.bind(nobody)), "dial udp: missing address");
    let dir = Dir::new("dials");
    let nobody = Bind::connect(dir.text("nobody").as_str()).unwrap();
    let path = dir.0.join("nobody").display().to_string();
    assert_eq!(
        text(reactor.bind(nobody)),
        format!("dial unixgram {path}: connect: no such file or directory")
    );
    drop(UnixDatagram::bind(dir.0.join("stale")).unwrap());
    let stale = Bind::connect(dir.text("stale").as_str()).unwrap();
    let path = dir.0.join("stale").display().to_string();
    assert_eq!(
        text(reactor.bind(stale)),
        format!("dial unixgram {path}: connect: connection refused")
    );
}

// Section 7.2: "UDP refused", "UDP too big", "UDP unconnected Write", "UDP WriteTo on
// connected".
#[test]
fn what_cannot_be_sent_says_so_in_gos_words() {
    let mut reactor = reactor();
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = gone.local_addr().unwrap();
    drop(gone);
    let local = |reactor: &mut Reactor<Diary>, bind: Bind| {
        let socket = reactor.bind(bind).unwrap();
        (socket, addr_of(reactor, socket))
    };
    let (connected, own) = local(&mut reactor, Bind::connect(to).unwrap());
    let (unconnected, other) = local(&mut reactor, Bind::new("127.0.0.1:0").unwrap());
    type Act = fn(&mut Socket<'_>, SocketAddr) -> Delivery;
    let rows: [(SocketId, Act, String); 5] = [
        (
            connected,
            |socket, _| socket.send(b"x"),
            format!("read udp {own}->{to}: read: connection refused"),
        ),
        (
            connected,
            |socket, _| socket.send(&[0; 65_508]),
            format!("write udp {own}->{to}: write: message too long"),
        ),
        (
            unconnected,
            |socket, to| socket.send_to(&[0; 65_508], to),
            format!("write udp {other}->{to}: sendto: message too long"),
        ),
        (
            unconnected,
            |socket, _| socket.send(b"x"),
            format!("write udp {other}: write: destination address required"),
        ),
        (
            connected,
            |socket, to| socket.send_to(b"x", to),
            format!("write udp {own}->{to}: use of WriteTo with pre-connected connection"),
        ),
    ];
    for (socket, act, says) in rows {
        act(&mut reactor.socket(socket).unwrap(), to);
        drive(&mut reactor, |diary| !diary.errors.is_empty());
        settle(&mut reactor);
        let errors = std::mem::take(&mut reactor.handler_mut().errors);
        assert_eq!(errors, [says]);
    }
}

// Go 102, TestCloseError: adapted, closing again is harmless and says nothing; what is sent
// afterwards is answered `Closed`.
#[test]
fn closing_again_and_again_is_harmless() {
    let mut reactor = reactor();
    let socket = reactor.bind("127.0.0.1:0").unwrap();
    for _ in 0..3 {
        let mut view = reactor.socket(socket).unwrap();
        view.close();
        assert_eq!(view.send(b"x"), Delivery::Closed);
        view.set_read_deadline(Some(Instant::now()));
        view.resume();
    }
    settle(&mut reactor);
    assert!(reactor.socket(socket).is_none());
    let diary = reactor.handler();
    assert!(diary.errors.is_empty() && diary.timeouts.is_empty());
}

// Sending and receiving.

// Go 111, TestUDPConnSpecificMethods: adapted, an address can't be nil in Rust.
#[test]
fn a_socket_can_send_to_itself_and_have_buffers_of_its_own() {
    let mut reactor = reactor();
    let bind = Bind::new("udp4://127.0.0.1:0")
        .unwrap()
        .receive_buffer(2048)
        .send_buffer(2048);
    let socket = reactor.bind(bind).unwrap();
    let own = addr_of(&mut reactor, socket);
    let mut view = reactor.socket(socket).unwrap();
    let far = Some(Instant::now() + PATIENCE);
    view.set_deadline(far);
    view.set_read_deadline(far);
    view.set_write_deadline(far);
    assert_eq!(view.send_to(b"UDPCONN TEST", own), Delivery::Queued);
    let (bytes, from) = next_on(&mut reactor, socket);
    assert_eq!((&bytes[..], from), (&b"UDPCONN TEST"[..], own.into()));
    // An address of no family that there is.
    let mut view = reactor.socket(socket).unwrap();
    view.send_to(b"x", UnixAddr::from_path("/x").unwrap());
    view.send_to(b"x", (Ipv6Addr::LOCALHOST, 9));
    settle(&mut reactor);
    assert_eq!(reactor.socket(socket).unwrap().stats().dropped, 2);
    assert_eq!(reactor.socket(socket).unwrap().stats().sent, 1);
    assert!(reactor.handler().timeouts.is_empty());
}

/// How many clients each server has, as in Go's test: two that are not connected, and one
/// that is.
const CLIENTS: usize = 3;

/// Where the server is bound, and where its clients are and send to.
const SERVERS: [(&str, &str, &str, &str); 26] = [
    ("udp", ":0", "udp", "127.0.0.1"),
    ("udp", "0.0.0.0:0", "udp", "127.0.0.1"),
    ("udp", "[::ffff:0.0.0.0]:0", "udp", "127.0.0.1"),
    ("udp", "[::]:0", "udp", "[::1]"),
    ("udp", ":0", "udp", "[::1]"),
    ("udp", "0.0.0.0:0", "udp", "[::1]"),
    ("udp", "[::ffff:0.0.0.0]:0", "udp", "[::1]"),
    ("udp", "[::]:0", "udp", "127.0.0.1"),
    ("udp", ":0", "udp4", "127.0.0.1"),
    ("udp", "0.0.0.0:0", "udp4", "127.0.0.1"),
    ("udp", "[::ffff:0.0.0.0]:0", "udp4", "127.0.0.1"),
    ("udp", "[::]:0", "udp6", "[::1]"),
    ("udp", ":0", "udp6", "[::1]"),
    ("udp", "0.0.0.0:0", "udp6", "[::1]"),
    ("udp", "[::ffff:0.0.0.0]:0", "udp6", "[::1]"),
    ("udp", "[::]:0", "udp4", "127.0.0.1"),
    ("udp", "127.0.0.1:0", "udp", "127.0.0.1"),
    ("udp", "[::ffff:127.0.0.1]:0", "udp", "127.0.0.1"),
    ("udp", "[::1]:0", "udp", "[::1]"),
    ("udp4", ":0", "udp4", "127.0.0.1"),
    ("udp4", "0.0.0.0:0", "udp4", "127.0.0.1"),
    ("udp4", "[::ffff:0.0.0.0]:0", "udp4", "127.0.0.1"),
    ("udp4", "127.0.0.1:0", "udp4", "127.0.0.1"),
    ("udp6", ":0", "udp6", "[::1]"),
    ("udp6", "[::]:0", "udp6", "[::1]"),
    ("udp6", "[::1]:0", "udp6", "[::1]"),
];

// Go 117, TestUDPServer.
#[test]
fn servers_and_clients_meet_in_every_spelling() {
    if !has_ipv6() {
        return;
    }
    for (server_network, server_host, network, host) in SERVERS {
        let place = format!("{server_network}://{server_host}");
        let mut reactor = reactor();
        let server = reactor.bind(place.as_str()).expect(&place);
        reactor.handler_mut().echoing.push(server);
        let port = addr_of(&mut reactor, server).port();
        let to = format!("{host}:{port}");
        let what = format!("{place}, {network}://{to}");
        for number in 0..CLIENTS {
            let connected = number == CLIENTS - 1;
            let bind = if connected {
                Bind::connect(format!("{network}://{to}")).unwrap()
            } else {
                Bind::new(format!("{network}://{host}:0")).unwrap()
            };
            let client = reactor.bind(bind).expect(&what);
            let own = name_of(&mut reactor, client);
            let to: Addr = to.parse().unwrap();
            let mut view = reactor.socket(client).unwrap();
            let sent = if connected {
                assert_eq!(view.peer_addr(), Some(to.clone()), "{what}");
                view.send(b"UDP SERVER TEST")
            } else {
                view.send_to(b"UDP SERVER TEST", to.clone())
            };
            assert_eq!(sent, Delivery::Queued, "{what}");
            let (bytes, from) = next_on(&mut reactor, client);
            assert_eq!((&bytes[..], from), (&b"UDP SERVER TEST"[..], to), "{what}");
            assert_eq!(next_on(&mut reactor, server).1, own, "{what}");
        }
    }
}

// Go 118, TestUnixgramServer: with file names and, on Linux, abstract ones; Go 119,
// TestPacketConn; Go 120, TestConnAndPacketConn.
#[test]
fn unix_datagrams_are_answered_under_every_kind_of_name() {
    let dir = Dir::new("server");
    let mut pairs = vec![(dir.text("server"), dir.text("client"))];
    if cfg!(target_os = "linux") {
        let unique = format!("@windlass-go-{}", std::process::id());
        pairs.push((
            format!("unixgram://{unique}"),
            format!("unixgram://{unique}-client"),
        ));
    }
    for (place, own) in pairs {
        let mut reactor = reactor();
        let server = reactor.bind(place.as_str()).expect(&place);
        reactor.handler_mut().echoing.push(server);
        let to = name_of(&mut reactor, server);
        for connected in [true, false] {
            let name: Addr = own.trim_start_matches("unixgram://").parse().unwrap();
            let bind = if connected {
                let bind = Bind::connect(place.as_str()).unwrap();
                bind.local_addr(name.clone())
            } else {
                Bind::new(own.as_str()).unwrap()
            };
            let client = reactor.bind(bind).expect(&own);
            let mut view = reactor.socket(client).unwrap();
            let sent = if connected {
                view.send(b"UNIXGRAM SERVER TEST")
            } else {
                view.send_to(b"UNIXGRAM SERVER TEST", to.clone())
            };
            assert_eq!(sent, Delivery::Queued, "{place}");
            let (bytes, from) = next_on(&mut reactor, client);
            let expected = (&b"UNIXGRAM SERVER TEST"[..], to.clone());
            assert_eq!((&bytes[..], from), expected);
            assert_eq!(next_on(&mut reactor, server).1, name);
            reactor.socket(client).unwrap().close();
            settle(&mut reactor);
            // The next client has the same name, whether the path was removed or not.
            let _ = fs::remove_file(own.trim_start_matches("unixgram://"));
        }
    }
}

// Go 119, TestPacketConn: both ways.
#[test]
fn two_sockets_that_are_not_connected_talk_both_ways() {
    let dir = Dir::new("both");
    let pairs = [
        [
            "udp://127.0.0.1:0".to_owned(),
            "udp://127.0.0.1:0".to_owned(),
        ],
        [dir.text("one"), dir.text("two")],
    ];
    for [one, two] in pairs {
        let mut reactor = reactor();
        let one = reactor.bind(one).unwrap();
        let two = reactor.bind(two).unwrap();
        for (from, to) in [(one, two), (two, one)] {
            let (own, other) = (name_of(&mut reactor, from), name_of(&mut reactor, to));
            let mut view = reactor.socket(from).unwrap();
            view.send_to(b"PACKETCONN TEST", other);
            let came = next_on(&mut reactor, to);
            assert_eq!(came, (b"PACKETCONN TEST".to_vec(), own));
        }
    }
}

// Go 122, TestUnixgramZeroBytePayload; Go 143, TestUDPZeroBytePayload: of a named and a
// connected sender.
#[test]
fn empty_datagrams_arrive_from_connected_senders_as_well() {
    let dir = Dir::new("empty");
    for place in ["udp://127.0.0.1:0".to_owned(), dir.text("server")] {
        let mut reactor = reactor();
        let server = reactor.bind(place.as_str()).unwrap();
        let to = name_of(&mut reactor, server);
        let network = place.split("://").next().unwrap();
        let bind = Bind::connect(format!("{network}://{to}")).unwrap();
        let client = reactor.bind(bind).unwrap();
        let own = name_of(&mut reactor, client);
        let mut view = reactor.socket(client).unwrap();
        assert_eq!(view.send(b""), Delivery::Queued);
        assert_eq!(next_on(&mut reactor, server), (Vec::new(), own));
        assert!(reactor.handler().errors.is_empty());
    }
}

// Go 123, 144, TestUnixgramZeroByteBuffer and TestUDPZeroByteBuffer: adapted, a buffer
// without room is refused before there is a loop, and one of a byte cuts off and says so.
#[test]
fn there_is_always_room_for_a_byte() {
    let mut config = Config::default();
    config.max_datagram = 0;
    let error = Reactor::with_config(Diary::default(), config.clone()).err();
    let words = error.unwrap().to_string();
    assert!(words.contains("max_datagram must be at least 1"), "{words}");
    config.max_datagram = 1;
    let mut reactor = Reactor::with_config(Diary::default(), config).unwrap();
    let dir = Dir::new("byte");
    let unix = reactor.bind(dir.text("server").as_str()).unwrap();
    let udp = reactor.bind("127.0.0.1:0").unwrap();
    for socket in [unix, udp] {
        let own = name_of(&mut reactor, socket);
        let mut view = reactor.socket(socket).unwrap();
        view.send_to(b"long", own.clone());
        assert_eq!(next_on(&mut reactor, socket), (b"l".to_vec(), own));
        assert_eq!(reactor.socket(socket).unwrap().stats().truncated, 1);
    }
}

// Go 124, TestUnixgramWrite: connected.
#[test]
fn a_connected_unix_socket_sends_to_nobody_else() {
    let dir = Dir::new("connected");
    let mut reactor = reactor();
    let server = reactor.bind(dir.text("server").as_str()).unwrap();
    let connected = Bind::connect(dir.text("server").as_str()).unwrap();
    let connected = connected.local_addr(dir.addr("own"));
    let client = reactor.bind(connected).unwrap();
    let mut view = reactor.socket(client).unwrap();
    assert_eq!(
        view.send_to(b"x", dir.addr("server")),
        Delivery::Dropped,
        "even if it is the same"
    );
    assert_eq!(view.send(b"plain"), Delivery::Queued);
    assert_eq!(next_on(&mut reactor, server).0, b"plain");
    settle(&mut reactor);
    let (own, to) = (dir.addr("own"), dir.addr("server"));
    let says = format!("write unixgram {own}->{to}: use of WriteTo with pre-connected connection");
    assert_eq!(reactor.handler().errors, [says]);
}

// Go 125, TestUnixgramWrite: not connected.
#[test]
fn an_unconnected_unix_socket_needs_an_address() {
    let dir = Dir::new("unconnected");
    let mut reactor = reactor();
    let server = reactor.bind(dir.text("server").as_str()).unwrap();
    let client = reactor.bind(dir.text("own").as_str()).unwrap();
    let mut view = reactor.socket(client).unwrap();
    assert_eq!(view.send(b"x"), Delivery::Dropped);
    assert_eq!(view.send_to(b"x", dir.addr("server")), Delivery::Queued);
    assert_eq!(next_on(&mut reactor, server).0, b"x");
    settle(&mut reactor);
    let own = dir.addr("own");
    let says = format!("write unixgram {own}: write: destination address required");
    assert_eq!(reactor.handler().errors, [says]);
}

// Names.

// Go 127, TestUnixgramConnLocalAndRemoteNames: adapted, no name is "unnamed" and not "@".
#[test]
fn unix_sockets_know_both_their_names() {
    let dir = Dir::new("both-names");
    let mut reactor = reactor();
    let server = reactor.bind(dir.text("server").as_str()).unwrap();
    assert_eq!(name_of(&mut reactor, server), dir.addr("server"));
    assert_eq!(reactor.socket(server).unwrap().peer_addr(), None);
    let connect = || Bind::connect(dir.text("server").as_str()).unwrap();
    let named = reactor.bind(connect().local_addr(dir.addr("own"))).unwrap();
    assert_eq!(name_of(&mut reactor, named), dir.addr("own"));
    let unnamed = reactor.bind(connect()).unwrap();
    let own = name_of(&mut reactor, unnamed);
    assert!(own.as_unix().unwrap().is_unnamed());
    for client in [named, unnamed] {
        let peer = reactor.socket(client).unwrap().peer_addr();
        assert_eq!(peer, Some(dir.addr("server")));
    }
}

// Go 133, TestUnixgramAutobind.
#[cfg(target_os = "linux")]
#[test]
fn without_a_name_the_kernel_chooses_one_that_can_be_answered() {
    let mut reactor = reactor();
    let server = reactor.bind("unixgram://").unwrap();
    let name = name_of(&mut reactor, server);
    assert!(name.to_string().starts_with('@'), "{name}");
    assert_eq!(name.as_unix().unwrap().abstract_name().unwrap().len(), 5);
    let client = reactor
        .bind(Bind::connect(format!("unixgram://{name}")).unwrap())
        .unwrap();
    let view = reactor.socket(client).unwrap();
    assert_eq!(view.peer_addr(), Some(name.clone()));
    let other = reactor.bind("unixgram://").unwrap();
    let own = name_of(&mut reactor, other);
    assert_ne!(own, name);
    reactor.socket(other).unwrap().send_to(b"x", name);
    assert_eq!(next_on(&mut reactor, server), (b"x".to_vec(), own));
    for socket in [server, client, other] {
        reactor.socket(socket).unwrap().close();
    }
    settle(&mut reactor);
    assert!(reactor.handler().errors.is_empty());
}

// Go 135, TestUnixgramLinuxAbstractLongName.
#[cfg(target_os = "linux")]
#[test]
fn an_abstract_name_may_fill_all_the_room_there_is() {
    /// What sun_path holds (unix(7)), less the byte that says "abstract".
    const LONGEST: usize = 107;
    let mut name = format!("windlass-go-{}-", std::process::id());
    name.push_str(&"x".repeat(LONGEST - name.len()));
    let mut reactor = reactor();
    let server = reactor.bind(format!("unixgram://@{name}")).unwrap();
    reactor.handler_mut().echoing.push(server);
    let own = name_of(&mut reactor, server);
    assert_eq!(
        own.as_unix().unwrap().abstract_name(),
        Some(name.as_bytes())
    );
    let client = reactor.bind("unixgram://").unwrap();
    let mut view = reactor.socket(client).unwrap();
    view.send_to(b"abstract", own.clone());
    assert_eq!(next_on(&mut reactor, client), (b"abstract".to_vec(), own));
    let error = reactor.bind(format!("unixgram://@{name}x")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
}

// Go 142, TestIPv6LinkLocalUnicastUDP.
#[test]
fn link_local_addresses_keep_their_zone() {
    let Some((ip, interface, name)) = link_local() else {
        eprintln!("SKIPPED: no interface has a link-local address");
        return;
    };
    for zone in [name, interface.to_string()] {
        let mut reactor = reactor();
        let server = match reactor.bind(format!("udp6://[{ip}%{zone}]:0")) {
            Ok(server) => server,
            Err(error) => panic!("{error}"),
        };
        reactor.handler_mut().echoing.push(server);
        let own = addr_of(&mut reactor, server);
        assert_eq!(scope_of(own), interface, "{own}");
        let to = format!("udp6://[{ip}%{zone}]:{}", own.port());
        let client = reactor.bind(Bind::connect(to).unwrap()).unwrap();
        let view = reactor.socket(client).unwrap();
        let peer = view.peer_addr().unwrap().as_socket_addr().unwrap();
        assert_eq!(scope_of(peer), interface, "{peer}");
        let local = addr_of(&mut reactor, client);
        assert_eq!(scope_of(local), interface, "{local}");
        let mut view = reactor.socket(client).unwrap();
        view.send(b"UDP OVER IPV6 LINKLOCAL TEST");
        let (_, from) = next_on(&mut reactor, server);
        assert_eq!(scope_of(from.as_socket_addr().unwrap()), interface);
        assert_eq!(next_on(&mut reactor, client).1, own.into());
    }
}

fn scope_of(addr: SocketAddr) -> u32 {
    match addr {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(addr) => addr.scope_id(),
    }
}

/// A link-local address of this host, and the number and the name of its interface.
fn link_local() -> Option<(Ipv6Addr, u32, String)> {
    /// The third column of the file: `IPV6_ADDR_LINKLOCAL`.
    const LINK_LOCAL: &str = "20";
    let listing = fs::read_to_string("/proc/net/if_inet6").ok()?;
    listing.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [address, number, _, scope, _, name] = fields[..] else {
            return None;
        };
        let ip = u128::from_str_radix(address, 16).ok()?;
        let number = u32::from_str_radix(number, 16).ok()?;
        (scope == LINK_LOCAL).then(|| (ip.into(), number, name.to_owned()))
    })
}

// Raw IP.

// Go 112, TestIPConnSpecificMethods: adapted, an address can't be nil in Rust.
#[test]
fn a_raw_socket_has_the_methods_of_any_other() {
    let mut reactor = reactor();
    let socket = match reactor.bind("ip4:icmp://127.0.0.1") {
        Ok(socket) => socket,
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
            assert_eq!(
                error.to_string(),
                "listen ip4:icmp 127.0.0.1: socket: operation not permitted"
            );
            eprintln!("SKIPPED: raw sockets are not permitted here");
            return;
        }
    };
    let loopback = Addr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let own = name_of(&mut reactor, socket);
    assert_eq!(own.ip(), Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    let mut view = reactor.socket(socket).unwrap();
    view.set_deadline(Some(Instant::now() + PATIENCE));
    view.set_ttl(9).unwrap();
    // An echo request with its checksum (RFC 792).
    let request = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
    assert_eq!(view.send_to(&request, loopback), Delivery::Queued);
    let (bytes, from) = next_on(&mut reactor, socket);
    assert_eq!(bytes, request);
    assert_eq!(from.ip(), own.ip());
    let mut view = reactor.socket(socket).unwrap();
    view.send_to(b"x", UnixAddr::from_path("/x").unwrap());
    settle(&mut reactor);
    assert_eq!(reactor.socket(socket).unwrap().stats().dropped, 1);
}
