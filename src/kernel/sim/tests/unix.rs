//! Unix streams and records against what is known of Linux.

use std::os::fd::OwnedFd;
use std::path::Path;

use super::packets::{at, bound, fault};
use super::*;
use crate::kernel::sim::names::unix_name;
use crate::kernel::{Message, PeerCred};

const PATH: &str = "/run/x.sock";

fn unix_spec(path: &str, transport: Transport) -> ListenSpec {
    ListenSpec {
        addr: at(path),
        transport,
        ..spec(4)
    }
}

fn dial_spec(path: &str, transport: Transport) -> DialSpec {
    DialSpec {
        remote: at(path),
        transport,
        local: None,
        stream: StreamOptions::default(),
        prepare: None,
    }
}

/// A host with a registered listener at `PATH`.
fn host(transport: Transport) -> World {
    host_of(SimKernel::new(1), transport)
}

fn host_of(mut kernel: SimKernel, transport: Transport) -> World {
    let listener = kernel.listen(&unix_spec(PATH, transport)).unwrap();
    let token = Token::from_bits(LISTENER);
    kernel.register(listener, token, Interest::Read).unwrap();
    World {
        kernel,
        addr: SocketAddr::from(([0, 0, 0, 0], 0)),
        listener,
    }
}

impl World {
    fn unix_pair(&mut self) -> (Peer, Fd) {
        let peer = self.kernel.new_unix_client(Path::new(PATH)).unwrap();
        let (fd, from) = self.kernel.accept(self.listener).unwrap();
        assert_eq!(from, Addr::from(unix_name(Path::new(""))));
        let token = Token::from_bits(CONN);
        self.kernel
            .register(fd, token, Interest::ReadWrite)
            .unwrap();
        self.poll();
        (peer, fd)
    }

    fn message(&mut self, fd: Fd, most: usize) -> Result<(Vec<u8>, bool), Errno> {
        let mut buffer = vec![0; most];
        let Message { len, truncated } = self.kernel.receive_message(fd, &mut buffer, None)?;
        buffer.truncate(len);
        Ok((buffer, truncated))
    }

    fn dial_unix(&mut self, path: &str, transport: Transport) -> (Fd, Result<(), Errno>) {
        let fd = self.kernel.socket(&dial_spec(path, transport)).unwrap();
        let result = self.kernel.connect(fd, &at(path));
        (fd, result)
    }

    fn register(&mut self, fd: Fd) {
        let token = Token::from_bits(CONN);
        let kernel = &mut self.kernel;
        kernel.register(fd, token, Interest::ReadWrite).unwrap();
    }
}

#[test]
fn a_unix_stream_carries_bytes_both_ways_whatever_the_latency() {
    let mut world = host(Transport::Stream);
    world.kernel.set_latency(Duration::from_secs(1));
    let (peer, fd) = world.unix_pair();
    assert_eq!(world.kernel.local_addr(fd), Ok(at(PATH)));
    assert_eq!(
        world.kernel.peer_addr(fd),
        Ok(unix_name(Path::new("")).into())
    );
    world.kernel.peer_send(peer, b"one");
    world.kernel.peer_send(peer, b"two");
    assert_eq!(world.poll(), [(CONN, ready(&[R, W]))]);
    assert_eq!(world.read(fd, FOREVER).unwrap(), b"onetwo");
    assert_eq!(world.kernel.write(fd, b"reply"), Ok(5));
    assert_eq!(world.kernel.peer_received(peer), b"reply");
    assert_eq!(world.kernel.elapsed(), Duration::ZERO);
}

