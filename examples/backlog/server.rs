//! The server: a listener that is paused but for one client at a time.

use std::fmt::Display;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use windlass::{Conn, Context, Error, Handle, Handler, Listen, ListenerId, TimerId};

use crate::client::dial_in_a_row;
use crate::picture::Picture;
use crate::{Plan, SECOND};

#[derive(Default)]
pub(crate) struct Server {
    plan: Plan,
    listener: Option<ListenerId>,
    /// Each time it rings, one client is accepted.
    bell: Option<TimerId>,
    pub(crate) stopping: bool,
    pub(crate) picture: Picture,
}

impl Handler for Server {
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<'_>, handle: &Handle<Self>) -> io::Result<()> {
        let id = cx.listen(Listen::new("127.0.0.1:0")?.backlog(self.plan.backlog))?;
        self.listener = Some(id);
        let mut address = None;
        if let Some(mut listener) = cx.listener(id) {
            listener.pause();
            address = listener.local_addr().as_socket_addr();
        }
        let address = address.ok_or(io::ErrorKind::AddrNotAvailable)?;
        self.say(cx, format!("listening on {address}"));
        match self.plan.every {
            Some(every) => self.say(cx, format!("accepting one client every {every:?}")),
            None => self.say(cx, "accepting nobody"),
        }
        self.picture.dials = self.plan.dials;
        self.set_bell(cx);
        cx.set_timer(cx.now() + FRAME);
        let (plan, handle) = (self.plan, handle.clone());
        thread::Builder::new().spawn(move || dial_in_a_row(plan, address, &handle))?;
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, timer: TimerId) {
        if Some(timer) != self.bell {
            cx.set_timer(cx.now() + FRAME);
            return self.picture.frame(cx.now());
        }
        self.set_bell(cx);
        if let Some(mut listener) = self.listener.and_then(|id| cx.listener(id)) {
            listener.resume();
        }
    }

    fn on_accept(&mut self, conn: &mut Conn<'_>, id: ListenerId) -> io::Result<()> {
        self.picture.accepted += 1;
        let n = self.picture.accepted;
        if self.stopping {
            self.say(conn.cx(), format!("accept {n}, to empty the queue"));
        } else if let Some(mut listener) = conn.cx().listener(id) {
            // That was the one; the next ring resumes.
            listener.pause();
            self.say(conn.cx(), format!("accept {n}"));
        }
        Ok(())
    }
}

impl Server {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan,
            ..Self::default()
        }
    }

    // What the client posts.

    pub(crate) fn dialing(&mut self, now: Instant) {
        self.picture.dialing = Some(now);
    }

    pub(crate) fn dialed(&mut self, cx: &mut Context<'_>, took: Duration, failed: Option<Error>) {
        let n = self.picture.dialed(took, failed.is_none());
        match &failed {
            None => self.say(cx, format!("dial {n}: connected after {took:.1?}")),
            Some(error) => self.say(cx, error),
        }
        self.picture.failed = failed;
    }

    pub(crate) fn stop(&mut self, cx: &mut Context<'_>, why: &str) {
        if !std::mem::replace(&mut self.stopping, true) {
            self.picture.next_accept = None;
            self.say(cx, format!("{why}; the server stops"));
            cx.shutdown(SECOND);
        }
    }

    fn set_bell(&mut self, cx: &mut Context<'_>) {
        self.picture.next_accept = self.plan.every.map(|every| cx.now() + every);
        self.bell = self.picture.next_accept.map(|at| cx.set_timer(at));
    }

    /// One line with what happened, and with the queue as the kernel has it now.
    fn say(&mut self, cx: &mut Context<'_>, what: impl Display) {
        let listener = self.listener.and_then(|id| cx.listener(id));
        self.picture.queue = listener.and_then(|mut listener| listener.queue().ok());
        self.picture.line(cx.now(), &what.to_string());
    }
}

/// How often the picture is drawn again.
const FRAME: Duration = Duration::from_millis(100);
