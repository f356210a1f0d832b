//! The loops: threads that serve, and the one that accepts for them.

use std::io;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use windlass::{Conn, DialId, Handle, Handler, Input, Listen, ListenerId, Reactor, Summary};

/// A loop on a thread of its own.
pub(crate) struct Running<H: Handler> {
    pub(crate) handle: Handle<H>,
    /// Where it listens, if it does.
    pub(crate) address: Option<String>,
    thread: JoinHandle<io::Result<Summary>>,
}

impl<H: Handler + Send + 'static> Running<H> {
    /// Answers when the loop can be spoken to, or has failed.
    pub(crate) fn start(handler: H, listen: Option<Listen>) -> io::Result<Self> {
        let (say, said) = mpsc::channel();
        let thread = thread::Builder::new().spawn(move || {
            let mut reactor = Reactor::new(handler)?;
            let id = listen.map(|listen| reactor.listen(listen)).transpose()?;
            let listener = id.and_then(|id| reactor.listener(id));
            let address = listener.map(|listener| listener.local_addr().to_string());
            let _ = say.send((reactor.handle(), address));
            reactor.run()
        })?;
        match said.recv() {
            Ok((handle, address)) => Ok(Self {
                handle,
                address,
                thread,
            }),
            Err(_) => join(thread).and(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// A graceful stop begins; [`join`](Self::join) waits for its end.
    pub(crate) fn stop(&self, grace: Duration) {
        // One that has ended needs no telling.
        let _ = self.handle.shutdown(grace);
    }

    pub(crate) fn join(self) -> io::Result<Summary> {
        join(self.thread)
    }
}

fn join<R>(thread: JoinHandle<io::Result<R>>) -> io::Result<R> {
    let panicked = |_| Err(io::Error::other("a loop panicked"));
    thread.join().unwrap_or_else(panicked)
}

/// Serves clients that it accepts itself, or that are handed over.
pub(crate) struct Worker {
    number: usize,
}

impl Worker {
    pub(crate) fn new(number: usize) -> Self {
        Self { number }
    }

    fn greet(&self, conn: &mut Conn<'_>) -> io::Result<()> {
        writeln!(conn, "loop {}", self.number);
        Ok(())
    }
}

impl Handler for Worker {
    type Session = ();

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        self.greet(conn)
    }

    /// Adopting is like a dial that has succeeded.
    fn on_connect(&mut self, conn: &mut Conn<'_>, _: DialId) -> io::Result<()> {
        self.greet(conn)
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        _: &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        conn.write(input.take_all());
        Ok(())
    }
}

/// Accepts, and hands over to one worker after the other.
pub(crate) struct Acceptor {
    workers: Vec<Handle<Worker>>,
    next: usize,
}

impl Acceptor {
    pub(crate) fn new(workers: Vec<Handle<Worker>>) -> Self {
        Self { workers, next: 0 }
    }
}

impl Handler for Acceptor {
    type Session = ();

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        let socket = conn.detach()?;
        let worker = &self.workers[self.next];
        self.next = (self.next + 1) % self.workers.len();
        // A worker whose mailbox is full, or that is no more, costs this client its
        // connection: the descriptor is closed with the task that nobody runs.
        worker.post(|_, cx| drop(cx.adopt(socket)))?;
        Ok(())
    }
}
