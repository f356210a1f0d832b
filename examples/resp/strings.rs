//! The commands with rules of their own: conditions, numbers, times.

use std::time::{Duration, Instant};

use super::answer::Answer;
use super::commands::{NOT_INTEGER, OK};
use super::numbers::integer;
use super::store::{Entry, Full, Store};

/// Units of time, in milliseconds.
pub(crate) const MILLISECOND: u64 = 1;
pub(crate) const SECOND: u64 = 1000;

const OUT_OF_MEMORY: &str = "OOM command not allowed when used memory > 'maxmemory'.";

/// What may stand behind `SET key value`.
#[derive(Default)]
struct Options {
    end: Option<Instant>,
    /// Whether the key must be there already, or must not.
    there: Option<bool>,
}

pub(crate) fn set<'s>(
    store: &mut Store,
    [key, value]: [&[u8]; 2],
    options: &[&[u8]],
    now: Instant,
) -> Answer<'s> {
    let Options { end, there } = match Options::parse(options, now) {
        Ok(options) => options,
        Err(why) => return Answer::error(why),
    };
    if there.is_some_and(|there| there != store.get(key, now).is_some()) {
        return Answer::Nil;
    }
    match store.set(key, value, end) {
        Ok(()) => OK,
        Err(Full) => Answer::error(OUT_OF_MEMORY),
    }
}

impl Options {
    fn parse(words: &[&[u8]], now: Instant) -> Result<Self, &'static str> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let unit = match &*word.to_ascii_uppercase() {
                b"NX" | b"XX" if options.there.is_none() => {
                    options.there = Some(word.eq_ignore_ascii_case(b"xx"));
                    continue;
                }
                b"EX" if options.end.is_none() => SECOND,
                b"PX" if options.end.is_none() => MILLISECOND,
                _ => return Err("ERR syntax error"),
            };
            let number = integer(words.next().ok_or("ERR syntax error")?).ok_or(NOT_INTEGER)?;
            let end = later(now, number, unit).filter(|end| *end > now);
            options.end = Some(end.ok_or("ERR invalid expire time in 'set' command")?);
        }
        Ok(options)
    }
}

pub(crate) fn increment<'s>(store: &mut Store, key: &[u8], now: Instant) -> Answer<'s> {
    let old = store.get(key, now);
    let end = old.and_then(|entry| entry.end);
    let Some(number) = old.map_or(Some(0), |entry| integer(&entry.value)) else {
        return Answer::error(NOT_INTEGER);
    };
    let Some(next) = number.checked_add(1) else {
        return Answer::error("ERR increment or decrement would overflow");
    };
    match store.set(key, next.to_string().as_bytes(), end) {
        Ok(()) => Answer::Number(next),
        Err(Full) => Answer::error(OUT_OF_MEMORY),
    }
}

/// A time that has passed is one, too: the key is gone at once.
pub(crate) fn expire<'s>(
    store: &mut Store,
    [key, time]: [&[u8]; 2],
    unit: u64,
    now: Instant,
) -> Answer<'s> {
    let Some(number) = integer(time) else {
        return Answer::error(NOT_INTEGER);
    };
    let Some(end) = later(now, number, unit) else {
        return Answer::error("ERR invalid expire time in 'expire' command");
    };
    let there = store.get(key, now).is_some();
    store.set_end(key, Some(end));
    Answer::Number(there.into())
}

pub(crate) fn persist<'s>(store: &mut Store, key: &[u8], now: Instant) -> Answer<'s> {
    let had_end = store.get(key, now).is_some_and(|entry| entry.end.is_some());
    store.set_end(key, None);
    Answer::Number(had_end.into())
}

pub(crate) fn time_left<'s>(entry: Option<&Entry>, unit: u64, now: Instant) -> Answer<'s> {
    Answer::Number(match entry.map(|entry| entry.end) {
        None => -2,
        Some(None) => -1,
        Some(Some(end)) => ((end - now).as_millis() as u64 + unit / 2).div_euclid(unit) as i64,
    })
}

fn later(now: Instant, number: i64, unit: u64) -> Option<Instant> {
    let milliseconds = (number.max(0) as u64).checked_mul(unit)?;
    now.checked_add(Duration::from_millis(milliseconds))
}
