//! Several handlers on one loop, each with sessions of its own type.
//!
//! Every source carries the number of the handler that opened it. A [`Mux`] is the handler
//! of the loop, looks the number up, and passes the callback on: one virtual call for each
//! event. It never knows what a part does, and no part knows of another.

use std::any::{Any, TypeId};
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use crate::context::{Conn, Context};
use crate::datagram::{Bind, Datagram, Socket};
use crate::dialer::Dial;
use crate::error::{Cause, Error, Op};
use crate::faults::fault;
use crate::handle::{Handle, Mail, Post, PostError};
use crate::handler::{Closed, Deadline, Handler};
use crate::input::Input;
use crate::kernel::Interest;
use crate::listener::Listen;
use crate::reactor::Reactor;
use crate::sim::World;
use crate::token::{ConnId, DialId, ListenerId, Owner, SocketId, TimerId, WatchId};
use crate::watch::Ready;

/// Several handlers on one loop: a [`Handler`] that is made of others, its *parts*.
///
/// Each part is a handler as it would be alone on a loop, with its own
/// [`Session`](Handler::Session) type. What it opens is its own: the callbacks of a
/// listener, dial, connection, timer, socket or watch go to the part that opened it, and
/// what a callback opens belongs to the part whose callback it is.
/// [`Context::for_each`] visits the connections of the calling part only. The limits of the
/// [`Config`](crate::Config), the counters and a graceful stop are the loop's, and so every
/// part's.
///
/// # Example
///
/// A server of lines, an admin port that says how it is doing, and one thread.
///
/// ```
/// use std::io::{self, Read, Write};
/// use std::net::{Shutdown, SocketAddr, TcpStream};
/// use std::time::Duration;
/// use windlass::{Conn, Handler, Input, ListenerId, Mux, PartId, Reactor};
///
/// /// Numbers the lines that it is sent.
/// struct Lines;
///
/// impl Handler for Lines {
///     type Session = u64; // how many lines this connection has sent
///
///     fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<u64> {
///         Ok(0)
///     }
///
///     fn on_read(
///         &mut self,
///         conn: &mut Conn<'_>,
///         count: &mut u64,
///         input: &mut Input<'_>,
///     ) -> io::Result<()> {
///         while let Some(end) = input.iter().position(|&byte| byte == b'\n') {
///             let line = &input.rest()[..=end];
///             input.consume(line.len());
///             *count += 1;
///             write!(conn, "{count} ");
///             conn.write(line);
///         }
///         Ok(())
///     }
/// }
///
/// /// Says one sentence to whoever connects, and needs no session for it.
/// struct Admin {
///     motto: String,
/// }
///
/// impl Handler for Admin {
///     type Session = ();
///
///     fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
///         let stats = conn.cx().stats();
///         write!(conn, "{}, {} bytes read", self.motto, stats.bytes_read);
///         conn.close();
///         Ok(())
///     }
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let mut mux = Mux::new();
///     let lines = mux.add(Lines);
///     let admin = mux.add(Admin { motto: "fine".to_owned() });
///
///     let mut reactor = Reactor::new(mux)?;
///     let lines_at = listen(&mut reactor, lines)?;
///     let admin_at = listen(&mut reactor, admin)?;
///
///     // The handle of one part: its posts get that part, and no other.
///     let handle = reactor.handle_for(admin);
///     let client = std::thread::spawn(move || -> io::Result<[String; 2]> {
///         let numbered = say(lines_at, b"hoist\nheave\n")?;
///         let answer = say(admin_at, b"")?;
///         handle.post(|admin, _cx| admin.motto = "closing".to_owned())?;
///         handle.shutdown(Duration::from_secs(1))?; // of the loop, so of every part
///         Ok([numbered, answer])
///     });
///
///     reactor.run()?;
///     let [numbered, answer] = client.join().unwrap()?;
///     assert_eq!(numbered, "1 hoist\n2 heave\n");
///     assert_eq!(answer, "fine, 12 bytes read");
///     assert!(reactor.handler().part(admin).is_some_and(|admin| admin.motto == "closing"));
///     Ok(())
/// }
///
/// fn listen<H: Handler + 'static>(
///     reactor: &mut Reactor<Mux>,
///     part: PartId<H>,
/// ) -> Result<SocketAddr, Box<dyn std::error::Error>> {
///     let id = reactor.listen_for(part, "127.0.0.1:0")?;
///     let addr = reactor.listener(id).ok_or("no listener")?.local_addr();
///     Ok(addr.as_socket_addr().ok_or("not an IP address")?)
/// }
///
/// fn say(addr: SocketAddr, words: &[u8]) -> io::Result<String> {
///     let mut stream = TcpStream::connect(addr)?;
///     stream.write_all(words)?;
///     stream.shutdown(Shutdown::Write)?;
///     let mut answer = String::new();
///     stream.read_to_string(&mut answer)?;
///     Ok(answer)
/// }
/// ```
///
/// # Beginning and end
///
/// [`on_start`](Handler::on_start) runs for each part in the order of adding, with its own
/// typed handle. The first `Err` ends the run before it began; as for any handler whose
/// start failed, [`on_stop`](Handler::on_stop) is not called then, for none of them: a part
/// that started well is told by being dropped. What `on_start` opened is closed.
///
/// At the end `on_stop` runs for each part in the same order, even if that of another
/// panicked.
///
/// # What is whose
///
/// - What is opened on the reactor directly, by [`Reactor::listen`] and its like, belongs
///   to the first part. So does what a closure of a plain `Handle<Mux>` opens, and its
///   `for_each` visits the first part's connections.
/// - An id is good in any part: with a [`ConnId`] that another part has given it, a part can
///   write to that connection, close it and [`wake`](Context::wake) it. Callbacks and the
///   session stay with the owner.
/// - A panic costs what it costs without a `Mux`: the connection whose callback it was.
///
/// # Threads
///
/// Parts need not be `Send`, so that two of them may share an `Rc`; therefore a `Mux` is
/// made on the thread that runs it. Typed handles go to any thread.
///
/// # Cost
///
/// One virtual call and two look-ups by index for each callback, nothing for each byte.
/// Sessions stand in one slab for each part, which is as long as that part ever had
/// connections at a time.
#[derive(Default)]
pub struct Mux {
    // By owner number.
    parts: Vec<Box<dyn Facade>>,
}

