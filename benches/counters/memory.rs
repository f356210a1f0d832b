//! Bytes of memory per idle connection: the server is a process of its own, the clients are
//! here.

use std::io;

use super::child::Child;
use super::load::{Workload, connect, echo};
use super::os;
use super::servers::Server;

const CONNECTIONS: usize = 10_000;
/// Descriptors that are no connections, with room to spare.
const OTHERS: usize = 100;
/// The first connections pay for what exists once per loop, its code included: more of them than
/// the loop keeps out of its timer wheel, since what happens when that list is full may bring 64
/// KiB of the program into memory.
const FIRST: usize = 1_100;
/// Connections that wait for the server at a time; what std listens with has room for 128.
const BATCH: usize = 100;

/// Resident bytes per connection.
pub(crate) struct Idle {
    pub(crate) connections: usize,
    /// Than it should have been: descriptors are too few.
    pub(crate) fewer: bool,
    /// Just opened.
    pub(crate) opened: f64,
    /// After one echo on each.
    pub(crate) used: f64,
}

impl Idle {
    pub(crate) fn measure(server: Server) -> io::Result<Self> {
        let connections = CONNECTIONS.min(os::descriptors()?.saturating_sub(OTHERS));
        let child = Child::alone(server, Workload::Echo50)?;
        let mut clients = Vec::with_capacity(connections);
        open(FIRST, &child, &mut clients)?;
        clients.iter_mut().try_for_each(echo)?;
        let before = os::resident(child.id)?;
        open(connections, &child, &mut clients)?;
        let opened = os::resident(child.id)?;
        clients.iter_mut().try_for_each(echo)?;
        let used = os::resident(child.id)?;
        child.finish()?;
        let each = |now: u64| now.saturating_sub(before) as f64 / (connections - FIRST) as f64;
        Ok(Self {
            connections,
            fewer: connections < CONNECTIONS,
            opened: each(opened),
            used: each(used),
        })
    }
}

/// Opens as many as are missing. The last one of a batch is answered, so the server has
/// accepted the others.
fn open(wanted: usize, child: &Child, clients: &mut Vec<std::net::TcpStream>) -> io::Result<()> {
    while clients.len() < wanted {
        for _ in 0..BATCH.min(wanted - clients.len()) {
            clients.push(connect(child.addr)?);
        }
        if let Some(last) = clients.last_mut() {
            echo(last)?;
        }
    }
    Ok(())
}
