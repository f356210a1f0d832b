//! The model against what is known of a real host.

use std::net::Ipv4Addr;

use super::*;

const LISTENER: u64 = 100;
const CONN: u64 = 200;
const FOREVER: usize = usize::MAX;

/// A kernel with one registered listener.
struct World {
    kernel: SimKernel,
    addr: SocketAddr,
    listener: Fd,
}

fn spec(backlog: i32) -> ListenSpec {
    ListenSpec {
        addr: SocketAddr::from(([127, 0, 0, 1], 0)),
        only_v6: true,
        backlog,
        reuse_port: false,
        stream: StreamOptions::default(),
    }
}

fn errno<T>(code: i32) -> Result<T, Errno> {
    Err(Errno(code))
}

fn ready(all: &[Readiness]) -> Readiness {
    let mut sum = Readiness::default();
    for &one in all {
        sum.insert(one);
    }
    sum
}

const R: Readiness = Readiness::READABLE;
const W: Readiness = Readiness::WRITABLE;

impl World {
    fn new(backlog: i32) -> Self {
        Self::with(SimKernel::new(1), backlog)
    }

    fn with(mut kernel: SimKernel, backlog: i32) -> Self {
        let listener = kernel.listen(&spec(backlog)).unwrap();
        let addr = kernel.try_local_addr(listener).unwrap();
        kernel
            .register(listener, Token::from_bits(LISTENER), Interest::Read)
            .unwrap();
        Self {
            kernel,
            addr,
            listener,
        }
    }

    /// What a poll that may not wait reports.
    fn poll(&mut self) -> Vec<(u64, Readiness)> {
        self.poll_for(Some(Duration::ZERO))
    }

    fn poll_for(&mut self, timeout: Option<Duration>) -> Vec<(u64, Readiness)> {
        let mut events = Vec::new();
        self.kernel.poll(&mut events, timeout).unwrap();
        events
            .iter()
            .map(|event| (event.token.bits(), event.ready))
            .collect()
    }

    /// A client and the server's end of it, registered, its first event taken.
    fn pair(&mut self) -> (Peer, Fd) {
        let peer = self.kernel.new_client(self.addr).unwrap();
        let (fd, _) = self.kernel.accept(self.listener).unwrap();
        self.kernel
            .register(fd, Token::from_bits(CONN), Interest::ReadWrite)
            .unwrap();
        self.poll();
        (peer, fd)
    }

    fn read(&mut self, fd: Fd, most: usize) -> Result<Vec<u8>, Errno> {
        let mut buffer = vec![0; most.min(1 << 20)];
        let count = self.kernel.read(fd, &mut buffer)?;
        buffer.truncate(count);
        Ok(buffer)
    }
}

#[test]
fn readiness_is_reported_once_per_change_and_never_repeated() {
    let mut world = World::new(8);
    let (peer, fd) = world.pair();
    assert!(world.poll().is_empty());
    world.kernel.peer_send(peer, b"one");
    world.kernel.peer_send(peer, b"two");
    assert_eq!(world.poll(), [(CONN, ready(&[R, W]))]);
    assert!(world.poll().is_empty(), "unread bytes are no news");
    world.kernel.peer_send(peer, b"three");
    assert_eq!(
        world.poll(),
        [(CONN, ready(&[R, W]))],
        "an arrival is, read or not"
    );
    assert_eq!(world.read(fd, 4).unwrap(), b"onet");
    assert!(
        world.poll().is_empty(),
        "what a read left behind is no news"
    );
    assert!(world.kernel.rearm(fd, Token::from_bits(CONN)).unwrap());
    assert_eq!(world.poll(), [(CONN, ready(&[R, W]))]);
    assert_eq!(world.read(fd, FOREVER).unwrap(), b"wothree");
    assert_eq!(world.read(fd, FOREVER), errno(libc::EAGAIN));
}

#[test]
fn a_listener_is_reported_once_however_many_wait() {
    let mut world = World::new(8);
    for _ in 0..3 {
        world.kernel.new_client(world.addr).unwrap();
    }
    assert_eq!(world.poll(), [(LISTENER, R)]);
    world.kernel.accept(world.listener).unwrap();
    assert!(world.poll().is_empty());
    assert_eq!(world.kernel.queue(world.listener), Ok((2, 8)));
    world.kernel.new_client(world.addr).unwrap();
    assert_eq!(world.poll(), [(LISTENER, R)]);
}

#[test]
fn registering_reports_the_present_state_once() {
    let mut world = World::new(8);
    let peer = world.kernel.new_client(world.addr).unwrap();
    world.kernel.peer_send(peer, b"early");
    let (fd, from) = world.kernel.accept(world.listener).unwrap();
    assert_eq!(from, Addr::from(world.kernel.client_addr(peer)));
    world.poll();
    world
        .kernel
        .register(fd, Token::from_bits(CONN), Interest::ReadWrite)
        .unwrap();
    let again = world
        .kernel
        .register(fd, Token::from_bits(CONN), Interest::ReadWrite);
    assert_eq!(again, errno(libc::EEXIST));
    assert_eq!(world.poll(), [(CONN, ready(&[R, W]))]);
    assert!(world.poll().is_empty());
}

#[test]
fn rearm_can_be_missing_as_on_kqueue() {
    let mut world = World::new(8);
    let (_, fd) = world.pair();
    world.kernel.set_rearm(false);
    assert_eq!(world.kernel.rearm(fd, Token::from_bits(CONN)), Ok(false));
    assert!(world.poll().is_empty());
}

#[test]
fn a_short_write_is_followed_by_an_edge_when_there_is_room() {
    let mut kernel = SimKernel::new(1);
    kernel.set_buffers(4, 4);
    let mut world = World::with(kernel, 8);
    let (peer, fd) = world.pair();
    world.kernel.peer_pause(peer);
    assert_eq!(world.kernel.write(fd, b"0123456789"), Ok(8));
    assert_eq!(world.kernel.write(fd, b"89"), errno(libc::EAGAIN));
    assert!(world.poll().is_empty());
    world.kernel.peer_resume(peer);
    assert_eq!(world.poll(), [(CONN, W)]);
    assert_eq!(world.kernel.write(fd, b"89"), Ok(2));
    assert!(world.poll().is_empty(), "room is news only after a refusal");
    assert_eq!(world.kernel.peer_received(peer), b"0123456789");
}

#[test]
fn a_capped_write_may_go_on_at_once_and_is_announced_too() {
    let mut world = World::new(8);
    let (peer, fd) = world.pair();
    world.kernel.short_writes(Some(3));
    let parts = [
        IoSlice::new(b"ab"),
        IoSlice::new(b""),
        IoSlice::new(b"cdef"),
    ];
    assert_eq!(world.kernel.write_parts(fd, &parts), Ok(3));
    assert_eq!(world.poll(), [(CONN, W)]);
    assert_eq!(world.kernel.write(fd, b"def"), Ok(3));
    assert!(world.poll().is_empty());
    assert_eq!(world.kernel.peer_received(peer), b"abcdef");
}

