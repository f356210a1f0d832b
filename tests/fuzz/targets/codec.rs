//! Framing: a stream that comes in pieces gives the frames that its plain reading gives, ends
//! with the same error, and what is encoded again is decoded again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use windlass::Input;
use windlass::codec::{
    Decoder, Delimited, Encoder, Fixed, FrameError, LengthPrefixed, Lines, Width,
};
use windlass::fuzzing::Tape;

const WIDTHS: [Width; 4] = [Width::One, Width::Two, Width::Four, Width::Eight];

/// Frames, and what kind of error came behind them.
type Reading = (Vec<Vec<u8>>, Option<Fault>);

#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    TooLong,
    Length,
    Incomplete,
}

fuzz_target!(|bytes: &[u8]| {
    let tape = &mut Tape::new(bytes);
    let kind = tape.up_to(3);
    let limit = tape.up_to(100);
    let cuts: Vec<usize> = (0..=tape.up_to(7)).map(|_| 1 + tape.up_to(40)).collect();
    match kind {
        0 => lines(limit, &cuts, tape),
        1 => delimited(limit, &cuts, tape),
        2 => fixed(limit, &cuts, tape),
        _ => prefixed(limit, &cuts, tape),
    }
});

fn lines(limit: usize, cuts: &[usize], tape: &mut Tape<'_>) {
    let crlf = tape.up_to(1) == 1;
    let codec = if crlf {
        Lines::new(limit).crlf()
    } else {
        Lines::new(limit)
    };
    let stream = tape.rest();
    let mut frames = Vec::new();
    let mut fault = None;
    for line in stream.split_inclusive(|&byte| byte == b'\n') {
        let whole = line.strip_suffix(b"\n");
        let shown = whole.unwrap_or(line);
        let shown = shown.strip_suffix(b"\r").unwrap_or(shown);
        if shown.len() > limit {
            fault = Some(Fault::TooLong);
            break;
        }
        // A last line that has no end keeps its CR, which may not have been half of one.
        frames.push(whole.map_or(line, |_| shown).to_vec());
    }
    let same = |frame: &[u8]| !frame.ends_with(b"\r") && frame.len() <= limit;
    agree(&codec, cuts, stream, (frames, fault), same);
}

fn delimited(limit: usize, cuts: &[usize], tape: &mut Tape<'_>) {
    let length = tape.up_to(4);
    let delimiter = tape.bytes(length);
    let codec = Delimited::new(delimiter, limit);
    let delimiter = if delimiter.is_empty() {
        &[0][..]
    } else {
        delimiter
    };
    let stream = tape.rest();
    let mut rest = stream;
    let mut frames = Vec::new();
    let fault = loop {
        let mut places = rest.windows(delimiter.len());
        let end = places.position(|place| place == delimiter);
        // Without an end, the last bytes may be the beginning of one.
        let begun = (1..delimiter.len()).filter(|&part| rest.ends_with(&delimiter[..part]));
        let length = end.unwrap_or(rest.len() - begun.max().unwrap_or(0));
        match end {
            _ if length > limit => break Some(Fault::TooLong),
            Some(end) => frames.push(rest[..end].to_vec()),
            None if rest.is_empty() => break None,
            None => break Some(Fault::Incomplete),
        }
        rest = &rest[length + delimiter.len()..];
    };
    let codable = |frame: &[u8]| codec.encode(frame, &mut Vec::new()).is_ok();
    agree(&codec, cuts, stream, (frames, fault), codable);
}

fn fixed(size: usize, cuts: &[usize], tape: &mut Tape<'_>) {
    let codec = Fixed::new(size);
    let stream = tape.rest();
    let chunks = stream.chunks_exact(size.max(1));
    let fault = (!chunks.remainder().is_empty()).then_some(Fault::Incomplete);
    let frames = chunks.map(<[u8]>::to_vec).collect();
    agree(&codec, cuts, stream, (frames, fault), |_| true);
}

