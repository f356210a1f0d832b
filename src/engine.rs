//! What the rooms of the loop share: the kernel, the clock, the wheel, recycled buffers,
//! counters, and the lists that carry work from one step of a turn to a later one.
//!
//! It knows nothing of connections, listeners or the application; it hands them the tools.

use std::any::Any;
use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::cold::Spares;
use crate::config::{self, Config, Limits, Overload, PanicPolicy};
use crate::dialer::DialEnd;
use crate::endings::Endings;
use crate::error::{Cause, CloseReason, Error, Op};
use crate::faults::fault;
use crate::kernel::{AnyKernel, Errno, Event, Fault, Kernel, Ticket};
use crate::merged::MergedSpares;
use crate::outbound::Pool;
use crate::stats::{LogGate, Stats};
use crate::timer::{NEVER, Nanos, TICK, Wheel};
use crate::token::{ListenerId, Owner, SocketId, TimerId, Token};
use crate::young::Young;

/// No source has this name.
pub(crate) const NOBODY: Token = Token::WAKE;

/// The tools of one loop.
pub(crate) struct Engine {
    pub(crate) kernel: AnyKernel,
    pub(crate) config: Config,
    /// The idle limit of connections without one of their own.
    pub(crate) idle: Nanos,
    /// How long output may wait without progress.
    pub(crate) stall: Nanos,
    pub(crate) clock: Clock,
    pub(crate) wheel: Wheel,
    /// Connections that are not in the wheel yet.
    pub(crate) young: Young,
    pub(crate) pool: Pool,
    pub(crate) spares: Spares,
    pub(crate) merged: MergedSpares,
    pub(crate) stats: Stats,

    /// Sources with work that the kernel will not announce again; served next turn.
    pub(crate) ready: Vec<Token>,
    /// Connections touched from elsewhere than their own callback; flushed this turn.
    pub(crate) unflushed: Vec<Token>,
    /// Connections and datagram sockets that are over; `on_close` ends this turn.
    pub(crate) closing: Endings,
    /// Timers of the connection that is being retired.
    pub(crate) orphans: Vec<TimerId>,
    /// Listeners that wait for a descriptor or for room under a cap.
    pub(crate) starved: Vec<Token>,
    /// A connection or listener has given its descriptor and its slot back this turn.
    pub(crate) freed: bool,
    /// Sources that may not read or accept until buffered memory has fallen.
    pub(crate) parked: Vec<Token>,
    /// What listeners have to say to the handler, as soon as no callback runs.
    pub(crate) reports: Vec<Report>,

    /// Dialed connections that the handler has not been told of.
    pub(crate) connected: Vec<Token>,
    /// Dials that came to nothing, for the handler.
    pub(crate) dial_ends: Vec<DialEnd>,
    /// What datagram sockets have to say to the handler.
    pub(crate) socket_reports: Vec<SocketReport>,
    /// Look-ups under way, and who asked.
    pub(crate) lookups: Vec<(Ticket, Token)>,
    next_ticket: u64,

    /// The source whose callback is running, or [`NOBODY`]; it is flushed when the callback
    /// returns.
    pub(crate) current: Token,
    /// What the running callback has written to its own connection and nothing forbids to
    /// send at once when it returns: one buffer for the whole loop, so that an answer that
    /// the kernel takes never becomes a queue.
    pub(crate) gather: Vec<u8>,
    /// A write of fewer bytes than this is gathered; zero once the connection is not what it
    /// was when the callback began.
    room: usize,
    /// Bytes that may be gathered by a connection without limits of its own.
    pub(crate) gather_most: usize,
    /// Unconsumed input and queued output of all connections, in bytes.
    pub(crate) buffered: usize,
    /// `buffered` went above the limit and has not yet fallen to the relief level.
    pub(crate) pressed: bool,
    /// When the grace of a shutdown ends.
    pub(crate) stop_at: Option<Nanos>,
    /// That was asked for, or brought forward, and the loop has not looked at it.
    pub(crate) stop_is_news: bool,
    /// Connections that the loop may have open.
    pub(crate) max_connections: usize,
    /// That number comes from the descriptor limit, not from the application.
    pub(crate) cap_is_descriptors: bool,

