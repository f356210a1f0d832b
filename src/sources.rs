//! The slabs of live sources: insert, look up, retire.
//!
//! Each tenant of a slot carries its own name, and an id is honoured only while it is that
//! very name: one comparison, in memory that is about to be used anyway. `slab` forgets a
//! slot's past when it is vacated, so the generations live beside it. A slot whose generation
//! would wrap is never used again (after 4 billion tenants it costs one entry).

use slab::Slab;

use crate::token::{Kind, MAX_INDEX, Token};

/// What lives in a slot knows the name that it was made with.
pub(crate) trait Named {
    fn token(&self) -> Token;
}

/// One slab of sources of one kind.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    kind: Kind,
    // `None` marks a retired slot, which stays occupied for ever.
    slab: Slab<Option<T>>,
    // By index: the generation of the present tenant, or of the next one.
    generations: Vec<u32>,
    retired: usize,
}

impl<T: Named> Slots<T> {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            slab: Slab::new(),
            generations: Vec::new(),
            retired: 0,
        }
    }

    /// `None` when the index space is used up; the caller keeps nothing half-made.
    pub(crate) fn insert(&mut self, make: impl FnOnce(Token) -> T) -> Option<Token> {
        let entry = self.slab.vacant_entry();
        let index = entry.key();
        if index > MAX_INDEX {
            return None;
        }
        if index == self.generations.len() {
            self.generations.push(FIRST_GENERATION);
        }
        let token = Token::new(self.kind, index, self.generations[index]);
        entry.insert(Some(make(token)));
        Some(token)
    }

    #[inline]
    pub(crate) fn get(&self, token: Token) -> Option<&T> {
        let source = self.slab.get(token.index())?.as_ref()?;
        (source.token() == token).then_some(source)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        let source = self.slab.get_mut(token.index())?.as_mut()?;
        (source.token() == token).then_some(source)
    }

    pub(crate) fn remove(&mut self, token: Token) -> Option<T> {
        self.get(token)?;
        let index = token.index();
        let source = self.slab.get_mut(index)?.take()?;
        match token.generation().checked_add(1) {
            Some(next) => {
                self.generations[index] = next;
                self.slab.remove(index);
            }
            None => self.retired += 1,
        }
        Some(source)
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len() - self.retired
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One more than the highest index ever used: the bound for a walk by [`Self::token_at`].
    pub(crate) fn end(&self) -> usize {
        self.generations.len()
    }

    /// The token of whoever lives at `index` now. A walk by index may insert and remove
    /// as it goes.
    pub(crate) fn token_at(&self, index: usize) -> Option<Token> {
        self.slab.get(index)?.as_ref().map(T::token)
    }

    /// Whoever lives at `index` now.
    pub(crate) fn at_mut(&mut self, index: usize) -> Option<&mut T> {
        self.slab.get_mut(index)?.as_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slab.iter().filter_map(|(_, source)| source.as_ref())
    }
}

/// Generations start above zero so that a token of all zeros names nothing.
const FIRST_GENERATION: u32 = 1;

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
        slots.generations[first.index()] = u32::MAX;
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
}
