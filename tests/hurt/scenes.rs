//! What else is done to servers: too few descriptors, stops, interruptions, death. And the
//! judges themselves, before servers that do wrong.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::clients::{self, How, Place, Service, Told, seeds};
use super::matrix::{self, Outcome};
use super::restart;
use super::system;
use super::table;
use super::victim::{PATIENCE, Start, Victim};
use crate::util::Rng;

type Scene = (&'static str, fn() -> io::Result<Outcome>);

const SCENES: [Scene; 11] = [
    ("64 descriptors, 200 clients, echo", || few(Service::Echo)),
    ("64 descriptors, 200 clients, unix", || few(Service::Unix)),
    ("64 descriptors, 200 clients, http", || few(Service::Http)),
    ("64 descriptors, 200 clients, relay", || few(Service::Relay)),
    ("stopped and continued, echo", || stopped(Service::Echo)),
    ("stopped and continued, relay", || stopped(Service::Relay)),
    ("interrupted by signals, echo", || {
        interrupted(Service::Echo)
    }),
    ("interrupted by signals, relay", || {
        interrupted(Service::Relay)
    }),
    ("interrupted by signals, udp", || interrupted(Service::Udp)),
    ("killed and started again, tcp", || {
        restart::killed(Service::Echo)
    }),
    ("killed and started again, unix", || {
        restart::killed(Service::Unix)
    }),
];

/// What a server does wrong, and a word of the complaint that has to follow.
const WRONGS: [(&str, &str); 7] = [
    ("corrupt", "Corrupt"),
    ("leak", "descriptors"),
    ("forget", "end.timeout"),
    ("drop", "end.local"),
    ("spin", "never sleeps"),
    ("tick", "turns"),
    ("status", "exit status"),
];

const CROWD: usize = 200;
const DESCRIPTORS: u32 = 64;
/// How long a server with clients is tormented.
const TORMENT: Duration = Duration::from_secs(3);
const TORMENTED: usize = 30;
/// At most so long a stop, and so long the time between two.
const STOP: usize = 300;
/// Between two signals, in microseconds.
const SIGNALS: usize = 2000;

pub(crate) fn all() -> io::Result<usize> {
    Ok(judges()? + only("")?)
}

pub(crate) fn only(text: &str) -> io::Result<usize> {
    let mut failed = 0;
    for (name, scene) in SCENES {
        if name.contains(text) {
            let outcome = scene().unwrap_or_else(Outcome::failed);
            table::print_scene(name, &outcome);
            failed += usize::from(!outcome.complaints.is_empty());
        }
    }
    Ok(failed)
}

/// Each wrong has to be noticed, and for the right reason.
pub(crate) fn judges() -> io::Result<usize> {
    let mut failed = 0;
    let upstream = matrix::upstream()?;
    if !table::can_hurt(&upstream, "the judges of the matrix") {
        return Ok(0);
    }
    for (wrong, word) in WRONGS {
        let outcome = matrix::play(&table::harmless(), &upstream.place, wrong);
        let complaints = outcome
            .unwrap_or_else(Outcome::failed)
            .complaints
            .join("; ");
        let noticed = complaints.contains(word);
        let how = if noticed { "noticed" } else { "NOT NOTICED" };
        println!("a server that does wrong ({wrong}): {how}: {complaints:.120}");
        failed += usize::from(!noticed);
    }
    Ok(failed)
}

/// More clients than descriptors: they wait in the kernel's queue, and all are served. Only
/// the relay may fail some, who need a second descriptor when there is none.
fn few(service: Service) -> io::Result<Outcome> {
    let upstream = matrix::upstream()?;
    let start = Start {
        patient: true,
        upstream: Some(&upstream.place),
        descriptors: Some(DESCRIPTORS),
        ..Start::default()
    };
    let mut victim = Victim::start(service, &start)?;
    let before = victim.descriptors()?;
    let clients: Vec<_> = seeds(1)
        .take(CROWD)
        .map(|seed| {
            let place = victim.place.clone();
            thread::spawn(move || clients::talk(service, &place, seed, PATIENCE))
        })
        .collect();
    let told: Vec<_> = clients
        .into_iter()
        .filter_map(|it| it.join().ok())
        .collect();
    let mut outcome = Outcome::default();
    outcome.tell(&told);
    let cut = CROWD - outcome.intact;
    end(&mut victim, before, &mut outcome)?;
    let failed_dials = outcome.count("dial_error") as usize;
    outcome.expect(cut <= failed_dials, || {
        format!("{cut} clients were cut off, and {failed_dials} dials failed")
    });
    if service != Service::Relay {
        outcome.expect(cut == 0, || format!("{cut} were not served"));
    }
    Ok(outcome)
}

/// SIGSTOP and SIGCONT at random under load.
fn stopped(service: Service) -> io::Result<Outcome> {
    let mut rng = Rng::new(1);
    tormented(service, |victim| {
        victim.signal(libc::SIGSTOP)?;
        thread::sleep(Duration::from_millis(rng.range(1, STOP) as u64));
        victim.signal(libc::SIGCONT)?;
        thread::sleep(Duration::from_millis(rng.range(1, STOP) as u64));
        Ok(())
    })
}

/// Signals that mean nothing, each of which interrupts whatever call is under way.
fn interrupted(service: Service) -> io::Result<Outcome> {
    let mut rng = Rng::new(2);
    tormented(service, |victim| {
        let which = rng.range(0, system::HARMLESS.len());
        victim.signal(system::HARMLESS[which])?;
        thread::sleep(Duration::from_micros(rng.range(1, SIGNALS) as u64));
        Ok(())
    })
}

/// Does something to a server again and again, while clients come and go, none of which may
/// notice more than that it takes longer.
fn tormented(
    service: Service,
    mut torment: impl FnMut(&Victim) -> io::Result<()>,
) -> io::Result<Outcome> {
    let upstream = matrix::upstream()?;
    let start = Start {
        patient: true,
        upstream: Some(&upstream.place),
        ..Start::default()
    };
    let mut victim = Victim::start(service, &start)?;
    let before = victim.descriptors()?;
    let load = Load::start(service, &victim.place);
    let began = Instant::now();
    while began.elapsed() < TORMENT {
        torment(&victim)?;
    }
    let mut outcome = Outcome::default();
    outcome.tell(&load.stop());
    end(&mut victim, before, &mut outcome)?;
    let (intact, clients) = (outcome.intact, outcome.clients);
    outcome.expect(intact == clients, || {
        format!("{} clients were cut off", clients - intact)
    });
    let breaks = outcome.breaks();
    outcome.expect(breaks == 0, || format!("{breaks} strange ends"));
    Ok(outcome)
}

/// Nothing is left of the clients, and the server ends well.
fn end(victim: &mut Victim, before: usize, outcome: &mut Outcome) -> io::Result<()> {
    let left = matrix::quiet(victim, Some(before))?;
    outcome.expect(left == before, || {
        format!("{left} descriptors, not {before}")
    });
    outcome.counts = victim.look()?;
    let panics = outcome.count("panics");
    outcome.expect(panics == 0, || format!("{panics} panics"));
    let fresh = clients::talk(victim.service, &victim.place, 9, PATIENCE);
    outcome.expect(fresh.how == How::Intact, || {
        format!("afterwards: {fresh:?}")
    });
    let used = system::processor_time(victim.id())?;
    let quiet = Duration::from_millis(200);
    thread::sleep(quiet);
    let used = system::processor_time(victim.id())? - used;
    outcome.expect(used < quiet / 4, || format!("spins: {used:?} of {quiet:?}"));
    let status = victim.stop()?.code();
    outcome.expect(status == Some(0), || format!("exit status {status:?}"));
    Ok(())
}

/// Clients, each of which is followed by another one until it is enough.
struct Load {
    enough: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Told>>>,
}

impl Load {
    fn start(service: Service, place: &Place) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let one = |seed: u64| {
            let (place, enough) = (place.clone(), Arc::clone(&enough));
            thread::spawn(move || {
                let mut told = Vec::new();
                for seed in seeds(seed) {
                    if enough.load(Ordering::Relaxed) {
                        break;
                    }
                    told.push(clients::talk(service, &place, seed, PATIENCE));
                }
                told
            })
        };
        let clients = seeds(3).take(TORMENTED).map(one).collect();
        Self { enough, clients }
    }

    fn stop(self) -> Vec<Told> {
        self.enough.store(true, Ordering::Relaxed);
        let all = self.clients.into_iter().filter_map(|it| it.join().ok());
        all.flatten().collect()
    }
}
