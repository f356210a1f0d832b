//! Several protocols on one loop: each part of a `Mux` is served as if it were alone, and
//! none can reach another by mistake.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util;

use std::collections::BTreeSet;
use std::io::{self, PipeReader, Read, Write, pipe};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use util::{PATIENCE, connect, eventually, ms, read_exactly, read_to_eof, send};
use windlass::sim::{Call, Client, Remote, World};
use windlass::{
    Backoff, Bind, CloseReason, Closed, Config, Conn, ConnId, Context, Datagram, Deadline,
    Delivery, Dial, DialId, Error, Flow, Handle, Handler, Input, Interest, ListenerId, Mux, PartId,
    PostError, Reactor, Ready, Socket, SocketId, Stats, Summary, TimerId, WatchId,
};

const WEB: &str = "10.0.0.1:80";
const LINES: &str = "10.0.0.1:23";
const UPSTREAM: &str = "10.0.0.9:9";

/// How often a part's own timer ticks.
const WEB_TICK: Duration = Duration::from_secs(1);
const LINES_TICK: Duration = Duration::from_secs(3);

// Three parts that have nothing in common.

/// Counts what is made and what is dropped.
#[derive(Clone, Default)]
struct Census(Arc<[AtomicUsize; 2]>);

impl Census {
    fn born(&self) -> Life {
        self.0[0].fetch_add(1, Ordering::SeqCst);
        Life(self.clone())
    }

    /// Made, and dropped.
    fn count(&self) -> (usize, usize) {
        let [made, dropped] = &*self.0;
        (made.load(Ordering::SeqCst), dropped.load(Ordering::SeqCst))
    }
}

struct Life(Census);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.0[1].fetch_add(1, Ordering::SeqCst);
    }
}

/// What happened, in the words of whoever it happened to.
#[derive(Clone, Default)]
struct Diary(Arc<std::sync::Mutex<Vec<String>>>);

impl Diary {
    fn say(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn said(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self, what: &str) -> usize {
        self.said().iter().filter(|said| *said == what).count()
    }
}

/// Answers each request with its first line, and with how many headers it had.
#[derive(Default)]
struct Web {
    diary: Diary,
    census: Census,
    conns: Vec<ConnId>,
    ticks: usize,
    stubborn: bool,
    handle: Option<Handle<Self>>,
}

/// How far a request has been read.
struct Request {
    first: Option<String>,
    headers: usize,
    _life: Life,
}

impl Handler for Web {
    type Session = Request;

    fn on_start(&mut self, cx: &mut Context<'_>, handle: &Handle<Self>) -> io::Result<()> {
        self.diary.say("web: start");
        self.handle = Some(handle.clone());
        cx.set_timer(cx.now() + WEB_TICK);
        Ok(())
    }

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<Request> {
        self.conns.push(conn.id());
        Ok(Request {
            first: None,
            headers: 0,
            _life: self.census.born(),
        })
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        request: &mut Request,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        while let Some(line) = take_line(input) {
            if request.first.is_none() {
                request.first = Some(line);
            } else if line.is_empty() {
                let first = request.first.take().unwrap_or_default();
                writeln!(conn, "{first} ({} headers)", request.headers);
                request.headers = 0;
            } else {
                request.headers += 1;
            }
        }
        Ok(())
    }

    fn on_wake(&mut self, conn: &mut Conn<'_>, request: &mut Request) -> io::Result<()> {
        writeln!(conn, "woken after {} headers", request.headers);
        Ok(())
    }

    fn on_shutdown(&mut self, conn: &mut Conn<'_>, _: &mut Request) -> io::Result<()> {
        self.diary.say("web: shutdown");
        if !self.stubborn {
            conn.close();
        }
        Ok(())
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: Request, closed: &Closed) {
        self.conns.retain(|&id| id != closed.id);
        self.diary.say(format!("web: close: {}", closed.reason));
    }

    fn on_accept_error(&mut self, _: &mut Context<'_>, _: ListenerId, _: &Error) {
        self.diary.say("web: accept error");
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _: TimerId) {
        self.ticks += 1;
        cx.set_timer(cx.now() + WEB_TICK);
    }

    fn on_stop(&mut self, _: &mut Context<'_>) {
        self.diary.say("web: stop");
    }
}

/// Numbers lines, and does as some of them say.
#[derive(Default)]
struct Lines {
    diary: Diary,
    census: Census,
    conns: Vec<ConnId>,
    ticks: usize,
    panic_at: Option<&'static str>,
}

struct Count {
    lines: u64,
    _life: Life,
}

impl Lines {
    fn panic_if(&self, at: &str) {
        assert!(self.panic_at != Some(at), "asked to panic at {at}");
    }

