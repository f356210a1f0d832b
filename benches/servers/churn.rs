//! Connect, send, receive, close: what a short life costs. The servers are those of echo.
//!
//! The client closes first, as soon as it has its answer, so the server meets a plain end
//! of the stream (a client that resets would spare it that, and is another path). The
//! price is TIME_WAIT on the client's side; ports last because the clients come from many
//! addresses of the loopback network.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;

use socket2::{Domain, Socket, Type};

use super::echo;
use super::epoll::{self, Epoll, IN};
use super::exchange::{PATIENCE_MS, Quota};
use super::workload::{Kind, Load, Span, Workload, listen};

/// Connections open at a time.
const SLOTS: usize = 50;
const MESSAGE: [u8; 64] = [7; 64];
/// 127.0.0.2 and on; each has all the ports of the system.
const SOURCES: usize = 32;

pub(crate) fn family() -> Vec<Box<dyn Workload>> {
    vec![Box::new(Churn)]
}

struct Churn;

impl Workload for Churn {
    fn name(&self) -> &str {
        "churn-64x50"
    }

    fn says(&self) -> String {
        format!(
            "connect, send {} bytes, receive them, close; {SLOTS} at a time",
            MESSAGE.len()
        )
    }

    fn servers(&self) -> &[Kind] {
        echo::EVERYBODY
    }

    fn serve(&self, kind: Kind, at: SocketAddr) -> io::Result<()> {
        echo::serve(kind, listen(at)?, echo::SMALL_BUFFER, echo::Idle::Default)
    }

    fn load(&self, at: SocketAddr) -> io::Result<Box<dyn Load>> {
        Ok(Box::new(Visitors {
            at,
            epoll: Epoll::new()?,
            slots: (0..SLOTS).map(|_| None).collect(),
            visits: 0,
        }))
    }
}

struct Visitors {
    at: SocketAddr,
    epoll: Epoll,
    slots: Vec<Option<Visitor>>,
    visits: usize,
}

struct Visitor {
    stream: TcpStream,
    received: usize,
}

impl Load for Visitors {
    fn run(&mut self, span: Span) -> io::Result<u64> {
        let mut quota = Quota::new(span);
        for slot in 0..quota.take(SLOTS) {
            self.visit(slot)?;
        }
        let mut done = 0;
        while done < quota.taken {
            let ready = self.epoll.wait(PATIENCE_MS)?;
            if ready == 0 {
                return Err(io::Error::other("the server does not answer"));
            }
            quota.look();
            for at in 0..ready {
                let (_, slot) = self.epoll.event(at);
                if self.receive(slot as usize)? {
                    done += 1;
                    if quota.take(1) == 1 {
                        self.visit(slot as usize)?;
                    }
                }
            }
        }
        Ok(done)
    }
}

impl Visitors {
    /// Neither of the calls has to wait: loopback connects at once, and there is room for
    /// one message in a fresh socket.
    fn visit(&mut self, slot: usize) -> io::Result<()> {
        self.visits += 1;
        let source =
            Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + 1 + (self.visits % SOURCES) as u32);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        epoll::leave_port_to_connect(socket.as_raw_fd())?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.connect(&self.at.into())?;
        let stream = TcpStream::from(socket);
        if epoll::send(stream.as_raw_fd(), &MESSAGE)? != MESSAGE.len() {
            return Err(io::Error::other("a fresh socket had no room"));
        }
        self.epoll.add(stream.as_raw_fd(), IN, slot as u64)?;
        self.slots[slot] = Some(Visitor {
            stream,
            received: 0,
        });
        Ok(())
    }

    /// Whether that visit is over.
    fn receive(&mut self, slot: usize) -> io::Result<bool> {
        let Some(visitor) = &mut self.slots[slot] else {
            return Ok(false);
        };
        let mut buffer = [0; MESSAGE.len()];
        let expected = &MESSAGE[visitor.received..];
        match epoll::recv(visitor.stream.as_raw_fd(), &mut buffer)? {
            0 => return Err(io::Error::other("the server closed first")),
            n if buffer[..n] != expected[..n.min(expected.len())] => {
                return Err(io::Error::other("the server answered other bytes"));
            }
            n => visitor.received += n,
        }
        let over = visitor.received == MESSAGE.len();
        if over {
            // This closes it.
            self.slots[slot] = None;
        }
        Ok(over)
    }
}
