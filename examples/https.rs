//! The `http` example under TLS: the very same handler, and one line more.
//!
//!     cargo run --release --features tls --example https -- 127.0.0.1:8443
//!     curl --insecure https://127.0.0.1:8443/headers
//!
//! Shows: that a handler written for TCP serves TLS as it is; the choice of a protocol (ALPN).
//! Shortcuts: those of `http`; without `--cert` a certificate that nobody has a reason to trust.

#[path = "util/identity.rs"]
mod identity;
#[path = "http/pages.rs"]
mod pages;
#[path = "http/request.rs"]
mod request;
#[path = "http/server.rs"]
mod server;
#[path = "util/mod.rs"]
mod util;

use std::process::ExitCode;

use windlass::{Listen, Reactor};

const HELP: &str = "\
Serves the page of the `http` example, which shows the loop that serves it, under TLS.

usage: https [--cert FILE --key FILE] [ADDRESS]

ADDRESS is what to listen on, by default 127.0.0.1:8443; port 0 is any free one. FILEs are
PEM, the certificate with its chain.
Ctrl-C or SIGTERM ends it when all answers are sent, or after 5 s.
";

fn main() -> ExitCode {
    util::main(HELP, |mut args| {
        let config = identity::server(&mut args, &["http/1.1"])?;
        let [address] = args.rest(["127.0.0.1:8443"])?;
        let listen = Listen::new(&*address)?.tls(config);
        util::serve(Reactor::new(server::Server::default())?, listen)
    })
}
