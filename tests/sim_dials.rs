//! Dialing in a simulated world: every errno of connect, every order of a race, to the
//! millisecond.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use windlass::sim::{Call, Remote, World};
use windlass::{
    Backoff, Closed, Config, Conn, ConnId, Context, Dial, DialId, Error, Handler, Input, ListenerId,
};

type Connected = (Duration, DialId, ConnId, SocketAddr);
type Failed = (Duration, DialId, String, Option<i32>, Option<Duration>);

/// Everything that is told of dials, with the time at which it was told.
#[derive(Default)]
struct Diary {
    began: Option<Instant>,
    connected: Vec<Connected>,
    failed: Vec<Failed>,
    closed: usize,
    refuse: bool,
    /// To be canceled by whoever is read next.
    unwanted: Option<DialId>,
}

impl Diary {
    fn at(&self, now: Instant) -> Duration {
        self.began.map_or(Duration::ZERO, |began| now - began)
    }

    fn ends(&self) -> usize {
        self.connected.len() + self.failed.len()
    }
}

impl Handler for Diary {
    type Session = Option<DialId>;

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<Option<DialId>> {
        Ok(None)
    }

    fn on_connect(&mut self, conn: &mut Conn<'_>, dial: DialId) -> io::Result<Option<DialId>> {
        let (at, peer) = (
            self.at(conn.now()),
            conn.peer_addr().as_socket_addr().unwrap(),
        );
        self.connected.push((at, dial, conn.id(), peer));
        if self.refuse {
            return Err(io::Error::other("no, thanks"));
        }
        conn.write(b"hi");
        Ok(Some(dial))
    }

    fn on_dial_error(
        &mut self,
        cx: &mut Context<'_>,
        dial: DialId,
        error: &Error,
        retry_in: Option<Duration>,
    ) {
        let at = self.at(cx.now());
        self.failed
            .push((at, dial, error.to_string(), error.raw_os_error(), retry_in));
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        _: &mut Option<DialId>,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        conn.write(input.take_all());
        if let Some(dial) = self.unwanted.take() {
            assert!(conn.cx().cancel_dial(dial));
        }
        Ok(())
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: Option<DialId>, _: &Closed) {
        self.closed += 1;
    }
}

fn world() -> World<Diary> {
    world_with(|_| {})
}

