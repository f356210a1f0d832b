//! Unix sockets in a simulated world: paths that others left behind, queues that are full,
//! peers that are gone at once, and records that stay whole.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::io;
use std::time::Duration;

use windlass::sim::{Call, Client, Remote, World};
use windlass::{Closed, Conn, Context, DialId, Error, Handler, Input, ListenerId, PeerCred};

const PATH: &str = "/run/x.sock";

/// Who accepted echoes, and who dialed listens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Accepted,
    Dialed,
}

/// Echoes, and keeps what it is told.
#[derive(Default)]
struct Echo {
    inputs: Vec<Vec<u8>>,
    connected: usize,
    failed: Vec<i32>,
    creds: Vec<PeerCred>,
    closed: Vec<String>,
}

impl Handler for Echo {
    type Session = Side;

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<Side> {
        self.creds.extend(conn.peer_cred());
        Ok(Side::Accepted)
    }

    fn on_connect(&mut self, conn: &mut Conn<'_>, _: DialId) -> io::Result<Side> {
        self.connected += 1;
        conn.write(b"hello");
        Ok(Side::Dialed)
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        side: &mut Side,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        let bytes = input.take_all();
        self.inputs.push(bytes.to_vec());
        if *side == Side::Accepted {
            conn.write(bytes);
        }
        Ok(())
    }

    fn on_dial_error(
        &mut self,
        _: &mut Context<'_>,
        _: DialId,
        error: &Error,
        _: Option<Duration>,
    ) {
        self.failed.push(error.raw_os_error().unwrap_or(0));
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: Side, closed: &Closed) {
        self.closed.push(format!("{:?}", closed.reason));
    }
}

fn served(network: &str) -> (World<Echo>, Client) {
    let mut world = World::new(7, Echo::default());
    world.try_listen(format!("{network}://{PATH}")).unwrap();
    let client = world.connect_unix(PATH);
    world.run();
    (world, client)
}

