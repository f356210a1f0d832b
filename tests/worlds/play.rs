//! One world from its seed: it is set up, played, judged after every turn, and ended.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use windlass::sim::{Call, PacketClient, World};
use windlass::{Addr, Bind, Listen, PostError};

use super::app::App;
use super::book::{Listening, Socketed, State, TOLERANCE};
use super::dice::Dice;
use super::errands::{self, OURS, REMOTES};
use super::peers::{Peer, expect};
use super::plan::Plan;
use super::{faults, rest};

/// Turns at one moment, after which the loop is taken to spin.
const SPIN: u32 = 20_000;
/// Turns in a row, at one moment, in which nothing at all was done.
const EMPTY: u32 = 4;
const PIECES: u32 = 500;
/// Of these, in one stretch of time: one for each that did something, some, and so many for
/// each source.
const EMPTY_IN_ALL: u32 = 30;
const EMPTY_EACH: u32 = 12;
/// What the script lets pass at once, mostly.
const STRETCH: Duration = Duration::from_millis(60);
/// A jump of the clock.
const JUMP: Duration = Duration::from_secs(20);
/// Long enough for naps, back-offs and the like to end.
const SETTLING: Duration = Duration::from_secs(1);
/// A back-off is over by then.
const PATIENCE: Duration = Duration::from_millis(60);

/// What one world came to.
#[derive(Clone, Default, Debug)]
pub struct Outcome {
    pub turns: u64,
    pub callbacks: u64,
    pub connections: u64,
    /// The callbacks that ran, the reasons that were told, and what was counted.
    pub corners: BTreeSet<&'static str>,
}

impl Outcome {
    fn of(world: &World<App>) -> Self {
        let stats = world.stats();
        let mut corners = world.handler().book.corners.clone();
        let counted = [
            ("refused", stats.refused),
            ("shed", stats.shed),
            ("lost", stats.lost),
            ("backoffs", stats.backoffs),
            ("stale events", stats.stale_events),
            ("discarded", stats.bytes_discarded),
            ("posted to gone", stats.posted_to_gone),
            ("datagrams dropped", stats.datagrams_dropped),
            ("panics", stats.panics),
        ];
        corners.extend(counted.iter().filter(|it| it.1 > 0).map(|it| it.0));
        Self {
            turns: stats.turns,
            callbacks: stats.callbacks,
            connections: stats.accepted + stats.connected,
            corners,
        }
    }

    pub fn add(&mut self, other: Self) {
        self.turns += other.turns;
        self.callbacks += other.callbacks;
        self.connections += other.connections;
        self.corners.extend(other.corners);
    }
}

/// A world that broke a rule.
pub struct Failure {
    pub why: String,
    pub trace: Vec<String>,
}

struct Play {
    world: World<App>,
    dice: Dice,
    plan: Plan,
    peers: Vec<Peer>,
    packet_client: Option<PacketClient>,
    socket_addrs: Vec<Addr>,
    packets: u64,
    /// Failures that were played and can have ended a connection.
    hurts: usize,
    /// From then on nothing is on its way any more.
    clear_at: Instant,
    latency: Duration,
    /// Since when nothing has gone wrong; `None` while something may.
    fair: Option<Instant>,
    work: u64,
    empty: u32,
}

/// Plays the world of that seed; with a trace if it is asked for.
pub fn play(seed: u64, trace: bool) -> (Result<Outcome, Failure>, Vec<String>) {
    let mut play = Play::new(seed, trace);
    let played = catch_unwind(AssertUnwindSafe(|| play.all()));
    let lines = play.world.trace();
    let why = match played {
        Ok(Ok(())) => {
            let outcome = Outcome::of(&play.world);
            return (Ok(outcome), lines);
        }
        Ok(Err(why)) => why,
        Err(panic) => panic_text(panic.as_ref()),
    };
    let trace = lines.clone();
    (Err(Failure { why, trace }), lines)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("without a word"))
}

/// The acts of a world.
impl Play {
    fn new(seed: u64, trace: bool) -> Self {
        let mut dice = Dice::new(seed);
        let plan = Plan::new(&mut dice);
        let app = App::new(plan.clone(), Dice::new(!seed));
        let mut world = World::with_config(seed, app, plan.config.clone());
        world.set_trace(trace);
        world.handler_mut().book.diary = world.diary();
        world
            .faults()
            .buffers(plan.buffers.0, plan.buffers.1)
            .rearm(plan.rearm)
            .reuse_descriptors(plan.reuse_descriptors)
            .abort_reset_accepts(plan.abort_reset_accepts)
            .inherit_options(plan.inherit_options)
            .backlog_limit(plan.backlog_limit);
        world.diary().note(|| format!("{plan:#?}"));
        let now = world.now();
        Self {
            world,
            dice,
            plan,
            peers: Vec::new(),
            packet_client: None,
            socket_addrs: Vec::new(),
            packets: 0,
            hurts: 0,
            clear_at: now,
            latency: Duration::ZERO,
            fair: Some(now),
            work: 0,
            empty: 0,
        }
    }

