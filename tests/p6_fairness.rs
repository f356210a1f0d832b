//! P6: nobody starves, and nobody is forgotten.
//!
//! Where turns are counted, the loop is turned by the test itself, on its own thread: what
//! a client has sent over loopback is in the server's kernel buffer before the next turn
//! begins, so that a count of turns is exact.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util;

use std::collections::HashMap;
use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use util::{
    KIB, MIB, PATIENCE, Recorder, assert_same, config, connect, connect_many, connect_small,
    finish, is_silent, ms, pattern, read_exactly, read_to_eof, round_trip, send, serve_on,
    serve_with,
};
use windlass::sim::World;
use windlass::{
    Config, Conn, ConnId, Context, Handle, Handler, Input, Listen, ListenerId, Reactor, TimerId,
};

/// Turns that a served client may wait: one in which its bytes are found, one to spare.
const A_FEW_TURNS: u64 = 2;

/// Those who ping.
const PINGERS: usize = 50;

/// Answers each `?` with the number of the turn that saw it; consumes everything else.
#[derive(Default)]
struct Counter {
    /// Bytes by connection.
    bytes: HashMap<ConnId, u64>,
    /// Bytes by turn and connection: what a budget is about.
    by_turn: HashMap<(u64, ConnId), u64>,
    accepts_by_turn: HashMap<u64, u32>,
    answered: u64,
    posts_seen: u64,
}

impl Handler for Counter {
    type Session = ();

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        let turn = conn.cx().stats().turns;
        *self.accepts_by_turn.entry(turn).or_default() += 1;
        Ok(())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        (): &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        let bytes = input.take_all();
        let turn = conn.cx().stats().turns;
        *self.bytes.entry(conn.id()).or_default() += bytes.len() as u64;
        *self.by_turn.entry((turn, conn.id())).or_default() += bytes.len() as u64;
        if bytes.ends_with(b"?") {
            self.answered += 1;
            conn.write(b"!");
        }
        Ok(())
    }
}

/// A loop in the hands of the test.
struct Bench {
    reactor: Reactor<Counter>,
    addr: SocketAddr,
}

impl Bench {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let mut reactor = Reactor::with_config(Counter::default(), config(change)).unwrap();
        let id = reactor.listen("127.0.0.1:0").unwrap();
        let addr = util::ip(reactor.listener(id).unwrap().local_addr());
        Self { reactor, addr }
    }

    fn turn(&mut self) {
        let _ = self.reactor.turn(Some(Duration::ZERO)).unwrap();
    }

    /// Turns until it holds.
    #[track_caller]
    fn until(&mut self, mut holds: impl FnMut(&Reactor<Counter>) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(&self.reactor) {
            assert!(
                Instant::now() < deadline,
                "stuck: {:?}",
                self.reactor.stats()
            );
            let _ = self.reactor.turn(Some(ms(20))).unwrap();
        }
    }

    fn clients(&mut self, n: usize) -> Vec<TcpStream> {
        let before = self.reactor.stats().accepted;
        let clients = connect_many(self.addr, n);
        self.until(|reactor| reactor.stats().accepted == before + n as u64);
        clients
    }

    fn answered(&self) -> u64 {
        self.reactor.handler().answered
    }
}

/// Fills whatever room the kernel has; the sender never waits.
fn stuff(flooder: &mut TcpStream, chunk: &[u8]) {
    flooder.set_nonblocking(true).unwrap();
    loop {
        match flooder.write(chunk) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("the flooder: {error}"),
        }
    }
}

