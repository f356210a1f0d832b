//! What is stored: values, each of which may end at a time, within a limit of bytes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

/// What an entry costs beside its bytes: its places in both tables, headers of allocations.
const ENTRY: usize = 256;

/// There is no room for this.
pub(crate) struct Full;

pub(crate) struct Store {
    entries: HashMap<Arc<[u8]>, Entry>,
    /// The keys that have an end, the first one first.
    ends: BTreeSet<(Instant, Arc<[u8]>)>,
    pub(crate) held: usize,
    limit: usize,
}

pub(crate) struct Entry {
    pub(crate) value: Box<[u8]>,
    pub(crate) end: Option<Instant>,
}

impl Store {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            entries: HashMap::new(),
            ends: BTreeSet::new(),
            held: 0,
            limit,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.limit);
    }

    /// An entry whose end has passed is not there, whether or not it was buried already.
    pub(crate) fn get(&mut self, key: &[u8], now: Instant) -> Option<&Entry> {
        let end = self.entries.get(key)?.end;
        if end.is_some_and(|end| end <= now) {
            self.bury(key);
        }
        self.entries.get(key)
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, key: &[u8], now: Instant) -> bool {
        let there = self.get(key, now).is_some();
        self.bury(key);
        there
    }

    pub(crate) fn set(
        &mut self,
        key: &[u8],
        value: &[u8],
        end: Option<Instant>,
    ) -> Result<(), Full> {
        let old = self.entries.get(key).map_or(0, |old| cost(key, &old.value));
        if self.held - old + cost(key, value) > self.limit {
            return Err(Full);
        }
        self.bury(key);
        self.held += cost(key, value);
        let key: Arc<[u8]> = key.into();
        self.ends.extend(end.map(|end| (end, Arc::clone(&key))));
        let value = value.into();
        self.entries.insert(key, Entry { value, end });
        Ok(())
    }

    /// Another end, or none, for a key that may be there.
    pub(crate) fn set_end(&mut self, key: &[u8], end: Option<Instant>) {
        let Some((key, mut entry)) = self.entries.remove_entry(key) else {
            return;
        };
        if let Some(old) = entry.end {
            self.ends.remove(&(old, Arc::clone(&key)));
        }
        self.ends.extend(end.map(|end| (end, Arc::clone(&key))));
        entry.end = end;
        self.entries.insert(key, entry);
    }

    fn bury(&mut self, key: &[u8]) {
        if let Some((key, entry)) = self.entries.remove_entry(key) {
            self.held -= cost(&key, &entry.value);
            if let Some(end) = entry.end {
                self.ends.remove(&(end, key));
            }
        }
    }

    pub(crate) fn next_end(&self) -> Option<Instant> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// Buries at most that many whose end has passed.
    pub(crate) fn sweep(&mut self, now: Instant, most: usize) {
        for _ in 0..most {
            match self.ends.first().cloned() {
                Some((end, key)) if end <= now => self.bury(&key),
                _ => return,
            }
        }
    }
}

fn cost(key: &[u8], value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY
}
