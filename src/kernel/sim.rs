//! stub
#[derive(Debug)]
pub(crate) struct SimKernel;
