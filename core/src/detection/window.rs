//! `Window`: the last samples of something, with their sum.
//!
//! A ring in one block of memory, allocated once. One more sample costs a store and two additions,
//! for a window of any length. Sums are kept in integers, so that a million samples in and out
//! again leave no rounding behind.

/// The last so many samples, in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct Window {
    samples: Box<[i64]>,
    /// How many of `samples` are filled.
    filled: u32,
    /// Where the next one goes.
    next: u32,
    sum: i128,
}

impl Window {
    /// An empty window of `length` samples, 8 bytes each; at least one.
    pub(super) fn new(length: u32) -> Window {
        assert!(length > 0, "a window of no samples has no mean");
        Window { samples: vec![0; length as usize].into_boxed_slice(), filled: 0, next: 0, sum: 0 }
    }

    /// Adds a sample; returns the one that fell out for it.
    pub(super) fn push(&mut self, sample: i64) -> Option<i64> {
        let length = self.samples.len() as u32;
        let place = &mut self.samples[self.next as usize];
        let former = std::mem::replace(place, sample);
        let fell_out = (self.filled == length).then_some(former);
        self.filled = (self.filled + 1).min(length);
        self.sum += i128::from(sample) - i128::from(fell_out.unwrap_or(0));
        self.next = if self.next + 1 == length { 0 } else { self.next + 1 };
        fell_out
    }

    /// Forgets all samples.
    pub(super) fn clear(&mut self) {
        (self.filled, self.next, self.sum) = (0, 0, 0);
    }

    /// How many samples it holds.
    pub(super) fn filled(&self) -> u32 {
        self.filled
    }

    /// Their sum.
    pub(super) fn sum(&self) -> i128 {
        self.sum
    }

    /// Their mean; `None` while there are none.
    pub(super) fn mean(&self) -> Option<f64> {
        (self.filled > 0).then(|| self.sum as f64 / f64::from(self.filled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_the_last_samples() {
        let mut window = Window::new(3);
        assert_eq!(window.mean(), None);
        let fell_out: Vec<_> = [5, -1, 2, 9].map(|sample| window.push(sample)).to_vec();
        assert_eq!(fell_out, [None, None, None, Some(5)]);
        assert_eq!((window.sum(), window.filled()), (10, 3));
        window.clear();
        assert_eq!((window.sum(), window.filled(), window.push(4)), (0, 0, None));
    }

    #[test]
    fn the_largest_samples_do_not_overflow_the_sum() {
        let mut window = Window::new(1_000);
        for _ in 0..3_000 {
            window.push(i64::MAX);
        }
        assert_eq!(window.mean(), Some(i64::MAX as f64));
    }
}
