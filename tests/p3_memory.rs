//! P3: memory is bounded, per connection and per loop, whatever peers do or leave undone.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util;

use std::io::{self, Read as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use util::*;
use windlass::{Config, ConnId, Deadline, Flow, Listen, PostError};

/// Limits at which [`FULL_WRITE`], which is too small to go straight to the socket, is
/// above the high mark whatever the kernel would take.
fn soon_full() -> Config {
    config(|config| {
        config.limits.low = KIB;
        config.limits.high = 4 * KIB;
    })
}

const FULL_WRITE: [u8; 8 * KIB] = [b'x'; 8 * KIB];

/// A listener whose connections have little room in the kernel, so that what a peer does
/// not read stays with us.
fn narrow() -> Listen {
    Listen::new("127.0.0.1:0").unwrap().send_buffer(4 * KIB)
}

/// The name of the connection that was accepted as the `n`th.
fn nth(log: &Log, n: usize) -> ConnId {
    log.wait_for("accept", n + 1);
    let events = log.events();
    let mut accepts = events
        .iter()
        .filter(|event| matches!(event.what, What::Accept));
    accepts.nth(n).unwrap().conn.unwrap()
}

// One connection's output.

#[test]
fn a_peer_that_never_reads_is_reset_at_the_output_limit() {
    const LIMIT: usize = MIB;
    const STEP: usize = 10 * KIB;
    let highest = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&highest);
    // A handler that does not care for `Full`.
    let recorder = Recorder::new().wake(move |conn| {
        if conn.write(&[0; STEP]) != Flow::Closed {
            seen.fetch_max(conn.queued(), Ordering::Relaxed);
            let id = conn.id();
            conn.cx().wake(id);
        }
        Ok(())
    });
    let log = recorder.log.clone();
    let config = config(|config| config.limits.limit = LIMIT);
    let server = serve_on(config, narrow(), recorder);
    let mut client = connect_small(server.addr, 4 * KIB);
    let id = nth(&log, 0);
    server.ask(move |_, cx| cx.wake(id));
    let closed = log.wait_closes(1).remove(0);
    assert_eq!(closed.reason, Why::Overflow);
    assert!(highest.load(Ordering::Relaxed) <= LIMIT, "the bound holds");
    assert!(
        highest.load(Ordering::Relaxed) > LIMIT - STEP,
        "and is used"
    );
    assert!((LIMIT..LIMIT + STEP + 1).contains(&(closed.unsent as usize)));
    expect_reset(&mut client);
    let (_, summary) = server.stop();
    assert_eq!(summary.stats.buffered, 0);
}

#[test]
fn shared_bytes_count_fully_towards_the_output_limit() {
    let recorder = Recorder::new().read(|conn, input| {
        input.take_all();
        let bytes: Arc<[u8]> = vec![0; 400 * KIB].into();
        // Two are over the limit even after the kernel has had its part.
        conn.write_shared(Arc::clone(&bytes));
        let last = (0..4).map(|_| conn.write_shared(Arc::clone(&bytes))).last();
        assert_eq!(last, Some(Flow::Closed));
        Ok(())
    });
    let log = recorder.log.clone();
    let config = config(|config| config.limits.limit = 600 * KIB);
    let server = serve_on(config, narrow(), recorder);
    let mut client = connect_small(server.addr, 4 * KIB);
    send(&mut client, b"go");
    assert_eq!(log.wait_closes(1)[0].reason, Why::Overflow);
    server.stop();
}

#[test]
fn a_large_write_that_the_kernel_takes_does_not_count() {
    // The limit is checked after write-through: what has left is nobody's memory.
    let recorder = Recorder::new().read(|conn, input| {
        input.take_all();
        conn.write(&pattern(300 * KIB, 1));
        Ok(())
    });
    let log = recorder.log.clone();
    let config = config(|config| {
        config.limits.low = 100 * KIB;
        config.limits.high = 200 * KIB;
        config.limits.limit = 290 * KIB;
    });
    let server = serve_with(config, recorder);
    let mut client = connect(server.addr);
    for _ in 0..5 {
        send(&mut client, b"go");
        assert_same(
            &read_exactly(&mut client, 300 * KIB),
            &pattern(300 * KIB, 1),
        );
    }
    assert_eq!(log.count("close"), 0);
    drop(client);
    server.stop();
}

