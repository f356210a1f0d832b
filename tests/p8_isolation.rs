//! P8: one bad connection is one bad connection. Peers that reset at every moment, peers
//! that send nonsense or nothing, callbacks that panic: the others are served on.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

#[path = "util/process.rs"]
mod process;
mod util;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::thread;
use std::time::Duration;

use util::{
    Ending, KIB, MIB, Rng, Server, config, connect, connect_many, eventually, finish, ms,
    open_descriptors, read_exactly, read_to_end_or_reset, reset, round_trip, send, serve, serve_on,
    serve_with, set_descriptor_limit,
};
use util::{PATIENCE, pattern};
use windlass::sim::World;
use windlass::{
    CloseReason, Closed, Config, Conn, ConnId, Context, Deadline, Error, Handle, Handler, Input,
    Listen, ListenerId, PanicPolicy, PostError, Reactor, TimerId,
};

// Resets.

/// Resets in all. A prime number of moments spreads them over everything.
const RESETS: usize = 10_000;
const THREADS: usize = 4;

/// Does what the first byte of a request says, and keeps the books.
#[derive(Default)]
struct Clerk {
    admitted: HashSet<ConnId>,
    closed: HashMap<ConnId, usize>,
    reasons: HashMap<String, usize>,
}

impl Handler for Clerk {
    type Session = ConnId;

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<ConnId> {
        assert!(self.admitted.insert(conn.id()));
        Ok(conn.id())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        _: &mut ConnId,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        match input.first() {
            // More than the kernel takes, so that it waits in the loop.
            Some(b'B') => _ = conn.write(&[b'x'; 512 * KIB]),
            Some(b'P') => conn.pause(),
            Some(b'Q') => {
                conn.write(&[b'x'; 512 * KIB]);
                conn.close();
            }
            Some(b'D') => {
                conn.write(b"bye");
                conn.close();
            }
            Some(b'F') => conn.shutdown_write(),
            // An unfinished request.
            Some(b'U') => return Ok(()),
            _ => _ = conn.write(b"ok"),
        }
        input.take_all();
        Ok(())
    }

    fn on_eof(
        &mut self,
        conn: &mut Conn<'_>,
        _: &mut ConnId,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        input.take_all();
        // Stays half-closed, with output on its way.
        conn.write(&[b'x'; 64 * KIB]);
        Ok(())
    }

    fn on_close(&mut self, _: &mut Context<'_>, session: ConnId, closed: &Closed) {
        assert_eq!(session, closed.id);
        *self.closed.entry(closed.id).or_default() += 1;
        *self.reasons.entry(closed.reason.to_string()).or_default() += 1;
    }
}

/// One life that ends in a reset. What the server does meanwhile may fail the calls here
/// at any point: that is the purpose.
fn live_and_reset(addr: SocketAddr, moment: usize, rng: &mut Rng) {
    let mut client = connect(addr);
    let some = pattern(rng.range(1, 2000), 8);
    let _ = match moment {
        // Before anybody has accepted.
        0 => Ok(0),
        // Behind bytes that nobody has read yet.
        1 => client.write(b"hello"),
        2 => client.write(&some),
        // Between question and answer, and after it.
        3 => client
            .write(b"hello")
            .and_then(|_| client.read(&mut [0; 1])),
        4 => client
            .write(b"hello")
            .and_then(|_| client.read(&mut [0; 2])),
        // In the middle of a request.
        5 => client
            .write(b"Unfinished")
            .and_then(|_| client.write(&some)),
        // While output waits for us to read.
        6 => client.write(b"B"),
        7 => client.write(b"B").and_then(|_| client.read(&mut [0; 999])),
        // While nobody looks.
        8 => client.write(b"P").and_then(|_| client.write(&some)),
        // While our end is being flushed, and while it is drained.
        9 => client.write(b"Q").and_then(|_| client.read(&mut [0; 999])),
        10 => client.write(b"D").and_then(|_| client.read(&mut [0; 3])),
        11 => client.write(b"D").and_then(|_| client.write(&some)),
        // Half-closed from either side.
        12 => client.write(b"F").and_then(|_| client.read(&mut [0; 1])),
        13 => {
            finish(&client);
            client.read(&mut [0; 10])
        }
        14 => client.write(b"B").inspect(|_| finish(&client)),
        other => unreachable!("there is no moment {other}"),
    };
    reset(client);
}

