//! P7: an id that was kept too long is harmless. It answers "gone", for ever, and never
//! touches whoever has its slot now.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util;

use std::collections::HashSet;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use util::{
    PATIENCE, Recorder, connect, connect_many, is_silent, ms, read_to_end_or_reset, reset,
    round_trip, send, serve,
};
use windlass::{
    Closed, Conn, ConnId, Context, Flow, Handler, Input, ListenerId, PostError, Reactor, TimerId,
};

/// Lives that one slot has in these tests; a million are a unit test of `sources.rs`.
const LIVES: usize = 5_000;

// Connections.

/// Remembers every id there ever was, and asks for all of them again and again.
#[derive(Default)]
struct Historian {
    gone: Vec<ConnId>,
    ever: HashSet<ConnId>,
    highest: usize,
    wrong: Vec<String>,
}

impl Historian {
    fn look_back(&mut self, cx: &mut Context<'_>) {
        // All of them each time would be quadratic: the first ones, and a share of the rest.
        let rest = self.gone.iter().skip(20).step_by(97);
        for &id in self.gone.iter().take(20).chain(rest) {
            if cx.conn(id).is_some() {
                self.wrong.push(format!("{id} is found"));
            }
            if cx.wake(id) {
                self.wrong.push(format!("{id} is woken"));
            }
        }
    }
}

impl Handler for Historian {
    type Session = ();

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        let id = conn.id();
        if !self.ever.insert(id) {
            self.wrong.push(format!("{id} is used twice"));
        }
        let index = id.to_string().split('.').next().unwrap().parse().unwrap();
        self.highest = self.highest.max(index);
        self.look_back(conn.cx());
        Ok(())
    }

    fn on_wake(&mut self, conn: &mut Conn<'_>, (): &mut ()) -> io::Result<()> {
        self.wrong
            .push(format!("{} was woken by nobody", conn.id()));
        Ok(())
    }

    fn on_close(&mut self, cx: &mut Context<'_>, (): (), closed: &Closed) {
        if cx.conn(closed.id).is_some() {
            self.wrong
                .push(format!("{} is found in its own on_close", closed.id));
        }
        self.gone.push(closed.id);
        self.look_back(cx);
    }
}

#[test]
fn an_id_is_gone_for_ever_however_often_its_slot_is_used_again() {
    let server = serve(Historian::default());
    for life in 0..LIVES {
        let client = connect(server.addr);
        if life % 2 == 0 {
            reset(client);
        } else {
            drop(client);
        }
        if life % 100 == 99 {
            server.until("they are gone", |stats| stats.closed as usize == life + 1);
        }
    }
    server.until("all are gone", |stats| stats.closed as usize == LIVES);
    server.ask(|app, cx| {
        for &id in &app.ever {
            assert!(cx.conn(id).is_none(), "{id}");
            assert!(!cx.wake(id), "{id}");
        }
    });
    let (app, _) = server.stop();
    assert_eq!(app.wrong, Vec::<String>::new());
    assert_eq!((app.ever.len(), app.gone.len()), (LIVES, LIVES));
    assert!(app.highest < 200, "slots are used again: {}", app.highest);
}

#[test]
fn whoever_has_the_slot_now_is_not_touched_through_an_old_id() {
    let server = serve(Recorder::echo());
    let log = server.ask(|app, _| app.log.clone());
    let old_client = connect(server.addr);
    log.wait_for("accept", 1);
    let old = log.events().iter().find_map(|event| event.conn).unwrap();
    drop(old_client);
    log.wait_closes(1);

    let mut client = connect(server.addr);
    assert_eq!(round_trip(&mut client, b"new"), b"new");
    let new = log
        .events()
        .iter()
        .rev()
        .find_map(|event| event.conn)
        .unwrap();
    let slot = |id: ConnId| id.to_string().split('.').next().unwrap().to_owned();
    assert_eq!(slot(old), slot(new), "the slot is used again");
    assert_ne!(old, new);

    server.ask(move |_, cx| {
        assert!(cx.conn(old).is_none());
        assert!(!cx.wake(old));
    });
    for _ in 0..3 {
        let posted = server.handle.post_to(old, |_, conn, _| {
            conn.abort();
            Ok(())
        });
        assert_eq!(posted, Ok(()), "nobody knows yet that it is gone");
    }
    let stats = server.stats();
    assert_eq!(stats.posted_to_gone, 3);
    assert_eq!(round_trip(&mut client, b"alive"), b"alive");
    assert_eq!(log.count("wake"), 0);
    drop(client);
    server.stop();
}

#[test]
fn a_closing_connection_is_found_but_takes_nothing() {
    let server = serve(Recorder::new().read(|conn, input| {
        input.take_all();
        conn.write(b"bye");
        conn.close();
        let id = conn.id();
        assert_eq!(conn.write(b"more"), Flow::Closed);
        assert!(!conn.cx().wake(id));
        let mut again = conn.cx().conn(id).expect("until on_close");
        assert_eq!(again.write(b"more"), Flow::Closed);
        again.close();
        Ok(())
    }));
    let log = server.ask(|app, _| app.log.clone());
    let mut client = connect(server.addr);
    send(&mut client, b"x");
    assert_eq!(read_to_end_or_reset(&mut client).0, b"bye");
    drop(client);
    let closed = log.wait_closes(1);
    let id = closed[0].id;
    assert!(server.ask(move |_, cx| cx.conn(id).is_none()));
    assert_eq!((log.count("wake"), log.count("close")), (0, 1));
    server.stop();
}

