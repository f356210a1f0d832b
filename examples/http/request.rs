//! Where a request ends. Whoever guesses can be made to guess otherwise than the proxy before.

use httparse::{Error, Request, Status};
use windlass::Input;
use windlass::codec::{Decoder, Delimited};

/// Bytes of a head, of a body with the lines around its chunks, and of one such line.
const HEAD_LIMIT: usize = 8 * 1024;
const BODY_LIMIT: usize = 1024 * 1024;
const LINE_LIMIT: usize = 256;

pub(crate) type Code = (u16, &'static str);
/// A status, what follows `text/` in the type of the body, and the body.
pub(crate) type Page = (Code, &'static str, Vec<u8>);
const BAD: Code = (400, "Bad Request");
const TOO_LARGE: Code = (413, "Content Too Large");

pub(crate) fn empty(code: Code) -> Page {
    (code, "plain", Vec::new())
}

/// Takes a head off the input; false, and nothing taken, while it has not wholly come.
pub(crate) fn parse<'b>(head: &mut Request<'_, 'b>, input: &mut Input<'b>) -> Result<bool, Code> {
    let bytes = &input.rest()[..input.len().min(HEAD_LIMIT)];
    match head.parse(bytes) {
        Ok(Status::Complete(length)) => input.consume(length),
        Ok(Status::Partial) if bytes.len() < HEAD_LIMIT => return Ok(false),
        Err(Error::Version) => return Err((505, "HTTP Version Not Supported")),
        Err(error) if error != Error::TooManyHeaders => return Err(BAD),
        _ => return Err((431, "Request Header Fields Too Large")),
    }
    Ok(true)
}

/// Whether the client wants no other request answered on its connection.
pub(crate) fn is_last(head: &Request) -> bool {
    let words = values(head, "connection").join(&b',').to_ascii_lowercase();
    let mut words = words.split(|it| *it == b',').map(<[u8]>::trim_ascii);
    match head.version {
        Some(0) => !words.any(|it| it == b"keep-alive"),
        _ => words.any(|it| it == b"close"),
    }
}

fn values<'h>(head: &'h Request, name: &str) -> Vec<&'h [u8]> {
    let headers = head.headers.iter();
    let named = headers.filter(|it| it.name.eq_ignore_ascii_case(name));
    named.map(|it| it.value).collect()
}

/// What is still to come of a body: bytes, then a line, and what that may say.
pub(crate) struct Body {
    left: usize,
    next: Next,
    /// How many bytes the chunks and their lines may still have.
    room: usize,
}

enum Next {
    Nothing,
    Size,
    /// The empty line behind a chunk of that size; of none, the trailer.
    After(usize),
}

impl Body {
    pub(crate) fn of(head: &Request) -> Result<Self, Code> {
        let codings = values(head, "transfer-encoding");
        let lengths = values(head, "content-length");
        let (left, next) = match (&codings[..], &lengths[..], head.version) {
            ([], [], _) => (0, Next::Nothing),
            ([], [length], _) => (number(length, 10)?, Next::Nothing),
            ([it], [], Some(1)) if it.eq_ignore_ascii_case(b"chunked") => (0, Next::Size),
            _ => return Err(BAD),
        };
        let room = BODY_LIMIT;
        Ok(Self { left, next, room })
    }

    /// Takes off the input what has come of it; whether that was all.
    pub(crate) fn skip(&mut self, input: &mut Input) -> Result<bool, Code> {
        loop {
            let taken = self.left.min(input.len());
            input.consume(taken);
            self.left -= taken;
            if self.left > 0 || matches!(self.next, Next::Nothing) {
                return Ok(self.left == 0);
            }
            let line = Delimited::new(b"\r\n", LINE_LIMIT).decode(input);
            let line = line.map_err(|_| BAD)?;
            let Some(line) = line else { return Ok(false) };
            self.next = match (&self.next, line) {
                // Others may take LF alone for an end, and would see two lines.
                (_, line) if line.contains(&b'\n') => return Err(BAD),
                (Next::Size, line) => {
                    let size = line.split(|it| *it == b';').next().unwrap_or_default();
                    self.left = number(size.trim_ascii_end(), 16)?;
                    Next::After(self.left)
                }
                (Next::After(0), []) => Next::Nothing,
                (Next::After(0), _) => Next::After(0),
                (Next::After(_), []) => Next::Size,
                _ => return Err(BAD),
            };
            let more = line.len() + b"\r\n".len() + self.left;
            self.room = self.room.checked_sub(more).ok_or(TOO_LARGE)?;
        }
    }
}

/// Digits and nothing else: the standard library would take a sign as well.
fn number(digits: &[u8], radix: u32) -> Result<usize, Code> {
    let digits = str::from_utf8(digits).map_err(|_| BAD)?;
    match usize::from_str_radix(digits, radix) {
        _ if digits.is_empty() || !digits.chars().all(|it| it.is_digit(radix)) => Err(BAD),
        Ok(number) if number <= BODY_LIMIT => Ok(number),
        _ => Err(TOO_LARGE),
    }
}
