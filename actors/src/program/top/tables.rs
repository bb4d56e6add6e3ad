//! The tables of `heartbeat top`: one for each list, with more columns where there is room.

use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Row, Table};

use crate::seen::{Group, Link, Member, Peer, SeenEvent, Thread, Worker};
use crate::status::sums;
use crate::text::{Tone, safe, short_type, time};
use crate::top::draw::{WIDE, dim, tone};
use crate::top::state::State;

/// Cells of the bar that shows how full a queue is.
pub(super) const BAR: usize = 10;

/// A column of a table.
struct Column {
    head: &'static str,
    width: Constraint,
    /// Numbers stand at the right edge.
    is_number: bool,
}

fn left(head: &'static str, width: Constraint) -> Column {
    Column { head, width, is_number: false }
}

fn right(head: &'static str, width: Constraint) -> Column {
    Column { head, width, is_number: true }
}

fn table(rows: impl Iterator<Item = (Vec<String>, Style)>, columns: impl AsRef<[Column]>) -> Table<'static> {
    let columns = columns.as_ref();
    let cell = |(text, column): (String, &Column)| match column.is_number {
        true => Line::raw(text).right_aligned(),
        false => Line::raw(text),
    };
    // The first column stands one cell from the edge.
    let heads = columns.iter().enumerate().map(|(place, column)| {
        let text = if place == 0 { format!(" {}", column.head) } else { column.head.to_owned() };
        cell((text, column))
    });
    let rows = rows.map(|(cells, style)| Row::new(cells.into_iter().zip(columns).map(cell)).style(style));
    let widths: Vec<Constraint> = columns.iter().map(|column| column.width).collect();
    Table::new(rows.collect::<Vec<_>>(), widths).header(Row::new(heads).style(dim())).column_spacing(2)
}

/// The first cell of a row.
fn first(text: &str) -> String {
    format!(" {}", safe(text))
}

pub(super) fn members_table<'a>(
    state: &State,
    members: impl Iterator<Item = &'a Member>,
    area: Rect,
) -> Table<'static> {
    let is_wide = area.width >= WIDE;
    let rows = members.map(|member| {
        let style = match &*member.status {
            "suspect" => tone(state, Tone::Doubtful),
            "dead" => tone(state, Tone::Bad),
            "left" => dim(),
            _ => Style::new(),
        };
        let watches = match member.watches_this_node {
            Some(true) => "yes",
            Some(false) => "",
            None => "?",
        };
        let mut cells = vec![
            first(&member.name),
            safe(&member.status),
            member.silent_for.map(time).unwrap_or_default(),
            watches.to_owned(),
            safe(&member.address),
            safe(&member.zone),
        ];
        if is_wide {
            cells.push(safe(&member.role));
        }
        (cells, style)
    });
    let mut columns = vec![
        left("member", Constraint::Fill(2)),
        left("status", Constraint::Length(7)),
        right("silent for", Constraint::Length(12)),
        left("watches us", Constraint::Length(10)),
        left("address", Constraint::Fill(2)),
        left("zone", Constraint::Fill(1)),
    ];
    if is_wide {
        columns.push(left("role", Constraint::Length(8)));
    }
    table(rows, columns)
}

pub(super) fn groups_table<'a>(
    state: &State,
    groups: impl Iterator<Item = (usize, &'a Group)>,
    area: Rect,
) -> Table<'static> {
    // Beside other lists there is room for the tree and its states only.
    let is_wide = area.width >= 70;
    let rows = groups.map(|(depth, group)| {
        let counts = group.workers.iter().map(|(state, count)| (&**state, *count)).collect();
        let style = if group.is_running { Style::new() } else { tone(state, Tone::Bad) };
        let name = group.name.as_deref().map_or_else(|| "(root)".to_owned(), safe);
        let running = if group.is_running { "runs" } else { "down" };
        let mut cells = vec![format!(" {}{name}", "  ".repeat(depth.min(12))), running.to_owned()];
        if is_wide {
            cells.extend([restarts(group), above_zero(group.escalations)]);
        }
        cells.push(sums(&counts));
        (cells, style)
    });
    let mut columns = vec![left("group", Constraint::Fill(2)), left("state", Constraint::Length(5))];
    if is_wide {
        columns.extend([right("restarts", Constraint::Length(9)), right("escalated", Constraint::Length(9))]);
    }
    columns.push(left("workers of its own", Constraint::Fill(2)));
    table(rows, columns)
}

/// Restarts in the period that ends now, and how many are allowed.
fn restarts(group: &Group) -> String {
    match (group.restarts.unwrap_or(0), group.intensity) {
        (0, _) => String::new(),
        (restarts, Some(most)) => format!("{restarts} of {most}"),
        (restarts, None) => restarts.to_string(),
    }
}

/// A number, or nothing if it is zero.
fn above_zero(number: u64) -> String {
    if number == 0 { String::new() } else { number.to_string() }
}

