//! What one world is like: its limits, its network, and how its handler behaves, all of it
//! from the seed.

use std::time::Duration;

use windlass::{Config, Overload};

use super::dice::Dice;

/// Everything that is decided before the first turn.
#[derive(Clone, Debug)]
pub struct Plan {
    pub config: Config,
    /// Bytes of the kernel's buffers, on the sending and on the receiving side.
    pub buffers: (usize, usize),
    pub rearm: bool,
    pub reuse_descriptors: bool,
    pub abort_reset_accepts: bool,
    pub inherit_options: bool,
    pub backlog_limit: u32,
    /// How many times larger everything is that is counted in bytes.
    pub scale: usize,
    /// Acts of the script.
    pub steps: usize,
    pub most_peers: usize,
    /// One callback in so many does something that nobody asked for.
    pub mischief: usize,
    /// Whether callbacks panic now and then.
    pub panics: bool,
    /// One act in so many is a fault.
    pub faults: usize,
    /// Whether datagrams are exchanged.
    pub packets: bool,
    pub dials: bool,
    /// One act in so many asks the loop to stop.
    pub stops: usize,
    /// Whether every connection has a layer.
    pub layers: bool,
}

/// Limits that no world here ever reaches.
pub const PLENTY: usize = 1 << 20;

/// Large enough for writes that go around the queue.
const LARGE: usize = 300;

impl Plan {
    pub fn new(dice: &mut Dice) -> Self {
        let scale = if dice.one_in(16) { LARGE } else { 1 };
        let mut config = config(dice);
        enlarge(&mut config, scale);
        let buffers = (dice.between(1, 60) * scale, dice.between(1, 60) * scale);
        Self {
            config,
            buffers,
            scale,
            rearm: !dice.one_in(3),
            reuse_descriptors: dice.one_in(2),
            abort_reset_accepts: dice.one_in(2),
            inherit_options: !dice.one_in(4),
            backlog_limit: dice.pick(&[1, 2, 5, 4096]),
            steps: dice.between(15, 60),
            most_peers: dice.between(2, 7),
            mischief: dice.pick(&[4, 8, 20, 60, 10_000]),
            panics: dice.one_in(4),
            faults: dice.pick(&[3, 6, 12, 10_000]),
            packets: dice.one_in(3),
            dials: dice.one_in(2),
            stops: dice.pick(&[40, 200, 100_000]),
            layers: false,
        }
    }
}

fn enlarge(config: &mut Config, scale: usize) {
    config.read_buffer *= scale;
    config.read_budget *= scale;
    config.limits.low *= scale;
    config.limits.high *= scale;
    config.limits.limit *= scale;
    config.limits.input *= scale;
    config.memory_limit *= scale;
    config.drain_limit *= scale;
}

fn config(dice: &mut Dice) -> Config {
    let mut config = Config::default();
    let millis = |dice: &mut Dice, low, high| Duration::from_millis(dice.between(low, high) as u64);
    config.idle_timeout = millis(dice, 50, 5000);
    config.write_stall_timeout = millis(dice, 20, 3000);
    config.linger = millis(dice, 10, 2000);
    config.dial_timeout = millis(dice, 5, 2000);
    config.attempt_delay = millis(dice, 1, 300);
    config.read_buffer = dice.between(1, 128);
    config.read_budget = dice.between(1, 200);
    config.read_calls = dice.between(1, 5) as u32;
    config.limits.low = dice.roll(30);
    config.limits.high = config.limits.low + dice.roll(60);
    config.limits.limit = config.limits.high + dice.pick(&[0, 50, 300, PLENTY]);
    config.limits.input = dice.pick(&[1, 40, 300, PLENTY]);
    config.memory_limit = dice.pick(&[30, 200, 1000, PLENTY, PLENTY]);
    config.drain_limit = dice.pick(&[0, 20, 500, PLENTY]);
    config.recycled_bytes = dice.pick(&[0, 100, PLENTY]);
    config.accept_budget = dice.between(1, 4) as u32;
    config.post_budget = dice.between(1, 4);
    config.mailbox_limit = dice.pick(&[1, 3, 1000]);
    config.events = dice.between(1, 8);
    config.max_events = config.events * dice.between(1, 4);
    config.max_lookups = dice.between(1, 4);
    config.max_connections = dice.pick(&[None, None, Some(1), Some(2), Some(5)]);
    config.reserved_descriptors = dice.between(1, 1022);
    config.accept_backoff_min = millis(dice, 1, 10);
    config.accept_backoff_max = config.accept_backoff_min * dice.between(1, 4) as u32;
    config.overload = dice.pick(&[Overload::Wait, Overload::Wait, Overload::Shed]);
    config.datagram_queue = dice.between(64, 400);
    config.max_datagram = dice.between(16, 80);
    config.datagram_batch = dice.between(1, 4);
    config.datagram_budget = dice.between(1, 8);
    config.time_callbacks = dice.one_in(4);
    config
}
