//! Datagrams, received one by one, in batches, and merged by the kernel. `raw`, and all the
//! others but windlass, have a receive call for each; `single` is windlass with batches of
//! one, `gro` is windlass with `Bind::gro`, and `raw-gro` does the same by hand.
//!
//! The load sends bursts (one send call, which the kernel cuts into datagrams), since a
//! sender that paid for each datagram would be slower than any of the servers, and never
//! have two of them wait. The same for all servers of a run. Such a burst can be handed over
//! in one piece. `…-uncut` has a sender that makes each datagram by itself, of which a loopback
//! merges none. Nothing is lost: what is under way fits the receive buffer.
//!
//! Bar, one way: a CPU ratio of 1.5, which is for `gro` to reach. What recvmmsg saves is the
//! way into the kernel and out; where that is short, a loop of it by hand is at 1.0, too.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};
use windlass::{Bind, Config, Datagram, Handler, Reactor, Socket};

use super::epoll::{self, Epoll, IN, Peer};
use super::exchange::{PATIENCE_MS, Quota};
use super::workload::{Kind, Load, Span, Workload, announce};

/// Room for any datagram.
const BUFFER: usize = 64 * 1024;
/// Asked for; the system grants a part of it.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// The kernel cuts no send into more, of those versions that have the fewest.
const MOST_SEGMENTS: usize = 64;

/// What is answered by one datagram where not each is.
const GROUP: usize = 64;

const SERVERS: &[Kind] = &[
    Kind::Raw,
    Kind::Windlass,
    Kind::Single,
    Kind::Gro,
    Kind::RawGro,
    Kind::Mio,
    Kind::Tokio,
    Kind::Threads,
];

pub(crate) fn family() -> Vec<Box<dyn Workload>> {
    let udp = |udp: Udp| -> Box<dyn Workload> { Box::new(udp) };
    vec![
        udp(Udp {
            name: "udp-64x50",
            size: 64,
            window: 50,
            group: 1,
            cut: true,
        }),
        udp(Udp {
            name: "udp-100-oneway",
            size: 100,
            // The smallest receive buffer that systems have by default holds some more.
            window: 3 * GROUP,
            group: GROUP,
            cut: true,
        }),
        udp(Udp {
            name: "udp-100-oneway-uncut",
            size: 100,
            window: 3 * GROUP,
            group: GROUP,
            cut: false,
        }),
    ]
}

#[derive(Clone, Copy)]
struct Udp {
    name: &'static str,
    size: usize,
    /// Datagrams under way.
    window: usize,
    /// So many are answered by one.
    group: usize,
    /// The kernel cuts them (UDP_SEGMENT), instead of being given each.
    cut: bool,
}

impl Workload for Udp {
    fn name(&self) -> &str {
        self.name
    }

    fn says(&self) -> String {
        let Self { size, window, .. } = self;
        match self.group {
            1 => format!("{window} datagrams of {size} bytes in flight, each answered"),
            group if self.cut => {
                format!("datagrams of {size} bytes, one way; one answer to each {group}")
            }
            _ => format!("datagrams of {size} bytes, one way, each sent by itself"),
        }
    }

    fn servers(&self) -> &[Kind] {
        SERVERS
    }

    fn serve(&self, kind: Kind, at: SocketAddr) -> io::Result<()> {
        let socket = UdpSocket::bind(at)?;
        socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
        announce(socket.local_addr()?);
        let service = Service {
            group: self.group,
            counted: 0,
            calls: Calls::default(),
        };
        match kind {
            Kind::Raw => by_hand(&socket, service),
            Kind::RawGro => merged_by_hand(&socket, service),
            Kind::Mio => on_mio(socket, service),
            Kind::Tokio => on_tokio(socket, service),
            Kind::Threads => blocking(&socket, service),
            Kind::Windlass => on_windlass(socket, service, Config::default(), false),
            Kind::Gro => on_windlass(socket, service, Config::default(), true),
            Kind::Single => {
                let mut config = Config::default();
                config.datagram_batch = 1;
                on_windlass(socket, service, config, false)
            }
            Kind::Mux => Err(kind.cannot()),
        }
    }

    fn load(&self, at: SocketAddr) -> io::Result<Box<dyn Load>> {
        Sender::connect(*self, at).map(|sender| -> Box<dyn Load> { Box::new(sender) })
    }
}

/// System calls of a server.
#[derive(Clone, Copy, Default)]
struct Calls {
    receives: u64,
    sends: u64,
    polls: u64,
}