    fn obey(&self, conn: &mut Conn<'_>, line: &str) -> io::Result<()> {
        match line {
            "panic" => panic!("asked to"),
            "err" => Err(io::Error::other("asked to")),
            "close" => {
                conn.close();
                Ok(())
            }
            "how many" => {
                let mut open = 0;
                conn.cx().for_each(|_| open += 1);
                writeln!(conn, "{open} open");
                Ok(())
            }
            "flood" => {
                let much = 2 * conn.limits().high;
                assert_eq!(conn.write(&vec![b'.'; much]), Flow::Full);
                Ok(())
            }
            "timer" => {
                conn.set_timer(conn.now() + ms(10));
                Ok(())
            }
            "listen" => {
                conn.cx().listen("10.0.0.1:24")?;
                Ok(())
            }
            "stop" => {
                conn.cx().shutdown(ms(100));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Handler for Lines {
    type Session = Count;

    fn on_start(&mut self, cx: &mut Context<'_>, _: &Handle<Self>) -> io::Result<()> {
        self.diary.say("lines: start");
        cx.set_timer(cx.now() + LINES_TICK);
        Ok(())
    }

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<Count> {
        let life = self.census.born();
        self.panic_if("accept");
        self.conns.push(conn.id());
        Ok(Count {
            lines: 0,
            _life: life,
        })
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        count: &mut Count,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        while let Some(line) = take_line(input) {
            count.lines += 1;
            writeln!(conn, "{} {line}", count.lines);
            self.obey(conn, &line)?;
        }
        Ok(())
    }

    fn on_write(&mut self, conn: &mut Conn<'_>, count: &mut Count) -> io::Result<()> {
        writeln!(conn, "room after {} lines", count.lines);
        Ok(())
    }

    fn on_timeout(
        &mut self,
        conn: &mut Conn<'_>,
        count: &mut Count,
        which: Deadline,
    ) -> io::Result<()> {
        assert!(matches!(which, Deadline::Timer(_)));
        writeln!(conn, "timer after {} lines", count.lines);
        Ok(())
    }

    fn on_wake(&mut self, conn: &mut Conn<'_>, count: &mut Count) -> io::Result<()> {
        writeln!(conn, "woken after {} lines", count.lines);
        Ok(())
    }

    fn on_shutdown(&mut self, conn: &mut Conn<'_>, _: &mut Count) -> io::Result<()> {
        self.diary.say("lines: shutdown");
        conn.close();
        Ok(())
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: Count, closed: &Closed) {
        self.conns.retain(|&id| id != closed.id);
        self.diary.say(format!("lines: close: {}", closed.reason));
        self.panic_if("close");
    }

    fn on_accept_error(&mut self, _: &mut Context<'_>, _: ListenerId, _: &Error) {
        self.diary.say("lines: accept error");
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _: TimerId) {
        self.ticks += 1;
        cx.set_timer(cx.now() + LINES_TICK);
        self.panic_if("timer");
    }

    fn on_stop(&mut self, _: &mut Context<'_>) {
        self.diary.say("lines: stop");
        self.panic_if("stop");
    }
}

/// Stays connected to somebody, and greets at each connection.
struct Caller {
    diary: Diary,
    census: Census,
    whom: Option<Dial>,
    fail_to_start: bool,
}

struct Greeted {
    dial: DialId,
    answer: Vec<u8>,
    _life: Life,
}

impl Caller {
    fn new(diary: Diary, whom: Option<Dial>) -> Self {
        Self {
            diary,
            census: Census::default(),
            whom,
            fail_to_start: false,
        }
    }
}

impl Handler for Caller {
    type Session = Greeted;

    fn on_start(&mut self, cx: &mut Context<'_>, _: &Handle<Self>) -> io::Result<()> {
        self.diary.say("caller: start");
        if let Some(whom) = self.whom.take() {
            cx.dial(whom)?;
        }
        if self.fail_to_start {
            return Err(io::Error::other("no start today"));
        }
        Ok(())
    }

    fn on_connect(&mut self, conn: &mut Conn<'_>, dial: DialId) -> io::Result<Greeted> {
        self.diary.say("caller: connected");
        conn.write(b"hello\n");
        Ok(Greeted {
            dial,
            answer: Vec::new(),
            _life: self.census.born(),
        })
    }

    fn on_dial_error(
        &mut self,
        _: &mut Context<'_>,
        _: DialId,
        _: &Error,
        retry_in: Option<Duration>,
    ) {
        let how = if retry_in.is_some() { "retry" } else { "over" };
        self.diary.say(format!("caller: {how}"));
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        greeted: &mut Greeted,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        greeted.answer.extend_from_slice(input.take_all());
        if greeted.answer.ends_with(b"hello\n") {
            conn.write(b"close\n");
        }
        Ok(())
    }

    fn on_close(&mut self, cx: &mut Context<'_>, greeted: Greeted, _: &Closed) {
        let answer = String::from_utf8_lossy(&greeted.answer).into_owned();
        self.diary.say(format!("caller: heard {answer:?}"));
        if self.diary.count("caller: connected") == 3 {
            cx.cancel_dial(greeted.dial);
        }
    }

    fn on_stop(&mut self, _: &mut Context<'_>) {
        self.diary.say("caller: stop");
    }
}

fn take_line(input: &mut Input<'_>) -> Option<String> {
    let end = input.iter().position(|&byte| byte == b'\n')?;
    let line = String::from_utf8_lossy(&input.rest()[..end]);
    let line = line.trim_end_matches('\r').to_owned();
    input.consume(end + 1);
    Some(line)
}

fn again_after(wait: Duration, whom: SocketAddr) -> Dial {
    Dial::new(whom).unwrap().reconnect(Backoff::new(wait, wait))
}

// A simulated world with a part that serves requests and one that numbers lines.

struct Both {
    world: World<Mux>,
    web: PartId<Web>,
    lines: PartId<Lines>,
    diary: Diary,
    sessions: Census,
}

impl Both {
    fn new() -> Self {
        Self::with(|_, _| {})
    }

    fn with(change: impl FnOnce(&mut Web, &mut Lines)) -> Self {
        let (diary, sessions) = (Diary::default(), Census::default());
        let mut web = Web {
            diary: diary.clone(),
            census: sessions.clone(),
            ..Web::default()
        };
        let mut lines = Lines {
            diary: diary.clone(),
            census: sessions.clone(),
            ..Lines::default()
        };
        change(&mut web, &mut lines);
        let mut mux = Mux::new();
        let web = mux.add(web);
        let lines = mux.add(lines);
        let mut world = World::with_config(1, mux, Config::default());
        world.try_listen_for(web, WEB).unwrap();
        world.try_listen_for(lines, LINES).unwrap();
        world.run();
        Self {
            world,
            web,
            lines,
            diary,
            sessions,
        }
    }

    fn connect(&mut self, addr: &str) -> Client {
        let client = self.world.connect(addr.parse().unwrap());
        self.world.run();
        client
    }

    /// What comes back until nothing more happens.
    fn say(&mut self, client: Client, words: &str) -> String {
        self.world.send(client, words.as_bytes());
        self.hear(client)
    }

    fn hear(&mut self, client: Client) -> String {
        self.world.run();
        String::from_utf8(self.world.received(client)).unwrap()
    }

    fn web(&self) -> &Web {
        self.world.handler().part(self.web).unwrap()
    }

    fn lines(&self) -> &Lines {
        self.world.handler().part(self.lines).unwrap()
    }
}

// Callbacks.

#[test]
fn each_part_is_served_as_if_it_were_alone() {
    let mut it = Both::new();
    let web = it.connect(WEB);
    let lines = it.connect(LINES);
    assert_eq!(it.say(web, "GET / HTTP/1.1\r\nhost: a\r\n"), "");
    assert_eq!(it.say(lines, "one\ntw"), "1 one\n");
    let other = it.connect(LINES);
    assert_eq!(it.say(other, "un\n"), "1 un\n");
    assert_eq!(it.say(web, "\r\n"), "GET / HTTP/1.1 (1 headers)\n");
    assert_eq!(it.say(lines, "o\n"), "2 two\n");
    assert_eq!((it.web().conns.len(), it.lines().conns.len()), (1, 2));
    for client in [web, lines, other] {
        it.world.close(client);
    }
    it.world.run();
    assert_eq!(it.diary.count("web: close: end of stream"), 1);
    assert_eq!(it.diary.count("lines: close: end of stream"), 2);
    assert_eq!(it.sessions.count(), (3, 3));
}

#[test]
fn the_part_that_wrote_too_much_hears_of_room_again() {
    let mut it = Both::new();
    it.world.faults().buffers(4096, 4096);
    it.connect(WEB);
    let client = it.connect(LINES);
    it.world.stop_reading(client);
    assert_eq!(it.say(client, "flood\n"), "");
    it.world.resume_reading(client);
    let heard = it.hear(client);
    assert!(heard.ends_with(".room after 1 lines\n"), "{}", heard.len());
}

#[test]
fn timers_go_to_the_part_that_set_them() {
    let mut it = Both::new();
    let client = it.connect(LINES);
    it.say(client, "timer\n");
    it.world.advance(Duration::from_secs(10));
    assert_eq!((it.web().ticks, it.lines().ticks), (10, 3));
    assert_eq!(it.hear(client), "timer after 1 lines\n");
}

#[test]
fn each_part_sees_its_own_connections_only() {
    let mut it = Both::new();
    let clients = [WEB, WEB, WEB, LINES, LINES].map(|addr| it.connect(addr));
    assert_eq!(it.say(clients[3], "how many\n"), "1 how many\n2 open\n");

    let census = Census::default();
    let count = |cx: &mut Context<'_>, census: &Census| cx.for_each(|_| drop(census.born()));
    let seen = census.clone();
    let web = it.world.handle().for_part(it.web);
    web.post(move |_, cx| count(cx, &seen)).unwrap();
    it.world.run();
    assert_eq!(census.count().0, 3, "by the typed handle");

    let seen = census.clone();
    it.world.post(move |_, cx| count(cx, &seen));
    it.world.run();
    assert_eq!(census.count().0, 6, "a plain one is the first part's");
}

#[test]
fn what_a_callback_opens_belongs_to_its_part() {
    let mut it = Both::new();
    let first = it.connect(LINES);
    it.say(first, "listen\n");
    let second = it.connect("10.0.0.1:24");
    assert_eq!(it.say(second, "one\n"), "1 one\n");
    assert_eq!((it.web().conns.len(), it.lines().conns.len()), (0, 2));
}

#[test]
fn what_a_typed_post_opens_belongs_to_its_part() {
    let mut it = Both::new();
    let handle = it.world.handle().for_part(it.lines);
    handle
        .post(|_, cx| {
            cx.listen("10.0.0.1:24").unwrap();
            cx.set_timer(cx.now() + ms(1));
        })
        .unwrap();
    it.world.run();
    let client = it.connect("10.0.0.1:24");
    assert_eq!(it.say(client, "one\n"), "1 one\n");
    it.world.advance(ms(2));
    assert_eq!((it.web().ticks, it.lines().ticks), (0, 1));
}

#[test]
fn what_is_opened_on_the_loop_itself_is_the_first_parts() {
    let mut it = Both::new();
    let addr = it.world.listen("10.0.0.1:81");
    it.connect(&addr.to_string());
    assert_eq!((it.web().conns.len(), it.lines().conns.len()), (1, 0));
}

#[test]
fn a_listener_that_cannot_accept_tells_its_own_part() {
    let mut it = Both::new();
    it.world.faults().fail(Call::Accept, libc::EMFILE, 1);
    it.connect(LINES);
    assert_eq!(it.diary.count("lines: accept error"), 1);
    assert_eq!(it.diary.count("web: accept error"), 0);
}

#[test]
fn dials_connections_and_retries_stay_with_the_part_that_dialed() {
    let mut mux = Mux::new();
    let diary = Diary::default();
    mux.add(Web {
        diary: diary.clone(),
        ..Web::default()
    });
    let caller = mux.add(Caller::new(diary.clone(), None));
    let mut world = World::new(1, mux);
    let upstream: SocketAddr = UPSTREAM.parse().unwrap();
    world.remote(upstream, Remote::Refuses);
    let dial = again_after(ms(100), upstream);
    world.dial_for(caller, dial).unwrap();
    world.advance(ms(250));
    assert!(diary.count("caller: retry") >= 2, "{:?}", diary.said());

    world.remote(upstream, Remote::Accepts);
    world.advance(ms(100));
    for n in 1..=3 {
        let server = world.dialed(upstream).unwrap();
        assert_eq!(world.received(server), b"hello\n", "connection {n}");
        world.send(server, b"hi");
        world.close(server);
        world.advance(ms(100));
    }
    assert_eq!(diary.count("caller: connected"), 3);
    assert_eq!(diary.count("caller: heard \"hi\""), 3);
    world.shutdown(ms(100));
}

// Ids in other parts' hands.

#[test]
fn a_part_may_write_to_and_wake_anothers_connection_but_gets_no_callback_of_it() {
    let mut it = Both::new();
    let (web, lines) = (it.connect(WEB), it.connect(LINES));
    it.say(lines, "one\n");
    let id = it.lines().conns[0];
    let handle = it.world.handle().for_part(it.web);
    handle
        .post(move |_, cx| {
            writeln!(cx.conn(id).unwrap(), "from the web");
            assert!(cx.wake(id));
        })
        .unwrap();
    assert_eq!(it.hear(lines), "from the web\nwoken after 1 lines\n");

    let handle = it.world.handle().for_part(it.web);
    handle
        .post(move |_, cx| cx.conn(id).unwrap().close())
        .unwrap();
    it.world.run();
    assert!(it.world.saw_eof(lines));
    it.world.close(lines);
    it.world.run();
    assert_eq!(it.diary.count("lines: close: closed by the handler"), 1);
    assert_eq!(it.say(web, "GET /\n\n"), "GET / (0 headers)\n");
}

#[test]
fn a_timer_on_anothers_connection_is_told_to_its_owner() {
    let mut it = Both::new();
    let lines = it.connect(LINES);
    let id = it.lines().conns[0];
    let handle = it.world.handle().for_part(it.web);
    let set = move |_: &mut Web, cx: &mut Context<'_>| {
        let mut conn = cx.conn(id).unwrap();
        conn.set_timer(conn.now() + ms(1));
    };
    handle.post(set).unwrap();
    it.world.run();
    it.world.advance(ms(5));
    assert_eq!(it.hear(lines), "timer after 0 lines\n");
}

#[test]
fn a_task_for_anothers_connection_is_dropped_unrun_and_counted() {
    let mut it = Both::new();
    let client = it.connect(LINES);
    let (census, id) = (Census::default(), it.lines().conns[0]);

    let web = it.world.handle().for_part(it.web);
    let life = census.born();
    let task = move |_: &mut Web, _: &mut Conn<'_>, _: &mut Request| {
        drop(life);
        panic!("with a stranger's connection");
    };
    web.post_to(id, task).unwrap();
    let before = it.world.stats();
    it.world.run();
    assert_eq!(census.count(), (1, 1), "the task is gone");
    assert_eq!(it.world.stats().posted_to_gone, before.posted_to_gone + 1);
    assert_eq!(it.world.stats().posted, before.posted);
    assert_eq!(it.world.stats().panics, 0);

    let lines = it.world.handle().for_part(it.lines);
    lines
        .post_to(id, |_, conn, count| {
            count.lines = 41;
            conn.write(b"posted\n");
            Ok(())
        })
        .unwrap();
    assert_eq!(it.hear(client), "posted\n");
    assert_eq!(it.say(client, "next\n"), "42 next\n");

    it.world.close(client);
    it.world.run();
    lines.post_to(id, |_, _, _| Ok(())).unwrap();
    it.world.run();
    assert_eq!(it.world.stats().posted_to_gone, before.posted_to_gone + 2);
}

#[test]
fn an_error_from_a_typed_task_closes_that_connection() {
    let mut it = Both::new();
    let (client, other) = (it.connect(LINES), it.connect(LINES));
    let id = it.lines().conns[0];
    let handle = it.world.handle().for_part(it.lines);
    let task = |_: &mut Lines, _: &mut Conn<'_>, _: &mut Count| Err(io::Error::other("enough"));
    handle.post_to(id, task).unwrap();
    it.world.run();
    assert!(it.world.saw_eof(client));
    assert_eq!(it.say(other, "one\n"), "1 one\n");
    it.world.close(client);
    it.world.run();
    assert_eq!(
        it.diary.said().last().unwrap(),
        "lines: close: handler: enough"
    );
}

// Parts of another Mux.

#[test]
fn a_part_of_another_mux_names_nothing() {
    let mut elsewhere = Mux::new();
    elsewhere.add(Web::default());
    elsewhere.add(Web::default());
    let other_type = elsewhere.add(Web::default());
    let too_high = elsewhere.add(Caller::new(Diary::default(), None));

    let mut mux = Mux::new();
    mux.add(Web::default());
    mux.add(Web::default());
    mux.add(Lines::default());
    assert!(mux.part(other_type).is_none());
    assert!(mux.part_mut(other_type).is_none());
    assert!(mux.part(too_high).is_none());

    let mut world = World::new(1, mux);
    let error = world.try_listen_for(other_type, WEB).unwrap_err();
    assert!(error.to_string().contains("no such part"), "{error}");
    assert!(world.dial_for(too_high, UPSTREAM).is_err());
    assert_eq!(world.open_descriptors(), 0);

    let census = Census::default();
    let life = census.born();
    let handle = world.handle().for_part(other_type);
    let task = move |_: &mut Web, _: &mut Context<'_>| {
        drop(life);
        panic!("with a part of another type");
    };
    handle.post(task).unwrap();
    world.run();
    assert_eq!(census.count(), (1, 1), "dropped unrun");
}

#[test]
#[should_panic(expected = "a Mux cannot be a part of a Mux")]
fn a_mux_inside_a_mux_is_refused() {
    Mux::new().add(Mux::new());
}

#[test]
#[should_panic(expected = "a Mux cannot have more than 65536 parts")]
fn more_parts_than_there_are_numbers_are_refused() {
    struct Nothing;
    impl Handler for Nothing {
        type Session = ();
    }
    let mut mux = Mux::new();
    for _ in 0..=u16::MAX {
        mux.add(Nothing);
    }
    mux.add(Nothing);
}

#[test]
fn a_mux_without_parts_refuses_everybody() {
    let mut world = World::new(1, Mux::new());
    let addr = world.listen(WEB);
    let client = world.connect(addr);
    world.run();
    assert_eq!(world.stats().refused, 1);
    assert!(world.saw_eof(client) || world.was_reset(client));
    world.shutdown(ms(100));
}

#[test]
fn sessions_of_a_mux_that_was_replaced_are_never_lent_to_its_successor() {
    let mut it = Both::new();
    let (web, lines) = (it.connect(WEB), it.connect(LINES));
    it.say(lines, "one\n");

    let mut successor = Mux::new();
    successor.add(Web::default());
    let new = successor.add(Lines::default());
    *it.world.handler_mut() = successor;
    assert_eq!(it.sessions.count(), (2, 2));

    // The first to come takes the seat that the old one had.
    let newcomer = it.connect(LINES);
    assert_eq!(it.say(newcomer, "un\n"), "1 un\n");
    assert_eq!(it.say(lines, "two\n"), "");
    assert!(it.world.saw_eof(lines));
    it.world.close(lines);
    it.world.close(web);
    it.world.run();
    assert_eq!(it.say(newcomer, "deux\n"), "2 deux\n");
    assert_eq!(it.world.handler().part(new).unwrap().conns.len(), 1);
    assert_eq!(it.world.stats().panics, 0);
}

// Beginning and end.

#[test]
fn parts_start_and_stop_in_the_order_of_adding() {
    let mut it = Both::new();
    it.world.shutdown(ms(100));
    let all = ["web: start", "lines: start", "web: stop", "lines: stop"];
    assert_eq!(it.diary.said(), all);
}

#[test]
fn a_part_that_cannot_start_ends_the_run_and_nobody_is_stopped() {
    let diary = Diary::default();
    let mut caller = Caller::new(diary.clone(), None);
    caller.fail_to_start = true;
    let mut mux = Mux::new();
    mux.add(Web {
        diary: diary.clone(),
        ..Web::default()
    });
    mux.add(caller);
    mux.add(Lines {
        diary: diary.clone(),
        ..Lines::default()
    });
    let mut reactor = Reactor::new(mux).unwrap();
    let handle = reactor.handle();
    let error = reactor.run().unwrap_err();
    assert_eq!(error.to_string(), "no start today");
    assert_eq!(diary.said(), ["web: start", "caller: start"]);
    assert_eq!(handle.post(|_, _| ()), Err(PostError::Stopped));
    drop(reactor);
    assert_eq!(diary.said().len(), 2);
}

#[test]
fn a_graceful_stop_tells_every_connection_of_every_part() {
    let mut it = Both::with(|web, _| web.stubborn = true);
    let web = it.connect(WEB);
    let lines = [it.connect(LINES), it.connect(LINES)];
    it.world.send(lines[0], b"stop\n");
    it.world.run();
    for client in lines {
        assert!(it.world.saw_eof(client));
        it.world.close(client);
    }
    it.world.advance(ms(100));
    assert!(it.world.was_reset(web), "it did not close in time");
    assert!(it.world.has_stopped());
    assert_eq!(it.diary.count("web: shutdown"), 1);
    assert_eq!(it.diary.count("lines: shutdown"), 2);
    assert_eq!(it.diary.count("lines: close: shutdown"), 2);
    assert_eq!(it.diary.said().last().unwrap(), "lines: stop");
    assert_eq!(it.sessions.count(), (3, 3));
}

#[test]
fn a_part_that_panics_at_the_end_does_not_cost_the_next_its_last_word() {
    let diary = Diary::default();
    let mut mux = Mux::new();
    mux.add(Lines {
        diary: diary.clone(),
        panic_at: Some("stop"),
        ..Lines::default()
    });
    mux.add(Web {
        diary: diary.clone(),
        ..Web::default()
    });
    let mut world = World::with_config(1, mux, Config::default());
    world.run();
    world.shutdown(ms(10));
    assert_eq!(diary.said()[2..], ["lines: stop", "web: stop"]);
    assert_eq!(world.stats().panics, 1);
}

// Panics and sessions.

#[test]
fn a_part_that_panics_leaves_the_others_alone() {
    for at in ["accept", "read", "close", "timer"] {
        let mut it = Both::with(|_, lines| lines.panic_at = Some(at));
        let web = it.connect(WEB);
        assert_eq!(it.say(web, "GET /\nhost: a\n"), "");
        let lines = it.connect(LINES);
        if at != "accept" {
            it.say(lines, if at == "read" { "panic\n" } else { "close\n" });
            it.world.close(lines);
        }
        it.world.advance(LINES_TICK);
        assert_eq!(it.world.stats().panics, 1, "at {at}");
        let answer = it.say(web, "\n");
        assert_eq!(answer, "GET / (1 headers)\n", "at {at}");
        assert_eq!(it.web().ticks, 3, "at {at}");
        assert_eq!(it.lines().ticks, 1, "at {at}");
        assert_eq!(it.sessions.count(), (2, 1), "at {at}");
        let panicked = it
            .diary
            .count(&format!("lines: close: {}", CloseReason::Panic));
        assert_eq!(panicked, usize::from(at == "read"), "at {at}");
    }
}

#[test]
fn a_panic_in_a_typed_post_costs_nothing_but_itself() {
    let mut it = Both::new();
    let (web, lines) = (it.connect(WEB), it.connect(LINES));
    let id = it.lines().conns[0];
    let handle = it.world.handle().for_part(it.lines);
    handle.post(|_, _| panic!("on purpose")).unwrap();
    assert_eq!(it.say(lines, "one\n"), "1 one\n");
    handle
        .post_to(id, |_, _, _| panic!("on purpose, too"))
        .unwrap();
    it.world.run();
    assert!(it.world.was_reset(lines));
    assert_eq!(it.world.stats().panics, 2);
    assert_eq!(it.say(web, "GET /\n\n"), "GET / (0 headers)\n");
}

#[test]
fn every_session_is_dropped_exactly_once_however_its_connection_ends() {
    let mut it = Both::new();
    let ends = ["close\n", "err\n", "panic\n", ""];
    let clients = ends.map(|words| {
        let client = it.connect(LINES);
        it.say(client, words);
        it.world.close(client);
        it.world.run();
        client
    });
    assert_eq!(it.sessions.count(), (clients.len(), clients.len()));
    let reset = it.connect(WEB);
    it.world.reset(reset);
    it.world.run();
    assert_eq!(it.sessions.count(), (5, 5));
    it.connect(WEB);
    it.connect(LINES);
    assert_eq!(it.sessions.count(), (7, 5));
    let sessions = it.sessions.clone();
    drop(it);
    assert_eq!(sessions.count(), (7, 7));
}

/// Connections of two parts come and go in random order, so that each gets slots that the
/// other part's had before.
#[test]
fn sessions_never_mix_while_connections_come_and_go() {
    let mut it = Both::new();
    let mut rng = util::Rng::new(7);
    // Whose, and how many lines were said.
    let mut open: Vec<(Client, &str, usize)> = Vec::new();
    for round in 0..1_000 {
        if open.is_empty() || rng.one_in(3) {
            let addr = if rng.one_in(2) { WEB } else { LINES };
            open.push((it.connect(addr), addr, 0));
            continue;
        }
        let at = rng.range(0, open.len() - 1);
        if rng.one_in(3) {
            let (client, addr, said) = open.swap_remove(at);
            if addr == WEB && said > 0 {
                let headers = format!("x ({} headers)\n", said - 1);
                assert_eq!(it.say(client, "\n"), headers, "in round {round}");
            }
            it.world.close(client);
            it.world.run();
        } else {
            let (client, addr, said) = &mut open[at];
            *said += 1;
            let numbered = format!("{said} x\n");
            let want = if *addr == WEB { "" } else { &numbered };
            assert_eq!(it.say(*client, "x\n"), want, "in round {round}");
        }
    }
    assert!(it.world.stats().closed > 100);
    assert_eq!(it.world.stats().panics, 0);
}

// The real kernel.

/// A `Mux` with three parts on a thread of its own.
struct Server {
    plain: Handle<Mux>,
    web: Handle<Web>,
    lines: Handle<Lines>,
    caller: Handle<Caller>,
    web_at: SocketAddr,
    lines_at: SocketAddr,
    diary: Diary,
    thread: Option<JoinHandle<io::Result<Summary>>>,
}

impl Server {
    /// The third part calls the second.
    fn start() -> Self {
        let diary = Diary::default();
        let (say, born) = mpsc::channel();
        let theirs = diary.clone();
        let thread = thread::spawn(move || {
            let mut mux = Mux::new();
            let web = mux.add(Web {
                diary: theirs.clone(),
                ..Web::default()
            });
            let lines = mux.add(Lines {
                diary: theirs.clone(),
                ..Lines::default()
            });
            let caller = mux.add(Caller::new(theirs, None));
            let mut reactor = Reactor::new(mux).unwrap();
            let web_at = listen(&mut reactor, web);
            let lines_at = listen(&mut reactor, lines);
            reactor
                .dial_for(caller, again_after(ms(1), lines_at))
                .unwrap();
            let handles = (
                reactor.handle(),
                reactor.handle_for(web),
                reactor.handle_for(lines),
                reactor.handle_for(caller),
            );
            say.send((handles, web_at, lines_at)).unwrap();
            reactor.run()
        });
        let (handles, web_at, lines_at) = born.recv_timeout(PATIENCE).unwrap();
        let (plain, web, lines, caller) = handles;
        Self {
            plain,
            web,
            lines,
            caller,
            web_at,
            lines_at,
            diary,
            thread: Some(thread),
        }
    }

