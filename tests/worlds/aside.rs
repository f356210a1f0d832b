//! Worlds of the third kind, small ones: echoes behind a layer that was there from the start or
//! was put there in the middle, and a socket whose datagrams the kernel merges.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use windlass::sim::{Client, PacketClient, World};
use windlass::{
    Addr, Bind, CloseReason, Closed, Config, Conn, ConnId, Context, Datagram, Handler, Input,
    Layer, Listen, ListenerId, Progress, Socket, SocketId,
};

use super::book::TOLERANCE;
use super::dice::{Dice, Stream};
use super::errands::{number_of, packet};
use super::peers::expect;
use super::play::{Failure, Outcome, panic_text};

const STEPS: usize = 40;
const MOST_FARS: usize = 5;
const STRETCH: Duration = Duration::from_millis(30);
const GRACE: Duration = Duration::from_millis(100);

/// What the loop writes before the handshake, and what it hears where one is to begin.
const WELCOME: &[u8] = b"welcome";
const START: u8 = b'\n';

/// The handshake of the layer, its end, and what it does to every byte.
const HELLO: u8 = b'!';
const END: u8 = 0;
const MASK: u8 = 0x5a;
/// So many plain bytes it keeps at most.
const KEPT: usize = 4;

/// The layer: a greeting each way, then masked bytes.
#[derive(Default)]
struct Mask {
    greeted: bool,
    ended: bool,
    plain: Vec<u8>,
    wire: Vec<u8>,
}

impl Mask {
    fn new() -> Self {
        Self {
            wire: vec![HELLO],
            ..Self::default()
        }
    }
}

impl Layer for Mask {
    fn receive(&mut self, wire: &[u8]) -> io::Result<usize> {
        for (at, &byte) in wire.iter().enumerate() {
            if self.plain.len() == KEPT || self.ended {
                return Ok(at);
            }
            match byte {
                HELLO if !self.greeted => self.greeted = true,
                _ if !self.greeted => return Err(io::Error::other("no greeting")),
                END => self.ended = true,
                _ => self.plain.push(byte ^ MASK),
            }
        }
        Ok(wire.len())
    }

    fn read(&mut self, plain: &mut [u8]) -> usize {
        let n = plain.len().min(self.plain.len());
        plain[..n].copy_from_slice(&self.plain[..n]);
        self.plain.drain(..n);
        n
    }

    fn write(&mut self, plain: &[u8]) -> usize {
        self.wire.extend(masked(plain));
        plain.len()
    }

    fn send(&mut self, wire: &mut Vec<u8>) {
        wire.append(&mut self.wire);
    }

    fn progress(&self) -> Progress {
        match (self.greeted, self.ended) {
            (false, _) => Progress::Handshake,
            (true, false) => Progress::Open,
            (true, true) => Progress::Ended,
        }
    }

    fn close(&mut self) {
        self.wire.push(END);
    }
}

fn masked(plain: &[u8]) -> Vec<u8> {
    plain.iter().map(|byte| byte ^ MASK).collect()
}

/// Letters, none of which the layer turns into one of its own bytes.
fn letters(key: u64, place: u64, count: usize) -> Vec<u8> {
    let bytes = Stream::new(key).bytes(place, count);
    bytes.into_iter().map(|byte| b'a' + byte % 26).collect()
}

/// The handler: echoes, and notes what it is told.
struct Echo {
    dice: Dice,
    layered: Option<ListenerId>,
    agreed: BTreeSet<ConnId>,
    closed: BTreeMap<ConnId, String>,
    heard: Vec<u64>,
    paused: bool,
    broken: Option<String>,
    corners: BTreeSet<&'static str>,
}

impl Handler for Echo {
    type Session = ();

    fn on_accept(&mut self, conn: &mut Conn<'_>, listener: ListenerId) -> io::Result<()> {
        if self.layered == Some(listener) {
            conn.write(WELCOME);
        }
        Ok(())
    }

