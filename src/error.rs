//! What went wrong, in which operation, and what to do about it.
//!
//! Owns the errors of this crate and their texts, which are those of Go's `net` package,
//! so that what people search their logs for is found; and the reasons why a connection
//! ended. Never decides what a call does after an errno: that table is in `fd.rs`.

use std::convert::Infallible;
use std::fmt;
use std::io;

use crate::address::{Addr, Network};
use crate::handler::Deadline;
use crate::kernel::{Errno, Fault};

/// A failed operation: what was attempted, on which network and address, and why it failed.
///
/// Prints as Go's `net.OpError` does, parts that are not known being left out:
///
/// ```text
/// OP NETWORK SOURCE->ADDRESS: CAUSE
/// listen tcp 127.0.0.1:3000: bind: address already in use
/// accept tcp 127.0.0.1:3000: accept4: too many open files
/// read tcp 127.0.0.1:3000->127.0.0.1:51034: read: connection reset by peer
/// dial tcp 127.0.0.1:1: i/o timeout
/// listen tcp: address 65536: invalid port
/// ```
///
/// The words of an errno are the system's own, so they differ a little between systems:
/// programs look at [`raw_os_error`](Error::raw_os_error) and
/// [`recovery`](Error::recovery), people at the text. Converts into `io::Error`.
///
/// [`std::error::Error::source`] is always `None`, because the text already ends with the
/// cause. One pointer in size.
pub struct Error(Box<Inner>);

struct Inner {
    op: Op,
    network: Option<Network>,
    source: Option<Addr>,
    place: Option<Place>,
    cause: Cause,
}

impl Error {
    /// `place` is what the operation was aimed at: the listener's address for `Accept` (the
    /// peer's if it was accepted and could not be registered), the one asked for with
    /// `Listen` and `Dial`, the peer's for `Read` and `Write`; none if the text did not
    /// parse or nothing was found for it.
    pub(crate) fn new(
        op: Op,
        network: Option<Network>,
        place: Option<Place>,
        cause: impl Into<Cause>,
    ) -> Self {
        Self(Box::new(Inner {
            op,
            network,
            source: None,
            place,
            cause: cause.into(),
        }))
    }

    /// Adds our own end, for operations on an open connection.
    pub(crate) fn with_source(mut self, source: Addr) -> Self {
        self.0.source = Some(source);
        self
    }

    /// The same texts for a socket of the application's own.
    ///
    /// `call` names the system call, as Go's texts do (`connect`, `read`). An error of kind
    /// `TimedOut` or `WouldBlock` that carries no errno is a deadline of the caller's (as
    /// with `TcpStream::connect_timeout`): it prints `i/o timeout` and
    /// [`is_timeout`](Error::is_timeout) is true. An errno is never taken for one.
    ///
    /// ```
    /// use std::io;
    /// use windlass::{Error, Network, Op};
    ///
    /// let addr: std::net::SocketAddr = "127.0.0.1:1".parse().unwrap();
    /// let late = io::Error::from(io::ErrorKind::TimedOut);
    /// let error = Error::from_io(Op::Dial, Network::Tcp, addr, "connect", &late);
    /// assert_eq!(error.to_string(), "dial tcp 127.0.0.1:1: i/o timeout");
    /// assert!(error.is_timeout());
    /// ```
    pub fn from_io(
        op: Op,
        network: Network,
        addr: impl Into<Addr>,
        call: &'static str,
        error: &io::Error,
    ) -> Self {
        let cause = match (error.raw_os_error(), error.kind()) {
            (Some(errno), _) => Cause::Syscall {
                call,
                errno: Errno(errno),
            },
            (None, io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => Cause::Timeout,
            (None, kind) => Cause::Foreign {
                call,
                kind,
                text: error.to_string(),
            },
        };
        Self::new(op, Some(network), Some(Place::Addr(addr.into())), cause)
    }

    /// What was attempted.
    pub fn op(&self) -> Op {
        self.0.op
    }

    /// The network; `None` if it was the network that was wrong, or no socket was involved.
    pub fn network(&self) -> Option<Network> {
        self.0.network
    }

    /// Our own end, for operations on an open connection.
    pub fn source_addr(&self) -> Option<Addr> {
        self.0.source.clone()
    }

    /// What the operation was aimed at: the peer, or the listener. `None` if it is not
    /// known, or is not one address (a listener asked for `:80`).
    pub fn addr(&self) -> Option<Addr> {
        match &self.0.place {
            Some(Place::Addr(addr)) => Some(addr.clone()),
            Some(Place::Text(_)) | None => None,
        }
    }

    /// The errno, if the kernel is to blame.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.0.cause.errno().map(|errno| errno.0)
    }

