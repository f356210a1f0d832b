//! A handler around another one: does what that does, and counts how it went.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use windlass::{
    CloseReason, Closed, Conn, Context, Datagram, Deadline, DialId, Error, Handle, Handler, Input,
    ListenerId, Socket, SocketId, TimerId,
};

/// Counts by name: `end.eof`, `dial_error`.
pub(crate) type Tally = BTreeMap<String, u64>;

pub(crate) struct Counted<H> {
    pub(crate) inner: H,
    pub(crate) tally: Tally,
    /// For how long a silent connection lives, whatever the handler says.
    idle: Duration,
}

impl<H> Counted<H> {
    pub(crate) fn new(inner: H, idle: Duration) -> Self {
        let tally = Tally::new();
        Self { inner, tally, idle }
    }

    fn count(&mut self, what: &str) {
        *self.tally.entry(what.to_owned()).or_default() += 1;
    }
}

impl<H: Handler> Handler for Counted<H> {
    type Session = H::Session;

    fn on_start(&mut self, cx: &mut Context<'_>, _: &Handle<Self>) -> io::Result<()> {
        let _ = cx;
        Ok(())
    }

    fn on_accept(&mut self, conn: &mut Conn<'_>, listener: ListenerId) -> io::Result<H::Session> {
        let session = self.inner.on_accept(conn, listener)?;
        conn.set_idle_timeout(Some(self.idle));
        Ok(session)
    }

    fn on_connect(&mut self, conn: &mut Conn<'_>, dial: DialId) -> io::Result<H::Session> {
        self.inner.on_connect(conn, dial)
    }

    fn on_dial_error(
        &mut self,
        cx: &mut Context<'_>,
        dial: DialId,
        error: &Error,
        retry_in: Option<Duration>,
    ) {
        self.count("dial_error");
        self.inner.on_dial_error(cx, dial, error, retry_in);
    }

    fn on_handshake(&mut self, conn: &mut Conn<'_>, session: &mut H::Session) -> io::Result<()> {
        self.inner.on_handshake(conn, session)
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        session: &mut H::Session,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        self.inner.on_read(conn, session, input)
    }

    fn on_write(&mut self, conn: &mut Conn<'_>, session: &mut H::Session) -> io::Result<()> {
        self.inner.on_write(conn, session)
    }

    fn on_eof(
        &mut self,
        conn: &mut Conn<'_>,
        session: &mut H::Session,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        self.inner.on_eof(conn, session, input)
    }

    fn on_timeout(
        &mut self,
        conn: &mut Conn<'_>,
        session: &mut H::Session,
        which: Deadline,
    ) -> io::Result<()> {
        self.inner.on_timeout(conn, session, which)
    }

    fn on_wake(&mut self, conn: &mut Conn<'_>, session: &mut H::Session) -> io::Result<()> {
        self.inner.on_wake(conn, session)
    }

    fn on_shutdown(&mut self, conn: &mut Conn<'_>, session: &mut H::Session) -> io::Result<()> {
        self.inner.on_shutdown(conn, session)
    }

    fn on_close(&mut self, cx: &mut Context<'_>, session: H::Session, closed: &Closed) {
        self.count(end(&closed.reason));
        self.inner.on_close(cx, session, closed);
    }

    fn on_accept_error(&mut self, cx: &mut Context<'_>, listener: ListenerId, error: &Error) {
        self.count("accept_error");
        self.inner.on_accept_error(cx, listener, error);
    }

    fn on_datagram(&mut self, socket: &mut Socket<'_>, datagram: &Datagram<'_>) {
        self.inner.on_datagram(socket, datagram);
    }

    fn on_socket_writable(&mut self, socket: &mut Socket<'_>) {
        self.inner.on_socket_writable(socket);
    }

    fn on_socket_timeout(&mut self, socket: &mut Socket<'_>, which: Deadline) {
        self.inner.on_socket_timeout(socket, which);
    }

    fn on_socket_error(&mut self, cx: &mut Context<'_>, socket: SocketId, error: &Error) {
        self.count("socket_error");
        self.inner.on_socket_error(cx, socket, error);
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, timer: TimerId) {
        self.inner.on_timer(cx, timer);
    }

    fn on_stop(&mut self, cx: &mut Context<'_>) {
        self.inner.on_stop(cx);
    }
}

/// What the end of a connection is counted under.
fn end(reason: &CloseReason) -> &'static str {
    match reason {
        CloseReason::Eof => "end.eof",
        CloseReason::Local => "end.local",
        CloseReason::Handler(_) => "end.handler",
        CloseReason::Timeout(_) => "end.timeout",
        CloseReason::Reset => "end.reset",
        CloseReason::Shutdown => "end.shutdown",
        CloseReason::Panic => "end.panic",
        CloseReason::Io(_) => "end.io",
        _ => "end.other",
    }
}
