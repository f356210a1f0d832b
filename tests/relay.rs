//! The handler of the `proxy` example in a simulated world: the dial that takes its time,
//! memory while nobody reads, and every way in which one side can end.
//!
//! `tests/gallery_servers.rs` has the same program on real sockets.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

#[allow(
    dead_code,
    reason = "its command line is for `tests/gallery_servers.rs`"
)]
#[path = "../examples/proxy.rs"]
mod proxy;
mod util;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use proxy::Relay;
use util::{KIB, MIB, pattern};
use windlass::sim::{Client, Remote, World};
use windlass::{Config, Dial};

const SERVER: ([u8; 4], u16) = ([192, 0, 2, 7], 80);
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn early_data_waits_until_the_server_is_there() {
    let (mut world, addr) = world(Remote::AcceptsAfter(SECOND));
    let client = world.connect(addr);
    world.send(client, &pattern(3 * MIB, 1));
    world.finish(client);
    world.advance(SECOND / 2);
    assert_eq!(world.stats().bytes_read, 0, "it waits in the kernel");
    world.advance(SECOND / 2);
    let server = world.dialed(SERVER.into()).unwrap();
    util::assert_same(&world.received(server), &pattern(3 * MIB, 1));
    assert!(world.saw_eof(server) && !world.saw_eof(client));
    world.send(server, b"answer");
    world.finish(server);
    world.run();
    assert_eq!(world.received(client), b"answer");
    assert!(world.saw_eof(client));
    assert_eq!(world.stats().open, 0);
}

#[test]
fn a_dial_that_fails_resets_its_client() {
    for remote in [Remote::Refuses, Remote::Silent] {
        let (mut world, addr) = world(remote);
        let client = world.connect(addr);
        world.send(client, b"hello");
        world.advance(31 * SECOND);
        assert!(world.was_reset(client), "{remote:?}");
        assert_eq!(world.stats().open, 0);
    }
}

#[test]
fn the_dial_of_a_client_that_has_gone_is_given_up() {
    let (mut world, addr) = world(Remote::Silent);
    let idle = world.open_descriptors();
    let client = world.connect(addr);
    world.run();
    assert_eq!(world.open_descriptors(), idle + 2);
    world.reset(client);
    world.run();
    assert_eq!(world.open_descriptors(), idle);
}

#[test]
fn a_pair_of_which_nobody_reads_costs_little_and_loses_nothing() {
    let (mut world, client, server) = joined();
    let (one, other) = (pattern(8 * MIB, 1), pattern(8 * MIB, 2));
    for (side, data) in [(client, &one), (server, &other)] {
        world.stop_reading(side);
        world.send(side, data);
    }
    world.run();
    let buffered = world.stats().buffered;
    // In each direction the high mark, and a read on top of it.
    assert!(buffered <= 2 * 512 * KIB as u64, "{buffered} bytes");
    // One side alone must be able to go on.
    world.resume_reading(server);
    world.run();
    util::assert_same(&world.received(server), &one);
    world.resume_reading(client);
    world.run();
    util::assert_same(&world.received(client), &other);
    assert_eq!(world.stats().buffered, 0);
}

#[test]
fn what_a_slow_reader_has_yet_to_hear_is_not_cut_off_by_the_end() {
    let (mut world, client, server) = joined();
    let data = pattern(MIB, 1);
    world.stop_reading(client);
    world.send(server, &data);
    world.finish(server);
    world.finish(client);
    world.run();
    let mut read = 0;
    while read < data.len() {
        // Slower than any linger time.
        world.advance(20 * SECOND);
        let now = world.read_some(client, 64 * KIB);
        assert!(now > 0, "stuck behind {read} bytes");
        read += now;
    }
    util::assert_same(&world.received(client), &data);
    world.resume_reading(client);
    world.run();
    assert!(world.saw_eof(client));
    assert_eq!(world.stats().open, 0);
}

#[test]
fn a_reset_of_one_side_resets_the_other() {
    for client_first in [true, false] {
        let (mut world, client, server) = joined();
        let (first, second) = if client_first {
            (client, server)
        } else {
            (server, client)
        };
        world.reset(first);
        world.run();
        assert!(world.was_reset(second));
        assert_eq!(world.stats().open, 0);
    }
}

#[test]
fn a_pair_in_which_nothing_moves_is_reset_and_one_that_is_half_busy_is_not() {
    let (mut world, client, server) = joined();
    let idle = Config::default().idle_timeout;
    for _ in 0..3 {
        world.advance(idle - SECOND);
        world.send(server, b"still here");
        world.run();
    }
    assert!(!world.was_reset(client) && !world.was_reset(server));
    world.advance(idle);
    assert!(world.was_reset(client) && world.was_reset(server));
}

#[test]
fn a_stop_lets_pairs_finish_and_then_resets_them() {
    let (mut world, client, server) = joined();
    let handle = world.handle();
    handle.shutdown(5 * SECOND).unwrap();
    world.advance(4 * SECOND);
    world.send(client, b"still here");
    world.run();
    assert_eq!(world.received(server), b"still here");
    world.advance(SECOND);
    assert!(world.was_reset(client) && world.was_reset(server));
    assert!(world.has_stopped());
}

fn world(remote: Remote) -> (World<Relay>, SocketAddr) {
    let server: SocketAddr = SERVER.into();
    let (dial, sides) = (Dial::from(server), HashMap::new());
    let mut world = World::new(
        1,
        Relay {
            server: dial,
            sides,
        },
    );
    world.remote(server, remote);
    let addr = world.listen("127.0.0.1:3002");
    (world, addr)
}

fn joined() -> (World<Relay>, Client, Client) {
    let (mut world, addr) = world(Remote::Accepts);
    let client = world.connect(addr);
    world.run();
    let server = world.dialed(SERVER.into()).unwrap();
    (world, client, server)
}
