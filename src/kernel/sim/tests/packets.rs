//! Datagrams against what is known of UDP and of Unix datagrams on Linux.

use super::*;
use crate::address::UnixAddr;
use crate::kernel::sim::names::unix_name;
use crate::kernel::sim::packets::PacketPeer;
use crate::kernel::{Batch, BindSpec, Came, Packet, PacketOption};

const SOCKET: u64 = 400;

pub(super) fn at(text: &str) -> Addr {
    match text.parse::<SocketAddr>() {
        Ok(addr) => addr.into(),
        Err(_) => unix_name(Path::new(text)).into(),
    }
}

pub(super) fn bound(local: Option<&str>, remote: Option<&str>) -> BindSpec {
    BindSpec {
        transport: Transport::Datagrams,
        local: local.map(at),
        remote: remote.map(at),
        only_v6: false,
        mode: None,
        reuse_addr: false,
        reuse_port: false,
        broadcast: false,
        destinations: false,
        receive_buffer: None,
        send_buffer: None,
        prepare: None,
    }
}

pub(super) fn fault<T>(call: &'static str, code: i32) -> Result<T, Fault> {
    Err(Fault {
        call,
        errno: Errno(code),
    })
}

/// A host and its only registered socket.
struct Post {
    kernel: SimKernel,
    fd: Fd,
}

impl Post {
    fn new(spec: &BindSpec) -> Self {
        Self::on(SimKernel::new(1), spec)
    }

    fn on(mut kernel: SimKernel, spec: &BindSpec) -> Self {
        let fd = kernel.bind(spec).unwrap();
        let token = Token::from_bits(SOCKET);
        kernel.register(fd, token, Interest::ReadWrite).unwrap();
        let mut post = Self { kernel, fd };
        assert_eq!(post.poll(), [(SOCKET, W)]);
        post
    }

    fn poll(&mut self) -> Vec<(u64, Readiness)> {
        let mut events = Vec::new();
        self.kernel.poll(&mut events, Some(Duration::ZERO)).unwrap();
        events
            .iter()
            .map(|it| (it.token.bits(), it.ready))
            .collect()
    }

    fn client(&mut self, name: &str) -> PacketPeer {
        self.kernel.new_packet_peer(&at(name)).unwrap()
    }

    fn tell(&mut self, from: PacketPeer, to: &str, bytes: &[u8]) {
        self.kernel.packet_peer_send(from, &at(to), bytes).unwrap();
    }

    fn send(&mut self, bytes: &[u8], to: Option<&str>) -> Result<usize, Errno> {
        let to = to.map(at);
        let to = to.as_ref();
        self.kernel.send_packets(self.fd, &[Packet { bytes, to }])
    }

    /// What one receive call brings: from whom, and what.
    fn receive(&mut self) -> Result<Vec<(Addr, Vec<u8>)>, Errno> {
        let mut batch = Batch::new(8, 16);
        let Came { count, .. } = self.kernel.receive(self.fd, &mut batch)?;
        let all = (0..count).map(|at| batch.arrival(at));
        Ok(all
            .map(|(it, bytes)| (it.from.clone(), bytes.to_vec()))
            .collect())
    }

    fn heard(&mut self, client: PacketPeer) -> Vec<Vec<u8>> {
        let all = self.kernel.packet_peer_received(client);
        all.into_iter().map(|(_, bytes)| bytes).collect()
    }
}

#[test]
fn datagrams_come_whole_in_order_and_are_announced_once_each() {
    let mut post = Post::new(&bound(Some("0.0.0.0:53"), None));
    let client = post.client("10.0.0.9:5000");
    post.tell(client, "127.0.0.1:53", b"one");
    post.tell(client, "127.0.0.1:53", b"");
    assert_eq!(post.poll(), [(SOCKET, ready(&[R, W]))]);
    assert!(post.poll().is_empty(), "what waits is no news");
    post.tell(client, "127.0.0.1:53", b"three");
    assert_eq!(post.poll(), [(SOCKET, ready(&[R, W]))]);
    let from = at("10.0.0.9:5000");
    let all = [&b"one"[..], b"", b"three"].map(|it| (from.clone(), it.to_vec()));
    assert_eq!(post.receive().unwrap(), all);
    assert_eq!(post.receive(), errno(libc::EAGAIN));
    assert_eq!(post.send(b"reply", Some("10.0.0.9:5000")), Ok(1));
    let reply = (at("127.0.0.1:53"), b"reply".to_vec());
    assert_eq!(post.kernel.packet_peer_received(client), [reply]);
    assert_eq!(post.kernel.calls(Call::Receive), 2);
    assert_eq!(post.kernel.calls(Call::Send), 1);
}

