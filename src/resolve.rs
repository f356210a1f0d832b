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
///   text contains a `[` (`[localhost]:80`), on raw IP if it contains a colon.
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
    let mark = if network.is_raw() { ':' } else { '[' };
    let prefer = if address.contains(mark) {
        Prefer::V6
    } else {
        Prefer::V4
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
