//! ractor's linked actors, started anew by a supervisor of our own as its examples show. The queue
//! is lost with an actor, so the replacement sends itself the message it is to handle, as early as
//! there is a queue to put it in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};

use crate::{Probe, Workers};

/// The actor that is to panic: each actor puts itself here when it starts.
type Present = Arc<[Mutex<Option<ActorRef<Order>>>]>;

/// The arguments of an actor at its start.
#[derive(Clone)]
struct Post {
    index: usize,
    probe: Arc<Probe>,
    present: Present,
}

enum Order {
    Panic,
    Next,
}

struct Fragile;

impl Actor for Fragile {
    type Msg = Order;
    type State = Arc<Probe>;
    type Arguments = Post;

    async fn pre_start(&self, myself: ActorRef<Order>, post: Post) -> Result<Arc<Probe>, ActorProcessingErr> {
        myself.cast(Order::Next)?;
        *post.present[post.index].lock().unwrap() = Some(myself);
        Ok(post.probe)
    }

    async fn handle(
        &self,
        myself: ActorRef<Order>,
        order: Order,
        probe: &mut Arc<Probe>,
    ) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Panic => {
                probe.panicking();
                panic!("as told");
            }
            Order::Next if probe.handled() => myself.cast(Order::Panic)?,
            Order::Next => {}
        }
        Ok(())
    }
}

/// Starts all, and each that has failed anew.
struct Supervisor;

/// Who is where.
struct Roster {
    any: Post,
    posts: HashMap<ActorId, usize>,
}

impl Roster {
    async fn fill(&mut self, index: usize, supervisor: ActorCell) -> Result<(), ActorProcessingErr> {
        let post = Post { index, ..self.any.clone() };
        let (actor, _) = Actor::spawn_linked(None, Fragile, post, supervisor).await?;
        self.posts.insert(actor.get_id(), index);
        Ok(())
    }
}

impl Actor for Supervisor {
    type Msg = ();
    type State = Roster;
    type Arguments = Post;

    async fn pre_start(&self, myself: ActorRef<()>, any: Post) -> Result<Roster, ActorProcessingErr> {
        let count = any.present.len();
        let mut roster = Roster { any, posts: HashMap::new() };
        for index in 0..count {
            roster.fill(index, myself.get_cell()).await?;
        }
        Ok(roster)
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<()>,
        event: SupervisionEvent,
        roster: &mut Roster,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(actor, _) = event
            && let Some(index) = roster.posts.remove(&actor.get_id())
        {
            roster.fill(index, myself.get_cell()).await?;
        }
        Ok(())
    }
}

struct Neighbour;

impl Actor for Neighbour {
    type Msg = RpcReplyPort<()>;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<RpcReplyPort<()>>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<RpcReplyPort<()>>,
        port: RpcReplyPort<()>,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(port.send(())?)
    }
}

struct Ractor {
    present: Present,
    neighbour: ActorRef<RpcReplyPort<()>>,
}

impl Workers for Ractor {
    fn panic(&self, worker: usize) {
        self.present[worker].lock().unwrap().as_ref().unwrap().cast(Order::Panic).unwrap();
    }

    async fn ask(&self) {
        self.neighbour.call(|port| port, None).await.unwrap().unwrap();
    }
}

pub(crate) async fn start(count: usize, probe: &Arc<Probe>) -> impl Workers {
    let present: Present = (0..count).map(|_| Mutex::new(None)).collect();
    let any = Post { index: 0, probe: probe.clone(), present: present.clone() };
    Actor::spawn(None, Supervisor, any).await.unwrap();
    let (neighbour, _) = Actor::spawn(None, Neighbour, ()).await.unwrap();
    Ractor { present, neighbour }
}
