//! What the operating system reports about a thread: its state, and the CPU time that it has used.
//!
//! Only this tells a thread that sleeps in a call from one that spins, and both from one that got
//! no CPU. Linux reports it in files (proc(5): `stat` and `schedstat` of a task; one read takes
//! about 2.5 us). On other systems it is not known, and the verdicts are coarser.

use std::time::Duration;

use heartbeat_core::{CpuTimes, ThreadSample, ThreadState};

/// A thread of this process as the operating system numbers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ThreadNumber(u32);

impl ThreadNumber {
    /// The calling thread.
    #[cfg(target_os = "linux")]
    pub(crate) fn own() -> Option<ThreadNumber> {
        let link = std::fs::read_link("/proc/thread-self").ok()?;
        link.file_name()?.to_str()?.parse().ok().map(ThreadNumber)
    }

    /// The calling thread; not known on this system.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn own() -> Option<ThreadNumber> {
        None
    }

    /// The CPU time that the thread has used so far; zero if it was made a moment ago.
    pub(crate) fn times(self) -> Option<CpuTimes> {
        parse_times(&std::fs::read_to_string(format!("/proc/self/task/{}/schedstat", self.0)).ok()?)
    }

    /// The thread's state and the CPU time it has used. To be called some time after the thread was
    /// made: if the time is still zero, the kernel does not count, and the answer is `None`.
    pub(crate) fn sample(self) -> Option<ThreadSample> {
        let state = parse_state(&std::fs::read_to_string(format!("/proc/self/task/{}/stat", self.0)).ok()?)?;
        let times = self.times().filter(|times| !times.ran.is_zero())?;
        Some(ThreadSample { state, times })
    }
}

/// `schedstat`: nanoseconds on the CPU, nanoseconds of waiting for one, slices run. All zero where
/// the kernel does not count, and in the first slice of a thread.
fn parse_times(text: &str) -> Option<CpuTimes> {
    let mut fields = text.split_ascii_whitespace().map(str::parse::<u64>);
    let (ran, waited) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some(CpuTimes { ran: Duration::from_nanos(ran), waited: Duration::from_nanos(waited) })
}

/// `stat`: the number, the name in brackets (which may itself hold brackets and blanks), then the
/// letter of the state.
fn parse_state(text: &str) -> Option<ThreadState> {
    match text.rsplit_once(')')?.1.trim_start().chars().next()? {
        'R' => Some(ThreadState::Runnable),
        'T' | 't' => Some(ThreadState::Stopped),
        'S' | 'D' | 'I' => Some(ThreadState::Sleeping),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_stands_behind_the_last_bracket() {
        assert_eq!(parse_state("17 (a) R (b)) S 1 2 3"), Some(ThreadState::Sleeping));
        assert_eq!(parse_state("17 (worker) R 1"), Some(ThreadState::Runnable));
        assert_eq!(parse_state("17 (worker) t 1"), Some(ThreadState::Stopped));
        assert_eq!(parse_state("17 (worker) Z 1"), None);
        assert_eq!(parse_state("17 (worker)"), None);
    }

    #[test]
    fn times_stand_in_nanoseconds() {
        let times = CpuTimes { ran: Duration::from_nanos(5), waited: Duration::from_nanos(7) };
        assert_eq!(parse_times("5 7 2\n"), Some(times));
        assert_eq!(parse_times("0 0 0\n"), Some(CpuTimes::default()));
        assert_eq!(parse_times("5"), None);
        assert_eq!(parse_times("a b c"), None);
    }
}
