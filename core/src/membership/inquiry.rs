//! What follows when a heartbeat does not come: others are asked, and a verdict is reached.
//!
//! ```text
//! doubt      the detector's deadline has passed        -> probe the target; wait
//! inquiry    it did not answer                         -> ask its other observers, who probe it too; probe again; wait
//! suspicion  none of them has heard what we miss       -> told to everybody, the target first; it can refute
//! inquiry    nothing for `timeout`                     -> ask them again
//! death      most of those who answer say so too       -> told to everybody
//! ```
//! Where the target has no other observer there is nobody to ask: its detector alone makes it
//! suspect, and `timeout` dead. Where its observers do not answer, a few other members are asked,
//! too; those go by whether all have held it suspect for nearly the timeout. A sign of life at any
//! step ends the matter; what counts is when it was sent, by its stage, and not when it came. A
//! closed lifeline and a refused connection ([`super::lifeline`]) lead to the last inquiry at once.
//!
//! An observer that hears less than half of those it watches is rather cut off itself: it asks on
//! and concludes nothing.

use std::sync::Arc;
use std::time::Duration;

use super::heard::EVER;
use super::watch::Link;
use super::{Cluster, OwnershipEffect, Payload, Source};
use crate::config::OnIsolated;
use crate::ctx::Ctx;
use crate::detection::Verdict;
use crate::event::{Event, ObserverReport};
use crate::member::{Member, NodeId, Status};
use crate::membership::brake::Brake;
use crate::membership::local_health::counts;
use crate::time::Instant;
use crate::wire::{Body, Evidence, Inquire, SILENCE_MAX};

/// Members asked about a target whose observers are not known.
const STRANGERS: usize = 3;

/// Members that are looked at for it.
const STRANGERS_LOOKED_AT: usize = 64;

/// Questions of others that wait for a probe of ours at most.
const WAITING_MAX: usize = 1_024;

/// What we want to know of a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Whether it answers us.
    Probe,
    /// Whether others have heard it.
    Suspect,
    /// Whether others would call it dead.
    Death,
}

/// Who is asked about a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Whom {
    /// Its other observers, if we know of any that are there.
    Watchers,
    /// Some other members as well.
    Anybody,
}

/// A question that is being asked about a target.
#[derive(Clone, Debug)]
pub(super) struct Inquiry {
    number: u32,
    step: Step,
    begun: Instant,
    due: Instant,
    /// Nothing is decided before.
    not_before: Instant,
    /// The stage that did not come.
    missing: u64,
    pub(super) asked: usize,
    /// Whether nobody answered the last time either, though we heard others.
    unanswered: bool,
    answers: Vec<(NodeId, Evidence)>,
}

/// Another member waits for us to reach a target.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    asker: NodeId,
    inquire: Inquire,
    pub(super) until: Instant,
}

impl Cluster {
    // ---- what comes in -------------------------------------------------------------------------------------------------------------------

