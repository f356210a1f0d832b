//! The application's side: the callbacks, when each fires, and what holds while it runs.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::context::{Conn, Context};
use crate::datagram::{Datagram, Socket};
use crate::error::{CloseReason, Error};
use crate::handle::Handle;
use crate::input::Input;
use crate::token::{ConnId, DialId, ListenerId, SocketId, TimerId, WatchId};
use crate::watch::Ready;

/// What an application does when something happens on one of its connections.
///
/// One value of this type owns the application's state; the reactor owns one
/// [`Session`](Self::Session) per connection and lends it to the callbacks of that
/// connection. Every method has a default; most servers write `on_accept` and `on_read`.
///
/// # What holds while a callback runs
///
/// - No other callback runs. What a callback asks for (a write, a close, a wake-up) is
///   queued, and the reactor performs it when the callback has returned.
/// - `cx.now()` does not change.
/// - Nothing that a callback was lent can be kept: the compiler sees to it.
/// - A callback must not block. While it runs, nobody else is served; turns longer than
///   [`Config::slow_turn`](crate::Config::slow_turn) are logged.
///
/// # Order, per connection
///
/// `on_accept`, then any of read, write, eof, timeout, wake and shutdown, then exactly one
/// `on_close` for each session that was returned, then nothing.
///
/// # `Err`
///
/// `Err` from a callback flushes what was written, closes that connection and reports
/// [`CloseReason::Handler`] (for `on_timeout`: [`CloseReason::Timeout`] if the error's
/// kind is [`TimedOut`](io::ErrorKind::TimedOut)). It never touches another connection.
#[allow(unused_variables)]
pub trait Handler: Sized {
    /// What the application remembers about one connection.
    type Session;

    /// First thing in [`run`](crate::Reactor::run), or in the first turn.
    ///
    /// # Errors
    ///
    /// `Err` ends the run before it began; `on_stop` is not called.
    fn on_start(&mut self, cx: &mut Context<'_>, handle: &Handle<Self>) -> io::Result<()> {
        Ok(())
    }

