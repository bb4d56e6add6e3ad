//! `State`: what the screen shows, and what a key does. Nothing here asks or draws.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::seen::{Group, Health, Member, Members, Page, SeenEvent, Worker};
use crate::top::feed::{News, Wanted};

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
}

impl Tab {
    pub(crate) const ALL: [Tab; 7] =
        [Tab::Overview, Tab::Members, Tab::Groups, Tab::Busy, Tab::Queues, Tab::Workers, Tab::Events];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Tab::Overview => "Overview",
            Tab::Members => "Members",
            Tab::Groups => "Groups",
            Tab::Busy => "Busy",
            Tab::Queues => "Queues",
            Tab::Workers => "Workers",
            Tab::Events => "Events",
        }
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
    pub(crate) members: Option<Members>,
    pub(crate) groups: Option<Group>,
    pub(crate) busy: Vec<Worker>,
    pub(crate) fullest: Vec<Worker>,
    pub(crate) workers: Page,
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
            members: None,
            groups: None,
            busy: Vec::new(),
            fullest: Vec::new(),
            workers: Page { workers: Vec::new(), next: None },
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
                self.members = answers.members.or(self.members.take());
                self.groups = answers.groups.or(self.groups.take());
                self.busy = answers.busy.unwrap_or(std::mem::take(&mut self.busy));
                self.fullest = answers.fullest.unwrap_or(std::mem::take(&mut self.fullest));
                if let Some((_, page)) = answers.workers.filter(|(after, _)| *after == self.after) {
                    self.workers = page;
                }
            }
        }
        self.keep_selection();
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
            KeyCode::Char(digit @ '1'..='7') => self.tab = Tab::ALL[digit as usize - '1' as usize],
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
        }
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

    fn answers() -> Answers {
        let health = Health { holds: true, checks: Vec::new() };
        Answers {
            live: health.clone(),
            ready: health,
            members: None,
            groups: None,
            busy: None,
            fullest: None,
            workers: None,
            took: Duration::ZERO,
        }
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
        assert_eq!(state.tab, Tab::Events);
        press(&mut state, &[KeyCode::Tab]);
        assert_eq!(state.tab, Tab::Overview);
        press(&mut state, &[KeyCode::Char('4')]);
        assert_eq!((state.tab, state.wanted().tab), (Tab::Busy, Tab::Busy));
        press(&mut state, &[KeyCode::Char('9'), KeyCode::F(1)]);
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
        state.take(News::Answers(Box::new(Answers { busy: Some(vec![worker("a")]), ..answers() })));
        assert_eq!(state.selected(), 0);
        state.take(News::Answers(Box::new(Answers { busy: Some(Vec::new()), ..answers() })));
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
            News::Answers(Box::new(Answers { workers: Some((after.map(str::to_owned), page)), ..answers() }))
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
        state.take(News::Answers(Box::new(answers())));
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
