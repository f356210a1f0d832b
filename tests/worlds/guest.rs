//! A part of a loop that several share: what it serves beside TCP, and the model of it.
//!
//! Unix streams and records with descriptors, connections that leave the loop and come back,
//! watched pipes, and datagrams of which none may be lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use windlass::sim::Diary;
use windlass::{
    Closed, Conn, ConnId, Context, Datagram, Deadline, DialId, Error, Flow, Handler, Input,
    Interest, Limits, ListenerId, Ready, Recovery, Socket, SocketId, TimerId, WatchId,
};

use super::book::TOLERANCE;
use super::dice::{Dice, Stream};
use super::errands::number_of;

/// How a part behaves.
#[derive(Clone, Copy, Debug)]
pub struct Temper {
    /// One callback in so many does something that nobody asked for.
    pub mischief: usize,
    pub panics: bool,
    /// Bytes of one bite; zero takes everything.
    pub bite: usize,
    /// Bytes written for each that was consumed, in quarters.
    pub answers: usize,
    /// Descriptors that may wait on one connection.
    pub fds: usize,
}

/// One part.
pub struct Guest {
    pub name: usize,
    pub temper: Temper,
    pub dice: Dice,
    pub diary: Diary,
    pub tame: bool,
    pub broken: Option<String>,
    pub corners: BTreeSet<&'static str>,
    pub lines: Vec<Line>,
    pub by_id: BTreeMap<ConnId, usize>,
    pub by_key: BTreeMap<u64, usize>,
    pub halls: BTreeMap<ListenerId, Hall>,
    /// The records that were sent to a line, by its key: their lengths.
    pub records: BTreeMap<u64, Vec<usize>>,
    /// Connections outside of the loop, and those that are on their way back.
    pub away: Vec<(usize, OwnedFd)>,
    pub returning: BTreeMap<DialId, usize>,
    pub dials: BTreeMap<DialId, bool>,
    pub next_key: u64,
    pub feeds: BTreeMap<WatchId, Feed>,
    pub timers: BTreeMap<TimerId, Instant>,
    pub mailbox: Option<Mailbox>,
    pub group: Option<Mailbox>,
    pub member: bool,
    pub stopped: bool,
    inside: bool,
}

/// A listener of its own.
#[derive(Default)]
pub struct Hall {
    /// Whoever has connected and was not accepted, in order.
    pub waiting: VecDeque<u64>,
    pub records: bool,
    pub paused: bool,
    pub gone: bool,
    pub deadline: Option<Instant>,
}

/// One connection, under all the names that it has had.
pub struct Line {
    pub id: ConnId,
    pub key: u64,
    pub records: bool,
    pub consumed: u64,
    pub seen: u64,
    /// Records consumed.
    pub count: usize,
    pub written: u64,
    pub limits: Limits,
    /// What each write was, of records.
    pub sent: Vec<usize>,
    pub paused: bool,
    pub half: bool,
    pub eof: bool,
    pub open: bool,
    pub away: bool,
    pub closing: bool,
    pub orderly: bool,
    pub panicked: bool,
    /// A fault was played while it lived.
    pub hurt: bool,
    pub tags: u8,
    again: bool,
}

/// A watched pipe.
pub struct Feed {
    pub reader: PipeReader,
    pub key: u64,
    pub got: u64,
    pub over: bool,
}

/// A datagram socket.
pub struct Mailbox {
    pub id: SocketId,
    pub got: Vec<u64>,
    pub gone: bool,
}

impl Guest {
    pub fn new(name: usize, temper: Temper, dice: Dice) -> Self {
        Self {
            name,
            temper,
            dice,
            diary: Diary::default(),
            tame: false,
            broken: None,
            corners: BTreeSet::new(),
            lines: Vec::new(),
            by_id: BTreeMap::new(),
            by_key: BTreeMap::new(),
            halls: BTreeMap::new(),
            records: BTreeMap::new(),
            away: Vec::new(),
            returning: BTreeMap::new(),
            dials: BTreeMap::new(),
            next_key: 0,
            feeds: BTreeMap::new(),
            timers: BTreeMap::new(),
            mailbox: None,
            group: None,
            member: false,
            stopped: false,
            inside: false,
        }
    }

