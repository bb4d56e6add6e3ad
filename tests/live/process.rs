//! A node in a process of its own, for the live tests: reads its config from a file, tells its events as JSON lines, and leaves when its input
//! ends or it is interrupted.

use std::io::Read;

use actix::prelude::*;
use actix_rt::signal::unix::{SignalKind, signal};
use heartbeat_actors::{Config, Context, Node, Update};

struct Idle;

impl Actor for Idle {
    type Context = Context<Self>;
}

struct Teller;

impl Actor for Teller {
    type Context = actix::Context<Self>;
}

impl Handler<Update> for Teller {
    type Result = ();

    fn handle(&mut self, update: Update, _: &mut Self::Context) {
        if let Update::Event(event) = update {
            match serde_json::to_string(&event) {
                Ok(line) => println!("{line}"),
                Err(error) => eprintln!("an event has no JSON: {error}"),
            }
        }
    }
}

#[actix::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Before anything else, so that an interrupt during the start is a way to leave, too.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let path = std::env::args().nth(1).ok_or("usage: node CONFIG")?;
    let node = Node::start(Config::from_toml(&std::fs::read_to_string(path)?)?).await?;
    node.subscribe(Teller.start().recipient());
    node.supervise("idle", || Idle)?;
    node.supervise_shards("orders", 8, |_| Ok(Idle))?;
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut rest = Vec::new();
        // An error is an end as well: whoever held the other side is gone.
        let _ = std::io::stdin().read_to_end(&mut rest);
        let _ = ended.send(());
    });
    tokio::select! {
        _ = end => {}
        _ = interrupt.recv() => {}
    }
    node.leave().await;
    Ok(())
}