#[test]
fn a_client_is_served_at_a_path_and_the_path_goes_with_its_listener() {
    let (mut world, client) = served("unix");
    world.send(client, b"hello");
    world.run();
    assert_eq!(world.received(client), b"hello");
    assert!(world.addr(client).as_unix().unwrap().is_unnamed());
    assert!(world.file_exists(PATH));
    world.finish(client);
    world.run();
    assert!(world.saw_eof(client));
    world.shutdown(Duration::from_secs(1));
    assert!(!world.file_exists(PATH));
    let late = world.try_connect_unix(PATH).unwrap_err();
    assert_eq!(late.kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_stale_socket_is_taken_over_and_a_file_is_not() {
    let mut world = World::new(7, Echo::default());
    world.leave_socket(PATH);
    let stale = world.try_connect_unix(PATH).unwrap_err();
    assert_eq!(stale.kind(), io::ErrorKind::ConnectionRefused);
    world.try_listen(format!("unix://{PATH}")).unwrap();
    world.connect_unix(PATH);
    world.leave_file("/run/file");
    let error = world.try_listen("unix:///run/file").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
    assert!(world.file_exists("/run/file"));
}

#[test]
fn a_path_that_somebody_else_has_taken_is_not_removed() {
    let (mut world, _) = served("unix");
    assert!(world.remove_file(PATH) && !world.remove_file(PATH));
    world.leave_socket(PATH);
    world.shutdown(Duration::from_secs(1));
    assert!(world.file_exists(PATH));
}

#[test]
fn records_are_read_and_written_one_by_one() {
    let (mut world, client) = served("unixpacket");
    for record in [&b"one"[..], b"two", b"three"] {
        world.send(client, record);
    }
    world.run();
    assert_eq!(world.handler().inputs, [&b"one"[..], b"two", b"three"]);
    let replies = world.received_records(client);
    assert_eq!(replies, [&b"one"[..], b"two", b"three"]);
}

#[test]
fn records_stay_whole_whatever_the_buffers_and_however_slow_the_reader() {
    for seed in 0..20 {
        let mut world = World::new(seed, Echo::default());
        world.faults().buffers(16, 16).short_reads(Some(1));
        world.try_listen(format!("unixpacket://{PATH}")).unwrap();
        let client = world.connect_unix(PATH);
        world.stop_reading(client);
        let sent: Vec<Vec<u8>> = (1..60)
            .map(|len| vec![len; usize::from(len % 20) + 1])
            .collect();
        for record in &sent {
            world.send(client, record);
        }
        world.run();
        let mut got = Vec::new();
        while got.len() < sent.len() {
            assert!(world.read_some(client, 1) > 0, "nothing is left to read");
            got.extend(world.received_records(client));
            world.run();
        }
        assert_eq!(got, sent);
    }
}

#[test]
fn a_client_that_leaves_with_input_unread_resets() {
    let (mut world, client) = served("unix");
    world.stop_reading(client);
    world.send(client, b"hello");
    world.run();
    world.close(client);
    world.run();
    let closed = &world.handler().closed;
    assert!(
        closed.len() == 1 && closed[0].contains("Reset"),
        "{closed:?}"
    );
}

#[test]
fn who_is_at_the_other_end_is_what_the_world_says() {
    let mut world = World::new(7, Echo::default());
    world.try_listen(format!("unix://{PATH}")).unwrap();
    world.peer_cred(33, 44, None);
    world.connect_unix(PATH);
    world.run();
    let cred = world.handler().creds[0];
    assert_eq!((cred.uid, cred.gid, cred.pid), (33, 44, None));
}

#[test]
fn an_upstream_at_a_path_is_dialed() {
    let mut world = World::new(7, Echo::default());
    world.remote_unix("/run/up.sock", Remote::Accepts);
    world.dial("unix:///run/up.sock").unwrap();
    world.run();
    let far_end = world.dialed_unix("/run/up.sock").unwrap();
    assert_eq!(world.received(far_end), b"hello");
    world.send(far_end, b"you, too");
    world.run();
    assert_eq!(world.handler().inputs, [b"you, too"]);
    for path in ["/run/nothing", "@nothing"] {
        world.dial(format!("unix://{path}")).unwrap();
    }
    world.run();
    assert_eq!(world.handler().failed, [libc::ENOENT, libc::ECONNREFUSED]);
}

#[test]
fn a_dial_at_a_full_queue_tries_again_until_there_is_room() {
    let mut world = World::new(7, Echo::default());
    world.remote_unix("/run/up.sock", Remote::Silent);
    world.dial("unix:///run/up.sock").unwrap();
    world.advance(Duration::from_millis(500));
    assert!(world.calls(Call::Connect) > 1);
    assert!(world.handler().failed.is_empty());
    world.remote_unix("/run/up.sock", Remote::Accepts);
    world.advance(Duration::from_secs(1));
    assert_eq!(world.handler().connected, 1);
}

#[test]
fn a_loop_dials_its_own_path() {
    for network in ["unix", "unixpacket"] {
        let mut world = World::new(7, Echo::default());
        world.faults().latency(Duration::from_secs(1));
        world.try_listen(format!("{network}://@self")).unwrap();
        world.faults().fail(Call::Write, libc::EAGAIN, 3);
        world.dial(format!("{network}://@self")).unwrap();
        world.run();
        assert_eq!(world.handler().inputs, [b"hello", b"hello"]);
        world.shutdown(Duration::from_secs(5));
        assert_eq!(world.handler().closed.len(), 2);
    }
}

#[test]
fn a_path_is_stale_only_if_whoever_knocks_is_refused() {
    const BUSY: Remote = Remote::Silent;
    let lost = Remote::Fails {
        errno: libc::EACCES,
        after: Duration::ZERO,
    };
    for (remote, repaired) in [
        (Remote::Refuses, true),
        (Remote::Accepts, false),
        (BUSY, false),
        (lost, false),
    ] {
        let mut world = World::new(7, Echo::default());
        world.leave_socket(PATH);
        world.remote_unix(PATH, remote);
        let url = format!("unix://{PATH}");
        assert_eq!(world.try_listen(url.as_str()).is_ok(), repaired);
        assert!(world.file_exists(PATH));
    }
}

#[test]
fn nobody_is_served_at_the_path_that_a_connection_was_dialed_from() {
    const OWN: &str = "/run/own.sock";
    let mut world = World::new(7, Echo::default());
    world.remote_unix(PATH, Remote::Accepts);
    let own = windlass::Addr::Unix(OWN.parse().unwrap());
    let dial = windlass::Dial::new(format!("unix://{PATH}")).unwrap();
    world.dial(dial.local_addr(own)).unwrap();
    world.run();
    assert!(world.file_exists(OWN));

    let refused = world.try_connect_unix(OWN).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    world.dial(format!("unix://{OWN}")).unwrap();
    world.run();
    assert_eq!(world.handler().failed, [libc::ECONNREFUSED]);
}

#[test]
fn a_datagram_socket_that_cannot_be_had_whole_leaves_no_path() {
    let mut world = World::new(7, Echo::default());
    let bind = windlass::Bind::new(format!("unixgram://{PATH}")).unwrap();
    let group = std::net::IpAddr::from([224, 0, 0, 9]);
    assert!(world.try_bind(bind.join(group, 0)).is_err());
    assert!(!world.file_exists(PATH));
    world.shutdown(Duration::from_secs(1));
}
