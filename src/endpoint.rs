//! Endpoints: where to listen or whom to reach, as an application says it.
//!
//! Owns the text of an endpoint with all its parts (host, port, zone, name of a Unix
//! socket), `host:port` with its exact error texts, and which addresses an endpoint stands
//! for, best first. The rules are those of Go's `net` package.
//!
//! Looks no host and no interface up and never knows a socket: names stay text until
//! somebody brings the addresses that a resolver answered. Only services are looked for, in
//! the tables of `resolve.rs`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::address::{
    Addr, AddressError, Network, UnixAddr, is_number, parse_ip, refused, scope_of, socket_addr,
};
use crate::error::{Cause, Error, Op, Place};
use crate::kernel::Transport;
use crate::resolve;

/// Where to listen, or whom to reach: a network and an address; parsed, but not looked up.
///
/// | Text | Meaning |
/// |---|---|
/// | `tcp://127.0.0.1:3000`, `tcp6://[::1]:80` | a network and an address |
/// | `127.0.0.1:3000`, `localhost:http` | the same on `tcp` |
/// | `:3000` | every address of this host |
/// | `tcp://:0`, `tcp://:` | a port that the kernel chooses |
/// | `[fe80::1%eth0]:80`, `[fe80::1%2]:80` | a link-local address, on that interface |
/// | `udp://:53` | datagrams |
/// | `ip4:icmp://127.0.0.1`, `ip6:58://::1` | raw IP: a host without port and brackets |
/// | `unix:///run/x.sock`, `unix://relative/path` | a path; so with `unixgram`, `unixpacket` |
/// | `unix://@name` | an abstract name (Linux); see [`UnixAddr`] |
/// | `unix://` | no name: the kernel makes one up for a listener (Linux) |
///
/// - **Host**: an IP literal, a name, or nothing. IPv6 literals need brackets. What is
///   not a literal is a name, so `256.0.0.1:80` is an error of the resolver, later.
/// - **Port**: 0 to 65535, or the name of a service in any case: those that Go has built in
///   (`http`, `https`, `ssh`, `smtp`, …; `domain` for `udp`), and those of `/etc/services`,
///   which is read once, when a name that is not built in is first met.
/// - **Zone**: the number of an interface or its name. The name is looked up whenever the
///   endpoint is opened; an unknown one is `address fe80::1%nosuchif: no such interface`.
///   (Go makes it zone 0, and the kernel answers EINVAL.) Digits are always a number.
/// - **`0.0.0.0` is not IPv4 only**: on `tcp` and `udp` every wildcard address means one
///   socket for both families, as in Go. Say `tcp4` to keep IPv6 out. Raw IP has no such
///   sockets: there every wildcard but `::` means IPv4, unless it is `ip6`.
/// - **NUL** in a path is an error. In an abstract name it is a byte like any other.
///
/// [`Endpoint::new`] takes Go's two strings. An [`Addr`], a `SocketAddr` or
/// `(IpAddr, u16)` converts into an endpoint of network `tcp`, a [`UnixAddr`] or a path into
/// one of network `unix`; [`Endpoint::from_addr`] takes a network as well. Whether the
/// network suits the purpose (`udp` has no listeners) is found out by what it is passed to.
///
/// Printing gives `network://address`, which parses to the same endpoint, services having
/// become numbers. What [`UnixAddr`] cannot print is excepted.
///
/// ```
/// use windlass::Endpoint;
///
/// let web: Endpoint = "localhost:http".parse()?;
/// assert_eq!(web.to_string(), "tcp://localhost:80");
///
/// let error = Endpoint::new("tcp", "127.0.0.1").unwrap_err();
/// assert_eq!(error.to_string(), "address 127.0.0.1: missing port in address");
/// # Ok::<(), windlass::AddressError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    network: Network,
    site: Site,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Site {
    /// On raw IP the port is 0.
    Ip {
        host: Host,
        port: u16,
    },
    Unix(UnixAddr),
}