    /// The standard library's name for it.
    ///
    /// `TimedOut` for our own deadlines and for the kernel's ETIMEDOUT alike; only
    /// [`is_timeout`](Error::is_timeout) tells them apart.
    pub fn kind(&self) -> io::ErrorKind {
        match &self.0.cause {
            Cause::Syscall { errno, .. } | Cause::Explained { errno, .. } | Cause::Errno(errno) => {
                io::Error::from(*errno).kind()
            }
            Cause::Timeout => io::ErrorKind::TimedOut,
            // Not `Interrupted`, which the standard library answers by trying again.
            Cause::Canceled => io::ErrorKind::ConnectionAborted,
            Cause::Closed => io::ErrorKind::NotConnected,
            Cause::Lookup { .. } => io::ErrorKind::NotFound,
            Cause::Foreign { kind, .. } => *kind,
            Cause::Address { .. }
            | Cause::UnknownNetwork(_)
            | Cause::MissingAddress
            | Cause::Invalid(_) => io::ErrorKind::InvalidInput,
        }
    }

    /// Whether a deadline of ours passed. Never true for the kernel's ETIMEDOUT, which
    /// means that the peer stopped answering, whatever deadlines were set.
    pub fn is_timeout(&self) -> bool {
        matches!(self.0.cause, Cause::Timeout)
    }

    /// Go's `Temporary()`, for code that comes from there: our own deadlines, EINTR,
    /// EMFILE, ENFILE, EAGAIN, ETIMEDOUT, and for `Accept` ECONNRESET and ECONNABORTED.
    ///
    /// It leaves out failures that pass as well (ENOBUFS, ENOMEM) and does not say how
    /// long to wait: [`recovery`](Error::recovery) does both.
    pub fn is_temporary(&self) -> bool {
        match self.0.cause.errno() {
            Some(errno) if self.0.op == Op::Accept && GONE_BEFORE_ACCEPT.contains(&errno.0) => true,
            Some(errno) => GO_TEMPORARY.contains(&errno.0),
            None => self.is_timeout(),
        }
    }

    /// What to do about it: decided from the errno, and from the operation where the same
    /// errno means different things.
    ///
    /// | Cause | Operation | Answer |
    /// |---|---|---|
    /// | EINTR | any | `Retry` |
    /// | ECONNABORTED, ECONNRESET, EPROTO, EPERM, EPIPE, ETIMEDOUT, ENETDOWN, ENETUNREACH, EHOSTDOWN, EHOSTUNREACH, ENONET, ENOPROTOOPT, EOPNOTSUPP, EPROTONOSUPPORT, ESOCKTNOSUPPORT | `Accept` | `Retry`: that one connection is lost, the listener is well |
    /// | EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSR, EAGAIN | any | `BackOff`: this host is short of something |
    /// | ECONNREFUSED, ECONNRESET, ECONNABORTED, ETIMEDOUT, ENETDOWN, ENETUNREACH, EHOSTDOWN, EHOSTUNREACH, EADDRNOTAVAIL | `Dial` | `BackOff`: the far side may come back, a local port may come free |
    /// | EBADF, EINVAL, ENOTSOCK, EFAULT, ENOSYS | `Accept` | `GiveUp`: it is no listener, or none any more |
    /// | everything else | `Accept` | `BackOff`: a listener that tries again can recover |
    /// | a deadline of ours, a host name that was not found | any | `BackOff` |
    /// | everything else | any | `GiveUp` |
    pub fn recovery(&self) -> Recovery {
        let Some(Errno(errno)) = self.0.cause.errno() else {
            return match self.0.cause {
                Cause::Timeout | Cause::Lookup { .. } => Recovery::BackOff,
                _ => Recovery::GiveUp,
            };
        };
        match self.0.op {
            _ if errno == libc::EINTR => Recovery::Retry,
            _ if EXHAUSTED.contains(&errno) => Recovery::BackOff,
            Op::Accept if PER_CONNECTION.contains(&errno) => Recovery::Retry,
            Op::Accept if !NO_LISTENER.contains(&errno) => Recovery::BackOff,
            Op::Dial if FAR_SIDE.contains(&errno) => Recovery::BackOff,
            _ => Recovery::GiveUp,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if inner.op == Op::Resolve {
            return fmt::Display::fmt(&inner.cause, f);
        }
        f.write_str(inner.op.as_str())?;
        match (&inner.network, &inner.cause) {
            (Some(network), _) => write!(f, " {network}")?,
            (None, Cause::UnknownNetwork(name)) => write!(f, " {name}")?,
            (None, _) => {}
        }
        match (&inner.source, &inner.place) {
            (Some(source), Some(place)) => write!(f, " {source}->{place}")?,
            (Some(source), None) => write!(f, " {source}")?,
            (None, Some(place)) => write!(f, " {place}")?,
            (None, None) => {}
        }
        write!(f, ": {}", inner.cause)
    }
}

/// The text, and the errno behind it: what `main` prints when it returns an error.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.raw_os_error() {
            Some(errno) => write!(f, "Error({self}, errno {errno})"),
            None => write!(f, "Error({self})"),
        }
    }
}

impl std::error::Error for Error {}

/// Keeps the kind and the text; the [`Error`] itself is inside (`io::Error::downcast`).
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}

