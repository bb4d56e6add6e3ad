//! Pools: messages go to those who can serve, and members are replaced one by one.

use std::collections::BTreeMap;

use actix::prelude::*;
use heartbeat_actors::testkit::Fault;
use heartbeat_actors::{Context, Event, Placement, Route, SendError, Spec, SuperviseError};

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
fn each_member_has_its_turn_and_one_that_is_blocked_is_left_out_while_its_queue_is_long() {
    kit(async |node| {
        let spec = Spec::new("pool").placement(Placement::Dedicated).capacity(4);
        let pool = node.pool_with(spec, 4, Route::RoundRobin, |birth| Ok(Named(birth.name.to_string()))).unwrap();
        assert_eq!(pool.send(Who).await, Err(SendError::NotReady), "nobody is up yet");
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
        // Its queue is over three quarters by now, so nobody is sent there.
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
fn a_key_goes_to_one_member_and_only_the_keys_of_one_that_is_not_ready_go_elsewhere() {
    kit(async |node| {
        let pool = node.pool_with(Spec::new("pool"), 8, Route::RoundRobin, |birth| Ok(Named(birth.name.to_string())));
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
        let spec = Spec::new("pool").placement(Placement::Dedicated).capacity(1_000);
        let pool = node.pool_with(spec, 3, Route::LeastLoaded, |birth| Ok(Named(birth.name.to_string()))).unwrap();
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
fn members_fail_and_are_replaced_each_for_itself_and_rolling_stops_one_at_a_time() {
    kit(async |node| {
        let pool = node.pool("pool", 3, Counter::default).unwrap();
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
            () = pool.roll() => {}
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
            let refused = node.pool("pool", count, Counter::default).unwrap_err();
            assert!(matches!(refused, SuperviseError::Members(_)));
            assert!(refused.to_string().contains("use 1 to 1024"), "{refused}");
        }
        assert!(node.pool("pool", 2, Counter::default).is_ok());
        assert!(matches!(node.pool("pool", 2, Counter::default), Err(SuperviseError::NameTaken(_))));
    });
}
