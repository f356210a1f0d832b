//! Framing: where one message ends and the next begins.
//!
//! A stream has no messages: what a peer wrote in one call may arrive in many reads, and
//! what it wrote in many calls in one. A [`Decoder`] finds the frames in an
//! [`Input`], and an [`Encoder`] writes them so that they can be found.
//!
//! | Frames | Decoder and encoder |
//! |---|---|
//! | end with LF or CR LF | [`Lines`] |
//! | end with bytes of your choice | [`Delimited`] |
//! | are all of one size | [`Fixed`] |
//! | say beforehand how long they are | [`LengthPrefixed`] |
//! | anything else | your own [`Decoder`] |
//!
//! A decoder lives in the session, since it remembers how far it has looked. Frames borrow
//! from the input, so nothing is copied and nothing is allocated:
//!
//! ```
//! use std::io;
//! use windlass::codec::{Decoder, Encoder, Lines};
//! use windlass::{Conn, Handler, Input, ListenerId};
//!
//! struct Shout;
//!
//! impl Handler for Shout {
//!     type Session = Lines;
//!
//!     fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<Lines> {
//!         Ok(Lines::new(1024)) // a longer line closes the connection
//!     }
//!
//!     fn on_read(
//!         &mut self,
//!         conn: &mut Conn<'_>,
//!         lines: &mut Lines,
//!         input: &mut Input<'_>,
//!     ) -> io::Result<()> {
//!         while let Some(line) = lines.decode(input)? {
//!             lines.encode(&line.to_ascii_uppercase(), conn)?;
//!         }
//!         Ok(())
//!     }
//! }
//! # fn main() -> Result<(), windlass::Error> { windlass::Reactor::new(Shout).map(drop) }
//! ```
//!
//! # Too long a frame
//!
//! Every decoder has a limit, and a frame over it is an error as soon as that is certain: by
//! its prefix, or by one byte too many, never after its bytes were buffered. Passed on with
//! `?` the error closes the connection with
//! [`CloseReason::Handler`](crate::CloseReason::Handler), whose text says what was too long.
//! What was written before is delivered. A limit above
//! [`Limits::input`](crate::Limits::input) is never reached: the connection is closed with
//! [`CloseReason::InputTooLong`](crate::CloseReason::InputTooLong) before.
//!
//! The room knows no connection: it reads an `Input` and writes to anything that is an
//! [`io::Write`], a `Conn` or a `Vec<u8>` (for
//! [`write_shared`](crate::Conn::write_shared)).

use std::fmt;
use std::io;

use crate::input::Input;

/// Finds frames in a stream.
///
/// To be called again and again until it answers `None`, at every `on_read`. What it has
/// looked at and not consumed must still be there at the next call; whoever consumes bytes
/// of the same input by hand calls [`reset`](Self::reset) afterwards.
pub trait Decoder {
    /// One frame. Borrows from the input, or owns what it was parsed into.
    type Frame<'a>;

    /// The next frame, taken off the input; `None` while it is not whole, and then nothing
    /// is consumed.
    ///
    /// # Errors
    ///
    /// This is no frame and will never become one. The stream cannot be read on: there is
    /// no telling where the next frame begins.
    fn decode<'a>(&mut self, input: &mut Input<'a>) -> Result<Option<Self::Frame<'a>>, FrameError>;

    /// The last frames, in `on_eof`: to be called until it answers `None`.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode); and [`FrameError::Incomplete`] if the stream ends within
    /// a frame.
    fn finish<'a>(&mut self, input: &mut Input<'a>) -> Result<Option<Self::Frame<'a>>, FrameError> {
        match self.decode(input)? {
            None if !input.is_empty() => Err(FrameError::Incomplete {
                length: input.len(),
            }),
            frame => Ok(frame),
        }
    }

    /// Forgets how far it has looked, for an input of which somebody else has taken bytes.
    fn reset(&mut self) {}
}

