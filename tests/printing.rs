//! Everything public can be printed, for a log line or a failed assertion; what peers have
//! sent is never in it.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

use std::io;
use std::net::SocketAddr;

use windlass::sim::World;
use windlass::{
    Conn, Datagram, Handler, Input, ListenerId, Mux, PartId, PostError, Reactor, Socket,
};

/// Prints what it is lent.
#[derive(Default)]
struct Printer {
    lines: Vec<String>,
    peers: Vec<windlass::Addr>,
}

impl Handler for Printer {
    type Session = ();

    fn on_accept(&mut self, conn: &mut Conn<'_>, listener: ListenerId) -> io::Result<()> {
        self.lines.push(format!("{conn:?}"));
        self.peers.push(conn.peer_addr());
        let mut listener = conn.cx().listener(listener).unwrap();
        self.lines.push(format!("{listener:?}"));
        assert_eq!(format!("{:?}", listener.id()), "ListenerId(0.1)");
        listener.pause();
        self.lines.push(format!("{:?}", conn.cx()));
        Ok(())
    }

    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        (): &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        self.lines.push(format!("{conn:?} {input:?}"));
        Ok(())
    }

    fn on_datagram(&mut self, socket: &mut Socket<'_>, _: &Datagram<'_>) {
        self.lines.push(format!("{socket:?}"));
    }
}

#[test]
fn what_a_callback_is_lent_prints_names_and_no_bytes() {
    let mut world = World::new(7, Printer::default());
    let addr = world.listen("127.0.0.1:7");
    let client = world.connect(addr);
    world.send(client, b"a secret");
    let to = world.bind("udp://127.0.0.1:9");
    let stranger = world.packet_client(SocketAddr::from(([10, 0, 0, 9], 5000)));
    world.send_datagram(stranger, &to, b"a secret");
    world.run();

    let peer = &world.handler().peers[0];
    let lines = world.handler().lines.join("\n");
    for printed in [
        format!("Conn {{ id: ConnId(0.1), peer: {peer:?}, .. }}"),
        format!(
            "Listener {{ id: ListenerId(0.1), addr: {:?}, .. }}",
            windlass::Addr::from(addr)
        ),
        "Context { .. }".to_owned(),
        "Input { unread: 8, consumed: 0 }".to_owned(),
        format!("Socket {{ id: SocketId(0.1), addr: Some({to:?}), .. }}"),
    ] {
        assert!(lines.contains(&printed), "{printed} is not in {lines}");
    }
    assert!(!lines.contains("secret"), "{lines}");
}

#[test]
fn a_loop_prints_what_it_has_open() {
    let mut world = World::new(7, Printer::default());
    let addr = world.listen("127.0.0.1:7");
    world.connect(addr);
    world.run();
    let printed = format!("{world:?}");
    assert!(
        printed.starts_with("World { seed: 7, reactor: Reactor {"),
        "{printed}"
    );
    assert!(
        printed.contains("connections: 1, listeners: 1"),
        "{printed}"
    );
    world
        .faults()
        .fail(windlass::sim::Call::Read, libc::EINTR, 3);
    assert_eq!(format!("{:?}", world.faults()), "Faults { pending: 3, .. }");
}

#[test]
fn a_handle_and_why_it_refuses_can_be_printed() {
    let reactor = Reactor::new(Printer::default()).unwrap();
    assert_eq!(format!("{:?}", reactor.handle()), "Handle { .. }");
    let texts = [PostError::Full, PostError::Stopped].map(|error| error.to_string());
    assert_eq!(texts, ["the mailbox is full", "the loop has stopped"]);
}

#[test]
fn a_mux_and_its_parts_have_numbers() {
    let mut mux = Mux::new();
    let first: PartId<Printer> = mux.add(Printer::default());
    let second = mux.add(Printer::default());
    assert_eq!(format!("{mux:?}"), "Mux { parts: 2, .. }");
    assert_ne!(format!("{first:?}"), format!("{second:?}"));
    #[expect(clippy::clone_on_copy, reason = "whoever asks for a clone gets one")]
    let copy = first.clone();
    assert!(copy == first && first != second);
}
