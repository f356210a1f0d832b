//! What is true of a connection and what is still to be done for it, one bit each; and the
//! sets of bits that are asked for together, so that a question about many costs one test.
//!
//! Pure: knows nothing of sockets, bytes or the loop.

use crate::kernel::Transport;
use crate::peer::Remote;

/// Some flags, and which of them are to be set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pattern {
    of: Flags,
    set: Flags,
}

/// What is true of a connection, and what is still to be done for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Flags(u32);

impl Flags {
    // What the kernel said last.
    /// Unread input may wait in the kernel.
    pub(crate) const READABLE: Self = Self(1);
    /// The kernel may take output.
    pub(crate) const WRITABLE: Self = Self(1 << 1);
    /// A FIN was announced; it may still stand behind unread bytes.
    pub(crate) const FIN_SEEN: Self = Self(1 << 2);
    /// A read answered 0.
    pub(crate) const EOF: Self = Self(1 << 3);

    // What the handler asked for.
    pub(crate) const PAUSED: Self = Self(1 << 4);
    pub(crate) const AUTO_PAUSE: Self = Self(1 << 5);
    /// `shutdown_write` was called.
    pub(crate) const FIN_ASKED: Self = Self(1 << 6);
    /// `close` was called, or an error did.
    pub(crate) const CLOSING: Self = Self(1 << 7);

    // Where the connection stands.
    /// The kernel reports on it.
    pub(crate) const REGISTERED: Self = Self(1 << 8);
    /// Queued output went above the high mark and has not fallen to the low one.
    pub(crate) const FULL: Self = Self(1 << 9);
    pub(crate) const FIN_SENT: Self = Self(1 << 10);
    /// To be closed with RST.
    pub(crate) const RESET: Self = Self(1 << 11);
    pub(crate) const DEAD: Self = Self(1 << 12);

    // Callbacks that are due.
    /// `on_read` with what was left over.
    pub(crate) const OFFER: Self = Self(1 << 13);
    /// `on_write`.
    pub(crate) const DRAINED: Self = Self(1 << 14);
    pub(crate) const WAKE: Self = Self(1 << 15);
    pub(crate) const SHUTDOWN: Self = Self(1 << 16);
    /// A deadline was set that had passed.
    pub(crate) const DUE: Self = Self(1 << 17);
    /// `on_eof` has run.
    pub(crate) const EOF_TOLD: Self = Self(1 << 18);

    /// Whatever keeps a connection from being open.
    pub(crate) const NOT_OPEN: Self = Self(Self::CLOSING.0 | Self::DEAD.0 | Self::CONNECTING.0);

    /// Whatever forbids to write.
    pub(crate) const NO_OUTPUT: Self = Self(Self::NOT_OPEN.0 | Self::FIN_ASKED.0);

    /// Any of the callbacks that are due for another reason than bytes.
    pub(crate) const NOTES: Self =
        Self(Self::DRAINED.0 | Self::WAKE.0 | Self::SHUTDOWN.0 | Self::DUE.0);

    // Which of the engine's lists it is on.
    pub(crate) const IN_READY: Self = Self(1 << 19);
    pub(crate) const IN_UNFLUSHED: Self = Self(1 << 20);
    pub(crate) const PARKED: Self = Self(1 << 21);

    /// `on_accept` returned a session: the listener counts it.
    pub(crate) const ADMITTED: Self = Self(1 << 22);
    /// An attempt of a dial: nobody has been told of it, and its events are the dialer's.
    pub(crate) const CONNECTING: Self = Self(1 << 25);
    /// The kernel announced an error, which a read may not show.
    pub(crate) const ERROR_SEEN: Self = Self(1 << 23);
    /// Urgent data was announced: reads stop at its mark.
    pub(crate) const URGENT_SEEN: Self = Self(1 << 24);

    // What Unix sockets have beside their bytes.
    pub(crate) const UNIX: Self = Self(1 << 26);
    /// Each send and each receive call moves one record.
    pub(crate) const RECORDS: Self = Self(1 << 27);
    /// The ready list has had it served in this turn.
    pub(crate) const SERVED: Self = Self(1 << 28);
    /// The queued output has places where a send call must end.
    pub(crate) const CUT_OUTPUT: Self = Self(1 << 29);
    /// `close` was called after the peer had finished.
    pub(crate) const AFTER_EOF: Self = Self(1 << 30);
    /// Made elsewhere, where there may be duplicates: they would keep its registration alive
    /// when ours is closed, and in the way of whoever gets its number. Or given away, so that
    /// nothing is to be closed here.
    pub(crate) const ELSEWHERE: Self = Self(1 << 31);

    /// Closing the descriptor is not all that ends such a connection.
    pub(crate) const ENDS_WITH_CARE: Self = Self(Self::RESET.0 | Self::ELSEWHERE.0);

