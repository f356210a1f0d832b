//! Networks and addresses: how they are written, and what a text means.
//!
//! Owns the text forms, in and out, of [`Network`], [`Addr`] and [`UnixAddr`], and the error
//! of every text that is none of what it should be. The rules are those of Go's `net`
//! package. What an application asks for, which may need a look-up, is an endpoint
//! (`endpoint.rs`); the tables of names are in `resolve.rs`.
//!
//! Never knows a socket.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Cause, Error, Op};
use crate::kernel::Transport;
use crate::resolve;

/// What to speak, and over which address families.
///
/// The names are Go's and their case matters: `tcp`, `tcp4`, `tcp6`, `udp`, `udp4`, `udp6`,
/// `unix`, `unixgram`, `unixpacket`. Raw IP needs a protocol: `ip:1`, `ip4:icmp`,
/// `ip6:ipv6-icmp`. A protocol is a number below 256 or a name, in any case: `icmp`, `igmp`,
/// `tcp`, `udp` and `ipv6-icmp` are built in, `/etc/protocols` adds to them.
///
/// Prints as a name that parses to the same network; a protocol prints as its number.
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
    /// UDP over IPv4 or IPv6, whichever the address calls for. A socket on a wildcard
    /// address hears both.
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

    /// Whether its addresses are names of Unix sockets.
    pub(crate) fn is_unix(self) -> bool {
        matches!(self, Self::Unix | Self::Unixgram | Self::Unixpacket)
    }

    /// Whether it is raw IP, which has no ports.
    pub(crate) fn is_raw(self) -> bool {
        matches!(self, Self::Ip(_) | Self::Ip4(_) | Self::Ip6(_))
    }

    /// Whether it leaves IPv4 out.
    pub(crate) fn is_only_v6(self) -> bool {
        matches!(self, Self::Tcp6 | Self::Udp6 | Self::Ip6(_))
    }

    pub(crate) fn allows(self, ip: IpAddr) -> bool {
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
                f.pad(&format!("{}:{protocol}", self.as_str()))
            }
            _ => f.pad(self.as_str()),
        }
    }
}

/// Any text but the exact names is an error, `unknown network X`, and so is raw IP without
/// a protocol. One that nobody knows is `address X: unknown IP protocol specified`.
///
/// A protocol that is not built in is looked for in `/etc/protocols`, which is read once.
impl FromStr for Network {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "tcp4" => Ok(Self::Tcp4),
            "tcp6" => Ok(Self::Tcp6),
            "udp" => Ok(Self::Udp),
            "udp4" => Ok(Self::Udp4),
            "udp6" => Ok(Self::Udp6),
            "unix" => Ok(Self::Unix),
            "unixgram" => Ok(Self::Unixgram),
            "unixpacket" => Ok(Self::Unixpacket),
            _ => raw_network(text).map_err(|cause| AddressError::new(None, cause)),
        }
    }
}

fn raw_network(text: &str) -> Result<Network, Cause> {
    let unknown = || Cause::UnknownNetwork(text.to_owned());
    let (family, protocol) = text.rsplit_once(':').ok_or_else(unknown)?;
    let network = match family {
        "ip" => Network::Ip,
        "ip4" => Network::Ip4,
        "ip6" => Network::Ip6,
        _ => return Err(unknown()),
    };
    let number = if is_number(protocol) {
        // The largest protocol fits in a byte, as IP's header has it.
        protocol.parse().ok()
    } else {
        resolve::protocol_number(protocol)
    };
    number
        .map(network)
        .ok_or_else(|| refused(protocol, UNKNOWN_PROTOCOL))
}

