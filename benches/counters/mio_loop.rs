//! An echo loop on plain mio: what the crate's own code is measured above. Like `raw`, it has
//! no deadline, no limit and no back-pressure (a short write loses the rest).

use std::io::{self, ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use slab::Slab;

const EVENTS: usize = 1024;
const BUFFER: usize = 256 * 1024;
const LISTENER: Token = Token(usize::MAX);

/// Echoes for ever.
pub(crate) fn serve(listener: std::net::TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    socket2::SockRef::from(&listener).set_tcp_nodelay(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(EVENTS);
    let mut streams = Slab::new();
    let mut buffer = vec![0_u8; BUFFER];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                accept_all(poll.registry(), &listener, &mut streams)?;
            } else {
                echo(&mut streams, event.token().0, &mut buffer);
            }
        }
    }
}

fn accept_all(
    registry: &Registry,
    listener: &TcpListener,
    streams: &mut Slab<TcpStream>,
) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let entry = streams.vacant_entry();
        registry.register(&mut stream, Token(entry.key()), Interest::READABLE)?;
        entry.insert(stream);
    }
}

fn echo(streams: &mut Slab<TcpStream>, key: usize, buffer: &mut [u8]) {
    let Some(stream) = streams.get_mut(key) else {
        return;
    };
    loop {
        match stream.read(buffer) {
            Ok(0) => {
                streams.remove(key);
                return;
            }
            Ok(n) => {
                // An error shows at the next read.
                let _ = stream.write(&buffer[..n]);
                if n < buffer.len() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}
