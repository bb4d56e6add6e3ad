//! A world of plain actix: its System in virtual time, its `Context`, its `Addr`.

use std::time::Duration;

use actix::dev::{Request, ToEnvelope};
use actix::{Actor, Handler, Message};

pub(crate) use actix::{Addr as Address, Context};

/// Where a case is played.
pub(crate) struct World {
    begun: tokio::time::Instant,
}

/// Plays a case.
pub(crate) fn run(case: impl AsyncFnOnce(&World)) {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().unwrap()
    };
    actix::System::with_tokio_rt(runtime).block_on(async {
        let world = World { begun: tokio::time::Instant::now() };
        case(&world).await;
    });
}

impl World {
    pub(crate) fn start<A: Actor<Context = Context<A>> + Send>(&self, actor: A) -> Address<A> {
        actor.start()
    }

    pub(crate) fn create<A: Actor<Context = Context<A>>>(
        &self,
        make: impl FnOnce(&mut Context<A>) -> A + Send + 'static,
    ) -> Address<A> {
        A::create(make)
    }

    pub(crate) async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
        for _ in 0..256 {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// An address of actix's own.
pub(crate) fn plain<A: Actor<Context = Context<A>>>(address: &Address<A>) -> actix::Addr<A> {
    address.clone()
}

/// Waits at most so long for an answer; `None` if it came too late.
pub(crate) async fn within<A, M>(answer: Request<A, M>, time: Duration) -> Option<M::Result>
where
    A: Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message + Send + Unpin + 'static,
    M::Result: Send,
{
    match answer.timeout(time).await {
        Ok(answer) => Some(answer),
        Err(actix::MailboxError::Timeout) => None,
        Err(error) => panic!("{error}"),
    }
}