/// Whether a text is digits only: `parse` would take a plus sign, too.
pub(crate) fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The address of one end of a connection, or of a listener.
///
/// Prints as Go prints it: `127.0.0.1:80`, `[::1]:80`, `[fe80::1%2]:80` (the zone is the
/// interface's number, not its name). An IPv4 address that an IPv6 socket reports in its
/// mapped form (`::ffff:127.0.0.1`) counts as the IPv4 address, in print and in every
/// accessor.
///
/// A Unix address prints as [`UnixAddr`] does: its path, an abstract name with an `@` before
/// it, and an end without a name as nothing but the `@`, as in Go.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Addr {
    /// An IP address and a port. Made by `From<SocketAddr>` it is in its plain form: never
    /// IPv4-mapped, and without an IPv6 flow label. On raw IP the port is 0.
    Ip(SocketAddr),
    /// The name of a Unix socket.
    Unix(UnixAddr),
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
    pub fn from_unix_path(path: impl AsRef<Path>) -> Result<Self, AddressError> {
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

/// Reads what [`Addr`] prints. Names of hosts, services and interfaces belong to an
/// [`Endpoint`](crate::Endpoint).
///
/// | Text | Address |
/// |---|---|
/// | `127.0.0.1:80`, `[::1]:80`, `[fe80::1%2]:80` | an IP literal and a number |
/// | `@` | a Unix socket without a name |
/// | `@name` | an abstract one (Linux) |
/// | whatever else contains a `/` | a path |
///
/// Anything else is an error, a path without a `/` too: `x.sock` reads as a [`UnixAddr`],
/// and as an address if it is written `./x.sock`.
impl FromStr for Addr {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return Ok(addr.into());
        }
        let is_name = text == UNNAMED_TEXT || (ABSTRACT_NAMES && text.starts_with('@'));
        let cause = if is_name || text.contains('/') {
            match UnixAddr::parse(text) {
                Ok(addr) => return Ok(addr.into()),
                Err(cause) => cause,
            }
        } else {
            refused(text, NOT_AN_ADDRESS)
        };
        Err(AddressError::new(None, cause))
    }
}

/// The name of a Unix socket: a path, an abstract name (Linux), or none at all, as most
/// clients have.
///
/// As text, in both directions:
///
/// | Text | Name |
/// |---|---|
/// | `/run/x.sock`, `x.sock` | a path |
/// | `@name` | an abstract name, on Linux and Android; a path elsewhere, as in Go |
/// | `@` | none; so does an empty text read |
///
/// Printing and parsing are inverse, with three exceptions, none of which is likely to be
/// met. Bytes that are not UTF-8 print as U+FFFD. On Linux a path that begins with `@`
/// prints with `./` before it, so that nobody takes it for an abstract name. And the
/// abstract name of no bytes, which only a peer can have, prints as `@`.
///
/// How long a name may be is the kernel's to say, when it is used: 107 bytes of path on
/// Linux, 103 on macOS and the BSDs; EINVAL if it is longer.
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

    /// A path as a name, and nothing else than a path: one that begins with `@` gets `./`
    /// before it where that would be an abstract name.
    ///
    /// # Errors
    ///
    /// `missing address` if it is empty; `address X: NUL in path`. A path that is too long is
    /// refused by the kernel (EINVAL), later.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, AddressError> {
        let path = path.as_ref();
        let made = if reads_as_a_name(path) {
            Self::of_path(Path::new(".").join(path).as_os_str().as_bytes())
        } else {
            Self::of_path(path.as_os_str().as_bytes())
        };
        made.map_err(|cause| AddressError::new(None, cause))
    }

    /// An abstract name of any bytes, which need not be UTF-8 and may contain NUL.
    ///
    /// # Errors
    ///
    /// `missing address` if it is empty.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub fn from_abstract_name(name: &[u8]) -> Result<Self, AddressError> {
        if name.is_empty() {
            return Err(AddressError::new(None, Cause::MissingAddress));
        }
        Ok(Self::abstract_of(name))
    }

    fn abstract_of(name: &[u8]) -> Self {
        Self::from_bytes(&[b"\0", name].concat())
    }

    fn of_path(path: &[u8]) -> Result<Self, Cause> {
        if path.is_empty() {
            return Err(Cause::MissingAddress);
        }
        if path.contains(&0) {
            return Err(refused(&String::from_utf8_lossy(path), NUL_IN_PATH));
        }
        Ok(Self::from_bytes(path))
    }

    pub(crate) fn parse(text: &str) -> Result<Self, Cause> {
        match text.strip_prefix('@') {
            _ if text.is_empty() => Ok(Self::UNNAMED),
            Some("") => Ok(Self::UNNAMED),
            Some(name) if ABSTRACT_NAMES => Ok(Self::abstract_of(name.as_bytes())),
            _ => Self::of_path(text.as_bytes()),
        }
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

    /// Whether this end has no name.
    pub fn is_unnamed(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Display for UnixAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.path(), self.abstract_name()) {
            (Some(path), _) if reads_as_a_name(path) => write!(f, "./{}", path.display()),
            (Some(path), _) => fmt::Display::fmt(&path.display(), f),
            (None, Some(name)) => write!(f, "@{}", String::from_utf8_lossy(name)),
            (None, None) => f.write_str(UNNAMED_TEXT),
        }
    }
}

