//! A trivial layer between wire and handler, for tests: every byte XORed.
//!
//! It shows that bytes pass between wire and handler at one place each way
//! (`Connection::receive` and `Connection::send`): with it in place echo, close, half-close
//! and backpressure hold, and the handler does not know.

/// XORs every byte with one key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Xor(pub(crate) u8);

impl Xor {
    /// The wire's form of plain bytes.
    pub(crate) fn wire(self, plain: &[u8]) -> Vec<u8> {
        plain.iter().map(|byte| byte ^ self.0).collect()
    }
}

/// Turns what came from the wire into plain bytes.
pub(crate) fn apply(layer: Option<&Xor>, wire: &mut [u8]) {
    if let Some(layer) = layer {
        for byte in wire {
            *byte ^= layer.0;
        }
    }
}
