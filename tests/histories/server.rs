//! The worker that histories send to: it answers in the manner that the message asks for, and each
//! message is counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::dev::{MessageResponse, OneshotSender};
use actix::fut::wrap_future;
use actix::prelude::*;
use heartbeat_actors::{Context, WorkerAddr};

use super::MEANT;

/// How a message is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// When its handler returns.
    Now,
    /// By a future beside other messages.
    Later(Duration),
    /// By a future that other messages wait for.
    Atomic(Duration),
    /// When its handler returns, which has a future of its own waited for.
    Wait(Duration),
    /// When the next worker has answered a message.
    Forward,
    /// Its handler panics.
    Panic,
    /// Its future panics.
    PanicLater(Duration),
    /// When its handler returns, which stops the worker.
    Stop,
    /// When its handler returns, which ends the worker.
    Terminate,
    /// Not at all: its handler drops the means to answer.
    Never,
}

impl Manner {
    /// The same manner, faster.
    pub fn scaled(self, scale: u32) -> Manner {
        match self {
            Manner::Later(time) => Manner::Later(time / scale),
            Manner::Atomic(time) => Manner::Atomic(time / scale),
            Manner::Wait(time) => Manner::Wait(time / scale),
            Manner::PanicLater(time) => Manner::PanicLater(time / scale),
            Manner::Now | Manner::Forward | Manner::Panic | Manner::Stop | Manner::Terminate | Manner::Never => self,
        }
    }
}

/// What all workers of a history share.
#[derive(Default)]
pub struct Ledger {
    /// Messages that have not been dropped.
    alive: AtomicU64,
    /// Messages that a worker has sent to another one.
    pub forwarded: AtomicU64,
    /// Plain addresses, by the index of the worker.
    plain: Mutex<Vec<Option<Addr<Server>>>>,
    /// The worker to which each worker forwards.
    next: Mutex<Vec<Option<WorkerAddr<Server>>>>,
}

impl Ledger {
    /// Messages that are somewhere still.
    pub fn alive(&self) -> u64 {
        self.alive.load(Ordering::Acquire)
    }

    /// A plain address of this worker, once it has run.
    pub fn plain(&self, index: usize) -> Option<Addr<Server>> {
        self.plain.lock().unwrap_or_else(PoisonError::into_inner).get(index)?.clone()
    }

    /// Has worker `index` forward to this one.
    pub fn set_next(&self, index: usize, next: WorkerAddr<Server>) {
        put(&self.next, index, next);
    }

    /// Drops all addresses.
    pub fn clear(&self) {
        self.plain.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.next.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn next(&self, index: usize) -> Option<WorkerAddr<Server>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).get(index)?.clone()
    }
}

fn put<T>(list: &Mutex<Vec<Option<T>>>, index: usize, value: T) {
    let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
    while list.len() <= index {
        list.push(None);
    }
    list[index] = Some(value);
}

/// A message.
pub struct Ask {
    manner: Manner,
    ledger: Arc<Ledger>,
}

impl Ask {
    /// A message that is to be answered in this manner.
    pub fn new(manner: Manner, ledger: &Arc<Ledger>) -> Ask {
        ledger.alive.fetch_add(1, Ordering::AcqRel);
        Ask { manner, ledger: ledger.clone() }
    }
}

impl Drop for Ask {
    fn drop(&mut self) {
        self.ledger.alive.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Message for Ask {
    type Result = u64;
}

/// A worker that answers.
pub struct Server {
    index: usize,
    ledger: Arc<Ledger>,
}

impl Server {
    /// Worker `index` of a history; the largest number is none of them.
    pub fn new(index: usize, ledger: &Arc<Ledger>) -> Server {
        Server { index, ledger: ledger.clone() }
    }
}

impl Actor for Server {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if self.index != usize::MAX {
            put(&self.ledger.plain, self.index, ctx.address());
        }
    }
}

/// An answer in any manner.
pub enum Response {
    /// At once.
    Now(u64),
    /// By a future.
    Later(ResponseActFuture<Server, u64>),
    /// By a future that other messages wait for.
    Atomic(AtomicResponse<Server, u64>),
    /// None.
    Never,
}

impl MessageResponse<Server, Ask> for Response {
    fn handle(self, ctx: &mut Context<Server>, answer: Option<OneshotSender<u64>>) {
        match self {
            Response::Now(value) => MessageResponse::<Server, Ask>::handle(value, ctx, answer),
            Response::Later(future) => MessageResponse::<Server, Ask>::handle(future, ctx, answer),
            Response::Atomic(future) => MessageResponse::<Server, Ask>::handle(future, ctx, answer),
            Response::Never => drop(answer),
        }
    }
}

impl Handler<Ask> for Server {
    type Result = Response;

    fn handle(&mut self, ask: Ask, ctx: &mut Context<Self>) -> Response {
        let pause = |time| wrap_future::<_, Server>(tokio::time::sleep(time));
        match ask.manner {
            Manner::Now => {}
            Manner::Later(time) => return Response::Later(Box::pin(pause(time).map(|(), _, _| 1))),
            Manner::Atomic(time) => {
                return Response::Atomic(AtomicResponse::new(Box::pin(pause(time).map(|(), _, _| 1))));
            }
            Manner::Wait(time) => pause(time).wait(ctx),
            Manner::Forward => {
                let Some(next) = self.ledger.next(self.index) else { return Response::Now(0) };
                self.ledger.forwarded.fetch_add(1, Ordering::AcqRel);
                let answer = next.send(Ask::new(Manner::Now, &self.ledger));
                return Response::Later(Box::pin(wrap_future(async move { answer.await.unwrap_or(0) })));
            }
            Manner::Panic => panic!("{MEANT} fail"),
            Manner::PanicLater(time) => {
                return Response::Later(Box::pin(pause(time).map(|(), _, _| panic!("{MEANT} fail later"))));
            }
            Manner::Stop => ctx.stop(),
            Manner::Terminate => ctx.terminate(),
            Manner::Never => return Response::Never,
        }
        Response::Now(1)
    }
}
