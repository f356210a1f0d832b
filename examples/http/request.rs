//! The head of a request: the line and the headers, as far as they are to be trusted.

use std::time::Duration;

use httparse::{EMPTY_HEADER, Error, Header, Status};
use windlass::{Conn, Input};

use super::answer::Answer;
use super::body::Body;
use super::server::Server;

/// Time for one request, from its first byte to the last one of its body.
pub(crate) const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Silence that ends a connection between two requests.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(30);
const MOST_HEADERS: usize = 64;
/// Bytes of a request line and its headers.
const HEAD_LIMIT: usize = 8 * 1024;

/// A status code and its name.
pub(crate) type Code = &'static str;
pub(crate) const BAD: Code = "400 Bad Request";

/// Takes a head off the input, if all of it has come, and says what follows: a body, and
/// the answer when that is over.
pub(crate) fn begin(
    conn: &mut Conn<'_>,
    input: &mut Input<'_>,
    server: &Server,
) -> Result<Option<(Body, Answer)>, Code> {
    let mut room = [EMPTY_HEADER; MOST_HEADERS];
    let Some(head) = head(input, &mut room)? else {
        return Ok(None);
    };
    let body = Body::of(&head)?;
    if head.version == Some(1) && says(head.headers, "expect", "100-continue") {
        conn.write(b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    Ok(Some((body, Answer::to(&head, conn, server))))
}

fn head<'h, 'b>(
    input: &mut Input<'b>,
    room: &'h mut [Header<'b>; MOST_HEADERS],
) -> Result<Option<httparse::Request<'h, 'b>>, Code> {
    let mut head = httparse::Request::new(room);
    let bytes = &input.rest()[..input.len().min(HEAD_LIMIT)];
    match head.parse(bytes) {
        Ok(Status::Complete(length)) => input.consume(length),
        Ok(Status::Partial) if bytes.len() < HEAD_LIMIT => return Ok(None),
        Ok(Status::Partial) if !bytes.contains(&b'\n') => return Err("414 URI Too Long"),
        Ok(Status::Partial) | Err(Error::TooManyHeaders) => {
            return Err("431 Request Header Fields Too Large");
        }
        Err(Error::Version) => return Err("505 HTTP Version Not Supported"),
        Err(_) => return Err(BAD),
    }
    match values(head.headers, "host").count() {
        0 if head.version == Some(0) => Ok(Some(head)),
        1 => Ok(Some(head)),
        _ => Err(BAD),
    }
}

/// All values that a head has for a name.
pub(crate) fn values<'h>(headers: &'h [Header<'_>], name: &str) -> impl Iterator<Item = &'h [u8]> {
    let mut all = headers.iter();
    std::iter::from_fn(move || all.find(|header| header.name.eq_ignore_ascii_case(name)))
        .map(|header| header.value.trim_ascii())
}

/// Whether a word stands in the list that a header has for its value.
pub(crate) fn says(headers: &[Header<'_>], name: &str, word: &str) -> bool {
    let mut words = values(headers, name).flat_map(|value| value.split(|byte| *byte == b','));
    words.any(|it| it.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}
