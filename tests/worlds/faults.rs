//! What goes wrong in a world, by the dice, and what of it can hurt a connection.

use std::collections::VecDeque;
use std::iter;
use std::time::{Duration, SystemTime};

use libc as c;
use windlass::sim::{Call, Remote, World};

use super::app::App;
use super::dice::Dice;
use super::errands::{NAMES, REMOTES, remote};

/// Addresses of the name that has several.
const MANY: u8 = 3;

/// Calls whose failure ends the connection on which it happens.
const HURTING: [Call; 6] = [
    Call::Read,
    Call::Write,
    Call::Shutdown,
    Call::Register,
    Call::TakeError,
    Call::Connect,
];

/// What each call is made to fail with. The loop must live on.
const ERRNOS: &[(Call, &[i32])] = &[
    (
        Call::Accept,
        &[
            c::EINTR,
            c::EAGAIN,
            c::ECONNABORTED,
            c::ECONNRESET,
            c::EPROTO,
            c::EPERM,
            c::ETIMEDOUT,
            c::EPIPE,
            c::ENETDOWN,
            c::ENETUNREACH,
            c::EHOSTDOWN,
            c::EHOSTUNREACH,
            c::ENOPROTOOPT,
            c::EOPNOTSUPP,
            c::EPROTONOSUPPORT,
            c::ESOCKTNOSUPPORT,
            c::EMFILE,
            c::ENFILE,
            c::ENOBUFS,
            c::ENOMEM,
            c::EIO,
        ],
    ),
    (Call::Accept, &[c::EMFILE, c::ENFILE, c::ENOBUFS]),
    // Whoever these come to is no listener any more.
    (
        Call::Accept,
        &[c::EBADF, c::EINVAL, c::ENOTSOCK, c::EFAULT, c::ENOSYS],
    ),
    (Call::Read, &[c::EINTR, c::EAGAIN]),
    (
        Call::Read,
        &[
            c::ECONNRESET,
            c::ETIMEDOUT,
            c::EHOSTUNREACH,
            c::ENOMEM,
            c::EBADF,
            c::EPIPE,
            c::ENOTCONN,
            c::ECONNABORTED,
            c::EIO,
        ],
    ),
    (Call::Write, &[c::EINTR, c::EAGAIN]),
    (
        Call::Write,
        &[
            c::EPIPE,
            c::ECONNRESET,
            c::ETIMEDOUT,
            c::ENOBUFS,
            c::EHOSTUNREACH,
            c::ENOMEM,
            c::ENETDOWN,
            c::EMSGSIZE,
            c::EBADF,
        ],
    ),
    (
        Call::Shutdown,
        &[c::ENOTCONN, c::ENOBUFS, c::EINVAL, c::EINTR, c::EBADF],
    ),
    (Call::Poll, &[c::EINTR]),
    (
        Call::Register,
        &[c::ENOMEM, c::ENOSPC, c::EINTR, c::EPERM, c::EEXIST],
    ),
    (Call::Rearm, &[c::ENOMEM, c::EINTR, c::ENOENT]),
    (
        Call::SetOption,
        &[c::EINVAL, c::ENOPROTOOPT, c::EINTR, c::ENOMEM],
    ),
    (
        Call::Socket,
        &[c::EMFILE, c::ENFILE, c::ENOBUFS, c::EINTR, c::EACCES],
    ),
    (
        Call::Bind,
        &[c::EADDRINUSE, c::EACCES, c::EINTR, c::EADDRNOTAVAIL],
    ),
    (Call::Listen, &[c::EADDRINUSE, c::EINTR, c::EOPNOTSUPP]),
    (Call::Queue, &[c::ENOTSUP, c::EINTR, c::EINVAL]),
    (Call::LocalAddr, &[c::ENOBUFS, c::ENOTCONN, c::EINTR]),
    (
        Call::PeerAddr,
        &[c::ENOTCONN, c::EINVAL, c::ENOBUFS, c::EINTR],
    ),
    (
        Call::Connect,
        &[
            c::EINTR,
            c::EALREADY,
            c::EISCONN,
            c::ECONNREFUSED,
            c::ENETUNREACH,
            c::EADDRNOTAVAIL,
            c::EACCES,
            c::ETIMEDOUT,
            c::EAGAIN,
            c::EHOSTUNREACH,
            c::EINVAL,
            c::ENOBUFS,
        ],
    ),
    (
        Call::TakeError,
        &[
            c::EINTR,
            c::EINPROGRESS,
            c::EALREADY,
            c::ECONNRESET,
            c::EHOSTUNREACH,
            c::ETIMEDOUT,
            c::EPIPE,
        ],
    ),
    (Call::Spare, &[c::EMFILE, c::ENFILE, c::EINTR]),
    (Call::LookUp, &[c::EAGAIN, c::ENOENT, c::EINTR, c::EIO]),
    (Call::Lookup, &[c::EAGAIN, c::ENOENT, c::EINTR]),
    (
        Call::Receive,
        &[
            c::EINTR,
            c::EAGAIN,
            c::ECONNREFUSED,
            c::ENOMEM,
            c::EHOSTUNREACH,
            c::ENETUNREACH,
            c::EMSGSIZE,
        ],
    ),
    (
        Call::Receive,
        &[c::EBADF, c::ENOTSOCK, c::EFAULT, c::ENOSYS],
    ),
    (
        Call::Send,
        &[
            c::EINTR,
            c::EAGAIN,
            c::ENOBUFS,
            c::ENOMEM,
            c::EMSGSIZE,
            c::ECONNREFUSED,
            c::EPERM,
            c::EHOSTUNREACH,
            c::EBADF,
            c::ENOTSOCK,
        ],
    ),
];

