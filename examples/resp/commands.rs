//! What each command does, and what it is answered.

use std::time::Instant;

use super::store::Store;
use super::wire::{bulk, integer, later, refusal, unit};
use windlass::{Conn, Flow};

type Args<'a> = &'a [&'a [u8]];
/// An error is an answer, too.
type Answer<T> = Result<T, String>;

/// Does what a request says.
pub(crate) fn run(store: &mut Store, conn: &mut Conn, words: Args) -> Answer<Flow> {
    let Some((sent, args)) = words.split_first() else {
        return Ok(conn.flow());
    };
    let (name, now) = (&*sent.to_ascii_uppercase(), conn.now());
    Ok(match (name, args) {
        (b"PING", []) => write!(conn, "+PONG\r\n"),
        (b"PING" | b"ECHO", [word]) => bulk(conn, word),
        (b"GET", [key]) => match store.get(key, now) {
            Some((value, _)) => bulk(conn, &value),
            None => write!(conn, "$-1\r\n"),
        },
        (b"SET", [key, value, options @ ..]) => {
            let (end, there) = set_options(options, now)?;
            if there.is_some_and(|there| there != store.get(key, now).is_some()) {
                return Ok(write!(conn, "$-1\r\n"));
            }
            store.put(key, Some(((*value).into(), end)))?;
            write!(conn, "+OK\r\n")
        }
        (b"FLUSHALL", _) => {
            store.entries.clear();
            store.ends.clear();
            store.held = 0;
            write!(conn, "+OK\r\n")
        }
        (b"SELECT", [index]) if integer(index)? != 0 => Err("ERR DB index is out of range")?,
        (b"SELECT", [_]) => write!(conn, "+OK\r\n"),
        (b"CONFIG", [_, b"save"]) => write!(conn, "*2\r\n$4\r\nsave\r\n$0\r\n\r\n"),
        (b"CONFIG", [_, b"appendonly"]) => {
            write!(conn, "*2\r\n$10\r\nappendonly\r\n$2\r\nno\r\n")
        }
        (b"CONFIG", [_, _]) | (b"COMMAND", _) => write!(conn, "*0\r\n"),
        (b"INFO", _) => bulk(conn, format!("used_memory:{}\r\n", store.held).as_bytes()),
        (b"QUIT", _) => {
            write!(conn, "+OK\r\n");
            conn.close();
            Flow::Closed
        }
        _ => match number(store, name, args, now)? {
            Some(number) => write!(conn, ":{number}\r\n"),
            None => return Err(refusal(sent, args)),
        },
    })
}

/// The commands that are answered with a number.
fn number(store: &mut Store, name: &[u8], args: Args, now: Instant) -> Answer<Option<i64>> {
    let unit = unit(name);
    Ok(Some(match (name, args) {
        (b"DBSIZE", []) => store.entries.len() as i64,
        (b"EXISTS", [_, ..]) => count(args, |key| store.get(key, now).is_some()),
        (b"DEL", [_, ..]) => count(args, |key| {
            store.get(key, now).is_some() && store.put(key, None).is_ok()
        }),
        (b"INCR", [key]) => {
            let old = store.get(key, now);
            let (value, end) = old.unwrap_or_else(|| (b"0"[..].into(), None));
            let next = integer(&value)?.checked_add(1);
            let next = next.ok_or("ERR increment or decrement would overflow")?;
            store.put(key, Some((next.to_string().as_bytes().into(), end)))?;
            next
        }
        (b"EXPIRE" | b"PEXPIRE", [key, time]) => {
            let end = later(time, unit, now)?;
            let end = end.ok_or("ERR invalid expire time in 'expire' command")?;
            let entry = store.get(key, now).map(|(value, _)| (value, Some(end)));
            let there = entry.is_some();
            store.put(key, entry)?;
            there.into()
        }
        (b"PERSIST", [key]) => match store.get(key, now) {
            Some((value, Some(_))) => store.put(key, Some((value, None))).map(|()| 1)?,
            _ => 0,
        },
        (b"TTL" | b"PTTL", [key]) => match store.get(key, now) {
            None => -2,
            Some((_, None)) => -1,
            Some((_, Some(end))) => ((end - now).as_millis() as i64 + unit / 2) / unit,
        },
        _ => return Ok(None),
    }))
}

fn count(keys: Args, mut holds: impl FnMut(&[u8]) -> bool) -> i64 {
    keys.iter().filter(|key| holds(key)).count() as i64
}

/// When `SET` wants the key to end, and whether it has to be there already, or must not.
fn set_options(mut words: Args, now: Instant) -> Answer<(Option<Instant>, Option<bool>)> {
    let (mut end, mut there) = (None, None);
    while let [option, rest @ ..] = words {
        words = rest;
        match (&*option.to_ascii_uppercase(), rest) {
            (b"NX", _) if there.is_none() => there = Some(false),
            (b"XX", _) if there.is_none() => there = Some(true),
            (name @ (b"EX" | b"PX"), [time, rest @ ..]) if end.is_none() => {
                end = later(time, unit(name), now)?.filter(|end| *end > now);
                end.ok_or("ERR invalid expire time in 'set' command")?;
                words = rest;
            }
            _ => return Err("ERR syntax error".to_owned()),
        }
    }
    Ok((end, there))
}
