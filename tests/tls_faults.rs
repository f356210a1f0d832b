//! TLS: whatever comes from the wire, in whatever pieces, ends for a clear reason and leaves
//! nothing behind.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util {
    pub mod hooks;
    pub mod tls;
}

use std::net::SocketAddr;
use std::time::Duration;

use util::hooks::Hooks;
use util::tls::{Peer, VERSIONS, client_config, server_config};
use windlass::sim::{Client, Remote, World};
use windlass::tls::rustls::SupportedProtocolVersion;
use windlass::{Dial, Listen};

type Version = &'static SupportedProtocolVersion;

const WORDS: &[u8] = b"some words that are told to the other end";

/// Which end the loop has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Server,
    Client,
}

const ENDS: [End; 2] = [End::Server, End::Client];

/// A world with one connection, and the far end of it.
fn pair(end: End, version: Version) -> (World<Hooks>, Peer) {
    let mut world = World::new(1, Hooks::echo());
    match end {
        End::Server => {
            let listen = Listen::new("127.0.0.1:443").unwrap().tls(server_config());
            let addr = world.listen(listen);
            let client = world.connect(addr);
            (world, Peer::over(client, client_config(&[version])))
        }
        End::Client => {
            let there = SocketAddr::from(([10, 0, 0, 1], 443));
            world.remote(there, Remote::Accepts);
            let dial = Dial::from(there);
            let name = "localhost".try_into().unwrap();
            world
                .dial(dial.tls_as(name, client_config(&[version])))
                .unwrap();
            world.run();
            let client = world.dialed(there).unwrap();
            (world, Peer::serve(client, server_config()))
        }
    }
}

/// What becomes of the bytes that the far end sends: where they stand in its stream, and they.
type Harm<'a> = &'a mut dyn FnMut(&mut World<Hooks>, Client, usize, &[u8]);

/// A handshake, words and their echo, the end. Answers how many bytes the far end has sent.
fn converse(world: &mut World<Hooks>, peer: &mut Peer, harm: Harm<'_>) -> usize {
    let mut at = 0;
    let mut pump = |peer: &mut Peer, world: &mut World<Hooks>| {
        peer.pump_through(world, |world, client, wire| {
            if !wire.is_empty() {
                harm(world, client, at, wire);
                at += wire.len();
            }
        });
    };
    pump(peer, world);
    if peer.error.is_none() && !peer.tls().is_handshaking() {
        peer.say(WORDS);
        pump(peer, world);
        peer.tls().send_close_notify();
        pump(peer, world);
    }
    at
}

/// How long the far end's stream is, and where its handshake ends.
fn lengths(end: End, version: Version) -> (usize, usize) {
    let (mut world, mut peer) = pair(end, version);
    let mut handshake = 0;
    let all = converse(&mut world, &mut peer, &mut |world, client, at, wire| {
        if world.stats().handshakes == 0 {
            handshake = at + wire.len();
        }
        world.send(client, wire);
    });
    assert_eq!(peer.plain(), WORDS);
    (all, handshake)
}

fn is_over(world: &mut World<Hooks>, what: &str) {
    world.advance(Duration::from_secs(20));
    let stats = world.stats();
    assert_eq!((stats.open, stats.buffered), (0, 0), "{what}");
    let listeners = usize::from(stats.accepted > 0);
    // A listener has its own and one to spare.
    assert!(world.open_descriptors() <= 2 * listeners, "{what}");
    assert_eq!(world.handler().ends.len(), 1, "{what}");
    assert_eq!(stats.panics, 0, "{what}");
}

fn is_orderly(world: &mut World<Hooks>, peer: &mut Peer, what: &str) {
    assert_eq!(peer.plain(), WORDS, "{what}");
    assert!(peer.saw_close_notify() && peer.error.is_none(), "{what}");
    world.finish(peer.client());
    world.run();
    assert_eq!(world.handler().ends, ["end of stream"], "{what}");
    is_over(world, what);
}

#[test]
fn a_conversation_in_any_two_pieces_is_the_same() {
    for (end, version) in cases() {
        for cut in 1..lengths(end, version).0 {
            let (mut world, mut peer) = pair(end, version);
            converse(&mut world, &mut peer, &mut |world, client, at, wire| {
                if at < cut && cut < at + wire.len() {
                    world.send(client, &wire[..cut - at]);
                    world.run();
                    world.send(client, &wire[cut - at..]);
                } else {
                    world.send(client, wire);
                }
            });
            is_orderly(&mut world, &mut peer, &format!("{end:?} cut at {cut}"));
        }
    }
}

#[test]
fn a_conversation_byte_by_byte_is_the_same() {
    for (end, version) in cases() {
        let (mut world, mut peer) = pair(end, version);
        world.faults().short_writes(Some(1));
        converse(&mut world, &mut peer, &mut |world, client, _, wire| {
            for &byte in wire {
                world.send(client, &[byte]);
                world.run();
            }
        });
        is_orderly(&mut world, &mut peer, "byte by byte");
    }
}

