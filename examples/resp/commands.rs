//! What each command does, and what it is answered.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::store::Store;
use super::wire::bulk;
use windlass::{Conn, Flow};

/// Of what a client sent, that much is repeated in an error.
const QUOTED: usize = 64;

/// Does what a request says. An error is an answer, too.
pub(crate) fn run(store: &mut Store, conn: &mut Conn, words: &[&[u8]]) -> Result<Flow, String> {
    let Some((name, args)) = words.split_first() else {
        return Ok(conn.flow()); // an empty line
    };
    let now = conn.now();
    Ok(match (&*name.to_ascii_uppercase(), args) {
        (b"PING", []) => write!(conn, "+PONG\r\n"),
        (b"PING" | b"ECHO", [word]) => bulk(conn, word),
        (b"GET", [key]) => match store.get(key, now) {
            Some((value, _)) => bulk(conn, &value),
            None => write!(conn, "$-1\r\n"),
        },
        (b"SET", [key, value]) => {
            store.put(key, Some(((*value).into(), None)))?;
            write!(conn, "+OK\r\n")
        }
        (b"DEL", [_, ..]) => {
            let keys = args.iter().filter(|key| store.get(key, now).is_some());
            let keys: HashSet<_> = keys.collect();
            keys.iter().try_for_each(|key| store.put(key, None))?;
            write!(conn, ":{}\r\n", keys.len())
        }
        (b"INCR", [key]) => write!(conn, ":{}\r\n", increment(store, key, now)?),
        (b"EXPIRE", [key, seconds]) => {
            let entry = store.get(key, now);
            let found = u8::from(entry.is_some());
            let end = later(integer(seconds)?, now)?;
            store.put(key, entry.map(|(value, _)| (value, Some(end))))?;
            write!(conn, ":{found}\r\n")
        }
        // What the tools of Redis ask for by themselves.
        (b"COMMAND", _) => write!(conn, "*0\r\n"),
        (b"CONFIG", [get, name]) if get.eq_ignore_ascii_case(b"GET") => {
            write!(conn, "*2\r\n");
            bulk(conn, name);
            bulk(conn, b"")
        }
        (b"INFO", _) => bulk(conn, store.info().as_bytes()),
        _ => {
            let name = name[..name.len().min(QUOTED)].escape_ascii();
            let why = "ERR unknown command, or wrong number of arguments, for";
            return Err(format!("{why} '{name}'"));
        }
    })
}

/// The new number. It ends when the old one would have.
fn increment(store: &mut Store, key: &[u8], now: Instant) -> Result<i64, String> {
    let old = store.get(key, now);
    let (value, end) = old.unwrap_or_else(|| (b"0"[..].into(), None));
    let next = integer(&value)?.checked_add(1);
    let next = next.ok_or("ERR increment or decrement would overflow")?;
    store.put(key, Some((next.to_string().as_bytes().into(), end)))?;
    Ok(next)
}

fn integer(text: &[u8]) -> Result<i64, String> {
    let number = str::from_utf8(text).ok().and_then(|it| it.parse().ok());
    Ok(number.ok_or("ERR value is not an integer or out of range")?)
}

/// What is to end in the past ends now.
fn later(seconds: i64, now: Instant) -> Result<Instant, String> {
    let wait = Duration::from_secs(seconds.max(0).unsigned_abs());
    Ok(now.checked_add(wait).ok_or("ERR invalid expire time")?)
}