    fn all(&mut self) -> Result<(), String> {
        self.set_up()?;
        for _ in 0..self.plan.steps {
            self.step()?;
            if self.world.has_stopped() {
                break;
            }
        }
        self.settle()?;
        self.end()
    }

    fn set_up(&mut self) -> Result<(), String> {
        for _ in 0..self.dice.between(1, 2) {
            let port = 10 + self.peers.len() as u16 + self.listeners() as u16;
            let addr = SocketAddr::from(([127, 0, 0, 1], port));
            let most = self.dice.one_in(5).then(|| self.dice.between(1, 3));
            let mut listen = Listen::from(addr);
            if let Some(most) = most {
                listen = listen.max_connections(most);
            }
            let id = self.world.try_listen(listen).map_err(|it| it.to_string())?;
            let listening = Listening {
                id,
                addr,
                most,
                paused: false,
                closing: false,
            };
            self.world.handler_mut().book.listeners.push(listening);
        }
        faults::hosts(&mut self.world, &mut self.dice);
        if self.plan.packets {
            self.open_sockets()?;
        }
        self.run()
    }

    fn listeners(&self) -> usize {
        self.world.handler().book.listeners.len()
    }

    fn open_sockets(&mut self) -> Result<(), String> {
        let addr = SocketAddr::from(([10, 0, 0, 9], 5000));
        self.packet_client = Some(self.world.packet_client(addr));
        for port in 1..=self.dice.between(1, 2) as u16 {
            let bind = Bind::from(SocketAddr::from(([127, 0, 0, 1], 50 + port)));
            let id = self.world.try_bind(bind).map_err(|it| it.to_string())?;
            let addr = self.world.socket(id).and_then(|it| it.local_addr());
            self.socket_addrs.extend(addr);
            let socket = Socketed { id, closed: false };
            self.world.handler_mut().book.sockets.push(socket);
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        if self.dice.one_in(self.plan.faults) {
            if let Some(latency) = faults::play(&mut self.world, &mut self.dice) {
                self.wire_changes(latency);
            }
            self.fair = None;
        }
        match self.dice.roll(24) {
            0..=3 if self.peers.len() < self.plan.most_peers => self.come(),
            4 | 5 => self.run()?,
            6..=8 => {
                let time = self.dice.time(STRETCH);
                self.advance(time)?;
            }
            9 if self.dice.one_in(6) => {
                let time = self.dice.time(JUMP);
                self.advance(time)?;
            }
            10 => self.world.handler_mut().post(),
            11 => self.world.handler_mut().post_to_somebody(),
            12 if self.plan.packets => self.send_packet(),
            13 if self.plan.dials => self.dial_from_outside(),
            14 => self.act_from_outside(),
            15 if self.dice.one_in(self.plan.stops) => self.stop_from_outside(),
            16 if self.dice.one_in(6) => self.clear(),
            _ => self.peers_act(),
        }
        self.meet_the_dialed();
        Ok(())
    }

    fn peers_act(&mut self) {
        let count = self.peers.len();
        for _ in 0..self.dice.between(1, 3).min(count) {
            let at = self.dice.roll(count);
            self.peers[at].act(&mut self.world, &mut self.dice);
        }
    }

    fn come(&mut self) {
        let at = self.dice.roll(self.listeners());
        let addr = self.world.handler().book.listeners[at].addr;
        // Refused if that listener is gone by now.
        if let Ok(client) = self.world.try_connect(addr) {
            let peer = Peer::new(&mut self.world, client, Some(addr), &mut self.dice);
            self.peers.push(peer);
        }
    }

    fn meet_the_dialed(&mut self) {
        for n in 0..REMOTES {
            while let Some(client) = self.world.dialed(errands::remote(n)) {
                let peer = Peer::new(&mut self.world, client, None, &mut self.dice);
                self.peers.push(peer);
            }
        }
    }

    fn dial_from_outside(&mut self) {
        let task = |app: &mut App, cx: &mut windlass::Context<'_>| app.dial(cx);
        let _ = self.world.handle().post(task);
    }

    /// Whoever owns the loop acts between two turns.
    fn act_from_outside(&mut self) {
        let Some(at) = self.world.handler_mut().somebody() else {
            return;
        };
        let id = self.world.handler().book.lines[at].id;
        let what = self.dice.roll(4);
        let task = move |app: &mut App, cx: &mut windlass::Context<'_>| {
            app.book.enter("post from outside", None);
            if let Some(mut conn) = cx.conn(id) {
                match what {
                    0 => app.say(&mut conn, at, 100),
                    1 => app.close(&mut conn),
                    _ => app.mischief_here(&mut conn, at),
                }
            }
            app.book.posts_in_turn += 1;
            app.book.leave();
        };
        let _ = self.world.handle().post(task);
    }

