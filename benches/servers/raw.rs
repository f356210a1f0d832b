//! The baseline: a server written by hand on raw epoll, with nothing but what serving needs.
//! One receive and one send per request, a short read taken as drained, interest in writing
//! only after a short send, TCP_NODELAY inherited from the listener.
//!
//! Its shortcuts: no deadline, no limit on what one connection may take of a turn (unless it
//! is asked for) or of memory, accepting until there is nobody left, no way to stop. A server needs all of
//! these; the benchmark asks what they cost.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};

use super::answer::Answer;
use super::epoll::{self, ENDED, Epoll, IN, OUT};

/// The one read buffer, as large as that of the others.
pub(crate) const BUFFER: usize = 256 * 1024;

struct Connection<S> {
    fd: OwnedFd,
    session: S,
    /// What a short send has left.
    unsent: Vec<u8>,
    /// Whether it has asked for news of room to write; it never takes that back.
    asked: bool,
    /// The peer has finished, so a short read is not the last.
    ended: bool,
}

/// Serves for ever.
pub(crate) fn serve<A: Answer>(listener: &TcpListener, answer: A) -> io::Result<()> {
    serve_within(listener, answer, usize::MAX)
}

/// The same; a connection that was read so many bytes waits until the others had their turn.
pub(crate) fn serve_within<A: Answer>(
    listener: &TcpListener,
    mut answer: A,
    budget: usize,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = listener.as_raw_fd();
    let mut epoll = Epoll::new()?;
    epoll.add(listener, IN, listener as u64)?;
    let mut buffer = vec![0; BUFFER];
    // By descriptor: small numbers, used again at once.
    let mut connections: Vec<Option<Connection<A::Session>>> = Vec::new();
    loop {
        for at in 0..epoll.wait(-1)? {
            let (ready, key) = epoll.event(at);
            let key = key as usize;
            if key == listener as usize {
                accept_all(&epoll, listener, &mut connections)?;
            } else if let Some(Some(connection)) = connections.get_mut(key) {
                connection.ended |= ready & ENDED != 0;
                let served = connection.serve(&epoll, &mut buffer, &mut answer, budget);
                if served.is_err() {
                    connections[key] = None;
                }
                let message = answer.for_others();
                if !message.is_empty() {
                    tell_others(&epoll, &mut connections, key, &message);
                }
            }
        }
    }
}

fn accept_all<S: Default>(
    epoll: &Epoll,
    listener: i32,
    connections: &mut Vec<Option<Connection<S>>>,
) -> io::Result<()> {
    while let Ok(fd) = epoll::accept(listener) {
        let key = fd.as_raw_fd() as usize;
        epoll.add(fd.as_raw_fd(), IN, key as u64)?;
        if connections.len() <= key {
            connections.resize_with(key + 1, || None);
        }
        connections[key] = Some(Connection {
            fd,
            session: S::default(),
            unsent: Vec::new(),
            asked: false,
            ended: false,
        });
    }
    Ok(())
}

fn tell_others<S>(
    epoll: &Epoll,
    connections: &mut [Option<Connection<S>>],
    from: usize,
    message: &[u8],
) {
    for (key, slot) in connections.iter_mut().enumerate() {
        if key != from
            && let Some(connection) = slot
            && connection.send(epoll, message).is_err()
        {
            *slot = None;
        }
    }
}

impl<S> Connection<S> {
    /// An error ends the connection, and so does the peer's end.
    fn serve<A>(
        &mut self,
        epoll: &Epoll,
        buffer: &mut [u8],
        answer: &mut A,
        budget: usize,
    ) -> io::Result<()>
    where
        A: Answer<Session = S>,
    {
        let mut read = 0;
        // What is owed goes first, and while it cannot go nothing more is read.
        while self.flush()? {
            let n = match epoll::recv(self.fd.as_raw_fd(), buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let reply = answer.answer(&mut self.session, &buffer[..n]);
            self.send(epoll, reply)?;
            if n < buffer.len() && !self.ended {
                return Ok(());
            }
            read += n;
            if read >= budget {
                return self.wait_for_others(epoll);
            }
        }
        Ok(())
    }

    /// Has the kernel report it once more, behind those that it has reported by now.
    fn wait_for_others(&self, epoll: &Epoll) -> io::Result<()> {
        let fd = self.fd.as_raw_fd();
        let interest = if self.asked { IN | OUT } else { IN };
        epoll.modify(fd, interest, fd as u64)
    }

    /// Behind what is owed, if anything is.
    fn send(&mut self, epoll: &Epoll, reply: &[u8]) -> io::Result<()> {
        if reply.is_empty() {
            return Ok(());
        }
        let fd = self.fd.as_raw_fd();
        let sent = match self.unsent.is_empty() {
            true => taken(epoll::send(fd, reply))?,
            false => 0,
        };
        if sent < reply.len() {
            self.unsent.extend_from_slice(&reply[sent..]);
            if !self.asked {
                self.asked = true;
                // This reports at once if there is room by now.
                epoll.modify(fd, IN | OUT, fd as u64)?;
            }
        }
        Ok(())
    }

    /// Whether nothing is owed.
    fn flush(&mut self) -> io::Result<bool> {
        if !self.unsent.is_empty() {
            let sent = taken(epoll::send(self.fd.as_raw_fd(), &self.unsent))?;
            self.unsent.drain(..sent);
        }
        Ok(self.unsent.is_empty())
    }
}

/// A full socket has taken nothing.
pub(crate) fn taken(sent: io::Result<usize>) -> io::Result<usize> {
    match sent {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}
