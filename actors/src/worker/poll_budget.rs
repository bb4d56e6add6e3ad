//! `pieces`: futures that do any number of pieces of work in one poll: streams and intervals.
//!
//! actix takes up to sixteen items of a stream in one poll, any number of messages of a message
//! stream, and all ticks that an interval has missed. Each piece may take its time; together they
//! look like one piece that holds the thread. So each piece counts as progress by itself, and once
//! the pieces of a poll have taken as long as a turn may, the rest waits for the next turn.
//!
//! A stream that is made an actor's future by hand (`wrap_stream(..).map(..).finish()`) is opaque:
//! its pieces cannot be seen from here. [`Context::progress`] is there for those.

use std::any::type_name;
use std::time::Duration;

use actix::Actor;
use heartbeat_core::Instant;

use crate::worker::context::Context;
use crate::worker::interval::Interval;

/// How long messages or pieces in a row may take before others have their turn. It is nothing
/// beside any interval, so that they never add up to a silence of the thread; and much beside what
/// a turn costs.
pub(crate) const TIME_SLICE: Duration = Duration::from_millis(1);

/// actix's own futures that ask `AsyncContext::waiting` after each piece.
const BATCHED: [&str; 2] = ["actix::stream::ActorStream<", "actix::context_items::ActorMessageStreamItem<"];

/// Whether futures of this type work in pieces and say so after each.
pub(crate) fn is_batched<A: Actor<Context = Context<A>>, F: 'static>() -> bool {
    let name = type_name::<F>();
    BATCHED.iter().any(|known| name.starts_with(known)) || name == type_name::<Interval<A>>()
}

/// What a future may still do in the present poll.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PollBudget {
    begun: Instant,
    left: u32,
}

impl PollBudget {
    /// For a poll that began at `begun`: at most `left` pieces.
    pub(crate) fn new(begun: Instant, left: u32) -> PollBudget {
        PollBudget { begun, left }
    }

    /// Counts a piece that was done at `now`.
    pub(crate) fn count(&mut self, now: Instant) {
        self.left = if now - self.begun < TIME_SLICE { self.left.saturating_sub(1) } else { 0 };
    }

    /// Whether the rest is to wait for the next turn.
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