const MOMENTS: usize = 15;

#[test]
fn ten_thousand_resets_at_every_moment_harm_nobody() {
    process::alone("ten_thousand_resets_at_every_moment_harm_nobody", || {
        let server = serve(Clerk::default());
        let mut bystander = connect(server.addr);
        assert_eq!(round_trip(&mut bystander, b"hi"), b"ok");
        let before = open_descriptors();
        reset_a_lot(&server, &mut bystander);

        server.until("only the bystander is left", |stats| stats.open == 1);
        assert!(
            eventually(PATIENCE, || open_descriptors() == before),
            "descriptors leak"
        );
        assert_eq!(round_trip(&mut bystander, b"hi"), b"ok");
        reset(bystander);
        server.until("nobody is left", |stats| stats.open == 0);
        let (clerk, summary) = server.stop();
        let stats = summary.stats;
        assert_eq!(stats.accepted + stats.lost, RESETS as u64 + 1);
        assert_eq!(clerk.admitted.len() as u64, stats.accepted);
        assert_eq!(clerk.closed.len(), clerk.admitted.len(), "each has ended");
        assert!(clerk.closed.values().all(|&times| times == 1), "once");
        assert_eq!((stats.buffered, summary.aborted), (0, 0));
        let resets = clerk.reasons.get("connection reset by peer");
        assert!(resets > Some(&(RESETS / 2)), "{:?}", clerk.reasons);
    });
}

