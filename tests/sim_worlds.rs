//! The loop in simulated worlds: exact deadlines, counted calls, every way to stop
//! reading and to close, and random traffic with random faults.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use windlass::sim::{Call, Client, World};
use windlass::{
    Closed, Config, Conn, ConnId, Context, Deadline, Flow, Handler, Input, ListenerId, TimerId,
};

/// When, who, what.
type Log = Vec<(Instant, ConnId, String)>;
type Act = fn(&mut Conn<'_>, &mut Log);
type Take = fn(&mut Conn<'_>, &mut Input<'_>, &mut Log);
type Late = fn(&mut Conn<'_>, Deadline, &mut Log);

/// Does what the test puts in. At first it echoes, closes at the end of the stream, and
/// aborts whoever is late.
struct App {
    accept: Act,
    read: Take,
    eof: Take,
    write: Act,
    late: Late,
    log: Log,
    ids: Vec<ConnId>,
    ends: Vec<End>,
}

/// What `on_close` was told.
#[derive(PartialEq, Debug)]
struct End {
    reason: String,
    read: u64,
    written: u64,
    unread: u64,
    unsent: u64,
}

impl Default for App {
    fn default() -> Self {
        Self {
            accept: |_, _| {},
            read: |conn, input, _| {
                conn.write(input.take_all());
            },
            eof: |conn, _, _| conn.close(),
            write: |_, _| {},
            late: |conn, which, log| {
                log.push((conn.now(), conn.id(), format!("{which:?}")));
                conn.abort();
            },
            log: Vec::new(),
            ids: Vec::new(),
            ends: Vec::new(),
        }
    }
}

impl Handler for App {
    type Session = ();

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        self.ids.push(conn.id());
        (self.accept)(conn, &mut self.log);
        Ok(())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        _: &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        (self.read)(conn, input, &mut self.log);
        Ok(())
    }

    fn on_eof(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> io::Result<()> {
        (self.eof)(conn, input, &mut self.log);
        Ok(())
    }

    fn on_write(&mut self, conn: &mut Conn<'_>, _: &mut ()) -> io::Result<()> {
        (self.write)(conn, &mut self.log);
        Ok(())
    }

    fn on_timeout(&mut self, conn: &mut Conn<'_>, _: &mut (), which: Deadline) -> io::Result<()> {
        (self.late)(conn, which, &mut self.log);
        Ok(())
    }

    fn on_close(&mut self, _: &mut Context<'_>, (): (), closed: &Closed) {
        self.ends.push(End {
            reason: closed.reason.to_string(),
            read: closed.bytes_read,
            written: closed.bytes_written,
            unread: closed.unread,
            unsent: closed.unsent,
        });
    }
}

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The wheel's tick and the poll's: how late a deadline may fire.
const LATEST: Duration = ms(2);

fn world(app: App) -> (World<App>, SocketAddr) {
    world_with(app, |_| {})
}

fn world_with(app: App, change: impl FnOnce(&mut Config)) -> (World<App>, SocketAddr) {
    let mut config = Config::default();
    config.panic_policy = windlass::PanicPolicy::Propagate;
    change(&mut config);
    let mut world = World::with_config(1, app, config);
    let addr = world.listen("127.0.0.1:7");
    world.run();
    (world, addr)
}

/// A client that the loop has accepted.
fn client(world: &mut World<App>, addr: SocketAddr) -> Client {
    let client = world.connect(addr);
    world.run();
    client
}

/// Has the first connection do something, between its callbacks.
fn act(world: &mut World<App>, act: fn(&mut Conn<'_>)) {
    world.post(move |app, cx| act(&mut cx.conn(app.ids[0]).unwrap()));
    world.run();
}

fn said(world: &World<App>) -> Vec<&str> {
    let log = &world.handler().log;
    log.iter().map(|(_, _, what)| what.as_str()).collect()
}

fn reasons(world: &World<App>) -> Vec<&str> {
    let ends = &world.handler().ends;
    ends.iter().map(|end| end.reason.as_str()).collect()
}

// Deadlines.

#[test]
fn deadlines_fire_never_early_and_at_most_two_ticks_late() {
    let offsets = [
        1,
        999_999,
        1_000_000,
        1_000_001,
        1_234_567,
        63_999_999,
        64_000_001,
        4_095_999_999,
        4_096_000_000,
        3_600_000_000_001,
        86_400_123_456_789,
    ];
    for nanos in offsets {
        for kind in [Deadline::Read, Deadline::Idle] {
            let (mut world, addr) = world_with(App::default(), |config| {
                config.idle_timeout = Duration::MAX;
            });
            world.advance(Duration::from_nanos(777_777));
            client(&mut world, addr);
            let at = world.now() + Duration::from_nanos(nanos);
            let after = Duration::from_nanos(nanos);
            world.post(move |app, cx| {
                let mut conn = cx.conn(app.ids[0]).unwrap();
                match kind {
                    Deadline::Read => conn.set_read_deadline(Some(at)),
                    _ => conn.set_idle_timeout(Some(after)),
                }
            });
            world.advance(after + ms(5));
            let (fired, _, what) = &world.handler().log[0];
            let late = fired.checked_duration_since(at);
            let late = late.unwrap_or_else(|| panic!("{kind:?} of {nanos} ns fired early"));
            assert!(late <= LATEST, "{kind:?} of {nanos} ns was {late:?} late");
            assert_eq!(*what, format!("{kind:?}"));
        }
    }
}

#[test]
fn an_idle_timeout_counts_at_least_a_tick() {
    let app = App {
        late: |conn, _, log| log.push((conn.now(), conn.id(), String::new())),
        ..App::default()
    };
    let (mut world, addr) = world(app);
    client(&mut world, addr);
    act(&mut world, |conn| {
        conn.set_idle_timeout(Some(Duration::ZERO));
    });
    world.advance(ms(10));
    let fired = world.handler().log.len();
    assert!((5..=10).contains(&fired), "{fired} times in 10 ms");
}

#[test]
fn deadlines_of_the_same_time_fire_in_the_order_of_setting() {
    let (mut world, addr) = world(App::default());
    for _ in 0..50 {
        world.connect(addr);
    }
    world.run();
    let at = world.now() + secs(1);
    world.post(move |app, cx| {
        for &id in app.ids.iter().rev() {
            cx.conn(id).unwrap().set_read_deadline(Some(at));
        }
    });
    world.advance(secs(2));
    let log = &world.handler().log;
    let fired: Vec<_> = log.iter().map(|&(_, id, _)| id).collect();
    let mut ids = world.handler().ids.clone();
    ids.reverse();
    assert_eq!(fired, ids);
}

#[test]
fn a_deadline_that_is_moved_on_for_ever_never_fires_and_costs_few_wake_ups() {
    let app = App {
        read: |conn, input, _| {
            input.take_all();
            conn.set_read_deadline(Some(conn.now() + secs(10)));
        },
        ..App::default()
    };
    let (mut world, addr) = world(app);
    let client = client(&mut world, addr);
    world.clear_calls();
    for _ in 0..100 {
        world.send(client, b"alive");
        world.advance(secs(1));
    }
    assert!(said(&world).is_empty());
    let polls = world.calls(Call::Poll);
    // Two a second that the test itself causes, and the wheel's look every ten.
    assert!(polls <= 2 * 100 + 15, "{polls}");
    world.advance(secs(8));
    assert!(said(&world).is_empty());
    world.advance(secs(1) + LATEST);
    assert_eq!(said(&world), ["Read"]);
}

#[test]
fn a_deadline_can_be_moved_earlier_and_taken_back() {
    let (mut world, addr) = world(App::default());
    client(&mut world, addr);
    act(&mut world, |conn| {
        conn.set_read_deadline(Some(conn.now() + secs(100)));
    });
    act(&mut world, |conn| {
        conn.set_read_deadline(Some(conn.now() + ms(5)));
    });
    act(&mut world, |conn| conn.set_read_deadline(None));
    world.advance(secs(200));
    assert!(said(&world).is_empty());
    act(&mut world, |conn| {
        conn.set_read_deadline(Some(conn.now() + secs(50)));
    });
    act(&mut world, |conn| {
        conn.set_read_deadline(Some(conn.now() + ms(5)));
    });
    world.advance(ms(5) + LATEST);
    assert_eq!(said(&world), ["Read"]);
}

#[test]
fn a_deadline_in_the_past_fires_before_that_connections_next_read() {
    let app = App {
        read: |conn, input, log| {
            let text = String::from_utf8_lossy(input.take_all()).into_owned();
            log.push((conn.now(), conn.id(), text));
        },
        late: |conn, which, log| log.push((conn.now(), conn.id(), format!("{which:?}"))),
        ..App::default()
    };
    let (mut world, addr) = world(app);
    let client = client(&mut world, addr);
    world.advance(secs(1));
    world.post(|app, cx| {
        let past = cx.now() - ms(1);
        cx.conn(app.ids[0]).unwrap().set_read_deadline(Some(past));
    });
    // Posts run after reads, so these bytes are read in the same turn, before it was set.
    world.send(client, b"first");
    world.run();
    assert_eq!(said(&world), ["first", "Read"]);
    world.handler_mut().read = |conn, input, log| {
        input.take_all();
        conn.set_read_deadline(Some(conn.now()));
        conn.read_again();
        log.push((conn.now(), conn.id(), "read".to_owned()));
    };
    world.handler_mut().log.clear();
    world.faults().short_reads(Some(1));
    world.send(client, b"ab");
    world.run();
    assert_eq!(said(&world), ["read", "Read", "read", "Read"]);
    world.advance(secs(10));
    assert_eq!(said(&world).len(), 4, "once per setting");
}

#[test]
fn a_write_deadline_fires_only_while_output_waits() {
    let (mut world, addr) = world(App::default());
    world.faults().buffers(4, 4);
    let client = client(&mut world, addr);
    act(&mut world, |conn| {
        conn.set_write_deadline(Some(conn.now() + ms(50)));
    });
    world.advance(secs(1));
    assert!(said(&world).is_empty(), "nothing waits");
    world.stop_reading(client);
    world.handler_mut().late = |conn, which, log| {
        log.push((conn.now(), conn.id(), format!("{which:?}")));
    };
    act(&mut world, |conn| {
        conn.write(b"more than fits");
    });
    assert_eq!(said(&world), ["Write"], "the first write that waits");
    world.advance(secs(1));
    assert_eq!(said(&world).len(), 1);
    world.resume_reading(client);
    world.run();
    assert_eq!(world.received(client), b"more than fits");
}

#[test]
fn a_write_stall_counts_from_the_last_byte_that_the_kernel_took() {
    let (mut world, addr) = world(App::default());
    world.faults().buffers(8, 8);
    let client = client(&mut world, addr);
    world.stop_reading(client);
    act(&mut world, |conn| {
        conn.write(&[7; 100]);
    });
    for _ in 0..5 {
        world.advance(secs(29));
        assert!(said(&world).is_empty());
        assert_eq!(world.read_some(client, 1), 1);
        world.run();
    }
    let since = world.now();
    world.advance(secs(31));
    assert_eq!(said(&world), ["WriteStall"]);
    let late = world.handler().log[0].0 - (since + secs(30));
    assert!(late <= LATEST);
    assert_eq!(reasons(&world), ["closed by the handler"]);
    assert!(world.handler().ends[0].unsent > 0);
}

#[test]
fn ten_thousand_idle_connections_cost_one_wake_up_per_expiry() {
    const GROUPS: u64 = 100;
    let (mut world, addr) = world_with(App::default(), |config| {
        config.max_connections = Some(20_000);
    });
    world.faults().descriptor_limit(20_000);
    for _ in 0..GROUPS {
        for _ in 0..100 {
            world.connect(addr);
        }
        world.advance(ms(500));
    }
    assert_eq!(world.stats().open, 10_000);
    world.clear_calls();
    world.advance(secs(240));
    let polls = world.calls(Call::Poll);
    assert!(polls <= 10, "{polls} wake-ups of an idle loop");
    world.clear_calls();
    world.advance(secs(61));
    assert_eq!(world.stats().open, 0);
    let polls = world.calls(Call::Poll);
    assert!(
        polls <= 2 * GROUPS + 20,
        "{polls} wake-ups for {GROUPS} expiries"
    );
}

#[test]
fn whatever_the_handler_does_an_idle_client_is_gone_in_time() {
    let app = App {
        accept: |conn, _| conn.pause(),
        ..App::default()
    };
    let (mut world, addr) = world(app);
    let client = world.connect(addr);
    world.send(client, b"ignored");
    world.advance(secs(301));
    assert_eq!(said(&world), ["Idle"]);
    assert_eq!(world.stats().open, 0);
}

// Calls.

#[test]
fn an_echo_needs_one_read_and_one_write_per_request() {
    let (mut world, addr) = world(App::default());
    let client = client(&mut world, addr);
    world.clear_calls();
    for _ in 0..100 {
        world.send(client, b"ping");
        world.run();
        assert_eq!(world.received(client), b"ping");
    }
    assert_eq!(world.calls(Call::Read), 100);
    assert_eq!(world.calls(Call::Write), 100);
    for call in [Call::Register, Call::Rearm, Call::Accept, Call::Deregister] {
        assert_eq!(world.calls(call), 0, "{call:?}");
    }
    assert_eq!(world.stats().would_blocks, 0);
    assert!(
        world.calls(Call::Poll) <= 200,
        "one that brings it, one that finds nothing"
    );
}

#[test]
fn many_small_writes_of_a_callback_leave_in_one_call() {
    let app = App {
        read: |conn, input, _| {
            for byte in input.take_all() {
                conn.write(&[*byte]);
            }
        },
        ..App::default()
    };
    let (mut world, addr) = world(app);
    let client = client(&mut world, addr);
    world.clear_calls();
    world.send(client, &[1; 1000]);
    world.run();
    assert_eq!(world.received(client), [1; 1000]);
    assert_eq!(world.calls(Call::Write), 1);
}

#[test]
fn one_client_costs_one_accept_and_no_probe() {
    let (mut world, addr) = world(App::default());
    world.clear_calls();
    let client = client(&mut world, addr);
    let calls = [Call::Accept, Call::Register, Call::Rearm, Call::SetOption];
    assert_eq!(calls.map(|call| world.calls(call)), [1, 1, 1, 0]);
    world.send(client, b"x");
    world.run();
    assert_eq!(world.received(client), b"x");
}

#[test]
fn a_burst_grows_the_batch_where_listeners_can_be_rearmed() {
    let (mut world, addr) = world(App::default());
    world.clear_calls();
    let clients: Vec<_> = (0..64).map(|_| world.connect(addr)).collect();
    world.run();
    assert_eq!(world.stats().accepted, 64);
    // Batches of 1, 8 and one that ends with the empty queue.
    assert_eq!(world.calls(Call::Rearm), 2);
    assert_eq!(world.calls(Call::Accept), 65);
    for client in clients {
        world.send(client, b"x");
        world.run();
        assert_eq!(world.received(client), b"x");
    }
}

#[test]
fn a_burst_is_drained_where_listeners_cannot_be_rearmed() {
    let (mut world, addr) = world(App::default());
    world.faults().rearm(false);
    world.clear_calls();
    for _ in 0..64 {
        world.connect(addr);
    }
    world.run();
    assert_eq!(world.stats().accepted, 64);
    assert_eq!(world.calls(Call::Accept), 65, "until the queue is empty");
}

#[test]
fn a_full_event_buffer_forgets_nobody() {
    let (mut world, addr) = world(App::default());
    world.faults().events_per_poll(1);
    let clients: Vec<_> = (0..20).map(|_| world.connect(addr)).collect();
    for &client in &clients {
        world.send(client, b"x");
    }
    world.run();
    for client in clients {
        assert_eq!(world.received(client), b"x");
    }
}

#[test]
fn a_full_accept_queue_lets_everybody_in_in_the_end() {
    for rearm in [true, false] {
        let (mut world, addr) = world(App::default());
        let _ = addr;
        world.faults().rearm(rearm).backlog_limit(2);
        let addr = world.listen("127.0.0.1:8");
        let clients: Vec<_> = (0..50).map(|_| world.connect(addr)).collect();
        for &client in &clients {
            world.send(client, b"x");
        }
        world.run();
        for client in clients {
            assert_eq!(world.received(client), b"x");
        }
    }
}

#[test]
fn the_cap_is_kept_and_a_close_lets_the_next_client_in() {
    let (mut world, addr) = world_with(App::default(), |config| {
        config.max_connections = Some(2);
    });
    let clients: Vec<_> = (0..6).map(|_| world.connect(addr)).collect();
    world.run();
    assert_eq!(world.stats().open, 2);
    for (gone, next) in (0..4).zip(2..) {
        world.close(clients[gone]);
        world.send(clients[next], b"x");
        world.run();
        assert_eq!(world.stats().open, 2);
        assert_eq!(world.received(clients[next]), b"x");
    }
}

#[test]
fn a_listener_that_is_paused_serves_its_queue_when_it_resumes() {
    let mut world = World::new(1, App::default());
    let id = world.try_listen("127.0.0.1:7").unwrap();
    let addr = world.listener(id).unwrap().local_addr();
    let addr = addr.as_socket_addr().unwrap();
    world.listener(id).unwrap().pause();
    let clients: Vec<_> = (0..5).map(|_| world.connect(addr)).collect();
    world.run();
    assert_eq!(world.listener(id).unwrap().queue().unwrap().0, 5);
    world.listener(id).unwrap().resume();
    for client in clients {
        world.send(client, b"x");
        world.run();
        assert_eq!(world.received(client), b"x");
    }
}

// Stopping to read.

#[test]
fn whoever_pauses_is_given_everything_when_it_resumes() {
    let app = App {
        read: |conn, input, log| {
            let text = String::from_utf8_lossy(input.take_all()).into_owned();
            log.push((conn.now(), conn.id(), text));
            conn.pause();
        },
        ..App::default()
    };
    let (mut world, addr) = world_with(app, |config| config.read_buffer = 4);
    let client = client(&mut world, addr);
    world.send(client, b"0123456789");
    world.run();
    assert_eq!(said(&world), ["0123"]);
    act(&mut world, |conn| conn.resume());
    act(&mut world, |conn| conn.resume());
    act(&mut world, |conn| conn.resume());
    assert_eq!(said(&world), ["0123", "4567", "89"]);
}

#[test]
fn a_pause_from_the_start_forgets_neither_bytes_nor_end() {
    let app = App {
        accept: |conn, _| conn.pause(),
        ..App::default()
    };
    let (mut world, addr) = world(app);
    let client = world.connect(addr);
    world.send(client, b"early");
    world.finish(client);
    world.run();
    assert!(world.received(client).is_empty() && !world.saw_eof(client));
    act(&mut world, |conn| conn.resume());
    assert_eq!(world.received(client), b"early");
    assert!(world.saw_eof(client));
    assert_eq!(reasons(&world), ["end of stream"]);
}

#[test]
fn what_is_left_over_is_offered_when_asked_for_byte_by_byte() {
    for (buffer, budget, calls) in [(1, 1, 1), (3, 5, 2), (4096, 4096, 16)] {
        let app = App {
            read: |conn, input, _| {
                if let Some(byte) = input.take(1) {
                    conn.write(byte);
                }
                if !input.is_empty() {
                    conn.read_again();
                }
            },
            ..App::default()
        };
        let (mut world, addr) = world_with(app, |config| {
            config.read_buffer = buffer;
            config.read_budget = budget;
            config.read_calls = calls;
        });
        let client = client(&mut world, addr);
        let bytes: Vec<u8> = (0..200).collect();
        world.send(client, &bytes);
        world.run();
        assert_eq!(world.received(client), bytes, "{buffer} {budget} {calls}");
    }
}

#[test]
fn what_is_left_over_waits_for_a_resume() {
    let app = App {
        read: |conn, input, _| {
            if let Some(byte) = input.take(1) {
                conn.write(byte);
            }
            conn.pause();
        },
        ..App::default()
    };
    let (mut world, addr) = world(app);
    let client = client(&mut world, addr);
    world.send(client, b"abc");
    world.run();
    assert_eq!(world.received(client), b"a");
    act(&mut world, |conn| conn.resume());
    assert_eq!(world.received(client), b"b");
    act(&mut world, |conn| conn.resume());
    assert_eq!(world.received(client), b"c");
}

#[test]
fn the_end_of_the_stream_comes_with_what_is_left_over() {
    let app = App {
        read: |_, _, _| {},
        eof: |conn, input, _| {
            let rest = input.take_all();
            conn.write(rest);
            conn.close();
        },
        ..App::default()
    };
    let (mut world, addr) = world(app);
    let client = client(&mut world, addr);
    world.faults().short_reads(Some(2));
    world.send(client, b"no end of line");
    world.finish(client);
    world.run();
    assert_eq!(world.received(client), b"no end of line");
    assert_eq!(world.handler().ends[0].unread, 0);
}

/// Answers each byte with more than the high mark, and stops at `Full` as one should.
struct Generous {
    answered: usize,
    left_at_the_end: Option<usize>,
}

impl Handler for Generous {
    type Session = ();

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        Ok(())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        _: &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        while conn.flow() == Flow::Open && input.take(1).is_some() {
            self.answered += 1;
            // In pieces that are queued, so that the mark is passed before the flush.
            for _ in 0..30 {
                conn.write(&[b'x'; 10]);
            }
        }
        Ok(())
    }

    fn on_eof(&mut self, conn: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> io::Result<()> {
        self.left_at_the_end = Some(input.len());
        conn.close();
        Ok(())
    }
}

#[test]
fn what_waits_for_output_to_drain_is_offered_before_the_end_is_told() {
    let mut config = Config::default();
    (config.limits.low, config.limits.high) = (100, 200);
    let generous = Generous {
        answered: 0,
        left_at_the_end: None,
    };
    let mut world = World::with_config(1, generous, config);
    // The kernel takes each answer at once, so reading never really pauses.
    world.faults().buffers(1 << 20, 1 << 20);
    let addr = world.listen("127.0.0.1:7");
    let client = world.connect(addr);
    world.send(client, &[b'?'; 20]);
    world.finish(client);
    world.run();
    assert_eq!(world.handler().answered, 20);
    assert_eq!(world.handler().left_at_the_end, Some(0));
    assert_eq!(world.received(client).len(), 20 * 300);
}

#[test]
fn a_peer_that_does_not_read_is_not_read_from_until_it_does() {
    let (mut world, addr) = world_with(App::default(), |config| {
        config.limits.low = 10;
        config.limits.high = 40;
        config.read_buffer = 16;
    });
    world.faults().buffers(8, 8);
    let client = client(&mut world, addr);
    world.stop_reading(client);
    let bytes: Vec<u8> = (0..10_000).map(|n| n as u8).collect();
    world.send(client, &bytes);
    world.run();
    assert!(
        world.stats().bytes_read <= 16 + 40 + 16,
        "{:?}",
        world.stats()
    );
    assert!(world.stats().buffered <= 40 + 16);
    let mut received = Vec::new();
    while world.read_some(client, 3) > 0 {
        world.run();
        received.extend(world.received(client));
        assert!(world.stats().buffered <= 40 + 16);
    }
    assert_eq!(received, bytes);
}

#[test]
fn without_auto_pause_reading_goes_on_above_the_high_mark() {
    let app = App {
        accept: |conn, _| conn.set_auto_pause(false),
        ..App::default()
    };
    let (mut world, addr) = world_with(app, |config| {
        config.limits.low = 10;
        config.limits.high = 40;
    });
    world.faults().buffers(8, 8);
    let client = client(&mut world, addr);
    world.stop_reading(client);
    world.send(client, &[7; 1000]);
    world.run();
    assert_eq!(world.stats().bytes_read, 1000);
    world.resume_reading(client);
    world.run();
    assert_eq!(world.received(client), [7; 1000]);
}

#[test]
fn turning_auto_pause_off_resumes_at_once() {
    let (mut world, addr) = world_with(App::default(), |config| {
        config.limits.low = 10;
        config.limits.high = 40;
    });
    world.faults().buffers(8, 8);
    let client = client(&mut world, addr);
    world.stop_reading(client);
    world.send(client, &[7; 1000]);
    world.run();
    assert!(world.stats().bytes_read < 1000);
    act(&mut world, |conn| conn.set_auto_pause(false));
    assert_eq!(world.stats().bytes_read, 1000);
}

#[test]
fn on_write_comes_once_at_the_low_mark() {
    let app = App {
        write: |conn, log| log.push((conn.now(), conn.id(), conn.queued().to_string())),
        ..App::default()
    };
    let (mut world, addr) = world_with(app, |config| {
        config.limits.low = 10;
        config.limits.high = 40;
    });
    world.faults().buffers(4, 4);
    let client = client(&mut world, addr);
    world.stop_reading(client);
    act(&mut world, |conn| {
        assert_eq!(conn.write(&[1; 40]), Flow::Open);
        assert_eq!(conn.write(&[1; 20]), Flow::Full);
    });
    let mut left = 60 - 8;
    while left > 0 {
        assert_eq!(said(&world).len(), usize::from(left <= 10));
        world.read_some(client, 4);
        world.run();
        left -= 4;
    }
    assert_eq!(said(&world).len(), 1);
}

fn limit_output(conn: &mut Conn<'_>, low: usize, high: usize) {
    let mut limits = conn.limits();
    (limits.low, limits.high) = (low, high);
    conn.set_limits(limits).unwrap();
}

#[test]
fn other_marks_hold_for_what_is_queued() {
    let app = App {
        write: |conn, log| log.push((conn.now(), conn.id(), conn.queued().to_string())),
        ..App::default()
    };
    let (mut world, addr) = world_with(app, |_| {});
    world.faults().buffers(4, 4);
    let client = client(&mut world, addr);
    world.stop_reading(client);
    act(&mut world, |conn| {
        assert_eq!(conn.write(&[1; 60]), Flow::Open);
        // Above the new high mark: reading pauses.
        limit_output(conn, 10, 40);
        assert_eq!(conn.flow(), Flow::Full);
    });
    world.send(client, b"nobody reads that");
    world.run();
    assert_eq!(world.stats().bytes_read, 0);
    assert!(said(&world).is_empty());
    // Below the new low mark: there is room, without one byte taken.
    act(&mut world, |conn| {
        limit_output(conn, 60, 100);
        assert_eq!(conn.flow(), Flow::Open);
    });
    assert_eq!(said(&world).len(), 1);
    assert_eq!(world.stats().bytes_read, 17);
}

#[test]
fn on_write_does_not_come_once_the_high_mark_was_lowered_below_the_output() {
    let app = App {
        write: |conn, log| log.push((conn.now(), conn.id(), conn.queued().to_string())),
        read: |conn, input, _| {
            input.take_all();
            limit_output(conn, 0, 5);
        },
        ..App::default()
    };
    let (mut world, addr) = world_with(app, |config| {
        config.limits.low = 30;
        config.limits.high = 40;
    });
    world.faults().buffers(30, 30);
    let client = client(&mut world, addr);
    world.stop_reading(client);
    act(&mut world, |conn| {
        conn.set_auto_pause(false);
        assert_eq!(conn.write(&[1; 101]), Flow::Full);
    });
    // In one turn it drains to the old low mark, and the handler sets another high one.
    world.read_some(client, 30);
    world.send(client, b"x");
    world.run();
    let id = world.handler().ids[0];
    assert_eq!(world.conn(id).unwrap().queued(), 11);
    assert_eq!(world.conn(id).unwrap().flow(), Flow::Full);
    assert!(said(&world).is_empty(), "{:?}", said(&world));
    world.resume_reading(client);
    world.run();
    assert_eq!(said(&world), ["0"]);
}

#[test]
fn on_write_does_not_come_once_a_deadline_has_filled_the_output_again() {
    let app = App {
        write: |conn, log| log.push((conn.now(), conn.id(), conn.queued().to_string())),
        late: |conn, _, _| {
            conn.write(&[2; 100]);
        },
        ..App::default()
    };
    let (mut world, addr) = world_with(app, |config| {
        config.limits.low = 10;
        config.limits.high = 40;
    });
    world.faults().buffers(4, 4);
    let client = client(&mut world, addr);
    world.stop_reading(client);
    act(&mut world, |conn| {
        conn.write(&[1; 60]);
    });
    for _ in 0..10 {
        world.read_some(client, 4);
        world.run();
    }
    let id = world.handler().ids[0];
    // The next report drains it to the low mark; the deadline is told right before on_write.
    world.read_some(client, 4);
    world.turn(Duration::ZERO);
    let past = world.now();
    world.conn(id).unwrap().set_read_deadline(Some(past));
    world.run();
    assert_eq!(world.conn(id).unwrap().flow(), Flow::Full);
    assert!(said(&world).is_empty(), "{:?}", said(&world));
    world.resume_reading(client);
    world.run();
    assert_eq!(said(&world).len(), 1);
}

#[test]
fn memory_pressure_stops_reading_and_accepting_and_forgets_nobody() {
    let app = App {
        read: |conn, input, _| {
            if input.ends_with(b"\n") {
                conn.write(input.take_all());
            }
        },
        ..App::default()
    };
    let (mut world, addr) = world_with(app, |config| config.memory_limit = 100);
    let one = client(&mut world, addr);
    let two = client(&mut world, addr);
    world.send(one, &[b'1'; 101]);
    world.run();
    world.send(two, b"waits\n");
    let three = world.connect(addr);
    world.send(three, b"waits too\n");
    world.run();
    assert_eq!(world.stats().accepted, 2);
    assert!(world.received(two).is_empty());
    world.close(one);
    world.run();
    assert_eq!(world.stats().open, 2, "its end is not read either");
    world.reset(one);
    world.run();
    assert_eq!(world.received(two), b"waits\n");
    assert_eq!(world.received(three), b"waits too\n");
}

#[test]
fn leftovers_are_offered_under_memory_pressure_since_that_ends_it() {
    let app = App {
        read: |conn, input, _| {
            if let Some(bytes) = input.take(10) {
                conn.write(bytes);
            }
            if input.len() >= 10 {
                conn.read_again();
            }
        },
        ..App::default()
    };
    let (mut world, addr) = world_with(app, |config| config.memory_limit = 50);
    let one = client(&mut world, addr);
    let two = client(&mut world, addr);
    let bytes: Vec<u8> = (0..200).collect();
    world.send(one, &bytes);
    world.send(two, &bytes);
    world.run();
    assert_eq!(world.received(one), bytes);
    assert_eq!(world.received(two), bytes);
}

#[test]
fn a_resume_under_memory_pressure_offers_what_is_left_over() {
    let app = App {
        read: |conn, _, _| {
            conn.pause();
        },
        ..App::default()
    };
    let (mut world, addr) = world_with(app, |config| config.memory_limit = 50);
    let client = client(&mut world, addr);
    world.send(client, &[7; 60]);
    world.run();
    world.handler_mut().read = |conn, input, _| {
        conn.write(input.take_all());
    };
    act(&mut world, |conn| conn.resume());
    assert_eq!(world.received(client), [7; 60]);
}

// Closing.

/// Tiny buffers, and a client that does not read.
fn stuck(app: App, change: impl FnOnce(&mut Config)) -> (World<App>, Client) {
    let (mut world, addr) = world_with(app, change);
    world.faults().buffers(8, 8);
    let client = client(&mut world, addr);
    world.stop_reading(client);
    (world, client)
}

#[test]
fn what_was_written_before_close_arrives_while_the_peer_goes_on_sending() {
    let app = App {
        read: |conn, input, _| {
            input.take_all();
            conn.write(&[9; 500]);
            conn.close();
        },
        ..App::default()
    };
    let (mut world, client) = stuck(app, |_| {});
    world.send(client, b"request");
    world.run();
    world.send(client, &[1; 3000]);
    world.run();
    world.resume_reading(client);
    world.run();
    assert_eq!(world.received(client), [9; 500]);
    assert!(world.saw_eof(client) && !world.was_reset(client));
    assert_eq!(world.stats().open, 1, "it waits for the peer to finish");
    world.finish(client);
    world.run();
    assert_eq!(reasons(&world), ["closed by the handler"]);
    let end = &world.handler().ends[0];
    assert_eq!((end.read, end.unread, end.unsent), (7, 3000, 0));
}

#[test]
fn a_peer_that_does_not_take_the_rest_is_cut_off_when_the_linger_time_ends() {
    let (mut world, client) = stuck(App::default(), |_| {});
    act(&mut world, |conn| {
        conn.write(&[9; 500]);
        conn.close();
    });
    world.advance(ms(9_999));
    assert_eq!(world.stats().open, 1);
    world.advance(ms(1) + LATEST);
    assert_eq!(reasons(&world), ["timed out: linger time"]);
    assert_eq!(world.handler().ends[0].unsent, 500 - 16);
    assert!(world.was_reset(client));
}

#[test]
fn a_peer_that_never_finishes_is_left_when_the_linger_time_ends() {
    let (mut world, addr) = world(App::default());
    let client = client(&mut world, addr);
    act(&mut world, |conn| {
        conn.write(b"bye");
        conn.close();
    });
    assert_eq!(world.received(client), b"bye");
    assert!(world.saw_eof(client));
    world.advance(ms(9_999));
    assert_eq!(world.stats().open, 1);
    world.advance(ms(1) + LATEST);
    assert_eq!(world.stats().open, 0);
    assert!(!world.was_reset(client), "it had everything");
    world.shutdown(ms(1));
}

#[test]
fn a_peer_that_floods_a_closing_connection_is_reset_at_the_drain_limit() {
    let (mut world, client) = stuck(App::default(), |config| config.drain_limit = 100);
    act(&mut world, |conn| {
        conn.write(&[9; 500]);
        conn.close();
    });
    world.send(client, &[1; 100]);
    world.run();
    assert_eq!(world.stats().open, 1);
    world.send(client, &[1; 1]);
    world.run();
    assert_eq!(world.stats().open, 0);
    assert!(world.was_reset(client));
}

#[test]
fn a_connection_that_has_written_nothing_is_closed_in_one_call() {
    let (mut world, addr) = world(App::default());
    let client = client(&mut world, addr);
    world.clear_calls();
    act(&mut world, |conn| conn.close());
    assert!(world.saw_eof(client));
    assert_eq!(world.stats().open, 0);
    let calls = [Call::Shutdown, Call::Close, Call::Reset, Call::Read];
    assert_eq!(calls.map(|call| world.calls(call)), [0, 1, 0, 0]);
}

#[test]
fn a_conversation_that_the_peer_ended_is_closed_without_waiting() {
    let (mut world, addr) = world(App::default());
    let client = client(&mut world, addr);
    world.send(client, b"ping");
    world.finish(client);
    let before = world.now();
    world.run();
    assert_eq!(world.received(client), b"ping");
    assert!(world.saw_eof(client));
    assert_eq!((world.stats().open, world.now()), (0, before));
    assert_eq!(world.calls(Call::Shutdown), 0);
}

#[test]
fn an_abort_resets_and_drops_what_waits() {
    let (mut world, client) = stuck(App::default(), |_| {});
    world.clear_calls();
    act(&mut world, |conn| {
        conn.write(&[9; 500]);
        conn.abort();
    });
    assert!(world.was_reset(client));
    assert_eq!(world.calls(Call::Reset), 1);
    assert_eq!(world.handler().ends[0].unsent, 500);
    assert_eq!(reasons(&world), ["closed by the handler"]);
}

#[test]
fn half_a_close_leaves_reading_open_and_ends_with_the_peers() {
    let app = App {
        read: |conn, input, log| {
            let text = String::from_utf8_lossy(input.take_all()).into_owned();
            log.push((conn.now(), conn.id(), text));
        },
        eof: |_, _, _| {},
        ..App::default()
    };
    let (mut world, client) = stuck(app, |_| {});
    act(&mut world, |conn| {
        conn.write(&[9; 100]);
        conn.shutdown_write();
        assert_eq!(conn.write(b"too late"), Flow::Closed);
    });
    world.send(client, b"still");
    world.run();
    world.resume_reading(client);
    world.run();
    assert_eq!(world.received(client), [9; 100]);
    assert!(world.saw_eof(client));
    world.send(client, b"here");
    world.run();
    assert_eq!(said(&world), ["still", "here"]);
    world.finish(client);
    world.run();
    assert_eq!(reasons(&world), ["end of stream"]);
}

#[test]
fn after_the_peers_fin_the_rest_can_be_written_for_as_long_as_it_takes() {
    let app = App {
        eof: |_, _, _| {},
        ..App::default()
    };
    let (mut world, addr) = world(app);
    let client = client(&mut world, addr);
    world.finish(client);
    world.run();
    assert_eq!(world.stats().open, 1);
    for _ in 0..3 {
        act(&mut world, |conn| {
            conn.write(b"tick");
        });
        world.advance(secs(1));
    }
    assert_eq!(world.received(client), b"tickticktick");
    act(&mut world, |conn| conn.shutdown_write());
    assert!(world.saw_eof(client));
    assert_eq!(reasons(&world), ["end of stream"]);
}

#[test]
fn a_reset_ends_even_a_paused_connection() {
    let (mut world, addr) = world(App::default());
    let client = client(&mut world, addr);
    act(&mut world, |conn| conn.pause());
    world.send(client, b"unread");
    world.reset(client);
    world.run();
    assert_eq!(reasons(&world), ["connection reset by peer"]);
}

#[test]
fn a_reset_ends_even_a_connection_that_has_seen_the_end_of_the_stream() {
    let (mut world, addr) = world(App {
        eof: |_, _, _| {},
        ..App::default()
    });
    let first = client(&mut world, addr);
    world.finish(first);
    world.run();
    assert_eq!(world.stats().open, 1);
    world.reset(first);
    world.run();
    assert_eq!(reasons(&world), ["connection reset by peer"]);

    let both = client(&mut world, addr);
    world.finish(both);
    world.reset(both);
    world.run();
    assert_eq!(reasons(&world).len(), 2, "FIN and RST came together");
}

#[test]
fn a_reset_at_any_moment_ends_in_one_on_close_and_no_descriptor_left() {
    for moment in 0..12 {
        let app = App {
            eof: |conn, input, _| {
                conn.write(input.take_all());
                conn.close();
            },
            ..App::default()
        };
        let (mut world, addr) = world(app);
        world.faults().buffers(8, 8).latency(ms(1));
        let client = world.connect(addr);
        for step in 0..12 {
            if step == moment {
                world.reset(client);
            }
            match step {
                1 | 6 => world.advance(ms(1)),
                2 => world.stop_reading(client),
                3 => world.send(client, &[7; 100]),
                5 => world.resume_reading(client),
                7 => world.finish(client),
                9 => world.post(|app, cx| {
                    if let Some(mut conn) = cx.conn(app.ids[0]) {
                        conn.write(b"bye");
                        conn.close();
                    }
                }),
                _ => world.run(),
            }
        }
        world.run();
        assert_eq!(world.handler().ends.len(), world.handler().ids.len());
        world.shutdown(ms(10));
    }
}

#[test]
fn a_client_that_is_gone_before_it_was_accepted_is_nobodys_loss() {
    for abort in [true, false] {
        let (mut world, addr) = world(App::default());
        world.faults().abort_reset_accepts(abort);
        let gone = world.connect(addr);
        world.send(gone, b"x");
        world.reset(gone);
        let next = world.connect(addr);
        world.send(next, b"x");
        world.run();
        assert_eq!(world.received(next), b"x");
        assert_eq!(world.stats().lost, u64::from(abort));
        assert_eq!(world.stats().open, 1);
    }
}

#[test]
fn output_above_its_limit_resets_with_overflow() {
    let (mut world, client) = stuck(App::default(), |config| {
        config.limits.low = 10;
        config.limits.high = 20;
        config.limits.limit = 100;
    });
    act(&mut world, |conn| {
        assert_eq!(conn.write(&[1; 100]), Flow::Full);
        assert_eq!(conn.write(&[1; 1]), Flow::Closed);
    });
    assert_eq!(reasons(&world), ["output limit exceeded"]);
    assert!(world.was_reset(client));
}

#[test]
fn input_above_its_limit_closes_after_flushing() {
    let app = App {
        read: |conn, _, _| {
            conn.write(b"!");
        },
        ..App::default()
    };
    let (mut world, addr) = world_with(app, |config| config.limits.input = 100);
    let client = client(&mut world, addr);
    world.send(client, &[1; 100]);
    world.run();
    assert_eq!(world.stats().open, 1);
    world.send(client, &[1; 1]);
    world.run();
    world.finish(client);
    world.run();
    assert_eq!(world.received(client), b"!!");
    assert_eq!(reasons(&world), ["input limit exceeded"]);
    assert_eq!(world.handler().ends[0].unread, 101);
}

#[test]
fn a_graceful_stop_empties_the_queue_and_delivers_everything() {
    let (mut world, client) = stuck(App::default(), |_| {});
    world.send(client, &[5; 100]);
    world.run();
    let addr = world.addr(client);
    assert!(addr.port() > Some(0));
    let mut waiting = Vec::new();
    for _ in 0..40 {
        waiting.push(world.connect("127.0.0.1:7".parse().unwrap()));
    }
    world.post(|_, cx| cx.shutdown(secs(5)));
    world.run();
    assert!(!world.has_stopped());
    world.resume_reading(client);
    world.finish(client);
    world.run();
    assert_eq!(world.received(client).len(), 100);
    assert!(world.has_stopped());
    assert_eq!(world.open_descriptors(), 0);
    for client in waiting {
        assert!(world.saw_eof(client), "accepted, told, and closed in order");
    }
}

// Chance.

/// Echoes, as lazily and clumsily as the dice say, but everything in the end.
#[derive(Default)]
struct Clumsy {
    sessions: BTreeMap<ConnId, bool>,
    timers: BTreeMap<TimerId, ConnId>,
    resets: u64,
}

impl Clumsy {
    fn nap(&mut self, conn: &mut Conn<'_>) {
        let id = conn.id();
        conn.pause();
        let at = conn.now() + ms(conn.cx().random() % 5);
        let timer = conn.cx().set_timer(at);
        self.timers.insert(timer, id);
    }
}

impl Handler for Clumsy {
    type Session = u32;

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<u32> {
        assert_eq!(self.sessions.insert(conn.id(), true), None);
        if conn.cx().random() % 4 == 0 {
            self.nap(conn);
        }
        Ok(0)
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        _: &mut u32,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        let most = conn.cx().random() as usize % (input.len() + 1);
        let bytes = input.take(most).unwrap();
        for piece in bytes.chunks(1 + conn.cx().random() as usize % 32) {
            conn.write(piece);
        }
        match conn.cx().random() % 4 {
            0 => self.nap(conn),
            _ if !input.is_empty() => conn.read_again(),
            _ => {}
        }
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, timer: TimerId) {
        let id = self.timers.remove(&timer).unwrap();
        if let Some(mut conn) = cx.conn(id) {
            conn.resume();
        }
    }

    fn on_eof(
        &mut self,
        conn: &mut Conn<'_>,
        told: &mut u32,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        *told += 1;
        conn.write(input.take_all());
        conn.close();
        Ok(())
    }

    fn on_close(&mut self, _: &mut Context<'_>, told: u32, closed: &Closed) {
        assert_eq!(
            self.sessions.insert(closed.id, false),
            Some(true),
            "one on_close"
        );
        assert!(told <= 1, "one on_eof");
        if closed.reason.to_string() == "connection reset by peer" {
            self.resets += 1;
        } else {
            assert_eq!((closed.unread, closed.unsent), (0, 0), "{}", closed.reason);
        }
    }
}

struct Traffic {
    client: Client,
    sent: Vec<u8>,
    received: Vec<u8>,
    reset: bool,
}

/// SplitMix64, so that what the clients do follows from the seed as well.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 16) as usize % sides
    }
}

fn random_config(dice: &mut Dice) -> Config {
    let mut config = Config::default();
    config.panic_policy = windlass::PanicPolicy::Propagate;
    config.read_buffer = 1 + dice.roll(64);
    config.read_budget = 1 + dice.roll(64);
    config.read_calls = 1 + dice.roll(4) as u32;
    config.accept_budget = 1 + dice.roll(3) as u32;
    config.limits.low = dice.roll(20);
    config.limits.high = config.limits.low + dice.roll(40);
    if dice.roll(3) == 0 {
        config.memory_limit = 16 + dice.roll(200);
    }
    if dice.roll(4) == 0 {
        config.max_connections = Some(1 + dice.roll(4));
    }
    config
}

fn random_fault(world: &mut World<Clumsy>, dice: &mut Dice) {
    const CALLS: [Call; 4] = [Call::Accept, Call::Read, Call::Write, Call::Poll];
    let some = dice.roll(12);
    let interrupted = CALLS[dice.roll(4)];
    let blocked = CALLS[dice.roll(3)];
    let exhausted = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS][dice.roll(3)];
    let faults = world.faults();
    match dice.roll(11) {
        0 => faults.short_reads((some > 3).then_some(some)),
        1 => faults.short_writes((some > 3).then_some(some)),
        2 => faults.fail(interrupted, libc::EINTR, some),
        3 => faults.fail(blocked, libc::EAGAIN, some % 3),
        4 => faults.fail(Call::Accept, exhausted, some % 4),
        5 => faults.fail(Call::Accept, libc::ECONNABORTED, some % 4),
        6 | 7 => faults.spurious(),
        8 => faults.latency(ms(some as u64 % 3)),
        9 => faults.descriptor_limit(if some < 4 { 2 + some as u64 } else { 1024 }),
        _ => faults.events_per_poll(1 + some * some),
    };
}