#[test]
fn short_reads_are_pieces_that_arrive_with_their_own_edges() {
    let mut world = World::new(8);
    let (peer, fd) = world.pair();
    world.kernel.short_reads(Some(2));
    world.kernel.peer_send(peer, b"abcde");
    world.kernel.peer_shutdown(peer);
    for piece in [b"ab", b"cd"] {
        assert_eq!(world.poll(), [(CONN, ready(&[R, W]))]);
        assert_eq!(world.read(fd, FOREVER).unwrap(), piece);
        assert_eq!(world.read(fd, FOREVER), errno(libc::EAGAIN));
    }
    assert_eq!(
        world.poll(),
        [(CONN, ready(&[R, W, Readiness::READ_CLOSED]))]
    );
    assert_eq!(world.read(fd, FOREVER).unwrap(), b"e");
    assert_eq!(world.read(fd, FOREVER).unwrap(), b"");
    assert!(world.poll().is_empty());
}

#[test]
fn a_full_receive_buffer_is_refilled_with_an_edge_as_it_is_read() {
    let mut kernel = SimKernel::new(1);
    kernel.set_buffers(2, 2);
    let mut world = World::with(kernel, 8);
    let (peer, fd) = world.pair();
    assert_eq!(world.kernel.peer_send(peer, b"abcdefgh"), 4);
    world.kernel.peer_send_all(peer, b"efgh");
    world.kernel.peer_close(peer);
    let mut all = Vec::new();
    while let [(CONN, _)] = world.poll()[..] {
        all.extend(world.read(fd, FOREVER).unwrap());
    }
    assert_eq!(all, b"abcdefgh");
    assert_eq!(world.read(fd, FOREVER).unwrap(), b"");
    assert_eq!(world.kernel.peer_unsent(peer), 0);
}

#[test]
fn without_descriptors_accept_fails_even_with_an_empty_queue() {
    let mut world = World::new(8);
    world.kernel.set_descriptor_limit(1, 2);
    assert_eq!(world.kernel.accept(world.listener), errno(libc::EMFILE));
    assert_eq!(world.kernel.spare(), errno(libc::EMFILE));
    assert_eq!(
        world.kernel.listen(&spec(1)).map_err(|fault| fault.call),
        Err("socket")
    );
    assert_eq!(world.kernel.raise_descriptor_limit(), Ok(2));
    assert_eq!(world.kernel.accept(world.listener), errno(libc::EAGAIN));
    let peer = world.kernel.new_client(world.addr).unwrap();
    let spare = world.kernel.spare().unwrap();
    assert_eq!(world.kernel.accept(world.listener), errno(libc::EMFILE));
    assert_eq!(world.poll(), [(LISTENER, R)]);
    assert!(world.poll().is_empty(), "the failed accept re-arms nothing");
    world.kernel.close(spare);
    assert!(world.kernel.accept(world.listener).is_ok());
    assert_eq!(world.kernel.peer_state(peer), PeerState::Open);
}

#[test]
fn a_full_queue_takes_nobody_and_wakes_nobody_until_there_is_room() {
    let mut world = World::new(1);
    let first = world.kernel.new_client(world.addr).unwrap();
    assert_eq!(world.poll(), [(LISTENER, R)]);
    let second = world.kernel.new_client(world.addr).unwrap();
    world.kernel.peer_send_all(second, b"hello");
    assert_eq!(world.kernel.peer_state(first), PeerState::Queued);
    assert_eq!(world.kernel.peer_state(second), PeerState::Connecting);
    assert!(
        world.poll().is_empty(),
        "nobody can join, so there is no edge"
    );
    world.kernel.accept(world.listener).unwrap();
    assert_eq!(world.kernel.peer_state(second), PeerState::Queued);
    assert_eq!(world.poll(), [(LISTENER, R)]);
    let (fd, _) = world.kernel.accept(world.listener).unwrap();
    assert_eq!(world.read(fd, FOREVER).unwrap(), b"hello");
}

#[test]
fn a_reset_in_the_queue_is_seen_by_accept_or_by_the_first_read() {
    for aborts in [false, true] {
        let mut world = World::new(8);
        world.kernel.abort_reset_accepts(aborts);
        let peer = world.kernel.new_client(world.addr).unwrap();
        world.kernel.peer_reset(peer);
        let accepted = world.kernel.accept(world.listener);
        if aborts {
            assert_eq!(accepted, errno(libc::ECONNABORTED));
        } else {
            assert_eq!(world.read(accepted.unwrap().0, 1), errno(libc::ECONNRESET));
        }
        assert_eq!(world.kernel.accept(world.listener), errno(libc::EAGAIN));
    }
}

#[test]
fn after_a_reset_queued_bytes_come_first_then_the_error_once_then_the_end() {
    let mut world = World::new(8);
    let (peer, fd) = world.pair();
    world.kernel.peer_send(peer, b"last words");
    world.kernel.peer_reset(peer);
    let all = [
        R,
        W,
        Readiness::READ_CLOSED,
        Readiness::WRITE_CLOSED,
        Readiness::ERROR,
    ];
    assert_eq!(world.poll(), [(CONN, ready(&all))]);
    assert_eq!(world.read(fd, FOREVER).unwrap(), b"last words");
    assert_eq!(world.read(fd, FOREVER), errno(libc::ECONNRESET));
    assert_eq!(world.read(fd, FOREVER).unwrap(), b"");
    assert_eq!(world.kernel.write(fd, b"x"), errno(libc::EPIPE));
    assert_eq!(world.kernel.shutdown_write(fd), errno(libc::ENOTCONN));
}

#[test]
fn a_reset_overtakes_nothing_that_is_on_the_wire() {
    let mut world = World::new(8);
    let (peer, fd) = world.pair();
    world.kernel.set_latency(Duration::from_millis(3));
    world.kernel.short_reads(Some(1));
    world.kernel.peer_send(peer, b"sent before");
    world.kernel.peer_reset(peer);
    assert!(world.poll().is_empty());
    world.poll_for(None);
    assert_eq!(world.read(fd, FOREVER).unwrap(), b"sent before");
    assert_eq!(world.read(fd, FOREVER), errno(libc::ECONNRESET));
}

#[test]
fn a_write_that_meets_the_reset_takes_the_error_from_the_reader() {
    let mut world = World::new(8);
    let (peer, fd) = world.pair();
    world.kernel.peer_reset(peer);
    assert_eq!(world.kernel.write(fd, b"x"), errno(libc::ECONNRESET));
    assert_eq!(world.kernel.write(fd, b"x"), errno(libc::EPIPE));
    assert_eq!(world.read(fd, FOREVER).unwrap(), b"");
}

#[test]
fn the_first_write_to_a_closed_peer_succeeds_and_brings_a_reset() {
    let mut world = World::new(8);
    let (peer, fd) = world.pair();
    world.kernel.peer_close(peer);
    assert_eq!(
        world.poll(),
        [(CONN, ready(&[R, W, Readiness::READ_CLOSED]))]
    );
    assert_eq!(world.kernel.write(fd, b"x"), Ok(1));
    let all = [
        R,
        W,
        Readiness::READ_CLOSED,
        Readiness::WRITE_CLOSED,
        Readiness::ERROR,
    ];
    assert_eq!(world.poll(), [(CONN, ready(&all))]);
    assert_eq!(world.read(fd, FOREVER).unwrap(), b"", "the FIN came first");
    assert_eq!(world.kernel.take_error(fd), Some(Errno(libc::EPIPE)));
    assert_eq!(world.kernel.write(fd, b"x"), errno(libc::EPIPE));
}

