//! Every promise holds for the plain bytes of a connection that has a layer.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util {
    pub mod hooks;
    pub mod layer;
}

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use util::hooks::Hooks;
use util::layer::{Frames, GREETING};
use windlass::sim::{Client, Remote, World};
use windlass::{Config, ConnId, Dial, Flow, Layer, Limits, Listen, Progress};

/// A client that speaks the layer.
struct Peer {
    client: Client,
    frames: Frames,
    /// What came, plain.
    plain: Vec<u8>,
}

impl Peer {
    fn connect(world: &mut World<Hooks>, addr: SocketAddr) -> Self {
        let client = world.connect(addr);
        Self::over(client)
    }

    fn over(client: Client) -> Self {
        Self {
            client,
            frames: Frames::new(),
            plain: Vec::new(),
        }
    }

    fn send(&mut self, world: &mut World<Hooks>, plain: &[u8]) {
        let wire = self.frames.encode(plain);
        world.send(self.client, &wire);
        self.run(world);
    }

    fn end(&mut self, world: &mut World<Hooks>) {
        let wire = self.frames.end();
        world.send(self.client, &wire);
        world.finish(self.client);
        self.run(world);
    }

    fn run(&mut self, world: &mut World<Hooks>) {
        world.run();
        self.receive(world);
    }

    fn receive(&mut self, world: &mut World<Hooks>) {
        let wire = world.received(self.client);
        self.plain.extend(self.frames.decode(&wire));
        assert!(!self.frames.broken, "what came is not of the layer");
    }
}

fn world(hooks: Hooks, change: impl FnOnce(&mut Config)) -> (World<Hooks>, SocketAddr) {
    let mut config = Config::default();
    change(&mut config);
    let mut world = World::with_config(1, hooks, config);
    let listen = Listen::new("127.0.0.1:7").unwrap();
    let addr = world.listen(listen.layer(Frames::boxed));
    (world, addr)
}

fn last(world: &World<Hooks>) -> ConnId {
    world.handler().last.unwrap()
}

#[test]
fn nothing_plain_leaves_before_the_layer_even_if_on_accept_closes() {
    let hooks = Hooks::echo().accept(|conn| {
        conn.write(b"we are full");
        conn.close();
        Ok(())
    });
    let (mut world, addr) = world(hooks, |_| {});
    let mut peer = Peer::connect(&mut world, addr);
    peer.run(&mut world);
    assert_eq!(peer.plain, b"");
    assert!(!world.saw_eof(peer.client));
    peer.send(&mut world, b"");
    assert_eq!(peer.plain, b"we are full");
    assert!(peer.frames.has_ended() && world.saw_eof(peer.client));
}

#[test]
fn nothing_plain_leaves_before_the_layer_even_if_on_connect_closes() {
    let hooks = Hooks::echo().connect(|conn| {
        conn.write(b"goodbye");
        conn.close();
        Ok(())
    });
    let mut world = World::new(1, hooks);
    let there = SocketAddr::from(([10, 0, 0, 1], 7));
    world.remote(there, Remote::Accepts);
    world.dial(Dial::from(there).layer(Frames::boxed)).unwrap();
    world.run();
    let mut peer = Peer::over(world.dialed(there).unwrap());
    peer.run(&mut world);
    assert_eq!(peer.plain, b"");
    peer.send(&mut world, b"");
    assert_eq!(peer.plain, b"goodbye");
    assert!(peer.frames.has_ended() && world.saw_eof(peer.client));
}

#[test]
fn half_a_close_waits_for_the_handshake() {
    let hooks = Hooks::echo().accept(|conn| {
        conn.shutdown_write();
        Ok(())
    });
    let (mut world, addr) = world(hooks, |_| {});
    let mut peer = Peer::connect(&mut world, addr);
    peer.run(&mut world);
    assert!(
        !world.saw_eof(peer.client),
        "half of the handshake is missing"
    );
    peer.send(&mut world, b"for you to read");
    assert!(peer.frames.has_ended() && world.saw_eof(peer.client));
    assert_eq!(world.stats().bytes_read, 15);
    peer.end(&mut world);
    assert_eq!(world.handler().ends, ["end of stream"]);
}

