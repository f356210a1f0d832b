//! One world from its seed: it is set up, played, judged after every turn, and ended.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use windlass::sim::{PacketClient, World};
use windlass::{Addr, Bind, Listen, PostError};

use super::app::App;
use super::book::{Listening, Socketed, State, TOLERANCE};
use super::dice::Dice;
use super::errands::{self, REMOTES};
use super::faults::{self, Script};
use super::peers::{Peer, expect};
use super::plan::{PLENTY, Plan};

/// What the script lets pass at once, mostly.
const STRETCH: Duration = Duration::from_millis(60);
/// A linger time in which the fullest buffers cross the slowest wire byte by byte.
const LONG_LINGER: Duration = Duration::from_millis(1500);
/// A jump of the clock.
const JUMP: Duration = Duration::from_secs(20);
/// Long enough for naps, back-offs and the like to end.
const SETTLING: Duration = Duration::from_secs(1);
/// A grace in which an accept queue is emptied.
const LATE: Duration = Duration::from_millis(20);

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

/// A world that is being played.
pub struct Play {
    pub world: World<App>,
    pub dice: Dice,
    pub plan: Plan,
    pub peers: Vec<Peer>,
    pub packet_client: Option<PacketClient>,
    pub socket_addrs: Vec<Addr>,
    pub packets: u64,
    /// Failures that were played and can have ended a connection.
    pub hurts: usize,
    pub script: Script,
    /// From then on nothing is on its way any more.
    pub clear_at: Instant,
    pub latency: Duration,
    /// There never was any that could make a difference to a linger time.
    pub prompt: bool,
    /// Since when nothing has gone wrong; `None` while something may.
    pub fair: Option<Instant>,
    pub work: u64,
    pub empty: u32,
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

pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("without a word"))
}

/// The acts of a world.
impl Play {
    fn new(seed: u64, trace: bool) -> Self {
        let mut dice = Dice::new(seed);
        let mut plan = Plan::new(&mut dice);
        plan.choose_layers(seed);
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
            script: Script::default(),
            clear_at: now,
            latency: Duration::ZERO,
            prompt: true,
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
            let mut listen = self.plan.dressed(Listen::from(addr));
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
            if let Some(latency) = faults::play(&mut self.world, &mut self.dice, &mut self.script) {
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

    pub fn come(&mut self) {
        let at = self.dice.roll(self.listeners());
        let addr = self.world.handler().book.listeners[at].addr;
        // Refused if that listener is gone by now.
        if let Ok(client) = self.world.try_connect(addr) {
            let peer = Peer::new(&mut self.world, client, Some(addr), &mut self.dice);
            self.peers.push(peer);
        }
    }

    pub fn meet_the_dialed(&mut self) {
        for n in 0..REMOTES {
            while let Some(client) = self.world.dialed(errands::remote(n)) {
                let peer = Peer::new(&mut self.world, client, None, &mut self.dice);
                self.peers.push(peer);
            }
        }
    }

    fn dial_from_outside(&self) {
        let ticket = self.world.handler().book.tally.ticket();
        let task = |app: &mut App, cx: &mut windlass::Context<'_>| {
            drop(ticket);
            let _ = app.dial(cx);
        };
        let _ = self.world.handle().post(task);
    }

    /// Whoever owns the loop acts between two turns.
    fn act_from_outside(&mut self) {
        let Some(at) = self.world.handler_mut().somebody() else {
            return;
        };
        let id = self.world.handler().book.lines[at].id;
        let what = self.dice.roll(4);
        let ticket = self.world.handler().book.tally.ticket();
        let task = move |app: &mut App, cx: &mut windlass::Context<'_>| {
            drop(ticket);
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
            let end = self.world.now() + self.world.handler().book.standstill + grace;
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
        let tally = &mut self.world.handler_mut().book.tally;
        tally.lengths.insert(self.packets, len);
        let to = self.socket_addrs[self.dice.roll(self.socket_addrs.len())].clone();
        self.world.send_datagram(client, &to, &bytes);
    }

    /// What is on its way takes as long as it would have.
    fn wire_changes(&mut self, latency: Duration) {
        self.clear_at = self.clear_at.max(self.world.now() + self.latency);
        self.latency = latency;
        let long = self.plan.config.linger >= LONG_LINGER;
        self.prompt &= latency.is_zero() || long;
    }

    pub fn clear(&mut self) {
        faults::clear(&mut self.world, &mut self.script);
        self.wire_changes(Duration::ZERO);
        self.fair = Some(self.world.now());
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
            let before = self.peers.len();
            if self.dice.one_in(2) {
                (0..self.dice.between(1, 6)).for_each(|_| self.come());
            }
            let owed = grace >= LATE && self.has_room();
            let _ = self.world.handle().shutdown(grace);
            let end = self.world.now() + grace;
            self.world.handler_mut().book.stopping(end);
            self.advance(grace + TOLERANCE)?;
            let missed = self.peers[before..].iter().find(|peer| !self.has_met(peer));
            expect(!owed || missed.is_none(), || {
                "a client that waited when the stop began was not accepted".to_owned()
            })?;
        }
        self.every_datagram_is_counted()?;
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

    /// Nothing keeps the loop from accepting whoever comes.
    fn has_room(&mut self) -> bool {
        let open = self.world.open_descriptors();
        let app = self.world.handler();
        let config = &app.plan.config;
        let capped = app.book.listeners.iter().any(|it| it.most.is_some());
        let most = 1024 - config.reserved_descriptors;
        !capped
            && config.memory_limit >= PLENTY
            && app.book.stop_at.is_none()
            && config.max_connections.is_none()
            && open + 20 < most
    }

    pub fn has_met(&self, peer: &Peer) -> bool {
        let refused = &self.world.handler().book.refused;
        peer.gone || peer.line(&self.world).is_some() || refused.contains_key(&peer.key)
    }

    /// What sockets were given has left or was dropped, and both are counted.
    fn every_datagram_is_counted(&self) -> Result<(), String> {
        let stats = self.world.stats();
        let (sent, dropped) = (stats.datagrams_sent, stats.datagrams_dropped);
        let given = self.world.handler().book.tally.given;
        expect(given == sent + dropped, || {
            format!("{given} datagrams were to be sent, {sent} were and {dropped} were dropped")
        })
    }
}
