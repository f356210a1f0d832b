//! Opening datagram sockets: which address, under which name, with which options, on which
//! path, in which group.
//!
//! A name of the other end is looked up beside the loop; until it is known the socket has a
//! slot and a queue, and no descriptor. Knows nothing of what is received and sent.

use std::net::IpAddr;

use crate::address::{Addr, Network};
use crate::core::Core;
use crate::datagram::{Bind, BindOptions, Place};
use crate::endpoint::{Endpoint, dial_candidates, listen_candidates};
use crate::engine::{Engine, nanos};
use crate::error::{Cause, Error, Op};
use crate::kernel::{BindSpec, Fault, Fd, Interest, PacketOption, Ticket};
use crate::listener::has_no_ipv6;
use crate::packet_socket::PacketSocket;
use crate::token::{Owner, SocketId, Token};
use crate::unix_path::{self, Owned};

/// What is left to be done once the name of the other end is known.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) endpoint: Endpoint,
    pub(crate) local: Option<Addr>,
    pub(crate) options: BindOptions,
    pub(crate) ticket: Ticket,
}

/// A socket that is open, before it has a slot.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) fd: Fd,
    pub(crate) network: Network,
    pub(crate) local: Addr,
    pub(crate) remote: Option<Addr>,
    pub(crate) path: Option<Owned>,
}

impl Core {
    /// Opens a datagram socket; or begins to, if a name has to be looked up.
    pub(crate) fn bind(&mut self, bind: Bind, owner: Owner) -> Result<SocketId, Error> {
        if self.engine.stopping() {
            return Err(Error::new(Op::Listen, None, None, Cause::Closed));
        }
        let Bind {
            place,
            local,
            options,
        } = bind;
        match place {
            Place::Remote(endpoint) if endpoint.name().is_some() => {
                self.look_peer_up(endpoint, local, options, owner)
            }
            Place::Remote(mut endpoint) => {
                resolve_zone(&mut endpoint, Op::Dial, &mut self.engine)?;
                let opened = connect(&endpoint, &[], local, &options, &mut self.engine)?;
                self.admit_socket(opened, &options, owner)
            }
            Place::Local(mut endpoint) => {
                resolve_zone(&mut endpoint, Op::Listen, &mut self.engine)?;
                let opened = listen(&endpoint, &options, &mut self.engine)?;
                self.admit_socket(opened, &options, owner)
            }
            Place::Adopted(fd) => {
                let adopted = self.engine.kernel.adopt_packets(fd);
                let adopted = adopted.map_err(|fault| Error::new(Op::Listen, None, None, fault))?;
                let network = adopted.network();
                if let Err(fault) = merge(adopted.fd, &options, &mut self.engine) {
                    self.engine.kernel.close(adopted.fd);
                    return Err(Error::new(Op::Listen, Some(network), None, fault));
                }
                let opened = Opened {
                    fd: adopted.fd,
                    network,
                    local: adopted.local,
                    remote: adopted.peer,
                    path: None,
                };
                self.admit_socket(opened, &options, owner)
            }
        }
    }

    fn admit_socket(
        &mut self,
        opened: Opened,
        options: &BindOptions,
        owner: Owner,
    ) -> Result<SocketId, Error> {
        let network = opened.network;
        let made = self
            .sockets
            .insert(|token| PacketSocket::new(token, owner, network, options));
        let Some(token) = made else {
            self.engine.kernel.close(opened.fd);
            let cause = Cause::Invalid("too many sockets".to_owned());
            return Err(Error::new(Op::Listen, Some(network), None, cause));
        };
        match self.open_socket(token, opened) {
            Ok(()) => Ok(SocketId::new(token)),
            Err(error) => {
                self.drop_socket(token);
                Err(error)
            }
        }
    }

    /// The socket is there: from now on the kernel reports on it.
    fn open_socket(&mut self, token: Token, opened: Opened) -> Result<(), Error> {
        let Self {
            sockets, engine, ..
        } = self;
        let Some(socket) = sockets.get_mut(token) else {
            engine.kernel.close(opened.fd);
            return Ok(());
        };
        let (fd, network, place) = (opened.fd, opened.network, opened.local.clone());
        socket.opened(opened, engine);
        engine
            .kernel
            .register(fd, token, Interest::ReadWrite)
            .map_err(|errno| Error::new(Op::Listen, Some(network), Some(place.into()), errno))
    }