/// The host part of an [`Endpoint`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Host {
    /// Nothing was said: every address of this host.
    Any,
    /// A literal, never IPv4-mapped. IPv4 has no zone.
    Ip { ip: IpAddr, zone: Zone },
    /// Not a literal, not empty; anything else may stand in it.
    Name(String),
}

/// Which interface a link-local address belongs to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Zone {
    /// The interface's number; 0 is none.
    Number(u32),
    /// Its name, and the number that was found for it; 0 until then.
    Named { name: String, number: u32 },
}

impl Endpoint {
    /// Parses Go's two strings, as in `net.Listen("tcp", ":3000")`.
    ///
    /// An empty address is a wildcard with a port that the kernel chooses, or no name on a
    /// Unix network, as in Go. Whoever is to be reached must have one: dialing it is
    /// `missing address`.
    ///
    /// # Errors
    ///
    /// In this order: `unknown network X` or `address X: unknown IP protocol specified`,
    /// `address X: why` for what does not split into host and port, `address X: invalid
    /// port`, `address tcp/X: unknown port`, `address X: why` for a zone that can't be one.
    /// On Unix networks: `address X: NUL in path`.
    pub fn new(network: &str, address: &str) -> Result<Self, AddressError> {
        Self::parse(network.parse()?, address)
    }

    /// An address on a network of choice, as `Endpoint::from_addr(Network::Udp, addr)`.
    ///
    /// # Errors
    ///
    /// `address X: unexpected address type`: an IP address on a Unix network, or the
    /// reverse. That an address is of the wrong family (`tcp4`, `[::1]:80`) is found out
    /// when the endpoint is opened, as with a text.
    pub fn from_addr(network: Network, addr: impl Into<Addr>) -> Result<Self, AddressError> {
        match addr.into() {
            Addr::Ip(addr) if !network.is_unix() => Ok(Self::on(network, addr)),
            Addr::Unix(addr) if network.is_unix() => Ok(Self {
                network,
                site: Site::Unix(addr),
            }),
            other => {
                let cause = refused(&other.to_string(), UNEXPECTED_TYPE);
                Err(AddressError::new(Some(network), cause))
            }
        }
    }

    /// For networks of IP.
    pub(crate) fn on(network: Network, addr: SocketAddr) -> Self {
        let ip = addr.ip().to_canonical();
        let scope = if ip.is_ipv6() { scope_of(addr) } else { 0 };
        let host = Host::Ip {
            ip,
            zone: Zone::Number(scope),
        };
        let port = if network.is_raw() { 0 } else { addr.port() };
        let site = Site::Ip { host, port };
        Self { network, site }
    }

    pub(crate) fn parse(network: Network, address: &str) -> Result<Self, AddressError> {
        match parse_site(network, address) {
            Ok(site) => Ok(Self { network, site }),
            Err(cause) => Err(AddressError::new(Some(network), cause)),
        }
    }

    pub(crate) fn network(&self) -> Network {
        self.network
    }

    /// The name that has to be looked up before anything can be opened, if there is one.
    pub(crate) fn name(&self) -> Option<&str> {
        match &self.site {
            Site::Ip {
                host: Host::Name(name),
                ..
            } => Some(name),
            Site::Ip { .. } | Site::Unix(_) => None,
        }
    }