/// So that what converts without fail is accepted where a failed conversion is an [`Error`].
impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// The operation that failed. Prints as Go's word for it: `dial`, `listen`, `accept`, …
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Op {
    /// Connecting to a peer.
    Dial,
    /// Turning a text into an address. The text of such an error is its cause alone.
    Resolve,
    /// Opening a listener.
    Listen,
    /// Taking a connection from a listener.
    Accept,
    /// Receiving.
    Read,
    /// Sending.
    Write,
    /// Setting an option.
    Set,
    /// Closing, or closing one direction.
    Close,
    /// Watching a descriptor.
    Watch,
    /// The loop itself.
    Run,
}

impl Op {
    /// Go's word for it, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dial => "dial",
            Self::Resolve => "resolve",
            Self::Listen => "listen",
            Self::Accept => "accept",
            Self::Read => "read",
            Self::Write => "write",
            Self::Set => "set",
            Self::Close => "close",
            Self::Watch => "watch",
            Self::Run => "run",
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What to do about an [`Error`]; see [`Error::recovery`] for the table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Recovery {
    /// Try again at once. Retries should still be counted.
    Retry,
    /// Try again after a pause, longer each time.
    BackOff,
    /// Trying again gives the same answer.
    GiveUp,
}

/// What an operation was aimed at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Addr(Addr),
    /// As it was asked for, where that is not one address (`:80`).
    Text(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(addr) => fmt::Display::fmt(addr, f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl From<Addr> for Place {
    fn from(addr: Addr) -> Self {
        Self::Addr(addr)
    }
}

impl From<String> for Place {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// The last part of an error's text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    /// The kernel refused, in the call that is named.
    Syscall {
        call: &'static str,
        errno: Errno,
    },
    /// The kernel refused, for a reason that its errno does not tell.
    Explained {
        why: &'static str,
        errno: Errno,
    },
    /// The kernel refused, where Go's texts name no call (registration with the poller).
    Errno(Errno),
    /// A deadline of ours passed.
    Timeout,
    /// The application took it back.
    Canceled,
    /// Used after it was closed.
    Closed,
    /// A text that is no address; `text` is the part at fault.
    Address {
        text: String,
        why: &'static str,
    },
    UnknownNetwork(String),
    MissingAddress,
    /// The resolver has no address for a host name.
    Lookup {
        name: String,
        why: String,
    },
    /// A setting or an argument that makes no sense, with the sentence that says so.
    Invalid(String),
    /// An `io::Error` without errno that the application handed in.
    Foreign {
        call: &'static str,
        kind: io::ErrorKind,
        text: String,
    },
}

impl Cause {
    /// What the resolver said, without std's introduction, and in Go's words where the
    /// name does not exist.
    pub(crate) fn lookup(name: String, error: &io::Error) -> Self {
        let text = error.to_string();
        let words = text
            .strip_prefix("failed to lookup address information: ")
            .unwrap_or(&text);
        let unknown = [
            "Name or service not known",
            "nodename nor servname provided, or not known",
        ];
        let why = if unknown.contains(&words) {
            "no such host"
        } else {
            words
        };
        Self::Lookup {
            name,
            why: why.to_owned(),
        }
    }

    fn errno(&self) -> Option<Errno> {
        match self {
            Self::Syscall { errno, .. } | Self::Explained { errno, .. } | Self::Errno(errno) => {
                Some(*errno)
            }
            _ => None,
        }
    }
}

impl From<Fault> for Cause {
    fn from(Fault { call, errno }: Fault) -> Self {
        Self::Syscall { call, errno }
    }
}

impl From<Errno> for Cause {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syscall { call, errno } => write!(f, "{call}: {}", errno_text(*errno)),
            Self::Explained { why, errno } => write!(f, "{why}: {}", errno_text(*errno)),
            Self::Errno(errno) => f.write_str(&errno_text(*errno)),
            Self::Timeout => f.write_str("i/o timeout"),
            Self::Canceled => f.write_str("operation was canceled"),
            Self::Closed => f.write_str("use of closed network connection"),
            Self::Address { text, why } if text.is_empty() => f.write_str(why),
            Self::Address { text, why } => write!(f, "address {text}: {why}"),
            Self::UnknownNetwork(name) => write!(f, "unknown network {name}"),
            Self::MissingAddress => f.write_str("missing address"),
            Self::Lookup { name, why } => write!(f, "lookup {name}: {why}"),
            Self::Invalid(sentence) => f.write_str(sentence),
            Self::Foreign { call, text, .. } => write!(f, "{call}: {text}"),
        }
    }
}

/// The system's words for an errno in Go's spelling: lower case, unless the first word is
/// an abbreviation, and without the number.
fn errno_text(errno: Errno) -> String {
    let full = io::Error::from(errno).to_string();
    let text = full
        .rsplit_once(" (os error ")
        .map_or(full.as_str(), |(text, _)| text);
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            let rest = &text[first.len_utf8()..];
            format!("{}{rest}", first.to_lowercase())
        }
        _ => text.to_owned(),
    }
}