    /// What wire bytes pass through on their way to a layer; empty until one is used.
    pub(crate) wire_in: Vec<u8>,
    /// The same, from a layer on the way out.
    pub(crate) wire_out: Vec<u8>,
    /// The turn in which handshakes went on last, and how many more may in it.
    handshakes: (u64, u32),

    /// Connections that the end of a shutdown's grace cut off.
    pub(crate) aborted: u64,
    busy: Nanos,
    longest_turn: Nanos,
    /// A turn that takes longer is slow.
    slow_turn: Nanos,
    /// Somebody looks at how long callbacks take.
    pub(crate) times_callbacks: bool,
    /// Turns during which callbacks are still timed because one turn was slow.
    watched_turns: u32,
    /// A simulated kernel writes down which callback runs.
    traced: bool,

    pub(crate) accept_gate: LogGate,
    panic_gate: LogGate,
    slow_gate: LogGate,
    pub(crate) missing_callback_said: bool,
}

impl Engine {
    pub(crate) fn new(mut kernel: AnyKernel, config: Config) -> Self {
        let clock = Clock::start(kernel.as_mut());
        let descriptor_limit = raise_or_read_limit(kernel.as_mut(), &config);
        let max_connections = connection_cap(&config, descriptor_limit);
        let cap_is_descriptors = config.max_connections.is_none();
        let events = config.events;
        let gather_most = gather_most(&config.limits);
        let times_callbacks = config.time_callbacks;
        let slow_turn = nanos(config.slow_turn);
        Self {
            pool: Pool::new(config.recycled_bytes),
            spares: Spares::default(),
            merged: MergedSpares::default(),
            idle: at_least_a_tick(config.idle_timeout),
            stall: at_least_a_tick(config.write_stall_timeout),
            kernel,
            config,
            clock,
            wheel: Wheel::with_room(config::FIRST_CONNECTIONS),
            young: Young::with_room(config::YOUNG),
            stats: Stats::default(),
            ready: Vec::with_capacity(events),
            unflushed: Vec::new(),
            closing: Endings::default(),
            orphans: Vec::new(),
            starved: Vec::new(),
            freed: false,
            parked: Vec::new(),
            reports: Vec::new(),
            connected: Vec::new(),
            dial_ends: Vec::new(),
            socket_reports: Vec::new(),
            lookups: Vec::new(),
            next_ticket: 0,
            current: NOBODY,
            gather: Vec::new(),
            room: 0,
            gather_most,
            buffered: 0,
            pressed: false,
            stop_at: None,
            stop_is_news: false,
            max_connections,
            cap_is_descriptors,
            wire_in: Vec::new(),
            wire_out: Vec::new(),
            handshakes: (0, 0),
            aborted: 0,
            busy: 0,
            longest_turn: 0,
            slow_turn,
            times_callbacks,
            watched_turns: 0,
            traced: false,
            accept_gate: LogGate::default(),
            panic_gate: LogGate::default(),
            slow_gate: LogGate::default(),
            missing_callback_said: false,
        }
    }

    /// How long the poll may wait: not at all while work is left over, else until the next
    /// deadline, else for ever ([`NEVER`]); never longer than `most`.
    pub(crate) fn wait(&mut self, most: Nanos, work_waits: bool) -> Nanos {
        let ready = self.ready.len() * usize::from(!fault!(SleepsOnReadyList));
        // In one sum, since mostly all of them are empty.
        let left_over = ready
            | self.unflushed.len()
            | self.closing.len()
            | self.connected.len()
            | self.dial_ends.len()
            | self.socket_reports.len();
        if work_waits || self.stop_is_news || left_over != 0 {
            return 0;
        }
        let next = self
            .wheel
            .next()
            .unwrap_or(NEVER)
            .min(self.young.until())
            .min(self.stop_at.unwrap_or(NEVER));
        if next == NEVER {
            return most;
        }
        let next = next + if fault!(SleepsTooLong) { 3 * TICK } else { 0 };
        most.min(next.saturating_sub(self.clock.measured))
    }

