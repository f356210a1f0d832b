//! The end: what was seen, and why, with the kernel's own counters where it keeps them.

use std::fs;
use std::io::{self, Write};

use crate::Plan;
use crate::picture::Picture;

pub(crate) fn explain(plan: Plan, seen: &Picture, before: Option<Counters>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let (at_once, waited) = (seen.at_once.len(), seen.waited.len());
    let slowest = seen.at_once.iter().max().copied().unwrap_or_default();
    writeln!(out, "\nWhat you saw\n")?;
    writeln!(
        out,
        "Answered at once: {at_once} dials, in {slowest:.1?} at most."
    )?;
    write!(out, "{HANDSHAKE}")?;
    if let Some((most, limit)) = seen.fullest {
        queue(&mut out, plan.backlog, most, limit)?;
    }
    if let Some(slowest) = seen.waited.iter().max() {
        writeln!(
            out,
            "\nKept waiting: {waited} dials, for {slowest:.1?} at most."
        )?;
        write!(out, "{FULL}")?;
    }
    match &seen.failed {
        Some(error) if error.is_timeout() => {
            write!(out, "\nThe last dial: {error}\n{SILENCE}")?;
        }
        Some(error) => writeln!(out, "\nThe last dial: {error}")?,
        None if waited == 0 => write!(out, "{TOO_FEW}")?,
        None => {}
    }
    if let (Some(before), Some(after)) = (before, counters()) {
        writeln!(out, "\nThe kernel's counters, over all listeners:")?;
        for (name, before, after) in [
            ("ListenOverflows", before.0, after.0),
            ("ListenDrops", before.1, after.1),
        ] {
            writeln!(out, "{name:<16} {before} before, {after} after")?;
        }
        write!(out, "{COUNTERS}")?;
    }
    write!(out, "{STOP}")
}

fn queue(out: &mut impl Write, asked: u32, most: u32, limit: u32) -> io::Result<()> {
    writeln!(
        out,
        "\nClients in the accept queue: {most} at most; its limit: {limit}."
    )?;
    writeln!(
        out,
        "The limit is what the server asked for as its backlog, {asked},"
    )?;
    match fs::read_to_string("/proc/sys/net/core/somaxconn") {
        Ok(most) => writeln!(out, "or net.core.somaxconn, {}, if less.", most.trim())?,
        Err(_) => writeln!(out, "or the system's own maximum, if less.")?,
    }
    if most > limit {
        writeln!(out, "Linux lets one more in than the limit says.")?;
    }
    Ok(())
}

/// ListenOverflows and ListenDrops, which Linux counts; other systems have no such file.
pub(crate) type Counters = (u64, u64);

pub(crate) fn counters() -> Option<Counters> {
    let text = fs::read_to_string("/proc/net/netstat").ok()?;
    let mut rows = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, values) = (rows.next()?, rows.next()?);
    let find = |wanted: &str| {
        let mut pairs = names.split_whitespace().zip(values.split_whitespace());
        pairs.find(|(name, _)| *name == wanted)?.1.parse().ok()
    };
    Some((find("ListenOverflows")?, find("ListenDrops")?))
}

const HANDSHAKE: &str = "\
A dial is over when the two kernels have shaken hands (SYN, SYN-ACK, ACK); the
program that listens has no part in it. While the handshake runs, the client
stands in the SYN queue; then in the accept queue, until the program accepts.
All that time the client takes itself for served.
";

const FULL: &str = "\
When the accept queue is full, the kernel drops a new client's SYN and says
nothing: no refusal, no error, not even a place in the SYN queue. The client's
kernel sends the SYN again, first after a second and later less often; the first
one that finds room is answered. So a dial waits for an accept, and then for its
own next SYN; where accepts are faster, a few dials get in after each such wait.
";

const TOO_FEW: &str = "
No dial met a full queue. With more --dials, or a smaller --backlog, one would.
";

const SILENCE: &str = "\
Seen from the client, a full queue is like a host that is not there: silence.
The program that did not accept was told nothing about this client.
";

const COUNTERS: &str = "\
The first counts each SYN that met a full accept queue, the second each that was
dropped, for this or another reason; one dial that waits sends several.
";

const STOP: &str = "
In the end the server stopped in good order: its listener accepted everybody who
stood in the queue, and then closed. Closing at once would have reset them.
";
