//! What the callbacks have in common: how they begin and end, and what they do with bytes.

use std::io;

use windlass::{Conn, DialId, Flow, Input, Limits, ListenerId};

use super::app::App;
use super::book::{Line, State, Why};
use super::manner::{Eats, Manner};

/// Bytes after which a connection is no longer answered: two ends of one loop that echo
/// would go on for ever.
const MOST_ANSWERED: u64 = 4000;
/// So many times that in large worlds, however large.
const MOST_SCALE: usize = 20;

/// The beginning and the end of callbacks.
impl App {
    /// `Err`, or a panic: there is no session then, and so no `on_close`.
    pub fn refuse(&mut self, conn: &mut Conn<'_>) -> io::Result<usize> {
        if self.dice.one_in(3) {
            conn.write(b"no");
        }
        if self.dice.one_in(3) {
            conn.abort();
        }
        self.maybe_panic(None);
        self.book.leave();
        Err(io::ErrorKind::PermissionDenied.into())
    }

    pub fn begin(
        &mut self,
        conn: &mut Conn<'_>,
        key: u64,
        listener: Option<ListenerId>,
        dial: Option<DialId>,
    ) -> usize {
        let (id, now, at) = (conn.id(), conn.now(), self.book.lines.len());
        let manner = Manner::new(&mut self.dice, self.plan.scale);
        let limits = self.book.limits;
        let line = Line::new(id, key, manner, limits, now);
        let layered = self.plan.layers;
        self.book.lines.push(Line {
            listener,
            dial,
            layered,
            ..line
        });
        let known = self.book.by_id.insert(id, at);
        self.book.by_key.insert(key, at);
        self.book
            .must(known.is_none(), || format!("{id:?} was used before"));
        if self.dice.one_in(6) {
            let limits = self.other_limits();
            if conn.set_limits(limits).is_ok() {
                self.book.lines[at].limits = limits;
            }
        }
        at
    }

    pub fn other_limits(&mut self) -> Limits {
        let mut limits = self.book.limits;
        limits.low = self.dice.roll(30) * self.plan.scale;
        limits.high = limits.low + self.dice.roll(50) * self.plan.scale;
        limits.limit = limits.high + self.dice.roll(500) * self.plan.scale;
        limits.input = 1 + self.dice.roll(100) * self.plan.scale;
        limits
    }

    pub fn first_words(&mut self, conn: &mut Conn<'_>, at: usize) -> io::Result<usize> {
        if self.dice.one_in(4) {
            let count = self.dice.roll(60) * self.plan.scale;
            self.say(conn, at, count);
        }
        if !self.tame && self.dice.one_in(self.plan.mischief) {
            // A panic or an `Err` here would leave no session; others do as they like.
            self.mischief_here(conn, at);
        }
        self.book.leave();
        Ok(at)
    }

    pub fn begin_callback(&mut self, name: &'static str, conn: &Conn<'_>, at: usize) {
        let id = conn.id();
        self.book.enter(name, Some(id));
        self.book.open_line(name, at, id);
        let line = &mut self.book.lines[at];
        line.observe(
            conn.bytes_read(),
            conn.bytes_written(),
            conn.queued(),
            conn.now(),
        );
    }

    pub fn end_callback(
        &mut self,
        conn: &Conn<'_>,
        at: usize,
        outcome: io::Result<()>,
    ) -> io::Result<()> {
        let now = conn.now();
        let line = &mut self.book.lines[at];
        let told = conn.bytes_written() + conn.queued() as u64;
        let (id, written) = (line.id, line.written);
        let sure = line.state == State::Open || line.state == State::Closing;
        self.book.must(!sure || told == written, || {
            format!("{id:?} was written {written} bytes and has {told}")
        });
        if outcome.is_err() {
            self.book.closing(at, Why::Handler, now);
        }
        self.book.lines[at].marks.sent_in_callbacks = conn.bytes_written();
        self.maybe_panic(Some(at));
        let line = &self.book.lines[at];
        if line.seen - line.consumed > line.limits.input as u64 {
            self.book.closing(at, Why::TooLong, now);
        }
        self.book.leave();
        outcome
    }

    /// Unwinds out of the callback, without a word on stderr.
    pub fn maybe_panic(&mut self, at: Option<usize>) {
        if self.plan.panics && !self.tame && self.dice.one_in(40) {
            self.book.diary.note(|| "    panics".to_owned());
            if let Some(at) = at {
                self.book.panics_in(at);
            }
            self.book.panics += 1;
            self.book.leave();
            std::panic::resume_unwind(Box::new("as planned"));
        }
    }
}