/// Writes frames so that the decoder of the same kind finds them.
pub trait Encoder {
    /// Writes one frame, to a connection or to a buffer.
    ///
    /// # Errors
    ///
    /// Nothing is written if the frame cannot be told from two ([`FrameError::Delimiter`]),
    /// or is longer than the limit. A closed connection answers `BrokenPipe`.
    fn encode<W: io::Write + ?Sized>(&self, frame: &[u8], to: &mut W) -> io::Result<()>;
}

/// Why bytes are no frame.
///
/// Becomes an `io::Error` of kind `InvalidData` (`UnexpectedEof` for an incomplete one) with
/// the same text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FrameError {
    /// Longer than the limit. A length that was announced is told as it is; one that is only
    /// known to be too long is told as the limit plus one.
    TooLong {
        /// Bytes that the frame has, or at least has.
        length: u64,
        /// Bytes that it may have.
        limit: usize,
    },
    /// A length prefix that makes no sense: with the adjustment it is below zero.
    Length {
        /// What the prefix says.
        prefix: u64,
    },
    /// The stream has ended within a frame.
    Incomplete {
        /// Bytes of it that have come.
        length: usize,
    },
    /// A frame to be written contains the delimiter that is to end it, or has not the size
    /// that all have.
    Delimiter,
    /// A frame to be written has another size than all have.
    Size {
        /// Its size.
        length: usize,
        /// What it should be.
        expected: usize,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { length, limit } => {
                write!(
                    f,
                    "frame too long: {length} bytes where {limit} are allowed"
                )
            }
            Self::Length { prefix } => write!(f, "frame with an impossible length: {prefix}"),
            Self::Incomplete { length } => {
                write!(
                    f,
                    "the stream ended within a frame, after {length} bytes of it"
                )
            }
            Self::Delimiter => f.write_str("a frame contains its own delimiter"),
            Self::Size { length, expected } => {
                write!(f, "a frame of {length} bytes where all have {expected}")
            }
        }
    }
}

impl std::error::Error for FrameError {}

impl From<FrameError> for io::Error {
    fn from(error: FrameError) -> Self {
        let kind = match error {
            FrameError::Incomplete { .. } => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

/// Lines: they end with LF, or with CR LF; both are taken off.
///
/// The encoder ends them with LF, or with CR LF if [`crlf`](Self::crlf) was asked for. A last
/// line without an end is a line, too: [`finish`](Decoder::finish) answers it.
#[derive(Clone, Debug)]
pub struct Lines {
    limit: usize,
    crlf: bool,
    /// Bytes at the front of the input that hold no LF.
    searched: usize,
}

impl Lines {
    /// Lines of at most that many bytes, their ends not counted.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            crlf: false,
            searched: 0,
        }
    }

    /// Has the encoder end lines with CR LF, as HTTP, SMTP, FTP and IRC want it.
    pub fn crlf(mut self) -> Self {
        self.crlf = true;
        self
    }

    fn check(&self, line: &[u8]) -> Result<(), FrameError> {
        match line.len() {
            length if length > self.limit => Err(too_long(length, self.limit)),
            _ => Ok(()),
        }
    }
}

impl Decoder for Lines {
    type Frame<'a> = &'a [u8];

    fn decode<'a>(&mut self, input: &mut Input<'a>) -> Result<Option<&'a [u8]>, FrameError> {
        let bytes = input.rest();
        let from = self.searched.min(bytes.len());
        let Some(end) = position(b'\n', &bytes[from..]) else {
            self.searched = bytes.len();
            // A CR may still turn out to be half of an end.
            return self.check(without_cr(bytes)).map(|()| None);
        };
        let line = without_cr(&bytes[..from + end]);
        self.check(line)?;
        input.consume(from + end + 1);
        self.searched = 0;
        Ok(Some(line))
    }

    fn finish<'a>(&mut self, input: &mut Input<'a>) -> Result<Option<&'a [u8]>, FrameError> {
        let line = self.decode(input)?;
        if line.is_some() || input.is_empty() {
            return Ok(line);
        }
        self.searched = 0;
        Ok(Some(input.take_all()))
    }

    fn reset(&mut self) {
        self.searched = 0;
    }
}

