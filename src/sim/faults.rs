//! What goes wrong: the script of a world, in the words of whoever writes tests.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use crate::kernel::Errno;
use crate::kernel::sim::{Call, SimKernel};

/// What goes wrong in a world, from now on.
///
/// ```
/// # struct App;
/// # impl windlass::Handler for App { type Session = (); }
/// # let mut world = windlass::sim::World::new(1, App);
/// use windlass::sim::Call;
/// const EMFILE: i32 = 24;
/// world.faults().fail(Call::Accept, EMFILE, 3).short_writes(Some(1));
/// ```
pub struct Faults<'w>(pub(super) &'w mut SimKernel);

impl Faults<'_> {
    /// The next `times` calls of this kind fail with that errno, after those that were
    /// told to fail before, and do nothing else.
    ///
    /// EAGAIN from a read, write, accept, receive or send is followed by a new readiness
    /// report, as a real kernel owes one. What else is special is said at [`Call`].
    pub fn fail(self, call: Call, errno: i32, times: usize) -> Self {
        self.0.fail(call, Errno(errno), times);
        self
    }

    /// What clients send arrives in pieces of at most that many bytes, each announced.
    pub fn short_reads(self, most: Option<usize>) -> Self {
        self.0.short_reads(most);
        self
    }

    /// A write takes at most that many bytes, although there is room for more and nobody
    /// announces it.
    pub fn short_writes(self, most: Option<usize>) -> Self {
        self.0.short_writes(most);
        self
    }

    /// The next poll reports every source as ready, true or not; but for the descriptors
    /// that are watched, which are real, so that a read would block.
    pub fn spurious(self) -> Self {
        self.0.spurious_all();
        self
    }

    /// One in `odds` datagrams between IP sockets is lost, by the world's dice. 1 loses all
    /// of them, 0 none.
    pub fn loss(self, odds: u64) -> Self {
        self.0.set_loss(odds);
        self
    }

    /// One in `odds` datagrams between IP sockets arrives twice, by the world's dice. 1
    /// doubles all of them, 0 none.
    pub fn duplicates(self, odds: u64) -> Self {
        self.0.set_duplicates(odds);
        self
    }

    /// Each datagram between IP sockets takes up to `most` longer than the
    /// [`latency`](Self::latency), by the world's dice: those sent in between overtake it.
    pub fn reordering(self, most: Duration) -> Self {
        self.0.set_disorder(most);
        self
    }

    /// Whether the send buffers of the loop's datagram sockets are full: sends fail with
    /// EAGAIN until they are not, which is reported.
    pub fn send_buffers_full(self, full: bool) -> Self {
        self.0.set_send_buffers_full(full);
        self
    }

    /// Datagrams that one call sends or receives at most, as on systems without sendmmsg
    /// and recvmmsg, where it is one.
    pub fn short_batches(self, most: Option<usize>) -> Self {
        self.0.short_batches(most);
        self
    }

    /// The loop stands still for that long when it turns next, as a stopped process or a
    /// machine asleep does: time passes at once, everybody else goes on meanwhile, and
    /// whatever has come or fallen due is found when it is over, in one turn.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # struct App;
    /// # impl windlass::Handler for App { type Session = (); }
    /// # let mut world = windlass::sim::World::new(1, App);
    /// let before = world.now();
    /// world.faults().stand_still(Duration::from_secs(3600));
    /// world.run();
    /// assert_eq!(world.now() - before, Duration::from_secs(3600));
    /// ```
    pub fn stand_still(self, time: Duration) -> Self {
        self.0.stand_still(time);
        self
    }

    /// What [`Context::wall`](crate::Context::wall) answers now; it goes on from there.
    /// No deadline depends on it. At first it is the beginning of 2026, UTC.
    pub fn wall_clock(self, now: SystemTime) -> Self {
        self.0.set_wall(now);
        self
    }

    /// Time that bytes, datagrams, FIN and RST take from one end to the other.
    pub fn latency(self, one_way: Duration) -> Self {
        self.0.set_latency(one_way);
        self
    }

    /// Buffers of connections made from now on: bytes on the sending and on the receiving
    /// side, in each direction.
    pub fn buffers(self, send: usize, receive: usize) -> Self {
        self.0.set_buffers(send, receive);
        self
    }

    /// Descriptors that may be open; more is EMFILE. 1,024 at first. The loop computes its
    /// default cap on connections once, before this can be called; see
    /// [`Config::max_connections`](crate::Config::max_connections).
    pub fn descriptor_limit(self, open: u64) -> Self {
        self.0.set_descriptor_limit(open, open);
        self
    }

    /// Whether descriptor numbers are used again, the lowest first, as real systems do.
    /// Off at first: no number comes twice, and every use of a closed one is seen.
    pub fn reuse_descriptors(self, reuse: bool) -> Self {
        self.0.reuse_descriptors(reuse);
        self
    }

    /// Whether a registration can be armed anew (epoll, the default) or not (kqueue).
    pub fn rearm(self, works: bool) -> Self {
        self.0.set_rearm(works);
        self
    }

    /// Whether a client that reset while it was queued fails the accept with ECONNABORTED
    /// (BSD), or only its first read (Linux, the default).
    pub fn abort_reset_accepts(self, abort: bool) -> Self {
        self.0.abort_reset_accepts(abort);
        self
    }

    /// Whether accepted sockets have their listener's options (the default).
    pub fn inherit_options(self, inherit: bool) -> Self {
        self.0.inherit_options(inherit);
        self
    }

    /// Readiness reports that one poll brings at most.
    pub fn events_per_poll(self, events: usize) -> Self {
        self.0.set_batch(events);
        self
    }

    /// The longest accept queue that a listener may ask for. 4,096 at first.
    pub fn backlog_limit(self, clients: u32) -> Self {
        self.0.set_backlog_limit(clients);
        self
    }

    /// What a host name resolves to. Only `localhost` is known at first.
    pub fn name(self, host: &str, addrs: Vec<IpAddr>) -> Self {
        self.0.set_name(host, addrs);
        self
    }

    /// Failures that were scripted by [`fail`](Self::fail) and have not happened yet.
    pub fn pending(&self) -> usize {
        self.0.pending_faults()
    }

    /// The same of one kind of call.
    pub fn pending_of(&self, call: Call) -> usize {
        self.0.pending_faults_of(call)
    }

    /// Takes back the failures that were scripted by [`fail`](Self::fail).
    pub fn clear(self) -> Self {
        self.0.clear_faults();
        self
    }
}

impl fmt::Debug for Faults<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults")
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}
