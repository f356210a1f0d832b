//! A trivial layer between wire and handler, for tests: every byte XORed.
//!
//! It shows that bytes pass between wire and handler at one place each way
//! (`Connection::receive` and `Connection::send`): with it in place echo, close, half-close
//! and backpressure hold, and the handler does not know.

/// XORs every byte with one key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Xor(pub(crate) u8);

impl Xor {
    /// The wire's form of plain bytes.
    pub(crate) fn wire(self, plain: &[u8]) -> Vec<u8> {
        plain.iter().map(|byte| byte ^ self.0).collect()
    }
}

/// Turns what came from the wire into plain bytes.
pub(crate) fn apply(layer: Option<&Xor>, wire: &mut [u8]) {
    if let Some(layer) = layer {
        for byte in wire {
            *byte ^= layer.0;
        }
    }
}

mod tests {
    use std::io;
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::sim::{Client, World};
    use crate::{CloseReason, Closed, Config, Conn, Context, Flow, Handler, Input, ListenerId};

    const KEY: Xor = Xor(0x5a);

    /// Answers each line in upper case; knows of no layer but for its `on_accept`.
    #[derive(Default)]
    struct Shout {
        closed: Vec<String>,
    }

    impl Handler for Shout {
        type Session = ();

        fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
            conn.set_layer(KEY);
            conn.write(b"welcome\n");
            Ok(())
        }

        fn on_read(
            &mut self,
            conn: &mut Conn<'_>,
            _: &mut (),
            input: &mut Input<'_>,
        ) -> io::Result<()> {
            while let Some(end) = input.iter().position(|&byte| byte == b'\n') {
                let line = input.take(end + 1).unwrap().to_ascii_uppercase();
                match &line[..] {
                    b"QUIT\n" => conn.close(),
                    b"HALF\n" => conn.shutdown_write(),
                    b"BULK\n" => drop(conn.write(&[b'b'; BULK])),
                    b"SHARE\n" => drop(conn.write_shared(Arc::from([b's'; BULK]))),
                    line => assert_ne!(conn.write(line), Flow::Closed),
                }
            }
            Ok(())
        }

        fn on_eof(
            &mut self,
            conn: &mut Conn<'_>,
            _: &mut (),
            input: &mut Input<'_>,
        ) -> io::Result<()> {
            conn.write(input.take_all());
            conn.close();
            Ok(())
        }

        fn on_close(&mut self, _: &mut Context<'_>, (): (), closed: &Closed) {
            assert!(matches!(
                closed.reason,
                CloseReason::Local | CloseReason::Eof
            ));
            self.closed.push(closed.reason.to_string());
        }
    }

    /// Enough to be written past the queue.
    const BULK: usize = 100_000;

    fn world(change: impl FnOnce(&mut Config)) -> (World<Shout>, SocketAddr) {
        let mut config = Config {
            panic_policy: crate::PanicPolicy::Propagate,
            ..Config::default()
        };
        change(&mut config);
        let mut world = World::with_config(1, Shout::default(), config);
        let addr = world.listen("127.0.0.1:7");
        (world, addr)
    }

    fn send(world: &mut World<Shout>, client: Client, plain: &[u8]) {
        world.send(client, &KEY.wire(plain));
        world.run();
    }

    fn received(world: &mut World<Shout>, client: Client) -> Vec<u8> {
        KEY.wire(&world.received(client))
    }

    #[test]
    fn an_answer_passes_the_layer_both_ways_whatever_the_pieces() {
        for most in [None, Some(1), Some(3)] {
            let (mut world, addr) = world(|config| config.read_buffer = 5);
            world.faults().short_reads(most).short_writes(most);
            let client = world.connect(addr);
            send(&mut world, client, b"first\nsecond and longer\nthi");
            send(&mut world, client, b"rd\n");
            let expected = b"welcome\nFIRST\nSECOND AND LONGER\nTHIRD\n";
            assert_eq!(received(&mut world, client), expected);
        }
    }

    #[test]
    fn a_close_delivers_everything_through_the_layer() {
        for bulk in [&b"bulk\nquit\n"[..], b"share\nquit\n"] {
            let (mut world, addr) = world(|_| {});
            world.faults().buffers(1000, 1000);
            let client = world.connect(addr);
            world.stop_reading(client);
            send(&mut world, client, bulk);
            send(&mut world, client, b"still talking");
            world.resume_reading(client);
            world.run();
            let all = received(&mut world, client);
            assert_eq!(all.len(), b"welcome\n".len() + BULK);
            assert!(all[8..].iter().all(|&byte| byte == bulk[0]));
            assert!(world.saw_eof(client) && !world.was_reset(client));
            world.finish(client);
            world.run();
            assert_eq!(world.handler().closed, ["closed by the handler"]);
        }
    }

    #[test]
    fn half_a_close_goes_behind_what_the_layer_has_sent() {
        let (mut world, addr) = world(|_| {});
        world.faults().buffers(10, 10);
        let client = world.connect(addr);
        world.stop_reading(client);
        send(&mut world, client, b"bulk\nhalf\n");
        world.resume_reading(client);
        world.run();
        assert_eq!(received(&mut world, client).len(), 8 + BULK);
        assert!(world.saw_eof(client));
        assert!(world.handler().closed.is_empty(), "the peer has not ended");
        world.finish(client);
        world.run();
        assert_eq!(world.handler().closed, ["end of stream"]);
    }

    #[test]
    fn the_end_of_the_stream_finds_what_was_left_over_in_plain() {
        let (mut world, addr) = world(|_| {});
        let client = world.connect(addr);
        send(&mut world, client, b"no end");
        world.finish(client);
        world.run();
        assert_eq!(received(&mut world, client), b"welcome\nno end");
        assert_eq!(world.handler().closed, ["end of stream"]);
    }

    #[test]
    fn a_peer_that_does_not_read_is_not_read_from_under_a_layer_either() {
        let (mut world, addr) = world(|config| {
            config.read_buffer = 64;
            config.limits.low = 50;
            config.limits.high = 200;
        });
        world.faults().buffers(20, 20);
        let client = world.connect(addr);
        world.stop_reading(client);
        let lines = b"a line of some length\n".repeat(100);
        send(&mut world, client, &lines);
        assert!(world.stats().bytes_read < 500);
        assert!(world.stats().buffered < 500);
        let mut all = Vec::new();
        while world.read_some(client, 7) > 0 {
            world.run();
            all.extend(received(&mut world, client));
        }
        assert_eq!(all[8..], lines.to_ascii_uppercase());
        world.close(client);
        world.shutdown(Duration::from_secs(1));
    }
}