    pub(super) fn hear_inquire(&mut self, from: NodeId, inquire: &Inquire, ctx: &mut Ctx) {
        let Inquire { target, generation, .. } = *inquire;
        if target == self.peers.me.id {
            // Whoever asks us about ourselves has its answer.
            let evidence = self.testify(inquire, true, ctx);
            return self.send_to(from, Payload::Say(Body::Evidence(evidence)));
        }
        match self.peers.table.member(target) {
            Some(member) if member.generation == generation && member.status.is_member() => {}
            // It is over, or another process: the asker has to hear of that first.
            Some(_) => return self.tell_about(from, target),
            None => return,
        }
        // Whoever has only begun to watch it knows no more than one who does not.
        let link = self.links.get(&target).filter(|link| link.stage > 0 || link.gone);
        let verdict = link.map(|link| ctx.monitor.verdict(link.watch));
        let has_heard = match link {
            Some(link) if inquire.death => verdict == Some(Verdict::Alive) && !link.gone,
            Some(link) => link.stage >= inquire.stage,
            None if inquire.stage == EVER && !inquire.death => self.heard.has_met(target, generation),
            None => false,
        };
        let is_decided = inquire.death && !inquire.gone && link.is_some() || link.is_some_and(|link| link.gone);
        if has_heard && !inquire.gone || is_decided {
            let evidence = self.testify(inquire, has_heard, ctx);
            return self.send_to(from, Payload::Say(Body::Evidence(evidence)));
        }
        if self.waiting.len() >= WAITING_MAX {
            return;
        }
        if inquire.gone {
            self.look_whether_gone(target, ctx);
        } else {
            let number = self.next_number();
            self.send_to(target, Payload::Say(Body::Probe { number }));
        }
        // Connecting is the system's business at both ends, which may be busy; whoever has an
        // answer gives it at once.
        let patience = self.patience(ctx);
        let until = ctx.now + if inquire.gone { patience.max(ctx.config.interval) } else { patience };
        self.waiting.push(Waiting { asker: from, inquire: *inquire, until });
        self.waiting.sort_by_key(|waiting| waiting.until);
    }

    /// What we know of a target.
    fn testify(&self, inquire: &Inquire, reached: bool, ctx: &Ctx) -> Evidence {
        let Inquire { number, target, generation, .. } = *inquire;
        let link = self.links.get(&target);
        let silence = link.map_or(Duration::ZERO, |link| ctx.monitor.silence(link.watch, ctx.now));
        let silence = Duration::from_micros(silence.min(SILENCE_MAX).as_micros() as u64);
        let is_dead = match link.filter(|link| link.stage > 0) {
            Some(link) => ctx.monitor.verdict(link.watch) == Verdict::Dead,
            None => self.is_long_suspect(target, ctx),
        };
        let gone = link.is_some_and(|link| link.gone) || self.streams.found_nobody(target);
        Evidence {
            number,
            target,
            generation,
            stage: link.map_or(0, |link| link.stage),
            silence,
            reached,
            gone,
            agrees: !reached && (gone || is_dead),
            health: self.peers.health.score(),
        }
    }

    /// Tells those who wait for us to reach a target, or have waited long enough.
    pub(super) fn answer_waiting(&mut self, target: NodeId, reached: bool, ctx: &Ctx) {
        if self.waiting.is_empty() {
            return;
        }
        let (over, rest) =
            std::mem::take(&mut self.waiting).into_iter().partition(|waiting| waiting.inquire.target == target);
        self.waiting = rest;
        for Waiting { asker, inquire, .. } in over {
            let evidence = self.testify(&inquire, reached, ctx);
            self.send_to(asker, Payload::Say(Body::Evidence(evidence)));
        }
    }

    pub(super) fn answer_those_who_wait(&mut self, ctx: &Ctx) {
        while let Some(waiting) = self.waiting.first().filter(|waiting| waiting.until <= ctx.now) {
            let Waiting { asker, inquire, .. } = waiting.clone();
            self.waiting.remove(0);
            let evidence = self.testify(&inquire, false, ctx);
            self.send_to(asker, Payload::Say(Body::Evidence(evidence)));
        }
    }

    pub(super) fn hear_evidence(&mut self, from: NodeId, evidence: &Evidence, ctx: &mut Ctx) -> OwnershipEffect {
        let id = evidence.target;
        let met = match evidence.reached {
            true => self.hear_that_it_is_there(id, evidence.number, ctx),
            false => OwnershipEffect::Nothing,
        };
        let Some(inquiry) = self.inquiries.get_mut(&id).filter(|inquiry| inquiry.number == evidence.number) else {
            return met;
        };
        if evidence.reached {
            // Its heartbeats do not reach us, but another one heard it: a bad link is no death.
            // What counts is when that was, or the dead would live on in what each of us tells the
            // next.
            let at = ctx.now - evidence.silence;
            if let Some(link) = self.links.get_mut(&id) {
                link.told = link.told.max(evidence.stage);
            }
            self.reached(id, at, ctx);
            return OwnershipEffect::Nothing;
        }
        if !counts(evidence.health) && !evidence.gone || inquiry.answers.iter().any(|(who, _)| *who == from) {
            return OwnershipEffect::Nothing;
        }
        inquiry.answers.push((from, *evidence));
        if inquiry.answers.len() < inquiry.asked || ctx.now < inquiry.not_before || ctx.arrivals_stale {
            return OwnershipEffect::Nothing;
        }
        self.conclude(id, ctx)
    }