    /// The name of a Unix socket, on the networks of those.
    #[cfg_attr(
        not(test),
        allow(dead_code, reason = "for the rooms that open Unix sockets")
    )]
    pub(crate) fn unix(&self) -> Option<&UnixAddr> {
        match &self.site {
            Site::Unix(addr) => Some(addr),
            Site::Ip { .. } => None,
        }
    }

    /// Go's second string, as error texts show what was asked for (`:80`, `127.0.0.1:80`).
    pub(crate) fn address_text(&self) -> String {
        match &self.site {
            Site::Unix(addr) if addr.is_unnamed() => String::new(),
            Site::Unix(addr) => addr.to_string(),
            Site::Ip { host, .. } if self.network.is_raw() => host.to_string(),
            Site::Ip { host, port } => join_host_port(&host.to_string(), *port),
        }
    }

    /// What an error says was aimed at: an address if it is one, else the text.
    pub(crate) fn place(&self) -> Place {
        if let Site::Unix(addr) = &self.site {
            return Addr::from(addr.clone()).into();
        }
        if let Site::Ip { host, port } = &self.site
            && let Host::Ip { ip, zone } = host
            && let Some(scope) = zone.number().filter(|_| !self.network.is_raw())
        {
            return Addr::from(socket_addr(*ip, scope, *port)).into();
        }
        self.address_text().into()
    }

    /// Turns the name of an interface into its number, if there is one. Asked each time the
    /// endpoint is opened: an interface that went and came back has another number.
    pub(crate) fn resolve_zone(
        &mut self,
        mut index_of: impl FnMut(&str) -> Option<u32>,
    ) -> Result<(), Cause> {
        let Site::Ip { host, .. } = &mut self.site else {
            return Ok(());
        };
        if let Host::Ip {
            zone: Zone::Named { name, number },
            ..
        } = host
        {
            *number = index_of(name).unwrap_or_default();
        }
        host.scope().map(|_| ())
    }

    /// Refuses the networks that have no listeners.
    pub(crate) fn for_listen(&self) -> Result<(), Error> {
        match self.network.transport() {
            Transport::Stream | Transport::Records => Ok(()),
            Transport::Datagrams | Transport::Raw(_) => Err(self.unexpected_type()),
        }
    }

    /// Refuses the networks that have no connections, on which Go's `Dial` makes sockets of
    /// another kind.
    pub(crate) fn for_dial(&self) -> Result<(), Error> {
        match self.network.transport() {
            Transport::Stream | Transport::Records => Ok(()),
            Transport::Datagrams | Transport::Raw(_) => {
                let cause = Cause::Invalid(NO_CONNECTION.to_owned());
                Err(self.error(Op::Dial, cause))
            }
        }
    }

    /// Refuses the networks whose sockets carry no datagrams.
    pub(crate) fn for_bind(&self) -> Result<(), Error> {
        match self.network.transport() {
            Transport::Datagrams | Transport::Raw(_) => Ok(()),
            Transport::Stream | Transport::Records => Err(self.unexpected_type()),
        }
    }

    /// Go says `listen` when a socket for datagrams is opened, too.
    fn unexpected_type(&self) -> Error {
        let cause = refused(&self.address_text(), UNEXPECTED_TYPE);
        self.error(Op::Listen, cause)
    }

    fn error(&self, op: Op, cause: Cause) -> Error {
        Error::new(op, Some(self.network), Some(self.place()), cause)
    }
}

/// On network `tcp`.
impl From<SocketAddr> for Endpoint {
    fn from(addr: SocketAddr) -> Self {
        Self::on(Network::Tcp, addr)
    }
}

/// On network `tcp`.
impl From<(IpAddr, u16)> for Endpoint {
    fn from((ip, port): (IpAddr, u16)) -> Self {
        SocketAddr::new(ip, port).into()
    }
}

/// On network `unix`.
impl From<UnixAddr> for Endpoint {
    fn from(addr: UnixAddr) -> Self {
        Self {
            network: Network::Unix,
            site: Site::Unix(addr),
        }
    }
}

/// On network `tcp` or `unix`.
impl From<Addr> for Endpoint {
    fn from(addr: Addr) -> Self {
        match addr {
            Addr::Ip(addr) => addr.into(),
            Addr::Unix(addr) => addr.into(),
        }
    }
}

/// `network://address`, or `host:port` alone for network `tcp`.
///
/// Only here is an empty text an error, `missing address`: it is more likely a setting
/// that nobody made than a wish to listen everywhere.
impl FromStr for Endpoint {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text.split_once("://") {
            Some((network, address)) => Self::new(network, address),
            None if text.is_empty() => {
                Err(AddressError::new(Some(Network::Tcp), Cause::MissingAddress))
            }
            None => Self::parse(Network::Tcp, text),
        }
    }
}

