//! Datagrams on the loopback interface and on Unix sockets.

use super::*;
use crate::kernel::Arrival;
#[cfg(not(target_os = "macos"))]
use crate::kernel::MAX_PACKETS;

/// A group of IPv4 and one of IPv6 for one test alone: on Linux a socket hears a group that
/// any other socket of the host has joined.
fn groups(number: u8) -> (IpAddr, IpAddr) {
    let v4 = Ipv4Addr::new(239, 255, 77, number);
    let v6 = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0x7777, number.into());
    (v4.into(), v6.into())
}

const ICMP: u8 = 1;

pub(super) fn datagrams() -> BindSpec {
    BindSpec {
        transport: Transport::Datagrams,
        local: None,
        remote: None,
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

fn bound_to(local: Addr) -> BindSpec {
    BindSpec {
        local: Some(local),
        ..datagrams()
    }
}

fn on(ip: impl Into<IpAddr>) -> Addr {
    Addr::from(SocketAddr::new(ip.into(), 0))
}

fn here() -> BindSpec {
    bound_to(on(Ipv4Addr::LOCALHOST))
}

fn opened(kernel: &mut OsKernel, spec: &BindSpec) -> (Fd, Addr) {
    let fd = kernel.bind(spec).unwrap();
    let addr = kernel.local_addr(fd).unwrap();
    (fd, addr)
}

/// `None`, said aloud, if this machine has no IPv6.
fn opened_v6(kernel: &mut OsKernel, spec: &BindSpec) -> Option<(Fd, Addr)> {
    match kernel.bind(spec) {
        Ok(fd) => Some((fd, kernel.local_addr(fd).unwrap())),
        Err(fault) => {
            eprintln!("no IPv6 on this machine, nothing tested: {fault:?}");
            None
        }
    }
}

fn packet<'a>(bytes: &'a [u8], to: &'a Addr) -> Packet<'a> {
    Packet {
        bytes,
        to: Some(to),
    }
}

fn send(kernel: &mut OsKernel, fd: Fd, bytes: &[u8], to: &Addr) {
    assert_eq!(kernel.send_packets(fd, &[packet(bytes, to)]), Ok(1));
}

/// One receive call that found something.
fn receive(kernel: &mut OsKernel, fd: Fd, batch: &mut Batch) -> usize {
    eventually(|| match kernel.receive(fd, batch) {
        Ok(came) => Some(came.count),
        Err(Errno(libc::EAGAIN)) => None,
        Err(other) => panic!("receive: {other:?}"),
    })
}

/// So many datagrams, over as many calls as it takes.
fn received(kernel: &mut OsKernel, fd: Fd, want: usize) -> Vec<(Vec<u8>, Arrival)> {
    let mut batch = Batch::new(8, 64);
    let mut all = Vec::new();
    while all.len() < want {
        let count = receive(kernel, fd, &mut batch);
        assert_ne!(count, 0);
        for at in 0..count {
            let (arrival, bytes) = batch.arrival(at);
            all.push((bytes.to_vec(), arrival.clone()));
        }
    }
    assert_eq!(kernel.receive(fd, &mut batch), Err(Errno(libc::EAGAIN)));
    all
}

fn port_of(addr: &Addr, ip: impl Into<IpAddr>) -> Addr {
    Addr::from(SocketAddr::new(ip.into(), addr.port().unwrap()))
}

// Batches.

#[test]
fn a_datagram_socket_is_nonblocking_and_close_on_exec() {
    let mut kernel = kernel();
    let (fd, _) = opened(&mut kernel, &here());
    assert_nonblocking_and_cloexec(fd);
    let mut batch = Batch::new(2, 16);
    assert_eq!(kernel.receive(fd, &mut batch), Err(Errno(libc::EAGAIN)));
    kernel.close(fd);
}

#[test]
fn a_batch_has_every_datagram_in_order_with_its_bounds_and_sender() {
    let mut kernel = kernel();
    let (here_fd, to) = opened(&mut kernel, &here());
    let (a, a_addr) = opened(&mut kernel, &here());
    let (b, b_addr) = opened(&mut kernel, &here());
    send(&mut kernel, a, b"first", &to);
    send(&mut kernel, b, b"", &to);
    send(&mut kernel, a, &[7; 100], &to);
    send(&mut kernel, b, &[8; 64], &to);
    let came = received(&mut kernel, here_fd, 4);
    let brief: Vec<_> = came
        .iter()
        .map(|(bytes, arrival)| (bytes.len(), arrival.truncated, arrival.from.clone()))
        .collect();
    assert_eq!(
        brief,
        [
            (5, false, a_addr.clone()),
            (0, false, b_addr.clone()),
            (64, true, a_addr),
            (64, false, b_addr)
        ]
    );
    assert_eq!(came[0].0, b"first");
    assert!(came.iter().all(|(_, arrival)| arrival.to.is_none()));
    for fd in [here_fd, a, b] {
        kernel.close(fd);
    }
}

#[test]
#[cfg(not(target_os = "macos"))]
fn one_call_sends_and_one_call_receives_a_whole_batch() {
    let mut kernel = kernel();
    let (receiver, to) = opened(&mut kernel, &here());
    let (sender, _) = opened(&mut kernel, &here());
    let bytes: Vec<_> = (0..MAX_PACKETS as u8 + 3)
        .map(|number| [number; 3])
        .collect();
    let packets: Vec<_> = bytes.iter().map(|bytes| packet(bytes, &to)).collect();
    assert_eq!(kernel.send_packets(sender, &packets), Ok(MAX_PACKETS));
    let mut batch = Batch::new(MAX_PACKETS + 3, 8);
    assert_eq!(receive(&mut kernel, receiver, &mut batch), MAX_PACKETS);
    for (at, sent) in bytes.iter().take(MAX_PACKETS).enumerate() {
        assert_eq!(batch.arrival(at).1, sent);
    }
    kernel.close(receiver);
    kernel.close(sender);
}

#[test]
fn a_batch_with_fewer_places_leaves_the_rest_to_the_next_call() {
    let mut kernel = kernel();
    let (receiver, to) = opened(&mut kernel, &here());
    for number in 0..5 {
        send(&mut kernel, receiver, &[number], &to);
    }
    let mut batch = Batch::new(2, 16);
    let mut numbers = Vec::new();
    while numbers.len() < 5 {
        let count = receive(&mut kernel, receiver, &mut batch);
        assert!((1..=2).contains(&count));
        numbers.extend((0..count).map(|at| batch.arrival(at).1[0]));
    }
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    kernel.close(receiver);
}

#[test]
fn a_batch_without_room_is_refused_instead_of_losing_datagrams() {
    let mut kernel = kernel();
    let (fd, to) = opened(&mut kernel, &here());
    send(&mut kernel, fd, b"kept", &to);
    for (places, size) in [(0, 16), (4, 0)] {
        let mut batch = Batch::new(places, size);
        assert_eq!(kernel.receive(fd, &mut batch), Err(Errno(libc::EINVAL)));
    }
    assert_eq!(received(&mut kernel, fd, 1)[0].0, b"kept");
    kernel.close(fd);
}

/// One place is received with another call than several.
#[test]
fn a_single_place_tells_the_same_of_a_datagram_as_several() {
    let mut kernel = kernel();
    let scratch = Scratch::new();
    for spec in [here(), bound_to(scratch.addr("receiver"))] {
        let (fd, own) = opened(&mut kernel, &spec);
        for places in [1, 2] {
            let mut batch = Batch::new(places, 8);
            for length in [5, 0, 100, 8] {
                send(&mut kernel, fd, &vec![7; length], &own);
                assert_eq!(receive(&mut kernel, fd, &mut batch), 1);
                let (arrival, bytes) = batch.arrival(0);
                assert_eq!(bytes, &vec![7; length.min(8)]);
                assert_eq!(arrival.truncated, length > 8);
                assert_eq!((&arrival.from, arrival.to), (&own, None));
            }
            let nothing = Err(Errno(libc::EAGAIN));
            assert_eq!(kernel.receive(fd, &mut batch), nothing);
        }
        kernel.close(fd);
    }
}

#[test]
fn sockets_and_batches_by_turns_keep_what_is_theirs() {
    let mut kernel = kernel();
    let scratch = Scratch::new();
    let told = BindSpec {
        destinations: true,
        ..here()
    };
    let mut specs = vec![here(), bound_to(scratch.addr("receiver")), told];
    let on_v6 = bound_to(on(Ipv6Addr::LOCALHOST));
    if let Some((fd, _)) = opened_v6(&mut kernel, &on_v6) {
        kernel.close(fd);
        specs.push(on_v6);
    }
    let ends: Vec<_> = specs.iter().map(|spec| opened(&mut kernel, spec)).collect();
    let mut batches = [Batch::new(4, 16), Batch::new(2, 8), Batch::new(1, 32)];
    for turn in 0..24 {
        let (fd, own) = &ends[turn % ends.len()];
        let batch = &mut batches[turn / 8];
        let bytes = [turn as u8; 12];
        send(&mut kernel, *fd, &bytes, own);
        assert_eq!(receive(&mut kernel, *fd, batch), 1);
        let (arrival, got) = batch.arrival(0);
        assert_eq!(got, &bytes[..batch.size().min(12)]);
        assert_eq!(arrival.truncated, batch.size() < 12);
        assert_eq!(&arrival.from, own);
        let to = specs[turn % ends.len()].destinations.then(|| own.ip());
        assert_eq!(arrival.to, to.flatten());
    }
    for (fd, _) in ends {
        kernel.close(fd);
    }
}

#[test]
fn the_first_error_of_a_batch_is_answered_and_a_later_one_ends_it() {
    let mut kernel = kernel();
    let (fd, to) = opened(&mut kernel, &here());
    let foreign = named(b"/nowhere");
    let good = packet(b"good", &to);
    let bad = packet(b"bad", &foreign);
    let refused = Err(Errno(libc::EAFNOSUPPORT));
    assert_eq!(kernel.send_packets(fd, &[bad, good]), refused);
    assert_eq!(kernel.send_packets(fd, &[good, bad, good]), Ok(1));
    assert_eq!(kernel.send_packets(fd, &[]), Ok(0));

    let long = vec![0; 100_000];
    let too_long = packet(&long, &to);
    let refused = Err(Errno(libc::EMSGSIZE));
    assert_eq!(kernel.send_packets(fd, &[too_long, good]), refused);
    assert_eq!(kernel.send_packets(fd, &[good, too_long]), Ok(1));
    assert_eq!(received(&mut kernel, fd, 2).len(), 2);
    kernel.close(fd);
}

#[test]
fn a_connected_socket_hears_and_speaks_to_its_peer_only() {
    let mut kernel = kernel();
    let (peer, peer_addr) = opened(&mut kernel, &here());
    let (stranger, _) = opened(&mut kernel, &here());
    let spec = BindSpec {
        remote: Some(peer_addr.clone()),
        ..datagrams()
    };
    let (fd, own) = opened(&mut kernel, &spec);
    assert_eq!(kernel.peer_addr(fd), Ok(peer_addr.clone()));
    send(&mut kernel, stranger, b"stranger", &own);
    send(&mut kernel, peer, b"peer", &own);
    let came = received(&mut kernel, fd, 1);
    assert_eq!(
        (&came[0].0[..], &came[0].1.from),
        (&b"peer"[..], &peer_addr)
    );

    let unaddressed = Packet {
        bytes: b"answer",
        to: None,
    };
    assert_eq!(kernel.send_packets(fd, &[unaddressed]), Ok(1));
    let came = received(&mut kernel, peer, 1);
    assert_eq!((&came[0].0[..], &came[0].1.from), (&b"answer"[..], &own));
    for fd in [fd, peer, stranger] {
        kernel.close(fd);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_refusal_by_the_peers_host_is_the_error_of_the_next_call() {
    let mut kernel = kernel();
    let (gone, addr) = opened(&mut kernel, &here());
    kernel.close(gone);
    let spec = BindSpec {
        remote: Some(addr),
        ..datagrams()
    };
    let (fd, _) = opened(&mut kernel, &spec);
    let packet = Packet {
        bytes: b"x",
        to: None,
    };
    assert_eq!(kernel.send_packets(fd, &[packet]), Ok(1));
    let refused = Err(Errno(libc::ECONNREFUSED));
    assert_eq!(kernel.receive(fd, &mut Batch::new(1, 8)), refused);
    kernel.close(fd);
}

#[test]
fn only_datagram_sockets_of_ours_send_and_receive_datagrams() {
    let mut kernel = kernel();
    let (fd, _) = opened(&mut kernel, &here());
    kernel.close(fd);
    let refused = Errno(libc::ENOTSOCK);
    assert_eq!(kernel.receive(fd, &mut Batch::new(1, 8)), Err(refused));
    assert_eq!(kernel.send_packets(fd, &[]), Err(refused));
    let option = kernel.set_packet_option(fd, PacketOption::Ttl(1));
    assert_eq!(option, Err(refused));
}

// Families.

#[test]
fn a_dual_stack_socket_speaks_and_hears_ipv4_by_its_own_name() {
    let mut kernel = kernel();
    let spec = BindSpec {
        destinations: true,
        ..bound_to(on(Ipv6Addr::UNSPECIFIED))
    };
    let Some((dual, addr)) = opened_v6(&mut kernel, &spec) else {
        return;
    };
    let (v4, v4_addr) = opened(&mut kernel, &here());
    send(&mut kernel, v4, b"in", &port_of(&addr, Ipv4Addr::LOCALHOST));
    let (_, arrival) = received(&mut kernel, dual, 1).remove(0);
    assert_eq!(arrival.from, v4_addr);
    assert_eq!(arrival.to, Some(Ipv4Addr::LOCALHOST.into()));
    send(&mut kernel, dual, b"out", &arrival.from);
    let (bytes, arrival) = received(&mut kernel, v4, 1).remove(0);
    assert_eq!(bytes, b"out");
    assert_eq!(arrival.from, port_of(&addr, Ipv4Addr::LOCALHOST));

    send(
        &mut kernel,
        dual,
        b"self",
        &port_of(&addr, Ipv6Addr::LOCALHOST),
    );
    let (_, arrival) = received(&mut kernel, dual, 1).remove(0);
    assert_eq!(arrival.to, Some(Ipv6Addr::LOCALHOST.into()));
    kernel.close(dual);
    kernel.close(v4);
}

#[test]
fn a_socket_refuses_addresses_of_a_family_that_it_has_not() {
    let mut kernel = kernel();
    let refused = Err(Errno(libc::EAFNOSUPPORT));
    let v6 = Addr::from(SocketAddr::from((Ipv6Addr::LOCALHOST, 9)));
    let v4 = Addr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 9)));
    let (fd, _) = opened(&mut kernel, &here());
    assert_eq!(kernel.send_packets(fd, &[packet(b"x", &v6)]), refused);
    kernel.close(fd);
    let only_v6 = BindSpec {
        only_v6: true,
        ..bound_to(on(Ipv6Addr::UNSPECIFIED))
    };
    if let Some((fd, _)) = opened_v6(&mut kernel, &only_v6) {
        assert!(SockRef::from(&fd).only_v6().unwrap());
        assert_eq!(kernel.send_packets(fd, &[packet(b"x", &v4)]), refused);
        kernel.close(fd);
    }
}

/// Linux takes the plain address on such a socket as well, the other systems don't.
#[test]
fn ipv4_is_given_to_a_dual_stack_socket_in_its_mapped_form() {
    use crate::kernel::os::packets::{Family, for_family};
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let mapped = SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), 9));
    for addr in [Addr::from(v4), Addr::Ip(mapped)] {
        let on_dual_stack = for_family(Family::DualStack, &addr).unwrap();
        assert_eq!(on_dual_stack.as_socket(), Some(mapped));
        let on_v4 = for_family(Family::V4, &addr).unwrap();
        assert_eq!(on_v4.as_socket(), Some(v4));
        assert!(for_family(Family::V6, &addr).is_err());
    }
}

