//! Says whether a text is an IP address, and which.
//!
//!     cargo run --release --example parse_ip -- ::ffff:127.0.0.1
//!
//! Shows: `parse_ip`, which reads as Go's `ParseIP` does, and strictly: no two programs
//! should read one text as two addresses. There is no loop in it.
//!
//! Shortcuts: none that matter.

use std::io::{self, Write};
use std::process::ExitCode;

use windlass::parse_ip;

const HELP: &str = "\
Prints the address that a text stands for, or `Invalid address` (exit status 1).

usage: parse_ip TEXT

TEXT is such as 192.0.2.7 or 2001:db8::7; an IPv4 address in IPv6 clothes comes out bare.
";

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let [text] = &args[..] else {
        eprintln!("parse_ip: it takes one text; --help tells more");
        return ExitCode::FAILURE;
    };
    let text = text.to_string_lossy();
    let (line, is_address) = match (&*text, parse_ip(&text)) {
        ("--help" | "-h", _) => (HELP.to_owned(), true),
        (_, Some(address)) => (format!("{address}\n"), true),
        (_, None) => ("Invalid address\n".to_owned(), false),
    };
    let printed = io::stdout().write_all(line.as_bytes());
    ExitCode::from(u8::from(!is_address || printed.is_err()))
}