fn reset_a_lot(server: &Server<Clerk>, bystander: &mut TcpStream) {
    let addr = server.addr;
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            thread::spawn(move || {
                let mut rng = Rng::new(thread as u64);
                for n in 0..RESETS / THREADS {
                    live_and_reset(addr, n % MOMENTS, &mut rng);
                }
            })
        })
        .collect();
    while !threads.iter().all(thread::JoinHandle::is_finished) {
        assert_eq!(round_trip(bystander, b"hi"), b"ok");
        thread::sleep(ms(1));
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_reset_is_reported_as_one() {
    let server = serve(Clerk::default());
    let mut client = connect(server.addr);
    assert_eq!(round_trip(&mut client, b"hi"), b"ok");
    reset(client);
    server.until("it is gone", |stats| stats.open == 0);
    let (clerk, _) = server.stop();
    let only = HashMap::from([("connection reset by peer".to_owned(), 1)]);
    assert_eq!(clerk.reasons, only);
}

#[test]
fn a_reset_that_comes_together_with_a_reason_to_pause_is_not_missed() {
    let mut reactor = Reactor::new(Clerk::default()).unwrap();
    let id = reactor.listen("127.0.0.1:0").unwrap();
    let addr = util::ip(reactor.listener(id).unwrap().local_addr());
    let mut client = connect(addr);
    assert!(eventually(PATIENCE, || {
        let _ = reactor.turn(Some(ms(5))).unwrap();
        reactor.stats().open == 1
    }));
    send(&mut client, b"P");
    reset(client);
    // One report says both; who reads the request is told to pause, and is not told again.
    for _ in 0..3 {
        let _ = reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(reactor.stats().open, 0);
    let only = HashMap::from([("connection reset by peer".to_owned(), 1)]);
    assert_eq!(reactor.handler().reasons, only);
}

#[test]
fn writing_to_the_dead_raises_no_signal() {
    process::alone("writing_to_the_dead_raises_no_signal", || {
        let raised = Arc::new(AtomicBool::new(false));
        let signal = libc::SIGPIPE;
        signal_hook::flag::register(signal, Arc::clone(&raised)).unwrap();
        // It would be noticed: a pipe without a reader.
        let (reader, mut writer) = io::pipe().unwrap();
        drop(reader);
        assert!(writer.write_all(b"x").is_err());
        assert!(
            raised.swap(false, Ordering::SeqCst),
            "the check itself is deaf"
        );

        let server = serve(Clerk::default());
        for round in 0..200 {
            let mut client = connect(server.addr);
            let id = eventually_open(&server, round);
            reset(client.try_clone().unwrap());
            // Whether or not the loop knows of the reset yet: small, large and shared.
            let posted = server.handle.post_to(id, |_, conn, _| {
                conn.write(b"small");
                conn.write(&[b'x'; 256 * KIB]);
                conn.write_shared(vec![b'x'; 32 * KIB].into());
                Ok(())
            });
            posted.unwrap();
            let _ = client.shutdown(std::net::Shutdown::Both);
            let _ = client.read(&mut [0]);
        }
        server.until("nobody is left", |stats| stats.open == 0);
        server.stop();
        assert!(!raised.load(Ordering::SeqCst), "SIGPIPE was raised");
    });
}

/// The newest connection, once there have been more than `before`.
fn eventually_open(server: &Server<Clerk>, before: u64) -> ConnId {
    server.until("it is accepted", |stats| stats.accepted > before);
    server.ask(|clerk, _| {
        let mut open = clerk
            .admitted
            .iter()
            .filter(|id| !clerk.closed.contains_key(id));
        *open.next().expect("somebody is open")
    })
}

// Crowds, silence and nonsense.

#[test]
fn crowds_that_say_nothing_harm_nobody() {
    let server = serve(Clerk::default());
    let silent = connect_many(server.addr, 500);
    let half_closed = connect_many(server.addr, 100);
    half_closed.iter().for_each(finish);
    let mut client = connect(server.addr);
    for _ in 0..20 {
        assert_eq!(round_trip(&mut client, b"hi"), b"ok");
    }
    drop((silent, half_closed, client));
    server.until("all are gone", |stats| stats.open == 0);
    let (clerk, _) = server.stop();
    assert_eq!((clerk.admitted.len(), clerk.closed.len()), (601, 601));
}

#[test]
fn nonsense_harms_nobody() {
    let config = config(|config| config.limits.input = 64 * KIB);
    let server = serve_with(config, Clerk::default());
    let mut client = connect(server.addr);
    let addr = server.addr;
    let vandals: Vec<_> = (0..4)
        .map(|seed| {
            thread::spawn(move || {
                let mut rng = Rng::new(seed);
                for _ in 0..50 {
                    let mut vandal = connect(addr);
                    for _ in 0..rng.range(1, 20) {
                        let nonsense = pattern(rng.range(1, 20 * KIB), rng.next());
                        if vandal.write_all(&nonsense).is_err() {
                            break;
                        }
                    }
                    // The clerk may have taken some of it for a request to pause.
                    reset(vandal);
                }
            })
        })
        .collect();
    while !vandals.iter().all(thread::JoinHandle::is_finished) {
        assert_eq!(round_trip(&mut client, b"hi"), b"ok");
    }
    for vandal in vandals {
        vandal.join().unwrap();
    }
    drop(client);
    server.until("all are gone", |stats| stats.open == 0);
    let (clerk, _) = server.stop();
    assert!(clerk.closed.values().all(|&times| times == 1));
    assert_eq!(clerk.closed.len(), 201);
}

// Panics.

/// What every panic here says.
const ON_PURPOSE: &str = "on purpose";

/// Keeps the panics that are meant out of the output.
fn expect_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>() != Some(&ON_PURPOSE) {
                usual(info);
            }
        }));
    });
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Where {
    #[default]
    Nowhere,
    Accept,
    Read,
    Write,
    Eof,
    Timeout,
    ConnTimer,
    Wake,
    Shutdown,
    Close,
    SessionDrop,
    PostTo,
}

/// Begins an answer, and does not get further.
struct Stammer;

impl Handler for Stammer {
    type Session = ();

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        Ok(())
    }

    fn on_read(&mut self, conn: &mut Conn<'_>, _: &mut (), _: &mut Input<'_>) -> io::Result<()> {
        conn.write(b"half an answ");
        std::panic::panic_any(ON_PURPOSE);
    }
}

#[test]
fn half_an_answer_does_not_leave_when_its_callback_panics() {
    expect_panics();
    let mut world = World::with_config(1, Stammer, Config::default());
    let addr = world.listen("127.0.0.1:7");
    let client = world.connect(addr);
    world.send(client, b"question");
    world.run();
    assert!(world.received(client).is_empty());
    assert!(world.was_reset(client));
    assert_eq!(world.stats().buffered, 0);
}

/// Echoes, but for those who say so.
struct Touchy;

