//! Paths of Unix sockets: those left behind by the dead, and those to be removed after us.
//!
//! A path outlives the process that was killed, and nobody can bind it again until somebody
//! removes it. Here is decided when that may be done. Knows sockets of every type, and
//! neither listeners nor the loop.
//!
//! A stale path is removed only if all of this holds: it is a socket, a connect to it says
//! that nobody serves it (ECONNREFUSED), and it is still the same one (device and inode)
//! afterwards. Between the last look and the removal another process can still put its own
//! socket there, and would lose its path: two servers that are started on one path at the
//! same moment need a lock of their own.
//!
//! A path of ours is removed only if device and inode are those that were noted after it
//! was bound, and before our descriptor is closed: until then its inode cannot be given to
//! another file.

use std::path::PathBuf;

use crate::address::Addr;
use crate::kernel::{Errno, Fault, Fd, Kernel, PathIdentity, Transport};

/// A path that a socket of ours was bound to, and what stood there right afterwards.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Owned {
    path: PathBuf,
    identity: PathIdentity,
}

/// Binds by `open`; if the path is in use and stale, removes it and binds once more.
///
/// Answers what [`remove_if_ours`] takes, if `addr` is a path. The fault is the one that the
/// first attempt met, unless it was the second that failed.
pub(crate) fn bind_repairing(
    kernel: &mut dyn Kernel,
    addr: &Addr,
    transport: Transport,
    mut open: impl FnMut(&mut dyn Kernel) -> Result<Fd, Fault>,
) -> Result<(Fd, Option<Owned>), Fault> {
    match bind_noting(kernel, addr, &mut open) {
        Err(fault) if is_taken(fault) && remove_if_stale(kernel, addr, transport) => {
            log::info!(target: "windlass::unix_path", "{addr}: removed, nobody served it any more");
            bind_noting(kernel, addr, open)
        }
        outcome => outcome,
    }
}

/// Binds by `open`, whatever stands at the path, and notes what stands there then.
pub(crate) fn bind_noting(
    kernel: &mut dyn Kernel,
    addr: &Addr,
    open: impl FnOnce(&mut dyn Kernel) -> Result<Fd, Fault>,
) -> Result<(Fd, Option<Owned>), Fault> {
    let fd = open(kernel)?;
    Ok((fd, note(kernel, addr)))
}

/// What stands at a path right now, to be removed later if it is still the same. `None` for
/// what is no path, or no socket.
pub(crate) fn note(kernel: &mut dyn Kernel, addr: &Addr) -> Option<Owned> {
    let path = addr.as_unix()?.path()?;
    let identity = kernel.path_identity(path).ok()?;
    identity.is_socket.then(|| Owned {
        path: path.to_owned(),
        identity,
    })
}

/// Removes a path of ours, unless somebody has put something else there. To be called
/// before the socket is closed.
pub(crate) fn remove_if_ours(kernel: &mut dyn Kernel, owned: &Owned) {
    if kernel.path_identity(&owned.path) != Ok(owned.identity) {
        return;
    }
    if let Err(errno) = kernel.unlink(&owned.path) {
        let why = std::io::Error::from(errno);
        log::warn!(target: "windlass::unix_path", "{} stays: {why}", owned.path.display());
    }
}

fn is_taken(fault: Fault) -> bool {
    fault.call == "bind" && fault.errno.0 == libc::EADDRINUSE
}

fn remove_if_stale(kernel: &mut dyn Kernel, addr: &Addr, transport: Transport) -> bool {
    let Addr::Unix(name) = addr else {
        return false;
    };
    let Some(path) = name.path() else {
        return false;
    };
    let before = kernel.path_identity(path);
    if !before.is_ok_and(|identity| identity.is_socket) {
        return false;
    }
    if kernel.knock(name, transport) != Err(Errno(libc::ECONNREFUSED)) {
        return false;
    }
    kernel.path_identity(path) == before && kernel.unlink(path).is_ok()
}
