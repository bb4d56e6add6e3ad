//! The screen of `heartbeat top`. What a node says is escaped before it is drawn.

use std::collections::BTreeMap;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Table, TableState, Wrap};
use serde::Serialize;

use crate::seen::{Group, RequestCounts, Threads};
use crate::status::sums;
use crate::text::{Tone, count, safe, time};
use crate::top::state::{Mode, State, Tab};
use crate::top::tables::{
    busy_table, events_table, groups_table, links_table, members_table, peers_table, queue_table, threads_table,
    workers_table,
};

/// A screen this wide shows the tree beside the lists of the overview.
pub(super) const WIDE: u16 = 120;

/// A screen this wide shows all tabs in a line; a narrower one needs two.
const TABS_WIDE: u16 = 106;

/// Below this nothing can be read.
const SIZE_MIN: (u16, u16) = (60, 12);

const KEYS: [(&str, &str); 10] = [
    ("tab, 1 to 9, 0", "next view, or that one"),
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
    let tabs_lines = tabs_lines(state, area.width);
    let [head, tabs, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(tabs_lines.len() as u16),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(head_line(state, head.width)), head);
    frame.render_widget(Paragraph::new(tabs_lines), tabs);
    match state.tab {
        Tab::Overview => overview(frame, state, body),
        Tab::Members
        | Tab::Groups
        | Tab::Busy
        | Tab::Queues
        | Tab::Workers
        | Tab::Events
        | Tab::Links
        | Tab::Requests
        | Tab::Threads => list(frame, state, body),
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
    if let Some(summary) = &state.summary {
        let cluster = summary.cluster.as_ref().map(|cluster| format!(" of {}", safe(cluster))).unwrap_or_default();
        spans.push(Span::raw(format!("{}{cluster}  ", safe(&summary.node))));
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

fn tabs_lines(state: &State, width: u16) -> Vec<Line<'static>> {
    let line = |tabs: &[Tab]| {
        let mut spans = vec![Span::raw(" ")];
        for tab in tabs {
            let style = if *tab == state.tab { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
            spans.push(Span::styled(format!(" {} {} ", tab.key(), tab.title()), style));
        }
        Line::from(spans)
    };
    let a_line = if width >= TABS_WIDE { Tab::ALL.len() } else { Tab::ALL.len().div_ceil(2) };
    Tab::ALL.chunks(a_line).map(line).collect()
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
    let (busiest, full) = (state.overview_busy(), state.overview_fullest());
    let [busy, queues, events] =
        Layout::vertical([room(busiest.len(), most), room(full.len(), most), Constraint::Min(0)]).areas(lists);
    section(frame, "At work for 1 s or longer", "no worker", busy, busiest.is_empty(), |area| {
        busy_table(state, busiest.iter().copied(), area)
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
    let Some(summary) = &state.summary else { return lines };
    let counts = |counts: &BTreeMap<String, u64>| -> (u64, String) {
        let sum = counts.values().fold(0, |sum: u64, count| sum.saturating_add(*count));
        (sum, sums(&counts.iter().map(|(name, count)| (&**name, *count)).filter(|(_, count)| *count > 0).collect()))
    };
    let (members, by_status) = counts(&summary.members);
    let text = match &summary.cluster {
        None => " members  no cluster".to_owned(),
        Some(_) => format!(" members  {members}: {by_status}"),
    };
    lines.push(match summary.members.get("suspect").is_some_and(|count| *count > 0) {
        true => Line::styled(text, tone(state, Tone::Doubtful)),
        false => Line::raw(text),
    });
    let (workers, by_state) = (summary.workers.count, counts(&summary.workers.states).1);
    let groups = count(summary.groups.count, "group");
    lines.push(Line::raw(format!(" workers  {workers}: {by_state}, in {groups}")));
    if summary.threads_held > 0 {
        let text =
            format!(" threads  {} held past their timeout, {} may be", summary.threads_held, summary.threads_held_max);
        lines.push(Line::styled(text, tone(state, Tone::Doubtful)));
    }
    if let Some(requests) = summary.requests.as_ref().filter(|requests| requests.sent > 0) {
        lines.push(Line::raw(format!(" requests {}", requests_line(requests))));
    }
    lines
}

/// What became of requests, in a line.
fn requests_line(requests: &RequestCounts) -> String {
    let RequestCounts { sent, handled, refused, interrupted, timed_out, held, under_way, .. } = requests;
    format!(
        "{sent} sent: {handled} handled, {refused} refused, {interrupted} interrupted, {timed_out} timed out, {under_way} under way, {held} held"
    )
}

// ---- lists ----

/// What stands over a list: figures that belong to none of its rows.
fn above(state: &State) -> Vec<Line<'static>> {
    match state.tab {
        Tab::Links if !state.links.links.is_empty() => {
            vec![Line::styled(format!(" detector {}", safe(&state.links.detector)), dim())]
        }
        Tab::Requests => {
            let Some(requests) = &state.requests.requests else { return Vec::new() };
            let mut lines = vec![Line::raw(format!(" {}", requests_line(requests)))];
            let reasons = requests.refused_by.iter().map(|(reason, count)| (&**reason, *count));
            let reasons = sums(&reasons.filter(|(_, count)| *count > 0).collect());
            if !reasons.is_empty() {
                lines.push(Line::styled(format!(" refused: {reasons}"), tone(state, Tone::Doubtful)));
            }
            if let Some(oldest) = requests.oldest_held_for {
                let text =
                    format!(" held: {} of {}, the oldest for {}", requests.held, state.requests.held_max, time(oldest));
                lines.push(Line::styled(text, tone(state, Tone::Doubtful)));
            }
            lines
        }
        Tab::Threads if state.threads.held > 0 => {
            let Threads { held, held_max, .. } = state.threads;
            let text = format!(" {held} held past their timeout, {held_max} may be");
            vec![Line::styled(text, tone(state, Tone::Bad))]
        }
        Tab::Overview
        | Tab::Members
        | Tab::Groups
        | Tab::Busy
        | Tab::Queues
        | Tab::Workers
        | Tab::Events
        | Tab::Links
        | Tab::Threads => Vec::new(),
    }
}

fn list(frame: &mut Frame<'_>, state: &mut State, area: Rect) {
    let above = above(state);
    let [top, area] = Layout::vertical([Constraint::Length(above.len() as u16), Constraint::Min(1)]).areas(area);
    frame.render_widget(Paragraph::new(above), top);
    // A line for the head of the table.
    state.height = usize::from(area.height.saturating_sub(1)).max(1);
    let (rows, selected) = (state.rows(), state.selected());
    if rows == 0 {
        let nothing = match (state.tab, state.filter.is_empty()) {
            (Tab::Busy, true) => "No worker has been at work for 1 s or longer.",
            (Tab::Links, true) => "The node watches no member.",
            (Tab::Requests, true) => "There is no other member to send requests to.",
            (Tab::Threads, true) => "No thread runs workers yet.",
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
        Tab::Links => links_table(state, state.shown_links().into_iter().skip(first).take(height), area),
        Tab::Requests => peers_table(state, state.shown_peers().into_iter().skip(first).take(height), area),
        Tab::Threads => threads_table(state, state.shown_threads().iter().skip(first).take(height), area),
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
        Tab::Links => state.shown_links().get(selected).map(lines).unwrap_or_default(),
        Tab::Requests => state.shown_peers().get(selected).map(lines).unwrap_or_default(),
        Tab::Threads => state.shown_threads().get(selected).map(lines).unwrap_or_default(),
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
    use crate::seen::{Health, Page, SeenEvent, Worker};
    use crate::top::feed::{Answers, News, Rows};

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

    fn summary() -> serde_json::Value {
        let mut busy =
            serde_json::to_value([worker("catalogue", 7, Some(12.34)), worker("quick", 0, Some(0.5))]).unwrap();
        serde_json::json!({ "node": "node-1", "cluster": "orders", "threads_held": 2, "threads_held_max": 8,
            "members": { "alive": 1, "suspect": 1, "dead": 0, "left": 0 }, "groups": { "count": 2, "down": ["bounces"] },
            "requests": { "sent": 9, "handled": 7, "refused": 2 },
            "workers": { "count": 5, "states": { "up": 4, "waiting": 1 }, "busiest": busy.take(),
                "fullest": [worker("smtp", 100, None), worker("idle", 0, None)] } })
    }

    fn groups() -> serde_json::Value {
        serde_json::json!({ "name": null, "is_running": true, "workers": { "up": 1 }, "groups": [
            { "name": "mail", "is_running": true, "workers": { "up": 3, "waiting": 1 }, "groups": [
                { "name": "bounces", "is_running": false, "escalations": 2, "restarts": 3, "intensity": 5 } ] } ]})
    }

    fn links() -> serde_json::Value {
        serde_json::json!({ "node": "node-1", "detector": "budget", "links": [
            { "name": "node-2", "verdict": "suspect", "silent_for": 4.2, "expected_after": 1.0, "suspected_after": 3.1,
                "dead_after": 6.0, "phi": 8.25, "observers": ["node-1", "node-3"],
                "budget": { "made": 1.5, "allowed": 1.0, "kept_at": 3.0, "loss": 0.052, "jitter": 0.012 } } ]})
    }

    fn requests() -> serde_json::Value {
        serde_json::json!({ "node": "node-1", "held_max": 1000, "window": 64,
            "requests": { "sent": 9, "handled": 6, "refused": 2, "held": 1, "oldest_held_for": 3.5,
                "refused_by": { "mailbox_full": 2, "no_owner": 0 } },
            "peers": [{ "name": "node-2", "status": "alive", "is_connected": false, "under_way": 3,
                "under_way_bytes": 640, "held": 1, "connect_failures": 4 }] })
    }

    fn threads() -> serde_json::Value {
        serde_json::json!({ "held": 1, "held_max": 8, "threads": [
            { "number": 0, "state": "running", "silent_for": 0.02, "timeout": 5.0, "workers": 12, "seen": "sleeping",
                "ran": 3.5, "waited": 0.25 },
            { "number": 3, "state": "abandoned", "workers": 0, "seen": null } ]})
    }

    fn state() -> State {
        let mut state = State::new("http://127.0.0.1:7180", false);
        let answers = |rows| {
            let live = Health::read(true, "ok     supervisor: receiver and supervisor answer\n").unwrap();
            let ready = Health::read(false, "failed groups: these groups do not run: \"bounces\"\n").unwrap();
            let summary = Some(serde_json::from_value(summary()).unwrap());
            let tree = Some(serde_json::from_value(groups()).unwrap());
            News::Answers(Box::new(Answers { live, ready, summary, rows, tree, took: Duration::ZERO }))
        };
        let members = serde_json::json!({ "node": "node-1", "cluster": "orders", "is_joined": true, "members": [
            { "name": "node-1", "status": "alive", "address": "10.0.0.1:7101", "role": "worker", "zone": "a" },
            { "name": "node-2", "status": "suspect", "address": "10.0.0.2:7101", "role": "worker", "zone": "b", "silent_for": 4.2, "watches_this_node": true },
        ]});
        let page = Page { workers: vec![worker("catalogue", 7, None)], next: Some("catalogue".into()) };
        for rows in [
            Rows::None,
            Rows::Members(serde_json::from_value(members).unwrap()),
            Rows::Busy(vec![worker("catalogue", 7, Some(12.34))]),
            Rows::Fullest(vec![worker("smtp", 100, None), worker("idle", 0, None)]),
            Rows::Workers(None, page),
            Rows::Links(serde_json::from_value(links()).unwrap()),
            Rows::Requests(serde_json::from_value(requests()).unwrap()),
            Rows::Threads(serde_json::from_value(threads()).unwrap()),
        ] {
            state.take(answers(rows));
        }
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
        assert!(line(&screen, " workers ").contains("5: 4 up, 1 waiting, in 2 groups"));
        assert!(line(&screen, " threads ").contains("2 held past their timeout, 8 may be"));
        assert!(line(&screen, " requests ").contains("9 sent: 7 handled, 2 refused"));
        assert!(!screen.iter().any(|line| line.contains("quick")), "half a second is not long");
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
            ('8', "node-2", &["suspect", "4.2 s", "1.0 s", "3.1 s", "6.0 s", "8.2", "5.2 %"]),
            ('8', " detector", &["budget"]),
            ('9', " 9 sent", &["6 handled", "2 refused", "1 held"]),
            ('9', " refused:", &["2 mailbox full"]),
            ('9', " held:", &["1 of 1000, the oldest for 3.5 s"]),
            ('9', "node-2", &["no", "3", "640", "4"]),
            ('0', " 1 held", &["8 may be"]),
            ('0', "running", &["12", "20 ms", "sleeping", "3.5 s", "250 ms"]),
            ('0', "abandoned", &["3"]),
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
        let summary = state.summary.as_mut().unwrap();
        summary.node.clone_from(&name);
        summary.workers.busiest[0].name.clone_from(&name);
        summary.workers.fullest[0].name.clone_from(&name);
        state.members.as_mut().unwrap().members[0].zone.clone_from(&name);
        state.members.as_mut().unwrap().members[0].name.clone_from(&name);
        state.groups.as_mut().unwrap().name = Some(name.clone());
        state.links.links[0].name.clone_from(&name);
        state.links.detector.clone_from(&name);
        state.requests.peers[0].name.clone_from(&name);
        state.requests.requests.as_mut().unwrap().refused_by.insert(name.clone(), 1);
        state.threads.threads[0].state.clone_from(&name);
        state.threads.threads[0].seen = Some(name.clone());
        state.workers.workers[0].name.clone_from(&name);
        state.fullest[0].name.clone_from(&name);
        state.events[0].name.clone_from(&name);
        for key in ['1', '2', '\n', '3', '\n', '4', '\n', '5', '6', '7', '\n', '8', '\n', '9', '\n', '0', '\n'] {
            state.press(KeyEvent::from(if key == '\n' { KeyCode::Enter } else { KeyCode::Char(key) }));
            let screen = screen(&mut state, 80, 24).concat();
            assert!(!screen.chars().any(|character| character.is_control() || character == '\u{202e}'), "{screen:?}");
            // A state or a reason may have a column of a few letters.
            assert!(screen.contains("\\u{1b}"), "{key}: {screen}");
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
        assert_eq!(end.iter().filter(|line| line.contains("w-")).count(), 19, "no room is wasted");
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