    fn must(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            let what = format!("part {}: {}", self.name, what());
            self.diary.note(|| format!("BROKEN: {what}"));
            self.broken.get_or_insert(what);
        }
    }

    fn enter(&mut self, name: &'static str) {
        let (inside, stopped) = (self.inside, self.stopped);
        self.must(!inside, || format!("{name} runs inside another callback"));
        self.must(!stopped, || format!("{name} runs after on_stop"));
        self.inside = true;
        self.corners.insert(name);
    }

    /// A callback of a connection: it has to be one of ours, and open.
    fn enter_line(&mut self, name: &'static str, at: usize, id: ConnId) {
        self.enter(name);
        let line = self.lines.get(at);
        let fits = line.is_some_and(|it| it.id == id && it.open && !it.closing);
        self.must(fits, || format!("{name} of {id:?}, which is not open here"));
    }

    fn leave(&mut self) {
        if self.temper.panics && !self.tame && self.dice.one_in(60) {
            self.inside = false;
            self.diary.note(|| "    panics".to_owned());
            self.corners.insert("a callback panics");
            std::panic::resume_unwind(Box::new("as planned"));
        }
        self.inside = false;
    }

    /// As [`leave`](Self::leave), from a callback of a connection.
    fn leave_line(&mut self, at: usize, outcome: io::Result<()>) -> io::Result<()> {
        self.lines[at].closing |= outcome.is_err();
        if self.lines[at].away {
            self.inside = false;
            return outcome;
        }
        let known = (self.lines[at].closing, self.lines[at].panicked);
        (self.lines[at].closing, self.lines[at].panicked) = (true, true);
        self.leave();
        (self.lines[at].closing, self.lines[at].panicked) = known;
        outcome
    }

    fn begin(&mut self, conn: &mut Conn<'_>, key: u64, records: bool) -> usize {
        conn.accept_fds(self.temper.fds);
        let at = self.lines.len();
        let id = conn.id();
        let known = self.by_id.insert(id, at);
        self.must(known.is_none(), || format!("{id:?} was used before"));
        self.by_key.insert(key, at);
        self.lines.push(Line {
            id,
            key,
            records,
            consumed: 0,
            seen: 0,
            count: 0,
            written: 0,
            limits: conn.limits(),
            sent: Vec::new(),
            paused: false,
            half: false,
            eof: false,
            open: true,
            away: false,
            closing: false,
            orderly: false,
            panicked: false,
            hurt: false,
            tags: 0,
            again: false,
        });
        at
    }
}

/// Bytes.
impl Guest {
    /// Writes the next `count` bytes, now and then with a descriptor.
    pub fn say(&mut self, conn: &mut Conn<'_>, at: usize, count: usize) {
        let line = &self.lines[at];
        let count = if line.records {
            count.min(super::annex::RECORD)
        } else {
            count
        };
        if count == 0 || conn.flow() != Flow::Open {
            return;
        }
        let bytes = Stream::new(!line.key).bytes(line.written, count);
        let flow = if self.dice.one_in(6) && !self.tame {
            let pipe = io::pipe().map(|(reader, _)| OwnedFd::from(reader));
            conn.send_fds(pipe.into_iter().collect(), &bytes)
        } else {
            conn.write(&bytes)
        };
        let line = &mut self.lines[at];
        let over = line.half || line.closing || !line.open;
        if flow == Flow::Closed {
            line.closing = true;
            line.hurt = true;
        } else {
            line.written += count as u64;
            line.sent.push(count);
        }
        let limit = line.limits.limit;
        let id = line.id;
        self.must(!over || flow == Flow::Closed, || {
            format!("{id:?} took a write after its end")
        });
        let queued = conn.queued();
        self.must(flow == Flow::Closed || queued <= limit, || {
            format!("{id:?} holds {queued} bytes of {limit}")
        });
    }

