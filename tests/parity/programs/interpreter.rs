//! Plays a program, under actix's context or under ours, and notes each event with its instant.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use actix::dev::{MessageResponse, OneshotSender};
use actix::fut::wrap_future;
use actix::prelude::*;
use futures_util::stream::unfold;

use super::world::{Address, Context, World, run};
use crate::programs::HOLDS;
use crate::programs::program::{Act, HORIZON_MS, Plan, Program, Reply, Role};
use crate::tally::millis;

/// What all actors of a program share.
struct Shared {
    begun: tokio::time::Instant,
    events: Mutex<Vec<(u64, String)>>,
    actors: Mutex<Vec<Address<Player>>>,
}

impl Shared {
    fn note(&self, what: String) {
        let now = self.begun.elapsed().as_millis() as u64;
        if now < HORIZON_MS {
            self.events.lock().unwrap().push((now, what));
        }
    }
}

/// An actor of a program.
struct Player {
    index: usize,
    role: Role,
    shared: Arc<Shared>,
    handles: BTreeMap<u32, SpawnHandle>,
    /// Of its intervals, in the order in which they began.
    intervals: Vec<SpawnHandle>,
}

#[derive(Message)]
#[rtype(result = "u32")]
struct Do(Plan, Source);

/// Where a message comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// An address.
    Mail,
    /// The actor itself, or a stream of its own.
    Own,
}

/// An item of a stream.
struct Item(u32, u32);

/// An answer of any kind.
enum Response {
    Now(u32),
    Actor(ResponseActFuture<Player, u32>),
    Future(ResponseFuture<u32>),
    Atomic(AtomicResponse<Player, u32>),
}

impl MessageResponse<Player, Do> for Response {
    fn handle(self, ctx: &mut Context<Player>, answer: Option<OneshotSender<u32>>) {
        match self {
            Response::Now(value) => MessageResponse::<Player, Do>::handle(value, ctx, answer),
            Response::Actor(future) => MessageResponse::<Player, Do>::handle(future, ctx, answer),
            Response::Future(future) => MessageResponse::<Player, Do>::handle(future, ctx, answer),
            Response::Atomic(future) => MessageResponse::<Player, Do>::handle(future, ctx, answer),
        }
    }
}

impl Actor for Player {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.note("started");
        self.act(self.role.begins.clone(), ctx);
    }

    fn stopping(&mut self, _: &mut Context<Self>) -> Running {
        self.note("stopping");
        if self.role.stays == 0 {
            return Running::Stop;
        }
        self.role.stays -= 1;
        Running::Continue
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.note("stopped");
    }
}

impl Handler<Do> for Player {
    type Result = Response;

    fn handle(&mut self, Do(plan, source): Do, ctx: &mut Context<Self>) -> Response {
        let id = plan.id;
        match source {
            Source::Mail => self.note(&format!("handles {id}")),
            Source::Own => self.note(&format!("handles its own {id}")),
        }
        self.act(plan.acts, ctx);
        if let Reply::Atomic { .. } = plan.reply {
            self.note(HOLDS);
        }
        let pause = |after_ms| tokio::time::sleep(millis(after_ms));
        let answered = move |(), player: &mut Player, _: &mut Context<Player>| {
            player.note(&format!("answers {id}"));
            id
        };
        match plan.reply {
            Reply::Now => Response::Now(id),
            Reply::Actor { after_ms } => Response::Actor(Box::pin(wrap_future(pause(after_ms)).map(answered))),
            Reply::Atomic { after_ms } => {
                Response::Atomic(AtomicResponse::new(Box::pin(wrap_future(pause(after_ms)).map(answered))))
            }
            Reply::Future { after_ms } => Response::Future(Box::pin(async move {
                pause(after_ms).await;
                id
            })),
        }
    }
}

impl StreamHandler<Item> for Player {
    fn handle(&mut self, Item(id, number): Item, _: &mut Context<Self>) {
        self.note(&format!("item {number} of {id}"));
    }

    fn finished(&mut self, _: &mut Context<Self>) {
        self.note("a stream has finished");
    }
}

impl Player {
    fn note(&self, what: &str) {
        self.shared.note(format!("{}: {what}", self.index));
    }

    fn act(&mut self, acts: Vec<Act>, ctx: &mut Context<Self>) {
        for act in acts {
            self.act_once(act, ctx);
        }
    }