    fn on_handshake(&mut self, conn: &mut Conn<'_>, (): &mut ()) -> io::Result<()> {
        self.corners.insert("on_handshake");
        let again = !self.agreed.insert(conn.id());
        if again {
            self.broken = Some("on_handshake runs twice".to_owned());
        }
        Ok(())
    }

    fn on_read(&mut self, conn: &mut Conn<'_>, (): &mut (), it: &mut Input<'_>) -> io::Result<()> {
        if conn.layer::<Mask>().is_none() {
            let start = it.iter().position(|&byte| byte == START);
            let plain = it.take(start.unwrap_or(it.len())).unwrap_or_default();
            conn.write(plain);
            if start.is_some() {
                it.take(1);
                conn.set_layer(Mask::new(), it)?;
                return Ok(());
            }
        }
        conn.write(it.take_all());
        Ok(())
    }

    fn on_eof(&mut self, conn: &mut Conn<'_>, (): &mut (), _: &mut Input<'_>) -> io::Result<()> {
        conn.close();
        Ok(())
    }

    fn on_close(&mut self, _: &mut Context<'_>, (): (), closed: &Closed) {
        if matches!(closed.reason, CloseReason::Truncated) {
            self.corners.insert("Truncated");
        }
        self.closed.insert(closed.id, closed.reason.to_string());
    }

    fn on_datagram(&mut self, socket: &mut Socket<'_>, datagram: &Datagram<'_>) {
        self.corners.insert("a merged datagram");
        match number_of(datagram.bytes()) {
            Some(number) => self.heard.push(number),
            None => self.broken = Some("a datagram came damaged".to_owned()),
        }
        if self.dice.one_in(20) {
            socket.pause();
            self.paused = true;
        }
    }
}

/// One far end.
struct Far {
    client: Client,
    key: u64,
    /// Whether the layer was there when it came, and whether it is there.
    born: bool,
    masks: bool,
    greets_by: Option<Instant>,
    sent: u64,
    /// Plain bytes that are due to it, and those that it got; wire bytes of our own apart.
    echoed: Vec<u8>,
    due: Vec<u8>,
    finished: Option<bool>,
}

struct Aside {
    world: World<Echo>,
    dice: Dice,
    addrs: [SocketAddr; 2],
    socket: SocketId,
    mailbox: Addr,
    sender: PacketClient,
    fars: Vec<Far>,
    numbers: u64,
    handshake: Duration,
}

/// Plays the world of that seed; with a trace if it is asked for.
pub fn play(seed: u64, trace: bool) -> (Result<Outcome, Failure>, Vec<String>) {
    let mut world = None;
    let played = catch_unwind(AssertUnwindSafe(|| {
        let aside = world.insert(Aside::new(seed, trace)?);
        aside.all()
    }));
    let why = match played {
        Ok(played) => played.err(),
        Err(panic) => Some(panic_text(panic.as_ref())),
    };
    let lines = world.as_mut().map_or(Vec::new(), |it| it.world.trace());
    match (why, world) {
        (None, Some(aside)) => (Ok(aside.outcome()), lines),
        (why, _) => {
            let why = why.unwrap_or_default();
            let trace = lines.clone();
            (Err(Failure { why, trace }), lines)
        }
    }
}