impl Mux {
    /// Without parts. Whoever connects to a listener that belongs to no part is refused.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part. One that is added when the loop is running has missed its `on_start`.
    ///
    /// # Panics
    ///
    /// If `handler` is a `Mux`: the numbers by which parts are told apart are the loop's,
    /// and it has one set of them. If there are 65,536 parts already.
    #[track_caller]
    pub fn add<H: Handler + 'static>(&mut self, handler: H) -> PartId<H> {
        assert!(
            TypeId::of::<H>() != TypeId::of::<Self>(),
            "a Mux cannot be a part of a Mux: add its parts to the outer one"
        );
        let Ok(number) = u16::try_from(self.parts.len()) else {
            panic!("a Mux cannot have more than {} parts", self.parts.len());
        };
        let id = PartId {
            owner: Owner(number),
            handler: PhantomData,
        };
        self.parts.push(Box::new(Part {
            id,
            handler,
            tenants: Slab::new(),
        }));
        id
    }

    /// The application's state in one part; `None` if the id is from another `Mux`, whose
    /// part of that number has another type.
    pub fn part<H: Handler + 'static>(&self, id: PartId<H>) -> Option<&H> {
        let part: &dyn Any = self.parts.get(usize::from(id.owner.0))?.as_ref();
        part.downcast_ref::<Part<H>>().map(|part| &part.handler)
    }

    /// The application's state in one part; `None` as for [`part`](Self::part).
    pub fn part_mut<H: Handler + 'static>(&mut self, id: PartId<H>) -> Option<&mut H> {
        self.whole_part(id).map(|part| &mut part.handler)
    }

    fn whole_part<H: Handler + 'static>(&mut self, id: PartId<H>) -> Option<&mut Part<H>> {
        let part: &mut dyn Any = self.at(id.owner)?;
        part.downcast_mut()
    }

    fn at(&mut self, owner: Owner) -> Option<&mut dyn Facade> {
        self.parts
            .get_mut(usize::from(owner.0))
            .map(|part| &mut **part)
    }

    /// For callbacks that may fail.
    fn host(&mut self, owner: Owner) -> io::Result<&mut dyn Facade> {
        let owner = if fault!(PartMixedUp) {
            Owner::default()
        } else {
            owner
        };
        self.at(owner).ok_or_else(nobody)
    }

    fn check<H: Handler + 'static>(&self, id: PartId<H>, op: Op) -> Result<Owner, Error> {
        match self.part(id) {
            Some(_) => Ok(id.owner),
            None => {
                let why = Cause::Invalid("this Mux has no such part".to_owned());
                Err(Error::new(op, None, None, why))
            }
        }
    }
}

