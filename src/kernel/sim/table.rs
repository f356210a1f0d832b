//! The descriptor table: numbers, the limit, and the misuse of numbers.
//!
//! Knows what kind of thing a number stands for, never what the thing does.

use std::collections::{BTreeMap, BTreeSet};

use crate::kernel::{Errno, Fd};

/// What an open descriptor is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    /// Index of a listener of the network.
    Listener(usize),
    /// Index of a link of the network.
    Stream(usize),
    /// Index of an end for datagrams.
    Packets(usize),
    Spare,
    /// A descriptor of the real process, which it watches.
    Kept,
}

/// 0, 1 and 2 are the standard streams.
const FIRST_NUMBER: i32 = 3;
const DEFAULT_LIMIT: u64 = 1024;
/// Misuse is kept as text up to here and only counted beyond.
const MAX_VIOLATION_TEXTS: usize = 64;

/// The open descriptors of the simulated process.
#[derive(Debug)]
pub(super) struct Table {
    entries: BTreeMap<i32, Entry>,
    next: i32,
    free: BTreeSet<i32>,
    /// Hands out the lowest free number, as POSIX does. Off, a number is never used twice
    /// and every use of a closed descriptor is seen.
    pub(super) reuse_numbers: bool,
    pub(super) soft_limit: u64,
    pub(super) hard_limit: u64,
    pub(super) opened: u64,
    pub(super) closed: u64,
    violation_count: u64,
    violations: Vec<String>,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            next: FIRST_NUMBER,
            free: BTreeSet::new(),
            reuse_numbers: false,
            soft_limit: DEFAULT_LIMIT,
            hard_limit: DEFAULT_LIMIT,
            opened: 0,
            closed: 0,
            violation_count: 0,
            violations: Vec::new(),
        }
    }

    pub(super) fn open_now(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() as u64 >= self.soft_limit
    }

    pub(super) fn open(&mut self, entry: Entry) -> Result<Fd, Errno> {
        if self.is_full() {
            return Err(Errno(libc::EMFILE));
        }
        Ok(self.take_in(entry))
    }

    /// As [`open`](Self::open), of what is open already: no limit is in its way.
    pub(super) fn take_in(&mut self, entry: Entry) -> Fd {
        let reused = if self.reuse_numbers {
            self.free.pop_first()
        } else {
            None
        };
        let number = reused.unwrap_or(self.next);
        if reused.is_none() {
            self.next += 1;
        }
        self.entries.insert(number, entry);
        self.opened += 1;
        Fd(number)
    }

    /// Takes the descriptor out of the table; `None` (and a violation) if it was not open.
    pub(super) fn close(&mut self, fd: Fd, verb: &str) -> Option<Entry> {
        let entry = self.entries.remove(&fd.0);
        if entry.is_some() {
            self.closed += 1;
            self.free.insert(fd.0);
        } else {
            self.violate(format!("{verb} of {fd:?}, which is not open"));
        }
        entry
    }

    /// What the descriptor is, for the verb that uses it.
    pub(super) fn get(&mut self, fd: Fd, verb: &str) -> Result<Entry, Errno> {
        if let Some(&entry) = self.entries.get(&fd.0) {
            return Ok(entry);
        }
        self.violate(format!("{verb} on {fd:?}, which is not open"));
        Err(Errno(libc::EBADF))
    }

    /// As [`get`](Self::get), where a closed descriptor is no misuse.
    pub(super) fn peek(&self, fd: Fd) -> Option<Entry> {
        self.entries.get(&fd.0).copied()
    }

    pub(super) fn violate(&mut self, text: String) {
        self.violation_count += 1;
        if self.violations.len() < MAX_VIOLATION_TEXTS {
            self.violations.push(text);
        }
    }

    pub(super) fn violations(&self) -> (u64, &[String]) {
        (self.violation_count, &self.violations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_used_again_only_if_asked() {
        for reuse in [false, true] {
            let mut table = Table::new();
            table.reuse_numbers = reuse;
            let first = table.open(Entry::Spare).unwrap();
            table.close(first, "close");
            let second = table.open(Entry::Spare).unwrap();
            assert_eq!(first == second, reuse);
        }
    }

    #[test]
    fn use_after_close_and_double_close_are_violations() {
        let mut table = Table::new();
        let fd = table.open(Entry::Spare).unwrap();
        table.close(fd, "close");
        assert_eq!(table.get(fd, "read"), Err(Errno(libc::EBADF)));
        assert_eq!(table.close(fd, "close"), None);
        assert_eq!(table.violations().0, 2);
        assert_eq!((table.opened, table.closed, table.open_now()), (1, 1, 0));
    }
}
