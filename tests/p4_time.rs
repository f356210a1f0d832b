//! P4: time is bounded. Deadlines and timers fire once per setting, never early and not
//! late; whoever is silent, stuck or never done is ended.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use util::*;
use windlass::{Config, Conn, ConnId, Deadline, Flow, Listen, TimerId};

/// The most that a loaded test machine may add to a limit. On an idle one it is 2 ms.
const LATE: Duration = Duration::from_millis(500);

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A listener whose connections have little room in the kernel, so that what a peer does
/// not read stays with us.
fn narrow() -> Listen {
    Listen::new("127.0.0.1:0").unwrap().send_buffer(4 * KIB)
}

/// More than the kernel takes from a [`narrow`] connection.
const STUCK: usize = 4 * MIB;

#[track_caller]
fn assert_on_time(event: &Event, due: Instant) {
    let late = event
        .now
        .checked_duration_since(due)
        .expect("it fired early");
    assert!(late < LATE, "{late:?} late");
    assert!(event.at >= due);
}

/// All that has timed out, with the event.
fn timeouts(log: &Log) -> Vec<(Deadline, Event)> {
    let events = log.events().into_iter();
    events
        .filter_map(|event| match event.what {
            What::Timeout(which) => Some((which, event)),
            _ => None,
        })
        .collect()
}

/// Returns when a free timer of that length, set now, has fired: everything that was due
/// before it has had its chance.
fn wait_on_the_loop(server: &Server<Recorder>, log: &Log, length: Duration) {
    let id = server.ask(move |_, cx| cx.set_timer(cx.now() + length));
    log.wait("a free timer", |events| {
        events
            .iter()
            .any(|event| matches!(event.what, What::Timer(fired) if fired == id))
    });
}

fn first(log: &Log) -> ConnId {
    log.wait_for("accept", 1);
    log.events().iter().find_map(|event| event.conn).unwrap()
}

// Every kind of limit.

/// In milliseconds.
const LENGTHS: [u64; 5] = [1, 3, 17, 40, 90];

