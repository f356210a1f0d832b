//! TLS: what two ends agree on, or why they cannot.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]

mod util {
    pub mod hooks;
    pub mod tls;
}

use std::error::Error as _;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use util::hooks::Hooks;
use util::tls::{
    Identity, LOCALHOST, Peer, VERSIONS, client_config, demanding_config, identified_config,
    server_config, server_config_of,
};
use windlass::sim::{Client, Remote, World};
use windlass::tls::rustls::pki_types::ServerName;
use windlass::tls::rustls::{ClientConfig, ClientConnection, ServerConfig};
use windlass::tls::{Failure, rustls};
use windlass::{
    Backoff, CloseReason, Closed, Conn, Context, Dial, Handler, Input, Listen, ListenerId,
};

/// What `on_handshake` found to be agreed on.
#[derive(Clone, Default)]
struct Agreed(Arc<Mutex<Vec<String>>>);

impl Agreed {
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// An echo that says what was agreed on, and tells whether there was TLS at all.
    fn echo(&self) -> Hooks {
        let it = Arc::clone(&self.0);
        Hooks::echo().handshake(move |conn| {
            let tls = conn.tls().unwrap();
            let alpn = tls
                .alpn()
                .map(|name| String::from_utf8_lossy(name).into_owned());
            it.lock().unwrap().push(format!(
                "{:?} {} alpn {} resumed {} certificates {}",
                tls.version().unwrap(),
                tls.server_name().unwrap_or("nobody"),
                alpn.as_deref().unwrap_or("none"),
                tls.is_resumed(),
                tls.peer_certificates().map_or(0, <[_]>::len),
            ));
            assert!(tls.suite().is_some());
            assert!(format!("{tls:?}").contains("suite"));
            Ok(())
        })
    }
}

fn world_of(hooks: Hooks, config: Arc<ServerConfig>) -> (World<Hooks>, SocketAddr) {
    let mut world = World::new(1, hooks);
    let addr = world.listen(Listen::new("127.0.0.1:443").unwrap().tls(config));
    (world, addr)
}

fn nothing_is_left(world: &mut World<Hooks>) {
    assert_eq!(world.stats().buffered, 0);
    assert_eq!(world.stats().open, 0);
    world.shutdown(Duration::from_secs(1));
}

#[test]
fn an_echo_passes_tls_in_both_versions() {
    for version in VERSIONS {
        let agreed = Agreed::default();
        let (mut world, addr) = world_of(agreed.echo(), server_config());
        let mut peer = Peer::connect(&mut world, addr, client_config(&[version]));
        peer.write(&mut world, b"hello");
        assert_eq!(peer.plain(), b"hello");
        let long = vec![b'x'; 1_000_000];
        peer.write(&mut world, &long);
        assert!(peer.plain() == long);
        let text = "localhost alpn none resumed false certificates 0";
        assert_eq!(agreed.all(), [format!("{:?} {text}", version.version)]);
        peer.close(&mut world);
        assert!(peer.saw_close_notify() && world.saw_eof(peer.client()));
        assert_eq!(world.handler().ends, ["end of stream"]);
        assert_eq!(world.stats().bytes_read, 1_000_005);
        assert_eq!(world.stats().bytes_written, 1_000_005);
        nothing_is_left(&mut world);
    }
}

