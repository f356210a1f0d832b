//! Datagrams: they arrive whole, one by one; what cannot be sent is told and costs nobody
//! else anything; memory is bounded; and the loop goes on whatever happens to them.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use windlass::{
    Addr, Bind, Config, Context, Datagram, Deadline, Delivery, DropPolicy, Error, Handler,
    PanicPolicy, Reactor, Recovery, Socket, SocketId,
};

/// Longer than anything takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(15);

/// Writes everything down; answers each datagram if asked to.
#[derive(Default)]
struct Diary {
    echo: bool,
    came: Vec<(Vec<u8>, Addr)>,
    truncated: usize,
    to: Vec<Option<IpAddr>>,
    errors: Vec<String>,
    recoveries: Vec<Recovery>,
    timeouts: Vec<(Deadline, Instant)>,
    writable: usize,
    pause_after: Option<usize>,
}

impl Handler for Diary {
    type Session = ();

    fn on_datagram(&mut self, socket: &mut Socket<'_>, datagram: &Datagram<'_>) {
        self.came.push((datagram.to_vec(), datagram.from().clone()));
        self.truncated += usize::from(datagram.is_truncated());
        self.to.push(datagram.to());
        if self.echo {
            socket.send_to(datagram.bytes(), datagram.from());
        }
        if self.pause_after == Some(self.came.len()) {
            socket.pause();
        }
    }

    fn on_socket_error(&mut self, _: &mut Context<'_>, _: SocketId, error: &Error) {
        self.errors.push(error.to_string());
        self.recoveries.push(error.recovery());
    }

    fn on_socket_timeout(&mut self, socket: &mut Socket<'_>, which: Deadline) {
        self.timeouts.push((which, socket.now()));
    }

    fn on_socket_writable(&mut self, _: &mut Socket<'_>) {
        self.writable += 1;
    }
}

fn reactor() -> Reactor<Diary> {
    reactor_with(|_| {})
}

fn reactor_with(change: impl FnOnce(&mut Config)) -> Reactor<Diary> {
    let mut config = Config::default();
    config.panic_policy = PanicPolicy::Propagate;
    change(&mut config);
    Reactor::with_config(Diary::default(), config).unwrap()
}

fn echoing() -> Reactor<Diary> {
    let mut reactor = reactor();
    reactor.handler_mut().echo = true;
    reactor
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

fn addr_of(reactor: &mut Reactor<Diary>, socket: SocketId) -> SocketAddr {
    let local = reactor.socket(socket).unwrap().local_addr().unwrap();
    local.as_socket_addr().unwrap()
}

fn peer() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn received(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 70_000];
    let (n, from) = socket.recv_from(&mut buffer).unwrap();
    buffer.truncate(n);
    (buffer, from)
}