type SetLimit = fn(&mut Conn<'_>, Duration);

#[test]
fn every_deadline_fires_once_never_early_and_not_late() {
    let kinds: [(&str, SetLimit); 4] = [
        ("read", |conn, after| {
            let at = conn.now() + after;
            conn.set_read_deadline(Some(at));
        }),
        ("write", |conn, after| {
            let at = conn.now() + after;
            conn.set_write_deadline(Some(at));
            conn.write(&vec![0; STUCK]);
        }),
        ("idle", |conn, after| conn.set_idle_timeout(Some(after))),
        ("timer", |conn, after| {
            let at = conn.now() + after;
            conn.set_timer(at);
        }),
    ];
    for (kind, set) in kinds {
        fire_on_time(kind, set);
    }
}

fn fire_on_time(kind: &str, set: SetLimit) {
    let due: Arc<Mutex<HashMap<ConnId, Instant>>> = Arc::default();
    let noted = Arc::clone(&due);
    let mut lengths = LENGTHS.into_iter();
    let recorder = Recorder::new()
        .accept(move |conn| {
            let after = ms(lengths.next().unwrap());
            noted.lock().unwrap().insert(conn.id(), conn.now() + after);
            set(conn, after);
            Ok(())
        })
        .timeout(|conn, which| {
            if which == Deadline::Idle {
                conn.set_idle_timeout(None); // it would begin anew
            }
            Ok(())
        });
    let log = recorder.log.clone();
    let server = serve_on(Config::default(), narrow(), recorder);
    let _clients: Vec<_> = LENGTHS
        .iter()
        .map(|_| connect_small(server.addr, 4 * KIB))
        .collect();
    log.wait_for("timeout", LENGTHS.len());
    wait_on_the_loop(&server, &log, ms(5));
    let fired = timeouts(&log);
    assert_eq!(fired.len(), LENGTHS.len(), "{kind}: once per setting");
    for (which, event) in fired {
        let due = due.lock().unwrap()[&event.conn.unwrap()];
        assert_on_time(&event, due);
        let name = match which {
            Deadline::Read => "read",
            Deadline::Write => "write",
            Deadline::Idle => "idle",
            Deadline::Timer(_) => "timer",
            other => panic!("{other}"),
        };
        assert_eq!(name, kind);
    }
    server.stop_now();
}

#[test]
fn ten_thousand_timers_fire_once_each_in_order_and_never_early() {
    const TIMERS: usize = 10_000;
    let recorder = Recorder::new();
    let log = recorder.log.clone();
    let server = serve(recorder);
    let (due, cancelled) = server.ask(|_, cx| {
        let mut rng = Rng::new(41);
        let mut due: HashMap<TimerId, Instant> = HashMap::new();
        let mut cancelled = Vec::new();
        for _ in 0..TIMERS {
            let at = cx.now() + Duration::from_micros(rng.next() % 300_000);
            let id = cx.set_timer(at);
            if rng.one_in(3) {
                cancelled.push(id);
            } else {
                due.insert(id, at);
            }
        }
        assert!(cancelled.iter().all(|&id| cx.cancel_timer(id)));
        assert!(!cancelled.iter().any(|&id| cx.cancel_timer(id)));
        (due, cancelled)
    });
    log.wait_for("timer", due.len());
    wait_on_the_loop(&server, &log, ms(5));
    let mut fired: HashMap<TimerId, Instant> = HashMap::new();
    let mut late = Vec::new();
    let mut last = None;
    for event in log.events() {
        let What::Timer(id) = event.what else {
            continue;
        };
        let Some(&at) = due.get(&id) else {
            assert!(!cancelled.contains(&id), "a cancelled timer fired");
            continue; // the one that was waited on
        };
        assert_on_time(&event, at);
        assert!(fired.insert(id, event.now).is_none(), "twice");
        late.push(event.now - at);
        // Those of one millisecond may stand in either order.
        assert!(last.is_none_or(|last| at + ms(1) >= last), "out of order");
        last = Some(at);
    }
    assert_eq!(fired.len(), due.len());
    late.sort_unstable();
    assert!(late[late.len() / 2] < ms(25), "half of them: {late:?}");
    server.stop();
}

#[test]
fn timers_of_one_moment_fire_in_the_order_of_setting() {
    let recorder = Recorder::new();
    let log = recorder.log.clone();
    let server = serve(recorder);
    let set = server.ask(|_, cx| {
        let at = cx.now() + ms(20);
        (0..100).map(|_| cx.set_timer(at)).collect::<Vec<_>>()
    });
    log.wait_for("timer", set.len());
    let fired = log.events().into_iter().filter_map(|e| match e.what {
        What::Timer(id) => Some(id),
        _ => None,
    });
    assert!(fired.eq(set));
    server.stop();
}

#[test]
fn none_takes_a_deadline_back() {
    let recorder = Recorder::new().accept(|conn| {
        let at = conn.now() + ms(10);
        conn.set_deadline(Some(at));
        conn.set_idle_timeout(Some(ms(10)));
        conn.set_deadline(None);
        conn.set_idle_timeout(None);
        // Past, and taken back before its turn came.
        let now = conn.now();
        conn.set_read_deadline(Some(now));
        conn.set_read_deadline(None);
        conn.write(&vec![0; STUCK]);
        Ok(())
    });
    let log = recorder.log.clone();
    let server = serve_on(Config::default(), narrow(), recorder);
    let _client = connect_small(server.addr, 4 * KIB);
    log.wait_for("accept", 1);
    wait_on_the_loop(&server, &log, ms(40));
    assert_eq!(log.names(), ["start", "accept", "timer"]);
    server.stop_now();
}

#[test]
fn limits_beyond_all_time_are_never_and_harm_nobody() {
    let config = config(|config| {
        config.idle_timeout = Duration::MAX;
        config.write_stall_timeout = Duration::MAX;
        config.linger = Duration::MAX;
    });
    let recorder = Recorder::echo().accept(|conn| {
        let far = conn.now() + 200 * YEAR;
        conn.set_deadline(Some(far));
        conn.set_timer(far);
        conn.cx().set_timer(far);
        conn.set_idle_timeout(Some(Duration::MAX));
        Ok(())
    });
    let log = recorder.log.clone();
    let server = serve_with(config, recorder);
    let mut client = connect(server.addr);
    assert_eq!(round_trip(&mut client, b"now"), b"now");
    wait_on_the_loop(&server, &log, ms(10));
    assert_eq!(log.count("timeout"), 0);
    drop(client);
    let (_, summary) = server.stop();
    assert!(summary.stats.turns < 1000, "no spinning");
}

// What has passed.

#[test]
fn a_deadline_in_the_past_fires_in_the_next_turn_before_the_reads() {
    let turns: Arc<Mutex<Vec<(char, u64)>>> = Arc::default();
    let (reads, fires) = (Arc::clone(&turns), Arc::clone(&turns));
    let recorder = Recorder::new()
        .read(move |conn, input| {
            let turn = conn.cx().stats().turns;
            reads.lock().unwrap().push(('r', turn));
            input.take(1).unwrap();
            conn.read_again();
            let past = conn.now() - ms(5);
            conn.set_read_deadline(Some(past));
            // Set, not fired: that would have been inside the setter.
            assert_eq!(reads.lock().unwrap().last(), Some(&('r', turn)));
            Ok(())
        })
        .timeout(move |conn, which| {
            assert_eq!(which, Deadline::Read);
            let turn = conn.cx().stats().turns;
            fires.lock().unwrap().push(('t', turn));
            Ok(())
        });
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut client = connect(server.addr);
    send(&mut client, b"12345");
    log.wait_for("timeout", 5);
    server.ask(|_, _| ()); // and the callback is over
    let turns = turns.lock().unwrap().clone();
    let kinds: String = turns.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, "rtrtrtrtrt");
    for pair in turns.chunks(2) {
        assert_eq!(pair[1].1, pair[0].1 + 1, "the next turn: {turns:?}");
    }
    drop(client);
    server.stop();
}

