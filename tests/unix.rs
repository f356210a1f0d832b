//! Unix streams: paths and abstract names, what becomes of paths, full queues, who is at the
//! other end, and descriptors that travel with bytes. On the real kernel.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

#[path = "util/host.rs"]
mod host;
#[path = "util/process.rs"]
mod process;

use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};
use windlass::sim::{Call, Remote, World};
use windlass::{Addr, Backoff, Conn, Dial, Error, Flow, Listen, Turn, UnixAddr};

use host::{Dir, Host, Node, PATIENCE, Said, url};
#[cfg(target_os = "linux")]
use process::alone;
use process::{Puppet, role, say};

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A client that never waits for ever.
fn client(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// A path that a server was bound to and nobody serves any more.
fn stale(dir: &Dir, name: &str) -> std::path::PathBuf {
    let path = dir.join(name);
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    // Whoever forks in another test has a duplicate of the listener until it executes its program.
    let patience = Instant::now() + PATIENCE;
    let refused = |path| {
        UnixStream::connect(path).is_err_and(|e| e.raw_os_error() == Some(libc::ECONNREFUSED))
    };
    while !refused(&path) {
        assert!(
            Instant::now() < patience,
            "somebody serves {}",
            path.display()
        );
        std::thread::yield_now();
    }
    path
}

fn errno(error: &Error) -> Option<i32> {
    error.raw_os_error()
}

// Serving.

// Go 108, TestConnAndListener; Go 116, TestUnixAndUnixpacketServer: a path, three clients.
#[test]
fn a_path_is_served_and_says_its_network_at_both_ends() {
    let dir = Dir::new();
    let url = dir.url("unix", "echo");
    let mut host = Host::new(Node::echo().connect(|conn| {
        conn.write(b"hello");
        Ok(())
    }));
    let listener = host.listen(&url);
    let addr = host.0.listener(listener).unwrap().local_addr();
    assert_eq!(addr.to_string(), dir.join("echo").display().to_string());
    for _ in 0..3 {
        let (dialed, accepted) = host.pair(&url);
        host.until_true("the echo", |node| node.bytes(dialed) == b"hello");
        let names = |conn: &mut Conn<'_>| (conn.local_addr().unwrap(), conn.peer_addr());
        let (own, peer) = host.with_conn(dialed, names);
        // Go 126, TestUnixConnLocalAndRemoteNames: the client has no name, the server the path.
        assert_eq!((own.to_string(), peer), ("@".to_owned(), addr.clone()));
        assert!(own.as_unix().unwrap().is_unnamed());
        let (own, peer) = host.with_conn(accepted, names);
        assert_eq!((own, peer.to_string()), (addr.clone(), "@".to_owned()));
    }
}

// Go 116, TestUnixAndUnixpacketServer: an abstract name, three clients.
#[cfg(target_os = "linux")]
#[test]
fn an_abstract_name_is_served_and_leaves_nothing_behind() {
    let name = format!("unix://@windlass-abstract-{}", std::process::id());
    let mut host = Host::new(Node::echo().connect(|conn| {
        conn.write(b"hello");
        Ok(())
    }));
    let listener = host.listen(&name);
    let addr = host.0.listener(listener).unwrap().local_addr();
    assert_eq!(format!("unix://{addr}"), name);
    for _ in 0..3 {
        let (dialed, _) = host.pair(&name);
        host.until_true("the echo", |node| node.bytes(dialed) == b"hello");
    }
    host.0.listener(listener).unwrap().close();
    host.settle();
    host.listen(&name);
}

// Go 134, TestUnixAutobindClose.
#[cfg(target_os = "linux")]
#[test]
fn a_listener_without_a_name_gets_one_from_the_kernel() {
    let mut host = Host::new(Node::new());
    let listener = host.listen("unix://");
    let addr = host.0.listener(listener).unwrap().local_addr();
    assert!(addr.as_unix().unwrap().abstract_name().is_some(), "{addr}");
    host.pair(&format!("unix://{addr}"));
    host.0.listener(listener).unwrap().close();
    host.settle();
    assert!(host.0.listener(listener).is_none());
}

#[test]
fn options_of_tcp_are_passed_over() {
    let dir = Dir::new();
    let url = dir.url("unix", "options");
    let mut host = Host::new(Node::echo());
    let listen = Listen::new(&url).unwrap().nodelay(true).backlog(4);
    host.listen(listen.receive_buffer(64 * 1024));
    let dial = Dial::new(&url).unwrap().nodelay(false).keepalive(None);
    let dial = host.0.dial(dial.send_buffer(64 * 1024)).unwrap();
    host.until("it connects", |node| node.dialed(dial));
}

#[test]
fn the_mode_is_that_which_was_asked_for_and_else_the_umask_leaves() {
    let dir = Dir::new();
    let mut host = Host::new(Node::new());
    for mode in [0o600, 0o666, 0o660] {
        let name = format!("{mode:o}");
        host.listen(Listen::new(dir.url("unix", &name)).unwrap().mode(mode));
        let found = fs::metadata(dir.join(&name)).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode);
    }
    host.listen(dir.url("unix", "umask"));
    let reference = UnixListener::bind(dir.join("reference")).unwrap();
    let mode_of = |name| fs::metadata(dir.join(name)).unwrap().permissions().mode();
    assert_eq!(mode_of("umask"), mode_of("reference"));
    drop(reference);
}

