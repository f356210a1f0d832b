//! What a callback may ask for, and what it is answered when there is nothing to be had.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use windlass::sim::{Call, World};
use windlass::{
    Bind, Closed, Config, Conn, Context, Datagram, Flow, Handler, Input, Limits, ListenerId, Socket,
};

type Ask = fn(&mut Conn<'_>);

/// Asks its connection something when bytes have come; keeps why connections end.
struct App {
    ask: Ask,
    ends: Vec<String>,
    heard: Vec<Vec<u8>>,
}

impl Handler for App {
    type Session = ();

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        Ok(())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        (): &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        input.take_all();
        (self.ask)(conn);
        Ok(())
    }

    fn on_datagram(&mut self, _: &mut Socket<'_>, datagram: &Datagram<'_>) {
        self.heard.push(datagram.to_vec());
    }

    fn on_close(&mut self, _: &mut Context<'_>, (): (), closed: &Closed) {
        self.ends.push(closed.reason.to_string());
    }
}

/// A world with one client, whose connection is asked that.
fn asked(ask: Ask) -> (World<App>, windlass::sim::Client) {
    let app = App {
        ask,
        ends: Vec::new(),
        heard: Vec::new(),
    };
    let mut world = World::new(1, app);
    let addr = world.listen("127.0.0.1:7");
    let client = world.connect(addr);
    world.run();
    (world, client)
}

fn ask(ask: Ask) -> World<App> {
    let (mut world, client) = asked(ask);
    world.send(client, b"now");
    world.run();
    world
}

#[test]
fn a_closed_connection_is_a_writer_with_a_broken_pipe() {
    let world = ask(|conn| {
        Write::write_fmt(conn, format_args!("{} and {}", "before", 1)).unwrap();
        conn.write_all(b".").unwrap();
        conn.flush().unwrap();
        conn.close();
        assert_eq!(conn.flow(), Flow::Closed);
        let errors = [
            Write::write(conn, b"after").unwrap_err(),
            Write::write_fmt(conn, format_args!("after")).unwrap_err(),
        ];
        assert!(
            errors
                .iter()
                .all(|it| it.kind() == io::ErrorKind::BrokenPipe)
        );
    });
    assert_eq!(world.stats().bytes_written, 13);
}

#[test]
fn a_callback_may_open_a_datagram_socket() {
    let mut world = ask(|conn| {
        conn.cx().bind("udp://127.0.0.1:9").unwrap();
    });
    let client = world.packet_client(SocketAddr::from(([10, 0, 0, 9], 5000)));
    let to = SocketAddr::from(([127, 0, 0, 1], 9)).into();
    world.send_datagram(client, &to, b"hello");
    world.run();
    assert_eq!(world.handler().heard, [b"hello"]);
}

#[test]
fn a_loop_that_stops_opens_no_datagram_socket() {
    let mut world = ask(|conn| {
        conn.cx().shutdown(Duration::from_secs(1));
        let error = conn.cx().bind("udp://127.0.0.1:9").unwrap_err();
        assert!(error.to_string().starts_with("listen: "), "{error}");
    });
    world.shutdown(Duration::from_secs(1));
}

#[test]
fn tcp_has_no_descriptors_to_pass() {
    let world = ask(|conn| {
        conn.accept_fds(3);
        assert!(conn.take_fd().is_none());
        assert_eq!(conn.send_fds(Vec::new(), b"bytes alone"), Flow::Open);
    });
    assert_eq!(world.stats().bytes_written, 11);
    let world = ask(|conn| {
        let fds = vec![File::open("/dev/null").unwrap().into()];
        conn.send_fds(fds, b"x");
    });
    assert_eq!(
        world.handler().ends.len(),
        1,
        "it cannot be done, and nothing less will do"
    );
}

#[test]
fn what_could_not_be_sent_is_not_detached() {
    let (mut world, client) = asked(|conn| {
        conn.write(b"an answer");
        let error = conn.detach().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPIPE));
    });
    world.faults().fail(Call::Write, libc::ECONNRESET, 1);
    world.send(client, b"now");
    world.run();
    assert_eq!(world.handler().ends.len(), 1);
}

#[test]
fn limits_without_room_for_input_are_refused() {
    ask(|conn| {
        let mut none: Limits = conn.limits();
        none.input = 0;
        let error = conn.set_limits(none).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("at least 1 byte"), "{error}");
    });
}

#[test]
fn limits_of_the_loop_that_contradict_each_other_are_refused() {
    let refused = |change: fn(&mut Config)| {
        let mut config = Config::default();
        change(&mut config);
        config.check().unwrap_err().to_string()
    };
    let texts = [
        refused(|config| config.max_events = config.events - 1),
        refused(|config| config.accept_backoff_min = Duration::ZERO),
        refused(|config| config.accept_backoff_max = config.accept_backoff_min / 2),
        refused(|config| config.limits.input = 0),
    ];
    let words = [
        "max_events must be at least events",
        "accept_backoff_min must be above zero",
        "at most accept_backoff_max",
        "the input limit must be at least 1 byte",
    ];
    for (text, words) in texts.iter().zip(words) {
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn a_broken_poll_ends_the_loop() {
    let (mut world, _) = asked(|_| {});
    world.faults().fail(Call::Poll, libc::EBADF, 1);
    let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
    let text = *end.unwrap_err().downcast::<String>().unwrap();
    assert!(text.contains("the loop ended: "), "{text}");
    assert!(text.contains("poll"), "{text}");
}

#[test]
fn a_datagram_can_be_made_for_a_test_of_whoever_reads_it() {
    let from = SocketAddr::from(([10, 0, 0, 9], 5000)).into();
    let datagram = Datagram::new(b"hello", &from);
    assert_eq!((datagram.bytes(), datagram.from()), (&b"hello"[..], &from));
    assert!(datagram.to().is_none() && !datagram.is_truncated());
}

#[test]
fn a_datagram_socket_is_opened_as_it_was_described() {
    let (mut world, _) = asked(|_| {});
    world.leave_socket("/run/x.sock");
    let here = || Bind::new("unixgram:///run/x.sock").unwrap();
    assert!(world.try_bind(here().repair_path(false)).is_err());
    assert!(world.try_bind(here()).is_ok());
    let loud = Bind::new("udp://127.0.0.1:9").unwrap().broadcast(true);
    let id = world.try_bind(loud).unwrap();
    let mut socket = world.socket(id).unwrap();
    socket.set_multicast_interface(1).unwrap();
    socket.set_broadcast(false).unwrap();
}