fn world_with(change: impl FnOnce(&mut Config)) -> World<Diary> {
    let mut config = Config::default();
    change(&mut config);
    let mut world = World::with_config(1, Diary::default(), config);
    world.run();
    let now = world.now();
    world.handler_mut().began = Some(now);
    world
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const V4: &str = "10.0.0.1:80";
const OTHER_V4: &str = "10.0.0.2:80";
const V6: &str = "[2001:db8::1]:80";
const OTHER_V6: &str = "[2001:db8::2]:80";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A name with these addresses, in this order, each behaving as said.
fn host(world: &mut World<Diary>, remotes: &[(&str, Remote)]) -> Dial {
    let ips: Vec<IpAddr> = remotes.iter().map(|(text, _)| addr(text).ip()).collect();
    for &(text, remote) in remotes {
        world.remote(addr(text), remote);
    }
    world.name("host", ips);
    Dial::new("host:80").unwrap()
}

#[test]
fn a_dialed_connection_is_a_connection_like_any_other() {
    let mut world = world();
    world.remote(addr(V4), Remote::Accepts);
    world.dial(V4).unwrap();
    world.run();
    let server = world.dialed(addr(V4)).unwrap();
    assert_eq!(world.received(server), b"hi");
    world.send(server, b"echo");
    world.run();
    assert_eq!(world.received(server), b"echo");
    world.close(server);
    world.run();
    assert_eq!((world.handler().ends(), world.handler().closed), (1, 1));
    assert_eq!(world.open_descriptors(), 0);
}

#[test]
fn a_connect_that_succeeds_at_once_is_told_in_the_same_way() {
    let mut world = world();
    world.remote(addr(V4), Remote::AcceptsAtOnce);
    world.dial(V4).unwrap();
    world.run();
    let server = world.dialed(addr(V4)).unwrap();
    assert_eq!(world.received(server), b"hi");
    assert_eq!(world.calls(Call::Connect), 1);
}

#[test]
fn a_silent_family_costs_a_quarter_of_a_second_and_no_timeout() {
    let mut world = world();
    let dial = host(&mut world, &[(V6, Remote::Silent), (V4, Remote::Accepts)]);
    world.dial(dial).unwrap();
    world.advance(ms(249));
    assert_eq!(world.handler().ends(), 0);
    world.advance(ms(2));
    let (at, _, _, peer) = world.handler().connected[0];
    assert_eq!(peer, addr(V4));
    assert!(at >= ms(250) && at <= ms(252), "{at:?}");
    assert_eq!(
        world.open_descriptors(),
        1,
        "the silent attempt was given up"
    );
}

#[test]
fn families_take_turns_a_quarter_of_a_second_apart() {
    let mut world = world();
    let silent = Remote::Silent;
    let in_order = [
        (V6, silent),
        (OTHER_V6, silent),
        (V4, silent),
        (OTHER_V4, silent),
    ];
    let dial = host(&mut world, &in_order);
    world.dial(dial.timeout(ms(2000))).unwrap();
    for attempts in 1..=4 {
        world.advance(ms(240));
        assert_eq!(world.calls(Call::Connect), attempts);
        world.advance(ms(11));
    }
    let tried = |world: &mut World<Diary>, text: &str| {
        let trace = world.trace();
        trace
            .iter()
            .position(|line| line.contains("connect") && line.contains(text))
            .unwrap()
    };
    let order = [V6, V4, OTHER_V6, OTHER_V4].map(|text| tried(&mut world, text));
    assert!(order.is_sorted(), "{order:?}");
    world.advance(ms(2000));
    let (at, _, text, ..) = &world.handler().failed[0];
    assert_eq!(text, &format!("dial tcp {V6}: i/o timeout"));
    assert!(*at >= ms(2000) && *at <= ms(2002), "{at:?}");
    assert_eq!((world.handler().ends(), world.open_descriptors()), (1, 0));
}

#[test]
fn a_refusal_does_not_wait_for_the_next_ones_time() {
    let mut world = world();
    let dial = host(&mut world, &[(V6, Remote::Refuses), (V4, Remote::Accepts)]);
    world.dial(dial).unwrap();
    world.run();
    let (at, _, _, peer) = world.handler().connected[0];
    assert_eq!((at, peer), (Duration::ZERO, addr(V4)));
}

#[test]
fn when_everybody_refuses_the_first_ones_error_is_told_at_once() {
    let mut world = world();
    let unreachable = Remote::Fails {
        errno: libc::EHOSTUNREACH,
        after: Duration::ZERO,
    };
    let dial = host(&mut world, &[(V6, unreachable), (V4, Remote::Refuses)]);
    world.dial(dial).unwrap();
    world.run();
    let (at, _, text, errno, retry) = &world.handler().failed[0];
    assert_eq!(text, &format!("dial tcp {V6}: connect: no route to host"));
    assert_eq!(
        (*at, *errno, *retry),
        (Duration::ZERO, Some(libc::EHOSTUNREACH), None)
    );
    assert_eq!(world.handler().ends(), 1);
}

#[test]
fn losers_keep_racing_and_the_first_to_connect_wins() {
    let mut world = world();
    let slow = Remote::AcceptsAfter(ms(300));
    let slower = Remote::AcceptsAfter(ms(100));
    let dial = host(&mut world, &[(V6, slow), (V4, slower)]);
    world.dial(dial).unwrap();
    world.advance(ms(400));
    let (at, _, _, peer) = world.handler().connected[0];
    assert_eq!(peer, addr(V6), "300 ms are less than 250 and 100");
    assert!(at >= ms(300) && at <= ms(301), "{at:?}");
    assert_eq!(world.handler().ends(), 1);
}

#[test]
fn a_loser_gets_no_data_and_is_closed() {
    let mut world = world();
    let dial = host(
        &mut world,
        &[
            (V6, Remote::AcceptsAfter(ms(260))),
            (V4, Remote::AcceptsAfter(ms(10))),
        ],
    );
    world.dial(dial.attempt_delay(ms(250))).unwrap();
    world.advance(ms(1000));
    let (winner, loser) = (world.dialed(addr(V6)), world.dialed(addr(V4)));
    // Both ends came within one turn or one after the other; one of them won.
    let (winner, loser) = match world.handler().connected[0].3 {
        peer if peer == addr(V6) => (winner, loser),
        _ => (loser, winner),
    };
    assert_eq!(world.received(winner.unwrap()), b"hi");
    if let Some(loser) = loser {
        assert!(world.received(loser).is_empty());
        assert!(world.saw_eof(loser) || world.was_reset(loser));
    }
    assert_eq!((world.handler().ends(), world.open_descriptors()), (1, 1));
}

#[test]
fn every_errno_of_connect_has_its_meaning() {
    for errno in [libc::EINPROGRESS, libc::EALREADY, libc::EINTR] {
        let mut world = world();
        world.remote(addr(V4), Remote::Accepts);
        world.faults().fail(Call::Connect, errno, 1);
        world.dial(Dial::from(addr(V4)).timeout(ms(500))).unwrap();
        world.advance(ms(600));
        // Whether it really is under way or not: it is waited for, and never issued again.
        assert_eq!(world.calls(Call::Connect), 1, "errno {errno}");
        assert_eq!(world.handler().ends(), 1, "errno {errno}");
    }
    for errno in [
        libc::ECONNREFUSED,
        libc::ENETUNREACH,
        libc::EHOSTUNREACH,
        libc::ETIMEDOUT,
        libc::EACCES,
        libc::EPERM,
        libc::EAGAIN,
        libc::ENOBUFS,
        libc::ENOMEM,
        libc::EADDRINUSE,
        libc::EAFNOSUPPORT,
        libc::EINVAL,
        libc::ECONNRESET,
    ] {
        let mut at_once = world();
        at_once.faults().fail(Call::Connect, errno, 1);
        at_once.dial(V4).unwrap();
        at_once.run();
        let mut later = world();
        later.remote(
            addr(V4),
            Remote::Fails {
                errno,
                after: ms(30),
            },
        );
        later.dial(V4).unwrap();
        later.advance(ms(100));
        for world in [&mut at_once, &mut later] {
            let (_, _, text, told, _) = &world.handler().failed[0];
            assert_eq!(*told, Some(errno));
            assert!(
                text.starts_with(&format!("dial tcp {V4}: connect: ")),
                "{text}"
            );
            assert_eq!((world.handler().ends(), world.open_descriptors()), (1, 0));
        }
    }
}

#[test]
fn a_kernel_timeout_is_not_a_deadline_of_ours() {
    let mut world = world();
    world.remote(
        addr(V4),
        Remote::Fails {
            errno: libc::ETIMEDOUT,
            after: ms(10),
        },
    );
    world.dial(V4).unwrap();
    world.advance(ms(20));
    let (_, _, text, ..) = &world.handler().failed[0];
    assert_eq!(
        text,
        &format!("dial tcp {V4}: connect: connection timed out")
    );
}

#[test]
fn a_port_that_the_kernel_could_not_find_is_asked_for_twice_more() {
    for (failures, connected) in [(1, 1), (2, 1), (3, 0)] {
        let mut world = world();
        world.remote(addr(V4), Remote::Accepts);
        world
            .faults()
            .fail(Call::Connect, libc::EADDRNOTAVAIL, failures);
        world.dial(V4).unwrap();
        world.run();
        assert_eq!(
            world.handler().connected.len(),
            connected,
            "{failures} failures"
        );
        assert_eq!(world.calls(Call::Connect), 3.min(failures as u64 + 1));
        assert_eq!(world.handler().ends(), 1);
    }
}

#[test]
fn a_port_of_our_own_choice_is_not_asked_for_again() {
    let mut world = world();
    world.faults().fail(Call::Connect, libc::EADDRNOTAVAIL, 1);
    let local = "10.9.9.9:4000".parse::<SocketAddr>().unwrap();
    world.dial(Dial::from(addr(V4)).local_addr(local)).unwrap();
    world.run();
    assert_eq!(world.calls(Call::Connect), 1);
    let (_, _, text, ..) = &world.handler().failed[0];
    assert_eq!(
        text,
        &format!("dial tcp {local}->{V4}: connect: cannot assign requested address")
    );
}

#[test]
fn a_report_without_a_peer_is_not_believed() {
    let mut world = world();
    world.remote(addr(V4), Remote::AcceptsAfter(ms(50)));
    world.dial(V4).unwrap();
    for _ in 0..5 {
        world.advance(ms(5));
        world.faults().spurious();
        world.advance(ms(1));
        assert_eq!(world.handler().ends(), 0);
    }
    world.advance(ms(50));
    assert_eq!(world.handler().connected.len(), 1);
}

#[test]
fn a_cancel_wins_over_a_connect_that_ends_in_the_same_turn() {
    let mut world = world();
    let listener = world.listen("127.0.0.1:7");
    let client = world.connect(listener);
    world.run();
    world.remote(addr(V4), Remote::AcceptsAfter(ms(10)));
    // Both arrive at the same moment, the bytes before the answer.
    world.faults().latency(ms(10));
    world.send(client, b"x");
    world.faults().latency(ms(0));
    let id = world.dial(V4).unwrap();
    while world.turn(Duration::ZERO) {}
    world.handler_mut().unwanted = Some(id);
    world.advance(ms(11));
    assert_eq!(world.handler().unwanted, None);
    assert!(world.handler().connected.is_empty());
    let (_, _, text, ..) = &world.handler().failed[0];
    assert_eq!(text, &format!("dial tcp {V4}: operation was canceled"));
    assert_eq!(world.handler().ends(), 1);
    assert_eq!(world.stats().open, 1);
}

#[test]
fn a_cancel_wins_until_the_handler_has_been_told() {
    let mut world = world();
    world.remote(addr(V4), Remote::AcceptsAfter(ms(10)));
    let id = world.dial(V4).unwrap();
    world.advance(ms(9));
    // The post runs in the turn in which the kernel reports the connection.
    let handle = world.handle();
    world.faults().latency(Duration::ZERO);
    handle
        .post(move |_, cx| assert!(cx.cancel_dial(id)))
        .unwrap();
    world.advance(ms(5));
    let (_, _, text, ..) = &world.handler().failed[0];
    assert_eq!(text, &format!("dial tcp {V4}: operation was canceled"));
    assert_eq!((world.handler().ends(), world.open_descriptors()), (1, 0));
}

#[test]
fn no_descriptor_is_one_clear_line() {
    let mut world = world();
    world.faults().descriptor_limit(0);
    world.dial(V4).unwrap();
    world.run();
    let (_, _, text, errno, _) = &world.handler().failed[0];
    assert_eq!(text, &format!("dial tcp {V4}: socket: too many open files"));
    assert_eq!(*errno, Some(libc::EMFILE));
}

#[test]
fn names_are_looked_up_without_holding_the_loop() {
    let mut world = world();
    let dial = host(&mut world, &[(V4, Remote::Accepts)]);
    world.lookup_delay(ms(700));
    world.dial(dial).unwrap();
    world.remote(addr(OTHER_V4), Remote::Accepts);
    world.dial(OTHER_V4).unwrap();
    world.advance(ms(1));
    assert_eq!(
        world.handler().connected.len(),
        1,
        "the other one does not wait"
    );
    world.advance(ms(700));
    assert_eq!(world.handler().connected.len(), 2);
}

#[test]
fn a_name_that_nobody_knows_is_gos_words() {
    let mut world = world();
    world.dial("nowhere:80").unwrap();
    world.advance(ms(1));
    let (_, _, text, errno, _) = &world.handler().failed[0];
    assert_eq!(text, "dial tcp: lookup nowhere: no such host");
    assert_eq!(*errno, None);
}

#[test]
fn a_resolver_that_never_answers_is_bounded_by_the_dials_time() {
    let mut world = world_with(|config| {
        config.max_lookups = 2;
        config.dial_timeout = ms(500);
    });
    world.silent_name("silent");
    for _ in 0..3 {
        world.dial("silent:80").unwrap();
    }
    world.advance(ms(499));
    let told: Vec<&str> = world
        .handler()
        .failed
        .iter()
        .map(|end| end.2.as_str())
        .collect();
    assert_eq!(
        told,
        ["dial tcp: lookup silent: too many look-ups are under way"]
    );
    world.advance(ms(2));
    assert_eq!(world.handler().failed.len(), 3);
    assert_eq!(
        world.handler().failed[1].2,
        "dial tcp silent:80: i/o timeout"
    );
}

#[test]
fn an_answer_that_comes_too_late_is_for_nobody() {
    let mut world = world();
    let dial = host(&mut world, &[(V4, Remote::Accepts)]);
    world.lookup_delay(ms(300));
    world
        .dial(
            dial.timeout(ms(100))
                .reconnect(Backoff::new(ms(1000), ms(1000))),
        )
        .unwrap();
    world.advance(ms(400));
    assert_eq!(world.handler().failed.len(), 1);
    assert_eq!(world.calls(Call::Connect), 0, "the first try is over");
    world.shutdown(ms(10));
}

#[test]
fn waits_before_another_try_grow_and_vary_within_their_bounds() {
    let mut world = world();
    let backoff = Backoff::new(ms(100), ms(1000));
    world.dial(Dial::from(addr(V4)).reconnect(backoff)).unwrap();
    world.advance(Duration::from_secs(20));
    let mut due = Duration::ZERO;
    for (n, (at, _, _, _, retry)) in world.handler().failed.iter().enumerate() {
        let whole = ms((100_u64 << n.min(10)).min(1000));
        let wait = retry.unwrap();
        assert!(
            wait >= whole / 2 && wait <= whole,
            "wait {n}: {wait:?} of {whole:?}"
        );
        assert!(
            *at >= due && *at <= due + ms(2),
            "try {n} at {at:?}, due {due:?}"
        );
        due = *at + wait;
    }
    assert!(world.handler().failed.len() >= 20);
    // A connection that lasts begins anew; one that is hung up on does not.
    world.remote(addr(V4), Remote::Accepts);
    world.advance(ms(1001));
    assert_eq!(world.handler().connected.len(), 1);
    let server = world.dialed(addr(V4)).unwrap();
    world.close(server);
    world.advance(ms(499));
    assert_eq!(
        world.handler().connected.len(),
        1,
        "half of a second at least"
    );
    world.advance(ms(503));
    assert_eq!(world.handler().connected.len(), 2);
    world.advance(ms(1000));
    let server = world.dialed(addr(V4)).unwrap();
    world.close(server);
    world.advance(ms(101));
    assert_eq!(world.handler().connected.len(), 3);
    world.shutdown(ms(100));
}

#[test]
fn a_deadline_ends_the_reconnecting_too() {
    let mut world = world();
    let until = world.now() + ms(500);
    let dial = Dial::from(addr(V4)).deadline(until);
    world
        .dial(dial.reconnect(Backoff::new(ms(100), ms(100))))
        .unwrap();
    world.advance(ms(5000));
    let (at, _, text, _, retry) = world.handler().failed.last().unwrap();
    assert!(*at >= ms(500) && *at <= ms(602), "{at:?}");
    assert_eq!(
        (text.as_str(), *retry),
        ("dial tcp 10.0.0.1:80: i/o timeout", None)
    );
    world.shutdown(ms(10));
}

#[test]
fn a_connection_that_on_connect_refuses_is_closed_and_tried_again_if_asked() {
    let mut world = world();
    world.handler_mut().refuse = true;
    world.remote(addr(V4), Remote::Accepts);
    world.dial(V4).unwrap();
    world.run();
    assert_eq!((world.handler().closed, world.open_descriptors()), (0, 0));
    world
        .dial(Dial::from(addr(V4)).reconnect(Backoff::new(ms(10), ms(10))))
        .unwrap();
    world.advance(ms(100));
    assert!(world.handler().connected.len() > 5);
    assert_eq!(world.open_descriptors(), 0);
    world.shutdown(ms(10));
}

#[test]
fn a_stop_ends_every_kind_of_dial_and_leaves_nothing_open() {
    let mut world = world();
    world.silent_name("silent");
    world.remote(addr(V4), Remote::Accepts);
    world.remote(addr(OTHER_V4), Remote::Silent);
    let again = Backoff::new(ms(5000), ms(5000));
    let connected = Dial::from(addr(V4)).reconnect(again);
    let refused = Dial::from(addr(V6)).reconnect(again);
    for dial in [connected, refused] {
        world.dial(dial).unwrap();
    }
    world.dial("silent:80").unwrap();
    world.dial(OTHER_V4).unwrap();
    world.advance(ms(10));
    assert_eq!(world.handler().ends(), 2, "one connected, one refused");
    world.shutdown(ms(50));
    let canceled = world
        .handler()
        .failed
        .iter()
        .filter(|end| end.2.ends_with("canceled"));
    assert_eq!(canceled.count(), 2);
    assert_eq!((world.handler().ends(), world.handler().closed), (4, 1));
}

#[test]
fn random_races_end_exactly_once_each_and_leave_nothing_open() {
    for seed in 0..200_u64 {
        let mut world = World::with_config(seed, Diary::default(), Config::default());
        world.run();
        let mut dice = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut roll = |sides: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice % sides
        };
        let mut dials = 0;
        for _ in 0..6 {
            let mut remotes = Vec::new();
            for text in [V6, V4, OTHER_V6, OTHER_V4] {
                let remote = match roll(6) {
                    0 => Remote::Accepts,
                    1 => Remote::AcceptsAfter(ms(roll(600))),
                    2 => Remote::Refuses,
                    3 => Remote::Fails {
                        errno: libc::ENETUNREACH,
                        after: ms(roll(300)),
                    },
                    4 => Remote::AcceptsAtOnce,
                    _ => Remote::Silent,
                };
                remotes.push((text, remote));
            }
            let dial = host(&mut world, &remotes).timeout(ms(100 + roll(1500)));
            let id = world.dial(dial).unwrap();
            dials += 1;
            world.advance(ms(roll(400)));
            if roll(4) == 0 {
                world.post(move |_, cx| {
                    cx.cancel_dial(id);
                });
            }
        }
        world.advance(ms(3000));
        assert_eq!(world.handler().ends(), dials, "seed {seed}");
        world.shutdown(ms(100));
        let (connected, closed) = (world.handler().connected.len(), world.handler().closed);
        assert_eq!(connected, closed, "seed {seed}");
    }
}

