//! What the handler does without being asked: everything that a callback can ask for, in any
//! callback, by the dice.

use std::io;
use std::time::{Duration, Instant};

use windlass::{Conn, ConnId, Context, Deadline};

use super::app::App;
use super::book::{Alarm, State, Why};

/// How far ahead, or back, times are set.
const AHEAD: Duration = Duration::from_millis(120);
const BACK: Duration = Duration::from_millis(5);
/// As long as a nap lasts, at most.
const NAP: Duration = Duration::from_millis(40);
const MOST_TIMERS: usize = 30;
/// Turns from a dial to the answer of a host that answers at once.
const VAIN: u64 = 2;

impl App {
    /// Now and then something that nobody asked for. May answer `Err`.
    pub fn maybe_mischief(&mut self, conn: &mut Conn<'_>, at: usize) -> io::Result<()> {
        if self.tame || !self.dice.one_in(self.plan.mischief) {
            return Ok(());
        }
        if self.dice.one_in(12) {
            self.book.diary.note(|| "    answers Err".to_owned());
            return Err(io::Error::other("as planned"));
        }
        self.mischief_here(conn, at);
        Ok(())
    }

    /// Something with this connection, or with others.
    pub fn mischief_here(&mut self, conn: &mut Conn<'_>, at: usize) {
        let what = self.dice.roll(28);
        self.book.diary.note(|| format!("    mischief {what}"));
        match what {
            0..=2 => self.nap(conn, at),
            3 => self.close(conn),
            4 => self.abort(conn, at),
            5 => self.half_close(conn, at),
            6 => {
                conn.read_again();
                self.asked_again(at);
            }
            7 | 8 => self.set_deadline(conn, at),
            9 => self.set_idle(conn, at),
            10 => self.set_auto_pause(conn, at),
            11 | 12 => {
                let when = self.soon(conn.now());
                let timer = conn.set_timer(when);
                self.remember(timer, when, Some(at), None);
            }
            13 | 14 => {
                let count = self.dice.roll(300) * self.plan.scale;
                self.say(conn, at, count);
            }
            15 => {
                let id = conn.id();
                self.wake(conn.cx(), id);
            }
            16 => self.hurry(conn, at),
            17 => self.dial_in_vain(conn, at),
            _ => self.mischief_elsewhere(conn.cx()),
        }
    }

    /// Fills the output, and has a deadline fire in the turn in which it may have drained.
    fn hurry(&mut self, conn: &mut Conn<'_>, at: usize) {
        let line = &mut self.book.lines[at];
        if line.state != State::Open {
            return;
        }
        let now = conn.now();
        line.read_at = Some(now);
        line.marks.read_set_in = self.book.turn;
        conn.set_read_deadline(Some(now));
        let high = self.book.lines[at].limits.high;
        self.say(conn, at, high + 1);
    }

    /// Dials, to cancel in the very turn in which the first host can have answered.
    fn dial_in_vain(&mut self, conn: &mut Conn<'_>, at: usize) {
        if let Some(dial) = self.dial(conn.cx()) {
            let when = self.book.turn + VAIN;
            self.book.lines[at].marks.repents = Some((dial, when));
            let id = conn.id();
            self.wake(conn.cx(), id);
        }
    }

    /// `on_wake` runs: has the time come to cancel?
    pub fn repent(&mut self, conn: &mut Conn<'_>, at: usize) {
        let Some((dial, when)) = self.book.lines[at].marks.repents else {
            return;
        };
        if self.book.turn < when {
            let id = conn.id();
            self.wake(conn.cx(), id);
        } else {
            self.book.lines[at].marks.repents = None;
            self.cancel(conn.cx(), dial);
        }
    }

