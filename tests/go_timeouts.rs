//! What Go's `net/timeout_test.go` checks, on TCP: dials, read and write deadlines, and
//! what becomes of those that are moved all the time.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use util::*;
use windlass::sim::{Call, Client, Remote, World};
use windlass::{Config, Conn, ConnId, Context, Deadline, Dial, DialId, Error, Flow, Handler};

/// The wheel's tick and the poll's: how late a deadline may be in a simulated world.
const LATEST: Duration = Duration::from_millis(2);

/// The most that a loaded test machine may add to a limit.
const LATE: Duration = Duration::from_millis(500);

const HOUR: Duration = Duration::from_secs(3600);

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

// Dials.

const FAR: ([u8; 4], u16) = ([192, 0, 2, 1], 80);

// Go 1, 2, 3, 4, 5, TestDialTimeout: adapted, a Rust duration cannot be negative, so zero is
// the least there is; and the request ends in the next turn, by a callback.
#[test]
fn a_dial_whose_time_is_over_fails_at_once_and_tries_nobody() {
    type Limit = fn(Dial, Instant) -> Dial;
    let limits: [(&str, Limit); 5] = [
        ("no time", |dial, _| dial.timeout(Duration::ZERO)),
        ("five seconds ago", |dial, now| dial.deadline(now - secs(5))),
        ("no time, and a deadline ahead", |dial, now| {
            dial.timeout(Duration::ZERO).deadline(now + secs(5))
        }),
        ("time left, and a deadline behind", |dial, now| {
            dial.timeout(secs(5)).deadline(now - secs(5))
        }),
        ("the beginning of time", |dial, now| {
            dial.deadline(extreme(now, Instant::checked_sub))
        }),
    ];
    for (name, limit) in limits {
        let mut world = World::new(1, Dialer::default());
        world.remote(FAR.into(), Remote::Accepts);
        world.run();
        let now = world.now();
        world.dial(limit(Dial::from(far()), now)).unwrap();
        world.run();
        let failed = &world.handler().failed;
        let text = "dial tcp 192.0.2.1:80: i/o timeout".to_owned();
        assert_eq!(failed[..], [(now, text, true)], "{name}");
        assert_eq!(world.calls(Call::Connect), 0, "{name}");
        assert_eq!(world.open_descriptors(), 0, "{name}");
        world.advance(HOUR);
        assert_eq!(world.handler().ends(), 1, "{name}");
    }
}

// Go 6, 7, TestDialTimeout.
#[test]
fn a_dial_that_nobody_answers_ends_at_the_earliest_of_its_limits() {
    type Limit = fn(Dial, Instant) -> Dial;
    let limits: [(&str, Limit); 4] = [
        ("timeout", |dial, _| dial.timeout(ms(50))),
        ("deadline", |dial, now| dial.deadline(now + ms(50))),
        ("timeout before deadline", |dial, now| {
            dial.timeout(ms(50)).deadline(now + secs(5))
        }),
        ("deadline before timeout", |dial, now| {
            dial.timeout(secs(5)).deadline(now + ms(50))
        }),
    ];
    for (name, limit) in limits {
        let mut world = World::new(1, Dialer::default());
        world.remote(FAR.into(), Remote::Silent);
        world.run();
        let now = world.now();
        world.dial(limit(Dial::from(far()), now)).unwrap();
        world.advance(ms(50) - Duration::from_nanos(1));
        assert_eq!(world.handler().ends(), 0, "{name}: early");
        world.advance(LATEST + Duration::from_nanos(1));
        let (at, text, is_timeout) = &world.handler().failed[0];
        assert!(*at >= now + ms(50), "{name}: early");
        assert_eq!(text, "dial tcp 192.0.2.1:80: i/o timeout", "{name}");
        assert!(is_timeout, "{name}");
        assert_eq!(world.calls(Call::Connect), 1, "{name}");
        assert_eq!(world.open_descriptors(), 0, "{name}");
    }
}

