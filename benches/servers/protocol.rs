//! Requests that have an end of their own, which is not where a receive ends; and the
//! servers of such a protocol, all with the same parser.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use windlass::{Conn, Handler, Input, Listen, ListenerId, Reactor};

use super::answer::Answer;
use super::workload::Kind;
use super::{mio_loop, raw, threads, tokio_tasks};

/// What one server knows; a clone of it knows the same if it has to.
pub(crate) trait Protocol: Clone + Send + 'static {
    /// Answers the first request of `input`, and says how long it was. `None` while it has
    /// not wholly come. What will never be a request is not answered either, which the
    /// load tells.
    fn answer(&mut self, input: &[u8], out: impl FnMut(&[u8])) -> Option<usize>;
}

/// `buffer` is what a task or a thread reads into.
pub(crate) fn serve(
    kind: Kind,
    listener: TcpListener,
    protocol: impl Protocol,
    buffer: usize,
) -> io::Result<()> {
    match kind {
        Kind::Raw => raw::serve(&listener, Gathered::new(protocol)),
        Kind::Mio => mio_loop::serve(listener, Gathered::new(protocol)),
        Kind::Tokio => tokio_tasks::serve(listener, Gathered::new(protocol), buffer, None),
        Kind::Threads => threads::serve(&listener, Gathered::new(protocol), buffer),
        Kind::Windlass => {
            let mut reactor = Reactor::new(Serving(protocol))?;
            reactor.listen(Listen::adopt(OwnedFd::from(listener)))?;
            reactor.run().map(drop)
        }
        Kind::Mux | Kind::Single | Kind::Gro | Kind::RawGro => Err(kind.cannot()),
    }
}

/// For the loops without an interface of their own: the answers to all that one receive
/// brought, in one piece.
#[derive(Clone)]
struct Gathered<P> {
    protocol: P,
    answers: Vec<u8>,
}

impl<P: Protocol> Gathered<P> {
    fn new(protocol: P) -> Self {
        Self {
            protocol,
            answers: Vec::new(),
        }
    }

    /// Answers every request that is complete; how many bytes those were.
    fn answer_all(&mut self, input: &[u8]) -> usize {
        let mut done = 0;
        let answers = &mut self.answers;
        while let Some(length) = self
            .protocol
            .answer(&input[done..], |bytes| answers.extend_from_slice(bytes))
        {
            done += length;
        }
        done
    }
}

impl<P: Protocol> Answer for Gathered<P> {
    /// The beginning of a request.
    type Session = Vec<u8>;

    fn answer<'a>(&'a mut self, begun: &mut Vec<u8>, input: &'a [u8]) -> &'a [u8] {
        self.answers.clear();
        if begun.is_empty() {
            let done = self.answer_all(input);
            begun.extend_from_slice(&input[done..]);
        } else {
            begun.extend_from_slice(input);
            let done = self.answer_all(begun);
            begun.drain(..done);
        }
        &self.answers
    }
}

/// One for all tasks or threads.
#[derive(Clone)]
pub(crate) struct Locked<P>(Arc<Mutex<P>>);

impl<P> Locked<P> {
    pub(crate) fn new(protocol: P) -> Self {
        Self(Arc::new(Mutex::new(protocol)))
    }
}

impl<P: Protocol> Protocol for Locked<P> {
    fn answer(&mut self, input: &[u8], out: impl FnMut(&[u8])) -> Option<usize> {
        let mut protocol = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        protocol.answer(input, out)
    }
}

/// The application, as anybody would write it.
struct Serving<P>(P);

impl<P: Protocol> Handler for Serving<P> {
    type Session = ();

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        Ok(())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        (): &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        while let Some(length) = self.0.answer(input.rest(), |bytes| {
            conn.write(bytes);
        }) {
            input.consume(length);
        }
        Ok(())
    }
}
