//! The lists of the wheel: marks in the order in which they were filed, a chunk of them in
//! adjacent memory.
//!
//! Owns the chunks, which all lists share and which are used again. Never knows time, nor
//! whether what a mark stands for is still there: the wheel compares stamps.

use super::{NEVER, Nanos};

/// Ends a chain of chunks. There are fewer chunks than nodes.
const NIL: u32 = u32::MAX;

/// With these a chunk is four cache lines. Fewer would be more chunks to go through, and more
/// is memory that a list with one entry does not use.
pub(super) const MARKS: usize = 31;

/// One entry as it was when it was filed. It is void once the node has another stamp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    pub(super) node: u32,
    pub(super) stamp: u32,
}

impl Mark {
    const NOTHING: Self = Self { node: 0, stamp: 0 };
}

/// Where a list begins and ends, and what is in it.
#[derive(Clone, Copy)]
pub(super) struct List {
    head: u32,
    tail: u32,
    /// Marks that are not void. The wheel counts them.
    pub(super) live: u32,
    /// All marks.
    pub(super) marks: u32,
    /// No entry of the list is earlier. Not raised when the earliest one leaves: finding the
    /// second earliest would mean walking the list.
    pub(super) earliest: Nanos,
}

impl List {
    pub(super) const EMPTY: Self = Self {
        head: NIL,
        tail: NIL,
        live: 0,
        marks: 0,
        earliest: NEVER,
    };

    pub(super) fn is_empty(&self) -> bool {
        self.live == 0
    }
}

/// Marks that stand together.
#[derive(Clone, Copy)]
pub(super) struct Chunk {
    next: u32,
    /// Those before it were popped.
    begin: u16,
    end: u16,
    marks: [Mark; MARKS],
}

const _: () = assert!(size_of::<Chunk>() == 256);

impl Chunk {
    const EMPTY: Self = Self {
        next: NIL,
        begin: 0,
        end: 0,
        marks: [Mark::NOTHING; MARKS],
    };

    pub(super) fn marks(&self) -> &[Mark] {
        self.marks
            .get(self.begin.into()..self.end.into())
            .unwrap_or_default()
    }
}

/// The chunks of all lists, and those of none.
pub(super) struct Chunks {
    chunks: Vec<Chunk>,
    /// The first of those that no list has.
    free: u32,
}

impl Chunks {
    /// Room from the start for so many marks.
    pub(super) fn with_room(marks: usize) -> Self {
        Self {
            chunks: Vec::with_capacity(marks.div_ceil(MARKS)),
            free: NIL,
        }
    }

    /// Appends a mark, which counts as live.
    pub(super) fn push(&mut self, list: &mut List, mark: Mark) {
        list.live += 1;
        list.marks += 1;
        if let Some(last) = self.chunks.get_mut(list.tail as usize)
            && let Some(place) = last.marks.get_mut(usize::from(last.end))
        {
            *place = mark;
            last.end += 1;
            return;
        }
        let index = self.allocate(mark);
        match self.chunks.get_mut(list.tail as usize) {
            Some(last) => last.next = index,
            None => list.head = index,
        }
        list.tail = index;
    }

    /// Takes the first chunk off, with its marks; `live` is the caller's to keep right.
    pub(super) fn take_first(&mut self, list: &mut List) -> Option<Chunk> {
        let index = list.head;
        let chunk = *self.chunks.get(index as usize)?;
        list.marks -= chunk.marks().len() as u32;
        self.drop_first(list);
        Some(chunk)
    }

    /// Takes the first mark off; `live` is the caller's to keep right. At the beginning of a
    /// chunk void marks are thrown out first, all at once: their nodes are somewhere in memory,
    /// and looking at many at a time is not slower by much than looking at one.
    pub(super) fn pop(&mut self, list: &mut List, is_void: impl Fn(Mark) -> bool) -> Option<Mark> {
        loop {
            let first = self.chunks.get_mut(list.head as usize)?;
            if first.begin == 0 {
                list.marks -= first.retain(|mark| !is_void(mark));
            }
            let mark = first.marks().first().copied();
            if mark.is_some() {
                first.begin += 1;
                list.marks -= 1;
            }
            if first.marks().is_empty() {
                self.drop_first(list);
            }
            if mark.is_some() {
                return mark;
            }
        }
    }

    /// Moves all of `from` behind what is in `list`, as they stand.
    pub(super) fn append(&mut self, list: &mut List, from: List) {
        match self.chunks.get_mut(list.tail as usize) {
            Some(last) if from.head != NIL => last.next = from.head,
            Some(_) => return,
            None => list.head = from.head,
        }
        list.tail = from.tail;
        list.live += from.live;
        list.marks += from.marks;
    }

    /// Throws all marks away, in one go.
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

    /// A chunk with one mark in it: a used one if there is one.
    fn allocate(&mut self, mark: Mark) -> u32 {
        let index = match self.chunks.get(self.free as usize) {
            Some(chunk) => std::mem::replace(&mut self.free, chunk.next),
            None => {
                self.chunks.push(Chunk::EMPTY);
                (self.chunks.len() - 1) as u32
            }
        };
        let chunk = &mut self.chunks[index as usize];
        (chunk.next, chunk.begin, chunk.end) = (NIL, 0, 1);
        chunk.marks[0] = mark;
        index
    }
}

impl Chunk {
    /// Answers how many are gone.
    fn retain(&mut self, keep: impl Fn(Mark) -> bool) -> u32 {
        let mut kept = 0;
        for at in 0..usize::from(self.end).min(MARKS) {
            let mark = self.marks[at];
            self.marks[kept] = mark;
            kept += usize::from(keep(mark));
        }
        let gone = usize::from(self.end) - kept;
        self.end = kept as u16;
        gone as u32
    }
}

#[cfg(test)]
impl Chunks {
    /// All marks of a list, and the number of its chunks.
    pub(super) fn all(&self, list: &List) -> (Vec<Mark>, usize) {
        let (mut marks, mut chunks, mut index) = (Vec::new(), 0, list.head);
        while let Some(chunk) = self.chunks.get(index as usize) {
            marks.extend(chunk.marks());
            if chunk.next == NIL {
                assert_eq!(list.tail, index);
            }
            chunks += 1;
            index = chunk.next;
        }
        (marks, chunks)
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