#[test]
fn a_dial_that_its_own_on_connect_cancels_has_its_layer_all_the_same() {
    let known = Arc::new(Mutex::new(None));
    let dial = Arc::clone(&known);
    let hooks = Hooks::echo().connect(move |conn| {
        conn.write(b"secret");
        conn.cx().cancel_dial(dial.lock().unwrap().unwrap());
        Ok(())
    });
    let mut world = World::new(1, hooks);
    let there = SocketAddr::from(([10, 0, 0, 1], 7));
    world.remote(there, Remote::Accepts);
    let id = world.dial(Dial::from(there).layer(Frames::boxed)).unwrap();
    *known.lock().unwrap() = Some(id);
    world.run();
    let mut peer = Peer::over(world.dialed(there).unwrap());
    peer.run(&mut world);
    peer.send(&mut world, b"");
    assert_eq!(peer.plain, b"secret");
    assert_eq!(world.handler().count("on_handshake"), 1);
}

#[test]
fn a_listener_that_its_own_on_accept_closes_gives_its_layer_all_the_same() {
    let known = Arc::new(Mutex::new(None));
    let listener = Arc::clone(&known);
    let hooks = Hooks::echo().accept(move |conn| {
        conn.write(b"secret");
        let id = listener.lock().unwrap().unwrap();
        conn.cx().listener(id).unwrap().close();
        Ok(())
    });
    let mut world = World::new(1, hooks);
    let listen = Listen::new("127.0.0.1:7").unwrap().layer(Frames::boxed);
    let id = world.try_listen(listen).unwrap();
    *known.lock().unwrap() = Some(id);
    let mut peer = Peer::connect(&mut world, SocketAddr::from(([127, 0, 0, 1], 7)));
    peer.run(&mut world);
    peer.send(&mut world, b"");
    assert_eq!(peer.plain, b"secret");
    assert_eq!(world.handler().count("on_handshake"), 1);
}

/// More than one flush takes, even of a kernel that takes it all.
const HUGE: usize = 3_000_000;

#[test]
fn a_huge_answer_leaves_without_further_news() {
    for shared in [false, true] {
        let hooks = Hooks::echo().read(move |conn, input| {
            input.take_all();
            let bytes = vec![b'x'; HUGE];
            if shared {
                conn.write_shared(Arc::from(bytes));
            } else {
                conn.write(&bytes);
            }
            Ok(())
        });
        let (mut world, addr) = world(hooks, |config| config.limits.limit = 2 * HUGE);
        world.faults().buffers(2 * HUGE, 2 * HUGE);
        let mut peer = Peer::connect(&mut world, addr);
        peer.send(&mut world, b"go");
        assert_eq!(peer.plain.len(), HUGE);
        assert_eq!(world.stats().buffered, 0);
    }
}

#[test]
fn what_a_layer_adds_does_not_count_against_the_limit_of_output() {
    let hooks = Hooks::echo().read(|conn, input| {
        input.take_all();
        assert_eq!(conn.write(&[b'x'; 1000]), Flow::Full);
        assert_eq!(conn.queued(), 1000);
        Ok(())
    });
    let (mut world, addr) = world(hooks, |config| {
        config.limits.low = 0;
        config.limits.high = 500;
        config.limits.limit = 1000;
    });
    world.faults().buffers(10, 10);
    let mut peer = Peer::connect(&mut world, addr);
    peer.send(&mut world, b"");
    world.stop_reading(peer.client);
    peer.send(&mut world, b"go");
    let conn = world.conn(last(&world)).unwrap();
    assert_eq!(conn.queued() as u64 + conn.bytes_written(), 1000);
    world.resume_reading(peer.client);
    peer.run(&mut world);
    assert_eq!(peer.plain.len(), 1000);
    assert_eq!(world.handler().count("on_write"), 1);
}

