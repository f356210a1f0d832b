//! TLS on real sockets, with rustls over a `TcpStream` as the client.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util;

#[path = "util/hooks.rs"]
mod hooks;
#[path = "util/tls.rs"]
mod tls;

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hooks::Hooks;
use tls::{Identity, VERSIONS, client_config, server_config, server_config_of};
use util::{Server, assert_same, connect, pattern, serve, serve_on};
use windlass::tls::Tls;
use windlass::tls::rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};
use windlass::{Config, Listen};

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn over(tcp: TcpStream, config: &Arc<ClientConfig>) -> Stream {
    let name = "localhost".try_into().unwrap();
    let tls = ClientConnection::new(Arc::clone(config), name).unwrap();
    StreamOwned::new(tls, tcp)
}

fn tls_server(hooks: Hooks) -> Server<Hooks> {
    let listen = Listen::new("127.0.0.1:0").unwrap().tls(server_config());
    serve_on(Config::default(), listen, hooks)
}

fn round_trip(stream: &mut Stream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    let mut answer = vec![0; bytes.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_same(&answer, bytes);
}

#[test]
fn an_echo_of_a_mebibyte_comes_back_whole() {
    for version in VERSIONS {
        let server = tls_server(Hooks::echo());
        let config = client_config(&[version]);
        let mut stream = over(connect(server.addr), &config);
        round_trip(&mut stream, b"hello");
        let long = pattern(1 << 20, 7);
        // The other half of it has to be read meanwhile, or both ends would wait.
        for piece in long.chunks(10_000) {
            round_trip(&mut stream, piece);
        }
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0, "close_notify");
        drop(stream);
        let (hooks, summary) = server.stop();
        assert_eq!(hooks.ends, ["end of stream"]);
        assert_eq!(summary.stats.bytes_read, 5 + (1 << 20));
        assert_eq!(summary.stats.bytes_written, 5 + (1 << 20));
    }
}

#[test]
fn a_mebibyte_that_is_asked_for_by_half_a_close_arrives_whole() {
    for version in VERSIONS {
        let answer = pattern(1 << 20, 9);
        let sent = answer.clone();
        let server = tls_server(Hooks::echo().eof(move |conn, _| {
            conn.write(&sent);
            conn.close();
            Ok(())
        }));
        let mut stream = over(connect(server.addr), &client_config(&[version]));
        stream.write_all(b"that is all").unwrap();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        stream.sock.shutdown(Shutdown::Write).unwrap();
        let mut came = Vec::new();
        // It would be an error if the end had not been said.
        stream.read_to_end(&mut came).unwrap();
        assert_same(&came[..11], b"that is all");
        assert_same(&came[11..], &answer);
        let (hooks, _) = server.stop();
        assert_eq!(hooks.ends, ["end of stream"]);
    }
}

