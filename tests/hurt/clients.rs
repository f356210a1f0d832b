//! Clients that compare each byte that comes back with what they sent, and tell how far
//! they came. None of them waits for ever.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::util::{Rng, pattern};

/// What is asked in one connection, in bytes: less than a record may have, more than the
/// server's buffer holds.
const ROUNDS: [usize; 8] = [1, 100, 4096, 15_000, 2, 32_000, 7, 12_345];
/// One datagram, and how often it is asked again when no answer comes.
const DATAGRAM: usize = 500;
const DATAGRAMS: u64 = 12;
const ASK_AGAIN: Duration = Duration::from_millis(150);

/// What speaks to the clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Service {
    Echo,
    Relay,
    Http,
    Unix,
    Records,
    Udp,
}

impl Service {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Relay => "relay",
            Self::Http => "http",
            Self::Unix => "unix",
            Self::Records => "records",
            Self::Udp => "udp",
        }
    }
}

/// Where a service is found.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Ip(SocketAddr),
    Path(PathBuf),
}

/// How a conversation went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum How {
    /// All that was asked for came, and then the end.
    Intact,
    /// The same, but no end came.
    Unfinished,
    /// Nothing wrong came, and not all.
    Cut(String),
    /// Something else came.
    Corrupt(String),
    /// Nobody listens.
    Refused,
}

#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) bytes: u64,
    pub(crate) how: How,
}

/// One client from its first byte to the end. Waits at most that long for the next byte.
pub(crate) fn talk(service: Service, place: &Place, seed: u64, patience: Duration) -> Told {
    let mut bytes = 0;
    let end = match service {
        Service::Udp => ask(place, seed, patience, &mut bytes),
        _ => converse(service, place, seed, patience, &mut bytes),
    };
    let how = match end {
        Ok(how) => how,
        Err(error) => match error.kind() {
            ErrorKind::InvalidData => How::Corrupt(error.to_string()),
            ErrorKind::ConnectionRefused | ErrorKind::NotFound => How::Refused,
            _ => How::Cut(error.to_string()),
        },
    };
    Told { bytes, how }
}

pub(crate) fn connect(service: Service, place: &Place, patience: Duration) -> io::Result<Socket> {
    let kind = match service {
        Service::Records => Type::SEQPACKET,
        _ => Type::STREAM,
    };
    let (domain, addr) = match place {
        Place::Ip(addr) => (Domain::for_address(*addr), SockAddr::from(*addr)),
        Place::Path(path) => (Domain::UNIX, SockAddr::unix(path)?),
    };
    let socket = Socket::new(domain, kind, None)?;
    match place {
        Place::Ip(_) => socket.connect_timeout(&addr, patience)?,
        Place::Path(_) => socket.connect(&addr)?,
    }
    socket.set_read_timeout(Some(patience))?;
    socket.set_write_timeout(Some(patience))?;
    Ok(socket)
}

fn converse(
    service: Service,
    place: &Place,
    seed: u64,
    patience: Duration,
    bytes: &mut u64,
) -> io::Result<How> {
    let mut socket = connect(service, place, patience)?;
    for (round, size) in (0..).zip(ROUNDS) {
        let said = pattern(size, seed ^ round);
        *bytes += match service {
            Service::Http => request(&mut socket, &said)?,
            _ => echo(&mut socket, &said)?,
        };
    }
    socket.shutdown(Shutdown::Write)?;
    match socket.read(&mut [0; 1]) {
        Ok(0) => Ok(How::Intact),
        Ok(_) => Ok(How::Corrupt("more than was asked for".into())),
        Err(error) if timed_out(&error) => Ok(How::Unfinished),
        Err(error) => Err(error),
    }
}

fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Sends, and compares what comes back.
pub(crate) fn echo(socket: &mut Socket, said: &[u8]) -> io::Result<u64> {
    socket.write_all(said)?;
    let heard = hear(socket, |heard| heard.len() >= said.len())?;
    same(&heard, said)
}

/// Whatever comes until it is enough. Records are read whole.
fn hear(socket: &mut Socket, enough: impl Fn(&[u8]) -> bool) -> io::Result<Vec<u8>> {
    let mut heard = Vec::new();
    let mut piece = vec![0; 64 * 1024];
    while !enough(&heard) {
        match socket.read(&mut piece) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => heard.extend_from_slice(&piece[..n]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(heard)
}

fn same(heard: &[u8], said: &[u8]) -> io::Result<u64> {
    if heard == said {
        return Ok(said.len() as u64);
    }
    let at = heard.iter().zip(said).take_while(|(a, b)| a == b).count();
    let (came, sent) = (heard.len(), said.len());
    let what = format!("{came} bytes for {sent}, which differ from byte {at} on");
    Err(io::Error::new(ErrorKind::InvalidData, what))
}

/// Asks for what it sends in a header: the page of headers has it. No line is longer than
/// an example allows.
fn request(socket: &mut Socket, said: &[u8]) -> io::Result<u64> {
    let hex: String = said.iter().take(1000).map(|b| format!("{b:02x}")).collect();
    let ask = format!("GET /headers HTTP/1.1\r\nHost: a\r\nX-Seed: {hex}\r\n\r\n");
    socket.write_all(ask.as_bytes())?;
    let body = format!("Host:a\nX-Seed:{hex}\n");
    let whole = |heard: &[u8]| {
        let end = heard.windows(4).position(|four| four == b"\r\n\r\n");
        end.is_some_and(|end| heard.len() >= end + 4 + body.len())
    };
    let heard = hear(socket, whole)?;
    let end = heard.windows(4).position(|four| four == b"\r\n\r\n");
    same(&heard[end.unwrap_or(0) + 4..], body.as_bytes())
}

/// Datagrams one after the other; a lost one is asked for again, for as long as patience lasts.
fn ask(place: &Place, seed: u64, patience: Duration, bytes: &mut u64) -> io::Result<How> {
    let Place::Ip(server) = place else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(ASK_AGAIN))?;
    let mut all = Vec::new();
    let mut answer = [0; 2 * DATAGRAM];
    for number in 0..DATAGRAMS {
        all.push(pattern(DATAGRAM, seed.wrapping_mul(31) + number));
        let said = &all[all.len() - 1];
        let began = Instant::now();
        socket.send(said)?;
        loop {
            match socket.recv(&mut answer) {
                Ok(n) if answer[..n] == said[..] => break,
                // The answer to one that was asked twice.
                Ok(n) if all.iter().any(|it| answer[..n] == it[..]) => {}
                Ok(n) => return same(&answer[..n], said).map(|_| How::Intact),
                Err(error) if !timed_out(&error) => return Err(error),
                Err(_) if began.elapsed() > patience => {
                    return Ok(How::Cut(format!("no answer to datagram {number}")));
                }
                Err(_) => drop(socket.send(said)?),
            }
        }
        *bytes += DATAGRAM as u64;
    }
    Ok(How::Intact)
}

/// A seed for each client of a row.
pub(crate) fn seeds(from: u64) -> impl Iterator<Item = u64> {
    let mut rng = Rng::new(from);
    std::iter::repeat_with(move || rng.next())
}
