//! Accept deadlines: absolute, once per setting, before anybody who waits is accepted; and
//! the listener goes on. In a world, where time is exact, and on the real kernel.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

#[path = "util/host.rs"]
mod host;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use windlass::sim::{Call, World};
use windlass::{Config, Context, Listen, ListenerId};

use host::{Dir, Host, Node, PATIENCE, Said};

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A world with one listener that is called back from now on.
fn world(node: Node) -> (World<Node>, ListenerId, SocketAddr) {
    let mut world = World::new(1, node);
    let id = world.try_listen("127.0.0.1:7").unwrap();
    world.run();
    let addr = world.listener(id).unwrap().local_addr();
    (world, id, addr.as_socket_addr().unwrap())
}

fn set(world: &mut World<Node>, id: ListenerId, after: Option<Duration>) {
    let at = after.map(|after| world.now() + after);
    world.listener(id).unwrap().set_deadline(at);
}

fn names(node: &Node) -> Vec<&'static str> {
    let said = node.said.iter().filter_map(|said| match said {
        Said::Accept(_) => Some("accept"),
        Said::AcceptError(_, _, true) => Some("timeout"),
        Said::AcceptError(..) => Some("error"),
        _ => None,
    });
    said.collect()
}

// Go 9, TestAcceptTimeout: adapted, since nobody calls accept here: a deadline that has passed
// is told before the client who waits is accepted, twice in a row if it is set twice.
#[test]
fn a_deadline_that_has_passed_is_told_before_anybody_is_accepted() {
    let mut again = true;
    let node = Node::new().accept_error(move |cx: &mut Context<'_>, id| {
        if std::mem::take(&mut again) {
            let past = cx.now() - millis(5000);
            cx.listener(id).unwrap().set_deadline(Some(past));
        }
    });
    let (mut world, id, addr) = world(node);
    let client = world.connect(addr);
    let past = world.now();
    world.listener(id).unwrap().set_deadline(Some(past));
    world.run();
    assert_eq!(names(world.handler()), ["timeout", "timeout", "accept"]);
    let expected = ("accept tcp 127.0.0.1:7: i/o timeout".to_owned(), true);
    assert_eq!(
        world.handler().accept_errors(),
        [expected.clone(), expected]
    );
    world.close(client);
    world.run();
}

// Go 10, TestAcceptTimeout.
#[test]
fn clients_are_accepted_until_the_deadline_and_after_it() {
    let (mut world, id, addr) = world(Node::new());
    let start = world.now();
    set(&mut world, id, Some(millis(50)));
    world.connect(addr);
    world.advance(millis(49));
    assert_eq!(names(world.handler()), ["accept"]);
    world.advance(millis(1));
    assert_eq!(names(world.handler()), ["accept", "timeout"]);
    assert_eq!(*world.handler().times.last().unwrap() - start, millis(50));
    world.connect(addr);
    world.advance(millis(1000));
    assert_eq!(names(world.handler()), ["accept", "timeout", "accept"]);
}

// Go 11, TestAcceptTimeoutMustReturn.
#[test]
fn a_deadline_that_was_cleared_can_be_set_again() {
    let (mut world, id, _) = world(Node::new());
    set(&mut world, id, Some(millis(5)));
    set(&mut world, id, None);
    set(&mut world, id, Some(millis(10)));
    world.advance(millis(9));
    assert_eq!(names(world.handler()), [""; 0]);
    world.advance(millis(991));
    assert_eq!(names(world.handler()), ["timeout"]);
}

// Go 12, TestAcceptTimeoutMustNotReturn.
#[test]
fn a_deadline_that_has_passed_and_was_cleared_is_not_told() {
    let (mut world, id, addr) = world(Node::new());
    set(&mut world, id, Some(Duration::ZERO));
    set(&mut world, id, None);
    world.advance(millis(100));
    assert_eq!(names(world.handler()), [""; 0]);
    world.connect(addr);
    world.run();
    assert_eq!(names(world.handler()), ["accept"]);
    world.listener(id).unwrap().close();
    world.run();
    assert!(world.listener(id).is_none());
}

// Go 103, TestAcceptError: a rolling deadline of 5 ms, and nothing but timeouts.
#[test]
fn a_rolling_deadline_is_told_each_time() {
    let node = Node::new().accept_error(|cx: &mut Context<'_>, id| {
        let next = cx.now() + millis(5);
        cx.listener(id).unwrap().set_deadline(Some(next));
    });
    let (mut world, id, _) = world(node);
    set(&mut world, id, Some(millis(5)));
    world.advance(millis(52));
    assert_eq!(names(world.handler()), ["timeout"; 10]);
    assert!(
        world
            .handler()
            .accept_errors()
            .iter()
            .all(|(_, late)| *late)
    );
}

