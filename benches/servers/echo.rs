//! Echo: what comes goes back.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

use windlass::{Config, Conn, Handler, Input, Listen, ListenerId, Mux, Reactor};

use super::answer::Answer;
use super::exchange::{Clients, Script};
use super::workload::{Kind, Load, Workload, listen};
use super::{mio_loop, raw, threads, tokio_tasks};

const KIB: usize = 1024;

/// The least that a task or a thread reads into.
pub(crate) const SMALL_BUFFER: usize = 4 * KIB;

const SMALL: &[Kind] = &[
    Kind::Raw,
    Kind::Windlass,
    Kind::Mux,
    Kind::Mio,
    Kind::Tokio,
    Kind::Threads,
];
pub(crate) const EVERYBODY: &[Kind] = &[
    Kind::Raw,
    Kind::Windlass,
    Kind::Mio,
    Kind::Tokio,
    Kind::Threads,
];

const IDLE: &[Kind] = &[Kind::Raw, Kind::Windlass, Kind::Mio, Kind::Tokio];

/// Connections that do nothing but be there.
const CROWD: usize = 10_000;

/// A deadline that no run reaches.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// The common case, of which the others differ in what they name.
const PLAIN: Echo = Echo {
    name: "echo-64x50",
    size: 64,
    connections: 50,
    depth: 1,
    crowd: 0,
    idle: Idle::Default,
    servers: SMALL,
};

const FAMILY: [Echo; 8] = [
    Echo {
        name: "echo-64x1",
        connections: 1,
        ..PLAIN
    },
    PLAIN,
    Echo {
        name: "echo-64x500",
        connections: 500,
        ..PLAIN
    },
    Echo {
        name: "echo-4kx50",
        size: 4 * KIB,
        servers: EVERYBODY,
        ..PLAIN
    },
    Echo {
        name: "echo-64kx8",
        size: 64 * KIB,
        connections: 8,
        servers: EVERYBODY,
        ..PLAIN
    },
    Echo {
        name: "echo-64x50-deep16",
        depth: 16,
        servers: EVERYBODY,
        ..PLAIN
    },
    Echo {
        name: "echo-64x50-idle10k",
        crowd: CROWD,
        idle: Idle::Loop,
        servers: IDLE,
        ..PLAIN
    },
    Echo {
        name: "echo-64x50-timed10k",
        crowd: CROWD,
        idle: Idle::Each,
        servers: IDLE,
        ..PLAIN
    },
];

pub(crate) fn family() -> Vec<Box<dyn Workload>> {
    let boxed = |echo| -> Box<dyn Workload> { Box::new(echo) };
    FAMILY.into_iter().map(boxed).collect()
}

struct Echo {
    name: &'static str,
    size: usize,
    connections: usize,
    /// Messages in flight on each connection.
    depth: usize,
    /// Connections beside the load.
    crowd: usize,
    idle: Idle,
    servers: &'static [Kind],
}

/// Who says how long a connection may be silent. The loops by hand never do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Idle {
    /// windlass by its default, tokio not.
    Default,
    /// windlass for all alike, so that no run reaches it; tokio not.
    Loop,
    /// Both for each connection.
    Each,
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
        let beside = match self.idle {
            Idle::Default => String::new(),
            Idle::Loop => format!("; {} idle ones beside them", self.crowd),
            Idle::Each => format!("; {} idle ones with a deadline each", self.crowd),
        };
        format!("{connections} connections, {depth} x {size} bytes in flight on each{beside}")
    }

    fn servers(&self) -> &[Kind] {
        self.servers
    }

    fn idle(&self) -> usize {
        self.crowd
    }

    fn serve(&self, kind: Kind, at: SocketAddr) -> io::Result<()> {
        let buffer = (self.size * self.depth).max(SMALL_BUFFER);
        serve(kind, listen(at)?, buffer, self.idle)
    }

    fn load(&self, at: SocketAddr) -> io::Result<Box<dyn Load>> {
        let message: Vec<u8> = (0..self.size).map(|at| (at % 251) as u8).collect();
        let script = Script::new(message.clone(), message, self.depth);
        Ok(Box::new(Clients::connect(script, at, self.connections)?))
    }
}

/// `buffer` is what a task or a thread reads into.
pub(crate) fn serve(
    kind: Kind,
    listener: TcpListener,
    buffer: usize,
    idle: Idle,
) -> io::Result<()> {
    let each = (idle == Idle::Each).then_some(LONG);
    match kind {
        Kind::Raw => raw::serve(&listener, Same),
        Kind::Mio => mio_loop::serve(listener, Same),
        Kind::Tokio => tokio_tasks::serve(listener, Same, buffer, each),
        Kind::Threads => threads::serve(&listener, Same, buffer),
        Kind::Windlass => {
            let mut config = Config::default();
            if idle == Idle::Loop {
                config.idle_timeout = LONG;
            }
            let mut reactor = Reactor::with_config(Echoing { idle: each }, config)?;
            reactor.listen(Listen::adopt(OwnedFd::from(listener)))?;
            reactor.run().map(drop)
        }
        Kind::Mux => {
            let mut mux = Mux::new();
            let [_, part, _] = [(); 3].map(|()| mux.add(Echoing { idle: each }));
            let mut reactor = Reactor::new(mux)?;
            reactor.listen_for(part, Listen::adopt(OwnedFd::from(listener)))?;
            reactor.run().map(drop)
        }
        Kind::Single | Kind::Gro | Kind::RawGro => Err(kind.cannot()),
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
