//! P5: accepting neither spins nor stalls, whatever runs out.
//!
//! A limit of descriptors holds for a process, so the servers that run out of them are
//! processes of their own (this binary again, in the role of [`server_process`]), and the
//! clients are here, where descriptors abound.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

#[path = "util/process.rs"]
mod process;
mod util;

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use process::{Puppet, say};
use util::{
    PATIENCE, Server, config, connect, cpu_time, eventually, is_silent, ms, serve_on, serve_with,
};
use windlass::{
    Closed, Config, Conn, ConnId, Context, Error, Handler, Input, Listen, ListenerId, Overload,
    Reactor, Recovery,
};

/// What every client is greeted with, so that it knows that it was accepted.
const GREETING: u8 = b'!';

/// Descriptors that a server process may have.
const FEW: u32 = 64;

const CLIENTS: usize = 200;

/// The promise: served so soon after a descriptor came back.
const SOON: Duration = Duration::from_millis(50);

/// The same for the worst of many on a machine with other things to do.
const SOON_ENOUGH: Duration = Duration::from_millis(250);

/// A back-off so long that whoever is served soon was not served by it.
const NEVER_MIND: Duration = Duration::from_secs(20);

// The server.

/// Greets, then echoes; remembers who is open, oldest first.
#[derive(Default)]
struct Greeter {
    open: VecDeque<ConnId>,
    /// The texts of `on_accept_error`, and what each says to do.
    reports: Vec<(String, Recovery)>,
    accepts_by_turn: HashMap<u64, u32>,
}

impl Handler for Greeter {
    type Session = ();

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        self.open.push_back(conn.id());
        let turn = conn.cx().stats().turns;
        *self.accepts_by_turn.entry(turn).or_default() += 1;
        conn.write(&[GREETING]);
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

    fn on_close(&mut self, _: &mut Context<'_>, (): (), closed: &Closed) {
        self.open.retain(|&id| id != closed.id);
    }

    fn on_accept_error(&mut self, _: &mut Context<'_>, _: ListenerId, error: &Error) {
        self.reports.push((error.to_string(), error.recovery()));
    }
}

/// Counts what the crate logs at a level that people see.
struct Counting;

static LOGGED: AtomicU64 = AtomicU64::new(0);

