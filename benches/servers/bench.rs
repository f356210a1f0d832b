//! What a run is: who serves, who loads, in which order. The rooms beside it:
//!
//! | room | owns |
//! |---|---|
//! | `workload` | the registry: add a family of workloads there, in one line |
//! | `echo` | a family: what its servers answer, and what is sent to them |
//! | `answer` | what a server without a library of its own answers: one trait for all loops |
//! | `raw`, `mio_loop`, `tokio_tasks`, `threads` | the loops that take an `Answer` |
//! | `exchange` | the load: requests kept in flight on kept connections |
//! | `child` | a server as a process |
//! | `rounds` | the measurement |
//! | `epoll`, `clock` | system calls |

mod answer;
mod child;
#[path = "../support/clock.rs"]
mod clock;
mod echo;
mod epoll;
mod exchange;
mod mio_loop;
mod options;
mod raw;
mod report;
mod rounds;
mod threads;
mod tokio_tasks;
mod workload;

use std::io;

use options::Command;

pub(super) fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match options::parse(&words) {
        Ok(Command::Table(options)) => rounds::table(&options),
        Ok(Command::List) => list(),
        Ok(Command::Serve(kind, name, at)) => {
            workload::named(&name).and_then(|workload| workload.serve(kind, at))
        }
        Ok(Command::Load(name, at, requests)) => workload::named(&name)
            .and_then(|workload| workload.load(at)?.run(workload::Span::Requests(requests)))
            .map(drop),
        Ok(Command::Hold(at, connections)) => child::hold(at, connections),
        Err(error) => Err(error),
    };
    if let Err(error) = outcome {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn list() -> io::Result<()> {
    for workload in workload::all() {
        let servers: Vec<&str> = workload.servers().iter().map(|kind| kind.name()).collect();
        println!("{:<18} {}", workload.name(), workload.says());
        println!("{:<18} {}", "", servers.join(", "));
    }
    Ok(())
}
