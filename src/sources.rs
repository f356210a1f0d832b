//! The slabs of live sources: insert, look up, retire.
//!
//! Each tenant of a slot carries its own name, and an id is honoured only while it is that
//! very name: one comparison, in memory that is about to be used anyway. A vacant slot keeps
//! the generation of its next tenant where a tenant would be, so that a slot costs nothing
//! beside its tenant. One whose generations are used up is never used again (after 4 billion
//! tenants it costs one entry).

use crate::faults::fault;
use crate::token::{Kind, MAX_INDEX, Token};

/// What lives in a slot knows the name that it was made with.
pub(crate) trait Named {
    fn token(&self) -> Token;
}

/// One slab of sources of one kind.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    kind: Kind,
    slots: Vec<Slot<T>>,
    /// The first vacant slot, or [`END`].
    free: u32,
    len: usize,
}

#[derive(Debug)]
enum Slot<T> {
    Held(T),
    Vacant {
        generation: u32,
        /// The next vacant slot, or [`END`].
        next: u32,
    },
}

/// Ends the chain of vacant slots; no slot has this index.
const END: u32 = u32::MAX;

/// Generations start above zero so that a token of all zeros names nothing.
const FIRST_GENERATION: u32 = 1;

impl<T: Named> Slots<T> {
    pub(crate) fn new(kind: Kind) -> Self {
        Self::with_room(kind, 0)
    }

    /// With room from the start for so many: memory that nobody has touched costs addresses
    /// only, while a table that grows from nothing leaves holes behind, which do cost memory.
    pub(crate) fn with_room(kind: Kind, room: usize) -> Self {
        Self {
            kind,
            slots: Vec::with_capacity(room),
            free: END,
            len: 0,
        }
    }

    /// `None` when the index space is used up; the caller keeps nothing half-made.
    pub(crate) fn insert(&mut self, make: impl FnOnce(Token) -> T) -> Option<Token> {
        self.place(make).map(|source| source.token())
    }

    /// As [`insert`](Self::insert), for whoever has more to do to it.
    #[inline]
    pub(crate) fn place(&mut self, make: impl FnOnce(Token) -> T) -> Option<&mut T> {
        if self.free == END {
            self.grow()?;
        }
        let index = self.free as usize;
        let slot = self.slots.get_mut(index)?;
        let Slot::Vacant { generation, next } = *slot else {
            return None;
        };
        self.free = next;
        let token = Token::new(self.kind, index, generation);
        *slot = Slot::Held(make(token));
        self.len += 1;
        match slot {
            Slot::Held(source) => Some(source),
            Slot::Vacant { .. } => None,
        }
    }

    /// Adds a vacant slot where there is none.
    #[inline(never)]
    fn grow(&mut self) -> Option<()> {
        let index = self.slots.len();
        if index > MAX_INDEX {
            return None;
        }
        self.slots.push(Slot::Vacant {
            generation: FIRST_GENERATION,
            next: END,
        });
        self.free = index as u32;
        Some(())
    }