#[test]
fn an_attempt_that_fails_makes_room_for_a_client_that_waits() {
    let mut world = world_with(|config| config.max_connections = Some(1));
    let listening = world.listen("127.0.0.1:7");
    let after = ms(50);
    let errno = libc::ECONNREFUSED;
    world.remote(addr(V4), Remote::Fails { errno, after });
    world.dial(V4).unwrap();
    world.advance(ms(1));
    let client = world.connect(listening);
    world.advance(ms(10));
    assert_eq!(world.stats().accepted, 0, "the attempt has the only place");
    world.advance(ms(60));
    assert_eq!(world.stats().accepted, 1, "and has given it back");
    assert!(!world.was_reset(client));
}

#[test]
fn a_descriptor_that_an_attempt_gives_back_serves_a_client_at_once() {
    let mut world = world_with(|config| {
        // The timer is out of the question.
        config.accept_backoff_min = Duration::from_secs(3600);
        config.accept_backoff_max = Duration::from_secs(3600);
    });
    let listening = world.listen("127.0.0.1:7");
    world.remote(addr(V4), Remote::Silent);
    let id = world.dial(V4).unwrap();
    world.advance(ms(1));
    let open = world.open_descriptors() as u64;
    world.faults().descriptor_limit(open);
    world.connect(listening);
    world.advance(ms(10));
    assert_eq!((world.stats().accepted, world.stats().backoffs), (0, 1));
    world.post(move |_, cx| assert!(cx.cancel_dial(id)));
    world.advance(ms(10));
    assert_eq!(world.stats().accepted, 1);
}

#[test]
fn a_connection_that_cannot_be_registered_does_not_blame_connect() {
    let mut world = world();
    world.remote(addr(V4), Remote::Accepts);
    world.faults().fail(Call::Register, libc::ENOSPC, 1);
    world.dial(V4).unwrap();
    world.run();
    let (_, _, text, errno, _) = &world.handler().failed[0];
    assert_eq!(text, &format!("dial tcp {V4}: no space left on device"));
    assert_eq!(*errno, Some(libc::ENOSPC));
    assert_eq!((world.handler().ends(), world.open_descriptors()), (1, 0));
}