/// What is answered: every datagram, or the last one of each group. An empty one asks for
/// the calls made so far; who does not count them answers with an empty one.
struct Service {
    group: usize,
    counted: usize,
    calls: Calls,
}

impl Service {
    fn answer(&mut self, datagram: &[u8]) -> bool {
        if datagram.is_empty() {
            return true;
        }
        self.counted += 1;
        self.counted.is_multiple_of(self.group)
    }
}

impl Calls {
    fn text(self) -> String {
        format!("{} {} {}", self.receives, self.sends, self.polls)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let words = str::from_utf8(text).ok()?.split(' ');
        let numbers: Vec<u64> = words.map(str::parse).collect::<Result<_, _>>().ok()?;
        let [receives, sends, polls] = numbers[..] else {
            return None;
        };
        Some(Self {
            receives,
            sends,
            polls,
        })
    }
}

fn by_hand(socket: &UdpSocket, mut service: Service) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let fd = socket.as_raw_fd();
    let mut epoll = Epoll::new()?;
    epoll.add(fd, IN, 0)?;
    let (mut buffer, mut from) = (vec![0; BUFFER], Peer::nobody());
    loop {
        epoll.wait(-1)?;
        service.calls.polls += 1;
        loop {
            service.calls.receives += 1;
            let n = match epoll::recv_from(fd, &mut buffer, &mut from) {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            if n == 0 {
                epoll::send_to(fd, service.calls.text().as_bytes(), &from)?;
            } else if service.answer(&buffer[..n]) {
                service.calls.sends += 1;
                epoll::send_to(fd, &buffer[..n], &from)?;
            }
        }
    }
}

/// One receive call for as many datagrams as the kernel has in one piece.
fn merged_by_hand(socket: &UdpSocket, mut service: Service) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let fd = socket.as_raw_fd();
    epoll::receive_merged(fd)?;
    let mut epoll = Epoll::new()?;
    epoll.add(fd, IN, 0)?;
    let (mut buffer, mut from) = (vec![0; BUFFER], Peer::nobody());
    loop {
        epoll.wait(-1)?;
        service.calls.polls += 1;
        loop {
            service.calls.receives += 1;
            let (n, size) = match epoll::recv_pieces(fd, &mut buffer, &mut from) {
                Ok(came) => came,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            if n == 0 {
                epoll::send_to(fd, service.calls.text().as_bytes(), &from)?;
            }
            for piece in buffer[..n].chunks(size) {
                if service.answer(piece) {
                    service.calls.sends += 1;
                    epoll::send_to(fd, piece, &from)?;
                }
            }
        }
    }
}

fn on_mio(socket: UdpSocket, mut service: Service) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let mut socket = mio::net::UdpSocket::from_std(socket);
    let mut poll = Poll::new()?;
    poll.registry()
        .register(&mut socket, Token(0), Interest::READABLE)?;
    let mut events = Events::with_capacity(8);
    let mut buffer = vec![0; BUFFER];
    loop {
        poll.poll(&mut events, None)?;
        loop {
            let (n, from) = match socket.recv_from(&mut buffer) {
                Ok(came) => came,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            if service.answer(&buffer[..n]) {
                socket.send_to(&buffer[..n], from)?;
            }
        }
    }
}

fn on_tokio(socket: UdpSocket, mut service: Service) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async move {
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let (n, from) = socket.recv_from(&mut buffer).await?;
            if service.answer(&buffer[..n]) {
                socket.send_to(&buffer[..n], from).await?;
            }
        }
    })
}

/// One thread is enough for one socket.
fn blocking(socket: &UdpSocket, mut service: Service) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let (n, from) = socket.recv_from(&mut buffer)?;
        if service.answer(&buffer[..n]) {
            socket.send_to(&buffer[..n], from)?;
        }
    }
}

fn on_windlass(socket: UdpSocket, service: Service, config: Config, gro: bool) -> io::Result<()> {
    let mut reactor = Reactor::with_config(service, config)?;
    reactor.bind(Bind::adopt(OwnedFd::from(socket)).gro(gro))?;
    reactor.run().map(drop)
}

impl Handler for Service {
    type Session = ();

    fn on_datagram(&mut self, socket: &mut Socket<'_>, datagram: &Datagram<'_>) {
        if datagram.is_empty() {
            let stats = socket.cx().stats();
            let calls = Calls {
                receives: stats.reads,
                sends: stats.writes,
                polls: stats.turns,
            };
            socket.send_to(calls.text().as_bytes(), datagram.from());
        } else if self.answer(datagram.bytes()) {
            socket.send_to(datagram.bytes(), datagram.from());
        }
    }
}