    /// A client was taken off the accept queue.
    ///
    /// Runs before the connection is registered. `Err` refuses it at the price of one
    /// accept and one close (after [`Conn::abort`], with RST); there is no `on_close`
    /// then. What is written here leaves once the callback has returned `Ok`.
    ///
    /// The default refuses, and says so once in the log.
    ///
    /// # Errors
    ///
    /// Any error refuses the client; nobody is told which.
    fn on_accept(
        &mut self,
        conn: &mut Conn<'_>,
        listener: ListenerId,
    ) -> io::Result<Self::Session> {
        conn.cx().note_missing("on_accept", "accepted");
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    /// A dial has become a connection. From here on it is like an accepted one.
    ///
    /// `Err` closes it; there is no `on_close` then. What is written here leaves once the
    /// callback has returned.
    ///
    /// The default refuses, and says so once in the log.
    ///
    /// # Errors
    ///
    /// Any error closes the connection; nobody is told which.
    fn on_connect(&mut self, conn: &mut Conn<'_>, dial: DialId) -> io::Result<Self::Session> {
        conn.cx().note_missing("on_connect", "dialed");
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    /// A dial, or one try of it, has come to nothing: no address answered, the name has no
    /// address, time ran out (`error.is_timeout()`), or it was canceled. `error` is that of
    /// the first address that failed. With `retry_in` the same dial tries again by itself.
    fn on_dial_error(
        &mut self,
        cx: &mut Context<'_>,
        dial: DialId,
        error: &Error,
        retry_in: Option<Duration>,
    ) {
    }

    /// New bytes came, or reading resumed with bytes left over, or
    /// [`Conn::read_again`] was asked for. Never merely because bytes are left.
    ///
    /// `input` is everything unread, in one slice: what was left last time, joined with
    /// what came since. What is not consumed stays for next time, up to
    /// [`Limits::input`](crate::Limits::input).
    ///
    /// On network `unixpacket`, `input` is exactly one record, which has to be consumed whole:
    /// one that is not ends the connection with [`CloseReason::Handler`].
    ///
    /// The default consumes and forgets everything.
    ///
    /// # Errors
    ///
    /// See the trait.
    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        session: &mut Self::Session,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        input.take_all();
        Ok(())
    }

    /// The connection's [`Layer`](crate::Layer) has come to terms with the peer's: a TLS
    /// handshake is over, and what was agreed on can be asked for. Once, before any `on_read`,
    /// even while reading is paused. What was written before leaves now. A connection without a
    /// layer has no such callback.
    ///
    /// # Errors
    ///
    /// See the trait.
    fn on_handshake(&mut self, conn: &mut Conn<'_>, session: &mut Self::Session) -> io::Result<()> {
        Ok(())
    }

    /// Queued output fell to [`Limits::low`](crate::Limits::low) after having been above
    /// [`Limits::high`](crate::Limits::high): write on.
    ///
    /// # Errors
    ///
    /// See the trait.
    fn on_write(&mut self, conn: &mut Conn<'_>, session: &mut Self::Session) -> io::Result<()> {
        Ok(())
    }

    /// The peer has finished sending (FIN), and every byte before that was offered. Fires
    /// once. `input` holds what is still unconsumed. Writing remains possible.
    ///
    /// The default closes, after flushing what was written.
    ///
    /// # Errors
    ///
    /// See the trait.
    fn on_eof(
        &mut self,
        conn: &mut Conn<'_>,
        session: &mut Self::Session,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        conn.close();
        Ok(())
    }

    /// A deadline of this connection has passed. It fires once per setting; the connection
    /// is as usable as before, and the deadline may be set again.
    ///
    /// The default ends the connection with [`CloseReason::Timeout`].
    ///
    /// # Errors
    ///
    /// See the trait. After [`Deadline::WriteStall`] there is nothing to flush to: an
    /// error resets the connection.
    fn on_timeout(
        &mut self,
        conn: &mut Conn<'_>,
        session: &mut Self::Session,
        which: Deadline,
    ) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::TimedOut))
    }

    /// Somebody called [`Context::wake`] with this connection's id. Several wake-ups before
    /// it runs are one.
    ///
    /// # Errors
    ///
    /// See the trait.
    fn on_wake(&mut self, conn: &mut Conn<'_>, session: &mut Self::Session) -> io::Result<()> {
        Ok(())
    }

    /// A graceful stop has begun. Whoever is not closed when the grace ends is aborted.
    ///
    /// The default closes.
    ///
    /// # Errors
    ///
    /// See the trait.
    fn on_shutdown(&mut self, conn: &mut Conn<'_>, session: &mut Self::Session) -> io::Result<()> {
        conn.close();
        Ok(())
    }

    /// The connection is gone and `closed.id` answers `None` from now on. The session
    /// comes back for good.
    fn on_close(&mut self, cx: &mut Context<'_>, session: Self::Session, closed: &Closed) {}

    /// A listener cannot accept for now (descriptors or memory ran out: once per
    /// episode, `error.recovery()` is `BackOff`), or never again (`GiveUp`; it is gone), or
    /// the time set by [`Listener::set_deadline`](crate::Listener::set_deadline) has passed
    /// (`error.is_timeout()`; it goes on accepting).
    fn on_accept_error(&mut self, cx: &mut Context<'_>, listener: ListenerId, error: &Error) {}

    /// A datagram has come. An empty one is a datagram, too.
    ///
    /// The default forgets it.
    fn on_datagram(&mut self, socket: &mut Socket<'_>, datagram: &Datagram<'_>) {}

    /// A datagram socket's queue has room again, after a send found it full.
    fn on_socket_writable(&mut self, socket: &mut Socket<'_>) {}

    /// A deadline of a datagram socket has passed: [`Deadline::Read`] or [`Deadline::Write`].
    /// It fires once per setting; the socket is as usable as before.
    fn on_socket_timeout(&mut self, socket: &mut Socket<'_>, which: Deadline) {}

    /// Something went wrong on a datagram socket: nobody listens where a datagram went
    /// (ECONNREFUSED), it was too long (EMSGSIZE), the network is away. At most one per
    /// socket and turn. The socket lives on, unless `cx.socket(socket)` is `None`: then it
    /// could not be opened after all, or the kernel has given it up.
    fn on_socket_error(&mut self, cx: &mut Context<'_>, socket: SocketId, error: &Error) {}

    /// A watched descriptor is ready. What is still ready afterwards is said again in the
    /// next turn; [`Context::unwatch`] ends it.
    fn on_ready(&mut self, cx: &mut Context<'_>, watch: WatchId, ready: Ready) {}

    /// A free-standing timer set by [`Context::set_timer`] is due. It is gone by now.
    fn on_timer(&mut self, cx: &mut Context<'_>, timer: TimerId) {}

    /// Last, once, when nothing is open any more.
    fn on_stop(&mut self, cx: &mut Context<'_>) {}
}

/// Which time limit of a connection has passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Deadline {
    /// The absolute limit set by [`Conn::set_read_deadline`].
    Read,
    /// The absolute limit set by [`Conn::set_write_deadline`], with output still queued.
    Write,
    /// No byte moved in either direction for the idle timeout.
    Idle,
    /// Output was queued and the kernel took none of it for
    /// [`Config::write_stall_timeout`](crate::Config::write_stall_timeout).
    WriteStall,
    /// A closing connection could not deliver its output within
    /// [`Config::linger`](crate::Config::linger). Seen in [`CloseReason::Timeout`] only.
    Linger,
    /// The connection's [`Layer`](crate::Layer) was not through with its handshake after
    /// [`Config::handshake_timeout`](crate::Config::handshake_timeout). Seen in
    /// [`CloseReason::Timeout`] only.
    Handshake,
    /// A timer set by [`Conn::set_timer`].
    Timer(TimerId),
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read => f.write_str("read deadline"),
            Self::Write => f.write_str("write deadline"),
            Self::Idle => f.write_str("idle timeout"),
            Self::WriteStall => f.write_str("write stall"),
            Self::Linger => f.write_str("linger time"),
            Self::Handshake => f.write_str("handshake"),
            Self::Timer(id) => write!(f, "timer {id}"),
        }
    }
}

/// How a connection ended, as [`Handler::on_close`] is told.
#[derive(Debug)]
#[non_exhaustive]
pub struct Closed {
    /// The connection that is no more.
    pub id: ConnId,
    /// Why it ended.
    pub reason: CloseReason,
    /// Bytes received and offered to the handler.
    pub bytes_read: u64,
    /// Bytes that the kernel took. Not a receipt: only an answer of the peer is one.
    pub bytes_written: u64,
    /// Bytes offered and never consumed, and those thrown away after `close`.
    pub unread: u64,
    /// Bytes written by the handler that the kernel never took.
    pub unsent: u64,
}