impl Aside {
    fn new(seed: u64, trace: bool) -> Result<Self, String> {
        let failed = |error: windlass::Error| error.to_string();
        let mut dice = Dice::new(!seed ^ 0xa51de);
        let mut config = Config::default();
        config.read_buffer = dice.between(1, 60);
        config.read_budget = dice.between(1, 100);
        config.datagram_budget = dice.between(1, 12);
        config.datagram_batch = dice.between(1, 5);
        config.handshake_timeout = Duration::from_millis(dice.between(20, 200) as u64);
        let handshake = config.handshake_timeout;
        let echo = Echo {
            dice: Dice::new(seed),
            layered: None,
            agreed: BTreeSet::new(),
            closed: BTreeMap::new(),
            heard: Vec::new(),
            paused: false,
            broken: None,
            corners: BTreeSet::new(),
        };
        let mut world = World::with_config(seed, echo, config);
        world.set_trace(trace);
        let listen = Listen::new("127.0.0.1:7").map_err(failed)?;
        let listen = listen.layer(|| Ok(Box::new(Mask::new())));
        let layered = world.try_listen(listen).map_err(failed)?;
        world.handler_mut().layered = Some(layered);
        let addrs = [
            SocketAddr::from(([127, 0, 0, 1], 7)),
            world.listen("127.0.0.1:8"),
        ];
        let bind = Bind::new("udp4://127.0.0.1:9").map_err(failed)?.gro(true);
        let socket = world.try_bind(bind).map_err(failed)?;
        let far = SocketAddr::from(([10, 0, 0, 9], 5000));
        let sender = world.packet_client(Addr::Ip(far));
        Ok(Self {
            world,
            dice,
            addrs,
            socket,
            mailbox: Addr::Ip(SocketAddr::from(([127, 0, 0, 1], 9))),
            sender,
            fars: Vec::new(),
            numbers: 0,
            handshake,
        })
    }

    fn outcome(&self) -> Outcome {
        let stats = self.world.stats();
        Outcome {
            turns: stats.turns,
            callbacks: stats.callbacks,
            connections: stats.accepted,
            corners: self.world.handler().corners.clone(),
        }
    }

    fn all(&mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            self.step();
            if self.dice.one_in(3) {
                let time = self.dice.pick(&[Duration::ZERO, STRETCH]);
                self.world.advance(time);
                self.judge()?;
            }
        }
        self.world.advance(self.handshake);
        self.judge()?;
        self.world.shutdown(GRACE);
        let held = self.world.stats().buffered;
        expect(held == 0, || format!("{held} bytes are held after the end"))
    }

    fn step(&mut self) {
        let most = self.dice.pick(&[None, Some(1), Some(7)]);
        match self.dice.roll(12) {
            0 => drop(self.world.faults().short_reads(most)),
            1 => drop(self.world.faults().short_writes(most)),
            2 | 3 if self.fars.len() < MOST_FARS => self.come(),
            4 | 5 => self.send_datagrams(),
            6 => self.resume(),
            _ => self.far_acts(),
        }
    }

    fn come(&mut self) {
        let born = self.dice.one_in(2);
        let client = self.world.connect(self.addrs[usize::from(!born)]);
        let far = Far {
            client,
            key: self.fars.len() as u64 + 1,
            born,
            masks: born,
            greets_by: None,
            sent: 0,
            echoed: Vec::new(),
            due: Vec::new(),
            finished: None,
        };
        self.fars.push(far);
        let silent = self.dice.one_in(5);
        if born {
            self.begin(silent);
        }
    }

    /// The newest greets, or does not.
    fn begin(&mut self, silent: bool) {
        let by = self.world.now() + self.handshake;
        if let Some(far) = self.fars.last_mut() {
            if silent {
                (far.greets_by, far.finished) = (Some(by), Some(false));
            } else {
                self.world.send(far.client, &[HELLO]);
                far.due.extend(WELCOME);
            }
        }
    }

    fn far_acts(&mut self) {
        let at = self.dice.roll(self.fars.len().max(1));
        let (what, count) = (self.dice.roll(12), self.dice.between(1, 60));
        let Some(far) = self.fars.get_mut(at).filter(|it| it.finished.is_none()) else {
            return;
        };
        match what {
            0 => far.finish(&mut self.world, true),
            1 => far.finish(&mut self.world, false),
            2..=4 if !far.masks => far.switch(&mut self.world, count),
            _ => {
                let wire = far.next(count);
                self.world.send(far.client, &wire);
            }
        }
    }

    /// A burst of one size, and its last one shorter, as a kernel may merge it.
    fn send_datagrams(&mut self) {
        let (count, len) = (self.dice.between(1, 30), self.dice.roll(20));
        for left in (0..count).rev() {
            self.numbers += 1;
            let len = if left == 0 { len / 2 } else { len };
            let bytes = packet(self.numbers, len);
            self.world.send_datagram(self.sender, &self.mailbox, &bytes);
        }
    }

    fn resume(&mut self) {
        self.world.handler_mut().paused = false;
        if let Some(mut socket) = self.world.socket(self.socket) {
            socket.resume();
        }
    }

    /// The loop rests: whatever is due is there.
    fn judge(&mut self) -> Result<(), String> {
        self.world.check()?;
        if let Some(broken) = self.world.handler_mut().broken.take() {
            return Err(broken);
        }
        let heard = &self.world.handler().heard;
        let in_order = heard.iter().copied().eq(1..=heard.len() as u64);
        expect(in_order, || {
            "datagrams that were merged are lost, or out of order".to_owned()
        })?;
        let (came, sent) = (heard.len() as u64, self.numbers);
        expect(self.world.handler().paused || came == sent, || {
            format!("{came} of {sent} merged datagrams were offered")
        })?;
        let now = self.world.now();
        for far in &mut self.fars {
            far.judge(&mut self.world, now)?;
        }
        self.judge_ends()
    }

    /// An end without the layer's end is told apart from one with it.
    fn judge_ends(&self) -> Result<(), String> {
        let cut = |far: &&Far| far.masks && far.finished == Some(false) && far.greets_by.is_none();
        let cut = self.fars.iter().filter(cut).count();
        let closed = self.world.handler().closed.values();
        let told = closed
            .filter(|it| it.contains("not of what it carries"))
            .count();
        expect(cut == told, || {
            format!("{cut} streams were cut off, and {told} are said to have been")
        })
    }
}

