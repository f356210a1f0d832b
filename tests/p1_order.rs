//! P1: no callback runs inside another, and each connection's callbacks come in order.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util;

use std::io::{self, Write as _};
use std::net::Shutdown;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use util::*;
use windlass::{Closed, ConnId, Context, Deadline, Flow, Handler, TimerId};

/// A place where a hook leaves something for another hook, or for the test.
type Shelf<T> = Arc<Mutex<T>>;

fn shelf<T: Default>() -> Shelf<T> {
    Shelf::default()
}

/// Limits at which [`FULL_WRITE`], which is too small to go straight to the socket, is
/// above the high mark whatever the kernel would take.
fn soon_full() -> windlass::Config {
    config(|config| {
        config.limits.low = KIB;
        config.limits.high = 4 * KIB;
    })
}

const FULL_WRITE: [u8; 8 * KIB] = [b'x'; 8 * KIB];

fn boom() -> io::Error {
    io::Error::other("boom")
}

/// The names of one connection's callbacks, in order.
fn story(log: &Log, id: ConnId) -> Vec<&'static str> {
    log.of(id).iter().map(|event| event.what.name()).collect()
}

/// Accept first, exactly one close and nothing after it; and never one inside another.
#[track_caller]
fn assert_orderly(log: &Log) {
    assert_eq!(log.nested(), 0, "a callback ran inside another");
    let mut ids: Vec<ConnId> = log.events().iter().filter_map(|e| e.conn).collect();
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        let story = story(log, id);
        assert_eq!(story.first(), Some(&"accept"), "{id}: {story:?}");
        let ends = story.iter().filter(|name| **name == "close").count();
        assert_eq!(ends, 1, "{id}: {story:?}");
        assert_eq!(story.last(), Some(&"close"), "{id}: {story:?}");
    }
}

#[test]
fn the_callbacks_of_a_connection_come_in_order() {
    let recorder = Recorder::echo();
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut client = connect(server.addr);
    assert_eq!(round_trip(&mut client, b"hello"), b"hello");
    finish(&client);
    assert_eq!(read_to_eof(&mut client), b"");
    let closed = log.wait_closes(1).remove(0);
    assert_eq!(closed.reason, Why::Eof);
    assert_eq!(story(&log, closed.id), ["accept", "read", "eof", "close"]);
    server.stop();
    assert_orderly(&log);
    assert_eq!(log.names().first(), Some(&"start"));
    assert_eq!(log.names().last(), Some(&"stop"));
}

#[test]
fn closing_itself_ends_a_connection_from_every_callback() {
    for callback in ["accept", "read", "eof", "timeout", "wake", "write"] {
        let log = close_itself_in(callback);
        assert_orderly(&log);
        let events = log.events();
        let at = events.iter().position(|e| e.what.name() == callback);
        let after: Vec<_> = events[at.unwrap() + 1..]
            .iter()
            .filter(|e| e.conn.is_some())
            .map(|e| e.what.name())
            .collect();
        assert_eq!(after, ["close"], "after close() in {callback}");
    }
}

/// Has one connection call `close` twice in one callback, and provokes that callback.
fn close_itself_in(callback: &'static str) -> Log {
    let close = move |name: &str, conn: &mut windlass::Conn<'_>| {
        if name == callback {
            conn.close();
            conn.close();
            assert_eq!(conn.write(b"late"), Flow::Closed);
            assert_eq!(conn.flow(), Flow::Closed);
            // It can still be found, and it takes no more wake-ups.
            let id = conn.id();
            assert!(conn.cx().conn(id).is_some());
            assert!(!conn.cx().wake(id));
        }
        Ok(())
    };
    let recorder = Recorder::new()
        .without_bytes()
        .accept(move |conn| {
            if callback == "timeout" {
                let at = conn.now() + ms(5);
                conn.set_read_deadline(Some(at));
            }
            close("accept", conn)
        })
        .read(move |conn, input| {
            input.take_all();
            match callback {
                "wake" => {
                    let id = conn.id();
                    assert!(conn.cx().wake(id));
                }
                "write" => assert_eq!(conn.write(&FULL_WRITE), Flow::Full),
                _ => {}
            }
            close("read", conn)
        })
        .eof(move |conn, _| close("eof", conn))
        .timeout(move |conn, _| close("timeout", conn))
        .wake(move |conn| close("wake", conn))
        .write(move |conn| close("write", conn));
    let log = recorder.log.clone();
    let server = serve_with(soon_full(), recorder);
    let mut client = connect(server.addr);
    if callback != "accept" && callback != "timeout" {
        send(&mut client, b"go");
    }
    if callback == "eof" {
        finish(&client);
    }
    read_to_end_or_reset(&mut client);
    drop(client);
    log.wait_for("close", 1);
    server.stop();
    log
}

