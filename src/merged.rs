//! Datagrams that the kernel has merged: where each of them begins, and how far one has got.
//!
//! Owns the places that such datagrams are received into, and the few sets of places that the
//! loop keeps. Knows neither sockets nor budgets, and not who is given the datagrams (pure).

use crate::config;
use crate::faults::fault;
use crate::kernel::{Arrival, Batch};

/// What one receive call brought, and what of it is still to be handed out.
#[derive(Debug)]
pub(crate) struct Merged {
    batch: Batch,
    /// Places that were filled by the last call.
    filled: usize,
    /// The place that is being handed out, and the bytes of it that were.
    at: usize,
    offset: usize,
}

/// One datagram of them.
#[derive(Debug)]
pub(crate) struct Piece<'a> {
    pub(crate) arrival: &'a Arrival,
    pub(crate) bytes: &'a [u8],
    /// It was longer than it may be; the rest is lost.
    pub(crate) truncated: bool,
}

impl Merged {
    /// Bytes of all places: what a socket that has not handed out everything holds at most.
    pub(crate) fn room(&self) -> usize {
        self.batch.places() * self.batch.size()
    }

    /// For the kernel to fill, once everything is handed out. What it fills is told by
    /// [`filled`](Self::filled).
    pub(crate) fn places(&mut self) -> &mut Batch {
        debug_assert!(self.is_empty(), "datagrams would be lost");
        &mut self.batch
    }

    /// So many places have something in them now. Answers the bytes in them.
    pub(crate) fn filled(&mut self, count: usize) -> usize {
        self.filled = count.min(self.batch.places());
        (self.at, self.offset) = (0, 0);
        (0..self.filled)
            .map(|at| self.batch.arrival(at).0.len)
            .sum()
    }

    /// Whether everything is handed out.
    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.filled
    }

    /// The next datagram, with at most `longest` bytes.
    pub(crate) fn next(&mut self, longest: usize) -> Option<Piece<'_>> {
        if self.is_empty() {
            return None;
        }
        let (at, begin) = (self.at, self.offset);
        let (arrival, bytes) = self.batch.arrival(at);
        let end = match arrival.segment {
            0 => bytes.len(),
            segment => begin.saturating_add(segment).min(bytes.len()),
        };
        let is_last = end == bytes.len();
        (self.at, self.offset) = if is_last { (at + 1, 0) } else { (at, end) };
        let whole = &bytes[begin..end];
        let short = usize::from(fault!(MergedCutShort) && !is_last);
        Some(Piece {
            arrival,
            bytes: &whole[..whole.len().min(longest) - short],
            truncated: whole.len() > longest || is_last && arrival.truncated,
        })
    }

    fn forget(&mut self) {
        (self.filled, self.at, self.offset) = (0, 0, 0);
    }
}

/// Sets of places that nobody uses.
#[derive(Debug, Default)]
pub(crate) struct MergedSpares {
    #[expect(clippy::vec_box, reason = "the box itself is what is recycled")]
    boxes: Vec<Box<Merged>>,
}

impl MergedSpares {
    /// Places for so many datagrams, at most. The loop has the same number in mind each time.
    pub(crate) fn take(&mut self, places: usize) -> Box<Merged> {
        self.boxes.pop().unwrap_or_else(|| {
            let places = places.clamp(1, config::MERGED_PLACES);
            Box::new(Merged {
                batch: Batch::new(places, config::MERGED_LONGEST),
                filled: 0,
                at: 0,
                offset: 0,
            })
        })
    }

    /// Takes one back; what has not been handed out is dropped.
    pub(crate) fn give(&mut self, mut merged: Box<Merged>) {
        if self.boxes.len() < config::MERGED_SPARES {
            merged.forget();
            self.boxes.push(merged);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    /// Places that are filled with these, each with where to cut it.
    fn merged(arrived: &[(&[u8], usize)]) -> Box<Merged> {
        let mut merged = MergedSpares::default().take(arrived.len());
        let size = merged.batch.size();
        let (places, arrivals) = merged.places().parts();
        for (at, (bytes, segment)) in arrived.iter().enumerate() {
            places[at * size..at * size + bytes.len()].copy_from_slice(bytes);
            (arrivals[at].len, arrivals[at].segment) = (bytes.len(), *segment);
            arrivals[at].truncated = false;
        }
        let total = arrived.iter().map(|(bytes, _)| bytes.len()).sum::<usize>();
        assert_eq!(merged.filled(arrived.len()), total);
        merged
    }

    fn all(merged: &mut Merged, longest: usize) -> Vec<(Vec<u8>, bool)> {
        let mut all = Vec::new();
        while let Some(piece) = merged.next(longest) {
            all.push((piece.bytes.to_vec(), piece.truncated));
        }
        assert!(merged.is_empty());
        all
    }

    fn whole(pieces: &[&[u8]]) -> Vec<(Vec<u8>, bool)> {
        pieces.iter().map(|it| (it.to_vec(), false)).collect()
    }

    #[test]
    fn what_was_merged_is_cut_where_it_was_joined() {
        let mut it = merged(&[(b"aabbc", 2), (b"ddee", 2), (b"whole", 0), (b"", 0)]);
        let pieces: [&[u8]; 7] = [b"aa", b"bb", b"c", b"dd", b"ee", b"whole", b""];
        assert_eq!(all(&mut it, 100), whole(&pieces));
    }

    #[test]
    fn a_cut_at_or_behind_the_end_is_none() {
        for segment in [5, 6, usize::MAX] {
            assert_eq!(
                all(&mut merged(&[(b"alone", segment)]), 100),
                whole(&[b"alone"])
            );
        }
        assert_eq!(all(&mut merged(&[(b"", 3)]), 100), whole(&[b""]));
    }

    #[test]
    fn each_datagram_is_cut_off_by_itself() {
        let mut it = merged(&[(b"aaaabbbbc", 4)]);
        let cut = |bytes: &[u8], cut| (bytes.to_vec(), cut);
        let expected = [cut(b"aa", true), cut(b"bb", true), cut(b"c", false)];
        assert_eq!(all(&mut it, 2), expected);
    }

    #[test]
    fn what_is_just_as_long_as_it_may_be_is_whole() {
        let mut it = merged(&[(b"aabb", 2), (b"cc", 0)]);
        assert_eq!(all(&mut it, 2), whole(&[b"aa", b"bb", b"cc"]));
    }

    #[test]
    fn what_the_place_cut_off_is_told_of_the_last_datagram_only() {
        let mut it = merged(&[(b"aabb", 2)]);
        it.batch.parts().1[0].truncated = true;
        let told: Vec<bool> = all(&mut it, 100).into_iter().map(|(_, cut)| cut).collect();
        assert_eq!(told, [false, true]);
    }

    #[test]
    fn spares_are_few_and_come_back_empty() {
        let mut spares = MergedSpares::default();
        let taken: Vec<_> = (0..config::MERGED_SPARES + 3)
            .map(|_| spares.take(100))
            .collect();
        for mut merged in taken {
            assert_eq!(
                merged.room(),
                config::MERGED_PLACES * config::MERGED_LONGEST
            );
            merged.filled(2);
            spares.give(merged);
        }
        assert_eq!(spares.boxes.len(), config::MERGED_SPARES);
        assert!(spares.take(1).is_empty());
    }
}
