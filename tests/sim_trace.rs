//! What a world tells of itself: its trace, turn by turn, and what a test that fails in it is
//! shown.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::env;
use std::io;
use std::process::Command;

use windlass::sim::{Call, World};
use windlass::{Conn, Handler, Input, ListenerId};

/// Echoes.
struct Echo;

impl Handler for Echo {
    type Session = ();

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        Ok(())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        _: &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        match input.take_all() {
            b"fail\n" => Err(io::Error::other("as asked")),
            bytes => {
                conn.write(bytes);
                Ok(())
            }
        }
    }
}

fn seen_so_far(world: &mut World<Echo>) -> Vec<String> {
    let lines = world.trace();
    lines.iter().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn a_trace_tells_turn_by_turn_what_was_asked_and_said() {
    let mut world = World::new(1, Echo);
    let addr = world.listen("127.0.0.1:7");
    world.run();
    world.set_trace(true); // forgets what was
    let client = world.connect(addr);
    world.faults().fail(Call::Read, libc::EINTR, 1);
    world.send(client, b"hello\n");
    world.run();
    assert_eq!(
        seen_so_far(&mut world),
        [
            "0ns  a client connects to 127.0.0.1:7: client 0",
            "0ns  client 0 sends 6 bytes \"hello\\n\"",
            "0ns  turn 2",
            "0ns    poll: Listener(0.1) [readable]",
            "0ns    accept on fd 3: fd 4, from 127.0.0.1:49152",
            "0ns    -> on_accept Conn(0.1)",
            "0ns    register fd 4 as Conn(0.1): done",
            "0ns    rearm fd 3 as Listener(0.1): true",
            "0ns  turn 3",
            "0ns    poll, for 300s: Conn(0.1) [readable, writable]",
            "0ns    read fd 4, at most 262144: EINTR",
            "0ns    read fd 4, at most 262144: 6 \"hello\\n\"",
            "0ns    -> on_read Conn(0.1)",
            "0ns    write fd 4, 6 bytes: 6 \"hello\\n\"",
        ]
    );
}

#[test]
fn a_trace_tells_why_a_connection_ended() {
    let mut world = World::new(1, Echo);
    let addr = world.listen("127.0.0.1:7");
    let client = world.connect(addr);
    world.send(client, b"fail\n");
    world.run();
    world.finish(client);
    world.run();
    let trace = world.trace().join("\n");
    assert!(
        trace.contains("Conn(0.1) is over: handler: as asked"),
        "{trace}"
    );
    let end = trace.find("is over").unwrap();
    assert!(trace[end..].contains("-> on_close"), "{trace}");
}

#[test]
fn a_trace_keeps_its_last_lines_and_costs_none_when_it_is_off() {
    const MOST: usize = 4096;
    let mut world = World::new(1, Echo);
    let diary = world.diary();
    for n in 0..MOST + 10 {
        diary.note(|| format!("note {n}"));
    }
    let trace = world.trace();
    assert_eq!(trace.len(), MOST);
    assert!(trace[0].ends_with("note 10"), "{}", trace[0]);
    world.set_trace(false);
    diary.note(|| unreachable!("nobody keeps it"));
    assert!(world.trace().is_empty());
}

/// Set where a test is to fail, which is then looked at from outside.
const ON_PURPOSE: &str = "WINDLASS_FAIL_ON_PURPOSE";

#[test]
fn fails_on_purpose() {
    if env::var_os(ON_PURPOSE).is_some() {
        let mut world = World::new(42, Echo);
        let addr = world.listen("127.0.0.1:7");
        let client = world.connect(addr);
        world.send(client, b"hello\n");
        world.run();
        assert_eq!(world.received(client), b"goodbye\n");
    }
}

#[test]
fn a_test_that_fails_is_shown_the_seed_and_the_trace() {
    let run = Command::new(env::current_exe().unwrap())
        .args(["--exact", "fails_on_purpose", "--nocapture"])
        .env(ON_PURPOSE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success());
    assert!(text.contains("this world had the seed 42"), "{text}");
    assert!(text.contains("-> on_read Conn(0.1)"), "{text}");
    assert!(
        text.contains("write fd 4, 6 bytes: 6 \"hello\\n\""),
        "{text}"
    );
}
