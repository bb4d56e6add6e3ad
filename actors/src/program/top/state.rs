//! `State`: what the screen shows, and what a key does. Nothing here asks or draws.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::door::BUSY_FROM;
use crate::seen::{
    Group, Health, Link, Links, Member, Members, Page, Peer, Requests, SeenEvent, Summary, Thread, Threads, Worker,
};
use crate::top::feed::{News, Rows, Wanted};

/// Events that are kept.
const EVENTS_MAX: usize = 1_000;

/// Longest filter, in bytes.
const FILTER_BYTES_MAX: usize = 128;

/// What the screen shows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Tab {
    /// A little of everything.
    Overview,
    Members,
    Groups,
    /// Workers that have been at work for long.
    Busy,
    /// Workers with the fullest queues.
    Queues,
    /// All workers, page by page.
    Workers,
    Events,
    /// The members that the node watches, and their detectors.
    Links,
    /// Requests to other nodes.
    Requests,
    /// The threads that run workers.
    Threads,
}

impl Tab {
    pub(crate) const ALL: [Tab; 10] = [
        Tab::Overview,
        Tab::Members,
        Tab::Groups,
        Tab::Busy,
        Tab::Queues,
        Tab::Workers,
        Tab::Events,
        Tab::Links,
        Tab::Requests,
        Tab::Threads,
    ];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Tab::Overview => "Overview",
            Tab::Members => "Members",
            Tab::Groups => "Groups",
            Tab::Busy => "Busy",
            Tab::Queues => "Queues",
            Tab::Workers => "Workers",
            Tab::Events => "Events",
            Tab::Links => "Links",
            Tab::Requests => "Requests",
            Tab::Threads => "Threads",
        }
    }

    /// Its key: 1 to 9, and 0 for the tenth.
    pub(crate) fn key(self) -> char {
        let place = Tab::ALL.iter().position(|tab| *tab == self).unwrap_or(0);
        char::from_digit((place as u32 + 1) % 10, 10).unwrap_or('0')
    }

    fn of_key(key: char) -> Option<Tab> {
        Tab::ALL.into_iter().find(|tab| tab.key() == key)
    }

    /// The tab so many places further, around the end.
    fn turned(self, by: usize) -> Tab {
        let place = Tab::ALL.iter().position(|tab| *tab == self).unwrap_or(0);
        Tab::ALL[(place + by) % Tab::ALL.len()]
    }
}

/// What is over the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    List,
    /// The filter is being typed.
    Filter,
    /// All that is known of the selected row.
    Detail,
    /// The keys.
    Help,
}

/// All that the screen shows.
pub(crate) struct State {
    pub(crate) url: String,
    pub(crate) colour: bool,
    pub(crate) tab: Tab,
    pub(crate) mode: Mode,
    pub(crate) filter: String,
    /// The selected row of each tab.
    selected: BTreeMap<Tab, usize>,
    /// How many rows the list had room for when it was drawn.
    pub(crate) height: usize,
    pub(crate) live: Option<Health>,
    pub(crate) ready: Option<Health>,
    pub(crate) summary: Option<Summary>,
    pub(crate) members: Option<Members>,
    pub(crate) groups: Option<Group>,
    pub(crate) busy: Vec<Worker>,
    pub(crate) fullest: Vec<Worker>,
    pub(crate) workers: Page,
    pub(crate) links: Links,
    pub(crate) requests: Requests,
    pub(crate) threads: Threads,
    /// The names that the pages before this one began behind.
    pages: Vec<Option<String>>,
    after: Option<String>,
    /// The newest last.
    pub(crate) events: VecDeque<SeenEvent>,
    /// Why the last round got no answer.
    pub(crate) failed: Option<String>,
    pub(crate) is_paused: bool,
    /// How long the last round took.
    pub(crate) took: Duration,
    is_over: bool,
}

impl State {
    pub(crate) fn new(url: &str, colour: bool) -> State {
        State {
            url: url.to_owned(),
            colour,
            tab: Tab::Overview,
            mode: Mode::List,
            filter: String::new(),
            selected: BTreeMap::new(),
            height: 1,
            live: None,
            ready: None,
            summary: None,
            members: None,
            groups: None,
            busy: Vec::new(),
            fullest: Vec::new(),
            workers: Page { workers: Vec::new(), next: None },
            links: Links::default(),
            requests: Requests::default(),
            threads: Threads::default(),
            pages: Vec::new(),
            after: None,
            events: VecDeque::new(),
            failed: None,
            is_paused: false,
            took: Duration::ZERO,
            is_over: false,
        }
    }

