//! How clients behave, well and badly. One conversation at a time; none lasts for ever.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::protocol::{self, Protocol};
use super::servers::Place;
use crate::util::{Rng, pattern};

/// Whoever waits longer was not served. Where descriptors are few, clients wait for others.
const PATIENCE: Duration = Duration::from_secs(40);
/// Requests of one conversation, at most.
const REQUESTS: usize = 12;
/// Between two of a steady client, in milliseconds, at most.
const PAUSE: usize = 40;
/// How much a flooding client sends, in bytes, at most.
const FLOOD: usize = 2 << 20;
const FLOOD_PIECE: usize = 64 << 10;
/// How long a client that does not read stays, in milliseconds, at most.
const DEAF: usize = 500;
/// How often a datagram is sent that is not answered, and how long each time.
const ASK_AGAIN: Duration = Duration::from_millis(300);
const DATAGRAM: usize = 1000;
/// Between two remarks of one guest, in milliseconds, at most.
const SILENCE: usize = 200;
/// Of what makes no sense, in a room.
const SHORT: usize = 200;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Temper {
    Steady,
    Bursty,
    ByteByByte,
    HalfClosing,
    Flooding,
    Pipelining,
    SlowLoris,
    IdleToTheEnd,
    // From here on they do what they should not.
    NeverReading,
    Resetting,
    ConnectAndLeave,
    Malformed,
}

impl Temper {
    const ALL: [Self; 12] = [
        Self::Steady,
        Self::Bursty,
        Self::ByteByByte,
        Self::HalfClosing,
        Self::Flooding,
        Self::Pipelining,
        Self::SlowLoris,
        Self::IdleToTheEnd,
        Self::NeverReading,
        Self::Resetting,
        Self::ConnectAndLeave,
        Self::Malformed,
    ];

    pub(crate) fn any(protocol: Protocol, rng: &mut Rng) -> Self {
        let temper = Self::ALL[rng.range(0, Self::ALL.len())];
        match (temper, protocol) {
            (_, Protocol::Foreign) if !temper.is_fault() => Self::Malformed,
            (Self::IdleToTheEnd, Protocol::Idle | Protocol::Time) => temper,
            // Elsewhere that takes minutes.
            (Self::IdleToTheEnd, _) => Self::Steady,
            // Who floods a room has others cut off, and who is silent here is sent away.
            (Self::Flooding | Self::HalfClosing, Protocol::Chat) => Self::Bursty,
            (Self::SlowLoris, Protocol::Time | Protocol::Idle) => Self::ByteByByte,
            _ => temper,
        }
    }

    /// Whether it throws something at the server that it has to survive.
    pub(crate) fn is_fault(self) -> bool {
        matches!(
            self,
            Self::NeverReading | Self::Resetting | Self::ConnectAndLeave | Self::Malformed
        )
    }
}

/// One conversation. Answers how many bytes were right; an error of a client that behaves is
/// the server's fault.
pub(crate) fn play(
    temper: Temper,
    protocol: Protocol,
    place: &Place,
    rng: &mut Rng,
) -> io::Result<u64> {
    if protocol.is_datagrams() {
        return datagrams(temper, protocol, place, rng);
    }
    let mut talk = Talk::connect(protocol, place)?;
    if temper.is_fault() {
        // Whatever comes of it is well, as long as the server goes on.
        return Ok(talk.misbehave(temper, rng).unwrap_or(0));
    }
    talk.greet()?;
    match protocol {
        Protocol::Daytime => talk.daytime(),
        Protocol::Idle => talk.idle(temper, rng),
        Protocol::Chat => talk.chat(rng),
        Protocol::Time if temper == Temper::IdleToTheEnd => talk.until_the_end(0),
        _ => talk.behave(temper, rng),
    }
}

struct Talk {
    protocol: Protocol,
    socket: Socket,
    heard: BufReader<Socket>,
}

impl Talk {
    fn connect(protocol: Protocol, place: &Place) -> io::Result<Self> {
        let (domain, addr) = match place {
            Place::Ip(addr) => (Domain::for_address(*addr), SockAddr::from(*addr)),
            Place::Path(path) => (Domain::UNIX, SockAddr::unix(path)?),
        };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        match domain {
            Domain::UNIX => socket.connect(&addr)?,
            _ => socket.connect_timeout(&addr, PATIENCE)?,
        }
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let heard = BufReader::new(socket.try_clone()?);
        Ok(Self {
            protocol,
            socket,
            heard,
        })
    }

    fn greet(&mut self) -> io::Result<()> {
        let Some(beginning) = self.protocol.greeting() else {
            return Ok(());
        };
        let line = protocol::line(&mut self.heard)?;
        match line.starts_with(beginning) {
            true => Ok(()),
            false => Err(protocol::wrong(&line)),
        }
    }

