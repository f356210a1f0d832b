//! Networks, endpoints and addresses: how they are written, and what a text means.
//!
//! Owns every text form, in and out: the network names, `host:port` with its exact
//! error texts, the ports and their names, and which socket addresses a listener of an
//! endpoint should try. The rules are those of Go's `net` package.
//!
//! Pure: looks nothing up and never knows a socket. Host names stay text until somebody
//! brings the addresses that a resolver answered.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Cause, Error, Op, Place};
use crate::kernel::Transport;

/// What to speak, and over which address families.
///
/// The names are Go's and their case matters: `tcp`, `tcp4`, `tcp6`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Network {
    /// TCP over IPv4 or IPv6, whichever the address calls for. A listener on a wildcard
    /// address takes both.
    Tcp,
    /// TCP over IPv4 only.
    Tcp4,
    /// TCP over IPv6 only; a listener does not take IPv4 connections.
    Tcp6,
    /// UDP over IPv4 or IPv6, whichever the address calls for.
    Udp,
    /// UDP over IPv4 only.
    Udp4,
    /// UDP over IPv6 only.
    Udp6,
    /// Unix sockets that carry a stream.
    Unix,
    /// Unix sockets that carry datagrams.
    Unixgram,
    /// Unix sockets that carry records in order (SOCK_SEQPACKET; not on macOS).
    Unixpacket,
    /// Raw IP with that protocol number, over IPv4 or IPv6.
    Ip(u8),
    /// Raw IPv4 with that protocol number.
    Ip4(u8),
    /// Raw IPv6 with that protocol number.
    Ip6(u8),
}

impl Network {
    /// The name, without the protocol number of raw IP.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tcp4 => "tcp4",
            Self::Tcp6 => "tcp6",
            Self::Udp => "udp",
            Self::Udp4 => "udp4",
            Self::Udp6 => "udp6",
            Self::Unix => "unix",
            Self::Unixgram => "unixgram",
            Self::Unixpacket => "unixpacket",
            Self::Ip(_) => "ip",
            Self::Ip4(_) => "ip4",
            Self::Ip6(_) => "ip6",
        }
    }

    /// What kind of socket speaks it.
    pub(crate) fn transport(self) -> Transport {
        match self {
            Self::Tcp | Self::Tcp4 | Self::Tcp6 | Self::Unix => Transport::Stream,
            Self::Unixpacket => Transport::Records,
            Self::Udp | Self::Udp4 | Self::Udp6 | Self::Unixgram => Transport::Datagrams,
            Self::Ip(protocol) | Self::Ip4(protocol) | Self::Ip6(protocol) => {
                Transport::Raw(protocol)
            }
        }
    }

    /// The table that service names are looked up in; error texts name it.
    fn services(self) -> (&'static str, &'static [(&'static str, u16)]) {
        match self {
            Self::Tcp | Self::Tcp4 | Self::Tcp6 => ("tcp", &TCP_SERVICES),
            _ => ("udp", &[("domain", 53)]),
        }
    }

    fn allows(self, ip: IpAddr) -> bool {
        match self {
            Self::Tcp4 | Self::Udp4 | Self::Ip4(_) => ip.is_ipv4(),
            Self::Tcp6 | Self::Udp6 | Self::Ip6(_) => ip.is_ipv6(),
            _ => true,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(protocol) | Self::Ip4(protocol) | Self::Ip6(protocol) => {
                write!(f, "{}:{protocol}", self.as_str())
            }
            _ => f.pad(self.as_str()),
        }
    }
}

/// Any text but the exact names is an error: `unknown network X`.
impl FromStr for Network {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "tcp4" => Ok(Self::Tcp4),
            "tcp6" => Ok(Self::Tcp6),
            _ => Err(AddressError {
                network: None,
                cause: Cause::UnknownNetwork(text.to_owned()),
            }),
        }
    }
}

/// The address of one end of a connection, or of a listener.
///
/// Prints as Go prints it: `127.0.0.1:80`, `[::1]:80`, `[fe80::1%2]:80` (the zone is the
/// interface's number, not its name). An IPv4 address that an IPv6 socket reports in its
/// mapped form (`::ffff:127.0.0.1`) counts as the IPv4 address, in print and in every
/// accessor.
///
/// A Unix address prints as its path; an abstract name prints with an `@` before it, and an
/// end without a name as nothing but the `@`, as in Go.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Addr {
    /// An IP address and a port. Made by `From<SocketAddr>` it is in its plain form: never
    /// IPv4-mapped, and without an IPv6 flow label.
    Ip(SocketAddr),
    /// The name of a Unix socket.
    Unix(UnixAddr),
}