#[test]
fn after_both_fins_the_hang_up_is_reported_and_writing_fails() {
    let mut world = World::new(8);
    let (peer, fd) = world.pair();
    world.kernel.peer_shutdown(peer);
    world.kernel.shutdown_write(fd).unwrap();
    world.kernel.shutdown_write(fd).unwrap();
    let all = [R, W, Readiness::READ_CLOSED, Readiness::WRITE_CLOSED];
    assert_eq!(world.poll(), [(CONN, ready(&all))]);
    assert_eq!(world.kernel.write(fd, b"x"), errno(libc::EPIPE));
    assert!(world.kernel.peer_saw_eof(peer));
    assert_eq!(world.kernel.peer_error(peer), None);
}

/// A world whose client has received half of a reply of sixteen bytes.
fn half_delivered() -> (World, Peer, Fd) {
    let mut kernel = SimKernel::new(1);
    kernel.set_buffers(8, 8);
    let mut world = World::with(kernel, 8);
    let (peer, fd) = world.pair();
    world.kernel.peer_pause(peer);
    assert_eq!(world.kernel.write(fd, b"receivedundelive"), Ok(16));
    (world, peer, fd)
}

#[test]
fn a_plain_close_delivers_everything_then_fin() {
    let (mut world, peer, fd) = half_delivered();
    world.kernel.close(fd);
    world.kernel.peer_resume(peer);
    assert_eq!(world.kernel.peer_received(peer), b"receivedundelive");
    assert!(world.kernel.peer_saw_eof(peer));
}

#[test]
fn a_close_with_unread_input_resets_and_destroys_the_reply() {
    let (mut world, peer, fd) = half_delivered();
    world.kernel.peer_send(peer, b"unread");
    world.kernel.close(fd);
    world.kernel.peer_resume(peer);
    assert_eq!(world.kernel.peer_received(peer), b"received");
    assert!(!world.kernel.peer_saw_eof(peer));
    assert_eq!(world.kernel.peer_error(peer), Some(Errno(libc::ECONNRESET)));
}

#[test]
fn input_for_a_closed_socket_resets_and_destroys_the_reply() {
    let (mut world, peer, fd) = half_delivered();
    world.kernel.close(fd);
    world.kernel.peer_send(peer, b"late");
    world.kernel.peer_resume(peer);
    assert_eq!(world.kernel.peer_received(peer), b"received");
    assert_eq!(
        world.kernel.peer_state(peer),
        PeerState::Failed(Errno(libc::ECONNRESET))
    );
}

#[test]
fn a_reset_of_ours_destroys_what_is_not_delivered() {
    let (mut world, peer, fd) = half_delivered();
    world.kernel.reset(fd);
    world.kernel.peer_resume(peer);
    assert_eq!(world.kernel.peer_received(peer), b"received");
    assert_eq!(world.kernel.peer_error(peer), Some(Errno(libc::ECONNRESET)));
}

#[test]
fn a_slow_reader_makes_room_as_it_reads() {
    let (mut world, peer, fd) = half_delivered();
    assert_eq!(world.kernel.write(fd, b"more"), errno(libc::EAGAIN));
    assert_eq!(world.kernel.peer_read_some(peer, 3), 3);
    assert_eq!(world.poll(), [(CONN, W)]);
    assert_eq!(world.kernel.write(fd, b"more"), Ok(3));
    assert_eq!(world.kernel.peer_received(peer), b"rec");
}

#[test]
fn closing_a_listener_resets_the_queued_and_refuses_the_waiting() {
    let mut world = World::new(1);
    let queued = world.kernel.new_client(world.addr).unwrap();
    let waiting = world.kernel.new_client(world.addr).unwrap();
    world.kernel.close(world.listener);
    assert_eq!(
        world.kernel.peer_error(queued),
        Some(Errno(libc::ECONNRESET))
    );
    assert_eq!(
        world.kernel.peer_error(waiting),
        Some(Errno(libc::ECONNREFUSED))
    );
    assert_eq!(
        world.kernel.new_client(world.addr),
        errno(libc::ECONNREFUSED)
    );
}

#[test]
fn an_address_in_use_cannot_be_bound_until_its_listener_closes() {
    let mut world = World::new(1);
    let same = ListenSpec {
        addr: world.addr,
        ..spec(1)
    };
    let wildcard = SocketAddr::from(([0, 0, 0, 0], world.addr.port()));
    let in_use = Err(Fault {
        call: "bind",
        errno: Errno(libc::EADDRINUSE),
    });
    assert_eq!(world.kernel.listen(&same), in_use);
    assert_eq!(
        world.kernel.listen(&ListenSpec {
            addr: wildcard,
            ..spec(1)
        }),
        in_use
    );
    assert_eq!(world.kernel.open_descriptors(), 1);
    assert!(
        world.kernel.listen(&spec(1)).is_ok(),
        "port 0 picks another"
    );
    world.kernel.close(world.listener);
    assert!(world.kernel.listen(&same).is_ok());
}

#[test]
fn scripted_failures_have_no_other_effect_and_eagain_brings_an_edge() {
    let mut world = World::new(8);
    let (peer, fd) = world.pair();
    world.kernel.peer_send(peer, b"data");
    world.poll();
    world.kernel.fail(Call::Read, Errno(libc::EINTR), 1);
    world.kernel.fail(Call::Read, Errno(libc::EAGAIN), 1);
    assert_eq!(world.read(fd, FOREVER), errno(libc::EINTR));
    assert!(world.poll().is_empty());
    assert_eq!(world.read(fd, FOREVER), errno(libc::EAGAIN));
    assert_eq!(world.poll(), [(CONN, ready(&[R, W]))]);
    assert_eq!(world.read(fd, FOREVER).unwrap(), b"data");
    world.kernel.fail(Call::Poll, Errno(libc::EINTR), 1);
    assert_eq!(world.kernel.poll(&mut Vec::new(), None), errno(libc::EINTR));
    world.kernel.fail(Call::Bind, Errno(libc::EACCES), 1);
    let fault = Fault {
        call: "bind",
        errno: Errno(libc::EACCES),
    };
    assert_eq!(world.kernel.listen(&spec(1)), Err(fault));
    assert_eq!(world.kernel.pending_faults(), 0);
}

#[test]
fn a_scripted_eagain_without_room_brings_an_edge_when_there_is_room() {
    let (mut world, peer, fd) = half_delivered();
    world.poll();
    world.kernel.fail(Call::Write, Errno(libc::EAGAIN), 1);
    assert_eq!(world.kernel.write(fd, b"x"), errno(libc::EAGAIN));
    assert!(world.poll().is_empty());
    world.kernel.peer_resume(peer);
    assert_eq!(world.poll(), [(CONN, W)]);
}

#[test]
fn spurious_readiness_is_reported_once() {
    let mut world = World::new(8);
    let (_, fd) = world.pair();
    world.kernel.spurious_all();
    assert_eq!(world.poll(), [(LISTENER, R), (CONN, ready(&[R, W]))]);
    assert!(world.poll().is_empty());
    assert_eq!(world.read(fd, FOREVER), errno(libc::EAGAIN));
}