impl Handler for Touchy {
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
        panic_if(input.starts_with(b"panic"));
        conn.write(input.take_all());
        Ok(())
    }
}

/// The events of a turn have one guard between them.
#[test]
fn a_panic_does_not_cost_the_others_the_events_of_their_turn() {
    expect_panics();
    let mut world = World::with_config(1, Touchy, Config::default());
    let addr = world.listen("127.0.0.1:7");
    let clients: Vec<_> = (0..9).map(|_| world.connect(addr)).collect();
    world.run();
    for (at, &client) in clients.iter().enumerate() {
        world.send(client, if at % 3 == 1 { b"panic" } else { b"hello" });
    }
    world.run();
    for (at, &client) in clients.iter().enumerate() {
        let panicked = at % 3 == 1;
        let expected: &[u8] = if panicked { b"" } else { b"hello" };
        assert_eq!(world.received(client), expected);
        assert_eq!(world.was_reset(client), panicked);
    }
    assert_eq!(world.stats().panics, 3);
}

/// A session that may be hard to get rid of.
struct Fragile(bool);

impl Drop for Fragile {
    fn drop(&mut self) {
        panic_if(self.0);
    }
}

fn panic_if(here: bool) {
    if here {
        // A literal, so that the payload is a `&str`.
        std::panic::panic_any(ON_PURPOSE);
    }
}

/// Connections whose first byte is `V` are victims; everybody else is echoed.
#[derive(Default)]
struct Clumsy {
    panics: Where,
    victim: Option<ConnId>,
    reasons: Vec<(ConnId, String)>,
    timer_panics: bool,
    ticks: u32,
    accept_errors: u32,
}

impl Clumsy {
    fn stumble(&self, conn: &Conn<'_>, here: Where) {
        panic_if(self.panics == here && self.victim == Some(conn.id()));
    }

    /// Sees to it that the callback in question will run.
    fn prepare(&self, conn: &mut Conn<'_>) {
        let (id, now) = (conn.id(), conn.now());
        match self.panics {
            Where::Write => {
                // The large part goes out as the client reads; the queue was above `high`.
                conn.write(&[b'x'; MIB]);
            }
            Where::Timeout => conn.set_read_deadline(Some(now)),
            Where::ConnTimer => _ = conn.set_timer(now),
            Where::Wake => assert!(conn.cx().wake(id)),
            Where::Close | Where::SessionDrop => conn.close(),
            _ => {}
        }
    }
}

impl Handler for Clumsy {
    type Session = Fragile;

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<Fragile> {
        panic_if(self.panics == Where::Accept);
        Ok(Fragile(false))
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        session: &mut Fragile,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        if input.first() == Some(&b'V') {
            self.victim = Some(conn.id());
            session.0 = self.panics == Where::SessionDrop;
            input.consume(1);
            self.prepare(conn);
            self.stumble(conn, Where::Read);
        }
        conn.write(input.take_all());
        Ok(())
    }

    fn on_write(&mut self, conn: &mut Conn<'_>, _: &mut Fragile) -> io::Result<()> {
        self.stumble(conn, Where::Write);
        Ok(())
    }

    fn on_eof(
        &mut self,
        conn: &mut Conn<'_>,
        _: &mut Fragile,
        _: &mut Input<'_>,
    ) -> io::Result<()> {
        self.stumble(conn, Where::Eof);
        conn.close();
        Ok(())
    }

    fn on_timeout(
        &mut self,
        conn: &mut Conn<'_>,
        _: &mut Fragile,
        which: Deadline,
    ) -> io::Result<()> {
        let here = match which {
            Deadline::Timer(_) => Where::ConnTimer,
            _ => Where::Timeout,
        };
        self.stumble(conn, here);
        Ok(())
    }

    fn on_wake(&mut self, conn: &mut Conn<'_>, _: &mut Fragile) -> io::Result<()> {
        self.stumble(conn, Where::Wake);
        Ok(())
    }

    fn on_shutdown(&mut self, conn: &mut Conn<'_>, _: &mut Fragile) -> io::Result<()> {
        self.stumble(conn, Where::Shutdown);
        conn.close();
        Ok(())
    }

    fn on_close(&mut self, _: &mut Context<'_>, session: Fragile, closed: &Closed) {
        self.reasons.push((closed.id, closed.reason.to_string()));
        panic_if(self.panics == Where::Close && self.victim == Some(closed.id));
        drop(session);
    }

