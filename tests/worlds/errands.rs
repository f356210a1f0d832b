//! Mischief that opens and closes sources: dials, listeners, posts, datagrams.

use std::net::SocketAddr;
use std::time::Duration;

use windlass::{Backoff, Context, Datagram, Delivery, Dial, DialId, Listen, Socket};

use super::app::App;
use super::book::{Dialing, Listening};
use super::dice::Stream;
use super::judge::LONGEST_WAIT;

/// Hosts that are dialed: the addresses 192.0.2.1 and up, port 80.
pub const REMOTES: u8 = 6;
/// Names that are looked up.
pub const NAMES: [&str; 4] = ["many.test", "one.test", "silent.test", "unknown.test"];
/// Whoever dials a listener of its own comes from here.
pub const TWIN: [u8; 4] = [127, 0, 0, 9];

/// Sources of each kind that one world opens.
const MOST_DIALS: usize = 12;
const MOST_LISTENERS: usize = 5;

/// Bytes of a datagram's number.
pub const NUMBER: usize = 8;
/// Marks a datagram that the loop sent.
pub const OURS: u64 = 1 << 63;

pub fn remote(n: u8) -> SocketAddr {
    ([192, 0, 2, n + 1], 80).into()
}

/// A datagram that says which it is.
pub fn packet(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend(Stream::new(number).bytes(0, len));
    bytes
}

/// Its number, if every byte is as it should be.
pub fn number_of(bytes: &[u8]) -> Option<u64> {
    let (head, rest) = bytes.split_first_chunk::<NUMBER>()?;
    let number = u64::from_be_bytes(*head);
    Stream::new(number)
        .differs(0, rest)
        .is_none()
        .then_some(number)
}

impl App {
    pub fn dial(&mut self, cx: &mut Context<'_>) -> Option<DialId> {
        if !self.plan.dials || self.book.dials.len() >= MOST_DIALS {
            return None;
        }
        let (dial, timeout, again) = self.some_dial();
        let now = cx.now();
        let dialed = cx.dial(dial);
        match &dialed {
            Ok(id) => self.book_dial(*id, now, timeout, again),
            Err(error) => self.book.fail(format!("a dial was refused: {error}")),
        }
        dialed.ok()
    }

    /// A dial to somebody, the time it may take, and whether it goes on for ever.
    fn some_dial(&mut self) -> (Dial, Duration, bool) {
        let dice = &mut self.dice;
        let listener = self.book.listeners.first().map(|it| it.addr);
        let target = match dice.roll(8) {
            0 | 1 => format!("{}:80", dice.pick(&NAMES)),
            2 if listener.is_some() => listener.map_or_else(String::new, |it| it.to_string()),
            _ => remote(dice.roll(REMOTES.into()) as u8).to_string(),
        };
        let twin = target.starts_with("127.");
        self.book.diary.note(|| format!("    dials {target}"));
        let Ok(mut dial) = Dial::new(target.as_str()) else {
            self.book.fail(format!("{target} does not parse"));
            return (Dial::from(remote(0)), Duration::ZERO, false);
        };
        if twin {
            dial = dial.local_addr(SocketAddr::from((TWIN, 0)));
        }
        let mut timeout = self.plan.config.dial_timeout;
        if dice.one_in(3) {
            timeout = Duration::from_millis(dice.between(1, 500) as u64);
            dial = dial.timeout(timeout);
        }
        let again = dice.one_in(4);
        if again {
            dial = dial.reconnect(Backoff::new(Duration::from_millis(5), LONGEST_WAIT));
        }
        (self.plan.dressed_dial(dial), timeout, again)
    }

    fn book_dial(&mut self, id: DialId, now: std::time::Instant, timeout: Duration, again: bool) {
        let until = now + timeout;
        let dialing = Dialing {
            until,
            not_before: Some(until),
            again,
            canceled: self.book.stop_at.is_some(),
            waiting: false,
            connected: None,
            over: false,
            timeout,
        };
        let before = self.book.dials.insert(id, dialing);
        self.book.must(before.is_none(), || {
            format!("{id:?} is the name of two dials")
        });
    }

    pub fn cancel_dial(&mut self, cx: &mut Context<'_>) {
        // Mostly one that is under way.
        let any = self.dice.one_in(4);
        let under_way = |it: &Dialing| !it.over && it.connected.is_none() && !it.canceled;
        let dials = self.book.dials.iter();
        let ids: Vec<_> = dials.filter(|(_, it)| any || under_way(it)).collect();
        if ids.is_empty() {
            return;
        }
        let id = *ids[self.dice.roll(ids.len())].0;
        self.cancel(cx, id);
    }

    pub fn cancel(&mut self, cx: &mut Context<'_>, id: DialId) {
        let canceled = cx.cancel_dial(id);
        let Some(it) = self.book.dials.get_mut(&id) else {
            return;
        };
        let over = it.over;
        it.canceled |= canceled;
        it.over |= canceled && it.connected.is_some();
        self.book.must(!(over && canceled), || {
            format!("{id:?} was over and was canceled")
        });
    }

    pub fn listen(&mut self, cx: &mut Context<'_>) {
        if self.book.listeners.len() >= MOST_LISTENERS {
            return;
        }
        self.next_port += 1;
        let addr = SocketAddr::from(([127, 0, 0, 1], self.next_port));
        let most = self.dice.one_in(3).then(|| self.dice.between(1, 3));
        let by_name = self.dice.one_in(6);
        let mut listen = if by_name {
            // Whoever listens by name waits for the resolver.
            Listen::try_from(format!("localhost:{}", self.next_port).as_str())
                .unwrap_or_else(|_| Listen::from(addr))
        } else {
            Listen::from(addr)
        }
        .backlog(self.dice.between(1, 4) as u32);
        listen = self.plan.dressed(listen);
        if let Some(most) = most {
            listen = listen.max_connections(most);
        }
        // It fails if a fault says so, or if the loop stops.
        let id = cx.listen(listen);
        self.book
            .diary
            .note(|| format!("    listens on {addr}: {id:?}"));
        if let Ok(id) = id {
            self.book.listeners.push(Listening {
                id,
                addr,
                most,
                paused: false,
                closing: self.book.stop_at.is_some(),
            });
        }
    }

