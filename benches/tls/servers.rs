//! An echo under TLS, on windlass and on tokio-rustls, each on a thread of its own.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use windlass::tls::rustls::ServerConfig;
use windlass::{Conn, Handler, Input, Listen, ListenerId, Reactor};

use super::clock::{pin, seconds, thread_clock};
use super::live;

const SERVER_PROCESSOR: usize = 0;

/// What a task of tokio's reads at once.
const TASK_BUFFER: usize = 64 * 1024;

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Windlass,
    Tokio,
}

/// A server that runs until the program ends.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    clock: libc::clockid_t,
    who: usize,
}

impl Server {
    /// `who` is its number among the threads whose memory is counted.
    pub(crate) fn start(kind: Kind, who: usize, config: Arc<ServerConfig>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            pin(SERVER_PROCESSOR);
            live::be(who);
            // A failure to send means that the benchmark is over.
            let _ = tell.send(thread_clock());
            match kind {
                Kind::Windlass => windlass(listener, config),
                Kind::Tokio => tokio(listener, config),
            }
        });
        let clock = told.recv().map_err(io::Error::other)?;
        Ok(Self { addr, clock, who })
    }

    /// Processor time so far, in seconds.
    pub(crate) fn processor(&self) -> f64 {
        seconds(self.clock)
    }

    /// Bytes that it holds.
    pub(crate) fn memory(&self) -> i64 {
        live::of(self.who)
    }
}

struct Echo;

impl Handler for Echo {
    type Session = ();

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        Ok(())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        (): &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        conn.write(input.take_all());
        Ok(())
    }
}

fn windlass(listener: TcpListener, config: Arc<ServerConfig>) -> io::Result<()> {
    let mut reactor = Reactor::new(Echo)?;
    reactor.listen(Listen::adopt(OwnedFd::from(listener)).tls(config))?;
    reactor.run().map(drop)
}

fn tokio(listener: TcpListener, config: Arc<ServerConfig>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let acceptor = TlsAcceptor::from(config);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let acceptor = acceptor.clone();
            tokio::spawn(async move { echo(acceptor, stream).await });
        }
    })
}

async fn echo(acceptor: TlsAcceptor, stream: tokio::net::TcpStream) -> io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut buffer = vec![0; TASK_BUFFER];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..n]).await?;
        stream.flush().await?;
    }
}