    // ---- inquiries -----------------------------------------------------------------------------------------------------------------------

    /// Begins to ask about a target, or goes on to another question.
    pub(super) fn inquire(&mut self, id: NodeId, step: Step, missing: u64, whom: Whom, ctx: &mut Ctx) {
        self.end_inquiry(id);
        let Some(generation) = self.peers.table.member(id).map(|member| member.generation) else { return };
        let number = self.next_number();
        let gone = self.links.get(&id).is_some_and(|link| link.gone);
        if !gone {
            self.send_to(id, Payload::Say(Body::Probe { number }));
        }
        let asked = if step == Step::Probe { Vec::new() } else { self.whom_to_ask(id, whom, ctx) };
        let death = step == Step::Death;
        let inquire = Inquire { number, target: id, generation, stage: missing, gone, death };
        for &other in &asked {
            if death && self.is_suspect(id) {
                // It may have been cut off when that became known.
                self.send_to(other, Payload::About(id));
            }
            self.send_to(other, Payload::Say(Body::Inquire(inquire)));
        }
        let patience = self.patience(ctx);
        // Those who are asked probe it first.
        let due = ctx.now
            + match (step, gone) {
                (Step::Probe, _) => patience,
                (_, false) => patience * 2,
                (_, true) => patience + ctx.config.interval,
            };
        let (asked, answers) = (asked.len(), Vec::new());
        self.inquiries.insert(
            id,
            Inquiry {
                number,
                step,
                begun: ctx.now,
                due,
                not_before: ctx.now,
                missing,
                asked,
                unanswered: false,
                answers,
            },
        );
        self.inquiries_due.insert((due, id));
    }

    /// Who else may know of a target: its other observers, or anybody if we watch it for want of
    /// others, or those it named are gone.
    pub(super) fn whom_to_ask(&self, id: NodeId, whom: Whom, ctx: &mut Ctx) -> Vec<NodeId> {
        let Some(link) = self.links.get(&id) else { return Vec::new() };
        let others = link.others.iter().flat_map(|short| self.peers.table.of_short(short));
        let may_know = |member: &&Member| member.id != self.peers.me.id && member.id != id && member.status.is_member();
        let mut known: Vec<NodeId> = others.filter(may_know).map(|member| member.id).collect();
        let has_others = link.others.iter().nth(1).is_some();
        if link.adopted || known.is_empty() && has_others {
            return self.strangers(id, ctx);
        }
        if whom == Whom::Anybody {
            known.extend(self.strangers(id, ctx));
            known.sort();
            known.dedup();
        }
        known
    }

    /// A few members that are alive, by lot.
    pub(super) fn strangers(&self, id: NodeId, ctx: &mut Ctx) -> Vec<NodeId> {
        let all = self.peers.table.others();
        let first = ctx.random.below(all.len().max(1) as u64) as usize;
        let from_there = all.iter().cycle().skip(first).take(all.len().min(STRANGERS_LOOKED_AT));
        from_there
            .filter(|&&other| other != id)
            .filter(|&&other| self.peers.table.member(other).is_some_and(|member| member.status == Status::Alive))
            .take(STRANGERS)
            .copied()
            .collect()
    }

    pub(super) fn end_inquiry(&mut self, id: NodeId) {
        if let Some(inquiry) = self.inquiries.remove(&id) {
            self.inquiries_due.remove(&(inquiry.due, id));
        }
    }

