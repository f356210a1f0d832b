//! What texts mean, and how endpoints print: row by row.

use super::*;
use proptest::prelude::*;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

fn endpoint(network: &str, address: &str) -> Endpoint {
    Endpoint::new(network, address).unwrap()
}

fn fails(network: &str, address: &str, text: &str) {
    match Endpoint::new(network, address) {
        Ok(endpoint) => panic!("{network} {address}: parsed as {endpoint}"),
        Err(error) => assert_eq!(error.to_string(), text, "{network} {address}"),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn host(endpoint: &Endpoint) -> &Host {
    match &endpoint.site {
        Site::Ip { host, .. } => host,
        Site::Unix(_) => panic!("{endpoint} has no host"),
    }
}

fn port(endpoint: &Endpoint) -> u16 {
    match &endpoint.site {
        Site::Ip { port, .. } => *port,
        Site::Unix(_) => panic!("{endpoint} has no port"),
    }
}

#[test]
fn a_text_splits_at_its_last_colon() {
    let rows = [
        ("h:p", "h", "p"),
        ("127.0.0.1:80", "127.0.0.1", "80"),
        ("[::1]:80", "::1", "80"),
        ("[::1%lo0]:http", "::1%lo0", "http"),
        (":80", "", "80"),
        ("h:", "h", ""),
        (":", "", ""),
        ("[]:", "", ""),
        ("[h%z]:p", "h%z", "p"),
        ("h%z:p", "h%z", "p"),
        ("h:https%foo", "h", "https%foo"),
        ("[foo:bar]:80", "foo:bar", "80"),
        ("localhost:http", "localhost", "http"),
        ("localhost%lo0:80", "localhost%lo0", "80"),
        ("[localhost%lo0]:80", "localhost%lo0", "80"),
        ("127.0.0.1:http", "127.0.0.1", "http"),
        ("[::1]:http", "::1", "http"),
        ("[::1%lo0]:80", "::1%lo0", "80"),
        (":http", "", "http"),
        ("golang.org:", "golang.org", ""),
        ("127.0.0.1:", "127.0.0.1", ""),
        ("[::1]:", "::1", ""),
        ("golang.org:https%foo", "golang.org", "https%foo"),
    ];
    for (text, host, port) in rows {
        assert_eq!(split_host_port(text), Ok((host, port)), "{text}");
    }
}

#[test]
fn a_text_that_does_not_split_says_why() {
    let rows = [
        ("h", MISSING_PORT),
        ("127.0.0.1", MISSING_PORT),
        ("[", MISSING_PORT),
        ("[::1]", MISSING_PORT),
        ("[foo:bar]baz", MISSING_PORT),
        ("[foo]bar:baz", MISSING_PORT),
        ("golang.org", MISSING_PORT),
        ("[fe80::1%lo0]", MISSING_PORT),
        ("[localhost%lo0]", MISSING_PORT),
        ("localhost%lo0", MISSING_PORT),
        ("[foo:bar]", MISSING_PORT),
        ("::1", TOO_MANY_COLONS),
        ("fe80::1%lo0", TOO_MANY_COLONS),
        ("::1:80", TOO_MANY_COLONS),
        ("fe80::1%lo0:80", TOO_MANY_COLONS),
        ("[foo]:[bar]:baz", TOO_MANY_COLONS),
        ("[::1", MISSING_BRACKET),
        ("[foo]:[bar]baz", UNEXPECTED_OPEN),
        ("foo[bar]:baz", UNEXPECTED_OPEN),
        ("[a[b]:80", UNEXPECTED_OPEN),
        ("foo]bar:baz", UNEXPECTED_CLOSE),
        ("[foo]:b]", UNEXPECTED_CLOSE),
    ];
    for (text, why) in rows {
        let wanted = format!("address {text}: {why}");
        assert_eq!(split_host_port(text).unwrap_err().to_string(), wanted);
        for network in ["tcp", "tcp4", "udp", "udp6"] {
            fails(network, text, &wanted);
        }
    }
    let empty = split_host_port("").unwrap_err();
    assert_eq!(empty.to_string(), MISSING_PORT);
    // The words themselves, once: they are a contract.
    fails(
        "tcp",
        "127.0.0.1",
        "address 127.0.0.1: missing port in address",
    );
    fails(
        "tcp",
        "::1:80",
        "address ::1:80: too many colons in address",
    );
    fails("tcp", "[::1", "address [::1: missing ']' in address");
    fails(
        "tcp",
        "foo[bar]:baz",
        "address foo[bar]:baz: unexpected '[' in address",
    );
    fails(
        "tcp",
        "foo]bar:baz",
        "address foo]bar:baz: unexpected ']' in address",
    );
}

#[test]
fn joining_adds_brackets_exactly_if_there_is_a_colon() {
    let rows = [
        ("localhost", "http", "localhost:http"),
        ("localhost%lo0", "80", "localhost%lo0:80"),
        ("127.0.0.1", "http", "127.0.0.1:http"),
        ("::1", "80", "[::1]:80"),
        ("::1%lo0", "http", "[::1%lo0]:http"),
        ("foo:bar", "80", "[foo:bar]:80"),
        ("", "http", ":http"),
        ("golang.org", "", "golang.org:"),
        ("::1", "", "[::1]:"),
        ("", "", ":"),
    ];
    for (host, port, text) in rows {
        assert_eq!(join_host_port(host, port), text);
        assert_eq!(split_host_port(text), Ok((host, port)));
    }
    assert_eq!(join_host_port("::1", 80), "[::1]:80");
}

#[test]
fn ports_are_numbers_or_service_names() {
    let rows = [
        ("", 0),
        ("0", 0),
        ("80", 80),
        ("+80", 80),
        ("0080", 80),
        ("00000000", 0),
        ("+1", 1),
        ("-0", 0),
        ("-00", 0),
        ("+0", 0),
        ("65535", 65535),
        ("000000000000000000000065535", 65535),
        ("ftp", 21),
        ("ftps", 990),
        ("gopher", 70),
        ("http", 80),
        ("https", 443),
        ("imap2", 143),
        ("imap3", 220),
        ("imaps", 993),
        ("pop3", 110),
        ("pop3s", 995),
        ("smtp", 25),
        ("ssh", 22),
        ("telnet", 23),
        ("HTTP", 80),
        ("Https", 443),
    ];
    for (text, port) in rows {
        for network in ["tcp", "tcp4", "tcp6"] {
            let parsed = endpoint(network, &format!("h:{text}"));
            assert_eq!(self::port(&parsed), port, "{text}");
        }
    }
    for network in ["udp", "udp4", "udp6"] {
        assert_eq!(port(&endpoint(network, "h:domain")), 53);
        assert_eq!(port(&endpoint(network, "h:DOMAIN")), 53);
        assert_eq!(port(&endpoint(network, "h:5353")), 5353);
    }
}

#[test]
fn a_port_out_of_range_is_invalid() {
    let rows = [
        "65536",
        "-1",
        "-65535",
        "+65536",
        "0065536",
        "123456789",
        "-123456789",
        "+123456789",
        "-1073741823",
        "-1073741824",
        "-1073741825",
        "+1073741823",
        "+1073741824",
        "+1073741825",
        "4294967376",
        "18446744073709551696",
        "99999999999999999999999999",
        "-99999999999999999999999999",
    ];
    for text in rows {
        for network in ["tcp", "udp"] {
            let wanted = format!("address {text}: invalid port");
            fails(network, &format!(":{text}"), &wanted);
        }
    }
}

#[test]
fn a_service_that_nobody_knows_is_an_unknown_port() {
    let rows = [
        "bogus",
        "80x",
        "x80",
        "8 0",
        " 80",
        "+",
        "-",
        "--1",
        "+-1",
        "+http",
        "0x50",
        "80/",
        "https%foo",
        "abc",
        "123badport",
        "bad123port",
        "badport123",
        "123456789badport",
        "-2147483649badport",
        "2147483649badport",
        "a-service-name-of-more-than-25-bytes",
        "\u{0663}",
    ];
    for text in rows {
        for network in ["tcp", "tcp4", "tcp6"] {
            let wanted = format!("address tcp/{text}: unknown port");
            fails(network, &format!("h:{text}"), &wanted);
        }
        let wanted = format!("address udp/{text}: unknown port");
        fails("udp", &format!("h:{text}"), &wanted);
    }
}

#[test]
fn a_host_is_nothing_a_literal_or_a_name() {
    let literals = [
        ("1.2.3.4", "1.2.3.4"),
        ("0.0.0.0", "0.0.0.0"),
        ("::", "::"),
        ("::1", "::1"),
        ("FE80::A", "fe80::a"),
        ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("::1.2.3.4", "::1.2.3.4"),
        ("1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304"),
    ];
    for (text, wanted) in literals {
        let host = Host::Ip {
            ip: ip(wanted),
            zone: Zone::NONE,
        };
        let parsed = endpoint("tcp", &format!("[{text}]:80"));
        assert_eq!(self::host(&parsed), &host, "{text}");
    }
    let names = [
        "01.2.3.4",
        "00.0.0.0",
        "127.000.000.001",
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "256.0.0.1",
        "0x1.2.3.4",
        " 1.2.3.4",
        "+1.2.3.4",
        "1..2.3",
        "::ffff:01.2.3.4",
        "1::2::3",
        "::1:2:3:4:5:6:7:8",
        "1:2:3:4:5:6:7:8:9",
        "1.2.3.4::",
        "12345::",
        "1:",
        "00001::",
        "0000000000000001::",
        "localhost",
        "1.2.3.4%5",
        "%5",
        "a%b",
        "foo:bar",
    ];
    for text in names {
        let parsed = endpoint("tcp", &format!("[{text}]:80"));
        assert_eq!(parsed.name(), Some(text));
    }
    assert_eq!(host(&endpoint("tcp", ":80")), &Host::Any);
    assert_eq!(endpoint("tcp", ":80").name(), None);
    assert_eq!(endpoint("tcp", "[::1]:80").name(), None);
}

#[test]
fn a_zone_is_the_number_of_an_interface_or_its_name() {
    let zones = [("2", 2), ("0", 0), ("007", 7), ("4294967295", u32::MAX)];
    for (text, number) in zones {
        let wanted = Zone::Number(number);
        let parsed = endpoint("tcp", &format!("[fe80::1%{text}]:80"));
        assert!(matches!(host(&parsed), Host::Ip { zone, .. } if *zone == wanted));
    }
    // A number that is too large for one is a name, too.
    for name in ["eth0", "lo", "+2", "-1", "2x", "4294967296", " 2", "a b"] {
        let text = format!("[fe80::1%{name}]:80");
        let mut parsed = endpoint("tcp", &text);
        assert_eq!(parsed.address_text(), text);
        assert_eq!(parsed.place(), Place::Text(text));
        let mut asked = Vec::new();
        let found = parsed.resolve_zone(|name| {
            asked.push(name.to_owned());
            Some(7)
        });
        assert_eq!((found, asked), (Ok(()), vec![name.to_owned()]));
        let addr: Addr = "[fe80::1%7]:80".parse().unwrap();
        assert_eq!(parsed.place(), Place::Addr(addr.clone()));
        assert_eq!(
            listen_candidates(&parsed, &[]),
            Ok(vec![(addr.clone(), false)])
        );
        assert_eq!(dial_candidates(&parsed, &[], None), Ok(vec![addr]));
    }
    let wanted = "address fe80::1%: empty zone";
    fails("tcp", "[fe80::1%]:80", wanted);
    fails("ip6:icmp", "fe80::1%", wanted);
    let wanted = "address ::ffff:1.2.3.4%2: zone on an IPv4 address";
    fails("tcp", "[::ffff:1.2.3.4%2]:80", wanted);
}

#[test]
fn an_unknown_interface_is_an_error_of_its_own() {
    let wanted = "address fe80::1%nosuchif: no such interface";
    let mut parsed = endpoint("tcp", "[fe80::1%nosuchif]:80");
    for answer in [None, Some(0)] {
        let error = parsed.resolve_zone(|_| answer).unwrap_err();
        assert_eq!(error.to_string(), wanted);
    }
    // Also if nobody has asked.
    let unasked = listen_candidates(&parsed, &[]).unwrap_err();
    assert_eq!(unasked.to_string(), wanted);
    let unasked = dial_candidates(&parsed, &[], None).unwrap_err();
    assert_eq!(unasked.to_string(), wanted);
}

#[test]
fn an_interface_is_looked_for_anew_each_time() {
    let mut parsed = endpoint("udp", "[fe80::1%eth0]:80");
    for number in [2, 3] {
        parsed.resolve_zone(|_| Some(number)).unwrap();
        let wanted = format!("[fe80::1%{number}]:80").parse().unwrap();
        assert_eq!(parsed.place(), Place::Addr(wanted));
    }
    assert!(parsed.resolve_zone(|_| None).is_err());
    assert_eq!(parsed, endpoint("udp", "[fe80::1%eth0]:80"));
    assert_eq!(parsed.to_string(), "udp://[fe80::1%eth0]:80");
}

#[test]
fn nobody_is_asked_for_an_interface_that_was_not_named() {
    let rows = [
        ("tcp", "[fe80::1%2]:80"),
        ("tcp", "127.0.0.1:80"),
        ("tcp", "h%z:80"),
        ("tcp", ":80"),
        ("unix", "/a%b"),
    ];
    for (network, address) in rows {
        let mut parsed = endpoint(network, address);
        let found = parsed.resolve_zone(|name| panic!("asked for {name}"));
        assert_eq!(found, Ok(()));
    }
}

#[test]
fn raw_ip_has_a_host_and_nothing_else() {
    let rows = [
        ("ip4:icmp", "127.0.0.1", "ip4:1://127.0.0.1"),
        ("ip:1", "", "ip:1://"),
        ("ip6:58", "::1", "ip6:58://::1"),
        ("ip6:58", "fe80::1%eth0", "ip6:58://fe80::1%eth0"),
        ("ip6:58", "fe80::1%2", "ip6:58://fe80::1%2"),
        ("ip:1", "::ffff:1.2.3.4", "ip:1://1.2.3.4"),
        ("ip:1", "localhost", "ip:1://localhost"),
        // As in Go there is no port to be split off, and brackets are part of a name.
        ("ip:1", "localhost:80", "ip:1://localhost:80"),
        ("ip:1", "[::1]", "ip:1://[::1]"),
    ];
    for (network, address, text) in rows {
        let parsed = endpoint(network, address);
        assert_eq!(parsed.to_string(), text);
        assert_eq!(text.parse(), Ok(parsed.clone()));
        assert_eq!(port(&parsed), 0);
        let place = text.split_once("://").unwrap().1.to_owned();
        assert_eq!(parsed.place(), Place::Text(place));
    }
    assert_eq!(endpoint("ip:1", "[::1]").name(), Some("[::1]"));
    assert_eq!(
        endpoint("ip:1", "localhost:80").name(),
        Some("localhost:80")
    );
    assert_eq!(endpoint("ip:1", "::1").name(), None);
}

#[test]
fn unix_networks_have_a_name_and_nothing_else() {
    let rows = [
        ("/run/x.sock", "unix:///run/x.sock"),
        ("relative/path", "unix://relative/path"),
        ("x.sock", "unix://x.sock"),
        ("127.0.0.1:80", "unix://127.0.0.1:80"),
        ("a://b", "unix://a://b"),
        ("", "unix://"),
    ];
    for (address, text) in rows {
        let parsed = endpoint("unix", address);
        assert_eq!(parsed.unix(), address.parse().ok().as_ref());
        assert_eq!(parsed.to_string(), text);
        assert_eq!(parsed.address_text(), address);
        assert_eq!(text.parse(), Ok(parsed.clone()));
        assert_eq!(parsed.name(), None);
        assert_eq!(
            parsed.place(),
            Place::Addr(parsed.unix().unwrap().clone().into())
        );
    }
    for network in ["unixgram", "unixpacket"] {
        let parsed = endpoint(network, "/x");
        assert_eq!(parsed.to_string(), format!("{network}:///x"));
        assert_eq!(parsed.network().as_str(), network);
    }
    assert_eq!(endpoint("unix", "@").address_text(), "");
    assert_eq!(endpoint("tcp", ":80").unix(), None);
    fails("unix", "/a\0b", "address /a\0b: NUL in path");
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn an_abstract_name_is_an_endpoint() {
    let parsed: Endpoint = "unix://@name".parse().unwrap();
    assert_eq!(parsed.unix().unwrap().abstract_name(), Some(&b"name"[..]));
    assert_eq!(parsed.to_string(), "unix://@name");
    assert_eq!(parsed.address_text(), "@name");
}

#[test]
fn one_text_or_two_mean_the_same() {
    let rows = [
        ("tcp://127.0.0.1:3000", "tcp", "127.0.0.1:3000"),
        ("tcp4://127.0.0.1:3000", "tcp4", "127.0.0.1:3000"),
        ("tcp6://[::1]:80", "tcp6", "[::1]:80"),
        ("127.0.0.1:3000", "tcp", "127.0.0.1:3000"),
        (":3000", "tcp", ":3000"),
        ("localhost:http", "tcp", "localhost:80"),
        ("tcp://", "tcp", ":0"),
        ("tcp://:", "tcp", ""),
        ("udp://:53", "udp", ":domain"),
        ("unix:///run/x.sock", "unix", "/run/x.sock"),
        ("unixgram://x", "unixgram", "x"),
        ("unix://", "unix", ""),
        ("unix://@", "unix", ""),
        ("ip4:icmp://127.0.0.1", "ip4:1", "127.0.0.1"),
    ];
    for (text, network, address) in rows {
        let wanted = endpoint(network, address);
        assert_eq!(text.parse(), Ok(wanted.clone()), "{text}");
        assert_eq!(Endpoint::try_from(text), Ok(wanted.clone()));
        assert_eq!(Endpoint::try_from(&String::from(text)), Ok(wanted.clone()));
        assert_eq!(Endpoint::try_from(text.to_owned()), Ok(wanted));
    }
    let rows = [
        ("", "missing address"),
        ("ip://127.0.0.1", "unknown network ip"),
        (
            "ip:bogus://::1",
            "address bogus: unknown IP protocol specified",
        ),
        (
            "/run/x.sock",
            "address /run/x.sock: missing port in address",
        ),
        ("TCP://:53", "unknown network TCP"),
        ("://:53", "unknown network "),
        ("127.0.0.1", "address 127.0.0.1: missing port in address"),
        ("tcp:bogus", "address tcp/bogus: unknown port"),
        ("tcp://h:80/", "address tcp/80/: unknown port"),
    ];
    for (text, wanted) in rows {
        assert_eq!(text.parse::<Endpoint>().unwrap_err().to_string(), wanted);
    }
}

#[test]
fn typed_addresses_are_tcp_endpoints() {
    let rows = [
        ("127.0.0.1:80", "tcp://127.0.0.1:80"),
        ("[::1]:80", "tcp://[::1]:80"),
        ("[fe80::1%2]:80", "tcp://[fe80::1%2]:80"),
        ("[::ffff:1.2.3.4]:80", "tcp://1.2.3.4:80"),
    ];
    for (typed, text) in rows {
        let addr: SocketAddr = typed.parse().unwrap();
        assert_eq!(Endpoint::from(addr).to_string(), text);
    }
    assert_eq!(Endpoint::from((ip("::1"), 80)), endpoint("tcp", "[::1]:80"));
    let addr: Addr = "127.0.0.1:80".parse().unwrap();
    assert_eq!(Endpoint::from(addr), endpoint("tcp", "127.0.0.1:80"));
}

#[test]
fn typed_names_are_unix_endpoints() {
    let wanted = endpoint("unix", "/run/x");
    let path = Path::new("/run/x");
    let addr = UnixAddr::try_from(path).unwrap();
    assert_eq!(Endpoint::try_from(path), Ok(wanted.clone()));
    assert_eq!(Endpoint::try_from(&path.to_owned()), Ok(wanted.clone()));
    assert_eq!(Endpoint::try_from(path.to_owned()), Ok(wanted.clone()));
    assert_eq!(Endpoint::from(addr.clone()), wanted);
    assert_eq!(Endpoint::from(Addr::from(addr)), wanted);
    let odd = Endpoint::try_from(Path::new("@x")).unwrap();
    assert!(odd.unix().unwrap().path().is_some());
    assert_eq!(odd.to_string().parse(), Ok(odd));

    let rows = [
        ("", "listen unix: missing address"),
        ("a\0b", "listen unix: address a\0b: NUL in path"),
    ];
    for (path, text) in rows {
        let error = Endpoint::try_from(Path::new(path)).unwrap_err();
        assert_eq!(error.into_error(Op::Listen).to_string(), text);
    }
}

#[test]
fn an_address_fits_the_networks_of_its_kind() {
    let typed: Addr = "[fe80::1%2]:80".parse().unwrap();
    let rows = [
        (Network::Tcp6, "tcp6://[fe80::1%2]:80"),
        (Network::Udp, "udp://[fe80::1%2]:80"),
        (Network::Ip6(58), "ip6:58://fe80::1%2"),
    ];
    for (network, text) in rows {
        let made = Endpoint::from_addr(network, typed.clone()).unwrap();
        assert_eq!(made.to_string(), text);
        assert_eq!(text.parse(), Ok(made));
    }
    let mapped = Addr::Ip("[::ffff:1.2.3.4%2]:80".parse().unwrap());
    let made = Endpoint::from_addr(Network::Tcp, mapped);
    assert_eq!(made, Ok(endpoint("tcp", "1.2.3.4:80")));
    let name: UnixAddr = "/x".parse().unwrap();
    let made = Endpoint::from_addr(Network::Unixgram, name.clone());
    assert_eq!(made, Ok(endpoint("unixgram", "/x")));

    let error = Endpoint::from_addr(Network::Udp, name).unwrap_err();
    assert_eq!(error.to_string(), "address /x: unexpected address type");
    let error = Endpoint::from_addr(Network::Unix, typed).unwrap_err();
    let wanted = "address [fe80::1%2]:80: unexpected address type";
    assert_eq!(error.to_string(), wanted);
}

#[test]
fn whatever_converts_into_an_endpoint_is_accepted_alike() {
    fn accept<E: TryInto<Endpoint>>(endpoint: E) -> Result<Endpoint, AddressError>
    where
        E::Error: Into<AddressError>,
    {
        endpoint.try_into().map_err(Into::into)
    }
    let wanted = endpoint("tcp", "127.0.0.1:80");
    let typed = SocketAddr::from(([127, 0, 0, 1], 80));
    assert_eq!(accept("127.0.0.1:80"), Ok(wanted.clone()));
    assert_eq!(accept("127.0.0.1:80".to_owned()), Ok(wanted.clone()));
    let text = "127.0.0.1:80".to_owned();
    assert_eq!(accept(&text), Ok(wanted.clone()));
    assert_eq!(accept(typed), Ok(wanted.clone()));
    assert_eq!(accept((typed.ip(), 80)), Ok(wanted.clone()));
    assert_eq!(accept(Addr::from(typed)), Ok(wanted.clone()));
    assert_eq!(accept(wanted.clone()), Ok(wanted));
    let unix = endpoint("unix", "/x");
    assert_eq!(accept(Path::new("/x")), Ok(unix.clone()));
    assert_eq!(accept(PathBuf::from("/x")), Ok(unix));
    assert!(accept("127.0.0.1").is_err());
}

#[test]
fn an_endpoint_prints_with_its_network() {
    let rows = [
        ("tcp", ":http", "tcp://:80", ":80"),
        ("tcp", "", "tcp://:0", ":0"),
        ("udp", ":domain", "udp://:53", ":53"),
        ("udp6", "[::1%lo]:0", "udp6://[::1%lo]:0", "[::1%lo]:0"),
        (
            "tcp4",
            "[127.0.0.1]:80",
            "tcp4://127.0.0.1:80",
            "127.0.0.1:80",
        ),
        ("tcp6", "[::1]:80", "tcp6://[::1]:80", "[::1]:80"),
        (
            "tcp",
            "[fe80::1%2]:80",
            "tcp://[fe80::1%2]:80",
            "[fe80::1%2]:80",
        ),
        (
            "tcp",
            "[::ffff:1.2.3.4]:80",
            "tcp://1.2.3.4:80",
            "1.2.3.4:80",
        ),
        ("tcp", "[foo:bar]:80", "tcp://[foo:bar]:80", "[foo:bar]:80"),
        ("tcp", "[h]:+080", "tcp://h:80", "h:80"),
    ];
    for (network, address, text, host_port) in rows {
        let endpoint = endpoint(network, address);
        assert_eq!(endpoint.to_string(), text);
        assert_eq!(format!("{endpoint:?}"), text);
        assert_eq!(endpoint.address_text(), host_port);
        assert_eq!(endpoint.network().as_str(), network);
    }
}

#[test]
fn a_bad_text_becomes_the_error_of_its_operation() {
    let rows = [
        (Op::Listen, "foo", ":80", "listen foo: unknown network foo"),
        (
            Op::Dial,
            "tcp",
            "127.0.0.1",
            "dial tcp: address 127.0.0.1: missing port in address",
        ),
        (
            Op::Dial,
            "tcp:80",
            "",
            "dial tcp:80: unknown network tcp:80",
        ),
        (
            Op::Dial,
            "tcp",
            "::1:80",
            "dial tcp: address ::1:80: too many colons in address",
        ),
        (
            Op::Dial,
            "tcp",
            "[::1",
            "dial tcp: address [::1: missing ']' in address",
        ),
        (
            Op::Dial,
            "tcp",
            ":65536",
            "dial tcp: address 65536: invalid port",
        ),
        (
            Op::Dial,
            "tcp",
            ":bogus",
            "dial tcp: address tcp/bogus: unknown port",
        ),
        (Op::Dial, "tcp", ":-1", "dial tcp: address -1: invalid port"),
        (
            Op::Listen,
            "tcp6",
            ":bogus",
            "listen tcp6: address tcp/bogus: unknown port",
        ),
    ];
    for (op, network, address, text) in rows {
        let error = Endpoint::new(network, address).unwrap_err();
        assert_eq!(error.into_error(op).to_string(), text);
    }
}

#[test]
fn an_error_of_an_endpoint_shows_its_text() {
    let missing = "".parse::<Endpoint>().unwrap_err();
    assert_eq!(
        missing.into_error(Op::Dial).to_string(),
        "dial tcp: missing address"
    );

    let error = Endpoint::new("tcp", "h").unwrap_err();
    assert_eq!(
        format!("{error:?}"),
        "AddressError(address h: missing port in address)"
    );
}

/// What Go's tests dial and listen on in vain, as far as the text is to blame.
#[test]
fn bad_texts_fail_before_anything_is_opened() {
    let rows = [
        ("foo", "", "unknown network foo"),
        ("bar", "baz", "unknown network bar"),
        ("datakit", "mh/astro/r70", "unknown network datakit"),
        (
            "tcp",
            "127.0.0.1:\u{263a}",
            "address tcp/\u{263a}: unknown port",
        ),
        (
            "udp",
            "127.0.0.1:\u{263a}",
            "address udp/\u{263a}: unknown port",
        ),
        ("tcp", "127.0.0.1:-1", "address -1: invalid port"),
        (
            "tcp",
            "127.0.0.1:123456789",
            "address 123456789: invalid port",
        ),
        ("udp", "127.0.0.1:-1", "address -1: invalid port"),
        ("udp", ":123456789", "address 123456789: invalid port"),
        ("tcp", "-1", "address -1: missing port in address"),
        (
            "ip4:bogus",
            "127.0.0.1",
            "address bogus: unknown IP protocol specified",
        ),
    ];
    for (network, address, wanted) in rows {
        fails(network, address, wanted);
    }
    // Names, whatever they look like, are for the resolver to refuse.
    assert_eq!(
        endpoint("tcp", "mh/astro/r70:http").name(),
        Some("mh/astro/r70")
    );
    assert_eq!(
        endpoint("tcp", "no-such-name:80").name(),
        Some("no-such-name")
    );
    // And paths for the kernel.
    assert!(endpoint("unix", "//").unix().unwrap().path().is_some());
}

#[test]
fn each_purpose_refuses_the_networks_of_the_others() {
    let text = |result: Result<(), Error>| result.map_or_else(|e| e.to_string(), |()| "".into());
    let rows = [
        (
            "tcp",
            "127.0.0.1:0",
            "address 127.0.0.1:0: unexpected address type",
        ),
        ("tcp4", ":0", "address :0: unexpected address type"),
        ("unix", "/x", "address /x: unexpected address type"),
        ("unixpacket", "/x", "address /x: unexpected address type"),
    ];
    for (network, address, why) in rows {
        let endpoint = endpoint(network, address);
        assert_eq!(text(endpoint.for_listen()), "");
        assert_eq!(text(endpoint.for_dial()), "");
        let wanted = format!("listen {network} {address}: {why}");
        assert_eq!(text(endpoint.for_bind()), wanted);
    }
    let rows = [
        (
            "udp",
            "127.0.0.1:0",
            "address 127.0.0.1:0: unexpected address type",
        ),
        ("udp6", ":0", "address :0: unexpected address type"),
        ("unixgram", "/x", "address /x: unexpected address type"),
        (
            "ip4:1",
            "127.0.0.1",
            "address 127.0.0.1: unexpected address type",
        ),
    ];
    for (network, address, why) in rows {
        let endpoint = endpoint(network, address);
        assert_eq!(text(endpoint.for_bind()), "");
        let wanted = format!("listen {network} {address}: {why}");
        assert_eq!(text(endpoint.for_listen()), wanted);
        let wanted = format!("dial {network} {address}: {NO_CONNECTION}");
        assert_eq!(text(endpoint.for_dial()), wanted);
    }
    let udp = endpoint("udp", "127.0.0.1:0");
    assert_eq!(
        udp.for_listen().unwrap_err().to_string(),
        "listen udp 127.0.0.1:0: address 127.0.0.1:0: unexpected address type"
    );
}

/// What a listener would try, as text: the addresses, `only` after those with V6ONLY.
fn candidates(network: &str, address: &str, looked_up: &[&str]) -> String {
    let looked_up: Vec<_> = looked_up.iter().copied().map(ip).collect();
    match listen_candidates(&endpoint(network, address), &looked_up) {
        Err(cause) => cause.to_string(),
        Ok(list) => {
            let texts = list.iter().map(|(addr, only_v6)| match only_v6 {
                true => format!("{addr} only"),
                false => addr.to_string(),
            });
            texts.collect::<Vec<_>>().join(", ")
        }
    }
}

#[test]
fn a_wildcard_is_one_socket_for_both_families() {
    for host in ["", "0.0.0.0", "[::]", "[::ffff:0.0.0.0]"] {
        let address = format!("{host}:80");
        for network in ["tcp", "udp"] {
            let both = candidates(network, &address, &[]);
            assert_eq!(both, "[::]:80, 0.0.0.0:80", "{host}");
        }
    }
    assert_eq!(candidates("tcp", "", &[]), "[::]:0, 0.0.0.0:0");
    assert_eq!(
        candidates("tcp", "zero:80", &["0.0.0.0"]),
        "[::]:80, 0.0.0.0:80"
    );
}

#[test]
fn a_network_of_one_family_listens_on_that_family() {
    let rows = [
        ("tcp4", ":80", "0.0.0.0:80"),
        ("tcp4", "0.0.0.0:80", "0.0.0.0:80"),
        ("tcp4", "[::]:80", "0.0.0.0:80"),
        ("tcp4", "127.0.0.1:80", "127.0.0.1:80"),
        ("tcp4", "[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
        ("tcp4", "[::1]:80", "address ::1: no suitable address found"),
        (
            "tcp4",
            "[fe80::1%2]:80",
            "address fe80::1%2: no suitable address found",
        ),
        ("tcp6", ":80", "[::]:80 only"),
        ("tcp6", "[::]:80", "[::]:80 only"),
        ("tcp6", "[::1]:80", "[::1]:80 only"),
        ("tcp6", "[fe80::1%2]:80", "[fe80::1%2]:80 only"),
        (
            "tcp6",
            "0.0.0.0:80",
            "address 0.0.0.0: no suitable address found",
        ),
        (
            "tcp6",
            "127.0.0.1:80",
            "address 127.0.0.1: no suitable address found",
        ),
        (
            "tcp6",
            "[::ffff:127.0.0.1]:80",
            "address 127.0.0.1: no suitable address found",
        ),
        ("tcp", "127.0.0.1:80", "127.0.0.1:80"),
        ("tcp", "[::1]:80", "[::1]:80"),
        ("tcp", "[fe80::1%2]:80", "[fe80::1%2]:80"),
    ];
    for (network, address, wanted) in rows {
        // What was looked up is for names only.
        assert_eq!(
            candidates(network, address, &["9.9.9.9"]),
            wanted,
            "{network} {address}"
        );
    }
}

#[test]
fn datagrams_and_raw_ip_are_bound_by_the_same_rules() {
    let rows = [
        ("udp4", ":53", "0.0.0.0:53"),
        ("udp6", ":53", "[::]:53 only"),
        ("udp6", "[::1]:53", "[::1]:53 only"),
        (
            "udp6",
            "127.0.0.1:53",
            "address 127.0.0.1: no suitable address found",
        ),
        ("udp", "[::1]:53", "[::1]:53"),
        ("ip:1", "", "0.0.0.0:0"),
        ("ip:1", "0.0.0.0", "0.0.0.0:0"),
        ("ip:1", "::", "[::]:0"),
        ("ip4:1", "", "0.0.0.0:0"),
        ("ip6:58", "", "[::]:0 only"),
        ("ip6:58", "fe80::1%2", "[fe80::1%2]:0 only"),
        (
            "ip6:58",
            "127.0.0.1",
            "address 127.0.0.1: no suitable address found",
        ),
        ("unix", "/x", "/x"),
        ("unixgram", "", "@"),
    ];
    for (network, address, wanted) in rows {
        assert_eq!(candidates(network, address, &[]), wanted);
    }
}

#[test]
fn a_name_listens_on_its_first_ipv4_address_else_its_first() {
    let none = "address name: no suitable address found";
    let rows: [(&str, &[&str], &str); 12] = [
        ("tcp", &["::1", "127.0.0.1", "127.0.0.2"], "127.0.0.1:80"),
        ("tcp", &["::2", "::1"], "[::2]:80"),
        ("tcp", &["::1", "::ffff:1.2.3.4"], "1.2.3.4:80"),
        ("tcp", &[], none),
        ("tcp4", &["::1", "127.0.0.1"], "127.0.0.1:80"),
        ("tcp4", &["::ffff:1.2.3.4"], "1.2.3.4:80"),
        ("tcp4", &["::1"], none),
        ("tcp4", &["::", "::1"], none),
        ("tcp4", &[], none),
        ("tcp6", &["127.0.0.1", "::2", "::1"], "[::2]:80 only"),
        ("tcp6", &["127.0.0.1", "::ffff:1.2.3.4"], none),
        ("tcp6", &[], none),
    ];
    for (network, looked_up, wanted) in rows {
        assert_eq!(
            candidates(network, "name:80", looked_up),
            wanted,
            "{network} {looked_up:?}"
        );
    }
}

/// What a dial would try, as text.
fn targets(network: &str, address: &str, looked_up: &[&str], local: Option<&str>) -> String {
    let looked_up: Vec<_> = looked_up.iter().copied().map(ip).collect();
    let local: Option<Addr> = local.map(|text| text.parse().unwrap());
    match dial_candidates(&endpoint(network, address), &looked_up, local.as_ref()) {
        Err(cause) => cause.to_string(),
        Ok(list) => {
            let texts: Vec<_> = list.iter().map(Addr::to_string).collect();
            texts.join(", ")
        }
    }
}

#[test]
fn families_take_turns_beginning_with_the_first() {
    let rows: [(&[&str], &str); 6] = [
        (&["1.1.1.1"], "1.1.1.1:80"),
        (&["::1", "1.1.1.1"], "[::1]:80, 1.1.1.1:80"),
        (&["1.1.1.1", "::1"], "1.1.1.1:80, [::1]:80"),
        (
            &["1.1.1.1", "2.2.2.2", "::1", "::2"],
            "1.1.1.1:80, [::1]:80, 2.2.2.2:80, [::2]:80",
        ),
        (
            &["::1", "::2", "::3", "1.1.1.1"],
            "[::1]:80, 1.1.1.1:80, [::2]:80, [::3]:80",
        ),
        (&["::ffff:1.1.1.1", "::1"], "1.1.1.1:80, [::1]:80"),
    ];
    for (looked_up, wanted) in rows {
        assert_eq!(targets("tcp", "name:80", looked_up, None), wanted);
    }
}

#[test]
fn a_network_of_one_family_dials_that_family() {
    let both: &[&str] = &["::1", "1.1.1.1", "::2", "2.2.2.2"];
    let none = "address name: no suitable address found";
    let rows = [
        ("tcp4", both, "1.1.1.1:80, 2.2.2.2:80"),
        ("tcp6", both, "[::1]:80, [::2]:80"),
        ("tcp4", &["::ffff:1.1.1.1"], "1.1.1.1:80"),
        ("tcp6", &["::ffff:1.1.1.1"], none),
        ("tcp4", &["::1"], none),
        ("tcp6", &["1.1.1.1"], none),
        ("tcp", &[], none),
    ];
    for (network, looked_up, wanted) in rows {
        assert_eq!(targets(network, "name:80", looked_up, None), wanted);
    }
    let rows = [
        (
            "tcp6",
            "127.0.0.1:80",
            "address 127.0.0.1: no suitable address found",
        ),
        (
            "tcp6",
            "[::ffff:127.0.0.1]:80",
            "address 127.0.0.1: no suitable address found",
        ),
        ("tcp4", "[::1]:80", "address ::1: no suitable address found"),
    ];
    for (network, address, wanted) in rows {
        assert_eq!(targets(network, address, &[], None), wanted);
    }
}

#[test]
fn where_nobody_answers_only_one_address_is_dialed() {
    let both = ["::1", "1.1.1.1", "2.2.2.2"];
    let rows = [
        ("udp", "name:53", "1.1.1.1:53"),
        ("udp6", "name:53", "[::1]:53"),
        ("ip:1", "name", "1.1.1.1:0"),
        ("ip6:58", "name", "[::1]:0"),
        ("udp", "[::1]:53", "[::1]:53"),
        ("udp", ":53", "127.0.0.1:53"),
        ("ip4:1", "127.0.0.1", "127.0.0.1:0"),
    ];
    for (network, address, wanted) in rows {
        assert_eq!(targets(network, address, &both, None), wanted);
    }
    let six = targets("udp", "name:53", &both, Some("[::1]:0"));
    assert_eq!(six, "[::1]:53");
}

#[test]
fn dialing_a_wildcard_means_this_host() {
    let rows = [
        ("tcp", ":80", "127.0.0.1:80, [::1]:80"),
        ("tcp4", ":80", "127.0.0.1:80"),
        ("tcp6", ":80", "[::1]:80"),
        ("tcp", "0.0.0.0:80", "127.0.0.1:80"),
        ("tcp", "[::]:80", "[::1]:80"),
        ("tcp", "[::ffff:0.0.0.0]:80", "127.0.0.1:80"),
    ];
    for (network, address, wanted) in rows {
        assert_eq!(targets(network, address, &[], None), wanted);
    }
}

#[test]
fn whoever_is_dialed_must_be_somebody() {
    let rows = [
        ("tcp", ""),
        ("tcp", ":0"),
        ("udp", ""),
        ("ip4:1", ""),
        ("unix", ""),
        ("unix", "@"),
        ("unixgram", ""),
        ("unixpacket", ""),
    ];
    for (network, address) in rows {
        for local in [None, Some("127.0.0.1:0"), Some("/x")] {
            assert_eq!(targets(network, address, &[], local), "missing address");
        }
    }
    assert_eq!(targets("unix", "/y", &[], None), "/y");
    assert_eq!(targets("unixgram", "/y", &[], Some("/x")), "/y");
    assert_eq!(targets("unixpacket", "/y", &[], Some("@")), "/y");
}

#[test]
fn our_own_end_must_be_of_the_same_kind_and_family() {
    let mismatched = "mismatched local address type";
    let none = "no suitable address found";
    let both = ["::1", "1.1.1.1"];
    let rows = [
        ("tcp", "name:80", "127.0.0.1:0", "1.1.1.1:80".to_owned()),
        ("tcp", "name:80", "[::1]:0", "[::1]:80".to_owned()),
        (
            "tcp",
            "name:80",
            "[::]:0",
            "[::1]:80, 1.1.1.1:80".to_owned(),
        ),
        ("tcp", "127.0.0.1:80", "[::]:0", "127.0.0.1:80".to_owned()),
        (
            "tcp",
            "127.0.0.1:80",
            "0.0.0.0:0",
            "127.0.0.1:80".to_owned(),
        ),
        (
            "tcp",
            "127.0.0.1:80",
            "[::1]:0",
            format!("address [::1]:0: {none}"),
        ),
        (
            "tcp4",
            "name:80",
            "[::1]:0",
            format!("address [::1]:0: {none}"),
        ),
        (
            "tcp",
            "127.0.0.1:80",
            "/x",
            format!("address /x: {mismatched}"),
        ),
        (
            "udp",
            "127.0.0.1:80",
            "@",
            format!("address @: {mismatched}"),
        ),
        (
            "ip4:1",
            "127.0.0.1",
            "/x",
            format!("address /x: {mismatched}"),
        ),
        (
            "unix",
            "/x",
            "127.0.0.1:0",
            format!("address 127.0.0.1:0: {mismatched}"),
        ),
    ];
    for (network, address, local, wanted) in rows {
        assert_eq!(targets(network, address, &both, Some(local)), wanted);
    }
}

const NETWORKS: [&str; 12] = [
    "tcp",
    "tcp4",
    "tcp6",
    "udp",
    "udp4",
    "udp6",
    "unix",
    "unixgram",
    "unixpacket",
    "ip:1",
    "ip4:2",
    "ip6:58",
];

/// Texts made of the characters that matter, so that many of them nearly parse.
fn address_like() -> impl Strategy<Value = String> {
    prop_oneof![
        r"[\[\]:%/.+\-@0-9a-fhtpx\x00]{0,24}",
        r"(tcp[46]?://|udp://|unix://)?\[?[0-9a-f:.]{0,16}(%[a-z0-9]{0,3})?\]?:[+-]?[0-9]{0,6}",
        r"(tcp[46]?://)?[a-z0-9.\-]{0,12}:(http|SSH|[0-9]{1,5})",
        r"(ip[46]?:(icmp|[0-9]{1,3})://)?[0-9a-f:.%\[\]]{0,16}",
        r"unix(gram|packet)?://[@/a.]{0,8}",
    ]
}

fn any_addr() -> impl Strategy<Value = Addr> {
    let v6 = any::<(u128, u16, u32)>()
        .prop_map(|(ip, port, scope)| Addr::from(socket_addr(IpAddr::V6(ip.into()), scope, port)));
    let v4 = any::<(u32, u16)>()
        .prop_map(|(ip, port)| SocketAddr::from((Ipv4Addr::from(ip), port)).into());
    let unix = "[@/.a-z ]{0,12}".prop_map(|text| UnixAddr::parse(&text).unwrap().into());
    prop_oneof![v4, v6, unix]
}

fn parse_everything(text: &str) -> Result<(), TestCaseError> {
    let _ = (Endpoint::new(text, text), Endpoint::new(text, ":80"));
    if let Ok((host, port)) = split_host_port(text) {
        let joined = join_host_port(host, port);
        prop_assert_eq!(split_host_port(&joined), Ok((host, port)));
    }
    let two_strings = NETWORKS.map(|network| Endpoint::new(network, text));
    for parsed in two_strings.into_iter().chain([text.parse()]) {
        let Ok(endpoint) = parsed else { continue };
        prop_assert_eq!(endpoint.to_string().parse(), Ok(endpoint.clone()));
        let network = endpoint.network().to_string();
        let again = Endpoint::new(&network, &endpoint.address_text());
        prop_assert_eq!(again, Ok(endpoint.clone()));
        let _ = endpoint.place().to_string();
        candidates_are_of_the_network(&endpoint)?;
    }
    Ok(())
}

fn candidates_are_of_the_network(endpoint: &Endpoint) -> Result<(), TestCaseError> {
    let ips = [ip("::1"), ip("127.0.0.1")];
    let mut all = dial_candidates(endpoint, &ips, None).unwrap_or_default();
    let bound = listen_candidates(endpoint, &ips).unwrap_or_default();
    all.extend(bound.into_iter().map(|(addr, _)| addr));
    for addr in all {
        match &endpoint.site {
            Site::Unix(name) => prop_assert_eq!(addr.as_unix(), Some(name)),
            Site::Ip { port, .. } => {
                prop_assert_eq!(addr.port(), Some(*port));
                prop_assert!(endpoint.network.allows(addr.ip().unwrap()));
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_text_panics_and_what_parses_prints_back(text in "(?s).*", like in address_like()) {
        parse_everything(&text)?;
        parse_everything(&like)?;
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        parse_everything(&String::from_utf8_lossy(&bytes))?;
        if let Ok(endpoint) = Endpoint::try_from(Path::new(OsStr::from_bytes(&bytes))) {
            let _ = endpoint.to_string().parse::<Endpoint>();
        }
    }

    #[test]
    fn every_address_prints_back_on_every_network(addr in any_addr()) {
        for network in NETWORKS {
            let network = network.parse().unwrap();
            if let Ok(endpoint) = Endpoint::from_addr(network, addr.clone()) {
                prop_assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
            }
        }
        let endpoint = Endpoint::from(addr.clone());
        prop_assert_eq!(endpoint.place(), Place::Addr(addr.clone()));
        if addr.as_socket_addr().is_some() {
            prop_assert_eq!(endpoint.address_text(), addr.to_string());
        }
    }

    #[test]
    fn splitting_undoes_joining(host in r"[^\[\]]{0,12}", port in r"[^\[\]:]{0,6}") {
        let joined = join_host_port(&host, &port);
        prop_assert_eq!(split_host_port(&joined), Ok((host.as_str(), port.as_str())));
    }

    #[test]
    fn every_port_is_the_number_it_says(port: i64) {
        let parsed = parse_port("tcp", &port.to_string());
        prop_assert_eq!(parsed.ok(), u16::try_from(port).ok());
    }
}

#[cfg(feature = "tls")]
#[test]
fn a_literal_host_is_an_address_and_a_name_is_none() {
    let literal = |text: &str| text.parse::<Endpoint>().unwrap().literal();
    assert_eq!(literal("192.0.2.1:80"), Some([192, 0, 2, 1].into()));
    assert_eq!(literal("[2001:db8::7]:80"), "2001:db8::7".parse().ok());
    for text in ["db.internal:80", ":80", "unix:///run/x.sock"] {
        assert_eq!(literal(text), None, "{text}");
    }
}
