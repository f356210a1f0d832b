//! What a read event costs: with an idle limit, which every read moves, and without; and with
//! a handler that leaves the beginning of a message behind, beside a `Vec` that is drained.
//!
//! The bar for the limit: at most 10 instructions, and the wheel is not touched. Both are the
//! whole way of a byte from the socket to the handler, so the ratio is to be 1.

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use windlass::{Config, Conn, DialId, Handler, Input, Reactor};

use crate::measure::{Batch, Bench, timed};
use crate::sockets::{connected, read_from_all};

const CONNECTIONS: usize = 200;
const LIMIT: Duration = Duration::from_secs(60);
/// Pieces that end within a message.
const MESSAGE: usize = 1_000;
const PIECE: [u8; 4_096] = [7; 4_096];
const SHORT_PIECE: [u8; 64] = [7; 64];

pub(crate) fn run(bench: &mut Bench) {
    idle_limit(bench);
    leftovers(bench);
}

fn idle_limit(bench: &mut Bench) {
    let (mut limited, mut its_peers) = readers(LIMIT, SHORT_PIECE.len());
    let (mut unlimited, mut other_peers) = readers(Duration::MAX, SHORT_PIECE.len());
    bench.part(
        "read event, idle limit",
        Batch::of(CONNECTIONS),
        &mut [
            ("windlass", &mut || {
                read_from_all(&mut limited, &mut its_peers, &SHORT_PIECE)
            }),
            ("windlass, no limit", &mut || {
                read_from_all(&mut unlimited, &mut other_peers, &SHORT_PIECE)
            }),
        ],
    );
}

fn leftovers(bench: &mut Bench) {
    let (mut ours, mut its_peers) = readers(LIMIT, MESSAGE);
    let (mut whole, mut whole_peers) = readers(LIMIT, PIECE.len());
    let mut drained = Drained::new();
    bench.part(
        "read event, leftovers",
        Batch::of(CONNECTIONS),
        &mut [
            ("windlass", &mut || {
                read_from_all(&mut ours, &mut its_peers, &PIECE)
            }),
            ("Vec::drain, no loop", &mut || drained.read_from_all(&PIECE)),
            ("windlass, none left", &mut || {
                read_from_all(&mut whole, &mut whole_peers, &PIECE)
            }),
        ],
    );
}

fn readers(idle: Duration, message: usize) -> (Reactor<Reader>, Vec<UnixStream>) {
    let mut config = Config::default();
    config.idle_timeout = idle;
    connected(Reader { message }, config, CONNECTIONS)
}

/// Consumes whole messages.
struct Reader {
    message: usize,
}

impl Handler for Reader {
    type Session = ();

    fn on_connect(&mut self, _: &mut Conn<'_>, _: DialId) -> io::Result<()> {
        Ok(())
    }

    fn on_read(&mut self, _: &mut Conn<'_>, _: &mut (), input: &mut Input<'_>) -> io::Result<()> {
        while let Some(message) = input.take(self.message) {
            black_box(message);
        }
        Ok(())
    }
}

/// The same by hand: received into one buffer, joined with what was left, drained. It knows
/// who has sent something, so it asks nobody.
struct Drained {
    pairs: Vec<(UnixStream, UnixStream)>,
    unread: Vec<Vec<u8>>,
    buffer: Vec<u8>,
}

impl Drained {
    fn new() -> Self {
        let pair = |_| UnixStream::pair().expect("a socket pair");
        Self {
            pairs: (0..CONNECTIONS).map(pair).collect(),
            unread: vec![Vec::new(); CONNECTIONS],
            buffer: vec![0; Config::default().read_buffer],
        }
    }

    fn read_from_all(&mut self, bytes: &[u8]) -> Duration {
        for (_, peer) in &mut self.pairs {
            peer.write_all(bytes).expect("room for a message");
        }
        timed(|| {
            for ((socket, _), unread) in self.pairs.iter_mut().zip(&mut self.unread) {
                let n = socket.read(&mut self.buffer).expect("what was sent");
                unread.extend_from_slice(&self.buffer[..n]);
                let whole = unread.len() - unread.len() % MESSAGE;
                unread[..whole].chunks(MESSAGE).for_each(|message| {
                    black_box(message);
                });
                unread.drain(..whole);
            }
        })
    }
}