// Go 8, TestDialTimeoutMaxDuration.
#[test]
fn the_longest_limits_there_are_do_not_overflow() {
    type Limit = fn(Dial, Instant) -> Dial;
    let limits: [(&str, Limit); 3] = [
        ("timeout", |dial, _| dial.timeout(Duration::MAX)),
        ("deadline", |dial, now| {
            dial.deadline(extreme(now, Instant::checked_add))
        }),
        ("both", |dial, now| {
            dial.timeout(Duration::MAX)
                .deadline(extreme(now, Instant::checked_add))
        }),
    ];
    for (name, limit) in limits {
        let mut world = World::new(1, Dialer::default());
        world.remote(FAR.into(), Remote::AcceptsAfter(ms(30)));
        world.run();
        let now = world.now();
        world.dial(limit(Dial::from(far()), now)).unwrap();
        world.advance(ms(40));
        assert_eq!(world.handler().connected, [now + ms(30)], "{name}");
        assert!(world.handler().failed.is_empty(), "{name}");
    }
}

// Reading.

// Go 13, TestReadTimeout: adapted, the callback comes before the read and nothing is
// consumed.
#[test]
fn a_read_deadline_in_the_past_fires_before_the_bytes_that_wait_and_takes_none() {
    let recorder = Recorder::new().accept(paused).timeout(|_, _| Ok(()));
    let (mut world, log, client) = served(recorder);
    world.send(client, b"waiting");
    world.run();
    for times in 1..=2 {
        let now = world.now();
        on_first(&mut world, |conn| {
            let past = conn.now() - secs(5);
            conn.set_read_deadline(Some(past));
        });
        assert_eq!(world.now(), now, "at once");
        assert_eq!(log.count("timeout"), times);
        assert_eq!((log.count("read"), world.stats().bytes_read), (0, 0));
    }
    on_first(&mut world, |conn| {
        let past = conn.now() - secs(5);
        conn.set_read_deadline(Some(past));
        conn.resume();
    });
    assert_eq!(
        log.names(),
        ["start", "accept", "timeout", "timeout", "timeout", "read"]
    );
    assert!(
        fired(&log)
            .iter()
            .all(|(which, _)| *which == Deadline::Read)
    );
    assert_eq!(log.bytes_of(first(&log)), b"waiting");
}

// Go 14, TestReadTimeout.
#[test]
fn a_read_deadline_ahead_lets_the_bytes_that_wait_through_and_then_fires() {
    let (mut world, log, client) = served(Recorder::new().accept(paused));
    world.send(client, b"in time");
    world.run();
    let set = world.now();
    on_first(&mut world, |conn| {
        let at = conn.now() + ms(50);
        conn.set_read_deadline(Some(at));
        conn.resume();
    });
    assert_eq!(log.bytes_of(first(&log)), b"in time");
    world.advance(ms(49));
    assert_eq!(log.count("timeout"), 0);
    world.advance(ms(1) + LATEST);
    assert_fired(&log, &[(Deadline::Read, set + ms(50))]);
    let closed = &log.closes()[0];
    assert_eq!(closed.reason, Why::Timeout(Deadline::Read));
    assert_eq!((closed.bytes_read, log.count("read")), (7, 1));
}

// Go 15, TestReadTimeoutMustNotReturn: adapted, the write deadline waits for output.
#[test]
fn a_read_deadline_that_was_cleared_in_time_never_fires_and_a_close_is_no_timeout() {
    let (mut world, log, client) = served(Recorder::new());
    on_first(&mut world, |conn| {
        let past = conn.now() - secs(5);
        conn.set_deadline(Some(past));
        conn.set_read_deadline(None);
    });
    world.advance(ms(100));
    assert_eq!(log.names(), ["start", "accept"], "it waits");
    on_first(&mut world, |conn| conn.close());
    assert_eq!(log.closes()[0].reason, Why::Local);
    assert_eq!(log.names(), ["start", "accept", "close"]);
    assert!(world.saw_eof(client));
}

// Writing.

/// Bytes that the kernels of both ends take of somebody who does not read.
const ROOM: usize = 128;

// Go 18, TestWriteTimeout: adapted, a write deadline is for output that waits: what there
// is room for leaves, and the rest is late at once with nothing more taken.
#[test]
fn a_write_deadline_in_the_past_ends_the_waiting_of_whatever_has_to_wait() {
    let (mut world, log, client) = served(Recorder::new().timeout(|_, _| Ok(())));
    on_first(&mut world, |conn| {
        let past = conn.now() - secs(5);
        conn.set_write_deadline(Some(past));
        conn.write(b"room");
    });
    assert_eq!(world.received(client), b"room");
    assert_eq!(log.count("timeout"), 0, "nothing waits");
    world.stop_reading(client);
    let now = world.now();
    on_first(&mut world, |conn| {
        conn.write(&pattern(1000, 18));
    });
    for times in 1..=3 {
        assert_eq!(log.count("timeout"), times);
        assert_eq!(fired(&log)[times - 1], (Deadline::Write, now));
        assert_eq!(world.stats().bytes_written, 4 + ROOM as u64);
        on_first(&mut world, |conn| {
            let past = conn.now() - secs(5);
            conn.set_write_deadline(Some(past));
        });
    }
    world.resume_reading(client);
    world.run();
    assert_same(&world.received(client), &pattern(1000, 18));
    assert_eq!(log.count("close"), 0, "as usable as before");
}