    fn stop(mut self) -> Stats {
        // A loop that has stopped needs no telling.
        let _ = self.lines.shutdown(Duration::ZERO);
        let thread = self.thread.take().unwrap();
        let ended = eventually(PATIENCE, || thread.is_finished());
        assert!(ended, "the loop did not end in time");
        thread.join().unwrap().unwrap().stats
    }
}

fn listen<H: Handler + 'static>(reactor: &mut Reactor<Mux>, part: PartId<H>) -> SocketAddr {
    let id = reactor.listen_for(part, "127.0.0.1:0").unwrap();
    util::ip(reactor.listener(id).unwrap().local_addr())
}

/// Runs something with one part, and brings back the answer.
fn ask<H: Handler, R: Send + 'static>(
    handle: &Handle<H>,
    question: impl FnOnce(&mut H, &mut Context<'_>) -> R + Send + 'static,
) -> R {
    let (say, answer) = mpsc::channel();
    let asked = handle.post(move |part, cx| {
        let _ = say.send(question(part, cx));
    });
    asked.unwrap();
    answer.recv_timeout(PATIENCE).unwrap()
}

#[test]
fn three_protocols_share_one_loop_on_the_real_kernel() {
    let server = Server::start();
    let mut web = connect(server.web_at);
    send(&mut web, b"GET / HTTP/1.1\r\n");
    let mut lines = connect(server.lines_at);
    assert_eq!(round_trip_line(&mut lines, "one\n"), "1 one\n");
    assert_eq!(
        round_trip_line(&mut web, "host: a\r\n\r\n"),
        "GET / HTTP/1.1 (1 headers)\n"
    );
    assert_eq!(round_trip_line(&mut lines, "two\n"), "2 two\n");
    let called = eventually(PATIENCE, || {
        server.diary.count("caller: heard \"1 hello\\n2 close\\n\"") == 3
    });
    assert!(called, "{:?}", server.diary.said());

    ask(&server.caller, |_, cx| {
        cx.for_each(|_| panic!("it hung up"));
    });
    send(&mut lines, b"close\n");
    assert_eq!(read_to_eof(&mut lines), b"3 close\n");
    let handle = server.web.clone();
    let diary = server.diary.clone();
    server.lines.shutdown(PATIENCE / 3).unwrap();
    assert_eq!(
        read_to_eof(&mut web),
        b"",
        "another part's stop is its, too"
    );
    drop(web);
    let stats = server.stop();
    assert_eq!(stats.panics, 0);
    let stops = ["web: stop", "lines: stop", "caller: stop"];
    assert_eq!(diary.said()[diary.said().len() - 3..], stops);
    assert_eq!(handle.post(|_, _| ()), Err(PostError::Stopped));
    assert_eq!(handle.shutdown(ms(1)), Err(PostError::Stopped));
}

fn round_trip_line(stream: &mut TcpStream, words: &str) -> String {
    send(stream, words.as_bytes());
    read_line(stream)
}

fn read_line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        line.extend(read_exactly(stream, 1));
    }
    String::from_utf8(line).unwrap()
}

