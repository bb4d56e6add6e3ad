//! Entities in virtual time: a worker for each key, its lives, and what it leaves behind.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::fut::wrap_future;
use actix::prelude::*;
use heartbeat_actors::entity::{Entities, EntitySpec, EntityStart, KEY_BYTES_MAX};
use heartbeat_actors::event::Cause;
use heartbeat_actors::shard::{RemoteMessage, SnapshotTooLarge};
use heartbeat_actors::testkit::{Fault, TestNode};
use heartbeat_actors::{Context, Event, Reply, SendError, StartError};
use heartbeat_core::Random;
use serde::{Deserialize, Serialize};

use crate::{MEANT, kit, kit_with, millis, panicked, seconds};

/// What happened to entities, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Record {
    Started { key: String, total: u64 },
    Handled { key: String, number: u64, total: u64 },
    Dropped { key: String },
}

/// What the test and its entities share.
#[derive(Clone, Default)]
struct Shared {
    records: Arc<Mutex<Vec<Record>>>,
    /// How many of the next starts of a key fail.
    failing: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl Shared {
    fn add(&self, record: Record) {
        self.records.lock().unwrap().push(record);
    }

    fn records(&self) -> Vec<Record> {
        self.records.lock().unwrap().clone()
    }

    /// How often an entity with this key was started.
    fn starts(&self, key: &str) -> usize {
        self.records().iter().filter(|record| matches!(record, Record::Started { key: of, .. } if of == key)).count()
    }

    /// The numbers that entities with this key have handled, in order.
    fn handled(&self, key: &str) -> Vec<u64> {
        let number = |record: &Record| match record {
            Record::Handled { key: of, number, .. } if of == key => Some(*number),
            _ => None,
        };
        self.records().iter().filter_map(number).collect()
    }

    fn open(&self, start: &EntityStart) -> Result<Cart, StartError> {
        let key = start.key_text();
        if let Some(left @ 1..) = self.failing.lock().unwrap().get_mut(&key) {
            *left -= 1;
            return Err(format!("{MEANT} fail").into());
        }
        let total = match start.replica() {
            Some(left) => u64::from_le_bytes(left.up_to(1)?[..8].try_into()?),
            None => 0,
        };
        assert!(start.shard.is_some(), "an entity knows its shard");
        self.add(Record::Started { key: key.clone(), total });
        Ok(Cart { key, total, shared: self.clone(), stops_for: Duration::ZERO })
    }
}

/// Counts.
struct Cart {
    key: String,
    total: u64,
    shared: Shared,
    /// How long it takes to stop.
    stops_for: Duration,
}

impl Actor for Cart {
    type Context = Context<Self>;

    fn stopping(&mut self, context: &mut Context<Self>) -> Running {
        if self.stops_for.is_zero() {
            return Running::Stop;
        }
        let stops_for = std::mem::take(&mut self.stops_for);
        context.run_later(stops_for, |_, context| context.stop());
        Running::Continue
    }
}

impl Drop for Cart {
    fn drop(&mut self) {
        self.shared.add(Record::Dropped { key: self.key.clone() });
    }
}

/// Adds one, and does something else with it. The answer is the total.
#[derive(Message, Clone, Debug, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Ask {
    number: u64,
    what: What,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum What {
    /// Nothing that lasts.
    Add,
    /// Leaves the total behind.
    Keep,
    /// Leaves nothing behind any more.
    Forget,
    /// Leaves the total behind, and waits for so many milliseconds before the next message.
    Slow(u64),
    /// Leaves the total behind, and takes so many milliseconds to stop from now on.
    StopSlowly(u64),
    /// Leaves the total behind and ends.
    End,
    /// Panics.
    Fail,
}

impl RemoteMessage for Ask {
    const NAME: &str = "cart.ask";
}

impl Handler<Ask> for Cart {
    type Result = u64;

