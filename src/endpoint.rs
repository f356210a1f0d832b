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

    /// The IP address, if the host is one.
    #[cfg(feature = "tls")]
    pub(crate) fn literal(&self) -> Option<IpAddr> {
        match &self.site {
            Site::Ip {
                host: Host::Ip { ip, .. },
                ..
            } => Some(*ip),
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
mod tests;
