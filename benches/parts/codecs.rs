//! Frames found in an input of 64 KiB, short ones and long ones, beside the codecs of
//! `tokio-util` and beside a search that keeps nothing: `memchr`, or plain arithmetic.
//!
//! What the codecs of `tokio-util` answer owns its bytes, ours borrow. `LinesCodec` and
//! `AnyDelimiterCodec` check or copy besides; the search alone is the limit.

use std::hint::black_box;
use std::time::Duration;

use memchr::memmem;
use tokio_util::bytes::BytesMut;
use tokio_util::codec::{AnyDelimiterCodec, LengthDelimitedCodec, LinesCodec};
use windlass::Input;
use windlass::codec::{Decoder, Delimited, Fixed, LengthPrefixed, Lines, Width};

use crate::measure::{Batch, Bench, timed};

const INPUT: usize = 64 * 1024;
/// Bytes of a frame with all that belongs to it.
const FRAMES: [(usize, &str); 2] = [(32, "32 B"), (4_096, "4 KiB")];
const LIMIT: usize = INPUT;
const TEXT: u8 = b'x';
const CRLF: &[u8] = b"\r\n";
const PREFIX: usize = 4;

pub(crate) fn run(bench: &mut Bench) {
    for (size, name) in FRAMES {
        lines(bench, size, name);
        delimited(bench, size, name);
        delimited_by_two(bench, size, name);
        fixed(bench, size, name);
        length_prefixed(bench, size, name);
    }
}

fn lines(bench: &mut Bench, size: usize, name: &str) {
    let input = ending_with(b"\n", size);
    bench.part(
        &format!("Lines, {name}"),
        batch(size),
        &mut [
            ("windlass", &mut || ours(Lines::new(LIMIT), &input, size)),
            ("LinesCodec", &mut || tokio(LinesCodec::new(), &input, size)),
            ("memchr_iter", &mut || {
                counted(size, || {
                    memchr::memchr_iter(b'\n', &input).map(black_box).count()
                })
            }),
        ],
    );
}

fn delimited(bench: &mut Bench, size: usize, name: &str) {
    let input = ending_with(b";", size);
    let codec = || AnyDelimiterCodec::new(b";".to_vec(), b";".to_vec());
    bench.part(
        &format!("Delimited by one, {name}"),
        batch(size),
        &mut [
            ("windlass", &mut || {
                ours(Delimited::new(b";", LIMIT), &input, size)
            }),
            ("AnyDelimiterCodec", &mut || tokio(codec(), &input, size)),
            ("memchr_iter", &mut || {
                counted(size, || {
                    memchr::memchr_iter(b';', &input).map(black_box).count()
                })
            }),
        ],
    );
}

fn delimited_by_two(bench: &mut Bench, size: usize, name: &str) {
    let input = ending_with(CRLF, size);
    let finder = memmem::Finder::new(CRLF);
    bench.part(
        &format!("Delimited by two, {name}"),
        batch(size),
        &mut [
            ("windlass", &mut || {
                ours(Delimited::new(CRLF, LIMIT), &input, size)
            }),
            ("memmem::find_iter", &mut || {
                counted(size, || finder.find_iter(&input).map(black_box).count())
            }),
        ],
    );
}

fn fixed(bench: &mut Bench, size: usize, name: &str) {
    let input = vec![TEXT; INPUT];
    bench.part(
        &format!("Fixed, {name}"),
        batch(size),
        &mut [
            ("windlass", &mut || ours(Fixed::new(size), &input, size)),
            ("chunks_exact", &mut || {
                counted(size, || input.chunks_exact(size).map(black_box).count())
            }),
        ],
    );
}

fn length_prefixed(bench: &mut Bench, size: usize, name: &str) {
    let length = (size - PREFIX) as u32;
    let frame = [&length.to_be_bytes()[..], &vec![TEXT; size - PREFIX]].concat();
    let input = frame.repeat(INPUT / size);
    bench.part(
        &format!("LengthPrefixed, {name}"),
        batch(size),
        &mut [
            ("windlass", &mut || {
                ours(LengthPrefixed::new(Width::Four, LIMIT), &input, size)
            }),
            ("LengthDelimitedCodec", &mut || {
                tokio(LengthDelimitedCodec::new(), &input, size)
            }),
            ("split_at by hand", &mut || {
                counted(size, || by_hand(&input))
            }),
        ],
    );
}

fn batch(size: usize) -> Batch {
    Batch {
        ops: (INPUT / size) as u64,
        bytes: Some(INPUT as u64),
    }
}

/// Frames of that size, their ends included.
fn ending_with(end: &[u8], size: usize) -> Vec<u8> {
    let frame = [&vec![TEXT; size - end.len()], end].concat();
    frame.repeat(INPUT / size)
}

fn counted(size: usize, count: impl FnOnce() -> usize) -> Duration {
    timed(|| assert_eq!(count(), INPUT / size))
}

fn ours<D>(mut decoder: D, bytes: &[u8], size: usize) -> Duration
where
    D: for<'a> Decoder<Frame<'a> = &'a [u8]>,
{
    let mut input = Input::new(bytes);
    counted(size, || {
        let mut frames = 0;
        while let Ok(Some(frame)) = decoder.decode(&mut input) {
            black_box(frame);
            frames += 1;
        }
        frames
    })
}

fn tokio<D: tokio_util::codec::Decoder>(mut decoder: D, bytes: &[u8], size: usize) -> Duration {
    let mut input = BytesMut::from(bytes);
    counted(size, || {
        let mut frames = 0;
        while let Ok(Some(frame)) = decoder.decode(&mut input) {
            black_box(frame);
            frames += 1;
        }
        frames
    })
}

fn by_hand(mut rest: &[u8]) -> usize {
    let mut frames = 0;
    while let Some((prefix, behind)) = rest.split_first_chunk::<PREFIX>()
        && let Some((frame, behind)) = behind.split_at_checked(u32::from_be_bytes(*prefix) as usize)
    {
        black_box(frame);
        rest = behind;
        frames += 1;
    }
    frames
}
