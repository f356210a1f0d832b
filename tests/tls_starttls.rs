//! TLS on a live connection: behind the switch nothing is taken for plain, on either side.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util {
    pub mod hooks;
    pub mod tls;
}

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use util::hooks::Hooks;
use util::tls::{Peer, VERSIONS, client_config, server_config};
use windlass::sim::{Client, Remote, World};
use windlass::tls::Tls;
use windlass::{Conn, Dial, Input};

const COMMAND: &[u8] = b"STARTTLS\n";
const ANSWER: &[u8] = b"go ahead\n";

fn switch(conn: &mut Conn<'_>, input: &mut Input<'_>) -> io::Result<()> {
    conn.set_layer(Tls::server(server_config())?, input)
}

/// Answers each line with itself and how it came; switches when told to.
fn lines() -> Hooks {
    Hooks::echo().read(|conn, input| {
        while let Some(end) = input.iter().position(|&byte| byte == b'\n') {
            let line = input.take(end + 1).unwrap().to_vec();
            if line == COMMAND {
                conn.write(ANSWER);
                switch(conn, input)?;
                assert!(input.is_empty());
                assert!(
                    conn.set_layer(Tls::server(server_config())?, input)
                        .is_err()
                );
                return Ok(());
            }
            conn.write(if conn.tls().is_some() {
                b"tls: "
            } else {
                b"plain: "
            });
            conn.write(&line);
        }
        Ok(())
    })
}

fn world(hooks: Hooks) -> (World<Hooks>, SocketAddr) {
    let mut world = World::new(1, hooks);
    let addr = world.listen("127.0.0.1:25");
    (world, addr)
}

/// Takes what came up to the answer, which stands at the end of the plain part.
fn plain_part(world: &mut World<Hooks>, client: Client, peer: &mut Peer) -> Vec<u8> {
    let mut came = world.received(client);
    let end = came.windows(ANSWER.len()).position(|it| it == ANSWER);
    let end = end.expect("the switch was agreed to") + ANSWER.len();
    let rest = came.split_off(end);
    peer.take(&rest);
    came
}

#[test]
fn a_connection_switches_when_asked() {
    for version in VERSIONS {
        let (mut world, addr) = world(lines());
        let client = world.connect(addr);
        world.send(client, b"hello\n");
        world.send(client, COMMAND);
        world.run();
        let mut peer = Peer::over(client, client_config(&[version]));
        let plain = plain_part(&mut world, client, &mut peer);
        assert_eq!(plain, b"plain: hello\ngo ahead\n");
        peer.write(&mut world, b"password\n");
        assert_eq!(peer.plain(), b"tls: password\n");
        peer.close(&mut world);
        assert!(peer.saw_close_notify());
        assert_eq!(world.handler().ends, ["end of stream"]);
        assert_eq!(world.stats().buffered, 0);
        // Plain bytes count, before and after.
        assert_eq!(world.stats().bytes_read, 6 + 9 + 9);
    }
}

#[test]
fn what_is_pipelined_behind_the_command_goes_to_tls_wherever_it_is_cut() {
    for version in VERSIONS {
        let config = client_config(&[version]);
        // The whole ClientHello is longer, and the same from there on.
        for cut in 1..COMMAND.len() + 100 {
            let (mut world, addr) = world(lines());
            let client = world.connect(addr);
            let mut peer = Peer::over(client, config.clone());
            let mut sent = COMMAND.to_vec();
            sent.extend(peer.wire());
            world.send(client, &sent[..cut]);
            world.run();
            world.send(client, &sent[cut..]);
            world.run();
            assert_eq!(plain_part(&mut world, client, &mut peer), ANSWER);
            peer.write(&mut world, b"x\n");
            assert_eq!(peer.plain(), b"tls: x\n", "cut at {cut}");
        }
    }
}

#[test]
fn plain_bytes_behind_the_command_are_never_processed() {
    for cut in 0..=20 {
        let (mut world, addr) = world(lines());
        let client = world.connect(addr);
        let mut sent = COMMAND.to_vec();
        sent.extend(b"MAIL FROM:<mallory>\nRCPT TO:<alice>\n");
        world.send(client, &sent[..cut]);
        world.run();
        world.send(client, &sent[cut..]);
        world.run();
        let answer = world.received(client);
        assert!(answer.starts_with(ANSWER));
        // An alert follows, and nothing else.
        assert_eq!(answer[ANSWER.len()], 21);
        world.close(client);
        world.run();
        assert_eq!(world.handler().ends, ["tls: the peer does not speak TLS"]);
        assert_eq!(world.stats().buffered, 0);
    }
}