#[track_caller]
fn pingers_wait_a_few_turns_beside(flooders: usize) {
    let mut bench = Bench::new(|_| {});
    let mut flooders = bench.clients(flooders);
    let mut pingers = bench.clients(PINGERS);
    let chunk = vec![b'x'; 256 * KIB];
    for round in 1..=30 {
        for flooder in &mut flooders {
            stuff(flooder, &chunk);
        }
        for pinger in &mut pingers {
            send(pinger, b"?");
        }
        let began = bench.reactor.stats().turns;
        while bench.answered() < round * PINGERS as u64 {
            bench.turn();
            let took = bench.reactor.stats().turns - began;
            assert!(took <= A_FEW_TURNS, "round {round}: {took} turns");
        }
        for pinger in &mut pingers {
            assert_eq!(read_exactly(pinger, 1), b"!");
        }
    }
    // The flooders had their share as well, and no more than it.
    let budget = Config::default().read_budget + Config::default().read_buffer;
    let app = bench.reactor.handler();
    let flooded = app
        .bytes
        .values()
        .filter(|&&bytes| bytes > 100 * KIB as u64);
    assert_eq!(flooded.count(), flooders.len());
    let most = app.by_turn.values().max().unwrap();
    assert!(*most <= budget as u64, "{most} bytes in one turn");
}

#[test]
fn one_flooder_lets_fifty_others_through() {
    pingers_wait_a_few_turns_beside(1);
}

#[test]
fn eight_flooders_let_fifty_others_through() {
    pingers_wait_a_few_turns_beside(8);
}

#[test]
fn beside_a_flood_from_another_thread_answers_stay_quick() {
    let server = serve_with(Config::default(), Recorder::echo().without_bytes());
    let mut flooder = connect(server.addr);
    let mut reader = flooder.try_clone().unwrap();
    let enough = Arc::new(AtomicBool::new(false));
    let flood = {
        let enough = Arc::clone(&enough);
        thread::spawn(move || {
            let chunk = vec![b'x'; 64 * KIB];
            while !enough.load(Ordering::Relaxed) && flooder.write_all(&chunk).is_ok() {}
            finish(&flooder);
        })
    };
    let drain = thread::spawn(move || io::copy(&mut reader, &mut io::sink()).unwrap());
    let mut pingers = connect_many(server.addr, PINGERS);
    let mut latencies = Vec::new();
    for _ in 0..20 {
        for pinger in &mut pingers {
            let began = Instant::now();
            assert_eq!(round_trip(pinger, b"ping"), b"ping");
            latencies.push(began.elapsed());
        }
    }
    enough.store(true, Ordering::Relaxed);
    flood.join().unwrap();
    let flooded = drain.join().unwrap();
    assert!(flooded > MIB as u64, "no flood: {flooded} bytes");
    latencies.sort();
    let (median, worst) = (
        latencies[latencies.len() / 2],
        latencies[latencies.len() - 1],
    );
    assert!(median < ms(20), "half of them waited {median:?}");
    assert!(worst < ms(500), "somebody waited {worst:?}");
    drop(pingers);
    server.stop();
}

// Nobody is forgotten.

/// A peer sends exactly `total` bytes and then only waits. If the loop forgot the source
/// at a budget, nothing would ever wake it again.
#[track_caller]
fn every_byte_comes(total: usize, what: &str, change: impl Fn(&mut Config)) {
    let mut seen = 0;
    let recorder = Recorder::new().without_bytes().read(move |conn, input| {
        seen += input.take_all().len();
        if seen == total {
            conn.write(b"all");
        }
        Ok(())
    });
    let server = serve_with(config(change), recorder);
    let mut client = connect(server.addr);
    send(&mut client, &vec![b'x'; total]);
    assert_eq!(read_exactly(&mut client, 3), b"all", "{what}");
    drop(client);
    server.stop();
}

#[test]
fn a_source_cut_short_by_its_budget_is_not_forgotten() {
    for read_buffer in [1, 7, 64, 4096] {
        for read_budget in [1, 100, 5000] {
            for read_calls in [1, 3] {
                let what = format!("{read_buffer}, {read_budget}, {read_calls}");
                every_byte_comes(5000, &what, |config| {
                    config.read_buffer = read_buffer;
                    config.read_budget = read_budget;
                    config.read_calls = read_calls;
                });
            }
        }
    }
}