/// Bytes.
impl App {
    /// What `on_read` is offered continues what was offered before.
    pub fn judge_offer(&mut self, conn: &mut Conn<'_>, at: usize, input: &Input<'_>) {
        self.compare(at, input);
        let buffered = conn.cx().stats().buffered;
        let line = &mut self.book.lines[at];
        let (id, unread) = (line.id, line.seen - line.consumed);
        let news = (input.len() as u64).saturating_sub(unread);
        let offer = line.offer || line.ever_full;
        // What is asked for in this turn is for the next.
        line.offer &= line.asked_in == self.book.turn;
        line.must_offer = false;
        line.seen = line.consumed + input.len() as u64;
        let full = line.auto_pause && conn.flow() == Flow::Full;
        let paused = line.paused;
        self.book.must(news > 0 || offer, || {
            format!("on_read of {id:?} without news, and nobody asked for it")
        });
        self.book.must(!paused && !full, || {
            format!("on_read of {id:?}: paused {paused}, output full {full}")
        });
        let others = buffered.saturating_sub(input.len() as u64);
        let limit = self.book.memory_limit as u64;
        // A layer may have kept that before memory was short.
        let kept = self.plan.layers;
        self.book.must(news == 0 || others <= limit || kept, || {
            format!("{id:?} was read while {others} bytes were held and {limit} may be")
        });
    }

    pub fn compare(&mut self, at: usize, input: &Input<'_>) {
        let line = &self.book.lines[at];
        let (id, unread) = (line.id, line.seen - line.consumed);
        let wrong = line.input().differs(line.consumed, input.rest());
        let len = input.len() as u64;
        if let Some(place) = wrong {
            self.book
                .fail(format!("{id:?} read a wrong byte at {place}"));
        }
        self.book.must(len >= unread, || {
            format!("{id:?} had {unread} bytes left over and is offered {len}")
        });
    }

    /// Consumes and answers as its manner is.
    pub fn digest(
        &mut self,
        conn: &mut Conn<'_>,
        at: usize,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        let line = &self.book.lines[at];
        let manner = line.manner;
        let stuck = manner.obeys && conn.flow() == Flow::Full;
        let bite = if stuck { 0 } else { manner.bite(input.rest()) };
        input.consume(bite);
        self.book.lines[at].consumed += bite as u64;
        if self.book.lines[at].written < MOST_ANSWERED * self.plan.scale.min(MOST_SCALE) as u64 {
            self.say(conn, at, bite * manner.answers / 8);
        }
        if matches!(manner.eats, Eats::Some(_)) && !input.is_empty() && !stuck {
            conn.read_again();
            self.asked_again(at);
        }
        self.maybe_mischief(conn, at)
    }

    /// Writes the next `count` bytes of our stream.
    pub fn say(&mut self, conn: &mut Conn<'_>, at: usize, count: usize) {
        let manner = self.book.lines[at].manner;
        let before = self.book.lines[at].written;
        let mut rest = count;
        while rest > 0 {
            let n = rest.min(manner.piece);
            rest -= n;
            let taken = self.book.write(conn, at, n, manner.shared);
            if !taken || (manner.obeys && conn.flow() == Flow::Full) {
                break;
            }
        }
        let written = self.book.lines[at].written - before;
        let (id, flow, piece) = (conn.id(), conn.flow(), manner.piece);
        self.book.diary.note(|| {
            format!("    writes {written} of {count} bytes to {id:?}, {piece} at once: {flow:?}")
        });
    }

    pub fn close(&mut self, conn: &mut Conn<'_>) {
        let (id, now) = (conn.id(), conn.now());
        conn.close();
        if let Some(&at) = self.book.by_id.get(&id) {
            self.book.closing(at, Why::Asked, now);
        }
    }

    pub fn asked_again(&mut self, at: usize) {
        let line = &mut self.book.lines[at];
        line.offer = true;
        line.asked_in = self.book.turn;
        line.must_offer = true;
    }

    pub fn resumed(&mut self, at: usize) {
        let line = &mut self.book.lines[at];
        if std::mem::take(&mut line.paused) {
            line.offer = true;
            line.asked_in = self.book.turn;
            line.must_offer = true;
        }
    }
}