#[test]
fn equal_datagrams_of_one_sender_come_merged_where_that_was_asked_for() {
    let mut post = Post::new(&bound(Some("0.0.0.0:53"), None));
    let [one, other] = ["10.0.0.9:5000", "10.0.0.9:5001"].map(|name| post.client(name));
    let merge = PacketOption::Merge;
    assert_eq!(post.kernel.set_packet_option(post.fd, merge), Ok(()));
    assert!(post.kernel.merges(post.fd));
    let sent: [(PacketPeer, &[u8]); 9] = [
        (one, b"11"),
        (one, b"22"),
        (one, b"3"),
        (one, b"44"),
        (other, b"55"),
        (one, b""),
        (one, b"66"),
        (one, b"77"),
        (one, b"888"),
    ];
    for (from, bytes) in sent {
        post.tell(from, "127.0.0.1:53", bytes);
    }
    let mut batch = Batch::new(8, 16);
    let came = post.kernel.receive(post.fd, &mut batch).unwrap();
    let all = (0..came.count).map(|at| batch.arrival(at));
    let all: Vec<_> = all.map(|(it, bytes)| (bytes, it.segment)).collect();
    // A shorter one ends what is merged, and so does another sender or a longer one.
    let expected: [(&[u8], usize); 6] = [
        (b"11223", 2),
        (b"44", 0),
        (b"55", 0),
        (b"", 0),
        (b"6677", 2),
        (b"888", 0),
    ];
    assert_eq!(all, expected);
    assert!(came.drained);
}

#[test]
fn what_is_longer_than_its_place_is_cut_and_says_so() {
    let mut post = Post::new(&BindSpec {
        destinations: true,
        ..bound(Some("[::]:53"), None)
    });
    let client = post.client("10.0.0.9:5000");
    post.tell(client, "127.0.0.3:53", b"123456");
    post.tell(client, "127.0.0.3:53", b"1234");
    let mut batch = Batch::new(1, 4);
    for truncated in [true, false] {
        let came = post.kernel.receive(post.fd, &mut batch).unwrap();
        assert_eq!((came.count, came.drained), (1, false), "no place is left");
        let (arrival, bytes) = batch.arrival(0);
        assert_eq!((bytes, arrival.truncated), (&b"1234"[..], truncated));
        assert_eq!(arrival.to, Some([127, 0, 0, 3].into()));
    }
}

#[test]
fn port_0_is_a_fresh_port_and_a_taken_one_is_in_use() {
    let mut post = Post::new(&bound(Some("127.0.0.1:0"), None));
    let taken = local(&mut post.kernel, post.fd);
    assert!(taken.port() > 0);
    let other = post.kernel.bind(&bound(Some("127.0.0.1:0"), None)).unwrap();
    assert_ne!(local(&mut post.kernel, other), taken);
    let wildcard = format!("0.0.0.0:{}", taken.port());
    for name in [taken.to_string(), wildcard.clone()] {
        let again = post.kernel.bind(&bound(Some(&name), None));
        assert_eq!(again, fault("bind", libc::EADDRINUSE));
    }
    assert_eq!(post.kernel.open_descriptors(), 2);
    let listener = ListenSpec {
        addr: taken.into(),
        ..spec(1)
    };
    assert!(
        post.kernel.listen(&listener).is_ok(),
        "TCP has its own ports"
    );
    post.kernel.close(post.fd);
    assert!(post.kernel.bind(&bound(Some(&wildcard), None)).is_ok());
}

#[test]
fn sockets_that_share_a_port_share_its_senders_and_a_sender_stays_where_it_was() {
    let shared = BindSpec {
        reuse_port: true,
        ..bound(Some("127.0.0.1:53"), None)
    };
    let mut post = Post::new(&shared);
    let second = post.kernel.bind(&shared).unwrap();
    for number in 0..32_u8 {
        let client = post.client(&format!("10.0.0.9:{}", 5000 + u16::from(number)));
        for _ in 0..2 {
            post.tell(client, "127.0.0.1:53", &[number]);
        }
    }
    let mut counts = [0, 0];
    for (fd, count) in [post.fd, second].into_iter().zip(&mut counts) {
        let mut batch = Batch::new(64, 4);
        *count = post.kernel.receive(fd, &mut batch).unwrap().count;
        assert!(count.is_multiple_of(2), "both of a sender or none");
    }
    assert_eq!(counts[0] + counts[1], 64);
    assert!(counts.iter().all(|&count| count > 0));
    let alone = bound(Some("127.0.0.1:53"), None);
    assert_eq!(post.kernel.bind(&alone), fault("bind", libc::EADDRINUSE));
}

