//! A server as a process of its own, and what it costs, read from outside.

#![allow(
    unsafe_code,
    reason = "clocks of other processes have no safe wrapper among the dependencies"
)]

use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::clock;
use super::workload::{Kind, Workload};

/// Descriptors that a process has open for other things than a crowd of connections.
pub(crate) const OTHER_DESCRIPTORS: u64 = 256;

pub(crate) struct Server {
    pub(crate) at: SocketAddr,
    clock: libc::clockid_t,
    /// The idle connections, if there are any.
    _holder: Option<Process>,
    _server: Process,
}

impl Server {
    /// Where the calling thread is pinned, the server will be.
    pub(crate) fn start(kind: Kind, workload: &dyn Workload) -> io::Result<Self> {
        let (server, said) = Process::start(&["serve", kind.name(), workload.name()])?;
        let at: SocketAddr = said.parse().map_err(io::Error::other)?;
        let clock = server.clock()?;
        let holder = match workload.idle() {
            0 => None,
            idle => {
                let words = ["hold", &at.to_string(), &idle.to_string()];
                let (holder, held) = Process::start(&words)?;
                if held != idle.to_string() {
                    println!("SKIPPED: only {held} of {idle} idle connections: descriptors end");
                }
                Some(holder)
            }
        };
        Ok(Self {
            at,
            clock,
            _holder: holder,
            _server: server,
        })
    }

    /// Processor time of all its threads, so far.
    pub(crate) fn seconds(&self) -> f64 {
        clock::seconds(self.clock)
    }
}

/// Killed when it is dropped, and when the process that started it ends.
pub(crate) struct Process(Child);

impl Process {
    /// This program again; the last word of its first line is what it has to say.
    fn start(words: &[&str]) -> io::Result<(Self, String)> {
        let mut process = Self::spawn(words, Stdio::null())?;
        let mut line = String::new();
        if let Some(out) = process.0.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        match line.split_whitespace().last() {
            Some(said) => Ok((process, said.to_owned())),
            None => Err(io::Error::other(format!("`{}` ended", words.join(" ")))),
        }
    }

    /// This program again, with other arguments.
    pub(crate) fn spawn(words: &[&str], input: Stdio) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(words).stdin(input).stdout(Stdio::piped());
        let die_with_us = || {
            // SAFETY: prctl with these arguments takes no pointer.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            Ok(())
        };
        // SAFETY: prctl may be called between fork and exec.
        unsafe { command.pre_exec(die_with_us) };
        command.spawn().map(Self)
    }

    /// To talk to it, if its input was piped and they were not taken before.
    pub(crate) fn pipes(&mut self) -> (Option<ChildStdin>, Option<BufReader<ChildStdout>>) {
        (
            self.0.stdin.take(),
            self.0.stdout.take().map(BufReader::new),
        )
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Of the processor time of all its threads.
    pub(crate) fn clock(&self) -> io::Result<libc::clockid_t> {
        let mut clock = 0;
        // SAFETY: the clock lives across the call.
        match unsafe { libc::clock_getcpuclockid(self.0.id() as libc::pid_t, &raw mut clock) } {
            0 => Ok(clock),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, which its load has told by now.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Holds so many idle connections until it is killed, or as many as there are descriptors for.
pub(crate) fn hold(at: SocketAddr, connections: usize) -> io::Result<()> {
    let room = raise_descriptors()?.saturating_sub(OTHER_DESCRIPTORS) as usize;
    let streams = (0..connections.min(room)).map(|_| TcpStream::connect(at));
    let streams = streams.collect::<io::Result<Vec<_>>>()?;
    println!("holding {}", streams.len());
    loop {
        std::thread::park();
    }
}

/// To the hard limit, which is the answer.
pub(crate) fn raise_descriptors() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the limit lives across the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the limit lives across the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_max)
}