#[test]
fn a_path_is_in_use_as_long_as_it_stands_there() {
    let mut world = host(Transport::Stream);
    let stream = unix_spec(PATH, Transport::Stream);
    let in_use = fault("bind", libc::EADDRINUSE);
    assert_eq!(world.kernel.listen(&stream), in_use);
    assert_eq!(world.kernel.bind(&bound(Some(PATH), None)), in_use);
    let path = Path::new(PATH);
    let before = world.kernel.path_identity(path).unwrap();
    world.kernel.close(world.listener);
    assert_eq!(world.kernel.path_identity(path), Ok(before), "it stays");
    assert_eq!(world.kernel.listen(&stream), in_use);
    world.kernel.unlink(path).unwrap();
    assert_eq!(world.kernel.unlink(path), errno(libc::ENOENT));
    assert_eq!(world.kernel.path_identity(path), errno(libc::ENOENT));
    let private = ListenSpec {
        mode: Some(0o600),
        ..stream
    };
    world.kernel.listen(&private).unwrap();
    assert_ne!(world.kernel.path_identity(path), Ok(before));
    assert_eq!(world.kernel.mode_at(path), Some(0o600));

    let hidden = unix_spec("@x", Transport::Stream);
    let first = world.kernel.listen(&hidden).unwrap();
    assert_eq!(world.kernel.listen(&hidden), in_use);
    world.kernel.close(first);
    assert!(
        world.kernel.listen(&hidden).is_ok(),
        "no name is left behind"
    );
}

#[test]
fn who_knocks_learns_whether_anybody_is_there() {
    let mut world = host(Transport::Stream);
    world.kernel.leave(Path::new("/run/stale"), true);
    world.kernel.leave(Path::new("/run/file"), false);
    let rows = [
        ("/run/nothing", libc::ENOENT),
        ("/run/stale", libc::ECONNREFUSED),
        ("/run/file", libc::ECONNREFUSED),
        ("@nothing", libc::ECONNREFUSED),
    ];
    let mut knock = |path: &str, kind| world.kernel.knock(&unix_name(Path::new(path)), kind);
    for (path, code) in rows {
        assert_eq!(knock(path, Transport::Stream), errno(code), "{path}");
    }
    assert_eq!(knock(PATH, Transport::Records), errno(libc::EPROTOTYPE));
    assert_eq!(knock(PATH, Transport::Datagrams), errno(libc::EPROTOTYPE));
    assert_eq!(knock(PATH, Transport::Stream), Ok(()));
    assert_eq!(world.poll(), [(LISTENER, R)]);
    let (visitor, _) = world.kernel.accept(world.listener).unwrap();
    assert_eq!(world.read(visitor, 1).unwrap(), b"", "it has left already");
    world.kernel.bind(&bound(Some("/run/log"), None)).unwrap();
    let log = unix_name(Path::new("/run/log"));
    assert_eq!(world.kernel.knock(&log, Transport::Datagrams), Ok(()));
}

#[test]
fn connecting_is_decided_when_the_call_returns() {
    let mut world = host(Transport::Stream);
    world.kernel.leave(Path::new("/run/stale"), true);
    world.kernel.bind(&bound(Some("/run/log"), None)).unwrap();
    let rows = [
        ("/run/nothing", Transport::Stream, libc::ENOENT),
        ("/run/stale", Transport::Stream, libc::ECONNREFUSED),
        ("/run/log", Transport::Stream, libc::EPROTOTYPE),
        (PATH, Transport::Records, libc::EPROTOTYPE),
    ];
    for (path, transport, code) in rows {
        let (fd, result) = world.dial_unix(path, transport);
        assert_eq!(result, errno(code), "{path}");
        world.kernel.close(fd);
    }
    let (fd, result) = world.dial_unix(PATH, Transport::Stream);
    assert_eq!(result, Ok(()));
    assert_eq!(world.kernel.peer_addr(fd), Ok(at(PATH)));
    world.register(fd);
    assert_eq!(world.poll(), [(LISTENER, R), (CONN, W)]);
    let (far, _) = world.kernel.accept(world.listener).unwrap();
    for (one, other) in [(fd, far), (far, fd)] {
        assert_eq!(world.kernel.write(one, b"here"), Ok(4));
        assert_eq!(world.read(other, FOREVER).unwrap(), b"here");
    }
    let ip = world.kernel.socket(&DialSpec {
        remote: at("127.0.0.1:1"),
        ..dial_spec(PATH, Transport::Stream)
    });
    assert_eq!(
        world.kernel.connect(ip.unwrap(), &at(PATH)),
        errno(libc::EAFNOSUPPORT)
    );
    assert_eq!(world.kernel.violations().0, 0);
}

