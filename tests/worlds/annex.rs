//! Worlds of the second kind: two parts of different temper under one [`Mux`], with what the
//! first kind has nothing of. See [`guest`](super::guest).

use std::collections::BTreeSet;
use std::io::{ErrorKind, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use libc as c;
use windlass::sim::{Call, Client, PacketClient, Remote, World};
use windlass::{Addr, Bind, Config, Context, Handle, Mux, PanicPolicy, PartId};

use super::book::TOLERANCE;
use super::dice::{Dice, Stream};
use super::errands::packet;
use super::guest::{Guest, Hall, Line, Mailbox, Temper};
use super::peers::expect;
use super::play::{Failure, Outcome, panic_text};

/// Longest record.
pub const RECORD: usize = 30;
/// Marks the key of a connection that a part has dialed.
pub const DIALED: u64 = 1 << 40;
pub const GROUP: [u8; 4] = [239, 1, 2, 3];

const GROUP_PORT: u16 = 77;
const STEPS: usize = 60;
const MOST_PEERS: usize = 9;
const MOST_FEEDS: usize = 3;
const STRETCH: Duration = Duration::from_millis(40);
/// Long enough for every nap, deadline and back-off.
const SETTLING: Duration = Duration::from_millis(500);
const GRACE: Duration = Duration::from_millis(300);
const SPIN: u32 = 20_000;

/// Failures that can end the connection on which they happen.
const HURTING: [Call; 4] = [Call::Read, Call::Write, Call::Shutdown, Call::Register];

#[rustfmt::skip]
const ERRNOS: &[(Call, &[i32])] = &[
    (Call::Accept, &[c::EINTR, c::EAGAIN, c::EMFILE, c::ENOBUFS, c::ENOMEM]),
    (Call::Read, &[c::EINTR, c::EAGAIN]),
    (Call::Write, &[c::EINTR, c::EAGAIN]),
    (Call::Read, &[c::ECONNRESET, c::ENOMEM]),
    (Call::Write, &[c::EPIPE, c::ENOBUFS, c::ETOOMANYREFS, c::EMSGSIZE]),
    (Call::Shutdown, &[c::ENOTCONN, c::EINTR]),
    (Call::Poll, &[c::EINTR]),
    (Call::Register, &[c::ENOMEM, c::EINTR, c::EPERM]),
    (Call::Rearm, &[c::ENOMEM, c::EINTR]),
    (Call::Connect, &[c::EAGAIN, c::ECONNREFUSED, c::ENOENT, c::EINTR, c::EACCES]),
    (Call::Socket, &[c::EMFILE, c::ENOBUFS]),
    (Call::TakeError, &[c::EINTR, c::ECONNRESET]),
    (Call::PeerAddr, &[c::ENOTCONN, c::EINTR]),
    (Call::PeerCred, &[c::ENOTCONN, c::EINTR]),
    (Call::Stat, &[c::EACCES, c::EINTR, c::ENOENT]),
    (Call::Unlink, &[c::EACCES, c::EPERM, c::EINTR, c::ENOENT]),
    (Call::Knock, &[c::EAGAIN, c::EACCES, c::EINTR, c::ECONNREFUSED]),
    (Call::Bind, &[c::EADDRINUSE, c::EACCES]),
    (Call::SetOption, &[c::ENOBUFS, c::EINTR]),
    (Call::Receive, &[c::EINTR, c::EAGAIN]),
];

/// One far end.
struct Far {
    client: Client,
    part: usize,
    /// None until whoever dialed has said.
    key: Option<u64>,
    records: bool,
    sent: u64,
    got: u64,
    count: usize,
    reading: bool,
    finished: bool,
    gone: bool,
    /// Descriptors that were sent: the tags that come back tell which were taken.
    tokens: Vec<UnixStream>,
    last_tag: u8,
}

/// The other end of a watched pipe.
struct Source {
    part: usize,
    key: u64,
    sent: u64,
    writer: Option<PipeWriter>,
}

struct Annex {
    world: World<Mux>,
    parts: Vec<PartId<Guest>>,
    handles: Vec<Handle<Guest>>,
    dice: Dice,
    fars: Vec<Far>,
    sources: Vec<Source>,
    letters: Option<PacketClient>,
    groupies: Option<PacketClient>,
    /// Numbers that were sent to the group while the part was a member.
    owed: Vec<Vec<u64>>,
    owed_mail: Vec<Vec<u64>>,
    numbers: u64,
    keys: u64,
    /// Something may have kept datagrams from coming.
    foul: bool,
    propagates: bool,
    faults: usize,
}

/// Plays the world of that seed; with a trace if it is asked for.
pub fn play(seed: u64, trace: bool) -> (Result<Outcome, Failure>, Vec<String>) {
    let mut annex = Annex::new(seed, trace);
    let played = catch_unwind(AssertUnwindSafe(|| annex.all()));
    let lines = annex.world.trace();
    let planned = |panic: &(dyn std::any::Any + Send)| panic.downcast_ref() == Some(&"as planned");
    let why = match played {
        Ok(Ok(())) => None,
        Ok(Err(why)) => Some(why),
        Err(panic) if annex.propagates && planned(panic.as_ref()) => None,
        Err(panic) => Some(panic_text(panic.as_ref())),
    };
    let outcome = annex.outcome();
    let tokens = annex.fars.iter_mut().flat_map(|far| far.tokens.drain(..));
    let tokens: Vec<_> = tokens.collect();
    // Whatever has become of the loop, nothing that it was passed stays open.
    drop(annex);
    let why = why.or_else(|| leaked(&tokens).then(|| "a passed descriptor is open".to_owned()));
    let Some(why) = why else {
        return (Ok(outcome), lines);
    };
    let trace = lines.clone();
    (Err(Failure { why, trace }), lines)
}

fn leaked(tokens: &[UnixStream]) -> bool {
    let mut rest = [0; 8];
    tokens.iter().any(|mut token| {
        loop {
            match token.read(&mut rest) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    })
}

fn temper(dice: &mut Dice) -> Temper {
    Temper {
        mischief: dice.pick(&[3, 6, 20, 10_000]),
        panics: dice.one_in(6),
        bite: dice.pick(&[0, 0, 1, 13]),
        answers: dice.pick(&[0, 1, 4, 4, 12]),
        fds: dice.pick(&[0, 1, 8]),
    }
}

fn config(dice: &mut Dice) -> Config {
    let mut config = Config::default();
    config.read_buffer = dice.between(RECORD, 200);
    config.read_budget = dice.between(1, 300);
    config.accept_budget = dice.between(1, 4) as u32;
    config.events = dice.between(1, 8);
    config.max_events = config.events * dice.between(1, 4);
    config.max_datagram = 200;
    config.linger = Duration::from_millis(dice.between(5, 200) as u64);
    config.limits.low = dice.roll(60);
    config.limits.high = config.limits.low + dice.roll(200);
    config.limits.limit = config.limits.high + 300 + dice.roll(3000);
    config.memory_limit = dice.pick(&[600, 1 << 20, 1 << 20]);
    config.reserved_descriptors = dice.between(1, 1000);
    if dice.one_in(8) {
        config.panic_policy = PanicPolicy::Propagate;
    }
    config
}

impl Annex {
    fn new(seed: u64, trace: bool) -> Self {
        let mut dice = Dice::new(seed ^ DIALED);
        let config = config(&mut dice);
        let propagates = config.panic_policy == PanicPolicy::Propagate;
        let mut mux = Mux::new();
        let mut parts = Vec::new();
        for name in 0..dice.between(1, 3) {
            let temper = temper(&mut dice);
            let chance = Dice::new(!seed ^ (name as u64) << 60);
            parts.push(mux.add(Guest::new(name, temper, chance)));
        }
        let mut world = World::with_config(seed, mux, config);
        world.set_trace(trace);
        let diary = world.diary();
        let handle = world.handle();
        let handles = parts.iter().map(|&part| handle.for_part(part)).collect();
        for &part in &parts {
            if let Some(guest) = world.handler_mut().part_mut(part) {
                guest.diary = diary.clone();
                diary.note(|| format!("part {}: {:?}", guest.name, guest.temper));
            }
        }
        world
            .faults()
            .buffers(dice.between(RECORD, 90), dice.between(RECORD, 90))
            .rearm(!dice.one_in(3))
            .reuse_descriptors(dice.one_in(2))
            .backlog_limit(dice.pick(&[1, 2, 5, 4096]));
        let count = parts.len();
        Self {
            world,
            parts,
            handles,
            fars: Vec::new(),
            sources: Vec::new(),
            letters: None,
            groupies: None,
            owed: vec![Vec::new(); count],
            owed_mail: vec![Vec::new(); count],
            numbers: 0,
            keys: 0,
            foul: false,
            propagates,
            faults: dice.pick(&[4, 10, 10_000]),
            dice,
        }
    }

    fn guest(&self, part: usize) -> Result<&Guest, String> {
        let guest = self.world.handler().part(self.parts[part]);
        guest.ok_or_else(|| "a part is gone".to_owned())
    }

    fn guest_mut(&mut self, part: usize) -> Result<&mut Guest, String> {
        let guest = self.world.handler_mut().part_mut(self.parts[part]);
        guest.ok_or_else(|| "a part is gone".to_owned())
    }

    fn outcome(&self) -> Outcome {
        let stats = self.world.stats();
        let mut corners = BTreeSet::new();
        for part in 0..self.parts.len() {
            if let Ok(guest) = self.guest(part) {
                corners.extend(guest.corners.iter().copied());
            }
        }
        if self.propagates && corners.contains("a callback panics") {
            corners.insert("a panic goes through");
        }
        Outcome {
            turns: stats.turns,
            callbacks: stats.callbacks,
            connections: stats.accepted + stats.connected,
            corners,
        }
    }

    fn all(&mut self) -> Result<(), String> {
        self.set_up()?;
        for _ in 0..STEPS {
            self.step()?;
        }
        self.settle()?;
        self.end()
    }

    fn set_up(&mut self) -> Result<(), String> {
        let failed = |error: windlass::Error| error.to_string();
        let letters = self.world.unix_packet_client("/run/client");
        self.letters = Some(letters);
        self.groupies = Some(
            self.world
                .packet_client(Addr::Ip(([10, 0, 0, 9], 5000).into())),
        );
        for part in 0..self.parts.len() {
            let id = self.parts[part];
            for records in [false, true] {
                let network = if records { "unixpacket" } else { "unix" };
                let path = path(part, records);
                if self.dice.one_in(3) {
                    self.world.leave_socket(&path); // as whoever crashed leaves it
                }
                let listen = format!("{network}://{path}");
                let listener = self
                    .world
                    .try_listen_for(id, listen.as_str())
                    .map_err(failed)?;
                let hall = Hall {
                    records,
                    ..Hall::default()
                };
                self.guest_mut(part)?.halls.insert(listener, hall);
                let upstream = format!("/up/{part}/{records}");
                self.world.remote_unix(upstream, Remote::Accepts);
            }
            let bound = format!("unixgram://{}", letterbox(part));
            let socket = self
                .world
                .try_bind_for(id, bound.as_str())
                .map_err(failed)?;
            self.guest_mut(part)?.mailbox = Some(mailbox(socket));
            let any = Bind::try_from(format!("udp4://:{GROUP_PORT}").as_str()).map_err(failed)?;
            let socket = self
                .world
                .try_bind_for(id, any.reuse_port(true))
                .map_err(failed)?;
            // Of several on one port only one would hear what is for one.
            if part == 0 {
                self.guest_mut(part)?.group = Some(mailbox(socket));
            } else if let Some(mut it) = self.world.socket(socket) {
                it.close();
            }
        }
        self.run()
    }

    fn step(&mut self) -> Result<(), String> {
        if self.dice.one_in(self.faults) {
            self.weather();
        }
        match self.dice.roll(20) {
            0..=3 if self.fars.len() < MOST_PEERS => self.come()?,
            4 | 5 => self.run()?,
            6 | 7 => {
                let time = self.dice.time(STRETCH);
                self.advance(time)?;
            }
            8 => self.dial(),
            9 => self.feed()?,
            10 => self.mail()?,
            11 => self.call_the_group()?,
            12 => self.post(|guest, cx| guest.elsewhere(cx)),
            13 => self.post(|guest, cx| {
                // Another part's, and from outside.
                cx.for_each(|conn| {
                    if let Some(&at) = guest.by_id.get(&conn.id()) {
                        guest.say(conn, at, 5);
                    }
                });
            }),
            _ => self.far_acts()?,
        }
        Ok(())
    }

    fn weather(&mut self) {
        let some = self.dice.roll(9);
        match self.dice.roll(10) {
            0 => drop(
                self.world
                    .faults()
                    .short_reads((some > 3).then_some(some * 4)),
            ),
            1 => drop(self.world.faults().short_writes((some > 3).then_some(some))),
            2 => drop(self.world.faults().spurious()),
            3 => drop(self.world.faults().events_per_poll(1 + some * some)),
            4 => {
                let open = self.world.open_descriptors() as u64;
                let limit = if some < 5 {
                    open + some as u64 % 3
                } else {
                    1024
                };
                self.world.faults().descriptor_limit(limit);
            }
            5 => {
                let time = self.dice.time(STRETCH * 10);
                self.world.faults().stand_still(time);
            }
            _ => {
                let (call, errnos) = self.dice.pick(ERRNOS);
                let (errno, times) = (self.dice.pick(errnos), self.dice.roll(4));
                self.foul |= call == Call::Receive || call == Call::SetOption;
                self.world
                    .diary()
                    .note(|| format!("the next {times} of {call:?} fail with {errno}"));
                self.world.faults().fail(call, errno, times);
            }
        }
    }

    fn clear(&mut self) {
        self.world
            .faults()
            .clear()
            .short_reads(None)
            .short_writes(None)
            .events_per_poll(1024)
            .descriptor_limit(1024);
    }

    fn post(&mut self, task: impl FnOnce(&mut Guest, &mut Context<'_>) + Send + 'static) {
        let part = self.dice.roll(self.parts.len());
        let _ = self.handles[part].post(task);
    }

    // Who comes, and what they do.

    fn come(&mut self) -> Result<(), String> {
        let part = self.dice.roll(self.parts.len());
        let records = self.dice.one_in(2);
        // A full queue, or a listener that is gone, turns them away.
        let Ok(client) = self.world.try_connect_unix(path(part, records)) else {
            return Ok(());
        };
        self.keys += 1;
        let key = self.keys;
        let guest = self.guest_mut(part)?;
        let hall = guest.halls.values_mut().find(|it| it.records == records);
        if let Some(hall) = hall {
            hall.waiting.push_back(key);
        }
        self.fars.push(Far::new(client, part, Some(key), records));
        Ok(())
    }

    fn dial(&mut self) {
        let records = self.dice.one_in(2);
        let network = if records { "unixpacket" } else { "unix" };
        let part = self.dice.roll(self.parts.len());
        let target = format!("{network}:///up/{part}/{records}");
        let task = move |guest: &mut Guest, cx: &mut Context<'_>| {
            if let Ok(dial) = cx.dial(target.as_str()) {
                guest.dials.insert(dial, records);
            }
        };
        let _ = self.handles[part].post(task);
    }

    fn meet_the_dialed(&mut self) {
        for part in 0..self.parts.len() {
            for records in [false, true] {
                let upstream = format!("/up/{part}/{records}");
                while let Some(client) = self.world.dialed_unix(&upstream) {
                    self.fars.push(Far::new(client, part, None, records));
                }
            }
        }
    }

    fn feed(&mut self) -> Result<(), String> {
        if self.sources.len() < MOST_FEEDS && self.dice.one_in(2) {
            let part = self.dice.roll(self.parts.len());
            let (reader, writer) = std::io::pipe().map_err(|error| error.to_string())?;
            let key = 1 << 50 | self.sources.len() as u64;
            let task = move |guest: &mut Guest, cx: &mut Context<'_>| guest.watch(cx, reader, key);
            let writer = self.handles[part].post(task).is_ok().then_some(writer);
            self.sources.push(Source {
                part,
                key,
                sent: 0,
                writer,
            });
            return Ok(());
        }
        let at = self.dice.roll(self.sources.len().max(1));
        let over = self.dice.one_in(8);
        let count = self.dice.between(1, 40);
        if let Some(source) = self.sources.get_mut(at) {
            source.feed(count, over);
        }
        Ok(())
    }

    fn mail(&mut self) -> Result<(), String> {
        let part = self.dice.roll(self.parts.len());
        let Some(client) = self.letters else {
            return Ok(());
        };
        self.numbers += 1;
        let to: Addr = Addr::Unix(letterbox(part).as_str().parse().map_err(|_| "a path")?);
        let bytes = packet(self.numbers, self.dice.roll(60));
        if self.world.try_send_datagram(client, &to, &bytes).is_ok() {
            self.owed_mail[part].push(self.numbers);
        }
        Ok(())
    }

    fn call_the_group(&mut self) -> Result<(), String> {
        let Some(client) = self.groupies else {
            return Ok(());
        };
        self.numbers += 1;
        let bytes = packet(self.numbers, self.dice.roll(60));
        let to = Addr::Ip((GROUP, GROUP_PORT).into());
        let sent = self.world.try_send_datagram(client, &to, &bytes).is_ok();
        let guest = self.guest(0)?;
        let member = guest.member && guest.group.as_ref().is_some_and(|it| !it.gone);
        if sent && member {
            self.owed[0].push(self.numbers);
        }
        Ok(())
    }

    fn far_acts(&mut self) -> Result<(), String> {
        let at = self.dice.roll(self.fars.len().max(1));
        let Some(far) = self.fars.get_mut(at) else {
            return Ok(());
        };
        if far.gone {
            return Ok(());
        }
        match self.dice.roll(16) {
            0 => {
                self.world.stop_reading(far.client);
                far.reading = false;
            }
            1 => {
                self.world.resume_reading(far.client);
                far.reading = true;
            }
            2 => drop(self.world.read_some(far.client, self.dice.between(1, 30))),
            3 if self.dice.one_in(3) => {
                self.world.finish(far.client);
                far.finished = true;
            }
            4 if self.dice.one_in(4) => {
                self.world.close(far.client);
                far.gone = true;
            }
            5 if self.dice.one_in(6) => {
                self.world.reset(far.client);
                far.gone = true;
            }
            6 | 7 => far.send(&mut self.world, &self.parts, &mut self.dice, 1)?,
            _ => far.send(&mut self.world, &self.parts, &mut self.dice, 0)?,
        }
        Ok(())
    }
}

/// Time, and what is judged as it passes.
impl Annex {
    fn run(&mut self) -> Result<(), String> {
        self.advance(Duration::ZERO)
    }

    fn advance(&mut self, by: Duration) -> Result<(), String> {
        let end = self.world.now() + by;
        let mut at_once = 0;
        loop {
            let before = self.world.now();
            let busy = self.turn(end.saturating_duration_since(before))?;
            let now = self.world.now();
            at_once = if now > before { 0 } else { at_once + 1 };
            expect(at_once < SPIN, || {
                "the loop does not come to rest".to_owned()
            })?;
            if !busy {
                self.rest(now)?;
                if now >= end || self.world.has_stopped() {
                    return Ok(());
                }
            }
        }
    }

    fn turn(&mut self, most: Duration) -> Result<bool, String> {
        let before = self.hurts();
        let busy = self.world.turn(most);
        let hurt = self.hurts() < before;
        self.meet_the_dialed();
        for part in 0..self.parts.len() {
            let guest = self.guest_mut(part)?;
            for line in guest.lines.iter_mut().filter(|_| hurt) {
                line.hurt = true;
            }
            if let Some(broken) = &guest.broken {
                return Err(broken.clone());
            }
        }
        Ok(busy)
    }

    fn hurts(&mut self) -> usize {
        let faults = HURTING.iter();
        faults
            .map(|&call| self.world.faults().pending_of(call))
            .sum()
    }

    fn rest(&mut self, now: Instant) -> Result<(), String> {
        self.world.check()?;
        for part in 0..self.parts.len() {
            let overdue = self.guest(part)?.overdue(now);
            let stopping = self.world.has_stopped();
            expect(overdue.is_none() || stopping, || {
                overdue.unwrap_or_default()
            })?;
        }
        for at in 0..self.fars.len() {
            let mut far = self.fars.swap_remove(at);
            let judged = self.listen_to(&mut far);
            self.fars.push(far);
            let last = self.fars.len() - 1;
            self.fars.swap(at, last);
            judged?;
        }
        self.judge_sources()?;
        self.judge_datagrams()
    }

    /// What a far end has received is what was written to it.
    fn listen_to(&mut self, far: &mut Far) -> Result<(), String> {
        far.tags()?;
        let pieces = if far.records {
            self.world.received_records(far.client)
        } else {
            vec![self.world.received(far.client)]
        };
        drop(self.world.received_fds(far.client));
        for mut bytes in pieces {
            if far.key.is_none() && bytes.len() >= 8 {
                let rest = bytes.split_off(8);
                let head = bytes.as_slice().try_into().unwrap_or_default();
                far.key = Some(u64::from_be_bytes(head));
                bytes = rest;
                if far.records {
                    continue;
                }
            }
            self.compare(far, &bytes)?;
        }
        Ok(())
    }

    fn compare(&self, far: &mut Far, bytes: &[u8]) -> Result<(), String> {
        let guest = self.guest(far.part)?;
        let client = far.client;
        let line = far.line(guest);
        if bytes.is_empty() {
            return Ok(());
        }
        let Some(line) = line else {
            return Err(format!("{client:?} received what nobody wrote"));
        };
        let wrong = Stream::new(!line.key).differs(far.got, bytes);
        expect(wrong.is_none(), || {
            format!("{client:?} received a wrong byte at {wrong:?}")
        })?;
        far.got += bytes.len() as u64;
        expect(far.got <= line.written, || {
            format!("{client:?} received {} bytes of {}", far.got, line.written)
        })?;
        if far.records {
            let len = line.sent.get(far.count).copied();
            far.count += 1;
            expect(len == Some(bytes.len()), || {
                format!(
                    "{client:?} received {} bytes of a record of {len:?}",
                    bytes.len()
                )
            })?;
        }
        Ok(())
    }

    fn judge_sources(&self) -> Result<(), String> {
        for source in &self.sources {
            let guest = self.guest(source.part)?;
            let feed = guest.feeds.values().find(|it| it.key == source.key);
            let Some(feed) = feed else { continue };
            expect(feed.over || feed.got == source.sent, || {
                format!(
                    "{} of {} bytes were read of a watched pipe",
                    feed.got, source.sent
                )
            })?;
        }
        Ok(())
    }

    fn judge_datagrams(&self) -> Result<(), String> {
        // Under pressure of memory, after a fault or at the end they may wait, or be lost.
        if self.foul || self.world.has_stopped() {
            return Ok(());
        }
        for part in 0..self.parts.len() {
            let guest = self.guest(part)?;
            let (mail, group) = (&guest.mailbox, &guest.group);
            let boxes = [(mail, &self.owed_mail[part]), (group, &self.owed[part])];
            for (it, owed) in boxes {
                let Some(it) = it.as_ref().filter(|it| !it.gone) else {
                    continue;
                };
                expect(it.got == *owed, || {
                    format!(
                        "part {part} got the datagrams {:?} and is owed {owed:?}",
                        it.got
                    )
                })?;
            }
        }
        Ok(())
    }
}

/// The end.
impl Annex {
    fn settle(&mut self) -> Result<(), String> {
        self.clear();
        for part in 0..self.parts.len() {
            self.guest_mut(part)?.tame = true;
            let wake = |guest: &mut Guest, cx: &mut Context<'_>| {
                for (&id, hall) in &mut guest.halls {
                    if let Some(mut listener) = cx.listener(id) {
                        listener.resume();
                        hall.paused = false;
                    }
                }
                while !guest.away.is_empty() {
                    guest.come_back(cx);
                }
                let ids: Vec<_> = guest.by_id.iter().map(|(&id, &at)| (id, at)).collect();
                for (id, at) in ids {
                    if let Some(mut conn) = cx.conn(id) {
                        guest.wake_up(&mut conn, at);
                    }
                }
            };
            self.run()?;
            let _ = self.handles[part].post(wake);
        }
        for far in &mut self.fars {
            if !far.gone {
                self.world.resume_reading(far.client);
                far.reading = true;
            }
        }
        self.advance(SETTLING)?;
        self.everybody_is_served()
    }

    /// Fine weather, and nobody is paused: whatever was sent has come.
    fn everybody_is_served(&self) -> Result<(), String> {
        let pressed = self.world.stats().buffered > 300;
        for far in &self.fars {
            let guest = self.guest(far.part)?;
            let Some(line) = far.line(guest) else {
                let waits = guest
                    .halls
                    .values()
                    .any(|it| !it.gone && far.key.is_some_and(|key| it.waiting.contains(&key)));
                expect(!waits || far.gone || pressed, || {
                    format!("{:?} was never accepted", far.client)
                })?;
                continue;
            };
            far.judge(line, pressed)?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        let _ = self.world.handle().shutdown(GRACE);
        self.advance(GRACE + TOLERANCE)?;
        expect(self.world.has_stopped(), || {
            "the loop outlived its grace".to_owned()
        })?;
        let mut watched = 0;
        for part in 0..self.parts.len() {
            let feeds = self.guest(part)?.feeds.values();
            watched += feeds.filter(|feed| !feed.over).count();
        }
        let open = self.world.open_descriptors();
        expect(open == watched, || {
            format!("{open} descriptors are open after the end, of which {watched} are watched")
        })?;
        let held = self.world.stats().buffered;
        expect(held == 0, || format!("{held} bytes are held after the end"))?;
        for part in 0..self.parts.len() {
            let guest = self.guest(part)?;
            let left = guest.lines.iter().find(|it| it.open);
            expect(left.is_none(), || {
                format!("part {part} had no on_close of a connection")
            })?;
            expect(guest.stopped, || format!("part {part} had no on_stop"))?;
            let left = guest.returning.len() + guest.dials.len();
            expect(left == 0, || {
                format!("{left} dials ended, and nobody was told")
            })?;
        }
        self.world.check()
    }
}

impl Far {
    fn new(client: Client, part: usize, key: Option<u64>, records: bool) -> Self {
        Self {
            client,
            part,
            key,
            records,
            sent: 0,
            got: 0,
            count: 0,
            reading: true,
            finished: false,
            gone: false,
            tokens: Vec::new(),
            last_tag: 0,
        }
    }

    fn line<'g>(&self, guest: &'g Guest) -> Option<&'g Line> {
        let at = guest.by_key.get(&self.key?)?;
        guest.lines.get(*at)
    }

    /// Sends some of its stream, with so many descriptors.
    fn send(
        &mut self,
        world: &mut World<Mux>,
        parts: &[PartId<Guest>],
        dice: &mut Dice,
        fds: usize,
    ) -> Result<(), String> {
        let Some(key) = self.key.filter(|_| !self.finished) else {
            return Ok(());
        };
        let most = if self.records { RECORD } else { 150 };
        let count = dice.between(1, most);
        let bytes = Stream::new(key).bytes(self.sent, count);
        self.sent += count as u64;
        if let Some(guest) = world.handler_mut().part_mut(parts[self.part]) {
            guest.records.entry(key).or_default().push(count);
        }
        if fds == 0 {
            world.send(self.client, &bytes);
            return Ok(());
        }
        let (ours, theirs) = UnixStream::pair().map_err(|error| error.to_string())?;
        let prepared = ours.set_nonblocking(true);
        prepared.map_err(|error| error.to_string())?;
        self.tokens.push(ours);
        world.send_fds(self.client, &bytes, vec![OwnedFd::from(theirs)]);
        Ok(())
    }

    /// Those that were taken were taken in the order of sending.
    fn tags(&mut self) -> Result<(), String> {
        let mut tag = [0];
        for mut token in &self.tokens {
            if token.read(&mut tag).is_ok_and(|count| count == 1) {
                let (last, client) = (self.last_tag, self.client);
                expect(tag[0] > last, || {
                    format!("{client:?} had descriptor {} taken after {last}", tag[0])
                })?;
                self.last_tag = tag[0];
            }
        }
        Ok(())
    }

    fn judge(&self, line: &Line, pressed: bool) -> Result<(), String> {
        let (id, client) = (line.id, self.client);
        let fair = !self.gone && !line.hurt && !line.away && !line.panicked;
        if line.open && !line.closing && fair && !pressed {
            expect(line.seen == self.sent, || {
                format!(
                    "{client:?} sent {} bytes, and {id:?} has read {}",
                    self.sent, line.seen
                )
            })?;
        }
        if fair && (line.open || line.orderly) {
            expect(self.got == line.written, || {
                format!(
                    "{id:?} wrote {} bytes, and {client:?} got {}",
                    line.written, self.got
                )
            })?;
        }
        Ok(())
    }
}

impl Source {
    fn feed(&mut self, count: usize, over: bool) {
        let bytes = Stream::new(self.key).bytes(self.sent, count);
        if let Some(writer) = &mut self.writer
            && writer.write_all(&bytes).is_ok()
        {
            self.sent += count as u64;
        }
        if over {
            self.writer = None;
        }
    }
}

fn mailbox(id: windlass::SocketId) -> Mailbox {
    Mailbox {
        id,
        got: Vec::new(),
        gone: false,
    }
}

fn path(part: usize, records: bool) -> String {
    format!("/run/{part}/{records}")
}

fn letterbox(part: usize) -> String {
    format!("/run/{part}/mail")
}
