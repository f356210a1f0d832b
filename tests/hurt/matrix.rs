//! One row of the matrix: a server, clients, strace between them and the kernel, and what
//! became of it.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::clients::{self, How, Place, Service, Told, seeds};
use super::rows::{Row, Then};
use super::victim::{PATIENCE, Seen, Start, Strace, Victim};

const LOOK_EVERY: Duration = Duration::from_millis(5);
const CLIENTS: usize = 8;
const FRESH: usize = 3;
/// How long a server is hurt, if its clients do not finish earlier.
const HURT_FOR: Duration = Duration::from_millis(500);
/// A quiet loop that turns more often than that in so long is not quiet.
const QUIET: Duration = Duration::from_millis(100);
const QUIET_TURNS: u64 = 10;
/// System calls of one client, everything that it makes the server do included.
const CALLS_OF_A_CLIENT: usize = 600;

/// What became of a row, for the table.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) seen: Seen,
    pub(crate) intact: usize,
    pub(crate) clients: usize,
    pub(crate) bytes: u64,
    pub(crate) counts: BTreeMap<String, u64>,
    /// Empty if all is well.
    pub(crate) complaints: Vec<String>,
}

impl Outcome {
    /// Of what could not even be judged.
    pub(crate) fn failed(error: io::Error) -> Self {
        Self {
            complaints: vec![error.to_string()],
            ..Self::default()
        }
    }

    pub(crate) fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.complaints.push(otherwise());
        }
    }

    pub(crate) fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// Ends of connections, and dials that failed, by name.
    pub(crate) fn ends(&self) -> impl Iterator<Item = (&str, u64)> {
        let ends = self.counts.iter().filter(|(name, count)| {
            let told = ["end.", "lost", "backoffs"]
                .iter()
                .any(|it| name.starts_with(it));
            **count > 0 && (told || name.ends_with("_error"))
        });
        ends.map(|(name, count)| (name.as_str(), *count))
    }

    /// How often something else than the peer's orderly end ended a connection or a dial.
    pub(crate) fn breaks(&self) -> u64 {
        let breaks = self.ends().filter(|(name, _)| *name != "end.eof");
        breaks.map(|(_, count)| count).sum()
    }

    pub(crate) fn tell(&mut self, told: &[Told]) {
        self.clients += told.len();
        self.intact += told.iter().filter(|it| it.how == How::Intact).count();
        self.bytes += told.iter().map(|it| it.bytes).sum::<u64>();
        for it in told {
            let corrupt = matches!(it.how, How::Corrupt(_));
            self.expect(!corrupt, || {
                format!("{:?} after {} bytes", it.how, it.bytes)
            });
        }
    }
}

/// Plays a row. An error is a failure of the harness, or of a server that does not answer.
pub(crate) fn play(row: &Row, upstream: &Place, sabotage: &str) -> io::Result<Outcome> {
    let start = Start {
        upstream: Some(upstream),
        sabotage,
        ..Start::default()
    };
    let mut victim = Victim::start(row.service, &start)?;
    // What is done once is done: the options of accepted sockets are looked at, buffers made.
    let first = clients::talk(row.service, &victim.place, 0, PATIENCE);
    let before = quiet(&mut victim, None)?;
    let inject = format!(
        "inject={}:error={}:when={}",
        row.call,
        row.errno,
        row.when.text()
    );
    let mut outcome = Outcome::default();
    let strace = Strace::attach(victim.id(), &inject)?;
    let hurt = Crowd::start(row, &victim.place, CLIENTS);
    let early = hurt.wait(HURT_FOR);
    if early.len() == CLIENTS && row.then != Then::RunFails {
        settled(&mut victim)?;
    }
    // strace that lets go in the middle of an injected call leaves a call that does not exist.
    if row.then != Then::RunFails && !victim.asleep()? {
        outcome.expect(false, || "spins: it never sleeps".into());
        return Ok(outcome);
    }
    outcome.seen = strace.detach()?;
    let fresh = Crowd::start(row, &victim.place, FRESH).join();
    let told = [early, hurt.join()].concat();
    outcome.tell(&told);
    outcome.expect(first.how == How::Intact, || format!("unhurt: {first:?}"));
    if row.then == Then::RunFails {
        let status = victim.ended()?.code();
        outcome.expect(status == Some(1), || format!("exit status {status:?}"));
        return Ok(outcome);
    }
    judge_rest(row, &mut victim, before, &mut outcome)?;
    judge_clients(row, &told, &fresh, &mut outcome);
    judge_counts(row, &mut outcome);
    let status = victim.stop()?.code();
    outcome.expect(status == Some(0), || format!("exit status {status:?}"));
    Ok(outcome)
}

/// Clients that talk at the same time.
struct Crowd {
    told: mpsc::Receiver<Told>,
    missing: std::cell::Cell<usize>,
}

impl Crowd {
    fn start(row: &Row, place: &Place, clients: usize) -> Self {
        let (say, told) = mpsc::channel();
        let patience = patience(row);
        for seed in seeds(clients as u64).take(clients) {
            let (service, place, say) = (row.service, place.clone(), say.clone());
            thread::spawn(move || {
                let _ = say.send(clients::talk(service, &place, seed, patience));
            });
        }
        let missing = clients.into();
        Self { told, missing }
    }

    /// Those who finish in time.
    fn wait(&self, time: Duration) -> Vec<Told> {
        let until = Instant::now() + time;
        let mut all = Vec::new();
        while self.missing.get() > 0 {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(told) = self.told.recv_timeout(left) else {
                break;
            };
            self.missing.set(self.missing.get() - 1);
            all.push(told);
        }
        all
    }

