//! Calls to workers of other nodes, by key and by name: deadlines, moves, dead letters, errors.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::prelude::*;
use heartbeat_actors::event::DeadReason;
use heartbeat_actors::shard::{RemoteMessage, Shards};
use heartbeat_actors::worker::{Interruption, Refusal};
use heartbeat_actors::{Config, Context, Node, SendError};
use serde::{Deserialize, Serialize, Serializer};

use crate::{MEANT, PATIENCE, live, seeds};

const COUNT: u32 = 8;

/// What workers have handled, in their order: the sender, the key, and the number of the message.
type Notes = Arc<Mutex<Vec<(u32, u32, u32)>>>;

struct Clerk {
    node: &'static str,
    notes: Notes,
}

impl Actor for Clerk {
    type Context = Context<Self>;
}

/// Writes a note down, after this many milliseconds.
#[derive(Message, Serialize, Deserialize, Clone, Debug)]
#[rtype(result = "String")]
struct Note {
    sender: u32,
    key: u32,
    number: u32,
    takes_ms: u64,
}

impl RemoteMessage for Note {
    const NAME: &str = "calls.note";
}

impl Handler<Note> for Clerk {
    type Result = String;

    fn handle(&mut self, note: Note, _: &mut Context<Self>) -> String {
        std::thread::sleep(Duration::from_millis(note.takes_ms));
        self.notes.lock().unwrap().push((note.sender, note.key, note.number));
        self.node.to_owned()
    }
}

/// Makes the worker panic this many times.
#[derive(Message, Serialize, Deserialize, Clone)]
#[rtype(result = "usize")]
struct Break(usize);

impl RemoteMessage for Break {
    const NAME: &str = "calls.break";
}

impl Handler<Break> for Clerk {
    type Result = usize;

    fn handle(&mut self, Break(times): Break, _: &mut Context<Self>) -> usize {
        let before = {
            let mut notes = self.notes.lock().unwrap();
            notes.push((0, 0, 0));
            notes.len()
        };
        assert!(before > times, "{MEANT} break");
        before
    }
}

/// Two versions of one message. Only new nodes know the second one.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u32")]
struct First(u32);

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Second(u64);

impl RemoteMessage for First {
    const NAME: &str = "calls.versioned";
}

impl RemoteMessage for Second {
    const NAME: &str = "calls.versioned";
    const VERSION: u16 = 2;
}

impl Handler<First> for Clerk {
    type Result = u32;

    fn handle(&mut self, First(value): First, _: &mut Context<Self>) -> u32 {
        value
    }
}

impl Handler<Second> for Clerk {
    type Result = u64;

    fn handle(&mut self, Second(value): Second, _: &mut Context<Self>) -> u64 {
        value
    }
}

/// Pretends to be a `Note`.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "String")]
struct Forged(u8);

impl RemoteMessage for Forged {
    const NAME: &str = "calls.note";
}

impl Handler<Forged> for Clerk {
    type Result = String;

    fn handle(&mut self, _: Forged, _: &mut Context<Self>) -> String {
        unreachable!("it is refused")
    }
}

/// Cannot be encoded.
#[derive(Message, Deserialize)]
#[rtype(result = "u32")]
struct Local;

impl Serialize for Local {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("it is for this process only"))
    }
}

impl RemoteMessage for Local {
    const NAME: &str = "calls.local";
}

impl Handler<Local> for Clerk {
    type Result = u32;

    fn handle(&mut self, _: Local, _: &mut Context<Self>) -> u32 {
        7
    }
}

async fn start_node(name: &'static str, first: Option<&Node>) -> Node {
    start_draining(name, first, "queue").await
}

/// A node whose workers finish this when they stop.
async fn start_draining(name: &'static str, first: Option<&Node>, drain: &str) -> Node {
    let config = format!(
        "interval = '100ms'
         timeout = '2s'
         workers.drain = '{drain}'
         [cluster]
         name = 'calls'
         node = '{name}'
         role = 'worker'
         mode = 'random'
         listen = '127.0.0.1:0'
         seeds = {}",
        seeds(first)
    );
    Node::start(Config::from_toml(&config).unwrap()).await.unwrap()
}