/// Whether a path would not be read as one.
fn reads_as_a_name(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes == UNNAMED_TEXT.as_bytes() || (ABSTRACT_NAMES && bytes.starts_with(b"@"))
}

/// As it prints.
impl fmt::Debug for UnixAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Fails only for a path with a NUL inside: `address X: NUL in path`.
impl FromStr for UnixAddr {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text).map_err(|cause| AddressError::new(None, cause))
    }
}

/// As [`UnixAddr::from_path`].
impl TryFrom<&Path> for UnixAddr {
    type Error = AddressError;

    fn try_from(path: &Path) -> Result<Self, AddressError> {
        Self::from_path(path)
    }
}

/// As [`UnixAddr::from_path`].
impl TryFrom<PathBuf> for UnixAddr {
    type Error = AddressError;

    fn try_from(path: PathBuf) -> Result<Self, AddressError> {
        Self::from_path(path)
    }
}

/// Reads an IP address as Go's `ParseIP` does: an IPv4-mapped one comes out as IPv4.
///
/// Strict, so that no two programs read a text differently: four decimal numbers without
/// leading zeros, or groups of at most four hexadecimal digits. A zone is no part of it.
///
/// ```
/// use windlass::parse_ip;
///
/// assert_eq!(parse_ip("::ffff:127.0.0.1"), parse_ip("127.0.0.1"));
/// assert_eq!(parse_ip("127.0.0.01"), None);
/// assert_eq!(parse_ip("fe80::1%eth0"), None);
/// ```
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    text.parse().ok().map(|ip: IpAddr| ip.to_canonical())
}

/// A text that is no network, address or endpoint.
///
/// Prints Go's text: `unknown network X`, `address X: why` or `missing address`. Whoever
/// listens wraps it: `listen tcp: address X: why`.
#[derive(Clone, PartialEq, Eq)]
pub struct AddressError {
    /// Known unless the network itself is what was wrong, or none was asked for.
    network: Option<Network>,
    cause: Cause,
}

impl AddressError {
    pub(crate) fn new(network: Option<Network>, cause: Cause) -> Self {
        Self { network, cause }
    }

    /// As an error of the call that the text was meant for.
    pub(crate) fn into_error(self, op: Op) -> Error {
        Error::new(op, self.network, None, self.cause)
    }

