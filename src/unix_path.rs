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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::address::UnixAddr;
    use crate::kernel::sim::{Call, SimKernel};
    use crate::kernel::{ListenSpec, StreamOptions};

    const PATH: &str = "/run/app.sock";

    fn addr() -> Addr {
        UnixAddr::from_path(PATH).unwrap().into()
    }

    fn listen(kernel: &mut dyn Kernel) -> Result<Fd, Fault> {
        kernel.listen(&ListenSpec {
            addr: addr(),
            transport: Transport::Stream,
            mode: None,
            only_v6: false,
            backlog: 4,
            reuse_port: false,
            stream: StreamOptions::default(),
            prepare: None,
        })
    }

    fn bind(kernel: &mut SimKernel) -> Result<(Fd, Option<Owned>), Fault> {
        bind_repairing(kernel, &addr(), Transport::Stream, listen)
    }

    #[test]
    fn a_stale_path_is_removed_and_bound_once_more() {
        let mut kernel = SimKernel::new(1);
        kernel.leave(Path::new(PATH), true);
        let left = kernel.path_identity(Path::new(PATH)).unwrap();
        let (_, owned) = bind(&mut kernel).unwrap();
        let owned = owned.unwrap();
        assert_ne!(owned.identity, left);
        remove_if_ours(&mut kernel, &owned);
        assert!(!kernel.exists(Path::new(PATH)));
    }

    /// Whatever the system says but "refused" means that somebody may be there.
    #[test]
    fn in_doubt_a_path_stays() {
        for (call, errno) in [
            (Call::Stat, libc::EACCES),
            (Call::Knock, libc::EAGAIN),
            (Call::Knock, libc::EACCES),
            (Call::Knock, libc::EPROTOTYPE),
            (Call::Knock, libc::ETIMEDOUT),
            (Call::Unlink, libc::EPERM),
        ] {
            let mut kernel = SimKernel::new(1);
            kernel.leave(Path::new(PATH), true);
            kernel.fail(call, Errno(errno), 1);
            let fault = bind(&mut kernel).unwrap_err();
            let expected = Fault {
                call: "bind",
                errno: Errno(libc::EADDRINUSE),
            };
            assert_eq!(fault, expected, "{call:?}");
            assert!(kernel.exists(Path::new(PATH)), "{call:?}");
        }
    }

    #[test]
    fn what_is_no_socket_stays() {
        let mut kernel = SimKernel::new(1);
        kernel.leave(Path::new(PATH), false);
        assert_eq!(bind(&mut kernel).unwrap_err().errno.0, libc::EADDRINUSE);
        assert!(kernel.exists(Path::new(PATH)));
        assert_eq!(kernel.calls(Call::Knock), 0);
    }

    #[test]
    fn another_failure_than_a_path_in_use_removes_nothing() {
        let mut kernel = SimKernel::new(1);
        kernel.leave(Path::new(PATH), true);
        kernel.fail(Call::Listen, Errno(libc::EACCES), 1);
        assert_eq!(bind(&mut kernel).unwrap_err().errno.0, libc::EACCES);
        assert!(kernel.exists(Path::new(PATH)));
    }

    #[test]
    fn what_somebody_has_put_in_our_place_stays() {
        let mut kernel = SimKernel::new(1);
        let (_, owned) = bind(&mut kernel).unwrap();
        kernel.leave(Path::new(PATH), true);
        remove_if_ours(&mut kernel, &owned.unwrap());
        assert!(kernel.exists(Path::new(PATH)));
    }

    #[test]
    fn an_address_without_a_path_is_nobodys() {
        let mut kernel = SimKernel::new(1);
        let tcp: Addr = std::net::SocketAddr::from(([127, 0, 0, 1], 7)).into();
        assert_eq!(note(&mut kernel, &tcp), None);
        assert_eq!(note(&mut kernel, &UnixAddr::UNNAMED.into()), None);
    }

    #[test]
    fn a_stale_path_stays_if_it_is_not_what_was_in_the_way() {
        for (call, errno) in [
            (Call::Socket, libc::EMFILE),
            (Call::Socket, libc::EADDRINUSE),
            (Call::Bind, libc::EACCES),
        ] {
            let mut kernel = SimKernel::new(1);
            kernel.leave(Path::new(PATH), true);
            kernel.fail(call, Errno(errno), 1);
            assert_eq!(bind(&mut kernel).unwrap_err().errno.0, errno);
            assert!(kernel.exists(Path::new(PATH)), "{call:?}");
            assert_eq!(kernel.calls(Call::Knock), 0);
        }
    }
}
