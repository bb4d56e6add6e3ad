//! The screen of `heartbeat top`. What a node says is escaped before it is drawn.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Table, TableState, Wrap};
use serde::Serialize;

use crate::seen::{Group, Worker};
use crate::status::sums;
use crate::text::{Tone, count, safe};
use crate::top::state::{Mode, State, Tab};
use crate::top::tables::{busy_table, events_table, groups_table, members_table, queue_table, workers_table};

/// A screen this wide shows the tree beside the lists of the overview.
pub(super) const WIDE: u16 = 120;

/// Below this nothing can be read.
const SIZE_MIN: (u16, u16) = (60, 12);

const KEYS: [(&str, &str); 10] = [
    ("tab, 1 to 7", "next view, or that one"),
    ("up, down, j, k", "select a row"),
    ("page up, page down", "a screen up or down"),
    ("home, end, g, G", "first or last row"),
    ("enter", "all of the selected row"),
    ("/", "filter: workers by the beginning of their names,"),
    ("", "the others by any part; esc clears it"),
    ("n, b", "next page of workers, and back"),
    ("p", "pause, and go on"),
    ("q, ctrl-c", "quit"),
];

/// Draws all of it.
pub(crate) fn draw(frame: &mut Frame<'_>, state: &mut State) {
    let area = frame.area();
    if area.width < SIZE_MIN.0 || area.height < SIZE_MIN.1 {
        let text = format!("use at least {} x {}", SIZE_MIN.0, SIZE_MIN.1);
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let [head, tabs, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)])
            .areas(area);
    frame.render_widget(Paragraph::new(head_line(state, head.width)), head);
    frame.render_widget(Paragraph::new(tabs_line(state)), tabs);
    match state.tab {
        Tab::Overview => overview(frame, state, body),
        Tab::Members | Tab::Groups | Tab::Busy | Tab::Queues | Tab::Workers | Tab::Events => list(frame, state, body),
    }
    frame.render_widget(Paragraph::new(foot_line(state)), foot);
    match state.mode {
        Mode::List | Mode::Filter => {}
        Mode::Help => popup(frame, "Keys", &help()),
        Mode::Detail => popup(frame, "All of it", &detail(state)),
    }
}

/// A style with a meaning.
pub(super) fn tone(state: &State, tone: Tone) -> Style {
    let color = match tone {
        Tone::Good => Color::Green,
        Tone::Doubtful => Color::Yellow,
        Tone::Bad => Color::Red,
    };
    let style = Style::new();
    match (state.colour, tone) {
        (true, _) => style.fg(color),
        // Without colours, what is wrong is bold.
        (false, Tone::Bad) => style.add_modifier(Modifier::BOLD),
        (false, Tone::Good | Tone::Doubtful) => style,
    }
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

pub(super) fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

/// Which node this is, and whether it is healthy.
fn head_line(state: &State, width: u16) -> Line<'static> {
    let mut spans = vec![Span::styled(" heartbeat  ", bold())];
    for (name, health) in [("live", &state.live), ("ready", &state.ready)] {
        let span = match health {
            // What it said before is no answer to how it is now.
            _ if state.failed.is_some() => continue,
            None => Span::raw(format!("{name} ?  ")),
            Some(health) if health.holds => Span::styled(format!("{name}  "), tone(state, Tone::Good)),
            Some(_) => Span::styled(format!("NOT {name}  "), tone(state, Tone::Bad)),
        };
        spans.push(span);
    }
    if let Some(members) = &state.members {
        let cluster = members.cluster.as_ref().map(|cluster| format!(" of {}", safe(cluster))).unwrap_or_default();
        spans.push(Span::raw(format!("{}{cluster}  ", safe(&members.node))));
    }
    if state.failed.is_some() {
        spans.insert(1, Span::styled("NO ANSWER  ", tone(state, Tone::Bad)));
    }
    if state.is_paused {
        spans.push(Span::styled("paused  ", tone(state, Tone::Doubtful)));
    }
    if width >= 80 {
        spans.push(Span::styled(state.url.clone(), dim()));
    }
    Line::from(spans)
}

