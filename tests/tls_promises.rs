//! TLS: P1 to P8 hold for the plain bytes.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util {
    pub mod hooks;
    pub mod tls;
}

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use util::hooks::Hooks;
use util::tls::{Peer, VERSIONS, client_config, server_config};
use windlass::sim::{Call, World};
use windlass::{
    Closed, Config, Conn, ConnId, Context, Deadline, Flow, Handler, Input, Limits, Listen,
    ListenerId, Mux, PanicPolicy,
};

fn world(hooks: Hooks, change: impl FnOnce(&mut Config)) -> (World<Hooks>, SocketAddr) {
    let mut config = Config::default();
    change(&mut config);
    let mut world = World::with_config(1, hooks, config);
    let listen = Listen::new("127.0.0.1:443").unwrap().tls(server_config());
    let addr = world.listen(listen);
    (world, addr)
}

fn peer(world: &mut World<Hooks>, addr: SocketAddr) -> (Peer, ConnId) {
    let peer = Peer::connect(world, addr, client_config(&VERSIONS));
    (peer, world.handler().last.unwrap())
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

// Backpressure.

#[test]
fn a_peer_that_does_not_read_fills_the_output_and_is_not_read_from() {
    let (mut world, addr) = world(Hooks::echo(), |config| {
        config.limits.low = 10_000;
        config.limits.high = 100_000;
    });
    world.faults().buffers(5_000, 5_000);
    let (mut peer, id) = peer(&mut world, addr);
    world.stop_reading(peer.client());
    let sent = vec![b'x'; 2_000_000];
    peer.say(&sent);
    let wire = peer.wire();
    world.send(peer.client(), &wire);
    world.run();
    let conn = world.conn(id).unwrap();
    assert_eq!(conn.flow(), Flow::Full);
    let queued = conn.queued();
    assert!((100_000..400_000).contains(&queued), "{queued} queued");
    let (read, held) = (world.stats().bytes_read, world.stats().buffered);
    assert!(read < 500_000, "{read} bytes were read");
    assert!(held < 600_000, "{held} bytes are held");
    assert_eq!(world.handler().count("on_write"), 0);

    world.resume_reading(peer.client());
    peer.pump(&mut world);
    assert!(peer.plain() == sent);
    assert!(world.handler().count("on_write") > 0);
    assert_eq!(world.stats().buffered, 0);
}

#[test]
fn a_handler_that_does_not_stop_writing_is_aborted_at_the_limit() {
    let hooks = Hooks::echo().read(|conn, input| {
        input.take_all();
        let mut written = 0;
        while conn.write(&[b'x'; 1000]) != Flow::Closed {
            written += 1000;
            assert!(written <= 1_000_000);
        }
        assert!(written >= 999_000, "{written}");
        Ok(())
    });
    let (mut world, addr) = world(hooks, |config| config.limits.limit = 1_000_000);
    world.faults().buffers(1000, 1000);
    let (mut peer, _) = peer(&mut world, addr);
    world.stop_reading(peer.client());
    peer.write(&mut world, b"go");
    assert_eq!(world.handler().ends, ["output limit exceeded"]);
    assert_eq!(world.stats().buffered, 0);
}

#[test]
fn what_was_written_to_the_limit_exactly_arrives() {
    let hooks = Hooks::echo().read(|conn, input| {
        input.take_all();
        assert_eq!(conn.write(&[b'x'; 300_000]), Flow::Full);
        Ok(())
    });
    let (mut world, addr) = world(hooks, |config| {
        config.limits.high = 200_000;
        config.limits.limit = 300_000;
    });
    world.faults().buffers(1000, 1000);
    let (mut peer, _) = peer(&mut world, addr);
    peer.write(&mut world, b"go");
    assert_eq!(peer.plain(), [b'x'; 300_000]);
}

/// What the large answer to each request is.
static LARGE: [u8; 300_000] = [b'x'; 300_000];

fn answers_largely() -> Hooks {
    Hooks::echo().read(|conn, input| {
        input.take_all();
        assert_eq!(conn.write(&LARGE), Flow::Full);
        Ok(())
    })
}

#[test]
fn a_large_output_leaves_from_where_it_lies_and_the_handler_hears_that_there_is_room() {
    let (mut world, addr) = world(answers_largely(), |config| config.limits.high = 200_000);
    world.faults().buffers(1_000_000, 1_000_000);
    let (mut peer, id) = peer(&mut world, addr);
    for round in 1..=3 {
        let writes = world.stats().writes;
        peer.write(&mut world, b"go");
        assert_eq!(peer.plain(), LARGE);
        assert_eq!(world.handler().count("on_write"), round);
        // Not one record at a time, and not byte by byte.
        let writes = world.stats().writes - writes;
        assert!((2..=10).contains(&writes), "{writes}");
        let conn = world.conn(id).unwrap();
        assert_eq!((conn.queued(), conn.flow()), (0, Flow::Open));
    }
    assert_eq!(world.stats().bytes_written, 3 * LARGE.len() as u64);
    assert_eq!(world.stats().buffered, 0);
}

#[test]
fn a_large_output_that_leaves_in_parts_arrives_whole() {
    for (most, full) in [
        (None, 40_000),
        (Some(17_000), 1 << 20),
        (Some(999), 1 << 20),
    ] {
        let (mut world, addr) = world(answers_largely(), |config| config.limits.high = 200_000);
        world.faults().buffers(full, full).short_writes(most);
        let (mut peer, _) = peer(&mut world, addr);
        world.faults().fail(Call::Write, libc::EINTR, 3);
        world.stop_reading(peer.client());
        peer.say(b"go");
        let wire = peer.wire();
        world.send(peer.client(), &wire);
        world.run();
        world.faults().fail(Call::Write, libc::EAGAIN, 1);
        world.resume_reading(peer.client());
        peer.pump(&mut world);
        assert!(peer.plain() == LARGE, "{most:?} {full}");
        assert_eq!(world.stats().bytes_written, LARGE.len() as u64);
        assert_eq!(world.stats().buffered, 0);
    }
}

#[test]
fn an_error_in_the_middle_of_a_large_output_tells_what_has_not_left() {
    for full in [1000, 17_000, 70_000, 150_000] {
        let (mut world, addr) = world(answers_largely(), |config| config.limits.high = 200_000);
        world.faults().buffers(full / 2, full / 2);
        let (mut peer, _) = peer(&mut world, addr);
        let before = world.stats().bytes_written;
        world.stop_reading(peer.client());
        peer.say(b"go");
        let wire = peer.wire();
        world.send(peer.client(), &wire);
        world.run();
        world.faults().fail(Call::Write, libc::EPIPE, 1);
        world.resume_reading(peer.client());
        world.run();
        assert_eq!(world.faults().pending(), 0, "{full}");
        let (left, unsent) = world.handler().sent_and_not[0];
        assert_eq!(left + unsent, LARGE.len() as u64);
        assert!(left <= full as u64, "{left}");
        assert_eq!(world.stats().bytes_written - before, left);
        assert_eq!(world.stats().buffered, 0);
    }
}

#[test]
fn more_input_than_a_handler_may_leave_ends_the_connection() {
    let (mut world, addr) = world(Hooks::echo().read(|_, _| Ok(())), |config| {
        config.limits.input = 50_000;
    });
    let (mut peer, _) = peer(&mut world, addr);
    peer.write(&mut world, &[b'x'; 50_000]);
    assert_eq!(world.handler().ends, [""; 0]);
    peer.write(&mut world, b"x");
    assert!(peer.saw_close_notify());
    peer.close(&mut world);
    assert_eq!(world.handler().ends, ["input limit exceeded"]);
    assert_eq!(world.stats().buffered, 0);
}

#[test]
fn one_payload_for_many_connections_is_in_memory_once() {
    const CONNECTIONS: usize = 20;
    const PAYLOAD: usize = 1_000_000;
    let payload: Arc<[u8]> = Arc::from(vec![b'p'; PAYLOAD]);
    let (mut world, addr) = world(Hooks::echo(), |_| {});
    world.faults().buffers(10_000, 10_000);
    let mut peers = Vec::new();
    for _ in 0..CONNECTIONS {
        let (peer, id) = peer(&mut world, addr);
        world.stop_reading(peer.client());
        peers.push((peer, id));
    }
    for (_, id) in &peers {
        world.conn(*id).unwrap().write_shared(Arc::clone(&payload));
    }
    world.run();
    // Each refers to it, and has encrypted no more than some of it ahead.
    assert_eq!(Arc::strong_count(&payload), 1 + CONNECTIONS);
    let held = world.stats().buffered as usize;
    assert!(held < CONNECTIONS * (PAYLOAD + 2_000), "{held} bytes");
    for (peer, _) in &mut peers {
        world.resume_reading(peer.client());
        peer.pump(&mut world);
        assert_eq!(peer.plain().len(), PAYLOAD);
    }
    assert_eq!(Arc::strong_count(&payload), 1);
    assert_eq!(world.stats().buffered, 0);
}

// Pausing.

#[test]
fn nothing_is_read_while_paused_and_everything_afterwards() {
    for version in VERSIONS {
        let hooks = Hooks::echo().accept(|conn| {
            conn.pause();
            Ok(())
        });
        let (mut world, addr) = world(hooks, |_| {});
        let mut peer = Peer::connect(&mut world, addr, client_config(&[version]));
        assert_eq!(world.handler().count("on_handshake"), 1, "even if paused");
        peer.write(&mut world, b"wait");
        peer.write(&mut world, b" for it");
        assert_eq!(world.stats().bytes_read, 0);
        let id = world.handler().last.unwrap();
        world.conn(id).unwrap().resume();
        peer.pump(&mut world);
        assert_eq!(peer.plain(), b"wait for it");
    }
}

#[test]
fn what_comes_with_the_end_of_the_handshake_is_read_once_resumed() {
    for version in VERSIONS {
        let hooks = Hooks::echo().handshake(|conn| {
            conn.pause();
            Ok(())
        });
        let (mut world, addr) = world(hooks, |_| {});
        let client = world.connect(addr);
        let mut peer = Peer::over(client, client_config(&[version]));
        while peer.tls().is_handshaking() {
            let wire = peer.wire();
            world.send(client, &wire);
            world.run();
            let came = world.received(client);
            peer.take(&came);
        }
        peer.say(b"at once");
        peer.tls().send_close_notify();
        peer.pump(&mut world);
        world.finish(client);
        world.run();
        assert_eq!(world.handler().log, ["on_accept", "on_handshake"]);
        let id = world.handler().last.unwrap();
        world.conn(id).unwrap().resume();
        peer.pump(&mut world);
        assert_eq!(peer.plain(), b"at once");
        assert!(peer.saw_close_notify() && world.saw_eof(client));
        assert_eq!(world.handler().ends, ["end of stream"]);
    }
}

// Deadlines.

#[test]
fn a_handshake_that_takes_too_long_ends_whatever_trickles_in() {
    let (mut world, addr) = world(Hooks::echo(), |_| {});
    let client = world.connect(addr);
    let mut peer = Peer::over(client, client_config(&VERSIONS));
    let hello = peer.wire();
    for &byte in &hello[..99] {
        world.advance(Duration::from_millis(100));
        world.send(client, &[byte]);
    }
    world.advance(Duration::from_millis(99));
    assert_eq!(world.handler().ends, [""; 0]);
    world.advance(Duration::from_millis(1));
    assert_eq!(world.handler().ends, ["timed out: handshake"]);
    assert!(world.was_reset(client));
    assert_eq!(world.stats().handshakes_failed, 1);
}

#[test]
fn a_handshake_that_is_over_has_no_deadline() {
    let (mut world, addr) = world(Hooks::echo(), |_| {});
    let (mut peer, _) = peer(&mut world, addr);
    world.advance(secs(100));
    peer.write(&mut world, b"still here");
    assert_eq!(peer.plain(), b"still here");
}

#[test]
fn a_read_deadline_fires_whatever_the_layer_says() {
    let hooks = Hooks::echo().handshake(|conn| {
        let at = conn.now() + secs(3);
        conn.set_read_deadline(Some(at));
        Ok(())
    });
    let (mut world, addr) = world(hooks, |_| {});
    let (mut peer, _) = peer(&mut world, addr);
    world.advance(Duration::from_millis(2_999));
    assert_eq!(world.handler().count("read deadline"), 0);
    peer.tls().refresh_traffic_keys().unwrap();
    peer.pump(&mut world);
    world.advance(Duration::from_millis(1));
    assert_eq!(world.handler().count("read deadline"), 1);
    assert!(world.saw_eof(peer.client()));
    peer.pump(&mut world);
    assert!(peer.saw_close_notify());
}

#[test]
fn an_idle_connection_ends_in_order() {
    let (mut world, addr) = world(Hooks::echo(), |config| config.idle_timeout = secs(60));
    let (mut peer, _) = peer(&mut world, addr);
    for _ in 0..3 {
        world.advance(secs(59));
        peer.write(&mut world, b"x");
    }
    world.advance(secs(60));
    peer.pump(&mut world);
    assert!(peer.saw_close_notify() && world.saw_eof(peer.client()));
    peer.close(&mut world);
    assert_eq!(world.handler().ends, ["timed out: idle timeout"]);
}

#[test]
fn a_peer_that_stops_reading_for_too_long_has_stalled() {
    let hooks = Hooks::echo().read(|conn, input| {
        input.take_all();
        conn.write(&[b'x'; 500_000]);
        Ok(())
    });
    let (mut world, addr) = world(hooks, |config| config.write_stall_timeout = secs(5));
    world.faults().buffers(1000, 1000);
    let (mut peer, _) = peer(&mut world, addr);
    world.stop_reading(peer.client());
    peer.write(&mut world, b"go");
    for _ in 0..3 {
        world.advance(secs(4));
        assert!(world.read_some(peer.client(), 1000) > 0);
        world.run();
    }
    assert_eq!(world.handler().ends, [""; 0]);
    world.advance(secs(5));
    assert_eq!(world.handler().ends, ["timed out: write stall"]);
    assert_eq!(world.stats().buffered, 0);
}

#[test]
fn a_write_deadline_fires_while_output_waits() {
    let hooks = Hooks::echo().read(|conn, input| {
        input.take_all();
        conn.write(&[b'x'; 500_000]);
        let at = conn.now() + secs(2);
        conn.set_write_deadline(Some(at));
        Ok(())
    });
    let (mut world, addr) = world(hooks, |_| {});
    world.faults().buffers(1000, 1000);
    let (mut peer, _) = peer(&mut world, addr);
    world.stop_reading(peer.client());
    peer.write(&mut world, b"go");
    world.advance(secs(2));
    assert_eq!(world.handler().count("write deadline"), 1);
}

#[test]
fn a_close_that_the_peer_does_not_read_ends_at_the_linger_time() {
    let hooks = Hooks::echo().read(|conn, input| {
        input.take_all();
        conn.write(&[b'x'; 500_000]);
        conn.close();
        Ok(())
    });
    let (mut world, addr) = world(hooks, |config| config.linger = secs(7));
    world.faults().buffers(1000, 1000);
    let (mut peer, _) = peer(&mut world, addr);
    world.stop_reading(peer.client());
    peer.write(&mut world, b"go");
    world.advance(Duration::from_millis(6_999));
    assert_eq!(world.handler().ends, [""; 0]);
    world.advance(Duration::from_millis(1));
    let late = format!("timed out: {}", Deadline::Linger);
    assert_eq!(world.handler().ends, [late]);
    assert!(world.was_reset(peer.client()));
    assert_eq!(world.stats().buffered, 0);
}

// Order, and who may speak when.

#[test]
fn whoever_writes_during_the_handshake_is_delivered_in_order_after_it() {
    for version in VERSIONS {
        let hooks = Hooks::echo()
            .accept(|conn| {
                conn.write(b"1 ");
                Ok(())
            })
            .handshake(|conn| {
                conn.write(b"4 ");
                Ok(())
            });
        let (mut world, addr) = world(hooks, |_| {});
        let client = world.connect(addr);
        let mut peer = Peer::over(client, client_config(&[version]));
        world.run();
        let id = world.handler().last.unwrap();
        world.conn(id).unwrap().write(b"2 ");
        let hello = peer.wire();
        world.send(client, &hello[..50]);
        world.run();
        world.post(move |_, cx| {
            cx.conn(id).unwrap().write(b"3 ");
        });
        world.run();
        world.send(client, &hello[50..]);
        peer.pump(&mut world);
        assert_eq!(peer.plain(), b"1 2 3 4 ");
        let log = &world.handler().log;
        assert_eq!(*log, ["on_accept", "on_handshake"]);
    }
}

#[test]
fn wake_and_for_each_reach_connections_in_their_handshake() {
    let (mut world, addr) = world(Hooks::echo(), |_| {});
    let client = world.connect(addr);
    world.run();
    let (_, id) = (client, world.handler().last.unwrap());
    world.post(move |_, cx| {
        assert!(cx.wake(id));
        let mut seen = 0;
        cx.for_each(|conn| {
            seen += 1;
            conn.write(b"to all");
        });
        assert_eq!(seen, 1);
    });
    world.run();
    assert_eq!(world.handler().count("on_wake"), 1);
    let mut peer = Peer::over(client, client_config(&VERSIONS));
    peer.pump(&mut world);
    assert_eq!(peer.plain(), b"to all");
}

#[test]
fn half_a_close_says_so_and_reading_goes_on() {
    for version in VERSIONS {
        let hooks = Hooks::echo()
            .read(|conn, input| {
                if input.take_all() == b"half" {
                    conn.write(b"the end");
                    conn.shutdown_write();
                }
                Ok(())
            })
            .eof(|_, _| Ok(()));
        let (mut world, addr) = world(hooks, |_| {});
        let mut peer = Peer::connect(&mut world, addr, client_config(&[version]));
        peer.write(&mut world, b"half");
        assert_eq!(peer.plain(), b"the end");
        assert!(peer.saw_close_notify() && world.saw_eof(peer.client()));
        peer.write(&mut world, b"more of it");
        assert_eq!(world.stats().bytes_read, 14);
        peer.close(&mut world);
        assert_eq!(world.handler().ends, ["end of stream"]);
    }
}

#[test]
fn an_abort_is_a_reset_without_a_word() {
    let hooks = Hooks::echo().read(|conn, input| {
        input.take_all();
        conn.write(b"never seen");
        conn.abort();
        Ok(())
    });
    let (mut world, addr) = world(hooks, |_| {});
    let (mut peer, _) = peer(&mut world, addr);
    peer.write(&mut world, b"go");
    assert!(world.was_reset(peer.client()));
    assert!(!peer.saw_close_notify());
    assert_eq!(peer.plain(), b"");
}

#[test]
fn a_shutdown_ends_handshakes_and_connections_within_its_grace() {
    let (mut world, addr) = world(Hooks::echo(), |_| {});
    let (mut peer, _) = peer(&mut world, addr);
    let mut halves = Vec::new();
    for sent in [0, 1, 100] {
        let client = world.connect(addr);
        let mut half = Peer::over(client, client_config(&VERSIONS));
        let hello = half.wire();
        world.send(client, &hello[..sent]);
        halves.push(client);
    }
    world.run();
    world.handle().shutdown(secs(5)).unwrap();
    peer.pump(&mut world);
    assert!(peer.saw_close_notify());
    for &half in &halves {
        assert!(world.saw_eof(half) || world.was_reset(half));
    }
    assert_eq!(world.handler().count("on_shutdown"), 4);
    world.advance(secs(5));
    assert!(world.has_stopped());
    assert_eq!(world.open_descriptors(), 0);
    assert_eq!(world.handler().ends.len(), 4);
}

#[test]
fn a_panic_in_a_callback_costs_its_connection_alone() {
    let hooks = Hooks::echo()
        .handshake(|conn| {
            if conn.tls().unwrap().version() == Some(VERSIONS[1].version) {
                panic!("not this version");
            }
            Ok(())
        })
        .read(|conn, input| match input.take_all() {
            b"panic" => panic!("as asked"),
            bytes => {
                conn.write(bytes);
                Ok(())
            }
        });
    let (mut world, addr) = world(hooks, |config| config.panic_policy = PanicPolicy::Isolate);
    let (mut well, _) = peer(&mut world, addr);
    let old = Peer::connect(&mut world, addr, client_config(&VERSIONS[1..]));
    assert!(world.was_reset(old.client()));
    let (mut other, _) = peer(&mut world, addr);
    other.write(&mut world, b"panic");
    assert!(world.was_reset(other.client()));
    well.write(&mut world, b"alive");
    assert_eq!(well.plain(), b"alive");
    assert_eq!(world.stats().panics, 2);
    assert_eq!(world.stats().buffered, 0);
}

#[test]
fn an_error_of_on_handshake_closes_in_order() {
    let hooks = Hooks::echo().handshake(|_| Err(io::Error::other("no certificate, no service")));
    let (mut world, addr) = world(hooks, |_| {});
    let (mut peer, _) = peer(&mut world, addr);
    assert!(peer.saw_close_notify() && world.saw_eof(peer.client()));
    peer.close(&mut world);
    assert_eq!(
        world.handler().ends,
        ["handler: no certificate, no service"]
    );
}

#[test]
fn a_stale_id_reaches_nobody() {
    let (mut world, addr) = world(Hooks::echo(), |_| {});
    let (mut gone, old) = peer(&mut world, addr);
    gone.close(&mut world);
    let (mut new, _) = peer(&mut world, addr);
    assert!(world.conn(old).is_none());
    world.post(move |_, cx| assert!(cx.conn(old).is_none() && !cx.wake(old)));
    new.write(&mut world, b"x");
    assert_eq!(new.plain(), b"x");
}

#[test]
fn a_handshake_costs_others_no_turn() {
    // More of them at once than one turn takes.
    let (mut world, addr) = world(Hooks::echo(), |config| config.handshake_budget = 2);
    let (mut well, id) = peer(&mut world, addr);
    let mut others: Vec<Peer> = (0..40)
        .map(|_| Peer::over(world.connect(addr), client_config(&VERSIONS)))
        .collect();
    world.run();
    for other in &mut others {
        let hello = other.wire();
        world.send(other.client(), &hello);
    }
    let mut rounds = 0;
    let mut busy = true;
    while busy {
        well.say(b"x");
        let wire = well.wire();
        world.send(well.client(), &wire);
        let before = world.conn(id).unwrap().bytes_read();
        busy = world.turn(Duration::ZERO);
        assert_eq!(world.conn(id).unwrap().bytes_read(), before + 1);
        rounds += 1;
        assert!(rounds < 1000, "they never come to an end");
        busy &= world.stats().handshakes < 41;
    }
    assert!(rounds >= 20, "{rounds} turns for forty of them");
    for other in &mut others {
        other.pump(&mut world);
        other.write(&mut world, b"there");
        assert_eq!(other.plain(), b"there");
    }
}

#[test]
fn limits_of_one_connection_hold_from_before_its_handshake() {
    let hooks = Hooks::echo().accept(|conn| {
        let mut limits = Limits::default();
        limits.low = 10;
        limits.high = 20;
        limits.limit = 100;
        conn.set_limits(limits).unwrap();
        assert_eq!(conn.write(&[b'x'; 60]), Flow::Full);
        Ok(())
    });
    let (mut world, addr) = world(hooks, |_| {});
    let client = world.connect(addr);
    world.run();
    let id = world.handler().last.unwrap();
    assert_eq!(world.conn(id).unwrap().queued(), 60);
    let mut peer = Peer::over(client, client_config(&VERSIONS));
    peer.pump(&mut world);
    assert_eq!(peer.plain(), [b'x'; 60]);
    assert_eq!(world.handler().count("on_write"), 1);
    assert_eq!(world.stats().bytes_written, 60);
}

// Several handlers in one loop.

/// Answers with its name.
struct Named(&'static str);

impl Handler for Named {
    type Session = ();

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        Ok(())
    }

    fn on_handshake(&mut self, conn: &mut Conn<'_>, (): &mut ()) -> io::Result<()> {
        conn.write(self.0.as_bytes());
        conn.write(b" shook hands; ");
        Ok(())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        (): &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        conn.write(self.0.as_bytes());
        conn.write(b" read ");
        conn.write(input.take_all());
        Ok(())
    }

    fn on_close(&mut self, _: &mut Context<'_>, (): (), _: &Closed) {}
}

#[test]
fn parts_with_tls_and_plain_ones_live_in_one_loop() {
    let mut mux = Mux::new();
    let (secret, open) = (mux.add(Named("secret")), mux.add(Named("open")));
    let mut world = World::new(1, mux);
    let listen = Listen::new("127.0.0.1:443").unwrap().tls(server_config());
    world.try_listen_for(secret, listen).unwrap();
    world.try_listen_for(open, "127.0.0.1:80").unwrap();
    let secret = SocketAddr::from(([127, 0, 0, 1], 443));
    let mut peer = Peer::connect(&mut world, secret, client_config(&VERSIONS));
    peer.write(&mut world, b"this");
    assert_eq!(peer.plain(), b"secret shook hands; secret read this");
    let client = world.connect(SocketAddr::from(([127, 0, 0, 1], 80)));
    world.send(client, b"that");
    world.run();
    assert_eq!(world.received(client), b"open read that");
}