#[test]
fn a_conversation_in_pieces_of_any_size_is_the_same() {
    for (end, version) in cases() {
        for most in 1..40 {
            let (mut world, mut peer) = pair(end, version);
            world
                .faults()
                .short_reads(Some(most))
                .short_writes(Some(41 - most))
                .buffers(most, 2 * most);
            converse(&mut world, &mut peer, &mut |world, client, _, wire| {
                world.send(client, wire);
            });
            is_orderly(&mut world, &mut peer, &format!("{end:?}, {most} at once"));
        }
    }
}

fn cases() -> Vec<(End, Version)> {
    ENDS.iter()
        .flat_map(|&end| VERSIONS.map(|version| (end, version)))
        .collect()
}

#[test]
fn a_byte_that_was_changed_is_noticed_wherever_it_stands() {
    for (end, version) in cases() {
        let (length, _) = lengths(end, version);
        for changed in 0..length {
            let bit = 1 << (changed % 8);
            let what = format!("{end:?}, {:?}: {changed} ^ {bit}", version.version);
            let (mut world, mut peer) = pair(end, version);
            converse(&mut world, &mut peer, &mut |world, client, at, wire| {
                let mut wire = wire.to_vec();
                if let Some(place) = changed.checked_sub(at)
                    && let Some(byte) = wire.get_mut(place)
                {
                    *byte ^= bit;
                }
                world.send(client, &wire);
            });
            // Nothing else than what was said is ever taken for it.
            let read = world.stats().bytes_read as usize;
            assert!(read == 0 || read == WORDS.len(), "{what}");
            let plain = peer.plain();
            assert!(WORDS.starts_with(&plain), "{what}");
            world.finish(peer.client());
            world.run();
            is_over(&mut world, &what);
            let reason = &world.handler().ends[0];
            let known = reason.starts_with("tls: ")
                || reason == "the peer ended the stream during the handshake"
                || reason == "end of stream, but not of what it carries"
                || (reason == "end of stream" && read == WORDS.len());
            assert!(known, "{what}: {reason}");
        }
    }
}

#[test]
fn a_stream_that_ends_anywhere_but_at_its_end_is_told_apart() {
    for (end, version) in cases() {
        let (length, handshake) = lengths(end, version);
        for cut in 0..length {
            let what = format!("{end:?}, {:?} ends at {cut}", version.version);
            let (mut world, mut peer) = pair(end, version);
            converse(&mut world, &mut peer, &mut |world, client, at, wire| {
                world.send(client, &wire[..wire.len().min(cut.saturating_sub(at))]);
                if at + wire.len() >= cut {
                    world.finish(client);
                }
            });
            world.finish(peer.client());
            world.run();
            is_over(&mut world, &what);
            // Signatures, and with them handshakes, vary in length by a few bytes.
            let agreed = world.stats().handshakes == 1;
            assert!(agreed || cut < handshake + 8, "{what}");
            let reason = if agreed {
                "end of stream, but not of what it carries"
            } else {
                "the peer ended the stream during the handshake"
            };
            let told = &world.handler().ends[0];
            let whole = told == "end of stream" && cut + 8 > length;
            assert!(told == reason || whole, "{what}: {told}");
            assert_eq!(world.handler().count("on_eof"), usize::from(whole));
        }
    }
}

#[test]
fn a_reset_anywhere_is_one() {
    for (end, version) in cases() {
        for cut in 0..lengths(end, version).0 {
            let what = format!("{end:?}, {:?} is reset at {cut}", version.version);
            let (mut world, mut peer) = pair(end, version);
            converse(&mut world, &mut peer, &mut |world, client, at, wire| {
                world.send(client, &wire[..wire.len().min(cut.saturating_sub(at))]);
                world.run();
                if at + wire.len() >= cut {
                    world.reset(client);
                }
            });
            world.reset(peer.client());
            world.run();
            is_over(&mut world, &what);
            let told = &world.handler().ends[0];
            let known = ["connection reset by peer", "end of stream"].contains(&told.as_str());
            assert!(known, "{what}: {told}");
        }
    }
}

/// Sends that to the TLS port, and answers why the connection ended.
fn garbage(bytes: &[u8]) -> String {
    let (mut world, peer) = pair(End::Server, VERSIONS[0]);
    let client = peer.client();
    world.send(client, bytes);
    world.run();
    world.close(client);
    world.run();
    is_over(&mut world, "garbage");
    assert_eq!(world.stats().bytes_read, 0);
    assert_eq!(world.stats().handshakes_failed, 1);
    world.handler().ends[0].clone()
}