#[test]
fn the_last_of_those_that_reuse_an_address_has_what_is_sent_to_one() {
    let reused = BindSpec {
        reuse_addr: true,
        ..bound(Some("0.0.0.0:53"), None)
    };
    let mut post = Post::new(&reused);
    post.fd = post.kernel.bind(&reused).unwrap();
    let client = post.client("10.0.0.9:5000");
    post.tell(client, "127.0.0.1:53", b"x");
    assert_eq!(post.receive().unwrap().len(), 1);
}

#[test]
fn a_connected_socket_hears_its_peer_alone_and_goes_before_others() {
    let mut post = Post::new(&BindSpec {
        reuse_addr: true,
        ..bound(Some("127.0.0.1:53"), Some("10.0.0.9:5000"))
    });
    let open = post.kernel.bind(&BindSpec {
        reuse_addr: true,
        ..bound(Some("127.0.0.1:53"), None)
    });
    assert_eq!(post.kernel.peer_addr(post.fd), Ok(at("10.0.0.9:5000")));
    let (peer, stranger) = (post.client("10.0.0.9:5000"), post.client("10.0.0.8:5000"));
    post.tell(stranger, "127.0.0.1:53", b"hear me");
    post.tell(peer, "127.0.0.1:53", b"hello");
    assert_eq!(
        post.receive(),
        Ok(vec![(at("10.0.0.9:5000"), b"hello".to_vec())])
    );
    post.fd = open.unwrap();
    assert_eq!(
        post.receive(),
        Ok(vec![(at("10.0.0.8:5000"), b"hear me".to_vec())])
    );
    assert_eq!(
        post.kernel.peer_addr(post.fd),
        errno(libc::ENOTCONN),
        "it has no peer"
    );
}

#[test]
fn a_connected_socket_is_told_once_that_nobody_is_there() {
    let mut post = Post::new(&bound(None, Some("192.0.2.1:9")));
    let name = local(&mut post.kernel, post.fd);
    assert_eq!(
        (name.ip(), name.port() > 0),
        (Ipv4Addr::LOCALHOST.into(), true)
    );
    for next in 0..3 {
        assert_eq!(post.send(b"anybody?", None), Ok(1));
        assert_eq!(post.poll(), [(SOCKET, ready(&[W, Readiness::ERROR]))]);
        let told = match next {
            0 => post.receive().map(|_| 0),
            1 => post.send(b"hello?", None),
            _ => Err(post.kernel.take_error(post.fd).unwrap()),
        };
        assert_eq!(told, errno(libc::ECONNREFUSED));
        assert_eq!(post.receive(), errno(libc::EAGAIN));
    }
    assert_eq!(
        post.send(b"elsewhere", Some("192.0.2.2:9")),
        Ok(1),
        "as Linux"
    );
    assert_eq!(
        post.receive(),
        errno(libc::EAGAIN),
        "nobody tells of others"
    );
}

#[test]
fn the_network_takes_its_time_both_ways() {
    let mut post = Post::new(&bound(None, Some("192.0.2.1:9")));
    post.kernel.set_latency(Duration::from_millis(5));
    post.send(b"anybody?", None).unwrap();
    assert!(post.poll().is_empty());
    let mut events = Vec::new();
    post.kernel.poll(&mut events, None).unwrap();
    assert_eq!(post.kernel.elapsed(), Duration::from_millis(10));
    assert_eq!(post.receive(), errno(libc::ECONNREFUSED));
    post.send(b"anybody?", None).unwrap();
    let late = post.client("192.0.2.1:9");
    post.kernel.advance(Duration::from_millis(5));
    assert_eq!(post.heard(late), [b"anybody?"]);
}

