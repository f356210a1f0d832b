//! What Go's `dial_test.go` checks of TCP dials: races to the millisecond in a simulated
//! world, names and options on a real kernel.
//!
//! The line above each test names the rows of Go's behaviour that it stands for. Go has two
//! lists of addresses, one for each family, and starts the second after 300 ms; windlass
//! follows RFC 8305: one list in which the families take turns, and 250 ms for each address.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

#[path = "util/socket.rs"]
mod socket;
mod util;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use socket::Probing;
use util::{PATIENCE, ms};
use windlass::sim::{Call, Remote, World};
use windlass::{
    Closed, Conn, ConnId, Context, Dial, DialId, Error, Handler, Input, Keepalive, ListenerId,
    Reactor, UnixAddr,
};

use Remote::{Accepts, AcceptsAfter, Refuses, Silent};

// Go 62, TestProhibitionaryDialArg.
#[test]
fn a_dial_of_tcp6_never_takes_an_ipv4_address_in_any_spelling() {
    let mut world = world();
    world.listen("[::]:7");
    for host in ["127.0.0.1", "[::ffff:127.0.0.1]"] {
        world.dial(format!("tcp6://{host}:7")).unwrap();
    }
    world.run();
    let says = "dial tcp6: address 127.0.0.1: no suitable address found";
    assert_eq!(failures(&world), [says, says]);
    assert_eq!(world.calls(Call::Connect), 0);
}

// Go 65, 73, TestDialParallel: also with a thousand addresses behind the one that answers.
#[test]
fn an_address_that_answers_is_connected_at_once_whatever_stands_behind_it() {
    for first in [V4, V6] {
        for copies in [1, 1000] {
            let mut world = world();
            world.remote(at(first), Accepts);
            world.name("host", vec![at(first).ip(); copies]);
            world.dial("host:80").unwrap();
            world.run();
            assert_eq!(connected(&world), [(Duration::ZERO, at(first))]);
            assert_eq!(world.calls(Call::Connect), 1);
        }
    }
}

// Go 66, TestDialParallel.
#[test]
fn a_black_hole_behind_an_address_that_answers_is_never_dialed() {
    for (good, hole) in [(V4, V6), (V6, V4), (V4, OTHER_V4)] {
        let mut world = dialing(&[(good, Accepts), (hole, Silent)]);
        world.advance(ms(1000));
        assert_eq!(connected(&world), [(Duration::ZERO, at(good))]);
        assert_eq!(world.calls(Call::Connect), 1);
    }
}

// Go 68, 70, 85, TestDialParallel and TestDialerDualStack.
#[test]
fn an_address_that_refuses_costs_no_time_in_either_family() {
    let rows: [&[&str]; 5] = [
        &[V4, OTHER_V4],
        &[V6, OTHER_V6],
        &[V4, V6],
        &[V6, V4],
        &[V4, V6, OTHER_V4, OTHER_V6],
    ];
    for row in rows {
        let (&good, bad) = row.split_last().unwrap();
        let mut remotes: Vec<_> = bad.iter().map(|&text| (text, Refuses)).collect();
        remotes.push((good, Accepts));
        let mut world = dialing(&remotes);
        world.run();
        assert_eq!(connected(&world), [(Duration::ZERO, at(good))], "{row:?}");
        assert_eq!(world.calls(Call::Connect), row.len() as u64);
    }
}

// Go 69, TestDialParallel: adapted, every silent address costs a delay of its own.
#[test]
fn among_silent_addresses_a_refusal_brings_the_next_one_at_once() {
    let mut world = dialing(&[(V4, Silent), (V6, Refuses), (OTHER_V6, Accepts)]);
    world.advance(ms(1000));
    assert_connected_at(&world, 250, OTHER_V6);
    assert_eq!(world.calls(Call::Connect), 3);

    // Family by family: V4 at 0, V6 refused at 250, then OTHER_V4, which is silent as well.
    let all = [
        (V4, Silent),
        (OTHER_V4, Silent),
        (V6, Refuses),
        (OTHER_V6, Accepts),
    ];
    let mut world = dialing(&all);
    world.advance(ms(1000));
    assert_connected_at(&world, 500, OTHER_V6);
    assert_eq!(
        (world.calls(Call::Connect), world.open_descriptors()),
        (4, 1)
    );
}