fn random_act(world: &mut World<Clumsy>, traffic: &mut Traffic, dice: &mut Dice) {
    let client = traffic.client;
    match dice.roll(10) {
        0..=4 => {
            let n = dice.roll(200);
            let bytes: Vec<u8> = (0..n).map(|_| dice.roll(256) as u8).collect();
            world.send(client, &bytes);
            traffic.sent.extend(bytes);
        }
        5 => world.stop_reading(client),
        6 => world.resume_reading(client),
        7 => drop(world.read_some(client, dice.roll(20))),
        8 if dice.roll(20) == 0 => {
            world.reset(client);
            traffic.reset = true;
        }
        _ => {}
    }
    traffic.received.extend(world.received(client));
}

/// Everybody's bytes arrive, in order and once; everybody is closed once.
fn random_world(seed: u64) -> World<Clumsy> {
    let mut dice = Dice(seed);
    let mut world = World::with_config(seed, Clumsy::default(), random_config(&mut dice));
    world
        .faults()
        .buffers(1 + dice.roll(40), 1 + dice.roll(40))
        .rearm(dice.roll(3) > 0)
        .reuse_descriptors(dice.roll(2) == 0);
    let addr = world.listen("127.0.0.1:7");
    let mut all: Vec<Traffic> = Vec::new();
    for _ in 0..60 {
        match dice.roll(12) {
            0..=1 if all.len() < 6 => all.push(Traffic {
                client: world.connect(addr),
                sent: Vec::new(),
                received: Vec::new(),
                reset: false,
            }),
            2..=3 => random_fault(&mut world, &mut dice),
            4 => world.run(),
            5 => world.advance(Duration::from_micros(dice.roll(20_000) as u64)),
            _ if !all.is_empty() => {
                let at = dice.roll(all.len());
                random_act(&mut world, &mut all[at], &mut dice);
            }
            _ => {}
        }
    }
    world
        .faults()
        .clear()
        .descriptor_limit(1024)
        .short_reads(None)
        .short_writes(None);
    for traffic in &all {
        world.resume_reading(traffic.client);
        world.finish(traffic.client);
    }
    // Long enough for the worst: pieces, buffers and a cap of one, and many naps.
    world.advance(secs(20));
    for (at, traffic) in all.iter_mut().enumerate() {
        traffic.received.extend(world.received(traffic.client));
        if traffic.reset {
            assert!(traffic.sent.starts_with(&traffic.received), "client {at}");
        } else {
            assert_eq!(traffic.received.len(), traffic.sent.len(), "client {at}");
            assert_eq!(traffic.received, traffic.sent, "client {at}");
            assert!(world.saw_eof(traffic.client), "client {at}");
        }
    }
    assert_eq!(world.stats().open, 0);
    assert_eq!(world.stats().buffered, 0);
    world.shutdown(secs(1));
    assert!(world.handler().sessions.values().all(|open| !open));
    let resets = all.iter().filter(|traffic| traffic.reset).count() as u64;
    assert!(world.handler().resets <= resets);
    world
}

#[test]
fn random_traffic_with_random_faults_arrives_whole() {
    for seed in 0..400 {
        random_world(seed);
    }
}

#[test]
fn a_world_follows_from_its_seed() {
    for seed in [3, 77, 1234] {
        assert_eq!(random_world(seed).trace(), random_world(seed).trace());
    }
}
