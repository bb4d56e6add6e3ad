//! Pools: messages go to those who can serve, and members are replaced one by one.

use std::collections::BTreeMap;

use actix::prelude::*;
use heartbeat_actors::pool::{Pool, Routing};
use heartbeat_actors::testkit::{Fault, TestNode};
use heartbeat_actors::worker::{Overflow, Placement};
use heartbeat_actors::{Context, Event, SendError, SuperviseError, WorkerSpec};

use crate::{Add, Counter, MEANT, kit, millis, seconds};

/// Says who it is.
struct Named(String);

impl Actor for Named {
    type Context = Context<Self>;
}

#[derive(Message, Clone)]
#[rtype(result = "String")]
struct Who;

impl Handler<Who> for Named {
    type Result = String;

    fn handle(&mut self, _: Who, _: &mut Context<Self>) -> String {
        self.0.clone()
    }
}

#[test]
fn a_blocked_pool_member_is_skipped_while_its_queue_is_long() {
    kit(async |node| {
        let spec = WorkerSpec::new("pool").placement(Placement::Dedicated).capacity(4);
        let pool = node
            .root()
            .pool_with(spec, 4, Routing::RoundRobin, |start_info| Ok(Named(start_info.name.to_string())))
            .unwrap();
        assert_eq!(pool.send(Who).await, Err(SendError::NotReady), "no worker is up yet");
        pool.until_ready().await;
        let mut answers = BTreeMap::new();
        for _ in 0..400 {
            *answers.entry(pool.send(Who).await.unwrap()).or_insert(0) += 1;
        }
        assert_eq!(answers.values().copied().collect::<Vec<_>>(), [100; 4]);
        node.inject("pool/2", Fault::Block(seconds(3)));
        let waiting: Vec<_> = (0..400)
            .filter_map(|_| {
                let answer = pool.send(Who);
                pool.members().iter().any(|member| member.depth() > 0).then_some(answer)
            })
            .collect();
        drop(waiting);
        node.settle().await;
        // Its queue is over three quarters by now, so the pool sends no message there.
        for _ in 0..8 {
            let _ = pool.members()[2].try_send(Who);
        }
        assert_eq!(pool.ready(), 3);
        for _ in 0..100 {
            assert_ne!(pool.send(Who).await.unwrap(), "pool/2");
        }
        node.advance(seconds(4)).await;
        assert_eq!(pool.ready(), 4);
        assert_eq!(node.causes("pool/2"), []);
    });
}

#[test]
fn only_the_keys_of_a_member_not_ready_go_to_another() {
    kit(async |node| {
        let pool = node.root().pool_with(WorkerSpec::new("pool"), 8, Routing::RoundRobin, |start_info| {
            Ok(Named(start_info.name.to_string()))
        });
        let pool = pool.unwrap();
        pool.until_ready().await;
        let mut before = BTreeMap::new();
        for key in 0..200 {
            before.insert(key, pool.send_by(&format!("key-{key}"), Who).await.unwrap());
        }
        assert!((0..8).all(|index| before.values().any(|name| *name == format!("pool/{index}"))));
        pool.members()[3].stop();
        node.settle().await;
        for (key, name) in &before {
            let now = pool.send_by(&format!("key-{key}"), Who).await.unwrap();
            assert!(now == *name || name == "pool/3", "{key} went from {name} to {now}");
            assert_ne!(now, "pool/3");
        }
        pool.members()[3].start();
        node.settle().await;
        for (key, name) in &before {
            assert_eq!(pool.send_by(&format!("key-{key}"), Who).await.unwrap(), *name);
        }
    });
}

#[test]
fn the_least_loaded_member_is_taken() {
    kit(async |node| {
        let spec = WorkerSpec::new("pool").placement(Placement::Dedicated).capacity(1_000);
        let pool = node
            .root()
            .pool_with(spec, 3, Routing::LeastLoaded, |start_info| Ok(Named(start_info.name.to_string())))
            .unwrap();
        pool.until_ready().await;
        node.inject("pool/0", Fault::Block(seconds(3)));
        pool.members()[0].try_send(Who).unwrap();
        node.settle().await;
        for _ in 0..10 {
            pool.members()[0].try_send(Who).unwrap();
        }
        for _ in 0..50 {
            assert_ne!(pool.send(Who).await.unwrap(), "pool/0");
        }
    });
}

