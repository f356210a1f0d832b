//! Datagram sockets in simulated worlds: every errno, what is tried again and when, budgets,
//! limits of time and of memory, ends, and random traffic with random faults.
//!
//! What the simulated network itself does to datagrams is tested in `sim_packets.rs`.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use util::Rng;
use windlass::sim::{Call, PacketClient, World};
use windlass::{
    Addr, Bind, Config, Conn, Context, Datagram, Deadline, Delivery, DropPolicy, Error, Handler,
    Input, ListenerId, PanicPolicy, Socket, SocketId,
};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The wheel's tick and the poll's: how late anything may happen.
const LATEST: Duration = ms(2);

/// What a queue counts for each datagram beside its bytes.
const OVERHEAD: usize = 64;

/// First and longest wait before something is tried again that nobody announces.
const RETRY: (Duration, Duration) = (ms(1), ms(50));

/// Errors in a row after which a socket rests.
const ERRORS_IN_A_ROW: u64 = 64;

type Hear = fn(&mut Socket<'_>, &Datagram<'_>);

/// Writes everything down with its time, and does with datagrams what the test says.
struct App {
    hear: Hear,
    came: Vec<(Instant, SocketId, Vec<u8>)>,
    truncated: usize,
    errors: Vec<(Instant, SocketId, String, Option<i32>)>,
    timeouts: Vec<(Instant, Deadline)>,
    writable: Vec<Instant>,
    /// How many datagrams had come when bytes came over TCP.
    reads: Vec<usize>,
    on_error: fn(&mut Context<'_>, SocketId),
    on_timeout: fn(&mut Socket<'_>, Deadline),
    on_writable: fn(&mut Socket<'_>),
}

impl Default for App {
    fn default() -> Self {
        Self {
            hear: |_, _| {},
            came: Vec::new(),
            truncated: 0,
            errors: Vec::new(),
            timeouts: Vec::new(),
            writable: Vec::new(),
            reads: Vec::new(),
            on_error: |_, _| {},
            on_timeout: |_, _| {},
            on_writable: |_| {},
        }
    }
}

impl Handler for App {
    type Session = ();

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        Ok(())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        _: &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        self.reads.push(self.came.len());
        conn.write(input.take_all());
        Ok(())
    }

    fn on_datagram(&mut self, socket: &mut Socket<'_>, datagram: &Datagram<'_>) {
        self.came
            .push((socket.now(), socket.id(), datagram.to_vec()));
        self.truncated += usize::from(datagram.is_truncated());
        (self.hear)(socket, datagram);
    }

    fn on_socket_error(&mut self, cx: &mut Context<'_>, socket: SocketId, error: &Error) {
        let errno = error.raw_os_error();
        self.errors
            .push((cx.now(), socket, error.to_string(), errno));
        (self.on_error)(cx, socket);
    }

    fn on_socket_timeout(&mut self, socket: &mut Socket<'_>, which: Deadline) {
        self.timeouts.push((socket.now(), which));
        (self.on_timeout)(socket, which);
    }

    fn on_socket_writable(&mut self, socket: &mut Socket<'_>) {
        self.writable.push(socket.now());
        (self.on_writable)(socket);
    }
}

fn echo(socket: &mut Socket<'_>, datagram: &Datagram<'_>) {
    socket.send_to(datagram.bytes(), datagram.from());
}

fn world() -> World<App> {
    world_with(|_| {})
}

fn world_with(change: impl FnOnce(&mut Config)) -> World<App> {
    let mut config = Config::default();
    config.panic_policy = PanicPolicy::Propagate;
    change(&mut config);
    let mut world = World::with_config(7, App::default(), config);
    world.run();
    world
}

fn far(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 9], port))
}

/// A client somewhere else, and its address.
fn client(world: &mut World<App>) -> (PacketClient, Addr) {
    let client = world.packet_client(far(0));
    let addr = world.packet_addr(client);
    (client, addr)
}

/// A socket that is not connected, and its address.
fn bound(world: &mut World<App>) -> (SocketId, Addr) {
    let socket = world.try_bind("udp://127.0.0.1:7").unwrap();
    let addr = world.socket(socket).unwrap().local_addr().unwrap();
    world.run();
    (socket, addr)
}

/// A socket that is connected to a client, and both their addresses.
fn connected(world: &mut World<App>) -> (SocketId, PacketClient, Addr, Addr) {
    let (client, to) = client(world);
    let bind = Bind::connect(to.as_socket_addr().unwrap()).unwrap();
    let socket = world.try_bind(bind).unwrap();
    let own = world.socket(socket).unwrap().local_addr().unwrap();
    world.run();
    (socket, client, own, to)
}

fn unix(name: &str) -> Addr {
    Addr::from_unix_path(format!("/run/{name}")).unwrap()
}

fn view(world: &mut World<App>, socket: SocketId) -> Socket<'_> {
    world.socket(socket).unwrap()
}

#[track_caller]
fn send(world: &mut World<App>, socket: SocketId, bytes: &[u8], to: &Addr) {
    let sent = view(world, socket).send_to(bytes, to.clone());
    assert_eq!(sent, Delivery::Queued);
}

fn came(world: &World<App>) -> Vec<&[u8]> {
    let came = &world.handler().came;
    came.iter().map(|(_, _, bytes)| bytes.as_slice()).collect()
}

fn errnos(world: &World<App>) -> Vec<Option<i32>> {
    let errors = &world.handler().errors;
    errors.iter().map(|(_, _, _, errno)| *errno).collect()
}

fn texts(world: &World<App>) -> Vec<&str> {
    let errors = &world.handler().errors;
    errors.iter().map(|(_, _, text, _)| text.as_str()).collect()
}

/// What a client has received since this was last asked.
fn received(world: &mut World<App>, client: PacketClient) -> Vec<Vec<u8>> {
    let received = world.received_datagrams(client);
    received.into_iter().map(|(_, bytes)| bytes).collect()
}

fn words_of(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    let (words, _) = text.split_once(" (os error").unwrap();
    words.to_lowercase()
}

/// Nothing is buffered, and everything is given back when it ends.
#[track_caller]
fn assert_ends_clean(mut world: World<App>) {
    assert_eq!(world.stats().buffered, 0);
    world.shutdown(Duration::from_secs(1));
}

// Every errno.

/// What may be said of something that was sent earlier, or of the network.
const PASSING: [i32; 22] = [
    libc::ECONNREFUSED,
    libc::ECONNRESET,
    libc::ECONNABORTED,
    libc::EHOSTUNREACH,
    libc::EHOSTDOWN,
    libc::ENETUNREACH,
    libc::ENETDOWN,
    libc::EMSGSIZE,
    libc::EPROTO,
    libc::ENOPROTOOPT,
    libc::EOPNOTSUPP,
    libc::EPERM,
    libc::EACCES,
    libc::EINVAL,
    libc::EIO,
    libc::EPIPE,
    libc::ENOTCONN,
    libc::ETIMEDOUT,
    libc::EADDRNOTAVAIL,
    libc::EDESTADDRREQ,
    libc::ENOENT,
    libc::ENODEV,
];

/// Short of memory.
const SHORT: [i32; 2] = [libc::ENOBUFS, libc::ENOMEM];

/// What only a descriptor that is no socket answers.
const ENDING: [i32; 4] = [libc::EBADF, libc::ENOTSOCK, libc::EFAULT, libc::ENOSYS];

#[test]
fn an_error_of_receiving_is_an_event_and_what_waits_is_heard() {
    for errno in PASSING.into_iter().chain(SHORT) {
        let mut world = world();
        let (socket, addr) = bound(&mut world);
        let (peer, _) = client(&mut world);
        world.faults().fail(Call::Receive, errno, 1);
        world.send_datagram(peer, &addr, b"after");
        world.run();
        assert_eq!(came(&world), [b"after"], "errno {errno}");
        let says = format!("read udp {addr}: recvfrom: {}", words_of(errno));
        assert_eq!(texts(&world), [says]);
        assert_eq!(view(&mut world, socket).stats().errors, 1);
        assert_ends_clean(world);
    }
}

#[test]
fn an_error_of_sending_loses_that_datagram_and_is_told() {
    for errno in PASSING {
        if errno == libc::ECONNREFUSED {
            continue;
        }
        let mut world = world();
        let (socket, addr) = bound(&mut world);
        let (peer, to) = client(&mut world);
        world.faults().fail(Call::Send, errno, 1);
        send(&mut world, socket, b"lost", &to);
        send(&mut world, socket, b"next", &to);
        world.run();
        assert_eq!(received(&mut world, peer), [b"next"], "errno {errno}");
        let says = format!("write udp {addr}->{to}: sendto: {}", words_of(errno));
        assert_eq!(texts(&world), [says]);
        let stats = view(&mut world, socket).stats();
        assert_eq!((stats.sent, stats.dropped, stats.errors), (1, 1, 1));
        assert_eq!(world.stats().datagrams_dropped, 1);
        assert_ends_clean(world);
    }
}

