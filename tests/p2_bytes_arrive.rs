//! P2: bytes arrive, in order, without gap or repeat; `close` delivers; what is left unread
//! is offered again; and what did not arrive is reported.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util;

use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use util::*;
use windlass::{Config, Conn, ConnId, Flow};

/// How many clients each delivery is tried with.
const CLIENTS: usize = 20;

/// A request, of which the handler reads only the beginning.
const REQUEST: usize = 20 * KIB;
const REQUEST_READ: usize = KIB;

/// The reply to it.
const REPLY: usize = MIB;

// Both ways.

#[test]
fn bytes_come_back_in_order_whatever_the_pieces() {
    for seed in 1..=4 {
        echo_random_pieces(Config::default(), seed);
    }
}

#[test]
fn bytes_come_back_in_order_through_tiny_buffers_and_budgets() {
    for seed in 11..=14 {
        let config = config(|config| {
            config.read_buffer = 3001;
            config.read_budget = 5003;
            config.read_calls = 2;
            config.limits.low = 700;
            config.limits.high = 1500;
        });
        echo_random_pieces(config, seed);
    }
}

fn echo_random_pieces(config: Config, seed: u64) {
    let server = serve_with(config, Recorder::echo().without_bytes());
    let client = connect(server.addr);
    let bytes = pattern(2 * MIB, seed);
    let writer = {
        let (mut client, bytes) = (client.try_clone().unwrap(), bytes.clone());
        thread::spawn(move || {
            send_in_pieces(&mut client, &bytes, seed);
            finish(&client);
        })
    };
    let got = read_in_pieces(client, seed + 100);
    writer.join().unwrap();
    assert_same(&got, &bytes);
    server.stop();
}

fn send_in_pieces(client: &mut TcpStream, mut bytes: &[u8], seed: u64) {
    let mut rng = Rng::new(seed);
    while !bytes.is_empty() {
        let most = if rng.one_in(4) { 60_000 } else { 600 };
        let (piece, rest) = bytes.split_at(rng.range(1, most).min(bytes.len()));
        send(client, piece);
        bytes = rest;
    }
}

