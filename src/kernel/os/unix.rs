//! What only Unix sockets have: paths, credentials, descriptors that travel with bytes.

use std::fs;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::control::{Control, Messages, space};
use super::names::sock_addr;
use super::sockets::open;
use super::{SEND_FLAGS, errno, last_errno, of_one_call, option};
use crate::address::{Addr, UnixAddr};
use crate::kernel::{Errno, Fd, MAX_FDS, Message, PathIdentity, PeerCred, Transport};

/// Room for the descriptors of one message that is received: as many as any system lets pass
/// (MCLBYTES on the BSDs, which is more than [`MAX_FDS`]), because one that has no room here
/// would be lost and stay open.
const CONTROL_BYTES: usize = 2048;

/// The same for one that is sent.
const SENT_CONTROL_BYTES: usize = space(MAX_FDS * size_of::<RawFd>());

/// Descriptors come in close-on-exec.
#[cfg(not(target_os = "macos"))]
const RECEIVE_FLAGS: libc::c_int = libc::MSG_CMSG_CLOEXEC;
/// macOS has no such flag: they are marked right after.
#[cfg(target_os = "macos")]
const RECEIVE_FLAGS: libc::c_int = 0;

// Paths.

pub(super) fn path_identity(path: &Path) -> Result<PathIdentity, Errno> {
    let found = fs::symlink_metadata(path).map_err(errno)?;
    Ok(PathIdentity {
        is_socket: found.file_type().is_socket(),
        device: found.dev(),
        inode: found.ino(),
    })
}

pub(super) fn unlink(path: &Path) -> Result<(), Errno> {
    fs::remove_file(path).map_err(errno)
}

pub(super) fn knock(addr: &UnixAddr, transport: Transport) -> Result<(), Errno> {
    let addr = Addr::Unix(addr.clone());
    let socket = open(&addr, transport).map_err(errno)?;
    match socket.connect(&sock_addr(&addr)?).map_err(errno) {
        // A queue that is full, or a connection under way: somebody is there.
        Err(Errno(libc::EINPROGRESS | libc::EAGAIN)) => Ok(()),
        outcome => outcome,
    }
}

// Credentials.

/// Linux answers "nobody" for sockets that have no peer, or none that it could name.
#[cfg(target_os = "linux")]
pub(super) fn peer_cred(fd: Fd) -> Result<PeerCred, Errno> {
    const NOBODY: libc::uid_t = libc::uid_t::MAX;
    // SAFETY: `ucred` consists of integers, for which every pattern of bits is a value.
    let cred = unsafe { option::<libc::ucred>(fd, libc::SOL_SOCKET, libc::SO_PEERCRED)? };
    if cred.uid == NOBODY {
        return Err(Errno(libc::ENOTCONN));
    }
    Ok(PeerCred {
        uid: cred.uid,
        gid: cred.gid,
        pid: known_process(cred.pid),
    })
}

#[cfg(target_os = "freebsd")]
pub(super) fn peer_cred(fd: Fd) -> Result<PeerCred, Errno> {
    // SAFETY: `xucred` consists of integers and of a union of an integer with a pointer that
    // is not followed here; every pattern of bits is a value.
    let cred = unsafe { option::<libc::xucred>(fd, libc::SOL_LOCAL, libc::LOCAL_PEERCRED)? };
    // SAFETY: both members of the union are plain data of at least this size, and zero where
    // the system is too old to know.
    let pid = unsafe { cred.cr_pid__c_anonymous_union.cr_pid };
    Ok(PeerCred {
        uid: cred.cr_uid,
        // The first of the groups is the effective one.
        gid: cred.cr_groups[0],
        pid: known_process(pid),
    })
}

#[cfg(target_os = "netbsd")]
pub(super) fn peer_cred(fd: Fd) -> Result<PeerCred, Errno> {
    /// The level of options of Unix sockets (`SOL_LOCAL`).
    const SOL_LOCAL: libc::c_int = 0;
    // SAFETY: `unpcbid` consists of integers, for which every pattern of bits is a value.
    let cred = unsafe { option::<libc::unpcbid>(fd, SOL_LOCAL, libc::LOCAL_PEEREID)? };
    Ok(PeerCred {
        uid: cred.unp_euid,
        gid: cred.unp_egid,
        pid: known_process(cred.unp_pid),
    })
}

