//! Accepting alone: the processor time from a full queue to registered connections, beside
//! `accept4` and `epoll_ctl` in a loop. Ours takes 64 in a turn and asks the kernel again in
//! between, as it must to be fair to others. Closing is not counted on either side.

#[cfg(target_os = "linux")]
pub(crate) use linux::run;

#[cfg(not(target_os = "linux"))]
pub(crate) fn run(_: &mut crate::measure::Bench) {
    // The baseline is epoll.
}

#[cfg(target_os = "linux")]
#[allow(
    unsafe_code,
    reason = "the baseline is what the crate's own unsafe room is measured against"
)]
mod linux {
    use std::io;
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
    use std::time::Duration;

    use windlass::{Conn, Handler, Listen, ListenerId, Reactor};

    use crate::clock::{seconds, thread_clock};
    use crate::measure::{Batch, Bench};
    use crate::sockets::turn;

    /// Clients of a batch; they wait in the queue until it begins.
    const CLIENTS: usize = 100;

    pub(crate) fn run(bench: &mut Bench) {
        let mut ours = Loop::new();
        let mut raw = Raw::new();
        bench.part(
            "accept",
            Batch::of(CLIENTS),
            &mut [
                ("windlass", &mut || ours.accept()),
                ("accept4, epoll_ctl", &mut || raw.accept()),
            ],
        );
    }

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let addr = listener.local_addr().expect("its address");
        (listener, addr)
    }

    /// They reset when they are dropped, or the ports of this host would soon be used up.
    fn clients(addr: SocketAddr) -> Vec<TcpStream> {
        let connect = |_| {
            let client = TcpStream::connect(addr).expect("room in the queue");
            let reset = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
            reset.expect("a socket");
            client
        };
        (0..CLIENTS).map(connect).collect()
    }

    /// Processor time of this thread, the kernel's part included.
    fn spent(work: impl FnOnce()) -> Duration {
        let clock = thread_clock();
        let began = seconds(clock);
        work();
        Duration::from_secs_f64(seconds(clock) - began)
    }

    struct Loop {
        reactor: Reactor<Keep>,
        addr: SocketAddr,
    }

    struct Keep;

    impl Handler for Keep {
        type Session = ();

        fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
            Ok(())
        }
    }

    impl Loop {
        fn new() -> Self {
            let (listener, addr) = listener();
            let mut reactor = Reactor::new(Keep).expect("a loop");
            let listening = reactor.listen(Listen::adopt(OwnedFd::from(listener)));
            listening.expect("a listener");
            Self { reactor, addr }
        }

        fn accept(&mut self) -> Duration {
            let clients = clients(self.addr);
            let all = self.reactor.stats().accepted + CLIENTS as u64;
            let spent = spent(|| {
                while self.reactor.stats().accepted < all {
                    turn(&mut self.reactor);
                }
            });
            drop(clients);
            while self.reactor.stats().open > 0 {
                turn(&mut self.reactor);
            }
            spent
        }
    }

    const EVENTS: usize = 1024;

    struct Raw {
        listener: TcpListener,
        addr: SocketAddr,
        epoll: OwnedFd,
        accepted: Vec<OwnedFd>,
        events: Vec<libc::epoll_event>,
    }

    impl Raw {
        fn new() -> Self {
            let (listener, addr) = listener();
            // SAFETY: epoll_create1 takes no pointer.
            let epoll = owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) });
            let raw = Self {
                listener,
                addr,
                epoll: epoll.expect("an epoll"),
                accepted: Vec::with_capacity(CLIENTS),
                events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS],
            };
            raw.register(raw.listener.as_raw_fd());
            raw
        }

        fn accept(&mut self) -> Duration {
            let clients = clients(self.addr);
            let spent = spent(|| {
                while self.accepted.len() < CLIENTS {
                    self.wait();
                    while let Some(fd) = self.accept_one() {
                        self.register(fd.as_raw_fd());
                        self.accepted.push(fd);
                    }
                }
                // That they can be written to is told to everybody who asks.
                self.wait();
            });
            drop(clients);
            self.accepted.clear();
            spent
        }

        fn wait(&mut self) {
            let (epoll, events) = (self.epoll.as_raw_fd(), self.events.as_mut_ptr());
            // SAFETY: the pointer and the length are those of one live vector.
            unsafe { libc::epoll_wait(epoll, events, EVENTS as i32, 0) };
        }

        fn accept_one(&self) -> Option<OwnedFd> {
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            let (listener, nobody) = (self.listener.as_raw_fd(), std::ptr::null_mut());
            // SAFETY: accept4 allows null for an address that nobody wants.
            owned(unsafe { libc::accept4(listener, nobody, std::ptr::null_mut(), flags) })
        }

        fn register(&self, fd: RawFd) {
            let interest = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
            let mut event = libc::epoll_event {
                events: interest as u32,
                u64: fd as u64,
            };
            let (epoll, add) = (self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD);
            // SAFETY: the event lives across the call, which copies it.
            let registered = unsafe { libc::epoll_ctl(epoll, add, fd, &raw mut event) };
            assert_eq!(registered, 0);
        }
    }

    fn owned(fd: RawFd) -> Option<OwnedFd> {
        // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
        (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
    }
}