#[test]
fn a_client_that_is_cut_off_knows_it_and_so_do_we() {
    let server = tls_server(Hooks::echo().read(|conn, input| {
        if input.take_all() == b"abort" {
            conn.abort();
        }
        Ok(())
    }));
    let config = client_config(&VERSIONS);
    let mut aborted = over(connect(server.addr), &config);
    aborted.write_all(b"abort").unwrap();
    let error = aborted.read(&mut [0; 10]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let mut rude = over(connect(server.addr), &config);
    rude.write_all(b"and now").unwrap();
    server.until("it was read", |stats| stats.bytes_read == 12);
    drop(rude);
    server.until("both are gone", |stats| stats.open == 0);
    let (hooks, _) = server.stop();
    let reasons = [
        "closed by the handler",
        "end of stream, but not of what it carries",
    ];
    // A client that closes with unread bytes, our session tickets, resets.
    let reset = ["closed by the handler", "connection reset by peer"];
    assert!(
        hooks.ends == reasons || hooks.ends == reset,
        "{:?}",
        hooks.ends
    );
}

#[test]
fn a_renewed_certificate_is_for_whoever_comes_next() {
    let renewed = Identity::new(&["localhost"]);
    let server = tls_server(Hooks::echo());
    let old_config = client_config(&VERSIONS);
    let mut old = over(connect(server.addr), &old_config);
    round_trip(&mut old, b"before");
    let (listener, config) = (server.listener, server_config_of(&renewed));
    server.ask(move |_, cx| cx.listener(listener).unwrap().set_tls(config));
    let mut refused = over(connect(server.addr), &client_config(&VERSIONS));
    assert!(
        refused
            .write_all(b"x")
            .and_then(|()| refused.flush())
            .is_err()
    );
    let trusting = ClientConfig::builder()
        .with_root_certificates(renewed.roots())
        .with_no_client_auth();
    let mut new = over(connect(server.addr), &Arc::new(trusting));
    round_trip(&mut new, b"new");
    round_trip(&mut old, b"old");
}

#[test]
fn the_second_connection_resumes() {
    for version in VERSIONS {
        let server = tls_server(Hooks::echo());
        let config = client_config(&[version]);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut stream = over(connect(server.addr), &config);
            round_trip(&mut stream, b"x");
            assert_eq!(stream.conn.handshake_kind(), Some(kind));
        }
    }
}

#[test]
fn a_connection_switches_when_asked() {
    let server = serve(Hooks::echo().read(|conn, input| {
        if conn.tls().is_none() && input.rest().starts_with(b"STARTTLS\n") {
            input.consume(9);
            conn.write(b"go\n");
            return conn.set_layer(Tls::server(server_config())?, input);
        }
        conn.write(input.take_all());
        Ok(())
    }));
    let mut tcp = connect(server.addr);
    tcp.write_all(b"STARTTLS\n").unwrap();
    let mut answer = [0; 3];
    tcp.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"go\n");
    let mut stream = over(tcp, &client_config(&VERSIONS));
    round_trip(&mut stream, b"password");
}

/// Round trips of which the slowest hundredth is not looked at.
const PINGS: usize = 1_000;

/// What an established connection may have to wait for newcomers. They share a loop and, in
/// the worst case, a processor with their own clients.
const BOUND: Duration = Duration::from_millis(500);

fn slow_ping(stream: &mut Stream) -> Duration {
    let mut times: Vec<Duration> = (0..PINGS)
        .map(|_| {
            let begun = Instant::now();
            round_trip(stream, b"ping");
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[PINGS * 99 / 100]
}

/// Shakes hands and hangs up, for as long as nobody stops it.
fn storm(addr: SocketAddr, stop: &AtomicBool) -> usize {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        // Each with a session of its own: a whole handshake.
        let mut stream = over(connect(addr), &client_config(&VERSIONS));
        round_trip(&mut stream, b"x");
        count += 1;
    }
    count
}

#[test]
fn established_connections_are_served_in_a_storm_of_handshakes() {
    const STORMERS: usize = 4;
    let server = tls_server(Hooks::echo());
    let mut stream = over(connect(server.addr), &client_config(&VERSIONS));
    let calm = slow_ping(&mut stream);
    let stop = Arc::new(AtomicBool::new(false));
    let stormers: Vec<_> = (0..STORMERS)
        .map(|_| {
            let (addr, stop) = (server.addr, Arc::clone(&stop));
            thread::spawn(move || storm(addr, &stop))
        })
        .collect();
    server.until("the storm has begun", |stats| stats.handshakes > 4);
    let stormy = slow_ping(&mut stream);
    stop.store(true, Ordering::Relaxed);
    let count: usize = stormers.into_iter().map(|it| it.join().unwrap()).sum();
    println!("p99 of a ping: {calm:?}, {stormy:?} beside {count} handshakes");
    assert!(count > STORMERS);
    assert!(stormy < calm * 20 + BOUND, "{calm:?} became {stormy:?}");
}