#[test]
fn a_full_accept_queue_turns_everybody_away() {
    let mut world = host(Transport::Stream);
    for _ in 0..4 {
        world.kernel.new_unix_client(Path::new(PATH)).unwrap();
    }
    let late = world.kernel.new_unix_client(Path::new(PATH));
    assert_eq!(late, errno(libc::EAGAIN));
    let (fd, result) = world.dial_unix(PATH, Transport::Stream);
    assert_eq!(result, errno(libc::EAGAIN));
    assert_eq!(world.kernel.peer_addr(fd), errno(libc::ENOTCONN));
    assert_eq!(world.kernel.queue(world.listener), errno(libc::ENOTSUP));
    world.kernel.accept(world.listener).unwrap();
    assert_eq!(world.dial_unix(PATH, Transport::Stream).1, Ok(()));
}

#[test]
fn an_upstream_of_a_test_answers_at_its_path() {
    let mut world = host(Transport::Stream);
    let rows = [
        (Remote::Accepts, Ok(())),
        (Remote::Refuses, errno(libc::ECONNREFUSED)),
        (Remote::Silent, errno(libc::EAGAIN)),
        (
            Remote::Fails {
                errno: libc::EACCES,
                after: Duration::ZERO,
            },
            errno(libc::EACCES),
        ),
    ];
    let path = Path::new("/run/up.sock");
    for (remote, expected) in rows {
        world.kernel.set_unix_remote(path, remote);
        let (fd, result) = world.dial_unix("/run/up.sock", Transport::Records);
        assert_eq!(result, expected);
        let far_end = world.kernel.unix_dialed(path);
        assert_eq!(far_end.is_some(), expected.is_ok());
        if let Some(peer) = far_end {
            world.kernel.peer_send_all(peer, b"hello");
            assert_eq!(world.message(fd, 9), Ok((b"hello".to_vec(), false)));
            world.kernel.write(fd, b"you").unwrap();
            assert_eq!(world.kernel.peer_received_records(peer), [b"you"]);
        }
    }
    let stands = world.kernel.path_identity(path);
    assert!(stands.is_ok_and(|it| it.is_socket));
}

#[test]
fn a_dialing_socket_comes_from_the_name_that_it_was_given() {
    let mut world = host(Transport::Stream);
    let named = DialSpec {
        local: Some(at("@dialer")),
        ..dial_spec(PATH, Transport::Stream)
    };
    let fd = world.kernel.socket(&named).unwrap();
    assert_eq!(world.kernel.socket(&named), fault("bind", libc::EADDRINUSE));
    world.kernel.connect(fd, &at(PATH)).unwrap();
    let (_, from) = world.kernel.accept(world.listener).unwrap();
    assert_eq!(from, at("@dialer"));
    world.kernel.close(fd);
    assert!(world.kernel.socket(&named).is_ok());
}

#[test]
fn records_keep_their_bounds_and_their_emptiness() {
    let mut world = host(Transport::Records);
    let (peer, fd) = world.unix_pair();
    for record in [&b"one"[..], b"", b"three", b"4"] {
        world.kernel.peer_send_all(peer, record);
    }
    assert_eq!(world.poll(), [(CONN, ready(&[R, W]))]);
    assert_eq!(world.message(fd, 16), Ok((b"one".to_vec(), false)));
    assert_eq!(world.message(fd, 16), Ok((Vec::new(), false)));
    assert_eq!(world.message(fd, 2), Ok((b"th".to_vec(), true)));
    assert_eq!(world.read(fd, 16).unwrap(), b"4", "the rest of it is lost");
    assert_eq!(world.message(fd, 16), errno(libc::EAGAIN));
    let parts = [IoSlice::new(b"fi"), IoSlice::new(b"ve")];
    assert_eq!(world.kernel.write_parts(fd, &parts), Ok(4));
    assert_eq!(world.kernel.write(fd, b"six"), Ok(3));
    let heard = world.kernel.peer_received_records(peer);
    assert_eq!(heard, [&b"five"[..], b"six"]);
    world.kernel.peer_close(peer);
    assert_eq!(world.message(fd, 16), Ok((Vec::new(), false)));
}

