//! What Go checks of the bytes of TCP connections: long streams, vectored writes, a pipe, a
//! proxy, and ends that come too early.
//!
//! The line above each test names the rows of Go's behaviour that it stands for.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use util::{
    KIB, MIB, Recorder, Rng, Why, config, connect, finish, ip, ms, pattern, read_exactly, send,
    serve, serve_with,
};
use windlass::sim::{Call, Remote, World};
use windlass::{
    Closed, Config, Conn, ConnId, Context, DialId, Error, Flow, Handler, Input, ListenerId,
};

// Go 156, TestTCPBig: adapted, output is bounded, so it is written in pieces; that one call
// never takes more than the system allows is a unit test of the kernel's room.
#[test]
fn a_stream_longer_than_32_bits_can_count_arrives_and_is_counted() {
    let total = (1 << 32) + MIB as u64;
    let piece: Arc<[u8]> = pattern(4 * MIB, 1).into();
    let pour = move |conn: &mut Conn<'_>| {
        loop {
            let gone = conn.bytes_written() + conn.queued() as u64;
            if gone >= total {
                conn.close();
                return Ok(());
            }
            let fits = (total - gone).min(piece.len() as u64) as usize;
            let flow = match fits == piece.len() {
                true => conn.write_shared(Arc::clone(&piece)),
                false => conn.write(&piece[..fits]),
            };
            if flow != Flow::Open {
                return Ok(());
            }
        }
    };
    let (start, expected) = (pour.clone(), pattern(4 * MIB, 1));
    let recorder = Recorder::new()
        .read(move |conn, input| {
            input.take_all();
            start(conn)
        })
        .write(pour);
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut client = connect(server.addr);
    send(&mut client, b"x");
    let mut buffer = vec![0; MIB];
    let mut received = 0;
    loop {
        match client.read(&mut buffer).unwrap() {
            0 => break,
            n => received += check(&buffer[..n], &expected, received),
        }
    }
    assert_eq!(received, total);
    drop(client);
    let closed = log.wait_closes(1).remove(0);
    assert_eq!((closed.bytes_written, closed.unsent), (total, 0));
    server.stop();
}

// Go 157, TestCopyPipeIntoTCP: adapted, a thread reads the pipe and posts what it reads.
#[test]
fn bytes_from_a_pipe_arrive_each_at_its_own_time() {
    let recorder = Recorder::new();
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut client = connect(server.addr);
    log.wait_for("accept", 1);
    let conn = log.events().iter().find_map(|event| event.conn).unwrap();
    let (mut from, mut into) = io::pipe().unwrap();
    let handle = server.handle.clone();
    let copier = thread::spawn(move || {
        let mut byte = [0];
        while from.read(&mut byte).unwrap() > 0 {
            let task = move |_: &mut Recorder, conn: &mut Conn<'_>, _: &mut ConnId| {
                conn.write(&byte);
                Ok(())
            };
            handle.post_to(conn, task).unwrap();
        }
    });
    for byte in [b'1', b'2'] {
        into.write_all(&[byte]).unwrap();
        assert_eq!(read_exactly(&mut client, 1), [byte]);
    }
    drop(into);
    copier.join().unwrap();
    drop(client);
    server.stop();
}

// Go 158, 159, TestTCPSpuriousConnSetupCompletion and …WithCancel: adapted, the reports
// that come too early are scripted.
#[test]
fn no_report_and_no_cancel_makes_a_connection_out_of_a_dial_that_has_none() {
    let (dead, slow) = (at("10.0.0.1:80"), at("10.0.0.2:80"));
    for seed in 0..100 {
        let mut rng = Rng::new(seed);
        let mut world = World::new(seed, Dials::default());
        world.run();
        world.remote(slow, Remote::AcceptsAfter(ms(100)));
        let (mut dials, mut wanted) = (0, 0);
        for _ in 0..20 {
            let after = ms(rng.range(0, 60) as u64);
            let errno = libc::ECONNREFUSED;
            world.remote(dead, Remote::Fails { errno, after });
            let hopeless = world.dial(dead).unwrap();
            let promising = world.dial(slow).unwrap();
            dials += 2;
            world.advance(ms(rng.range(0, 50) as u64));
            world.faults().spurious();
            let cancel = [
                rng.one_in(2).then_some(hopeless),
                rng.one_in(2).then_some(promising),
            ];
            world.post(move |_, cx| {
                for id in cancel.into_iter().flatten() {
                    cx.cancel_dial(id);
                }
            });
            wanted += usize::from(cancel[1].is_none());
            world.advance(ms(rng.range(0, 20) as u64));
        }
        world.advance(ms(1000));
        let told = world.handler();
        assert_eq!(told.connected.len() + told.failed, dials, "seed {seed}");
        assert_eq!(told.connected, vec![slow; wanted], "seed {seed}");
        for _ in 0..wanted {
            let far_end = world.dialed(slow).unwrap();
            assert_eq!(world.received(far_end), b"first", "seed {seed}");
        }
    }
}