#[test]
fn a_number_used_again_has_the_family_of_its_new_socket() {
    let mut kernel = kernel();
    let (fd, _) = opened(&mut kernel, &here());
    kernel.close(fd);
    assert_eq!(kernel.packets.family(fd), Err(Errno(libc::ENOTSOCK)));
    let (fd, _) = opened(&mut kernel, &here());
    drop(kernel.release(fd).unwrap());
    assert_eq!(kernel.packets.family(fd), Err(Errno(libc::ENOTSOCK)));
    let (fd, _) = opened(&mut kernel, &here());
    kernel.reset(fd);
    assert_eq!(kernel.packets.family(fd), Err(Errno(libc::ENOTSOCK)));
}

#[test]
fn the_remote_decides_the_family_of_a_wildcard() {
    let mut kernel = kernel();
    let (peer, addr) = opened(&mut kernel, &here());
    let spec = BindSpec {
        remote: Some(addr),
        ..bound_to(on(Ipv6Addr::UNSPECIFIED))
    };
    let (fd, own) = opened(&mut kernel, &spec);
    assert_eq!(own.ip(), Some(Ipv4Addr::LOCALHOST.into()));
    kernel.close(fd);
    kernel.close(peer);
}

#[test]
fn the_destination_is_told_if_asked_for() {
    let mut kernel = kernel();
    let spec = BindSpec {
        destinations: true,
        ..bound_to(on(Ipv4Addr::UNSPECIFIED))
    };
    let (fd, addr) = opened(&mut kernel, &spec);
    let (sender, _) = opened(&mut kernel, &bound_to(on(Ipv4Addr::UNSPECIFIED)));
    // All of 127/8 is ours on Linux.
    let last = if cfg!(target_os = "linux") { 5 } else { 1 };
    let to = Ipv4Addr::new(127, 0, 0, last);
    send(&mut kernel, sender, b"x", &port_of(&addr, to));
    let (_, arrival) = received(&mut kernel, fd, 1).remove(0);
    assert_eq!(arrival.to, Some(to.into()));
    kernel.close(fd);
    kernel.close(sender);
}

