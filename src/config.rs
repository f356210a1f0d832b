//! Every limit of the crate: its default, what it protects and what raising it costs.
//!
//! No other room holds a number that decides how much memory, time or work somebody may
//! take. Constants that only describe a format or a platform stay where they are used.

use std::time::Duration;

use crate::error::{Cause, Error, Op};
use crate::outbound::Watermarks;

/// What to do with clients while no descriptor is left for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Overload {
    /// Leave them in the kernel's queue and serve them as soon as a descriptor comes
    /// back. Short bursts succeed, only later. The default.
    #[default]
    Wait,
    /// Close them at once, at most a batch per turn, with the help of a spare descriptor.
    /// Suits clients that fail over to another server. It begins where the descriptors
    /// end: at the cap that [`Config::max_connections`] computes from their limit, or, if
    /// they run out before that, when accept fails. A cap that you set yourself makes
    /// clients wait. Best effort when other threads open files: if the spare cannot be
    /// had, this is `Wait`.
    Shed,
}

/// What a panic in a callback does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum PanicPolicy {
    /// The connection whose callback panicked is aborted with
    /// [`CloseReason::Panic`](crate::CloseReason::Panic); the loop lives on. Needs
    /// `panic = "unwind"`. The default.
    #[default]
    Isolate,
    /// The panic leaves [`Reactor::run`](crate::Reactor::run), for a process that is to
    /// end. Drop the reactor then: what the broken turn had fetched is lost, so another
    /// turn would leave connections waiting.
    Propagate,
}

/// Limits of one connection: those of the loop ([`Config::limits`]), unless it was given
/// others by [`Conn::set_limits`](crate::Conn::set_limits).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Queued output at which the connection counts as drained again: `on_write` fires and
    /// reading resumes. 64 KiB. Higher refills the socket sooner and holds more memory.
    pub low: usize,
    /// Queued output above which `write` answers [`Flow::Full`](crate::Flow::Full) and
    /// reading from that peer pauses by itself. 256 KiB. Higher tolerates longer stalls of
    /// the peer for that much memory per slow connection.
    pub high: usize,
    /// Queued output above which the connection is aborted with
    /// [`CloseReason::Overflow`](crate::CloseReason::Overflow). 16 MiB. Protects the
    /// process from handlers that ignore `Full`; it is the most output that one peer can
    /// make us hold.
    pub limit: usize,
    /// Unconsumed input above which the connection is closed with
    /// [`CloseReason::InputTooLong`](crate::CloseReason::InputTooLong). 1 MiB. It is the
    /// longest message that a handler can wait for without consuming; raising it raises
    /// what one peer can make us hold by as much.
    pub input: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            low: 64 * KIB,
            high: 256 * KIB,
            limit: 16 * MIB,
            input: MIB,
        }
    }
}

impl Limits {
    /// `Ok` if `low <= high <= limit` and there is room for at least one byte of input.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.low > self.high || self.high > self.limit {
            return Err(format!(
                "limits must rise: low {} <= high {} <= limit {}",
                self.low, self.high, self.limit
            ));
        }
        if self.input == 0 {
            return Err("the input limit must be at least 1 byte".to_owned());
        }
        Ok(())
    }

    pub(crate) fn watermarks(&self) -> Watermarks {
        Watermarks {
            low: self.low,
            high: self.high,
            limit: self.limit,
        }
    }
}