#[test]
fn bytes_that_exactly_fill_the_buffer_or_the_budget_are_no_special_case() {
    for total in [4095, 4096, 4097, 8192, 12_288, 65_536] {
        every_byte_comes(total, &total.to_string(), |config| {
            config.read_buffer = 4096;
            config.read_budget = 8192;
            config.read_calls = 2;
        });
    }
}

/// Echoes everything it gets only at the end, so that it must have come whole and in order.
#[track_caller]
fn comes_whole(config: Config, recorder: Recorder, total: usize) {
    let server = serve_with(config, recorder);
    let log = server.ask(|app, _| app.log.clone());
    let bytes = pattern(total, total as u64);
    let mut client = connect(server.addr);
    send(&mut client, &bytes);
    finish(&client);
    log.wait_for("eof", 1);
    let id = log.events().iter().find_map(|event| event.conn).unwrap();
    assert_same(&log.bytes_of(id), &bytes);
    read_to_eof(&mut client);
    server.stop();
}

/// Accepted sockets hold little, so that output soon has to wait in the loop.
fn narrow_listen() -> Listen {
    let listen = Listen::new("127.0.0.1:0").unwrap();
    listen.send_buffer(16 * KIB).receive_buffer(16 * KIB)
}

fn tiny(config: &mut Config) {
    config.read_buffer = 512;
    config.read_budget = 700;
    config.read_calls = 2;
}

#[test]
fn a_source_that_pauses_itself_and_is_woken_is_not_forgotten() {
    let recorder = Recorder::new()
        .read(|conn, input| {
            input.take_all();
            conn.pause();
            let id = conn.id();
            assert!(conn.cx().wake(id));
            Ok(())
        })
        .wake(|conn| {
            conn.resume();
            Ok(())
        });
    comes_whole(config(tiny), recorder, 100 * KIB);
}

#[test]
fn a_source_that_is_resumed_in_the_same_callback_is_not_forgotten() {
    let recorder = Recorder::new().read(|conn, input| {
        input.take_all();
        conn.pause();
        conn.resume();
        Ok(())
    });
    comes_whole(config(tiny), recorder, 100 * KIB);
}

#[test]
fn a_source_that_is_resumed_by_a_timer_is_not_forgotten() {
    let recorder = Recorder::new()
        .read(|conn, input| {
            input.take_all();
            conn.pause();
            let soon = conn.now() + ms(1);
            conn.set_timer(soon);
            Ok(())
        })
        .timeout(|conn, _| {
            conn.resume();
            Ok(())
        });
    comes_whole(config(tiny), recorder, 30 * KIB);
}

#[test]
fn a_source_paused_before_its_first_byte_is_not_forgotten() {
    let recorder = Recorder::new().accept(|conn| {
        conn.pause();
        Ok(())
    });
    let server = serve_with(Config::default(), recorder);
    let mut client = connect(server.addr);
    send(&mut client, b"early");
    finish(&client);
    let log = server.ask(|app, _| app.log.clone());
    log.wait_for("accept", 1);
    let id = log.events().iter().find_map(|event| event.conn).unwrap();
    // Several turns, and the bytes and the FIN are there, but nobody looks.
    for _ in 0..5 {
        server.ask(|_, _| ());
    }
    assert_eq!((log.count("read"), log.count("eof")), (0, 0));
    server.ask(move |_, cx| cx.conn(id).unwrap().resume());
    log.wait_for("eof", 1);
    assert_eq!(log.bytes_of(id), b"early");
    server.stop();
}

#[test]
fn a_source_paused_by_its_own_full_output_is_not_forgotten() {
    const TOTAL: usize = 3 * MIB;
    let small = config(|config| {
        config.limits.low = 4 * KIB;
        config.limits.high = 16 * KIB;
        config.read_budget = 32 * KIB;
    });
    let server = serve_on(small, narrow_listen(), Recorder::echo().without_bytes());
    let mut client = connect_small(server.addr, 16 * KIB);
    let mut sender = client.try_clone().unwrap();
    let bytes = pattern(TOTAL, 6);
    let sent = bytes.clone();
    let sending = thread::spawn(move || {
        sender.write_all(&sent).unwrap();
        finish(&sender);
    });
    // Nobody reads until everything is stuck.
    server.until("the output is full", |stats| {
        stats.buffered > 16 * KIB as u64
    });
    assert_same(&read_to_eof(&mut client), &bytes);
    sending.join().unwrap();
    let (_, summary) = server.stop();
    assert_eq!(summary.stats.bytes_written, TOTAL as u64);
}

