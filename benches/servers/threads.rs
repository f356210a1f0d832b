//! The standard library alone: a thread per connection, blocking.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

use super::answer::Answer;

/// Enough for a loop around read and write; the buffer is on the heap.
const STACK: usize = 128 * 1024;

/// Serves for ever.
pub(crate) fn serve<A: Answer>(listener: &TcpListener, answer: A, buffer: usize) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept()?;
        let answer = answer.clone();
        std::thread::Builder::new()
            .stack_size(STACK)
            .spawn(move || connection(stream, answer, buffer))?;
    }
}

fn connection<A: Answer>(mut stream: TcpStream, mut answer: A, buffer: usize) -> io::Result<()> {
    let mut buffer = vec![0; buffer];
    let mut session = A::Session::default();
    loop {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        stream.write_all(answer.answer(&mut session, &buffer[..n]))?;
    }
}
