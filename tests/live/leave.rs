//! A node that leaves while several threads send to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::fut::wrap_future;
use actix::prelude::*;
use heartbeat_actors::worker::Placement;
use heartbeat_actors::{Context, Node, SendError, WorkerAddr, WorkerSpec};

use crate::{config, live};

/// Answers at once, later, or later and alone.
struct Served;

impl Actor for Served {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "u64")]
struct Now;

#[derive(Message)]
#[rtype(result = "u64")]
struct Later;

#[derive(Message)]
#[rtype(result = "u64")]
struct Alone;

const WORK: Duration = Duration::from_millis(3);

impl Handler<Now> for Served {
    type Result = u64;

    fn handle(&mut self, _: Now, _: &mut Context<Self>) -> u64 {
        1
    }
}

impl Handler<Later> for Served {
    type Result = ResponseActFuture<Self, u64>;

    fn handle(&mut self, _: Later, _: &mut Context<Self>) -> Self::Result {
        Box::pin(wrap_future(actix_rt::time::sleep(WORK)).map(|(), _, _| 2))
    }
}

impl Handler<Alone> for Served {
    type Result = AtomicResponse<Self, u64>;

    fn handle(&mut self, _: Alone, _: &mut Context<Self>) -> Self::Result {
        AtomicResponse::new(Box::pin(wrap_future(actix_rt::time::sleep(WORK)).map(|(), _, _| 3)))
    }
}

/// Sends until it is refused, a few at a time. Returns how many were answered, and every failure
/// that is no refusal.
async fn send_on(worker: WorkerAddr<Served>) -> (u64, Vec<SendError>) {
    let (mut answered, mut failures) = (0, Vec::new());
    loop {
        let answers = [worker.send(Now), worker.send(Later), worker.send(Alone), worker.send(Now)];
        let mut is_refused = false;
        for answer in answers {
            match answer.await {
                Ok(_) => answered += 1,
                Err(error) if error.is_unhandled() => is_refused = true,
                Err(error) => failures.push(error),
            }
        }
        if is_refused {
            return (answered, failures);
        }
    }
}

#[test]
fn a_leave_under_load_from_several_threads_costs_no_request() {
    live(async {
        let mut config = config();
        config.workers.shutdown_timeout = Duration::from_secs(5);
        let node = Node::start(config).await.unwrap();
        let workers: Vec<_> = (0..4)
            .map(|number| {
                let spec = WorkerSpec::new(format!("served/{number}")).placement(Placement::Dedicated);
                node.supervise_with(spec, |_| Ok(Served)).unwrap()
            })
            .collect();
        let is_warm = Arc::new(AtomicBool::new(false));
        let senders: Vec<_> = (0..4)
            .map(|_| {
                let (workers, is_warm) = (workers.clone(), is_warm.clone());
                std::thread::spawn(move || {
                    actix_rt::System::new().block_on(async {
                        assert_eq!(workers[0].send(Now).await, Ok(1));
                        is_warm.store(true, Ordering::Release);
                        futures_util::future::join_all(workers.into_iter().map(send_on)).await
                    })
                })
            })
            .collect();
        while !is_warm.load(Ordering::Acquire) {
            actix_rt::time::sleep(Duration::from_millis(1)).await;
        }
        actix_rt::time::sleep(Duration::from_millis(300)).await;
        node.leave().await;
        let (mut answered, mut failures) = (0, Vec::new());
        for sender in senders {
            for (count, failed) in sender.join().unwrap() {
                answered += count;
                failures.extend(failed);
            }
        }
        assert!(answered > 0);
        assert_eq!(failures, []);
        for worker in workers {
            let counts = worker.message_counts();
            assert_eq!((counts.interrupted, counts.dead, counts.answering), (0, 0, 0), "{counts:?}");
        }
    });
}