    fn stop_from_outside(&mut self) {
        let grace = self.dice.time(JUMP / 8);
        if self.world.handle().shutdown(grace).is_ok() {
            let end = self.world.now() + grace;
            self.world.handler_mut().book.stopping(end);
        }
    }

    fn send_packet(&mut self) {
        let Some(client) = self.packet_client else {
            return;
        };
        self.packets += 1;
        let len = self.dice.roll(90);
        let bytes = errands::packet(self.packets, len);
        let to = self.socket_addrs[self.dice.roll(self.socket_addrs.len())].clone();
        self.world.send_datagram(client, &to, &bytes);
    }

    /// What is on its way takes as long as it would have.
    fn wire_changes(&mut self, latency: Duration) {
        self.clear_at = self.clear_at.max(self.world.now() + self.latency);
        self.latency = latency;
    }

    fn clear(&mut self) {
        faults::clear(&mut self.world);
        self.wire_changes(Duration::ZERO);
        self.fair = Some(self.world.now());
    }
}

/// Time.
impl Play {
    fn run(&mut self) -> Result<(), String> {
        self.advance(Duration::ZERO)
    }

    fn advance(&mut self, by: Duration) -> Result<(), String> {
        let end = self.world.now() + by;
        let (mut at_once, mut empty_in_all, mut full) = (0, 0, 0);
        self.empty = 0;
        loop {
            let before = self.world.now();
            let busy = self.turn(end.saturating_duration_since(before))?;
            let now = self.world.now();
            at_once = if now > before { 0 } else { at_once + 1 };
            expect(at_once < SPIN, || {
                "the loop does not come to rest".to_owned()
            })?;
            empty_in_all += u32::from(self.empty > 0 && self.fair.is_some());
            full += u32::from(self.empty == 0);
            let most = full + EMPTY_IN_ALL + EMPTY_EACH * self.sources();
            expect(empty_in_all <= most, || {
                format!("{empty_in_all} turns of {by:?} did nothing")
            })?;
            if !busy {
                self.rest()?;
                if now >= end || self.world.has_stopped() {
                    return Ok(());
                }
            }
        }
    }

    fn sources(&self) -> u32 {
        let book = &self.world.handler().book;
        (book.lines.len() + book.dials.len() + book.timers.len() + book.listeners.len()) as u32
    }

    fn turn(&mut self, most: Duration) -> Result<bool, String> {
        let before = self.world.now();
        let hurts = faults::pending(&mut self.world);
        let polls = self.world.faults().pending_of(Call::Poll);
        let book = &mut self.world.handler_mut().book;
        book.turn += 1;
        book.accepts_in_turn.clear();
        book.posts_in_turn = 0;
        let turn = book.turn;
        book.diary
            .note(|| format!("--- turn {turn}, at most {most:?}"));
        let busy = self.world.turn(most);
        let played = hurts - faults::pending(&mut self.world);
        if played > 0 {
            self.hurts += played;
            for line in &mut self.world.handler_mut().book.lines {
                line.hurt |= line.state != State::Closed || line.closed_in == turn;
            }
        }
        let interrupted = self.world.faults().pending_of(Call::Poll) < polls;
        let passed = self.world.now() > before;
        self.count_empty(interrupted || passed);
        self.meet_the_dialed();
        rest::after_a_turn(&mut self.world)?;
        if self.latency > Duration::ZERO {
            self.clear_at = self.clear_at.max(self.world.now() + self.latency);
        }
        Ok(busy)
    }

    /// A turn that did nothing may be one too many, but not one after the other.
    fn count_empty(&mut self, excused: bool) {
        const CALLS: [Call; 10] = [
            Call::Accept,
            Call::Read,
            Call::Write,
            Call::Connect,
            Call::Receive,
            Call::Send,
            Call::Close,
            Call::Reset,
            Call::Register,
            Call::LookUp,
        ];
        let stats = self.world.stats();
        let calls: u64 = CALLS.iter().map(|&call| self.world.calls(call)).sum();
        let work = calls + stats.callbacks + stats.events;
        let idle = work == std::mem::replace(&mut self.work, work);
        self.empty = if idle && !excused { self.empty + 1 } else { 0 };
    }

