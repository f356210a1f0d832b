//! Names to numbers and addresses: services, protocols, hosts, interfaces.
//!
//! Owns the tables of services and IP protocols: Go's own first, then the system's
//! (`/etc/services`, `/etc/protocols`), which are read once, when a name is met that is not
//! built in. Owns [`resolve`] as well, Go's `ResolveTCPAddr` and its kin in one.
//!
//! Never used by the loop for hosts: a look-up blocks, and the loop has a thread for that
//! (`kernel/os.rs`).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::OnceLock;

use crate::address::{Addr, AddressError, Network};
use crate::endpoint::{Endpoint, Prefer, one_address};
use crate::error::{Cause, Error, Op};
use crate::kernel::os::resolver;

/// Turns Go's two strings into an address, looking up whatever is a name: host, service,
/// interface, protocol.
///
/// **It may block** for as long as the system's resolver likes, so it is for programs that
/// start up, and for threads beside the loop: never call it in a callback. There a name is
/// simply dialed.
///
/// - Of a host's addresses the first IPv4 one is taken, else the first; IPv6 first if the
///   text contains a `[` (`[localhost]:80`).
/// - An empty host is a wildcard: `0.0.0.0` on `tcp4`, `udp4`, `ip` and `ip4`, else `::`.
/// - Raw IP has no port: the address's is 0. The protocol may be left out (`ip4`), since
///   the address does not depend on it.
/// - On Unix networks the text is parsed and nothing is looked up.
/// - An empty network is unknown; Go takes it for `tcp`.
///
/// ```
/// use windlass::resolve;
///
/// assert_eq!(resolve("udp", "127.0.0.1:domain")?.to_string(), "127.0.0.1:53");
/// assert_eq!(
///     resolve("tcp", "127.0.0.1").unwrap_err().to_string(),
///     "address 127.0.0.1: missing port in address",
/// );
/// # Ok::<(), windlass::Error>(())
/// ```
///
/// # Errors
///
/// Those of [`Endpoint::new`]; `lookup X: no such host` or what else the resolver says;
/// `address X: no suitable address found` if no address is of the network's family;
/// `address X: no such interface`. [`Error::op`] is [`Op::Resolve`], of which the text, as
/// Go's, says nothing.
pub fn resolve(network: &str, address: &str) -> Result<Addr, Error> {
    let refused = |error: AddressError| error.into_error(Op::Resolve);
    let network = any_network(network).map_err(refused)?;
    let mut endpoint = Endpoint::parse(network, address).map_err(refused)?;
    let fail = |cause| Error::new(Op::Resolve, Some(network), None, cause);
    endpoint
        .resolve_zone(resolver::interface_index)
        .map_err(fail)?;
    let looked_up = addresses(&endpoint).map_err(fail)?;
    let prefer = match address.contains('[') {
        true => Prefer::V6,
        false => Prefer::V4,
    };
    one_address(&endpoint, &looked_up, prefer).map_err(fail)
}

/// Any network; raw IP without a protocol, too.
fn any_network(text: &str) -> Result<Network, AddressError> {
    match text {
        "ip" => Ok(Network::Ip(0)),
        "ip4" => Ok(Network::Ip4(0)),
        "ip6" => Ok(Network::Ip6(0)),
        _ => text.parse(),
    }
}

fn addresses(endpoint: &Endpoint) -> Result<Vec<IpAddr>, Cause> {
    match endpoint.name() {
        Some(name) => {
            resolver::addresses_of(name).map_err(|error| Cause::lookup(name.to_owned(), &error))
        }
        None => Ok(Vec::new()),
    }
}

/// The port of a service of `tcp` or `udp`, in any case.
pub(crate) fn service_port(protocol: &'static str, name: &str) -> Option<u16> {
    let name = table_key(name)?;
    let built_in: &[(&str, u16)] = match protocol {
        "tcp" => &TCP_SERVICES,
        _ => &UDP_SERVICES,
    };
    find(built_in, &name).or_else(|| system_services().get(&(protocol, name)).copied())
}

/// The number of an IP protocol, by its name in any case.
pub(crate) fn protocol_number(name: &str) -> Option<u8> {
    let name = table_key(name)?;
    find(&PROTOCOLS, &name).or_else(|| system_protocols().get(&name).copied())
}

/// As the tables have it. Longer ones are in no table, as in Go.
fn table_key(name: &str) -> Option<String> {
    (name.len() <= LONGEST_NAME).then(|| name.to_ascii_lowercase())
}

fn find<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    let entry = table.iter().find(|(known, _)| *known == name)?;
    Some(entry.1)
}

type Services = HashMap<(&'static str, String), u16>;
type Protocols = HashMap<String, u8>;

fn system_services() -> &'static Services {
    static SERVICES: OnceLock<Services> = OnceLock::new();
    SERVICES.get_or_init(|| read_services(&resolver::table("/etc/services")))
}

fn system_protocols() -> &'static Protocols {
    static PROTOCOLS: OnceLock<Protocols> = OnceLock::new();
    PROTOCOLS.get_or_init(|| read_protocols(&resolver::table("/etc/protocols")))
}