    fn handle(&mut self, ask: Ask, context: &mut Context<Self>) -> u64 {
        assert!(!matches!(ask.what, What::Fail), "{MEANT} fail");
        self.total += 1;
        match ask.what {
            What::Add | What::Fail => {}
            What::Forget => context.replicate(1, Vec::new()).unwrap(),
            What::Keep | What::Slow(_) | What::StopSlowly(_) | What::End => {
                context.replicate(1, self.total.to_le_bytes().to_vec()).unwrap();
            }
        }
        match ask.what {
            What::Slow(time) => context.wait(wrap_future(tokio::time::sleep(millis(time)))),
            What::StopSlowly(time) => self.stops_for = millis(time),
            What::End => context.stop(),
            What::Add | What::Keep | What::Forget | What::Fail => {}
        }
        self.shared.add(Record::Handled { key: self.key.clone(), number: ask.number, total: self.total });
        self.total
    }
}

/// Leaves this many bytes behind.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "Result<(), String>")]
struct Leave(usize);

impl RemoteMessage for Leave {
    const NAME: &str = "cart.leave";
}

impl Handler<Leave> for Cart {
    type Result = Result<(), String>;

    fn handle(&mut self, leave: Leave, context: &mut Context<Self>) -> Result<(), String> {
        context.replicate(1, vec![7; leave.0]).map_err(|refused| refused.to_string())
    }
}

fn ask(what: What) -> Ask {
    Ask { number: 0, what }
}

/// Entities that are stopped after 10 s, at most `active_max` at once, with queues of eight.
fn spec(active_max: u32) -> EntitySpec {
    EntitySpec::new("cart").idle_after(seconds(10)).active_max(active_max).worker(|worker| worker.capacity(8))
}

async fn carts(node: &TestNode, active_max: u32, shards: u32) -> (Entities<Cart>, Shared) {
    let shared = Shared::default();
    let own = shared.clone();
    let carts = node.supervise_entities_with(spec(active_max), shards, move |start| own.open(start)).unwrap();
    carts.until_up().await.unwrap();
    (carts, shared)
}

fn counts(carts: &Entities<Cart>) -> (u32, u32, u64) {
    let counts = carts.counts();
    (counts.active, counts.stopping, counts.idle)
}

#[test]
fn a_first_message_starts_the_entity_of_its_key() {
    kit(async |node| {
        let (carts, shared) = carts(&node, 100, 4).await;
        assert_eq!(carts.send("ada", ask(What::Add)).await, Ok(1));
        assert_eq!(carts.send("bob", ask(What::Add)).await, Ok(1));
        assert_eq!(carts.send("ada", ask(What::Add)).await, Ok(2));
        assert_eq!((shared.starts("ada"), shared.starts("bob")), (1, 1));
        assert_eq!(counts(&carts), (2, 0, 0));
        let name = format!("cart/{}/ada", carts.shard_of("ada"));
        assert!(node.view().worker(&name).is_some_and(|worker| worker.id.0 > 0), "it is a worker like others");
    });
}

#[test]
fn an_idle_entity_is_stopped_at_idle_after_and_not_before() {
    kit(async |node| {
        let (carts, shared) = carts(&node, 100, 4).await;
        carts.send("ada", ask(What::Add)).await.unwrap();
        carts.send("bob", ask(What::Keep)).await.unwrap();
        node.advance(seconds(5)).await;
        carts.send("bob", ask(What::Keep)).await.unwrap();
        node.advance(millis(4_900)).await;
        assert_eq!(counts(&carts), (2, 0, 0));
        node.advance(millis(200)).await;
        assert_eq!(counts(&carts), (1, 0, 0), "ada has left nothing");
        node.advance(seconds(5)).await;
        assert_eq!(counts(&carts), (0, 0, 1), "bob has left his total");
        assert_eq!(carts.send("bob", ask(What::Forget)).await, Ok(3));
        assert_eq!(carts.send("ada", ask(What::Add)).await, Ok(1));
        assert_eq!((shared.starts("ada"), shared.starts("bob")), (2, 2));
        node.advance(seconds(11)).await;
        assert_eq!(counts(&carts), (0, 0, 0), "he took it back");
        assert_eq!(node.pick(|event| matches!(event, Event::Started { .. }).then_some(())).len(), 5, "no entities");
    });
}

#[test]
fn an_entity_that_works_is_not_idle() {
    kit(async |node| {
        let (carts, shared) = carts(&node, 100, 4).await;
        carts.send("ada", ask(What::Slow(30_000))).await.unwrap();
        node.advance(seconds(25)).await;
        assert_eq!(counts(&carts), (1, 0, 0));
        node.advance(seconds(25)).await;
        assert_eq!(counts(&carts), (0, 0, 1));
        assert_eq!(shared.starts("ada"), 1);
    });
}

#[test]
fn messages_to_an_entity_on_its_way_out_wait_for_the_next() {
    kit(async |node| {
        let (carts, shared) = carts(&node, 100, 4).await;
        carts.send("ada", ask(What::StopSlowly(2_000))).await.unwrap();
        node.advance(millis(11_000)).await;
        assert_eq!(counts(&carts), (0, 1, 0));
        let waiting: Vec<_> = (1..=8).map(|number| carts.send("ada", Ask { number, what: What::Keep })).collect();
        assert_eq!(carts.send("ada", ask(What::Add)).await, Err(SendError::Full), "its queue bounds those that wait");
        node.settle().await;
        assert_eq!(shared.handled("ada"), [0], "the old one takes no more");
        node.advance(seconds(2)).await;
        for (answer, total) in waiting.into_iter().zip(2..) {
            assert_eq!(answer.await, Ok(total));
        }
        assert_eq!(shared.handled("ada"), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(shared.starts("ada"), 2);
    });
}

#[test]
fn what_an_entity_leaves_in_its_queue_goes_to_the_next() {
    kit(async |node| {
        let (carts, shared) = carts(&node, 100, 4).await;
        let ask = |number, what| carts.send("ada", Ask { number, what });
        let answers = [ask(1, What::End), ask(2, What::Keep), ask(3, What::End), ask(4, What::Keep)];
        for (answer, total) in answers.into_iter().zip(1..) {
            assert_eq!(answer.await, Ok(total));
        }
        assert_eq!((shared.handled("ada"), shared.starts("ada")), (vec![1, 2, 3, 4], 3));
    });
}

#[test]
fn the_idlest_gives_its_place_and_busy_ones_keep_theirs() {
    kit(async |node| {
        let (carts, shared) = carts(&node, 3, 4).await;
        for key in ["a", "b", "c"] {
            carts.send(key, ask(What::Keep)).await.unwrap();
            node.advance(millis(10)).await;
        }
        carts.send("a", ask(What::Keep)).await.unwrap();
        assert_eq!(carts.send("d", ask(What::Keep)).await, Ok(1));
        node.settle().await;
        assert_eq!((counts(&carts), shared.starts("b")), ((3, 0, 1), 1), "b was used longest ago");
        for key in ["a", "c", "d"] {
            carts.send(key, ask(What::Slow(1_000))).await.unwrap();
        }
        assert_eq!(carts.send("b", ask(What::Keep)).await, Err(SendError::Full));
        node.advance(seconds(2)).await;
        assert_eq!(carts.send("b", ask(What::Keep)).await, Ok(2));
    });
}

#[test]
fn a_failed_entity_restarts_from_what_it_left() {
    kit(async |node| {
        let (carts, shared) = carts(&node, 100, 4).await;
        carts.send("ada", ask(What::Keep)).await.unwrap();
        let (failing, next) = (carts.send("ada", ask(What::Fail)), carts.send("ada", ask(What::Keep)));
        assert_eq!(failing.await, Err(panicked()));
        assert_eq!(next.await, Ok(2));
        assert_eq!(shared.starts("ada"), 2);
        let name = format!("cart/{}/ada", carts.shard_of("ada"));
        assert!(matches!(node.causes(&name)[..], [Cause::Panicked { .. }]));
    });
}

#[test]
fn one_that_is_given_up_refuses_until_it_was_idle_for_long() {
    kit_with("restart.intensity = 2\nrestart.delay_min = '0s'\nrestart.delay_max = '0s'", async |node| {
        let (carts, shared) = carts(&node, 100, 4).await;
        carts.send("ada", ask(What::Keep)).await.unwrap();
        for _ in 0..3 {
            assert_eq!(carts.send("ada", ask(What::Fail)).await, Err(panicked()));
            node.settle().await;
        }
        assert_eq!(carts.send("ada", ask(What::Keep)).await, Err(SendError::GaveUp));
        assert_eq!(carts.send("bob", ask(What::Keep)).await, Ok(1), "the others go on");
        node.advance(millis(9_000)).await;
        assert_eq!(carts.send("ada", ask(What::Keep)).await, Err(SendError::GaveUp));
        node.advance(millis(2_000)).await;
        assert_eq!(carts.send("ada", ask(What::Keep)).await, Ok(2), "from what it had left");
        assert_eq!(shared.starts("ada"), 4);
    });
}

#[test]
fn messages_wait_while_a_start_fails_and_is_tried_again() {
    kit(async |node| {
        let (carts, shared) = carts(&node, 100, 4).await;
        shared.failing.lock().unwrap().insert("ada".to_owned(), 2);
        let answers: Vec<_> = (1..=4).map(|number| carts.send("ada", Ask { number, what: What::Add })).collect();
        node.advance(seconds(2)).await;
        for (answer, total) in answers.into_iter().zip(1..) {
            assert_eq!(answer.await, Ok(total));
        }
        assert_eq!(shared.handled("ada"), [1, 2, 3, 4]);
    });
}

#[test]
fn entities_of_a_shard_leave_no_more_than_its_snapshot_holds() {
    kit_with("ownership.snapshot_bytes_max = 100", async |node| {
        let (carts, _) = carts(&node, 100, 1).await;
        assert_eq!(carts.send("ada", Leave(40)).await, Ok(Ok(())), "53 bytes");
        let text = SnapshotTooLarge { bytes: 53, others: 53, bytes_max: 100 }.to_string();
        assert_eq!(carts.send("bob", Leave(40)).await, Ok(Err(text)));
        assert_eq!(carts.send("bob", Leave(34)).await, Ok(Ok(())), "47 bytes");
        assert_eq!(carts.send("ada", Leave(0)).await, Ok(Ok(())));
        assert_eq!(carts.send("bob", Leave(87)).await, Ok(Ok(())), "all of it");
        let text = SnapshotTooLarge { bytes: 101, others: 0, bytes_max: 100 }.to_string();
        assert_eq!(carts.send("bob", Leave(101)).await, Ok(Err(text)));
        carts.send("bob", Leave(88)).await.unwrap().unwrap_err();
    });
}

#[test]
fn keys_are_one_to_512_bytes_of_any_kind() {
    kit(async |node| {
        let (carts, _) = carts(&node, 100, 4).await;
        assert_eq!(carts.send("", ask(What::Add)).await, Err(SendError::Key(0)));
        let long = vec![255; KEY_BYTES_MAX + 1];
        let refused = carts.send(&long, ask(What::Add)).await.unwrap_err();
        assert!(refused.is_unhandled());
        assert_eq!(refused.to_string(), "the key has 513 bytes; use 1 to 512");
        assert_eq!(carts.send(&long[1..], ask(What::Add)).await, Ok(1));
        for key in ["a/b", "a%2fb", "a\nb", "ä"] {
            assert_eq!(carts.send(key, ask(What::Add)).await, Ok(1), "{key:?} is a key of its own");
        }
        let refused = carts.try_send("", ask(What::Add)).unwrap_err();
        assert_eq!((refused.error, refused.message.number), (SendError::Key(0), 0), "the message comes back");
    });
}

#[test]
fn bounds_and_names_that_cannot_be_are_refused() {
    kit(async |node| {
        let open = |_: &EntityStart| Err("never".into());
        let refused = node.supervise_entities_with::<Cart, _>(spec(0), 4, open).unwrap_err();
        assert_eq!(refused.to_string(), "entities.active_max is 0; use at least 1");
        let refused = node.supervise_entities_with::<Cart, _>(spec(1).idle_after(Duration::ZERO), 4, open).unwrap_err();
        assert!(refused.to_string().contains("entities.idle_after 0s is out of range"), "{refused}");
        node.supervise_entities::<Cart, _>("cart", 0, open).unwrap_err();
        let (_carts, _) = carts(&node, 1, 4).await; // The name was given back each time.
        node.supervise_entities::<Cart, _>("cart", 4, open).unwrap_err();
    });
}

#[test]
fn a_shards_worker_that_fails_keeps_the_entities() {
    kit(async |node| {
        let (carts, shared) = carts(&node, 100, 1).await;
        carts.send("ada", ask(What::Add)).await.unwrap();
        node.inject("cart/0", Fault::Panic(format!("{MEANT} fail")));
        carts.send("bob", ask(What::Keep)).await.unwrap(); // The shard's worker is to copy it, and panics.
        node.settle().await;
        assert_eq!(node.causes("cart/0").len(), 1);
        assert_eq!(carts.send("ada", ask(What::Add)).await, Ok(2));
        assert_eq!(shared.starts("ada"), 1);
    });
}

#[test]
fn a_shards_worker_that_ends_stops_its_entities_first() {
    kit(async |node| {
        let (carts, shared) = carts(&node, 100, 1).await;
        carts.send("ada", ask(What::StopSlowly(1_000))).await.unwrap();
        carts.send("bob", ask(What::Add)).await.unwrap();
        node.inject_now("cart/0", Fault::Stop);
        node.settle().await;
        assert_eq!(carts.send("bob", ask(What::Add)).await, Err(SendError::Closed));
        node.advance(millis(1_500)).await;
        assert_eq!(counts(&carts), (0, 0, 1));
        assert_eq!(carts.send("ada", ask(What::Keep)).await, Ok(2), "from what it had left");
        assert_eq!(carts.send("bob", ask(What::Add)).await, Ok(1));
        assert_eq!((shared.starts("ada"), shared.starts("bob")), (2, 2));
    });
}

#[test]
fn a_node_that_leaves_stops_entities_and_answers_all() {
    kit(async |node| {
        let (carts, shared) = carts(&node, 100, 4).await;
        carts.send("ada", ask(What::Slow(500))).await.unwrap();
        let queued = carts.send("ada", ask(What::Add));
        carts.send("bob", ask(What::StopSlowly(500))).await.unwrap();
        carts.send("bob", ask(What::End)).await.unwrap();
        node.settle().await;
        let waiting = carts.send("bob", ask(What::Add));
        node.leave().await;
        node.settle().await;
        assert!(matches!(queued.await, Ok(2) | Err(SendError::Closed)));
        assert!(
            matches!(waiting.await, Ok(3) | Err(SendError::Closed)),
            "an entity that stops itself goes on until then"
        );
        assert_eq!(carts.send("eve", ask(What::Add)).await, Err(SendError::Closed));
        let dropped = shared.records().iter().filter(|record| matches!(record, Record::Dropped { .. })).count();
        assert_eq!(dropped, 2);
    });
}

// ---- random histories ---------------------------------------------------------------------------

/// What a message's sender was told.
type Told = Result<u64, SendError>;

/// A message that was sent.
struct Sent {
    key: &'static str,
    number: u64,
    sender: u64,
    reply: Option<Reply<u64>>,
    told: Option<Told>,
}

const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Plays a history: senders, slow stops, failures, failing starts, ends of shards, and time.
async fn play(node: &TestNode, seed: u64) {
    let mut random = Random::seeded(seed);
    let (carts, shared) = carts(node, 3, 2).await;
    let mut sent: Vec<Sent> = Vec::new();
    for number in 1..=300 {
        match random.below(20) {
            0 => node.advance(millis(random.below(12_000))).await,
            1 | 2 => node.advance(millis(random.below(900))).await,
            3 => node.settle().await,
            4 => drop(shared.failing.lock().unwrap().insert(KEYS[random.below(5) as usize].to_owned(), 1)),
            5 if random.below(4) == 0 => node.inject_now(&format!("cart/{}", random.below(2)), Fault::Stop),
            _ => {
                let key = KEYS[random.below(5) as usize];
                let what = match random.below(12) {
                    0 => What::Slow(random.below(400)),
                    1 => What::StopSlowly(random.below(800)),
                    2 | 3 => What::End,
                    4 => What::Fail,
                    _ => What::Keep,
                };
                let reply = Some(carts.send(key, Ask { number, what }));
                sent.push(Sent { key, number, sender: random.below(3), reply, told: None });
            }
        }
    }
    node.advance(seconds(120)).await;
    for sent in &mut sent {
        if let Some(reply) = sent.reply.take() {
            sent.told = Some(reply.within(millis(1)).await);
        }
    }
    check(seed, &sent, &shared.records());
    node.advance(seconds(60)).await;
    let counts = carts.counts();
    assert_eq!((counts.active, counts.stopping), (0, 0), "seed {seed}: all are idle by now");
}

/// Each message was handled as its sender was told, in order, by one life at a time, and no total
/// was lost.
fn check(seed: u64, sent: &[Sent], records: &[Record]) {
    let mut handled: BTreeMap<u64, u32> = BTreeMap::new();
    let (mut totals, mut live): (BTreeMap<&str, u64>, BTreeMap<&str, u32>) = Default::default();
    let mut order: BTreeMap<(&str, u64), u64> = BTreeMap::new();
    for record in records {
        match record {
            Record::Started { key, total } => {
                let living = live.entry(key).or_default();
                *living += 1;
                assert_eq!(*living, 1, "seed {seed}: two lives of {key} at once");
                assert_eq!(*total, totals.get(&**key).copied().unwrap_or(0), "seed {seed}: {key} has lost its total");
            }
            Record::Dropped { key } => *live.get_mut(&**key).unwrap() -= 1,
            Record::Handled { key, number, total } => {
                *handled.entry(*number).or_default() += 1;
                let before = totals.insert(key, *total).unwrap_or(0);
                assert_eq!(*total, before + 1, "seed {seed}: {key}");
                let of = sent.iter().find(|sent| sent.number == *number).unwrap();
                let last = order.insert((of.key, of.sender), *number).unwrap_or(0);
                assert!(last < *number, "seed {seed}: {number} to {key} came after {last}");
            }
        }
    }
    for Sent { key, number, told, .. } in sent {
        let times = handled.get(number).copied().unwrap_or(0);
        let expected = match told.as_ref().unwrap() {
            Ok(_) => 1..=1,
            Err(SendError::TimedOut) => panic!("seed {seed}: {number} to {key} was not answered"),
            Err(error) if error.is_unhandled() => 0..=0,
            Err(_) => 0..=1,
        };
        assert!(expected.contains(&times), "seed {seed}: {number} to {key} was handled {times} times, {told:?}");
    }
}

#[test]
fn messages_are_handled_once_in_order_whatever_happens() {
    for seed in 0..60 {
        let settings = "restart.intensity = 1000\nrestart.delay_max = '300ms'\nrestart.delay_min = '0s'";
        kit_with(settings, async |node| play(&node, seed).await);
    }
}