#[test]
fn short_reads_and_short_writes_cut_no_record() {
    let mut world = host(Transport::Records);
    let (peer, fd) = world.unix_pair();
    world.kernel.short_reads(Some(1));
    world.kernel.short_writes(Some(1));
    world.kernel.peer_send_all(peer, b"one");
    world.kernel.peer_send_all(peer, b"two");
    for record in [b"one", b"two"] {
        assert_eq!(world.poll(), [(CONN, ready(&[R, W]))]);
        assert_eq!(world.message(fd, 16), Ok((record.to_vec(), false)));
        assert_eq!(world.message(fd, 16), errno(libc::EAGAIN));
    }
    assert_eq!(world.kernel.write(fd, b"three"), Ok(5));
    assert_eq!(world.kernel.peer_received_records(peer), [b"three"]);
}

#[test]
fn a_record_that_is_too_long_is_refused_and_one_without_room_waits() {
    let mut kernel = SimKernel::new(1);
    kernel.set_buffers(4, 4);
    let mut world = host_of(kernel, Transport::Records);
    let (peer, fd) = world.unix_pair();
    world.kernel.peer_pause(peer);
    assert_eq!(world.kernel.write(fd, b"123456789"), errno(libc::EMSGSIZE));
    assert_eq!(world.kernel.write(fd, b"123456"), Ok(6));
    assert_eq!(world.kernel.write(fd, b"123456"), Ok(6), "it began in room");
    assert_eq!(world.kernel.write(fd, b"1"), errno(libc::EAGAIN));
    assert!(world.poll().is_empty());
    world.kernel.peer_read_some(peer, 1);
    assert_eq!(world.poll(), [(CONN, W)]);
    assert_eq!(world.kernel.write(fd, b"1"), Ok(1));
    world.kernel.peer_resume(peer);
    let lens: Vec<usize> = world
        .kernel
        .peer_received_records(peer)
        .iter()
        .map(Vec::len)
        .collect();
    assert_eq!(lens, [6, 6, 1]);
}

#[test]
fn a_client_that_closes_is_gone_in_both_directions() {
    let mut world = host(Transport::Stream);
    let (peer, fd) = world.unix_pair();
    world.kernel.peer_send(peer, b"bye");
    world.kernel.peer_close(peer);
    let all = [R, W, Readiness::READ_CLOSED, Readiness::WRITE_CLOSED];
    assert_eq!(world.poll(), [(CONN, ready(&all))]);
    assert_eq!(world.kernel.write(fd, b"x"), errno(libc::EPIPE));
    assert_eq!(world.read(fd, FOREVER).unwrap(), b"bye");
    assert_eq!(world.read(fd, FOREVER).unwrap(), b"");
    assert_eq!(world.kernel.shutdown_write(fd), Ok(()));
    assert_eq!(world.kernel.take_error(fd), None);
}

#[test]
fn a_client_that_leaves_input_unread_resets_behind_its_bytes() {
    let mut world = host(Transport::Stream);
    let (peer, fd) = world.unix_pair();
    world.kernel.peer_pause(peer);
    world.kernel.write(fd, b"unread").unwrap();
    world.kernel.peer_send(peer, b"bye");
    world.kernel.peer_close(peer);
    assert_eq!(world.kernel.write(fd, b"x"), errno(libc::EPIPE));
    assert_eq!(world.read(fd, FOREVER).unwrap(), b"bye");
    assert_eq!(world.read(fd, FOREVER), errno(libc::ECONNRESET));
    assert_eq!(world.read(fd, FOREVER).unwrap(), b"");
}

#[test]
fn a_close_of_ours_delivers_what_was_written_even_if_it_resets() {
    for (unread, by_reset) in [(false, false), (true, false), (false, true)] {
        let mut world = host(Transport::Stream);
        let (peer, fd) = world.unix_pair();
        world.kernel.peer_pause(peer);
        world.kernel.write(fd, b"reply").unwrap();
        if unread {
            world.kernel.peer_send(peer, b"unread");
        }
        world.kernel.end(fd, "end", by_reset);
        world.kernel.peer_resume(peer);
        assert_eq!(world.kernel.peer_received(peer), b"reply");
        let error = unread.then_some(Errno(libc::ECONNRESET));
        assert_eq!(world.kernel.peer_error(peer), error);
        assert_eq!(world.kernel.peer_saw_eof(peer), !unread);
        world.kernel.peer_send_all(peer, b"too late");
        assert_eq!(world.kernel.violations().0, 0);
    }
}