#[test]
fn a_poll_is_never_early_and_rounds_up_to_milliseconds() {
    let mut world = World::new(8);
    for (asked, slept) in [(0, 0), (1, 1_000), (1_000, 1_000), (1_001, 2_000)] {
        let before = world.kernel.now();
        assert!(
            world
                .poll_for(Some(Duration::from_micros(asked)))
                .is_empty()
        );
        assert_eq!(world.kernel.now() - before, Duration::from_micros(slept));
        assert!(!world.kernel.stalled());
    }
}

#[test]
fn a_poll_ends_when_delayed_bytes_arrive_and_not_before() {
    let mut world = World::new(8);
    let (peer, fd) = world.pair();
    let started = world.kernel.now();
    world.kernel.set_latency(Duration::from_millis(30));
    world.kernel.peer_send(peer, b"slow");
    assert!(world.poll_for(Some(Duration::from_millis(20))).is_empty());
    assert_eq!(world.poll_for(None), [(CONN, ready(&[R, W]))]);
    assert_eq!(world.kernel.now() - started, Duration::from_millis(30));
    world.kernel.write(fd, b"reply").unwrap();
    assert_eq!(world.kernel.peer_received(peer), b"");
    world.kernel.advance(Duration::from_millis(30));
    assert_eq!(world.kernel.peer_received(peer), b"reply");
}

#[test]
fn the_horizon_bounds_every_poll() {
    let mut world = World::new(8);
    let horizon = world.kernel.now() + Duration::from_millis(5);
    world.kernel.set_horizon(Some(horizon));
    assert!(world.poll_for(Some(Duration::from_secs(1))).is_empty());
    assert!(world.poll_for(Some(Duration::from_secs(1))).is_empty());
    assert_eq!(world.kernel.now(), horizon);
}

#[test]
fn a_poll_that_would_wait_for_ever_returns_and_says_so() {
    let mut world = World::new(8);
    assert!(world.poll_for(None).is_empty());
    assert!(world.kernel.stalled());
    world.kernel.waker().wake();
    world.kernel.waker().wake();
    assert_eq!(world.poll_for(None), [(Token::WAKE.bits(), R)]);
    assert!(!world.kernel.stalled());
    assert!(world.poll().is_empty());
}

#[test]
fn using_a_closed_descriptor_is_refused_and_remembered() {
    let mut world = World::new(8);
    let (_, fd) = world.pair();
    world.kernel.close(fd);
    assert_eq!(world.kernel.violations().0, 0);
    world.kernel.close(fd);
    assert_eq!(world.read(fd, 1), errno(libc::EBADF));
    let (count, texts) = world.kernel.violations();
    assert_eq!((count, texts.len()), (2, 2));
    assert_eq!(world.kernel.descriptors_used(), (2, 1));
    assert_eq!(world.kernel.open_descriptors(), 1);
}

#[test]
fn closing_ends_the_reports_and_frees_the_number_for_a_new_registration() {
    let mut world = World::new(8);
    world.kernel.reuse_descriptors(true);
    let (peer, fd) = world.pair();
    world.kernel.peer_send(peer, b"news");
    world.kernel.close(fd);
    assert!(world.poll().is_empty());
    let (_, again) = world.pair();
    assert_eq!(again, fd);
    assert!(
        world.poll().is_empty(),
        "no report of the former tenant is left"
    );
}

#[test]
fn options_are_inherited_from_the_listener_unless_scripted_otherwise() {
    let mut kernel = SimKernel::new(1);
    let stream = StreamOptions {
        nodelay: Some(true),
        send_buffer: Some(5),
        ..StreamOptions::default()
    };
    let listener = kernel.listen(&ListenSpec { stream, ..spec(4) }).unwrap();
    let addr = kernel.try_local_addr(listener).unwrap();
    for inherits in [true, false] {
        kernel.inherit_options(inherits);
        kernel.new_client(addr).unwrap();
        let (fd, _) = kernel.accept(listener).unwrap();
        assert_eq!(kernel.has_options(fd, &stream), inherits);
        kernel.set_options(fd, &stream).unwrap();
        assert!(kernel.has_options(fd, &stream));
    }
}

#[test]
fn listeners_that_share_a_port_share_its_clients() {
    let mut kernel = SimKernel::new(3);
    let first = kernel
        .listen(&ListenSpec {
            reuse_port: true,
            ..spec(64)
        })
        .unwrap();
    let addr = kernel.try_local_addr(first).unwrap();
    let second = kernel
        .listen(&ListenSpec {
            addr,
            reuse_port: true,
            ..spec(64)
        })
        .unwrap();
    for _ in 0..32 {
        kernel.new_client(addr).unwrap();
    }
    let (one, two) = (
        kernel.queue(first).unwrap().0,
        kernel.queue(second).unwrap().0,
    );
    assert_eq!(one + two, 32);
    assert!(one > 0 && two > 0);
}

#[test]
fn names_are_looked_up_in_the_script() {
    let mut kernel = SimKernel::new(1);
    kernel.set_name(
        "example.test",
        vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))],
    );
    assert_eq!(kernel.lookup("localhost").unwrap().len(), 2);
    assert_eq!(kernel.lookup("example.test").unwrap().len(), 1);
    let error = kernel.lookup("nobody.test").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn one_request_costs_one_read_and_one_write() {
    let mut world = World::new(8);
    let (peer, fd) = world.pair();
    world.kernel.clear_calls();
    world.kernel.peer_send(peer, b"ping");
    world.poll();
    let bytes = world.read(fd, 64).unwrap();
    world.kernel.write(fd, &bytes).unwrap();
    let calls = [Call::Poll, Call::Read, Call::Write].map(|call| world.kernel.calls(call));
    assert_eq!(calls, [1, 1, 1]);
}

/// Random traffic and faults; answers the trace.
fn random_run(seed: u64) -> Vec<String> {
    let mut kernel = SimKernel::new(seed);
    kernel.set_trace(true);
    kernel.set_buffers(16, 16);
    let mut world = World::with(kernel, 2);
    let mut peers = Vec::new();
    let mut fds = Vec::new();
    for _ in 0..400 {
        let roll = world.kernel.random();
        let some = (roll >> 32) as usize;
        let peer = (!peers.is_empty()).then(|| peers[some % peers.len()]);
        let fd = (!fds.is_empty()).then(|| fds[some % fds.len()]);
        match (roll % 13, peer, fd) {
            (0, ..) => peers.push(world.kernel.new_client(world.addr).unwrap()),
            (1, ..) => fds.extend(world.kernel.accept(world.listener).map(|(fd, _)| fd)),
            (2, Some(peer), _) => world.kernel.peer_send_all(peer, &[7; 20]),
            (3, Some(peer), _) => world.kernel.peer_pause(peer),
            (4, Some(peer), _) => world.kernel.peer_resume(peer),
            (5, Some(peer), _) if some.is_multiple_of(4) => world.kernel.peer_close(peer),
            (6, Some(peer), _) if some.is_multiple_of(4) => world.kernel.peer_reset(peer),
            (7, _, Some(fd)) => drop(world.read(fd, some % 32)),
            (8, _, Some(fd)) => drop(world.kernel.write(fd, &[9; 24])),
            (9, _, Some(fd)) if some.is_multiple_of(4) => {
                world.kernel.close(fd);
                fds.retain(|&open| open != fd);
            }
            (10, ..) => world
                .kernel
                .set_latency(Duration::from_millis(some as u64 % 3)),
            (11, ..) => world
                .kernel
                .short_reads((some.is_multiple_of(2)).then_some(3)),
            _ => drop(world.poll_for(Some(Duration::from_millis(some as u64 % 4)))),
        }
    }
    assert_eq!(world.kernel.violations().0, 0);
    world.kernel.trace()
}

