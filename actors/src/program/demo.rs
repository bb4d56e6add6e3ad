//! `heartbeat top --demo`: a small cluster to look at, within this process.
//!
//! Three real nodes on loopback. One worker blocks in a call again and again, one gets more mail
//! than it can handle, one panics now and then, and the third node leaves and comes back. What is
//! shown is what such a service would show.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use actix::prelude::*;
use heartbeat_actors::group::GroupSpec;
use heartbeat_actors::worker::Placement;
use heartbeat_actors::{Config, Context, Node, SuperviseError, WorkerAddr, WorkerSpec};

use crate::Failure;

/// How long the demonstration may take to start.
const STARTS_WITHIN: Duration = Duration::from_secs(10);

/// How long the third node stays, and stays away.
const STAYS_FOR: Duration = Duration::from_secs(40);
const AWAY_FOR: Duration = Duration::from_secs(15);

/// Nodes that run until this is dropped.
pub(crate) struct Demo {
    /// Where the first node answers.
    pub(crate) url: String,
    _end: tokio::sync::oneshot::Sender<()>,
}

impl Demo {
    /// Starts the nodes on threads of their own.
    pub(crate) fn start() -> Result<Demo, Failure> {
        hide_panics_of_workers();
        let (started, starts) = mpsc::channel();
        let (end, ended) = tokio::sync::oneshot::channel();
        std::thread::Builder::new().name("demo".into()).spawn(move || {
            actix::System::new().block_on(async move {
                match first_nodes().await {
                    Ok(nodes) => {
                        let url = nodes[0].http_address().map(|address| format!("http://{address}"));
                        // An error: the start took too long, and the program has ended.
                        let _ = started.send(url.ok_or_else(|| "the node opened no port".to_owned()));
                        tokio::select! {
                            () = come_and_go(nodes[0].address()) => {}
                            _ = ended => {}
                        }
                        drop(nodes);
                    }
                    Err(error) => drop(started.send(Err(error.to_string()))),
                }
            });
        })?;
        let url = starts.recv_timeout(STARTS_WITHIN).map_err(|_| "the demonstration did not start in time")??;
        Ok(Demo { url, _end: end })
    }
}

/// Panics of workers are events here, and their traces would be drawn over the screen.
pub(crate) fn hide_panics_of_workers() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // Workers run on arbiters; actix names their threads.
        if !std::thread::current().name().is_some_and(|name| name.contains("arbiter")) {
            before(info);
        }
    }));
}

/// The config of a node. Timeouts are short, so that something happens in a minute.
fn config(name: &str, zone: &str, seed: Option<SocketAddr>, more: &str) -> Result<Config, Failure> {
    let seeds = seed.map(|seed| format!("'{seed}'")).unwrap_or_default();
    Ok(Config::from_toml(&format!(
        "interval = '200ms'\ntimeout = '2s'\n[workers]\ntimeout = '15s'\narbiters = 4\n[restart]\nintensity = 30\nperiod = '2m'\n{more}
[cluster]\nname = 'demo'\nnode = '{name}'\nrole = 'worker'\nmode = 'random'\nlisten = '127.0.0.1:0'\nzone = '{zone}'\nseeds = [{seeds}]"
    ))?)
}

/// The nodes that stay: the first one, which is looked at, and another one.
async fn first_nodes() -> Result<Vec<Node>, Failure> {
    let first = Node::start(config("orders-0", "rack-1", None, "[http]\nlisten = '127.0.0.1:0'")?).await?;
    first.until_joined().await?;
    let second = Node::start(config("orders-1", "rack-2", first.address(), "")?).await?;
    for node in [&first, &second] {
        shards(node)?;
    }
    workers(&first)?;
    Ok(vec![first, second])
}

/// A third node that joins, leaves and joins again.
async fn come_and_go(seed: Option<SocketAddr>) {
    loop {
        let Ok(config) = config("orders-2", "rack-2", seed, "") else { return };
        match Node::start(config).await {
            Ok(node) => {
                // A refused name is one that exists: this node is new.
                let _ = shards(&node);
                actix_rt::time::sleep(STAYS_FOR).await;
                node.leave().await;
            }
            Err(_) => return,
        }
        actix_rt::time::sleep(AWAY_FOR).await;
    }
}