    /// What is offered goes on where it ended, record by record where there are some.
    fn look(&mut self, at: usize, input: &Input<'_>) {
        let line = &mut self.lines[at];
        let id = line.id;
        let wrong = Stream::new(line.key).differs(line.consumed, input.rest());
        let unread = line.seen - line.consumed;
        let fresh = input.len() as u64 > unread || std::mem::take(&mut line.again) || line.eof;
        line.seen = line.consumed + input.len() as u64;
        let whole = line.records.then(|| {
            let lens = self.records.get(&line.key);
            lens.and_then(|it| it.get(line.count)).copied().unwrap_or(0)
        });
        let paused = line.paused && !line.eof;
        self.must(wrong.is_none(), || {
            format!("{id:?} read a wrong byte at {wrong:?}")
        });
        self.must(fresh, || format!("{id:?} is offered what it has seen"));
        self.must(!paused, || format!("{id:?} is paused and reads"));
        let fits = whole.is_none_or(|len| len == input.len() || input.is_empty());
        self.must(fits, || {
            format!(
                "{id:?} was offered {} bytes of a record of {whole:?}",
                input.len()
            )
        });
    }

    fn take_descriptors(&mut self, conn: &mut Conn<'_>, at: usize) {
        while let Some(fd) = conn.take_fd() {
            self.corners.insert("a descriptor comes");
            self.lines[at].tags += 1;
            let tag = self.lines[at].tags;
            // Whoever has the other end sees in which order they were taken.
            let _ = std::fs::File::from(fd).write_all(&[tag]);
        }
    }

    fn digest(&mut self, conn: &mut Conn<'_>, at: usize, input: &mut Input<'_>) {
        let line = &mut self.lines[at];
        let all = line.records || self.temper.bite == 0;
        let bite = if all {
            input.len()
        } else {
            self.temper.bite.min(input.len())
        };
        input.consume(bite);
        line.consumed += bite as u64;
        line.count += 1;
        if !input.is_empty() {
            conn.read_again();
            line.again = true;
        }
        if line.written < 3000 {
            self.say(conn, at, bite * self.temper.answers / 4);
        }
    }
}

/// Mischief.
impl Guest {
    pub fn maybe_mischief(&mut self, conn: &mut Conn<'_>, at: usize) -> io::Result<()> {
        if self.tame || !self.dice.one_in(self.temper.mischief) {
            return Ok(());
        }
        let what = self.dice.roll(16);
        self.diary.note(|| format!("    mischief {what}"));
        match what {
            0 => self.nap(conn, at),
            1 => self.close(conn, at),
            2 => {
                conn.abort();
                self.lines[at].closing = true;
                self.lines[at].hurt = true;
            }
            3 => {
                conn.shutdown_write();
                self.lines[at].half = true;
            }
            4 => self.set_limits(conn, at),
            5 | 6 => self.say(conn, at, 40),
            7 => return Err(io::Error::other("as planned")),
            8 | 9 => self.detach(conn, at),
            _ => self.elsewhere(conn.cx()),
        }
        Ok(())
    }

    pub fn elsewhere(&mut self, cx: &mut Context<'_>) {
        match self.dice.roll(12) {
            0 => self.with_hall(cx, |listener, hall, _| {
                hall.paused = !hall.paused;
                if hall.paused {
                    listener.pause();
                } else {
                    listener.resume();
                }
            }),
            1 | 2 => self.with_hall(cx, |listener, hall, ahead| {
                listener.set_deadline(Some(ahead));
                hall.deadline = Some(ahead);
            }),
            3 => self.with_hall(cx, |listener, hall, _| {
                listener.set_deadline(None);
                hall.deadline = None;
            }),
            4 => self.unwatch(cx),
            5 | 6 => self.come_back(cx),
            7 => drop(self.away.pop()),
            8 => self.change_group(cx),
            9 => self.ask_the_dead(cx),
            _ => {
                let at = cx.now() + self.dice.time(Duration::from_millis(80));
                let timer = cx.set_timer(at);
                let known = self.timers.insert(timer, at);
                self.must(known.is_none(), || format!("{timer:?} is two timers"));
            }
        }
    }

    fn nap(&mut self, conn: &mut Conn<'_>, at: usize) {
        conn.pause();
        self.lines[at].paused = true;
        conn.set_timer(conn.now() + self.dice.time(Duration::from_millis(30)));
    }

    pub fn wake_up(&mut self, conn: &mut Conn<'_>, at: usize) {
        let line = &mut self.lines[at];
        line.again |= std::mem::take(&mut line.paused);
        conn.resume();
    }

    fn close(&mut self, conn: &mut Conn<'_>, at: usize) {
        conn.close();
        self.lines[at].closing = true;
    }