// Options and faults.

#[test]
fn a_datagram_socket_has_the_options_asked_for_and_no_others() {
    let mut kernel = kernel();
    let spec = BindSpec {
        reuse_addr: true,
        reuse_port: true,
        broadcast: true,
        receive_buffer: Some(24 * 1024),
        send_buffer: Some(24 * 1024),
        ..here()
    };
    let (with, _) = opened(&mut kernel, &spec);
    let (without, _) = opened(&mut kernel, &here());
    let (asked, plain) = (SockRef::from(&with), SockRef::from(&without));
    assert!(asked.broadcast().unwrap() && !plain.broadcast().unwrap());
    assert!(asked.reuse_address().unwrap() && !plain.reuse_address().unwrap());
    assert_ne!(
        asked.recv_buffer_size().unwrap(),
        plain.recv_buffer_size().unwrap()
    );
    assert_ne!(
        asked.send_buffer_size().unwrap(),
        plain.send_buffer_size().unwrap()
    );
    kernel.close(with);
    kernel.close(without);
}

#[test]
fn several_sockets_share_a_port_if_all_of_them_ask() {
    let mut kernel = kernel();
    let shared = BindSpec {
        reuse_port: true,
        ..here()
    };
    let (first, addr) = opened(&mut kernel, &shared);
    let again = BindSpec {
        local: Some(addr.clone()),
        ..shared
    };
    let second = kernel.bind(&again).unwrap();
    let taken = refusal("bind", libc::EADDRINUSE);
    assert_eq!(kernel.bind(&bound_to(addr)), Err(taken));
    kernel.close(first);
    kernel.close(second);
}