fn read_in_pieces(mut client: TcpStream, seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let mut got = Vec::new();
    let mut piece = vec![0; 50_000];
    loop {
        let most = rng.range(1, piece.len());
        match client.read(&mut piece[..most]).expect("read") {
            0 => return got,
            n => got.extend_from_slice(&piece[..n]),
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn bytes_behind_an_urgent_mark_arrive_without_a_further_byte() {
    let server = serve(Recorder::echo());
    let mut client = connect(server.addr);
    round_trip(&mut client, b"settled");
    // One report for all of it; a read stops at the mark and comes back short.
    let held = server.hold(|_| {});
    send(&mut client, b"before, ");
    send_urgent(&client, b"!");
    send(&mut client, b"behind");
    drop(held);
    assert_eq!(read_exactly(&mut client, 14), b"before, behind");
    assert_eq!(round_trip(&mut client, b"later"), b"later");
    server.stop();
}

#[cfg(target_os = "linux")]
fn send_urgent(client: &TcpStream, bytes: &[u8]) {
    let socket = socket2::SockRef::from(client);
    assert_eq!(socket.send_out_of_band(bytes).unwrap(), bytes.len());
}

#[test]
fn small_and_large_writes_in_one_callback_keep_their_order() {
    let bytes = Arc::new(pattern(8 * MIB, 3));
    let written = Arc::clone(&bytes);
    let server = serve(Recorder::new().read(move |conn, input| {
        input.take_all();
        let mut rng = Rng::new(4);
        let mut rest = &written[..];
        while !rest.is_empty() {
            let most = [100, 5_000, 40_000, 300_000][rng.range(0, 4)];
            let (piece, after) = rest.split_at(rng.range(1, most).min(rest.len()));
            if rng.one_in(3) {
                conn.write_shared(piece.into());
            } else {
                conn.write(piece);
            }
            rest = after;
        }
        conn.close();
        Ok(())
    }));
    for buffers in [4 * KIB, MIB] {
        let mut client = connect_small(server.addr, buffers);
        send(&mut client, b"go");
        assert_same(&read_to_eof(&mut client), &bytes);
    }
    server.stop();
}

#[test]
fn writes_from_other_connections_and_posts_queue_behind_each_other() {
    // Everybody writes numbered lines to one slow reader; each sender's lines stay in order.
    const LINES: u32 = 2000;
    let reader: Arc<Mutex<Option<ConnId>>> = Arc::default();
    let seen = Arc::clone(&reader);
    let recorder = Recorder::new()
        .without_bytes()
        .accept(move |conn| {
            seen.lock().unwrap().get_or_insert(conn.id());
            Ok(())
        })
        .read(move |conn, input| {
            let reader = reader.lock().unwrap().unwrap();
            let mut reader = conn.cx().conn(reader).unwrap();
            while let Some(line) = input.take(8) {
                reader.write(line);
            }
            Ok(())
        });
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut reader = connect_small(server.addr, 4 * KIB);
    log.wait_for("accept", 1);
    let senders: Vec<_> = (0..4_u32)
        .map(|sender| {
            let mut client = connect(server.addr);
            thread::spawn(move || {
                for line in 0..LINES {
                    let line = [sender.to_be_bytes(), line.to_be_bytes()].concat();
                    send(&mut client, &line);
                }
            })
        })
        .collect();
    let got = read_exactly(&mut reader, 4 * LINES as usize * 8);
    senders
        .into_iter()
        .for_each(|sender| sender.join().unwrap());
    let mut next = [0_u32; 4];
    for line in got.chunks(8) {
        let sender = line[3] as usize;
        assert_eq!(line[4..], next[sender].to_be_bytes());
        next[sender] += 1;
    }
    assert_eq!(next, [LINES; 4]);
    server.stop_now();
}

#[test]
fn shared_bytes_reach_everybody_between_their_own() {
    let shared: Arc<[u8]> = pattern(MIB, 5).into();
    let fan_out = Arc::clone(&shared);
    let recorder = Recorder::new().read(move |conn, input| {
        input.take_all();
        conn.cx().for_each(|conn| {
            let id = conn.id();
            write!(conn, "<{id}>");
            conn.write_shared(Arc::clone(&fan_out));
            conn.write(b"<small>");
            conn.write_shared(Arc::clone(&fan_out));
            write!(conn, "</{id}>");
            conn.close();
        });
        Ok(())
    });
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut clients = connect_many(server.addr, CLIENTS);
    log.wait_for("accept", CLIENTS);
    send(&mut clients[0], b"go");
    let mut middle = shared.to_vec();
    middle.extend_from_slice(b"<small>");
    middle.extend_from_slice(&shared);
    for client in &mut clients {
        let got = read_to_eof(client);
        let edge = (got.len() - middle.len() - 1) / 2;
        assert_same(&got[edge..edge + middle.len()], &middle);
        assert!(got.ends_with(b">") && got[edge + middle.len()..].starts_with(b"</"));
    }
    drop(clients);
    log.wait_for("close", CLIENTS);
    drop(server.stop());
    assert_eq!(Arc::strong_count(&shared), 1, "nobody keeps the bytes");
}

// Unconsumed input.

#[test]
fn what_is_left_is_offered_again_joined_with_what_follows() {
    // Nothing is consumed until everything is there: each offer begins with the last one.
    for whole in [3 * KIB, 50 * KIB, 700 * KIB] {
        let recorder = Recorder::new().read(move |conn, input| {
            if input.len() == whole {
                input.take_all();
                conn.write(b"thanks");
            }
            Ok(())
        });
        let log = recorder.log.clone();
        let server = serve(recorder);
        let bytes = pattern(whole, 6);
        let mut client = connect(server.addr);
        let mut sent = 0;
        for piece in bytes.chunks(whole / 7 + 1) {
            send(&mut client, piece);
            sent += piece.len();
            log.wait("it is offered", |events| offered(events) == sent);
        }
        assert_eq!(read_exactly(&mut client, 6), b"thanks");
        let mut last = 0;
        for event in log.events() {
            if let What::Read(offer) = event.what {
                assert!(offer.len() > last, "no new bytes, no callback");
                last = offer.len();
                assert_same(&offer, &bytes[..last]);
            }
        }
        drop(client);
        server.stop();
    }
}

/// The size of the longest offer so far.
fn offered(events: &[Event]) -> usize {
    let sizes = events.iter().map(|event| match &event.what {
        What::Read(offer) => offer.len(),
        _ => 0,
    });
    sizes.max().unwrap_or(0)
}

#[test]
fn frames_of_every_size_come_out_as_they_went_in() {
    for (read_buffer, seed) in [(256 * KIB, 21), (5000, 22), (KIB, 23)] {
        let recorder = Recorder::new().without_bytes().read(|conn, input| {
            while let Some(head) = input.first_chunk::<4>() {
                let len = u32::from_be_bytes(*head) as usize;
                let Some(frame) = input.take(4 + len) else {
                    break;
                };
                conn.write(frame);
            }
            Ok(())
        });
        let server = serve_with(config(|config| config.read_buffer = read_buffer), recorder);
        let bytes = frames(seed);
        let client = connect(server.addr);
        let writer = {
            let (mut client, bytes) = (client.try_clone().unwrap(), bytes.clone());
            thread::spawn(move || {
                send_in_pieces(&mut client, &bytes, seed);
                finish(&client);
            })
        };
        assert_same(&read_in_pieces(client, seed), &bytes);
        writer.join().unwrap();
        server.stop();
    }
}

/// Small, middling and long frames, mixed, with four bytes of length before each.
fn frames(seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let mut bytes = Vec::new();
    for _ in 0..60 {
        let most = [10, 5 * KIB, 80 * KIB, 300 * KIB][rng.range(0, 4)];
        let len = rng.range(0, most);
        bytes.extend_from_slice(&(len as u32).to_be_bytes());
        bytes.extend_from_slice(&pattern(len, rng.next()));
    }
    bytes
}

#[test]
fn input_as_long_as_the_limit_may_be_left() {
    const LIMIT: usize = 100 * KIB;
    let recorder = Recorder::new().without_bytes().read(|conn, input| {
        if input.last() == Some(&b'!') {
            write!(conn, "{:06}", input.take_all().len());
        }
        Ok(())
    });
    let server = serve_with(config(|config| config.limits.input = LIMIT), recorder);
    let mut client = connect(server.addr);
    for _ in 0..3 {
        // The handler leaves everything until the last byte has come.
        let begin = server.stats().bytes_read;
        send(&mut client, &[b'.'; LIMIT]);
        server.until("all is offered", |s| s.bytes_read == begin + LIMIT as u64);
        assert_eq!(server.stats().buffered, LIMIT as u64);
        send(&mut client, b"!");
        assert_eq!(read_exactly(&mut client, 6), b"102401");
    }
    drop(client);
    server.stop();
}

#[test]
fn read_again_offers_the_rest_in_the_next_turn_without_new_bytes() {
    let turns: Arc<Mutex<Vec<u64>>> = Arc::default();
    let noted = Arc::clone(&turns);
    let server = serve(Recorder::new().read(move |conn, input| {
        noted.lock().unwrap().push(conn.cx().stats().turns);
        let byte = input.take(1).unwrap();
        conn.write(byte);
        conn.read_again();
        Ok(())
    }));
    let mut client = connect(server.addr);
    let bytes = pattern(100, 7);
    assert_eq!(round_trip(&mut client, &bytes), bytes);
    let turns = turns.lock().unwrap().clone();
    assert_eq!(turns.len(), bytes.len(), "not when nothing is left");
    assert!(turns.is_sorted_by(|a, b| a < b), "one a turn: {turns:?}");
    drop(client);
    server.stop();
}

#[test]
fn a_handler_that_always_reads_again_does_not_hold_the_loop() {
    let server = serve(Recorder::new().without_bytes().read(|conn, _| {
        conn.read_again();
        Ok(())
    }));
    let mut client = connect(server.addr);
    send(&mut client, b"never consumed");
    server.until("it is offered", |stats| stats.bytes_read > 0);
    let before = server.stats().turns;
    server.until("turns go on", |stats| stats.turns > before + 10);
    drop(client);
    server.stop_now();
}

#[test]
fn pausing_and_resuming_loses_nothing() {
    // Takes a bite and pauses; a timer resumes. The peer has long fallen silent by then.
    let recorder = Recorder::new()
        .without_bytes()
        .read(|conn, input| {
            let bite = input.len().min(7000);
            conn.write(input.take(bite).unwrap());
            conn.pause();
            let at = conn.now() + ms(1);
            conn.set_timer(at);
            Ok(())
        })
        .timeout(|conn, _| {
            conn.resume();
            Ok(())
        });
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut client = connect(server.addr);
    let bytes = pattern(300 * KIB, 8);
    assert_same(&round_trip(&mut client, &bytes), &bytes);
    finish(&client);
    assert_eq!(read_to_eof(&mut client), b"");
    drop(client);
    let closed = log.wait_closes(1).remove(0);
    assert_eq!(closed.bytes_read, bytes.len() as u64);
    assert_eq!(closed.unread, 0);
    server.stop();
}

#[test]
fn nothing_is_offered_while_paused_not_even_the_end() {
    let recorder = Recorder::new().accept(|conn| {
        conn.pause();
        conn.read_again();
        Ok(())
    });
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut client = connect(server.addr);
    send(&mut client, b"hello");
    finish(&client);
    log.wait_for("accept", 1);
    let id = log.events()[1].conn.unwrap();
    // Several turns in which it could go wrong.
    for _ in 0..20 {
        server.ask(move |_, cx| assert!(cx.wake(id)));
    }
    log.wait_for("wake", 20);
    assert_eq!(log.count("read") + log.count("eof"), 0);
    server.ask(move |_, cx| cx.conn(id).unwrap().resume());
    log.wait_for("close", 1);
    let names: Vec<_> = log.of(id).iter().map(|e| e.what.name()).collect();
    assert!(names.ends_with(&["read", "eof", "close"]), "{names:?}");
    server.stop();
}

#[test]
fn resuming_within_the_callback_that_paused_offers_the_rest() {
    let server = serve(Recorder::new().read(|conn, input| {
        conn.write(input.take(1).unwrap());
        conn.pause();
        conn.resume();
        Ok(())
    }));
    let mut client = connect(server.addr);
    assert_eq!(round_trip(&mut client, b"one by one"), b"one by one");
    drop(client);
    server.stop();
}

#[test]
fn requests_left_while_the_output_was_full_are_offered_at_the_low_mark() {
    for reply in [8 * KIB, MIB] {
        // Stops consuming at `Full`, as a handler should; nothing new comes afterwards.
        let recorder = Recorder::new().without_bytes().read(move |conn, input| {
            while let Some(request) = input.take(1) {
                if conn.write(&vec![request[0]; reply]) == Flow::Full {
                    break;
                }
            }
            Ok(())
        });
        let config = config(|config| {
            config.limits.low = KIB;
            config.limits.high = 4 * KIB;
        });
        let server = serve_with(config, recorder);
        let mut client = connect_small(server.addr, 4 * KIB);
        send(&mut client, b"abcdefghij");
        let got = read_exactly(&mut client, 10 * reply);
        let want: Vec<u8> = (b'a'..=b'j').flat_map(|b| vec![b; reply]).collect();
        assert_same(&got, &want);
        assert!(server.stats().buffered == 0);
        drop(client);
        server.stop();
    }
}

// The end of a stream.

#[test]
fn on_eof_is_given_what_was_left() {
    for len in [7, 5 * KIB, 200 * KIB] {
        let recorder = Recorder::new().read(|_, _| Ok(())).eof(|conn, input| {
            conn.write(&input[..]);
            conn.close();
            Ok(())
        });
        let log = recorder.log.clone();
        let server = serve(recorder);
        let mut client = connect(server.addr);
        let bytes = pattern(len, 9);
        send(&mut client, &bytes);
        finish(&client);
        assert_same(&read_to_eof(&mut client), &bytes);
        drop(client);
        let closed = log.wait_closes(1).remove(0);
        assert_eq!(log.count("eof"), 1);
        assert_eq!(closed.reason, Why::Eof);
        assert_eq!(closed.unread, len as u64, "looked at, not consumed");
        server.stop();
    }
}

#[test]
fn after_the_peers_fin_there_is_time_to_answer() {
    let recorder = Recorder::new()
        .without_bytes()
        .eof(|conn, _| {
            let at = conn.now() + ms(10);
            conn.set_timer(at);
            Ok(())
        })
        .timeout(|conn, _| {
            conn.write(&pattern(MIB, 10));
            conn.close();
            Ok(())
        });
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut client = connect(server.addr);
    send(&mut client, b"question");
    finish(&client);
    assert_same(&read_to_eof(&mut client), &pattern(MIB, 10));
    assert_eq!(log.wait_closes(1)[0].reason, Why::Eof);
    assert_eq!(log.count("eof"), 1);
    server.stop();
}

#[test]
fn shutdown_write_flushes_first_and_reading_goes_on() {
    let recorder = Recorder::new()
        .read(|conn, input| {
            if input.take_all() == b"go" {
                conn.write(&pattern(8 * MIB, 11));
                conn.shutdown_write();
                assert_eq!(conn.write(b"late"), Flow::Closed);
                assert_eq!(conn.flow(), Flow::Closed);
                assert!(write!(conn, "late") == Flow::Closed);
            }
            Ok(())
        })
        .eof(|_, _| Ok(()));
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut client = connect_small(server.addr, 64 * KIB);
    send(&mut client, b"go");
    assert_same(&read_to_eof(&mut client), &pattern(8 * MIB, 11));
    // The other direction is as good as before.
    send(&mut client, b"and another thing");
    finish(&client);
    let closed = log.wait_closes(1).remove(0);
    assert_eq!(closed.reason, Why::Eof, "both directions are done");
    assert_eq!(log.bytes_of(closed.id), b"goand another thing");
    assert_eq!((closed.unsent, closed.unread), (0, 0));
    server.stop();
}

#[test]
fn a_reset_ends_even_a_paused_connection() {
    let recorder = Recorder::new().accept(|conn| {
        conn.pause();
        Ok(())
    });
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut client = connect(server.addr);
    send(&mut client, b"unheard");
    log.wait_for("accept", 1);
    reset(client);
    let closed = log.wait_closes(1).remove(0);
    assert_eq!(closed.reason, Why::Reset);
    assert_eq!(log.count("read"), 0);
    server.stop();
}

// Close delivers.

/// Leaves most of a request in the kernel, where a careless close would make a reset of it.
fn one_kib_at_a_time() -> Config {
    config(|config| config.read_buffer = REQUEST_READ)
}

/// Reads the beginning of a request and answers all of it at once, then ends.
fn answering(end: fn(&mut Conn<'_>)) -> Recorder {
    Recorder::new().without_bytes().read(move |conn, input| {
        if input.take(REQUEST_READ).is_some() {
            conn.write(&pattern(REPLY, 12));
            end(conn);
        }
        Ok(())
    })
}

#[test]
fn a_reply_before_close_arrives_whole_although_most_of_the_request_is_unread() {
    let recorder = answering(|conn| conn.close());
    let log = recorder.log.clone();
    let server = serve_with(one_kib_at_a_time(), recorder);
    for _ in 0..CLIENTS {
        let mut client = connect(server.addr);
        send(&mut client, &[b'r'; REQUEST]);
        assert_same(&read_to_eof(&mut client), &pattern(REPLY, 12));
    }
    let closes = log.wait_closes(CLIENTS);
    for closed in closes {
        assert_eq!(closed.reason, Why::Local);
        assert_eq!(closed.bytes_written, REPLY as u64);
        assert_eq!(closed.unsent, 0);
        assert_eq!(closed.unread, (REQUEST - REQUEST_READ) as u64);
    }
    server.stop();
}

#[test]
fn the_same_through_slow_readers() {
    let server = serve_with(one_kib_at_a_time(), answering(|conn| conn.close()));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let addr = server.addr;
            thread::spawn(move || read_slowly(addr))
        })
        .collect();
    for client in clients {
        assert_same(&client.join().unwrap(), &pattern(REPLY, 12));
    }
    server.stop();
}

/// Leaves the reply waiting before it begins, and again and again in between.
fn read_slowly(addr: SocketAddr) -> Vec<u8> {
    let mut client = connect_small(addr, 8 * KIB);
    send(&mut client, &[b'r'; REQUEST]);
    let mut got = Vec::new();
    let mut piece = [0; 8 * KIB];
    loop {
        if got.len() % (128 * KIB) < piece.len() {
            thread::park_timeout(ms(5));
        }
        match client.read(&mut piece).expect("the reply goes on") {
            0 => return got,
            n => got.extend_from_slice(&piece[..n]),
        }
    }
}

#[test]
fn the_same_with_abort_is_a_reset() {
    let recorder = answering(|conn| conn.abort());
    let log = recorder.log.clone();
    let server = serve_with(one_kib_at_a_time(), recorder);
    for _ in 0..CLIENTS {
        let mut client = connect(server.addr);
        send(&mut client, &[b'r'; REQUEST]);
        expect_reset(&mut client);
    }
    for closed in log.wait_closes(CLIENTS) {
        assert_eq!(closed.bytes_written + closed.unsent, REPLY as u64);
    }
    server.stop();
}

#[test]
fn a_reply_arrives_whole_while_the_peer_is_still_sending_less_than_the_drain_limit() {
    const STILL: usize = 2 * MIB;
    let recorder = answering(|conn| conn.close());
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut client = connect(server.addr);
    // The whole upload first, as stubborn clients do; only then it looks for the reply.
    send(&mut client, &vec![b'r'; REQUEST_READ + STILL]);
    assert_same(&read_to_eof(&mut client), &pattern(REPLY, 12));
    drop(client);
    let closed = log.wait_closes(1).remove(0);
    assert_eq!(closed.unread, STILL as u64);
    assert_eq!((closed.reason, closed.unsent), (Why::Local, 0));
    let (_, summary) = server.stop();
    assert!(summary.stats.bytes_discarded <= STILL as u64);
}

#[test]
fn a_peer_that_sends_beyond_the_drain_limit_is_cut_off() {
    const DRAIN: usize = 64 * KIB;
    let recorder = answering(|conn| conn.close());
    let log = recorder.log.clone();
    let server = serve_with(config(|config| config.drain_limit = DRAIN), recorder);
    let mut client = connect(server.addr);
    let bytes = vec![b'r'; 64 * KIB];
    let error = loop {
        if let Err(error) = client.write_all(&bytes) {
            break error;
        }
    };
    assert!(
        matches!(error.kind(), BrokenPipe | ConnectionReset),
        "{error}"
    );
    let closed = log.wait_closes(1).remove(0);
    assert_eq!(closed.reason, Why::Local);
    let (_, summary) = server.stop();
    let most = DRAIN + Config::default().read_buffer;
    assert!(summary.stats.bytes_discarded <= most as u64);
}

#[test]
fn on_close_counts_every_byte() {
    let recorder = Recorder::new().without_bytes().read(|conn, input| {
        input.take(4).unwrap();
        conn.write(b"four taken");
        Ok(())
    });
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut client = connect(server.addr);
    send(&mut client, b"four left");
    assert_eq!(read_exactly(&mut client, 10), b"four taken");
    finish(&client);
    let closed = log.wait_closes(1).remove(0);
    assert_eq!((closed.bytes_read, closed.unread), (9, 5));
    assert_eq!((closed.bytes_written, closed.unsent), (10, 0));
    server.stop();
}

#[test]
fn on_close_counts_what_an_abort_threw_away() {
    let recorder = Recorder::new()
        .read(|conn, input| {
            input.take_all();
            conn.write(&vec![0; 15 * MIB]);
            Ok(())
        })
        .wake(|conn| {
            conn.abort();
            Ok(())
        });
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut client = connect_small(server.addr, 4 * KIB);
    send(&mut client, b"go");
    log.wait_for("read", 1);
    let id = log.events()[1].conn.unwrap();
    server.ask(move |_, cx| cx.wake(id));
    let closed = log.wait_closes(1).remove(0);
    assert!(closed.unsent > 0);
    assert_eq!(closed.bytes_written + closed.unsent, 15 * MIB as u64);
    let (got, ending) = read_to_end_or_reset(&mut client);
    assert_eq!(ending, Ending::Reset);
    assert!(got.len() as u64 <= closed.bytes_written);
    let (_, summary) = server.stop();
    assert_eq!(summary.stats.buffered, 0);
}
