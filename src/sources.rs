//! The slabs of live sources: insert, look up, retire.
//!
//! `slab` forgets a slot's past when it is vacated, so the generations live beside it. An
//! id is honoured only while its generation is the slot's present one; a slot whose
//! generation would wrap is never used again (after 4 billion tenants it costs one entry).

use slab::Slab;

use crate::token::{Kind, MAX_INDEX, Token};

/// One slab of sources of one kind.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    kind: Kind,
    // `None` marks a retired slot, which stays occupied for ever.
    slab: Slab<Option<T>>,
    // By index: the name of the present tenant, or of the next one. Its generation is what
    // `slab` forgets.
    names: Vec<Token>,
    retired: usize,
}

impl<T> Slots<T> {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            slab: Slab::new(),
            names: Vec::new(),
            retired: 0,
        }
    }

    /// `None` when the index space is used up; the caller keeps nothing half-made.
    pub(crate) fn insert(&mut self, make: impl FnOnce(Token) -> T) -> Option<Token> {
        let index = self.slab.vacant_key();
        if index > MAX_INDEX {
            return None;
        }
        if index == self.names.len() {
            let first = Token::new(self.kind, index, FIRST_GENERATION);
            self.names.push(first);
        }
        let token = self.names[index];
        self.slab.insert(Some(make(token)));
        Some(token)
    }

    #[inline]
    pub(crate) fn get(&self, token: Token) -> Option<&T> {
        if !self.is_current(token) {
            return None;
        }
        self.slab.get(token.index())?.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        if !self.is_current(token) {
            return None;
        }
        self.slab.get_mut(token.index())?.as_mut()
    }

    pub(crate) fn remove(&mut self, token: Token) -> Option<T> {
        if !self.is_current(token) {
            return None;
        }
        let index = token.index();
        let source = self.slab.get_mut(index)?.take()?;
        match token.generation().checked_add(1) {
            Some(next) => {
                self.names[index] = Token::new(self.kind, index, next);
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
        self.names.len()
    }

    /// The token of whoever lives at `index` now. A walk by index may insert and remove
    /// as it goes.
    pub(crate) fn token_at(&self, index: usize) -> Option<Token> {
        self.slab.get(index)?.as_ref()?;
        self.names.get(index).copied()
    }

    /// Whoever lives at `index` now.
    pub(crate) fn at_mut(&mut self, index: usize) -> Option<&mut T> {
        self.slab.get_mut(index)?.as_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slab.iter().filter_map(|(_, source)| source.as_ref())
    }

    #[inline]
    fn is_current(&self, token: Token) -> bool {
        self.names.get(token.index()) == Some(&token)
    }
}

/// Generations start above zero so that a token of all zeros names nothing.
const FIRST_GENERATION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn slots() -> Slots<&'static str> {
        Slots::new(Kind::Conn)
    }

    #[test]
    fn a_stale_token_finds_nothing_however_often_the_slot_is_used_again() {
        let mut slots = slots();
        let stale = slots.insert(|_| "first").unwrap();
        assert_eq!(slots.remove(stale), Some("first"));
        for _ in 0..1_000_000 {
            let token = slots.insert(|_| "later").unwrap();
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
        let token = slots.insert(|_| "last").unwrap();
        slots.names[token.index()] = Token::new(Kind::Conn, token.index(), u32::MAX);
        let token = slots.token_at(token.index()).unwrap();
        assert_eq!(slots.remove(token), Some("last"));
        assert!(slots.is_empty());
        assert!(slots.get(token).is_none());
        assert!(slots.token_at(token.index()).is_none());
        let next = slots.insert(|_| "elsewhere").unwrap();
        assert_ne!(next.index(), token.index());
        assert_eq!(slots.len(), 1);
        assert_eq!(slots.iter().count(), 1);
    }

    #[test]
    fn a_token_of_another_kind_finds_nothing() {
        let mut slots = slots();
        let token = slots.insert(|_| "conn").unwrap();
        let other = Token::new(Kind::Listener, token.index(), token.generation());
        assert!(slots.get(other).is_none());
        assert!(slots.get(Token::WAKE).is_none());
    }
}
