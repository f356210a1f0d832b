//! Handshakes by the thousand that are begun and not finished: what they cost, and that they
//! end.
//!
//! Alone in its file, because it replaces the allocator. The simulated kernel lives on the
//! same heap; what it holds is measured by the same storm on a plain listener, and taken off.
//!
//! ```text
//! cargo test --features tls --test tls_storm -- --nocapture
//! ```

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]
#![allow(unsafe_code, reason = "an allocator cannot be written without it")]

mod util {
    pub mod hooks;
    pub mod tls;
}

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use util::hooks::Hooks;
use util::tls::{Peer, VERSIONS, client_config, server_config};
use windlass::sim::World;
use windlass::{Config, Listen};

const STORM: usize = 5_000;

/// Bytes of heap that a handshake may cost that waits for its peer's second flight: state,
/// keys, the transcript. It was 9,700 when this was written.
const WAITING: isize = 12_000;

/// The same for one whose first flight has not come whole: it was 6,500, and 2,400 of a silent one.
const BEGUN: isize = 8_000;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counting what is alive, by thread.
struct Counting;

fn count(bytes: isize) {
    // A thread that ends may free and allocate after its cells are gone.
    let _ = LIVE.try_with(|n| n.set(n.get() + bytes));
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting allocates
// nothing, because the cell is constant-initialised and has no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the promises of `dealloc`.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn live() -> isize {
    LIVE.with(Cell::get)
}

fn world(tls: bool) -> (World<Hooks>, SocketAddr) {
    let mut config = Config::default();
    config.max_connections = Some(STORM + 10);
    let hooks = Hooks::echo().read(|conn, input| {
        let bytes = input.take_all();
        if conn.tls().is_some() {
            conn.write(bytes);
        }
        Ok(())
    });
    let mut world = World::with_config(1, hooks, config);
    world.set_trace(false);
    world.faults().descriptor_limit(2 * STORM as u64);
    let listen = Listen::new("127.0.0.1:443").unwrap();
    let listen = if tls {
        listen.tls(server_config())
    } else {
        listen
    };
    let addr = world.listen(listen.backlog(4096));
    (world, addr)
}

/// One ClientHello, that everybody sends: the server cannot know.
fn hello() -> Vec<u8> {
    let (mut world, addr) = world(false);
    let client = world.connect(addr);
    Peer::over(client, client_config(&VERSIONS)).wire()
}

/// That many clients send that much of it; answers the bytes of heap for each.
fn begin(world: &mut World<Hooks>, addr: SocketAddr, sent: &[u8]) -> isize {
    let before = live();
    for _ in 0..STORM {
        let client = world.connect(addr);
        world.send(client, sent);
        // Without the check that `run` makes of every connection.
        while world.turn(Duration::ZERO) {}
        // What came is the simulated client's.
        drop(world.received(client));
    }
    assert_eq!(world.stats().accepted as usize, STORM);
    (live() - before) / STORM as isize
}

#[test]
fn a_handshake_that_is_begun_costs_a_bounded_amount_and_ends() {
    let hello = hello();
    let cases = [
        ("waits", hello.len(), WAITING),
        ("begun", 100, BEGUN),
        ("silent", 0, BEGUN),
    ];
    for (what, sent, bound) in cases {
        let (mut plain, plain_addr) = world(false);
        let around = begin(&mut plain, plain_addr, &hello[..sent]);
        drop(plain);

        let (mut world, addr) = world(true);
        let start = world.now();
        let each = begin(&mut world, addr, &hello[..sent]) - around;
        println!("{STORM} handshakes, {what}: {each} bytes of heap each");
        assert!(each < bound, "{what}: {each} bytes each");
        assert!(world.stats().buffered < 1_000_000);
        assert_eq!(world.now(), start);
        world.run();

        world.advance(Duration::from_millis(9_999));
        assert_eq!(world.handler().ends.len(), 0);
        world.advance(Duration::from_millis(1));
        let ends = &world.handler().ends;
        assert_eq!(ends.len(), STORM);
        assert!(ends.iter().all(|it| it == "timed out: handshake"));
        let stats = world.stats();
        assert_eq!((stats.open, stats.buffered), (0, 0));
        assert_eq!(stats.handshakes_failed as usize, STORM);
        assert_eq!(world.open_descriptors(), 1);
    }
}

#[test]
fn an_established_connection_is_served_in_every_turn_of_a_storm() {
    let hello = hello();
    let (mut world, addr) = world(true);
    let mut peer = Peer::connect(&mut world, addr, client_config(&VERSIONS));
    let id = world.handler().last.unwrap();
    // What one turn takes of them, and many times that waits for it.
    for _ in 0..2_000 {
        let client = world.connect(addr);
        world.send(client, &hello);
    }
    let mut turns = 0;
    let mut busy = true;
    while busy {
        peer.say(b"x");
        let wire = peer.wire();
        world.send(peer.client(), &wire);
        let before = world.conn(id).unwrap().bytes_written();
        busy = world.turn(Duration::ZERO);
        assert_eq!(world.conn(id).unwrap().bytes_written(), before + 1);
        turns += 1;
        busy &= turns < 200;
    }
    assert!(turns > 100, "{turns} turns");
}
