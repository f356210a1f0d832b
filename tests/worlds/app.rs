//! The handler under test: it follows its manners, does mischief by the dice, and writes
//! into the book whatever happens to it.

use std::io;
use std::time::Duration;

use windlass::{
    Closed, Conn, Context, Datagram, Deadline, DialId, Error, Flow, Handle, Handler, Input,
    ListenerId, Recovery, Socket, SocketId, TimerId,
};

use super::book::{Book, key_of};
use super::dice::Dice;
use super::plan::Plan;

/// The handler.
pub struct App {
    pub book: Book,
    pub dice: Dice,
    pub plan: Plan,
    pub handle: Option<Handle<Self>>,
    pub next_port: u16,
    pub packets_seen: Vec<u64>,
    pub packets_sent: u64,
    /// No more mischief: the world is settling.
    pub tame: bool,
}

impl Handler for App {
    type Session = usize;

    fn on_start(&mut self, _: &mut Context<'_>, handle: &Handle<Self>) -> io::Result<()> {
        self.book.enter("on_start", None);
        let again = std::mem::replace(&mut self.book.started, true);
        self.book.must(!again, || "on_start runs twice".to_owned());
        self.handle = Some(handle.clone());
        self.book.leave();
        Ok(())
    }

    fn on_accept(&mut self, conn: &mut Conn<'_>, listener: ListenerId) -> io::Result<usize> {
        self.book.enter("on_accept", Some(conn.id()));
        *self.book.accepts_in_turn.entry(listener).or_default() += 1;
        self.judge_accept(conn, listener);
        let peer = conn.peer_addr().as_socket_addr();
        let key = peer.map_or(0, |peer| key_of(peer, 0));
        if !self.tame && self.dice.one_in(12) {
            self.book.refused.insert(key, ());
            return self.refuse(conn);
        }
        let at = self.begin(conn, key, Some(listener), None);
        self.first_words(conn, at)
    }

    fn on_connect(&mut self, conn: &mut Conn<'_>, dial: DialId) -> io::Result<usize> {
        self.book.enter("on_connect", Some(conn.id()));
        self.book_connect(dial, conn);
        let peer = conn.peer_addr().as_socket_addr();
        // The name of our own end is asked until no scripted failure is left.
        let local = (0..50).find_map(|_| conn.local_addr().ok());
        let local = local.and_then(|it| it.as_socket_addr());
        let (Some(peer), Some(local)) = (peer, local) else {
            self.book.fail("a connection without addresses");
            self.book.leave();
            return Err(io::ErrorKind::NotConnected.into());
        };
        if !self.tame && self.dice.one_in(12) {
            let now = conn.now();
            self.book.dialed_ended(dial, now);
            return self.refuse(conn);
        }
        let twin = peer.ip().is_loopback();
        let key = if twin {
            key_of(local, 0)
        } else {
            key_of(peer, local.port())
        };
        let at = self.begin(conn, key, None, Some(dial));
        self.book.lines[at].twin = twin;
        let session = self.first_words(conn, at);
        self.book_connected(dial);
        session
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        at: &mut usize,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        self.begin_callback("on_read", conn, *at);
        self.judge_offer(conn, *at, input);
        let outcome = self.digest(conn, *at, input);
        self.end_callback(conn, *at, outcome)
    }

    fn on_eof(
        &mut self,
        conn: &mut Conn<'_>,
        at: &mut usize,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        self.begin_callback("on_eof", conn, *at);
        let line = &mut self.book.lines[*at];
        let again = std::mem::replace(&mut line.eof_told, true);
        let (owed, paused) = (line.must_offer && line.seen > line.consumed, line.paused);
        let (id, unread) = (line.id, line.seen - line.consumed);
        self.book
            .must(!again, || format!("on_eof of {id:?} runs twice"));
        self.book
            .must(!paused, || format!("on_eof of {id:?}, which is paused"));
        self.book.must(!owed, || {
            format!("on_eof of {id:?} before what was left over was offered again")
        });
        self.book.must(input.len() as u64 == unread, || {
            format!("on_eof of {id:?} has {} bytes, not {unread}", input.len())
        });
        self.compare(*at, input);
        let outcome = self.digest(conn, *at, input);
        if !self.book.lines[*at].manner.lingers_after_eof {
            self.close(conn);
        }
        self.end_callback(conn, *at, outcome)
    }

