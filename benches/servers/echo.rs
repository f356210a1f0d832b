//! Echo: what comes goes back.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

use windlass::{Conn, Handler, Input, Listen, ListenerId, Mux, Reactor};

use super::answer::Answer;
use super::exchange::{Clients, Script};
use super::workload::{Kind, Load, Workload, listen};
use super::{mio_loop, raw, threads, tokio_tasks};

const KIB: usize = 1024;

/// The least that a task or a thread reads into.
const SMALL_BUFFER: usize = 4 * KIB;

const SMALL: &[Kind] = &Kind::ALL;
const EVERYBODY: &[Kind] = &[
    Kind::Raw,
    Kind::Windlass,
    Kind::Mio,
    Kind::Tokio,
    Kind::Threads,
];

pub(crate) fn family() -> Vec<Box<dyn Workload>> {
    let plain = [
        ("echo-64x1", 64, 1, 1, SMALL),
        ("echo-64x50", 64, 50, 1, SMALL),
        ("echo-64x500", 64, 500, 1, SMALL),
        ("echo-4kx50", 4 * KIB, 50, 1, EVERYBODY),
        ("echo-64kx8", 64 * KIB, 8, 1, EVERYBODY),
        ("echo-64x50-deep16", 64, 50, 16, EVERYBODY),
    ];
    let of_size = |(name, size, connections, depth, servers)| -> Box<dyn Workload> {
        Box::new(Echo {
            name,
            size,
            connections,
            depth,
            servers,
        })
    };
    plain.into_iter().map(of_size).collect()
}

struct Echo {
    name: &'static str,
    size: usize,
    connections: usize,
    /// Messages in flight on each connection.
    depth: usize,
    servers: &'static [Kind],
}

impl Workload for Echo {
    fn name(&self) -> &str {
        self.name
    }

    fn says(&self) -> String {
        let Self {
            size,
            connections,
            depth,
            ..
        } = self;
        format!("{connections} connections, {depth} messages of {size} bytes in flight on each")
    }

    fn servers(&self) -> &[Kind] {
        self.servers
    }

    fn serve(&self, kind: Kind, at: SocketAddr) -> io::Result<()> {
        let buffer = (self.size * self.depth).max(SMALL_BUFFER);
        serve(kind, listen(at)?, buffer, None)
    }

    fn load(&self, at: SocketAddr) -> io::Result<Box<dyn Load>> {
        let message: Vec<u8> = (0..self.size).map(|at| (at % 251) as u8).collect();
        let script = Script::new(message.clone(), message, self.depth);
        Ok(Box::new(Clients::connect(script, at, self.connections)?))
    }
}

fn serve(
    kind: Kind,
    listener: TcpListener,
    buffer: usize,
    idle: Option<Duration>,
) -> io::Result<()> {
    match kind {
        Kind::Raw => raw::serve(&listener, Same),
        Kind::Mio => mio_loop::serve(listener, Same),
        Kind::Tokio => tokio_tasks::serve(listener, Same, buffer, idle),
        Kind::Threads => threads::serve(&listener, Same, buffer),
        Kind::Windlass => {
            let mut reactor = Reactor::new(Echoing { idle })?;
            reactor.listen(Listen::adopt(OwnedFd::from(listener)))?;
            reactor.run().map(drop)
        }
        Kind::Mux => {
            let mut mux = Mux::new();
            let [_, part, _] = [(); 3].map(|()| mux.add(Echoing { idle }));
            let mut reactor = Reactor::new(mux)?;
            reactor.listen_for(part, Listen::adopt(OwnedFd::from(listener)))?;
            reactor.run().map(drop)
        }
    }
}

#[derive(Clone)]
struct Same;

impl Answer for Same {
    type Session = ();

    fn answer<'a>(&'a mut self, (): &mut (), input: &'a [u8]) -> &'a [u8] {
        input
    }
}

/// The application, as anybody would write it.
struct Echoing {
    /// Other than the default.
    idle: Option<Duration>,
}

impl Handler for Echoing {
    type Session = ();

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        if self.idle.is_some() {
            conn.set_idle_timeout(self.idle);
        }
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
