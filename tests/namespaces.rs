//! Dialing between two hosts, on a wire that loses, delays and swallows packets: what a
//! loopback interface cannot show. Linux only; see `util/hosts.rs` for what it takes.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util;

#[path = "util/hosts.rs"]
mod hosts;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use hosts::{
    HERE, Hosts, Missing, SWALLOWED, THERE, Wire, add_address, inside, ip, measured, replace,
    retransmissions,
};
use util::{KIB, PATIENCE, Recorder, assert_same, config, ms, pattern, serve_on};
use windlass::{
    Bind, Closed, Config, Conn, Context, Datagram, Deadline, Dial, DialId, Error, Handler, Input,
    Listen, Reactor, Socket,
};

/// The default of `Config::attempt_delay`.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// What a busy machine may add to what takes a known time.
const SLACK: Duration = Duration::from_millis(150);

/// Longer than a wire without delay needs to answer that nobody is there.
const SILENCE: Duration = Duration::from_millis(300);

/// A wire of 40 ms there and back that loses 3 packets of a hundred.
const BAD_WIRE: Wire = Wire {
    delay: Duration::from_millis(20),
    loss: 3,
    ..Wire::GOOD
};

/// One on which whatever can happen to a packet happens to some.
const WORST_WIRE: Wire = Wire {
    delay: Duration::from_millis(20),
    loss: 2,
    duplicate: 5,
    reorder: 20,
};

/// What the loop has told, and when.
#[derive(Debug)]
enum Told {
    Connected(Instant, SocketAddr),
    Failed(Instant, String, bool),
    Read(Vec<u8>),
    TimedOut(#[allow(dead_code, reason = "read by who prints it")] Deadline),
    Closed,
}

struct Client {
    tell: Sender<Told>,
    /// What it says when it is connected.
    speech: Vec<u8>,
}

impl Handler for Client {
    type Session = ();

    fn on_connect(&mut self, conn: &mut Conn<'_>, _: DialId) -> io::Result<()> {
        let peer = conn.peer_addr().as_socket_addr().unwrap();
        let _ = self.tell.send(Told::Connected(Instant::now(), peer));
        conn.write(&self.speech);
        Ok(())
    }

    fn on_dial_error(
        &mut self,
        _: &mut Context<'_>,
        _: DialId,
        error: &Error,
        _: Option<Duration>,
    ) {
        let told = Told::Failed(Instant::now(), error.to_string(), error.is_timeout());
        let _ = self.tell.send(told);
    }

