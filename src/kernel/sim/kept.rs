//! Descriptors of the real process in a simulated one: watched, and standing for streams that
//! the loop has given away.
//!
//! A watched descriptor is asked what it is ready for whenever the loop polls, and never
//! waited for: its other end is in the hands of whoever runs the world. A stream that is
//! given away leaves as the reading end of a pipe, which nobody can read and which only
//! stands for it; given back it is the stream again, closed it is closed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::PipeWriter;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use super::SimKernel;
use super::fault::Call;
use super::names::Owner;
use super::net::Stage;
use super::table::Entry;
use crate::kernel::os::{is_watchable, ready_now};
use crate::kernel::{Adopted, Errno, Fault, Fd, Interest, Readiness, Transport};
use crate::token::Token;

/// What the simulated process has of the real one.
#[derive(Debug, Default)]
pub(super) struct Kept {
    watched: BTreeMap<Fd, Watched>,
    away: Vec<Away>,
}

#[derive(Debug)]
struct Watched {
    fd: OwnedFd,
    /// What it was ready for when last asked: what is new is an edge.
    seen: Readiness,
}

/// A stream that somebody outside of the loop holds.
#[derive(Debug)]
struct Away {
    link: usize,
    /// The other end of what stands for it.
    pipe: PipeWriter,
    /// Device and inode of the pipe.
    identity: (u64, u64),
}

impl Kept {
    /// What a watched descriptor is ready for now.
    pub(super) fn state(&self, fd: Fd) -> Readiness {
        let watched = self.watched.get(&fd);
        watched.map_or_else(Readiness::default, |it| ready_now(it.fd.as_fd()))
    }

    /// Those that are ready for something new.
    fn edges(&mut self) -> Vec<Fd> {
        let mut edges = Vec::new();
        for (&fd, it) in &mut self.watched {
            let ready = ready_now(it.fd.as_fd());
            if !it.seen.contains(ready) {
                edges.push(fd);
            }
            it.seen = ready;
        }
        edges
    }
}

/// The parts of verbs.
impl SimKernel {
    pub(super) fn try_keep(&mut self, fd: OwnedFd) -> Fd {
        let kept = self.table.take_in(Entry::Kept);
        let seen = Readiness::default();
        self.kept.watched.insert(kept, Watched { fd, seen });
        kept
    }

    pub(super) fn try_watch(
        &mut self,
        fd: Fd,
        token: Token,
        interest: Interest,
    ) -> Result<(), Errno> {
        self.table.get(fd, "watch")?;
        let it = self.kept.watched.get_mut(&fd).ok_or(Errno(libc::ENOTSUP))?;
        is_watchable(it.fd.as_fd())?;
        it.seen = ready_now(it.fd.as_fd());
        self.scripted(Call::Register)?;
        self.settle();
        self.poller.add(fd, token, interest)
    }

    pub(super) fn try_rewatch(&mut self, fd: Fd, token: Token) -> Result<(), Errno> {
        self.table.get(fd, "rewatch")?;
        self.scripted(Call::Rearm)?;
        self.settle();
        let ready = self.kept.state(fd) != Readiness::default();
        self.poller.name(fd, token)?;
        if ready {
            self.poller.mark(fd);
        }
        Ok(())
    }

    pub(super) fn try_release(&mut self, fd: Fd) -> Result<OwnedFd, Errno> {
        match self.table.get(fd, "release")? {
            Entry::Kept => {
                self.poller.remove(fd);
                self.table.close(fd, "release");
                let it = self.kept.watched.remove(&fd);
                it.map(|it| it.fd).ok_or(Errno(libc::EBADF))
            }
            Entry::Stream(link) => {
                let stand_in = self.give_away(link)?;
                self.poller.remove(fd);
                self.table.close(fd, "release");
                Ok(stand_in)
            }
            Entry::Listener(_) | Entry::Packets(_) | Entry::Spare => Err(Errno(libc::ENOTSUP)),
        }
    }

    fn give_away(&mut self, link: usize) -> Result<OwnedFd, Errno> {
        let failed = |error: std::io::Error| Errno(error.raw_os_error().unwrap_or(libc::EMFILE));
        let (reader, pipe) = std::io::pipe().map_err(failed)?;
        let stand_in = OwnedFd::from(reader);
        let identity = identity_of(&stand_in).ok_or(Errno(libc::EBADF))?;
        self.net.links[link].stage = Stage::Away;
        self.kept.away.push(Away {
            link,
            pipe,
            identity,
        });
        Ok(stand_in)
    }

    /// Takes a stream back that was given away; nothing else can be taken over here.
    pub(super) fn try_adopt(&mut self, fd: &OwnedFd) -> Result<Adopted, Fault> {
        let known = identity_of(fd)
            .and_then(|identity| self.kept.away.iter().position(|it| it.identity == identity));
        let place = known.ok_or(super::NO_DESCRIPTORS)?;
        let link = self.kept.away.swap_remove(place).link;
        let fd = self.table.take_in(Entry::Stream(link));
        let it = &mut self.net.links[link];
        it.stage = Stage::Open(fd);
        let records = it.up.keeps_bounds();
        Ok(Adopted {
            fd,
            transport: if records {
                Transport::Records
            } else {
                Transport::Stream
            },
            local: it.local_addr.clone(),
            peer: it.peer(),
        })
    }

    /// Notices what has become ready, and what was closed by whoever it was given to.
    pub(super) fn look_outside(&mut self) {
        for fd in self.kept.edges() {
            self.poller.mark(fd);
        }
        let gone = |it: &Away| ready_now(it.pipe.as_fd()).contains(Readiness::ERROR);
        let closed: Vec<usize> = self
            .kept
            .away
            .iter()
            .filter(|it| gone(it))
            .map(|it| it.link)
            .collect();
        self.kept.away.retain(|it| !closed.contains(&it.link));
        for link in closed {
            self.net.close(link);
            self.names.release(Owner::Stream(link));
            self.note(|| format!("client {link}: its other end was closed by whoever had it"));
        }
    }

    /// How many descriptors are watched.
    pub(crate) fn watched_descriptors(&self) -> usize {
        self.kept.watched.len()
    }

    pub(super) fn forget_kept(&mut self, fd: Fd) {
        self.kept.watched.remove(&fd);
    }
}

/// Which pipe or socket it is, whatever its number.
fn identity_of(fd: &OwnedFd) -> Option<(u64, u64)> {
    let file = File::from(fd.try_clone().ok()?);
    let found = file.metadata().ok()?;
    Some((found.dev(), found.ino()))
}
