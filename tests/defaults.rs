//! A handler that has no callback of its own is a handler: each default does what its
//! documentation says, and the loop lives on.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::io::{self, Write, pipe};
use std::net::SocketAddr;
use std::time::Duration;

use windlass::sim::{Call, Remote, World};
use windlass::{Bind, Conn, Handler, Interest, ListenerId, Reactor};

const HERE: &str = "127.0.0.1:7";
const MS: Duration = Duration::from_millis(1);

/// Nothing but defaults.
struct Nothing;

impl Handler for Nothing {
    type Session = ();
}

/// Lets clients in, and nothing else.
struct Door;

impl Handler for Door {
    type Session = ();

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn whoever_cannot_accept_refuses() {
    let mut world = World::new(1, Nothing);
    let addr = world.listen(HERE);
    let clients = [world.connect(addr), world.connect(addr)];
    world.run();
    assert!(clients.iter().all(|&client| world.saw_eof(client)));
    assert_eq!((world.stats().accepted, world.stats().refused), (0, 2));
}

#[test]
fn whoever_cannot_connect_hangs_up() {
    let mut world = World::new(1, Nothing);
    let alive = SocketAddr::from(([192, 0, 2, 1], 80));
    world.remote(alive, Remote::Accepts);
    world.dial("192.0.2.1:80").unwrap();
    world.run();
    let far_end = world.dialed(alive).unwrap();
    assert!(world.saw_eof(far_end));
    world.dial("192.0.2.2:80").unwrap(); // where nobody is
    world.run();
    assert_eq!(world.stats().dial_errors, 1);
    world.shutdown(MS);
}

#[test]
fn a_wake_up_that_nobody_cares_about_changes_nothing() {
    let mut world = World::new(1, Door);
    let addr = world.listen(HERE);
    let client = world.connect(addr);
    world.run();
    world.post(|_, cx| {
        let mut ids = Vec::new();
        cx.for_each(|conn| ids.push(conn.id()));
        assert!(ids.into_iter().all(|id| cx.wake(id)));
        let now = cx.now();
        cx.set_timer(now);
    });
    world.run();
    assert!(!world.saw_eof(client));
    assert_eq!(world.stats().open, 1);
}

#[test]
fn what_a_socket_has_to_say_is_forgotten() {
    let mut world = World::new(1, Nothing);
    let addr = world.bind("udp://127.0.0.1:7");
    let client = world.packet_client(SocketAddr::from(([10, 0, 0, 9], 5000)));
    world.send_datagram(client, &addr, b"hello");
    world.run();
    assert_eq!(world.stats().datagrams_received, 1);

    world.faults().fail(Call::Receive, libc::EHOSTUNREACH, 1);
    world.send_datagram(client, &addr, b"once more");
    world.run();
    assert_eq!(world.stats().datagrams_received, 2);
    world.shutdown(MS);
}

#[test]
fn a_socket_that_is_late_or_full_is_as_usable_as_before() {
    let mut world = World::new(1, Nothing);
    let bind = Bind::new("udp://127.0.0.1:7").unwrap().queue_limit(100);
    let id = world.try_bind(bind).unwrap();
    world.run();
    let client = world.packet_client(SocketAddr::from(([10, 0, 0, 9], 5000)));
    world.faults().send_buffers_full(true);
    let to = world.packet_addr(client);
    let mut socket = world.socket(id).unwrap();
    let at = socket.now() + MS;
    socket.set_deadline(Some(at));
    socket.send_to(b"one", to.clone());
    socket.send_to(b"two", to.clone());
    world.advance(MS * 2);
    world.faults().send_buffers_full(false);
    world.run();
    world.socket(id).unwrap().send_to(b"three", to);
    world.run();
    let received = world.received_datagrams(client);
    assert_eq!(received.last().unwrap().1, b"three");
    world.shutdown(MS);
}

#[test]
fn a_watch_that_nobody_answers_is_told_again() {
    let (reader, mut writer) = pipe().unwrap();
    let mut reactor = Reactor::new(Nothing).unwrap();
    let watch = reactor.watch(reader, Interest::Read).unwrap();
    writer.write_all(b"x").unwrap();
    for _ in 0..3 {
        let _ = reactor.turn(Some(Duration::from_secs(15))).unwrap();
    }
    assert!(reactor.unwatch(watch).is_some());
}
