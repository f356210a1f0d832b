//! What the test files share: a server on a thread of its own, a handler that keeps a
//! diary, clients that never wait for ever, and a look at the process.
//!
//! Nothing here sleeps for a fixed time. Whoever waits, waits for an event or polls a
//! condition, and gives up after [`PATIENCE`].

#![allow(dead_code, reason = "every test file uses its own part of this")]
#![allow(
    unreachable_pub,
    reason = "public towards the test file that includes it"
)]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use windlass::{
    Addr, CloseReason, Closed, Config, Conn, ConnId, Context, Deadline, Error, Handle, Handler,
    Input, Listen, ListenerId, Reactor, Stats, Summary, TimerId,
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

/// Drop it, and the loop goes on.
#[must_use = "the loop goes on when this is dropped"]
pub struct Held(#[allow(dead_code, reason = "to be dropped")] mpsc::Sender<()>);

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

    /// Holds the loop inside a posted closure, which first does something, until the answer
    /// is dropped: what happens meanwhile is found by one and the same turn.
    pub fn hold(&self, first: impl FnOnce(&mut Context<'_>) + Send + 'static) -> Held {
        let (held, gate) = mpsc::channel::<()>();
        let (say, begun) = mpsc::channel();
        self.handle
            .post(move |_, cx| {
                first(cx);
                say.send(()).unwrap();
                let _ = gate.recv_timeout(PATIENCE);
            })
            .expect("the loop takes posts");
        begun.recv_timeout(PATIENCE).expect("the loop runs posts");
        Held(held)
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
    Close(Reported),
    Timer(TimerId),
    /// The text of the error.
    AcceptError(String),
    Stop,
    /// For the tests' own remarks.
    Note(String),
}

/// [`Closed`], in a form that can be kept and compared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reported {
    pub id: ConnId,
    pub reason: Why,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub unread: u64,
    pub unsent: u64,
}

/// `CloseReason`, likewise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Why {
    Eof,
    Local,
    /// The text of the handler's error.
    Handler(String),
    Timeout(Deadline),
    Reset,
    Overflow,
    InputTooLong,
    Shutdown,
    Panic,
    /// The errno.
    Io(Option<i32>),
}

impl From<&Closed> for Reported {
    fn from(closed: &Closed) -> Self {
        Self {
            id: closed.id,
            reason: Why::from(&closed.reason),
            bytes_read: closed.bytes_read,
            bytes_written: closed.bytes_written,
            unread: closed.unread,
            unsent: closed.unsent,
        }
    }
}

impl From<&CloseReason> for Why {
    fn from(reason: &CloseReason) -> Self {
        match reason {
            CloseReason::Eof => Self::Eof,
            CloseReason::Local => Self::Local,
            CloseReason::Handler(error) => Self::Handler(error.to_string()),
            CloseReason::Timeout(which) => Self::Timeout(*which),
            CloseReason::Reset => Self::Reset,
            CloseReason::Overflow => Self::Overflow,
            CloseReason::InputTooLong => Self::InputTooLong,
            CloseReason::Shutdown => Self::Shutdown,
            CloseReason::Panic => Self::Panic,
            CloseReason::Io(error) => Self::Io(error.raw_os_error()),
            other => panic!("a reason that these tests do not know: {other:?}"),
        }
    }
}

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
    pub fn closes(&self) -> Vec<Reported> {
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
    pub fn wait_closes(&self, times: usize) -> Vec<Reported> {
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

pub fn closes(events: &[Event]) -> Vec<Reported> {
    events
        .iter()
        .filter_map(|event| match &event.what {
            What::Close(closed) => Some(closed.clone()),
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
        log.push(Some(closed.id), cx.now(), What::Close(closed.into()));
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

impl Recorder {
    /// Writes the event, then runs the test's part of the callback.
    fn about<R>(
        &mut self,
        conn: &mut Conn<'_>,
        session: &Owner,
        what: What,
        act: impl FnOnce(&mut Self, &mut Conn<'_>) -> R,
    ) -> R {
        let log = self.log.clone();
        let _inside = log.enter();
        assert_eq!(*session, conn.id(), "a stranger's session");
        log.push(Some(conn.id()), conn.now(), what);
        act(self, conn)
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

// Clients.

/// A client with time limits on everything it does.
#[track_caller]
pub fn connect(addr: SocketAddr) -> TcpStream {
    try_connect(addr).expect("connect")
}

/// The same, for servers that may reset a client before it knows that it is connected.
pub fn try_connect(addr: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&addr, PATIENCE).map(patient)
}

/// Connects to a server that resets whom it accepts: before or after the client knows.
#[track_caller]
pub fn connect_for_a_reset(addr: SocketAddr) {
    match try_connect(addr) {
        Ok(mut client) => expect_reset(&mut client),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
}

pub fn connect_many(addr: SocketAddr, n: usize) -> Vec<TcpStream> {
    (0..n).map(|_| connect(addr)).collect()
}

/// A client whose kernel buffers hold little, so that a full pipe comes soon.
#[track_caller]
pub fn connect_small(addr: SocketAddr, buffers: usize) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
    socket.set_recv_buffer_size(buffers).expect("SO_RCVBUF");
    socket.set_send_buffer_size(buffers).expect("SO_SNDBUF");
    socket
        .connect_timeout(&addr.into(), PATIENCE)
        .expect("connect");
    patient(socket.into())
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

#[track_caller]
pub fn send(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("send");
}

#[track_caller]
pub fn read_exactly(stream: &mut TcpStream, n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    stream.read_exact(&mut bytes).expect("read");
    bytes
}

/// Sends, and reads back as many bytes.
#[track_caller]
pub fn round_trip(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    send(stream, bytes);
    read_exactly(stream, bytes.len())
}

/// How a stream ended for its reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    Eof,
    Reset,
}

/// Everything up to the end, and which end it was. Fails if there is none in time.
#[track_caller]
pub fn read_to_end_or_reset(stream: &mut TcpStream) -> (Vec<u8>, Ending) {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 * KIB];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return (bytes, Ending::Eof),
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return (bytes, Ending::Reset);
            }
            Err(error) => panic!("no end came, but {error} after {} bytes", bytes.len()),
        }
    }
}

/// Everything up to the peer's FIN. Fails on a reset.
#[track_caller]
pub fn read_to_eof(stream: &mut TcpStream) -> Vec<u8> {
    let (bytes, ending) = read_to_end_or_reset(stream);
    assert_eq!(ending, Ending::Eof, "after {} bytes", bytes.len());
    bytes
}

/// Reads until ECONNRESET. Fails on a FIN.
#[track_caller]
pub fn expect_reset(stream: &mut TcpStream) {
    let (bytes, ending) = read_to_end_or_reset(stream);
    assert_eq!(ending, Ending::Reset, "after {} bytes", bytes.len());
}

/// Sends FIN and goes on reading.
pub fn finish(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).expect("shutdown");
}

/// Ends a connection with RST.
pub fn reset(stream: TcpStream) {
    let socket = Socket::from(stream);
    socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
}

/// Whether a read would find nothing at this moment: no bytes, no end.
pub fn is_silent(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let seen = stream.peek(&mut [0; 1]);
    stream.set_nonblocking(false).unwrap();
    matches!(seen, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Sends until nobody takes any more, or `most` bytes are gone; answers how many went.
/// "Nobody" is a pause of that length.
pub fn send_until_stuck(stream: &mut TcpStream, most: usize, pause: Duration) -> usize {
    stream.set_write_timeout(Some(pause)).unwrap();
    let chunk = vec![b'x'; 16 * KIB];
    let mut sent = 0;
    while sent < most {
        match stream.write(&chunk[..chunk.len().min(most - sent)]) {
            Ok(n) => sent += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    sent
}

// Waiting, bytes and luck.

/// Polls a condition until it holds; `false` if it never did within `limit`. For what has
/// no event to wait for; see [`Log::wait`] for what has.
pub fn eventually(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::park_timeout(LOOK_EVERY);
    }
}

/// A random number generator that can be repeated (SplitMix64).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to below `high`.
    pub fn range(&mut self, low: usize, high: usize) -> usize {
        low + (self.next() % (high - low) as u64) as usize
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
}

/// Bytes in which a gap, a repeat or a swap shows.
pub fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&rng.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Compares long byte strings without printing them.
#[track_caller]
pub fn assert_same(got: &[u8], want: &[u8]) {
    if got == want {
        return;
    }
    let at = got.iter().zip(want).take_while(|(a, b)| a == b).count();
    panic!(
        "{} bytes came, {} were sent, and they differ from byte {at} on",
        got.len(),
        want.len()
    );
}

// The process.

/// Descriptors that this process has open.
pub fn open_descriptors() -> usize {
    let listing = fs::read_dir("/proc/self/fd").or_else(|_| fs::read_dir("/dev/fd"));
    // The listing's own descriptor is among them.
    listing.expect("a list of descriptors").count() - 1
}

/// Processor time that this process has used, in user and in system mode, all threads.
pub fn cpu_time() -> Duration {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Processor time that the calling thread has used.
pub fn thread_cpu_time() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

#[allow(unsafe_code, reason = "the standard library has no processor time")]
fn clock(which: libc::clockid_t) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec for the call to fill.
    let answer = unsafe { libc::clock_gettime(which, &mut time) };
    assert_eq!(answer, 0, "clock_gettime");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The soft and the hard limit of this process's descriptors.
#[allow(unsafe_code, reason = "the standard library has no resource limits")]
pub fn descriptor_limit() -> (libc::rlim_t, libc::rlim_t) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid rlimit for the call to fill.
    let answer = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    assert_eq!(answer, 0, "getrlimit");
    (limit.rlim_cur, limit.rlim_max)
}

/// Sets the soft limit. It holds for the whole process, so a test that lowers it must be
/// alone in its file or keep the others out.
#[allow(unsafe_code, reason = "the standard library has no resource limits")]
pub fn set_descriptor_limit(soft: libc::rlim_t) {
    let limit = libc::rlimit {
        rlim_cur: soft,
        rlim_max: descriptor_limit().1,
    };
    // SAFETY: `limit` is a valid rlimit for the call to read.
    let answer = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    assert_eq!(answer, 0, "setrlimit");
}

/// A port that nobody listens on, and that nobody else gets: it stays bound.
pub fn closed_port() -> SocketAddr {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    std::mem::forget(socket);
    address
}
