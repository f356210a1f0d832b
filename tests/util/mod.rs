//! What the test files share: a server on a thread of its own, a handler that keeps a
//! diary, clients that never wait for ever, and a look at the process.
//!
//! Nothing here sleeps for a fixed time. Whoever waits, waits for an event or polls a
//! condition, and gives up after [`PATIENCE`].

#![allow(dead_code, reason = "every test file uses its own part of this")]

use std::fmt::Debug;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use windlass::{
    Addr, Closed, Config, Conn, ConnId, Context, Deadline, Error, Handle, Handler, Input, Listen,
    ListenerId, Reactor, Stats, Summary, TimerId,
};

/// Longer than anything takes on a loaded machine; whoever waits longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// How often a condition that has no event is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(1);

pub const KIB: usize = 1024;
pub const MIB: usize = 1024 * KIB;

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The default configuration with some fields changed.
pub fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}

// A server on its own thread.

/// A reactor that runs on a thread of its own, with one listener on a free loopback port.
/// Dropping it stops it.
pub struct Server<H: Handler> {
    pub addr: SocketAddr,
    pub handle: Handle<H>,
    pub listener: ListenerId,
    thread: Option<JoinHandle<()>>,
    ended: mpsc::Receiver<Ended<H>>,
}

/// What is left of a server.
pub struct Ended<H> {
    pub handler: H,
    pub result: io::Result<Summary>,
}

pub fn serve<H: Handler + Send + 'static>(handler: H) -> Server<H> {
    serve_with(Config::default(), handler)
}

pub fn serve_with<H: Handler + Send + 'static>(config: Config, handler: H) -> Server<H> {
    serve_on(config, Listen::new("127.0.0.1:0").unwrap(), handler)
}

pub fn serve_on<H: Handler + Send + 'static>(
    config: Config,
    listen: Listen,
    handler: H,
) -> Server<H> {
    let (say, born) = mpsc::channel();
    let (say_ended, ended) = mpsc::channel();
    let thread = thread::spawn(move || {
        let mut reactor = Reactor::with_config(handler, config).unwrap();
        let listener = reactor.listen(listen).unwrap();
        let addr = reactor.listener(listener).unwrap().local_addr();
        say.send((ip(addr), reactor.handle(), listener)).unwrap();
        let result = reactor.run();
        let handler = reactor.into_handler();
        let _ = say_ended.send(Ended { handler, result });
    });
    let (addr, handle, listener) = born.recv_timeout(PATIENCE).unwrap();
    Server {
        addr,
        handle,
        listener,
        thread: Some(thread),
        ended,
    }
}

impl<H: Handler + Send + 'static> Server<H> {
    /// Runs something on the loop's thread and brings back the answer.
    pub fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&mut H, &mut Context<'_>) -> R + Send + 'static,
    ) -> R {
        let (say, answer) = mpsc::channel();
        self.handle
            .post(move |handler, cx| {
                let _ = say.send(question(handler, cx));
            })
            .expect("the loop takes posts");
        answer
            .recv_timeout(PATIENCE)
            .expect("the loop answers in time")
    }

    pub fn stats(&self) -> Stats {
        self.ask(|_, cx| cx.stats())
    }

    /// Processor time used by the loop's thread so far.
    pub fn loop_cpu_time(&self) -> Duration {
        self.ask(|_, _| thread_cpu_time())
    }

    /// Waits until the loop's counters satisfy a condition.
    #[track_caller]
    pub fn until(&self, what: &str, mut holds: impl FnMut(&Stats) -> bool) -> Stats {
        let mut last = Stats::default();
        let came = eventually(PATIENCE, || {
            last = self.stats();
            holds(&last)
        });
        assert!(came, "never came true: {what}; {last:?}");
        last
    }

    /// A graceful stop. Fails if a callback panicked (an assertion inside one, say), or if
    /// the loop does not end in time.
    #[track_caller]
    pub fn stop(self) -> (H, Summary) {
        let ended = self.end(PATIENCE / 3);
        let summary = ended.result.expect("the loop ends well");
        assert_eq!(summary.stats.panics, 0, "a callback panicked");
        (ended.handler, summary)
    }

    /// The same at once: whoever is still open is aborted.
    #[track_caller]
    pub fn stop_now(self) -> (H, Summary) {
        let ended = self.end(Duration::ZERO);
        let summary = ended.result.expect("the loop ends well");
        assert_eq!(summary.stats.panics, 0, "a callback panicked");
        (ended.handler, summary)
    }

    /// A stop with a grace of choice, with nothing asserted about how it went.
    #[track_caller]
    pub fn end(self, grace: Duration) -> Ended<H> {
        let _ = self.handle.shutdown(grace);
        self.join()
    }

    /// Waits for a loop that ends for a reason of its own.
    #[track_caller]
    pub fn join(mut self) -> Ended<H> {
        let ended = self.ended.recv_timeout(PATIENCE);
        let thread = self.thread.take();
        match ended {
            Ok(ended) => {
                thread.map(JoinHandle::join);
                ended
            }
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("the loop did not end in time"),
            Err(mpsc::RecvTimeoutError::Disconnected) => panic!("the loop's thread panicked"),
        }
    }
}