#[test]
fn the_same_is_true_of_a_connected_socket() {
    for errno in PASSING {
        let mut world = world();
        let (socket, peer, own, to) = connected(&mut world);
        let mut calls = |call, says: String| {
            world.handler_mut().errors.clear();
            world.faults().fail(call, errno, 1);
            view(&mut world, socket).send(b"first");
            view(&mut world, socket).send(b"second");
            world.send_datagram(peer, &own, b"heard");
            world.run();
            assert_eq!(texts(&world), [says]);
            received(&mut world, peer)
        };
        let words = words_of(errno);
        let reached = calls(Call::Send, format!("write udp {own}->{to}: write: {words}"));
        // That nobody was there is about an earlier one.
        let expected: &[&[u8]] = match errno {
            libc::ECONNREFUSED => &[b"first", b"second"],
            _ => &[b"second"],
        };
        assert_eq!(reached, expected, "errno {errno}");
        let reached = calls(
            Call::Receive,
            format!("read udp {own}->{to}: read: {words}"),
        );
        assert_eq!(reached, [&b"first"[..], b"second"], "errno {errno}");
        assert_eq!(came(&world), [b"heard", b"heard"]);
        assert_ends_clean(world);
    }
}

#[test]
fn a_signal_is_nothing() {
    let mut world = world();
    world.handler_mut().hear = echo;
    let (_, addr) = bound(&mut world);
    let (peer, _) = client(&mut world);
    for call in [Call::Receive, Call::Send, Call::Poll] {
        world.faults().fail(call, libc::EINTR, 5);
    }
    world.send_datagram(peer, &addr, b"x");
    world.run();
    assert_eq!(received(&mut world, peer), [b"x"]);
    assert!(texts(&world).is_empty());
    assert_eq!(world.faults().pending(), 0);
}

#[test]
fn what_is_no_socket_any_more_is_told_and_ends() {
    for errno in ENDING {
        for call in [Call::Receive, Call::Send] {
            let mut world = world();
            let (socket, addr) = bound(&mut world);
            let (other, ..) = connected(&mut world);
            let (peer, to) = client(&mut world);
            world.faults().fail(call, errno, 1);
            world.handler_mut().on_error = |cx, socket| assert!(cx.socket(socket).is_none());
            send(&mut world, socket, b"waits", &to);
            world.send_datagram(peer, &addr, b"waits as well");
            world.run();
            assert!(world.socket(socket).is_none());
            assert_eq!(errnos(&world), [Some(errno)], "{call:?}");
            // Its address is free, and nobody else was harmed.
            assert!(world.socket(other).is_some());
            world.handler_mut().came.clear();
            bound(&mut world);
            world.send_datagram(peer, &addr, b"hello again");
            world.run();
            assert_eq!(came(&world), [b"hello again"]);
            assert_ends_clean(world);
        }
    }
}

#[test]
fn an_end_is_told_once_whatever_else_went_wrong_in_that_turn() {
    for call in [Call::Receive, Call::Send] {
        let mut world = world();
        let (socket, addr) = bound(&mut world);
        let (peer, to) = client(&mut world);
        world.faults().fail(call, libc::EHOSTUNREACH, 3);
        world.faults().fail(call, libc::EBADF, 1);
        for _ in 0..5 {
            send(&mut world, socket, b"waits", &to);
            world.send_datagram(peer, &addr, b"waits as well");
        }
        world.run();
        assert!(world.socket(socket).is_none());
        assert_eq!(errnos(&world), [Some(libc::EBADF)], "{call:?}");
        assert_ends_clean(world);
    }
}

// What is tried again.

/// The waits before the first tries, each twice as long as the one before.
fn waits() -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(RETRY.0), |it| Some((*it * 2).min(RETRY.1)))
}

// Go 23, TestWriteToTimeout: adapted, the loop does what Go's test does by hand.
#[test]
fn a_shortage_is_waited_out_with_a_wait_that_doubles() {
    for errno in SHORT {
        for is_connected in [false, true] {
            const FAILURES: usize = 9;
            let mut world = world();
            let (socket, peer, _, to) = if is_connected {
                connected(&mut world)
            } else {
                let (peer, to) = client(&mut world);
                let (socket, own) = bound(&mut world);
                (socket, peer, own, to)
            };
            world.clear_calls();
            world.faults().fail(Call::Send, errno, FAILURES);
            let mut socket_view = view(&mut world, socket);
            let sent = if is_connected {
                socket_view.send(b"patient")
            } else {
                socket_view.send_to(b"patient", to)
            };
            assert_eq!(sent, Delivery::Queued);
            for (failed, wait) in (1..=FAILURES as u64).zip(waits()) {
                world.run();
                assert_eq!(world.calls(Call::Send), failed, "no earlier");
                world.advance(wait - ms(1));
                assert_eq!(world.calls(Call::Send), failed, "after {wait:?}");
                world.advance(ms(1));
            }
            assert_eq!(received(&mut world, peer), [b"patient"]);
            assert!(texts(&world).is_empty(), "nobody is told");
            // The next shortage begins with the shortest wait.
            world.faults().fail(Call::Send, errno, 1);
            let mut socket_view = view(&mut world, socket);
            if is_connected {
                socket_view.send(b"again");
            } else {
                socket_view.send_to(b"again", far(49152));
            }
            world.run();
            world.advance(RETRY.0);
            assert_eq!(received(&mut world, peer).len(), 1);
            assert_ends_clean(world);
        }
    }
}

#[test]
fn error_after_error_rests_and_what_waits_is_heard_in_the_end() {
    const ERRORS: usize = 1000;
    let mut world = world();
    let (socket, addr) = bound(&mut world);
    let (peer, _) = client(&mut world);
    world.clear_calls();
    world
        .faults()
        .fail(Call::Receive, libc::EHOSTUNREACH, ERRORS);
    world.send_datagram(peer, &addr, b"first");
    let before = world.stats().turns;
    world.run();
    assert_eq!(world.calls(Call::Receive), ERRORS_IN_A_ROW);
    assert!(world.stats().turns - before < 10);
    assert_eq!(errnos(&world).len(), 1, "told once a turn");
    // While it rests, no report wakes it.
    for _ in 0..5 {
        world.send_datagram(peer, &addr, b"next");
        world.faults().spurious();
        world.run();
        assert_eq!(world.calls(Call::Receive), ERRORS_IN_A_ROW);
    }
    let rests = ERRORS.div_ceil(ERRORS_IN_A_ROW as usize);
    let longest: Duration = waits().take(rests).sum();
    world.advance(longest);
    assert_eq!(came(&world).len(), 6);
    assert_eq!(view(&mut world, socket).stats().errors, ERRORS as u64);
    assert!(world.stats().turns - before < 10 * rests as u64 + 20);
    // From then on it hears at once.
    world.send_datagram(peer, &addr, b"last");
    world.run();
    assert_eq!(came(&world).len(), 7);
    assert_ends_clean(world);
}

#[test]
fn errors_now_and_then_are_no_reason_to_rest() {
    let mut world = world();
    let (_, addr) = bound(&mut world);
    let (peer, _) = client(&mut world);
    for n in 0..5 * ERRORS_IN_A_ROW {
        world.faults().fail(Call::Receive, libc::EHOSTUNREACH, 1);
        world.faults().spurious();
        world.run();
        assert_eq!(errnos(&world).len() as u64, n + 1);
    }
    world.send_datagram(peer, &addr, b"at once");
    world.run();
    assert_eq!(came(&world), [b"at once"]);
}

#[test]
fn whoever_is_refused_again_and_again_rests_as_well() {
    const ERRORS: usize = 10_000;
    let mut world = world();
    let (socket, peer, ..) = connected(&mut world);
    world.clear_calls();
    world.faults().fail(Call::Send, libc::ECONNREFUSED, ERRORS);
    view(&mut world, socket).send(b"stubborn");
    world.run();
    assert!(world.calls(Call::Send) <= ERRORS_IN_A_ROW);
    assert!(errnos(&world).len() <= 4, "told once a turn");
    world.advance(ms(100));
    assert!(world.calls(Call::Send) <= 10 * ERRORS_IN_A_ROW);
    world.faults().clear();
    world.advance(RETRY.1);
    assert_eq!(received(&mut world, peer), [b"stubborn"]);
    assert_ends_clean(world);
}

#[test]
fn eagain_waits_for_a_report_and_for_nothing_else() {
    let mut world = world();
    let (socket, _) = bound(&mut world);
    let (peer, to) = client(&mut world);
    world.faults().send_buffers_full(true);
    world.clear_calls();
    for n in 0..200u8 {
        send(&mut world, socket, &[n], &to);
        world.run();
    }
    world.advance(Duration::from_secs(20));
    assert_eq!(world.calls(Call::Send), 1, "it asked once");
    assert_eq!(view(&mut world, socket).queued(), 200 * (OVERHEAD + 1));
    world.faults().send_buffers_full(false);
    world.run();
    let expected: Vec<Vec<u8>> = (0..200).map(|n| vec![n]).collect();
    assert_eq!(received(&mut world, peer), expected);
    // EAGAIN out of the blue is followed by a report, as a kernel owes one.
    world.faults().fail(Call::Send, libc::EAGAIN, 3);
    world.faults().fail(Call::Receive, libc::EAGAIN, 3);
    send(&mut world, socket, b"x", &to);
    world.run();
    assert_eq!(received(&mut world, peer), [b"x"]);
    assert_ends_clean(world);
}