/// A directory of its own, removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("windlass-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn bind(&self, name: &str) -> Bind {
        Bind::new(format!("unixgram://{}", self.path(name).display())).unwrap()
    }

    fn peer(&self, name: &str) -> UnixDatagram {
        let socket = UnixDatagram::bind(self.path(name)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

// Receiving.

// Go 117, TestUDPServer; Go 119, TestPacketConn.
#[test]
fn whoever_sends_is_answered() {
    let mut reactor = echoing();
    for place in ["udp://127.0.0.1:0", "udp4://:0", "127.0.0.1:0", "udp://:0"] {
        let socket = reactor.bind(place).unwrap();
        let port = addr_of(&mut reactor, socket).port();
        let peer = peer();
        let before = reactor.handler().came.len();
        peer.send_to(b"ahoy", (Ipv4Addr::LOCALHOST, port)).unwrap();
        drive(&mut reactor, |diary| diary.came.len() > before);
        assert_eq!(received(&peer).0, b"ahoy", "{place}");
        let (_, from) = reactor.handler().came.last().unwrap();
        // Go 148, TestUDPIPVersionReadMsg: never in the mapped form.
        assert_eq!(from.as_socket_addr(), Some(peer.local_addr().unwrap()));
    }
}

// Go 149, TestIPv6WriteMsgUDPAddrPortTargetAddrIPVersion.
#[test]
fn one_socket_hears_and_answers_both_families() {
    let Ok(six) = UdpSocket::bind("[::1]:0") else {
        eprintln!("SKIPPED: this host has no IPv6");
        return;
    };
    six.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reactor = echoing();
    let socket = reactor.bind("udp://:0").unwrap();
    let port = addr_of(&mut reactor, socket).port();
    let four = peer();
    four.send_to(b"4", (Ipv4Addr::LOCALHOST, port)).unwrap();
    six.send_to(b"6", ("::1", port)).unwrap();
    drive(&mut reactor, |diary| diary.came.len() == 2);
    assert_eq!(received(&four).0, b"4");
    assert_eq!(received(&six).0, b"6");
    // A mapped address is the IPv4 address.
    let mapped: SocketAddr = format!("[::ffff:127.0.0.1]:{}", four.local_addr().unwrap().port())
        .parse()
        .unwrap();
    let sent = reactor.socket(socket).unwrap().send_to(b"mapped", mapped);
    assert_eq!(sent, Delivery::Queued);
    settle(&mut reactor);
    assert_eq!(received(&four).0, b"mapped");
}

// Go 143, TestUDPZeroBytePayload.
#[test]
fn an_empty_datagram_is_a_datagram() {
    let mut reactor = echoing();
    let socket = reactor.bind("127.0.0.1:0").unwrap();
    let addr = addr_of(&mut reactor, socket);
    let peer = peer();
    for bytes in [&b""[..], b"between", b""] {
        peer.send_to(bytes, addr).unwrap();
    }
    drive(&mut reactor, |diary| diary.came.len() == 3);
    let came: Vec<&[u8]> = reactor
        .handler()
        .came
        .iter()
        .map(|(bytes, _)| &bytes[..])
        .collect();
    assert_eq!(came, [&b""[..], b"between", b""]);
    assert_eq!(received(&peer).0, b"");
    assert!(reactor.handler().errors.is_empty());
}

// Go 145, TestUDPReadSizeError: adapted, what was cut off is told.
#[test]
fn a_datagram_longer_than_its_place_is_cut_off_and_says_so() {
    let mut reactor = reactor_with(|config| config.max_datagram = 10);
    let socket = reactor.bind("127.0.0.1:0").unwrap();
    let addr = addr_of(&mut reactor, socket);
    let peer = peer();
    for bytes in [&b"0123456789"[..], b"0123456789A", b"after"] {
        peer.send_to(bytes, addr).unwrap();
    }
    drive(&mut reactor, |diary| diary.came.len() == 3);
    let diary = reactor.handler();
    assert_eq!(diary.came[0].0, b"0123456789");
    assert_eq!(diary.came[1].0, b"0123456789");
    assert_eq!(diary.came[2].0, b"after");
    assert_eq!(diary.truncated, 1);
    assert_eq!(reactor.socket(socket).unwrap().stats().truncated, 1);
}

#[test]
fn the_longest_datagram_arrives_whole_by_default() {
    let mut reactor = echoing();
    let socket = reactor.bind("127.0.0.1:0").unwrap();
    let addr = addr_of(&mut reactor, socket);
    let peer = peer();
    let longest = vec![7; 65_507];
    peer.send_to(&longest, addr).unwrap();
    drive(&mut reactor, |diary| diary.came.len() == 1);
    assert_eq!(received(&peer).0, longest);
    assert_eq!(reactor.handler().truncated, 0);
}

#[test]
fn many_datagrams_cost_few_calls_and_none_is_forgotten() {
    let mut reactor = reactor();
    let bind = Bind::new("127.0.0.1:0").unwrap().receive_buffer(4 << 20);
    let socket = reactor.bind(bind).unwrap();
    let addr = addr_of(&mut reactor, socket);
    let peer = peer();
    let mut sent = 0u32;
    for _ in 0..20 {
        for _ in 0..100 {
            peer.send_to(&sent.to_be_bytes(), addr).unwrap();
            sent += 1;
        }
        drive(&mut reactor, |diary| diary.came.len() == sent as usize);
    }
    for (at, (bytes, _)) in reactor.handler().came.iter().enumerate() {
        assert_eq!(bytes[..], (at as u32).to_be_bytes());
    }
    let stats = reactor.stats();
    assert_eq!(stats.datagrams_received, u64::from(sent));
    #[cfg(target_os = "linux")]
    assert!(stats.reads <= u64::from(sent) / 16, "{} calls", stats.reads);
}

#[test]
fn a_burst_of_answers_leaves_in_few_calls() {
    let mut reactor = echoing();
    let socket = reactor.bind("127.0.0.1:0").unwrap();
    let addr = addr_of(&mut reactor, socket);
    let peer = peer();
    for n in 0..64u8 {
        peer.send_to(&[n], addr).unwrap();
    }
    drive(&mut reactor, |diary| diary.came.len() == 64);
    for n in 0..64u8 {
        assert_eq!(received(&peer).0, [n]);
    }
    let stats = reactor.stats();
    assert_eq!(stats.datagrams_sent, 64);
    #[cfg(target_os = "linux")]
    assert!(stats.writes <= 8, "{} calls", stats.writes);
}

#[test]
fn a_paused_socket_leaves_the_rest_to_the_kernel() {
    let mut reactor = reactor_with(|config| config.datagram_batch = 4);
    reactor.handler_mut().pause_after = Some(1);
    let socket = reactor.bind("127.0.0.1:0").unwrap();
    let addr = addr_of(&mut reactor, socket);
    let peer = peer();
    for n in 0..20u8 {
        peer.send_to(&[n], addr).unwrap();
    }
    drive(&mut reactor, |diary| !diary.came.is_empty());
    settle(&mut reactor);
    // What had been fetched with the first is offered all the same.
    assert!(reactor.handler().came.len() <= 4);
    reactor.socket(socket).unwrap().resume();
    drive(&mut reactor, |diary| diary.came.len() == 20);
}

#[test]
fn a_socket_can_tell_which_address_was_meant() {
    let mut reactor = reactor();
    let bind = Bind::new("udp4://:0").unwrap().destinations(true);
    let socket = reactor.bind(bind).unwrap();
    let port = addr_of(&mut reactor, socket).port();
    let peer = peer();
    for last in [1, 2, 3] {
        peer.send_to(b"x", (Ipv4Addr::new(127, 0, 0, last), port))
            .unwrap();
    }
    drive(&mut reactor, |diary| diary.to.len() == 3);
    let meant = [1, 2, 3].map(|last| Some(IpAddr::from([127, 0, 0, last])));
    assert_eq!(reactor.handler().to, meant);
}

// Connected sockets.

// Go 120, TestConnAndPacketConn; Go 141, TestUDPConnLocalAndRemoteNames.
#[test]
fn a_connected_socket_speaks_with_one_and_hears_nobody_else() {
    let mut reactor = reactor();
    let friend = peer();
    let to = friend.local_addr().unwrap();
    let socket = reactor.bind(Bind::connect(to).unwrap()).unwrap();
    let addr = addr_of(&mut reactor, socket);
    assert_ne!(addr.port(), 0);
    let mut view = reactor.socket(socket).unwrap();
    assert_eq!(view.peer_addr(), Some(to.into()));
    assert_eq!(view.send(b"ping"), Delivery::Queued);
    settle(&mut reactor);
    assert_eq!(received(&friend), (b"ping".to_vec(), addr));
    peer().send_to(b"stranger", addr).unwrap();
    friend.send_to(b"pong", addr).unwrap();
    drive(&mut reactor, |diary| !diary.came.is_empty());
    settle(&mut reactor);
    assert_eq!(reactor.handler().came, [(b"pong".to_vec(), Addr::from(to))]);
}

#[test]
fn that_nobody_listens_is_an_event_and_not_the_end() {
    let mut reactor = reactor();
    let gone = peer();
    let to = gone.local_addr().unwrap();
    drop(gone);
    let bind = Bind::connect(to).unwrap().local_addr(([127, 0, 0, 1], 0));
    let socket = reactor.bind(bind).unwrap();
    let local = addr_of(&mut reactor, socket);
    reactor.socket(socket).unwrap().send(b"anybody?");
    drive(&mut reactor, |diary| !diary.errors.is_empty());
    let expected = format!("read udp {local}->{to}: read: connection refused");
    assert_eq!(reactor.handler().errors, [expected]);
    // Somebody comes, and the same socket reaches them.
    let back = UdpSocket::bind(to).unwrap();
    back.set_read_timeout(Some(PATIENCE)).unwrap();
    reactor.socket(socket).unwrap().send(b"and now?");
    settle(&mut reactor);
    assert_eq!(received(&back).0, b"and now?");
    assert_eq!(reactor.socket(socket).unwrap().stats().dropped, 0);
}

// Go 124, TestUnixgramWrite; Go 138, TestWriteToUDP.
#[test]
fn a_connected_socket_sends_to_nobody_else() {
    let mut reactor = reactor();
    let (friend, other) = (peer(), peer());
    let to = friend.local_addr().unwrap();
    let socket = reactor.bind(Bind::connect(to).unwrap()).unwrap();
    let local = addr_of(&mut reactor, socket);
    let other = other.local_addr().unwrap();
    let sent = reactor.socket(socket).unwrap().send_to(b"x", other);
    assert_eq!(sent, Delivery::Dropped);
    settle(&mut reactor);
    let expected =
        format!("write udp {local}->{other}: use of WriteTo with pre-connected connection");
    assert_eq!(reactor.handler().errors, [expected]);
}

// Go 125, TestUnixgramWrite; Go 139, TestWriteToUDP.
#[test]
fn an_unconnected_socket_needs_an_address() {
    let mut reactor = reactor();
    let socket = reactor.bind("127.0.0.1:0").unwrap();
    let local = addr_of(&mut reactor, socket);
    assert_eq!(
        reactor.socket(socket).unwrap().send(b"x"),
        Delivery::Dropped
    );
    settle(&mut reactor);
    let expected = format!("write udp {local}: write: destination address required");
    assert_eq!(reactor.handler().errors, [expected]);
    assert_eq!(reactor.socket(socket).unwrap().stats().dropped, 1);
}

#[test]
fn a_name_is_looked_up_beside_the_loop_and_what_is_sent_meanwhile_waits() {
    let mut reactor = reactor();
    let friend = peer();
    let port = friend.local_addr().unwrap().port();
    let bind = Bind::connect(format!("udp4://localhost:{port}")).unwrap();
    let socket = reactor.bind(bind).unwrap();
    let mut view = reactor.socket(socket).unwrap();
    assert_eq!(view.local_addr(), None, "not open yet");
    assert_eq!(view.send(b"early"), Delivery::Queued);
    let began = Instant::now();
    while reactor.socket(socket).unwrap().local_addr().is_none() {
        assert!(began.elapsed() < PATIENCE);
        let _ = reactor.turn(Some(Duration::from_millis(5))).unwrap();
    }
    settle(&mut reactor);
    assert_eq!(received(&friend).0, b"early");
}

#[test]
fn a_name_that_does_not_exist_ends_the_socket_with_a_word() {
    let mut reactor = reactor();
    let bind = Bind::connect("udp://no-such-name.invalid:53").unwrap();
    let socket = reactor.bind(bind).unwrap();
    reactor.socket(socket).unwrap().send(b"into the void");
    drive(&mut reactor, |diary| !diary.errors.is_empty());
    let error = &reactor.handler().errors[0];
    assert!(
        error.starts_with("dial udp: lookup no-such-name.invalid: "),
        "{error}"
    );
    settle(&mut reactor);
    assert!(reactor.socket(socket).is_none());
    assert_eq!(reactor.stats().buffered, 0);
}

// Errors.

#[test]
fn too_long_a_datagram_is_told_and_the_next_one_leaves() {
    let mut reactor = reactor_with(|config| config.datagram_queue = 1 << 20);
    let friend = peer();
    let to = friend.local_addr().unwrap();
    let socket = reactor.bind("127.0.0.1:0").unwrap();
    let local = addr_of(&mut reactor, socket);
    let mut view = reactor.socket(socket).unwrap();
    view.send_to(b"before", to);
    view.send_to(&vec![0; 65_508], to);
    view.send_to(b"after", to);
    settle(&mut reactor);
    assert_eq!(received(&friend).0, b"before");
    assert_eq!(received(&friend).0, b"after");
    settle(&mut reactor);
    let expected = format!("write udp {local}->{to}: sendto: message too long");
    assert_eq!(reactor.handler().errors, [expected]);
    let stats = reactor.socket(socket).unwrap().stats();
    assert_eq!((stats.sent, stats.dropped, stats.errors), (2, 1, 1));
}

#[test]
fn errors_are_told_once_a_turn_and_counted_always() {
    let mut reactor = reactor();
    let socket = reactor.bind("127.0.0.1:0").unwrap();
    let mut view = reactor.socket(socket).unwrap();
    for _ in 0..50 {
        view.send(b"nowhere");
    }
    settle(&mut reactor);
    assert_eq!(reactor.handler().errors.len(), 1);
    assert_eq!(reactor.socket(socket).unwrap().stats().errors, 50);
}

// Go 98, TestListenPacketError; Go 50, TestUDPListener.
#[test]
fn what_cannot_be_bound_says_why() {
    let mut reactor = reactor();
    let taken = peer();
    let addr = taken.local_addr().unwrap();
    let error = reactor.bind(addr).unwrap_err();
    let expected = format!("listen udp {addr}: bind: address already in use");
    assert_eq!(error.to_string(), expected);
    let error = reactor.bind("udp://127.0.0.1").unwrap_err();
    assert_eq!(
        error.to_string(),
        "listen udp: address 127.0.0.1: missing port in address"
    );
    let error = reactor.bind("udp4://[::1]:0").unwrap_err();
    assert_eq!(
        error.to_string(),
        "listen udp4: address ::1: no suitable address found"
    );
    let error = reactor.bind("udp://1.2.3.4:0").unwrap_err();
    let words = error.to_string();
    assert!(words.starts_with("listen udp 1.2.3.4:0: bind: "), "{words}");
}

// The queue.

#[test]
fn a_full_queue_drops_what_is_new_and_says_when_there_is_room() {
    let dir = Dir::new("full");
    let slow = dir.peer("slow");
    let mut reactor = reactor_with(|config| config.datagram_queue = 4096);
    let socket = reactor.bind(dir.bind("ours")).unwrap();
    let to = Addr::from_unix_path(dir.path("slow")).unwrap();
    // The receiver's queue is a few datagrams long, ours 4 KiB: sooner or later both are full.
    let mut sent = 0u32;
    let began = Instant::now();
    loop {
        let delivery = reactor
            .socket(socket)
            .unwrap()
            .send_to(&sent.to_be_bytes(), to.clone());
        if delivery == Delivery::Dropped {
            break;
        }
        sent += 1;
        assert!(began.elapsed() < PATIENCE);
        let _ = reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert!(reactor.socket(socket).unwrap().queued() <= 4096);
    assert_eq!(reactor.handler().writable, 0);
    // Everything that was taken arrives, in order, as soon as somebody reads.
    for expected in 0..sent {
        let mut buffer = [0; 8];
        slow.set_nonblocking(true).unwrap();
        let n = loop {
            match slow.recv(&mut buffer) {
                Ok(n) => break n,
                Err(_) => {
                    assert!(began.elapsed() < PATIENCE);
                    let _ = reactor.turn(Some(Duration::from_millis(5))).unwrap();
                }
            }
        };
        assert_eq!(buffer[..n], expected.to_be_bytes());
    }
    drive(&mut reactor, |diary| diary.writable == 1);
    assert_eq!(reactor.socket(socket).unwrap().stats().dropped, 1);
    assert_eq!(reactor.stats().buffered, 0);
}

#[test]
fn the_oldest_may_be_dropped_instead() {
    let dir = Dir::new("oldest");
    let slow = dir.peer("slow");
    let mut reactor = reactor();
    let bind = dir
        .bind("ours")
        .queue_limit(1024)
        .drop_policy(DropPolicy::Oldest);
    let socket = reactor.bind(bind).unwrap();
    let to = Addr::from_unix_path(dir.path("slow")).unwrap();
    for n in 0..2000u32 {
        let mut view = reactor.socket(socket).unwrap();
        assert_eq!(view.send_to(&n.to_be_bytes(), to.clone()), Delivery::Queued);
        assert!(view.queued() <= 1024);
        let _ = reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert!(reactor.socket(socket).unwrap().stats().dropped > 0);
    // The last one always gets through.
    slow.set_nonblocking(true).unwrap();
    let began = Instant::now();
    let mut last = [0; 4];
    while u32::from_be_bytes(last) != 1999 {
        assert!(began.elapsed() < PATIENCE);
        let _ = reactor.turn(Some(Duration::from_millis(5))).unwrap();
        while slow.recv(&mut last).is_ok() {}
    }
}

#[test]
fn a_unix_receiver_that_is_full_holds_up_nobody_else() {
    let dir = Dir::new("holdup");
    let (stuck, lively) = (dir.peer("stuck"), dir.peer("lively"));
    let mut reactor = reactor_with(|config| {
        config.write_stall_timeout = Duration::from_millis(200);
    });
    let socket = reactor.bind(dir.bind("ours")).unwrap();
    let to = |name: &str| Addr::from_unix_path(dir.path(name)).unwrap();
    for _ in 0..600 {
        reactor.socket(socket).unwrap().send_to(b"x", to("stuck"));
        let _ = reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert!(
        reactor.socket(socket).unwrap().queued() > 0,
        "the receiver is full"
    );
    reactor
        .socket(socket)
        .unwrap()
        .send_to(b"hello", to("lively"));
    lively.set_nonblocking(true).unwrap();
    let mut buffer = [0; 8];
    let began = Instant::now();
    while lively.recv(&mut buffer).is_err() {
        assert!(began.elapsed() < PATIENCE);
        let _ = reactor.turn(Some(Duration::from_millis(5))).unwrap();
    }
    // Whoever never reads is given up after the stall timeout, with a word.
    let began = Instant::now();
    while reactor.socket(socket).unwrap().queued() > 0 {
        assert!(began.elapsed() < PATIENCE);
        let _ = reactor.turn(Some(Duration::from_millis(5))).unwrap();
    }
    settle(&mut reactor);
    assert!(reactor.handler().errors[0].ends_with(": i/o timeout"));
    drop(stuck);
}

// Ends.

#[test]
fn closing_sends_what_is_queued_first() {
    let mut reactor = reactor();
    let friend = peer();
    let to = friend.local_addr().unwrap();
    let socket = reactor.bind("127.0.0.1:0").unwrap();
    let mut view = reactor.socket(socket).unwrap();
    for n in 0..100u8 {
        view.send_to(&[n], to);
    }
    view.close();
    assert_eq!(view.send_to(b"late", to), Delivery::Closed);
    settle(&mut reactor);
    for n in 0..100u8 {
        assert_eq!(received(&friend).0, [n]);
    }
    assert!(reactor.socket(socket).is_none());
}

// Go 38, TestPacketConnClose.
#[test]
fn a_closed_socket_hears_nothing_and_its_id_is_harmless() {
    let mut reactor = reactor();
    let socket = reactor.bind("127.0.0.1:0").unwrap();
    let addr = addr_of(&mut reactor, socket);
    let peer = peer();
    peer.send_to(b"queued already", addr).unwrap();
    reactor.socket(socket).unwrap().close();
    settle(&mut reactor);
    assert!(reactor.handler().came.is_empty());
    assert!(reactor.socket(socket).is_none());
    // The address is free again, and the new tenant of the slot is another.
    let again = reactor.bind(addr).unwrap();
    assert!(reactor.socket(socket).is_none());
    assert_ne!(again, socket);
}

#[test]
fn a_graceful_stop_flushes_sockets_and_ends() {
    struct Stopper(SocketAddr);
    impl Handler for Stopper {
        type Session = ();
        fn on_datagram(&mut self, socket: &mut Socket<'_>, _: &Datagram<'_>) {
            for n in 0..50u8 {
                socket.send_to(&[n], self.0);
            }
            socket.cx().shutdown(Duration::from_secs(5));
        }
    }
    let friend = peer();
    let mut reactor = Reactor::new(Stopper(friend.local_addr().unwrap())).unwrap();
    let socket = reactor.bind("127.0.0.1:0").unwrap();
    let local = reactor.socket(socket).unwrap().local_addr().unwrap();
    friend
        .send_to(b"stop", local.as_socket_addr().unwrap())
        .unwrap();
    reactor.run().unwrap();
    for n in 0..50u8 {
        assert_eq!(received(&friend).0, [n]);
    }
}

// Deadlines.

// Go 16 and 17, TestReadFromTimeout; Go 146, TestUDPReadTimeout.
#[test]
fn a_read_deadline_fires_once_and_never_early() {
    let mut reactor = reactor();
    let socket = reactor.bind("127.0.0.1:0").unwrap();
    let addr = addr_of(&mut reactor, socket);
    let peer = peer();
    peer.send_to(b"first", addr).unwrap();
    let at = Instant::now() + Duration::from_millis(50);
    reactor.socket(socket).unwrap().set_read_deadline(Some(at));
    drive(&mut reactor, |diary| !diary.timeouts.is_empty());
    settle(&mut reactor);
    let diary = reactor.handler();
    assert_eq!(diary.came.len(), 1);
    assert_eq!(diary.timeouts.len(), 1);
    assert_eq!(diary.timeouts[0].0, Deadline::Read);
    assert!(diary.timeouts[0].1 >= at);
    // It is as usable as before.
    peer.send_to(b"second", addr).unwrap();
    drive(&mut reactor, |diary| diary.came.len() == 2);
}

// Go 16, TestReadFromTimeout: adapted, the callback comes first and the datagram is kept.
#[test]
fn a_read_deadline_in_the_past_comes_before_what_waits() {
    let mut reactor = reactor();
    let socket = reactor.bind("127.0.0.1:0").unwrap();
    let addr = addr_of(&mut reactor, socket);
    peer().send_to(b"waiting", addr).unwrap();
    let past = Instant::now() - Duration::from_secs(1);
    reactor.socket(socket).unwrap().set_deadline(Some(past));
    let _ = reactor.turn(Some(Duration::ZERO)).unwrap();
    let diary = reactor.handler();
    let reads = diary
        .timeouts
        .iter()
        .filter(|(which, _)| *which == Deadline::Read);
    assert_eq!(reads.count(), 1);
    drive(&mut reactor, |diary| diary.came.len() == 1);
}

// Go 21 and 22, TestWriteToTimeout.
#[test]
fn a_write_deadline_fires_only_while_datagrams_wait() {
    let dir = Dir::new("writes");
    let _stuck = dir.peer("stuck");
    let mut reactor = reactor();
    let socket = reactor.bind(dir.bind("ours")).unwrap();
    let past = Instant::now() - Duration::from_secs(1);
    reactor
        .socket(socket)
        .unwrap()
        .set_write_deadline(Some(past));
    settle(&mut reactor);
    assert!(reactor.handler().timeouts.is_empty(), "nothing waits");
    let to = Addr::from_unix_path(dir.path("stuck")).unwrap();
    let began = Instant::now();
    while reactor.handler().timeouts.is_empty() {
        reactor.socket(socket).unwrap().send_to(b"x", to.clone());
        let _ = reactor.turn(Some(Duration::ZERO)).unwrap();
        assert!(began.elapsed() < PATIENCE);
    }
    settle(&mut reactor);
    let timeouts: Vec<_> = reactor.handler().timeouts.iter().map(|it| it.0).collect();
    assert_eq!(timeouts, [Deadline::Write]);
}

// Unix.

// Go 118, TestUnixgramServer; Go 114, TestUnixConnSpecificMethods.
#[test]
fn unix_datagrams_are_answered_by_name() {
    let dir = Dir::new("names");
    let mut reactor = echoing();
    let socket = reactor.bind(dir.bind("server")).unwrap();
    let server = dir.path("server");
    let local = reactor.socket(socket).unwrap().local_addr().unwrap();
    assert_eq!(local.to_string(), server.display().to_string());
    let client = dir.peer("client");
    client.send_to(b"hello", &server).unwrap();
    drive(&mut reactor, |diary| diary.came.len() == 1);
    let mut buffer = [0; 16];
    let n = client.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..n], b"hello");
    assert_eq!(
        reactor.handler().came[0].1,
        Addr::from_unix_path(dir.path("client")).unwrap()
    );
}

// Go 121, TestReadUnixgramWithUnnamedSocket; Go 120, TestConnAndPacketConn; Go 122,
// TestUnixgramZeroBytePayload.
#[test]
fn an_unnamed_sender_is_heard_and_cannot_be_answered() {
    let dir = Dir::new("unnamed");
    let mut reactor = echoing();
    reactor.bind(dir.bind("server")).unwrap();
    let client = UnixDatagram::unbound().unwrap();
    client.send_to(b"", dir.path("server")).unwrap();
    drive(&mut reactor, |diary| diary.came.len() == 1);
    let (bytes, from) = &reactor.handler().came[0];
    assert!(bytes.is_empty() && from.as_unix().unwrap().is_unnamed());
    drive(&mut reactor, |diary| diary.errors.len() == 1);
}

#[test]
fn a_path_is_removed_when_its_socket_is_closed() {
    let dir = Dir::new("unlink");
    let mut reactor = reactor();
    let socket = reactor.bind(dir.bind("ours")).unwrap();
    assert!(dir.path("ours").exists());
    reactor.socket(socket).unwrap().close();
    settle(&mut reactor);
    assert!(!dir.path("ours").exists());
    let kept = reactor
        .bind(dir.bind("kept").unlink_on_close(false))
        .unwrap();
    reactor.socket(kept).unwrap().close();
    settle(&mut reactor);
    assert!(dir.path("kept").exists());
}

#[test]
fn a_path_left_by_the_dead_is_taken_over_and_one_that_is_served_is_not() {
    let dir = Dir::new("stale");
    drop(UnixDatagram::bind(dir.path("stale")).unwrap());
    let mut reactor = reactor();
    reactor.bind(dir.bind("stale")).unwrap();
    let _served = dir.peer("served");
    let error = reactor.bind(dir.bind("served")).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with(": bind: address already in use")
    );
    std::fs::write(dir.path("file"), b"precious").unwrap();
    reactor.bind(dir.bind("file")).unwrap_err();
    assert_eq!(std::fs::read(dir.path("file")).unwrap(), b"precious");
}

// Groups and other networks.

// Go 57, TestIPv4MulticastListener.
#[test]
fn a_group_is_heard_by_all_its_members_until_they_leave() {
    let group = Ipv4Addr::new(239, 255, 77, 77);
    let mut reactor = reactor();
    let bind = |port| {
        Bind::new(format!("udp4://:{port}"))
            .unwrap()
            .join(group, 0)
            .destinations(true)
    };
    let first = match reactor.bind(bind(0)) {
        Ok(first) => first,
        Err(error) => {
            eprintln!("SKIPPED: no multicast on this host: {error}");
            return;
        }
    };
    let port = addr_of(&mut reactor, first).port();
    assert_ne!(port, 0);
    let second = reactor.bind(bind(port)).unwrap();
    let speaker = reactor.bind("udp4://:0").unwrap();
    let mut view = reactor.socket(speaker).unwrap();
    view.set_multicast_loop(true).unwrap();
    view.set_multicast_ttl(1).unwrap();
    view.send_to(b"all hands", SocketAddr::from((group, port)));
    drive(&mut reactor, |diary| diary.came.len() == 2);
    assert!(
        reactor
            .handler()
            .to
            .iter()
            .all(|to| *to == Some(group.into()))
    );
    let mut view = reactor.socket(second).unwrap();
    view.leave(group, 0).unwrap();
    let error = view.leave(group, 0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL));
    reactor.socket(first).unwrap().close();
    settle(&mut reactor);
    let mut view = reactor.socket(speaker).unwrap();
    view.send_to(b"nobody", SocketAddr::from((group, port)));
    settle(&mut reactor);
    assert_eq!(reactor.handler().came.len(), 2);
}

#[test]
fn broadcast_is_permitted_by_default_and_can_be_forbidden() {
    let mut reactor = reactor();
    let socket = reactor.bind("udp4://127.0.0.1:0").unwrap();
    let everybody = SocketAddr::from(([127, 255, 255, 255], 9));
    reactor.socket(socket).unwrap().send_to(b"x", everybody);
    settle(&mut reactor);
    assert!(
        reactor.handler().errors.is_empty(),
        "{:?}",
        reactor.handler().errors
    );
    let mut view = reactor.socket(socket).unwrap();
    view.set_broadcast(false).unwrap();
    view.send_to(b"x", everybody);
    settle(&mut reactor);
    let error = &reactor.handler().errors[0];
    assert!(error.ends_with("sendto: permission denied"), "{error}");
}

#[test]
fn raw_ip_comes_without_its_header() {
    let mut reactor = reactor();
    // ICMP echo on loopback: the kernel answers our request, and we hear both.
    let socket = match reactor.bind("ip4:icmp://127.0.0.1") {
        Ok(socket) => socket,
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            eprintln!("SKIPPED: raw sockets are not permitted here");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let request = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
    reactor
        .socket(socket)
        .unwrap()
        .send_to(&request, SocketAddr::from(([127, 0, 0, 1], 0)));
    drive(&mut reactor, |diary| diary.came.len() >= 2);
    let came = &reactor.handler().came;
    assert!(came.iter().any(|(bytes, _)| bytes[..] == request));
    assert!(
        came.iter()
            .any(|(bytes, _)| bytes.len() == 8 && bytes[0] == 0)
    );
}

#[test]
fn a_socket_made_elsewhere_is_taken_over() {
    let mut reactor = echoing();
    let made = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = made.local_addr().unwrap();
    let socket = reactor.bind(Bind::adopt(made.into())).unwrap();
    assert_eq!(addr_of(&mut reactor, socket), addr);
    let peer = peer();
    peer.send_to(b"hello", addr).unwrap();
    drive(&mut reactor, |diary| diary.came.len() == 1);
    assert_eq!(received(&peer).0, b"hello");
    let stream = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error = reactor.bind(Bind::adopt(stream.into())).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPROTOTYPE));
}