    /// Whether this turn has nothing to do beyond its events: nothing is due, nothing was left
    /// to a later step, nobody waits for memory or for a slot.
    pub(crate) fn is_quiet(&self) -> bool {
        let later = self.unflushed.len()
            | self.reports.len()
            | self.lookups.len()
            | self.connected.len()
            | self.dial_ends.len()
            | self.socket_reports.len();
        let due = self.wheel.is_due() || self.young.until() <= self.clock.nanos;
        later == 0 && !due && !self.has_ends()
    }

    /// Before the first callback, which may come long after the loop was made.
    pub(crate) fn start(&mut self) {
        self.clock.nanos = self.kernel.nanos();
        self.measure();
    }

    /// Reads the clock outside a turn: the next wait is measured from here.
    pub(crate) fn measure(&mut self) {
        self.clock.measured = self.kernel.nanos();
    }

    /// Polls, then reads the clock: `now` is this value all turn, and the wheel stands there.
    pub(crate) fn poll(&mut self, events: &mut Vec<Event>, wait: Nanos) -> io::Result<()> {
        if let Err(errno) = self.kernel.poll(events, wait, self.clock.measured) {
            events.clear();
            if errno != Errno(libc::EINTR) {
                return Err(poll_failed(errno));
            }
        }
        self.clock.nanos = self.kernel.nanos();
        self.wheel.advance(self.clock.nanos);
        // A panic that was let through may have left these behind. No byte of one connection
        // may end up on another.
        self.current = NOBODY;
        self.gather.clear();
        self.stats.turns += 1;
        self.stats.events += events.len() as u64;
        Ok(())
    }

    /// A callback of this source begins, which may gather so many bytes of output.
    #[inline]
    pub(crate) fn begin_callback(&mut self, token: Token, most: Option<usize>) {
        self.current = token;
        self.room = most.map_or(0, |most| most + 1);
    }

    /// Takes bytes that the running callback writes to its own connection, if they can wait
    /// until it returns. `false`: they are the connection's to queue, and so is what follows.
    #[inline]
    pub(crate) fn gathers(&mut self, token: Token, bytes: &[u8]) -> bool {
        let fits = bytes.len() < self.room && bytes.len() < config::WRITE_THROUGH;
        if !fits || self.current != token {
            return false;
        }
        self.room -= bytes.len();
        self.gather.extend_from_slice(bytes);
        true
    }

    /// Whether the callback that ran last has left its connection as it was: neither closed nor
    /// half closed, nothing queued, no other limits.
    #[inline]
    pub(crate) fn gathers_still(&self) -> bool {
        self.room > 0
    }

    /// What this connection writes from now on is its own to queue, or to refuse.
    #[inline]
    pub(crate) fn stop_gathering(&mut self, token: Token) {
        if self.current == token {
            self.room = 0;
        }
    }

    /// Reads the clock a second time: the wait that follows is measured from here, and so
    /// is what the turn took.
    pub(crate) fn end_turn(&mut self) {
        let now = self.kernel.nanos();
        let took = now.saturating_sub(self.clock.nanos);
        self.clock.measured = now;
        self.busy += took;
        self.longest_turn = self.longest_turn.max(took);
        if took > self.slow_turn {
            self.turn_was_slow(Duration::from_nanos(took));
        } else if self.watched_turns > 0 {
            self.watched_turns -= 1;
            self.times_callbacks = self.looks_at_callbacks();
        }
    }