#[test]
fn room_that_is_gone_before_anybody_looks_comes_again() {
    let mut world = world();
    let (socket, _) = bound(&mut world);
    let (peer, to) = client(&mut world);
    world.faults().send_buffers_full(true);
    send(&mut world, socket, b"x", &to);
    world.run();
    world.faults().send_buffers_full(false);
    world.faults().send_buffers_full(true);
    world.run();
    world.faults().send_buffers_full(false);
    world.run();
    assert_eq!(received(&mut world, peer), [b"x"]);
    assert_ends_clean(world);
}

// Unix receivers.

/// A Unix socket of the loop, and two clients of which the first does not receive.
fn stuck_and_lively(world: &mut World<App>) -> (SocketId, [PacketClient; 2]) {
    let socket = world.try_bind("unixgram:///run/ours").unwrap();
    let stuck = world.unix_packet_client("/run/stuck");
    let lively = world.unix_packet_client("/run/lively");
    world.stop_receiving(stuck);
    world.run();
    (socket, [stuck, lively])
}

#[test]
fn a_full_unix_receiver_holds_up_nobody_else_at_any_time() {
    let mut world = world();
    let (socket, [stuck, lively]) = stuck_and_lively(&mut world);
    for n in 0..40u8 {
        send(&mut world, socket, &[n], &unix("stuck"));
    }
    world.run();
    // Whenever something is sent to somebody else, it leaves in that very moment.
    for n in 0..100u8 {
        let before = world.now();
        send(&mut world, socket, &[n], &unix("lively"));
        world.run();
        assert_eq!(world.now(), before);
        assert_eq!(received(&mut world, lively), [[n]]);
        world.advance(ms(7));
    }
    // And each of them keeps its order.
    world.resume_receiving(stuck);
    world.advance(RETRY.1);
    let expected: Vec<Vec<u8>> = (0..40).map(|n| vec![n]).collect();
    assert_eq!(received(&mut world, stuck), expected);
    assert_ends_clean(world);
}

#[test]
fn a_full_unix_receiver_is_tried_again_with_a_wait_that_doubles() {
    let mut world = world();
    let (socket, [stuck, _]) = stuck_and_lively(&mut world);
    for n in 0..11u8 {
        send(&mut world, socket, &[n], &unix("stuck"));
    }
    world.run();
    world.clear_calls();
    let mut tries = 0;
    for wait in waits().take(10) {
        world.advance(wait - ms(1));
        assert_eq!(world.calls(Call::Send), tries, "no earlier");
        world.advance(ms(1));
        tries += 1;
        assert_eq!(world.calls(Call::Send), tries, "after {wait:?}");
    }
    world.resume_receiving(stuck);
    world.advance(RETRY.1);
    assert_eq!(received(&mut world, stuck).len(), 11);
    assert!(texts(&world).is_empty());
    assert_ends_clean(world);
}

#[test]
fn whoever_is_connected_to_a_full_unix_receiver_hears_of_room() {
    let mut world = world();
    let stuck = world.unix_packet_client("/run/stuck");
    world.stop_receiving(stuck);
    let bind = Bind::connect("unixgram:///run/stuck").unwrap();
    let socket = world.try_bind(bind).unwrap();
    for n in 0..40u8 {
        view(&mut world, socket).send(&[n]);
    }
    world.run();
    world.clear_calls();
    world.advance(Duration::from_secs(20));
    assert_eq!(world.calls(Call::Send), 0);
    let before = world.now();
    world.resume_receiving(stuck);
    world.run();
    assert_eq!(world.now(), before, "at once");
    let expected: Vec<Vec<u8>> = (0..40).map(|n| vec![n]).collect();
    assert_eq!(received(&mut world, stuck), expected);
    assert_ends_clean(world);
}

#[test]
fn a_unix_receiver_that_is_gone_costs_only_what_was_for_it() {
    let mut world = world();
    let (socket, [stuck, lively]) = stuck_and_lively(&mut world);
    for n in 0..20u8 {
        send(&mut world, socket, &[n], &unix("stuck"));
        send(&mut world, socket, &[n], &unix("lively"));
    }
    world.run();
    world.close_packet_client(stuck);
    world.advance(RETRY.1);
    assert_eq!(received(&mut world, lively).len(), 20);
    let stats = view(&mut world, socket).stats();
    assert_eq!((stats.sent, stats.dropped, stats.errors), (30, 10, 10));
    assert_eq!(errnos(&world), [Some(libc::ECONNREFUSED)]);
    world.remove_file("/run/lively");
    send(&mut world, socket, b"x", &unix("lively"));
    world.run();
    assert_eq!(errnos(&world).last(), Some(&Some(libc::ENOENT)));
    assert_ends_clean(world);
}

// Budgets.

#[test]
fn a_flood_on_one_socket_starves_nobody() {
    const FLOOD: usize = 5000;
    const BUDGET: usize = 64;
    let mut world = world_with(|config| config.datagram_budget = BUDGET);
    let flooded = Bind::new("udp://127.0.0.1:7").unwrap();
    let flooded = flooded.receive_buffer(1 << 20);
    let addr = world.bind(flooded);
    let other = world.try_bind("udp://127.0.0.1:8").unwrap();
    let quiet = view(&mut world, other).local_addr().unwrap();
    let tcp = world.listen("127.0.0.1:9");
    let conn = world.connect(tcp);
    world.run();
    let (peer, _) = client(&mut world);
    for n in 0..FLOOD {
        world.send_datagram(peer, &addr, &n.to_be_bytes());
    }
    world.send_datagram(peer, &quiet, b"quiet");
    world.send(conn, b"bytes");
    let before = world.stats().turns;
    world.run();
    let app = world.handler();
    assert_eq!(app.came.len(), FLOOD + 1);
    let most = 2 * BUDGET;
    let heard = app.came.iter().position(|it| it.1 == other).unwrap();
    assert!(heard <= most, "behind {heard} of the flood");
    assert!(app.reads[0] <= most, "behind {} of the flood", app.reads[0]);
    let turns = (world.stats().turns - before) as usize;
    assert!(turns >= FLOOD / BUDGET, "{turns} turns");
    assert_eq!(world.received(conn), b"bytes");
}

#[test]
fn no_turn_brings_more_than_the_budget_and_one_call() {
    for (budget, batch) in [(1, 32), (10, 4), (64, 32), (5, 1)] {
        let mut world = world_with(|config| {
            config.datagram_budget = budget;
            config.datagram_batch = batch;
        });
        let (_, addr) = bound(&mut world);
        let (peer, _) = client(&mut world);
        for n in 0..200u8 {
            world.send_datagram(peer, &addr, &[n]);
        }
        let before = world.stats().turns;
        world.run();
        let turns = (world.stats().turns - before) as usize;
        assert_eq!(came(&world).len(), 200);
        let most = budget + batch.min(budget) - 1;
        assert!(turns >= 200 / most, "{budget} {batch}: {turns} turns");
    }
}

/// Two sockets of one loop that answer each other for ever.
#[test]
fn an_endless_conversation_leaves_the_others_their_turn() {
    const ENOUGH: usize = 20_000;
    let mut world = world();
    let (one, addr) = bound(&mut world);
    let other = world.try_bind("udp://127.0.0.1:8").unwrap();
    let tcp = world.listen("127.0.0.1:9");
    let conn = world.connect(tcp);
    world.run();
    world.handler_mut().hear = |socket, datagram| {
        let n = usize::from_be_bytes(datagram.bytes().try_into().unwrap());
        if n < ENOUGH {
            socket.send_to(&(n + 1).to_be_bytes(), datagram.from());
        }
    };
    send(&mut world, other, &0_usize.to_be_bytes(), &addr);
    world.send(conn, b"bytes");
    world.run();
    let app = world.handler();
    assert_eq!(app.came.len(), ENOUGH + 1);
    assert!(app.reads[0] < 1000, "{}", app.reads[0]);
    assert!(app.came.iter().any(|it| it.1 == one));
}

/// What is to be sent has a budget as well: a socket that fills its queue again and again.
#[test]
fn a_socket_that_never_stops_sending_leaves_the_others_their_turn() {
    let mut world = world_with(|config| config.datagram_queue = 64 << 20);
    let tcp = world.listen("127.0.0.1:9");
    let conn = world.connect(tcp);
    for unixgram in [false, true] {
        let (socket, to) = if unixgram {
            world.unix_packet_client("/run/sink");
            let socket = world.try_bind("unixgram:///run/ours").unwrap();
            (socket, unix("sink"))
        } else {
            let (_, to) = client(&mut world);
            (bound(&mut world).0, to)
        };
        world.faults().short_batches(Some(1));
        world.run();
        for _ in 0..20_000 {
            send(&mut world, socket, b"x", &to);
        }
        world.handler_mut().reads.clear();
        let before = world.stats().turns;
        world.run();
        let turns = world.stats().turns - before;
        assert_eq!(view(&mut world, socket).stats().sent, 20_000);
        assert!(turns > 20, "{turns} turns for all, unixgram {unixgram}");
    }
    world.send(conn, b"bytes");
    world.run();
    assert_eq!(world.received(conn), b"bytes");
}