#[test]
fn plain_bytes_are_queued_or_written_at_every_moment() {
    let hooks = Hooks::echo().read(|conn, input| {
        input.take_all();
        conn.write(&[b'x'; 100]);
        Ok(())
    });
    let (mut world, addr) = world(hooks, |_| {});
    world.faults().buffers(3, 3);
    let mut peer = Peer::connect(&mut world, addr);
    peer.send(&mut world, b"");
    world.stop_reading(peer.client);
    peer.send(&mut world, b"go");
    let mut at = Vec::new();
    loop {
        let conn = world.conn(last(&world)).unwrap();
        assert_eq!(conn.queued() as u64 + conn.bytes_written(), 100);
        at.push(conn.queued());
        if world.read_some(peer.client, 1) == 0 {
            break;
        }
        world.run();
    }
    assert_eq!(at.first(), Some(&100));
    assert_eq!(at.last(), Some(&0));
    peer.receive(&mut world);
    assert_eq!(peer.plain.len(), 100);
}

#[test]
fn more_than_the_limit_of_output_is_an_overflow_under_a_layer_too() {
    let hooks = Hooks::echo().read(|conn, input| {
        input.take_all();
        assert_eq!(conn.write(&[b'x'; 1001]), Flow::Closed);
        Ok(())
    });
    let (mut world, addr) = world(hooks, |config| {
        config.limits.low = 0;
        config.limits.high = 500;
        config.limits.limit = 1000;
    });
    let mut peer = Peer::connect(&mut world, addr);
    peer.send(&mut world, b"go");
    assert!(world.was_reset(peer.client));
    assert_eq!(world.handler().ends, ["output limit exceeded"]);
    assert_eq!(world.stats().buffered, 0);
}

#[test]
fn a_write_deadline_holds_while_output_waits_for_the_handshake() {
    let hooks = Hooks::echo().accept(|conn| {
        conn.write(b"hello");
        let at = conn.now() + Duration::from_secs(1);
        conn.set_write_deadline(Some(at));
        Ok(())
    });
    let (mut world, addr) = world(hooks, |_| {});
    let client = world.connect(addr);
    world.advance(Duration::from_millis(999));
    assert_eq!(world.handler().count("write deadline"), 0);
    world.advance(Duration::from_millis(1));
    assert_eq!(world.handler().count("write deadline"), 1);
    world.close(client);
    world.run();
}

#[test]
fn output_that_waits_for_a_handshake_too_long_is_a_stall() {
    let hooks = Hooks::echo().accept(|conn| {
        conn.write(b"hello");
        Ok(())
    });
    let (mut world, addr) = world(hooks, |config| {
        config.handshake_timeout = Duration::from_secs(60);
        config.write_stall_timeout = Duration::from_secs(5);
    });
    let client = world.connect(addr);
    world.advance(Duration::from_secs(5));
    assert_eq!(world.handler().ends, ["timed out: write stall"]);
    assert!(world.was_reset(client));
}

#[test]
fn words_of_the_layer_that_nobody_reads_are_no_stall() {
    let (mut world, addr) = world(Hooks::echo(), |config| {
        config.write_stall_timeout = Duration::from_secs(5);
    });
    world.faults().buffers(1, 1);
    let mut peer = Peer::connect(&mut world, addr);
    world.stop_reading(peer.client);
    peer.send(&mut world, b"");
    world.advance(Duration::from_secs(60));
    assert_eq!(world.handler().count("write stall"), 0);
    // The greeting is still on its way, and now there is something behind it.
    peer.send(&mut world, b"x");
    world.advance(Duration::from_secs(5));
    assert_eq!(world.handler().count("write stall"), 1);
}