impl Encoder for Lines {
    fn encode<W: io::Write + ?Sized>(&self, line: &[u8], to: &mut W) -> io::Result<()> {
        self.check(line)?;
        if position(b'\n', line).is_some() {
            return Err(FrameError::Delimiter.into());
        }
        to.write_all(line)?;
        to.write_all(if self.crlf { b"\r\n" } else { b"\n" })
    }
}

/// Frames that end with a delimiter, which is taken off.
#[derive(Clone, Debug)]
pub struct Delimited {
    delimiter: Box<[u8]>,
    limit: usize,
    /// Bytes at the front of the input at which no delimiter begins.
    searched: usize,
}

impl Delimited {
    /// Frames of at most `limit` bytes, each followed by `delimiter`. An empty delimiter
    /// would be found everywhere; it is taken as one NUL.
    pub fn new(delimiter: &[u8], limit: usize) -> Self {
        let delimiter = if delimiter.is_empty() {
            &[0]
        } else {
            delimiter
        };
        Self {
            delimiter: delimiter.into(),
            limit,
            searched: 0,
        }
    }

    /// Whether the end of a frame and the beginning of the delimiter behind it make a
    /// delimiter, which would be found too early.
    fn completes(&self, frame: &[u8]) -> bool {
        let whole = &self.delimiter;
        (1..whole.len()).any(|part| {
            frame.ends_with(&whole[..part]) && whole[part..] == whole[..whole.len() - part]
        })
    }

    /// Where the delimiter stands, from `from` on; else where it cannot begin any more.
    fn find(&self, bytes: &[u8], from: usize) -> Result<usize, usize> {
        let mut at = from;
        while let Some(hit) = position(self.delimiter[0], &bytes[at..]) {
            at += hit;
            let rest = &bytes[at..];
            if rest.starts_with(&self.delimiter) {
                return Ok(at);
            }
            if self.delimiter.starts_with(rest) {
                // It may be the beginning of one.
                return Err(at);
            }
            at += 1;
        }
        Err(bytes.len())
    }
}

impl Decoder for Delimited {
    type Frame<'a> = &'a [u8];

    fn decode<'a>(&mut self, input: &mut Input<'a>) -> Result<Option<&'a [u8]>, FrameError> {
        let bytes = input.rest();
        let found = self.find(bytes, self.searched.min(bytes.len()));
        let length = found.unwrap_or_else(|searched| searched);
        if length > self.limit {
            return Err(too_long(length, self.limit));
        }
        match found {
            Ok(end) => {
                input.consume(end + self.delimiter.len());
                self.searched = 0;
                Ok(Some(&bytes[..end]))
            }
            Err(searched) => {
                self.searched = searched;
                Ok(None)
            }
        }
    }

    fn reset(&mut self) {
        self.searched = 0;
    }
}

impl Encoder for Delimited {
    fn encode<W: io::Write + ?Sized>(&self, frame: &[u8], to: &mut W) -> io::Result<()> {
        if frame.len() > self.limit {
            return Err(too_long(frame.len(), self.limit).into());
        }
        if self.find(frame, 0).is_ok() || self.completes(frame) {
            return Err(FrameError::Delimiter.into());
        }
        to.write_all(frame)?;
        to.write_all(&self.delimiter)
    }
}

/// Frames of one size.
#[derive(Clone, Copy, Debug)]
pub struct Fixed {
    size: usize,
}

impl Fixed {
    /// Frames of exactly that many bytes, at least one.
    pub fn new(size: usize) -> Self {
        Self { size: size.max(1) }
    }
}

impl Decoder for Fixed {
    type Frame<'a> = &'a [u8];

    fn decode<'a>(&mut self, input: &mut Input<'a>) -> Result<Option<&'a [u8]>, FrameError> {
        Ok(input.take(self.size))
    }
}