/// Everything that can be set about a loop. Start from [`Config::default`] and change fields.
///
/// ```
/// let mut config = windlass::Config::default();
/// config.idle_timeout = std::time::Duration::from_secs(30);
/// config.limits.input = 64 * 1024;
/// # assert!(config.check().is_ok());
/// ```
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Config {
    // Time.
    /// Silence in both directions (no byte received, none taken by the kernel) after which
    /// `on_timeout(Idle)` fires. 5 minutes. Protects descriptors from clients that vanished
    /// without a word. Longer keeps quiet clients and ghosts alike.
    /// [`Duration::MAX`] turns it off, which this crate advises against.
    pub idle_timeout: Duration,
    /// Time that queued output may wait without one byte taken by the kernel, after which
    /// `on_timeout(WriteStall)` fires. 30 seconds. Protects the output memory from peers
    /// that stopped reading.
    pub write_stall_timeout: Duration,
    /// Time that a closing connection may take to flush its output and to hear the peer's
    /// FIN. 10 seconds. Longer delivers more to very slow readers; each such connection
    /// holds a descriptor for that long.
    pub linger: Duration,

    /// Time that a [`Layer`](crate::Layer) may take for its handshake, from the accept, the
    /// connect or the switch on. 10 seconds. Protects descriptors and memory from peers that
    /// begin and do not go on; longer suits peers behind very slow lines.
    pub handshake_timeout: Duration,

    /// Time that a dial may take, with the look-up of the name and all attempts. 30 seconds.
    /// Longer waits for hosts that will hardly answer any more.
    pub dial_timeout: Duration,
    /// Time after which the next address of a dial is tried beside those that have not
    /// answered. 250 ms, as RFC 8305 recommends. Shorter finds the living address sooner
    /// and opens connections that nobody needs.
    pub attempt_delay: Duration,

    // Memory.
    /// The one buffer that all connections are read into. 256 KiB. Larger takes fewer
    /// calls for bulk input; it exists once per loop, not per connection. A record (network
    /// `unixpacket`) that is longer ends its connection.
    pub read_buffer: usize,
    /// Limits of each connection that was not given others.
    pub limits: Limits,
    /// Unconsumed input and queued output of all connections together. 1 GiB. Above it
    /// nothing is accepted and nothing is read until it has fallen to three quarters.
    /// Set it to what the machine can spare for this loop.
    pub memory_limit: usize,
    /// Bytes of datagrams that may wait to be sent on one socket, 64 more counted for each.
    /// 256 KiB. What does not fit is dropped, by [`DropPolicy`](crate::DropPolicy).
    pub datagram_queue: usize,
    /// The longest datagram that arrives whole. 64 KiB: none is longer. Together with
    /// [`datagram_batch`](Self::datagram_batch) it makes a buffer of 2 MiB, which exists once
    /// per loop, from the first datagram on; memory that no datagram reaches is not touched.
    pub max_datagram: usize,
    /// Datagrams that one receive call may bring, where the system has such a call. 32.
    pub datagram_batch: usize,
    /// Bytes of freed buffers that the loop keeps for use again. 4 MiB. Protects the
    /// steady state from the allocator; the memory stays taken while idle.
    pub recycled_bytes: usize,
    /// Closures that may wait in the mailbox; one more is answered `Full`. 65,536.
    /// Protects the loop's memory from threads that post faster than it runs.
    pub mailbox_limit: usize,

    // Work per turn.
    /// Bytes that one connection may be read in one turn before the others have theirs.
    /// 256 KiB. Higher favours bulk transfers over the latency of everybody else.
    pub read_budget: usize,
    /// Read calls on one connection in one turn. 16.
    pub read_calls: u32,
    /// Connections that one listener may accept in one turn. 64. Higher empties a burst
    /// sooner and keeps established connections waiting for it.
    pub accept_budget: u32,
    /// Datagrams that one socket may receive in one turn before the others have theirs; the
    /// call that reaches it may bring some more. 256.
    pub datagram_budget: usize,
    /// Connections whose [`Layer`](crate::Layer) may go on with its handshake in one turn, one
    /// step each. 2. A step may cost a signature, up to a millisecond; higher lets more
    /// newcomers in and keeps established connections waiting for them.
    pub handshake_budget: u32,
    /// Posted closures run in one turn. 1,024.
    pub post_budget: usize,
    /// Bytes that a closing connection may still receive and throw away while its peer
    /// reads the end of our output. 4 MiB. Beyond it the peer is cut off with RST.
    pub drain_limit: usize,
    /// Events fetched by one poll, at first. 1,024. Doubled whenever a poll fills it.
    pub events: usize,
    /// The most events that one poll may fetch. 16,384 (of 16 bytes each).
    pub max_events: usize,
    /// Time that each wait goes on polling before the thread sleeps. Zero: it sleeps at once.
    /// At most one second. Saves the wake-up of an event that comes within it, which is
    /// most of the latency of a loop with little to do; 50 µs is a beginning. It costs processor
    /// time while nothing happens, up to the whole of a processor ([`Stats::spun`] counts it),
    /// so it is for loops that have one to themselves: where threads share a processor, the
    /// loop that polls keeps from running whom it waits for. Polling ends at once when an
    /// event or a posted closure comes, a timer is due, or the wait that
    /// [`turn`](crate::Reactor::turn) was asked for is over. A loop with work left does not
    /// wait, and so does not poll longer either. In the simulated world nothing is polled:
    /// its time passes only while the loop sleeps. Not to be confused with `SO_BUSY_POLL`,
    /// which polls the network card.
    ///
    /// [`Stats::spun`]: crate::Stats::spun
    pub busy_poll: Duration,

    /// Names that may wait for the resolver at the same time; a dial beyond that fails at
    /// once. 1,024. Protects the loop's memory while the resolver is slow.
    pub max_lookups: usize,

    // Descriptors.
    /// Connections that the loop may have open; more wait in the kernel's queue.
    /// `None`: the descriptor limit less [`reserved_descriptors`](Self::reserved_descriptors).
    pub max_connections: Option<usize>,
    /// Descriptors left to the rest of the process when `max_connections` is computed:
    /// the loop's own, log files, what the handler opens. 32.
    pub reserved_descriptors: usize,
    /// Raise the soft descriptor limit of the process to the hard one at start. Off:
    /// a library does not change the process unasked.
    pub raise_descriptor_limit: bool,
    /// First wait after accept failed for want of descriptors or memory, or lost one client
    /// after another. 10 ms; doubled up to
    /// [`accept_backoff_max`](Self::accept_backoff_max). A descriptor that our own loop
    /// frees ends the wait at once.
    pub accept_backoff_min: Duration,
    /// Longest such wait. 40 ms: queued clients are served within 50 ms of a descriptor
    /// that something else freed. One failed accept each: nothing.
    pub accept_backoff_max: Duration,
    /// What becomes of clients while descriptors are out. [`Overload::Wait`].
    pub overload: Overload,

    // Watching.
    /// What a panic in a callback does. [`PanicPolicy::Isolate`].
    pub panic_policy: PanicPolicy,
    /// A turn longer than this is logged; while it is being looked into, the slowest
    /// callback is named. 100 ms.
    pub slow_turn: Duration,
    /// Time every callback, not only after a slow turn. Off: it costs two clock reads each.
    pub time_callbacks: bool,
    /// Least time between two log lines of one kind that a peer can cause. 5 seconds; what
    /// was held back is counted in the next.
    pub log_interval: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(300),
            write_stall_timeout: Duration::from_secs(30),
            linger: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            dial_timeout: Duration::from_secs(30),
            attempt_delay: Duration::from_millis(250),
            read_buffer: 256 * KIB,
            limits: Limits::default(),
            memory_limit: 1024 * MIB,
            datagram_queue: 256 * KIB,
            max_datagram: 64 * KIB,
            datagram_batch: 32,
            recycled_bytes: 4 * MIB,
            mailbox_limit: 65_536,
            read_budget: 256 * KIB,
            read_calls: 16,
            accept_budget: 64,
            datagram_budget: 256,
            handshake_budget: 2,
            post_budget: 1024,
            drain_limit: 4 * MIB,
            events: 1024,
            max_events: 16_384,
            busy_poll: Duration::ZERO,
            max_lookups: 1024,
            max_connections: None,
            reserved_descriptors: 32,
            raise_descriptor_limit: false,
            accept_backoff_min: Duration::from_millis(10),
            accept_backoff_max: Duration::from_millis(40),
            overload: Overload::Wait,
            panic_policy: PanicPolicy::Isolate,
            slow_turn: Duration::from_millis(100),
            time_callbacks: false,
            log_interval: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// Says whether the values make sense together; `Reactor::with_config` asks first.
    ///
    /// # Errors
    ///
    /// A sentence that names the field at fault.
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |why: String| Err(Error::new(Op::Run, None, None, Cause::Invalid(why)));
        if let Err(why) = self.limits.check() {
            return refuse(why);
        }
        let counts = [
            ("read_buffer", self.read_buffer),
            ("read_budget", self.read_budget),
            ("read_calls", self.read_calls as usize),
            ("accept_budget", self.accept_budget as usize),
            ("handshake_budget", self.handshake_budget as usize),
            ("post_budget", self.post_budget),
            ("mailbox_limit", self.mailbox_limit),
            ("memory_limit", self.memory_limit),
            ("events", self.events),
            ("datagram_budget", self.datagram_budget),
            ("datagram_batch", self.datagram_batch),
            ("max_datagram", self.max_datagram),
        ];
        for (name, value) in counts {
            if value == 0 {
                return refuse(format!("{name} must be at least 1"));
            }
        }
        let sizes = [
            ("read_buffer", self.read_buffer, MOST_READ_BUFFER),
            ("max_events", self.max_events, MOST_EVENTS),
            ("datagram_batch", self.datagram_batch, MOST_PLACES),
            ("max_datagram", self.max_datagram, MOST_DATAGRAM),
        ];
        for (name, value, most) in sizes {
            if value > most {
                return refuse(format!("{name} must be at most {most}"));
            }
        }
        if self.max_connections == Some(0) {
            return refuse("max_connections must be at least 1, or None".to_owned());
        }
        if self.busy_poll > MOST_BUSY_POLL {
            return refuse(format!("busy_poll must be at most {MOST_BUSY_POLL:?}"));
        }
        if self.max_events < self.events {
            return refuse("max_events must be at least events".to_owned());
        }
        if self.accept_backoff_min.is_zero() || self.accept_backoff_max < self.accept_backoff_min {
            return refuse(
                "accept_backoff_min must be above zero and at most accept_backoff_max".to_owned(),
            );
        }
        Ok(())
    }
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Largest read buffer: one call reads no more (Go's `maxRW`), and it is allocated at once.
const MOST_READ_BUFFER: usize = 1024 * MIB;

/// Most events that one poll can be asked for: a million sources ready at the same time.
const MOST_EVENTS: usize = 1 << 20;

/// Longest time that a wait may go without sleep: what a wake-up costs, some microseconds, is
/// nothing to whoever has waited a second.
const MOST_BUSY_POLL: Duration = Duration::from_secs(1);

/// Most datagrams of one receive call (`UIO_MAXIOV` of Linux).
const MOST_PLACES: usize = 1024;

/// No datagram is longer: 65,507 bytes over UDP, less than a MiB on Unix sockets whose buffers
/// were not raised.
const MOST_DATAGRAM: usize = MIB;

/// Above the memory limit reading and accepting stop; they go on when buffered bytes have
/// fallen to this share of it, so that the loop does not flap around the limit.
pub(crate) const MEMORY_RELIEF: (usize, usize) = (3, 4);

/// A write of at least this many bytes goes straight to the socket while nothing forbids
/// it; a smaller one is copied and leaves with its neighbours after the callback.
pub(crate) const WRITE_THROUGH: usize = 16 * KIB;

/// Leftover input up to this size is copied before new bytes in the shared read buffer;
/// a longer leftover is read on to where it lies, so that a long message costs O(n).
pub(crate) const LEFTOVER_JOIN: usize = 4 * KIB;

/// Room made behind a long leftover for one read call.
pub(crate) const LEFTOVER_READ: usize = 64 * KIB;

/// Vectored calls that one flush may make before the others have their turn.
pub(crate) const FLUSH_CALLS: u32 = 16;

/// Clients lost at a stretch (ECONNABORTED and its kin) after which a listener waits as it
/// does without descriptors. A storm is survived at thousands per second; an accept that is
/// refused for ever costs next to nothing.
pub(crate) const LOST_IN_A_ROW: u32 = 64;

/// Errors that follow each other on a datagram socket, with nothing received between them,
/// after which it rests for [`RETRY_FIRST`] and longer.
pub(crate) const ERRORS_IN_A_ROW: u32 = 64;

/// First and longest wait before something is tried again that nobody announces: a datagram
/// for which the kernel had no memory, a Unix receiver that was full, a Unix listener whose
/// accept queue was.
pub(crate) const RETRY_FIRST: Duration = Duration::from_millis(1);
/// See [`RETRY_FIRST`].
pub(crate) const RETRY_MOST: Duration = Duration::from_millis(50);

/// Waits that are to end no earlier than this have the system's timer stay set from one to the
/// next, where the system has one that does (timerfd on Linux). 100 ms. A wait that ends sooner
/// has an end of its own, since setting the timer anew for each would be a system call more.
#[cfg(target_os = "linux")]
pub(crate) const ALARM_FROM: Duration = Duration::from_millis(100);

/// Connections that wait, before they have a place in the timer wheel, for whether they will
/// need one.
pub(crate) const YOUNG: usize = 1024;

/// Connections that tables have room for from the start. Until they are used, the room costs
/// half a megabyte of addresses and no memory.
pub(crate) const FIRST_CONNECTIONS: usize = 4096;

/// Boxes for the rare fields of a connection that wait to be used again, about 80 KiB of them.
/// More would serve a loop in which more connections at once begin and end to need one.
pub(crate) const COLD_BOXES: usize = 256;

/// Timers that such a box has room for while it waits; the room for more is freed.
pub(crate) const COLD_TIMERS: usize = 4;

/// Datagrams that one call receives where the kernel merges them, each of which may be many.
/// More would be memory for a burst of bursts: these are half a megabyte.
pub(crate) const MERGED_PLACES: usize = 8;

/// The longest one: UDP has 16 bits for its length (and Linux merges no further).
pub(crate) const MERGED_LONGEST: usize = 64 * KIB;

/// Sets of such places that wait to be used again. One is enough, unless several sockets stop
/// in the middle of what they have received.
pub(crate) const MERGED_SPARES: usize = 2;

/// How much longer the next batch of accepts is when re-arming shows that more clients wait:
/// from one to the whole budget in two steps.
pub(crate) const BATCH_GROWTH: u32 = 8;

/// Turns during which callbacks are timed one by one after a slow turn was seen.
pub(crate) const SLOW_TURN_WATCH: u32 = 256;

/// Most wire bytes that are received at once for a layer: four records of TLS. More takes fewer
/// calls for bulk input, and is the most that one connection may have to keep while its layer
/// takes no more.
pub(crate) const LAYER_READ: usize = 64 * KIB;

/// The same for a handshake while memory is short. It has to go on, since output may wait for
/// it; what comes with its end is kept, and counts.
pub(crate) const LAYER_READ_SHORT: usize = 4 * KIB;

/// Wire output of a layer that may be queued while plain output waits. Less takes more calls
/// for bulk output; more holds that much twice for each connection whose peer is slow.
pub(crate) const LAYER_AHEAD: usize = 64 * KIB;

/// Wire bytes that a layer may have queued that carry nothing plain: its part of a handshake,
/// answers to questions of the peer's layer. A peer that asks and does not read costs no more.
pub(crate) const LAYER_WORDS: usize = 256 * KIB;

/// Gathered output at which a flush does not wait for the end of the callback.
pub(crate) const GATHER_FLUSH: usize = 64 * KIB;

/// First and longest wait of a default [`Backoff`](crate::Backoff). Shorter finds a server
/// that is back sooner; many clients that try often keep a weak one down.
pub(crate) const RECONNECT_FIRST: Duration = Duration::from_millis(100);
/// See [`RECONNECT_FIRST`].
pub(crate) const RECONNECT_MOST: Duration = Duration::from_secs(30);

/// Attempts that are made again when the kernel chose a port that led to ourselves, or
/// found none. Two, as in Go (`tcpsock_posix.go`).
pub(crate) const PORT_REPEATS: u32 = 2;

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::sim::{Call, World};
    use crate::{Conn, Handler, Input, ListenerId};

    #[test]
    fn the_defaults_pass_their_own_check() {
        assert!(Config::default().check().is_ok());
    }

    #[test]
    fn limits_that_do_not_rise_are_refused_with_a_sentence() {
        let mut config = Config::default();
        config.limits.low = config.limits.high + 1;
        let text = config.check().unwrap_err().to_string();
        assert!(text.contains("limits must rise"), "{text}");
    }

    #[test]
    fn sizes_that_no_machine_has_are_refused_by_name() {
        let huge = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(huge(|config| config.read_buffer = usize::MAX).contains("read_buffer"));
        assert!(huge(|config| config.max_events = usize::MAX).contains("max_events"));
        assert!(huge(|config| config.max_connections = Some(0)).contains("max_connections"));
        assert!(huge(|config| config.busy_poll = Duration::MAX).contains("busy_poll"));
    }

    #[test]
    fn a_zero_budget_is_refused_by_name() {
        let config = Config {
            accept_budget: 0,
            ..Config::default()
        };
        let text = config.check().unwrap_err().to_string();
        assert!(text.contains("accept_budget"), "{text}");
    }

    #[test]
    fn no_extreme_value_ends_in_a_panic() {
        let mut config = Config {
            accept_backoff_min: Duration::MAX,
            accept_backoff_max: Duration::MAX,
            reserved_descriptors: usize::MAX,
            max_connections: Some(usize::MAX),
            slow_turn: Duration::MAX,
            log_interval: Duration::MAX,
            memory_limit: usize::MAX,
            drain_limit: usize::MAX,
            mailbox_limit: usize::MAX,
            ..timeless()
        };
        config.limits.limit = usize::MAX;
        config.limits.input = usize::MAX;
        let shedding = Config {
            overload: Overload::Shed,
            ..config.clone()
        };
        drop(World::with_config(1, Writer, shedding));
        let mut world = World::with_config(1, Writer, config);
        let addr = world.listen("127.0.0.1:7");
        world.faults().fail(Call::Accept, libc::EMFILE, 1);
        let client = world.connect(addr);
        world.advance(Duration::from_secs(1000));
        let other = world.connect(addr);
        world.send(other, b"x");
        world.run();
        assert_eq!(world.received(other), b"hello");
        assert_eq!(world.received(client), b"hello");
    }

    fn timeless() -> Config {
        Config {
            idle_timeout: Duration::MAX,
            write_stall_timeout: Duration::MAX,
            linger: Duration::MAX,
            ..Config::default()
        }
    }

    /// Greets, and sets every time limit to what no clock reaches.
    struct Writer;

    impl Handler for Writer {
        type Session = ();

        fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
            conn.write(b"hello");
            conn.set_idle_timeout(Some(Duration::MAX));
            let far = (0..64)
                .rev()
                .find_map(|bits| conn.now().checked_add(Duration::from_secs(1 << bits)));
            conn.set_deadline(far);
            conn.set_timer(far.unwrap());
            conn.cx().set_timer(far.unwrap());
            Ok(())
        }

        fn on_read(
            &mut self,
            conn: &mut Conn<'_>,
            _: &mut (),
            _: &mut Input<'_>,
        ) -> io::Result<()> {
            conn.close();
            conn.cx().shutdown(Duration::MAX);
            Ok(())
        }
    }

    #[test]
    fn no_default_deadline_is_never() {
        let config = Config::default();
        for limit in [
            config.idle_timeout,
            config.write_stall_timeout,
            config.linger,
            config.handshake_timeout,
            config.dial_timeout,
        ] {
            assert!(limit < Duration::from_secs(3600));
        }
    }
}
