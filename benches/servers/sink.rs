//! One way, in bulk: the clients write without end, the server counts. It answers one byte
//! for each MiB, so that the load knows how much has arrived and ends with nothing under way.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use windlass::{Conn, Handler, Input, Listen, ListenerId, Reactor};

use super::answer::Answer;
use super::echo::EVERYBODY;
use super::exchange::{Clients, Script};
use super::workload::{Kind, Load, Workload, listen};
use super::{mio_loop, raw, threads, tokio_tasks};

const CONNECTIONS: usize = 4;
/// What is answered by one byte, and counts as a request.
pub(crate) const UNIT: usize = 1024 * 1024;
/// Units under way on each connection: more than sockets hold, so that they are always full.
pub(crate) const DEPTH: usize = 16;

pub(crate) fn family() -> Vec<Box<dyn Workload>> {
    vec![Box::new(Sink)]
}

struct Sink;

impl Workload for Sink {
    fn name(&self) -> &str {
        "sink-x4"
    }

    fn says(&self) -> String {
        format!("{CONNECTIONS} connections write 64 KiB at a time, one way; a request is 1 MiB")
    }

    fn servers(&self) -> &[Kind] {
        EVERYBODY
    }

    fn serve(&self, kind: Kind, at: SocketAddr) -> io::Result<()> {
        let listener = listen(at)?;
        match kind {
            Kind::Raw => raw::serve(&listener, Counting),
            Kind::Mio => mio_loop::serve(listener, Counting),
            Kind::Tokio => tokio_tasks::serve(listener, Counting, raw::BUFFER, None),
            Kind::Threads => threads::serve(&listener, Counting, raw::BUFFER),
            Kind::Windlass => {
                let mut reactor = Reactor::new(Sinking)?;
                reactor.listen(Listen::adopt(OwnedFd::from(listener)))?;
                reactor.run().map(drop)
            }
            Kind::Mux | Kind::Single | Kind::Gro | Kind::RawGro => Err(kind.cannot()),
        }
    }

    fn load(&self, at: SocketAddr) -> io::Result<Box<dyn Load>> {
        let script = Script::new(vec![7; UNIT], vec![ACKNOWLEDGED], DEPTH);
        Ok(Box::new(Clients::connect(script, at, CONNECTIONS)?))
    }
}

const ACKNOWLEDGED: u8 = 1;

/// One receive brings less than so many units.
const ANSWERS: [u8; 16] = [ACKNOWLEDGED; 16];

/// The answers to so many bytes more.
pub(crate) fn count(counted: &mut usize, bytes: usize) -> &'static [u8] {
    let sum = *counted + bytes;
    *counted = sum % UNIT;
    &ANSWERS[..sum / UNIT]
}

#[derive(Clone)]
struct Counting;

impl Answer for Counting {
    type Session = usize;

    fn answer<'a>(&'a mut self, counted: &mut usize, input: &'a [u8]) -> &'a [u8] {
        count(counted, input.len())
    }
}

struct Sinking;

impl Handler for Sinking {
    type Session = usize;

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<usize> {
        Ok(0)
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        counted: &mut usize,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        conn.write(count(counted, input.take_all().len()));
        Ok(())
    }
}
