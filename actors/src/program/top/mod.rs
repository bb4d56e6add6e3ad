//! `heartbeat top`: a node on the screen, read through its HTTP door.
//!
//! A thread asks for what the screen shows and for nothing else: aggregates, the busiest workers,
//! the fullest queues, a page of workers. However many workers the node has, no answer holds more
//! than a screen of them. A second thread follows the events.

mod draw;
mod feed;
mod signals;
mod state;
mod tables;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use serde::Serialize;

use crate::demo::{self, Demo};
use crate::door::{AskError, Door, Order};
use crate::seen::{Group, Health, Links, Members, Page, Requests, SeenEvent, Threads, Worker};
use crate::top::feed::Feed;
use crate::top::signals::Signals;
use crate::top::state::State;
use crate::{Access, Failure, text};

pub(crate) const EXAMPLES: &str = "Examples:
  heartbeat top http://127.0.0.1:7180
  heartbeat top --demo
  heartbeat top --json http://127.0.0.1:7180 | jq '.busy[].name'
  heartbeat top --json http://127.0.0.1:7180 | jq '.links.links[] | {name, verdict, silent_for}'
  HEARTBEAT_TOKEN=$(cat token) heartbeat top http://10.0.0.5:7180

Keys: tab, 1 to 9 or 0 changes the view, arrows move, enter shows all of a row, / filters,
p pauses, ? shows all keys, q quits. NO_COLOR=1 turns colours off.
Only plain HTTP is supported, as nodes have no other door.";

/// How often the screen is drawn at most.
const FRAME: Duration = Duration::from_millis(100);

/// Workers and events in the JSON of `--json`.
const JSON_ROWS: usize = 50;

/// How long `--json` waits for the next event of the backlog.
const BACKLOG_SILENCE: Duration = Duration::from_millis(500);

/// How long a demonstration runs before `--json` looks at it: its worker is stuck by then.
const DEMO_RUNS_FOR: Duration = Duration::from_secs(3);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where the node's HTTP door is, like http://127.0.0.1:7180
    #[arg(required_unless_present = "demo", conflicts_with = "demo")]
    url: Option<String>,
    /// Start a small cluster within this program, and look at that
    #[arg(long)]
    demo: bool,
    /// Print one snapshot as JSON and end
    #[arg(long)]
    json: bool,
    /// How often the node is asked
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = text::positive_duration)]
    every: Duration,
    #[command(flatten)]
    access: Access,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Snapshot {
    url: String,
    /// Seconds since 1970, by the clock of this program.
    at: f64,
    live: Health,
    ready: Health,
    #[serde(flatten)]
    members: Members,
    groups: Group,
    /// Workers that have been at work for a second or longer, the longest first.
    busy: Vec<Worker>,
    /// Workers with the fullest queues, the fullest first.
    fullest: Vec<Worker>,
    /// What `/links` and `/threads` say; null if the control thread does not answer.
    links: Option<Links>,
    requests: Requests,
    threads: Option<Threads>,
    /// The newest events, the oldest of them first.
    events: Vec<SeenEvent>,
}

/// Shows a node until the user quits, or prints one snapshot.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let is_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if !arguments.json && !is_terminal {
        return Err("top needs a terminal; use --json for one snapshot, or heartbeat status".into());
    }
    let demo = arguments.demo.then(Demo::start).transpose()?;
    let url = demo.as_ref().map(|demo| &demo.url).or(arguments.url.as_ref());
    let door = Door::new(url.map_or("", |url| url), &arguments.access)?;
    if arguments.json {
        if demo.is_some() {
            std::thread::sleep(DEMO_RUNS_FOR);
        }
        let snapshot = snapshot(&door)?;
        text::print(&(text::safe_json(&serde_json::to_string_pretty(&snapshot)?) + "\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    // What cannot be asked is told before the screen is taken.
    door.health("/livez")?;
    let _: Page = door.json("/workers?limit=1")?;
    let signals = Signals::watch()?;
    let mut terminal = ratatui::try_init()?;
    if demo.is_some() {
        // Panics of its workers must not give the screen back.
        demo::hide_panics_of_workers();
    }
    let outcome = watch(&mut terminal, &door, arguments.every, &signals);
    let restored = ratatui::try_restore();
    if let Some(code) = signals.exit_code() {
        // After a hangup there is no terminal that could be restored or told of an error.
        return Ok(ExitCode::from(code));
    }
    restored?;
    outcome.map(|()| ExitCode::SUCCESS)
}

fn snapshot(door: &Door) -> Result<Snapshot, AskError> {
    let mut events = std::collections::VecDeque::new();
    // The stream does not end by itself: a node that emits all the time would keep us here.
    let begun = Instant::now();
    door.events(None, BACKLOG_SILENCE, |event| {
        events.push_back(event);
        events.drain(..events.len().saturating_sub(JSON_ROWS));
        begun.elapsed() < 4 * BACKLOG_SILENCE
    })?;
    Ok(Snapshot {
        url: door.url().to_owned(),
        at: seconds_now(),
        live: door.health("/livez")?,
        ready: door.health("/readyz")?,
        members: door.json("/members")?,
        groups: door.json("/groups")?,
        busy: door.first_workers(Order::Busiest, "", JSON_ROWS)?,
        fullest: door.first_workers(Order::Fullest, "", JSON_ROWS)?,
        links: door.json_unless_stuck("/links")?,
        requests: door.json("/requests")?,
        threads: door.json_unless_stuck("/threads")?,
        events: events.into(),
    })
}

/// Seconds since 1970.
fn seconds_now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Draws until the user quits, or a signal ends the program.
fn watch(terminal: &mut DefaultTerminal, door: &Door, every: Duration, signals: &Signals) -> Result<(), Failure> {
    let mut state = State::new(door.url(), text::wants_colour());
    let feed = Feed::start(door, every, state.wanted())?;
    let mut wanted = state.wanted();
    while signals.exit_code().is_none() {
        terminal.draw(|frame| draw::draw(frame, &mut state))?;
        let frame_ends = Instant::now() + FRAME;
        // What is typed in one frame is taken before the next one is drawn.
        while event::poll(frame_ends.saturating_duration_since(Instant::now()))? {
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => {
                    state.press(key);
                    if state.is_over() {
                        return Ok(());
                    }
                }
                Event::Key(_)
                | Event::FocusGained
                | Event::FocusLost
                | Event::Mouse(_)
                | Event::Paste(_)
                | Event::Resize(..) => {}
            }
            if Instant::now() >= frame_ends {
                break;
            }
        }
        feed.news().for_each(|news| state.take(news));
        if state.wanted() != wanted {
            wanted = state.wanted();
            feed.ask(wanted.clone());
        }
    }
    Ok(())
}
