//! Addresses: of each kind, compared, and given up waiting at.

use std::collections::HashSet;

use actix::WeakRecipient;
use actix::prelude::*;

use super::world::{Address, Context, plain, run, within};
use crate::tally::{Tally, millis};

/// Counts what it is sent.
#[derive(Default)]
struct Counter {
    count: Tally,
}

impl Actor for Counter {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Ping;

impl Handler<Ping> for Counter {
    type Result = ();

    fn handle(&mut self, _: Ping, _: &mut Context<Self>) {
        self.count.add(1);
    }
}

/// Waits 20 ms after each message.
struct Slow;

impl Actor for Slow {
    type Context = Context<Self>;
}

impl Handler<Ping> for Slow {
    type Result = ();

    fn handle(&mut self, _: Ping, ctx: &mut Context<Self>) {
        tokio::time::sleep(millis(20)).into_actor(self).wait(ctx);
    }
}

/// Asks a slow one when it starts, and waits for 1 ms.
struct Impatient {
    slow: Address<Slow>,
    gave_up: Tally,
}

impl Actor for Impatient {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.slow.do_send(Ping);
        let answer = within(self.slow.send(Ping), millis(1)).into_actor(self);
        let noted = answer.map(|answer, impatient, _| {
            if answer.is_none() {
                impatient.gave_up.add(1);
            }
        });
        noted.wait(ctx);
    }
}

// test_address
#[test]
fn clones_of_an_address_reach_one_actor() {
    run(async |world| {
        let count = Tally::default();
        let counter = world.start(Counter { count: count.clone() });
        let (second, third) = (counter.clone(), counter.clone());
        counter.do_send(Ping);
        second.do_send(Ping);
        let elsewhere = actix::spawn(async move {
            third.send(Ping).await.unwrap();
            third.send(Ping).await.unwrap();
        });
        elsewhere.await.unwrap();
        assert_eq!(count.count(), 4);
    });
}

// test_weak_recipient_can_be_cloned
#[test]
fn a_clone_of_a_weak_recipient_sends_too() {
    run(async |world| {
        let count = Tally::default();
        let counter = plain(&world.start(Counter { count: count.clone() }));
        let weak = counter.downgrade().recipient::<Ping>();
        for recipient in [weak.clone(), weak] {
            recipient.upgrade().unwrap().send(Ping).await.unwrap();
        }
        assert_eq!(count.count(), 2);
        drop(counter);
    });
}

// test_recipient_can_be_downgraded
#[test]
fn a_recipient_can_be_made_weak() {
    run(async |world| {
        let count = Tally::default();
        let counter = world.start(Counter { count: count.clone() });
        let recipient: Recipient<Ping> = counter.clone().recipient();
        let weak = recipient.downgrade();
        let converted = WeakRecipient::from(recipient);
        weak.upgrade().unwrap().send(Ping).await.unwrap();
        converted.upgrade().unwrap().send(Ping).await.unwrap();
        assert_eq!(count.count(), 2);
    });
}

// test_weak_addr_partial_equality
#[test]
fn weak_addresses_are_equal_if_they_lead_to_one_actor() {
    run(async |world| {
        let (first, second) = (plain(&world.start(Counter::default())), plain(&world.start(Counter::default())));
        let (weak, again, other) = (first.downgrade(), first.downgrade(), second.downgrade());
        assert!(weak == again && weak != other);
        assert!(weak.upgrade() == again.upgrade() && weak.upgrade() != other.upgrade());
        drop(first);
        assert!(weak == again && again != other && second.connected());
        drop(second);
        assert!(weak == again && again != other);
    });
}

// test_sync_recipient_call
#[test]
fn a_recipient_is_answered() {
    run(async |world| {
        let count = Tally::default();
        let counter = world.start(Counter { count: count.clone() });
        let recipient = counter.clone().recipient::<Ping>();
        counter.do_send(Ping);
        recipient.send(Ping).await.unwrap();
        recipient.send(Ping).await.unwrap();
        assert_eq!(count.count(), 3);
    });
}

// test_error_result
#[test]
fn an_answer_awaited_elsewhere_comes() {
    run(async |world| {
        let counter = world.start(Counter::default());
        let answer = actix::spawn(async move { counter.send(Ping).await.is_ok() });
        assert!(answer.await.unwrap());
    });
}

// test_message_timeout
#[test]
fn an_answer_may_come_too_late() {
    run(async |world| {
        let slow = world.start(Slow);
        slow.do_send(Ping);
        assert_eq!(within(slow.send(Ping), millis(1)).await, None);
        assert_eq!(within(slow.send(Ping), millis(100)).await, Some(()));
    });
}

// test_call_message_timeout
#[test]
fn an_actor_may_give_up_waiting_for_an_answer() {
    run(async |world| {
        let (slow, gave_up) = (world.start(Slow), Tally::default());
        world.pass(millis(0)).await;
        let _impatient = world.start(Impatient { slow, gave_up: gave_up.clone() });
        world.pass(millis(10)).await;
        assert_eq!(gave_up.count(), 1);
    });
}

// test_address_eq
#[test]
fn addresses_are_equal_if_they_lead_to_one_actor() {
    run(async |world| {
        let (first, other) = (world.start(Counter::default()), world.start(Counter::default()));
        let clone = first.clone();
        assert!(first == clone && clone == clone.clone());
        assert!(first != other);
    });
}

// test_address_hash
#[test]
fn equal_addresses_are_one_key() {
    run(async |world| {
        let (first, other) = (world.start(Counter::default()), world.start(Counter::default()));
        let mut set = HashSet::from([first.clone(), first.clone()]);
        assert_eq!(set.len(), 1);
        set.insert(other.clone());
        assert!(set.len() == 2 && set.contains(&other));
        assert!(set.remove(&first) && !set.contains(&first));
        assert!(set.contains(&other));
    });
}

// test_recipient_eq
#[test]
fn recipients_are_equal_if_they_lead_to_one_actor() {
    run(async |world| {
        let (first, other) = (world.start(Counter::default()), world.start(Counter::default()));
        let recipient = first.clone().recipient::<Ping>();
        assert!(recipient == first.recipient::<Ping>());
        assert!(recipient == recipient.clone());
        assert!(recipient != other.recipient::<Ping>());
    });
}

// test_recipient_hash
#[test]
fn equal_recipients_are_one_key() {
    run(async |world| {
        let (first, other) = (world.start(Counter::default()), world.start(Counter::default()));
        let (recipient, again) = (first.clone().recipient::<Ping>(), first.recipient::<Ping>());
        let mut set = HashSet::from([recipient.clone(), again.clone()]);
        assert_eq!(set.len(), 1);
        set.insert(other.recipient::<Ping>());
        assert_eq!(set.len(), 2);
        assert!(set.remove(&recipient) && !set.contains(&again));
        assert_eq!(set.len(), 1);
    });
}

// test_active_address
#[test]
fn an_actor_whose_address_is_kept_runs_on() {
    run(async |world| {
        let count = Tally::default();
        let counter = world.start(Counter { count: count.clone() });
        world.pass(millis(60_000)).await;
        counter.send(Ping).await.unwrap();
        assert_eq!(count.count(), 1);
    });
}
