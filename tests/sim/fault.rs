//! `Fault`: what can be done to a world, and how the world does it.

use std::time::Duration;

use heartbeat_core::WorkerId;

use crate::authority::Authority;
use crate::event_queue::Item;
use crate::network::Place;
use crate::shape::NOTE;
use crate::world::World;

/// Something that is done to the world.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// End a node's process without a word. Its system closes its connections.
    Kill(Place),
    /// Cut a node's power: its process ends, and nobody answers for it.
    Unplug(Place),
    /// Start a node's process, with a generation of its own.
    Start(Place),
    /// Stop a node's process as SIGSTOP does.
    Pause(Place),
    /// Let it go on.
    Resume(Place),
    /// Let a worker panic.
    Panic(Place, WorkerId),
    /// Let a worker stop itself in good order.
    Finish(Place, WorkerId),
    /// Let a worker block its thread for this long.
    Block(Place, WorkerId, Duration),
    /// Let a node send its heartbeats this often.
    SetInterval(Place, Duration),
    /// Let a node say this of itself from now on, beside its weight.
    Say(Place, u64),
    /// Ask a node to leave.
    Leave(Place),
    /// Cut a link in one direction.
    Cut(Place, Place),
    /// Restore a link in one direction.
    Mend(Place, Place),
    /// Cut these nodes off from all others, in both directions; among themselves they go on.
    Partition(Vec<Place>),
    /// Set the chance of loss, duplication and reordering.
    Disturb(f64, f64, f64),
    /// Let a node lose this share of all it sends and receives.
    Garble(Place, f64),
    /// Let all that a node sends and receives take up to this much longer.
    Slow(Place, Duration),
    /// Let a node's clock run ahead by this much at once.
    Jump(Place, Duration),
    /// End all connections of a node, as a box on the way may; the processes go on.
    Sever(Place),
    /// Let the authority be away: it answers nothing, and what it is asked may be done or not.
    Absent,
    /// Let it be back.
    Present,
    /// Let the authority forget everything. Its epochs begin anew, as it knows nothing of floors.
    Forget,
    /// Let the authority forget everything, as an emptied store does.
    Empty,
    /// Set the wall clock of a node, in milliseconds from the right time, from its next start on.
    SetClock(Place, i64),
    /// Let one node not reach the authority: what it asks is not done, and it hears of nothing.
    CutOff(Place),
    /// Let it reach the authority again.
    Reach(Place),
    /// Let the authority's answers take up to this much longer.
    Delay(Duration),
    /// Make the network quiet and whole.
    Heal,
}

impl World {
    /// Plans a fault for this long after the start.
    pub fn plan(&mut self, after: Duration, fault: Fault) {
        let at = 1_000_000_000 + after.as_nanos() as u64;
        self.queue.put(at.max(self.now), Item::Fault(fault));
    }

    /// Does a fault now.
    pub fn apply(&mut self, fault: Fault) {
        self.note(0, || format!("-- {fault:?}"));
        if self.shape.log {
            let watched_by = match fault {
                Fault::Kill(place) | Fault::Unplug(place) => self.observers_of(place),
                _ => Vec::new(),
            };
            self.checker.fault(self.now, &fault, &watched_by);
        }
        match fault {
            Fault::Kill(place) => {
                self.nodes[place].process = None;
                self.break_streams(place);
            }
            Fault::Unplug(place) => {
                self.nodes[place].process = None;
                self.nodes[place].unplugged = true;
            }
            Fault::Sever(place) => self.sever(place),
            Fault::Garble(place, loss) => drop(self.network.lossy.insert(place, loss)),
            Fault::Slow(place, by) => drop(self.network.slow.insert(place, by)),
            Fault::Jump(place, by) => {
                self.nodes[place].offset += by.as_nanos() as u64;
                self.nodes[place].ahead += by.as_nanos() as u64;
                self.with_engine(place, |engine, now| engine.handle_timeout(now));
            }
            Fault::Start(place) => self.start(place),
            Fault::Pause(place) => {
                if let Some(process) = &mut self.nodes[place].process {
                    process.paused = true;
                }
            }
            Fault::Resume(place) => self.resume(place),
            Fault::Panic(place, worker) => self.panic(place, worker),
            Fault::Finish(place, worker) => self.finish(place, worker),
            Fault::Block(place, worker, duration) => self.block(place, worker, duration),
            Fault::SetInterval(place, interval) => self.with_engine(place, |engine, now| {
                engine.set_interval(now, interval).expect("an interval that the config allows");
            }),
            Fault::Say(place, note) => {
                let mut metadata = self.metadata_of(place);
                metadata.insert(NOTE.into(), note.to_string());
                if self.nodes[place].process.as_ref().is_some_and(|process| !process.paused) {
                    self.with_engine(place, |engine, now| {
                        engine.set_metadata(now, metadata).expect("metadata that travels");
                    });
                }
            }
            Fault::Leave(place) => self.with_engine(place, |engine, now| engine.leave(now)),
            Fault::Cut(from, to) => self.network.cut(from, to),
            Fault::Mend(from, to) => self.network.mend(from, to),
            Fault::Partition(places) => self.network.partition(&places, self.nodes.len()),
            Fault::Disturb(loss, duplication, reordering) => {
                (self.network.loss, self.network.duplication, self.network.reordering) =
                    (loss, duplication, reordering);
            }
            Fault::Absent => self.authority.is_down = true,
            Fault::Present => self.authority.return_at(self.now),
            Fault::Forget => self.authority = Authority::without_floors(),
            Fault::Empty => self.authority = Authority::default(),
            Fault::SetClock(place, off) => self.nodes[place].off = off,
            Fault::CutOff(place) => self.nodes[place].is_cut_off = true,
            Fault::Reach(place) => self.nodes[place].is_cut_off = false,
            Fault::Delay(by) => self.hesitation = by,
            Fault::Heal => self.network.heal(),
        }
    }
}