    /// What settling may have to act on, beside queued output.
    pub(crate) const UNSETTLED: Self =
        Self(Self::IN_UNFLUSHED.0 | Self::CLOSING.0 | Self::FIN_ASKED.0 | Self::FIN_SENT.0);

    /// Of these two flags both, and of the others that matter none: a plain send is in order.
    pub(crate) const SENDS: Pattern = Pattern {
        of: Self(
            Self::WRITABLE.0
                | Self::REGISTERED.0
                | Self::DEAD.0
                | Self::CONNECTING.0
                | Self::RECORDS.0
                | Self::CUT_OUTPUT.0,
        ),
        set: Self(Self::WRITABLE.0 | Self::REGISTERED.0),
    };

    /// Nothing has been said of the connection but that bytes come and go, all that came has
    /// been read, and nothing is to be done for it.
    pub(crate) const PLAIN: Pattern = Pattern {
        of: Self(!(Self::AUTO_PAUSE.0 | Self::ADMITTED.0 | Self::ELSEWHERE.0)),
        set: Self(Self::WRITABLE.0 | Self::REGISTERED.0),
    };

    /// All has been read, and the handler is being told.
    pub(crate) const ENDED: Self = Self(Self::EOF.0 | Self::EOF_TOLD.0 | Self::FIN_SEEN.0);

    /// A plain connection that its peer has finished and its handler has closed, and of which
    /// nothing else is to be known.
    pub(crate) const OVER: Pattern = Pattern {
        of: Self(Self::PLAIN.of.0),
        set: Self(Self::PLAIN.set.0 | Self::ENDED.0 | Self::CLOSING.0 | Self::AFTER_EOF.0),
    };

    /// To be read by the call that knows of records and descriptors.
    pub(crate) const MESSAGES: Self = Self(Self::RECORDS.0 | Self::UNIX.0);

    /// To be written with care, or not at all.
    pub(crate) const UNUSUAL_OUTPUT: Self =
        Self(Self::NO_OUTPUT.0 | Self::RECORDS.0 | Self::CUT_OUTPUT.0);

    /// A short read has drained the socket (epoll(7)), unless more is known to wait behind
    /// the bytes: a FIN, which must be read as a 0, or what follows an urgent mark. On Unix
    /// sockets a read stops at the end of a record, and where descriptors were sent, even if
    /// nobody wants them: only EAGAIN says that they are drained.
    pub(crate) const CUT_SHORT: Self =
        Self(Self::FIN_SEEN.0 | Self::URGENT_SEEN.0 | Self::UNIX.0 | Self::RECORDS.0);

    /// Those of a connection on which nothing has happened, of TCP.
    pub(crate) const NEW: Self = Self(Self::WRITABLE.0 | Self::AUTO_PAUSE.0);

    /// The same of any.
    pub(crate) fn of_a_new(peer: &Remote, transport: Transport) -> Self {
        let mut flags = Self::NEW;
        if peer.is_unix() {
            flags.set(Self::UNIX);
        }
        if transport == Transport::Records {
            flags.set(Self::RECORDS);
        }
        flags
    }

    /// Whether the flags that the pattern looks at are set as it says.
    pub(crate) fn is(self, pattern: Pattern) -> bool {
        self.0 & pattern.of.0 == pattern.set.0
    }

