//! The only thing another thread may hold: post closures, ask for a stop.
//!
//! Posts wait in a bounded mailbox. The first one wakes the loop; those that follow before
//! it looks cost no system call.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

// What the protocol rests on. tests/loom puts a model checker's in their place.
#[cfg(windlass_loom)]
use crate::sync::{AtomicBool, Mutex, MutexGuard};
#[cfg(not(windlass_loom))]
use std::sync::{Mutex, MutexGuard, atomic::AtomicBool};

use crate::context::{Conn, Context};
use crate::faults::fault;
use crate::handler::Handler;
use crate::kernel::Wake;
use crate::token::{ConnId, Owner};

type Task<H> = Box<dyn FnOnce(&mut H, &mut Context<'_>) + Send>;
type ConnTask<H> =
    Box<dyn FnOnce(&mut H, &mut Conn<'_>, &mut <H as Handler>::Session) -> io::Result<()> + Send>;

/// A way into a running loop from other threads. Cheap to clone, and harmless to keep:
/// when the loop is gone it answers [`PostError::Stopped`].
///
/// ```no_run
/// # struct App { greeted: u64 }
/// # impl windlass::Handler for App { type Session = (); }
/// # let mut reactor = windlass::Reactor::new(App { greeted: 0 }).unwrap();
/// let handle = reactor.handle();
/// std::thread::spawn(move || handle.post(|app, _cx| app.greeted += 1));
/// ```
pub struct Handle<H: Handler> {
    way: Way<H>,
}

/// Where posts go.
enum Way<H: Handler> {
    /// Straight into the mailbox of the loop whose handler this is.
    Straight(Arc<Mailbox<H>>),
    /// Through the handler that this one is a part of.
    Through(Arc<dyn Mail<H>>),
}

/// Takes posts for a handler that is not a loop's own.
pub(crate) trait Mail<H: Handler>: Send + Sync {
    fn push(&self, post: Post<H>) -> Result<(), PostError>;
    fn shutdown(&self, grace: Duration) -> Result<(), PostError>;
}

impl<H: Handler> Handle<H> {
    /// Has `task` run on the loop's thread, with the handler, in the order of posting. It
    /// is dropped unrun if the loop stops first.
    ///
    /// # Errors
    ///
    /// [`PostError::Full`] when [`Config::mailbox_limit`](crate::Config::mailbox_limit)
    /// tasks are waiting, [`PostError::Stopped`] when the loop has ended.
    pub fn post(
        &self,
        task: impl FnOnce(&mut H, &mut Context<'_>) + Send + 'static,
    ) -> Result<(), PostError> {
        self.push(Post::Loop {
            owner: Owner::default(),
            task: Box::new(task),
        })
    }

    /// Has `task` run with one connection and its session, like a callback of that
    /// connection: `Err` closes it. Dropped unrun if the connection is gone by then.
    ///
    /// # Errors
    ///
    /// As [`post`](Self::post).
    pub fn post_to(
        &self,
        id: ConnId,
        task: impl FnOnce(&mut H, &mut Conn<'_>, &mut H::Session) -> io::Result<()> + Send + 'static,
    ) -> Result<(), PostError> {
        self.push(Post::Conn {
            id,
            owner: None,
            task: Box::new(task),
        })
    }

    /// Begins a graceful stop, as [`Context::shutdown`] does. Works with a full mailbox,
    /// too.
    ///
    /// # Errors
    ///
    /// [`PostError::Stopped`] when the loop has ended already.
    pub fn shutdown(&self, grace: Duration) -> Result<(), PostError> {
        match &self.way {
            Way::Straight(mailbox) => mailbox.shutdown(grace),
            Way::Through(mail) => mail.shutdown(grace),
        }
    }

    pub(crate) fn by_way_of(mail: Arc<dyn Mail<H>>) -> Self {
        let way = Way::Through(mail);
        Self { way }
    }

    pub(crate) fn push(&self, post: Post<H>) -> Result<(), PostError> {
        match &self.way {
            Way::Straight(mailbox) => mailbox.push(post),
            Way::Through(mail) => mail.push(post),
        }
    }
}

impl<H: Handler> Clone for Handle<H> {
    fn clone(&self) -> Self {
        let way = match &self.way {
            Way::Straight(mailbox) => Way::Straight(Arc::clone(mailbox)),
            Way::Through(mail) => Way::Through(Arc::clone(mail)),
        };
        Self { way }
    }
}

impl<H: Handler> fmt::Debug for Handle<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// Why a post was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PostError {
    /// The mailbox is at its limit: the loop is behind. Try again later, or drop work.
    Full,
    /// The loop has ended. Nothing posted will ever run.
    Stopped,
}

impl fmt::Display for PostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the mailbox is full",
            Self::Stopped => "the loop has stopped",
        })
    }
}