#[test]
fn a_timer_in_the_past_fires_in_the_next_turn() {
    // From on_read, which is served before timers fire, and from a post, and from on_timer.
    let turns: Arc<Mutex<Vec<u64>>> = Arc::default();
    let (on_read, on_timer) = (Arc::clone(&turns), Arc::clone(&turns));
    let recorder = Recorder::new()
        .read(move |conn, input| {
            input.take_all();
            let turn = conn.cx().stats().turns;
            on_read.lock().unwrap().push(turn);
            let past = conn.now() - ms(5);
            conn.cx().set_timer(past);
            Ok(())
        })
        .timer(move |cx, _| {
            let mut turns = on_timer.lock().unwrap();
            turns.push(cx.stats().turns);
            if turns.len() < 10 {
                cx.set_timer(cx.now());
            }
        });
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut client = connect(server.addr);
    send(&mut client, b"x");
    log.wait_for("timer", 9);
    server.ask(|_, _| ()); // and the callback is over
    let turns = turns.lock().unwrap().clone();
    assert!(turns.is_sorted_by(|a, b| *b == a + 1), "{turns:?}");
    drop(client);
    server.stop();
}

#[test]
fn a_timer_that_sets_itself_again_at_once_does_not_hold_the_loop() {
    let recorder = Recorder::echo().timer(|cx, _| {
        cx.set_timer(cx.now());
    });
    let server = serve(recorder);
    server.ask(|_, cx| cx.set_timer(cx.now()));
    let mut client = connect(server.addr);
    for _ in 0..20 {
        assert_eq!(round_trip(&mut client, b"ping"), b"ping");
    }
    drop(client);
    server.stop();
}

#[test]
fn a_fired_deadline_does_not_poison_the_connection() {
    let recorder = Recorder::echo()
        .accept(|conn| {
            let at = conn.now() + ms(5);
            conn.set_read_deadline(Some(at));
            Ok(())
        })
        .timeout(|conn, _| {
            conn.write(b"tick");
            let at = conn.now() + ms(5);
            conn.set_read_deadline(Some(at));
            Ok(())
        });
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut client = connect(server.addr);
    assert_eq!(read_exactly(&mut client, 12), b"tickticktick");
    server.ask(|recorder, cx| {
        *recorder = std::mem::take(recorder).timeout(|_, _| Ok(()));
        cx.for_each(|conn| conn.set_read_deadline(None));
    });
    // What was on its way comes first; then it echoes as ever.
    send(&mut client, b"hello");
    let mut got = Vec::new();
    while !got.ends_with(b"hello") {
        got.extend(read_exactly(&mut client, 1));
    }
    assert!(log.count("timeout") >= 3);
    drop(client);
    server.stop();
}

#[test]
fn deadlines_run_while_reading_is_paused() {
    let recorder = Recorder::new().accept(|conn| {
        conn.pause();
        let at = conn.now() + ms(10);
        conn.set_read_deadline(Some(at));
        Ok(())
    });
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut client = connect(server.addr);
    send(&mut client, b"unheard");
    let closed = log.wait_closes(1).remove(0);
    assert_eq!(closed.reason, Why::Timeout(Deadline::Read));
    read_to_end_or_reset(&mut client);
    server.stop();
}

