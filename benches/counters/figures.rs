//! Which figures there are, and what bounds hold for those of windlass.

mod allocations;
mod callgrind;
mod child;
mod load;
mod memory;
mod mio_loop;
mod os;
mod servers;
mod strace;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::mpsc;
use std::thread;

use callgrind::Profile;
use child::Counts;
use load::{Load, Workload};
use memory::Idle;
use servers::{Door, Server};
use strace::Calls;

// Bounds: the bar, or what there is with a few per cent.

/// A receive and a send; 0.03 is for the poll that fifty connections share.
const CALLS_OF_AN_ECHO: f64 = 2.03;
/// accept4, epoll_ctl, two times recvfrom, sendto and close, and the polls that fifty
/// connections share.
const CALLS_OF_A_CONNECTION: f64 = 6.1;
/// The bar is 200.
const INSTRUCTIONS_OF_AN_ECHO: f64 = 190.0;
/// With a turn of the loop for each. No bar but that it does not rise.
const INSTRUCTIONS_OF_A_LONE_ECHO: f64 = 545.0;
/// One read and one write for sixteen. No bar but that it does not rise.
const INSTRUCTIONS_OF_A_DEEP_ECHO: f64 = 19.0;
/// The bar. The more of them share a poll, the further below they are: 750 at 24, 760 at 19.
const INSTRUCTIONS_OF_A_CONNECTION: f64 = 780.0;
/// Bytes that move only note the time; the timer looks at it when it fires.
const INSTRUCTIONS_OF_AN_IDLE_TIMEOUT: f64 = 10.0;
/// Of `set_read_deadline` in each `on_read`, with the sum that it is given. No bar but that it
/// does not rise.
const INSTRUCTIONS_OF_A_READ_DEADLINE: f64 = 84.0;
/// In the steady state there are none.
const ALLOCATIONS: f64 = 0.0;
/// With a session of no size, and its idle deadline.
const BYTES_OF_AN_IDLE_CONNECTION: f64 = 128.0;

/// Enough for three digits.
const OF_INSTRUCTIONS: Counts = Counts {
    few: 5_000,
    many: 25_000,
};
/// Sixteen need as many turns as one elsewhere.
const OF_DEEP_ONES: Counts = Counts {
    few: 80_000,
    many: 400_000,
};
const OF_CONNECTIONS: Counts = Counts {
    few: 1_000,
    many: 5_000,
};
/// Until every buffer has its size, and what is counted then.
const WARM_UP: usize = 5_000;
const STEADY: usize = 20_000;
/// Functions and lines that a profile shows, and what they must have at least.
const MOST_SHOWN: usize = 60;
const LEAST_SHOWN: f64 = 0.5;

const PEERS: [Server; 3] = [Server::Raw, Server::Mio, Server::Windlass];

pub(crate) fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let Err(error) = command(&words) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn command(words: &[&str]) -> io::Result<()> {
    match words {
        [] => all(""),
        ["--only", text] => all(text),
        ["profile", workload] => profile(Server::Windlass, workload.parse()?),
        ["profile", workload, server] => profile(server.parse()?, workload.parse()?),
        ["serve", server, workload] => servers::serve(server.parse()?, workload.parse()?),
        ["load", addr, workload, requests] => {
            let addr = addr.parse().map_err(io::Error::other)?;
            let requests = requests.parse().map_err(io::Error::other)?;
            let done = Load::connect(workload.parse()?, addr)?.run(requests)?;
            println!("{done} requests");
            Ok(())
        }
        _ => Err(io::Error::other(
            "usage: [--only TEXT | profile WORKLOAD [SERVER] | serve SERVER WORKLOAD \
             | load ADDR WORKLOAD REQUESTS]",
        )),
    }
}

fn all(only: &str) -> io::Result<()> {
    os::stay_here();
    let mut table = Table {
        only: only.to_owned(),
        shown: 0,
        exceeded: Vec::new(),
        profiles: HashMap::new(),
    };
    println!("{:<38} {:>9} {:>9}", "figure", "counted", "bound");
    table.calls()?;
    table.instructions()?;
    table.allocations()?;
    table.memory()?;
    table.verdict()
}