#[test]
fn what_the_handler_had_left_over_belongs_to_tls() {
    // It takes one line of each offer, so that the command comes out of its own leftovers.
    let hooks = Hooks::echo().read(|conn, input| {
        let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
            return Ok(());
        };
        let line = input.take(end + 1).unwrap().to_vec();
        if line == COMMAND {
            conn.write(ANSWER);
            return switch(conn, input);
        }
        conn.write(if conn.tls().is_some() {
            b"tls: "
        } else {
            b"plain: "
        });
        conn.write(&line[..line.len().min(5)]);
        conn.read_again();
        Ok(())
    });
    let (mut world, addr) = world(hooks);
    let client = world.connect(addr);
    let mut peer = Peer::over(client, client_config(&VERSIONS));
    let mut sent = b"one\n".to_vec();
    // Too long to be joined with what follows.
    sent.extend([b'x'; 300_000]);
    sent.extend(b"\n");
    sent.extend(COMMAND);
    sent.extend(peer.wire());
    world.send(client, &sent);
    world.run();
    let plain = plain_part(&mut world, client, &mut peer);
    assert_eq!(plain, b"plain: one\nplain: xxxxxgo ahead\n");
    peer.write(&mut world, b"ab\n");
    assert_eq!(peer.plain(), b"tls: ab\n");
    assert_eq!(world.stats().buffered, 0);
}

/// Does nothing with its input, and leaves all of it.
fn listens() -> Hooks {
    Hooks::echo().read(|conn, input| {
        if conn.tls().is_some() {
            conn.write(b"tls: ");
            conn.write(input.take_all());
        }
        Ok(())
    })
}

#[test]
fn somebody_elses_callback_or_a_post_can_switch() {
    for outside in [false, true] {
        let (mut world, addr) = world(listens());
        let client = world.connect(addr);
        let mut peer = Peer::over(client, client_config(&VERSIONS));
        let hello = peer.wire();
        world.send(client, &hello[..77]);
        world.run();
        let id = world.handler().last.unwrap();
        if outside {
            let mut conn = world.conn(id).unwrap();
            switch(&mut conn, &mut Input::new(&[])).unwrap();
            conn.write(b"good morning; ");
        } else {
            world.post(move |_, cx| {
                let mut conn = cx.conn(id).unwrap();
                switch(&mut conn, &mut Input::new(&[])).unwrap();
                conn.write(b"good morning; ");
            });
        }
        world.send(client, &hello[77..]);
        peer.pump(&mut world);
        peer.write(&mut world, b"x");
        assert_eq!(peer.plain(), b"good morning; tls: x");
        assert_eq!(world.stats().buffered, 0);
    }
}

#[test]
fn a_callback_that_hides_its_input_hides_nothing_from_tls() {
    let hooks = Hooks::echo().read(|conn, input| {
        if conn.tls().is_none() {
            input.take(COMMAND.len()).unwrap();
            conn.write(ANSWER);
            return switch(conn, &mut Input::new(&[]));
        }
        conn.write(input.take_all());
        Ok(())
    });
    let (mut world, addr) = world(hooks);
    let client = world.connect(addr);
    let mut peer = Peer::over(client, client_config(&VERSIONS));
    let mut sent = COMMAND.to_vec();
    sent.extend(peer.wire());
    world.send(client, &sent);
    world.run();
    assert_eq!(plain_part(&mut world, client, &mut peer), ANSWER);
    peer.write(&mut world, b"x");
    assert_eq!(peer.plain(), b"x");
}

#[test]
fn a_large_answer_from_before_leaves_before_however_slow_its_reader() {
    const LARGE: usize = 500_000;
    for shared in [false, true] {
        let hooks = Hooks::echo().read(move |conn, input| {
            if conn.tls().is_none() {
                input.take(COMMAND.len()).unwrap();
                if shared {
                    conn.write_shared(vec![b'p'; LARGE].into());
                } else {
                    conn.write(&[b'p'; LARGE]);
                }
                conn.write(ANSWER);
                switch(conn, input)?;
                conn.write(b"and this is secret");
                return Ok(());
            }
            conn.write(input.take_all());
            Ok(())
        });
        let (mut world, addr) = world(hooks);
        world.faults().buffers(1000, 1000);
        let client = world.connect(addr);
        world.stop_reading(client);
        let mut peer = Peer::over(client, client_config(&VERSIONS));
        let mut sent = COMMAND.to_vec();
        sent.extend(peer.wire());
        world.send(client, &sent);
        world.run();
        let id = world.handler().last.unwrap();
        let mut came = Vec::new();
        while came.len() < LARGE + ANSWER.len() {
            let conn = world.conn(id).unwrap();
            let told = conn.queued() as u64 + conn.bytes_written();
            assert_eq!(told as usize, LARGE + ANSWER.len() + 18);
            assert!(world.read_some(client, 10_000) > 0);
            world.run();
            came.extend(world.received(client));
        }
        let rest = came.split_off(LARGE + ANSWER.len());
        assert!(came.ends_with(ANSWER) && came.iter().filter(|&&it| it == b'p').count() == LARGE);
        assert_eq!(
            world.handler().count("on_write"),
            1,
            "what was full is drained"
        );
        peer.take(&rest);
        world.resume_reading(client);
        peer.pump(&mut world);
        assert_eq!(peer.plain(), b"and this is secret");
        peer.write(&mut world, b"x");
        assert_eq!(peer.plain(), b"x");
        assert_eq!(world.stats().buffered, 0);
    }
}