#[test]
fn both_ends_of_one_host_part_as_strangers_do() {
    for unread in [false, true] {
        let mut world = host(Transport::Records);
        let (near, _) = world.dial_unix(PATH, Transport::Records);
        let (far, _) = world.kernel.accept(world.listener).unwrap();
        world.register(far);
        world.poll();
        for record in [&b"one"[..], b"", b"two"] {
            world.kernel.write(near, record).unwrap();
        }
        if unread {
            world.kernel.write(far, b"unread").unwrap();
        }
        world.kernel.close(near);
        let mut expected = [R, W, Readiness::READ_CLOSED, Readiness::WRITE_CLOSED].to_vec();
        expected.extend(unread.then_some(Readiness::ERROR));
        assert_eq!(world.poll(), [(CONN, ready(&expected))]);
        assert_eq!(world.kernel.write(far, b"x"), errno(libc::EPIPE));
        for record in [&b"one"[..], b"", b"two"] {
            assert_eq!(world.message(far, 9), Ok((record.to_vec(), false)));
        }
        if unread {
            assert_eq!(world.message(far, 9), errno(libc::ECONNRESET));
        }
        assert_eq!(world.message(far, 9), Ok((Vec::new(), false)));
        world.kernel.close(far);
        assert_eq!(world.kernel.violations().0, 0);
    }
}

#[test]
fn what_found_no_room_reaches_the_other_end_of_one_host_after_a_close() {
    for unread in [false, true] {
        let mut kernel = SimKernel::new(1);
        kernel.set_buffers(4, 4);
        let mut world = host_of(kernel, Transport::Stream);
        let (near, _) = world.dial_unix(PATH, Transport::Stream);
        let (far, _) = world.kernel.accept(world.listener).unwrap();
        let mut sent = 0;
        while let Ok(count) = world.kernel.write(near, &[7; 5]) {
            sent += count;
        }
        if unread {
            world.kernel.write(far, b"x").unwrap();
        }
        world.register(far);
        world.poll();
        world.kernel.close(near);
        assert_eq!(world.poll().len(), 1, "it may write, to be told of the end");
        assert_eq!(world.kernel.write(far, b"x"), errno(libc::EPIPE));
        let (mut got, mut end) = (0, world.read(far, 3));
        while let Ok(piece) = &end
            && !piece.is_empty()
        {
            got += piece.len();
            end = world.read(far, 3);
        }
        assert_eq!((sent, got), (16, 16));
        assert_eq!(end.is_err(), unread);
    }
}

#[test]
fn the_end_that_came_first_hides_no_reset_of_a_unix_socket() {
    let mut world = host(Transport::Stream);
    let (peer, fd) = world.unix_pair();
    world.kernel.peer_pause(peer);
    world.kernel.peer_shutdown(peer);
    world.kernel.write(fd, b"unread").unwrap();
    world.kernel.peer_close(peer);
    assert_eq!(world.read(fd, 1), errno(libc::ECONNRESET));
    assert_eq!(world.read(fd, 1).unwrap(), b"");
}

#[test]
fn closing_a_listener_resets_the_queued_and_leaves_its_path_behind() {
    let mut world = host(Transport::Stream);
    let queued = world.kernel.new_unix_client(Path::new(PATH)).unwrap();
    world.kernel.close(world.listener);
    let error = world.kernel.peer_error(queued);
    assert_eq!(error, Some(Errno(libc::ECONNRESET)));
    assert!(world.kernel.exists(Path::new(PATH)));
    let late = world.kernel.new_unix_client(Path::new(PATH));
    assert_eq!(late, errno(libc::ECONNREFUSED));
}

#[test]
fn the_other_end_has_an_owner_as_long_as_it_is_a_unix_socket() {
    let mut world = host(Transport::Stream);
    let (_, fd) = world.unix_pair();
    let cred = world.kernel.peer_cred(fd).unwrap();
    assert_eq!((cred.uid, cred.pid), (1000, Some(4242)));
    let root = PeerCred {
        uid: 0,
        gid: 0,
        pid: None,
    };
    world.kernel.set_peer_cred(root);
    assert_eq!(world.kernel.peer_cred(fd), Ok(root));
    let fresh = world.kernel.socket(&dial_spec(PATH, Transport::Stream));
    assert_eq!(
        world.kernel.peer_cred(fresh.unwrap()),
        errno(libc::ENOTCONN)
    );
    let mut tcp = World::new(1);
    let (_, fd) = tcp.pair();
    assert_eq!(tcp.kernel.peer_cred(fd), errno(libc::ENOTSUP));
}

