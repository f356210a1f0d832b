//! What the conformance suite of `golang.org/x/net/nettest` and the tests of Go's
//! `internal/poll` check: two ends of one connection, both of them this loop's.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util;

use std::io;
use std::time::{Duration, Instant};

use util::{KIB, MIB, Why, assert_same, ms, pattern};
use windlass::sim::{Client, World};
use windlass::{Closed, Conn, ConnId, Context, Deadline, DialId, Flow, Handler, Input, ListenerId};

/// The wheel's tick and the poll's: how late a deadline may be.
const LATEST: Duration = Duration::from_millis(2);

const HOUR: Duration = Duration::from_secs(3600);

/// Buffers of a [`narrow_pair`], each.
const NARROW: usize = 64;

/// Bytes that they take of an end whose peer does not read: a host that talks to itself
/// has a sending and a receiving side for each of the two sockets.
const ROOM: usize = 4 * NARROW;

// Traffic.

// Go 182, BasicIO.
#[test]
fn a_mebibyte_in_chunks_comes_back_identical_and_both_ends_close_cleanly() {
    let bytes = pattern(MIB, 182);
    let mut world = pair(|app| {
        app.ends[NEAR].to_send.clone_from(&bytes);
        app.ends[FAR].read = |conn, _, input| {
            conn.write(input.take_all());
        };
        app.ends[NEAR].read = |conn, end, input| {
            end.got.extend_from_slice(input.take_all());
            if end.got.len() == MIB {
                conn.close();
            }
        };
    });
    on(&mut world, NEAR, |conn, end| {
        // It waits for what it sends itself, so it must not stop reading for that.
        conn.set_auto_pause(false);
        pump(conn, end);
    });
    let [far, near] = &world.handler().ends;
    assert_same(&near.got, &bytes);
    let whole = |reason| Ended {
        reason,
        read: MIB as u64,
        written: MIB as u64,
        unread: 0,
        unsent: 0,
    };
    assert_eq!(near.closed, [whole(Why::Local)]);
    assert_eq!(far.closed, [whole(Why::Eof)]);
    assert_eq!((near.eofs, far.eofs), (0, 1));
    assert_eq!(world.open_descriptors(), 1, "the listener's");
}

// Go 183, PingPong.
#[test]
fn a_counter_goes_back_and_forth_a_thousand_times_in_order() {
    fn play(conn: &mut Conn<'_>, end: &mut End, input: &mut Input<'_>) {
        while let Some(ball) = input.take(8) {
            let count = u64::from_le_bytes(ball.try_into().unwrap());
            end.counts.push(count);
            match count {
                1000 => conn.close(),
                _ => drop(conn.write(&(count + 1).to_le_bytes())),
            }
        }
    }
    let mut world = pair(|app| app.ends.iter_mut().for_each(|end| end.read = play));
    world.faults().short_reads(Some(3));
    on(&mut world, NEAR, |conn, _| {
        conn.write(&0_u64.to_le_bytes());
    });
    let [far, near] = &world.handler().ends;
    assert!(far.counts.iter().copied().eq((0..=1000).step_by(2)));
    assert!(near.counts.iter().copied().eq((1..1000).step_by(2)));
    assert_eq!((far.why(), near.why()), (Why::Local, Why::Eof));
}

// Go 184, RacyRead: adapted, the loop's buffer is lent for one callback, so what must
// survive a timeout is what the handler left in it.
#[test]
fn what_was_left_unread_is_the_same_after_any_number_of_timeouts() {
    let mut world = pair(|app| {
        app.ends[FAR].read = |_, end, input| {
            if input.len() == 1000 {
                end.got = input.take_all().to_vec();
            }
        };
        app.ends[FAR].late = |conn| {
            let at = conn.now() + ms(1);
            conn.set_read_deadline(Some(at));
        };
    });
    on(&mut world, FAR, |conn, _| {
        let at = conn.now() + ms(1);
        conn.set_read_deadline(Some(at));
    });
    let bytes = pattern(1000, 184);
    for piece in bytes.chunks(10) {
        let piece = piece.to_vec();
        on(&mut world, NEAR, move |conn, _| {
            conn.write(&piece);
        });
        world.advance(ms(1));
    }
    let far = &world.handler().ends[FAR];
    assert_same(&far.got, &bytes);
    assert!(far.fired.len() >= 45, "{} timeouts", far.fired.len());
    assert!(far.closed.is_empty());
}