#[test]
fn a_rolling_restart_stops_one_member_at_a_time() {
    kit(async |node| {
        let pool = node.root().pool("pool", 3, Counter::default).unwrap();
        pool.until_ready().await;
        node.inject("pool/1", Fault::Panic(format!("{MEANT} fail")));
        let _ = pool.members()[1].send(Add(1)).await;
        node.advance(millis(10)).await;
        assert_eq!(node.replacements("pool/1"), 1);
        assert_eq!((node.replacements("pool/0"), node.replacements("pool/2")), (0, 0));
        let before: Vec<_> = pool.members().iter().map(|member| member.generation()).collect();
        let served = async {
            loop {
                assert!(pool.send(Add(1)).await.is_ok(), "two of three are always ready");
                // Time passes only when there is nothing else to do.
                tokio::time::sleep(millis(1)).await;
            }
        };
        tokio::select! {
            () = pool.rolling_restart() => {}
            () = served => {}
        }
        assert!(pool.members().iter().zip(before).all(|(member, before)| member.generation() > before));
        let order = node.pick(|event| match event {
            Event::Stopped { worker, .. } => Some(worker.to_string()),
            _ => None,
        });
        assert_eq!(order, ["pool/0", "pool/1", "pool/2"]);
    });
}

#[test]
fn sizes_that_make_no_sense_are_refused() {
    kit(async |node| {
        for count in [0, 1_025] {
            let refused = node.root().pool("pool", count, Counter::default).unwrap_err();
            assert!(matches!(refused, SuperviseError::Members(_)));
            assert!(refused.to_string().contains("use 1 to 1024"), "{refused}");
        }
        assert!(node.root().pool("pool", 2, Counter::default).is_ok());
        assert!(matches!(node.root().pool("pool", 2, Counter::default), Err(SuperviseError::NameTaken(_))));
    });
}

/// Works on one job at a time, for as long as the job takes.
struct Encoder(String);

impl Actor for Encoder {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "String")]
struct Job(u64);

impl Handler<Job> for Encoder {
    type Result = AtomicResponse<Self, String>;

    fn handle(&mut self, job: Job, _: &mut Context<Self>) -> Self::Result {
        let name = self.0.clone();
        AtomicResponse::new(Box::pin(
            async move {
                tokio::time::sleep(millis(job.0)).await;
                name
            }
            .into_actor(self),
        ))
    }
}

fn encoders(node: &TestNode, count: u32, spec: WorkerSpec, route: Routing) -> Pool<Encoder> {
    let spec = spec.placement(Placement::Dedicated);
    node.root().pool_with(spec, count, route, |start_info| Ok(Encoder(start_info.name.to_string()))).unwrap()
}

/// Sends one job of a second and then six of 10 ms, one every 30 ms; how long each of the six took.
async fn short_behind_long(pool: &Pool<Encoder>) -> Vec<u128> {
    pool.until_ready().await;
    let timed = |job| {
        let (answer, begun) = (pool.send(Job(job)), tokio::time::Instant::now());
        actix_rt::spawn(async move {
            answer.await.unwrap();
            begun.elapsed().as_millis()
        })
    };
    let mut waiting = vec![timed(1_000)];
    for _ in 0..6 {
        tokio::time::sleep(millis(30)).await;
        waiting.push(timed(10));
    }
    let mut took = Vec::new();
    for answer in waiting.into_iter().skip(1) {
        took.push(answer.await.unwrap());
    }
    took
}

#[test]
fn no_job_waits_behind_a_long_one_while_a_member_is_idle() {
    for route in [Routing::LeastLoaded, Routing::SharedQueue] {
        kit(async |node| {
            let pool = encoders(&node, 2, WorkerSpec::new("encoders"), route);
            let took = short_behind_long(&pool).await;
            assert!(took.iter().all(|millis| *millis <= 11), "{route:?}: {took:?}");
        });
    }
}

#[test]
fn members_that_fail_leave_the_others_the_queue() {
    kit(async |node| {
        let pool = encoders(&node, 3, WorkerSpec::new("encoders").capacity(1_000), Routing::SharedQueue);
        pool.until_ready().await;
        node.inject("encoders/1", Fault::Block(seconds(60)));
        node.inject("encoders/2", Fault::Panic(format!("{MEANT} fail")));
        let answers: Vec<_> = (0..300).map(|_| pool.send(Job(10))).collect();
        let begun = node.elapsed();
        let mut outcomes = Vec::new();
        for answer in answers {
            outcomes.push(answer.within(seconds(30)).await);
        }
        let served = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(served, 298, "the one in the hands of each that failed");
        assert!(node.elapsed() - begun < seconds(7), "nothing has waited for the replacement: {:?}", node.elapsed());
        node.advance(seconds(120)).await;
        let counts: Vec<_> = pool.members().iter().map(|member| member.message_counts()).collect();
        assert_eq!(counts.iter().map(|counts| counts.accepted).sum::<u64>(), 300);
        assert_eq!(counts.iter().map(|counts| counts.handled).sum::<u64>(), 298);
        assert_eq!(counts.iter().map(|counts| counts.interrupted).sum::<u64>(), 2);
        assert_eq!((pool.message_counts().accepted, pool.message_counts().queued, pool.depth()), (0, 0, 0));
    });
}