#[test]
fn a_peer_that_never_reads_is_reset_at_the_write_stall_deadline() {
    let recorder = Recorder::new().without_bytes().read(|conn, input| {
        input.take_all();
        conn.write(&vec![0; 4 * MIB]);
        Ok(())
    });
    let log = recorder.log.clone();
    let config = config(|config| config.write_stall_timeout = ms(80));
    let server = serve_on(config, narrow(), recorder);
    let mut client = connect_small(server.addr, 4 * KIB);
    let began = Instant::now();
    send(&mut client, b"go");
    let closed = log.wait_closes(1).remove(0);
    assert_eq!(closed.reason, Why::Timeout(Deadline::WriteStall));
    assert!(closed.unsent > 0);
    assert!(began.elapsed() >= ms(80));
    expect_reset(&mut client);
    let (_, summary) = server.stop();
    assert_eq!(summary.stats.buffered, 0);
}

// Backpressure.

#[test]
fn on_write_fires_once_for_each_time_the_output_was_above_the_high_mark() {
    let recorder = Recorder::new()
        .without_bytes()
        .read(|conn, input| {
            match input.take_all() {
                b"below" => assert_eq!(conn.write(&FULL_WRITE[..4 * KIB]), Flow::Open),
                _ => {
                    // Above it several times over, but it is one crossing.
                    assert_eq!(conn.write(&FULL_WRITE[..4 * KIB]), Flow::Open);
                    assert_eq!(conn.write(&FULL_WRITE[..1]), Flow::Full);
                    assert_eq!(conn.write(&FULL_WRITE[..1]), Flow::Full);
                    assert_eq!(conn.flow(), Flow::Full);
                }
            }
            Ok(())
        })
        .write(|conn| {
            assert!(conn.queued() <= conn.limits().low);
            assert_eq!(conn.flow(), Flow::Open);
            conn.write(b".");
            Ok(())
        });
    let log = recorder.log.clone();
    let server = serve_with(soon_full(), recorder);
    let mut client = connect(server.addr);
    for round in 1..=50 {
        send(&mut client, b"above");
        read_exactly(&mut client, 4 * KIB + 3);
        assert_eq!(log.count("write"), round);
        send(&mut client, b"below");
        read_exactly(&mut client, 4 * KIB);
        assert_eq!(log.count("write"), round);
    }
    drop(client);
    server.stop();
}

#[test]
fn on_write_waits_for_the_low_mark() {
    let recorder = Recorder::new()
        .without_bytes()
        .read(|conn, input| {
            input.take_all();
            assert_eq!(conn.write(&vec![0; 15 * MIB]), Flow::Full);
            Ok(())
        })
        .write(|conn| {
            assert!(conn.queued() <= conn.limits().low, "{}", conn.queued());
            conn.close();
            Ok(())
        });
    let log = recorder.log.clone();
    let server = serve_on(Config::default(), narrow(), recorder);
    let mut client = connect_small(server.addr, 4 * KIB);
    send(&mut client, b"go");
    // All but what the mark allows, the kernels' buffers and a bit: not yet.
    read_exactly(&mut client, 10 * MIB);
    assert!(server.stats().buffered > Config::default().limits.low as u64);
    assert_eq!(log.count("write"), 0);
    assert_eq!(read_to_eof(&mut client).len(), 5 * MIB);
    assert_eq!(log.count("write"), 1);
    drop(client);
    server.stop();
}

#[test]
fn a_peer_that_does_not_read_is_not_read_from() {
    const MOST: usize = 64 * MIB;
    let recorder = Recorder::echo().without_bytes();
    let log = recorder.log.clone();
    let server = serve_on(Config::default(), narrow(), recorder);
    let mut client = connect_small(server.addr, 16 * KIB);
    let sent = send_until_stuck(&mut client, MOST, ms(200));
    assert!(sent < MOST, "the peer's writes block");
    let stats = server.stats();
    // What is queued is at most the high mark and what one turn may add to it.
    let config = Config::default();
    let bound = config.limits.high + config.read_budget + config.read_buffer;
    assert!(stats.buffered <= bound as u64, "{stats:?}");
    assert_eq!(log.count("close"), 0);
    // It is not lost either: as soon as the peer reads, everything goes on.
    let back = read_exactly(&mut client, sent);
    assert!(back.iter().all(|byte| *byte == b'x'));
    assert_eq!(round_trip(&mut client, b"as before"), b"as before");
    drop(client);
    server.stop();
}

