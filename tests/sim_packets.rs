//! Datagrams in a simulated world: what the network does to them, what the kernel refuses,
//! and that the loop forgets none.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::net::SocketAddr;
use std::time::Duration;

use windlass::sim::{Call, PacketClient, World};
use windlass::{Addr, Bind, Context, Datagram, Error, Handler, Socket, SocketId};

const HERE: &str = "udp://127.0.0.1:7";
const MS: Duration = Duration::from_millis(1);

/// Answers every datagram with its own bytes, and keeps what it is told.
#[derive(Default)]
struct Echo {
    heard: Vec<Vec<u8>>,
    destinations: Vec<Addr>,
    errors: Vec<i32>,
}

impl Handler for Echo {
    type Session = ();

    fn on_datagram(&mut self, socket: &mut Socket<'_>, datagram: &Datagram<'_>) {
        self.heard.push(datagram.to_vec());
        if let Some(to) = datagram.to() {
            self.destinations.push(SocketAddr::from((to, 0)).into());
        }
        if socket.peer_addr().is_some() {
            socket.send(datagram.bytes());
        } else {
            socket.send_to(datagram.bytes(), datagram.from().clone());
        }
    }

    fn on_socket_error(&mut self, _: &mut Context<'_>, _: SocketId, error: &Error) {
        self.errors.push(error.raw_os_error().unwrap());
    }
}

fn far(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 9], port))
}

/// A world that echoes, its address, and a client.
fn echo() -> (World<Echo>, Addr, PacketClient) {
    let mut world = World::new(7, Echo::default());
    let addr = world.bind(HERE);
    let client = world.packet_client(far(5000));
    (world, addr, client)
}

fn bytes_of(all: Vec<(Addr, Vec<u8>)>) -> Vec<Vec<u8>> {
    all.into_iter().map(|(_, bytes)| bytes).collect()
}

#[test]
fn many_datagrams_come_back_whole_and_in_order() {
    let (mut world, addr, client) = echo();
    let sent: Vec<Vec<u8>> = (0..300_u16).map(|it| it.to_be_bytes().to_vec()).collect();
    for bytes in &sent {
        world.send_datagram(client, &addr, bytes);
    }
    world.run();
    let replies = world.received_datagrams(client);
    assert!(replies.iter().all(|(from, _)| *from == addr));
    assert_eq!(bytes_of(replies), sent);
    assert_eq!(world.packet_addr(client), Addr::from(far(5000)));
    world.shutdown(Duration::from_secs(1));
}

#[test]
fn a_system_that_moves_fewer_at_a_time_is_asked_more_often() {
    let (mut world, addr, client) = echo();
    for (most, few) in [(Some(1), false), (None, true)] {
        world.faults().short_batches(most);
        world.clear_calls();
        for number in 0..9 {
            world.send_datagram(client, &addr, &[number]);
        }
        world.run();
        for call in [Call::Receive, Call::Send] {
            assert_eq!(world.calls(call) < 9, few, "{call:?}");
        }
        assert_eq!(world.received_datagrams(client).len(), 9);
    }
}

#[test]
fn the_weather_is_that_of_the_seed() {
    let run = |seed: u64| {
        let mut world = World::new(seed, Echo::default());
        let addr = world.bind(HERE);
        let client = world.packet_client(far(5000));
        let faults = world.faults().latency(5 * MS).loss(5).duplicates(5);
        faults.reordering(20 * MS);
        for number in 0..200 {
            world.send_datagram(client, &addr, &[number]);
            world.advance(MS);
        }
        world.run();
        bytes_of(world.received_datagrams(client))
    };
    for seed in 0..20 {
        let heard = run(seed);
        assert_eq!(heard, run(seed), "seed {seed}");
        assert!(!heard.is_sorted() && heard.len() > 100, "seed {seed}");
    }
    assert_ne!(run(1), run(2));
}

