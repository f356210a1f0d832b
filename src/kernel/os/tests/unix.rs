//! Unix streams and records, paths, credentials, descriptors that travel.

use std::io::PipeWriter;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use super::*;
use crate::kernel::MAX_FDS;

fn listen_at(addr: Addr) -> ListenSpec {
    ListenSpec { addr, ..loopback() }
}

fn records_at(addr: Addr) -> ListenSpec {
    ListenSpec {
        transport: Transport::Records,
        ..listen_at(addr)
    }
}

fn dial_to(listener: &ListenSpec) -> DialSpec {
    DialSpec {
        remote: listener.addr.clone(),
        transport: listener.transport,
        local: None,
        stream: StreamOptions::default(),
        prepare: None,
    }
}

/// A connection: the dialed end, and the accepted one.
fn connected(kernel: &mut OsKernel, spec: &ListenSpec) -> (Fd, Fd) {
    let listener = kernel.listen(spec).unwrap();
    let dialed = kernel.socket(&dial_to(spec)).unwrap();
    assert_eq!(kernel.connect(dialed, &spec.addr), Ok(()));
    let (fd, from) = accepted(kernel, listener);
    assert_eq!(from, Addr::Unix(UnixAddr::UNNAMED));
    kernel.close(listener);
    (dialed, fd)
}

fn streams(kernel: &mut OsKernel) -> (Fd, Fd) {
    let scratch = Scratch::new();
    connected(kernel, &listen_at(scratch.addr("s")))
}

/// `None`, said aloud, where the system has no such sockets.
fn records(kernel: &mut OsKernel) -> Option<(Fd, Fd)> {
    let scratch = Scratch::new();
    let spec = records_at(scratch.addr("s"));
    if let Err(fault) = kernel.listen(&spec) {
        eprintln!("no sockets for records on this system, nothing tested: {fault:?}");
        return None;
    }
    std::fs::remove_file(scratch.path("s")).unwrap();
    Some(connected(kernel, &spec))
}

/// A message that has come, waiting for it if need be.
fn message(
    kernel: &mut OsKernel,
    fd: Fd,
    buffer: &mut [u8],
    mut fds: Option<&mut Vec<OwnedFd>>,
) -> Message {
    eventually(
        || match kernel.receive_message(fd, buffer, fds.as_deref_mut()) {
            Ok(message) => Some(message),
            Err(Errno(libc::EAGAIN)) => None,
            Err(other) => panic!("receive_message: {other:?}"),
        },
    )
}

/// Two ends to tell by whether a descriptor is open: the reading one sees the end when the
/// last copy of the writing one is closed.
pub(super) fn pipe() -> (io::PipeReader, OwnedFd) {
    let (reader, writer) = io::pipe().unwrap();
    (reader, PipeWriter::into(writer))
}

/// Descriptors of this process that are open on the pipe, either end.
#[cfg(target_os = "linux")]
pub(super) fn copies(reader: &io::PipeReader) -> usize {
    let target = |number: i32| std::fs::read_link(format!("/proc/self/fd/{number}"));
    let wanted = target(reader.as_raw_fd()).unwrap();
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    entries
        .filter(|entry| {
            // Other tests close theirs meanwhile.
            let path = entry.as_ref().unwrap().path();
            std::fs::read_link(path).is_ok_and(|found| found == wanted)
        })
        .count()
}

/// Nobody holds the writing end any more, on its way or open.
pub(super) fn assert_last(mut reader: io::PipeReader) {
    let (done, ended) = mpsc::channel();
    thread::spawn(move || done.send(reader.read(&mut [0; 1]).unwrap()));
    assert_eq!(ended.recv_timeout(PATIENCE), Ok(0));
}

// Paths and names.

