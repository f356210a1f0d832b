//! What Go's `error_test.go` checks of TCP: bad addresses fail early and well-formed, and
//! closing again is harmless. And the texts that people search their logs for, each from
//! an operation that really fails so; those of a listener are in `p5_exhaustion.rs`, those
//! of a timeout and of a cancel in `dial.rs`, and those that nothing can provoke in the
//! unit tests of `src/error.rs`.
//!
//! The line above each test names the rows of Go's behaviour that it stands for.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util;

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use util::PATIENCE;
use windlass::sim::{Call, Remote, World};
use windlass::{
    CloseReason, Closed, Conn, ConnId, Context, Dial, DialId, Error, Flow, Handler, Input,
    ListenerId, Op, Reactor, Recovery,
};

// Go 93, 94, TestDialError: adapted, a text that is no address is refused by the call
// itself, and whatever needs a look-up by a callback.
#[test]
fn a_bad_address_to_dial_fails_in_gos_words_and_before_there_is_a_socket() {
    let refused = [
        ("foo://", "dial foo: unknown network foo"),
        ("bar://baz", "dial bar: unknown network bar"),
        (
            "datakit://mh/astro/r70",
            "dial datakit: unknown network datakit",
        ),
        ("tcp:80://", "dial tcp:80: unknown network tcp:80"),
        ("", "dial tcp: missing address"),
        (
            "127.0.0.1:\u{263a}",
            "dial tcp: address tcp/\u{263a}: unknown port",
        ),
        (
            "127.0.0.1:bogus",
            "dial tcp: address tcp/bogus: unknown port",
        ),
        ("127.0.0.1:-1", "dial tcp: address -1: invalid port"),
        ("127.0.0.1:65536", "dial tcp: address 65536: invalid port"),
        (
            "127.0.0.1:123456789",
            "dial tcp: address 123456789: invalid port",
        ),
        (
            "127.0.0.1",
            "dial tcp: address 127.0.0.1: missing port in address",
        ),
        (
            "::1:80",
            "dial tcp: address ::1:80: too many colons in address",
        ),
        ("[::1", "dial tcp: address [::1: missing ']' in address"),
    ];
    let mut world = world();
    for (text, says) in refused {
        let error = world.dial(text).unwrap_err();
        assert_well_formed(&error, Op::Dial, says);
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    let told = [
        ("tcp://", "dial tcp: missing address"),
        (
            "no-such-name:80",
            "dial tcp: lookup no-such-name: no such host",
        ),
        (
            "mh/astro/r70:http",
            "dial tcp: lookup mh/astro/r70: no such host",
        ),
    ];
    for (text, _) in told {
        world.dial(text).unwrap();
    }
    world.run();
    assert_eq!(world.handler().dial_errors, told.map(|(_, says)| says));
    assert_eq!(
        (world.calls(Call::Socket), world.calls(Call::Connect)),
        (0, 0)
    );
}

// Go 97, TestListenError.
#[test]
fn a_bad_address_to_listen_on_fails_in_gos_words_and_before_there_is_a_socket() {
    let rows = [
        ("foo://", "listen foo: unknown network foo"),
        ("bar://baz", "listen bar: unknown network bar"),
        (
            "datakit://mh/astro/r70",
            "listen datakit: unknown network datakit",
        ),
        ("", "listen tcp: missing address"),
        (
            "127.0.0.1:\u{263a}",
            "listen tcp: address tcp/\u{263a}: unknown port",
        ),
        (
            "no-such-name:80",
            "listen tcp: lookup no-such-name: no such host",
        ),
        (
            "mh/astro/r70:http",
            "listen tcp: lookup mh/astro/r70: no such host",
        ),
        ("127.0.0.1:-1", "listen tcp: address -1: invalid port"),
        (
            "127.0.0.1:123456789",
            "listen tcp: address 123456789: invalid port",
        ),
        (
            "tcp4://[::1]:0",
            "listen tcp4: address ::1: no suitable address found",
        ),
        (
            "tcp6://127.0.0.1:0",
            "listen tcp6: address 127.0.0.1: no suitable address found",
        ),
    ];
    let mut world = world();
    for (text, says) in rows {
        let error = world.try_listen(text).unwrap_err();
        assert_well_formed(&error, Op::Listen, says);
    }
    let calls = [Call::Socket, Call::Bind, Call::Listen].map(|call| world.calls(call));
    assert_eq!((calls, world.open_descriptors()), ([0, 0, 0], 0));
}

// Go 100, 101, TestCloseError: adapted, nothing answers "already closed": the second call
// does nothing, and what is asked of a closed connection says that it is gone.
#[test]
fn closing_half_or_all_of_a_connection_again_and_again_is_closing_it_once() {
    let (mut world, addr) = serving();
    let client = world.connect(addr);
    world.send(client, b"x");
    world.run();
    let conn = world.handler().accepted[0];
    world.clear_calls();
    for _ in 0..3 {
        world.post(move |_, cx| {
            let mut conn = cx.conn(conn).unwrap();
            conn.pause();
            conn.shutdown_write();
            assert_eq!(conn.write(b"too late"), Flow::Closed);
        });
        world.run();
    }
    assert_eq!(world.calls(Call::Shutdown), 1);
    assert!(world.saw_eof(client));
    for _ in 0..3 {
        world.post(move |_, cx| {
            let mut conn = cx.conn(conn).unwrap();
            conn.close();
            conn.close();
        });
        world.run();
    }
    world.finish(client);
    world.run();
    let calls = [Call::Shutdown, Call::Close].map(|call| world.calls(call));
    assert_eq!(calls, [1, 1]);
    assert_eq!(world.handler().closed, ["closed by the handler"]);
    world.post(move |_, cx| assert!(cx.conn(conn).is_none() && !cx.wake(conn)));
    world.run();
}

// Go 101, TestCloseError: the listener; adapted as above.
#[test]
fn closing_a_listener_again_and_again_is_closing_it_once() {
    let mut world = world();
    let id = world.try_listen("127.0.0.1:7").unwrap();
    world.run();
    world.clear_calls();
    for _ in 0..3 {
        world.post(move |_, cx| {
            if let Some(mut listener) = cx.listener(id) {
                listener.close();
                listener.close();
            }
        });
        world.run();
        assert!(world.listener(id).is_none());
    }
    assert_eq!((world.calls(Call::Close), world.open_descriptors()), (1, 0));
    assert!(world.handler().accept_errors.is_empty());
}

// Go 107, TestSpuriousENOTAVAIL: adapted, the errno is looked at before anything is wrapped
// around it; that EADDRNOTAVAIL is tried again, three times in all, is tested elsewhere.
#[test]
fn only_the_want_of_a_port_makes_a_dial_connect_again() {
    for (errno, connects) in [
        (libc::EADDRNOTAVAIL, 2),
        (libc::EINVAL, 1),
        (libc::EADDRINUSE, 1),
        (libc::ECONNREFUSED, 1),
    ] {
        let mut world = world();
        world.remote(FAR.parse().unwrap(), Remote::Accepts);
        world.faults().fail(Call::Connect, errno, 1);
        world.dial(FAR).unwrap();
        world.run();
        assert_eq!(world.calls(Call::Connect), connects, "errno {errno}");
        let failures = world.handler().dial_errors.len() as u64;
        assert_eq!(failures, 2 - connects);
    }
}

// Go's texts of dials: refused, with and without an end of our own.
#[test]
fn a_dial_that_the_system_refuses_names_both_ends_that_were_asked_for() {
    let refused = util::closed_port();
    let from = |local: &str| Dial::from(refused).local_addr(local.parse::<SocketAddr>().unwrap());
    let rows = [
        (
            Dial::from(refused),
            format!("dial tcp {refused}: connect: connection refused"),
        ),
        (
            from("127.0.0.1:0"),
            format!("dial tcp 127.0.0.1:0->{refused}: connect: connection refused"),
        ),
    ];
    for (dial, says) in rows {
        assert_eq!(really_told(dial), says);
    }
}

// Go's texts of dials: what only a script can provoke. EAGAIN and ETIMEDOUT are no timeouts,
// as they are in Go: no time was set.
#[test]
fn a_dial_fails_under_the_name_of_the_call_that_failed() {
    let rows = [
        (
            Call::Connect,
            libc::EHOSTUNREACH,
            "connect: no route to host",
        ),
        (
            Call::Connect,
            libc::ENETUNREACH,
            "connect: network is unreachable",
        ),
        (
            Call::Connect,
            libc::ETIMEDOUT,
            "connect: connection timed out",
        ),
        (
            Call::Connect,
            libc::EAGAIN,
            "connect: resource temporarily unavailable",
        ),
    ];
    for (call, errno, says) in rows {
        let mut world = world();
        world.faults().fail(call, errno, 1);
        world.dial(FAR).unwrap();
        world.run();
        let says = format!("dial tcp {FAR}: {says}");
        assert_eq!(world.handler().dial_errors, [says]);
        assert_eq!(world.handler().timeouts, 0);
    }
}

// Go's texts of accepts.
#[test]
fn an_accept_that_fails_names_the_listener() {
    let rows = [
        (libc::EMFILE, "too many open files", Recovery::BackOff),
        (
            libc::ENFILE,
            "too many open files in system",
            Recovery::BackOff,
        ),
        (
            libc::ENOBUFS,
            "no buffer space available",
            Recovery::BackOff,
        ),
        (libc::ENOMEM, "cannot allocate memory", Recovery::BackOff),
        (libc::EBADF, "bad file descriptor", Recovery::GiveUp),
    ];
    for (errno, says, recovery) in rows {
        let (mut world, addr) = serving();
        world.run();
        world.connect(addr);
        world.faults().fail(Call::Accept, errno, 1);
        world.run();
        let says = format!("accept tcp {addr}: accept4: {says}");
        assert_eq!(world.handler().accept_errors, [(says, recovery)]);
    }
}

// Go's texts of reads, writes and shutdowns: adapted, a reset has a reason of its own.
#[test]
fn a_broken_connection_says_what_was_attempted_between_whom() {
    let rows = [
        (
            Call::Read,
            libc::ETIMEDOUT,
            "read",
            "read: connection timed out",
        ),
        (
            Call::Read,
            libc::EHOSTUNREACH,
            "read",
            "read: no route to host",
        ),
        (
            Call::Write,
            libc::ENOBUFS,
            "write",
            "write: no buffer space available",
        ),
        (
            Call::Write,
            libc::EHOSTUNREACH,
            "write",
            "write: no route to host",
        ),
        (
            Call::Shutdown,
            libc::EINVAL,
            "close",
            "shutdown: invalid argument",
        ),
    ];
    for (call, errno, op, says) in rows {
        let (ends, closed) = broken(call, errno);
        assert_eq!(closed, format!("{op} tcp {ends}: {says}"));
    }
    for (call, errno) in [
        (Call::Read, libc::ECONNRESET),
        (Call::Write, libc::EPIPE),
        (Call::Shutdown, libc::ENOTCONN),
    ] {
        assert_eq!(broken(call, errno).1, "connection reset by peer");
    }
}

/// Somebody to dial.
const FAR: &str = "10.0.0.1:80";

/// Keeps the texts of everything that goes wrong. Echoes.
#[derive(Default)]
struct Texts {
    accepted: Vec<ConnId>,
    accept_errors: Vec<(String, Recovery)>,
    dial_errors: Vec<String>,
    closed: Vec<String>,
    /// Errors that said that they were timeouts of ours.
    timeouts: usize,
    tell: Option<mpsc::Sender<String>>,
}

impl Handler for Texts {
    type Session = ();

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        self.accepted.push(conn.id());
        Ok(())
    }

    fn on_connect(&mut self, _: &mut Conn<'_>, _: DialId) -> io::Result<()> {
        Ok(())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        (): &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        conn.write(input.take_all());
        Ok(())
    }

    fn on_accept_error(&mut self, _: &mut Context<'_>, _: ListenerId, error: &Error) {
        assert_eq!(error.op(), Op::Accept);
        let told = (error.to_string(), error.recovery());
        self.accept_errors.push(told);
    }

    fn on_dial_error(
        &mut self,
        cx: &mut Context<'_>,
        _: DialId,
        error: &Error,
        _: Option<Duration>,
    ) {
        assert_eq!(error.op(), Op::Dial);
        self.timeouts += usize::from(error.is_timeout());
        self.dial_errors.push(error.to_string());
        if let Some(tell) = &self.tell {
            let _ = tell.send(error.to_string());
            cx.shutdown(Duration::ZERO);
        }
    }

    fn on_close(&mut self, _: &mut Context<'_>, (): (), closed: &Closed) {
        if let CloseReason::Io(error) = &closed.reason {
            self.timeouts += usize::from(error.is_timeout());
        }
        self.closed.push(closed.reason.to_string());
    }
}