// Go 160, TestEndlessWrite: every call counted.
#[test]
fn a_peer_that_has_finished_and_does_not_read_is_waited_for_without_a_call() {
    let mut world = World::with_config(1, Flood, roomy(2 * FLOOD));
    let addr = world.listen("127.0.0.1:7");
    let client = world.connect(addr);
    world.stop_reading(client);
    world.finish(client);
    world.run();
    world.clear_calls();
    world.advance(Duration::from_secs(20));
    assert_eq!(world.calls(Call::Write) + world.calls(Call::Read), 0);
    assert!(world.calls(Call::Poll) <= 20, "{}", world.calls(Call::Poll));
    world.resume_reading(client);
    world.run();
    assert_eq!(world.received(client).len(), FLOOD);
}

// Go 160, TestEndlessWrite: the same on a real kernel, which reports the peer's end
// together with everything else; turns counted.
#[test]
fn a_real_peer_that_has_finished_and_does_not_read_costs_no_turns() {
    let recorder = Recorder::new().eof(|conn, _| {
        conn.write(&vec![0; FLOOD]);
        Ok(())
    });
    let log = recorder.log.clone();
    let server = serve_with(roomy(2 * FLOOD), recorder);
    let client = connect(server.addr);
    finish(&client);
    log.wait_for("eof", 1);
    let before = server.ask(|_, cx| {
        cx.set_timer(cx.now() + ms(200));
        cx.stats()
    });
    log.wait_for("timer", 1);
    let after = server.stats();
    assert!(after.turns - before.turns <= 20, "{before:?} {after:?}");
    assert!(after.writes - before.writes <= 20, "{before:?} {after:?}");
    assert!(after.bytes_written < FLOOD as u64, "it is not stuck");
    drop(client);
    server.stop_now();
}

// Go 164, TestBuffers_WriteTo: adapted, chunks of one byte are gathered into one, and larger
// ones leave in as few calls as the limit of parts allows.
#[test]
fn any_number_of_chunks_leaves_whole_and_in_as_few_calls_as_there_can_be() {
    for chunks in [0, 1, 10, 63, 64, 65, 1023, 1024, 1025] {
        for size in [1, 512] {
            let (sent, calls) = send_chunks(chunks, size);
            let parts = if size == 1 { chunks.min(1) } else { chunks } as u64;
            let fewest = parts.div_ceil(PARTS_PER_CALL);
            let most = parts.div_ceil(PARTS_PER_CALL - 1);
            assert!(
                (fewest..=most).contains(&calls),
                "{calls} for {chunks} of {size}"
            );
            assert_eq!(sent, chunks * size);
        }
    }
}

// Go 165, TestWritevError.
#[test]
fn a_gigabyte_for_a_peer_that_has_gone_ends_as_a_reset() {
    const PIECES: usize = 1024;
    let piece: Arc<[u8]> = vec![0; MIB].into();
    let recorder = Recorder::new().eof(move |conn, _| {
        for _ in 0..PIECES {
            conn.write_shared(Arc::clone(&piece));
        }
        Ok(())
    });
    let log = recorder.log.clone();
    let server = serve_with(roomy(2 * PIECES * MIB), recorder);
    drop(connect(server.addr));
    let closed = log.wait_closes(1).remove(0);
    assert_eq!(closed.reason, Why::Reset);
    assert!(closed.bytes_written < (PIECES * MIB) as u64, "{closed:?}");
    server.stop();
}

// Go 174, TestSplice/issue25985.
#[test]
fn a_proxy_copies_both_ways_and_the_end_of_one_side_is_the_end_of_both() {
    let upstream = at("192.0.2.7:80");
    for client_closes in [true, false] {
        let mut world = World::new(1, Proxy::to(upstream));
        world.remote(upstream, Remote::AcceptsAfter(ms(5)));
        let addr = world.listen("127.0.0.1:7");
        let client = world.connect(addr);
        world.send(client, b"early ");
        world.advance(ms(10));
        let server = world.dialed(upstream).unwrap();
        let (there, back) = (pattern(300 * KIB, 1), pattern(500 * KIB, 2));
        world.send(client, &there);
        world.send(server, &back);
        world.run();
        assert!(world.received(server) == [b"early ".as_slice(), &there].concat());
        assert!(world.received(client) == back);
        let (closer, other) = match client_closes {
            true => (client, server),
            false => (server, client),
        };
        world.send(closer, b"last words");
        world.close(closer);
        world.run();
        assert_eq!(world.received(other), b"last words");
        assert!(world.saw_eof(other) && !world.was_reset(other));
        world.close(other);
        world.run();
        assert_eq!((world.stats().open, world.open_descriptors()), (0, 1));
        assert_eq!(world.handler().partners.len(), 0);
    }
}

