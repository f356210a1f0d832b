//! What the loop says in the log: once, with the name of what it is about, and never what
//! peers have sent.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::cell::RefCell;
use std::io;
use std::sync::Once;
use std::time::{Duration, Instant};

use windlass::sim::{Call, World};
use windlass::{
    Bind, Config, Conn, Context, Handle, Handler, Input, ListenerId, Overload, PanicPolicy,
    Reactor, TimerId,
};

thread_local! {
    /// The lines of the test that runs on this thread, as does its loop.
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps what the crate says.
struct Keeper;

impl log::Log for Keeper {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.target().starts_with("windlass::") {
            let line = format!("{}: {}", record.target(), record.args());
            LINES.with_borrow_mut(|lines| lines.push(line));
        }
    }

    fn flush(&self) {}
}

fn listen_in() {
    static KEEPER: Once = Once::new();
    KEEPER.call_once(|| {
        log::set_logger(&Keeper).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
}

/// What was said since this was last asked.
fn said() -> Vec<String> {
    LINES.with_borrow_mut(std::mem::take)
}

/// Only defaults.
struct Nothing;

impl Handler for Nothing {
    type Session = ();
}

/// Panics at what it reads.
struct Nervous;

impl Handler for Nervous {
    type Session = ();

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        Ok(())
    }

    fn on_read(&mut self, _: &mut Conn<'_>, (): &mut (), _: &mut Input<'_>) -> io::Result<()> {
        panic!("what is this?")
    }
}

#[test]
fn a_callback_that_is_missing_is_named_once() {
    listen_in();
    let mut world = World::new(1, Nothing);
    let addr = world.listen("127.0.0.1:7");
    for _ in 0..3 {
        world.connect(addr);
    }
    world.run();
    assert_eq!(
        said(),
        [
            "windlass::reactor: a connection was closed: this handler has accepted it and has no on_accept"
        ]
    );
}

#[test]
fn a_panic_is_said_with_its_callback_and_its_words() {
    listen_in();
    let mut config = Config::default();
    config.panic_policy = PanicPolicy::Isolate;
    let mut world = World::with_config(1, Nervous, config);
    let addr = world.listen("127.0.0.1:7");
    for _ in 0..3 {
        let client = world.connect(addr);
        world.send(client, b"a secret");
    }
    world.run();
    let line = "windlass::reactor: on_read panicked: what is this? (0 such lines held back)";
    assert_eq!(said(), [line], "the others are held back");
}

#[test]
fn clients_that_are_closed_for_want_of_descriptors_are_said_once() {
    listen_in();
    let mut config = Config::default();
    config.overload = Overload::Shed;
    // Of the 1024 that a world has, about twenty are left.
    config.reserved_descriptors = 1000;
    let mut world = World::with_config(1, Nervous, config);
    let addr = world.listen("127.0.0.1:7");
    for _ in 0..40 {
        world.connect(addr);
        world.run();
    }
    let lines = said();
    assert!(world.stats().shed > 0, "{:?}", world.stats());
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("are all that the descriptors allow"),
        "{lines:?}"
    );
}

#[test]
fn a_path_that_cannot_be_removed_is_said() {
    listen_in();
    let mut world = World::new(1, Nothing);
    world.bind(Bind::new("unixgram:///run/x.sock").unwrap());
    world.faults().fail(Call::Unlink, libc::EACCES, 1);
    world.shutdown(Duration::from_secs(1));
    let denied = io::Error::from_raw_os_error(libc::EACCES);
    let line = format!("windlass::unix_path: /run/x.sock stays: {denied}");
    assert_eq!(said(), [line]);
}

/// Takes its time over a timer, twice.
struct Slow {
    left: u32,
}

/// Longer than a turn may take here.
const TOO_LONG: Duration = Duration::from_millis(3);

impl Handler for Slow {
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<'_>, _: &Handle<Self>) -> io::Result<()> {
        let now = cx.now();
        cx.set_timer(now);
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _: TimerId) {
        let began = Instant::now();
        while began.elapsed() < TOO_LONG {}
        self.left -= 1;
        if self.left == 0 {
            cx.shutdown(Duration::ZERO);
        } else {
            let now = cx.now();
            cx.set_timer(now);
        }
    }
}

#[test]
fn a_slow_turn_is_said_and_then_whose_fault_it_is() {
    listen_in();
    let mut config = Config::default();
    config.slow_turn = Duration::from_millis(1);
    config.log_interval = Duration::ZERO;
    let mut reactor = Reactor::with_config(Slow { left: 3 }, config).unwrap();
    reactor.run().unwrap();
    let lines = said();
    let says = |words: &str| lines.iter().any(|line| line.contains(words));
    assert!(says("callbacks are timed from now on"), "{lines:?}");
    assert!(
        says("the slowest callback timed so far is on_timer with"),
        "{lines:?}"
    );
}
