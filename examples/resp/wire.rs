//! What requests and answers look like, and what stands in them.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use windlass::{Conn, Flow, Input};

/// With a read on top it stays below `Limits::input`, so that what is left over while
/// answers wait ends no connection.
const LONGEST_REQUEST: usize = 512 * 1024;
const LONGEST_INLINE: usize = 64 * 1024;
const LONGEST_NUMBER: usize = 32;
const MOST_WORDS: i64 = 4096;

/// Of what a client sent, that much is repeated in an error.
const QUOTED: usize = 64;
/// Commands that may have the wrong number of arguments.
const KNOWN: [&str; 15] = [
    "config", "dbsize", "del", "echo", "exists", "expire", "get", "incr", "persist", "pexpire",
    "ping", "pttl", "select", "set", "ttl",
];

/// `Err(None)` while more has to come; with words, if that would not help.
type Found<T> = Result<T, Option<String>>;

/// The words of one request. They lie where they were received: nothing is copied.
pub(crate) fn request<'a>(input: &mut Input<'a>) -> Found<Vec<&'a [u8]>> {
    let mut ahead = Input::new(input.rest());
    let words = if ahead.starts_with(b"*") {
        // To Redis a count below zero is as good as none.
        let count = number(&mut ahead, "multibulk", i64::MIN..=MOST_WORDS)?;
        (0..count).map(|_| word(&mut ahead)).collect::<Found<_>>()?
    } else {
        let line = line(&mut ahead, LONGEST_INLINE, "inline request")?;
        let words = line.split(u8::is_ascii_whitespace);
        words.filter(|word| !word.is_empty()).collect()
    };
    input.consume(ahead.consumed());
    Ok(words)
}

fn word<'a>(ahead: &mut Input<'a>) -> Found<&'a [u8]> {
    let first = *ahead.first().ok_or(None)?;
    if first != b'$' {
        let first = first.escape_ascii();
        return Err(Some(format!("expected '$', got '{first}'")));
    }
    let room = LONGEST_REQUEST.saturating_sub(ahead.consumed());
    let length = number(ahead, "bulk", 0..=room as i64)?;
    let word = ahead.take(length as usize).ok_or(None)?;
    match ahead.take(2).ok_or(None)? {
        b"\r\n" => Ok(word),
        _ => Err(Some("expected CRLF behind a bulk".to_owned())),
    }
}

/// A line that is a number, but for its first byte.
fn number(ahead: &mut Input, what: &str, fits: RangeInclusive<i64>) -> Found<i64> {
    let line = line(ahead, LONGEST_NUMBER, format_args!("{what} count string"))?;
    match integer(&line[1..]) {
        Ok(number) if fits.contains(&number) => Ok(number),
        _ => Err(Some(format!("invalid {what} length"))),
    }
}

fn line<'a>(ahead: &mut Input<'a>, most: usize, what: impl Display) -> Found<&'a [u8]> {
    let end = ahead.iter().position(|byte| *byte == b'\n');
    if end.unwrap_or(ahead.len()) > most {
        return Err(Some(format!("too big {what}")));
    }
    let line = ahead.take(end.ok_or(None)? + 1).ok_or(None)?;
    Ok(line.trim_ascii_end())
}

pub(crate) fn integer(text: &[u8]) -> Result<i64, &'static str> {
    let number = str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.ok_or("ERR value is not an integer or out of range")
}

/// A unit of time, in milliseconds. Names that begin with a P count in those.
pub(crate) fn unit(name: &[u8]) -> i64 {
    if name.starts_with(b"P") { 1 } else { 1000 }
}

/// `None` if there is no such time.
pub(crate) fn later(time: &[u8], unit: i64, now: Instant) -> Result<Option<Instant>, String> {
    let milliseconds = integer(time)?.max(0).checked_mul(unit);
    Ok(milliseconds.and_then(|ms| now.checked_add(Duration::from_millis(ms as u64))))
}

pub(crate) fn bulk(conn: &mut Conn, bytes: &[u8]) -> Flow {
    write!(conn, "${}\r\n", bytes.len());
    conn.write(bytes);
    conn.write(b"\r\n")
}

pub(crate) fn refusal(name: &[u8], args: &[&[u8]]) -> String {
    let quoted = |bytes: &[u8]| bytes[..bytes.len().min(QUOTED)].escape_ascii().to_string();
    let (name, known) = (quoted(name), quoted(name).to_lowercase());
    if KNOWN.contains(&&*known) {
        return format!("ERR wrong number of arguments for '{known}' command");
    }
    let mut why = format!("ERR unknown command '{name}', with args beginning with: ");
    for arg in args.iter().take(4) {
        why += &format!("'{}' ", quoted(arg));
    }
    why
}
