//! The driver of a simulated node: it executes every output of the engine.

use std::net::SocketAddr;
use std::time::Duration;

use heartbeat_core::member::ProcessId;
use heartbeat_core::wire::HEADERS_BYTES;
use heartbeat_core::{Engine, Event, Input, Output, Report, StreamId};

use crate::event_queue::Item;
use crate::network::NodeIndex;
use crate::worker::Thread;
use crate::world::World;

/// What a stopped process keeps of what it is sent: about what a socket's buffer holds.
pub(crate) const BACKLOG_MAX: usize = 2_000;

/// Datagrams of which a recording is kept.
const RECORDINGS_MAX: usize = 20_000;

/// Buffers of datagrams that arrived, kept for those to come; the others are given back.
pub(crate) const SPARE_MAX: usize = 4_096;

impl World {
    /// One input to a node's engine, then its outputs are executed.
    pub(crate) fn handle_input(&mut self, place: NodeIndex, input: Input) {
        let now = self.clock(place);
        let Some(process) = &mut self.nodes[place].process else { return };
        process.handle(now, input);
        self.drain(place);
    }

    pub(crate) fn drain(&mut self, place: NodeIndex) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let now = self.clock(place);
        while let Some(process) = &mut self.nodes[place].process {
            if let Some(output) = process.poll_output(&mut buffer) {
                self.act(place, output, &buffer);
            } else if let Some(inspection) = process.inspections.pop_front() {
                process.handle(now, inspection);
            } else {
                break;
            }
        }
        self.buffer = buffer;
        self.follow_engine(place);
        let life = self.nodes[place].life;
        let Some(process) = &self.nodes[place].process else { return };
        let Some(due) = process.engine.poll_timeout() else { return };
        let ahead = due.as_nanos().saturating_sub(self.local(place, self.now));
        // A clock that runs slow needs longer for it.
        let longer = if self.drift == 0.0 { 0 } else { (ahead as f64 * self.drift.abs() * 1.01) as u64 };
        let at = self.now.saturating_add(ahead).saturating_add(longer);
        let process = self.nodes[place].process.as_mut().expect("it was just seen");
        // A timer that is set too early is let run.
        if at < process.timer_at {
            process.timer_at = at;
            self.put(at, Item::Timer { place, life, at });
        }
    }

    pub(crate) fn act(&mut self, place: NodeIndex, output: Output, buffer: &[u8]) {
        let life = self.nodes[place].life;
        match output {
            Output::Transmit { to, receiver } => self.transmit(place, to, receiver, buffer),
            Output::Open { stream, to } => self.open(place, stream, self.at_address(to)),
            Output::Frame { stream } => self.frame(place, stream, buffer),
            Output::Shut { stream } => self.shut(place, stream),
            // Seeds are addresses here.
            Output::Resolve { .. } => {}
            Output::AskAuthority { number, ask } => {
                let at = self.soon(Duration::from_millis(2));
                self.put(at, Item::Ask { place, life, number, ask });
            }
            Output::Start(start) => self.start_worker(place, start),
            Output::SetRestartPermit { worker, permit } => {
                if let Some(worker) = self.worker(place, worker) {
                    worker.permit = permit;
                }
            }
            Output::Stop { worker, .. } => {
                self.stop_requests(place, worker);
                if let Some(found) = self.worker(place, worker).cloned() {
                    let at = self.soon(Duration::from_millis(1)).max(found.starts_at + 1);
                    let (generation, report) = (found.generation, Report::Stopped);
                    self.put(at, Item::Report { place, life, worker, generation, report });
                }
            }
            // The worker is fenced: its later reports are dropped.
            Output::Close { worker, .. } | Output::Fence { worker, .. } | Output::Forget { worker } => {
                if let Some(process) = &mut self.nodes[place].process {
                    process.workers.remove(&worker);
                }
            }
            Output::Spawn { arbiter } => {
                self.threads(place).insert(arbiter, Thread::default());
                let at = self.soon(Duration::from_millis(1));
                self.put(at, Item::Beat { place, life, arbiter });
            }
            Output::Inspect { arbiter } => self.inspect(place, arbiter),
            Output::Abandon { arbiter } => self.abandon(place, arbiter),
            Output::Drain => {
                // This comes after all datagrams that wait for a process that resumes: they are
                // handed over in one go.
                let at = self.soon(Duration::from_millis(1));
                self.put(at, Item::Drained { place, life });
            }
            Output::Dismiss { arbiter } => drop(self.threads(place).remove(&arbiter)),
            // No simulated worker waits without end, is overloaded, is in a group or ends its
            // process. A held thread shows by its silence.
            Output::Arrived(_)
            | Output::Scan
            | Output::Held { .. }
            | Output::Returned { .. }
            | Output::Exit { .. }
            | Output::ForgetGroup { .. } => {}
            Output::Event(event) => self.publish(place, event),
        }
    }

    /// Notes an event, and passes it on to the requests, the listener and the checker.
    fn publish(&mut self, place: NodeIndex, event: Event) {
        self.note(place, || format!("{event:?}"));
        self.feed_requests(place, &event);
        let at = self.elapsed();
        if let Some(listener) = &mut self.listener {
            listener(at, place, &event);
        }
        if self.shape.log {
            let members = self.engine(place).into_iter().flat_map(Engine::members);
            let is_alone = members.filter(|member| member.status.is_member()).count() < 2;
            self.checker.event(self.now, place, is_alone, &event);
            self.events.push((at, place, event));
        }
    }

    fn transmit(&mut self, from: NodeIndex, to: SocketAddr, receiver: Option<ProcessId>, bytes: &[u8]) {
        let seal = self.nodes[from].process.as_mut().and_then(|process| process.seal.as_mut());
        let Some(seal) = seal else { return self.send(from, to, bytes) };
        let mut forms = Vec::new();
        seal.seal(receiver, bytes, |form| forms.push(form.to_vec()));
        for form in forms {
            if self.recordings.len() < RECORDINGS_MAX {
                self.recordings.push((to, self.nodes[from].address, form.clone()));
            }
            self.send(from, to, &form);
        }
    }

    fn send(&mut self, from: NodeIndex, to: SocketAddr, bytes: &[u8]) {
        self.sent = (self.sent.0 + 1, self.sent.1 + (bytes.len() + HEADERS_BYTES) as u64);
        let Some(place) = self.at_address(to) else {
            if self.lost.len() < BACKLOG_MAX {
                self.lost.push((to, bytes.to_vec()));
            }
            return;
        };
        for delay in self.network.deliveries(from, place, self.now, &mut self.random).into_iter().flatten() {
            let mut copy = self.spare.pop().unwrap_or_default();
            copy.clear();
            copy.extend_from_slice(bytes);
            let item = Item::Datagram { to: place, from: self.nodes[from].address, bytes: copy };
            self.put(self.now + delay.as_nanos() as u64, item);
        }
    }

    /// A connection comes in; its outputs are still to be drained.
    pub(crate) fn take_connection(&mut self, place: NodeIndex) -> Option<StreamId> {
        let now = self.clock(place);
        self.nodes[place].process.as_mut().map(|process| {
            process.handle(now, Input::Accepted);
            process.engine.accepted()
        })
    }

    /// Who has this address.
    pub(crate) fn at_address(&self, address: SocketAddr) -> Option<NodeIndex> {
        let SocketAddr::V4(address) = address else { return None };
        let [ten, _, high, low] = address.ip().octets();
        let place = (usize::from(high) * 250 + usize::from(low)).checked_sub(1)?;
        (ten == 10 && place < self.nodes.len()).then_some(place)
    }
}
