//! A test of a handler that asks its world for something impossible is told so, with the
//! seed, at the line that asked.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use windlass::sim::{PacketClient, World};
use windlass::{
    Addr, Bind, Config, Conn, Context, Handle, Handler, Input, Listen, ListenerId, PanicPolicy,
};

const SEED: u64 = 77;
const HERE: &str = "127.0.0.1:7";

/// Wakes each of its connections for ever, if it is restless; refuses to start, if told so.
#[derive(Default)]
struct App {
    restless: bool,
    broken: bool,
}

impl Handler for App {
    type Session = ();

    fn on_start(&mut self, _: &mut Context<'_>, _: &Handle<Self>) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("no licence"));
        }
        Ok(())
    }

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        if self.restless {
            let id = conn.id();
            conn.cx().wake(id);
        }
        Ok(())
    }

    fn on_wake(&mut self, conn: &mut Conn<'_>, (): &mut ()) -> io::Result<()> {
        let id = conn.id();
        conn.cx().wake(id);
        Ok(())
    }
}

fn world() -> World<App> {
    World::new(SEED, App::default())
}

/// What the world says when that is asked of it.
fn complaint<R>(ask: impl FnOnce() -> R) -> String {
    let Err(panic) = catch_unwind(AssertUnwindSafe(ask)) else {
        panic!("nobody complained");
    };
    panic.downcast_ref::<String>().unwrap().clone()
}

/// The same, of a world that is there, which says its seed.
#[track_caller]
fn complains<R>(world: &mut World<App>, of: &str, ask: impl FnOnce(&mut World<App>) -> R) {
    let said = complaint(|| ask(world));
    let expected = format!("in the world of seed {SEED}:\n  {of}\n");
    assert!(said.starts_with(&expected), "{said}");
}

fn anything() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

#[test]
fn limits_that_contradict_each_other_make_no_world() {
    let mut config = Config::default();
    config.accept_backoff_min = Duration::ZERO;
    let said = complaint(|| World::with_config(SEED, App::default(), config));
    assert!(
        said.contains("accept_backoff_min must be above zero"),
        "{said}"
    );
}

#[test]
fn what_cannot_be_opened_is_said_with_its_error() {
    let world = &mut world();
    let addr = world.listen(HERE);
    let of = "listen tcp 127.0.0.1:7: bind: address already in use";
    complains(world, of, |world| world.listen(HERE));
    world.bind("udp://127.0.0.1:7");
    let of = "listen udp 127.0.0.1:7: bind: address already in use";
    complains(world, of, |world| world.bind("udp://127.0.0.1:7"));
    assert!(world.try_connect(addr).is_ok());
}

#[test]
fn a_client_of_nobody_is_refused() {
    let world = &mut world();
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let refused = io::Error::from_raw_os_error(libc::ECONNREFUSED);
    let of = format!("connect to {nobody}: {refused}");
    complains(world, &of, |world| world.connect(nobody));
    let missing = io::Error::from_raw_os_error(libc::ENOENT);
    let of = format!("connect to /run/x.sock: {missing}");
    complains(world, &of, |world| world.connect_unix("/run/x.sock"));
}

#[test]
fn a_datagram_that_cannot_leave_is_said_to_its_sender() {
    let world = &mut world();
    let client: PacketClient = world.packet_client(SocketAddr::from(([10, 0, 0, 9], 5000)));
    let path = Addr::Unix("/run/x.sock".parse().unwrap());
    let said = complaint(|| world.send_datagram(client, &path, b"hello"));
    assert!(said.contains("a datagram to /run/x.sock: "), "{said}");
    let no_group = IpAddr::from([10, 0, 0, 1]);
    let said = complaint(|| world.join_group(client, no_group));
    assert!(said.contains("join 10.0.0.1: "), "{said}");
}

#[test]
fn a_socket_that_waits_for_a_look_up_has_no_address_yet() {
    let world = &mut world();
    let of = "the socket has no address yet";
    complains(world, of, |world| {
        world.bind(Bind::connect("udp://far.example:7").unwrap())
    });
}

#[test]
fn nobody_posts_to_a_loop_that_has_stopped() {
    let world = &mut world();
    world.shutdown(Duration::from_secs(1));
    assert!(world.has_stopped());
    complains(world, "the loop has stopped", |world| world.post(|_, _| {}));
}

#[test]
fn a_full_mailbox_is_said() {
    let mut config = Config::default();
    config.mailbox_limit = 1;
    config.panic_policy = PanicPolicy::Propagate;
    let world = &mut World::with_config(SEED, App::default(), config);
    world.post(|_, _| {});
    complains(world, "the mailbox is full", |world| world.post(|_, _| {}));
}

#[test]
fn a_handler_that_is_never_at_rest_is_noticed() {
    let restless = App {
        restless: true,
        ..App::default()
    };
    let world = &mut World::new(SEED, restless);
    let addr = world.listen(HERE);
    world.connect(addr);
    let of = "the loop does not come to rest";
    complains(world, of, |world| world.run());
}

#[test]
fn a_handler_that_does_not_start_ends_the_test() {
    let broken = App {
        broken: true,
        ..App::default()
    };
    let world = &mut World::new(SEED, broken);
    let said = complaint(|| world.run());
    assert!(said.contains("the loop ended: "), "{said}");
    assert!(said.contains("no licence"), "{said}");
}

#[test]
fn what_is_no_socket_is_not_adopted() {
    let mut world = world();
    let refused = |error: windlass::Error| error.raw_os_error().is_some();
    assert!(refused(
        world.try_listen(Listen::adopt(anything())).unwrap_err()
    ));
    assert!(refused(
        world.try_bind(Bind::adopt(anything())).unwrap_err()
    ));
    world.post(move |_, cx| assert!(refused(cx.adopt(anything()).unwrap_err())));
    world.run();
    world.shutdown(Duration::from_secs(1));
}

#[test]
fn the_handler_comes_back_when_the_test_is_over() {
    let restless = App {
        restless: true,
        ..App::default()
    };
    let mut world = World::new(SEED, restless);
    world.run();
    assert!(world.into_handler().restless);
}

#[test]
fn what_was_expected_and_did_not_come_is_shown_beside_what_came() {
    let world = &mut world();
    let addr = world.listen(HERE);
    let client = world.connect(addr);
    world.run();
    let said = complaint(|| world.expect(client, b"hello\n"));
    assert!(
        said.contains("and should have received\n    \"hello\\n\""),
        "{said}"
    );
}

#[test]
fn a_panic_of_the_handler_is_the_tests_own() {
    struct Nervous;
    impl Handler for Nervous {
        type Session = ();

        fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
            Ok(())
        }

        fn on_read(
            &mut self,
            _: &mut Conn<'_>,
            (): &mut (),
            input: &mut Input<'_>,
        ) -> io::Result<()> {
            panic!("{} bytes", input.len())
        }
    }

    let mut world = World::new(SEED, Nervous);
    let addr = world.listen(HERE);
    let client = world.connect(addr);
    world.run();
    world.send(client, b"hello");
    assert_eq!(complaint(|| world.run()), "5 bytes");
}
