//! What Redis speaks: PING, SET and GET in turn, by the same parser and on the same kind of
//! map in every server. Tasks and threads share one map behind a lock, as they would.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use super::echo::{EVERYBODY, SMALL_BUFFER};
use super::exchange::{Clients, Script};
use super::protocol::{self, Locked, Protocol};
use super::workload::{Kind, Load, Workload, listen};

const CONNECTIONS: usize = 50;
/// Requests, and what is answered.
const SCRIPT: [(&str, &str); 3] = [
    ("*1\r\n$4\r\nPING\r\n", "+PONG\r\n"),
    (
        "*3\r\n$3\r\nSET\r\n$8\r\nship:001\r\n$16\r\nhoist and heave!\r\n",
        "+OK\r\n",
    ),
    (
        "*2\r\n$3\r\nGET\r\n$8\r\nship:001\r\n",
        "$16\r\nhoist and heave!\r\n",
    ),
];
const MOST_WORDS: usize = 3;

pub(crate) fn family() -> Vec<Box<dyn Workload>> {
    let redis = |name, depth| -> Box<dyn Workload> { Box::new(Redis { name, depth }) };
    vec![redis("resp-50", 1), redis("resp-50-deep16", 16)]
}

struct Redis {
    name: &'static str,
    /// Commands in flight on each connection.
    depth: usize,
}

impl Workload for Redis {
    fn name(&self) -> &str {
        self.name
    }

    fn says(&self) -> String {
        let depth = self.depth;
        format!("{CONNECTIONS} connections, {depth} of PING, SET and GET in flight on each")
    }

    fn servers(&self) -> &[Kind] {
        EVERYBODY
    }

    fn serve(&self, kind: Kind, at: SocketAddr) -> io::Result<()> {
        let (listener, store) = (listen(at)?, Store::default());
        match kind {
            Kind::Tokio | Kind::Threads => {
                protocol::serve(kind, listener, Locked::new(store), SMALL_BUFFER)
            }
            _ => protocol::serve(kind, listener, store, SMALL_BUFFER),
        }
    }

    fn load(&self, at: SocketAddr) -> io::Result<Box<dyn Load>> {
        let bytes = SCRIPT.map(|(request, answer)| (request.into(), answer.into()));
        let script = Script::in_turn(&bytes, self.depth);
        Ok(Box::new(Clients::connect(script, at, CONNECTIONS)?))
    }
}

#[derive(Clone, Default)]
struct Store(HashMap<Vec<u8>, Vec<u8>>);

impl Protocol for Store {
    fn answer(&mut self, input: &[u8], mut out: impl FnMut(&[u8])) -> Option<usize> {
        let (words, length) = command(input)?;
        match words {
            [b"PING", ..] => out(b"+PONG\r\n"),
            [b"SET", key, value] => {
                self.set(key, value);
                out(b"+OK\r\n");
            }
            [b"GET", key, _] => match self.0.get(key) {
                Some(value) => bulk(value, out),
                None => out(b"$-1\r\n"),
            },
            _ => out(b"-ERR unknown command\r\n"),
        }
        Some(length)
    }
}

impl Store {
    fn set(&mut self, key: &[u8], value: &[u8]) {
        match self.0.get_mut(key) {
            Some(old) => {
                old.clear();
                old.extend_from_slice(value);
            }
            None => {
                self.0.insert(key.to_vec(), value.to_vec());
            }
        }
    }
}

fn bulk(value: &[u8], mut out: impl FnMut(&[u8])) {
    let mut head = [0; 24];
    let room = head.len();
    let mut left = &mut head[..];
    // A length has no more digits than there is room for.
    let _ = io::Write::write_fmt(&mut left, format_args!("${}\r\n", value.len()));
    let unused = left.len();
    out(&head[..room - unused]);
    out(value);
    out(b"\r\n");
}

/// The words of the first command, those that it has not being empty, and its length.
fn command(input: &[u8]) -> Option<([&[u8]; MOST_WORDS], usize)> {
    let mut rest = input;
    let count = number(&mut rest, b'*')?;
    let mut words: [&[u8]; MOST_WORDS] = [&[]; MOST_WORDS];
    for word in words.get_mut(..count)? {
        let length = number(&mut rest, b'$')?;
        (*word, rest) = rest.split_at_checked(length)?;
        rest = rest.strip_prefix(b"\r\n")?;
    }
    Some((words, input.len() - rest.len()))
}

/// A line of that sign and a number.
fn number(rest: &mut &[u8], sign: u8) -> Option<usize> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let line = rest[..end].strip_suffix(b"\r")?;
    let (first, digits) = line.split_first()?;
    *rest = &rest[end + 1..];
    let digit = |sum: usize, byte: &u8| Some(sum * 10 + usize::from(byte.wrapping_sub(b'0')));
    let number = digits.iter().try_fold(0, digit)?;
    (*first == sign).then_some(number)
}
