//! The load: requests kept in flight on connections that stay, by a loop on epoll that does
//! as little as it can. Every answer is counted by its length; now and then one is read
//! and compared, the others are thrown away by the kernel.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Instant;

use super::epoll::{self, Epoll, IN, OUT};
use super::raw::taken;
use super::workload::{Load, Span};

const BUFFER: usize = 256 * 1024;
/// The longest single send.
const CHUNK: usize = 64 * 1024;
/// One receive of so many is compared byte by byte.
const COMPARED: u32 = 64;
/// A server that answers nothing for so long is broken.
pub(crate) const PATIENCE_MS: i32 = 10_000;

/// What is said on each connection: always the same request, and the same answer.
pub(crate) struct Script {
    /// Requests one after the other, so that several leave in one send.
    requests: Vec<u8>,
    request: usize,
    answer: Vec<u8>,
    /// Requests in flight on each connection.
    depth: usize,
}

impl Script {
    pub(crate) fn new(request: Vec<u8>, answer: Vec<u8>, depth: usize) -> Self {
        let copies = (CHUNK / request.len()).clamp(1, depth + 1);
        Self {
            request: request.len(),
            requests: request.repeat(copies),
            answer,
            depth,
        }
    }
}

/// The clients of one server.
pub(crate) struct Clients {
    script: Script,
    epoll: Epoll,
    clients: Vec<Client>,
    buffer: Vec<u8>,
    receives: u32,
}

struct Client {
    stream: TcpStream,
    /// Bytes of requests that wait for room in the socket.
    unsent: usize,
    /// Where in a request the next byte to send is, and in an answer the next to come.
    sent: usize,
    received: usize,
}

impl Clients {
    pub(crate) fn connect(script: Script, at: SocketAddr, connections: usize) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let connect = |key| {
            let stream = TcpStream::connect(at)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll.add(stream.as_raw_fd(), IN | OUT, key as u64)?;
            Ok(Client {
                stream,
                unsent: 0,
                sent: 0,
                received: 0,
            })
        };
        let clients = (0..connections).map(connect).collect::<io::Result<_>>()?;
        Ok(Self {
            script,
            epoll,
            clients,
            buffer: vec![0; BUFFER],
            receives: 0,
        })
    }
}

impl Load for Clients {
    fn run(&mut self, span: Span) -> io::Result<u64> {
        let mut quota = Quota::new(span);
        for client in &mut self.clients {
            client.ask(&self.script, quota.take(self.script.depth))?;
        }
        let mut answered = 0;
        while answered < quota.taken {
            let ready = self.epoll.wait(PATIENCE_MS)?;
            if ready == 0 {
                return Err(io::Error::other("the server does not answer"));
            }
            quota.look();
            for at in 0..ready {
                let (what, key) = self.epoll.event(at);
                let client = &mut self.clients[key as usize];
                if what & OUT != 0 {
                    client.send(&self.script)?;
                }
                if what & !OUT != 0 {
                    self.receives += 1;
                    let compare = self.receives.is_multiple_of(COMPARED);
                    let answers = client.receive(&self.script, &mut self.buffer, compare)?;
                    answered += answers as u64;
                    client.ask(&self.script, quota.take(answers))?;
                }
            }
        }
        Ok(answered)
    }
}

impl Client {
    fn ask(&mut self, script: &Script, requests: usize) -> io::Result<()> {
        self.unsent += requests * script.request;
        self.send(script)
    }

    fn send(&mut self, script: &Script) -> io::Result<()> {
        while self.unsent > 0 {
            let from = &script.requests[self.sent..];
            let chunk = &from[..from.len().min(self.unsent).min(CHUNK)];
            let sent = taken(epoll::send(self.stream.as_raw_fd(), chunk))?;
            self.unsent -= sent;
            self.sent = (self.sent + sent) % script.request;
            if sent < chunk.len() {
                break;
            }
        }
        Ok(())
    }

    /// How many answers are complete by it.
    fn receive(&mut self, script: &Script, buffer: &mut [u8], compare: bool) -> io::Result<usize> {
        let receive = if compare { epoll::recv } else { epoll::discard };
        let mut answers = 0;
        loop {
            let n = match receive(self.stream.as_raw_fd(), buffer) {
                Ok(0) => return Err(io::Error::other("the server closed a connection")),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(answers),
                Err(error) => return Err(error),
            };
            if compare && !is_of(&buffer[..n], self.received, &script.answer) {
                return Err(io::Error::other("the server answered other bytes"));
            }
            let end = self.received + n;
            answers += end / script.answer.len();
            self.received = end % script.answer.len();
            if n < buffer.len() {
                return Ok(answers);
            }
        }
    }
}

/// Whether the bytes are those of one answer after the other, from that offset on.
fn is_of(mut bytes: &[u8], mut from: usize, answer: &[u8]) -> bool {
    while !bytes.is_empty() {
        let expected = &answer[from..];
        let (these, rest) = bytes.split_at(expected.len().min(bytes.len()));
        if these != &expected[..these.len()] {
            return false;
        }
        (bytes, from) = (rest, 0);
    }
    true
}

/// How many requests may still be sent.
pub(crate) struct Quota {
    pub(crate) taken: u64,
    left: u64,
    end: Option<Instant>,
}

impl Quota {
    pub(crate) fn new(span: Span) -> Self {
        match span {
            Span::Time(time) => Self {
                taken: 0,
                left: u64::MAX,
                end: Some(Instant::now() + time),
            },
            Span::Requests(requests) => Self {
                taken: 0,
                left: requests,
                end: None,
            },
        }
    }

    /// At the clock: once a turn is enough.
    pub(crate) fn look(&mut self) {
        if self.end.is_some_and(|end| Instant::now() >= end) {
            self.left = 0;
        }
    }

    /// Takes so many, or what is left.
    pub(crate) fn take(&mut self, requests: usize) -> usize {
        let granted = (requests as u64).min(self.left);
        self.left -= granted;
        self.taken += granted;
        granted as usize
    }
}