    /// Takes in what the node said.
    pub(crate) fn take(&mut self, news: News) {
        match news {
            News::Failed(why) => self.failed = Some(why),
            News::Event(event) => {
                if self.events.len() == EVENTS_MAX {
                    self.events.pop_front();
                }
                self.events.push_back(event);
                // The list begins with the newest: a selected row stays the same event.
                if let Some(selected) = self.selected.get_mut(&Tab::Events).filter(|selected| **selected > 0) {
                    *selected += 1;
                }
            }
            News::Answers(answers) => {
                self.failed = None;
                (self.live, self.ready, self.took) = (Some(answers.live), Some(answers.ready), answers.took);
                self.summary = answers.summary.or(self.summary.take());
                self.groups = answers.tree.or(self.groups.take());
                self.take_rows(answers.rows);
            }
        }
        self.keep_selection();
    }

    fn take_rows(&mut self, rows: Rows) {
        match rows {
            Rows::None => {}
            Rows::Members(members) => self.members = Some(members),
            Rows::Groups(groups) => self.groups = Some(groups),
            Rows::Busy(busy) => self.busy = busy,
            Rows::Fullest(fullest) => self.fullest = fullest,
            Rows::Workers(after, page) if after == self.after => self.workers = page,
            // The answer to a question before the newest one.
            Rows::Workers(..) => {}
            Rows::Links(links) => self.links = links,
            Rows::Requests(requests) => self.requests = requests,
            Rows::Threads(threads) => self.threads = threads,
        }
    }