// The network.

#[test]
fn the_network_does_to_datagrams_what_it_does_and_the_loop_nothing() {
    const SENT: usize = 300;
    let run = |loss, duplicates, disorder| {
        let mut world = world();
        let (_, addr) = bound(&mut world);
        let (peer, _) = client(&mut world);
        let faults = world.faults().loss(loss).duplicates(duplicates);
        faults.reordering(disorder).latency(ms(3));
        for n in 0..SENT {
            world.send_datagram(peer, &addr, &n.to_be_bytes());
        }
        world.run();
        assert!(texts(&world).is_empty());
        let numbers = came(&world)
            .into_iter()
            .map(|bytes| usize::from_be_bytes(bytes.try_into().unwrap()));
        let numbers: Vec<usize> = numbers.collect();
        assert_ends_clean(world);
        numbers
    };
    let all: Vec<usize> = (0..SENT).collect();
    assert_eq!(run(0, 0, Duration::ZERO), all);
    assert_eq!(run(1, 0, Duration::ZERO), []);

    let lost = run(4, 0, Duration::ZERO);
    assert!(lost.is_sorted_by(|a, b| a < b), "in order, each once");
    assert!((SENT / 2..SENT).contains(&lost.len()));

    let mut twice = run(0, 1, Duration::ZERO);
    assert!(twice.is_sorted() && twice.len() == 2 * SENT);
    twice.dedup();
    assert_eq!(twice, all);

    let mut mixed = run(0, 0, ms(20));
    assert!(!mixed.is_sorted());
    mixed.sort_unstable();
    assert_eq!(mixed, all);
}

#[test]
fn what_does_not_fit_the_kernels_buffer_is_nobodys_business() {
    let mut world = world();
    let bind = Bind::new("udp://127.0.0.1:7").unwrap().receive_buffer(100);
    let socket = world.try_bind(bind).unwrap();
    let addr = view(&mut world, socket).local_addr().unwrap();
    view(&mut world, socket).pause();
    world.run();
    let (peer, _) = client(&mut world);
    for n in 0..30u8 {
        world.send_datagram(peer, &addr, &[n; 10]);
    }
    world.run();
    view(&mut world, socket).resume();
    world.run();
    let expected: Vec<[u8; 10]> = (0..10).map(|n| [n; 10]).collect();
    assert_eq!(came(&world), expected);
    assert_eq!(view(&mut world, socket).stats().received, 10);
    assert_ends_clean(world);
}

#[test]
fn whatever_cut_a_socket_short_it_is_never_forgotten() {
    for budget in [1, 2, 7, 256] {
        for batch in [1, 3, 32] {
            for most in [None, Some(1), Some(5)] {
                let mut world = world_with(|config| {
                    config.datagram_budget = budget;
                    config.datagram_batch = batch;
                });
                world.handler_mut().hear = echo;
                world.faults().short_batches(most).events_per_poll(1);
                let (_, addr) = bound(&mut world);
                let (peer, _) = client(&mut world);
                let sent: Vec<Vec<u8>> = (0..100).map(|n| vec![n]).collect();
                for bytes in &sent {
                    world.send_datagram(peer, &addr, bytes);
                }
                world.run();
                assert_eq!(received(&mut world, peer), sent);
                assert_ends_clean(world);
            }
        }
    }
}

// The queue and its limits.

#[test]
fn a_queue_is_bounded_and_room_is_told_whoever_made_it() {
    // Room comes from the kernel, or because those who waited were given up.
    for given_up in [false, true] {
        let mut world = world_with(|config| {
            config.write_stall_timeout = Duration::from_secs(5);
        });
        let (peer, to) = client(&mut world);
        let bind = Bind::new("udp://127.0.0.1:7").unwrap();
        let bind = bind.queue_limit(10 * (OVERHEAD + 1));
        let socket = world.try_bind(bind).unwrap();
        world.faults().send_buffers_full(true);
        world.run();
        let sent: Vec<Delivery> = (0..12)
            .map(|n| view(&mut world, socket).send_to(&[n], to.clone()))
            .collect();
        assert!(sent[..10].iter().all(|it| *it == Delivery::Queued));
        assert!(sent[10..].iter().all(|it| *it == Delivery::Dropped));
        world.run();
        assert_eq!(view(&mut world, socket).queued(), 10 * (OVERHEAD + 1));
        assert!(world.handler().writable.is_empty());
        let before = world.now();
        let told = if given_up {
            world.advance(Duration::from_secs(5));
            before + Duration::from_secs(5)
        } else {
            world.faults().send_buffers_full(false);
            before
        };
        world.run();
        assert_eq!(world.handler().writable, [told]);
        let reached = received(&mut world, peer);
        assert_eq!(reached.len(), if given_up { 0 } else { 10 });
        let stats = view(&mut world, socket).stats();
        assert_eq!(stats.sent + stats.dropped, 12);
        assert_ends_clean(world);
    }
}

#[test]
fn the_oldest_make_room_where_that_was_asked_for() {
    let mut world = world();
    let (peer, to) = client(&mut world);
    let bind = Bind::new("udp://127.0.0.1:7").unwrap();
    let bind = bind
        .queue_limit(5 * (OVERHEAD + 1))
        .drop_policy(DropPolicy::Oldest);
    let socket = world.try_bind(bind).unwrap();
    world.faults().send_buffers_full(true);
    for n in 0..20 {
        send(&mut world, socket, &[n], &to);
        world.run();
    }
    assert_eq!(view(&mut world, socket).stats().dropped, 15);
    world.faults().send_buffers_full(false);
    world.run();
    let expected: Vec<Vec<u8>> = (15..20).map(|n| vec![n]).collect();
    assert_eq!(received(&mut world, peer), expected);
    assert_ends_clean(world);
}

/// It is refused with a word, costs nobody else anything, and there is never room for it.
#[test]
fn a_datagram_longer_than_the_queue_is_an_error_of_its_own() {
    for policy in [DropPolicy::Newest, DropPolicy::Oldest] {
        let mut world = world();
        let (peer, to) = client(&mut world);
        let bind = Bind::new("udp://127.0.0.1:7").unwrap();
        let bind = bind.queue_limit(500).drop_policy(policy);
        let socket = world.try_bind(bind).unwrap();
        let own = view(&mut world, socket).local_addr().unwrap();
        world.faults().send_buffers_full(true);
        send(&mut world, socket, b"waits", &to);
        world.run();
        let sent = view(&mut world, socket).send_to(&[0; 500], to.clone());
        assert_eq!(sent, Delivery::Dropped);
        world.run();
        let says = format!("write udp {own}->{to}: a datagram longer than the socket's queue");
        assert_eq!(texts(&world), [says]);
        world.faults().send_buffers_full(false);
        world.run();
        assert_eq!(received(&mut world, peer), [b"waits"], "{policy:?}");
        assert!(world.handler().writable.is_empty(), "there is none");
        assert_ends_clean(world);
    }
}

#[test]
fn a_datagram_that_nobody_takes_is_given_up_to_the_millisecond() {
    const STALL: Duration = ms(5_000);
    for is_connected in [false, true] {
        let mut world = world_with(|config| config.write_stall_timeout = STALL);
        let (socket, peer, own, to) = if is_connected {
            connected(&mut world)
        } else {
            let (socket, own) = bound(&mut world);
            let (peer, to) = client(&mut world);
            (socket, peer, own, to)
        };
        world.faults().send_buffers_full(true);
        let put = |world: &mut World<App>, bytes: &[u8]| {
            let mut view = view(world, socket);
            if is_connected {
                view.send(bytes);
            } else {
                view.send_to(bytes, to.clone());
            }
            world.run();
        };
        let began = world.now();
        put(&mut world, b"first");
        world.advance(ms(1_000));
        put(&mut world, b"second");
        world.advance(STALL - ms(1_001));
        assert_eq!(view(&mut world, socket).stats().dropped, 0);
        world.advance(ms(1));
        assert_eq!(view(&mut world, socket).stats().dropped, 1);
        world.advance(ms(1_000));
        let told: Vec<Duration> = world
            .handler()
            .errors
            .iter()
            .map(|it| it.0 - began)
            .collect();
        assert_eq!(told, [STALL, STALL + ms(1_000)]);
        let says = format!("write udp {own}->{to}: i/o timeout");
        assert_eq!(texts(&world), [says.clone(), says]);
        assert_eq!(world.stats().buffered, 0);
        // As usable as before.
        world.faults().send_buffers_full(false);
        put(&mut world, b"third");
        assert_eq!(received(&mut world, peer), [b"third"]);
        assert_ends_clean(world);
    }
}

#[test]
fn a_unix_receiver_that_never_reads_is_given_up_at_its_time_as_well() {
    const STALL: Duration = ms(5_000);
    let mut world = world_with(|config| config.write_stall_timeout = STALL);
    let (socket, [_, lively]) = stuck_and_lively(&mut world);
    let began = world.now();
    for n in 0..15u8 {
        send(&mut world, socket, &[n], &unix("stuck"));
    }
    world.advance(STALL - ms(1));
    assert_eq!(view(&mut world, socket).stats().dropped, 0);
    world.advance(ms(1));
    assert_eq!(view(&mut world, socket).stats().dropped, 5);
    assert_eq!(world.handler().errors[0].0 - began, STALL);
    assert_eq!(world.stats().buffered, 0);
    send(&mut world, socket, b"x", &unix("lively"));
    world.run();
    assert_eq!(received(&mut world, lively), [b"x"]);
    assert_ends_clean(world);
}