impl Far {
    /// The next bytes for the wire; their echo is due.
    fn next(&mut self, count: usize) -> Vec<u8> {
        let bytes = letters(self.key, self.sent, count);
        self.sent += count as u64;
        self.due.extend(&bytes);
        if self.masks { masked(&bytes) } else { bytes }
    }

    /// Plain bytes, the switch, the greeting and masked bytes, all at once.
    fn switch(&mut self, world: &mut World<Echo>, count: usize) {
        let mut wire = self.next(count);
        wire.extend([START, HELLO]);
        self.masks = true;
        // Where the greeting of the layer will come.
        self.due.push(HELLO);
        wire.extend(self.next(count));
        world.send(self.client, &wire);
    }

    fn finish(&mut self, world: &mut World<Echo>, orderly: bool) {
        if orderly && self.masks {
            world.send(self.client, &[END]);
        }
        world.finish(self.client);
        self.finished = Some(orderly);
    }

    fn judge(&mut self, world: &mut World<Echo>, now: Instant) -> Result<(), String> {
        let (client, born) = (self.client, self.born);
        let came = world.received(client);
        self.echoed.extend(came);
        if let Some(by) = self.greets_by {
            let over = world.was_reset(client) || world.saw_eof(client);
            return expect(over || now <= by + TOLERANCE, || {
                format!("{client:?} does not shake hands, and nobody minds")
            });
        }
        let due = self.due_on_the_wire();
        let got = &self.echoed;
        let begins = got.len() >= due.len() && got.starts_with(&due);
        expect(begins, || {
            let (some, all) = (got.len(), due.len());
            format!("{client:?}, layered {born}: {some} bytes came of {all}, or wrong ones")
        })?;
        let rest = &got[due.len()..];
        let goodbye = rest.is_empty() || rest == [END] && self.masks && self.finished.is_some();
        expect(goodbye, || {
            format!("{client:?}, layered {born}: nobody wrote the end of what came")
        })
    }

    /// What is due, as it passes the layer.
    fn due_on_the_wire(&self) -> Vec<u8> {
        let switch = self.due.iter().position(|&byte| byte == HELLO);
        match switch {
            _ if self.born => [vec![HELLO], masked(&self.due)].concat(),
            Some(at) => [&self.due[..=at], &masked(&self.due[at + 1..])].concat(),
            None => self.due.clone(),
        }
    }
}