/// The name of a Unix socket: a path, an abstract name (Linux), or none at all, as most
/// clients have.
///
/// Cloning one copies no bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnixAddr(Option<Arc<[u8]>>);

impl UnixAddr {
    /// The name of whoever has none.
    pub(crate) const UNNAMED: Self = Self(None);

    /// A name as `sockaddr_un` has it: an abstract one begins with a NUL, a path is without
    /// its final NUL.
    pub(crate) fn from_bytes(name: &[u8]) -> Self {
        Self((!name.is_empty()).then(|| Arc::from(name)))
    }

    /// The name as `sockaddr_un` has it; empty for whoever has none.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }

    /// The path, if it is one.
    pub fn path(&self) -> Option<&Path> {
        let bytes = self.0.as_deref().filter(|name| name[0] != 0)?;
        Some(Path::new(OsStr::from_bytes(bytes)))
    }

    /// The abstract name without its leading NUL, if it is one.
    pub fn abstract_name(&self) -> Option<&[u8]> {
        self.0.as_deref()?.strip_prefix(&[0])
    }

    /// A path as a name.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is empty or has a NUL in it. A path that is too long is refused
    /// by the kernel (EINVAL).
    pub fn from_path(path: impl AsRef<Path>) -> io::Result<Self> {
        let bytes = path.as_ref().as_os_str().as_bytes();
        if bytes.is_empty() || bytes.contains(&0) {
            let why = "a path of a Unix socket is not empty and has no NUL in it";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        Ok(Self::from_bytes(bytes))
    }

    /// Whether this end has no name.
    pub fn is_unnamed(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Display for UnixAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.path(), self.abstract_name()) {
            (Some(path), _) => fmt::Display::fmt(&path.display(), f),
            (None, Some(name)) => write!(f, "@{}", String::from_utf8_lossy(name)),
            (None, None) => f.write_str("@"),
        }
    }
}

/// As it prints.
impl fmt::Debug for UnixAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<I: Into<IpAddr>> From<(I, u16)> for Addr {
    fn from((ip, port): (I, u16)) -> Self {
        SocketAddr::new(ip.into(), port).into()
    }
}

/// A copy, so that what is borrowed can be handed on.
impl From<&Self> for Addr {
    fn from(addr: &Self) -> Self {
        addr.clone()
    }
}

impl From<UnixAddr> for Addr {
    fn from(addr: UnixAddr) -> Self {
        Self::Unix(addr)
    }
}

impl Addr {
    /// The IP address; `None` for addresses of a kind that has none.
    pub fn ip(&self) -> Option<IpAddr> {
        self.as_socket_addr().map(|addr| addr.ip())
    }

    /// The port; `None` for addresses of a kind that has none.
    pub fn port(&self) -> Option<u16> {
        self.as_socket_addr().map(|addr| addr.port())
    }

    /// The address as the standard library has it; `None` for addresses of a kind that
    /// it cannot express so.
    pub fn as_socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(addr) => Some(plain(*addr)),
            Self::Unix(_) => None,
        }
    }

    /// The address of the Unix socket at a path.
    ///
    /// # Errors
    ///
    /// As [`UnixAddr::from_path`].
    pub fn from_unix_path(path: impl AsRef<Path>) -> io::Result<Self> {
        UnixAddr::from_path(path).map(Self::Unix)
    }

    /// The name of a Unix socket; `None` for addresses of another kind.
    pub fn as_unix(&self) -> Option<&UnixAddr> {
        match self {
            Self::Unix(addr) => Some(addr),
            Self::Ip(_) => None,
        }
    }
}

impl From<SocketAddr> for Addr {
    fn from(addr: SocketAddr) -> Self {
        Self::Ip(plain(addr))
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(addr) => fmt::Display::fmt(&plain(*addr), f),
            Self::Unix(addr) => fmt::Display::fmt(addr, f),
        }
    }
}