    /// The same text, of an address on that network.
    pub(crate) fn on(self, network: Network) -> Self {
        Self::new(Some(network), self.cause)
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

/// So that a `SocketAddr` and an [`Endpoint`](crate::Endpoint), which convert without fail,
/// are accepted where a text is.
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

/// The one form that equal addresses share: IPv4 instead of IPv4-mapped, no flow label.
fn plain(addr: SocketAddr) -> SocketAddr {
    socket_addr(addr.ip().to_canonical(), scope_of(addr), addr.port())
}

/// The number of the interface; 0 is none.
pub(crate) fn scope_of(addr: SocketAddr) -> u32 {
    match addr {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(v6) => v6.scope_id(),
    }
}

pub(crate) fn socket_addr(ip: IpAddr, scope: u32, port: u16) -> SocketAddr {
    match ip {
        IpAddr::V4(ip) => SocketAddrV4::new(ip, port).into(),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, port, NO_FLOW_LABEL, scope).into(),
    }
}

/// `address TEXT: WHY`.
pub(crate) fn refused(text: &str, why: &'static str) -> Cause {
    Cause::Address {
        text: text.to_owned(),
        why,
    }
}

const NO_FLOW_LABEL: u32 = 0;

/// How an end without a name prints, in Go and here.
const UNNAMED_TEXT: &str = "@";

/// Whether this system has names of Unix sockets that are no paths.
const ABSTRACT_NAMES: bool = cfg!(any(target_os = "linux", target_os = "android"));

// Go's words, which people search their logs for.
const UNKNOWN_PROTOCOL: &str = "unknown IP protocol specified";
// Our own, where Go has none.
const NOT_AN_ADDRESS: &str = "neither an IP address with a port nor a Unix address";
const NUL_IN_PATH: &str = "NUL in path";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    const NETWORKS: [Network; 15] = [
        Network::Tcp,
        Network::Tcp4,
        Network::Tcp6,
        Network::Udp,
        Network::Udp4,
        Network::Udp6,
        Network::Unix,
        Network::Unixgram,
        Network::Unixpacket,
        Network::Ip(0),
        Network::Ip(255),
        Network::Ip4(1),
        Network::Ip4(255),
        Network::Ip6(0),
        Network::Ip6(58),
    ];

