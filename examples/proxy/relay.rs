//! The handler: each client, and the server dialed for it. One direction holds at most
//! `Limits::high` and one read, however slow its reader is.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use windlass::{CloseReason, Closed, Conn, ConnId, Context, Deadline, Dial, DialId, Error};
use windlass::{Flow, Handler, Input, ListenerId};

/// The dial that a client has caused; a server has caused none.
type Side = Option<DialId>;

pub(crate) struct Relay {
    server: Dial,
    /// Clients whose dial is under way.
    waiting: HashMap<DialId, ConnId>,
    /// Who is joined to whom; each pair is there in both directions.
    joined: HashMap<ConnId, ConnId>,
}

impl Relay {
    pub(crate) fn new(server: Dial) -> Self {
        Self {
            server,
            waiting: HashMap::new(),
            joined: HashMap::new(),
        }
    }

    fn other<'c>(&self, conn: &'c mut Conn<'_>) -> Option<Conn<'c>> {
        let other = *self.joined.get(&conn.id())?;
        conn.cx().conn(other)
    }
}

impl Handler for Relay {
    type Session = Side;

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<Side> {
        // When the output of one side is full, it is the other side that must wait.
        conn.set_auto_pause(false);
        conn.pause(); // what it sends before there is a server waits in the kernel
        let dial = conn.cx().dial(self.server.clone())?;
        self.waiting.insert(dial, conn.id());
        Ok(Some(dial))
    }

    fn on_connect(&mut self, conn: &mut Conn<'_>, dial: DialId) -> io::Result<Side> {
        let (gone, server) = (io::ErrorKind::NotConnected, conn.id());
        let client = self.waiting.remove(&dial).ok_or(gone)?;
        conn.cx().conn(client).ok_or(gone)?.resume();
        conn.set_auto_pause(false);
        self.joined.extend([(client, server), (server, client)]);
        Ok(None)
    }

    fn on_dial_error(
        &mut self,
        cx: &mut Context<'_>,
        dial: DialId,
        error: &Error,
        _: Option<Duration>,
    ) {
        eprintln!("{error}");
        if let Some(mut client) = self.waiting.remove(&dial).and_then(|id| cx.conn(id)) {
            client.abort();
        }
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        _: &mut Side,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        let bytes = input.take_all();
        let flow = self.other(conn).map(|mut other| other.write(bytes));
        if flow == Some(Flow::Full) {
            conn.pause(); // until the other side has caught up
        }
        Ok(())
    }

    fn on_write(&mut self, conn: &mut Conn<'_>, _: &mut Side) -> io::Result<()> {
        if let Some(mut other) = self.other(conn) {
            other.resume();
        }
        Ok(())
    }

    fn on_eof(&mut self, conn: &mut Conn<'_>, _: &mut Side, _: &mut Input<'_>) -> io::Result<()> {
        // The other direction goes on. When both have ended, both connections do.
        if let Some(mut other) = self.other(conn) {
            other.shutdown_write();
        }
        Ok(())
    }

    fn on_timeout(&mut self, conn: &mut Conn<'_>, _: &mut Side, _: Deadline) -> io::Result<()> {
        conn.abort(); // after a FIN, what is cut off would look whole
        Ok(())
    }

    fn on_shutdown(&mut self, _: &mut Conn<'_>, _: &mut Side) -> io::Result<()> {
        Ok(()) // they may finish; the grace of the stop is their limit
    }

    fn on_close(&mut self, cx: &mut Context<'_>, dial: Side, closed: &Closed) {
        if let Some(dial) = dial.filter(|dial| self.waiting.remove(dial).is_some()) {
            cx.cancel_dial(dial);
        }
        let other = self.joined.remove(&closed.id).and_then(|id| cx.conn(id));
        if let Some(mut other) = other.filter(|_| !matches!(closed.reason, CloseReason::Eof)) {
            other.abort();
        }
    }
}