#[test]
fn a_peer_that_talks_nonsense_into_a_close_still_gets_what_was_sent() {
    let hooks = Hooks::echo().read(|conn, input| {
        input.take_all();
        conn.write(&[b'x'; 500]);
        conn.close();
        Ok(())
    });
    let (mut world, addr) = world(hooks, |_| {});
    world.faults().buffers(20, 20);
    let mut peer = Peer::connect(&mut world, addr);
    peer.send(&mut world, b"");
    world.stop_reading(peer.client);
    peer.send(&mut world, b"go");
    world.send(peer.client, &[0xff, 0xff]);
    world.run();
    assert!(!world.was_reset(peer.client));
    world.resume_reading(peer.client);
    peer.run(&mut world);
    assert_eq!(peer.plain.len(), 500);
    world.close(peer.client);
    world.run();
    assert_eq!(world.handler().ends, ["closed by the handler"]);
}

#[test]
fn what_layers_keep_of_the_wire_does_not_block_the_memory_for_all() {
    let hooks = Hooks::echo()
        .accept(|conn| {
            conn.pause();
            Ok(())
        })
        .read(|_, input| {
            input.take_all();
            Ok(())
        });
    let (mut world, addr) = world(hooks, |config| config.memory_limit = 2000);
    let mut peers = Vec::new();
    for _ in 0..2 {
        let mut peer = Peer::connect(&mut world, addr);
        peer.send(&mut world, &[b'x'; 1000]);
        peers.push((peer, last(&world)));
    }
    // What came behind the greeting in the same call waits, since reading is paused.
    assert!(world.stats().buffered > 2000);
    for (_, id) in &peers {
        world.conn(*id).unwrap().resume();
    }
    world.run();
    assert_eq!(world.stats().bytes_read, 2 * 1000);
    assert_eq!(world.stats().buffered, 0);
}

#[test]
fn a_layer_is_refused_where_there_can_be_none() {
    let hooks = Hooks::echo().read(|conn, input| {
        assert!(
            conn.set_layer(Frames::new(), input).is_err(),
            "a second one"
        );
        assert_eq!(input.take_all(), b"x", "refused input is untouched");
        let error = conn.detach().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
        conn.close();
        assert!(conn.set_layer(Frames::new(), input).is_err(), "closed");
        Ok(())
    });
    let (mut world, addr) = world(hooks, |_| {});
    let mut peer = Peer::connect(&mut world, addr);
    peer.send(&mut world, b"x");
    assert_eq!(world.handler().count("on_handshake"), 1);
}

#[test]
fn what_comes_with_the_greeting_and_before_a_failure_waits_for_on_handshake() {
    let hooks = Hooks::echo().accept(|conn| {
        conn.pause();
        Ok(())
    });
    let (mut world, addr) = world(hooks, |_| {});
    let mut peer = Peer::connect(&mut world, addr);
    let mut wire = peer.frames.encode(b"words");
    wire.push(0xff);
    world.send(peer.client, &wire);
    peer.run(&mut world);
    assert_eq!(world.handler().log, ["on_accept", "on_handshake"]);
    assert_eq!(world.stats().bytes_read, 0);
    world.conn(last(&world)).unwrap().resume();
    peer.run(&mut world);
    assert_eq!(peer.plain, b"words");
    world.close(peer.client);
    world.run();
    assert_eq!(world.handler().ends, ["frames: too long"]);
}

#[test]
fn whoever_was_just_offered_bytes_is_not_idle() {
    let hooks = Hooks::echo()
        .accept(|conn| {
            conn.pause();
            Ok(())
        })
        .read(|_, input| {
            input.take_all();
            Ok(())
        });
    let (mut world, addr) = world(hooks, |config| {
        config.idle_timeout = Duration::from_secs(10);
    });
    let mut peer = Peer::connect(&mut world, addr);
    peer.send(&mut world, b"came with the greeting");
    world.advance(Duration::from_secs(9));
    world.conn(last(&world)).unwrap().resume();
    world.advance(Duration::from_millis(9_999));
    assert_eq!(world.stats().bytes_read, 22);
    assert_eq!(world.handler().count("idle timeout"), 0);
    world.advance(Duration::from_millis(1));
    assert_eq!(world.handler().count("idle timeout"), 1);
}

