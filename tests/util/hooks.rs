//! A handler whose callbacks are closures, and which remembers what happened to it.

#![allow(dead_code, reason = "every test file uses its own part of this")]
#![allow(
    unreachable_pub,
    reason = "public towards the test file that includes it"
)]

use std::io;
use std::time::Duration;

use windlass::{
    Closed, Conn, ConnId, Context, Deadline, DialId, Error, Handler, Input, ListenerId,
};

type On = Box<dyn FnMut(&mut Conn<'_>) -> io::Result<()> + Send>;
type OnInput = Box<dyn FnMut(&mut Conn<'_>, &mut Input<'_>) -> io::Result<()> + Send>;
type OnTimeout = Box<dyn FnMut(&mut Conn<'_>, Deadline) -> io::Result<()> + Send>;

/// Echoes, unless it is told otherwise.
pub struct Hooks {
    accept: On,
    connect: On,
    handshake: On,
    read: OnInput,
    write: On,
    eof: OnInput,
    timeout: OnTimeout,
    /// The callbacks that ran but for `on_read`, and how connections ended.
    pub log: Vec<String>,
    /// Why connections ended.
    pub ends: Vec<String>,
    /// Of these, the bytes that were sent and those that were not.
    pub sent_and_not: Vec<(u64, u64)>,
    /// The connection that was accepted or connected last.
    pub last: Option<ConnId>,
    /// The waits that were announced by `on_dial_error`.
    pub waits: Vec<Option<Duration>>,
}

fn nothing(_: &mut Conn<'_>) -> io::Result<()> {
    Ok(())
}

impl Hooks {
    pub fn echo() -> Self {
        Self {
            accept: Box::new(nothing),
            connect: Box::new(nothing),
            handshake: Box::new(nothing),
            read: Box::new(|conn, input| {
                conn.write(input.take_all());
                Ok(())
            }),
            write: Box::new(nothing),
            eof: Box::new(|conn, input| {
                conn.write(input.take_all());
                conn.close();
                Ok(())
            }),
            timeout: Box::new(|_, _| Err(io::ErrorKind::TimedOut.into())),
            log: Vec::new(),
            ends: Vec::new(),
            sent_and_not: Vec::new(),
            last: None,
            waits: Vec::new(),
        }
    }

    pub fn accept(
        mut self,
        hook: impl FnMut(&mut Conn<'_>) -> io::Result<()> + Send + 'static,
    ) -> Self {
        self.accept = Box::new(hook);
        self
    }

    pub fn connect(
        mut self,
        hook: impl FnMut(&mut Conn<'_>) -> io::Result<()> + Send + 'static,
    ) -> Self {
        self.connect = Box::new(hook);
        self
    }

    pub fn handshake(
        mut self,
        hook: impl FnMut(&mut Conn<'_>) -> io::Result<()> + Send + 'static,
    ) -> Self {
        self.handshake = Box::new(hook);
        self
    }

    pub fn read(
        mut self,
        hook: impl FnMut(&mut Conn<'_>, &mut Input<'_>) -> io::Result<()> + Send + 'static,
    ) -> Self {
        self.read = Box::new(hook);
        self
    }

    pub fn write(
        mut self,
        hook: impl FnMut(&mut Conn<'_>) -> io::Result<()> + Send + 'static,
    ) -> Self {
        self.write = Box::new(hook);
        self
    }

    pub fn eof(
        mut self,
        hook: impl FnMut(&mut Conn<'_>, &mut Input<'_>) -> io::Result<()> + Send + 'static,
    ) -> Self {
        self.eof = Box::new(hook);
        self
    }

    pub fn timeout(
        mut self,
        hook: impl FnMut(&mut Conn<'_>, Deadline) -> io::Result<()> + Send + 'static,
    ) -> Self {
        self.timeout = Box::new(hook);
        self
    }

    /// How often that callback ran.
    pub fn count(&self, name: &str) -> usize {
        self.log.iter().filter(|it| *it == name).count()
    }

    fn note(&mut self, name: &str) {
        self.log.push(name.to_owned());
    }
}

impl Handler for Hooks {
    type Session = ();

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        self.note("on_accept");
        self.last = Some(conn.id());
        (self.accept)(conn)
    }

    fn on_connect(&mut self, conn: &mut Conn<'_>, _: DialId) -> io::Result<()> {
        self.note("on_connect");
        self.last = Some(conn.id());
        (self.connect)(conn)
    }

    fn on_handshake(&mut self, conn: &mut Conn<'_>, (): &mut ()) -> io::Result<()> {
        self.note("on_handshake");
        (self.handshake)(conn)
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        (): &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        (self.read)(conn, input)
    }

    fn on_write(&mut self, conn: &mut Conn<'_>, (): &mut ()) -> io::Result<()> {
        self.note("on_write");
        (self.write)(conn)
    }

    fn on_eof(
        &mut self,
        conn: &mut Conn<'_>,
        (): &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        self.note("on_eof");
        (self.eof)(conn, input)
    }

    fn on_timeout(&mut self, conn: &mut Conn<'_>, (): &mut (), which: Deadline) -> io::Result<()> {
        self.note(&which.to_string());
        (self.timeout)(conn, which)
    }

    fn on_wake(&mut self, _: &mut Conn<'_>, (): &mut ()) -> io::Result<()> {
        self.note("on_wake");
        Ok(())
    }

    fn on_shutdown(&mut self, conn: &mut Conn<'_>, (): &mut ()) -> io::Result<()> {
        self.note("on_shutdown");
        conn.close();
        Ok(())
    }

    fn on_close(&mut self, _: &mut Context<'_>, (): (), closed: &Closed) {
        self.ends.push(closed.reason.to_string());
        self.sent_and_not
            .push((closed.bytes_written, closed.unsent));
        self.note("on_close");
    }

    fn on_dial_error(
        &mut self,
        _: &mut Context<'_>,
        _: DialId,
        error: &Error,
        retry_in: Option<Duration>,
    ) {
        self.note(&error.to_string());
        self.waits.push(retry_in);
    }
}
