//! Waiting until workers, groups, templates, pools and shards are up.

use heartbeat_actors::group::{GroupSpec, Strategy};
use heartbeat_actors::prelude::*;
use heartbeat_actors::testkit::Fault;
use heartbeat_actors::worker::{NotUp, RestartKind};

use crate::{Add, Counter, MEANT, kit, millis, seconds};

/// Is up after a second.
#[derive(Default)]
struct Late;

impl Actor for Late {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.wait(actix::fut::wrap_future(tokio::time::sleep(seconds(1))));
    }
}

#[test]
fn a_worker_is_waited_for_to_the_instant_at_which_it_is_up() {
    kit(async |node| {
        let begun = node.elapsed();
        let late = node.supervise("late", Late::default).unwrap();
        late.until_up().await.unwrap();
        assert_eq!(node.elapsed() - begun, seconds(1));
        late.until_up().await.unwrap();
        assert_eq!(node.elapsed() - begun, seconds(1), "it is up already");
        late.restart();
        late.until_up().await.unwrap();
        assert_eq!(node.elapsed() - begun, seconds(2), "its next life is waited for");
        assert!(late.status().is_up);
    });
}

#[test]
fn a_worker_that_was_stopped_or_given_up_is_not_waited_for() {
    kit(async |node| {
        let stopped = node.supervise("stopped", Counter::default).unwrap();
        stopped.stop();
        assert_eq!(stopped.until_up().await, Err(NotUp::Stopped));
        stopped.start();
        assert_eq!(stopped.until_up().await, Ok(()));
        let spec = WorkerSpec::new("hopeless").intensity(2, seconds(30));
        let hopeless = node.supervise_with(spec, |_| Err::<Counter, _>("no luck".into())).unwrap();
        assert_eq!(hopeless.until_up().await, Err(NotUp::GaveUp));
        let once =
            node.supervise_with(WorkerSpec::new("once").restart(RestartKind::Temporary), |_| Ok(Counter::default()));
        let once = once.unwrap();
        node.inject("once", Fault::Panic(format!("{MEANT} fail")));
        let _ = once.send(Add(1)).await;
        assert_eq!(once.until_up().await, Err(NotUp::Stopped));
        node.leave().await;
        assert_eq!(stopped.until_up().await, Err(NotUp::Stopped), "its node has left");
    });
}

#[test]
fn a_group_is_up_when_all_that_is_in_it_is() {
    kit(async |node| {
        let outer = node.root().group(GroupSpec::new("outer").strategy(Strategy::RestForOne)).unwrap();
        let begun = node.elapsed();
        let first = outer.supervise("first", Late::default).unwrap();
        let inner = outer.group(GroupSpec::new("inner")).unwrap();
        let second = inner.supervise("second", Late::default).unwrap();
        outer.until_up().await.unwrap();
        assert!(first.status().is_up && second.status().is_up);
        assert_eq!(node.elapsed() - begun, seconds(2), "in order");
        outer.restart();
        inner.until_up().await.unwrap();
        assert!(second.status().is_up && node.elapsed() - begun == seconds(4));
        second.stop();
        outer.until_up().await.unwrap();
        outer.stop();
        assert_eq!(outer.until_up().await, Err(NotUp::Stopped));
        outer.remove();
        assert_eq!(outer.until_up().await, Err(NotUp::Stopped));
    });
}

#[test]
fn templates_pools_and_shards_are_waited_for() {
    kit(async |node| {
        let template = node.root().template(WorkerSpec::new("template"), |_: &u32, _| Ok(Late)).unwrap();
        let started = [template.start(1).unwrap(), template.start(2).unwrap()];
        template.until_up().await.unwrap();
        assert!(started.iter().all(|worker| worker.status().is_up));
        let pool = node.root().pool("pool", 3, Late::default).unwrap();
        let begun = node.elapsed();
        pool.until_ready().await;
        assert_eq!((pool.ready(), node.elapsed() - begun), (3, seconds(1)));
        let spec = WorkerSpec::new("orders").start_timeout(seconds(90)).capacity(8);
        let orders = node.supervise_shards_with(spec, 4, |_| Ok(Late)).unwrap();
        orders.until_up().await.unwrap();
        assert!(orders.workers().iter().all(|worker| worker.status().is_up));
        assert!(node.is_joined());
        node.until_joined().await.unwrap();
    });
}

#[test]
fn a_wait_that_is_given_up_leaves_nothing_behind() {
    kit(async |node| {
        let spec = WorkerSpec::new("never").start_timeout(seconds(60)).shutdown_timeout(millis(10));
        let never = node.root().supervise_with_context(spec, |_, context: &mut Context<Counter>| {
            context.wait(actix::fut::wrap_future(std::future::pending()));
            Ok(Counter::default())
        });
        let never = never.unwrap();
        assert!(tokio::time::timeout(seconds(1), never.until_up()).await.is_err());
        let waits = never.clone();
        let waiting = actix_rt::spawn(async move { waits.until_up().await });
        node.advance(seconds(1)).await;
        node.leave().await;
        assert_eq!(waiting.await.unwrap(), Err(NotUp::Stopped));
    });
}
