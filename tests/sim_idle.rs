//! P4, for crowds: however many come and go, whoever is silent for the idle time is ended then,
//! and not before.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::io;
use std::time::{Duration, Instant};

use windlass::sim::World;
use windlass::{Config, Conn, Deadline, Handler, Input, ListenerId};

const IDLE: Duration = Duration::from_secs(10);
/// What the wheel may add, which counts milliseconds.
const TICK: Duration = Duration::from_millis(1);

/// Closes whoever has finished, and notes how long the others have been silent when it is told.
#[derive(Default)]
struct Patience {
    silent: Vec<Duration>,
    left: usize,
}

impl Handler for Patience {
    type Session = Instant;

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<Instant> {
        Ok(conn.now())
    }

    fn on_eof(
        &mut self,
        conn: &mut Conn<'_>,
        _: &mut Instant,
        _: &mut Input<'_>,
    ) -> io::Result<()> {
        self.left += 1;
        conn.close();
        Ok(())
    }

    fn on_timeout(
        &mut self,
        conn: &mut Conn<'_>,
        since: &mut Instant,
        which: Deadline,
    ) -> io::Result<()> {
        assert_eq!(which, Deadline::Idle);
        self.silent.push(conn.now() - *since);
        Err(io::ErrorKind::TimedOut.into())
    }
}

fn world() -> World<Patience> {
    let mut config = Config::default();
    config.idle_timeout = IDLE;
    World::with_config(1, Patience::default(), config)
}

#[track_caller]
fn assert_ended_on_time(world: &World<Patience>, stayed: usize) {
    let silent = &world.handler().silent;
    assert_eq!(silent.len(), stayed);
    let on_time = IDLE..=IDLE + TICK;
    for silence in silent {
        assert!(on_time.contains(silence), "ended after {silence:?}");
    }
}

/// More than the loop keeps out of its wheel, several times over, and spread over more than the
/// idle time.
#[test]
fn whoever_stays_where_nearly_everybody_goes_is_ended_on_time() {
    let (waves, visitors) = (2_000, 4);
    let mut world = world();
    let addr = world.listen("127.0.0.1:80");
    let mut stayed = 0;
    for wave in 0..waves {
        // They leave in the next wave, so that the loop has all of them for a while.
        let short: Vec<_> = (0..visitors).map(|_| world.connect(addr)).collect();
        if wave % 7 == 0 {
            world.connect(addr);
            stayed += 1;
        }
        world.advance(Duration::from_millis(11));
        for client in short {
            world.close(client);
        }
    }
    world.advance(2 * IDLE);
    assert_eq!(world.handler().left, waves * visitors);
    assert_ended_on_time(&world, stayed);
    assert_eq!(world.stats().open, 0);
}

#[test]
fn a_crowd_of_which_everybody_stays_is_ended_on_time() {
    // More than the loop keeps out of its wheel, and fewer than the descriptors of such a world.
    let (waves, visitors) = (30, 60);
    let mut world = world();
    let addr = world.listen("127.0.0.1:80");
    for _ in 0..waves {
        for _ in 0..visitors {
            world.connect(addr);
        }
        world.advance(Duration::from_millis(3));
    }
    world.advance(2 * IDLE);
    assert_ended_on_time(&world, waves * visitors);
    assert_eq!(world.stats().open, 0);
}
