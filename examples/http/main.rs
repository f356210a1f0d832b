//! A small HTTP/1.1 server, whose page shows the loop that serves it.
//!
//!     cargo run --release --example http -- 127.0.0.1:8080
//!     curl http://127.0.0.1:8080/headers
//!
//! Shows: requests taken out of one slice, however the network has cut it (`request.rs`); a
//! deadline that bytes do not renew, and answers that stop at `Flow::Full` (`server.rs`).
//! Shortcuts: bodies are thrown away; no TLS, no log of accesses, no answer to `Expect`.

mod pages;
mod request;
mod server;
#[path = "../util/mod.rs"]
mod util;

use std::process::ExitCode;

const HELP: &str = "\
Serves a page that shows the accept queue, the connections and the loop that serves it.

usage: http [ADDRESS]

ADDRESS is what to listen on, by default 127.0.0.1:8080; port 0 is any free one.
Paths are / (for a browser), /metrics (for Prometheus), /time and /headers.
Ctrl-C or SIGTERM ends it when all answers are sent, or after 5 s.
";

fn main() -> ExitCode {
    util::main(HELP, |args| {
        let [address] = args.rest(["127.0.0.1:8080"])?;
        util::serve(
            windlass::Reactor::new(server::Server::default())?,
            &*address,
        )
    })
}
