//! The servers: which there are, how each is started, watched and ended.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::protocol::Protocol;

/// Much longer than any of them takes to end: it lets clients finish for 5 s.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Of what a server says, its last words are kept.
const LAST_WORDS: usize = 4096;
/// So few that clients wait for each other: 32 of them are kept back for the program.
const FEW: u32 = 52;

/// Where a server is found.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Ip(SocketAddr),
    Path(PathBuf),
}

/// A program, and what it speaks.
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    program: &'static str,
    args: &'static [&'static str],
    pub(crate) protocol: Protocol,
    descriptors: Option<u32>,
    /// How many of a hundred clients go there, roughly.
    pub(crate) share: u32,
}

const fn plan(
    name: &'static str,
    program: &'static str,
    args: &'static [&'static str],
    protocol: Protocol,
) -> Plan {
    Plan {
        name,
        program,
        args,
        protocol,
        descriptors: None,
        share: 6,
    }
}

const fn narrow(mut plan: Plan) -> Plan {
    plan.descriptors = Some(FEW);
    plan
}

const fn rare(mut plan: Plan) -> Plan {
    plan.share = 3;
    plan
}

/// In this order they are started: who dials comes after whom it dials.
pub(crate) const PLANS: &[Plan] = &[
    plan("echo", "echo", &["127.0.0.1:0"], Protocol::Echo),
    narrow(plan("echo, few", "echo", &["127.0.0.1:0"], Protocol::Echo)),
    plan("echo, unix", "echo", &["unix://PATH"], Protocol::Echo),
    plan("echo ok", "echo", &["ok", "127.0.0.1:0"], Protocol::Ok),
    plan(
        "proxy",
        "proxy",
        &["127.0.0.1:0", "OF echo"],
        Protocol::Echo,
    ),
    plan(
        "proxy, unix",
        "proxy",
        &["127.0.0.1:0", "OF echo, unix"],
        Protocol::Echo,
    ),
    plan("http", "http", &["127.0.0.1:0"], Protocol::Http),
    narrow(plan("http, few", "http", &["127.0.0.1:0"], Protocol::Http)),
    plan("resp", "resp", &["127.0.0.1:0"], Protocol::Resp),
    rare(plan("chat", "chat", &["127.0.0.1:0"], Protocol::Chat)),
    narrow(plan(
        "daytime, few",
        "daytime",
        &["127.0.0.1:0"],
        Protocol::Daytime,
    )),
    plan(
        "timeserver",
        "timeserver",
        &["--after", "500ms", "127.0.0.1:0"],
        Protocol::Time,
    ),
    plan(
        "idle",
        "idle",
        &["--after", "300ms", "127.0.0.1:0"],
        Protocol::Idle,
    ),
    plan(
        "heartbeat",
        "heartbeat",
        &["serve", "127.0.0.1:0"],
        Protocol::Ping,
    ),
    plan(
        "prefork",
        "prefork",
        &["--workers", "2", "127.0.0.1:0"],
        Protocol::Greeted("worker "),
    ),
    plan(
        "workers",
        "workers",
        &["--loops", "2", "127.0.0.1:0"],
        Protocol::Greeted("loop "),
    ),
    plan(
        "workers, port",
        "workers",
        &["--loops", "2", "--reuse-port", "127.0.0.1:0"],
        Protocol::Greeted("loop "),
    ),
    plan("udp", "udp", &["serve", "127.0.0.1:0"], Protocol::Date),
    // Under TLS, each with a proxy that speaks it for the clients.
    rare(plan(
        "tls_echo",
        "tls_echo",
        &["127.0.0.1:0"],
        Protocol::Foreign,
    )),
    plan(
        "to tls_echo",
        "proxy",
        &["--to-tls", "--insecure", "127.0.0.1:0", "OF tls_echo"],
        Protocol::Echo,
    ),
    rare(plan("https", "https", &["127.0.0.1:0"], Protocol::Foreign)),
    plan(
        "to https",
        "proxy",
        &["--to-tls", "--insecure", "127.0.0.1:0", "OF https"],
        Protocol::Http,
    ),
    rare(plan(
        "proxy, TLS",
        "proxy",
        &["--tls", "127.0.0.1:0", "OF echo"],
        Protocol::Foreign,
    )),
    plan(
        "to proxy, TLS",
        "proxy",
        &["--to-tls", "--insecure", "127.0.0.1:0", "OF proxy, TLS"],
        Protocol::Echo,
    ),
];

/// Those that dial a server of the plan, and do so for as long as it lasts.
pub(crate) const COMPANIONS: &[(&str, &str, &[&str])] = &[(
    "heartbeat client",
    "heartbeat",
    &["client", "OF heartbeat", "50ms"],
)];

/// The handlers that share one loop, in the order in which it says where they listen.
pub(crate) const INSIDE: &[(&str, Protocol)] = &[
    ("inside: echo", Protocol::Echo),
    ("inside: http", Protocol::Http),
    ("inside: resp", Protocol::Resp),
    ("inside: relay", Protocol::Echo),
    ("inside: udp", Protocol::Datagrams),
];

