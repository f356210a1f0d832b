//! Sockets that change hands: connections taken out of a loop and into one, listeners that
//! were inherited, handed to a child, or shared by two loops. On the real kernel.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

#[path = "util/host.rs"]
mod host;
#[path = "util/process.rs"]
mod process;

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use windlass::{ConnId, Listen, ListenerId, Turn};

use host::{Dir, Host, Node, PATIENCE, Said};
use process::{alone, role};

fn local(host: &mut Host, id: ListenerId) -> SocketAddr {
    let addr = host.0.listener(id).unwrap().local_addr();
    addr.as_socket_addr().unwrap()
}

fn client(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ask(stream: &mut (impl Read + Write), text: &str) -> String {
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

/// A handler that gives every connection away when it hears "go", after all that it owes.
fn giver(out: mpsc::Sender<OwnedFd>) -> Node {
    Node::new().read(move |conn, input| {
        let bytes = input.take_all();
        conn.write(bytes);
        if bytes.ends_with(b"go") {
            out.send(conn.detach()?).unwrap();
        }
        Ok(())
    })
}

// Detaching and adopting.

// Go 176, TestFileConn: adapted, the descriptor itself moves.
#[test]
fn a_connection_moves_from_one_loop_to_another_and_loses_no_byte() {
    let (give, given) = mpsc::channel();
    let mut first = Host::new(giver(give));
    let dir = Dir::new();
    let tcp = first.listen("127.0.0.1:0");
    let addr = local(&mut first, tcp);
    first.listen(dir.url("unix", "move"));
    let mut second = Host::new(Node::new().read(|conn, input| {
        conn.write(input.take_all());
        Ok(())
    }));
    let streams: [Box<dyn Stream>; 2] = [
        Box::new(client(addr)),
        Box::new(UnixStream::connect(dir.join("move")).unwrap()),
    ];
    for (n, mut stream) in streams.into_iter().enumerate() {
        stream.write_all(b"before, and go").unwrap();
        let id = first.until("it is detached", |node| {
            node.accepted(n).filter(|&id| node.end(id).is_some())
        });
        let end = first.said().end(id).unwrap();
        assert_eq!(
            (end.reason.as_str(), end.unread, end.unsent),
            ("detached", 0, 0)
        );
        assert_eq!((end.bytes_read, end.bytes_written), (14, 14));
        stream.write_all(b"after").unwrap();
        let dial = second.0.adopt(given.recv().unwrap()).unwrap();
        let id = second.until("it is adopted", |node| node.dialed(dial));
        second.until_true("its bytes", |node| node.bytes(id) == b"after");
        let mut all = [0; 19];
        stream.read_exact(&mut all).unwrap();
        assert_eq!(&all, b"before, and goafter");
        drop(stream);
        second.until("its end", |node| node.end(id).map(|_| ()));
    }
    assert_eq!((first.0.stats().open, second.0.stats().open), (0, 0));
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

#[cfg(not(target_os = "macos"))]
#[test]
fn records_move_as_well() {
    let dir = Dir::new();
    let url = dir.url("unixpacket", "move");
    let mut host = Host::new(Node::echo());
    host.listen(&url);
    let (dialed, accepted) = host.pair(&url);
    host.with_conn(dialed, |conn| conn.write(b"first"));
    host.until_true("the answer", |node| node.reads(dialed) == [b"first"]);
    let fd = host.with_conn(dialed, |conn| conn.detach()).unwrap();
    let mut other = Host::new(Node::new());
    let dial = other.0.adopt(fd).unwrap();
    let id = other.until("it is adopted", |node| node.dialed(dial));
    other.with_conn(id, |conn| {
        conn.write(b"second");
        conn.write(b"third");
    });
    host.until_true("both", |node| node.reads(accepted).len() == 3);
    let expected: [&[u8]; 2] = [b"second", b"third"];
    other.until_true("both answers", |node| node.reads(id) == expected);
}

#[test]
fn output_that_cannot_leave_keeps_the_connection() {
    const SIZE: usize = 8 * 1024 * 1024;
    let mut host = Host::new(Node::new());
    let id = host.listen("127.0.0.1:0");
    let addr = local(&mut host, id);
    let mut stream = client(addr);
    let id = host.until("a client", |node| node.accepted(0));
    let error = host.with_conn(id, |conn| {
        conn.write(&vec![1; SIZE]);
        assert!(conn.queued() > 0);
        conn.detach().unwrap_err()
    });
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert!(host.said().end(id).is_none());
    let reader = std::thread::spawn(move || {
        stream.read_exact(&mut vec![0; SIZE]).unwrap();
        stream
    });
    host.until_true("on_write", |node| node.said.contains(&Said::Write(id)));
    let mut fd = None;
    let deadline = Instant::now() + PATIENCE;
    while fd.is_none() && Instant::now() < deadline {
        fd = host.with_conn(id, |conn| conn.detach().ok());
    }
    let mut ours = TcpStream::from(fd.unwrap());
    let mut stream = reader.join().unwrap();
    ours.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    let end = host.until("it ends", |node| node.end(id).cloned());
    assert_eq!((end.unsent, end.bytes_written), (0, SIZE as u64));
}

#[test]
fn what_was_not_consumed_is_told() {
    let (give, given) = mpsc::channel();
    let mut host = Host::new(Node::new().read(move |conn, input| {
        input.consume(4);
        give.send(conn.detach()?).unwrap();
        // Nothing that follows reaches the socket.
        assert_eq!(conn.write(b"x"), windlass::Flow::Closed);
        assert!(conn.local_addr().is_err() && conn.set_nodelay(true).is_err());
        assert_eq!(conn.detach().unwrap_err().raw_os_error(), Some(libc::EBADF));
        conn.abort();
        conn.close();
        conn.set_idle_timeout(Some(Duration::from_millis(1)));
        Ok(())
    }));
    let id = host.listen("127.0.0.1:0");
    let addr = local(&mut host, id);
    let mut stream = client(addr);
    stream.write_all(b"headbody").unwrap();
    let id = host.until("it ends", |node| {
        node.accepted(0).filter(|&id| node.end(id).is_some())
    });
    let end = host.said().end(id).unwrap();
    assert_eq!(
        (end.reason.as_str(), end.bytes_read, end.unread),
        ("detached", 8, 4)
    );
    host.settle();
    // The descriptor lives, and nobody else has its number.
    let mut ours = TcpStream::from(given.recv().unwrap());
    ours.write_all(b"alive").unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"alive");
}

#[test]
fn a_connection_can_be_given_away_before_anything_happens_on_it() {
    let (give, given) = mpsc::channel();
    let again = give.clone();
    let mut host = Host::new(
        Node::new()
            .accept(move |conn| {
                conn.write(b"greeting");
                give.send(conn.detach()?).unwrap();
                Ok(())
            })
            .connect(move |conn| {
                conn.write(b"question");
                again.send(conn.detach()?).unwrap();
                Ok(())
            }),
    );
    let id = host.listen("127.0.0.1:0");
    let addr = local(&mut host, id);
    let dial = host.0.dial(addr).unwrap();
    let (dialed, accepted) = host.until("both ends", |node| {
        Some((node.dialed(dial)?, node.accepted(0)?))
    });
    for id in [dialed, accepted] {
        let end = host.until("it ends", |node| node.end(id).cloned());
        assert_eq!((end.reason.as_str(), end.bytes_written), ("detached", 8));
    }
    for fd in given.try_iter() {
        let mut stream = TcpStream::from(fd);
        stream.set_nonblocking(false).unwrap();
        stream.read_exact(&mut [0; 8]).unwrap();
    }
    assert_eq!(host.0.stats().open, 0);
}

#[test]
fn a_refusal_after_giving_away_closes_nothing() {
    let (give, given) = mpsc::channel();
    let mut host = Host::new(Node::new().accept(move |conn| {
        give.send(conn.detach()?).unwrap();
        Err(io::Error::other("and no session"))
    }));
    let id = host.listen("127.0.0.1:0");
    let addr = local(&mut host, id);
    let mut stream = client(addr);
    host.until_true("it was offered", |node| node.accepted(0).is_some());
    host.settle();
    assert_eq!(
        host.said().said.len(),
        1,
        "there was no session, so there is no on_close"
    );
    let mut ours = TcpStream::from(given.recv().unwrap());
    ours.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
}

#[test]
fn a_connection_that_is_closing_is_not_given_away() {
    let mut host = Host::new(Node::new().read(|conn, _| {
        conn.write(b"bye");
        conn.close();
        assert_eq!(conn.detach().unwrap_err().raw_os_error(), Some(libc::EBADF));
        Ok(())
    }));
    let id = host.listen("127.0.0.1:0");
    let addr = local(&mut host, id);
    let mut stream = client(addr);
    stream.write_all(b"x").unwrap();
    let id = host.until("a client", |node| node.accepted(0));
    host.until_true("it was read", |node| !node.reads(id).is_empty());
    let mut all = String::new();
    let reader = std::thread::spawn(move || {
        stream.read_to_string(&mut all).unwrap();
        all
    });
    let end = host.until("it ends", |node| node.end(id).cloned());
    assert_eq!(end.reason, "closed by the handler");
    assert_eq!(reader.join().unwrap(), "bye");
}

#[test]
fn both_ends_of_a_pair_are_adopted() {
    let mut host = Host::new(Node::new());
    let (one, other) = UnixStream::pair().unwrap();
    let one = host.0.adopt(one).unwrap();
    let other = host.0.adopt(other).unwrap();
    let (one, other) = host.until("both", |node| {
        Some((node.dialed(one)?, node.dialed(other)?))
    });
    host.with_conn(one, |conn| {
        assert!(conn.peer_addr().as_unix().unwrap().is_unnamed());
        conn.write(b"across");
        conn.close();
    });
    host.until_true("it arrives", |node| node.bytes(other) == b"across");
    host.until("both end", |node| {
        Some((node.end(one)?.id, node.end(other)?.id))
    });
}

// Go 104, TestFileError, and what Go does not check.
#[test]
fn what_is_no_connected_stream_is_refused_at_once() {
    let mut host = Host::new(Node::new());
    let file: OwnedFd = File::open("/dev/null").unwrap().into();
    let udp: OwnedFd = UdpSocket::bind("127.0.0.1:0").unwrap().into();
    let unixgram: OwnedFd = UnixDatagram::unbound().unwrap().into();
    let unconnected: OwnedFd = Socket::new(Domain::IPV4, Type::STREAM, None)
        .unwrap()
        .into();
    let listener: OwnedFd = TcpListener::bind("127.0.0.1:0").unwrap().into();
    for (fd, errno) in [
        (file, libc::ENOTSOCK),
        (udp, libc::EPROTOTYPE),
        (unixgram, libc::EPROTOTYPE),
        (unconnected, libc::ENOTCONN),
        (listener, libc::ENOTCONN),
    ] {
        let error = host.0.adopt(fd).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(errno), "{error}");
    }
    // Go 104, TestFileError, for listeners.
    let file: OwnedFd = File::open("/dev/null").unwrap().into();
    let error = host.0.listen(Listen::adopt(file)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK), "{error}");
    host.settle();
    assert!(host.said().said.is_empty());
}

