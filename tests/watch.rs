//! Descriptors of the application's own are watched for as long as it likes, and nothing
//! about them is changed.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::fs::File;
use std::io::{self, PipeReader, Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use windlass::{Context, Handler, Interest, Reactor, Ready, WatchId};

const PATIENCE: Duration = Duration::from_secs(15);

/// Reads a little at each `on_ready`, from a second descriptor of the same file.
#[derive(Default)]
struct Reader {
    source: Option<Box<dyn Read>>,
    /// Bytes read per callback.
    piece: usize,
    bytes: Vec<u8>,
    seen: Vec<Ready>,
    ended: bool,
}

impl Handler for Reader {
    type Session = ();

    fn on_ready(&mut self, cx: &mut Context<'_>, watch: WatchId, ready: Ready) {
        self.seen.push(ready);
        let Some(source) = &mut self.source else {
            return;
        };
        let mut buffer = vec![0; self.piece];
        match source.read(&mut buffer) {
            Ok(0) => {
                self.ended = true;
                assert!(cx.unwatch(watch).is_some());
                assert!(cx.unwatch(watch).is_none(), "it ended before");
            }
            Ok(n) => self.bytes.extend_from_slice(&buffer[..n]),
            Err(error) => panic!("a read that was announced failed: {error}"),
        }
    }
}

fn reading(source: impl Read + AsFd + 'static, piece: usize) -> (Reactor<Reader>, WatchId) {
    let watched = source.as_fd().try_clone_to_owned().unwrap();
    let reader = Reader {
        source: Some(Box::new(source)),
        piece,
        ..Reader::default()
    };
    let mut reactor = Reactor::new(reader).unwrap();
    let watch = reactor.watch(watched, Interest::Read).unwrap();
    (reactor, watch)
}

#[track_caller]
fn drive(reactor: &mut Reactor<Reader>, done: impl Fn(&Reader) -> bool) {
    let began = Instant::now();
    while !done(reactor.handler()) {
        assert!(began.elapsed() < PATIENCE, "it never came to that");
        let _ = reactor.turn(Some(Duration::from_millis(5))).unwrap();
    }
}

#[test]
fn what_is_not_read_at_once_is_announced_again() {
    let (source, mut sink) = pipe().unwrap();
    let (mut reactor, _) = reading(source, 3);
    sink.write_all(b"a long line in small pieces").unwrap();
    drop(sink);
    drive(&mut reactor, |reader| reader.ended);
    assert_eq!(reactor.handler().bytes, b"a long line in small pieces");
    assert!(
        reactor
            .handler()
            .seen
            .iter()
            .all(|ready| ready.is_readable())
    );
    assert!(reactor.handler().seen.last().unwrap().is_closed());
}

#[test]
fn nothing_is_announced_while_there_is_nothing() {
    let (source, mut sink) = pipe().unwrap();
    let (mut reactor, _) = reading(source, 100);
    sink.write_all(b"one").unwrap();
    drive(&mut reactor, |reader| reader.bytes.len() == 3);
    let turns = reactor.stats().turns;
    for _ in 0..5 {
        let _ = reactor.turn(Some(Duration::from_millis(2))).unwrap();
    }
    assert_eq!(reactor.handler().seen.len(), 1);
    assert_eq!(reactor.stats().turns, turns + 5, "each turn waited");
    sink.write_all(b"two").unwrap();
    drive(&mut reactor, |reader| reader.bytes == b"onetwo");
}

#[test]
fn nothing_about_the_descriptor_is_changed() {
    let (source, _sink) = pipe().unwrap();
    let flags = |fd: &PipeReader| status_flags(fd.as_raw_fd());
    let before = flags(&source);
    let copy = source.try_clone().unwrap();
    let (mut reactor, _) = reading(source, 1);
    let _ = reactor.turn(Some(Duration::ZERO)).unwrap();
    assert_eq!(flags(&copy), before);
}

/// The status flags of an open file, as the kernel shows them.
#[cfg(target_os = "linux")]
fn status_flags(fd: i32) -> String {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
    info.lines()
        .find(|line| line.starts_with("flags:"))
        .unwrap()
        .to_owned()
}

#[cfg(not(target_os = "linux"))]
fn status_flags(_: i32) -> String {
    String::new()
}

#[test]
fn a_regular_file_is_refused_with_a_sentence() {
    let mut reactor = Reactor::new(Reader::default()).unwrap();
    let file = File::open("Cargo.toml").unwrap();
    let error = reactor.watch(file, Interest::Read).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    let words = error.to_string();
    assert!(
        words.starts_with("watch: a file that is always ready cannot be watched"),
        "{words}"
    );
    let directory = File::open("src").unwrap();
    reactor.watch(directory, Interest::Read).unwrap_err();
}

#[test]
fn a_childs_output_is_watched_to_its_end() {
    let mut child = Command::new("sh")
        .args(["-c", "echo first; read line; echo got $line"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.stdout.take().unwrap();
    let (mut reactor, _) = reading(output, 64);
    drive(&mut reactor, |reader| reader.bytes == b"first\n");
    child.stdin.take().unwrap().write_all(b"it\n").unwrap();
    drive(&mut reactor, |reader| reader.ended);
    assert_eq!(reactor.handler().bytes, b"first\ngot it\n");
    assert!(child.wait().unwrap().success());
}

#[test]
fn room_to_write_is_announced_when_the_other_end_reads() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let mut filler = ours.try_clone().unwrap();
    while filler.write(&[0; 4096]).is_ok() {}
    let mut reactor = Reactor::new(Reader::default()).unwrap();
    reactor.watch(ours, Interest::Write).unwrap();
    for _ in 0..3 {
        let _ = reactor.turn(Some(Duration::from_millis(1))).unwrap();
    }
    assert!(reactor.handler().seen.is_empty(), "there is no room");
    theirs.set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 1 << 20];
    while theirs.read(&mut buffer).is_ok_and(|n| n > 0) {}
    drive(&mut reactor, |reader| !reader.seen.is_empty());
    assert!(reactor.handler().seen[0].is_writable());
}

#[test]
fn an_ended_watch_gives_its_descriptor_back_open() {
    let (source, mut sink) = pipe().unwrap();
    let (mut reactor, watch) = reading(source, 100);
    let fd: OwnedFd = reactor.unwatch(watch).unwrap();
    assert!(reactor.unwatch(watch).is_none());
    sink.write_all(b"still open").unwrap();
    let mut bytes = [0; 10];
    File::from(fd).read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"still open");
    let _ = reactor.turn(Some(Duration::ZERO)).unwrap();
    assert!(reactor.handler().seen.is_empty());
}

