//! Deliberate faults: for each promise the mistakes that would break it, one of which can be
//! made at a time, so that the checks can be seen to fail.
//!
//! All of it is compiled to nothing without `--cfg windlass_faults`, which no build but that
//! of `tests/faults.rs` has; it is no feature, and no part of the interface. The room knows
//! what each mistake is called and which promise it breaks. Where it is made is one line in
//! the room that makes it: `fault!(ResumeForgotten)`, which is `false` in every other build.

/// Whether this mistake is to be made here.
#[cfg(not(windlass_faults))]
macro_rules! fault {
    ($name:ident) => {
        false
    };
}

#[cfg(windlass_faults)]
macro_rules! fault {
    ($name:ident) => {
        $crate::faults::Fault::$name.is_made()
    };
}

pub(crate) use fault;

#[cfg(windlass_faults)]
pub use made::{Fault, make};

#[cfg(windlass_faults)]
mod made {
    use std::cell::Cell;

    thread_local! {
        /// Each thread has its own, so that worlds can be played beside each other.
        static MADE: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    /// From now on the loops of this thread make this mistake, or none.
    pub fn make(fault: Option<Fault>) {
        MADE.set(fault);
    }

    macro_rules! faults {
        ($($promise:ident { $($name:ident $what:literal)* })*) => {
            /// A mistake.
            #[derive(Clone, Copy, PartialEq, Eq, Debug)]
            #[allow(missing_docs, reason = "what each is stands beside it, as a text")]
            pub enum Fault {
                $($($name,)*)*
            }

            impl Fault {
                /// All of them, by promise.
                pub const ALL: &[Self] = &[$($(Self::$name,)*)*];

                /// The promise that it breaks.
                pub fn promise(self) -> &'static str {
                    match self {
                        $($(Self::$name)|* => stringify!($promise),)*
                    }
                }

                /// What is done wrong.
                pub fn what(self) -> &'static str {
                    match self {
                        $($(Self::$name => $what,)*)*
                    }
                }
            }
        };
    }

    impl Fault {
        /// Whether it is the one that this thread makes.
        pub fn is_made(self) -> bool {
            MADE.get() == Some(self)
        }
    }

    faults! {
        P1 {
            PostsFirst "posted closures run before what the kernel reported"
            TimersFirst "deadlines fire before the readiness of the same turn is served"
            ClosesFirst "on_close runs before the turn's posts and timers"
            EofBeforeLeftovers "on_eof runs before what waits to be offered again"
            LeaveUntold "whoever leaves with nothing left to read has no on_eof"
            EofToldTwice "on_eof is not noted as told"
            PauseIgnored "a paused connection is read"
            FullOutputReadOn "a connection whose output is full is read"
            WriteToldWhileFull "on_write runs although output has filled up again"
            WriteForgotten "output that has drained is not told"
            WakeForgotten "a wake-up is noted and not answered"
            CloseUntold "on_close does not run"
            PostToClosing "a post reaches a connection that is closing"
            PostsReversed "posts of one turn run in the wrong order"
            ShutdownUntold "nobody is told of a graceful stop"
            ShutdownToldAgain "everybody is told of a graceful stop in every turn"
            StopForgotten "on_stop does not run"
            StopToldTwice "on_stop runs twice"
            StopsTooEarly "the loop stops while connections are open"
            DialErrorForgotten "a dial that came to nothing is not told"
            CanceledDialConnects "a canceled dial may still connect"
            WinnerStillRaces "a dial that has connected goes on as if it had not"
            DialsOutliveStop "a graceful stop leaves dials alone"
        }
        P2 {
            LeftoverLost "what a callback leaves unread is thrown away"
            LeftoverReordered "new bytes are put before those that were left"
            ByteOfferedTwice "a consumed byte is offered again"
            FullReadIsLast "a read that filled the buffer is taken for the last"
            FinIgnored "a short read is taken for the last although a FIN is behind it"
            AgainIsTheEnd "a read that would block is taken for the end"
            InterruptBreaks "a signal during a read breaks the connection"
            RestOfAnswerLost "what the kernel does not take of an answer is thrown away"
            GatheredOvertaken "a large write overtakes what was gathered before it"
            ByteSentTwice "one byte that has left is sent again"
            FinBeforeOutput "FIN is sent while output waits"
            FinForgotten "FIN is noted and not sent"
            CloseWithoutFlush "a close does not wait for the output"
            CloseWithoutDrain "a close does not wait for what the peer still sends"
            CloseForgetsInput "a close forgets the input that is to be drained"
            DatagramSkipped "the second datagram of a batch is not offered"
            DatagramUnsent "one datagram more than the kernel took is taken off the queue"
            RecordsJoined "records that wait leave in one"
            MergedCutShort "a datagram is cut one byte short out of those that it was merged with"
            KeptDatagramsForgotten "merged datagrams that wait for the next turn are forgotten"
            StashForgotten "what a layer does not take at once is thrown away"
            HeldForgotten "what waits for a handshake is forgotten when that is over"
            TakenForPlain "what follows a switch to a layer is taken for plain"
            CutOffIsTheEnd "a stream that ends without its layer's end has ended well"
            TruncationUntold "a datagram that was cut off looks whole"
            DatagramSentTwice "a datagram that has left stays in the queue"
        }
        P3 {
            HighMarkIgnored "output above the high mark is not full"
            LimitIgnored "output above the limit is kept"
            InputLimitIgnored "unread input above the limit is kept"
            MemoryLimitIgnored "the limit of the whole loop is not looked at"
            OutputUnaccounted "queued output is not counted"
            UnreadNotGivenBack "unread input of a closed connection stays counted"
            UnsentNotGivenBack "unsent output of a closed connection stays counted"
            PressureForEver "the loop does not notice that memory is free again"
            DrainLimitIgnored "a closing connection drains without end"
            MailboxUnbounded "the mailbox takes any number of posts"
            DatagramQueueUnbounded "datagrams are queued without end"
        }
        P4 {
            TimerEarly "timers are filed a tick too early"
            SleepsTooLong "the loop sleeps three milliseconds too long"
            TimerNotCanceled "a canceled timer fires"
            TimerOutlives "the timers of a closed connection go on"
            YoungForgotten "new connections are never filed"
            HandshakeUntimed "a handshake has all the time in the world"
            ListenDeadlineForgotten "the deadline of a listener does not fire"
            IdleEarly "the idle limit is a tick too short"
            IdleNotRenewed "bytes that arrive do not renew the idle limit"
            IdleRenewedByNothing "a read for nothing renews the idle limit"
            StallNotRenewed "progress does not renew the limit of stalled output"
            StallForgotten "output that begins to wait is not timed"
            DeadlineNotRefiled "a deadline that was moved later is forgotten when the wheel looks"
            DeadlineFiresTwice "a read deadline fires again and again"
            WriteDeadlineAlways "a write deadline fires with nothing queued"
            PastDeadlineForgotten "a deadline that is set in the past never fires"
            LingerForgotten "a closing connection has all the time in the world"
            DialDeadlineIgnored "a dial has all the time in the world"
            RetryForgotten "a dial that waits for its next try is not filed"
            GraceIgnored "the grace of a stop does not end"
        }
        P5 {
            ExhaustionSpins "accept is tried in every turn without descriptors"
            BackoffForgotten "without descriptors, no back-off is filed"
            StarvedForgotten "listeners that starve are not told of room"
            LossEndsListener "a client that is lost ends its listener"
            CapIgnored "the loop's cap is not looked at"
            ListenerCapIgnored "a listener's cap is not looked at"
            ListenerCountKept "a listener counts connections that are closed"
            BurstForgotten "clients beyond the batch are forgotten"
            ListenerPauseIgnored "a paused listener accepts"
            ListenerResumeForgotten "a listener that resumes does not look"
            QueueLeftAtStop "a graceful stop does not empty the accept queue"
            ShedNotClosed "a client that is shed keeps its descriptor"
            RefusedNotClosed "a client that is refused keeps its descriptor"
            AttemptNotClosed "an attempt that failed keeps its descriptor"
            LoserKept "an attempt that lost the race goes on"
            DescriptorLeaked "a closed connection keeps its descriptor"
            DescriptorClosedTwice "a descriptor is closed twice"
        }
        P6 {
            SleepsOnReadyList "the loop sleeps although sources are on the ready list"
            BudgetForgotten "whoever stops at its budget is not on the ready list"
            BudgetIgnored "one connection is read as long as there is anything"
            TwoBudgets "whoever came off the ready list is served by its report once more"
            ResumeForgotten "a connection that resumes is not on the ready list"
            ReadAgainForgotten "a connection that asks for its leftovers is not on the ready list"
            DrainedNotReady "a connection whose output has drained is not on the ready list"
            FlushBudgetForgotten "a flush that stops at its budget is not on the ready list"
            TouchedForgotten "what one connection writes to another is not flushed"
            ParkedForgotten "those that waited for memory are not told"
            AcceptBudgetIgnored "a listener accepts as long as there is anybody"
            PostBudgetIgnored "all posts run in one turn"
            PostDoesNotRing "the loop is not told of a post"
            PostsForgotten "posts beyond the budget are forgotten"
            KeptNotReady "a socket that keeps merged datagrams is not on the ready list"
            WatchAskedOnce "a watched descriptor is not asked about again"
            DatagramBudgetIgnored "a socket receives as long as there is anything"
            DatagramBudgetForgotten "a socket that stops at its budget is not on the ready list"
        }
        P7 {
            GenerationKept "a slot's next tenant has the same name"
            StaleNamesAnswer "a name is honoured whatever its generation"
            PartMixedUp "every callback of a connection goes to the first part"
            StoppedTakesPosts "a loop that has stopped takes posts"
        }
        P8 {
            PanicEndsLoop "a panic goes through the loop"
            PanicCostsOthers "a panic costs the others the events of their turn"
            PanicForgiven "a connection whose callback panicked lives on"
            PanicUntold "a connection whose callback panicked has no on_close"
            HalfAnswerLeaves "half an answer leaves when its callback panics"
            AnswerToStranger "an answer stays in the buffer that the next callback gathers in"
            ErrIgnored "a callback's error does not close the connection"
            AbortIsClose "an abort sends FIN and not RST"
        }
    }
}
