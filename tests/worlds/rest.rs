//! What must hold after every turn, and what must hold once the loop has nothing to do.

use windlass::Flow;
use windlass::sim::World;

use super::app::App;
use super::book::{Line, State, TOLERANCE};
use super::layers::held_most;
use super::peers::{Peer, expect};

/// One call on one connection reads no more than the kernel's buffer holds.
fn one_read(app: &App) -> u64 {
    app.plan.config.read_buffer.max(app.plan.buffers.1) as u64
}

/// After every turn: counters agree, limits hold, names are right.
pub fn after_a_turn(world: &mut World<App>) -> Result<(), String> {
    if let Some(broken) = &world.handler().book.broken {
        return Err(broken.clone());
    }
    let alive: Vec<usize> = world.handler().book.alive().collect();
    let mut queued = 0;
    for &at in &alive {
        queued += one_connection(world, at)?;
    }
    for at in 0..world.handler().book.sockets.len() {
        let id = world.handler().book.sockets[at].id;
        let weight = world.socket(id).map_or(0, |socket| socket.queued());
        let most = world.handler().plan.config.datagram_queue;
        expect(weight <= most, || {
            format!("{id:?} has queued {weight} bytes of datagrams, {most} may be")
        })?;
        queued += weight as u64;
    }
    let stats = world.stats();
    let app = world.handler();
    let (unread, config) = (app.book.unread(), &app.plan.config);
    let known = queued + unread;
    let most = if app.plan.layers && !alive.is_empty() {
        held_most(config, queued, unread, alive.len() as u64)
    } else {
        known
    };
    let least = if app.plan.layers { unread } else { known };
    expect((least..=most).contains(&stats.buffered), || {
        format!(
            "{queued} bytes are queued and {unread} unread, the loop counts {}",
            stats.buffered
        )
    })?;
    // Handshakes go on while memory is short, and bytes may come with their ends.
    let reads = 1 + if app.plan.layers {
        alive.len() as u64
    } else {
        0
    };
    let most = config.memory_limit as u64 + one_read(app) * reads;
    expect(unread <= most, || {
        format!("{unread} bytes are unread, {most} may be")
    })?;
    let panics = app.book.panics;
    expect(panics == stats.panics, || {
        format!("{panics} panics were planned, {} happened", stats.panics)
    })?;
    for (&listener, &count) in &app.book.accepts_in_turn {
        expect(count <= config.accept_budget, || {
            format!("{listener:?} accepted {count} in one turn")
        })?;
    }
    let posts = app.book.posts_in_turn;
    expect(posts <= config.post_budget, || {
        format!("{posts} posts ran in one turn")
    })?;
    every_datagram_is_offered(world)?;
    late_timers(world)
}

/// What was received was offered, unless its socket was closed in between.
fn every_datagram_is_offered(world: &World<App>) -> Result<(), String> {
    let received = world.stats().datagrams_received;
    let app = world.handler();
    let seen = app.packets_seen.len() as u64;
    let closed = app.book.sockets.iter().filter(|it| it.closed).count();
    let missed = closed * (app.plan.config.datagram_batch - 1);
    expect(received <= seen + missed as u64, || {
        format!("{received} datagrams were received and {seen} offered")
    })
}

/// Answers what it has queued.
fn one_connection(world: &mut World<App>, at: usize) -> Result<u64, String> {
    let now = world.now();
    let id = world.handler().book.lines[at].id;
    let Some(conn) = world.conn(id) else {
        return Err(format!("{id:?} is over, and its on_close did not run"));
    };
    let (read, written, queued) = (conn.bytes_read(), conn.bytes_written(), conn.queued());
    let flow = conn.flow();
    let app = world.handler_mut();
    app.book.notice_end_of_layer(at, flow, now);
    let (one_read, budget) = (one_read(app), app.plan.config.read_budget as u64);
    let line = &mut app.book.lines[at];
    line.observe(read, written, queued, now);
    let in_turn = read - std::mem::replace(&mut line.read_before, read);
    let line = &app.book.lines[at];
    expect(line.state != State::Dead, || {
        format!("{id:?} was aborted, and its on_close did not run")
    })?;
    expect(in_turn < budget + one_read, || {
        format!("{id:?} was read {in_turn} bytes in one turn")
    })?;
    expect(queued <= line.limits.limit, || {
        format!(
            "{id:?} has {queued} bytes queued, {} may be",
            line.limits.limit
        )
    })?;
    let told = written + queued as u64;
    expect(told == line.written, || {
        format!("{id:?} was written {} bytes and has {told}", line.written)
    })?;
    expect(read == line.seen, || {
        format!("{id:?} has read {read} bytes and was offered {}", line.seen)
    })?;
    let fits = line.state != State::Open || line.unread() <= line.limits.input as u64;
    expect(fits, || {
        format!("{id:?} has {} bytes unread and is open", line.unread())
    })?;
    Ok(queued as u64)
}