#[test]
fn a_run_follows_from_its_seed() {
    for seed in 0..50 {
        assert_eq!(random_run(seed), random_run(seed), "seed {seed}");
    }
    assert_ne!(random_run(1), random_run(2));
}

/// A kernel with one socket for a host far away.
struct Dialer {
    kernel: SimKernel,
    remote: SocketAddr,
    fd: Fd,
}

const DIAL: u64 = 300;

fn dial_spec(remote: SocketAddr) -> DialSpec {
    DialSpec {
        remote,
        local: None,
        stream: StreamOptions::default(),
    }
}

impl Dialer {
    fn new(remote: Remote) -> Self {
        let mut kernel = SimKernel::new(1);
        let addr = SocketAddr::from(([192, 0, 2, 9], 80));
        kernel.set_remote(addr, remote);
        let fd = kernel.socket(&dial_spec(addr)).unwrap();
        Self {
            kernel,
            remote: addr,
            fd,
        }
    }

    fn connect(&mut self) -> Result<(), Errno> {
        let result = self.kernel.connect(self.fd, self.remote);
        let token = Token::from_bits(DIAL);
        self.kernel
            .register(self.fd, token, Interest::ReadWrite)
            .unwrap();
        result
    }

    fn poll(&mut self, timeout: Option<Duration>) -> Vec<(u64, Readiness)> {
        let mut events = Vec::new();
        self.kernel.poll(&mut events, timeout).unwrap();
        events
            .iter()
            .map(|event| (event.token.bits(), event.ready))
            .collect()
    }

    fn poll_now(&mut self) -> Vec<(u64, Readiness)> {
        self.poll(Some(Duration::ZERO))
    }

    fn peer_addr(&mut self) -> Result<Addr, Errno> {
        self.kernel.peer_addr(self.fd)
    }

    fn answers(&mut self) -> Vec<LookedUp> {
        let mut answers = Vec::new();
        self.kernel.looked_up(&mut answers);
        answers
    }
}

/// What Linux reports of an attempt that failed.
fn failure() -> Readiness {
    ready(&[
        R,
        W,
        Readiness::READ_CLOSED,
        Readiness::WRITE_CLOSED,
        Readiness::ERROR,
    ])
}

#[test]
fn a_connect_is_under_way_until_the_remote_host_accepts() {
    let mut it = Dialer::new(Remote::Accepts);
    it.kernel.set_latency(Duration::from_millis(5));
    let started = it.kernel.now();
    assert_eq!(it.connect(), errno(libc::EINPROGRESS));
    assert!(it.poll_now().is_empty());
    assert_eq!(it.peer_addr(), errno(libc::ENOTCONN));
    assert_eq!(it.kernel.take_error(it.fd), None);
    assert_eq!(it.kernel.read(it.fd, &mut [0]), errno(libc::EAGAIN));
    assert_eq!(it.kernel.write(it.fd, b"x"), errno(libc::EAGAIN));
    assert_eq!(it.kernel.dialed(it.remote), None);
    assert_eq!(it.poll(None), [(DIAL, W)]);
    assert_eq!(it.kernel.now() - started, Duration::from_millis(10));
    assert_eq!(it.kernel.take_error(it.fd), None);
    assert_eq!(it.peer_addr(), Ok(it.remote.into()));
    assert!(it.poll_now().is_empty(), "an answer is news once");
}

#[test]
fn a_host_next_door_has_answered_before_the_first_poll() {
    let mut it = Dialer::new(Remote::Accepts);
    assert_eq!(it.connect(), errno(libc::EINPROGRESS));
    assert_eq!(it.poll_now(), [(DIAL, W)]);
}

#[test]
fn a_connect_can_succeed_on_the_spot() {
    let mut it = Dialer::new(Remote::AcceptsAtOnce);
    it.kernel.set_latency(Duration::from_millis(5));
    assert_eq!(it.connect(), Ok(()));
    assert_eq!(it.peer_addr(), Ok(it.remote.into()));
    assert_eq!(it.poll_now(), [(DIAL, W)]);
}

#[test]
fn a_dialed_connection_carries_bytes_both_ways_and_ends_like_any_other() {
    let mut it = Dialer::new(Remote::Accepts);
    it.connect().unwrap_err();
    it.poll_now();
    let peer = it.kernel.dialed(it.remote).unwrap();
    assert_eq!(it.kernel.dialed(it.remote), None, "handed out once");
    assert_eq!(it.kernel.client_addr(peer), it.remote);
    assert_eq!(it.kernel.peer_state(peer), PeerState::Open);
    assert_eq!(it.kernel.write(it.fd, b"question"), Ok(8));
    assert_eq!(it.kernel.peer_received(peer), b"question");
    it.kernel.peer_send(peer, b"answer");
    it.kernel.peer_close(peer);
    assert_eq!(
        it.poll_now(),
        [(DIAL, ready(&[R, W, Readiness::READ_CLOSED]))]
    );
    let mut buffer = [0; 16];
    assert_eq!(it.kernel.read(it.fd, &mut buffer), Ok(6));
    assert_eq!(it.kernel.read(it.fd, &mut buffer), Ok(0));
    it.kernel.close(it.fd);
    assert!(it.kernel.peer_saw_eof(peer) || it.kernel.peer_state(peer) == PeerState::Closed);
}

#[test]
fn a_reset_by_the_remote_end_takes_the_peer_address_away() {
    let mut it = Dialer::new(Remote::Accepts);
    it.connect().unwrap_err();
    let peer = it.kernel.dialed(it.remote).unwrap();
    it.kernel.peer_reset(peer);
    assert_eq!(it.poll_now(), [(DIAL, failure())]);
    assert_eq!(it.peer_addr(), errno(libc::ENOTCONN));
    assert_eq!(it.kernel.take_error(it.fd), Some(Errno(libc::ECONNRESET)));
}

#[test]
fn a_failed_connect_is_reported_and_its_error_taken_once() {
    let late = Duration::from_millis(70);
    let unreachable = Remote::Fails {
        errno: libc::EHOSTUNREACH,
        after: late,
    };
    let rows = [
        (Remote::default(), libc::ECONNREFUSED, Duration::ZERO),
        (unreachable, libc::EHOSTUNREACH, late),
    ];
    for (remote, code, after) in rows {
        let mut it = Dialer::new(remote);
        let started = it.kernel.now();
        assert_eq!(it.connect(), errno(libc::EINPROGRESS));
        assert_eq!(it.poll(None), [(DIAL, failure())]);
        assert_eq!(it.kernel.now() - started, after);
        assert_eq!(it.peer_addr(), errno(libc::ENOTCONN));
        assert_eq!(it.kernel.take_error(it.fd), Some(Errno(code)));
        assert_eq!(it.kernel.take_error(it.fd), None);
        assert_eq!(it.kernel.read(it.fd, &mut [0]), Ok(0));
        assert_eq!(it.kernel.write(it.fd, b"x"), errno(libc::EPIPE));
        assert_eq!(it.kernel.dialed(it.remote), None);
        it.kernel.close(it.fd);
        assert_eq!(it.kernel.open_descriptors(), 0);
    }
}