    fn on_accept_error(&mut self, _: &mut Context<'_>, _: ListenerId, _: &Error) {
        self.accept_errors += 1;
        std::panic::panic_any(ON_PURPOSE);
    }

    fn on_timer(&mut self, _: &mut Context<'_>, _: TimerId) {
        self.ticks += 1;
        panic_if(self.timer_panics);
    }
}

fn clumsy(panics: Where) -> Server<Clumsy> {
    expect_panics();
    let config = config(|config| {
        config.limits.low = 8 * KIB;
        config.limits.high = 32 * KIB;
    });
    let listen = Listen::new("127.0.0.1:0").unwrap().send_buffer(16 * KIB);
    let app = Clumsy {
        panics,
        ..Clumsy::default()
    };
    serve_on(config, listen, app)
}

/// A callback of the victim panics; the bystanders and the loop go on.
#[track_caller]
fn only_the_victim_suffers(panics: Where, reason: CloseReason) {
    let server = clumsy(panics);
    let mut bystanders = connect_many(server.addr, 3);
    for bystander in &mut bystanders {
        assert_eq!(round_trip(bystander, b"before"), b"before");
    }
    let mut victim = connect(server.addr);
    send(&mut victim, b"V");
    match panics {
        Where::Eof => finish(&victim),
        Where::PostTo => {
            server.until("it was read", |stats| stats.bytes_read == 3 * 6 + 1);
            let id = server.ask(|app, _| app.victim.unwrap());
            let posted = server.handle.post_to(id, |_, _, _| {
                std::panic::panic_any(ON_PURPOSE);
            });
            posted.unwrap();
        }
        _ => {}
    }
    let (_, ending) = read_to_end_or_reset(&mut victim);
    let aborted = matches!(reason, CloseReason::Panic);
    assert_eq!(ending == Ending::Reset, aborted, "{panics:?}: {ending:?}");
    drop(victim);
    server.until("it is counted", |stats| stats.panics == 1);
    server.until("only the bystanders are left", |stats| stats.open == 3);
    for bystander in &mut bystanders {
        assert_eq!(round_trip(bystander, b"after"), b"after", "{panics:?}");
    }
    assert_eq!(round_trip(&mut connect(server.addr), b"new"), b"new");
    let victims = server.ask(|app, _| {
        let victim = app.victim.unwrap();
        let mut reasons = app.reasons.clone();
        reasons.retain(|(id, _)| *id == victim);
        reasons
    });
    assert_eq!(victims.len(), 1, "{panics:?}: one on_close");
    assert_eq!(victims[0].1, reason.to_string(), "{panics:?}");
    drop(bystanders);
    let ended = server.end(PATIENCE / 3);
    assert_eq!(ended.result.unwrap().stats.panics, 1, "{panics:?}");
}

#[test]
fn a_panic_in_on_read_is_that_connections() {
    only_the_victim_suffers(Where::Read, CloseReason::Panic);
}

#[test]
fn a_panic_in_on_write_is_that_connections() {
    only_the_victim_suffers(Where::Write, CloseReason::Panic);
}

#[test]
fn a_panic_in_on_eof_is_that_connections() {
    only_the_victim_suffers(Where::Eof, CloseReason::Panic);
}

#[test]
fn a_panic_in_on_timeout_is_that_connections() {
    only_the_victim_suffers(Where::Timeout, CloseReason::Panic);
    only_the_victim_suffers(Where::ConnTimer, CloseReason::Panic);
}

#[test]
fn a_panic_in_on_wake_is_that_connections() {
    only_the_victim_suffers(Where::Wake, CloseReason::Panic);
}

#[test]
fn a_panic_in_a_post_to_a_connection_is_that_connections() {
    only_the_victim_suffers(Where::PostTo, CloseReason::Panic);
}

#[test]
fn a_panic_in_on_close_comes_after_the_end() {
    only_the_victim_suffers(Where::Close, CloseReason::Local);
}

#[test]
fn a_session_that_panics_when_it_is_dropped_comes_after_the_end() {
    only_the_victim_suffers(Where::SessionDrop, CloseReason::Local);
}