fn supervise(node: &Node, name: &'static str, notes: &Notes) -> Shards<Clerk> {
    let notes = notes.clone();
    let clerk = move |_: &_| Ok(Clerk { node: name, notes: notes.clone() });
    let shards = node.supervise_shards("clerks", COUNT, clerk).unwrap();
    shards.accept::<Note>().accept::<Break>().accept::<First>().accept::<Local>()
}

/// Two nodes with the group of clerks, all shards up.
struct Pair {
    one: Node,
    two: Node,
    shards_one: Shards<Clerk>,
    shards_two: Shards<Clerk>,
    notes: Notes,
}

async fn pair() -> Pair {
    pair_draining("queue").await
}

async fn pair_draining(drain: &str) -> Pair {
    let notes = Notes::default();
    let one = start_draining("one", None, drain).await;
    let two = start_draining("two", Some(&one), drain).await;
    let (shards_one, shards_two) = (supervise(&one, "one", &notes), supervise(&two, "two", &notes));
    for shards in [&shards_one, &shards_two] {
        tokio::time::timeout(PATIENCE, shards.until_up()).await.unwrap().unwrap();
    }
    let pair = Pair { one, two, shards_one, shards_two, notes };
    let both_run = || [&pair.shards_one, &pair.shards_two].iter().all(|shards| here(shards).next().is_some());
    let since = Instant::now();
    while !both_run() {
        assert!(since.elapsed() < PATIENCE, "one node runs all shards");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    pair
}

impl Pair {
    async fn leave(self) {
        self.one.leave().await;
        self.two.leave().await;
    }
}

/// The shards that run on this node.
fn here(shards: &Shards<Clerk>) -> impl Iterator<Item = u32> {
    (0..COUNT).filter(|index| shards.worker(*index).is_ready())
}

/// A key of this shard.
fn key(shards: &Shards<Clerk>, index: u32) -> String {
    (0..).map(|number| format!("key {number}")).find(|key| shards.shard_of(key) == index).unwrap()
}

fn note(sender: u32, key: u32, number: u32, takes_ms: u64) -> Note {
    Note { sender, key, number, takes_ms }
}

#[test]
fn an_expired_request_is_not_handled_at_its_owner() {
    live(async {
        let pair = pair().await;
        let index = here(&pair.shards_two).next().unwrap();
        let key = key(&pair.shards_one, index);
        let warm = pair.shards_one.send(&key, note(0, 0, 0, 0)).within(PATIENCE).await;
        assert_eq!(warm.as_deref(), Ok("two"));
        let slow = pair.shards_one.send(&key, note(0, 0, 1, 500));
        let expired = pair.shards_one.send(&key, note(0, 0, 2, 0)).within(Duration::from_millis(100)).await;
        assert_eq!(expired, Err(SendError::TimedOut));
        assert!(slow.within(PATIENCE).await.is_ok());
        assert!(pair.shards_one.send(&key, note(0, 0, 3, 0)).within(PATIENCE).await.is_ok());
        assert_eq!(*pair.notes.lock().unwrap(), [(0, 0, 0), (0, 0, 1), (0, 0, 3)]);
        pair.leave().await;
    });
}

#[test]
fn a_leave_under_load_fails_no_request_of_either_node() {
    live(leave_under_load("queue"));
}

#[test]
fn a_leave_that_drops_its_queues_fails_no_request_either() {
    live(leave_under_load("answers"));
}

async fn leave_under_load(drain: &str) {
    let pair = pair_draining(drain).await;
    let mut sent = Vec::new();
    // Queues that are long when the node leaves: some of its own messages go on to node one.
    for number in 0..60 {
        for index in 0..COUNT {
            for (sender, shards) in [(1, &pair.shards_one), (2, &pair.shards_two)] {
                sent.push(shards.send(key(shards, index), note(sender, index, number, 1)));
            }
        }
    }
    let load = async {
        for number in 60..120 {
            for index in 0..COUNT {
                let shards = &pair.shards_one;
                let note = note(1, index, number, 0);
                let sent = shards.send(key(shards, index), note).within(PATIENCE).await;
                assert!(sent.is_ok(), "shard {index}, {number}: {sent:?}");
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let answers = async {
        for (place, reply) in sent.into_iter().enumerate() {
            let answer = reply.within(PATIENCE).await;
            assert!(answer.is_ok(), "message {place}: {answer:?}");
        }
    };
    futures_util::future::join3(load, answers, pair.two.leave()).await;
    // Each message was handled once, and in the order of its sender.
    let mut next: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    for (sender, key, number) in pair.notes.lock().unwrap().drain(..) {
        let expected = next.entry((sender, key)).or_default();
        assert_eq!(number, *expected, "sender {sender}, shard {key}");
        *expected += 1;
    }
    for ((sender, _), count) in &next {
        assert_eq!(*count, if *sender == 1 { 120 } else { 60 });
    }
    assert_eq!(next.len() as u32, COUNT * 2);
    let moved: u64 = pair.shards_two.workers().iter().map(|worker| worker.message_counts().moved).sum();
    assert!(moved > 0 || drain == "queue", "no message of node two waited in a queue");
    pair.one.leave().await;
}

#[test]
fn an_interrupted_message_is_sent_again_as_often_as_asked() {
    live(async {
        let pair = pair().await;
        for (times, attempts_max, expected) in [(2, 3, Some(3)), (9, 2, None)] {
            pair.notes.lock().unwrap().clear();
            let index = here(&pair.shards_two).next().unwrap();
            let answer = pair.shards_one.send_retrying(key(&pair.shards_one, index), Break(times), attempts_max).await;
            match expected {
                Some(handled) => assert_eq!(answer, Ok(handled)),
                None => assert!(matches!(answer, Err(SendError::Interrupted(Interruption::Panicked(_)))), "{answer:?}"),
            }
            assert_eq!(pair.notes.lock().unwrap().len(), expected.unwrap_or(attempts_max as usize));
        }
        pair.leave().await;
    });
}

#[test]
fn a_message_without_a_report_that_is_refused_is_a_dead_letter() {
    live(async {
        let pair = pair().await;
        let index = here(&pair.shards_two).next().unwrap();
        let key = key(&pair.shards_one, index);
        let mut letters = pair.one.subscribe_dead_letters();
        // At once: it cannot be encoded. Later: the owner does not know the message.
        pair.shards_one.do_send(&key, Local);
        pair.shards_one.do_send(&key, Second(1));
        pair.shards_one.do_send(&key, note(0, 0, 0, 0));
        for expected in ["Local", "Second"] {
            let letter = tokio::time::timeout(PATIENCE, letters.next()).await.unwrap().unwrap();
            assert_eq!((letter.reason, &*letter.worker), (DeadReason::Refused, &*format!("clerks/{index}")));
            assert!(letter.message.ends_with(expected), "{}", letter.message);
        }
        assert!(pair.shards_one.send(&key, note(0, 0, 1, 0)).within(PATIENCE).await.is_ok());
        assert_eq!(*pair.notes.lock().unwrap(), [(0, 0, 0), (0, 0, 1)]);
        pair.leave().await;
    });
}

#[test]
fn a_worker_of_a_member_is_reached_by_its_name() {
    live(async {
        let notes = Notes::default();
        let clerk = |node: &Node, name: &'static str| {
            let notes = notes.clone();
            let clerk = node.supervise("clerk", move || Clerk { node: name, notes: notes.clone() }).unwrap();
            clerk.accept::<Note>().accept::<Local>()
        };
        let one = start_node("one", None).await;
        let two = start_node("two", Some(&one)).await;
        tokio::time::timeout(PATIENCE, one.until_joined()).await.unwrap().unwrap();
        tokio::time::timeout(PATIENCE, two.until_joined()).await.unwrap().unwrap();
        let (_clerk_one, clerk_two) = (clerk(&one, "one"), clerk(&two, "two"));
        let (to_one, to_two) = (one.remote::<Clerk>("one", "clerk"), one.remote::<Clerk>("two", "clerk"));
        assert_eq!(to_one.send(note(0, 0, 1, 0)).await.as_deref(), Ok("one"));
        assert_eq!(to_two.send(note(0, 0, 2, 0)).within(PATIENCE).await.as_deref(), Ok("two"));
        // On this node nothing is encoded.
        assert_eq!(to_one.send(Local).await, Ok(7));
        assert_eq!(to_two.send(Local).await, Err(SendError::Unencodable("calls.local")));
        // Each error names what is missing.
        for from in [&to_one, &to_two] {
            assert_eq!(from.send(First(1)).within(PATIENCE).await, Err(SendError::UnknownMessage("calls.versioned")));
        }
        for member in ["one", "two"] {
            let unknown = one.remote::<Clerk>(member, "cook").send(note(0, 0, 0, 0)).within(PATIENCE).await;
            assert_eq!(unknown, Err(SendError::UnknownWorker { member: member.into(), worker: "cook".into() }));
            assert!(unknown.unwrap_err().to_string().contains("cook"));
        }
        let unknown = one.remote::<Clerk>("three", "clerk").send(note(0, 0, 0, 0)).await;
        assert_eq!(unknown, Err(SendError::UnknownMember("three".into())));
        // The address follows the worker, and the member's next process.
        clerk_two.restart();
        assert_eq!(to_two.send(note(0, 0, 3, 0)).within(PATIENCE).await.as_deref(), Ok("two"));
        clerk_two.stop();
        let since = Instant::now();
        while to_two.send(note(0, 0, 4, 0)).within(PATIENCE).await != Err(SendError::Closed) {
            assert!(since.elapsed() < PATIENCE);
        }
        two.leave().await;
        let two = start_node("two", Some(&one)).await;
        let _clerk_two = clerk(&two, "two");
        tokio::time::timeout(PATIENCE, two.until_joined()).await.unwrap().unwrap();
        let since = Instant::now();
        while to_two.send(note(0, 0, 5, 0)).within(PATIENCE).await.as_deref() != Ok("two") {
            assert!(since.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        one.leave().await;
        two.leave().await;
    });
}

#[test]
fn old_and_new_versions_of_a_message_live_side_by_side() {
    live(async {
        let pair = pair().await;
        // Node one is upgraded: it accepts both versions.
        let upgraded = pair.shards_one.clone().accept::<Second>();
        let (at_one, at_two) = (here(&pair.shards_one).next().unwrap(), here(&pair.shards_two).next().unwrap());
        let (at_one, at_two) = (key(&upgraded, at_one), key(&upgraded, at_two));
        for key in [&at_one, &at_two] {
            assert_eq!(upgraded.send(key, First(5)).within(PATIENCE).await, Ok(5));
            assert_eq!(pair.shards_two.send(key, First(6)).within(PATIENCE).await, Ok(6));
        }
        assert_eq!(pair.shards_two.send(&at_one, Second(7)).within(PATIENCE).await, Ok(7));
        let unknown = upgraded.send(&at_two, Second(8)).within(PATIENCE).await;
        assert_eq!(unknown, Err(SendError::UnknownMessage("calls.versioned")));
        pair.leave().await;
    });
}

#[test]
fn bad_bodies_and_bytes_are_refused_alone() {
    live(async {
        let pair = pair().await;
        let index = here(&pair.shards_two).next().unwrap();
        let key = key(&pair.shards_one, index);
        let forged = pair.shards_one.send(&key, Forged(0)).within(PATIENCE).await;
        assert_eq!(forged, Err(SendError::Refused(Refusal::Undecodable)));
        let address = pair.one.view().member("two").unwrap().address;
        for bytes in [&b"HBRQ\xff\xff\xff\xff"[..], b"HBRQ\x01\x00\x00\x00\x63", b"HBRQ\x01\x00\x00\x00\x02"] {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(bytes).unwrap();
            let mut rest = Vec::new();
            // It is closed, with or without a goodbye, and possibly by a reset.
            let _ = stream.read_to_end(&mut rest);
            assert!(rest.len() < 20, "{rest:?}");
        }
        let half = TcpStream::connect(address).unwrap();
        (&half).write_all(b"HBRQ\x16\x00").unwrap();
        drop(half);
        assert!(pair.shards_one.send(&key, note(0, 0, 0, 0)).within(PATIENCE).await.is_ok());
        pair.leave().await;
    });
}
