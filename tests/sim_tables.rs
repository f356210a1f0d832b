//! Every row of the tables in `src/fd.rs`, on a real loop in a simulated world: what an
//! errno of accept, read or write does to the one it concerns, and that it does nothing
//! to anybody else.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use windlass::sim::{Call, Client, World};
use windlass::{
    CloseReason, Closed, Config, Conn, ConnId, Context, Error, Handler, Input, Listen, ListenerId,
    Op, Overload, Recovery,
};

/// Echoes, and keeps what it is told besides.
#[derive(Default)]
struct Echo {
    open: Vec<ConnId>,
    closed: Vec<String>,
    accept_errors: Vec<(ListenerId, i32, Recovery)>,
}

impl Handler for Echo {
    type Session = ();

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        self.open.push(conn.id());
        Ok(())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        _: &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        conn.write(input.take_all());
        Ok(())
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: (), closed: &Closed) {
        self.open.retain(|&id| id != closed.id);
        let reason = match &closed.reason {
            CloseReason::Io(error) => format!("{:?} {:?}", error.op(), error.raw_os_error()),
            other => format!("{other:?}"),
        };
        self.closed.push(reason);
    }

    fn on_accept_error(&mut self, _: &mut Context<'_>, listener: ListenerId, error: &Error) {
        assert_eq!(error.op(), Op::Accept);
        let errno = error.raw_os_error().unwrap();
        self.accept_errors.push((listener, errno, error.recovery()));
    }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn world() -> (World<Echo>, SocketAddr) {
    let mut world = World::new(1, Echo::default());
    let addr = world.listen("127.0.0.1:7");
    (world, addr)
}

fn world_with(change: impl FnOnce(&mut Config)) -> (World<Echo>, SocketAddr) {
    let mut config = Config::default();
    change(&mut config);
    let mut world = World::with_config(1, Echo::default(), config);
    let addr = world.listen("127.0.0.1:7");
    (world, addr)
}

#[track_caller]
fn assert_served(world: &mut World<Echo>, client: Client) {
    world.received(client);
    world.send(client, b"are you there?");
    world.run();
    assert_eq!(world.received(client), b"are you there?");
}

fn connect_all(world: &mut World<Echo>, addr: SocketAddr, n: usize) -> Vec<Client> {
    (0..n).map(|_| world.connect(addr)).collect()
}

// accept

/// What Linux hands to accept for the one connection that it was about to return, and
/// EINTR.
const ONE_CLIENT: &[i32] = &[
    libc::ECONNABORTED,
    libc::ECONNRESET,
    libc::EPROTO,
    libc::EPERM,
    libc::ETIMEDOUT,
    libc::EPIPE,
    libc::ENETDOWN,
    libc::ENETUNREACH,
    libc::EHOSTDOWN,
    libc::EHOSTUNREACH,
    #[cfg(target_os = "linux")]
    libc::ENONET,
    libc::ENOPROTOOPT,
    libc::EOPNOTSUPP,
    libc::EPROTONOSUPPORT,
    libc::ESOCKTNOSUPPORT,
    libc::EINTR,
];
const EXHAUSTION: &[i32] = &[
    libc::EMFILE,
    libc::ENFILE,
    libc::ENOBUFS,
    libc::ENOMEM,
    #[cfg(target_os = "linux")]
    libc::ENOSR,
];
const FATAL: [i32; 3] = [libc::EBADF, libc::EINVAL, libc::ENOTSOCK];

#[test]
fn an_errno_of_one_client_never_ends_a_listener() {
    for &errno in ONE_CLIENT {
        let (mut world, addr) = world();
        world.run();
        let clients = connect_all(&mut world, addr, 3);
        world.faults().fail(Call::Accept, errno, 2);
        world.run();
        for client in clients {
            assert_served(&mut world, client);
        }
        let late = world.connect(addr);
        assert_served(&mut world, late);
        assert!(world.handler().accept_errors.is_empty(), "errno {errno}");
        let lost = if errno == libc::EINTR { 0 } else { 2 };
        assert_eq!(world.stats().lost, lost, "errno {errno}");
        assert_eq!(world.stats().backoffs, 0);
    }
}