impl std::error::Error for PostError {}

impl From<PostError> for io::Error {
    fn from(error: PostError) -> Self {
        let kind = match error {
            PostError::Full => io::ErrorKind::WouldBlock,
            PostError::Stopped => io::ErrorKind::BrokenPipe,
        };
        Self::new(kind, error)
    }
}

/// The loop's end of the mailbox. When it goes, every handle answers `Stopped`.
pub(crate) struct Inbox<H: Handler>(Arc<Mailbox<H>>);

impl<H: Handler> Inbox<H> {
    pub(crate) fn new(limit: usize, wake: Arc<dyn Wake>) -> Self {
        let inside = Inside {
            posts: VecDeque::new(),
            grace: None,
            stopped: false,
        };
        let rung = AtomicBool::new(false);
        Self(Arc::new(Mailbox {
            inside: Mutex::new(inside),
            rung,
            limit,
            wake,
        }))
    }

    pub(crate) fn handle(&self) -> Handle<H> {
        let way = Way::Straight(Arc::clone(&self.0));
        Handle { way }
    }

    /// Whether the loop has anything to collect. No lock, no system call.
    pub(crate) fn is_rung(&self) -> bool {
        self.0.rung.load(Ordering::Acquire)
    }

    /// Moves at most `most` posts to `tasks`, and answers a stop that was asked for.
    pub(crate) fn collect(&self, tasks: &mut VecDeque<Post<H>>, most: usize) -> Option<Duration> {
        let mut inside = self.0.lock();
        let n = inside.posts.len().min(most);
        tasks.extend(inside.posts.drain(..n));
        if fault!(PostsReversed) {
            tasks.make_contiguous().reverse();
        }
        // Under the lock, so that no post can slip between the look and the answer.
        self.0.rung.store(
            !inside.posts.is_empty() && !fault!(PostsForgotten),
            Ordering::Release,
        );
        inside.grace.take()
    }

    /// From now on every post is refused. What waited is dropped outside the lock: it may
    /// hold handles itself.
    pub(crate) fn stop(&self) {
        let mut inside = self.0.lock();
        inside.stopped = true;
        let unrun = std::mem::take(&mut inside.posts);
        drop(inside);
        drop(unrun);
    }
}

impl<H: Handler> Drop for Inbox<H> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Something for the loop to run.
pub(crate) enum Post<H: Handler> {
    /// With the handler, and a context of that owner's.
    Loop { owner: Owner, task: Task<H> },
    /// With a connection and its session, if it is that owner's; without one, whosever.
    Conn {
        id: ConnId,
        owner: Option<Owner>,
        task: ConnTask<H>,
    },
}

/// What handles and loop share.
struct Mailbox<H: Handler> {
    inside: Mutex<Inside<H>>,
    /// There is something inside and the loop has been woken for it.
    rung: AtomicBool,
    limit: usize,
    wake: Arc<dyn Wake>,
}

struct Inside<H: Handler> {
    posts: VecDeque<Post<H>>,
    grace: Option<Duration>,
    stopped: bool,
}

impl<H: Handler> Mailbox<H> {
    fn push(&self, post: Post<H>) -> Result<(), PostError> {
        let mut inside = self.lock();
        if inside.stopped && !fault!(StoppedTakesPosts) {
            return Err(PostError::Stopped);
        }
        if inside.posts.len() >= self.limit && !fault!(MailboxUnbounded) {
            return Err(PostError::Full);
        }
        inside.posts.push_back(post);
        drop(inside);
        self.ring();
        Ok(())
    }

    fn shutdown(&self, grace: Duration) -> Result<(), PostError> {
        let mut inside = self.lock();
        if inside.stopped {
            return Err(PostError::Stopped);
        }
        inside.grace = Some(inside.grace.map_or(grace, |earlier| earlier.min(grace)));
        drop(inside);
        self.ring();
        Ok(())
    }

    fn ring(&self) {
        if fault!(PostDoesNotRing) {
            return;
        }
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.wake.wake();
        }
    }

    /// No code of the application runs under this lock, so a poisoned one is still sound.
    fn lock(&self) -> MutexGuard<'_, Inside<H>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
