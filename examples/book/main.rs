//! The code of the book's chapters for actix users, compiled and run.
//! `cargo test -p heartbeat-examples --example book` runs it as tests.

#[cfg(test)]
mod plain;
mod web;

// ANCHOR: worker
use heartbeat_actors::prelude::*; // instead of actix::prelude::*

struct Counter {
    total: u64,
}

impl Actor for Counter {
    type Context = Context<Self>; // heartbeat's now
}

#[derive(Message, Clone)]
#[rtype(result = "u64")]
struct Add(u64);

impl Handler<Add> for Counter {
    type Result = u64;

    fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 {
        assert!(add.0 < 1_000, "too much for one day");
        self.total += add.0;
        self.total
    }
}
// ANCHOR_END: worker

#[actix_rt::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    web::serve(Config::default(), ("127.0.0.1", 8080)).await
}