impl TryFrom<&str> for Endpoint {
    type Error = AddressError;

    fn try_from(text: &str) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<String> for Endpoint {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<&String> for Endpoint {
    type Error = AddressError;

    fn try_from(text: &String) -> Result<Self, AddressError> {
        text.parse()
    }
}

/// On network `unix`; never an abstract name. See [`UnixAddr`] for what is refused.
impl TryFrom<&Path> for Endpoint {
    type Error = AddressError;

    fn try_from(path: &Path) -> Result<Self, AddressError> {
        match UnixAddr::from_path(path) {
            Ok(addr) => Ok(addr.into()),
            Err(error) => Err(error.on(Network::Unix)),
        }
    }
}

/// As from `&Path`.
impl TryFrom<&PathBuf> for Endpoint {
    type Error = AddressError;

    fn try_from(path: &PathBuf) -> Result<Self, AddressError> {
        path.as_path().try_into()
    }
}

/// As from `&Path`.
impl TryFrom<PathBuf> for Endpoint {
    type Error = AddressError;

    fn try_from(path: PathBuf) -> Result<Self, AddressError> {
        path.as_path().try_into()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.network, self.address_text())
    }
}

/// As it prints.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Host {
    /// The number of the interface; 0 if there is none, or none is needed.
    fn scope(&self) -> Result<u32, Cause> {
        match self {
            Self::Ip { zone, .. } => zone
                .number()
                .ok_or_else(|| refused(&self.to_string(), NO_SUCH_INTERFACE)),
            Self::Any | Self::Name(_) => Ok(0),
        }
    }
}

/// Without brackets, as errors about the host alone show it.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::Ip { ip, zone } => match zone {
                Zone::Number(0) => write!(f, "{ip}"),
                Zone::Number(number) => write!(f, "{ip}%{number}"),
                Zone::Named { name, .. } => write!(f, "{ip}%{name}"),
            },
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl Zone {
    const NONE: Self = Self::Number(0);

    /// `None` for a name whose number is not known.
    fn number(&self) -> Option<u32> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Named { number: 0, .. } => None,
            Self::Named { number, .. } => Some(*number),
        }
    }
}

/// The addresses a listener or a socket for datagrams should try, best first, each with its
/// IPV6_V6ONLY.
///
/// `looked_up` is what a resolver answered for [`Endpoint::name`], and ignored without a
/// name. There is more than one candidate only for a wildcard that takes both families:
/// the second is for hosts without IPv6 (EAFNOSUPPORT, EADDRNOTAVAIL). After any other
/// failure, EADDRINUSE above all, trying it would take half of what was asked for.
pub(crate) fn listen_candidates(
    endpoint: &Endpoint,
    looked_up: &[IpAddr],
) -> Result<Vec<(Addr, bool)>, Cause> {
    let network = endpoint.network;
    let addr = one_address(endpoint, looked_up, Prefer::V4)?;
    let takes_both = matches!(network, Network::Tcp | Network::Udp);
    if let Some(asked) = addr.as_socket_addr().filter(|_| takes_both)
        && asked.ip().is_unspecified()
    {
        let dual_stack = SocketAddr::from((Ipv6Addr::UNSPECIFIED, asked.port()));
        let without_v6 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, asked.port()));
        return Ok(vec![(dual_stack.into(), false), (without_v6.into(), false)]);
    }
    Ok(vec![(addr, network.is_only_v6())])
}

/// Which family an endpoint that is one address takes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Prefer {
    V4,
    V6,
}

/// The one address that an endpoint stands for where only one can be used: of a name, the
/// first of the preferred family, else the first, of those that the network allows.
pub(crate) fn one_address(
    endpoint: &Endpoint,
    looked_up: &[IpAddr],
    prefer: Prefer,
) -> Result<Addr, Cause> {
    let (host, port) = match &endpoint.site {
        Site::Unix(addr) => return Ok(addr.clone().into()),
        Site::Ip { host, port } => (host, *port),
    };
    let ip = match host {
        Host::Any => any_ip(endpoint.network),
        Host::Ip { ip, .. } => choose(endpoint.network, host, &[*ip], prefer)?,
        Host::Name(_) => choose(endpoint.network, host, looked_up, prefer)?,
    };
    Ok(socket_addr(ip, host.scope()?, port).into())
}