    fn set_limits(&mut self, conn: &mut Conn<'_>, at: usize) {
        let mut limits = conn.limits();
        limits.low = self.dice.roll(100);
        limits.high = limits.low + self.dice.roll(200);
        limits.limit = limits.high + 200 + self.dice.roll(4000);
        if conn.queued() <= limits.limit && conn.set_limits(limits).is_ok() {
            self.lines[at].limits = limits;
        }
    }

    /// The connection leaves the loop, if everything that was offered is consumed.
    fn detach(&mut self, conn: &mut Conn<'_>, at: usize) {
        let line = &self.lines[at];
        if line.half || line.seen > line.consumed {
            return;
        }
        if let Ok(fd) = conn.detach() {
            self.corners.insert("detach");
            self.away.push((at, fd));
            self.lines[at].away = true;
            self.lines[at].closing = true;
        }
    }

    pub fn come_back(&mut self, cx: &mut Context<'_>) {
        let Some((at, fd)) = self.away.pop() else {
            return;
        };
        // In the few callbacks between, its `on_close` may still be due.
        if self.lines[at].open {
            return self.away.push((at, fd));
        }
        if let Ok(dial) = cx.adopt(fd) {
            self.returning.insert(dial, at);
        }
    }

    fn with_hall(
        &mut self,
        cx: &mut Context<'_>,
        act: impl FnOnce(&mut windlass::Listener<'_>, &mut Hall, Instant),
    ) {
        let place = self.dice.roll(self.halls.len().max(1));
        let ahead = cx.now() + self.dice.time(Duration::from_millis(100));
        if let Some((&id, hall)) = self.halls.iter_mut().nth(place)
            && !hall.gone
            && let Some(mut listener) = cx.listener(id)
        {
            act(&mut listener, hall, ahead);
        }
    }

    fn unwatch(&mut self, cx: &mut Context<'_>) {
        let live = self.feeds.iter_mut().find(|(_, feed)| !feed.over);
        if let Some((&id, feed)) = live {
            feed.over = true;
            let back = cx.unwatch(id);
            let again = cx.unwatch(id);
            self.must(back.is_some() && again.is_none(), || {
                format!("{id:?} was unwatched: {back:?}, {again:?}")
            });
        }
    }

    fn change_group(&mut self, cx: &mut Context<'_>) {
        let Some(id) = self.group.as_ref().filter(|it| !it.gone).map(|it| it.id) else {
            return;
        };
        if let Some(mut socket) = cx.socket(id) {
            let changed = if self.member {
                socket.leave(super::annex::GROUP, 0)
            } else {
                socket.join(super::annex::GROUP, 0)
            };
            // A fault may have kept it from changing.
            self.member ^= changed.is_ok();
        }
    }

    fn ask_the_dead(&mut self, cx: &mut Context<'_>) {
        let ids: Vec<_> = self.by_id.iter().map(|(&id, &at)| (id, at)).collect();
        for (id, at) in ids {
            let line = &self.lines[at];
            let gone = line.id != id || !line.open;
            let found = cx.conn(id).is_some();
            self.must(!gone || !found, || format!("{id:?} is closed and answers"));
        }
    }

    pub fn watch(&mut self, cx: &mut Context<'_>, reader: PipeReader, key: u64) {
        let Ok(copy) = reader.try_clone() else { return };
        match cx.watch(copy, Interest::Read) {
            Ok(id) => {
                let feed = Feed {
                    reader,
                    key,
                    got: 0,
                    over: false,
                };
                let known = self.feeds.insert(id, feed);
                self.must(known.is_none(), || format!("{id:?} is two watches"));
            }
            Err(error) => self.diary.note(|| format!("    no watch: {error}")),
        }
    }
}

impl Handler for Guest {
    type Session = usize;

    fn on_accept(&mut self, conn: &mut Conn<'_>, listener: ListenerId) -> io::Result<usize> {
        self.enter("on_accept");
        let hall = self.halls.get_mut(&listener);
        let (key, records) = hall.map_or((None, false), |it| (it.waiting.pop_front(), it.records));
        self.must(key.is_some(), || {
            format!("{listener:?} is another part's, or nobody came")
        });
        let at = self.begin(conn, key.unwrap_or(0), records);
        if self.dice.one_in(4) {
            self.say(conn, at, 20);
        }
        // A fault may keep it from saying.
        let known = conn.peer_cred().map_or(true, |it| it.uid == 1000);
        self.must(known, || "nobody knows who that is".to_owned());
        self.inside = false;
        Ok(at)
    }