#[test]
fn after_close_the_only_callback_left_is_on_close() {
    // Everything that could still call back is due when it closes: bytes left over, a queue
    // that drains, a wake-up, deadlines; and the peer goes on sending while it lingers.
    let recorder = Recorder::new().read(|conn, input| {
        input.take(1);
        conn.read_again();
        assert_eq!(conn.write(&FULL_WRITE), Flow::Full);
        let soon = conn.now() + ms(5);
        conn.set_deadline(Some(soon));
        conn.set_timer(soon);
        let id = conn.id();
        assert!(conn.cx().wake(id));
        conn.close();
        Ok(())
    });
    let log = recorder.log.clone();
    let server = serve_with(soon_full(), recorder);
    let mut client = connect(server.addr);
    send(&mut client, b"first");
    assert_eq!(read_to_eof(&mut client), FULL_WRITE);
    let begin = server.stats().bytes_discarded;
    for _ in 0..5 {
        send(&mut client, b"more");
    }
    server.until("the rest is drained", |s| s.bytes_discarded == begin + 20);
    // Lets the deadlines pass: a timer of ours, set after them, has fired.
    let (say, fired) = mpsc::channel();
    server.ask(move |recorder, cx| {
        cx.set_timer(cx.now() + ms(20));
        *recorder = std::mem::take(recorder).timer(move |_, _| say.send(()).unwrap());
    });
    fired.recv_timeout(PATIENCE).unwrap();
    assert_eq!(log.names(), ["start", "accept", "read", "timer"]);
    drop(client);
    log.wait_for("close", 1);
    server.stop();
}

#[test]
fn one_connection_closes_aborts_and_writes_to_another() {
    let victim: Shelf<Option<ConnId>> = shelf();
    let seen = Arc::clone(&victim);
    let recorder = Recorder::new()
        .accept(move |conn| {
            seen.lock().unwrap().get_or_insert(conn.id());
            Ok(())
        })
        .read(move |conn, input| {
            let victim = victim.lock().unwrap().unwrap();
            let order = input.take_all().to_vec();
            let mut other = conn.cx().conn(victim).expect("the victim lives");
            match &order[..] {
                b"write" => assert_eq!(other.write(b"from a stranger"), Flow::Open),
                b"close" => {
                    other.write(b"last words");
                    other.close();
                    assert_eq!(other.write(b"too late"), Flow::Closed);
                }
                other => panic!("unknown order {other:?}"),
            }
            Ok(())
        });
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut first = connect(server.addr);
    log.wait_for("accept", 1);
    let mut second = connect(server.addr);
    send(&mut second, b"write");
    assert_eq!(read_exactly(&mut first, 15), b"from a stranger");
    send(&mut second, b"close");
    assert_eq!(read_to_eof(&mut first), b"last words");
    drop(first);
    let closed = log.wait_closes(1).remove(0);
    assert_eq!(closed.reason, Why::Local);
    assert_eq!(closed.bytes_written, 25);
    drop(second);
    log.wait_for("close", 2);
    server.stop();
    assert_orderly(&log);
}

