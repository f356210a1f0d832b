//! The poll.FD rules: what each errno of each call means for a reactor.
//!
//! One table per call, over the kernel seam and nothing else. Facts behind the rows: the
//! manual pages accept(2), recv(2), send(2), close(2), and Go's `internal/poll/fd_unix.go`,
//! whose triage is followed where it is right and mended where one client's error would
//! end a server (fourteen errnos of accept).
//!
//! EINTR is retried without a count: each round needs a signal of its own.

use std::io::IoSlice;
use std::os::fd::OwnedFd;

use libc as c;

use crate::address::Addr;
use crate::faults::fault;
use crate::kernel::{Batch, Came, Errno, Fd, Kernel, Message, Moved, Packet};

/// What one attempt to accept came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Accepted {
    /// A connection. The kernel knows who is at its other end.
    Conn(Fd),
    /// The queue is empty; the kernel will announce the next client.
    Empty,
    /// That client is gone; others may wait behind it. Counts against the budget.
    Lost(Errno),
    /// No descriptor or no memory: wait for either. Says nothing of the queue, which may
    /// even be empty (Linux reserves the descriptor before it looks).
    Exhausted(Errno),
    /// This listener will never accept again.
    Ended(Errno),
}

/// What one attempt to read came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Received {
    /// That many bytes; fewer than asked for means that the socket is drained.
    Bytes(usize),
    /// That many bytes of a record that was longer than the buffer; the rest of it is lost.
    Cut(usize),
    /// The peer has finished sending.
    Eof,
    /// Nothing there; the kernel will announce the next byte.
    WouldBlock,
    /// The connection is broken.
    Failed(Errno),
}

/// What one attempt to write came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sent {
    /// The kernel took that many bytes.
    Bytes(usize),
    /// Its buffer is full; the kernel will announce room.
    WouldBlock,
    /// The connection is broken.
    Failed(Errno),
}

/// What one attempt to receive datagrams came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrived {
    /// So many, empty ones included.
    Datagrams(Came),
    /// None there; the kernel will announce the next.
    WouldBlock,
    /// An event, and not the end.
    Failed(Errno),
    /// This is no socket, or none any more.
    Ended(Errno),
}

/// What one attempt to send datagrams came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Posted {
    /// The kernel took that many, from the first on.
    Taken(usize),
    /// Its buffer is full; the kernel will announce room (or nobody will, where each receiver
    /// has a buffer of its own).
    WouldBlock,
    /// It is short of something that comes back without a word.
    Transient(Errno),
    /// The first one can't be sent, or an earlier one has come back.
    Failed(Errno),
    /// This is no socket, or none any more.
    Ended(Errno),
}

/// What a connect call came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Connecting {
    Done,
    /// Its end will be reported as writable. Never issued again.
    Pending,
    /// The accept queue of a Unix listener is full, and nobody announces room in it: another
    /// socket, later.
    QueueFull,
    Failed(Errno),
}

/// What became of a connect that was pending.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Connected(Addr),
    /// A report without an end, which kernels are known to make.
    Pending,
    Failed(Errno),
}

/// One connect: the table of connect(2) for a socket that does not block.
pub(crate) fn connect(kernel: &mut dyn Kernel, fd: Fd, remote: &Addr) -> Connecting {
    match kernel.connect(fd, remote) {
        Ok(()) | Err(Errno(c::EISCONN)) => Connecting::Done,
        Err(Errno(c::EINPROGRESS | c::EALREADY | c::EINTR)) => Connecting::Pending,
        Err(Errno(c::EAGAIN)) if remote.as_unix().is_some() => Connecting::QueueFull,
        Err(errno) => Connecting::Failed(errno),
    }
}

/// Asks how a connect ended. No error is not trusted: a report may come too early, and
/// only a peer proves a connection (Go's `net/fd_unix.go`).
pub(crate) fn connected(kernel: &mut dyn Kernel, fd: Fd) -> Verdict {
    match kernel.take_error(fd) {
        None | Some(Errno(c::EISCONN)) => match kernel.peer_addr(fd) {
            Ok(peer) => Verdict::Connected(peer),
            Err(_) => Verdict::Pending,
        },
        Some(Errno(c::EINPROGRESS | c::EALREADY | c::EINTR)) => Verdict::Pending,
        Some(errno) => Verdict::Failed(errno),
    }
}