#[test]
fn without_auto_pause_reading_goes_on_while_the_output_is_full() {
    const UPLOAD: usize = 8 * MIB;
    for auto_pause in [false, true] {
        let recorder = Recorder::new().without_bytes().accept(move |conn| {
            conn.set_auto_pause(auto_pause);
            assert_eq!(conn.write(&vec![0; 15 * MIB]), Flow::Full);
            Ok(())
        });
        let server = serve_on(Config::default(), narrow(), recorder);
        let mut client = connect_small(server.addr, 16 * KIB);
        let sent = send_until_stuck(&mut client, UPLOAD, ms(200));
        if auto_pause {
            assert!(sent < UPLOAD);
            assert_eq!(server.stats().bytes_read, 0);
        } else {
            assert_eq!(sent, UPLOAD);
            server.until("all is read", |s| s.bytes_read == UPLOAD as u64);
        }
        server.stop_now();
    }
}

#[test]
fn turning_auto_pause_off_resumes_what_it_had_paused() {
    let recorder = Recorder::new().without_bytes().accept(|conn| {
        conn.write(&vec![0; 15 * MIB]);
        Ok(())
    });
    let log = recorder.log.clone();
    let server = serve_on(Config::default(), narrow(), recorder);
    let mut client = connect_small(server.addr, 16 * KIB);
    send(&mut client, b"hello");
    let id = nth(&log, 0);
    for _ in 0..10 {
        server.ask(move |_, cx| cx.wake(id));
    }
    assert_eq!(log.count("read"), 0);
    server.ask(move |_, cx| cx.conn(id).unwrap().set_auto_pause(false));
    log.wait_for("read", 1);
    server.stop_now();
}

#[test]
fn a_paused_connection_takes_no_memory_for_what_its_peer_sends() {
    let recorder = Recorder::new().accept(|conn| {
        conn.pause();
        Ok(())
    });
    let server = serve(recorder);
    let mut client = connect_small(server.addr, 16 * KIB);
    let sent = send_until_stuck(&mut client, 64 * MIB, ms(100));
    assert!(sent < 64 * MIB);
    let stats = server.stats();
    assert_eq!((stats.bytes_read, stats.buffered), (0, 0));
    server.stop_now();
}

// One connection's input.

#[test]
fn a_message_beyond_the_input_limit_closes() {
    for limit in [100, 10 * KIB, 300 * KIB] {
        let recorder = Recorder::new().without_bytes().read(move |conn, input| {
            if input.len() > limit {
                conn.write(b"too long");
            }
            Ok(())
        });
        let log = recorder.log.clone();
        let server = serve_with(config(|config| config.limits.input = limit), recorder);
        let mut client = connect(server.addr);
        send(&mut client, &vec![0; limit]);
        server.until("all of it is kept", |s| s.buffered == limit as u64);
        send(&mut client, b"!");
        assert_eq!(read_to_eof(&mut client), b"too long");
        drop(client);
        let closed = log.wait_closes(1).remove(0);
        assert_eq!(closed.reason, Why::InputTooLong);
        assert_eq!(closed.unread, limit as u64 + 1);
        let (_, summary) = server.stop();
        assert_eq!(summary.stats.buffered, 0);
    }
}

#[test]
fn a_peer_that_floods_beyond_the_input_limit_costs_no_more_than_stated() {
    const LIMIT: usize = 100 * KIB;
    let highest = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&highest);
    let recorder = Recorder::new().without_bytes().read(move |conn, input| {
        seen.fetch_max(input.len(), Ordering::Relaxed);
        seen.fetch_max(conn.cx().stats().buffered as usize, Ordering::Relaxed);
        Ok(())
    });
    let log = recorder.log.clone();
    let config = config(|config| {
        config.limits.input = LIMIT;
        config.read_buffer = 16 * KIB;
        config.drain_limit = 64 * KIB;
    });
    let server = serve_with(config, recorder);
    let mut client = connect(server.addr);
    send_until_stuck(&mut client, 64 * MIB, PATIENCE);
    assert_eq!(log.wait_closes(1)[0].reason, Why::InputTooLong);
    // The limit, and room for one read call behind it.
    assert!(highest.load(Ordering::Relaxed) <= LIMIT + 64 * KIB);
    server.stop();
}

