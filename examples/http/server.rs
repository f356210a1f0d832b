//! The handler: takes the requests of a connection one by one, and keeps their time.

use std::io;
use std::time::{Duration, Instant};

use httparse::{EMPTY_HEADER, Request};
use windlass::{Conn, Deadline, Flow, Handler, Input, ListenerId};

use super::pages::{answer, page};
use super::request::{Body, Code, Page, empty, is_last, parse};

/// Time for one request, from its first byte to the last one of its body.
pub(crate) const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Silence that ends a connection between two requests.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(30);
const MOST_HEADERS: usize = 64;

#[derive(Default)]
pub(crate) struct Server {
    pub(crate) answered: u64,
    pub(crate) listener: Option<ListenerId>,
}

#[derive(Default)]
pub(crate) struct State {
    /// A body that has not wholly come; what is answered then, as to HEAD, and as the last.
    pending: Option<(Body, Page, bool, bool)>,
    /// When the request that has begun must be complete.
    due: Option<Instant>,
}

impl Handler for Server {
    type Session = State;

    fn on_accept(&mut self, conn: &mut Conn, listener: ListenerId) -> io::Result<State> {
        self.listener = Some(listener);
        conn.set_idle_timeout(Some(KEEP_ALIVE));
        Ok(State::default())
    }

    /// Stops at `Full`: the loop offers the rest again when the client has read on.
    fn on_read(&mut self, conn: &mut Conn, state: &mut State, input: &mut Input) -> io::Result<()> {
        while conn.flow() == Flow::Open {
            match self.next(conn, state, input) {
                Ok(true) => *state = State::default(),
                Ok(false) => break,
                // Where the next request begins is not known any more.
                Err(code) => answer(conn, &empty(code), false, true),
            }
        }
        let waits = conn.flow() == Flow::Open && (state.pending.is_some() || !input.is_empty());
        // Kept as it is until the request is complete, however many bytes come.
        state.due = waits.then(|| state.due.unwrap_or_else(|| conn.now() + REQUEST_TIME));
        conn.set_read_deadline(state.due);
        Ok(())
    }

    fn on_timeout(&mut self, conn: &mut Conn, _: &mut State, which: Deadline) -> io::Result<()> {
        if which == Deadline::Read {
            answer(conn, &empty((408, "Request Timeout")), false, true);
            return Ok(());
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

impl Server {
    /// Goes on with the first request of the input; whether it was complete, and answered.
    fn next(&mut self, conn: &mut Conn, it: &mut State, input: &mut Input) -> Result<bool, Code> {
        let mut headers = [EMPTY_HEADER; MOST_HEADERS];
        let mut head = Request::new(&mut headers);
        if it.pending.is_none() && parse(&mut head, input)? {
            let (body, page) = (Body::of(&head)?, page(conn, &head, self));
            it.pending = Some((body, page, head.method == Some("HEAD"), is_last(&head)));
        }
        let Some((body, page, is_head, is_last)) = &mut it.pending else {
            return Ok(false);
        };
        let complete = body.skip(input)?;
        if complete {
            answer(conn, page, *is_head, *is_last);
            self.answered += 1;
        }
        Ok(complete)
    }
}