// Go 19, TestWriteTimeout: adapted, what waited in the queue is told apart from what had
// reached the kernel.
#[test]
fn a_write_deadline_ahead_lets_writes_through_until_it_fires() {
    let recorder = Recorder::new().timeout(|conn, _| {
        conn.abort();
        Ok(())
    });
    let (mut world, log, client) = served(recorder);
    let set = world.now();
    on_first(&mut world, |conn| {
        let at = conn.now() + ms(10);
        conn.set_write_deadline(Some(at));
    });
    for _ in 0..5 {
        on_first(&mut world, |conn| {
            conn.write(&[b'.'; 20]);
        });
        world.advance(ms(1));
    }
    assert_eq!(world.received(client), [b'.'; 100]);
    world.stop_reading(client);
    on_first(&mut world, |conn| {
        conn.write(&[0; 1000]);
    });
    world.advance(ms(4));
    assert_eq!(log.count("timeout"), 0);
    world.advance(ms(1) + LATEST);
    assert_fired(&log, &[(Deadline::Write, set + ms(10))]);
    let closed = &log.closes()[0];
    assert_eq!(closed.bytes_written, 100 + ROOM as u64);
    assert_eq!(closed.unsent, 1000 - ROOM as u64);
}

// Go 20, TestWriteTimeoutMustNotReturn.
#[test]
fn a_write_deadline_that_was_cleared_never_fires_although_output_waits() {
    let (mut world, log, client) = served(Recorder::new().timeout(|_, _| Ok(())));
    world.stop_reading(client);
    on_first(&mut world, |conn| {
        let past = conn.now() - secs(5);
        conn.set_deadline(Some(past));
        conn.set_write_deadline(None);
    });
    assert_eq!(fired(&log).len(), 1, "that of reading was not cleared");
    on_first(&mut world, |conn| {
        let mut writes = 1;
        while conn.write(&[b'x'; KIB]) == Flow::Open {
            writes += 1;
        }
        assert_eq!(writes * KIB, conn.limits().high + KIB, "blocked");
    });
    world.advance(ms(100));
    assert_eq!(fired(&log).len(), 1);
    assert_eq!(fired(&log)[0].0, Deadline::Read);
    let queued = Config::default().limits.high + KIB;
    on_first(&mut world, |conn| conn.close());
    world.resume_reading(client);
    world.run();
    assert_eq!(world.received(client).len(), queued);
    world.close(client);
    world.run();
    let closed = &log.closes()[0];
    assert_eq!(closed.reason, Why::Local, "not a timeout");
    assert_eq!(closed.unsent, 0);
}

// Every length, and on the move.

/// In nanoseconds, as Go has them.
const LENGTHS: [u64; 19] = [
    1,
    2,
    5,
    50,
    100,
    200,
    500,
    750,
    1_000,
    5_000,
    25_000,
    250_000,
    500_000,
    1_000_000,
    5_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
];

// Go 27, TestVariousDeadlines.
#[test]
fn a_deadline_of_any_length_ends_a_reader_whose_peer_never_stops_sending() {
    let due: Arc<Mutex<HashMap<ConnId, Instant>>> = Arc::default();
    let noted = Arc::clone(&due);
    let mut lengths = LENGTHS.into_iter();
    let recorder = Recorder::new().without_bytes().accept(move |conn| {
        let at = conn.now() + Duration::from_nanos(lengths.next().unwrap());
        noted.lock().unwrap().insert(conn.id(), at);
        conn.set_read_deadline(Some(at));
        Ok(())
    });
    let log = recorder.log.clone();
    let server = serve(recorder);
    let addr = server.addr;
    let floods = LENGTHS.map(|_| thread::spawn(move || flood(addr)));
    server.until("all are late", |stats| stats.closed == LENGTHS.len() as u64);
    for flood in floods {
        flood.join().unwrap();
    }
    server.stop();
    let due = due.lock().unwrap();
    assert_eq!(due.len(), LENGTHS.len());
    for closed in log.closes() {
        assert_eq!(closed.reason, Why::Timeout(Deadline::Read));
    }
    for event in log.events() {
        if let What::Timeout(which) = event.what {
            assert_eq!(which, Deadline::Read);
            let late = event.now.checked_duration_since(due[&event.conn.unwrap()]);
            assert!(late.expect("never early") < LATE, "{late:?}");
        }
    }
    assert_eq!(log.count("timeout"), LENGTHS.len(), "once each");
}

