//! Tests that need a process of their own: because a limit holds for a whole process, or
//! because descriptors or processor time are counted.
//!
//! Such a test starts its own test binary again; the shell lowers the limits.

#![allow(dead_code, reason = "every test file uses its own part of this")]
#![allow(
    unreachable_pub,
    reason = "public towards the test file that includes it"
)]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than any of these processes lives on a loaded machine.
const LIFE: Duration = Duration::from_secs(40);

/// Longer than any answer takes.
const ANSWER: Duration = Duration::from_secs(10);

/// What a started process is to be; absent in the process that the user started.
const ROLE: &str = "WINDLASS_TEST_ROLE";

/// Stands before each line that is meant for the starter: test harnesses print, too.
const MARK: &str = "@@ ";

/// Runs `body` in a process where this test is the only one. `name` is the test's own.
pub fn alone(name: &str, body: impl FnOnce()) {
    if role().is_some() {
        return body();
    }
    let mut child = command(name, "alone", None)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > LIFE {
            let _ = child.kill();
        }
        thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{name} in a process of its own: {}\n{said}\n{complained}",
        output.status
    );
}

/// What this process was started to be.
pub fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Another process of this test binary, led by lines: one command, one answer.
pub struct Puppet {
    child: Child,
    commands: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Puppet {
    /// Starts the test `name` with a role, under a limit of descriptors.
    pub fn start(name: &str, role: &str, descriptors: u32) -> Self {
        let mut child = command(name, role, Some(descriptors))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (say, answers) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some((_, answer)) = line.split_once(MARK) {
                    let _ = say.send(answer.to_owned());
                }
            }
        });
        Self {
            child,
            commands,
            answers,
        }
    }

    #[track_caller]
    pub fn answer(&self) -> String {
        self.answers.recv_timeout(ANSWER).expect("an answer")
    }

    #[track_caller]
    pub fn ask(&mut self, command: &str) -> String {
        writeln!(self.commands.as_mut().unwrap(), "{command}").expect("it lives");
        self.answer()
    }

    #[track_caller]
    pub fn ask_number(&mut self, command: &str) -> u64 {
        self.ask(command).parse().expect("a number")
    }

    /// Asks until the answer will do.
    #[track_caller]
    pub fn until(&mut self, command: &str, mut holds: impl FnMut(u64) -> bool) -> u64 {
        let deadline = Instant::now() + ANSWER;
        loop {
            let answer = self.ask_number(command);
            if holds(answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{command} stays {answer}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends it, and fails if it failed.
    #[track_caller]
    pub fn finish(mut self) {
        drop(self.commands.take());
        let deadline = Instant::now() + ANSWER;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "the server process: {status}");
                return;
            }
            assert!(Instant::now() < deadline, "the server process does not end");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The puppet's side: one line to its leader.
pub fn say(line: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    // The harness may have left a line unfinished; the mark is found anywhere.
    let _ = writeln!(out, "{MARK}{line}");
    let _ = out.flush();
}

fn command(name: &str, role: &str, descriptors: Option<u32>) -> Command {
    let limit = descriptors.map_or_else(String::new, |most| format!("ulimit -n {most} && "));
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("{limit}exec \"$@\""))
        .arg("sh")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ROLE, role);
    command
}
