//! What a peer may send to a TLS port: a real client whose bytes arrive in pieces, damaged, or
//! mixed with what was never TLS.
//!
//! The bytes are a script of two each: what happens next, and how much. Whatever it is, nothing
//! panics and nothing is left; and as long as nobody has tampered with them, the plain bytes
//! come back as they went.

#![no_main]

use std::io;
use std::io::Write as _;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use windlass::sim::World;
use windlass::tls::rustls;
use windlass::{Config, Conn, Handler, Input, Listen, ListenerId, PanicPolicy};

#[path = "../../util/tls.rs"]
mod tls;

struct Echo;

impl Handler for Echo {
    type Session = ();

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        conn.write(GREETING);
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
}

const GREETING: &[u8] = b"hello";

fuzz_target!(|script: &[u8]| play(script));

fn play(script: &[u8]) {
    let mut config = Config::default();
    config.panic_policy = PanicPolicy::Propagate;
    let mut world = World::with_config(1, Echo, config);
    let listen = Listen::new("127.0.0.1:443").unwrap();
    let addr = world.listen(listen.tls(tls::server_config()));
    let (choices, script) = script.split_first().unwrap_or((&0, &[]));
    let version = match choices & 1 {
        0 => &rustls::version::TLS13,
        _ => &rustls::version::TLS12,
    };
    let client = world.connect(addr);
    let mut peer = tls::Peer::over(client, tls::client_config(&[version]));
    let (mut wire, mut sent) = (Vec::new(), GREETING.to_vec());
    let (mut tampered, mut has_closed) = (false, false);
    for step in script.chunks_exact(2) {
        let n = usize::from(step[1]);
        wire.extend(peer.wire());
        match step[0] % 8 {
            0 | 1 => {
                let piece: Vec<u8> = wire.drain(..wire.len().min(n + 1)).collect();
                world.send(client, &piece);
            }
            2 => {
                world.send(client, &wire);
                wire.clear();
            }
            3 if !wire.is_empty() => {
                let at = n % wire.len();
                wire[at] ^= step[0] | 1;
                tampered = true;
            }
            4 => {
                wire.extend_from_slice(step);
                tampered = true;
            }
            5 => {
                let plain = vec![step[1]; n];
                // What a client that is through writes is kept until then.
                if peer.tls().writer().write_all(&plain).is_ok() {
                    sent.extend(plain);
                }
            }
            6 => world.advance(Duration::from_millis(n as u64 * 8)),
            _ => {
                peer.tls().send_close_notify();
                (tampered, has_closed) = (true, true);
            }
        }
        world.run();
        let came = world.received(client);
        // A client of rustls that has closed panics when what follows is wrong.
        if peer.error.is_none() && !has_closed {
            peer.take(&came);
        }
    }
    let plain = peer.plain();
    assert!(
        tampered || sent.starts_with(&plain),
        "other bytes came back"
    );
    assert!(tampered || peer.error.is_none(), "{:?}", peer.error);
    world.close(client);
    world.run();
    world.shutdown(Duration::from_secs(60));
    assert_eq!(world.stats().buffered, 0);
    assert_eq!(world.stats().panics, 0);
}