/// What a socket on no particular host binds to. A raw one hears one family only, so it is
/// the one that more people mean.
fn any_ip(network: Network) -> IpAddr {
    match network {
        Network::Ip(_) => Ipv4Addr::UNSPECIFIED.into(),
        _ if network.allows(Ipv6Addr::UNSPECIFIED.into()) => Ipv6Addr::UNSPECIFIED.into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    }
}

fn choose(network: Network, host: &Host, ips: &[IpAddr], prefer: Prefer) -> Result<IpAddr, Cause> {
    // Go adds 0.0.0.0 to a lone `::`, and so lets `tcp4` listen on it. On raw IP that would
    // turn a wish for IPv6 into a socket that hears IPv4.
    let v4_wildcard = match (ips, network) {
        ([_], Network::Ip(_)) => None,
        ([ip], _) if *ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Some(Ipv4Addr::UNSPECIFIED.into()),
        _ => None,
    };
    let allowed = || {
        let all = ips.iter().map(IpAddr::to_canonical).chain(v4_wildcard);
        all.filter(|ip| network.allows(*ip))
    };
    let preferred = allowed().find(|ip| ip.is_ipv4() == (prefer == Prefer::V4));
    preferred
        .or_else(|| allowed().next())
        .ok_or_else(|| refused(&host.to_string(), NO_SUITABLE))
}

/// The addresses a dial should try, best first: families take turns, beginning with the
/// first address's (RFC 8305 section 4). Where nobody answers a connect (UDP, raw IP) there
/// is nothing to race for, and so only one: the first of IPv4, else the first.
///
/// `looked_up` is what a resolver answered for [`Endpoint::name`], and ignored without a
/// name. A local address limits the families to its own, unless it is a wildcard.
pub(crate) fn dial_candidates(
    endpoint: &Endpoint,
    looked_up: &[IpAddr],
    local: Option<&Addr>,
) -> Result<Vec<Addr>, Cause> {
    let mismatched = |own: &Addr| Err(refused(&own.to_string(), MISMATCHED_LOCAL));
    let (host, port) = match (&endpoint.site, local) {
        (Site::Unix(remote), _) if remote.is_unnamed() => return Err(Cause::MissingAddress),
        (Site::Ip { host, port }, _) if *host == Host::Any && *port == 0 => {
            return Err(Cause::MissingAddress);
        }
        (Site::Unix(_), Some(own @ Addr::Ip(_))) => return mismatched(own),
        (Site::Ip { .. }, Some(own @ Addr::Unix(_))) => return mismatched(own),
        (Site::Unix(remote), _) => return Ok(vec![remote.clone().into()]),
        (Site::Ip { host, port }, _) => (host, *port),
    };
    let reachable = reachable(endpoint.network, host, looked_up, local)?;
    let ordered = match endpoint.network.transport() {
        Transport::Stream | Transport::Records => take_turns(&reachable),
        Transport::Datagrams | Transport::Raw(_) => {
            let first_v4 = reachable.iter().find(|ip| ip.is_ipv4());
            let best = first_v4.or_else(|| reachable.first());
            best.copied().into_iter().collect()
        }
    };
    let scope = host.scope()?;
    let addr = |ip| socket_addr(ip, scope, port).into();
    Ok(ordered.into_iter().map(addr).collect())
}