// Go 29, TestReadWriteProlongedTimeout.
#[test]
fn deadlines_pushed_on_around_every_byte_never_fire() {
    const ROUNDS: u64 = 1000;
    let recorder = Recorder::new().accept(push_on).read(|conn, input| {
        push_on(conn)?;
        conn.write(input.take_all());
        push_on(conn)
    });
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut client = connect(server.addr);
    for round in 0..ROUNDS {
        let byte = [round as u8];
        assert_eq!(round_trip(&mut client, &byte), byte);
    }
    drop(client);
    let closed = log.wait_closes(1).remove(0);
    assert_eq!((closed.bytes_read, closed.bytes_written), (ROUNDS, ROUNDS));
    assert_eq!(closed.reason, Why::Eof);
    assert_eq!(log.count("timeout"), 0);
    server.stop();
}

// Go 30, TestReadWriteDeadlineRace: adapted, the other thread sets them through the mailbox.
#[test]
fn deadlines_two_microseconds_ahead_disturb_neither_bytes_nor_wheel() {
    let recorder = Recorder::echo()
        .accept(hurry)
        .timeout(|conn, _| hurry(conn));
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut client = connect(server.addr);
    let done = Arc::new(AtomicBool::new(false));
    let (handle, over) = (server.handle.clone(), Arc::clone(&done));
    let setter = thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            let (say, set) = mpsc::channel();
            let posted = handle.post(move |_, cx| {
                cx.for_each(|conn| hurry(conn).unwrap());
                let _ = say.send(());
            });
            assert_eq!(posted, Ok(()));
            set.recv_timeout(PATIENCE).expect("the loop runs posts");
        }
    });
    for round in 0..1000 {
        let bytes = pattern(round % 100 + 1, round as u64);
        assert_same(&round_trip(&mut client, &bytes), &bytes);
    }
    log.wait_for("timeout", 10);
    done.store(true, Ordering::Relaxed);
    setter.join().unwrap();
    server.ask(|recorder, cx| {
        *recorder = std::mem::take(recorder).timeout(|conn, _| {
            conn.write(b"late");
            Ok(())
        });
        cx.for_each(|conn| {
            let at = conn.now() + ms(5);
            conn.set_deadline(Some(at));
        });
    });
    assert_eq!(read_exactly(&mut client, 4), b"late", "the wheel is sound");
    assert_eq!(round_trip(&mut client, b"and on"), b"and on");
    drop(client);
    server.stop();
}

// Go 31, TestConcurrentSetDeadline: adapted, a property of moving deadlines earlier.
#[test]
fn whoever_moves_deadlines_ever_earlier_finds_each_fired_once_and_when_last_set() {
    for seed in 0..20 {
        move_earlier(seed);
    }
}

fn move_earlier(seed: u64) {
    const CONNECTIONS: usize = 10;
    const MOVES: usize = 800;
    let recorder = Recorder::new().timeout(|_, _| Ok(()));
    let log = recorder.log.clone();
    let mut world = World::new(seed, recorder);
    let addr = world.listen("127.0.0.1:7");
    for _ in 0..CONNECTIONS {
        world.connect(addr);
    }
    world.run();
    let ids: Vec<_> = log.events().iter().filter_map(|event| event.conn).collect();
    let start = world.now();
    let mut due: HashMap<_, _> = ids.iter().map(|&id| (id, start + secs(10))).collect();
    let mut rng = Rng::new(seed);
    let mut moved = 0;
    for _ in 0..MOVES {
        let id = ids[rng.range(0, CONNECTIONS)];
        let now = world.now();
        let left = due[&id].saturating_duration_since(now);
        if !left.is_zero() {
            let at = now + left * rng.range(80, 101) as u32 / 100;
            due.insert(id, at);
            world.post(move |_, cx| cx.conn(id).unwrap().set_read_deadline(Some(at)));
            moved += 1;
        }
        world.advance(Duration::from_micros(rng.next() % 3000));
    }
    assert!(moved > MOVES / 10, "seed {seed}: {moved} moves");
    world.advance(secs(11));
    let events = log.events();
    for id in ids {
        let mut ends = events.iter().filter(|event| {
            event.conn == Some(id) && matches!(event.what, What::Timeout(Deadline::Read))
        });
        let late = ends.next().unwrap().now.checked_duration_since(due[&id]);
        assert!(
            late.expect("never early") <= LATEST,
            "seed {seed}: {late:?}"
        );
        assert_eq!(ends.count(), 0, "seed {seed}: once per setting");
    }
}