#[test]
fn an_address_is_needed_and_must_be_reachable() {
    let mut post = Post::new(&bound(Some("127.0.0.1:53"), None));
    let rows = [
        (None, libc::EDESTADDRREQ),
        (Some("[::1]:53"), libc::EAFNOSUPPORT),
        (Some("10.0.0.9:0"), libc::EINVAL),
        (Some("255.255.255.255:53"), libc::EACCES),
    ];
    for (to, code) in rows {
        assert_eq!(post.send(b"x", to), errno(code), "{to:?}");
    }
    let six = bound(Some("[::1]:53"), None);
    post.fd = post.kernel.bind(&six).unwrap();
    assert_eq!(
        post.send(b"x", Some("10.0.0.9:1")),
        errno(libc::ENETUNREACH)
    );
    let raw = BindSpec {
        transport: Transport::Raw(1),
        ..bound(Some("127.0.0.1:0"), None)
    };
    assert_eq!(post.kernel.bind(&raw), fault("socket", libc::EPERM));
}

#[test]
fn a_client_of_either_family_reaches_a_wildcard_of_both() {
    let mut post = Post::new(&bound(Some("[::]:53"), None));
    for name in ["10.0.0.9:5000", "[2001:db8::9]:5000"] {
        let client = post.client(name);
        post.tell(client, "[::]:53", b"x");
        assert_eq!(post.receive(), Ok(vec![(at(name), b"x".to_vec())]));
        assert_eq!(post.send(b"reply", Some(name)), Ok(1));
        assert_eq!(post.heard(client), [b"reply"]);
    }
}

#[test]
fn the_longest_datagram_is_what_sixteen_bits_can_say() {
    let mut post = Post::new(&bound(Some("[::]:53"), None));
    for (to, most) in [("10.0.0.9:1", 65_507), ("[2001:db8::9]:1", 65_527)] {
        let client = post.client(to);
        let bytes = vec![7; most + 1];
        assert_eq!(post.send(&bytes, Some(to)), errno(libc::EMSGSIZE));
        assert_eq!(post.send(&bytes[..most], Some(to)), Ok(1));
        assert_eq!(post.heard(client)[0].len(), most);
    }
}

#[test]
fn a_full_receive_queue_drops_silently() {
    let mut post = Post::new(&BindSpec {
        receive_buffer: Some(10),
        ..bound(Some("127.0.0.1:53"), None)
    });
    let client = post.client("10.0.0.9:5000");
    for bytes in [&b"123456"[..], b"7890", b"x"] {
        post.tell(client, "127.0.0.1:53", bytes);
    }
    assert_eq!(post.receive().unwrap().len(), 2);
    post.tell(client, "127.0.0.1:53", b"longer than the queue");
    assert_eq!(post.receive().unwrap().len(), 1, "one always fits");
}

#[test]
fn full_send_buffers_refuse_until_an_edge() {
    let mut post = Post::new(&bound(Some("127.0.0.1:53"), None));
    let client = post.client("10.0.0.9:5000");
    post.kernel.set_send_buffers_full(true);
    assert_eq!(post.send(b"x", Some("10.0.0.9:5000")), errno(libc::EAGAIN));
    assert!(post.poll().is_empty());
    post.kernel.set_send_buffers_full(false);
    assert_eq!(post.poll(), [(SOCKET, W)]);
    assert_eq!(post.send(b"x", Some("10.0.0.9:5000")), Ok(1));
    assert!(post.poll().is_empty(), "room is news only after a refusal");
    assert_eq!(post.heard(client), [b"x"]);
}

#[test]
fn scripted_errnos_have_no_other_effect_and_eagain_brings_an_edge() {
    let mut post = Post::new(&bound(Some("127.0.0.1:53"), None));
    let client = post.client("10.0.0.9:5000");
    post.tell(client, "127.0.0.1:53", b"x");
    post.poll();
    for code in [libc::EINTR, libc::ENOMEM, libc::EAGAIN] {
        post.kernel.fail(Call::Receive, Errno(code), 1);
        assert_eq!(post.receive(), errno(code));
    }
    assert_eq!(post.poll(), [(SOCKET, ready(&[R, W]))]);
    assert_eq!(post.receive().unwrap().len(), 1);
    for code in [libc::ENOBUFS, libc::EPERM, libc::EAGAIN] {
        post.kernel.fail(Call::Send, Errno(code), 1);
        assert_eq!(post.send(b"x", Some("10.0.0.9:5000")), errno(code));
    }
    assert_eq!(post.poll(), [(SOCKET, W)]);
    assert!(post.heard(client).is_empty());
}

