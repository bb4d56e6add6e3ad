//! The shortest honest program: one supervised worker that survives its own panic.
//!
//! cargo run --release --example hello

use actix::prelude::*;
use heartbeat_actors::{Config, Context, Node};

struct Counter {
    total: u64,
}

impl Actor for Counter {
    type Context = Context<Self>; // the one word that differs from plain actix
}

#[derive(Message)]
#[rtype(result = "u64")]
struct Add(u64);

impl Handler<Add> for Counter {
    type Result = u64;

    fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 {
        self.total = self.total.checked_add(add.0).expect("the total overflows");
        self.total
    }
}

#[actix::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let node = Node::start(Config::default()).await?;
    let counter = node.supervise("counter", || Counter { total: 0 })?; // makes each replacement, too

    println!("the total is {}", counter.send(Add(2)).await?);
    match counter.send(Add(u64::MAX)).await {
        Ok(total) => println!("the total is {total}"),
        Err(error) => println!("the counter panicked, so: {error}"),
    }
    println!("same address, a fresh counter: {}", counter.send(Add(40)).await?);
    println!("it is in its life number {}", counter.generation().0);

    node.leave().await;
    Ok(())
}
