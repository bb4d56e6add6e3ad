//! `Feed`: what the node says, asked for by threads of its own.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::door::{AskError, Door, Order, encoded};
use crate::seen::{Group, Health, Members, Page, SeenEvent, Worker};
use crate::top::state::Tab;

/// News that may wait for the screen; then the node is asked no more.
const NEWS_MAX: usize = 256;

/// Silence of the events after which their connection is made anew. The node sends a comment every
/// 15 s.
const EVENTS_SILENCE: Duration = Duration::from_secs(40);

/// Pause before the events are asked for again.
const EVENTS_RETRY: Duration = Duration::from_secs(2);

/// Rows that are asked for.
const ROWS: usize = 200;

/// A node that takes long to answer is asked less often: the pause is at least so many times the
/// time that the answers took. So it spends at most a twentieth of a core on them.
const PAUSE_SHARE: u32 = 19;

/// Longest pause for that reason, so that a slow network makes no view stand still.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How often members and groups are asked for while the view shows only their sums.
const SUMS_EVERY: Duration = Duration::from_secs(10);

/// What the screen shows, and so what is asked for.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Wanted {
    pub(crate) tab: Tab,
    /// Of workers: how their names begin.
    pub(crate) prefix: String,
    /// Of the tab with all workers: the name that the page begins behind.
    pub(crate) after: Option<String>,
    /// Whether nothing is asked for.
    pub(crate) is_paused: bool,
}

/// One round of answers. What the screen does not show was not asked for.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) live: Health,
    pub(crate) ready: Health,
    pub(crate) members: Option<Members>,
    pub(crate) groups: Option<Group>,
    pub(crate) busy: Option<Vec<Worker>>,
    pub(crate) fullest: Option<Vec<Worker>>,
    /// A page of all workers, and the name behind which it begins.
    pub(crate) workers: Option<(Option<String>, Page)>,
    /// How long the round took.
    pub(crate) took: Duration,
}

/// What the threads found.
#[derive(Debug)]
pub(crate) enum News {
    Answers(Box<Answers>),
    Failed(String),
    Event(SeenEvent),
}

/// The threads that ask a node. They end after this is dropped.
pub(crate) struct Feed {
    wanted: Sender<Wanted>,
    news: Receiver<News>,
}

impl Feed {
    /// Starts to ask.
    pub(crate) fn start(door: &Door, every: Duration, first: Wanted) -> Result<Feed, Failure> {
        let (wanted, wishes) = mpsc::channel();
        let (news_sender, news) = mpsc::sync_channel(NEWS_MAX);
        let (events_door, events_sender) = (door.clone(), news_sender.clone());
        let door = door.clone();
        std::thread::Builder::new()
            .name("answers".into())
            .spawn(move || ask_again(&door, every, first, &wishes, &news_sender))?;
        std::thread::Builder::new().name("events".into()).spawn(move || follow(&events_door, &events_sender))?;
        Ok(Feed { wanted, news })
    }

    /// Asks for this from now on, at once.
    pub(crate) fn ask(&self, wanted: Wanted) {
        // An error: the thread has ended, and its last news says why.
        let _ = self.wanted.send(wanted);
    }

    /// What has come in meanwhile.
    pub(crate) fn news(&self) -> impl Iterator<Item = News> {
        self.news.try_iter().take(NEWS_MAX)
    }
}

fn ask_again(door: &Door, every: Duration, first: Wanted, wishes: &Receiver<Wanted>, news: &SyncSender<News>) {
    let (mut wanted, mut sums_at) = (first, None);
    loop {
        let mut pause_min = Duration::ZERO;
        if !wanted.is_paused {
            let is_due = sums_at.is_none_or(|at: Instant| at.elapsed() >= SUMS_EVERY);
            let told = match answers(door, &wanted, is_due) {
                Ok(answers) => {
                    if is_due {
                        sums_at = Some(Instant::now());
                    }
                    pause_min = pause_after(answers.took);
                    News::Answers(Box::new(answers))
                }
                Err(error) => News::Failed(error.to_string()),
            };
            if news.send(told).is_err() {
                return;
            }
        }
        match wishes.recv_timeout(every.max(pause_min)) {
            // Only the newest wish counts.
            Ok(wish) => wanted = wishes.try_iter().last().unwrap_or(wish),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// The least pause after answers that took so long.
fn pause_after(took: Duration) -> Duration {
    took.saturating_mul(PAUSE_SHARE).min(PAUSE_MAX)
}

/// Asks for what is wanted; `with_sums` asks for members and groups in any case.
fn answers(door: &Door, wanted: &Wanted, with_sums: bool) -> Result<Answers, AskError> {
    let begun = Instant::now();
    let is = |tabs: &[Tab]| tabs.contains(&wanted.tab);
    let first = |order| door.first_workers(order, &wanted.prefix, ROWS);
    let (live, ready) = (door.health("/livez")?, door.health("/readyz")?);
    let members = is(&[Tab::Overview, Tab::Members]) || with_sums;
    let members = members.then(|| door.json("/members")).transpose()?;
    let groups = is(&[Tab::Overview, Tab::Groups]) || with_sums;
    let groups = groups.then(|| door.json("/groups")).transpose()?;
    let busy = is(&[Tab::Overview, Tab::Busy]).then(|| first(Order::Busiest)).transpose()?;
    let fullest = is(&[Tab::Overview, Tab::Queues]).then(|| first(Order::Fullest)).transpose()?;
    let page = || {
        let after = wanted.after.as_ref().map(|after| format!("&after={}", encoded(after))).unwrap_or_default();
        door.json(&format!("/workers?prefix={}&limit={ROWS}{after}", encoded(&wanted.prefix)))
    };
    let workers = is(&[Tab::Workers]).then(page).transpose()?.map(|page| (wanted.after.clone(), page));
    Ok(Answers { live, ready, members, groups, busy, fullest, workers, took: begun.elapsed() })
}

/// Follows the events, and goes on behind the last one after an interruption.
fn follow(door: &Door, news: &SyncSender<News>) {
    let (mut last, mut is_over) = (None, false);
    while !is_over {
        // What is wrong with the node, the other thread tells.
        let _ = door.events(last.clone().as_deref(), EVENTS_SILENCE, |event| {
            // Only what has an id can be gone on behind.
            if !event.id.is_empty() {
                last = Some(event.id.clone());
            }
            is_over = news.send(News::Event(event)).is_err();
            !is_over
        });
        std::thread::sleep(EVENTS_RETRY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_answers_slowly_is_asked_less_often() {
        for (took, pause) in [(0, 0), (10, 190), (100, 1_900), (263, 4_997), (264, 5_000), (10_000, 5_000)] {
            assert_eq!(pause_after(Duration::from_millis(took)), Duration::from_millis(pause));
        }
    }
}
