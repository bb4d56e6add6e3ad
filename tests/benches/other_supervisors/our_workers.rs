//! Our own workers. The queue outlives a worker, so the message that its replacement is to handle
//! lies behind the fatal one.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use heartbeat_actors::worker::Placement;
use heartbeat_actors::{Config, Context, Node, WorkerAddr, WorkerSpec};

use crate::{Probe, Workers};

struct Fragile(Arc<Probe>);

#[derive(Message)]
#[rtype(result = "()")]
struct Panic;

#[derive(Message)]
#[rtype(result = "()")]
struct Next;

impl Actor for Fragile {
    type Context = Context<Self>;
}

impl Handler<Panic> for Fragile {
    type Result = ();

    fn handle(&mut self, _: Panic, context: &mut Context<Self>) {
        context.worker().try_send(Next).unwrap();
        self.0.panicking();
        panic!("as told");
    }
}

impl Handler<Next> for Fragile {
    type Result = ();

    fn handle(&mut self, _: Next, context: &mut Context<Self>) {
        if self.0.handled() {
            context.worker().try_send(Panic).unwrap();
        }
    }
}

struct Neighbour;

#[derive(Message)]
#[rtype(result = "()")]
struct Ask;

impl Actor for Neighbour {
    type Context = Context<Self>;
}

impl Handler<Ask> for Neighbour {
    type Result = ();

    fn handle(&mut self, _: Ask, _: &mut Context<Self>) {}
}

struct Ours {
    /// The node goes when its last handle goes.
    _node: Node,
    fragile: Vec<WorkerAddr<Fragile>>,
    neighbour: WorkerAddr<Neighbour>,
}

impl Workers for Ours {
    fn panic(&self, worker: usize) {
        self.fragile[worker].try_send(Panic).unwrap();
    }

    async fn ask(&self) {
        self.neighbour.send(Ask).await.unwrap();
    }
}

/// With `is_apart` the neighbour has a thread of its own.
pub(crate) async fn start(count: usize, is_apart: bool, probe: &Arc<Probe>) -> impl Workers {
    let node = Node::start(Config::default()).await.unwrap();
    let placement = if is_apart { Placement::Dedicated } else { Placement::Shared };
    let neighbour = node.supervise_with(WorkerSpec::new("neighbour").placement(placement), |_| Ok(Neighbour)).unwrap();
    let start = |index| {
        let spec = WorkerSpec::new(format!("fragile-{index}"));
        let spec = spec.intensity(u32::MAX, Duration::from_secs(1)).delay(Duration::ZERO, Duration::ZERO);
        let probe = probe.clone();
        let fragile: WorkerAddr<Fragile> = node.supervise_with(spec, move |_| Ok(Fragile(probe.clone()))).unwrap();
        fragile.try_send(Next).unwrap();
        fragile
    };
    let fragile = (0..count).map(start).collect();
    Ours { fragile, neighbour, _node: node }
}