// Go 185, RacyWrite: adapted, a write has copied the bytes when it returns.
#[test]
fn a_buffer_may_be_used_again_once_it_was_written_whatever_times_out() {
    let mut world = narrow_pair(|app| {
        app.ends[NEAR].late = |conn| {
            let at = conn.now() + ms(1);
            conn.set_write_deadline(Some(at));
        };
    });
    on(&mut world, FAR, |conn, _| conn.pause());
    on(&mut world, NEAR, |conn, _| {
        let mut buffer = [0; 3 * KIB];
        for (round, len) in LENGTHS.into_iter().enumerate() {
            buffer[..len].fill(round as u8);
            conn.write(&buffer[..len]);
        }
        buffer.fill(u8::MAX);
        let at = conn.now() + ms(1);
        conn.set_write_deadline(Some(at));
    });
    world.advance(ms(50));
    on(&mut world, FAR, |conn, _| conn.resume());
    let rounds = LENGTHS.into_iter().enumerate();
    let sent: Vec<u8> = rounds.flat_map(|(n, len)| vec![n as u8; len]).collect();
    let [far, near] = &world.handler().ends;
    assert_same(&far.got, &sent);
    assert!(near.fired.len() >= 20, "{} timeouts", near.fired.len());
}

/// Of writes: some that are gathered, and some that are large enough to go by themselves.
const LENGTHS: [usize; 8] = [1, 100, 3 * KIB, 7, 3 * KIB, 3 * KIB, 64, 1];

// Time.

// Go 186, ReadTimeout.
#[test]
fn a_read_timeout_does_not_touch_writing() {
    let mut world = pair(|app| app.ends[NEAR].late = |_| ());
    on(&mut world, NEAR, |conn, _| {
        conn.set_read_deadline(Some(conn.now() - ms(1)));
        conn.write(b"before, ");
    });
    on(&mut world, NEAR, |conn, _| {
        conn.write(b"after");
    });
    let [far, near] = &world.handler().ends;
    assert_eq!(near.which(), [Deadline::Read]);
    assert_eq!(far.got, b"before, after");
}

// Go 187, WriteTimeout.
#[test]
fn a_write_timeout_does_not_touch_reading() {
    let mut world = blocked_pair();
    on(&mut world, NEAR, |conn, _| {
        conn.set_write_deadline(Some(conn.now() - ms(1)));
    });
    on(&mut world, FAR, |conn, _| {
        conn.write(b"can you hear me?");
    });
    let near = &world.handler().ends[NEAR];
    assert_eq!(near.which(), [Deadline::Write]);
    assert_eq!(near.got, b"can you hear me?");
}

// Go 188, PastTimeout: adapted, reading is paused, so that bytes wait.
#[test]
fn deadlines_in_the_past_move_no_byte_and_moving_them_on_lets_traffic_through() {
    let mut world = blocked_pair();
    on(&mut world, NEAR, |conn, _| conn.pause());
    on(&mut world, FAR, |conn, _| {
        conn.write(b"waiting");
    });
    let now = world.now();
    for times in 1..=2 {
        on(&mut world, NEAR, |conn, _| {
            conn.set_deadline(Some(conn.now() - ms(1)));
        });
        let both = [(Deadline::Read, now), (Deadline::Write, now)];
        assert_eq!(world.handler().ends[NEAR].fired, both.repeat(times));
    }
    on(&mut world, NEAR, |conn, _| {
        assert_eq!((conn.bytes_read(), conn.bytes_written()), (0, ROOM as u64));
        let at = conn.now() + HOUR;
        conn.set_deadline(Some(at));
        conn.resume();
    });
    on(&mut world, FAR, |conn, _| conn.resume());
    assert_resynchronised(&world, b"waiting");
}