impl log::Log for Counting {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.target().starts_with("windlass") {
            LOGGED.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// No test, but what the tests start: a server under a limit, led by lines on its input.
#[test]
fn server_process() {
    let Some(role) = process::role() else {
        return;
    };
    log::set_logger(&Counting).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let server = serve_with(config_of(&role), Greeter::default());
    say(server.addr);
    let mut files = Vec::new();
    for line in io::stdin().lines().map_while(Result::ok) {
        say(obey(&line, &server, &mut files));
    }
    server.stop_now();
}

fn config_of(role: &str) -> Config {
    config(|config| {
        for word in role.split(' ') {
            match word {
                "uncapped" => config.max_connections = Some(10_000),
                "shed" => config.overload = Overload::Shed,
                "patient" => {
                    config.accept_backoff_min = NEVER_MIND;
                    config.accept_backoff_max = NEVER_MIND;
                }
                "default" => {}
                other => panic!("no such role: {other}"),
            }
        }
    })
}

fn obey(command: &str, server: &Server<Greeter>, files: &mut Vec<File>) -> String {
    let listener = server.listener;
    match command {
        "cpu" => cpu_time().as_nanos().to_string(),
        "logged" => LOGGED.load(Ordering::Relaxed).to_string(),
        "accepted" => server.stats().accepted.to_string(),
        "open" => server.stats().open.to_string(),
        "shed" => server.stats().shed.to_string(),
        "turns" => server.stats().turns.to_string(),
        "backoffs" => server.stats().backoffs.to_string(),
        "reports" => server.ask(|app, _| format!("{:?}", app.reports)),
        // Occupies every descriptor that is left.
        "occupy" => {
            while let Ok(file) = File::open("/dev/null") {
                files.push(file);
            }
            files.len().to_string()
        }
        // Something else than the loop gives one back.
        "release" => {
            files.pop();
            files.len().to_string()
        }
        "vacate" => {
            files.clear();
            "0".to_owned()
        }
        // The loop gives one back.
        "close" => server.ask(|app, cx| {
            let oldest = app.open.pop_front().expect("somebody is open");
            cx.conn(oldest).expect("it is open").abort();
            "1".to_owned()
        }),
        "stop listening" => server.ask(move |_, cx| {
            cx.listener(listener).expect("it is open").close();
            "1".to_owned()
        }),
        "listening" => {
            server.ask(move |_, cx| u8::from(cx.listener(listener).is_some()).to_string())
        }
        other => panic!("no such command: {other}"),
    }
}

fn start(role: &str) -> (Puppet, SocketAddr) {
    let puppet = Puppet::start("server_process", role, FEW);
    let addr = puppet.answer().parse().unwrap();
    (puppet, addr)
}

// The clients.

fn crowd(addr: SocketAddr, n: usize) -> VecDeque<TcpStream> {
    (0..n).map(|_| connect(addr)).collect()
}

#[track_caller]
fn greeted(client: &mut TcpStream) {
    let mut byte = [0];
    client.read_exact(&mut byte).expect("a greeting");
    assert_eq!(byte[0], GREETING);
}

#[track_caller]
fn ping(client: &mut TcpStream) -> Duration {
    let began = Instant::now();
    client.write_all(b"ping").unwrap();
    let mut answer = [0; 4];
    client.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"ping");
    began.elapsed()
}

/// What happens to a client that is not wanted: FIN or RST, and nothing else.
#[track_caller]
fn is_sent_away(client: &mut TcpStream) {
    match client.read(&mut [0]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("expected to be sent away, got {other:?}"),
    }
}

/// Said aloud: past the harness, which shows only what failing tests print.
fn skipped(why: &str) {
    let _ = writeln!(io::stderr(), "not everything was tested: {why}");
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// A second and more of exhaustion: nearly no processor time, and whoever is established is
/// served all the while.
#[track_caller]
fn rests_but_serves(puppet: &mut Puppet, established: &mut [TcpStream]) {
    let (cpu, began) = (puppet.ask_number("cpu"), Instant::now());
    let mut latencies = Vec::new();
    while began.elapsed() < ms(1300) {
        for client in established.iter_mut().take(2) {
            latencies.push(ping(client));
        }
        thread::sleep(ms(50));
    }
    let used = Duration::from_nanos(puppet.ask_number("cpu") - cpu);
    let share = used.as_secs_f64() / began.elapsed().as_secs_f64();
    assert!(share < 0.05, "used {used:?}, {:.1} %", share * 100.0);
    assert!(median(&mut latencies) < SOON, "{latencies:?}");
    assert!(
        latencies.iter().all(|&took| took < SOON_ENOUGH),
        "{latencies:?}"
    );
}

#[track_caller]
fn one_report(puppet: &mut Puppet, addr: SocketAddr) {
    let expected = format!("accept tcp {addr}: accept4: too many open files");
    assert_eq!(
        puppet.ask("reports"),
        format!("{:?}", [(expected, Recovery::BackOff)])
    );
    assert_eq!(puppet.ask_number("backoffs"), 1);
}

#[track_caller]
fn hardly_a_word(puppet: &mut Puppet) {
    let logged = puppet.ask_number("logged");
    assert!(logged <= 4, "{logged} lines logged");
}

// Without descriptors.

#[test]
fn out_of_descriptors_the_loop_rests_and_serves_the_established() {
    let (mut puppet, addr) = start("uncapped");
    let mut first: Vec<_> = crowd(addr, 10).into();
    first.iter_mut().for_each(greeted);
    let _more = crowd(addr, CLIENTS - first.len());
    puppet.until("backoffs", |n| n >= 1);
    rests_but_serves(&mut puppet, &mut first);
    one_report(&mut puppet, addr);
    hardly_a_word(&mut puppet);
    puppet.finish();
}

#[test]
fn a_descriptor_freed_by_the_loop_serves_the_next_client_at_once() {
    let (mut puppet, addr) = start("uncapped patient");
    let mut clients = crowd(addr, CLIENTS);
    puppet.until("backoffs", |n| n >= 1);
    let open = puppet.ask_number("open") as usize;
    assert!(open < FEW as usize);
    clients.iter_mut().take(open).for_each(greeted);
    let mut times = Vec::new();
    for client in clients.iter_mut().skip(open) {
        assert!(is_silent(client));
        let freed = Instant::now();
        puppet.ask("close");
        greeted(client);
        times.push(freed.elapsed());
    }
    assert!(times.iter().all(|&took| took < NEVER_MIND / 2));
    assert!(median(&mut times) < SOON, "{times:?}");
    hardly_a_word(&mut puppet);
    puppet.finish();
}

#[test]
fn a_descriptor_freed_by_something_else_serves_the_next_client_soon() {
    let (mut puppet, addr) = start("uncapped");
    let mut first: Vec<_> = crowd(addr, 10).into();
    first.iter_mut().for_each(greeted);
    let files = puppet.ask_number("occupy") as usize;
    let mut clients = crowd(addr, CLIENTS - first.len());
    puppet.until("backoffs", |n| n >= 1);
    let mut times = Vec::new();
    for (at, client) in clients.iter_mut().take(files.min(20)).enumerate() {
        if at % 4 == 0 {
            // Let the wait grow to its longest.
            thread::sleep(ms(120));
        }
        assert!(is_silent(client));
        let freed = Instant::now();
        puppet.ask("release");
        greeted(client);
        times.push(freed.elapsed());
        ping(&mut first[at % 10]);
    }
    assert!(times.len() >= 12);
    assert!(times.iter().all(|&took| took < SOON_ENOUGH), "{times:?}");
    assert!(median(&mut times) <= SOON, "{times:?}");
    hardly_a_word(&mut puppet);
    puppet.finish();
}

#[test]
fn everybody_in_the_queue_is_served_in_the_end_without_a_new_client() {
    let (mut puppet, addr) = start("uncapped");
    let mut clients = crowd(addr, CLIENTS);
    while let Some(mut client) = clients.pop_front() {
        greeted(&mut client);
        ping(&mut client);
    }
    assert_eq!(puppet.ask_number("accepted"), CLIENTS as u64);
    puppet.until("open", |open| open == 0);
    puppet.finish();
}

#[test]
fn shedding_sends_clients_away_at_once_and_serves_the_established() {
    let (mut puppet, addr) = start("uncapped shed");
    let mut first: Vec<_> = crowd(addr, 10).into();
    first.iter_mut().for_each(greeted);
    let files = puppet.ask_number("occupy");
    assert!(files > 0);
    let began = Instant::now();
    for mut client in crowd(addr, CLIENTS - first.len()) {
        is_sent_away(&mut client);
    }
    assert!(began.elapsed() < PATIENCE / 3, "{:?}", began.elapsed());
    assert_eq!(puppet.ask_number("shed"), (CLIENTS - first.len()) as u64);
    rests_but_serves(&mut puppet, &mut first);
    one_report(&mut puppet, addr);
    hardly_a_word(&mut puppet);

    puppet.ask("vacate");
    for mut client in crowd(addr, 5) {
        greeted(&mut client);
        ping(&mut client);
    }
    puppet.finish();
}

#[test]
fn shedding_goes_on_with_whoever_comes_later() {
    let (mut puppet, addr) = start("uncapped shed");
    puppet.ask("occupy");
    for _ in 0..50 {
        is_sent_away(&mut connect(addr));
    }
    puppet.ask("release");
    let mut lucky = connect(addr);
    greeted(&mut lucky);
    for _ in 0..20 {
        is_sent_away(&mut connect(addr));
    }
    ping(&mut lucky);
    puppet.finish();
}

#[test]
fn an_empty_queue_without_descriptors_does_not_spin() {
    let (mut puppet, addr) = start("uncapped");
    let mut first: Vec<_> = crowd(addr, 2).into();
    first.iter_mut().for_each(greeted);
    puppet.ask("occupy");
    // A listener that stops looks into its queue, and is told EMFILE although it is empty.
    puppet.ask("stop listening");
    puppet.until("backoffs", |n| n == 1);
    rests_but_serves(&mut puppet, &mut first);
    assert_eq!(puppet.ask_number("listening"), 1, "it could not look yet");
    puppet.ask("release");
    puppet.until("listening", |listening| listening == 0);
    assert_eq!(puppet.ask_number("accepted"), 2);
    puppet.finish();
}

#[test]
fn the_default_cap_keeps_clear_of_the_limit() {
    let (mut puppet, addr) = start("default");
    let mut clients = crowd(addr, CLIENTS);
    let room = u64::from(FEW) - Config::default().reserved_descriptors as u64;
    puppet.until("open", |open| open == room);
    let cpu = puppet.ask_number("cpu");
    thread::sleep(ms(400));
    assert!(is_silent(&clients[room as usize]));
    let used = Duration::from_nanos(puppet.ask_number("cpu") - cpu);
    assert!(used < ms(20), "used {used:?} at its cap");
    while let Some(mut client) = clients.pop_front() {
        greeted(&mut client);
    }
    assert_eq!(puppet.ask_number("backoffs"), 0);
    assert_eq!(puppet.ask("reports"), "[]");
    hardly_a_word(&mut puppet);
    puppet.finish();
}

// Caps, pauses and queues.

#[test]
fn a_listeners_own_cap_lets_the_others_wait() {
    let listen = Listen::new("127.0.0.1:0").unwrap().max_connections(3);
    let server = serve_on(Config::default(), listen, Greeter::default());
    let mut clients = crowd(server.addr, 8);
    for next in 3..8 {
        greeted(&mut clients[next - 3]);
        server.until("three are open", |stats| stats.open == 3);
        assert!(is_silent(&clients[next]), "client {next} must wait");
        let freed = Instant::now();
        server.ask(|app, cx| cx.conn(app.open[0]).unwrap().abort());
        while is_silent(&clients[next]) {
            assert!(freed.elapsed() < PATIENCE, "client {next} is forgotten");
            thread::yield_now();
        }
    }
    let listener = server.listener;
    let open = server.ask(move |_, cx| cx.listener(listener).unwrap().connections());
    assert_eq!(open, 3);
    server.stop_now();
}

#[test]
fn a_cap_of_one_listener_does_not_hold_for_another() {
    let listen = Listen::new("127.0.0.1:0").unwrap().max_connections(1);
    let server = serve_on(Config::default(), listen, Greeter::default());
    let other = server.ask(|_, cx| {
        let id = cx.listen("127.0.0.1:0").unwrap();
        util::ip(cx.listener(id).unwrap().local_addr())
    });
    let full = crowd(server.addr, 2);
    crowd(other, 5).iter_mut().for_each(greeted);
    assert!(is_silent(&full[1]));
    server.stop_now();
}

#[test]
fn pausing_and_resuming_lose_nobody() {
    let server = serve_with(
        config(|config| config.accept_budget = 2),
        Greeter::default(),
    );
    let listener = server.listener;
    let mut all = VecDeque::new();
    for _ in 0..10 {
        all.extend(crowd(server.addr, 7));
        server.ask(move |_, cx| cx.listener(listener).unwrap().pause());
        let during = crowd(server.addr, 5);
        assert!(server.ask(move |_, cx| cx.listener(listener).unwrap().is_paused()));
        assert!(during.iter().all(is_silent));
        all.extend(during);
        server.ask(move |_, cx| cx.listener(listener).unwrap().resume());
    }
    assert_eq!(all.len(), 120);
    all.iter_mut().for_each(greeted);
    server.stop_now();
}

#[test]
fn the_queue_can_be_asked_for() {
    let listen = Listen::new("127.0.0.1:0").unwrap().backlog(7);
    let server = serve_on(Config::default(), listen, Greeter::default());
    let listener = server.listener;
    let queue = move |_: &mut Greeter, cx: &mut Context<'_>| {
        let mut listener = cx.listener(listener).unwrap();
        (listener.queue().unwrap(), listener.backlog())
    };
    server.ask(move |_, cx| cx.listener(listener).unwrap().pause());
    assert_eq!(server.ask(queue), ((0, 7), 7));
    let mut clients = VecDeque::new();
    for waiting in 1..=5 {
        clients.push_back(connect(server.addr));
        assert_eq!(server.ask(queue), ((waiting, 7), 7));
    }
    server.ask(move |_, cx| cx.listener(listener).unwrap().resume());
    clients.iter_mut().for_each(greeted);
    assert_eq!(server.ask(queue), ((0, 7), 7));
    server.stop_now();
}

#[test]
fn the_effective_backlog_is_what_the_system_allows() {
    let mut reactor = Reactor::new(Greeter::default()).unwrap();
    let all = reactor.listen("127.0.0.1:0").unwrap();
    let listen = Listen::new("127.0.0.1:0").unwrap().backlog(1_000_000_000);
    let more = reactor.listen(listen).unwrap();
    for id in [all, more] {
        let mut listener = reactor.listener(id).unwrap();
        let (_, limit) = listener.queue().unwrap();
        assert_eq!(listener.backlog(), limit);
        if let Ok(system) = std::fs::read_to_string("/proc/sys/net/core/somaxconn") {
            assert_eq!(system.trim(), limit.to_string());
        }
    }
}

#[test]
fn a_listener_that_stops_serves_its_queue_first() {
    let server = serve_with(Config::default(), Greeter::default());
    let listener = server.listener;
    server.ask(move |_, cx| cx.listener(listener).unwrap().pause());
    let mut clients = crowd(server.addr, 50);
    server.ask(move |_, cx| cx.listener(listener).unwrap().close());
    clients.iter_mut().for_each(greeted);
    for client in &mut clients {
        ping(client);
    }
    let gone = eventually(PATIENCE, || {
        server.ask(move |_, cx| cx.listener(listener).is_none())
    });
    assert!(gone, "the listener stays");
    let refused = TcpStream::connect(server.addr).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    server.stop_now();
}

#[test]
fn a_graceful_stop_empties_the_queues_and_resets_nobody() {
    let config = config(|config| config.accept_budget = 4);
    let server = serve_with(config, Greeter::default());
    let listener = server.listener;
    server.ask(move |_, cx| cx.listener(listener).unwrap().pause());
    let clients = crowd(server.addr, 50);
    server.handle.shutdown(4 * PATIENCE).unwrap();
    for mut client in clients {
        let mut all = Vec::new();
        client.read_to_end(&mut all).expect("no reset");
        assert_eq!(all, [GREETING]);
    }
    // Long before the grace is over.
    let summary = server.join().result.unwrap();
    assert_eq!((summary.stats.accepted, summary.aborted), (50, 0));
}

#[test]
fn a_graceful_stop_empties_the_queue_behind_a_cap() {
    let listen = Listen::new("127.0.0.1:0").unwrap().max_connections(3);
    let server = serve_on(Config::default(), listen, Greeter::default());
    let clients = crowd(server.addr, 20);
    server.until("three are open", |stats| stats.open == 3);
    server.handle.shutdown(4 * PATIENCE).unwrap();
    for mut client in clients {
        let mut all = Vec::new();
        client.read_to_end(&mut all).expect("no reset");
        assert_eq!(all, [GREETING]);
    }
    // Long before the grace is over.
    let summary = server.join().result.unwrap();
    assert_eq!((summary.stats.accepted, summary.aborted), (20, 0));
}

#[test]
fn a_burst_is_served_whole_by_small_batches() {
    let server = serve_with(
        config(|config| config.accept_budget = 16),
        Greeter::default(),
    );
    let mut clients = crowd(server.addr, 500);
    clients.iter_mut().for_each(greeted);
    drop(clients);
    server.until("all have gone", |stats| stats.closed == 500);
    let (app, summary) = server.stop();
    assert_eq!(summary.stats.accepted, 500);
    let most = app.accepts_by_turn.values().max();
    assert!(most <= Some(&16), "{most:?} in one turn");
}

#[test]
fn a_queue_that_is_full_to_the_brim_is_served_in_batches() {
    let mut reactor = Reactor::new(Greeter::default()).unwrap();
    let id = reactor.listen("127.0.0.1:0").unwrap();
    let addr = util::ip(reactor.listener(id).unwrap().local_addr());
    let mut clients = crowd(addr, 300);
    let deadline = Instant::now() + PATIENCE;
    while reactor.stats().accepted < 300 {
        let _ = reactor.turn(Some(ms(100))).unwrap();
        assert!(Instant::now() < deadline, "{:?}", reactor.stats());
    }
    clients.iter_mut().for_each(greeted);
    let app = reactor.into_handler();
    let most = app.accepts_by_turn.values().max();
    assert!(most <= Some(&64), "{most:?} in one turn");
    assert!(app.accepts_by_turn.len() <= 10, "batches stay small");
}

#[test]
fn a_listener_that_stops_keeps_to_its_budget() {
    let mut reactor = Reactor::new(Greeter::default()).unwrap();
    let id = reactor.listen("127.0.0.1:0").unwrap();
    let addr = util::ip(reactor.listener(id).unwrap().local_addr());
    reactor.listener(id).unwrap().pause();
    let mut clients = crowd(addr, 100);
    let _ = reactor.turn(Some(Duration::ZERO)).unwrap();
    reactor.listener(id).unwrap().close();
    // It is on the ready list now, and a new client brings a report as well.
    clients.push_back(connect(addr));
    let deadline = Instant::now() + PATIENCE;
    while reactor.listener(id).is_some() {
        let _ = reactor.turn(Some(ms(100))).unwrap();
        assert!(Instant::now() < deadline, "{:?}", reactor.stats());
    }
    clients.iter_mut().for_each(greeted);
    let app = reactor.into_handler();
    let most = app.accepts_by_turn.values().max();
    assert!(most <= Some(&64), "{most:?} in one turn");
}

// Ways to listen.

#[test]
fn a_wildcard_serves_both_families() {
    let server = serve_on(
        Config::default(),
        Listen::new(":0").unwrap(),
        Greeter::default(),
    );
    let port = server.addr.port();
    greeted(&mut connect(SocketAddr::from(([127, 0, 0, 1], port))));
    if TcpListener::bind("[::1]:0").is_err() {
        skipped("this host has no IPv6: only IPv4 was tried");
        return;
    }
    let mut six: [u16; 8] = [0; 8];
    six[7] = 1;
    greeted(&mut connect(SocketAddr::from((six, port))));
    server.stop_now();
}

#[test]
fn two_loops_share_a_port() {
    let listen = |addr: &str| Listen::new(addr).unwrap().reuse_port(true);
    let one = serve_on(Config::default(), listen("127.0.0.1:0"), Greeter::default());
    let text = one.addr.to_string();
    let two = serve_on(Config::default(), listen(&text), Greeter::default());
    let mut clients = crowd(one.addr, 64);
    clients.iter_mut().for_each(greeted);
    let (served_one, served_two) = (one.stats().accepted, two.stats().accepted);
    assert_eq!(served_one + served_two, 64);
    assert!(
        served_one > 0 && served_two > 0,
        "{served_one}, {served_two}"
    );
    one.stop_now();
    two.stop_now();
}

#[test]
fn an_inherited_listener_is_taken_over_with_its_queue() {
    let inherited = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = inherited.local_addr().unwrap();
    let mut early = connect(addr);
    let listen = Listen::adopt(inherited.into());
    let server = serve_on(Config::default(), listen, Greeter::default());
    assert_eq!(server.addr, addr);
    greeted(&mut early);
    greeted(&mut connect(addr));
    server.stop_now();
}

#[test]
fn what_does_not_listen_is_not_taken_over() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let unbound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let rows: [(OwnedFd, &str); 4] = [
        (
            UdpSocket::bind("127.0.0.1:0").unwrap().into(),
            "listen: getsockopt: invalid argument",
        ),
        (connected.into(), "listen: getsockopt: invalid argument"),
        (
            unbound.unwrap().into(),
            "listen: getsockopt: invalid argument",
        ),
        (
            File::open("/dev/null").unwrap().into(),
            "listen: getsockopt: socket operation on non-socket",
        ),
    ];
    let mut reactor = Reactor::new(Greeter::default()).unwrap();
    for (fd, text) in rows {
        let error = reactor.listen(Listen::adopt(fd)).unwrap_err();
        assert_eq!(error.to_string(), text);
        assert_eq!(error.recovery(), Recovery::GiveUp);
    }
}

#[test]
fn what_cannot_be_listened_on_is_said_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|addr| (taken, addr)).unwrap();
    let rows = [
        (
            taken.1.to_string(),
            format!("listen tcp {}: bind: address already in use", taken.1),
        ),
        (
            "192.0.2.1:0".to_owned(),
            "listen tcp 192.0.2.1:0: bind: cannot assign requested address".to_owned(),
        ),
        (
            "127.0.0.1:65536".to_owned(),
            "listen tcp: address 65536: invalid port".to_owned(),
        ),
    ];
    let mut reactor = Reactor::new(Greeter::default()).unwrap();
    for (addr, text) in rows {
        let error = reactor.listen(addr.as_str()).unwrap_err();
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn a_privileged_port_is_refused_in_one_line() {
    match TcpListener::bind("127.0.0.1:1") {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
        other => {
            skipped(&format!("port 1 is not forbidden here ({other:?})"));
            return;
        }
    }
    let mut reactor = Reactor::new(Greeter::default()).unwrap();
    let error = reactor.listen("127.0.0.1:1").unwrap_err();
    assert_eq!(
        error.to_string(),
        "listen tcp 127.0.0.1:1: bind: permission denied"
    );
}