/// As it prints: an address reads better in a log than the shape of its type.
impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads what [`Addr`] prints: an IP literal and a number. Names of hosts, services and
/// interfaces belong to an [`Endpoint`].
impl FromStr for Addr {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text.parse::<SocketAddr>() {
            Ok(addr) => Ok(addr.into()),
            Err(_) => Err(AddressError {
                network: None,
                cause: refused(text, NOT_AN_ADDRESS),
            }),
        }
    }
}

/// Where to listen: a network, a host and a port; parsed, but not looked up.
///
/// | Text | Meaning |
/// |---|---|
/// | `tcp://127.0.0.1:3000`, `tcp6://[::1]:80` | a network and an address |
/// | `127.0.0.1:3000`, `localhost:http` | the same on `tcp` |
/// | `:3000` | every address of this host |
/// | `tcp://:0`, `tcp://:` | a port that the kernel chooses |
/// | `[fe80::1%2]:80` | a link-local address, on interface number 2 |
///
/// - **Host**: an IP literal, a name, or nothing. IPv6 literals need brackets. What is
///   not a literal is a name, so `256.0.0.1:80` is an error of the resolver, later.
/// - **Port**: 0 to 65535, or one of the service names built in (`http`, `https`, `ssh`,
///   `smtp`, …, in any case). `/etc/services` is not read.
/// - **Zone**: the number of an interface. Names of interfaces are refused, since Go's
///   way (an unknown one becomes zone 0) only moves the error into the kernel.
/// - **`0.0.0.0` is not IPv4 only**: on `tcp` every wildcard address means one listener
///   for both families, as in Go. Say `tcp4` to keep IPv6 out.
///
/// [`Endpoint::new`] takes Go's two strings. A `SocketAddr` or `(IpAddr, u16)` converts
/// into an endpoint of network `tcp`. Printing gives `network://host:port`, which parses
/// to the same endpoint.
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
    host: Host,
    port: u16,
}

/// The host part of an [`Endpoint`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Host {
    /// Nothing was said: every address of this host.
    Any,
    /// A literal, never IPv4-mapped. `scope` is the interface's number; 0 is none, and
    /// IPv4 has none.
    Ip { ip: IpAddr, scope: u32 },
    /// Not a literal, not empty; anything else may stand in it.
    Name(String),
}

impl Endpoint {
    /// Parses Go's two strings, as in `net.Listen("tcp", ":3000")`.
    ///
    /// An empty address is a wildcard with a port that the kernel chooses, as in Go.
    ///
    /// # Errors
    ///
    /// In this order: `unknown network X`, `address X: why` for what does not split into
    /// host and port, `address X: invalid port`, `address tcp/X: unknown port`, and
    /// `address X: why` for a zone that is not a number.
    pub fn new(network: &str, address: &str) -> Result<Self, AddressError> {
        Self::parse(network.parse()?, address)
    }

    fn parse(network: Network, address: &str) -> Result<Self, AddressError> {
        let parsed = split_host_port(address).and_then(|(host, port)| {
            let port = parse_port(network, port)?;
            let host = parse_host(host)?;
            Ok(Self {
                network,
                host,
                port,
            })
        });
        parsed.map_err(|cause| AddressError {
            network: Some(network),
            cause,
        })
    }

    /// An address on a network of choice.
    pub(crate) fn on(network: Network, addr: SocketAddr) -> Self {
        Self {
            network,
            ..Self::from(addr)
        }
    }

    pub(crate) fn network(&self) -> Network {
        self.network
    }

    #[cfg_attr(not(test), expect(dead_code, reason = "the tests look inside"))]
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    #[cfg_attr(not(test), expect(dead_code, reason = "the tests look inside"))]
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The name that has to be looked up before anything can be opened, if there is one.
    pub(crate) fn name(&self) -> Option<&str> {
        match &self.host {
            Host::Name(name) => Some(name),
            Host::Any | Host::Ip { .. } => None,
        }
    }

    /// `host:port`, as error texts show what was asked for (`:80`, `127.0.0.1:80`).
    pub(crate) fn address_text(&self) -> String {
        HostPort(self).to_string()
    }