fn with_alpn(config: &Arc<ServerConfig>, names: &[&str]) -> Arc<ServerConfig> {
    let mut config = ServerConfig::clone(config);
    config.alpn_protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

fn client_with_alpn(names: &[&str]) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(&client_config(&VERSIONS));
    config.alpn_protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

#[test]
fn the_protocol_is_what_both_ends_speak() {
    let cases: [(&[&str], &[&str], &str); 4] = [
        (&["h2", "http/1.1"], &["http/1.1", "h2"], "h2"),
        (&["http/1.1"], &["h2", "http/1.1"], "http/1.1"),
        (&["h2"], &[], "none"),
        (&[], &["h2"], "none"),
    ];
    for (ours, theirs, chosen) in cases {
        let agreed = Agreed::default();
        let config = with_alpn(&server_config(), ours);
        let (mut world, addr) = world_of(agreed.echo(), config);
        let mut peer = Peer::connect(&mut world, addr, client_with_alpn(theirs));
        peer.write(&mut world, b"x");
        assert_eq!(peer.plain(), b"x");
        assert!(agreed.all()[0].contains(&format!("alpn {chosen} ")));
    }
}

#[test]
fn no_protocol_in_common_is_a_failure_with_its_reason() {
    let (mut world, addr) = world_of(Hooks::echo(), with_alpn(&server_config(), &["h2"]));
    let peer = Peer::connect(&mut world, addr, client_with_alpn(&["ftp"]));
    world.close(peer.client());
    world.run();
    assert_eq!(
        world.handler().ends,
        ["tls: peer doesn't support any known protocol"]
    );
    assert_eq!(world.stats().handshakes_failed, 1);
    nothing_is_left(&mut world);
}

#[test]
fn a_client_that_names_nobody_has_no_server_name() {
    let agreed = Agreed::default();
    let (mut world, addr) = world_of(agreed.echo(), server_config());
    let client = world.connect(addr);
    let name = ServerName::from(IpAddr::from([127, 0, 0, 1]));
    let tls = ClientConnection::new(client_config(&VERSIONS), name).unwrap();
    let mut peer = Peer::speaking(client, tls.into());
    peer.pump(&mut world);
    assert!(agreed.all()[0].contains(" nobody "));
}

#[test]
fn the_second_connection_resumes() {
    for version in VERSIONS {
        let agreed = Agreed::default();
        let (mut world, addr) = world_of(agreed.echo(), server_config());
        let config = client_config(&[version]);
        for resumed in [false, true, true] {
            let mut peer = Peer::connect(&mut world, addr, Arc::clone(&config));
            peer.write(&mut world, b"x");
            assert_eq!(peer.plain(), b"x");
            let last = agreed.all().pop().unwrap();
            assert!(last.contains(&format!("resumed {resumed} ")), "{last}");
            peer.close(&mut world);
        }
        nothing_is_left(&mut world);
    }
}

#[test]
fn what_was_sent_early_is_offered_first_and_after_the_handshake() {
    let mut server = ServerConfig::clone(&server_config());
    server.max_early_data_size = 1000;
    let agreed = Agreed::default();
    let (mut world, addr) = world_of(agreed.echo(), Arc::new(server));
    let mut client = ClientConfig::clone(&client_config(&VERSIONS));
    client.enable_early_data = true;
    let client = Arc::new(client);
    let mut first = Peer::connect(&mut world, addr, Arc::clone(&client));
    first.close(&mut world);

    let name = "localhost".try_into().unwrap();
    let mut tls = ClientConnection::new(client, name).unwrap();
    let mut early = tls.early_data().expect("the server takes early data");
    early.write_all(b"as early as possible, ").unwrap();
    let client = world.connect(addr);
    let mut peer = Peer::speaking(client, tls.into());
    let hello = peer.wire();
    world.send(client, &hello);
    world.run();
    assert_eq!(
        world.stats().bytes_read,
        0,
        "anybody could have recorded it"
    );
    let came = world.received(client);
    peer.take(&came);
    peer.write(&mut world, b"and later");
    assert_eq!(peer.plain(), b"as early as possible, and later");
    peer.close(&mut world);
    nothing_is_left(&mut world);
}

#[test]
fn a_certificate_that_is_demanded_and_shown_can_be_asked_for() {
    let somebody = Identity::new(&["somebody"]);
    for version in VERSIONS {
        let agreed = Agreed::default();
        let (mut world, addr) = world_of(agreed.echo(), demanding_config(&somebody));
        let config = identified_config(&somebody, &[version]);
        let mut peer = Peer::connect(&mut world, addr, config);
        peer.write(&mut world, b"x");
        assert_eq!(peer.plain(), b"x");
        assert!(agreed.all()[0].contains("certificates 1"));
    }
}

#[test]
fn a_certificate_that_is_demanded_and_missing_or_wrong_is_a_failure() {
    let (somebody, other) = (Identity::new(&["somebody"]), Identity::new(&["other"]));
    for version in VERSIONS {
        let cases = [
            (client_config(&[version]), "tls: peer sent no certificates"),
            (
                identified_config(&other, &[version]),
                "tls: invalid peer certificate: UnknownIssuer",
            ),
        ];
        for (config, reason) in cases {
            let agreed = Agreed::default();
            let (mut world, addr) = world_of(agreed.echo(), demanding_config(&somebody));
            let mut peer = Peer::connect(&mut world, addr, config);
            if peer.error.is_none() {
                peer.write(&mut world, b"let me in");
            }
            assert!(peer.error.is_some(), "the client is told");
            world.close(peer.client());
            world.run();
            assert_eq!(world.handler().ends, [reason]);
            assert_eq!(agreed.all(), [""; 0]);
            assert_eq!(world.stats().bytes_read, 0);
            nothing_is_left(&mut world);
        }
    }
}

/// Remembers what rustls had to say when it gave up.
#[derive(Default)]
struct Reasons(Vec<Option<rustls::Error>>);

impl Handler for Reasons {
    type Session = ();

    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        Ok(())
    }

    fn on_read(&mut self, conn: &mut Conn<'_>, (): &mut (), _: &mut Input<'_>) -> io::Result<()> {
        let tls = conn.tls().expect("it has");
        assert!(!tls.connection().is_handshaking());
        Ok(())
    }

    fn on_close(&mut self, _: &mut Context<'_>, (): (), closed: &Closed) {
        if let CloseReason::Layer(error) = &closed.reason {
            let failure = Failure::of(error);
            self.0.push(failure.map(|it| it.error().clone()));
            // As whoever prints a chain of errors finds it.
            let source = failure.and_then(|it| it.source()?.downcast_ref());
            assert_eq!(source, failure.map(Failure::error));
        }
    }
}