#[test]
fn sources_parked_by_the_memory_limit_are_not_forgotten() {
    const MUCH: usize = MIB;
    let config = config(|config| config.memory_limit = 256 * KIB);
    let recorder = Recorder::new().without_bytes().read(|conn, input| {
        match input.take_all() {
            b"much" => conn.write(&pattern(MUCH, 7)),
            other => conn.write(other),
        };
        Ok(())
    });
    let server = serve_on(config, narrow_listen(), recorder);
    let mut bystander = connect(server.addr);
    assert_eq!(round_trip(&mut bystander, b"ping"), b"ping");
    // One client's output takes all the memory there is, until that client reads.
    let mut greedy = connect_small(server.addr, 16 * KIB);
    send(&mut greedy, b"much");
    server.until("memory is short", |stats| stats.buffered > 256 * KIB as u64);
    send(&mut bystander, b"ping");
    let mut newcomer = connect(server.addr);
    send(&mut newcomer, b"ping");
    for _ in 0..20 {
        server.ask(|_, _| ());
    }
    assert!(is_silent(&bystander) && is_silent(&newcomer));
    assert_same(&read_exactly(&mut greedy, MUCH), &pattern(MUCH, 7));
    assert_eq!(read_exactly(&mut bystander, 4), b"ping");
    assert_eq!(read_exactly(&mut newcomer, 4), b"ping");
    drop((bystander, newcomer, greedy));
    server.stop();
}

#[test]
fn leftovers_and_new_bytes_meet_whatever_the_budget() {
    const RECORD: usize = 900;
    let mut records = 0_u32;
    let recorder = Recorder::new().without_bytes().read(move |conn, input| {
        while input.take(RECORD).is_some() {
            records += 1;
            conn.write(&records.to_le_bytes());
        }
        Ok(())
    });
    let server = serve_with(config(tiny), recorder);
    let mut client = connect(server.addr);
    send(&mut client, &vec![b'x'; RECORD * 40]);
    let answers = read_exactly(&mut client, 4 * 40);
    assert_eq!(answers[4 * 39..], 40_u32.to_le_bytes());
    drop(client);
    server.stop();
}

#[test]
fn reading_again_by_request_does_not_starve_the_others() {
    let recorder = Recorder::new().without_bytes().read(|conn, input| {
        if input.first() == Some(&b'L') {
            // Never consumes, and wants to be asked again in every turn.
            conn.read_again();
            return Ok(());
        }
        conn.write(input.take_all());
        Ok(())
    });
    let server = serve_with(Config::default(), recorder);
    let mut looper = connect(server.addr);
    send(&mut looper, b"L");
    let mut client = connect(server.addr);
    for _ in 0..50 {
        let began = Instant::now();
        assert_eq!(round_trip(&mut client, b"ping"), b"ping");
        assert!(began.elapsed() < ms(500));
    }
    drop((client, looper));
    server.stop();
}

// Everything else has a budget, too.

/// Reads nothing until somebody says so.
struct Sleeper {
    id: Option<ConnId>,
}

impl Handler for Sleeper {
    type Session = ();

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        conn.pause();
        self.id = Some(conn.id());
        Ok(())
    }
}

