//! What cannot pass a layer is refused: descriptors, and the bounds of records.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util;

#[path = "util/hooks.rs"]
mod hooks;
#[path = "util/layer.rs"]
mod layer;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use hooks::Hooks;
use layer::{Frames, GREETING};
use util::eventually;
use windlass::{Config, Conn, Flow, Listen, Reactor};

fn path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("windlass-layers-{}-{n}", std::process::id()))
}

fn descriptor() -> Vec<OwnedFd> {
    vec![File::open("/dev/null").unwrap().into()]
}

/// A loop on this thread, and a client of its.
fn served(network: &str, hooks: Hooks, layered: bool) -> (Reactor<Hooks>, PathBuf) {
    let path = path();
    let mut reactor = Reactor::with_config(hooks, Config::default()).unwrap();
    let mut listen = Listen::new(format!("{network}://{}", path.display())).unwrap();
    if layered {
        listen = listen.layer(Frames::boxed);
    }
    reactor.listen(listen).unwrap();
    (reactor, path)
}

fn run_until(reactor: &mut Reactor<Hooks>, mut holds: impl FnMut(&Hooks) -> bool) {
    let came = eventually(util::PATIENCE, || {
        let _ = reactor.turn(Some(util::ms(10))).unwrap();
        holds(reactor.handler())
    });
    assert!(came, "{:?}", reactor.handler().log);
}

#[test]
fn descriptors_that_on_accept_sends_cannot_pass() {
    let hooks = Hooks::echo().accept(|conn| {
        conn.send_fds(descriptor(), b"here");
        Ok(())
    });
    let (mut reactor, path) = served("unix", hooks, true);
    let _client = UnixStream::connect(&path).unwrap();
    run_until(&mut reactor, |hooks| !hooks.ends.is_empty());
    assert_eq!(
        reactor.handler().ends,
        ["records and descriptors cannot pass a layer"]
    );
}

#[test]
fn descriptors_that_are_sent_later_cannot_pass() {
    let hooks = Hooks::echo().handshake(|conn| {
        assert_eq!(conn.send_fds(descriptor(), b"here"), Flow::Closed);
        Ok(())
    });
    let (mut reactor, path) = served("unix", hooks, true);
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(&GREETING).unwrap();
    run_until(&mut reactor, |hooks| !hooks.ends.is_empty());
    let reason = &reactor.handler().ends[0];
    assert!(reason.contains("sendmsg"), "{reason}");
}

#[test]
fn a_layer_does_not_come_before_descriptors_that_are_queued() {
    fn switch(conn: &mut Conn<'_>) -> io::Result<()> {
        conn.send_fds(descriptor(), b"here");
        let none = &mut windlass::Input::new(&[]);
        assert!(conn.set_layer(Frames::new(), none).is_err());
        Ok(())
    }
    let (mut reactor, path) = served("unix", Hooks::echo().accept(switch), false);
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"plain").unwrap();
    run_until(&mut reactor, |hooks| hooks.last.is_some());
    let mut came = [0; 9];
    let mut got = 0;
    client.set_nonblocking(true).unwrap();
    run_until(&mut reactor, |_| {
        got += client.read(&mut came[got..]).unwrap_or(0);
        got == 9
    });
    assert_eq!(&came, b"hereplain");
}

#[test]
fn bytes_pass_on_unix_sockets() {
    let (mut reactor, path) = served("unix", Hooks::echo(), true);
    let mut client = UnixStream::connect(&path).unwrap();
    let mut frames = Frames::new();
    client.write_all(&frames.encode(b"on a path")).unwrap();
    client.set_nonblocking(true).unwrap();
    let mut plain = Vec::new();
    run_until(&mut reactor, |_| {
        let mut wire = [0; 100];
        let n = client.read(&mut wire).unwrap_or(0);
        plain.extend(frames.decode(&wire[..n]));
        plain.len() == 9
    });
    assert_eq!(plain, b"on a path");
}

#[cfg(target_os = "linux")]
#[test]
fn records_have_no_layer() {
    let hooks = Hooks::echo();
    let (mut reactor, path) = served("unixpacket", hooks, true);
    let socket = socket2::Socket::new(
        socket2::Domain::UNIX,
        socket2::Type::from(libc::SOCK_SEQPACKET),
        None,
    );
    let socket = socket.unwrap();
    socket
        .connect(&socket2::SockAddr::unix(&path).unwrap())
        .unwrap();
    run_until(&mut reactor, |hooks| !hooks.ends.is_empty());
    assert_eq!(
        reactor.handler().ends,
        ["records and descriptors cannot pass a layer"]
    );
}