impl<H: Handler> Drop for Server<H> {
    fn drop(&mut self) {
        if self.thread.is_some() {
            let _ = self.handle.shutdown(Duration::ZERO);
            let _ = self.ended.recv_timeout(PATIENCE);
        }
    }
}

pub fn ip(addr: Addr) -> SocketAddr {
    match addr {
        Addr::Ip(addr) => addr,
        other => panic!("not an internet address: {other}"),
    }
}

// A handler that keeps a diary.

/// One line of the diary.
#[derive(Clone, Debug)]
pub struct Event {
    /// `None` for what is not about a connection.
    pub conn: Option<ConnId>,
    pub what: What,
    /// When the callback began, by the real clock.
    pub at: Instant,
    /// The loop's `now()` at that time.
    pub now: Instant,
}

#[derive(Clone, Debug)]
pub enum What {
    Start,
    Accept,
    /// What was offered, consumed or not.
    Read(Vec<u8>),
    Write,
    /// What was still unread.
    Eof(Vec<u8>),
    Timeout(Deadline),
    Wake,
    Shutdown,
    Close(Arc<Reported>),
    Timer(TimerId),
    /// The text of the error.
    AcceptError(String),
    Stop,
    /// For the tests' own remarks.
    Note(String),
}

/// [`Closed`], to be kept.
pub type Reported = Closed;

impl What {
    /// The name of the callback.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Accept => "accept",
            Self::Read(_) => "read",
            Self::Write => "write",
            Self::Eof(_) => "eof",
            Self::Timeout(_) => "timeout",
            Self::Wake => "wake",
            Self::Shutdown => "shutdown",
            Self::Close(_) => "close",
            Self::Timer(_) => "timer",
            Self::AcceptError(_) => "accept_error",
            Self::Stop => "stop",
            Self::Note(_) => "note",
        }
    }
}

/// The diary itself: written by the loop, read by the test.
#[derive(Clone, Default)]
pub struct Log(Arc<Shared>);

#[derive(Default)]
struct Shared {
    inside: Mutex<Diary>,
    written: Condvar,
}

#[derive(Default)]
struct Diary {
    events: Vec<Event>,
    /// Callbacks that run at this moment.
    depth: usize,
    /// Callbacks that began while another one ran.
    nested: usize,
}

impl Log {
    pub fn push(&self, conn: Option<ConnId>, now: Instant, what: What) {
        let at = Instant::now();
        self.lock().events.push(Event {
            conn,
            what,
            at,
            now,
        });
        self.0.written.notify_all();
    }

    pub fn note(&self, text: impl Into<String>) {
        let now = Instant::now();
        self.push(None, now, What::Note(text.into()));
    }

    pub fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }

    /// The events of one connection.
    pub fn of(&self, id: ConnId) -> Vec<Event> {
        let mut events = self.events();
        events.retain(|event| event.conn == Some(id));
        events
    }

    /// The names of all callbacks so far.
    pub fn names(&self) -> Vec<&'static str> {
        self.lock()
            .events
            .iter()
            .map(|event| event.what.name())
            .collect()
    }

    pub fn count(&self, name: &str) -> usize {
        count(&self.lock().events, name)
    }

    /// How each connection that ended did so.
    pub fn closes(&self) -> Vec<Arc<Reported>> {
        closes(&self.lock().events)
    }

    /// Waits until the diary satisfies a condition.
    #[track_caller]
    pub fn wait(&self, what: &str, mut holds: impl FnMut(&[Event]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut diary = self.lock();
        while !holds(&diary.events) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let names: Vec<_> = diary.events.iter().map(|e| e.what.name()).collect();
                let tail = &names[names.len().saturating_sub(60)..];
                panic!(
                    "never came true: {what}; {} events, the last: {tail:?}",
                    names.len()
                );
            }
            let waited = self.0.written.wait_timeout(diary, left);
            diary = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until a callback has run that many times.
    #[track_caller]
    pub fn wait_for(&self, name: &str, times: usize) {
        self.wait(&format!("{times} times {name}"), |events| {
            count(events, name) >= times
        });
    }

    /// Waits for that many ends, and answers all of them.
    #[track_caller]
    pub fn wait_closes(&self, times: usize) -> Vec<Arc<Reported>> {
        self.wait_for("close", times);
        self.closes()
    }

    /// Everything that was offered to one connection's `on_read`, in order. Only right for
    /// a handler that consumes everything.
    pub fn bytes_of(&self, id: ConnId) -> Vec<u8> {
        let mut bytes = Vec::new();
        for event in self.of(id) {
            if let What::Read(read) = event.what {
                bytes.extend_from_slice(&read);
            }
        }
        bytes
    }

    /// How often a callback began while another one ran.
    pub fn nested(&self) -> usize {
        self.lock().nested
    }

    fn enter(&self) -> Inside<'_> {
        let mut diary = self.lock();
        if diary.depth > 0 {
            diary.nested += 1;
        }
        diary.depth += 1;
        Inside(self)
    }

    fn lock(&self) -> MutexGuard<'_, Diary> {
        self.0.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Inside<'a>(&'a Log);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.lock().depth -= 1;
    }
}