#[test]
fn an_aborted_connection_is_gone_at_once() {
    let server = serve(Recorder::echo());
    let log = server.ask(|app, _| app.log.clone());
    let mut client = connect(server.addr);
    log.wait_for("accept", 1);
    let id = log.events().iter().find_map(|event| event.conn).unwrap();
    server.ask(move |_, cx| {
        cx.conn(id).unwrap().abort();
        assert!(cx.conn(id).is_none(), "in the same callback");
        assert!(!cx.wake(id));
    });
    assert_eq!(log.wait_closes(1).len(), 1);
    read_to_end_or_reset(&mut client);
    server.stop();
}

// Events that were fetched for the dead.

/// The first that reads closes all the others, whose events are in the same batch.
#[derive(Default)]
struct Assassin {
    everybody: Vec<ConnId>,
    killer: Option<ConnId>,
    gentle: bool,
    heard: Vec<ConnId>,
    closed: Vec<ConnId>,
}

impl Handler for Assassin {
    type Session = ConnId;

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<ConnId> {
        self.everybody.push(conn.id());
        Ok(conn.id())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        _: &mut ConnId,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        input.take_all();
        self.heard.push(conn.id());
        if self.killer.is_none() {
            self.killer = Some(conn.id());
            for &id in &self.everybody {
                if id != conn.id() {
                    let mut victim = conn.cx().conn(id).expect("alive");
                    if self.gentle {
                        victim.close();
                    } else {
                        victim.abort();
                    }
                }
            }
        }
        Ok(())
    }

    fn on_close(&mut self, _: &mut Context<'_>, session: ConnId, closed: &Closed) {
        assert_eq!(session, closed.id);
        self.closed.push(closed.id);
    }
}

fn bench<H: Handler>(handler: H) -> (Reactor<H>, SocketAddr) {
    let mut reactor = Reactor::new(handler).unwrap();
    let id = reactor.listen("127.0.0.1:0").unwrap();
    let addr = util::ip(reactor.listener(id).unwrap().local_addr());
    (reactor, addr)
}

#[track_caller]
fn turn_until<H: Handler>(reactor: &mut Reactor<H>, holds: impl Fn(&Reactor<H>) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds(reactor) {
        assert!(Instant::now() < deadline, "stuck: {:?}", reactor.stats());
        let _ = reactor.turn(Some(ms(20))).unwrap();
    }
}

#[track_caller]
fn nobody_hears_from_the_dead(gentle: bool, newcomers: usize) {
    let (mut reactor, addr) = bench(Assassin {
        gentle,
        ..Assassin::default()
    });
    let mut clients: Vec<TcpStream> = connect_many(addr, 10);
    turn_until(&mut reactor, |reactor| reactor.stats().accepted == 10);
    for client in &mut clients {
        send(client, b"x");
    }
    // One poll fetches ten events, and newcomers for slots that must not be free yet.
    let late = connect_many(addr, newcomers);
    let _ = reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(reactor.handler().heard.len(), 1, "the others were closed");
    turn_until(&mut reactor, |reactor| {
        reactor.handler().closed.len() == 9 && reactor.stats().accepted as usize == 10 + newcomers
    });
    let app = reactor.handler();
    assert_eq!(app.heard, Vec::from_iter(app.killer));
    let unique: HashSet<_> = app.closed.iter().collect();
    assert_eq!((unique.len(), app.closed.len()), (9, 9), "once each");
    assert!(!unique.contains(&app.killer.unwrap()));
    assert!(late.iter().all(is_silent), "strangers are not touched");
    assert_eq!(reactor.stats().panics, 0);
}

#[test]
fn events_of_connections_aborted_in_the_same_batch_are_dropped() {
    nobody_hears_from_the_dead(false, 0);
}

#[test]
fn events_of_connections_closed_in_the_same_batch_are_dropped() {
    nobody_hears_from_the_dead(true, 0);
}

#[test]
fn newcomers_in_the_same_batch_do_not_inherit_the_events_of_the_dead() {
    nobody_hears_from_the_dead(false, 20);
}

#[test]
fn two_connections_that_close_each_other_close_once_each() {
    let server = serve(Recorder::new().read(|conn, input| {
        input.take_all();
        let mut all = Vec::new();
        conn.cx().for_each(|other| all.push(other.id()));
        for id in all {
            if let Some(mut other) = conn.cx().conn(id) {
                other.abort();
            }
        }
        Ok(())
    }));
    let log = server.ask(|app, _| app.log.clone());
    for round in 1..=50 {
        let mut clients = connect_many(server.addr, 2);
        log.wait_for("accept", round * 2);
        for client in &mut clients {
            // The second may be gone by now.
            let _ = client.write(b"x");
        }
        log.wait_closes(round * 2);
    }
    let closes = log.closes();
    let unique: HashSet<_> = closes.iter().map(|closed| closed.id).collect();
    assert_eq!((unique.len(), closes.len()), (100, 100));
    server.stop();
}

