//! Shrinking: the shortest list of steps that still fails.
//!
//! Steps are left out in ever smaller pieces as long as the rest fails (Zeller and Hildebrandt,
//! "Simplifying and isolating failure-inducing input", IEEE TSE 28(2), 2002, without the
//! complements). It asks for no more than that a list can be played.

/// Leaves out of `steps` what is not needed for `fails`. A list that does not fail comes back as it
/// is.
pub fn shrink<T: Clone>(steps: &[T], mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut steps = steps.to_vec();
    let mut piece = steps.len().div_ceil(2);
    while piece > 0 {
        let (mut begin, mut is_shorter) = (0, false);
        while begin < steps.len() {
            let end = (begin + piece).min(steps.len());
            let rest = [&steps[..begin], &steps[end..]].concat();
            if fails(&rest) {
                (steps, is_shorter) = (rest, true);
            } else {
                begin = end;
            }
        }
        if !(piece == 1 && is_shorter) {
            piece /= 2;
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_is_left() {
        let steps: Vec<u32> = (0..100).collect();
        assert_eq!(shrink(&steps, |rest| rest.contains(&7) && rest.contains(&93)), [7, 93]);
        assert_eq!(shrink(&steps, |_| true), [0_u32; 0]);
        assert_eq!(shrink(&steps, |rest| rest.len() >= 3).len(), 3);
        assert_eq!(shrink(&steps, |_| false), steps);
    }
}
