//! TLS: the handler does not know, and neither do its promises.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util {
    pub mod tls;
}

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use util::tls::{Peer, client_config, server_config};
use windlass::sim::World;
use windlass::tls::rustls;
use windlass::{Closed, Conn, Context, Handler, Input, Listen, ListenerId};

/// Echoes; remembers what was agreed on and how connections ended.
#[derive(Default)]
struct Echo {
    agreed: Vec<String>,
    ended: Vec<String>,
}

impl Handler for Echo {
    type Session = ();

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        Ok(())
    }

    fn on_handshake(&mut self, conn: &mut Conn<'_>, (): &mut ()) -> io::Result<()> {
        let tls = conn.tls().unwrap();
        let name = tls.server_name().unwrap_or("nobody");
        self.agreed
            .push(format!("{:?} {name}", tls.version().unwrap()));
        Ok(())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        (): &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        conn.write(input.take_all());
        Ok(())
    }

    fn on_close(&mut self, _: &mut Context<'_>, (): (), closed: &Closed) {
        self.ended.push(closed.reason.to_string());
    }
}

fn world() -> (World<Echo>, SocketAddr) {
    let mut world = World::new(1, Echo::default());
    let listen = Listen::new("127.0.0.1:443").unwrap().tls(server_config());
    let addr = world.listen(listen);
    (world, addr)
}

#[test]
fn an_echo_passes_tls_in_both_versions() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let (mut world, addr) = world();
        let mut peer = Peer::connect(&mut world, addr, client_config(&[version]));
        peer.write(&mut world, b"hello");
        assert_eq!(peer.plain(), b"hello");
        let long = vec![b'x'; 1_000_000];
        peer.write(&mut world, &long);
        assert!(peer.plain() == long);
        let agreed = format!("{:?} localhost", version.version);
        assert_eq!(world.handler().agreed, [agreed]);
        peer.close(&mut world);
        assert!(peer.saw_close_notify() && world.saw_eof(peer.client()));
        assert_eq!(world.handler().ended, ["end of stream"]);
        assert_eq!(world.stats().bytes_read, 1_000_005);
        assert_eq!(world.stats().bytes_written, 1_000_005);
        world.shutdown(Duration::from_secs(1));
    }
}