impl Encoder for Fixed {
    fn encode<W: io::Write + ?Sized>(&self, frame: &[u8], to: &mut W) -> io::Result<()> {
        if frame.len() != self.size {
            let length = frame.len();
            let expected = self.size;
            return Err(FrameError::Size { length, expected }.into());
        }
        to.write_all(frame)
    }
}

/// Frames that say in a prefix how long they are. The prefix is taken off.
///
/// ```text
/// offset bytes │ length: width bytes │ payload: length + adjustment bytes
/// ```
///
/// The bytes before the length are taken off with it; [`with_header`](Self::with_header)
/// keeps all of the header in the frame, for whoever has to read it.
///
/// ```
/// use windlass::Input;
/// use windlass::codec::{Decoder, LengthPrefixed, Width};
///
/// let mut frames = LengthPrefixed::new(Width::Two, 1024);
/// let input = &mut Input::new(b"\x00\x05hoist\x00\x05hea");
/// assert_eq!(frames.decode(input)?, Some(&b"hoist"[..]));
/// assert_eq!(frames.decode(input)?, None); // the rest has yet to come
/// # Ok::<(), windlass::codec::FrameError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LengthPrefixed {
    width: Width,
    limit: usize,
    offset: usize,
    adjustment: i64,
    little_endian: bool,
    with_header: bool,
}

/// How many bytes a length has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// Up to 255.
    One = 1,
    /// Up to 65,535.
    Two = 2,
    /// Up to 4 GiB.
    Four = 4,
    /// More than anybody has.
    Eight = 8,
}

impl LengthPrefixed {
    /// Payloads of at most `limit` bytes behind a length in network order (big-endian).
    pub fn new(width: Width, limit: usize) -> Self {
        Self {
            width,
            limit,
            offset: 0,
            adjustment: 0,
            little_endian: false,
            with_header: false,
        }
    }

    /// The length's lowest byte comes first.
    pub fn little_endian(mut self) -> Self {
        self.little_endian = true;
        self
    }

    /// Bytes that stand before the length: a magic number, a type. The encoder writes zeroes
    /// there; whoever needs others writes the header by hand.
    pub fn offset(mut self, bytes: usize) -> Self {
        self.offset = bytes;
        self
    }

    /// To be added to the length that is read, to have that of the payload: minus the size
    /// of the header where the length counts it in, plus that of fields behind the length
    /// which it does not count. The encoder takes it off again.
    pub fn adjustment(mut self, bytes: i64) -> Self {
        self.adjustment = bytes;
        self
    }

    /// Frames are answered with everything that stands before the payload.
    pub fn with_header(mut self) -> Self {
        self.with_header = true;
        self
    }

    fn header(&self) -> usize {
        self.offset.saturating_add(self.width as usize)
    }

    fn read(&self, field: &[u8]) -> u64 {
        let shift = |number: u64, byte: &u8| (number << 8) | u64::from(*byte);
        let number = match *field {
            [a, b] => u16::from_be_bytes([a, b]).into(),
            [a, b, c, d] => u32::from_be_bytes([a, b, c, d]).into(),
            _ => field.iter().fold(0, shift),
        };
        if self.little_endian {
            number.swap_bytes() >> (u64::BITS - u8::BITS * self.width as u32)
        } else {
            number
        }
    }

    /// The payload's length, checked before any of it is waited for.
    fn payload(&self, prefix: u64) -> Result<usize, FrameError> {
        let length = prefix
            .checked_add_signed(self.adjustment)
            .ok_or(FrameError::Length { prefix })?;
        match usize::try_from(length) {
            Ok(length) if length <= self.limit => Ok(length),
            _ => Err(FrameError::TooLong {
                length,
                limit: self.limit,
            }),
        }
    }
}

impl Decoder for LengthPrefixed {
    type Frame<'a> = &'a [u8];

    fn decode<'a>(&mut self, input: &mut Input<'a>) -> Result<Option<&'a [u8]>, FrameError> {
        let Some(header) = input.rest().get(..self.header()) else {
            return Ok(None);
        };
        let length = self.payload(self.read(&header[self.offset..]))?;
        let Some(frame) = input.take(header.len().saturating_add(length)) else {
            return Ok(None);
        };
        let skipped = if self.with_header { 0 } else { header.len() };
        Ok(Some(&frame[skipped..]))
    }
}