    fn act_once(&mut self, act: Act, ctx: &mut Context<Self>) {
        if let Act::Wait { .. } | Act::Cancel(_) | Act::Stop | Act::Terminate = act {
            self.note(HOLDS);
        }
        match act {
            Act::Later { id, after_ms, then } => {
                let handle = ctx.run_later(millis(after_ms), move |player, ctx| {
                    player.note(&format!("timer {id}"));
                    player.act(then, ctx);
                });
                self.handles.insert(id, handle);
            }
            Act::Interval { id, every_ms, times } => {
                let (mut left, own) = (times, self.intervals.len());
                let handle = ctx.run_interval(millis(every_ms), move |player, ctx| {
                    player.note(&format!("tick of {id}"));
                    left = left.saturating_sub(1);
                    if left == 0 {
                        ctx.cancel_future(player.intervals[own]);
                    }
                });
                self.handles.insert(id, handle);
                self.intervals.push(handle);
            }
            Act::Spawn { id, sleep_ms, then } => {
                let future = wrap_future::<_, Player>(tokio::time::sleep(millis(sleep_ms)));
                let handle = ctx.spawn(future.map(move |(), player, ctx| {
                    player.note(&format!("future {id}"));
                    player.act(then, ctx);
                }));
                self.handles.insert(id, handle);
            }
            Act::Wait { id, sleep_ms } => {
                let future = wrap_future::<_, Player>(tokio::time::sleep(millis(sleep_ms)));
                ctx.wait(future.map(move |(), player, _| player.note(&format!("waited for {id}"))));
            }
            Act::Notify(plan) => ctx.notify(Do(plan, Source::Own)),
            Act::NotifyLater { id, after_ms, plan } => {
                let handle = ctx.notify_later(Do(plan, Source::Own), millis(after_ms));
                self.handles.insert(id, handle);
            }
            Act::Stream { id, every_ms, count } => {
                let begun = tokio::time::Instant::now();
                let items = unfold(0, move |number| async move {
                    tokio::time::sleep_until(begun + millis(every_ms) * (number + 1)).await;
                    (number < count).then_some((Item(id, number), number + 1))
                });
                let handle = ctx.add_stream(items);
                self.handles.insert(id, handle);
            }
            Act::Messages { every_ms, plan, count } => {
                let begun = tokio::time::Instant::now();
                ctx.add_message_stream(Box::pin(unfold(0, move |number| {
                    let plan = plan.clone();
                    async move {
                        tokio::time::sleep_until(begun + millis(every_ms) * (number + 1)).await;
                        (number < count).then_some((Do(plan, Source::Own), number + 1))
                    }
                })));
            }
            Act::Cancel(id) => {
                if let Some(handle) = self.handles.get(&id) {
                    ctx.cancel_future(*handle);
                }
            }
            Act::Send { to, plan } => {
                let id = plan.id;
                let answer = self.peer(to).send(Do(plan, Source::Mail));
                ctx.spawn(wrap_future::<_, Player>(answer).map(move |answer, player, _| {
                    player.note(&format!("takes in the answer to {id}: {:?}", answer.ok()));
                }));
            }
            Act::Post { to, plan } => self.peer(to).do_send(Do(plan, Source::Mail)),
            Act::Stop => ctx.stop(),
            Act::Terminate => ctx.terminate(),
        }
    }

    fn peer(&self, index: usize) -> Address<Player> {
        self.shared.actors.lock().unwrap()[index].clone()
    }
}

/// What happens in a program and at which millisecond, in order.
pub(crate) fn play(program: &Program) -> Vec<(u64, String)> {
    let all = Arc::new(Mutex::new(Vec::new()));
    let (events, program) = (all.clone(), program.clone());
    run(async move |world| {
        let shared =
            Arc::new(Shared { begun: tokio::time::Instant::now(), events: Mutex::default(), actors: Mutex::default() });
        play_in(world, &program, &shared).await;
        *all.lock().unwrap() = std::mem::take(&mut *shared.events.lock().unwrap());
        shared.actors.lock().unwrap().clear();
    });
    std::mem::take(&mut *events.lock().unwrap())
}

async fn play_in(world: &World, program: &Program, shared: &Arc<Shared>) {
    {
        // An actor looks for its peers when it has begun, which is when this task gives way.
        let mut actors = shared.actors.lock().unwrap();
        for (index, role) in program.roles.iter().cloned().enumerate() {
            actors.push(world.start(Player {
                index,
                role,
                shared: shared.clone(),
                handles: BTreeMap::new(),
                intervals: Vec::new(),
            }));
        }
    }
    for step in &program.steps {
        tokio::time::sleep_until(shared.begun + millis(step.at_ms)).await;
        let (id, shared) = (step.plan.id, shared.clone());
        let address = shared.actors.lock().unwrap()[step.to].clone();
        let answer = address.send(Do(step.plan.clone(), Source::Mail));
        actix::spawn(async move {
            let answer = answer.await;
            shared.note(format!("outside: the answer to {id} is {:?}", answer.ok()));
        });
    }
    tokio::time::sleep_until(shared.begun + millis(HORIZON_MS)).await;
}