#[test]
fn a_panic_in_on_accept_refuses_that_client() {
    let server = clumsy(Where::Nowhere);
    let mut bystander = connect(server.addr);
    assert_eq!(round_trip(&mut bystander, b"before"), b"before");
    server.ask(|app, _| app.panics = Where::Accept);
    for _ in 0..10 {
        read_to_end_or_reset(&mut connect(server.addr));
    }
    let stats = server.stats();
    assert_eq!((stats.panics, stats.refused, stats.open), (10, 10, 1));
    server.ask(|app, _| app.panics = Where::Nowhere);
    assert_eq!(round_trip(&mut bystander, b"after"), b"after");
    assert_eq!(round_trip(&mut connect(server.addr), b"new"), b"new");
    drop(bystander);
    let app = server.end(PATIENCE / 3).handler;
    assert_eq!(app.reasons.len(), 2, "no session, no on_close");
}

#[test]
fn a_panic_in_on_shutdown_does_not_stop_the_stop() {
    let server = clumsy(Where::Shutdown);
    let mut others = connect_many(server.addr, 3);
    let mut victim = connect(server.addr);
    send(&mut victim, b"Vx");
    assert_eq!(read_exactly(&mut victim, 1), b"x");
    for other in &mut others {
        assert_eq!(round_trip(other, b"x"), b"x");
    }
    server.handle.shutdown(PATIENCE / 3).unwrap();
    assert_eq!(read_to_end_or_reset(&mut victim).1, Ending::Reset);
    for other in &mut others {
        assert_eq!(read_to_end_or_reset(other), (Vec::new(), Ending::Eof));
    }
    drop(others);
    let ended = server.join();
    let summary = ended.result.unwrap();
    assert_eq!((summary.stats.panics, summary.aborted), (1, 0));
    let reasons: Vec<_> = ended
        .handler
        .reasons
        .iter()
        .map(|(_, why)| why.as_str())
        .collect();
    assert_eq!(
        reasons
            .iter()
            .filter(|why| **why == "a callback panicked")
            .count(),
        1
    );
    assert_eq!(reasons.iter().filter(|why| **why == "shutdown").count(), 3);
}

#[test]
fn panics_without_a_connection_are_counted_and_survived() {
    let server = clumsy(Where::Nowhere);
    let mut bystander = connect(server.addr);
    server.ask(|app, cx| {
        app.timer_panics = true;
        cx.set_timer(cx.now());
    });
    server.until("the timer panicked", |stats| stats.panics == 1);
    let posted = server.handle.post(|_, _| std::panic::panic_any(ON_PURPOSE));
    posted.unwrap();
    server.until("the post panicked", |stats| stats.panics == 2);
    // One that nobody can run any more, and that is hard to get rid of.
    let mut gone = connect(server.addr);
    send(&mut gone, b"Vx");
    assert_eq!(read_exactly(&mut gone, 1), b"x");
    let id = server.ask(|app, _| app.victim.unwrap());
    drop(gone);
    server.until("it is gone", |stats| stats.open == 1);
    let heavy = SendFragile;
    let posted = server.handle.post_to(id, move |_, _, _| {
        std::mem::forget(heavy);
        Ok(())
    });
    posted.unwrap();
    server.until("its end panicked", |stats| stats.panics == 3);
    assert_eq!(round_trip(&mut bystander, b"after"), b"after");
    drop(bystander);
    let ended = server.end(PATIENCE / 3);
    assert_eq!(
        (ended.handler.ticks, ended.result.unwrap().stats.panics),
        (1, 3)
    );
}

struct SendFragile;

impl Drop for SendFragile {
    fn drop(&mut self) {
        std::panic::panic_any(ON_PURPOSE);
    }
}

