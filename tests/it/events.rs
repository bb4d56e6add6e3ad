//! Typed queries on the events of a world: what happened, when, and which node said so.
//!
//! A test names the variant that it asks for, so a renamed or removed event breaks the test when it
//! is compiled. A search in `Debug` text would go on and find nothing.

use std::time::Duration;

use heartbeat_core::Event;
use heartbeat_sim::World;

/// An event of a world.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen<'w> {
    /// The time since the start of the world.
    pub(crate) at: Duration,
    /// The name of the node whose engine emitted the event.
    pub(crate) by: &'w str,
    pub(crate) event: &'w Event,
}

/// The events of all nodes for which `is` holds, in their order.
pub(crate) fn seen(world: &World, is: impl Fn(&Event) -> bool) -> Vec<Seen<'_>> {
    let events = world.events().filter(|(_, _, event)| is(event));
    events.map(|(at, node, event)| Seen { at, by: world.name(node), event }).collect()
}

/// The events of one node for which `is` holds, in their order.
pub(crate) fn seen_by<'w>(world: &'w World, node: &str, is: impl Fn(&Event) -> bool) -> Vec<Seen<'w>> {
    let mut found = seen(world, is);
    found.retain(|seen| seen.by == node);
    found
}

/// The events after `since` for which `is` holds, in their order.
pub(crate) fn seen_after(world: &World, since: Duration, is: impl Fn(&Event) -> bool) -> Vec<Seen<'_>> {
    let mut found = seen(world, is);
    found.retain(|seen| seen.at > since);
    found
}

/// When each node said this after `since`, in seconds after it and in ascending order.
pub(crate) fn times_after(world: &World, since: Duration, is: impl Fn(&Event) -> bool) -> Vec<f64> {
    let times = seen(world, is).into_iter().filter_map(|seen| seen.at.checked_sub(since));
    times.map(|after| after.as_secs_f64()).collect()
}

/// The node that a change of the membership is about.
pub(crate) fn node_of(event: &Event) -> Option<&str> {
    match event {
        Event::Joined { member } | Event::Updated { member } => Some(&member.name),
        Event::Left { node }
        | Event::Suspected { node, .. }
        | Event::Cleared { node }
        | Event::Died { node, .. }
        | Event::Forgotten { node }
        | Event::Returned { node, .. } => Some(node),
        _ => None,
    }
}

/// Whether a change of the membership is about this node.
pub(crate) fn is_about(event: &Event, node: &str) -> bool {
    node_of(event) == Some(node)
}

pub(crate) fn is_death(event: &Event) -> bool {
    matches!(event, Event::Died { .. })
}

pub(crate) fn is_death_of(node: &str) -> impl Fn(&Event) -> bool {
    move |event| is_death(event) && is_about(event, node)
}

pub(crate) fn is_suspicion(event: &Event) -> bool {
    matches!(event, Event::Suspected { .. })
}

pub(crate) fn is_suspicion_of(node: &str) -> impl Fn(&Event) -> bool {
    move |event| is_suspicion(event) && is_about(event, node)
}

pub(crate) fn is_cleared(event: &Event) -> bool {
    matches!(event, Event::Cleared { .. })
}

pub(crate) fn is_return(event: &Event) -> bool {
    matches!(event, Event::Returned { .. })
}

pub(crate) fn is_return_of(node: &str) -> impl Fn(&Event) -> bool {
    move |event| is_return(event) && is_about(event, node)
}

pub(crate) fn is_departure(event: &Event) -> bool {
    matches!(event, Event::Left { .. })
}

pub(crate) fn is_departure_of(node: &str) -> impl Fn(&Event) -> bool {
    move |event| is_departure(event) && is_about(event, node)
}

pub(crate) fn is_join_of(node: &str) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Joined { .. }) && is_about(event, node)
}

pub(crate) fn is_declared_dead(event: &Event) -> bool {
    matches!(event, Event::DeclaredDead { .. })
}

pub(crate) fn is_isolated(event: &Event) -> bool {
    matches!(event, Event::Isolated { .. })
}

pub(crate) fn is_paused(event: &Event) -> bool {
    matches!(event, Event::Paused { .. })
}

pub(crate) fn is_move(event: &Event) -> bool {
    matches!(event, Event::ShardMoved { .. })
}

pub(crate) fn is_failure(event: &Event) -> bool {
    matches!(event, Event::Failed { .. })
}

pub(crate) fn is_failure_of(name: &str) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Failed { worker, .. } if **worker == *name)
}

pub(crate) fn is_replacement_of(name: &str) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Replaced { worker, .. } if **worker == *name)
}

pub(crate) fn is_given_up(event: &Event) -> bool {
    matches!(event, Event::GaveUp { .. })
}

pub(crate) fn is_given_up_of(name: &str) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::GaveUp { worker, .. } if **worker == *name)
}

pub(crate) fn is_stop(event: &Event) -> bool {
    matches!(event, Event::Stopped { .. })
}