/// Prints figures as they come, and remembers those that are too high.
struct Table {
    only: String,
    shown: usize,
    exceeded: Vec<String>,
    profiles: HashMap<(Server, Workload), Profile>,
}

impl Table {
    fn calls(&mut self) -> io::Result<()> {
        let bounds = [
            (Workload::Echo50, CALLS_OF_AN_ECHO),
            (Workload::Churn, CALLS_OF_A_CONNECTION),
        ];
        for (workload, bound) in bounds {
            for server in PEERS {
                let name = format!("calls/{workload}/{server}");
                if self.wants(&name) {
                    let calls = Calls::count(server, workload)?;
                    let note = format!("{}; {}", calls.list(), events(polls_of(&calls)));
                    self.show(&name, calls.total(), of_ours(server, bound), &note);
                }
            }
        }
        Ok(())
    }

    fn instructions(&mut self) -> io::Result<()> {
        let bounds = [
            (Workload::Echo50, INSTRUCTIONS_OF_AN_ECHO),
            (Workload::Echo1, INSTRUCTIONS_OF_A_LONE_ECHO),
            (Workload::Deep16, INSTRUCTIONS_OF_A_DEEP_ECHO),
            (Workload::Churn, INSTRUCTIONS_OF_A_CONNECTION),
        ];
        for (workload, bound) in bounds {
            for server in PEERS {
                let name = format!("instructions/{workload}/{server}");
                if self.wants(&name) {
                    let profile = self.profile(server, workload)?;
                    let (total, note) = (profile.total, events(profile.calls("epoll_wait")));
                    self.show(&name, total, of_ours(server, bound), &note);
                }
            }
        }
        let (less, more) = (Server::NoIdle, Server::Windlass);
        self.added("idle", more, less, INSTRUCTIONS_OF_AN_IDLE_TIMEOUT)?;
        let (less, more) = (Server::Windlass, Server::Deadline);
        self.added("deadline", more, less, INSTRUCTIONS_OF_A_READ_DEADLINE)
    }

    /// What one server needs more than the other, for one echo.
    fn added(&mut self, what: &str, more: Server, less: Server, bound: f64) -> io::Result<()> {
        let name = format!("instructions/echo50/+{what}");
        if self.wants(&name) {
            let with = self.profile(more, Workload::Echo50)?.total;
            let without = self.profile(less, Workload::Echo50)?.total;
            let note = format!("{more} {with:.1}, {less} {without:.1}");
            self.show(&name, with - without, Some(bound), &note);
        }
        Ok(())
    }

    fn allocations(&mut self) -> io::Result<()> {
        for workload in Workload::ALL {
            let name = format!("allocations/{workload}/windlass");
            if self.wants(&name) {
                let (each, note) = allocations_of(workload)?;
                self.show(&name, each, Some(ALLOCATIONS), &note);
            }
        }
        Ok(())
    }

    fn memory(&mut self) -> io::Result<()> {
        for server in PEERS {
            let names = ["opened", "used"].map(|state| format!("memory/{state}/{server}"));
            if names.iter().any(|name| self.wants(name)) {
                let idle = Idle::measure(server)?;
                let few = if idle.fewer {
                    " only: descriptors are few"
                } else {
                    ""
                };
                let note = format!("bytes of each of {} connections{few}", idle.connections);
                let bound = of_ours(server, BYTES_OF_AN_IDLE_CONNECTION);
                self.show(&names[0], idle.opened, bound, &note);
                self.show(&names[1], idle.used, bound, &note);
            }
        }
        Ok(())
    }

    fn wants(&self, name: &str) -> bool {
        name.contains(&self.only)
    }

    fn profile(&mut self, server: Server, workload: Workload) -> io::Result<&Profile> {
        Ok(match self.profiles.entry((server, workload)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(counted(server, workload)?),
        })
    }