fn shards(node: &Node) -> Result<(), SuperviseError> {
    node.supervise_shards("accounts", 12, |_| Ok(Account)).map(drop)
}

/// The workers of the node that is looked at, and their work.
fn workers(node: &Node) -> Result<(), SuperviseError> {
    let group = node.root().group(GroupSpec::new("orders"))?;
    let mut parsers = Vec::new();
    for number in 0..8 {
        parsers.push(group.supervise_with(WorkerSpec::new(format!("parse-{number}")), |_| Ok(Parser { parsed: 0 }))?);
    }
    every(Duration::from_millis(20), move |turn| {
        let parser = &parsers[turn as usize % parsers.len()];
        // Refused while the worker is away; the next one is sent anyway.
        let _ = parser.try_send(Parse);
    });

    let mail = node.root().group(GroupSpec::new("mail"))?;
    let sender = mail.supervise_with(WorkerSpec::new("smtp").capacity(200), |_| Ok(Mailer))?;
    send_every(Duration::from_millis(40), sender, || Post);
    let queue = mail.supervise_with(WorkerSpec::new("bounces").capacity(50), |_| Ok(Mailer))?;
    send_every(Duration::from_millis(105), queue, || Post);

    let import = node.root().group(GroupSpec::new("import"))?;
    let importer =
        import.supervise_with(WorkerSpec::new("catalogue").placement(Placement::Dedicated), |_| Ok(Importer))?;
    send_every(Duration::from_secs(3), importer, || Load);
    let billing = import.supervise_with(WorkerSpec::new("billing"), |_| Ok(Billing { seen: 0 }))?;
    send_every(Duration::from_millis(500), billing, || Charge);
    Ok(())
}

/// Does this again and again on the demonstration's own thread.
fn every(period: Duration, mut act: impl FnMut(u64) + 'static) {
    actix_rt::spawn(async move {
        for turn in 0.. {
            act(turn);
            actix_rt::time::sleep(period).await;
        }
    });
}

/// Sends the worker a message again and again, whether it takes it or not.
fn send_every<A, M>(period: Duration, worker: WorkerAddr<A>, message: fn() -> M)
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    every(period, move |_| {
        // Refused while the queue is full: that is what is to be seen.
        let _ = worker.try_send(message());
    });
}

/// A shard that only is there.
struct Account;

impl Actor for Account {
    type Context = Context<Self>;
}

/// Is quick and always well.
struct Parser {
    parsed: u64,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Parse;

impl Actor for Parser {
    type Context = Context<Self>;
}

impl Handler<Parse> for Parser {
    type Result = ();

    fn handle(&mut self, _: Parse, _: &mut Context<Self>) {
        self.parsed += 1;
    }
}

/// Gets more mail than it can send: its queue is full.
struct Mailer;

#[derive(Message)]
#[rtype(result = "()")]
struct Post;

impl Actor for Mailer {
    type Context = Context<Self>;
}

impl Handler<Post> for Mailer {
    type Result = ();

    fn handle(&mut self, _: Post, context: &mut Context<Self>) {
        // It awaits, so it holds no thread.
        context.wait(actix::fut::wrap_future(actix_rt::time::sleep(Duration::from_millis(100))));
    }
}

/// Blocks its thread in a call that takes longer than `workers.timeout`, so it is replaced each
/// time.
struct Importer;

#[derive(Message)]
#[rtype(result = "()")]
struct Load;

impl Actor for Importer {
    type Context = Context<Self>;
}

impl Handler<Load> for Importer {
    type Result = ();

    fn handle(&mut self, _: Load, _: &mut Context<Self>) {
        std::thread::sleep(Duration::from_secs(25));
    }
}

/// Panics at each twentieth message.
struct Billing {
    seen: u64,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Charge;

impl Actor for Billing {
    type Context = Context<Self>;
}

impl Handler<Charge> for Billing {
    type Result = ();

    fn handle(&mut self, _: Charge, _: &mut Context<Self>) {
        self.seen += 1;
        assert!(self.seen < 20, "no price for article 4711");
    }
}