fn world() -> World<Texts> {
    let mut world = World::new(1, Texts::default());
    world.run();
    world
}

fn serving() -> (World<Texts>, SocketAddr) {
    let mut world = world();
    let addr = world.listen("127.0.0.1:7");
    (world, addr)
}

/// A connection on which that call fails once: its two ends, and why it ended. That is
/// never a timeout of ours.
#[track_caller]
fn broken(call: Call, errno: i32) -> (String, String) {
    let (mut world, addr) = serving();
    let client = world.connect(addr);
    world.send(client, b"x");
    world.run();
    let ends = format!("{addr}->{}", world.addr(client));
    let conn = world.handler().accepted[0];
    world.faults().fail(call, errno, 1);
    if call == Call::Shutdown {
        world.post(move |_, cx| cx.conn(conn).unwrap().shutdown_write());
    } else {
        world.send(client, b"x");
    }
    world.run();
    assert_eq!((world.handler().timeouts, world.open_descriptors()), (0, 1));
    let [closed] = &world.handler().closed[..] else {
        panic!("{:?}", world.handler().closed)
    };
    (ends, closed.clone())
}

/// The text, and that the parts agree with it.
#[track_caller]
fn assert_well_formed(error: &Error, op: Op, says: &str) {
    assert_eq!((error.to_string().as_str(), error.op()), (says, op));
    assert!(!error.is_timeout() && error.source_addr().is_none());
    let expected = match error.kind() {
        io::ErrorKind::NotFound => Recovery::BackOff,
        _ => Recovery::GiveUp,
    };
    assert_eq!(error.recovery(), expected, "{says}");
}

/// What is told of a dial on a real kernel.
#[track_caller]
fn really_told(dial: Dial) -> String {
    let (tell, told) = mpsc::channel();
    let texts = Texts {
        tell: Some(tell),
        ..Texts::default()
    };
    let mut reactor = Reactor::new(texts).unwrap();
    reactor.dial(dial).unwrap();
    reactor.run().unwrap();
    told.recv_timeout(PATIENCE).expect("an error")
}
