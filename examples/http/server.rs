//! The handler: takes the requests of a connection one by one, and keeps their time.

use std::io;
use std::time::Instant;

use windlass::{Conn, Deadline, Flow, Handler, Input, ListenerId};

use super::answer::Answer;
use super::body::Body;
use super::request::{self, Code, KEEP_ALIVE, REQUEST_TIME};

#[derive(Default)]
pub(crate) struct Server {
    pub(crate) answered: u64,
    pub(crate) listener: Option<ListenerId>,
}

#[derive(Default)]
pub(crate) struct Session {
    /// A request whose body has not wholly come, and what it will be answered.
    pending: Option<(Body, Answer)>,
    /// When the request that has begun must be complete.
    due: Option<Instant>,
    /// Nothing follows the next answer: the server stops.
    last: bool,
}

impl Handler for Server {
    type Session = Session;

    fn on_accept(&mut self, conn: &mut Conn<'_>, listener: ListenerId) -> io::Result<Session> {
        self.listener = Some(listener);
        conn.set_idle_timeout(Some(KEEP_ALIVE));
        Ok(Session::default())
    }

    /// Stops at `Full`; the loop offers the rest again when the client has read on, and
    /// only then says that the client has finished, which by default closes.
    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        session: &mut Session,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        while conn.flow() == Flow::Open {
            match self.next(conn, session, input) {
                Ok(true) => {}
                Ok(false) => break,
                // Where the next request begins is not known any more.
                Err(code) => Answer::error(code).send(conn, true),
            }
        }
        let waits = conn.flow() == Flow::Open && (session.pending.is_some() || !input.is_empty());
        // Kept as it is until the request is complete, however many bytes come.
        session.due = waits.then(|| session.due.unwrap_or_else(|| conn.now() + REQUEST_TIME));
        conn.set_read_deadline(session.due);
        Ok(())
    }

    fn on_timeout(
        &mut self,
        conn: &mut Conn<'_>,
        _session: &mut Session,
        which: Deadline,
    ) -> io::Result<()> {
        if which != Deadline::Read {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Answer::error("408 Request Timeout").send(conn, true);
        Ok(())
    }

    fn on_shutdown(&mut self, conn: &mut Conn<'_>, session: &mut Session) -> io::Result<()> {
        session.last = true;
        if session.due.is_none() {
            conn.close();
        }
        Ok(())
    }
}

impl Server {
    /// Goes on with the request that stands first in the input; whether it was answered.
    fn next(
        &mut self,
        conn: &mut Conn<'_>,
        session: &mut Session,
        input: &mut Input<'_>,
    ) -> Result<bool, Code> {
        if session.pending.is_none() {
            session.pending = request::begin(conn, input, self)?;
        }
        let complete = match &mut session.pending {
            Some((body, _)) => body.skip(input)?,
            None => false,
        };
        if let Some((_, answer)) = session.pending.take_if(|_| complete) {
            self.answered += 1;
            session.due = None;
            answer.send(conn, session.last);
        }
        Ok(complete)
    }
}