// Timers.

#[derive(Default)]
struct Clockwork {
    fired: Vec<TimerId>,
}

impl Handler for Clockwork {
    type Session = ();

    fn on_timer(&mut self, cx: &mut Context<'_>, timer: TimerId) {
        assert!(!cx.cancel_timer(timer), "it is gone by now");
        self.fired.push(timer);
    }
}

#[test]
fn a_timer_that_fired_or_was_cancelled_cannot_be_cancelled_again() {
    let server = serve(Clockwork::default());
    let (short, long) = server.ask(|_, cx| {
        let now = cx.now();
        (cx.set_timer(now), cx.set_timer(now + PATIENCE))
    });
    server.until("one has fired", |stats| stats.timers == 1);
    server.ask(move |app, cx| {
        assert_eq!(app.fired, [short]);
        assert!(!cx.cancel_timer(short), "fired");
        assert!(cx.cancel_timer(long), "still to come");
        assert!(!cx.cancel_timer(long), "cancelled");
    });
    server.stop();
}

#[test]
fn a_stale_timer_id_never_cancels_a_stranger() {
    let server = serve(Clockwork::default());
    server.ask(|_, cx| {
        let far = cx.now() + PATIENCE;
        let first = cx.set_timer(far);
        assert!(cx.cancel_timer(first));
        for _ in 0..100_000 {
            let next = cx.set_timer(far);
            assert_ne!(next, first);
            assert!(!cx.cancel_timer(first));
            assert!(cx.cancel_timer(next));
        }
        let last = cx.set_timer(far);
        assert!(!cx.cancel_timer(first));
        assert!(cx.cancel_timer(last));
    });
    let (app, _) = server.stop();
    assert!(app.fired.is_empty());
}

#[test]
fn the_timer_of_a_dead_connection_is_dead() {
    let server = serve(Recorder::echo());
    let log = server.ask(|app, _| app.log.clone());
    let client = connect(server.addr);
    log.wait_for("accept", 1);
    let id = log.events().iter().find_map(|event| event.conn).unwrap();
    let timers = server.ask(move |_, cx| {
        let mut conn = cx.conn(id).unwrap();
        let soon = conn.now() + ms(30);
        [conn.set_timer(soon), conn.set_timer(soon + PATIENCE)]
    });
    drop(client);
    log.wait_closes(1);
    server.ask(move |_, cx| {
        for timer in timers {
            assert!(!cx.cancel_timer(timer));
        }
    });
    // The slot has a new tenant when the old timer would have been due.
    let mut client = connect(server.addr);
    let until = Instant::now() + ms(60);
    while Instant::now() < until {
        assert_eq!(round_trip(&mut client, b"ping"), b"ping");
    }
    assert_eq!((log.count("timeout"), log.count("timer")), (0, 0));
    drop(client);
    server.stop();
}

// Listeners.

#[test]
fn a_closed_listener_is_gone_for_ever() {
    let server = serve(Recorder::echo());
    let first = server.ask(|_, cx| cx.listen("127.0.0.1:0").unwrap());
    let gone = move |_: &mut Recorder, cx: &mut Context<'_>| cx.listener(first).is_none();
    assert!(!server.ask(gone));
    server.ask(move |_, cx| cx.listener(first).unwrap().close());
    server.until("it is gone", |_| server.ask(gone));
    for _ in 0..200 {
        let next = server.ask(|_, cx| cx.listen("127.0.0.1:0").unwrap());
        assert_ne!(next, first);
        assert!(server.ask(gone));
        server.ask(move |_, cx| cx.listener(next).unwrap().close());
        server.until("it is gone, too", |_| {
            server.ask(move |_, cx| cx.listener(next).is_none())
        });
    }
    assert!(server.ask(gone));
    let mut client = connect(server.addr);
    assert_eq!(
        round_trip(&mut client, b"the first one lives"),
        b"the first one lives"
    );
    drop(client);
    server.stop();
}

#[test]
fn ids_of_another_loop_are_as_harmless() {
    let one = serve(Recorder::echo());
    let two = serve(Recorder::echo());
    let log = one.ask(|app, _| app.log.clone());
    let mut clients = connect_many(one.addr, 30);
    for client in &mut clients {
        assert_eq!(round_trip(client, b"x"), b"x");
    }
    // Loop two has no connection at all; whatever the ids say, nothing is found or broken.
    for id in log.events().iter().filter_map(|event| event.conn) {
        assert!(two.ask(move |_, cx| cx.conn(id).is_none() && !cx.wake(id)));
        let posted = two.handle.post_to(id, |_, conn, _| {
            conn.abort();
            Ok(())
        });
        assert_ne!(posted, Err(PostError::Stopped));
    }
    two.stop();
    drop(clients);
    one.stop();
}