    /// What an error says was aimed at: an address if it is one, else the text.
    pub(crate) fn place(&self) -> Place {
        match self.host {
            Host::Ip { ip, scope } => Addr::from(socket_addr(ip, scope, self.port)).into(),
            Host::Any | Host::Name(_) => self.address_text().into(),
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(addr: SocketAddr) -> Self {
        let addr = plain(addr);
        Self {
            network: Network::Tcp,
            host: Host::Ip {
                ip: addr.ip(),
                scope: scope_of(addr),
            },
            port: addr.port(),
        }
    }
}

impl From<(IpAddr, u16)> for Endpoint {
    fn from((ip, port): (IpAddr, u16)) -> Self {
        SocketAddr::new(ip, port).into()
    }
}

/// `network://host:port`, or `host:port` alone for network `tcp`.
///
/// Only here is an empty text an error, `missing address`: it is more likely a setting
/// that nobody made than a wish to listen everywhere.
impl FromStr for Endpoint {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text.split_once("://") {
            Some((network, address)) => Self::new(network, address),
            None if text.is_empty() => Err(AddressError {
                network: Some(Network::Tcp),
                cause: Cause::MissingAddress,
            }),
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

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.network, HostPort(self))
    }
}

/// As it prints.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no network, address or endpoint.
///
/// Prints Go's text: `unknown network X`, `address X: why` or `missing address`. Whoever
/// listens wraps it: `listen tcp: address X: why`.
#[derive(Clone, PartialEq, Eq)]
pub struct AddressError {
    /// Known unless the network itself is what was wrong.
    network: Option<Network>,
    cause: Cause,
}

impl AddressError {
    /// As an error of the call that the text was meant for.
    pub(crate) fn into_error(self, op: Op) -> Error {
        Error::new(op, self.network, None, self.cause)
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.cause, f)
    }
}

impl fmt::Debug for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AddressError({self})")
    }
}

impl std::error::Error for AddressError {}

/// So that an [`Endpoint`] and a `SocketAddr`, which convert without fail, are accepted
/// where a text is.
impl From<Infallible> for AddressError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Kind `InvalidInput`, with the same text.
impl From<AddressError> for io::Error {
    fn from(error: AddressError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

/// The addresses a listener should try, best first, each with its IPV6_V6ONLY.
///
/// `looked_up` is what a resolver answered for [`Endpoint::name`], and ignored without a
/// name. There is more than one candidate only for a wildcard that takes both families:
/// the second is for hosts without IPv6 (EAFNOSUPPORT, EADDRNOTAVAIL). After any other
/// failure, EADDRINUSE above all, trying it would take half of what was asked for.
pub(crate) fn listen_candidates(
    endpoint: &Endpoint,
    looked_up: &[IpAddr],
) -> Result<Vec<(SocketAddr, bool)>, Cause> {
    let network = endpoint.network;
    let (ip, scope) = match &endpoint.host {
        Host::Any => (any_ip(network), 0),
        Host::Ip { ip, scope } => (choose(endpoint, &[*ip])?, *scope),
        Host::Name(_) => (choose(endpoint, looked_up)?, 0),
    };
    let only_v6 = network == Network::Tcp6;
    if network == Network::Tcp && ip.is_unspecified() {
        let dual_stack = SocketAddr::from((Ipv6Addr::UNSPECIFIED, endpoint.port));
        let without_v6 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, endpoint.port));
        return Ok(vec![(dual_stack, false), (without_v6, false)]);
    }
    Ok(vec![(socket_addr(ip, scope, endpoint.port), only_v6)])
}