    /// Those of them that are among `others`.
    pub(crate) fn among(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// Whether any of `other` is set.
    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn set(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(crate) fn clear(&mut self, other: Self) {
        self.0 &= !other.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_flags_share_a_bit() {
        let single = [
            Flags::READABLE,
            Flags::WRITABLE,
            Flags::FIN_SEEN,
            Flags::EOF,
            Flags::PAUSED,
            Flags::AUTO_PAUSE,
            Flags::FIN_ASKED,
            Flags::CLOSING,
            Flags::REGISTERED,
            Flags::FULL,
            Flags::FIN_SENT,
            Flags::RESET,
            Flags::DEAD,
            Flags::OFFER,
            Flags::DRAINED,
            Flags::WAKE,
            Flags::SHUTDOWN,
            Flags::DUE,
            Flags::EOF_TOLD,
            Flags::IN_READY,
            Flags::IN_UNFLUSHED,
            Flags::PARKED,
            Flags::ADMITTED,
            Flags::ERROR_SEEN,
            Flags::URGENT_SEEN,
            Flags::CONNECTING,
            Flags::UNIX,
            Flags::RECORDS,
            Flags::SERVED,
            Flags::CUT_OUTPUT,
            Flags::AFTER_EOF,
            Flags::ELSEWHERE,
        ];
        let mut seen = Flags(0);
        for flag in single {
            assert_eq!(flag.0.count_ones(), 1);
            assert!(!seen.has(flag), "{flag:?} is taken twice");
            seen.set(flag);
        }
    }

    /// Which single bits a group has, lowest first.
    fn members(group: Flags) -> Vec<u32> {
        (0..u32::BITS)
            .filter(|bit| group.has(Flags(1 << bit)))
            .collect()
    }

    fn bits(flags: &[Flags]) -> Vec<u32> {
        let mut bits: Vec<u32> = flags.iter().map(|flag| flag.0.trailing_zeros()).collect();
        bits.sort_unstable();
        bits
    }

    #[test]
    fn a_group_is_the_flags_that_it_names() {
        use Flags as F;
        let not_open = [F::CLOSING, F::DEAD, F::CONNECTING];
        let no_output = [F::CLOSING, F::DEAD, F::CONNECTING, F::FIN_ASKED];
        let notes = [F::DRAINED, F::WAKE, F::SHUTDOWN, F::DUE];
        let unsettled = [F::IN_UNFLUSHED, F::CLOSING, F::FIN_ASKED, F::FIN_SENT];
        let cut_short = [F::FIN_SEEN, F::URGENT_SEEN, F::UNIX, F::RECORDS];
        let ended = [F::EOF, F::EOF_TOLD, F::FIN_SEEN];
        let unusual = [&no_output[..], &[F::RECORDS, F::CUT_OUTPUT]].concat();
        for (group, named) in [
            (F::NOT_OPEN, &not_open[..]),
            (F::NO_OUTPUT, &no_output),
            (F::NOTES, &notes),
            (F::UNSETTLED, &unsettled),
            (F::CUT_SHORT, &cut_short),
            (F::UNUSUAL_OUTPUT, &unusual),
            (F::MESSAGES, &[F::RECORDS, F::UNIX]),
            (F::ENDED, &ended),
            (F::ENDS_WITH_CARE, &[F::RESET, F::ELSEWHERE]),
        ] {
            assert_eq!(members(group), bits(named));
        }
    }

    /// Of flags that are as the pattern wants them, those that must not change.
    fn decisive(pattern: Pattern) -> Vec<u32> {
        let matching = pattern.set;
        assert!(matching.is(pattern));
        (0..u32::BITS)
            .filter(|bit| !Flags(matching.0 ^ (1 << bit)).is(pattern))
            .collect()
    }

    #[test]
    fn a_pattern_looks_at_the_flags_that_it_names_and_at_no_others() {
        use Flags as F;
        let sends = [
            F::WRITABLE,
            F::REGISTERED,
            F::DEAD,
            F::CONNECTING,
            F::RECORDS,
            F::CUT_OUTPUT,
        ];
        assert_eq!(decisive(F::SENDS), bits(&sends));
        assert_eq!(members(F::SENDS.set), bits(&[F::WRITABLE, F::REGISTERED]));

        let indifferent = bits(&[F::AUTO_PAUSE, F::ADMITTED, F::ELSEWHERE]);
        let all: Vec<u32> = (0..u32::BITS).collect();
        let mut seen = decisive(F::PLAIN);
        seen.extend(indifferent);
        seen.sort_unstable();
        assert_eq!(seen, all);
        assert_eq!(members(F::PLAIN.set), bits(&[F::WRITABLE, F::REGISTERED]));

        assert_eq!(decisive(F::OVER), decisive(F::PLAIN));
        let over = [
            F::WRITABLE,
            F::REGISTERED,
            F::EOF,
            F::EOF_TOLD,
            F::FIN_SEEN,
            F::CLOSING,
            F::AFTER_EOF,
        ];
        assert_eq!(members(F::OVER.set), bits(&over));
    }

    #[test]
    fn flags_are_set_and_cleared_without_touching_the_others() {
        let mut flags = Flags(0);
        flags.set(Flags::NOTES);
        flags.set(Flags::WAKE);
        flags.clear(Flags(Flags::WAKE.0 | Flags::EOF.0));
        assert_eq!(
            members(flags),
            bits(&[Flags::DRAINED, Flags::SHUTDOWN, Flags::DUE])
        );
        assert!(flags.has(Flags::NOTES) && !flags.has(Flags::WAKE));
        assert_eq!(
            flags.among(Flags(Flags::DUE.0 | Flags::EOF.0)).0,
            Flags::DUE.0
        );
    }

    #[test]
    fn a_new_connection_can_be_written_and_has_what_its_socket_is() {
        let remote = |text: &str| Remote::from(text.parse::<crate::address::Addr>().unwrap());
        let (ip, unix) = (remote("127.0.0.1:80"), remote("/run/x.sock"));
        let of = |addr, transport| members(Flags::of_a_new(addr, transport));
        let plain = [Flags::WRITABLE, Flags::AUTO_PAUSE];
        let with = |more: &[Flags]| bits(&[&plain, more].concat());
        assert_eq!(of(&ip, Transport::Stream), with(&[]));
        assert_eq!(of(&unix, Transport::Stream), with(&[Flags::UNIX]));
        assert_eq!(
            of(&unix, Transport::Records),
            with(&[Flags::UNIX, Flags::RECORDS])
        );
    }
}