#[test]
fn typed_handles_work_from_threads_in_the_order_of_posting() {
    const EACH: usize = 300; // three threads of this stay below the mailbox's limit
    let server = Server::start();
    let order = Diary::default();
    thread::scope(|scope| {
        let (web, lines, plain) = (&server.web, &server.lines, &server.plain);
        let diary = &order;
        scope.spawn(move || {
            for n in 0..EACH {
                let diary = diary.clone();
                web.post(move |web, _| {
                    web.ticks += 1;
                    diary.say(format!("web {n}"));
                })
                .unwrap();
            }
        });
        scope.spawn(move || {
            for n in 0..EACH {
                let (web, lines) = (web.clone(), lines.clone());
                let diary = diary.clone();
                // One thread, two parts and the whole: one mailbox, so one order.
                let second = diary.clone();
                lines
                    .post(move |_, _| diary.say(format!("lines {n}")))
                    .unwrap();
                web.post(move |_, _| second.say(format!("lines {n} then web")))
                    .unwrap();
            }
        });
        scope.spawn(move || {
            for _ in 0..EACH {
                plain.post(|_, _| ()).unwrap();
            }
        });
    });
    assert_eq!(ask(&server.web, |web, _| web.ticks), EACH);
    let said = order.said();
    let of_one = |what: &str| {
        let said = said.iter().filter(|said| said.starts_with(what));
        said.cloned().collect::<Vec<_>>()
    };
    let want: Vec<_> = (0..EACH).map(|n| format!("web {n}")).collect();
    assert_eq!(of_one("web "), want);
    let both = |n| [format!("lines {n}"), format!("lines {n} then web")];
    let want: Vec<_> = (0..EACH).flat_map(both).collect();
    assert_eq!(of_one("lines "), want);
    server.stop();
}

