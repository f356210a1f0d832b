//! One message to very many: whatever one connection sends, all the others receive. A
//! request is one delivery, so the figure is what it costs to send the same bytes once more.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::broadcast;
use windlass::codec::{Decoder, Fixed};
use windlass::{Config, Conn, Handler, Input, Listen, ListenerId, Reactor};

use super::answer::Answer;
use super::child::{self, OTHER_DESCRIPTORS};
use super::echo::LONG;
use super::epoll::{self, Epoll, IN};
use super::exchange::{PATIENCE_MS, Quota, is_of};
use super::workload::{Kind, Load, Span, Workload, listen};
use super::{mio_loop, raw};

const MESSAGE: usize = 1024;
const SUBSCRIBERS: usize = 10_000;
/// What tokio's channel keeps for tasks that are behind; one message is under way.
const BEHIND: usize = 16;
/// One receive of so many is compared byte by byte.
const COMPARED: usize = 64;

const SERVERS: &[Kind] = &[Kind::Raw, Kind::Windlass, Kind::Mio, Kind::Tokio];

pub(crate) fn family() -> Vec<Box<dyn Workload>> {
    vec![Box::new(FanOut)]
}

struct FanOut;

impl Workload for FanOut {
    fn name(&self) -> &str {
        "fanout-1kx10k"
    }

    fn says(&self) -> String {
        format!("{MESSAGE} bytes from one to {SUBSCRIBERS} others; a request is one delivery")
    }

    fn servers(&self) -> &[Kind] {
        SERVERS
    }

    fn apart(&self) -> bool {
        true
    }

    fn serve(&self, kind: Kind, at: SocketAddr) -> io::Result<()> {
        let listener = listen(at)?;
        match kind {
            Kind::Raw => raw::serve(&listener, Relay::default()),
            Kind::Mio => mio_loop::serve(listener, Relay::default()),
            Kind::Tokio => tokio_channel(listener),
            Kind::Windlass => {
                let mut config = Config::default();
                // Who waits for the other servers' rounds is silent for long.
                config.idle_timeout = LONG;
                let mut reactor = Reactor::with_config(Telling, config)?;
                reactor.listen(Listen::adopt(OwnedFd::from(listener)))?;
                reactor.run().map(drop)
            }
            _ => Err(kind.cannot()),
        }
    }

    fn load(&self, at: SocketAddr) -> io::Result<Box<dyn Load>> {
        Crowd::connect(at).map(|crowd| -> Box<dyn Load> { Box::new(crowd) })
    }
}

/// For the loops by hand.
#[derive(Clone, Default)]
struct Relay {
    message: Vec<u8>,
}

impl Answer for Relay {
    /// The beginning of a message.
    type Session = Vec<u8>;

    fn answer<'a>(&'a mut self, begun: &mut Vec<u8>, input: &'a [u8]) -> &'a [u8] {
        begun.extend_from_slice(input);
        let whole = begun.len() - begun.len() % MESSAGE;
        self.message.extend(begun.drain(..whole));
        &[]
    }

    fn for_others(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.message)
    }
}

struct Telling;

impl Handler for Telling {
    type Session = ();

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        Ok(())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        (): &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        let from = conn.id();
        while let Some(message) = Fixed::new(MESSAGE).decode(input)? {
            let message: Arc<[u8]> = Arc::from(message);
            conn.cx().for_each(|other| {
                if other.id() != from {
                    other.write_shared(Arc::clone(&message));
                }
            });
        }
        Ok(())
    }
}

/// Who has said it, and what.
type Said = (SocketAddr, Arc<[u8]>);

fn tokio_channel(listener: TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (say, _) = broadcast::channel::<Said>(BEHIND);
        loop {
            let (stream, from) = listener.accept().await?;
            tokio::spawn(subscriber(stream, from, say.clone()));
        }
    })
}

