//! Records (SOCK_SEQPACKET): each write is one, each `on_read` gets one, and everything else
//! is as on streams. On the real kernel.

#![cfg(not(target_os = "macos"))]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

#[path = "util/host.rs"]
mod host;

use std::fs::{self, File};
use std::io::Read;
use std::net::Shutdown;
use std::sync::Arc;

use socket2::{Domain, SockAddr, Socket, Type};
use windlass::{Config, ConnId, Dial, Flow, Listen};

use host::{Dir, Host, Node, PATIENCE, Said};

/// A client of the test's own, which never waits for ever.
fn client(dir: &Dir, name: &str) -> Socket {
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    socket
        .connect(&SockAddr::unix(dir.join(name)).unwrap())
        .unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// One record, or nothing at the end.
fn receive(mut socket: &Socket) -> Vec<u8> {
    let mut record = vec![0; 1 << 20];
    let n = socket.read(&mut record).unwrap();
    record.truncate(n);
    record
}

fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}

/// A host that listens, and both ends of a connection.
fn pair(node: Node, config: Config) -> (Host, ConnId, ConnId, Dir) {
    let dir = Dir::new();
    let url = dir.url("unixpacket", "records");
    let mut host = Host::with(node, config);
    host.listen(&url);
    let (dialed, accepted) = host.pair(&url);
    (host, dialed, accepted, dir)
}

// Go 108, TestConnAndListener; Go 116, TestUnixAndUnixpacketServer: a path, three clients.
#[test]
fn a_path_is_served_and_removed() {
    let dir = Dir::new();
    let url = dir.url("unixpacket", "echo");
    let mut host = Host::new(Node::echo());
    let listener = host.listen(Listen::new(&url).unwrap().mode(0o600));
    for _ in 0..3 {
        let (dialed, _) = host.pair(&url);
        host.with_conn(dialed, |conn| conn.write(b"hello"));
        host.until_true("the echo", |node| node.reads(dialed) == [b"hello"]);
    }
    host.0.listener(listener).unwrap().close();
    host.settle();
    assert!(!dir.join("echo").exists());
}

// Go 116, TestUnixAndUnixpacketServer: an abstract name, three clients.
#[cfg(target_os = "linux")]
#[test]
fn an_abstract_name_is_served() {
    let url = format!("unixpacket://@windlass-records-{}", std::process::id());
    let mut host = Host::new(Node::echo());
    host.listen(&url);
    for _ in 0..3 {
        let (dialed, _) = host.pair(&url);
        host.with_conn(dialed, |conn| conn.write(b"hello"));
        host.until_true("the echo", |node| node.reads(dialed) == [b"hello"]);
    }
}

#[test]
fn a_stale_path_is_served_again() {
    let dir = Dir::new();
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    socket
        .bind(&SockAddr::unix(dir.join("stale")).unwrap())
        .unwrap();
    socket.listen(1).unwrap();
    let mut host = Host::new(Node::new());
    let url = dir.url("unixpacket", "stale");
    let served = host.0.listen(url.as_str()).unwrap_err();
    assert!(
        served.to_string().ends_with("bind: address already in use"),
        "{served}"
    );
    drop(socket);
    host.listen(url.as_str());
    host.pair(&url);
}

#[test]
fn each_write_is_one_record_whatever_writes_it() {
    let (mut host, dialed, accepted, _dir) = pair(Node::new(), Config::default());
    host.with_conn(dialed, |conn| {
        let (one, three) = ("one", 3);
        conn.write(b"first");
        conn.write(b"");
        conn.write_shared(Arc::from(&b"second"[..]));
        conn.write_shared(Arc::from(vec![b's'; 1000]));
        write!(conn, "{one} and {three}");
        write!(conn, "whole");
        let writer: &mut dyn std::io::Write = conn;
        write!(writer, "{one}, {one}").unwrap();
        conn.write(&[b'x'; 50_000]);
        conn.write(b"last");
    });
    let expected: [&[u8]; 8] = [
        b"first",
        b"second",
        &[b's'; 1000],
        b"one and 3",
        b"whole",
        b"one, one",
        &[b'x'; 50_000],
        b"last",
    ];
    host.until_true("all records", |node| {
        node.reads(accepted).len() == expected.len()
    });
    assert!(host.said().reads(accepted) == expected);
}