#[test]
fn a_duplicate_that_is_kept_can_be_adopted_again_and_is_not_listened_to_meanwhile() {
    let mut host = Host::new(Node::new());
    let (kept, mut theirs) = UnixStream::pair().unwrap();
    for _ in 0..10 {
        // The number of the one before is free, so this one is likely to have it.
        let dial = host.0.adopt(kept.try_clone().unwrap()).unwrap();
        let id = host.until("it is adopted", |node| node.dialed(dial));
        host.with_conn(id, |conn| conn.close());
        host.until("it ends", |node| node.end(id).cloned());
        theirs.write_all(b"to whom it may concern").unwrap();
        host.settle();
    }
    assert_eq!(host.0.stats().stale_events, 0);
}

#[test]
fn an_adoption_that_is_canceled_or_stopped_closes_what_it_was_given() {
    let mut host = Host::new(Node::new());
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    host.0
        .handle()
        .post(move |_, cx| {
            let dial = cx.adopt(ours).unwrap();
            assert!(cx.cancel_dial(dial));
            assert!(!cx.cancel_dial(dial));
        })
        .unwrap();
    host.until_true("it is told", |node| {
        node.said.iter().any(|said| {
            matches!(said, Said::DialError(_, text)
            if text.ends_with("operation was canceled"))
        })
    });
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    host.0.adopt(ours).unwrap();
    host.0.handle().shutdown(Duration::ZERO).unwrap();
    while host.0.turn(Some(Duration::ZERO)).unwrap() == Turn::Running {}
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_loop_that_is_dropped_closes_what_it_adopted_and_not_what_it_gave_away() {
    let (give, given) = mpsc::channel();
    let mut host = Host::new(Node::new().accept(move |conn| {
        give.send(conn.detach()?).unwrap();
        Ok(())
    }));
    let id = host.listen("127.0.0.1:0");
    let addr = local(&mut host, id);
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    host.0.adopt(ours).unwrap();
    let mut stream = client(addr);
    host.until_true("it is given away", |node| node.accepted(0).is_some());
    drop(host);
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
    let mut ours = TcpStream::from(given.recv().unwrap());
    ours.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
}

// Listeners.

// Go 176, TestFileListener; Go 105, TestFileError: adapted, a listener that is gone has no
// descriptor to be asked for, because there is no view of it.
#[test]
fn a_duplicate_listens_on_after_the_listener_is_closed() {
    let mut first = Host::new(Node::echo());
    let id = first.listen("127.0.0.1:0");
    let addr = local(&mut first, id);
    let fd = first.0.listener(id).unwrap().try_clone_fd().unwrap();
    first.0.listener(id).unwrap().close();
    first.settle();
    assert!(first.0.listener(id).is_none());
    let mut second = Host::new(Node::echo());
    let id = second.listen(Listen::adopt(fd));
    assert_eq!(local(&mut second, id), addr);
    let mut stream = client(addr);
    let asked = std::thread::spawn(move || ask(&mut stream, "who is there"));
    second.until_true("it is served", |node| {
        node.count(|s| matches!(s, Said::Close(_))) == 1
    });
    assert_eq!(asked.join().unwrap(), "who is there");
}

#[test]
fn two_loops_on_two_threads_share_a_listener() {
    let mut first = Host::new(Node::echo());
    let id = first.listen("127.0.0.1:0");
    let addr = local(&mut first, id);
    let fd = first.0.listener(id).unwrap().try_clone_fd().unwrap();
    let (say, said) = mpsc::channel();
    let other = std::thread::spawn(move || {
        let mut second = Host::new(Node::echo());
        let id = second.listen(Listen::adopt(fd));
        say.send((second.0.handle(), id)).unwrap();
        while second.0.turn(None).unwrap() == Turn::Running {}
        second.0.stats().accepted
    });
    let (handle, theirs) = said.recv().unwrap();
    let clients = |n: usize| {
        std::thread::spawn(move || {
            for _ in 0..n {
                assert_eq!(ask(&mut client(addr), "ping"), "ping");
            }
        })
    };
    // One pauses: the other serves everybody, and the other way round.
    first.0.listener(id).unwrap().pause();
    let asking = clients(10);
    while !asking.is_finished() {
        first.settle();
    }
    asking.join().unwrap();
    assert_eq!(first.0.stats().accepted, 0);
    handle
        .post(move |_, cx| cx.listener(theirs).unwrap().pause())
        .unwrap();
    first.0.listener(id).unwrap().resume();
    let (probe, paused) = mpsc::channel();
    handle.post(move |_, _| probe.send(()).unwrap()).unwrap();
    paused.recv_timeout(PATIENCE).unwrap();
    let asking = clients(10);
    while !asking.is_finished() {
        first.settle();
    }
    asking.join().unwrap();
    assert_eq!(first.0.stats().accepted, 10);
    // Both at once: nobody is lost, whoever serves them.
    handle
        .post(move |_, cx| cx.listener(theirs).unwrap().resume())
        .unwrap();
    let asking = clients(50);
    while !asking.is_finished() {
        first.settle();
    }
    asking.join().unwrap();
    handle.shutdown(Duration::from_millis(10)).unwrap();
    let served_there = other.join().unwrap();
    assert_eq!(first.0.stats().accepted + served_there, 70);
}

#[test]
fn a_child_gets_a_listener_as_its_standard_input() {
    const NAME: &str = "a_child_gets_a_listener_as_its_standard_input";
    if role().is_some() {
        let socket = io::stdin().as_fd().try_clone_to_owned().unwrap();
        return serve_one(Listen::adopt(socket));
    }
    let mut host = Host::new(Node::new());
    let id = host.listen("127.0.0.1:0");
    let addr = local(&mut host, id);
    let socket = host.0.listener(id).unwrap().try_clone_fd().unwrap();
    let mut child = child(NAME, "exec \"$@\"", socket);
    drop(host);
    assert_eq!(ask(&mut client(addr), "who is there"), "who is there");
    finish(&mut child);
}

#[test]
fn a_service_manager_passes_sockets_on_by_number_and_name() {
    const NAME: &str = "a_service_manager_passes_sockets_on_by_number_and_name";
    if role().is_some() {
        let mut inherited = windlass::inherited().unwrap();
        let names: Vec<_> = inherited.iter().map(windlass::Inherited::name).collect();
        assert_eq!(names, [Some("web"), Some("admin")]);
        assert!(
            windlass::inherited().unwrap().is_empty(),
            "each has one owner"
        );
        // Not for the children of this process.
        return serve_one(inherited.swap_remove(1).into());
    }
    let dir = Dir::new();
    let listener = UnixListener::bind(dir.join("web")).unwrap();
    let script = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=web:admin exec \"$@\" 3<&0 4<&0";
    let mut child = child(NAME, script, listener.into());
    let mut stream = UnixStream::connect(dir.join("web")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(ask(&mut stream, "who is there"), "who is there");
    drop(stream);
    finish(&mut child);
    assert!(dir.join("web").exists(), "whoever made the path removes it");
}

#[test]
fn variables_that_are_meant_for_another_process_are_passed_over() {
    const NAME: &str = "variables_that_are_meant_for_another_process_are_passed_over";
    if role().as_deref() == Some("stranger") {
        assert!(windlass::inherited().unwrap().is_empty());
        return;
    }
    let null = File::open("/dev/null").unwrap().into();
    let mut child = child(NAME, "LISTEN_PID=1 LISTEN_FDS=1 exec \"$@\" 3<&0", null);
    finish(&mut child);
}

#[test]
fn nothing_is_inherited_where_nobody_says_so() {
    alone("nothing_is_inherited_where_nobody_says_so", || {
        assert!(windlass::inherited().unwrap().is_empty());
    });
}

/// Serves the first client to its end.
fn serve_one(listen: Listen) {
    let mut host = Host::new(Node::echo());
    host.listen(listen);
    let id: ConnId = host.until("a client", |node| node.accepted(0));
    host.until("its end", |node| node.end(id).map(|_| ()));
}

/// Another process of this binary, which runs the test `name` as a child.
fn child(name: &str, script: &str, stdin: OwnedFd) -> Child {
    Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env("WINDLASS_TEST_ROLE", "stranger")
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn finish(child: &mut Child) {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "the child: {status}");
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let _ = child.kill();
    panic!("the child does not end");
}

#[test]
fn whoever_has_said_that_no_more_will_come_has_done_so_before_it_is_given_away() {
    let (give, given) = mpsc::channel();
    let mut host = Host::new(Node::new().read(move |conn, input| {
        input.take_all();
        conn.write(b"bye");
        conn.shutdown_write();
        give.send(conn.detach()?).unwrap();
        Ok(())
    }));
    let id = host.listen("127.0.0.1:0");
    let addr = local(&mut host, id);
    let mut stream = client(addr);
    stream.write_all(b"x").unwrap();
    let id = host.until("a client", |node| node.accepted(0));
    let end = host.until("it ends", |node| node.end(id).cloned());
    assert_eq!(end.reason, "detached");
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert_eq!(all, "bye");
    let mut ours = TcpStream::from(given.recv().unwrap());
    ours.set_nonblocking(false).unwrap();
    stream.write_all(b"y").unwrap();
    ours.read_exact(&mut [0]).unwrap();
}

#[test]
fn what_is_adopted_as_the_loop_stops_is_closed_and_told() {
    let mut host = Host::new(Node::new());
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    host.0
        .handle()
        .post(move |_, cx| {
            cx.adopt(ours).unwrap();
            cx.shutdown(PATIENCE);
        })
        .unwrap();
    while host.0.turn(Some(PATIENCE)).unwrap() == Turn::Running {}
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
    let canceled = |said: &Said| matches!(said, Said::DialError(..));
    assert_eq!(host.said().count(canceled), 1);
}
