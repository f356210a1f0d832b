//! Datagrams echoed over loopback: system calls and processor time per datagram, one by one
//! and in batches, in the same run, round by round.
//!
//! ```text
//! cargo bench --bench datagram                  1,000,000 datagrams for each server
//! cargo bench --bench datagram -- COUNT         another number
//! ```
//!
//! "one by one" is a thread that waits in recvfrom and answers with sendto: two calls per
//! datagram, whatever comes. windlass is entered with batches of one and as it is by default;
//! its calls are those that it counts itself, polls included. Times are ratios within each
//! round; absolute times of a shared machine mean nothing.

#[cfg(target_os = "linux")]
#[path = "support/clock.rs"]
mod clock;

fn main() {
    #[cfg(target_os = "linux")]
    linux::main();
    #[cfg(not(target_os = "linux"))]
    println!("this benchmark reads the clocks of threads as Linux has them; it runs there only");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::net::{SocketAddr, UdpSocket};
    use std::os::fd::OwnedFd;
    use std::sync::mpsc;
    use std::time::Duration;

    use windlass::{Bind, Config, Datagram, Handle, Handler, Reactor, Socket, Stats};

    use super::clock::{pin, seconds, thread_clock};

    const ROUNDS: usize = 15;
    const COUNT: usize = 1_000_000;
    /// Datagrams under way at a time; they fit the receive buffer that any system grants.
    const WINDOW: usize = 64;
    const SIZE: usize = 32;

    pub(super) fn main() {
        let asked = std::env::args().skip(1).find(|word| word != "--bench");
        let count = asked.map_or(Ok(COUNT), |word| word.parse());
        let outcome = match count {
            Ok(count) => table(count),
            Err(_) => Err(io::Error::other("usage: [COUNT]")),
        };
        if let Err(error) = outcome {
            eprintln!("{error}");
            std::process::exit(1);
        }
    }

    struct Echo;

    impl Handler for Echo {
        type Session = ();

        fn on_datagram(&mut self, socket: &mut Socket<'_>, datagram: &Datagram<'_>) {
            socket.send_to(datagram.bytes(), datagram.from());
        }
    }

    struct Server {
        name: &'static str,
        addr: SocketAddr,
        clock: libc::clockid_t,
        /// Of windlass, to be asked for its counters.
        handle: Option<Handle<Echo>>,
    }

    fn start(name: &'static str, batch: Option<usize>) -> io::Result<Server> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let addr = socket.local_addr()?;
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            pin(0);
            let outcome = match batch {
                None => {
                    let _ = tell.send((thread_clock(), None));
                    one_by_one(&socket)
                }
                Some(batch) => windlass(socket, batch, |handle| {
                    let _ = tell.send((thread_clock(), Some(handle)));
                }),
            };
            if let Err(error) = outcome {
                eprintln!("{error}");
            }
        });
        let (clock, handle) = told.recv().map_err(io::Error::other)?;
        Ok(Server {
            name,
            addr,
            clock,
            handle,
        })
    }

    fn one_by_one(socket: &UdpSocket) -> io::Result<()> {
        let mut buffer = [0; 65_536];
        loop {
            let (n, from) = socket.recv_from(&mut buffer)?;
            socket.send_to(&buffer[..n], from)?;
        }
    }

    fn windlass(
        socket: UdpSocket,
        batch: usize,
        ready: impl FnOnce(Handle<Echo>),
    ) -> io::Result<()> {
        let mut config = Config::default();
        config.datagram_batch = batch;
        let mut reactor = Reactor::with_config(Echo, config)?;
        reactor.bind(Bind::adopt(OwnedFd::from(socket)))?;
        ready(reactor.handle());
        reactor.run().map(drop)
    }

    impl Server {
        fn stats(&self) -> Option<Stats> {
            let (tell, told) = mpsc::channel();
            let handle = self.handle.as_ref()?;
            let asked = handle.post(move |_, cx| {
                let _ = tell.send(cx.stats());
            });
            asked.ok().and_then(|()| told.recv().ok())
        }
    }

    fn table(count: usize) -> io::Result<()> {
        pin(1);
        let default = Config::default().datagram_batch;
        let servers = [
            start("one by one", None)?,
            start("one by one again", None)?,
            start("windlass, batch 1", Some(1))?,
            start("windlass", Some(default))?,
        ];
        let load = UdpSocket::bind("127.0.0.1:0")?;
        load.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut ratios = [const { Vec::new() }; 4];
        for _ in 0..ROUNDS {
            let mut spent = [0.0; 4];
            for (at, server) in servers.iter().enumerate() {
                let before = seconds(server.clock);
                echo(&load, server.addr, count / ROUNDS)?;
                spent[at] = seconds(server.clock) - before;
            }
            for at in 0..servers.len() {
                ratios[at].push(spent[0] / spent[at]);
            }
        }
        println!("{count} datagrams of {SIZE} bytes, {WINDOW} under way");
        println!(
            "{:>20} {:>10} {:>10} {:>10} {:>26}",
            "per datagram:", "receives", "sends", "polls", "processor time, 1 / ratio"
        );
        for (server, ratios) in servers.iter().zip(&mut ratios) {
            let per = |calls: u64| calls as f64 / count as f64;
            let (receives, sends, polls) = match server.stats() {
                Some(stats) => (per(stats.reads), per(stats.writes), per(stats.turns)),
                None => (1.0, 1.0, 0.0),
            };
            println!(
                "{:>20} {receives:>10.3} {sends:>10.3} {polls:>10.3} {:>26}",
                server.name,
                spread(ratios)
            );
        }
        Ok(())
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

    fn echo(load: &UdpSocket, addr: SocketAddr, count: usize) -> io::Result<()> {
        let mut buffer = [0; SIZE];
        let mut done = 0;
        while done < count {
            let burst = WINDOW.min(count - done);
            for n in 0..burst {
                buffer[..8].copy_from_slice(&((done + n) as u64).to_be_bytes());
                load.send_to(&buffer, addr)?;
            }
            for n in 0..burst {
                load.recv_from(&mut buffer)?;
                let expected = ((done + n) as u64).to_be_bytes();
                if buffer[..8] != expected {
                    return Err(io::Error::other("a datagram was lost or out of order"));
                }
            }
            done += burst;
        }
        Ok(())
    }
}
