//! Descriptors in a simulated world: watched ones, passed ones, and connections that leave
//! the loop and come back.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use windlass::sim::{Call, Client, World};
use windlass::{
    Closed, Conn, Context, DialId, Handler, Input, Interest, ListenerId, Ready, WatchId,
};

/// Echoes; passes back what is passed to it; gives a connection away at `!`, and reads what
/// it watches into `seen`, so many bytes at a time.
#[derive(Default)]
struct App {
    bite: usize,
    watched: Option<PipeReader>,
    seen: Vec<u8>,
    readies: usize,
    /// More would wait in a read; zero for any number.
    most: usize,
    away: Vec<OwnedFd>,
    ends: Vec<String>,
}

impl Handler for App {
    type Session = ();

    fn on_accept(&mut self, conn: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        conn.accept_fds(4);
        Ok(())
    }

    fn on_connect(&mut self, conn: &mut Conn<'_>, _: DialId) -> io::Result<()> {
        conn.write(b"back");
        Ok(())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        _: &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        let fds: Vec<_> = std::iter::from_fn(|| conn.take_fd()).collect();
        match input.take_all() {
            b"!" => self.away.push(conn.detach()?),
            bytes if fds.is_empty() => drop(conn.write(bytes)),
            bytes => drop(conn.send_fds(fds, bytes)),
        }
        Ok(())
    }

    fn on_ready(&mut self, cx: &mut Context<'_>, watch: WatchId, ready: Ready) {
        self.readies += 1;
        assert!(
            self.most == 0 || self.readies <= self.most,
            "nothing is there"
        );
        assert!(ready.is_readable());
        let mut buffer = vec![0; self.bite];
        let count = self.watched.as_mut().unwrap().read(&mut buffer).unwrap();
        self.seen.extend(&buffer[..count]);
        if count == 0 {
            cx.unwatch(watch);
        }
    }

    fn on_close(&mut self, _: &mut Context<'_>, (): (), closed: &Closed) {
        self.ends.push(closed.reason.to_string());
    }
}

/// A world that watches a pipe, and the other end of it.
fn watching(bite: usize) -> (World<App>, io::PipeWriter) {
    let (reader, writer) = io::pipe().unwrap();
    let mut world = World::new(1, App::default());
    world.handler_mut().bite = bite;
    world.handler_mut().watched = Some(reader.try_clone().unwrap());
    world.post(move |_, cx| {
        cx.watch(reader, Interest::Read).unwrap();
    });
    world.run();
    (world, writer)
}

fn served() -> (World<App>, Client) {
    let mut world = World::new(1, App::default());
    world.try_listen("unix:///run/x.sock").unwrap();
    let client = world.connect_unix("/run/x.sock");
    world.run();
    (world, client)
}

#[test]
fn a_watched_pipe_is_said_to_be_ready_until_it_is_not() {
    let (mut world, mut writer) = watching(2);
    assert_eq!(world.handler().readies, 0);
    writer.write_all(b"hello").unwrap();
    world.run();
    assert_eq!(
        (world.handler().readies, &world.handler().seen[..]),
        (3, &b"hello"[..])
    );
    writer.write_all(b"!").unwrap();
    world.run();
    assert_eq!(world.handler().seen, b"hello!");
    drop(writer);
    world.run(); // the end is news as well, and the watch ends with it
    assert_eq!((world.handler().readies, world.open_descriptors()), (5, 0));
}

#[test]
fn a_watch_that_cannot_be_asked_for_again_is_served_all_the_same() {
    let (mut world, mut writer) = watching(1);
    world.faults().fail(Call::Rearm, libc::ENOMEM, 2);
    writer.write_all(b"abc").unwrap();
    world.run();
    assert_eq!(world.handler().seen, b"abc");
}

#[test]
fn a_watch_that_cannot_be_asked_for_again_is_not_said_to_be_ready_when_it_is_not() {
    let (mut world, mut writer) = watching(8);
    world.handler_mut().most = 1;
    world.faults().fail(Call::Rearm, libc::ENOMEM, 3);
    writer.write_all(b"abc").unwrap();
    world.run();
    world.handler_mut().most = 2;
    writer.write_all(b"def").unwrap();
    world.run();
    assert_eq!(world.handler().seen, b"abcdef");
}

#[test]
fn a_file_is_not_watched() {
    let mut world = World::new(1, App::default());
    world.post(|_, cx| {
        let file = File::open(std::env::current_exe().unwrap()).unwrap();
        let error = cx.watch(file, Interest::Read).unwrap_err();
        assert!(error.to_string().contains("always ready"), "{error}");
    });
    world.run();
    assert_eq!(world.open_descriptors(), 0);
}

#[test]
fn descriptors_go_there_and_back() {
    let (mut world, client) = served();
    let (mut reader, writer) = io::pipe().unwrap();
    world.send(client, b"one");
    world.send_fds(client, b"two", vec![writer.into()]);
    world.expect(client, "onetwo");
    let [back] = <[OwnedFd; 1]>::try_from(world.received_fds(client)).unwrap();
    File::from(back).write_all(b"through the loop").unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap(); // ends, so nobody has kept a copy
    assert_eq!(text, "through the loop");
}

#[test]
fn a_connection_that_was_given_away_comes_back_with_what_was_sent_meanwhile() {
    let (mut world, client) = served();
    world.send(client, b"!");
    world.run();
    assert_eq!(world.handler().ends, ["detached"]);
    world.send(client, b"meanwhile");
    world.expect(client, "");
    let away = world.handler_mut().away.pop().unwrap();
    world.post(|_, cx| {
        cx.adopt(away).unwrap();
    });
    world.expect(client, "backmeanwhile");
}

#[test]
fn a_connection_that_was_given_away_and_dropped_is_closed() {
    let (mut world, client) = served();
    world.send(client, b"!");
    world.run();
    assert!(!world.saw_eof(client));
    world.handler_mut().away.clear();
    world.run();
    assert!(world.saw_eof(client));
    assert_eq!(world.open_descriptors(), 1);
}

#[test]
fn a_socket_of_the_real_host_is_not_adopted() {
    let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut world = World::new(1, App::default());
    let fd = one.as_fd().try_clone_to_owned().unwrap();
    world.post(|_, cx| {
        cx.adopt(fd).unwrap_err();
    });
    world.run();
}
