//! What is shown: lines that stay, and below them, on a terminal, a picture that moves.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use windlass::Error;

#[derive(Default)]
pub(crate) struct Picture {
    began: Option<Instant>,
    drawn: bool,
    pub(crate) dials: u32,
    /// Since when a dial has had no answer, and whether a line has said so.
    pub(crate) dialing: Option<Instant>,
    late: bool,
    /// How long the dials took that were answered.
    pub(crate) at_once: Vec<Duration>,
    pub(crate) waited: Vec<Duration>,
    pub(crate) failed: Option<Error>,
    pub(crate) accepted: u32,
    pub(crate) next_accept: Option<Instant>,
    /// Clients waiting, and the limit, where the system tells.
    pub(crate) queue: Option<(u32, u32)>,
    pub(crate) fullest: Option<(u32, u32)>,
}

impl Picture {
    /// Answers the number of that dial.
    pub(crate) fn dialed(&mut self, took: Duration, connected: bool) -> u32 {
        (self.dialing, self.late) = (None, false);
        match (connected, took < AT_ONCE) {
            (true, true) => self.at_once.push(took),
            (true, false) => self.waited.push(took),
            (false, _) => {}
        }
        self.answered()
    }

    fn answered(&self) -> u32 {
        (self.at_once.len() + self.waited.len()) as u32
    }

    /// Draws the picture again, and says once of a dial that it has to wait.
    pub(crate) fn frame(&mut self, now: Instant) {
        let late = self.dialing.is_some_and(|since| now - since >= AT_ONCE);
        if late && !self.late {
            self.late = true;
            let n = self.answered() + 1;
            return self.line(now, &format!("dial {n}: no answer, its SYN was dropped"));
        }
        self.show(now, "");
    }

    pub(crate) fn line(&mut self, now: Instant, what: &str) {
        self.fullest = self.fullest.max(self.queue);
        let at = (now - *self.began.get_or_insert(now)).as_secs_f64();
        self.show(now, &format!("{at:7.3} s  {what:<42} {}\n", self.waiting()));
    }

    fn waiting(&self) -> String {
        match self.queue {
            Some((waiting, limit)) => format!("waiting {waiting} of {limit}{}", bar(waiting)),
            None => "waiting ? (this system does not tell)".to_owned(),
        }
    }

    /// In one write, so that nothing flickers: takes the old picture away, lets `line` stay
    /// in its place, and draws the new one.
    fn show(&mut self, now: Instant, line: &str) {
        let mut out = io::stdout();
        let mut text = line.to_owned();
        if out.is_terminal() {
            let up = if self.drawn { ERASE } else { "" };
            text = format!("{up}{line}{}", self.drawing(now));
            self.drawn = true;
        }
        if out.write_all(text.as_bytes()).is_err() {
            // Nobody looks any more.
            std::process::exit(1);
        }
    }

    fn drawing(&self, now: Instant) -> String {
        let (dials, answered, accepted) = (self.dials, self.answered(), self.accepted);
        let silence = self.dialing.map(|since| now - since);
        let silence = seconds("no answer for", silence.filter(|time| *time >= AT_ONCE));
        let next = self.next_accept.map(|at| at.saturating_duration_since(now));
        let next = seconds("the next in", next);
        let (client, server) = (bar(answered), bar(accepted));
        let client = format!("connected {answered} of {dials}{client}  {silence}");
        let server = format!("accepted {accepted}{server}  {next}");
        let queue = self.waiting();
        format!("{NO_WRAP}\n  client  {client}\n  kernel  {queue}\n  server  {server}{WRAP}\n")
    }
}

fn seconds(what: &str, time: Option<Duration>) -> String {
    time.map_or_else(String::new, |time| {
        format!("{what} {:.1} s", time.as_secs_f64())
    })
}

fn bar(n: u32) -> String {
    let gap = if n > 0 { " " } else { "" };
    format!("{gap}{}", "▇".repeat(n.min(LONGEST_BAR) as usize))
}

/// A dial that takes less met no full queue: a SYN is repeated after a second at the earliest.
const AT_ONCE: Duration = Duration::from_millis(500);
const LONGEST_BAR: u32 = 30;
/// Four lines up, and everything from there on away.
const ERASE: &str = "\x1b[4A\x1b[J";
// A line that is too long for the terminal must not become two.
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";
