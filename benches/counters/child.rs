//! A server as a process, alone or under a tool that counts.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use super::load::{Load, Workload};
use super::os;
use super::servers::Server;

/// The two numbers of requests whose difference is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) few: usize,
    pub(crate) many: usize,
}

/// What a tool has written about a run with few requests, and about one with many.
pub(crate) struct Reports {
    pub(crate) few: String,
    pub(crate) many: String,
    /// Requests by which they differ.
    pub(crate) requests: u64,
}

/// Runs the same load against the same server under a tool twice. `tool` is its command line
/// without the program, given the file that it is to report to.
pub(crate) fn twice(
    tool: impl Fn(&Path) -> Command,
    server: Server,
    workload: Workload,
    counts: Counts,
) -> io::Result<Reports> {
    let once = |requests| {
        let report = Report::new();
        let child = Child::start(tool(&report.0), server, workload)?;
        let done = Load::connect(workload, child.addr)?.run(requests)?;
        child.finish()?;
        Ok::<_, io::Error>((fs::read_to_string(&report.0)?, done))
    };
    let (few, less) = once(counts.few)?;
    let (many, more) = once(counts.many)?;
    Ok(Reports {
        few,
        many,
        requests: (more - less) as u64,
    })
}

/// A server in a process of its own.
pub(crate) struct Child {
    process: process::Child,
    /// Of the server, not of the tool.
    pub(crate) id: i32,
    pub(crate) addr: SocketAddr,
}

impl Child {
    /// `tool` is the beginning of a command line.
    pub(crate) fn start(mut tool: Command, server: Server, workload: Workload) -> io::Result<Self> {
        let name = tool.get_program().to_owned();
        tool.arg(std::env::current_exe()?);
        Self::spawn(&mut tool, &name, server, workload)
    }

    /// Without a tool.
    pub(crate) fn alone(server: Server, workload: Workload) -> io::Result<Self> {
        let this = std::env::current_exe()?;
        Self::spawn(&mut Command::new(&this), this.as_os_str(), server, workload)
    }

    fn spawn(
        command: &mut Command,
        name: &OsStr,
        server: Server,
        workload: Workload,
    ) -> io::Result<Self> {
        let named = |error: &dyn std::fmt::Display| {
            io::Error::other(format!("{}: {error}", name.to_string_lossy()))
        };
        let mut process = command
            .args(["serve", server.name(), workload.name()])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| named(&error))?;
        let mut line = String::new();
        if let Some(said) = process.stdout.take() {
            BufReader::new(said).read_line(&mut line)?;
        }
        // A tool has a process of its own, or becomes the server.
        let said = line.trim_end().strip_prefix("process ");
        let (id, addr) = said
            .and_then(|said| said.split_once(" listens on "))
            .and_then(|(id, addr)| Some((id.parse().ok()?, addr.parse().ok()?)))
            .ok_or_else(|| named(&"the server did not start"))?;
        Ok(Self { process, id, addr })
    }

    /// Ends it well, or says why not.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        os::end(self.id)?;
        let status = self.process.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("the server ended with {status}")))
        }
    }
}

/// A file that goes when it was read.
struct Report(PathBuf);

impl Report {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("counters.{}.{number}", process::id());
        Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
