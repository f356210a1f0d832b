//! What Go's `net/net_test.go` checks, on TCP, as far as no other file here does already.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util;

use std::io;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use util::*;
use windlass::sim::{Call, World};
use windlass::{ConnId, Deadline, Flow, Listen};

// Go 37, TestListenerClose: adapted, no callback comes after the close.
#[test]
fn a_listener_that_is_closed_accepts_nobody_and_keeps_its_connections() {
    let recorder = Recorder::echo();
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut client = connect(server.addr);
    assert_eq!(round_trip(&mut client, b"before"), b"before");
    close_listener(&server);
    let refused = try_connect(server.addr).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(round_trip(&mut client, b"after"), b"after");
    assert_eq!(log.count("accept"), 1);
    drop(client);
    server.stop();
}

// Go 39, TestListenCloseListen.
#[test]
fn a_port_can_be_listened_on_again_as_soon_as_its_listener_is_closed() {
    let mut server = serve(Recorder::echo());
    let (addr, mut clients) = (server.addr, Vec::new());
    for _ in 0..10 {
        // An open connection holds the port as well.
        let mut client = connect(addr);
        assert_eq!(round_trip(&mut client, b"hello"), b"hello");
        clients.push(client);
        close_listener(&server);
        let listen = Listen::from(addr);
        server.listener = server.ask(|_, cx| cx.listen(listen)).unwrap();
    }
    // And by anybody else.
    close_listener(&server);
    drop(TcpListener::bind(addr).unwrap());
    drop(clients);
    let (_, summary) = server.stop();
    assert_eq!(summary.stats.accepted, 10);
}

// Go 41, TestZeroByteRead: adapted, an empty request is no callback and no end.
#[test]
fn nothing_to_read_is_neither_bytes_nor_an_end() {
    let recorder = Recorder::new();
    let log = recorder.log.clone();
    let mut world = World::new(1, recorder);
    let addr = world.listen("127.0.0.1:7");
    let client = world.connect(addr);
    world.run();
    world.clear_calls();
    world.faults().spurious();
    world.run();
    assert!(world.calls(Call::Read) > 0, "it looked");
    world.post(|recorder, cx| {
        let mut conn = cx.conn(first(&recorder.log)).unwrap();
        conn.read_again();
        conn.pause();
        conn.resume();
        assert_eq!(conn.write(b""), Flow::Open);
        assert_eq!(io::Write::write(&mut conn, b"").unwrap(), 0);
    });
    world.send(client, b"");
    world.run();
    assert_eq!(log.names(), ["start", "accept"]);
    assert!(world.received(client).is_empty() && !world.saw_eof(client));
    // An empty take is nothing, either.
    *world.handler_mut() = Recorder::new().read(|_, input| {
        assert_eq!(input.take(0), Some(&b""[..]));
        assert_eq!(io::Read::read(input, &mut []).unwrap(), 0);
        assert_eq!(input.take_all(), b"bytes");
        Ok(())
    });
    let log = world.handler().log.clone();
    world.send(client, b"bytes");
    world.run();
    assert_eq!(log.names(), ["read"]);
}

// Go 42, TestReadTimeoutUnblocksRead.
#[test]
fn a_deadline_in_the_past_ends_the_waiting_of_a_connection_that_nobody_talks_to() {
    let recorder = Recorder::new();
    let log = recorder.log.clone();
    let server = serve(recorder);
    let mut client = connect(server.addr);
    log.wait_for("accept", 1);
    let id = first(&log);
    let set = server.ask(move |_, cx| {
        let past = cx.now() - Duration::from_secs(60);
        cx.conn(id).unwrap().set_read_deadline(Some(past));
        Instant::now()
    });
    let closed = log.wait_closes(1).remove(0);
    let took = log.events().last().unwrap().at - set;
    assert!(took < ms(500), "{took:?}");
    assert_eq!(closed.reason, Why::Timeout(Deadline::Read));
    assert_eq!(log.names(), ["start", "accept", "timeout", "close"]);
    assert_eq!(read_to_eof(&mut client), b"");
    server.stop();
}

// Go 43, 44, TestCloseUnblocksRead and TestNotTemporaryRead.
#[test]
fn a_peer_that_closes_is_the_end_and_one_that_resets_is_an_error() {
    let recorder = Recorder::new();
    let log = recorder.log.clone();
    let server = serve(recorder);
    let polite = connect(server.addr);
    log.wait_for("accept", 1);
    drop(polite);
    assert_eq!(log.wait_closes(1)[0].reason, Why::Eof);
    assert_eq!(log.names(), ["start", "accept", "eof", "close"]);

    let rude = connect(server.addr);
    log.wait_for("accept", 2);
    reset(rude);
    assert_eq!(log.wait_closes(2)[1].reason, Why::Reset);
    assert_eq!(log.names()[4..], ["accept", "close"], "no end of stream");
    let (_, summary) = server.stop();
    assert_eq!(summary.stats.bytes_read, 0);
}

fn first(log: &Log) -> ConnId {
    log.events().iter().find_map(|event| event.conn).unwrap()
}

/// Returns when it is closed.
fn close_listener(server: &Server<Recorder>) {
    let id = server.listener;
    server.ask(move |_, cx| cx.listener(id).unwrap().close());
    server.until("the listener is gone", |_| {
        server.ask(move |_, cx| cx.listener(id).is_none())
    });
}