    fn on_read(&mut self, _: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> io::Result<()> {
        let _ = self.tell.send(Told::Read(input.take_all().to_vec()));
        Ok(())
    }

    fn on_timeout(&mut self, _: &mut Conn<'_>, _: &mut (), which: Deadline) -> io::Result<()> {
        let _ = self.tell.send(Told::TimedOut(which));
        Ok(())
    }

    fn on_close(&mut self, _: &mut Context<'_>, (): (), _: &Closed) {
        let _ = self.tell.send(Told::Closed);
    }
}

/// Dials from a loop on a thread of its own, which ends with the process.
fn dial(config: Config, dials: Vec<Dial>, speech: &[u8]) -> (Instant, Receiver<Told>) {
    let (tell, told) = mpsc::channel();
    let speech = speech.to_vec();
    let began = Instant::now();
    thread::spawn(move || {
        let mut reactor = Reactor::with_config(Client { tell, speech }, config).unwrap();
        for dial in dials {
            reactor.dial(dial).unwrap();
        }
        reactor.run().unwrap();
    });
    (began, told)
}

fn dial_one(text: &str) -> (Instant, Receiver<Told>) {
    dial(Config::default(), vec![Dial::new(text).unwrap()], b"")
}

#[track_caller]
fn next(told: &Receiver<Told>) -> Told {
    told.recv_timeout(PATIENCE).expect("news of a dial")
}

/// Waits for the connection, and answers to whom and after how long.
#[track_caller]
fn connected((began, told): (Instant, Receiver<Told>)) -> (SocketAddr, Duration) {
    match next(&told) {
        Told::Connected(at, peer) => (peer, at - began),
        other => panic!("not connected: {other:?}"),
    }
}

fn at(host: &str, port: u16) -> SocketAddr {
    SocketAddr::new(host.parse().unwrap(), port)
}

/// A listener on the other host, with a queue that has room for everybody who dials.
fn listen_there(hosts: &Hosts, host: &'static str) -> TcpListener {
    hosts.there(move || TcpListener::bind(at(host, 0)).unwrap())
}

/// Gives a name these addresses; answers whether the resolver has them in this order.
fn name(name: &str, addresses: [&str; 2]) -> Result<(), Missing> {
    let lines = addresses.map(|address| format!("{address} {name}\n"));
    replace("/etc/hosts", &lines.concat())?;
    let found = (name, 0)
        .to_socket_addrs()
        .map_err(|error| Missing::new(format!("the resolver does not read /etc/hosts: {error}")))?;
    let found: Vec<IpAddr> = found.map(|addr| addr.ip()).collect();
    let wanted = addresses.map(|address| address.parse::<IpAddr>().unwrap());
    if found == wanted {
        return Ok(());
    }
    let why = format!("the resolver answers {found:?} and not {wanted:?}");
    Err(Missing::new(why))
}

/// Proves that packets to this address arrive at the other host, and that nobody says a
/// word about them there.
#[track_caller]
fn assert_swallowed(hosts: &Hosts, address: &'static str) {
    hosts.there(move || add_address(address, "lo"));
    let listener = listen_there(hosts, address);
    let addr = listener.local_addr().unwrap();
    TcpStream::connect_timeout(&addr, PATIENCE).expect("the way is open");
    drop(listener);
    hosts.there(move || ip(&format!("address del {address} dev lo")));
    let error = TcpStream::connect_timeout(&addr, SILENCE).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "somebody answered");
}

/// Dials a name whose first address swallows everything and whose second one lives.
fn a_swallowing_family_costs_the_attempt_delay(
    swallowed: &'static str,
    living: &'static str,
) -> Result<(), Missing> {
    let hosts = Hosts::joined(Wire::GOOD)?;
    assert_swallowed(&hosts, swallowed);
    name("half.test", [swallowed, living])?;
    let listener = listen_there(&hosts, living);
    let addr = listener.local_addr().unwrap();
    let (peer, after) = connected(dial_one(&format!("half.test:{}", addr.port())));
    measured(format_args!("connected to {peer} after {after:?}"));
    assert_eq!(peer, addr, "the living one wins");
    assert!(after >= ATTEMPT_DELAY, "{after:?}: nobody waited");
    assert!(after < ATTEMPT_DELAY + SLACK, "{after:?}: late");
    Ok(())
}

#[test]
fn an_ipv6_route_that_swallows_syns_costs_a_dial_250_ms() {
    inside(
        "an_ipv6_route_that_swallows_syns_costs_a_dial_250_ms",
        || a_swallowing_family_costs_the_attempt_delay(SWALLOWED[1], THERE[0]),
    );
}

#[test]
fn an_ipv4_route_that_swallows_syns_costs_a_dial_250_ms() {
    inside(
        "an_ipv4_route_that_swallows_syns_costs_a_dial_250_ms",
        || {
            // The resolver's default is IPv6 first.
            replace("/etc/gai.conf", "precedence ::ffff:0:0/96 100\n")?;
            a_swallowing_family_costs_the_attempt_delay(SWALLOWED[0], THERE[1])
        },
    );
}

#[test]
fn a_family_that_refuses_costs_a_dial_no_delay() {
    inside("a_family_that_refuses_costs_a_dial_no_delay", || {
        let hosts = Hosts::joined(Wire::GOOD)?;
        name("half.test", [THERE[1], THERE[0]])?;
        let listener = listen_there(&hosts, THERE[0]);
        let addr = listener.local_addr().unwrap();
        let (peer, after) = connected(dial_one(&format!("half.test:{}", addr.port())));
        measured(format_args!("connected to {peer} after {after:?}"));
        assert_eq!(peer, addr);
        assert!(after < ATTEMPT_DELAY, "{after:?}: somebody waited");
        Ok(())
    });
}

#[test]
fn a_dial_that_only_swallowing_addresses_could_answer_ends_at_the_asked_time() {
    inside(
        "a_dial_that_only_swallowing_addresses_could_answer_ends_at_the_asked_time",
        || {
            let _hosts = Hosts::joined(Wire::GOOD)?;
            name("lost.test", [SWALLOWED[1], SWALLOWED[0]])?;
            let asked = ms(400);
            let lost = Dial::new("lost.test:80").unwrap().timeout(asked);
            let (began, told) = dial(Config::default(), vec![lost], b"");
            let Told::Failed(at, text, is_timeout) = next(&told) else {
                panic!("nobody is there")
            };
            let after = at - began;
            measured(format_args!("timed out after {after:?} of {asked:?}"));
            assert_eq!(text, format!("dial tcp [{}]:80: i/o timeout", SWALLOWED[1]));
            assert!(is_timeout);
            assert!(asked <= after && after < asked + SLACK, "{after:?}");
            Ok(())
        },
    );
}

#[test]
fn a_dial_to_an_unreachable_network_answers_at_once_with_the_errno() {
    inside(
        "a_dial_to_an_unreachable_network_answers_at_once_with_the_errno",
        || {
            let _hosts = Hosts::joined(Wire::GOOD)?;
            ip("route add unreachable 203.0.113.0/25");
            ip("route add prohibit 203.0.113.128/25");
            for (address, errno) in [
                ("192.88.99.1:80", "network is unreachable"),
                ("[2001:db9::1]:80", "network is unreachable"),
                ("203.0.113.1:80", "no route to host"),
                ("203.0.113.129:80", "permission denied"),
            ] {
                let (began, told) = dial_one(address);
                let Told::Failed(at, text, is_timeout) = next(&told) else {
                    panic!("nobody is at {address}")
                };
                let after = at - began;
                assert_eq!(text, format!("dial tcp {address}: connect: {errno}"));
                assert!(!is_timeout);
                assert!(after < SLACK, "{address} took {after:?}");
            }
            Ok(())
        },
    );
}

/// How many dials at once, how long each may take, and how many of them may have no luck:
/// that even one loses four packets in a row is not to be expected in a thousand runs.
const MANY: usize = 30;
const LONG: Duration = Duration::from_secs(10);
const UNLUCKY: usize = 2;

#[test]
fn a_dial_through_a_lossy_path_ends_well() {
    inside("a_dial_through_a_lossy_path_ends_well", || {
        let hosts = Hosts::joined(BAD_WIRE)?;
        let listener = listen_there(&hosts, THERE[0]);
        let one = Dial::from(listener.local_addr().unwrap()).timeout(LONG);
        let (began, told) = dial(Config::default(), vec![one; MANY], b"");
        let mut waits = Vec::new();
        for _ in 0..MANY {
            match next(&told) {
                Told::Connected(at, _) => waits.push(at - began),
                Told::Failed(at, _, true) => assert!(at - began >= LONG, "early"),
                other => panic!("neither connected nor timed out: {other:?}"),
            }
        }
        assert!(waits.len() >= MANY - UNLUCKY, "only {waits:?}");
        let (first, last) = (waits[0], waits[waits.len() - 1]);
        measured(format_args!(
            "the first of {MANY} after {first:?}, the last after {last:?}"
        ));
        assert!(
            first >= 2 * BAD_WIRE.delay,
            "{first:?}: the path is not slow"
        );
        assert!(told.try_recv().is_err(), "each dial ends once");
        Ok(())
    });
}

/// What passes each way, and a time without progress that lost packets do not explain.
const SPEECH: usize = 512 * KIB;
const STALL: Duration = Duration::from_secs(5);

#[test]
fn bytes_arrive_over_a_lossy_and_slow_path() {
    inside("bytes_arrive_over_a_lossy_and_slow_path", || {
        bytes_arrive_over(BAD_WIRE)
    });
}

#[test]
fn bytes_arrive_over_a_path_that_repeats_and_mixes_packets() {
    inside(
        "bytes_arrive_over_a_path_that_repeats_and_mixes_packets",
        || bytes_arrive_over(WORST_WIRE),
    );
}

fn bytes_arrive_over(wire: Wire) -> Result<(), Missing> {
    let hosts = Hosts::joined(wire)?;
    let echo = Recorder::echo().without_bytes();
    let log = echo.log.clone();
    let listen = Listen::new(at(THERE[0], 0)).unwrap();
    let server = hosts.there(move || serve_on(impatient(), listen, echo));
    let speech = pattern(SPEECH, 7);
    let (began, told) = dial(impatient(), vec![Dial::from(server.addr)], &speech);
    let heard = hear(&told, SPEECH);
    measured(format_args!(
        "{SPEECH} bytes both ways in {:?}",
        began.elapsed()
    ));
    assert_same(&heard, &speech);
    assert_eq!(log.count("timeout"), 0, "a deadline of the server fired");
    let lost = retransmissions() + hosts.there(retransmissions);
    assert!(lost > 0, "the path is not lossy");
    assert!(told.try_recv().is_err(), "nothing but what was sent");
    Ok(())
}

/// How many datagrams are sent, their length, and the time between two.
const DATAGRAMS: u64 = 400;
const DATAGRAM: usize = 600;
const BETWEEN: Duration = Duration::from_millis(1);

#[test]
fn datagrams_are_echoed_whole_however_the_path_loses_repeats_and_mixes_them() {
    inside(
        "datagrams_are_echoed_whole_however_the_path_loses_repeats_and_mixes_them",
        || {
            let hosts = Hosts::joined(WORST_WIRE)?;
            let server = hosts.there(echo_datagrams);
            let client = UdpSocket::bind((HERE[0], 0)).unwrap();
            client.connect(server).unwrap();
            client.set_read_timeout(Some(BETWEEN)).unwrap();
            let mut came = Vec::new();
            for number in 0..DATAGRAMS {
                client.send(&pattern(DATAGRAM, number)).unwrap();
                came.extend(next_number(&client));
            }
            client.set_read_timeout(Some(SILENCE)).unwrap();
            came.extend(std::iter::from_fn(|| next_number(&client)));
            let different = came.iter().collect::<BTreeSet<_>>().len();
            let mixed = came.windows(2).filter(|pair| pair[1] < pair[0]).count();
            let (lost, twice) = (DATAGRAMS as usize - different, came.len() - different);
            measured(format_args!(
                "of {DATAGRAMS} datagrams {lost} lost, {twice} repeated, {mixed} overtaken"
            ));
            assert!(lost > 0 && twice > 0 && mixed > 0, "the path is too good");
            assert!(different > DATAGRAMS as usize / 2, "{lost} are too many");
            Ok(())
        },
    );
}

/// The number of the next datagram that comes, if one does; its bytes must be those of one
/// that was sent.
fn next_number(client: &UdpSocket) -> Option<u64> {
    let mut buffer = [0; 2 * DATAGRAM];
    let len = client.recv(&mut buffer).ok()?;
    let known = |number: &u64| buffer[..len] == pattern(DATAGRAM, *number);
    Some((0..DATAGRAMS).find(known).expect("what nobody has sent"))
}

/// Serves on a thread of its own, which ends with the process.
fn echo_datagrams() -> SocketAddr {
    struct Echo;
    impl Handler for Echo {
        type Session = ();
        fn on_datagram(&mut self, socket: &mut Socket<'_>, datagram: &Datagram<'_>) {
            socket.send_to(datagram.bytes(), datagram.from());
        }
    }
    let (say, bound) = mpsc::channel();
    thread::spawn(move || {
        let mut reactor = Reactor::new(Echo).unwrap();
        let id = reactor.bind(Bind::from(at(THERE[0], 0))).unwrap();
        let addr = reactor.socket(id).unwrap().local_addr().unwrap();
        say.send(util::ip(addr)).unwrap();
        reactor.run().unwrap();
    });
    bound.recv_timeout(PATIENCE).unwrap()
}

fn impatient() -> Config {
    config(|config| {
        config.idle_timeout = STALL;
        config.write_stall_timeout = STALL;
    })
}

/// Everything that comes until it is `len` bytes. Fails on whatever else is told.
#[track_caller]
fn hear(told: &Receiver<Told>, len: usize) -> Vec<u8> {
    let mut heard = Vec::with_capacity(len);
    while heard.len() < len {
        match next(told) {
            Told::Connected(..) => {}
            Told::Read(bytes) => heard.extend_from_slice(&bytes),
            other => panic!("{other:?} after {} of {len} bytes", heard.len()),
        }
    }
    heard
}

// Go's tcpsock_posix.go: a dial to a dynamic port that nobody serves can be given that very
// port as its own, and TCP connects such a socket to itself.
#[test]
fn a_dial_that_was_connected_to_itself_is_tried_with_another_port() {
    inside(
        "a_dial_that_was_connected_to_itself_is_tried_with_another_port",
        || {
            let _hosts = Hosts::joined(Wire::GOOD)?;
            // Of two ports the kernel tries the even one first.
            let range = "/proc/sys/net/ipv4/ip_local_port_range";
            std::fs::write(range, "40000 40001")
                .map_err(|error| Missing::new(format!("{range}: {error}")))?;
            let (_, told) = dial_one("127.0.0.1:40000");
            let Told::Failed(_, text, _) = next(&told) else {
                panic!("connected to nobody")
            };
            assert_eq!(
                text,
                "dial tcp 127.0.0.1:40000: connect: connection refused"
            );
            Ok(())
        },
    );
}
