//! The command line, the whole run, and the verdict.

#[path = "allocator.rs"]
mod allocator;
#[path = "http.rs"]
mod http;
#[path = "inside.rs"]
mod inside;
#[path = "load.rs"]
mod load;
#[path = "protocol.rs"]
mod protocol;
#[path = "../../examples/proxy.rs"]
#[allow(dead_code, reason = "its command line is for users")]
mod proxy;
#[path = "../../examples/resp/main.rs"]
#[allow(dead_code, reason = "its command line is for users")]
mod resp;
#[path = "servers.rs"]
mod servers;
#[path = "tempers.rs"]
mod tempers;
#[path = "watch.rs"]
mod watch;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::str::FromStr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use load::{Load, Target};
use servers::{COMPANIONS, INSIDE, PLANS, Place, Server};
use watch::Watched;

const MINUTES: u64 = 10;
const CLIENTS: usize = 300;
/// Memory is looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A server has warmed up after that, or after a quarter of a short run.
const WARM_UP: Duration = Duration::from_secs(60);
/// How many of a hundred clients go to each handler inside, roughly.
const INSIDE_SHARE: u32 = 5;

struct Options {
    time: Duration,
    clients: usize,
    seed: u64,
    wrong: String,
}

pub(crate) fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.first().map(String::as_str) {
        Some("inside") => inside::serve(args.get(1).map_or("", String::as_str)).map(|()| 0),
        _ => options(&args).and_then(|options| soak(&options)),
    };
    match done {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            println!("FAILED: {failed} complaints");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn options(args: &[String]) -> io::Result<Options> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut options = Options {
        time: Duration::from_secs(60 * MINUTES),
        clients: CLIENTS,
        seed: now.map_or(1, |it| it.as_secs()),
        wrong: String::new(),
    };
    // `cargo bench` adds this one.
    let mut args = args.iter().filter(|arg| *arg != "--bench");
    while let Some(name) = args.next() {
        let value = args.next().map_or("", String::as_str);
        match name.as_str() {
            "--minutes" => options.time = Duration::from_secs(60 * number::<u64>(value)?),
            "--seconds" => options.time = Duration::from_secs(number(value)?),
            "--clients" => options.clients = number(value)?,
            "--seed" => {
                let hex = value.strip_prefix("0x").unwrap_or(value);
                options.seed = u64::from_str_radix(hex, 16).map_err(io::Error::other)?;
            }
            "--wrong" => options.wrong = value.to_owned(),
            _ => return Err(io::Error::other(format!("`{name}` makes no sense here"))),
        }
    }
    Ok(options)
}

fn number<N: FromStr>(text: &str) -> io::Result<N> {
    let nonsense = |_| io::Error::other(format!("`{text}` is no number"));
    text.parse().map_err(nonsense)
}

/// Everything, from the building of the examples to the verdict: how many complaints there are.
fn soak(options: &Options) -> io::Result<usize> {
    let examples = build()?;
    let (mut watched, targets) = start(&examples, &options.wrong)?;
    let targets = Arc::new(targets);
    let (seconds, clients) = (options.time.as_secs(), options.clients);
    println!("{seconds} s, {clients} clients, seed {:#x}", options.seed);
    let load = Load::start(&targets, clients, options.seed);
    let warm = WARM_UP.min(options.time / 4);
    let began = Instant::now();
    while began.elapsed() < options.time {
        thread::sleep(LOOK_EVERY);
        let is_warm = began.elapsed() >= warm;
        watched.iter_mut().for_each(|it| it.look(is_warm));
    }
    let mut complaints = load.stop();
    for it in &mut watched {
        it.wait_for_quiet();
    }
    watched.iter_mut().for_each(|it| it.ask_counts(&targets));
    watched.iter().for_each(|it| it.server.tell_to_end());
    for it in &mut watched {
        it.end();
        complaints.extend(it.complaints());
    }
    watch::print(&watched, &targets);
    complaints.iter().for_each(|it| println!("{it}"));
    Ok(complaints.len())
}

/// Builds the examples, if they are not, and answers where they are.
fn build() -> io::Result<PathBuf> {
    // TARGET/release/deps/soak-0123456789abcdef
    let this = std::env::current_exe()?;
    let target = this.ancestors().nth(3).ok_or(io::ErrorKind::NotFound)?;
    println!("the examples are built, unless they are there");
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--release",
            "--examples",
            "--all-features",
            "--target-dir",
        ])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?;
    if !status.success() {
        return Err(io::Error::other("the examples cannot be built"));
    }
    Ok(target.join("release/examples"))
}

fn start(examples: &Path, wrong: &str) -> io::Result<(Vec<Watched>, Vec<Target>)> {
    let (mut watched, mut targets) = (Vec::new(), Vec::new());
    let mut places: Vec<(&str, Place)> = Vec::new();
    for plan in PLANS {
        let (server, place) = Server::planned(examples, plan, &places)?;
        places.push((plan.name, place.clone()));
        targets.push(Target::new(plan.name, plan.protocol, place, plan.share));
        watched.push(Watched::new(server));
    }
    for &companion in COMPANIONS {
        let server = Server::companion(examples, companion, &places)?;
        watched.push(Watched::new(server));
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["inside", wrong]);
    let server = Server::start("inside", command)?;
    let words = server.words()?;
    for ((name, protocol), place) in INSIDE.iter().zip(words.split_whitespace()) {
        let place = Place::Ip(place.parse().map_err(io::Error::other)?);
        targets.push(Target::new(name, *protocol, place, INSIDE_SHARE));
    }
    watched.push(Watched::new(server));
    // Those that dial have dialed, and what was opened for good is open.
    thread::sleep(LOOK_EVERY);
    watched.iter_mut().for_each(Watched::note_descriptors);
    Ok((watched, targets))
}