#[test]
fn rustls_own_error_stands_behind_the_reason_and_nobody_elses_does() {
    let mut world = World::new(1, Reasons::default());
    let listen = Listen::new("127.0.0.1:443").unwrap().tls(server_config());
    let addr = world.listen(listen);
    let mut peer = Peer::connect(&mut world, addr, client_config(&VERSIONS));
    peer.write(&mut world, b"hello");
    world.send(peer.client(), b"\x17\x03\x03\x00\x01?");
    let early = world.connect(addr);
    world.finish(early);
    world.run();
    world.close(peer.client());
    world.run();
    // That somebody went away during the handshake is our own word for it.
    assert_eq!(world.handler().0.len(), 2);
    assert!(world.handler().0.contains(&None));
    let tls = Some(rustls::Error::DecryptError);
    assert!(world.handler().0.contains(&tls), "{:?}", world.handler().0);
}

#[test]
fn no_version_in_common_is_a_failure_with_its_reason() {
    let mut config = server_config();
    for (server, client) in [(0, 1), (1, 0)] {
        let builder = ServerConfig::builder_with_protocol_versions(&[VERSIONS[server]]);
        config = Arc::new(
            builder
                .with_no_client_auth()
                .with_single_cert(vec![LOCALHOST.cert.clone()], LOCALHOST.key())
                .unwrap(),
        );
        let (mut world, addr) = world_of(Hooks::echo(), config);
        let peer = Peer::connect(&mut world, addr, client_config(&[VERSIONS[client]]));
        assert!(peer.error.is_some());
        world.close(peer.client());
        world.run();
        let reason = &world.handler().ends[0];
        assert!(
            reason.starts_with("tls: peer is incompatible: "),
            "{reason}"
        );
        nothing_is_left(&mut world);
        config = server_config();
    }
    drop(config);
}

