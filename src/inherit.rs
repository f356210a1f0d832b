//! Listening sockets that whoever started this process has opened for it.

use std::io;
use std::os::fd::OwnedFd;

use crate::kernel::os;
use crate::listener::Listen;

/// The sockets that a service manager passed to this process, in its order (systemd's
/// protocol: `LISTEN_PID`, `LISTEN_FDS`, `LISTEN_FDNAMES`; descriptors 3 and up). None if the
/// variables are not there, or are meant for another process.
///
/// Ask once, early, and before anything else could open descriptors by number: the answer
/// owns them. The second call answers none. Children do not inherit what this answers, since
/// it is made close-on-exec; the variables stay as they are, and name another process to
/// them.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # struct App;
/// # impl windlass::Handler for App { type Session = (); }
/// let mut reactor = windlass::Reactor::new(App)?;
/// let mut inherited = windlass::inherited()?;
/// match inherited.pop() {
///     Some(socket) => reactor.listen(socket)?,
///     None => reactor.listen("127.0.0.1:3000")?, // started by hand
/// };
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// `InvalidInput`, with a sentence, if a variable is not what the protocol says, or if a
/// descriptor is not open. Nothing is owned then.
pub fn inherited() -> io::Result<Vec<Inherited>> {
    let sockets = os::inherited()?;
    Ok(sockets
        .into_iter()
        .map(|(name, fd)| Inherited { name, fd })
        .collect())
}

/// A socket that this process was given when it was started.
#[derive(Debug)]
pub struct Inherited {
    name: Option<String>,
    fd: OwnedFd,
}

impl Inherited {
    /// What the service manager calls it (`FileDescriptorName=`), if it has a name.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

impl From<Inherited> for OwnedFd {
    fn from(inherited: Inherited) -> Self {
        inherited.fd
    }
}

/// To be listened on. A datagram socket is for [`Bind::adopt`](crate::Bind::adopt).
impl From<Inherited> for Listen {
    fn from(inherited: Inherited) -> Self {
        Self::adopt(inherited.into())
    }
}