/// How long the process stands still, at most.
const STANDSTILL: Duration = Duration::from_secs(3);

/// These hurt nobody: the loop tries again. That goes for all calls but those that it has no
/// reason to try twice.
const HARMLESS: [i32; 4] = [c::EINTR, c::EAGAIN, c::EINPROGRESS, c::EALREADY];

const ONCE: [Call; 2] = [Call::Shutdown, Call::Register];

/// The failures that were scripted and have not happened, of each call that can hurt.
#[derive(Default)]
pub struct Script([VecDeque<i32>; HURTING.len()]);

impl Script {
    /// How many that hurt have happened since this was asked last.
    pub fn played(&mut self, world: &mut World<App>) -> usize {
        let mut hurts = 0;
        for (call, errnos) in HURTING.into_iter().zip(&mut self.0) {
            let happened = errnos.len() - world.faults().pending_of(call);
            let happened = errnos.drain(..happened);
            let once = ONCE.contains(&call);
            let hurting = |errno: &i32| once || !HARMLESS.contains(errno);
            hurts += happened.filter(hurting).count();
        }
        hurts
    }

    fn note(&mut self, call: Call, errno: i32, times: usize) {
        if let Some(at) = HURTING.iter().position(|&it| it == call) {
            self.0[at].extend(iter::repeat_n(errno, times));
        }
    }
}

/// Something begins to go wrong, or ends to. Answers the latency, if it has changed.
pub fn play(world: &mut World<App>, dice: &mut Dice, script: &mut Script) -> Option<Duration> {
    let some = dice.roll(12);
    let time = Duration::from_micros(dice.roll(4000) as u64);
    let what = dice.roll(22);
    let scale = world.handler().plan.scale;
    world
        .diary()
        .note(|| format!("weather {what} {some} {time:?}"));
    match what {
        0 | 1 => drop(
            world
                .faults()
                .short_reads((some > 3).then_some((some + 4) * scale)),
        ),
        2 | 3 => drop(
            world
                .faults()
                // So short that one flush has to stop at its budget.
                .short_writes((some > 2).then(|| (some - 2) * scale)),
        ),
        4..=9 => fail(world, dice, script, some % 4),
        10 | 11 => drop(world.faults().spurious()),
        12 => {
            let latency = if some < 6 { time } else { Duration::ZERO };
            world.faults().latency(latency);
            return Some(latency);
        }
        13 => {
            let open = world.open_descriptors() as u64;
            let limit = if some < 7 {
                open + some as u64 % 3
            } else {
                1024
            };
            world.faults().descriptor_limit(limit);
        }
        14 => drop(world.faults().events_per_poll(1 + some * some)),
        15 => drop(world.faults().loss(some as u64 % 4)),
        16 => drop(world.faults().duplicates(some as u64 % 4)),
        17 => drop(world.faults().reordering(time)),
        18 => drop(world.faults().send_buffers_full(some.is_multiple_of(2))),
        19 => {
            let time = dice.time(STANDSTILL);
            world.faults().stand_still(time);
            world.handler_mut().book.stands_still(time);
        }
        20 => {
            // Years, in either direction: nothing depends on it.
            let wall = Duration::from_secs(dice.roll(1 << 32) as u64);
            world.faults().wall_clock(SystemTime::UNIX_EPOCH + wall);
        }
        _ => world.lookup_delay(time * 20),
    }
    None
}

fn fail(world: &mut World<App>, dice: &mut Dice, script: &mut Script, times: usize) {
    let (call, errnos) = dice.pick(ERRNOS);
    let errno = dice.pick(errnos);
    world
        .diary()
        .note(|| format!("the next {times} of {call:?} fail with {errno}"));
    world.faults().fail(call, errno, times);
    script.note(call, errno, times);
}

/// Fine weather from now on.
pub fn clear(world: &mut World<App>, script: &mut Script) {
    *script = Script::default();
    world.diary().note(|| "the weather clears".to_owned());
    world
        .faults()
        .clear()
        .short_reads(None)
        .short_writes(None)
        .latency(Duration::ZERO)
        .descriptor_limit(1024)
        .events_per_poll(1024)
        .loss(0)
        .duplicates(0)
        .reordering(Duration::ZERO)
        .send_buffers_full(false);
    world.lookup_delay(Duration::ZERO);
}

/// Who answers a dial, and how.
pub fn hosts(world: &mut World<App>, dice: &mut Dice) {
    for n in 0..REMOTES {
        let after = Duration::from_millis(dice.roll(80) as u64);
        let errno = dice.pick(&[c::EHOSTUNREACH, c::ETIMEDOUT, c::ECONNRESET]);
        let host = match dice.roll(8) {
            0..=2 => Remote::Accepts,
            3 => Remote::AcceptsAtOnce,
            4 => Remote::AcceptsAfter(after),
            5 => Remote::Refuses,
            6 => Remote::Silent,
            _ => Remote::Fails { errno, after },
        };
        world.remote(remote(n), host);
    }
    if dice.one_in(2) {
        // Those that were asked one after the other answer at the same moment.
        let delay = world.handler().plan.config.attempt_delay;
        for n in 0..MANY {
            let host = Remote::AcceptsAfter(delay * u32::from(MANY - n));
            world.remote(remote(n), host);
        }
    }
    let all: Vec<_> = (0..MANY).map(|n| remote(n).ip()).collect();
    world.name(NAMES[0], all);
    world.name(NAMES[1], [remote(3).ip()]);
    world.silent_name(NAMES[2]);
}