pub(super) fn busy_table<'a>(
    state: &State,
    workers: impl IntoIterator<Item = &'a Worker>,
    area: Rect,
) -> Table<'static> {
    let is_wide = area.width >= 100;
    let rows = workers.into_iter().map(|worker| {
        let doing = worker.doing.as_deref().map(short_type).unwrap_or_default();
        let mut cells = vec![
            first(&worker.name),
            safe(&doing),
            worker.busy_for.map(time).unwrap_or_default(),
            worker.queued.to_string(),
            worker.failures.to_string(),
        ];
        if is_wide {
            cells.push(safe(&worker.cause().replace('_', " ")));
        }
        (cells, tone(state, Tone::Doubtful))
    });
    let mut columns = vec![
        left("worker", Constraint::Fill(3)),
        left("in", Constraint::Fill(3)),
        right("for", Constraint::Length(12)),
        right("queued", Constraint::Length(6)),
        right("failures", Constraint::Length(8)),
    ];
    if is_wide {
        columns.push(left("last cause", Constraint::Length(14)));
    }
    table(rows, columns)
}

/// How full a queue is: `████······`.
fn bar(fullness: f64) -> String {
    // A queue with anything in it shows a cell.
    let filled = (fullness.clamp(0.0, 1.0) * BAR as f64).ceil() as usize;
    "█".repeat(filled) + &"·".repeat(BAR - filled)
}

pub(super) fn queue_table<'a>(state: &State, workers: impl Iterator<Item = &'a Worker>, area: Rect) -> Table<'static> {
    let is_wide = area.width >= 100;
    let rows = workers.map(|worker| {
        let style = match worker.fullness() {
            fullness if fullness >= 0.9 => tone(state, Tone::Bad),
            fullness if fullness >= 0.5 => tone(state, Tone::Doubtful),
            _ => Style::new(),
        };
        let mut cells = vec![
            first(&worker.name),
            bar(worker.fullness()),
            format!("{} of {}", worker.queued, worker.capacity),
            worker.rejected.to_string(),
        ];
        if is_wide {
            cells.extend([worker.handled.to_string(), safe(&short_type(&worker.kind))]);
        }
        (cells, style)
    });
    let mut columns = vec![
        left("worker", Constraint::Fill(3)),
        left("", Constraint::Length(BAR as u16)),
        right("queued", Constraint::Length(15)),
        right("rejected", Constraint::Length(10)),
    ];
    if is_wide {
        columns.extend([right("handled", Constraint::Length(12)), left("kind", Constraint::Fill(2))]);
    }
    table(rows, columns)
}

pub(super) fn workers_table<'a>(
    state: &State,
    workers: impl Iterator<Item = &'a Worker>,
    area: Rect,
) -> Table<'static> {
    let is_wide = area.width >= WIDE;
    let rows = workers.map(|worker| {
        let style = match &*worker.state {
            "given_up" => tone(state, Tone::Bad),
            "waiting" | "starting" => tone(state, Tone::Doubtful),
            _ if worker.is_ready || worker.state != "up" => Style::new(),
            _ => tone(state, Tone::Doubtful),
        };
        let unready =
            worker.not_ready.as_deref().map(|why| format!(" ({})", why.replace('_', " "))).unwrap_or_default();
        let mut cells = vec![
            first(&worker.name),
            safe(&format!("{}{unready}", worker.state.replace('_', " "))),
            worker.queued.to_string(),
            worker.handled.to_string(),
            worker.failures.to_string(),
            safe(&worker.cause().replace('_', " ")),
        ];
        if is_wide {
            cells.extend([safe(worker.group.as_deref().unwrap_or_default()), safe(&short_type(&worker.kind))]);
        }
        (cells, style)
    });
    let mut columns = vec![
        left("worker", Constraint::Fill(2)),
        left("state", Constraint::Fill(1)),
        right("queued", Constraint::Length(6)),
        right("handled", Constraint::Length(10)),
        right("failures", Constraint::Length(8)),
        left("last cause", Constraint::Length(12)),
    ];
    if is_wide {
        columns.extend([left("group", Constraint::Fill(1)), left("kind", Constraint::Fill(1))]);
    }
    table(rows, columns)
}

pub(super) fn events_table<'a>(state: &State, events: impl Iterator<Item = &'a SeenEvent>, _: Rect) -> Table<'static> {
    let rows = events.map(|event| {
        let style = match &*event.name {
            "failed" | "gave_up" | "died" | "too_many_zombies" | "quorum_lost" | "session_ended" | "declared_dead" => {
                tone(state, Tone::Bad)
            }
            "suspected" | "not_ready" | "thread_held" | "abandoned" | "isolated" | "escalated" | "missed"
            | "paused" | "starved" => tone(state, Tone::Doubtful),
            _ => Style::new(),
        };
        let cells = vec![
            format!(" {}", clock(event.at)),
            safe(&event.name.replace('_', " ")),
            safe(event.subject()),
            safe(&event.detail()),
        ];
        (cells, style)
    });
    table(
        rows,
        [
            left("UTC", Constraint::Length(9)),
            left("event", Constraint::Length(15)),
            left("of", Constraint::Fill(2)),
            left("what", Constraint::Fill(5)),
        ],
    )
}