/// `http 80/tcp www # World Wide Web`. What is no such line is passed over; of several
/// lines for one name the last counts, as in Go.
fn read_services(text: &str) -> Services {
    let mut services = Services::new();
    for (name, number, aliases) in lines(text) {
        let Some((port, protocol)) = number.split_once('/') else {
            continue;
        };
        let protocol = match protocol {
            "tcp" => "tcp",
            "udp" => "udp",
            _ => continue,
        };
        // Port 0 is no service's.
        let Some(port) = port.parse().ok().filter(|port| *port != 0) else {
            continue;
        };
        for name in [name].into_iter().chain(aliases) {
            services.insert((protocol, name.to_ascii_lowercase()), port);
        }
    }
    services
}

/// `tcp 6 TCP # transmission control protocol`. What is no such line is passed over; of
/// several lines for one name the first counts, as in Go.
fn read_protocols(text: &str) -> Protocols {
    let mut protocols = Protocols::new();
    for (name, number, aliases) in lines(text) {
        let Ok(number) = number.parse() else { continue };
        for name in [name].into_iter().chain(aliases) {
            protocols.entry(name.to_ascii_lowercase()).or_insert(number);
        }
    }
    protocols
}

/// The lines of a table: a name, a number, other names; what follows a `#` is a comment.
fn lines(text: &str) -> impl Iterator<Item = (&str, &str, std::str::SplitAsciiWhitespace<'_>)> {
    text.lines().filter_map(|line| {
        let line = line.split('#').next()?;
        let mut fields = line.split_ascii_whitespace();
        Some((fields.next()?, fields.next()?, fields))
    })
}

/// Bytes that the name of a service or protocol may have (Go: the longest that is
/// registered, and ten more).
const LONGEST_NAME: usize = 25;

/// The service names that Go has built in for TCP.
const TCP_SERVICES: [(&str, u16); 13] = [
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
];

/// And for UDP.
const UDP_SERVICES: [(&str, u16); 1] = [("domain", 53)];