fn tabs_line(state: &State) -> Line<'static> {
    let mut spans = vec![Span::raw(" ")];
    for (place, tab) in Tab::ALL.into_iter().enumerate() {
        let style = if tab == state.tab { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        spans.push(Span::styled(format!(" {} {} ", place + 1, tab.title()), style));
    }
    Line::from(spans)
}

/// The keys, the filter being typed, or what is wrong.
fn foot_line(state: &State) -> Line<'static> {
    if state.mode == Mode::Filter {
        return Line::from(vec![Span::styled(" filter: ", bold()), Span::raw(safe(&state.filter)), Span::raw("_")]);
    }
    if let Some(failed) = &state.failed {
        return Line::styled(format!(" {}", safe(failed)), tone(state, Tone::Bad));
    }
    let mut keys = " q quit  ? keys  tab view  enter all of a row  / filter  p pause".to_owned();
    if !state.filter.is_empty() {
        keys = format!(" filter: {}  (esc clears it)  q quit  ? keys", safe(&state.filter));
    }
    if state.tab == Tab::Workers {
        keys += &format!("  n b page ({})", state.page());
    }
    Line::styled(keys, dim())
}

// ---- overview ----

fn overview(frame: &mut Frame<'_>, state: &mut State, area: Rect) {
    let summary = summary(state);
    let [top, rest] = Layout::vertical([Constraint::Length(summary.len() as u16 + 1), Constraint::Min(0)]).areas(area);
    frame.render_widget(Paragraph::new(summary), top);
    let (lists, tree) = match area.width >= WIDE {
        true => {
            let [lists, tree] = Layout::horizontal([Constraint::Fill(5), Constraint::Fill(2)]).spacing(2).areas(rest);
            (lists, Some(tree))
        }
        false => (rest, None),
    };
    // Title, head and rows; a short list leaves its room to the events.
    let room = |rows: usize, most: u16| Constraint::Length(2 + (rows as u16).clamp(1, most) + 1);
    let most = (lists.height / 4).max(2);
    let full: Vec<&Worker> = state.fullest.iter().filter(|worker| worker.queued > 0).collect();
    let [busy, queues, events] =
        Layout::vertical([room(state.busy.len(), most), room(full.len(), most), Constraint::Min(0)]).areas(lists);
    section(frame, "At work for 1 s or longer", "no worker", busy, state.busy.is_empty(), |area| {
        busy_table(state, &state.busy, area)
    });
    section(frame, "Fullest queues", "all are empty", queues, full.is_empty(), |area| {
        queue_table(state, full.iter().copied(), area)
    });
    section(frame, "Events", "none yet", events, state.events.is_empty(), |area| {
        events_table(state, state.shown_events().take(area.height.into()), area)
    });
    if let Some(tree) = tree {
        section(frame, "Supervision tree", "not known yet", tree, state.groups.is_none(), |area| {
            let groups = state.shown_groups();
            groups_table(state, groups.iter().take(area.height.into()).map(|(depth, group)| (*depth, *group)), area)
        });
    }
}

/// A list with a title over it, or a word if it is empty.
fn section<'a>(
    frame: &mut Frame<'_>,
    title: &'static str,
    nothing: &'static str,
    area: Rect,
    is_empty: bool,
    table: impl FnOnce(Rect) -> Table<'a>,
) {
    let [head, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    frame.render_widget(Paragraph::new(Line::styled(format!(" {title}"), bold())), head);
    match is_empty {
        true => frame.render_widget(Paragraph::new(Line::styled(format!("   {nothing}"), dim())), body),
        false => frame.render_widget(table(body), body),
    }
}

/// Members and workers in a line each, and what makes the node unready.
fn summary(state: &State) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for health in [&state.live, &state.ready].into_iter().flatten().filter(|health| !health.holds) {
        lines.push(Line::styled(format!(" {}", safe(&health.failed())), tone(state, Tone::Bad)));
    }
    if let Some(members) = &state.members {
        let text = match &members.cluster {
            None => " members  no cluster".to_owned(),
            Some(_) => format!(" members  {}: {}", members.members.len(), sums(&members.by_status())),
        };
        let suspects = members.members.iter().any(|member| member.status == "suspect");
        lines.push(match suspects {
            true => Line::styled(text, tone(state, Tone::Doubtful)),
            false => Line::raw(text),
        });
    }
    if let Some(groups) = &state.groups {
        let states = groups.by_state();
        let workers: u64 = states.values().fold(0, |sum, count| sum.saturating_add(*count));
        let text = format!(" workers  {workers}: {}, in {}", sums(&states), count(groups.size(), "group"));
        lines.push(Line::raw(text));
    }
    lines
}

