//! What the servers speak: what is asked, and what the answer must be.

use std::io::{self, BufRead, ErrorKind};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::util::{Rng, pattern};

/// Most of a request, in bytes; few are so long.
const LONGEST: usize = 20_000;
/// A header that every server takes.
const LONGEST_HEADER: usize = 500;
/// Whoever leaves before it is removed leaves it to the next.
const LOST_KEY: u64 = 0;
/// Between two looks at the clock.
const SECONDS_APART: u64 = 120;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Protocol {
    /// Everything comes back.
    Echo,
    /// A line that begins so, and then everything comes back.
    Greeted(&'static str),
    /// `ok` for each line.
    Ok,
    Http,
    Resp,
    /// The seconds for `timestamp`; the end after half a second of silence.
    Time,
    /// `pong` for `ping`.
    Ping,
    /// A line, and the end.
    Daytime,
    /// Nothing, until 300 ms of silence have passed; then a last word.
    Idle,
    /// What the others say.
    Chat,
    /// Datagrams that are answered with the date.
    Date,
    /// Datagrams that come back.
    Datagrams,
    /// What no client speaks: whoever comes does wrong.
    Foreign,
}

/// One request.
pub(crate) struct Ask {
    pub(crate) bytes: Vec<u8>,
    answer: Answer,
}

enum Answer {
    Same,
    Text(Vec<u8>),
    /// A head, and this as its body.
    Page(Vec<u8>),
    Seconds,
    None,
}

impl Protocol {
    /// How what comes before anything was asked begins, if something does.
    pub(crate) fn greeting(self) -> Option<&'static str> {
        match self {
            Self::Greeted(beginning) => Some(beginning),
            Self::Chat => Some("Welcome, "),
            _ => None,
        }
    }

    pub(crate) fn is_datagrams(self) -> bool {
        matches!(self, Self::Date | Self::Datagrams)
    }

    /// What somebody asks who may leave in the middle of it: of that nothing may stay.
    pub(crate) fn ask_in_vain(self, rng: &mut Rng) -> Vec<u8> {
        match self {
            Self::Resp => stored(rng, LOST_KEY).bytes,
            _ => self.ask(rng).bytes,
        }
    }

    pub(crate) fn ask(self, rng: &mut Rng) -> Ask {
        let text = |bytes: &[u8], answer: &[u8]| Ask {
            bytes: bytes.to_vec(),
            answer: Answer::Text(answer.to_vec()),
        };
        match self {
            Self::Ok => text(format!("{:x}\n", rng.next()).as_bytes(), b"ok\n"),
            Self::Http => headers(rng),
            Self::Resp => {
                let key = rng.next();
                stored(rng, key)
            }
            Self::Time => Ask {
                bytes: b"timestamp\n".to_vec(),
                answer: Answer::Seconds,
            },
            Self::Ping => text(b"ping\n", b"pong\n"),
            Self::Idle => Ask {
                bytes: vec![b'x'],
                answer: Answer::None,
            },
            _ => Ask {
                bytes: some_bytes(rng, LONGEST),
                answer: Answer::Same,
            },
        }
    }
}

/// Mostly few.
fn some_bytes(rng: &mut Rng, most: usize) -> Vec<u8> {
    let most = if rng.one_in(8) { most } else { most / 50 };
    pattern(rng.range(1, most), rng.next())
}

/// A page that repeats what it was asked with.
fn headers(rng: &mut Rng) -> Ask {
    let bytes = some_bytes(rng, LONGEST_HEADER);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ask {
        bytes: format!("GET /headers HTTP/1.1\r\nHost: a\r\nX-Seed: {hex}\r\n\r\n").into_bytes(),
        answer: Answer::Page(format!("Host:a\nX-Seed:{hex}\n").into_bytes()),
    }
}

/// Writes, reads and removes a key, which must be nobody else's.
fn stored(rng: &mut Rng, key: u64) -> Ask {
    let key = format!("{key:016x}");
    let value: String = some_bytes(rng, LONGEST / 2)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let ask = format!("SET {key} {value}\r\nGET {key}\r\nDEL {key}\r\n");
    let answer = format!("+OK\r\n${}\r\n{value}\r\n:1\r\n", value.len());
    Ask {
        bytes: ask.into_bytes(),
        answer: Answer::Text(answer.into_bytes()),
    }
}

impl Ask {
    /// Reads the answer, and answers how many bytes it had. `InvalidData` if it is another.
    pub(crate) fn hear(&self, from: &mut impl BufRead) -> io::Result<u64> {
        match &self.answer {
            Answer::None => Ok(0),
            Answer::Same => same(from, &self.bytes),
            Answer::Text(text) => same(from, text),
            Answer::Page(body) => loop {
                if line(from)?.trim_end().is_empty() {
                    return same(from, body);
                }
            },
            Answer::Seconds => {
                let line = line(from)?;
                let told: u64 = line.trim_end().parse().map_err(|_| wrong(&line))?;
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                let now = now.map_or(0, |it| it.as_secs());
                let right = told.abs_diff(now) < SECONDS_APART;
                right
                    .then_some(line.len() as u64)
                    .ok_or_else(|| wrong(&line))
            }
        }
    }
}

fn same(from: &mut impl BufRead, wanted: &[u8]) -> io::Result<u64> {
    let mut heard = vec![0; wanted.len()];
    from.read_exact(&mut heard)?;
    if heard == wanted {
        return Ok(wanted.len() as u64);
    }
    let at = heard.iter().zip(wanted).take_while(|(a, b)| a == b).count();
    let what = format!("of {} bytes that of number {at} is wrong", wanted.len());
    Err(io::Error::new(ErrorKind::InvalidData, what))
}

/// The next line. An end before it is an error.
pub(crate) fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    if line.ends_with('\n') {
        return Ok(line);
    }
    Err(ErrorKind::UnexpectedEof.into())
}

pub(crate) fn wrong(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("wrong: {what:?}"))
}

/// Something to say in the room that whoever hears it can check.
pub(crate) fn remark(rng: &mut Rng) -> String {
    let text = format!("{:x}", rng.next());
    format!("Tom says: {text} #{:016x}\n", sum(text.as_bytes()))
}

/// Whether what was said in the room is as it was said, if it can be checked at all.
pub(crate) fn is_as_said(line: &str) -> bool {
    let said = line.trim_end().strip_prefix("Tom says: ");
    let Some((text, check)) = said.and_then(|said| said.rsplit_once(" #")) else {
        return line.contains(" says: ");
    };
    check == format!("{:016x}", sum(text.as_bytes()))
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(7, |sum: u64, byte| {
        sum.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte)
    })
}