    fn look_peer_up(
        &mut self,
        endpoint: Endpoint,
        local: Option<Addr>,
        options: BindOptions,
        owner: Owner,
    ) -> Result<SocketId, Error> {
        let Self {
            sockets, engine, ..
        } = self;
        let network = endpoint.network();
        let name = endpoint.name().unwrap_or_default().to_owned();
        if engine.lookups.len() >= engine.config.max_lookups {
            let why = "too many look-ups are under way".to_owned();
            let cause = Cause::Lookup { name, why };
            return Err(Error::new(Op::Dial, Some(network), None, cause));
        }
        let made = sockets.insert(|token| PacketSocket::new(token, owner, network, &options));
        let Some((token, socket)) = made.and_then(|token| Some((token, sockets.get_mut(token)?)))
        else {
            let cause = Cause::Invalid("too many sockets".to_owned());
            return Err(Error::new(Op::Dial, Some(network), None, cause));
        };
        let ticket = engine.ticket(token);
        engine.kernel.look_up(ticket, &name);
        let patience = nanos(engine.config.dial_timeout);
        let until = engine.clock.nanos.saturating_add(patience);
        let opening = Opening {
            endpoint,
            local,
            options,
            ticket,
        };
        socket.waits_for_name(opening, until, engine);
        Ok(SocketId::new(token))
    }

    /// The resolver has answered a socket that waited for it.
    pub(crate) fn peer_looked_up(
        &mut self,
        token: Token,
        ticket: Ticket,
        addresses: Result<Vec<IpAddr>, std::io::Error>,
    ) {
        let Some(socket) = self.sockets.get_mut(token) else {
            return;
        };
        let Some(opening) = socket.take_opening(ticket) else {
            return;
        };
        let opened = match addresses {
            Ok(ips) => connect(
                &opening.endpoint,
                &ips,
                opening.local,
                &opening.options,
                &mut self.engine,
            ),
            Err(error) => {
                let name = opening.endpoint.name().unwrap_or_default().to_owned();
                let cause = Cause::lookup(name, &error);
                Err(Error::new(
                    Op::Dial,
                    Some(opening.endpoint.network()),
                    None,
                    cause,
                ))
            }
        };
        let done = opened.and_then(|opened| self.open_socket(token, opened));
        let Some(socket) = self.sockets.get_mut(token) else {
            return;
        };
        match done {
            Ok(()) => socket.touch(&mut self.engine),
            Err(error) => socket.could_not_open(error, &mut self.engine),
        }
    }

    /// Closes a socket now.
    pub(crate) fn drop_socket(&mut self, token: Token) {
        if let Some(socket) = self.sockets.remove(token) {
            socket.retire(&mut self.engine);
        }
    }
}

/// The number of the interface, if the endpoint names one.
fn resolve_zone(endpoint: &mut Endpoint, op: Op, engine: &mut Engine) -> Result<(), Error> {
    let network = endpoint.network();
    endpoint
        .resolve_zone(|name| engine.kernel.interface_index(name))
        .map_err(|cause| Error::new(op, Some(network), None, cause))
}

/// Opens a socket on an address of ours; the error is that of the first candidate.
fn listen(
    endpoint: &Endpoint,
    options: &BindOptions,
    engine: &mut Engine,
) -> Result<Opened, Error> {
    let network = endpoint.network();
    let fail = |cause: Cause| Error::new(Op::Listen, Some(network), None, cause);
    let looked_up = match endpoint.name() {
        Some(name) => engine
            .kernel
            .lookup(name)
            .map_err(|error| fail(Cause::lookup(name.to_owned(), &error)))?,
        None => Vec::new(),
    };
    let mut first = None;
    for (local, only_v6) in listen_candidates(endpoint, &looked_up).map_err(fail)? {
        let mut spec = spec(network, options);
        spec.local = Some(local);
        spec.only_v6 = only_v6;
        match open(&spec, options, engine) {
            Ok((fd, local, path)) => {
                return Ok(Opened {
                    fd,
                    network,
                    local,
                    remote: None,
                    path,
                });
            }
            Err(fault) => {
                let place = Some(endpoint.place());
                first.get_or_insert_with(|| Error::new(Op::Listen, Some(network), place, fault));
                if !has_no_ipv6(fault) {
                    break;
                }
            }
        }
    }
    Err(first.unwrap_or_else(|| fail(Cause::MissingAddress)))
}

