//! Built examples as a user meets them: started as programs, stopped by signals, and killed
//! if they are still there when their test is over.

#![allow(dead_code, reason = "every test file uses its own part of this")]
#![allow(
    unreachable_pub,
    reason = "public towards the test file that includes it"
)]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use socket2::{Domain, Socket, Type};

use super::util::eventually;

/// Much longer than anything here takes, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Program {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
    seen: String,
}

#[derive(Debug)]
pub struct End {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl End {
    /// Exit status and what was said about it; whoever fails prints nothing else.
    #[track_caller]
    pub fn failure(&self) -> (Option<i32>, &str) {
        assert_eq!(self.out, "");
        (self.code, &self.err)
    }

    #[track_caller]
    pub fn expect_success(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self:?}");
        self.out
    }
}

impl Program {
    pub fn start(name: &str, args: &[&str]) -> Self {
        Self::with_input(name, args, Stdio::null())
    }

    pub fn with_input(name: &str, args: &[&str], stdin: impl Into<Stdio>) -> Self {
        Self::spawn(Command::new(example(name)).args(args).stdin(stdin))
    }

    /// For a program that is to run as another user, or with other descriptors.
    pub fn spawn(command: &mut Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = lines(child.stdout.take().unwrap());
        let err = lines(child.stderr.take().unwrap());
        let seen = String::new();
        Self {
            child,
            out,
            err,
            seen,
        }
    }

    /// Starts it, and reads from its output where it listens.
    #[track_caller]
    pub fn listening(name: &str, args: &[&str]) -> (Self, String) {
        let mut program = Self::start(name, args);
        let line = program.line("listening on ");
        let (_, address) = line.split_once("listening on ").unwrap();
        let address = address.trim_end().to_owned();
        (program, address)
    }

    /// The other end of a standard input that was started as a pipe.
    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    /// Waits for a line that contains that.
    #[track_caller]
    pub fn line(&mut self, part: &str) -> String {
        loop {
            let line = self.next_line();
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Waits for exactly that line.
    #[track_caller]
    pub fn whole_line(&mut self, line: &str) {
        while self.next_line() != line {}
    }

    #[track_caller]
    pub fn next_line(&mut self) -> String {
        match self.out.recv_timeout(PATIENCE) {
            Ok(line) => {
                self.seen += &line;
                line
            }
            Err(why) => panic!("no such line ({why}), but {:?}", self.seen),
        }
    }

    /// Waits for a line of its complaints.
    #[track_caller]
    pub fn complaint(&self) -> String {
        self.err.recv_timeout(PATIENCE).unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for it to close its output and to exit.
    #[track_caller]
    pub fn end(mut self) -> End {
        let out = std::mem::take(&mut self.seen) + &rest(&self.out);
        let err = rest(&self.err);
        let code = self.child.wait().unwrap().code();
        End { code, out, err }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended already in the good case, and then there is nobody to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn signal(pid: u32, name: &str) {
    let kill = format!("kill -s {name} {pid}");
    let status = Command::new("sh").args(["-c", &kill]).status();
    assert!(status.unwrap().success(), "{kill}");
}

/// Whether that process has ended. One that nobody has waited for has ended, too.
pub fn has_ended(pid: u32) -> bool {
    let state = Command::new("ps")
        .args(["-o", "stat=", "-p", &pid.to_string()])
        .output();
    let state = String::from_utf8(state.unwrap().stdout).unwrap();
    state.trim().is_empty() || state.starts_with('Z')
}

/// Bytes of memory that a process occupies; `None` where the system does not tell.
pub fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

// Who is on the other side.

/// A server, and where it listens.
#[track_caller]
pub fn listening(name: &str, args: &[&str]) -> (Program, SocketAddr) {
    let (program, address) = Program::listening(name, args);
    // The demonstration says more on that line.
    let address = address.split_whitespace().next().unwrap();
    (program, address.parse().unwrap())
}

/// The next client, and not for ever.
#[track_caller]
pub fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let mut client = None;
    eventually(PATIENCE, || {
        client = listener.accept().ok();
        client.is_some()
    });
    let (client, _) = client.expect("a client");
    client.set_nonblocking(false).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    client
}

/// A listener whose queue is full: whoever dials it is not answered.
pub fn full_listener() -> (Vec<Socket>, SocketAddr) {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&any.into()).unwrap();
    listener.listen(1).unwrap();
    let full = listener.local_addr().unwrap();
    let mut held = vec![listener];
    loop {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        if client
            .connect_timeout(&full, Duration::from_millis(300))
            .is_err()
        {
            return (held, full.as_socket().unwrap());
        }
        held.push(client);
    }
}

fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = channel();
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = String::new();
        while pipe.read_line(&mut line).is_ok_and(|n| n > 0) {
            if send.send(std::mem::take(&mut line)).is_err() {
                return;
            }
        }
    });
    receive
}

#[track_caller]
fn rest(lines: &Receiver<String>) -> String {
    let end = Instant::now() + PATIENCE;
    let mut all = String::new();
    loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => all += &line,
            Err(RecvTimeoutError::Disconnected) => return all,
            Err(RecvTimeoutError::Timeout) => panic!("still running after {PATIENCE:?}: {all}"),
        }
    }
}

/// The built example. `cargo test` builds all of them; `cargo test --test NAME` does not,
/// and then it is done here.
pub fn example(name: &str) -> PathBuf {
    static EXAMPLES: OnceLock<PathBuf> = OnceLock::new();
    let examples = EXAMPLES.get_or_init(build_if_stale);
    examples.join(name)
}

fn build_if_stale() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // TARGET/PROFILE/deps/NAME-0123456789abcdef
    let profile = test.parent().and_then(Path::parent).unwrap();
    let examples = profile.join("examples");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = newest(&root.join("src")).max(newest(&root.join("examples")));
    let fresh = |name: &String| modified(&examples.join(name)) > Some(source);
    if !names().iter().all(fresh) {
        let name = profile.file_name().unwrap().to_str().unwrap();
        let profile_flag = if name == "debug" { "dev" } else { name };
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--examples", "--profile", profile_flag])
            .args(cfg!(feature = "tls").then_some("--all-features"))
            .arg("--target-dir")
            .arg(profile.parent().unwrap())
            .current_dir(root)
            .status();
        assert!(
            built.unwrap().success(),
            "run `cargo build --examples` first"
        );
    }
    examples
}

/// Those that are built with the feature `tls` alone.
const WITH_TLS: [&str; 3] = ["https", "tls_client", "tls_echo"];

/// All examples that are built: a file, or a directory with a `main.rs`; what they share is not
/// a program.
pub fn names() -> Vec<String> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let program = |path: &PathBuf| path.is_file() || path.join("main.rs").is_file();
    let built = |name: &String| cfg!(feature = "tls") || !WITH_TLS.contains(&&**name);
    paths(&examples)
        .filter(program)
        .map(stem)
        .filter(built)
        .collect()
}

fn newest(directory: &Path) -> SystemTime {
    let times = paths(directory).map(|path| {
        if path.is_dir() {
            newest(&path)
        } else {
            modified(&path).unwrap()
        }
    });
    times.max().unwrap_or(UNIX_EPOCH)
}

fn paths(directory: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
}

fn modified(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|it| it.modified()).ok()
}