#[test]
fn one_queue_is_bounded_as_the_spec_says() {
    kit(async |node| {
        let pool = encoders(&node, 1, WorkerSpec::new("encoders").capacity(2), Routing::SharedQueue);
        pool.until_ready().await;
        let mut answers: Vec<_> = (0..3).map(|_| pool.send(Job(10))).collect();
        node.settle().await;
        answers.extend((0..2).map(|_| pool.send(Job(10))));
        let mut refused = 0;
        for answer in answers {
            refused += u32::from(answer.await == Err(SendError::Full));
        }
        assert_eq!((refused, pool.message_counts().rejected), (2, 2));
        let spec = WorkerSpec::new("newest").capacity(1).overflow(Overflow::DropOldest);
        let newest = encoders(&node, 1, spec, Routing::SharedQueue);
        newest.until_ready().await;
        let answers: Vec<_> = (0..4).map(|_| newest.send(Job(10))).collect();
        let mut outcomes = Vec::new();
        for answer in answers {
            outcomes.push(answer.await.is_ok());
        }
        assert_eq!(outcomes, [false, false, false, true]);
        assert_eq!(newest.message_counts().dead, 3);
    });
}

#[test]
fn what_waits_in_a_pool_that_is_stopped_is_answered() {
    kit(async |node| {
        let pool = encoders(&node, 2, WorkerSpec::new("encoders").shutdown_timeout(millis(100)), Routing::SharedQueue);
        pool.until_ready().await;
        let answers: Vec<_> = (0..10).map(|_| pool.send(Job(10_000))).collect();
        node.settle().await;
        pool.group().stop();
        for answer in answers {
            assert!(answer.within(seconds(1)).await.is_err_and(|error| error != SendError::TimedOut));
        }
        assert_eq!(pool.send(Job(1)).await, Err(SendError::Closed));
        pool.group().start();
        pool.until_ready().await;
        assert!(pool.send(Job(1)).await.is_ok());
        assert_eq!(pool.depth(), 0);
    });
}

#[test]
fn bad_requests_do_not_shrink_a_pool() {
    for route in [Routing::RoundRobin, Routing::LeastLoaded, Routing::SharedQueue] {
        kit(async |node| {
            let pool = node.root().pool_with(WorkerSpec::new("pool"), 3, route, |_| Ok(Counter::default())).unwrap();
            pool.until_ready().await;
            for _ in 0..50 {
                for member in 0..3 {
                    node.inject(&format!("pool/{member}"), Fault::Panic(format!("{MEANT} fail")));
                }
                for _ in 0..3 {
                    let _ = pool.send(Add(1)).within(millis(1)).await;
                }
                node.advance(millis(100)).await;
            }
            let failures: usize = (0..3).map(|member| node.causes(&format!("pool/{member}")).len()).sum();
            assert!(failures > 30, "{failures}");
            assert_eq!(node.pick(|event| matches!(event, Event::GaveUp { .. }).then_some(())), []);
            node.advance(millis(500)).await;
            assert_eq!(pool.ready(), 3, "half a second after the last bad request all are back");
        });
    }
}

#[test]
fn a_spec_that_says_so_gives_members_up() {
    kit(async |node| {
        let spec = WorkerSpec::new("pool").intensity(0, seconds(30));
        let pool = node.root().pool_with(spec, 2, Routing::RoundRobin, |_| Ok(Counter::default())).unwrap();
        pool.until_ready().await;
        node.inject("pool/1", Fault::Panic(format!("{MEANT} fail")));
        let _ = pool.members()[1].send(Add(1)).await;
        node.advance(seconds(60)).await;
        assert_eq!(pool.ready(), 1);
    });
}

#[test]
fn a_pool_grows_and_shrinks_and_those_that_go_finish() {
    kit(async |node| {
        let pool = encoders(&node, 2, WorkerSpec::new("encoders"), Routing::RoundRobin);
        pool.until_ready().await;
        pool.resize(4).unwrap();
        pool.until_ready().await;
        assert_eq!(pool.ready(), 4);
        let jobs: Vec<_> = (0..4).map(|_| pool.send(Job(500))).collect();
        node.settle().await;
        pool.resize(1).unwrap();
        assert_eq!(pool.members().len(), 1);
        for job in jobs {
            assert!(job.await.is_ok(), "what they had in their hands is answered");
        }
        node.advance(seconds(10)).await;
        assert!(node.view().worker("encoders/1").is_none(), "and then they are gone");
        pool.resize(2).unwrap();
        pool.until_ready().await;
        assert_eq!(pool.members()[1].name(), "encoders/4", "no name is used again");
        assert!(matches!(pool.resize(0), Err(SuperviseError::Members(0))));
        node.leave().await;
        assert!(matches!(pool.resize(3), Err(SuperviseError::Left)));
    });
}
