//! Unix sockets in a world: clients, upstreams, and what stands at paths.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::{Client, Remote, World};
use crate::handler::Handler;
use crate::kernel::PeerCred;

/// Unix sockets. A path with an `@` before it is an abstract name.
///
/// Nothing is ever on the wire between them, whatever the latency; who closes is gone at
/// once in both directions, and there is no RST.
///
/// ```
/// # struct App;
/// # impl windlass::Handler for App { type Session = (); }
/// # let mut world = windlass::sim::World::new(1, App);
/// world.leave_socket("/run/x.sock"); // as a server that crashed does
/// world.try_listen("unix:///run/x.sock").unwrap();
/// let client = world.connect_unix("/run/x.sock");
/// world.send(client, b"hello");
/// ```
impl<H: Handler> World<H> {
    /// A new client of whoever listens at `path`. It is in the accept queue at once.
    ///
    /// # Panics
    ///
    /// Nobody listens there, or the queue is full.
    /// [`try_connect_unix`](Self::try_connect_unix) answers that instead.
    #[track_caller]
    pub fn connect_unix(&mut self, path: impl AsRef<Path>) -> Client {
        let path = path.as_ref();
        match self.try_connect_unix(path) {
            Ok(client) => client,
            Err(error) => self.fail(&format!("connect to {}: {error}", path.display())),
        }
    }

    /// A new client.
    ///
    /// # Errors
    ///
    /// As connect(2): `NotFound`, `ConnectionRefused` if nobody listens there, `WouldBlock`
    /// if the queue is full.
    pub fn try_connect_unix(&mut self, path: impl AsRef<Path>) -> io::Result<Client> {
        Ok(self.kernel().new_unix_client(path.as_ref()).map(Client)?)
    }

    /// As [`received`](Self::received), record by record, of a client on `unixpacket`. What
    /// such a client [`send`](Self::send)s is one record each time.
    pub fn received_records(&mut self, client: Client) -> Vec<Vec<u8>> {
        self.kernel().peer_received_records(client.0)
    }

    /// The client sends bytes, at least one, with descriptors, which travel with the first of
    /// them. They are real: what the handler takes is open on what was given here.
    ///
    /// ```
    /// # struct App;
    /// # impl windlass::Handler for App { type Session = (); }
    /// # let mut world = windlass::sim::World::new(1, App);
    /// # world.try_listen("unix:///run/x.sock").unwrap();
    /// let client = world.connect_unix("/run/x.sock");
    /// let (reader, writer) = std::io::pipe().unwrap();
    /// world.send_fds(client, b"!", vec![reader.into()]);
    /// ```
    pub fn send_fds(&mut self, client: Client, bytes: &[u8], fds: Vec<OwnedFd>) {
        self.kernel().peer_send_fds(client.0, bytes, fds);
    }

    /// The descriptors that have come with what the client has received, since this was last
    /// asked.
    pub fn received_fds(&mut self, client: Client) -> Vec<OwnedFd> {
        self.kernel().peer_received_fds(client.0)
    }

    /// What becomes of whoever dials `path`, from now on. A socket stands there then.
    /// Everything is decided on the spot: [`Remote::Silent`] is a full queue (EAGAIN), and
    /// times are of no effect.
    pub fn remote_unix(&mut self, path: impl AsRef<Path>, remote: Remote) {
        self.kernel().set_unix_remote(path.as_ref(), remote);
    }

    /// As [`dialed`](Self::dialed), for a path.
    pub fn dialed_unix(&mut self, path: impl AsRef<Path>) -> Option<Client> {
        self.kernel().unix_dialed(path.as_ref()).map(Client)
    }

    /// Puts a socket at `path` that nobody serves, as whoever crashed leaves it, in place of
    /// what is there.
    pub fn leave_socket(&mut self, path: impl AsRef<Path>) {
        self.kernel().leave(path.as_ref(), true);
    }

    /// Puts a file at `path` that is no socket, in place of what is there.
    pub fn leave_file(&mut self, path: impl AsRef<Path>) {
        self.kernel().leave(path.as_ref(), false);
    }

    /// Somebody else removes what stands at `path`. Answers whether there was anything.
    pub fn remove_file(&mut self, path: impl AsRef<Path>) -> bool {
        self.kernel().remove(path.as_ref())
    }

    /// Whether anything stands at `path`.
    pub fn file_exists(&mut self, path: impl AsRef<Path>) -> bool {
        self.kernel().exists(path.as_ref())
    }

    /// Who is at the other end of every Unix socket, from now on. At first, user and group
    /// 1000 and process 4242.
    pub fn peer_cred(&mut self, uid: u32, gid: u32, pid: Option<i32>) {
        self.kernel().set_peer_cred(PeerCred { uid, gid, pid });
    }
}
