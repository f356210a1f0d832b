//! The command line.

use std::io;
use std::str::FromStr;
use std::time::Duration;

const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The command line, from which one thing after the other is taken.
#[derive(Clone)]
pub(crate) struct Args(Vec<String>);

impl Args {
    pub(crate) fn new(given: Vec<String>) -> Self {
        Self(given)
    }

    /// Which of these is the first word, if one of them is.
    pub(crate) fn command<'a>(&mut self, names: &[&'a str]) -> Option<&'a str> {
        let first = self.0.first()?;
        let name = names.iter().find(|name| first == *name)?;
        self.0.remove(0);
        Some(name)
    }

    /// Whether `name` was given, such as `--reuse-port`.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let at = self.0.iter().position(|arg| arg == name);
        at.map(|at| self.0.remove(at)).is_some()
    }

    /// What was given behind `name`, such as `--workers 4`.
    pub(crate) fn option<T: FromStr>(&mut self, name: &str, default: T) -> io::Result<T> {
        let Some(at) = self.0.iter().position(|arg| arg == name) else {
            return Ok(default);
        };
        let given: Vec<String> = self.0.drain(at..self.0.len().min(at + 2)).collect();
        let value = given.get(1).and_then(|value| value.parse().ok());
        value.ok_or_else(|| nonsense(&given.join(" ")))
    }

    /// What is left: at most as many as there are defaults, which stand in for the others.
    pub(crate) fn rest<const N: usize>(self, defaults: [&str; N]) -> io::Result<[String; N]> {
        if let Some(arg) = self.0.get(N) {
            return Err(nonsense(arg));
        }
        let mut given = self.all()?.into_iter();
        Ok(defaults.map(|default| given.next().unwrap_or_else(|| default.to_owned())))
    }

    /// What is left, however much.
    pub(crate) fn all(self) -> io::Result<Vec<String>> {
        match self.0.iter().find(|arg| arg.starts_with('-')) {
            Some(arg) => Err(nonsense(arg)),
            None => Ok(self.0),
        }
    }
}

/// Such as `500ms`: not nothing, and not so long that no clock shows its end.
pub(crate) struct Time(pub(crate) Duration);

impl FromStr for Time {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        let time = humantime::parse_duration(text).ok();
        let time = time.filter(|it| !it.is_zero() && *it <= LONGEST);
        time.map(Self).ok_or_else(|| nonsense(text))
    }
}

/// The error of a command line that makes no sense.
pub(crate) fn refusal(why: &str) -> io::Error {
    io::Error::other(format!("{why}; --help tells more"))
}

fn nonsense(arg: &str) -> io::Error {
    refusal(&format!("`{arg}` makes no sense here"))
}