#[test]
fn the_first_read_of_an_event_counts_towards_the_budget() {
    let config = config(|config| {
        config.read_buffer = 4;
        config.read_calls = 1;
    });
    let mut world = World::with_config(1, Reader, config);
    let addr = world.listen("127.0.0.1:7");
    let client = world.connect(addr);
    world.run();
    world.send(client, &[7; 100]);
    while world.stats().bytes_read < 100 {
        let before = world.stats();
        world.turn(Duration::ZERO);
        let calls = world.stats().reads - before.reads;
        assert!(calls <= 1, "{calls} read calls in one turn");
    }
}

/// Consumes and forgets.
struct Reader;

impl Handler for Reader {
    type Session = ();

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn whoever_is_on_the_ready_list_and_has_news_has_one_budget_a_turn() {
    const WINDOW: usize = 4;
    let config = config(|config| config.read_calls = 1);
    let mut world = World::with_config(1, Sleeper { id: None }, config);
    world.faults().buffers(WINDOW, WINDOW);
    let addr = world.listen("127.0.0.1:7");
    let client = world.connect(addr);
    world.send(client, &[7; 100]);
    world.run();
    let id = world.handler().id.unwrap();
    world.conn(id).unwrap().resume();
    // On the ready list, and reported as well: what was read makes room for as much again.
    world.faults().spurious();
    while world.stats().bytes_read < 100 {
        let before = world.stats();
        world.turn(Duration::ZERO);
        let calls = world.stats().reads - before.reads;
        assert!(calls <= 1, "{calls} read calls in one turn");
    }
}

#[test]
fn a_burst_of_newcomers_lets_the_established_through() {
    let mut bench = Bench::new(|config| config.accept_budget = 4);
    let mut pingers = bench.clients(10);
    let newcomers = connect_many(bench.addr, 300);
    let mut round = 0;
    while bench.reactor.stats().accepted < 310 {
        round += 1;
        assert!(round < 1000, "{:?}", bench.reactor.stats());
        for pinger in &mut pingers {
            send(pinger, b"?");
        }
        bench.turn();
        assert_eq!(bench.answered(), round * 10, "served in the turn at hand");
        for pinger in &mut pingers {
            assert_eq!(read_exactly(pinger, 1), b"!");
        }
    }
    let most = bench.reactor.handler().accepts_by_turn.values().max();
    assert_eq!(most, Some(&4));
    drop(newcomers);
}

#[test]
fn a_flood_of_posts_lets_the_established_through() {
    const BUDGET: usize = 100;
    let mut bench = Bench::new(|config| config.post_budget = BUDGET);
    let mut pingers = bench.clients(10);
    let handle = bench.reactor.handle();
    for _ in 0..20 * BUDGET {
        handle.post(|app, _| app.posts_seen += 1).unwrap();
    }
    for round in 1..=20 {
        for pinger in &mut pingers {
            send(pinger, b"?");
        }
        bench.turn();
        assert_eq!(bench.answered(), round * 10, "served in the turn at hand");
        assert_eq!(bench.reactor.handler().posts_seen, round * BUDGET as u64);
    }
}

#[test]
fn posts_that_post_themselves_again_let_everybody_else_run() {
    fn again(handle: &Handle<Counter>) {
        let next = handle.clone();
        let _ = handle.post(move |app, _| {
            app.posts_seen += 1;
            again(&next);
        });
    }
    let server = serve_with(Config::default(), Counter::default());
    for _ in 0..100 {
        again(&server.handle);
    }
    let mut client = connect(server.addr);
    for _ in 0..50 {
        let began = Instant::now();
        assert_eq!(round_trip(&mut client, b"?"), b"!");
        assert!(began.elapsed() < ms(500));
    }
    drop(client);
    let (app, _) = server.stop();
    assert!(app.posts_seen > 1000);
}

#[test]
fn timers_that_set_themselves_again_let_everybody_else_run() {
    struct Ticker(u64);
    impl Handler for Ticker {
        type Session = ();

        fn on_start(&mut self, cx: &mut Context<'_>, _: &Handle<Self>) -> io::Result<()> {
            cx.set_timer(cx.now());
            Ok(())
        }

        fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
            Ok(())
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

        fn on_timer(&mut self, cx: &mut Context<'_>, _: TimerId) {
            self.0 += 1;
            cx.set_timer(cx.now());
        }
    }
    let server = serve_with(Config::default(), Ticker(0));
    let mut client = connect(server.addr);
    let mut rounds = 0;
    while server.ask(|app, _| app.0) < 50 {
        assert_eq!(round_trip(&mut client, b"ping"), b"ping");
        rounds += 1;
        assert!(rounds < 1_000_000, "the timer never fires");
    }
    drop(client);
    server.stop();
}

#[test]
fn a_closing_connection_that_is_still_sent_to_lets_the_others_through() {
    let config = config(|config| {
        config.drain_limit = 256 * MIB;
        config.linger = PATIENCE;
    });
    let recorder = Recorder::new().without_bytes().read(|conn, input| {
        if input.first() == Some(&b'Q') {
            conn.write(b"bye");
            conn.close();
            return Ok(());
        }
        conn.write(input.take_all());
        Ok(())
    });
    let server = serve_with(config, recorder);
    let mut leaving = connect(server.addr);
    send(&mut leaving, b"Q");
    let enough = Arc::new(AtomicBool::new(false));
    let flood = {
        let enough = Arc::clone(&enough);
        let mut leaving = leaving.try_clone().unwrap();
        thread::spawn(move || {
            let chunk = vec![b'x'; 64 * KIB];
            let mut sent = 0;
            while !enough.load(Ordering::Relaxed) && sent < 200 * MIB {
                leaving.write_all(&chunk).unwrap();
                sent += chunk.len();
            }
        })
    };
    let mut client = connect(server.addr);
    for _ in 0..100 {
        let began = Instant::now();
        assert_eq!(round_trip(&mut client, b"ping"), b"ping");
        assert!(began.elapsed() < ms(500));
    }
    enough.store(true, Ordering::Relaxed);
    flood.join().unwrap();
    assert_eq!(read_to_eof(&mut leaving), b"bye");
    drop((client, leaving));
    server.stop();
}

/// Counts who was accepted by which listener.
#[derive(Default)]
struct Doors {
    open: Vec<ConnId>,
    accepted: HashMap<ListenerId, usize>,
}

impl Handler for Doors {
    type Session = ();