    /// Something that has nothing to do with whose callback runs.
    pub fn mischief_elsewhere(&mut self, cx: &mut Context<'_>) {
        let what = self.dice.roll(20);
        self.book
            .diary
            .note(|| format!("    mischief elsewhere {what}"));
        match what {
            0..=5 => self.with_somebody(cx, what),
            6 | 7 => drop(self.dial(cx)),
            8 => self.cancel_dial(cx),
            9 => self.listen(cx),
            10 => self.close_listener(cx),
            11 => self.pause_listener(cx),
            12 if self.book.timers.len() < MOST_TIMERS => {
                let when = self.soon(cx.now());
                let timer = cx.set_timer(when);
                self.remember(timer, when, None, None);
            }
            13 => self.cancel_timer(cx),
            14 => self.post(),
            15 => (0..self.dice.between(1, 8)).for_each(|_| self.post()),
            16 => self.post_to_somebody(),
            17 | 18 => self.send_somewhere(cx),
            19 if self.dice.one_in(self.plan.stops) => {
                let grace = self.dice.time(Duration::from_secs(2));
                self.stop(cx, grace);
            }
            _ => self.ask_the_dead(cx),
        }
    }

    pub fn stop(&mut self, cx: &mut Context<'_>, grace: Duration) {
        self.book
            .diary
            .note(|| format!("    stops within {grace:?}"));
        cx.shutdown(grace);
        self.book.stopping(cx.now() + grace);
    }

    fn with_somebody(&mut self, cx: &mut Context<'_>, what: usize) {
        let Some(at) = self.somebody() else { return };
        let id = self.book.lines[at].id;
        if what == 0 {
            return self.wake(cx, id);
        }
        let Some(mut conn) = cx.conn(id) else {
            // It broke on the wire in this turn, and its `on_close` is still to come.
            return;
        };
        match what {
            1 => self.close(&mut conn),
            2 if self.dice.one_in(3) => self.abort(&mut conn, at),
            3 => self.nap(&mut conn, at),
            _ => {
                let count = self.dice.roll(120) * self.plan.scale;
                self.say(&mut conn, at, count);
            }
        }
    }

    /// Some connection, of which only the book says that it is open.
    pub fn somebody(&mut self) -> Option<usize> {
        let open = |at: &usize| self.book.lines[*at].state == State::Open;
        let all: Vec<_> = self.book.alive().filter(open).collect();
        (!all.is_empty()).then(|| all[self.dice.roll(all.len())])
    }

    fn wake(&mut self, cx: &mut Context<'_>, id: ConnId) {
        let woken = cx.wake(id);
        let turn = self.book.turn;
        if let Some(line) = self.book.line_of(id) {
            let open = line.state == State::Open;
            line.woken |= woken;
            line.woken_in = woken.then_some(turn).or(line.woken_in);
            self.book.must(open || !woken, || {
                format!("{id:?} is not open and was woken")
            });
        }
    }

    /// Reading stops, and a timer is set that ends it.
    fn nap(&mut self, conn: &mut Conn<'_>, at: usize) {
        conn.pause();
        self.book.lines[at].paused = true;
        let when = conn.now() + self.dice.time(NAP);
        let timer = conn.cx().set_timer(when);
        self.remember(timer, when, None, Some(at));
    }

    fn abort(&mut self, conn: &mut Conn<'_>, at: usize) {
        conn.abort();
        self.book.aborted(at, Why::Asked);
    }

    fn half_close(&mut self, conn: &mut Conn<'_>, at: usize) {
        conn.shutdown_write();
        let line = &mut self.book.lines[at];
        line.half_closed |= line.state == State::Open;
    }

    fn set_deadline(&mut self, conn: &mut Conn<'_>, at: usize) {
        let when = (!self.dice.one_in(4)).then(|| self.soon(conn.now()));
        let line = &mut self.book.lines[at];
        let open = line.state == State::Open;
        if self.dice.one_in(2) {
            conn.set_read_deadline(when);
            line.read_at = when.filter(|_| open);
            line.marks.read_set_in = self.book.turn;
        } else {
            conn.set_write_deadline(when);
            line.write_at = when.filter(|_| open);
            line.marks.write_set_in = self.book.turn;
        }
        self.book.diary.note(|| "    sets a deadline".to_owned());
    }