#[test]
fn a_silent_host_never_answers_and_is_no_arrival_to_wait_for() {
    let mut it = Dialer::new(Remote::Silent);
    assert_eq!(it.connect(), errno(libc::EINPROGRESS));
    assert!(it.poll(Some(Duration::from_secs(600))).is_empty());
    assert_eq!(it.kernel.next_arrival(), None);
    assert_eq!(it.peer_addr(), errno(libc::ENOTCONN));
}

#[test]
fn a_host_that_takes_its_time_answers_then_and_not_before() {
    let mut it = Dialer::new(Remote::AcceptsAfter(Duration::from_secs(3)));
    it.connect().unwrap_err();
    assert!(it.poll(Some(Duration::from_millis(2_999))).is_empty());
    assert_eq!(it.poll(Some(Duration::from_secs(1))), [(DIAL, W)]);
    assert_eq!(it.kernel.elapsed(), Duration::from_secs(3));
}

#[test]
fn an_attempt_that_is_closed_leaves_nothing_under_way() {
    let mut it = Dialer::new(Remote::AcceptsAfter(Duration::from_secs(3)));
    it.connect().unwrap_err();
    it.kernel.close(it.fd);
    assert_eq!(it.kernel.next_arrival(), None);
    it.kernel.advance(Duration::from_secs(9));
    assert_eq!(it.kernel.dialed(it.remote), None);
    let second = it.kernel.socket(&dial_spec(it.remote)).unwrap();
    it.kernel.connect(second, it.remote).unwrap_err();
    it.kernel.reset(second);
    assert_eq!(it.kernel.next_arrival(), None);
    assert_eq!(it.kernel.violations().0, 0);
}

#[test]
fn a_spurious_report_comes_before_the_answer_and_proves_nothing() {
    let mut it = Dialer::new(Remote::AcceptsAfter(Duration::from_secs(3)));
    it.connect().unwrap_err();
    it.kernel.spurious_all();
    assert_eq!(it.poll_now(), [(DIAL, ready(&[R, W]))]);
    assert_eq!(it.kernel.take_error(it.fd), None);
    assert_eq!(it.peer_addr(), errno(libc::ENOTCONN));
    assert_eq!(it.poll(None), [(DIAL, W)], "the true one still comes");
    assert_eq!(it.peer_addr(), Ok(it.remote.into()));
}

#[test]
fn a_socket_that_was_never_connected_hangs_up() {
    let mut it = Dialer::new(Remote::Accepts);
    let (fd, token) = (it.fd, Token::from_bits(DIAL));
    it.kernel.register(fd, token, Interest::ReadWrite).unwrap();
    let hang_up = [W, Readiness::READ_CLOSED, Readiness::WRITE_CLOSED];
    assert_eq!(it.poll_now(), [(DIAL, ready(&hang_up))]);
    assert_eq!(it.kernel.read(fd, &mut [0]), errno(libc::ENOTCONN));
    assert_eq!(it.kernel.shutdown_write(fd), errno(libc::ENOTCONN));
    assert_eq!(it.peer_addr(), errno(libc::ENOTCONN));
    it.kernel.close(fd);
    assert_eq!(it.kernel.violations().0, 0);
}

#[test]
fn a_scripted_connect_fails_on_the_spot_or_is_under_way_as_its_errno_says() {
    for code in [libc::EINTR, libc::EALREADY, libc::EINPROGRESS] {
        let mut it = Dialer::new(Remote::Accepts);
        it.kernel.fail(Call::Connect, Errno(code), 1);
        assert_eq!(it.connect(), errno(code));
        assert_eq!(it.peer_addr(), Ok(it.remote.into()));
    }
    let mut it = Dialer::new(Remote::Accepts);
    it.kernel.fail(Call::Connect, Errno(libc::ENETUNREACH), 1);
    assert_eq!(it.connect(), errno(libc::ENETUNREACH));
    assert_eq!(it.peer_addr(), errno(libc::ENOTCONN));
    assert_eq!(it.kernel.violations().0, 0);
    it.kernel.connect(it.fd, it.remote).unwrap_err();
    assert_eq!(it.kernel.violations().0, 1, "a second connect is misuse");
    assert_eq!(it.kernel.calls(Call::Connect), 2);
}

#[test]
fn a_socket_cannot_connect_to_another_family_nor_be_used_after_that() {
    let mut it = Dialer::new(Remote::Accepts);
    let other = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 80));
    assert_eq!(it.kernel.connect(it.fd, other), errno(libc::EAFNOSUPPORT));
    assert_eq!(it.kernel.violations().0, 0);
    assert_eq!(it.kernel.connect(it.fd, it.remote), errno(libc::EISCONN));
    assert_eq!(it.kernel.violations().0, 1);
}

#[test]
fn a_mapped_address_is_an_ipv4_address() {
    let mut it = Dialer::new(Remote::Accepts);
    let mapped = Ipv4Addr::new(192, 0, 2, 9).to_ipv6_mapped();
    let mapped = SocketAddr::from((mapped, 80));
    let fd = it.kernel.socket(&dial_spec(mapped)).unwrap();
    assert_eq!(it.kernel.connect(fd, mapped), errno(libc::EINPROGRESS));
    assert_eq!(it.kernel.peer_addr(fd), Ok(it.remote.into()));
}

#[test]
fn a_scripted_getpeername_fails_once() {
    let mut it = Dialer::new(Remote::Accepts);
    it.connect().unwrap_err();
    it.kernel.fail(Call::PeerAddr, Errno(libc::ENOTCONN), 1);
    assert_eq!(it.peer_addr(), errno(libc::ENOTCONN));
    assert_eq!(it.peer_addr(), Ok(it.remote.into()));
    assert_eq!(it.kernel.calls(Call::PeerAddr), 2);
}

#[test]
fn an_attempt_leaves_from_the_address_that_was_asked_or_from_a_free_port() {
    let mut it = Dialer::new(Remote::Accepts);
    let unbound = SocketAddr::from(([0, 0, 0, 0], 0));
    assert_eq!(it.kernel.try_local_addr(it.fd), Ok(unbound));
    it.connect().unwrap_err();
    let local = it.kernel.try_local_addr(it.fd).unwrap();
    assert_eq!(
        (local.ip(), local.port() > 0),
        (IpAddr::V4(Ipv4Addr::LOCALHOST), true)
    );

    let asked = SocketAddr::from(([127, 0, 0, 1], 4_000));
    let bound = DialSpec {
        local: Some(asked),
        ..dial_spec(it.remote)
    };
    let fd = it.kernel.socket(&bound).unwrap();
    it.kernel.connect(fd, it.remote).unwrap_err();
    assert_eq!(it.kernel.try_local_addr(fd), Ok(asked));
    let in_use = Err(Fault {
        call: "bind",
        errno: Errno(libc::EADDRINUSE),
    });
    assert_eq!(it.kernel.socket(&bound), in_use);
    it.kernel.close(fd);
    assert!(it.kernel.socket(&bound).is_ok());
}