impl fmt::Debug for Mux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mux")
            .field("parts", &self.parts.len())
            .finish_non_exhaustive()
    }
}

/// Names one part of a [`Mux`], and knows its type. Means nothing to another `Mux`.
pub struct PartId<H> {
    owner: Owner,
    handler: PhantomData<fn() -> H>,
}

impl<H> Clone for PartId<H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H> Copy for PartId<H> {}

impl<H> PartialEq for PartId<H> {
    fn eq(&self, other: &Self) -> bool {
        self.owner == other.owner
    }
}

impl<H> Eq for PartId<H> {}

impl<H> fmt::Debug for PartId<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PartId").field(&self.owner.0).finish()
    }
}

/// A loop with several handlers.
impl Reactor<Mux> {
    /// Opens a listener whose clients are that part's; else as [`listen`](Self::listen).
    ///
    /// # Errors
    ///
    /// As [`listen`](Self::listen), or the part is another `Mux`'s.
    pub fn listen_for<H, L>(&mut self, part: PartId<H>, listen: L) -> Result<ListenerId, Error>
    where
        H: Handler + 'static,
        L: TryInto<Listen>,
        L::Error: Into<Error>,
    {
        let owner = self.handler().check(part, Op::Listen)?;
        let listen = listen.try_into().map_err(Into::into)?;
        self.core().listen(listen, owner)
    }

    /// Connects to somebody on behalf of that part; else as [`dial`](Self::dial).
    ///
    /// # Errors
    ///
    /// As [`dial`](Self::dial), or the part is another `Mux`'s.
    pub fn dial_for<H, D>(&mut self, part: PartId<H>, dial: D) -> Result<DialId, Error>
    where
        H: Handler + 'static,
        D: TryInto<Dial>,
        D::Error: Into<Error>,
    {
        let owner = self.handler().check(part, Op::Dial)?;
        let dial = dial.try_into().map_err(Into::into)?;
        self.core().dial(dial, owner)
    }

    /// Opens a datagram socket of that part's; else as [`bind`](Self::bind).
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind), or the part is another `Mux`'s.
    pub fn bind_for<H, B>(&mut self, part: PartId<H>, bind: B) -> Result<SocketId, Error>
    where
        H: Handler + 'static,
        B: TryInto<Bind>,
        B::Error: Into<Error>,
    {
        let owner = self.handler().check(part, Op::Listen)?;
        let bind = bind.try_into().map_err(Into::into)?;
        self.core().bind(bind, owner)
    }

    /// Watches a descriptor on behalf of that part; else as [`watch`](Self::watch).
    ///
    /// # Errors
    ///
    /// As [`watch`](Self::watch), or the part is another `Mux`'s; the descriptor is closed
    /// then.
    pub fn watch_for<H: Handler + 'static>(
        &mut self,
        part: PartId<H>,
        fd: impl Into<OwnedFd>,
        interest: Interest,
    ) -> Result<WatchId, Error> {
        let owner = self.handler().check(part, Op::Watch)?;
        self.core().watch(fd.into(), interest, owner)
    }

    /// A way in for other threads, to one part; see [`Handle::for_part`].
    pub fn handle_for<H: Handler + 'static>(&self, part: PartId<H>) -> Handle<H> {
        self.handle().for_part(part)
    }
}