#[test]
fn a_connection_may_have_limits_of_its_own() {
    let recorder = Recorder::new()
        .without_bytes()
        .accept(|conn| {
            let mut limits = conn.limits();
            assert_eq!(limits, Config::default().limits);
            limits.low = limits.limit + 1;
            let error = conn.set_limits(limits).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains("limits must rise"), "{error}");
            limits = conn.limits();
            limits.input = 10;
            conn.set_limits(limits)
        })
        .read(|_, _| Ok(()));
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut client = connect(server.addr);
    send(&mut client, b"eleven byte");
    assert_eq!(log.wait_closes(1)[0].reason, Why::InputTooLong);
    drop(client);
    server.stop();
}

// The loop as a whole.

#[test]
fn above_the_memory_limit_nothing_is_read_or_accepted_until_it_has_fallen_to_three_quarters() {
    const LIMIT: usize = MIB;
    const HELD: usize = 128 * KIB;
    const HOGS: usize = LIMIT / HELD + 1;
    const WAITING: usize = 20;
    // A hog says how much it wants to keep waiting on its connection; the others are echoed.
    let recorder = Recorder::new().without_bytes().read(|conn, input| {
        if &input[..] == b"hog" {
            input.take_all();
            return Ok(());
        }
        if input.first() != Some(&b'h') {
            conn.write(input.take_all());
        }
        Ok(())
    });
    let log = recorder.log.clone();
    let config = config(|config| config.memory_limit = LIMIT);
    let server = serve_with(config, recorder);
    let mut old = connect_many(server.addr, WAITING);
    log.wait_for("accept", WAITING);
    let mut hogs = connect_many(server.addr, HOGS);
    for (n, hog) in hogs.iter_mut().enumerate() {
        // Unconsumed input; the last hog may be cut short when the limit is passed.
        send(hog, &[b'h'; HELD]);
        let held = ((n + 1) * HELD) as u64;
        server.until("it is kept", |s| s.buffered >= held.min(LIMIT as u64 + 1));
    }
    // From here on: nothing read, nobody accepted.
    let before = server.stats();
    let mut new = connect_many(server.addr, WAITING);
    for client in old.iter_mut().chain(&mut new) {
        send(client, b"ping");
    }
    for _ in 0..50 {
        let now = server.stats();
        assert_eq!(now.bytes_read, before.bytes_read);
        assert_eq!(now.accepted, before.accepted);
    }
    // One hog after the other goes, down to just above three quarters.
    let mut held = before.buffered;
    while held - HELD as u64 > (LIMIT / 4 * 3) as u64 {
        held -= HELD as u64;
        abort_one_hog(&server, &log, WAITING);
        let now = server.until("its memory is free", |s| s.buffered == held);
        assert_eq!(now.bytes_read, before.bytes_read, "at {held} bytes");
        assert_eq!(now.accepted, before.accepted, "at {held} bytes");
    }
    abort_one_hog(&server, &log, WAITING);
    // And nobody is forgotten.
    for client in old.iter_mut().chain(&mut new) {
        assert_eq!(read_exactly(client, 4), b"ping");
    }
    server.until("all are in", |s| s.accepted == (2 * WAITING + HOGS) as u64);
    server.stop_now();
}

/// Aborts the oldest connection after the first `spared` that is still there.
fn abort_one_hog(server: &Server<Recorder>, log: &Log, spared: usize) {
    let id = nth(log, spared + log.count("close"));
    let gone = log.count("close") + 1;
    server.ask(move |_, cx| cx.conn(id).unwrap().abort());
    log.wait_for("close", gone);
}

#[test]
fn output_of_slow_readers_presses_the_loop_and_their_reading_relieves_it() {
    const LIMIT: usize = MIB;
    const WAITING: usize = 20;
    let recorder = Recorder::new().without_bytes().read(|conn, input| {
        let order = input.take_all();
        if order == b"much" {
            conn.write(&vec![0; 15 * MIB]);
        } else {
            conn.write(order);
        }
        Ok(())
    });
    let log = recorder.log.clone();
    let config = config(|config| config.memory_limit = LIMIT);
    let server = serve_on(config, narrow(), recorder);
    let mut old = connect_many(server.addr, WAITING);
    log.wait_for("accept", WAITING);
    let mut hog = connect_small(server.addr, 4 * KIB);
    send(&mut hog, b"much");
    server.until("the loop is pressed", |s| s.buffered > LIMIT as u64);
    let accepted = server.stats().accepted;
    let mut new = connect_many(server.addr, WAITING);
    for client in old.iter_mut().chain(&mut new) {
        send(client, b"ping");
    }
    assert!(server.stats().accepted == accepted);
    assert!(old.iter().chain(&new).all(is_silent));
    read_exactly(&mut hog, 15 * MIB);
    for client in old.iter_mut().chain(&mut new) {
        assert_eq!(read_exactly(client, 4), b"ping");
    }
    server.stop_now();
}

