//! What a run is: who serves, who loads, in which order. The rooms beside it:
//!
//! | room | owns |
//! |---|---|
//! | `workload` | the registry: add a family of workloads there, in one line |
//! | `echo`, `churn`, `sink` | the families: what is served, and what is asked for |
//! | `protocol`, `http`, `resp` | families of requests that have to be parsed |
//! | `fanout`, `udp`, `fairness` | families with loops of their own, or loads of their own |
//! | `answer` | what a server without a library of its own answers: one trait for all loops |
//! | `raw`, `mio_loop`, `tokio_tasks`, `threads` | the loops that take an `Answer` |
//! | `exchange` | the load: requests kept in flight on kept connections |
//! | `child` | a server as a process |
//! | `apart` | a load as a process |
//! | `rounds` | the measurement |
//! | `others` | what else the machine does meanwhile |
//! | `report`, `plot` | what the rounds say |
//! | `epoll`, `clock` | system calls |

mod answer;
mod apart;
mod child;
mod churn;
#[path = "../support/clock.rs"]
mod clock;
mod echo;
mod epoll;
mod exchange;
mod fairness;
mod fanout;
mod http;
mod mio_loop;
mod options;
mod others;
mod plot;
mod protocol;
mod raw;
mod report;
mod resp;
mod rounds;
mod sink;
mod threads;
mod tokio_tasks;
mod udp;
mod workload;

use std::io;
use std::net::SocketAddr;

use options::Command;
use workload::Kind;

pub(super) fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match options::parse(&words) {
        Ok(Command::Table(options)) => rounds::table(&options),
        Ok(Command::List) => list(),
        Ok(Command::Serve(kind, name, at)) => serve(kind, &name, at),
        Ok(Command::Load(name, at, requests)) => workload::named(&name)
            .and_then(|workload| workload.load(at)?.run(workload::Span::Requests(requests)))
            .map(drop),
        Ok(Command::Hold(at, connections)) => child::hold(at, connections),
        Ok(Command::LoadApart(name, at)) => apart::obey(&name, at),
        Err(error) => Err(error),
    };
    if let Err(error) = outcome {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn serve(kind: Kind, name: &str, at: SocketAddr) -> io::Result<()> {
    child::raise_descriptors()?;
    workload::named(name)?.serve(kind, at)
}

fn list() -> io::Result<()> {
    for workload in workload::all() {
        let servers: Vec<&str> = workload.servers().iter().map(|kind| kind.name()).collect();
        println!("{:<22} {}", workload.name(), workload.says());
        println!("{:<22} {}", "", servers.join(", "));
    }
    Ok(())
}
