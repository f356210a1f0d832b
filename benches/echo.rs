//! Echo: windlass beside a raw epoll loop, in the same run, round by round.
//!
//! ```text
//! cargo bench --bench echo                      the table
//! cargo bench --bench echo -- serve raw ADDR    one server alone, to be traced
//! cargo bench --bench echo -- serve windlass ADDR
//! cargo bench --bench echo -- serve mux ADDR    windlass, as one part of a `Mux`
//! cargo bench --bench echo -- load ADDR CONNECTIONS REQUESTS
//! ```
//!
//! What is compared is the processor time that the server thread spends per request, as
//! a ratio within each round; absolute times of a shared machine mean nothing. "raw" is
//! entered twice: the distance of the control from 1 is the noise. The last column is what
//! a `Mux` costs: the same handler alone and as a part.

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

    use windlass::{Conn, Handler, Input, Listen, ListenerId, Mux, Reactor};

    use super::clock::{pin, seconds, spread, thread_clock};
    use super::raw;

    const ROUNDS: usize = 15;
    const MESSAGE: usize = 64;
    const CASES: [(usize, usize); 3] = [(1, 20_000), (50, 60_000), (500, 60_000)];

    pub(super) fn main() {
        let words: Vec<String> = std::env::args()
            .skip(1)
            .filter(|word| word != "--bench")
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let outcome = match words.as_slice() {
            [] => table(),
            ["serve", which, addr] => serve(which, addr),
            ["load", addr, connections, requests] => load_once(addr, connections, requests),
            _ => Err(io::Error::other(
                "usage: [serve raw|windlass|mux ADDR] [load ADDR CONNECTIONS REQUESTS]",
            )),
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

    fn run(which: &str, listener: TcpListener) -> io::Result<()> {
        let listen = |listener| Listen::adopt(OwnedFd::from(listener)).nodelay(true);
        match which {
            "raw" => raw::serve(listener),
            "mux" => {
                let mut mux = Mux::new();
                let [_, part, _] = [Echo, Echo, Echo].map(|echo| mux.add(echo));
                let mut reactor = Reactor::new(mux)?;
                reactor.listen_for(part, listen(listener))?;
                reactor.run().map(drop)
            }
            _ => {
                let mut reactor = Reactor::new(Echo)?;
                reactor.listen(listen(listener))?;
                reactor.run().map(drop)
            }
        }
    }

    fn serve(which: &str, addr: &str) -> io::Result<()> {
        let listener = TcpListener::bind(addr)?;
        println!("listening on {}", listener.local_addr()?);
        run(which, listener)
    }

    /// A server on a thread of its own, pinned to the first processor.
    struct Server {
        addr: SocketAddr,
        clock: libc::clockid_t,
    }

    fn start(which: &'static str) -> io::Result<Server> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            pin(0);
            // A failure to send means that the benchmark is over.
            let _ = tell.send(thread_clock());
            run(which, listener)
        });
        let clock = told.recv().map_err(io::Error::other)?;
        Ok(Server { addr, clock })
    }

    fn table() -> io::Result<()> {
        pin(1);
        let raw = start("raw")?;
        let control = start("raw")?;
        let ours = start("windlass")?;
        let muxed = start("mux")?;
        let servers = [&raw, &control, &ours, &muxed];
        println!(
            "processor time per request of {MESSAGE} bytes, one / other (above 1: the other is better)"
        );
        println!(
            "{:>12} {:>24} {:>24} {:>24}",
            "connections", "raw / raw (the noise)", "raw / windlass", "windlass / in a Mux"
        );
        for (connections, requests) in CASES {
            let mut loads = servers.map(|server| Load::connect(server.addr, connections));
            let mut ratios = [const { Vec::new() }; 3];
            for _ in 0..ROUNDS {
                let mut spent = [0.0; 4];
                for (at, server) in servers.into_iter().enumerate() {
                    let before = seconds(server.clock);
                    loads[at]
                        .as_mut()
                        .map_err(|error| io::Error::other(error.to_string()))?
                        .run(requests)?;
                    spent[at] = seconds(server.clock) - before;
                }
                ratios[0].push(spent[0] / spent[1]);
                ratios[1].push(spent[0] / spent[2]);
                ratios[2].push(spent[2] / spent[3]);
            }
            let [noise, ours, muxed] = ratios.each_mut().map(|ratios| spread(ratios));
            println!("{connections:>12} {noise:>24} {ours:>24} {muxed:>24}");
        }
        Ok(())
    }

    fn load_once(addr: &str, connections: &str, requests: &str) -> io::Result<()> {
        let addr = addr.parse().map_err(io::Error::other)?;
        let connections = connections.parse().map_err(io::Error::other)?;
        let requests = requests.parse().map_err(io::Error::other)?;
        Load::connect(addr, connections)?.run(requests)
    }

    /// Ping-pong on several connections from one thread: all pings, then all pongs.
    struct Load(Vec<TcpStream>);

    impl Load {
        fn connect(addr: SocketAddr, connections: usize) -> io::Result<Self> {
            let streams = (0..connections).map(|_| {
                let stream = TcpStream::connect(addr)?;
                stream.set_nodelay(true)?;
                Ok(stream)
            });
            Ok(Self(streams.collect::<io::Result<_>>()?))
        }

        fn run(&mut self, requests: usize) -> io::Result<()> {
            let mut message = [7_u8; MESSAGE];
            for _ in 0..requests / self.0.len() {
                for stream in &mut self.0 {
                    stream.write_all(&message)?;
                }
                for stream in &mut self.0 {
                    stream.read_exact(&mut message)?;
                }
            }
            Ok(())
        }
    }
}
