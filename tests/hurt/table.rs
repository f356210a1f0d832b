//! The command line, and the table.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use super::clients::Service;
use super::matrix::{self, Outcome};
use super::rows::{self, Row, When};
use super::victim::{Strace, Victim};
use super::{scenes, server};

/// Rows that are played at the same time: most of their time they wait.
const AT_ONCE: usize = 4;
/// Without an argument, one row of so many is played.
const FEW: usize = 40;

pub(crate) fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["serve", ..] => server::serve(&args[1..]).map(|()| 0),
        ["--all"] => matrix(&rows::all()).and_then(|failed| Ok(failed + scenes::all()?)),
        ["--only", text] => only(text),
        ["--every", n] => {
            let every = n.parse().unwrap_or(FEW);
            matrix(&sample(every)).and_then(|failed| Ok(failed + scenes::all()?))
        }
        // `cargo test` passes on what is meant for other harnesses.
        _ => matrix(&sample(FEW)).and_then(|failed| Ok(failed + scenes::judges()?)),
    };
    match done {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            println!("{failed} FAILED");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn sample(every: usize) -> Vec<Row> {
    rows::all().into_iter().step_by(every.max(1)).collect()
}

fn only(text: &str) -> io::Result<usize> {
    let mut rows = rows::all();
    rows.retain(|row| name(row).contains(text));
    Ok(matrix(&rows)? + scenes::only(text)?)
}

/// Such as `echo accept4 EMFILE 3+3`.
fn name(row: &Row) -> String {
    let (service, when) = (row.service.name(), row.when.text());
    format!("{service} {} {} {when}", row.call, row.errno)
}

/// Whether strace is here and may attach to a server; says so if not.
pub(crate) fn can_hurt(somebody: &Victim, what: &str) -> bool {
    let tried = Strace::attach(somebody.id(), "trace=none").and_then(Strace::detach);
    if let Err(why) = &tried {
        println!("SKIPPED: {what}, because strace cannot be used: {why}");
    }
    tried.is_ok()
}

/// Plays rows, prints them in order, and answers how many have failed.
fn matrix(rows: &[Row]) -> io::Result<usize> {
    if rows.is_empty() {
        return Ok(0);
    }
    let began = Instant::now();
    let upstream = matrix::upstream()?;
    if !can_hurt(&upstream, &format!("{} rows", rows.len())) {
        return Ok(0);
    }
    println!(
        "{:<8}{:<12}{:<16}{:<8}{:>6}{:>7}{:>9}{:>9}  {:<34} verdict",
        "service", "call", "errno", "when", "failed", "of", "clients", "bytes", "ends"
    );
    let failed = played(rows, &upstream)?;
    let seconds = began.elapsed().as_secs();
    println!("{} rows, {failed} failed, {seconds} s\n", rows.len());
    Ok(failed)
}

fn played(rows: &[Row], upstream: &Victim) -> io::Result<usize> {
    let next = AtomicUsize::new(0);
    let (say, done) = mpsc::channel();
    let mut failed = 0;
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            let (say, next) = (say.clone(), &next);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(row) = rows.get(number) else { break };
                    let outcome = matrix::play(row, &upstream.place, "");
                    let _ = say.send((number, outcome));
                }
            });
        }
        drop(say);
        let (mut early, mut due) = (BTreeMap::new(), 0);
        for (number, outcome) in done {
            early.insert(number, outcome);
            while let Some(outcome) = early.remove(&due) {
                failed += usize::from(!print(&rows[due], outcome)?);
                due += 1;
            }
        }
        Ok(failed)
    })
}

/// Whether it is well.
fn print(row: &Row, outcome: io::Result<Outcome>) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    let outcome = outcome.unwrap_or_else(Outcome::failed);
    let clients = format!("{}/{}", outcome.intact, outcome.clients);
    let verdict = match outcome.complaints.is_empty() {
        true => format!("ok, {}", row.then.text()),
        false => verdict(&outcome),
    };
    writeln!(
        out,
        "{:<8}{:<12}{:<16}{:<8}{:>6}{:>7}{clients:>9}{:>9}  {:<34} {verdict}",
        row.service.name(),
        row.call,
        row.errno,
        row.when.text(),
        outcome.seen.injected,
        outcome.seen.calls,
        outcome.bytes,
        ends(&outcome)
    )?;
    Ok(outcome.complaints.is_empty())
}

pub(crate) fn print_scene(name: &str, outcome: &Outcome) {
    let clients = format!("{}/{}", outcome.intact, outcome.clients);
    let (bytes, ends, verdict) = (outcome.bytes, ends(outcome), verdict(outcome));
    println!("{name:<42}{clients:>12}{bytes:>12}  {ends:<34} {verdict}");
}

fn ends(outcome: &Outcome) -> String {
    let ends = outcome.ends().map(|(name, count)| {
        let name = name.strip_prefix("end.").unwrap_or(name);
        format!("{name} {count}")
    });
    ends.collect::<Vec<_>>().join(", ")
}

fn verdict(outcome: &Outcome) -> String {
    match outcome.complaints.is_empty() {
        true => "ok".to_owned(),
        false => format!("FAILED: {}", outcome.complaints.join("; ")),
    }
}

/// A row that nothing should come of, for a server that does wrong.
pub(crate) fn harmless() -> Row {
    Row {
        service: Service::Echo,
        call: "epoll_wait",
        errno: "EINTR",
        when: When::EveryThird,
        then: rows::Then::Again,
    }
}
