//! Datagrams in a simulated world: what the network does to them, what the kernel refuses,
//! and that the loop forgets none.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::net::SocketAddr;
use std::time::Duration;

use windlass::sim::{Call, PacketClient, World};
use windlass::{Addr, Bind, Config, Context, Datagram, Delivery, Error, Handler, Socket, SocketId};

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

#[test]
fn unix_receivers_get_all_of_theirs_in_order_whoever_else_is_full() {
    const RECEIVERS: usize = 4;
    for seed in 1..60u64 {
        let mut world = World::new(seed, Echo::default());
        let socket = world.try_bind("unixgram:///run/echo").unwrap();
        let clients: [PacketClient; RECEIVERS] =
            std::array::from_fn(|n| world.unix_packet_client(format!("@client{n}")));
        let mut sent = [0u16; RECEIVERS];
        let mut state = seed;
        let mut below = |limit: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % limit
        };
        for _ in 0..200 {
            let chosen = below(RECEIVERS as u64) as usize;
            match below(8) {
                0 | 1 => world.stop_receiving(clients[chosen]),
                2 => world.resume_receiving(clients[chosen]),
                3 => world.advance(MS * below(60) as u32),
                _ => {
                    let to = world.packet_addr(clients[chosen]);
                    for _ in 0..below(8) {
                        let bytes = sent[chosen].to_be_bytes();
                        let mut view = world.socket(socket).unwrap();
                        assert_eq!(view.send_to(&bytes, to.clone()), Delivery::Queued);
                        sent[chosen] += 1;
                    }
                    world.run();
                }
            }
        }
        for client in clients {
            world.resume_receiving(client);
        }
        world.advance(Duration::from_secs(1));
        for (client, sent) in clients.into_iter().zip(sent) {
            let expected: Vec<_> = (0..sent).map(|it| it.to_be_bytes().to_vec()).collect();
            let came = bytes_of(world.received_datagrams(client));
            assert_eq!(came, expected, "seed {seed}");
        }
        assert_eq!(world.socket(socket).unwrap().queued(), 0);
    }
}

// Datagrams that the kernel merges.

/// Numbers without a pattern.
fn below(state: &mut u64) -> impl FnMut(u64) -> u64 + '_ {
    |limit| {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (*state >> 33) % limit
    }
}

/// So many datagrams, in runs of one size: what may be merged, and what may not.
fn runs(below: &mut impl FnMut(u64) -> u64, many: usize) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    while all.len() < many {
        let size = [0, 1, 2, 7, 100, 1200][below(6) as usize];
        for _ in 0..1 + below(150) {
            let number = all.len() as u32;
            all.push(
                number
                    .to_be_bytes()
                    .into_iter()
                    .cycle()
                    .take(size)
                    .collect(),
            );
        }
    }
    all
}

fn merging() -> Bind {
    Bind::new(HERE).unwrap().gro(true).receive_buffer(1 << 30)
}

#[test]
fn merged_datagrams_have_the_bounds_that_they_were_sent_with_whatever_the_split() {
    for seed in 1..40 {
        let mut state = seed;
        let mut below = below(&mut state);
        let mut config = Config::default();
        config.datagram_budget = 1 + below(300) as usize;
        config.datagram_batch = 1 + below(10) as usize;
        let mut world = World::with_config(seed, Echo::default(), config);
        let addr = world.bind(merging());
        let clients = [5000, 5001].map(|port| world.packet_client(far(port)));
        let (mut sent, mut from) = (Vec::new(), [Vec::new(), Vec::new()]);
        for bytes in runs(&mut below, 1_500) {
            // A run has its neighbours, and now and then somebody in between.
            let who = usize::from(below(40) == 0);
            world.send_datagram(clients[who], &addr, &bytes);
            from[who].push(bytes.clone());
            sent.push(bytes);
            if below(300) == 0 {
                world.run();
            }
        }
        world.run();
        assert_eq!(world.handler().heard, sent, "seed {seed}");
        for (client, from) in clients.into_iter().zip(from) {
            let came = bytes_of(world.received_datagrams(client));
            assert_eq!(came, from, "seed {seed}");
        }
        world.shutdown(Duration::from_secs(1));
    }
}

#[test]
fn a_merged_burst_is_one_receive_call_and_as_many_datagrams_as_ever() {
    for (gro, calls) in [(false, 8), (true, 1)] {
        let mut world = World::new(7, Echo::default());
        let addr = world.bind(Bind::new(HERE).unwrap().gro(gro));
        let client = world.packet_client(far(5000));
        world.clear_calls();
        for number in 0..240_u8 {
            world.send_datagram(client, &addr, &[number; 100]);
        }
        world.run();
        assert_eq!(world.calls(Call::Receive), calls);
        let stats = world.stats();
        assert_eq!((stats.datagrams_received, stats.bytes_read), (240, 24_000));
        assert_eq!(world.received_datagrams(client).len(), 240);
    }
}

/// Stops the socket, in its own way, after each datagram whose number is asked for.
struct Stops {
    after: Box<dyn Fn(usize) -> bool + Send>,
    close: bool,
    heard: Vec<u8>,
    truncated: usize,
}

impl Stops {
    fn new(close: bool, after: impl Fn(usize) -> bool + Send + 'static) -> Self {
        Self {
            after: Box::new(after),
            close,
            heard: Vec::new(),
            truncated: 0,
        }
    }
}

