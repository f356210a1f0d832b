//! The client: dials, one after the other, on a thread of its own that may block.

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Instant;

use windlass::{Error, Handle, Network, Op};

use crate::server::Server;
use crate::{Plan, SECOND};

/// Dials until one fails. The connections stay open, so that only `accept` takes clients out
/// of the queue. The server hears of each by a post, which its own thread runs; that fails
/// only when the loop has ended, and then the program ends as well.
pub(crate) fn dial_in_a_row(plan: Plan, address: SocketAddr, handle: &Handle<Server>) {
    // Who gets no answer repeats its SYN at growing intervals, so that it meets room at the
    // latest after twice the time of an accept.
    let timeout = plan
        .every
        .map_or(3 * SECOND, |every| 2 * every + 5 * SECOND);
    // For the eye, and much shorter than the time between two accepts.
    let pause = plan.every.map_or(SECOND, |every| every.min(3 * SECOND)) / 10;
    let mut open = Vec::new();
    while open.len() < plan.dials as usize {
        let _ = handle.post(|server, cx| server.dialing(cx.now()));
        let began = Instant::now();
        let dialed = TcpStream::connect_timeout(&address, timeout);
        let took = began.elapsed();
        let error = |e| Error::from_io(Op::Dial, Network::Tcp, address, "connect", &e);
        let failed = dialed.map(|stream| open.push(stream)).map_err(error).err();
        let last = failed.is_some();
        let _ = handle.post(move |server, cx| match server.stopping {
            true => {} // it is none of the row any more
            false => server.dialed(cx, took, failed),
        });
        if last {
            break;
        }
        thread::sleep(pause);
    }
    let _ = handle.post(|server, cx| server.stop(cx, "the last dial is over"));
}