// Deadlines.

#[test]
fn deadlines_fire_once_never_early_and_at_most_two_ticks_late() {
    let offsets = [
        0,
        1,
        999_999,
        1_000_000,
        1_000_001,
        63_999_999,
        4_096_000_001,
        86_400_123_456_789,
    ];
    for nanos in offsets {
        for which in [Deadline::Read, Deadline::Write] {
            let mut world = world_with(|config| config.write_stall_timeout = Duration::MAX);
            let (socket, _) = bound(&mut world);
            let (_, to) = client(&mut world);
            world.faults().send_buffers_full(true);
            send(&mut world, socket, b"waits", &to);
            world.advance(Duration::from_nanos(777_777));
            let after = Duration::from_nanos(nanos);
            let at = world.now() + after;
            match which {
                Deadline::Read => view(&mut world, socket).set_read_deadline(Some(at)),
                _ => view(&mut world, socket).set_write_deadline(Some(at)),
            }
            world.advance(after + ms(5));
            let timeouts = &world.handler().timeouts;
            assert_eq!(timeouts.len(), 1, "{which:?} of {nanos} ns");
            assert_eq!(timeouts[0].1, which);
            let late = timeouts[0].0.checked_duration_since(at);
            let late = late.unwrap_or_else(|| panic!("{which:?} of {nanos} ns fired early"));
            assert!(late <= LATEST, "{which:?} of {nanos} ns was {late:?} late");
        }
    }
}

#[test]
fn deadlines_can_be_moved_and_taken_back() {
    let mut world = world();
    let (socket, _) = bound(&mut world);
    let now = world.now();
    let at = |millis| Some(now + ms(millis));
    view(&mut world, socket).set_deadline(at(100_000));
    world.run();
    view(&mut world, socket).set_deadline(at(5));
    view(&mut world, socket).set_deadline(None);
    world.advance(ms(200_000));
    assert!(world.handler().timeouts.is_empty());
    view(&mut world, socket).set_read_deadline(at(200_100));
    view(&mut world, socket).set_read_deadline(at(200_010));
    world.advance(ms(10) + LATEST);
    assert_eq!(world.handler().timeouts.len(), 1);
    // Moved on in the callback, again and again.
    world.handler_mut().on_timeout = |socket, _| {
        let next = socket.now() + ms(10);
        socket.set_read_deadline(Some(next));
    };
    view(&mut world, socket).set_read_deadline(at(200_010));
    world.advance(ms(100));
    assert_eq!(world.handler().timeouts.len(), 1 + 1 + 10);
}

#[test]
fn a_write_deadline_waits_for_something_to_wait() {
    let mut world = world();
    let (socket, _) = bound(&mut world);
    let (peer, to) = client(&mut world);
    let at = world.now() + ms(50);
    view(&mut world, socket).set_write_deadline(Some(at));
    world.advance(ms(100));
    send(&mut world, socket, b"leaves at once", &to);
    world.advance(ms(100));
    assert!(world.handler().timeouts.is_empty());
    world.faults().send_buffers_full(true);
    let before = world.now();
    send(&mut world, socket, b"waits", &to);
    world.run();
    assert_eq!(world.handler().timeouts, [(before, Deadline::Write)]);
    // What has left in time is no reason, either.
    let at = world.now() + ms(50);
    view(&mut world, socket).set_write_deadline(Some(at));
    world.advance(ms(10));
    world.faults().send_buffers_full(false);
    world.advance(ms(100));
    assert_eq!(world.handler().timeouts.len(), 1);
    assert_eq!(received(&mut world, peer).len(), 2, "none is lost");
}

/// A deadline in the past is due in the next turn, before what waits is heard.
#[test]
fn a_deadline_in_the_past_comes_first_and_keeps_what_waits() {
    let mut world = world();
    let (socket, addr) = bound(&mut world);
    let (peer, _) = client(&mut world);
    world.advance(ms(100));
    world.handler_mut().on_timeout = |socket, _| {
        assert_eq!(socket.stats().received, 0);
    };
    for _ in 0..2 {
        let past = world.now() - ms(10);
        view(&mut world, socket).pause();
        world.send_datagram(peer, &addr, b"waits");
        world.run();
        let mut view = view(&mut world, socket);
        view.set_read_deadline(Some(past));
        view.resume();
    }
    world.run();
    assert_eq!(world.handler().timeouts.len(), 2);
    assert_eq!(came(&world), [b"waits", b"waits"]);
}

// Names.

fn lookup(world: &mut World<App>) -> SocketId {
    let bind = Bind::connect("udp://server.test:5000").unwrap();
    world.try_bind(bind).unwrap()
}

#[test]
fn what_is_sent_during_a_look_up_leaves_when_it_is_over() {
    let mut world = world();
    let server = world.packet_client(far(5000));
    world.name("server.test", [far(0).ip()]);
    world.lookup_delay(ms(700));
    let socket = lookup(&mut world);
    for n in 0..50u8 {
        assert_eq!(view(&mut world, socket).send(&[n]), Delivery::Queued);
    }
    assert_eq!(view(&mut world, socket).local_addr(), None);
    world.advance(ms(699));
    assert!(received(&mut world, server).is_empty());
    assert_eq!(view(&mut world, socket).queued(), 50 * (OVERHEAD + 1));
    world.advance(ms(1));
    assert_eq!(received(&mut world, server).len(), 50);
    let peer = view(&mut world, socket).peer_addr();
    assert_eq!(peer, Some(far(5000).into()));
    assert!(texts(&world).is_empty());
    world.advance(Duration::from_secs(100));
    assert!(world.socket(socket).is_some(), "no deadline is left");
    assert_ends_clean(world);
}

#[test]
fn a_look_up_that_fails_ends_the_socket_with_one_word() {
    let mut world = world();
    world.lookup_delay(ms(700));
    let socket = lookup(&mut world);
    view(&mut world, socket).send(b"to nobody");
    let began = world.now();
    world.advance(ms(1_000));
    assert_eq!(
        texts(&world),
        ["dial udp: lookup server.test: no such host"]
    );
    assert_eq!(world.handler().errors[0].0 - began, ms(700));
    assert!(world.socket(socket).is_none());
    assert_eq!(world.stats().datagrams_dropped, 1);
    assert_ends_clean(world);
}

#[test]
fn a_look_up_without_an_answer_ends_after_the_time_of_a_dial() {
    let mut world = world_with(|config| config.dial_timeout = ms(3_000));
    world.silent_name("server.test");
    let socket = lookup(&mut world);
    view(&mut world, socket).send(b"to nobody");
    let began = world.now();
    world.advance(ms(2_999));
    assert!(world.socket(socket).is_some());
    world.advance(ms(1));
    assert!(world.socket(socket).is_none());
    assert_eq!(world.handler().errors[0].0 - began, ms(3_000));
    assert!(texts(&world)[0].ends_with("server.test:5000: i/o timeout"));
    world.advance(ms(10_000));
    assert_eq!(texts(&world).len(), 1);
    assert_ends_clean(world);
}

#[test]
fn a_socket_that_is_closed_during_its_look_up_is_gone_without_a_word() {
    for answered in [true, false] {
        let mut world = world();
        world.name("server.test", [far(0).ip()]);
        world.lookup_delay(ms(700));
        if !answered {
            world.silent_name("server.test");
        }
        let socket = lookup(&mut world);
        view(&mut world, socket).send(b"to nobody");
        view(&mut world, socket).set_deadline(Some(Instant::now()));
        world.advance(ms(100));
        let timeouts = world.handler().timeouts.len();
        view(&mut world, socket).close();
        world.run();
        assert!(world.socket(socket).is_none());
        assert_eq!(world.open_descriptors(), 0);
        // The next one has its slot perhaps, and not its answer.
        let next = lookup(&mut world);
        world.advance(ms(650));
        assert_eq!(view(&mut world, next).local_addr(), None);
        world.advance(Duration::from_secs(60));
        assert_eq!(world.handler().timeouts.len(), timeouts);
        assert_eq!(world.socket(next).is_some(), answered);
        assert_eq!(texts(&world).len(), usize::from(!answered));
        assert_ends_clean(world);
    }
}

#[test]
fn a_stop_during_a_look_up_does_not_wait_for_it() {
    let mut world = world();
    world.silent_name("server.test");
    let socket = lookup(&mut world);
    view(&mut world, socket).send(b"to nobody");
    let before = world.now();
    world.post(|_, cx| cx.shutdown(Duration::from_secs(60)));
    world.run();
    assert!(world.has_stopped());
    assert_eq!(world.now(), before);
    assert_eq!(world.open_descriptors(), 0);
}

