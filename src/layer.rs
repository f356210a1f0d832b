//! What may stand between the wire and the handler of one connection: TLS, compression, a
//! protocol of one's own below the protocol.
//!
//! A layer turns wire bytes into plain ones and back. It holds no socket and calls nobody: the
//! connection hands it what came and asks for what is to leave, so a handler, `write`, `close`,
//! limits and deadlines know nothing of it.
//!
//! This room has the trait and the recipe for new ones. What a connection does that has one is
//! `connection/layered.rs`.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::Arc;

/// How far the conversation of a [`Layer`] with its peer has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Progress {
    /// The two ends have not agreed yet: nothing plain can pass.
    Handshake,
    /// Plain bytes pass both ways.
    Open,
    /// The peer has said, within the layer, that it will send no more. Plain bytes may still
    /// be sent to it.
    Ended,
}

/// A layer between the wire and the handler of one connection.
///
/// The connection owns its layer and drives it, from the loop's thread and never from within a
/// callback:
///
/// - what came from the wire goes in by [`receive`](Self::receive), and the plain bytes in it
///   come out by [`read`](Self::read);
/// - what the handler wrote goes in by [`write`](Self::write), and what is to be sent comes out
///   by [`send`](Self::send), which is asked after every other call, since a layer may have
///   something of its own to say.
///
/// A layer may buffer, within bounds of its own that its documentation should state; they come
/// on top of what [`Limits`](crate::Limits) bounds. It must not block. A panic in it is one in a
/// callback of its connection.
pub trait Layer: Any + Send {
    /// Takes wire bytes, in order; answers how many. It may take fewer than it is given while
    /// it has plain bytes that nobody has [`read`](Self::read), and is given the rest again;
    /// if it has none it must take at least one. It is not called any more once it has failed
    /// or [ended](Progress::Ended).
    ///
    /// # Errors
    ///
    /// What makes it impossible to go on. What [`send`](Self::send) has to say is still sent;
    /// then the connection closes with [`CloseReason::Layer`](crate::CloseReason::Layer).
    fn receive(&mut self, wire: &[u8]) -> io::Result<usize>;

    /// Moves plain bytes that have come into `plain`; answers how many. 0: there are none, if
    /// there was room.
    fn read(&mut self, plain: &mut [u8]) -> usize;

    /// Takes plain bytes that are to be sent; answers how many. It may take fewer, but not 0
    /// unless it is in its handshake or `plain` is empty. Not called after
    /// [`close`](Self::close).
    fn write(&mut self, plain: &[u8]) -> usize;

    /// Appends to `wire` everything that is to be sent now.
    fn send(&mut self, wire: &mut Vec<u8>);

    /// How far it has come. It goes on from one to the next and never back.
    fn progress(&self) -> Progress;

    /// Nothing plain will be written any more: says so to the peer, if there is a way to say
    /// it. Called once at most, after everything that was written, and not in the handshake.
    fn close(&mut self) {}

    /// The peer has ended the stream (FIN) although it has not [ended](Progress::Ended) within
    /// the layer. `true`: that is an orderly end here. `false`, the default: something may be
    /// missing, and the connection ends with
    /// [`CloseReason::Truncated`](crate::CloseReason::Truncated).
    fn ends_with_the_stream(&self) -> bool {
        false
    }
}

/// Makes a layer for each connection of a listener or a dial.
#[derive(Clone)]
pub(crate) struct Layers(Arc<MakeLayer>);

type MakeLayer = dyn Fn() -> io::Result<Box<dyn Layer>> + Send + Sync;

impl Layers {
    pub(crate) fn new(
        make: impl Fn() -> io::Result<Box<dyn Layer>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(make))
    }

    pub(crate) fn make(&self) -> io::Result<Box<dyn Layer>> {
        (self.0)()
    }
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Layers")
    }
}

#[cfg(test)]
mod tests {
    use std::mem;
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;
    use crate::sim::{Client, World};
    use crate::{
        CloseReason, Closed, Config, Conn, ConnId, Context, Deadline, DialId, Flow, Handler, Input,
        Listen, ListenerId,
    };

    const KEY: u8 = 0x5a;

    /// The handshake: one byte each way.
    const HELLO: u8 = b'!';

    /// No plain byte becomes this one.
    const END: u8 = 0;

    /// XORs every byte; keeps four plain ones at most.
    #[derive(Default)]
    struct Xor {
        greeted: bool,
        ended: bool,
        plain: Vec<u8>,
        wire: Vec<u8>,
    }