#[test]
fn each_record_is_offered_by_itself_and_none_is_forgotten() {
    const RECORDS: usize = 100;
    let (mut host, dialed, accepted, _dir) = pair(Node::new(), Config::default());
    host.with_conn(accepted, |conn| conn.pause());
    // More than a turn's calls, and fewer than the kernel holds for one socket.
    host.with_conn(dialed, |conn| {
        (0..RECORDS).for_each(|n| {
            write!(conn, "record {n}");
        });
    });
    host.settle();
    assert!(host.said().reads(accepted).is_empty());
    host.with_conn(accepted, |conn| conn.resume());
    host.until_true("all records", |node| node.reads(accepted).len() == RECORDS);
    let reads = host.said().reads(accepted);
    for (n, record) in reads.iter().enumerate() {
        assert_eq!(record, format!("record {n}").as_bytes());
    }
}

#[test]
fn a_record_that_is_not_consumed_whole_ends_the_connection() {
    let node = Node::new().read(|_, input| {
        input.consume(2);
        Ok(())
    });
    let (mut host, dialed, accepted, _dir) = pair(node, Config::default());
    host.with_conn(dialed, |conn| {
        conn.write(b"record");
        conn.write(b"never offered");
    });
    let end = host.until("it ends", |node| node.end(accepted).cloned());
    assert_eq!(end.reason, "handler: a record was not consumed whole");
    assert_eq!(end.bytes_read, 6);
    assert!(end.unread >= 4, "{end:?}");
    assert_eq!(host.said().reads(accepted).len(), 1);
}

#[test]
fn a_record_longer_than_the_read_buffer_ends_the_connection() {
    let config = config(|config| config.read_buffer = 1000);
    let (mut host, dialed, accepted, _dir) = pair(Node::new(), config);
    host.with_conn(dialed, |conn| {
        conn.write(&[1; 1000]);
        conn.write(&[2; 1001]);
        conn.write(&[3; 10]);
    });
    let end = host.until("it ends", |node| node.end(accepted).cloned());
    assert_eq!(end.reason, "input limit exceeded");
    assert_eq!(end.bytes_read, 1000);
    assert_eq!(host.said().reads(accepted), [[1; 1000]]);
}

// Go 206, poll TestEOFError: zero from a receive call is the end, on records as on streams.
#[test]
fn a_record_without_bytes_is_the_end() {
    let dir = Dir::new();
    let mut host = Host::new(Node::new());
    host.listen(dir.url("unixpacket", "empty"));
    let peer = client(&dir, "empty");
    peer.send(b"x").unwrap();
    peer.send(b"").unwrap();
    let id = host.until("the end", |node| {
        node.accepted(0)
            .filter(|&id| node.said.contains(&Said::Eof(id)))
    });
    assert_eq!(host.said().reads(id), [b"x"]);
    let end = host.until("it ends", |node| node.end(id).cloned());
    assert_eq!(end.reason, "end of stream");
}

#[test]
fn a_record_that_never_fits_ends_the_connection() {
    let dir = Dir::new();
    let url = dir.url("unixpacket", "huge");
    let mut host = Host::new(Node::new());
    host.listen(&url);
    for size in [2 << 20, 300_000] {
        let dial = Dial::new(&url).unwrap().send_buffer(32 * 1024);
        let dial = host.0.dial(dial).unwrap();
        let id = host.until("it connects", |node| node.dialed(dial));
        host.with_conn(id, move |conn| conn.write(&vec![0; size]));
        let end = host.until("it ends", |node| node.end(id).cloned());
        let place = dir.join("huge");
        let expected = format!(
            "write unixpacket @->{}: write: message too long",
            place.display()
        );
        assert_eq!(end.reason, expected);
    }
}