#[test]
fn the_handle_that_a_part_gets_at_the_start_is_its_own() {
    let server = Server::start();
    let handle = ask(&server.web, |web, _| web.handle.clone()).unwrap();
    let mut client = connect(server.web_at);
    assert_eq!(round_trip_line(&mut client, "G\n\n"), "G (0 headers)\n");
    let id = ask(&handle, |web, cx| {
        let mut seen = Vec::new();
        cx.for_each(|conn| seen.push(conn.id()));
        assert_eq!(seen, web.conns);
        seen[0]
    });
    let wake = |_: &mut Web, conn: &mut Conn<'_>, request: &mut Request| {
        request.headers = 6;
        let id = conn.id();
        conn.cx().wake(id);
        Ok(())
    };
    handle.post_to(id, wake).unwrap();
    assert_eq!(read_line(&mut client), "woken after 6 headers\n");
    server.stop();
}

// Datagrams and watched descriptors.

/// Writes down what comes by datagram and by pipe, and answers in its own words.
struct Post<W> {
    words: W,
    came: Vec<Vec<u8>>,
    errors: usize,
    timeouts: usize,
    writable: usize,
    ready: usize,
    pipe: Option<PipeReader>,
}

impl<W> Post<W> {
    fn new(words: W) -> Self {
        Self {
            words,
            came: Vec::new(),
            errors: 0,
            timeouts: 0,
            writable: 0,
            ready: 0,
            pipe: None,
        }
    }
}

