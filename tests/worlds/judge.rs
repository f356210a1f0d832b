//! What a callback may find, by the model: times, ends, dials, and what a write answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use windlass::{CloseReason, Closed, Conn, Deadline, DialId, Flow};

use super::app::App;
use super::book::{Book, Dialing, Line, State, TOLERANCE, Why};

/// The longest wait of a reconnecting dial here.
pub const LONGEST_WAIT: Duration = Duration::from_millis(300);

impl Book {
    /// Something was to happen at `at` and happens now.
    pub fn judge_time(&mut self, what: &str, at: Instant, now: Instant) {
        if now < at {
            self.fail(format!("{what} fires {:?} early", at - now));
        } else if now > at + TOLERANCE && self.turn > 1 {
            // What was set in the past is late by as much; those are told by their turn.
            let late = now - at;
            self.diary.note(|| format!("    {what} {late:?} late"));
        }
    }

    /// Writes the next bytes of the connection's stream; `false` if they were not taken.
    pub fn write(&mut self, conn: &mut Conn<'_>, at: usize, count: usize, shared: bool) -> bool {
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
        self.must(!over, || format!("{id:?} took a write after its end"));
        true
    }

    /// `on_timeout` runs.
    pub fn judge_deadline(&mut self, conn: &Conn<'_>, at: usize, which: Deadline) {
        let (now, idle, stall) = (conn.now(), self.idle, self.stall);
        let line = &mut self.lines[at];
        let id = line.id;
        let due = match which {
            Deadline::Read => line.read_at.take(),
            Deadline::Write => line.write_at.take(),
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
                alarm.filter(|it| it.line == Some(at)).map(|it| it.at)
            }
            _ => None,
        };
        self.corners.insert(limit(which));
        let about_output = matches!(which, Deadline::Write | Deadline::WriteStall);
        self.must(!about_output || conn.queued() > 0, || {
            format!("{which:?} of {id:?} with nothing queued")
        });
        match due {
            Some(due) => self.judge_time(&format!("{which:?} of {id:?}"), due, now),
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
                self.state == State::Closing && now >= self.closing_at + linger
            }
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
        CloseReason::Timeout(_) => "Timeout",
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
