//! draft
use std::io;
use windlass::{Conn, Handler, Input, ListenerId, Reactor};

struct Echo;
impl Handler for Echo {
    type Session = ();
    fn on_accept(&mut self, _: &mut Conn<'_>, _: ListenerId) -> io::Result<()> {
        Ok(())
    }
    fn on_read(
        &mut self,
        conn: &mut Conn<'_>,
        _: &mut (),
        input: &mut Input<'_>,
    ) -> io::Result<()> {
        conn.write(input.take_all());
        Ok(())
    }
}
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut reactor = Reactor::new(Echo)?;
    let id = reactor.listen(
        std::env::args()
            .nth(1)
            .as_deref()
            .unwrap_or("127.0.0.1:3000"),
    )?;
    println!(
        "listening on {}",
        reactor.listener(id).unwrap().local_addr()
    );
    reactor.run()?;
    Ok(())
}