/// Opens a socket that is connected to the endpoint's first address.
fn connect(
    endpoint: &Endpoint,
    looked_up: &[IpAddr],
    local: Option<Addr>,
    options: &BindOptions,
    engine: &mut Engine,
) -> Result<Opened, Error> {
    let network = endpoint.network();
    let fail = |cause: Cause| Error::new(Op::Dial, Some(network), None, cause);
    let candidates = dial_candidates(endpoint, looked_up, local.as_ref()).map_err(fail)?;
    let remote = candidates.into_iter().next();
    let remote = remote.ok_or_else(|| fail(Cause::MissingAddress))?;
    let mut spec = spec(network, options);
    (spec.local, spec.remote) = (local.clone(), Some(remote.clone()));
    match open(&spec, options, engine) {
        Ok((fd, local, path)) => Ok(Opened {
            fd,
            network,
            local,
            remote: Some(remote),
            path,
        }),
        Err(fault) => {
            let error = Error::new(Op::Dial, Some(network), Some(remote.into()), fault);
            Err(match local {
                Some(local) => error.with_source(local),
                None => error,
            })
        }
    }
}

fn spec(network: Network, options: &BindOptions) -> BindSpec {
    BindSpec {
        transport: network.transport(),
        local: None,
        remote: None,
        only_v6: false,
        mode: options.mode,
        reuse_addr: options.reuse_addr,
        reuse_port: options.reuse_port,
        broadcast: options.broadcast,
        destinations: options.destinations,
        receive_buffer: options.receive_buffer,
        send_buffer: options.send_buffer,
        prepare: options.prepare.clone(),
    }
}

/// One socket, a member of its groups, its own end, and the path that goes with it. Nothing
/// stays open if a step fails.
fn open(
    spec: &BindSpec,
    options: &BindOptions,
    engine: &mut Engine,
) -> Result<(Fd, Addr, Option<Owned>), Fault> {
    let (fd, path) = bind_path(spec, options, engine)?;
    let path = path.filter(|_| options.unlink_on_close);
    match prepare(fd, options, engine) {
        Ok(local) => Ok((fd, local, path)),
        Err(fault) => {
            if let Some(path) = path {
                unix_path::remove_if_ours(engine.kernel.as_mut(), &path);
            }
            engine.kernel.close(fd);
            Err(fault)
        }
    }
}

fn bind_path(
    spec: &BindSpec,
    options: &BindOptions,
    engine: &mut Engine,
) -> Result<(Fd, Option<Owned>), Fault> {
    engine.open(|kernel| match &spec.local {
        Some(local) if options.repair_path => {
            unix_path::bind_repairing(kernel, local, spec.transport, |kernel| kernel.bind(spec))
        }
        Some(local) => unix_path::bind_noting(kernel, local, |kernel| kernel.bind(spec)),
        None => kernel.bind(spec).map(|fd| (fd, None)),
    })
}

fn prepare(fd: Fd, options: &BindOptions, engine: &mut Engine) -> Result<Addr, Fault> {
    let fault = |call| move |errno| Fault { call, errno };
    merge(fd, options, engine)?;
    for &(group, interface) in &options.groups {
        let join = PacketOption::Join(group, interface);
        engine
            .kernel
            .set_packet_option(fd, join)
            .map_err(fault("setsockopt"))?;
    }
    engine.kernel.local_addr(fd).map_err(fault("getsockname"))
}

/// The kernel may merge datagrams from now on, if that was asked for.
fn merge(fd: Fd, options: &BindOptions, engine: &mut Engine) -> Result<(), Fault> {
    if !options.gro {
        return Ok(());
    }
    let set = engine.kernel.set_packet_option(fd, PacketOption::Merge);
    set.map_err(|errno| Fault {
        call: "setsockopt",
        errno,
    })
}
