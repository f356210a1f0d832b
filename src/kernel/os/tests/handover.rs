//! Descriptors made elsewhere, and given away.

use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use super::*;

fn is_open(number: i32) -> bool {
    flags(Fd(number), libc::F_GETFD) != -1
}

fn blocks(fd: Fd) -> bool {
    flags(fd, libc::F_GETFL) & libc::O_NONBLOCK == 0
}

// Adopting.

#[test]
fn adopted_unix_listeners_serve_like_others() {
    let mut kernel = kernel();
    let scratch = Scratch::new();
    let elsewhere = UnixListener::bind(scratch.path("s")).unwrap();
    let adopted = kernel.adopt_listener(elsewhere.into()).unwrap();
    assert_nonblocking_and_cloexec(adopted.fd);
    let expected = Adopted {
        fd: adopted.fd,
        transport: Transport::Stream,
        local: scratch.addr("s"),
        peer: None,
    };
    assert_eq!(adopted, expected);
    let _peer = UnixStream::connect(scratch.path("s")).unwrap();
    let (fd, from) = accepted(&mut kernel, adopted.fd);
    assert_eq!(from, Addr::Unix(UnixAddr::UNNAMED));
    kernel.close(fd);
    kernel.close(adopted.fd);
}

#[test]
#[cfg(target_os = "linux")]
fn a_listener_for_records_is_adopted_as_one() {
    let mut kernel = kernel();
    let scratch = Scratch::new();
    let records = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    records
        .bind(&SockAddr::unix(scratch.path("s")).unwrap())
        .unwrap();
    let refused = kernel.adopt_listener(records.try_clone().unwrap().into());
    assert_eq!(refused, Err(refusal("getsockopt", libc::EINVAL)));
    records.listen(1).unwrap();
    let adopted = kernel.adopt_listener(records.into()).unwrap();
    assert_eq!(adopted.transport, Transport::Records);
    assert_eq!(adopted.local, scratch.addr("s"));
    kernel.close(adopted.fd);
}

#[test]
fn an_adopted_connection_knows_both_its_ends_and_never_blocks() {
    let mut kernel = kernel();
    let (listener, addr) = listening(&mut kernel);
    let peer = TcpStream::connect(addr).unwrap();
    let own = peer.local_addr().unwrap();
    let adopted = kernel.adopt_stream(peer.into()).unwrap();
    assert_nonblocking_and_cloexec(adopted.fd);
    let expected = Adopted {
        fd: adopted.fd,
        transport: Transport::Stream,
        local: own.into(),
        peer: Some(addr.into()),
    };
    assert_eq!(adopted, expected);
    kernel.close(adopted.fd);
    kernel.close(listener);

    let (one, mut other) = UnixStream::pair().unwrap();
    let adopted = kernel.adopt_stream(one.into()).unwrap();
    let nobody = Addr::Unix(UnixAddr::UNNAMED);
    assert_eq!(
        (&adopted.local, adopted.peer),
        (&nobody, Some(nobody.clone()))
    );
    assert_eq!(kernel.write(adopted.fd, b"x"), Ok(1));
    other.read_exact(&mut [0; 1]).unwrap();
    kernel.close(adopted.fd);
}

#[test]
fn only_connected_streams_are_adopted_as_streams() {
    let mut kernel = kernel();
    let file = File::open("/dev/null").unwrap();
    let refused = kernel.adopt_stream(file.into());
    assert_eq!(refused, Err(refusal("getsockopt", libc::ENOTSOCK)));
    let (one, _other) = UnixDatagram::pair().unwrap();
    let refused = kernel.adopt_stream(one.into());
    assert_eq!(refused, Err(refusal("getsockopt", libc::EPROTOTYPE)));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let refused = kernel.adopt_stream(listener.into());
    assert_eq!(refused, Err(refusal("getpeername", libc::ENOTCONN)));
}

#[test]
fn a_descriptor_that_is_refused_is_closed() {
    let mut kernel = kernel();
    for adopt in [
        OsKernel::adopt_listener,
        OsKernel::adopt_stream,
        OsKernel::adopt_packets,
    ] {
        let (reader, writer) = unix::pipe();
        assert!(adopt(&mut kernel, writer).is_err());
        unix::assert_last(reader);
    }
}

