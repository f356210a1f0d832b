//! Whether the loop has forgotten somebody: the rules that [`World::check`](super::World::check)
//! looks at while nothing happens.

use crate::connection::Connection;
use crate::core::Core;
use crate::engine::Engine;
use crate::flags::Flags;
use crate::kernel::{Fd, Readiness};
use crate::packet_socket::PacketSocket;
use crate::sources::Named;
use crate::token::{ListenerId, WatchId};

/// Work that nobody will ever do, in words. Asked only while the loop is at rest.
pub(super) fn forgotten(core: &mut Core) -> Vec<String> {
    let open = core.conns.len();
    let Core {
        conns,
        listeners,
        dials,
        sockets,
        watches,
        engine,
        ..
    } = core;
    let mut found = Vec::new();
    for dialing in dials.iter().filter(|dialing| !dialing.is_watched(engine)) {
        found.push(format!(
            "{:?} was forgotten: its time is not in the wheel",
            dialing.id()
        ));
    }
    for index in 0..conns.end() {
        if let Some(conn) = conns.at_mut(index)
            && let Some(what) = forgotten_by(conn, engine)
        {
            found.push(format!("{:?} was forgotten: {what}", conn.id()));
        }
    }
    for listener in listeners.iter().filter(|it| !it.is_watched(engine)) {
        let id = ListenerId::new(listener.token);
        found.push(format!(
            "{id:?} was forgotten: its time is not in the wheel"
        ));
    }
    for index in 0..listeners.end() {
        if let Some(listener) = listeners.at_mut(index)
            && state_of(listener.fd(), engine).contains(Readiness::READABLE)
            && !listener.may_wait(open, engine)
        {
            let id = ListenerId::new(listener.token);
            found.push(format!("{id:?} was forgotten: clients wait in its queue"));
        }
    }
    for index in 0..sockets.end() {
        if let Some(socket) = sockets.at_mut(index)
            && let Some(what) = forgotten_by_socket(socket, engine)
        {
            found.push(format!("{:?} was forgotten: {what}", socket.id()));
        }
    }
    for watch in watches.iter() {
        if state_of(watch.fd(), engine).contains(watch.asks_for()) {
            let id = WatchId::new(watch.token());
            found.push(format!("{id:?} was forgotten: it is ready"));
        }
    }
    if !engine.pressed && !engine.parked.is_empty() {
        found.push("sources wait for memory that is there".to_owned());
    }
    found
}

fn forgotten_by(conn: &Connection, engine: &mut Engine) -> Option<&'static str> {
    let state = state_of(conn.fd(), engine);
    if conn.has(Flags::CONNECTING) {
        // Its dial has the deadline. What it waits for is to become writable, or an error.
        let decided = state.contains(Readiness::WRITABLE) || state.contains(Readiness::ERROR);
        return decided.then_some("its connect has ended and nobody asked how");
    }
    let reads = conn.may_read(engine) || conn.has(Flags::CLOSING);
    let offers = conn.may_offer();
    let eof = conn.has(Flags::EOF);
    let rules = [
        (conn.is_dead(), "it is over and on_close was not called"),
        (
            state.contains(Readiness::ERROR),
            "an error waits to be taken",
        ),
        (
            reads && !eof && state.contains(Readiness::READABLE),
            "input waits to be read",
        ),
        (
            offers && eof && !conn.has(Flags::EOF_TOLD),
            "on_eof was not called",
        ),
        (
            offers && conn.has(Flags::OFFER) && conn.unread() > 0,
            "what is left over was not offered",
        ),
        (
            conn.may_send() && state.contains(Readiness::WRITABLE),
            "output waits and could leave",
        ),
        (
            conn.queued() == 0 && conn.has(Flags::CLOSING) && !conn.has(Flags::FIN_SENT),
            "it is closing and FIN was not sent",
        ),
        (
            conn.is_open() && conn.has(Flags::NOTES),
            "a callback is due",
        ),
        (!conn.is_watched(engine), "its deadline is not in the wheel"),
    ];
    rules
        .iter()
        .find(|(broken, _)| *broken)
        .map(|&(_, what)| what)
}

fn forgotten_by_socket(socket: &PacketSocket, engine: &mut Engine) -> Option<&'static str> {
    // Before it is open, the look-up has a deadline of its own.
    let state = state_of(socket.fd()?, engine);
    let rules = [
        (
            socket.may_receive() && state.contains(Readiness::ERROR),
            "an error waits to be taken",
        ),
        (
            socket.may_receive() && state.contains(Readiness::READABLE),
            "datagrams wait to be received",
        ),
        (
            socket.takes_merged() && socket.has_kept(),
            "datagrams that were fetched wait to be handed out",
        ),
        (
            socket.may_send() && state.contains(Readiness::WRITABLE),
            "datagrams wait and could leave",
        ),
        (
            !socket.is_watched(engine),
            "its deadline is not in the wheel",
        ),
    ];
    let broken = rules.iter().find(|(broken, _)| *broken);
    broken.map(|&(_, what)| what)
}

fn state_of(fd: Fd, engine: &mut Engine) -> Readiness {
    let kernel = engine.kernel.sim();
    kernel.map_or_else(Readiness::default, |kernel| kernel.state_of(fd))
}