// Go 72, TestDialParallel.
#[test]
fn a_name_without_addresses_fails_at_once() {
    let mut world = dialing(&[]);
    world.run();
    let says = "dial tcp: address host: no suitable address found";
    assert_eq!(failures(&world), [says]);
    assert_eq!(world.handler().failed[0].0, Duration::ZERO);
}

// Go 74, 87, TestDialParallel and TestDialCancel.
#[test]
fn a_cancel_ends_a_race_in_any_state_at_that_moment() {
    let rows: [&[(&str, Remote)]; 4] = [
        &[(V4, Silent)],
        &[(V4, Silent), (V6, Silent)],
        &[(V4, Refuses), (V6, AcceptsAfter(ms(900)))],
        &[(V6, AcceptsAfter(ms(900))), (V4, AcceptsAfter(ms(900)))],
    ];
    for row in rows {
        for after in [5, 50, 300] {
            let mut world = dialing(row);
            world.advance(ms(after));
            let id = world.handler().dialed;
            world.post(move |_, cx| assert!(cx.cancel_dial(id.unwrap())));
            world.run();
            assert_eq!(
                failures(&world),
                ["dial tcp host:80: operation was canceled"]
            );
            assert_eq!(world.handler().failed[0].0, ms(after));
            world.advance(ms(1000));
            assert_eq!((ends(&world), world.open_descriptors()), (1, 0));
        }
    }
}

// Go 75, TestDialerFallbackDelay: adapted, the default is 250 ms.
#[test]
fn the_second_address_is_dialed_after_the_delay_that_was_asked_for() {
    let rows = [
        (Some(Duration::from_nanos(1)), 0),
        (Some(ms(200)), 200),
        (None, 250),
    ];
    for (delay, wanted) in rows {
        let mut world = world();
        let mut dial = host(&mut world, &[(V6, Silent), (V4, Accepts)]);
        if let Some(delay) = delay {
            dial = dial.attempt_delay(delay);
        }
        world.dial(dial).unwrap();
        world.advance(ms(1000));
        assert_connected_at(&world, wanted, V4);
    }
}

// Go 76, TestDialParallelSpuriousConnection.
#[test]
fn of_two_connections_at_the_same_moment_one_is_used_and_the_other_sees_an_end_without_data() {
    let mut world = dialing(&[(V4, AcceptsAfter(ms(300))), (V6, AcceptsAfter(ms(50)))]);
    world.advance(ms(1000));
    let [(_, peer)] = connected(&world)[..] else {
        panic!("one of them wins")
    };
    let (winner, loser) = if peer == at(V4) { (V4, V6) } else { (V6, V4) };
    let winner = world.dialed(at(winner)).unwrap();
    let loser = world.dialed(at(loser)).expect("it was connected as well");
    assert_eq!(world.received(winner), b"hi");
    assert_eq!(world.received(loser), b"");
    assert!(world.saw_eof(loser) && !world.was_reset(loser));
    assert_eq!((ends(&world), world.open_descriptors()), (1, 1));
}

// Go 77, 78, 79, TestDialerPartialDeadline: adapted, since no address waits for the one
// before it to end, none needs a share of the time: all of it is everybody's.
#[test]
fn the_timeout_is_the_whole_dials_however_many_addresses_there_are() {
    for (timeout, addresses, attempts) in [
        (12_000, 1, 1),
        (12_000, 2, 2),
        (12_000, 3, 3),
        (12_000, 999, 48),
        (1900, 999, 8),
    ] {
        let mut world = world();
        let ips: Vec<IpAddr> = (0..addresses).map(nth).collect();
        for &ip in &ips {
            world.remote((ip, 80).into(), Silent);
        }
        world.name("host", ips);
        let dial = Dial::new("host:80").unwrap().timeout(ms(timeout));
        world.dial(dial).unwrap();
        world.advance(ms(20_000));
        let (at, text) = &world.handler().failed[0];
        assert!(*at >= ms(timeout) && *at <= ms(timeout + 2), "{at:?}");
        assert_eq!(text, "dial tcp 10.1.0.0:80: i/o timeout");
        assert_eq!(world.calls(Call::Connect), attempts);
        assert_eq!((ends(&world), world.open_descriptors()), (1, 0));
    }
}