#[test]
fn opening_a_socket_fails_under_the_name_of_its_step_and_leaves_nothing_open() {
    let mut it = Dialer::new(Remote::Accepts);
    let bound = DialSpec {
        local: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        ..dial_spec(it.remote)
    };
    for (call, name) in [(Call::Socket, "socket"), (Call::Bind, "bind")] {
        it.kernel.fail(call, Errno(libc::EACCES), 1);
        let fault = it.kernel.socket(&bound).unwrap_err();
        assert_eq!((fault.call, fault.errno), (name, Errno(libc::EACCES)));
    }
    let other_family = DialSpec {
        local: Some(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 0))),
        ..bound
    };
    let fault = it.kernel.socket(&other_family).unwrap_err();
    assert_eq!(
        (fault.call, fault.errno),
        ("bind", Errno(libc::EAFNOSUPPORT))
    );
    assert_eq!(it.kernel.open_descriptors(), 1);
    it.kernel.set_descriptor_limit(1, 1);
    let fault = it.kernel.socket(&bound).unwrap_err();
    assert_eq!((fault.call, fault.errno), ("socket", Errno(libc::EMFILE)));
}

#[test]
fn options_are_those_that_the_socket_was_opened_with_or_none() {
    let mut it = Dialer::new(Remote::Accepts);
    let stream = StreamOptions {
        nodelay: Some(true),
        ..StreamOptions::default()
    };
    let spec = DialSpec {
        stream,
        ..dial_spec(it.remote)
    };
    it.kernel.fail(Call::SetOption, Errno(libc::EINVAL), 1);
    for has in [false, true] {
        let fd = it.kernel.socket(&spec).unwrap();
        assert_eq!(it.kernel.has_options(fd, &stream), has);
    }
}

#[test]
fn connections_to_one_host_are_handed_out_oldest_first_and_by_address() {
    let mut it = Dialer::new(Remote::Accepts);
    let other = SocketAddr::from(([192, 0, 2, 10], 80));
    it.kernel.set_remote(other, Remote::Accepts);
    let mut sent = Vec::new();
    for (number, remote) in [it.remote, other, it.remote].into_iter().enumerate() {
        let fd = it.kernel.socket(&dial_spec(remote)).unwrap();
        it.kernel.connect(fd, remote).unwrap_err();
        it.kernel.write(fd, &[number as u8]).unwrap();
    }
    for remote in [it.remote, it.remote, other] {
        let peer = it.kernel.dialed(remote).unwrap();
        sent.extend(it.kernel.peer_received(peer));
    }
    assert_eq!(sent, [0, 2, 1]);
}

#[test]
fn an_answer_of_the_resolver_comes_in_its_time_and_wakes_the_poll() {
    let mut it = Dialer::new(Remote::Accepts);
    it.kernel.set_lookup_delay(Duration::from_millis(40));
    it.kernel.look_up(Ticket(7), "localhost");
    it.kernel.look_up(Ticket(8), "nobody.test");
    assert!(it.poll(Some(Duration::from_millis(39))).is_empty());
    assert!(it.answers().is_empty());
    assert_eq!(it.poll(None), [(Token::WAKE.bits(), R)]);
    let first = it.answers();
    assert_eq!((first.len(), first[0].ticket), (1, Ticket(7)));
    assert_eq!(first[0].addresses.as_ref().unwrap().len(), 2);
    assert_eq!(it.poll(None), [(Token::WAKE.bits(), R)]);
    assert_eq!(
        it.kernel.elapsed(),
        Duration::from_millis(80),
        "one after the other"
    );
    let error = it.answers().remove(0).addresses.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    assert_eq!(error.to_string(), "no such host");
    assert_eq!(it.kernel.next_arrival(), None);
    assert_eq!(it.kernel.calls(Call::LookUp), 2);
}

#[test]
fn without_a_delay_the_answer_is_there_at_once_and_announced_once() {
    let mut it = Dialer::new(Remote::Accepts);
    assert!(!it.kernel.has_news());
    it.kernel.look_up(Ticket(1), "192.0.2.7");
    it.kernel.look_up(Ticket(2), "::1");
    assert!(it.kernel.has_news());
    assert_eq!(it.poll_now(), [(Token::WAKE.bits(), R)]);
    assert!(it.poll_now().is_empty());
    let tickets: Vec<_> = it.answers().iter().map(|answer| answer.ticket).collect();
    assert_eq!(tickets, [Ticket(1), Ticket(2)]);
    assert!(it.answers().is_empty(), "an answer is handed out once");
}

#[test]
fn a_name_that_never_answers_holds_up_those_behind_it() {
    let mut it = Dialer::new(Remote::Accepts);
    it.kernel.silence_name("stuck.test");
    it.kernel.look_up(Ticket(1), "stuck.test");
    it.kernel.look_up(Ticket(2), "localhost");
    assert!(it.poll(Some(Duration::from_secs(600))).is_empty());
    assert!(it.answers().is_empty());
    assert_eq!(it.kernel.next_arrival(), None);
    let error = it.kernel.lookup("stuck.test").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn a_scripted_look_up_answers_its_errno_in_its_time() {
    let mut it = Dialer::new(Remote::Accepts);
    it.kernel.set_lookup_delay(Duration::from_millis(40));
    it.kernel.fail(Call::LookUp, Errno(libc::EMFILE), 1);
    it.kernel.look_up(Ticket(1), "localhost");
    assert_eq!(it.poll(None), [(Token::WAKE.bits(), R)]);
    assert_eq!(it.kernel.elapsed(), Duration::from_millis(40));
    let error = it.answers().remove(0).addresses.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
}

/// A host that dials its own listener: the world, and the dialing end, registered.
fn dialed_itself(backlog: i32) -> (World, Fd) {
    let mut kernel = SimKernel::new(1);
    kernel.set_buffers(4, 4);
    let mut world = World::with(kernel, backlog);
    let fd = dial_into(&mut world);
    (world, fd)
}

fn dial_into(world: &mut World) -> Fd {
    let (addr, token) = (world.addr, Token::from_bits(DIAL));
    let fd = world.kernel.socket(&dial_spec(addr)).unwrap();
    let result = world.kernel.connect(fd, addr);
    assert_eq!(result, errno(libc::EINPROGRESS));
    let kernel = &mut world.kernel;
    kernel.register(fd, token, Interest::ReadWrite).unwrap();
    fd
}

/// Takes the listener's end of it, registered, all first events taken.
fn accept_own(world: &mut World) -> Fd {
    let (fd, _) = world.kernel.accept(world.listener).unwrap();
    let token = Token::from_bits(CONN);
    let kernel = &mut world.kernel;
    kernel.register(fd, token, Interest::ReadWrite).unwrap();
    world.poll();
    fd
}

#[test]
fn a_host_that_dials_its_own_listener_has_both_ends() {
    let (mut world, near) = dialed_itself(8);
    assert_eq!(world.poll(), [(LISTENER, R), (DIAL, W)]);
    let (far, from) = world.kernel.accept(world.listener).unwrap();
    assert_eq!(world.kernel.try_local_addr(near).map(Addr::from), Ok(from));
    assert_eq!(world.kernel.peer_addr(near), Ok(world.addr.into()));
    assert_eq!(world.kernel.try_local_addr(far), Ok(world.addr));
    assert_eq!(world.kernel.dialed(world.addr), None);
    for (one, other) in [(near, far), (far, near)] {
        assert_eq!(world.kernel.write(one, b"here"), Ok(4));
        assert_eq!(world.read(other, FOREVER).unwrap(), b"here");
    }
}

#[test]
fn both_ends_of_one_host_push_back_and_no_edge_is_lost() {
    for latency in [0, 3] {
        let (mut world, near) = dialed_itself(8);
        world.kernel.set_latency(Duration::from_millis(latency));
        let far = accept_own(&mut world);
        let all: Vec<u8> = (0..100).collect();
        let (mut sent, mut got, mut ended) = (0, Vec::new(), false);
        let mut edges = vec![(DIAL, W)];
        while !edges.is_empty() {
            for (token, _) in edges {
                while token == DIAL && sent < all.len() {
                    let Ok(count) = world.kernel.write(near, &all[sent..]) else {
                        break;
                    };
                    sent += count;
                    assert!(sent - got.len() <= 16, "two pipes of eight bytes");
                    if sent == all.len() {
                        world.kernel.close(near);
                    }
                }
                while token == CONN
                    && !ended
                    && let Ok(piece) = world.read(far, FOREVER)
                {
                    ended = piece.is_empty();
                    got.extend(piece);
                }
            }
            edges = world.poll_for(None);
        }
        assert_eq!((got, ended), (all, true));
    }
}

#[test]
fn a_reset_between_two_ends_of_one_host_arrives() {
    for reset_near in [true, false] {
        let (mut world, near) = dialed_itself(8);
        let far = accept_own(&mut world);
        let (gone, left) = if reset_near { (near, far) } else { (far, near) };
        world.kernel.reset(gone);
        let events = world.poll();
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].1, failure());
        assert_eq!(world.read(left, 1), errno(libc::ECONNRESET));
        world.kernel.close(left);
        assert_eq!(world.kernel.violations().0, 0);
    }
}

