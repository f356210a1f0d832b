//! What is known about one loop from outside: a model of every connection, dial and timer,
//! written by the handler's callbacks, and judged by them and between turns.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use windlass::sim::Diary;
use windlass::{ConnId, Deadline, DialId, Limits, ListenerId, SocketId, TimerId};

use super::dice::Stream;
use super::errands::TWIN;
use super::judge::{Marks, Tally};
use super::manner::Manner;

/// The wheel counts milliseconds and so does the poll: how late anything may be.
pub const TOLERANCE: Duration = Duration::from_millis(2);

/// The whole model.
#[derive(Default)]
pub struct Book {
    pub diary: Diary,
    /// The first rule that was broken.
    pub broken: Option<String>,
    /// What has happened at all.
    pub corners: BTreeSet<&'static str>,
    /// Turns begun.
    pub turn: u64,
    /// A callback is running.
    pub inside: bool,
    pub lines: Vec<Line>,
    pub by_id: BTreeMap<ConnId, usize>,
    pub by_key: BTreeMap<u64, usize>,
    /// Clients that `on_accept` turned away.
    pub refused: BTreeMap<u64, ()>,
    pub dials: BTreeMap<DialId, Dialing>,
    pub timers: BTreeMap<TimerId, Alarm>,
    pub spent_timers: Vec<TimerId>,
    pub listeners: Vec<Listening>,
    pub sockets: Vec<Socketed>,
    /// Callbacks of one turn.
    pub accepts_in_turn: BTreeMap<ListenerId, u32>,
    pub posts_in_turn: usize,
    pub panics: u64,
    /// The numbers of the last post that was taken, and of the last that ran.
    pub posted: u64,
    pub ran: u64,
    pub stop_is_heard: bool,
    /// The time that the next turn stands still.
    pub standstill: Duration,
    /// When the grace of a stop ends.
    pub stop_at: Option<Instant>,
    pub started: bool,
    pub stopped: bool,
    /// The idle limit that holds where nobody has set another.
    pub idle: Duration,
    pub linger: Duration,
    pub stall: Duration,
    pub memory_limit: usize,
    pub limits: Limits,
    pub tally: Tally,
}

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Open,
    /// `close` was called, or what amounts to it.
    Closing,
    /// Aborted or broken: `on_close` is due in this turn.
    Dead,
    Closed,
}

/// Who ended a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    Nobody,
    /// `close` or `abort`.
    Asked,
    /// An `Err` of a callback.
    Handler,
    TooLong,
    Late(Deadline),
    Panic,
    /// The layer could not go on.
    Layer,
}

/// One connection, from `on_accept` or `on_connect` to `on_close`.
pub struct Line {
    pub id: ConnId,
    pub key: u64,
    pub listener: Option<ListenerId>,
    pub dial: Option<DialId>,
    pub manner: Manner,
    pub state: State,
    pub why: Why,
    pub reason: String,
    /// Places in the peer's stream: consumed, and offered at least once.
    pub consumed: u64,
    pub seen: u64,
    /// Place in our stream.
    pub written: u64,
    /// The last write answered `Closed`: how much of it was taken is not known.
    pub doubtful: u64,
    /// What the kernel took, as `on_close` told, or as last seen.
    pub taken: u64,
    pub unsent: u64,
    pub limits: Limits,
    pub paused: bool,
    pub auto_pause: bool,
    pub eof_told: bool,
    pub shutdown_told: bool,
    pub half_closed: bool,
    /// A write has answered `Full` since the last `on_write`, or ever.
    pub was_full: bool,
    pub ever_full: bool,
    pub full_in: u64,
    pub overflowed: bool,
    /// What is left over may be offered without news, and has to be once nothing pauses.
    pub offer: bool,
    pub must_offer: bool,
    pub asked_in: u64,
    pub woken: bool,
    pub woken_in: Option<u64>,
    /// `Some(None)`: turned off.
    pub idle: Option<Option<Duration>>,
    pub active: Instant,
    pub stalled: Option<Instant>,
    pub read_at: Option<Instant>,
    pub write_at: Option<Instant>,
    pub closing_at: Instant,
    pub idled: u32,
    /// It ended by `close` or at the end of both streams, and not by RST.
    pub orderly: bool,
    /// It ended by RST, by our own doing.
    pub aborted: bool,
    /// Reset or an error of the kernel's.
    pub by_network: bool,
    /// Bytes that the loop received, thrown away ones included, as `on_close` told.
    pub received: u64,
    /// A fault was played that can hurt whoever is closing.
    pub hurt: bool,
    /// Bytes that had moved when last looked at.
    pub moved: u64,
    /// The turn of its `on_close`.
    pub closed_in: u64,
    /// Both ends are the loop's, and this one dialed: it has the other's streams.
    pub twin: bool,
    /// Bytes read when this turn began.
    pub read_before: u64,
    pub layered: bool,
    /// `on_handshake` has run.
    pub agreed: bool,
    /// Its layer ended it.
    pub undressed: bool,
    pub marks: Marks,
}

