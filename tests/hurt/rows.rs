//! The matrix: which call of which service fails with what and when, and what has to come of
//! it. The expectations are the tables of `docs/errors.md`, by hand once more.

use super::clients::Service;

/// Which of the calls fail, in strace's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum When {
    First,
    EveryThird,
    /// Far more than a row makes. It is no more than that because strace that lets go in the
    /// middle of a call that it has kept from being made leaves ENOSYS as its answer.
    Every,
}

impl When {
    const ALL: [Self; 3] = [Self::First, Self::EveryThird, Self::Every];

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::First => "1",
            Self::EveryThird => "3+3",
            Self::Every => "1..400",
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) service: Service,
    pub(crate) call: &'static str,
    pub(crate) errno: &'static str,
    pub(crate) when: When,
    pub(crate) then: Then,
}

/// What has to come of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Then {
    /// Every byte arrives, and every connection ends with `Eof`.
    Intact,
    /// The same, and this has been counted.
    Counted(&'static str),
    /// Calls are made again and again, as long as they fail: each EINTR is a signal to the
    /// loop. Every byte arrives afterwards.
    Again,
    /// The kernel has announced what it is then said not to have, and does not repeat it: the
    /// connection waits until something else happens on it, or a deadline ends it.
    Stalls,
    /// Connections may end with one of these, and at least one does.
    Ends(&'static [&'static str]),
    /// The listener or socket is gone, and the loop lives.
    Gone(&'static str),
    /// The injection keeps the call from being made, so the descriptor stays, and the client
    /// may see no end: one descriptor is left for each. The loop forgets it all the same.
    NotClosed,
    /// `run` answers an error.
    RunFails,
}

impl Then {
    /// What has come of it, in a word.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Intact | Self::Counted(_) => "intact",
            Self::Again => "tried again",
            Self::Stalls => "stalls",
            Self::Ends(_) => "ends",
            Self::Gone(_) => "gone",
            Self::NotClosed => "not closed",
            Self::RunFails => "run fails",
        }
    }
}

const RESET: Then = Then::Ends(&["end.reset", "end.local"]);
const IO: Then = Then::Ends(&["end.io", "end.local"]);
const DIAL: Then = Then::Ends(&["dial_error", "end.local"]);

const STREAMS: &[Service] = &[
    Service::Echo,
    Service::Relay,
    Service::Http,
    Service::Unix,
    Service::Records,
];
/// Whose input comes by recv(2); records come by recvmsg(2).
const READERS: &[Service] = &[Service::Echo, Service::Relay, Service::Http, Service::Unix];
const ECHO: &[Service] = &[Service::Echo];
const RELAY: &[Service] = &[Service::Relay];
const RECORDS: &[Service] = &[Service::Records];
const UDP: &[Service] = &[Service::Udp];
/// Whose output gets stuck, and then leaves in several parts.
const STUCK: &[Service] = &[Service::Echo, Service::Unix];