    fn on_connect(&mut self, conn: &mut Conn<'_>, dial: DialId) -> io::Result<usize> {
        self.enter("on_connect");
        if let Some(at) = self.returning.remove(&dial) {
            self.corners.insert("adopt");
            let id = conn.id();
            conn.accept_fds(self.temper.fds);
            self.by_id.insert(id, at);
            let line = &mut self.lines[at];
            (line.id, line.open, line.away, line.closing) = (id, true, false, false);
            (line.paused, line.limits) = (false, conn.limits());
            self.inside = false;
            return Ok(at);
        }
        let records = self.dials.remove(&dial);
        self.must(records.is_some(), || format!("{dial:?} is nobody's"));
        self.next_key += 1;
        let key = super::annex::DIALED | (self.name as u64) << 20 | self.next_key;
        let at = self.begin(conn, key, records.unwrap_or(false));
        // So that its far end knows whose it is.
        conn.write(&key.to_be_bytes());
        self.inside = false;
        Ok(at)
    }

    fn on_dial_error(&mut self, _: &mut Context<'_>, dial: DialId, _: &Error, _: Option<Duration>) {
        self.enter("on_dial_error");
        let known = self.dials.remove(&dial).is_some() || self.returning.remove(&dial).is_some();
        self.must(known, || format!("{dial:?} is nobody's, or over"));
        self.leave();
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        at: &mut usize,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        self.enter_line("on_read", *at, conn.id());
        self.look(*at, input);
        self.take_descriptors(conn, *at);
        self.digest(conn, *at, input);
        let outcome = self.maybe_mischief(conn, *at);
        self.leave_line(*at, outcome)
    }

    fn on_write(&mut self, conn: &mut Conn<'_>, at: &mut usize) -> io::Result<()> {
        self.enter_line("on_write", *at, conn.id());
        let (id, high, queued) = (conn.id(), self.lines[*at].limits.high, conn.queued());
        self.must(queued <= high, || {
            format!("on_write of {id:?} with {queued} queued")
        });
        let outcome = self.maybe_mischief(conn, *at);
        self.leave_line(*at, outcome)
    }

    fn on_eof(
        &mut self,
        conn: &mut Conn<'_>,
        at: &mut usize,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        self.enter_line("on_eof", *at, conn.id());
        let again = std::mem::replace(&mut self.lines[*at].eof, true);
        let id = conn.id();
        self.must(!again, || format!("on_eof of {id:?} runs twice"));
        self.look(*at, input);
        self.take_descriptors(conn, *at);
        let rest = input.take_all().len() as u64;
        self.lines[*at].consumed += rest;
        self.say(conn, *at, 10);
        self.close(conn, *at);
        self.leave_line(*at, Ok(()))
    }

    fn on_timeout(
        &mut self,
        conn: &mut Conn<'_>,
        at: &mut usize,
        which: Deadline,
    ) -> io::Result<()> {
        self.enter_line("on_timeout", *at, conn.id());
        if let Deadline::Timer(_) = which {
            self.wake_up(conn, *at);
            return self.leave_line(*at, Ok(()));
        }
        self.lines[*at].hurt |= which == Deadline::WriteStall;
        self.leave_line(*at, Err(io::ErrorKind::TimedOut.into()))
    }

    fn on_shutdown(&mut self, conn: &mut Conn<'_>, at: &mut usize) -> io::Result<()> {
        self.enter_line("on_shutdown", *at, conn.id());
        self.close(conn, *at);
        self.leave_line(*at, Ok(()))
    }

