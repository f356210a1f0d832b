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
        /// `listen tcp :80: prepare: operation not permitted`. It is not called for adopted
        /// sockets, nor in a simulated world, where there is no descriptor.
        pub fn prepare(
            mut self,
            act: impl Fn(std::os::fd::BorrowedFd<'_>) -> std::io::Result<()> + Send + Sync + 'static,
        ) -> Self {
            self.$($field).+ = Some($crate::kernel::Prepare::new(act));
            self
        }
    };
}

pub(crate) use prepare_option;
pub(crate) use stream_options;