#[test]
fn look_ups_are_bounded() {
    let mut world = world_with(|config| config.max_lookups = 2);
    world.silent_name("server.test");
    lookup(&mut world);
    lookup(&mut world);
    let third = world.try_bind(Bind::connect("udp://server.test:5000").unwrap());
    assert!(third.unwrap_err().to_string().contains("too many look-ups"));
    world.advance(Duration::from_secs(60));
    assert_eq!(texts(&world).len(), 2);
}

#[test]
fn every_failure_to_open_says_where_and_leaves_nothing_behind() {
    let mut world = world();
    let steps = [
        (Call::Socket, libc::EMFILE, "socket"),
        (Call::SetOption, libc::EPERM, "setsockopt"),
        (Call::Bind, libc::EACCES, "bind"),
        (Call::Connect, libc::ENETUNREACH, "connect"),
        (Call::LocalAddr, libc::ENOBUFS, "getsockname"),
        (Call::Register, libc::ENOSPC, ""),
    ];
    for (call, errno, name) in steps {
        world.faults().fail(call, errno, 1);
        let bind = Bind::connect("udp://10.0.0.9:5000").unwrap();
        let error = world
            .try_bind(bind.local_addr(([127, 0, 0, 1], 7)))
            .unwrap_err();
        assert_eq!(error.raw_os_error(), Some(errno), "{call:?}");
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(world.open_descriptors(), 0, "{call:?}");
        assert_eq!(world.faults().pending(), 0, "{call:?}");
    }
    // Behind a look-up it is told.
    world.faults().name("there.test", vec![far(0).ip()]);
    for (call, errno, _) in steps.into_iter().filter(|it| it.0 != Call::Bind) {
        world.handler_mut().errors.clear();
        let bind = Bind::connect("udp://there.test:5000").unwrap();
        let socket = world.try_bind(bind).unwrap();
        view(&mut world, socket).send(b"x");
        world.faults().fail(call, errno, 1);
        world.run();
        assert_eq!(errnos(&world), [Some(errno)], "{call:?}");
        assert!(world.socket(socket).is_none());
        assert_eq!(world.open_descriptors(), 0, "{call:?}");
    }
    assert_ends_clean(world);
}

// Ends.

#[test]
fn a_close_waits_for_what_is_queued_at_most_for_the_linger_time() {
    for room_comes in [true, false] {
        let mut world = world_with(|config| config.linger = ms(5_000));
        let (socket, addr) = bound(&mut world);
        let (peer, to) = client(&mut world);
        world.faults().send_buffers_full(true);
        for n in 0..100u8 {
            send(&mut world, socket, &[n], &to);
        }
        view(&mut world, socket).close();
        world.advance(ms(2_000));
        // It neither hears nor takes more.
        world.send_datagram(peer, &addr, b"too late");
        let at = world.now() + ms(1);
        let mut view = view(&mut world, socket);
        assert_eq!(view.send(b"too late"), Delivery::Closed);
        view.set_deadline(Some(at));
        world.advance(ms(2_999));
        assert!(world.socket(socket).is_some());
        if room_comes {
            world.faults().send_buffers_full(false);
            world.run();
        } else {
            world.advance(ms(1));
        }
        assert!(world.socket(socket).is_none());
        assert_eq!(world.open_descriptors(), 0);
        let reached = if room_comes { 100 } else { 0 };
        assert_eq!(received(&mut world, peer).len(), reached);
        assert_eq!(world.stats().datagrams_dropped, 100 - reached as u64);
        let app = world.handler();
        assert!(app.came.is_empty() && app.errors.is_empty() && app.timeouts.is_empty());
        assert_ends_clean(world);
    }
}

/// Nothing is left to wait for.
#[test]
fn a_closing_socket_whose_datagrams_were_given_up_is_over() {
    let mut world = world_with(|config| {
        config.write_stall_timeout = ms(1_000);
        config.linger = ms(60_000);
    });
    let (socket, _) = bound(&mut world);
    let (_, to) = client(&mut world);
    world.faults().send_buffers_full(true);
    send(&mut world, socket, b"waits", &to);
    view(&mut world, socket).close();
    world.advance(ms(999));
    assert!(world.socket(socket).is_some());
    world.advance(ms(1));
    assert!(world.socket(socket).is_none());
    assert_ends_clean(world);
}

#[test]
fn a_close_waits_for_full_unix_receivers_as_well() {
    let mut world = world();
    let (socket, [stuck, lively]) = stuck_and_lively(&mut world);
    for n in 0..20u8 {
        send(&mut world, socket, &[n], &unix("stuck"));
        send(&mut world, socket, &[n], &unix("lively"));
    }
    view(&mut world, socket).close();
    world.run();
    assert_eq!(received(&mut world, lively).len(), 20);
    world.advance(ms(500));
    world.resume_receiving(stuck);
    world.advance(RETRY.1);
    assert_eq!(received(&mut world, stuck).len(), 20);
    assert!(world.socket(socket).is_none());
    assert_ends_clean(world);
}

#[test]
fn a_graceful_stop_waits_for_what_is_queued_at_most_for_its_grace() {
    for room_comes in [true, false] {
        let mut world = world();
        let (socket, addr) = bound(&mut world);
        let (peer, to) = client(&mut world);
        world.faults().send_buffers_full(true);
        for n in 0..100u8 {
            send(&mut world, socket, &[n], &to);
        }
        let began = world.now();
        world.post(|_, cx| cx.shutdown(Duration::from_secs(3)));
        world.advance(ms(1_000));
        world.send_datagram(peer, &addr, b"too late");
        world.advance(ms(1_999));
        assert!(!world.has_stopped());
        if room_comes {
            world.faults().send_buffers_full(false);
            world.run();
        } else {
            world.advance(ms(1));
        }
        assert!(world.has_stopped());
        assert!(world.now() - began <= Duration::from_secs(3));
        let reached = if room_comes { 100 } else { 0 };
        assert_eq!(received(&mut world, peer).len(), reached);
        assert!(came(&world).is_empty());
        assert_eq!((world.open_descriptors(), world.stats().buffered), (0, 0));
    }
}

#[test]
fn a_socket_closed_in_any_callback_is_closed_once_and_for_all() {
    let closers: [fn(&mut App); 4] = [
        |app| app.hear = |socket, _| socket.close(),
        |app| {
            app.on_error = |cx, socket| {
                cx.socket(socket).into_iter().for_each(|mut it| it.close());
            };
        },
        |app| app.on_timeout = |socket, _| socket.close(),
        |app| app.on_writable = |socket| socket.close(),
    ];
    for closer in closers {
        let mut world = world();
        let bind = Bind::new("udp://127.0.0.1:7").unwrap();
        let bind = bind.queue_limit(2 * (OVERHEAD + 1));
        let socket = world.try_bind(bind).unwrap();
        let addr = view(&mut world, socket).local_addr().unwrap();
        let (peer, to) = client(&mut world);
        world.run();
        closer(world.handler_mut());
        world.faults().send_buffers_full(true);
        for n in 0..3u8 {
            view(&mut world, socket).send_to(&[n], to.clone());
        }
        world.run();
        let now = world.now();
        view(&mut world, socket).set_deadline(Some(now));
        world.faults().send_buffers_full(false);
        world.faults().fail(Call::Receive, libc::EHOSTUNREACH, 1);
        for n in 0..3u8 {
            world.send_datagram(peer, &addr, &[n]);
        }
        world.run();
        assert!(world.socket(socket).is_none());
        assert!(world.handler().came.len() <= 3);
        assert_eq!(
            received(&mut world, peer).len(),
            2,
            "what was queued leaves"
        );
        assert_ends_clean(world);
    }
}

/// What went wrong before and what goes wrong afterwards is nobody's business any more.
#[test]
fn no_callback_follows_a_close() {
    let mut world = world();
    world.handler_mut().hear = |socket, datagram| {
        socket.send(b"to nobody");
        echo(socket, datagram);
        socket.set_read_deadline(Some(socket.now()));
        socket.close();
    };
    let (_, addr) = bound(&mut world);
    let (peer, _) = client(&mut world);
    world.faults().send_buffers_full(true);
    for _ in 0..3 {
        world.send_datagram(peer, &addr, b"x");
    }
    world.run();
    world.faults().send_buffers_full(false);
    world.faults().fail(Call::Send, libc::EHOSTUNREACH, 1);
    world.run();
    let app = world.handler();
    assert_eq!(app.came.len(), 1);
    assert!(app.errors.is_empty() && app.timeouts.is_empty());
    assert_eq!(world.stats().datagrams_dropped, 2);
    assert_eq!(world.open_descriptors(), 0);
    assert_ends_clean(world);
}

// Panics.

