//! Names to addresses, on a thread beside the loop; names of interfaces; tables of names.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use super::OsWaker;
use crate::kernel::{LookedUp, Ticket, Wake};

/// As debuggers and `top -H` show it, where Linux cuts it after 15 bytes.
const RESOLVER_THREAD: &str = "windlass-resolver";

/// Bytes of a table that are read. The largest in use have less than a tenth of it.
const LARGEST_TABLE: u64 = 4 << 20;

/// Looks names up on a thread of its own, because the system's resolver blocks. The thread
/// is started by the first look-up, since most servers never need it.
#[derive(Debug)]
pub(super) struct Resolver {
    /// To the thread, if there is one. It ends when this is dropped.
    pub(super) questions: Option<Sender<Question>>,
    pub(super) answers: Arc<Answers>,
}

#[derive(Debug)]
pub(super) struct Question {
    pub(super) ticket: Ticket,
    pub(super) host: String,
}

impl Resolver {
    pub(super) fn new(waker: Arc<OsWaker>) -> Self {
        Self {
            questions: None,
            answers: Arc::new(Answers {
                came: AtomicBool::new(false),
                list: Mutex::default(),
                waker,
            }),
        }
    }

    pub(super) fn look_up(&mut self, ticket: Ticket, host: &str) {
        let host = host.to_owned();
        if let Err(error) = self.ask(Question { ticket, host }) {
            self.answers.announce(LookedUp {
                ticket,
                addresses: Err(error),
            });
        }
    }

    /// Passes a question on. If that fails there is no thread: the next one starts it anew.
    fn ask(&mut self, question: Question) -> io::Result<()> {
        let questions = match self.questions.take() {
            Some(questions) => questions,
            None => self.start()?,
        };
        questions.send(question).map_err(io::Error::other)?;
        self.questions = Some(questions);
        Ok(())
    }

    fn start(&self) -> io::Result<Sender<Question>> {
        let (questions, asked) = mpsc::channel();
        let answers = Arc::downgrade(&self.answers);
        // Never joined: it may be in the middle of a look-up when the kernel is dropped, and
        // that can take the resolver a minute. A process that exits doesn't wait for it either.
        thread::Builder::new()
            .name(RESOLVER_THREAD.to_owned())
            .spawn(move || {
                refuse_signals();
                answer_all(&asked, &answers);
            })?;
        Ok(questions)
    }
}

/// What has been looked up and not been fetched yet.
#[derive(Debug)]
pub(super) struct Answers {
    /// Whether there is anything in the list. Changed only under its lock.
    came: AtomicBool,
    pub(super) list: Mutex<Vec<LookedUp>>,
    waker: Arc<OsWaker>,
}

impl Answers {
    fn announce(&self, answer: LookedUp) {
        // No one panics while holding the lock; but if so, the list would still be whole.
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(answer);
        self.came.store(true, Ordering::Release);
        drop(list);
        self.waker.wake();
    }

    /// An answer that is announced while this looks is left for the wake-up that follows it.
    pub(super) fn take(&self, answers: &mut Vec<LookedUp>) {
        if self.came.load(Ordering::Acquire) {
            let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
            answers.append(&mut list);
            self.came.store(false, Ordering::Release);
        }
    }
}

/// The resolver's thread: one name after the other, until the kernel is gone. The end of the
/// channel alone would come only after all that was sent before; hence the weak reference.
pub(super) fn answer_all(asked: &Receiver<Question>, answers: &Weak<Answers>) {
    while let Ok(Question { ticket, host }) = asked.recv() {
        let addresses = addresses_of(&host);
        let Some(answers) = answers.upgrade() else {
            return;
        };
        answers.announce(LookedUp { ticket, addresses });
    }
}

/// Leaves the process's signals to the threads of the application: one that is handled
/// here would not end the poll of a loop that relies on it.
pub(super) fn refuse_signals() {
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigfillset` initialises the set that it is given, which `pthread_sigmask` then
    // reads; a null old set is not written. Only this thread's mask changes. Neither call
    // can fail with these arguments.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), std::ptr::null_mut());
    }
}

/// May block for as long as the system's resolver likes.
pub(crate) fn addresses_of(host: &str) -> io::Result<Vec<IpAddr>> {
    let found = (host, 0).to_socket_addrs()?;
    Ok(without_duplicates(found.map(|addr| addr.ip())))
}

/// The number of the interface of that name.
pub(crate) fn interface_index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: the name ends with a NUL and outlives the call, which only reads it.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// The text of a table of names; one that cannot be read is empty, as in Go.
pub(crate) fn table(path: &str) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        // What came before an error is as good as it would be without one.
        let _ = file.take(LARGEST_TABLE).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Resolvers answer an address once per socket type or hosts line. Lists are short.
pub(super) fn without_duplicates(addrs: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut once = Vec::new();
    for addr in addrs {
        if !once.contains(&addr) {
            once.push(addr);
        }
    }
    once
}
