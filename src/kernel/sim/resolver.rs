//! The simulated resolver: names, and questions that are answered one after the other.
//!
//! As the helper thread of the real kernel does it: a question waits until those before
//! it are answered, and a name that never answers holds up every question behind it. It
//! is told what time it is, and does not know who asks or who must be woken.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::net::Nanos;
use crate::kernel::{Errno, LookedUp, Ticket};

/// What it takes to answer.
#[derive(Debug)]
pub(super) struct Resolver {
    /// `None`: never answers.
    names: BTreeMap<String, Option<Vec<IpAddr>>>,
    /// Time that one answer takes.
    pub(super) delay: Nanos,
    /// In the order in which they were asked; the first is being answered.
    questions: VecDeque<Question>,
    /// When the first question is answered.
    due: Option<Nanos>,
    answers: Vec<LookedUp>,
}

#[derive(Debug)]
struct Question {
    ticket: Ticket,
    host: String,
    /// Scripted: the answer, whatever the name.
    failure: Option<Errno>,
}

impl Resolver {
    pub(super) fn new() -> Self {
        let localhost = vec![
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ];
        Self {
            names: BTreeMap::from([("localhost".to_owned(), Some(localhost))]),
            delay: 0,
            questions: VecDeque::new(),
            due: None,
            answers: Vec::new(),
        }
    }

    /// `None`: from now on, a question for this name is never answered.
    pub(super) fn set_name(&mut self, host: &str, addrs: Option<Vec<IpAddr>>) {
        self.names.insert(host.to_owned(), addrs);
    }

    /// The answer at once; `None` if it never comes. A literal is its own answer.
    pub(super) fn resolve(&self, host: &str) -> Option<io::Result<Vec<IpAddr>>> {
        if let Ok(ip) = host.parse() {
            return Some(Ok(vec![ip]));
        }
        let unknown = || io::Error::new(io::ErrorKind::NotFound, "no such host");
        match self.names.get(host) {
            Some(addrs) => addrs.clone().map(Ok),
            None => Some(Err(unknown())),
        }
    }

    pub(super) fn ask(&mut self, ticket: Ticket, host: &str, failure: Option<Errno>, now: Nanos) {
        self.questions.push_back(Question {
            ticket,
            host: host.to_owned(),
            failure,
        });
        if self.questions.len() == 1 {
            self.begin(now);
        }
    }

    /// When the next answer comes.
    pub(super) fn next_due(&self) -> Option<Nanos> {
        self.due
    }

    /// Gives the answers that are due at `now`; whether there was one.
    pub(super) fn advance_to(&mut self, now: Nanos) -> bool {
        let before = self.answers.len();
        while let Some(due) = self.due
            && due <= now
            && let Some(question) = self.questions.pop_front()
        {
            let addresses = match question.failure {
                Some(errno) => Some(Err(errno.into())),
                None => self.resolve(&question.host),
            };
            self.answers.extend(addresses.map(|addresses| LookedUp {
                ticket: question.ticket,
                addresses,
            }));
            self.begin(due);
        }
        self.answers.len() > before
    }

    /// Moves the answers given so far to `answers`.
    pub(super) fn take(&mut self, answers: &mut Vec<LookedUp>) {
        answers.append(&mut self.answers);
    }

    /// Turns to the first question at the instant `now`.
    fn begin(&mut self, now: Nanos) {
        let answers = |it: &Question| it.failure.is_some() || self.resolve(&it.host).is_some();
        let first = self.questions.front().filter(|it| answers(it));
        self.due = first.map(|_| now.saturating_add(self.delay));
    }
}