/// Why a connection ended, as `on_close` is told.
///
/// When `on_close` runs the connection is gone: nothing can be sent any more, and whatever
/// is to be tried again starts with a new connection. Each line says whose move that is.
/// Prints as one line for a log.
#[derive(Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer ended its side of the stream first, then we ended ours. The ordinary end
    /// of a conversation; nobody has to do anything.
    Eof,
    /// The handler asked for it, while the peer had not finished. The handler knows why.
    Local,
    /// A callback answered this error, or left part of a record unconsumed. What was written
    /// before was flushed. The handler's move: the error is its own.
    Handler(io::Error),
    /// A time limit of ours passed and `on_timeout` did not take the matter up, or what
    /// was written could not be flushed in time. The peer was too slow or is gone; if it
    /// is well, it comes back, and the limit may be too short for it.
    Timeout(Deadline),
    /// The peer sent RST: it crashed, or closed with bytes of ours unread. Bytes on their
    /// way are lost in both directions. The peer's move.
    Reset,
    /// More output was queued than the limit for one connection, because the peer reads
    /// too slowly for what it is sent. The queue was dropped. The handler's move: write
    /// less while `write` answers full, or raise the limit.
    Overflow,
    /// The handler left more input unconsumed than the limit for one connection: the peer
    /// sent a message that is too long, or the handler waits for an end that never comes. Or
    /// the peer sent a record (network `unixpacket`) longer than
    /// [`Config::read_buffer`](crate::Config::read_buffer).
    InputTooLong,
    /// The loop was stopped and the time that it was granted ran out, or the connection
    /// took the stop as its end. The peer's move: come back when the server does.
    Shutdown,
    /// A callback of this connection panicked. Its session may be half changed. A bug in
    /// the handler: the panic's own message is in the log.
    Panic,
    /// The connection's [`Layer`](crate::Layer) could not go on: no agreement with the peer, or
    /// bytes that cannot be. What was queued was flushed, the layer's own last words among it.
    /// The peer's move, unless the text speaks of our own configuration.
    Layer(io::Error),
    /// The peer ended the stream without saying so within the [`Layer`](crate::Layer) (TLS:
    /// FIN without close_notify). What came before was offered, but somebody may have cut off
    /// what followed: only a protocol that says how long a message is can tell. There is no
    /// `on_eof` then.
    Truncated,
    /// The kernel reported this error. [`Error::recovery`] says whether another attempt
    /// makes sense.
    Io(Error),
    /// The handler has taken the descriptor out of the loop
    /// ([`Conn::detach`](crate::Conn::detach)). The connection lives on elsewhere.
    Detached,
}

impl CloseReason {
    /// Drops it. Nearly all are this one, which holds nothing; that is known without a look at
    /// all that might.
    #[inline]
    pub(crate) fn let_go(self) {
        if matches!(self, Self::Eof) {
            std::mem::forget(self);
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eof => f.write_str("end of stream"),
            Self::Local => f.write_str("closed by the handler"),
            Self::Handler(error) => write!(f, "handler: {error}"),
            Self::Timeout(deadline) => write!(f, "timed out: {deadline}"),
            Self::Reset => f.write_str("connection reset by peer"),
            Self::Overflow => f.write_str("output limit exceeded"),
            Self::InputTooLong => f.write_str("input limit exceeded"),
            Self::Shutdown => f.write_str("shutdown"),
            Self::Panic => f.write_str("a callback panicked"),
            Self::Layer(error) => fmt::Display::fmt(error, f),
            Self::Truncated => f.write_str("end of stream, but not of what it carries"),
            Self::Io(error) => fmt::Display::fmt(error, f),
            Self::Detached => f.write_str("detached"),
        }
    }
}

/// What Go calls temporary in every operation.
const GO_TEMPORARY: [i32; 5] = [
    libc::EINTR,
    libc::EMFILE,
    libc::ENFILE,
    libc::EAGAIN,
    libc::ETIMEDOUT,
];

/// What Go calls temporary for `accept` in addition.
const GONE_BEFORE_ACCEPT: [i32; 2] = [libc::ECONNRESET, libc::ECONNABORTED];

/// This process or host has run out of something that comes back.
const EXHAUSTED: &[i32] = &[
    libc::EMFILE,
    libc::ENFILE,
    libc::ENOBUFS,
    libc::ENOMEM,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    libc::ENOSR,
    libc::EAGAIN,
];

/// Errors of the connection that `accept` would have returned, not of the listener.
const PER_CONNECTION: &[i32] = &[
    libc::ECONNABORTED,
    libc::ECONNRESET,
    libc::EPROTO,
    libc::EPERM,
    libc::EPIPE,
    libc::ETIMEDOUT,
    libc::ENETDOWN,
    libc::ENETUNREACH,
    libc::EHOSTDOWN,
    libc::EHOSTUNREACH,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    libc::ENONET,
    libc::ENOPROTOOPT,
    libc::EOPNOTSUPP,
    libc::EPROTONOSUPPORT,
    libc::ESOCKTNOSUPPORT,
];

