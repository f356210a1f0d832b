//! What a callback may find, by the model: times, ends, dials, and what a write answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use windlass::{CloseReason, Closed, Conn, Datagram, Deadline, DialId, Flow, ListenerId, SocketId};

use super::app::App;
use super::book::{Book, Dialing, Line, State, TOLERANCE, Why};
use super::errands::{NUMBER, OURS};

/// The longest wait of a reconnecting dial here.
pub const LONGEST_WAIT: Duration = Duration::from_millis(300);

/// What is counted beside the connections.
#[derive(Default)]
pub struct Tally {
    /// The end of the turn that stood still last.
    pub stood_until: Option<Instant>,
    /// The last step of this turn of which a callback has run.
    step: u8,
    /// The time of each turn, by its number.
    times: Vec<Instant>,
    /// One reference for each post that waits, and this one.
    mailbox: Arc<()>,
    datagrams_in_turn: BTreeMap<SocketId, usize>,
    /// Datagrams that an open socket was given to send.
    pub given: u64,
    /// The lengths of those that were sent to the loop, by their numbers.
    pub lengths: BTreeMap<u64, usize>,
}

/// What is remembered of a connection only to judge by it.
#[derive(Default)]
pub struct Marks {
    /// The process stood still while it was closing: its linger time may have passed meanwhile.
    pub stood: bool,
    /// The turns in which its deadlines were set.
    pub read_set_in: u64,
    pub write_set_in: u64,
    /// What the kernel had taken when its last callback ended.
    pub sent_in_callbacks: u64,
    /// A dial that it is going to cancel, and in which turn.
    pub repents: Option<(DialId, u64)>,
}

impl Tally {
    /// Lives for as long as a post waits.
    pub fn ticket(&self) -> Arc<()> {
        Arc::clone(&self.mailbox)
    }

    pub fn waiting(&self) -> usize {
        Arc::strong_count(&self.mailbox) - 1
    }
}

/// The steps of a turn, in their published order. Some callbacks belong to several.
fn step_of(name: &str) -> Option<u8> {
    Some(match name {
        "on_start" => 0,
        "on_read" | "on_eof" | "on_write" | "on_wake" | "on_shutdown" | "on_datagram" => 1,
        "on_accept" => 2,
        "post" | "post_to" | "post from outside" => 3,
        "on_timer" => 4,
        "on_connect" => 5,
        "on_dial_error" => 6,
        "on_socket_error" => 7,
        "on_close" => 8,
        "on_stop" => 9,
        _ => return None,
    })
}

impl Book {
    pub fn begin_turn(&mut self) {
        self.turn += 1;
        self.accepts_in_turn.clear();
        self.posts_in_turn = 0;
        self.tally.step = 0;
        self.tally.datagrams_in_turn.clear();
    }

    pub fn end_turn(&mut self, now: Instant) {
        self.tally.times.resize(self.turn as usize + 1, now);
        if self.standstill > Duration::ZERO {
            self.tally.stood_until = Some(now);
            let turn = self.turn;
            for line in &mut self.lines {
                let closes = line.state != State::Open;
                line.marks.stood |=
                    closes && (line.state != State::Closed || line.closed_in == turn);
            }
        }
    }

    /// A callback begins: is it its turn?
    pub fn judge_order(&mut self, name: &str) {
        if let Some(step) = step_of(name) {
            let before = std::mem::replace(&mut self.tally.step, step);
            self.must(before <= step, || {
                format!("{name} runs after callbacks of a later step of the turn")
            });
        }
    }

    /// Something was to happen at `at`, as was said in the turn `set_in`, and happens now.
    pub fn judge_time(&mut self, what: &str, at: Instant, set_in: u64, now: Instant) {
        // What was set in the past is due at once.
        let set = self.tally.times.get(set_in as usize);
        let due = set.map_or(now, |&set| set.max(at));
        // Nothing fires while the process stands still.
        let due = self.tally.stood_until.map_or(due, |stood| due.max(stood));
        if now < at {
            self.fail(format!("{what} fires {:?} early", at - now));
        } else if now > due + TOLERANCE + self.standstill {
            self.fail(format!("{what} fires {:?} late", now - due));
        }
    }

