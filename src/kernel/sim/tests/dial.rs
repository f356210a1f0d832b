//! Connecting out, names, and a host that talks to itself.

use super::*;

/// A kernel with one socket for a host far away.
struct Dialer {
    kernel: SimKernel,
    remote: SocketAddr,
    fd: Fd,
}

const DIAL: u64 = 300;

fn dial_spec(remote: SocketAddr) -> DialSpec {
    DialSpec {
        remote: remote.into(),
        transport: Transport::Stream,
        local: None,
        stream: StreamOptions::default(),
        prepare: None,
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
        let result = self.kernel.connect(self.fd, &self.remote.into());
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
    assert_eq!(it.kernel.client_addr(peer), it.remote.into());
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
    it.kernel.connect(second, &it.remote.into()).unwrap_err();
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
    it.kernel.connect(it.fd, &it.remote.into()).unwrap_err();
    assert_eq!(it.kernel.violations().0, 1, "a second connect is misuse");
    assert_eq!(it.kernel.calls(Call::Connect), 2);
}

#[test]
fn a_socket_cannot_connect_to_another_family_nor_be_used_after_that() {
    let mut it = Dialer::new(Remote::Accepts);
    let other = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 80));
    assert_eq!(
        it.kernel.connect(it.fd, &other.into()),
        errno(libc::EAFNOSUPPORT)
    );
    assert_eq!(it.kernel.violations().0, 0);
    assert_eq!(
        it.kernel.connect(it.fd, &it.remote.into()),
        errno(libc::EISCONN)
    );
    assert_eq!(it.kernel.violations().0, 1);
}

#[test]
fn a_mapped_address_is_an_ipv4_address() {
    let mut it = Dialer::new(Remote::Accepts);
    let mapped = Ipv4Addr::new(192, 0, 2, 9).to_ipv6_mapped();
    let mapped = SocketAddr::from((mapped, 80));
    let fd = it.kernel.socket(&dial_spec(mapped)).unwrap();
    assert_eq!(
        it.kernel.connect(fd, &mapped.into()),
        errno(libc::EINPROGRESS)
    );
    assert_eq!(it.kernel.peer_addr(fd), Ok(it.remote.into()));
}

#[test]
fn every_errno_of_connect_can_be_scripted_and_one_means_success() {
    let failures = [
        libc::EAGAIN,
        libc::EADDRNOTAVAIL,
        libc::EINVAL,
        libc::ETIMEDOUT,
        libc::ECONNREFUSED,
        libc::EHOSTUNREACH,
        libc::ENOBUFS,
        libc::EPERM,
    ];
    for code in failures {
        let mut it = Dialer::new(Remote::Accepts);
        it.kernel.fail(Call::Connect, Errno(code), 1);
        assert_eq!(it.connect(), errno(code));
        assert_eq!(it.peer_addr(), errno(libc::ENOTCONN));
    }
    let mut it = Dialer::new(Remote::AcceptsAfter(Duration::from_secs(3)));
    it.kernel.fail(Call::Connect, Errno(libc::EISCONN), 1);
    assert_eq!(it.connect(), errno(libc::EISCONN));
    assert_eq!(it.peer_addr(), Ok(it.remote.into()));
    assert_eq!(it.poll_now(), [(DIAL, W)]);
    it.kernel.advance(Duration::from_secs(3));
    assert!(it.poll_now().is_empty());
}

#[test]
fn every_errno_can_be_scripted_as_the_error_of_a_socket() {
    let mut it = Dialer::new(Remote::Accepts);
    it.connect().unwrap_err();
    it.poll_now();
    for code in [libc::EINPROGRESS, libc::EALREADY, libc::EINTR] {
        it.kernel.fail(Call::TakeError, Errno(code), 1);
        assert_eq!(it.kernel.take_error(it.fd), Some(Errno(code)));
        assert_eq!(it.poll_now(), [(DIAL, W)], "its end is still to come");
    }
    for code in [libc::EISCONN, libc::ENOTSOCK, libc::EHOSTUNREACH] {
        it.kernel.fail(Call::TakeError, Errno(code), 1);
        assert_eq!(it.kernel.take_error(it.fd), Some(Errno(code)));
        assert!(it.poll_now().is_empty());
    }
    assert_eq!(it.kernel.take_error(it.fd), None);
    assert_eq!(it.kernel.calls(Call::TakeError), 7);
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
    assert_eq!(it.kernel.local_addr(it.fd), Ok(unbound.into()));
    it.connect().unwrap_err();
    let local = local(&mut it.kernel, it.fd);
    assert_eq!(
        (local.ip(), local.port() > 0),
        (IpAddr::V4(Ipv4Addr::LOCALHOST), true)
    );

    let asked = SocketAddr::from(([127, 0, 0, 1], 4_000));
    let bound = DialSpec {
        local: Some(asked.into()),
        ..dial_spec(it.remote)
    };
    let fd = it.kernel.socket(&bound).unwrap();
    it.kernel.connect(fd, &it.remote.into()).unwrap_err();
    assert_eq!(it.kernel.local_addr(fd), Ok(asked.into()));
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
        local: Some(SocketAddr::from(([127, 0, 0, 1], 0)).into()),
        ..dial_spec(it.remote)
    };
    for (call, name) in [(Call::Socket, "socket"), (Call::Bind, "bind")] {
        it.kernel.fail(call, Errno(libc::EACCES), 1);
        let fault = it.kernel.socket(&bound).unwrap_err();
        assert_eq!((fault.call, fault.errno), (name, Errno(libc::EACCES)));
    }
    let other_family = DialSpec {
        local: Some(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 0)).into()),
        ..bound.clone()
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
        it.kernel.connect(fd, &remote.into()).unwrap_err();
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
    let result = world.kernel.connect(fd, &addr.into());
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
    assert_eq!(world.kernel.local_addr(near), Ok(from));
    assert_eq!(world.kernel.peer_addr(near), Ok(world.addr.into()));
    assert_eq!(world.kernel.local_addr(far), Ok(world.addr.into()));
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
        local: Some(itself.into()),
        ..dial_spec(itself)
    };
    let fd = it.kernel.socket(&spec).unwrap();
    it.kernel.connect(fd, &itself.into()).unwrap_err();
    assert_eq!(it.kernel.peer_addr(fd), Ok(itself.into()));
    assert_eq!(it.kernel.local_addr(fd), Ok(itself.into()));
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
                let _ = world.kernel.connect(fd, &target.into());
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
