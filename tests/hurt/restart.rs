//! kill -9 and a new start in the same place, under clients of this crate that dial again by
//! themselves.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use windlass::{Backoff, Closed, Config, Conn, Context, Dial, DialId, Handler, Input, Reactor};

use super::clients::{How, Place, Service, Told};
use super::matrix::Outcome;
use super::victim::{PATIENCE, Start, Victim, text};
use crate::util::pattern;

const DIALS: usize = 20;
const KILLS: usize = 4;
const SPEECH: usize = 20_000;
const RETRY: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(100)];
/// Between a death and the next life.
const AWAY: Duration = Duration::from_millis(50);

/// Says its speech on each new connection, and tells what came back.
struct Caller {
    tell: Sender<(DialId, bool)>,
    speech: Vec<u8>,
}

impl Handler for Caller {
    type Session = (DialId, Vec<u8>);

    fn on_connect(&mut self, conn: &mut Conn<'_>, dial: DialId) -> io::Result<Self::Session> {
        conn.set_idle_timeout(None);
        conn.write(&self.speech);
        Ok((dial, Vec::new()))
    }

    fn on_read(
        &mut self,
        _: &mut Conn<'_>,
        (dial, heard): &mut Self::Session,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        heard.extend_from_slice(input.take_all());
        if heard.len() >= self.speech.len() {
            let _ = self.tell.send((*dial, *heard == self.speech));
        }
        Ok(())
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: Self::Session, _: &Closed) {}
}

pub(crate) fn killed(service: Service) -> io::Result<Outcome> {
    let start = Start {
        patient: true,
        ..Start::default()
    };
    let mut victim = Victim::start(service, &start)?;
    let place = victim.place.clone();
    let (handle, heard, ended) = callers(service, &place)?;
    let mut outcome = Outcome::default();
    for life in 0..=KILLS {
        if life > 0 {
            victim.kill()?;
            thread::sleep(AWAY);
            let again = Start {
                at: Some(&place),
                ..start.clone()
            };
            // A path stays when its server is killed; the next one takes it over.
            victim = Victim::start(service, &again)?;
        }
        let told = all_have_heard(&heard);
        outcome.expect(told.len() == DIALS, || {
            format!("life {life}: {} of {DIALS} came back", told.len())
        });
        outcome.tell(&told);
    }
    handle.shutdown(Duration::ZERO).map_err(io::Error::other)?;
    let stats = ended.recv_timeout(PATIENCE).map_err(io::Error::other)?;
    outcome.counts = BTreeMap::from([("dial_errors".to_owned(), stats.dial_errors)]);
    outcome.expect(stats.panics == 0, || "a callback panicked".into());
    let status = victim.stop()?.code();
    outcome.expect(status == Some(0), || format!("exit status {status:?}"));
    Ok(outcome)
}

type Callers = (
    windlass::Handle<Caller>,
    Receiver<(DialId, bool)>,
    Receiver<windlass::Stats>,
);

fn callers(service: Service, place: &Place) -> io::Result<Callers> {
    let (tell, heard) = mpsc::channel();
    let speech = pattern(SPEECH, 5);
    let mut reactor = Reactor::with_config(Caller { tell, speech }, Config::default())?;
    let dial = Dial::new(text(service, place))?.reconnect(Backoff::new(RETRY[0], RETRY[1]));
    for _ in 0..DIALS {
        reactor.dial(dial.clone())?;
    }
    let handle = reactor.handle();
    let (say, ended) = mpsc::channel();
    thread::spawn(move || {
        if let Ok(summary) = reactor.run() {
            let _ = say.send(summary.stats);
        }
    });
    Ok((handle, heard, ended))
}

/// Waits until each dial has had its speech back once more.
fn all_have_heard(heard: &Receiver<(DialId, bool)>) -> Vec<Told> {
    let began = Instant::now();
    let mut all = BTreeMap::new();
    while all.len() < DIALS {
        let left = PATIENCE.saturating_sub(began.elapsed());
        let Ok((dial, right)) = heard.recv_timeout(left) else {
            break;
        };
        let how = match right {
            true => How::Intact,
            false => How::Corrupt("an echo".into()),
        };
        let bytes = SPEECH as u64;
        all.insert(dial.to_string(), Told { bytes, how });
    }
    all.into_values().collect()
}
