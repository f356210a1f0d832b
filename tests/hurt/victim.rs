//! A server process as its tormentor sees it, and strace, which hurts it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::clients::{Place, Service};
use super::server::SABOTAGE;
use super::system;

/// Much longer than anything takes here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// A loop that has nothing to do is found asleep at the first look, or soon.
const ASLEEP: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// How a server is started.
#[derive(Clone, Default, Debug)]
pub(crate) struct Start<'a> {
    /// Whether it keeps who is silent for seconds, not for a moment.
    pub(crate) patient: bool,
    /// Whom the relay dials.
    pub(crate) upstream: Option<&'a Place>,
    /// At most so many descriptors.
    pub(crate) descriptors: Option<u32>,
    /// Where, if not anywhere.
    pub(crate) at: Option<&'a Place>,
    pub(crate) sabotage: &'a str,
}

pub(crate) struct Victim {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    pub(crate) service: Service,
    pub(crate) place: Place,
}

impl Victim {
    pub(crate) fn start(service: Service, how: &Start<'_>) -> io::Result<Self> {
        let at = match (how.at, service) {
            (Some(place), _) => text(service, place),
            (None, Service::Unix | Service::Records) => text(service, &Place::Path(fresh_path())),
            (None, Service::Udp) => "udp://127.0.0.1:0".to_owned(),
            (None, _) => "127.0.0.1:0".to_owned(),
        };
        let mut child = command(how.descriptors)?
            .args(["serve", service.name(), &at])
            .arg(if how.patient { "long" } else { "short" })
            .args(how.upstream.map(|it| text(Service::Echo, it)))
            .env(SABOTAGE, how.sabotage)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // The example's handler complains of each dial that fails.
            .stderr(Stdio::null())
            .spawn()?;
        let none = || io::Error::other("no pipe");
        let questions = child.stdin.take().ok_or_else(none)?;
        let mut answers = BufReader::new(child.stdout.take().ok_or_else(none)?);
        let mut line = String::new();
        answers.read_line(&mut line)?;
        let local = line.trim_end().strip_prefix("listening on ");
        let local = local.ok_or_else(|| io::Error::other("the server did not start"))?;
        let place = match service {
            Service::Unix | Service::Records => Place::Path(path_in(&at)),
            _ => Place::Ip(local.parse().map_err(io::Error::other)?),
        };
        Ok(Self {
            child,
            questions,
            answers,
            service,
            place,
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What the loop and the handler have counted; empty if the loop does not answer.
    pub(crate) fn look(&mut self) -> io::Result<BTreeMap<String, u64>> {
        self.questions.write_all(b"look\n")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let counts = line.split_whitespace().filter_map(|word| {
            let (name, count) = word.split_once('=')?;
            Some((name.to_owned(), count.parse().ok()?))
        });
        Ok(counts.collect())
    }

    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        system::signal(self.id(), signal)
    }

    pub(crate) fn descriptors(&self) -> io::Result<usize> {
        system::descriptors(self.id())
    }

    /// Waits a while until the loop waits for the kernel: then it is in no call that fails.
    /// Answers whether it was seen to.
    pub(crate) fn asleep(&self) -> io::Result<bool> {
        let began = Instant::now();
        while began.elapsed() < ASLEEP {
            if system::sleeps(self.id())? {
                return Ok(true);
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(false)
    }

    /// Not the way to end a server.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// SIGTERM, and how it ended. Fails if it did not.
    pub(crate) fn stop(&mut self) -> io::Result<ExitStatus> {
        self.signal(libc::SIGTERM)?;
        self.ended()
    }

    pub(crate) fn ended(&mut self) -> io::Result<ExitStatus> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if began.elapsed() > PATIENCE {
                return Err(io::Error::other("the server does not end"));
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // In the good case it has ended already.
        let alive = self.child.try_wait().ok().flatten().is_none();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if alive && let Place::Path(path) = &self.place {
            let _ = fs::remove_file(path);
        }
    }
}

fn command(descriptors: Option<u32>) -> io::Result<Command> {
    let this = std::env::current_exe()?;
    let Some(limit) = descriptors else {
        return Ok(Command::new(this));
    };
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")]);
    shell.arg(this);
    Ok(shell)
}

/// As an address is written.
pub(crate) fn text(service: Service, place: &Place) -> String {
    match (place, service) {
        (Place::Ip(addr), _) => addr.to_string(),
        (Place::Path(path), Service::Records) => format!("unixpacket://{}", path.display()),
        (Place::Path(path), _) => format!("unix://{}", path.display()),
    }
}

fn path_in(text: &str) -> PathBuf {
    let path = text.split_once("://").map_or(text, |(_, path)| path);
    Path::new(path).to_owned()
}

/// A name in the directory for temporary files that nobody else uses.
pub(crate) fn fresh_path() -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("windlass-hurt-{}-{number}", std::process::id());
    std::env::temp_dir().join(name)
}

/// strace, attached to the loop's thread and to no other: who answers is not hurt.
pub(crate) struct Strace {
    child: Child,
    log: PathBuf,
    /// Kept open, for it has something to say when it lets go.
    said: BufReader<ChildStderr>,
}

/// What strace saw.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Seen {
    pub(crate) calls: usize,
    pub(crate) injected: usize,
}

impl Drop for Strace {
    fn drop(&mut self) {
        // It has ended when it was told to let go.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.log);
    }
}

impl Strace {
    pub(crate) fn attach(process: u32, inject: &str) -> io::Result<Self> {
        let log = fresh_path();
        let mut child = Command::new("strace")
            .args(["-p", &process.to_string(), "-e", inject, "-o"])
            .arg(&log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let said = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut strace = Self {
            child,
            log,
            said: BufReader::new(said),
        };
        let mut words = String::new();
        while strace.said.read_line(&mut words)? > 0 {
            if words.contains("attached") {
                return Ok(strace);
            }
        }
        Err(io::Error::other(words.trim_end().replace('\n', "; ")))
    }

    /// Lets go.
    pub(crate) fn detach(mut self) -> io::Result<Seen> {
        // Against its own death by a signal while a process hangs on it: SIGTERM detaches.
        system::signal(self.child.id(), libc::SIGTERM)?;
        self.child.wait()?;
        let log = fs::read(&self.log)?;
        let mut seen = Seen::default();
        for line in log.split(|byte| *byte == b'\n') {
            seen.calls += usize::from(line.contains(&b'('));
            seen.injected += usize::from(line.ends_with(b"(INJECTED)"));
        }
        Ok(seen)
    }
}
