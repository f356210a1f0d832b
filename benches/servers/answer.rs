//! What a server answers, for the loops that have no interface of their own.

/// What to send for what came. The loop keeps one for all connections, or, where tasks and
/// threads share nothing, a clone for each.
pub(crate) trait Answer: Clone + Send + 'static {
    /// What is remembered about a connection between two receives.
    type Session: Default + Send;

    /// The bytes to send for `input`, which is what one receive brought.
    fn answer<'a>(&'a mut self, session: &mut Self::Session, input: &'a [u8]) -> &'a [u8];

    /// What every other connection is to be sent because of that; told once.
    fn for_others(&mut self) -> Vec<u8> {
        Vec::new()
    }
}
