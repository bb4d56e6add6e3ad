//! A world of ours: a node of the test kit, our `Context`, a `WorkerAddr`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::Actor;
use heartbeat_actors::testkit::{self, TestNode};
use heartbeat_actors::worker::RestartKind;
use heartbeat_actors::{Config, Reply, SendError, WorkerSpec};

pub(crate) use heartbeat_actors::{Context, WorkerAddr as Address};

/// Where a case is played.
pub(crate) struct World {
    pub(crate) node: TestNode,
    started: AtomicU64,
    begun: tokio::time::Instant,
}

/// Plays a case.
pub(crate) fn run(case: impl AsyncFnOnce(&World)) {
    testkit::run(Config::default(), async move |node| {
        let world = World { node, started: AtomicU64::new(0), begun: tokio::time::Instant::now() };
        case(&world).await;
    });
}

impl World {
    /// A worker that is never started again, as a plain actor is not.
    pub(crate) fn start<A: Actor<Context = Context<A>> + Send>(&self, actor: A) -> Address<A> {
        self.create(move |_| actor)
    }

    pub(crate) fn create<A: Actor<Context = Context<A>>>(
        &self,
        make: impl FnOnce(&mut Context<A>) -> A + Send + 'static,
    ) -> Address<A> {
        let name = format!("actor-{}", self.started.fetch_add(1, Ordering::Relaxed));
        let once = Mutex::new(Some(make));
        let spec = WorkerSpec::new(name).restart(RestartKind::Temporary);
        let worker = self.node.root().supervise_with_context(spec, move |_, ctx| {
            let make = once.lock().unwrap().take();
            make.map(|make| make(ctx)).ok_or_else(|| "it runs once".into())
        });
        worker.unwrap()
    }

    pub(crate) async fn pass(&self, time: Duration) {
        self.node.advance(time).await;
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// An address of actix's own.
pub(crate) fn plain<A: Actor<Context = Context<A>>>(address: &Address<A>) -> actix::Addr<A> {
    address.address()
}

/// Waits at most so long for an answer; `None` if it came too late.
pub(crate) async fn within<R>(answer: Reply<R>, time: Duration) -> Option<R> {
    match answer.within(time).await {
        Ok(answer) => Some(answer),
        Err(SendError::TimedOut) => None,
        Err(error) => panic!("{error}"),
    }
}
