//! Which counters of a sender have been received: each counts once.
//!
//! The sliding window of IPsec (RFC 4303, section 3.4.3): a bit for each of the newest counters.
//! What is older than the window is refused, whether or not it was received. A sender's counters
//! rise over all that it sends, to any receiver, so the window is wide.

/// Counters that may be received late, behind the newest. A node that sends 1,000 datagrams in a
/// second may have one of them delayed by a second.
pub(super) const WINDOW: u64 = 1_024;

const WORDS: usize = (WINDOW / 64) as usize;

/// The counters of one sending process.
#[derive(Clone, Debug)]
pub(super) struct Window {
    newest: u64,
    /// A bit for each of the newest [`WINDOW`] counters, by the counter modulo the width.
    seen: [u64; WORDS],
}

impl Window {
    /// A window whose first counter is this one, which counts as received.
    pub(super) fn new(counter: u64) -> Window {
        let mut window = Window { newest: counter, seen: [0; WORDS] };
        window.set(counter);
        window
    }

    /// Whether this counter was not received and is not too old.
    pub(super) fn is_new(&self, counter: u64) -> bool {
        if counter > self.newest {
            return true;
        }
        let (word, bit) = place(counter);
        self.newest - counter < WINDOW && self.seen[word] & bit == 0
    }

    /// Notes that a counter was received, which [`Window::is_new`] and authentic.
    pub(super) fn note(&mut self, counter: u64) {
        if counter > self.newest {
            let skipped = (counter - self.newest).min(WINDOW);
            for passed in counter - skipped + 1..=counter {
                let (word, bit) = place(passed);
                self.seen[word] &= !bit;
            }
            self.newest = counter;
        }
        self.set(counter);
    }

    fn set(&mut self, counter: u64) {
        let (word, bit) = place(counter);
        self.seen[word] |= bit;
    }
}

fn place(counter: u64) -> (usize, u64) {
    ((counter % WINDOW / 64) as usize, 1 << (counter % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(first: u64, counters: &[(u64, bool)]) {
        let mut window = Window::new(first);
        for &(counter, expected) in counters {
            assert_eq!(window.is_new(counter), expected, "{counter} of {counters:?}");
            if expected {
                window.note(counter);
            }
        }
    }

    #[test]
    fn a_counter_counts_once_in_any_order() {
        check(
            5,
            &[(5, false), (6, true), (6, false), (9, true), (7, true), (8, true), (7, false), (4, true), (4, false)],
        );
    }

    #[test]
    fn a_counter_behind_the_window_is_refused() {
        check(2_000, &[(2_000 - WINDOW, false), (2_001 - WINDOW, true), (2_001, true), (2_001 - WINDOW, false)]);
        check(0, &[(0, false), (WINDOW, true), (1, true), (0, false), (2 * WINDOW + 1, true), (WINDOW, false)]);
    }

    #[test]
    fn a_leap_forgets_what_was_received_before() {
        check(1, &[(1 + WINDOW * 5, true), (2 + WINDOW * 4, true), (1 + WINDOW * 4, false), (u64::MAX, true)]);
        check(u64::MAX - 1, &[(u64::MAX, true), (u64::MAX, false), (u64::MAX - WINDOW + 1, true)]);
    }

    /// Against a set of all counters received.
    #[test]
    fn a_window_agrees_with_a_list_of_what_was_received() {
        // Numbers of a linear congruence (Knuth, MMIX) are random enough here.
        let mut state = 7_u64;
        let mut below = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        for _ in 0..50 {
            let mut at = 10_000;
            let (mut window, mut seen) = (Window::new(at), vec![at]);
            for _ in 0..500 {
                at += below(60);
                let counter = at - below(1_500).min(at);
                let newest = *seen.iter().max().unwrap();
                let expected = counter > newest || newest - counter < WINDOW && !seen.contains(&counter);
                assert_eq!(window.is_new(counter), expected, "{counter}, newest {newest}");
                if expected {
                    window.note(counter);
                    seen.push(counter);
                }
            }
        }
    }
}