#[test]
fn clients_from_before_the_options_were_set_do_not_cost_those_that_follow() {
    let (mut world, addr) = world();
    world.faults().inherit_options(false);
    world.clear_calls();
    let old = connect_all(&mut world, addr, 3);
    world.run();
    world.faults().inherit_options(true);
    let new = connect_all(&mut world, addr, 13);
    world.run();
    for client in old.into_iter().chain(new) {
        assert_served(&mut world, client);
    }
    // The fourth client is looked at, and has them.
    assert_eq!(world.calls(Call::SetOption), 3);
}

#[test]
fn an_errno_storm_costs_its_budget_per_turn_and_no_client() {
    for rearm in [true, false] {
        let (mut world, addr) = world();
        world.run();
        let client = world.connect(addr);
        world
            .faults()
            .rearm(rearm)
            .fail(Call::Accept, libc::ECONNABORTED, 1000);
        world.clear_calls();
        world.advance(ms(1000));
        assert_served(&mut world, client);
        assert_eq!(world.stats().lost, 1000);
        assert!(
            world.calls(Call::Accept) <= 1003,
            "each failure is one call"
        );
        assert!(
            world.calls(Call::Poll) >= 1000 / 64,
            "a storm does not hold the loop for longer than its budget"
        );
    }
}

/// A filter of system calls, say, refuses accept itself: no client leaves the queue, and
/// the kernel reports it again and again.
#[test]
fn a_refusal_without_end_does_not_spin_and_ends_with_its_cause() {
    for overload in [Overload::Wait, Overload::Shed] {
        for rearm in [true, false] {
            let (mut world, addr) = world_with(|config| config.overload = overload);
            world.faults().rearm(rearm);
            world.run();
            let client = world.connect(addr);
            world.faults().fail(Call::Accept, libc::EPERM, 1_000_000);
            world.clear_calls();
            world.advance(ms(1000));
            let calls = world.calls(Call::Accept);
            assert!(calls < 64 * 50, "{calls} calls in a second");
            world.faults().clear();
            world.advance(ms(40));
            assert_served(&mut world, client);
        }
    }
}

#[test]
fn a_refusal_without_end_does_not_spin_at_a_cap_that_sheds() {
    // The simulated host allows 1,024 descriptors; one is the spare, so one client fits.
    let (mut world, addr) = world_with(|config| {
        config.overload = Overload::Shed;
        config.reserved_descriptors = 1022;
    });
    let open = world.connect(addr);
    assert_served(&mut world, open);
    let waiting = world.connect(addr);
    world.faults().fail(Call::Accept, libc::EPERM, 1_000_000);
    world.clear_calls();
    world.advance(ms(1000));
    let calls = world.calls(Call::Accept);
    assert!(calls < 64 * 50, "{calls} calls in a second");
    world.faults().clear();
    world.advance(ms(40));
    assert!(world.saw_eof(waiting) || world.was_reset(waiting));
    assert_served(&mut world, open);
}

#[test]
fn a_closing_listener_cannot_be_paused_into_staying() {
    let mut world = World::new(1, Echo::default());
    let id = world.try_listen("127.0.0.1:7").unwrap();
    let addr = ([127, 0, 0, 1], 7).into();
    world.run();
    let waiting = world.connect(addr);
    let mut listener = world.listener(id).unwrap();
    listener.close();
    listener.pause();
    world.run();
    assert_served(&mut world, waiting);
    assert!(world.listener(id).is_none());
}

#[test]
fn an_empty_queue_is_left_alone_until_the_kernel_reports() {
    let (mut world, addr) = world();
    world.run();
    world.clear_calls();
    world.faults().spurious();
    world.run();
    assert_eq!(world.calls(Call::Accept), 1, "EAGAIN once");
    world.advance(ms(1000));
    assert_eq!(world.calls(Call::Accept), 1);
    let client = world.connect(addr);
    assert_served(&mut world, client);
}

#[test]
fn an_eagain_with_clients_in_the_queue_is_made_good_by_the_next_report() {
    let (mut world, addr) = world();
    let client = world.connect(addr);
    world.faults().fail(Call::Accept, libc::EAGAIN, 5);
    world.run();
    assert_served(&mut world, client);
}

