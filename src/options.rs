//! The options of a stream that accepted and dialed connections have alike, as builders
//! offer them.

use crate::kernel::{Keepalive, StreamOptions};

/// What a stream has unless somebody asks for something else: Go's defaults.
pub(crate) fn of_a_stream() -> StreamOptions {
    StreamOptions {
        nodelay: Some(true),
        keepalive: Some(Keepalive::default()),
        ..StreamOptions::default()
    }
}

/// The four setters of a builder with a field `options: StreamOptions`.
macro_rules! stream_options {
    ($whose:literal) => {
        #[doc = concat!("TCP_NODELAY for ", $whose, ". Default: on, as in Go. Unix sockets have no such option.")]
        pub fn nodelay(mut self, on: bool) -> Self {
            self.options.nodelay = Some(on);
            self
        }

        #[doc = concat!("Keep-alive probing for ", $whose, ", on TCP. Default: [`Keepalive::default`].")]
        pub fn keepalive(mut self, keepalive: Option<Keepalive>) -> Self {
            self.options.keepalive = keepalive;
            self
        }

        #[doc = concat!("SO_RCVBUF of ", $whose, ", in bytes; the kernel rounds. Default: the system's.")]
        pub fn receive_buffer(mut self, bytes: usize) -> Self {
            self.options.receive_buffer = Some(bytes);
            self
        }

        #[doc = concat!("SO_SNDBUF of ", $whose, ", in bytes; the kernel rounds. Default: the system's.")]
        pub fn send_buffer(mut self, bytes: usize) -> Self {
            self.options.send_buffer = Some(bytes);
            self
        }
    };
}

/// The setter of a builder with a field `prepare: Option<Prepare>`.
macro_rules! prepare_option {
    ($($field:ident).+) => {
        /// Has `act` do to the socket what this crate has no option for (SO_BINDTODEVICE,
        /// IP_TRANSPARENT, TCP_FASTOPEN, SO_MARK, …): after its other options are set, before
        /// it is bound or connected, once for each socket that is made. It runs on the loop's
        /// thread and must not block. Go's `Control`.
        ///
        /// An error of its comes out where that of the system call would, as in
        /// `listen tcp :80: prepare: operation not permitted`; a panic is counted, and EIO,
        /// unless [`PanicPolicy::Propagate`](crate::PanicPolicy::Propagate) says otherwise. It
        /// is not called for adopted sockets, nor in a simulated world, where there is no
        /// descriptor.
        pub fn prepare(
            mut self,
            act: impl Fn(std::os::fd::BorrowedFd<'_>) -> std::io::Result<()> + Send + Sync + 'static,
        ) -> Self {
            self.$($field).+ = Some($crate::kernel::Prepare::new(act));
            self
        }
    };
}

/// The setter of a builder with a field `layers: Option<Layers>`.
macro_rules! layer_option {
    ($whose:literal) => {
        #[doc = concat!("Puts a [`Layer`](crate::Layer) between the wire and the handler of ", $whose, ": `make` is called once for each, on the loop's thread, after the handler has taken it, and must not block.")]
        ///
        /// An error of its resets the connection, with
        /// [`CloseReason::Layer`](crate::CloseReason::Layer). Records (network `unixpacket`)
        /// have no layers: the connection ends in the same way.
        pub fn layer(
            mut self,
            make: impl Fn() -> std::io::Result<Box<dyn crate::Layer>> + Send + Sync + 'static,
        ) -> Self {
            self.layers = Some(Layers::new(make));
            self
        }
    };
}

/// A builder that is made from a `&str` is made from a `String` as well.
macro_rules! owned_text {
    ($builder:ident) => {
        impl TryFrom<String> for $builder {
            type Error = Error;

            fn try_from(text: String) -> Result<Self, Error> {
                Self::try_from(text.as_str())
            }
        }

        impl TryFrom<&String> for $builder {
            type Error = Error;

            fn try_from(text: &String) -> Result<Self, Error> {
                Self::try_from(text.as_str())
            }
        }
    };
}

pub(crate) use layer_option;
pub(crate) use owned_text;
pub(crate) use prepare_option;
pub(crate) use stream_options;