    /// Does what a key says.
    pub(crate) fn press(&mut self, key: KeyEvent) {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            self.is_over |= matches!(key.code, KeyCode::Char('c' | 'd'));
            return;
        }
        match self.mode {
            Mode::Filter => self.press_in_filter(key.code),
            Mode::Detail | Mode::Help => self.mode = Mode::List,
            Mode::List => self.press_in_list(key.code),
        }
        self.keep_selection();
    }

    fn press_in_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.mode = Mode::List,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = Mode::List;
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(typed) if self.filter.len() + typed.len_utf8() <= FILTER_BYTES_MAX => self.filter.push(typed),
            _ => {}
        }
        // Another filter begins at the first page.
        (self.after, self.pages) = (None, Vec::new());
        self.selected.clear();
    }

    fn press_in_list(&mut self, key: KeyCode) {
        match key {
            KeyCode::Char('q') => self.is_over = true,
            KeyCode::Esc if !self.filter.is_empty() => self.press_in_filter(KeyCode::Esc),
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
            KeyCode::Char(digit @ '0'..='9') => self.tab = Tab::of_key(digit).unwrap_or(self.tab),
            KeyCode::Tab | KeyCode::Right | KeyCode::Char('l') => self.tab = self.tab.turned(1),
            KeyCode::BackTab | KeyCode::Left => self.tab = self.tab.turned(Tab::ALL.len() - 1),
            KeyCode::Down | KeyCode::Char('j') => self.select(self.selected() + 1),
            KeyCode::Up | KeyCode::Char('k') => self.select(self.selected().saturating_sub(1)),
            KeyCode::PageDown => self.select(self.selected() + self.height.max(1)),
            KeyCode::PageUp => self.select(self.selected().saturating_sub(self.height.max(1))),
            KeyCode::Home | KeyCode::Char('g') => self.select(0),
            KeyCode::End | KeyCode::Char('G') => self.select(usize::MAX),
            KeyCode::Enter if self.rows() > 0 => self.mode = Mode::Detail,
            KeyCode::Char('n') => self.next_page(),
            KeyCode::Char('b') => self.page_before(),
            _ => {}
        }
    }

    /// Goes on behind the last worker of this page.
    fn next_page(&mut self) {
        if self.tab == Tab::Workers
            && let Some(next) = self.workers.next.take()
        {
            self.pages.push(self.after.replace(next));
            self.select(0);
        }
    }

    fn page_before(&mut self) {
        if self.tab == Tab::Workers
            && let Some(before) = self.pages.pop()
        {
            self.after = before;
            self.select(0);
        }
    }

    fn select(&mut self, row: usize) {
        self.selected.insert(self.tab, row);
    }

    /// Keeps the selection within the list.
    fn keep_selection(&mut self) {
        let last = self.rows().saturating_sub(1);
        if let Some(selected) = self.selected.get_mut(&self.tab) {
            *selected = (*selected).min(last);
        }
    }

    /// Whether the user quits.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// What the node is to be asked for.
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted { tab: self.tab, prefix: self.filter.clone(), after: self.after.clone(), is_paused: self.is_paused }
    }

    /// The selected row of this tab.
    pub(crate) fn selected(&self) -> usize {
        self.selected.get(&self.tab).copied().unwrap_or(0)
    }

    /// The number of this page of workers, from 1.
    pub(crate) fn page(&self) -> usize {
        self.pages.len() + 1
    }

    /// How many rows the list of this tab has.
    pub(crate) fn rows(&self) -> usize {
        match self.tab {
            Tab::Overview => 0,
            Tab::Members => self.shown_members().len(),
            Tab::Groups => self.shown_groups().len(),
            Tab::Busy => self.busy.len(),
            Tab::Queues => self.fullest.len(),
            Tab::Workers => self.workers.workers.len(),
            Tab::Events => self.shown_events().count(),
            Tab::Links => self.shown_links().len(),
            Tab::Requests => self.shown_peers().len(),
            Tab::Threads => self.threads.threads.len(),
        }
    }

    /// Workers of the overview that have been at work for long.
    pub(crate) fn overview_busy(&self) -> Vec<&Worker> {
        let busiest = self.summary.iter().flat_map(|summary| &summary.workers.busiest);
        busiest.filter(|worker| worker.busy_for.is_some_and(|time| time >= BUSY_FROM) && self.begins(worker)).collect()
    }

    /// Workers of the overview in whose queues something waits.
    pub(crate) fn overview_fullest(&self) -> Vec<&Worker> {
        let fullest = self.summary.iter().flat_map(|summary| &summary.workers.fullest);
        fullest.filter(|worker| worker.queued > 0 && self.begins(worker)).collect()
    }

    fn begins(&self, worker: &Worker) -> bool {
        worker.name.starts_with(&self.filter)
    }

    /// The links that the filter takes.
    pub(crate) fn shown_links(&self) -> Vec<&Link> {
        self.links.links.iter().filter(|link| self.takes(&[&link.name, &link.verdict])).collect()
    }

    /// The members to which requests go that the filter takes.
    pub(crate) fn shown_peers(&self) -> Vec<&Peer> {
        self.requests.peers.iter().filter(|peer| self.takes(&[&peer.name, &peer.status])).collect()
    }

    /// The threads.
    pub(crate) fn shown_threads(&self) -> &[Thread] {
        &self.threads.threads
    }

    /// The members that the filter takes.
    pub(crate) fn shown_members(&self) -> Vec<&Member> {
        let members = self.members.iter().flat_map(|members| &members.members);
        members.filter(|member| self.takes(&[&member.name, &member.zone, &member.address, &member.status])).collect()
    }

    /// The groups that the filter takes, each with its depth in the tree.
    pub(crate) fn shown_groups(&self) -> Vec<(usize, &Group)> {
        let (mut shown, mut left) = (Vec::new(), Vec::new());
        left.extend(self.groups.iter().map(|group| (0, group)));
        while let Some((depth, group)) = left.pop() {
            if self.takes(&[group.name.as_deref().unwrap_or_default()]) {
                shown.push((depth, group));
            }
            left.extend(group.groups.iter().rev().map(|group| (depth + 1, group)));
        }
        shown
    }

    /// The events that the filter takes, the newest first.
    pub(crate) fn shown_events(&self) -> impl Iterator<Item = &SeenEvent> {
        self.events.iter().rev().filter(|event| self.takes(&[&event.name, event.subject()]))
    }

    /// Whether one of the texts holds the filter. Workers are filtered by the node, by the
    /// beginning of their names.
    fn takes(&self, texts: &[&str]) -> bool {
        self.filter.is_empty() || texts.iter().any(|text| text.to_lowercase().contains(&self.filter.to_lowercase()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::feed::Answers;

    fn press(state: &mut State, keys: &[KeyCode]) {
        keys.iter().for_each(|key| state.press(KeyEvent::from(*key)));
    }

    fn worker(name: &str) -> Worker {
        Worker { name: name.into(), ..Worker::default() }
    }

    fn answers(rows: Rows) -> News {
        let health = Health { holds: true, checks: Vec::new() };
        let (live, ready) = (health.clone(), health);
        News::Answers(Box::new(Answers { live, ready, summary: None, rows, tree: None, took: Duration::ZERO }))
    }

    fn event(id: u64, name: &str) -> News {
        News::Event(SeenEvent { id: format!("1.{id}"), at: 0.0, name: name.into(), figures: serde_json::Map::new() })
    }

    #[test]
    fn keys_change_the_view_around_the_end() {
        let mut state = State::new("http://x", false);
        press(&mut state, &[KeyCode::Tab]);
        assert_eq!(state.tab, Tab::Members);
        press(&mut state, &[KeyCode::BackTab, KeyCode::BackTab]);
        assert_eq!(state.tab, Tab::Threads);
        press(&mut state, &[KeyCode::Tab]);
        assert_eq!(state.tab, Tab::Overview);
        press(&mut state, &[KeyCode::Char('4')]);
        assert_eq!((state.tab, state.wanted().tab), (Tab::Busy, Tab::Busy));
        press(&mut state, &[KeyCode::Char('0')]);
        assert_eq!(state.wanted().tab, Tab::Threads);
        press(&mut state, &[KeyCode::Char('4'), KeyCode::F(1)]);
        assert_eq!((state.tab, state.is_over()), (Tab::Busy, false));
    }

    #[test]
    fn the_selection_stays_within_the_list() {
        let mut state = State::new("http://x", false);
        state.tab = Tab::Busy;
        state.busy = vec![worker("a"), worker("b"), worker("c")];
        press(&mut state, &[KeyCode::Up]);
        assert_eq!(state.selected(), 0);
        press(&mut state, &[KeyCode::End]);
        assert_eq!(state.selected(), 2);
        press(&mut state, &[KeyCode::Down, KeyCode::PageDown]);
        assert_eq!(state.selected(), 2);
        state.take(answers(Rows::Busy(vec![worker("a")])));
        assert_eq!(state.selected(), 0);
        state.take(answers(Rows::Busy(Vec::new())));
        press(&mut state, &[KeyCode::Enter, KeyCode::Down]);
        assert_eq!((state.selected(), state.mode), (0, Mode::List));
    }

    #[test]
    fn a_filter_is_typed_asked_for_and_cleared() {
        let mut state = State::new("http://x", false);
        state.tab = Tab::Workers;
        press(
            &mut state,
            &[KeyCode::Char('/'), KeyCode::Char('q'), KeyCode::Char('ü'), KeyCode::Char('x'), KeyCode::Backspace],
        );
        assert_eq!((&*state.wanted().prefix, state.is_over()), ("qü", false), "q is a letter here");
        press(&mut state, &[KeyCode::Enter, KeyCode::Char('7')]);
        state.take(event(1, "failed"));
        assert_eq!(state.rows(), 0);
        press(&mut state, &[KeyCode::Esc]);
        assert_eq!((state.rows(), &*state.wanted().prefix), (1, ""));
        press(&mut state, &[KeyCode::Char('/')]);
        press(&mut state, &[KeyCode::Char('y'); 1_000]);
        assert_eq!(state.filter.len(), FILTER_BYTES_MAX);
    }

    #[test]
    fn pages_of_workers_go_on_and_back() {
        let mut state = State::new("http://x", false);
        state.tab = Tab::Workers;
        let page = |after: Option<&str>, next: Option<&str>| {
            let page = Page { workers: vec![worker("w")], next: next.map(str::to_owned) };
            answers(Rows::Workers(after.map(str::to_owned), page))
        };
        state.take(page(None, Some("m")));
        press(&mut state, &[KeyCode::Char('n')]);
        assert_eq!((state.wanted().after.as_deref(), state.page()), (Some("m"), 2));
        state.take(page(None, Some("m")));
        press(&mut state, &[KeyCode::Char('n')]);
        assert_eq!(state.page(), 2, "the answer was to the question before");
        state.take(page(Some("m"), None));
        press(&mut state, &[KeyCode::Char('n')]);
        assert_eq!(state.page(), 2, "it was the last page");
        press(&mut state, &[KeyCode::Char('b'), KeyCode::Char('b')]);
        assert_eq!((state.wanted().after, state.page()), (None, 1));
    }

    #[test]
    fn events_are_bounded_and_the_selected_one_stays() {
        let mut state = State::new("http://x", false);
        state.tab = Tab::Events;
        (1..=3).for_each(|id| state.take(event(id, "started")));
        press(&mut state, &[KeyCode::Down]);
        let selected = |state: &State| state.shown_events().nth(state.selected()).unwrap().id.clone();
        assert_eq!(selected(&state), "1.2");
        state.take(event(4, "failed"));
        assert_eq!(selected(&state), "1.2");
        (5..=2_000).for_each(|id| state.take(event(id, "started")));
        assert_eq!((state.events.len(), state.rows()), (EVENTS_MAX, EVENTS_MAX));
        assert_eq!(state.events.back().unwrap().id, "1.2000");
    }

    #[test]
    fn a_failed_round_is_told_until_one_succeeds() {
        let mut state = State::new("http://x", false);
        state.take(News::Failed("refused".into()));
        assert_eq!(state.failed.as_deref(), Some("refused"));
        state.take(answers(Rows::None));
        assert_eq!(state.failed, None);
    }

    #[test]
    fn the_keys_for_the_end_end_it() {
        for key in [KeyEvent::from(KeyCode::Char('q')), KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)] {
            let mut state = State::new("http://x", false);
            state.press(key);
            assert!(state.is_over());
        }
    }
}
