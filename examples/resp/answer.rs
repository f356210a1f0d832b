//! Answers, and how they look on the wire.

use std::fmt::Display;

use windlass::{Conn, Flow};

/// Of what a client sent, that much is repeated in an error.
const QUOTED: usize = 64;

pub(crate) enum Answer<'s> {
    /// To a request without words.
    Nothing,
    Status(&'static str),
    Error(String),
    Number(i64),
    Nil,
    Bulk(&'s [u8]),
    Text(String),
    List(Vec<&'static str>),
    /// A line, and the end of the connection.
    Last(String),
}

impl Answer<'_> {
    pub(crate) fn error(text: &str) -> Self {
        Self::Error(text.to_owned())
    }

    pub(crate) fn unknown(name: &[u8], args: &[&[u8]]) -> Self {
        let args: String = args
            .iter()
            .take(4)
            .map(|arg| format!("'{}' ", quoted(arg)))
            .collect();
        let name = quoted(name);
        Self::Error(format!(
            "ERR unknown command '{name}', with args beginning with: {args}"
        ))
    }

    pub(crate) fn wrong_number(name: &[u8]) -> Self {
        let name = quoted(name).to_string().to_lowercase();
        Self::Error(format!(
            "ERR wrong number of arguments for '{name}' command"
        ))
    }

    pub(crate) fn write(&self, conn: &mut Conn<'_>) {
        match self {
            Self::Nothing => Flow::Open,
            Self::Status(word) => write!(conn, "+{word}\r\n"),
            Self::Error(text) => write!(conn, "-{text}\r\n"),
            Self::Number(number) => write!(conn, ":{number}\r\n"),
            Self::Nil => conn.write(b"$-1\r\n"),
            Self::Bulk(bytes) => bulk(conn, bytes),
            Self::Text(text) => bulk(conn, text.as_bytes()),
            Self::List(texts) => {
                write!(conn, "*{}\r\n", texts.len());
                for text in texts {
                    bulk(conn, text.as_bytes());
                }
                conn.flow()
            }
            Self::Last(line) => {
                write!(conn, "{line}\r\n");
                conn.close();
                Flow::Closed
            }
        };
    }
}

fn bulk(conn: &mut Conn<'_>, bytes: &[u8]) -> Flow {
    write!(conn, "${}\r\n", bytes.len());
    conn.write(bytes);
    conn.write(b"\r\n")
}

/// What a client sent, on one line and not too long.
fn quoted(bytes: &[u8]) -> impl Display {
    bytes[..bytes.len().min(QUOTED)].escape_ascii()
}