#[test]
fn aborting_another_connection_resets_it_with_one_on_close() {
    let all: Shelf<Vec<ConnId>> = shelf();
    let seen = Arc::clone(&all);
    let recorder = Recorder::new()
        .accept(move |conn| {
            seen.lock().unwrap().push(conn.id());
            Ok(())
        })
        .read(move |conn, input| {
            input.take_all();
            let me = conn.id();
            for &id in all.lock().unwrap().iter().filter(|id| **id != me) {
                let mut other = conn.cx().conn(id).unwrap();
                other.write(b"lost");
                other.abort();
                other.abort();
                other.close();
                assert_eq!(other.write(b"no"), Flow::Closed);
                // Gone for everybody, before its `on_close` has run.
                assert!(conn.cx().conn(id).is_none());
            }
            Ok(())
        });
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut victims = connect_many(server.addr, 3);
    log.wait_for("accept", 3);
    let mut killer = connect(server.addr);
    send(&mut killer, b"now");
    for victim in &mut victims {
        expect_reset(victim);
    }
    let closes = log.wait_closes(3);
    assert!(closes.iter().all(|c| c.reason == Why::Local));
    drop(killer);
    log.wait_for("close", 4);
    server.stop();
    assert_orderly(&log);
}

#[test]
fn a_connection_closed_by_its_neighbour_in_the_same_turn_hears_nothing_more() {
    // Both have bytes waiting when the loop looks; whoever is served first aborts the other.
    let all: Shelf<Vec<ConnId>> = shelf();
    let seen = Arc::clone(&all);
    let recorder = Recorder::new()
        .accept(move |conn| {
            seen.lock().unwrap().push(conn.id());
            Ok(())
        })
        .read(move |conn, input| {
            input.take_all();
            let me = conn.id();
            for &id in all.lock().unwrap().iter().filter(|id| **id != me) {
                if let Some(mut other) = conn.cx().conn(id) {
                    other.abort();
                }
            }
            Ok(())
        });
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut clients = connect_many(server.addr, 8);
    log.wait_for("accept", 8);
    let held = server.hold(|_| ());
    for client in &mut clients {
        send(client, b"x");
    }
    drop(held);
    log.wait_for("close", 7);
    assert_eq!(log.count("read"), 1);
    drop(clients);
    log.wait_for("close", 8);
    server.stop();
    assert_orderly(&log);
}

