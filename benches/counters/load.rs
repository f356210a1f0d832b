//! The clients: what each workload asks for, and how. All that belongs to one round is sent
//! before any answer is read, so each round is the same.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::str::FromStr;
use std::time::Duration;

const MESSAGE: [u8; 64] = [b'm'; 64];
const LINE: &[u8] = b"a line of text, which comes back as it is\n";
const DEPTH: usize = 16;
const MANY: usize = 50;
/// Datagrams of one round; they fit the receive buffer that any system grants.
const DATAGRAMS: usize = 32;
const HTTP_ASK: &[u8] = b"GET /time HTTP/1.1\r\nHost: localhost\r\nUser-Agent: counters\r\n\r\n";
/// What the server of workload `http` answers.
pub(crate) const HTTP_ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nhello\n";
/// Programs under valgrind are slow, but not that slow.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Workload {
    /// One message there and back on each of fifty connections.
    Echo50,
    /// The same on one connection.
    Echo1,
    /// Sixteen messages at a time on each of fifty connections.
    Deep16,
    /// Fifty connections, each for one message there and back.
    Churn,
    /// One line there and back, found by a decoder.
    Lines,
    /// One request of HTTP and its answer.
    Http,
    /// Datagrams there and back.
    Udp,
}

impl Workload {
    pub(crate) const ALL: [Self; 7] = [
        Self::Echo50,
        Self::Echo1,
        Self::Deep16,
        Self::Churn,
        Self::Lines,
        Self::Http,
        Self::Udp,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo50 => "echo50",
            Self::Echo1 => "echo1",
            Self::Deep16 => "deep16",
            Self::Churn => "churn",
            Self::Lines => "lines",
            Self::Http => "http",
            Self::Udp => "udp",
        }
    }
}

impl FromStr for Workload {
    type Err = io::Error;

    fn from_str(name: &str) -> io::Result<Self> {
        let known = Self::ALL.into_iter().find(|known| known.name() == name);
        known.ok_or_else(|| io::Error::other(format!("no workload is called {name}")))
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Clients of one server, all driven by the calling thread.
pub(crate) struct Load {
    addr: SocketAddr,
    kind: Kind,
}

enum Kind {
    Streams(Streams),
    Churn,
    Datagrams(UdpSocket),
}

struct Streams {
    open: Vec<TcpStream>,
    ask: Vec<u8>,
    answer: Vec<u8>,
    /// Requests that one ask contains.
    depth: usize,
}

impl Load {
    pub(crate) fn connect(workload: Workload, addr: SocketAddr) -> io::Result<Self> {
        let streams = |n, ask: &[u8], answer: &[u8], depth| {
            let open = (0..n).map(|_| connect(addr)).collect::<io::Result<_>>()?;
            let (ask, answer) = (ask.repeat(depth), answer.repeat(depth));
            Ok::<_, io::Error>(Kind::Streams(Streams {
                open,
                ask,
                answer,
                depth,
            }))
        };
        let kind = match workload {
            Workload::Echo50 => streams(MANY, &MESSAGE, &MESSAGE, 1)?,
            Workload::Echo1 => streams(1, &MESSAGE, &MESSAGE, 1)?,
            Workload::Deep16 => streams(MANY, &MESSAGE, &MESSAGE, DEPTH)?,
            Workload::Lines => streams(MANY, LINE, LINE, 1)?,
            Workload::Http => streams(MANY, HTTP_ASK, HTTP_ANSWER, 1)?,
            Workload::Churn => Kind::Churn,
            Workload::Udp => {
                let socket = UdpSocket::bind("127.0.0.1:0")?;
                socket.set_read_timeout(Some(PATIENCE))?;
                Kind::Datagrams(socket)
            }
        };
        Ok(Self { addr, kind })
    }

    /// At least that many requests, in whole rounds. Tells how many there were.
    pub(crate) fn run(&mut self, requests: usize) -> io::Result<usize> {
        let mut done = 0;
        while done < requests {
            done += self.round()?;
        }
        Ok(done)
    }

    fn round(&mut self) -> io::Result<usize> {
        match &mut self.kind {
            Kind::Streams(streams) => streams.round(),
            Kind::Churn => churn(self.addr),
            Kind::Datagrams(socket) => datagrams(socket, self.addr),
        }
    }
}

impl Streams {
    fn round(&mut self) -> io::Result<usize> {
        for stream in &mut self.open {
            stream.write_all(&self.ask)?;
        }
        for stream in &mut self.open {
            expect(stream, &self.answer)?;
        }
        Ok(self.open.len() * self.depth)
    }
}

/// A client that gives up in the end.
pub(crate) fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// One message there and back.
pub(crate) fn echo(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(&MESSAGE)?;
    expect(stream, &MESSAGE)
}

fn churn(addr: SocketAddr) -> io::Result<usize> {
    let streams = (0..MANY).map(|_| connect(addr));
    let mut streams = streams.collect::<io::Result<Vec<_>>>()?;
    for stream in &mut streams {
        stream.write_all(&MESSAGE)?;
    }
    for stream in &mut streams {
        expect(stream, &MESSAGE)?;
    }
    Ok(MANY)
}

fn datagrams(socket: &UdpSocket, addr: SocketAddr) -> io::Result<usize> {
    for _ in 0..DATAGRAMS {
        socket.send_to(&MESSAGE, addr)?;
    }
    let mut answer = [0; 2 * MESSAGE.len()];
    for _ in 0..DATAGRAMS {
        let n = socket.recv(&mut answer)?;
        same(&answer[..n], &MESSAGE)?;
    }
    Ok(DATAGRAMS)
}

fn expect(stream: &mut TcpStream, answer: &[u8]) -> io::Result<()> {
    let mut buffer = [0; DEPTH * MESSAGE.len()];
    let got = &mut buffer[..answer.len()];
    stream.read_exact(got)?;
    same(got, answer)
}

fn same(got: &[u8], wanted: &[u8]) -> io::Result<()> {
    if got == wanted {
        Ok(())
    } else {
        Err(io::Error::other("the answer is another one"))
    }
}
