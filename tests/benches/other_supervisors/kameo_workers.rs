//! kameo's `supervise`. The queue outlives an actor, so the message that its replacement is to
//! handle lies behind the fatal one.

use std::sync::Arc;
use std::time::Duration;

use kameo::actor::{Actor, ActorRef, Spawn};
use kameo::error::Infallible;
use kameo::message::{Context, Message};
use kameo::supervision::RestartPolicy;

use crate::{Probe, Workers};

struct Supervisor;

impl Actor for Supervisor {
    type Args = ();
    type Error = Infallible;

    async fn on_start((): (), _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Supervisor)
    }
}

struct Fragile(Arc<Probe>);

impl Actor for Fragile {
    type Args = Arc<Probe>;
    type Error = Infallible;

    async fn on_start(probe: Arc<Probe>, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Fragile(probe))
    }
}

struct Panic;

impl Message<Panic> for Fragile {
    type Reply = ();

    async fn handle(&mut self, _: Panic, context: &mut Context<Self, ()>) {
        context.actor_ref().tell(Next).try_send().unwrap();
        self.0.panicking();
        panic!("as told");
    }
}

struct Next;

impl Message<Next> for Fragile {
    type Reply = ();

    async fn handle(&mut self, _: Next, context: &mut Context<Self, ()>) {
        if self.0.handled() {
            context.actor_ref().tell(Panic).try_send().unwrap();
        }
    }
}

struct Neighbour;

impl Actor for Neighbour {
    type Args = ();
    type Error = Infallible;

    async fn on_start((): (), _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Neighbour)
    }
}

struct Ask;

impl Message<Ask> for Neighbour {
    type Reply = ();

    async fn handle(&mut self, _: Ask, _: &mut Context<Self, ()>) {}
}

struct Kameo {
    /// Its children end with it.
    _supervisor: ActorRef<Supervisor>,
    fragile: Vec<ActorRef<Fragile>>,
    neighbour: ActorRef<Neighbour>,
}

impl Workers for Kameo {
    fn panic(&self, worker: usize) {
        self.fragile[worker].tell(Panic).try_send().unwrap();
    }

    async fn ask(&self) {
        self.neighbour.ask(Ask).await.unwrap();
    }
}

pub(crate) async fn start(count: usize, probe: &Arc<Probe>) -> impl Workers {
    let supervisor = Supervisor::spawn(());
    let neighbour = Neighbour::supervise(&supervisor, ()).spawn().await;
    let mut fragile = Vec::new();
    for _ in 0..count {
        let child = Fragile::supervise(&supervisor, probe.clone()).restart_policy(RestartPolicy::Permanent);
        let child = child.restart_limit(u32::MAX, Duration::from_secs(1)).spawn().await;
        child.tell(Next).await.unwrap();
        fragile.push(child);
    }
    Kameo { fragile, neighbour, _supervisor: supervisor }
}
