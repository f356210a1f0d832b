//! What is stored: values, each of which may end at a time, within a limit of bytes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::requests::integer;
use windlass::{Context, TimerId};

/// What an entry costs beside its bytes: its places in both tables, headers of allocations.
const ENTRY: usize = 256;
/// Keys that one turn may bury, so that a million with one end do not hold everybody up.
const SWEEP: usize = 10_000;

pub(crate) type Args<'a> = &'a [&'a [u8]];
/// An error is an answer, too.
pub(crate) type Answer<T> = Result<T, String>;
/// A value, and when it ends.
pub(crate) type Entry = (Arc<[u8]>, Option<Instant>);

#[derive(Default)]
pub(crate) struct Store {
    pub(crate) entries: HashMap<Vec<u8>, Entry>,
    /// The keys that have an end, the first one first. The loop looks when that has come.
    ends: BTreeSet<(Instant, Vec<u8>)>,
    alarm: Option<TimerId>,
    pub(crate) held: usize,
    limit: usize,
}

impl Store {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// An entry whose end has passed is not there, whether or not it was buried already.
    pub(crate) fn get(&self, key: &[u8], now: Instant) -> Option<Entry> {
        let entry = self.entries.get(key).cloned();
        entry.filter(|(_, end)| end.is_none_or(|end| end > now))
    }

    /// Replaces what is under a key. Nothing always fits.
    pub(crate) fn put(&mut self, key: &[u8], new: Option<Entry>) -> Result<(), &'static str> {
        let cost = |(value, _): &Entry| 2 * key.len() + value.len() + ENTRY;
        let others = self.held - self.entries.get(key).map_or(0, cost);
        let held = others + new.as_ref().map_or(0, cost);
        if held > self.limit {
            return Err("OOM command not allowed when used memory > 'maxmemory'.");
        }
        self.held = held;
        if let Some((_, Some(end))) = self.entries.remove(key) {
            self.ends.remove(&(end, key.to_vec()));
        }
        if let Some((value, end)) = new {
            self.ends.extend(end.map(|end| (end, key.to_vec())));
            self.entries.insert(key.to_vec(), (value, end));
        }
        Ok(())
    }

    /// Puts a new value, if the options of `SET` let it.
    pub(crate) fn set(
        &mut self,
        key: &[u8],
        value: &[u8],
        mut options: Args,
        now: Instant,
    ) -> Answer<bool> {
        let (mut end, mut there) = (None, None);
        while let [option, rest @ ..] = options {
            options = rest;
            match (&*option.to_ascii_uppercase(), rest) {
                (b"NX", _) if there.is_none() => there = Some(false),
                (b"XX", _) if there.is_none() => there = Some(true),
                (name @ (b"EX" | b"PX"), [time, rest @ ..]) if end.is_none() => {
                    let unit = if name == b"PX" { 1 } else { 1000 };
                    end = later(time, unit, now)?.filter(|end| *end > now);
                    end.ok_or("ERR invalid expire time in 'set' command")?;
                    options = rest;
                }
                _ => return Err("ERR syntax error".to_owned()),
            }
        }
        let wanted = there.is_none_or(|there| there == self.get(key, now).is_some());
        if wanted {
            self.put(key, Some((value.into(), end)))?;
        }
        Ok(wanted)
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.ends.clear();
        self.held = 0;
    }

    /// Buries what has ended, and sets the one timer for what ends next.
    pub(crate) fn bury(&mut self, cx: &mut Context) {
        let now = cx.now();
        let over = |(end, _): &&(Instant, Vec<u8>)| *end <= now;
        for _ in 0..SWEEP {
            let Some((_, key)) = self.ends.first().filter(over).cloned() else {
                break;
            };
            let _ = self.put(&key, None);
        }
        self.alarm.take().map(|timer| cx.cancel_timer(timer));
        self.alarm = self.ends.first().map(|(end, _)| cx.set_timer(*end));
    }
}

/// `None` if there is no such time. Units are in milliseconds.
pub(crate) fn later(time: &[u8], unit: i64, now: Instant) -> Answer<Option<Instant>> {
    let milliseconds = integer(time)?.max(0).checked_mul(unit);
    Ok(milliseconds.and_then(|ms| now.checked_add(Duration::from_millis(ms as u64))))
}
