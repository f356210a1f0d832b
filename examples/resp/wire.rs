//! What requests and answers look like.

use windlass::codec::{Decoder, Lines};
use windlass::{Conn, Flow, Input};

/// With a read on top it stays below `Limits::input`, so that what is left over while
/// answers wait ends no connection.
const LONGEST_REQUEST: usize = 512 * 1024;
const LONGEST_INLINE: usize = 64 * 1024;
const LONGEST_NUMBER: usize = 32;
const MOST_WORDS: usize = 4096;

/// `Err(None)` while more has to come; with words, if that would not help.
type Found<T> = Result<T, Option<&'static str>>;

/// The words of one request. They lie where they were received: nothing is copied.
pub(crate) fn request<'a>(input: &mut Input<'a>) -> Found<Vec<&'a [u8]>> {
    let mut ahead = Input::new(input.rest());
    let words = if ahead.starts_with(b"*") {
        let count = length(&mut ahead, b'*', MOST_WORDS)?;
        (0..count).map(|_| word(&mut ahead)).collect::<Found<_>>()?
    } else {
        let line = line(&mut ahead, LONGEST_INLINE)?;
        let words = line.split(u8::is_ascii_whitespace);
        words.filter(|word| !word.is_empty()).collect()
    };
    input.consume(ahead.consumed());
    Ok(words)
}

fn word<'a>(ahead: &mut Input<'a>) -> Found<&'a [u8]> {
    let room = LONGEST_REQUEST.saturating_sub(ahead.consumed());
    let length = length(ahead, b'$', room)?;
    let word = ahead.take(length).ok_or(None)?;
    match ahead.take(2).ok_or(None)? {
        b"\r\n" => Ok(word),
        _ => Err(Some("expected the end of a word")),
    }
}

/// A line that says how many words there are, or how many bytes in the next one.
fn length(ahead: &mut Input, mark: u8, most: usize) -> Found<usize> {
    let line = line(ahead, LONGEST_NUMBER)?;
    let digits = line.strip_prefix(&[mark]);
    let digits = digits.and_then(|it| str::from_utf8(it).ok());
    let length = digits.and_then(|it| it.parse().ok());
    let length = length.filter(|length| *length <= most);
    length.ok_or(Some("expected a length that is not too large"))
}

fn line<'a>(ahead: &mut Input<'a>, most: usize) -> Found<&'a [u8]> {
    match Lines::new(most).decode(ahead) {
        Ok(line) => line.ok_or(None),
        Err(_) => Err(Some("too long a line")),
    }
}

pub(crate) fn bulk(conn: &mut Conn, bytes: &[u8]) -> Flow {
    write!(conn, "${}\r\n", bytes.len());
    conn.write(bytes);
    conn.write(b"\r\n")
}