#[test]
fn scripted_unix_calls_fail_once() {
    let mut world = host(Transport::Stream);
    let (path, name) = (Path::new(PATH), unix_name(Path::new(PATH)));
    for call in [Call::Stat, Call::Unlink, Call::Knock] {
        world.kernel.fail(call, Errno(libc::EACCES), 1);
    }
    let denied = errno(libc::EACCES);
    assert_eq!(world.kernel.path_identity(path).map(|_| ()), denied);
    assert_eq!(world.kernel.unlink(path), denied);
    assert_eq!(world.kernel.knock(&name, Transport::Stream), denied);
    assert_eq!(world.kernel.pending_faults(), 0);
    assert_eq!(world.kernel.unlink(path), Ok(()));
    let calls = [Call::Stat, Call::Unlink, Call::Knock];
    assert_eq!(calls.map(|call| world.kernel.calls(call)), [1, 2, 1]);
}

#[test]
fn a_closed_unix_socket_is_not_used_again() {
    let mut world = host(Transport::Stream);
    let (_, fd) = world.unix_pair();
    world.kernel.close(fd);
    assert_eq!(world.message(fd, 1), errno(libc::EBADF));
    assert_eq!(world.kernel.peer_cred(fd), errno(libc::EBADF));
    assert_eq!(world.kernel.violations().0, 2);
}

#[test]
fn descriptors_arrive_with_the_first_of_their_bytes() {
    let mut world = host(Transport::Stream);
    let (client, fd) = world.unix_pair();
    let pipe = || OwnedFd::from(std::io::pipe().unwrap().0);
    world.kernel.peer_send_all(client, b"ab");
    world
        .kernel
        .peer_send_fds(client, b"cd", vec![pipe(), pipe()]);
    world.kernel.peer_send_fds(client, b"e", vec![pipe()]);
    let mut next = || {
        let (mut buffer, mut fds) = ([0; 8], Vec::new());
        let kernel = &mut world.kernel;
        let came = kernel.receive_message(fd, &mut buffer, Some(&mut fds));
        (came.unwrap().len, fds.len())
    };
    assert_eq!([next(), next(), next()], [(2, 0), (2, 2), (1, 1)]);
}

#[test]
fn descriptors_of_bytes_that_were_not_taken_do_not_arrive() {
    let mut world = host(Transport::Stream);
    let (client, fd) = world.unix_pair();
    let pipe = || OwnedFd::from(std::io::pipe().unwrap().0);
    world.kernel.fail(Call::Write, Errno(libc::EAGAIN), 1);
    let refused = world.kernel.send_with_fds(fd, b"x", &[pipe()]);
    assert_eq!(refused, errno(libc::EAGAIN));
    assert_eq!(world.kernel.send_with_fds(fd, b"x", &[pipe()]), Ok(1));
    assert_eq!(world.kernel.peer_received(client), b"x");
    assert_eq!(world.kernel.peer_received_fds(client).len(), 1);
}

#[test]
fn a_socket_is_not_watched_and_no_foreign_one_taken_over() {
    let mut world = host(Transport::Stream);
    let (_, fd) = world.unix_pair();
    let token = Token::from_bits(CONN);
    let watched = world.kernel.watch(fd, token, Interest::Read);
    assert_eq!(watched, errno(libc::ENOTSUP));
    let foreign = OwnedFd::from(std::io::pipe().unwrap().0);
    let fault = world.kernel.adopt_stream(foreign).unwrap_err();
    assert_eq!(fault.errno, Errno(libc::ENOTSUP));
}