    #[cold]
    fn turn_was_slow(&mut self, took: Duration) {
        self.watched_turns = config::SLOW_TURN_WATCH;
        self.times_callbacks = true;
        let Some(held_back) = self
            .slow_gate
            .pass(self.clock.measured, self.config.log_interval)
        else {
            return;
        };
        match self.stats.slowest_callback {
            Some((name, callback)) => log::warn!(
                target: "windlass::reactor",
                "a turn took {took:?}; the slowest callback timed so far is {name} with {callback:?} \
                 ({held_back} such lines held back)"
            ),
            None => log::warn!(
                target: "windlass::reactor",
                "a turn took {took:?}; callbacks are timed from now on ({held_back} such lines held back)"
            ),
        }
    }

    fn looks_at_callbacks(&self) -> bool {
        self.config.time_callbacks || self.traced || self.watched_turns > 0
    }

    /// Whether a simulated kernel writes down which callback runs.
    pub(crate) fn set_traced(&mut self, traced: bool) {
        self.traced = traced;
        self.times_callbacks = self.looks_at_callbacks();
    }

    /// A callback begins, of the source that is current if there is one, and somebody looks.
    /// Answers the time.
    pub(crate) fn callback_begins(&mut self, name: &'static str) -> Nanos {
        if let Some(kernel) = self.kernel.sim() {
            kernel.callback_begins(name, self.current);
        }
        self.kernel.nanos()
    }

    /// A connection is over, of which its `on_close` will tell.
    #[inline]
    pub(crate) fn note_end(&mut self, token: Token, reason: &CloseReason) {
        if self.traced {
            self.trace_end(token, reason);
        }
    }

    #[inline(never)]
    fn trace_end(&mut self, token: Token, reason: &CloseReason) {
        if let Some(kernel) = self.kernel.sim() {
            kernel.connection_ends(token, reason);
        }
    }

    pub(crate) fn callback_took(&mut self, name: &'static str, began: Nanos) {
        if !self.config.time_callbacks && self.watched_turns == 0 {
            return;
        }
        let took = Duration::from_nanos(self.kernel.nanos().saturating_sub(began));
        if self
            .stats
            .slowest_callback
            .is_none_or(|(_, slowest)| took > slowest)
        {
            self.stats.slowest_callback = Some((name, took));
        }
    }

    /// Opens a socket. What the application does to it meanwhile is a callback, although no
    /// [`Handler`](crate::Handler) has it: a panic costs that socket, and not the loop.
    pub(crate) fn open<R>(
        &mut self,
        open: impl FnOnce(&mut dyn Kernel) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        let kernel = self.kernel.as_mut();
        let outcome = match self.config.panic_policy {
            PanicPolicy::Isolate => catch_unwind(AssertUnwindSafe(|| open(kernel))),
            PanicPolicy::Propagate => Ok(open(kernel)),
        };
        outcome.unwrap_or_else(|payload| {
            self.panicked("prepare", words_of(payload.as_ref()));
            Err(Fault {
                call: "prepare",
                errno: Errno(libc::EIO),
            })
        })
    }

    pub(crate) fn panicked(&mut self, name: &'static str, words: &str) {
        self.stats.panics += 1;
        if let Some(held_back) = self
            .panic_gate
            .pass(self.clock.nanos, self.config.log_interval)
        {
            log::error!(
                target: "windlass::reactor",
                "{name} panicked: {words} ({held_back} such lines held back)"
            );
        }
    }

    /// Books a change of a connection's buffered bytes.
    #[inline]
    pub(crate) fn account(&mut self, before: usize, after: usize) {
        self.buffered = self.buffered + after - before;
        if self.buffered > self.config.memory_limit && !fault!(MemoryLimitIgnored) {
            self.pressed = true;
        }
    }

    /// Whether anything has ended, or given something back that others wait for.
    #[inline]
    pub(crate) fn has_ends(&self) -> bool {
        (self.closing.len() | self.parked.len()) != 0 || self.freed || self.pressed
    }

