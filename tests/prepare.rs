//! What this crate has no option for can be done to the socket itself, before anybody can
//! reach it.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use socket2::{SockRef, Type};
use windlass::{Bind, Conn, Context, Dial, DialId, Error, Handler, Listen, Reactor};

const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Default)]
struct Diary {
    connected: usize,
    errors: Vec<String>,
}

impl Handler for Diary {
    type Session = ();

    fn on_connect(&mut self, _: &mut Conn<'_>, _: DialId) -> io::Result<()> {
        self.connected += 1;
        Ok(())
    }

    fn on_dial_error(
        &mut self,
        _: &mut Context<'_>,
        _: DialId,
        error: &Error,
        _: Option<Duration>,
    ) {
        self.errors.push(error.to_string());
    }
}

/// Notes what kind of socket it was given, and that it is not bound yet.
type Seen = Arc<Mutex<Vec<(Type, bool)>>>;

fn noting(seen: &Seen) -> impl Fn(BorrowedFd<'_>) -> io::Result<()> + Send + Sync + 'static {
    let seen = Arc::clone(seen);
    move |fd| {
        let socket = SockRef::from(&fd);
        let local = socket.local_addr()?;
        let unbound = local.as_socket().is_none_or(|addr| addr.port() == 0)
            && local.as_pathname().is_none()
            && local.as_abstract_namespace().is_none();
        seen.lock().unwrap().push((socket.r#type()?, unbound));
        Ok(())
    }
}

fn refusing(_: BorrowedFd<'_>) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::EPERM))
}

#[track_caller]
fn drive(reactor: &mut Reactor<Diary>, done: impl Fn(&Diary) -> bool) {
    let began = Instant::now();
    while !done(reactor.handler()) {
        assert!(began.elapsed() < PATIENCE, "it never came to that");
        let _ = reactor.turn(Some(Duration::from_millis(5))).unwrap();
    }
}

struct Dir(std::path::PathBuf);

impl Dir {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("windlass-prepare-{}-{n}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn at(&self, network: &str, name: &str) -> String {
        format!("{network}://{}", self.0.join(name).display())
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

// Go 60, TestListenConfigControl: adapted, the socket itself is lent out before bind.
#[test]
fn every_kind_of_listener_is_prepared_before_it_is_bound() {
    let dir = Dir::new();
    let mut reactor = Reactor::new(Diary::default()).unwrap();
    let seen = Seen::default();
    let places = ["tcp://127.0.0.1:0", "tcp4://127.0.0.1:0", "tcp://:0"].map(str::to_owned);
    for place in places {
        let listen = Listen::new(place).unwrap().prepare(noting(&seen));
        reactor.listen(listen).unwrap();
    }
    reactor
        .listen(
            Listen::new(dir.at("unix", "stream"))
                .unwrap()
                .prepare(noting(&seen)),
        )
        .unwrap();
    assert_eq!(*seen.lock().unwrap(), [(Type::STREAM, true); 4]);
    #[cfg(not(target_os = "macos"))]
    {
        let listen = Listen::new(dir.at("unixpacket", "records")).unwrap();
        reactor.listen(listen.prepare(noting(&seen))).unwrap();
        assert_eq!(seen.lock().unwrap().pop(), Some((Type::SEQPACKET, true)));
    }
}

// Go 60, TestListenConfigControl: the time to live of what a listener sends.
#[test]
fn what_is_prepared_holds_for_the_socket() {
    let mut reactor = Reactor::new(Diary::default()).unwrap();
    let ttl = Arc::new(AtomicU32::new(0));
    let read_back = Arc::clone(&ttl);
    let listen = Listen::new("tcp4://127.0.0.1:0")
        .unwrap()
        .prepare(move |fd| {
            let socket = SockRef::from(&fd);
            socket.set_ttl_v4(7)?;
            read_back.store(socket.ttl_v4()?, Ordering::Relaxed);
            Ok(())
        });
    reactor.listen(listen).unwrap();
    assert_eq!(ttl.load(Ordering::Relaxed), 7);
}

// Go 61, TestListenConfigControl for packets: adapted likewise.
#[test]
fn every_kind_of_datagram_socket_is_prepared_before_it_is_bound() {
    let dir = Dir::new();
    let mut reactor = Reactor::new(Diary::default()).unwrap();
    let seen = Seen::default();
    let binds = [
        Bind::new("udp://127.0.0.1:0").unwrap(),
        Bind::new("udp4://:0").unwrap(),
        Bind::connect("udp://127.0.0.1:9").unwrap(),
        Bind::new(dir.at("unixgram", "ours")).unwrap(),
    ];
    for bind in binds {
        reactor.bind(bind.prepare(noting(&seen))).unwrap();
    }
    assert_eq!(*seen.lock().unwrap(), [(Type::DGRAM, true); 4]);
}

// Go 90, TestDialerControl: adapted, for every attempt that is made.
#[test]
fn a_dial_is_prepared_before_it_connects() {
    let dir = Dir::new();
    let mut reactor = Reactor::new(Diary::default()).unwrap();
    let seen = Seen::default();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let unix = std::os::unix::net::UnixListener::bind(dir.0.join("served")).unwrap();
    let port = tcp.local_addr().unwrap().port();
    for place in [format!("tcp://127.0.0.1:{port}"), dir.at("unix", "served")] {
        let dial = Dial::new(place).unwrap().prepare(noting(&seen));
        reactor.dial(dial).unwrap();
    }
    drive(&mut reactor, |diary| diary.connected == 2);
    assert_eq!(*seen.lock().unwrap(), [(Type::STREAM, true); 2]);
    drop(unix);
}

#[test]
fn a_preparation_that_fails_is_the_reason_and_leaves_nothing_open() {
    let dir = Dir::new();
    let mut reactor = Reactor::new(Diary::default()).unwrap();
    let listen = Listen::new("tcp://127.0.0.1:4000")
        .unwrap()
        .prepare(refusing);
    let error = reactor.listen(listen).unwrap_err();
    let words = "listen tcp 127.0.0.1:4000: prepare: operation not permitted";
    assert_eq!(error.to_string(), words);
    let path = dir.at("unix", "never");
    let error = reactor.listen(Listen::new(&path).unwrap().prepare(refusing));
    assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::EPERM));
    assert!(!dir.0.join("never").exists());
    let error = reactor.bind(Bind::new("udp://127.0.0.1:0").unwrap().prepare(refusing));
    assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::EPERM));
    let dial = Dial::new("tcp://127.0.0.1:9").unwrap().prepare(refusing);
    reactor.dial(dial).unwrap();
    drive(&mut reactor, |diary| !diary.errors.is_empty());
    let words = "dial tcp 127.0.0.1:9: prepare: operation not permitted";
    assert_eq!(reactor.handler().errors, [words]);
    assert_eq!(reactor.stats().open, 0);
}