fn late_timers(world: &mut World<App>) -> Result<(), String> {
    let now = world.now();
    let book = &world.handler().book;
    for (id, alarm) in &book.timers {
        // Of a connection that is closing, none fires.
        let open = alarm.line.is_none_or(|at| {
            book.lines[at].state == State::Open && !book.lines[at].may_be_closing()
        });
        let late = now > alarm.at + TOLERANCE && book.turn > alarm.set_in + 1;
        expect(!open || !late || book.stopped, || {
            format!("{id:?} is {:?} late", now - alarm.at)
        })?;
    }
    Ok(())
}

/// The loop has nothing to do at this moment: nobody waits for it, and nothing is overdue.
pub fn at_rest(world: &mut World<App>, wire_is_clear: bool) -> Result<(), String> {
    world.check()?;
    let alive: Vec<usize> = world.handler().book.alive().collect();
    for at in alive {
        overdue(world, at)?;
        if wire_is_clear {
            neglected(world, at)?;
        }
    }
    late_dials(world)?;
    let waiting = world.handler().book.tally.waiting();
    expect(waiting == 0, || {
        format!("{waiting} posts wait, and nobody runs them")
    })?;
    let now = world.now();
    let end = world.handler().book.stop_at;
    let over = world.has_stopped() || end.is_none_or(|end| now <= end + TOLERANCE);
    expect(over, || "the loop outlives its grace".to_owned())
}

fn overdue(world: &mut World<App>, at: usize) -> Result<(), String> {
    let now = world.now();
    let book = &world.handler().book;
    let (idle, stall, linger) = (book.idle, book.stall, book.linger);
    let stopping = book.stop_at.is_some();
    let line = &book.lines[at];
    let (id, queued) = (line.id, line.stalled.is_some());
    let late = |due: Option<std::time::Instant>| due.is_some_and(|due| now > due + TOLERANCE);
    if line.state == State::Closing {
        return expect(!late(Some(line.closing_at + linger)), || {
            format!("{id:?} outlives its linger time")
        });
    }
    if line.may_be_closing() {
        return Ok(());
    }
    let idle = line.idle.unwrap_or(Some(idle));
    // Wire bytes that carry nothing whole count as well, and the book does not know of them.
    let (idle, stall) = if line.layered {
        (None, std::time::Duration::from_secs(1000))
    } else {
        (idle, stall)
    };
    let limits = [
        ("read deadline", line.read_at),
        ("write deadline", line.write_at.filter(|_| queued)),
        ("idle timeout", idle.map(|after| line.active + after)),
        ("write stall", line.stalled.map(|since| since + stall)),
    ];
    for (name, due) in limits {
        expect(!late(due), || format!("the {name} of {id:?} is overdue"))?;
    }
    expect(!line.woken, || {
        format!("{id:?} was woken, and on_wake did not run")
    })?;
    expect(!stopping || line.shutdown_told, || {
        format!("{id:?} was not told of the stop")
    })
}

/// Whatever could be read or written has been.
fn neglected(world: &mut World<App>, at: usize) -> Result<(), String> {
    let id = world.handler().book.lines[at].id;
    let conn = world.conn(id).map(|conn| (conn.flow(), conn.queued()));
    let (flow, queued) = conn.map_or((None, 0), |(flow, queued)| (Some(flow), queued));
    let book = &world.handler().book;
    let line = &book.lines[at];
    // After half a close it does not tell whether it is full.
    let full = flow == Some(Flow::Full) || (line.half_closed && queued > line.limits.low);
    let open = line.state == State::Open && !line.may_be_closing();
    let may_read = open && !line.paused && !(full && line.auto_pause);
    expect(!may_read || !line.must_offer || line.unread() == 0, || {
        format!("{id:?} was not offered what is left over")
    })?;
    let drained = line.was_full && flow == Some(Flow::Open) && line.state == State::Open;
    expect(!drained, || {
        format!("the output of {id:?} is drained, and on_write did not run")
    })?;
    Ok(())
}