#[test]
fn adopted_datagram_sockets_send_and_receive() {
    let mut kernel = kernel();
    let elsewhere = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = elsewhere.local_addr().unwrap();
    let adopted = kernel.adopt_packets(elsewhere.into()).unwrap();
    assert_nonblocking_and_cloexec(adopted.fd);
    let expected = Adopted {
        fd: adopted.fd,
        transport: Transport::Datagrams,
        local: addr.into(),
        peer: None,
    };
    assert_eq!(adopted, expected);
    let packet = Packet {
        bytes: b"x",
        to: Some(&adopted.local),
    };
    assert_eq!(kernel.send_packets(adopted.fd, &[packet]), Ok(1));
    let mut batch = Batch::new(1, 8);
    eventually(|| kernel.receive(adopted.fd, &mut batch).ok());
    assert_eq!(batch.arrival(0).1, b"x");
    kernel.close(adopted.fd);

    let connected = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    connected.connect(addr).unwrap();
    let adopted = kernel.adopt_packets(connected.into()).unwrap();
    assert_eq!(adopted.peer, Some(addr.into()));
    kernel.close(adopted.fd);
}

#[test]
fn an_adopted_socket_tells_destinations_if_it_was_made_to() {
    let mut kernel = kernel();
    let spec = BindSpec {
        local: Some(Addr::from((Ipv4Addr::LOCALHOST, 0))),
        destinations: true,
        ..packets::datagrams()
    };
    let made = kernel.bind(&spec).unwrap();
    let made = kernel.release(made).unwrap();
    let adopted = kernel.adopt_packets(made).unwrap();
    let packet = Packet {
        bytes: b"x",
        to: Some(&adopted.local),
    };
    assert_eq!(kernel.send_packets(adopted.fd, &[packet]), Ok(1));
    let mut batch = Batch::new(1, 8);
    eventually(|| kernel.receive(adopted.fd, &mut batch).ok());
    let to = batch.arrival(0).0.to;
    assert_eq!(to, Some(Ipv4Addr::LOCALHOST.into()));
    kernel.close(adopted.fd);
}