#[test]
fn a_unix_stream_carries_bytes_until_the_end() {
    let mut kernel = kernel();
    let scratch = Scratch::new();
    let spec = listen_at(scratch.addr("s"));
    let listener = kernel.listen(&spec).unwrap();
    assert_nonblocking_and_cloexec(listener);
    assert_eq!(kernel.local_addr(listener), Ok(spec.addr.clone()));
    assert_eq!(kernel.accept(listener), Err(Errno(libc::EAGAIN)));

    let from = scratch.addr("client");
    let dial = DialSpec {
        local: Some(from.clone()),
        ..dial_to(&spec)
    };
    let dialed = kernel.socket(&dial).unwrap();
    assert_nonblocking_and_cloexec(dialed);
    assert_eq!(kernel.peer_addr(dialed), Err(Errno(libc::ENOTCONN)));
    assert_eq!(kernel.connect(dialed, &spec.addr), Ok(()));
    assert_eq!(kernel.peer_addr(dialed), Ok(spec.addr.clone()));
    let (fd, peer) = accepted(&mut kernel, listener);
    assert_nonblocking_and_cloexec(fd);
    assert_eq!(peer, from);

    assert_eq!(kernel.write(dialed, b"ping"), Ok(4));
    let mut buffer = [0; 16];
    assert_eq!(read_some(&mut kernel, fd, &mut buffer), 4);
    kernel.close(dialed);
    assert_eq!(read_some(&mut kernel, fd, &mut buffer), 0);
    kernel.close(fd);
    kernel.close(listener);
    assert_eq!(
        scratch.names().len(),
        2,
        "paths are their keeper's to unlink"
    );
}

#[test]
fn a_client_without_a_name_has_none() {
    let mut kernel = kernel();
    let (dialed, fd) = streams(&mut kernel);
    let nobody = Ok(Addr::Unix(UnixAddr::UNNAMED));
    assert_eq!(kernel.local_addr(dialed), nobody);
    assert_eq!(kernel.peer_addr(fd), nobody);
    kernel.close(dialed);
    kernel.close(fd);
}