#[test]
fn a_fault_of_a_datagram_socket_names_the_call() {
    let mut kernel = kernel();
    assert_eq!(
        kernel.bind(&datagrams()),
        Err(refusal("socket", libc::EAFNOSUPPORT))
    );
    assert_eq!(
        kernel.bind(&bound_to(on(FOREIGN))),
        Err(refusal("bind", libc::EADDRNOTAVAIL))
    );
    let broadcast = BindSpec {
        remote: Some(SocketAddr::from((Ipv4Addr::BROADCAST, 9)).into()),
        ..datagrams()
    };
    if cfg!(target_os = "linux") {
        let fault = kernel.bind(&broadcast).unwrap_err();
        assert_eq!(fault.call, "connect");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn broadcasting_must_be_allowed() {
    let mut kernel = kernel();
    let (fd, _) = opened(&mut kernel, &bound_to(on(Ipv4Addr::UNSPECIFIED)));
    let (receiver, addr) = opened(&mut kernel, &bound_to(on(Ipv4Addr::UNSPECIFIED)));
    // The broadcast address of the loopback network.
    let to = port_of(&addr, Ipv4Addr::new(127, 255, 255, 255));
    let sent = kernel.send_packets(fd, &[packet(b"x", &to)]);
    assert_eq!(sent, Err(Errno(libc::EACCES)));
    kernel
        .set_packet_option(fd, PacketOption::Broadcast(true))
        .unwrap();
    send(&mut kernel, fd, b"x", &to);
    assert_eq!(received(&mut kernel, receiver, 1)[0].0, b"x");
    kernel.close(fd);
    kernel.close(receiver);
}

/// The loopback interface: `lo`, or `lo0` on the BSDs.
fn loopback_index(kernel: &mut OsKernel) -> u32 {
    let index = kernel.interface_index("lo");
    index.or_else(|| kernel.interface_index("lo0")).unwrap()
}

#[test]
fn an_interface_has_a_number_and_a_strange_name_none() {
    let mut kernel = kernel();
    assert_ne!(loopback_index(&mut kernel), 0);
    for name in ["", "no-such-interface", "nul\0inside", "lo\0"] {
        assert_eq!(kernel.interface_index(name), None, "{name:?}");
    }
}

/// A datagram to the group comes back while the group is joined. `None`, said aloud, if the
/// machine has no multicast on its loopback interface.
fn heard_in_group(kernel: &mut OsKernel, fd: Fd, group: IpAddr) -> Option<()> {
    let lo = loopback_index(kernel);
    let to = port_of(&kernel.local_addr(fd).unwrap(), group);
    if let Err(errno) = kernel.set_packet_option(fd, PacketOption::Join(group, lo)) {
        eprintln!("this machine refuses to join {group}: {errno:?}");
        return None;
    }
    for option in [
        PacketOption::MulticastInterface(lo),
        PacketOption::MulticastLoop(true),
        PacketOption::MulticastTtl(1),
    ] {
        kernel.set_packet_option(fd, option).unwrap();
    }
    if let Err(errno) = kernel.send_packets(fd, &[packet(b"all", &to)]) {
        eprintln!("this machine refuses to send to {group}: {errno:?}");
        return None;
    }
    let (bytes, arrival) = received(kernel, fd, 1).remove(0);
    assert_eq!((&bytes[..], arrival.to), (&b"all"[..], Some(group)));

    let left = kernel.set_packet_option(fd, PacketOption::Leave(group, lo));
    assert_eq!(left, Ok(()));
    let again = kernel.set_packet_option(fd, PacketOption::Leave(group, lo));
    assert_eq!(again, Err(Errno(libc::EADDRNOTAVAIL)));
    // Nobody is in the group now; the system may say so or not.
    let _ = kernel.send_packets(fd, &[packet(b"none", &to)]);
    assert_eq!(
        kernel.receive(fd, &mut Batch::new(1, 8)),
        Err(Errno(libc::EAGAIN))
    );
    Some(())
}

#[test]
fn a_group_is_heard_while_it_is_joined() {
    let mut kernel = kernel();
    let spec = BindSpec {
        destinations: true,
        ..bound_to(on(Ipv4Addr::UNSPECIFIED))
    };
    let (fd, _) = opened(&mut kernel, &spec);
    heard_in_group(&mut kernel, fd, groups(1).0);
    kernel.close(fd);
}

#[test]
fn a_group_of_ipv6_is_heard_while_it_is_joined() {
    let mut kernel = kernel();
    let spec = BindSpec {
        destinations: true,
        only_v6: true,
        ..bound_to(on(Ipv6Addr::UNSPECIFIED))
    };
    if let Some((fd, _)) = opened_v6(&mut kernel, &spec) {
        heard_in_group(&mut kernel, fd, groups(2).1);
        kernel.close(fd);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_dual_stack_socket_hears_groups_of_both_families() {
    let mut kernel = kernel();
    let spec = BindSpec {
        destinations: true,
        ..bound_to(on(Ipv6Addr::UNSPECIFIED))
    };
    if let Some((fd, _)) = opened_v6(&mut kernel, &spec) {
        let (v4, v6) = groups(3);
        heard_in_group(&mut kernel, fd, v4);
        heard_in_group(&mut kernel, fd, v6);
        kernel.close(fd);
    }
}

#[test]
fn datagrams_go_as_far_as_asked() {
    let mut kernel = kernel();
    let (fd, _) = opened(&mut kernel, &here());
    kernel.set_packet_option(fd, PacketOption::Ttl(7)).unwrap();
    kernel
        .set_packet_option(fd, PacketOption::MulticastTtl(8))
        .unwrap();
    let socket = SockRef::from(&fd);
    assert_eq!(socket.ttl_v4().unwrap(), 7);
    assert_eq!(socket.multicast_ttl_v4().unwrap(), 8);
    for on in [false, true] {
        kernel
            .set_packet_option(fd, PacketOption::MulticastLoop(on))
            .unwrap();
        assert_eq!(socket.multicast_loop_v4().unwrap(), on);
    }
    for option in [
        PacketOption::Ttl(256),
        PacketOption::Ttl(u32::MAX),
        PacketOption::MulticastTtl(u32::MAX),
    ] {
        let answer = kernel.set_packet_option(fd, option);
        assert_eq!(answer, Err(Errno(libc::EINVAL)), "{option:?}");
    }
    kernel.close(fd);
}

#[test]
#[cfg(target_os = "linux")]
fn an_option_of_a_dual_stack_socket_holds_for_both_families() {
    let mut kernel = kernel();
    let Some((fd, _)) = opened_v6(&mut kernel, &bound_to(on(Ipv6Addr::UNSPECIFIED))) else {
        return;
    };
    kernel.set_packet_option(fd, PacketOption::Ttl(7)).unwrap();
    kernel
        .set_packet_option(fd, PacketOption::MulticastTtl(8))
        .unwrap();
    kernel
        .set_packet_option(fd, PacketOption::MulticastLoop(false))
        .unwrap();
    let socket = SockRef::from(&fd);
    assert!(!socket.multicast_loop_v6().unwrap() && !socket.multicast_loop_v4().unwrap());
    assert_eq!(socket.unicast_hops_v6().unwrap(), 7);
    assert_eq!(socket.ttl_v4().unwrap(), 7);
    assert_eq!(socket.multicast_hops_v6().unwrap(), 8);
    assert_eq!(socket.multicast_ttl_v4().unwrap(), 8);
    kernel.close(fd);
}

#[test]
fn a_unix_socket_has_no_options_of_ip() {
    let mut kernel = kernel();
    let scratch = Scratch::new();
    let (fd, _) = opened(&mut kernel, &bound_to(scratch.addr("s")));
    let answer = kernel.set_packet_option(fd, PacketOption::Ttl(1));
    assert_eq!(answer, Err(Errno(libc::EOPNOTSUPP)));
    kernel.close(fd);
}

// Unix datagrams.

#[test]
fn unix_datagrams_name_their_sender() {
    let mut kernel = kernel();
    let scratch = Scratch::new();
    let (fd, to) = opened(&mut kernel, &bound_to(scratch.addr("receiver")));
    assert_eq!(to, scratch.addr("receiver"));
    let (named_fd, from) = opened(&mut kernel, &bound_to(scratch.addr("sender")));
    let dialed = BindSpec {
        remote: Some(to.clone()),
        ..datagrams()
    };
    let (unnamed, nobody) = opened(&mut kernel, &dialed);
    assert_eq!(nobody, Addr::Unix(UnixAddr::UNNAMED));
    assert_eq!(kernel.peer_addr(unnamed), Ok(to.clone()));

    send(&mut kernel, named_fd, b"one", &to);
    let unaddressed = Packet {
        bytes: b"",
        to: None,
    };
    assert_eq!(kernel.send_packets(unnamed, &[unaddressed]), Ok(1));
    send(&mut kernel, named_fd, &[3; 65], &to);
    let came = received(&mut kernel, fd, 3);
    let brief = came
        .iter()
        .map(|(bytes, arrival)| (bytes.len(), arrival.truncated, arrival.from.clone()));
    assert_eq!(
        brief.collect::<Vec<_>>(),
        [
            (3, false, from.clone()),
            (0, false, nobody),
            (64, true, from)
        ]
    );
    for fd in [fd, named_fd, unnamed] {
        kernel.close(fd);
    }
    assert_eq!(
        scratch.names().len(),
        2,
        "paths are their keeper's to unlink"
    );
}

#[test]
fn a_sender_known_from_before_is_not_copied_anew() {
    let mut kernel = kernel();
    let scratch = Scratch::new();
    let (fd, to) = opened(&mut kernel, &bound_to(scratch.addr("receiver")));
    let (sender, _) = opened(&mut kernel, &bound_to(scratch.addr("sender")));
    let mut batch = Batch::new(2, 8);
    let mut places = Vec::new();
    for _ in 0..3 {
        send(&mut kernel, sender, b"x", &to);
        send(&mut kernel, sender, b"y", &to);
        let mut seen = 0;
        while seen < 2 {
            let count = receive(&mut kernel, fd, &mut batch);
            for at in 0..count {
                let from = batch.arrival(at).0.from.as_unix().unwrap();
                places.push(from.bytes().as_ptr());
            }
            seen += count;
        }
    }
    assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
    kernel.close(fd);
    kernel.close(sender);
}

#[test]
#[cfg(target_os = "linux")]
fn abstract_and_automatic_names_are_addresses_like_others() {
    let mut kernel = kernel();
    let asked = abstract_name(&mut kernel);
    let (fd, to) = opened(&mut kernel, &bound_to(asked.clone()));
    assert_eq!(to, asked);
    let (automatic, from) = opened(&mut kernel, &bound_to(Addr::Unix(UnixAddr::UNNAMED)));
    let given = from.as_unix().unwrap();
    assert!(given.abstract_name().is_some_and(|name| !name.is_empty()));
    send(&mut kernel, automatic, b"x", &to);
    let (_, arrival) = received(&mut kernel, fd, 1).remove(0);
    assert_eq!(arrival.from, from);
    send(&mut kernel, fd, b"y", &from);
    assert_eq!(received(&mut kernel, automatic, 1)[0].0, b"y");
    kernel.close(fd);
    kernel.close(automatic);
}

#[test]
fn a_unix_datagram_socket_that_comes_to_nothing_leaves_nothing_behind() {
    let mut kernel = kernel();
    let scratch = Scratch::new();
    let spec = BindSpec {
        remote: Some(scratch.addr("absent")),
        ..bound_to(scratch.addr("own"))
    };
    assert_eq!(kernel.bind(&spec), Err(refusal("connect", libc::ENOENT)));
    assert_eq!(scratch.names(), [""; 0]);
    let long = scratch.addr(&"x".repeat(200));
    let spec = BindSpec {
        remote: Some(long.clone()),
        ..bound_to(scratch.addr("own"))
    };
    assert_eq!(kernel.bind(&spec), Err(refusal("connect", libc::EINVAL)));
    assert_eq!(
        kernel.bind(&bound_to(long)),
        Err(refusal("bind", libc::EINVAL))
    );
    assert_eq!(scratch.names(), [""; 0]);
}

#[test]
fn a_unix_datagram_socket_has_the_mode_asked_for() {
    use std::os::unix::fs::PermissionsExt;
    let mut kernel = kernel();
    let scratch = Scratch::new();
    let spec = BindSpec {
        mode: Some(0o612),
        ..bound_to(scratch.addr("s"))
    };
    let (fd, _) = opened(&mut kernel, &spec);
    let mode = std::fs::metadata(scratch.path("s"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o612);
    kernel.close(fd);
}

#[test]
#[cfg(target_os = "linux")]
fn descriptors_that_come_with_datagrams_are_closed() {
    let mut kernel = kernel();
    let scratch = Scratch::new();
    let (fd, to) = opened(&mut kernel, &bound_to(scratch.addr("receiver")));
    let dialed = BindSpec {
        remote: Some(to),
        ..datagrams()
    };
    let (sender, _) = opened(&mut kernel, &dialed);
    let (kept, sent) = unix::pipe();
    assert_eq!(unix::copies(&kept), 2);
    kernel.send_with_fds(sender, b"x", &[sent]).unwrap();
    // The one on its way has no number.
    assert_eq!(unix::copies(&kept), 1);
    assert_eq!(received(&mut kernel, fd, 1)[0].0, b"x");
    assert_eq!(unix::copies(&kept), 1);
    unix::assert_last(kept);
    kernel.close(fd);
    kernel.close(sender);
}

// Raw IP.

/// An echo request without data, with its checksum.
fn echo_request(id: u16) -> [u8; 8] {
    const ECHO_REQUEST: u8 = 8;
    let [high, low] = id.to_be_bytes();
    let sum = !((u16::from(ECHO_REQUEST) << 8).wrapping_add(id));
    let [sum_high, sum_low] = sum.to_be_bytes();
    [ECHO_REQUEST, 0, sum_high, sum_low, high, low, 0, 0]
}

#[test]
fn raw_ip_comes_with_its_header_and_its_ends_have_no_port() {
    let mut kernel = kernel();
    let spec = BindSpec {
        transport: Transport::Raw(ICMP),
        destinations: true,
        ..here()
    };
    let fd = match kernel.bind(&spec) {
        Ok(fd) => fd,
        Err(fault) => {
            eprintln!("raw sockets are not permitted here, nothing tested: {fault:?}");
            return;
        }
    };
    let addr = on(Ipv4Addr::LOCALHOST);
    assert_eq!(kernel.local_addr(fd), Ok(addr.clone()));
    let id = std::process::id() as u16 & 0x7fff;
    send(&mut kernel, fd, &echo_request(id), &addr);
    let mut batch = Batch::new(4, 128);
    eventually(|| {
        let count = receive(&mut kernel, fd, &mut batch);
        (0..count).find_map(|at| {
            let (arrival, bytes) = batch.arrival(at);
            assert_eq!(bytes[0] >> 4, 4, "the header of IP");
            assert_eq!((&arrival.from, arrival.to), (&addr, addr.ip()));
            let header = usize::from(bytes[0] & 0xf) * 4;
            let is_ours = bytes[header] == 0 && bytes[header + 4..header + 6] == id.to_be_bytes();
            is_ours.then_some(())
        })
    });
    kernel.close(fd);
}