/// What can be dialed on this network, from that local address; never empty.
fn reachable(
    network: Network,
    host: &Host,
    looked_up: &[IpAddr],
    local: Option<&Addr>,
) -> Result<Vec<IpAddr>, Cause> {
    let literal;
    let ips: &[IpAddr] = match host {
        Host::Any => &[LOOPBACK_V4, LOOPBACK_V6],
        Host::Ip { ip, .. } => {
            literal = [*ip];
            &literal
        }
        Host::Name(_) => looked_up,
    };
    let all = ips.iter().map(IpAddr::to_canonical).map(dialable);
    let mut ips: Vec<IpAddr> = all.filter(|ip| network.allows(*ip)).collect();
    if ips.is_empty() {
        return Err(refused(&host.to_string(), NO_SUITABLE));
    }
    if let Some(own) = local.and_then(Addr::as_socket_addr) {
        ips.retain(|ip| own.ip().is_unspecified() || own.is_ipv4() == ip.is_ipv4());
        if ips.is_empty() {
            return Err(refused(&own.to_string(), NO_SUITABLE));
        }
    }
    Ok(ips)
}

/// A wildcard is nobody's address; dialing it means this host (as Go does where the kernel
/// does not).
fn dialable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => LOOPBACK_V4,
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => LOOPBACK_V6,
        _ => ip,
    }
}

/// One of the first address's family, one of the other, and so on.
fn take_turns(ips: &[IpAddr]) -> Vec<IpAddr> {
    let first_is_v4 = ips.first().is_some_and(IpAddr::is_ipv4);
    let (first, second): (Vec<IpAddr>, Vec<IpAddr>) =
        ips.iter().partition(|ip| ip.is_ipv4() == first_is_v4);
    let pairs = first.len().max(second.len());
    (0..pairs)
        .flat_map(|at| [first.get(at), second.get(at)])
        .flatten()
        .copied()
        .collect()
}

const LOOPBACK_V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LOOPBACK_V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Splits `host:port`, `[host]:port` or `[ipv6%zone]:port` as Go's `SplitHostPort` does.
/// Host and port may be empty; the port is any text.
///
/// ```
/// use windlass::split_host_port;
///
/// assert_eq!(split_host_port("[::1]:http")?, ("::1", "http"));
/// assert!(split_host_port("::1:80").is_err());
/// # Ok::<(), windlass::AddressError>(())
/// ```
///
/// # Errors
///
/// `address X: why`, where why is one of `missing port in address`, `too many colons in
/// address`, `missing ']' in address`, `unexpected '[' in address` and `unexpected ']' in
/// address`.
pub fn split_host_port(text: &str) -> Result<(&str, &str), AddressError> {
    split(text).map_err(|cause| AddressError::new(None, cause))
}

/// Joins what [`split_host_port`] splits: with brackets exactly if the host contains a colon.
///
/// ```
/// use windlass::join_host_port;
///
/// assert_eq!(join_host_port("::1", 80), "[::1]:80");
/// assert_eq!(join_host_port("localhost", "http"), "localhost:http");
/// ```
pub fn join_host_port(host: &str, port: impl fmt::Display) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Splits at the last colon.
///
/// Either the host stands in brackets that open the text and close right before the last
/// colon, or it contains no colon. Stray brackets are refused everywhere.
fn split(text: &str) -> Result<(&str, &str), Cause> {
    let Some((before, port)) = text.rsplit_once(':') else {
        return Err(refused(text, MISSING_PORT));
    };
    let (host, after) = match text.strip_prefix('[') {
        None if before.contains(':') => return Err(refused(text, TOO_MANY_COLONS)),
        None => (before, text),
        Some(rest) => match rest.split_once(']') {
            None => return Err(refused(text, MISSING_BRACKET)),
            Some((_, after)) if !after.starts_with(':') => return Err(refused(text, MISSING_PORT)),
            Some((_, after)) if after[1..].contains(':') => {
                return Err(refused(text, TOO_MANY_COLONS));
            }
            Some((host, after)) => (host, after),
        },
    };
    if host.contains('[') || after.contains('[') {
        return Err(refused(text, UNEXPECTED_OPEN));
    }
    if after.contains(']') {
        return Err(refused(text, UNEXPECTED_CLOSE));
    }
    Ok((host, port))
}