#[test]
fn a_batch_can_be_cut_short_by_the_system_or_by_an_error_behind_the_first() {
    let mut post = Post::new(&bound(Some("127.0.0.1:53"), None));
    let client = post.client("10.0.0.9:5000");
    let to = at("10.0.0.9:5000");
    let long = vec![0; 65_508];
    let mut packets = [&b"one"[..], b"two", b"three"].map(|bytes| Packet {
        bytes,
        to: Some(&to),
    });
    post.kernel.short_batches(Some(2));
    assert_eq!(post.kernel.send_packets(post.fd, &packets), Ok(2));
    post.kernel.short_batches(None);
    packets[1].bytes = &long;
    assert_eq!(post.kernel.send_packets(post.fd, &packets), Ok(1));
    packets[0].bytes = &long;
    let none = post.kernel.send_packets(post.fd, &packets);
    assert_eq!(none, errno(libc::EMSGSIZE));
    assert_eq!(post.heard(client), [b"one", b"two", b"one"]);
    for _ in 0..3 {
        post.tell(client, "127.0.0.1:53", b"x");
    }
    let mut batch = Batch::new(8, 16);
    for (most, count, drained) in [(Some(1), 1, false), (None, 2, true)] {
        post.kernel.short_batches(most);
        let came = post.kernel.receive(post.fd, &mut batch);
        assert_eq!(came, Ok(Came { count, drained }));
    }
}

#[test]
fn the_weather_loses_repeats_and_shuffles() {
    let run = |seed: u64, set: fn(&mut SimKernel)| {
        let mut kernel = SimKernel::new(seed);
        set(&mut kernel);
        let mut post = Post::on(kernel, &bound(Some("127.0.0.1:53"), None));
        let client = post.client("10.0.0.9:5000");
        for number in 0..100 {
            post.send(&[number], Some("10.0.0.9:5000")).unwrap();
        }
        post.kernel.advance(Duration::from_millis(30));
        let heard = post.heard(client);
        heard.into_iter().map(|it| it[0]).collect::<Vec<_>>()
    };
    let all: Vec<u8> = (0..100).collect();
    assert_eq!(run(1, |_| ()), all);
    let lossy = run(1, |it| it.set_loss(4));
    assert!((50..100).contains(&lossy.len()), "{}", lossy.len());
    assert!(run(1, |it| it.set_loss(1)).is_empty());
    let doubled = run(1, |it| it.set_duplicates(4));
    assert!((101..150).contains(&doubled.len()), "{}", doubled.len());
    let mut shuffled = run(1, |it| it.set_disorder(Duration::from_millis(30)));
    assert_ne!(shuffled, all);
    assert_eq!(
        shuffled,
        run(1, |it| it.set_disorder(Duration::from_millis(30)))
    );
    shuffled.sort_unstable();
    assert_eq!(shuffled, all);
}

#[test]
fn a_group_is_heard_by_those_who_joined_it() {
    let mut post = Post::new(&bound(Some("0.0.0.0:53"), None));
    let group = IpAddr::from([239, 1, 2, 3]);
    let (member, other) = (post.client("10.0.0.9:53"), post.client("10.0.0.8:53"));
    let join = PacketOption::Join(group, 0);
    let leave = PacketOption::Leave(group, LOOPBACK_INDEX);
    let mut set = |option| post.kernel.set_packet_option(post.fd, option);
    assert_eq!(set(leave), errno(libc::EADDRNOTAVAIL));
    assert_eq!(set(join), Ok(()));
    assert_eq!(set(join), errno(libc::EADDRINUSE));
    let far = PacketOption::Join(group, 7);
    assert_eq!(set(far), errno(libc::ENODEV));
    let one = PacketOption::Join([10, 0, 0, 1].into(), 0);
    assert_eq!(set(one), errno(libc::EINVAL));
    set(PacketOption::MulticastTtl(4)).unwrap();
    assert_eq!(
        post.kernel.packet_options(post.fd),
        [join, PacketOption::MulticastTtl(4)]
    );
    assert_eq!(post.kernel.interface_index("lo"), Some(LOOPBACK_INDEX));
    assert_eq!(post.kernel.interface_index("eth0"), None);

    post.tell(other, "239.1.2.3:53", b"to all");
    assert_eq!(post.receive().unwrap().len(), 1);
    post.kernel.packet_peer_join(member, group).unwrap();
    post.send(b"answer", Some("239.1.2.3:53")).unwrap();
    assert_eq!(post.heard(member), [b"answer"]);
    assert!(post.heard(other).is_empty());
    assert_eq!(post.receive().unwrap().len(), 1, "it hears itself");
    let mut set = |option| post.kernel.set_packet_option(post.fd, option);
    set(PacketOption::MulticastLoop(false)).unwrap();
    post.send(b"answer", Some("239.1.2.3:53")).unwrap();
    assert_eq!(post.receive(), errno(libc::EAGAIN));
    assert_eq!(post.heard(member).len(), 1);
    let mut set = |option| post.kernel.set_packet_option(post.fd, option);
    assert_eq!(set(leave), Ok(()));
    post.tell(other, "239.1.2.3:53", b"to all");
    assert_eq!(post.receive(), errno(libc::EAGAIN));
}