// A handler for dials.

#[derive(Default)]
struct Dialer {
    connected: Vec<Instant>,
    /// When, in which words, and whether it was a timeout.
    failed: Vec<(Instant, String, bool)>,
}

impl Dialer {
    fn ends(&self) -> usize {
        self.connected.len() + self.failed.len()
    }
}

impl Handler for Dialer {
    type Session = ();

    fn on_connect(&mut self, conn: &mut Conn<'_>, _: DialId) -> io::Result<()> {
        self.connected.push(conn.now());
        Ok(())
    }

    fn on_dial_error(
        &mut self,
        cx: &mut Context<'_>,
        _: DialId,
        error: &Error,
        retry_in: Option<Duration>,
    ) {
        assert_eq!(retry_in, None);
        let failed = (cx.now(), error.to_string(), error.is_timeout());
        self.failed.push(failed);
    }
}

fn far() -> SocketAddr {
    FAR.into()
}

/// As far from `from` as instants go in one direction.
fn extreme(from: Instant, step: fn(&Instant, Duration) -> Option<Instant>) -> Instant {
    let mut at = from;
    for bit in (0..64).rev() {
        at = step(&at, secs(1 << bit)).unwrap_or(at);
    }
    assert!(step(&at, secs(2)).is_none(), "nothing is further");
    at
}

// A world with one connection, whose client takes little.

fn served(recorder: Recorder) -> (World<Recorder>, Log, Client) {
    let log = recorder.log.clone();
    let mut world = World::new(1, recorder);
    world.faults().buffers(ROOM / 2, ROOM / 2);
    let addr = world.listen("127.0.0.1:7");
    let client = world.connect(addr);
    world.run();
    (world, log, client)
}

fn first(log: &Log) -> ConnId {
    log.events().iter().find_map(|event| event.conn).unwrap()
}

/// Does something to the one connection, between its callbacks.
fn on_first(world: &mut World<Recorder>, act: impl FnOnce(&mut Conn<'_>) + Send + 'static) {
    world.post(move |recorder, cx| act(&mut cx.conn(first(&recorder.log)).unwrap()));
    world.run();
}

/// Everything that has timed out, and when by virtual time.
fn fired(log: &Log) -> Vec<(Deadline, Instant)> {
    let events = log.events().into_iter();
    events
        .filter_map(|event| match event.what {
            What::Timeout(which) => Some((which, event.now)),
            _ => None,
        })
        .collect()
}

#[track_caller]
fn assert_fired(log: &Log, due: &[(Deadline, Instant)]) {
    let fired = fired(log);
    assert_eq!(fired.len(), due.len(), "{fired:?}");
    for ((which, at), (expected, due)) in fired.iter().zip(due) {
        assert_eq!(which, expected);
        let late = at.checked_duration_since(*due).expect("never early");
        assert!(late <= LATEST, "{which}: {late:?} late");
    }
}

fn paused(conn: &mut Conn<'_>) -> io::Result<()> {
    conn.pause();
    Ok(())
}

fn push_on(conn: &mut Conn<'_>) -> io::Result<()> {
    let at = conn.now() + HOUR;
    conn.set_deadline(Some(at));
    Ok(())
}

fn hurry(conn: &mut Conn<'_>) -> io::Result<()> {
    let at = conn.now() + Duration::from_micros(2);
    conn.set_deadline(Some(at));
    Ok(())
}

/// Sends until it is thrown out.
fn flood(addr: SocketAddr) {
    let mut stream: TcpStream = match try_connect(addr) {
        Ok(stream) => stream,
        Err(error) => return assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    };
    while io::Write::write_all(&mut stream, &[b'x'; 16 * KIB]).is_ok() {}
}