#[test]
fn exhaustion_with_clients_waiting_backs_off_from_10_to_40_ms() {
    for &errno in EXHAUSTION {
        let (mut world, addr) = world();
        world.run();
        let client = world.connect(addr);
        world.faults().fail(Call::Accept, errno, 6);
        world.clear_calls();
        world.run();
        let mut at = Vec::new();
        for now in 0..=300 {
            if world.calls(Call::Accept) > at.len() as u64 {
                at.push(now);
            }
            world.advance(ms(1));
        }
        // At 0, then after 10, 20 and then always 40 ms; the sixth failure is the last.
        assert_eq!(at[..6], [0, 10, 30, 70, 110, 150], "errno {errno}");
        assert_eq!(at[6], 190, "errno {errno}");
        assert_served(&mut world, client);
        let listener = world.handler().accept_errors[0].0;
        assert_eq!(
            world.handler().accept_errors,
            [(listener, errno, Recovery::BackOff)],
            "once per episode"
        );
        assert_eq!(world.stats().backoffs, 1);
    }
}

#[test]
fn a_second_episode_begins_anew_with_10_ms_and_one_report() {
    let (mut world, addr) = world();
    for episode in 1..=3 {
        world.faults().fail(Call::Accept, libc::EMFILE, 3);
        let client = world.connect(addr);
        world.clear_calls();
        world.run();
        assert_eq!(world.calls(Call::Accept), 1);
        world.advance(ms(9));
        assert_eq!(world.calls(Call::Accept), 1);
        world.advance(ms(1));
        assert_eq!(world.calls(Call::Accept), 2, "episode {episode}");
        world.advance(ms(60));
        assert_served(&mut world, client);
        assert_eq!(world.handler().accept_errors.len(), episode);
    }
}

#[test]
fn an_episode_that_ends_with_an_empty_queue_is_over_too() {
    let (mut world, addr) = world();
    world.run();
    for episode in 1..=2 {
        world
            .faults()
            .fail(Call::Accept, libc::ENFILE, 4)
            .spurious();
        world.run();
        world.advance(ms(1000));
        assert_eq!(world.handler().accept_errors.len(), episode);
        world
            .faults()
            .fail(Call::Accept, libc::ENFILE, 1)
            .spurious();
        world.clear_calls();
        world.run();
        world.advance(ms(11));
        assert_eq!(
            world.calls(Call::Accept),
            2,
            "the first wait is 10 ms again"
        );
        world.advance(ms(1000));
        world.handler_mut().accept_errors.truncate(episode);
    }
    let client = world.connect(addr);
    assert_served(&mut world, client);
}

#[test]
fn exhaustion_with_an_empty_queue_neither_spins_nor_tries_again_for_ever() {
    let (mut world, addr) = world();
    world.run();
    // The limit is reached while nobody waits: Linux answers EMFILE all the same.
    let open = world.open_descriptors() as u64;
    world.faults().descriptor_limit(open).spurious();
    world.clear_calls();
    world.run();
    assert_eq!(world.calls(Call::Accept), 1);
    world.advance(ms(1000));
    let tries = world.calls(Call::Accept);
    assert!((25..=28).contains(&tries), "one per 40 ms, not {tries}");
    assert!(world.calls(Call::Poll) <= 2 * tries + 4);
    world.faults().descriptor_limit(open + 8);
    world.advance(ms(50));
    world.clear_calls();
    world.advance(ms(10_000));
    assert_eq!(world.calls(Call::Accept), 0, "the queue was seen empty");
    let client = world.connect(addr);
    assert_served(&mut world, client);
    assert_eq!(world.handler().accept_errors.len(), 1);
}

#[test]
fn a_descriptor_that_the_loop_frees_serves_a_waiting_client_at_once() {
    let (mut world, addr) = world();
    world.run();
    world.faults().descriptor_limit(3);
    let clients = connect_all(&mut world, addr, 4);
    world.run();
    assert_eq!(world.stats().accepted, 2);
    for (gone, next) in [(0, 2), (1, 3)] {
        let before = world.now();
        world.close(clients[gone]);
        assert_served(&mut world, clients[next]);
        assert_eq!(world.now(), before, "no time has passed");
    }
}

#[test]
fn a_descriptor_that_something_else_frees_serves_within_50_ms() {
    for waited in [0, 3, 35, 777] {
        let (mut world, addr) = world();
        world.run();
        world.faults().descriptor_limit(1);
        let client = world.connect(addr);
        world.send(client, b"hello");
        world.run();
        world.advance(ms(waited));
        world.faults().descriptor_limit(100);
        world.advance(ms(50));
        assert_eq!(world.received(client), b"hello", "after {waited} ms");
    }
}