#[test]
fn wake_runs_once_in_a_later_turn_however_often_it_was_asked() {
    let turns: Shelf<Vec<(&'static str, u64)>> = shelf();
    let (reading, waking) = (Arc::clone(&turns), Arc::clone(&turns));
    let recorder = Recorder::new()
        .read(move |conn, input| {
            input.take_all();
            let id = conn.id();
            for _ in 0..10 {
                assert!(conn.cx().wake(id));
            }
            let turn = conn.cx().stats().turns;
            reading.lock().unwrap().push(("read", turn));
            Ok(())
        })
        .wake(move |conn| {
            let turn = conn.cx().stats().turns;
            waking.lock().unwrap().push(("wake", turn));
            conn.write(b"awake");
            Ok(())
        });
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut client = connect(server.addr);
    send(&mut client, b"x");
    assert_eq!(read_exactly(&mut client, 5), b"awake");
    let turns = turns.lock().unwrap().clone();
    let [("read", read), ("wake", wake)] = turns[..] else {
        panic!("{turns:?}");
    };
    assert!(wake > read);
    drop(client);
    log.wait_for("close", 1);
    assert_eq!(log.count("wake"), 1);
    server.stop();
}

#[test]
fn a_wake_up_asked_for_by_any_callback_waits_for_the_next_turn() {
    let turns: Shelf<Vec<(&'static str, u64)>> = shelf();
    let note = {
        let turns = Arc::clone(&turns);
        move |name: &'static str, conn: &mut windlass::Conn<'_>| {
            let turn = conn.cx().stats().turns;
            turns.lock().unwrap().push((name, turn));
        }
    };
    let (on_timeout, on_wake, on_write) = (note.clone(), note.clone(), note);
    let recorder = Recorder::new()
        .without_bytes()
        .read(|conn, input| {
            input.take_all();
            // A deadline in the past and a queue that the flush empties: both are due in
            // the next turn.
            let now = conn.now();
            conn.set_read_deadline(Some(now));
            Ok(())
        })
        .timeout(move |conn, _| {
            on_timeout("timeout", conn);
            let id = conn.id();
            conn.cx().wake(id);
            Ok(())
        })
        .wake(move |conn| {
            on_wake("wake", conn);
            conn.write(&FULL_WRITE);
            Ok(())
        })
        .write(move |conn| {
            on_write("write", conn);
            conn.close();
            Ok(())
        });
    let server = serve_with(soon_full(), recorder);
    let mut client = connect(server.addr);
    send(&mut client, b"x");
    assert_eq!(read_to_eof(&mut client).len(), FULL_WRITE.len());
    drop(client);
    let turns = turns.lock().unwrap().clone();
    let [("timeout", timeout), ("wake", wake), ("write", write)] = turns[..] else {
        panic!("{turns:?}");
    };
    assert!(timeout < wake && wake < write, "{turns:?}");
    server.stop();
}

#[test]
fn post_to_runs_with_the_session_and_its_error_closes() {
    let recorder = Recorder::new();
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut client = connect(server.addr);
    log.wait_for("accept", 1);
    let id = log.events()[1].conn.unwrap();
    let (say, answer) = mpsc::channel();
    server
        .handle
        .post_to(id, move |_, conn, session| {
            conn.write(b"posted");
            say.send(*session == conn.id()).unwrap();
            Ok(())
        })
        .unwrap();
    assert!(answer.recv_timeout(PATIENCE).unwrap());
    assert_eq!(read_exactly(&mut client, 6), b"posted");
    server
        .handle
        .post_to(id, |_, conn, _| {
            conn.write(b"last");
            Err(boom())
        })
        .unwrap();
    assert_eq!(read_to_eof(&mut client), b"last");
    drop(client);
    let closed = log.wait_closes(1).remove(0);
    assert_eq!(closed.reason, Why::Handler("boom".into()));
    server
        .handle
        .post_to(id, |_, _, _| panic!("it is gone"))
        .unwrap();
    server.until("the post is counted", |stats| stats.posted_to_gone == 1);
    server.stop();
}

#[test]
fn posts_run_in_the_order_of_posting() {
    let server = serve(Recorder::new());
    let order: Shelf<Vec<u32>> = shelf();
    for n in 0..5000 {
        let order = Arc::clone(&order);
        server
            .handle
            .post(move |_, _| order.lock().unwrap().push(n))
            .unwrap();
    }
    server.ask(|_, _| ());
    assert!(order.lock().unwrap().iter().copied().eq(0..5000));
    server.stop();
}

#[test]
fn an_error_from_any_callback_closes_with_its_text_and_flushes_first() {
    for callback in ["read", "eof", "timeout", "wake", "write", "shutdown"] {
        let closed = err_in(callback);
        assert_eq!(
            closed.reason,
            Why::Handler("boom".into()),
            "from {callback}"
        );
        assert_eq!(closed.unsent, 0, "from {callback}");
    }
}

fn err_in(callback: &'static str) -> Reported {
    let err = move |name: &str, conn: &mut windlass::Conn<'_>| {
        if name != callback {
            return Ok(());
        }
        conn.write(b"the end");
        Err(boom())
    };
    let recorder = Recorder::new()
        .without_bytes()
        .read(move |conn, input| {
            input.take_all();
            let (id, now) = (conn.id(), conn.now());
            match callback {
                "timeout" => conn.set_read_deadline(Some(now + ms(1))),
                "wake" => assert!(conn.cx().wake(id)),
                "write" => assert_eq!(conn.write(&FULL_WRITE), Flow::Full),
                "shutdown" => conn.cx().shutdown(PATIENCE),
                _ => {}
            }
            err("read", conn)
        })
        .eof(move |conn, _| err("eof", conn))
        .timeout(move |conn, _| err("timeout", conn))
        .wake(move |conn| err("wake", conn))
        .write(move |conn| err("write", conn))
        .shutdown(move |conn| err("shutdown", conn));
    let log = recorder.log.clone();
    let server = serve_with(soon_full(), recorder);
    let mut client = connect(server.addr);
    send(&mut client, b"go");
    if callback == "eof" {
        finish(&client);
    }
    let bytes = read_to_eof(&mut client);
    assert!(bytes.ends_with(b"the end"), "from {callback}");
    drop(client);
    let closed = log.wait_closes(1).remove(0);
    if callback != "shutdown" {
        server.stop();
    }
    assert_orderly(&log);
    closed
}

#[test]
fn an_error_in_on_accept_refuses_without_on_close() {
    let recorder = Recorder::new().accept(|conn| {
        conn.write(b"never seen");
        Err(boom())
    });
    let log = recorder.log.clone();
    let server = serve(recorder);
    for _ in 0..5 {
        let mut client = connect(server.addr);
        let (bytes, _) = read_to_end_or_reset(&mut client);
        assert_eq!(bytes, b"");
    }
    let (_, summary) = server.stop();
    assert_eq!(summary.stats.refused, 5);
    assert_eq!(summary.stats.accepted, 0);
    assert_eq!(summary.stats.closed, 0);
    assert_eq!(log.count("accept"), 5);
    assert_eq!(log.count("close"), 0);
}

#[test]
fn abort_and_an_error_in_on_accept_refuse_with_a_reset() {
    let recorder = Recorder::new().accept(|conn| {
        conn.abort();
        Err(boom())
    });
    let log = recorder.log.clone();
    let server = serve(recorder);
    connect_for_a_reset(server.addr);
    let (_, summary) = server.stop();
    assert_eq!((summary.stats.refused, log.count("close")), (1, 0));
}

#[test]
fn abort_and_ok_in_on_accept_give_one_on_close() {
    let recorder = Recorder::new().accept(|conn| {
        conn.abort();
        assert_eq!(conn.write(b"x"), Flow::Closed);
        Ok(())
    });
    let log = recorder.log.clone();
    let server = serve(recorder);
    connect_for_a_reset(server.addr);
    assert_eq!(log.wait_closes(1)[0].reason, Why::Local);
    let (_, summary) = server.stop();
    assert_eq!((summary.stats.accepted, summary.stats.closed), (1, 1));
    assert_orderly(&log);
}

#[test]
fn a_greeting_and_close_in_on_accept_arrive_whole() {
    let recorder = Recorder::new().accept(|conn| {
        conn.write(b"good day\n");
        conn.close();
        Ok(())
    });
    let log = recorder.log.clone();
    let server = serve(recorder);
    for _ in 0..20 {
        assert_eq!(read_to_eof(&mut connect(server.addr)), b"good day\n");
    }
    log.wait_for("close", 20);
    server.stop();
    assert_orderly(&log);
}

#[test]
fn in_on_close_the_connection_is_gone_and_others_can_be_written_to() {
    let witness: Shelf<Option<ConnId>> = shelf();
    let seen = Arc::clone(&witness);
    let recorder = Recorder::new()
        .accept(move |conn| {
            seen.lock().unwrap().get_or_insert(conn.id());
            Ok(())
        })
        .close(move |cx: &mut Context<'_>, closed: &Closed| {
            assert!(cx.conn(closed.id).is_none());
            assert!(!cx.wake(closed.id));
            let witness = witness.lock().unwrap().unwrap();
            if let Some(mut witness) = cx.conn(witness) {
                witness.write(b"somebody left");
            }
        });
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut witness = connect(server.addr);
    log.wait_for("accept", 1);
    drop(connect(server.addr));
    assert_eq!(read_exactly(&mut witness, 13), b"somebody left");
    drop(witness);
    log.wait_for("close", 2);
    server.stop();
    assert_orderly(&log);
}