fn late_dials(world: &mut World<App>) -> Result<(), String> {
    let now = world.now();
    let book = &world.handler().book;
    let stopping = book.stop_at.is_some();
    for (id, dial) in &book.dials {
        let waits = !dial.over && dial.connected.is_none();
        let ended = dial.canceled || stopping;
        let silent = ended && dial.again;
        expect(!waits || silent || now <= dial.until + TOLERANCE, || {
            format!(
                "{id:?} is neither connected nor over, {:?} late",
                now - dial.until
            )
        })?;
        expect(!waits || !ended || dial.again, || {
            format!("{id:?} was canceled, and nobody was told")
        })?;
    }
    Ok(())
}

/// What one far end may expect while the loop rests.
pub fn peer_at_rest(world: &mut World<App>, peer: &mut Peer, prompt: bool) -> Result<(), String> {
    peer.receive(world)?;
    let drain = world.handler().plan.config.drain_limit as u64;
    peer.judge_end(world, drain, prompt)?;
    let Some(line) = peer.line(world) else {
        return Ok(());
    };
    if line.state == State::Closed || peer.gone || !peer.wire.is_well(peer.finished) {
        return Ok(());
    }
    let (id, seen, taken) = (line.id, line.seen, line.taken);
    let reads = reads(line, world);
    let fin_owed = line.half_closed && line.state == State::Open && line.stalled.is_none();
    let fin_owed = fin_owed && peer.reading && !world.saw_eof(peer.client);
    let Some(line) = peer.line(world) else {
        return Ok(());
    };
    expect(!fin_owed, || {
        format!("{id:?} has shut its output, and its peer saw no end of the stream")
    })?;
    let eof_owed = peer.finished && !line.eof_told && reads;
    expect(!line.eof_told || peer.finished, || {
        format!("on_eof of {id:?} has run, and its peer goes on")
    })?;
    let queued = line.stalled.is_some();
    expect(!reads || seen == peer.sent, || {
        format!("{id:?} was sent {} bytes and has read {seen}", peer.sent)
    })?;
    expect(!eof_owed, || {
        format!("the peer of {id:?} has finished, and on_eof did not run")
    })?;
    expect(!peer.reading || !queued, || {
        format!("{id:?} has output, its peer reads, and it does not leave")
    })?;
    expect(!peer.reading || peer.got == taken, || {
        format!(
            "the kernel took {taken} bytes of {id:?}, its peer got {}",
            peer.got
        )
    })
}

/// Whether nothing keeps the loop from reading.
fn reads(line: &Line, world: &World<App>) -> bool {
    let held = world.stats().buffered;
    let limit = world.handler().plan.config.memory_limit as u64;
    let pressed = held > limit / 4 * 3;
    let full = line.auto_pause && line.was_full;
    line.state == State::Open && !line.paused && !full && !pressed
}

/// Clients in an accept queue have good reason to be there.
pub fn queue_at_rest(
    world: &mut World<App>,
    waiting: &[std::net::SocketAddr],
) -> Result<(), String> {
    let open = world.stats().open as usize;
    let held = world.stats().buffered;
    let full = world.open_descriptors();
    let app = world.handler();
    let (book, config) = (&app.book, &app.plan.config);
    let pressed = held > config.memory_limit as u64 / 4 * 3;
    let cap = config
        .max_connections
        .unwrap_or(1024 - config.reserved_descriptors);
    // One less than the cap where a spare descriptor is kept.
    let stopping = book.stop_at.is_some();
    if stopping || pressed || open + 1 >= cap.max(1) || full >= 900 {
        return Ok(());
    }
    for addr in waiting {
        let Some(listener) = book.listeners.iter().find(|it| it.addr == *addr) else {
            continue;
        };
        let of_it = |at: &usize| book.lines[*at].listener == Some(listener.id);
        let count = book.alive().filter(of_it).count();
        let capped = listener.most.is_some_and(|most| count >= most);
        expect(capped || listener.paused || listener.closing, || {
            format!("clients of {addr} wait in its queue, and nothing keeps them there")
        })?;
    }
    Ok(())
}