/// One accept, with signals retried.
pub(crate) fn accept(kernel: &mut dyn Kernel, listener: Fd) -> Accepted {
    match kernel.take_client(listener) {
        Ok(fd) => Accepted::Conn(fd),
        Err(errno) => accept_again(errno, kernel, listener),
    }
}

/// What an accept that failed came to, with signals retried.
pub(crate) fn accept_again(first: Errno, kernel: &mut dyn Kernel, listener: Fd) -> Accepted {
    let mut failed = first;
    while failed == Errno(c::EINTR) {
        match kernel.take_client(listener) {
            Ok(fd) => return Accepted::Conn(fd),
            Err(errno) => failed = errno,
        }
    }
    after_accept(failed)
}

/// The table of accept(2).
fn after_accept(errno: Errno) -> Accepted {
    match errno.0 {
        c::EAGAIN => Accepted::Empty,
        // Linux hands pending network errors of the *new* socket to accept; EPERM is a
        // firewall's word on that one client.
        c::ECONNABORTED | c::ECONNRESET | c::EPROTO | c::EPERM | c::ETIMEDOUT | c::EPIPE => {
            Accepted::Lost(errno)
        }
        c::ENETDOWN | c::ENETUNREACH | c::EHOSTDOWN | c::EHOSTUNREACH => Accepted::Lost(errno),
        c::ENOPROTOOPT | c::EOPNOTSUPP | c::EPROTONOSUPPORT | c::ESOCKTNOSUPPORT => {
            Accepted::Lost(errno)
        }
        #[cfg(target_os = "linux")]
        c::ENONET => Accepted::Lost(errno),
        c::EMFILE | c::ENFILE | c::ENOBUFS | c::ENOMEM => Accepted::Exhausted(errno),
        #[cfg(target_os = "linux")]
        c::ENOSR => Accepted::Exhausted(errno),
        // No listener, or none any more: nothing can mend that.
        c::EBADF | c::EINVAL | c::ENOTSOCK | c::EFAULT | c::ENOSYS => Accepted::Ended(errno),
        // Whatever no manual page lists: a listener that tries again after a wait can
        // recover, one that has been given up cannot.
        _ => Accepted::Exhausted(errno),
    }
}

/// One read, with signals retried.
#[inline]
pub(crate) fn read(kernel: &mut dyn Kernel, fd: Fd, buffer: &mut [u8]) -> Received {
    debug_assert!(
        !buffer.is_empty(),
        "an empty buffer would read as the end of the stream"
    );
    let first = kernel.recv(fd, buffer);
    after_read(first, kernel, fd, buffer)
}

/// What the first call of a read has answered, with signals retried.
pub(crate) fn after_read(
    first: Moved,
    kernel: &mut dyn Kernel,
    fd: Fd,
    buffer: &mut [u8],
) -> Received {
    let mut moved = first;
    loop {
        match moved.result() {
            Ok(0) => return Received::Eof,
            Ok(n) => return Received::Bytes(n.min(buffer.len())),
            Err(Errno(c::EAGAIN)) if fault!(AgainIsTheEnd) => return Received::Eof,
            Err(errno) if fault!(InterruptBreaks) && errno.0 == c::EINTR => {
                return Received::Failed(errno);
            }
            Err(Errno(c::EINTR)) => moved = kernel.recv(fd, buffer),
            Err(Errno(c::EAGAIN)) => return Received::WouldBlock,
            // ECONNRESET, ETIMEDOUT (keep-alive), EHOSTUNREACH, ENOMEM …: Go returns each
            // to its reader; here each ends the connection with its errno as the reason.
            Err(errno) => return Received::Failed(errno),
        }
    }
}

/// One read that keeps the bounds of records and takes descriptors (`None`: closes those that
/// come), with signals retried. A record without a byte is the end, as in Go: it cannot be
/// told from one.
pub(crate) fn receive_message(
    kernel: &mut dyn Kernel,
    fd: Fd,
    buffer: &mut [u8],
    mut fds: Option<&mut Vec<OwnedFd>>,
) -> Received {
    debug_assert!(!buffer.is_empty(), "no record would fit");
    loop {
        match kernel.receive_message(fd, buffer, fds.as_deref_mut()) {
            Ok(Message { len: 0, .. }) => return Received::Eof,
            Ok(Message { len, truncated }) => {
                let n = len.min(buffer.len());
                let whole = !truncated;
                return if whole {
                    Received::Bytes(n)
                } else {
                    Received::Cut(n)
                };
            }
            Err(Errno(c::EINTR)) => {}
            Err(Errno(c::EAGAIN)) => return Received::WouldBlock,
            Err(errno) => return Received::Failed(errno),
        }
    }
}