#[test]
fn an_on_close_may_end_others_and_each_of_them_is_told_once() {
    let recorder = Recorder::new().close(|cx, _| cx.for_each(|conn| conn.abort()));
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut clients = connect_many(server.addr, 10);
    log.wait_for("accept", 10);
    drop(clients.pop());
    log.wait_for("close", 10);
    let (_, summary) = server.stop();
    assert_eq!(summary.stats.closed, 10);
    assert_orderly(&log);
}

#[test]
fn for_each_visits_every_open_connection_once_and_no_closing_one() {
    let recorder = Recorder::new();
    let log = recorder.log.clone();
    let server = serve(recorder);
    let _clients = connect_many(server.addr, 5);
    log.wait_for("accept", 5);
    let visits = server.ask(|_, cx| {
        let mut visited = Vec::new();
        cx.for_each(|conn| {
            visited.push(conn.id());
            if visited.len() > 2 {
                conn.abort();
            }
        });
        let mut open = Vec::new();
        cx.for_each(|conn| open.push(conn.id()));
        (visited, open)
    });
    let (mut visited, open) = visits;
    assert_eq!(open, visited[..2]);
    visited.sort_unstable();
    visited.dedup();
    assert_eq!(visited.len(), 5);
    server.stop_now();
    assert_orderly(&log);
}