pub fn count(events: &[Event], name: &str) -> usize {
    events
        .iter()
        .filter(|event| event.what.name() == name)
        .count()
}

pub fn closes(events: &[Event]) -> Vec<Arc<Reported>> {
    events
        .iter()
        .filter_map(|event| match &event.what {
            What::Close(closed) => Some(Arc::clone(closed)),
            _ => None,
        })
        .collect()
}

type ConnHook = Box<dyn FnMut(&mut Conn<'_>) -> io::Result<()> + Send>;
type InputHook = Box<dyn FnMut(&mut Conn<'_>, &mut Input<'_>) -> io::Result<()> + Send>;
type TimeoutHook = Box<dyn FnMut(&mut Conn<'_>, Deadline) -> io::Result<()> + Send>;
type CloseHook = Box<dyn FnMut(&mut Context<'_>, &Closed) + Send>;
type TimerHook = Box<dyn FnMut(&mut Context<'_>, TimerId) + Send>;
type AcceptErrorHook = Box<dyn FnMut(&mut Context<'_>, ListenerId, &Error) + Send>;

/// Writes every callback into the diary, then does what the test says, else what the
/// trait's default does.
///
/// ```ignore
/// let server = serve(Recorder::new().read(|conn, input| { conn.write(input.take_all()); Ok(()) }));
/// ```
pub struct Recorder {
    pub log: Log,
    /// Whether `Read` and `Eof` keep a copy of the bytes. On.
    pub keep_bytes: bool,
    accept: ConnHook,
    read: InputHook,
    write: ConnHook,
    eof: InputHook,
    timeout: TimeoutHook,
    wake: ConnHook,
    shutdown: ConnHook,
    close: CloseHook,
    timer: TimerHook,
    accept_error: AcceptErrorHook,
}

impl Recorder {
    pub fn new() -> Self {
        Self {
            log: Log::default(),
            keep_bytes: true,
            accept: Box::new(|_| Ok(())),
            read: Box::new(|_, input| {
                input.take_all();
                Ok(())
            }),
            write: Box::new(|_| Ok(())),
            eof: Box::new(|conn, _| {
                conn.close();
                Ok(())
            }),
            timeout: Box::new(|_, _| Err(io::ErrorKind::TimedOut.into())),
            wake: Box::new(|_| Ok(())),
            shutdown: Box::new(|conn| {
                conn.close();
                Ok(())
            }),
            close: Box::new(|_, _| {}),
            timer: Box::new(|_, _| {}),
            accept_error: Box::new(|_, _, _| {}),
        }
    }

    /// Sends back what comes.
    pub fn echo() -> Self {
        Self::new().read(|conn, input| {
            conn.write(input.take_all());
            Ok(())
        })
    }

    /// For long transfers: the diary keeps no bytes.
    pub fn without_bytes(mut self) -> Self {
        self.keep_bytes = false;
        self
    }

    pub fn accept(
        mut self,
        hook: impl FnMut(&mut Conn<'_>) -> io::Result<()> + Send + 'static,
    ) -> Self {
        self.accept = Box::new(hook);
        self
    }

    pub fn read(
        mut self,
        hook: impl FnMut(&mut Conn<'_>, &mut Input<'_>) -> io::Result<()> + Send + 'static,
    ) -> Self {
        self.read = Box::new(hook);
        self
    }

    pub fn write(
        mut self,
        hook: impl FnMut(&mut Conn<'_>) -> io::Result<()> + Send + 'static,
    ) -> Self {
        self.write = Box::new(hook);
        self
    }

    pub fn eof(
        mut self,
        hook: impl FnMut(&mut Conn<'_>, &mut Input<'_>) -> io::Result<()> + Send + 'static,
    ) -> Self {
        self.eof = Box::new(hook);
        self
    }

    pub fn timeout(
        mut self,
        hook: impl FnMut(&mut Conn<'_>, Deadline) -> io::Result<()> + Send + 'static,
    ) -> Self {
        self.timeout = Box::new(hook);
        self
    }

    pub fn wake(
        mut self,
        hook: impl FnMut(&mut Conn<'_>) -> io::Result<()> + Send + 'static,
    ) -> Self {
        self.wake = Box::new(hook);
        self
    }

    pub fn shutdown(
        mut self,
        hook: impl FnMut(&mut Conn<'_>) -> io::Result<()> + Send + 'static,
    ) -> Self {
        self.shutdown = Box::new(hook);
        self
    }

    pub fn close(mut self, hook: impl FnMut(&mut Context<'_>, &Closed) + Send + 'static) -> Self {
        self.close = Box::new(hook);
        self
    }

    pub fn timer(mut self, hook: impl FnMut(&mut Context<'_>, TimerId) + Send + 'static) -> Self {
        self.timer = Box::new(hook);
        self
    }

    pub fn accept_error(
        mut self,
        hook: impl FnMut(&mut Context<'_>, ListenerId, &Error) + Send + 'static,
    ) -> Self {
        self.accept_error = Box::new(hook);
        self
    }

    fn bytes(&self, input: &[u8]) -> Vec<u8> {
        if self.keep_bytes {
            input.to_vec()
        } else {
            Vec::new()
        }
    }
}

/// The session: whose it is, so that a mixed-up one would show.
pub type Owner = ConnId;

impl Handler for Recorder {
    type Session = Owner;

    fn on_start(&mut self, cx: &mut Context<'_>, _: &Handle<Self>) -> io::Result<()> {
        self.log.push(None, cx.now(), What::Start);
        Ok(())
    }

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<Owner> {
        let log = self.log.clone();
        let _inside = log.enter();
        log.push(Some(conn.id()), conn.now(), What::Accept);
        (self.accept)(conn)?;
        Ok(conn.id())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        session: &mut Owner,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        let what = What::Read(self.bytes(input));
        self.about(conn, session, what, |this, conn| (this.read)(conn, input))
    }

    fn on_write(&mut self, conn: &mut Conn<'_>, session: &mut Owner) -> io::Result<()> {
        self.about(conn, session, What::Write, |this, conn| (this.write)(conn))
    }

    fn on_eof(
        &mut self,
        conn: &mut Conn<'_>,
        session: &mut Owner,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        let what = What::Eof(self.bytes(input));
        self.about(conn, session, what, |this, conn| (this.eof)(conn, input))
    }

    fn on_timeout(
        &mut self,
        conn: &mut Conn<'_>,
        session: &mut Owner,
        which: Deadline,
    ) -> io::Result<()> {
        self.about(conn, session, What::Timeout(which), |this, conn| {
            (this.timeout)(conn, which)
        })
    }

    fn on_wake(&mut self, conn: &mut Conn<'_>, session: &mut Owner) -> io::Result<()> {
        self.about(conn, session, What::Wake, |this, conn| (this.wake)(conn))
    }

    fn on_shutdown(&mut self, conn: &mut Conn<'_>, session: &mut Owner) -> io::Result<()> {
        self.about(conn, session, What::Shutdown, |this, conn| {
            (this.shutdown)(conn)
        })
    }

    fn on_close(&mut self, cx: &mut Context<'_>, session: Owner, closed: &Closed) {
        let log = self.log.clone();
        let _inside = log.enter();
        assert_eq!(session, closed.id, "a stranger's session");
        (self.close)(cx, closed);
        log.push(Some(closed.id), cx.now(), What::Close(kept(closed)));
    }

    fn on_accept_error(&mut self, cx: &mut Context<'_>, listener: ListenerId, error: &Error) {
        let log = self.log.clone();
        let _inside = log.enter();
        log.push(None, cx.now(), What::AcceptError(error.to_string()));
        (self.accept_error)(cx, listener, error);
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, timer: TimerId) {
        let log = self.log.clone();
        let _inside = log.enter();
        log.push(None, cx.now(), What::Timer(timer));
        (self.timer)(cx, timer);
    }

    fn on_stop(&mut self, cx: &mut Context<'_>) {
        self.log.push(None, cx.now(), What::Stop);
    }
}