#[test]
fn a_peer_that_does_not_read_holds_the_writer_back_and_loses_nothing() {
    let (mut host, dialed, accepted, _dir) = pair(Node::new(), Config::default());
    host.with_conn(accepted, |conn| conn.pause());
    let sent = host.with_conn(dialed, |conn| {
        let mut sent = 0;
        while conn.write(format!("{sent:>1000}").as_bytes()) == Flow::Open {
            sent += 1;
        }
        sent + 1
    });
    host.settle();
    assert!(!host.said().said.contains(&Said::Write(dialed)));
    host.with_conn(accepted, |conn| conn.resume());
    host.until_true("all records", |node| node.reads(accepted).len() == sent);
    host.until_true("on_write", |node| node.said.contains(&Said::Write(dialed)));
    for (n, record) in host.said().reads(accepted).iter().enumerate() {
        assert_eq!(record, format!("{n:>1000}").as_bytes());
    }
}

#[test]
fn tiny_records_are_bounded_by_what_they_cost() {
    let config = config(|config| {
        config.limits.low = 1000;
        config.limits.high = 10_000;
        config.limits.limit = 100_000;
    });
    let (mut host, dialed, accepted, _dir) = pair(Node::new(), config);
    host.with_conn(accepted, |conn| conn.pause());
    let written = host.with_conn(dialed, |conn| {
        let mut written = 0;
        while conn.write(b"x") != Flow::Closed {
            written += 1;
        }
        written
    });
    assert!(
        (2000..10_000).contains(&written),
        "{written} records of one byte"
    );
    let end = host.until("it ends", |node| node.end(dialed).cloned());
    assert_eq!(end.reason, "output limit exceeded");
}

#[test]
fn queued_records_leave_before_a_close_and_the_end_follows() {
    let dir = Dir::new();
    let mut host = Host::new(Node::new().accept(|conn| {
        for n in 0..500 {
            conn.write(format!("{n:>1000}").as_bytes());
        }
        conn.close();
        Ok(())
    }));
    host.listen(dir.url("unixpacket", "close"));
    let peer = client(&dir, "close");
    let reader = std::thread::spawn(move || {
        let records = std::iter::from_fn(|| Some(receive(&peer)).filter(|it| !it.is_empty()));
        records.collect::<Vec<_>>()
    });
    host.until_true("it ends", |node| {
        node.count(|said| matches!(said, Said::Close(_))) == 1
    });
    let records = reader.join().unwrap();
    assert_eq!(records.len(), 500);
    for (n, record) in records.iter().enumerate() {
        assert_eq!(record, format!("{n:>1000}").as_bytes());
    }
}

// Go 32 to 36 for unixpacket: TestCloseWrite, TestConnClose.
#[test]
fn a_half_closed_connection_is_read_on() {
    let dir = Dir::new();
    let mut host = Host::new(Node::new().eof(|conn| {
        conn.write(b"after");
        conn.write(b"your end");
        conn.shutdown_write();
        assert_eq!(conn.write(b"more"), Flow::Closed);
        Ok(())
    }));
    host.listen(dir.url("unixpacket", "half"));
    let peer = client(&dir, "half");
    peer.send(b"last words").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    let id = host.until("it ends", |node| {
        let id = node.accepted(0)?;
        node.end(id).map(|_| id)
    });
    assert_eq!(host.said().reads(id), [b"last words"]);
    assert_eq!(receive(&peer), b"after");
    assert_eq!(receive(&peer), b"your end");
    assert_eq!(receive(&peer), b"");
}

