//! The handler: requests in, answers out, and one timer for the keys that end.

use std::io;
use std::time::Instant;

use super::answer::Answer;
use super::commands;
use super::requests::{Request, Requests};
use super::store::Store;
use windlass::codec::Decoder;
use windlass::{Conn, Context, Flow, Handler, Input, ListenerId, TimerId};

/// Keys that one turn may bury, so that a million with one end do not hold everybody up.
const SWEEP: usize = 10_000;

pub(crate) struct Server {
    pub(crate) store: Store,
    /// When the first key ends; the loop looks then.
    alarm: Option<(Instant, TimerId)>,
}

impl Server {
    pub(crate) fn new(memory: usize) -> Self {
        let (store, alarm) = (Store::new(memory), None);
        Self { store, alarm }
    }

    fn set_alarm(&mut self, cx: &mut Context<'_>) {
        let due = self.store.next_end();
        if self.alarm.map(|(at, _)| at) != due {
            self.alarm.map(|(_, timer)| cx.cancel_timer(timer));
            self.alarm = due.map(|at| (at, cx.set_timer(at)));
        }
    }
}

impl Handler for Server {
    type Session = Requests;

    fn on_accept(&mut self, _conn: &mut Conn<'_>, _listener: ListenerId) -> io::Result<Requests> {
        Ok(Requests::default())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        requests: &mut Requests,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        // A client that does not read its answers is not read from: at `Flow::Full` the
        // loop pauses, what is left in the input waits, and is offered again by itself when
        // there is room.
        while conn.flow() == Flow::Open
            && let Some(request) = requests.decode(input)?
        {
            let answer = match request {
                Request::Words(words) => commands::run(&mut self.store, &words, conn.now()),
                Request::Wrong(why) => Answer::Last(format!("-ERR Protocol error: {why}")),
            };
            answer.write(conn);
        }
        self.set_alarm(conn.cx());
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _timer: TimerId) {
        self.alarm = None;
        self.store.sweep(cx.now(), SWEEP);
        self.set_alarm(cx);
    }
}
