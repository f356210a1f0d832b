//! The life of a loop: posts from other threads, ways to begin and to end, embedding, and
//! what is left when it is gone.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

#[path = "util/process.rs"]
mod process;
mod util;

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use util::{
    Ending, PATIENCE, config, connect, connect_many, eventually, ms, open_descriptors,
    read_to_end_or_reset, round_trip, serve, serve_with,
};
use windlass::{
    Closed, Config, Conn, ConnId, Context, Handle, Handler, Input, ListenerId, PostError, Reactor,
    Summary, TimerId, Turn,
};

/// Long enough that nobody mistakes it for "at once".
const LONG: Duration = Duration::from_secs(60);

/// What a loaded machine may add to a wait of ours.
const SLACK: Duration = Duration::from_millis(500);

/// Keeps a diary of what happened to the loop, and echoes.
#[derive(Default)]
struct App {
    said: Vec<String>,
    open: Vec<ConnId>,
    numbers: Vec<(usize, usize)>,
    fail_to_start: bool,
    timer_at_start: Option<Duration>,
    /// How long `on_start` takes after that.
    slow_start: Duration,
    fired_after: Option<Duration>,
    timer_set: Option<Instant>,
    /// What is to happen to connections when a stop begins.
    stubborn: bool,
}

impl App {
    fn say(&mut self, what: impl Into<String>) {
        self.said.push(what.into());
    }
}

impl Handler for App {
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<'_>, _: &Handle<Self>) -> io::Result<()> {
        self.say("start");
        if self.fail_to_start {
            return Err(io::Error::other("no start today"));
        }
        if let Some(after) = self.timer_at_start {
            self.timer_set = Some(Instant::now());
            cx.set_timer(cx.now() + after);
        }
        thread::sleep(self.slow_start);
        Ok(())
    }

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        self.open.push(conn.id());
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

    fn on_shutdown(&mut self, conn: &mut Conn<'_>, (): &mut ()) -> io::Result<()> {
        self.say("shutdown");
        if !self.stubborn {
            conn.close();
        }
        Ok(())
    }

    fn on_close(&mut self, _: &mut Context<'_>, (): (), closed: &Closed) {
        self.open.retain(|&id| id != closed.id);
        self.say(format!("close: {}", closed.reason));
    }

    fn on_timer(&mut self, _: &mut Context<'_>, _: TimerId) {
        self.fired_after = self.timer_set.map(|set| set.elapsed());
        self.say("timer");
    }

    fn on_stop(&mut self, cx: &mut Context<'_>) {
        self.say(format!("stop, {} open", cx.stats().open));
    }
}

fn reactor() -> Reactor<App> {
    Reactor::new(App::default()).unwrap()
}

fn listening() -> (Reactor<App>, SocketAddr) {
    let mut reactor = reactor();
    let id = reactor.listen("127.0.0.1:0").unwrap();
    let addr = util::ip(reactor.listener(id).unwrap().local_addr());
    (reactor, addr)
}

fn at_once(reactor: &mut Reactor<App>) -> Turn {
    reactor.turn(Some(Duration::ZERO)).unwrap()
}

/// Turns until something holds; the loop is never stuck in a poll meanwhile.
#[track_caller]
fn turn_until(reactor: &mut Reactor<App>, mut holds: impl FnMut(&mut Reactor<App>) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds(reactor) {
        assert!(Instant::now() < deadline, "never came true");
        let _ = reactor.turn(Some(ms(5))).unwrap();
    }
}

// Posts.

