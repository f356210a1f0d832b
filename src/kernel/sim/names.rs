//! The names of Unix sockets: a file system with nothing but sockets and plain files in it,
//! and the abstract names beside it.
//!
//! It knows what stands at a name and who serves it, never what a connection or a datagram
//! is. Every directory exists and everybody may write to it.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::address::UnixAddr;
use crate::kernel::{Errno, PathIdentity};

/// All files are on one device.
const DEVICE: u64 = 1;
/// Permission bits of a socket that nobody gave any: what the umask 022 leaves.
const DEFAULT_MODE: u32 = 0o755;

/// What stands where.
#[derive(Debug, Default)]
pub(super) struct Names {
    nodes: BTreeMap<Vec<u8>, Node>,
    /// By inode: who serves a socket. One that nobody serves is stale.
    owners: BTreeMap<u64, Owner>,
    last_inode: u64,
}

#[derive(Debug)]
struct Node {
    inode: u64,
    is_socket: bool,
    #[cfg_attr(not(test), allow(dead_code, reason = "tests look at it"))]
    mode: u32,
}

/// Who answers at a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owner {
    /// Index of a listener of the network.
    Listener(usize),
    /// Index of a link of the network: a socket that has a name and serves nobody.
    Stream(usize),
    /// Index of an end for datagrams.
    Packets(usize),
}

impl Names {
    /// Makes a socket at `name`; EADDRINUSE whatever stands there.
    pub(super) fn bind(
        &mut self,
        name: &UnixAddr,
        owner: Owner,
        mode: Option<u32>,
    ) -> Result<(), Errno> {
        if name.is_unnamed() {
            return Err(Errno(libc::EINVAL));
        }
        if self.nodes.contains_key(name.bytes()) {
            return Err(Errno(libc::EADDRINUSE));
        }
        let inode = self.add(name, true, mode);
        self.owners.insert(inode, owner);
        Ok(())
    }

    /// A socket is closed: its path stays, its abstract name does not.
    pub(super) fn release(&mut self, owner: Owner) {
        self.owners.retain(|_, it| *it != owner);
        let owners = &self.owners;
        self.nodes
            .retain(|name, node| name.first() != Some(&0) || owners.contains_key(&node.inode));
    }

    /// Who answers at `name`, or what connect(2) fails with.
    pub(super) fn serving(&self, name: &UnixAddr) -> Result<Owner, Errno> {
        let node = self.nodes.get(name.bytes());
        let missing = match name.path() {
            Some(_) => libc::ENOENT,
            None => libc::ECONNREFUSED,
        };
        let node = node.ok_or(Errno(missing))?;
        let owner = self.owners.get(&node.inode);
        owner.copied().ok_or(Errno(libc::ECONNREFUSED))
    }

    pub(super) fn identity(&self, path: &Path) -> Result<PathIdentity, Errno> {
        let node = self.nodes.get(path.as_os_str().as_bytes());
        let node = node.ok_or(Errno(libc::ENOENT))?;
        Ok(PathIdentity {
            is_socket: node.is_socket,
            device: DEVICE,
            inode: node.inode,
        })
    }

    /// Whoever serves the socket goes on with the connections that it has; no new one finds it.
    pub(super) fn unlink(&mut self, path: &Path) -> Result<(), Errno> {
        let node = self.nodes.remove(path.as_os_str().as_bytes());
        node.map(|_| ()).ok_or(Errno(libc::ENOENT))
    }

    /// Puts a stale socket or a plain file at a path, in place of what is there.
    pub(super) fn leave(&mut self, path: &UnixAddr, is_socket: bool) {
        self.add(path, is_socket, None);
    }

    #[cfg(test)]
    pub(super) fn mode(&self, path: &Path) -> Option<u32> {
        let node = self.nodes.get(path.as_os_str().as_bytes());
        node.map(|it| it.mode)
    }

    /// No inode is used twice.
    fn add(&mut self, name: &UnixAddr, is_socket: bool, mode: Option<u32>) -> u64 {
        self.last_inode += 1;
        let node = Node {
            inode: self.last_inode,
            is_socket,
            mode: mode.unwrap_or(DEFAULT_MODE),
        };
        self.nodes.insert(name.bytes().to_vec(), node);
        self.last_inode
    }
}

/// A path, or with an `@` before it an abstract name.
pub(crate) fn unix_name(text: &Path) -> UnixAddr {
    let bytes = text.as_os_str().as_bytes();
    match bytes.strip_prefix(b"@") {
        Some(name) => UnixAddr::from_bytes(&[b"\0", name].concat()),
        None => UnixAddr::from_bytes(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> UnixAddr {
        unix_name(Path::new(text))
    }

    #[test]
    fn a_path_outlives_its_socket_and_an_abstract_name_does_not() {
        let mut names = Names::default();
        let (path, hidden) = (named("/run/x.sock"), named("@x"));
        let (one, other) = (Owner::Listener(1), Owner::Listener(2));
        assert_eq!(names.serving(&path), Err(Errno(libc::ENOENT)));
        assert_eq!(names.serving(&hidden), Err(Errno(libc::ECONNREFUSED)));
        names.bind(&path, one, None).unwrap();
        names.bind(&hidden, other, None).unwrap();
        assert_eq!(names.bind(&hidden, one, None), Err(Errno(libc::EADDRINUSE)));
        assert_eq!(names.serving(&path), Ok(one));
        assert_eq!(names.serving(&hidden), Ok(other));
        names.release(one);
        names.release(other);
        assert_eq!(names.serving(&path), Err(Errno(libc::ECONNREFUSED)));
        assert_eq!(names.bind(&path, other, None), Err(Errno(libc::EADDRINUSE)));
        assert_eq!(names.bind(&hidden, one, None), Ok(()));
    }

    #[test]
    fn who_replaces_a_socket_has_another_identity() {
        let mut names = Names::default();
        let path = Path::new("/run/x.sock");
        let name = named("/run/x.sock");
        names.bind(&name, Owner::Listener(1), Some(0o600)).unwrap();
        let before = names.identity(path).unwrap();
        assert!(before.is_socket);
        assert_eq!(names.mode(path), Some(0o600));
        names.unlink(path).unwrap();
        assert_eq!(names.unlink(path), Err(Errno(libc::ENOENT)));
        names.bind(&name, Owner::Listener(2), None).unwrap();
        assert_ne!(names.identity(path).unwrap(), before);
        names.release(Owner::Listener(1));
        assert_eq!(names.serving(&name), Ok(Owner::Listener(2)));
        names.leave(&name, false);
        assert!(!names.identity(path).unwrap().is_socket);
        assert_eq!(names.serving(&name), Err(Errno(libc::ECONNREFUSED)));
    }
}