pub struct Dialing {
    /// A try is under way, or will be: it must have ended by then.
    pub until: Instant,
    /// It does not time out before that.
    pub not_before: Option<Instant>,
    pub again: bool,
    pub canceled: bool,
    /// Between two tries, as far as is known.
    pub waiting: bool,
    pub connected: Option<ConnId>,
    pub over: bool,
    pub timeout: Duration,
}

#[derive(Clone, Copy)]
pub struct Alarm {
    pub at: Instant,
    pub line: Option<usize>,
    pub set_in: u64,
    pub resumes: Option<usize>,
}

pub struct Listening {
    pub id: ListenerId,
    pub addr: SocketAddr,
    pub most: Option<usize>,
    pub paused: bool,
    pub closing: bool,
}

pub struct Socketed {
    pub id: SocketId,
    pub closed: bool,
}

impl Book {
    /// A rule was broken. The first counts.
    pub fn fail(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.diary.note(|| format!("BROKEN: {what}"));
        self.broken.get_or_insert(what);
    }

    pub fn must(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(what());
        }
    }

    /// A callback begins, on a connection or not.
    pub fn enter(&mut self, name: &'static str, id: Option<ConnId>) {
        let (nested, after) = (self.inside, self.stopped);
        self.must(!nested, || {
            format!("{name} of {id:?} runs inside another callback")
        });
        self.must(!after, || format!("{name} of {id:?} runs after on_stop"));
        self.judge_order(name);
        self.inside = true;
        self.corners.insert(name);
    }

    pub fn leave(&mut self) {
        self.inside = false;
    }

    /// The line of a connection whose callback runs: it has to be open.
    pub fn open_line(&mut self, name: &str, at: usize, id: ConnId) {
        let line = &self.lines[at];
        let (state, known) = (line.state, line.id);
        self.must(known == id, || {
            format!("{name} of {id:?} was lent the session of {known:?}")
        });
        self.must(state == State::Open, || {
            format!("{name} of {id:?}, which is {state:?}")
        });
    }

    pub fn line_of(&mut self, id: ConnId) -> Option<&mut Line> {
        let at = *self.by_id.get(&id)?;
        self.lines.get_mut(at)
    }

    /// `close` was called on it, or a callback answered `Err`.
    pub fn closing(&mut self, at: usize, why: Why, now: Instant) {
        let line = &mut self.lines[at];
        if line.state == State::Open {
            line.state = State::Closing;
            line.why = why;
            line.closing_at = now;
        }
    }

    pub fn aborted(&mut self, at: usize, why: Why) {
        let line = &mut self.lines[at];
        if matches!(line.state, State::Open | State::Closing) {
            line.state = State::Dead;
            line.why = why;
        }
    }

    /// A callback panics: it does not answer what it was about to answer.
    pub fn panics_in(&mut self, at: usize) {
        let line = &mut self.lines[at];
        if matches!(line.why, Why::Late(_) | Why::Handler) {
            line.state = State::Open;
        }
        self.aborted(at, Why::Panic);
    }

    /// The next turn takes that long: what it finds connected may have been so in time.
    pub fn stands_still(&mut self, time: Duration) {
        self.standstill += time;
        // The grace of a stop begins when the loop hears of it.
        self.stop_at = match self.stop_at {
            Some(at) if !self.stop_is_heard => Some(at + time),
            known => known,
        };
        for dial in self.dials.values_mut() {
            dial.until += time;
        }
    }

    pub fn stopping(&mut self, at: Instant) {
        if self.stop_at.is_none_or(|earlier| at < earlier) {
            self.stop_at = Some(at);
            self.stop_is_heard = false;
        }
    }

    /// Unconsumed input and queued output, as the model has it; queues are the loop's word.
    pub fn unread(&self) -> u64 {
        let held = |line: &&Line| line.state != State::Closed;
        let lines = self.lines.iter().filter(held);
        lines.map(Line::unread).sum()
    }

    /// Connections that are open or about to be closed.
    pub fn alive(&self) -> impl Iterator<Item = usize> + '_ {
        let lines = self.lines.iter().enumerate();
        lines
            .filter(|(_, line)| line.state != State::Closed)
            .map(|(at, _)| at)
    }
}