    fn text_of<T: FromStr<Err = AddressError>>(text: &str) -> String {
        match text.parse::<T>() {
            Ok(_) => panic!("{text} parses"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_network_is_known_by_its_exact_name() {
        for network in NETWORKS {
            assert_eq!(network.to_string().parse(), Ok(network));
        }
        let unknown = [
            "", "TCP", "tcp ", "tcp5", "tcp:80", "udp:53", "foo", "datakit", "Unix", "ip", "ip4",
            "ip6", "IP:1", "ip5:1", "ip:1:2", "icmp", ":1", "unix:1",
        ];
        for text in unknown {
            assert_eq!(text_of::<Network>(text), format!("unknown network {text}"));
        }
        assert_eq!(format!("{:>6}", Network::Tcp), "   tcp");
        assert_eq!(format!("{:>6}", Network::Ip4(1)), " ip4:1");
    }

    #[test]
    fn a_protocol_is_a_number_below_256_or_a_name_in_any_case() {
        let rows = [
            ("ip:icmp", Network::Ip(1)),
            ("ip4:igmp", Network::Ip4(2)),
            ("ip4:tcp", Network::Ip4(6)),
            ("ip4:UDP", Network::Ip4(17)),
            ("ip6:IPv6-ICMP", Network::Ip6(58)),
            ("ip:0", Network::Ip(0)),
            ("ip4:007", Network::Ip4(7)),
            ("ip6:255", Network::Ip6(255)),
        ];
        for (text, network) in rows {
            assert_eq!(text.parse(), Ok(network), "{text}");
        }
        let long = "a-protocol-name-of-26-byte";
        for protocol in [
            "256",
            "99999999999",
            "+1",
            "-1",
            "1x",
            "no such",
            "\u{0661}",
            long,
        ] {
            let wanted = format!("address {protocol}: unknown IP protocol specified");
            assert_eq!(text_of::<Network>(&format!("ip4:{protocol}")), wanted);
        }
        assert_eq!(text_of::<Network>("ip4:"), "unknown IP protocol specified");
    }

    #[test]
    fn a_network_has_the_socket_that_carries_it() {
        let rows = [
            ("tcp tcp4 tcp6 unix", Transport::Stream),
            ("unixpacket", Transport::Records),
            ("udp udp4 udp6 unixgram", Transport::Datagrams),
            ("ip:7 ip4:7 ip6:7", Transport::Raw(7)),
        ];
        for (networks, transport) in rows {
            for network in networks.split(' ') {
                assert_eq!(network.parse::<Network>().unwrap().transport(), transport);
            }
        }
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
            assert_eq!(addr.ip(), parse_ip("127.0.0.1"));
            assert_eq!(addr.port(), Some(80));
            assert_eq!(addr.as_socket_addr(), Some(v4));
        }
        assert_eq!(Addr::from(mapped), Addr::from(v4));
    }

    #[test]
    fn an_address_text_is_a_literal_with_a_number_or_a_unix_address() {
        let why = "neither an IP address with a port nor a Unix address";
        let refused = [
            "127.0.0.1",
            ":80",
            "localhost:80",
            "127.0.0.1:http",
            "127.0.0.1:65536",
            "[fe80::1%lo]:80",
            "::1:80:",
            "x.sock",
        ];
        for text in refused {
            assert_eq!(text_of::<Addr>(text), format!("address {text}: {why}"));
        }
        assert_eq!(text_of::<Addr>(""), why);
        assert_eq!(text_of::<Addr>("/a\0b"), "address /a\0b: NUL in path");
        for text in ["/run/x.sock", "./x.sock", "/", "@"] {
            let addr: Addr = text.parse().unwrap();
            assert_eq!(addr.to_string(), text);
            assert_eq!(
                (addr.ip(), addr.port(), addr.as_socket_addr()),
                (None, None, None)
            );
            assert_eq!(addr.as_unix(), text.parse().ok().as_ref());
        }
    }

    #[test]
    fn a_unix_name_is_a_path_or_nothing() {
        let path: UnixAddr = "/run/x.sock".parse().unwrap();
        assert_eq!(path.path(), Some(Path::new("/run/x.sock")));
        assert_eq!(path.bytes(), b"/run/x.sock");
        assert_eq!((path.abstract_name(), path.is_unnamed()), (None, false));
        let relative: UnixAddr = "x.sock".parse().unwrap();
        assert_eq!(relative.to_string(), "x.sock");
        for text in ["", "@"] {
            let nobody: UnixAddr = text.parse().unwrap();
            assert!(nobody.is_unnamed());
            assert_eq!((nobody.path(), nobody.abstract_name()), (None, None));
            assert_eq!(nobody.bytes(), b"");
            assert_eq!(format!("{nobody} {nobody:?}"), "@ @");
        }
        assert_eq!(text_of::<UnixAddr>("a\0b"), "address a\0b: NUL in path");
        assert_eq!(text_of::<UnixAddr>("\0"), "address \0: NUL in path");
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn an_at_sign_begins_an_abstract_name() {
        for (text, name) in [
            ("@x", &b"\0x"[..]),
            ("@/a/b", b"\0/a/b"),
            ("@a\0b", b"\0a\0b"),
        ] {
            let addr: UnixAddr = text.parse().unwrap();
            assert_eq!(addr.bytes(), name);
            assert_eq!(addr.abstract_name(), Some(&name[1..]));
            assert_eq!((addr.path(), addr.is_unnamed()), (None, false));
            assert_eq!(addr.to_string(), text);
            assert_eq!(UnixAddr::from_abstract_name(&name[1..]), Ok(addr.clone()));
            assert_eq!(text.parse(), Ok(Addr::from(addr)));
        }
        assert_eq!(
            UnixAddr::from_abstract_name(b"").unwrap_err().to_string(),
            "missing address"
        );
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    #[test]
    fn an_at_sign_begins_a_path_like_any_other() {
        let addr: UnixAddr = "@x".parse().unwrap();
        assert_eq!(addr.path(), Some(Path::new("@x")));
        assert_eq!(addr.to_string(), "@x");
    }

    #[test]
    fn a_typed_path_is_never_an_abstract_name() {
        for path in ["@x", "@", "x", "/run/x", "./@x", "@/x"] {
            let addr = UnixAddr::from_path(path).unwrap();
            let named = addr.path().unwrap();
            assert_eq!(Path::new(".").join(named), Path::new(".").join(path));
            assert_eq!(addr.to_string().parse(), Ok(addr.clone()));
            assert_eq!(UnixAddr::try_from(Path::new(path)), Ok(addr.clone()));
            assert_eq!(UnixAddr::try_from(PathBuf::from(path)), Ok(addr.clone()));
            assert_eq!(Addr::from_unix_path(path), Ok(addr.into()));
        }
        let rows = [("", "missing address"), ("a\0", "address a\0: NUL in path")];
        for (path, wanted) in rows {
            let error = UnixAddr::try_from(Path::new(path)).unwrap_err();
            assert_eq!(error.to_string(), wanted);
        }
    }

    #[test]
    fn names_that_are_no_text_print_lossily() {
        let rows: [(&[u8], &str); 3] = [
            (b"/tmp/\xff", "/tmp/\u{fffd}"),
            (b"\0\xff\0", "@\u{fffd}\0"),
            (b"\0", "@"),
        ];
        for (name, text) in rows {
            assert_eq!(UnixAddr::from_bytes(name).to_string(), text);
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn a_path_that_a_peer_has_does_not_print_as_an_abstract_name() {
        let addr = UnixAddr::from_bytes(b"@x");
        assert_eq!(addr.path(), Some(Path::new("@x")));
        assert_eq!(addr.to_string(), "./@x");
    }

    #[test]
    fn an_address_fits_in_32_bytes() {
        assert!(size_of::<Addr>() <= 32);
    }

    /// Section 4.7 of the facts: what Go reads since it counts digits, exactly.
    #[test]
    fn an_ip_literal_is_read_as_go_reads_it() {
        let accepted = [
            ("1.2.3.4", "1.2.3.4"),
            ("0.0.0.0", "0.0.0.0"),
            ("255.255.255.255", "255.255.255.255"),
            ("127.0.1.2", "127.0.1.2"),
            ("127.0.0.1", "127.0.0.1"),
            ("::", "::"),
            ("::1", "::1"),
            ("FE80::A", "fe80::a"),
            ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
            ("::ffff:127.1.2.3", "127.1.2.3"),
            ("::ffff:7f01:0203", "127.1.2.3"),
            ("0:0:0:0:0000:ffff:127.1.2.3", "127.1.2.3"),
            ("0:0:0:0::ffff:127.1.2.3", "127.1.2.3"),
            ("::1.2.3.4", "::102:304"),
            ("1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304"),
            ("2001:4860:0:2001::68", "2001:4860:0:2001::68"),
            (
                "2001:4860:0000:2001:0000:0000:0000:0068",
                "2001:4860:0:2001::68",
            ),
        ];
        for (text, wanted) in accepted {
            let ip = parse_ip(text);
            assert!(ip.is_some(), "{text}");
            // Both sides are read, since the standard library may print `::1.2.3.4`.
            assert_eq!(ip, parse_ip(wanted), "{text}");
        }
        assert!(parse_ip("::ffff:1.2.3.4").unwrap().is_ipv4());
    }

    /// The rest of that table.
    #[test]
    fn what_some_programs_read_as_an_ip_literal_is_none() {
        let refused = [
            "",
            "01.2.3.4",
            "00.0.0.0",
            "127.000.000.001",
            "127.001.002.003",
            "127.007.008.009",
            "127.010.020.030",
            "1.2.3",
            "1.2.3.4.5",
            "256.1.1.1",
            "127.0.0.256",
            "0x1.2.3.4",
            " 1.2.3.4",
            "1.2.3.4 ",
            "+1.2.3.4",
            "-0.0.0.0",
            "0.-1.0.0",
            "0.0.-2.0",
            "0.0.0.-3",
            "1..2.3",
            "abc",
            "123:",
            "1:",
            "::ffff:01.2.3.4",
            "::ffff:127.001.002.003",
            "::ffff:127.007.008.009",
            "::ffff:127.010.020.030",
            "0:0:0:0:000000:ffff:127.1.2.3",
            "1::2::3",
            "::1:2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7:8:9",
            "1.2.3.4::",
            "12345::",
            "00001::",
            "0000000000000001::",
            "[::1]",
            "a1:a2:a3:a4::b1:b2:b3:b4",
            "::1%lo",
            "fe80::1%lo0",
            "fe80::1%911",
            "\u{0661}.2.3.4",
        ];
        for text in refused {
            assert_eq!(parse_ip(text), None, "{text}");
        }
    }

    #[test]
    fn an_error_without_a_network_still_says_what_was_wrong() {
        let error = "ip4:bogus".parse::<Network>().unwrap_err();
        assert_eq!(
            error.into_error(Op::Listen).to_string(),
            "listen: address bogus: unknown IP protocol specified"
        );
        let error = "foo".parse::<Network>().unwrap_err();
        assert_eq!(format!("{error:?}"), "AddressError(unknown network foo)");
        let converted = io::Error::from(error);
        assert_eq!(converted.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(converted.to_string(), "unknown network foo");
    }

    fn any_network() -> impl Strategy<Value = Network> {
        let raw = (any::<u8>(), 0..3).prop_map(|(protocol, which)| match which {
            0 => Network::Ip(protocol),
            1 => Network::Ip4(protocol),
            _ => Network::Ip6(protocol),
        });
        prop_oneof![proptest::sample::select(NETWORKS.to_vec()), raw]
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

    /// Whether a name, as the kernel may report it, is one that text can express.
    fn is_expressible(name: &[u8]) -> bool {
        let is_text = std::str::from_utf8(name).is_ok();
        is_text && !name.starts_with(b"@") && name != b"\0"
    }

    proptest! {
        #[test]
        fn every_network_prints_back(network in any_network()) {
            prop_assert_eq!(network.to_string().parse(), Ok(network));
        }

        #[test]
        fn every_ip_address_prints_back(addr in any_socket_addr()) {
            let addr = Addr::from(addr);
            prop_assert_eq!(addr.to_string().parse(), Ok(addr));
        }

        #[test]
        fn every_unix_name_that_is_text_prints_back(path in "[^\0]{0,20}", name in "(?s).{0,20}") {
            let path = UnixAddr::from_bytes(path.as_bytes());
            if is_expressible(path.bytes()) {
                prop_assert_eq!(path.to_string().parse(), Ok(path.clone()));
            }
            if path.is_unnamed() || path.bytes().contains(&b'/') && is_expressible(path.bytes()) {
                let addr = Addr::from(path);
                prop_assert_eq!(addr.to_string().parse(), Ok(addr));
            }
            let name = UnixAddr::from_bytes(&[b"\0", name.as_bytes()].concat());
            if ABSTRACT_NAMES && is_expressible(name.bytes()) {
                let addr = Addr::from(name.clone());
                prop_assert_eq!(name.to_string().parse(), Ok(name));
                prop_assert_eq!(addr.to_string().parse(), Ok(addr));
            }
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let name = UnixAddr::from_bytes(&bytes);
            let _ = format!("{name} {:?}", Addr::from(name.clone()));
            let _ = UnixAddr::try_from(Path::new(OsStr::from_bytes(&bytes)));
            let text = String::from_utf8_lossy(&bytes);
            let _ = (text.parse::<Network>(), text.parse::<Addr>(), text.parse::<UnixAddr>());
            let _ = parse_ip(&text);
        }

        #[test]
        fn no_text_panics_and_what_parses_prints_back(
            text in "(?s).*",
            like in r"(ip[46]?|unix|@|/)?[\[\]:%/.@0-9a-f\x00]{0,20}",
        ) {
            for text in [&text, &like] {
                let _ = parse_ip(text);
                if let Ok(network) = text.parse::<Network>() {
                    prop_assert_eq!(network.to_string().parse(), Ok(network));
                }
                if let Ok(addr) = text.parse::<Addr>() {
                    prop_assert_eq!(addr.to_string().parse(), Ok(addr));
                }
                if let Ok(addr) = text.parse::<UnixAddr>() {
                    prop_assert_eq!(addr.to_string().parse(), Ok(addr));
                }
            }
        }
    }
}