/// A process that serves, and whoever it has started.
pub(crate) struct Server {
    pub(crate) name: String,
    child: Child,
    said: Arc<Mutex<String>>,
    listener: Option<thread::JoinHandle<()>>,
    /// What it said when it started.
    first: String,
    path: Option<PathBuf>,
}

impl Server {
    pub(crate) fn start(name: &str, mut command: Command) -> io::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let out = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut out = BufReader::new(out);
        let mut first = String::new();
        out.read_line(&mut first)?;
        let said = Arc::new(Mutex::new(String::new()));
        let keep = Arc::clone(&said);
        let listener = thread::spawn(move || listen(out, &keep));
        Ok(Self {
            name: name.to_owned(),
            child,
            said,
            listener: Some(listener),
            first: first.trim_end().to_owned(),
            path: None,
        })
    }

    /// Starts a program of the plan; the places are those of the servers before it.
    pub(crate) fn planned(
        examples: &Path,
        plan: &Plan,
        others: &[(&str, Place)],
    ) -> io::Result<(Self, Place)> {
        let path = std::env::temp_dir().join(format!("windlass-soak-{}", std::process::id()));
        let args: Vec<String> = plan
            .args
            .iter()
            .map(|arg| filled(arg, &path, others))
            .collect();
        let command = limited(&examples.join(plan.program), &args, plan.descriptors);
        let mut server = Self::start(plan.name, command)?;
        if plan.args.iter().any(|arg| arg.contains("PATH")) {
            server.path = Some(path.clone());
            return Ok((server, Place::Path(path)));
        }
        let place = server.first.strip_prefix("listening on ");
        let place = place.and_then(|text| text.parse().ok()).map(Place::Ip);
        let place =
            place.ok_or_else(|| io::Error::other(format!("{} did not start", plan.name)))?;
        Ok((server, place))
    }

    pub(crate) fn companion(
        examples: &Path,
        (name, program, args): (&str, &str, &[&str]),
        others: &[(&str, Place)],
    ) -> io::Result<Self> {
        let args: Vec<_> = args
            .iter()
            .map(|arg| filled(arg, Path::new(""), others))
            .collect();
        Self::start(name, limited(&examples.join(program), &args, None))
    }

    /// Waits for its second line.
    pub(crate) fn words(&self) -> io::Result<String> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let said = self.said.lock().unwrap().clone();
            if let Some((line, _)) = said.split_once('\n') {
                return Ok(line.to_owned());
            }
            thread::sleep(LOOK_EVERY);
        }
        Err(io::Error::other(format!("{} did not start", self.name)))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Bytes that it and those it has started occupy.
    pub(crate) fn resident(&self) -> u64 {
        family(self.id()).into_iter().filter_map(resident).sum()
    }

    /// Descriptors that are open in all of them.
    pub(crate) fn descriptors(&self) -> usize {
        let of = |id: u32| fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count);
        family(self.id()).into_iter().map(of).sum()
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub(crate) fn tell_to_end(&self) {
        let _ = Command::new("kill").arg(self.id().to_string()).status();
    }

    /// How it ended, and what it said at last.
    pub(crate) fn ended(&mut self) -> io::Result<(Option<i32>, String)> {
        let began = Instant::now();
        while self.is_alive() {
            if began.elapsed() > PATIENCE {
                return Err(io::Error::other("it does not end"));
            }
            thread::sleep(LOOK_EVERY);
        }
        let status = self.child.wait()?;
        let _ = self.listener.take().map(thread::JoinHandle::join);
        Ok((status.code(), self.said.lock().unwrap().clone()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // In the good case it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

fn filled(arg: &str, path: &Path, others: &[(&str, Place)]) -> String {
    let Some(name) = arg.strip_prefix("OF ") else {
        return arg.replace("PATH", &path.to_string_lossy());
    };
    let place = others.iter().find(|it| it.0 == name).map(|it| &it.1);
    match place {
        Some(Place::Ip(addr)) => addr.to_string(),
        Some(Place::Path(path)) => format!("unix://{}", path.display()),
        None => String::new(),
    }
}

fn limited(program: &Path, args: &[String], descriptors: Option<u32>) -> Command {
    let Some(limit) = descriptors else {
        let mut command = Command::new(program);
        command.args(args);
        return command;
    };
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")]);
    shell.arg(program).args(args);
    shell
}

/// Reads whatever it says, for a full pipe would stop it, and keeps its last words.
fn listen(mut out: impl Read, keep: &Mutex<String>) {
    let mut piece = [0; 4096];
    while let Ok(n @ 1..) = out.read(&mut piece) {
        let mut said = keep.lock().unwrap();
        said.push_str(&String::from_utf8_lossy(&piece[..n]));
        let mut from = said.len().saturating_sub(LAST_WORDS);
        while !said.is_char_boundary(from) {
            from += 1;
        }
        said.drain(..from);
    }
}

/// A process, and those that it has started.
fn family(id: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
    let mut all = vec![id];
    for child in children.unwrap_or_default().split_whitespace() {
        all.extend(child.parse().map(family).unwrap_or_default());
    }
    all
}

fn resident(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}