#[test]
fn a_certificate_is_renewed_while_the_old_connections_go_on() {
    let renewed = Identity::new(&["localhost"]);
    let mut world = World::new(1, Hooks::echo());
    let listen = Listen::new("127.0.0.1:443").unwrap().tls(server_config());
    let id = world.try_listen(listen).unwrap();
    let addr = world
        .listener(id)
        .unwrap()
        .local_addr()
        .as_socket_addr()
        .unwrap();
    let config = client_config(&VERSIONS);
    let mut old = Peer::connect(&mut world, addr, Arc::clone(&config));
    let mut half = Peer::over(world.connect(addr), Arc::clone(&config));
    let hello = half.wire();
    let (first, second) = hello.split_at(100);
    world.send(half.client(), first);
    world.run();

    world
        .listener(id)
        .unwrap()
        .set_tls(server_config_of(&renewed));
    let refused = Peer::connect(&mut world, addr, Arc::clone(&config));
    assert!(refused.error.is_some(), "it does not trust the new one");
    let trusting = ClientConfig::builder()
        .with_root_certificates(renewed.roots())
        .with_no_client_auth();
    let mut new = Peer::connect(&mut world, addr, Arc::new(trusting));
    new.write(&mut world, b"new");
    assert_eq!(new.plain(), b"new");

    world.send(half.client(), second);
    half.pump(&mut world);
    half.write(&mut world, b"begun before");
    assert_eq!(half.plain(), b"begun before");
    old.write(&mut world, b"old");
    assert_eq!(old.plain(), b"old");
}

#[test]
fn a_plain_connection_has_no_tls() {
    let hooks = Hooks::echo().read(|conn, input| {
        assert!(conn.tls().is_none());
        conn.write(input.take_all());
        Ok(())
    });
    let mut world = World::new(1, hooks);
    let addr = world.listen("127.0.0.1:7");
    let client = world.connect(addr);
    world.send(client, b"plain");
    world.run();
    assert_eq!(world.received(client), b"plain");
    assert_eq!(world.handler().count("on_handshake"), 0);
}

// Dials.

const THERE: ([u8; 4], u16) = ([10, 0, 0, 1], 443);

fn dialing(hooks: Hooks, dial: Dial) -> (World<Hooks>, Client) {
    let mut world = World::new(1, hooks);
    let there = SocketAddr::from(THERE);
    world.remote(there, Remote::Accepts);
    world.name("localhost", [there.ip()]);
    world.dial(dial).unwrap();
    world.run();
    let client = world.dialed(there).unwrap();
    (world, client)
}

#[test]
fn a_dial_speaks_tls_in_both_versions() {
    for version in VERSIONS {
        let agreed = Agreed::default();
        let hooks = agreed.echo().connect(|conn| {
            conn.write(b"hello");
            Ok(())
        });
        let dial = Dial::new("localhost:443")
            .unwrap()
            .tls(client_config(&[version]));
        let (mut world, client) = dialing(hooks, dial.unwrap());
        let mut peer = Peer::serve(client, server_config());
        peer.pump(&mut world);
        assert_eq!(peer.plain(), b"hello");
        peer.write(&mut world, b"echo");
        assert_eq!(peer.plain(), b"echo");
        let text = "nobody alpn none resumed false certificates 1";
        assert_eq!(agreed.all(), [format!("{:?} {text}", version.version)]);
        peer.close(&mut world);
        assert_eq!(world.handler().ends, ["end of stream"]);
        nothing_is_left(&mut world);
    }
}