#[test]
fn one_listener_without_descriptors_leaves_its_connections_alone() {
    let (mut world, addr) = world();
    let served = world.connect(addr);
    world.run();
    world.faults().descriptor_limit(2);
    let waiting = world.connect(addr);
    world.run();
    for _ in 0..100 {
        assert_served(&mut world, served);
        world.advance(ms(1));
    }
    assert!(world.received(waiting).is_empty());
}

#[test]
fn an_errno_that_cannot_mend_ends_that_listener_once_and_no_other() {
    for errno in FATAL {
        let (mut world, addr) = world();
        let other = world.listen("127.0.0.1:8");
        let before = world.connect(addr);
        world.run();
        let lost = world.connect(addr);
        world.faults().fail(Call::Accept, errno, 1);
        world.run();
        let errors = &world.handler().accept_errors;
        assert_eq!(errors.len(), 1, "errno {errno}");
        assert_eq!((errors[0].1, errors[0].2), (errno, Recovery::GiveUp));
        let dead = errors[0].0;
        assert!(world.listener(dead).is_none());
        assert!(world.was_reset(lost));
        assert!(world.try_connect(addr).is_err());
        assert_served(&mut world, before);
        let client = world.connect(other);
        assert_served(&mut world, client);
        world.shutdown(ms(100));
    }
}

#[test]
fn shed_closes_waiting_clients_at_once_and_keeps_its_spare() {
    for errno in [libc::EMFILE, libc::ENFILE] {
        let (mut world, addr) = world_with(|config| config.overload = Overload::Shed);
        let served = connect_all(&mut world, addr, 2);
        world.run();
        let open = world.open_descriptors();
        world.faults().descriptor_limit(open as u64);
        let shed = connect_all(&mut world, addr, 40);
        if errno == libc::ENFILE {
            world
                .faults()
                .descriptor_limit(100)
                .fail(Call::Accept, errno, 1);
        }
        let before = world.now();
        world.run();
        assert_eq!(world.now(), before, "nobody waited");
        if errno == libc::EMFILE {
            assert_eq!(world.stats().shed, 40);
            for client in shed {
                assert!(world.saw_eof(client));
            }
            assert_eq!(world.open_descriptors(), open, "the spare is back");
        } else {
            assert!(world.stats().shed > 0);
        }
        assert_eq!(world.handler().accept_errors.len(), 1);
        for client in served {
            assert_served(&mut world, client);
        }
    }
}

#[test]
fn shed_with_an_empty_queue_costs_a_handful_of_calls_and_no_time() {
    let (mut world, addr) = world_with(|config| config.overload = Overload::Shed);
    world.run();
    let open = world.open_descriptors() as u64;
    world.faults().descriptor_limit(open).spurious();
    world.clear_calls();
    world.run();
    assert_eq!(world.calls(Call::Accept), 2, "EMFILE, then empty");
    world.advance(ms(5000));
    assert_eq!(world.calls(Call::Accept), 2);
    world.faults().descriptor_limit(open + 5);
    let client = world.connect(addr);
    assert_served(&mut world, client);
}

#[test]
fn shed_begins_at_the_cap_that_the_descriptor_limit_sets() {
    let (mut world, addr) = world_with(|config| config.overload = Overload::Shed);
    // The simulated host allows 1,024 descriptors; 32 are reserved, one is the spare.
    let served = connect_all(&mut world, addr, 991);
    world.run();
    assert_eq!((world.stats().open, world.stats().shed), (991, 0));
    let shed = connect_all(&mut world, addr, 20);
    let before = world.now();
    world.run();
    assert_eq!(world.now(), before, "nobody waited");
    assert_eq!(world.stats().shed, 20);
    assert!(shed.iter().all(|&client| world.saw_eof(client)));
    world.close(served[0]);
    world.run();
    let late = world.connect(addr);
    assert_served(&mut world, late);
}

#[test]
fn shed_leaves_clients_waiting_at_a_cap_of_the_applications_own() {
    let (mut world, addr) = world_with(|config| {
        config.overload = Overload::Shed;
        config.max_connections = Some(2);
    });
    let served = connect_all(&mut world, addr, 2);
    let waiting = world.connect(addr);
    world.run();
    assert_eq!((world.stats().open, world.stats().shed), (2, 0));
    world.close(served[0]);
    world.run();
    assert_served(&mut world, waiting);
}