#[cfg(target_os = "macos")]
pub(super) fn peer_cred(fd: Fd) -> Result<PeerCred, Errno> {
    let (mut uid, mut gid) = (0, 0);
    // SAFETY: both pointers are to live integers, which the call fills.
    super::check(unsafe { libc::getpeereid(fd.0, &raw mut uid, &raw mut gid) })?;
    // SAFETY: the option is a process id, for which every pattern of bits is a value.
    let pid = unsafe { option::<libc::pid_t>(fd, libc::SOL_LOCAL, libc::LOCAL_PEERPID) };
    Ok(PeerCred {
        uid,
        gid,
        pid: pid.ok().and_then(known_process),
    })
}

/// Zero is the system's word for a process that it cannot name to this one.
fn known_process(pid: libc::pid_t) -> Option<i32> {
    (pid != 0).then_some(pid)
}

// Records and descriptors.

pub(super) fn receive_message(
    fd: Fd,
    buffer: &mut [u8],
    fds: Option<&mut Vec<OwnedFd>>,
) -> Result<Message, Errno> {
    let mut control = Control::<CONTROL_BYTES>::new();
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: of_one_call(buffer.len()),
    };
    let mut header = header_of(&mut part);
    // Without room for them the system closes the descriptors that come.
    if fds.is_some() {
        control.attach(&mut header, CONTROL_BYTES);
    }
    // SAFETY: the header points to the buffer, and to room for control messages or to none;
    // both live until the call has returned.
    let length = unsafe { libc::recvmsg(fd.0, &raw mut header, RECEIVE_FLAGS) };
    let len = usize::try_from(length).map_err(|_| last_errno())?;
    if let Some(fds) = fds {
        take_descriptors(control.messages(&header), fds);
    }
    Ok(Message {
        len,
        truncated: header.msg_flags & libc::MSG_TRUNC != 0,
    })
}

/// Whatever the message carried besides descriptors is passed over.
fn take_descriptors(messages: Messages<'_>, fds: &mut Vec<OwnedFd>) {
    for message in messages {
        if (message.level, message.kind) != (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            continue;
        }
        for bytes in message.data.chunks_exact(size_of::<RawFd>()) {
            let number = bytes.try_into().map_or(-1, RawFd::from_ne_bytes);
            if number < 0 {
                continue;
            }
            // SAFETY: the system has just opened it for us, and nobody else was told of it.
            let fd = unsafe { OwnedFd::from_raw_fd(number) };
            close_on_exec(&fd);
            fds.push(fd);
        }
    }
}

#[cfg(target_os = "macos")]
fn close_on_exec(fd: &OwnedFd) {
    // It cannot fail for a descriptor that is open.
    let _ = socket2::SockRef::from(fd).set_cloexec(true);
}

/// The call that received it has marked it.
#[cfg(not(target_os = "macos"))]
fn close_on_exec(_fd: &OwnedFd) {}

pub(super) fn send_with_fds(fd: Fd, bytes: &[u8], fds: &[OwnedFd]) -> Result<usize, Errno> {
    // A stream would lose descriptors that travel with nothing.
    if bytes.is_empty() || fds.len() > MAX_FDS {
        return Err(Errno(libc::EINVAL));
    }
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: of_one_call(bytes.len()),
    };
    let mut header = header_of(&mut part);
    let mut control = Control::<SENT_CONTROL_BYTES>::new();
    if !fds.is_empty() {
        let numbers = fds.iter().map(|fd| fd.as_raw_fd().to_ne_bytes());
        let taken = control
            .put((libc::SOL_SOCKET, libc::SCM_RIGHTS), numbers)
            .ok_or(Errno(libc::EINVAL))?;
        control.attach(&mut header, taken);
    }
    // SAFETY: the header points to the bytes and to a control message of that length, or to
    // none; both live until the call has returned, which only reads them.
    let sent = unsafe { libc::sendmsg(fd.0, &raw const header, SEND_FLAGS) };
    usize::try_from(sent).map_err(|_| last_errno())
}

/// A message of one part, without a name and without control messages.
fn header_of(part: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: integers and pointers, for which zero is a value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = part;
    header.msg_iovlen = 1;
    header
}