    fn rest(&mut self) -> Result<(), String> {
        // What arrives in pieces keeps a world busy, before it is accepted as well.
        let most = if self.fair.is_some() { EMPTY } else { PIECES };
        expect(self.empty <= most, || {
            format!("{} turns at one moment did nothing", self.empty)
        })?;
        let clear = self.world.now() >= self.clear_at;
        rest::at_rest(&mut self.world, clear)?;
        let mut waiting = Vec::new();
        for peer in &mut self.peers {
            if clear {
                rest::peer_at_rest(&mut self.world, peer)?;
            } else {
                peer.receive(&mut self.world)?;
            }
            let line = peer.line(&self.world).is_some();
            let book = &self.world.handler().book;
            let met = line || book.refused.contains_key(&peer.key) || peer.gone;
            // Whoever does not read does not see that it was turned away.
            if let Some(addr) = peer.listener.filter(|_| !met && peer.reading)
                && !self.world.saw_eof(peer.client)
                && !self.world.was_reset(peer.client)
            {
                waiting.push(addr);
            }
        }
        let now = self.world.now();
        if let Some(since) = self.fair
            && clear
            && now >= since + PATIENCE
        {
            rest::queue_at_rest(&mut self.world, &waiting)?;
        }
        self.nobody_else_was_hurt()?;
        self.receive_packets()
    }

    /// A connection breaks because its peer has broken it, or because a fault was played.
    fn nobody_else_was_hurt(&self) -> Result<(), String> {
        let book = &self.world.handler().book;
        let gone = |key: u64| self.peers.iter().any(|peer| peer.key == key && peer.gone);
        let broken = book.lines.iter().filter(|line| line.by_network);
        // Of twins, either end can have reset the other.
        let one_sided = broken.filter(|line| !line.is_twin() && !gone(line.key));
        let count = one_sided.count();
        let hurts = self.hurts;
        expect(count <= hurts, || {
            format!("{count} connections broke by themselves, and {hurts} faults were played")
        })
    }

    fn receive_packets(&mut self) -> Result<(), String> {
        let Some(client) = self.packet_client else {
            return Ok(());
        };
        for (_, bytes) in self.world.received_datagrams(client) {
            let number = errands::number_of(&bytes);
            let ours = number.is_some_and(|it| it & OURS != 0);
            expect(ours, || format!("a datagram arrived damaged: {bytes:?}"))?;
        }
        let sent = self.packets;
        let seen = &self.world.handler().packets_seen;
        let known = seen.iter().all(|&it| it <= sent);
        expect(known, || "a datagram came that nobody sent".to_owned())
    }
}

/// The end.
impl Play {
    /// Everything that can still happen by itself happens.
    fn settle(&mut self) -> Result<(), String> {
        self.clear();
        self.world.handler_mut().tame = true;
        for at in 0..self.listeners() {
            let it = &mut self.world.handler_mut().book.listeners[at];
            let (id, _) = (it.id, std::mem::take(&mut it.paused));
            if let Some(mut listener) = self.world.listener(id) {
                listener.resume();
            }
        }
        for peer in &mut self.peers {
            peer.resume_reading(&mut self.world);
        }
        self.advance(SETTLING)?;
        for peer in &mut self.peers {
            peer.resume_reading(&mut self.world);
            if self.dice.one_in(2) {
                peer.finish(&mut self.world);
            }
        }
        self.run()?;
        if self.dice.one_in(3) {
            self.advance(JUMP)?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        let grace = self.dice.time(JUMP / 10);
        if !self.world.has_stopped() {
            let _ = self.world.handle().shutdown(grace);
            let end = self.world.now() + grace;
            self.world.handler_mut().book.stopping(end);
            self.advance(grace + TOLERANCE)?;
        }
        expect(self.world.has_stopped(), || {
            "the loop outlived the grace of its stop".to_owned()
        })?;
        let open = self.world.open_descriptors();
        expect(open == 0, || {
            format!("{open} descriptors are open after the end")
        })?;
        let book = &self.world.handler().book;
        let left = book.lines.iter().find(|line| line.state != State::Closed);
        expect(left.is_none(), || {
            format!("{:?} had no on_close", left.map(|line| line.id))
        })?;
        expect(book.stopped, || "on_stop did not run".to_owned())?;
        let told = |it: &super::book::Dialing| it.over || it.again || it.connected.is_some();
        let untold = book.dials.iter().find(|(_, it)| !told(it));
        expect(untold.is_none(), || {
            format!("{:?} ended, and nobody was told", untold.map(|(id, _)| id))
        })?;
        let post = self.world.handle().post(|_, _| ());
        expect(post == Err(PostError::Stopped), || {
            format!("a post to a loop that has stopped: {post:?}")
        })?;
        self.world.check()
    }
}