#[test]
fn a_broadcast_is_heard_by_everybody_at_that_port() {
    let mut post = Post::new(&BindSpec {
        broadcast: true,
        ..bound(Some("0.0.0.0:53"), None)
    });
    let (there, elsewhere) = (post.client("10.0.0.9:67"), post.client("10.0.0.9:68"));
    assert_eq!(post.send(b"hello", Some("255.255.255.255:67")), Ok(1));
    assert_eq!(post.heard(there), [b"hello"]);
    assert!(post.heard(elsewhere).is_empty());
}

#[test]
fn unix_datagrams_go_by_name_and_come_from_one() {
    let mut post = Post::new(&bound(Some("/run/log"), None));
    let named = post.client("@client");
    let nobody = post.kernel.new_packet_peer(&UnixAddr::UNNAMED.into());
    post.tell(named, "/run/log", b"one");
    post.tell(nobody.unwrap(), "/run/log", b"");
    assert_eq!(post.poll(), [(SOCKET, ready(&[R, W]))]);
    let unnamed = Addr::from(UnixAddr::UNNAMED);
    let all = vec![(at("@client"), b"one".to_vec()), (unnamed, Vec::new())];
    assert_eq!(post.receive(), Ok(all));
    assert_eq!(post.send(b"reply", Some("@client")), Ok(1));
    let reply = (at("/run/log"), b"reply".to_vec());
    assert_eq!(post.kernel.packet_peer_received(named), [reply]);
    let again = post.kernel.bind(&bound(Some("/run/log"), None));
    assert_eq!(again, fault("bind", libc::EADDRINUSE));
}

#[test]
fn a_unix_datagram_that_nobody_takes_fails_at_once() {
    let mut post = Post::new(&bound(Some("/run/log"), None));
    let stale = post.client("/run/stale");
    post.kernel.packet_peer_close(stale);
    let rows = [
        (None, libc::ENOTCONN),
        (Some("/run/nothing"), libc::ENOENT),
        (Some("@nothing"), libc::ECONNREFUSED),
        (Some("/run/stale"), libc::ECONNREFUSED),
        (Some("127.0.0.1:53"), libc::EINVAL),
    ];
    for (to, code) in rows {
        assert_eq!(post.send(b"x", to), errno(code), "{to:?}");
    }
    let stream = ListenSpec {
        addr: at("/run/stream"),
        ..spec(1)
    };
    post.kernel.listen(&stream).unwrap();
    let result = post.send(b"x", Some("/run/stream"));
    assert_eq!(result, errno(libc::EPROTOTYPE));
    let long = vec![0; 212_993];
    post.client("/run/client");
    assert_eq!(post.send(&long, Some("/run/client")), errno(libc::EMSGSIZE));
    assert_eq!(post.send(&long[1..], Some("/run/client")), Ok(1));
    let missing = post.kernel.bind(&bound(None, Some("/run/nothing")));
    assert_eq!(missing, fault("connect", libc::ENOENT));
}

#[test]
fn a_full_unix_queue_tells_of_room_only_whoever_is_connected_to_it() {
    for connected in [true, false] {
        let mut kernel = SimKernel::new(1);
        let reader = kernel.new_packet_peer(&at("/run/log")).unwrap();
        kernel.packet_peer_pause(reader, true);
        let remote = connected.then_some("/run/log");
        let mut post = Post::on(kernel, &bound(Some("@sender"), remote));
        let to = (!connected).then_some("/run/log");
        for _ in 0..10 {
            assert_eq!(post.send(b"x", to), Ok(1));
        }
        assert_eq!(post.send(b"x", to), errno(libc::EAGAIN));
        assert_eq!(post.kernel.state_of(post.fd) == W, !connected);
        post.kernel.packet_peer_pause(reader, false);
        assert_eq!(post.heard(reader).len(), 10);
        let edges = post.poll();
        assert_eq!(edges.is_empty(), !connected, "{edges:?}");
        assert_eq!(post.send(b"x", to), Ok(1));
    }
}

