//! Frames are found whatever the pieces they arrive in, and too long a one ends its
//! connection with a reason before it costs memory.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::io;
use std::net::SocketAddr;

use windlass::codec::{Decoder, Encoder, LengthPrefixed, Lines, Width};
use windlass::sim::World;
use windlass::{Closed, Conn, Context, Handler, Input, ListenerId};

/// Answers each frame with itself, in the same framing.
struct Echo<C> {
    codec: C,
    frames: usize,
    ends: Vec<String>,
    unread: Vec<u64>,
}

impl<C> Handler for Echo<C>
where
    C: for<'a> Decoder<Frame<'a> = &'a [u8]> + Encoder + Clone,
{
    type Session = C;

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<C> {
        Ok(self.codec.clone())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        codec: &mut C,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        while let Some(frame) = codec.decode(input)? {
            self.frames += 1;
            codec.encode(frame, conn)?;
        }
        Ok(())
    }

    fn on_eof(
        &mut self,
        conn: &mut Conn<'_>,
        codec: &mut C,
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        while let Some(frame) = codec.finish(input)? {
            codec.encode(frame, conn)?;
        }
        conn.close();
        Ok(())
    }

    fn on_close(&mut self, _: &mut Context<'_>, _: C, closed: &Closed) {
        self.ends.push(closed.reason.to_string());
        self.unread.push(closed.unread);
    }
}

fn world<C>(codec: C) -> (World<Echo<C>>, SocketAddr)
where
    C: for<'a> Decoder<Frame<'a> = &'a [u8]> + Encoder + Clone,
{
    let echo = Echo {
        codec,
        frames: 0,
        ends: Vec::new(),
        unread: Vec::new(),
    };
    let mut world = World::new(1, echo);
    let addr = world.listen("127.0.0.1:7");
    (world, addr)
}

/// What the server answers to a stream that arrives in pieces of that size.
fn answer<C>(codec: C, stream: &[u8], most: usize) -> Vec<u8>
where
    C: for<'a> Decoder<Frame<'a> = &'a [u8]> + Encoder + Clone,
{
    let (mut world, addr) = world(codec);
    world.faults().short_reads(Some(most));
    let client = world.connect(addr);
    world.send(client, stream);
    world.run();
    let answer = world.received(client);
    world.close(client);
    world.run();
    answer
}

#[test]
fn many_messages_in_one_read_and_one_message_in_many() {
    let lines: Vec<u8> = (0..50)
        .flat_map(|n| format!("line {n}\n").into_bytes())
        .collect();
    let prefixed = LengthPrefixed::new(Width::Four, 1000);
    let mut frames = Vec::new();
    for n in 0..50 {
        prefixed
            .encode(&vec![n; usize::from(n) * 7], &mut frames)
            .unwrap();
    }
    for most in (1..40).chain([1000, 100_000]) {
        assert_eq!(
            answer(Lines::new(80), &lines, most),
            lines,
            "pieces of {most}"
        );
        assert_eq!(answer(prefixed, &frames, most), frames, "pieces of {most}");
    }
}

#[test]
fn too_long_a_frame_closes_with_its_reason_and_costs_no_memory() {
    let (mut world, addr) = world(LengthPrefixed::new(Width::Four, 1000));
    let client = world.connect(addr);
    world.send(client, b"\0\0\0\x02ok\xff\xff\xff\xffmuch more to come");
    world.run();
    assert_eq!(
        world.received(client),
        b"\0\0\0\x02ok",
        "what was right is answered"
    );
    assert!(world.stats().buffered < 100);
    world.finish(client);
    world.run();
    let expected = "handler: frame too long: 4294967295 bytes where 1000 are allowed";
    assert_eq!(world.handler().ends, [expected]);
}

#[test]
fn a_line_that_never_ends_is_cut_off_at_its_limit() {
    let (mut world, addr) = world(Lines::new(100));
    world.faults().short_reads(Some(10));
    let client = world.connect(addr);
    for _ in 0..20 {
        world.send(client, &[b'x'; 10]);
        world.run();
        assert!(world.stats().buffered <= 110);
    }
    world.finish(client);
    world.run();
    let expected = "handler: frame too long: 101 bytes where 100 are allowed";
    assert_eq!(world.handler().ends[..1], [expected.replace("101", "110")]);
}

#[test]
fn a_stream_that_ends_within_a_frame_says_so() {
    let (mut world, addr) = world(LengthPrefixed::new(Width::Two, 1000));
    let client = world.connect(addr);
    world.send(client, b"\0\x05hal");
    world.finish(client);
    world.run();
    let expected = "handler: the stream ended within a frame, after 5 bytes of it";
    assert_eq!(world.handler().ends, [expected]);
    assert_eq!(world.handler().unread, [5]);
    assert_eq!(world.handler().frames, 0);
}