/// A simulated loop with several handlers.
impl World<Mux> {
    /// Opens a listener, as [`Reactor::listen_for`] does.
    ///
    /// # Errors
    ///
    /// As [`Reactor::listen_for`].
    pub fn try_listen_for<H, L>(&mut self, part: PartId<H>, listen: L) -> Result<ListenerId, Error>
    where
        H: Handler + 'static,
        L: TryInto<Listen>,
        L::Error: Into<Error>,
    {
        self.reactor().listen_for(part, listen)
    }

    /// Opens a datagram socket, as [`Reactor::bind_for`] does.
    ///
    /// # Errors
    ///
    /// As [`Reactor::bind_for`].
    pub fn try_bind_for<H, B>(&mut self, part: PartId<H>, bind: B) -> Result<SocketId, Error>
    where
        H: Handler + 'static,
        B: TryInto<Bind>,
        B::Error: Into<Error>,
    {
        self.reactor().bind_for(part, bind)
    }

    /// Has the loop connect to somebody, as [`Reactor::dial_for`] does.
    ///
    /// # Errors
    ///
    /// As [`Reactor::dial_for`].
    pub fn dial_for<H, D>(&mut self, part: PartId<H>, dial: D) -> Result<DialId, Error>
    where
        H: Handler + 'static,
        D: TryInto<Dial>,
        D::Error: Into<Error>,
    {
        self.reactor().dial_for(part, dial)
    }
}

impl Handle<Mux> {
    /// A way to one part, for whoever shall know of no other.
    ///
    /// Its [`post`](Handle::post) runs like a callback of that part, with the part itself
    /// and a context in which `for_each`, `listen` and so on are the part's. Its
    /// [`post_to`](Handle::post_to) reaches that part's connections; for another's the task
    /// is dropped unrun and counted in
    /// [`Stats::posted_to_gone`](crate::Stats::posted_to_gone), as for one that is gone.
    /// The mailbox, its limit and its order are the loop's, and `shutdown` stops the loop,
    /// with every part. A task for a part of another `Mux` is dropped unrun.
    pub fn for_part<H: Handler + 'static>(&self, part: PartId<H>) -> Handle<H> {
        Handle::by_way_of(Arc::new(PartMail {
            outer: self.clone(),
            part,
        }))
    }
}

/// Leads a part's posts through the handler that it is a part of.
struct PartMail<H> {
    outer: Handle<Mux>,
    part: PartId<H>,
}

impl<H: Handler + 'static> Mail<H> for PartMail<H> {
    fn push(&self, post: Post<H>) -> Result<(), PostError> {
        let part = self.part;
        self.outer.push(match post {
            Post::Loop { task, .. } => Post::Loop {
                owner: part.owner,
                task: Box::new(move |mux, cx| {
                    if let Some(handler) = mux.part_mut(part) {
                        task(handler, cx);
                    }
                }),
            },
            Post::Conn { id, task, .. } => Post::Conn {
                id,
                owner: Some(part.owner),
                task: Box::new(move |mux, conn, seat| {
                    let Some(part) = mux.whole_part(part) else {
                        return Ok(());
                    };
                    let (handler, session) = part.lend(conn, seat)?;
                    task(handler, conn, session)
                }),
            },
        })
    }

    fn shutdown(&self, grace: Duration) -> Result<(), PostError> {
        self.outer.shutdown(grace)
    }
}

/// Every callback goes to the part that opened its source.
///
/// [`Context`] and [`Conn`] know that part's number already, so they are passed on as they
/// are; only beginning and end, which are everybody's, need one for each.
impl Handler for Mux {
    type Session = Seat;

    fn on_start(&mut self, cx: &mut Context<'_>, handle: &Handle<Self>) -> io::Result<()> {
        for (number, part) in (0..).zip(&mut self.parts) {
            part.on_start(&mut cx.as_owner(Owner(number)), handle)?;
        }
        Ok(())
    }