// Go 32 to 36 for unix: TestCloseWrite, TestConnClose.
#[test]
fn a_half_closed_stream_is_read_on_and_takes_no_more_output() {
    let dir = Dir::new();
    let mut host = Host::new(Node::new().eof(|conn| {
        assert_eq!(conn.write(b"after your end"), Flow::Open);
        conn.shutdown_write();
        assert_eq!(conn.write(b"more"), Flow::Closed);
        Ok(())
    }));
    host.listen(dir.url("unix", "half"));
    let mut peer = client(&dir.join("half"));
    peer.write_all(b"last words").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    let id = host.until("it ends", |node| {
        let id = node.accepted(0)?;
        node.end(id).map(|_| id)
    });
    let mut answer = String::new();
    peer.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "after your end");
    let end = host.said().end(id).unwrap();
    assert_eq!((end.reason.as_str(), end.bytes_read), ("end of stream", 10));
    assert!(host.0.stats().open == 0);
}

#[test]
fn all_that_was_written_before_close_arrives_while_the_peer_is_still_sending() {
    const SIZE: usize = 3 * 1024 * 1024;
    let dir = Dir::new();
    let mut host = Host::new(Node::new().read(|conn, input| {
        input.take_all();
        conn.write(&vec![7; SIZE]);
        conn.close();
        Ok(())
    }));
    host.listen(dir.url("unix", "close"));
    let mut peer = client(&dir.join("close"));
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        peer.write_all(b"go").unwrap();
        while got.len() < SIZE {
            let mut part = vec![0; 64 * 1024];
            // What the other end throws away is no reason to fail.
            let _ = peer.write(b"chatter");
            let n = peer.read(&mut part).unwrap();
            assert!(n > 0, "cut short at {}", got.len());
            got.extend_from_slice(&part[..n]);
        }
        got
    });
    host.until_true("it is closed", |node| {
        node.count(|said| matches!(said, Said::Close(_))) == 1
    });
    assert!(reader.join().unwrap().iter().all(|&byte| byte == 7));
}

#[test]
fn backpressure_holds_a_writer_back_until_its_peer_reads() {
    const SIZE: usize = 2 * 1024 * 1024;
    let dir = Dir::new();
    let mut host = Host::new(Node::new().accept(|conn| {
        assert_eq!(conn.write(&vec![1; SIZE]), Flow::Full);
        Ok(())
    }));
    host.listen(dir.url("unix", "full"));
    let mut peer = client(&dir.join("full"));
    let id = host.until("a client", |node| node.accepted(0));
    host.settle();
    assert_eq!(host.said().said, [Said::Accept(id)]);
    let reader = std::thread::spawn(move || {
        peer.read_exact(&mut vec![0; SIZE]).unwrap();
    });
    host.until_true("on_write", |node| node.said.contains(&Said::Write(id)));
    // What is below the low mark may still have to leave.
    host.until_true("the end", |node| node.said.contains(&Said::Eof(id)));
    reader.join().unwrap();
}

// Paths.

// Go 128, TestUnixUnlink/Listen; Go 37, TestListenerClose.
#[test]
fn closing_removes_the_path_and_nobody_is_accepted_any_more() {
    let dir = Dir::new();
    let path = dir.join("gone");
    let mut host = Host::new(Node::new());
    let listener = host.listen(url("unix", &path));
    assert!(path.exists());
    host.0.listener(listener).unwrap().close();
    host.settle();
    assert!(!path.exists());
    let refused = UnixStream::connect(&path).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::NotFound);
    // Go 39, TestListenCloseListen.
    host.listen(url("unix", &path));
    assert!(path.exists());
}

#[test]
fn dropping_the_loop_removes_its_paths() {
    let dir = Dir::new();
    let mut host = Host::new(Node::new());
    host.listen(dir.url("unix", "one"));
    host.listen(dir.url("unix", "two"));
    drop(host);
    assert!(!dir.join("one").exists() && !dir.join("two").exists());
}

