//! The two ends of a relay, as its command line says: plain, or under TLS.

use std::io;

use super::util::{self, Args};
use windlass::{Dial, Listen};

#[cfg(feature = "tls")]
#[path = "identity.rs"]
mod identity;
#[cfg(feature = "tls")]
#[path = "trust.rs"]
mod trust;

const LISTEN: &str = "127.0.0.1:3002";
const DIAL: &str = "127.0.0.1:3000";

#[cfg(feature = "tls")]
pub(crate) fn take(mut args: Args) -> io::Result<(Listen, Dial)> {
    let (tls, to_tls) = (args.flag("--tls"), args.flag("--to-tls"));
    let identity = tls.then(|| identity::server(&mut args, &[])).transpose()?;
    let trust = to_tls.then(|| trust::client(&mut args)).transpose()?;
    let [listen, dial] = args.rest([LISTEN, DIAL])?;
    let (listen, dial) = (Listen::new(listen)?, Dial::new(dial)?);
    Ok((
        match identity {
            Some(config) => listen.tls(config),
            None => listen,
        },
        match trust {
            Some(config) => dial.tls(config)?,
            None => dial,
        },
    ))
}

#[cfg(not(feature = "tls"))]
pub(crate) fn take(mut args: Args) -> io::Result<(Listen, Dial)> {
    if args.flag("--tls") || args.flag("--to-tls") {
        return Err(util::refusal("this was built without `--features tls`"));
    }
    let [listen, dial] = args.rest([LISTEN, DIAL])?;
    Ok((Listen::new(listen)?, Dial::new(dial)?))
}