#[test]
fn a_panic_in_a_callback_costs_that_callback_and_nothing_else() {
    let mut world = world_with(|config| config.panic_policy = PanicPolicy::Isolate);
    world.handler_mut().hear = |socket, datagram| {
        assert_ne!(datagram.bytes(), b"panic");
        echo(socket, datagram);
    };
    world.handler_mut().on_error = |_, _| panic!("in on_socket_error");
    world.handler_mut().on_timeout = |_, _| panic!("in on_socket_timeout");
    world.handler_mut().on_writable = |_| panic!("in on_socket_writable");
    let bind = Bind::new("udp://127.0.0.1:7").unwrap();
    let bind = bind.queue_limit(10 * (OVERHEAD + 1));
    let socket = world.try_bind(bind).unwrap();
    let addr = view(&mut world, socket).local_addr().unwrap();
    let (peer, to) = client(&mut world);
    world.run();
    // In the middle of a batch.
    for bytes in [&b"before"[..], b"panic", b"after"] {
        world.send_datagram(peer, &addr, bytes);
    }
    world.run();
    assert_eq!(world.stats().panics, 1);
    assert_eq!(received(&mut world, peer), [&b"before"[..], b"after"]);
    // An error, a deadline, and a queue that was full.
    world.faults().fail(Call::Receive, libc::EHOSTUNREACH, 1);
    world.faults().spurious();
    world.run();
    assert_eq!(world.stats().panics, 2);
    let now = world.now();
    view(&mut world, socket).set_read_deadline(Some(now));
    world.run();
    assert_eq!(world.stats().panics, 3);
    world.faults().send_buffers_full(true);
    for _ in 0..11 {
        view(&mut world, socket).send_to(b"x", to.clone());
    }
    world.run();
    world.faults().send_buffers_full(false);
    world.run();
    assert_eq!(world.stats().panics, 4);
    received(&mut world, peer);
    world.send_datagram(peer, &addr, b"still here");
    world.run();
    assert_eq!(received(&mut world, peer), [b"still here"]);
    assert_ends_clean(world);
}

// Pausing.

#[test]
fn a_paused_socket_hears_nothing_and_everything_when_it_is_resumed() {
    let mut world = world_with(|config| config.datagram_budget = 3);
    let (socket, addr) = bound(&mut world);
    let (peer, to) = client(&mut world);
    world.post(move |_, cx| cx.socket(socket).unwrap().pause());
    world.run();
    for n in 0..20u8 {
        world.send_datagram(peer, &addr, &[n]);
        world.run();
    }
    world.clear_calls();
    world.faults().spurious();
    world.advance(Duration::from_secs(10));
    assert_eq!(world.calls(Call::Receive), 0);
    // It can send meanwhile.
    send(&mut world, socket, b"x", &to);
    world.run();
    assert_eq!(received(&mut world, peer), [b"x"]);
    world.post(move |_, cx| {
        let mut socket = cx.socket(socket).unwrap();
        socket.resume();
        socket.pause();
        socket.resume();
    });
    world.run();
    let expected: Vec<[u8; 1]> = (0..20).map(|n| [n]).collect();
    assert_eq!(came(&world), expected);
    assert_ends_clean(world);
}

#[test]
fn a_socket_paused_by_its_own_callback_is_resumed_by_anybody() {
    let mut world = world_with(|config| config.datagram_batch = 1);
    let (socket, addr) = bound(&mut world);
    let (peer, _) = client(&mut world);
    world.handler_mut().hear = |socket, _| socket.pause();
    for n in 0..20u8 {
        world.send_datagram(peer, &addr, &[n]);
    }
    for n in 1..=20 {
        world.run();
        assert_eq!(came(&world).len(), n);
        world.post(move |_, cx| cx.socket(socket).unwrap().resume());
    }
    world.run();
    assert_ends_clean(world);
}

#[test]
fn too_much_in_other_queues_stops_no_datagram() {
    let mut world = world_with(|config| config.memory_limit = 1000);
    let (socket, addr) = bound(&mut world);
    let (peer, to) = client(&mut world);
    world.handler_mut().hear = echo;
    world.faults().send_buffers_full(true);
    for _ in 0..20 {
        send(&mut world, socket, &[0; 100], &to);
    }
    world.run();
    assert_eq!(world.stats().buffered, 20 * (OVERHEAD as u64 + 100));
    world.send_datagram(peer, &addr, b"x");
    world.run();
    assert_eq!(came(&world).len(), 1);
    world.faults().send_buffers_full(false);
    world.run();
    assert_eq!(received(&mut world, peer).len(), 21);
    assert_ends_clean(world);
}

// Chance.

/// Bytes of whatever the loop sends, so that what waits can be counted: a number.
const NUMBER: usize = 8;

/// What is known of one socket from outside.
#[derive(Default)]
struct Known {
    /// Sends that were not answered `Closed`.
    asked: u64,
    /// What was sent to it, and what it has heard.
    sent_to: Vec<u64>,
    heard: Vec<u64>,
    read_deadline: Option<Instant>,
    /// Closed by the test, or given up with a word.
    over: bool,
}

/// Does at random whatever can be done in callbacks.
struct Chaos {
    known: BTreeMap<SocketId, Known>,
    peers: Vec<Addr>,
    next: u64,
    max_datagram: usize,
    /// Nothing more is begun.
    calm: bool,
}

impl Chaos {
    fn send(&mut self, socket: &mut Socket<'_>, die: u64) {
        self.next += 1;
        let bytes = self.next.to_be_bytes();
        let unix = socket.local_addr().is_some_and(|it| it.as_unix().is_some());
        let matching = |it: &&Addr| it.as_unix().is_some() == unix;
        let peers: Vec<&Addr> = self.peers.iter().filter(matching).collect();
        let delivery = if socket.peer_addr().is_some() || socket.local_addr().is_none() {
            socket.send(&bytes)
        } else {
            socket.send_to(&bytes, peers[die as usize % peers.len()].clone())
        };
        let known = self.known.get_mut(&socket.id()).unwrap();
        assert!(!known.over || delivery == Delivery::Closed);
        known.asked += u64::from(delivery != Delivery::Closed);
    }

    fn close(&mut self, socket: &mut Socket<'_>) {
        socket.close();
        self.known.get_mut(&socket.id()).unwrap().over = true;
    }
}

impl Handler for Chaos {
    type Session = ();

    fn on_datagram(&mut self, socket: &mut Socket<'_>, datagram: &Datagram<'_>) {
        let known = self.known.get_mut(&socket.id()).unwrap();
        assert!(!known.over, "no callback follows a close");
        let (number, padding) = datagram.bytes().split_at(NUMBER);
        let number = u64::from_be_bytes(number.try_into().unwrap());
        let whole = NUMBER + number as usize % 32;
        assert_eq!(datagram.is_truncated(), whole > self.max_datagram);
        assert_eq!(NUMBER + padding.len(), whole.min(self.max_datagram));
        known.heard.push(number);
        if self.calm {
            return;
        }
        let die = socket.cx().random();
        for _ in 0..die % 3 {
            let die = socket.cx().random();
            self.send(socket, die);
        }
        match socket.cx().random() % 100 {
            0 => self.close(socket),
            1..10 => socket.pause(),
            _ => {}
        }
    }

    fn on_socket_error(&mut self, cx: &mut Context<'_>, socket: SocketId, _: &Error) {
        let known = self.known.get_mut(&socket).unwrap();
        assert!(!known.over, "no callback follows a close");
        known.over = cx.socket(socket).is_none();
    }

    fn on_socket_timeout(&mut self, socket: &mut Socket<'_>, which: Deadline) {
        let known = self.known.get_mut(&socket.id()).unwrap();
        assert!(!known.over, "no callback follows a close");
        if which == Deadline::Read {
            let at = known.read_deadline.take().expect("once per setting");
            assert!(socket.now() >= at, "never early");
        }
    }

    fn on_socket_writable(&mut self, socket: &mut Socket<'_>) {
        assert!(
            !self.known[&socket.id()].over,
            "no callback follows a close"
        );
        if !self.calm {
            let die = socket.cx().random();
            self.send(socket, die);
        }
    }
}

/// One random world, and what is known of it.
struct Run {
    world: World<Chaos>,
    rng: Rng,
    clients: Vec<(PacketClient, Addr)>,
    received: Vec<u64>,
    next_port: u16,
    /// Datagrams may be lost or doubled on their way.
    weather: bool,
}