#[test]
fn a_graceful_stop_removes_the_path() {
    let dir = Dir::new();
    let mut host = Host::new(Node::new());
    host.listen(dir.url("unix", "stop"));
    host.0.handle().shutdown(millis(100)).unwrap();
    while host.0.turn(Some(millis(5))).unwrap() == Turn::Running {}
    assert!(!dir.join("stop").exists());
}

// Go 131, TestUnixUnlink: SetUnlinkOnClose(false).
#[test]
fn a_path_stays_if_that_was_asked_for() {
    let dir = Dir::new();
    let path = dir.join("stays");
    let mut host = Host::new(Node::new());
    let listen = Listen::new(url("unix", &path)).unwrap();
    let listener = host.listen(listen.unlink_on_close(false));
    host.0.listener(listener).unwrap().close();
    host.settle();
    assert!(path.exists());
}

// Go 129 and 132, TestUnixUnlink: FileListener and SetUnlinkOnClose.
#[test]
fn an_adopted_listener_leaves_its_path_unless_it_is_told_otherwise() {
    let dir = Dir::new();
    for (name, asked, stays) in [
        ("default", None, true),
        ("no", Some(false), true),
        ("yes", Some(true), false),
    ] {
        let path = dir.join(name);
        let made_elsewhere = UnixListener::bind(&path).unwrap();
        let mut listen = Listen::adopt(made_elsewhere.into());
        if let Some(on) = asked {
            listen = listen.unlink_on_close(on);
        }
        let mut host = Host::new(Node::new());
        let listener = host.listen(listen);
        let addr = host.0.listener(listener).unwrap().local_addr();
        assert_eq!(addr, Addr::from(UnixAddr::from_path(&path).unwrap()));
        let _peer = client(&path);
        host.until("a client", |node| node.accepted(0));
        drop(host);
        assert_eq!(path.exists(), stays, "{name}");
    }
}

// Go 130, TestUnixUnlink/SecondClose, and what Go does not check: somebody has put another
// socket there while we still listened.
#[test]
fn a_path_that_is_somebody_elses_by_now_is_left_alone() {
    let dir = Dir::new();
    let path = dir.join("taken");
    let mut host = Host::new(Node::new());
    let listener = host.listen(url("unix", &path));
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    let theirs = identity(&path);
    host.0.listener(listener).unwrap().close();
    host.settle();
    assert_eq!(identity(&path), theirs);

    fs::remove_file(&path).unwrap();
    let listener = host.listen(url("unix", &path));
    fs::remove_file(&path).unwrap();
    fs::write(&path, "a file").unwrap();
    host.0.listener(listener).unwrap().close();
    host.settle();
    assert_eq!(fs::read_to_string(&path).unwrap(), "a file");
}

