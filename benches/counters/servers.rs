//! The servers that are counted, each of which can be a process or a thread.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::process;
use std::str::FromStr;
use std::time::Duration;

use windlass::codec::{Decoder, Delimited, Encoder, Lines};
use windlass::{Bind, Config, Conn, Datagram, Handler, Input, Listen, ListenerId, Reactor, Socket};

use super::load::{HTTP_ANSWER, Workload};
use super::{mio_loop, os};
use crate::raw;

const LONGEST_LINE: usize = 1024;
const LONGEST_HEAD: usize = 8 * 1024;
const READ_DEADLINE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Server {
    /// By hand on epoll.
    Raw,
    /// By hand on mio.
    Mio,
    /// As it is by default: each connection has an idle timeout.
    Windlass,
    /// Without the idle timeout.
    NoIdle,
    /// Each read moves a read deadline, besides the idle timeout.
    Deadline,
}

impl Server {
    pub(crate) const ALL: [Self; 5] = [
        Self::Raw,
        Self::Mio,
        Self::Windlass,
        Self::NoIdle,
        Self::Deadline,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Mio => "mio",
            Self::Windlass => "windlass",
            Self::NoIdle => "windlass-no-idle",
            Self::Deadline => "windlass-deadline",
        }
    }
}

impl FromStr for Server {
    type Err = io::Error;

    fn from_str(name: &str) -> io::Result<Self> {
        let known = Self::ALL.into_iter().find(|known| known.name() == name);
        known.ok_or_else(|| io::Error::other(format!("no server is called {name}")))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A process that serves until SIGTERM comes, or its parent ends.
pub(crate) fn serve(server: Server, workload: Workload) -> io::Result<()> {
    os::step_back();
    let door = Door::open(workload)?;
    os::end_when_told();
    println!("process {} listens on {}", process::id(), door.addr()?);
    run(server, workload, door)
}

/// Where the clients come in.
pub(crate) enum Door {
    Stream(TcpListener),
    Packet(UdpSocket),
}

impl Door {
    pub(crate) fn open(workload: Workload) -> io::Result<Self> {
        let any = "127.0.0.1:0";
        Ok(match workload {
            Workload::Udp => Self::Packet(UdpSocket::bind(any)?),
            _ => Self::Stream(TcpListener::bind(any)?),
        })
    }

    pub(crate) fn addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Stream(listener) => listener.local_addr(),
            Self::Packet(socket) => socket.local_addr(),
        }
    }
}

/// Serves for ever.
pub(crate) fn run(server: Server, workload: Workload, door: Door) -> io::Result<()> {
    let echoes = !matches!(workload, Workload::Lines | Workload::Http);
    match (server, door) {
        (Server::Raw, Door::Stream(listener)) if echoes => raw::serve(listener),
        (Server::Mio, Door::Stream(listener)) if echoes => mio_loop::serve(listener),
        (Server::NoIdle, door) if echoes => {
            let mut config = config();
            config.idle_timeout = Duration::MAX;
            react(Echo, config, door)
        }
        (Server::Deadline, door) if echoes => react(MovesDeadline, config(), door),
        (Server::Windlass, door) => match workload {
            Workload::Lines => react(EchoLines, config(), door),
            Workload::Http => react(Http, config(), door),
            _ => react(Echo, config(), door),
        },
        _ => Err(io::Error::other(format!("{server} has no {workload}"))),
    }
}

/// As it is by default, but no turn is slow: on a busy machine valgrind's are, and then
/// callbacks are timed for a while, which is not what each request costs.
fn config() -> Config {
    let mut config = Config::default();
    config.slow_turn = Duration::MAX;
    config
}

fn react<H: Handler>(handler: H, config: Config, door: Door) -> io::Result<()> {
    let mut reactor = Reactor::with_config(handler, config)?;
    match door {
        Door::Stream(listener) => {
            reactor.listen(Listen::adopt(OwnedFd::from(listener)).nodelay(true))?;
        }
        Door::Packet(socket) => {
            reactor.bind(Bind::adopt(OwnedFd::from(socket)))?;
        }
    }
    reactor.run().map(drop)
}

struct Echo;

impl Handler for Echo {
    type Session = ();

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        Ok(())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        _: &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        conn.write(input.take_all());
        Ok(())
    }

    fn on_datagram(&mut self, socket: &mut Socket<'_>, datagram: &Datagram<'_>) {
        socket.send_to(datagram.bytes(), datagram.from());
    }
}

struct MovesDeadline;

impl Handler for MovesDeadline {
    type Session = ();

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        Ok(())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        _: &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        conn.set_read_deadline(Some(conn.now() + READ_DEADLINE));
        conn.write(input.take_all());
        Ok(())
    }
}

struct EchoLines;

impl Handler for EchoLines {
    type Session = Lines;

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<Lines> {
        Ok(Lines::new(LONGEST_LINE))
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        lines: &mut Lines,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        while let Some(line) = lines.decode(input)? {
            lines.encode(line, conn)?;
        }
        Ok(())
    }
}

struct Http;

impl Handler for Http {
    type Session = Delimited;

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<Delimited> {
        Ok(Delimited::new(b"\r\n\r\n", LONGEST_HEAD))
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        heads: &mut Delimited,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        while let Some(head) = heads.decode(input)? {
            if !head.starts_with(b"GET ") {
                return Err(io::Error::from(io::ErrorKind::InvalidData));
            }
            conn.write(HTTP_ANSWER);
        }
        Ok(())
    }
}
