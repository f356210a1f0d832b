//! The system calls of the loops written by hand.

#![allow(
    unsafe_code,
    reason = "the baseline is what the crate's own unsafe room is measured against"
)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

pub(crate) const IN: u32 = libc::EPOLLIN as u32;
pub(crate) const OUT: u32 = libc::EPOLLOUT as u32;
/// The peer has finished, or the connection is broken.
pub(crate) const ENDED: u32 = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;

const EVENTS: usize = 1024;

pub(crate) struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: epoll_create1 takes no pointer.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        Ok(Self {
            // SAFETY: the kernel has just given us this descriptor.
            fd: unsafe { OwnedFd::from_raw_fd(fd) },
            events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS],
        })
    }

    /// Edge triggered, with news of the peer's end.
    pub(crate) fn add(&self, fd: RawFd, interest: u32, key: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, interest, key)
    }

    pub(crate) fn modify(&self, fd: RawFd, interest: u32, key: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, interest, key)
    }

    fn control(&self, verb: i32, fd: RawFd, interest: u32, key: u64) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: interest | (libc::EPOLLET | libc::EPOLLRDHUP) as u32,
            u64: key,
        };
        // SAFETY: the event lives across the call, which copies it.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), verb, fd, &raw mut event) }).map(drop)
    }

    /// The number of events that [`event`](Self::event) now tells; 0 after the timeout.
    pub(crate) fn wait(&mut self, milliseconds: i32) -> io::Result<usize> {
        let (events, fd) = (self.events.as_mut_ptr(), self.fd.as_raw_fd());
        loop {
            // SAFETY: the pointer and the length are those of one live vector.
            let n = unsafe { libc::epoll_wait(fd, events, EVENTS as i32, milliseconds) };
            match check(n) {
                Ok(n) => return Ok(n as usize),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What is ready, and the key that it was added with.
    pub(crate) fn event(&self, at: usize) -> (u32, u64) {
        let event = self.events[at];
        (event.events, event.u64)
    }
}

pub(crate) fn recv(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of one live buffer.
    check_size(unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) })
}

/// Receives without copying: the bytes are lost.
pub(crate) fn discard(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    let (to, length) = (buffer.as_mut_ptr().cast(), buffer.len());
    // SAFETY: the pointer and the length are those of one live buffer.
    check_size(unsafe { libc::recv(fd, to, length, libc::MSG_TRUNC) })
}

pub(crate) fn send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let (from, length) = (bytes.as_ptr().cast(), bytes.len());
    // SAFETY: the pointer and the length are those of one live slice.
    check_size(unsafe { libc::send(fd, from, length, libc::MSG_NOSIGNAL) })
}

/// Where a datagram came from, as the kernel says it.
pub(crate) struct Peer {
    addr: libc::sockaddr_in,
    length: libc::socklen_t,
}

impl Peer {
    pub(crate) fn nobody() -> Self {
        Self {
            // SAFETY: the address is plain bits, for which zero is a value.
            addr: unsafe { std::mem::zeroed() },
            length: 0,
        }
    }
}

pub(crate) fn recv_from(fd: RawFd, buffer: &mut [u8], from: &mut Peer) -> io::Result<usize> {
    from.length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    let (to, room) = (buffer.as_mut_ptr().cast(), buffer.len());
    let addr = (&raw mut from.addr).cast();
    // SAFETY: the buffer and the peer live across the call, and each length is its own.
    check_size(unsafe { libc::recvfrom(fd, to, room, 0, addr, &raw mut from.length) })
}

pub(crate) fn send_to(fd: RawFd, bytes: &[u8], to: &Peer) -> io::Result<usize> {
    let (from, length) = (bytes.as_ptr().cast(), bytes.len());
    let addr = (&raw const to.addr).cast();
    // SAFETY: the bytes and the peer live across the call, and each length is its own.
    check_size(unsafe { libc::sendto(fd, from, length, 0, addr, to.length) })
}

/// Cuts what one send call is given into datagrams of that size: a burst as cheap as it gets.
pub(crate) fn send_in_segments(fd: RawFd, size: u16) -> io::Result<()> {
    let (value, length) = (i32::from(size), size_of::<i32>() as libc::socklen_t);
    let (level, option) = (libc::SOL_UDP, libc::UDP_SEGMENT);
    // SAFETY: the value lives across the call, and the length is its own.
    check(unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), length) })
        .map(drop)
}

/// Has the kernel hand over in one piece what it got in one piece.
pub(crate) fn receive_merged(fd: RawFd) -> io::Result<()> {
    let (value, length) = (1_i32, size_of::<i32>() as libc::socklen_t);
    let (level, option) = (libc::SOL_UDP, libc::UDP_GRO);
    // SAFETY: the value lives across the call, and the length is its own.
    check(unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), length) })
        .map(drop)
}

/// Room for the one control message that comes, at the address that its header needs.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// How many bytes have come, and of what size the datagrams are that they consist of; the
/// last may be shorter.
pub(crate) fn recv_pieces(
    fd: RawFd,
    buffer: &mut [u8],
    from: &mut Peer,
) -> io::Result<(usize, usize)> {
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut control = Control([0; 64]);
    // SAFETY: integers and pointers, for which zero is a value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = (&raw mut from.addr).cast();
    header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    (header.msg_iov, header.msg_iovlen) = (&raw mut part, 1);
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = size_of::<Control>() as _;
    // SAFETY: all that the header points to lives across the call, and is as long as it says.
    let n = check_size(unsafe { libc::recvmsg(fd, &raw mut header, 0) })?;
    from.length = header.msg_namelen;
    // SAFETY: the header is as the call left it, and so is what it points to.
    let first = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    if first.is_null() {
        return Ok((n, n.max(1)));
    }
    // SAFETY: a message that is there has a header, and this one has an int behind it.
    let size = unsafe {
        let is_size = ((*first).cmsg_level, (*first).cmsg_type) == (libc::SOL_UDP, libc::UDP_GRO);
        is_size.then(|| libc::CMSG_DATA(first).cast::<i32>().read_unaligned())
    };
    Ok((n, size.map_or(n, |size| size as usize).max(1)))
}

/// A nonblocking connection, or that there is none.
pub(crate) fn accept(listener: RawFd) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let nobody = std::ptr::null_mut();
    // SAFETY: accept4 allows null for an address that nobody wants.
    let fd = check(unsafe { libc::accept4(listener, nobody, std::ptr::null_mut(), flags) })?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets connect choose the port, also after bind: it knows the other end, and need not have
/// a port that nobody else uses.
pub(crate) fn leave_port_to_connect(fd: RawFd) -> io::Result<()> {
    let (on, length) = (1_i32, size_of::<i32>() as libc::socklen_t);
    let option = libc::IP_BIND_ADDRESS_NO_PORT;
    // SAFETY: the value lives across the call, and the length is its own.
    let answer =
        unsafe { libc::setsockopt(fd, libc::IPPROTO_IP, option, (&raw const on).cast(), length) };
    check(answer).map(drop)
}

fn check(answer: i32) -> io::Result<i32> {
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(answer)
    }
}

fn check_size(answer: isize) -> io::Result<usize> {
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}