impl Line {
    pub fn new(id: ConnId, key: u64, manner: Manner, limits: Limits, now: Instant) -> Self {
        Self {
            id,
            key,
            listener: None,
            dial: None,
            manner,
            state: State::Open,
            why: Why::Nobody,
            reason: String::new(),
            consumed: 0,
            seen: 0,
            written: 0,
            doubtful: 0,
            taken: 0,
            unsent: 0,
            limits,
            paused: false,
            auto_pause: true,
            eof_told: false,
            shutdown_told: false,
            half_closed: false,
            was_full: false,
            ever_full: false,
            full_in: 0,
            overflowed: false,
            offer: false,
            must_offer: false,
            asked_in: 0,
            woken: false,
            woken_in: None,
            idle: None,
            active: now,
            stalled: None,
            read_at: None,
            write_at: None,
            closing_at: now,
            idled: 0,
            orderly: false,
            aborted: false,
            by_network: false,
            received: 0,
            hurt: false,
            moved: 0,
            closed_in: 0,
            twin: false,
            read_before: 0,
            layered: false,
            agreed: false,
            undressed: false,
            marks: Marks::default(),
        }
    }

    /// Whether the loop has its other end, too.
    pub fn is_twin(&self) -> bool {
        self.twin || self.key >> 40 == u64::from(TWIN[3])
    }

    /// Whether its layer may have closed it, which does not show after half a close.
    pub fn may_be_closing(&self) -> bool {
        self.layered && self.half_closed && self.state == State::Open
    }

    pub fn unread(&self) -> u64 {
        self.seen - self.consumed
    }

    pub fn input(&self) -> Stream {
        Stream::new(if self.twin { !self.key } else { self.key })
    }

    pub fn output(&self) -> Stream {
        Stream::new(if self.twin { self.key } else { !self.key })
    }

    /// What the loop says of its counters, at `now`.
    pub fn observe(&mut self, read: u64, written: u64, queued: usize, now: Instant) {
        if read + written != self.moved {
            self.active = now;
            self.moved = read + written;
        }
        if queued == 0 {
            self.stalled = None;
        } else if written != self.taken || self.stalled.is_none() {
            self.stalled = Some(now);
        }
        self.taken = written;
    }
}

/// Names a connection whose other end is at `peer`.
pub fn key_of(peer: SocketAddr, local: u16) -> u64 {
    let host = match peer.ip() {
        IpAddr::V4(ip) => u64::from(ip.octets()[3]),
        IpAddr::V6(_) => 1 << 8,
    };
    host << 40 | u64::from(peer.port()) << 20 | u64::from(local)
}