impl<W: AsRef<[u8]>> Handler for Post<W> {
    type Session = W;

    fn on_datagram(&mut self, socket: &mut Socket<'_>, datagram: &Datagram<'_>) {
        self.came.push(datagram.to_vec());
        socket.send_to(self.words.as_ref(), datagram.from());
        socket.set_read_deadline(Some(socket.now()));
    }

    fn on_socket_timeout(&mut self, _: &mut Socket<'_>, which: Deadline) {
        assert_eq!(which, Deadline::Read);
        self.timeouts += 1;
    }

    fn on_socket_writable(&mut self, _: &mut Socket<'_>) {
        self.writable += 1;
    }

    fn on_socket_error(&mut self, _: &mut Context<'_>, _: SocketId, _: &Error) {
        self.errors += 1;
    }

    fn on_ready(&mut self, cx: &mut Context<'_>, watch: WatchId, ready: Ready) {
        assert!(ready.is_readable());
        self.ready += 1;
        if self.pipe.as_mut().unwrap().read(&mut [0; 9]).unwrap() == 0 {
            cx.unwatch(watch);
        }
    }
}

/// Two parts of different types, each with a socket, and where it is.
struct Posts {
    reactor: Reactor<Mux>,
    text: PartId<Post<&'static str>>,
    bytes: PartId<Post<Vec<u8>>>,
    sockets: [SocketId; 2],
    addrs: [SocketAddr; 2],
}

