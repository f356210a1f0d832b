//! A worker: a loop of its own, on the listener that is its standard input.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process;
use std::time::Duration;

use windlass::{Conn, Context, Handle, Handler, Input, Interest, Listen, ListenerId, Reactor};
use windlass::{Ready, WatchId};

/// How long connections may take to finish once the parent says stop, or is gone.
const GRACE: Duration = Duration::from_secs(5);

struct Worker {
    /// Standard output: it says how the worker did, and its end is the order to stop.
    parent: UnixStream,
}

pub(crate) fn serve() -> io::Result<()> {
    let listener = io::stdin().as_fd().try_clone_to_owned()?;
    let parent = UnixStream::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut reactor = Reactor::new(Worker { parent })?;
    reactor.listen(Listen::adopt(listener))?;
    let served = reactor.run()?.stats.accepted;
    // A parent that was killed hears no more.
    let _ = writeln!(
        io::stdout(),
        "worker {} served {served} clients",
        process::id()
    );
    Ok(())
}

impl Handler for Worker {
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<'_>, _: &Handle<Self>) -> io::Result<()> {
        cx.watch(self.parent.try_clone()?, Interest::Read)?;
        Ok(())
    }

    fn on_ready(&mut self, cx: &mut Context<'_>, watch: WatchId, _: Ready) {
        // The parent says nothing; what there is to read is its end.
        cx.unwatch(watch);
        cx.shutdown(GRACE);
    }

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        writeln!(conn, "worker {}", process::id());
        Ok(())
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
