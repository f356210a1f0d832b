//! The lists of the wheel: entries in the order in which they were filed, by the numbers of
//! their nodes, a chunk of them in adjacent memory.
//!
//! Owns the chunks, which all lists share and which are used again. Never knows time, nor what
//! a node is. A number stays at its spot until its list is gone through; one that is struck
//! out leaves its spot empty.

use super::{NEVER, Nanos};

/// Ends a chain of chunks.
const NIL: u32 = u32::MAX;

/// An empty spot. No node has this number: tokens have 28 bits of index in each of three
/// kinds, so the loop runs out of names long before the wheel runs out of nodes.
const STRUCK: u32 = u32::MAX;

/// With these a chunk is four cache lines. Fewer would be more chunks to go through, and more
/// is memory that a list with one entry does not use.
pub(super) const SPOTS: usize = 62;

/// Bits of a spot that say where in its chunk it is.
const SPOT_BITS: u32 = 6;

const _: () = assert!(SPOTS <= 1 << SPOT_BITS);
const _: () = assert!(size_of::<Chunk>() == 256);

/// Where a number stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Spot(u32);

impl Spot {
    fn new(chunk: u32, at: u16) -> Self {
        debug_assert!(chunk < 1 << (u32::BITS - SPOT_BITS));
        Self(chunk << SPOT_BITS | u32::from(at))
    }

    fn chunk(self) -> usize {
        (self.0 >> SPOT_BITS) as usize
    }

    fn at(self) -> usize {
        (self.0 & ((1 << SPOT_BITS) - 1)) as usize
    }
}

/// Where a list begins and ends, and what is in it.
#[derive(Clone, Copy)]
pub(super) struct List {
    head: u32,
    tail: u32,
    /// Numbers in it, and spots that were struck out. Whoever takes one out counts both.
    pub(super) live: u32,
    pub(super) struck: u32,
    /// No entry of the list is earlier. Not raised when the earliest one leaves: finding the
    /// second earliest would mean walking the list.
    pub(super) earliest: Nanos,
}

impl List {
    pub(super) const EMPTY: Self = Self {
        head: NIL,
        tail: NIL,
        live: 0,
        struck: 0,
        earliest: NEVER,
    };

    pub(super) fn is_empty(&self) -> bool {
        self.live == 0
    }
}

/// Numbers that stand together.
#[derive(Clone, Copy)]
pub(super) struct Chunk {
    next: u32,
    /// Those before it were popped.
    begin: u16,
    end: u16,
    numbers: [u32; SPOTS],
}

impl Chunk {
    const EMPTY: Self = Self {
        next: NIL,
        begin: 0,
        end: 0,
        numbers: [STRUCK; SPOTS],
    };

    fn in_use(&self) -> &[u32] {
        let in_use = usize::from(self.begin)..usize::from(self.end);
        self.numbers.get(in_use).unwrap_or_default()
    }

    /// Those that were not struck out, gathered there.
    pub(super) fn numbers<'a>(&self, gathered: &'a mut [u32; SPOTS]) -> &'a [u32] {
        let mut count = 0;
        // Without a branch for each: which were struck out follows no pattern.
        for &number in self.in_use() {
            gathered[count] = number;
            count += usize::from(number != STRUCK);
        }
        &gathered[..count]
    }
}

/// The chunks of all lists, and those of none.
pub(super) struct Chunks {
    chunks: Vec<Chunk>,
    /// The first of those that no list has.
    free: u32,
}

impl Chunks {
    /// Room from the start for so many numbers.
    pub(super) fn with_room(numbers: usize) -> Self {
        Self {
            chunks: Vec::with_capacity(numbers.div_ceil(SPOTS)),
            free: NIL,
        }
    }