    fn on_accept(&mut self, conn: &mut Conn<'_>, listener: ListenerId) -> io::Result<Seat> {
        self.host(conn.owner())?.on_accept(conn, listener)
    }

    fn on_connect(&mut self, conn: &mut Conn<'_>, dial: DialId) -> io::Result<Seat> {
        self.host(conn.owner())?.on_connect(conn, dial)
    }

    fn on_dial_error(
        &mut self,
        cx: &mut Context<'_>,
        dial: DialId,
        error: &Error,
        retry_in: Option<Duration>,
    ) {
        if let Some(part) = self.at(cx.owner()) {
            part.on_dial_error(cx, dial, error, retry_in);
        }
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        seat: &mut Seat,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        self.host(conn.owner())?.on_read(conn, seat, input)
    }

    fn on_handshake(&mut self, conn: &mut Conn<'_>, seat: &mut Seat) -> io::Result<()> {
        self.host(conn.owner())?.on_handshake(conn, seat)
    }

    fn on_write(&mut self, conn: &mut Conn<'_>, seat: &mut Seat) -> io::Result<()> {
        self.host(conn.owner())?.on_write(conn, seat)
    }

    fn on_eof(
        &mut self,
        conn: &mut Conn<'_>,
        seat: &mut Seat,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        self.host(conn.owner())?.on_eof(conn, seat, input)
    }

    fn on_timeout(
        &mut self,
        conn: &mut Conn<'_>,
        seat: &mut Seat,
        which: Deadline,
    ) -> io::Result<()> {
        self.host(conn.owner())?.on_timeout(conn, seat, which)
    }

    fn on_wake(&mut self, conn: &mut Conn<'_>, seat: &mut Seat) -> io::Result<()> {
        self.host(conn.owner())?.on_wake(conn, seat)
    }

    fn on_shutdown(&mut self, conn: &mut Conn<'_>, seat: &mut Seat) -> io::Result<()> {
        self.host(conn.owner())?.on_shutdown(conn, seat)
    }

    fn on_close(&mut self, cx: &mut Context<'_>, seat: Seat, closed: &Closed) {
        if let Some(part) = self.at(cx.owner()) {
            part.on_close(cx, seat, closed);
        }
    }

    fn on_accept_error(&mut self, cx: &mut Context<'_>, listener: ListenerId, error: &Error) {
        if let Some(part) = self.at(cx.owner()) {
            part.on_accept_error(cx, listener, error);
        }
    }

    fn on_datagram(&mut self, socket: &mut Socket<'_>, datagram: &Datagram<'_>) {
        if let Some(part) = self.at(socket.owner()) {
            part.on_datagram(socket, datagram);
        }
    }

    fn on_socket_writable(&mut self, socket: &mut Socket<'_>) {
        if let Some(part) = self.at(socket.owner()) {
            part.on_socket_writable(socket);
        }
    }

    fn on_socket_timeout(&mut self, socket: &mut Socket<'_>, which: Deadline) {
        if let Some(part) = self.at(socket.owner()) {
            part.on_socket_timeout(socket, which);
        }
    }

    fn on_socket_error(&mut self, cx: &mut Context<'_>, socket: SocketId, error: &Error) {
        if let Some(part) = self.at(cx.owner()) {
            part.on_socket_error(cx, socket, error);
        }
    }

    fn on_ready(&mut self, cx: &mut Context<'_>, watch: WatchId, ready: Ready) {
        if let Some(part) = self.at(cx.owner()) {
            part.on_ready(cx, watch, ready);
        }
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, timer: TimerId) {
        if let Some(part) = self.at(cx.owner()) {
            part.on_timer(cx, timer);
        }
    }