#[test]
fn a_reset_behind_the_layers_end_is_seen() {
    let hooks = Hooks::echo().eof(|_, _| Ok(()));
    let (mut world, addr) = world(hooks, |_| {});
    let mut peer = Peer::connect(&mut world, addr);
    peer.send(&mut world, b"");
    let end = peer.frames.end();
    world.send(peer.client, &end);
    world.finish(peer.client);
    world.reset(peer.client);
    world.run();
    assert_eq!(world.handler().ends, ["connection reset by peer"]);
}

/// Answers every byte with many, none of them plain.
#[derive(Default)]
struct Babble(Vec<u8>);

impl Layer for Babble {
    fn receive(&mut self, wire: &[u8]) -> io::Result<usize> {
        self.0.resize(self.0.len() + 100 * wire.len(), b'!');
        Ok(wire.len())
    }

    fn read(&mut self, _: &mut [u8]) -> usize {
        0
    }

    fn write(&mut self, plain: &[u8]) -> usize {
        plain.len()
    }

    fn send(&mut self, wire: &mut Vec<u8>) {
        wire.append(&mut self.0);
    }

    fn progress(&self) -> Progress {
        Progress::Open
    }
}

#[test]
fn a_layer_that_talks_to_itself_is_bounded_too() {
    let mut world = World::new(1, Hooks::echo());
    let listen = Listen::new("127.0.0.1:7").unwrap();
    let addr = world.listen(listen.layer(|| Ok(Box::new(Babble::default()))));
    world.faults().buffers(100, 100);
    let client = world.connect(addr);
    world.stop_reading(client);
    for _ in 0..100 {
        world.send(client, &[0; 90]);
        world.run();
        assert!(world.stats().buffered < 300_000);
    }
    assert_eq!(world.handler().ends, ["output limit exceeded"]);
    assert_eq!(world.stats().buffered, 0);
}

#[test]
fn an_error_of_the_maker_is_the_reason() {
    let mut world = World::new(1, Hooks::echo());
    let listen = Listen::new("127.0.0.1:7").unwrap();
    let addr = world.listen(listen.layer(|| Err(io::Error::other("no layer today"))));
    let client = world.connect(addr);
    world.run();
    assert!(world.was_reset(client));
    assert_eq!(world.handler().ends, ["no layer today"]);
}

#[test]
fn limits_of_the_output_are_told_in_plain_bytes() {
    // Full above `high`, and drained at `low`, whatever the layer makes of the bytes.
    let hooks = Hooks::echo().accept(|conn| {
        let mut limits = Limits::default();
        limits.low = 10;
        limits.high = 100;
        conn.set_limits(limits).unwrap();
        Ok(())
    });
    let (mut world, addr) = world(hooks, |_| {});
    world.faults().buffers(1, 1);
    let mut peer = Peer::connect(&mut world, addr);
    peer.send(&mut world, b"");
    world.stop_reading(peer.client);
    world.run();
    let id = last(&world);
    let mut conn = world.conn(id).unwrap();
    assert_eq!(conn.write(&[b'x'; 100]), Flow::Open);
    assert_eq!(conn.write(&[b'x'; 1]), Flow::Full);
    assert_eq!(conn.queued(), 101);
    loop {
        world.run();
        let conn = world.conn(id).unwrap();
        let expected = if conn.queued() > 10 {
            Flow::Full
        } else {
            Flow::Open
        };
        assert_eq!(conn.flow(), expected, "{} queued", conn.queued());
        let told = world.handler().count("on_write");
        assert_eq!(told, usize::from(expected == Flow::Open));
        if world.read_some(peer.client, 1) == 0 {
            break;
        }
    }
    assert_eq!(world.handler().count("on_write"), 1);
    assert_eq!(GREETING.len(), 3);
}