// Moved.

#[test]
fn a_deadline_moved_later_by_every_read_never_fires_while_bytes_come() {
    const LIMIT: Duration = Duration::from_millis(300);
    let recorder = Recorder::new().read(|conn, input| {
        conn.write(input.take_all());
        let at = conn.now() + LIMIT;
        conn.set_read_deadline(Some(at));
        Ok(())
    });
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut client = connect(server.addr);
    let began = Instant::now();
    while began.elapsed() < 2 * LIMIT {
        assert_eq!(round_trip(&mut client, b"ping"), b"ping");
        thread::park_timeout(ms(5));
    }
    assert_eq!(log.count("timeout"), 0);
    let closed = {
        assert_eq!(read_to_eof(&mut client), b"");
        drop(client);
        log.wait_closes(1).remove(0)
    };
    assert_eq!(closed.reason, Why::Timeout(Deadline::Read));
    let events = log.events();
    let mut reads = events.iter().filter(|e| matches!(e.what, What::Read(_)));
    let last = reads.next_back().unwrap().now;
    assert_on_time(&timeouts(&log)[0].1, last + LIMIT);
    server.stop();
}

#[test]
fn a_deadline_moved_earlier_fires_earlier() {
    let recorder = Recorder::new()
        .accept(|conn| {
            let far = conn.now() + YEAR;
            conn.set_deadline(Some(far));
            Ok(())
        })
        .read(|conn, input| {
            input.take_all();
            let soon = conn.now() + ms(20);
            conn.set_read_deadline(Some(soon));
            Ok(())
        });
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut client = connect(server.addr);
    send(&mut client, b"x");
    assert_eq!(read_to_eof(&mut client), b"");
    let events = log.events();
    let read = events.iter().find(|e| matches!(e.what, What::Read(_)));
    assert_on_time(&timeouts(&log)[0].1, read.unwrap().now + ms(20));
    drop(client);
    server.stop();
}

#[test]
fn a_deadline_moved_by_the_very_bytes_that_came_in_time_does_not_fire() {
    // The loop is held until the deadline has passed, and the bytes wait beside it:
    // readiness is served first, and moves it.
    let recorder = Recorder::echo()
        .accept(|conn| {
            let at = conn.now() + ms(20);
            conn.set_read_deadline(Some(at));
            Ok(())
        })
        .read(|conn, input| {
            conn.write(input.take_all());
            let at = conn.now() + YEAR;
            conn.set_read_deadline(Some(at));
            Ok(())
        });
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut client = connect(server.addr);
    let accepted = first(&log);
    let held = server.hold(|_| ());
    // If it has fired already, the machine was too slow to try this.
    let tried = log.count("timeout") == 0;
    send(&mut client, b"in time");
    let due = log.of(accepted)[0].now + ms(20);
    assert!(eventually(PATIENCE, || Instant::now() > due + ms(2)));
    drop(held);
    if tried {
        assert_eq!(read_exactly(&mut client, 7), b"in time");
        assert_eq!(log.count("timeout"), 0);
    }
    drop(client);
    server.stop();
}

// Output.

#[test]
fn the_write_deadline_fires_only_when_output_waits() {
    let recorder = Recorder::new()
        .accept(|conn| {
            // Both: the other one has somebody look at this connection's limits.
            let at = conn.now() + ms(5);
            conn.set_deadline(Some(at));
            Ok(())
        })
        .timeout(|_, _| Ok(()))
        .read(|conn, input| {
            match input.take_all() {
                // The kernel takes it at once: nothing waits.
                b"little" => conn.write(b"little"),
                _ => conn.write(&vec![0; STUCK]),
            };
            Ok(())
        });
    let log = recorder.log.clone();
    let server = serve_on(Config::default(), narrow(), recorder);
    let mut client = connect_small(server.addr, 4 * KIB);
    log.wait_for("accept", 1);
    wait_on_the_loop(&server, &log, ms(20));
    assert_eq!(round_trip(&mut client, b"little"), b"little");
    wait_on_the_loop(&server, &log, ms(5));
    let fired: Vec<_> = timeouts(&log).iter().map(|(which, _)| *which).collect();
    assert_eq!(fired, [Deadline::Read], "long past, and nothing waits");
    // It passed earlier: so it fires at the next write that has to wait.
    send(&mut client, b"much");
    log.wait_for("timeout", 2);
    assert_eq!(timeouts(&log)[1].0, Deadline::Write);
    drop(client);
    server.stop_now();
}