/// The addresses a dial should try, best first: families take turns, beginning with the
/// first address's (RFC 8305 section 4).
///
/// `looked_up` is what a resolver answered for [`Endpoint::name`], and ignored without a
/// name. A local address limits the families to its own, unless it is a wildcard.
pub(crate) fn dial_candidates(
    endpoint: &Endpoint,
    looked_up: &[IpAddr],
    local: Option<SocketAddr>,
) -> Result<Vec<SocketAddr>, Cause> {
    let (ips, scope) = match &endpoint.host {
        Host::Any if endpoint.port == 0 => return Err(Cause::MissingAddress),
        Host::Any => (vec![LOOPBACK_V4, LOOPBACK_V6], 0),
        Host::Ip { ip, scope } => (vec![*ip], *scope),
        Host::Name(_) => (looked_up.to_vec(), 0),
    };
    let allowed = ips.iter().map(IpAddr::to_canonical).map(dialable);
    let allowed: Vec<IpAddr> = allowed.filter(|ip| endpoint.network.allows(*ip)).collect();
    if allowed.is_empty() {
        return Err(refused(&host_text(&endpoint.host), NO_SUITABLE));
    }
    let of_local = |ip: &IpAddr| {
        local.is_none_or(|own| own.ip().is_unspecified() || own.is_ipv4() == ip.is_ipv4())
    };
    let reachable: Vec<IpAddr> = allowed.into_iter().filter(of_local).collect();
    if reachable.is_empty() {
        let own = local.map_or_else(String::new, |own| own.to_string());
        return Err(refused(&own, NO_SUITABLE));
    }
    let ips = take_turns(&reachable);
    Ok(ips
        .map(|ip| socket_addr(ip, scope, endpoint.port))
        .collect())
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
fn take_turns(ips: &[IpAddr]) -> impl Iterator<Item = IpAddr> + use<> {
    let first_is_v4 = ips.first().is_some_and(IpAddr::is_ipv4);
    let (first, second): (Vec<IpAddr>, Vec<IpAddr>) =
        ips.iter().partition(|ip| ip.is_ipv4() == first_is_v4);
    let pairs = first.len().max(second.len());
    (0..pairs).flat_map(move |at| {
        [first.get(at).copied(), second.get(at).copied()]
            .into_iter()
            .flatten()
    })
}

const LOOPBACK_V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LOOPBACK_V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// What a listener on no particular host binds to.
fn any_ip(network: Network) -> IpAddr {
    if network.allows(Ipv6Addr::UNSPECIFIED.into()) {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    }
}

/// A listener takes one address: the first of IPv4, else the first, of those that the
/// network allows.
fn choose(endpoint: &Endpoint, ips: &[IpAddr]) -> Result<IpAddr, Cause> {
    let network = endpoint.network;
    // Go adds 0.0.0.0 to a lone `::`, and so lets `tcp4` listen on it.
    let v4_wildcard = match ips {
        [ip] if *ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Some(Ipv4Addr::UNSPECIFIED.into()),
        _ => None,
    };
    let allowed = || {
        let all = ips.iter().map(IpAddr::to_canonical).chain(v4_wildcard);
        all.filter(|ip| network.allows(*ip))
    };
    let first_v4 = allowed().find(IpAddr::is_ipv4);
    first_v4
        .or_else(|| allowed().next())
        .ok_or_else(|| refused(&host_text(&endpoint.host), NO_SUITABLE))
}

/// The host without brackets, as errors about the host alone show it.
fn host_text(host: &Host) -> String {
    match host {
        Host::Any => String::new(),
        Host::Ip { ip, scope: 0 } => ip.to_string(),
        Host::Ip { ip, scope } => format!("{ip}%{scope}"),
        Host::Name(name) => name.clone(),
    }
}

/// Prints `host:port`, with brackets exactly when the host contains a colon.
struct HostPort<'a>(&'a Endpoint);

impl fmt::Display for HostPort<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.0.port;
        match &self.0.host {
            Host::Any => write!(f, ":{port}"),
            Host::Ip { ip, scope } => fmt::Display::fmt(&socket_addr(*ip, *scope, port), f),
            Host::Name(name) if name.contains(':') => write!(f, "[{name}]:{port}"),
            Host::Name(name) => write!(f, "{name}:{port}"),
        }
    }
}

/// Splits at the last colon; an empty text is an empty host and an empty port.
///
/// Either the host stands in brackets that open the text and close right before the last
/// colon, or it contains no colon. Stray brackets are refused everywhere.
fn split_host_port(text: &str) -> Result<(&str, &str), Cause> {
    if text.is_empty() {
        return Ok(("", ""));
    }
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

/// A number, with a sign if need be, or the name of a service; nothing is 0.
fn parse_port(network: Network, text: &str) -> Result<u16, Cause> {
    if text.is_empty() {
        return Ok(0);
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return service_port(network, text);
    }
    // Zeros are dropped first, so that only a number's size can make the parse fail.
    let number = match digits.trim_start_matches('0') {
        "" => Some(0),
        _ if negative => None,
        significant => significant.parse().ok(),
    };
    number.ok_or_else(|| refused(text, INVALID_PORT))
}

fn service_port(network: Network, text: &str) -> Result<u16, Cause> {
    let (protocol, services) = network.services();
    services
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text))
        .map(|(_, port)| *port)
        .ok_or_else(|| refused(&format!("{protocol}/{text}"), UNKNOWN_PORT))
}