pub(super) fn links_table<'a>(state: &State, links: impl Iterator<Item = &'a Link>, area: Rect) -> Table<'static> {
    let is_wide = area.width >= WIDE;
    let rows = links.map(|link| {
        let budget = link.budget.as_ref();
        // A link that cannot keep its budget is marked, also while its verdict is `alive`.
        let is_overspent = budget.is_some_and(|budget| budget.kept_at.is_some());
        let style = match &*link.verdict {
            "dead" => tone(state, Tone::Bad),
            "suspect" => tone(state, Tone::Doubtful),
            _ if is_overspent => tone(state, Tone::Doubtful),
            _ => Style::new(),
        };
        let mut cells = vec![
            first(&link.name),
            safe(&link.verdict),
            time(link.silent_for),
            time(link.expected_after),
            time(link.suspected_after),
            time(link.dead_after),
            format!("{:.1}", link.phi),
            budget.map(|budget| format!("{:.1} %", budget.loss * 100.0)).unwrap_or_default(),
        ];
        if is_wide {
            cells.extend([
                budget.map(|budget| time(budget.jitter)).unwrap_or_default(),
                budget.map(|budget| format!("{:.1} of {:.1}", budget.made, budget.allowed)).unwrap_or_default(),
                link.observers.len().to_string(),
            ]);
        }
        (cells, style)
    });
    let mut columns = vec![
        left("link to", Constraint::Fill(2)),
        left("verdict", Constraint::Length(7)),
        right("silent for", Constraint::Length(10)),
        right("expected", Constraint::Length(8)),
        right("suspect", Constraint::Length(8)),
        right("dead", Constraint::Length(8)),
        right("phi", Constraint::Length(5)),
        right("lost", Constraint::Length(7)),
    ];
    if is_wide {
        columns.extend([
            right("jitter", Constraint::Length(8)),
            right("mistakes", Constraint::Length(12)),
            right("observers", Constraint::Length(9)),
        ]);
    }
    table(rows, columns)
}

pub(super) fn peers_table<'a>(state: &State, peers: impl Iterator<Item = &'a Peer>, _: Rect) -> Table<'static> {
    let rows = peers.map(|peer| {
        let style = match (peer.held > 0, peer.is_connected) {
            (true, _) => tone(state, Tone::Doubtful),
            (false, false) => dim(),
            (false, true) => Style::new(),
        };
        let cells = vec![
            first(&peer.name),
            safe(&peer.status),
            if peer.is_connected { "yes" } else { "no" }.to_owned(),
            peer.under_way.to_string(),
            peer.under_way_bytes.to_string(),
            peer.held.to_string(),
            peer.connect_failures.to_string(),
        ];
        (cells, style)
    });
    table(
        rows,
        [
            left("requests to", Constraint::Fill(2)),
            left("status", Constraint::Length(7)),
            left("connected", Constraint::Length(9)),
            right("under way", Constraint::Length(9)),
            right("bytes", Constraint::Length(10)),
            right("held", Constraint::Length(6)),
            right("failures", Constraint::Length(8)),
        ],
    )
}

pub(super) fn threads_table<'a>(
    state: &State,
    threads: impl Iterator<Item = &'a Thread>,
    area: Rect,
) -> Table<'static> {
    let is_wide = area.width >= 90;
    let rows = threads.map(|thread| {
        let style = match &*thread.state {
            "running" => Style::new(),
            "held" => tone(state, Tone::Doubtful),
            _ => tone(state, Tone::Bad),
        };
        let some = |seconds: Option<f64>| seconds.map(time).unwrap_or_default();
        let mut cells = vec![
            format!(" {}", thread.number),
            safe(&thread.state),
            thread.workers.to_string(),
            some(thread.silent_for),
            safe(thread.seen.as_deref().unwrap_or_default()),
            some(thread.ran),
            some(thread.waited),
        ];
        if is_wide {
            cells.push(some(thread.timeout));
        }
        (cells, style)
    });
    let mut columns = vec![
        left("thread", Constraint::Length(7)),
        left("state", Constraint::Length(9)),
        right("workers", Constraint::Length(7)),
        right("silent for", Constraint::Length(10)),
        left("system", Constraint::Length(8)),
        right("ran", Constraint::Length(11)),
        right("waited", Constraint::Length(11)),
    ];
    if is_wide {
        columns.push(right("timeout", Constraint::Length(8)));
    }
    table(rows, columns)
}

/// The time of day, in UTC.
fn clock(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64 % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_that_something_waits() {
        for (fullness, expected) in [(0.0, 0), (0.001, 1), (0.5, 5), (1.0, 10), (7.0, 10)] {
            assert_eq!(bar(fullness).matches('█').count(), expected);
            assert_eq!(bar(fullness).chars().count(), BAR);
        }
    }
}