    /// Lets reading and accepting go on once enough memory is free again.
    pub(crate) fn ease_pressure(&mut self) {
        let (part, whole) = config::MEMORY_RELIEF;
        let pressed = self.pressed && !fault!(PressureForEver);
        if pressed && self.buffered <= self.config.memory_limit / whole * part {
            self.pressed = false;
        }
    }

    /// Whether one more handshake may go on in this turn: each may cost as much processor time
    /// as a thousand requests.
    pub(crate) fn may_shake_hands(&mut self) -> bool {
        if self.handshakes.0 != self.stats.turns {
            self.handshakes = (self.stats.turns, self.config.handshake_budget);
        }
        let (_, left) = &mut self.handshakes;
        let may = *left > 0;
        *left = left.saturating_sub(1);
        may
    }

    /// A new look-up of `asker`'s.
    pub(crate) fn ticket(&mut self, asker: Token) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.lookups.push((ticket, asker));
        ticket
    }

    /// Whose look-up that was; it is over.
    pub(crate) fn redeem(&mut self, ticket: Ticket) -> Option<Token> {
        let at = self
            .lookups
            .iter()
            .position(|&(other, _)| other == ticket)?;
        Some(self.lookups.swap_remove(at).1)
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stop_at.is_some()
    }

    /// Begins a graceful stop, or brings the end of a running one forward.
    pub(crate) fn stop(&mut self, grace: Duration) {
        let at = self.clock.nanos.saturating_add(nanos(grace)).min(NEVER - 1);
        self.stop_at = Some(self.stop_at.map_or(at, |earlier| earlier.min(at)));
        self.stop_is_news = true;
    }

    /// A copy of the counters, with the values that are derived filled in.
    pub(crate) fn snapshot(&self, open: usize) -> Stats {
        let mut stats = self.stats;
        stats.open = open as u64;
        stats.buffered = (self.buffered + self.gather.len()) as u64;
        stats.busy = Duration::from_nanos(self.busy);
        stats.longest_turn = Duration::from_nanos(self.longest_turn);
        stats.spun = self.kernel.spun();
        stats.elapsed = Duration::from_nanos(self.clock.nanos);
        stats
    }
}

/// Bytes that a callback may gather before they are queued: neither so many that they should
/// leave before it returns, nor so many that it has to be told to stop.
pub(crate) fn gather_most(limits: &Limits) -> usize {
    limits.high.min(config::GATHER_FLUSH - 1)
}

/// A limit that renews itself must lie ahead of now, or it would fire without end.
pub(crate) fn at_least_a_tick(limit: Duration) -> Nanos {
    nanos(limit).max(TICK)
}

/// What a listener has to say to the handler that opened it.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) listener: ListenerId,
    pub(crate) owner: Owner,
    pub(crate) error: Error,
}

/// What a datagram socket has to say to the handler that opened it.
#[derive(Debug)]
pub(crate) struct SocketReport {
    pub(crate) socket: SocketId,
    pub(crate) owner: Owner,
    pub(crate) error: Error,
}

/// The time of this turn, and its translation to nanoseconds since the loop was made.
#[derive(Debug)]
pub(crate) struct Clock {
    epoch: Instant,
    /// The time of this turn.
    pub(crate) nanos: Nanos,
    /// When the last turn ended, or later: waits are measured from here.
    measured: Nanos,
    /// The instant that was told last, and its time: all who ask in one turn are told the same.
    told: Cell<(Nanos, Instant)>,
    /// The instant that was translated last: in one turn, many set their limits to the same.
    translated: (Instant, Nanos),
}

impl Clock {
    fn start(kernel: &mut dyn Kernel) -> Self {
        let nanos = kernel.nanos();
        let epoch = kernel.epoch();
        Self {
            epoch,
            nanos,
            measured: nanos,
            told: Cell::new((0, epoch)),
            translated: (epoch, 0),
        }
    }