#[test]
fn a_panic_in_on_accept_error_leaves_the_client_in_the_queue() {
    process::alone(
        "a_panic_in_on_accept_error_leaves_the_client_in_the_queue",
        || {
            let config = config(|config| config.max_connections = Some(1000));
            expect_panics();
            let server = serve_with(config, Clumsy::default());
            let mut bystander = connect(server.addr);
            assert_eq!(round_trip(&mut bystander, b"before"), b"before");
            set_descriptor_limit(open_descriptors() as libc::rlim_t + 10);
            let mut files = Vec::new();
            while let Ok(file) = File::open("/dev/null") {
                files.push(file);
            }
            // The last descriptor is the client's own end.
            files.pop();
            let mut client = connect(server.addr);
            send(&mut client, b"new");
            server.until("it panicked", |stats| stats.panics == 1);
            assert_eq!(round_trip(&mut bystander, b"after"), b"after");
            files.pop();
            assert_eq!(read_exactly(&mut client, 3), b"new");
            files.clear();
            drop((bystander, client));
            let ended = server.end(PATIENCE / 3);
            assert_eq!(ended.handler.accept_errors, 1);
            assert_eq!(ended.result.unwrap().stats.panics, 1);
        },
    );
}

#[test]
fn a_thousand_panics_leak_nothing() {
    const PANICS: usize = 1_000;
    process::alone("a_thousand_panics_leak_nothing", || {
        let server = clumsy(Where::Read);
        let mut bystander = connect(server.addr);
        assert_eq!(round_trip(&mut bystander, b"before"), b"before");
        let before = open_descriptors();
        for _ in 0..PANICS {
            let mut victim = connect(server.addr);
            send(&mut victim, b"V");
            read_to_end_or_reset(&mut victim);
        }
        server.until("all are gone", |stats| stats.open == 1);
        assert!(eventually(PATIENCE, || open_descriptors() == before));
        assert_eq!(round_trip(&mut bystander, b"after"), b"after");
        drop(bystander);
        let ended = server.end(PATIENCE / 3);
        let stats = ended.result.unwrap().stats;
        assert_eq!((stats.panics, stats.buffered), (PANICS as u64, 0));
    });
}

// What the policy and the beginning have to say.

struct Explosive {
    at_start: bool,
    at_stop: bool,
}

impl Handler for Explosive {
    type Session = ();

    fn on_start(&mut self, _: &mut Context<'_>, _: &Handle<Self>) -> io::Result<()> {
        panic_if(self.at_start);
        Ok(())
    }

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        Ok(())
    }

    fn on_read(&mut self, _: &mut Conn<'_>, (): &mut (), _: &mut Input<'_>) -> io::Result<()> {
        std::panic::panic_any(ON_PURPOSE);
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _: TimerId) {
        cx.shutdown(Duration::ZERO);
    }

    fn on_stop(&mut self, _: &mut Context<'_>) {
        panic_if(self.at_stop);
    }
}

fn explosive(at_start: bool, at_stop: bool, policy: PanicPolicy) -> Reactor<Explosive> {
    expect_panics();
    let config = config(|config| config.panic_policy = policy);
    Reactor::with_config(Explosive { at_start, at_stop }, config).unwrap()
}

#[test]
fn a_propagated_panic_leaves_the_run_with_its_words() {
    let mut reactor = explosive(false, false, PanicPolicy::Propagate);
    let id = reactor.listen("127.0.0.1:0").unwrap();
    let addr = util::ip(reactor.listener(id).unwrap().local_addr());
    let handle = reactor.handle();
    let mut client = connect(addr);
    send(&mut client, b"x");
    // If it does not leave, the run ends all the same.
    let end = handle.post(|_, cx| _ = cx.set_timer(cx.now() + PATIENCE));
    end.unwrap();
    let left = catch_unwind(AssertUnwindSafe(|| reactor.run())).unwrap_err();
    assert_eq!(left.downcast_ref::<&str>(), Some(&ON_PURPOSE));
    drop(reactor);
    assert_eq!(handle.post(|_, _| ()), Err(PostError::Stopped));
    assert_eq!(read_to_end_or_reset(&mut client).0, b"");
}

#[test]
fn a_panic_in_on_start_is_a_failed_start() {
    let mut reactor = explosive(true, false, PanicPolicy::Isolate);
    assert_eq!(reactor.run().unwrap_err().to_string(), "on_start panicked");
    assert!(reactor.run().is_err());
}

#[test]
fn a_panic_in_on_stop_is_counted_and_the_run_ends() {
    let mut reactor = explosive(false, true, PanicPolicy::Isolate);
    reactor.handle().shutdown(Duration::ZERO).unwrap();
    assert_eq!(reactor.run().unwrap().stats.panics, 1);
    assert!(Config::default().panic_policy == PanicPolicy::Isolate);
}