impl Encoder for LengthPrefixed {
    /// `frame` is the payload alone.
    fn encode<W: io::Write + ?Sized>(&self, frame: &[u8], to: &mut W) -> io::Result<()> {
        let length = frame.len() as u64;
        let prefix = length
            .checked_add_signed(self.adjustment.saturating_neg())
            .filter(|prefix| self.width == Width::Eight || prefix >> (8 * self.width as u32) == 0);
        let prefix = prefix.filter(|_| frame.len() <= self.limit);
        let prefix = prefix.ok_or(FrameError::TooLong {
            length,
            limit: self.limit,
        })?;
        for _ in 0..self.offset {
            to.write_all(&[0])?;
        }
        let width = self.width as usize;
        if self.little_endian {
            to.write_all(&prefix.to_le_bytes()[..width])?;
        } else {
            to.write_all(&prefix.to_be_bytes()[8 - width..])?;
        }
        to.write_all(frame)
    }
}

fn too_long(length: usize, limit: usize) -> FrameError {
    FrameError::TooLong {
        length: length as u64,
        limit,
    }
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Where a byte stands first.
///
/// Short frames are the usual ones, so the search begins with words; whoever is not found
/// there is sought in blocks, which are looked through without leaving them early: the
/// compiler turns that into vector instructions.
fn position(byte: u8, bytes: &[u8]) -> Option<usize> {
    let (near, far) = bytes.split_at(bytes.len().min(BLOCK));
    if let Some(at) = position_in_words(byte, near) {
        return Some(at);
    }
    let is_in = |block: &[u8]| {
        block
            .iter()
            .fold(false, |found, &other| found | (other == byte))
    };
    let block = far.chunks(BLOCK).position(is_in)?;
    let from = near.len() + block * BLOCK;
    Some(from + position_in_words(byte, &bytes[from..])?)
}

/// The same for what is near, eight bytes at a time.
fn position_in_words(byte: u8, bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; WORD]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; WORD]);
    let wanted = ONES * u64::from(byte);
    let (words, rest) = bytes.as_chunks::<WORD>();
    for (at, word) in words.iter().enumerate() {
        // The lowest high bit of `found` is that of the first byte that is zero here. Those
        // above it may be wrong, by a borrow.
        let difference = u64::from_le_bytes(*word) ^ wanted;
        let found = difference.wrapping_sub(ONES) & !difference & HIGHS;
        if found != 0 {
            return Some(at * WORD + found.trailing_zeros() as usize / u8::BITS as usize);
        }
    }
    let within = rest.iter().position(|&other| other == byte)?;
    Some(words.len() * WORD + within)
}

