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

/// What is said on each connection: the same requests again and again, and their answers.
pub(crate) struct Script {
    /// Requests one after the other, so that several leave in one send.
    requests: Vec<u8>,
    asked: Cycle,
    answers: Vec<u8>,
    answered: Cycle,
    /// Requests in flight on each connection.
    depth: usize,
}

impl Script {
    /// Always the same.
    pub(crate) fn new(request: Vec<u8>, answer: Vec<u8>, depth: usize) -> Self {
        Self::in_turn(&[(request, answer)], depth)
    }

    pub(crate) fn in_turn(exchanges: &[(Vec<u8>, Vec<u8>)], depth: usize) -> Self {
        let (requests, answers): (Vec<_>, Vec<_>) = exchanges.iter().cloned().unzip();
        let (asked, answered) = (Cycle::of(&requests), Cycle::of(&answers));
        let copies = (CHUNK / asked.length()).clamp(1, depth + 1);
        Self {
            requests: requests.concat().repeat(copies),
            asked,
            answers: answers.concat(),
            answered,
            depth,
        }
    }
}

/// Where messages end that come again and again: the ends of one round.
struct Cycle(Vec<usize>);

impl Cycle {
    fn of(messages: &[Vec<u8>]) -> Self {
        let end = |sum: &mut usize, message: &Vec<u8>| {
            *sum += message.len();
            Some(*sum)
        };
        Self(messages.iter().scan(0, end).collect())
    }

    /// Of one round, in bytes.
    fn length(&self) -> usize {
        self.0.last().copied().unwrap_or_default()
    }

    /// Where that message begins, the first one being at 0.
    fn start(&self, message: usize) -> usize {
        let (rounds, of_this) = (message / self.0.len(), message % self.0.len());
        let before = of_this.checked_sub(1).map_or(0, |last| self.0[last]);
        rounds * self.length() + before
    }

    /// How many messages have ended before that byte.
    fn ended(&self, byte: usize) -> usize {
        let (rounds, of_this) = (byte / self.length(), byte % self.length());
        let these = self.0.iter().take_while(|end| **end <= of_this).count();
        rounds * self.0.len() + these
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
    /// Which request is next, of those of one round.
    next: usize,
    /// Where in a round the next byte to send is, and the next to come.
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
                next: 0,
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
        let end = self.next + requests;
        self.unsent += script.asked.start(end) - script.asked.start(self.next);
        self.next = end % script.asked.0.len();
        self.send(script)
    }

    fn send(&mut self, script: &Script) -> io::Result<()> {
        while self.unsent > 0 {
            let from = &script.requests[self.sent..];
            let chunk = &from[..from.len().min(self.unsent).min(CHUNK)];
            let sent = taken(epoll::send(self.stream.as_raw_fd(), chunk))?;
            self.unsent -= sent;
            self.sent = (self.sent + sent) % script.asked.length();
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
            if compare && !is_of(&buffer[..n], self.received, &script.answers) {
                return Err(io::Error::other("the server answered other bytes"));
            }
            let end = self.received + n;
            answers += script.answered.ended(end) - script.answered.ended(self.received);
            self.received = end % script.answered.length();
            if n < buffer.len() {
                return Ok(answers);
            }
        }
    }
}

/// Whether the bytes are those of one round after the other, from that offset on.
pub(crate) fn is_of(mut bytes: &[u8], mut from: usize, round: &[u8]) -> bool {
    while !bytes.is_empty() {
        let expected = &round[from..];
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

    pub(crate) fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// Takes so many, or what is left.
    pub(crate) fn take(&mut self, requests: usize) -> usize {
        let granted = (requests as u64).min(self.left);
        self.left -= granted;
        self.taken += granted;
        granted as usize
    }
}
