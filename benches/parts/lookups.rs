//! Looking a connection up by its id, dead or alive, beside a hash map of ids.

use std::collections::HashMap;
use std::hint::black_box;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use windlass::{Config, Conn, ConnId, DialId, Handler, Reactor};

use crate::measure::{Batch, Bench, timed};
use crate::sockets::{adopt, connected, turn};

const CONNECTIONS: usize = 200;
/// Times that each id is looked up in a batch.
const REPEATS: usize = 10;

pub(crate) fn run(bench: &mut Bench) {
    let (mut reactor, peers) = connected(Names::default(), Config::default(), CONNECTIONS);
    drop(peers);
    while reactor.stats().open > 0 {
        turn(&mut reactor);
    }
    let dead = std::mem::take(&mut reactor.handler_mut().made);
    // In the slots of those that are gone.
    let _peers: Vec<UnixStream> = adopt(&mut reactor, CONNECTIONS);
    let live = std::mem::take(&mut reactor.handler_mut().made);
    let map: HashMap<ConnId, ()> = live.iter().map(|&id| (id, ())).collect();
    for (name, ids) in [("look-up, stale id", dead), ("look-up, live id", live)] {
        bench.part(
            name,
            Batch::of(CONNECTIONS * REPEATS),
            &mut [
                ("windlass", &mut || in_loop(&mut reactor, &ids)),
                ("HashMap", &mut || in_map(&map, &ids)),
            ],
        );
    }
}

/// The ids of those that were connected, in order.
#[derive(Default)]
struct Names {
    made: Vec<ConnId>,
    /// To be looked up, how many were found, and how long it took.
    asked: Vec<ConnId>,
    found: usize,
    took: Duration,
}

impl Handler for Names {
    type Session = ();

    fn on_connect(&mut self, conn: &mut Conn<'_>, _: DialId) -> io::Result<()> {
        self.made.push(conn.id());
        Ok(())
    }
}

fn in_loop(reactor: &mut Reactor<Names>, ids: &[ConnId]) -> Duration {
    reactor.handler_mut().asked.clear();
    reactor.handler_mut().asked.extend_from_slice(ids);
    let posted = reactor.handle().post(|names, cx| {
        names.took = timed(|| {
            for _ in 0..REPEATS {
                for &id in &names.asked {
                    names.found += usize::from(cx.conn(black_box(id)).is_some());
                }
            }
        });
    });
    posted.expect("a post");
    turn(reactor);
    reactor.handler().took
}

fn in_map(map: &HashMap<ConnId, ()>, ids: &[ConnId]) -> Duration {
    timed(|| {
        let mut found = 0;
        for _ in 0..REPEATS {
            for id in ids {
                found += usize::from(map.contains_key(black_box(id)));
            }
        }
        found
    })
}