    /// Looks at an inquiry again at `due`.
    pub(super) fn put_off(&mut self, id: NodeId, due: Instant) {
        if let Some(inquiry) = self.inquiries.get_mut(&id) {
            self.inquiries_due.remove(&(inquiry.due, id));
            inquiry.due = due;
            self.inquiries_due.insert((due, id));
        }
    }

    /// Goes on with the inquiries whose time is over.
    pub(super) fn look_at_inquiries(&mut self, ctx: &mut Ctx) -> OwnershipEffect {
        let mut follow = OwnershipEffect::Nothing;
        while let Some(&(due, id)) = self.inquiries_due.first()
            && due <= ctx.now
        {
            let Some(Inquiry { step, missing, .. }) = self.inquiries.get(&id) else {
                self.inquiries_due.pop_first();
                continue;
            };
            if *step == Step::Probe {
                let missing = *missing;
                self.inquire(id, Step::Suspect, missing, Whom::Watchers, ctx);
            } else {
                follow = follow.max(self.conclude(id, ctx));
            }
        }
        follow
    }

    /// Decides by the answers that have come.
    pub(super) fn conclude(&mut self, id: NodeId, ctx: &mut Ctx) -> OwnershipEffect {
        let Some(inquiry) = self.inquiries.get(&id) else { return OwnershipEffect::Nothing };
        let Inquiry { step, missing, asked, answers, .. } = inquiry.clone();
        let gone = self.links.get(&id).is_some_and(|link| link.gone);
        // Whoever watches it knows better than one who has only tried to reach it.
        let knows = |evidence: &Evidence| evidence.stage > 0 || evidence.gone;
        let by_watchers = answers.iter().any(|(_, evidence)| knows(evidence));
        let counted =
            || answers.iter().map(|(_, evidence)| evidence).filter(|evidence| !by_watchers || knows(evidence));
        // Those who never had a heartbeat of a newcomer know no more than that it does not answer.
        let newcomer = self.links.get(&id).is_some_and(Link::is_newcomer);
        let is_new_to = |evidence: &Evidence| newcomer && evidence.stage == 0;
        let agrees = |evidence: &&Evidence| if gone { evidence.gone } else { evidence.agrees || is_new_to(evidence) };
        let agree = 1 + counted().filter(agrees).count();
        let is_answered = !answers.is_empty() || asked == 0;
        let interval = ctx.config.interval;
        let begun = inquiry.begun;
        let unanswered = inquiry.unanswered;
        let is_cut_off = || !self.is_well_connected(id, ctx) || !self.has_heard_since(begun, id, ctx);
        if !is_answered && holds(ctx) && (is_cut_off() || !counts(self.peers.health.score())) {
            // Nobody answers, and we hear little of others or are not well: it is rather us.
            self.peers.health.worsen();
            self.inquire(id, step, missing, Whom::Anybody, ctx);
            self.put_off(id, ctx.now + interval);
            return OwnershipEffect::Nothing;
        }
        let adopted = self.links.get(&id).is_some_and(|link| link.adopted);
        if !is_answered && (!unanswered || adopted && self.peers.table.others().len() > 1) {
            // Those who were asked may have slept just then, or what they say does not reach us.
            self.ask_again(id, step, missing, Duration::ZERO, Whom::Anybody, ctx);
            if let Some(inquiry) = self.inquiries.get_mut(&id) {
                inquiry.unanswered = true;
            }
            return OwnershipEffect::Nothing;
        }
        if step != Step::Death {
            return self.suspect(id, &answers, ctx);
        }
        let mut follow = OwnershipEffect::Nothing;
        if agree * 2 > 1 + counted().count() {
            return self.bury(id, &answers, ctx);
        }
        if !by_watchers && !gone {
            // Strangers go by what all have known for long.
            follow = self.suspect(id, &answers, ctx);
        }
        if gone && is_answered {
            // Others have a connection: the rest is for heartbeats to show.
            if let Some(link) = self.links.get_mut(&id) {
                link.gone = false;
            }
            self.end_inquiry(id);
            return OwnershipEffect::Nothing;
        }
        self.ask_again(id, step, missing, interval / 4, Whom::Watchers, ctx);
        follow
    }