#[test]
fn shed_that_loses_its_spare_waits_instead() {
    let (mut world, addr) = world_with(|config| config.overload = Overload::Shed);
    world.run();
    let open = world.open_descriptors() as u64;
    world
        .faults()
        .descriptor_limit(open)
        .fail(Call::Spare, libc::EMFILE, 1);
    let clients = connect_all(&mut world, addr, 2);
    world.run();
    world.advance(ms(100));
    world.faults().descriptor_limit(open + 5);
    let late = world.connect(addr);
    world.advance(ms(50));
    assert_served(&mut world, late);
    for client in clients {
        assert!(world.saw_eof(client) || !world.was_reset(client));
    }
}

#[test]
fn shed_does_not_shed_when_memory_is_what_is_missing() {
    for errno in [libc::ENOBUFS, libc::ENOMEM] {
        let (mut world, addr) = world_with(|config| config.overload = Overload::Shed);
        let client = world.connect(addr);
        world.faults().fail(Call::Accept, errno, 1);
        world.advance(ms(10));
        assert_served(&mut world, client);
        assert_eq!(world.stats().shed, 0);
    }
}

#[test]
fn a_listener_of_its_own_policy_sheds_while_another_waits() {
    let (mut world, waits) = world();
    let sheds = Listen::new("127.0.0.1:8").unwrap().overload(Overload::Shed);
    let sheds = world.listen(sheds);
    world.run();
    let open = world.open_descriptors() as u64;
    world.faults().descriptor_limit(open);
    let waiting = world.connect(waits);
    let shed = world.connect(sheds);
    world.run();
    assert!(world.saw_eof(shed) && !world.saw_eof(waiting));
    world.faults().descriptor_limit(open + 1);
    world.advance(ms(50));
    assert_served(&mut world, waiting);
}

// read

#[test]
fn a_read_that_a_signal_interrupts_is_made_again_in_the_same_turn() {
    let (mut world, addr) = world();
    let client = world.connect(addr);
    world.run();
    world.faults().fail(Call::Read, libc::EINTR, 7);
    world.clear_calls();
    assert_served(&mut world, client);
    assert_eq!(world.calls(Call::Read), 8);
}

#[test]
fn a_read_that_would_block_waits_for_the_next_report() {
    let (mut world, addr) = world();
    let client = world.connect(addr);
    world.run();
    world.faults().fail(Call::Read, libc::EAGAIN, 3);
    world.clear_calls();
    assert_served(&mut world, client);
    assert_eq!(world.calls(Call::Read), 4);
    assert_eq!(world.stats().would_blocks, 3);
}

#[test]
fn an_error_of_a_read_ends_that_connection_with_its_errno_and_no_other() {
    let reset = [
        libc::ECONNRESET,
        libc::EPIPE,
        libc::ECONNABORTED,
        libc::ENOTCONN,
    ];
    let told = [
        libc::ETIMEDOUT,
        libc::EHOSTUNREACH,
        libc::ENOMEM,
        libc::EBADF,
        libc::EIO,
    ];
    for errno in reset.into_iter().chain(told) {
        let (mut world, addr) = world();
        let other = world.connect(addr);
        let client = world.connect(addr);
        world.run();
        world.faults().fail(Call::Read, errno, 1);
        world.send(client, b"x");
        world.run();
        let expected = if reset.contains(&errno) {
            "Reset".to_owned()
        } else {
            format!("Read {:?}", Some(errno))
        };
        assert_eq!(world.handler().closed, [expected]);
        assert_served(&mut world, other);
    }
}

#[test]
fn the_end_of_the_stream_is_read_once() {
    let (mut world, addr) = world();
    let client = world.connect(addr);
    world.run();
    world.clear_calls();
    world.send(client, b"all");
    world.finish(client);
    world.run();
    assert_eq!(world.received(client), b"all");
    assert!(world.saw_eof(client));
    assert_eq!(world.handler().closed, ["Eof"]);
    assert_eq!(world.calls(Call::Read), 2, "the bytes, then 0");
}

// write

#[test]
fn a_write_that_a_signal_interrupts_is_made_again_at_once() {
    let (mut world, addr) = world();
    let client = world.connect(addr);
    world.run();
    world.faults().fail(Call::Write, libc::EINTR, 7);
    world.clear_calls();
    assert_served(&mut world, client);
    assert_eq!(world.calls(Call::Write), 8);
}

#[test]
fn a_write_that_would_block_goes_on_when_the_kernel_reports_room() {
    let (mut world, addr) = world();
    let client = world.connect(addr);
    world.run();
    world.faults().fail(Call::Write, libc::EAGAIN, 3);
    world.clear_calls();
    assert_served(&mut world, client);
    assert_eq!(world.calls(Call::Write), 4);
}