async fn subscriber(
    mut stream: tokio::net::TcpStream,
    from: SocketAddr,
    say: broadcast::Sender<Said>,
) -> io::Result<()> {
    let mut hear = say.subscribe();
    let (mut reader, mut writer) = stream.split();
    let mut message = [0; MESSAGE];
    let mut begun = 0;
    loop {
        tokio::select! {
            n = reader.read(&mut message[begun..]) => {
                begun += match n? {
                    0 => return Ok(()),
                    n => n,
                };
                if begun == MESSAGE {
                    begun = 0;
                    // Somebody hears it: this task does.
                    let _ = say.send((from, Arc::from(message)));
                }
            }
            said = hear.recv() => {
                let (by, message) = said.map_err(io::Error::other)?;
                if by != from {
                    writer.write_all(&message).await?;
                }
            }
        }
    }
}

/// The one who speaks, and all who hear.
struct Crowd {
    epoll: Epoll,
    publisher: TcpStream,
    subscribers: Vec<Subscriber>,
    message: Vec<u8>,
    buffer: Vec<u8>,
    receives: usize,
}

struct Subscriber {
    stream: TcpStream,
    /// Where in a message the next byte is.
    received: usize,
}

impl Crowd {
    fn connect(at: SocketAddr) -> io::Result<Self> {
        let room = child::raise_descriptors()?.saturating_sub(OTHER_DESCRIPTORS) as usize;
        if room < SUBSCRIBERS {
            eprintln!("SKIPPED: only {room} of {SUBSCRIBERS} subscribers: descriptors end");
        }
        let epoll = Epoll::new()?;
        let subscribe = |key| {
            let stream = TcpStream::connect(at)?;
            stream.set_nonblocking(true)?;
            epoll.add(stream.as_raw_fd(), IN, key as u64)?;
            Ok(Subscriber {
                stream,
                received: 0,
            })
        };
        let subscribers = 0..SUBSCRIBERS.min(room);
        let subscribers = subscribers.map(subscribe).collect::<io::Result<_>>()?;
        Ok(Self {
            subscribers,
            epoll,
            // Last, so that all others have been accepted before it is heard.
            publisher: TcpStream::connect(at)?,
            message: (0..MESSAGE).map(|at| (at % 251) as u8).collect(),
            buffer: vec![0; 2 * MESSAGE],
            receives: 0,
        })
    }

    fn publish(&self) -> io::Result<()> {
        match epoll::send(self.publisher.as_raw_fd(), &self.message)? {
            MESSAGE => Ok(()),
            _ => Err(io::Error::other("an empty socket had no room")),
        }
    }

    /// Until everybody has it.
    fn hear(&mut self) -> io::Result<()> {
        let mut missing = self.subscribers.len() * MESSAGE;
        while missing > 0 {
            let ready = self.epoll.wait(PATIENCE_MS)?;
            if ready == 0 {
                return Err(io::Error::other("not everybody was told"));
            }
            for at in 0..ready {
                let (_, key) = self.epoll.event(at);
                self.receives += 1;
                let compare = self
                    .receives
                    .is_multiple_of(COMPARED)
                    .then_some(&*self.message);
                let n = self.subscribers[key as usize].receive(&mut self.buffer, compare)?;
                let left = missing.checked_sub(n);
                missing = left.ok_or_else(|| io::Error::other("somebody was told twice"))?;
            }
        }
        Ok(())
    }
}

impl Subscriber {
    fn receive(&mut self, buffer: &mut [u8], expected: Option<&[u8]>) -> io::Result<usize> {
        let receive = match expected {
            Some(_) => epoll::recv,
            None => epoll::discard,
        };
        let n = match receive(self.stream.as_raw_fd(), buffer) {
            Ok(0) => return Err(io::Error::other("the server closed a connection")),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error),
        };
        if expected.is_some_and(|message| !is_of(&buffer[..n], self.received, message)) {
            return Err(io::Error::other("the server told other bytes"));
        }
        self.received = (self.received + n) % MESSAGE;
        Ok(n)
    }
}

impl Load for Crowd {
    fn run(&mut self, span: Span) -> io::Result<u64> {
        let mut quota = Quota::new(span);
        let mut delivered = 0;
        // The last message goes to everybody, also if fewer deliveries were asked for.
        while quota.take(self.subscribers.len()) > 0 {
            self.publish()?;
            self.hear()?;
            delivered += self.subscribers.len() as u64;
            quota.look();
        }
        Ok(delivered)
    }
}