#[test]
fn an_adopted_dual_stack_socket_speaks_ipv4() {
    let mut kernel = kernel();
    for (only_v6, expected) in [(false, Ok(1)), (true, Err(Errno(libc::EAFNOSUPPORT)))] {
        let Ok(socket) = Socket::new(Domain::IPV6, Type::DGRAM, None) else {
            eprintln!("no IPv6 on this machine, nothing tested");
            return;
        };
        socket.set_only_v6(only_v6).unwrap();
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        socket.bind(&any.into()).unwrap();
        let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = Addr::from(receiver.local_addr().unwrap());
        let adopted = kernel.adopt_packets(socket.into()).unwrap();
        let packet = Packet {
            bytes: b"x",
            to: Some(&to),
        };
        assert_eq!(kernel.send_packets(adopted.fd, &[packet]), expected);
        kernel.close(adopted.fd);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn an_adopted_raw_socket_knows_its_protocol() {
    const ICMP: i32 = 1;
    let mut kernel = kernel();
    let raw = match Socket::new(Domain::IPV4, Type::RAW, Some(ICMP.into())) {
        Ok(raw) => raw,
        Err(error) => {
            eprintln!("raw sockets are not permitted here, nothing tested: {error}");
            return;
        }
    };
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    raw.bind(&here.into()).unwrap();
    let adopted = kernel.adopt_packets(raw.into()).unwrap();
    let expected = Adopted {
        fd: adopted.fd,
        transport: Transport::Raw(1),
        local: here.into(),
        peer: None,
    };
    assert_eq!(adopted, expected);
    assert_eq!(kernel.local_addr(adopted.fd), Ok(here.into()));
    kernel.close(adopted.fd);
}

#[test]
fn a_stream_is_not_adopted_for_datagrams() {
    let mut kernel = kernel();
    let (one, _other) = UnixStream::pair().unwrap();
    let refused = kernel.adopt_packets(one.into());
    assert_eq!(refused, Err(refusal("getsockopt", libc::EPROTOTYPE)));
}

#[test]
#[cfg(target_os = "linux")]
fn sockets_of_other_families_are_not_adopted() {
    let mut kernel = kernel();
    let netlink = Socket::new(Domain::from(libc::AF_NETLINK), Type::DGRAM, None).unwrap();
    let refused = kernel.adopt_packets(netlink.into());
    assert_eq!(refused, Err(refusal("getsockname", libc::EAFNOSUPPORT)));
}

// Keeping, releasing, duplicating.

#[test]
fn what_is_kept_is_changed_in_nothing_and_closed_once() {
    let mut kernel = kernel();
    let (reader, writer) = unix::pipe();
    let before = flags(Fd(writer.as_raw_fd()), libc::F_GETFL);
    let fd = kernel.keep(writer).unwrap();
    assert_eq!(flags(fd, libc::F_GETFL), before);
    assert!(blocks(fd));
    kernel.close(fd);
    unix::assert_last(reader);
}

#[test]
fn what_is_released_is_open_and_reports_nothing_more() {
    let mut kernel = kernel();
    let (fd, mut peer) = pair(&mut kernel);
    kernel.register(fd, token(1), Interest::ReadWrite).unwrap();
    polled(&mut kernel, PATIENCE);
    let released = kernel.release(fd).unwrap();
    assert_eq!(released.as_raw_fd(), fd.0);
    assert!(is_open(fd.0));
    peer.write_all(b"x").unwrap();
    let mut witness = OsKernel::new(1, 1).unwrap();
    witness.register(fd, token(1), Interest::Read).unwrap();
    assert_eq!(polled(&mut witness, PATIENCE).len(), 1);
    assert_eq!(polled(&mut kernel, Duration::ZERO), []);

    let mut stream = TcpStream::from(released);
    assert!(!blocks(fd), "it stays nonblocking");
    let mut byte = [0; 1];
    assert_eq!(stream.read(&mut byte).unwrap(), 1);
    drop(stream);
    assert_eq!(peer.read(&mut byte).unwrap(), 0);
}

#[test]
fn what_was_never_registered_is_released_as_well() {
    let mut kernel = kernel();
    let (reader, writer) = unix::pipe();
    let fd = kernel.keep(writer).unwrap();
    drop(kernel.release(fd).unwrap());
    unix::assert_last(reader);
}

#[test]
fn a_duplicate_lives_longer_than_what_it_was_made_of() {
    let mut kernel = kernel();
    let (fd, mut peer) = pair(&mut kernel);
    let copy = kernel.duplicate(fd).unwrap();
    assert_ne!(copy.as_raw_fd(), fd.0);
    assert_nonblocking_and_cloexec(Fd(copy.as_raw_fd()));
    kernel.close(fd);
    let mut copy = TcpStream::from(copy);
    copy.write_all(b"x").unwrap();
    assert_eq!(peer.read(&mut [0; 1]).unwrap(), 1);
    drop(copy);
    assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
}

// Watching.

#[test]
fn a_watched_pipe_is_reported_and_stays_as_it_was() {
    let mut kernel = kernel();
    let (reader, mut writer) = io::pipe().unwrap();
    let fd = kernel.keep(reader.into()).unwrap();
    kernel.watch(fd, token(4), Interest::Read).unwrap();
    assert!(blocks(fd), "O_NONBLOCK belongs to whoever made it");
    assert_eq!(polled(&mut kernel, Duration::ZERO), []);
    writer.write_all(b"x").unwrap();
    let events = polled(&mut kernel, PATIENCE);
    assert_eq!(events[0].token, token(4));
    assert!(events[0].ready.contains(Readiness::READABLE));
    kernel.close(fd);
}

#[test]
fn what_is_watched_anew_is_reported_again_for_as_long_as_it_is_ready() {
    let mut kernel = kernel();
    let (reader, mut writer) = io::pipe().unwrap();
    let fd = kernel.keep(reader.into()).unwrap();
    writer.write_all(b"x").unwrap();
    kernel.watch(fd, token(4), Interest::Read).unwrap();
    let first = polled(&mut kernel, PATIENCE);
    assert_eq!(first.len(), 1);
    assert_eq!(polled(&mut kernel, Duration::ZERO), []);
    for _ in 0..3 {
        kernel.rewatch(fd, token(4), Interest::Read).unwrap();
        assert_eq!(polled(&mut kernel, PATIENCE), first);
        assert_eq!(polled(&mut kernel, Duration::ZERO), []);
    }
    let mut reader = File::from(kernel.duplicate(fd).unwrap());
    reader.read_exact(&mut [0; 1]).unwrap();
    kernel.rewatch(fd, token(4), Interest::Read).unwrap();
    assert_eq!(polled(&mut kernel, Duration::ZERO), []);

    drop(writer);
    let closed = polled(&mut kernel, PATIENCE);
    assert!(
        closed[0].ready.contains(Readiness::READ_CLOSED),
        "{closed:?}"
    );
    kernel.deregister(fd);
    kernel.close(fd);
}

#[test]
fn each_interest_watches_its_direction_only() {
    let mut kernel = kernel();
    let (one, mut other) = UnixStream::pair().unwrap();
    other.write_all(b"x").unwrap();
    let (readable, writable) = (Readiness::READABLE, Readiness::WRITABLE);
    for (interest, reads, writes) in [
        (Interest::Read, true, false),
        (Interest::Write, false, true),
        (Interest::ReadWrite, true, true),
    ] {
        let fd = kernel.keep(one.try_clone().unwrap().into()).unwrap();
        kernel.watch(fd, token(4), interest).unwrap();
        let mut ready = Readiness::default();
        // The two directions are two events on kqueue.
        polled(&mut kernel, PATIENCE)
            .iter()
            .for_each(|event| ready.insert(event.ready));
        let seen = (ready.contains(readable), ready.contains(writable));
        assert_eq!(seen, (reads, writes), "{interest:?}");
        drop(kernel.release(fd).unwrap());
    }
}

#[test]
#[cfg(target_os = "linux")]
fn urgent_data_alone_wakes_no_watcher() {
    let mut kernel = kernel();
    let (fd, peer) = pair(&mut kernel);
    let fd = {
        let released = kernel.release(fd).unwrap();
        kernel.keep(released).unwrap()
    };
    kernel.watch(fd, token(4), Interest::ReadWrite).unwrap();
    polled(&mut kernel, PATIENCE);
    SockRef::from(&peer).send_out_of_band(b"!").unwrap();
    let urgent = |events: &[Event]| {
        events
            .iter()
            .any(|event| event.ready.contains(Readiness::URGENT))
    };
    let mut witness = OsKernel::new(4, 4).unwrap();
    witness.register(fd, token(4), Interest::ReadWrite).unwrap();
    eventually(|| urgent(&polled(&mut witness, PATIENCE)).then_some(()));
    assert!(!urgent(&polled(&mut kernel, Duration::ZERO)));
    kernel.close(fd);
}

#[test]
fn what_is_always_ready_cannot_be_watched() {
    let mut kernel = kernel();
    let scratch = Scratch::new();
    let file = File::create(scratch.path("file")).unwrap();
    let directory = File::open(&scratch.0).unwrap();
    for file in [file, directory] {
        let fd = kernel.keep(file.into()).unwrap();
        let refused = kernel.watch(fd, token(4), Interest::Read);
        assert_eq!(refused, Err(Errno(libc::EPERM)));
        // epoll would say so itself, kqueue would not.
        let asked = crate::kernel::os::handover::must_be_watchable(fd);
        assert_eq!(asked, Err(Errno(libc::EPERM)));
        kernel.close(fd);
    }
}

#[test]
fn what_is_not_open_cannot_be_watched() {
    let refused = kernel().watch(Fd(i32::MAX), token(4), Interest::Read);
    assert_eq!(refused, Err(Errno(libc::EBADF)));
}

#[test]
#[cfg(target_os = "linux")]
fn a_counter_of_events_is_watched() {
    let mut kernel = kernel();
    // SAFETY: makes a descriptor of two numbers; it is owned right away.
    let counter = unsafe {
        let number = libc::eventfd(0, libc::EFD_CLOEXEC);
        assert_ne!(number, -1);
        <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(number)
    };
    let mut counter = File::from(counter);
    let fd = kernel.keep(counter.try_clone().unwrap().into()).unwrap();
    kernel.watch(fd, token(4), Interest::Read).unwrap();
    assert_eq!(polled(&mut kernel, Duration::ZERO), []);
    for _ in 0..2 {
        counter.write_all(&1u64.to_ne_bytes()).unwrap();
        assert_eq!(polled(&mut kernel, PATIENCE).len(), 1);
        counter.read_exact(&mut [0; 8]).unwrap();
        kernel.rewatch(fd, token(4), Interest::Read).unwrap();
        assert_eq!(polled(&mut kernel, Duration::ZERO), []);
    }
    drop(kernel.release(fd).unwrap());
}