fn record(kind: u8, version: [u8; 2], len: usize, body: &[u8]) -> Vec<u8> {
    let mut record = vec![kind, version[0], version[1]];
    record.extend((len as u16).to_be_bytes());
    record.extend(body);
    record
}

const HANDSHAKE: u8 = 22;
const APPLICATION: u8 = 23;
const ALERT: u8 = 21;

#[test]
fn what_is_no_tls_is_told_so() {
    let plain: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.0\r\n",
        b"\xff\xff\xff\xff\xff\xff\xff",
        b"HELO mail\r\n",
    ];
    for bytes in plain {
        assert_eq!(garbage(bytes), "tls: the peer does not speak TLS");
    }
    // Neither are zeroes, whatever their number.
    assert!(garbage(&[0; 100_000]).starts_with("tls: "));
}

#[test]
fn records_that_cannot_be_are_failures() {
    let cases = [
        (record(HANDSHAKE, [3, 1], 0xffff, &[1; 65535]), "oversized"),
        (
            record(HANDSHAKE, [3, 1], 0x4801, &[1; 0x4801]),
            "one too long",
        ),
        (
            record(HANDSHAKE, [9, 9], 5, &[1, 0, 0, 1, 0]),
            "no such version",
        ),
        (record(HANDSHAKE, [3, 1], 0, &[]), "an empty one"),
        (record(APPLICATION, [3, 3], 5, b"hello"), "data first"),
        (record(ALERT, [3, 3], 2, &[2, 40]), "an alert first"),
        (record(HANDSHAKE, [3, 1], 4, &[2, 0, 0, 0]), "a ServerHello"),
        (
            record(HANDSHAKE, [3, 1], 4, &[1, 0, 0, 0]),
            "an empty ClientHello",
        ),
        // A message of 16 MiB is announced.
        (
            record(HANDSHAKE, [3, 1], 4, &[1, 0xff, 0xff, 0xff]),
            "a long one",
        ),
    ];
    for (bytes, what) in cases {
        let reason = garbage(&bytes);
        let known = reason.starts_with("tls: ")
            || reason == "the peer ended the stream during the handshake";
        assert!(known, "{what}: {reason}");
    }
}

#[test]
fn a_handshake_message_without_end_is_cut_off() {
    let (mut world, peer) = pair(End::Server, VERSIONS[0]);
    let client = peer.client();
    world.send(
        client,
        &record(HANDSHAKE, [3, 1], 4, &[1, 0xff, 0xff, 0xff]),
    );
    let more = record(HANDSHAKE, [3, 1], 16_000, &[0; 16_000]);
    for _ in 0..100 {
        world.send(client, &more);
        world.run();
    }
    assert!(world.stats().buffered < 100_000);
    world.close(client);
    world.run();
    let reason = &world.handler().ends[0];
    assert!(reason.starts_with("tls: "), "{reason}");
}

#[test]
fn a_peer_that_asks_for_new_keys_without_end_and_reads_nothing_costs_little() {
    let (mut world, mut peer) = pair(End::Server, VERSIONS[0]);
    peer.pump(&mut world);
    world.faults().buffers(1000, 1000);
    world.stop_reading(peer.client());
    for _ in 0..50_000 {
        peer.tls().refresh_traffic_keys().unwrap();
        let wire = peer.wire();
        world.send(peer.client(), &wire);
    }
    world.run();
    let held = world.stats().buffered;
    assert!(held < 300_000, "{held} bytes are held");
    world.resume_reading(peer.client());
    world.run();
    world.reset(peer.client());
    world.run();
    assert_eq!(world.stats().buffered, 0);
}

#[test]
fn what_came_before_a_record_that_is_wrong_is_offered() {
    for version in VERSIONS {
        for wrong in [
            record(APPLICATION, [3, 3], 40, &[7; 40]),
            record(99, [3, 3], 2, b"??"),
        ] {
            let (mut world, mut peer) = pair(End::Server, version);
            peer.pump(&mut world);
            peer.say(WORDS);
            let mut wire = peer.wire();
            wire.extend(&wrong);
            world.send(peer.client(), &wire);
            peer.pump(&mut world);
            assert_eq!(world.stats().bytes_read as usize, WORDS.len());
            // The answer came too late: nothing follows an alert.
            assert!(peer.plain().is_empty() && peer.error.is_some());
            assert_eq!(world.stats().bytes_written, 0);
            world.close(peer.client());
            world.run();
            let reason = &world.handler().ends[0];
            assert!(reason.starts_with("tls: "), "{reason}");
            is_over(&mut world, "a wrong record");
        }
    }
}

