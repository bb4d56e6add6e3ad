//! A node in a process of its own, for the live tests. It reads its config from a file, prints its
//! events as JSON lines, and leaves when its input ends or a signal arrives. A second argument says
//! what its workers do, or which fault the node gets.

#[path = "note.rs"]
mod note;

use std::io::Read;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context as Task, Poll};
use std::time::{Duration, Instant};

use actix::prelude::*;
use actix_rt::signal::unix::{SignalKind, signal};
use heartbeat_actors::transport::{Batch, Transport};
use heartbeat_actors::worker::Placement;
use heartbeat_actors::{Config, Context, Node, Update, WorkerAddr, WorkerSpec};

/// Does what it is sent.
struct Hand;

impl Actor for Hand {
    type Context = Context<Self>;
}

/// Holds the thread in naps for this long, and reports progress if the message says so.
#[derive(Message)]
#[rtype(result = "()")]
struct Hold {
    time: Duration,
    reports: bool,
}

impl Handler<Hold> for Hand {
    type Result = ();

    fn handle(&mut self, hold: Hold, context: &mut Context<Self>) {
        let (begun, progress) = (Instant::now(), context.progress());
        while begun.elapsed() < hold.time {
            std::thread::sleep(Duration::from_millis(50));
            if hold.reports {
                progress.report();
            }
        }
    }
}

/// Runs for this long without a pause.
#[derive(Message)]
#[rtype(result = "()")]
struct Spin(Duration);

impl Handler<Spin> for Hand {
    type Result = ();

    fn handle(&mut self, spin: Spin, _: &mut Context<Self>) {
        let begun = Instant::now();
        while begun.elapsed() < spin.0 {
            std::hint::spin_loop();
        }
    }
}

struct Teller;

impl Actor for Teller {
    type Context = actix::Context<Self>;
}

impl Handler<Update> for Teller {
    type Result = ();

    fn handle(&mut self, update: Update, _: &mut Self::Context) {
        match update {
            Update::Event(event) => match serde_json::to_string(&event) {
                Ok(line) => println!("{line}"),
                Err(error) => eprintln!("an event has no JSON: {error}"),
            },
            // The members it knew before the subscription began.
            Update::View(view) => view.members.iter().for_each(|member| {
                println!("{}", serde_json::json!({ "event": "knew", "node": &*member.name }));
            }),
            _ => {}
        }
    }
}

/// A transport that carries nothing, and after a while holds the thread that asks it: the one of
/// receiver and supervisor.
struct Sticky {
    begun: Instant,
    timer: std::cell::RefCell<std::pin::Pin<Box<tokio::time::Sleep>>>,
}

/// When that thread is held, and for how long.
const STUCK_AFTER: Duration = Duration::from_secs(2);
const STUCK_FOR: Duration = Duration::from_secs(4);

impl Transport for Sticky {
    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 9))
    }

    fn send(&self, _: SocketAddr, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }

    fn poll_receive(&self, task: &mut Task<'_>, _: &mut Batch) -> Poll<std::io::Result<()>> {
        let mut timer = self.timer.borrow_mut();
        if timer.as_mut().poll(task).is_ready() {
            println!("{{\"event\":\"stuck\"}}");
            std::thread::sleep(STUCK_FOR);
            println!("{{\"event\":\"free\",\"after\":{}}}", self.begun.elapsed().as_millis());
            timer.as_mut().reset(tokio::time::Instant::now() + Duration::from_secs(3600));
            let _ = timer.as_mut().poll(task); // Far away; so that we are woken then.
        }
        Poll::Pending
    }
}

async fn start(config: Config, mode: &str) -> Result<Node, Box<dyn std::error::Error>> {
    Ok(match mode {
        "sticky" => {
            Node::start_on(config, || {
                let timer = std::cell::RefCell::new(Box::pin(tokio::time::sleep(STUCK_AFTER)));
                Ok(Some(Rc::new(Sticky { begun: Instant::now(), timer }) as Rc<dyn Transport>))
            })
            .await?
        }
        _ => Node::start(config).await?,
    })
}

/// Work that is slow, long or much, and not a failure.
fn steady(node: &Node) -> Result<(), Box<dyn std::error::Error>> {
    let on_its_own = |name| WorkerSpec::new(name).placement(Placement::Dedicated);
    let diligent: WorkerAddr<Hand> = node.supervise_with(on_its_own("diligent"), |_| Ok(Hand))?;
    let flooded: WorkerAddr<Hand> = node.supervise_with(on_its_own("flooded"), |_| Ok(Hand))?;
    for index in 0..100 {
        node.supervise(&format!("idle-{index}"), || Hand)?;
    }
    actix_rt::spawn(async move {
        // A job of 10 s that says that it goes on, again and again.
        while diligent.send(Hold { time: Duration::from_secs(10), reports: true }).await.is_ok() {}
    });
    actix_rt::spawn(async move {
        // A mailbox that is always full of short jobs.
        loop {
            if flooded.try_send(Spin(Duration::from_micros(200))).is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
    Ok(())
}

/// Adds and removes workers without end: two events each, with long names.
fn restless(node: &Node) {
    let node = node.clone();
    actix_rt::spawn(async move {
        for number in 0_u64.. {
            match node.supervise(&format!("worker-{number:050}"), || Hand) {
                Ok(worker) => worker.remove(),
                Err(_) => return, // The node leaves.
            }
            if number % 8 == 7 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
}

#[actix::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Before anything else, so that a signal during the start is a way to leave, too.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let path = std::env::args().nth(1).ok_or("usage: node CONFIG [steady|stuck|sticky|stopped|restless|tally]")?;
    let mode = std::env::args().nth(2).unwrap_or_default();
    let node = start(Config::from_toml(&std::fs::read_to_string(path)?)?, &mode).await?;
    node.subscribe(Teller.start().recipient());
    let idle = node.supervise("idle", || Hand)?;
    match &*mode {
        "steady" => steady(&node)?,
        "stuck" => idle.do_send(Hold { time: Duration::from_secs(86_400), reports: false }),
        "sticky" => {}
        "restless" => restless(&node),
        "tally" => {
            let note = std::sync::Arc::new(|number| println!("{{\"noted\":{number}}}"));
            let tally =
                node.supervise_shards("tally", note::SHARDS, move |_| Ok(note::Tally { note: note.clone() }))?;
            drop(tally.accept::<note::Note>());
        }
        _ => drop(node.supervise_shards("orders", 8, |_| Ok(Hand))?),
    }
    node.notify_systemd().await?;
    if mode == "stopped" {
        let reason = node.until_stopped().await?;
        println!("{{\"event\":\"ended\",\"reason\":\"{reason:?}\"}}");
        return Ok(());
    }
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut rest = Vec::new();
        // An error is an end as well: the process at the other side is gone.
        let _ = std::io::stdin().read_to_end(&mut rest);
        let _ = ended.send(());
    });
    tokio::select! {
        _ = end => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    node.leave().await;
    Ok(())
}