fn prefixed(limit: usize, cuts: &[usize], tape: &mut Tape<'_>) {
    let width = WIDTHS[tape.up_to(3)];
    let (little, with_header) = (tape.up_to(1) == 1, tape.up_to(3) == 3);
    let offset = tape.up_to(5);
    let adjustment = match tape.up_to(3) {
        0 => 0,
        1 => tape.up_to(20) as i64 - 10,
        2 => tape.up_to(usize::MAX) as i64,
        _ => -(width as i64) - offset as i64,
    };
    let mut codec = LengthPrefixed::new(width, limit)
        .offset(offset)
        .adjustment(adjustment);
    codec = if little { codec.little_endian() } else { codec };
    codec = if with_header {
        codec.with_header()
    } else {
        codec
    };
    let stream = tape.rest();
    let header = offset + width as usize;
    let mut rest = stream;
    let mut frames = Vec::new();
    let fault = loop {
        if rest.len() < header {
            break (!rest.is_empty()).then_some(Fault::Incomplete);
        }
        let mut digits = rest[offset..header].to_vec();
        if little {
            digits.reverse();
        }
        let number = digits
            .iter()
            .fold(0, |number, &digit| number << 8 | i128::from(digit));
        let length = number + i128::from(adjustment);
        if length < 0 || length > i128::from(u64::MAX) {
            break Some(Fault::Length);
        } else if length > limit as i128 {
            break Some(Fault::TooLong);
        }
        let end = header + length as usize;
        if rest.len() < end {
            break Some(Fault::Incomplete);
        }
        let from = if with_header { 0 } else { header };
        frames.push(rest[from..end].to_vec());
        rest = &rest[end..];
    };
    let codable = |frame: &[u8]| !with_header && codec.encode(frame, &mut Vec::new()).is_ok();
    agree(&codec, cuts, stream, (frames, fault), codable);
}

/// `plain` is what the stream means; of its frames, some can be encoded.
fn agree<C>(
    codec: &C,
    cuts: &[usize],
    stream: &[u8],
    plain: Reading,
    codable: impl Fn(&[u8]) -> bool,
) where
    C: for<'a> Decoder<Frame<'a> = &'a [u8]> + Encoder + Clone,
{
    assert_eq!(
        read(codec.clone(), cuts, stream),
        plain,
        "{stream:?} cut at {cuts:?}"
    );
    let frames: Vec<_> = plain.0.into_iter().filter(|frame| codable(frame)).collect();
    let mut again = Vec::new();
    for frame in &frames {
        codec.encode(frame, &mut again).expect("it can be encoded");
    }
    assert_eq!(
        read(codec.clone(), cuts, &again),
        (frames, None),
        "{again:?}"
    );
}

/// What a connection would be given: unread bytes and a new piece, again and again.
fn read<C>(mut codec: C, cuts: &[usize], stream: &[u8]) -> Reading
where
    C: for<'a> Decoder<Frame<'a> = &'a [u8]>,
{
    let mut frames = Vec::new();
    let (mut consumed, mut came) = (0, 0);
    let mut sizes = cuts.iter().cycle();
    loop {
        let at_end = came == stream.len();
        let input = &mut Input::new(&stream[consumed..came]);
        loop {
            let before = input.consumed();
            let frame = if at_end {
                codec.finish(input)
            } else {
                codec.decode(input)
            };
            match frame {
                Ok(Some(frame)) => frames.push(frame.to_vec()),
                Ok(None) => {
                    assert_eq!(input.consumed(), before, "bytes went, and no frame came");
                    break;
                }
                Err(error) => return (frames, Some(fault(error))),
            }
        }
        if at_end {
            return (frames, None);
        }
        consumed += input.consumed();
        came = stream.len().min(came + sizes.next().copied().unwrap_or(1));
    }
}

fn fault(error: FrameError) -> Fault {
    match error {
        FrameError::TooLong { length, limit } => {
            assert!(length > limit as u64);
            Fault::TooLong
        }
        FrameError::Length { .. } => Fault::Length,
        FrameError::Incomplete { .. } => Fault::Incomplete,
        other => panic!("a decoder does not answer {other}"),
    }
}
