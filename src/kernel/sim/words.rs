//! How a trace reads: calls, what they answered, and the bytes that were moved.
//!
//! Text only. Nobody takes it apart again, so that it may change with every release.

use std::fmt;
use std::time::Duration;

use crate::kernel::{Errno, Event, Fault, Message};

/// Bytes of a message that are shown; what follows is left out.
const MOST_SHOWN: usize = 48;

/// What a call answered: the value alone, or the name of the errno.
pub(super) struct Said<'a, T, E>(pub(super) &'a Result<T, E>);

impl<T: fmt::Debug, E: Reason> fmt::Display for Said<'_, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(value) => write!(f, "{value:?}"),
            Err(error) => error.write(f),
        }
    }
}

/// As [`Said`], of a call that has nothing to answer when it succeeds.
pub(super) struct Done<'a, E>(pub(super) &'a Result<(), E>);

impl<E: Reason> fmt::Display for Done<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(()) => f.write_str("done"),
            Err(error) => error.write(f),
        }
    }
}

/// Why a call failed.
pub(super) trait Reason {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

impl Reason for Errno {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match name_of(self.0) {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl Reason for Fault {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.call)?;
        self.errno.write(f)
    }
}

/// What a read brought, and what it found at the beginning of its buffer.
pub(super) struct Came<'a>(pub(super) &'a Result<Message, Errno>, pub(super) &'a [u8]);

impl fmt::Display for Came<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(Message { len: 0, .. }) => f.write_str("the end"),
            Ok(Message { len, truncated }) => {
                let cut = if *truncated { ", cut off" } else { "" };
                write!(
                    f,
                    "{len}{cut} {}",
                    Bytes(self.1.get(..*len).unwrap_or(self.1))
                )
            }
            Err(errno) => errno.write(f),
        }
    }
}

/// What a poll brought.
pub(super) struct Polled<'a> {
    pub(super) most: Option<Duration>,
    pub(super) result: &'a Result<(), Errno>,
    pub(super) events: &'a [Event],
}

impl fmt::Display for Polled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.most {
            Some(most) => write!(f, "poll, for {most:?}: ")?,
            None => f.write_str("poll: ")?,
        }
        match self.result {
            Err(errno) => errno.write(f),
            Ok(()) if self.events.is_empty() => f.write_str("nothing"),
            Ok(()) => self.write_events(f),
        }
    }
}

impl Polled<'_> {
    fn write_events(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, event) in self.events.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{:?} {:?}", event.token, event.ready)?;
        }
        Ok(())
    }
}

/// Bytes in quotes, as Rust would write them, the first ones only.
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl fmt::Display for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(MOST_SHOWN)];
        let more = if shown.len() < self.0.len() {
            "…"
        } else {
            ""
        };
        write!(f, "\"{}\"{more}", shown.escape_ascii())
    }
}

/// Those that the tables of `fd.rs` know, and those that opening a socket comes to.
fn name_of(errno: i32) -> Option<&'static str> {
    macro_rules! names {
        ($($name:ident)*) => {
            match errno {
                $(libc::$name => Some(stringify!($name)),)*
                _ => None,
            }
        };
    }
    names! {
        EACCES EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EAGAIN EALREADY EBADF ECONNABORTED
        ECONNREFUSED ECONNRESET EEXIST EFAULT EHOSTDOWN EHOSTUNREACH EINPROGRESS EINTR EINVAL
        EIO EISCONN EMFILE EMSGSIZE ENETDOWN ENETUNREACH ENFILE ENOBUFS ENOENT ENOMEM
        ENOPROTOOPT ENOSPC ENOSYS ENOTCONN ENOTSOCK ENOTSUP EPERM EPIPE EPROTO
        EPROTONOSUPPORT EPROTOTYPE ETIMEDOUT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_and_bytes_are_escaped() {
        assert_eq!(Bytes(b"a\r\n\xff").to_string(), r#""a\r\n\xff""#);
        let long = Bytes(&[b'x'; MOST_SHOWN + 1]).to_string();
        assert_eq!(long, format!("\"{}\"…", "x".repeat(MOST_SHOWN)));
    }

    #[test]
    fn an_errno_has_its_name_and_an_unknown_one_its_number() {
        let said = |errno| Said::<(), _>(&Err(Errno(errno))).to_string();
        assert_eq!(
            (said(libc::EMFILE), said(9999)),
            ("EMFILE".into(), "errno 9999".into())
        );
    }
}