    fn set_idle(&mut self, conn: &mut Conn<'_>, at: usize) {
        let after = Duration::from_millis(self.dice.between(20, 4000) as u64);
        let after = (!self.dice.one_in(5)).then_some(after);
        conn.set_idle_timeout(after);
        let line = &mut self.book.lines[at];
        line.idle = Some(after);
        line.active = conn.now();
    }

    fn set_auto_pause(&mut self, conn: &mut Conn<'_>, at: usize) {
        let line = &mut self.book.lines[at];
        line.auto_pause = !line.auto_pause;
        line.offer = true;
        line.asked_in = self.book.turn;
        conn.set_auto_pause(line.auto_pause);
    }

    fn soon(&mut self, now: Instant) -> Instant {
        if self.dice.one_in(8) {
            now.checked_sub(self.dice.time(BACK)).unwrap_or(now)
        } else {
            now + self.dice.time(AHEAD)
        }
    }

    fn remember(
        &mut self,
        timer: windlass::TimerId,
        at: Instant,
        line: Option<usize>,
        resumes: Option<usize>,
    ) {
        let set_in = self.book.turn;
        let alarm = Alarm {
            at,
            line,
            set_in,
            resumes,
        };
        let before = self.book.timers.insert(timer, alarm);
        let spent = self.book.spent_timers.contains(&timer);
        self.book.must(before.is_none() && !spent, || {
            format!("{timer:?} is the name of two timers")
        });
    }

    fn cancel_timer(&mut self, cx: &mut Context<'_>) {
        let naps = |alarm: &Alarm| alarm.resumes.is_some();
        let live: Vec<_> = self
            .book
            .timers
            .iter()
            .filter(|(_, it)| !naps(it))
            .collect();
        if !live.is_empty() {
            let at = self.dice.roll(live.len());
            let (id, alarm) = (*live[at].0, *live[at].1);
            let canceled = cx.cancel_timer(id);
            self.book.timers.remove(&id);
            self.book.spent_timers.push(id);
            // One of a connection that broke in this turn is gone already or not.
            self.book.must(canceled || alarm.line.is_some(), || {
                format!("{id:?} was still to come and could not be canceled")
            });
        }
    }

    /// Old names find nobody.
    fn ask_the_dead(&mut self, cx: &mut Context<'_>) {
        let closed = |line: &&super::book::Line| line.state == State::Closed;
        let dead: Vec<_> = self
            .book
            .lines
            .iter()
            .filter(closed)
            .map(|it| it.id)
            .collect();
        for id in dead {
            let found = cx.conn(id).is_some() || cx.wake(id);
            self.book
                .must(!found, || format!("{id:?} is closed and answers"));
        }
        for at in 0..self.book.spent_timers.len() {
            let id = self.book.spent_timers[at];
            let canceled = cx.cancel_timer(id);
            self.book
                .must(!canceled, || format!("{id:?} was over and was canceled"));
        }
    }

    /// What `on_timeout` answers.
    pub fn answer_timeout(
        &mut self,
        conn: &mut Conn<'_>,
        at: usize,
        which: Deadline,
    ) -> io::Result<()> {
        self.maybe_mischief(conn, at).inspect_err(|_| {
            if which == Deadline::WriteStall {
                self.book.aborted(at, Why::Handler);
            }
        })?;
        if !self.tame && self.dice.one_in(4) {
            let count = self.dice.roll(300) * self.plan.scale;
            self.say(conn, at, count);
        }
        let line = &self.book.lines[at];
        let patient = match which {
            Deadline::Idle | Deadline::WriteStall => line.idled < line.manner.patience,
            _ => self.dice.one_in(2),
        };
        if patient {
            return Ok(());
        }
        if which == Deadline::WriteStall {
            self.book.aborted(at, Why::Late(which));
        } else {
            self.book.closing(at, Why::Late(which), conn.now());
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}