#[test]
fn a_full_queue_of_its_own_keeps_a_host_waiting() {
    let (mut world, _) = dialed_itself(1);
    let second = dial_into(&mut world);
    let third = dial_into(&mut world);
    let fourth = dial_into(&mut world);
    world.poll();
    assert_eq!(world.kernel.peer_addr(second), errno(libc::ENOTCONN));
    world.kernel.accept(world.listener).unwrap();
    assert_eq!(world.kernel.peer_addr(second), Ok(world.addr.into()));
    world.kernel.close(third);
    world.kernel.close(world.listener);
    let errors = [second, fourth].map(|fd| world.kernel.take_error(fd));
    let expected = [libc::ECONNRESET, libc::ECONNREFUSED];
    assert_eq!(errors, expected.map(|code| Some(Errno(code))));
}

#[test]
fn an_attempt_at_its_own_listener_that_is_given_up_looks_like_any_client_that_left() {
    let mut world = World::new(1);
    world.kernel.set_latency(Duration::from_millis(3));
    let queued = dial_into(&mut world);
    let waiting = dial_into(&mut world);
    let last = dial_into(&mut world);
    world.kernel.close(queued);
    world.kernel.close(waiting);
    let (fd, _) = world.kernel.accept(world.listener).unwrap();
    assert_eq!(world.kernel.queue(world.listener), Ok((1, 1)));
    world.kernel.advance(Duration::from_millis(3));
    assert_eq!(world.read(fd, FOREVER).unwrap(), b"");
    world.kernel.accept(world.listener).unwrap();
    assert_eq!(world.kernel.accept(world.listener), errno(libc::EAGAIN));
    world.kernel.advance(Duration::from_secs(1));
    assert_eq!(world.kernel.peer_addr(last), Ok(world.addr.into()));
}

#[test]
fn whoever_dials_its_own_address_talks_to_itself() {
    let mut it = Dialer::new(Remote::Refuses);
    let itself = SocketAddr::from(([127, 0, 0, 1], 5_000));
    let spec = DialSpec {
        local: Some(itself),
        ..dial_spec(itself)
    };
    let fd = it.kernel.socket(&spec).unwrap();
    it.kernel.connect(fd, itself).unwrap_err();
    assert_eq!(it.kernel.peer_addr(fd), Ok(itself.into()));
    assert_eq!(it.kernel.try_local_addr(fd), Ok(itself));
    assert_eq!(it.kernel.write(fd, b"hello?"), Ok(6));
    let mut buffer = [0; 16];
    assert_eq!(it.kernel.read(fd, &mut buffer), Ok(6));
    it.kernel.shutdown_write(fd).unwrap();
    assert_eq!(it.kernel.read(fd, &mut buffer), Ok(0));
    it.kernel.close(fd);
}

/// Random attempts at hosts of every kind and at itself; answers the trace.
fn random_dialing(seed: u64) -> Vec<String> {
    let mut kernel = SimKernel::new(seed);
    kernel.set_trace(true);
    kernel.set_buffers(16, 16);
    let mut world = World::with(kernel, 1);
    let late = Duration::from_millis(7);
    let after = Remote::AcceptsAfter(late);
    let fails = Remote::Fails {
        errno: libc::ETIMEDOUT,
        after: late,
    };
    let kinds = [Remote::Accepts, Remote::AcceptsAtOnce, after, fails];
    let mut targets = vec![world.addr, SocketAddr::from(([192, 0, 2, 1], 9))];
    for (number, kind) in kinds.into_iter().enumerate() {
        let addr = SocketAddr::from(([192, 0, 2, 2], number as u16));
        world.kernel.set_remote(addr, kind);
        targets.push(addr);
    }
    let (mut fds, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..400 {
        let roll = world.kernel.random();
        let some = (roll >> 32) as usize;
        let target = targets[some % targets.len()];
        let fd = (!fds.is_empty()).then(|| fds[some % fds.len()]);
        match (roll % 10, fd) {
            (0 | 1, _) => {
                let fd = world.kernel.socket(&dial_spec(target)).unwrap();
                let _ = world.kernel.connect(fd, target);
                fds.push(fd);
            }
            (2, _) => fds.extend(world.kernel.accept(world.listener).map(|(fd, _)| fd)),
            (3, _) => peers.extend(world.kernel.dialed(target)),
            (4, Some(fd)) => drop(world.read(fd, some % 32)),
            (5, Some(fd)) => drop(world.kernel.write(fd, &[9; 24])),
            (6, Some(fd)) if some.is_multiple_of(3) => {
                world.kernel.end(fd, "end", some.is_multiple_of(2));
                fds.retain(|&open| open != fd);
            }
            (7, _) if some.is_multiple_of(4) => peers.iter().for_each(|&it| {
                world.kernel.peer_send_all(it, &[7; 20]);
                world.kernel.peer_reset(it);
            }),
            (8, Some(fd)) => drop(world.kernel.shutdown_write(fd)),
            (9, _) => {
                let latency = Duration::from_millis(some as u64 % 3);
                world.kernel.set_latency(latency);
            }
            _ => drop(world.poll_for(Some(Duration::from_millis(some as u64 % 4)))),
        }
    }
    assert_eq!(world.kernel.violations().0, 0);
    world.kernel.trace()
}

#[test]
fn a_run_that_dials_follows_from_its_seed() {
    for seed in 0..50 {
        assert_eq!(random_dialing(seed), random_dialing(seed), "seed {seed}");
    }
}