/// One write of one part, with signals retried.
#[inline]
pub(crate) fn write(kernel: &mut dyn Kernel, fd: Fd, bytes: &[u8]) -> Sent {
    send(bytes.len(), || kernel.send(fd, bytes).result())
}

/// What the first call of such a write has answered, with signals retried.
pub(crate) fn after_write(first: Moved, kernel: &mut dyn Kernel, fd: Fd, bytes: &[u8]) -> Sent {
    let mut first = Some(first);
    send(bytes.len(), || {
        let moved = first.take().unwrap_or_else(|| kernel.send(fd, bytes));
        moved.result()
    })
}

/// One write of several parts, with signals retried.
pub(crate) fn write_parts(kernel: &mut dyn Kernel, fd: Fd, parts: &[IoSlice<'_>]) -> Sent {
    let total = parts.iter().map(|part| part.len()).sum();
    send(total, || kernel.write_parts(fd, parts))
}

/// One write with descriptors, with signals retried. A record is taken whole or not at all;
/// one that never fits is EMSGSIZE, and ends the connection.
pub(crate) fn send_with_fds(
    kernel: &mut dyn Kernel,
    fd: Fd,
    bytes: &[u8],
    fds: &[OwnedFd],
) -> Sent {
    send(bytes.len(), || kernel.send_with_fds(fd, bytes, fds))
}

/// The table of send(2) for streams.
#[inline]
fn send(asked: usize, mut call: impl FnMut() -> Result<usize, Errno>) -> Sent {
    debug_assert!(asked > 0, "an empty write proves nothing");
    loop {
        match call() {
            // A stream that takes nothing and reports nothing cannot be waited for.
            Ok(0) => return Sent::Failed(Errno(c::EPIPE)),
            // Never more than was asked, whatever a filter in between counts.
            Ok(n) => return Sent::Bytes(n.min(asked)),
            Err(Errno(c::EINTR)) => {}
            Err(Errno(c::EAGAIN)) => return Sent::WouldBlock,
            Err(errno) => return Sent::Failed(errno),
        }
    }
}

/// One receive call for datagrams, with signals retried.
pub(crate) fn receive(kernel: &mut dyn Kernel, fd: Fd, batch: &mut Batch) -> Arrived {
    loop {
        match kernel.receive(fd, batch) {
            Ok(came) => return Arrived::Datagrams(came),
            Err(Errno(c::EINTR)) => {}
            Err(Errno(c::EAGAIN)) => return Arrived::WouldBlock,
            Err(errno) if is_no_socket(errno) => return Arrived::Ended(errno),
            // ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, EMSGSIZE …: what became of something
            // that was sent earlier (ip(7), udp(7)). The socket is as good as before.
            Err(errno) => return Arrived::Failed(errno),
        }
    }
}

/// One send call for datagrams, with signals retried.
pub(crate) fn post(kernel: &mut dyn Kernel, fd: Fd, packets: &[Packet<'_>]) -> Posted {
    debug_assert!(!packets.is_empty(), "nothing to send proves nothing");
    loop {
        match kernel.send_packets(fd, packets) {
            // A kernel that takes none and says nothing cannot be waited for.
            Ok(0) => return Posted::Failed(Errno(c::EIO)),
            Ok(n) => return Posted::Taken(n.min(packets.len())),
            Err(Errno(c::EINTR)) => {}
            Err(Errno(c::EAGAIN)) => return Posted::WouldBlock,
            // A full device queue (BSD) or a host short of memory: nobody announces the end.
            Err(errno @ Errno(c::ENOBUFS | c::ENOMEM)) => return Posted::Transient(errno),
            Err(errno) if is_no_socket(errno) => return Posted::Ended(errno),
            Err(errno) => return Posted::Failed(errno),
        }
    }
}

fn is_no_socket(errno: Errno) -> bool {
    matches!(errno.0, c::EBADF | c::ENOTSOCK | c::EFAULT | c::ENOSYS)
}

/// Whether a broken connection was broken by its peer: the orderly words for it are reset.
pub(crate) fn is_reset(errno: Errno) -> bool {
    matches!(
        errno.0,
        c::ECONNRESET | c::EPIPE | c::ECONNABORTED | c::ENOTCONN
    )
}

// POSIX allows two numbers; the tables below rely on one.
const _: () = assert!(c::EAGAIN == c::EWOULDBLOCK);

// Each row has its effect on a real loop in tests/sim_tables.rs; here are those that no
// loop can provoke, and the ones that would be lost among others there.
#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::kernel::sim::{Call, Remote, SimKernel};
    use crate::kernel::{BindSpec, DialSpec, ListenSpec, StreamOptions, Transport};

    /// A listener, and a connection whose client has sent `sent`.
    fn host(sent: &[u8]) -> (SimKernel, Fd, Fd) {
        let mut kernel = SimKernel::new(1);
        let addr = SocketAddr::from(([127, 0, 0, 1], 7));
        let spec = ListenSpec {
            addr: addr.into(),
            transport: Transport::Stream,
            mode: None,
            only_v6: true,
            backlog: 16,
            reuse_port: false,
            stream: StreamOptions::default(),
            prepare: None,
        };
        let listener = kernel.listen(&spec).unwrap();
        let client = kernel.new_client(addr).unwrap();
        kernel.peer_send_all(client, sent);
        let (fd, _) = kernel.accept(listener).unwrap();
        (kernel, listener, fd)
    }

    #[test]
    fn the_rows_of_accept() {
        let rows = [
            (c::ECONNABORTED, Accepted::Lost(Errno(c::ECONNABORTED))),
            (c::EPERM, Accepted::Lost(Errno(c::EPERM))),
            (c::EOPNOTSUPP, Accepted::Lost(Errno(c::EOPNOTSUPP))),
            (c::EMFILE, Accepted::Exhausted(Errno(c::EMFILE))),
            (c::ENFILE, Accepted::Exhausted(Errno(c::ENFILE))),
            (c::ENOBUFS, Accepted::Exhausted(Errno(c::ENOBUFS))),
            (c::ENOMEM, Accepted::Exhausted(Errno(c::ENOMEM))),
            (c::EBADF, Accepted::Ended(Errno(c::EBADF))),
            (c::EINVAL, Accepted::Ended(Errno(c::EINVAL))),
            (c::ENOTSOCK, Accepted::Ended(Errno(c::ENOTSOCK))),
            (c::EAGAIN, Accepted::Empty),
            (c::EFAULT, Accepted::Ended(Errno(c::EFAULT))),
            (c::ENOSYS, Accepted::Ended(Errno(c::ENOSYS))),
            // No page lists it.
            (c::EXDEV, Accepted::Exhausted(Errno(c::EXDEV))),
        ];
        let (mut kernel, listener, _) = host(b"");
        for (errno, expected) in rows {
            kernel.fail(Call::Accept, Errno(c::EINTR), 3);
            kernel.fail(Call::Accept, Errno(errno), 1);
            assert_eq!(accept(&mut kernel, listener), expected);
        }
        assert_eq!(accept(&mut kernel, listener), Accepted::Empty);
    }

    #[test]
    fn the_rows_of_read() {
        let (mut kernel, _, fd) = host(b"abc");
        kernel.fail(Call::Read, Errno(c::EINTR), 3);
        kernel.fail(Call::Read, Errno(c::EAGAIN), 1);
        kernel.fail(Call::Read, Errno(c::ETIMEDOUT), 1);
        let mut buffer = [0; 2];
        let mut next = || read(&mut kernel, fd, &mut buffer);
        assert_eq!(next(), Received::WouldBlock);
        assert_eq!(next(), Received::Failed(Errno(c::ETIMEDOUT)));
        assert_eq!(next(), Received::Bytes(2));
        assert_eq!(next(), Received::Bytes(1));
        assert_eq!(next(), Received::WouldBlock);
    }

    #[test]
    fn the_rows_of_write() {
        let (mut kernel, _, fd) = host(b"");
        kernel.fail(Call::Write, Errno(c::EINTR), 3);
        kernel.fail(Call::Write, Errno(c::EAGAIN), 1);
        kernel.fail(Call::Write, Errno(c::ENOBUFS), 1);
        assert_eq!(write(&mut kernel, fd, b"abc"), Sent::WouldBlock);
        let parts = [IoSlice::new(b"abc"), IoSlice::new(b"de")];
        let failed = Sent::Failed(Errno(c::ENOBUFS));
        assert_eq!(write_parts(&mut kernel, fd, &parts), failed);
        assert_eq!(write_parts(&mut kernel, fd, &parts), Sent::Bytes(5));
    }

    #[test]
    fn a_write_that_takes_nothing_fails_and_none_takes_more_than_it_was_given() {
        assert_eq!(send(3, || Ok(0)), Sent::Failed(Errno(c::EPIPE)));
        assert_eq!(send(3, || Ok(4)), Sent::Bytes(3));
    }

    #[test]
    fn a_reset_has_four_names() {
        let names = [c::ECONNRESET, c::EPIPE, c::ECONNABORTED, c::ENOTCONN];
        assert!(names.iter().all(|&errno| is_reset(Errno(errno))));
        assert!(!is_reset(Errno(c::ETIMEDOUT)));
    }

    #[test]
    fn the_rows_of_accept_that_cost_one_client() {
        let lost = [
            c::ECONNRESET,
            c::EPROTO,
            c::ETIMEDOUT,
            c::EPIPE,
            c::ENETDOWN,
            c::ENETUNREACH,
            c::EHOSTDOWN,
            c::EHOSTUNREACH,
            c::ENOPROTOOPT,
            c::EPROTONOSUPPORT,
            c::ESOCKTNOSUPPORT,
        ];
        for errno in lost.map(Errno) {
            assert_eq!(after_accept(errno), Accepted::Lost(errno));
        }
        #[cfg(target_os = "linux")]
        {
            let [nonet, nosr] = [c::ENONET, c::ENOSR].map(Errno);
            assert_eq!(after_accept(nonet), Accepted::Lost(nonet));
            assert_eq!(after_accept(nosr), Accepted::Exhausted(nosr));
        }
    }

    const FAR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

    /// A socket for a host that does so with whoever dials it.
    fn dialer(remote: Remote) -> (SimKernel, Fd) {
        let mut kernel = SimKernel::new(1);
        kernel.set_remote(FAR, remote);
        let spec = DialSpec {
            remote: FAR.into(),
            transport: Transport::Stream,
            local: None,
            stream: StreamOptions::default(),
            prepare: None,
        };
        let fd = kernel.socket(&spec).unwrap();
        (kernel, fd)
    }

    #[test]
    fn the_rows_of_connect() {
        let refused = Errno(c::ECONNREFUSED);
        let rows = [
            (c::EISCONN, Connecting::Done),
            (c::EINPROGRESS, Connecting::Pending),
            (c::EALREADY, Connecting::Pending),
            (c::EINTR, Connecting::Pending),
            (c::ECONNREFUSED, Connecting::Failed(refused)),
            // Out of ports, where there are ports.
            (c::EAGAIN, Connecting::Failed(Errno(c::EAGAIN))),
        ];
        for (errno, expected) in rows {
            let (mut kernel, fd) = dialer(Remote::Accepts);
            kernel.fail(Call::Connect, Errno(errno), 1);
            assert_eq!(connect(&mut kernel, fd, &FAR.into()), expected);
        }
        let (mut kernel, fd) = dialer(Remote::AcceptsAtOnce);
        assert_eq!(connect(&mut kernel, fd, &FAR.into()), Connecting::Done);
        let (mut kernel, fd) = dialer(Remote::Accepts);
        kernel.fail(Call::Connect, Errno(c::EAGAIN), 1);
        let path = Addr::Unix("/run/x.sock".parse().unwrap());
        assert_eq!(connect(&mut kernel, fd, &path), Connecting::QueueFull);
    }

    #[test]
    fn the_rows_of_what_became_of_a_connect() {
        let (mut kernel, fd) = dialer(Remote::Accepts);
        assert_eq!(connect(&mut kernel, fd, &FAR.into()), Connecting::Pending);
        for (errno, expected) in [
            (c::EINPROGRESS, Verdict::Pending),
            (c::EALREADY, Verdict::Pending),
            (c::EINTR, Verdict::Pending),
            (c::ETIMEDOUT, Verdict::Failed(Errno(c::ETIMEDOUT))),
        ] {
            kernel.fail(Call::TakeError, Errno(errno), 1);
            assert_eq!(connected(&mut kernel, fd), expected);
        }
    }

    #[test]
    fn a_connect_has_succeeded_when_there_is_a_peer_and_no_error() {
        let (mut kernel, fd) = dialer(Remote::Accepts);
        kernel.set_latency(std::time::Duration::from_millis(5));
        assert_eq!(connect(&mut kernel, fd, &FAR.into()), Connecting::Pending);
        assert_eq!(connected(&mut kernel, fd), Verdict::Pending);
        kernel.advance(std::time::Duration::from_millis(10));
        assert_eq!(connected(&mut kernel, fd), Verdict::Connected(FAR.into()));
        kernel.fail(Call::TakeError, Errno(c::EISCONN), 1);
        assert_eq!(connected(&mut kernel, fd), Verdict::Connected(FAR.into()));
    }

    #[test]
    fn the_rows_of_receiving_a_message() {
        let (mut kernel, _, fd) = host(b"abc");
        kernel.fail(Call::Read, Errno(c::EINTR), 3);
        kernel.fail(Call::Read, Errno(c::EAGAIN), 1);
        kernel.fail(Call::Read, Errno(c::ECONNRESET), 1);
        let mut buffer = [0; 2];
        let mut next = || receive_message(&mut kernel, fd, &mut buffer, None);
        assert_eq!(next(), Received::WouldBlock);
        assert_eq!(next(), Received::Failed(Errno(c::ECONNRESET)));
        assert_eq!(next(), Received::Bytes(2));
        assert_eq!(next(), Received::Bytes(1));
        assert_eq!(next(), Received::WouldBlock);
    }

    /// A datagram socket, and a place that it can send to: itself.
    fn packets() -> (SimKernel, Fd, Addr) {
        let mut kernel = SimKernel::new(1);
        let spec = BindSpec {
            transport: Transport::Datagrams,
            local: Some(FAR.into()),
            remote: None,
            only_v6: false,
            mode: None,
            reuse_addr: false,
            reuse_port: false,
            broadcast: false,
            destinations: false,
            receive_buffer: None,
            send_buffer: None,
            prepare: None,
        };
        let fd = kernel.bind(&spec).unwrap();
        (kernel, fd, FAR.into())
    }

    const NO_SOCKET: [i32; 4] = [c::EBADF, c::ENOTSOCK, c::EFAULT, c::ENOSYS];

    #[test]
    fn the_rows_of_receiving_datagrams() {
        let (mut kernel, fd, _) = packets();
        let batch = &mut Batch::new(1, 16);
        kernel.fail(Call::Receive, Errno(c::EINTR), 3);
        assert_eq!(receive(&mut kernel, fd, batch), Arrived::WouldBlock);
        kernel.fail(Call::Receive, Errno(c::ECONNREFUSED), 1);
        let failed = Arrived::Failed(Errno(c::ECONNREFUSED));
        assert_eq!(receive(&mut kernel, fd, batch), failed);
        for errno in NO_SOCKET.map(Errno) {
            kernel.fail(Call::Receive, errno, 1);
            assert_eq!(receive(&mut kernel, fd, batch), Arrived::Ended(errno));
        }
    }

    #[test]
    fn the_rows_of_sending_datagrams() {
        let (mut kernel, fd, to) = packets();
        let packet = Packet {
            bytes: b"abc",
            to: Some(&to),
        };
        let mut sent = |errno, times| {
            kernel.fail(Call::Send, Errno(errno), times);
            post(&mut kernel, fd, &[packet])
        };
        assert_eq!(sent(c::EINTR, 3), Posted::Taken(1));
        assert_eq!(sent(c::EAGAIN, 1), Posted::WouldBlock);
        for errno in [c::ENOBUFS, c::ENOMEM] {
            assert_eq!(sent(errno, 1), Posted::Transient(Errno(errno)));
        }
        for errno in NO_SOCKET {
            assert_eq!(sent(errno, 1), Posted::Ended(Errno(errno)));
        }
        assert_eq!(sent(c::EMSGSIZE, 1), Posted::Failed(Errno(c::EMSGSIZE)));
    }
}