#[test]
fn posts_of_each_thread_run_in_the_order_of_posting() {
    const THREADS: usize = 4;
    const EACH: usize = 5_000;
    let server = serve(App::default());
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let handle = server.handle.clone();
            thread::spawn(move || {
                for n in 0..EACH {
                    handle
                        .post(move |app, _| app.numbers.push((thread, n)))
                        .unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let numbers = server.ask(|app, _| app.numbers.clone());
    assert_eq!(numbers.len(), THREADS * EACH);
    for thread in 0..THREADS {
        let of_one = numbers.iter().filter(|(by, _)| *by == thread);
        assert!(of_one.map(|&(_, n)| n).eq(0..EACH), "thread {thread}");
    }
    server.stop_now();
}

#[test]
fn ten_thousand_posts_are_a_handful_of_turns_and_of_wakeups() {
    let server = serve(App::default());
    let before = server.stats();
    let (open_the_gate, gate) = mpsc::channel::<()>();
    let closed = server.handle.post(move |_, _| {
        let _ = gate.recv_timeout(PATIENCE);
    });
    closed.unwrap();
    for n in 0..10_000 {
        server
            .handle
            .post(move |app, _| app.numbers.push((0, n)))
            .unwrap();
    }
    open_the_gate.send(()).unwrap();
    let after = server.until("all have run", |stats| {
        stats.posted - before.posted > 10_000
    });
    let (turns, events) = (after.turns - before.turns, after.events - before.events);
    assert!(turns < 100, "{turns} turns");
    assert!(events < 20, "{events} reports");
    let (app, _) = server.stop_now();
    assert!(app.numbers.iter().map(|&(_, n)| n).eq(0..10_000));
}

#[test]
fn an_idle_loop_is_woken_by_a_post() {
    let server = serve(App::default());
    for _ in 0..200 {
        let began = Instant::now();
        server.ask(|_, _| ());
        assert!(began.elapsed() < PATIENCE / 3);
    }
    server.stop_now();
}

#[test]
fn what_is_posted_before_the_run_runs_after_the_start() {
    let mut reactor = reactor();
    let handle = reactor.handle();
    handle.post(|app, _| app.say("posted")).unwrap();
    handle.post(|_, cx| cx.shutdown(LONG)).unwrap();
    reactor.run().unwrap();
    assert_eq!(reactor.handler().said, ["start", "posted", "stop, 0 open"]);
}

#[test]
fn a_post_may_post() {
    let server = serve(App::default());
    let handle = server.handle.clone();
    let (say, heard) = mpsc::channel();
    let first = server.handle.post(move |app, _| {
        app.say("first");
        let inner = handle.post(move |app, _| {
            app.say("second");
            say.send(()).unwrap();
        });
        inner.unwrap();
        app.say("still first");
    });
    first.unwrap();
    heard.recv_timeout(PATIENCE).unwrap();
    let said = server.ask(|app, _| app.said.clone());
    assert_eq!(said, ["start", "first", "still first", "second"]);
    server.stop_now();
}

#[test]
fn what_is_posted_after_the_end_is_refused() {
    let server = serve(App::default());
    let mut client = connect(server.addr);
    assert_eq!(round_trip(&mut client, b"x"), b"x");
    let id = server.ask(|app, _| app.open[0]);
    let handle = server.handle.clone();
    server.stop_now();
    assert_eq!(handle.post(|_, _| ()), Err(PostError::Stopped));
    let answer = handle.post_to(id, |_, _, ()| Ok(()));
    assert_eq!(answer, Err(PostError::Stopped));
    assert_eq!(handle.shutdown(LONG), Err(PostError::Stopped));
    let error = io::Error::from(PostError::Stopped);
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn what_waits_when_the_loop_ends_is_dropped_unrun() {
    let reactor = reactor();
    let handle = reactor.handle();
    let (witness, dropped) = mpsc::channel::<()>();
    let posted = handle.post(move |app, _| {
        app.say("ran");
        drop(witness);
    });
    posted.unwrap();
    drop(reactor);
    let gone = dropped.recv_timeout(PATIENCE);
    assert_eq!(gone, Err(mpsc::RecvTimeoutError::Disconnected));
}

#[test]
fn a_full_mailbox_refuses_posts_but_not_a_stop() {
    let server = serve_with(config(|config| config.mailbox_limit = 10), App::default());
    let (open_the_gate, gate) = mpsc::channel::<()>();
    let (closed, is_closed) = mpsc::channel();
    let posted = server.handle.post(move |_, _| {
        closed.send(()).unwrap();
        let _ = gate.recv_timeout(PATIENCE);
    });
    posted.unwrap();
    is_closed.recv_timeout(PATIENCE).unwrap();
    for n in 0..10 {
        let taken = server.handle.post(move |app, _| app.numbers.push((0, n)));
        assert_eq!(taken, Ok(()), "post {n}");
    }
    assert_eq!(server.handle.post(|_, _| ()), Err(PostError::Full));
    let error = io::Error::from(PostError::Full);
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    server.handle.shutdown(LONG).unwrap();
    open_the_gate.send(()).unwrap();
    let ended = server.join();
    assert_eq!(ended.handler.numbers.len(), 10, "what was taken has run");
    assert!(ended.result.is_ok());
}

#[test]
fn a_post_to_a_connection_meets_its_session_and_may_close_it() {
    let server = serve(App::default());
    let mut client = connect(server.addr);
    assert_eq!(round_trip(&mut client, b"x"), b"x");
    let id = server.ask(|app, _| app.open[0]);
    let posted = server.handle.post_to(id, move |_, conn, ()| {
        assert_eq!(conn.id(), id);
        conn.write(b"from another thread");
        Err(io::Error::other("enough"))
    });
    posted.unwrap();
    let (bytes, ending) = read_to_end_or_reset(&mut client);
    assert_eq!(
        (bytes.as_slice(), ending),
        (&b"from another thread"[..], Ending::Eof)
    );
    drop(client);
    server.until("it is gone", |stats| stats.open == 0);
    let (app, _) = server.stop();
    assert!(
        app.said.contains(&"close: handler: enough".to_owned()),
        "{:?}",
        app.said
    );
}

#[test]
fn a_post_to_nobody_is_counted_and_not_run() {
    let server = serve(App::default());
    let mut client = connect(server.addr);
    assert_eq!(round_trip(&mut client, b"x"), b"x");
    let id = server.ask(|app, _| app.open[0]);
    drop(client);
    server.until("it is gone", |stats| stats.open == 0);
    let before = server.stats();
    let posted = server.handle.post_to(id, |app, _, ()| {
        app.say("a stranger was met");
        Ok(())
    });
    posted.unwrap();
    let after = server.stats();
    assert_eq!(after.posted_to_gone, before.posted_to_gone + 1);
    assert_eq!(after.posted, before.posted + 1, "only the question has run");
    let (app, _) = server.stop();
    assert!(!app.said.contains(&"a stranger was met".to_owned()));
}

// The end.

#[test]
fn another_thread_ends_an_idle_run() {
    let server = serve(App::default());
    server.ask(|_, _| ());
    let began = Instant::now();
    server.handle.shutdown(LONG).unwrap();
    let ended = server.join();
    assert!(began.elapsed() < PATIENCE / 3);
    assert_eq!(ended.result.unwrap().aborted, 0);
    assert_eq!(ended.handler.said, ["start", "stop, 0 open"]);
}

#[test]
fn a_graceful_stop_tells_everybody_and_comes_last() {
    let server = serve(App::default());
    let mut clients = connect_many(server.addr, 3);
    for client in &mut clients {
        assert_eq!(round_trip(client, b"x"), b"x");
    }
    server.handle.shutdown(LONG).unwrap();
    for client in &mut clients {
        let (bytes, ending) = read_to_end_or_reset(client);
        assert_eq!((bytes.len(), ending), (0, Ending::Eof));
    }
    drop(clients);
    let ended = server.join();
    let said = ended.handler.said;
    assert_eq!(said.iter().filter(|line| *line == "shutdown").count(), 3);
    assert_eq!(
        said.iter()
            .filter(|line| *line == "close: shutdown")
            .count(),
        3
    );
    assert_eq!(
        said.iter().filter(|line| line.starts_with("stop")).count(),
        1
    );
    assert_eq!(said.last().unwrap(), "stop, 0 open");
}

#[test]
fn a_stop_asked_for_at_the_start_does_not_wait_for_its_grace() {
    struct Brief;
    impl Handler for Brief {
        type Session = ();
        fn on_start(&mut self, cx: &mut Context<'_>, _: &Handle<Self>) -> io::Result<()> {
            cx.shutdown(LONG);
            Ok(())
        }
    }
    let mut reactor = Reactor::new(Brief).unwrap();
    let began = Instant::now();
    reactor.run().unwrap();
    assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
}

#[test]
fn a_stop_without_grace_aborts_everybody_at_once() {
    let server = serve(App {
        stubborn: true,
        ..App::default()
    });
    let mut clients = connect_many(server.addr, 5);
    for client in &mut clients {
        assert_eq!(round_trip(client, b"x"), b"x");
    }
    let began = Instant::now();
    server.handle.shutdown(Duration::ZERO).unwrap();
    let ended = server.join();
    assert!(began.elapsed() < PATIENCE / 3);
    assert_eq!(ended.result.unwrap().aborted, 5);
    let said = &ended.handler.said;
    assert_eq!(
        said.iter()
            .filter(|line| *line == "close: shutdown")
            .count(),
        5
    );
    assert_eq!(said.last().unwrap(), "stop, 0 open");
    for client in &mut clients {
        assert_eq!(read_to_end_or_reset(client).1, Ending::Reset);
    }
}

#[test]
fn the_grace_ends_for_whoever_does_not_close() {
    let server = serve(App {
        stubborn: true,
        ..App::default()
    });
    let mut client = connect(server.addr);
    assert_eq!(round_trip(&mut client, b"x"), b"x");
    let began = Instant::now();
    server.handle.shutdown(ms(200)).unwrap();
    // Whoever is left is still served meanwhile.
    assert_eq!(round_trip(&mut client, b"y"), b"y");
    let ended = server.join();
    assert!(began.elapsed() >= ms(200));
    assert_eq!(ended.result.unwrap().aborted, 1);
}

#[test]
fn a_second_stop_brings_the_end_forward_and_never_back() {
    for (first, second) in [(LONG, ms(50)), (ms(50), LONG)] {
        let server = serve(App {
            stubborn: true,
            ..App::default()
        });
        let mut client = connect(server.addr);
        assert_eq!(round_trip(&mut client, b"x"), b"x");
        server.handle.shutdown(first).unwrap();
        server.ask(|_, _| ());
        let _ = server.handle.shutdown(second);
        let began = Instant::now();
        let ended = server.join();
        assert!(began.elapsed() < PATIENCE / 3, "{first:?}, {second:?}");
        assert_eq!(ended.result.unwrap().aborted, 1);
    }
}

#[test]
fn a_stopped_loop_stays_stopped() {
    let mut reactor = reactor();
    reactor.handle().shutdown(LONG).unwrap();
    reactor.run().unwrap();
    let error = reactor.run().unwrap_err();
    assert_eq!(error.to_string(), "this loop has stopped");
    assert_eq!(at_once(&mut reactor), Turn::Stopped);
    assert_eq!(reactor.handler().said, ["start", "stop, 0 open"]);
    let late = reactor.listen("127.0.0.1:0").unwrap_err();
    assert_eq!(late.to_string(), "listen: use of closed network connection");
}

#[test]
fn a_failed_start_ends_the_run_before_it_began() {
    let (mut reactor, _) = listening();
    reactor.handler_mut().fail_to_start = true;
    let handle = reactor.handle();
    assert_eq!(reactor.run().unwrap_err().to_string(), "no start today");
    assert_eq!(reactor.handler().said, ["start"], "and no stop");
    assert_eq!(handle.post(|_, _| ()), Err(PostError::Stopped));
    assert!(reactor.run().is_err());
    assert_eq!(reactor.into_handler().said, ["start"]);
}

#[test]
fn a_summary_counts_what_happened() {
    let server = serve(App::default());
    let mut client = connect(server.addr);
    assert_eq!(round_trip(&mut client, b"four"), b"four");
    drop(client);
    server.until("it is gone", |stats| stats.open == 0);
    let (_, Summary { stats, aborted, .. }) = server.stop();
    assert_eq!((stats.accepted, stats.closed, stats.open), (1, 1, 0));
    assert_eq!((stats.bytes_read, stats.bytes_written), (4, 4));
    assert_eq!(aborted, 0);
}

#[test]
fn a_dropped_reactor_closes_its_descriptors_and_its_handles() {
    process::alone(
        "a_dropped_reactor_closes_its_descriptors_and_its_handles",
        || {
            let before = open_descriptors();
            let (mut reactor, addr) = listening();
            let handle = reactor.handle();
            let mut clients = connect_many(addr, 10);
            turn_until(&mut reactor, |reactor| reactor.stats().open == 10);
            assert!(open_descriptors() > before + 20);
            let app = reactor.into_handler();
            assert_eq!(app.said, ["start"], "no callback runs");
            assert_eq!(handle.post(|_, _| ()), Err(PostError::Stopped));
            for client in &mut clients {
                assert_eq!(read_to_end_or_reset(client).0, b"");
            }
            drop(clients);
            // A handle keeps the mailbox and its wake-up channel, nothing else.
            drop(handle);
            assert_eq!(open_descriptors(), before);
        },
    );
}

#[test]
fn a_run_that_ended_leaves_no_descriptor_behind() {
    process::alone("a_run_that_ended_leaves_no_descriptor_behind", || {
        let before = open_descriptors();
        for _ in 0..20 {
            let server = serve(App::default());
            let mut client = connect(server.addr);
            assert_eq!(round_trip(&mut client, b"x"), b"x");
            drop(client);
            server.stop();
        }
        assert!(eventually(PATIENCE, || open_descriptors() == before));
    });
}

// Embedding.

#[test]
fn a_turn_returns_in_time_although_nothing_happens() {
    let (mut reactor, _) = listening();
    let _ = at_once(&mut reactor);
    for wait in [Duration::ZERO, ms(1), ms(30), ms(120)] {
        let began = Instant::now();
        assert_eq!(reactor.turn(Some(wait)).unwrap(), Turn::Running);
        let took = began.elapsed();
        assert!(took >= wait && took < wait + SLACK, "{took:?} for {wait:?}");
    }
}

#[test]
fn a_turn_returns_early_for_a_timer_and_for_work() {
    let (mut reactor, addr) = listening();
    let due = reactor.handle().post(|_, cx| {
        cx.set_timer(cx.now() + ms(40));
    });
    due.unwrap();
    let _ = at_once(&mut reactor);
    let began = Instant::now();
    while !reactor.handler().said.contains(&"timer".to_owned()) {
        let _ = reactor.turn(Some(LONG)).unwrap();
    }
    assert!(began.elapsed() < PATIENCE / 3);
    let _client = connect(addr);
    turn_until(&mut reactor, |reactor| reactor.stats().accepted == 1);
}

#[test]
fn a_turn_after_a_long_absence_is_not_late() {
    let mut reactor = reactor();
    let handle = reactor.handle();
    let set = handle.post(|app, cx| {
        app.timer_set = Some(Instant::now());
        cx.set_timer(Instant::now() + ms(600));
    });
    set.unwrap();
    let _ = at_once(&mut reactor);
    // The application is elsewhere meanwhile.
    thread::sleep(ms(500));
    while reactor.handler().fired_after.is_none() {
        let _ = reactor.turn(Some(LONG)).unwrap();
    }
    let after = reactor.handler().fired_after.unwrap();
    assert!(after >= ms(600), "{after:?}");
    assert!(after < ms(600) + ms(250), "{after:?}");
}

#[test]
fn a_loop_started_long_after_it_was_made_has_the_right_time() {
    let mut reactor = reactor();
    reactor.handler_mut().timer_at_start = Some(ms(600));
    thread::sleep(ms(500));
    // The first turn starts the loop and reads the clock; the timer counts from the start.
    let _ = at_once(&mut reactor);
    while reactor.handler().fired_after.is_none() {
        let _ = reactor.turn(Some(LONG)).unwrap();
    }
    let after = reactor.handler().fired_after.unwrap();
    assert!(after >= ms(600), "early: {after:?}");
    assert!(after < ms(600) + ms(250), "late: {after:?}");
}

#[test]
fn what_a_slow_start_has_set_is_not_late() {
    let mut reactor = reactor();
    reactor.handler_mut().timer_at_start = Some(ms(600));
    reactor.handler_mut().slow_start = ms(500);
    // No turn in between: the first wait begins when the loop has started, not when it began to.
    while reactor.handler().fired_after.is_none() {
        let _ = reactor.turn(Some(LONG)).unwrap();
    }
    let after = reactor.handler().fired_after.unwrap();
    assert!(after >= ms(600), "early: {after:?}");
    assert!(after < ms(600) + ms(250), "late: {after:?}");
}

#[test]
fn a_loop_lives_between_turns_of_another_loop() {
    let (mut reactor, addr) = listening();
    let client = thread::spawn(move || {
        let mut client = connect(addr);
        for _ in 0..20 {
            assert_eq!(round_trip(&mut client, b"ping"), b"ping");
        }
    });
    let mut turns = 0;
    while !client.is_finished() {
        assert_eq!(reactor.turn(Some(ms(10))).unwrap(), Turn::Running);
        turns += 1;
        assert!(turns < 1_000_000);
    }
    client.join().unwrap();
    reactor.handle().shutdown(LONG).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while reactor.turn(Some(ms(10))).unwrap() == Turn::Running {
        assert!(Instant::now() < deadline);
    }
    assert_eq!(reactor.handler().said.last().unwrap(), "stop, 0 open");
}

// What may go where.

#[test]
fn a_reactor_moves_to_another_thread_and_its_handle_everywhere() {
    fn moves<T: Send>() {}
    fn is_shared<T: Send + Sync + Clone>() {}
    moves::<Reactor<App>>();
    is_shared::<Handle<App>>();

    let (mut reactor, addr) = listening();
    let mut client = connect(addr);
    turn_until(&mut reactor, |reactor| reactor.stats().open == 1);
    let handle = reactor.handle();
    let elsewhere = thread::spawn(move || reactor.run().map(|summary| summary.stats.accepted));
    assert_eq!(round_trip(&mut client, b"there"), b"there");
    drop(client);
    handle.shutdown(LONG).unwrap();
    assert_eq!(elsewhere.join().unwrap().unwrap(), 1);
}

#[test]
fn a_configuration_that_cannot_work_is_refused_in_one_line() {
    let silly = config(|config| config.accept_budget = 0);
    let error = Reactor::with_config(App::default(), silly)
        .map(|_| ())
        .unwrap_err();
    assert_eq!(error.to_string(), "run: accept_budget must be at least 1");
    assert!(Reactor::with_config(App::default(), Config::default()).is_ok());
}
