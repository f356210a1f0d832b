//! A loop that the test itself turns, and a handler for both ends of a connection that keeps
//! a diary; with it, directories for the paths of Unix sockets.

#![allow(dead_code, reason = "every test file uses its own part of this")]
#![allow(
    unreachable_pub,
    reason = "public towards the test file that includes it"
)]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use windlass::{
    Closed, Config, Conn, ConnId, Context, Deadline, DialId, Error, Handler, Input, Listen,
    ListenerId, Reactor, Turn,
};

/// Longer than anything takes on a loaded machine; whoever waits longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// How long one turn waits while the test waits for something that is no event of the loop.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What happened, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    Accept(ConnId),
    Connect(ConnId, DialId),
    /// What was offered, consumed or not.
    Read(ConnId, Vec<u8>),
    Write(ConnId),
    Eof(ConnId),
    Timeout(ConnId, Deadline),
    Close(End),
    DialError(DialId, String),
    AcceptError(ListenerId, String, bool),
}

/// How a connection ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct End {
    pub id: ConnId,
    /// As it prints.
    pub reason: String,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub unread: u64,
    pub unsent: u64,
}

type OnOpen = Box<dyn FnMut(&mut Conn<'_>) -> io::Result<()>>;
type OnRead = Box<dyn FnMut(&mut Conn<'_>, &mut Input<'_>) -> io::Result<()>>;
type OnLate = Box<dyn FnMut(&mut Context<'_>, ListenerId)>;

/// Consumes everything and answers nothing, unless it is told what to do.
pub struct Node {
    pub said: Vec<Said>,
    /// When each of them was said, by the loop's clock.
    pub times: Vec<Instant>,
    echoes: bool,
    accept: OnOpen,
    connect: OnOpen,
    read: OnRead,
    eof: OnOpen,
    accept_error: OnLate,
}

impl Node {
    pub fn new() -> Self {
        Self {
            said: Vec::new(),
            times: Vec::new(),
            echoes: false,
            accept: Box::new(|_| Ok(())),
            connect: Box::new(|_| Ok(())),
            read: Box::new(|_, input| {
                input.take_all();
                Ok(())
            }),
            eof: Box::new(|conn| {
                conn.close();
                Ok(())
            }),
            accept_error: Box::new(|_, _| {}),
        }
    }

    /// Who was accepted sends back whatever comes.
    pub fn echo() -> Self {
        let mut node = Self::new();
        node.echoes = true;
        node
    }

    pub fn accept(mut self, act: impl FnMut(&mut Conn<'_>) -> io::Result<()> + 'static) -> Self {
        self.accept = Box::new(act);
        self
    }

    pub fn connect(mut self, act: impl FnMut(&mut Conn<'_>) -> io::Result<()> + 'static) -> Self {
        self.connect = Box::new(act);
        self
    }

    pub fn read(
        mut self,
        act: impl FnMut(&mut Conn<'_>, &mut Input<'_>) -> io::Result<()> + 'static,
    ) -> Self {
        self.read = Box::new(act);
        self
    }

    pub fn eof(mut self, act: impl FnMut(&mut Conn<'_>) -> io::Result<()> + 'static) -> Self {
        self.eof = Box::new(act);
        self
    }

    pub fn accept_error(mut self, act: impl FnMut(&mut Context<'_>, ListenerId) + 'static) -> Self {
        self.accept_error = Box::new(act);
        self
    }

    fn note(&mut self, now: Instant, said: Said) {
        self.said.push(said);
        self.times.push(now);
    }

    // Looking back.

    /// The `n`th connection that was accepted.
    pub fn accepted(&self, n: usize) -> Option<ConnId> {
        let mut ids = self.said.iter().filter_map(|said| match said {
            Said::Accept(id) => Some(*id),
            _ => None,
        });
        ids.nth(n)
    }

    /// The connection that a dial has led to.
    pub fn dialed(&self, dial: DialId) -> Option<ConnId> {
        self.said.iter().find_map(|said| match said {
            Said::Connect(id, by) if *by == dial => Some(*id),
            _ => None,
        })
    }

    pub fn dial_error(&self, dial: DialId) -> Option<&str> {
        self.said.iter().find_map(|said| match said {
            Said::DialError(of, text) if *of == dial => Some(text.as_str()),
            _ => None,
        })
    }

    pub fn end(&self, id: ConnId) -> Option<&End> {
        self.said.iter().find_map(|said| match said {
            Said::Close(end) if end.id == id => Some(end),
            _ => None,
        })
    }

    /// What one connection was offered, callback by callback.
    pub fn reads(&self, id: ConnId) -> Vec<Vec<u8>> {
        let reads = self.said.iter().filter_map(|said| match said {
            Said::Read(of, bytes) if *of == id => Some(bytes.clone()),
            _ => None,
        });
        reads.collect()
    }

    /// All that one connection was offered, if it consumed everything each time.
    pub fn bytes(&self, id: ConnId) -> Vec<u8> {
        self.reads(id).concat()
    }

    /// What accept deadlines have said.
    pub fn accept_errors(&self) -> Vec<(String, bool)> {
        let errors = self.said.iter().filter_map(|said| match said {
            Said::AcceptError(_, text, timeout) => Some((text.clone(), *timeout)),
            _ => None,
        });
        errors.collect()
    }

    pub fn count(&self, mut which: impl FnMut(&Said) -> bool) -> usize {
        self.said.iter().filter(|said| which(said)).count()
    }
}

impl Handler for Node {
    /// Whether it was accepted, not dialed.
    type Session = bool;

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<bool> {
        self.note(conn.now(), Said::Accept(conn.id()));
        (self.accept)(conn).map(|()| true)
    }

    fn on_connect(&mut self, conn: &mut Conn<'_>, dial: DialId) -> io::Result<bool> {
        self.note(conn.now(), Said::Connect(conn.id(), dial));
        (self.connect)(conn).map(|()| false)
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        was_accepted: &mut bool,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        self.note(conn.now(), Said::Read(conn.id(), input.to_vec()));
        if self.echoes && *was_accepted {
            conn.write(input);
        }
        (self.read)(conn, input)
    }

    fn on_write(&mut self, conn: &mut Conn<'_>, _: &mut bool) -> io::Result<()> {
        self.note(conn.now(), Said::Write(conn.id()));
        Ok(())
    }

    fn on_eof(&mut self, conn: &mut Conn<'_>, _: &mut bool, _: &mut Input<'_>) -> io::Result<()> {
        self.note(conn.now(), Said::Eof(conn.id()));
        (self.eof)(conn)
    }

    fn on_timeout(&mut self, conn: &mut Conn<'_>, _: &mut bool, which: Deadline) -> io::Result<()> {
        self.note(conn.now(), Said::Timeout(conn.id(), which));
        Ok(())
    }

    fn on_close(&mut self, cx: &mut Context<'_>, _: bool, closed: &Closed) {
        let end = End {
            id: closed.id,
            reason: closed.reason.to_string(),
            bytes_read: closed.bytes_read,
            bytes_written: closed.bytes_written,
            unread: closed.unread,
            unsent: closed.unsent,
        };
        self.note(cx.now(), Said::Close(end));
    }

    fn on_dial_error(
        &mut self,
        cx: &mut Context<'_>,
        dial: DialId,
        error: &Error,
        _: Option<Duration>,
    ) {
        self.note(cx.now(), Said::DialError(dial, error.to_string()));
    }

    fn on_accept_error(&mut self, cx: &mut Context<'_>, listener: ListenerId, error: &Error) {
        let said = Said::AcceptError(listener, error.to_string(), error.is_timeout());
        self.note(cx.now(), said);
        (self.accept_error)(cx, listener);
    }
}

/// A loop on the test's own thread.
pub struct Host(pub Reactor<Node>);

impl Host {
    pub fn new(node: Node) -> Self {
        Self::with(node, Config::default())
    }

    pub fn with(node: Node, config: Config) -> Self {
        Self(Reactor::with_config(node, config).unwrap())
    }

    pub fn said(&self) -> &Node {
        self.0.handler()
    }

    #[track_caller]
    pub fn listen(&mut self, listen: impl TryInto<Listen, Error: Into<Error>>) -> ListenerId {
        self.0.listen(listen).expect("it listens")
    }

    /// Turns until something is there, which it answers.
    #[track_caller]
    pub fn until<R>(&mut self, what: &str, mut find: impl FnMut(&Node) -> Option<R>) -> R {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = find(self.0.handler()) {
                return found;
            }
            let said = &self.0.handler().said;
            assert!(Instant::now() < deadline, "never came: {what}; {said:#?}");
            let turn = self.0.turn(Some(LOOK_EVERY)).unwrap();
            assert_eq!(turn, Turn::Running, "the loop has stopped");
        }
    }

    /// Turns until something holds.
    #[track_caller]
    pub fn until_true(&mut self, what: &str, mut holds: impl FnMut(&Node) -> bool) {
        self.until(what, |node| holds(node).then_some(()));
    }

    /// Some turns in which nothing more is to happen.
    pub fn settle(&mut self) {
        for _ in 0..20 {
            let _ = self.0.turn(Some(Duration::from_millis(1))).unwrap();
        }
    }

    /// Runs something with one of the connections, between two turns.
    #[track_caller]
    pub fn with_conn<R: Send + 'static>(
        &mut self,
        id: ConnId,
        act: impl FnOnce(&mut Conn<'_>) -> R + Send + 'static,
    ) -> R {
        let (say, answer) = std::sync::mpsc::channel();
        let posted = self.0.handle().post(move |_, cx| {
            let mut conn = cx.conn(id).expect("it is open");
            say.send(act(&mut conn)).unwrap();
        });
        posted.unwrap();
        let mut got = None;
        self.until_true("the post runs", |_| {
            got = answer.try_recv().ok();
            got.is_some()
        });
        got.unwrap()
    }

    /// Connects to one of our own listeners; answers both ends, the one that dialed first.
    #[track_caller]
    pub fn pair(&mut self, text: &str) -> (ConnId, ConnId) {
        let before = self.said().count(|said| matches!(said, Said::Accept(_)));
        let dial = self.0.dial(text).unwrap();
        self.until("both ends are there", |node| {
            Some((node.dialed(dial)?, node.accepted(before)?))
        })
    }
}

/// A fresh directory, gone with everything in it when this is dropped.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("windlass-{}-{n}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // Of a process that was killed, and had our number.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// `network://` and the path of that name.
    pub fn url(&self, network: &str, name: &str) -> String {
        url(network, &self.join(name))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn url(network: &str, path: &Path) -> String {
    format!("{network}://{}", path.display())
}