    fn on_handshake(&mut self, conn: &mut Conn<'_>, at: &mut usize) -> io::Result<()> {
        self.begin_callback("on_handshake", conn, *at);
        self.judge_handshake(*at);
        let outcome = self.maybe_mischief(conn, *at);
        self.end_callback(conn, *at, outcome)
    }

    fn on_write(&mut self, conn: &mut Conn<'_>, at: &mut usize) -> io::Result<()> {
        self.begin_callback("on_write", conn, *at);
        let line = &mut self.book.lines[*at];
        let was_full = std::mem::replace(&mut line.was_full, false);
        let (id, high) = (line.id, line.limits.high);
        self.book.must(was_full, || {
            format!("on_write of {id:?}, whose output was not full")
        });
        let full = conn.flow() == Flow::Full || conn.queued() > high;
        self.book.must(!full, || {
            format!("on_write of {id:?} with {} bytes queued", conn.queued())
        });
        let outcome = self.maybe_mischief(conn, *at);
        self.end_callback(conn, *at, outcome)
    }

    fn on_timeout(
        &mut self,
        conn: &mut Conn<'_>,
        at: &mut usize,
        which: Deadline,
    ) -> io::Result<()> {
        self.begin_callback("on_timeout", conn, *at);
        self.book.diary.note(|| format!("    {which:?}"));
        self.book.judge_deadline(conn, *at, which);
        if let Deadline::Timer(_) = which {
            conn.resume();
            self.resumed(*at);
        }
        let outcome = self.answer_timeout(conn, *at, which);
        self.end_callback(conn, *at, outcome)
    }

    fn on_wake(&mut self, conn: &mut Conn<'_>, at: &mut usize) -> io::Result<()> {
        self.begin_callback("on_wake", conn, *at);
        let line = &mut self.book.lines[*at];
        // One that was asked for by a callback right before this one is for the next turn.
        let asked = std::mem::replace(&mut line.woken, false)
            || line.woken_in.is_some_and(|turn| turn + 1 == self.book.turn);
        let id = line.id;
        self.book
            .must(asked, || format!("on_wake of {id:?}, whom nobody woke"));
        self.repent(conn, *at);
        let outcome = self.maybe_mischief(conn, *at);
        self.end_callback(conn, *at, outcome)
    }

    fn on_shutdown(&mut self, conn: &mut Conn<'_>, at: &mut usize) -> io::Result<()> {
        self.begin_callback("on_shutdown", conn, *at);
        let line = &mut self.book.lines[*at];
        let again = std::mem::replace(&mut line.shutdown_told, true);
        let (id, stays) = (line.id, line.manner.stays_in_shutdown);
        let stopping = self.book.stop_at.is_some();
        self.book.must(stopping && !again, || {
            format!("on_shutdown of {id:?}: stopping {stopping}, told before {again}")
        });
        let outcome = self.maybe_mischief(conn, *at);
        if !stays {
            self.close(conn);
        }
        self.end_callback(conn, *at, outcome)
    }

    fn on_close(&mut self, cx: &mut Context<'_>, at: usize, closed: &Closed) {
        self.book.enter("on_close", Some(closed.id));
        self.book.diary.note(|| format!("    {}", closed.reason));
        let there = cx.conn(closed.id).is_some();
        self.book.must(!there, || {
            format!("{:?} answers in its own on_close", closed.id)
        });
        self.book.judge_close(at, closed, cx.now());
        self.judge_drain(at, closed);
        if !self.tame && self.dice.one_in(self.plan.mischief * 2) {
            self.mischief_elsewhere(cx);
        }
        self.maybe_panic(None);
        self.book.leave();
    }