#[test]
fn a_connected_socket_is_told_that_nobody_is_there_and_lives_on() {
    let mut world = World::new(7, Echo::default());
    let bind = Bind::connect("udp://10.0.0.9:5000").unwrap();
    let id = world.try_bind(bind).unwrap();
    world.faults().latency(5 * MS);
    world.socket(id).unwrap().send(b"anybody?");
    world.run();
    assert_eq!(world.handler().errors, [libc::ECONNREFUSED]);
    let client = world.packet_client(far(5000));
    let addr = world.socket(id).unwrap().local_addr().unwrap();
    world.send_datagram(client, &addr, b"now, yes");
    world.run();
    assert_eq!(world.handler().heard, [b"now, yes"]);
    assert_eq!(bytes_of(world.received_datagrams(client)), [b"now, yes"]);
    world.close_packet_client(client);
    world.socket(id).unwrap().send(b"still there?");
    world.run();
    assert_eq!(world.handler().errors, [libc::ECONNREFUSED; 2]);
}

#[test]
fn full_send_buffers_hold_replies_back_until_there_is_room() {
    let (mut world, addr, client) = echo();
    world.faults().send_buffers_full(true);
    for number in 0..40 {
        world.send_datagram(client, &addr, &[number]);
    }
    world.run();
    assert!(world.received_datagrams(client).is_empty());
    world.faults().send_buffers_full(false);
    world.run();
    assert_eq!(world.received_datagrams(client).len(), 40);
}

#[test]
fn no_errno_of_receiving_or_sending_ends_a_socket_that_can_go_on() {
    for code in [libc::EINTR, libc::EAGAIN, libc::ENOMEM, libc::ENOBUFS] {
        let (mut world, addr, client) = echo();
        world.faults().fail(Call::Receive, code, 2);
        world.faults().fail(Call::Send, code, 2);
        world.send_datagram(client, &addr, b"x");
        world.advance(Duration::from_secs(1));
        assert_eq!(world.faults().pending(), 0, "errno {code}");
        assert_eq!(world.received_datagrams(client).len(), 1, "errno {code}");
    }
}

#[test]
fn a_group_reaches_the_loop_and_the_clients_that_joined_it() {
    let mut world = World::new(7, Echo::default());
    let bind = Bind::new("udp://0.0.0.0:7").unwrap();
    world.bind(bind.join([239, 0, 0, 7], 0).destinations(true));
    let client = world.packet_client(far(7));
    let group = Addr::from(SocketAddr::from(([239, 0, 0, 7], 7)));
    world.join_group(client, [239, 0, 0, 7]);
    world.send_datagram(client, &group, b"all");
    world.run();
    assert_eq!(world.handler().heard, [b"all"]);
    let to = Addr::from(SocketAddr::from(([239, 0, 0, 7], 0)));
    assert_eq!(world.handler().destinations, [to]);
    // Its own, for it is a member, and the reply.
    assert_eq!(world.received_datagrams(client).len(), 2);
}

#[test]
fn a_unix_receiver_that_is_full_is_sent_the_rest_when_it_reads() {
    let mut world = World::new(7, Echo::default());
    let addr = world.bind("unixgram:///run/echo");
    let client = world.unix_packet_client("@client");
    world.stop_receiving(client);
    for number in 0..40 {
        world.send_datagram(client, &addr, &[number]);
        world.run();
    }
    world.advance(Duration::from_millis(300));
    world.resume_receiving(client);
    assert_eq!(world.received_datagrams(client).len(), 10);
    world.advance(Duration::from_secs(1));
    let rest = bytes_of(world.received_datagrams(client));
    assert_eq!(rest, (10..40).map(|it| vec![it]).collect::<Vec<_>>());
    let nobody = world.unix_packet_client("");
    let nothing = Addr::from_unix_path("/run/nothing").unwrap();
    let nowhere = world.try_send_datagram(nobody, &nothing, b"x");
    assert_eq!(nowhere.unwrap_err().kind(), std::io::ErrorKind::NotFound);
    world.shutdown(Duration::from_secs(1));
}

#[test]
#[should_panic(expected = "Address already in use")]
fn a_name_that_somebody_has_is_not_given_twice() {
    let (mut world, _, _) = echo();
    world.packet_client(far(5000));
}
