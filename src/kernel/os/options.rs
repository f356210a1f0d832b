//! Options of a stream: those of TCP are passed over on Unix sockets.

use std::io;
use std::time::Duration;

use socket2::{Domain, Socket, TcpKeepalive};

use crate::address::Addr;
use crate::kernel::{Keepalive, StreamOptions};

/// Sets those that a socket of this family can have: a Unix socket has no options of TCP.
pub(super) fn apply_to(addr: &Addr, socket: &Socket, options: &StreamOptions) -> io::Result<()> {
    match addr {
        Addr::Ip(_) => apply(socket, options),
        Addr::Unix(_) => apply(socket, &without_tcp(options)),
    }
}

/// As [`apply_to`], for a socket of unknown family, which is asked for after a failure only.
pub(super) fn apply_to_any(socket: &Socket, options: &StreamOptions) -> io::Result<()> {
    match apply(socket, options) {
        Err(_) if is_unix(socket) => apply(socket, &without_tcp(options)),
        outcome => outcome,
    }
}

/// Whether an accepted socket has what was asked of its listener.
pub(super) fn has(socket: &Socket, options: &StreamOptions) -> bool {
    if is_unix(socket) {
        // No system hands the sizes of a Unix listener's buffers down.
        return options.receive_buffer.is_none() && options.send_buffer.is_none();
    }
    // The buffer sizes aren't compared: every system hands them down, since the window
    // that the handshake offers depends on them, and answers other numbers than asked.
    options
        .nodelay
        .is_none_or(|asked| socket.tcp_nodelay().is_ok_and(|has| has == asked))
        && options
            .keepalive
            .is_none_or(|asked| probes_like(socket, asked).unwrap_or(false))
}

fn is_unix(socket: &Socket) -> bool {
    socket
        .local_addr()
        .is_ok_and(|addr| addr.domain() == Domain::UNIX)
}

fn without_tcp(options: &StreamOptions) -> StreamOptions {
    StreamOptions {
        nodelay: None,
        keepalive: None,
        ..*options
    }
}

/// Sets all of them even if one fails; answers the first failure.
fn apply(socket: &Socket, options: &StreamOptions) -> io::Result<()> {
    let outcomes = [
        options
            .nodelay
            .map_or(Ok(()), |on| socket.set_tcp_nodelay(on)),
        options
            .keepalive
            .map_or(Ok(()), |keepalive| probe(socket, keepalive)),
        options
            .receive_buffer
            .map_or(Ok(()), |size| socket.set_recv_buffer_size(as_int(size))),
        options
            .send_buffer
            .map_or(Ok(()), |size| socket.set_send_buffer_size(as_int(size))),
    ];
    outcomes.into_iter().collect()
}

fn probe(socket: &Socket, keepalive: Keepalive) -> io::Result<()> {
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(whole_seconds(keepalive.idle))
            .with_interval(whole_seconds(keepalive.interval))
            .with_retries(keepalive.count),
    )
}

fn probes_like(socket: &Socket, asked: Keepalive) -> io::Result<bool> {
    Ok(socket.keepalive()?
        && socket.tcp_keepalive_time()? == whole_seconds(asked.idle)
        && socket.tcp_keepalive_interval()? == whole_seconds(asked.interval)
        && socket.tcp_keepalive_retries()? == asked.count)
}

/// Rounded up, and at least one second: systems refuse zero.
pub(super) fn whole_seconds(duration: Duration) -> Duration {
    let part = u64::from(duration.subsec_nanos() > 0);
    Duration::from_secs(duration.as_secs().saturating_add(part).max(1))
}

/// Buffer sizes are ints to the system, which lowers them to its own maximum.
pub(super) fn as_int(size: usize) -> usize {
    size.min(libc::c_int::MAX as usize)
}
