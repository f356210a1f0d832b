//! How parts are measured: by criterion, and then pair by pair, round by round.

use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};

/// Rounds of a comparison, and when to be content with fewer.
const ROUNDS: usize = 21;
const FEWEST_ROUNDS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(1);
/// What a subject gathers in a round, if one batch is not enough.
const ROUND: Duration = Duration::from_millis(3);

/// One way to do a part's work: does a batch of it, and answers how long that took.
pub(crate) type Subject<'a> = (&'static str, &'a mut dyn FnMut() -> Duration);

/// How much one batch is.
#[derive(Clone, Copy)]
pub(crate) struct Batch {
    pub(crate) ops: u64,
    /// Bytes that the operations go through, where bytes count.
    pub(crate) bytes: Option<u64>,
}

impl Batch {
    pub(crate) fn of(ops: usize) -> Self {
        Self {
            ops: ops as u64,
            bytes: None,
        }
    }
}

/// Criterion, and the table that it does not print.
pub(crate) struct Bench {
    criterion: Criterion,
    lines: Vec<String>,
    notes: Vec<String>,
    /// Every batch once, to see that it works.
    testing: bool,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let criterion = Criterion::default()
            .sample_size(10)
            .nresamples(10_000)
            .warm_up_time(Duration::from_millis(100))
            .measurement_time(Duration::from_millis(400))
            .without_plots()
            .configure_from_args();
        // As criterion decides it: `cargo test --benches` passes no `--bench`.
        let said = |word| std::env::args().any(|arg| arg == word);
        Self {
            criterion,
            lines: Vec::new(),
            notes: Vec::new(),
            testing: said("--test") || !said("--bench"),
        }
    }

    /// Measures a part, if it was asked for. The first subject is ours; the others are what it
    /// is compared with.
    pub(crate) fn part(&mut self, name: &str, batch: Batch, subjects: &mut [Subject<'_>]) -> bool {
        let mut chosen = false;
        let mut group = self.criterion.benchmark_group(name);
        group.sampling_mode(SamplingMode::Flat);
        group.throughput(match batch.bytes {
            Some(bytes) => Throughput::BytesDecimal(bytes),
            None => Throughput::Elements(batch.ops),
        });
        for (subject, work) in subjects.iter_mut() {
            group.bench_function(*subject, |bencher| {
                chosen = true;
                bencher.iter_custom(|batches| (0..batches).map(|_| work()).sum());
            });
        }
        group.finish();
        if chosen && !self.testing {
            let rounds = play(batch, subjects);
            self.lines.extend(lines(name, batch, subjects, &rounds));
        }
        chosen
    }

    /// A sentence to stand below the table.
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    pub(crate) fn finish(self) {
        self.criterion.final_summary();
        if !self.lines.is_empty() {
            println!(
                "\nnanoseconds per operation; ratio: ours / theirs in the same round, below 1 is \
                 ahead; in brackets the quartiles\n"
            );
            println!(
                "{:<28} {:>26}   {:<22} {:>9}   ratio",
                "part", "windlass", "beside", "theirs"
            );
        }
        for line in self.lines.iter().chain(&self.notes) {
            println!("{line}");
        }
    }
}

/// Nanoseconds per operation: of each subject, in each round.
fn play(batch: Batch, subjects: &mut [Subject<'_>]) -> Vec<Vec<f64>> {
    let mut rounds = vec![Vec::new(); subjects.len()];
    let began = Instant::now();
    for round in 0..ROUNDS {
        if round >= FEWEST_ROUNDS && began.elapsed() > PATIENCE {
            break;
        }
        // Who begins changes, so that nobody always follows the same one.
        for turn in 0..subjects.len() {
            let at = (turn + round) % subjects.len();
            rounds[at].push(gather(batch, subjects[at].1));
        }
    }
    rounds
}

/// The median of the batches of one round: one that was interrupted does not count.
fn gather(batch: Batch, work: &mut dyn FnMut() -> Duration) -> f64 {
    let (mut whole, mut each) = (Duration::ZERO, Vec::new());
    while whole < ROUND {
        let took = work();
        whole += took;
        each.push(took.as_nanos() as f64 / batch.ops as f64);
    }
    quartiles(&each)[1]
}

/// One line for each pair.
fn lines(name: &str, batch: Batch, subjects: &[Subject<'_>], rounds: &[Vec<f64>]) -> Vec<String> {
    let ours = &rounds[0];
    let [low, median, high] = quartiles(ours);
    let mut own = format!("{median:.1} ({low:.1} to {high:.1})");
    if let Some(bytes) = batch.bytes {
        let gigabytes = bytes as f64 / batch.ops as f64 / median;
        own = format!("{own} {gigabytes:.2} GB/s");
    }
    let beside = subjects.iter().zip(rounds).skip(1);
    beside
        .map(|((theirs, _), rounds)| {
            let ratios: Vec<f64> = ours.iter().zip(rounds).map(|(a, b)| a / b).collect();
            let [low, ratio, high] = quartiles(&ratios);
            let median = quartiles(rounds)[1];
            format!(
                "{name:<28} {own:>26}   {theirs:<22} {median:>9.1}   {ratio:.3} ({low:.3} to {high:.3})"
            )
        })
        .collect()
}

fn quartiles(values: &[f64]) -> [f64; 3] {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let last = values.len() - 1;
    [last / 4, last / 2, last - last / 4].map(|at| values[at])
}

/// Numbers without a pattern, and the same in every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// How long that took.
pub(crate) fn timed<R>(work: impl FnOnce() -> R) -> Duration {
    let began = Instant::now();
    std::hint::black_box(work());
    began.elapsed()
}