// Go 80, TestDialerPartialDeadline: adapted, without a limit of its own a dial has
// `Config::dial_timeout`, for nothing waits for ever.
#[test]
fn what_is_left_of_the_time_is_the_time() {
    for (left, ends_at) in [(None, 30_000), (Some(1), 1), (Some(0), 0)] {
        let mut world = world();
        world.remote(at(V4), Silent);
        let mut dial = Dial::from(at(V4));
        if let Some(left) = left {
            dial = dial.deadline(world.now() + ms(left));
        }
        world.dial(dial).unwrap();
        world.advance(ms(40_000));
        let (at, text) = &world.handler().failed[0];
        assert!(*at >= ms(ends_at) && *at <= ms(ends_at + 2), "{at:?}");
        assert_eq!(text, &format!("dial tcp {V4}: i/o timeout"));
        let attempts = u64::from(left != Some(0));
        assert_eq!(world.calls(Call::Connect), attempts, "{left:?}");
    }
}

// Go 81, 84, TestDialerLocalAddr: adapted, a wildcard is nobody's address and so fits both
// families; also where the system maps no addresses.
#[test]
fn our_own_end_may_be_any_address_of_the_peers_family_or_a_wildcard() {
    const OF_V4: [Option<&str>; 4] = [None, Some("0.0.0.0:0"), Some("[::]:0"), Some("127.0.0.1:0")];
    const OF_V6: [Option<&str>; 4] = [None, Some("[::]:0"), Some("0.0.0.0:0"), Some("[::1]:0")];
    let rows: [(&str, &str, &[Option<&str>]); 4] = [
        ("tcp", "127.0.0.1", &OF_V4),
        ("tcp4", "127.0.0.1", &OF_V4),
        ("tcp", "[::1]", &OF_V6),
        ("tcp6", "[::1]", &OF_V6),
    ];
    for (network, host, locals) in rows {
        let Ok(listener) = TcpListener::bind(format!("{host}:0")) else {
            continue;
        };
        let there = listener.local_addr().unwrap();
        for local in locals {
            let mut dial = Dial::new(format!("{network}://{there}").as_str()).unwrap();
            if let Some(local) = local {
                dial = dial.local_addr(local.parse::<SocketAddr>().unwrap());
            }
            let (_loop, own, peer) = connect_really(dial);
            assert_eq!(peer, there);
            assert_eq!(own.ip(), there.ip(), "{network} {host} from {local:?}");
            assert_eq!(listener.accept().unwrap().1, own);
        }
    }
}

// Go 82, TestDialerLocalAddr.
// Go 83, TestDialerLocalAddr: adapted, an IP address has no kind of its own here.
#[test]
fn our_own_end_of_another_kind_is_a_mismatch() {
    let mut world = world();
    world.remote(at(V4), Accepts);
    let path = UnixAddr::from_path("/some/path").unwrap();
    world.dial(Dial::from(at(V4)).local_addr(path)).unwrap();
    world.run();
    let says = "dial tcp: address /some/path: mismatched local address type";
    assert_eq!(failures(&world), [says]);
    assert_eq!(world.calls(Call::Socket), 0);
}