    /// Writes the next bytes of the connection's stream; `false` if they were not taken.
    pub fn write(&mut self, conn: &mut Conn<'_>, at: usize, count: usize, shared: bool) -> bool {
        self.notice_end_of_layer(at, conn.flow(), conn.now());
        let line = &mut self.lines[at];
        let bytes = line.output().bytes(line.written, count);
        let before = conn.queued();
        let flow = if shared {
            conn.write_shared(Arc::from(bytes))
        } else {
            conn.write(&bytes)
        };
        let over = line.state != State::Open || line.half_closed;
        let id = line.id;
        if flow == Flow::Closed {
            if !over {
                line.doubtful = count as u64;
                line.overflowed = before + count > line.limits.limit;
                line.state = State::Dead;
            }
            return false;
        }
        line.written += count as u64;
        line.was_full |= flow == Flow::Full;
        if flow == Flow::Full {
            line.ever_full = true;
            line.full_in = self.turn;
        }
        let (queued, limits) = (conn.queued(), line.limits);
        let fits = match flow {
            Flow::Full => queued > limits.low,
            _ => queued <= limits.high,
        };
        self.must(fits, || {
            format!("{id:?} has {queued} bytes queued and is {flow:?}: {limits:?}")
        });
        self.must(!over, || format!("{id:?} took a write after its end"));
        true
    }

    /// `on_timeout` runs.
    pub fn judge_deadline(&mut self, conn: &Conn<'_>, at: usize, which: Deadline) {
        let (now, idle, stall) = (conn.now(), self.idle, self.stall);
        let line = &mut self.lines[at];
        let (id, layered) = (line.id, line.layered);
        let mut set_in = 0;
        let due = match which {
            Deadline::Read => {
                set_in = line.marks.read_set_in;
                line.read_at.take()
            }
            Deadline::Write => {
                set_in = line.marks.write_set_in;
                // It has to do with output only.
                let at = line.write_at.take();
                at.map(|at| line.stalled.map_or(at, |since| since.max(at)))
            }
            Deadline::Idle => {
                let after = line.idle.unwrap_or(Some(idle));
                let since = std::mem::replace(&mut line.active, now);
                line.idled += 1;
                after.map(|after| since + after)
            }
            Deadline::WriteStall => {
                let since = line.stalled.replace(now);
                since.map(|since| since + stall)
            }
            Deadline::Timer(timer) => {
                self.spent_timers.push(timer);
                let alarm = self.timers.remove(&timer);
                set_in = alarm.map_or(0, |it| it.set_in);
                alarm.filter(|it| it.line == Some(at)).map(|it| it.at)
            }
            _ => None,
        };
        self.corners.insert(limit(which));
        let about_output = matches!(which, Deadline::Write | Deadline::WriteStall);
        self.must(!about_output || conn.queued() > 0, || {
            format!("{which:?} of {id:?} with nothing queued")
        });
        // What a layer has to say for itself moves these on as well, and nobody is told.
        let moved = matches!(which, Deadline::Idle | Deadline::WriteStall);
        let hidden = (moved && layered).then_some(now);
        match due.map(|due| hidden.map_or(due, |now| now.max(due))) {
            Some(due) => self.judge_time(&format!("{which:?} of {id:?}"), due, set_in, now),
            None => self.fail(format!("{which:?} of {id:?}, which was not set")),
        }
    }

    /// `on_close` runs.
    pub fn judge_close(&mut self, at: usize, closed: &Closed, now: Instant) {
        let linger = self.linger;
        let stopping = self.stop_at.is_some();
        let line = &mut self.lines[at];
        let (id, state, why) = (line.id, line.state, line.why);
        let fits = line.fits(&closed.reason, linger, stopping, now);
        line.by_network = matches!(closed.reason, CloseReason::Reset | CloseReason::Io(_));
        let cut_off = matches!(closed.reason, CloseReason::Shutdown)
            && self.stop_at.is_some_and(|end| now >= end);
        line.aborted = state == State::Dead && !line.by_network;
        line.orderly = !line.by_network
            && !cut_off
            && closed.unsent == 0
            && (state == State::Closing || (state == State::Open && !stopping));
        line.judge_layer(&closed.reason);
        line.reason = closed.reason.to_string();
        line.received = closed.bytes_read + closed.unread - line.unread().min(closed.unread);
        line.state = State::Closed;
        line.closed_in = self.turn;
        line.taken = closed.bytes_written;
        line.unsent = closed.unsent;
        let told = closed.bytes_written + closed.unsent;
        let (seen, unread) = (line.seen, line.unread());
        let written = line.written..=line.written + line.doubtful;
        let reason = line.reason.clone();
        let panicked = matches!(closed.reason, CloseReason::Panic);
        let sent = line.marks.sent_in_callbacks;
        self.must(!panicked || closed.bytes_written == sent, || {
            format!(
                "{id:?} had sent {sent} bytes when its callback panicked, and {} in the end",
                closed.bytes_written
            )
        });
        self.must(state != State::Closed && closed.id == id, || {
            format!(
                "on_close of {:?} was lent the session of {id:?}, {state:?}",
                closed.id
            )
        });
        self.must(fits, || {
            format!("{id:?} ended with {reason:?}, being {state:?} for {why:?}")
        });
        self.must(written.contains(&told), || {
            format!("{id:?} was written {written:?} bytes, and {told} were sent or not")
        });
        self.must(closed.bytes_read == seen, || {
            format!(
                "{id:?} has read {} bytes and was offered {seen}",
                closed.bytes_read
            )
        });
        self.must(closed.unread >= unread, || {
            format!(
                "{id:?} left {unread} bytes unread, on_close says {}",
                closed.unread
            )
        });
        self.corners.insert(kind(&closed.reason));
        self.forget(at, now);
    }