impl Handler for Stops {
    type Session = ();

    fn on_datagram(&mut self, socket: &mut Socket<'_>, datagram: &Datagram<'_>) {
        self.heard.push(datagram[0]);
        self.truncated += usize::from(datagram.is_truncated());
        if (self.after)(self.heard.len()) {
            if self.close {
                socket.close();
            } else {
                socket.pause();
            }
        }
    }
}

fn send_numbers(world: &mut World<Stops>, socket: SocketId, many: u8) {
    let addr = world.socket(socket).unwrap().local_addr().unwrap();
    let client = world.packet_client(far(0));
    for number in 0..many {
        world.send_datagram(client, &addr, &[number; 10]);
    }
    world.run();
}

#[test]
fn a_paused_socket_keeps_what_was_merged_and_goes_on_with_it() {
    for every in 1..130 {
        let stops = Stops::new(false, move |heard| heard.is_multiple_of(every));
        let mut world = World::new(7, stops);
        let socket = world.try_bind(merging()).unwrap();
        send_numbers(&mut world, socket, 200);
        let mut heard = 0;
        while heard < 200 {
            let now = world.handler().heard.len();
            assert_eq!(now, 200.min(heard + every), "it stops at once");
            heard = now;
            world.advance(MS);
            assert_eq!(world.handler().heard.len(), heard, "and stays so");
            world.socket(socket).unwrap().resume();
            world.run();
        }
        assert!(world.handler().heard.iter().copied().eq(0..200));
        world.check().unwrap();
    }
}

#[test]
fn a_socket_closed_amid_what_was_merged_hears_nothing_more_and_gives_the_memory_back() {
    for last in [1, 63, 64, 65, 199] {
        let mut world = World::new(7, Stops::new(true, move |heard| heard == last));
        let socket = world.try_bind(merging()).unwrap();
        send_numbers(&mut world, socket, 200);
        assert_eq!(world.handler().heard.len(), last);
        assert_eq!(world.stats().buffered, 0);
        world.shutdown(Duration::from_secs(1));
    }
}

#[test]
fn what_a_paused_socket_keeps_is_counted_until_it_is_closed() {
    let mut world = World::new(7, Stops::new(false, |heard| heard == 10));
    let socket = world.try_bind(merging()).unwrap();
    send_numbers(&mut world, socket, 200);
    assert_eq!(world.stats().buffered, 8 * 64 * 1024);
    world.socket(socket).unwrap().close();
    world.run();
    assert_eq!(world.stats().buffered, 0);
    assert_eq!(world.handler().heard.len(), 10);
}

#[test]
fn a_merged_flood_leaves_the_others_their_turn() {
    let mut config = Config::default();
    config.datagram_budget = 10;
    let mut world = World::with_config(7, Echo::default(), config);
    let mut sockets = Vec::new();
    for port in [7, 8] {
        let bind = Bind::new(format!("udp://127.0.0.1:{port}")).unwrap();
        sockets.push(world.bind(bind.gro(true)));
    }
    let client = world.packet_client(far(5000));
    for addr in &sockets {
        for _ in 0..100 {
            world.send_datagram(client, addr, &[addr.port().unwrap() as u8]);
        }
    }
    world.run();
    let heard = &world.handler().heard;
    assert_eq!(heard.len(), 200);
    let longest = heard.chunk_by(|a, b| a == b).map(<[_]>::len).max();
    assert_eq!(longest, Some(10));
}

#[test]
fn each_of_the_merged_is_cut_off_by_itself() {
    let mut config = Config::default();
    config.max_datagram = 4;
    let mut world = World::with_config(7, Stops::new(false, |_| false), config);
    let socket = world.try_bind(merging()).unwrap();
    send_numbers(&mut world, socket, 200);
    assert!(world.handler().heard.iter().copied().eq(0..200));
    assert_eq!(world.handler().truncated, 200);
    assert_eq!(world.socket(socket).unwrap().stats().truncated, 200);
}

#[test]
fn an_error_amid_merged_datagrams_loses_none() {
    for errno in [libc::ECONNREFUSED, libc::EINTR, libc::EAGAIN] {
        let mut config = Config::default();
        config.datagram_budget = 7;
        let mut world = World::with_config(7, Echo::default(), config);
        let addr = world.bind(merging());
        let client = world.packet_client(far(5000));
        world.faults().fail(Call::Receive, errno, 3);
        let sent: Vec<_> = (0..200_u8).map(|it| vec![it; 5]).collect();
        for bytes in &sent {
            world.send_datagram(client, &addr, bytes);
        }
        world.run();
        assert_eq!(world.handler().heard, sent, "errno {errno}");
    }
}

#[test]
fn who_cannot_merge_says_so_when_the_socket_is_opened() {
    let mut world = World::new(7, Echo::default());
    let unix = Bind::new("unixgram:///run/echo").unwrap().gro(true);
    let error = world.try_bind(unix).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOPROTOOPT));
    world.faults().fail(Call::SetOption, libc::ENOPROTOOPT, 2);
    assert!(world.try_bind(merging()).is_err(), "an old kernel");
    world.faults().clear();
    assert_eq!(world.open_descriptors(), 0);
}
