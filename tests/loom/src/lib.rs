//! The mailbox alone: `src/handle.rs` as it is, among the least that it needs to compile.
//!
//! Nothing here is called: a post is moved and dropped, and none is run.

#![cfg(all(test, windlass_loom))]
#![allow(dead_code, reason = "the rest of that room is not what is modelled")]
#![allow(rustdoc::broken_intra_doc_links)]

#[path = "../../../src/faults.rs"]
mod faults;
#[path = "../../../src/handle.rs"]
mod handle;
mod model;

/// What takes the place of the standard library's.
mod sync {
    use loom::sync::atomic::{self, Ordering};

    pub(crate) use loom::sync::{Mutex, MutexGuard};

    /// A flag whose stores are exchanges.
    ///
    /// An exchange takes its place in the order of modification right behind what it has
    /// read. Loom 0.7 forgets that when a plain store of another thread comes later, and lets a
    /// third thread's exchange read what the first one wrote, as if the store had never been.
    /// Where all are exchanges it keeps their order.
    #[derive(Debug)]
    pub(crate) struct AtomicBool(atomic::AtomicBool);

    impl AtomicBool {
        pub(crate) fn new(value: bool) -> Self {
            Self(atomic::AtomicBool::new(value))
        }

        pub(crate) fn load(&self, order: Ordering) -> bool {
            self.0.load(order)
        }

        pub(crate) fn store(&self, value: bool, order: Ordering) {
            self.0.swap(value, order);
        }

        pub(crate) fn swap(&self, value: bool, order: Ordering) -> bool {
            self.0.swap(value, order)
        }
    }
}

mod context {
    use std::marker::PhantomData;

    pub(crate) struct Context<'a>(PhantomData<&'a mut ()>);
    pub(crate) struct Conn<'a>(PhantomData<&'a mut ()>);
}

mod handler {
    pub trait Handler {
        type Session;
    }
}

mod kernel {
    pub(crate) trait Wake: Send + Sync {
        fn wake(&self);
    }
}

mod token {
    #[derive(Clone, Copy)]
    pub struct ConnId;

    #[derive(Clone, Copy, Default)]
    pub struct Owner(pub u16);
}
