//! Where one request ends, and what will never become one.

use std::ops::Range;

use super::numbers::{CRLF, Found, number};
use windlass::Input;
use windlass::codec::{Decoder, FrameError};

/// With a read on top it stays below `Limits::input`, so that what is left over while
/// answers wait ends no connection.
const LONGEST_REQUEST: usize = 512 * 1024;
const LONGEST_INLINE: usize = 64 * 1024;
const MOST_WORDS: i64 = 4096;

/// One request. Its words lie where they were received: nothing is copied.
#[derive(Debug, PartialEq)]
pub(crate) enum Request<'a> {
    Words(Vec<&'a [u8]>),
    /// Why there is no telling where the next request begins.
    Wrong(String),
}

/// Remembers how far it has looked, so that each byte is looked at once.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    looked: usize,
    /// Words yet to be found, once that is known.
    missing: Option<i64>,
    found: Vec<Range<usize>>,
}

impl Decoder for Requests {
    type Frame<'a> = Request<'a>;

    fn decode<'a>(&mut self, input: &mut Input<'a>) -> Result<Option<Request<'a>>, FrameError> {
        let bytes = input.rest();
        let whole = match bytes.first() {
            Some(b'*') => self.array(bytes),
            Some(_) => self.inline(bytes),
            None => return Ok(None),
        };
        let request = match whole {
            Ok(()) => {
                input.consume(self.looked);
                Request::Words(self.found.drain(..).map(|at| &bytes[at]).collect())
            }
            Err(Some(why)) => {
                input.take_all();
                Request::Wrong(why)
            }
            Err(None) => return Ok(None),
        };
        self.reset();
        Ok(Some(request))
    }

    fn reset(&mut self) {
        self.looked = 0;
        self.missing = None;
        self.found.clear();
        self.found.shrink_to(16);
    }
}

impl Requests {
    /// `*2\r\n$3\r\nGET\r\n$4\r\nship\r\n`
    fn array(&mut self, bytes: &[u8]) -> Found<()> {
        if self.missing.is_none() {
            // To Redis a count below zero is as good as none.
            let (words, next) = number(bytes, 1, "multibulk", i64::MIN..=MOST_WORDS)?;
            (self.missing, self.looked) = (Some(words), next);
        }
        while let Some(missing @ 1..) = self.missing {
            let word = bulk(bytes, self.looked)?;
            self.looked = word.end + CRLF.len();
            self.found.push(word);
            self.missing = Some(missing - 1);
        }
        Ok(())
    }

    /// `GET ship\r\n`, as a person types it.
    fn inline(&mut self, bytes: &[u8]) -> Found<()> {
        let end = bytes[self.looked..].iter().position(|byte| *byte == b'\n');
        self.looked = end.map_or(bytes.len(), |end| self.looked + end + 1);
        if self.looked > LONGEST_INLINE {
            return Err(Some("too big inline request".to_owned()));
        }
        end.ok_or(None)?;
        let mut start = 0;
        for word in bytes[..self.looked].split(u8::is_ascii_whitespace) {
            if !word.is_empty() {
                self.found.push(start..start + word.len());
            }
            start += word.len() + 1;
        }
        Ok(())
    }
}

fn bulk(bytes: &[u8], from: usize) -> Found<Range<usize>> {
    match bytes.get(from).ok_or(None)? {
        b'$' => {}
        byte => return Err(Some(format!("expected '$', got '{}'", byte.escape_ascii()))),
    }
    let room = LONGEST_REQUEST.saturating_sub(from) as i64;
    let (length, start) = number(bytes, from + 1, "bulk", 0..=room)?;
    let end = start + length as usize;
    match bytes.get(end..end + CRLF.len()).ok_or(None)? {
        CRLF => Ok(start..end),
        _ => Err(Some("expected CRLF behind a bulk".to_owned())),
    }
}