    fn behave(&mut self, temper: Temper, rng: &mut Rng) -> io::Result<u64> {
        let requests = rng.range(1, REQUESTS);
        match temper {
            Temper::Pipelining => self.pipeline(requests, rng, false),
            Temper::HalfClosing => self.pipeline(requests, rng, true),
            Temper::Flooding if self.echoes() => self.flood(rng),
            Temper::Flooding => self.pipeline(requests * REQUESTS, rng, false),
            _ => self.one_by_one(temper, requests, rng),
        }
    }

    fn echoes(&self) -> bool {
        matches!(self.protocol, Protocol::Echo | Protocol::Greeted(_))
    }

    /// Each request after the answer to the one before.
    fn one_by_one(&mut self, temper: Temper, requests: usize, rng: &mut Rng) -> io::Result<u64> {
        let mut right = 0;
        for _ in 0..requests {
            let ask = self.protocol.ask(rng);
            match temper {
                Temper::ByteByByte => self.in_bytes(&ask.bytes, rng, Duration::ZERO)?,
                Temper::SlowLoris => self.in_bytes(&ask.bytes, rng, Duration::from_millis(3))?,
                _ => self.socket.write_all(&ask.bytes)?,
            }
            right += ask.hear(&mut self.heard)?;
            if temper == Temper::Steady {
                pause(rng, PAUSE);
            }
        }
        self.finish()?;
        self.until_the_end(right)
    }

    /// The first bytes one by one, and the others at once: a long request would take minutes.
    fn in_bytes(&mut self, bytes: &[u8], rng: &mut Rng, apart: Duration) -> io::Result<()> {
        let single = rng.range(1, 100).min(bytes.len());
        self.socket.set_tcp_nodelay(true).or_else(|error| {
            // A Unix socket has nothing to delay.
            match error.raw_os_error() {
                Some(libc::EOPNOTSUPP | libc::ENOPROTOOPT) => Ok(()),
                _ => Err(error),
            }
        })?;
        for byte in &bytes[..single] {
            self.socket.write_all(&[*byte])?;
            thread::sleep(apart);
        }
        self.socket.write_all(&bytes[single..])
    }

    /// All requests at once, and then all answers. Who has finished sending gets them, too.
    fn pipeline(&mut self, requests: usize, rng: &mut Rng, finish: bool) -> io::Result<u64> {
        let asks: Vec<_> = (0..requests).map(|_| self.protocol.ask(rng)).collect();
        let all: Vec<u8> = asks.iter().flat_map(|ask| ask.bytes.clone()).collect();
        let mut writing = self.socket.try_clone()?;
        let sent = thread::spawn(move || {
            writing.write_all(&all)?;
            if finish {
                writing.shutdown(Shutdown::Write)?;
            }
            Ok(())
        });
        let mut right = 0;
        for ask in &asks {
            right += ask.hear(&mut self.heard)?;
        }
        sent.join()
            .unwrap_or_else(|_| Err(io::Error::other("panicked")))?;
        if !finish {
            self.finish()?;
        }
        self.until_the_end(right)
    }