// Go 189, PresentTimeout.
#[test]
fn a_past_deadline_set_while_both_directions_wait_ends_both_and_not_before() {
    let mut world = blocked_pair();
    world.advance(ms(100));
    assert!(world.handler().ends[NEAR].fired.is_empty(), "not before");
    let now = world.now();
    on(&mut world, NEAR, |conn, _| {
        conn.set_deadline(Some(conn.now() - ms(1)));
    });
    let both = [(Deadline::Read, now), (Deadline::Write, now)];
    assert_eq!(world.handler().ends[NEAR].fired, both);
    world.advance(ms(100));
    assert_eq!(world.handler().ends[NEAR].fired.len(), 2, "once each");
}

// Go 190, FutureTimeout.
#[test]
fn a_deadline_ahead_fires_for_both_directions_and_traffic_goes_on() {
    let mut world = blocked_pair();
    let due = world.now() + ms(100);
    on(&mut world, NEAR, move |conn, _| {
        conn.set_deadline(Some(due));
    });
    world.advance(ms(100) - Duration::from_nanos(1));
    assert!(world.handler().ends[NEAR].fired.is_empty(), "early");
    world.advance(LATEST + Duration::from_nanos(1));
    let near = &world.handler().ends[NEAR];
    assert_eq!(near.which(), [Deadline::Read, Deadline::Write]);
    assert!(near.fired.iter().all(|(_, at)| *at >= due), "early");
    on(&mut world, FAR, |conn, _| {
        conn.resume();
        conn.write(b"hello again");
    });
    assert_resynchronised(&world, b"hello again");
}

// Ends.