    /// Its timers die with it, and its dial goes on.
    fn forget(&mut self, at: usize, now: Instant) {
        let of_it = |alarm: &super::book::Alarm| alarm.line == Some(at);
        let dead = self.timers.iter().filter(|(_, alarm)| of_it(alarm));
        let dead: Vec<_> = dead.map(|(&id, _)| id).collect();
        self.timers.retain(|_, alarm| !of_it(alarm));
        self.spent_timers.extend(dead);
        if let Some(dial) = self.lines[at].dial {
            self.dialed_ended(dial, now);
        }
    }

    /// What a dial has led to is over, or was refused.
    pub fn dialed_ended(&mut self, dial: DialId, now: Instant) {
        if let Some(it) = self.dials.get_mut(&dial) {
            it.connected = None;
            it.waiting = true;
            it.over |= !it.again || it.canceled;
            it.not_before = None;
            it.until = now + LONGEST_WAIT + TOLERANCE + it.timeout;
        }
    }
}

impl Line {
    /// Whether it can have ended for that reason.
    fn fits(&self, reason: &CloseReason, linger: Duration, stopping: bool, now: Instant) -> bool {
        match reason {
            CloseReason::Eof => self.why == Why::Asked || (self.half_closed && self.eof_told),
            CloseReason::Local => self.why == Why::Asked,
            CloseReason::Handler(_) => self.why == Why::Handler,
            CloseReason::Timeout(Deadline::Linger) => {
                // What ends a layer begins a close that nobody asked for.
                let unasked = self.layered && self.state == State::Open;
                unasked || self.state == State::Closing && now >= self.closing_at + linger
            }
            CloseReason::Timeout(Deadline::Handshake) => self.layered && !self.agreed,
            CloseReason::Layer(_) | CloseReason::Truncated => self.layered,
            CloseReason::Timeout(which) => self.why == Why::Late(*which),
            CloseReason::Reset | CloseReason::Io(_) => true,
            CloseReason::Overflow => self.overflowed,
            CloseReason::InputTooLong => self.why == Why::TooLong,
            CloseReason::Shutdown => stopping,
            CloseReason::Panic => self.why == Why::Panic,
            _ => false,
        }
    }
}

/// Limits of the whole loop.
impl App {
    /// `on_accept` runs.
    pub fn judge_accept(&mut self, conn: &mut Conn<'_>, listener: ListenerId) {
        let open = conn.cx().stats().open;
        let cap = self.plan.config.max_connections.unwrap_or(usize::MAX);
        self.book.must(open <= cap as u64, || {
            format!("{listener:?} accepts, and then {open} connections are open: {cap} may be")
        });
        let book = &mut self.book;
        let of_it = |line: &&Line| line.listener == Some(listener) && line.state != State::Closed;
        let its = book.lines.iter().filter(of_it).count();
        let stopping = book.stop_at.is_some();
        let Some(it) = book.listeners.iter().find(|it| it.id == listener) else {
            return;
        };
        let full = it.most.is_some_and(|most| its >= most);
        let paused = it.paused && !it.closing && !stopping;
        book.must(!full, || {
            format!("{listener:?} accepts and has {its} connections already")
        });
        book.must(!paused, || format!("{listener:?} accepts and is paused"));
    }

    /// What was thrown away while it closed.
    pub fn judge_drain(&mut self, at: usize, closed: &Closed) {
        let config = &self.plan.config;
        let most = (config.drain_limit + config.read_buffer) as u64;
        let left = self.book.lines[at].unread();
        let drained = closed.unread.saturating_sub(left);
        // An abort drains nothing, and a callback that panics has consumed nothing.
        let aborted = self.book.lines[at].aborted;
        self.book.must(aborted || drained <= most, || {
            format!("{:?} has drained {drained} bytes, {most} may be", closed.id)
        });
    }

    /// Something was posted, or was not taken. What this turn has collected waits, too.
    pub fn judge_post(&mut self) {
        let config = &self.plan.config;
        let collected = if self.book.inside {
            config.post_budget
        } else {
            0
        };
        let most = config.mailbox_limit + collected;
        let waiting = self.book.tally.waiting();
        self.book.must(waiting <= most, || {
            format!("{waiting} posts wait, {most} may")
        });
    }

