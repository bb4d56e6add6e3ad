//! A worker that panics, blocks its thread, awaits without end, stops, and panics too often, with
//! the events as they happen.
//!
//! cargo run --release --example restart

use std::time::{Duration, Instant};

use actix::prelude::*;
use heartbeat_actors::event::{Cause, dead_letters};
use heartbeat_actors::group::{GroupSpec, Strategy};
use heartbeat_actors::{Config, Context, Event, Node, SendError, Update, WorkerAddr};

/// Fails in the way that the message names.
struct Victim;

impl Actor for Victim {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Panic;

#[derive(Message)]
#[rtype(result = "()")]
struct Block(Duration);

#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

#[derive(Message)]
#[rtype(result = "()")]
struct Wait;

#[derive(Message)]
#[rtype(result = "u64")]
struct WhichLife;

impl Handler<Panic> for Victim {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        panic!("told to panic");
    }
}

impl Handler<Block> for Victim {
    type Result = ();

    fn handle(&mut self, block: Block, _: &mut Context<Self>) {
        std::thread::sleep(block.0);
    }
}

impl Handler<Wait> for Victim {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, _: Wait, _: &mut Context<Self>) -> Self::Result {
        AtomicResponse::new(Box::pin(std::future::pending().into_actor(self)))
    }
}

impl Handler<Stop> for Victim {
    type Result = ();

    fn handle(&mut self, _: Stop, context: &mut Context<Self>) {
        context.stop();
    }
}

impl Handler<WhichLife> for Victim {
    type Result = u64;

    fn handle(&mut self, _: WhichLife, context: &mut Context<Self>) -> u64 {
        context.generation().0
    }
}

/// Prints events with the time since the start, in seconds.
struct Printer {
    start: Instant,
}

impl Actor for Printer {
    type Context = actix::Context<Self>;
}

impl Handler<Update> for Printer {
    type Result = ();

    fn handle(&mut self, update: Update, _: &mut actix::Context<Self>) {
        let line = match update {
            Update::Event(Event::Started { worker, .. }) => format!("{worker} runs"),
            Update::Event(Event::Failed { worker, cause, restart_in, .. }) => match restart_in {
                Some(pause) => format!("{worker} failed: {cause}; starts again in {pause:.0?}"),
                None => format!("{worker} failed: {cause}; is not started again"),
            },
            Update::Event(Event::Replaced { worker, generation, cause, after, .. }) => {
                let since = match cause {
                    Cause::Blocked { .. } => "after it blocked",
                    Cause::AwaitStuck { .. } => "after messages began to wait",
                    Cause::Sibling { .. } => "after its sibling failed",
                    _ => "after the failure",
                };
                format!("{worker} is replaced: life {} runs {after:.1?} {since}", generation.0)
            }
            Update::Event(Event::GaveUp { worker, restarts, .. }) => {
                format!("{worker} is given up after {restarts} restarts")
            }
            Update::Event(Event::ThreadHeld { arbiter, by, waiting, .. }) => {
                let waiting: Vec<&str> = waiting.iter().map(|waiting| &*waiting.worker).collect();
                format!("thread {} is held by {}; waiting for it: {waiting:?}", arbiter.0, by.as_deref().unwrap_or("?"))
            }
            Update::Event(Event::ThreadReturned { arbiter, held_for, .. }) => {
                format!("thread {} came back after {held_for:.1?}; the workers that waited go on", arbiter.0)
            }
            Update::Event(Event::NotReady { worker, reason, .. }) => format!("{worker} is not ready: {reason:?}"),
            Update::Event(Event::Ready { worker, .. }) => format!("{worker} is ready again"),
            Update::Event(Event::ZombieEnded { arbiter, zombies }) => {
                format!("thread {} came back, handled nothing, and ended; zombies: {zombies}", arbiter.0)
            }
            Update::Event(Event::Stopped { worker, .. }) => format!("{worker} stopped"),
            Update::Event(Event::GroupStarted { group, .. }) => format!("the group {group} is up"),
            Update::Event(Event::GroupStopped { group }) => format!("the group {group} stopped"),
            Update::Event(other) => format!("{other:?}"),
            Update::View(_) | Update::Lagged { .. } => return,
            _ => return,
        };
        println!("{:8.3}  {line}", self.start.elapsed().as_secs_f64());
    }
}