    /// The time of this turn, for the application.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        let (at, instant) = self.told.get();
        if at == self.nanos {
            return instant;
        }
        let instant = self.epoch + Duration::from_nanos(self.nanos);
        self.told.set((self.nanos, instant));
        instant
    }

    /// Nanoseconds since the epoch; an instant before it counts as the epoch itself.
    #[inline]
    pub(crate) fn at(&mut self, instant: Instant) -> Nanos {
        if instant != self.translated.0 {
            let since = instant.saturating_duration_since(self.epoch);
            self.translated = (instant, nanos(since));
        }
        self.translated.1
    }

    /// `None`, the absence of a deadline, is `NEVER`.
    #[inline]
    pub(crate) fn deadline(&mut self, at: Option<Instant>) -> Nanos {
        at.map_or(NEVER, |at| self.at(at))
    }
}

/// A duration in nanoseconds. Whatever does not fit (584 years) is `NEVER`.
pub(crate) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER)
}

#[cold]
fn poll_failed(errno: Errno) -> io::Error {
    let cause = Cause::Syscall {
        call: "poll",
        errno,
    };
    Error::new(Op::Run, None, None, cause).into()
}

/// What a panic said, if it said it in the usual way.
pub(crate) fn words_of(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

fn raise_or_read_limit(kernel: &mut dyn Kernel, config: &Config) -> u64 {
    if config.raise_descriptor_limit {
        match kernel.raise_descriptor_limit() {
            Ok(limit) => return limit,
            Err(errno) => {
                let why = io::Error::from(errno);
                log::warn!(target: "windlass::reactor", "the descriptor limit stays: {why}");
            }
        }
    }
    kernel.descriptor_limit()
}

fn connection_cap(config: &Config, descriptor_limit: u64) -> usize {
    let spare = usize::from(config.overload == Overload::Shed);
    let fits = usize::try_from(descriptor_limit)
        .unwrap_or(usize::MAX)
        .saturating_sub(config.reserved_descriptors.saturating_add(spare))
        .max(1);
    let Some(asked) = config.max_connections else {
        return fits;
    };
    if asked > fits {
        log::warn!(
            target: "windlass::reactor",
            "max_connections {asked} does not fit the descriptor limit {descriptor_limit} less {} reserved: \
             {fits} will fit, more will wait for descriptors",
            config.reserved_descriptors
        );
    }
    asked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::sim::SimKernel;

    fn clock() -> Clock {
        Clock::start(&mut SimKernel::new(1))
    }

    #[test]
    fn all_who_ask_in_one_turn_are_told_the_same_and_those_in_the_next_are_not() {
        let mut clock = clock();
        for turn in [5, 5, 1_000_000_007, u64::from(u32::MAX)] {
            clock.nanos = turn;
            let told = [clock.now(), clock.now()];
            assert_eq!(told, [clock.epoch + Duration::from_nanos(turn); 2]);
            assert_eq!(clock.at(told[0]), turn);
        }
    }

    #[test]
    fn an_instant_is_translated_whatever_was_asked_before() {
        let mut clock = clock();
        let after = |nanos| clock.epoch + Duration::from_nanos(nanos);
        let [one, other] = [after(1), after(3_000_000_000)];
        let before = clock.epoch.checked_sub(Duration::from_secs(1));
        for _ in 0..2 {
            assert_eq!((clock.at(one), clock.at(other)), (1, 3_000_000_000));
            assert_eq!((clock.at(other), clock.at(one)), (3_000_000_000, 1));
            assert_eq!(clock.at(clock.epoch), 0);
            assert!(before.is_none_or(|before| clock.at(before) == 0));
        }
        assert_eq!(clock.deadline(None), NEVER);
        assert_eq!(clock.deadline(Some(other)), 3_000_000_000);
    }
}
