//! Names for live things: a kind, an index and a generation.
//!
//! A slot of a slab is used again and again; the generation tells its tenants apart.
//! The same 64 bits travel through the kernel with each registration and come back with
//! each event, so an event for a closed source and an id kept by the application are
//! recognised as stale by the same comparison.
//!
//! Pure: knows nothing of sockets, time or the loop.

use std::fmt;
use std::num::NonZeroU64;

/// What kind of source a token names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Conn = 1,
    Listener = 2,
    Timer = 3,
    Dial = 4,
    Socket = 5,
    Watch = 6,
}

/// Bits of a token that hold the index: 268 million sources of one kind in one loop.
const INDEX_BITS: u32 = 28;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
const KIND_SHIFT: u32 = 28;
const GENERATION_SHIFT: u32 = 32;

/// Highest index a slot may have; beyond it a slab refuses to grow.
pub(crate) const MAX_INDEX: usize = INDEX_MASK as usize;

/// A kind, an index and a generation in the 64 bits that a kernel event carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Token(NonZeroU64);

impl Token {
    /// The wake-up channel. No slot can have it: kind 0 does not exist, and index and
    /// generation say nothing.
    pub(crate) const WAKE: Self = Self(NonZeroU64::MIN);

    pub(crate) fn new(kind: Kind, index: usize, generation: u32) -> Self {
        debug_assert!(index <= MAX_INDEX);
        Self::from_bits(
            (u64::from(generation) << GENERATION_SHIFT)
                | ((kind as u64) << KIND_SHIFT)
                | (index as u64 & INDEX_MASK),
        )
    }

    /// No token has all bits zero, which makes room for `None`. Should a kernel ever answer
    /// them, they name nothing either.
    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Self {
        NonZeroU64::new(bits).map_or(Self::WAKE, Self)
    }

    #[inline]
    pub(crate) fn bits(self) -> u64 {
        self.0.get()
    }

    /// `None` for the wake-up channel and for bits that no slot ever handed out.
    pub(crate) fn kind(self) -> Option<Kind> {
        match (self.bits() >> KIND_SHIFT) & 0xf {
            1 => Some(Kind::Conn),
            2 => Some(Kind::Listener),
            3 => Some(Kind::Timer),
            4 => Some(Kind::Dial),
            5 => Some(Kind::Socket),
            6 => Some(Kind::Watch),
            _ => None,
        }
    }

    pub(crate) fn index(self) -> usize {
        (self.bits() & INDEX_MASK) as usize
    }

    pub(crate) fn generation(self) -> u32 {
        (self.bits() >> GENERATION_SHIFT) as u32
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            Some(kind) => write!(f, "{kind:?}({}.{})", self.index(), self.generation()),
            None => f.write_str("Wake"),
        }
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:expr) => {
        $(#[$doc])*
        ///
        /// An id is `Copy` and may be kept for ever: once its source is gone every
        /// look-up answers `None`, however often the slot has been used since.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Token);

        impl $name {
            pub(crate) fn new(token: Token) -> Self {
                debug_assert_eq!(token.kind(), Some($kind));
                Self(token)
            }

            pub(crate) fn token(self) -> Token {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({}.{})"), self.0.index(), self.0.generation())
            }
        }

        /// `INDEX.GENERATION`, the form that log lines use.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}.{}", self.0.index(), self.0.generation())
            }
        }
    };
}

id!(
    /// Names one connection.
    ConnId, Kind::Conn
);
id!(
    /// Names one listener.
    ListenerId, Kind::Listener
);
id!(
    /// Names one timer: free-standing, or belonging to a connection.
    TimerId, Kind::Timer
);

id!(
    /// Names one dial: the wish to be connected, with all its tries.
    DialId, Kind::Dial
);

id!(
    /// Names one datagram socket.
    SocketId, Kind::Socket
);

id!(
    /// Names one watched descriptor.
    WatchId, Kind::Watch
);

impl TimerId {
    /// Names no timer.
    pub(crate) const NONE: Self = Self(Token(
        NonZeroU64::MIN.saturating_add(((Kind::Timer as u64) << KIND_SHIFT) - 1),
    ));
}

/// Who opened a source. What a callback opens inherits it, so that several handlers can
/// share one loop without seeing each other's sources.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub(crate) struct Owner(pub(crate) u16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_gives_back_its_three_parts() {
        let kinds = [
            Kind::Conn,
            Kind::Listener,
            Kind::Timer,
            Kind::Dial,
            Kind::Socket,
            Kind::Watch,
        ];
        for kind in kinds {
            for index in [0, 1, 4096, MAX_INDEX] {
                for generation in [0, 1, u32::MAX] {
                    let token = Token::new(kind, index, generation);
                    assert_eq!(token.kind(), Some(kind));
                    assert_eq!(token.index(), index);
                    assert_eq!(token.generation(), generation);
                    assert_eq!(Token::from_bits(token.bits()), token);
                }
            }
        }
    }

    #[test]
    fn the_wake_token_is_no_source() {
        assert_eq!(Token::WAKE.kind(), None);
    }

    #[test]
    fn bits_that_no_slot_handed_out_are_no_source() {
        assert_eq!(Token::from_bits(0), Token::WAKE);
        for kind in [0u64, 7, 15] {
            assert_eq!(Token::from_bits(kind << KIND_SHIFT | 1).kind(), None);
        }
    }

    #[test]
    fn a_name_is_printed_as_index_and_generation() {
        let token = Token::new(Kind::Conn, 7, 3);
        assert_eq!(format!("{token:?} {:?}", Token::WAKE), "Conn(7.3) Wake");
        let id = ConnId::new(token);
        assert_eq!(format!("{id:?} {id}"), "ConnId(7.3) 7.3");
        assert_eq!(id.token(), token);
    }

    #[test]
    fn the_timer_that_is_none_is_no_timer_of_a_loop() {
        // Generations begin at one.
        let none = TimerId::NONE.token();
        assert_eq!((none.kind(), none.generation()), (Some(Kind::Timer), 0));
        assert_eq!(none.index(), 0);
    }
}
