//! System calls per request.

use std::collections::BTreeMap;
use std::io;
use std::process::Command;

use super::child::{Counts, twice};
use super::load::Workload;
use super::servers::Server;

const COUNTS: Counts = Counts {
    few: 1_000,
    many: 6_000,
};

/// Calls per request, by name.
pub(crate) struct Calls(BTreeMap<String, f64>);

impl Calls {
    pub(crate) fn count(server: Server, workload: Workload) -> io::Result<Self> {
        let tool = |report: &std::path::Path| {
            let mut strace = Command::new("strace");
            strace.args(["-f", "-c", "-o"]).arg(report);
            strace
        };
        let reports = twice(tool, server, workload, COUNTS)?;
        let (few, many) = (parse(&reports.few), parse(&reports.many));
        let per_request = many.into_iter().map(|(name, calls)| {
            let more = calls - few.get(&name).copied().unwrap_or(0.0);
            (name, more / reports.requests as f64)
        });
        Ok(Self(per_request.collect()))
    }

    pub(crate) fn total(&self) -> f64 {
        self.0.values().sum()
    }

    pub(crate) fn of(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(0.0)
    }

    /// Those that matter, most frequent first.
    pub(crate) fn list(&self) -> String {
        let mut calls: Vec<_> = self.0.iter().filter(|(_, n)| n.abs() >= 0.001).collect();
        calls.sort_by(|a, b| f64::total_cmp(b.1, a.1));
        let calls = calls.iter().map(|(name, n)| format!("{name} {n:.3}"));
        calls.collect::<Vec<_>>().join(", ")
    }
}

/// Of a line of the table: share, seconds, microseconds, calls, errors if any, name.
fn parse(report: &str) -> BTreeMap<String, f64> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let calls = words.get(3)?.parse().ok()?;
        let name = *words.last()?;
        (name != "total").then(|| (name.to_owned(), calls))
    };
    report.lines().filter_map(line).collect()
}