    fn on_stop(&mut self, cx: &mut Context<'_>) {
        // A part that panics must not cost the others their last word; the panic policy
        // has its say when all have had theirs.
        let mut panicked = None;
        for (number, part) in (0..).zip(&mut self.parts) {
            let last = AssertUnwindSafe(|| part.on_stop(&mut cx.as_owner(Owner(number))));
            if let Err(payload) = catch_unwind(last) {
                panicked = Some(payload);
            }
        }
        if let Some(payload) = panicked {
            resume_unwind(payload);
        }
    }
}

/// What a [`Mux`] remembers about one connection: where the part that has it keeps the
/// session.
#[derive(Debug)]
pub struct Seat(usize);

/// A part, whatever its type. Callbacks as in [`Handler`], except that a session is known
/// by its seat.
trait Facade: Any {
    fn on_start(&mut self, cx: &mut Context<'_>, handle: &Handle<Mux>) -> io::Result<()>;
    fn on_accept(&mut self, conn: &mut Conn<'_>, listener: ListenerId) -> io::Result<Seat>;
    fn on_connect(&mut self, conn: &mut Conn<'_>, dial: DialId) -> io::Result<Seat>;
    fn on_dial_error(
        &mut self,
        cx: &mut Context<'_>,
        dial: DialId,
        error: &Error,
        retry_in: Option<Duration>,
    );
    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        seat: &Seat,
        input: &mut Input<'_>,
    ) -> io::Result<()>;
    fn on_handshake(&mut self, conn: &mut Conn<'_>, seat: &Seat) -> io::Result<()>;
    fn on_write(&mut self, conn: &mut Conn<'_>, seat: &Seat) -> io::Result<()>;
    fn on_eof(&mut self, conn: &mut Conn<'_>, seat: &Seat, input: &mut Input<'_>)
    -> io::Result<()>;
    fn on_timeout(&mut self, conn: &mut Conn<'_>, seat: &Seat, which: Deadline) -> io::Result<()>;
    fn on_wake(&mut self, conn: &mut Conn<'_>, seat: &Seat) -> io::Result<()>;
    fn on_shutdown(&mut self, conn: &mut Conn<'_>, seat: &Seat) -> io::Result<()>;
    fn on_close(&mut self, cx: &mut Context<'_>, seat: Seat, closed: &Closed);
    fn on_accept_error(&mut self, cx: &mut Context<'_>, listener: ListenerId, error: &Error);
    fn on_datagram(&mut self, socket: &mut Socket<'_>, datagram: &Datagram<'_>);
    fn on_socket_writable(&mut self, socket: &mut Socket<'_>);
    fn on_socket_timeout(&mut self, socket: &mut Socket<'_>, which: Deadline);
    fn on_socket_error(&mut self, cx: &mut Context<'_>, socket: SocketId, error: &Error);
    fn on_ready(&mut self, cx: &mut Context<'_>, watch: WatchId, ready: Ready);
    fn on_timer(&mut self, cx: &mut Context<'_>, timer: TimerId);
    fn on_stop(&mut self, cx: &mut Context<'_>);
}

/// One handler with its sessions.
struct Part<H: Handler> {
    id: PartId<H>,
    handler: H,
    tenants: Slab<Tenant<H::Session>>,
}

/// A session, and whose it is: a seat that outlives its `Mux` must not find a stranger in
/// the one that was put in its place.
struct Tenant<S> {
    conn: ConnId,
    session: S,
}

impl<H: Handler> Part<H> {
    fn seat(&mut self, conn: ConnId, session: H::Session) -> Seat {
        Seat(self.tenants.insert(Tenant { conn, session }))
    }

    fn lend(&mut self, conn: &Conn<'_>, seat: &Seat) -> io::Result<(&mut H, &mut H::Session)> {
        match self.tenants.get_mut(seat.0) {
            Some(tenant) if tenant.conn == conn.id() => {
                Ok((&mut self.handler, &mut tenant.session))
            }
            _ => Err(nobody()),
        }
    }
}

impl<H: Handler + 'static> Facade for Part<H> {
    fn on_start(&mut self, cx: &mut Context<'_>, handle: &Handle<Mux>) -> io::Result<()> {
        self.handler.on_start(cx, &handle.for_part(self.id))
    }

    fn on_accept(&mut self, conn: &mut Conn<'_>, listener: ListenerId) -> io::Result<Seat> {
        let session = self.handler.on_accept(conn, listener)?;
        Ok(self.seat(conn.id(), session))
    }

    fn on_connect(&mut self, conn: &mut Conn<'_>, dial: DialId) -> io::Result<Seat> {
        let session = self.handler.on_connect(conn, dial)?;
        Ok(self.seat(conn.id(), session))
    }

    fn on_dial_error(
        &mut self,
        cx: &mut Context<'_>,
        dial: DialId,
        error: &Error,
        retry_in: Option<Duration>,
    ) {
        self.handler.on_dial_error(cx, dial, error, retry_in);
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        seat: &Seat,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        let (handler, session) = self.lend(conn, seat)?;
        handler.on_read(conn, session, input)
    }

    fn on_handshake(&mut self, conn: &mut Conn<'_>, seat: &Seat) -> io::Result<()> {
        let (handler, session) = self.lend(conn, seat)?;
        handler.on_handshake(conn, session)
    }

    fn on_write(&mut self, conn: &mut Conn<'_>, seat: &Seat) -> io::Result<()> {
        let (handler, session) = self.lend(conn, seat)?;
        handler.on_write(conn, session)
    }

    fn on_eof(
        &mut self,
        conn: &mut Conn<'_>,
        seat: &Seat,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        let (handler, session) = self.lend(conn, seat)?;
        handler.on_eof(conn, session, input)
    }

    fn on_timeout(&mut self, conn: &mut Conn<'_>, seat: &Seat, which: Deadline) -> io::Result<()> {
        let (handler, session) = self.lend(conn, seat)?;
        handler.on_timeout(conn, session, which)
    }

    fn on_wake(&mut self, conn: &mut Conn<'_>, seat: &Seat) -> io::Result<()> {
        let (handler, session) = self.lend(conn, seat)?;
        handler.on_wake(conn, session)
    }

    fn on_shutdown(&mut self, conn: &mut Conn<'_>, seat: &Seat) -> io::Result<()> {
        let (handler, session) = self.lend(conn, seat)?;
        handler.on_shutdown(conn, session)
    }

    fn on_close(&mut self, cx: &mut Context<'_>, seat: Seat, closed: &Closed) {
        let is_his = |tenant: &Tenant<_>| tenant.conn == closed.id;
        if self.tenants.get(seat.0).is_some_and(is_his) {
            let Tenant { session, .. } = self.tenants.remove(seat.0);
            self.handler.on_close(cx, session, closed);
        }
    }

    fn on_accept_error(&mut self, cx: &mut Context<'_>, listener: ListenerId, error: &Error) {
        self.handler.on_accept_error(cx, listener, error);
    }

    fn on_datagram(&mut self, socket: &mut Socket<'_>, datagram: &Datagram<'_>) {
        self.handler.on_datagram(socket, datagram);
    }

    fn on_socket_writable(&mut self, socket: &mut Socket<'_>) {
        self.handler.on_socket_writable(socket);
    }

    fn on_socket_timeout(&mut self, socket: &mut Socket<'_>, which: Deadline) {
        self.handler.on_socket_timeout(socket, which);
    }

    fn on_socket_error(&mut self, cx: &mut Context<'_>, socket: SocketId, error: &Error) {
        self.handler.on_socket_error(cx, socket, error);
    }

    fn on_ready(&mut self, cx: &mut Context<'_>, watch: WatchId, ready: Ready) {
        self.handler.on_ready(cx, watch, ready);
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, timer: TimerId) {
        self.handler.on_timer(cx, timer);
    }

    fn on_stop(&mut self, cx: &mut Context<'_>) {
        self.handler.on_stop(cx);
    }
}

/// Closes a connection that no part has: its listener was opened before there was a part,
/// or the `Mux` was replaced while the loop ran.
fn nobody() -> io::Error {
    let why = "no part of this Mux has this connection";
    io::Error::new(io::ErrorKind::NotFound, why)
}
