//! Where one request ends and what will never become one.

use std::fmt::Display;
use std::ops::RangeInclusive;

use windlass::Input;

/// With a read on top it stays below `Limits::input`, so that what is left over while
/// answers wait ends no connection.
const LONGEST_REQUEST: usize = 512 * 1024;
const LONGEST_INLINE: usize = 64 * 1024;
const LONGEST_NUMBER: usize = 32;
const MOST_WORDS: i64 = 4096;

/// `Err(None)` while more has to come; with words, if that would not help.
type Found<T> = Result<T, Option<String>>;

/// The words of one request. They lie where they were received: nothing is copied.
pub(crate) fn next<'a>(input: &mut Input<'a>) -> Found<Vec<&'a [u8]>> {
    let mut ahead = Input::new(input.rest());
    let words = if ahead.starts_with(b"*") {
        // To Redis a count below zero is as good as none.
        let count = number(&mut ahead, "multibulk", i64::MIN..=MOST_WORDS)?;
        (0..count).map(|_| bulk(&mut ahead)).collect::<Found<_>>()?
    } else {
        let line = line(&mut ahead, LONGEST_INLINE, "inline request")?;
        let words = line.split(u8::is_ascii_whitespace);
        words.filter(|word| !word.is_empty()).collect()
    };
    input.consume(ahead.consumed());
    Ok(words)
}

fn bulk<'a>(ahead: &mut Input<'a>) -> Found<&'a [u8]> {
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
