//! What Go checks of TCP connections: servers and clients of every spelling, names, options
//! and stress. What it checks of the bytes is in `go_streams.rs`.
//!
//! The line above each test names the rows of Go's behaviour that it stands for.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

#[path = "util/socket.rs"]
mod socket;
mod util;

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener};
use std::time::{Duration, Instant};

use util::{KIB, PATIENCE, Recorder, config, ip, ms, pattern, serve_with};
use windlass::{
    Conn, Context, Dial, DialId, Error, Handler, Input, Keepalive, Listen, ListenerId, PanicPolicy,
    Reactor, Turn,
};

// Go 108, TestConnAndListener: adapted, an address does not know its network.
#[test]
fn both_ends_of_a_connection_agree_about_their_names() {
    let mut chat = Chat::new(1, 4 * KIB);
    let addr = chat.listen("127.0.0.1:0");
    chat.dial(addr);
    chat.until_done(1);
    let (server, client) = (chat.app().accepted[0], chat.app().connected[0]);
    assert_eq!(server, (addr, client.0));
    assert_eq!(client, (server.1, addr));
    assert_ne!(client.0.port(), 0);
}

// Go 110, TestTCPConnSpecificMethods: adapted, a linger time of the kernel's can't be set,
// because the loop would wait with it.
#[test]
fn options_and_deadlines_may_be_set_in_any_order_before_the_first_byte() {
    let set: [fn(&mut Conn<'_>); 5] = [
        |conn| conn.set_keepalive(other_probing()).unwrap(),
        |conn| conn.set_nodelay(false).unwrap(),
        |conn| conn.set_deadline(Some(conn.now() + HOUR)),
        |conn| conn.set_read_deadline(Some(conn.now() + HOUR)),
        |conn| conn.set_write_deadline(Some(conn.now() + HOUR)),
    ];
    for first in 0..set.len() {
        for backwards in [false, true] {
            let mut order = set;
            order.rotate_left(first);
            if backwards {
                order.reverse();
            }
            let mut chat = Chat::new(1, 100);
            chat.app_mut().prepare = order.to_vec();
            let addr = chat.listen("127.0.0.1:0");
            chat.dial(addr);
            chat.until_done(1);
            for (local, peer) in [chat.app().accepted[0], chat.app().connected[0]] {
                assert_eq!(probing(local, peer), (true, 31, 11, 5));
                assert!(!socket::nodelay(local, peer));
            }
        }
    }
}

// Go 115, TestTCPServer: three clients for every spelling of server and client.
#[test]
fn a_server_is_reached_under_every_spelling_of_its_address() {
    let (four, six) = ("127.0.0.1", "[::1]");
    let mut pairs = Vec::new();
    for server in [":0", "0.0.0.0:0", "[::ffff:0.0.0.0]:0", "[::]:0"] {
        for (network, host) in [("tcp", four), ("tcp", six), ("tcp4", four), ("tcp6", six)] {
            pairs.push(("tcp", server, network, host));
        }
    }
    pairs.extend([
        ("tcp", "127.0.0.1:0", "tcp", four),
        ("tcp", "[::ffff:127.0.0.1]:0", "tcp", four),
        ("tcp", "[::1]:0", "tcp", six),
        ("tcp4", ":0", "tcp4", four),
        ("tcp4", "0.0.0.0:0", "tcp4", four),
        ("tcp4", "[::ffff:0.0.0.0]:0", "tcp4", four),
        ("tcp4", "127.0.0.1:0", "tcp4", four),
        ("tcp6", ":0", "tcp6", six),
        ("tcp6", "[::]:0", "tcp6", six),
        ("tcp6", "[::1]:0", "tcp6", six),
    ]);
    assert_eq!(pairs.len(), 26);
    let no_ipv6 = TcpListener::bind("[::1]:0").is_err();
    for (network, server, of_client, host) in pairs {
        if no_ipv6 && (host == six || network == "tcp6") {
            continue;
        }
        let mut chat = Chat::new(1, 15);
        let port = chat.listen(&format!("{network}://{server}")).port();
        let there = Dial::new(format!("{of_client}://{host}:{port}").as_str()).unwrap();
        for _ in 0..3 {
            chat.reactor.dial(there.clone()).unwrap();
        }
        chat.until_done(3);
    }
}

// Go 151, TestTCPListenerName.
#[test]
fn a_listener_on_port_0_tells_the_port_that_it_got() {
    for text in ["tcp4://127.0.0.1:0", "tcp4://0.0.0.0:0", "tcp4://"] {
        let mut chat = Chat::new(1, 1);
        assert_ne!(chat.listen(text).port(), 0, "{text}");
    }
}

// Go 152, TestIPv6LinkLocalUnicastTCP.
#[test]
fn link_local_addresses_keep_their_interface_at_both_ends() {
    let Some(link_local) = link_local_address() else {
        eprintln!("no interface of this host has a link-local address");
        return;
    };
    let mut chat = Chat::new(1, 100);
    let addr = chat.listen(&format!("tcp6://{link_local}"));
    chat.reactor.dial(format!("tcp6://{addr}")).unwrap();
    chat.until_done(1);
    let (server, client) = (chat.app().accepted[0], chat.app().connected[0]);
    for end in [addr, server.0, server.1, client.0, client.1] {
        let SocketAddr::V6(end) = end else {
            panic!("{end}")
        };
        assert_eq!(*end.ip(), *link_local.ip());
        assert_eq!(end.scope_id(), link_local.scope_id());
    }
}

// Go 153, TestTCPConcurrentAccept: adapted, one loop accepts within its budget.
#[test]
fn a_hundred_dials_in_a_row_find_a_busy_acceptor_in_time() {
    let server = serve_with(config(|config| config.accept_budget = 4), Recorder::echo());
    let mut chat = Chat::new(1, 1);
    for n in 1..=100 {
        let dial = Dial::from(server.addr).timeout(ms(200));
        chat.reactor.dial(dial).unwrap();
        chat.until(|app| app.done + app.failed.len() == n);
    }
    let failed = &chat.app().failed;
    assert!(failed.len() <= 100 / 9, "{failed:?}");
    let connected = 100 - failed.len() as u64;
    drop(chat);
    server.until("all of them were accepted", |stats| {
        stats.accepted >= connected
    });
    server.stop();
}

// Go 155, TestTCPStress.
#[test]
fn ten_thousand_messages_go_back_and_forth_on_two_connections() {
    let mut chat = Chat::new(10_000, 512);
    let addr = chat.listen("127.0.0.1:0");
    chat.dial(addr);
    chat.dial(addr);
    chat.until_done(2);
    let stats = chat.reactor.stats();
    assert_eq!(stats.bytes_read, 4 * 10_000 * 512);
    assert_eq!(stats.bytes_written, 4 * 10_000 * 512);
}

// Go 161, TestTCPConnKeepAliveConfig…: dialer, listener and connection.
#[test]
fn keepalive_can_be_set_for_a_dial_a_listener_and_one_connection() {
    let plain = |_: &mut Conn<'_>| {};
    let alone = |conn: &mut Conn<'_>| conn.set_keepalive(other_probing()).unwrap();
    let system = probing_of(None, None, plain);
    assert!(!system.0.0 && !system.1.0, "off, as the system has it");
    let standard = Some(Keepalive::default());
    let (usual, other) = ((true, 15, 15, 9), (true, 31, 11, 5));
    assert_eq!(probing_of(standard, standard, plain), (usual, usual));
    // Durations are rounded up to the system's seconds.
    let rounded = Some(Keepalive::new(ms(30_001), ms(10_500), 5));
    assert_eq!(probing_of(rounded, None, plain), (other, system.1));
    assert_eq!(probing_of(None, rounded, plain), (system.0, other));
    assert_eq!(probing_of(standard, None, alone), (other, other));
}

const HOUR: Duration = Duration::from_secs(3600);

fn other_probing() -> Keepalive {
    Keepalive::new(Duration::from_secs(31), Duration::from_secs(11), 5)
}

/// Clients that send so many messages, each after the answer to the one before, and a
/// server that sends them back.
struct App {
    rounds: u32,
    message: usize,
    /// What is done with each new connection.
    prepare: Vec<fn(&mut Conn<'_>)>,
    /// Our end and the other one.
    accepted: Vec<(SocketAddr, SocketAddr)>,
    connected: Vec<(SocketAddr, SocketAddr)>,
    /// Clients that have had all of their answers.
    done: usize,
    failed: Vec<String>,
}

enum Side {
    Server,
    /// In this round.
    Client(u32),
}

impl App {
    fn say(&self, round: u32) -> Vec<u8> {
        pattern(self.message, round.into())
    }

    fn meet(&self, conn: &mut Conn<'_>) -> (SocketAddr, SocketAddr) {
        for prepare in &self.prepare {
            prepare(conn);
        }
        let own = conn.local_addr().unwrap();
        (ip(own), ip(conn.peer_addr()))
    }
}

impl Handler for App {
    type Session = Side;

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<Side> {
        let ends = self.meet(conn);
        self.accepted.push(ends);
        Ok(Side::Server)
    }

    fn on_connect(&mut self, conn: &mut Conn<'_>, _: DialId) -> io::Result<Side> {
        let ends = self.meet(conn);
        self.connected.push(ends);
        conn.write(&self.say(0));
        Ok(Side::Client(0))
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        side: &mut Side,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        let Side::Client(round) = side else {
            conn.write(input.take_all());
            return Ok(());
        };
        let Some(answer) = input.take(self.message) else {
            return Ok(());
        };
        assert!(answer == self.say(*round), "round {round} is another one");
        assert!(input.is_empty(), "more than was sent");
        *round += 1;
        if *round < self.rounds {
            conn.write(&self.say(*round));
        } else {
            self.done += 1;
        }
        Ok(())
    }

    fn on_dial_error(
        &mut self,
        _: &mut Context<'_>,
        _: DialId,
        error: &Error,
        _: Option<Duration>,
    ) {
        self.failed.push(error.to_string());
    }
}

/// Such clients, and such a server perhaps, in one loop.
struct Chat {
    reactor: Reactor<App>,
}

impl Chat {
    fn new(rounds: u32, message: usize) -> Self {
        let app = App {
            rounds,
            message,
            prepare: Vec::new(),
            accepted: Vec::new(),
            connected: Vec::new(),
            done: 0,
            failed: Vec::new(),
        };
        let strict = config(|config| config.panic_policy = PanicPolicy::Propagate);
        let reactor = Reactor::with_config(app, strict).unwrap();
        Self { reactor }
    }

    fn app(&self) -> &App {
        self.reactor.handler()
    }

    fn app_mut(&mut self) -> &mut App {
        self.reactor.handler_mut()
    }

    #[track_caller]
    fn listen(&mut self, text: &str) -> SocketAddr {
        self.listen_on(Listen::new(text).expect(text))
    }

    #[track_caller]
    fn listen_on(&mut self, listen: Listen) -> SocketAddr {
        let id = self.reactor.listen(listen).unwrap();
        ip(self.reactor.listener(id).unwrap().local_addr())
    }

    fn dial(&mut self, addr: SocketAddr) {
        self.reactor.dial(addr).unwrap();
    }

    #[track_caller]
    fn until(&mut self, holds: impl Fn(&App) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self.app()) {
            assert!(Instant::now() < deadline, "{:?}", self.app().failed);
            assert_eq!(self.reactor.turn(Some(ms(50))).unwrap(), Turn::Running);
        }
    }

    /// Until so many clients have had all of their answers; nobody fails.
    #[track_caller]
    fn until_done(&mut self, clients: usize) {
        self.until(|app| app.done == clients || !app.failed.is_empty());
        assert_eq!(self.app().failed, [""; 0]);
    }
}

type InSeconds = (bool, u64, u64, u32);

fn probing(local: SocketAddr, peer: SocketAddr) -> InSeconds {
    let it = socket::probing(local, peer);
    (it.on, it.idle.as_secs(), it.interval.as_secs(), it.count)
}

/// Keep-alive at the dialing and at the accepting end.
#[track_caller]
fn probing_of(
    dial: Option<Keepalive>,
    listen: Option<Keepalive>,
    prepare: fn(&mut Conn<'_>),
) -> (InSeconds, InSeconds) {
    let mut chat = Chat::new(1, 1);
    chat.app_mut().prepare.push(prepare);
    let addr = chat.listen_on(Listen::new("127.0.0.1:0").unwrap().keepalive(listen));
    chat.reactor.dial(Dial::from(addr).keepalive(dial)).unwrap();
    chat.until_done(1);
    let (server, client) = (chat.app().accepted[0], chat.app().connected[0]);
    (probing(client.0, client.1), probing(server.0, server.1))
}

/// An address of this host that is only good with its interface; Linux tells.
fn link_local_address() -> Option<SocketAddrV6> {
    const LINK_SCOPE: &str = "20";
    // Tentative, or found to be somebody else's as well.
    const UNUSABLE: u32 = 0x48;
    let table = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [addr, index, _, LINK_SCOPE, flags, _] = fields[..] else {
            return None;
        };
        let usable = u32::from_str_radix(flags, 16).ok()? & UNUSABLE == 0;
        let bits = u128::from_str_radix(addr, 16).ok()?;
        let scope = u32::from_str_radix(index, 16).ok()?;
        usable.then(|| SocketAddrV6::new(Ipv6Addr::from_bits(bits), 0, 0, scope))
    })
}