    /// All the others.
    fn join(&self) -> Vec<Told> {
        self.wait(2 * PATIENCE)
    }
}

/// Where no end may come, nobody waits long for it.
fn patience(row: &Row) -> Duration {
    match row.then {
        Then::NotClosed | Then::Gone(_) => Duration::from_secs(2),
        _ => PATIENCE / 2,
    }
}

/// Waits until nobody is connected and as many descriptors are open as expected; answers how
/// many there are in the end.
pub(crate) fn quiet(victim: &mut Victim, expected: Option<usize>) -> io::Result<usize> {
    let began = Instant::now();
    loop {
        let open = victim.look()?.get("open").copied();
        let descriptors = victim.descriptors()?;
        let as_expected = expected.is_none_or(|it| it == descriptors);
        if (open == Some(0) && as_expected) || began.elapsed() > PATIENCE / 4 {
            return Ok(descriptors);
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Waits a while until nobody is connected.
fn settled(victim: &mut Victim) -> io::Result<()> {
    let began = Instant::now();
    while victim.look()?.get("open") != Some(&0) && began.elapsed() < HURT_FOR {
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Nothing is left of anybody: no connection, no descriptor, no work.
fn judge_rest(
    row: &Row,
    victim: &mut Victim,
    before: usize,
    outcome: &mut Outcome,
) -> io::Result<()> {
    let left = match row.then {
        Then::NotClosed => before + outcome.seen.injected,
        Then::Gone(_) => before - 1,
        _ => before,
    };
    let now = quiet(victim, Some(left))?;
    outcome.expect(now == left, || format!("{now} descriptors, not {left}"));
    let counts = victim.look()?;
    let turns = |counts: &BTreeMap<String, u64>| counts.get("turns").copied().unwrap_or(0);
    thread::sleep(QUIET);
    outcome.counts = victim.look()?;
    let turned = turns(&outcome.counts) - turns(&counts);
    outcome.expect(turned <= QUIET_TURNS, || format!("spins: {turned} turns"));
    let open = outcome.count("open");
    outcome.expect(open == 0, || format!("{open} connections are left"));
    Ok(())
}

/// Whether each client has got what it should have, during and afterwards.
fn judge_clients(row: &Row, told: &[Told], fresh: &[Told], outcome: &mut Outcome) {
    let may_end = matches!(row.then, Then::Ends(_) | Then::Stalls | Then::Gone(_));
    let may_wait = row.then == Then::NotClosed;
    let well = |it: &&Told| match &it.how {
        How::Intact => true,
        How::Unfinished => may_wait,
        How::Cut(_) => may_end,
        How::Refused => matches!(row.then, Then::Gone(_)),
        How::Corrupt(_) => false,
    };
    let ill: Vec<_> = told.iter().filter(|it| !well(it)).collect();
    outcome.expect(ill.is_empty(), || format!("clients: {ill:?}"));
    outcome.expect(told.len() == CLIENTS, || "a client hangs".into());
    let served = match row.then {
        Then::Gone(_) => fresh
            .iter()
            .all(|it| matches!(it.how, How::Refused | How::Cut(_))),
        _ => fresh.iter().all(|it| it.how == How::Intact),
    };
    outcome.expect(served && fresh.len() == FRESH, || {
        format!("afterwards: {fresh:?}")
    });
    let cut = told
        .iter()
        .filter(|it| matches!(it.how, How::Cut(_)))
        .count() as u64;
    let told_of = outcome.breaks();
    if !matches!(row.then, Then::Gone(_)) {
        outcome.expect(cut <= told_of, || {
            format!("{cut} clients were cut off, and {told_of} ends were told")
        });
    }
}

/// Whether the handler was told what it should have been, and nothing else.
fn judge_counts(row: &Row, outcome: &mut Outcome) {
    let Seen { calls, injected } = outcome.seen;
    outcome.expect(injected > 0, || "the call was never made".into());
    let most = (CLIENTS + 1) * CALLS_OF_A_CLIENT;
    let again = row.then == Then::Again;
    outcome.expect(again || calls <= most, || format!("spins: {calls} calls"));
    let allowed: &[&str] = match row.then {
        Then::Ends(ends) => ends,
        Then::Stalls => &["end.timeout", "end.local", "dial_error"],
        Then::Counted(what) | Then::Gone(what) => &[what, "accept_error"],
        _ => &[],
    };
    let others: Vec<_> = outcome.ends().filter(|it| it.0 != "end.eof").collect();
    let strange = others.iter().find(|it| !allowed.contains(&it.0)).copied();
    let strange = strange.map(|(name, count)| format!("{count} times {name}"));
    outcome.expect(strange.is_none(), || strange.unwrap_or_default());
    match row.then {
        Then::Ends(_) => {
            let breaks = outcome.breaks();
            outcome.expect(breaks > 0, || "no end was told".into());
        }
        Then::Counted(what) | Then::Gone(what) => {
            let counted = outcome.count(what);
            outcome.expect(counted > 0, || format!("{what} was not counted"));
        }
        _ => {}
    }
    let panics = outcome.count("panics");
    outcome.expect(panics == 0, || format!("{panics} panics"));
}

/// A server that nobody hurts, for the relay.
pub(crate) fn upstream() -> io::Result<Victim> {
    let start = Start {
        patient: true,
        ..Start::default()
    };
    Victim::start(Service::Echo, &start)
}
