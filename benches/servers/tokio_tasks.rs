//! tokio, as most people write it: one thread, a task per connection, each with a buffer of
//! its own (so it is as large as the messages, not 256 KiB).

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::answer::Answer;

/// Serves for ever; each read may take as long as `idle`, if that is given.
pub(crate) fn serve<A: Answer>(
    listener: TcpListener,
    answer: A,
    buffer: usize,
    idle: Option<Duration>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            let answer = answer.clone();
            // A connection that ends with an error ends.
            tokio::spawn(async move {
                match idle {
                    None => connection(stream, answer, buffer).await,
                    Some(idle) => connection_within(stream, answer, buffer, idle).await,
                }
            });
        }
    })
}

async fn connection<A: Answer>(
    mut stream: TcpStream,
    mut answer: A,
    buffer: usize,
) -> io::Result<()> {
    let mut buffer = vec![0; buffer];
    let mut session = A::Session::default();
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        stream
            .write_all(answer.answer(&mut session, &buffer[..n]))
            .await?;
    }
}

async fn connection_within<A: Answer>(
    mut stream: TcpStream,
    mut answer: A,
    buffer: usize,
    idle: Duration,
) -> io::Result<()> {
    let mut buffer = vec![0; buffer];
    let mut session = A::Session::default();
    loop {
        let n = tokio::time::timeout(idle, stream.read(&mut buffer)).await??;
        if n == 0 {
            return Ok(());
        }
        stream
            .write_all(answer.answer(&mut session, &buffer[..n]))
            .await?;
    }
}