/// Longer than any wait that is no deadline of the application's.
const QUIET: Duration = Duration::from_secs(2);

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut config = Config::default();
        config.panic_policy = PanicPolicy::Propagate;
        config.datagram_budget = rng.range(1, 20);
        config.datagram_batch = rng.range(1, 40);
        config.max_datagram = rng.range(NUMBER, 60);
        config.datagram_queue = (OVERHEAD + NUMBER) * rng.range(1, 40);
        if rng.one_in(3) {
            config.write_stall_timeout = ms(rng.range(1, 200) as u64);
        }
        config.linger = ms(rng.range(0, 300) as u64);
        let chaos = Chaos {
            known: BTreeMap::new(),
            peers: Vec::new(),
            next: 1 << 32,
            max_datagram: config.max_datagram,
            calm: false,
        };
        let world = World::with_config(seed, chaos, config);
        let mut run = Self {
            world,
            weather: rng.one_in(3),
            rng,
            clients: Vec::new(),
            received: Vec::new(),
            next_port: 7,
        };
        for number in 0..3u16 {
            let far = run.world.packet_client(far(5000 + number));
            let near = run.world.unix_packet_client(format!("/run/peer{number}"));
            for client in [far, near] {
                let addr = run.world.packet_addr(client);
                run.clients.push((client, addr.clone()));
                run.world.handler_mut().peers.push(addr);
            }
        }
        run.world.name("peer.test", [far(0).ip()]);
        run.bind();
        run.bind();
        run
    }

    /// Another socket, at an address that none has had.
    fn bind(&mut self) {
        self.next_port += 1;
        let port = self.next_port;
        let peer = self.rng.range(5000, 5003);
        let number = peer - 5000;
        let bind = match self.rng.range(0, 6) {
            0 | 1 => Bind::new(format!("udp://127.0.0.1:{port}")),
            2 => Bind::connect(format!("udp://10.0.0.9:{peer}")),
            3 => Bind::connect(format!("udp://peer.test:{peer}")),
            4 => Bind::new(format!("unixgram:///run/ours{port}")),
            _ => Bind::connect(format!("unixgram:///run/peer{number}"))
                .map(|bind| bind.local_addr(unix(&format!("ours{port}")))),
        };
        let mut bind = bind.unwrap().receive_buffer(1 << 20);
        if self.rng.one_in(3) {
            bind = bind.drop_policy(DropPolicy::Oldest);
        }
        let socket = self.world.try_bind(bind).unwrap();
        let known = &mut self.world.handler_mut().known;
        assert!(known.insert(socket, Known::default()).is_none());
    }

    /// One of all sockets that there ever were.
    fn any_socket(&mut self) -> SocketId {
        let known = &self.world.handler().known;
        let at = self.rng.range(0, known.len());
        *known.keys().nth(at).unwrap()
    }

    fn any_client(&mut self) -> (PacketClient, Addr) {
        let at = self.rng.range(0, self.clients.len());
        self.clients[at].clone()
    }

    /// A client sends to a socket that can hear it.
    fn client_sends(&mut self) {
        let (client, from) = self.any_client();
        let id = self.any_socket();
        let Some(socket) = self.world.socket(id) else {
            return;
        };
        let Some(to) = socket.local_addr() else {
            return;
        };
        let same_kind = to.as_unix().is_some() == from.as_unix().is_some();
        let heard = socket.peer_addr().is_none_or(|peer| peer == from);
        if !same_kind || !heard {
            return;
        }
        self.world.handler_mut().next += 1;
        let number = self.world.handler().next;
        let mut bytes = number.to_be_bytes().to_vec();
        bytes.resize(NUMBER + number as usize % 32, 0);
        if self.world.try_send_datagram(client, &to, &bytes).is_ok() {
            let known = self.world.handler_mut().known.get_mut(&id).unwrap();
            known.sent_to.push(number);
        }
    }

    /// The loop does something with one of its sockets, in a post.
    fn socket_acts(&mut self) {
        let id = self.any_socket();
        let what = self.rng.range(0, 20);
        let after = ms(self.rng.range(0, 50) as u64);
        self.world.post(move |chaos, cx| {
            let Some(mut socket) = cx.socket(id) else {
                return;
            };
            match what {
                0 => chaos.close(&mut socket),
                1 => socket.pause(),
                2..6 => socket.resume(),
                6 if !chaos.known[&id].over => {
                    let at = socket.now() + after;
                    chaos.known.get_mut(&id).unwrap().read_deadline = Some(at);
                    socket.set_read_deadline(Some(at));
                }
                7 => socket.set_write_deadline(Some(socket.now() + after)),
                _ => {
                    for _ in 0..what {
                        let die = socket.cx().random();
                        chaos.send(&mut socket, die);
                    }
                }
            }
        });
    }

    fn fault(&mut self) {
        let rng = &mut self.rng;
        let some = rng.range(0, 12);
        let call = [Call::Receive, Call::Send][rng.range(0, 2)];
        let passing = PASSING[rng.range(0, PASSING.len())];
        let ending = ENDING[rng.range(0, ENDING.len())];
        let full = rng.one_in(2);
        let weather = self.weather;
        let faults = self.world.faults();
        match rng.range(0, 14) {
            0 => faults.fail(call, libc::EINTR, some),
            1 => faults.fail(Call::Poll, libc::EINTR, some),
            2 => faults.fail(call, libc::EAGAIN, some % 4),
            3 => faults.fail(Call::Send, SHORT[some % 2], some),
            4 => faults.fail(call, passing, some),
            5 if some == 0 => faults.fail(call, ending, 1),
            6 => faults.short_batches((some > 3).then_some(some)),
            7 => faults.events_per_poll(1 + some * some),
            8 => faults.latency(ms(some as u64 % 5)),
            9 => faults.reordering(ms(some as u64)),
            10 => faults.send_buffers_full(full),
            11 if weather => faults.loss(some as u64 / 3),
            12 if weather => faults.duplicates(some as u64 / 3),
            _ => faults.spurious(),
        };
    }

    fn act(&mut self) {
        match self.rng.range(0, 24) {
            0..9 => self.client_sends(),
            9..13 => self.socket_acts(),
            13..15 => self.fault(),
            15 => {
                let (client, _) = self.any_client();
                // A UDP client that does not receive loses what does not fit.
                self.world.stop_receiving(client);
            }
            16 | 17 => {
                let (client, _) = self.any_client();
                self.world.resume_receiving(client);
            }
            18 if self.next_port < 30 => self.bind(),
            19 => {
                let delay = ms(self.rng.range(0, 40) as u64);
                self.world.lookup_delay(delay);
            }
            20 | 21 => {
                let by = ms(self.rng.range(0, 30) as u64);
                self.world.advance(by);
                self.check();
            }
            _ => {
                self.world.run();
                self.check();
            }
        }
    }

    /// What holds at any moment between two turns.
    fn check(&mut self) {
        let limit = OVERHEAD + NUMBER;
        let sockets: Vec<SocketId> = self.world.handler().known.keys().copied().collect();
        let mut buffered = 0;
        for id in sockets {
            let asked = self.world.handler().known[&id].asked;
            let Some(socket) = self.world.socket(id) else {
                continue;
            };
            let (stats, queued) = (socket.stats(), socket.queued());
            assert_eq!(queued % limit, 0);
            let waiting = (queued / limit) as u64;
            assert_eq!(stats.sent + stats.dropped + waiting, asked, "{id:?}");
            buffered += queued as u64;
        }
        assert_eq!(self.world.stats().buffered, buffered);
        for (client, _) in &self.clients {
            let received = self.world.received_datagrams(*client);
            let numbers = received
                .iter()
                .map(|(_, bytes)| u64::from_be_bytes(bytes[..].try_into().unwrap()));
            self.received.extend(numbers);
        }
    }

    /// Nobody holds anything back any more: whatever waits has to leave and to arrive.
    fn calm_down(&mut self) {
        self.world.handler_mut().calm = true;
        let faults = self.world.faults().clear().send_buffers_full(false);
        faults.loss(0).duplicates(0).events_per_poll(1024);
        for (client, _) in self.clients.clone() {
            self.world.resume_receiving(client);
        }
        self.world.post(|chaos, cx| {
            for id in chaos.known.keys() {
                if let Some(mut socket) = cx.socket(*id) {
                    socket.resume();
                }
            }
        });
        self.world.run();
        self.world.advance(QUIET);
        self.check();
        assert_eq!(self.world.stats().buffered, 0, "nothing was forgotten");
    }

    fn judge(mut self) -> (u64, u64) {
        let stats = self.world.stats();
        let weather = self.weather;
        let sent = self.received.len() as u64;
        self.received.sort_unstable();
        self.received.dedup();
        if !weather {
            assert_eq!(sent, stats.datagrams_sent, "what was sent has arrived");
            assert_eq!(self.received.len() as u64, sent, "once");
        }
        let mut heard_in_all = 0;
        for (id, mut known) in std::mem::take(&mut self.world.handler_mut().known) {
            let is_open = self.world.socket(id).is_some();
            assert_eq!(is_open, !known.over, "{id:?}");
            assert!(!is_open || known.read_deadline.is_none(), "it has fired");
            heard_in_all += known.heard.len() as u64;
            known.heard.sort_unstable();
            let all = known.heard.len();
            known.heard.dedup();
            assert!(weather || all == known.heard.len(), "each once");
            known.sent_to.sort_unstable();
            if is_open && !weather {
                assert_eq!(known.heard, known.sent_to, "{id:?}");
            } else {
                let was_sent = |it| known.sent_to.binary_search(it).is_ok();
                assert!(known.heard.iter().all(was_sent), "{id:?}");
            }
        }
        // Behind a close in the middle of a batch nothing is offered.
        assert!(heard_in_all <= stats.datagrams_received);
        self.world.shutdown(QUIET);
        (heard_in_all, sent)
    }
}

#[test]
fn random_traffic_with_random_faults_loses_nothing_and_forgets_nobody() {
    const WORLDS: u64 = 600;
    const ACTS: usize = 300;
    let (mut heard, mut sent) = (0, 0);
    for seed in 0..WORLDS {
        let mut run = Run::new(seed);
        for _ in 0..ACTS {
            run.act();
        }
        run.calm_down();
        let (more_heard, more_sent) = run.judge();
        heard += more_heard;
        sent += more_sent;
    }
    // The worlds are not empty.
    assert!(heard > WORLDS * 20 && sent > WORLDS * 20, "{heard} {sent}");
}
