//! The parent: starts workers, sees them end, and starts others.

use std::collections::HashMap;
use std::env;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use windlass::{Context, Handle, Handler, Interest, Ready, TimerId, WatchId};

/// Makes a worker of this program.
pub(crate) const WORKER: &str = "--worker";

/// A worker is not replaced earlier than this after it began: one that cannot live would
/// keep the machine busy with its births.
const LIFE: Duration = Duration::from_secs(1);

pub(crate) struct Parent {
    listener: OwnedFd,
    wanted: usize,
    workers: HashMap<WatchId, Worker>,
    stopping: bool,
}

/// A process; a line whose other end is its standard output (when it ends there, the worker
/// has ended; when it ends here, the worker is to stop); and when it began.
struct Worker(Child, UnixStream, Instant);

impl Parent {
    pub(crate) fn new(listener: OwnedFd, wanted: usize) -> Self {
        Self {
            listener,
            wanted,
            workers: HashMap::new(),
            stopping: false,
        }
    }

    fn start(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let (line, theirs) = UnixStream::pair()?;
        let process = Command::new(env::current_exe()?)
            .arg(WORKER)
            .stdin(self.listener.try_clone()?)
            .stdout(OwnedFd::from(theirs))
            .process_group(0) // Ctrl-C at the terminal is for the parent
            .spawn()?;
        // If this fails, `line` is dropped, and the worker stops by itself.
        let watch = cx.watch(line.try_clone()?, Interest::Read)?;
        let worker = Worker(process, line, cx.now());
        self.workers.insert(watch, worker);
        Ok(())
    }

    fn ended(&self, cx: &mut Context<'_>, Worker(mut process, _, born): Worker) {
        // It ends its output by ending, so this does not wait.
        if let Ok(status) = process.wait() {
            let _ = writeln!(io::stdout(), "worker {} ended: {status}", process.id());
        }
        if self.stopping {
            self.end_if_alone(cx);
        } else {
            cx.set_timer(born + LIFE);
        }
    }

    fn end_if_alone(&self, cx: &mut Context<'_>) {
        if self.workers.is_empty() {
            cx.shutdown(Duration::ZERO);
        }
    }

    /// A first time: they may finish. A second time: they may not.
    pub(crate) fn stop(&mut self, cx: &mut Context<'_>) {
        for Worker(process, line, _) in self.workers.values_mut() {
            // What has ended already is beyond being told.
            let _ = match self.stopping {
                false => line.shutdown(Shutdown::Write),
                true => process.kill(),
            };
        }
        self.stopping = true;
        self.end_if_alone(cx);
    }
}

impl Handler for Parent {
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<'_>, _: &Handle<Self>) -> io::Result<()> {
        (0..self.wanted).try_for_each(|_| self.start(cx))
    }

    fn on_ready(&mut self, cx: &mut Context<'_>, watch: WatchId, _: Ready) {
        let mut said = [0; 1024];
        let Some(Worker(_, line, _)) = self.workers.get_mut(&watch) else {
            return;
        };
        if let Ok(n @ 1..) = line.read(&mut said) {
            let _ = io::stdout().write_all(&said[..n]);
        } else if let Some(worker) = self.workers.remove(&watch) {
            cx.unwatch(watch);
            self.ended(cx, worker);
        }
    }

    /// It is time for another worker.
    fn on_timer(&mut self, cx: &mut Context<'_>, _: TimerId) {
        if !self.stopping
            && let Err(error) = self.start(cx)
        {
            eprintln!("no worker could be started: {error}");
            cx.set_timer(cx.now() + LIFE);
        }
    }
}
