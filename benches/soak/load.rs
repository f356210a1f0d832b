//! Hundreds of clients at once, each of which has one conversation after the other, with
//! whom and in what temper a seed decides.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::protocol::Protocol;
use super::servers::Place;
use super::tempers::{self, Temper};
use crate::util::Rng;

/// A client needs no more; there are hundreds.
const STACK: usize = 256 * 1024;
/// Between two conversations, in milliseconds, at most.
const PAUSE: usize = 60;
/// That many failures are told in full.
const TOLD: usize = 20;

/// Somebody to talk to, and what came of it.
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) place: Place,
    pub(crate) share: u32,
    pub(crate) connections: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) faults: AtomicU64,
    pub(crate) failures: AtomicU64,
}

impl Target {
    pub(crate) fn new(name: &str, protocol: Protocol, place: Place, share: u32) -> Self {
        Self {
            name: name.to_owned(),
            protocol,
            place,
            share,
            connections: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }
}

pub(crate) struct Load {
    enough: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
    told: Arc<Mutex<Vec<String>>>,
}

impl Load {
    pub(crate) fn start(targets: &Arc<Vec<Target>>, clients: usize, seed: u64) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let told = Arc::new(Mutex::new(Vec::new()));
        let mut seeds = Rng::new(seed);
        let clients = (0..clients).map(|_| {
            let client = Client {
                targets: Arc::clone(targets),
                enough: Arc::clone(&enough),
                told: Arc::clone(&told),
                rng: Rng::new(seeds.next()),
            };
            let thread = thread::Builder::new().stack_size(STACK);
            thread.spawn(|| client.live()).unwrap()
        });
        Self {
            clients: clients.collect(),
            enough,
            told,
        }
    }

    /// Lets everybody finish what is under way, and answers what has failed.
    pub(crate) fn stop(self) -> Vec<String> {
        self.enough.store(true, Ordering::Relaxed);
        let ends: Vec<_> = self.clients.into_iter().map(JoinHandle::join).collect();
        let mut told = self.told.lock().unwrap().clone();
        let panicked = ends.iter().filter(|end| end.is_err()).count();
        if panicked > 0 {
            told.push(format!("{panicked} clients panicked"));
        }
        told
    }
}

struct Client {
    targets: Arc<Vec<Target>>,
    enough: Arc<AtomicBool>,
    told: Arc<Mutex<Vec<String>>>,
    rng: Rng,
}

impl Client {
    fn live(mut self) {
        while !self.enough.load(Ordering::Relaxed) {
            let seed = self.rng.next();
            self.talk(seed);
            let pause = self.rng.range(0, PAUSE) as u64;
            thread::sleep(Duration::from_millis(pause));
        }
    }

    fn talk(&self, seed: u64) {
        let mut rng = Rng::new(seed);
        let target = self.anybody(&mut rng);
        let temper = Temper::any(target.protocol, &mut rng);
        let done = tempers::play(temper, target.protocol, &target.place, &mut rng);
        target.connections.fetch_add(1, Ordering::Relaxed);
        let fault = u64::from(temper.is_fault());
        target.faults.fetch_add(fault, Ordering::Relaxed);
        match done {
            Ok(bytes) => drop(target.bytes.fetch_add(bytes, Ordering::Relaxed)),
            // Of who misbehaves nothing is expected, not even that it is let in.
            Err(_) if temper.is_fault() => {}
            Err(error) => {
                target.failures.fetch_add(1, Ordering::Relaxed);
                let mut told = self.told.lock().unwrap();
                if told.len() < TOLD {
                    told.push(format!("{}, {temper:?}, {seed:#x}: {error}", target.name));
                }
            }
        }
    }

    fn anybody(&self, rng: &mut Rng) -> &Target {
        let all: u32 = self.targets.iter().map(|it| it.share).sum();
        let mut at = rng.range(0, all as usize) as u32;
        for target in self.targets.iter() {
            match at.checked_sub(target.share) {
                Some(rest) => at = rest,
                None => return target,
            }
        }
        &self.targets[0]
    }
}
