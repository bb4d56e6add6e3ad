//! `Feed`: what the node says, asked for by threads of its own.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::door::{AskError, Door, Order, encoded};
use crate::seen::{Group, Health, Links, Members, Page, Requests, SeenEvent, Summary, Threads, Worker};
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

/// How often the tree of groups is asked for while it is beside the overview.
const TREE_EVERY: Duration = Duration::from_secs(10);

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
    /// The overview, which also names the node.
    pub(crate) summary: Option<Summary>,
    pub(crate) rows: Rows,
    /// The tree beside the overview.
    pub(crate) tree: Option<Group>,
    /// How long the round took.
    pub(crate) took: Duration,
}

/// The list of a view.
#[derive(Debug)]
pub(crate) enum Rows {
    /// The view has none, or the node cannot say it now.
    None,
    Members(Members),
    Groups(Group),
    Busy(Vec<Worker>),
    Fullest(Vec<Worker>),
    /// A page of all workers, and the name behind which it begins.
    Workers(Option<String>, Page),
    Links(Links),
    Requests(Requests),
    Threads(Threads),
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
    let (mut wanted, mut tree_at, mut is_named) = (first, None, false);
    loop {
        let mut pause_min = Duration::ZERO;
        if !wanted.is_paused {
            let is_tree_due = tree_at.is_none_or(|at: Instant| at.elapsed() >= TREE_EVERY);
            let told = match answers(door, &wanted, is_tree_due, is_named) {
                Ok(answers) => {
                    if answers.tree.is_some() {
                        tree_at = Some(Instant::now());
                    }
                    is_named |= answers.summary.is_some();
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

/// Asks for what is wanted. The summary is asked for by the overview, and until it has named the
/// node; it has the health, too.
fn answers(door: &Door, wanted: &Wanted, is_tree_due: bool, is_named: bool) -> Result<Answers, AskError> {
    let begun = Instant::now();
    let is_overview = wanted.tab == Tab::Overview;
    let summary = (is_overview || !is_named).then(|| door.json::<Summary>("/summary")).transpose()?;
    let (live, ready) = match &summary {
        Some(summary) => (Health::of(summary.live.clone()), Health::of(summary.ready.clone())),
        None => (door.health("/livez")?, door.health("/readyz")?),
    };
    let tree = (is_overview && is_tree_due).then(|| door.json("/groups")).transpose()?;
    Ok(Answers { live, ready, summary, rows: rows(door, wanted)?, tree, took: begun.elapsed() })
}

fn rows(door: &Door, wanted: &Wanted) -> Result<Rows, AskError> {
    let first = |order| door.first_workers(order, &wanted.prefix, ROWS);
    Ok(match wanted.tab {
        Tab::Overview | Tab::Events => Rows::None,
        Tab::Members => Rows::Members(door.json("/members")?),
        Tab::Groups => Rows::Groups(door.json("/groups")?),
        Tab::Busy => Rows::Busy(first(Order::Busiest)?),
        Tab::Queues => Rows::Fullest(first(Order::Fullest)?),
        Tab::Workers => {
            let after = wanted.after.as_ref().map(|after| format!("&after={}", encoded(after))).unwrap_or_default();
            let page = door.json(&format!("/workers?prefix={}&limit={ROWS}{after}", encoded(&wanted.prefix)))?;
            Rows::Workers(wanted.after.clone(), page)
        }
        Tab::Links => door.json_unless_stuck("/links")?.map_or(Rows::None, Rows::Links),
        Tab::Requests => Rows::Requests(door.json("/requests")?),
        Tab::Threads => door.json_unless_stuck("/threads")?.map_or(Rows::None, Rows::Threads),
    })
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