#[test]
fn a_reader_that_is_slow_but_makes_progress_is_not_stalled() {
    let recorder = Recorder::new().without_bytes().accept(|conn| {
        conn.write(&pattern(MIB, 42));
        conn.close();
        Ok(())
    });
    let log = recorder.log.clone();
    let config = config(|config| config.write_stall_timeout = ms(400));
    let server = serve_on(config, narrow(), recorder);
    let mut client = connect_small(server.addr, 4 * KIB);
    let mut got = Vec::new();
    let began = Instant::now();
    while got.len() < MIB {
        let piece = (MIB - got.len()).min(20 * KIB);
        got.extend(read_exactly(&mut client, piece));
        thread::park_timeout(ms(12));
    }
    assert!(began.elapsed() > ms(500), "longer than the stall limit");
    assert_same(&got, &pattern(MIB, 42));
    drop(client);
    assert_eq!(log.wait_closes(1)[0].reason, Why::Local);
    server.stop();
}

#[test]
fn output_that_has_left_is_not_stalled_however_it_left() {
    // A queue waits; its reader takes all of it; and before the loop flushes, another
    // connection's large write takes the queue along. Nothing waits from then on.
    const STALL: Duration = Duration::from_millis(150);
    let victim: Arc<Mutex<Option<ConnId>>> = Arc::default();
    let (seen, named) = (Arc::clone(&victim), Arc::clone(&victim));
    let recorder = Recorder::new()
        .without_bytes()
        .accept(move |conn| {
            let mut victim = seen.lock().unwrap();
            if victim.is_none() {
                *victim = Some(conn.id());
                conn.set_auto_pause(false);
            }
            Ok(())
        })
        .read(move |conn, input| {
            input.take_all();
            let victim = named.lock().unwrap().unwrap();
            conn.cx().conn(victim).unwrap().write(&[b'2'; 64 * KIB]);
            Ok(())
        })
        .wake(move |conn| {
            // Only a note for now: whoever is on the ready list is not flushed by an event.
            let id = victim.lock().unwrap().unwrap();
            if conn.id() != id {
                conn.cx().wake(id);
            }
            Ok(())
        });
    let log = recorder.log.clone();
    let config = config(|config| config.write_stall_timeout = STALL);
    let server = serve_with(config, recorder);
    let mut reader = connect_small(server.addr, 64 * KIB);
    let victim = first(&log);
    let mut writer = connect(server.addr);
    log.wait_for("accept", 2);
    let helper = log.events().last().unwrap().conn.unwrap();
    let queued = server.ask(move |_, cx| {
        let mut conn = cx.conn(victim).unwrap();
        conn.write(&vec![b'1'; 5 * MIB]);
        conn.queued()
    });
    assert!(queued > 0, "the kernel does not take it all");
    // Holds the loop while the reader empties the kernel's side and the writer sends.
    let held = server.hold(move |cx| assert!(cx.wake(helper)));
    read_exactly(&mut reader, 5 * MIB - queued);
    send(&mut writer, b"go");
    drop(held);
    read_exactly(&mut reader, queued + 64 * KIB);
    wait_on_the_loop(&server, &log, 2 * STALL);
    assert_eq!(log.count("timeout"), 0, "nothing was waiting");
    drop((reader, writer));
    server.stop();
}

// Idleness and the end.

#[test]
fn a_silent_client_is_closed_after_the_idle_timeout() {
    const IDLE: Duration = Duration::from_millis(60);
    let recorder = Recorder::echo();
    let log = recorder.log.clone();
    let server = serve_with(config(|config| config.idle_timeout = IDLE), recorder);
    let mut client = connect(server.addr);
    assert_eq!(round_trip(&mut client, b"hello"), b"hello");
    assert_eq!(read_to_eof(&mut client), b"");
    drop(client);
    let closed = log.wait_closes(1).remove(0);
    assert_eq!(closed.reason, Why::Timeout(Deadline::Idle));
    let events = log.events();
    let read = events.iter().find(|e| matches!(e.what, What::Read(_)));
    assert_on_time(&timeouts(&log)[0].1, read.unwrap().now + IDLE);
    server.stop();
}

