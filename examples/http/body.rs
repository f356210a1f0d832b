//! Where a request ends. What does not say so clearly is an error: who guesses can be made
//! to guess otherwise than the proxy before it.

use std::num::IntErrorKind;

use httparse::Request;
use windlass::Input;
use windlass::codec::{Decoder, Delimited};

use super::request::{BAD, Code, values};

/// Bytes of a body; of a chunked one as it is sent, or it could be framing for ever.
const BODY_LIMIT: usize = 1024 * 1024;
/// Bytes of a line between chunks.
const LINE_LIMIT: usize = 256;

const TOO_LARGE: Code = "413 Content Too Large";

/// What is still to come of a body.
pub(crate) enum Body {
    Sized(usize),
    /// In pieces: what comes next, and how many bytes there may still be.
    Chunked(Next, usize, Delimited),
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Next {
    Size,
    Data(usize),
    Trailer,
    Nothing,
}

impl Body {
    pub(crate) fn of(head: &Request<'_, '_>) -> Result<Self, Code> {
        let mut codings = values(head.headers, "transfer-encoding");
        let mut lengths = values(head.headers, "content-length");
        let codings = [codings.next(), codings.next()];
        let lengths = [lengths.next(), lengths.next()];
        match (codings, lengths) {
            ([None, _], [None, _]) => Ok(Self::Sized(0)),
            ([None, _], [Some(length), None]) => match number(length, 10)? {
                length if length > BODY_LIMIT => Err(TOO_LARGE),
                length => Ok(Self::Sized(length)),
            },
            ([Some(coding), None], [None, _]) if head.version == Some(1) => {
                if !coding.eq_ignore_ascii_case(b"chunked") {
                    return Err("501 Not Implemented");
                }
                let lines = Delimited::new(b"\r\n", LINE_LIMIT);
                Ok(Self::Chunked(Next::Size, BODY_LIMIT, lines))
            }
            _ => Err(BAD),
        }
    }

    /// Takes off the input what has come of it; whether that was all.
    pub(crate) fn skip(&mut self, input: &mut Input<'_>) -> Result<bool, Code> {
        let (next, room, lines) = match self {
            Self::Chunked(next, room, lines) => (next, room, lines),
            Self::Sized(left) => {
                *left -= take(*left, input);
                return Ok(*left == 0);
            }
        };
        while *next != Next::Nothing {
            let before = input.consumed();
            *next = match *next {
                Next::Data(1..) if input.is_empty() => return Ok(false),
                Next::Data(left @ 1..) => Next::Data(left - take(left, input)),
                now => match lines.decode(input).map_err(|_| BAD)? {
                    Some(line) => now.after(line)?,
                    None => return Ok(false),
                },
            };
            let taken = input.consumed() - before;
            *room = room.checked_sub(taken).ok_or(TOO_LARGE)?;
        }
        Ok(true)
    }
}

impl Next {
    fn after(self, line: &[u8]) -> Result<Self, Code> {
        match (self, line) {
            // Others may take LF alone for an end, and would see two lines.
            (_, line) if line.contains(&b'\n') => Err(BAD),
            (Self::Size, line) => {
                let size = line.split(|byte| *byte == b';').next();
                match number(size.unwrap_or_default().trim_ascii_end(), 16)? {
                    0 => Ok(Self::Trailer),
                    size if size > BODY_LIMIT => Err(TOO_LARGE),
                    size => Ok(Self::Data(size)),
                }
            }
            (Self::Data(_), []) => Ok(Self::Size),
            (Self::Data(_), _) => Err(BAD),
            (_, []) => Ok(Self::Nothing),
            _ => Ok(Self::Trailer),
        }
    }
}

fn take(most: usize, input: &mut Input<'_>) -> usize {
    let taken = most.min(input.len());
    input.consume(taken);
    taken
}

/// Digits and nothing else: the standard library would take a sign as well.
fn number(digits: &[u8], radix: u32) -> Result<usize, Code> {
    let digits = str::from_utf8(digits).map_err(|_| BAD)?;
    match usize::from_str_radix(digits, radix) {
        Ok(number) if !digits.starts_with('+') => Ok(number),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => Err(TOO_LARGE),
        _ => Err(BAD),
    }
}