    /// Whether a suspicion has been known here for nearly the timeout. Where nobody answers who
    /// watches a node, that gives those who do watch it the time to hear of it, to hear the node,
    /// and to speak for it.
    pub(super) fn is_long_suspect(&self, id: NodeId, ctx: &Ctx) -> bool {
        let for_long = ctx.config.timeout.saturating_sub(ctx.config.interval);
        self.is_suspect(id) && self.peers.table.changed(id).is_some_and(|at| ctx.now - at >= for_long)
    }

    /// Asks anew, and decides nothing before `after`: what was answered until now is old by then.
    fn ask_again(&mut self, id: NodeId, step: Step, missing: u64, after: Duration, whom: Whom, ctx: &mut Ctx) {
        self.inquire(id, step, missing, whom, ctx);
        let due = ctx.now + after.max(self.patience(ctx) * 2);
        self.put_off(id, due);
        if let Some(inquiry) = self.inquiries.get_mut(&id) {
            inquiry.not_before = due;
        }
    }

    /// Whatever was answered before a pause of our own is old after it.
    pub(super) fn ask_all_again(&mut self, ctx: &mut Ctx) {
        let asked: Vec<(NodeId, Step, u64)> =
            self.inquiries.iter().map(|(id, inquiry)| (*id, inquiry.step, inquiry.missing)).collect();
        for (id, step, missing) in asked {
            self.ask_again(id, step, missing, Duration::ZERO, Whom::Watchers, ctx);
        }
    }

    /// Makes a suspicion known.
    pub(super) fn suspect(&mut self, id: NodeId, answers: &[(NodeId, Evidence)], ctx: &mut Ctx) -> OwnershipEffect {
        self.end_inquiry(id);
        let Some(change) = self.peers.table.judge(ctx.now, id, Status::Suspect) else {
            return OwnershipEffect::Nothing;
        };
        if let Some(link) = self.links.get_mut(&id) {
            link.accused = true;
        }
        let (silent_for, evidence) = self.evidence(id, answers, ctx);
        ctx.emit(Event::Suspected { node: change.after.name.clone(), silent_for, evidence, told_by: None });
        // The one concerned first: it alone can contradict.
        self.send_to(id, Payload::About(id));
        self.changed(&change, Source::Verdict, ctx)
    }

    /// Concludes a death, unless something speaks for waiting.
    fn bury(&mut self, id: NodeId, answers: &[(NodeId, Evidence)], ctx: &mut Ctx) -> OwnershipEffect {
        let interval = ctx.config.interval;
        let gone = self.links.get(&id).is_some_and(|link| link.gone);
        if !gone {
            let Some(zone) = self.peers.table.member(id).map(|member| member.zone.clone()) else {
                return OwnershipEffect::Nothing;
            };
            let missing = self.inquiries.get(&id).map_or(0, |inquiry| inquiry.missing);
            let lacks_quorum = self.quorum.as_ref().is_some_and(|quorum| !quorum.is_held());
            if lacks_quorum || !self.is_well_connected(id, ctx) {
                self.ask_again(id, Step::Death, missing, interval / 2, Whom::Watchers, ctx);
                return OwnershipEffect::Nothing;
            }
            let mut events = Vec::new();
            let brake = if ctx.config.membership.brake {
                self.brakes.ask(&zone, &self.peers.table, ctx.now, &mut events)
            } else {
                Brake::Free
            };
            events.into_iter().for_each(|event| ctx.emit(event));
            if brake != Brake::Free {
                self.ask_again(id, Step::Death, missing, interval / 2, Whom::Watchers, ctx);
                self.brake_due = self.brakes.is_frozen().then_some(ctx.now + interval / 2);
                return OwnershipEffect::Nothing;
            }
        }
        if let Some(member) = self.peers.table.member(id).filter(|_| gone) {
            self.ended.push((member.name.clone(), member.generation));
        }
        let (silent_for, evidence) = self.evidence(id, answers, ctx);
        let Some(change) = self.peers.table.judge(ctx.now, id, Status::Dead) else {
            self.end_inquiry(id);
            return OwnershipEffect::Nothing;
        };
        ctx.emit(Event::Died { node: change.after.name.clone(), silent_for, evidence, told_by: None });
        self.send_to(id, Payload::About(id));
        self.changed(&change, Source::Verdict, ctx)
    }