#[test]
fn our_own_end_of_the_other_family_suits_no_address() {
    for (dialed, local, network) in [
        ("tcp4://127.0.0.1:80", "[::1]:0", "tcp4"),
        ("tcp6://[::1]:80", "127.0.0.1:0", "tcp6"),
        ("tcp://127.0.0.1:80", "[::1]:0", "tcp"),
        ("tcp://[::1]:80", "127.0.0.1:0", "tcp"),
    ] {
        let mut world = world();
        let dial = Dial::new(dialed).unwrap();
        let dial = dial.local_addr(local.parse::<SocketAddr>().unwrap());
        world.dial(dial).unwrap();
        world.run();
        let says = format!("dial {network}: address {local}: no suitable address found");
        assert_eq!(failures(&world), [says]);
        assert_eq!(world.calls(Call::Socket), 0);
    }
}

// Go 86, TestDialerKeepAlive: the default of 15 s, others, and none.
#[test]
fn keepalive_of_a_dialed_connection_is_what_was_asked_for() {
    let (_listener, there) = listener();
    let plain = Dial::from(there);
    assert_eq!(probing_of(plain.clone()), (true, 15, 15, 9));
    for seconds in [5, 30] {
        let idle = Duration::from_secs(seconds);
        let keepalive = Keepalive::new(idle, Duration::from_secs(7), 3);
        let dial = plain.clone().keepalive(Some(keepalive));
        assert_eq!(probing_of(dial), (true, seconds, 7, 3));
    }
    let (on, ..) = probing_of(plain.keepalive(None));
    assert!(!on, "the system's default");
}

// Go 88, TestCancelAfterDial: ten times.
#[test]
fn a_cancel_after_the_connection_was_told_leaves_it_working() {
    let mut world = world();
    world.remote(at(V4), Accepts);
    for _ in 0..10 {
        let id = world.dial(V4).unwrap();
        world.run();
        world.post(move |_, cx| assert!(!cx.cancel_dial(id)));
        world.run();
        let far_end = world.dialed(at(V4)).unwrap();
        assert_eq!(world.received(far_end), b"hi");
        world.send(far_end, b"still there?");
        world.run();
        assert_eq!(world.received(far_end), b"still there?");
    }
    assert_eq!((connected(&world).len(), failures(&world).len()), (10, 0));
}

// Go 89, TestDialListenerAddr.
#[test]
fn the_text_of_a_listeners_address_can_be_dialed() {
    for text in [":0", "tcp4://:0", "tcp4://0.0.0.0:0", "tcp://127.0.0.1:0"] {
        let mut reactor = Reactor::new(Diary::default()).unwrap();
        let id = reactor.listen(text).expect(text);
        let addr = reactor.listener(id).unwrap().local_addr();
        reactor.dial(addr.to_string()).unwrap();
        turn_until(&mut reactor, |diary| {
            diary.accepted == 1 && ends_of(diary) == 1
        });
        let (_, peer) = reactor.handler().connected[0];
        assert_eq!(Some(peer.port()), addr.port());
        assert!(peer.ip().is_loopback(), "{peer}");
    }
}

const V4: &str = "10.0.0.1:80";
const OTHER_V4: &str = "10.0.0.2:80";
const V6: &str = "[2001:db8::1]:80";
const OTHER_V6: &str = "[2001:db8::2]:80";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// As many addresses as anybody wants, the families taking turns.
fn nth(n: u16) -> IpAddr {
    let [high, low] = n.to_be_bytes();
    match n % 2 {
        0 => Ipv4Addr::new(10, 1, high, low).into(),
        _ => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n).into(),
    }
}

/// What is told of dials, and when.
#[derive(Default)]
struct Diary {
    began: Option<Instant>,
    dialed: Option<DialId>,
    connected: Vec<(Duration, SocketAddr)>,
    failed: Vec<(Duration, String)>,
    latest: Option<ConnId>,
    accepted: usize,
}

impl Diary {
    fn time(&self, now: Instant) -> Duration {
        self.began.map_or(Duration::ZERO, |began| now - began)
    }
}