impl Posts {
    fn new() -> Self {
        let mut mux = Mux::new();
        let text = mux.add(Post::new("text"));
        let bytes = mux.add(Post::new(b"bytes".to_vec()));
        let mut reactor = Reactor::new(mux).unwrap();
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let sockets = [
            reactor.bind_for(text, anywhere).unwrap(),
            reactor.bind_for(bytes, anywhere).unwrap(),
        ];
        let addrs = sockets.map(|id| {
            let local = reactor.socket(id).unwrap().local_addr();
            util::ip(local.unwrap())
        });
        Self {
            reactor,
            text,
            bytes,
            sockets,
            addrs,
        }
    }

    fn text(&self) -> &Post<&'static str> {
        self.reactor.handler().part(self.text).unwrap()
    }

    fn bytes(&self) -> &Post<Vec<u8>> {
        self.reactor.handler().part(self.bytes).unwrap()
    }

    #[track_caller]
    fn until(&mut self, mut holds: impl FnMut(&Self) -> bool) {
        let came = eventually(PATIENCE, || {
            let _ = self.reactor.turn(Some(ms(5))).unwrap();
            holds(self)
        });
        assert!(came, "it never came to that");
    }
}

#[test]
fn datagrams_and_their_deadlines_go_to_the_part_that_bound_the_socket() {
    let mut it = Posts::new();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_to(b"one", it.addrs[1]).unwrap();
    client.send_to(b"two", it.addrs[1]).unwrap();
    it.until(|it| it.bytes().came.len() == 2 && it.bytes().timeouts > 0);
    assert_eq!(it.bytes().came, [b"one", b"two"]);
    assert_eq!((it.text().came.len(), it.text().timeouts), (0, 0));
    let mut buffer = [0; 16];
    let (n, from) = client.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..n], from), (&b"bytes"[..], it.addrs[1]));

    client.send_to(b"three", it.addrs[0]).unwrap();
    it.until(|it| it.text().timeouts == 1);
    assert_eq!(it.text().came, [b"three"]);
    assert_eq!(it.bytes().came.len(), 2);
    assert_eq!(it.reactor.stats().panics, 0);
}

