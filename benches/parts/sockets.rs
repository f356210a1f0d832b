//! Loops with connections whose other ends the benchmark holds.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use windlass::{Config, Handler, Reactor};

/// A loop that has adopted that many socket pairs, and their other ends.
pub(crate) fn connected<H: Handler>(
    handler: H,
    config: Config,
    count: usize,
) -> (Reactor<H>, Vec<UnixStream>) {
    let mut reactor = Reactor::with_config(handler, config).expect("a loop");
    let peers = adopt(&mut reactor, count);
    (reactor, peers)
}

pub(crate) fn adopt<H: Handler>(reactor: &mut Reactor<H>, count: usize) -> Vec<UnixStream> {
    let already = reactor.stats().connected;
    let mut peers = Vec::new();
    for _ in 0..count {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        reactor.adopt(OwnedFd::from(ours)).expect("a connection");
        peers.push(theirs);
    }
    while reactor.stats().connected - already < count as u64 {
        turn(reactor);
    }
    peers
}

/// One turn that does not wait.
pub(crate) fn turn<H: Handler>(reactor: &mut Reactor<H>) {
    let turned = reactor.turn(Some(Duration::ZERO));
    assert!(turned.is_ok(), "{turned:?}");
}

/// How long the loop takes to read what every peer has sent.
pub(crate) fn read_from_all<H: Handler>(
    reactor: &mut Reactor<H>,
    peers: &mut [UnixStream],
    bytes: &[u8],
) -> Duration {
    for peer in peers.iter_mut() {
        peer.write_all(bytes).expect("room for a message");
    }
    let whole = reactor.stats().bytes_read + (peers.len() * bytes.len()) as u64;
    let began = Instant::now();
    while reactor.stats().bytes_read < whole {
        turn(reactor);
    }
    began.elapsed()
}