impl Handler for Diary {
    type Session = ();

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        self.accepted += 1;
        Ok(())
    }

    fn on_connect(&mut self, conn: &mut Conn<'_>, _: DialId) -> io::Result<()> {
        let peer = conn.peer_addr().as_socket_addr().unwrap();
        self.connected.push((self.time(conn.now()), peer));
        self.latest = Some(conn.id());
        conn.write(b"hi");
        Ok(())
    }

    fn on_dial_error(
        &mut self,
        cx: &mut Context<'_>,
        _: DialId,
        error: &Error,
        _: Option<Duration>,
    ) {
        let at = self.time(cx.now());
        self.failed.push((at, error.to_string()));
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        (): &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        conn.write(input.take_all());
        Ok(())
    }

    fn on_close(&mut self, _: &mut Context<'_>, (): (), _: &Closed) {}
}

fn world() -> World<Diary> {
    let mut world = World::new(1, Diary::default());
    world.run();
    let now = world.now();
    world.handler_mut().began = Some(now);
    world
}

/// `host:80`, with these addresses in this order, each behaving as said.
fn host(world: &mut World<Diary>, remotes: &[(&str, Remote)]) -> Dial {
    for &(text, remote) in remotes {
        world.remote(at(text), remote);
    }
    let ips: Vec<IpAddr> = remotes.iter().map(|(text, _)| at(text).ip()).collect();
    world.name("host", ips);
    Dial::new("host:80").unwrap()
}

/// A world in which that host has been dialed.
fn dialing(remotes: &[(&str, Remote)]) -> World<Diary> {
    let mut world = world();
    let dial = host(&mut world, remotes);
    let id = world.dial(dial).unwrap();
    world.handler_mut().dialed = Some(id);
    world
}

fn connected(world: &World<Diary>) -> &[(Duration, SocketAddr)] {
    &world.handler().connected
}

fn failures(world: &World<Diary>) -> Vec<&str> {
    let failed = world.handler().failed.iter();
    failed.map(|(_, text)| text.as_str()).collect()
}

fn ends(world: &World<Diary>) -> usize {
    ends_of(world.handler())
}

fn ends_of(diary: &Diary) -> usize {
    diary.connected.len() + diary.failed.len()
}

/// Once, to that address, at that time; the wheel ticks in milliseconds.
#[track_caller]
fn assert_connected_at(world: &World<Diary>, millis: u64, text: &str) {
    let [(time, peer)] = connected(world) else {
        panic!("{:?}", connected(world))
    };
    assert_eq!((*peer, ends(world)), (at(text), 1));
    assert!(
        *time >= ms(millis) && *time <= ms(millis + 2),
        "{time:?} instead of {millis} ms"
    );
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

#[track_caller]
fn turn_until(reactor: &mut Reactor<Diary>, mut holds: impl FnMut(&Diary) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds(reactor.handler()) {
        assert!(Instant::now() < deadline, "{:?}", reactor.handler().failed);
        let _ = reactor.turn(Some(ms(50))).unwrap();
    }
}

/// A real connection, with its loop and its two ends.
#[track_caller]
fn connect_really(dial: Dial) -> (Reactor<Diary>, SocketAddr, SocketAddr) {
    let mut reactor = Reactor::new(Diary::default()).unwrap();
    reactor.dial(dial).unwrap();
    turn_until(&mut reactor, |diary| ends_of(diary) == 1);
    let diary = reactor.handler();
    assert!(diary.failed.is_empty(), "{:?}", diary.failed);
    let (conn, peer) = (diary.latest.unwrap(), diary.connected[0].1);
    let (say, own) = std::sync::mpsc::channel();
    let ask = move |_: &mut Diary, cx: &mut Context<'_>| {
        let _ = say.send(cx.conn(conn).unwrap().local_addr().unwrap());
    };
    reactor.handle().post(ask).unwrap();
    let _ = reactor.turn(Some(PATIENCE)).unwrap();
    (reactor, util::ip(own.try_recv().unwrap()), peer)
}

/// Keep-alive of a dialed connection: on, and idle, interval and count, in seconds.
#[track_caller]
fn probing_of(dial: Dial) -> (bool, u64, u64, u32) {
    let (_loop, own, peer) = connect_really(dial);
    let Probing {
        on,
        idle,
        interval,
        count,
    } = socket::probing(own, peer);
    (on, idle.as_secs(), interval.as_secs(), count)
}
