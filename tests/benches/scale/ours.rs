//! Ours: real engines in the simulated world of the tests.

use std::time::Duration;

use heartbeat_core::{Config, Event, Status};
use heartbeat_sim::{Fault, NodeIndex, Shape, World};

use crate::played::{Gathered, Played, Shared};

/// A cluster without a centre whose nodes know each other.
pub(crate) fn ours(seed: u64, nodes: usize, config: Config) -> Gathered {
    let mut world = World::of(seed, Shape::large(nodes), config);
    let told = Shared::default();
    let gathered = told.clone();
    let place_of =
        |name: &str| name.rsplit_once('-').and_then(|(_, number)| Some(number.parse::<NodeIndex>().ok()? - 1));
    world.listener = Some(Box::new(move |at, by, event| match event {
        Event::Suspected { node, .. } => {
            if let Some(whom) = place_of(node) {
                gathered.borrow_mut().suspected(at, by, whom);
            }
        }
        Event::Died { node, evidence, .. } => {
            if let Some(whom) = place_of(node) {
                gathered.borrow_mut().died(at, by, whom, !evidence.is_empty());
            }
        }
        _ => {}
    }));
    Gathered::new(Box::new(Ours(world)), told, nodes)
}

struct Ours(World);

impl Played for Ours {
    fn name(&self) -> &'static str {
        "ours"
    }

    fn apply(&mut self, fault: Fault) {
        self.0.apply(fault);
    }

    fn run(&mut self, duration: Duration) {
        self.0.run(duration);
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn sent(&self) -> (u64, u64) {
        self.0.sent()
    }

    fn missing(&self, observer: NodeIndex) -> usize {
        let members = self.0.engine(observer).into_iter().flat_map(|engine| engine.members());
        members.filter(|member| matches!(member.status, Status::Dead | Status::Left)).count()
    }

    fn look_for(&mut self, _: &[NodeIndex]) {}
}
