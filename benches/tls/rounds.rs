//! The rounds, and the table.

use std::io;

use super::clients::{Clients, Configs};
use super::clock::pin;
use super::servers::{Kind, Server};

const CLIENT_PROCESSOR: usize = 1;

/// Idle connections whose memory is counted.
const CROWD: usize = 500;

struct Work {
    name: &'static str,
    connections: usize,
    message: usize,
    /// Exchanges on each connection in one round; 0: each round connects anew.
    exchanges: usize,
}

const WORKS: [Work; 4] = [
    Work {
        name: "64 bytes x 50",
        connections: 50,
        message: 64,
        exchanges: 100,
    },
    Work {
        name: "4 KiB x 50",
        connections: 50,
        message: 4 * 1024,
        exchanges: 40,
    },
    Work {
        name: "256 KiB x 4",
        connections: 4,
        message: 256 * 1024,
        exchanges: 20,
    },
    Work {
        name: "handshakes",
        connections: 100,
        message: 1,
        exchanges: 0,
    },
];

/// windlass, windlass once more, and tokio-rustls.
const KINDS: [Kind; 3] = [Kind::Windlass, Kind::Windlass, Kind::Tokio];

pub(crate) fn main() -> io::Result<()> {
    let rounds = match std::env::args()
        .skip(1)
        .filter(|it| it != "--bench")
        .collect::<Vec<_>>()[..]
    {
        [] => 15,
        [ref word] if word == "--quick" => 3,
        _ => return Err(io::Error::other("usage: [--quick]")),
    };
    pin(CLIENT_PROCESSOR);
    let configs = Configs::new()?;
    let mut servers = Vec::new();
    for (at, kind) in KINDS.into_iter().enumerate() {
        servers.push(Server::start(kind, at + 1, configs.server.clone())?);
    }
    println!("processor time of tokio-rustls over that of windlass, medians of {rounds} rounds");
    println!("{:<16} {:>28} {:>28}", "", "control", "tokio-rustls");
    for work in WORKS {
        let [control, tokio] = measure(&work, rounds, &configs, &servers)?;
        println!("{:<16} {control:>28} {tokio:>28}", work.name);
    }
    memory(&configs, &servers)
}

fn measure(
    work: &Work,
    rounds: usize,
    configs: &Configs,
    servers: &[Server],
) -> io::Result<[String; 2]> {
    let mut clients = Vec::new();
    for server in servers {
        clients.push(Clients::connect(configs, server.addr, work.connections)?);
    }
    let mut ratios = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        let mut took = [0.0; KINDS.len()];
        for turn in 0..KINDS.len() {
            // Each round begins with another one.
            let at = (round + turn) % KINDS.len();
            let before = servers[at].processor();
            if work.exchanges == 0 {
                Clients::connect(configs, servers[at].addr, work.connections)?;
            }
            for _ in 0..work.exchanges {
                clients[at].exchange(work.message)?;
            }
            took[at] = servers[at].processor() - before;
        }
        ratios[0].push(took[1] / took[0]);
        ratios[1].push(took[2] / took[0]);
    }
    Ok(ratios.map(|mut ratios| spread(&mut ratios)))
}

/// What an idle connection holds that has been used once; of a task of tokio's the buffer that
/// it reads into is a part.
fn memory(configs: &Configs, servers: &[Server]) -> io::Result<()> {
    for (at, name) in [(0, "windlass"), (2, "tokio-rustls")] {
        let before = servers[at].memory();
        let clients = Clients::connect(configs, servers[at].addr, CROWD)?;
        let held = (servers[at].memory() - before) / CROWD as i64;
        drop(clients);
        println!("{held:>16} bytes for each idle connection: {name}");
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
