//! Texts of addresses: none panics, what is read and printed reads as the same again, and
//! host and port are split as Go's `net` package splits them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use windlass::{Addr, Endpoint, Network, UnixAddr, join_host_port, parse_ip, split_host_port};

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
    "ip4:icmp",
    "ip6:58",
];

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    split(&text);
    numbers(&text);
    addresses(&text);
    if let Ok(endpoint) = text.parse::<Endpoint>() {
        reads_back(&endpoint);
    }
    for network in NETWORKS {
        if let Ok(endpoint) = Endpoint::new(network, &text) {
            reads_back(&endpoint);
        }
    }
});

fn split(text: &str) {
    match (split_host_port(text), go_split(text)) {
        (Ok(ours), Ok(gos)) => {
            assert_eq!(ours, gos, "{text:?}");
            let joined = join_host_port(ours.0, ours.1);
            assert_eq!(split_host_port(&joined).ok(), Some(ours), "{text:?}");
        }
        (Err(error), Err(why)) => {
            let address = if text.is_empty() {
                String::new()
            } else {
                format!("address {text}: ")
            };
            assert_eq!(error.to_string(), format!("{address}{why}"));
        }
        (ours, gos) => panic!("{text:?}: {ours:?} is not {gos:?}"),
    }
}

/// `SplitHostPort` of Go's net/ipsock.go, line by line.
fn go_split(text: &str) -> Result<(&str, &str), &'static str> {
    let colon = text.rfind(':').ok_or("missing port in address")?;
    let (host, open_from, close_from) = if text.starts_with('[') {
        let end = text.find(']').ok_or("missing ']' in address")?;
        if end + 1 == text.len() {
            return Err("missing port in address");
        }
        if end + 1 != colon {
            let colon_follows = text.as_bytes()[end + 1] == b':';
            return Err(match colon_follows {
                true => "too many colons in address",
                false => "missing port in address",
            });
        }
        (&text[1..end], 1, end + 1)
    } else {
        let host = &text[..colon];
        if host.contains(':') {
            return Err("too many colons in address");
        }
        (host, 0, 0)
    };
    if text[open_from..].contains('[') {
        return Err("unexpected '[' in address");
    }
    if text[close_from..].contains(']') {
        return Err("unexpected ']' in address");
    }
    Ok((host, &text[colon + 1..]))
}

fn numbers(text: &str) {
    if let Some(ip) = parse_ip(text) {
        assert_eq!(parse_ip(&ip.to_string()), Some(ip));
        assert_eq!(ip, ip.to_canonical());
    }
    if let Ok(network) = text.parse::<Network>() {
        assert_eq!(network.to_string().parse(), Ok(network));
    }
}

fn addresses(text: &str) {
    if let Ok(addr) = text.parse::<Addr>() {
        assert_eq!(addr.to_string().parse().as_ref(), Ok(&addr));
        let kinds = (addr.as_socket_addr().is_some(), addr.as_unix().is_some());
        assert!(kinds.0 != kinds.1);
    }
    if let Ok(addr) = text.parse::<UnixAddr>() {
        assert_eq!(addr.to_string().parse().as_ref(), Ok(&addr));
        let kinds = [
            addr.path().is_some(),
            addr.abstract_name().is_some(),
            addr.is_unnamed(),
        ];
        assert_eq!(kinds.iter().filter(|it| **it).count(), 1);
    }
    match UnixAddr::from_path(text) {
        // Whatever the path, it is no abstract name.
        Ok(addr) => assert!(addr.path().is_some()),
        Err(_) => assert!(text.is_empty() || text.contains('\0')),
    }
}

fn reads_back(endpoint: &Endpoint) {
    let printed = endpoint.to_string();
    assert_eq!(printed.parse().as_ref(), Ok(endpoint), "{printed:?}");
}
