//! P6 for layers: one that panics, lies or stands still costs its own connection and nothing else.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util {
    pub mod hooks;
}

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use util::hooks::Hooks;
use windlass::sim::World;
use windlass::{Config, Layer, Listen, Progress};

/// What a layer does wrong, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wrong {
    Nothing,
    Panics(&'static str),
    /// Answers more than it was given, wherever it answers a number.
    Boasts,
    /// Takes nothing of the wire, and has nothing either.
    Refuses,
}

/// Passes on what it gets; it does wrong from the first byte on, not before.
struct Rude {
    wrong: Wrong,
    plain: Vec<u8>,
    wire: Vec<u8>,
    began: bool,
}

impl Rude {
    fn new(wrong: Wrong) -> Self {
        let (plain, wire) = (Vec::new(), Vec::new());
        Self {
            wrong,
            plain,
            wire,
            began: false,
        }
    }

    fn enter(&self, call: &'static str) {
        assert!(
            !self.began || self.wrong != Wrong::Panics(call),
            "as planned, in {call}"
        );
    }

    fn boast(&self, n: usize) -> usize {
        if self.wrong == Wrong::Boasts {
            return usize::MAX;
        }
        n
    }
}

impl Layer for Rude {
    fn receive(&mut self, wire: &[u8]) -> io::Result<usize> {
        self.began = true;
        self.enter("receive");
        if self.wrong == Wrong::Refuses {
            return Ok(0);
        }
        self.plain.extend(wire);
        Ok(self.boast(wire.len()))
    }

    fn read(&mut self, plain: &mut [u8]) -> usize {
        self.enter("read");
        let n = plain.len().min(self.plain.len());
        plain[..n].copy_from_slice(&self.plain[..n]);
        self.plain.drain(..n);
        if n > 0 && n == plain.len() {
            return self.boast(n);
        }
        n
    }

    fn write(&mut self, plain: &[u8]) -> usize {
        self.enter("write");
        self.wire.extend(plain);
        self.boast(plain.len())
    }

    fn send(&mut self, wire: &mut Vec<u8>) {
        self.enter("send");
        wire.append(&mut self.wire);
    }

    fn progress(&self) -> Progress {
        self.enter("progress");
        Progress::Open
    }

    fn close(&mut self) {
        self.enter("close");
    }
}

/// Does nothing but pass on, and has no words for its end.
#[derive(Default)]
struct Mute {
    plain: Vec<u8>,
    wire: Vec<u8>,
}

impl Layer for Mute {
    fn receive(&mut self, wire: &[u8]) -> io::Result<usize> {
        self.plain.extend(wire);
        Ok(wire.len())
    }

    fn read(&mut self, plain: &mut [u8]) -> usize {
        let n = plain.len().min(self.plain.len());
        plain[..n].copy_from_slice(&self.plain[..n]);
        self.plain.drain(..n);
        n
    }

    fn write(&mut self, plain: &[u8]) -> usize {
        self.wire.extend(plain);
        plain.len()
    }

    fn send(&mut self, wire: &mut Vec<u8>) {
        wire.append(&mut self.wire);
    }

    fn progress(&self) -> Progress {
        Progress::Open
    }

    fn ends_with_the_stream(&self) -> bool {
        true
    }
}

/// The first connection has a layer that does wrong, and those after it have a good one.
fn world(hooks: Hooks, wrong: Wrong) -> (World<Hooks>, SocketAddr) {
    let mut world = World::with_config(1, hooks, Config::default());
    let count = Arc::new(AtomicUsize::new(0));
    let listen = Listen::new("127.0.0.1:7").unwrap().layer(move || {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let wrong = if number == 0 { wrong } else { Wrong::Nothing };
        Ok(Box::new(Rude::new(wrong)) as Box<dyn Layer>)
    });
    let addr = world.listen(listen);
    (world, addr)
}

const CALLS: [&str; 6] = ["receive", "read", "write", "send", "progress", "close"];

#[test]
fn a_panic_of_a_layer_costs_its_connection_alone() {
    for call in CALLS {
        let hooks = Hooks::echo().read(|conn, input| {
            conn.write(input.take_all());
            conn.close();
            Ok(())
        });
        let (mut world, addr) = world(hooks, Wrong::Panics(call));
        let (bad, good) = (world.connect(addr), world.connect(addr));
        world.run();
        // Both in one turn, whoever comes first.
        world.send(bad, b"bad");
        world.send(good, b"good");
        world.run();
        assert_eq!(world.received(good), b"good", "{call}");
        assert!(world.was_reset(bad), "{call}");
        world.finish(good);
        world.run();
        let mut ends = world.handler().ends.clone();
        ends.sort();
        assert_eq!(ends[0], "a callback panicked", "{call}");
        assert_eq!(ends.len(), 2, "{call}: {ends:?}");
        assert_eq!(world.stats().panics, 1, "{call}");
        assert_eq!(
            (world.stats().open, world.stats().buffered),
            (0, 0),
            "{call}"
        );
    }
}

#[test]
fn a_layer_that_answers_more_than_it_was_given_has_taken_what_it_was_given() {
    let (mut world, addr) = world(Hooks::echo(), Wrong::Boasts);
    let client = world.connect(addr);
    let sent: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    world.send(client, &sent);
    world.run();
    assert!(world.received(client) == sent);
    assert_eq!(world.stats().buffered, 0);
}

#[test]
fn a_layer_that_takes_nothing_and_gives_nothing_has_failed() {
    let (mut world, addr) = world(Hooks::echo(), Wrong::Refuses);
    let client = world.connect(addr);
    world.send(client, b"hello");
    world.run();
    world.close(client);
    world.run();
    let why = "the layer takes nothing and gives nothing";
    assert_eq!(world.handler().ends, [why]);
    assert_eq!(world.stats().panics, 0);
}

#[test]
fn a_layer_without_words_for_its_end_ends_with_the_stream() {
    let mut world = World::with_config(1, Hooks::echo(), Config::default());
    let listen = Listen::new("127.0.0.1:7").unwrap();
    let listen = listen.layer(|| Ok(Box::new(Mute::default()) as Box<dyn Layer>));
    assert!(format!("{listen:?}").contains("Layers"));
    let addr = world.listen(listen);
    let client = world.connect(addr);
    world.send(client, b"hello");
    world.finish(client);
    world.run();
    assert_eq!(world.received(client), b"hello");
    assert!(world.saw_eof(client));
    assert_eq!(world.handler().ends, ["end of stream"]);
}

#[test]
fn under_a_layer_nothing_is_read_while_memory_is_short_and_everything_afterwards() {
    const MUCH: usize = 400_000;
    let mut has_flooded = false;
    let hooks = Hooks::echo().accept(move |conn| {
        if !std::mem::replace(&mut has_flooded, true) {
            conn.write(&vec![b'x'; MUCH]);
        }
        Ok(())
    });
    let mut config = Config::default();
    config.memory_limit = 300_000;
    let mut world = World::with_config(1, hooks, config);
    let listen = Listen::new("127.0.0.1:7").unwrap();
    let addr = world.listen(listen.layer(|| Ok(Box::new(Mute::default()) as Box<dyn Layer>)));
    world.faults().buffers(1000, 1000);
    let (deaf, other) = (world.connect(addr), world.connect(addr));
    world.stop_reading(deaf);
    world.run();
    world.send(other, b"is anybody there?");
    world.run();
    assert_eq!(world.stats().bytes_read, 0);
    world.resume_reading(deaf);
    world.run();
    assert_eq!(world.received(deaf).len(), MUCH);
    assert_eq!(world.received(other), b"is anybody there?");
}