    fn on_accept(&mut self, conn: &mut Conn<'_>, listener: ListenerId) -> io::Result<()> {
        self.open.push(conn.id());
        *self.accepted.entry(listener).or_default() += 1;
        Ok(())
    }
}

#[test]
fn listeners_that_wait_for_room_take_turns() {
    const DOORS: usize = 3;
    const ROUNDS: usize = 30;
    let config = config(|config| config.max_connections = Some(4));
    let mut reactor = Reactor::with_config(Doors::default(), config).unwrap();
    let mut crowds = Vec::new();
    for _ in 0..DOORS {
        let id = reactor.listen("127.0.0.1:0").unwrap();
        let addr = util::ip(reactor.listener(id).unwrap().local_addr());
        crowds.push(connect_many(addr, 4 + ROUNDS));
    }
    let mut accepted = 4;
    let deadline = Instant::now() + PATIENCE;
    while accepted <= 4 + ROUNDS {
        while reactor.stats().accepted < accepted as u64 {
            assert!(Instant::now() < deadline, "{:?}", reactor.stats());
            let _ = reactor.turn(Some(ms(20))).unwrap();
        }
        // Everybody has seen by now that there is no room.
        for _ in 0..4 {
            let _ = reactor.turn(Some(Duration::ZERO)).unwrap();
        }
        let made_room = reactor.handle().post(|app, cx| {
            let oldest = app.open.remove(0);
            cx.conn(oldest).unwrap().abort();
        });
        made_room.unwrap();
        accepted += 1;
    }
    let accepted = &reactor.handler().accepted;
    let least = accepted.values().min().unwrap();
    assert_eq!(accepted.len(), DOORS);
    assert!(*least >= ROUNDS / DOORS / 2, "{accepted:?}");
}