#[test]
fn bytes_in_either_direction_keep_a_connection_from_being_idle() {
    const IDLE: Duration = Duration::from_millis(300);
    // One client only sends, the other one only receives.
    let recorder = Recorder::new()
        .without_bytes()
        .accept(|conn| {
            let at = conn.now() + ms(10);
            conn.set_timer(at);
            Ok(())
        })
        .timeout(|conn, which| {
            assert!(matches!(which, Deadline::Timer(_)), "{which}");
            if conn.bytes_read() == 0 {
                conn.write(b".");
            }
            let at = conn.now() + ms(10);
            conn.set_timer(at);
            Ok(())
        });
    let log = recorder.log.clone();
    let server = serve_with(config(|config| config.idle_timeout = IDLE), recorder);
    let mut talker = connect(server.addr);
    send(&mut talker, b"first");
    let mut listener = connect(server.addr);
    let began = Instant::now();
    while began.elapsed() < 2 * IDLE {
        send(&mut talker, b"more");
        read_exactly(&mut listener, 1);
    }
    assert_eq!(log.count("close"), 0);
    drop((talker, listener));
    server.stop();
}

#[test]
fn a_peer_that_never_finishes_after_our_close_is_let_go_after_the_linger_time() {
    const LINGER: Duration = Duration::from_millis(60);
    let recorder = Recorder::new().read(|conn, input| {
        input.take_all();
        conn.write(b"bye");
        conn.close();
        Ok(())
    });
    let log = recorder.log.clone();
    let server = serve_with(config(|config| config.linger = LINGER), recorder);
    let mut client = connect(server.addr);
    send(&mut client, b"x");
    assert_eq!(read_to_eof(&mut client), b"bye");
    let closed = log.wait_closes(1).remove(0);
    assert_eq!(closed.reason, Why::Local, "everything was delivered");
    let events = log.events();
    let read = events.iter().find(|e| matches!(e.what, What::Read(_)));
    assert_on_time(events.last().unwrap(), read.unwrap().now + LINGER);
    drop(client);
    server.stop();
}

#[test]
fn a_close_that_cannot_deliver_is_cut_off_after_the_linger_time() {
    const LINGER: Duration = Duration::from_millis(60);
    let recorder = Recorder::new().accept(|conn| {
        conn.write(&vec![0; STUCK]);
        conn.close();
        Ok(())
    });
    let log = recorder.log.clone();
    let server = serve_on(config(|config| config.linger = LINGER), narrow(), recorder);
    let mut client = connect_small(server.addr, 4 * KIB);
    let closed = log.wait_closes(1).remove(0);
    assert_eq!(closed.reason, Why::Timeout(Deadline::Linger));
    assert!(closed.unsent > 0);
    let events = log.events();
    assert_on_time(events.last().unwrap(), events[1].now + LINGER);
    expect_reset(&mut client);
    server.stop();
}

#[test]
fn several_limits_of_one_connection_do_not_disturb_each_other() {
    let recorder = Recorder::new()
        .accept(|conn| {
            let now = conn.now();
            conn.set_read_deadline(Some(now + ms(30)));
            conn.set_write_deadline(Some(now + ms(20)));
            conn.set_idle_timeout(Some(ms(50)));
            conn.set_timer(now + ms(10));
            conn.set_timer(now + ms(40));
            assert_eq!(conn.write(&vec![0; STUCK]), Flow::Full);
            Ok(())
        })
        .timeout(|conn, which| {
            if which == Deadline::Idle {
                conn.abort();
            }
            Ok(())
        });
    let log = recorder.log.clone();
    let server = serve_on(Config::default(), narrow(), recorder);
    let _client = connect_small(server.addr, 4 * KIB);
    log.wait_for("close", 1);
    let fired = timeouts(&log);
    let accepted = log.events()[1].now;
    let mut due: Vec<_> = fired
        .iter()
        .map(|(which, event)| {
            let after = event.now - accepted;
            assert!(after < LATE + ms(50), "{after:?}");
            match which {
                Deadline::Timer(_) => 't',
                Deadline::Write => 'w',
                Deadline::Read => 'r',
                Deadline::Idle => 'i',
                other => panic!("{other}"),
            }
        })
        .collect();
    for ((_, event), least) in fired.iter().zip([10, 20, 30, 40, 50]) {
        // Unless a slow machine let several pass at once, they come in order.
        if due == ['t', 'w', 'r', 't', 'i'] {
            assert!(event.now >= accepted + ms(least));
        }
    }
    due.sort_unstable();
    assert_eq!(due, ['i', 'r', 't', 't', 'w']);
    server.stop_now();
}