    /// Appends a number.
    #[inline]
    pub(super) fn push(&mut self, list: &mut List, number: u32) -> Spot {
        list.live += 1;
        if let Some(last) = self.chunks.get_mut(list.tail as usize) {
            let at = last.end;
            if let Some(spot) = last.numbers.get_mut(usize::from(at)) {
                *spot = number;
                last.end = at + 1;
                return Spot::new(list.tail, at);
            }
        }
        let index = self.allocate(number);
        match self.chunks.get_mut(list.tail as usize) {
            Some(last) => last.next = index,
            None => list.head = index,
        }
        list.tail = index;
        Spot::new(index, 0)
    }

    /// Empties a spot; its list's counts are the caller's to keep right.
    #[inline]
    pub(super) fn strike(&mut self, spot: Spot) {
        if let Some(chunk) = self.chunks.get_mut(spot.chunk())
            && let Some(number) = chunk.numbers.get_mut(spot.at())
        {
            *number = STRUCK;
        }
    }

    /// Takes the first chunk off a list that is dissolved: nothing is counted any more.
    pub(super) fn take_first(&mut self, list: &mut List) -> Option<Chunk> {
        let chunk = *self.chunks.get(list.head as usize)?;
        self.drop_first(list);
        Some(chunk)
    }

    /// Takes the first number off; `live` is the caller's to keep right.
    pub(super) fn pop(&mut self, list: &mut List) -> Option<u32> {
        loop {
            let first = self.chunks.get_mut(list.head as usize)?;
            let number = first.in_use().first().copied();
            if number.is_some() {
                first.begin += 1;
            }
            if first.begin >= first.end {
                self.drop_first(list);
            }
            match number {
                Some(STRUCK) => list.struck -= 1,
                Some(_) => return number,
                None => {}
            }
        }
    }

    /// Throws everything away, in one go.
    pub(super) fn clear(&mut self, list: &mut List) {
        if let Some(last) = self.chunks.get_mut(list.tail as usize) {
            last.next = self.free;
            self.free = list.head;
        }
        *list = List::EMPTY;
    }

    fn drop_first(&mut self, list: &mut List) {
        let index = list.head;
        if let Some(first) = self.chunks.get_mut(index as usize) {
            list.head = first.next;
            first.next = self.free;
            self.free = index;
        }
        if list.head == NIL {
            list.tail = NIL;
        }
    }

    /// A chunk with one number in it: a used one if there is one.
    fn allocate(&mut self, number: u32) -> u32 {
        let index = match self.chunks.get(self.free as usize) {
            Some(chunk) => std::mem::replace(&mut self.free, chunk.next),
            None => {
                self.chunks.push(Chunk::EMPTY);
                (self.chunks.len() - 1) as u32
            }
        };
        let chunk = &mut self.chunks[index as usize];
        (chunk.next, chunk.begin, chunk.end) = (NIL, 0, 1);
        chunk.numbers[0] = number;
        index
    }
}

#[cfg(test)]
impl Chunks {
    /// Every number of a list with its spot, and the number of its chunks.
    pub(super) fn all(&self, list: &List) -> (Vec<(u32, Spot)>, usize) {
        let (mut all, mut chunks, mut index) = (Vec::new(), 0, list.head);
        let mut spots = 0;
        while let Some(chunk) = self.chunks.get(index as usize) {
            spots += chunk.in_use().len();
            for at in chunk.begin..chunk.end {
                let number = chunk.numbers[usize::from(at)];
                if number != STRUCK {
                    all.push((number, Spot::new(index, at)));
                }
            }
            if chunk.next == NIL {
                assert_eq!(list.tail, index);
            }
            chunks += 1;
            index = chunk.next;
        }
        assert_eq!(spots as u32, list.live + list.struck);
        (all, chunks)
    }

    /// Chunks that exist, and those of them that no list has.
    pub(super) fn count(&self) -> (usize, usize) {
        let (mut free, mut index) = (0, self.free);
        while let Some(chunk) = self.chunks.get(index as usize) {
            free += 1;
            index = chunk.next;
        }
        (self.chunks.len(), free)
    }
}