    fn on_close(&mut self, cx: &mut Context<'_>, at: usize, closed: &Closed) {
        self.enter("on_close");
        let line = &mut self.lines[at];
        let fits = line.id == closed.id && line.open;
        line.open = false;
        let reason = closed.reason.to_string();
        let broken = reason.contains("reset") || reason.contains("shutdown");
        line.orderly = line.closing && !line.panicked && !broken && closed.unsent == 0;
        let away = reason == "detached";
        let odd = away != line.away;
        self.must(fits, || {
            format!("on_close of {:?}, which is not open", closed.id)
        });
        self.must(!odd, || {
            format!("{:?} was given away or not: {reason}", closed.id)
        });
        let there = cx.conn(closed.id).is_some();
        self.must(!there, || {
            format!("{:?} answers in its on_close", closed.id)
        });
        self.leave();
    }

    fn on_accept_error(&mut self, cx: &mut Context<'_>, listener: ListenerId, error: &Error) {
        self.enter("on_accept_error");
        let now = cx.now();
        let gone = cx.listener(listener).is_none();
        let Some(hall) = self.halls.get_mut(&listener) else {
            return self.must(false, || format!("{listener:?} is another part's"));
        };
        if error.is_timeout() {
            let due = hall.deadline.take();
            self.corners.insert("a listener's deadline");
            let early = due.is_none_or(|due| now < due);
            self.must(!early, || format!("{listener:?} timed out early: {due:?}"));
        } else {
            hall.gone |= gone || error.recovery() == Recovery::GiveUp;
        }
        self.leave();
    }

    fn on_ready(&mut self, cx: &mut Context<'_>, watch: WatchId, _: Ready) {
        self.enter("on_ready");
        let Some(feed) = self.feeds.get_mut(&watch).filter(|it| !it.over) else {
            return self.must(false, || format!("{watch:?} is not watched"));
        };
        let mut buffer = [0; 7];
        let count = feed.reader.read(&mut buffer).unwrap_or(0);
        let wrong = Stream::new(feed.key).differs(feed.got, &buffer[..count]);
        feed.got += count as u64;
        if count == 0 {
            feed.over = true;
            cx.unwatch(watch);
        }
        self.must(wrong.is_none(), || format!("{watch:?} read a wrong byte"));
        if !self.tame && self.dice.one_in(self.temper.mischief) {
            self.elsewhere(cx);
        }
        self.leave();
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, timer: TimerId) {
        self.enter("on_timer");
        let due = self.timers.remove(&timer);
        let early = due.is_none_or(|due| cx.now() < due);
        self.must(!early, || format!("{timer:?} fires early, or twice"));
        if !self.tame {
            self.elsewhere(cx);
        }
        self.leave();
    }

    fn on_datagram(&mut self, socket: &mut Socket<'_>, datagram: &Datagram<'_>) {
        self.enter("on_datagram");
        let id = socket.id();
        let number = number_of(datagram.bytes());
        let boxes = [&mut self.mailbox, &mut self.group];
        let to = boxes
            .into_iter()
            .flatten()
            .find(|it| it.id == id && !it.gone);
        let known = to.is_some();
        if let (Some(to), Some(number)) = (to, number) {
            to.got.push(number);
        }
        self.must(known, || format!("{id:?} is another part's, or closed"));
        self.must(number.is_some(), || "a datagram came damaged".to_owned());
        self.leave();
    }

    fn on_socket_error(&mut self, cx: &mut Context<'_>, socket: SocketId, _: &Error) {
        self.enter("on_socket_error");
        let gone = cx.socket(socket).is_none();
        for it in [&mut self.mailbox, &mut self.group].into_iter().flatten() {
            it.gone |= gone && it.id == socket;
        }
        self.leave();
    }

    fn on_stop(&mut self, _: &mut Context<'_>) {
        self.enter("on_stop");
        let open = self.lines.iter().filter(|it| it.open).count();
        self.must(open == 0, || {
            format!("on_stop with {open} connections open")
        });
        self.inside = false;
        self.stopped = true;
    }
}

impl Guest {
    /// What is overdue while nothing happens.
    pub fn overdue(&self, now: Instant) -> Option<String> {
        let late = |due: &Instant| now > *due + TOLERANCE;
        let timer = self.timers.values().any(late);
        let halls = self.halls.values().filter(|it| !it.gone);
        let hall = halls.filter_map(|it| it.deadline.as_ref()).any(late);
        let what = match (timer, hall) {
            (true, _) => "a timer",
            (_, true) => "a listener's deadline",
            _ => return None,
        };
        Some(format!("{what} of part {} is overdue", self.name))
    }
}
