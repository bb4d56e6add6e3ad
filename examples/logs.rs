//! The log of a panic, a hang, a storm and a death, made by real nodes.
//!
//! cargo run --example logs
//! cargo run --example logs -- --json

use std::process::{Child, Command};
use std::time::Duration;

use actix::prelude::*;
use heartbeat_actors::{Config, Context, Event, Node, Update, WorkerSpec};
use tokio::sync::mpsc;
use tracing::Level;

/// Workers that fail at once.
const STORM: usize = 500;

struct Printer;

impl Actor for Printer {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Print;

impl Handler<Print> for Printer {
    type Result = ();

    fn handle(&mut self, _: Print, _: &mut Context<Self>) {
        panic!("the printer is out of paper");
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Load;

impl Handler<Load> for Printer {
    type Result = ();

    fn handle(&mut self, _: Load, _: &mut Context<Self>) {
        std::thread::sleep(Duration::from_secs(4)); // a call that blocks
    }
}

fn config(node: &str, seed: Option<&str>) -> Result<Config, Box<dyn std::error::Error>> {
    let seeds = seed.map(|seed| format!("'{seed}'")).unwrap_or_default();
    Ok(Config::from_toml(&format!(
        "interval = '200ms'
         timeout = '2s'
         [workers]
         timeout = '2s'
         [cluster]
         name = 'orders'
         node = '{node}'
         role = 'worker'
         mode = 'random'
         listen = '127.0.0.1:0'
         seeds = [{seeds}]"
    ))?)
}

/// A process that is killed when this is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill(); // It may have ended already.
        let _ = self.0.wait();
    }
}

/// Waits for an event.
async fn until(events: &mut mpsc::UnboundedReceiver<Event>, is: impl Fn(&Event) -> bool) {
    while let Some(event) = events.recv().await {
        if is(&event) {
            return;
        }
    }
}

#[actix::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [member, seed] = &arguments[..]
        && member == "--member"
    {
        let _node = Node::start(config("node-2", Some(seed))?).await?;
        return std::future::pending().await; // until it is killed
    }
    // ANCHOR: subscriber
    let subscriber = tracing_subscriber::fmt().with_max_level(Level::INFO).with_target(false);
    if arguments.iter().any(|argument| argument == "--json") {
        subscriber.json().flatten_event(true).init();
    } else {
        subscriber.with_ansi(false).init();
    }
    // ANCHOR_END: subscriber
    std::panic::set_hook(Box::new(|_| {})); // the log has each panic of a worker

    let node = Node::start(config("node-1", None)?).await?;
    let (sender, mut events) = mpsc::unbounded_channel();
    node.subscribe_fn("log", move |update| {
        if let Update::Event(event) = update {
            let _ = sender.send(event); // The program may be ending.
        }
    });
    let printer = node.supervise("printer", || Printer)?;
    let _ = printer.send(Print).await; // It panics.
    let _ = printer.send(Load).await; // It hangs.
    until(&mut events, |event| matches!(event, Event::Replaced { generation, .. } if generation.0 == 3)).await;

    let seed = node.address().ok_or("the node has no address")?.to_string();
    let member = Killed(Command::new(std::env::current_exe()?).args(["--member", &seed]).spawn()?);
    until(&mut events, |event| matches!(event, Event::Joined { .. })).await;
    tokio::time::sleep(Duration::from_secs(2)).await; // They watch each other by now.
    drop(member);
    until(&mut events, |event| matches!(event, Event::Died { .. })).await;

    for number in 0..STORM {
        let name = format!("copier-{number}");
        node.supervise_with(WorkerSpec::new(name), |_| Ok(Printer))?.do_send(Print);
    }
    tokio::time::sleep(Duration::from_secs(11)).await; // Then the log says how much it left out.
    node.leave().await;
    Ok(())
}
