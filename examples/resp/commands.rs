//! Which command is which, and what the simple ones do.

use std::time::Instant;

use super::answer::Answer;
use super::numbers::integer;
use super::store::Store;
use super::strings::{self, MILLISECOND, SECOND};

pub(crate) const NOT_INTEGER: &str = "ERR value is not an integer or out of range";

pub(crate) const OK: Answer<'_> = Answer::Status("OK");

/// What `CONFIG GET` knows, and redis-benchmark asks.
const CONFIG: [(&str, &str); 2] = [("save", ""), ("appendonly", "no")];

pub(crate) fn run<'s>(store: &'s mut Store, words: &[&'s [u8]], now: Instant) -> Answer<'s> {
    let Some((name, args)) = words.split_first() else {
        return Answer::Nothing;
    };
    match (&*name.to_ascii_uppercase(), args) {
        (b"PING", []) => Answer::Status("PONG"),
        (b"PING" | b"ECHO", [word]) => Answer::Bulk(word),
        (b"GET", [key]) => match store.get(key, now) {
            Some(entry) => Answer::Bulk(&entry.value),
            None => Answer::Nil,
        },
        (b"SET", [key, value, options @ ..]) => strings::set(store, [key, value], options, now),
        (b"DEL", [_, ..]) => count(args, |key| store.remove(key, now)),
        (b"EXISTS", [_, ..]) => count(args, |key| store.get(key, now).is_some()),
        (b"INCR", [key]) => strings::increment(store, key, now),
        (b"EXPIRE", [key, time]) => strings::expire(store, [key, time], SECOND, now),
        (b"PEXPIRE", [key, time]) => strings::expire(store, [key, time], MILLISECOND, now),
        (b"TTL", [key]) => strings::time_left(store.get(key, now), SECOND, now),
        (b"PTTL", [key]) => strings::time_left(store.get(key, now), MILLISECOND, now),
        (b"PERSIST", [key]) => strings::persist(store, key, now),
        (b"DBSIZE", []) => Answer::Number(store.len() as i64),
        (b"FLUSHALL", _) => {
            store.clear();
            OK
        }
        (b"SELECT", [index]) => match integer(index) {
            Some(0) => OK,
            Some(_) => Answer::error("ERR DB index is out of range"),
            None => Answer::error(NOT_INTEGER),
        },
        (b"CONFIG", [get, names @ ..]) if get.eq_ignore_ascii_case(b"get") => config(names),
        (b"COMMAND", _) => Answer::List(Vec::new()),
        (b"INFO", _) => info(store),
        (b"QUIT", _) => Answer::Last("+OK".to_owned()),
        (
            b"PING" | b"ECHO" | b"GET" | b"SET" | b"DEL" | b"EXISTS" | b"INCR" | b"EXPIRE"
            | b"PEXPIRE" | b"TTL" | b"PTTL" | b"PERSIST" | b"DBSIZE" | b"SELECT" | b"CONFIG",
            _,
        ) => Answer::wrong_number(name),
        _ => Answer::unknown(name, args),
    }
}

fn count<'s>(keys: &[&[u8]], mut holds: impl FnMut(&[u8]) -> bool) -> Answer<'s> {
    Answer::Number(keys.iter().filter(|key| holds(key)).count() as i64)
}

fn config<'s>(names: &[&[u8]]) -> Answer<'s> {
    let asked = |known: &str| {
        names
            .iter()
            .any(|name| *name == b"*" || name.eq_ignore_ascii_case(known.as_bytes()))
    };
    let known = CONFIG.into_iter().filter(|(name, _)| asked(name));
    Answer::List(known.flat_map(|(name, value)| [name, value]).collect())
}

fn info<'s>(store: &Store) -> Answer<'s> {
    let (held, keys) = (store.held, store.len());
    Answer::Text(format!(
        "# Server\r\nredis_version:7.0.0\r\n# Memory\r\nused_memory:{held}\r\n\
         # Keyspace\r\ndb0:keys={keys}\r\n"
    ))
}