    /// `on_datagram` runs.
    pub fn judge_datagram(&mut self, socket: SocketId, number: u64, datagram: &Datagram<'_>) {
        let config = &self.plan.config;
        // The call that reaches the budget may bring some more.
        let call = config.datagram_batch.min(config.datagram_budget);
        let budget = config.datagram_budget + call - 1;
        let most = config.max_datagram;
        let tally = &mut self.book.tally;
        let count = tally.datagrams_in_turn.entry(socket).or_default();
        *count += 1;
        let count = *count;
        let sent = tally.lengths.get(&number).copied();
        let len = datagram.bytes().len();
        self.book.must(count <= budget, || {
            format!("{socket:?} was offered {count} datagrams in one turn")
        });
        let Some(sent) = sent.filter(|_| number & OURS == 0) else {
            return self.book.fail("a datagram came that nobody sent");
        };
        let whole = NUMBER + sent;
        let fits = if datagram.is_truncated() {
            whole > most
        } else {
            whole == len
        };
        self.book.must(fits, || {
            format!("{len} bytes of a datagram came, of {whole}")
        });
    }
}

/// Dials.
impl App {
    pub fn book_connect(&mut self, dial: DialId, conn: &Conn<'_>) {
        let (now, id) = (conn.now(), conn.id());
        let Some(it) = self.book.dials.get_mut(&dial) else {
            return self
                .book
                .fail(format!("on_connect of {dial:?}, which nobody made"));
        };
        let sound = !it.over && !it.canceled && it.connected.is_none();
        let in_time = now <= it.until + TOLERANCE;
        it.connected = Some(id);
        self.book
            .must(sound, || format!("on_connect of {dial:?}, which is over"));
        self.book
            .must(in_time, || format!("on_connect of {dial:?} after its time"));
    }

    /// `on_connect` is about to return: a dial that was for once is over.
    pub fn book_connected(&mut self, dial: DialId) {
        if let Some(it) = self.book.dials.get_mut(&dial) {
            it.over |= !it.again;
        }
    }

    pub fn book_dial_error(
        &mut self,
        dial: DialId,
        timed_out: bool,
        retry_in: Option<Duration>,
        now: Instant,
    ) {
        let Some(it) = self.book.dials.get_mut(&dial) else {
            return self
                .book
                .fail(format!("on_dial_error of {dial:?}, which nobody made"));
        };
        let Dialing { over, again, .. } = *it;
        let early = timed_out && it.not_before.is_some_and(|at| now < at);
        let connected = it.connected;
        match retry_in {
            Some(wait) => {
                it.until = now + wait + TOLERANCE + it.timeout;
                it.not_before = Some(now + wait + it.timeout);
                it.waiting = true;
            }
            None => it.over = true,
        }
        let excess = retry_in.is_some_and(|wait| wait > LONGEST_WAIT || !again);
        self.book.must(!over && connected.is_none(), || {
            format!("on_dial_error of {dial:?}: over {over}, connected {connected:?}")
        });
        self.book
            .must(!early, || format!("{dial:?} timed out early"));
        self.book
            .must(!excess, || format!("{dial:?} waits {retry_in:?}"));
    }
}

fn kind(reason: &CloseReason) -> &'static str {
    match reason {
        CloseReason::Eof => "Eof",
        CloseReason::Local => "Local",
        CloseReason::Handler(_) => "Handler",
        CloseReason::Timeout(Deadline::Linger) => "Timeout(Linger)",
        CloseReason::Timeout(Deadline::Handshake) => "Timeout(Handshake)",
        CloseReason::Timeout(_) => "Timeout",
        CloseReason::Layer(_) => "Layer",
        CloseReason::Truncated => "Truncated",
        CloseReason::Reset => "Reset",
        CloseReason::Overflow => "Overflow",
        CloseReason::InputTooLong => "InputTooLong",
        CloseReason::Shutdown => "Shutdown",
        CloseReason::Panic => "Panic",
        CloseReason::Io(_) => "Io",
        _ => "another reason",
    }
}

fn limit(which: Deadline) -> &'static str {
    match which {
        Deadline::Read => "read deadline",
        Deadline::Write => "write deadline",
        Deadline::Idle => "idle timeout",
        Deadline::WriteStall => "write stall",
        Deadline::Timer(_) => "timer of a connection",
        _ => "another deadline",
    }
}

impl Line {
    /// What the end says about its layer, if it has one.
    fn judge_layer(&mut self, reason: &CloseReason) {
        self.undressed = matches!(reason, CloseReason::Layer(_) | CloseReason::Truncated);
        self.orderly &= !matches!(
            reason,
            CloseReason::Layer(_) | CloseReason::Timeout(Deadline::Handshake | Deadline::Linger)
        );
    }
}