    const XOR_KEEPS: usize = 4;

    impl Xor {
        fn new() -> Self {
            Self {
                wire: vec![HELLO],
                ..Self::default()
            }
        }

        fn take(&mut self, byte: u8) -> io::Result<()> {
            match byte {
                HELLO if !self.greeted => self.greeted = true,
                _ if !self.greeted => return Err(io::Error::other("xor: no greeting")),
                END => self.ended = true,
                0xff => return Err(io::Error::other("xor: a byte that cannot be")),
                0xfe => panic!("xor: a bug in the layer"),
                _ => self.plain.push(byte ^ KEY),
            }
            Ok(())
        }
    }

    impl Layer for Xor {
        fn receive(&mut self, wire: &[u8]) -> io::Result<usize> {
            for (at, &byte) in wire.iter().enumerate() {
                if self.plain.len() == XOR_KEEPS || self.ended {
                    return Ok(at);
                }
                self.take(byte)?;
            }
            Ok(wire.len())
        }

        fn read(&mut self, plain: &mut [u8]) -> usize {
            let n = plain.len().min(self.plain.len());
            plain[..n].copy_from_slice(&self.plain[..n]);
            self.plain.drain(..n);
            n
        }

        fn write(&mut self, plain: &[u8]) -> usize {
            if !self.greeted {
                return 0;
            }
            self.wire.extend(plain.iter().map(|byte| byte ^ KEY));
            plain.len()
        }

        fn send(&mut self, wire: &mut Vec<u8>) {
            wire.append(&mut self.wire);
        }

        fn progress(&self) -> Progress {
            match (self.greeted, self.ended) {
                (false, _) => Progress::Handshake,
                (true, false) => Progress::Open,
                (true, true) => Progress::Ended,
            }
        }

        fn close(&mut self) {
            self.wire.push(END);
        }
    }

    fn xor(plain: &[u8]) -> Vec<u8> {
        plain.iter().map(|byte| byte ^ KEY).collect()
    }

    /// What passed the layer: the greeting, plain bytes, and whether the end was said.
    fn decode(wire: &[u8]) -> (bool, Vec<u8>, bool) {
        let Some((first, rest)) = wire.split_first() else {
            return (false, Vec::new(), false);
        };
        let (rest, ended) = match rest.split_last() {
            Some((&END, rest)) => (rest, true),
            _ => (rest, false),
        };
        assert!(!rest.contains(&END), "something followed the end");
        (*first == HELLO, xor(rest), ended)
    }

    /// Answers each line in upper case; does not know of any layer but where it is told to.
    #[derive(Default)]
    struct Shout {
        /// Greets in `on_accept`.
        welcomes: bool,
        /// Pauses in `on_accept`, until the handshake is over.
        pauses: bool,
        last: Option<ConnId>,
        log: Vec<String>,
    }

    impl Handler for Shout {
        type Session = ();

        fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
            self.last = Some(conn.id());
            if self.welcomes {
                conn.write(b"wel");
                conn.write(b"come\n");
            }
            if self.pauses {
                conn.pause();
            }
            Ok(())
        }

        fn on_connect(&mut self, conn: &mut Conn<'_>, _: DialId) -> io::Result<()> {
            conn.write(b"hello\n");
            Ok(())
        }