#[test]
fn the_timers_of_a_connection_die_with_it() {
    let timers: Shelf<Vec<TimerId>> = shelf();
    let set = Arc::clone(&timers);
    let recorder = Recorder::new().accept(move |conn| {
        let at = conn.now() + ms(40);
        let two = [conn.set_timer(at), conn.set_timer(at)];
        set.lock().unwrap().extend(two);
        conn.set_read_deadline(Some(at));
        Ok(())
    });
    let log = recorder.log.clone();
    let server = serve(recorder);
    let client = connect(server.addr);
    log.wait_for("accept", 1);
    reset(client);
    log.wait_for("close", 1);
    let timers = std::mem::take(&mut *timers.lock().unwrap());
    server.ask(move |_, cx| {
        assert!(!timers.into_iter().any(|id| cx.cancel_timer(id)), "gone");
        // A free timer that is due after them shows when their time has passed.
        cx.set_timer(cx.now() + ms(60));
    });
    log.wait_for("timer", 1);
    let (_, summary) = server.stop();
    assert_eq!(log.count("timeout"), 0);
    assert_eq!(summary.stats.timers, 1);
    assert_orderly(&log);
}

#[test]
fn a_cancelled_timer_of_a_connection_does_not_fire() {
    let recorder = Recorder::new()
        .accept(|conn| {
            let at = conn.now() + ms(10);
            let cancelled = conn.set_timer(at);
            conn.set_timer(at + ms(10));
            assert!(conn.cx().cancel_timer(cancelled));
            assert!(!conn.cx().cancel_timer(cancelled));
            Ok(())
        })
        .timeout(|conn, which| {
            let Deadline::Timer(id) = which else {
                panic!("{which}");
            };
            assert!(!conn.cx().cancel_timer(id), "it has fired");
            conn.write(b"tick");
            conn.close();
            Ok(())
        });
    let log = recorder.log.clone();
    let server = serve(recorder);
    assert_eq!(read_to_eof(&mut connect(server.addr)), b"tick");
    assert_eq!(log.count("timeout"), 1);
    server.stop();
}

#[test]
fn shutdown_from_a_callback_tells_everybody_once_and_ends_the_loop() {
    let recorder = Recorder::new()
        .read(|conn, input| {
            input.take_all();
            conn.cx().shutdown(PATIENCE);
            conn.cx().shutdown(PATIENCE);
            conn.write(b"going down");
            Ok(())
        })
        .shutdown(|conn| {
            conn.write(b", bye");
            conn.close();
            Ok(())
        });
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut others = connect_many(server.addr, 3);
    log.wait_for("accept", 3);
    let mut asker = connect(server.addr);
    send(&mut asker, b"stop");
    assert_eq!(read_to_eof(&mut asker), b"going down, bye");
    for other in &mut others {
        assert_eq!(read_to_eof(other), b", bye");
    }
    drop((asker, others));
    let ended = server.join();
    assert_eq!(ended.result.unwrap().aborted, 0);
    assert_eq!(log.count("shutdown"), 4);
    assert_eq!(log.count("stop"), 1);
    assert_eq!(log.names().last(), Some(&"stop"));
    assert!(log.closes().iter().all(|c| c.reason == Why::Shutdown));
    assert_orderly(&log);
}

#[test]
fn whoever_ignores_the_shutdown_is_aborted_when_the_grace_ends() {
    let recorder = Recorder::new().shutdown(|_| Ok(()));
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut client = connect(server.addr);
    log.wait_for("accept", 1);
    let ended = server.end(ms(30));
    assert_eq!(ended.result.unwrap().aborted, 1);
    expect_reset(&mut client);
    assert_eq!(log.closes()[0].reason, Why::Shutdown);
    assert_orderly(&log);
}