    #[inline]
    pub(crate) fn get(&self, token: Token) -> Option<&T> {
        match self.slots.get(token.index()) {
            Some(Slot::Held(source)) if source.token() == token || fault!(StaleNamesAnswer) => {
                Some(source)
            }
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        match self.slots.get_mut(token.index()) {
            Some(Slot::Held(source)) if source.token() == token || fault!(StaleNamesAnswer) => {
                Some(source)
            }
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn remove(&mut self, token: Token) -> Option<T> {
        self.get(token)?;
        let index = token.index();
        let step = u32::from(!fault!(GenerationKept));
        let generation = token.generation().wrapping_add(step);
        let vacant = Slot::Vacant {
            generation,
            next: self.free,
        };
        let Slot::Held(source) = std::mem::replace(&mut self.slots[index], vacant) else {
            return None;
        };
        // Zero: all generations have been there. The slot is left out of the chain for ever.
        if generation != 0 {
            self.free = index as u32;
        }
        self.len -= 1;
        Some(source)
    }

    /// As [`remove`](Self::remove), for a tenant that nobody wants: it is dropped where it is.
    #[inline]
    pub(crate) fn vacate(&mut self, token: Token) {
        let index = token.index();
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        if !matches!(slot, Slot::Held(source) if source.token() == token) {
            return;
        }
        let step = u32::from(!fault!(GenerationKept));
        let generation = token.generation().wrapping_add(step);
        *slot = Slot::Vacant {
            generation,
            next: self.free,
        };
        // Zero: all generations have been there. The slot is left out of the chain for ever.
        if generation != 0 {
            self.free = index as u32;
        }
        self.len -= 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One more than the highest index ever used: the bound for a walk by [`Self::token_at`].
    pub(crate) fn end(&self) -> usize {
        self.slots.len()
    }

    /// The token of whoever lives at `index` now. A walk by index may insert and remove
    /// as it goes.
    pub(crate) fn token_at(&self, index: usize) -> Option<Token> {
        match self.slots.get(index)? {
            Slot::Held(source) => Some(source.token()),
            Slot::Vacant { .. } => None,
        }
    }

    /// Whoever lives at `index` now.
    pub(crate) fn at_mut(&mut self, index: usize) -> Option<&mut T> {
        match self.slots.get_mut(index)? {
            Slot::Held(source) => Some(source),
            Slot::Vacant { .. } => None,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Held(source) => Some(source),
            Slot::Vacant { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(PartialEq, Debug)]
    struct Tenant(Token);

    impl Named for Tenant {
        fn token(&self) -> Token {
            self.0
        }
    }

    fn slots() -> Slots<Tenant> {
        Slots::new(Kind::Conn)
    }

    #[test]
    fn a_stale_token_finds_nothing_however_often_the_slot_is_used_again() {
        let mut slots = slots();
        let stale = slots.insert(Tenant).unwrap();
        assert_eq!(slots.remove(stale), Some(Tenant(stale)));
        for _ in 0..1_000_000 {
            let token = slots.insert(Tenant).unwrap();
            assert_eq!(token.index(), stale.index());
            assert!(slots.get(stale).is_none());
            slots.remove(token);
        }
        assert!(slots.get_mut(stale).is_none());
        assert!(slots.remove(stale).is_none());
    }

    #[test]
    fn a_slot_about_to_wrap_is_retired() {
        let mut slots = slots();
        let first = slots.insert(Tenant).unwrap();
        slots.remove(first);
        slots.slots[first.index()] = Slot::Vacant {
            generation: u32::MAX,
            next: END,
        };
        let last = slots.insert(Tenant).unwrap();
        assert_eq!(slots.token_at(first.index()), Some(last));
        assert_eq!(slots.remove(last), Some(Tenant(last)));
        assert!(slots.is_empty());
        assert!(slots.get(last).is_none());
        assert!(slots.token_at(last.index()).is_none());
        let next = slots.insert(Tenant).unwrap();
        assert_ne!(next.index(), last.index());
        assert_eq!(slots.len(), 1);
        assert_eq!(slots.iter().count(), 1);
    }

    #[test]
    fn a_token_of_another_kind_finds_nothing() {
        let mut slots = slots();
        let token = slots.insert(Tenant).unwrap();
        let other = Token::new(Kind::Listener, token.index(), token.generation());
        assert!(slots.get(other).is_none());
        assert!(slots.get(Token::WAKE).is_none());
    }

    #[test]
    fn whoever_lives_in_a_slab_is_found_by_name_and_by_place() {
        let mut slots = slots();
        let all: Vec<Token> = (0..3).map(|_| slots.insert(Tenant).unwrap()).collect();
        slots.remove(all[1]);
        assert_eq!((slots.len(), slots.end()), (2, 3));
        assert!(!slots.is_empty());
        assert_eq!(slots.get(all[0]), Some(&Tenant(all[0])));
        assert_eq!(slots.get_mut(all[2]), Some(&mut Tenant(all[2])));
        let named: Vec<_> = (0..4).map(|at| slots.token_at(at)).collect();
        assert_eq!(named, [Some(all[0]), None, Some(all[2]), None]);
        let mut at = |at| slots.at_mut(at).map(|tenant| tenant.0);
        assert_eq!(
            [at(0), at(1), at(2), at(3)],
            [Some(all[0]), None, Some(all[2]), None]
        );
        assert!(slots.iter().map(|tenant| tenant.0).eq([all[0], all[2]]));
    }

    #[test]
    fn vacant_slots_are_used_again_before_the_slab_grows() {
        let mut slots = slots();
        let all: Vec<Token> = (0..4).map(|_| slots.insert(Tenant).unwrap()).collect();
        for at in [2, 0] {
            slots.remove(all[at]);
        }
        let again: Vec<Token> = (0..3).map(|_| slots.insert(Tenant).unwrap()).collect();
        let places: Vec<usize> = again.iter().map(|token| token.index()).collect();
        assert_eq!(places, [0, 2, 4]);
        assert_eq!(again[0].generation(), all[0].generation() + 1);
    }

    #[test]
    fn a_stale_token_does_not_reach_the_next_tenant() {
        let mut slots = slots();
        let stale = slots.insert(Tenant).unwrap();
        slots.remove(stale);
        let tenant = slots.insert(Tenant).unwrap();
        assert_eq!(tenant.index(), stale.index());
        assert!(slots.get(stale).is_none() && slots.get_mut(stale).is_none());
        assert!(slots.remove(stale).is_none());
        assert_eq!(slots.get_mut(tenant), Some(&mut Tenant(tenant)));
    }

    #[test]
    fn a_tenant_that_nobody_wants_leaves_as_any_other() {
        let mut slots = slots();
        let [stale, other] = [0; 2].map(|_| slots.insert(Tenant).unwrap());
        slots.vacate(stale);
        assert_eq!(slots.len(), 1);
        assert!(slots.get(stale).is_none() && slots.get(other).is_some());
        let tenant = slots.insert(Tenant).unwrap();
        assert_eq!(tenant.index(), stale.index());
        // Neither by the old name, nor where nobody ever was.
        slots.vacate(stale);
        slots.vacate(Token::new(Kind::Conn, 1000, FIRST_GENERATION));
        assert_eq!((slots.len(), slots.get(tenant)), (2, Some(&Tenant(tenant))));
    }

    #[test]
    fn a_slot_that_is_vacated_in_its_last_generation_is_retired() {
        let mut slots = slots();
        let first = slots.insert(Tenant).unwrap();
        slots.vacate(first);
        slots.slots[first.index()] = Slot::Vacant {
            generation: u32::MAX,
            next: END,
        };
        let last = slots.insert(Tenant).unwrap();
        slots.vacate(last);
        assert!(slots.is_empty());
        assert_ne!(slots.insert(Tenant).unwrap().index(), last.index());
    }
}