#[test]
fn a_server_whose_certificate_is_not_trusted_or_for_another_is_a_failure() {
    let other = Identity::new(&["other"]);
    let trusting = |identity: &Identity| {
        let config = ClientConfig::builder()
            .with_root_certificates(identity.roots())
            .with_no_client_auth();
        Dial::new("localhost:443").unwrap().tls(Arc::new(config))
    };
    let cases = [
        (&*LOCALHOST, &other, "UnknownIssuer"),
        (&other, &other, "NotValidForName"),
    ];
    for (trusted, shown, why) in cases {
        let hooks = Hooks::echo().connect(|conn| {
            conn.write(b"my password");
            Ok(())
        });
        let (mut world, client) = dialing(hooks, trusting(trusted).unwrap());
        let mut peer = Peer::serve(client, server_config_of(shown));
        peer.pump(&mut world);
        assert!(matches!(peer.error, Some(rustls::Error::AlertReceived(_))));
        assert_eq!(peer.plain(), b"");
        world.close(client);
        world.run();
        let reason = &world.handler().ends[0];
        assert!(
            reason.starts_with("tls: invalid peer certificate: "),
            "{reason}"
        );
        let long = reason.contains(why) || reason.contains("not valid for name");
        assert!(long, "{reason}");
        nothing_is_left(&mut world);
    }
}

#[test]
fn whom_to_expect_can_be_said() {
    let config = client_config(&VERSIONS);
    let dial = Dial::from(SocketAddr::from(THERE));
    let dial = dial.tls_as("localhost".try_into().unwrap(), Arc::clone(&config));
    let (mut world, client) = dialing(Hooks::echo(), dial);
    let mut peer = Peer::serve(client, server_config());
    peer.write(&mut world, b"x");
    assert_eq!(peer.plain(), b"x");

    // The address that was dialed is not the certificate's.
    let dial = Dial::from(SocketAddr::from(THERE))
        .tls(Arc::clone(&config))
        .unwrap();
    let (mut world, client) = dialing(Hooks::echo(), dial);
    let mut peer = Peer::serve(client, server_config());
    peer.pump(&mut world);
    assert!(peer.error.is_some());

    let nobody = Dial::new("unix:///nowhere").unwrap().tls(config);
    let text = nobody.err().unwrap().to_string();
    assert!(
        text.contains("no host that a certificate could be for"),
        "{text}"
    );
}

#[test]
fn a_dial_whose_handshakes_fail_backs_off() {
    let other = Identity::new(&["other"]);
    let dial = Dial::new("localhost:443")
        .unwrap()
        .tls(client_config(&VERSIONS));
    let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
    let mut world = World::new(1, Hooks::echo());
    let there = SocketAddr::from(THERE);
    world.remote(there, Remote::Accepts);
    world.name("localhost", [there.ip()]);
    world.dial(dial.unwrap().reconnect(backoff)).unwrap();
    let mut tries = 0;
    for _ in 0..60_000 {
        world.advance(Duration::from_millis(1));
        while let Some(client) = world.dialed(there) {
            let mut peer = Peer::serve(client, server_config_of(&other));
            peer.pump(&mut world);
            world.close(client);
            tries += 1;
        }
    }
    // Ten a second would be six hundred.
    assert!((5..=40).contains(&tries), "{tries} tries in a minute");
    assert_eq!(world.handler().ends.len(), tries);
}

#[test]
fn a_dial_reconnects_with_a_handshake_and_resumes() {
    let agreed = Agreed::default();
    let dial = Dial::new("localhost:443")
        .unwrap()
        .tls(client_config(&VERSIONS));
    let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
    let hooks = agreed.echo();
    let (mut world, client) = dialing(hooks, dial.unwrap().reconnect(backoff));
    let config = server_config();
    let mut peer = Peer::serve(client, Arc::clone(&config));
    peer.write(&mut world, b"x");
    world.advance(Duration::from_secs(1));
    world.reset(client);
    world.advance(Duration::from_secs(1));
    let again = world.dialed(THERE.into()).unwrap();
    let mut peer = Peer::serve(again, config);
    peer.write(&mut world, b"y");
    assert_eq!(peer.plain(), b"y");
    assert!(agreed.all()[0].contains("resumed false"));
    assert!(agreed.all()[1].contains("resumed true"));
}
