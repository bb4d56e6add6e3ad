//! A rolling upgrade: five processes of the former release are replaced one by one, while requests
//! go on.
//!
//! The former release is this one with `cluster.wire_version_max` at the lowest version. With
//! `HEARTBEAT_FORMER_NODE=PROGRAM` it is a build of the former release's `node` instead.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use heartbeat_actors::{Config, Event, Node, Update};
use heartbeat_core::wire::{VERSION_MAX, VERSION_MIN};

use crate::moves::{Ended, Noted, Phase, Process, SENDERS, check, send, settled};
use crate::note::{Note, SHARDS, Tally};
use crate::{Events, PATIENCE, live, seeds};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// A config in which a busy machine causes no suspicion.
fn config(node: &str, first: Option<&Node>, more: &str) -> String {
    format!(
        "interval = '200ms'
         timeout = '20s'
         stall = '1s'
         [detector]
         kind = 'fixed'
         suspect_after = '10s'
         [cluster]
         name = 'live'
         node = '{node}'
         role = 'worker'
         mode = 'random'
         listen = '127.0.0.1:0'
         seeds = {}
         {more}",
        seeds(first)
    )
}

/// Starts a process of the former release.
fn start_former(name: &'static str, first: &Node, noted: &Noted) -> Process {
    match std::env::var_os("HEARTBEAT_FORMER_NODE").map(PathBuf::from) {
        Some(program) => Process::start_with(&program, &config(name, Some(first), ""), name, noted),
        None => {
            let lowest = format!("wire_version_max = {VERSION_MIN}");
            let program = Path::new(env!("CARGO_BIN_EXE_node"));
            Process::start_with(program, &config(name, Some(first), &lowest), name, noted)
        }
    }
}

/// How often a process has said this.
fn said(process: &Process, kind: &str) -> usize {
    process.said.lock().unwrap().iter().filter(|event| event["event"] == kind).count()
}

/// Asserts that the node has told of each departure, of no doubt, and of one rise at the end.
fn check_events(events: &mut Events) {
    let mut departures = 0;
    while let Ok(update) = events.0.try_recv() {
        let Update::Event(event) = update else { continue };
        match event {
            Event::Left { .. } => departures += 1,
            Event::WireVersionRaised { from, to } => {
                assert_eq!((from, to, departures), (VERSION_MIN, VERSION_MAX, NAMES.len()));
                departures += 100;
            }
            Event::Suspected { .. } | Event::Died { .. } | Event::WireVersionLowered { .. } => panic!("{event:?}"),
            _ => {}
        }
    }
    assert_eq!(departures, NAMES.len() + 100, "five departures, and one rise after them");
}

#[test]
fn a_rolling_upgrade_loses_nothing_and_ends_in_the_new_version() {
    live(async {
        let noted = Noted::default();
        let node = Node::start(Config::from_toml(&config("sender", None, "")).unwrap()).await.unwrap();
        let here = noted.clone();
        let note = Arc::new(move |number| here.lock().unwrap().entry("sender".to_owned()).or_default().push(number));
        let shards = node.supervise_shards("tally", SHARDS, move |_| Ok(Tally { note: note.clone() })).unwrap();
        let shards = shards.accept::<Note>();
        let mut processes = NAMES.map(|name| start_former(name, &node, &noted));
        let all = [NAMES.as_slice(), &["sender"]].concat();
        settled(&node, &shards, &all).await;
        let mut events = Events::of(&node);

        let (phase, ended) = (Rc::new(Cell::new(Phase::Graceful)), Ended::default());
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| actix_rt::spawn(send(sender, shards.clone(), phase.clone(), ended.clone())))
            .collect();
        for (place, name) in NAMES.into_iter().enumerate() {
            let common = node.view().wire_version().unwrap();
            let former: Vec<&str> = common.held_back_by.iter().map(|name| &**name).collect();
            assert_eq!((common.version, former.as_slice()), (VERSION_MIN, &NAMES[place..]));
            processes[place].leave();
            let rest: Vec<&str> = all.iter().copied().filter(|other| *other != name).collect();
            settled(&node, &shards, &rest).await;
            processes[place].finish();
            assert_eq!(said(&processes[place], "wire_version_raised"), 0, "{name} was of the former release");
            let program = Path::new(env!("CARGO_BIN_EXE_node"));
            processes[place] = Process::start_with(program, &config(name, Some(&node), ""), name, &noted);
            settled(&node, &shards, &all).await;
        }
        let common = node.view().wire_version().unwrap();
        assert_eq!((common.version, common.held_back_by.len()), (VERSION_MAX, 0));
        phase.set(Phase::Over);
        for sender in senders {
            tokio::time::timeout(PATIENCE, sender).await.expect("a request never ends").unwrap();
        }
        check_events(&mut events);
        processes.iter_mut().for_each(Process::finish);
        node.leave().await;
        // The last process that was replaced never used the lower version.
        let rises: Vec<usize> = processes.iter().map(|process| said(process, "wire_version_raised")).collect();
        assert_eq!(rises, [1, 1, 1, 1, 0]);
        for (process, name) in processes.iter().zip(NAMES) {
            for doubt in ["suspected", "died", "wire_version_lowered"] {
                assert_eq!(said(process, doubt), 0, "{name}: {doubt}");
            }
        }
        assert!(ended.borrow().iter().all(|(_, _, answer)| answer.is_ok()), "no request failed");
        assert!(ended.borrow().len() > 100, "{} requests", ended.borrow().len());
        check(&ended.borrow(), &noted.lock().unwrap());
    });
}
