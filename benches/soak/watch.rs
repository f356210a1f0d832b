//! What is known of each server beside what its clients heard: memory, descriptors, its own
//! counts, its end; the table, and what there is to complain of.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::load::Target;
use super::protocol::Protocol;
use super::servers::{Place, Server};

/// Memory may be that much more at the end than when a server had warmed up: a tenth, and what
/// an allocator keeps for a crowd that it had not seen until then.
const GROWTH: u64 = 4 << 20;
const GROWTH_SHARE: u64 = 10;
/// When all clients have gone, connections linger for ten seconds at most, and silent ones
/// inside for thirty.
const QUIET: Duration = Duration::from_secs(35);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Looks at the memory that are taken together.
const WINDOW: usize = 10;

pub(crate) struct Watched {
    pub(crate) server: Server,
    peak: u64,
    /// Since it has warmed up.
    resident: Vec<u64>,
    opened: usize,
    left: usize,
    counts: BTreeMap<String, i64>,
    end: Result<i32, String>,
}

impl Watched {
    pub(crate) fn new(server: Server) -> Self {
        Self {
            server,
            peak: 0,
            resident: Vec::new(),
            opened: 0,
            left: 0,
            counts: BTreeMap::new(),
            end: Err("it was not ended".to_owned()),
        }
    }

    pub(crate) fn note_descriptors(&mut self) {
        self.opened = self.server.descriptors();
    }

    pub(crate) fn look(&mut self, is_warm: bool) {
        let resident = self.server.resident();
        self.peak = self.peak.max(resident);
        if is_warm {
            self.resident.push(resident);
        }
    }

    /// Waits until as many descriptors are open as before the first client.
    pub(crate) fn wait_for_quiet(&mut self) {
        let began = Instant::now();
        loop {
            self.left = self.server.descriptors();
            if self.left == self.opened || began.elapsed() > QUIET {
                return;
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Who has a page with counts is asked for it.
    pub(crate) fn ask_counts(&mut self, targets: &[Target]) {
        let mine = targets.iter().find(|it| it.name == self.server.name);
        if let Some(target) = mine
            && let (Protocol::Http, Place::Ip(addr)) = (target.protocol, &target.place)
            && let Ok(mut stream) = TcpStream::connect(addr)
        {
            let mut page = String::new();
            let ask = b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(ask);
            let _ = stream.read_to_string(&mut page);
            for name in ["turns", "callbacks", "panics"] {
                let row = format!("windlass_{name}_total ");
                let value = page.lines().find_map(|line| line.strip_prefix(&row));
                let value = value.and_then(|value| value.parse().ok());
                value.map(|value| self.counts.insert(name.to_owned(), value));
            }
        }
    }

    /// Waits for its end, and reads its last words.
    pub(crate) fn end(&mut self) {
        match self.server.ended() {
            Ok((code, said)) => {
                self.end = code.ok_or_else(|| "a signal ended it".to_owned());
                let counts = said.split_whitespace().filter_map(|word| {
                    let (name, count) = word.split_once('=')?;
                    Some((name.to_owned(), count.parse().ok()?))
                });
                self.counts.extend(counts);
                // The example `echo` says `turned N times`.
                let turned = said.split_once("turned").map(|(_, rest)| rest);
                let turned = turned.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
                turned.map(|turned| self.counts.insert("turns".to_owned(), turned));
            }
            Err(error) => self.end = Err(error.to_string()),
        }
    }

    /// Memory when it had warmed up, and at the end: each the least of some looks, for a crowd
    /// may just have come.
    fn memory(&self) -> (u64, u64) {
        let window = WINDOW.min(self.resident.len() / 2).max(1);
        let least = |looks: &[u64]| looks.iter().copied().min().unwrap_or(0);
        let first = &self.resident[..window.min(self.resident.len())];
        let last = &self.resident[self.resident.len().saturating_sub(window)..];
        (least(first), least(last))
    }

    pub(crate) fn complaints(&self) -> Vec<String> {
        let mut all = Vec::new();
        let (warm, end) = self.memory();
        if end > warm + warm / GROWTH_SHARE + GROWTH {
            all.push(format!(
                "memory grew from {} to {} KiB",
                warm / 1024,
                end / 1024
            ));
        }
        if self.left != self.opened {
            all.push(format!("{} descriptors, not {}", self.left, self.opened));
        }
        for what in ["panics", "left", "left_bytes"] {
            let count = self.counts.get(what).copied().unwrap_or(0);
            if count != 0 {
                all.push(format!("{what}: {count}"));
            }
        }
        if self.server.name == "inside" && !self.counts.contains_key("left") {
            all.push("it did not say what was left".to_owned());
        }
        match &self.end {
            Ok(0) => {}
            Ok(code) => all.push(format!("exit status {code}")),
            Err(why) => all.push(why.clone()),
        }
        let name = &self.server.name;
        all.iter().map(|what| format!("{name}: {what}")).collect()
    }
}

/// A row for each server, and one for each handler inside.
pub(crate) fn print(watched: &[Watched], targets: &[Target]) {
    println!(
        "{:<18}{:>12}{:>16}{:>9}{:>8}{:>12}{:>12}{:>10}{:>10}{:>10}{:>8}",
        "server",
        "connections",
        "bytes",
        "faults",
        "failed",
        "turns",
        "callbacks",
        "peak KiB",
        "warm KiB",
        "end KiB",
        "leaked"
    );
    for it in watched {
        let mine = targets.iter().find(|target| target.name == it.server.name);
        print!(
            "{:<18}{}",
            it.server.name,
            mine.map_or_else(|| " ".repeat(45), told)
        );
        let count = |name: &str| {
            it.counts
                .get(name)
                .map_or_else(|| "-".to_owned(), i64::to_string)
        };
        let (warm, end) = it.memory();
        println!(
            "{:>12}{:>12}{:>10}{:>10}{:>10}{:>8}",
            count("turns"),
            count("callbacks"),
            it.peak / 1024,
            warm / 1024,
            end / 1024,
            it.left as i64 - it.opened as i64
        );
    }
    for target in targets.iter().filter(|it| it.name.starts_with("inside: ")) {
        println!("{:<18}{}", target.name, told(target));
    }
    let sum = |of: fn(&Target) -> u64| targets.iter().map(of).sum::<u64>();
    let connections = sum(|it| it.connections.load(Ordering::Relaxed));
    let bytes = sum(|it| it.bytes.load(Ordering::Relaxed));
    let faults = sum(|it| it.faults.load(Ordering::Relaxed));
    println!("{:<18}{connections:>12}{bytes:>16}{faults:>9}", "together");
    if let Some(inside) = watched.iter().find(|it| it.server.name == "inside") {
        let count = |name: &str| inside.counts.get(name).copied().unwrap_or(-1);
        let (left, most) = (count("left"), count("most_bytes"));
        println!("inside: {left} allocations are left, {most} bytes were held at most");
    }
}

fn told(target: &Target) -> String {
    let number = |of: &std::sync::atomic::AtomicU64| of.load(Ordering::Relaxed);
    format!(
        "{:>12}{:>16}{:>9}{:>8}",
        number(&target.connections),
        number(&target.bytes),
        number(&target.faults),
        number(&target.failures)
    )
}