#[test]
fn what_comes_with_the_handshake_and_before_a_wrong_record_is_offered() {
    for version in VERSIONS {
        let (mut world, mut peer) = pair(End::Server, version);
        let client = peer.client();
        let mut last = Vec::new();
        while peer.tls().is_handshaking() {
            world.send(client, &last);
            world.run();
            let came = world.received(client);
            peer.take(&came);
            last = peer.wire();
        }
        // In TLS 1.3 its last words are still to be sent, and then what follows them.
        peer.say(WORDS);
        last.extend(peer.wire());
        last.extend(record(APPLICATION, [3, 3], 40, &[7; 40]));
        world.send(client, &last);
        peer.pump(&mut world);
        assert_eq!(world.handler().count("on_handshake"), 1);
        assert_eq!(world.stats().bytes_read as usize, WORDS.len());
        assert!(peer.error.is_some());
    }
}

#[test]
fn what_follows_the_end_is_not_read() {
    for version in VERSIONS {
        let (mut world, mut peer) = pair(End::Server, version);
        peer.pump(&mut world);
        peer.say(WORDS);
        peer.tls().send_close_notify();
        let mut wire = peer.wire();
        wire.extend(record(APPLICATION, [3, 3], 5, b"hello"));
        world.send(peer.client(), &wire);
        world.run();
        assert_eq!(world.stats().bytes_read as usize, WORDS.len());
        world.finish(peer.client());
        world.run();
        assert_eq!(world.handler().ends, ["end of stream"]);
        is_over(&mut world, "something followed");
    }
}

#[test]
fn our_end_is_said_before_fin_and_behind_everything() {
    for version in VERSIONS {
        let hooks = Hooks::echo().read(|conn, input| {
            input.take_all();
            conn.write(&vec![b'x'; 100_000]);
            conn.close();
            Ok(())
        });
        let mut world = World::new(1, hooks);
        let listen = Listen::new("127.0.0.1:443").unwrap().tls(server_config());
        let addr = world.listen(listen);
        world.faults().buffers(100, 100);
        let mut peer = Peer::connect(&mut world, addr, client_config(&[version]));
        world.stop_reading(peer.client());
        peer.write(&mut world, b"go");
        while world.read_some(peer.client(), 33) > 0 {
            world.run();
            let came = world.received(peer.client());
            peer.take(&came);
        }
        assert_eq!(peer.plain().len(), 100_000);
        assert!(peer.saw_close_notify() && !world.saw_eof(peer.client()));
        world.resume_reading(peer.client());
        world.run();
        assert!(world.saw_eof(peer.client()) && world.received(peer.client()).is_empty());
        // It reads on until the peer has ended as well.
        assert_eq!(world.handler().ends, [""; 0]);
        peer.close(&mut world);
        assert_eq!(world.handler().ends, ["closed by the handler"]);
    }
}

#[test]
fn the_peers_end_does_not_end_our_answer() {
    for version in VERSIONS {
        let hooks = Hooks::echo().eof(|conn, _| {
            conn.write(&vec![b'x'; 1_000_000]);
            conn.close();
            Ok(())
        });
        let mut world = World::new(1, hooks);
        let listen = Listen::new("127.0.0.1:443").unwrap().tls(server_config());
        let addr = world.listen(listen);
        world.faults().buffers(10_000, 10_000);
        let mut peer = Peer::connect(&mut world, addr, client_config(&[version]));
        peer.tls().send_close_notify();
        peer.pump(&mut world);
        assert_eq!(peer.plain().len(), 1_000_000);
        assert!(peer.saw_close_notify() && world.saw_eof(peer.client()));
        assert_eq!(world.handler().ends, ["end of stream"]);
        is_over(&mut world, "our answer has left");
    }
}

#[test]
fn what_is_wrong_behind_our_own_end_is_a_failure_and_no_panic() {
    type Say = fn(&mut windlass::Conn<'_>);
    let ways: [(Say, &str); 2] = [
        (|conn| conn.shutdown_write(), "tls: "),
        // Whoever has closed is told of nothing any more.
        (|conn| conn.close(), "closed by the handler"),
    ];
    for (say, expected) in ways {
        for version in VERSIONS {
            let hooks = Hooks::echo().read(move |conn, input| {
                input.take_all();
                say(conn);
                Ok(())
            });
            let mut world = World::new(1, hooks);
            let listen = Listen::new("127.0.0.1:443").unwrap().tls(server_config());
            let addr = world.listen(listen);
            let mut peer = Peer::connect(&mut world, addr, client_config(&[version]));
            peer.write(&mut world, WORDS);
            assert!(peer.saw_close_notify());
            let wrong = record(APPLICATION, [3, 3], 40, &[7; 40]);
            world.send(peer.client(), &wrong);
            world.run();
            world.close(peer.client());
            world.run();
            let reason = &world.handler().ends[0];
            assert!(reason.starts_with(expected), "{reason}");
            is_over(&mut world, "wrong behind our end");
        }
    }
}
