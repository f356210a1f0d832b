//! What a workload is, and the list of them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use super::{churn, echo, fairness, fanout, http, resp, sink, udp};

/// Clients that may wait to be accepted, for every server.
const BACKLOG: i32 = 4096;

/// Every workload, in the order of the table. A family appends its own here.
pub(crate) fn all() -> Vec<Box<dyn Workload>> {
    let families = [
        echo::family(),
        churn::family(),
        sink::family(),
        http::family(),
        resp::family(),
        fanout::family(),
        udp::family(),
        fairness::family(),
    ];
    families.into_iter().flatten().collect()
}

pub(crate) fn named(name: &str) -> io::Result<Box<dyn Workload>> {
    let found = all().into_iter().find(|workload| workload.name() == name);
    found.ok_or_else(|| io::Error::other(format!("no workload is called {name}; see --list")))
}

/// One thing to serve, and the load that asks for it.
pub(crate) trait Workload {
    fn name(&self) -> &str;

    /// A sentence for people.
    fn says(&self) -> String;

    /// Who can serve it; [`Kind::Raw`] is among them.
    fn servers(&self) -> &[Kind];

    /// Idle connections that every server is to hold beside the load.
    fn idle(&self) -> usize {
        0
    }

    /// Whether the load is to be a process of its own, for its many descriptors.
    fn apart(&self) -> bool {
        false
    }

    /// Serves until the process is killed. Says where, by [`listen`] or [`announce`].
    fn serve(&self, kind: Kind, at: SocketAddr) -> io::Result<()>;

    /// Connects to a server of this workload.
    fn load(&self, at: SocketAddr) -> io::Result<Box<dyn Load>>;
}

/// The clients of one server, connected.
pub(crate) trait Load {
    /// Has requests answered for so long, or so many of them, and waits for the answers to
    /// all that it has sent. How many it were.
    fn run(&mut self, span: Span) -> io::Result<u64>;

    /// The latency that one in a hundred exceeded in the last run, in seconds, if that is
    /// what the workload is about.
    fn p99(&self) -> Option<f64> {
        None
    }

    /// Processor time of this load that was not spent by the thread that calls it.
    fn elsewhere(&self) -> f64 {
        0.0
    }

    /// What else there is to say about the runs since the last remark.
    fn remark(&mut self) -> io::Result<Option<String>> {
        Ok(None)
    }
}

/// How much load.
#[derive(Clone, Copy)]
pub(crate) enum Span {
    Time(Duration),
    Requests(u64),
}

impl Span {
    /// As much load, counted in groups of so many requests.
    pub(crate) fn in_groups(self, of: u64) -> Self {
        match self {
            Self::Time(time) => Self::Time(time),
            Self::Requests(requests) => Self::Requests(requests.div_ceil(of)),
        }
    }
}

/// Who serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// epoll, by hand.
    Raw,
    Windlass,
    /// windlass, as one part of a `Mux`.
    Mux,
    /// windlass, receiving one datagram by each call.
    Single,
    /// windlass, with datagrams merged by the kernel (`Bind::gro`).
    Gro,
    /// The same by hand on epoll.
    RawGro,
    /// mio, by hand.
    Mio,
    /// tokio's current_thread runtime, a task per connection.
    Tokio,
    /// A blocking thread per connection.
    Threads,
}

impl Kind {
    pub(crate) const ALL: [Self; 9] = [
        Self::Raw,
        Self::Windlass,
        Self::Mux,
        Self::Single,
        Self::Gro,
        Self::RawGro,
        Self::Mio,
        Self::Tokio,
        Self::Threads,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Windlass => "windlass",
            Self::Mux => "mux",
            Self::Single => "single",
            Self::Gro => "gro",
            Self::RawGro => "raw-gro",
            Self::Mio => "mio",
            Self::Tokio => "tokio",
            Self::Threads => "threads",
        }
    }

    pub(crate) fn named(name: &str) -> io::Result<Self> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| io::Error::other(format!("no server is called {name}")))
    }

    /// What a workload answers to somebody whom it does not list.
    pub(crate) fn cannot(self) -> io::Error {
        io::Error::other(format!("{} does not serve this", self.name()))
    }
}

/// The address that the kernel fills in.
pub(crate) fn anywhere() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// A listener with the options that all servers have, announced.
pub(crate) fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from(socket);
    announce(listener.local_addr()?);
    Ok(listener)
}

/// Says where a server is to be reached, as the first line of its output.
pub(crate) fn announce(at: SocketAddr) {
    println!("listening on {at}");
}
