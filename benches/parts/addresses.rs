//! Addresses from text, beside the parser of the standard library. Where Go's rules ask for
//! more than that one does, the ratio is what they cost.

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use windlass::{Addr, Endpoint, parse_ip, resolve, split_host_port};

use crate::measure::{Batch, Bench, timed};

const OPS: usize = 1_000;

/// Family, address, with a port, and with a network.
const TEXTS: [[&str; 4]; 2] = [
    [
        "v4",
        "192.168.100.27",
        "192.168.100.27:3000",
        "tcp://192.168.100.27:3000",
    ],
    [
        "v6",
        "2001:db8:85a3::8a2e:370:7334",
        "[2001:db8:85a3::8a2e:370:7334]:3000",
        "tcp://[2001:db8:85a3::8a2e:370:7334]:3000",
    ],
];

pub(crate) fn run(bench: &mut Bench) {
    for [family, ip, with_port, url] in TEXTS {
        let mut std_ip = || many(ip, |text| text.parse::<IpAddr>());
        let mut std_split = || many(with_port, |text| text.rsplit_once(':'));
        let mut std_addr = || many(with_port, |text| text.parse::<SocketAddr>());
        let mut part = |what: &str, [ours, theirs]: [Work<'_>; 2], beside| {
            let name = format!("{what}, {family}");
            let subjects = &mut [("windlass", ours), (beside, theirs)];
            bench.part(&name, Batch::of(OPS), subjects);
        };
        let mut ours = || many(ip, parse_ip);
        part("parse_ip", [&mut ours, &mut std_ip], "IpAddr");
        let mut ours = || many(with_port, |text| split_host_port(text).ok());
        part(
            "split_host_port",
            [&mut ours, &mut std_split],
            "rsplit_once",
        );
        let mut ours = || many(with_port, |text| text.parse::<Addr>());
        part("Addr", [&mut ours, &mut std_addr], "SocketAddr");
        let mut ours = || many(url, |text| text.parse::<Endpoint>());
        part("Endpoint", [&mut ours, &mut std_addr], "SocketAddr");
        let mut ours = || many(with_port, |text| resolve("tcp", text));
        part("resolve", [&mut ours, &mut std_addr], "SocketAddr");
    }
}

type Work<'a> = &'a mut dyn FnMut() -> Duration;

fn many<R>(text: &'static str, parse: impl Fn(&'static str) -> R) -> Duration {
    timed(|| {
        for _ in 0..OPS {
            black_box(parse(black_box(text)));
        }
    })
}