#[test]
fn descriptors_travel_with_their_record() {
    let node = Node::new()
        .accept(|conn| {
            conn.accept_fds(2);
            Ok(())
        })
        .read(|conn, input| {
            let record = input.take_all().to_vec();
            let mut text = String::new();
            while let Some(fd) = conn.take_fd() {
                File::from(fd).read_to_string(&mut text)?;
            }
            write!(conn, "{}:{text}", String::from_utf8_lossy(&record));
            Ok(())
        });
    let (mut host, dialed, _, dir) = pair(node, Config::default());
    let fds: Vec<_> = ["a", "b", "c"]
        .map(|name| {
            fs::write(dir.join(name), name).unwrap();
            File::open(dir.join(name)).unwrap().into()
        })
        .into();
    host.with_conn(dialed, move |conn| {
        let mut fds = fds.into_iter();
        conn.write(b"none");
        conn.send_fds(fds.by_ref().take(1).collect(), b"one");
        conn.send_fds(fds.collect(), b"two");
        conn.write(b"none");
    });
    host.until_true("all answers", |node| node.reads(dialed).len() == 4);
    let answers = host.said().reads(dialed);
    let expected: [&[u8]; 4] = [b"none:", b"one:a", b"two:bc", b"none:"];
    assert_eq!(answers, expected);
    assert_eq!(host.0.stats().descriptors_dropped, 0);
}

#[test]
fn descriptors_that_nobody_takes_are_closed_and_their_record_arrives() {
    let (mut host, dialed, accepted, dir) = pair(Node::new(), Config::default());
    fs::write(dir.join("x"), "x").unwrap();
    let fd = File::open(dir.join("x")).unwrap().into();
    host.with_conn(dialed, move |conn| {
        conn.send_fds(vec![fd], b"with");
        conn.write(b"without");
    });
    host.until_true("both records", |node| node.reads(accepted).len() == 2);
    let expected: [&[u8]; 2] = [b"with", b"without"];
    assert_eq!(host.said().reads(accepted), expected);
    host.with_conn(accepted, |conn| assert!(conn.take_fd().is_none()));
}

#[test]
fn an_abort_is_seen_by_the_peer_and_drops_what_is_queued() {
    let (mut host, dialed, accepted, _dir) = pair(Node::new(), Config::default());
    host.with_conn(dialed, |conn| {
        conn.write(b"dropped");
        conn.abort();
    });
    let end = host.until("it ends", |node| node.end(dialed).cloned());
    assert_eq!((end.unsent, end.bytes_written), (7, 0));
    host.until("and the other", |node| node.end(accepted).map(|_| ()));
    assert!(host.said().reads(accepted).is_empty());
}

#[test]
fn a_large_record_leaves_at_once_and_whole() {
    let (mut host, dialed, accepted, _dir) = pair(Node::new(), Config::default());
    let written = host.with_conn(dialed, |conn| {
        conn.write(&[7; 50_000]);
        (conn.bytes_written(), conn.queued())
    });
    assert_eq!(written, (50_000, 0));
    host.until_true("it arrives", |node| {
        node.reads(accepted) == [vec![7; 50_000]]
    });
}

#[test]
fn a_record_that_does_not_fit_is_no_error_once_nobody_reads() {
    let dir = Dir::new();
    let config = config(|config| config.read_buffer = 1000);
    let mut host = Host::with(
        Node::new().read(|conn, input| {
            input.take_all();
            conn.write(b"bye");
            conn.close();
            Ok(())
        }),
        config,
    );
    host.listen(dir.url("unixpacket", "drain"));
    let peer = client(&dir, "drain");
    peer.send(b"x").unwrap();
    let id = host.until("it is read", |node| {
        node.accepted(0).filter(|&id| !node.reads(id).is_empty())
    });
    host.settle();
    assert_eq!(receive(&peer), b"bye");
    peer.send(&[2; 1001]).unwrap();
    host.settle();
    drop(peer);
    let end = host.until("it ends", |node| node.end(id).cloned());
    assert_eq!(end.reason, "closed by the handler");
}
