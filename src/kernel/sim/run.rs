//! Bytes in a row, with the bounds of records where these are kept.
//!
//! Of a stream any part may move on; of records only whole ones do.

use std::collections::VecDeque;

use crate::kernel::Message;

/// What waits somewhere on its way.
#[derive(Debug, Default)]
pub(super) struct Run {
    bytes: VecDeque<u8>,
    /// The length of each record, the oldest first; `None` for a stream.
    records: Option<VecDeque<usize>>,
}

/// How much moved from one run to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Moved {
    pub(super) bytes: usize,
    /// An empty record is one, too.
    pub(super) records: usize,
}

impl Run {
    pub(super) fn of_records() -> Self {
        Self {
            records: Some(VecDeque::new()),
            ..Self::default()
        }
    }

    pub(super) fn keeps_bounds(&self) -> bool {
        self.records.is_some()
    }

    /// How many bytes there are.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing, not even an empty record.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.records.as_ref().is_none_or(VecDeque::is_empty)
    }

    /// Whether an empty record is next.
    pub(super) fn empty_record_is_next(&self) -> bool {
        self.next_record() == Some(0)
    }

    /// Adds bytes; as one record, where bounds are kept.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        if let Some(records) = &mut self.records {
            records.push_back(bytes.len());
        }
    }

    /// Moves at most `room` bytes to the end of `to`, or as many records as begin in it.
    pub(super) fn move_to(&mut self, to: &mut Self, room: usize) -> Moved {
        let mut moved = Moved::default();
        if self.records.is_none() {
            moved.bytes = room.min(self.bytes.len());
            to.bytes.extend(self.bytes.drain(..moved.bytes));
            return moved;
        }
        while let Some(len) = self.next_record()
            && (moved.bytes < room || len == 0)
        {
            to.push(&self.next(len));
            moved.bytes += len;
            moved.records += 1;
        }
        moved
    }

    /// Takes what fits into `buffer`; of one record, and the rest of it is lost.
    pub(super) fn take(&mut self, buffer: &mut [u8]) -> Message {
        let len = self.next_record().unwrap_or(self.bytes.len());
        let count = len.min(buffer.len());
        let truncated = self.keeps_bounds() && len > count;
        let taken = if truncated { len } else { count };
        if self.keeps_bounds() || taken > 0 {
            let bytes = self.next(taken);
            buffer[..count].copy_from_slice(&bytes[..count]);
        }
        Message {
            len: count,
            truncated,
        }
    }

    /// Takes everything, without its bounds.
    pub(super) fn take_all(&mut self) -> Vec<u8> {
        if let Some(records) = &mut self.records {
            records.clear();
        }
        std::mem::take(&mut self.bytes).into()
    }

    /// Takes everything, record by record; a stream is one.
    pub(super) fn take_records(&mut self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while !self.is_empty() {
            let len = self.next_record().unwrap_or(self.bytes.len());
            all.push(self.next(len));
        }
        all
    }

    pub(super) fn clear(&mut self) {
        self.take_all();
    }

    fn next_record(&self) -> Option<usize> {
        self.records.as_ref()?.front().copied()
    }

    /// Takes the next `len` bytes: the next record, where bounds are kept.
    fn next(&mut self, len: usize) -> Vec<u8> {
        if let Some(records) = &mut self.records {
            records.pop_front();
        }
        self.bytes.drain(..len).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_of_a_stream_moves_and_only_whole_records_do() {
        let mut stream = Run::default();
        stream.push(b"abc");
        stream.push(b"de");
        let mut to = Run::default();
        let moved = stream.move_to(&mut to, 4);
        assert_eq!((moved.bytes, to.take_all()), (4, b"abcd".to_vec()));

        let (mut records, mut to) = (Run::of_records(), Run::of_records());
        for record in [&b"abc"[..], b"", b"de", b"f"] {
            records.push(record);
        }
        let moved = records.move_to(&mut to, 4);
        assert_eq!((moved.bytes, moved.records), (5, 3));
        assert_eq!(records.move_to(&mut to, 0), Moved::default());
        assert_eq!(to.take_records(), [&b"abc"[..], b"", b"de"]);
        assert_eq!(records.take_all(), b"f");
    }

    #[test]
    fn what_does_not_fit_of_a_record_is_lost() {
        let mut records = Run::of_records();
        for record in [&b"abc"[..], b"", b"de"] {
            records.push(record);
        }
        let mut buffer = [0; 2];
        let mut take = || {
            let message = records.take(&mut buffer);
            (message.len, message.truncated)
        };
        assert_eq!(
            [take(), take(), take()],
            [(2, true), (0, false), (2, false)]
        );
        assert_eq!(&buffer, b"de");
        assert!(records.is_empty());
    }
}
