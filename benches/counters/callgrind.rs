//! Instructions per request, and where they are spent.

use std::collections::HashMap;
use std::io;
use std::process::Command;

use super::child::{Counts, twice};
use super::load::Workload;
use super::servers::Server;

/// What a run leaves: instructions, as valgrind counts those of user space.
#[derive(Default)]
pub(crate) struct Profile {
    pub(crate) total: f64,
    pub(crate) functions: HashMap<String, Function>,
    /// By file and line, whatever they were inlined into.
    pub(crate) lines: HashMap<String, f64>,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Function {
    /// In its own code, with what was inlined into it.
    pub(crate) own: f64,
    /// With all that it calls.
    pub(crate) inclusive: f64,
    pub(crate) calls: f64,
}

impl Profile {
    /// Per request.
    pub(crate) fn count(server: Server, workload: Workload, counts: Counts) -> io::Result<Self> {
        let tool = |report: &std::path::Path| {
            let mut file = std::ffi::OsString::from("--callgrind-out-file=");
            file.push(report);
            let mut valgrind = Command::new("valgrind");
            valgrind
                .args(["--quiet", "--tool=callgrind"])
                .args(["--compress-strings=no", "--compress-pos=no"])
                .arg(file);
            valgrind
        };
        let reports = twice(tool, server, workload, counts)?;
        let (few, many) = (Self::parse(&reports.few), Self::parse(&reports.many));
        if many.total <= few.total {
            return Err(io::Error::other(
                "valgrind: more requests, not more instructions",
            ));
        }
        Ok(many.less(&few, reports.requests as f64))
    }

    pub(crate) fn calls(&self, function: &str) -> f64 {
        self.functions.get(function).map_or(0.0, |of| of.calls)
    }

    fn less(mut self, few: &Self, requests: f64) -> Self {
        self.total = (self.total - few.total) / requests;
        for (name, many) in &mut self.functions {
            let few = few.functions.get(name).copied().unwrap_or_default();
            many.own = (many.own - few.own) / requests;
            many.inclusive = (many.inclusive - few.inclusive) / requests;
            many.calls = (many.calls - few.calls) / requests;
        }
        for (line, many) in &mut self.lines {
            *many = (*many - few.lines.get(line).copied().unwrap_or(0.0)) / requests;
        }
        self
    }

    /// The format is told in valgrind's manual, "Callgrind Format Specification".
    fn parse(report: &str) -> Self {
        let mut profile = Self::default();
        let (mut file, mut function, mut callee) = ("", "", "");
        // Whether the next line is what a call has cost.
        let mut called = false;
        for line in report.lines() {
            if let Some((key, value)) = line.split_once('=') {
                match key {
                    "fl" | "fi" | "fe" => file = value,
                    "fn" => function = value,
                    "cfn" => callee = value,
                    "calls" => {
                        called = true;
                        profile.function(callee).calls += number(value, 0);
                    }
                    _ => {}
                }
            } else if let Some(total) = line.strip_prefix("totals: ") {
                profile.total = number(total, 0);
            } else if line.starts_with(|c: char| c.is_ascii_digit()) {
                let cost = number(line, 1);
                profile.function(function).inclusive += cost;
                if !std::mem::take(&mut called) {
                    profile.function(function).own += cost;
                    profile.line(file, number(line, 0), cost);
                }
            }
        }
        profile
    }

    fn line(&mut self, file: &str, line: f64, cost: f64) {
        let place = format!("{}:{line}", short(file));
        *self.lines.entry(place).or_default() += cost;
    }

    fn function(&mut self, name: &str) -> &mut Function {
        self.functions.entry(name.to_owned()).or_default()
    }
}

fn number(words: &str, at: usize) -> f64 {
    let word = words.split_whitespace().nth(at);
    word.and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

/// The last folders of a path.
fn short(path: &str) -> &str {
    let mut slashes = path.rmatch_indices('/');
    slashes.nth(2).map_or(path, |(at, _)| &path[at + 1..])
}
