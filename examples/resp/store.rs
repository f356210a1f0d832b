//! What is stored: values, each of which may end at a time, within a limit of bytes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use windlass::{Context, TimerId};

/// What an entry costs beside its bytes: its places in both tables, headers of allocations.
const ENTRY: usize = 256;
/// Keys that one turn may bury, so that a million with one end do not hold everybody up.
const SWEEP: usize = 10_000;

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

    pub(crate) fn info(&self) -> String {
        let (held, keys) = (self.held, self.entries.len());
        format!("used_memory:{held}\r\ndb0:keys={keys}\r\n")
    }

    /// Buries what has ended, and sets the one timer for what ends next.
    pub(crate) fn bury(&mut self, cx: &mut Context) {
        let now = cx.now();
        let over = |(end, _): &&(Instant, Vec<u8>)| *end <= now;
        for _ in 0..SWEEP {
            match self.ends.first().filter(over).cloned() {
                Some((_, key)) => self.put(&key, None).unwrap_or_default(),
                None => break,
            }
        }
        self.alarm.take().map(|timer| cx.cancel_timer(timer));
        self.alarm = self.ends.first().map(|(end, _)| cx.set_timer(*end));
    }
}