        fn on_handshake(&mut self, conn: &mut Conn<'_>, (): &mut ()) -> io::Result<()> {
            assert!(conn.layer::<Xor>().unwrap().greeted);
            self.log.push("handshake".into());
            conn.resume();
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
                    b"START\n" => {
                        conn.write(b"go\n");
                        conn.set_layer(Xor::new(), input)?;
                        assert!(input.is_empty());
                        assert!(conn.set_layer(Xor::new(), input).is_err(), "a second one");
                    }
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
            self.log.push(closed.reason.to_string());
        }
    }

    /// Enough to be written past the queue.
    const BULK: usize = 100_000;

    fn world(change: impl FnOnce(&mut Config, &mut Shout)) -> (World<Shout>, SocketAddr) {
        let mut config = Config::default();
        let mut handler = Shout {
            welcomes: true,
            ..Shout::default()
        };
        change(&mut config, &mut handler);
        let mut world = World::with_config(1, handler, config);
        let listen = Listen::new("127.0.0.1:7").unwrap();
        let addr = world.listen(listen.layer(|| Ok(Box::new(Xor::new()))));
        (world, addr)
    }

    fn greet(world: &mut World<Shout>, addr: SocketAddr) -> Client {
        let client = world.connect(addr);
        world.send(client, &[HELLO]);
        world.run();
        client
    }

    fn send(world: &mut World<Shout>, client: Client, plain: &[u8]) {
        world.send(client, &xor(plain));
        world.run();
    }

    #[test]
    fn an_answer_passes_the_layer_both_ways_whatever_the_pieces() {
        for most in [None, Some(1), Some(3)] {
            let (mut world, addr) = world(|config, _| config.read_buffer = 5);
            world.faults().short_reads(most).short_writes(most);
            let client = greet(&mut world, addr);
            send(&mut world, client, b"first\nsecond and longer\nthi");
            send(&mut world, client, b"rd\n");
            let (greeted, plain, ended) = decode(&world.received(client));
            assert!(greeted && !ended);
            assert_eq!(plain, b"welcome\nFIRST\nSECOND AND LONGER\nTHIRD\n");
            assert_eq!(world.handler().log, ["handshake"]);
        }
    }

    #[test]
    fn what_is_written_before_the_handshake_waits_for_it_and_counts_as_queued() {
        let (mut world, addr) = world(|_, _| {});
        let client = world.connect(addr);
        world.run();
        assert_eq!(world.received(client), [HELLO]);
        assert_eq!(world.stats().buffered, 8);
        world.send(client, &[HELLO]);
        world.run();
        assert_eq!(world.received(client), xor(b"welcome\n"));
        assert_eq!(world.stats().buffered, 0);
        assert_eq!(world.stats().bytes_written, 8, "plain bytes count");
    }

    #[test]
    fn a_paused_connection_shakes_hands_all_the_same() {
        let (mut world, addr) = world(|_, handler| handler.pauses = true);
        let client = greet(&mut world, addr);
        send(&mut world, client, b"a\n");
        assert_eq!(decode(&world.received(client)).1, b"welcome\nA\n");
    }

    #[test]
    fn a_close_delivers_everything_through_the_layer() {
        for bulk in [&b"bulk\nquit\n"[..], b"share\nquit\n"] {
            let (mut world, addr) = world(|_, handler| handler.welcomes = false);
            world.faults().buffers(1000, 1000);
            let client = greet(&mut world, addr);
            world.stop_reading(client);
            send(&mut world, client, bulk);
            send(&mut world, client, b"still talking");
            world.resume_reading(client);
            world.run();
            let (_, plain, ended) = decode(&world.received(client));
            assert!(ended, "the layer has said so");
            assert_eq!(plain, [bulk[0]; BULK]);
            assert!(world.saw_eof(client) && !world.was_reset(client));
            world.finish(client);
            world.run();
            assert_eq!(world.handler().log, ["handshake", "closed by the handler"]);
        }
    }

    #[test]
    fn a_close_before_the_handshake_waits_for_it_if_something_is_to_be_delivered() {
        let (mut world, addr) = world(|_, _| {});
        let client = world.connect(addr);
        world.run();
        let id = world.handler().last.unwrap();
        world.conn(id).unwrap().close();
        world.run();
        assert!(!world.saw_eof(client));
        world.send(client, &[HELLO]);
        world.run();
        let (_, plain, ended) = decode(&world.received(client));
        assert_eq!((plain, ended), (b"welcome\n".to_vec(), true));
        assert!(world.saw_eof(client));
    }

    #[test]
    fn half_a_close_goes_behind_what_the_layer_has_sent() {
        let (mut world, addr) = world(|_, _| {});
        world.faults().buffers(10, 10);
        let client = greet(&mut world, addr);
        world.stop_reading(client);
        send(&mut world, client, b"bulk\nhalf\n");
        world.resume_reading(client);
        world.run();
        let (_, plain, ended) = decode(&world.received(client));
        assert_eq!(plain.len(), 8 + BULK);
        assert!(ended && world.saw_eof(client));
        assert_eq!(world.handler().log, ["handshake"], "the peer has not ended");
        world.send(client, &[END]);
        world.run();
        assert_eq!(world.handler().log, ["handshake", "end of stream"]);
    }

    #[test]
    fn the_layers_end_is_the_end_of_the_stream_and_finds_what_was_left_over() {
        let (mut world, addr) = world(|_, _| {});
        let client = greet(&mut world, addr);
        send(&mut world, client, b"no end");
        world.send(client, &[END, 7, 7]);
        world.run();
        let (_, plain, ended) = decode(&world.received(client));
        assert_eq!((plain, ended), (b"welcome\nno end".to_vec(), true));
        assert_eq!(world.handler().log, ["handshake", "end of stream"]);
    }

    #[test]
    fn a_stream_that_ends_without_the_layers_end_is_truncated() {
        let (mut world, addr) = world(|_, _| {});
        let client = greet(&mut world, addr);
        send(&mut world, client, b"whole\n");
        send(&mut world, client, b"no end");
        world.finish(client);
        world.run();
        let (_, plain, ended) = decode(&world.received(client));
        assert_eq!((plain, ended), (b"welcome\nWHOLE\n".to_vec(), true));
        let reason = CloseReason::Truncated.to_string();
        assert_eq!(world.handler().log, ["handshake", &reason]);
    }

    #[test]
    fn a_layer_that_fails_ends_its_connection_after_what_came_before() {
        let (mut world, addr) = world(|_, handler| handler.welcomes = false);
        let client = greet(&mut world, addr);
        let mut wire = xor(b"one\ntwo\n");
        wire.extend_from_slice(&[0xff, 1, 2, 3]);
        world.send(client, &wire);
        world.run();
        assert_eq!(decode(&world.received(client)).1, b"ONE\nTWO\n");
        world.close(client);
        world.run();
        assert_eq!(
            world.handler().log,
            ["handshake", "xor: a byte that cannot be"]
        );
    }

    #[test]
    fn who_does_not_shake_hands_is_told_apart() {
        let (mut world, addr) = world(|_, _| {});
        let wrong = world.connect(addr);
        world.send(wrong, b"GET / HTTP/1.1\r\n");
        let gone = world.connect(addr);
        world.finish(gone);
        world.run();
        world.close(wrong);
        world.run();
        let log = &mut world.handler_mut().log;
        log.sort();
        assert_eq!(
            mem::take(log),
            [
                "the peer ended the stream during the handshake",
                "xor: no greeting",
            ]
        );
        let silent = world.connect(addr);
        world.advance(Duration::from_millis(9_999));
        assert!(!world.was_reset(silent));
        world.advance(Duration::from_millis(1));
        assert!(world.was_reset(silent));
        let late = CloseReason::Timeout(Deadline::Handshake).to_string();
        assert_eq!(world.handler().log, [late]);
        assert_eq!(world.stats().buffered, 0);
    }

    #[test]
    fn a_panic_in_a_layer_costs_its_connection_alone() {
        let (mut world, addr) = world(|_, _| {});
        let other = greet(&mut world, addr);
        let client = greet(&mut world, addr);
        world.send(client, &[0xfe]);
        world.run();
        assert!(world.was_reset(client));
        send(&mut world, other, b"alive\n");
        assert_eq!(decode(&world.received(other)).1, b"welcome\nALIVE\n");
        assert_eq!(world.stats().panics, 1);
    }

    #[test]
    fn a_peer_that_does_not_read_is_not_read_from_under_a_layer_either() {
        let (mut world, addr) = world(|config, _| {
            config.read_buffer = 64;
            config.limits.low = 50;
            config.limits.high = 200;
        });
        world.faults().buffers(20, 20);
        let client = greet(&mut world, addr);
        world.stop_reading(client);
        let lines = b"a line of some length\n".repeat(100);
        send(&mut world, client, &lines);
        assert!(world.stats().bytes_read < 500);
        assert!(world.stats().buffered < 500);
        let mut wire = Vec::new();
        while world.read_some(client, 7) > 0 {
            world.run();
            wire.extend(world.received(client));
        }
        let (_, plain, _) = decode(&wire);
        assert_eq!(plain[8..], lines.to_ascii_uppercase());
        world.close(client);
        world.shutdown(Duration::from_secs(1));
    }

    #[test]
    fn behind_the_switch_nothing_is_taken_for_plain() {
        let mut world = World::new(1, Shout::default());
        let addr = world.listen("127.0.0.1:7");
        let client = world.connect(addr);
        let mut pipelined = b"hi\nstart\n".to_vec();
        pipelined.push(HELLO);
        pipelined.extend(xor(b"secret\n"));
        world.send(client, &pipelined);
        world.run();
        let wire = world.received(client);
        assert_eq!(wire[..6], *b"HI\ngo\n");
        assert_eq!(decode(&wire[6..]).1, b"SECRET\n");

        let injector = world.connect(addr);
        world.send(injector, b"start\nquit\n");
        world.run();
        world.close(injector);
        world.run();
        assert_eq!(world.handler().log, ["handshake", "xor: no greeting"]);
    }
}