/// The load: numbered datagrams from one socket.
struct Sender {
    udp: Udp,
    socket: UdpSocket,
    epoll: Epoll,
    burst: Vec<u8>,
    /// What the next one to send, and the next one to be answered, is called.
    next: u64,
    answered: u64,
    /// What the server had told at the last remark, and how many it had been sent.
    told: Calls,
    sent_then: u64,
}

impl Sender {
    fn connect(udp: Udp, at: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        socket.connect(at)?;
        socket.set_read_timeout(Some(Duration::from_millis(PATIENCE_MS as u64)))?;
        if udp.cut {
            epoll::send_in_segments(socket.as_raw_fd(), udp.size as u16)?;
        }
        let epoll = Epoll::new()?;
        epoll.add(socket.as_raw_fd(), IN, 0)?;
        let mut sender = Self {
            udp,
            socket,
            epoll,
            burst: vec![0; udp.size * udp.window],
            next: 0,
            answered: 0,
            told: Calls::default(),
            sent_then: 0,
        };
        sender.told = sender.ask()?.unwrap_or_default();
        Ok(sender)
    }

    /// In as few calls as there can be.
    fn send(&mut self, mut count: usize) -> io::Result<()> {
        while count > 0 {
            let now = count.min(MOST_SEGMENTS);
            let burst = &mut self.burst[..now * self.udp.size];
            for datagram in burst.chunks_exact_mut(self.udp.size) {
                datagram[..size_of::<u64>()].copy_from_slice(&self.next.to_be_bytes());
                self.next += 1;
            }
            if self.udp.cut {
                self.socket.send(burst)?;
            } else {
                let each = burst.chunks_exact(self.udp.size);
                each.map(|one| self.socket.send(one))
                    .try_for_each(|sent| sent.map(drop))?;
            }
            count -= now;
        }
        Ok(())
    }

    /// How many datagrams are known to have arrived by what can be received now.
    fn receive(&mut self) -> io::Result<usize> {
        let (mut arrived, mut buffer) = (0, [0; 128]);
        loop {
            let n = match epoll::recv(self.socket.as_raw_fd(), &mut buffer) {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(arrived),
                Err(error) => return Err(error),
            };
            self.answered += self.udp.group as u64;
            let expected = (self.answered - 1).to_be_bytes();
            if n != self.udp.size || buffer[..expected.len()] != expected {
                return Err(io::Error::other("a datagram was lost, or is another one"));
            }
            arrived += self.udp.group;
        }
    }

    fn exchange(&mut self, span: Span) -> io::Result<u64> {
        // Whole groups, since nothing else is answered.
        let (group, groups) = (self.udp.group, self.udp.window / self.udp.group);
        let mut quota = Quota::new(span.in_groups(group as u64));
        self.send(quota.take(groups) * group)?;
        let mut arrived = 0;
        while arrived < quota.taken {
            if self.epoll.wait(PATIENCE_MS)? == 0 {
                return Err(io::Error::other("the server does not answer"));
            }
            quota.look();
            let groups = self.receive()? / group;
            arrived += groups as u64;
            self.send(quota.take(groups) * group)?;
        }
        Ok(arrived * group as u64)
    }

    /// What the server has called the kernel for.
    fn ask(&self) -> io::Result<Option<Calls>> {
        let mut buffer = [0; 128];
        self.socket.send(&[])?;
        let n = self.socket.recv(&mut buffer)?;
        Ok(Calls::parse(&buffer[..n]))
    }
}

impl Load for Sender {
    fn run(&mut self, span: Span) -> io::Result<u64> {
        self.socket.set_nonblocking(true)?;
        let done = self.exchange(span);
        self.socket.set_nonblocking(false)?;
        done
    }

    fn remark(&mut self) -> io::Result<Option<String>> {
        let Some(calls) = self.ask()? else {
            return Ok(None);
        };
        let per = |now: u64, then: u64| (now - then) as f64 / (self.next - self.sent_then) as f64;
        let remark = format!(
            "calls per datagram: {:.3} to receive, {:.3} to send, {:.3} to poll",
            per(calls.receives, self.told.receives),
            per(calls.sends, self.told.sends),
            per(calls.polls, self.told.polls),
        );
        (self.told, self.sent_then) = (calls, self.next);
        Ok(Some(remark))
    }
}