#[test]
fn a_server_that_was_killed_comes_up_again() {
    const NAME: &str = "a_server_that_was_killed_comes_up_again";
    if role().is_some() {
        return serve_until_killed();
    }
    let dir = Dir::new();
    let path = dir.join("killed");
    for _ in 0..3 {
        let mut server = Puppet::start(NAME, "server", 64);
        assert_eq!(server.ask(&url("unix", &path)), "listening");
        let mut peer = client(&path);
        peer.write_all(b"x").unwrap();
        peer.read_exact(&mut [0]).unwrap();
        // SIGKILL: nothing is removed.
        drop(server);
        assert!(path.exists());
        let refused = UnixStream::connect(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}

fn serve_until_killed() {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).unwrap();
    let mut host = Host::new(Node::echo());
    host.listen(line.trim_end());
    say("listening");
    loop {
        let _ = host.0.turn(None).unwrap();
    }
}

#[test]
fn a_path_that_is_served_is_not_touched() {
    let dir = Dir::new();
    let path = dir.join("served");
    let mut host = Host::new(Node::new());
    host.listen(url("unix", &path));
    let before = identity(&path);
    let mut other = Host::new(Node::new());
    let error = other.0.listen(url("unix", &path)).unwrap_err();
    let expected = format!(
        "listen unix {}: bind: address already in use",
        path.display()
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(identity(&path), before);
    // The one who asked was a client that came and went.
    let _peer = client(&path);
    host.until("a client", |node| node.accepted(1));
    drop(other);
    assert_eq!(identity(&path), before);
}

#[test]
fn whatever_is_no_stale_socket_is_not_touched() {
    let dir = Dir::new();
    let mut host = Host::new(Node::new());
    let file = dir.join("file");
    fs::write(&file, "precious").unwrap();
    let link = dir.join("link");
    symlink(stale(&dir, "stale"), &link).unwrap();
    let empty = dir.join("directory");
    fs::create_dir(&empty).unwrap();
    let full = dir.join("full");
    let _full = full_listener(&full);
    for path in [&file, &link, &empty, &full] {
        let before = identity(path);
        let error = host.0.listen(url("unix", path)).unwrap_err();
        assert_eq!(errno(&error), Some(libc::EADDRINUSE), "{error}");
        assert_eq!(identity(path), before, "{}", path.display());
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn a_stale_path_is_not_repaired_if_that_was_asked_for() {
    let dir = Dir::new();
    let path = stale(&dir, "stale");
    let mut host = Host::new(Node::new());
    let listen = || Listen::new(url("unix", &path)).unwrap();
    let error = host.0.listen(listen().repair_path(false)).unwrap_err();
    assert_eq!(errno(&error), Some(libc::EADDRINUSE));
    host.listen(listen());
    let _peer = client(&path);
    host.until("a client", |node| node.accepted(0));
}

// Go 97 and 99, TestListenError, TestProtocolListenError, for unix.
#[test]
fn a_path_that_cannot_be_bound_says_why() {
    let dir = Dir::new();
    let mut host = Host::new(Node::new());
    let nowhere = dir.join("no/such/directory/s");
    let error = host.0.listen(url("unix", &nowhere)).unwrap_err();
    let place = nowhere.display();
    let expected = format!("listen unix {place}: bind: no such file or directory");
    assert_eq!(error.to_string(), expected);
    let long = dir.join(&"x".repeat(200));
    let error = host.0.listen(url("unix", &long)).unwrap_err();
    let expected = format!("listen unix {}: bind: invalid argument", long.display());
    assert_eq!(error.to_string(), expected);
}

// Dialing.

// Go 93, TestDialError, for unix.
#[test]
fn a_dial_that_fails_says_why_as_go_does() {
    let dir = Dir::new();
    let mut host = Host::new(Node::new());
    host.listen(dir.url("unix", "stream"));
    stale(&dir, "stale");
    fs::write(dir.join("file"), "").unwrap();
    for (network, name, why) in [
        ("unix", "nothing", "no such file or directory"),
        ("unix", "stale", "connection refused"),
        ("unix", "file", "connection refused"),
        #[cfg(target_os = "linux")]
        ("unixpacket", "stream", "protocol wrong type for socket"),
    ] {
        let dial = host.0.dial(dir.url(network, name)).unwrap();
        let text = host.until("it fails", |node| node.dial_error(dial).map(str::to_owned));
        let place = dir.join(name);
        let expected = format!("dial {network} {}: connect: {why}", place.display());
        assert_eq!(text, expected);
    }
}

// Go 126, TestUnixConnLocalAndRemoteNames: a bound client; Go 118 for streams.
#[test]
fn a_bound_client_shows_its_path_which_goes_with_it() {
    let dir = Dir::new();
    let own = dir.join("client");
    let mut host = Host::new(Node::new());
    host.listen(dir.url("unix", "server"));
    for _ in 0..2 {
        let before = host.said().count(|said| matches!(said, Said::Accept(_)));
        let dial = Dial::new(dir.url("unix", "server")).unwrap();
        let local = UnixAddr::from_path(&own).unwrap();
        let dial = host.0.dial(dial.local_addr(local)).unwrap();
        let (dialed, accepted) = host.until("both ends", |node| {
            Some((node.dialed(dial)?, node.accepted(before)?))
        });
        let peer = host.with_conn(accepted, |conn| conn.peer_addr());
        assert_eq!(peer.to_string(), own.display().to_string());
        assert!(own.exists());
        host.with_conn(dialed, |conn| conn.close());
        host.until("it ends", |node| node.end(dialed).map(|_| ()));
        assert!(!own.exists(), "the next dial could not bind it");
    }
    // Somebody's file is neither used nor removed.
    fs::write(&own, "a file").unwrap();
    let dial = Dial::new(dir.url("unix", "server")).unwrap();
    let local = UnixAddr::from_path(&own).unwrap();
    let dial = host.0.dial(dial.local_addr(local)).unwrap();
    let text = host.until("it fails", |node| node.dial_error(dial).map(str::to_owned));
    let (own, server) = (own.display(), dir.join("server"));
    let server = server.display();
    assert_eq!(
        text,
        format!("dial unix {own}->{server}: bind: address already in use")
    );
}

#[test]
fn a_failed_dial_leaves_no_path_behind() {
    let dir = Dir::new();
    let own = dir.join("client");
    let mut host = Host::new(Node::new());
    let dial = Dial::new(dir.url("unix", "nobody")).unwrap();
    let local = UnixAddr::from_path(&own).unwrap();
    let dial = host.0.dial(dial.local_addr(local)).unwrap();
    host.until("it fails", |node| node.dial_error(dial).map(|_| ()));
    assert!(!own.exists());
}

/// A listener whose accept queue is full, and the clients in it.
fn full_listener(path: &Path) -> (Socket, Vec<Socket>) {
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let addr = SockAddr::unix(path).unwrap();
    listener.bind(&addr).unwrap();
    listener.listen(0).unwrap();
    let mut clients = Vec::new();
    loop {
        let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        match client.connect(&addr) {
            Ok(()) => clients.push(client),
            Err(_) => return (listener, clients),
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_dial_to_a_full_queue_waits_for_room_until_its_time_is_up() {
    let dir = Dir::new();
    let path = dir.join("full");
    let (listener, _clients) = full_listener(&path);
    let mut host = Host::new(Node::new());
    let dial = |after| Dial::new(url("unix", &path)).unwrap().timeout(after);
    let began = Instant::now();
    let late = host.0.dial(dial(millis(120))).unwrap();
    let text = host.until("time runs out", |node| {
        node.dial_error(late).map(str::to_owned)
    });
    assert_eq!(text, format!("dial unix {}: i/o timeout", path.display()));
    assert!(
        began.elapsed() >= millis(120),
        "after {:?}",
        began.elapsed()
    );
    let turns = host.0.stats().turns;
    assert!(turns < 200, "{turns} turns for a wait of 120 ms");

    let patient = host.0.dial(dial(PATIENCE)).unwrap();
    host.settle();
    assert_eq!(host.said().dialed(patient), None);
    let _room = listener.accept().unwrap();
    host.until("there is room", |node| node.dialed(patient));
}

#[cfg(target_os = "linux")]
#[test]
fn a_dial_that_waits_for_room_can_be_canceled_and_leaves_no_path() {
    let dir = Dir::new();
    let path = dir.join("full");
    let (_listener, _clients) = full_listener(&path);
    let mut host = Host::new(Node::new());
    let own = UnixAddr::from_path(dir.join("own")).unwrap();
    let dial = Dial::new(url("unix", &path)).unwrap().local_addr(own);
    let dial = host.0.dial(dial).unwrap();
    host.settle();
    assert!(host.said().said.is_empty() && !dir.join("own").exists());
    host.0
        .handle()
        .post(move |_, cx| assert!(cx.cancel_dial(dial)))
        .unwrap();
    let text = host.until("the end", |node| node.dial_error(dial).map(str::to_owned));
    assert!(text.ends_with(": operation was canceled"), "{text}");
}

#[test]
fn a_client_finds_the_server_again_when_it_is_back() {
    let dir = Dir::new();
    let mut host = Host::new(Node::new());
    let dial = Dial::new(dir.url("unix", "later")).unwrap();
    let dial = host.0.dial(dial.reconnect(Backoff::default())).unwrap();
    host.until("nobody is there", |node| node.dial_error(dial).map(|_| ()));
    host.listen(dir.url("unix", "later"));
    host.until("it connects", |node| node.dialed(dial));
}

// Who is there.

#[test]
fn the_peers_credentials_are_those_of_its_process() {
    let dir = Dir::new();
    let url = dir.url("unix", "who");
    let mut host = Host::new(Node::new());
    host.listen(&url);
    let (dialed, accepted) = host.pair(&url);
    let ours = fs::metadata(dir.join("who")).unwrap();
    for id in [dialed, accepted] {
        let cred = host.with_conn(id, |conn| conn.peer_cred()).unwrap();
        assert_eq!((cred.uid, cred.gid), (ours.uid(), ours.gid()));
        if cfg!(target_os = "linux") {
            assert_eq!(cred.pid, Some(std::process::id().cast_signed()));
        }
    }
    host.listen("127.0.0.1:0");
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dial = host.0.dial(tcp.local_addr().unwrap()).unwrap();
    let id = host.until("it connects", |node| node.dialed(dial));
    let error = host.with_conn(id, |conn| conn.peer_cred()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
}

// Descriptors.

/// A file that says who it is.
fn file(dir: &Dir, name: &str) -> OwnedFd {
    fs::write(dir.join(name), name).unwrap();
    File::open(dir.join(name)).unwrap().into()
}

fn text_of(fd: OwnedFd) -> String {
    let mut text = String::new();
    File::from(fd).read_to_string(&mut text).unwrap();
    text
}

#[test]
fn descriptors_travel_both_ways_in_order_with_the_bytes() {
    let dir = Dir::new();
    let url = dir.url("unix", "both");
    let files = [file(&dir, "a"), file(&dir, "b"), file(&dir, "c")];
    let mut host = Host::new(
        Node::new()
            .accept(|conn| {
                conn.accept_fds(8);
                Ok(())
            })
            .connect(|conn| {
                conn.accept_fds(8);
                Ok(())
            }),
    );
    host.listen(&url);
    let (dialed, accepted) = host.pair(&url);
    for (from, to) in [(dialed, accepted), (accepted, dialed)] {
        let copies: Vec<_> = files.iter().map(|fd| fd.try_clone().unwrap()).collect();
        host.with_conn(from, move |conn| {
            let mut copies = copies.into_iter();
            conn.write(b"one ");
            conn.send_fds(vec![copies.next().unwrap()], b"two ");
            conn.write(b"three ");
            conn.send_fds(copies.collect(), b"four ");
            conn.write(b"five");
            assert_eq!(conn.queued(), 23);
        });
        let expected = b"one two three four five";
        host.until_true("all bytes", |node| node.bytes(to) == expected);
        let got = host.with_conn(to, |conn| {
            let taken = std::iter::from_fn(|| conn.take_fd());
            taken.map(text_of).collect::<Vec<_>>()
        });
        // All three are one file each, opened once: what one has read the next does not see,
        // so they are told apart by their order.
        assert_eq!(
            got,
            if from == dialed {
                ["a", "b", "c"]
            } else {
                ["", "", ""]
            }
        );
    }
}

#[test]
fn a_descriptor_is_there_no_later_than_its_bytes() {
    let dir = Dir::new();
    let url = dir.url("unix", "together");
    let mut host = Host::new(
        Node::new()
            .accept(|conn| {
                conn.accept_fds(1);
                Ok(())
            })
            .read(|conn, input| {
                let bytes = input.take_all();
                if bytes.contains(&b'!') {
                    let fd = conn.take_fd().expect("it has come with its byte");
                    conn.write(text_of(fd).as_bytes());
                }
                Ok(())
            }),
    );
    host.listen(&url);
    let (dialed, _) = host.pair(&url);
    for n in 0..50 {
        let name = format!("file {n:02}");
        let fd = file(&dir, &name);
        host.with_conn(dialed, move |conn| {
            conn.write(b"some text ");
            conn.send_fds(vec![fd], b"!");
            conn.write(b" and more");
        });
        host.until_true("the text of the file", |node| {
            node.bytes(dialed).ends_with(name.as_bytes())
        });
    }
    assert_eq!(host.0.stats().descriptors_dropped, 0);
}

// A read stops where descriptors were sent, whether somebody takes them or not, and no report
// follows for the bytes behind: they are to be read all the same.
#[cfg(target_os = "linux")]
#[test]
fn bytes_behind_descriptors_that_nobody_wants_arrive() {
    alone("bytes_behind_descriptors_that_nobody_wants_arrive", || {
        let dir = Dir::new();
        let url = dir.url("unix", "unwanted");
        let mut host = Host::new(Node::new());
        host.listen(&url);
        let (dialed, accepted) = host.pair(&url);
        let fds = [file(&dir, "a"), file(&dir, "b")];
        let before = open_descriptors();
        host.with_conn(dialed, move |conn| {
            for fd in fds {
                conn.write(b"before ");
                conn.send_fds(vec![fd], b"with ");
            }
            conn.write(b"behind");
        });
        let expected = b"before with before with behind";
        host.until_true("all bytes", |node| node.bytes(accepted) == expected);
        host.with_conn(accepted, |conn| assert!(conn.take_fd().is_none()));
        assert_eq!(
            open_descriptors(),
            before - 2,
            "ours were closed when they had left"
        );
    });
}

#[cfg(target_os = "linux")]
#[test]
fn more_descriptors_than_may_wait_are_closed_and_counted() {
    alone(
        "more_descriptors_than_may_wait_are_closed_and_counted",
        || {
            let dir = Dir::new();
            let url = dir.url("unix", "many");
            let mut host = Host::new(Node::new().accept(|conn| {
                conn.accept_fds(3);
                Ok(())
            }));
            host.listen(&url);
            let (dialed, accepted) = host.pair(&url);
            let before = open_descriptors();
            let fds: Vec<_> = (0..10).map(|n| file(&dir, &n.to_string())).collect();
            host.with_conn(dialed, move |conn| {
                for fd in fds {
                    conn.send_fds(vec![fd], b".");
                }
            });
            host.until_true("all bytes", |node| node.bytes(accepted).len() == 10);
            assert_eq!(host.0.stats().descriptors_dropped, 7);
            assert_eq!(open_descriptors(), before + 3);
            let oldest = host.with_conn(accepted, |conn| conn.take_fd()).unwrap();
            assert_eq!(text_of(oldest), "0");
            // What nobody has taken goes with the connection.
            host.with_conn(accepted, |conn| conn.abort());
            host.until("it ends", |node| node.end(accepted).map(|_| ()));
            host.until("and the other", |node| node.end(dialed).map(|_| ()));
            assert_eq!(open_descriptors(), before - 2);
        },
    );
}

// Go 136, TestUnixConnReadMsgUnixSCMRightsCloseOnExec.
#[test]
fn a_descriptor_that_has_come_is_close_on_exec() {
    let dir = Dir::new();
    let url = dir.url("unix", "cloexec");
    let mut host = Host::new(Node::new().accept(|conn| {
        conn.accept_fds(1);
        Ok(())
    }));
    host.listen(&url);
    let (dialed, accepted) = host.pair(&url);
    let fd = file(&dir, "x");
    host.with_conn(dialed, move |conn| conn.send_fds(vec![fd], b"x"));
    host.until_true("it comes", |node| node.bytes(accepted) == b"x");
    let fd = host.with_conn(accepted, |conn| conn.take_fd()).unwrap();
    let socket = socket2::SockRef::from(&fd);
    let flags = fs::read_to_string(format!("/proc/self/fdinfo/{}", socket.as_raw_fd()));
    if let Ok(info) = flags {
        // Octal O_CLOEXEC.
        let flags = info
            .lines()
            .find_map(|line| line.strip_prefix("flags:"))
            .unwrap();
        let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
        assert_ne!(flags & libc::O_CLOEXEC, 0);
    }
}

#[test]
fn descriptors_keep_their_place_when_the_socket_is_full() {
    const SIZE: usize = 1024 * 1024;
    let dir = Dir::new();
    let url = dir.url("unix", "slow");
    let mut host = Host::new(Node::new().accept(|conn| {
        conn.accept_fds(2);
        conn.pause();
        Ok(())
    }));
    host.listen(&url);
    let (dialed, accepted) = host.pair(&url);
    let (first, second) = (file(&dir, "first"), file(&dir, "second"));
    host.with_conn(dialed, move |conn| {
        conn.write(&vec![b'x'; SIZE]);
        conn.send_fds(vec![first], b"1");
        conn.write(&vec![b'y'; SIZE]);
        conn.send_fds(vec![second], b"2");
        assert!(conn.queued() > SIZE);
        conn.close();
    });
    host.settle();
    host.with_conn(accepted, |conn| conn.resume());
    host.until("it ends", |node| node.end(dialed).map(|_| ()));
    let mut expected = vec![b'x'; SIZE];
    expected.push(b'1');
    expected.extend(vec![b'y'; SIZE]);
    expected.push(b'2');
    assert!(host.said().bytes(accepted) == expected);
    let end = host.said().end(dialed).unwrap();
    assert_eq!((end.unsent, end.bytes_written), (0, expected.len() as u64));
}

#[test]
fn descriptors_that_cannot_be_sent_end_the_connection_with_the_reason() {
    let dir = Dir::new();
    let url = dir.url("unix", "refused");
    let mut host = Host::new(Node::new());
    host.listen(&url);
    let fd = file(&dir, "x");
    let many = |n| (0..n).map(|_| fd.try_clone().unwrap()).collect::<Vec<_>>();
    for (fds, bytes) in [(many(1), &b""[..]), (many(254), b"x")] {
        let (dialed, _) = host.pair(&url);
        let flow = host.with_conn(dialed, move |conn| conn.send_fds(fds, bytes));
        assert_eq!(flow, Flow::Closed);
        let end = host.until("it ends", |node| node.end(dialed).cloned());
        let path = dir.join("refused");
        let expected = format!(
            "write unix @->{}: sendmsg: invalid argument",
            path.display()
        );
        assert_eq!(end.reason, expected);
    }
    let (dialed, accepted) = host.pair(&url);
    let fds = many(253);
    host.with_conn(dialed, move |conn| conn.send_fds(fds, b"most"));
    host.until_true("they leave", |node| node.bytes(accepted) == b"most");

    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dial = host.0.dial(tcp.local_addr().unwrap()).unwrap();
    let id = host.until("it connects", |node| node.dialed(dial));
    let fds = many(1);
    host.with_conn(id, move |conn| conn.send_fds(fds, b"x"));
    let end = host.until("it ends", |node| node.end(id).cloned());
    assert!(
        end.reason.starts_with("write tcp 127.0.0.1:"),
        "{}",
        end.reason
    );
    assert!(end.reason.contains("sendmsg: "), "{}", end.reason);
}

#[cfg(target_os = "linux")]
fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

// In a world, where time is exact.

#[test]
fn a_full_queue_is_asked_again_after_1_ms_and_less_and_less_often() {
    let mut world = World::new(1, Node::new());
    world.remote_unix("/run/full.sock", Remote::Silent);
    let dial = Dial::new("unix:///run/full.sock").unwrap();
    let dial = world.dial(dial.timeout(millis(1000))).unwrap();
    world.run();
    let idle = world.open_descriptors();
    // 1, 2, 4, 8, 16, 32 and then 50 ms apart.
    for (asked, wait) in (1..).zip([1, 2, 4, 8, 16, 32, 50, 50, 50]) {
        assert_eq!(world.calls(Call::Connect), asked);
        world.advance(millis(wait) - Duration::from_nanos(1));
        assert_eq!(world.calls(Call::Connect), asked);
        world.advance(Duration::from_nanos(1));
        assert_eq!(
            world.open_descriptors(),
            idle,
            "each socket is closed at once"
        );
    }
    let elapsed = millis(1 + 2 + 4 + 8 + 16 + 32 + 150);
    world.advance(millis(1000) - elapsed - Duration::from_nanos(1));
    assert_eq!(world.handler().dial_error(dial), None);
    world.advance(Duration::from_nanos(1));
    let text = world.handler().dial_error(dial).unwrap();
    assert_eq!(text, "dial unix /run/full.sock: i/o timeout");
    assert_eq!(world.calls(Call::Connect), 25);
}

#[test]
fn room_in_the_queue_is_found_within_50_ms() {
    let mut world = World::new(1, Node::new());
    world.remote_unix("/run/full.sock", Remote::Silent);
    let dial = world.dial("unix:///run/full.sock").unwrap();
    world.advance(millis(500));
    world.remote_unix("/run/full.sock", Remote::Accepts);
    world.advance(millis(50));
    assert!(world.handler().dialed(dial).is_some());
}

// By chance.

/// What one end sends: text, or text with a descriptor of a file whose content is its number.
#[test]
fn bytes_and_descriptors_arrive_in_order_whatever_the_pieces_and_the_pauses() {
    const MESSAGES: usize = 400;
    let dir = Dir::new();
    let url = dir.url("unix", "random");
    let mut host = Host::new(Node::new().accept(|conn| {
        conn.accept_fds(MESSAGES);
        Ok(())
    }));
    host.listen(&url);
    let (dialed, accepted) = host.pair(&url);
    // Small multiplicative steps are random enough to mix sizes.
    let mut seed: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut next = move |most: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % most
    };
    let (mut expected, mut numbers) = (Vec::new(), Vec::new());
    for n in 0..MESSAGES {
        let size = [1, 10, 300, 5_000, 40_000][next(5) as usize];
        let bytes = vec![b'a' + (n % 26) as u8; size];
        expected.extend_from_slice(&bytes);
        let fd = (next(3) == 0).then(|| file(&dir, &n.to_string()));
        numbers.extend(fd.is_some().then(|| n.to_string()));
        host.with_conn(dialed, move |conn| match fd {
            Some(fd) => conn.send_fds(vec![fd], &bytes),
            None => conn.write(&bytes),
        });
        match next(4) {
            0 => host.with_conn(accepted, |conn| conn.pause()),
            1 => host.with_conn(accepted, |conn| conn.resume()),
            _ => {}
        }
    }
    host.with_conn(accepted, |conn| conn.resume());
    host.until_true("all bytes", |node| {
        node.bytes(accepted).len() == expected.len()
    });
    assert!(host.said().bytes(accepted) == expected, "the bytes differ");
    let taken = host.with_conn(accepted, |conn| {
        std::iter::from_fn(|| conn.take_fd())
            .map(text_of)
            .collect::<Vec<_>>()
    });
    assert_eq!(taken, numbers);
}

#[test]
fn dropping_the_loop_removes_the_path_that_it_dialed_from() {
    let dir = Dir::new();
    let mut host = Host::new(Node::new());
    host.listen(dir.url("unix", "served"));
    let own = dir.join("own");
    let addr = Addr::Unix(own.to_str().unwrap().parse().unwrap());
    let dial = Dial::new(dir.url("unix", "served"))
        .unwrap()
        .local_addr(addr);
    let dial = host.0.dial(dial).unwrap();
    host.until("it connects", |node| node.dialed(dial));
    assert!(own.exists());
    drop(host);
    assert!(!own.exists());
}