#[test]
fn a_past_deadline_set_by_its_own_timeout_waits_for_the_next_turn() {
    #[derive(Default)]
    struct Again(u32);
    impl Handler for Again {
        type Session = ();
        fn on_socket_timeout(&mut self, socket: &mut Socket<'_>, _: Deadline) {
            self.0 += 1;
            // A loop that turns here for ever would be no test result.
            if self.0 < 100 {
                let now = socket.now();
                socket.set_read_deadline(Some(now));
            }
        }
    }
    let mut reactor = Reactor::new(Again::default()).unwrap();
    let socket = reactor.bind("127.0.0.1:0").unwrap();
    let past = Instant::now() - Duration::from_secs(1);
    reactor
        .socket(socket)
        .unwrap()
        .set_read_deadline(Some(past));
    for turn in 1..=3 {
        let _ = reactor.turn(Some(PATIENCE)).unwrap();
        assert_eq!(reactor.handler().0, turn);
    }
}

#[test]
fn a_queue_that_is_given_up_has_room_again_and_says_so() {
    let (ours, _stuck) = UnixDatagram::pair().unwrap();
    let mut reactor = reactor_with(|config| {
        config.write_stall_timeout = Duration::from_millis(50);
    });
    let bind = Bind::adopt(ours.into()).queue_limit(1024);
    let socket = reactor.bind(bind).unwrap();
    let began = Instant::now();
    while reactor.socket(socket).unwrap().send(&[7; 512]) == Delivery::Queued {
        assert!(began.elapsed() < PATIENCE);
        let _ = reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    drive(&mut reactor, |diary| diary.writable == 1);
    assert_eq!(reactor.socket(socket).unwrap().queued(), 0);
}

#[test]
fn a_long_queue_to_unix_receivers_leaves_in_more_than_one_turn() {
    const SENT: usize = 4000;
    let dir = Dir::new("long");
    let mut reactor = reactor_with(|config| config.datagram_queue = 16 << 20);
    let socket = reactor.bind(dir.bind("ours")).unwrap();
    // Nobody is there, which takes each datagram off the queue with a call of its own.
    let to = Addr::from_unix_path(dir.path("nobody")).unwrap();
    for _ in 0..SENT {
        reactor.socket(socket).unwrap().send_to(b"x", to.clone());
    }
    let _ = reactor.turn(Some(Duration::ZERO)).unwrap();
    let calls = reactor.stats().writes;
    assert!(calls < 1100, "{calls} calls in one turn");
    let began = Instant::now();
    while reactor.socket(socket).unwrap().queued() > 0 {
        assert!(began.elapsed() < PATIENCE);
        let _ = reactor.turn(Some(PATIENCE)).unwrap();
    }
    assert_eq!(reactor.stats().writes, SENT as u64);
}

#[test]
fn what_leaves_in_the_same_turn_does_not_meet_the_write_deadline() {
    let mut reactor = reactor();
    let friend = peer();
    let socket = reactor.bind("127.0.0.1:0").unwrap();
    let mut view = reactor.socket(socket).unwrap();
    view.set_write_deadline(Some(Instant::now()));
    view.send_to(b"in time", friend.local_addr().unwrap());
    settle(&mut reactor);
    assert_eq!(received(&friend).0, b"in time");
    assert!(reactor.handler().timeouts.is_empty());
}