#[test]
fn a_storm_of_orders_in_every_callback_keeps_the_order() {
    // Every callback does something to somebody, by a seed: the order must hold whatever
    // that is.
    let all: Shelf<Vec<ConnId>> = shelf();
    let rng = Arc::new(Mutex::new(Rng::new(7)));
    let meddle = {
        let all = Arc::clone(&all);
        move |conn: &mut windlass::Conn<'_>| meddle(&mut rng.lock().unwrap(), &all, conn)
    };
    let [m1, m2, m3, m4, m5] = [(); 5].map(|()| meddle.clone());
    let recorder = Recorder::new()
        .without_bytes()
        .accept(move |conn| {
            all.lock().unwrap().push(conn.id());
            m1(conn)
        })
        .read(move |conn, input| {
            input.consume(input.len() / 2 + 1);
            m2(conn)
        })
        .eof(move |conn, _| m3(conn).and_then(|()| Err(boom())))
        .timeout(move |conn, which| match which {
            Deadline::Idle => Err(boom()),
            _ => m4(conn),
        })
        .wake(move |conn| m5(conn));
    let log = recorder.log.clone();
    let server = serve_with(config(|config| config.linger = ms(100)), recorder);
    let mut rng = Rng::new(8);
    let mut clients = Vec::new();
    for _ in 0..400 {
        let Ok(mut client) = try_connect(server.addr) else {
            continue; // reset already
        };
        let _ = client.write_all(&pattern(rng.range(1, 200), 1));
        match rng.range(0, 4) {
            0 => reset(client),
            // It may have been reset by now.
            1 => drop(client.shutdown(Shutdown::Write)),
            2 => drop(client),
            _ => clients.push(client),
        }
    }
    drop(clients);
    server.until("everybody is gone", |s| {
        s.open == 0 && s.accepted + s.refused == 400
    });
    let (_, summary) = server.stop();
    assert_eq!(summary.stats.accepted, log.count("close") as u64);
    assert_eq!(log.nested(), 0);
    for closed in log.closes() {
        let story = story(&log, closed.id);
        assert_eq!(story[0], "accept");
        assert_eq!(
            story.iter().position(|n| *n == "close"),
            Some(story.len() - 1)
        );
    }
}

fn meddle(
    rng: &mut Rng,
    all: &Shelf<Vec<ConnId>>,
    conn: &mut windlass::Conn<'_>,
) -> io::Result<()> {
    let ids = all.lock().unwrap().clone();
    let target = ids[rng.range(ids.len().saturating_sub(8), ids.len())];
    let at = conn.now() + Duration::from_micros(rng.next() % 3000);
    let act = rng.range(0, 12);
    if act == 0 {
        return Err(boom());
    }
    let Some(mut other) = conn.cx().conn(target) else {
        return Ok(());
    };
    match act {
        1 => other.close(),
        2 => other.abort(),
        3 => other.shutdown_write(),
        4 => other.pause(),
        5 => other.resume(),
        6 => other.set_read_deadline(Some(at)),
        7 => {
            other.set_timer(at);
        }
        8 => {
            other.cx().wake(target);
        }
        9 => other.read_again(),
        _ => {
            other.write(b"meddling");
        }
    }
    // Nobody stays paused for ever.
    let end = other.now() + ms(300);
    other.set_write_deadline(Some(end));
    other.set_idle_timeout(Some(ms(200)));
    Ok(())
}

/// Compiles only while a callback is lent everything at once.
#[test]
fn a_callback_may_use_handler_session_connection_and_loop_together() {
    struct Counting {
        total: u64,
    }
    impl Handler for Counting {
        type Session = u64;
        fn on_accept(
            &mut self,
            _: &mut windlass::Conn<'_>,
            _: windlass::ListenerId,
        ) -> io::Result<u64> {
            Ok(0)
        }
        fn on_read(
            &mut self,
            conn: &mut windlass::Conn<'_>,
            session: &mut u64,
            input: &mut windlass::Input<'_>,
        ) -> io::Result<()> {
            while let Some(byte) = input.take(1) {
                *session += u64::from(byte[0]);
                self.total += *session;
                let me = conn.id();
                let total = self.total;
                if let Some(mut same) = conn.cx().conn(me) {
                    write!(same, "{session} {total};");
                }
            }
            Ok(())
        }
    }
    let server = serve(Counting { total: 0 });
    let mut client = connect(server.addr);
    send(&mut client, &[1, 2, 3]);
    assert_eq!(read_exactly(&mut client, 13), b"1 1;3 4;6 10;");
    server.stop_now();
}