// Go 191, CloseTimeout; Go 209, TestMutexCloseUnblock: adapted, whatever waits is released
// by one callback.
#[test]
fn an_end_releases_everything_that_waits_by_one_callback() {
    type End = fn(&mut Conn<'_>);
    let ways: [(End, Why); 2] = [
        (|conn| conn.close(), Why::Eof),
        (|conn| conn.abort(), Why::Reset),
    ];
    for (end_it, seen) in ways {
        let mut world = blocked_pair();
        on(&mut world, NEAR, move |conn, _| {
            let soon = conn.now() + ms(20);
            conn.set_deadline(Some(soon));
            conn.set_timer(soon);
            conn.read_again();
            let id = conn.id();
            assert!(conn.cx().wake(id));
            end_it(conn);
            assert!(!conn.cx().wake(id), "nothing can be taken any more");
            conn.set_deadline(Some(conn.now() - ms(1)));
        });
        on_if_open(&mut world, FAR, |conn| conn.resume());
        world.advance(HOUR);
        let [far, near] = &world.handler().ends;
        assert_eq!((near.closed.len(), near.why()), (1, Why::Local));
        assert_eq!((far.closed.len(), far.why()), (1, seen));
        assert!(near.fired.is_empty() && near.wakes == 0, "{:?}", near.fired);
        assert_eq!(world.stats().open, 0);
        world.shutdown(ms(1));
    }
}

// Go 206, TestEOFError.
#[test]
fn only_a_read_of_nothing_without_an_error_is_the_end() {
    type Act = fn(&mut World<Ends>, Client);
    let ends: [(Act, &[u8], usize, Option<Why>); 8] = [
        (|_, _| (), b"", 0, None),
        (report_falsely, b"", 0, None),
        (|world, peer| world.send(peer, b"x"), b"x", 0, None),
        (|world, peer| world.finish(peer), b"", 1, Some(Why::Eof)),
        (
            |world, peer| {
                world.send(peer, b"x");
                world.finish(peer);
            },
            b"x",
            1,
            Some(Why::Eof),
        ),
        (
            |world, peer| fail_read(world, peer, libc::ETIMEDOUT),
            b"",
            0,
            Some(Why::Io(Some(libc::ETIMEDOUT))),
        ),
        (
            |world, peer| fail_read(world, peer, libc::ECONNRESET),
            b"",
            0,
            Some(Why::Reset),
        ),
        (
            |world, peer| fail_read(world, peer, libc::EAGAIN),
            b"x",
            0,
            None,
        ),
    ];
    for (row, (act, got, eofs, why)) in ends.into_iter().enumerate() {
        let mut world = World::new(1, Ends::default());
        let addr = world.listen("127.0.0.1:7");
        let peer = world.connect(addr);
        world.run();
        act(&mut world, peer);
        world.run();
        let far = &world.handler().ends[FAR];
        assert_eq!((&far.got[..], far.eofs), (got, eofs), "row {row}");
        assert_eq!(
            far.closed.first().map(|it| it.reason.clone()),
            why,
            "row {row}"
        );
    }
}

/// It is said to be readable, and is not.
fn report_falsely(world: &mut World<Ends>, _: Client) {
    world.faults().spurious();
}

/// The next read fails, whatever there is to read.
fn fail_read(world: &mut World<Ends>, peer: Client, errno: i32) {
    world.faults().fail(windlass::sim::Call::Read, errno, 1);
    world.send(peer, b"x");
}

// Two ends.

/// The end that was accepted, and the one that dialed.
const FAR: usize = 0;
const NEAR: usize = 1;

#[derive(Default)]
struct Ends {
    ends: [End; 2],
}

/// What one end does, and what it has seen.
struct End {
    id: Option<ConnId>,
    read: fn(&mut Conn<'_>, &mut Self, &mut Input<'_>),
    late: fn(&mut Conn<'_>),
    to_send: Vec<u8>,
    sent: usize,
    got: Vec<u8>,
    counts: Vec<u64>,
    fired: Vec<(Deadline, Instant)>,
    eofs: usize,
    wakes: usize,
    closed: Vec<Ended>,
}

#[derive(PartialEq, Debug)]
struct Ended {
    reason: Why,
    read: u64,
    written: u64,
    unread: u64,
    unsent: u64,
}

impl Default for End {
    fn default() -> Self {
        Self {
            id: None,
            read: |_, end, input| end.got.extend_from_slice(input.take_all()),
            late: |conn| conn.abort(),
            to_send: Vec::new(),
            sent: 0,
            got: Vec::new(),
            counts: Vec::new(),
            fired: Vec::new(),
            eofs: 0,
            wakes: 0,
            closed: Vec::new(),
        }
    }
}

impl End {
    fn which(&self) -> Vec<Deadline> {
        self.fired.iter().map(|(which, _)| *which).collect()
    }

    #[track_caller]
    fn why(&self) -> Why {
        self.closed.first().expect("it has ended").reason.clone()
    }
}

impl Handler for Ends {
    /// Which end it is.
    type Session = usize;

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<usize> {
        self.ends[FAR].id = Some(conn.id());
        Ok(FAR)
    }

    fn on_connect(&mut self, conn: &mut Conn<'_>, _: DialId) -> io::Result<usize> {
        self.ends[NEAR].id = Some(conn.id());
        Ok(NEAR)
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        which: &mut usize,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        let end = &mut self.ends[*which];
        (end.read)(conn, end, input);
        Ok(())
    }

    fn on_write(&mut self, conn: &mut Conn<'_>, which: &mut usize) -> io::Result<()> {
        pump(conn, &mut self.ends[*which]);
        Ok(())
    }

    fn on_eof(
        &mut self,
        conn: &mut Conn<'_>,
        which: &mut usize,
        _: &mut Input<'_>,
    ) -> io::Result<()> {
        self.ends[*which].eofs += 1;
        conn.close();
        Ok(())
    }

    fn on_timeout(
        &mut self,
        conn: &mut Conn<'_>,
        which: &mut usize,
        deadline: Deadline,
    ) -> io::Result<()> {
        let end = &mut self.ends[*which];
        end.fired.push((deadline, conn.now()));
        (end.late)(conn);
        Ok(())
    }

    fn on_wake(&mut self, _: &mut Conn<'_>, which: &mut usize) -> io::Result<()> {
        self.ends[*which].wakes += 1;
        Ok(())
    }

    fn on_close(&mut self, _: &mut Context<'_>, which: usize, closed: &Closed) {
        self.ends[which].closed.push(Ended {
            reason: Why::from(&closed.reason),
            read: closed.bytes_read,
            written: closed.bytes_written,
            unread: closed.unread,
            unsent: closed.unsent,
        });
    }
}

/// Sends the rest in chunks, for as long as more is welcome.
fn pump(conn: &mut Conn<'_>, end: &mut End) {
    while end.sent < end.to_send.len() && conn.flow() == Flow::Open {
        let until = end.to_send.len().min(end.sent + KIB);
        conn.write(&end.to_send[end.sent..until]);
        end.sent = until;
    }
}

/// A world in which the loop has dialed its own listener.
fn pair(prepare: impl FnOnce(&mut Ends)) -> World<Ends> {
    pair_in(World::new(1, Ends::default()), prepare)
}

/// The same with little room in the kernels between the ends.
fn narrow_pair(prepare: impl FnOnce(&mut Ends)) -> World<Ends> {
    let mut world = World::new(1, Ends::default());
    world.faults().buffers(NARROW, NARROW);
    pair_in(world, prepare)
}

fn pair_in(mut world: World<Ends>, prepare: impl FnOnce(&mut Ends)) -> World<Ends> {
    prepare(world.handler_mut());
    let addr = world.listen("127.0.0.1:7");
    world.dial(addr).unwrap();
    world.run();
    assert!(world.handler().ends.iter().all(|end| end.id.is_some()));
    world
}

/// Both directions of the near end wait: it has read nothing yet, and its output is stuck,
/// since the far end has paused.
fn blocked_pair() -> World<Ends> {
    let mut world = narrow_pair(|app| app.ends[NEAR].late = |_| ());
    on(&mut world, FAR, |conn, _| conn.pause());
    on(&mut world, NEAR, |conn, _| {
        conn.write(&stuck());
    });
    on(&mut world, NEAR, |conn, _| {
        assert_eq!(conn.queued(), stuck().len() - ROOM);
    });
    world
}

fn stuck() -> Vec<u8> {
    pattern(1000, 9)
}

/// Everything has passed in both directions of a [`blocked_pair`].
#[track_caller]
fn assert_resynchronised(world: &World<Ends>, near_got: &[u8]) {
    let [far, near] = &world.handler().ends;
    assert_eq!(near.got, near_got);
    assert_same(&far.got, &stuck());
    assert!(far.closed.is_empty() && near.closed.is_empty());
}

/// Does something to one end, between its callbacks.
fn on(
    world: &mut World<Ends>,
    which: usize,
    act: impl FnOnce(&mut Conn<'_>, &mut End) + Send + 'static,
) {
    world.post(move |app, cx| {
        let end = &mut app.ends[which];
        let mut conn = cx.conn(end.id.unwrap()).expect("this end is open");
        act(&mut conn, end);
    });
    world.run();
}

/// The same, if it has not ended yet.
fn on_if_open(world: &mut World<Ends>, which: usize, act: fn(&mut Conn<'_>)) {
    world.post(move |app, cx| {
        if let Some(mut conn) = cx.conn(app.ends[which].id.unwrap()) {
            act(&mut conn);
        }
    });
    world.run();
}
