//! A load as a process of its own, for one whose descriptors are too many to be had beside
//! those of the other servers' loads.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use super::child::{self, Process};
use super::clock;
use super::workload::{self, Load, Span, Workload};

/// What each end says.
const TIME: &str = "nanoseconds";
const REQUESTS: &str = "requests";

pub(crate) struct Apart {
    process: Process,
    clock: libc::clockid_t,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Apart {
    pub(crate) fn start(workload: &dyn Workload, at: SocketAddr) -> io::Result<Self> {
        let words = ["load-apart", workload.name(), &at.to_string()];
        let mut process = Process::spawn(&words, Stdio::piped())?;
        let (Some(orders), Some(answers)) = process.pipes() else {
            return Err(io::Error::other("a process without its pipes"));
        };
        let mut apart = Self {
            clock: process.clock()?,
            process,
            orders,
            answers,
        };
        apart.hear().map(|_ready| apart)
    }

    fn hear(&mut self) -> io::Result<u64> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let said = line.trim_end().parse();
        said.map_err(|_| io::Error::other("the process of the load ended"))
    }
}

impl Load for Apart {
    fn run(&mut self, span: Span) -> io::Result<u64> {
        clock::share_processors_with(self.process.id());
        match span {
            Span::Time(time) => writeln!(self.orders, "{TIME} {}", time.as_nanos())?,
            Span::Requests(requests) => writeln!(self.orders, "{REQUESTS} {requests}")?,
        }
        self.hear()
    }

    fn elsewhere(&self) -> f64 {
        clock::seconds(self.clock)
    }
}

/// The other end: connects, says so, and runs as it is told until nobody is left to tell.
pub(crate) fn obey(name: &str, at: SocketAddr) -> io::Result<()> {
    child::raise_descriptors()?;
    let mut load = workload::named(name)?.load(at)?;
    println!("0");
    for line in io::stdin().lines() {
        println!("{}", load.run(order(&line?)?)?);
    }
    Ok(())
}

fn order(line: &str) -> io::Result<Span> {
    let order = line.split_once(' ').and_then(|(what, number)| {
        let number = number.parse().ok()?;
        match what {
            TIME => Some(Span::Time(Duration::from_nanos(number))),
            REQUESTS => Some(Span::Requests(number)),
            _ => None,
        }
    });
    order.ok_or_else(|| io::Error::other(format!("{line}?")))
}