    fn show(&mut self, name: &str, counted: f64, bound: Option<f64>, note: &str) {
        self.shown += 1;
        let above = bound.is_some_and(|bound| counted > bound);
        let bound = bound.map_or_else(String::new, |bound| bound.to_string());
        let mark = if above { " EXCEEDED" } else { "" };
        println!("{name:<38} {counted:>9.3} {bound:>9}{mark}  {note}");
        if above {
            self.exceeded
                .push(format!("{name}: {counted:.3} > {bound}"));
        }
    }

    fn verdict(self) -> io::Result<()> {
        if self.shown == 0 {
            return Err(io::Error::other(format!(
                "no figure's name contains {}",
                self.only
            )));
        }
        if self.exceeded.is_empty() {
            return Ok(());
        }
        let which = self.exceeded.join("\n");
        Err(io::Error::other(format!("above their bounds:\n{which}")))
    }
}

/// The others have no bound.
fn of_ours(server: Server, bound: f64) -> Option<f64> {
    (server == Server::Windlass).then_some(bound)
}

fn polls_of(calls: &Calls) -> f64 {
    calls.of("epoll_wait") + calls.of("epoll_pwait")
}

fn events(polls: f64) -> String {
    format!("{:.1} requests per poll", 1.0 / polls)
}

fn counted(server: Server, workload: Workload) -> io::Result<Profile> {
    let counts = match workload {
        Workload::Churn => OF_CONNECTIONS,
        Workload::Deep16 => OF_DEEP_ONES,
        _ => OF_INSTRUCTIONS,
    };
    Profile::count(server, workload, counts)
}

/// Per request of a warm server on a thread of this process.
fn allocations_of(workload: Workload) -> io::Result<(f64, String)> {
    let door = Door::open(workload)?;
    let addr = door.addr()?;
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        allocations::count_this_thread();
        os::step_back();
        // Nobody listens when the figure is known.
        let _ = tell.send(servers::run(Server::Windlass, workload, door));
    });
    let mut load = Load::connect(workload, addr)?;
    load.run(WARM_UP)?;
    let before = allocations::so_far();
    let requests = load.run(STEADY)?;
    let counted = allocations::so_far() - before;
    if let Ok(ended) = told.try_recv() {
        ended?;
    }
    let note = format!("{counted} in {requests} requests");
    Ok((counted as f64 / requests as f64, note))
}

/// Functions and lines by the instructions that they spend for one request.
fn profile(server: Server, workload: Workload) -> io::Result<()> {
    os::stay_here();
    let profile = counted(server, workload)?;
    println!(
        "{server}, {workload}: {:.1} instructions per request, {}\n",
        profile.total,
        events(profile.calls("epoll_wait"))
    );
    show_functions(&profile);
    show_lines(&profile);
    Ok(())
}

fn show_functions(profile: &Profile) {
    println!("{:>9} {:>9} {:>7}  function", "self", "inclusive", "calls");
    let mut functions: Vec<_> = profile.functions.iter().collect();
    functions.sort_by(|a, b| f64::total_cmp(&b.1.own, &a.1.own));
    functions.retain(|(_, of)| of.own >= LEAST_SHOWN);
    for (name, of) in functions.iter().take(MOST_SHOWN) {
        println!(
            "{:>9.1} {:>9.1} {:>7.3}  {name}",
            of.own, of.inclusive, of.calls
        );
    }
}

/// Where the code was written, whatever it was inlined into.
fn show_lines(profile: &Profile) {
    println!("\n{:>9}  line", "self");
    let mut lines: Vec<_> = profile.lines.iter().collect();
    lines.sort_by(|a, b| f64::total_cmp(b.1, a.1));
    lines.retain(|(_, own)| **own >= LEAST_SHOWN);
    for (line, own) in lines.iter().take(MOST_SHOWN) {
        println!("{own:>9.1}  {line}");
    }
}