/// Parts of one vectored call, `MAX_PARTS` in `src/kernel/mod.rs`. One of them is kept for
/// what is just being written.
const PARTS_PER_CALL: u64 = 64;

/// More than the kernel's buffers hold.
const FLOOD: usize = 16 * MIB;

/// Limits that let that much output wait on one connection.
fn roomy(limit: usize) -> Config {
    config(|config| config.limits.limit = limit)
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Compares what came at `offset` of an endless repetition of `piece`; answers how much it was.
#[track_caller]
fn check(came: &[u8], piece: &[u8], offset: u64) -> u64 {
    let start = (offset % piece.len() as u64) as usize;
    let until_end = came.len().min(piece.len() - start);
    let (first, second) = came.split_at(until_end);
    assert!(
        first == &piece[start..][..until_end],
        "after {offset} bytes"
    );
    assert!(second == &piece[..second.len()], "after {offset} bytes");
    came.len() as u64
}

/// Sends a word on whatever it connects to.
#[derive(Default)]
struct Dials {
    connected: Vec<SocketAddr>,
    failed: usize,
}

impl Handler for Dials {
    type Session = ();

    fn on_connect(&mut self, conn: &mut Conn<'_>, _: DialId) -> io::Result<()> {
        self.connected.push(ip(conn.peer_addr()));
        conn.write(b"first");
        Ok(())
    }

    fn on_dial_error(&mut self, _: &mut Context<'_>, _: DialId, _: &Error, _: Option<Duration>) {
        self.failed += 1;
    }
}

/// Answers the peer's end with more than anybody's buffers hold, and leaves it open.
struct Flood;

impl Handler for Flood {
    type Session = ();

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        Ok(())
    }

    fn on_eof(&mut self, conn: &mut Conn<'_>, (): &mut (), _: &mut Input<'_>) -> io::Result<()> {
        conn.write(&vec![0; FLOOD]);
        Ok(())
    }
}

/// Has so many chunks of that size written in one callback; answers the bytes that arrived,
/// in order, and the calls that it took.
#[track_caller]
fn send_chunks(chunks: usize, size: usize) -> (usize, u64) {
    let mut world = World::with_config(1, Flood, roomy(2 * MIB));
    let addr = world.listen("127.0.0.1:7");
    world.faults().buffers(2 * MIB, 2 * MIB);
    let client = world.connect(addr);
    world.run();
    world.clear_calls();
    let all = pattern(chunks * size, 1);
    let sent = all.clone();
    world.post(move |_, cx| {
        cx.for_each(|conn| {
            for chunk in sent.chunks(size) {
                conn.write_shared(chunk.into());
            }
        });
    });
    world.run();
    let received = world.received(client);
    util::assert_same(&received, &all);
    (received.len(), world.calls(Call::Write))
}

/// Connects each client to the same upstream.
struct Proxy {
    upstream: SocketAddr,
    waiting: HashMap<DialId, ConnId>,
    partners: HashMap<ConnId, ConnId>,
}

impl Proxy {
    fn to(upstream: SocketAddr) -> Self {
        Self {
            upstream,
            waiting: HashMap::new(),
            partners: HashMap::new(),
        }
    }
}

impl Handler for Proxy {
    type Session = ();

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        // Nothing is read before there is somebody to write it to.
        conn.pause();
        let dial = conn.cx().dial(self.upstream)?;
        self.waiting.insert(dial, conn.id());
        Ok(())
    }

    fn on_connect(&mut self, conn: &mut Conn<'_>, dial: DialId) -> io::Result<()> {
        let client = self.waiting.remove(&dial).unwrap();
        self.partners.insert(conn.id(), client);
        self.partners.insert(client, conn.id());
        conn.cx().conn(client).unwrap().resume();
        Ok(())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        (): &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        let partner = self.partners[&conn.id()];
        if let Some(mut partner) = conn.cx().conn(partner) {
            partner.write(input.take_all());
        }
        Ok(())
    }

    fn on_close(&mut self, cx: &mut Context<'_>, (): (), closed: &Closed) {
        let Some(partner) = self.partners.remove(&closed.id) else {
            return;
        };
        self.partners.remove(&partner);
        if let Some(mut partner) = cx.conn(partner) {
            partner.close();
        }
    }
}