    /// Looks whether a freeze is over; then everybody has a fresh timer.
    pub(super) fn look_at_brakes(&mut self, ctx: &mut Ctx) {
        if self.brake_due.is_none_or(|due| due > ctx.now) {
            return;
        }
        let mut events = Vec::new();
        let thawed = self.brakes.look(&self.peers.table, ctx.now, &mut events);
        events.into_iter().for_each(|event| ctx.emit(event));
        if thawed {
            let watched: Vec<NodeId> = self.links.keys().copied().collect();
            watched.into_iter().for_each(|id| self.reached(id, ctx.now, ctx));
        }
        self.brake_due = self.brakes.is_frozen().then_some(ctx.now + ctx.config.interval / 2);
    }

    /// Whether we hear enough of others to conclude anything of one.
    fn is_well_connected(&self, but: NodeId, ctx: &Ctx) -> bool {
        if !holds(ctx) || self.peers.table.others().len() < 2 {
            // With two members nobody can tell.
            return true;
        }
        // One that was never heard says nothing of what we hear.
        let others = || self.links.iter().filter(|(id, link)| **id != but && link.stage > 0);
        let heard = others().filter(|(_, link)| ctx.monitor.verdict(link.watch) == Verdict::Alive).count();
        let watched = others().count();
        let by_observers =
            !self.peers.observers.places().is_empty() && self.peers.answers.silence(ctx.now) < ctx.config.interval * 3;
        if watched == 0 { by_observers } else { heard * 2 >= watched || heard > 0 && by_observers }
    }

    /// Whether anybody else was heard since then.
    fn has_heard_since(&self, begun: Instant, but: NodeId, ctx: &Ctx) -> bool {
        let since = ctx.now - begun;
        let by_links = || {
            let others = self.links.iter().filter(|(id, link)| **id != but && link.stage > 0);
            others.map(|(_, link)| ctx.monitor.silence(link.watch, ctx.now)).any(|silence| silence < since)
        };
        self.peers.table.others().len() < 2 || self.peers.answers.silence(ctx.now) < since || by_links()
    }

    /// Who says what of a silent node.
    fn evidence(&self, id: NodeId, answers: &[(NodeId, Evidence)], ctx: &Ctx) -> (Duration, Arc<[ObserverReport]>) {
        let link = self.links.get(&id);
        let silent_for = link.map_or(Duration::ZERO, |link| ctx.monitor.silence(link.watch, ctx.now));
        let own = ObserverReport {
            observer: self.peers.me.name.clone(),
            silent_for: Some(silent_for),
            refused: link.is_some_and(|link| link.gone),
            agrees: true,
            health: self.peers.health.score(),
        };
        let theirs = answers.iter().filter_map(|(who, evidence)| {
            let observer = self.peers.table.member(*who)?.name.clone();
            let silent_for = (evidence.stage > 0).then_some(evidence.silence);
            let (refused, agrees, health) = (evidence.gone, evidence.agrees, evidence.health);
            Some(ObserverReport { observer, silent_for, refused, agrees, health })
        });
        (silent_for, std::iter::once(own).chain(theirs).collect())
    }
}

/// Whether one who hears hardly anybody is to hold its verdicts.
fn holds(ctx: &Ctx) -> bool {
    match ctx.config.membership.on_isolated {
        OnIsolated::Hold => true,
        OnIsolated::Proceed => false,
    }
}