// ---- lists ----

fn list(frame: &mut Frame<'_>, state: &mut State, area: Rect) {
    // A line for the head of the table.
    state.height = usize::from(area.height.saturating_sub(1)).max(1);
    let (rows, selected) = (state.rows(), state.selected());
    if rows == 0 {
        let nothing = match (state.tab, state.filter.is_empty()) {
            (Tab::Busy, true) => "No worker has been at work for 1 s or longer.",
            (_, true) => "Nothing yet.",
            (_, false) => "Nothing that the filter takes.",
        };
        frame.render_widget(Paragraph::new(format!("\n {nothing}")), area);
        return;
    }
    // The selected row is in the middle, where there are rows on both sides.
    let first = selected.saturating_sub(state.height / 2).min(rows.saturating_sub(state.height));
    let (height, shown) = (state.height, selected - first);
    let table = match state.tab {
        Tab::Overview => return,
        Tab::Members => members_table(state, state.shown_members().into_iter().skip(first).take(height), area),
        Tab::Groups => groups_table(state, state.shown_groups().into_iter().skip(first).take(height), area),
        Tab::Busy => busy_table(state, state.busy.iter().skip(first).take(height), area),
        Tab::Queues => queue_table(state, state.fullest.iter().skip(first).take(height), area),
        Tab::Workers => workers_table(state, state.workers.workers.iter().skip(first).take(height), area),
        Tab::Events => events_table(state, state.shown_events().skip(first).take(height), area),
    };
    let mut place = TableState::new().with_selected(shown);
    let table = table.row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(table, area, &mut place);
}

// ---- over the list ----

fn help() -> Vec<String> {
    KEYS.iter().map(|(key, what)| format!("{key:20}{what}")).collect()
}

/// All that is known of the selected row, a key a line.
fn detail(state: &State) -> Vec<String> {
    let selected = state.selected();
    match state.tab {
        Tab::Overview => Vec::new(),
        Tab::Members => state.shown_members().get(selected).map(lines).unwrap_or_default(),
        Tab::Groups => state.shown_groups().get(selected).map(|(_, group)| {
            let Group { name, is_running, escalations, restarts, intensity, workers, groups } = *group;
            let groups: Vec<&Option<String>> = groups.iter().map(|group| &group.name).collect();
            lines(&serde_json::json!({ "name": name, "is_running": is_running, "escalations": escalations, "restarts": restarts, "intensity": intensity, "workers": workers, "groups": groups }))
        }).unwrap_or_default(),
        Tab::Busy => state.busy.get(selected).map(lines).unwrap_or_default(),
        Tab::Queues => state.fullest.get(selected).map(lines).unwrap_or_default(),
        Tab::Workers => state.workers.workers.get(selected).map(lines).unwrap_or_default(),
        Tab::Events => state.shown_events().nth(selected).map(lines).unwrap_or_default(),
    }
}

/// The keys and values of something, a line each.
fn lines(of: &impl Serialize) -> Vec<String> {
    let Ok(serde_json::Value::Object(map)) = serde_json::to_value(of) else { return Vec::new() };
    let line = |(key, value): (&String, &serde_json::Value)| match value {
        serde_json::Value::String(text) => format!("{key:18}{}", safe(text)),
        other => format!("{key:18}{}", safe(&other.to_string())),
    };
    map.iter().map(line).collect()
}

