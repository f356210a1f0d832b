//! Numbers, as they stand in requests and in values.

use std::ops::RangeInclusive;

pub(crate) const CRLF: &[u8] = b"\r\n";
const LONGEST_LINE: usize = 32;

/// `Err(None)` while more has to come; with words, if that would not help.
pub(crate) type Found<T> = Result<T, Option<String>>;

/// A number on a line of its own, and where the next line begins.
pub(crate) fn number(
    bytes: &[u8],
    from: usize,
    what: &str,
    fits: RangeInclusive<i64>,
) -> Found<(i64, usize)> {
    let line = &bytes[from..bytes.len().min(from + LONGEST_LINE)];
    let end = line.windows(CRLF.len()).position(|two| two == CRLF);
    if end.is_none() && line.len() == LONGEST_LINE {
        return Err(Some(format!("too big {what} count string")));
    }
    let end = end.ok_or(None)?;
    let number = integer(&line[..end]).filter(|number| fits.contains(number));
    let number = number.ok_or_else(|| format!("invalid {what} length"))?;
    Ok((number, from + end + CRLF.len()))
}

pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    str::from_utf8(text).ok()?.parse().ok()
}