#[test]
fn a_socket_that_receives_or_closes_makes_room_for_those_connected_to_it() {
    for closes in [false, true] {
        let mut kernel = SimKernel::new(1);
        let reader = kernel.bind(&bound(Some("/run/log"), None)).unwrap();
        let mut post = Post::on(kernel, &bound(None, Some("/run/log")));
        while post.send(b"x", None).is_ok() {}
        assert!(post.poll().is_empty());
        if closes {
            post.kernel.close(reader);
        } else {
            let mut batch = Batch::new(1, 1);
            post.kernel.receive(reader, &mut batch).unwrap();
        }
        assert_eq!(post.poll(), [(SOCKET, W)]);
        assert_eq!(post.send(b"x", None).is_ok(), !closes);
    }
}

#[test]
fn a_client_has_a_name_of_its_own() {
    let mut post = Post::new(&bound(Some("127.0.0.1:53"), None));
    post.client("10.0.0.9:53");
    for taken in ["127.0.0.1:53", "10.0.0.9:53"] {
        let again = post.kernel.new_packet_peer(&at(taken));
        assert_eq!(again, errno(libc::EADDRINUSE));
    }
    let wide = bound(Some("0.0.0.0:5353"), None);
    post.client("10.0.0.9:5353");
    assert!(post.kernel.bind(&wide).is_ok(), "its host is another");
}

#[test]
fn a_unix_peer_that_closes_refuses_once_and_is_forgotten() {
    let mut kernel = SimKernel::new(1);
    let reader = kernel.new_packet_peer(&at("/run/log")).unwrap();
    let mut post = Post::on(kernel, &bound(None, Some("/run/log")));
    post.kernel.packet_peer_close(reader);
    assert_eq!(post.send(b"x", None), errno(libc::ECONNREFUSED));
    assert_eq!(post.send(b"x", None), errno(libc::ENOTCONN));
}

#[test]
fn who_is_connected_to_somebody_hears_nobody_else() {
    let mut post = Post::new(&bound(Some("/run/one"), None));
    post.client("/run/two");
    let pair = bound(Some("/run/three"), Some("/run/two"));
    post.kernel.bind(&pair).unwrap();
    assert_eq!(post.send(b"x", Some("/run/three")), errno(libc::EPERM));
    let third = post.kernel.bind(&bound(None, Some("/run/three")));
    assert_eq!(third, fault("connect", libc::EPERM));
}

#[test]
fn binding_fails_under_the_name_of_its_step_and_leaves_nothing_open() {
    let mut kernel = SimKernel::new(1);
    let both = bound(Some("127.0.0.1:53"), Some("10.0.0.9:1"));
    for (call, name) in [
        (Call::Socket, "socket"),
        (Call::SetOption, "setsockopt"),
        (Call::Bind, "bind"),
        (Call::Connect, "connect"),
    ] {
        kernel.fail(call, Errno(libc::ENOMEM), 1);
        assert_eq!(kernel.bind(&both), fault(name, libc::ENOMEM));
        assert_eq!(kernel.open_descriptors(), 0);
    }
    assert!(kernel.bind(&both).is_ok());
    kernel.set_descriptor_limit(1, 1);
    let other = bound(None, Some("10.0.0.9:1"));
    assert_eq!(kernel.bind(&other), fault("socket", libc::EMFILE));
    assert_eq!(kernel.violations().0, 0);
}

#[test]
fn verbs_of_another_kind_and_of_a_closed_socket_are_misuse() {
    let mut post = Post::new(&bound(Some("127.0.0.1:53"), None));
    assert_eq!(post.kernel.read(post.fd, &mut [0]), errno(libc::EINVAL));
    let none = post.kernel.send_packets(post.fd, &[]);
    assert_eq!(none, errno(libc::EINVAL));
    let listener = post.kernel.listen(&spec(1)).unwrap();
    let mut batch = Batch::new(1, 1);
    assert_eq!(
        post.kernel.receive(listener, &mut batch),
        errno(libc::EINVAL)
    );
    post.kernel.close(post.fd);
    assert_eq!(post.receive(), errno(libc::EBADF));
    assert_eq!(post.send(b"x", Some("10.0.0.9:1")), errno(libc::EBADF));
    post.kernel.close(post.fd);
    assert_eq!(post.kernel.violations().0, 6);
}

