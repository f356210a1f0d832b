//! What else the machine is doing: a run beside other programs says less.

use std::time::Instant;

/// The columns of the first line of `/proc/stat` in which nobody works: idle, and waiting
/// for disks. The two last ones are counted in the first ones already.
const IDLE: [usize; 2] = [3, 4];
const GUESTS: usize = 8;

/// Begun before the rounds, ended after them.
pub(crate) struct Watch {
    since: Instant,
    ticks: Option<Ticks>,
}

#[derive(Clone, Copy)]
struct Ticks {
    busy: f64,
    all: f64,
    /// Of the machine, not only those that we may use.
    processors: usize,
}

impl Watch {
    pub(crate) fn begin() -> Self {
        Self {
            since: Instant::now(),
            ticks: Ticks::now(),
        }
    }

    /// The share of all processors that somebody else had, the host included; `ours` is
    /// the processor time of servers and load. `None` where the system does not say.
    pub(crate) fn end(&self, ours: f64) -> Option<f64> {
        let (before, after) = (self.ticks?, Ticks::now()?);
        let busy = (after.busy - before.busy) / (after.all - before.all);
        let ours = ours / (self.since.elapsed().as_secs_f64() * after.processors as f64);
        // The two are not measured by the same clock.
        Some((busy - ours).max(0.0)).filter(|share| share.is_finite())
    }
}

impl Ticks {
    fn now() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/stat").ok()?;
        // The first line is the sum of those that follow, one for each processor.
        let lines = text.lines().filter(|line| line.starts_with("cpu"));
        let processors = lines.skip(1).count();
        let ticks = text.lines().next()?.split_whitespace().skip(1);
        let ticks: Vec<f64> = ticks
            .take(GUESTS)
            .map(str::parse)
            .collect::<Result<_, _>>()
            .ok()?;
        let all = ticks.iter().sum::<f64>();
        let idle: f64 = IDLE.iter().filter_map(|at| ticks.get(*at)).sum();
        Some(Self {
            busy: all - idle,
            all,
            processors,
        })
    }
}