/// One call, and groups of errnos that have the same consequence.
type Call = (
    &'static str,
    &'static [Service],
    &'static [(&'static [&'static str], Then)],
);

/// What ends a connection that is read from or written to.
const BROKEN: &[(&[&str], Then)] = &[
    (&["EINTR"], Then::Again),
    (&["EAGAIN"], Then::Stalls),
    (&["ECONNRESET", "ECONNABORTED", "EPIPE", "ENOTCONN"], RESET),
    (
        &[
            "ETIMEDOUT",
            "EHOSTUNREACH",
            "ENETUNREACH",
            "ENETDOWN",
            "ENOMEM",
            "ENOBUFS",
            "EIO",
            "EPROTO",
            "EPERM",
            "EBADF",
        ],
        IO,
    ),
];

const CALLS: &[Call] = &[
    (
        "accept4",
        ECHO,
        &[
            (
                &[
                    "ECONNABORTED",
                    "ECONNRESET",
                    "EPROTO",
                    "EPERM",
                    "ETIMEDOUT",
                    "EPIPE",
                    "ENETDOWN",
                    "ENETUNREACH",
                    "EHOSTDOWN",
                    "EHOSTUNREACH",
                    "ENOPROTOOPT",
                    "EOPNOTSUPP",
                    "EPROTONOSUPPORT",
                    "ESOCKTNOSUPPORT",
                    "ENONET",
                ],
                Then::Counted("lost"),
            ),
            (
                &["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ENOSR", "EXDEV"],
                Then::Counted("backoffs"),
            ),
            (
                &["EBADF", "EINVAL", "ENOTSOCK", "EFAULT", "ENOSYS"],
                Then::Gone("accept_error"),
            ),
        ],
    ),
    (
        "accept4",
        STREAMS,
        &[(&["EINTR"], Then::Again), (&["EAGAIN"], Then::Intact)],
    ),
    (
        "accept4",
        &[
            Service::Relay,
            Service::Http,
            Service::Unix,
            Service::Records,
        ],
        &[
            (&["ECONNABORTED"], Then::Counted("lost")),
            (&["EMFILE", "ENOMEM"], Then::Counted("backoffs")),
        ],
    ),
    ("recvfrom", READERS, BROKEN),
    ("recvmsg", RECORDS, BROKEN),
    ("sendto", STREAMS, BROKEN),
    ("sendto", RECORDS, &[(&["EMSGSIZE"], IO)]),
    ("sendmsg", STUCK, BROKEN),
    (
        "epoll_ctl",
        STREAMS,
        &[(
            &["ENOMEM", "ENOSPC", "EPERM"],
            Then::Ends(&["end.io", "end.local", "dial_error"]),
        )],
    ),
    ("epoll_wait", STREAMS, &[(&["EINTR"], Then::Again)]),
    ("epoll_wait", UDP, &[(&["EINTR"], Then::Again)]),
    (
        "epoll_wait",
        ECHO,
        &[(&["EBADF", "EINVAL"], Then::RunFails)],
    ),
    (
        "close",
        STREAMS,
        &[(&["EINTR", "EIO", "ENOSPC", "EDQUOT"], Then::NotClosed)],
    ),
    (
        "shutdown",
        RELAY,
        &[
            (&["ENOTCONN"], RESET),
            (&["ENOBUFS", "ENOMEM", "EINVAL"], IO),
        ],
    ),
    (
        "setsockopt",
        RELAY,
        &[(
            &["EINVAL", "ENOPROTOOPT", "ENOMEM", "ENOBUFS", "EPERM"],
            Then::Intact,
        )],
    ),
    (
        "socket",
        RELAY,
        &[(
            &[
                "EMFILE",
                "ENFILE",
                "ENOBUFS",
                "ENOMEM",
                "EACCES",
                "EPERM",
                "EAFNOSUPPORT",
            ],
            DIAL,
        )],
    ),
    (
        "connect",
        RELAY,
        &[
            (
                &[
                    "ECONNREFUSED",
                    "ECONNRESET",
                    "ETIMEDOUT",
                    "EHOSTUNREACH",
                    "ENETUNREACH",
                    "EACCES",
                    "EPERM",
                    "EAGAIN",
                    "ENOBUFS",
                    "EPROTO",
                ],
                DIAL,
            ),
            // Nothing was begun, so nothing is reported, and time runs out.
            (&["EINTR", "EALREADY", "EINPROGRESS"], DIAL),
        ],
    ),
    ("getsockopt", RELAY, &[(&["ENOBUFS", "ENOMEM"], DIAL)]),
    // No peer is no connection yet, and no further report comes: time runs out.
    ("getpeername", RELAY, &[(&["ENOTCONN", "ENOBUFS"], DIAL)]),
    (
        "recvmmsg",
        UDP,
        &[
            (&["EINTR"], Then::Again),
            (&["EAGAIN"], Then::Intact),
            (
                &[
                    "ECONNREFUSED",
                    "EHOSTUNREACH",
                    "ENETUNREACH",
                    "ENETDOWN",
                    "EMSGSIZE",
                    "ENOMEM",
                    "ENOBUFS",
                    "EPERM",
                    "EIO",
                ],
                Then::Counted("socket_error"),
            ),
            (
                &["EBADF", "ENOTSOCK", "EFAULT", "ENOSYS"],
                Then::Gone("socket_error"),
            ),
        ],
    ),
    (
        "sendmmsg",
        UDP,
        &[
            (&["EINTR"], Then::Again),
            (&["EAGAIN", "ENOBUFS", "ENOMEM"], Then::Intact),
            (
                &[
                    "ECONNREFUSED",
                    "EHOSTUNREACH",
                    "ENETUNREACH",
                    "EMSGSIZE",
                    "EPERM",
                    "EACCES",
                    "EINVAL",
                    "EIO",
                ],
                Then::Counted("socket_error"),
            ),
            (
                &["EBADF", "ENOTSOCK", "EFAULT", "ENOSYS"],
                Then::Gone("socket_error"),
            ),
        ],
    ),
];

/// All rows, in the order of [`CALLS`].
pub(crate) fn all() -> Vec<Row> {
    let mut rows = Vec::new();
    for &(call, services, groups) in CALLS {
        for &service in services {
            for &(errnos, then) in groups {
                for &errno in errnos {
                    for when in When::ALL {
                        rows.push(Row {
                            service,
                            call,
                            errno,
                            when,
                            then,
                        });
                    }
                }
            }
        }
    }
    rows
}
