//! What `Config::busy_poll` buys, and what it costs: one client that waits for each answer,
//! on windlass and on a raw epoll loop, each with the spin and without, in the same run,
//! round by round.
//!
//! ```text
//! cargo bench --bench busy                 the table, for a spin of 50 µs
//! cargo bench --bench busy -- 200          for one of 200 µs
//! ```
//!
//! The server has a processor to itself and so has the client, which sleeps until its answer
//! is there: only the server's own wake-up is saved. Each figure is a ratio within a round,
//! the first of the pair over the second. The control is the raw loop beside itself; the
//! distance of its ratios from 1 is the noise.

#[cfg(target_os = "linux")]
#[path = "support/clock.rs"]
mod clock;
#[cfg(target_os = "linux")]
#[path = "support/raw.rs"]
mod raw;

fn main() {
    #[cfg(target_os = "linux")]
    linux::main();
    #[cfg(not(target_os = "linux"))]
    println!("the baseline of this benchmark is epoll; it runs on Linux only");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io::{self, Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use windlass::{Config, Conn, Handler, Input, Listen, ListenerId, Reactor};

    use super::clock::{pin, seconds, thread_clock};
    use super::raw;

    const ROUNDS: usize = 15;
    const REQUESTS: usize = 10_000;
    const MESSAGE: usize = 64;
    const SPIN_MICROS: u64 = 50;

    const SERVER_PROCESSOR: usize = 0;
    const CLIENT_PROCESSOR: usize = 1;

    pub(super) fn main() {
        let words: Vec<String> = std::env::args()
            .skip(1)
            .filter(|word| word != "--bench")
            .collect();
        let micros = match words.as_slice() {
            [] => Some(SPIN_MICROS),
            [micros] => micros.parse().ok(),
            _ => None,
        };
        let outcome = match micros {
            Some(micros) => table(Duration::from_micros(micros)),
            None => Err(io::Error::other("usage: [MICROSECONDS]")),
        };
        if let Err(error) = outcome {
            eprintln!("{error}");
            std::process::exit(1);
        }
    }

    struct Echo;

    impl Handler for Echo {
        type Session = ();

        fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
            Ok(())
        }

        fn on_read(
            &mut self,
            conn: &mut Conn<'_>,
            _: &mut (),
            input: &mut Input<'_>,
        ) -> io::Result<()> {
            conn.write(input.take_all());
            Ok(())
        }
    }

    #[derive(Clone, Copy)]
    enum Kind {
        Raw,
        Windlass,
    }

    fn run(kind: Kind, spin: Duration, listener: TcpListener) -> io::Result<()> {
        match kind {
            // So that the spinless one is the loop that the other benchmarks measure.
            Kind::Raw if spin.is_zero() => raw::serve(listener),
            Kind::Raw => raw::serve_spinning(listener, spin),
            Kind::Windlass => {
                let mut config = Config::default();
                config.busy_poll = spin;
                let mut reactor = Reactor::with_config(Echo, config)?;
                reactor.listen(Listen::adopt(OwnedFd::from(listener)).nodelay(true))?;
                reactor.run().map(drop)
            }
        }
    }

    /// A server on a thread of its own, and its one client.
    struct Pair {
        clock: libc::clockid_t,
        client: TcpStream,
    }

    impl Pair {
        fn start(kind: Kind, spin: Duration) -> io::Result<Self> {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let addr: SocketAddr = listener.local_addr()?;
            let (tell, told) = mpsc::channel();
            std::thread::spawn(move || {
                pin(SERVER_PROCESSOR);
                // A failure to send means that the benchmark is over.
                let _ = tell.send(thread_clock());
                run(kind, spin, listener)
            });
            let clock = told.recv().map_err(io::Error::other)?;
            let client = TcpStream::connect(addr)?;
            client.set_nodelay(true)?;
            Ok(Self { clock, client })
        }

        fn round(&mut self) -> io::Result<Round> {
            let mut message = [7_u8; MESSAGE];
            let mut latencies = Vec::with_capacity(REQUESTS);
            let before = seconds(self.clock);
            let began = Instant::now();
            for _ in 0..REQUESTS {
                let asked = Instant::now();
                self.client.write_all(&message)?;
                self.client.read_exact(&mut message)?;
                latencies.push(asked.elapsed());
            }
            let took = began.elapsed().as_secs_f64();
            latencies.sort_unstable();
            Ok(Round {
                rate: REQUESTS as f64 / took,
                median: latencies[REQUESTS / 2].as_secs_f64(),
                processor: seconds(self.clock) - before,
            })
        }
    }

    /// What one round came to.
    #[derive(Clone, Copy)]
    struct Round {
        rate: f64,
        /// The median latency, in seconds.
        median: f64,
        /// Processor time of the server, in seconds.
        processor: f64,
    }

    const RAW: usize = 0;
    const CONTROL: usize = 1;
    const RAW_SPINS: usize = 2;
    const WINDLASS: usize = 3;
    const WINDLASS_SPINS: usize = 4;

    const ROWS: [(&str, usize, usize); 5] = [
        ("raw / raw (the noise)", CONTROL, RAW),
        ("raw, spin / sleep", RAW_SPINS, RAW),
        ("windlass, spin / sleep", WINDLASS_SPINS, WINDLASS),
        ("asleep, windlass / raw", WINDLASS, RAW),
        ("spinning, windlass / raw", WINDLASS_SPINS, RAW_SPINS),
    ];

    fn table(spin: Duration) -> io::Result<()> {
        pin(CLIENT_PROCESSOR);
        let mut pairs = [
            (Kind::Raw, Duration::ZERO),
            (Kind::Raw, Duration::ZERO),
            (Kind::Raw, spin),
            (Kind::Windlass, Duration::ZERO),
            (Kind::Windlass, spin),
        ]
        .map(|(kind, spin)| Pair::start(kind, spin));
        let mut rounds = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let mut round = Vec::with_capacity(pairs.len());
            for pair in &mut pairs {
                let pair = pair
                    .as_mut()
                    .map_err(|error| io::Error::other(error.to_string()))?;
                round.push(pair.round()?);
            }
            rounds.push(round);
        }
        print(spin, &rounds);
        Ok(())
    }

    fn print(spin: Duration, rounds: &[Vec<Round>]) {
        println!("one connection, {MESSAGE} bytes, a spin of {spin:?}: medians of {ROUNDS} rounds");
        println!(
            "{:<26} {:>24} {:>24} {:>24}",
            "", "rate", "median latency", "processor time"
        );
        for (name, one, other) in ROWS {
            let ratio = |of: fn(&Round) -> f64| {
                let mut ratios: Vec<f64> = rounds
                    .iter()
                    .map(|round| of(&round[one]) / of(&round[other]))
                    .collect();
                spread(&mut ratios)
            };
            println!(
                "{name:<26} {:>24} {:>24} {:>24}",
                ratio(|round| round.rate),
                ratio(|round| round.median),
                ratio(|round| round.processor)
            );
        }
    }

    /// The median of the rounds, and the quartiles.
    fn spread(ratios: &mut [f64]) -> String {
        ratios.sort_by(f64::total_cmp);
        let last = ratios.len() - 1;
        format!(
            "{:.3} ({:.3} to {:.3})",
            ratios[last / 2],
            ratios[last / 4],
            ratios[last - last / 4]
        )
    }
}