fn popup(frame: &mut Frame<'_>, title: &'static str, lines: &[String]) {
    let area = frame.area();
    let width = area.width.saturating_sub(8).min(100);
    let inner = usize::from(width.saturating_sub(4)).max(1);
    let rows: usize = lines.iter().map(|line| line.chars().count().div_ceil(inner).max(1)).sum();
    let height = (rows as u16 + 2).min(area.height.saturating_sub(2));
    let place = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    let block = Block::bordered().title(format!(" {title} ")).title_bottom(" any key closes this ");
    let text: Vec<Line<'_>> = lines.iter().map(|line| Line::raw(format!(" {line}"))).collect();
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }).block(block), place);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent};

    use super::*;
    use crate::seen::{Health, Page, SeenEvent};
    use crate::top::feed::{Answers, News};

    /// The lines of the screen.
    fn screen(state: &mut State, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(line).collect()
    }

    /// The line of the screen that holds this.
    #[track_caller]
    fn line<'a>(screen: &'a [String], part: &str) -> &'a str {
        screen
            .iter()
            .find(|line| line.contains(part))
            .unwrap_or_else(|| panic!("no {part:?} in\n{}", screen.join("\n")))
    }

    fn worker(name: &str, queued: u64, busy_for: Option<f64>) -> Worker {
        Worker {
            name: name.into(),
            state: "up".into(),
            queued,
            capacity: 100,
            is_ready: true,
            busy_for,
            doing: busy_for.map(|_| "app::import::Load".into()),
            ..Worker::default()
        }
    }

    fn state() -> State {
        let mut state = State::new("http://127.0.0.1:7180", false);
        let members = serde_json::json!({ "node": "node-1", "cluster": "orders", "is_joined": true, "members": [
            { "name": "node-1", "status": "alive", "address": "10.0.0.1:7101", "role": "worker", "zone": "a" },
            { "name": "node-2", "status": "suspect", "address": "10.0.0.2:7101", "role": "worker", "zone": "b", "silent_for": 4.2, "watches_this_node": true },
        ]});
        let groups = serde_json::json!({ "name": null, "is_running": true, "workers": { "up": 1 }, "groups": [
            { "name": "mail", "is_running": true, "workers": { "up": 3, "waiting": 1 }, "groups": [
                { "name": "bounces", "is_running": false, "escalations": 2, "restarts": 3, "intensity": 5 } ] } ]});
        let ready = Health::read(false, "failed groups: these groups do not run: \"bounces\"\n").unwrap();
        state.take(News::Answers(Box::new(Answers {
            live: Health::read(true, "ok     supervisor: receiver and supervisor answer\n").unwrap(),
            ready,
            members: Some(serde_json::from_value(members).unwrap()),
            groups: Some(serde_json::from_value(groups).unwrap()),
            busy: Some(vec![worker("catalogue", 7, Some(12.34))]),
            fullest: Some(vec![worker("smtp", 100, None), worker("idle", 0, None)]),
            workers: Some((None, Page { workers: vec![worker("catalogue", 7, None)], next: Some("catalogue".into()) })),
            took: Duration::ZERO,
        })));
        let data = r#"{"event":"failed","at":45296,"worker":"billing","restart_in":0.5,"cause":{"kind":"panicked","payload":"no price"}}"#;
        state.take(News::Event(SeenEvent::read("1.1", data).unwrap()));
        state
    }

    #[test]
    fn the_overview_names_what_is_wrong_at_every_size() {
        for (width, height) in [(80, 24), (160, 50), (60, 20)] {
            let screen = screen(&mut state(), width, height);
            assert!(line(&screen, "heartbeat").contains("NOT ready"), "{screen:?}");
            assert!(line(&screen, " groups: these").contains("do not run"));
            assert!(line(&screen, " members ").contains("1 alive, 1 suspect"));
            assert!(line(&screen, "catalogue").contains("12.3 s"));
        }
        let screen = screen(&mut state(), 80, 24);
        assert!(line(&screen, "catalogue").contains("Load"));
        assert!(line(&screen, "smtp").contains("██████████       100 of 100"));
        assert!(!screen.iter().any(|line| line.contains("idle")), "an empty queue is none of the fullest");
        assert!(line(&screen, "billing").contains("12:34:56  failed"));
        assert!(line(&screen, "billing").contains("panicked: no price, restart in"));
        assert!(line(&screen, " q quit").contains("? keys"));
    }

    #[test]
    fn a_wide_overview_has_the_tree_beside_it() {
        assert!(line(&screen(&mut state(), 160, 50), "    bounces ").contains("down"));
        assert!(!screen(&mut state(), 80, 24).iter().any(|line| line.contains("Supervision tree")));
    }

    #[test]
    fn each_view_shows_its_figures() {
        for (key, part, facts) in [
            ('2', "node-2", &["suspect", "4.2 s", "yes", "10.0.0.2:7101", " b"][..]),
            ('3', "bounces", &["     bounces", "down", "3 of 5", "2"]),
            ('3', " mail", &["   mail", "runs", "3 up, 1 waiting"]),
            ('4', "catalogue", &["Load", "12.3 s", "7"]),
            ('5', "idle", &["··········", "0 of 100"]),
            ('6', "catalogue", &["up", "7"]),
            ('7', "billing", &["failed", "no price"]),
        ] {
            let mut state = state();
            state.press(KeyEvent::from(KeyCode::Char(key)));
            let screen = screen(&mut state, 80, 24);
            for fact in facts {
                assert!(line(&screen, part).contains(fact), "{fact:?} is not in view {key}: {screen:?}");
            }
        }
    }

    #[test]
    fn what_a_node_calls_itself_cannot_command_the_terminal() {
        let mut state = state();
        let name = "\u{1b}[2J\n\u{9b}31m\u{202e}".to_owned() + &"ü".repeat(120);
        state.busy[0].name = name.clone();
        state.failed = Some(name.clone());
        state.members.as_mut().unwrap().node = name;
        for key in ['1', '4', '\n'] {
            state.press(KeyEvent::from(if key == '\n' { KeyCode::Enter } else { KeyCode::Char(key) }));
            let screen = screen(&mut state, 80, 24).concat();
            assert!(!screen.chars().any(|character| character.is_control() || character == '\u{202e}'), "{screen:?}");
            assert!(screen.contains("\\u{1b}[2J\\n\\u{9b}31m"), "{screen}");
        }
    }

    #[test]
    fn help_and_details_are_drawn_over_the_list() {
        let mut state = state();
        state.press(KeyEvent::from(KeyCode::Char('?')));
        let shown = screen(&mut state, 80, 24);
        assert!(line(&shown, "ctrl-c").contains("quit"));
        state.press(KeyEvent::from(KeyCode::Esc));
        state.press(KeyEvent::from(KeyCode::Char('4')));
        state.press(KeyEvent::from(KeyCode::Enter));
        let shown = screen(&mut state, 80, 24);
        assert!(line(&shown, "doing ").contains("app::import::Load"), "the whole name is there");
    }

    #[test]
    fn a_long_list_shows_the_selected_row() {
        let mut state = state();
        state.tab = Tab::Busy;
        state.busy = (0..200).map(|number| worker(&format!("w-{number:03}"), 0, Some(1.0))).collect();
        let before = screen(&mut state, 80, 24);
        line(&before, "w-000");
        (0..100).for_each(|_| state.press(KeyEvent::from(KeyCode::Down)));
        line(&screen(&mut state, 80, 24), "w-100");
        state.press(KeyEvent::from(KeyCode::End));
        let end = screen(&mut state, 80, 24);
        line(&end, "w-199");
        assert_eq!(end.iter().filter(|line| line.contains("w-")).count(), 20, "no room is wasted");
    }

    #[test]
    fn a_node_that_is_gone_is_not_shown_as_live() {
        let mut state = state();
        state.take(News::Failed("http://127.0.0.1:7180 refuses connections".into()));
        let screen = screen(&mut state, 80, 24);
        let head = line(&screen, "heartbeat");
        assert!(head.contains("NO ANSWER") && !head.contains("live"), "{head}");
        line(&screen, "refuses connections");
    }

    #[test]
    fn a_tiny_screen_and_an_empty_state_are_drawn() {
        for (width, height) in [(1, 1), (59, 12), (60, 11), (60, 12), (200, 12), (60, 100)] {
            let mut state = State::new("http://127.0.0.1:7180", true);
            for tab in Tab::ALL {
                state.tab = tab;
                screen(&mut state, width, height);
                state.mode = Mode::Help;
                screen(&mut state, width, height);
                state.mode = Mode::List;
            }
        }
    }
}