/// Prints what is done next or was answered, after the events of what came before have had time to
/// be printed.
async fn step(start: Instant, text: impl Into<String>) {
    let (at, text) = (start.elapsed().as_secs_f64(), text.into());
    actix_rt::time::sleep(Duration::from_millis(20)).await;
    println!("{at:8.3}  -- {text}");
}

/// The sender's result.
fn told<R>(result: Result<R, SendError>) -> String {
    match result {
        Ok(_) => "the sender got an answer".to_owned(),
        Err(error) => format!("the sender is told: {error}"),
    }
}

/// Two workers that are started and stopped together.
async fn together(node: &Node, start: Instant) -> Result<(), Box<dyn std::error::Error>> {
    step(start, "two that only make sense together: one of them panics").await;
    let pair = node.root().group(GroupSpec::new("pair").strategy(Strategy::OneForAll))?;
    let (left, right) = (pair.supervise("left", || Victim)?, pair.supervise("right", || Victim)?);
    let _ = (left.send(WhichLife).await?, right.send(Panic).await);
    let lives = (left.send(WhichLife).await?, right.send(WhichLife).await?);
    step(start, format!("both have a new life: {} and {}", lives.0, lives.1)).await;
    Ok(())
}

#[actix::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The panics below are meant; their back traces would only hide the events.
    std::panic::set_hook(Box::new(|_| {}));
    let config = Config::from_toml(
        "[workers]
         arbiters = 1
         interval = '100ms'
         timeout = '500ms'
         await_timeout = '1s'
         scan = '100ms'
         [restart]
         intensity = 4
         delay_min = '50ms'",
    )?;
    println!("{}\n", config.check()?);

    let start = Instant::now();
    let node = Node::start(config).await?;
    node.subscribe(Printer { start }.start().recipient());
    let victim: WorkerAddr<Victim> = node.supervise("victim", || Victim)?;
    let neighbour: WorkerAddr<Victim> = node.supervise("neighbour", || Victim)?;
    neighbour.send(WhichLife).await?;

    step(start, "a panic, and a message queued behind it").await;
    let (panicked, queued) = (victim.send(Panic), victim.send(WhichLife));
    let (panicked, life) = (panicked.await, queued.await?);
    step(start, told(panicked)).await;
    step(start, format!("the queued message was answered, by life {life}")).await;

    step(start, "a handler that sleeps for two seconds, and a message queued behind it").await;
    let (blocked, queued) = (victim.send(Block(Duration::from_secs(2))), victim.send(WhichLife));
    step(start, told(blocked.await)).await;
    let life = queued.await?;
    step(start, format!("the queued message was answered, by life {life}, while life 2 still sleeps")).await;
    let life = neighbour.send(WhichLife).await?;
    step(start, format!("the neighbour waited for its thread: life {life} answers, with all that it had")).await;
    actix_rt::time::sleep(Duration::from_millis(200)).await; // The thread gives its next sign of life meanwhile.

    step(start, "a future that never ends is waited for, and a message is queued behind it").await;
    let (waiting, queued) = (victim.send(Wait), victim.send(WhichLife));
    step(start, told(waiting.await)).await;
    let life = queued.await?;
    step(start, format!("the queued message was answered, by life {life}")).await;

    step(start, "a clean stop; a permanent worker comes back from that, too").await;
    victim.send(Stop).await?;
    let life = victim.send(WhichLife).await?;
    step(start, format!("life {life} answers")).await;

    step(start, "panic upon panic, until it is given up").await;
    while victim.try_send(Panic).is_ok() {
        actix_rt::time::sleep(Duration::from_millis(20)).await;
    }
    step(start, told(victim.send(WhichLife).await)).await;

    together(&node, start).await?;

    step(start, "leaving: everything is stopped, the last one first").await;
    node.leave().await;
    step(start, "left").await;
    println!("\nmessages that nobody handled, by type:");
    for (message, count) in dead_letters() {
        println!("  {count:3} {message}");
    }
    Ok(())
}