fn parse_site(network: Network, address: &str) -> Result<Site, Cause> {
    if network.is_unix() {
        return UnixAddr::parse(address).map(Site::Unix);
    }
    let Some(protocol) = service_protocol(network) else {
        let host = parse_host(address)?;
        return Ok(Site::Ip { host, port: 0 });
    };
    let (host, port) = match address {
        "" => ("", ""),
        _ => split(address)?,
    };
    let port = parse_port(protocol, port)?;
    let host = parse_host(host)?;
    Ok(Site::Ip { host, port })
}

/// The table that service names are looked up in; error texts name it. `None`: no ports.
fn service_protocol(network: Network) -> Option<&'static str> {
    match network {
        Network::Tcp | Network::Tcp4 | Network::Tcp6 => Some("tcp"),
        Network::Udp | Network::Udp4 | Network::Udp6 => Some("udp"),
        _ => None,
    }
}

/// A number, with a sign if need be, or the name of a service; nothing is 0.
fn parse_port(protocol: &'static str, text: &str) -> Result<u16, Cause> {
    if text.is_empty() {
        return Ok(0);
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !is_number(digits) {
        return resolve::service_port(protocol, text)
            .ok_or_else(|| refused(&format!("{protocol}/{text}"), UNKNOWN_PORT));
    }
    // Zeros are dropped first, so that only a number's size can make the parse fail.
    let number = match digits.trim_start_matches('0') {
        "" => Some(0),
        _ if negative => None,
        significant => significant.parse().ok(),
    };
    number.ok_or_else(|| refused(text, INVALID_PORT))
}

fn parse_host(text: &str) -> Result<Host, Cause> {
    if text.is_empty() {
        return Ok(Host::Any);
    }
    if let Some(ip) = parse_ip(text) {
        let zone = Zone::NONE;
        return Ok(Host::Ip { ip, zone });
    }
    if let Some((ip, zone)) = text.rsplit_once('%')
        && let Ok(ip) = ip.parse::<Ipv6Addr>()
    {
        let zone = parse_zone(ip, zone).map_err(|why| refused(text, why))?;
        return Ok(Host::Ip {
            ip: ip.into(),
            zone,
        });
    }
    Ok(Host::Name(text.to_owned()))
}

/// A number, or else a name: also a number that is too large for one.
fn parse_zone(ip: Ipv6Addr, text: &str) -> Result<Zone, &'static str> {
    if ip.to_ipv4_mapped().is_some() {
        return Err(ZONE_ON_IPV4);
    }
    if text.is_empty() {
        return Err(EMPTY_ZONE);
    }
    match text.parse() {
        Ok(number) if is_number(text) => Ok(Zone::Number(number)),
        _ => Ok(Zone::Named {
            name: text.to_owned(),
            number: 0,
        }),
    }
}

// Go's words, which people search their logs for.
const MISSING_PORT: &str = "missing port in address";
const TOO_MANY_COLONS: &str = "too many colons in address";
const MISSING_BRACKET: &str = "missing ']' in address";
const UNEXPECTED_OPEN: &str = "unexpected '[' in address";
const UNEXPECTED_CLOSE: &str = "unexpected ']' in address";
const INVALID_PORT: &str = "invalid port";
const UNKNOWN_PORT: &str = "unknown port";
const NO_SUITABLE: &str = "no suitable address found";
const UNEXPECTED_TYPE: &str = "unexpected address type";
const MISMATCHED_LOCAL: &str = "mismatched local address type";
// Our own, where Go has none.
const NO_SUCH_INTERFACE: &str = "no such interface";
const EMPTY_ZONE: &str = "empty zone";
const ZONE_ON_IPV4: &str = "zone on an IPv4 address";
const NO_CONNECTION: &str =
    "this network has no connections: open a socket for datagrams with `bind`";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
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
        let text =
            |result: Result<(), Error>| result.map_or_else(|e| e.to_string(), |()| "".into());
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
        let v6 = any::<(u128, u16, u32)>().prop_map(|(ip, port, scope)| {
            Addr::from(socket_addr(IpAddr::V6(ip.into()), scope, port))
        });
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
}