    pub fn close_listener(&mut self, cx: &mut Context<'_>) {
        let at = self.dice.roll(self.book.listeners.len().max(1));
        // The first stays, or nobody would come any more.
        if at > 0
            && let Some(it) = self.book.listeners.get_mut(at)
        {
            it.closing = true;
            if let Some(mut listener) = cx.listener(it.id) {
                listener.close();
            }
        }
    }

    pub fn pause_listener(&mut self, cx: &mut Context<'_>) {
        let at = self.dice.roll(self.book.listeners.len().max(1));
        if let Some(it) = self.book.listeners.get_mut(at)
            && let Some(mut listener) = cx.listener(it.id)
        {
            // A fault may keep it from saying.
            let queue = listener.queue().unwrap_or_default();
            if queue.0 > queue.1 {
                self.book.fail(format!("a queue of {queue:?}"));
                return;
            }
            if it.paused {
                listener.resume();
            } else {
                listener.pause();
            }
            it.paused = listener.is_paused();
        }
    }

    /// A closure that runs later, in the order of posting.
    pub fn post(&mut self) {
        let Some(handle) = &self.handle else { return };
        let number = self.book.posted + 1;
        let ticket = self.book.tally.ticket();
        let task = move |app: &mut Self, cx: &mut Context<'_>| {
            drop(ticket);
            app.run_post(number, cx);
        };
        if handle.post(task).is_ok() {
            self.book.posted = number;
        }
        self.judge_post();
    }

    pub fn run_post(&mut self, number: u64, cx: &mut Context<'_>) {
        self.book.enter("post", None);
        self.in_order(number);
        if !self.tame {
            self.mischief_elsewhere(cx);
        }
        self.maybe_panic(None);
        self.book.leave();
    }

    fn in_order(&mut self, number: u64) {
        self.book.posts_in_turn += 1;
        let before = std::mem::replace(&mut self.book.ran, number);
        self.book.must(number > before, || {
            format!("post {number} runs after post {before}")
        });
    }

    /// To any connection that ever was.
    pub fn post_to_somebody(&mut self) {
        let Some(handle) = &self.handle else { return };
        let all = self.book.lines.len();
        if all == 0 {
            return;
        }
        let to = self.dice.roll(all);
        let number = self.book.posted + 1;
        let ticket = self.book.tally.ticket();
        let sent = handle.post_to(self.book.lines[to].id, move |app, conn, at| {
            drop(ticket);
            app.begin_callback("post_to", conn, *at);
            app.in_order(number);
            app.book
                .must(*at == to, || format!("a post to {to} reaches {at}"));
            let outcome = app.maybe_mischief(conn, *at);
            app.end_callback(conn, *at, outcome)
        });
        if sent.is_ok() {
            self.book.posted = number;
        }
        self.judge_post();
    }

    // Datagrams.

    pub fn meet(&mut self, socket: &mut Socket<'_>, datagram: &Datagram<'_>) {
        let id = socket.id();
        let known = self.book.sockets.iter().position(|it| it.id == id);
        let closed = known.is_none_or(|at| self.book.sockets[at].closed);
        self.book.must(!closed, || {
            format!("on_datagram of {id:?}, which is closed")
        });
        let most = self.plan.config.max_datagram;
        let len = datagram.bytes().len();
        let fits = if datagram.is_truncated() {
            len == most
        } else {
            len <= most
        };
        self.book
            .must(fits, || format!("a datagram of {len} bytes, {most} may be"));
        match number_of(datagram.bytes()) {
            Some(number) => {
                self.packets_seen.push(number);
                self.judge_datagram(id, number, datagram);
            }
            None => self.book.fail("a datagram came damaged"),
        }
        if self.dice.one_in(2) {
            let bytes = self.next_packet();
            let delivery = socket.send_to(&bytes, datagram.from().clone());
            self.book.tally.given += u64::from(delivery != Delivery::Closed);
        }
        if !self.tame && self.dice.one_in(30) {
            socket.close();
            if let Some(at) = known {
                self.book.sockets[at].closed = true;
            }
        }
    }

    fn next_packet(&mut self) -> Vec<u8> {
        self.packets_sent += 1;
        let len = self.dice.roll(60);
        packet(OURS | self.packets_sent, len)
    }

    pub fn send_somewhere(&mut self, cx: &mut Context<'_>) {
        if self.book.sockets.is_empty() {
            return;
        }
        let at = self.dice.roll(self.book.sockets.len());
        let (id, closed) = (self.book.sockets[at].id, self.book.sockets[at].closed);
        let Some(mut socket) = cx.socket(id) else {
            return;
        };
        // Often enough for a queue to fill.
        for _ in 0..self.dice.pick(&[1, 1, 3, 12]) {
            let bytes = self.next_packet();
            let to = SocketAddr::from(([10, 0, 0, 9], 5000 + self.dice.roll(3) as u16));
            let delivery = socket.send_to(&bytes, to);
            self.book.tally.given += u64::from(delivery != Delivery::Closed);
            self.book.must(!closed || delivery == Delivery::Closed, || {
                format!("{id:?} is closed and takes a datagram")
            });
        }
    }
}