/// The protocols that Go has built in.
const PROTOCOLS: [(&str, u8); 5] = [
    ("icmp", 1),
    ("igmp", 2),
    ("tcp", 6),
    ("udp", 17),
    ("ipv6-icmp", 58),
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[track_caller]
    fn resolves(network: &str, address: &str, wanted: &str) {
        match resolve(network, address) {
            Ok(addr) => assert_eq!(addr.to_string(), wanted, "{network} {address}"),
            Err(error) => assert_eq!(error.to_string(), wanted, "{network} {address}"),
        }
    }

    #[test]
    fn the_services_of_go_are_built_in_in_any_case() {
        for (name, port) in TCP_SERVICES {
            assert_eq!(service_port("tcp", name), Some(port));
            assert_eq!(service_port("tcp", &name.to_uppercase()), Some(port));
        }
        assert_eq!(service_port("tcp", "Https"), Some(443));
        assert_eq!(service_port("udp", "domain"), Some(53));
        assert_eq!(service_port("udp", "DoMaIn"), Some(53));
    }

    #[test]
    fn the_protocols_of_go_are_built_in_in_any_case() {
        for (name, number) in PROTOCOLS {
            assert_eq!(protocol_number(name), Some(number));
            assert_eq!(protocol_number(&name.to_uppercase()), Some(number));
        }
        assert_eq!(protocol_number("ICmp"), Some(1));
    }

    #[test]
    fn a_name_that_is_in_no_table_is_unknown() {
        for name in ["", " ", "bogus-service", "http ", "\u{0131}map2", "a\0b"] {
            assert_eq!(service_port("tcp", name), None, "{name}");
            assert_eq!(service_port("udp", name), None, "{name}");
            assert_eq!(protocol_number(name), None, "{name}");
        }
    }

    #[test]
    fn names_of_more_than_25_bytes_are_not_looked_for() {
        assert_eq!(table_key(&"x".repeat(25)), Some("x".repeat(25)));
        assert_eq!(table_key(&"x".repeat(26)), None);
    }

    #[test]
    fn a_table_of_services_is_read_as_go_reads_it() {
        let text = "# comment\n\
                    http\t80/tcp www www-http # World Wide Web\n\
                    Case 1000/udp ALIAS\n\
                    twice 1/tcp\n\
                    twice 2/tcp\n\
                    both 7/tcp\n\
                    both 7/udp#no blank before it\n\
                    zero 0/tcp\nlarge 65536/tcp\nnegative -1/tcp\nbare 5\nsctp 9/sctp\n\
                    tcpx 9/tcpx\nalone\n   \nhalf 80\u{fffd}/tcp\n";
        let services = read_services(text);
        let port = |protocol, name: &str| services.get(&(protocol, name.to_owned())).copied();
        for name in ["http", "www", "www-http"] {
            assert_eq!(port("tcp", name), Some(80));
            assert_eq!(port("udp", name), None);
        }
        assert_eq!(port("udp", "case"), Some(1000));
        assert_eq!(port("udp", "alias"), Some(1000));
        assert_eq!(port("tcp", "twice"), Some(2));
        assert_eq!(
            (port("tcp", "both"), port("udp", "both")),
            (Some(7), Some(7))
        );
        assert_eq!(services.len(), 8);
    }

    #[test]
    fn a_table_of_protocols_is_read_as_go_reads_it() {
        let text = "# comment\n\
                    ip 0 IP # internet protocol\n\
                    gre\t47\tGRE\n\
                    gre 48\n\
                    large 256\nsigned -1\nalone\nword x\n";
        let protocols = read_protocols(text);
        assert_eq!(protocols.get("ip"), Some(&0));
        assert_eq!(protocols.get("gre"), Some(&47));
        assert_eq!(protocols.len(), 2);
    }

    #[test]
    fn a_table_that_is_missing_or_no_text_is_harmless() {
        assert_eq!(resolver::table("/no/such/table"), "");
        assert_eq!(resolver::table("/"), "");
        assert!(read_services("").is_empty());
        assert!(read_services("\u{fffd} \u{fffd}/tcp\n\0 1/\n").is_empty());
    }

    #[test]
    fn an_address_is_resolved_as_go_resolves_it() {
        let rows = [
            ("tcp", "127.0.0.1:80", "127.0.0.1:80"),
            ("tcp", "127.0.0.1:http", "127.0.0.1:80"),
            ("udp", "[::1]:domain", "[::1]:53"),
            ("tcp", "[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
            ("tcp6", "[fe80::1%2]:80", "[fe80::1%2]:80"),
            ("tcp", "[::]:80", "[::]:80"),
            ("tcp4", "[::]:80", "0.0.0.0:80"),
            ("ip", "127.0.0.1", "127.0.0.1:0"),
            ("ip", "::", "[::]:0"),
            ("ip4:icmp", "127.0.0.1", "127.0.0.1:0"),
            ("ip6", "fe80::1%2", "[fe80::1%2]:0"),
            ("unix", "/run/x.sock", "/run/x.sock"),
            ("unixgram", "", "@"),
        ];
        for (network, address, wanted) in rows {
            resolves(network, address, wanted);
        }
    }

    #[test]
    fn an_empty_host_is_never_looked_up() {
        let rows = [
            ("tcp", ":80", "[::]:80"),
            ("tcp", "", "[::]:0"),
            ("tcp4", ":80", "0.0.0.0:80"),
            ("udp6", ":53", "[::]:53"),
            ("ip", "", "0.0.0.0:0"),
            ("ip4", "", "0.0.0.0:0"),
            ("ip6", "", "[::]:0"),
        ];
        for (network, address, wanted) in rows {
            resolves(network, address, wanted);
        }
    }

    #[test]
    fn what_does_not_resolve_says_why_and_no_more() {
        let rows = [
            (
                "tcp",
                "127.0.0.1",
                "address 127.0.0.1: missing port in address",
            ),
            ("tcp", ":bogus", "address tcp/bogus: unknown port"),
            ("udp", ":65536", "address 65536: invalid port"),
            ("tcp4", "[::1]:80", "address ::1: no suitable address found"),
            (
                "ip6",
                "127.0.0.1",
                "address 127.0.0.1: no suitable address found",
            ),
            ("", "127.0.0.1:80", "unknown network "),
            ("tcp:80", "x", "unknown network tcp:80"),
            (
                "ip4:bogus",
                "x",
                "address bogus: unknown IP protocol specified",
            ),
            (
                "tcp",
                "[fe80::1%nosuchif]:80",
                "address fe80::1%nosuchif: no such interface",
            ),
            (
                "tcp",
                "[fe80::1%a\0b]:80",
                "address fe80::1%a\0b: no such interface",
            ),
            ("unix", "a\0b", "address a\0b: NUL in path"),
        ];
        for (network, address, wanted) in rows {
            resolves(network, address, wanted);
        }
        let error = resolve("tcp", ":bogus").unwrap_err();
        assert_eq!(error.op(), Op::Resolve);
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_host_name_is_looked_up() {
        resolves("tcp4", "localhost:80", "127.0.0.1:80");
        // What the resolver calls it differs; whether it can be reached at all, too.
        let error = resolve("tcp", "no-such-name.invalid:80").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("lookup no-such-name.invalid: ")
        );
        assert_eq!(error.recovery(), crate::error::Recovery::BackOff);
        assert!(resolve("tcp", "a\0b:80").is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_interface_is_known_by_its_name() {
        let number = resolver::interface_index("lo").unwrap();
        let wanted = format!("[fe80::1%{number}]:80");
        resolves("tcp", "[fe80::1%lo]:80", &wanted);
        assert_eq!(resolver::interface_index(""), None);
        assert_eq!(resolver::interface_index(&"x".repeat(1000)), None);
    }

    #[test]
    fn the_tables_of_the_system_are_those_that_are_asked() {
        let services = read_services(&resolver::table("/etc/services"));
        assert_eq!(*system_services(), services);
        let protocols = read_protocols(&resolver::table("/etc/protocols"));
        assert_eq!(*system_protocols(), protocols);
    }
}
