//! `DropQueue`: drops messages that no worker will handle.
//!
//! Dropping a message runs code of the application, so it must not happen on the control thread. A
//! worker's thread will not do either: another worker may hold it for minutes, or it has ended, and
//! meanwhile each sender waits for an answer. So a thread is made when there is something to drop,
//! and ends when that is done.
//!
//! A `drop` that never returns holds up those behind it. Their messages stay in memory, and no
//! worker waits for them.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use crate::lock::lock;
use crate::thread::ThreadSource;

/// Drops something, and publishes what is to be published about it.
type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs in order, on a thread that exists only while there are any.
#[derive(Clone)]
pub(crate) struct DropQueue {
    source: ThreadSource,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Whether a thread runs them.
    is_running: bool,
}

impl DropQueue {
    pub(crate) fn new(source: ThreadSource) -> DropQueue {
        DropQueue { source, queue: Arc::default() }
    }

    /// Runs `job` soon, without waiting for it. A panic in it affects no other job.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        match self.source {
            ThreadSource::System => {}
            // A test has one thread for everything.
            #[cfg(feature = "testkit")]
            ThreadSource::SimulatedThread => return run(Box::new(job)),
        }
        {
            let mut queue = lock(&self.queue);
            queue.jobs.push_back(Box::new(job));
            if std::mem::replace(&mut queue.is_running, true) {
                return;
            }
        }
        let queue = self.queue.clone();
        let made = std::thread::Builder::new().name("heartbeat-drop".to_owned()).spawn(move || run_jobs(&queue));
        if made.is_err() {
            // The system has no more threads. This thread runs the jobs, since senders wait.
            run_jobs(&self.queue);
        }
    }
}

/// Runs the jobs until there are none.
fn run_jobs(queue: &Mutex<Queue>) {
    loop {
        let job = {
            let mut queue = lock(queue);
            let job = queue.jobs.pop_front();
            queue.is_running = job.is_some();
            job
        };
        let Some(job) = job else { return };
        run(job);
    }
}

fn run(job: Job) {
    // The panic hook has logged it.
    let _ = catch_unwind(AssertUnwindSafe(job));
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn jobs_run_in_order_elsewhere_and_a_panic_stops_none() {
        let drop_queue = DropQueue::new(ThreadSource::System);
        let (told, tell) = mpsc::channel();
        let here = std::thread::current().id();
        for number in 0..100 {
            let told = told.clone();
            drop_queue.run(move || {
                assert_ne!(std::thread::current().id(), here);
                told.send(number).unwrap();
                assert!(number % 10 != 0, "told to panic");
            });
        }
        let done: Vec<u32> = (0..100).map(|_| tell.recv_timeout(Duration::from_secs(20)).unwrap()).collect();
        assert!(done.is_sorted(), "{done:?}");
    }
}
