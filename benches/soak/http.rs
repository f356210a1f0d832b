//! The handler of the `http` example.

#[path = "../../examples/http/pages.rs"]
pub(crate) mod pages;
#[path = "../../examples/http/request.rs"]
pub(crate) mod request;
#[path = "../../examples/http/server.rs"]
pub(crate) mod server;
