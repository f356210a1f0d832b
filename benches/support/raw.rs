//! The baseline: an echo loop written by hand on raw epoll, with nothing but what echoing
//! needs. One receive and one send per request, a short read taken as drained, no interest
//! ever modified, TCP_NODELAY inherited from the listener.
//!
//! Its shortcuts: no deadline, no limit, no back-pressure (a short send loses the rest), no
//! way to stop. A server needs all of these; the benchmark asks what they cost.

#![allow(
    unsafe_code,
    reason = "the baseline is what the crate's own unsafe room is measured against"
)]

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

const EVENTS: usize = 1024;
const BUFFER: usize = 256 * 1024;

/// Echoes for ever.
pub(crate) fn serve(listener: TcpListener) -> io::Result<()> {
    serve_spinning(listener, Duration::ZERO)
}

/// The same; each wait polls for as long as `spin` before it sleeps.
pub(crate) fn serve_spinning(listener: TcpListener, spin: Duration) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    socket2::SockRef::from(&listener).set_tcp_nodelay(true)?;
    let listener = listener.as_raw_fd();
    // SAFETY: epoll_create1 takes no pointer.
    let epoll = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    add(epoll, listener, libc::EPOLLIN)?;
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS];
    let mut buffer = vec![0_u8; BUFFER];
    loop {
        let n = wait(epoll, &mut events, spin);
        for event in &events[..n] {
            let fd = event.u64 as RawFd;
            if fd == listener {
                accept_all(epoll, listener)?;
            } else {
                echo(fd, &mut buffer);
            }
        }
    }
}

fn wait(epoll: RawFd, events: &mut [libc::epoll_event], spin: Duration) -> usize {
    let mut poll = |timeout| {
        // SAFETY: the pointer and the length are those of one live slice.
        let n =
            unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), events.len() as i32, timeout) };
        n.max(0) as usize
    };
    if !spin.is_zero() {
        let began = Instant::now();
        while began.elapsed() < spin {
            let n = poll(0);
            if n > 0 {
                return n;
            }
        }
    }
    poll(-1)
}

fn accept_all(epoll: RawFd, listener: RawFd) -> io::Result<()> {
    loop {
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: accept4 allows null for an address that nobody wants.
        let fd =
            unsafe { libc::accept4(listener, std::ptr::null_mut(), std::ptr::null_mut(), flags) };
        if fd < 0 {
            return Ok(());
        }
        add(epoll, fd, libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP)?;
    }
}

fn echo(fd: RawFd, buffer: &mut [u8]) {
    loop {
        // SAFETY: the pointer and the length are those of one live buffer.
        let n = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        if n <= 0 {
            if n == 0 {
                // SAFETY: this loop owns every descriptor it was given, and forgets it here.
                unsafe { libc::close(fd) };
            }
            return;
        }
        let n = n as usize;
        // SAFETY: the kernel has just filled these `n` bytes of the buffer.
        unsafe { libc::send(fd, buffer.as_ptr().cast(), n, libc::MSG_NOSIGNAL) };
        if n < buffer.len() {
            return;
        }
    }
}

fn add(epoll: RawFd, fd: RawFd, interest: i32) -> io::Result<()> {
    let mut event = libc::epoll_event {
        events: (interest | libc::EPOLLET) as u32,
        u64: fd as u64,
    };
    // SAFETY: the event lives across the call, which copies it.
    check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) }).map(drop)
}

fn check(answer: i32) -> io::Result<i32> {
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(answer)
    }
}