    fn on_dial_error(
        &mut self,
        cx: &mut Context<'_>,
        dial: DialId,
        error: &Error,
        retry_in: Option<Duration>,
    ) {
        self.book.enter("on_dial_error", None);
        self.book
            .diary
            .note(|| format!("    {dial:?}: {error}, again in {retry_in:?}"));
        self.book_dial_error(dial, error.is_timeout(), retry_in, cx.now());
        self.maybe_panic(None);
        self.book.leave();
    }

    fn on_accept_error(&mut self, cx: &mut Context<'_>, listener: ListenerId, error: &Error) {
        self.book.enter("on_accept_error", None);
        self.book
            .diary
            .note(|| format!("    {listener:?}: {error}"));
        let gone = cx.listener(listener).is_none();
        let given_up = error.recovery() == Recovery::GiveUp && !error.is_timeout();
        // It may have been closed between the error and this word of it.
        let mut closed = self.book.listeners.iter().filter(|it| it.closing);
        let closed = closed.any(|it| it.id == listener) || self.book.stop_at.is_some();
        self.book.must(gone == given_up || (gone && closed), || {
            format!("{listener:?} is gone: {gone}, after {error}")
        });
        for it in &mut self.book.listeners {
            it.closing |= gone && it.id == listener;
        }
        self.maybe_panic(None);
        self.book.leave();
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, timer: TimerId) {
        self.book.enter("on_timer", None);
        let now = cx.now();
        match self.book.timers.remove(&timer) {
            None => self
                .book
                .fail(format!("{timer:?} was not set, or fires twice")),
            Some(alarm) => {
                self.book.spent_timers.push(timer);
                self.book.judge_time("a timer", alarm.at, alarm.set_in, now);
                if let Some(at) = alarm.resumes {
                    let id = self.book.lines[at].id;
                    if let Some(mut conn) = cx.conn(id) {
                        conn.resume();
                        self.resumed(at);
                    }
                } else if !self.tame {
                    self.mischief_elsewhere(cx);
                }
            }
        }
        self.maybe_panic(None);
        self.book.leave();
    }

    fn on_datagram(&mut self, socket: &mut Socket<'_>, datagram: &Datagram<'_>) {
        self.book.enter("on_datagram", None);
        self.meet(socket, datagram);
        self.maybe_panic(None);
        self.book.leave();
    }

    fn on_socket_error(&mut self, cx: &mut Context<'_>, socket: SocketId, error: &Error) {
        self.book.enter("on_socket_error", None);
        self.book.diary.note(|| format!("    {socket:?}: {error}"));
        let gone = cx.socket(socket).is_none();
        for it in &mut self.book.sockets {
            it.closed |= gone && it.id == socket;
        }
        self.book.leave();
    }

    fn on_socket_writable(&mut self, socket: &mut Socket<'_>) {
        self.book.enter("on_socket_writable", None);
        let id = socket.id();
        self.book.diary.note(|| format!("    {id:?}"));
        self.book.leave();
    }

    fn on_stop(&mut self, cx: &mut Context<'_>) {
        self.book.enter("on_stop", None);
        let open = self.book.alive().count();
        self.book.must(open == 0 && cx.stats().open == 0, || {
            format!("on_stop with {open} connections open")
        });
        self.book.leave();
        self.book.stopped = true;
    }
}

impl App {
    /// A handler of those manners, before anything has happened.
    pub fn new(plan: Plan, dice: Dice) -> Self {
        let config = &plan.config;
        let book = Book {
            idle: config.idle_timeout,
            linger: config.linger,
            stall: config.write_stall_timeout,
            memory_limit: config.memory_limit,
            limits: config.limits,
            ..Book::default()
        };
        Self {
            book,
            dice,
            plan,
            handle: None,
            next_port: 1000,
            packets_seen: Vec::new(),
            packets_sent: 0,
            tame: false,
        }
    }
}