#[test]
fn short_writes_go_on_where_they_ended() {
    for most in 1..=5 {
        let (mut world, addr) = world();
        let client = world.connect(addr);
        world.faults().short_writes(Some(most));
        let bytes: Vec<u8> = (0..=255).collect();
        world.send(client, &bytes);
        world.run();
        assert_eq!(world.received(client), bytes);
    }
}

#[test]
fn a_message_that_is_split_anywhere_on_either_way_arrives_whole() {
    const MESSAGE: &[u8] = b"anywhere";
    for cut in 1..MESSAGE.len() {
        for most in 1..=MESSAGE.len() {
            let (mut world, addr) = world();
            world.faults().short_writes(Some(most));
            let client = world.connect(addr);
            world.send(client, &MESSAGE[..cut]);
            world.expect(client, &MESSAGE[..cut]);
            world.faults().short_reads(Some(most));
            world.send(client, &MESSAGE[cut..]);
            world.expect(client, &MESSAGE[cut..]);
        }
    }
}

#[test]
fn an_error_of_a_write_ends_that_connection_with_its_errno_and_no_other() {
    let reset = [
        libc::ECONNRESET,
        libc::EPIPE,
        libc::ECONNABORTED,
        libc::ENOTCONN,
    ];
    let told = [
        libc::ETIMEDOUT,
        libc::EHOSTUNREACH,
        libc::ENOBUFS,
        libc::ENOMEM,
        libc::EIO,
    ];
    for errno in reset.into_iter().chain(told) {
        let (mut world, addr) = world();
        let other = world.connect(addr);
        let client = world.connect(addr);
        world.run();
        world.faults().fail(Call::Write, errno, 1);
        world.send(client, b"x");
        world.run();
        let expected = if reset.contains(&errno) {
            "Reset".to_owned()
        } else {
            format!("Write {:?}", Some(errno))
        };
        assert_eq!(world.handler().closed, [expected]);
        assert_served(&mut world, other);
    }
}

// everything else

#[test]
fn a_poll_that_a_signal_interrupts_is_an_empty_turn() {
    let (mut world, addr) = world();
    let client = world.connect(addr);
    world.faults().fail(Call::Poll, libc::EINTR, 5);
    assert_served(&mut world, client);
    assert_eq!(world.faults().pending(), 0);
}

#[test]
fn a_registration_that_fails_ends_that_connection_and_no_other() {
    let (mut world, addr) = world();
    world.run();
    world.faults().fail(Call::Register, libc::ENOSPC, 1);
    let clients = connect_all(&mut world, addr, 2);
    world.run();
    let told = format!("Accept Some({})", libc::ENOSPC);
    assert_eq!(world.handler().closed, [told], "a session was returned");
    assert_served(&mut world, clients[1]);
    assert!(world.saw_eof(clients[0]) || world.was_reset(clients[0]));
}

#[test]
fn a_rearm_that_fails_leaves_the_listener_on_the_ready_list() {
    let (mut world, addr) = world();
    world.run();
    world.faults().fail(Call::Rearm, libc::ENOMEM, 1000);
    let clients = connect_all(&mut world, addr, 100);
    for client in clients {
        assert_served(&mut world, client);
    }
}

#[test]
fn a_fin_that_cannot_be_sent_ends_the_connection() {
    let (mut world, addr) = world();
    let client = world.connect(addr);
    world.send(client, b"x");
    world.run();
    world.faults().fail(Call::Shutdown, libc::ENOTCONN, 1);
    world.shutdown(ms(1000));
    assert_eq!(world.handler().closed.len(), 1);
}

#[test]
fn opening_a_listener_fails_under_the_name_of_the_call_and_leaves_nothing_open() {
    let calls = [
        (Call::Socket, "socket"),
        (Call::SetOption, "setsockopt"),
        (Call::Bind, "bind"),
        (Call::Listen, "listen"),
        (Call::LocalAddr, "getsockname"),
        (Call::Register, ""),
    ];
    for (call, name) in calls {
        let mut world = World::new(1, Echo::default());
        world.faults().fail(call, libc::EACCES, 1);
        let error = world.try_listen("127.0.0.1:7").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(world.open_descriptors(), 0, "{name}");
        world.listen("127.0.0.1:7");
    }
}
