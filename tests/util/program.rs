//! The built examples as programs: started, fed, listened to, and ended in any case.
//!
//! Every wait has an end ([`PATIENCE`]), and a program that is still running when its test
//! is over is killed and reaped.

#![allow(dead_code, reason = "every test file uses its own part of this")]
#![allow(
    unreachable_pub,
    reason = "public towards the test file that includes it"
)]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Much longer than anything here takes, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One example that runs.
pub struct Program {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
    seen: String,
}

/// How one has ended.
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
}

impl Program {
    pub fn start(name: &str, args: &[&str]) -> Self {
        Self::with_input(name, args, Stdio::null())
    }

    pub fn with_input(name: &str, args: &[&str], stdin: impl Into<Stdio>) -> Self {
        let mut command = Command::new(example(name));
        command.args(args).stdin(stdin);
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
    pub fn listening(name: &str, args: &[&str]) -> (Self, SocketAddr) {
        let mut program = Self::start(name, args);
        let line = program.line(|line| line.starts_with("listening on "));
        let (_, address) = line.trim_end().split_once("listening on ").unwrap();
        (program, address.parse().unwrap())
    }

    /// The other end of a standard input that was started as a pipe.
    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    /// The next line of its output that will do.
    #[track_caller]
    pub fn line(&mut self, will_do: impl Fn(&str) -> bool) -> String {
        next(&self.out, &mut self.seen, will_do)
    }

    /// The next line of what it complains about that will do.
    #[track_caller]
    pub fn complaint(&self, will_do: impl Fn(&str) -> bool) -> String {
        next(&self.err, &mut String::new(), will_do)
    }

    pub fn signal(&self, signal: &str) {
        let kill = format!("kill -s {signal} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status();
        assert!(status.unwrap().success());
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

#[track_caller]
fn next(lines: &Receiver<String>, seen: &mut String, will_do: impl Fn(&str) -> bool) -> String {
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                *seen += &line;
                if will_do(&line) {
                    return line;
                }
            }
            Err(why) => panic!("the line did not come ({why}), but {seen:?}"),
        }
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
fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build_if_stale).join(name)
}

fn build_if_stale() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // TARGET/PROFILE/deps/NAME-0123456789abcdef
    let profile = test.parent().and_then(Path::parent).unwrap();
    let examples = profile.join("examples");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = newest(&root.join("src")).max(newest(&root.join("examples")));
    let names = fs::read_dir(root.join("examples")).unwrap();
    let mut names = names.map(|entry| entry.unwrap().path().file_stem().unwrap().to_owned());
    if !names.all(|name| modified(&examples.join(name)) > Some(source)) {
        let name = profile.file_name().unwrap().to_str().unwrap();
        let profile_flag = if name == "debug" { "dev" } else { name };
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--examples", "--profile", profile_flag])
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

fn modified(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|it| it.modified()).ok()
}

fn newest(directory: &Path) -> SystemTime {
    let entries = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let times = entries.map(|path| {
        if path.is_dir() {
            newest(&path)
        } else {
            modified(&path).unwrap()
        }
    });
    times.max().unwrap_or(UNIX_EPOCH)
}