#[test]
fn one_entry_serves_the_deadline_and_the_back_off() {
    const EMFILE: i32 = 24;
    // The back-off comes first, then the other way round.
    for deadline in [15, 5] {
        let (mut world, id, addr) = world(Node::new());
        set(&mut world, id, Some(millis(deadline)));
        world.faults().fail(Call::Accept, EMFILE, 1);
        world.connect(addr);
        world.advance(millis(4));
        assert_eq!(names(world.handler()), ["error"]);
        world.advance(millis(96));
        let order = if deadline == 15 {
            ["error", "accept", "timeout"]
        } else {
            ["error", "timeout", "accept"]
        };
        assert_eq!(names(world.handler()), order);
    }
}

#[test]
fn a_deadline_runs_on_while_accepting_is_paused_and_is_moved_either_way() {
    let (mut world, id, addr) = world(Node::new());
    world.listener(id).unwrap().pause();
    set(&mut world, id, Some(millis(50)));
    set(&mut world, id, Some(millis(80)));
    set(&mut world, id, Some(millis(20)));
    world.connect(addr);
    world.advance(millis(19));
    assert_eq!(names(world.handler()), [""; 0]);
    world.advance(millis(200));
    assert_eq!(names(world.handler()), ["timeout"]);
    set(&mut world, id, Some(millis(10)));
    set(&mut world, id, Some(millis(30)));
    world.advance(millis(29));
    assert_eq!(names(world.handler()).len(), 1);
    world.advance(millis(1));
    world.listener(id).unwrap().resume();
    world.run();
    assert_eq!(names(world.handler()), ["timeout", "timeout", "accept"]);
}

#[test]
fn a_listener_that_is_closing_has_no_deadline() {
    let (mut world, id, addr) = world(Node::new());
    world.connect(addr);
    set(&mut world, id, Some(Duration::ZERO));
    world.listener(id).unwrap().close();
    set(&mut world, id, Some(Duration::ZERO));
    world.run();
    assert_eq!(names(world.handler()), ["accept"]);
}

#[test]
fn a_past_deadline_set_while_accepting_holds_the_next_client_back() {
    let mut first = true;
    let node = Node::new().accept(move |conn| {
        let listener = std::mem::take(&mut first);
        let past = conn.now();
        if listener {
            let id = LISTENER.with(std::cell::Cell::get).unwrap();
            conn.cx().listener(id).unwrap().set_deadline(Some(past));
        }
        Ok(())
    });
    thread_local!(static LISTENER: std::cell::Cell<Option<ListenerId>> = const { std::cell::Cell::new(None) });
    let (mut world, id, addr) = world(node);
    LISTENER.with(|cell| cell.set(Some(id)));
    for _ in 0..3 {
        world.connect(addr);
    }
    world.run();
    assert_eq!(
        names(world.handler()),
        ["accept", "timeout", "accept", "accept"]
    );
}

// On the real kernel.

// Go 109, TestTCPListenerSpecificMethods: 30 ns; Go 113, TestUnixListenerSpecificMethods.
#[test]
fn a_tiny_deadline_times_out_and_clients_are_served() {
    let dir = Dir::new();
    let mut host = Host::new(Node::echo());
    let tcp = host.listen("127.0.0.1:0");
    let unix = host.listen(dir.url("unix", "tiny"));
    for (n, id) in [tcp, unix].into_iter().enumerate() {
        let at = Instant::now() + Duration::from_nanos(30);
        host.0.listener(id).unwrap().set_deadline(Some(at));
        host.until_true("it is told", |node| node.accept_errors().len() == n + 1);
    }
    let path = dir.join("tiny");
    let expected = format!("accept unix {}: i/o timeout", path.display());
    assert_eq!(host.said().accept_errors()[1], (expected, true));
    let addr = host.0.listener(tcp).unwrap().local_addr();
    let mut streams: [Box<dyn ReadWrite>; 2] = [
        Box::new(TcpStream::connect(addr.as_socket_addr().unwrap()).unwrap()),
        Box::new(UnixStream::connect(path).unwrap()),
    ];
    for stream in &mut streams {
        stream.write_all(b"ping").unwrap();
    }
    host.until_true("both are served", |node| {
        let bytes = |n| node.accepted(n).map(|id| node.bytes(id));
        bytes(0).as_deref() == Some(b"ping") && bytes(1).as_deref() == Some(b"ping")
    });
    for stream in &mut streams {
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"ping");
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

// Go 10, TestAcceptTimeout, in real time.
#[test]
fn a_deadline_is_never_told_early() {
    let mut host = Host::with(Node::new(), Config::default());
    let id = host.listen(Listen::new("127.0.0.1:0").unwrap());
    let at = Instant::now() + millis(30);
    host.0.listener(id).unwrap().set_deadline(Some(at));
    host.until_true("it is told", |node| !node.accept_errors().is_empty());
    let told = host.said().times[0];
    assert!(told >= at && told < at + PATIENCE);
    host.settle();
    assert_eq!(host.said().accept_errors().len(), 1);
}