#[test]
#[cfg(target_os = "linux")]
fn abstract_names_are_served_and_dialed() {
    let mut kernel = kernel();
    let nul_inside = named(format!("\0windlass\0{:x}", kernel.random()).as_bytes());
    let longest = named(format!("\0{:0107}", kernel.random()).as_bytes());
    for name in [abstract_name(&mut kernel), nul_inside, longest] {
        let spec = listen_at(name.clone());
        let listener = kernel.listen(&spec).unwrap();
        assert_eq!(kernel.local_addr(listener), Ok(name.clone()));
        let dialed = kernel.socket(&dial_to(&spec)).unwrap();
        assert_eq!(kernel.connect(dialed, &name), Ok(()));
        assert_eq!(kernel.peer_addr(dialed), Ok(name));
        kernel.close(dialed);
        kernel.close(listener);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_listener_without_a_name_is_given_one() {
    let mut kernel = kernel();
    let spec = listen_at(Addr::Unix(UnixAddr::UNNAMED));
    let listener = kernel.listen(&spec).unwrap();
    let addr = kernel.local_addr(listener).unwrap();
    let name = addr.as_unix().unwrap().abstract_name().unwrap();
    assert!(!name.is_empty());
    let dialed = kernel.socket(&dial_to(&listen_at(addr.clone()))).unwrap();
    assert_eq!(kernel.connect(dialed, &addr), Ok(()));
    kernel.close(dialed);
    kernel.close(listener);
}

#[test]
fn a_name_that_no_socket_can_have_is_refused_without_asking() {
    let mut kernel = kernel();
    let scratch = Scratch::new();
    let too_long = named(&[b'x'; 108]);
    let mut names = vec![too_long, named(&[b'/'; 4000]), named(b"nul\0inside")];
    names.push(named(&[0; 109]));
    for name in names {
        let spec = listen_at(name.clone());
        let fault = kernel.listen(&spec).unwrap_err();
        assert_eq!(fault, refusal("bind", libc::EINVAL), "{name}");
        let fd = kernel.socket(&dial_to(&spec)).unwrap();
        assert_eq!(kernel.connect(fd, &name), Err(Errno(libc::EINVAL)));
        kernel.close(fd);
        let from = DialSpec {
            local: Some(name),
            ..dial_to(&listen_at(scratch.addr("s")))
        };
        assert_eq!(kernel.socket(&from), Err(refusal("bind", libc::EINVAL)));
    }
    assert_eq!(scratch.names(), [""; 0]);
}

#[test]
#[cfg(target_os = "linux")]
fn the_longest_path_has_107_bytes() {
    let mut kernel = kernel();
    let scratch = Scratch::new();
    let fill = 107 - scratch.path("").as_os_str().len();
    let spec = listen_at(scratch.addr(&"x".repeat(fill)));
    let listener = kernel.listen(&spec).unwrap();
    assert_eq!(kernel.local_addr(listener), Ok(spec.addr));
    kernel.close(listener);
}

#[test]
fn a_unix_listener_has_the_mode_asked_for_and_else_what_the_umask_leaves() {
    let mut kernel = kernel();
    let scratch = Scratch::new();
    let mode_of = |name: &str| {
        let found = std::fs::metadata(scratch.path(name)).unwrap();
        found.permissions().mode() & 0o777
    };
    let mut modes = Vec::new();
    for (name, mode) in [
        ("a", Some(0o600)),
        ("b", Some(0o777)),
        ("c", Some(0)),
        ("d", None),
    ] {
        let spec = ListenSpec {
            mode,
            ..listen_at(scratch.addr(name))
        };
        let listener = kernel.listen(&spec).unwrap();
        modes.push(mode_of(name));
        kernel.close(listener);
    }
    assert_eq!(modes[..3], [0o600, 0o777, 0]);
    File::create(scratch.path("file")).unwrap();
    assert_eq!(modes[3] & 0o666, mode_of("file"), "by the same umask");
}

#[test]
fn a_path_in_use_is_refused_and_left_as_it_is() {
    let mut kernel = kernel();
    let scratch = Scratch::new();
    let spec = ListenSpec {
        mode: Some(0o600),
        ..listen_at(scratch.addr("s"))
    };
    let listener = kernel.listen(&spec).unwrap();
    let before = kernel.path_identity(&scratch.path("s")).unwrap();
    assert_eq!(kernel.listen(&spec), Err(refusal("bind", libc::EADDRINUSE)));
    kernel.close(listener);
    assert_eq!(kernel.listen(&spec), Err(refusal("bind", libc::EADDRINUSE)));
    assert_eq!(kernel.path_identity(&scratch.path("s")), Ok(before));
}

#[test]
fn a_listener_that_comes_to_nothing_leaves_nothing_behind() {
    let mut kernel = kernel();
    let scratch = Scratch::new();
    // Datagram sockets can be bound, and then not listen.
    let spec = ListenSpec {
        transport: Transport::Datagrams,
        ..listen_at(scratch.addr("s"))
    };
    assert_eq!(kernel.listen(&spec).unwrap_err().call, "listen");
    assert_eq!(scratch.names(), [""; 0]);
    let nowhere = listen_at(scratch.addr("no/s"));
    assert_eq!(kernel.listen(&nowhere), Err(refusal("bind", libc::ENOENT)));
}

#[test]
fn options_of_tcp_are_passed_over() {
    let mut kernel = kernel();
    let scratch = Scratch::new();
    let tcp = StreamOptions {
        nodelay: Some(true),
        keepalive: Some(Keepalive::default()),
        ..StreamOptions::default()
    };
    let spec = ListenSpec {
        stream: StreamOptions {
            send_buffer: Some(24 * 1024),
            ..tcp
        },
        reuse_port: true,
        ..listen_at(scratch.addr("s"))
    };
    let listener = kernel.listen(&spec).unwrap();
    let dial = DialSpec {
        stream: spec.stream,
        ..dial_to(&spec)
    };
    let dialed = kernel.socket(&dial).unwrap();
    assert_eq!(kernel.connect(dialed, &spec.addr), Ok(()));
    let (fd, _) = accepted(&mut kernel, listener);
    assert!(kernel.has_options(fd, &tcp));
    assert_eq!(kernel.set_options(fd, &tcp), Ok(()));

    // What a listener of this kind doesn't hand down has to be set on each connection.
    let before = SockRef::from(&fd).send_buffer_size().unwrap();
    assert!(!kernel.has_options(fd, &spec.stream));
    assert_eq!(kernel.set_options(fd, &spec.stream), Ok(()));
    let size = |fd: &Fd| SockRef::from(fd).send_buffer_size().unwrap();
    assert_ne!(size(&fd), before);
    assert_eq!(size(&fd), size(&dialed));
    for fd in [fd, dialed, listener] {
        kernel.close(fd);
    }
}

#[test]
fn the_identity_of_a_path_tells_a_socket_from_another_and_from_a_file() {
    let mut kernel = kernel();
    let scratch = Scratch::new();
    let path = scratch.path("s");
    assert_eq!(kernel.path_identity(&path), Err(Errno(libc::ENOENT)));
    assert_eq!(kernel.unlink(&path), Err(Errno(libc::ENOENT)));
    let first = kernel.listen(&listen_at(scratch.addr("s"))).unwrap();
    let identity = kernel.path_identity(&path).unwrap();
    assert!(identity.is_socket);
    assert_eq!(kernel.path_identity(&path), Ok(identity));

    std::os::unix::fs::symlink(&path, scratch.path("link")).unwrap();
    assert!(
        !kernel
            .path_identity(&scratch.path("link"))
            .unwrap()
            .is_socket
    );
    std::fs::rename(&path, scratch.path("moved")).unwrap();
    let second = kernel.listen(&listen_at(scratch.addr("s"))).unwrap();
    assert_ne!(kernel.path_identity(&path), Ok(identity));
    assert_eq!(kernel.path_identity(&scratch.path("moved")), Ok(identity));

    assert_eq!(kernel.unlink(&path), Ok(()));
    File::create(&path).unwrap();
    assert!(!kernel.path_identity(&path).unwrap().is_socket);
    kernel.close(first);
    kernel.close(second);
}

#[test]
fn a_knock_tells_whether_somebody_serves_the_path() {
    let mut kernel = kernel();
    let scratch = Scratch::new();
    let spec = ListenSpec {
        backlog: 1,
        ..listen_at(scratch.addr("s"))
    };
    let name = spec.addr.as_unix().unwrap().clone();
    let knock = |kernel: &mut OsKernel| kernel.knock(&name, Transport::Stream);
    assert_eq!(knock(&mut kernel), Err(Errno(libc::ENOENT)));
    let listener = kernel.listen(&spec).unwrap();
    assert_eq!(knock(&mut kernel), Ok(()));
    // It has hung up, and waits in the queue as a connection that is over.
    let (fd, _) = accepted(&mut kernel, listener);
    assert_eq!(read_some(&mut kernel, fd, &mut [0; 1]), 0);
    if cfg!(target_os = "linux") {
        // A queue that is full has somebody behind it.
        (0..5).for_each(|_| assert_eq!(knock(&mut kernel), Ok(())));
    }
    kernel.close(fd);
    kernel.close(listener);
    assert_eq!(knock(&mut kernel), Err(Errno(libc::ECONNREFUSED)));
    std::fs::remove_file(scratch.path("s")).unwrap();
    File::create(scratch.path("s")).unwrap();
    assert!(knock(&mut kernel).is_err());
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_queue_refuses_a_dial_for_the_time_being() {
    let mut kernel = kernel();
    let scratch = Scratch::new();
    let spec = ListenSpec {
        backlog: 0,
        ..listen_at(scratch.addr("s"))
    };
    let listener = kernel.listen(&spec).unwrap();
    let dialed: Vec<_> = (0..4)
        .map(|_| kernel.socket(&dial_to(&spec)).unwrap())
        .collect();
    let outcomes: Vec<_> = dialed
        .iter()
        .map(|fd| kernel.connect(*fd, &spec.addr))
        .collect();
    assert_eq!(outcomes[0], Ok(()));
    assert_eq!(outcomes[3], Err(Errno(libc::EAGAIN)));
    dialed.into_iter().for_each(|fd| kernel.close(fd));
    kernel.close(listener);
}

// Credentials.

#[test]
fn the_peer_of_a_unix_socket_is_known() {
    let mut kernel = kernel();
    let (dialed, fd) = streams(&mut kernel);
    // SAFETY: the two calls ask for numbers and cannot fail.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    for fd in [dialed, fd] {
        let cred = kernel.peer_cred(fd).unwrap();
        assert_eq!((cred.uid, cred.gid), (uid, gid));
        if let Some(pid) = cred.pid {
            assert_eq!(u32::try_from(pid), Ok(std::process::id()));
        }
        assert!(cred.pid.is_some() || !cfg!(target_os = "linux"));
        kernel.close(fd);
    }
}

#[test]
fn the_peer_of_another_socket_is_not() {
    let mut kernel = kernel();
    let (fd, _peer) = pair(&mut kernel);
    assert!(kernel.peer_cred(fd).is_err());
    kernel.close(fd);
    let scratch = Scratch::new();
    let idle = dial_to(&listen_at(scratch.addr("s")));
    let idle = kernel.socket(&idle).unwrap();
    assert!(kernel.peer_cred(idle).is_err());
    kernel.close(idle);
}

// Records.

#[test]
fn records_keep_their_bounds() {
    let mut kernel = kernel();
    let Some((dialed, fd)) = records(&mut kernel) else {
        return;
    };
    let mut buffer = [0; 8];
    let nothing = kernel.receive_message(fd, &mut buffer, None);
    assert_eq!(nothing, Err(Errno(libc::EAGAIN)));
    for record in [&b"one"[..], b"four!", b"longer than it may be", b"end"] {
        assert_eq!(kernel.write(dialed, record), Ok(record.len()));
    }
    let mut seen = Vec::new();
    for _ in 0..4 {
        let Message { len, truncated } = message(&mut kernel, fd, &mut buffer, None);
        seen.push((buffer[..len].to_vec(), truncated));
    }
    let expected = [
        (b"one".to_vec(), false),
        (b"four!".to_vec(), false),
        (b"longer t".to_vec(), true),
        (b"end".to_vec(), false),
    ];
    assert_eq!(seen, expected);
    kernel.close(dialed);
    let end = message(&mut kernel, fd, &mut buffer, None);
    assert_eq!((end.len, end.truncated), (0, false));
    kernel.close(fd);
}

#[test]
fn the_bytes_of_a_stream_are_never_truncated() {
    let mut kernel = kernel();
    let (dialed, fd) = streams(&mut kernel);
    assert_eq!(kernel.write(dialed, b"longer than it may be"), Ok(21));
    let mut buffer = [0; 8];
    let first = message(&mut kernel, fd, &mut buffer, Some(&mut Vec::new()));
    assert_eq!((first.len, first.truncated), (8, false));
    let second = message(&mut kernel, fd, &mut buffer, None);
    assert_eq!((second.len, second.truncated), (8, false));
    kernel.close(dialed);
    kernel.close(fd);
}

// Descriptors that travel.

#[test]
fn a_descriptor_travels_and_is_close_on_exec_where_it_arrives() {
    let mut kernel = kernel();
    let (dialed, fd) = streams(&mut kernel);
    let (mut reader, writer) = pipe();
    let sent = [writer];
    assert_eq!(kernel.send_with_fds(dialed, b"take it", &sent), Ok(7));
    let mut fds = Vec::new();
    let mut buffer = [0; 16];
    let came = message(&mut kernel, fd, &mut buffer, Some(&mut fds));
    assert_eq!(&buffer[..came.len], b"take it");
    assert_eq!(fds.len(), 1);
    assert_ne!(fds[0].as_raw_fd(), sent[0].as_raw_fd());
    assert_eq!(
        flags(Fd(fds[0].as_raw_fd()), libc::F_GETFD),
        libc::FD_CLOEXEC
    );

    let arrived = PipeWriter::from(fds.remove(0));
    (&arrived).write_all(b"!").unwrap();
    let mut byte = [0; 1];
    reader.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"!");
    drop((arrived, sent));
    assert_last(reader);
    kernel.close(dialed);
    kernel.close(fd);
}

#[test]
fn descriptors_come_with_the_first_of_their_bytes_and_in_order() {
    let mut kernel = kernel();
    let (dialed, fd) = streams(&mut kernel);
    let (readers, writers): (Vec<_>, Vec<_>) = (0..3).map(|_| pipe()).unzip();
    assert_eq!(kernel.write(dialed, b"before"), Ok(6));
    assert_eq!(kernel.send_with_fds(dialed, b"with", &writers), Ok(4));
    drop(writers);
    let mut fds = Vec::new();
    let mut bytes = Vec::new();
    let mut buffer = [0; 2];
    while bytes.len() < 8 {
        let came = message(&mut kernel, fd, &mut buffer, Some(&mut fds));
        bytes.extend_from_slice(&buffer[..came.len]);
        assert!(!fds.is_empty() || bytes.len() <= 6, "late");
    }
    assert_eq!(bytes, b"beforewi");
    assert_eq!(fds.len(), 3);
    for (mut reader, writer) in readers.into_iter().zip(fds) {
        PipeWriter::from(writer).write_all(b"x").unwrap();
        assert_eq!(io::read_to_string(&mut reader).unwrap(), "x");
    }
    kernel.close(dialed);
    kernel.close(fd);
}

#[test]
fn descriptors_that_nobody_wants_are_closed() {
    let mut kernel = kernel();
    for wants_records in [false, true] {
        let pair = if wants_records {
            records(&mut kernel)
        } else {
            Some(streams(&mut kernel))
        };
        let Some((dialed, fd)) = pair else { return };
        let (reader, writer) = pipe();
        assert_eq!(kernel.send_with_fds(dialed, b"x", &[writer]), Ok(1));
        let came = message(&mut kernel, fd, &mut [0; 8], None);
        assert_eq!(came.len, 1);
        assert_last(reader);

        let (reader, writer) = pipe();
        assert_eq!(kernel.send_with_fds(dialed, b"x", &[writer]), Ok(1));
        assert_eq!(read_some(&mut kernel, fd, &mut [0; 8]), 1);
        assert_last(reader);

        let (reader, writer) = pipe();
        assert_eq!(kernel.send_with_fds(dialed, b"x", &[writer]), Ok(1));
        kernel.close(fd);
        assert_last(reader);
        kernel.close(dialed);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn as_many_descriptors_travel_as_the_system_allows() {
    let mut kernel = kernel();
    let (dialed, fd) = streams(&mut kernel);
    let (reader, writer) = pipe();
    let copy = || writer.try_clone().unwrap();
    let mut sent: Vec<_> = (0..MAX_FDS).map(|_| copy()).collect();
    assert_eq!(kernel.send_with_fds(dialed, b"x", &sent), Ok(1));
    let mut fds = Vec::new();
    message(&mut kernel, fd, &mut [0; 8], Some(&mut fds));
    assert_eq!(fds.len(), MAX_FDS);
    assert_eq!(copies(&reader), 2 + 2 * MAX_FDS);

    sent.push(copy());
    let refused = Err(Errno(libc::EINVAL));
    assert_eq!(kernel.send_with_fds(dialed, b"x", &sent), refused);
    assert_eq!(kernel.send_with_fds(dialed, b"", &sent[..1]), refused);
    let nothing = kernel.receive_message(fd, &mut [0; 8], Some(&mut fds));
    assert_eq!(nothing, Err(Errno(libc::EAGAIN)));
    drop((sent, fds, writer));
    assert_last(reader);
    kernel.close(dialed);
    kernel.close(fd);
}

#[test]
fn bytes_without_descriptors_are_a_plain_write() {
    let mut kernel = kernel();
    let (dialed, fd) = streams(&mut kernel);
    assert_eq!(kernel.send_with_fds(dialed, b"plain", &[]), Ok(5));
    let mut fds = Vec::new();
    let came = message(&mut kernel, fd, &mut [0; 8], Some(&mut fds));
    assert_eq!((came.len, fds.len()), (5, 0));
    kernel.close(fd);
    assert_eq!(
        kernel.send_with_fds(dialed, b"late", &[]),
        Err(Errno(libc::EPIPE))
    );
    kernel.close(dialed);
}

#[test]
fn a_dialed_peer_of_the_standard_library_is_served() {
    let mut kernel = kernel();
    let scratch = Scratch::new();
    let listener = kernel.listen(&listen_at(scratch.addr("s"))).unwrap();
    let mut peer = UnixStream::connect(scratch.path("s")).unwrap();
    let (fd, _) = accepted(&mut kernel, listener);
    peer.write_all(b"x").unwrap();
    assert_eq!(read_some(&mut kernel, fd, &mut [0; 8]), 1);
    kernel.reset(fd);
    assert_eq!(peer.read(&mut [0; 1]).unwrap_or(0), 0);
    kernel.close(listener);
}
