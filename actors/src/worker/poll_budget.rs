//! `PollBudget`: how many items a stream or an interval may handle in one poll.
//!
//! In one poll actix takes up to sixteen items of a stream, any number of messages of a message
//! stream, and all ticks that an interval has missed. Each item may take its time; together they
//! look like one that holds the thread. So each item counts as progress by itself. Once the items
//! of a poll have taken a whole time slice, the rest waits for the next turn.
//!
//! A stream that is turned into an actor's future by hand (`wrap_stream(..).map(..).finish()`) is
//! opaque: its items cannot be seen from here. Use [`Context::progress`] in its handlers.

use std::any::type_name;
use std::time::Duration;

use actix::Actor;
use heartbeat_core::Instant;

use crate::worker::context::Context;
use crate::worker::interval::Interval;

/// How long messages or items in a row may take before other tasks get their turn. The slice is
/// short beside any interval, so that items never add up to a silence of the thread. It is long
/// beside the cost of a turn.
pub(crate) const TIME_SLICE: Duration = Duration::from_millis(1);

/// actix's own futures that call `AsyncContext::waiting` after each item.
const BATCHED: [&str; 2] = ["actix::stream::ActorStream<", "actix::context_items::ActorMessageStreamItem<"];

/// Whether futures of this type handle items and check the budget after each.
pub(crate) fn is_batched<A: Actor<Context = Context<A>>, F: 'static>() -> bool {
    let name = type_name::<F>();
    BATCHED.iter().any(|known| name.starts_with(known)) || name == type_name::<Interval<A>>()
}

/// What a future may still do in the current poll.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PollBudget {
    begun: Instant,
    left: u32,
}

impl PollBudget {
    /// The budget of a poll that began at `begun`: at most `left` items.
    pub(crate) fn new(begun: Instant, left: u32) -> PollBudget {
        PollBudget { begun, left }
    }

    /// Counts an item that was done at `now`.
    pub(crate) fn count(&mut self, now: Instant) {
        self.left = if now - self.begun < TIME_SLICE { self.left.saturating_sub(1) } else { 0 };
    }

    /// Whether the rest must wait for the next turn.
    pub(crate) fn is_over(&self) -> bool {
        self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(left: u32, done_at_micros: &[u64], expected: bool) {
        let mut budget = PollBudget::new(Instant::ZERO, left);
        for &micros in done_at_micros {
            budget.count(Instant::ZERO + Duration::from_micros(micros));
        }
        assert_eq!(budget.is_over(), expected, "{done_at_micros:?}");
    }

    #[test]
    fn a_poll_is_over_by_number_or_by_time() {
        check(64, &[], false);
        check(64, &[999], false);
        check(64, &[1_000], true);
        check(2, &[1], false);
        check(2, &[1, 2], true);
        check(2, &[1, 2, 3], true);
    }
}