/// Bytes searched at a time: a register, and two of the widest common vectors.
const WORD: usize = 8;
const BLOCK: usize = 64;

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use proptest::prelude::*;

    use super::*;

    /// All frames of a stream that arrives in those pieces, and what is left of it.
    fn decode_in_pieces<D>(mut decoder: D, pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, FrameError>
    where
        D: for<'a> Decoder<Frame<'a> = &'a [u8]>,
    {
        let mut frames = Vec::new();
        let mut unread = Vec::new();
        for piece in pieces {
            unread.extend_from_slice(piece);
            let mut input = Input::new(&unread);
            while let Some(frame) = decoder.decode(&mut input)? {
                frames.push(frame.to_vec());
            }
            let consumed = input.consumed();
            unread.drain(..consumed);
        }
        let mut input = Input::new(&unread);
        while let Some(frame) = decoder.finish(&mut input)? {
            frames.push(frame.to_vec());
        }
        Ok(frames)
    }

    /// Whatever is encoded is decoded, at every split of the stream into two or three pieces.
    fn every_split<C>(codec: &C, frames: &[&[u8]])
    where
        C: for<'a> Decoder<Frame<'a> = &'a [u8]> + Encoder + Clone,
    {
        let mut stream = Vec::new();
        for frame in frames {
            codec.encode(frame, &mut stream).unwrap();
        }
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
                let decoded = decode_in_pieces(codec.clone(), &pieces).unwrap();
                assert_eq!(decoded, frames, "split at {first} and {second}");
            }
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(decode_in_pieces(codec.clone(), &bytes).unwrap(), frames);
    }

    #[test]
    fn every_split_of_a_stream_gives_the_same_frames() {
        let frames = [&b"first"[..], b"", b"a\rb", b"the last one"];
        every_split(&Lines::new(20), &frames);
        every_split(&Lines::new(20).crlf(), &frames);
        every_split(&Delimited::new(b"\r\n\r\n", 20), &frames);
        every_split(&Delimited::new(b"\0", 20), &frames);
        every_split(&Fixed::new(3), &[b"abc", b"def", b"ghi"]);
        for width in [Width::One, Width::Two, Width::Four, Width::Eight] {
            let plain = LengthPrefixed::new(width, 20);
            every_split(&plain, &frames);
            every_split(&plain.little_endian(), &frames);
            every_split(&plain.offset(2).adjustment(-2), &frames);
            every_split(&plain.adjustment(3), &[b"longer", b"than three"]);
        }
    }

    #[test]
    fn a_line_may_end_either_way_and_the_last_one_not_at_all() {
        let decoded = decode_in_pieces(Lines::new(9), &[b"lf\ncrlf\r\n\n\r\nrest"]).unwrap();
        assert_eq!(decoded, [&b"lf"[..], b"crlf", b"", b"", b"rest"]);
    }

    #[test]
    fn too_long_a_frame_is_noticed_before_it_is_there() {
        let limit = 5;
        let too_long = |length| FrameError::TooLong { length, limit };
        let fails = |result: Result<Option<&[u8]>, FrameError>, length| {
            assert_eq!(result, Err(too_long(length)));
        };
        let lines = || Lines::new(limit);
        assert_eq!(lines().decode(&mut Input::new(b"12345")), Ok(None));
        assert_eq!(lines().decode(&mut Input::new(b"12345\r")), Ok(None));
        fails(lines().decode(&mut Input::new(b"123456")), 6);
        fails(lines().decode(&mut Input::new(b"12345\r6")), 7);
        fails(lines().decode(&mut Input::new(b"123456\n")), 6);
        let delimited = || Delimited::new(b"--", limit);
        assert_eq!(delimited().decode(&mut Input::new(b"12345-")), Ok(None));
        fails(delimited().decode(&mut Input::new(b"12345-6")), 7);
        fails(delimited().decode(&mut Input::new(b"123456--")), 6);
        // By the header alone.
        let mut prefixed = LengthPrefixed::new(Width::Four, limit);
        fails(prefixed.decode(&mut Input::new(&[0, 0, 0, 6])), 6);
        let mut huge = LengthPrefixed::new(Width::Eight, limit);
        fails(huge.decode(&mut Input::new(&[255; 8])), u64::MAX);
    }

    #[test]
    fn a_length_below_zero_is_refused() {
        let mut counted = LengthPrefixed::new(Width::Two, 100).adjustment(-2);
        let error = counted.decode(&mut Input::new(&[0, 1, 7])).unwrap_err();
        assert_eq!(error, FrameError::Length { prefix: 1 });
        assert_eq!(error.to_string(), "frame with an impossible length: 1");
        let mut overflowing = LengthPrefixed::new(Width::Eight, 100).adjustment(1);
        overflowing.decode(&mut Input::new(&[255; 8])).unwrap_err();
    }

    #[test]
    fn a_stream_that_ends_within_a_frame_is_told_from_one_that_ends_behind_it() {
        let fails = |result: Result<Vec<Vec<u8>>, FrameError>, length| {
            assert_eq!(result, Err(FrameError::Incomplete { length }));
        };
        fails(decode_in_pieces(Fixed::new(3), &[b"abcde"]), 2);
        fails(decode_in_pieces(Delimited::new(b";", 9), &[b"a;b"]), 1);
        let prefixed = LengthPrefixed::new(Width::One, 9);
        fails(decode_in_pieces(prefixed, &[b"\x01a\x02b"]), 2);
        assert_eq!(decode_in_pieces(prefixed, &[b"\x01a"]).unwrap(), [b"a"]);
        let error = io::Error::from(FrameError::Incomplete { length: 2 });
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn the_header_can_be_kept() {
        let mut typed = LengthPrefixed::new(Width::One, 9).offset(1).with_header();
        let input = &mut Input::new(b"T\x02hiU\x00");
        assert_eq!(typed.decode(input), Ok(Some(&b"T\x02hi"[..])));
        assert_eq!(typed.decode(input), Ok(Some(&b"U\x00"[..])));
    }

    #[test]
    fn what_could_not_be_decoded_is_not_encoded() {
        let mut out = Vec::new();
        let refused = |result: io::Result<()>| {
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidData);
        };
        refused(Lines::new(9).encode(b"two\nlines", &mut out));
        refused(Lines::new(3).encode(b"long", &mut out));
        refused(Delimited::new(b"--", 9).encode(b"a--b", &mut out));
        // The end of the frame and the delimiter would make one too early.
        refused(Delimited::new(b"--", 9).encode(b"a-", &mut out));
        refused(Fixed::new(3).encode(b"four", &mut out));
        refused(LengthPrefixed::new(Width::One, 300).encode(&[0; 256], &mut out));
        refused(
            LengthPrefixed::new(Width::One, 9)
                .adjustment(3)
                .encode(b"a", &mut out),
        );
        assert!(out.is_empty());
    }

    #[test]
    fn whoever_takes_bytes_by_hand_says_so() {
        let mut lines = Lines::new(99);
        let input = &mut Input::new(b"a long header without an end");
        assert_eq!(lines.decode(input), Ok(None));
        input.take_all();
        lines.reset();
        assert_eq!(lines.decode(&mut Input::new(b"x\n")), Ok(Some(&b"x"[..])));
    }

    fn agrees<C>(codec: &C, frames: &[Vec<u8>], sizes: &[usize]) -> Result<(), TestCaseError>
    where
        C: for<'a> Decoder<Frame<'a> = &'a [u8]> + Encoder + Clone + Debug,
    {
        let mut stream = Vec::new();
        for frame in frames {
            codec.encode(frame, &mut stream).unwrap();
        }
        let mut pieces = Vec::new();
        let mut rest = &stream[..];
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, behind) = rest.split_at((*size).min(rest.len()));
            pieces.push(piece);
            rest = behind;
        }
        prop_assert_eq!(&decode_in_pieces(codec.clone(), &pieces).unwrap(), frames);
        Ok(())
    }

    proptest! {
        #[test]
        fn a_byte_is_found_where_it_stands_first(
            // Few values and their neighbours, for a borrow reaches those above it.
            bytes in prop::collection::vec(prop_oneof![0_u8..4, 0x7E_u8..0x83, 0xFE_u8..], 0..200),
            byte in prop_oneof![0_u8..4, 0x7E_u8..0x83, 0xFE_u8..],
        ) {
            let first = bytes.iter().position(|&other| other == byte);
            prop_assert_eq!(position(byte, &bytes), first);
        }

        #[test]
        fn frames_survive_any_split(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
            sizes in prop::collection::vec(1usize..100, 1..20),
            delimiter in prop::collection::vec(any::<u8>(), 1..4),
        ) {
            agrees(&LengthPrefixed::new(Width::Two, 200), &frames, &sizes)?;
            agrees(&LengthPrefixed::new(Width::One, 200).offset(3), &frames, &sizes)?;
            let of_one_size: Vec<_> = frames.iter().filter(|it| it.len() >= 7).map(|it| it[..7].to_vec()).collect();
            agrees(&Fixed::new(7), &of_one_size, &sizes)?;
            let encodable = |codec: &Delimited| -> Vec<Vec<u8>> {
                let fits = |it: &&Vec<u8>| codec.encode(it, &mut Vec::new()).is_ok();
                frames.iter().filter(fits).cloned().collect()
            };
            let delimited = Delimited::new(&delimiter, 200);
            agrees(&delimited, &encodable(&delimited), &sizes)?;
            // A line that ends with CR is not told from one that ends with CR LF.
            let lines: Vec<_> = encodable(&Delimited::new(b"\n", 200))
                .into_iter()
                .filter(|line| !line.ends_with(b"\r"))
                .collect();
            agrees(&Lines::new(200), &lines, &sizes)?;
        }

        #[test]
        fn random_bytes_never_panic_and_never_pass_a_limit(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            adjustment in any::<i64>(),
            offset in 0usize..5,
        ) {
            for width in [Width::One, Width::Two, Width::Four, Width::Eight] {
                let codec = LengthPrefixed::new(width, 50).offset(offset).adjustment(adjustment);
                if let Ok(frames) = decode_in_pieces(codec, &[&bytes]) {
                    prop_assert!(frames.iter().all(|frame| frame.len() <= 50));
                }
            }
            if let Ok(frames) = decode_in_pieces(Lines::new(50), &[&bytes]) {
                prop_assert!(frames.iter().all(|frame| frame.len() <= 51));
            }
        }

        #[test]
        fn a_byte_is_found_where_it_stands(
            bytes in prop::collection::vec(0u8..4, 0..300),
        ) {
            prop_assert_eq!(position(3, &bytes), bytes.iter().position(|&byte| byte == 3));
        }
    }

    #[test]
    fn an_error_says_what_was_wrong_with_the_frame() {
        let text = |error: FrameError| error.to_string();
        assert_eq!(
            text(FrameError::Delimiter),
            "a frame contains its own delimiter"
        );
        let (length, expected) = (3, 4);
        assert_eq!(
            text(FrameError::Size { length, expected }),
            "a frame of 3 bytes where all have 4"
        );
    }

    #[test]
    fn frames_without_a_delimiter_of_their_own_end_with_a_zero() {
        let mut codec = Delimited::new(b"", 10);
        let mut bytes = Vec::new();
        codec.encode(b"one", &mut bytes).unwrap();
        assert_eq!(bytes, b"one\0");
        assert_eq!(codec.decode(&mut Input::new(&bytes)), Ok(Some(&b"one"[..])));
    }

    #[test]
    fn a_decoder_without_a_memory_has_nothing_to_reset() {
        let mut codec = Fixed::new(2);
        let input = &mut Input::new(b"abc");
        assert_eq!(codec.decode(input), Ok(Some(&b"ab"[..])));
        codec.reset();
        assert_eq!(codec.decode(input), Ok(None));
    }

    #[test]
    fn whoever_takes_delimited_bytes_by_hand_says_so() {
        let mut codec = Delimited::new(b"--", 10);
        let mut input = Input::new(b"abcdef");
        assert_eq!(codec.decode(&mut input), Ok(None));
        input.take_all();
        codec.reset();
        let mut input = Input::new(b"--x");
        assert_eq!(codec.decode(&mut input), Ok(Some(&b""[..])));
    }

    #[test]
    fn a_delimited_frame_over_the_limit_is_not_encoded() {
        let codec = Delimited::new(b"--", 3);
        let mut bytes = Vec::new();
        codec.encode(b"abc", &mut bytes).unwrap();
        let error = codec.encode(b"abcd", &mut bytes).unwrap_err();
        assert_eq!(
            error.to_string(),
            "frame too long: 4 bytes where 3 are allowed"
        );
        assert_eq!(bytes, b"abc--");
    }

    #[test]
    fn a_byte_is_found_in_a_block_of_nothing_else() {
        let bytes = [vec![b'x'; BLOCK], vec![b'y'; BLOCK]].concat();
        assert_eq!(position(b'y', &bytes), Some(BLOCK));
    }
}