#[test]
fn a_simulated_loop_has_sockets_of_its_parts() {
    let mut mux = Mux::new();
    let text = mux.add(Post::new("text"));
    let bytes = mux.add(Post::new(b"bytes".to_vec()));
    let mut world = World::new(1, mux);
    world.try_bind_for(text, "udp://10.0.0.1:53").unwrap();
    let id = world.try_bind_for(bytes, "udp://10.0.0.1:54").unwrap();
    let to = world.socket(id).unwrap().local_addr().unwrap();
    let client = world.packet_client(([10, 0, 0, 2], 9));
    world.send_datagram(client, &to, b"one");
    world.run();
    let answers = world.received_datagrams(client);
    assert_eq!(answers, [(to, b"bytes".to_vec())]);
    let mux = world.handler();
    assert_eq!(mux.part(bytes).unwrap().came, [b"one"]);
    assert!(mux.part(text).unwrap().came.is_empty());
}

#[test]
fn an_error_of_a_socket_is_told_to_the_part_that_bound_it() {
    let mut it = Posts::new();
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = nobody.local_addr().unwrap();
    drop(nobody);
    let id = it
        .reactor
        .bind_for(it.bytes, Bind::connect(addr).unwrap())
        .unwrap();
    it.reactor.socket(id).unwrap().send(b"is anybody there?");
    it.until(|it| it.bytes().errors > 0);
    assert_eq!(it.text().errors, 0);
}

#[test]
fn a_socket_that_was_full_says_so_to_the_part_that_bound_it() {
    let dir = std::env::temp_dir().join(format!("windlass-mux-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let sink = UnixDatagram::bind(dir.join("sink")).unwrap();
    sink.set_nonblocking(true).unwrap();
    let mut it = Posts::new();
    let to = format!("unixgram://{}/sink", dir.display());
    let bind = Bind::connect(to.as_str()).unwrap().queue_limit(512);
    let id = it.reactor.bind_for(it.bytes, bind).unwrap();
    let mut socket = it.reactor.socket(id).unwrap();
    // Until the sink's queue is full, and ours.
    while socket.send(b"x") == Delivery::Queued {}
    it.until(|it| {
        while sink.recv(&mut [0; 9]).is_ok() {}
        it.bytes().writable > 0
    });
    assert_eq!(it.text().writable, 0);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_watched_descriptor_is_ready_for_the_part_that_watches_it() {
    let mut it = Posts::new();
    let (source, mut sink) = pipe().unwrap();
    let (part, watched) = (it.bytes, source.try_clone().unwrap());
    it.reactor.handler_mut().part_mut(part).unwrap().pipe = Some(source);
    it.reactor.watch_for(part, watched, Interest::Read).unwrap();
    sink.write_all(b"bytes").unwrap();
    it.until(|it| it.bytes().ready == 1);
    drop(sink);
    it.until(|it| it.bytes().ready == 2);
    assert_eq!(it.text().ready, 0);
    assert_eq!(it.reactor.stats().panics, 0);
}

#[test]
fn a_part_may_send_from_anothers_socket_but_gets_no_callback_of_it() {
    let mut it = Posts::new();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let (to, id) = (client.local_addr().unwrap(), it.sockets[1]);
    let task = move |_: &mut Post<&'static str>, cx: &mut Context<'_>| {
        let mut socket = cx.socket(id).unwrap();
        socket.send_to(b"borrowed", to);
        socket.set_read_deadline(Some(socket.now()));
    };
    it.reactor.handle_for(it.text).post(task).unwrap();
    it.until(|it| it.bytes().timeouts == 1);
    assert_eq!(it.text().timeouts, 0);
    let mut buffer = [0; 16];
    let (n, from) = client.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..n], from), (&b"borrowed"[..], it.addrs[1]));
}

// Completeness.

#[test]
fn a_mux_passes_on_every_callback_that_a_handler_has() {
    let source = |name| {
        let path = format!("{}/src/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    };
    let (handler, mux) = (source("handler.rs"), source("mux.rs"));
    let declared = callbacks(&handler, "pub trait Handler: Sized {");
    assert!(declared.len() >= 19, "{declared:?}");
    assert_eq!(callbacks(&mux, "impl Handler for Mux {"), declared);
    let part = "impl<H: Handler + 'static> Facade for Part<H> {";
    assert_eq!(callbacks(&mux, part), declared);
}

/// The names of the callbacks in the block that begins with that line.
fn callbacks(source: &str, opening: &str) -> BTreeSet<String> {
    let block = source.split(opening).nth(1).expect(opening);
    let block = block.split("\n}\n").next().unwrap();
    let names = block.lines().filter_map(|line| {
        let name = line.trim().strip_prefix("fn ")?.split('(').next()?;
        name.starts_with("on_").then(|| name.to_owned())
    });
    names.collect()
}

#[test]
fn a_task_for_a_connection_by_a_part_of_another_mux_is_dropped_unrun() {
    struct Stranger;
    impl Handler for Stranger {
        type Session = ();
    }

    let mut it = Both::new();
    let lines = it.connect(LINES);
    it.say(lines, "one\n");
    let id = it.lines().conns[0];
    let mut other = Mux::new();
    // One of them has the number of the part that the connection belongs to.
    for stranger in [other.add(Stranger), other.add(Stranger)] {
        let handle = it.world.handle().for_part(stranger);
        handle
            .post_to(id, |_, _, ()| panic!("it ran for a stranger"))
            .unwrap();
    }
    it.world.run();
    assert_eq!(it.say(lines, "two\n"), "2 two\n");
}