#[test]
fn a_switch_that_is_not_followed_by_a_handshake_ends_at_its_deadline() {
    let (mut world, addr) = world(lines());
    let client = world.connect(addr);
    world.advance(Duration::from_secs(100));
    world.send(client, COMMAND);
    world.run();
    world.advance(Duration::from_millis(9_999));
    assert_eq!(world.handler().ends, [""; 0]);
    world.advance(Duration::from_millis(1));
    assert_eq!(world.handler().ends, ["timed out: handshake"]);
}

#[test]
fn a_stream_that_ends_behind_the_command_ends_the_handshake() {
    let (mut world, addr) = world(lines());
    let client = world.connect(addr);
    world.send(client, COMMAND);
    world.finish(client);
    world.run();
    assert_eq!(world.received(client), ANSWER);
    assert!(world.saw_eof(client));
    let why = "the peer ended the stream during the handshake";
    assert_eq!(world.handler().ends, [why]);
    assert_eq!(world.stats().buffered, 0);
}

#[test]
fn a_switch_after_half_a_close_is_refused() {
    let hooks = Hooks::echo().read(|conn, input| {
        if input.rest() == b"half" {
            input.take_all();
            conn.shutdown_write();
        } else {
            assert!(switch(conn, input).is_err());
            assert_eq!(input.take_all(), b"switch");
        }
        Ok(())
    });
    let (mut world, addr) = world(hooks);
    let client = world.connect(addr);
    world.send(client, b"half");
    world.run();
    assert!(world.saw_eof(client));
    world.send(client, b"switch");
    world.run();
    assert_eq!(world.stats().bytes_read, 10);
}

#[test]
fn a_switch_in_on_accept_is_tls_from_the_first_byte() {
    let hooks = Hooks::echo().accept(|conn| {
        switch(conn, &mut Input::new(&[]))?;
        conn.write(b"welcome");
        Ok(())
    });
    let (mut world, addr) = world(hooks);
    let mut peer = Peer::connect(&mut world, addr, client_config(&VERSIONS));
    assert_eq!(peer.plain(), b"welcome");
    peer.write(&mut world, b"x");
    assert_eq!(peer.plain(), b"x");
}

// The client's side.

const THERE: ([u8; 4], u16) = ([10, 0, 0, 1], 25);

/// Asks for the switch, and tells a secret behind it; what is not said secretly is a lie.
fn asks() -> Hooks {
    Hooks::echo()
        .connect(|conn| {
            conn.write(COMMAND);
            Ok(())
        })
        .read(|conn, input| {
            if conn.tls().is_some() {
                assert!(!input.take_all().starts_with(b"lie"));
                return Ok(());
            }
            if let Some(end) = input.iter().position(|&byte| byte == b'\n') {
                assert_eq!(input.take(end + 1).unwrap(), ANSWER);
                let name = "localhost".try_into().unwrap();
                conn.set_layer(Tls::client(client_config(&VERSIONS), name)?, input)?;
                conn.write(b"password");
            }
            Ok(())
        })
}

fn asking() -> (World<Hooks>, Client) {
    let mut world = World::new(1, asks());
    world.remote(THERE.into(), Remote::Accepts);
    world.dial(Dial::from(SocketAddr::from(THERE))).unwrap();
    world.run();
    let client = world.dialed(THERE.into()).unwrap();
    assert_eq!(world.received(client), COMMAND);
    (world, client)
}

#[test]
fn a_client_switches_when_it_is_allowed_to() {
    for cut in 1..=ANSWER.len() {
        let (mut world, client) = asking();
        world.send(client, &ANSWER[..cut]);
        world.run();
        world.send(client, &ANSWER[cut..]);
        let mut peer = Peer::serve(client, server_config());
        peer.pump(&mut world);
        assert_eq!(peer.plain(), b"password");
        peer.close(&mut world);
        assert_eq!(world.handler().ends, ["end of stream"]);
    }
}

#[test]
fn what_a_server_injects_behind_its_answer_is_never_processed() {
    for cut in 0..ANSWER.len() + 10 {
        let (mut world, client) = asking();
        let mut sent = ANSWER.to_vec();
        sent.extend(b"lies, all of them\n");
        world.send(client, &sent[..cut]);
        world.run();
        world.send(client, &sent[cut..]);
        world.run();
        let came = world.received(client);
        let told = came.windows(8).any(|it| it == b"password");
        assert!(!told, "the secret was told to somebody");
        world.close(client);
        world.run();
        assert_eq!(world.handler().ends, ["tls: the peer does not speak TLS"]);
        assert_eq!(world.stats().buffered, 0);
    }
}
