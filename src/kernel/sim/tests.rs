//! The model against what is known of a real host.

use std::net::{Ipv4Addr, SocketAddr};

use super::*;
use crate::kernel::Transport;

mod dial;
mod packets;
mod unix;

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
        addr: SocketAddr::from(([127, 0, 0, 1], 0)).into(),
        transport: Transport::Stream,
        mode: None,
        only_v6: true,
        backlog,
        reuse_port: false,
        stream: StreamOptions::default(),
        prepare: None,
    }
}

/// The address of a socket on IP.
fn local(kernel: &mut SimKernel, fd: Fd) -> SocketAddr {
    kernel.local_addr(fd).unwrap().as_socket_addr().unwrap()
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
        let addr = local(&mut kernel, listener);
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
    assert_eq!(from, world.kernel.client_addr(peer));
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
fn a_capped_write_may_go_on_at_once_and_nobody_announces_it() {
    let mut world = World::new(8);
    let (peer, fd) = world.pair();
    world.kernel.short_writes(Some(3));
    let parts = [
        IoSlice::new(b"ab"),
        IoSlice::new(b""),
        IoSlice::new(b"cdef"),
    ];
    assert_eq!(world.kernel.write_parts(fd, &parts), Ok(3));
    assert!(world.poll().is_empty(), "there was room, and no refusal");
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
        addr: world.addr.into(),
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
            addr: wildcard.into(),
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
    let addr = local(&mut kernel, listener);
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
    let addr = local(&mut kernel, first);
    let second = kernel
        .listen(&ListenSpec {
            addr: addr.into(),
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

/// A spare descriptor is a file that nobody speaks through.
#[test]
fn a_verb_of_sockets_on_something_else_is_refused_as_a_system_refuses_it() {
    let mut world = World::new(8);
    let (_, fd) = world.pair();
    let listener = world.listener;
    let kernel = &mut world.kernel;
    let spare = kernel.spare().unwrap();
    let interest = Interest::ReadWrite;
    let token = Token::from_bits(CONN + 1);
    assert_eq!(kernel.register(spare, token, interest), errno(libc::EPERM));
    assert_eq!(kernel.read(spare, &mut [0]), errno(libc::ENOTSOCK));
    assert_eq!(kernel.read(listener, &mut [0]), errno(libc::ENOTCONN));
    assert_eq!(kernel.accept(spare), errno(libc::ENOTSOCK));
    assert_eq!(kernel.accept(fd), errno(libc::EINVAL));
    assert_eq!(kernel.local_addr(spare), errno(libc::ENOTSOCK));
    assert_eq!(kernel.peer_addr(spare), errno(libc::ENOTSOCK));
    assert_eq!(kernel.peer_addr(listener), errno(libc::ENOTCONN));
    assert_eq!(kernel.take_error(listener), None);
    let batch = &mut Batch::new(1, 16);
    assert_eq!(kernel.receive(spare, batch), errno(libc::ENOTSOCK));
    assert_eq!(kernel.violations().0, 0);
}

#[test]
fn a_vectored_write_of_too_many_parts_is_the_loops_mistake() {
    let mut world = World::new(8);
    let (_, fd) = world.pair();
    let parts = vec![IoSlice::new(b"x"); MAX_PARTS + 1];
    assert_eq!(world.kernel.write_parts(fd, &parts), errno(libc::EINVAL));
    assert_eq!(world.kernel.violations().0, 1);
}

#[test]
fn sockets_of_a_real_system_mean_nothing_here() {
    let mut world = World::new(8);
    let (_, fd) = world.pair();
    let real = || std::fs::File::open("/dev/null").unwrap().into();
    let kernel = &mut world.kernel;
    assert!(kernel.adopt_listener(real()).is_err());
    assert!(kernel.adopt_stream(real()).is_err());
    assert!(kernel.adopt_packets(real()).is_err());
    assert!(kernel.duplicate(fd).is_err());
}