/// Random records between dialers, listeners and clients; checks that each connection
/// carries whole records in order, and answers the trace.
fn random_records(seed: u64) -> Vec<String> {
    let mut kernel = SimKernel::new(seed);
    kernel.set_trace(true);
    kernel.set_buffers(16, 16);
    let mut world = host_of(kernel, Transport::Records);
    let path = Path::new(PATH);
    let (mut fds, mut peers) = (Vec::new(), Vec::new());
    let mut said = 0_u8;
    // A record says its own length, after a number.
    let mut record = |len: usize| {
        said = said.wrapping_add(1);
        let mut bytes = vec![said; len % 10];
        bytes.push(bytes.len() as u8);
        bytes
    };
    let whole = |bytes: &[u8]| usize::from(bytes[bytes.len() - 1]) + 1 == bytes.len();
    for _ in 0..400 {
        let roll = world.kernel.random();
        let some = (roll >> 32) as usize;
        let peer = (!peers.is_empty()).then(|| peers[some % peers.len()]);
        let fd = (!fds.is_empty()).then(|| fds[some % fds.len()]);
        match (roll % 11, peer, fd) {
            (0, ..) => peers.extend(world.kernel.new_unix_client(path)),
            (1, ..) => {
                let (fd, result) = world.dial_unix(PATH, Transport::Records);
                fds.push(fd);
                assert!(matches!(result, Ok(()) | Err(Errno(libc::EAGAIN))));
            }
            (2, ..) => fds.extend(world.kernel.accept(world.listener).map(|(fd, _)| fd)),
            (3, Some(peer), _) => world.kernel.peer_send_all(peer, &record(some)),
            (4, Some(peer), _) if some.is_multiple_of(2) => world.kernel.peer_pause(peer),
            (4, Some(peer), _) => world.kernel.peer_resume(peer),
            (5, Some(peer), _) if some.is_multiple_of(5) => world.kernel.peer_close(peer),
            (6 | 7, _, Some(fd)) => {
                if let Ok((bytes, cut)) = world.message(fd, 32)
                    && !bytes.is_empty()
                {
                    assert!(!cut && whole(&bytes), "seed {seed}: {bytes:?}");
                }
            }
            (8, _, Some(fd)) => drop(world.kernel.write(fd, &record(some))),
            (9, _, Some(fd)) if some.is_multiple_of(4) => {
                world.kernel.end(fd, "end", some.is_multiple_of(8));
                fds.retain(|&open| open != fd);
            }
            (10, ..) => world
                .kernel
                .short_reads(some.is_multiple_of(2).then_some(3)),
            _ => drop(world.poll()),
        }
        if let Some(peer) = peer {
            let records = world.kernel.peer_received_records(peer);
            assert!(records.iter().all(|it| whole(it)), "seed {seed}");
        }
    }
    assert_eq!(world.kernel.violations().0, 0);
    world.kernel.trace()
}

#[test]
fn a_run_of_records_follows_from_its_seed_and_tears_none() {
    for seed in 0..200 {
        assert_eq!(random_records(seed), random_records(seed), "seed {seed}");
    }
}

#[test]
fn both_ends_of_one_unix_host_push_back_and_no_edge_is_lost() {
    for transport in [Transport::Stream, Transport::Records] {
        let mut kernel = SimKernel::new(1);
        kernel.set_buffers(4, 4);
        let mut world = host_of(kernel, transport);
        let (near, _) = world.dial_unix(PATH, transport);
        let (far, _) = world.kernel.accept(world.listener).unwrap();
        for (fd, bits) in [(near, LISTENER + 1), (far, CONN)] {
            let token = Token::from_bits(bits);
            let kernel = &mut world.kernel;
            kernel.register(fd, token, Interest::ReadWrite).unwrap();
        }
        let (mut sent, mut got, mut ended) = (0, Vec::new(), false);
        let mut edges = vec![(LISTENER + 1, W)];
        while !edges.is_empty() {
            for (token, _) in edges {
                while token == LISTENER + 1
                    && sent < 100
                    && world.kernel.write(near, &[sent]).is_ok()
                {
                    sent += 1;
                    if sent == 100 {
                        world.kernel.close(near);
                    }
                }
                while token == CONN
                    && !ended
                    && let Ok(piece) = world.read(far, 3)
                {
                    ended = piece.is_empty();
                    got.extend(piece);
                }
            }
            edges = world.poll();
        }
        assert_eq!((got, ended), ((0..100).collect(), true), "{transport:?}");
    }
}
