//! One connection that sends as fast as it can, beside one that waits for each answer: how
//! long does the second wait? A request is a MiB of the first, so that the processor time
//! says what a server pays for being fair; the latency is what this is about.
//!
//! The servers add up what they are flooded with, as if they parsed it: whoever only threw
//! it away would be faster than any load, have nothing left to read, and so be fair.
//!
//! The raw loop has the budget here that windlass has by default. Bar: its latency twice.

use std::hint::black_box;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

use windlass::{Config, Conn, Handler, Input, Listen, ListenerId, Reactor};

use super::answer::Answer;
use super::epoll::{self, Epoll, IN, OUT};
use super::exchange::{PATIENCE_MS, Quota};
use super::raw::{self, taken};
use super::sink::{DEPTH, UNIT, count};
use super::tokio_tasks;
use super::workload::{Kind, Load, Span, Workload, listen};

/// The first byte of what is sent says which of the two it is.
const PING: [u8; 64] = [b'p'; 64];
static FLOOD: [u8; 64 * 1024] = [b'f'; 64 * 1024];

/// Which connection an event is about.
const PINGS: u64 = 0;
const FLOODS: u64 = 1;

const SERVERS: &[Kind] = &[Kind::Raw, Kind::Windlass, Kind::Tokio];

pub(crate) fn family() -> Vec<Box<dyn Workload>> {
    vec![Box::new(Fairness)]
}

struct Fairness;

impl Workload for Fairness {
    fn name(&self) -> &str {
        "fairness"
    }

    fn says(&self) -> String {
        format!(
            "{} bytes there and back, beside a connection that never stops sending; a request \
             is 1 MiB of the latter",
            PING.len()
        )
    }

    fn servers(&self) -> &[Kind] {
        SERVERS
    }

    fn serve(&self, kind: Kind, at: SocketAddr) -> io::Result<()> {
        let listener = listen(at)?;
        match kind {
            Kind::Raw => raw::serve_within(&listener, Both, Config::default().read_budget),
            Kind::Tokio => tokio_tasks::serve(listener, Both, raw::BUFFER, None),
            Kind::Windlass => {
                let mut reactor = Reactor::new(Serving)?;
                reactor.listen(Listen::adopt(OwnedFd::from(listener)))?;
                reactor.run().map(drop)
            }
            _ => Err(kind.cannot()),
        }
    }

    fn load(&self, at: SocketAddr) -> io::Result<Box<dyn Load>> {
        Pair::connect(at).map(|pair| -> Box<dyn Load> { Box::new(pair) })
    }
}

/// Echoes the one, reads and counts the other.
fn answer<'a>(counted: &mut usize, input: &'a [u8]) -> &'a [u8] {
    if input.first() == PING.first() {
        return input;
    }
    let add = |sum: u64, byte: &u8| sum.wrapping_mul(31).wrapping_add(u64::from(*byte));
    black_box(input.iter().fold(0, add));
    count(counted, input.len())
}

#[derive(Clone)]
struct Both;

impl Answer for Both {
    type Session = usize;

    fn answer<'a>(&'a mut self, counted: &mut usize, input: &'a [u8]) -> &'a [u8] {
        answer(counted, input)
    }
}

struct Serving;

impl Handler for Serving {
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
        conn.write(answer(counted, input.take_all()));
        Ok(())
    }
}

/// Both clients in one loop, which sends one piece of the flood and then looks at the ping.
struct Pair {
    epoll: Epoll,
    pings: TcpStream,
    floods: TcpStream,
    /// Room in the flood's socket.
    room: bool,
    /// Bytes of the flood that may be sent by now.
    unsent: usize,
    /// Of the answer to the ping that is under way.
    received: usize,
    sent_at: Option<Instant>,
    /// In seconds, of the last run.
    latencies: Vec<f64>,
}

impl Pair {
    fn connect(at: SocketAddr) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let connect = |key| {
            let stream = TcpStream::connect(at)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll.add(stream.as_raw_fd(), IN | OUT, key)?;
            Ok::<_, io::Error>(stream)
        };
        Ok(Self {
            pings: connect(PINGS)?,
            floods: connect(FLOODS)?,
            epoll,
            room: true,
            unsent: 0,
            received: 0,
            sent_at: None,
            latencies: Vec::new(),
        })
    }

    fn ping(&mut self) -> io::Result<()> {
        self.sent_at = Some(Instant::now());
        match epoll::send(self.pings.as_raw_fd(), &PING)? {
            n if n == PING.len() => Ok(()),
            _ => Err(io::Error::other("an empty socket had no room")),
        }
    }

    /// Whether the answer is complete.
    fn pong(&mut self) -> io::Result<bool> {
        let mut buffer = PING;
        match taken(epoll::recv(self.pings.as_raw_fd(), &mut buffer))? {
            n if buffer[..n] != PING[..n] => {
                return Err(io::Error::other("the server answered other bytes"));
            }
            n => self.received += n,
        }
        if self.received < PING.len() {
            return Ok(false);
        }
        self.received = 0;
        let waited = self.sent_at.take().map(|at| at.elapsed().as_secs_f64());
        self.latencies.extend(waited);
        Ok(true)
    }

    fn flood(&mut self) -> io::Result<()> {
        let piece = &FLOOD[..FLOOD.len().min(self.unsent)];
        let sent = taken(epoll::send(self.floods.as_raw_fd(), piece))?;
        self.unsent -= sent;
        self.room = sent == piece.len();
        Ok(())
    }

    /// How many MiB more have arrived.
    fn arrived(&self) -> io::Result<usize> {
        // More than can be under way.
        let mut buffer = [0; 2 * DEPTH];
        taken(epoll::recv(self.floods.as_raw_fd(), &mut buffer))
    }

    /// Answers how many MiB have arrived meanwhile.
    fn turn(&mut self, quota: &mut Quota) -> io::Result<usize> {
        let floods = self.room && self.unsent > 0;
        let ready = self.epoll.wait(if floods { 0 } else { PATIENCE_MS })?;
        if ready == 0 && !floods {
            return Err(io::Error::other("the server does not answer"));
        }
        quota.look();
        let mut arrived = 0;
        for at in 0..ready {
            let (what, key) = self.epoll.event(at);
            if key == FLOODS {
                self.room |= what & OUT != 0;
                arrived += self.arrived()?;
            } else if self.sent_at.is_some() && self.pong()? && !quota.is_spent() {
                self.ping()?;
            }
        }
        if self.room && self.unsent > 0 {
            self.flood()?;
        }
        Ok(arrived)
    }
}

impl Load for Pair {
    fn run(&mut self, span: Span) -> io::Result<u64> {
        let mut quota = Quota::new(span);
        self.latencies.clear();
        self.unsent = quota.take(DEPTH) * UNIT;
        self.ping()?;
        let mut done = 0;
        while done < quota.taken || self.sent_at.is_some() {
            let arrived = self.turn(&mut quota)?;
            done += arrived as u64;
            self.unsent += quota.take(arrived) * UNIT;
        }
        Ok(done)
    }

    fn p99(&self) -> Option<f64> {
        let mut sorted = self.latencies.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() * 99 / 100).copied()
    }
}
