//! The same loop on mio instead of libc: what the crate's own foundation costs.

use std::io::{self, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use slab::Slab;

use super::answer::Answer;
use super::raw::{BUFFER, taken};

const EVENTS: usize = 1024;
const LISTENER: Token = Token(usize::MAX - 1);

struct Connection<S> {
    stream: TcpStream,
    session: S,
    unsent: Vec<u8>,
    asked: bool,
    ended: bool,
}

/// Serves for ever.
pub(crate) fn serve<A: Answer>(listener: std::net::TcpListener, mut answer: A) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    let registry = poll.registry().try_clone()?;
    registry.register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(EVENTS);
    let mut buffer = vec![0; BUFFER];
    let mut connections: Slab<Connection<A::Session>> = Slab::new();
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            let token = event.token();
            if token == LISTENER {
                accept_all(&registry, &listener, &mut connections)?;
            } else if let Some(connection) = connections.get_mut(token.0) {
                connection.ended |= event.is_read_closed() || event.is_error();
                let served = connection.serve(&registry, token, &mut buffer, &mut answer);
                if served.is_err() {
                    connections.remove(token.0);
                }
                let message = answer.for_others();
                if !message.is_empty() {
                    tell_others(&registry, &mut connections, token.0, &message);
                }
            }
        }
    }
}

fn accept_all<S: Default>(
    registry: &Registry,
    listener: &TcpListener,
    connections: &mut Slab<Connection<S>>,
) -> io::Result<()> {
    while let Ok((mut stream, _)) = listener.accept() {
        let entry = connections.vacant_entry();
        registry.register(&mut stream, Token(entry.key()), Interest::READABLE)?;
        entry.insert(Connection {
            stream,
            session: S::default(),
            unsent: Vec::new(),
            asked: false,
            ended: false,
        });
    }
    Ok(())
}

fn tell_others<S>(
    registry: &Registry,
    connections: &mut Slab<Connection<S>>,
    from: usize,
    message: &[u8],
) {
    connections.retain(|key, connection| {
        key == from || connection.send(registry, Token(key), message).is_ok()
    });
}

impl<S> Connection<S> {
    fn serve<A>(
        &mut self,
        registry: &Registry,
        token: Token,
        buffer: &mut [u8],
        answer: &mut A,
    ) -> io::Result<()>
    where
        A: Answer<Session = S>,
    {
        while self.flush()? {
            let n = match self.stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let reply = answer.answer(&mut self.session, &buffer[..n]);
            self.send(registry, token, reply)?;
            if n < buffer.len() && !self.ended {
                return Ok(());
            }
        }
        Ok(())
    }

    fn send(&mut self, registry: &Registry, token: Token, reply: &[u8]) -> io::Result<()> {
        if reply.is_empty() {
            return Ok(());
        }
        let sent = match self.unsent.is_empty() {
            true => taken(self.stream.write(reply))?,
            false => 0,
        };
        if sent < reply.len() {
            self.unsent.extend_from_slice(&reply[sent..]);
            if !self.asked {
                self.asked = true;
                let both = Interest::READABLE | Interest::WRITABLE;
                registry.reregister(&mut self.stream, token, both)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<bool> {
        if !self.unsent.is_empty() {
            let sent = taken(self.stream.write(&self.unsent))?;
            self.unsent.drain(..sent);
        }
        Ok(self.unsent.is_empty())
    }
}