#[test]
fn peers_that_leave_are_noticed_even_while_memory_is_short() {
    const HOGS: usize = 6;
    const HELD: usize = 100 * KIB;
    let recorder = Recorder::new().without_bytes().read(|_, _| Ok(()));
    let log = recorder.log.clone();
    let config = config(|config| config.memory_limit = HOGS * HELD - 1);
    let server = serve_with(config, recorder);
    let mut hogs: Vec<TcpStream> = connect_many(server.addr, HOGS);
    for hog in &mut hogs {
        send(hog, &vec![b'h'; HELD]);
    }
    server.until("pressed", |s| s.buffered == (HOGS * HELD) as u64);
    reset(hogs.pop().unwrap());
    reset(hogs.pop().unwrap());
    let closes = log.wait_closes(2);
    assert!(closes.iter().all(|closed| closed.reason == Why::Reset));
    assert!(closes.iter().all(|closed| closed.unread == HELD as u64));
    server.stop_now();
}

#[test]
fn the_mailbox_has_a_limit_and_a_stop_gets_through_it() {
    const LIMIT: usize = 10;
    let server = serve_with(
        config(|config| config.mailbox_limit = LIMIT),
        Recorder::new(),
    );
    let ran = Arc::new(AtomicUsize::new(0));
    for round in 1..=3 {
        let held = server.hold(|_| ());
        for _ in 0..LIMIT {
            let ran = Arc::clone(&ran);
            let post = server.handle.post(move |_, _| {
                ran.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(post, Ok(()));
        }
        let refused = server.handle.post(|_, _| panic!("never runs"));
        assert_eq!(refused, Err(PostError::Full));
        drop(held);
        let all = || ran.load(Ordering::Relaxed) == round * LIMIT;
        assert!(eventually(PATIENCE, all), "those that were taken run");
    }
    let held = server.hold(|_| ());
    while server.handle.post(|_, _| ()).is_ok() {}
    server.handle.shutdown(ms(100)).unwrap();
    drop(held);
    let handle = server.handle.clone();
    server.join().result.unwrap();
    assert_eq!(handle.post(|_, _| ()), Err(PostError::Stopped));
    assert_eq!(handle.shutdown(ms(0)), Err(PostError::Stopped));
}

#[test]
fn idle_connections_hold_no_bytes() {
    const CLIENTS: usize = 200;
    let server = serve(Recorder::echo().without_bytes());
    let mut clients = connect_many(server.addr, CLIENTS);
    for (n, client) in clients.iter_mut().enumerate() {
        let bytes = pattern(if n % 20 == 0 { 200 * KIB } else { 100 }, n as u64);
        assert_same(&round_trip(client, &bytes), &bytes);
    }
    let stats = server.stats();
    assert_eq!((stats.open, stats.buffered), (CLIENTS as u64, 0));
    drop(clients);
    server.stop();
}

#[test]
fn buffered_bytes_are_accounted_for_to_the_last_one() {
    // Random traffic, half of it left unread, half of it cut off; then nothing is left.
    let rng = Arc::new(Mutex::new(Rng::new(31)));
    let recorder = Recorder::new().without_bytes().read(move |conn, input| {
        let mut rng = rng.lock().unwrap();
        input.consume(rng.range(0, input.len() + 1));
        let reply = vec![0; rng.range(0, 100_000)];
        match rng.range(0, 3) {
            0 => conn.write(&reply),
            1 => conn.write_shared(reply.into()),
            _ => Flow::Open,
        };
        match rng.range(0, 12) {
            0 => conn.close(),
            1 => conn.abort(),
            2 => return Err(io::Error::other("enough")),
            _ => {}
        }
        Ok(())
    });
    let server = serve_on(config(|config| config.linger = ms(50)), narrow(), recorder);
    let mut rng = Rng::new(32);
    for _ in 0..200 {
        let mut client = connect_small(server.addr, 4 * KIB);
        send_until_stuck(&mut client, rng.range(1, 60_000), ms(5));
        client.set_nonblocking(true).unwrap();
        let _ = client.read(&mut [0; 3000]);
        if rng.one_in(2) {
            reset(client);
        }
    }
    let stats = server.until("all are gone", |s| s.open == 0);
    assert_eq!(stats.buffered, 0);
    server.stop();
}