fn parse_host(text: &str) -> Result<Host, Cause> {
    if text.is_empty() {
        return Ok(Host::Any);
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(Host::Ip {
            ip: ip.to_canonical(),
            scope: 0,
        });
    }
    if let Some((ip, zone)) = text.rsplit_once('%')
        && let Ok(ip) = ip.parse::<Ipv6Addr>()
    {
        let scope = parse_zone(ip, zone).map_err(|why| refused(text, why))?;
        return Ok(Host::Ip {
            ip: ip.into(),
            scope,
        });
    }
    Ok(Host::Name(text.to_owned()))
}

fn parse_zone(ip: Ipv6Addr, zone: &str) -> Result<u32, &'static str> {
    if ip.to_ipv4_mapped().is_some() {
        return Err(ZONE_ON_IPV4);
    }
    // `u32::from_str` would take a plus sign too.
    if !zone.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NOT_A_ZONE);
    }
    zone.parse().map_err(|_| NOT_A_ZONE)
}

/// The one form that equal addresses share: IPv4 instead of IPv4-mapped, no flow label.
fn plain(addr: SocketAddr) -> SocketAddr {
    socket_addr(addr.ip().to_canonical(), scope_of(addr), addr.port())
}

fn scope_of(addr: SocketAddr) -> u32 {
    match addr {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(v6) => v6.scope_id(),
    }
}

fn socket_addr(ip: IpAddr, scope: u32, port: u16) -> SocketAddr {
    match ip {
        IpAddr::V4(ip) => SocketAddrV4::new(ip, port).into(),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, port, NO_FLOW_LABEL, scope).into(),
    }
}

fn refused(text: &str, why: &'static str) -> Cause {
    Cause::Address {
        text: text.to_owned(),
        why,
    }
}

const NO_FLOW_LABEL: u32 = 0;

