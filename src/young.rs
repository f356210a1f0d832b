//! Connections too young to have a place in the timer wheel.
//!
//! A connection for one request is gone long before its idle limit, and to file it in the wheel
//! and take it out again is a tenth of what it costs. So the newest stand on a list, and those
//! that are still there when half of the limit has passed are filed. When the list is full, those
//! that have ended make room; if there are too few of them, the others are filed early.
//!
//! Pure: knows neither connections nor the wheel, and looks at no clock.

use crate::timer::{NEVER, Nanos};
use crate::token::Token;

/// The newest connections, those that have ended meanwhile among them.
#[derive(Debug)]
pub(crate) struct Young {
    tokens: Vec<Token>,
    /// When they are to be filed at the latest; `NEVER` while there are none.
    until: Nanos,
}

impl Young {
    /// Room for so many, which is never exceeded.
    pub(crate) fn with_room(room: usize) -> Self {
        Self {
            tokens: Vec::with_capacity(room),
            until: NEVER,
        }
    }

    /// Takes a connection that is idle too long in `limit` from now. `false`: it has to be
    /// filed at once.
    #[inline]
    pub(crate) fn takes(&mut self, token: Token, now: Nanos, limit: Nanos) -> bool {
        if self.is_full() {
            return false;
        }
        // All of them have the same limit, and the first has the earliest end.
        if self.tokens.is_empty() {
            self.until = now.saturating_add(limit / 2);
        }
        self.tokens.push(token);
        true
    }

    /// Nobody is taken any more.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.tokens.len() == self.tokens.capacity()
    }

    /// Forgets those that have ended. Whether that has made room for as many as are left.
    pub(crate) fn keeps(&mut self, is_alive: impl FnMut(&Token) -> bool) -> bool {
        self.tokens.retain(is_alive);
        if self.tokens.is_empty() {
            self.until = NEVER;
        }
        self.tokens.len() <= self.tokens.capacity() / 2
    }

    /// When [`take`](Self::take) is to be called; `NEVER` while there is no need.
    pub(crate) fn until(&self) -> Nanos {
        self.until
    }

    /// All of them, to be filed; [`give_back`](Self::give_back) follows.
    pub(crate) fn take(&mut self) -> Vec<Token> {
        self.until = NEVER;
        std::mem::take(&mut self.tokens)
    }

    /// The list, for its memory.
    pub(crate) fn give_back(&mut self, mut tokens: Vec<Token>) {
        tokens.clear();
        self.tokens = tokens;
    }

    pub(crate) fn holds(&self, token: Token) -> bool {
        self.tokens.contains(&token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Kind;

    fn token(index: usize) -> Token {
        Token::new(Kind::Conn, index, 1)
    }

    #[test]
    fn they_are_filed_when_half_of_the_first_ones_limit_has_passed() {
        let mut young = Young::with_room(8);
        assert_eq!(young.until(), NEVER);
        assert!(young.takes(token(1), 100, 1_000));
        assert!(young.takes(token(2), 550, 1_000));
        assert_eq!(young.until(), 600);
        let taken = young.take();
        assert_eq!(taken, [token(1), token(2)]);
        assert_eq!(young.until(), NEVER);
        young.give_back(taken);
        assert!(!young.holds(token(1)));
    }

    #[test]
    fn a_full_list_takes_nobody() {
        let mut young = Young::with_room(2);
        let room = young.tokens.capacity();
        assert!((0..room).all(|at| !young.is_full() && young.takes(token(at), 0, 1_000)));
        assert!(young.is_full() && !young.takes(token(room), 7, 1_000));
        assert_eq!((young.until(), young.tokens.capacity()), (500, room));
    }

    #[test]
    fn those_that_have_ended_make_room_and_the_others_keep_their_time() {
        let mut young = Young::with_room(8);
        let room = young.tokens.capacity();
        assert!((0..room).all(|at| young.takes(token(at), at as u64, 1_000)));
        assert!(young.keeps(|token| token.index() % 2 == 1));
        assert!(!young.is_full() && young.holds(token(1)) && !young.holds(token(2)));
        assert_eq!(young.until(), 500);
        assert!(young.takes(token(room), 700, 1_000));
        assert_eq!(young.until(), 500);
    }

    #[test]
    fn a_list_that_nobody_has_left_makes_no_room() {
        let mut young = Young::with_room(8);
        let room = young.tokens.capacity();
        assert!((0..room).all(|at| young.takes(token(at), 0, 1_000)));
        assert!(!young.keeps(|_| true));
        assert!(!young.keeps(|token| token.index() > room / 3));
        assert!(young.holds(token(room - 1)));
    }

    #[test]
    fn a_list_that_everybody_has_left_is_due_for_the_next_ones() {
        let mut young = Young::with_room(2);
        assert!(young.takes(token(1), 0, 1_000));
        assert!(young.keeps(|_| false));
        assert_eq!(young.until(), NEVER);
        assert!(young.takes(token(2), 900, 1_000));
        assert_eq!(young.until(), 1_400);
    }

    #[test]
    fn a_list_that_was_given_back_has_room_again() {
        let mut young = Young::with_room(2);
        for round in 0..3 {
            assert!(young.takes(token(1), round, 10));
            assert!(young.takes(token(2), round, 10));
            let taken = young.take();
            assert_eq!(taken, [token(1), token(2)]);
            young.give_back(taken);
            assert!(!young.holds(token(1)));
        }
    }

    #[test]
    fn it_holds_whom_it_has_taken() {
        let mut young = Young::with_room(2);
        young.takes(token(1), 0, 10);
        assert!(young.holds(token(1)) && !young.holds(token(2)));
    }
}