#[test]
fn watches_do_not_keep_a_loop_alive_and_are_closed_with_it() {
    struct Stop(io::PipeWriter);
    impl Handler for Stop {
        type Session = ();
        fn on_start(&mut self, cx: &mut Context<'_>, _: &windlass::Handle<Self>) -> io::Result<()> {
            cx.shutdown(Duration::from_secs(5));
            Ok(())
        }
    }
    let (source, sink) = pipe().unwrap();
    let mut reactor = Reactor::new(Stop(sink)).unwrap();
    reactor.watch(source, Interest::Read).unwrap();
    reactor.run().unwrap();
    let Stop(mut sink) = reactor.into_handler();
    let error = sink.write(b"x").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn a_pipe_that_nobody_reads_is_an_error_to_its_writer() {
    let (source, sink) = pipe().unwrap();
    let mut reactor = Reactor::new(Reader::default()).unwrap();
    reactor.watch(sink, Interest::Write).unwrap();
    drive(&mut reactor, |reader| !reader.seen.is_empty());
    let before = reactor.handler().seen[0];
    assert!(before.is_writable() && !before.is_error());
    drop(source);
    drive(&mut reactor, |reader| {
        reader.seen.iter().any(|ready| ready.is_error())
    });
    let after = reactor.handler().seen.last().unwrap();
    assert_ne!(format!("{before:?}"), format!("{after:?}"));
}