// Go's words, which people search their logs for.
const MISSING_PORT: &str = "missing port in address";
const TOO_MANY_COLONS: &str = "too many colons in address";
const MISSING_BRACKET: &str = "missing ']' in address";
const UNEXPECTED_OPEN: &str = "unexpected '[' in address";
const UNEXPECTED_CLOSE: &str = "unexpected ']' in address";
const INVALID_PORT: &str = "invalid port";
const UNKNOWN_PORT: &str = "unknown port";
const NO_SUITABLE: &str = "no suitable address found";
// Our own, where Go has none.
const NOT_A_ZONE: &str = "zone is not the number of an interface";
const ZONE_ON_IPV4: &str = "zone on an IPv4 address";
const NOT_AN_ADDRESS: &str = "not an IP address with a port";

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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn endpoint(network: &str, address: &str) -> Endpoint {
        Endpoint::new(network, address).unwrap()
    }

    #[track_caller]
    fn fails(network: &str, address: &str, text: &str) {
        match Endpoint::new(network, address) {
            Ok(endpoint) => panic!("{network} {address}: parsed as {endpoint}"),
            Err(error) => assert_eq!(error.to_string(), text, "{network} {address}"),
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_is_known_by_its_exact_name() {
        for network in [Network::Tcp, Network::Tcp4, Network::Tcp6] {
            assert_eq!(network.to_string().parse(), Ok(network));
        }
        let unknown = [
            "", "TCP", "tcp ", "tcp5", "tcp:80", "foo", "datakit", "udp", "unix", "ip", "ip:icmp",
        ];
        for text in unknown {
            let error = text.parse::<Network>().unwrap_err();
            assert_eq!(error.to_string(), format!("unknown network {text}"));
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
            ("", "", ""),
            ("[]:", "", ""),
            ("[h%z]:p", "h%z", "p"),
            ("h%z:p", "h%z", "p"),
            ("h:https%foo", "h", "https%foo"),
            ("[foo:bar]:80", "foo:bar", "80"),
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
            ("::1", TOO_MANY_COLONS),
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
            fails("tcp", text, &format!("address {text}: {why}"));
        }
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
    fn ports_are_numbers_or_service_names() {
        let rows = [
            ("", 0),
            ("0", 0),
            ("80", 80),
            ("+80", 80),
            ("0080", 80),
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
                assert_eq!(
                    endpoint(network, &format!("h:{text}")).port(),
                    port,
                    "{text}"
                );
            }
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
            "4294967376",
            "18446744073709551696",
            "99999999999999999999999999",
            "-99999999999999999999999999",
        ];
        for text in rows {
            fails(
                "tcp",
                &format!(":{text}"),
                &format!("address {text}: invalid port"),
            );
        }
    }

    #[test]
    fn a_service_that_is_not_built_in_is_unknown() {
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
            "domain",
            "a-service-name-of-more-than-25-bytes",
            "\u{0663}",
        ];
        for text in rows {
            for network in ["tcp", "tcp4", "tcp6"] {
                let wanted = format!("address tcp/{text}: unknown port");
                fails(network, &format!("h:{text}"), &wanted);
            }
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
                scope: 0,
            };
            assert_eq!(
                endpoint("tcp", &format!("[{text}]:80")).host(),
                &host,
                "{text}"
            );
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
        assert_eq!(endpoint("tcp", ":80").host(), &Host::Any);
        assert_eq!(endpoint("tcp", ":80").name(), None);
        assert_eq!(endpoint("tcp", "[::1]:80").name(), None);
    }

    #[test]
    fn a_zone_is_the_number_of_an_interface() {
        for (zone, wanted) in [("2", 2), ("0", 0), ("007", 7), ("4294967295", u32::MAX)] {
            let host = Host::Ip {
                ip: ip("fe80::1"),
                scope: wanted,
            };
            assert_eq!(
                endpoint("tcp", &format!("[fe80::1%{zone}]:80")).host(),
                &host
            );
        }
        for zone in ["lo0", "", "+2", "-1", "2x", "4294967296", " 2"] {
            let wanted = format!("address fe80::1%{zone}: zone is not the number of an interface");
            fails("tcp", &format!("[fe80::1%{zone}]:80"), &wanted);
        }
        let wanted = "address ::ffff:1.2.3.4%2: zone on an IPv4 address";
        fails("tcp", "[::ffff:1.2.3.4%2]:80", wanted);
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
        ];
        for (text, network, address) in rows {
            let wanted = endpoint(network, address);
            assert_eq!(text.parse(), Ok(wanted.clone()), "{text}");
            assert_eq!(Endpoint::try_from(text), Ok(wanted.clone()));
            assert_eq!(Endpoint::try_from(text.to_owned()), Ok(wanted));
        }
        let rows = [
            ("", "missing address"),
            ("udp://:53", "unknown network udp"),
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
        assert_eq!(accept(typed), Ok(wanted.clone()));
        assert_eq!(accept((typed.ip(), 80)), Ok(wanted.clone()));
        assert_eq!(accept(wanted.clone()), Ok(wanted));
        assert!(accept("127.0.0.1").is_err());
    }

    #[test]
    fn an_endpoint_prints_with_its_network() {
        let rows = [
            ("tcp", ":http", "tcp://:80", ":80"),
            ("tcp", "", "tcp://:0", ":0"),
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
        let converted = io::Error::from(error);
        assert_eq!(converted.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(converted.to_string(), "address h: missing port in address");
    }

    #[test]
    fn an_address_prints_as_go_prints_it() {
        let rows = [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
            ("[fe80::1%2]:80", "[fe80::1%2]:80"),
            ("[fe80::1%0]:80", "[fe80::1]:80"),
            ("[::]:0", "[::]:0"),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
            ("[1:0:0:2:0:0:0:3]:1", "[1:0:0:2::3]:1"),
        ];
        for (typed, text) in rows {
            let addr: SocketAddr = typed.parse().unwrap();
            assert_eq!(Addr::from(addr).to_string(), text);
            assert_eq!(Addr::Ip(addr).to_string(), text);
            assert_eq!(format!("{:?}", Addr::Ip(addr)), text);
        }
        assert_eq!(
            format!("{:>14}", Addr::from(SocketAddr::from(([1, 2, 3, 4], 80)))),
            "    1.2.3.4:80"
        );
    }

    #[test]
    fn a_mapped_address_counts_as_ipv4_everywhere() {
        let mapped: SocketAddr = "[::ffff:127.0.0.1%3]:80".parse().unwrap();
        let v4 = SocketAddr::from(([127, 0, 0, 1], 80));
        for addr in [Addr::Ip(mapped), Addr::from(mapped)] {
            assert_eq!(addr.ip(), Some(ip("127.0.0.1")));
            assert_eq!(addr.port(), Some(80));
            assert_eq!(addr.as_socket_addr(), Some(v4));
        }
        assert_eq!(Addr::from(mapped), Addr::from(v4));
    }

    #[test]
    fn an_address_text_needs_a_literal_and_a_number() {
        for text in [
            "",
            "127.0.0.1",
            ":80",
            "localhost:80",
            "127.0.0.1:http",
            "[fe80::1%lo]:80",
            "::1:80:",
        ] {
            let error = text.parse::<Addr>().unwrap_err().to_string();
            if text.is_empty() {
                assert_eq!(error, "not an IP address with a port");
            } else {
                assert_eq!(
                    error,
                    format!("address {text}: not an IP address with a port")
                );
            }
        }
    }

    #[test]
    fn an_address_fits_in_32_bytes() {
        assert!(size_of::<Addr>() <= 32);
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
    fn a_wildcard_on_tcp_is_one_listener_for_both_families() {
        for host in ["", "0.0.0.0", "[::]", "[::ffff:0.0.0.0]"] {
            let address = format!("{host}:80");
            assert_eq!(
                candidates("tcp", &address, &[]),
                "[::]:80, 0.0.0.0:80",
                "{host}"
            );
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

    /// Texts made of the characters that matter, so that many of them nearly parse.
    fn address_like() -> impl Strategy<Value = String> {
        prop_oneof![
            r"[\[\]:%/.+\-0-9a-fhtpx]{0,24}",
            r"(tcp[46]?://)?\[?[0-9a-f:.]{0,16}(%[0-9]{0,3})?\]?:[+-]?[0-9]{0,6}",
            r"(tcp[46]?://)?[a-z0-9.\-]{0,12}:(http|SSH|[0-9]{1,5})",
        ]
    }

    fn any_socket_addr() -> impl Strategy<Value = SocketAddr> {
        let v6 = any::<(u128, u16, u32, u32)>().prop_map(|(ip, port, flow, scope)| {
            SocketAddrV6::new(ip.into(), port, flow, scope).into()
        });
        let mapped = any::<(u32, u16, u32)>().prop_map(|(ip, port, scope)| {
            SocketAddrV6::new(Ipv4Addr::from(ip).to_ipv6_mapped(), port, 0, scope).into()
        });
        let v4 =
            any::<(u32, u16)>().prop_map(|(ip, port)| SocketAddr::from((Ipv4Addr::from(ip), port)));
        prop_oneof![v4, v6, mapped]
    }

    fn parse_everything(text: &str) -> Result<(), TestCaseError> {
        let _ = text.parse::<Network>();
        let _ = Endpoint::new(text, text);
        if let Ok(addr) = text.parse::<Addr>() {
            prop_assert_eq!(addr.to_string().parse(), Ok(addr));
        }
        let two_strings = ["tcp", "tcp4", "tcp6"].map(|network| Endpoint::new(network, text));
        for parsed in two_strings.into_iter().chain([text.parse()]) {
            let Ok(endpoint) = parsed else { continue };
            prop_assert_eq!(endpoint.to_string().parse(), Ok(endpoint.clone()));
            let again = Endpoint::new(endpoint.network().as_str(), &endpoint.address_text());
            prop_assert_eq!(again, Ok(endpoint.clone()));
            if let Ok(list) = listen_candidates(&endpoint, &[ip("::1"), ip("127.0.0.1")]) {
                prop_assert!(list.iter().all(|(addr, _)| addr.port() == endpoint.port()));
                prop_assert!(
                    list.iter()
                        .all(|(addr, _)| endpoint.network().allows(addr.ip()))
                );
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_parses_prints_back(text in ".*", like in address_like()) {
            parse_everything(&text)?;
            parse_everything(&like)?;
        }

        #[test]
        fn every_address_prints_back(addr in any_socket_addr()) {
            let addr = Addr::from(addr);
            prop_assert_eq!(addr.to_string().parse(), Ok(addr.clone()));
            let endpoint = addr.as_socket_addr().map(Endpoint::from).unwrap();
            prop_assert_eq!(endpoint.to_string().parse(), Ok(endpoint.clone()));
            prop_assert_eq!(endpoint.address_text(), addr.to_string());
        }

        #[test]
        fn every_port_is_the_number_it_says(port: i64) {
            let parsed = parse_port(Network::Tcp, &port.to_string());
            prop_assert_eq!(parsed.ok(), u16::try_from(port).ok());
        }
    }
}
