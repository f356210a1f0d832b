//! Sources that are over, in the order in which they ended, until their ends are told.
//!
//! Nearly all end because the peer has finished, or because the handler has: such an end is a
//! name and a mark. What has more to say stands in a queue beside, in the same order.
//!
//! Pure: knows neither connections nor the loop.

use std::collections::VecDeque;

use crate::error::CloseReason;
use crate::token::Token;

/// Those that are over and of which nobody has been told.
#[derive(Debug, Default)]
pub(crate) struct Endings {
    list: Vec<Ending>,
    /// So many of them have been told.
    told: usize,
    /// Why, of each that has a reason of its own and has not been told.
    reasons: VecDeque<CloseReason>,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    pub(crate) token: Token,
    pub(crate) why: Why,
}

/// Why, if that is said by a mark.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Why {
    Eof,
    Local,
    /// Nobody is told of it, and so there is no reason: it is a datagram socket, which the
    /// handler has closed.
    Untold,
    /// The next in the queue.
    Other,
}

impl Endings {
    /// This one ended because its peer has finished.
    #[inline]
    pub(crate) fn push_eof(&mut self, token: Token) {
        let why = Why::Eof;
        self.list.push(Ending { token, why });
    }

    /// Nobody is told of this one.
    pub(crate) fn push_untold(&mut self, token: Token) {
        let why = Why::Untold;
        self.list.push(Ending { token, why });
    }

    pub(crate) fn push(&mut self, token: Token, reason: CloseReason) {
        let why = match reason {
            CloseReason::Eof => Why::Eof,
            CloseReason::Local => Why::Local,
            other => {
                self.reasons.push_back(other);
                Why::Other
            }
        };
        self.list.push(Ending { token, why });
    }

    /// The one that ended first. Others may be added meanwhile.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Ending> {
        let Some(&ending) = self.list.get(self.told) else {
            self.list.clear();
            self.told = 0;
            return None;
        };
        self.told += 1;
        Some(ending)
    }

    /// In words: to be asked once of each, in the same order.
    #[inline]
    pub(crate) fn reason(&mut self, why: Why) -> Option<CloseReason> {
        if let Why::Eof = why {
            return Some(CloseReason::Eof);
        }
        self.other_reason(why)
    }

    #[inline(never)]
    fn other_reason(&mut self, why: Why) -> Option<CloseReason> {
        match why {
            Why::Eof => Some(CloseReason::Eof),
            Why::Local => Some(CloseReason::Local),
            Why::Untold => None,
            // There is one for each; if not, the end is told all the same.
            Why::Other => self.reasons.pop_front().or(Some(CloseReason::Local)),
        }
    }

    /// How many have not been told.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.list.len() - self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Kind;

    fn token(index: usize) -> Token {
        Token::new(Kind::Conn, index, 1)
    }

    fn next(endings: &mut Endings) -> Option<(usize, String)> {
        let ending = endings.next()?;
        let reason = endings.reason(ending.why)?;
        Some((ending.token.index(), format!("{reason:?}")))
    }

    #[test]
    fn each_is_told_once_with_its_own_reason_and_in_order() {
        let endings = &mut Endings::default();
        let all = [
            CloseReason::Reset,
            CloseReason::Eof,
            CloseReason::Overflow,
            CloseReason::Local,
            CloseReason::Handler(std::io::Error::other("x")),
        ];
        let expected: Vec<_> = all.iter().map(|reason| format!("{reason:?}")).collect();
        for (index, reason) in all.into_iter().enumerate() {
            endings.push(token(index), reason);
        }
        assert_eq!(endings.len(), expected.len());
        for (index, reason) in expected.into_iter().enumerate() {
            assert_eq!(next(endings), Some((index, reason)));
        }
        assert_eq!((endings.len(), next(endings)), (0, None));
    }

    #[test]
    fn what_ends_while_others_are_told_is_told_after_them() {
        let endings = &mut Endings::default();
        endings.push(token(1), CloseReason::Reset);
        endings.push(token(2), CloseReason::Eof);
        assert_eq!(next(endings), Some((1, "Reset".to_owned())));
        endings.push(token(3), CloseReason::Overflow);
        assert_eq!(endings.len(), 2);
        assert_eq!(next(endings), Some((2, "Eof".to_owned())));
        assert_eq!(next(endings), Some((3, "Overflow".to_owned())));
        assert_eq!(next(endings), None);
    }

    #[test]
    fn the_list_begins_anew_when_all_have_been_told() {
        let endings = &mut Endings::default();
        for round in 0..3 {
            endings.push(token(round), CloseReason::Local);
            assert_eq!(next(endings), Some((round, "Local".to_owned())));
            assert_eq!(next(endings), None);
            assert!(endings.list.is_empty());
        }
    }
}