#[test]
fn nothing_arrives_at_a_socket_that_was_closed() {
    let mut post = Post::new(&bound(Some("127.0.0.1:53"), None));
    post.kernel.set_latency(Duration::from_millis(5));
    let client = post.client("10.0.0.9:5000");
    post.tell(client, "127.0.0.1:53", b"late");
    post.kernel.close(post.fd);
    post.kernel.advance(Duration::from_millis(5));
    assert!(post.poll().is_empty());
    assert_eq!(post.kernel.next_arrival(), None);
}

/// Random datagrams between sockets and clients of both families; answers the trace.
#[allow(
    clippy::too_many_lines,
    reason = "one arm for each thing that may happen"
)]
fn random_post(seed: u64) -> Vec<String> {
    let mut kernel = SimKernel::new(seed);
    kernel.set_trace(true);
    let places = ["127.0.0.1:1", "0.0.0.0:2", "[::]:3", "/run/a", "@b"];
    let others = ["10.0.0.9:1", "[2001:db8::9]:2", "/run/c"];
    let clients = others.map(|it| kernel.new_packet_peer(&at(it)).unwrap());
    let (mut fds, mut sent, mut got) = (Vec::<Fd>::new(), 0, 0);
    for _ in 0..400 {
        let roll = kernel.random();
        let some = (roll >> 32) as usize;
        let client = clients[some % clients.len()];
        let here = at(places[some % places.len()]);
        let there = at(others[some % others.len()]);
        let fd = (!fds.is_empty()).then(|| fds[some % fds.len()]);
        match (roll % 11, fd) {
            (0, _) => {
                let remote = some.is_multiple_of(3).then(|| there.to_string());
                let local = here.to_string();
                let spec = bound(Some(&local), remote.as_deref());
                if let Ok(fd) = kernel.bind(&spec) {
                    let token = Token::from_bits(fd.0 as u64);
                    kernel.register(fd, token, Interest::ReadWrite).unwrap();
                    fds.push(fd);
                }
            }
            (1 | 2, Some(fd)) => {
                let mut batch = Batch::new(1 + some % 4, 8);
                let came = kernel.receive(fd, &mut batch);
                got += came.map_or(0, |it| it.count);
            }
            (3 | 4, Some(fd)) => {
                let to = (!some.is_multiple_of(4)).then_some(&there);
                let packet = Packet {
                    bytes: &[7; 12][..some % 12],
                    to,
                };
                let packets = vec![packet; 1 + some % 5];
                sent += kernel.send_packets(fd, &packets).unwrap_or(0);
            }
            (5 | 6, _) => {
                let bytes = &[9; 12][..some % 12];
                sent += usize::from(kernel.packet_peer_send(client, &here, bytes).is_ok());
            }
            (7, _) => kernel.packet_peer_pause(client, some.is_multiple_of(2)),
            (8, _) => {
                kernel.set_latency(Duration::from_millis(some as u64 % 3));
                kernel.set_loss(some as u64 % 5);
                kernel.set_duplicates(some as u64 % 7);
                kernel.set_disorder(Duration::from_millis(some as u64 % 4));
                kernel.set_send_buffers_full(some.is_multiple_of(9));
            }
            (9, Some(fd)) if some.is_multiple_of(4) => {
                kernel.close(fd);
                fds.retain(|&open| open != fd);
            }
            _ => {
                let wait = Duration::from_millis(some as u64 % 4);
                kernel.poll(&mut Vec::new(), Some(wait)).unwrap();
            }
        }
        got += kernel.packet_peer_received(client).len();
    }
    assert_eq!(kernel.violations().0, 0);
    assert!(got <= 2 * sent, "{got} of {sent}: from nowhere?");
    kernel.trace()
}

#[test]
fn a_run_of_datagrams_follows_from_its_seed() {
    for seed in 0..50 {
        assert_eq!(random_post(seed), random_post(seed), "seed {seed}");
    }
    assert_ne!(random_post(1), random_post(2));
}