/// What was accepted on is no listener, or none any more.
const NO_LISTENER: [i32; 5] = [
    libc::EBADF,
    libc::EINVAL,
    libc::ENOTSOCK,
    libc::EFAULT,
    libc::ENOSYS,
];

/// Reasons why connecting fails that lie with the peer, the way to it, or the moment.
const FAR_SIDE: [i32; 9] = [
    libc::ECONNREFUSED,
    libc::ECONNRESET,
    libc::ECONNABORTED,
    libc::ETIMEDOUT,
    libc::ENETDOWN,
    libc::ENETUNREACH,
    libc::EHOSTDOWN,
    libc::EHOSTUNREACH,
    libc::EADDRNOTAVAIL,
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOCAL: &str = "127.0.0.1:3000";
    const PEER: &str = "127.0.0.1:51034";

    fn addr(text: &str) -> Addr {
        text.parse().unwrap()
    }

    fn fault(call: &'static str, errno: i32) -> Cause {
        Cause::from(Fault {
            call,
            errno: Errno(errno),
        })
    }

    /// An error on `tcp`; an empty `at` is no address.
    fn tcp(op: Op, at: &str, cause: Cause) -> Error {
        let place = match at.parse::<Addr>() {
            Ok(addr) => Some(Place::from(addr)),
            Err(_) if at.is_empty() => None,
            Err(_) => Some(Place::from(at.to_owned())),
        };
        Error::new(op, Some(Network::Tcp), place, cause)
    }

    fn on_conn(op: Op, cause: Cause) -> Error {
        tcp(op, PEER, cause).with_source(addr(LOCAL))
    }

    fn bad_text(text: &str, why: &'static str) -> Cause {
        Cause::Address {
            text: text.to_owned(),
            why,
        }
    }

    /// As if a local address with any port had been asked for.
    fn from_zero(error: Error) -> Error {
        error.with_source(addr("127.0.0.1:0"))
    }

    #[track_caller]
    fn check(error: &Error, text: &str, timeout: bool, temporary: bool) {
        assert_eq!(error.to_string(), text);
        assert_eq!(error.is_timeout(), timeout, "is_timeout: {text}");
        assert_eq!(error.is_temporary(), temporary, "is_temporary: {text}");
    }

    // The texts below are the ones that glibc and the BSDs share; musl has words of its own.
    #[cfg(not(target_env = "musl"))]
    #[test]
    fn an_errno_prints_as_go_prints_it() {
        #[rustfmt::skip]
        let rows = [
            (tcp(Op::Listen, "127.0.0.1:33013", fault("bind", libc::EADDRINUSE)),
                "listen tcp 127.0.0.1:33013: bind: address already in use", false),
            (tcp(Op::Listen, ":80", fault("bind", libc::EACCES)),
                "listen tcp :80: bind: permission denied", false),
            (tcp(Op::Dial, "127.0.0.1:1", fault("connect", libc::ECONNREFUSED)),
                "dial tcp 127.0.0.1:1: connect: connection refused", false),
            (from_zero(tcp(Op::Dial, "127.0.0.1:1", fault("connect", libc::ECONNREFUSED))),
                "dial tcp 127.0.0.1:0->127.0.0.1:1: connect: connection refused", false),
            (tcp(Op::Dial, "[2001:db8::1]:80", fault("connect", libc::EHOSTUNREACH)),
                "dial tcp [2001:db8::1]:80: connect: no route to host", false),
            (tcp(Op::Accept, LOCAL, fault("accept4", libc::EMFILE)),
                "accept tcp 127.0.0.1:3000: accept4: too many open files", true),
            (tcp(Op::Accept, LOCAL, Cause::from(Errno(libc::EBADF))),
                "accept tcp 127.0.0.1:3000: bad file descriptor", false),
            (on_conn(Op::Write, fault("write", libc::EPIPE)),
                "write tcp 127.0.0.1:3000->127.0.0.1:51034: write: broken pipe", false),
            (on_conn(Op::Read, fault("read", libc::ECONNRESET)),
                "read tcp 127.0.0.1:3000->127.0.0.1:51034: read: connection reset by peer", false),
        ];
        for (error, text, temporary) in rows {
            check(&error, text, false, temporary);
        }
    }

    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn an_errno_prints_in_the_words_of_linux() {
        #[rustfmt::skip]
        let rows = [
            (tcp(Op::Listen, "1.2.3.4:0", fault("bind", libc::EADDRNOTAVAIL)),
                "listen tcp 1.2.3.4:0: bind: cannot assign requested address", false),
            (from_zero(tcp(Op::Dial, "127.0.0.1:1", fault("bind", libc::EADDRNOTAVAIL))),
                "dial tcp 127.0.0.1:0->127.0.0.1:1: bind: cannot assign requested address", false),
            (on_conn(Op::Close, fault("shutdown", libc::ENOTCONN)),
                "close tcp 127.0.0.1:3000->127.0.0.1:51034: shutdown: transport endpoint is not connected", false),
            (tcp(Op::Dial, "127.0.0.1:1", fault("connect", libc::EAGAIN)),
                "dial tcp 127.0.0.1:1: connect: resource temporarily unavailable", true),
            (tcp(Op::Accept, LOCAL, fault("accept4", libc::ENFILE)),
                "accept tcp 127.0.0.1:3000: accept4: too many open files in system", true),
        ];
        for (error, text, temporary) in rows {
            check(&error, text, false, temporary);
        }
    }

    #[test]
    fn other_causes_print_as_go_prints_them() {
        let lookup = Cause::Lookup {
            name: "no-such-name.invalid".to_owned(),
            why: "no such host".to_owned(),
        };
        #[rustfmt::skip]
        let rows = [
            (tcp(Op::Dial, "127.0.0.1:52075", Cause::Timeout),
                "dial tcp 127.0.0.1:52075: i/o timeout", true),
            (tcp(Op::Accept, LOCAL, Cause::Timeout),
                "accept tcp 127.0.0.1:3000: i/o timeout", true),
            (on_conn(Op::Read, Cause::Timeout),
                "read tcp 127.0.0.1:3000->127.0.0.1:51034: i/o timeout", true),
            (on_conn(Op::Write, Cause::Timeout),
                "write tcp 127.0.0.1:3000->127.0.0.1:51034: i/o timeout", true),
            (tcp(Op::Dial, "127.0.0.1:52075", Cause::Canceled),
                "dial tcp 127.0.0.1:52075: operation was canceled", false),
            (on_conn(Op::Read, Cause::Closed),
                "read tcp 127.0.0.1:3000->127.0.0.1:51034: use of closed network connection", false),
            (on_conn(Op::Set, Cause::Closed),
                "set tcp 127.0.0.1:3000->127.0.0.1:51034: use of closed network connection", false),
            (tcp(Op::Accept, LOCAL, Cause::Closed),
                "accept tcp 127.0.0.1:3000: use of closed network connection", false),
            (tcp(Op::Close, LOCAL, Cause::Closed),
                "close tcp 127.0.0.1:3000: use of closed network connection", false),
            (tcp(Op::Set, "", Cause::Closed).with_source(addr(LOCAL)),
                "set tcp 127.0.0.1:3000: use of closed network connection", false),
            (tcp(Op::Dial, "", Cause::MissingAddress), "dial tcp: missing address", false),
            (tcp(Op::Dial, "", lookup),
                "dial tcp: lookup no-such-name.invalid: no such host", false),
            (tcp(Op::Dial, "", bad_text("65536", "invalid port")),
                "dial tcp: address 65536: invalid port", false),
            (tcp(Op::Dial, "", bad_text("", "unexpected address type")),
                "dial tcp: unexpected address type", false),
            (Error::new(Op::Run, None, None, Cause::Invalid("budget is 0".to_owned())),
                "run: budget is 0", false),
        ];
        for (error, text, timeout) in rows {
            check(&error, text, timeout, timeout);
            assert_eq!(error.raw_os_error(), None, "{text}");
        }
    }

    #[test]
    fn an_unknown_network_stands_where_the_network_would() {
        for (op, name, text) in [
            (Op::Listen, "foo", "listen foo: unknown network foo"),
            (Op::Dial, "tcp:80", "dial tcp:80: unknown network tcp:80"),
        ] {
            let error = Error::new(op, None, None, Cause::UnknownNetwork(name.to_owned()));
            check(&error, text, false, false);
        }
    }

    #[test]
    fn every_operation_prints_its_word() {
        use Op::{Accept, Close, Dial, Listen, Read, Run, Set, Write};
        let ops = [Dial, Listen, Accept, Read, Write, Set, Close, Run];
        let words = ops.map(|op| op.to_string()).join(" ");
        assert_eq!(words, "dial listen accept read write set close run");
    }

    #[test]
    fn a_timeout_is_a_deadline_of_ours_and_never_the_kernels() {
        let ours = on_conn(Op::Read, Cause::Timeout);
        let kernels = on_conn(Op::Read, fault("read", libc::ETIMEDOUT));
        assert!(ours.is_timeout() && !kernels.is_timeout());
        assert!(ours.is_temporary() && kernels.is_temporary());
        assert_eq!(ours.kind(), io::ErrorKind::TimedOut);
        assert_eq!(kernels.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn temporary_is_what_go_calls_so() {
        let temporary = |op, errno| tcp(op, LOCAL, fault("call", errno)).is_temporary();
        for errno in GO_TEMPORARY {
            assert!(temporary(Op::Read, errno), "{errno}");
        }
        for errno in [libc::ECONNRESET, libc::ECONNABORTED] {
            assert!(
                temporary(Op::Accept, errno) && !temporary(Op::Read, errno),
                "{errno}"
            );
        }
        for errno in [
            libc::ENOBUFS,
            libc::ENOMEM,
            libc::EPIPE,
            libc::EADDRINUSE,
            0,
            -1,
        ] {
            assert!(!temporary(Op::Accept, errno), "{errno}");
        }
    }

    #[test]
    fn recovery_follows_its_table() {
        use Recovery::{BackOff, GiveUp, Retry};
        // errno, then the answers for accept, dial and read.
        let rows = [
            (libc::EINTR, Retry, Retry, Retry),
            (libc::EMFILE, BackOff, BackOff, BackOff),
            (libc::ENFILE, BackOff, BackOff, BackOff),
            (libc::ENOBUFS, BackOff, BackOff, BackOff),
            (libc::ENOMEM, BackOff, BackOff, BackOff),
            (libc::EAGAIN, BackOff, BackOff, BackOff),
            (libc::ECONNABORTED, Retry, BackOff, GiveUp),
            (libc::ECONNRESET, Retry, BackOff, GiveUp),
            (libc::ETIMEDOUT, Retry, BackOff, GiveUp),
            (libc::ENETDOWN, Retry, BackOff, GiveUp),
            (libc::ENETUNREACH, Retry, BackOff, GiveUp),
            (libc::EHOSTDOWN, Retry, BackOff, GiveUp),
            (libc::EHOSTUNREACH, Retry, BackOff, GiveUp),
            (libc::EPROTO, Retry, GiveUp, GiveUp),
            (libc::EPERM, Retry, GiveUp, GiveUp),
            (libc::EPIPE, Retry, GiveUp, GiveUp),
            (libc::ENOPROTOOPT, Retry, GiveUp, GiveUp),
            (libc::EOPNOTSUPP, Retry, GiveUp, GiveUp),
            (libc::EPROTONOSUPPORT, Retry, GiveUp, GiveUp),
            (libc::ESOCKTNOSUPPORT, Retry, GiveUp, GiveUp),
            (libc::ECONNREFUSED, BackOff, BackOff, GiveUp),
            (libc::EADDRNOTAVAIL, BackOff, BackOff, GiveUp),
            (libc::EBADF, GiveUp, GiveUp, GiveUp),
            (libc::EINVAL, GiveUp, GiveUp, GiveUp),
            (libc::ENOTSOCK, GiveUp, GiveUp, GiveUp),
            (0, BackOff, GiveUp, GiveUp),
            #[cfg(target_os = "linux")]
            (libc::ENONET, Retry, GiveUp, GiveUp),
        ];
        for (errno, accept, dial, read) in rows {
            for (op, wanted) in [(Op::Accept, accept), (Op::Dial, dial), (Op::Read, read)] {
                assert_eq!(
                    tcp(op, LOCAL, fault("call", errno)).recovery(),
                    wanted,
                    "{op} {errno}"
                );
                assert_eq!(
                    tcp(op, LOCAL, Cause::Errno(Errno(errno))).recovery(),
                    wanted,
                    "{op} {errno}"
                );
            }
        }
        let in_use = tcp(Op::Listen, LOCAL, fault("bind", libc::EADDRINUSE));
        assert_eq!(in_use.recovery(), GiveUp);
    }

    /// Every cause that has no errno, with its kind and its recovery.
    fn causes_without_errno() -> Vec<(Cause, io::ErrorKind, Recovery)> {
        use Recovery::{BackOff, GiveUp};
        use io::ErrorKind::{
            ConnectionAborted, InvalidInput, NotConnected, NotFound, TimedOut, UnexpectedEof,
        };
        let text = || "x".to_owned();
        let lookup = Cause::Lookup {
            name: text(),
            why: text(),
        };
        let foreign = Cause::Foreign {
            call: "read",
            kind: UnexpectedEof,
            text: text(),
        };
        vec![
            (Cause::Timeout, TimedOut, BackOff),
            (Cause::Canceled, ConnectionAborted, GiveUp),
            (Cause::Closed, NotConnected, GiveUp),
            (lookup, NotFound, BackOff),
            (foreign, UnexpectedEof, GiveUp),
            (bad_text("x", "invalid port"), InvalidInput, GiveUp),
            (Cause::UnknownNetwork(text()), InvalidInput, GiveUp),
            (Cause::MissingAddress, InvalidInput, GiveUp),
            (Cause::Invalid(text()), InvalidInput, GiveUp),
        ]
    }

    #[test]
    fn causes_without_errno_have_a_kind_and_a_recovery() {
        for (cause, kind, recovery) in causes_without_errno() {
            let error = tcp(Op::Dial, LOCAL, cause);
            assert_eq!(
                (error.kind(), error.recovery()),
                (kind, recovery),
                "{error}"
            );
        }
    }

    #[test]
    fn an_io_error_keeps_kind_and_text() {
        let errnos = [libc::EADDRINUSE, libc::ECONNRESET, libc::ETIMEDOUT];
        let mut causes: Vec<_> = errnos.map(|errno| fault("bind", errno)).into();
        causes.extend(causes_without_errno().into_iter().map(|row| row.0));
        for cause in causes {
            let error = on_conn(Op::Read, cause);
            let (text, kind, errno) = (error.to_string(), error.kind(), error.raw_os_error());
            let converted = io::Error::from(error);
            assert_eq!((converted.to_string(), converted.kind()), (text, kind));
            let inside = converted.downcast::<Error>().unwrap();
            assert_eq!(inside.raw_os_error(), errno);
        }
    }

    #[test]
    fn an_io_error_of_the_application_prints_alike() {
        let dial = |error: &io::Error| {
            let peer: std::net::SocketAddr = "127.0.0.1:1".parse().unwrap();
            Error::from_io(Op::Dial, Network::Tcp, peer, "connect", error)
        };
        for kind in [io::ErrorKind::TimedOut, io::ErrorKind::WouldBlock] {
            let late = dial(&kind.into());
            check(&late, "dial tcp 127.0.0.1:1: i/o timeout", true, true);
        }

        let refused = dial(&io::Error::from_raw_os_error(libc::ECONNREFUSED));
        check(
            &refused,
            "dial tcp 127.0.0.1:1: connect: connection refused",
            false,
            false,
        );
        assert_eq!(refused.raw_os_error(), Some(libc::ECONNREFUSED));

        for errno in [libc::ETIMEDOUT, libc::EAGAIN] {
            assert!(!dial(&io::Error::from_raw_os_error(errno)).is_timeout());
        }

        let other = dial(&io::Error::new(io::ErrorKind::UnexpectedEof, "too short"));
        check(
            &other,
            "dial tcp 127.0.0.1:1: connect: too short",
            false,
            false,
        );
        assert_eq!(other.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn the_parts_can_be_asked_for() {
        let error = on_conn(Op::Read, fault("read", libc::ECONNRESET));
        assert_eq!(error.op(), Op::Read);
        assert_eq!(error.network(), Some(Network::Tcp));
        assert_eq!(error.source_addr(), Some(addr(LOCAL)));
        assert_eq!(error.addr(), Some(addr(PEER)));
        assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);

        let wildcard = tcp(Op::Listen, ":80", fault("bind", libc::EACCES));
        assert_eq!((wildcard.addr(), wildcard.source_addr()), (None, None));
    }

    #[test]
    fn debug_shows_the_text_and_the_errno() {
        let error = tcp(Op::Dial, "127.0.0.1:1", Cause::Timeout);
        assert_eq!(
            format!("{error:?}"),
            "Error(dial tcp 127.0.0.1:1: i/o timeout)"
        );
        let error = tcp(
            Op::Dial,
            "127.0.0.1:1",
            fault("connect", libc::ECONNREFUSED),
        );
        assert_eq!(
            format!("{error:?}"),
            format!("Error({error}, errno {})", libc::ECONNREFUSED)
        );
    }

    #[test]
    fn an_error_is_one_pointer_and_may_leave_its_thread() {
        fn leaves<T: Send + Sync + 'static>() {}
        leaves::<Error>();
        leaves::<CloseReason>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn a_close_reason_is_one_line() {
        let io = on_conn(Op::Read, Cause::Timeout);
        let io_text = io.to_string();
        let rows = [
            (CloseReason::Eof, "end of stream"),
            (CloseReason::Local, "closed by the handler"),
            (
                CloseReason::Handler(io::Error::other("bad request")),
                "handler: bad request",
            ),
            (
                CloseReason::Timeout(Deadline::Idle),
                "timed out: idle timeout",
            ),
            (CloseReason::Reset, "connection reset by peer"),
            (CloseReason::Overflow, "output limit exceeded"),
            (CloseReason::InputTooLong, "input limit exceeded"),
            (CloseReason::Shutdown, "shutdown"),
            (CloseReason::Panic, "a callback panicked"),
            (CloseReason::Io(io), io_text.as_str()),
        ];
        for (reason, text) in rows {
            assert_eq!(reason.to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn any_errno_prints_without_its_number_twice(errno: i32) {
            let text = errno_text(Errno(errno));
            prop_assert!(!text.is_empty() && !text.contains("(os error"), "{text}");
        }
    }

    #[test]
    fn every_operation_has_gos_word() {
        let all = [
            (Op::Dial, "dial"),
            (Op::Resolve, "resolve"),
            (Op::Listen, "listen"),
            (Op::Accept, "accept"),
            (Op::Read, "read"),
            (Op::Write, "write"),
            (Op::Set, "set"),
            (Op::Close, "close"),
            (Op::Watch, "watch"),
            (Op::Run, "run"),
        ];
        for (op, word) in all {
            assert_eq!((op.as_str(), op.to_string().as_str()), (word, word));
        }
    }

    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn an_abbreviation_keeps_its_capitals() {
        assert_eq!(errno_text(Errno(libc::EDOTDOT)), "RFS specific error");
    }
}
