//! The fault script: which call fails next and how, and how often each verb was called.
//!
//! Data only. It knows no descriptor and no connection; the kernel asks it before each
//! real effect.

use std::collections::{BTreeMap, VecDeque};

use super::net::Nanos;
use crate::kernel::Errno;

/// What a loop asks of its system: each can be made to fail, and is counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Call {
    /// Waiting for readiness: epoll_wait, kevent. A failure other than EINTR ends the loop.
    Poll,
    /// Registering a source for readiness.
    Register,
    /// Asking for one more report of a listener that may be ready still.
    Rearm,
    /// Taking a registration back.
    Deregister,
    /// socket(2), the first step of opening a listener and of dialing.
    Socket,
    /// setsockopt(2), on a listener, on an accepted connection, or before dialing.
    SetOption,
    /// bind(2).
    Bind,
    /// listen(2).
    Listen,
    /// Asking how long an accept queue is.
    Queue,
    /// accept4(2).
    Accept,
    /// recv(2).
    Read,
    /// send(2) and sendmsg(2).
    Write,
    /// shutdown(2) of the sending side.
    Shutdown,
    /// getsockname(2).
    LocalAddr,
    /// getpeername(2). A failure is followed by a new readiness report.
    PeerAddr,
    /// connect(2). EINPROGRESS, EALREADY and EINTR are answers and not failures: the
    /// attempt is under way all the same.
    Connect,
    /// close(2). Can't fail.
    Close,
    /// close(2) with RST. Can't fail.
    Reset,
    /// Opening a descriptor that is kept in reserve.
    Spare,
    /// Resolving a host name before listening: the loop waits for the answer.
    Lookup,
    /// Resolving a host name while the loop goes on. The answer is the failure.
    LookUp,
    /// Receiving datagrams: recvmsg(2), recvmmsg(2).
    Receive,
    /// Sending datagrams: sendmsg(2), sendmmsg(2).
    Send,
    /// Asking a socket for its error: getsockopt(2) of SO_ERROR. The failure is what the
    /// loop is told; EINPROGRESS, EALREADY and EINTR are followed by a new readiness report.
    TakeError,
    /// connect(2), to ask whether anybody serves a Unix socket.
    Knock,
    /// Asking what stands at a path: lstat(2).
    Stat,
    /// unlink(2).
    Unlink,
    /// Asking who is at the other end of a Unix socket.
    PeerCred,
}

/// What will go wrong.
#[derive(Debug, Default)]
pub(super) struct Script {
    errnos: BTreeMap<Call, VecDeque<Errno>>,
    /// Most bytes that one write call takes.
    pub(super) short_writes: Option<usize>,
    /// A connection that was reset in the queue fails its accept with ECONNABORTED (BSD);
    /// otherwise it is accepted and its first read fails (Linux).
    pub(super) abort_reset_accepts: bool,
    /// `rearm` answers `false`, as on kqueue.
    pub(super) cannot_rearm: bool,
    /// Accepted sockets do not have their listener's options.
    pub(super) forget_options: bool,
    /// Time that passes at the beginning of the next poll, at once.
    pub(super) standstill: Nanos,
}

impl Script {
    /// The next `times` calls of `call` fail with `errno`, after those scripted before.
    pub(super) fn fail(&mut self, call: Call, errno: Errno, times: usize) {
        let queue = self.errnos.entry(call).or_default();
        queue.extend(std::iter::repeat_n(errno, times));
    }

    /// How this call fails, if it was told to.
    pub(super) fn next(&mut self, call: Call) -> Option<Errno> {
        self.errnos.get_mut(&call)?.pop_front()
    }

    /// Failures that have not happened yet.
    pub(super) fn pending(&self) -> usize {
        self.errnos.values().map(VecDeque::len).sum()
    }

    pub(super) fn pending_of(&self, call: Call) -> usize {
        self.errnos.get(&call).map_or(0, VecDeque::len)
    }

    /// Forgets the failures that have not happened yet.
    pub(super) fn clear(&mut self) {
        self.errnos.clear();
    }
}

/// How often each verb was called.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<Call, u64>);

impl Tally {
    pub(super) fn count(&mut self, call: Call) {
        *self.0.entry(call).or_default() += 1;
    }

    pub(super) fn of(&self, call: Call) -> u64 {
        self.0.get(&call).copied().unwrap_or(0)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// SplitMix64: the whole source of chance in a simulated world.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn roll(&mut self) -> u64 {
        // The published constants of SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripted_failures_come_in_order_and_then_stop() {
        let mut script = Script::default();
        script.fail(Call::Read, Errno(libc::EINTR), 2);
        script.fail(Call::Read, Errno(libc::EAGAIN), 1);
        assert_eq!(script.next(Call::Write), None);
        let seen: Vec<_> = std::iter::from_fn(|| script.next(Call::Read)).collect();
        assert_eq!(
            seen,
            [Errno(libc::EINTR), Errno(libc::EINTR), Errno(libc::EAGAIN)]
        );
    }

    #[test]
    fn the_dice_repeat_for_the_same_seed_only() {
        let rolls = |seed| {
            let mut dice = Dice::new(seed);
            [dice.roll(), dice.roll(), dice.roll()]
        };
        assert_eq!(rolls(7), rolls(7));
        assert_ne!(rolls(7), rolls(8));
        // The first output for seed 0, from the reference implementation.
        assert_eq!(rolls(0)[0], 0xe220_a839_7b1d_cdaf);
    }
}
