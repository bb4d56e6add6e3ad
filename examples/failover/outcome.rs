//! What became of the requests: what the clients were told, beside what the ledger knows.

use std::collections::BTreeMap;

use crate::store::Handled;

/// What a client was told of one attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// It was counted, and the ledger has it.
    Counted,
    /// A worker answered that it may not count any more, for this reason.
    Declined(String),
    /// No worker got it, for this reason: it is safe to send it again.
    Refused(String),
    /// It may have been handled, and no answer will come, for this reason.
    Interrupted(String),
    /// It may have been handled, and no answer came in time.
    TimedOut(String),
    /// The process that was asked said nothing at all.
    Unanswered,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Counted => f.write_str("counted"),
            Outcome::Declined(why) => write!(f, "declined by the worker: {why}"),
            Outcome::Refused(why) => write!(f, "refused: {why}"),
            Outcome::Interrupted(why) => write!(f, "interrupted: {why}"),
            Outcome::TimedOut(why) => write!(f, "timed out: {why}"),
            Outcome::Unanswered => f.write_str("timed out: the process that was asked said nothing"),
        }
    }
}

/// How many attempts ended how.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    /// Counted or declined by a worker.
    pub(crate) handled: u64,
    pub(crate) refused: u64,
    pub(crate) interrupted: u64,
    /// Those that were not answered at all included.
    pub(crate) timed_out: u64,
}

impl Tally {
    pub(crate) fn end(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Counted | Outcome::Declined(_) => self.handled += 1,
            Outcome::Refused(_) => self.refused += 1,
            Outcome::Interrupted(_) => self.interrupted += 1,
            Outcome::TimedOut(_) | Outcome::Unanswered => self.timed_out += 1,
        }
    }

    pub(crate) fn adds_up(&self) -> bool {
        self.sent == self.handled + self.refused + self.interrupted + self.timed_out
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Tally { sent, handled, refused, interrupted, timed_out } = self;
        write!(
            f,
            "{sent} sent = {handled} handled + {refused} refused + {interrupted} interrupted + {timed_out} timed out"
        )
    }
}

/// Requests by what the ledger knows of them. One request is one or more attempts: a refused one is
/// sent again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) requests: usize,
    /// The client was told that it is counted, and the ledger does not have it.
    pub(crate) lost: usize,
    /// More than one worker counted for it, or one twice.
    pub(crate) twice: usize,
    /// The client was told that no worker got it, and one did.
    pub(crate) refused_and_handled: usize,
    /// The client was told that it may have been handled.
    pub(crate) in_doubt: usize,
    /// Of these, how many the ledger has.
    pub(crate) in_doubt_and_counted: usize,
}

impl Comparison {
    /// `ended`: the last outcome of each request, by its number.
    pub(crate) fn of(ended: &BTreeMap<u64, Outcome>, handled: &BTreeMap<u64, Handled>) -> Comparison {
        let mut comparison = Comparison { requests: ended.len(), ..Comparison::default() };
        for (request, outcome) in ended {
            let Handled { times, is_admitted } = handled.get(request).copied().unwrap_or_default();
            comparison.twice += usize::from(times > 1);
            match outcome {
                Outcome::Counted => comparison.lost += usize::from(!is_admitted),
                Outcome::Declined(_) => {}
                Outcome::Refused(_) => comparison.refused_and_handled += usize::from(times > 0),
                Outcome::Interrupted(_) | Outcome::TimedOut(_) | Outcome::Unanswered => {
                    comparison.in_doubt += 1;
                    comparison.in_doubt_and_counted += usize::from(is_admitted);
                }
            }
        }
        comparison
    }

    /// What must hold, in words, and whether it does.
    pub(crate) fn facts(&self) -> Vec<(String, bool)> {
        let Comparison { requests, lost, twice, refused_and_handled, in_doubt, in_doubt_and_counted } = self;
        vec![
            (format!("{requests} requests: acknowledged, and not in the ledger: {lost}"), *lost == 0),
            (format!("  handled twice: {twice}"), *twice == 0),
            (format!("  refused as not handled, and handled: {refused_and_handled}"), *refused_and_handled == 0),
            (format!("  ended in doubt: {in_doubt}; of these the ledger has {in_doubt_and_counted}"), true),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_adds_up_once_each_attempt_has_ended() {
        let outcomes = [
            Outcome::Counted,
            Outcome::Declined(String::new()),
            Outcome::Refused(String::new()),
            Outcome::Interrupted(String::new()),
            Outcome::TimedOut(String::new()),
            Outcome::Unanswered,
        ];
        let mut tally = Tally { sent: outcomes.len() as u64, ..Tally::default() };
        for outcome in &outcomes {
            assert!(!tally.adds_up());
            tally.end(outcome);
        }
        assert!(tally.adds_up());
        assert_eq!(tally.to_string(), "6 sent = 2 handled + 1 refused + 1 interrupted + 2 timed out");
    }

    /// One request with this outcome, of which the ledger knows `times` writes; what it is counted
    /// as, in the order of the fields.
    #[track_caller]
    fn check(outcome: Outcome, times: u32, is_admitted: bool, expected: [usize; 5]) {
        let handled = BTreeMap::from([(7, Handled { times, is_admitted })]);
        let found = Comparison::of(&BTreeMap::from([(7, outcome)]), &handled);
        let Comparison { requests: _, lost, twice, refused_and_handled, in_doubt, in_doubt_and_counted } = found;
        assert_eq!([lost, twice, refused_and_handled, in_doubt, in_doubt_and_counted], expected);
    }

    #[test]
    fn what_the_ledger_knows_is_held_against_each_outcome() {
        check(Outcome::Counted, 1, true, [0, 0, 0, 0, 0]);
        check(Outcome::Counted, 0, false, [1, 0, 0, 0, 0]);
        check(Outcome::Counted, 2, true, [0, 1, 0, 0, 0]);
        check(Outcome::Refused(String::new()), 0, false, [0, 0, 0, 0, 0]);
        check(Outcome::Refused(String::new()), 1, true, [0, 0, 1, 0, 0]);
        check(Outcome::Interrupted(String::new()), 1, true, [0, 0, 0, 1, 1]);
        check(Outcome::TimedOut(String::new()), 0, false, [0, 0, 0, 1, 0]);
        check(Outcome::Unanswered, 2, true, [0, 1, 0, 1, 1]);
    }
}