    /// Sends as much as it can, and reads along.
    fn flood(&mut self, rng: &mut Rng) -> io::Result<u64> {
        let pieces = rng.range(1, FLOOD / FLOOD_PIECE);
        let piece = pattern(FLOOD_PIECE, rng.next());
        let (mut writing, sent) = (self.socket.try_clone()?, piece.clone());
        let sender = thread::spawn(move || {
            (0..pieces).try_for_each(|_| writing.write_all(&sent))?;
            writing.shutdown(Shutdown::Write)
        });
        let mut heard = vec![0; FLOOD_PIECE];
        for number in 0..pieces {
            self.heard.read_exact(&mut heard)?;
            if heard != piece {
                return Err(protocol::wrong(&format!("piece {number}")));
            }
        }
        sender
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("panicked")))?;
        self.until_the_end((pieces * FLOOD_PIECE) as u64)
    }

    fn finish(&self) -> io::Result<()> {
        match self.socket.shutdown(Shutdown::Write) {
            // The server's end came first.
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            done => done,
        }
    }

    /// Nothing may come but the end.
    fn until_the_end(&mut self, right: u64) -> io::Result<u64> {
        match self.heard.read(&mut [0; 1])? {
            0 => Ok(right),
            _ => Err(protocol::wrong("more than was asked for")),
        }
    }

    fn daytime(&mut self) -> io::Result<u64> {
        let line = protocol::line(&mut self.heard)?;
        let date = line.trim_end().replacen(' ', "T", 1) + "Z";
        humantime::parse_rfc3339(&date).map_err(|_| protocol::wrong(&line))?;
        self.until_the_end(line.len() as u64)
    }

    /// Signs of life, and then silence until the last word.
    fn idle(&mut self, temper: Temper, rng: &mut Rng) -> io::Result<u64> {
        for _ in 0..rng.range(1, REQUESTS) {
            if temper != Temper::IdleToTheEnd {
                self.socket.write_all(b"x")?;
                pause(rng, PAUSE);
            }
        }
        let line = protocol::line(&mut self.heard)?;
        if line != "goodbye\n" {
            return Err(protocol::wrong(&line));
        }
        self.until_the_end(line.len() as u64)
    }

    /// Says something now and then, and checks what the others say.
    fn chat(&mut self, rng: &mut Rng) -> io::Result<u64> {
        let until = Instant::now() + Duration::from_millis(rng.range(50, 1000) as u64);
        self.socket
            .set_read_timeout(Some(Duration::from_millis(50)))?;
        let (mut right, mut line) = (0, Vec::new());
        let mut speaks_at = Instant::now();
        while Instant::now() < until {
            // Not at each line that is heard: so a room would never be silent again.
            if Instant::now() >= speaks_at {
                self.socket.write_all(protocol::remark(rng).as_bytes())?;
                speaks_at = Instant::now() + Duration::from_millis(rng.range(1, SILENCE) as u64);
            }
            match self.heard.read_until(b'\n', &mut line) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => right += n as u64,
                // A part of a line stays in `line`.
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
            let said = String::from_utf8_lossy(&line);
            if !protocol::is_as_said(&said) {
                return Err(protocol::wrong(&said));
            }
            line.clear();
        }
        Ok(right)
    }

    fn misbehave(&mut self, temper: Temper, rng: &mut Rng) -> io::Result<u64> {
        match (temper, self.protocol) {
            (Temper::ConnectAndLeave, _) => {}
            // Who floods a room has others cut off; it is loud enough as it is.
            (Temper::NeverReading, Protocol::Chat) => pause(rng, DEAF),
            (Temper::Malformed, Protocol::Chat) => {
                self.socket.write_all(&garbage(rng)[..SHORT])?;
            }
            (Temper::NeverReading, _) => {
                let socket = &self.socket;
                socket.set_write_timeout(Some(Duration::from_millis(rng.range(1, DEAF) as u64)))?;
                let ask = self.protocol.ask_in_vain(rng);
                while self.socket.write(&ask)? > 0 {
                    if rng.one_in(200) {
                        break;
                    }
                }
            }
            (Temper::Resetting, _) => {
                let ask = self.protocol.ask_in_vain(rng);
                let some = rng.range(0, ask.len());
                self.socket.write_all(&ask[..some])?;
                pause(rng, 10);
                self.socket.set_linger(Some(Duration::ZERO))?;
            }
            _ => {
                self.socket.write_all(&garbage(rng))?;
                self.finish()?;
                let wait = Duration::from_millis(200);
                self.socket.set_read_timeout(Some(wait))?;
                let _ = self.heard.read(&mut [0; 512]);
            }
        }
        Ok(0)
    }
}

/// What no protocol has, or what looks like one at first.
fn garbage(rng: &mut Rng) -> Vec<u8> {
    const BEGINNINGS: [&[u8]; 9] = [
        b"",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"\x15\x03\x03\0\x02\x02\x28\x17\x03\x03\xff\xff",
        b"GET / HTTP/9.9\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"GET /headers HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        b"*4294967296\r\n$-1\r\n",
        b"*2\r\n$3\r\nGET\r\n$9999999999\r\n",
        b"\xff\xfe\0\0",
    ];
    let beginning = BEGINNINGS[rng.range(0, BEGINNINGS.len())];
    let mut rest = pattern(rng.range(0, 9000), rng.next());
    rest.extend([b' '; SHORT]);
    // In a room it would be taken for what somebody has said.
    rest.iter_mut()
        .for_each(|byte| *byte = byte.saturating_add(u8::from(*byte == b'#')));
    [beginning, &rest].concat()
}

fn pause(rng: &mut Rng, most: usize) {
    thread::sleep(Duration::from_millis(rng.range(0, most) as u64));
}

/// Datagrams, asked again when no answer comes.
fn datagrams(temper: Temper, protocol: Protocol, place: &Place, rng: &mut Rng) -> io::Result<u64> {
    let Place::Ip(server) = place else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(ASK_AGAIN))?;
    if temper.is_fault() || temper == Temper::Flooding {
        for _ in 0..rng.range(1, 100) {
            let _ = socket.send(&garbage(rng));
        }
        return Ok(0);
    }
    let mut right = 0;
    let mut heard = [0; 2 * DATAGRAM];
    for _ in 0..rng.range(1, REQUESTS) {
        let said = pattern(rng.range(1, DATAGRAM), rng.next());
        let began = Instant::now();
        socket.send(&said)?;
        let n = loop {
            match socket.recv(&mut heard) {
                // The answer to an earlier one comes late if that was asked twice.
                Ok(n) if protocol == Protocol::Date || heard[..n] == said[..] => break n,
                Ok(_) => {}
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                Err(error) if began.elapsed() > PATIENCE => return Err(error),
                Err(_) => drop(socket.send(&said)?),
            }
        };
        if protocol == Protocol::Date {
            let date = String::from_utf8_lossy(&heard[..n]);
            humantime::parse_rfc3339(&date).map_err(|_| protocol::wrong(&date))?;
        }
        right += n as u64;
    }
    Ok(right)
}
